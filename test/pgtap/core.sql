-- core.sql -- what holds of the whole extension: routes, dumps, search paths, privileges; requests and errors
BEGIN;
\i api.psql
SELECT no_plan();

SELECT is_empty(
	$$SELECT method, pattern, function FROM coder.routes
	   WHERE to_regprocedure(format('coder.%I(coder.request)', function)) IS NULL$$,
	'every route names a function coder.NAME(coder.request)');
SELECT is_empty(
	$$SELECT regexp_replace(pattern, '\{[^}]*\}', '{}', 'g'), method FROM coder.routes GROUP BY 1, 2 HAVING count(*) > 1$$,
	'no two routes answer the same requests');
SELECT is_empty($$SELECT pattern FROM coder.routes WHERE auth = 'none' AND area <> 'unbuilt' AND function <> 'licensed_not_built' AND method <> 'GET'
	AND pattern NOT IN ('/api/v2/users/first', '/api/v2/users/login', '/api/v2/users/validate-password', '/api/v2/csp/reports')
	AND pattern NOT IN ('/api/experimental/chat-agents/{agent}/{path...}', '/api/experimental/chat-git')	-- by tickets of their own: chat.sql, chatgit.sql
	AND pattern !~ '^/api/v2/(users/otp|workspaceagents/(aws|azure|google))' AND pattern !~ '^/(oauth2|scim/v2)/'$$,
	'few routes may write without a session');
SELECT is_empty(
	$$SELECT c.relname FROM pg_extension e, pg_class c
	   WHERE e.extname = 'coder' AND c.relnamespace = 'coder'::regnamespace AND c.relkind = 'r'
	     AND c.relname NOT IN ('routes', 'auth_epoch', 'events', 'template_examples', 'audit_tables', 'audit_columns', 'audit_settings',
		'deployment_options', 'deployment_option_groups', 'user_totals', 'member_totals', 'telemetry_state', 'chat_config_changes', 'replicas') AND c.relpersistence = 'p'
	     AND c.oid <> ALL (coalesce(e.extconfig, '{}'))$$,
	'pg_dump saves every table but those that an install makes, or that hold nothing to keep');
SELECT is_empty(
	$$SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
	   WHERE p.pronamespace = 'coder'::regnamespace AND l.lanname = 'plpgsql' AND p.prokind = 'f'
	     AND p.proname NOT IN ('workspace_can', 'workspace_list', 'workspace_page_all')	-- hot: every name is qualified
	     AND NOT coalesce(p.proconfig::text LIKE '%search_path=pg_catalog, pg_temp%', false)$$,
	'every PL/pgSQL function has a fixed search path');
SELECT is_empty(
	$$SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'coder'::regnamespace AND p.prosecdef
	     AND p.prorettype <> 'trigger'::regtype AND NOT has_function_privilege('coder_admin', p.oid, 'EXECUTE')$$,
	'no function runs with another''s rights but triggers and what is for people');
SELECT is_empty(
	$$SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'coder'::regnamespace AND p.prosecdef
	     AND NOT coalesce(p.proconfig::text LIKE '%search_path=pg_catalog, pg_temp%', false)
	     AND (SELECT l.lanname FROM pg_language l WHERE l.oid = p.prolang) <> 'c'$$,
	'those that do have a fixed search path');
SELECT is_empty(
	$$SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'coder'::regnamespace AND p.prosecdef
	     AND p.prorettype <> 'trigger'::regtype AND NOT coalesce(p.proconfig::text LIKE '%row_security=on%', false)$$,
	'and row_security on, so that nobody feigns the restoring of a dump');
SELECT ok(NOT has_schema_privilege('pg_monitor', 'coder', 'USAGE'), 'the schema is its owner''s');
SELECT is_empty($$SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'coder'::regnamespace
	AND EXISTS (SELECT 1 FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0)$$, 'no function is granted to everybody');

-- functions of these tests
CREATE FUNCTION coder.t_echo(req coder.request) RETURNS coder.response LANGUAGE plpgsql AS
	$$ BEGIN RETURN coder.reply(200, to_jsonb(req)); END $$;
CREATE FUNCTION coder.t_who(req coder.request) RETURNS coder.response LANGUAGE plpgsql AS
	$$ BEGIN RETURN coder.reply(200, jsonb_build_object('id', coder.subject_id(), 'key', coder.subject_token_id())); END $$;
CREATE FUNCTION coder.t_body(req coder.request) RETURNS coder.response LANGUAGE plpgsql AS
	$$ BEGIN RETURN coder.reply(200, coder.body(req, 'a')); END $$;
CREATE FUNCTION coder.t_fail(req coder.request) RETURNS coder.response LANGUAGE plpgsql AS
	$$ BEGIN PERFORM coder.raise(418, '100% tea', 'de%stail', '[{"field": "a", "detail": "b"}]'); END $$;
CREATE FUNCTION coder.t_raw(req coder.request) RETURNS coder.response LANGUAGE plpgsql AS
	$$ BEGIN RETURN ROW(200, NULL, E'Content-Type: application/octet-stream\r\n', req.raw)::coder.response; END $$;
CREATE FUNCTION coder.t_text(req coder.request) RETURNS coder.response LANGUAGE plpgsql AS
	$$ BEGIN RETURN coder.reply(201, json_build_object('b', E'<a> & "\\" \u2028 é', 'a', ARRAY[1, 2])); END $$;
CREATE FUNCTION coder.t_none(req coder.request) RETURNS coder.response LANGUAGE plpgsql AS
	$$ BEGIN RETURN NULL; END $$;
CREATE FUNCTION coder.t_query(req coder.request) RETURNS coder.response LANGUAGE plpgsql AS $$
BEGIN
	RETURN coder.reply(200, jsonb_build_object('n', coder.query_int(req, 'n', 7), 'b', coder.query_bool(req, 'b'),
		'u', coder.query_uuid(req, 'u'), 'l', to_jsonb(coder.query_list(req, 'l'))));
END $$;
INSERT INTO coder.routes (area, method, pattern, function, auth, raw_body) VALUES
	('test', 'POST', '/t/echo/{one}/{rest...}', 't_echo', 'none', false), ('test', 'GET', '/t/who', 't_who', 'session', false),
	('test', 'GET', '/t/maybe', 't_who', 'optional', false), ('test', 'GET', '/t/agent', 't_who', 'agent', false),
	('test', 'POST', '/t/body', 't_body', 'none', false), ('test', 'GET', '/t/fail', 't_fail', 'none', false),
	('test', 'POST', '/t/raw', 't_raw', 'none', true), ('test', 'GET', '/t/text', 't_text', 'none', false),
	('test', 'GET', '/t/none', 't_none', 'none', false), ('test', 'GET', '/t/query', 't_query', 'none', false);
CREATE TEMP TABLE k AS SELECT token_of('admin') AS admin, token_of('bob') AS bob;

-- a request as its function sees it
CREATE TEMP TABLE e AS SELECT body_ AS j FROM api('POST', '/t/echo/a/b/c?x=1&x=2&y=%C3%A9+z&z=&=&%zz', '{"k": [1]}');
SELECT is(j->'params', '{"one": "a", "rest": "b/c"}', 'parameters of the path') FROM e;
SELECT is(j->'query'->'x', '"1"', 'the first of repeated names') FROM e;
SELECT is(j->'query'->'x[]', '["1", "2"]', 'and all of them') FROM e;
SELECT is(j->'query'->>'y', 'é z', 'percent and plus are decoded') FROM e;
SELECT is(j->'query'->>'%zz', '', 'a bad escape stands for itself') FROM e;
SELECT is(j->'body', '{"k": [1]}', 'the body') FROM e;
SELECT is(j->'headers'->>'content-type', 'application/json', 'a header') FROM e;
SELECT is(j->>'remote', '127.0.0.1', 'the client''s address') FROM e;
SELECT is(a.status, 400, 'a query that is not UTF-8') FROM api('POST', '/t/echo/a/b?x=%ff') a;
SELECT is(a.status, s, n || ' parameters') FROM (VALUES (1000, 200), (1001, 400)) t (n, s),
	api('POST', '/t/echo/a/b?' || (SELECT string_agg('p' || i, '&') FROM generate_series(1, n) i)) a;

-- answers
SELECT is(convert_from(raw_, 'UTF8'), E'{"b":"\\u003ca\\u003e \\u0026 \\"\\\\\\" \\u2028 é","a":[1,2]}\n', 'JSON has the API''s escapes')
  FROM api('GET', '/t/text');
SELECT is(raw_, '\x00ff0a'::bytea, 'bytes come back as they went') FROM api('POST', '/t/raw', raw => '\x00ff0a');
SELECT throws_ok($$SELECT * FROM api('GET', '/t/none')$$, 'XX000', NULL, 'a function must answer');

-- errors
SELECT is(status || (body_->>'message') || (body_->>'detail') || (body_->'validations'->0->>'field'), '418100% teade%staila', 'an error keeps its words')
  FROM api('GET', '/t/fail');
SELECT is(a.status || ' ' || (a.body_->>'message') || coalesce(' ' || (a.body_->>'detail'), ''), x.answer, x.what) FROM (VALUES
	('', '400 Request body must be valid JSON. EOF', 'an empty body'),
	('{', '400 Request body must be valid JSON. the body is not valid JSON', 'half a body'),
	('"\ud800"', '400 Request body must be valid JSON. the body is not valid JSON', 'half a surrogate'),
	('[1]', '400 Request body must be valid JSON. json: cannot unmarshal array into an object', 'no object'),
	('null', '400 Validation failed.', 'null has no members'), ('{"a": ""}', '400 Validation failed.', 'an empty member')) x (body, answer, what),
	LATERAL api('POST', '/t/body', raw => convert_to(x.body, 'UTF8')) a;
SELECT is(a.body_, '{"a": 1}', 'an object passes') FROM api('POST', '/t/body', '{"a": 1}') a;
SELECT is(a.status, 400, 'a body deeper than the stack') FROM api('POST', '/t/body', raw => convert_to(repeat('[', 200000), 'UTF8')) a;
SELECT is(a.status, 400, 'a body with a NUL') FROM api('POST', '/t/body', raw => '\x7b0022') a;
SELECT is(a.body_, '{"n": 7, "b": false, "u": null, "l": []}', 'parameters have defaults') FROM api('GET', '/t/query?n=&b=') a;
SELECT is(a.body_, '{"n": 3, "b": true, "u": "00000000-0000-0000-0000-00000000000a", "l": ["a", "b", "c"]}', 'and values')
  FROM api('GET', '/t/query?n=3&b=T&u=00000000-0000-0000-0000-00000000000A&l=a,b&l=c') a;
SELECT is(a.body_->'validations'->0->>'detail', x.detail, x.q) FROM (VALUES
	('n=-1', 'Query param "n" must be a valid 32-bit positive integer: value is negative'),
	('n=1&n=2', 'Query param "n" provided more than once, found 2 times. Only provide 1 instance of this query param.'),
	('b=maybe', 'Query param "b" must be a valid boolean: "maybe" is not one'),
	('u=1', 'Query param "u" must be a valid uuid: invalid UUID length: 1')) x (q, detail), LATERAL api('GET', '/t/query?' || x.q) a;

-- who asks
SELECT is(a.body_->>'key', left(k.bob, 10), 'the key is known to the function') FROM k, api('GET', '/t/who', token => k.bob) a;
SELECT is(coder.subject_id(), NULL, 'nobody asks afterwards');
SELECT is(a.status, 200, 'nobody may ask where auth is optional') FROM api('GET', '/t/maybe') a;
SELECT is(a.body_->>'id', NULL, 'and is nobody') FROM api('GET', '/t/maybe', token => 'nonsense') a;
SELECT isnt(a.body_->>'id', NULL, 'a good token counts') FROM k, api('GET', '/t/maybe', token => k.bob) a;
SELECT is(a.status, 401, 'an agent token of nobody') FROM api('GET', '/t/agent', token => gen_random_uuid()::text) a;
SELECT is(a.body_->>'detail', x.detail, x.detail) FROM k, (VALUES
	(NULL, 'Cookie "coder_session_token" or query parameter must be provided.'),
	('abc', 'Invalid API key format: incorrect amount of API key parts, expected 2 got 1'),
	('a-b-c', 'Invalid API key format: incorrect amount of API key parts, expected 2 got 3'),
	('a-b', 'Invalid API key format: invalid API key ID length, expected 10 got 1'),
	('-', 'Invalid API key format: invalid API key ID length, expected 10 got 0'),
	('abcdefghij-', 'Invalid API key format: invalid API key secret length, expected 22 got 0'),
	('abcdefghij-abcdefghijklmnopqrstuv', 'API key is invalid.')) x (token, detail), LATERAL api('GET', '/t/who', token => x.token) a;
SELECT is(a.body_->>'detail', 'API key secret is invalid.', 'a wrong secret')
  FROM k, api('GET', '/t/who', token => left(k.bob, 11) || 'abcdefghijklmnopqrstuv') a;

-- a changed function and a changed route count at once
CREATE OR REPLACE FUNCTION coder.t_text(req coder.request) RETURNS coder.response LANGUAGE plpgsql AS
	$$ BEGIN RETURN coder.reply(202, '{}'::jsonb); END $$;
SELECT is(status, 202, 'a replaced function answers') FROM api('GET', '/t/text');
UPDATE coder.routes SET function = 't_fail' WHERE pattern = '/t/text';
SELECT is(status, 418, 'a changed route, too') FROM api('GET', '/t/text');
DROP FUNCTION coder.t_none(coder.request);
SELECT throws_like($$SELECT * FROM api('GET', '/t/none')$$, 'function coder.t_none(coder.request) of a route does not exist', 'a dropped function is missed');

-- what is not built says so
SELECT is(a.status || ' ' || (a.body_->>'message'), '501 "' || r.method || ' ' || r.pattern || '" is not built yet.', 'an unbuilt route')
  FROM k, (SELECT * FROM coder.routes WHERE function = 'not_built' AND auth = 'session' AND pattern !~ '[{]' LIMIT 1) r,
  LATERAL api(r.method, r.pattern, token => k.admin) a;
SELECT set_eq($$SELECT DISTINCT a.status || ' ' || (a.body_->>'message') FROM k, coder.routes r, unnest('{t,f}'::bool[]) t, LATERAL api(r.method, r.pattern, token => CASE WHEN t THEN k.admin END) a
	WHERE r.function = 'licensed_not_built'$$, $$VALUES ('404 Route not found.')$$, 'what is behind a licence elsewhere, and not built here, is no route, whoever asks');
SELECT ok(count(*) > 20, 'these are many') FROM coder.routes WHERE function = 'licensed_not_built';

-- times and settings
SELECT is(coder.ts('2026-01-02 03:04:05.678900+01'), '2026-01-02T02:04:05.6789Z', 'a time on the wire');
SELECT is(coder.ts('0001-01-01 00:00:00+00'), '0001-01-01T00:00:00Z', 'the zero time');
SELECT is(coder.ts0(NULL), '0001-01-01T00:00:00Z', 'is what no time is');
SELECT is(coder.ts(NULL), NULL, 'or nothing');
SELECT coder.configure('{"experiments": "agents, oauth2", "access_url": "https://c.example.com", "n": 3}');
SELECT ok(coder.experiment('oauth2') AND NOT coder.experiment('mcp-server-http'), 'experiments are known by name');
SELECT is(coder.setting('n'), '3', 'a number is kept as text');
SELECT coder.configure('{"n": null}');
SELECT is(coder.setting('n'), NULL, 'null removes a setting');
SELECT is(coder.setting('access_url'), 'https://c.example.com', 'the others stay');
SELECT throws_ok($$SELECT coder.configure('[]')$$, '22023', 'settings must be an object', 'settings are an object');

-- searches
SELECT is(coder.search_parse('a status:x,y "b c" name:"d:e"', 'm', 'search', '{search,status,name}'),
	'{"status": ["x", "y"], "name": ["d:e"], "search": ["a b c"]}', 'a search is split');
SELECT throws_ok(format('SELECT coder.search_parse(%L, %L, NULL, %L)', x, 'Bad.', '{k}'), 'ZC400', 'Bad.', x)
  FROM unnest(ARRAY['free', ':x', 'k:', 'k:a:b', 'other:x']) x;

-- Durations as administrators write them.
CREATE FUNCTION pg_temp.seconds(d text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	PERFORM coder.configure(jsonb_build_object('session_duration', d));
	RETURN coder.setting_seconds('session_duration', 7);
END
$$;
SELECT is(pg_temp.seconds(d), seconds, 'duration "' || d || '"')
  FROM (VALUES ('86400', 86400::bigint), ('24h', 86400), ('1h30m', 5400), ('1.5h', 5400), ('7d', 604800), ('900ms', 0),
			   ('', 7), ('soon', 7), ('12', 12), ('h', 7), ('-1h', 7), ('1h 2m', 7)) t (d, seconds);

SELECT * FROM finish();
ROLLBACK;
