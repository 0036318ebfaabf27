# Malformed, oversize, truncated and slow HTTP costs the sender its connection, and nobody else anything.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use IO::Select;
use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(time sleep);

my $gateway = Coder::Gateway->start(args => ['--max-connections-per-address', 60]);
my $client = $gateway->client;

# The answer to raw bytes; undef where the connection is closed without one.
sub raw
{
	my ($bytes, $seconds) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$gateway->{port}") or return;
	my $answer = '';

	local $SIG{PIPE} = 'IGNORE';
	$socket->syswrite($bytes);
	$socket->shutdown(1);
	while (IO::Select->new($socket)->can_read($seconds // 5))
	{
		last unless $socket->sysread($answer, 65536, length $answer);
	}
	return $answer;
}

sub status { my ($answer) = raw(@_) =~ m{^HTTP/1\.[01] (\d+)}; return $answer // 'closed' }

my @cases = (
	["GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200, 'a good request'],
	["\r\n\r\n\0\0\0", qr/^(400|closed)$/, 'rubbish'],
	["GET\r\n\r\n", qr/^(400|closed)$/, 'a request line of one word'],
	["GET / HTTP/9.9\r\n\r\n", qr/^(400|505|closed|200|404)$/, 'a version of its own'],
	["GET /healthz HTTP/1.1\r\nHost: x\r\nNo colon here\r\n\r\n", qr/^(400|closed)$/, 'a header without a colon'],
	["GET /healthz HTTP/1.1\r\n" . join('', map { "H$_: v\r\n" } 1 .. 200) . "\r\n", qr/^(400|closed)$/, '200 headers'],
	["GET /healthz HTTP/1.1\r\nHost: x\r\nA: " . 'a' x 500_000 . "\r\n\r\n", qr/^(400|closed)$/, 'a header of 500 kB'],
	["POST /api/v2/users/login HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n", qr/^(400|413|closed)$/, 'a body that is announced too big'],
	["POST /api/v2/users/login HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n", qr/^(400|closed)$/, 'a length that is no number'],
	["POST /api/v2/users/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", qr/^(400|closed)$/, 'a malformed chunk'],
	["GET /api/v2/users/%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400, 'a malformed percent sign'],
	["GET /api/v2/users/%00 HTTP/1.1\r\nHost: x\r\n\r\n", 400, 'a NUL in the path'],
	["GET /api/v2/nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404, 'an unknown route'],
	["GET //api///v2/users/first HTTP/1.1\r\nHost: x\r\n\r\n", 404, 'runs of slashes are one (the first user is not there)'],
	["BREW /api/v2/users/first HTTP/1.1\r\nHost: x\r\n\r\n", 405, 'an unknown method'],
	["GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", qr/^(200|400|404)$/, 'a path out of the folder'],
	["GET /assets/%2e%2e/%2e%2e/package.json HTTP/1.1\r\nHost: x\r\n\r\n", 404, 'and one with escapes'],
	["GET /api/v2/users/me HTTP/1.1\r\nHost: x\r\nCoder-Session-Token: " . "\xff\xfe" x 40 . "\r\n\r\n", 401, 'a token of any bytes'],
	["GET /api/v2/users/me?q=\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", qr/^(400|401)$/, 'a query of any bytes'],
);
for my $case (@cases)
{
	like(status($case->[0]), ref $case->[1] ? $case->[1] : qr/^$case->[1]$/, $case->[2]);
}
my $whole = "POST /api/v2/users/login HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n" . '{"email":"x"}';
my $bad = 0;
for my $cut (1 .. length($whole) - 1)
{
	my $answer = status(substr($whole, 0, $cut), 2);
	$bad++ if $answer =~ /^[25]/;
}
is($bad, 0, 'every truncation is refused');

my ($status, $body, $headers) = $client->get('/api/v2/nowhere');
is($body->{message}, 'Route not found.', 'the message for an unknown route');
ok(!exists $body->{detail}, 'without a detail');
like($headers->{'x-coder-build-version'}, qr/^v\d/, 'the version is on errors too');
like($headers->{'x-coder-request-id'}, qr/^[0-9a-f-]{36}$/, 'and the request id');
($status, $body, $headers) = $client->request('HEAD', '/healthz');
is($status, 200, 'HEAD');
is($body // '', '', 'has no body');
is($headers->{'content-length'}, 2, 'but its length');

# CSRF: a cookie alone may not change anything.
my $owner = $gateway->first_user;
my $page = $gateway->client;
my $cookie = "coder_session_token=$gateway->{token}";
($status, $body) = $page->post('/api/v2/users/logout', {}, Cookie => $cookie);
is($status, 400, 'a change with the cookie alone is refused');
like($body, qr/CSRF token/, 'for its CSRF token');
is(($page->get('/api/v2/users/me', undef, Cookie => $cookie))[0], 200, 'reading is allowed');
is(($page->post('/api/v2/users/me/nothing', {}, Cookie => $cookie, 'X-CSRF-TOKEN' => 'x'))[0], 400, 'a wrong token does not help');
my $csrf = 'MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=';
is(($page->post('/api/v2/users/me/nothing', {}, Cookie => "$cookie; csrf_token=$csrf", 'X-CSRF-TOKEN' => $csrf))[0], 404,
	'the token of the cookie does');
is(($page->post('/api/v2/users/me/nothing', {}, Cookie => $cookie, 'Coder-Session-Token' => $gateway->{token}))[0], 404,
	'and so does the session in a header');

# Rate limits: 60 sign-ins a minute.
my %seen;
for (1 .. 70)
{
	my ($code, $answer, $head) = $client->post('/api/v2/users/login', { email => 'a@b.co', password => 'x' });
	$seen{$code}++;
	if ($code == 429)
	{
		like($answer->{message}, qr/more than 60 requests in 1m0s/, 'the limit is told') if $seen{429} == 1;
		cmp_ok($head->{'retry-after'}, '<=', 60, 'and when to come back') if $seen{429} == 1;
	}
}
ok($seen{429}, 'sign-ins are limited');

# A client that sends a byte now and then loses its connection; meanwhile others are served.
my @slow = map { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$gateway->{port}") } 1 .. 40;
$_->syswrite("GET /healthz HTTP/1.1\r\nHost: x\r\n") for @slow;
my $began = time;
my %open = map { $_ => $_ } @slow;
while (%open && time - $began < 20)
{
	local $SIG{PIPE} = 'IGNORE';
	is((Coder::Client->new(url => $gateway->url)->get('/healthz'))[0], 200, 'others are served') if int(time - $began) == 3 && !$seen{other}++;
	for my $socket (values %open)
	{
		my $got;
		$socket->blocking(0);
		$socket->syswrite('X');
		$got = $socket->sysread(my $bytes, 1000);
		delete $open{$socket} if defined $got;
	}
	sleep 0.5;
}
is(scalar(keys %open), 0, 'slow headers are cut off') or diag scalar(keys %open), ' left';
cmp_ok(time - $began, '<', 16, 'after about ten seconds');

# Connections of one address are limited, and come back.
my @many = map { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$gateway->{port}") } 1 .. 80;
sleep 0.2;
my $closed = grep { $_->blocking(0); defined $_->sysread(my $x, 1) } @many;
cmp_ok($closed, '>=', 15, 'more connections than allowed are closed at once');
@many = ();
ok($gateway->wait_for(5, sub { ($gateway->client->get('/healthz'))[0] == 200 }), 'and there is room again afterwards');
is($gateway->stop, 0, 'the server is still in order');
done_testing();
