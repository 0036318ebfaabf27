# Malformed yamux, DRPC and DERP frames end their own connection only; unknown calls are answered.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::WebSocket;
use IO::Select;
use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(time);

my $gateway = Coder::Gateway->start(env => { CODER_EVENT_LOOPS => 2 });
my $owner = $gateway->first_user;

sub tailnet { return Coder::WebSocket->open($gateway->url, '/api/v2/tailnet?version=2.0', token => $gateway->{token}) }

# Masked, with a mask of zeros.
sub send_bytes
{
	my ($ws, $bytes, $opcode) = @_;
	my $n = length $bytes;
	$ws->{socket}->syswrite(pack('C', 0x80 | ($opcode // 2)) . ($n < 126 ? pack('C', 0x80 | $n) : pack('Cn', 0xfe, $n)) . "\0" x 4 . $bytes);
}
sub yamux { my ($type, $flags, $id, $length, $data) = @_; return pack('CCnNN', 0, $type, $flags, $id, $length) . ($data // '') }
sub packet { my ($kind, $message, $data) = @_; return pack('CCCC', $kind << 1 | 1, 1, $message, length $data) . $data }
sub call
{
	my ($ws, $id, $name, $body) = @_;
	my $data = packet(1, 1, $name) . packet(2, 2, $body) . packet(6, 3, '');
	send_bytes($ws, yamux(1, 1, $id, 0) . yamux(0, 0, $id, length $data, $data));
}
# Bytes of the connection until they match; the close code if it comes first.
sub answer
{
	my ($ws, $re) = @_;
	my $end = time + 10;
	my $bytes = '';
	while (time < $end)
	{
		my ($opcode, $data) = $ws->frame(1);
		next unless defined $opcode;
		return 'close ' . unpack('n', $data) if $opcode == 8;
		$bytes .= $data if $opcode == 2;
		return $bytes if $bytes =~ $re;
	}
	return "nothing: " . unpack('H*', $bytes);
}

my ($status, $body) = $owner->get('/api/v2/tailnet?version=3.0');
is($status, 400, 'an API version from the future is refused before the upgrade');

my $ws = tailnet();
ok($ws, 'a client connects') or diag $@;
call($ws, 1, '/coder.tailnet.v2.Tailnet/NoSuchCall', '');
like(answer($ws, qr/unknown rpc/), qr{protocol error: unknown rpc: "/coder.tailnet.v2.Tailnet/NoSuchCall"}, 'an unknown call is answered');
call($ws, 3, '/coder.agent.v2.Agent/GetManifest', '');
like(answer($ws, qr/GetManifest/), qr/unknown rpc/, 'a client cannot call the service of agents');
call($ws, 5, '/coder.tailnet.v2.Tailnet/RefreshResumeToken', '');
like(answer($ws, qr/eyJ/), qr/eyJ/, 'a resume token comes');
call($ws, 7, '/coder.tailnet.v2.Tailnet/StreamDERPMaps', '');
like(answer($ws, qr/Coder Embedded Relay/), qr/\x05\x01\x01/, 'the relay map comes');
send_bytes($ws, yamux(2, 1, 0, 77));
like(answer($ws, qr/\0\x02\0\x02\0\0\0\0\0\0\0\x4d/), qr/\x4d$/, 'a yamux ping is echoed');

# add_tunnel for an agent that does not exist ends the stream, with words.
my $tunnel = packet(1, 1, '/coder.tailnet.v2.Tailnet/Coordinate') . packet(2, 2, "\x1a\x12\x0a\x10" . "\x11" x 16);
send_bytes($ws, yamux(1, 1, 9, 0) . yamux(0, 0, 9, length $tunnel, $tunnel));
like(answer($ws, qr/authorization: .*\x0b\x01/s), qr/authorization: /, 'a tunnel to an unknown agent is refused');

my $other = tailnet();
send_bytes($other, "\x01" x 64);
is(answer($other, qr/^\b$/), 'close 1011', 'a wrong yamux version ends the connection');
$other = tailnet();
send_bytes($other, 'hello', 1);
is(answer($other, qr/^\b$/), 'close 1003', 'so does text');
$other = tailnet();
send_bytes($other, yamux(0, 0, 1, 5, 'hello'));
like(answer($other, qr/^\b$/), qr/^close 1011|^nothing: /, 'data of a stream that is not open breaks nothing else');
$other = tailnet();
send_bytes($other, yamux(1, 1, 1, 0) . yamux(0, 0, 1, 12, "\x03\x01\x01" . "\xff" x 9));
close $other->{socket};

# The relay.
sub derp
{
	my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$gateway->{port}");
	$socket->syswrite("GET /derp HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: DERP\r\n\r\n");
	return $socket;
}
sub read_until
{
	my ($socket, $re) = @_;
	my $end = time + 15;
	my $bytes = '';
	while (time < $end && $bytes !~ $re)
	{
		next unless IO::Select->new($socket)->can_read(1);
		$socket->sysread($bytes, 65536, length $bytes) or return "$bytes<end>";
	}
	return $bytes;
}
($status) = $owner->get('/derp');
is($status, 426, 'without an upgrade: 426');
my $greeting = qr/DERP\xf0\x9f\x94\x91.{32}/s;
my $derp = derp();
my $first = read_until($derp, $greeting);
like($first, qr{^HTTP/1.1 101.*\r\nderp-public-key: [0-9a-f]{64}\r\n}si, 'the relay upgrades and names its key');
my ($hex) = $first =~ /derp-public-key: ([0-9a-f]{64})/i;
is(unpack('H*', substr $first, -32), $hex, 'its first frame has the same key');
for my $bad ([ 'a packet before the login', pack('CN', 4, 40) . "x" x 40 ], [ 'a login of 300 kB', pack('CN', 2, 300_000) ],
	[ 'a login whose box does not open', pack('CN', 2, 100) . "y" x 100 ])
{
	my $socket = derp();
	read_until($socket, $greeting);
	$socket->syswrite($bad->[1]);
	like(read_until($socket, qr/<end>/), qr/<end>$/, "$bad->[0] ends the connection");
}
my $again = Coder::WebSocket->open($gateway->url, '/derp', headers => { 'Sec-WebSocket-Protocol' => 'derp' });
like($again->{answer}, qr/sec-websocket-protocol: derp/i, 'the relay speaks WebSocket too');
like(answer($again, $greeting), $greeting, 'with the same frames');

call($ws, 11, '/coder.tailnet.v2.Tailnet/NoSuchCall', '');
like(answer($ws, qr/unknown rpc/), qr/unknown rpc/, 'the first connection is as it was');
$gateway->restart;
my $key = (read_until(derp(), $greeting) =~ /derp-public-key: ([0-9a-f]{64})/i)[0];
is($key, $hex, 'the relay keeps its key over a restart');
done_testing;
