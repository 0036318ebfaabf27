# Coder::Model -- a language model for tests, on a free port: OpenAI's chat completions and Responses, Anthropic's messages,
# Google's Gemini API.
#
# It answers with the user's words in reverse order, one a piece.  In a message: "slow:MS" waits so long before each
# piece, "fail:CODE" is answered with that status, "once:CODE" the first time, "cut" ends the first answer in the middle,
# "hang" says nothing, "tool:NAME {json}" calls a tool once, "think" says first what it thinks.  "nosummary" in what is
# read by a request without tools is answered with 400.  Asked for a title, it names the last of the words it read.
#
# SPDX-License-Identifier: MIT
package Coder::Model;

use strict;
use warnings FATAL => 'all';
use File::Temp ();
use IO::Socket::INET;
use JSON::PP ();
use POSIX ();
use Time::HiRes ();

sub start
{
	my ($class) = @_;
	my $listener = IO::Socket::INET->new(Listen => 1024, LocalAddr => '127.0.0.1', ReuseAddr => 1) or die "listen: $!";
	my $log = File::Temp->new;
	my $self = bless { log => $log, port => $listener->sockport, owner => $$ }, $class;

	$self->{pid} = fork // die "fork: $!";
	return $self if $self->{pid};
	$SIG{$_} = 'DEFAULT' for qw(TERM INT);
	$SIG{CHLD} = 'IGNORE';
	while (1)
	{
		my $client = $listener->accept or next;
		next if fork;
		eval { serve($client, $log->filename) };
		POSIX::_exit(0);
	}
}

sub url { return "http://127.0.0.1:$_[0]{port}/v1" }

# What was asked so far: [{authorization and other keys, path, said, body}, ...], without titles; and those.
sub requests { return [grep { !wants_title($_->{body}) } @{ all_requests($_[0]) }] }
sub title_requests { return [grep { wants_title($_->{body}) } @{ all_requests($_[0]) }] }

sub all_requests
{
	my ($self) = @_;
	open my $in, '<', $self->{log}->filename or die;
	return [map { JSON::PP::decode_json($_) } <$in>];
}

sub wants_title
{
	my ($body) = @_;
	my $choice = $body->{tool_choice} // {};
	my $google = $body->{toolConfig}{functionCallingConfig}{allowedFunctionNames}[0];
	return ($google // $choice->{name} // $choice->{function}{name} // '') eq 'propose_title';
}

# What was said last, in any format: its role (tool: results), and its text.
sub last_said
{
	my ($body) = @_;
	my $last = ($body->{messages} // $body->{input} // $body->{contents})->[-1];
	my $parts = $last->{content} // $last->{parts} // $last->{output};
	$parts = [{ text => $parts }] unless ref $parts;
	my $tool = ($last->{role} // 'tool') eq 'tool' || grep { ($_->{type} // '') eq 'tool_result' || $_->{functionResponse} } @$parts;
	return ($tool ? 'tool' : $last->{role}, join ' ', map { $_->{text} // $_->{content} // '' } @$parts);
}

# How each format says a piece of text, a call with its arguments as text, and the end with the usage.
sub format_of
{
	my ($path, $print) = @_;
	my $event = sub { $print->('data: ' . JSON::PP::encode_json($_[0]) . "\n\n") };
	my $begun;
	if ($path =~ m{/messages$})
	{
		my $named = sub { $print->("event: $_[0]{type}\n"); $event->($_[0]) };
		my $n = 0;
		my $block = sub {
			my ($start, $delta) = @_;
			$named->({ type => 'message_start', message => { id => 'msg_1', usage => { input_tokens => 7, cache_read_input_tokens => 3, output_tokens => 1 } } }) unless $begun++;
			$named->({ type => 'content_block_start', index => $n, content_block => $start });
			$named->({ type => 'ping' });
			$named->({ type => 'content_block_delta', index => $n, delta => $_ }) for @$delta;
			$named->({ type => 'content_block_stop', index => $n++ });
		};
		return {
			think => sub { $block->({ type => 'thinking', thinking => '' }, [{ type => 'thinking_delta', thinking => 'hm' }, { type => 'signature_delta', signature => 'signed' }]) },
			text => sub { $block->({ type => 'text', text => '' }, [{ type => 'text_delta', text => $_[0] }]) },
			call => sub { $block->({ type => 'tool_use', id => 'call_1', name => $_[0], input => {} }, [map { { type => 'input_json_delta', partial_json => $_ } } split /(?<=:)/, $_[1]]) },
			end => sub { $named->({ type => 'message_delta', delta => { stop_reason => $_[0] ? 'tool_use' : 'end_turn' }, usage => { output_tokens => 5 } }); $named->({ type => 'message_stop' }) } };
	}
	if ($path =~ m{/responses$})
	{
		my $named = sub { $event->({ type => 'response.created', response => { id => 'resp_1' } }) unless $begun++; $print->("event: $_[0]{type}\n"); $event->($_[0]) };
		return {
			think => sub { $named->({ type => 'response.reasoning_summary_text.delta', delta => 'hm' }) },
			text => sub { $named->({ type => 'response.output_text.delta', delta => $_[0] }) },
			call => sub {
				my %item = (type => 'function_call', call_id => 'call_1', name => $_[0]);
				$named->({ type => 'response.output_item.added', output_index => 0, item => { %item, arguments => '' } });
				$named->({ type => 'response.function_call_arguments.delta', output_index => 0, delta => $_ }) for split /(?<=:)/, $_[1];
				$named->({ type => 'response.output_item.done', output_index => 0, item => { %item, arguments => $_[1] } });
			},
			end => sub { $named->({ type => 'response.completed', response => { usage => { input_tokens => 10, input_tokens_details => { cached_tokens => 3 }, output_tokens => 5, total_tokens => 15 } } }) } };
	}
	if ($path =~ /:streamGenerateContent/)
	{
		my $parts = sub { $event->({ responseId => 'g1', candidates => [{ content => { role => 'model', parts => [$_[0]] } }] }) };
		return {
			think => sub { $parts->({ text => 'hm', thought => JSON::PP::true }) },
			text => sub { $parts->({ text => $_[0] }) },
			call => sub { $parts->({ functionCall => { name => $_[0], args => JSON::PP::decode_json($_[1]) }, thoughtSignature => 'signed' }) },
			end => sub { $event->({ candidates => [{ finishReason => 'STOP' }], usageMetadata => { promptTokenCount => 10, cachedContentTokenCount => 3, candidatesTokenCount => 5, totalTokenCount => 15 } }) } };
	}
	my $choice = sub { $event->({ choices => [{ index => 0, delta => $_[0], finish_reason => $_[1] }] }) };
	return {
		think => sub { $choice->({ reasoning_content => 'hm' }) },
		text => sub { $choice->({ content => $_[0] }) },
		call => sub { $choice->({ tool_calls => [{ index => 0, id => 'call_1', type => 'function', function => { name => $_[0], arguments => $_[1] } }] }) },
		end => sub {
			$choice->({}, $_[0] ? 'tool_calls' : 'stop');
			$event->({ choices => [], usage => { prompt_tokens => 10, completion_tokens => 5, total_tokens => 15 } });
			$print->("data: [DONE]\n\n");
		} };
}

sub note_request
{
	my ($file, $request) = @_;
	open my $out, '>>', $file or die;
	syswrite $out, JSON::PP->new->utf8->canonical->encode($request) . "\n";
}

sub send_json
{
	my ($client, $status, $value) = @_;
	my $text = JSON::PP::encode_json($value);
	print $client "HTTP/1.1 $status X\r\nContent-Type: application/json\r\nContent-Length: " . length($text) . "\r\nConnection: close\r\n\r\n$text";
}

sub serve
{
	my ($client, $file) = @_;
	my $head = '';
	while ($head !~ /\r\n\r\n/) { sysread $client, $head, 1, length $head or return }
	my ($size) = $head =~ /^content-length: (\d+)/mi;
	my $body = '';
	while (length $body < ($size // 0)) { sysread $client, $body, 65536, length $body or return }
	my ($path) = $head =~ /^POST (\S+)/;
	my $asked = JSON::PP::decode_json($body);
	my ($role, $content) = last_said($asked);
	my $times = $content !~ /once:|^cut/ ? 0 : grep { $_->{said} eq $content } @{ all_requests({ log => bless [$file], 'Coder::Model::File' }) };
	note_request($file, { map({ $_ => $head =~ /^$_: (.*?)\r$/mi ? $1 : undef } qw(authorization api-key x-api-key x-goog-api-key)), path => $path, said => $content, body => $asked });

	my ($code) = $role eq 'user' ? $content =~ /fail:(\d+)/ : ();
	($code) = $content =~ /once:(\d+)/ if !$times && $role eq 'user' && !$code;
	$code //= 400 if !$asked->{tools} && $body =~ /nosummary/;
	return send_json($client, $code, { error => { message => 'asked to fail', type => 'test' } }) if $code;
	sleep 3600 if $content =~ /^hang/;
	$client->autoflush(1);
	print $client "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
	my ($slow) = $content =~ /slow:(\d+)/;
	my $format = format_of($path, sub { print $client $_[0] });
	my @call = $role eq 'user' && $content =~ /^tool:(\S+) (.*)/ ? ($1, $2) : ();
	@call = ('propose_title', JSON::PP::encode_json({ title => '"About ' . ($content =~ /(\S+)\s*$/)[0] . '."' })) if wants_title($asked);
	$format->{think}->() if $content =~ /^think/;
	if (@call)
	{
		Time::HiRes::sleep($slow / 1000) if $slow;
		$format->{call}->(@call);
	}
	else
	{
		my @words = reverse split ' ', $content;
		for my $i (0 .. $#words)
		{
			Time::HiRes::sleep($slow / 1000) if $slow;
			$format->{text}->("$words[$i] ");
			return print $client 'data: {"choi' if $content =~ /^cut/ && !$times;
		}
	}
	$format->{end}->(scalar @call);
}

sub DESTROY
{
	my ($self) = @_;
	local $?;
	return unless $self->{pid} && $self->{owner} == $$;
	kill TERM => $self->{pid};
	waitpid $self->{pid}, 0;
}

package Coder::Model::File;

sub filename { return $_[0][0] }

1;
