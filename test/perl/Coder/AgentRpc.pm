# Coder::AgentRpc -- calls of an agent as the wire has them: protobuf in DRPC in yamux in a WebSocket.
#
#	my $rpc = Coder::AgentRpc->open($gateway->url, $agent_token) or die $@;
#	my $answer = $rpc->call('ReportBoundaryLogs', Coder::AgentRpc::boundary_logs($allowed, $denied, $batch_id));
#
# A call's answer is its bytes; undef with $@ where it failed: '' where nobody knows the outcome, else the server's words.
#
# SPDX-License-Identifier: MIT
package Coder::AgentRpc;

use strict;
use warnings FATAL => 'all';
use Coder::WebSocket;
use POSIX qw(_exit);
use Time::HiRes qw(time);

sub varint
{
	my ($n) = @_;
	my $bytes = '';
	while ($n > 127) { $bytes .= chr($n & 127 | 128); $n >>= 7 }
	return $bytes . chr $n;
}

# A length-delimited field of a message.
sub field { my ($number, $value) = @_; return varint($number << 3 | 2) . varint(length $value) . $value }

# A ReportBoundaryLogsRequest; time and request: of its entries.  A stream's window takes 256 kB.
sub boundary_logs
{
	my ($allowed, $denied, $batch, $time, $request) = @_;
	my $stamp = field(2, "\x08" . varint(int($time // time)));
	my $http = field(3, $request // field(1, 'GET') . field(2, 'https://example.com/path'));

	return field(1, "\x08\x01$stamp$http") x $allowed . field(1, "$stamp$http") x $denied . (defined $batch ? field(1000, $batch) : '');
}

sub open
{
	my ($class, $url, $token) = @_;
	my $ws = eval { Coder::WebSocket->open($url, '/api/v2/workspaceagents/me/rpc?version=2.8', token => $token) } or return;
	return bless { ws => $ws, buffer => '', next => 1 }, $class;
}

# A frame of yamux: type 0 data, 1 window, 2 ping; flags 1 SYN, 2 ACK, 4 FIN.
sub send
{
	my ($self, $type, $flags, $stream, $length, $data) = @_;
	local $SIG{PIPE} = 'IGNORE';
	return $self->{ws}->send_frame(2, pack('CCnNN', 0, $type, $flags, $stream, $length) . ($data // ''));
}

# The next data of a stream; pings are answered.
sub data
{
	my ($self, $stream, $seconds) = @_;
	my $deadline = time + $seconds;

	while (1)
	{
		while (length $self->{buffer} >= 12)
		{
			my (undef, $type, $flags, $id, $length) = unpack 'CCnNN', $self->{buffer};
			my $size = $type == 0 ? $length : 0;
			last if length $self->{buffer} < 12 + $size;
			my $data = substr substr($self->{buffer}, 0, 12 + $size, ''), 12;
			$self->send(2, 2, 0, $length) if $type == 2 && $flags & 1;
			return $data if $id == $stream && $size > 0;
			return if $id == $stream && $flags & 12;
		}
		my $more = $deadline > time ? $self->{ws}->message($deadline - time) : undef;
		return unless defined $more;
		$self->{buffer} .= $more;
	}
}

# A frame of DRPC: kind 1 invoke, 2 message, 3 error, 6 end of what is sent.
sub drpc { my ($kind, $message, $data) = @_; return chr($kind << 1 | 1) . varint(1) . varint($message) . varint(length $data) . $data }

sub take_varint
{
	my ($bytes) = @_;
	my ($n, $shift) = (0, 0);
	while (length $$bytes)
	{
		my $b = ord substr $$bytes, 0, 1, '';
		$n |= ($b & 127) << $shift;
		return $n if $b < 128;
		$shift += 7;
	}
	return 0;
}

sub call
{
	my ($self, $method, $request, $seconds) = @_;
	my $stream = $self->{next};
	my $bytes = drpc(1, 1, "/coder.agent.v2.Agent/$method") . drpc(2, 2, $request) . drpc(6, 3, '');
	my $in = '';

	$self->{next} += 2;
	$@ = '';
	$self->send(0, 1, $stream, length $bytes, $bytes) or return;
	while (defined(my $data = $self->data($stream, $seconds // 10)))
	{
		$in .= $data;
		my $copy = $in;
		my $kind = ord(substr $copy, 0, 1, '') >> 1 & 63;
		take_varint(\$copy);
		take_varint(\$copy);
		next unless length $copy;
		my $length = take_varint(\$copy);
		next if length $copy < $length;
		$self->send(0, 4, $stream, 0);
		return substr $copy, 0, $length if $kind == 2;
		$@ = substr($copy, 8, $length - 8) || 'refused';
		return;
	}
	return;
}

# Processes that call one after the other, [token, request] each its own: for each [how many answers were good, what the others heard].
sub together
{
	my ($url, $method, $calls, $good, @requests) = @_;
	pipe my $read, my $write or die;
	my @pids;
	for my $i (0 .. $#requests)
	{
		my $pid = fork // die;
		if ($pid) { push @pids, $pid; next }
		my $rpc = Coder::AgentRpc->open($url, $requests[$i][0]) or _exit(1);
		my ($taken, %heard) = (0);
		for (1 .. $calls)
		{
			my $answer = $rpc->call($method, $requests[$i][1], 20);
			if (!defined $answer) { $heard{ $@ || 'nothing' }++ }
			elsif ($good->($answer)) { $taken++ }
			else { $heard{ 'answer ' . unpack 'H*', $answer }++ }
		}
		syswrite $write, "$i $taken " . join('; ', sort keys %heard) . "\n";
		_exit(0);
	}
	close $write;
	my @answers;
	while (my $line = <$read>) { my ($i, $taken, $heard) = $line =~ /^(\d+) (\d+) (.*)$/; $answers[$i] = [$taken, $heard] }
	waitpid $_, 0 for @pids;
	return @answers;
}

1;
