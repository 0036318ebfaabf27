# Coder::Browser -- a client that keeps cookies, for sign-ins that go from server to server.
#
#	my $browser = Coder::Browser->new(url => $gateway->url);
#	my ($status, $body, $headers) = $browser->get('/x');			# a path of the server, or a whole URL
#	my ($status, $body, $headers) = $browser->follow('/x', 10);	# the same, following redirects
#
# SPDX-License-Identifier: MIT
package Coder::Browser;

use strict;
use warnings FATAL => 'all';
use parent 'Coder::Client';

sub new { my ($class, %args) = @_; my $self = $class->SUPER::new(%args); $self->{cookies} = {}; return $self }

sub site { my ($url) = @_; $url =~ m{^(https?://[^/]+)}; return $1 }

sub request
{
	my ($self, $method, $target, $body, %headers) = @_;
	my $url = $target =~ m{^https?://} ? $target : $self->{url} . $target;
	my $jar = $self->{cookies}{ site($url) } //= {};
	local $self->{url} = '';
	local $self->{token} = undef;

	$headers{Cookie} = join '; ', map { "$_=$jar->{$_}" } sort keys %$jar if %$jar;
	my @answer = $self->SUPER::request($method, $url, $body, %headers);
	my $set = $answer[2]{'set-cookie'};
	for my $line (ref $set ? @$set : defined $set ? $set : ())
	{
		my ($name, $value) = $line =~ /^([^=]+)=([^;]*)/ or next;
		if ($value eq '' && $line =~ /Max-Age=0/) { delete $jar->{$name} }
		else { $jar->{$name} = $value }
	}
	$self->{at} = $url;
	return wantarray ? @answer : $answer[1];
}

sub cookie { my ($self, $name) = @_; return $self->{cookies}{ site($self->{url}) }{$name} }

# Follows redirects; ends before a URL that matches the stop.
sub follow
{
	my ($self, $target, $most, $stop) = @_;
	my @answer = $self->get($target);

	while ($most-- > 0 && $answer[0] =~ /^30/ && (my $next = $answer[2]{location}))
	{
		$next = site($self->{at}) . $next if $next =~ m{^/};
		last if defined $stop && $next =~ $stop;
		@answer = $self->get($next);
	}
	return @answer;
}

1;
