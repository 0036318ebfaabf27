# A client of the tailnet whose connection breaks is the same peer again; a token that is not good is refused.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Provisioning ();
use Coder::Proxy;
use Coder::WebSocket;
use IO::Select;
use JSON::PP ();
use File::Temp qw(tempdir);
use MIME::Base64 qw(decode_base64url);
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $why = Coder::Provisioning::no_sandbox();
my $gateway = Coder::Gateway->start(env => { %{ Coder::Provisioning::env($dir) }, CODER_AGENT_BINARY => Coder::Provisioning::coder() });
my $p = Coder::Provisioning->new($gateway);
my $owner = $p->{client};

sub packet { my ($kind, $message, $data) = @_; return pack('CCCC', $kind << 1 | 1, 1, $message, length $data) . $data }

# A token from a new connection, opened with query.
sub token
{
	my ($query) = @_;
	my $ws = Coder::WebSocket->open($gateway->url, "/api/v2/tailnet?version=2.3$query", token => $gateway->{token}) or die $@;
	my $call = packet(1, 1, '/coder.tailnet.v2.Tailnet/RefreshResumeToken') . packet(2, 2, '') . packet(6, 3, '');
	my $end = time + 10;
	my $bytes = '';

	$ws->send_frame(2, pack('CCnNN', 0, 1, 1, 1, 0) . pack('CCnNN', 0, 0, 0, 1, length $call) . $call);
	while (time < $end)
	{
		my ($opcode, $data) = $ws->frame(1);
		$bytes .= $data if defined $opcode && $opcode == 2;
		return $1 if $bytes =~ /(eyJ[\w-]+\.[\w-]+\.[\w-]{86})/;
	}
	die 'no token: ' . unpack 'H*', $bytes;
}
sub claims { my ($token) = @_; return JSON::PP::decode_json(decode_base64url((split /\./, $token)[1])) }

my $first = token('');
is(JSON::PP::decode_json(decode_base64url((split /\./, $first)[0]))->{alg}, 'HS512', 'a token comes');
cmp_ok(abs(claims($first)->{exp} - time - 86400), '<', 60, 'for a day');
isnt(claims(token(''))->{sub}, claims($first)->{sub}, 'each connection is a new peer');
is(claims(token("&resume_token=$first"))->{sub}, claims($first)->{sub}, 'but with the token the same one');
$gateway->restart('KILL');
is(claims(token("&resume_token=$first"))->{sub}, claims($first)->{sub}, 'also after a kill of the server');

for my $bad ([ 'a token that is none', 'nonsense' ], [ 'a wrong signature', substr($first, 0, -2) . (substr($first, -2) eq 'AA' ? 'BB' : 'AA') ])
{
	my ($status, $body) = $owner->get("/api/v2/tailnet?version=2.3&resume_token=$bad->[1]");
	is("$status $body->{message}", '401 Invalid resume token', $bad->[0]);
	is($body->{validations}[0]{field}, 'resume_token', '  names the parameter');
}

SKIP:
{
	skip $why, 4 if $why;
	my $template = $p->template('starter', $p->import('starter', Coder::Provisioning::starter()));
	my ($ws, $build) = $p->create($template, 'dev');
	is($build->{status}, 'succeeded', 'a workspace runs') or diag $build->{error};

	# Our client, whose connections break while a command runs.  The first attempt with a token is refused.
	my $flag = "$dir/refused";
	my $proxy = Coder::Proxy->start($gateway->url, rule => sub {
		my ($head) = @_;
		return $head unless $head =~ /resume_token=/ && !-e $flag;
		open my $file, '>', $flag;
		my $json = '{"message":"Invalid resume token","validations":[{"field":"resume_token","detail":"Invalid resume token"}]}';
		return { answer => "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nContent-Length: " . length($json) . "\r\n\r\n$json" };
	});
	my $pid = open(my $out, '-|') // die "fork: $!";
	if ($pid == 0)
	{
		delete @ENV{ grep { /^CODER_/ } keys %ENV };
		@ENV{qw(CODER_URL CODER_SESSION_TOKEN CODER_CONFIG_DIR)} = ($proxy->url, $gateway->{token}, "$dir/client");
		open STDIN, '<', '/dev/null';
		exec 'timeout', 40, Coder::Provisioning::coder(), 'ssh', 'dev', '--', 'echo one; while [ ! -e go ]; do sleep 0.1; done; echo two'
		  or POSIX::_exit(127);
	}
	is(scalar <$out>, "one\n", 'a command runs');
	my $coordinate = sub { return grep { m{/coordinate\?} } $proxy->heads };
	for my $round (1 .. 2)
	{
		# The token has come when a connection is this old: it was asked for at once.
		my $count = () = $coordinate->();
		select undef, undef, undef, 0.5;
		$proxy->cut;
		$gateway->wait_for(10, sub { (() = $coordinate->()) > $count + ($round == 1 ? 1 : 0) });
	}
	is(join(' ', map { /resume_token=/ ? 'token' : 'none' } $coordinate->()), 'none token none token',
		'it comes back with its token, and without where that is refused');
	$p->run_coder(qw(ssh dev -- touch go));
	is(scalar <$out>, "two\n", 'and the command goes on');
	close $out;
}
done_testing;
