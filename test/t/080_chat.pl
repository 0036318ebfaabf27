# Chats with a model: turns, streams, the queue, interrupts, failures and retries, a runner or a server that is killed.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Model;
use Coder::Processes;
use Coder::WebSocket;
use JSON::PP ();
use Test::More;

my $model = Coder::Model->start;
my $server = Coder::Gateway->start(env => { CODER_EXPERIMENTS => 'agents', CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' });
my $owner = $server->first_user;
my $chats = '/api/experimental/chats';
my $org = $owner->get('/api/v2/organizations')->[0]{id};

sub text { return [{ type => 'text', text => $_[0] }] }
sub create { my ($text, %more) = @_; return ($owner->post($chats, { organization_id => $org, content => text($text), %more }))[1] }

sub wait_status
{
	my ($id, $wanted) = @_;
	my $chat;
	$server->wait_for(20, sub { $chat = $owner->get("$chats/$id"); $chat->{status} eq $wanted });
	return $chat;
}

sub words { my ($id) = @_; return join ' | ', map { "$_->{role}: " . join('', map { $_->{text} // "[$_->{type}]" } @{ $_->{content} // [] }) } reverse @{ $owner->get("$chats/$id/messages")->{messages} } }

is(($owner->post("$chats/providers", { provider => 'openai-compat', api_key => 'key-1', base_url => $model->url }))[0], 201, 'a provider');
my ($status, $config) = $owner->post("$chats/model-configs", { provider => 'openai-compat', model => 'm1', context_limit => 8000 });
is($status, 201, 'a model');

# a turn, and what its stream says
my $chat = create('one two three');
wait_status($chat->{id}, 'waiting');
is(words($chat->{id}), 'user: one two three | assistant: three two one ', 'the model answers');
is($model->requests->[0]{authorization}, 'Bearer key-1', 'with the key');
like(join(' ', map { $_->{role} } @{ $model->requests->[0]{body}{messages} }), qr/^(system )+user$/, 'instructions come first');

my $stream = Coder::WebSocket->open($server->url, "$chats/$chat->{id}/stream?after_id=0", token => $owner->{token}) or die $@;
my $first = JSON::PP::decode_json($stream->message);
like(join(' ', map { $_->{type} } @$first), qr/^status (message_part )*message message$/, 'a stream begins with the status and the history') or diag explain $first;
$owner->post("$chats/$chat->{id}/messages", { content => text('slow:20 ' . join ' ', map { "w$_" } 1 .. 10) });
my @events;
push @events, @{ JSON::PP::decode_json($stream->message) } until grep { $_->{type} eq 'status' && $_->{status}{status} eq 'waiting' } @events;
my @kinds = map { $_->{type} eq 'status' ? $_->{status}{status} : $_->{type} eq 'message' ? $_->{message}{role} : $_->{type} } @events;
my $order = join ' ', grep { my $k = $_; shift @kinds; !@kinds || $kinds[0] ne $k } my @copy = @kinds;
like($order, qr/^user (pending )?running message_part assistant waiting$/, "events in their order: $order");
is(join('', map { $_->{message_part}{part}{text} } grep { $_->{type} eq 'message_part' } @events), join('', map { "$_ " } reverse('slow:20', map { "w$_" } 1 .. 10)), 'all parts, none twice');
undef $stream;

# interrupted in the middle: what was said is kept, the queue goes on
my $long = create('slow:200 ' . join ' ', map { "w$_" } 1 .. 100);
wait_status($long->{id}, 'running');
$server->wait_for(20, sub { $server->sql("SELECT count(*) FROM coder.chat_stream_events WHERE chat_id = '$long->{id}'") > 0 });
is(($owner->post("$chats/$long->{id}/messages", { content => text('next please') }))[1]{queued}, JSON::PP::true, 'a message is queued');
$owner->post("$chats/$long->{id}/interrupt");
wait_status($long->{id}, 'waiting');
$server->wait_for(20, sub { words($long->{id}) =~ /please next/ });
like(words($long->{id}), qr/^user: slow:200 .* \| assistant: w100 .* \| user: next please \| assistant: please next $/s, 'the half answer is kept, then the queue goes on');

# failures: told in words; some are tried again
my $bad = create('fail:400');
is(wait_status($bad->{id}, 'error')->{last_error}, 'OpenAI Compatible returned an unexpected error (HTTP 400).', 'a failure is told');
is(wait_status(create('fail:401')->{id}, 'error')->{last_error}, 'Authentication with OpenAI Compatible failed. Check the API key, permissions, and billing settings.', 'a bad key');
my $again = create('once:503 hello');
wait_status($again->{id}, 'waiting');
is(words($again->{id}), 'user: once:503 hello | assistant: hello once:503 ', 'what is busy is asked again');
my $cut = create('cut hello');
wait_status($cut->{id}, 'waiting');
is(words($cut->{id}), 'user: cut hello | assistant: hello cut ', 'an answer that was cut off is asked for again');
is(scalar(grep { ref $_->{body} && ($_->{body}{messages}[-1]{content} // '') eq 'cut hello' } @{ $model->requests }), 2, 'once more');

# a tool that there is not; the model goes on
my $tool = create('tool:nothing {"a": 1}');
wait_status($tool->{id}, 'waiting');
like(words($tool->{id}), qr/\[tool-call\] \| tool: \[tool-result\] \| assistant: /, 'a tool that does not exist has failed');

# tools of the client
my $own = create('tool:mine {"a": 1}', unsafe_dynamic_tools => [{ name => 'mine', description => 'x', input_schema => { properties => {} } }]);
wait_status($own->{id}, 'requires_action');
is(($owner->post("$chats/$own->{id}/tool-results", { results => [{ tool_call_id => 'call_1', output => { b => 2 } }] }))[0], 204, 'the client answers');
wait_status($own->{id}, 'waiting');
ok((grep { $_->{function}{name} eq 'mine' } @{ $model->requests->[-1]{body}{tools} }), 'the model was offered the tool');
is($model->requests->[-1]{body}{messages}[-1]{content}, '{"b":2}', 'and has its result');

# configuration is never stale: a change in psql counts for the next turn
$server->sql("UPDATE coder.chat_providers SET api_key = 'key-2', api_key_key_id = NULL");
my $fresh = create('fresh');
wait_status($fresh->{id}, 'waiting');
is($model->requests->[-1]{authorization}, 'Bearer key-2', 'the new key');

# the runner is killed in the middle: another takes the chat, nothing is there twice
my $killed = create('slow:100 ' . join ' ', map { "k$_" } 1 .. 30);
wait_status($killed->{id}, 'running');
my ($runner) = Coder::Processes::find($server->{pid}, qr/chat-runner/);
kill KILL => $runner;
my $done = $server->wait_for(60, sub { my $s = $owner->get("$chats/$killed->{id}")->{status}; $s eq 'waiting' || $s eq 'error' });
is(words($killed->{id}), 'user: slow:100 ' . join(' ', map { "k$_" } 1 .. 30) . ' | assistant: ' . join(' ', reverse('slow:100', map { "k$_" } 1 .. 30)) . ' ', 'another runner has run it from the beginning');

# the server ends: chats are handed over, and go on with the next one
my $over = create('slow:100 ' . join ' ', map { "o$_" } 1 .. 30);
wait_status($over->{id}, 'running');
$server->restart;
wait_status($over->{id}, 'waiting');
is(scalar(() = words($over->{id}) =~ /assistant:/g), 1, 'one answer');
done_testing();
