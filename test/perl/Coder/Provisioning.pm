# Coder::Provisioning -- templates and workspaces of a test, through the API.
#
#	my $p = Coder::Provisioning->new($gateway);
#	my $version = $p->import('name', {'main.tf' => $text});		# its end: {id, job, log}
#	my $template = $p->template('name', $version);
#	my ($ws, $build) = $p->create($template, 'dev');			# build: {status, error, log}
#	$build = $p->build($ws, 'stop');
#
# SPDX-License-Identifier: MIT
package Coder::Provisioning;

use strict;
use warnings FATAL => 'all';
use Archive::Tar;
use Coder::Gateway;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use POSIX ();
use Test::More ();

my $root = abs_path(dirname(__FILE__) . '/../../..');

# The client and agent.
sub coder { return $ENV{CODER_BINARY} // "$root/agent/coder" }

# The files of the starter template.
sub starter
{
	open my $file, '<', "$root/gateway/provisioner/starter/main.tf" or die "starter: $!";
	local $/;
	return { 'main.tf' => scalar <$file> };
}

# A command of the client for who is signed in: (what it prints, its status).
sub run_coder
{
	my ($self, @arguments) = @_;
	return command($self->{gateway}, $self->{client}{token}, @arguments);
}

# The same for who has that token, without provisioning.  The first argument may be {stdin => name of a file}.
sub command
{
	my ($gateway, $token, @arguments) = @_;
	my %more = ref $arguments[0] ? %{ shift @arguments } : ();
	my $pid = open(my $out, '-|') // die "fork: $!";

	if ($pid == 0)
	{
		delete @ENV{ grep { /^CODER_/ } keys %ENV };
		@ENV{qw(CODER_URL CODER_SESSION_TOKEN CODER_CONFIG_DIR)} = ($gateway->{url}, $token, "$gateway->{dir}/client");
		open STDERR, '>&', \*STDOUT;
		open STDIN, '<', $more{stdin} // '/dev/null';
		exec 'timeout', 60, coder(), @arguments or POSIX::_exit(127);
	}
	my $text = join '', <$out>;
	close $out;
	return ($text, $? >> 8);
}

# A server needs workers: Coder::Gateway->start(env => Coder::Provisioning::env($folder))
sub env
{
	my ($dir, %more) = @_;
	my $agent = "$dir/agent";

	open my $file, '>', $agent or die "$agent: $!";
	print $file <<'SH';
#!/bin/sh
# Stands for the agent: says who it is, and waits.  Who has read that may end it and hears its good-bye.
trap 'echo bye >> "$HOME/agent.txt"; exit 0' TERM
{ echo "uid=$(id -u) url=$CODER_AGENT_URL token=$CODER_AGENT_TOKEN"; ls /proc | grep -c '^[0-9]'; } >> "$HOME/agent.txt"
while :; do sleep 0.05; done
SH
	close $file;
	chmod 0755, $agent, $dir;
	return { CODER_PROVISIONER_DAEMONS => 2, CODER_DANGEROUS_DISABLE_RATE_LIMITS => "true", CODER_AGENT_BINARY => $agent, %more };
}

# A filesystem mirror with the official provider, built once and kept.
sub provider_mirror
{
	my $version = '2.15.0';
	my $root = ($ENV{XDG_CACHE_HOME} // ($ENV{HOME} // '/tmp') . '/.cache') . '/coder-test-provider';
	chomp(my $arch = `uname -m`);
	my $dir = "$root/registry.terraform.io/coder/coder/$version/linux_" . ($arch eq 'aarch64' ? 'arm64' : 'amd64');

	return $root if -x "$dir/terraform-provider-coder_v$version";
	return if !grep { -x "$_/go" } split /:/, $ENV{PATH};
	my $go = tempdir('coder-go-XXXXXX', TMPDIR => 1);
	my $done = system("GOFLAGS=-modcacherw GOPATH=$go GOBIN=$go/bin go install github.com/coder/terraform-provider-coder/v2\@v$version >/dev/null 2>&1") == 0
	  && system("mkdir -p '$dir' && cp '$go/bin/terraform-provider-coder' '$dir/terraform-provider-coder_v$version'") == 0;
	system('rm', '-rf', $go);
	return $done ? $root : undef;
}

# What a server needs to find that mirror; a file of it goes into the folder.  Empty where there is none.
sub terraform_env
{
	my ($dir) = @_;
	my $mirror = $ENV{CODER_TEST_PROVIDER_MIRROR} // provider_mirror() // return;

	open my $rc, '>', "$dir/terraformrc" or die "$dir/terraformrc: $!";
	print $rc qq(provider_installation {\n  filesystem_mirror {\n    path = "$mirror"\n  }\n}\n);
	close $rc;
	return (TF_CLI_CONFIG_FILE => "$dir/terraformrc");
}

# Why sandboxes cannot run here, or nothing.
sub no_sandbox
{
	my @unshare = $< == 0 ? () : ('--unshare-user');

	return 'bubblewrap is not installed' unless grep { -x "$_/bwrap" } split /:/, $ENV{PATH};
	return if system('bwrap', @unshare, qw(--unshare-pid --ro-bind / / --proc /proc true)) == 0;
	return 'bubblewrap cannot make namespaces here';
}

# Skips the whole test where sandboxes cannot run; or where there is no agent to run in them.
sub need_sandbox { my $why = no_sandbox(); Test::More::plan(skip_all => $why) if $why; return }
sub need_agent { need_sandbox(); Test::More::plan(skip_all => coder() . ' is not built') unless -x coder(); return }

# A server whose workspaces run the agent itself, with that environment, and its provisioning.
sub with_agent
{
	my (%more) = @_;
	my $server = Coder::Gateway->start(env => env(tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1), CODER_AGENT_BINARY => coder(), %more));
	return ($server, Coder::Provisioning->new($server));
}

sub new
{
	my ($class, $gateway) = @_;
	my $client = $gateway->first_user;
	my $organizations = $client->get('/api/v2/organizations');

	return bless { gateway => $gateway, client => $client, organization => $organizations->[0]{id} }, $class;
}

sub tar
{
	my ($files) = @_;
	my $tar = Archive::Tar->new;

	$tar->add_data($_, $files->{$_}) for sort keys %$files;
	return $tar->write;
}

# Uploads and imports; waits for the end of the job.
sub import
{
	my ($self, $name, $files, %more) = @_;
	return unless ref $self;    # use Coder::Provisioning;
	my $c = $self->{client};
	my ($status, $file) = $c->post('/api/v2/files', ref $files ? tar($files) : $files, 'Content-Type' => 'application/x-tar');
	die "upload: $status $file" unless $status == 200 || $status == 201;
	my $version;
	($status, $version) = $c->post("/api/v2/organizations/$self->{organization}/templateversions",
		{ name => "$name-" . ++$self->{n}, storage_method => 'file', file_id => $file->{hash}, provisioner => 'terraform', tags => {}, %more });
	die "version: $status" unless $status == 201;
	return $self->finish("/api/v2/templateversions/$version->{id}", "/api/v2/templateversions/$version->{id}/logs");
}

# Polls a job to its end: {id, status, error, log}.
sub finish
{
	my ($self, $path, $logs) = @_;
	my $c = $self->{client};
	my $got;

	$self->{gateway}->wait_for(60, sub { $got = $c->get($path); $got->{job}{status} =~ /^(succeeded|failed|canceled)$/ })
	  or die "no end of $path";
	my $lines = $c->get($logs);
	return { id => $got->{id}, status => $got->{job}{status}, error => $got->{job}{error} // '',
		log => join("\n", map { "$_->{stage}: $_->{output}" } ref $lines eq 'ARRAY' ? @$lines : ()) };
}

sub template
{
	my ($self, $name, $version) = @_;
	my ($status, $body) = $self->{client}->post("/api/v2/organizations/$self->{organization}/templates",
		{ name => $name, template_version_id => $version->{id} });

	die "template: $status" unless $status == 201;
	return $body;
}

sub create
{
	my ($self, $template, $name, @parameters) = @_;
	my ($status, $ws) = $self->{client}->post('/api/v2/users/me/workspaces',
		{ template_id => $template->{id}, name => $name, rich_parameter_values => \@parameters });

	die "workspace: $status $ws->{message}" unless $status == 201;
	return ($ws, $self->finish_build($ws->{latest_build}{id}));
}

sub finish_build { my ($self, $id) = @_; return $self->finish("/api/v2/workspacebuilds/$id", "/api/v2/workspacebuilds/$id/logs") }

# Starts a build; its id.
sub post_build
{
	my ($self, $ws, $transition) = @_;
	my ($status, $body) = $self->{client}->post("/api/v2/workspaces/$ws->{id}/builds", { transition => $transition });

	die "build: $status $body->{message}" unless $status == 201;
	return $body->{id};
}

sub build { my ($self, $ws, $transition) = @_; return $self->finish_build($self->post_build($ws, $transition)) }

1;
