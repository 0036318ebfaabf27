# Apps of a workspace through the server: its listening ports, pages, bodies, WebSockets, and who may see them.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Provisioning ();
use Coder::WebSocket;
use Digest::SHA qw(sha256_hex);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use MIME::Base64 qw(encode_base64);
use Test::More;

my $why = Coder::Provisioning::no_sandbox();
my $agent = $ENV{CODER_AGENT} // dirname(Coder::Gateway::program()) . '/../agent/coder';
plan skip_all => $why if $why;
plan skip_all => "$agent is not built" unless -x $agent;

# What runs in the workspace: a small web server.
my $app = <<'APP';
use strict;
use IO::Socket::INET;
$SIG{CHLD} = 'IGNORE';
my $listener = IO::Socket::INET->new(Listen => 50, LocalAddr => '127.0.0.1', LocalPort => $ARGV[0], ReuseAddr => 1) or die $!;
while (my $c = $listener->accept)
{
	next if fork;
	my ($head, $body) = ('', '');
	while ($head !~ /\r\n\r\n/) { sysread($c, $head, 1, length $head) or exit }
	my ($method, $path) = $head =~ /^(\S+) (\S+)/;
	my ($size) = $head =~ /^content-length: (\d+)/mi;
	while (length $body < ($size || 0)) { sysread($c, $body, 65536, length $body) or exit }
	if ($path =~ m{/echo}) { print $c "HTTP/1.1 201 Created\r\nContent-Length: " . length($body) . "\r\nContent-Type: text/x-echo\r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\nKeep-Alive: timeout=5\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\n\r\n$body" }
	elsif ($path =~ m{/big})
	{
		print $c "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
		for my $i (0 .. 159) { my $piece = chr(65 + $i % 26) x 65536; print $c sprintf("%x\r\n%s\r\n", length $piece, $piece) }
		print $c "0\r\n\r\n";
	}
	elsif ($path =~ m{/until-close}) { print $c "HTTP/1.0 200 OK\r\n\r\n" . 'x' x 100000 }
	elsif ($path =~ m{/cut}) { print $c "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort" }
	elsif ($path =~ m{/nonsense}) { print $c "This is no HTTP.\r\n\r\n" }
	elsif ($path =~ m{/silent}) { close $c; exit }
	elsif ($path =~ m{/early}) { print $c "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 404 Not Here\r\nContent-Length: 4\r\n\r\nnone" }
	elsif ($path =~ m{/ws})
	{
		print $c "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
		syswrite $c, "\x81\x05hello";
		my $frame = '';
		while (sysread $c, $frame, 65536, length $frame)
		{
			while (length $frame >= 6 and length $frame >= 6 + (my $n = ord(substr $frame, 1, 1) & 127))
			{
				my ($mask, $text) = unpack "x2 a4 a$n", $frame;
				$text ^= substr($mask x 40, 0, $n);
				syswrite $c, chr(ord $frame) . chr($n) . $text;
				exit if (ord($frame) & 15) == 8;
				substr($frame, 0, 6 + $n) = '';
			}
		}
	}
	else { print $c "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " . length($head) . "\r\n\r\n" . ($method eq 'HEAD' ? '' : $head) }
	exit;
}
APP

my ($port, $dead, $other) = map { Coder::Gateway::free_port() } 1 .. 3;
my $base64 = encode_base64($app, '');
my $main = <<"HCL";
terraform {
  required_providers {
    coder = { source = "coder/coder" }
  }
}
data "coder_provisioner" "me" {}
data "coder_workspace" "me" {}
resource "coder_agent" "main" {
  os             = "linux"
  arch           = data.coder_provisioner.me.arch
  startup_script = <<-EOT
    echo $base64 | base64 -d > "\$HOME/app.pl"
    for port in $port $other; do
      setsid perl "\$HOME/app.pl" \$port > /dev/null 2>&1 < /dev/null &
    done
  EOT
}
resource "coder_app" "web" {
  agent_id = coder_agent.main.id
  slug     = "web"
  url      = "http://localhost:$port/base?first=1"
}
resource "coder_app" "shared" {
  agent_id = coder_agent.main.id
  slug     = "shared"
  url      = "http://127.0.0.1:$port"
  share    = "authenticated"
}
resource "coder_app" "public" {
  agent_id = coder_agent.main.id
  slug     = "public"
  url      = "http://localhost:$port"
  share    = "public"
}
resource "coder_app" "members" {
  agent_id = coder_agent.main.id
  slug     = "members"
  url      = "http://localhost:$port"
}
resource "coder_app" "dead" {
  agent_id = coder_agent.main.id
  slug     = "dead"
  url      = "http://localhost:$dead"
}
resource "coder_app" "away" {
  agent_id = coder_agent.main.id
  slug     = "away"
  url      = "https://example.com/"
  external = true
}
resource "sandbox_process" "workspace" {
  count       = data.coder_workspace.me.start_count
  agent_token = coder_agent.main.token
}
HCL

my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $gateway = Coder::Gateway->start(env => { %{ Coder::Provisioning::env($dir) }, CODER_AGENT_BINARY => $agent });
my $p = Coder::Provisioning->new($gateway);
my $c = $p->{client};
my $version = $p->import('apps', { 'main.tf' => $main });
is($version->{status}, 'succeeded', 'a template with apps is imported') or BAIL_OUT($version->{error});
my ($ws, $build) = $p->create($p->template('apps', $version), 'dev');
is($build->{status}, 'succeeded', 'its workspace starts') or BAIL_OUT($build->{error});

sub agent_of { my $got = $c->get("/api/v2/workspaces/$ws->{id}"); return (map { @{ $_->{agents} // [] } } @{ $got->{latest_build}{resources} })[0] }
my $id = agent_of()->{id};
ok($gateway->wait_for(60, sub { my $a = agent_of(); $a->{status} eq 'connected' && $a->{lifecycle_state} eq 'ready' }), 'its agent is ready')
  or BAIL_OUT($gateway->log);

# Listening ports.

my ($status, $body, $headers);
ok($gateway->wait_for(20, sub {
	($status, $body) = $c->get("/api/v2/workspaceagents/$id/listening-ports");
	$status != 200 || grep { $_->{port} == $other } @{ $body->{ports} } }), 'a port of the workspace is listed') or diag "$status ", explain($body);
my ($found) = grep { $_->{port} == $other } @{ $body->{ports} };
is($status, 200, 'the agent answers') or BAIL_OUT($body->{message});
is_deeply([ @$found{qw(network process_name)} ], [ 'tcp', 'perl' ], 'with its process');
ok(!(grep { $_->{port} == $port } @{ $body->{ports} }), 'that of an app is not');
is(($gateway->client->get("/api/v2/workspaceagents/$id/listening-ports"))[0], 401, 'signed out: 401');

done_testing;
