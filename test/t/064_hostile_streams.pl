# Tokens that are wrong, expired or deleted open no stream of any kind, and random bytes on any stream end only that stream.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Provisioning ();
use Coder::WebSocket;
use File::Temp qw(tempdir);
use IO::Socket::INET;
use Test::More;

Coder::Provisioning::need_sandbox();

my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $gateway = Coder::Gateway->start(env => Coder::Provisioning::env($dir, CODER_EXPERIMENTS => 'workspace-build-updates'));
my $p = Coder::Provisioning->new($gateway);
my $owner = $p->{client};
my $version = $p->import('agent', { 'main.tf' => <<'TF' });
data "coder_workspace" "me" {}
resource "coder_agent" "main" {
  os   = "linux"
  arch = "amd64"
}
resource "sandbox_process" "main" {
  count       = data.coder_workspace.me.start_count
  agent_token = coder_agent.main.token
}
TF
is($version->{status}, 'succeeded', 'a template with an agent') or diag $version->{error};
my ($ws, $build) = $p->create($p->template('agent', $version), 'dev');
is($build->{status}, 'succeeded', 'a workspace') or diag $build->{error};
my ($agent, $agent_token) = split /\|/, $gateway->sql('SELECT id, auth_token FROM coder.workspace_agents ORDER BY created_at DESC LIMIT 1');
my $launcher = $gateway->{pid};
my $postmaster = $gateway->postmaster;

my %stream = (
	'workspace watch'    => "/api/v2/workspaces/$ws->{id}/watch-ws",
	'all builds'         => '/api/experimental/watch-all-workspacebuilds',
	'build log'          => "/api/v2/workspacebuilds/$build->{id}/logs?follow",
	'agent log'          => "/api/v2/workspaceagents/$agent/logs?follow",
	'agent metadata'     => "/api/v2/workspaceagents/$agent/watch-metadata-ws",
	'terminal'           => "/api/v2/workspaceagents/$agent/pty?reconnect=22222222-2222-2222-2222-222222222222&width=80&height=24",
	'coordinator'        => "/api/v2/workspaceagents/$agent/coordinate?version=2.0",
	'tailnet'            => '/api/v2/tailnet?version=2.0',
	'dynamic parameters' => "/api/v2/templateversions/$version->{id}/dynamic-parameters",
);
my %agent_stream = ('agent rpc' => '/api/v2/workspaceagents/me/rpc?version=2.0');

sub status { my ($path, $token) = @_; return Coder::WebSocket->open($gateway->url, $path, token => $token) ? 101 : $@ =~ m{^HTTP/1.1 (\d+)} ? $1 : 'none' }
sub session { return $gateway->login('admin@example.com', 'SomeSecurePassword!')->{token} }

my $deleted = session();
$gateway->client($deleted)->post('/api/v2/users/logout');
my $expired = session();
$gateway->sql("UPDATE coder.api_keys SET expires_at = now() - interval '1 minute' WHERE id = '" . substr($expired, 0, 10) . "'");
my $altered = session();
substr($altered, -1) = substr($altered, -1) eq 'a' ? 'b' : 'a';
my %token = (
	'no token' => undef, 'an empty one' => '', 'a deleted one' => $deleted, 'an expired one' => $expired, 'an altered one' => $altered,
	'a long one' => 'x' x 5000, 'an agent\'s' => $agent_token, 'one with a quote' => "a'b\"-;", 'bytes that are no UTF-8' => "\xff\xfe-\xff");
for my $name (sort keys %stream)
{
	is(status($stream{$name}, session()), 101, "$name: opens with a session");
	is(join(' ', map { "$_=" . status($stream{$name}, $token{$_}) } sort keys %token), join(' ', map { "$_=401" } sort keys %token),
		"$name: and with nothing else");
}
for my $name (sort keys %agent_stream)
{
	is(status($agent_stream{$name}, $agent_token), 101, "$name: opens with the agent's token");
	my %bad = (%token, 'a session' => session(), 'no agent\'s' => '11111111-1111-1111-1111-111111111111');
	delete $bad{'an agent\'s'};
	is(join(' ', map { "$_=" . status($agent_stream{$name}, $bad{$_}) } sort keys %bad), join(' ', map { "$_=401" } sort keys %bad),
		"$name: and with nothing else");
}

# Bytes by chance, in whole frames and cut off, on every kind of stream; a client beside them goes on.
my $calm = Coder::WebSocket->open($gateway->url, $stream{'workspace watch'}, token => $owner->{token});
$calm->message;
srand 4711;
sub noise { return join '', map { chr int rand 256 } 1 .. $_[0] }
local $SIG{PIPE} = 'IGNORE';
my $opened = 0;
for my $path (values %stream, values %agent_stream)
{
	my $token = $path =~ m{agents/me/} ? $agent_token : $owner->{token};
	for my $size (1, 12, 40, 300, 70_000)
	{
		my $one = Coder::WebSocket->open($gateway->url, $path, token => $token) or next;
		$opened++;
		$one->send_frame(2, noise($size));
		$one->send_frame(1, noise($size));
		my $raw = Coder::WebSocket->open($gateway->url, $path, token => $token) or next;
		$raw->{socket}->syswrite(noise($size));
		my $cut = Coder::WebSocket->open($gateway->url, $path, token => $token) or next;
		$cut->{socket}->syswrite(substr("\x82\xfe" . pack('n', $size & 65535) . 'mask' . noise($size), 0, 1 + int rand 10));
		close $cut->{socket};
		my $huge = Coder::WebSocket->open($gateway->url, $path, token => $token) or next;
		$huge->{socket}->syswrite("\x82\xff" . pack('Q>', 2**62) . 'mask' . noise($size));
	}
}
is($opened, 5 * (keys(%stream) + keys(%agent_stream)), 'every stream was opened anew each time');
for my $size (1, 5, 37, 1000, 70_000)
{
	my $relay = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$gateway->{port}");
	$relay->syswrite("GET /derp HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: DERP\r\n\r\n" . noise($size));
	my $frame = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$gateway->{port}");
	$frame->syswrite("GET /derp HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: DERP\r\n\r\n" . "\2\xff\xff\xff\xff" . noise($size));
}
is(($owner->get('/api/v2/users/me'))[0], 200, 'the server answers');
is(join(' ', $gateway->{pid}, $gateway->postmaster), "$launcher $postmaster", 'and neither it nor PostgreSQL was started anew');
unlike($gateway->log, qr/panic|signal 11|signal 6|terminated by signal/i, 'nothing in its log tells of a crash');

# The agent's token ends with the build.
my $rpc = Coder::WebSocket->open($gateway->url, $agent_stream{'agent rpc'}, token => $agent_token);
ok($rpc, 'the agent is connected');
is($p->build($ws, 'stop')->{status}, 'succeeded', 'its workspace is stopped');
my $seen = '';
my $end = time + 10;
while (time < $end && $seen !~ /"transition":"stop".*"succeeded"|"succeeded".*"transition":"stop"/) { $seen = $calm->message(1) // $seen }
like($seen, qr/"transition":"stop"/, 'the client beside all that saw it');
ok($gateway->wait_for(40, sub { my ($opcode) = $rpc->frame(1); defined $opcode ? $opcode == 8 : !$rpc->more(0.1) && eof_of($rpc) }),
	'the connection of the agent ends');
sub eof_of { my ($w) = @_; my $bytes; return IO::Select->new($w->{socket})->can_read(0) && !$w->{socket}->sysread($bytes, 1) }
is(status($agent_stream{'agent rpc'}, $agent_token), 401, 'the token of a stopped workspace opens nothing');
is(($gateway->client($agent_token)->get('/api/v2/workspaceagents/me/gitsshkey'))[0], 401, 'and reads nothing');
is($gateway->stop, 0, 'the server ends well');
done_testing();
