-- rls.sql -- who comes by SQL sees what the API shows: sql/access.sql, extension/session.c, row.c, guard.c
\unset ECHO
\set QUIET 1
BEGIN;
\i api.psql
SELECT * FROM no_plan();
\set n 200
\i workspaces.psql
SET LOCAL session_replication_role = origin;

-- ---- people ----
CREATE ROLE sql_user LOGIN IN ROLE coder_user;
CREATE ROLE sql_auditor LOGIN IN ROLE coder_auditor;
CREATE ROLE sql_admin LOGIN IN ROLE coder_admin;
CREATE ROLE sql_stranger LOGIN;
GRANT USAGE ON SCHEMA public TO sql_user, sql_auditor, sql_admin;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO PUBLIC;
GRANT ALL ON ALL TABLES IN SCHEMA pg_temp TO PUBLIC;
CREATE TEMP TABLE tokens AS SELECT n.name, token_of(n.name, n.roles::text[]) AS token
  FROM (VALUES ('root', '{owner}'), ('member1', '{}'), ('member2', '{}'), ('tina', '{template-admin}'),
			   ('audrey', '{auditor}'), ('ulla', '{user-admin}')) n (name, roles);
GRANT SELECT ON tokens TO PUBLIC;
CREATE FUNCTION pg_temp.tok(text) RETURNS text LANGUAGE sql AS 'SELECT token FROM tokens WHERE name = $1';

-- ---- nobody ----
SET SESSION AUTHORIZATION sql_user;
SELECT is(w.login, 'nobody', 'without a login nobody asks') FROM coder.whoami() w;
SELECT throws_ok('SELECT count(*) FROM coder.users', '28000', 'nobody is signed in to Coder in this session', 'and reading says so');
SELECT throws_ok($$SELECT coder.login('x')$$, '28000', 'this token does not sign anybody in', 'a token must look like one');
SELECT throws_ok($$SELECT coder.login('abcdefghij-abcdefghijklmnopqrstuv')$$, '28000', 'this token does not sign anybody in', 'and be one');
SELECT throws_ok($$SELECT coder.login(left(pg_temp.tok('member1'), 32) || '!')$$, '28000', 'this token does not sign anybody in', 'with its secret');
SELECT throws_ok($$SELECT coder.login(NULL)$$, '28000', NULL, 'none is no token');
SELECT throws_ok($$SELECT coder.become('root')$$, '42501', NULL, 'only administrators become others');
SELECT throws_ok($$SELECT coder.set_subject(NULL)$$, '42501', NULL, 'what tests use is closed');
SELECT throws_ok($$SELECT coder.session_become(gen_random_uuid(), false)$$, '42501', NULL, 'so is what become uses');
SELECT throws_ok($$SET coder.subject = 'root'$$, '42602', NULL, 'there are no settings to set');
SELECT is(w.login, 'nobody', 'settings sign nobody in') FROM coder.whoami() w;

-- ---- a plain user ----
SELECT is(coder.login(pg_temp.tok('member1')), 'member1', 'a token signs in');
SELECT is(w.login || ' ' || w.until || ' ' || w.username || ' ' || w.database_role, 'token session member1 sql_user', 'whoami tells')
  FROM coder.whoami() w;
SELECT is(coder.subject_id(), (SELECT user_id FROM coder.whoami()), 'functions of the API know, too');
SELECT set_eq('SELECT username FROM coder.users', ARRAY['member1'], 'a member reads itself of the users');

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

SELECT * FROM finish();
ROLLBACK;
