# Coder::Client -- requests to a server, with or without a session token.
#
# SPDX-License-Identifier: MIT
package Coder::Client;

use strict;
use warnings FATAL => 'all';
use Coder::Json;
use HTTP::Tiny;

# Coder::Client->new(url => ..., token => ...)
sub new
{
	my ($class, %args) = @_;

	return bless { %args, http => HTTP::Tiny->new(keep_alive => 1, timeout => $args{timeout} // 30, max_redirect => 0) },
	  $class;
}

# One request; a reference is sent as JSON, a string as it is.
# ($status, $body, $headers): a JSON body is decoded, any other is text.  599 is "no answer".
sub request
{
	my ($self, $method, $path, $body, %headers) = @_;
	my %options = (headers => {%headers});

	$options{headers}{'Coder-Session-Token'} = $self->{token} if defined $self->{token};
	$options{content} = ref $body ? Coder::Json::encode($body) : $body if defined $body;
	my $answer = $self->{http}->request($method, $self->{url} . $path, \%options);
	my $content = $answer->{content};
	$content = eval { Coder::Json::decode($content) } // $content
	  if ($answer->{headers}{'content-type'} // '') =~ /json/;
	return wantarray ? ($answer->{status}, $content, $answer->{headers}) : $content;
}

sub get    { my ($self, @rest) = @_; return $self->request('GET',    @rest) }
sub post   { my ($self, @rest) = @_; return $self->request('POST',   @rest) }
sub put    { my ($self, @rest) = @_; return $self->request('PUT',    @rest) }
sub patch  { my ($self, @rest) = @_; return $self->request('PATCH',  @rest) }
sub delete { my ($self, @rest) = @_; return $self->request('DELETE', @rest) }

1;
