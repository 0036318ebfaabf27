# What a template's resources cost a day counts against the quota of the workspace's owner: a build that costs more than
# is left fails before anything is made, one that costs less never does, and two at once do not both get the last credit.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Provisioning ();
use File::Temp qw(tempdir);
use Test::More;

Coder::Provisioning::need_sandbox();

my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $gateway = Coder::Gateway->start(env => Coder::Provisioning::env($dir));
my $p = Coder::Provisioning->new($gateway);
my $owner = $p->{client};
my $template = $p->template('costs', $p->import('costs', { 'main.tf' => <<'TF' }));
data "coder_workspace" "me" {}
data "coder_parameter" "size" {
  name    = "size"
  type    = "number"
  default = 3
  mutable = true
}
resource "coder_agent" "main" {
  os   = "linux"
  arch = "amd64"
}
resource "sandbox_process" "main" {
  count       = data.coder_workspace.me.start_count
  agent_token = coder_agent.main.token
}
resource "coder_metadata" "main" {
  count       = data.coder_workspace.me.start_count
  resource_id = sandbox_process.main[0].id
  daily_cost  = data.coder_parameter.size.value
}
TF
my $org = $gateway->sql('SELECT id FROM coder.organizations WHERE is_default');

sub quota { my ($status, $q) = $owner->get("/api/v2/organizations/$org/members/me/workspace-quota"); return $status == 200 ? "$q->{credits_consumed} of $q->{budget}" : "$status $q->{message}" }

is(quota(), '0 of -1', 'no group allows anything: there is no quota');
my ($ws, $build) = $p->create($template, 'one');
is($build->{status}, 'succeeded', 'a workspace') or diag $build->{error};
is(quota(), '3 of -1', 'what it costs is counted');
is(($owner->patch("/api/v2/groups/$org", { quota_allowance => 2 }))[0], 200, 'everyone gets two credits');
my (undef, $group) = $owner->post("/api/v2/organizations/$org/groups", { name => 'more', quota_allowance => 3 });
is(quota(), '3 of 2', 'fewer than are used');
is(($owner->patch("/api/v2/groups/$group->{id}", { add_users => ['admin'] }))[0], 200, 'a group gives three more');
is(quota(), '3 of 5', 'the sum counts');
my ($status, $default) = $owner->get('/api/v2/workspace-quota/me');
is("$status $default->{credits_consumed} $default->{budget}", '200 3 5', 'by the older path too');

(my $second, $build) = $p->create($template, 'two');
is($build->{status} . ': ' . ($build->{error} // ''), 'failed: insufficient quota', 'a second workspace is one credit too many');
is(quota(), '3 of 5', 'and costs nothing');
my ($logs) = join "\n", map { "$_->{stage}: $_->{log_level} $_->{output}" } @{ ($owner->get("/api/v2/workspacebuilds/$build->{id}/logs"))[1] };
like($logs, qr/^Commit quota: info Build cost +- +3\nCommit quota: info Budget +- +5\nCommit quota: info Credits consumed +- +3\nCommit quota: warn /m, 'its log says why');
is($p->build($ws, 'stop')->{status}, 'succeeded', 'stopping is always allowed');
is(quota(), '0 of 5', 'and gives the credits back');
is($p->build($ws, 'start')->{status}, 'succeeded', 'starting takes them again');
is(($owner->patch("/api/v2/groups/$group->{id}", { quota_allowance => 0 }))[0], 200, 'the allowance goes');
is($p->build($ws, 'stop')->{status}, 'succeeded', 'stopping is allowed even so');
is($p->build($ws, 'start')->{error}, 'insufficient quota', 'starting is not');
is($p->build($ws, 'delete')->{status}, 'succeeded', 'deleting is');

is(($owner->patch("/api/v2/groups/$group->{id}", { quota_allowance => 2 }))[0], 200, 'room for one of them');
my @made = map { ($owner->post('/api/v2/users/me/workspaces', { name => "race$_", template_id => $template->{id} }))[1] } 1, 2;
my @ended = map { $p->finish_build($_->{latest_build}{id})->{status} } @made;
is(join(' ', sort @ended), 'failed succeeded', 'of two at once one gets the last credits');

done_testing;
