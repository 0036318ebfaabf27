# Requests that race for a workspace make one build, two ticks at once do each due thing once,
# and who watches all builds gets each end once.
use strict; use warnings FATAL => 'all';
use IPC::Run qw(start finish);
use PostgreSQL::Test::Cluster;
use Test::More;

my $racers = 6;
my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init;
$node->append_conf('postgresql.conf', 'timezone = UTC');
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION coder;
	SELECT coder.seed();
	BEGIN;
	INSERT INTO coder.users (id, email, username, status)
	VALUES ('11111111-1111-1111-1111-111111111111', 'a@example.com', 'a', 'active');
	INSERT INTO coder.provisioner_jobs (id, organization_id, initiator_id, provisioner, type, file_id, input, tags, started_at, completed_at)
	SELECT '22222222-2222-2222-2222-222222222222', o.id, '11111111-1111-1111-1111-111111111111', 'terraform',
		   'template_version_import', gen_random_uuid(), '{}', '{"scope": "organization", "owner": ""}', now(), now()
	  FROM coder.organizations o;
	INSERT INTO coder.template_versions (id, organization_id, name, job_id, created_by)
	SELECT '33333333-3333-3333-3333-333333333333', o.id, 'v1', '22222222-2222-2222-2222-222222222222',
		   '11111111-1111-1111-1111-111111111111' FROM coder.organizations o;
	INSERT INTO coder.templates (id, organization_id, name, provisioner, active_version_id, created_by)
	SELECT '44444444-4444-4444-4444-444444444444', o.id, 'dev', 'terraform', '33333333-3333-3333-3333-333333333333',
		   '11111111-1111-1111-1111-111111111111' FROM coder.organizations o;
	UPDATE coder.template_versions SET template_id = '44444444-4444-4444-4444-444444444444';
	INSERT INTO coder.workspaces (id, owner_id, organization_id, template_id, name, ttl)
	SELECT '55555555-5555-5555-5555-555555555555', '11111111-1111-1111-1111-111111111111', o.id,
		   '44444444-4444-4444-4444-444444444444', 'ws', 3600000000000 FROM coder.organizations o;
	CREATE TABLE gate ();
	COMMIT;
});

# The same statement in several sessions that start together.
sub race
{
	my ($sql) = @_;
	my $gate = $node->background_psql('postgres');
	my @running;

	$gate->query_safe('BEGIN; LOCK TABLE gate IN ACCESS EXCLUSIVE MODE');
	for (1 .. $racers)
	{
		my ($out, $err) = ('', '');
		push @running, {out => \$out, err => \$err, run => start(
			['psql', '-qXAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'),
				'-c', 'SELECT count(*) FROM gate', '-c', $sql], \undef, \$out, \$err)};
	}
	$node->poll_query_until('postgres',
		qq{SELECT count(*) = $racers FROM pg_locks WHERE relation = 'gate'::regclass AND NOT granted})
		or die 'the racers never came to the gate';
	$gate->query_safe('COMMIT');
	$gate->quit;
	my $won = grep { finish($_->{run}) } @running;
	return ($won, map { ${$_->{err}} } @running);
}

my ($won, @errors) = race(q{SELECT coder.build_add('55555555-5555-5555-5555-555555555555',
	'11111111-1111-1111-1111-111111111111', 'start', '33333333-3333-3333-3333-333333333333', 'initiator')});
is($won, 1, 'one request makes the build');
is(scalar(grep { /A workspace build is already active/ } @errors), $racers - 1, 'the others are told why not');
is($node->safe_psql('postgres', 'SELECT count(*), max(build_number) FROM coder.workspace_builds'), '1|1', 'there is one build');

# It ends, in several sessions at once; every watcher's channel has it once.
($won) = race(q{UPDATE coder.provisioner_jobs SET started_at = coalesce(started_at, clock_timestamp()), completed_at = clock_timestamp()
	WHERE type = 'workspace_build' AND completed_at IS NULL});
is($won, $racers, 'an end that came too late changes nothing');
is($node->safe_psql('postgres', q{SELECT payload::jsonb ->> 'job_status' FROM coder.events WHERE channel = 'workspace_updates:all'}),
	'succeeded', 'its end is one event');

# Ticks at once.
$node->safe_psql('postgres', q{UPDATE coder.workspace_builds SET deadline = now() - interval '1 s'});
($won, @errors) = race('SELECT coder.tick()');
is($won, $racers, 'ticks at once do not disturb one another') || diag(@errors);
is($node->safe_psql('postgres', 'SELECT build_number, transition, reason FROM coder.workspace_builds ORDER BY 1 DESC LIMIT 1'),
	'2|stop|autostop', 'the workspace is stopped once');

done_testing();
