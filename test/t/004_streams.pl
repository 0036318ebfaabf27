# Streams: events reach every watcher in order, none is missed, a revoked session ends, bad frames end only themselves.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::WebSocket;
use IO::Select;
use IO::Socket::INET;
use JSON::PP qw(decode_json);
use Test::More;
use Time::HiRes qw(time sleep);

my $gateway = Coder::Gateway->start(env => { CODER_EVENT_LOOPS => 2, CODER_DANGEROUS_DISABLE_RATE_LIMITS => 'true' });
my $owner = $gateway->first_user;

# A counter that each format watches, and a channel that is forwarded.
$gateway->sql(<<'SQL');
CREATE TABLE coder.test_counter (n int);
INSERT INTO coder.test_counter VALUES (0);
CREATE FUNCTION coder.test_watch(req coder.request) RETURNS coder.response LANGUAGE plpgsql AS $$
DECLARE v int;
BEGIN
	SELECT n INTO v FROM coder.test_counter;
	RETURN coder.reply(101, jsonb_build_object('format', req.params->>'format', 'channels', jsonb_build_array('test:counter'),
		'cursor', v::text, 'close', v < 0,
		'frames', CASE WHEN req.cursor IS NULL OR req.cursor::int <> v THEN jsonb_build_array(jsonb_build_object('n', v)) ELSE '[]'::jsonb END));
END $$;
CREATE FUNCTION coder.test_forward(req coder.request) RETURNS coder.response LANGUAGE plpgsql AS $$
BEGIN
	RETURN coder.reply(101, '{"format": "wsjson", "forward": true, "channels": ["test:forward"]}'::jsonb);
END $$;
INSERT INTO coder.routes (area, method, pattern, function) VALUES
	('test', 'GET', '/api/v2/test-watch/{format}', 'test_watch'), ('test', 'GET', '/api/v2/test-forward', 'test_forward');
SQL
sub set_counter { $gateway->sql("WITH u AS (UPDATE coder.test_counter SET n = $_[0] RETURNING 1) SELECT coder.emit('test:counter') FROM u") }
ok($gateway->wait_for(5, sub { ($owner->post('/api/v2/test-forward'))[0] == 405 }), 'the routes are known');

my %watch = map { $_ => Coder::WebSocket->open($gateway->url, "/api/v2/test-watch/$_", token => $gateway->{token}) } qw(ws wsjson wsbinary);
my %want = (ws => '{"type":"data","data":{"n":%d}}', wsjson => '{"n":%d}', wsbinary => '{"n":%d}');
for my $n (0 .. 3)
{
	set_counter($n) if $n;
	is($watch{$_}->message, sprintf($want{$_}, $n), "$_: $n") for sort keys %watch;
}

# SSE over a plain socket.
my $sse = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$gateway->{port}");
$sse->syswrite("GET /api/v2/test-watch/sse HTTP/1.1\r\nHost: x\r\nCoder-Session-Token: $gateway->{token}\r\n\r\n");
my $text = '';
sub sse_until { my ($re) = @_; my $end = time + 10; while ($text !~ $re && time < $end) { IO::Select->new($sse)->can_read(1) && $sse->sysread($text, 65536, length $text) } return $text =~ $re }
ok(sse_until(qr/event: data\ndata: \{"n":3\}\n\n/), 'sse: the state at once');
like($text, qr{content-type: text/event-stream}i, 'sse: its type');
set_counter(4);
ok(sse_until(qr/data: \{"n":4\}\n\n/), 'sse: the next');

# Forwarded events: each once, in commit order, to many watchers, whichever loop they are on.
my @many = map { Coder::WebSocket->open($gateway->url, '/api/v2/test-forward', token => $gateway->{token}) } 1 .. 10;
$gateway->sql(qq{SELECT coder.emit('test:forward', '{"i":$_}')}) for 1 .. 3;
$gateway->sql(q{SELECT count(coder.emit('test:forward', format('{"i":%s}', i))) FROM generate_series(4, 3000) i});
for my $i (0 .. $#many)
{
	my ($next, $wrong) = (1, 0);
	while ($next <= 3000)
	{
		my $message = $many[$i]->message // last;
		$wrong++ if $message ne qq({"i":$next});
		$next++;
	}
	is("$next/$wrong", '3001/0', "watcher $i has all 3000 in order");
}

# What happens while a stream opens is not lost: emitters run all the time.
my $lost = 0;
for my $n (10 .. 29)
{
	my $pid = fork // die;
	if ($pid == 0) { set_counter($n); POSIX::_exit(0) }
	my $ws = Coder::WebSocket->open($gateway->url, '/api/v2/test-watch/wsjson', token => $gateway->{token});
	my $end = time + 5;
	my $seen = '';
	while ($seen ne qq({"n":$n}) && time < $end) { $seen = $ws->message(1) // '' }
	$lost++ if $seen ne qq({"n":$n});
	waitpid $pid, 0;
}
is($lost, 0, 'no change is missed while a stream opens');

# Frames that break the rules.
sub closes
{
	my ($code, $what) = @_;
	my $ws = Coder::WebSocket->open($gateway->url, '/api/v2/test-watch/wsjson', token => $gateway->{token});
	shift; shift;
	$ws->message;
	local $SIG{PIPE} = 'IGNORE';
	$_[0]->($ws);
	1 while defined $ws->message(6);
	is($ws->{close} ? $ws->{close}[0] : 'none', $code, $what);
}
closes(1002, 'a message where none is taken', sub { $_[0]->send_frame(1, 'hello') });
closes(1002, 'a frame without a mask', sub { $_[0]->send_frame(1, 'hello', unmasked => 1) });
closes(1002, 'an unknown opcode', sub { $_[0]->send_frame(5, '') });
closes(1002, 'a continuation of nothing', sub { $_[0]->send_frame(0, 'x') });
closes(1002, 'a ping that is too long', sub { $_[0]->send_frame(9, 'x' x 126) });
closes(1009, 'a message that is too big', sub { $_[0]->send_frame(2, 'x' x 5000) });
closes(1000, 'the closing handshake', sub { $_[0]->send_frame(8, pack 'n', 1000) });
my $ws = Coder::WebSocket->open($gateway->url, '/api/v2/test-watch/wsjson', token => $gateway->{token});
$ws->message;
$ws->send_frame(9, 'are you there');
is(join(' ', $ws->frame), '10 are you there', 'a ping is answered');

# Handshakes that are refused.
ok(!Coder::WebSocket->open($gateway->url, '/api/v2/test-watch/wsjson', token => 'no-token'), 'no session, no stream');
like($@, qr/^HTTP\/1.1 401/, 'but 401');
ok(!Coder::WebSocket->open($gateway->url, '/api/v2/test-watch/wsjson', token => $gateway->{token}, headers => { 'Sec-WebSocket-Version' => 8 }), 'an old version');
like($@, qr/^HTTP\/1.1 400.*Sec-WebSocket-Version: 13/is, 'learns the right one');
ok(!Coder::WebSocket->open($gateway->url, '/api/v2/test-watch/wsjson',
	headers => { Cookie => "coder_session_token=$gateway->{token}", Origin => 'http://evil.example' }), 'a page of another site');
like($@, qr/^HTTP\/1.1 403/, 'is refused');
is(($owner->get('/api/v2/test-watch/wsjson'))[0], 426, 'without an upgrade');

# A watcher that does not read is cut off and holds nobody up.
my $lazy = Coder::WebSocket->open($gateway->url, '/api/v2/test-forward', token => $gateway->{token});
my $quick = Coder::WebSocket->open($gateway->url, '/api/v2/test-forward', token => $gateway->{token});
my $got = 0;
for my $round (1 .. 12)
{
	$gateway->sql(qq{SELECT count(coder.emit('test:forward', '"' || repeat('x', 100000) || '"')) FROM generate_series(1, 20)});
	for (1 .. 20) { $got++ if defined $quick->message }
}
is($got, 240, 'the one who reads gets all 24 MB');
1 while defined $lazy->message(15);
is($lazy->{close} && $lazy->{close}[0], 1008, 'the one who does not is cut off');
like($lazy->{close} ? $lazy->{close}[1] : '', qr/slow consumer/, 'with the reason');

# The session ends: so do its streams.
my $other = $gateway->login('admin@example.com', 'SomeSecurePassword!');
my $mine = Coder::WebSocket->open($gateway->url, '/api/v2/test-watch/ws', token => $other->{token});
$mine->message;
$gateway->sql("DELETE FROM coder.api_keys WHERE id = '" . substr($other->{token}, 0, 10) . "'");
set_counter(50);
like($mine->message // '', qr/"type":"error"/, 'a revoked session is told');
1 while defined $mine->message(3);
is($mine->{close} && $mine->{close}[0], 1008, 'and its stream is closed');

# A database that goes away does not end streams.
my $postmaster = $gateway->postmaster;
kill 'INT', $postmaster;
$gateway->wait_for(20, sub { my $p = $gateway->postmaster; $p && $p != $postmaster });
$gateway->wait_for(10, sub { ($owner->get('/api/v2/users/me'))[0] == 200 });
set_counter(51);
my $seen = '';
while (defined(my $message = $ws->message(10))) { $seen = $message; last if $seen eq '{"n":51}' }
is($seen, '{"n":51}', 'a watch goes on after PostgreSQL was restarted');

set_counter(-1);
1 while defined $ws->message(5);
is($ws->{close} && $ws->{close}[0], 1000, 'a plan that closes');

# The server stops: streams are told.
@many = ();
$ws = Coder::WebSocket->open($gateway->url, '/api/v2/test-forward', token => $gateway->{token});
kill 'TERM', $gateway->{pid};
1 while defined $ws->message(5);
is($ws->{close} && $ws->{close}[0], 1001, 'the end of the server is told');
$ws->send_frame(8, pack 'n', 1001);
is($gateway->stop, 0, 'and the server ends in order');
done_testing();
