# Apps of workspaces, and their ports, each on a host of its own: sessions, sharing levels, what no app gets to see.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Provisioning ();
use Coder::WebSocket;
use File::Temp qw(tempdir);
use IO::Socket::INET;
use MIME::Base64 qw(encode_base64);
use Test::More;

Coder::Provisioning::need_sandbox();

# What runs in the workspace: answers with the head of the request.
my $app = <<'APP';
use strict;
use IO::Socket::INET;
$SIG{CHLD} = 'IGNORE';
my $listener = IO::Socket::INET->new(Listen => 50, LocalAddr => '127.0.0.1', LocalPort => $ARGV[0], ReuseAddr => 1) or die $!;
while (my $c = $listener->accept)
{
	next if fork;
	my $head = '';
	while ($head !~ /\r\n\r\n/) { sysread($c, $head, 1, length $head) or exit }
	if ($head =~ /^Upgrade: websocket/mi)
	{
		print $c "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
		syswrite $c, "\x81\x05hello";
		sysread $c, $head, 1;
	}
	print $c "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nSet-Cookie: mine=1\r\nContent-Length: " . length($head) . "\r\n\r\n$head";
	exit;
}
APP
my ($port, $web) = map { Coder::Gateway::free_port() } 1, 2;
my $base64 = encode_base64($app, '');
my $main = <<"HCL";
terraform { required_providers { coder = { source = "coder/coder" } } }
data "coder_provisioner" "me" {}
data "coder_workspace" "me" {}
resource "coder_agent" "main" {
  os   = "linux"
  arch = data.coder_provisioner.me.arch
  startup_script = <<-EOT
    echo $base64 | base64 -d > "\$HOME/app.pl"
    for port in $port $web; do setsid perl "\$HOME/app.pl" \$port > /dev/null 2>&1 < /dev/null & done
  EOT
}
resource "coder_app" "web" {
  agent_id  = coder_agent.main.id
  slug      = "web"
  url       = "http://localhost:$web/base?first=1"
  subdomain = true
}
resource "coder_app" "all" {
  agent_id  = coder_agent.main.id
  slug      = "all"
  url       = "http://localhost:$web"
  subdomain = true
  share     = "authenticated"
}
resource "coder_app" "open" {
  agent_id  = coder_agent.main.id
  slug      = "open"
  url       = "http://localhost:$web"
  subdomain = true
  share     = "public"
}
resource "sandbox_process" "workspace" {
  count       = data.coder_workspace.me.start_count
  agent_token = coder_agent.main.token
}
HCL

my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $own = Coder::Gateway::free_port();
my $gateway = Coder::Gateway->start(port => $own, env => { %{ Coder::Provisioning::env($dir) },
	CODER_AGENT_BINARY => Coder::Provisioning::coder(), CODER_WILDCARD_ACCESS_URL => '*.apps.example.com' });
my $p = Coder::Provisioning->new($gateway);
my $owner = $p->{client};
my $version = $p->import('apps', { 'main.tf' => $main });
is($version->{status}, 'succeeded', 'a template with apps') or BAIL_OUT($version->{error});
my ($ws, $build) = $p->create($p->template('apps', $version), 'dev');
is($build->{status}, 'succeeded', 'its workspace starts') or BAIL_OUT($build->{error});

# A request to a host: (status, head of the answer, body).  No client library would connect elsewhere than to the host.
sub ask
{
	my ($host, $path, %args) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$own") or die;
	my $body = $args{body} // '';
	my $method = $args{method} // 'GET';

	print $socket "$method $path HTTP/1.1\r\nHost: $host\r\nConnection: close\r\n" . ($args{cookie} ? "Cookie: $args{cookie}\r\n" : '')
	  . ($args{token} ? "Coder-Session-Token: $args{token}\r\n" : '') . (length $body ? 'Content-Length: ' . length($body) . "\r\n" : '') . "\r\n$body";
	my $answer = do { local $/; <$socket> } // '';
	my ($head, $rest) = split /\r\n\r\n/, $answer, 2;
	my ($status) = ($head // '') =~ m{^HTTP/1.1 (\d+)};
	return ($status // 0, $head // '', $rest // '');
}
sub location { my ($head) = @_; return $head =~ /^location: (\S+)\r?$/mi ? $1 : '' }
sub host { return "$_[0].apps.example.com:$own" }
# From an app's host to the dashboard and back, as a browser goes: the cookie.
sub sign_in
{
	my ($host, $path, $token) = @_;
	my (undef, $head) = ask($host, $path);
	my $there = location($head);
	(my $status, $head) = ask("127.0.0.1:$own", $there =~ s{^http://[^/]+}{}r, cookie => "coder_session_token=$token");
	my $back = location($head);
	($status, $head) = ask($back =~ m{^http://([^/]+)(/.*)$});
	my ($cookie) = $head =~ /^set-cookie: (coder_subdomain_app_session_token_[0-9a-f]{32}=[^;\r]+)/mi;
	return ($cookie, $there, $back, location($head), $head);
}

is($owner->get('/api/v2/applications/host')->{host}, "*.apps.example.com:$own", 'the wildcard host is told');
my ($its) = map { $_->{subdomain_name} } grep { $_->{slug} eq 'web' } map { @{ $_->{apps} } } map { @{ $_->{agents} // [] } } @{ $owner->get("/api/v2/workspaces/$ws->{id}")->{latest_build}{resources} };
is($its, 'web--dev--admin', 'an app has its name there');
ok($gateway->wait_for(20, sub { (ask(host('open--dev--admin'), '/'))[0] == 200 }), 'a public app is open to anybody')
  or diag join '|', ask(host('open--dev--admin'), '/');

# Signing in.
my ($status, $head, $body) = ask(host($its), '/deep/path?x=1&y=a%20b');
is($status, 303, 'without a session one is sent');
like(location($head), qr{^http://127\.0\.0\.1:$own/api/v2/applications/auth-redirect\?redirect_uri=http%3A%2F%2Fweb--dev--admin\.apps\.example\.com}, 'to the dashboard');
($status, $head) = ask("127.0.0.1:$own", location($head) =~ s{^http://[^/]+}{}r);
like(location($head), qr{^/login\?.*redirect=%2Fapi%2Fv2%2Fapplications%2Fauth-redirect}, 'which asks to sign in who has not');
my ($cookie, undef, $back, $final, $set) = sign_in(host($its), '/deep/path?x=1', $gateway->{token});
ok($cookie, 'who has gets a cookie of the apps') or diag $set;
like($set, qr/^set-cookie: [^\r]*Domain=\.apps\.example\.com[^\r]*HttpOnly/mi, 'for all their hosts');
is($final, 'http://' . host($its) . '/deep/path?x=1', 'and is where it wanted to be');
($status, $head, $body) = ask(host($its), '/deep/path?x=1', cookie => "theirs=2; $cookie");
is($status, 200, 'the app opens');
like($body, qr{^GET /base/deep/path\?x=1 HTTP/1\.1\r\n}, 'below the path of its URL');
like($body, qr/^Cookie: theirs=2\r$/m, 'the session is not shown to it');
like($body, qr/^X-Forwarded-Host: web--dev--admin\.apps\.example\.com:$own\r$/m, 'but its host is');
($status, $head) = ask(host($its), '/', cookie => $cookie);
is("$status " . location($head), '307 /?first=1', "the query of the app's URL");
($status, $head, $body) = ask(host($its), '/api/v2/users/me', cookie => $cookie, method => 'POST', body => 'x=1');
like($body, qr{^POST /base/api/v2/users/me }, "every path is the app's");
($status, $head, $body) = ask(host($its), '/healthz', token => $gateway->{token});
is($status, 200, 'a token in a header is good as well');
unlike($body, qr/$gateway->{token}/, 'and not shown either');
my $ws_client = Coder::WebSocket->open($gateway->url, '/ws', headers => { Host => host($its), Cookie => $cookie });
is($ws_client ? $ws_client->message(5) : $@, 'hello', 'WebSockets pass');

# The session of apps is good for apps only.
my ($key) = $cookie =~ /=(.*)/;
is(($gateway->client($key)->post('/api/v2/users/me/keys'))[0], 404, 'the key of apps makes no other keys');
is(($gateway->client($key)->post("/api/v2/workspaces/$ws->{id}/builds", { transition => 'stop' }))[0], 404, 'and stops no workspace');
is((ask(host($its), '/deep', cookie => "coder_session_token=$gateway->{token}"))[0], 303, "a dashboard's cookie is none here");

is((ask(host($its), '/deep', cookie => $cookie =~ s/.$/~/r))[0], 303, 'who has a bad cookie signs in again');

# The way back is good for one host, and for a minute.
my ($query) = $back =~ /\?(.*)/;
is((ask(host('all--dev--admin'), "/?$query"))[0], 400, 'a token is for its host only');
is((ask(host($its), '/?coder_application_connect_api_key_35e783=eyJhbGciOiJub25lIn0.e30.'))[0], 400, 'nonsense is none');
for my $bad ([ 'http://evil.example.com/', 400 ], [ 'http://x.apps.example.com.evil.com/', 400 ], [ 'http://x.apps.example.com@evil.com/', 400 ], [ 'javascript:alert(1)', 400 ],
	[ '', 400 ], [ "http://127.0.0.1:$own/", 400 ], [ '//x.apps.example.com/', 400 ], [ 'http://x.apps.example.com\\@evil.com/', 400 ])
{
	my ($code, $answer) = $owner->get('/api/v2/applications/auth-redirect?redirect_uri=' . ($bad->[0] =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ger));
	is($code, $bad->[1], "not back to \"$bad->[0]\"");
}

# Who may see what.
$owner->post('/api/v2/users', { username => 'bob', email => 'bob@example.com', password => 'SomeSecurePassword!', organization_ids => [ $p->{organization} ] });
my $bob = $gateway->login('bob@example.com', 'SomeSecurePassword!');
my ($bobs) = sign_in(host($its), '/', $bob->{token});
ok($bobs, 'another user has a session');
is((ask(host($its), '/deep', cookie => $bobs))[0], 404, "but not another's app");
is((ask(host('all--dev--admin'), '/', cookie => $bobs))[0], 200, 'only what is shared');
is((ask(host("$port--main--dev--admin"), '/', cookie => $bobs))[0], 404, 'nor a port');
is((ask(host("$port--main--dev--admin"), '/', cookie => $cookie))[0], 200, 'which its owner sees');
is((ask(host("$port--main--dev--admin"), '/'))[0], 303, 'and nobody else');
is(($owner->post("/api/v2/workspaces/$ws->{id}/port-share", { agent_name => 'main', port => $port, share_level => 'authenticated', protocol => 'http' }))[0], 200, 'a port is shared');
is((ask(host("$port--main--dev--admin"), '/', cookie => $bobs))[0], 200, 'with all who are signed in');
is((ask(host('8--main--dev--admin'), '/', cookie => $cookie))[0], 400, "the agent's own ports are not to be had");
is((ask(host($_), '/', cookie => $cookie))[0], 404, "no app: $_") for qw(web web--dev none--dev--admin web--none--admin web--dev--nobody a--b--c--d--e web--other--dev--admin);
is((ask(host('PREFIX---WEB--Dev--Admin'), '/deep', cookie => $cookie))[0], 200, 'names in any case, and a prefix');

# Pages of one app that ask another.
sub cross
{
	my ($from, $to, $method, @headers) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$own") or die;
	print $socket join("\r\n", "$method / HTTP/1.1", "Host: $to", "Origin: http://$from", 'Connection: close', @headers, '', '');
	my $answer = do { local $/; <$socket> };
	return ($answer =~ m{^HTTP/1.1 (\d+)}, [ sort map { lc } $answer =~ /^(access-control-[^\r]+)/gmi ]);
}
my ($all, $open) = (host('all--dev--admin'), host('open--dev--admin'));
my ($code, $cors) = cross($all, host($its), 'OPTIONS', 'Access-Control-Request-Method: PUT', 'Access-Control-Request-Headers: X-One, x-two');
is($code, 204, "a page may ask another app of its user");
is_deeply($cors, [ 'access-control-allow-credentials: true', 'access-control-allow-headers: x-one, x-two',
	'access-control-allow-methods: get, head, post, put, patch, delete, options', "access-control-allow-origin: http://$all" ], 'in any way');
($code, $cors) = cross($all, $open, 'GET', "Cookie: $cookie");
is_deeply([ $code, $cors ], [ 200, [ 'access-control-allow-credentials: true', "access-control-allow-origin: http://$all" ] ], 'and read the answer');
($code, $cors) = cross(host('web--dev--bob'), $all, 'POST', "Cookie: $cookie", 'Content-Length: 0');
is_deeply([ $code, $cors ], [ 403, [] ], "another user's page may not act for who opens it");
($code, $cors) = cross(host('web--dev--bob'), $open, 'GET', "Cookie: $cookie");
is_deeply([ $code, $cors ], [ 200, [] ], 'only at a public app, whose answer it cannot read');
is_deeply([ (cross('elsewhere.example', host($its), 'OPTIONS', 'Access-Control-Request-Method: PUT'))[0] ], [ 303 ], 'other sites are not answered for the app');

# The dashboard's host does not serve them.
is((ask("127.0.0.1:$own", '/.app-host/web--dev--admin', cookie => "coder_session_token=$gateway->{token}"))[2] =~ /^GET /, '', 'not by the path of the route');
like((ask("127.0.0.1:$own", '/healthz'))[2], qr/OK/i, 'it is as it was');
($status, $head) = ask(host('coder-logout'), '/');
like($head, qr/^set-cookie: coder_subdomain_app_session_token_[0-9a-f]{32}=; .*Max-Age=0/mi, 'coder-logout ends the session');
done_testing;
