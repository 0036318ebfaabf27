# What backends keep of the list of workspaces is never out of date, whoever changes whatever it shows.
use strict; use warnings FATAL => 'all';
use FindBin;
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(time sleep);

my $support = "$FindBin::Bin/../pgtap/support";
my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'coder'\nfsync = off\nautovacuum = off");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION coder; SELECT coder.seed();');
$node->command_ok(['psql', '-XAtq', '-1', '-v', 'ON_ERROR_STOP=1', '-v', 'n=40', '-f', "$support/workspaces.psql",
	'-d', $node->connstr('postgres')], 'the data set');
$node->command_ok(['psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-f', "$support/api.psql", '-d', $node->connstr('postgres')], 'the API');
my $token = $node->safe_psql('postgres', q{SELECT token_of('boss', '{owner}')});

# Two readers that stay, so that both keep answers; the second one's user owns workspaces.
my $member = $node->safe_psql('postgres', q{SELECT token_of('member1', '{owner}')});
my $member_id = $node->safe_psql('postgres', q{SELECT id FROM coder.users WHERE username = 'member1'});
my @readers = map { $node->background_psql('postgres') } 1 .. 2;
my $writer = $node->background_psql('postgres');
my $other = $node->background_psql('postgres');
my $route = $node->safe_psql('postgres', q{SELECT id FROM coder.routes WHERE method = 'GET' AND pattern = '/api/v2/workspaces'});

# One request, as a value of a statement.
sub call
{
	my ($who, $query) = @_;
	return "coder.handle($route, 'GET', '/api/v2/workspaces', '{}', '$query', '', NULL, '$who', '127.0.0.1', gen_random_uuid(), NULL)";
}

# The list as a reader gets it, as text; a transaction that has written takes nothing that is kept.
sub list
{
	my ($reader, $who, $query) = @_;
	return $reader->query_safe('SELECT convert_from(substr(' . call($who // $token, $query // 'limit=25') . ", 9), 'UTF8')");
}

sub fresh
{
	my ($session, $who, $query) = @_;
	return $session->query_safe('SELECT convert_from(substr(a, 9), \'UTF8\') FROM (SELECT pg_current_xact_id() OFFSET 0) x, LATERAL (SELECT ' .
		call($who // $token, $query // 'limit=25') . ' AS a WHERE x IS NOT NULL OFFSET 0) y');
}

# How often a table's indexes are looked into for a list.
sub lookups
{
	my ($reader, $table, $who, $query) = @_;
	my $list = call($who // $token, $query // 'limit=25');
	my $count = "SELECT coalesce(sum(idx_scan), 0) FROM pg_stat_xact_user_tables WHERE relname = '$table' AND schemaname = 'coder'";
	my @got = split /\n/, $reader->query_safe("BEGIN; $count; SELECT length($list) > 0; $count; COMMIT");
	return $got[2] - $got[0];
}

list($_) for @readers, @readers;
list($readers[0], $member, 'q=owner:me') for 1 .. 2;
is(lookups($readers[0], $_), 0, "what is kept needs no look into $_") for qw(workspaces workspace_agents users workspace_apps);
is(lookups($readers[0], $_, $member, 'q=owner:me'), 0, "nor into $_ for a member's own") for qw(workspaces workspace_agents);

# Every table that the list shows, changed as an administrator does.
my @changes = (
	workspaces => "UPDATE coder.workspaces SET ttl = coalesce(ttl, 0) + 60000000000",
	'workspaces: last use' => "UPDATE coder.workspaces SET last_used_at = last_used_at + interval '1 s'",
	'workspaces: shared' => q(UPDATE coder.workspaces w SET user_acl = jsonb_build_object(u.id, '{"permissions": ["read"]}'::jsonb), group_acl = jsonb_build_object(g.id, '{"permissions": ["*"]}'::jsonb) FROM coder.users u, coder.groups g WHERE u.username = 'member2'),
	users => "UPDATE coder.users SET avatar_url = avatar_url || '?' WHERE username LIKE 'member%'",
	'users: sharing' => "UPDATE coder.users SET name = name || ' II' WHERE username = 'member2'",
	groups => "UPDATE coder.groups SET display_name = display_name || 'team'",
	organizations => "UPDATE coder.organizations SET name = name || 'x'",
	templates => "UPDATE coder.templates SET display_name = display_name || '!'",
	'templates: active version' => "UPDATE coder.templates t SET active_version_id = v.id FROM coder.template_versions v WHERE v.template_id = t.id AND v.id <> t.active_version_id",
	template_versions => "UPDATE coder.template_versions SET name = name || 'x'",
	workspace_builds => "UPDATE coder.workspace_builds SET deadline = deadline + interval '1 h' WHERE transition = 'start'",
	provisioner_jobs => "UPDATE coder.provisioner_jobs SET tags = tags || jsonb_build_object('n', random())",
	workspace_resources => "UPDATE coder.workspace_resources SET icon = icon || 'x'",
	'workspace_resources: new' => "INSERT INTO coder.workspace_resources (job_id, transition, type, name) SELECT job_id, 'start', 'thing', 'one more' FROM coder.workspace_builds",
	'workspace_resources: gone' => "DELETE FROM coder.workspace_resources WHERE type = 'thing'",
	workspace_resource_metadata => "UPDATE coder.workspace_resource_metadata SET value = value || 'x'",
	'workspace_resource_metadata: new' => "INSERT INTO coder.workspace_resource_metadata (workspace_resource_id, key, value, sensitive) SELECT id, 'new', 'fact', false FROM coder.workspace_resources",
	'workspace_resource_metadata: gone' => "DELETE FROM coder.workspace_resource_metadata WHERE key = 'new'",
	workspace_agents => "UPDATE coder.workspace_agents SET lifecycle_state = CASE lifecycle_state WHEN 'ready' THEN 'start_error' ELSE 'ready' END::coder.workspace_agent_lifecycle_state",
	'workspace_agents: connected' => "UPDATE coder.workspace_agents SET last_connected_at = now()",
	'workspace_agents: new' => "INSERT INTO coder.workspace_agents (name, resource_id, architecture, operating_system) SELECT 'second', resource_id, 'arm64', 'linux' FROM coder.workspace_agents",
	'workspace_agents: deleted' => "UPDATE coder.workspace_agents SET deleted = true WHERE name = 'second'",
	workspace_agent_nodes => q(UPDATE coder.workspace_agent_nodes SET latency = jsonb_build_object('here', jsonb_build_object('latency_ms', random()))),
	'workspace_agent_nodes: gone' => "DELETE FROM coder.workspace_agent_nodes",
	'workspace_agent_nodes: new' => q(INSERT INTO coder.workspace_agent_nodes (agent_id, node, latency) SELECT id, '{}', '{"a": 1}' FROM coder.workspace_agents WHERE name = 'main'),
	workspace_apps => "UPDATE coder.workspace_apps SET health = CASE health WHEN 'healthy' THEN 'unhealthy' ELSE 'healthy' END::coder.workspace_app_health",
	'workspace_apps: new' => "INSERT INTO coder.workspace_apps (agent_id, display_name, icon, slug) SELECT id, 'New', '', 'new' FROM coder.workspace_agents",
	'workspace_apps: gone' => "DELETE FROM coder.workspace_apps WHERE slug = 'new'",
	'workspace_apps: moved' => "UPDATE coder.workspace_apps p SET slug = md5(p.id::text), agent_id = (SELECT a.id FROM coder.workspace_agents a WHERE a.id <> p.agent_id AND a.name = 'main' ORDER BY a.id LIMIT 1) WHERE p.slug = '8080'",
	workspace_agent_scripts => "UPDATE coder.workspace_agent_scripts SET cron = cron || '*'",
	'workspace_agent_scripts: gone' => "DELETE FROM coder.workspace_agent_scripts",
	workspace_agent_log_sources => "UPDATE coder.workspace_agent_log_sources SET icon = icon || 'x'",
	workspace_app_statuses => "UPDATE coder.workspace_app_statuses SET message = message || '.'",
	'workspace_app_statuses: new' => "INSERT INTO coder.workspace_app_statuses (agent_id, app_id, workspace_id, state, message) SELECT agent_id, app_id, workspace_id, 'complete', 'done' FROM coder.workspace_app_statuses",
	'workspace_app_statuses: none' => "TRUNCATE coder.workspace_app_statuses",
	'rights: shared' => qq(UPDATE coder.workspaces SET user_acl = jsonb_build_object('$member_id', '["read"]'::jsonb) WHERE owner_id <> '$member_id' AND id::text < '8'),
	'rights: not shared' => "UPDATE coder.workspaces SET user_acl = '{}', group_acl = '{}'",
	'rights: a role' => "UPDATE coder.users SET rbac_roles = '{owner}' WHERE id = '$member_id'",
	'rights: no role' => "UPDATE coder.users SET rbac_roles = '{}' WHERE id = '$member_id'",
	'rights: a token of one workspace' => "UPDATE coder.api_keys SET allow_list = ARRAY['workspace:' || (SELECT min(id::text) FROM coder.workspaces WHERE owner_id = '$member_id')] WHERE user_id = '$member_id'",
	'rights: a token of all' => "UPDATE coder.api_keys SET allow_list = '{*:*}' WHERE user_id = '$member_id'",
	'rights: another owner' => "UPDATE coder.workspaces SET owner_id = '$member_id' WHERE id = (SELECT min(id::text)::uuid FROM coder.workspaces WHERE owner_id <> '$member_id' AND NOT favorite)",
	'page: dormant' => "UPDATE coder.workspaces SET dormant_at = now() WHERE id::text < '8'",
	'page: favorites' => "UPDATE coder.workspaces SET favorite = NOT favorite",
	'page: names' => "UPDATE coder.workspaces SET name = 'a' || md5(name)",
	'page: owners' => "UPDATE coder.users SET username = md5(username) WHERE username LIKE 'member%' AND username <> 'member1'",
	'page: deletion' => "UPDATE coder.workspaces SET deleted = true WHERE id IN (SELECT min(id::text)::uuid FROM coder.workspaces WHERE NOT deleted)",
	'page: count alone' => "UPDATE coder.workspace_totals SET live = live + 1",
);

# What is asked in turn: by an owner, by a member, and by the member of his own.
my @asked = ([$token, 'limit=25'], [$member, 'limit=25'], [$member, 'limit=9&q=owner:me']);

sub lists { my ($get, @sessions) = @_; return map { $get->($sessions[$_ % @sessions], @{ $asked[$_] }) } 0 .. $#asked }

# What readers who have it kept get before and after the commit.
sub check_change
{
	my ($name, $sql, $settings) = @_;
	my @before = lists(\&list, @readers);
	$writer->query_safe(($settings // '') . "BEGIN; $sql");
	is_deeply([lists(\&list, @readers)], \@before, "$name: unchanged before the commit")
		unless $sql =~ /^TRUNCATE/;	# whose lock keeps readers out
	$writer->query_safe('COMMIT');
	my @after = lists(\&list, @readers);
	isnt("@after", "@before", "$name: changed after it");
	is_deeply(\@after, [lists(\&fresh, $other)], "$name: and right for all");
	is_deeply([lists(\&list, @readers)], \@after, "$name: and kept as that");
}

check_change(splice @changes, 0, 2) while @changes;
check_change('where triggers are off', 'UPDATE coder.workspace_agents SET version = version || 1', 'SET session_replication_role = replica;');
$writer->query_safe('RESET session_replication_role');

# A rollback changes nothing, not even for the one who rolls back.
my $before = list($readers[0]);
$readers[0]->query_safe("BEGIN; UPDATE coder.templates SET icon = icon || 'x'");
isnt(list($readers[0]), $before, 'who writes sees it');
is(list($readers[1]), $before, 'and nobody else');
$readers[0]->query_safe('ROLLBACK');
is(list($readers[0]), $before, 'a rollback is forgotten');
$readers[0]->query_safe("BEGIN; SAVEPOINT a; UPDATE coder.templates SET icon = icon || 'x'; ROLLBACK TO a");
is(list($readers[0]), $before, 'that of a part too');
$readers[0]->query_safe('COMMIT');
is(list($readers[1]), $before, 'after its commit too');

# A snapshot that stays.
$readers[0]->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$before = list($readers[0]);
$writer->query_safe("UPDATE coder.workspace_agents SET directory = directory || '/x'");
my $after = list($readers[1]);
isnt($after, $before, 'a commit is seen by others');
is(list($readers[0]), $before, 'and not by a snapshot from before');
$readers[0]->query_safe('COMMIT');
is(list($readers[0]), $after, 'but by the next one');

# A snapshot of another transaction, which is older than what the reader has kept.
$other->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
chomp(my $snapshot = $other->query_safe('SELECT pg_export_snapshot()'));
$writer->query_safe("UPDATE coder.workspace_agents SET directory = directory || '/z'");
isnt(list($readers[0]), $after, 'a commit after a snapshot was exported') for 1 .. 2;
$readers[0]->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '$snapshot'");
is(list($readers[0]), $after, 'is not seen where that is imported');
$readers[0]->query_safe('COMMIT');
$other->query_safe('COMMIT');

# A statement whose snapshot is older than a commit that ends before it reads: it shows, and keeps, what was before.
$writer->query_safe('SELECT pg_advisory_lock(1)');
my $late = $node->background_psql('postgres', on_error_stop => 0);
list($late);
list($late);
$before = list($late);
my $sql = "SELECT convert_from(substr(a, 9), 'UTF8') FROM (SELECT pg_advisory_lock_shared(1) OFFSET 0) x, LATERAL (SELECT " . call($token, 'limit=25') . " AS a WHERE x IS NOT NULL OFFSET 0) y;\n";
$late->query_until(qr/started/, "\\echo started\n$sql\\echo finished\n");
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted});
$writer->query_safe("UPDATE coder.workspace_agents SET directory = directory || '/y'");
$after = list($readers[1]);
$writer->query_safe('SELECT pg_advisory_unlock(1)');
my ($shown) = grep /workspaces/, split /\n/, $late->query_until(qr/finished/, "\n");
isnt($after, $before, 'a commit while a statement waits');
is("$shown\n", $before, 'is not in the statement');
is(list($late), $after, 'nothing of an old snapshot is kept for later');

# The clock alone: an agent falls silent, another one takes too long.
$writer->query_safe("UPDATE coder.workspace_agents SET first_connected_at = now(), last_connected_at = now() - interval '28 s', disconnected_at = NULL");
$before = list($readers[0]);
like($before, qr/"status":"connected"/, 'agents are connected');
my $end = time + 10;
sleep 0.05 while list($readers[0]) =~ /"status":"connected"/ && time < $end;
unlike(list($readers[0]), qr/"status":"connected"/, 'and fall silent, though no row changes');
is(list($readers[0]), fresh($other), 'as for one who keeps nothing');
$writer->query_safe("UPDATE coder.workspace_agents SET created_at = now(), first_connected_at = NULL, last_connected_at = NULL, connection_timeout_seconds = 2");
like(list($readers[0]), qr/"status":"connecting"/, 'agents are awaited');
$end = time + 10;
sleep 0.05 while list($readers[0]) =~ /"status":"connecting"/ && time < $end;
unlike(list($readers[0]), qr/"status":"connecting"/, 'until it takes too long');

# Without the triggers nothing is kept.
$writer->query_safe('ALTER TABLE coder.workspace_apps DISABLE TRIGGER row_changed_update');
list($readers[0]);
$writer->query_safe("UPDATE coder.workspace_apps SET tooltip = tooltip || 'x'");
is(list($readers[0]), fresh($other), 'nothing is kept where a trigger is disabled');
isnt(lookups($readers[0], 'workspace_agents'), 0, 'indeed');
$writer->query_safe('ALTER TABLE coder.workspace_apps ENABLE ALWAYS TRIGGER row_changed_update');
list($readers[0]);
list($readers[0]);
is(lookups($readers[0], 'workspace_agents'), 0, 'and again when it is enabled');

# Many at once: readers compare what is kept to what is not, under one snapshot, while writers commit and roll back.
my $dir = PostgreSQL::Test::Utils::tempdir();
sub script
{
	my ($name, $text) = @_;
	open my $file, '>', "$dir/$name" or die $!;
	print $file $text;
	close $file;
	return "$dir/$name";
}
my $one = "(SELECT id FROM coder.%s ORDER BY id OFFSET :n LIMIT 1)";
my $write = script('write.sql', join "\n", '\set n random(0, 30)', '\set k random(1, 6)', '\set back random(1, 4)', 'BEGIN;',
	'\if :k = 1', sprintf("UPDATE coder.workspace_agents SET logs_length = (logs_length + 1) %% 1000 WHERE id = $one;", 'workspace_agents'),
	'\elif :k = 2', sprintf("UPDATE coder.workspace_apps SET health = CASE health WHEN 'healthy' THEN 'unhealthy' ELSE 'healthy' END::coder.workspace_app_health WHERE id = $one;", 'workspace_apps'),
	'\elif :k = 3', sprintf("UPDATE coder.workspaces SET last_used_at = now(), favorite = NOT favorite WHERE id = $one;", 'workspaces'),
	'\elif :k = 4', sprintf("UPDATE coder.workspace_builds SET daily_cost = :n WHERE id = $one;", 'workspace_builds'),
	'\elif :k = 5', sprintf("UPDATE coder.workspace_resource_metadata SET value = now()::text WHERE workspace_resource_id = $one;", 'workspace_resources'),
	'\else', sprintf("INSERT INTO coder.workspace_app_statuses (agent_id, app_id, workspace_id, state, message) SELECT p.agent_id, p.id, w.id, 'working', now()::text FROM coder.workspace_apps p, coder.workspaces w WHERE p.id = $one AND w.id = $one ON CONFLICT DO NOTHING;", 'workspace_apps', 'workspaces'),
	'\endif', '\if :back = 1', 'ROLLBACK;', '\else', 'COMMIT;', '\endif', '');
my $kept = 'md5(substr(' . call($token, 'limit=25') . ', 9))';
my $read = script('read.sql', "SELECT 1 / (a = b)::int FROM (SELECT $kept AS a, pg_current_xact_id() AS x, $kept AS b OFFSET 0) t;\nSELECT $kept;\nSELECT $kept;\n");
my @writers = IPC::Run::start(['pgbench', '-n', '-c', '2', '-T', '6', '-f', $write, '-h', $node->host, '-p', $node->port, 'postgres'], '>&', \my $wrote);
my ($status, $out, $err) = (0);
IPC::Run::run(['pgbench', '-n', '-c', '2', '-T', '5', '-f', $read, '-h', $node->host, '-p', $node->port, 'postgres'], '>', \$out, '2>', \$err) or $status = 1;
$_->finish for @writers;
is($status, 0, 'while many change, what is kept is what would be made') or diag($err);
unlike($err, qr/division/, 'in every statement');
my ($reads) = $out =~ /transactions actually processed: (\d+)/;
my ($writes) = $wrote =~ /transactions actually processed: (\d+)/;
cmp_ok($reads, '>', 50, "$reads readings");
cmp_ok($writes, '>', 50, "$writes changes");
unlike($wrote, qr/ERROR/, 'all of them possible');

$_->quit for @readers, $writer, $other, $late;
$node->stop;
done_testing();
