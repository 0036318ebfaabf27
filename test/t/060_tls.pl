# TLS by flag: the API, the relay, agents and clients over HTTPS; what is not trusted or not readable is said clearly.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Processes qw(slurp);
use Coder::Provisioning ();
use Coder::WebSocket;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use JSON::PP qw(decode_json);
use Test::More;

my $root = abs_path(dirname(__FILE__) . '/../..');
my $coder = $ENV{CODER_BINARY} // "$root/agent/coder";
my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
chmod 0755, $dir;
delete @ENV{qw(SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE)};

sub certificate
{
	my ($name, $names) = @_;
	system("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test "
		  . "-addext subjectAltName=$names -keyout $dir/$name.key -out $dir/$name.pem 2>/dev/null") == 0 or die 'openssl';
	return ("$dir/$name.pem", "$dir/$name.key");
}
my ($cert, $key) = certificate('good', 'IP:127.0.0.1,DNS:localhost');
my ($foreign, $foreign_key) = certificate('foreign', 'DNS:other.example');

# What a command prints, and its exit status.
sub run
{
	my ($env, @command) = @_;
	my $pid = open(my $out, '-|') // die;
	if ($pid == 0)
	{
		delete @ENV{ grep { /^CODER_/ } keys %ENV };
		%ENV = (%ENV, %$env);
		open STDERR, '>&', \*STDOUT;
		open STDIN, '<', '/dev/null';
		exec @command or POSIX::_exit(127);
	}
	my $text = join '', <$out>;
	close $out;
	return ($text, $? >> 8);
}

# Settings that cannot work end the start with a message.
sub refuses
{
	my ($what, $re, %env) = @_;
	my $gateway = Coder::Gateway->start(env => { CODER_TLS_ENABLE => 'true', %env }, wait => -1);
	ok(!eval { $gateway->up; 1 }, "$what ends the start");
	like($gateway->log, $re, '  and the message says why');
	return;
}
refuses('no certificate', qr/--tls-enable needs --tls-cert-file and --tls-key-file/);
refuses('a certificate that is not there', qr{could not read the certificate in \Q$dir\E/none.pem},
	CODER_TLS_CERT_FILE => "$dir/none.pem", CODER_TLS_KEY_FILE => $key);
refuses('a key that is not there', qr{private key in \Q$dir\E/none.key cannot be read},
	CODER_TLS_CERT_FILE => $cert, CODER_TLS_KEY_FILE => "$dir/none.key");
refuses('the key of another certificate', qr/is not the certificate's/,
	CODER_TLS_CERT_FILE => $cert, CODER_TLS_KEY_FILE => $foreign_key);
refuses('text in place of a certificate', qr/could not read the certificate/, CODER_TLS_CERT_FILE => $0, CODER_TLS_KEY_FILE => $key);

# HTTPS alone: no port for plain HTTP.
my $port = Coder::Gateway::free_port();
my $url = "https://127.0.0.1:$port";
my $gateway = Coder::Gateway->start(
	port => $port, wait => -1,
	env => { %{ Coder::Provisioning::env($dir) }, CODER_AGENT_BINARY => $coder, CODER_HTTP_ADDRESS => '', CODER_TLS_ENABLE => 'true',
		CODER_TLS_ADDRESS => "127.0.0.1:$port", CODER_TLS_CERT_FILE => $cert, CODER_TLS_KEY_FILE => $key, SSL_CERT_FILE => $cert });
{
	# The server answers on TLS only, so curl asks whether it is up.
	no warnings 'redefine';
	local *Coder::Client::get = sub { return ((run({}, 'curl', '-sko', '/dev/null', '-w', '%{http_code}', "$url/healthz"))[0]) };
	$gateway->up;
}
like($gateway->log, qr/\Q$url\E/, 'the address that is printed is the one of HTTPS');
my ($text, $status) = run({}, 'curl', '-sS', "$url/healthz");
isnt($status, 0, 'curl does not trust the certificate');
($text, $status) = run({}, 'curl', '-sS', '--cacert', $cert, '-w', '|%{http_code}|%{ssl_verify_result}', "$url/healthz");
like($text, qr/\|200\|0$/, 'it does where it knows it');
($text) = run({}, 'curl', '-sS', "http://127.0.0.1:$port/healthz");
unlike($text, qr/^OK/, 'plain HTTP on the port of HTTPS is not served');
($text) = run({}, 'openssl', 's_client', '-connect', "127.0.0.1:$port", '-tls1_1', '-cipher', 'DEFAULT@SECLEVEL=0');
like($text, qr/Cipher is \(NONE\)|no protocols available/, 'nor is TLS 1.1');

# The client: first user, template, workspace.
my %home = (HOME => "$dir/home", CODER_CONFIG_DIR => "$dir/client");
mkdir "$dir/home";
my @first = ('--first-user-username', 'admin', '--first-user-email', 'admin@example.com', '--first-user-password', 'SomeSecurePassword!');
($text, $status) = run(\%home, $coder, 'login', $url, @first);
isnt($status, 0, 'the client refuses a certificate it does not know');
like($text, qr/certificate of 127\.0\.0\.1 is not trusted: self.signed certificate/, 'and says so');
($text, $status) = run({ %home, SSL_CERT_FILE => $foreign }, $coder, 'login', $url, @first);
like($text, qr/certificate of 127\.0\.0\.1 is not trusted/, 'another root does not help');
$home{SSL_CERT_FILE} = $cert;
($text, $status) = run(\%home, $coder, 'login', $url, @first);
is($status, 0, 'with SSL_CERT_FILE it signs in') or diag $text;
($text) = run(\%home, $coder, 'whoami');
like($text, qr/admin/, 'and is somebody');

SKIP:
{
	my $why = Coder::Provisioning::no_sandbox();
	skip $why, 7 if $why;

	($text, $status) = run(\%home, $coder, 'templates', 'push', 'starter', '-d', "$root/gateway/provisioner/starter", '-y');
	is($status, 0, 'a template is pushed over TLS') or diag $text;
	($text, $status) = run(\%home, $coder, 'create', 'dev', '--template', 'starter', '-y');
	is($status, 0, 'a workspace is created') or diag $text;
	($text, $status) = run(\%home, 'timeout', 20, $coder, 'ssh', 'dev', '--', 'echo there; exit 3');
	is("$status $text", "3 there\n", 'ssh goes through the relay over TLS');
	($text, $status) = run(\%home, 'timeout', 20, $coder, 'ssh', 'dev', '--', 'head -c 20000000 /dev/zero | tee /dev/stderr | sha256sum');
	is("$status " . length $text, '0 ' . (20_000_000 + 68), 'so do 20 MB');
	($text, $status) = run({ %home, SSL_CERT_FILE => $foreign }, 'timeout', 20, $coder, 'ssh', 'dev', '--', 'true');
	like($text, qr/certificate of 127\.0\.0\.1 is not trusted/, 'and not to who does not trust it');

	# A browser's terminal: the server itself is a client of its relay.
	my $agent = $gateway->sql('SELECT id FROM coder.workspace_agents ORDER BY created_at DESC LIMIT 1');
	my $terminal = Coder::WebSocket->open($url,
		"/api/v2/workspaceagents/$agent/pty?reconnect=22222222-2222-2222-2222-222222222222&width=80&height=24&command=" . 'echo%20my%20$((40%2B2))',
		token => slurp("$dir/client/session"), ca => $cert);
	ok($terminal, 'a terminal opens over TLS') or diag $@;
	my $screen = '';
	while (defined(my $more = $terminal->message(15))) { $screen .= $more; last if $screen =~ /my 42/ }
	like($screen, qr/my 42/, 'and shows what its command prints');
}

# An agent that does not trust the server.
my $pid = open(my $agent, '-|') // die;
if ($pid == 0)
{
	open STDERR, '>&', \*STDOUT;
	%ENV = (PATH => $ENV{PATH}, HOME => "$dir/home", CODER_AGENT_URL => $url, CODER_AGENT_TOKEN => '11111111-1111-1111-1111-111111111111',
		CODER_AGENT_LOG_DIR => $dir);
	exec $coder, 'agent' or POSIX::_exit(127);
}
my $said = '';
eval { local $SIG{ALRM} = sub { die }; alarm 15; while (my $line = <$agent>) { $said .= $line; last if $said =~ /certificate/ } alarm 0 };
like($said, qr/certificate of 127\.0\.0\.1 is not trusted: self.signed/, 'an agent says that it does not trust the server');
kill 'KILL', $pid;
close $agent;
is($gateway->stop, 0, 'the server ends well');
done_testing();
