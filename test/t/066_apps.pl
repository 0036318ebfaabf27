# Apps of a workspace through the server: its listening ports, pages, bodies, WebSockets, and who may see them.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Provisioning ();
use Coder::WebSocket;
use Digest::SHA qw(sha256_hex);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use MIME::Base64 qw(encode_base64);
use Test::More;

Coder::Provisioning::need_agent();

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
	while ($head !~ /\r\n\r\n/) { sysread($c, $head, 1, length $head) or exit; exit if $head =~ /^\x16/ }
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
	elsif ($path =~ m{/hang}) { sysread $c, $body, 1 }
	elsif ($path =~ m{/trickle}) { print $c "HTTP/1.1 200 OK\r\n\r\n"; for (1 .. 1000) { syswrite($c, 'x') or exit; select undef, undef, undef, 0.05 } }
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

my ($port, $dead, $other, $tls) = map { Coder::Gateway::free_port() } 1 .. 4;
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
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=elsewhere -keyout "\$HOME/key.pem" -out "\$HOME/cert.pem" 2> /dev/null
    cd "\$HOME"
    printf 'HTTP/1.1 200 OK\\r\\nContent-Length: 4\\r\\n\\r\\nsafe' > page
    setsid openssl s_server -accept 127.0.0.1:$tls -HTTP -quiet -cert "\$HOME/cert.pem" -key "\$HOME/key.pem" > /dev/null 2>&1 < /dev/null &
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
my %env = (%{ Coder::Provisioning::env($dir) }, CODER_AGENT_BINARY => Coder::Provisioning::coder());
my $gateway = Coder::Gateway->start(env => { %env });
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

# A page of an app, and what reaches it.

my $base = '/@admin/dev.main/apps';
my $token = $gateway->{token};
my $nobody = $gateway->client;
($status, $body, $headers) = $c->get("$base/shared/some/%2e%20path?x=1&coder_session_token=$token&y=%zz", undef,
	Cookie => "mine=1; coder_session_token=$token; other=\"2\"; csrf_token=x", 'X-Own' => 'yes', Connection => 'X-Drop', 'X-Drop' => 1,
	Authorization => "Bearer $token");
is($status, 200, 'a page of an app') or BAIL_OUT($body . $gateway->log);
my ($line, @fields) = split /\r\n/, $body;
is($line, 'GET /some/%2e%20path?x=1&y=%zz HTTP/1.1', 'the app gets the path behind its own, as it was written, without the token');
my %got = map { /^([^:]+): (.*)/ ? (lc $1 => $2) : () } @fields;
is($got{cookie}, 'mine=1; other="2"', 'and cookies without the session');
ok(!exists $got{'coder-session-token'} && !exists $got{authorization} && $body !~ /\Q$token/, 'the token is nowhere');
is($got{'x-own'}, 'yes', 'other fields are passed on');
ok(!exists $got{'x-drop'}, 'but not those of the connection');
is_deeply([ @got{qw(host x-forwarded-host x-forwarded-proto x-forwarded-for)} ],
	[ ("127.0.0.1:$gateway->{port}") x 2, 'http', '127.0.0.1' ], 'it knows who asked, and for what');
is($headers->{'content-type'}, 'text/plain', 'the type is the app\'s');
($status, $body) = $c->get("$base/shared/", undef, Authorization => 'Bearer of-the-app');
like($body, qr/^Authorization: Bearer of-the-app\r$/m, 'the app\'s own authorization is passed on');

($status, $body, $headers) = $c->get("$base/web");
is_deeply([ $status, $headers->{location} ], [ 307, "$base/web/" ], 'the folder of an app ends in a slash');
($status, $body, $headers) = $c->get("$base/web/");
is_deeply([ $status, $headers->{location} ], [ 307, "$base/web/?first=1" ], 'and has the query of its URL');
($status, $body) = $c->get("$base/web/page?q=2");
like($body, qr{^GET /base/page\?q=2 HTTP}, 'the path of its URL comes first');
($status, $body) = $c->get("/%40admin/dev/apps/shared/x");
is($status, 200, 'neither the agent nor the plain @ is needed');
($status, $body) = $c->get("$base/$other/port");
like($body, qr{^GET /port HTTP}, 'a port is an app, too');
ok($gateway->wait_for(20, sub { ($status, $body) = $c->get("$base/${tls}s/page"); $status != 502 }), 'an app that speaks HTTPS') or diag "$status $body";
is($body, 'safe', 'is asked by TLS, whoever it says it is');
is(($c->get("$base/${other}s/"))[0], 502, 'one that does not has a page that says so');
($status, $body, $headers) = $c->request('HEAD', "$base/shared/x");
is_deeply([ $status, $body // '' ], [ 200, '' ], 'HEAD');
cmp_ok($headers->{'content-length'}, '>', 100, 'with the size of what GET would give');

# Bodies.

my $data = join '', map { chr($_ * 7 % 256) } 1 .. 300_000;
($status, $body, $headers) = $c->post("$base/shared/echo", $data, 'Content-Type' => 'application/json');
is($status, 201, 'a body is posted');
ok($body eq $data, 'and comes back whole') or diag length $body;
is_deeply([ grep { /^[ab]=/ } ref $headers->{'set-cookie'} ? @{ $headers->{'set-cookie'} } : $headers->{'set-cookie'} ], [ 'a=1; Path=/', 'b=2' ], 'with cookies of the app');
ok(!exists $headers->{'x-hop'} && !exists $headers->{'keep-alive'}, 'without fields of the connection');
my $large = 'l' x (12 << 20);
($status, $body) = $c->post("$base/shared/echo", $large);
is($status, 201, 'a body larger than the API takes');
ok($body eq $large, 'comes back whole');
($status, $body) = $c->get("$base/shared/big");
is(length $body, 160 * 65536, '10 MiB in chunks');
is(sha256_hex($body), sha256_hex(join '', map { chr(65 + $_ % 26) x 65536 } 0 .. 159), 'arrive unchanged');
($status, $body) = $c->get("$base/shared/until-close");
is_deeply([ $status, length $body ], [ 200, 100000 ], 'an answer that ends with its connection');
($status, $body) = $c->get("$base/shared/early");
is_deeply([ $status, $body ], [ 404, 'none' ], 'an early hint is passed over');

# Apps that fail.

($status, $body) = $c->get("$base/shared/cut");
is($status, 599, 'an answer that is cut off does not look whole');
($status, $body, $headers) = $c->get("$base/dead/");
is($status, 502, 'an app that does not run');
like($body, qr{<h1>Bad Gateway</h1>.*The app &quot;dead&quot; cannot be reached}s, 'has a page that says so');
like($headers->{'content-type'}, qr{^text/html}, 'in HTML');
for my $path (qw(nonsense silent ws))
{
	is(($c->get("$base/shared/$path"))[0], 502, "no answer to be passed on: $path");
}
is(($c->get("$base/$_/"))[0], 404, "$_ is no app") for 'nothing', 'away', '8', '65536', '99999999999';
is(($c->get('/@me/dev/apps/web/'))[0], 404, 'me is nobody in a path');
is(($c->get('/@admin/nothing/apps/web/'))[0], 404, 'no workspace');
is(($c->get('/@admin/dev.none/apps/web/'))[0], 404, 'no agent');

# Browsers that leave.

for my $path (qw(hang trickle big))
{
	my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$gateway->{port}") or die $!;
	$socket->syswrite("GET $base/shared/$path HTTP/1.1\r\nHost: x\r\nCookie: coder_session_token=$token\r\n\r\n");
	$socket->sysread(my $some, 100) if $path ne 'hang';
	close $socket;
}
is(($nobody->get('/healthz'))[0], 200, 'a browser that leaves harms nobody');

# WebSockets.

$gateway->sql(q{SELECT coder.configure('{"app_use_interval": "1"}')});
my $ws_client = Coder::WebSocket->open($gateway->{url}, "$base/shared/ws", token => $token) or diag $@;
ok($ws_client, 'a WebSocket opens');
is($ws_client->message, 'hello', 'the app speaks first');
$ws_client->send_frame(1, 'echo this');
is($ws_client->message, 'echo this', 'and answers');
my $uses = "SELECT count(*) FROM coder.workspace_app_stats WHERE slug_or_port = 'shared' AND access_method = 'path'";
ok($gateway->wait_for(10, sub { $gateway->sql($uses) > 0 }), 'opening it is use of the app');
$gateway->sql("DELETE FROM coder.workspace_app_stats; UPDATE coder.workspaces SET last_used_at = '2020-01-01'");
ok($gateway->wait_for(20, sub { $gateway->sql($uses) > 0 }), 'and so is keeping it open');
is($gateway->sql("SELECT bool_and(last_used_at > now() - interval '1 minute') FROM coder.workspaces WHERE name = 'dev'"), 't', 'and of the workspace');
$ws_client->send_frame(8, pack 'n', 1000);
$ws_client->message;
is($ws_client->{close}[0], 1000, 'it closes');
undef $ws_client;
ok($gateway->wait_for(30, sub { $gateway->sql('DELETE FROM coder.workspace_app_stats'); select undef, undef, undef, 2.5; $gateway->sql($uses) == 0 }), 'and nobody uses it any more');
$gateway->sql(q{SELECT coder.configure('{"app_use_interval": null}')});

# Who may see them.

my $org = $p->{organization};
my %other = (email => 'other@example.com', username => 'other', password => 'SomeSecurePassword!', organization_ids => [$org]);
is(($c->post('/api/v2/users', { %other, user_status => 'active', login_type => 'password' }))[0], 201, 'another user');
my $them = $gateway->login($other{email}, $other{password});
($status, $body, $headers) = $nobody->get("$base/web/page?a=1&b=2");
is($status, 303, 'signed out: to sign in');
like($headers->{location}, qr{^/login\?message=You%20are%20signed%20out.*&redirect=%2F%40admin%2Fdev\.main%2Fapps%2Fweb%2Fpage%3Fa%3D1%26b%3D2$}, 'and back');
is(($nobody->get("$base/nothing/"))[0], 303, 'whether or not there is an app');
is(($gateway->client('nonsense')->get("$base/web/x"))[0], 303, 'a token of nobody is none');
is(($nobody->get("$base/public/"))[0], 303, 'paths are not public');
is(($them->get("$base/$_/"))[0], 404, "another user does not see the app \"$_\"") for qw(web shared public members);

$gateway->sql("UPDATE coder.workspace_apps SET sharing_level = 'organization' WHERE slug = 'members'");
$gateway->{env} = { %env, CODER_DANGEROUS_ALLOW_PATH_APP_SHARING => 'true' };
my $held = Coder::WebSocket->open($gateway->{url}, "$base/shared/ws", token => $token) or diag $@;
my @waiting = map {
	my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$gateway->{port}") or die $!;
	$socket->syswrite("GET $base/shared/$_ HTTP/1.1\r\nHost: x\r\nCookie: coder_session_token=$token\r\n\r\n");
	$socket } qw(hang trickle);
$waiting[1]->sysread(my $some, 100);
my $began = time;
is($gateway->stop, 0, 'the server stops while apps are open');
cmp_ok(time - $began, '<', 20, 'without waiting for them');
$gateway->up;
ok($gateway->wait_for(60, sub { my $a = agent_of(); $a->{status} eq 'connected' && $a->{lifecycle_state} eq 'ready' }), 'paths may be shared now');
ok($gateway->wait_for(60, sub { ($c->get("$base/public/"))[0] == 200 }), 'and the app is there again');
is(($nobody->get("$base/public/"))[0], 200, 'a public one is for anybody');
is(($nobody->get("$base/shared/"))[0], 303, 'another is not');
is(($them->get("$base/$_/"))[0], 200, "a signed-in user sees \"$_\"") for qw(public shared members);
is(($them->get("$base/web/x"))[0], 404, 'but not the owner\'s');
$gateway->sql("INSERT INTO coder.workspace_agent_port_share VALUES ('$ws->{id}', 'main', $other, 'authenticated', 'http')");
is(($them->get("$base/$other/"))[0], 200, 'a shared port');
$gateway->sql("DELETE FROM coder.organization_members WHERE user_id = (SELECT id FROM coder.users WHERE username = 'other')");
is(($them->get("$base/members/"))[0], 404, 'nor, outside the organization, the organization\'s');
is(($them->get("$base/$port/"))[0], 404, 'a port that is not');

# A workspace that is off.

is($p->build($ws, 'stop')->{status}, 'succeeded', 'the workspace stops');
($status, $body) = $c->get("$base/web/x");
is($status, 400, 'its apps are off');
like($body, qr{<h1>Workspace Offline</h1>}, 'and a page says so');
is(($them->get("$base/shared/"))[0], 404, 'which is its owner\'s business');

done_testing;
