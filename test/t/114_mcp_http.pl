# This deployment as an MCP server: the protocol, who may, tools as the token's user, a command in a workspace, bad messages.
use strict;
use warnings FATAL => 'all';
use Coder::Browser;
use Coder::Gateway;
use Coder::Model;
use Coder::Provisioning ();
use JSON::PP ();
use Test::More;
use Time::HiRes qw(time);

Coder::Provisioning::need_agent();

my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my ($server, $p) = Coder::Provisioning::with_agent(CODER_EXPERIMENTS => 'agents,oauth2,mcp-server-http');
END { diag $server->log if $server && !Test::More->builder->is_passing }
my $owner = $p->{client};
my $path = '/api/experimental/mcp/http';
my $json = JSON::PP->new->canonical->utf8->allow_nonref;

my $n = 0;
sub rpc { my ($who, $method, $params) = @_; return $who->post($path, { jsonrpc => '2.0', id => ++$n, method => $method, $params ? (params => $params) : () }) }
# What a tool gives: (decoded text, has it failed).
sub call
{
	my ($who, $name, %args) = @_;
	my ($status, $answer) = rpc($who, 'tools/call', { name => $name, arguments => \%args });
	my $text = $answer->{result}{content}[0]{text} // '';
	return ($answer->{result}{isError} ? $text : $json->decode($text), $answer->{result}{isError}, $answer);
}

# the protocol
my ($status, $answer) = rpc($owner, 'initialize', { protocolVersion => '2025-03-26', capabilities => {}, clientInfo => { name => 't', version => '1' } });
is_deeply([ $status, @{ $answer->{result} }{qw(protocolVersion capabilities)}, $answer->{id} ], [ 200, '2025-03-26', { tools => {} }, 1 ], 'initialize') or diag explain $answer;
is((rpc($owner, 'initialize', { protocolVersion => '1999-01-01' }))[1]{result}{protocolVersion}, '2025-06-18', 'an unknown version gets the newest');
is(($owner->post($path, { jsonrpc => '2.0', method => 'notifications/initialized' }))[0], 202, 'a notification');
is_deeply((rpc($owner, 'ping'))[1]{result}, {}, 'ping');
my @tools = @{ (rpc($owner, 'tools/list'))[1]{result}{tools} };
is(scalar @tools, 8, 'tools');
ok(!(grep { !$_->{description} || $_->{inputSchema}{type} ne 'object' } @tools), 'each says what it is');
is((rpc($owner, 'resources/list'))[1]{error}{code}, -32601, 'another method');
is((rpc($owner, 'tools/call', { name => 'rm', arguments => {} }))[1]{error}{code}, -32602, 'another tool');
for my $bad ([ '{', -32700 ], [ '[]', -32600 ], [ '{"jsonrpc": "1.0", "id": 1, "method": "ping"}', -32600 ], [ '{"jsonrpc": "2.0", "id": [], "method": "ping"}', -32600 ], [ "\xff", -32700 ])
{
	($status, $answer) = $owner->request("POST", $path, $bad->[0], 'Content-Type' => 'application/json');
	is("$status " . (ref $answer ? $answer->{error}{code} : $answer), "400 $bad->[1]", 'a bad message');
}
is(($owner->request('GET', $path))[0], 405, 'there is no stream');
is(($owner->post($path, { jsonrpc => '2.0', id => 1, method => 'ping' }, 'MCP-Protocol-Version' => '1.0'))[0], 400, 'an unknown version in a header');
($status, $answer, my $headers) = $server->client->post($path, { jsonrpc => '2.0', id => 1, method => 'ping' });
is($status, 401, 'nobody who is not signed in');
like($headers->{'www-authenticate'}, qr{^Bearer .*resource_metadata="\Q@{[$server->url]}\E/.well-known/oauth-protected-resource"}, 'who is told where that is done');

# tools
is((call($owner, 'coder_get_authenticated_user'))[0]{username}, 'admin', 'who one is');
$p->template('starter', $p->import('starter', Coder::Provisioning::starter()));
my ($list) = call($owner, 'coder_list_templates');
is($list->[0]{name}, 'starter', 'templates');
my ($parameters) = call($owner, 'coder_template_version_parameters', template_version_id => $list->[0]{active_version_id});
is($parameters->[0]{name}, 'greeting', 'a version\'s parameters');
my ($made, $failed) = call($owner, 'coder_create_workspace', name => 'dev', template_id => $list->[0]{id}, rich_parameters => { greeting => 'hi' });
is($made->{name}, 'dev', 'a workspace is made') or diag explain $made;
$server->wait_for(60, sub { $server->sql("SELECT count(*) FROM coder.workspace_agents WHERE lifecycle_state = 'ready'") == 1 });
is_deeply([ map { "$_->{name} $_->{status}" } @{ (call($owner, 'coder_list_workspaces'))[0] } ], ['dev running'], 'it is listed');
is((call($owner, 'coder_get_workspace', workspace_id => 'dev'))[0]{id}, $made->{id}, 'and found by its name');
is_deeply((call($owner, 'coder_workspace_bash', workspace => 'admin/dev', command => 'echo out; echo err >&2; exit 7'))[0], { output => "out\nerr\n", exit_code => 7 }, 'a command runs in it');
my $began = time;
my ($slow) = call($owner, 'coder_workspace_bash', workspace => 'dev', command => 'echo begun; sleep 30', timeout_ms => 500);
is_deeply([ @$slow{qw(output note)} ], [ "begun\n", 'the command runs on in the background' ], 'one that takes longer') or diag explain $slow;
cmp_ok(time - $began, '<', 5, 'is not waited for');
like((call($owner, 'coder_workspace_bash', workspace => 'none', command => 'id'))[0], qr/no such workspace/, 'no workspace');
like((call($owner, 'coder_workspace_bash', workspace => 'dev', command => ''))[0], qr/command is required/, 'no command');
(undef, $failed) = call($owner, 'coder_create_workspace', name => 'dev', template_id => $list->[0]{id});
ok($failed, 'a name that is taken is an error of the tool');
is(scalar(() = $server->sql("SELECT name FROM coder.workspaces WHERE NOT deleted")), 1, 'and makes nothing');

# another user, and a token that may less
$owner->post('/api/v2/users', { username => 'bob', email => 'bob@example.com', password => 'SomeSecurePassword!', organization_ids => [ $p->{organization} ] });
my $bob = $server->login('bob@example.com', 'SomeSecurePassword!');
is_deeply((call($bob, 'coder_list_workspaces', owner => 'admin'))[0], [], 'another user sees none of it');
like((call($bob, 'coder_workspace_bash', workspace => 'admin/dev', command => 'id'))[0], qr/no such workspace/, 'and runs nothing there');
like((call($bob, 'coder_create_workspace_build', workspace_id => $made->{id}, transition => 'delete'))[0], qr/no such workspace/, 'nor deletes it');
my (undef, $scoped) = $owner->post('/api/v2/users/me/keys/tokens', { token_name => 'reader', scopes => [ 'workspace:read', 'template:read' ], lifetime => 3600e9 });
SKIP:
{
	skip 'no scoped token', 1 unless $scoped->{key};
	(undef, $failed) = call($server->client($scoped->{key}), 'coder_create_workspace_build', workspace_id => $made->{id}, transition => 'stop');
	ok($failed, 'a token that may read changes nothing');
}
my ($build) = call($owner, 'coder_create_workspace_build', workspace_id => 'dev', transition => 'stop');
is($build->{transition}, 'stop', 'the owner stops it');
$server->wait_for(60, sub { (call($owner, 'coder_list_workspaces'))[0][0]{status} eq 'stopped' });
like((call($owner, 'coder_workspace_bash', workspace => 'dev', command => 'id'))[0], qr/does not run/, 'in what is stopped nothing runs');

# a chat of this deployment uses it as its own MCP server: registered, signed in to and called as any other
my $model = Coder::Model->start;
my ($chats, $servers) = ('/api/experimental/chats', '/api/experimental/mcp/servers');
$owner->post("$chats/providers", { provider => 'openai-compat', api_key => 'k', base_url => $model->url });
$owner->post("$chats/model-configs", { provider => 'openai-compat', model => 'm', context_limit => 100000 });
($status, my $self) = $owner->post($servers, { display_name => 'Self', slug => 'self', transport => 'streamable_http', url => $server->url . $path, auth_type => 'oauth2',
	availability => 'default_on', enabled => $true });
is($status, 201, 'it registers at itself') or diag explain $self;
my $browser = Coder::Browser->new(url => $server->url);
$browser->{cookies}{ $server->url }{coder_session_token} = $owner->{token};
my $consent = ($browser->get("$servers/$self->{id}/oauth2/connect"))[2]{location};
my ($token) = $browser->get($consent) =~ /name="csrf_token" value="([^"]+)"/;
$token =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ge;
my $back = ($browser->request('POST', $consent, "csrf_token=$token", 'Content-Type' => 'application/x-www-form-urlencoded', Origin => $server->url))[2]{location};
is(($browser->get($back))[0], 200, 'the user agrees, and is connected');
my (undef, $chat) = $owner->post($chats, { organization_id => $p->{organization}, content => [ { type => 'text', text => 'tool:self__coder_get_authenticated_user {}' } ], mcp_server_ids => [ $self->{id} ] });
$server->wait_for(30, sub { $owner->get("$chats/$chat->{id}")->{status} =~ /waiting|error/ });
my ($part) = grep { $_->{type} eq 'tool-result' } map { @{ $_->{content} } } @{ $owner->get("$chats/$chat->{id}/messages")->{messages} };
is($part->{result}{username}, 'admin', 'a chat\'s tool runs here as its owner') or diag explain $part;

# the experiments
$server->sql(q{SELECT coder.configure('{"experiments": "oauth2"}')});
is((rpc($owner, 'ping'))[1]{message}, 'This functionality requires enabling the following experiments: oauth2, mcp-server-http', 'where they are off');
done_testing();
