# Coder::Model -- a language model for tests: OpenAI's chat completions on a free port.
#
# It answers with the user's words in reverse order, one a piece.  In a message: "slow:MS" waits so long before each
# piece, "fail:CODE" is answered with that status, "once:CODE" the first time, "cut" ends the first answer in the middle,
# "hang" says nothing, "tool:NAME {json}" calls a tool once.  Asked for a title, it names the last of the words it read.
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

# What was asked so far: [{authorization, body}, ...], without titles; and those.
sub requests { return [grep { !wants_title($_->{body}) } @{ all_requests($_[0]) }] }
sub title_requests { return [grep { wants_title($_->{body}) } @{ all_requests($_[0]) }] }

sub all_requests
{
	my ($self) = @_;
	open my $in, '<', $self->{log}->filename or die;
	return [map { JSON::PP::decode_json($_) } <$in>];
}

sub wants_title { return (($_[0]{tool_choice} // {})->{function}{name} // '') eq 'propose_title' }

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
	my $asked = JSON::PP::decode_json($body);
	my $last = $asked->{messages}[-1];
	my $content = ref $last->{content} ? join ' ', map { $_->{text} // '' } @{ $last->{content} } : $last->{content} // '';
	my $times = grep { ($_->{body}{messages}[-1]{content} // '') eq $content } @{ requests({ log => bless [$file], 'Coder::Model::File' }) };
	note_request($file, { authorization => $head =~ /^authorization: (.*?)\r$/mi ? $1 : undef, body => $asked });

	my ($code) = $last->{role} eq 'user' ? $content =~ /fail:(\d+)/ : ();
	($code) = $content =~ /once:(\d+)/ if !$times && $last->{role} eq 'user' && !$code;
	return send_json($client, $code, { error => { message => 'asked to fail', type => 'test' } }) if $code;
	sleep 3600 if $content =~ /^hang/;
	$client->autoflush(1);
	print $client "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
	my ($slow) = $content =~ /slow:(\d+)/;
	my $say = sub { print $client 'data: ' . JSON::PP::encode_json($_[0]) . "\n\n" };
	my @call = $last->{role} eq 'user' && $content =~ /^tool:(\S+) (.*)/ ? ($1, $2) : ();
	@call = ('propose_title', JSON::PP::encode_json({ title => '"About ' . ($content =~ /(\S+)\s*$/)[0] . '."' })) if wants_title($asked);
	if (@call)
	{
		Time::HiRes::sleep($slow / 1000) if $slow;
		$say->({ choices => [{ index => 0, delta => { tool_calls => [{ index => 0, id => 'call_1', type => 'function', function => { name => $call[0], arguments => $call[1] } }] } }] });
		$say->({ choices => [{ index => 0, delta => {}, finish_reason => 'tool_calls' }] });
	}
	else
	{
		my @words = reverse split ' ', $content;
		for my $i (0 .. $#words)
		{
			Time::HiRes::sleep($slow / 1000) if $slow;
			$say->({ choices => [{ index => 0, delta => { content => "$words[$i] " } }] });
			return print $client 'data: {"choi' if $content =~ /^cut/ && !$times;
		}
		$say->({ choices => [{ index => 0, delta => {}, finish_reason => 'stop' }] });
	}
	$say->({ choices => [], usage => { prompt_tokens => 10, completion_tokens => 5, total_tokens => 15 } });
	print $client "data: [DONE]\n\n";
}

sub DESTROY
{
	my ($self) = @_;
	return unless $self->{pid} && $self->{owner} == $$;
	kill TERM => $self->{pid};
	waitpid $self->{pid}, 0;
}

package Coder::Model::File;

sub filename { return $_[0][0] }

1;
