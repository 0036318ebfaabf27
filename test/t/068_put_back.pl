# A provisioner that is killed before it changed anything: the build is done again by itself, ends once, and says so.
use strict;
use warnings FATAL => 'all';
use Coder::Gateway;
use Coder::Processes qw(command_line descendants slurp state);
use Coder::Provisioning ();
use Coder::WebSocket;
use File::Temp qw(tempdir);
use JSON::PP qw(decode_json);
use Test::More;

Coder::Provisioning::need_sandbox();

my $dir = tempdir('coder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $gateway = Coder::Gateway->start(env => Coder::Provisioning::env($dir, CODER_EXPERIMENTS => 'workspace-build-updates', CODER_PROVISIONER_DAEMONS => 1));
my $p = Coder::Provisioning->new($gateway);
my $owner = $p->{client};
my $template = $p->template('starter', $p->import('starter', Coder::Provisioning::starter()));
my ($ws, $build) = $p->create($template, 'dev');
is($build->{status}, 'succeeded', 'a workspace runs') or diag $build->{error};
is($p->build($ws, 'stop')->{status}, 'succeeded', 'and stops');

my $watch = Coder::WebSocket->open($gateway->url, '/api/experimental/watch-all-workspacebuilds', token => $owner->{token});
ok($watch, 'somebody watches') or diag $@;

# While this is held, a worker that has taken a job waits for its template.
my $lock;
sub hold
{
	my $sql = 'BEGIN; LOCK TABLE coder.files IN ACCESS EXCLUSIVE MODE;';
	open $lock, '|-', Coder::Gateway::bindir() . "/psql -XAtq 'host=$gateway->{dir}/config/postgres/run user=coder dbname=coder' >/dev/null" or die "psql: $!";
	$lock->autoflush(1);
	print $lock "$sql\n";
	ok($gateway->wait_for(10, sub { $gateway->sql("SELECT count(*) FROM pg_locks WHERE relation = 'coder.files'::regclass AND mode = 'AccessExclusiveLock' AND granted") }),
		'templates cannot be read');
	return;
}
sub let_go { print $lock "COMMIT;\n"; close $lock; return }

sub job { my ($id) = @_; return $gateway->sql("SELECT job_status, attempts FROM coder.provisioner_jobs WHERE id = (SELECT job_id FROM coder.workspace_builds WHERE id = '$id')") }
sub waits_in_worker { my ($id) = @_; return $gateway->wait_for(20, sub { job($id) =~ /^running/ && $gateway->sql(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%provisioner_file%'}) }) }

sub workers { return grep { slurp("/proc/$_/comm") =~ /^coder-worker/ } descendants($gateway->{pid}) }
sub provisioners { return grep { command_line($_) =~ /coder-server provisioner/ } Coder::Processes::children($gateway->{pid}) }

sub logs { my ($id) = @_; return join "\n", map { $_->{output} } @{ scalar $owner->get("/api/v2/workspacebuilds/$id/logs") } }

sub is_done_again
{
	my ($what, $kill) = @_;

	hold();
	my ($code, $new) = $owner->post("/api/v2/workspaces/$ws->{id}/builds", { transition => 'start' });
	is($code, 201, "$what: a build begins");
	ok(waits_in_worker($new->{id}), '  a worker has it');
	my @pids = $kill->();
	is(scalar @pids, 1, '  and is found');
	kill 'KILL', @pids;
	ok($gateway->wait_for(10, sub { !grep { state($_) ne '' && state($_) ne 'Z' } @pids }), '  and killed');
	$gateway->sql(q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE '%provisioner_file%' AND pid <> pg_backend_pid()});
	ok($gateway->wait_for(20, sub { (split /\|/, job($new->{id}))[1] eq '1' }), '  the job is put back') or diag job($new->{id});
	let_go();
	my $end = $p->finish_build($new->{id});
	is($end->{status}, 'succeeded', '  and succeeds by itself') or diag $end->{error};
	like(logs($new->{id}), qr/before anything was changed; the job is back in the queue \(attempt 2 of 3\)/, '  the log says so');
	is($p->build($ws, 'stop')->{status}, 'succeeded', '  the workspace stops');
	return $new;
}

my $first = is_done_again('a worker', \&workers);
my $second = is_done_again('the provisioner', \&provisioners);

# Whoever watches builds sees each end once.
my %ends;
while (defined(my $message = $watch->message(1))) { $ends{ decode_json($message)->{build_id} }++ }
is($ends{$_->{id}}, 1, 'one end of the build') for $first, $second;
is($gateway->sql('SELECT count(*) FROM coder.provisioner_jobs WHERE completed_at IS NULL'), 0, 'no job is left over');

# A job that kills whoever takes it ends.
hold();
my (undef, $deadly) = $owner->post("/api/v2/workspaces/$ws->{id}/builds", { transition => 'start' });
for my $attempt (1 .. 3)
{
	ok($gateway->wait_for(20, sub { job($deadly->{id}) =~ /^running\|${\($attempt - 1)}\z/ && waits_in_worker($deadly->{id}) }), "attempt $attempt");
	kill 'KILL', workers();
	$gateway->sql(q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE '%provisioner_file%' AND pid <> pg_backend_pid()});
}
my $end = $p->finish_build($deadly->{id});
let_go();
is($end->{status}, 'failed', 'a build whose provisioner dies three times fails');
like($end->{error}, qr/provisioner ended while this job ran/, 'clearly');
is($p->build($ws, 'start')->{status}, 'succeeded', 'another may follow');
is($gateway->stop, 0, 'the server ends well');
done_testing();
