# Requests that functions ask the gateway to make: results, limits, loops, a client that leaves, and that nothing waits meanwhile.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::HttpDouble;
use File::Temp qw(tempdir);
use IO::Socket::INET;
use JSON::PP qw(encode_json);
use Test::More;
use Time::HiRes qw(time);

my $double = Coder::HttpDouble->start(sub {
	my ($request, $mode, $client) = @_;
	if ($request->{path} eq '/echo') { return (201, { 'X-One' => 1 }, $request) }
	if ($request->{path} eq '/binary') { return (200, {}, "\0\x01\xff") }
	if ($request->{path} eq '/redirect') { return (302, { Location => '/echo' }, '') }
	if ($request->{path} eq '/big') { return (200, {}, 'x' x 200_000) }
	if ($request->{path} eq '/hang') { sysread $client, my $byte, 1; return }
	if ($request->{path} eq '/endless')
	{
		syswrite $client, "HTTP/1.1 200 OK\r\n\r\n";
		while (syswrite $client, 'x' x 65536) { }
		return;
	}
	if ($request->{path} eq '/head')
	{
		syswrite $client, "HTTP/1.1 200 OK\r\n";
		for my $i (1 .. 5000) { syswrite $client, "X-$i: " . 'v' x 100 . "\r\n" or last }
		return;
	}
	if ($request->{path} eq '/nonsense') { syswrite $client, "no HTTP at all\r\n\r\n"; return }
	return (404, {}, 'none');
});

# Two servers with certificates for 127.0.0.1, of which one is trusted.
my $dir = tempdir('coder-tls-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my (@tls, @children);
for my $name (qw(trusted other))
{
	system("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=$name -addext subjectAltName=IP:127.0.0.1 "
		. "-keyout $dir/$name.key -out $dir/$name.pem 2> /dev/null") == 0 or die 'openssl';
	push @tls, Coder::Gateway::free_port();
	my $pid = fork // die $!;
	if ($pid == 0)
	{
		open STDOUT, '>', '/dev/null';
		open STDERR, '>', '/dev/null';
		exec 'openssl', 's_server', '-accept', "127.0.0.1:$tls[-1]", '-www', '-quiet', '-cert', "$dir/$name.pem", '-key', "$dir/$name.key";
	}
	push @children, $pid;
}
END { my $status = $?; kill 'KILL', @children; waitpid $_, 0 for @children; $? = $status }

my $closed = Coder::Gateway::free_port();
my $gateway = Coder::Gateway->start(env => { CODER_EVENT_LOOPS => 1, CODER_OUTBOUND_CA_FILE => "$dir/trusted.pem", CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' });

# GET: one round with the requests in the query; the answer is what came of them.
$gateway->sql(<<'SQL');
CREATE FUNCTION coder.test_fetch(req coder.request) RETURNS coder.response LANGUAGE plpgsql AS $$
BEGIN
	RETURN coder.fetch('test_fetched', jsonb_build_object('left', (req.query->>'rounds')::int, 'seen', '[]'::jsonb),
		VARIADIC ARRAY(SELECT jsonb_array_elements((req.query->>'requests')::jsonb)));
END $$;
CREATE FUNCTION coder.test_fetched(req coder.request) RETURNS coder.response LANGUAGE plpgsql AS $$
DECLARE
	state jsonb;
	results jsonb;
BEGIN
	SELECT f.state, f.results INTO state, results FROM coder.fetched(req) f;
	IF (state->>'left')::int > 1 THEN
		RETURN coder.fetch('test_fetched', jsonb_set(state, '{left}', to_jsonb((state->>'left')::int - 1)),
			VARIADIC ARRAY(SELECT jsonb_array_elements((req.query->>'requests')::jsonb)));
	ELSIF req.query ? 'fail' THEN
		PERFORM coder.raise(409, 'No.');
	END IF;
	RETURN coder.reply(200, results);
END $$;
CREATE FUNCTION coder.test_wait(req coder.request) RETURNS coder.response LANGUAGE plpgsql AS $$
BEGIN
	IF req.cursor IS NOT NULL AND (coder.fetched(req)).state = '12' THEN
		RETURN coder.reply(200, (coder.fetched(req)).state);
	END IF;
	RETURN coder.wait('test_wait', CASE WHEN req.cursor IS NULL THEN '1' ELSE to_jsonb(((coder.fetched(req)).state)::int + 1) END, 50);
END $$;
CREATE FUNCTION coder.test_malformed(req coder.request) RETURNS coder.response LANGUAGE plpgsql AS $$
BEGIN
	RETURN coder.reply(102, '{"requests": [{"url": "file:///etc/passwd"}], "continue": "test_fetched"}'::jsonb);
END $$;
CREATE FUNCTION coder.test_nowhere(req coder.request) RETURNS coder.response LANGUAGE plpgsql AS $$
BEGIN
	RETURN coder.fetch('test_no_such_function', '{}', coder.fetch_get(req.query->>'url'));
END $$;
INSERT INTO coder.routes (area, method, pattern, function, auth) VALUES
	('test', 'GET', '/api/v2/test-fetch', 'test_fetch', 'none'), ('test', 'GET', '/api/v2/test-wait', 'test_wait', 'none'), ('test', 'GET', '/api/v2/test-malformed', 'test_malformed', 'none'),
	('test', 'GET', '/api/v2/test-nowhere', 'test_nowhere', 'none');
SQL
my $client = $gateway->client;
ok($gateway->wait_for(5, sub { ($client->post('/api/v2/test-fetch'))[0] == 405 }), 'the routes are known');

sub escape { my ($text) = @_; $text =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ge; return $text }
sub path { my ($requests, $rounds, $more) = @_; return '/api/v2/test-fetch?rounds=' . ($rounds // 1) . ($more // '') . '&requests=' . escape(encode_json($requests)) }
sub fetch { return $client->get(path(@_)) }
sub to { my ($path, %more) = @_; return { url => $double->url . $path, %more } }

my ($status, $results) = fetch([ to('/echo?a=1', method => 'POST', body => 'k=v', headers => { 'X-Test' => 'yes' }), to('/binary'), to('/none') ]);
is($status, 200, 'three requests at once');
is($results->[0]{status}, 201, 'the first has its status');
is($results->[0]{headers}{'x-one'}, 1, 'and its headers');
my $echo = JSON::PP::decode_json($results->[0]{body});
is_deeply([ @$echo{qw(method body)}, $echo->{query}{a}, $echo->{headers}{'x-test'} ], [ 'POST', 'k=v', 1, 'yes' ], 'what was sent arrived');
is($results->[1]{body_base64}, 'AAH/', 'a body that is no text comes in base64');
is($results->[2]{status}, 404, 'any status is a result');

$echo = JSON::PP::decode_json((fetch([ to('/echo', method => 'PUT') ]))[1][0]{body});
is_deeply([ $echo->{method}, $echo->{headers}{'content-length'} ], [ 'PUT', 0 ], 'one that could have a body says that it has none');

my ($hop) = @{ (fetch([ to('/redirect') ]))[1] };
is($hop->{status}, 302, 'no redirect is followed');
is($hop->{headers}{location}, '/echo', 'but told');

ok($gateway->wait_for(5, sub { (fetch([ { url => "https://127.0.0.1:$tls[0]/" } ]))[1][0]{status} == 200 }), 'a certificate of the CA file is trusted');
ok($gateway->wait_for(5, sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $tls[1]) }), 'another server listens');
is((fetch([ { url => "https://127.0.0.1:$tls[1]/" } ]))[1][0]{error}, 'tls', 'another certificate is not');
is((fetch([ { url => "https://localhost:$tls[0]/" } ]))[1][0]{error}, 'tls', 'nor one of another name');

my $began = time;
(undef, $results) = fetch([
	to('/hang', timeout_ms => 500), to('/big', max_size => 100_000), to('/endless', max_size => 100_000), to('/head'), to('/nonsense'),
	{ url => "http://127.0.0.1:$closed/" }, { url => 'http://no-such-host.invalid/' }
]);
my @errors = map { $_->{error} } @$results;
is($errors[0], 'timeout', 'a server that hangs ends in time');
is($errors[1], 'too_large', 'a long body is refused');
is($errors[2], 'too_large', 'one without an end too');
is($errors[3], 'too_large', 'and a long head');
is($errors[4], 'protocol', 'what is no HTTP');
is($errors[5], 'connect', 'nobody there');
is($errors[6], 'resolve', 'no such host');
cmp_ok(time - $began, '<', 8, 'all within the time');

is((fetch([ to('/echo') ], 8))[0], 200, 'eight rounds are allowed');
is((fetch([ to('/echo') ], 9))[0], 500, 'nine are not');
is((fetch([ to('/echo') ], 1, '&fail=1'))[0], 409, 'the next part may fail as any function');
is(($client->get('/api/v2/test-malformed'))[0], 500, 'a malformed plan is refused');
is(($client->get('/api/v2/test-nowhere?url=' . escape($double->url . '/echo')))[0], 500, 'so is one that nothing goes on with');
like($gateway->log, qr/outbound requests refused: the URL is neither http nor https/, 'and logged');

$began = time;
is(($client->get('/api/v2/test-wait'))[1], 12, 'a function may wait, more often than it may fetch');
cmp_ok(time - $began, '>', 0.5, 'and time goes by');

my ($answered) = $client->get('/metrics') =~ /^coder_gateway_outbound_total\{result="answered"\} (\d+)$/m;
my ($failed) = $client->get('/metrics') =~ /^coder_gateway_outbound_total\{result="failed"\} (\d+)$/m;
cmp_ok($answered, '>=', 20, 'the metrics count what was answered');
cmp_ok($failed, '>=', 9, 'and what failed');

# While many wait, others are served, and no transaction is open.
my @waiting = map {
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $gateway->{port}) or die $!;
	print $socket 'GET ' . path([ to('/hang', timeout_ms => 20_000) ]) . " HTTP/1.1\r\nHost: x\r\n\r\n";
	$socket;
} 1 .. 40;
ok($gateway->wait_for(10, sub { (grep { $_->{path} eq '/hang' } $double->requests) >= 30 }), 'many requests hang');
$began = time;
is(($client->get('/api/v2/buildinfo'))[0], 200, 'another is served');
cmp_ok(time - $began, '<', 1, 'at once');
is($gateway->sql(q{SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'}), 0, 'no transaction is open');
close $_ for @waiting;
ok($gateway->wait_for(10, sub { (fetch([ to('/echo', timeout_ms => 2000) ]))[1][0]{status} // 0 == 201 }), 'those who leave make room');

my $open = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $gateway->{port}) or die $!;
print $open 'GET ' . path([ to('/hang', timeout_ms => 60_000) ]) . " HTTP/1.1\r\nHost: x\r\n\r\n";
ok($gateway->wait_for(5, sub { (grep { $_->{path} eq '/hang' } $double->requests) >= 41 || ($double->requests)[-1]{path} eq '/hang' }), 'one more hangs');
$began = time;
is($gateway->stop, 0, 'the server stops meanwhile');
cmp_ok(time - $began, '<', 20, 'and does not wait for it');

done_testing;
