# People who come by SQL stay who they are: across transactions and connections, when their rights end, on a
# standby, and where the library was not loaded from the start.
use strict; use warnings FATAL => 'all';
use Coder::Documents;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'coder'\ntimezone = 'UTC'\nlog_statement = none");
$node->start;
$node->safe_psql('postgres', "CREATE EXTENSION coder; SELECT coder.seed(); BEGIN;"
	. Coder::Documents::read_text("$Coder::Documents::data/sample.sql") . "COMMIT;");
$node->safe_psql('postgres', q{
	CREATE ROLE ann LOGIN IN ROLE coder_user;
	CREATE ROLE adm LOGIN IN ROLE coder_admin;
	INSERT INTO coder.organization_members (user_id, organization_id)
	SELECT u.id, o.id FROM coder.users u, coder.organizations o WHERE o.is_default ON CONFLICT DO NOTHING});

sub token
{
	my ($name) = @_;
	return $node->safe_psql('postgres', qq{SELECT coder.api_key_create(id, 'password', 86400) FROM coder.users WHERE username = '$name'});
}

# A session that stays, as a role of the database.
sub session
{
	my ($role, $on) = @_;
	return ($on // $node)->background_psql('postgres', on_error_stop => 0, extra_params => ['-U', $role, '-v', 'VERBOSITY=verbose']);
}

# What a statement answers, or the SQLSTATE of its error.
sub ask
{
	my ($session, $sql) = @_;
	my $out = $session->query($sql);
	my $err = $session->{stderr} // '';

	$session->{stderr} = '';
	return $err =~ /(?:ERROR|FATAL):  (\w{5}):/ ? $1 : $out;
}
my $mine = 'SELECT string_agg(name, $$ $$ ORDER BY name) FROM coder.workspaces';

# ---- rights that end while somebody is signed in ----
my $bob = token('bob');
my $ann = session('ann');
is(ask($ann, $mine), '28000', 'nobody sees nothing');
is(ask($ann, "SELECT coder.login('$bob')"), 'bob', 'a token signs in');
is(ask($ann, $mine), 'broken dev', 'and shows what is its user\'s');
my $other = session('ann');
is(ask($other, $mine), '28000', 'another connection of the same role is nobody');
my $ada = token('ada');
is(ask($other, "SELECT coder.login('$ada')"), 'ada', 'or somebody else');
is(ask($other, $mine), 'broken dev waiting', 'who sees other rows');
is(ask($ann, $mine), 'broken dev', 'while the first sees its own');

$node->safe_psql('postgres', q{UPDATE coder.users SET rbac_roles = '{owner}' WHERE username = 'bob'});
is(ask($ann, $mine), 'broken dev waiting', 'a role that is given in another connection counts with the next statement');
ask($ann, 'BEGIN ISOLATION LEVEL REPEATABLE READ');
is(ask($ann, $mine), 'broken dev waiting', 'in a transaction');
$node->safe_psql('postgres', q{UPDATE coder.users SET rbac_roles = '{}' WHERE username = 'bob'});
is(ask($ann, $mine), 'broken dev', 'and one that is taken, even where the rows are those of before');
ask($ann, 'COMMIT');
$node->safe_psql('postgres', qq{DELETE FROM coder.api_keys WHERE id = left('$bob', 10)});
is(ask($ann, $mine), '28000', 'a deleted token signs out');
is(ask($ann, 'SELECT count(*) FROM coder.templates_live'), '28000', 'of the views, too');
$bob = token('bob');
is(ask($ann, "SELECT coder.login('$bob')"), 'bob', 'a new one signs in again');
$node->safe_psql('postgres', q{UPDATE coder.users SET status = 'suspended' WHERE username = 'bob'});
is(ask($ann, $mine), '28000', 'who is suspended is signed out');
my $quiet = -s $node->logfile;
is(ask($ann, "SELECT coder.login('$bob')"), '28000', 'and does not get in');
like(slurp_file($node->logfile, $quiet), qr/ERROR:.*this token does not sign anybody in/, 'which is logged');
unlike(slurp_file($node->logfile, $quiet), qr/\Q$bob\E/, 'without the token');
$node->safe_psql('postgres', q{UPDATE coder.users SET status = 'active' WHERE username = 'bob'});

# ---- transactions and poolers ----
is(ask($ann, "SELECT coder.login('$bob')"), 'bob', 'active again');
is(ask($ann, 'DISCARD ALL; SELECT login FROM coder.whoami()'), 'nobody', 'DISCARD ALL signs out');
is(ask($ann, "BEGIN; SELECT coder.login('$bob', true)"), 'bob', 'a login of a transaction');
is(ask($ann, $mine), 'broken dev', 'counts in it');
is(ask($ann, 'COMMIT; SELECT login FROM coder.whoami()'), 'nobody', 'and ends with it');
ask($ann, "BEGIN; SELECT coder.login('$bob')");
is(ask($ann, 'ROLLBACK; SELECT login FROM coder.whoami()'), 'nobody', 'one of the session that is rolled back was never there');
ask($ann, "BEGIN; SELECT coder.login('$bob', true); DECLARE c CURSOR WITH HOLD FOR SELECT name FROM coder.workspaces");
ask($ann, 'COMMIT');
is(ask($ann, 'FETCH c'), '34000', 'a cursor that would carry rows out of the transaction is closed');
is(ask($ann, "SELECT coder.login('$bob'); RESET ALL; SELECT username FROM coder.whoami()"), "bob\nbob", 'RESET ALL is not about it');
is(ask($ann, 'SET ROLE adm'), '42501', 'no other role');
is(ask($ann, 'SET SESSION AUTHORIZATION adm'), '42501', 'no other session user');
is(ask($ann, 'COPY coder.users TO STDOUT'), '42501', 'COPY gives no secrets');
is(ask($ann, 'COPY coder.workspaces TO STDOUT'), join("\n", split /\n/, ask($ann, 'COPY (SELECT * FROM coder.workspaces) TO STDOUT')), 'and the rows of a query only');
is(ask($ann, 'COPY (SELECT name FROM coder.workspaces ORDER BY 1) TO STDOUT'), "broken\ndev", 'which are one\'s own');
is(ask($ann, 'SET force_parallel_mode = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;' . $mine),
	'broken dev', 'in parallel, too');
my ($out, $err) = run_command(['pg_dump', '-U', 'ann', '-t', 'coder.workspaces', '-d', $node->connstr('postgres')]);
like($err, qr/permission denied|row-level security/, 'nobody dumps what is filtered');
# What others are told of builds.
my ($status, $heard) = (0, '');
my $listener = session('ann');
ask($listener, 'LISTEN provisioner_job_posted; LISTEN provisioner_job_cancel; LISTEN settings; LISTEN routes');
$node->safe_psql('postgres', q{SELECT coder.build_add(id, owner_id, 'stop', NULL, 'initiator') FROM coder.workspaces WHERE name = 'dev'});
$heard = ask($listener, 'SELECT 1');
like($heard, qr/^1\n?(?:Asynchronous notification "\w+" (?:with payload "[0-9a-f-]{36}" )?received[^\n]*\n?)*$/, 'listeners hear ids of jobs, no names');
$listener->quit;

# Locks that anybody may take stop nothing.
ask($ann, "SELECT pg_advisory_lock(hashtextextended('coder.tick', 0)), pg_advisory_lock(7165055919044454763)");
is($node->safe_psql('postgres', q{SELECT coder.try_lock('coder.tick')}), 't', 'the lock of what is due by time is the extension\'s own');
is($node->safe_psql('postgres', 'SELECT coder.ensure_worker()'), 't', 'and so is that');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 3 AND granted}), 'of the background worker');
ask($ann, 'SELECT pg_advisory_unlock_all()');

# ---- administrators ----
my $adm = session('adm');
is(ask($adm, $mine), 'broken dev waiting', 'an administrator sees all');
my $log = -s $node->logfile;
is(ask($adm, "BEGIN; SELECT coder.become('bob')"), 'bob', 'asks as another');
is(ask($adm, $mine), 'broken dev', 'and sees what the other sees');
is(ask($adm, 'ROLLBACK; ' . $mine), 'broken dev waiting', 'until the transaction is rolled back');
is($node->safe_psql('postgres', q{SELECT count(*) FROM coder.audit_logs WHERE additional_fields->>'by' = 'coder.become'}), 0, 'which the audit log then does not tell');
like(slurp_file($node->logfile, $log), qr/role "adm" asks as user 00000000-0000-4000-8000-000000000002/, 'but the server\'s log does');
unlike(slurp_file($node->logfile, $log), qr/\Q$bob\E/, 'without anybody\'s token');
is(ask($adm, "SELECT coder.become('bob')"), 'bob', 'for good');
is($node->safe_psql('postgres', q{SELECT database_role FROM coder.audit_logs WHERE additional_fields->>'by' = 'coder.become'}), 'adm',
	'the audit log tells');
$node->safe_psql('postgres', 'REVOKE coder_admin FROM adm; GRANT coder_user TO adm');
is(ask($adm, $mine), '28000', 'what a role lent ends with the role');
is(ask($adm, "SELECT coder.become('ada')"), '42501', 'for good');
is(ask($adm, 'SELECT coder.logout(); ' . $mine), '28000', 'and leaves nobody');
$adm->quit;
$ann->quit;
$other->quit;

# ---- a standby ----
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
my $far = session('ann', $standby);
is(ask($far, "SELECT coder.login('$bob')"), 'bob', 'a token signs in on a standby');
is(ask($far, $mine), 'broken dev', 'with the same rows');
$node->safe_psql('postgres', qq{DELETE FROM coder.api_keys WHERE id = left('$bob', 10)});
$node->wait_for_catchup($standby);
is(ask($far, $mine), '28000', 'and is signed out there, too');
$far->quit;
$standby->stop;

# ---- the library is not loaded from the start ----
$bob = token('bob');
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
$ann = session('ann');
is(ask($ann, $mine), '', 'nobody sees no rows, before anything is loaded');
is(ask($ann, $mine), '28000', 'and is then told why');
is(ask($ann, 'EXPLAIN SELECT * FROM coder.workspaces'), '42501', 'EXPLAIN is closed');
is(ask($ann, "SELECT coder.login('$bob')"), 'bob', 'a token signs in');
is(ask($ann, $mine), 'broken dev', 'and shows its user\'s rows');
$ann->quit;
$node->stop;
done_testing();
