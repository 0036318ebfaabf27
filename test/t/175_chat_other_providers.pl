# Models that speak as no specification says, or as only some do: how the bytes come (line ends, comments, compression, connections
# that end early, late or never), and what they say (calls in pieces, ids twice, odd ends, errors in answers that are 200).
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Compress::Zlib ();
use Encode ();
use File::Temp ();
use IO::Socket::INET;
use JSON::PP ();
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

my $json = JSON::PP->new->utf8->canonical;
my $chats = '/api/experimental/chats';
my $words = "h\x{e9}llo \x{20ac} \x{1f600} w\x{f6}rld";
my ($true, $null) = (JSON::PP::true, undef);

# What a model says ----------------------------------------------------------------

sub data { return map { ref $_ ? 'data: ' . $json->encode($_) . "\n\n" : "data: $_\n\n" } @_ }
sub named { return map { "event: $_->{type}\ndata: " . $json->encode($_) . "\n\n" } @_ }
sub delta { my ($delta, $end) = @_; return { id => 'c1', object => 'chat.completion.chunk', choices => [{ index => 0, delta => $delta, finish_reason => $end }] } }
sub piece { my ($index, %piece) = @_; my %function = map { exists $piece{$_} ? ($_ => $piece{$_}) : () } qw(name arguments);
	return delta({ tool_calls => [{ (defined $index ? (index => $index) : ()), (exists $piece{id} ? (id => $piece{id}, type => 'function') : ()), function => \%function }] }) }
my %usage = (prompt_tokens => 10, completion_tokens => 5, total_tokens => 15);

# The same answer in each format: a thought and words, in three pieces.
my @pieces = ("h\x{e9}llo ", "\x{20ac} \x{1f600} ", "w\x{f6}rld");
my %formats = (
	'openai-compat' => ['m1', '/v1', sub { return data(delta({ role => 'assistant', content => $null }), delta({ reasoning_content => 'hm' }), map({ delta({ content => $_ }) } @pieces), delta({}, 'stop'), { choices => [], usage => \%usage }, '[DONE]') }],
	openai => ['gpt-5', '/v1', sub { return named({ type => 'response.created', response => { id => 'r1' } }, { type => 'response.reasoning_summary_text.delta', delta => 'hm', output_index => 0 }, map({ { type => 'response.output_text.delta', output_index => 1, delta => $_ } } @pieces),
		{ type => 'response.completed', response => { id => 'r1', usage => { input_tokens => 10, output_tokens => 5, total_tokens => 15 } } }) }],
	anthropic => ['claude-test', '', sub { return named({ type => 'message_start', message => { id => 'm1', usage => { input_tokens => 10, output_tokens => 1 } } },
		{ type => 'content_block_start', index => 0, content_block => { type => 'thinking', thinking => '' } }, { type => 'content_block_delta', index => 0, delta => { type => 'thinking_delta', thinking => 'hm' } }, { type => 'content_block_stop', index => 0 },
		{ type => 'content_block_start', index => 1, content_block => { type => 'text', text => '' } }, map({ { type => 'content_block_delta', index => 1, delta => { type => 'text_delta', text => $_ } } } @pieces), { type => 'content_block_stop', index => 1 },
		{ type => 'message_delta', delta => { stop_reason => 'end_turn' }, usage => { output_tokens => 5 } }, { type => 'message_stop' }) }],
	google => ['gemini-test', '', sub { my $n = 0; return data(map({ { candidates => [{ index => 0, content => { role => 'model', parts => [{ text => $_, ($n++ ? () : (thought => $true)) }] } }] } } 'hm', @pieces),
		{ candidates => [{ index => 0, content => { role => 'model', parts => [{ text => '' }] }, finishReason => 'STOP' }], usageMetadata => { promptTokenCount => 10, candidatesTokenCount => 5, totalTokenCount => 15 } }) }]);

# How it comes -----------------------------------------------------------------------

sub head { my ($status, @more) = @_; return join "\r\n", "HTTP/1.1 $status X", @more, '', '' }
my @stream = ('Content-Type: text/event-stream', 'Connection: close');
sub chunked { return join '', map { sprintf "%x\r\n%s\r\n", length, $_ } @_ }
sub plain { my ($c, @events) = @_; print $c head(200, @stream), @events }

my %ways = (
	'byte by byte' => sub { my ($c, @events) = @_; syswrite $c, head(200, @stream); for my $byte (split //, join '', @events) { syswrite $c, $byte } },
	'in chunks of a byte' => sub { my ($c, @events) = @_; print $c head(200, 'Content-Type: text/event-stream', 'Transfer-Encoding: chunked'), chunked(split //, join '', @events), "0\r\n\r\n" },
	'with CRLF' => sub { my ($c, @events) = @_; plain($c, map { s/\n/\r\n/gr } @events) },
	'with CR' => sub { my ($c, @events) = @_; plain($c, map { s/\n/\r/gr } @events) },
	'with comments and unknown fields' => sub { my ($c, @events) = @_; plain($c, ":\n\n", map { (": PROCESSING\n\n", "id: 7\nretry: 5000\nother: x\n$_") } @events) },
	'with empty data' => sub { my ($c, @events) = @_; plain($c, map { ("data:\n\n", "data: \n\n", $_) } @events) },
	'with pings' => sub { my ($c, @events) = @_; plain($c, map { ("event: ping\ndata: {\"type\": \"ping\"}\n\n", $_) } @events) },
	'with unknown events' => sub { my ($c, @events) = @_; plain($c, map { ("event: response.new_thing\ndata: {\"type\": \"response.new_thing\", \"delta\": {\"x\": [1]}, \"index\": 9}\n\n", $_) } @events) },
	'without a space' => sub { my ($c, @events) = @_; plain($c, map { s/^data: /data:/mgr } @events) },
	'with a byte order mark' => sub { my ($c, @events) = @_; plain($c, "\xef\xbb\xbf", @events) },
	'in several data lines' => sub { my ($c, @events) = @_; plain($c, map { s/^data: \{/data: {\ndata: /mgr } @events) },
	'without an empty line at the end' => sub { my ($c, @events) = @_; my $all = join '', @events; plain($c, $all =~ s/\n\n\z/\n/r) },
	'without a line end at the end' => sub { my ($c, @events) = @_; my $all = join '', @events; plain($c, $all =~ s/\n\n\z//r) },
	'by HTTP/1.0' => sub { my ($c, @events) = @_; print $c "HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", @events },
	'compressed' => sub { my ($c, @events) = @_; print $c head(200, @stream, 'Content-Encoding: gzip'), Compress::Zlib::memGzip(join '', @events) },
	'without a type' => sub { my ($c, @events) = @_; print $c head(200, 'Connection: close'), @events },
	'and stays connected' => sub { my ($c, @events) = @_; print $c head(200, 'Content-Type: text/event-stream'), @events; $c->flush; my $byte; sysread $c, $byte, 1 },
	'and breaks off behind the end' => sub { my ($c, @events) = @_; print $c head(200, 'Content-Type: text/event-stream', 'Transfer-Encoding: chunked'), chunked(@events); $c->flush; sleep 0.05; setsockopt $c, Socket::SOL_SOCKET(), Socket::SO_LINGER(), pack 'II', 1, 0 },
	'with slow headers' => sub { my ($c, @events) = @_; for my $byte (split //, head(200, @stream)) { syswrite $c, $byte; sleep 0.02 } print $c @events },
	'behind 100 Continue' => sub { my ($c, @events) = @_; print $c "HTTP/1.1 100 Continue\r\n\r\n"; plain($c, @events) });

# What is wanted: text, then thoughts, calls, how often it was asked, retries' kinds, tokens; or an error.
my %cases;
for my $way (keys %ways)
{
	for my $provider (keys %formats)
	{
		my @way = ($ways{$way});
		$cases{"$provider: $way"} = { provider => $provider, replies => [sub { $way[0]->($_[0], $formats{$provider}[2]->()) }], text => $words, thought => 'hm', tokens => '10 5' };
	}
}

my $compat = sub { my ($name, $events, %wanted) = @_; $cases{"openai-compat: $name"} = { provider => 'openai-compat', replies => [map { my $e = $_; ref $e eq 'CODE' ? $e : sub { plain($_[0], @$e) } } ref $events->[0] ? @$events : $events], %wanted } };
my @done = data(delta({ content => 'done' }), delta({}, 'stop'), '[DONE]');
my $args = $json->encode({ a => "\x{20ac}" . 'x' x 300 });
sub calls { return [map { +{ name => $_->[0], args => $_->[1] } } @_] }
my $xs = { a => "\x{20ac}" . 'x' x 300 };

$compat->('without [DONE]', [data(delta({ content => 'a' }), delta({}, 'stop'))], text => 'a');
$compat->('without a finish reason', [data(delta({ content => 'a' }), '[DONE]')], text => 'a');
$compat->('an odd end', [data(delta({ content => 'a' }), delta({}, 'eos_token'), '[DONE]')], text => 'a');
$compat->('an empty end', [data(delta({ content => 'a' }, ''), delta({ content => 'b' }, ''), delta({}, 'stop'), '[DONE]')], text => 'ab');
$compat->('[DONE] with a space', [data(delta({ content => 'a' }), delta({}, 'stop')), "data: [DONE] \n\n"], text => 'a');
$compat->('usage in each piece', [data((map { +{ %{ delta({ content => $_ }) }, usage => { prompt_tokens => 10, completion_tokens => ord($_) - 96, total_tokens => 1 } } } qw(a b c)), { %{ delta({}, 'stop') }, usage => \%usage }, '[DONE]')], text => 'abc', tokens => '10 5');
$compat->('usage without a total', [data(delta({ content => 'a' }), { %{ delta({}, 'stop') }, usage => { prompt_tokens => 10, completion_tokens => 5 } }, '[DONE]')], text => 'a', tokens => '10 5');
$compat->('no usage, nulls everywhere', [data({ choices => [{ index => 0, delta => { role => 'assistant', content => $null, tool_calls => $null, refusal => $null, function_call => $null }, finish_reason => $null, logprobs => $null }], usage => $null, error => $null },
	delta({ content => 'a', tool_calls => [] }), delta({ content => $null }, 'stop'), '[DONE]')], text => 'a', tokens => '');
$compat->('choices that are empty', [data({ choices => [], prompt_filter_results => [{}] }, delta({ content => 'a' }), { choices => [] }, delta({}, 'stop'), '[DONE]')], text => 'a');
$compat->('words behind the end', [data(delta({ content => 'a' }), delta({}, 'stop'), delta({ content => '' }), { choices => [], usage => \%usage }, '[DONE]')], text => 'a', tokens => '10 5');
$compat->('content that is an array', [data(delta({ content => [{ type => 'thinking', thinking => [{ type => 'text', text => 'hm' }] }] }), delta({ content => [{ type => 'text', text => 'a' }, { type => 'text', text => 'b' }] }), delta({}, 'stop'), '[DONE]')], text => 'ab', thought => 'hm');
$compat->('a refusal', [data(delta({ refusal => 'No, ' }), delta({ refusal => 'never.' }), delta({}, 'stop'), '[DONE]')], text => 'No, never.');
$compat->('thoughts behind words', [data(delta({ content => 'a' }), delta({ reasoning => 'hm' }), delta({ content => 'b' }), delta({}, 'stop'), '[DONE]')], text => 'ab', thought => 'hm');
$compat->('no stream, but all at once', [sub { my $body = $json->encode({ object => 'chat.completion', choices => [{ index => 0, message => { role => 'assistant', content => 'a' }, finish_reason => 'stop' }], usage => \%usage });
	print { $_[0] } head(200, 'Content-Type: application/json', 'Content-Length: ' . length $body), $body }], text => 'a', tokens => '10 5');
$compat->('many megabytes at once', [data(delta({ content => 'x' x 6_000_000 }), delta({}, 'stop'), '[DONE]')], text => 'x' x 6_000_000);
$compat->('arguments in pieces of a byte', [[data(piece(0, id => 'k1', name => 'read_file', arguments => ''), map({ piece(0, arguments => $_) } split //, Encode::decode_utf8($args)), delta({}, 'tool_calls'), '[DONE]')], \@done], text => 'done', calls => calls(['read_file', $xs]), asked => 2, events => 100);
$compat->('two calls whose pieces alternate', [[data(piece(0, id => 'k1', name => 'read_file', arguments => ''), piece(1, id => 'k2', name => 'list_templates', arguments => ''), (map { my $c = $_; (piece(0, arguments => $c), piece(1, arguments => $c)) } '{"a":', '"b"', '}'), delta({}, 'tool_calls'), '[DONE]')], \@done],
	text => 'done', calls => calls(['read_file', { a => 'b' }], ['list_templates', { a => 'b' }]), asked => 2);
$compat->('calls without an index', [[data(piece(undef, id => 'k1', name => 'read_file', arguments => '{"a":1}'), piece(undef, id => 'k2', name => 'list_templates', arguments => '{"a":2}'), delta({}, 'stop'), '[DONE]')], \@done], text => 'done', calls => calls(['read_file', { a => 1 }], ['list_templates', { a => 2 }]), asked => 2);
$compat->('id and name in each piece', [[data(piece(0, id => 'k1', name => 'read_file', arguments => '{"a"'), piece(0, id => 'k1', name => 'read_file', arguments => ':1}'), delta({}, 'tool_calls'), '[DONE]')], \@done], text => 'done', calls => calls(['read_file', { a => 1 }]), asked => 2);
$compat->('two calls of one id', [[data(piece(0, id => 'k', name => 'read_file', arguments => '{"a":'), piece(1, id => 'k', name => 'read_file', arguments => '{"a":'), piece(0, id => 'k', arguments => '1}'), piece(1, id => 'k', arguments => '2}'), delta({}, 'tool_calls'), '[DONE]')], \@done], text => 'done', calls => calls(['read_file', { a => 1 }], ['read_file', { a => 2 }]), asked => 2, ids => 2);
$compat->('the id comes again in the next step', [map({ [data(piece(0, id => 'call_0', name => 'read_file', arguments => "{\"a\":$_}"), delta({}, 'tool_calls'), '[DONE]')] } 1, 2), \@done], text => 'done', calls => calls(['read_file', { a => 1 }], ['read_file', { a => 2 }]), asked => 3);
$compat->('no id', [[data(piece(0, name => 'read_file', arguments => '{}'), delta({}, 'tool_calls'), '[DONE]')], \@done], text => 'done', calls => calls(['read_file', {}]), asked => 2);
$compat->('a name in other letters', [[data(piece(0, id => 'k1', name => 'Read_File', arguments => '{}'), delta({}, 'tool_calls'), '[DONE]')], \@done], text => 'done', calls => calls(['Read_File', {}]), asked => 2, result => qr/Tool not found: Read_File/);
$compat->('arguments that are an object', [[data({ choices => [{ index => 0, delta => { tool_calls => [{ index => 0, id => 'k1', type => 'function', function => { name => 'read_file', arguments => { a => 1 } } }] } }] }, delta({}, 'tool_calls'), '[DONE]')], \@done], text => 'done', calls => calls(['read_file', { a => 1 }]), asked => 2);

sub refuse { my ($status, @more) = @_; my $body = $json->encode({ error => { message => 'not now', type => 'x' } }); return sub { print { $_[0] } head($status, 'Content-Type: application/json', 'Connection: close', 'Content-Length: ' . length $body, @more), $body } }
sub http_date { return POSIX::strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime time + $_[0]) }
$compat->('429 until a date', [sub { refuse(429, 'Retry-After: ' . http_date(4))->(@_) }, \@done], text => 'done', asked => 2, kind => 'rate_limit', waits => 2.5);
$compat->('429 for some milliseconds', [refuse(429, 'retry-after-ms: 2500', 'Retry-After: 9'), \@done], text => 'done', asked => 2, kind => 'rate_limit', waits => 2.4, delay => 2500);
$compat->('429 for part of a second', [refuse(429, 'Retry-After: 0.5'), \@done], text => 'done', asked => 2, kind => 'rate_limit', waits => 0.9);
$compat->('529 in HTML', [sub { print { $_[0] } head(529, 'Content-Type: text/html', 'Connection: close'), '<html>overloaded</html>' }, \@done], text => 'done', asked => 2, kind => 'overloaded');
$compat->('an error instead of a stream', [sub { my $body = $json->encode({ error => { message => 'not now', code => 429 } }); print { $_[0] } head(200, 'Content-Type: application/json', 'Content-Length: ' . length $body), $body }, \@done], text => 'done', asked => 2, kind => 'rate_limit');
$compat->('an error in the stream', [[data({ error => { message => 'not now', code => 503 } })], \@done], text => 'done', asked => 2, kind => 'timeout');
$compat->('an error that is a text', [[data(delta({ content => 'a' }), { error => 'model overloaded' })], \@done], text => 'done', asked => 2, kind => 'overloaded');
$compat->('an error behind words', [[data(delta({ content => 'half' }), { error => { message => 'gone', code => '502' }, choices => [{ index => 0, delta => { content => '' }, finish_reason => 'error' }] })], \@done], text => 'done', asked => 2, kind => 'timeout');
$compat->('a page instead of a stream', [sub { print { $_[0] } head(200, 'Content-Type: text/html', 'Connection: close'), "<html>\n\ndata: sign in\n</html>\n" }], error => qr/^OpenAI Compatible rejected the model configuration/, asked => 1);
$compat->('a redirect', [sub { print { $_[0] } head(307, 'Location: http://127.0.0.1:1/v1/chat/completions', 'Content-Length: 0') }], error => qr/HTTP 307/, asked => 1);

my $anthropic = sub { my ($name, $events, %wanted) = @_; $cases{"anthropic: $name"} = { provider => 'anthropic', replies => [map { my $e = $_; sub { plain($_[0], @$e) } } @$events], %wanted } };
my @start = ({ type => 'message_start', message => { id => 'm1', usage => { input_tokens => 10, output_tokens => 1 } } });
my @claude = named(@start, { type => 'content_block_start', index => 0, content_block => { type => 'text', text => '' } }, { type => 'content_block_delta', index => 0, delta => { type => 'text_delta', text => 'done' } }, { type => 'message_delta', delta => { stop_reason => 'end_turn' }, usage => { output_tokens => 5 } }, { type => 'message_stop' });
$anthropic->('blocks that alternate', [[named(@start, map({ { type => 'content_block_start', index => $_, content_block => { type => 'tool_use', id => "t$_", name => 'read_file', input => {} } } } 0, 1), (map { my $j = $_; map { { type => 'content_block_delta', index => $_, delta => { type => 'input_json_delta', partial_json => $j } } } 0, 1 } '', '{"a"', ':1}'), map({ { type => 'content_block_stop', index => $_ } } 0, 1), { type => 'message_delta', delta => { stop_reason => 'tool_use' }, usage => { output_tokens => 5 } }, { type => 'message_stop' })], \@claude],
	text => 'done', calls => calls(['read_file', { a => 1 }], ['read_file', { a => 1 }]), asked => 2);
$anthropic->('an unknown reason', [[named(@start, { type => 'content_block_delta', index => 0, delta => { type => 'text_delta', text => 'a' } }, { type => 'message_delta', delta => { stop_reason => 'what_is_new' }, usage => {} }, { type => 'message_stop' })]], text => 'a');
$anthropic->('no message_stop', [[named(@start, { type => 'content_block_delta', index => 0, delta => { type => 'text_delta', text => 'a' } }, { type => 'message_delta', delta => { stop_reason => 'end_turn' }, usage => { output_tokens => 5 } })]], text => 'a');

my $google = sub { my ($name, $events, %wanted) = @_; $cases{"google: $name"} = { provider => 'google', replies => [map { my $e = $_; sub { plain($_[0], @$e) } } @$events], %wanted } };
sub candidate { my ($parts, %more) = @_; return { candidates => [{ index => 0, content => { role => 'model', parts => $parts }, %more }] } }
my @gemini = data(candidate([{ text => 'done' }], finishReason => 'STOP'));
$google->('two calls in one event', [[data(candidate([{ functionCall => { name => 'read_file', args => { a => 1 } } }, { functionCall => { name => 'read_file', args => { a => 2 } } }], finishReason => 'STOP'))], \@gemini], text => 'done', calls => calls(['read_file', { a => 1 }], ['read_file', { a => 2 }]), asked => 2, ids => 2);
$google->('a call without arguments', [[data(candidate([{ functionCall => { name => 'read_file' } }], finishReason => 'STOP'))], \@gemini], text => 'done', calls => calls(['read_file', {}]), asked => 2);
$google->('a call that it could not make', [[data({ candidates => [{ index => 0, finishReason => 'MALFORMED_FUNCTION_CALL' }] })], \@gemini], text => 'done', asked => 2, kind => qr/./);
$google->('a prompt that is blocked', [[data({ promptFeedback => { blockReason => 'SAFETY' } })]], error => qr/^Google /, asked => 1);

my $openai = sub { my ($name, $events, %wanted) = @_; $cases{"openai: $name"} = { provider => 'openai', replies => [map { my $e = $_; sub { plain($_[0], @$e) } } @$events], %wanted } };
my @completed = ({ type => 'response.completed', response => { id => 'r1', usage => { input_tokens => 10, output_tokens => 5, total_tokens => 15 } } });
my @gpt = named({ type => 'response.output_text.delta', delta => 'done' }, @completed);
$openai->('two calls whose pieces alternate', [[named((map { { type => 'response.output_item.added', output_index => $_, item => { type => 'function_call', id => "fc$_", call_id => "k$_", name => 'read_file', arguments => '' } } } 0, 1),
	(map { my $j = $_; map { { type => 'response.function_call_arguments.delta', output_index => $_, item_id => "fc$_", delta => $j } } 0, 1 } '{"a"', ':1}'), (map { { type => 'response.output_item.done', output_index => $_, item => { type => 'function_call', id => "fc$_", call_id => "k$_", name => 'read_file', arguments => '{"a":1}' } } } 0, 1), @completed)], \@gpt],
	text => 'done', calls => calls(['read_file', { a => 1 }], ['read_file', { a => 1 }]), asked => 2, ids => 2);
$openai->('it failed', [[named({ type => 'response.output_text.delta', delta => 'half' }, { type => 'response.failed', response => { id => 'r', status => 'failed', error => { code => 'server_error', message => 'sorry' } } })], \@gpt], text => 'done', asked => 2, kind => 'generic');
$openai->('a text without deltas', [[named({ type => 'response.output_item.done', output_index => 0, item => { type => 'message', id => 'm', content => [{ type => 'output_text', text => 'a' }] } }, @completed)]], text => 'a');
$openai->('it was cut by its limit', [[named({ type => 'response.output_text.delta', delta => 'a' }, { type => 'response.incomplete', response => { id => 'r', incomplete_details => { reason => 'max_output_tokens' }, usage => { input_tokens => 10, output_tokens => 5 } } })]], text => 'a', tokens => '10 5');

# By HTTP/2 over TLS: streams that are reset or refused, a connection that ends in the middle.
my %h2 = ('is whole' => [], reset => [kind => 'timeout', asked => 2], refused => [asked => 2], 'goes away' => [kind => 'timeout', asked => 2]);
$cases{"openrouter: HTTP/2 $_"} = { provider => 'openrouter', h2 => $_, text => 'done', @{ $h2{$_} } } for keys %h2;
my $h2 = <<'END';
const [dir, cases] = [process.argv[2], JSON.parse(process.argv[3])], fs = require('fs'), http2 = require('http2');
const data = (delta, end) => 'data: ' + JSON.stringify({ choices: [{ index: 0, delta, finish_reason: end }] }) + '\n\n';
const server = http2.createSecureServer({ key: fs.readFileSync(dir + '/tls.key'), cert: fs.readFileSync(dir + '/tls.pem'), settings: { maxConcurrentStreams: 2 } });
server.on('stream', (stream) => {
	let body = '';
	stream.on('error', () => {});
	stream.on('data', (d) => { body += d; });
	stream.on('end', () => {
		const n = (/case (\d+)\b/.exec(body) || [])[1], title = /propose_title/.test(body);
		if (title || n === undefined) { stream.respond({ ':status': 400 }); stream.end(); return; }
		const file = dir + '/' + n, first = !fs.existsSync(file), how = cases[n];
		fs.appendFileSync(file, Date.now() / 1000 + ' ' + body + '\n');
		if (first && how === 'refused') { stream.close(http2.constants.NGHTTP2_REFUSED_STREAM); return; }
		stream.respond({ ':status': 200, 'content-type': 'text/event-stream' });
		if (first && how !== 'is whole') {
			stream.write(data({ content: 'half' }));
			setTimeout(() => how === 'reset' ? stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR) : stream.session.destroy(), 50);
			return;
		}
		stream.end(data({ content: 'done' }) + data({}, 'stop') + 'data: [DONE]\n\n');
	});
});
server.on('sessionError', () => {});
server.listen(0, '127.0.0.1', () => fs.writeFileSync(dir + '/port', String(server.address().port)));
END

my $only = $ENV{ONLY};
delete @cases{ grep { $_ !~ /$only/ } keys %cases } if $only;

# The server of all of them --------------------------------------------------------------

my $listener = IO::Socket::INET->new(Listen => 1024, LocalAddr => '127.0.0.1', ReuseAddr => 1) or die "listen: $!";
my $dir = File::Temp->newdir;
my @names = sort keys %cases;
my $owner_pid = $$;

sub answer
{
	my ($client) = @_;
	my ($head, $body) = ('', '');
	while ($head !~ /\r\n\r\n/) { sysread $client, $head, 1, length $head or return }
	my ($size) = $head =~ /^content-length: (\d+)/mi;
	while (length $body < ($size // 0)) { sysread $client, $body, 65536, length $body or return }
	return print $client head(400, 'Content-Length: 0', 'Connection: close') if $body =~ /propose_title/;
	my ($n) = $body =~ /case (\d+)\b/ or return;
	open my $log, '>>', "$dir/$n" or die;
	syswrite $log, sprintf "%.3f %s\n", time, $body;
	close $log;
	my $times = () = do { open my $in, '<', "$dir/$n"; <$in> };
	my $replies = $cases{ $names[$n] }{replies};
	$client->autoflush(1);
	$replies->[$times <= @$replies ? $times - 1 : -1]->($client);
	return;
}

my $fake = fork // die "fork: $!";
if (!$fake)
{
	$SIG{$_} = 'DEFAULT' for qw(TERM INT);
	$SIG{CHLD} = 'IGNORE';
	while (1)
	{
		my $client = $listener->accept or next;
		next if fork;
		$SIG{PIPE} = 'IGNORE';
		eval { answer($client); 1 } or print STDERR $@;
		close $client;
		POSIX::_exit(0);
	}
}
END { local $?; if ($fake && $$ == $owner_pid) { kill TERM => $fake; waitpid $fake, 0 } }

system("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout $dir/tls.key -out $dir/tls.pem 2>/dev/null") == 0 or die 'openssl';
open my $script, '>', "$dir/h2.js" or die;
print $script $h2;
close $script;
my $node = fork // die "fork: $!";
if (!$node) { exec 'node', "$dir/h2.js", $dir, $json->encode({ map { $_ => $cases{ $names[$_] }{h2} } grep { $cases{ $names[$_] }{h2} } 0 .. $#names }) or POSIX::_exit(127) }
END { local $?; if ($node && $$ == $owner_pid) { kill TERM => $node; waitpid $node, 0 } }

my $server = Coder::Gateway->start(env => { CODER_EXPERIMENTS => 'agents', CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true', CODER_OUTBOUND_CA_FILE => "$dir/tls.pem" });
$server->wait_for(10, sub { -s "$dir/port" }) or die 'no server of HTTP/2';
my $h2_port = do { open my $in, '<', "$dir/port"; <$in> };
$formats{openrouter} = ['m', ''];
my $owner = $server->first_user;
my $org = $owner->get('/api/v2/organizations')->[0]{id};
my %config;
for my $provider (keys %formats)
{
	my ($model, $path) = @{ $formats{$provider} };
	$owner->post("$chats/providers", { provider => $provider, api_key => "key-$provider", base_url => $provider eq 'openrouter' ? "https://localhost:$h2_port/v1" : 'http://127.0.0.1:' . $listener->sockport . $path });
	# OpenAI's answers go on from one another only where they are kept
	$config{$provider} = ($owner->post("$chats/model-configs", { provider => $provider, model => $model, context_limit => 100_000_000, model_config => { provider_options => { openai => { store => JSON::PP::false } } } }))[1]{id};
}

my @ids = map { my $case = $cases{ $names[$_] }; ($owner->post($chats, { organization_id => $org, content => [{ type => 'text', text => "case $_" }], model_config_id => $config{ $case->{provider} } }))[1]{id} } 0 .. $#names;
my $open = join ',', map { "'$_'" } @ids;
my $ended = $server->wait_for(45, sub { $server->sql("SELECT count(*) FROM coder.chats WHERE id IN ($open) AND status NOT IN ('waiting', 'error')") == 0 });
ok($ended, 'all come to an end');

for my $n (0 .. $#names)
{
	my ($name, $case, $id) = ($names[$n], $cases{ $names[$n] }, $ids[$n]);
	my $chat = $owner->get("$chats/$id");
	my @asked = do { open my $in, '<', "$dir/$n"; $in ? <$in> : () };
	my @at = map { (split / /, $_, 2)[0] } @asked;
	if ($case->{error})
	{
		is($chat->{status}, 'error', "$name: it fails");
		like($chat->{last_error} // '', $case->{error}, "$name: why");
		is(scalar @asked, $case->{asked}, "$name: asked so often");
		next;
	}
	my @parts = map { $_->{role} =~ /assistant|tool/ ? @{ $_->{content} // [] } : () } reverse @{ $owner->get("$chats/$id/messages")->{messages} };
	my $text = join '', map { $_->{type} eq 'text' ? $_->{text} : () } @parts;
	my $thought = join '', map { $_->{type} eq 'reasoning' ? $_->{text} : () } @parts;
	my @calls = map { $_->{type} eq 'tool-call' ? { name => $_->{tool_name}, args => $_->{args} } : () } @parts;
	my $retries = $server->sql("SELECT string_agg(DISTINCT event->'retry'->>'kind', ' ') FROM coder.chat_stream_events WHERE chat_id = '$id' AND event->>'type' = 'retry'") // '';
	my $short = sub { return length $_[0] > 80 ? length $_[0] : $_[0] };
	my $wanted = join '|', 'waiting', $short->($case->{text}), $case->{thought} // '', $json->encode($case->{calls} // []), $case->{asked} // 1, ref $case->{kind} ? $retries =~ $case->{kind} ? $retries : 'a retry' : $case->{kind} // '';
	is(join('|', $chat->{status}, $short->($text), $thought, $json->encode(\@calls), scalar @asked, $retries), $wanted, $name) or diag $chat->{last_error} // '';
	ok($text eq $case->{text}, "$name: all of it") if length $case->{text} > 80;
	is($server->sql("SELECT concat_ws(' ', sum(input_tokens), sum(output_tokens)) FROM coder.chat_messages WHERE chat_id = '$id' AND role = 'assistant'"), $case->{tokens}, "$name: tokens") if defined $case->{tokens};
	cmp_ok($server->sql("SELECT count(*) FROM coder.chat_stream_events WHERE chat_id = '$id'"), '<', $case->{events}, "$name: told together") if $case->{events};
	cmp_ok($at[1] - $at[0], '>=', $case->{waits}, "$name: it waits") if $case->{waits} && @at > 1;
	is($server->sql("SELECT event->'retry'->>'delay_ms' FROM coder.chat_stream_events WHERE chat_id = '$id' AND event->>'type' = 'retry'"), $case->{delay}, "$name: but not longer") if $case->{delay};
	my %ids = map { $_->{type} eq 'tool-call' ? ($_->{tool_call_id} => 1) : () } @parts;
	is(scalar keys %ids, $case->{ids}, "$name: calls have ids of their own") if $case->{ids};
	like($json->encode(\@parts), $case->{result}, "$name: result") if $case->{result};
}
done_testing();
