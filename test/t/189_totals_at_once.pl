# Jobs are added up for metrics while they change: nothing is lost or counted twice, and who works with young ones does not wait.
use strict; use warnings FATAL => 'all';
use FindBin;
use PostgreSQL::Test::Cluster;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'coder'");
$node->start;
$node->safe_psql('postgres', q{CREATE EXTENSION coder; SELECT coder.configure('{}'); SELECT coder.tick_due('build_totals', '0', now() + interval '1 day')}); # by this test only
$node->command_ok(['psql', '-1Xq', '-o', '/dev/null', '-v', 'ON_ERROR_STOP=1', '-v', 'n=10', '-v', 'builds=50', '-d', $node->connstr('postgres'),
	map { ('-f', "$FindBin::Bin/../pgtap/support/$_.psql") } qw(workspaces pastbuilds)], 'workspaces and builds of the past');
$node->safe_psql('postgres', q{
	CREATE FUNCTION past_agent(i int) RETURNS uuid LANGUAGE sql AS $$ SELECT md5('past agent' || i)::uuid $$;
	CREATE FUNCTION counted(i int) RETURNS boolean LANGUAGE sql AS $$ SELECT counted IS NOT NULL FROM coder.provisioner_jobs WHERE id = md5('past job' || i)::uuid $$;
	CREATE FUNCTION said() RETURNS text LANGUAGE sql AS $$
		SELECT md5(string_agg(l, E'\n' ORDER BY l COLLATE "C")) FROM (SELECT string_agg(m, '') FROM coder.metrics('2026-02-01 00:00:00+00') m) x(m),
			LATERAL regexp_split_to_table(m, E'\n') l WHERE l ~ '^coderd_(agents|workspace|provisioner_job|provisionerd_|template_workspace)' $$;
	CREATE FUNCTION recounted() RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		v text;
	BEGIN
		DELETE FROM coder.build_totals;
		ALTER TABLE coder.provisioner_jobs DISABLE TRIGGER build_totals_update;
		UPDATE coder.provisioner_jobs SET counted = NULL, counted_micros = NULL;
		v := said();
		RAISE EXCEPTION SQLSTATE 'ZZ001';
	EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
		RETURN v;
	END
	$$});
sub sql { return $node->safe_psql('postgres', $_[0]) }
sub exact { my ($label) = @_; return is(sql('SELECT said()'), sql('SELECT recounted()'), $label) }
my $before = sql('SELECT said()');

my $one = $node->background_psql('postgres');
my $two = $node->background_psql('postgres');
$one->query_safe(q{BEGIN; UPDATE coder.workspace_agents SET ready_at = ready_at + interval '1 h' WHERE id = past_agent(7)});
is(sql('SELECT coder.count_jobs(now())'), 49, 'a job of which something changes is passed by');
is(sql('SELECT said()'), $before, 'the same is said');
$one->query_safe('COMMIT');
isnt(sql('SELECT said()'), $before, 'then what has changed');
exact('all of it');
is(sql('SELECT coder.count_jobs(now())'), 1, 'and it is added up');
exact('as it is');

# The other way round.
sql('UPDATE coder.provisioner_jobs SET counted = NULL');
exact('taken out');
$before = sql('SELECT said()');
$one->query_safe('BEGIN; SELECT coder.count_jobs(now())');
is(sql('SELECT coder.count_jobs(now())'), 0, 'one at a time');
is(sql('SELECT said()'), $before, 'while they are added up the same is said');
$two->query_until(qr/begun/, "\\echo begun\nUPDATE coder.workspace_agents SET ready_at = ready_at + interval '1 h' WHERE id = past_agent(8);\n");
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ '^UPDATE coder.workspace_agents'}),
	'who changes a job that is added up right now waits');
$one->query_safe('COMMIT');
$two->query_safe('SELECT 1');
is(sql('SELECT counted(8), counted(9)'), 'f|t', 'and takes it out again');
exact('nothing is lost');
sql('SELECT coder.count_jobs(now())');
$before = sql('SELECT said()');

# Rolled back.
$one->query_safe(q{BEGIN; DELETE FROM coder.workspace_builds WHERE id = md5('past build9')::uuid; UPDATE coder.workspaces SET template_id = md5('template0')::uuid});
is(sql('SELECT said()'), $before, 'while builds are deleted the same is said');
$one->query_safe('ROLLBACK');
is(sql('SELECT counted(9)'), 't', 'what is rolled back takes nothing out');
exact('nor changes it');

# An older snapshot does not see what changes meanwhile.
my ($code, undef, $error) = $node->psql('postgres', 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT coder.count_jobs(now())');
like($error, qr/READ COMMITTED/, 'adding up from an older snapshot is refused');

# A young job is not locked.
sql(q{SET session_replication_role = replica; UPDATE coder.provisioner_jobs SET completed_at = now() WHERE id = md5('past job11')::uuid});
$one->query_safe(q{BEGIN; SELECT FROM coder.provisioner_jobs WHERE id = md5('past job11')::uuid FOR UPDATE});
is(sql(q{SET lock_timeout = '5s'; UPDATE coder.workspace_agents SET ready_at = now() WHERE id = past_agent(11); SELECT 'done'}), 'done', 'who works with an agent of a job that has just ended does not wait');
$one->query_safe('COMMIT');
# An open transaction holds up what ended after it began.
$one->query_safe('BEGIN; SELECT pg_current_xact_id()');
is(sql(q{SELECT coder.count_jobs(now() + interval '1 day')}), 0, 'a job that ended while a transaction was open is added up when it has ended');
$one->query_safe('COMMIT');
cmp_ok(sql(q{SELECT coder.count_jobs(now() + interval '1 day')}), '>', 0, 'then it is');
exact('all of it');

$node->stop('immediate');
$node->start;
exact('after a crash');
done_testing();
