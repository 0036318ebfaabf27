# Daemons that ask at the same time never get the same job, and get every job.
use strict; use warnings FATAL => 'all';
use IPC::Run qw(start finish);
use PostgreSQL::Test::Cluster;
use Test::More;

my ($jobs, $daemons) = (60, 6);
my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'coder'");
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION coder;
	SELECT coder.seed();
	INSERT INTO coder.users (id, email, username, status)
	VALUES ('11111111-1111-1111-1111-111111111111', 'a@example.com', 'a', 'active');
	CREATE TABLE taken (daemon int, job uuid, at timestamptz DEFAULT clock_timestamp())});
$node->safe_psql('postgres', qq{
	WITH j AS (
		INSERT INTO coder.provisioner_jobs (organization_id, initiator_id, provisioner, type, file_id, input, tags)
		SELECT o.id, '11111111-1111-1111-1111-111111111111', 'terraform', 'template_version_import', gen_random_uuid(),
			   '{}', '{"scope": "organization", "owner": ""}' FROM coder.organizations o, generate_series(1, $jobs)
		RETURNING id, organization_id)
	INSERT INTO coder.template_versions (organization_id, name, job_id, created_by)
	SELECT organization_id, left(id::text, 8), id, '11111111-1111-1111-1111-111111111111' FROM j});

# Each daemon asks until there is nothing; all of them wait for the same lock first.
my $gate = $node->background_psql('postgres');
$gate->query_safe('BEGIN; LOCK TABLE taken IN ACCESS EXCLUSIVE MODE');
my @running;
for my $n (1 .. $daemons)
{
	my $sql = qq{
		DO \$\$
		DECLARE
			d uuid := coder.provisioner_register('d$n', '{terraform}', '{}', 'v0');
			j jsonb;
		BEGIN
			LOOP
				j := coder.provisioner_acquire(d);
				EXIT WHEN j IS NULL;
				INSERT INTO taken (daemon, job) VALUES ($n, (j->>'job_id')::uuid);
				PERFORM pg_sleep(0.005);
				COMMIT;
			END LOOP;
		END \$\$;};
	my ($out, $err) = ('', '');
	push @running, {out => \$out, err => \$err, run => start(
		['psql', '-qXAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'),
			'-c', 'SELECT count(*) FROM taken', '-c', $sql], \undef, \$out, \$err)};
}
ok($node->poll_query_until('postgres',
	qq{SELECT count(*) = $daemons FROM pg_locks WHERE relation = 'taken'::regclass AND NOT granted}), 'all daemons wait at the gate');
$gate->query_safe('COMMIT');
$gate->quit;
ok(finish($_->{run}), 'a daemon comes to its end') || diag(${$_->{err}}) for @running;

is($node->safe_psql('postgres', 'SELECT count(*) FROM taken'), $jobs, 'every job is taken');
is($node->safe_psql('postgres', 'SELECT count(DISTINCT job) FROM taken'), $jobs, 'and none twice');
cmp_ok($node->safe_psql('postgres', 'SELECT count(DISTINCT daemon) FROM taken'), '>', 1, 'by more than one daemon');
is($node->safe_psql('postgres', q{SELECT count(*) FROM coder.provisioner_jobs WHERE job_status <> 'running' OR worker_id IS NULL}),
	'0', 'each runs and has its daemon');
done_testing();
