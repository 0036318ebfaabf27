# Coder::Proxy -- a proxy before a server, which sees each request, may change or refuse it, and can cut all connections.
#
#	my $proxy = Coder::Proxy->start($gateway->url, rule => sub { my ($head) = @_; ... });
#	$proxy->url; $proxy->heads;		# heads of the requests so far
#	$proxy->cut;
#
# Of several servers, [url, ...], each connection gets the next.
# rule runs in another process.  It gets the head of a request and answers the head to send on, or {answer => bytes}.
# One request a connection, unless it is upgraded.
#
# SPDX-License-Identifier: MIT
package Coder::Proxy;

use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use File::Temp ();
use IO::Select;
use IO::Socket::INET;
use POSIX ();

sub start
{
	my ($class, $target, %args) = @_;
	my $listener = IO::Socket::INET->new(Listen => 64, LocalAddr => '127.0.0.1', LocalPort => $args{port} // 0, ReuseAddr => 1)
	  or die "listen: $!";
	my $self = bless { listener => $listener, port => $listener->sockport, targets => [map { s{^http://}{}r } ref $target ? @$target : $target],
		rule => $args{rule}, log => File::Temp->new, owner_pid => $$ }, $class;

	$self->{pid} = fork // die "fork: $!";
	if ($self->{pid} == 0)
	{
		$self->serve;
		POSIX::_exit(0);
	}
	close $listener;
	return $self;
}

sub url { return "http://127.0.0.1:$_[0]{port}" }

# Heads of the requests so far, in the order in which they came.
sub heads
{
	my ($self) = @_;

	open my $file, '<', $self->{log}->filename or die "log: $!";
	local $/;
	return grep { length } split /\0/, <$file> // '';
}

sub cut { my ($self) = @_; kill 'USR1', $self->{pid}; return }

sub serve
{
	my ($self) = @_;
	my %children;

	local $SIG{CHLD} = 'IGNORE';
	local $SIG{USR1} = sub { kill 'KILL', keys %children; %children = () };
	local $SIG{TERM} = sub { kill 'KILL', keys %children; POSIX::_exit(0) };
	while (1)
	{
		my $client = $self->{listener}->accept or next;
		delete @children{ grep { !kill 0, $_ } keys %children };
		push @{ $self->{targets} }, $self->{target} = shift @{ $self->{targets} };
		my $pid = fork // die "fork: $!";
		if ($pid == 0)
		{
			local @SIG{qw(USR1 TERM)} = ('DEFAULT', 'DEFAULT');
			close $self->{listener};
			eval { $self->connection($client) };
			POSIX::_exit(0);
		}
		$children{$pid} = 1;
		close $client;
	}
}

sub connection
{
	my ($self, $client) = @_;
	my $bytes = '';

	while ($bytes !~ /\r\n\r\n/) { $client->sysread($bytes, 65536, length $bytes) or return }
	my ($head, $rest) = $bytes =~ /^(.*?\r\n\r\n)(.*)$/s;
	open my $log, '>>', $self->{log}->filename or die "log: $!";
	syswrite $log, "$head\0";
	close $log;
	my $what = $self->{rule} ? $self->{rule}->($head) : $head;
	if (ref $what)
	{
		$client->syswrite($what->{answer});
		return;
	}
	$what =~ s/\r\nConnection:[^\r]*//i, $what =~ s/\r\n\r\n$/\r\nConnection: close\r\n\r\n/ unless $what =~ /^Upgrade:/mi;
	my $server = IO::Socket::INET->new(PeerAddr => $self->{target}) or return;
	$server->syswrite($what . $rest);
	my $both = IO::Select->new($client, $server);
	while (1)
	{
		for my $from ($both->can_read)
		{
			my $to = $from == $client ? $server : $client;
			$from->sysread(my $data, 65536) or return;
			my $sent = 0;
			while ($sent < length $data) { $sent += $to->syswrite($data, length($data) - $sent, $sent) // return }
		}
	}
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $@);

	return if $self->{owner_pid} != $$ || !$self->{pid};
	kill 'TERM', $self->{pid};
	waitpid $self->{pid}, 0;
	return;
}

1;
