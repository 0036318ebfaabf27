# Coder::Model -- a language model for tests, on a free port: OpenAI's chat completions and Responses, Anthropic's messages,
# the same and Converse at AWS Bedrock, Google's Gemini API.
#
# It answers with the user's words in reverse order, one a piece.  In a message: "slow:MS" waits so long before each
# piece, "fail:CODE" is answered with that status, "once:CODE" the first time ("after:SECONDS" asks to wait, "leak" tells
# the key that was sent), "mid:CODE" fails so the first time in the middle of the answer, "hang" says nothing, "stall" goes
# silent after a piece, "tool:NAME {json}" calls a tool once, "think" says first what it thinks, "search" first searches.
#
# Cut off is the first answer of "cut" (in a token of JSON), "cutchar" (in a character) and "cutcall" (in a call's
# arguments).  "bytes" comes byte by byte, "badchar" with what is no UTF-8, "huge:KIB" with a piece of that size, "many:N"
# with so many pieces, "badargs" with a call whose arguments are no object, "silent" with nothing between beginning and
# end; "nobody" has no body at all, "html" is a page.  With "once" some do so the first time only.
#
# "forgotten" does not know the answer that it is to go on from.
#
# "nosummary" in what is read by a request that wants no calls is answered with 400.  Asked for a title, it names the last of
# the words it read.  Signed requests are refused with 403 unless they are signed by one of Coder::Model's AWS_KEYS.
#
# SPDX-License-Identifier: MIT
package Coder::Model;

use strict;
use warnings FATAL => 'all';
use Coder::Json;
use Compress::Zlib ();
use Digest::SHA ();
use File::Temp ();
use IO::Socket::INET;
use JSON::PP ();
use MIME::Base64 ();
use POSIX ();
use Time::HiRes ();

use constant AWS_KEY => 'AKIAEXAMPLEEXAMPLE12:sec/ret+Example:session/token=';
use constant AWS_KEYS => (AWS_KEY, 'ASIAEXAMPLEEXAMPLE34:sec/ret+Other:other/token=', 'AKIAEXAMPLEEXAMPLE56:sec/ret+Plain');

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

# What was asked so far: [{authorization and other keys, path, chat, said, at, body}, ...], without titles; and those.
sub requests { return [grep { !$_->{title} } @{ all_requests($_[0]) }] }
sub title_requests { return [grep { $_->{title} } @{ all_requests($_[0]) }] }

sub all_requests
{
	my ($self) = @_;
	open my $in, '<', $self->{log}->filename or die;
	return [map { my ($head, $body) = split /\t/; +{ %{ Coder::Json::decode($head) }, body => Coder::Json::decode($body) } } <$in>];
}

# The same without bodies, which take their time.
sub heads
{
	my ($self) = @_;
	open my $in, '<', $self->{log}->filename or die;
	return [grep { !$_->{title} } map { Coder::Json::decode((split /\t/)[0]) } <$in>];
}

sub wants_title
{
	my ($body) = @_;
	my $choice = ref $body->{tool_choice} ? $body->{tool_choice} : {};
	my $google = $body->{toolConfig}{functionCallingConfig}{allowedFunctionNames}[0];
	my $converse = $body->{toolConfig}{toolChoice};
	return 1 if ($body->{response_format}{json_schema} // $body->{text}{format} // {})->{name};
	return 1 if $converse && $body->{toolConfig}{tools}[0]{toolSpec}{name} eq 'propose_title';
	return ($google // $choice->{name} // $choice->{function}{name} // '') eq 'propose_title';
}

# What was said last, in any format: its role (tool: results), and its text.
sub last_said
{
	my ($body) = @_;
	my $last = ($body->{messages} // $body->{input} // $body->{contents})->[-1];
	my $parts = $last->{content} // $last->{parts} // $last->{output};
	$parts = [{ text => $parts }] unless ref $parts;
	$parts = [grep { !$_->{cachePoint} } @$parts];
	my $tool = ($last->{role} // 'tool') eq 'tool' || grep { ($_->{type} // '') eq 'tool_result' || $_->{functionResponse} || $_->{toolResult} } @$parts;
	return ($tool ? 'tool' : $last->{role}, join ' ', map { $_->{text} // (ref $_->{content} ? join ' ', map { $_->{text} // '' } @{ $_->{content} } : $_->{content}) // $_->{toolResult}{content}[0]{text} // ($_->{functionResponse} ? Coder::Json::encode($_->{functionResponse}{response}) : '') } @$parts);
}

# How each format says a piece of text, a call with its arguments as text, and the end with the usage.
sub format_of
{
	my ($path, $print) = @_;
	$path =~ s/\?.*//s;
	my $event = sub { $print->('data: ' . Coder::Json::encode($_[0]) . "\n\n") };
	my $begun;
	my $bedrock = $path =~ m{/invoke-with-response-stream$};
	if ($bedrock || $path =~ m{/messages$})
	{
		my $named = $bedrock
			? sub { $print->(frame([':message-type', 'event', ':event-type', 'chunk'], Coder::Json::encode({ bytes => MIME::Base64::encode_base64(Coder::Json::encode($_[0]), ''), p => 'abc' }))) }
			: sub { $print->("event: $_[0]{type}\n"); $event->($_[0]) };
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
			error => sub {
				return $print->(frame([':message-type', 'exception', ':exception-type', { 429 => 'throttlingException', 500 => 'internalServerException', 529 => 'serviceUnavailableException' }->{ $_[0] }], '{"message":"asked to fail"}')) if $bedrock;
				$named->({ type => 'error', error => { type => { 429 => 'rate_limit_error', 500 => 'api_error', 529 => 'overloaded_error' }->{ $_[0] }, message => 'asked to fail' } });
			},
			search => sub {
				$block->({ type => 'server_tool_use', id => 'srv_1', name => 'web_search', input => {} }, [{ type => 'input_json_delta', partial_json => '{"query":"q"}' }]);
				$block->({ type => 'web_search_tool_result', tool_use_id => 'srv_1', content => [{ type => 'web_search_result', url => 'https://found.example/', title => 'Found', encrypted_content => 'sealed' }] }, []);
			},
			call => sub { $block->({ type => 'tool_use', id => 'call_' . (1 + ($_[2] // 0)), name => $_[0], input => {} }, [map { { type => 'input_json_delta', partial_json => $_ } } split /(?<=:)/, $_[1]]) },
			end => sub { $named->({ type => 'message_delta', delta => { stop_reason => $_[0] ? 'tool_use' : 'end_turn' }, usage => { output_tokens => 5 } }); $named->({ type => 'message_stop' }) } };
	}
	if ($path =~ m{/converse-stream$})
	{
		my $named = sub { $print->(frame([':message-type', 'event', ':event-type', $_[0], ':content-type', 'application/json'], Coder::Json::encode({ %{ $_[1] }, p => 'abc' }))) };
		my $n = 0;
		my $block = sub {
			my ($start, @delta) = @_;
			$named->(messageStart => { role => 'assistant' }) unless $begun++;
			$named->(contentBlockStart => { contentBlockIndex => $n, start => $start }) if $start;
			$named->(contentBlockDelta => { contentBlockIndex => $n, delta => $_ }) for @delta;
			$named->(contentBlockStop => { contentBlockIndex => $n++ });
		};
		return {
			think => sub { $block->(undef, { reasoningContent => { text => 'hm' } }, { reasoningContent => { signature => 'signed' } }) },
			text => sub { $block->(undef, { text => $_[0] }) },
			error => sub { $print->(frame([':message-type', 'exception', ':exception-type', { 429 => 'throttlingException', 500 => 'internalServerException', 529 => 'serviceUnavailableException' }->{ $_[0] }], '{"message":"asked to fail"}')) },
			search => sub { $block->(undef, { citation => { title => 'Found', location => { web => { url => 'https://found.example/' } } } }) },
			call => sub { $block->({ toolUse => { toolUseId => 'call_' . (1 + ($_[2] // 0)), name => $_[0] } }, map { { toolUse => { input => $_ } } } split /(?<=:)/, $_[1]) },
			end => sub {
				$named->(messageStop => { stopReason => $_[0] ? 'tool_use' : 'end_turn' });
				$named->(metadata => { usage => { inputTokens => 7, outputTokens => 5, totalTokens => 15, cacheReadInputTokens => 3 }, metrics => { latencyMs => 1 } });
			} };
	}
	if ($path =~ m{/responses$})
	{
		my $named = sub { $event->({ type => 'response.created', response => { id => 'resp_1' } }) unless $begun++; $print->("event: $_[0]{type}\n"); $event->($_[0]) };
		return {
			error => sub { $named->({ type => 'error', code => { 429 => 'rate_limit_exceeded', 500 => 'server_error', 529 => 'overloaded' }->{ $_[0] }, message => 'asked to fail' }) },
			search => sub {
				$named->({ type => 'response.output_item.done', output_index => 7, item => { type => 'web_search_call', id => 'ws_1', status => 'completed', action => { type => 'search', query => 'q' } } });
				$named->({ type => 'response.output_text.annotation.added', annotation => { type => 'url_citation', url => 'https://found.example/', title => 'Found' } });
			},
			think => sub {
				$named->({ type => 'response.reasoning_summary_text.delta', delta => 'hm' });
				$named->({ type => 'response.output_item.done', output_index => 8, item => { type => 'reasoning', id => 'rs_1', encrypted_content => 'sealed', summary => [{ type => 'summary_text', text => 'hm' }] } });
			},
			text => sub { $named->({ type => 'response.output_text.delta', delta => $_[0] }) },
			call => sub {
				my $at = $_[2] // 0;
				my %item = (type => 'function_call', call_id => 'call_' . (1 + $at), name => $_[0]);
				$named->({ type => 'response.output_item.added', output_index => $at, item => { %item, arguments => '' } });
				$named->({ type => 'response.function_call_arguments.delta', output_index => $at, delta => $_ }) for split /(?<=:)/, $_[1];
				$named->({ type => 'response.output_item.done', output_index => $at, item => { %item, arguments => $_[1] } });
			},
			end => sub { $named->({ type => 'response.completed', response => { usage => { input_tokens => 10, input_tokens_details => { cached_tokens => 3 }, output_tokens => 5, total_tokens => 15 } } }) } };
	}
	if ($path =~ /:streamGenerateContent/)
	{
		my $parts = sub { $event->({ responseId => 'g1', candidates => [{ content => { role => 'model', parts => [$_[0]] } }] }) };
		return {
			error => sub { $event->({ error => { code => 0 + $_[0], message => 'asked to fail', status => 'X' } }) },
			search => sub { $event->({ candidates => [{ content => { parts => [] }, groundingMetadata => { groundingChunks => [{ web => { uri => 'https://found.example/', title => 'Found' } }] } }] }) },
			think => sub { $parts->({ text => 'hm', thought => JSON::PP::true }) },
			text => sub { $parts->({ text => $_[0] }) },
			call => sub { $parts->({ functionCall => { name => $_[0], args => Coder::Json::decode($_[1] =~ /^\{.*\}$/ ? $_[1] : '"none"') }, thoughtSignature => 'signed' }) },
			end => sub { $event->({ candidates => [{ finishReason => 'STOP' }], usageMetadata => { promptTokenCount => 10, cachedContentTokenCount => 3, candidatesTokenCount => 5, totalTokenCount => 15 } }) } };
	}
	my $choice = sub { $event->({ choices => [{ index => 0, delta => $_[0], finish_reason => $_[1] }] }) };
	return {
		error => sub { $event->({ error => { code => $_[0], message => 'asked to fail', type => 'test' } }) },
		search => sub { $choice->({ annotations => [{ type => 'url_citation', url_citation => { url => 'https://found.example/', title => 'Found' } }] }) },
		think => sub { $choice->({ reasoning_content => 'hm' }) },
		text => sub { $choice->({ content => $_[0] }) },
		call => sub { $choice->({ tool_calls => [{ index => $_[2] // 0, id => 'call_' . (1 + ($_[2] // 0)), type => 'function', function => { name => $_[0], arguments => $_[1] } }] }) },
		end => sub {
			$choice->({}, $_[0] ? 'tool_calls' : 'stop');
			$event->({ choices => [], usage => { prompt_tokens => 10, completion_tokens => 5, total_tokens => 15 } });
			$print->("data: [DONE]\n\n");
		} };
}

# A message of AWS's event stream.
sub frame
{
	my ($headers, $payload) = @_;
	my $head = '';
	for (my $i = 0; $i < @$headers; $i += 2) { $head .= pack('C/a*Cn/a*', $headers->[$i], 7, $headers->[$i + 1]) }
	my $prelude = pack 'NN', 16 + length($head) + length($payload), length $head;
	$prelude .= pack 'N', Compress::Zlib::crc32($prelude);
	return $prelude . $head . $payload . pack 'N', Compress::Zlib::crc32("$prelude$head$payload");
}

# Is this request signed by one of AWS_KEYS, for this host, path and body?
sub signed_well
{
	my ($head, $path, $body) = @_;
	my ($authorization) = $head =~ /^authorization: (.*?)\r$/mi;
	my ($id, $secret, $token) = map { split /:/ } grep { $authorization =~ m{Credential=\Q@{[(split /:/)[0]]}\E/} } AWS_KEYS;
	return 0 unless defined $id;
	my ($day, $region, $service) = $authorization =~ m{Credential=\Q$id\E/(\d{8})/([^/]+)/([^/]+)/aws4_request, } or return 0;
	my ($names, $signature) = $authorization =~ /SignedHeaders=(\S+), Signature=(\w+)$/ or return 0;
	my %have = map { /^([^:]+): (.*?)\r?$/ ? (lc $1 => $2) : () } split /\n/, $head;
	return 0 unless $names eq 'host;x-amz-date' . (defined $token ? ';x-amz-security-token' : '') && $have{'x-amz-date'} =~ /^${day}T/;
	return 0 unless ($have{'x-amz-security-token'} // '') eq ($token // '');
	my $canonical = join "\n", 'POST', join('/', map { s/([^A-Za-z0-9._~-])/sprintf '%%%02X', ord $1/ger } split m{/}, $path), '',
		map({ "$_:$have{$_}" } split /;/, $names), '', $names, Digest::SHA::sha256_hex($body);
	my $key = "AWS4$secret";
	$key = Digest::SHA::hmac_sha256($_, $key) for $day, $region, $service, 'aws4_request';
	return Digest::SHA::hmac_sha256_hex(join("\n", 'AWS4-HMAC-SHA256', $have{'x-amz-date'}, "$day/$region/$service/aws4_request", Digest::SHA::sha256_hex($canonical)), $key) eq $signature;
}

sub note_request
{
	my ($file, $request, $body) = @_;
	open my $out, '>>', $file or die;
	syswrite $out, Coder::Json::encode($request) . "\t$body\n";
}

sub send_json
{
	my ($client, $status, $value, $more) = @_;
	my $text = Coder::Json::encode($value);
	print $client "HTTP/1.1 $status X\r\nContent-Type: application/json\r\n" . ($more // '') . "Content-Length: " . length($text) . "\r\nConnection: close\r\n\r\n$text";
}

# Says nothing until the client has gone.
sub silent { my ($client) = @_; my $byte; 1 while sysread $client, $byte, 1; return }

sub serve
{
	my ($client, $file) = @_;
	my $head = '';
	while ($head !~ /\r\n\r\n/) { sysread $client, $head, 1, length $head or return }
	my ($size) = $head =~ /^content-length: (\d+)/mi;
	my $body = '';
	while (length $body < ($size // 0)) { sysread $client, $body, 65536, length $body or return }
	my ($path) = $head =~ /^POST (\S+)/;
	my $asked = Coder::Json::decode($body);
	my ($role, $content) = last_said($asked);
	my $chat = $head =~ /^x-coder-chat-id: (\S+)/mi ? $1 : '';
	my $times = $content !~ /once|mid:|^cut/ ? 0 : wants_title($asked) ? 1 : grep { $_->{said} eq $content && $_->{chat} eq $chat } @{ heads({ log => bless [$file], 'Coder::Model::File' }) };
	note_request($file, { map({ $_ => $head =~ /^$_: (.*?)\r$/mi ? $1 : undef } qw(authorization api-key x-api-key x-goog-api-key anthropic-beta x-coder-subchat-id)), chat => $chat,
		path => $path, said => $content, at => Time::HiRes::time(), wants_title($asked) ? (title => 1) : () }, $body);

	return send_json($client, 403, { message => 'The request signature does not match.' }) if $head =~ /^authorization: AWS4/mi && !signed_well($head, $path, $body);
	my ($code) = $role eq 'user' ? $content =~ /fail:(\d+)/ : ();
	($code) = $content =~ /once:(\d+)/ if !$times && $role eq 'user' && !$code;
	my $summary = JSON::PP->new->allow_nonref->encode($asked->{tool_choice}) =~ /"none"/;
	$code //= 400 if $summary && $body =~ /nosummary/ || $content =~ /^forgotten/ && $asked->{previous_response_id};
	my ($key) = $head =~ /^(?:authorization: Bearer|api-key:|x-api-key:|x-goog-api-key:) ?(.*?)\r$/mi;
	my $message = 'asked to fail' . ($content =~ /\bleak\b/ ? ": $key is not accepted" : '');
	return send_json($client, $code, { error => { message => $message, type => 'test' } }, $content =~ /\bafter:(\d+)/ ? "Retry-After: $1\r\n" : '') if $code;
	my $now = $content !~ /\bonce\b/ || !$times;
	return silent($client) if $content =~ /^hang/ && $now;
	return print $client "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" if $content =~ /^nobody/ && $now;
	return print $client "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>login first</html>\n\n" if $content =~ /^html/ && $now;
	$client->autoflush(1);
	print $client "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
	my ($slow) = $content =~ /slow:(\d+)/;
	my $write = $content =~ /^bytes/ ? sub { syswrite $client, $_ for split //, $_[0] } : sub { print $client $_[0] };
	my $held;
	my $format = format_of($path, sub { defined $held ? $held .= $_[0] : $write->($_[0]) });
	# What is held back is sent without what follows its mark.
	my $cut_at = sub { my ($mark, $plain) = @_; my $at = $plain ? index $held, $mark : length($held) - 9; $write->(substr $held, 0, $at + 1); };
	my $plain = $path !~ /invoke-with|converse-stream/;
	my @call = $role eq 'user' && $content =~ /^tool:/ ? $content =~ /^tool:(\S+) (.*)$/mg : ();
	@call = ('read_file', '{"path": ') if $role eq 'user' && $content =~ /^badargs/;
	@call = ('read_file', '{"path":"of which nothing comes"}') if $role eq 'user' && !$times && $content =~ /^cutcall/;
	@call = ('propose_title', Coder::Json::encode({ title => '"About ' . ($content =~ /(\S+)\s*$/)[0] . '."' })) if wants_title($asked);
	if (wants_title($asked) && !$asked->{tools} && !$asked->{toolConfig})
	{
		$format->{text}->($call[1]);
		return $format->{end}->(0);
	}
	$format->{think}->() if $content =~ /^think/;
	$format->{search}->() if $content =~ /^search/;
	if (@call)
	{
		Time::HiRes::sleep($slow / 1000) if $slow;
		$held = '' if $content =~ /^cutcall/ && !wants_title($asked);
		$format->{call}->(@call[ 2 * $_, 2 * $_ + 1 ], $_) for 0 .. @call / 2 - 1;
		return $cut_at->('of which', $plain) if defined $held;
	}
	elsif ($content !~ /^silent/)
	{
		my @words = reverse split ' ', $content;
		push @words, 'x' x (1024 * $1) if $content =~ /huge:(\d+)/;
		@words = map { "w$_" } 1 .. $1 if $content =~ /many:(\d+)/;
		for my $i (0 .. $#words)
		{
			Time::HiRes::sleep($slow / 1000) if $slow;
			my $bad = $content =~ /^(?:cutchar|badchar)/ && $i == 1 && !$times;
			$held = '' if $bad;
			$format->{text}->($bad ? "\x{e4}\x{20ac}\x{1f600} " : "$words[$i] ");
			if ($bad && $content =~ /^badchar/) { $held =~ s/\x{20ac}|\xe2\x82\xac/\xff\xfe/ or $held = frame([':message-type', 'event', ':event-type', 'chunk'], '{"bytes":"' . MIME::Base64::encode_base64(qq({"type":"\xff"}), '') . '"}'); $write->($held); undef $held; $bad = 0 }
			return $cut_at->("\xe2\x82\xac", $plain) if $bad;
			return print $client $plain ? 'data: {"choi' : substr frame([':message-type', 'event', ':event-type', 'chunk'], '{}'), 0, 30 if $content =~ /^cut / && !$times;
			$format->{error}->($1), return if $content =~ /mid:(\d+)/ && !$times;
			return silent($client) if $content =~ /^stall/ && $now;
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
