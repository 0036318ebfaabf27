# Tools of MCP servers in chats: both transports, pages, names, lists, results, signing in, hostile servers, and an interrupt.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::McpServer;
use Coder::Model;
use Coder::Processes ();
use JSON::PP ();
use Test::More;
use Time::HiRes qw(time);

my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my $model = Coder::Model->start;
my $mcp = Coder::McpServer->start;
my $server = Coder::Gateway->start(env => { CODER_EXPERIMENTS => 'agents', CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' });
END { diag $server->log if $server && !Test::More->builder->is_passing }
my $owner = $server->first_user;
my $organization = $server->sql('SELECT id FROM coder.organizations');
my $chats = '/api/experimental/chats';
my $servers = '/api/experimental/mcp/servers';
my $json = JSON::PP->new->canonical->utf8;

$owner->post("$chats/providers", { provider => 'openai-compat', api_key => 'key-1', base_url => $model->url });
$owner->post("$chats/model-configs", { provider => 'openai-compat', model => 'm1', context_limit => 100000 });

sub text { return [{ type => 'text', text => $_[0] }] }
sub add
{
	my ($slug, %more) = @_;
	my ($status, $made) = $owner->post($servers, { display_name => $slug, slug => $slug, transport => 'streamable_http', url => $mcp->url . '/mcp',
		auth_type => 'none', availability => 'default_on', enabled => $true, %more });
	is($status, 201, "server $slug") or diag explain $made;
	return $made->{id};
}
sub create { my ($said, @ids) = @_; return ($owner->post($chats, { organization_id => $organization, content => text($said), mcp_server_ids => \@ids }))[1] }
sub done { my ($chat) = @_; $server->wait_for(40, sub { $owner->get("$chats/$chat->{id}")->{status} =~ /waiting|error/ }) }
sub parts { my ($chat, $type) = @_; return grep { $_->{type} eq $type } map { @{ $_->{content} } } reverse @{ $owner->get("$chats/$chat->{id}/messages")->{messages} } }
sub tool
{
	my ($name, $args, @ids) = @_;
	my $chat = create("tool:$name " . $json->encode($args), @ids);
	done($chat);
	my ($part) = parts($chat, 'tool-result');
	return ($part->{result}, $part, $chat);
}
# What the model was offered when this was said.
sub offered
{
	my ($said) = @_;
	my ($asked) = grep { $_->{said} eq $said } @{ $model->requests };
	return { map { $_->{function}{name} => $_->{function} } @{ $asked->{body}{tools} } };
}

# streamable HTTP with plain answers
my $plain = add('plain');
my ($result, $part, $chat) = tool('plain__echo', { text => 'hello' }, $plain);
is_deeply($result, { output => 'hello' }, 'text') or diag explain $part;
is($part->{mcp_server_config_id}, $plain, 'the result tells whose it is');
is((parts($chat, 'tool-call'))[0]{mcp_server_config_id}, $plain, 'and the call');
my $offered = offered('tool:plain__echo {"text":"hello"}');
is_deeply([ sort grep { /^plain__/ } keys %$offered ], [ map { "plain__$_" } sort qw(echo picture structured broken slow progress whoami strange_name_ large link) ], 'all tools are offered, by names that models take');
is_deeply($offered->{plain__echo}{parameters}{required}, ['text'], 'with their schemas');
ok($offered->{create_workspace}, 'beside those of the server');
$server->wait_for(10, sub { $mcp->count('closed') == 1 });
is($mcp->count('closed'), 1, 'the session is ended with the turn');
is($mcp->count('initialized'), 1, 'and was begun as it should');
is_deeply((tool('plain__echo', { text => '{"a": [1]}' }, $plain))[0], { a => [1] }, 'text that is JSON');
is_deeply((tool('plain__structured', {}, $plain))[0], { answer => 42 }, 'structured content');
($result, $part, $chat) = tool('plain__picture', {}, $plain);
is_deeply([ @$result{qw(mime_type text)}, $part->{is_media} ], ['image/png', '', $true], 'a picture');
($result, $part) = tool('plain__broken', {}, $plain);
is_deeply([ $result, $part->{is_error} ], [ { error => 'it broke' }, $true ], 'an error of the tool');
is_deeply((tool('plain__strange_name_', {}, $plain))[0], { output => 'strange' }, 'a strange name is called as it is');
($result) = tool('plain__large', {}, $plain);
is_deeply([ length $result->{output}, $result->{truncated}{original_bytes} ], [ 262144, 3_000_000 ], 'a long text is cut');
like((tool('plain__link', {}, $plain))[0]{output}, qr{^\[resource: A \(file:///a\)\]\ninside$}, 'resources');
like((tool('plain__whoami', {}, $plain))[0]{output}, qr/mcp-session-id=session-\d+ mcp-protocol-version=2025-06-18/, 'session and version are told');
($result, $part) = tool('plain__none', {}, $plain);
is($result->{error}, 'Tool not found: plain__none', 'a tool that there is not');
is_deeply((tool('plain__echo', { text => 'x' }))[0], { error => 'Tool not found: plain__echo' }, 'a chat without the server');
($result, $part, $chat) = tool('execute', { command => 'x' }, $plain);
is($part->{mcp_server_config_id}, undef, 'other tools are nobody\'s');

# events, pages, a question of the server
$mcp->mode(events => 1, paged => 1);
is_deeply((tool('plain__echo', { text => 'again' }, $plain))[0], { output => 'again' }, 'answers as streams, tools in pages');
$server->wait_for(10, sub { $mcp->count('pong') > 0 });
ok($mcp->count('pong') > 0, 'the server\'s ping is answered');
is_deeply((tool('plain__progress', { ms => 200 }, $plain))[0], { output => 'there' }, 'progress does not disturb');
$mcp->mode(events => 1, cut => 1);
($result, $part) = tool('plain__echo', { text => 'cut' }, $plain);
ok($part->{is_error} && $result->{error} =~ /no answer that can be read/, 'a stream that ends in the middle') or diag explain $result;

# lists, intent, who may
$mcp->mode;
my $listed = add('listed', tool_allow_list => ['echo'], tool_deny_list => ['echo'], model_intent => $true);
($result) = tool('listed__echo', { model_intent => 'Saying it', properties => { text => 'with intent' } }, $listed);
is_deeply($result, { output => 'with intent' }, 'the model\'s intent stays here');
$offered = offered('tool:listed__echo {"model_intent":"Saying it","properties":{"text":"with intent"}}');
is_deeply([ grep { /^listed__/ } sort keys %$offered ], ['listed__echo'], 'the list of what is allowed counts');
is_deeply($offered->{listed__echo}{parameters}{required}, [qw(model_intent properties)], 'the envelope');
is((tool('listed__picture', {}, $listed))[0]{error}, 'Tool not found: listed__picture', 'what is not allowed is not there');
$owner->patch("$servers/$listed", { tool_allow_list => [], tool_deny_list => ['whoami'], model_intent => $false });
is_deeply((tool('listed__echo', { text => 'now' }, $listed))[0], { output => 'now' }, 'a change counts at the next turn');
is((tool('listed__whoami', {}, $listed))[0]{error}, 'Tool not found: listed__whoami', 'the list of what is not');
$owner->patch("$servers/$listed", { enabled => $false });
is((tool('listed__echo', { text => 'now' }, $listed))[0]{error}, 'Tool not found: listed__echo', 'a server that is off');
my $keyed = add('keyed', auth_type => 'api_key', api_key_header => 'X-Api-Key', api_key_value => 'sesame');
my $headed = add('headed', auth_type => 'custom_headers', custom_headers => { 'X-Team' => 'red', 'X-Bad' => "a\r\nX-Api-Key: evil" });
$mcp->mode(need => { 'X-Api-Key' => 'sesame' });
like((tool('keyed__whoami', {}, $keyed))[0]{output}, qr/x-api-key=sesame/, 'a key');
like((tool('plain__whoami', {}, $plain))[0]{error}, qr/^Tool not found: plain__whoami. Its MCP server does not let this chat in \(HTTP 403\)\.$/, 'without it there is nothing');
$mcp->mode;
like((tool('headed__whoami', {}, $headed))[0]{output}, qr/x-api-key=- x-team=red/, 'headers of one\'s own, one a line');

# OAuth: the owner's token, refreshed before it is used
$mcp->mode(oauth => 1);
my $signed = add('signed', auth_type => 'oauth2');
like((tool('signed__whoami', {}, $signed))[0]{error}, qr/wants the owner of this chat to sign in/, 'nobody has signed in');
my $uid = $owner->get('/api/v2/users/me')->{id};
$server->sql("INSERT INTO coder.mcp_server_user_tokens (mcp_server_config_id, user_id, access_token, refresh_token, expiry) VALUES ('$signed', '$uid', 'at-old', 'rt-old', now() - interval '1 hour')");
my @at_once = map { create('tool:signed__whoami ' . $json->encode({ n => $_ }), $signed) } 1 .. 4;
$_ = (done($_), parts($_, 'tool-result'))[1]{result}{output} for @at_once;
is_deeply([ map { /authorization=(Bearer at-\S+)/ } @at_once ], [ ('Bearer at-refreshed-1') x 4 ], 'four turns use one new token') or diag explain \@at_once;
is($mcp->count('refresh'), 1, 'of one refresh');
$server->sql("UPDATE coder.mcp_server_user_tokens SET expiry = now() - interval '1 hour'");
$mcp->mode(oauth => 1, refuse => 1);
like((tool('signed__whoami', {}, $signed))[0]{error}, qr/wants the owner of this chat to sign in/, 'a token that cannot be refreshed');

# the older transport
$mcp->mode;
my $sse = add('older', transport => 'sse', url => $mcp->url . '/sse');
is_deeply((tool('older__echo', { text => 'by events' }, $sse))[0], { output => 'by events' }, 'HTTP with events');
is_deeply((tool('older__progress', { ms => 100 }, $sse))[0], { output => 'there' }, 'progress there');
$mcp->mode(endpoint => 'http://127.0.0.1:1/message');
like((tool('older__echo', { text => 'x' }, $sse))[0]{error}, qr/names an address elsewhere/, 'messages go to the same server only');

# bad servers; what comes of the one that hangs is looked at below
my $began = time;
my $hanging = Coder::McpServer->start;
$hanging->mode(hang => '/mcp');
my $hung = create('tool:stuck__echo {"text":"hang"}', add('stuck', url => $hanging->url . '/mcp'), $plain);
for my $bad ([ fail => 'HTTP 500' ], [ garbage => 'no answer that can be read' ], [ huge => 'too long' ], [ redirect => 'HTTP 302' ])
{
	$mcp->mode($bad->[0] => '/mcp');
	like((tool('plain__echo', { text => $bad->[0] }, $plain))[0]{error}, qr/Its MCP server .*$bad->[1]/, "$bad->[0]");
}
$mcp->mode(version => 'x' x 100);
like((tool('plain__echo', { text => 'v' }, $plain))[0]{error}, qr/unknown version/, 'a version that is none');
$mcp->mode(endless => 1);
is_deeply((tool('plain__echo', { text => 'endless' }, $plain))[0], { output => 'endless' }, 'a list without end ends');
$mcp->mode;

# sessions that are lost
my $next = $mcp->count('session') + 1;
$mcp->mode(lose => $next);
is_deeply((tool('plain__echo', { text => 'lost' }, $plain))[0], { output => 'lost' }, 'a session that the server forgot is begun again');
is($mcp->count('session'), $next + 1, 'once');
$mcp->mode;

# ten seconds are over, or soon will be
done($hung);
like((parts($hung, 'tool-result'))[0]{result}{error}, qr/Its MCP server did not answer in time/, 'one that hangs is left out');
my ($start) = map { $_->{created_at} } grep { $_->{role} eq 'user' } @{ $owner->get("$chats/$hung->{id}/messages")->{messages} };
my ($end) = map { $_->{created_at} } grep { $_->{role} eq 'assistant' } @{ $owner->get("$chats/$hung->{id}/messages")->{messages} };
cmp_ok($server->sql("SELECT extract(epoch FROM timestamptz '$end' - timestamptz '$start')"), '<', 14, 'and holds a turn up for ten seconds');

# two calls at once, and a runner that is killed in the middle of one
$began = time;
$chat = create("tool:plain__slow {\"ms\":2500}\ntool:plain__slow {\"ms\":2501}", $plain);
done($chat);
is_deeply([ map { $_->{result}{output} } parts($chat, 'tool-result') ], [ 'slept 2500', 'slept 2501' ], 'two calls have their results, in order');
cmp_ok(time - $began, '<', 4.9, 'and run beside one another');
my $before = $mcp->count('call');
$chat = create('tool:plain__slow {"ms":1500}', $plain);
$server->wait_for(10, sub { $mcp->count('call') > $before });
my ($runner) = Coder::Processes::find($server->{pid}, qr/chat-runner/);
kill KILL => $runner;
$server->wait_for(30, sub { $mcp->count('call') > $before + 1 });
done($chat);
is_deeply([ map { $_->{result}{output} } parts($chat, 'tool-result') ], ['slept 1500'], 'another runner calls again, and there is one result');

# an interrupt
$chat = create('tool:plain__slow {"ms":8000}', $plain);
my $calls = $mcp->count('call');
$server->wait_for(10, sub { $mcp->count('call') > $calls });
$began = time;
$owner->post("$chats/$chat->{id}/interrupt", {});
$server->wait_for(5, sub { $mcp->count('cancelled') > 0 });
cmp_ok(time - $began, '<', 1.5, 'the server is told within a second that it may stop');
done($chat);
like((parts($chat, 'tool-result'))[0]{result}{error}, qr/interrupted/, 'and the call has ended');
unlike($server->log, qr/sesame|at-old|rt-old|at-refreshed/, 'no secret in the log');
done_testing();
