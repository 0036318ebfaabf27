# Terraform's templates build; a build that fails, hangs or is killed ends clearly and forgets no state.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Provisioning ();
use File::Temp qw(tempdir);
use Test::More;

my ($terraform) = grep { -x "$_/terraform" } split /:/, $ENV{PATH};
plan skip_all => 'terraform is not in the PATH' unless $terraform;

my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my %terraform = Coder::Provisioning::terraform_env($dir);
plan skip_all => 'the coder provider is not here: Go is needed to build it, or CODER_TEST_PROVIDER_MIRROR' unless %terraform;
my $gateway = Coder::Gateway->start(env => Coder::Provisioning::env($dir, %terraform));
my $p = Coder::Provisioning->new($gateway);

sub source
{
	my ($command) = @_;
	return { 'main.tf' => <<"TF", 'README.md' => "# Hallo\n" };
terraform {
  required_providers {
    coder = { source = "coder/coder" }
  }
}
variable "color" {
  type    = string
  default = "red"
}
data "coder_workspace" "me" {}
data "coder_parameter" "cpus" {
  name    = "cpus"
  type    = "number"
  default = 2
  validation {
    min = 1
    max = 8
  }
}
resource "coder_agent" "main" {
  os   = "linux"
  arch = "amd64"
}
resource "coder_app" "web" {
  agent_id = coder_agent.main.id
  slug     = "web"
  url      = "http://localhost:8080"
}
resource "terraform_data" "ws" {
  count = data.coder_workspace.me.start_count
  input = "\${coder_agent.main.id} cpus=\${data.coder_parameter.cpus.value} \${var.color}"
  provisioner "local-exec" {
    command = "$command"
  }
}
resource "coder_metadata" "ws" {
  count       = data.coder_workspace.me.start_count
  resource_id = terraform_data.ws[0].id
  item {
    key   = "color"
    value = var.color
  }
}
TF
}

my $version = $p->import('good', source('echo hello from local-exec'));
is($version->{status}, 'succeeded', 'a template is imported') or BAIL_OUT($version->{error});
like($version->{log}, qr/Initializing Terraform Directory: .*Detecting persistent resources: /s, 'its log has the stages');
my ($parameter) = @{ scalar $p->{client}->get("/api/v2/templateversions/$version->{id}/rich-parameters") };
is_deeply([ @$parameter{qw(name type default_value validation_min validation_max required form_type)} ],
	[ 'cpus', 'number', '2', 1, 8, JSON::PP::false, 'input' ], 'its parameter is known');
my ($variable) = @{ scalar $p->{client}->get("/api/v2/templateversions/$version->{id}/variables") };
is("$variable->{name} $variable->{type} $variable->{default_value}", 'color string red', 'its variable, too');

my $template = $p->template('good', $version);
my ($ws, $build) = $p->create($template, 'dev', { name => 'cpus', value => '3' });
is($build->{status}, 'succeeded', 'a workspace starts') or diag $build->{error};
like($build->{log}, qr/hello from local-exec/, 'what its commands print is in the log');
my $resources = $p->{client}->get("/api/v2/workspacebuilds/$build->{id}/resources");
my ($data) = grep { $_->{type} eq 'terraform_data' } @$resources;
is($data->{agents}[0]{name}, 'main', 'the agent belongs to the resource that uses it');
is($data->{agents}[0]{apps}[0]{slug}, 'web', 'the app to the agent');
is((grep { $_->{key} eq 'color' } @{ $data->{metadata} })[0]{value}, 'red', 'and the metadata to the resource');
my $state = $gateway->sql("SELECT convert_from(provisioner_state, 'UTF8') FROM coder.workspace_builds WHERE id = '$build->{id}'");
like($state, qr/cpus=3 red/, 'the state is in the database, with the parameter');
is($p->build($ws, 'stop')->{status}, 'succeeded', 'it stops');
is($p->build($ws, 'delete')->{status}, 'succeeded', 'and is deleted');

$template = $p->template('failing', $p->import('failing', source('echo no luck; exit 3')));
($ws, $build) = $p->create($template, 'failing');
is($build->{status}, 'failed', 'a command that fails fails the build');
like($build->{error}, qr/local-exec.*exit status 3/s, 'with its status');
like($gateway->sql("SELECT convert_from(provisioner_state, 'UTF8') FROM coder.workspace_builds WHERE id = '$build->{id}'"),
	qr/"coder_agent"/, 'what was created is in the state');
is($p->build($ws, 'delete')->{status}, 'succeeded', 'and can be deleted');

# A build that hangs, and is cancelled.
$template = $p->template('hanging', $p->import('hanging', source("echo waiting; sleep 600.$$")));
my (undef, $hanging) = $p->{client}->post('/api/v2/users/me/workspaces', { template_id => $template->{id}, name => 'hanging' });
my $id = $hanging->{latest_build}{id};
sub wait_for_line
{
	my ($build_id) = @_;
	return $gateway->wait_for(30, sub {
		grep { $_->{output} =~ /local-exec.*: waiting$/ } @{ scalar $p->{client}->get("/api/v2/workspacebuilds/$build_id/logs") } });
}
ok(wait_for_line($id), 'its log arrives while it runs');
# Anybody who is connected can NOTIFY: the daemon asks the job's row, and goes on.
my $job = $hanging->{latest_build}{job}{id};
my $asked = "SELECT updated_at FROM coder.provisioner_jobs WHERE id = '$job'";
$gateway->sql("NOTIFY provisioner_job_cancel, '$job'");
for my $nth ('an answer', 'the next')	# the first may have been on its way
{
	my $before = $gateway->sql($asked);
	ok($gateway->wait_for(30, sub { $gateway->sql($asked) ne $before }), "the daemon gets $nth");
}
like($gateway->sql("SELECT job_status FROM coder.provisioner_jobs WHERE id = '$job'"), qr/^running$/, 'and ends nothing');
my ($status) = $p->{client}->patch("/api/v2/workspacebuilds/$id/cancel");
is($status, 200, 'a running build is cancelled');
$build = $p->finish_build($id);
like($build->{status}, qr/^(failed|canceled)$/, 'and ends');
is(`pgrep -f '[s]leep 600\\.$$' | wc -l` + 0, 0, 'with all its processes');

# A build whose worker is killed.
$id = $p->post_build($hanging, 'start');
ok(wait_for_line($id), 'the next one hangs, too');
my ($child) = map { m{^/proc/(\d+)} } grep { (readlink $_ // '') =~ /Session.*/ && (readlink $_) =~ /^\Q$gateway->{dir}\E/ } glob '/proc/[0-9]*/cwd';
my $parent = $child;
while ($parent && $parent > 1)
{
	open my $stat, '<', "/proc/$parent/stat" or last;
	my ($comm, $up) = <$stat> =~ /^\d+ \((.*)\) \S (\d+)/;
	last if $comm eq 'coder-worker';
	$parent = $up;
}
ok($parent > 1, 'its worker is found');
kill 'KILL', $parent;
$build = $p->finish_build($id);
is($build->{status}, 'failed', 'a killed worker fails the build');
like($build->{error}, qr/provisioner ended while this job ran/, 'clearly');
like($gateway->sql("SELECT convert_from(provisioner_state, 'UTF8') FROM coder.workspace_builds WHERE id = '$id'"),
	qr/"coder_agent"/, 'and the state is kept');
is($p->build($hanging, 'delete')->{status}, 'succeeded', 'the workspace can be deleted');
is($gateway->stop, 0, 'the server ends well');
done_testing();
