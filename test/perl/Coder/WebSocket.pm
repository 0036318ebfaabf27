# Coder::WebSocket -- a small client for tests: the handshake, and frames as they are.
#
# SPDX-License-Identifier: MIT
package Coder::WebSocket;

use strict;
use warnings FATAL => 'all';
use IO::Select;
use IO::Socket::INET;
use POSIX ();
use Socket qw(AF_UNIX SOCK_STREAM PF_UNSPEC);
use Time::HiRes qw(time);

# A socket of TLS, by openssl: $ca is the file of the certificate to trust.
sub tls_socket
{
	my ($host, $ca) = @_;
	my ($ours, $theirs) = IO::Socket->socketpair(AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!";

	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		CORE::open STDIN,  '<&', $theirs;
		CORE::open STDOUT, '>&', $theirs;
		CORE::open STDERR, '>', '/dev/null';
		close $ours;
		exec 'openssl', 's_client', '-quiet', '-connect', $host, '-CAfile', $ca, '-verify_return_error' or POSIX::_exit(127);
	}
	close $theirs;
	return $ours;
}

# Coder::WebSocket->open($url, $path, token => ..., headers => {}, ca => file): undef with $@ if the answer is not 101.
sub open
{
	my ($class, $url, $path, %args) = @_;
	my ($scheme, $host) = $url =~ m{^(https?)://([^/]+)};
	my $socket = $scheme eq 'https' ? tls_socket($host, $args{ca}) : IO::Socket::INET->new(PeerAddr => $host);
	die "connect $host: $!" unless $socket;
	my %headers = (
		Host => $host, Upgrade => 'websocket', Connection => 'Upgrade', 'Sec-WebSocket-Version' => 13,
		'Sec-WebSocket-Key' => 'dGhlIHNhbXBsZSBub25jZQ==', %{ $args{headers} // {} });

	$headers{'Coder-Session-Token'} = $args{token} if defined $args{token};
	my $self = bless { socket => $socket, buffer => '' }, $class;
	$socket->syswrite("GET $path HTTP/1.1\r\n" . join('', map { "$_: $headers{$_}\r\n" } sort keys %headers) . "\r\n");
	while ($self->{buffer} !~ /\r\n\r\n/) { $self->more(10) or last }
	$self->{buffer} =~ s/^(.*?\r\n\r\n)//s or do { $@ = 'no answer'; return };
	$self->{answer} = $1;
	return $self if $self->{answer} =~ m{^HTTP/1.1 101};
	$@ = $self->{answer} . $self->{buffer};
	return;
}

# Reads once; false at the end or after the time.
sub more
{
	my ($self, $seconds) = @_;

	IO::Select->new($self->{socket})->can_read($seconds) or return 0;
	return ($self->{socket}->sysread($self->{buffer}, 65536, length $self->{buffer}) // 0) > 0;
}

# The next frame as ($opcode, $payload); empty after the time or at the end.
sub frame
{
	my ($self, $seconds) = @_;
	my $deadline = time + ($seconds // 10);

	while (1)
	{
		my $b = \$self->{buffer};    # not copied: it may hold megabytes
		my $n = length $$b >= 2 ? ord(substr $$b, 1, 1) & 127 : 0;
		my $header = $n == 126 ? 4 : $n == 127 ? 10 : 2;
		if (length $$b >= $header)
		{
			$n = unpack 'n',  substr $$b, 2, 2 if $n == 126;
			$n = unpack 'Q>', substr $$b, 2, 8 if $n == 127;
			if (length $$b >= $header + $n)
			{
				my $frame = substr $$b, 0, $header + $n, '';
				return (ord($frame) & 15, substr $frame, $header);
			}
		}
		my $left = $deadline - time;
		return if $left <= 0 || !$self->more($left);
	}
}

# The next data frame's payload; pings are answered, a close is undef and kept in {close}.
sub message
{
	my ($self, $seconds) = @_;

	while (my ($opcode, $payload) = $self->frame($seconds))
	{
		return $payload if $opcode == 1 || $opcode == 2;
		if ($opcode == 9)
		{
			local $SIG{PIPE} = 'IGNORE';
			$self->send_frame(10, $payload); # who says nothing for 45 s is cut off
		}
		if ($opcode == 8)
		{
			$self->{close} = [ length $payload >= 2 ? unpack('n', $payload) : 1005, substr($payload, 2) ];
			return;
		}
	}
	return;
}

# A client's frame: masked unless told otherwise.
sub send_frame
{
	my ($self, $opcode, $payload, %args) = @_;
	my $n = length $payload;
	my $mask = $args{unmasked} ? '' : 'mask';
	my $bit = $args{unmasked} ? 0 : 128;
	my $size = $n < 126 ? chr($bit | $n) : $n < 65536 ? chr($bit | 126) . pack('n', $n) : chr($bit | 127) . pack('Q>', $n);

	$payload ^= substr('mask' x ($n / 4 + 1), 0, $n) unless $args{unmasked};
	return $self->{socket}->syswrite(chr(($args{fin} // 128) | $opcode) . $size . $mask . $payload);
}

1;
