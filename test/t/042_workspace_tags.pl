# Tags that a template declares choose the daemon of its jobs: evaluated with variables, locals and parameters.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Provisioning ();
use File::Temp qw(tempdir);
use JSON::PP ();
use POSIX ();
use Test::More;

my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $gateway = Coder::Gateway->start(env => Coder::Provisioning::env($dir));
my $p = Coder::Provisioning->new($gateway);
my $owner = $p->{client};

my $versions = 0;

sub main_tf
{
	my ($tags) = @_;
	return { 'main.tf' => <<"TF" };
variable "zone" { default = "eu" }
locals { place = "\${var.zone}-1" }
data "coder_workspace_owner" "me" {}
data "coder_parameter" "pool" {
  name    = "pool"
  default = ""
  mutable = true
}
data "coder_workspace_tags" "t" {
  tags = $tags
}
TF
}
sub version
{
	my ($tf, %more) = @_;
	my $file = $owner->post('/api/v2/files', Coder::Provisioning::tar($tf), 'Content-Type' => 'application/x-tar')->{hash};
	return $owner->post("/api/v2/organizations/$p->{organization}/templateversions",
		{ storage_method => 'file', provisioner => 'terraform', file_id => $file, name => 'v' . ++$versions, %more });
}
# A daemon beside the server's, with those tags.
sub daemon
{
	my (@tags) = @_;
	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		%ENV = (%{ $gateway->environment }, CODER_PROVISIONER_DAEMONS => 1, CODER_PROVISIONER_DAEMON_NAME => 'tagged',
			CODER_PG_CONNECTION_URL => "host=$gateway->{dir}/config/postgres/run user=coder dbname=coder");
		open STDOUT, '>>', $gateway->{log_file};
		open STDERR, '>&', \*STDOUT;
		exec { Coder::Gateway::program() } 'coder-server', 'provisioner', @tags or POSIX::_exit(127);
	}
	return $pid;
}

# At upload: defaults of variables and parameters; what the request says goes first.
my ($status, $version) = version(main_tf('{ place = local.place, n = 2, on = true, gone = null, pool = data.coder_parameter.pool.value }'));
is($status, 201, 'a template with tags is taken');
is_deeply($version->{job}{tags}, { scope => 'organization', owner => '', place => 'eu-1', n => '2', on => 'true', pool => '' }, 'its import has them');
is($version->{matched_provisioners}{count}, 0, 'and no daemon fits');
($status, my $other) = version(main_tf('{ place = local.place }'), tags => { place => 'here', scope => 'user', owner => '' }, user_variable_values => [ { name => 'zone', value => 'us' } ]);
is_deeply($other->{job}{tags}, { scope => 'user', owner => $owner->get('/api/v2/users/me')->{id}, place => 'here' }, 'tags of the request are stronger');
($status, $other) = version(main_tf('{ place = local.place }'), user_variable_values => [ { name => 'zone', value => 'us' } ]);
is($other->{job}{tags}{place}, 'us-1', 'values of variables count');

# Bad tags.
($status, my $body) = version(main_tf('{ good = "x", list = ["a"], later = coder_agent.main.id }') );
is($status, 400, 'tags that cannot be used are refused');
is($body->{message}, 'Unable to parse workspace tags', 'with the words of the API');
($status, $body) = version(main_tf('{ good = "x", list = ["a"], obj = { a = 1 } }'));
is_deeply([ map { $_->{field} } @{ $body->{validations} } ], [qw(list obj)], 'one by one') or diag JSON::PP::encode_json($body);
is((version(main_tf('"x"')))[0], 400, 'so are tags that are no object');
is((version({ 'main.tf' => 'data "coder_workspace_tags" "t" { tags = {' }))[0], 201, 'what does not parse is for the import to say');

# The import waits for a daemon that fits.
is($owner->get("/api/v2/templateversions/$version->{id}")->{job}{status}, 'pending', 'the import waits');
my $pid = daemon('--tag', 'place=eu-1', '-t', 'n=2,on=true', '-t', 'pool=', '-t', 'more=yes');
ok($gateway->wait_for(20, sub { $owner->get("/api/v2/templateversions/$version->{id}")->{job}{status} eq 'succeeded' }), 'a daemon with these tags and more takes it')
  or diag JSON::PP::encode_json($owner->get("/api/v2/templateversions/$version->{id}"));
my $template = $p->template('tags', $version);

# Builds: with the values of their parameters.
($status, my $ws) = $owner->post("/api/v2/organizations/$p->{organization}/members/me/workspaces",
	{ name => 'dev', template_id => $template->{id}, rich_parameter_values => [ { name => 'pool', value => 'gpu' } ] });
is($status, 201, 'a workspace is made') or diag JSON::PP::encode_json($ws);
is($ws->{latest_build}{job}{tags}{pool}, 'gpu', "its build has the parameter's value");
is($ws->{latest_build}{job}{tags}{place}, 'eu-1', 'and the others');
select undef, undef, undef, 1;
is($owner->get("/api/v2/workspaces/$ws->{id}")->{latest_build}{job}{status}, 'pending', 'nobody takes it whose tags do not fit');
kill 'TERM', $pid;
waitpid $pid, 0;
$pid = daemon('--tag', 'place=eu-1', '-t', 'n=2,on=true', '-t', 'pool=gpu');
ok($gateway->wait_for(20, sub { $owner->get("/api/v2/workspaces/$ws->{id}")->{latest_build}{job}{status} eq 'succeeded' }), 'until one comes');
kill 'TERM', $pid;
waitpid $pid, 0;

# A value that makes a tag unusable.
($status, $body) = $owner->post("/api/v2/workspaces/$ws->{id}/builds", { transition => 'stop', rich_parameter_values => [ { name => 'pool', value => 'none' } ] });
is($body->{job}{tags}{pool}, 'none', 'each build has its own') or diag JSON::PP::encode_json($body);
is(system(Coder::Gateway::program() . ' provisioner --postgres-url x --tag broken 2>/dev/null') >> 8, 2, 'a tag without a value is no tag');
done_testing;
