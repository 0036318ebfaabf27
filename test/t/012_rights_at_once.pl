# A change of rights is in force in every backend, on a standby too, at the first statement after its commit.
#
# 10,000 changes of a user's roles, memberships, groups, status and token scopes while 16 backends and 4 of a
# standby ask.  A reader notes what was published after a change had been committed, asks, and then looks whether
# the next change had begun: if not, the answer must be that of the published state.
use strict; use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use IPC::Run;
use Test::More;

my $changes = 10_000;
my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', <<'EOF');
shared_preload_libraries = 'coder'
max_connections = 60
fsync = off
track_functions = 'all'
EOF
$primary->start;
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

$primary->safe_psql('postgres', <<'EOF');
CREATE EXTENSION coder;
SELECT coder.seed();
CREATE SCHEMA keep;
CREATE TABLE keep.published (n int, expected int);
CREATE TABLE keep.started (n int);
INSERT INTO keep.published VALUES (0, 0);
INSERT INTO keep.started VALUES (0);
CREATE TABLE keep.place AS SELECT gen_random_uuid() AS me, gen_random_uuid() AS x, gen_random_uuid() AS y, gen_random_uuid() AS g, NULL::text AS token;
INSERT INTO coder.users (id, username, email, status) SELECT me, 'rita', 'rita@example.com', 'active' FROM keep.place;
INSERT INTO coder.organizations (id, name, display_name, shareable_workspace_owners) SELECT x, 'x', '', 'none'::coder.shareable_workspace_owners FROM keep.place;
INSERT INTO coder.organizations (id, name, display_name, shareable_workspace_owners) SELECT y, 'y', '', 'none'::coder.shareable_workspace_owners FROM keep.place;
INSERT INTO coder.groups (id, name, organization_id) SELECT g, 'g', y FROM keep.place;
INSERT INTO coder.organization_members (user_id, organization_id) SELECT me, y FROM keep.place;
UPDATE keep.place SET token = coder.api_key_create(me, 'password', 86400);
UPDATE coder.api_keys SET last_used = now(), scopes = '{deployment_stats:read,group:update}';

-- What the user may do, as bits: a role, a membership, a group, the token's scope; 16: suspended.
CREATE FUNCTION coder.keep_seen(req coder.request) RETURNS coder.response LANGUAGE plpgsql AS $$
DECLARE
	p keep.place;
BEGIN
	SELECT * INTO p FROM keep.place;
	RETURN coder.reply(200, (coder.can('read', 'deployment_stats')::int + 2 * coder.has_organization_membership(p.x)::int
		+ 4 * coder.can('update', 'group', p.y, NULL, NULL, jsonb_build_object(p.g, '["update"]'::jsonb), p.g)::int
		+ 8 * coder.can('read', 'user', NULL, p.me, id => p.me)::int)::text);
END
$$;
INSERT INTO coder.routes (area, method, pattern, function) VALUES ('keep', 'GET', '/keep', 'keep_seen');
CREATE FUNCTION keep.seen() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	RETURN (SELECT convert_from(substr(h.a, 9), 'UTF8')::int FROM keep.place p, coder.routes r,
		LATERAL (SELECT coder.handle(r.id, 'GET', '/keep', '{}', '', '', NULL, p.token, '::1', NULL, NULL) AS a) h WHERE r.pattern = '/keep');
EXCEPTION WHEN SQLSTATE 'ZC401' THEN
	RETURN 16;
END
$$;
-- An answer that was judged; those who come here are counted.
CREATE FUNCTION keep.judged(expected int, seen int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF seen <> expected THEN
		RAISE EXCEPTION 'stale: % for %', seen, expected;
	END IF;
END
$$;

-- One change, and what is true after it.  A transaction makes four.
CREATE FUNCTION keep.change(n int, before int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	bit CONSTANT int := (ARRAY[1, 2, 4, 8, 16])[1 + n % 5];
	is_on CONSTANT bool := before & bit = 0;
	p keep.place;
BEGIN
	SELECT * INTO p FROM keep.place;
	CASE bit
	WHEN 1 THEN
		UPDATE coder.users SET rbac_roles = CASE WHEN is_on THEN '{auditor}' ELSE '{}' END::text[] WHERE id = p.me;
	WHEN 2 THEN
		IF is_on THEN
			INSERT INTO coder.organization_members (user_id, organization_id) VALUES (p.me, p.x);
		ELSE
			DELETE FROM coder.organization_members WHERE user_id = p.me AND organization_id = p.x;
		END IF;
	WHEN 4 THEN
		IF is_on THEN
			INSERT INTO coder.group_members (user_id, group_id) VALUES (p.me, p.g);
		ELSE
			DELETE FROM coder.group_members WHERE user_id = p.me;
		END IF;
	WHEN 8 THEN
		UPDATE coder.api_keys SET scopes = CASE WHEN is_on THEN '{coder:all}' ELSE '{deployment_stats:read,group:update}' END::text[];
	ELSE
		UPDATE coder.users SET status = CASE WHEN is_on THEN 'suspended' ELSE 'active' END::coder.user_status WHERE id = p.me;
	END CASE;
	RETURN before # bit;
END
$$;
CREATE PROCEDURE keep.changes(count int) LANGUAGE plpgsql AS $$
DECLARE
	state int := 0;
BEGIN
	FOR i IN 1 .. count / 4 LOOP
		UPDATE keep.started SET n = i;
		COMMIT;
		FOR j IN 4 * i - 3 .. 4 * i LOOP
			state := keep.change(j, state);
		END LOOP;
		COMMIT;
		UPDATE keep.published SET n = i, expected = CASE WHEN state & 16 <> 0 THEN 16 ELSE state END;
		COMMIT;
		PERFORM pg_sleep(0.003);
	END LOOP;
END
$$;
EOF
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));

my $script = PostgreSQL::Test::Utils::tempdir() . '/reader.sql';
append_to_file($script, <<'EOF');
SELECT n, expected FROM keep.published \gset
SELECT keep.seen() AS seen \gset
SELECT n AS next FROM keep.started \gset
\if :n = :next
SELECT keep.judged(:expected, :seen);
\endif
\sleep 10 ms
EOF

# A reader that errs leaves at once with a status.
sub readers
{
	my ($node, $clients) = @_;
	my ($out, $err) = ('', '');
	my $run = IPC::Run::start(['pgbench', '-n', '-f', $script, '-c', $clients, '-j', 1, '-T', 300, '-h', $node->host, '-p', $node->port, 'postgres'],
		'>', \$out, '2>', \$err);
	return {run => $run, err => \$err, node => $node};
}

sub calls
{
	my ($node, $name) = @_;
	return $node->safe_psql('postgres', "SELECT coalesce((SELECT calls FROM pg_stat_user_functions WHERE schemaname = 'keep' AND funcname = '$name'), 0)");
}

sub stop
{
	my ($readers, $what) = @_;
	ok($readers->{run}->pumpable, "$what are still asking at the end: none saw a stale answer") or diag ${ $readers->{err} };
	$readers->{run}->signal('TERM');
	eval { $readers->{run}->finish };
	$readers->{node}->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE query LIKE '%keep.%' AND pid <> pg_backend_pid()");
	unlike(${ $readers->{err} }, qr/stale/, "$what report none");
}

my $first = readers($primary, 16);
my $second = readers($standby, 4);
ok($primary->poll_query_until('postgres', "SELECT count(*) >= 16 FROM pg_stat_activity WHERE query LIKE '%keep.%' AND pid <> pg_backend_pid()"), '16 backends ask');
$primary->safe_psql('postgres', "CALL keep.changes($changes)", timeout => 240);
is($primary->safe_psql('postgres', 'SELECT 4 * n FROM keep.published'), $changes, "$changes changes are made");
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
stop($first, 'the backends');
stop($second, 'those of the standby');
for my $node ($primary, $standby)
{
	cmp_ok(calls($node, 'judged'), '>', 50, $node->name . ': many answers were judged');
	diag(sprintf '%s: %d answers, %d of them judged', $node->name, calls($node, 'seen'), calls($node, 'judged'));
}

# The same reader sees the mistake where a change tells nobody.
for my $node ($primary, $standby)
{
	my $session = $node->background_psql('postgres');
	my $before = $session->query_safe('SELECT keep.seen(); SELECT keep.seen()');
	$primary->safe_psql('postgres', <<'EOF');
ALTER TABLE coder.users DISABLE TRIGGER auth_changed_update;
UPDATE coder.users SET rbac_roles = CASE WHEN rbac_roles = '{}' THEN '{auditor}' ELSE '{}' END::text[] WHERE username = 'rita';
ALTER TABLE coder.users ENABLE TRIGGER auth_changed_update;
EOF
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
	my ($was) = $before =~ /(\d+)$/;
	is($session->query_safe('SELECT keep.seen()'), $was, $node->name . ': an untold change is not seen, so the cache is used');
	$primary->safe_psql('postgres', "UPDATE coder.users SET is_service_account = is_service_account, username = 'rita2' WHERE username = 'rita'; UPDATE coder.users SET username = 'rita' WHERE username = 'rita2'");
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
	isnt($session->query_safe('SELECT keep.seen()'), $was, $node->name . ': the next one that is told brings it');
	$session->quit;
}

# A statement in a transaction that locks nothing new.
my $session = $primary->background_psql('postgres');
my $was = $session->query_safe('BEGIN; SELECT keep.seen()');
$primary->safe_psql('postgres', "UPDATE coder.users SET rbac_roles = CASE WHEN rbac_roles = '{}' THEN '{auditor}' ELSE '{}' END::text[] WHERE username = 'rita'");
isnt($session->query_safe('SELECT keep.seen()'), $was, 'a later statement of a transaction sees it, too');
$session->query_safe('COMMIT');
$session->quit;

done_testing();
