# MCP servers that a workspace's .mcp.json names by an address: both transports, headers, sessions that are lost, servers that fail.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::McpServer;
use Coder::Model;
use Coder::Provisioning ();
use JSON::PP ();
use Test::More;
use Time::HiRes ();

Coder::Provisioning::need_agent();

my $model = Coder::Model->start;
my ($near, $old) = (Coder::McpServer->start, Coder::McpServer->start);
my ($server, $p) = Coder::Provisioning::with_agent(CODER_EXPERIMENTS => 'agents');
END { diag $server->log if $server && !Test::More->builder->is_passing }
my $owner = $p->{client};
my $chats = '/api/experimental/chats';
my $json = JSON::PP->new->canonical->utf8;

$owner->post("$chats/providers", { provider => 'openai-compat', api_key => 'key-1', base_url => $model->url });
$owner->post("$chats/model-configs", { provider => 'openai-compat', model => 'm1', context_limit => 1000000 });
my $template = $p->template('starter', $p->import('starter', Coder::Provisioning::starter()));
my ($ws) = $p->create($template, 'dev');
$server->wait_for(60, sub { $server->sql("SELECT count(*) FROM coder.workspace_agents WHERE lifecycle_state = 'ready'") == 1 });

sub text { return [{ type => 'text', text => $_[0] }] }
my ($status, $chat) = $owner->post($chats, { organization_id => $p->{organization}, workspace_id => $ws->{id}, content => text('hello') });
sub wait_done { $server->wait_for(60, sub { $owner->get("$chats/$chat->{id}")->{status} =~ /waiting|error/ }) }
wait_done();

sub tool
{
	my ($name, $args) = @_;
	$owner->post("$chats/$chat->{id}/messages", { content => text("tool:$name " . $json->encode($args)) });
	wait_done();
	my ($part) = map { @{ $_->{content} } } grep { $_->{role} eq 'tool' } @{ $owner->get("$chats/$chat->{id}/messages")->{messages} };
	return ($part->{result}, $part);
}
sub offered { return sort grep { /__/ } map { $_->{function}{name} } @{ $model->requests->[-1]{body}{tools} } }

my $home = (tool('execute', { command => 'pwd' }))[0]{output} =~ s/\n//r;
my $all = {
	near => { type => 'http', url => $near->url . '/mcp', headers => { 'X-Word' => 'for ${HOME}${NOT_SET}' } },
	old => { type => 'sse', url => $old->url . '/sse', headers => { 'X-Old' => 'word' } },
	gone => { url => 'http://127.0.0.1:1/mcp' },
};
sub configure { tool('write_file', { path => "$home/.mcp.json", content => $json->encode({ mcpServers => $_[0] }) }); return }

$near->mode(need => { 'X-Word' => "for $home" }, tools => ['echo', 'slow', 'picture', 'broken'], paged => 1);
$old->mode(need => { 'X-Old' => 'word' }, tools => ['echo', 'structured']);
configure($all);
is_deeply((tool('near__echo', { text => 'far away' }))[0], { output => 'far away' }, 'a tool of a server at an address');
is_deeply([offered()], [qw(near__broken near__echo near__picture near__slow old__echo old__structured)], 'their tools are offered; what cannot be reached is left out');
is_deeply((tool('old__echo', { text => 'older' }))[0], { output => 'older' }, 'by the older transport');
is((tool('near__picture', {}))[1]{is_media}, JSON::PP::true(), 'a picture');
like($json->encode((tool('near__broken', {}))[0]), qr/error/, 'an error of the tool');
is($near->count('session'), 1, 'in one session for all turns');
my @said = grep { $_->{path} eq '/mcp' && $_->{method} eq 'POST' } $near->requests;
is(scalar(grep { ($_->{headers}{'mcp-protocol-version'} // '') eq '2025-06-18' } @said), @said - 1, 'with the version of the protocol, but for the handshake');

$near->mode(tools => ['echo', 'slow'], events => 1);
is_deeply((tool('near__echo', { text => 'a stream' }))[0], { output => 'a stream' }, 'answers that are streams');
$near->mode(tools => ['echo', 'slow'], lose => 1);
is_deeply((tool('near__echo', { text => 'again' }))[0], { output => 'again' }, 'a session that the server forgot is made anew');
is($near->count('session'), 2, 'once');
$near->mode(tools => ['echo'], fail => '/mcp');
my ($r, $part) = tool('near__echo', { text => 'x' });
ok($part->{is_error} && $r->{error} =~ /HTTP 500/, 'a server that fails') or diag explain $r;
$near->mode(tools => ['echo'], redirect => '/mcp');
like((tool('near__echo', { text => 'x' }))[0]{error}, qr/HTTP 302/, 'one that sends elsewhere is not followed');
$near->mode(tools => ['echo'], garbage => '/mcp');
like((tool('near__echo', { text => 'x' }))[0]{error}, qr/no answer that can be read/, 'one that answers nonsense');
$near->mode(tools => ['echo']);
is_deeply((tool('near__echo', { text => 'well' }))[0], { output => 'well' }, 'and is well again');

# what was listed is used for a while, unless a tool may have changed it
my $less = { near => $all->{near} };
tool('write_file', { path => "$home/next.json", content => $json->encode({ mcpServers => $less }) });
tool('execute', { command => "sleep 2; mv next.json .mcp.json", run_in_background => JSON::PP::true });
tool('read_file', { path => "$home/.mcp.json" });
is_deeply([offered()], [qw(near__broken near__echo near__picture near__slow old__echo old__structured)], 'tools of both');
$server->wait_for(10, sub { (tool('read_file', { path => "$home/.mcp.json" }))[0]{content} !~ /old/ });
is_deeply([offered()], [qw(near__broken near__echo near__picture near__slow old__echo old__structured)], 'a change by hand counts a little later');
tool('execute', { command => 'true' });
tool('read_file', { path => "$home/.mcp.json" });
is_deeply([offered()], [qw(near__echo)], 'and at once where the chat has done something');

# an endpoint elsewhere is not spoken to
$old->mode(tools => ['echo'], endpoint => $near->url . '/mcp');
my $before = () = $near->requests;
delete $all->{near};
$all->{old}{url} .= '?again';
configure($all);
is((tool('old__echo', { text => 'x' }))[0]{error}, 'Tool not found: old__echo', 'messages go to the server that was named only');
is(scalar(grep { ($_->{headers}{'x-old'} // '') ne '' } $near->requests), 0, 'no header of its goes elsewhere');

# one that says nothing is waited for once
$old->mode(hang => '/mcp');
configure({ near => $all->{near} // { url => $near->url . '/mcp', headers => { 'X-Word' => "for $home" } }, hangs => { url => $old->url . '/mcp' } });
$near->mode(tools => ['echo']);
my @took = map { my $began = Time::HiRes::time(); tool('near__echo', { text => 'x' }); Time::HiRes::time() - $began } 1 .. 3;
cmp_ok($took[0], '>', 4, 'a server that says nothing is waited for');
cmp_ok($took[2], '<', 3, 'but not again');
is_deeply([offered()], ['near__echo'], 'the others are there') or diag explain \@took;

configure({});
tool('near__echo', { text => 'x' });
$server->wait_for(5, sub { (tool('execute', { command => 'pgrep -fc "[m]cp-remote" || true' }))[0]{output} =~ /^0/ });
like((tool('execute', { command => 'pgrep -fc "[m]cp-remote" || true' }))[0]{output}, qr/^0/, 'nothing runs on');
done_testing();
