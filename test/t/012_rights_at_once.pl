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
max_prepared_transactions = 2
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

# Whose subjects a change drops.  Two users; a backend of the primary and one of the standby hold both.
$primary->safe_psql('postgres', <<'EOF');
CREATE TABLE keep.two (who text, id uuid, token text);
INSERT INTO coder.users (username, email, status, login_type) SELECT w, w || '@example.com', 'active', 'password' FROM unnest('{ann,bob}'::text[]) w;
INSERT INTO coder.organization_members (user_id, organization_id) SELECT u.id, p.y FROM coder.users u, keep.place p WHERE u.username IN ('ann', 'bob');
INSERT INTO keep.two SELECT username, id, coder.api_key_create(id, 'password', 86400) FROM coder.users WHERE username IN ('ann', 'bob');
UPDATE coder.api_keys k SET last_used = now() FROM keep.two t WHERE k.user_id = t.id;
INSERT INTO coder.user_links (user_id, login_type, linked_id) SELECT id, 'github', 'x' || who FROM keep.two;
CREATE FUNCTION keep.ask() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM coder.handle(r.id, 'GET', '/keep', '{}', '', '', NULL, t.token, '::1', NULL, NULL) FROM keep.two t, coder.routes r WHERE r.pattern = '/keep';
	RETURN keep.held();
END
$$;
CREATE FUNCTION keep.held() RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(t.who, ' ' ORDER BY t.who), 'none') FROM keep.two t WHERE coder.subject_cached(t.token)
$$;
EOF
my %asking = map { $_->name => $_->background_psql('postgres') } $primary, $standby;

# What the two backends hold after a change; keep.held() takes a snapshot, and with it what has been told.
sub drops
{
	my ($change, $held, $what) = @_;

	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
	$_->query_safe('SELECT keep.ask()') for values %asking;
	is($_->query_safe('SELECT keep.held()'), 'ann bob', "before $what both are held") for values %asking;
	$primary->safe_psql('postgres', $change);
	$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
	for my $node (sort keys %asking)
	{
		$asking{$node}->query_safe('SELECT coder.can(\'read\', \'user\')');
		is($asking{$node}->query_safe('SELECT keep.held()'), $held, "$node: $what");
	}
}

my $ann = q{(SELECT id FROM keep.two WHERE who = 'ann')};
drops("UPDATE coder.users SET rbac_roles = '{auditor}' WHERE id = $ann", 'bob', q{a role of Ann's drops hers});
drops("UPDATE coder.users SET status = 'suspended' WHERE id = $ann; UPDATE coder.users SET status = 'active' WHERE id = $ann", 'bob', 'so does her status');
drops("UPDATE coder.users SET username = 'anna' WHERE id = $ann", 'bob', 'so does her name');
drops("UPDATE coder.organization_members SET roles = '{organization-admin}' WHERE user_id = $ann", 'bob', 'so does a role in an organization');
drops("INSERT INTO coder.organization_members (user_id, organization_id) SELECT $ann, x FROM keep.place", 'bob', 'so does a membership');
drops("DELETE FROM coder.organization_members WHERE user_id = $ann AND organization_id = (SELECT x FROM keep.place)", 'bob', 'so does its end');
drops("INSERT INTO coder.group_members (user_id, group_id) SELECT $ann, g FROM keep.place", 'bob', 'so does a group');
drops("DELETE FROM coder.group_members WHERE user_id = $ann", 'bob', 'so does leaving it');
drops("UPDATE coder.api_keys SET scopes = '{user:read}' WHERE user_id = $ann", 'bob', 'so does the scope of a token');
drops("UPDATE coder.user_links SET oauth_expiry = '2001-01-01' WHERE user_id = $ann", 'ann bob', 'a token of a provider that lives longer is no change');
drops("UPDATE coder.user_links SET oauth_expiry = '2000-01-01' WHERE user_id = $ann", 'bob', 'one that ends sooner is');
drops("DELETE FROM coder.user_links WHERE user_id = $ann", 'bob', 'so does the link to a provider');
drops('BEGIN; SAVEPOINT a; UPDATE coder.users SET rbac_roles = \'{owner}\' WHERE id = ' . $ann . '; ROLLBACK TO a; UPDATE coder.users SET name = \'A\' WHERE id = ' . $ann . '; COMMIT',
	'ann bob', 'what a savepoint took back drops nobody');
drops('BEGIN; SAVEPOINT a; UPDATE coder.users SET rbac_roles = \'{owner}\' WHERE id = ' . $ann . '; ROLLBACK TO a; UPDATE coder.users SET rbac_roles = \'{}\' WHERE id = ' . $ann . '; COMMIT',
	'bob', 'the same change made again after it does');
drops("BEGIN; UPDATE coder.users SET rbac_roles = '{owner}' WHERE id = $ann; ROLLBACK", 'ann bob', 'a change that was taken back drops nobody');
drops("UPDATE coder.users SET last_seen_at = now() WHERE id = $ann", 'ann bob', 'being seen is no change');
drops('UPDATE coder.organizations SET shareable_workspace_owners = \'everyone\' WHERE id = (SELECT y FROM keep.place)', 'none', 'an organization is everybody');
drops("INSERT INTO coder.custom_roles (name, display_name) VALUES ('r', '')", 'none', 'so is a role');
drops("INSERT INTO coder.settings (name, value) VALUES ('disable_workspace_sharing', 'true')", 'none', 'so is a switch of the deployment');
$primary->safe_psql('postgres', "INSERT INTO coder.users (username, email, status) SELECT 'many' || i, i || '\@many', 'active' FROM generate_series(1, 100) i");
drops("INSERT INTO coder.organization_members (user_id, organization_id) SELECT u.id, p.y FROM coder.users u, keep.place p WHERE u.username LIKE 'many%'",
	'none', 'a hundred users in one transaction are everybody');
my $x = '(SELECT x FROM keep.place)';
my $bob = q{(SELECT id FROM keep.two WHERE who = 'bob')};
my $many = q{(SELECT id FROM coder.users WHERE username = 'many1')};
$primary->safe_psql('postgres', "INSERT INTO coder.organization_members (user_id, organization_id) VALUES ($ann, $x)");
drops("UPDATE coder.organization_members SET user_id = $many WHERE user_id = $ann AND organization_id = $x", 'bob', 'a row that changes hands drops who had it');
drops("UPDATE coder.organization_members SET user_id = $bob WHERE user_id = $many AND organization_id = $x", 'ann', 'and who gets it');
drops("DELETE FROM coder.api_keys WHERE user_id = (SELECT id FROM coder.users WHERE username = 'rita')", 'ann bob', q{a stranger's token is neither's});
drops("BEGIN; INSERT INTO coder.group_members (user_id, group_id) SELECT $ann, g FROM keep.place; PREPARE TRANSACTION 'p'", 'ann bob', 'a prepared change is none yet');
drops("COMMIT PREPARED 'p'", 'bob', 'it is when it commits');
drops('TRUNCATE coder.group_members', 'none', 'TRUNCATE is everybody');
$_->quit for values %asking;

done_testing();
