# Coder::Dex -- dex, a real OpenID Connect provider, where it is installed (CODER_TEST_DEX, or "dex" in the path).
#
#	my $dex = Coder::Dex->start(gateway_port => $port) or plan skip_all => 'there is no dex';
#	my $gateway = Coder::Gateway->start(port => $port, env => $dex->environment);
#
# Its people are dora@example.com and boots@example.com, whose password is "correct horse".
#
# SPDX-License-Identifier: MIT
package Coder::Dex;

use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use File::Temp qw(tempdir);

# Debian's package "dex" is something else: the program must say that it is the provider.
sub program
{
	for my $dex ($ENV{CODER_TEST_DEX} // (), map { "$_/dex" } split /:/, $ENV{PATH})
	{
		return $dex if -x $dex && `$dex version 2> /dev/null` =~ /^Dex Version/m;
	}
	return;
}

sub start
{
	my ($class, %args) = @_;
	my $program = program() or return;
	my $hash = crypt 'correct horse', '$2a$10$' . join '', map { ('a' .. 'z')[ rand 26 ] } 1 .. 22;
	return unless ($hash // '') =~ /^\$2a\$10\$.{53}$/;
	my $self = bless { %args, dir => tempdir('coder-dex-XXXXXX', TMPDIR => 1, CLEANUP => 1), port => Coder::Gateway::free_port(), owner_pid => $$ }, $class;

	$self->{issuer} = "http://127.0.0.1:$self->{port}/dex";
	open my $config, '>', "$self->{dir}/config.yaml" or die $!;
	print $config <<"YAML";
issuer: $self->{issuer}
storage: { type: memory }
web: { http: "127.0.0.1:$self->{port}" }
logger: { level: warn }
oauth2: { skipApprovalScreen: true }
enablePasswordDB: true
staticClients:
  - { id: coder, name: Coder, secret: dex-secret, redirectURIs: ["http://127.0.0.1:$self->{gateway_port}/api/v2/users/oidc/callback"] }
staticPasswords:
  - { email: dora\@example.com, hash: "$hash", username: dora, userID: 08a8684b-db88-4b73-90a9-3cd1661f5466 }
  - { email: boots\@example.com, hash: "$hash", username: boots, userID: 18a8684b-db88-4b73-90a9-3cd1661f5466 }
YAML
	close $config;
	$self->{pid} = fork // die $!;
	if ($self->{pid} == 0)
	{
		open STDOUT, '>', "$self->{dir}/log";
		open STDERR, '>&', \*STDOUT;
		exec $program, 'serve', "$self->{dir}/config.yaml";
	}
	return $self;
}

sub environment
{
	my ($self) = @_;
	return { CODER_OIDC_ISSUER_URL => $self->{issuer}, CODER_OIDC_CLIENT_ID => 'coder', CODER_OIDC_CLIENT_SECRET => 'dex-secret' };
}

sub log { my ($self) = @_; open my $file, '<', "$self->{dir}/log" or return ''; local $/; return scalar <$file> }

sub DESTROY
{
	my ($self) = @_;
	local ($?, $@);

	return if $self->{owner_pid} != $$ || !$self->{pid};
	kill 'KILL', $self->{pid};
	waitpid $self->{pid}, 0;
	return;
}

1;
