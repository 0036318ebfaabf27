# Coder::HttpDouble -- a small web server of the tests: one handler, a process a connection.
#
#	my $double = Coder::HttpDouble->start(sub { my ($request, $mode) = @_; return (200, { 'X-A' => 1 }, 'body') });
#	$double->mode(broken => 1);			# what the handler gets as its second argument from now on
#	my @seen = $double->requests;		# method, path, query, headers, body, form of each
#
# SPDX-License-Identifier: MIT
package Coder::HttpDouble;

use strict;
use warnings FATAL => 'all';
use Fcntl qw(:flock);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use JSON::PP ();
use POSIX ();

my $json = JSON::PP->new->utf8->canonical->allow_nonref;

# Options: port; tls => [certificate, key] (files).
sub start
{
	my ($class, $handler, %args) = @_;
	my $dir = tempdir('coder-double-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my $listener = IO::Socket::INET->new(Listen => 64, LocalAddr => '127.0.0.1', LocalPort => $args{port} // 0, ReuseAddr => 1)
	  or die "listen: $!";
	my $self = bless { dir => $dir, port => $listener->sockport, owner_pid => $$, %args }, $class;

	$self->{url} = "http://127.0.0.1:$self->{port}";
	$self->mode;
	$self->{pid} = fork // die "fork: $!";
	if ($self->{pid} == 0)
	{
		setpgrp 0, 0;
		eval { $self->serve($listener, $handler) };
		POSIX::_exit(1);
	}
	return $self;
}

sub url { return $_[0]{url} }

sub serve
{
	my ($self, $listener, $handler) = @_;

	local $SIG{CHLD} = 'IGNORE';
	local $SIG{TERM} = 'DEFAULT';
	while (1)
	{
		my $client = $listener->accept or next;
		my $pid = fork;
		if (defined $pid && $pid == 0)
		{
			eval { $self->answer($client, $handler); 1 } or print STDERR "HttpDouble: $@";
			close $client;
			POSIX::_exit(0);
		}
		close $client;
	}
}

sub read_request
{
	my ($client) = @_;
	my ($head, $body) = ('', '');

	while ($head !~ /\r\n\r\n/) { sysread($client, $head, 8192, length $head) or return }
	($head, $body) = split /\r\n\r\n/, $head, 2;
	my ($line, @lines) = split /\r\n/, $head;
	my ($method, $target) = split / /, $line;
	my %headers = map { my ($name, $value) = split /:\s*/, $_, 2; (lc $name => $value) } @lines;
	while (length $body < ($headers{'content-length'} // 0)) { sysread($client, $body, 65536, length $body) or last }
	my ($path, $query) = split /\?/, $target, 2;
	return { method => $method, path => $path, query => form($query), headers => \%headers, body => $body,
		form => ($headers{'content-type'} // '') =~ /form/ ? form($body) : {} };
}

# A form as a hash.
sub form
{
	my ($text) = @_;
	my %form;

	for my $pair (split /&/, $text // '')
	{
		my ($name, $value) = map { my $v = $_ // ''; $v =~ tr/+/ /; $v =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge; $v } (split /=/, $pair, 2)[ 0, 1 ];
		$form{$name} = $value;
	}
	return \%form;
}

sub answer
{
	my ($self, $client, $handler) = @_;
	my $request = read_request($client) or return;
	my $mode = $self->mode_now;

	open my $log, '>>', "$self->{dir}/log" or die $!;
	flock $log, LOCK_EX;
	syswrite $log, $json->encode($request) . "\n";
	close $log;
	my ($status, $headers, $body) = $handler->($request, $mode, $client);
	return unless defined $status;
	if (ref $body) { $body = $json->encode($body); $headers->{'Content-Type'} //= 'application/json' }
	$body //= '';
	my $text = "HTTP/1.1 $status Double\r\nConnection: close\r\nContent-Length: " . length($body) . "\r\n";
	$text .= "$_: $headers->{$_}\r\n" for sort keys %{ $headers // {} };
	$text .= "\r\n$body";
	while (length $text) { my $n = syswrite($client, $text) // last; substr($text, 0, $n) = '' }
	return;
}

# Replaces the mode.
sub mode
{
	my ($self, %mode) = @_;

	open my $file, '>', "$self->{dir}/mode.new" or die $!;
	print $file $json->encode(\%mode);
	close $file;
	rename "$self->{dir}/mode.new", "$self->{dir}/mode" or die $!;
	return;
}

sub mode_now
{
	my ($self) = @_;
	open my $file, '<', "$self->{dir}/mode" or die $!;
	local $/;
	return $json->decode(scalar <$file>);
}

# The requests since the start, or since the last reset.
sub requests
{
	my ($self) = @_;
	open my $file, '<', "$self->{dir}/log" or return ();
	return map { $json->decode($_) } <$file>;
}

sub forget { my ($self) = @_; unlink "$self->{dir}/log"; return }

sub stop
{
	my ($self) = @_;

	return unless $self->{pid};
	kill 'KILL', -$self->{pid};
	kill 'KILL', $self->{pid};
	waitpid $self->{pid}, 0;
	delete $self->{pid};
	return;
}

sub DESTROY { my ($self) = @_; local ($?, $@); $self->stop if $self->{owner_pid} == $$; return }

1;
