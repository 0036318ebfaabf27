-- rls.sql -- who comes by SQL sees what the API shows, and finds no way around
--
-- sql/access.sql, sql/api/session.sql, sql/api/console.sql; extension/session.c, row.c, guard.c.
\unset ECHO
\set QUIET 1
BEGIN;
\i api.psql
SELECT * FROM no_plan();
\set n 200
\i workspaces.psql
SET LOCAL session_replication_role = origin;

-- ---- people, and what the API shows them ----
CREATE ROLE sql_user LOGIN IN ROLE coder_user;
CREATE ROLE sql_auditor LOGIN IN ROLE coder_auditor;
CREATE ROLE sql_admin LOGIN IN ROLE coder_admin;
CREATE ROLE sql_stranger LOGIN;
GRANT USAGE ON SCHEMA public TO PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO PUBLIC;
CREATE TEMP TABLE tokens AS SELECT n.name, token_of(n.name, n.roles::text[]) AS token
  FROM (VALUES ('root', '{owner}'), ('member1', '{}'), ('member2', '{}'), ('tina', '{template-admin}'),
			   ('audrey', '{auditor}'), ('ulla', '{user-admin}')) n (name, roles);
CREATE FUNCTION pg_temp.tok(text) RETURNS text LANGUAGE sql AS 'SELECT token FROM tokens WHERE name = $1';
CREATE FUNCTION pg_temp.uid(text) RETURNS uuid LANGUAGE sql AS 'SELECT id FROM coder.users WHERE username = $1';
INSERT INTO coder.groups (id, name, organization_id) SELECT '00000000-0000-4000-8000-00000000000a', 'devs', :'org';
INSERT INTO coder.group_members (group_id, user_id) VALUES ('00000000-0000-4000-8000-00000000000a', pg_temp.uid('member2'));
-- One shared with a user, one with a group, one dormant, one dormant and shared, one of another organization.
UPDATE coder.workspaces SET user_acl = jsonb_build_object(pg_temp.uid('member1'), '{"permissions": ["read"]}'::jsonb) WHERE name = 'workspace-150';
UPDATE coder.workspaces SET group_acl = '{"00000000-0000-4000-8000-00000000000a": {"permissions": ["read", "ssh"]}}' WHERE name = 'workspace-151';
UPDATE coder.workspaces SET dormant_at = now() WHERE name IN ('workspace-12', 'workspace-160');
UPDATE coder.workspaces SET dormant_at = now(), user_acl = jsonb_build_object(pg_temp.uid('member1'), '{"permissions": ["read"]}'::jsonb)
 WHERE name = 'workspace-161';
INSERT INTO coder.organizations (id, name, display_name) VALUES ('00000000-0000-4000-8000-0000000000bb', 'other', 'Other');
INSERT INTO coder.organization_members (user_id, organization_id, roles)
VALUES (pg_temp.uid('tina'), '00000000-0000-4000-8000-0000000000bb', '{}'), (pg_temp.uid('ulla'), '00000000-0000-4000-8000-0000000000bb', '{organization-admin}');
UPDATE coder.workspaces SET organization_id = '00000000-0000-4000-8000-0000000000bb' WHERE name IN ('workspace-170', 'workspace-171');
UPDATE coder.workspaces SET deleted = true WHERE name = 'workspace-172';
-- A template that its list of groups does not show to all.
UPDATE coder.templates SET group_acl = '{"00000000-0000-4000-8000-00000000000a": ["read", "use"]}' WHERE name = 'template-4';
SELECT coder.audit('write', 'user', pg_temp.uid('member1'), 'member1');
SELECT coder.audit('write', 'group', '00000000-0000-4000-8000-00000000000a', 'devs', '00000000-0000-4000-8000-0000000000bb');
INSERT INTO coder.user_secrets (user_id, name, value) VALUES (pg_temp.uid('member1'), 'mine', 'hush'), (pg_temp.uid('root'), 'its', 'hush');

-- What each of them gets from the API: kind of thing and ids.
CREATE TEMP TABLE shown (who text, kind text, id text);
INSERT INTO shown
SELECT t.name, k.kind, e->>coalesce(k.key, 'id')
  FROM tokens t,
	   (VALUES ('workspace', '/api/v2/workspaces?limit=1000', 'workspaces', NULL), ('user', '/api/v2/users?limit=1000', 'users', NULL),
			   ('template', '/api/v2/templates', NULL, NULL), ('organization', '/api/v2/organizations', NULL, NULL),
			   ('group', '/api/v2/groups', NULL, NULL), ('member', '/api/v2/organizations/default/members', NULL, 'user_id'),
			   ('audit', '/api/v2/audit?limit=1000', 'audit_logs', NULL), ('token', '/api/v2/users/me/keys/tokens?include_all=true', NULL, NULL),
			   ('version', '/api/v2/templates/' || (SELECT id FROM coder.templates WHERE name = 'template-4') || '/versions', NULL, NULL)) k (kind, path, list, key),
	   LATERAL api('GET', k.path, NULL, t.token) a,
	   LATERAL jsonb_array_elements(coalesce(nullif(CASE WHEN a.status <> 200 THEN '[]' WHEN k.list IS NULL THEN a.body_ ELSE a.body_->k.list END, 'null'), '[]')) e;
SELECT cmp_ok((SELECT count(*) FROM shown WHERE who = 'root' AND kind = 'workspace'), '>', 190::bigint, 'the API shows the owner many workspaces');
SELECT is((SELECT count(*) FROM shown WHERE who = 'member1' AND kind = 'workspace'), 12::bigint, 'and a member its own and two that are shared');
GRANT SELECT ON tokens, shown TO PUBLIC;
CREATE TEMP TABLE hidden AS SELECT w.id, w.name::text, w.owner_id FROM coder.workspaces w WHERE w.name = 'workspace-155';
GRANT SELECT ON hidden TO PUBLIC;

-- The same by SQL.
CREATE FUNCTION pg_temp.seen(kind text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT id::text FROM coder.workspaces WHERE kind = 'workspace' AND NOT deleted
	UNION ALL SELECT id::text FROM coder.users WHERE kind = 'user' AND NOT deleted AND NOT is_system
	UNION ALL SELECT id::text FROM coder.templates WHERE kind = 'template' AND NOT deleted
	UNION ALL SELECT id::text FROM coder.organizations WHERE kind = 'organization' AND NOT deleted
	UNION ALL SELECT id::text FROM coder.groups WHERE kind = 'group'
	UNION ALL SELECT m.user_id::text FROM coder.members_live m WHERE kind = 'member' AND m.organization = 'coder' AND m.username <> 'prebuilds'
	UNION ALL SELECT id::text FROM coder.audit_logs WHERE kind = 'audit'
	UNION ALL SELECT id FROM coder.api_keys WHERE kind = 'token' AND login_type = 'token'
	UNION ALL SELECT v.id::text FROM coder.template_versions v JOIN coder.templates t ON t.id = v.template_id WHERE kind = 'version' AND t.name = 'template-4'
$$;

-- ---- nobody ----
SET SESSION AUTHORIZATION sql_user;
SELECT is(w.login, 'nobody', 'without a login nobody asks') FROM coder.whoami() w;
SELECT throws_ok('SELECT count(*) FROM coder.users', '28000', 'nobody is signed in to Coder in this session', 'and reading says so');
SELECT throws_ok('SELECT count(*) FROM coder.workspaces_live', '28000', NULL, 'reading a view, too') ;
SELECT is((SELECT count(*) FROM coder.row_workspaces()), 0::bigint, 'what policies ask gives nothing');
SELECT throws_ok($$SELECT coder.login('x')$$, '28000', 'this token does not sign anybody in', 'a token must look like one');
SELECT throws_ok($$SELECT coder.login('abcdefghij-abcdefghijklmnopqrstuv')$$, '28000', 'this token does not sign anybody in', 'and be one');
SELECT throws_ok($$SELECT coder.login(left(pg_temp.tok('member1'), 32) || '!')$$, '28000', 'this token does not sign anybody in', 'with its secret');
SELECT throws_ok($$SELECT coder.login(NULL)$$, '28000', NULL, 'none is no token');
SELECT throws_ok($$SELECT coder.become('root')$$, '42501', NULL, 'only administrators become others');
SELECT throws_ok($$SET coder.subject = 'root'$$, '42602', NULL, 'there are no settings to set');
SELECT throws_ok($$SELECT set_config('coder.user_id', 'root', false)$$, '42602', NULL, 'in no way');
SELECT throws_ok($$SELECT coder.api('GET', '/api/v2/users/me')$$, '28000', NULL, 'requests need a user');
SELECT throws_ok($$SELECT coder.stop_workspace('member1/workspace-10')$$, '42501', NULL, 'functions act for nobody');
SELECT throws_ok($$SELECT * FROM coder.who_can('read', 'member1/workspace-10')$$, '42501', NULL, 'and tell nothing');
SELECT ok(NOT coder.can('read', 'user'), 'nobody can anything');

-- ---- a plain user ----
SELECT is(coder.login(pg_temp.tok('member1')), 'member1', 'a token signs in');
SELECT is(w.login || ' ' || w.until || ' ' || w.username || ' ' || w.database_role, 'token session member1 sql_user', 'whoami tells')
  FROM coder.whoami() w;
SELECT is(coder.subject_id(), (SELECT user_id FROM coder.whoami()), 'functions of the API know, too');
SELECT ok(coder.can('read_personal', 'user', owner => coder.subject_id()), 'and decide');

-- ---- with transactions ----
SAVEPOINT a;
SELECT is(coder.login(pg_temp.tok('member2')), 'member2', 'another in a savepoint');
SAVEPOINT b;
SELECT is(coder.login(pg_temp.tok('tina'), true), 'tina', 'and one for the transaction inside');
SELECT is(w.username || ' ' || w.until, 'tina transaction', 'which counts') FROM coder.whoami() w;
ROLLBACK TO b;
SELECT is(w.username || ' ' || w.until, 'member2 session', 'a savepoint gives back what it found') FROM coder.whoami() w;
RELEASE b;
ROLLBACK TO a;
SELECT is(w.username, 'member1', 'and so does the one around it') FROM coder.whoami() w;
SAVEPOINT c;
SELECT throws_ok($$SELECT coder.login('x')$$, '28000', NULL, 'a login that fails');
SELECT is(w.username, 'member1', 'leaves the one before') FROM coder.whoami() w;

-- ---- everybody sees what the API shows ----
CREATE FUNCTION pg_temp.compare(who text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	k text;
BEGIN
	RETURN NEXT is(coder.login(pg_temp.tok(who)), who, who || ' signs in');
	FOREACH k IN ARRAY ARRAY['workspace', 'user', 'template', 'organization', 'group', 'member', 'audit', 'token', 'version'] LOOP
		-- The audit row of a login as the test goes on is not in what was shown before.
		RETURN NEXT is(ARRAY(SELECT s FROM pg_temp.seen(k) s ORDER BY 1), ARRAY(SELECT s.id FROM shown s WHERE s.who = compare.who AND s.kind = k ORDER BY 1),
			format('%s: SQL and API agree on each %s', who, k));
	END LOOP;
END
$$;
SELECT pg_temp.compare(t.name) FROM tokens t ORDER BY t.name;

-- ---- what hangs from a row is seen with it ----
SELECT is(coder.login(pg_temp.tok('member1')), 'member1', 'back to a member');
SELECT is((SELECT count(*) FROM coder.workspace_builds), 12::bigint, 'builds of the workspaces that are seen');
SELECT is((SELECT count(*) FROM coder.workspace_resources WHERE transition = 'start'), 24::bigint, 'their resources');
SELECT is((SELECT count(id) FROM coder.workspace_agents), 12::bigint, 'their agents');
SELECT is((SELECT count(*) FROM coder.workspace_apps), 24::bigint, 'their apps');
SELECT is((SELECT count(*) FROM coder.workspace_agent_scripts), 12::bigint, 'their scripts');
SELECT is((SELECT count(id) FROM coder.provisioner_jobs WHERE type = 'workspace_build'), 12::bigint, 'their jobs');
SELECT is((SELECT count(*) FROM coder.agents_live), 12::bigint, 'the views, too: agents');
SELECT is((SELECT count(*) FROM coder.builds_live), 12::bigint, 'builds');
SELECT is((SELECT string_agg(DISTINCT owner, ' ' ORDER BY owner) FROM coder.workspaces_live), 'member1 member15 member16', 'workspaces with the names of their owners, as in the API');
SELECT is((SELECT count(*) FROM coder.template_versions), 4::bigint, 'versions of the templates that are seen');
SELECT is((SELECT count(*) FROM coder.user_secrets WHERE name = 'its'), 0::bigint, 'no secrets of others');
SELECT is((SELECT count(*) FROM coder.connection_logs), 0::bigint, 'no connections of others');

-- ---- writes ----
SELECT lives_ok($$UPDATE coder.workspaces SET name = 'mine', ttl = 7200000000000, autostart_schedule = 'CRON_TZ=UTC 0 9 * * 1-5', automatic_updates = 'always',
	favorite = true WHERE name = 'workspace-11'$$, 'a user changes its own workspace');
SELECT is((SELECT ttl || ' ' || (next_start_at > now()) || ' ' || (updated_at = now()) FROM coder.workspaces WHERE name = 'mine'), '7200000000000 true true',
	'with what follows from it');
SELECT throws_ok($$UPDATE coder.workspaces SET name = 'shared' WHERE name = 'workspace-150'$$, '42501', 'permission denied: update of workspace "workspace-150"',
	'one that is shared for reading is not changed');
WITH u AS (UPDATE coder.workspaces SET name = 'x' WHERE name = 'workspace-155' RETURNING 1)
SELECT is((SELECT count(*) FROM u), 0::bigint, 'and one that is not seen is not there');
SELECT throws_ok($$UPDATE coder.workspaces SET ttl = 7200000000000$$, '42501', NULL, 'nor all at once');
SELECT throws_ok($$UPDATE coder.workspaces SET ttl = 5 WHERE name = 'mine'$$, '22023', 'time until shutdown must be at least one minute', 'the rules of the API hold: times');
SELECT throws_ok($$UPDATE coder.workspaces SET name = 'no name' WHERE name = 'mine'$$, '22023', NULL, 'names');
SELECT throws_ok($$UPDATE coder.workspaces SET autostart_schedule = 'never' WHERE name = 'mine'$$, '22023', NULL, 'schedules');
SELECT throws_ok($$UPDATE coder.workspaces SET name = 'workspace-10' WHERE name = 'mine'$$, '23505', NULL, 'and names are taken once');
SELECT throws_ok($$UPDATE coder.workspaces SET owner_id = owner_id$$, '42501', 'permission denied for column owner_id of table workspaces', 'not the owner');
SELECT throws_ok($$UPDATE coder.workspaces SET user_acl = '{}'$$, '42501', 'permission denied for column user_acl of table workspaces', 'not the lists');
SELECT throws_ok($$UPDATE coder.workspaces SET deleted = true$$, '42501', NULL, 'not the end');
SELECT throws_ok($$DELETE FROM coder.workspaces$$, '42501', 'permission denied for table workspaces', 'no deletion');
SELECT throws_ok($$INSERT INTO coder.workspaces (name) VALUES ('x')$$, '42501', 'permission denied for table workspaces', 'no insertion');
SELECT throws_ok($$UPDATE coder.users SET rbac_roles = '{owner}'$$, '42501', 'you cannot change your own roles', 'no climbing');
SELECT throws_ok($$UPDATE coder.users SET status = 'suspended'$$, '42501', NULL, 'no change of a status');
SELECT throws_ok($$UPDATE coder.users SET hashed_password = 'x'$$, '42501', 'permission denied for column hashed_password of table users', 'no password');
SELECT lives_ok($$UPDATE coder.users SET name = 'Member the First'$$, 'one''s own name');
SELECT throws_ok($$UPDATE coder.templates SET name = 'x'$$, '42501', NULL, 'no templates');
SELECT throws_ok($$INSERT INTO coder.group_members (group_id, user_id) VALUES ('00000000-0000-4000-8000-00000000000a', coder.subject_id())$$, '42501', NULL, 'no groups');
SELECT throws_ok($$DELETE FROM coder.audit_logs$$, '42501', NULL, 'no past');
SELECT throws_ok($$UPDATE coder.provisioner_jobs SET canceled_at = now()$$, '42501', NULL, 'no jobs');
SELECT throws_ok($$SELECT nextval('coder.provisioner_job_logs_id_seq')$$, '42501', NULL, 'no sequences');
SELECT throws_ok($$SELECT last_value FROM coder.provisioner_job_logs_id_seq$$, '42501', NULL, 'in no way');
SELECT throws_ok($$TRUNCATE coder.users$$, '42501', NULL, 'no TRUNCATE');
SELECT throws_ok($$LOCK TABLE coder.workspaces$$, '42501', NULL, 'no lock of all');
SELECT throws_ok($$SELECT * FROM coder.templates FOR UPDATE$$, '42501', NULL, 'no lock of what is shared');
SELECT throws_ok($$LOCK TABLE coder.api_keys$$, '42501', NULL, 'nor of the keys');
SELECT throws_ok($$ALTER TABLE coder.users DISABLE ROW LEVEL SECURITY$$, '42501', NULL, 'the policies stay');
SELECT throws_ok($$DROP POLICY reading ON coder.users$$, '42501', NULL, 'all of them');
SELECT throws_ok($$CREATE TABLE pg_temp.child () INHERITS (coder.users)$$, '42501', NULL, 'nothing inherits');
SELECT throws_ok($$CREATE TEMP TABLE child (id uuid REFERENCES coder.users)$$, NULL, NULL, 'nothing refers');

-- ---- functions ----
SELECT isnt(coder.stop_workspace('workspace-10'), NULL, 'a build by SQL');
SELECT is((SELECT b.transition || ' ' || b.initiator_by_username FROM coder.workspace_build_with_user b JOIN coder.workspaces w ON w.id = b.workspace_id
			WHERE w.name = 'workspace-10' AND b.build_number = 2), 'stop member1', 'is one of the API');
SELECT throws_ok($$SELECT coder.stop_workspace('workspace-10')$$, '55000', NULL, 'the state machine holds');
SELECT throws_ok($$SELECT coder.stop_workspace('member15/workspace-150')$$, '42501', NULL, 'a workspace shared for reading is not stopped');
SELECT throws_ok($$SELECT coder.stop_workspace(id) FROM hidden$$, '42501', NULL, 'one of others neither');
SELECT throws_ok($$SELECT coder.stop_workspace('member15/workspace-155')$$, '42501', 'workspace "member15/workspace-155" does not exist, or you may not read it', 'and is not told');
SELECT throws_ok($$SELECT coder.stop_workspace('member15/nothing')$$, '42501', 'workspace "member15/nothing" does not exist, or you may not read it', 'from one that is not there');
SELECT throws_ok($$SELECT coder.cancel_job(gen_random_uuid())$$, '42501', NULL, 'nor are jobs');
SELECT throws_ok($$SELECT coder.set_password('root', 'a new long password 1')$$, '42501', 'user "root" does not exist, or you may not change it', 'nor users');
SELECT throws_ok($$SELECT coder.set_password('nobody', 'a new long password 1')$$, '42501', 'user "nobody" does not exist, or you may not change it', 'who are not');
SELECT is(coder.api('GET', '/api/v2/users/me')->>'username', 'member1', 'a request of the API');
SELECT throws_ok($$SELECT coder.api('PUT', '/api/v2/users/root/roles', '{"roles": []}')$$, '42501', NULL, 'with its refusals');
SELECT throws_ok($$SELECT coder.api('POST', '/api/v2/users/login', '{}')$$, '0A000', NULL, 'but not those that ask for no session');
SELECT is((SELECT string_agg(w.username, ' ') FROM coder.who_can('read', 'mine') w), 'member1', 'who can tells of those who are seen');
SELECT is((SELECT count(*) FROM coder.audit_logs), 0::bigint, 'the audit log is not for members');
SELECT throws_ok($$SELECT coder.explain_access('root', 'read', 'workspace')$$, '42501', NULL, 'nor are the rights of others');

-- ---- ways around ----
-- Functions and operators of one's own see no row that is left out.
CREATE TEMP TABLE leaked (v text);
CREATE FUNCTION pg_temp.leak(v text) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN
	INSERT INTO leaked VALUES (v);
	RETURN true;
END
$$;
CREATE FUNCTION pg_temp.leak2(a text, b text) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS 'BEGIN RETURN pg_temp.leak(a); END';
CREATE OPERATOR pg_temp.~~~~ (FUNCTION = pg_temp.leak2, LEFTARG = text, RIGHTARG = text);
SELECT count(*) FROM coder.workspaces WHERE pg_temp.leak(name) \gset
SELECT count(*) FROM coder.workspaces WHERE name::text OPERATOR(pg_temp.~~~~) 'x' \gset
SELECT count(*) FROM coder.workspaces_live WHERE pg_temp.leak(name) \gset
SELECT count(*) FROM coder.workspaces_expanded WHERE pg_temp.leak(owner_username) \gset
SELECT count(*) FROM coder.members_live WHERE organization <> 'coder' AND pg_temp.leak(username) \gset
SELECT count(*) FROM coder.users_live WHERE pg_temp.leak(username) \gset
SELECT count(*) FROM coder.builds_live WHERE pg_temp.leak(workspace) \gset
SELECT count(*) FROM coder.agents_live WHERE pg_temp.leak(workspace) \gset
SELECT count(id) FROM coder.workspace_agents WHERE pg_temp.leak(name) \gset
SELECT set_eq($$SELECT DISTINCT v FROM leaked WHERE v IS NOT NULL$$,
	$$SELECT name::text FROM coder.workspaces UNION SELECT 'member1' UNION SELECT 'main'$$,
	'functions of one''s own are called for rows that one may see only');
SELECT lives_ok($$SELECT count(*) FROM coder.workspaces WHERE 1 / (CASE WHEN name = 'workspace-155' THEN 0 ELSE 1 END) = 1$$, 'nor do errors tell: division');
SELECT lives_ok($$SELECT count(*) FROM coder.workspaces_live WHERE 1 / (CASE WHEN name = 'workspace-155' THEN 0 ELSE 1 END) = 1$$, 'in views');
SELECT lives_ok($$SELECT count(*) FROM coder.users WHERE CASE WHEN username = 'root' THEN username::int = 1 ELSE true END$$, 'casts');
SELECT is((SELECT count(*) FROM coder.workspaces w, hidden h WHERE w.id = h.id), 0::bigint, 'joins');
SELECT is((SELECT count(*) FROM coder.workspace_builds b, hidden h WHERE b.workspace_id = h.id), 0::bigint, 'and what hangs below');
-- EXPLAIN in all its forms.
SELECT throws_ok(q, '42501', 'permission denied for EXPLAIN', q) FROM unnest(ARRAY[
	'EXPLAIN SELECT * FROM coder.workspaces', 'EXPLAIN (ANALYZE, FORMAT JSON) SELECT id FROM coder.users WHERE username = ''root''',
	'EXPLAIN SELECT 1 WHERE EXISTS (SELECT FROM coder.users)', 'EXPLAIN SELECT * FROM coder.workspaces_live',
	'EXPLAIN WITH x AS MATERIALIZED (SELECT id FROM coder.users) SELECT * FROM x',
	'EXPLAIN DECLARE c CURSOR FOR SELECT id FROM coder.users', 'EXPLAIN CREATE TEMP TABLE x AS SELECT id FROM coder.users',
	'EXPLAIN UPDATE coder.workspaces SET ttl = NULL']) q;
PREPARE counted AS SELECT count(*) FROM coder.workspaces;
SELECT throws_ok('EXPLAIN EXECUTE counted', '42501', 'permission denied for EXPLAIN', 'and of a prepared statement');
SELECT lives_ok('EXPLAIN SELECT * FROM leaked', 'EXPLAIN of other tables is free');
-- Statistics.
RESET SESSION AUTHORIZATION;
ANALYZE coder.users, coder.workspaces;
SET SESSION AUTHORIZATION sql_user;
SELECT is((SELECT count(*) FROM pg_stats WHERE schemaname = 'coder' AND tablename IN ('users', 'workspaces')), 0::bigint, 'no statistics of values');
-- Settings.
SET LOCAL row_security = off;
SELECT throws_ok('SELECT count(*) FROM coder.users', '42501', NULL, 'row_security cannot be turned off');
SELECT throws_ok($$UPDATE coder.users SET name = 'x'$$, '42501', NULL, 'for writes neither');
SET LOCAL row_security = on;
-- Names that are found first.
CREATE FUNCTION pg_temp.lower(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM pg_temp.leak(''called''); RETURN $1; END';
CREATE FUNCTION pg_temp.format(text, VARIADIC text[]) RETURNS text LANGUAGE plpgsql AS 'BEGIN PERFORM pg_temp.leak(''called''); RETURN $1; END';
CREATE TEMP TABLE users (id uuid, username text, deleted bool);
CREATE TEMP TABLE pg_class (relname name);
SET LOCAL search_path = pg_temp, public, pg_catalog;
SELECT public.is((SELECT w.username FROM coder.whoami() w), 'member1', 'functions know their names by heart');
SELECT public.is((coder.api('GET', '/api/v2/users/me')->>'username'), 'member1', 'all of them');
UPDATE coder.workspaces SET name = 'mine2' WHERE name = 'mine';
SELECT public.is((SELECT count(*) FROM pg_temp.leaked WHERE v = 'called'), 0::bigint, 'and call nothing of the caller''s');
RESET search_path;
DROP TABLE pg_temp.users, pg_temp.pg_class;
-- Roles.
SELECT throws_ok('SET ROLE coder_admin', '42501', NULL, 'no other role');
SELECT throws_ok('SET ROLE coder_auditor', '42501', NULL, 'none');
SET ROLE coder_user;
SELECT is(w.username, 'member1', 'the role of the group changes nothing') FROM coder.whoami() w;
RESET ROLE;
-- Plans are kept, rows are not.
SET LOCAL plan_cache_mode = force_generic_plan;
PREPARE mine AS SELECT string_agg(DISTINCT w.owner_id::text, ' ') FROM coder.workspaces w WHERE w.user_acl = '{}' AND w.group_acl = '{}';
CREATE FUNCTION pg_temp.owners() RETURNS text LANGUAGE plpgsql AS
	$$BEGIN RETURN (SELECT string_agg(DISTINCT w.owner_id::text, ' ') FROM coder.workspaces w WHERE w.user_acl = '{}' AND w.group_acl = '{}'); END$$;
CREATE FUNCTION pg_temp.prepared() RETURNS text LANGUAGE plpgsql AS 'DECLARE v text; BEGIN EXECUTE ''EXECUTE mine'' INTO v; RETURN v; END';
SELECT is(pg_temp.prepared() || pg_temp.owners(), coder.subject_id()::text || coder.subject_id(), 'a prepared statement as one');
SELECT is(coder.login(pg_temp.tok('member2')), 'member2', 'then as another');
SELECT is(pg_temp.prepared() || pg_temp.owners(), coder.subject_id()::text || coder.subject_id(), 'gives the rows of the other');
SELECT is(coder.login(pg_temp.tok('member1')), 'member1', 'and back');
SELECT is(pg_temp.prepared() || pg_temp.owners(), coder.subject_id()::text || coder.subject_id(), 'those of the first');
-- Cursors.
DECLARE held CURSOR FOR SELECT name FROM coder.workspaces;
SELECT throws_ok($$SELECT coder.login(pg_temp.tok('member2'))$$, '55006', NULL, 'an open cursor keeps its reader');
SELECT throws_ok($$SELECT coder.logout()$$, '55006', NULL, 'to the end');
CLOSE held;
-- Functions.
SELECT is_empty($$SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'coder'::regnamespace AND p.prorettype = 'coder.response'::regtype
	AND has_function_privilege('coder_admin', p.oid, 'EXECUTE')$$, 'no handler of the API is called by hand');
SELECT is_empty($$SELECT f FROM unnest(ARRAY['handle(bytea)', 'tick()', 'emit(text,text)', 'configure(jsonb, bool)', 'seed()', 'set_subject(uuid,text[],text[])',
	'session_login(text,bool)', 'session_become(uuid,bool)', 'session_info()', 'events_after(xid8,int4)', 'job_cancel(uuid)', 'random_key(int4)',
	'user_ssh_key(uuid,bool)', 'raise_sql(text,text,text,text)', 'policy(text,text,text[],text[],text[],text)',
	'handle_session(int4,text,text,text[],text,text,bytea,text,text,uuid,text)', 'find_workspace(text)', 'build_by_sql(text,text,uuid)']) f
	WHERE coalesce(has_function_privilege('coder_admin', to_regprocedure('coder.' || f), 'EXECUTE'), true)$$, 'nor is what works inside');
SELECT set_eq($$SELECT DISTINCT p.proname::text FROM pg_proc p WHERE p.pronamespace = 'coder'::regnamespace AND has_function_privilege('coder_user', p.oid, 'EXECUTE')$$,
	ARRAY['agent_status', 'api', 'boundary_usage', 'boundary_usage_check_window', 'can', 'can_any', 'cancel_job', 'delete_workspace', 'explain', 'grams', 'has_organization_membership', 'job_is_active', 'login', 'logout',
		'provisioner_fits', 'provisioner_tagset_contains', 'row_agents', 'row_all', 'row_builds', 'row_can', 'row_jobs', 'row_listed', 'row_orgs', 'row_own',
		'row_own_workspaces', 'row_owned', 'row_resources', 'row_subject', 'row_versions', 'row_workspaces', 'schedule_next', 'set_dormant', 'set_password',
		'start_workspace', 'stop_workspace', 'subject_id', 'subject_token_id', 'ts', 'version', 'who_can', 'whoami', 'workspace_status'],
	'people call these functions, and no others');
SELECT set_eq($$SELECT DISTINCT p.proname::text FROM pg_proc p WHERE p.pronamespace = 'coder'::regnamespace AND has_function_privilege('coder_admin', p.oid, 'EXECUTE')
	AND NOT has_function_privilege('coder_user', p.oid, 'EXECUTE')$$, ARRAY['become', 'explain_access', 'explain_access_to', 'health', 'stat_counters', 'stat_timers'], 'administrators these, too');
CREATE TEMP TABLE triggered (id uuid);
SELECT throws_ok($$CREATE TRIGGER t BEFORE UPDATE ON triggered FOR EACH ROW EXECUTE FUNCTION coder.user_changed()$$, '42501', NULL,
	'functions of triggers serve no other table');
RESET SESSION AUTHORIZATION;

SELECT is((SELECT u.username || ' ' || l.database_role || ' ' || (l.token_id IS NOT NULL) FROM coder.audit_logs l JOIN coder.users u ON u.id = l.user_id
	WHERE l.resource_type = 'workspace' AND l.action = 'write' AND l.diff->'name'->>'new' = 'mine2'), 'member1 sql_user true',
	'the audit log knows who changed a row by SQL: user, role of the database, token');

-- ---- secrets ----
SELECT is_empty($$SELECT a.attrelid::regclass || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
	 WHERE c.relnamespace = 'coder'::regnamespace AND c.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped
	   AND a.attname ~ '(secret|password|private|token|oauth_|refresh|seed|auth_key|p256dh|endpoint$|passcode|cached_plan|provisioner_state|^data$|^archive$|^input$)'
	   AND a.attname !~ '_key_id$'
	   AND a.attname NOT IN ('token_name', 'token_id', 'oauth_expiry', 'oauth_refresh_failure_reason', 'client_secret_expires_at', 'token_endpoint_auth_method', 'app_secret_id', 'token_type', 'refreshed_at', 'refreshing_until',
		-- What a language model counts.
		'input_tokens', 'output_tokens', 'total_tokens', 'reasoning_tokens', 'cache_creation_tokens', 'cache_read_tokens')
	   AND has_column_privilege('coder_admin', a.attrelid, a.attnum, 'SELECT')$$, 'no secret can be read, whoever asks');
SELECT ok(NOT has_column_privilege('coder_admin', 'coder.user_secrets', 'value', 'SELECT'), 'a user''s neither');
SELECT is_empty($$SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'coder'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relrowsecurity$$,
	'every table has row security');
SELECT is_empty($$SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'coder'::regnamespace AND c.relkind IN ('r', 'p')
	AND has_any_column_privilege('coder_admin', c.oid, 'SELECT, INSERT, UPDATE')
	AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid)$$, 'and a policy where somebody may read it');
SELECT is_empty($$SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'coder'::regnamespace AND c.relkind = 'v' AND has_table_privilege('coder_user', c.oid, 'SELECT')
	AND NOT coalesce(c.reloptions::text ~ 'security_(barrier|invoker)', false)$$, 'every view that people read keeps functions out, or runs with their rights');
SELECT is_empty($$SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'coder'::regnamespace AND CASE WHEN c.relkind = 'S' THEN has_sequence_privilege('coder_admin', c.oid, 'USAGE, SELECT, UPDATE') END$$,
	'sequences are nobody''s');
SELECT is_empty($$SELECT c.oid::regclass FROM pg_class c, aclexplode(c.relacl) a WHERE c.relnamespace = 'coder'::regnamespace AND a.grantee = 0$$, 'nothing is for PUBLIC');
SELECT ok(NOT has_schema_privilege('sql_stranger', 'coder', 'USAGE'), 'strangers do not see the schema');
-- The tests above can fail.
CREATE TABLE coder.open_to_all (id int);
SELECT is((SELECT relrowsecurity FROM pg_class WHERE oid = 'coder.open_to_all'::regclass), false, 'a table made behind the script has none');
SELECT ok(NOT has_table_privilege('coder_admin', 'coder.open_to_all', 'SELECT'), 'and is nobody''s');
DROP TABLE coder.open_to_all;

-- ---- tokens with scopes and lists ----
UPDATE coder.api_keys k SET scopes = '{workspace:read}' WHERE k.id = left(pg_temp.tok('root'), 10);
UPDATE coder.api_keys k SET allow_list = ARRAY['workspace:' || (SELECT id FROM hidden)] WHERE k.id = left(pg_temp.tok('tina'), 10);
SET SESSION AUTHORIZATION sql_user;
SELECT is(coder.login(pg_temp.tok('root')), 'root', 'an owner with a token for workspaces');
SELECT cmp_ok((SELECT count(*) FROM coder.workspaces), '>', 190::bigint, 'sees them');
SELECT is((SELECT count(*) FROM coder.users), 0::bigint, 'and nothing else');
SELECT throws_ok($$UPDATE coder.workspaces SET ttl = 7200000000000 WHERE name = 'workspace-155'$$, '42501', NULL, 'changes nothing');
SELECT is(coder.login(pg_temp.tok('tina')), 'tina', 'a template administrator with a token for one workspace');
SELECT results_eq('SELECT name::text FROM coder.workspaces', $$VALUES ('workspace-155')$$, 'sees that one');
SELECT is((SELECT count(*) FROM coder.workspace_builds), 1::bigint, 'and its build');
SELECT is((SELECT count(*) FROM coder.templates), 0::bigint, 'no templates');
RESET SESSION AUTHORIZATION;
UPDATE coder.api_keys k SET scopes = '{coder:all}' WHERE k.id = left(pg_temp.tok('root'), 10);

-- ---- rights that change under a login ----
SET SESSION AUTHORIZATION sql_user;
SELECT is(coder.login(pg_temp.tok('member2')), 'member2', 'a member');
SELECT is((SELECT count(*) FROM coder.users WHERE NOT is_system), 1::bigint, 'sees itself');
RESET SESSION AUTHORIZATION;
UPDATE coder.users SET rbac_roles = '{user-admin}' WHERE username = 'member2';
SET SESSION AUTHORIZATION sql_user;
SELECT cmp_ok((SELECT count(*) FROM coder.users), '>', 20::bigint, 'a role counts at once');
RESET SESSION AUTHORIZATION;
UPDATE coder.users SET rbac_roles = '{}' WHERE username = 'member2';
SET SESSION AUTHORIZATION sql_user;
SELECT is((SELECT count(*) FROM coder.users WHERE NOT is_system), 1::bigint, 'and so does its end');
RESET SESSION AUTHORIZATION;
UPDATE coder.api_keys SET expires_at = now() - interval '1 s' WHERE id = left(pg_temp.tok('member2'), 10);
SET SESSION AUTHORIZATION sql_user;
SELECT throws_ok('SELECT count(*) FROM coder.users', '28000', NULL, 'a token that has expired ends the login');
SELECT throws_ok('SELECT count(*) FROM coder.users', '28000', NULL, 'for good');
SELECT lives_ok('SELECT coder.logout()', 'which can be left');
SELECT is(w.login, 'nobody', 'to be nobody') FROM coder.whoami() w;

-- ---- administrators ----
SET SESSION AUTHORIZATION sql_admin;
SELECT is(w.login || ' ' || w.database_role, 'role sql_admin', 'an administrator needs no login') FROM coder.whoami() w;
SELECT cmp_ok((SELECT count(*) FROM coder.workspaces), '>', 190::bigint, 'sees all workspaces');
SELECT cmp_ok((SELECT count(*) FROM coder.users), '>', 20::bigint, 'and all users');
SELECT throws_ok('SELECT * FROM coder.users', '42501', 'permission denied for column hashed_password of table users', 'but no secrets');
SELECT throws_ok('SELECT u FROM coder.users u', '42501', NULL, 'in no row');
SELECT throws_ok('SELECT count(*) FROM coder.users WHERE hashed_password = ''x''', '42501', NULL, 'not by asking');
SELECT throws_ok('SELECT value FROM coder.user_secrets', '42501', NULL, 'nor a user''s secrets');
SELECT is((SELECT count(*) FROM coder.user_secrets), 0::bigint, 'which an owner does not even know of');
SELECT throws_ok('SELECT * FROM coder.settings', '42501', NULL, 'settings hold secrets');
SELECT throws_ok('SELECT * FROM coder.site_configs', '42501', NULL, 'and so do keys of the site');
SELECT lives_ok('EXPLAIN SELECT * FROM coder.workspaces', 'EXPLAIN is for administrators');
SELECT isnt(coder.stop_workspace((SELECT id FROM hidden)), NULL, 'stops a workspace of others');
SELECT is((SELECT b.initiator_by_username FROM coder.workspace_build_with_user b, hidden h WHERE b.workspace_id = h.id ORDER BY build_number DESC LIMIT 1),
	'member15', 'in the name of its owner');
SELECT lives_ok($$UPDATE coder.users SET status = 'suspended' WHERE username = 'member9'$$, 'suspends a user');
SELECT throws_ok($$UPDATE coder.users SET status = 'suspended' WHERE username = 'root'$$, '22023', 'you cannot suspend an owner: remove the role first', 'by the rules');
SELECT lives_ok($$UPDATE coder.users SET rbac_roles = '{auditor}' WHERE username = 'member9'$$, 'gives roles');
SELECT throws_ok($$UPDATE coder.users SET rbac_roles = '{emperor}' WHERE username = 'member9'$$, '22023', NULL, 'that there are');
SELECT throws_ok($$UPDATE coder.users SET status = 'dormant' WHERE username = 'member8'$$, '22023', NULL, 'a user does not become dormant by hand');
SELECT lives_ok($$UPDATE coder.templates SET display_name = 'T', default_ttl = 3600000000000 WHERE name = 'template-0'$$, 'changes templates');
SELECT throws_ok($$UPDATE coder.templates SET name = 'a b' WHERE name = 'template-0'$$, '22023', NULL, 'by the rules');
SELECT throws_ok($$UPDATE coder.organizations SET name = 'default' WHERE name = 'other'$$, '22023', NULL, 'those of organizations');
SELECT lives_ok($$INSERT INTO coder.group_members (group_id, user_id) SELECT '00000000-0000-4000-8000-00000000000a', id FROM coder.users WHERE username = 'member3'$$, 'fills groups');
SELECT throws_ok($$INSERT INTO coder.group_members (group_id, user_id) VALUES ('00000000-0000-4000-8000-00000000000a', gen_random_uuid())$$, '42501', NULL, 'with members');
SELECT throws_ok($$INSERT INTO coder.group_members (group_id, user_id) SELECT organization_id, user_id FROM coder.members_live LIMIT 1$$, '42501', NULL, 'but not Everyone');
WITH d AS (DELETE FROM coder.group_members WHERE group_id = '00000000-0000-4000-8000-00000000000a' RETURNING 1)
SELECT is((SELECT count(*) FROM d), 2::bigint, 'and empties them');
SELECT lives_ok($$SELECT coder.set_password('member8', 'a new long password 1')$$, 'sets passwords');
SELECT throws_ok($$SELECT coder.set_password('member8', 'x')$$, '22023', NULL, 'that are good');
WITH d AS (DELETE FROM coder.api_keys WHERE user_id = (SELECT id FROM coder.users WHERE username = 'audrey') RETURNING 1)
SELECT is((SELECT count(*) FROM d), 1::bigint, 'ends sessions');
SELECT set_eq($$SELECT username FROM coder.who_can('read', 'member15/workspace-150')$$, ARRAY['root', 'tina', 'member1', 'member15'], 'and knows who can');
SELECT is(coder.explain_access('member1', 'read', 'user')->>'allowed', 'false', 'and why not');
SELECT throws_ok($$SELECT coder.api('GET', '/api/v2/users/me')$$, '28000', NULL, 'requests are made by users');
SELECT throws_ok($$SELECT coder.become('nobody')$$, '28000', 'there is no user "nobody"', 'nobody becomes nobody');
SELECT throws_ok($$SELECT coder.become('member9')$$, '28000', 'the user who asks is suspended', 'or somebody who is suspended');
SELECT is(coder.become('member1'), 'member1', 'becomes a user');
SELECT is((SELECT count(*) FROM coder.users WHERE NOT is_system), 1::bigint, 'sees what the user sees');
SELECT is(coder.api('GET', '/api/v2/users/me')->>'username', 'member1', 'asks as the user');
SELECT is(coder.become('ulla', true), 'ulla', 'and another for the transaction');
SELECT is(w.username || ' ' || w.login || ' ' || w.until, 'ulla become transaction', 'whoami knows') FROM coder.whoami() w;
SELECT lives_ok('SELECT coder.logout()', 'logs out');
SELECT is((SELECT count(*) FROM coder.audit_logs WHERE database_role = 'sql_admin'
	AND additional_fields->>'by' = 'coder.become'), 2::bigint, 'and finds it in the audit log');
SELECT throws_ok($$DELETE FROM coder.audit_logs$$, '42501', NULL, 'which stays');
-- A function that an administrator lends gives no rights of the administrator's.
RESET SESSION AUTHORIZATION;
GRANT CREATE ON SCHEMA public TO sql_admin;
SET SESSION AUTHORIZATION sql_admin;
CREATE FUNCTION public.lent() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM coder.rows_workspaces';
SET SESSION AUTHORIZATION sql_user;
SELECT is(coder.login(pg_temp.tok('member1')), 'member1', 'a member');
SELECT is(public.lent(), 12::bigint, 'sees through a function of an administrator''s with its own eyes');

-- ---- auditors ----
SET SESSION AUTHORIZATION sql_auditor;
SELECT is((SELECT count(*) FROM coder.workspaces), 0::bigint, 'an auditor sees no workspaces');
SELECT cmp_ok((SELECT count(*) FROM coder.audit_live), '>', 5::bigint, 'but the audit log');
SELECT cmp_ok((SELECT count(*) FROM coder.users_live), '>', 20::bigint, 'and users');
SELECT throws_ok($$UPDATE coder.users SET name = 'x' WHERE username = 'root'$$, '42501', NULL, 'changes nothing');
SELECT throws_ok($$SELECT coder.become('root')$$, '42501', NULL, 'and becomes nobody');
RESET SESSION AUTHORIZATION;

-- ---- the owner is not filtered ----
SELECT coder.set_subject(NULL);
SELECT cmp_ok((SELECT count(*) FROM coder.workspaces), '>', 190::bigint, 'the role of the server sees all');
SELECT ok(NOT coder.can('read', 'user'), 'though it is nobody');

SELECT * FROM finish();
ROLLBACK;
