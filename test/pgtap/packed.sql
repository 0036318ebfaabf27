-- packed.sql -- coder.handle(bytea): the same answer as by eleven arguments, and what is not a request
BEGIN;
SELECT plan(7);

CREATE FUNCTION pg_temp.field(b bytea) RETURNS bytea LANGUAGE sql AS
	$$SELECT CASE WHEN b IS NULL THEN '\xffffffff'::bytea ELSE int4send(length(b)) || b END$$;
CREATE FUNCTION pg_temp.me(token bytea, remote bytea DEFAULT '::1') RETURNS bytea LANGUAGE sql AS $$
	SELECT int4send(r.id) || pg_temp.field('GET') || pg_temp.field('/api/v2/users/me') || pg_temp.field(pg_temp.field('me'))
		|| pg_temp.field('') || pg_temp.field('') || pg_temp.field(NULL) || pg_temp.field(token) || pg_temp.field(remote)
		|| pg_temp.field(NULL) || pg_temp.field(NULL)
	  FROM coder.routes r WHERE r.pattern = '/api/v2/users/{user}' AND r.method = 'GET'
$$;
INSERT INTO coder.users (username, email, status) VALUES ('paula', 'paula@example.com', 'active');
CREATE TEMP TABLE key AS SELECT coder.api_key_create(u.id, 'password', 86400) AS token FROM coder.users u WHERE u.username = 'paula';

SELECT is(coder.handle(pg_temp.me(token::bytea)),
	(SELECT coder.handle(r.id, 'GET', '/api/v2/users/me', '{me}', '', '', NULL, token, '::1', NULL, NULL)
	   FROM coder.routes r WHERE r.pattern = '/api/v2/users/{user}' AND r.method = 'GET'), 'the same answer') FROM key;
SELECT matches(convert_from(substr(coder.handle(pg_temp.me(token::bytea)), 9), 'UTF8'), '"username":"paula"', 'of who asks') FROM key;
SELECT throws_ok('SELECT coder.handle(pg_temp.me(NULL))', 'ZC401', NULL, 'a token is needed');
SELECT throws_ok($$SELECT coder.handle('\x')$$, '22P03', 'malformed request', 'nothing is not a request');
SELECT throws_ok($$SELECT coder.handle(pg_temp.me(NULL) || '\x00')$$, '22P03', 'malformed request', 'nor is one with more behind it');
SELECT throws_ok($$SELECT coder.handle(pg_temp.me('\xff'))$$, '22021', NULL, 'text must be of the encoding');
SELECT throws_ok($$SELECT coder.handle(pg_temp.me(NULL, '\x3a00'))$$, '22021', NULL, 'without NUL');

SELECT * FROM finish();
ROLLBACK;
