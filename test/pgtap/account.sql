-- account.sql -- logins that fail, one-time passcodes, conversion of a login, quiet hours, dormancy: good and bad requests
BEGIN;
\i api.psql
SELECT no_plan();
SELECT coder.configure('{"access_url": "https://coder.example.com", "user_dormancy_threshold": "2160h"}');

CREATE FUNCTION public.go(method text, path text, body jsonb DEFAULT NULL, token text DEFAULT NULL) RETURNS text LANGUAGE sql AS
	$$ SELECT a.status || coalesce(' ' || (a.body_->>'message'), '') FROM api(method, path, body, token) a $$;
CREATE TEMP TABLE t AS SELECT token_of('admin') AS admin, token_of('bob') AS bob, token_of('carol') AS carol;
UPDATE coder.users SET hashed_password = convert_to(coder.password_hash('SuperSecret1!'), 'UTF8') WHERE username IN ('bob', 'carol');
UPDATE coder.users SET login_type = 'github' WHERE username = 'carol';
CREATE FUNCTION public.tok(n text) RETURNS text LANGUAGE sql AS $$ SELECT to_jsonb(t)->>n FROM t $$;

-- a login that fails says the same of known and unknown addresses, takes as long, and is audited
SELECT is(go('POST', '/api/v2/users/login', jsonb_build_object('email', e, 'password', p)), a, e || ' ' || p) FROM (VALUES
	('nobody@example.com', 'SuperSecret1!', '401 Incorrect email or password.'), ('bob@example.com', 'wrong', '401 Incorrect email or password.'),
	('carol@example.com', 'wrong', '401 Incorrect email or password.'),
	('carol@example.com', 'SuperSecret1!', '403 Incorrect login type, attempting to use "password" but user is of login type "github"')) v (e, p, a);
SELECT is((SELECT array_agg(l.status_code || ' ' || coalesce(u.username, '') ORDER BY l.status_code, u.username NULLS FIRST)
	FROM coder.audit_logs l LEFT JOIN coder.users u ON u.id = l.user_id WHERE l.action = 'login'),
	ARRAY['401 ', '401 bob', '401 carol', '403 carol']::text[], 'each attempt is in the audit log');
CREATE FUNCTION public.ms(email text) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
	t timestamptz;
	best numeric;
BEGIN
	FOR i IN 1 .. 5 LOOP
		t := clock_timestamp();
		PERFORM coder.login_try(email, 'wrong');
		best := least(best, extract(epoch FROM clock_timestamp() - t) * 1000);
	END LOOP;
	RETURN best;
END
$$;
SELECT ok(m.known / m.unknown BETWEEN 0.4 AND 2.5, format('a wrong password takes %s ms, an unknown address %s ms', round(m.known, 1), round(m.unknown, 1)))
  FROM (SELECT ms('bob@example.com') AS known, ms('nobody@example.com') AS unknown) m;

-- a hash of an imported database is replaced when its password is known
SELECT isnt(token_of('dave'), NULL, 'an imported user');
UPDATE coder.users SET hashed_password = convert_to('$pbkdf2-sha256$2$c2FsdHNhbHRzYWx0c2FsdA$kgBUWQrzywzIGHjL8stHU6eF8rR5ucIVOBj7tk4dR5itzyYs0rJltB1QpA6gfeDDuNq58HeBhCybgUhrJQ7xgg', 'UTF8') WHERE username = 'dave';
SELECT is(left(go('POST', '/api/v2/users/login', '{"email": "dave@example.com", "password": "SuperSecret1!"}'), 3), '201', 'signs in')
  FROM generate_series(1, 2);
SELECT ok((SELECT convert_from(hashed_password, 'UTF8') LIKE '$argon2id$%' FROM coder.users WHERE username = 'dave'), 'its hash is one of ours');

-- one-time passcodes
SELECT is(go('POST', '/api/v2/users/otp/request', b), a, b::text) FROM (VALUES
	('{}'::jsonb, '400 Validation failed.'), ('{"email": "no address"}', '400 Validation failed.'), ('{"email": "nobody@example.com"}', '204'),
	('{"email": "CAROL@example.com"}', '204'), ('{"email": "BOB@example.com"}', '204'), ('{"email": "bob@example.com"}', '204')) v (b, a);
SELECT is((SELECT array_agg(username) FROM coder.users WHERE hashed_one_time_passcode IS NOT NULL), ARRAY['bob'], 'only who has a password gets a passcode');
SELECT is((SELECT count(*)::int FROM coder.inbox_notifications n JOIN coder.users u ON u.id = n.user_id
	WHERE u.username = 'admin' AND n.title LIKE 'bob asks%'), 1, 'those who administer users are told once');
SELECT ok((SELECT convert_from(hashed_one_time_passcode, 'UTF8') LIKE '$argon2id$%' AND one_time_passcode_expires_at = now() + interval '20 minutes'
	FROM coder.users WHERE username = 'bob'), 'its hash is kept for 20 minutes');
CREATE TEMP TABLE otp AS SELECT coder.user_passcode('bob') AS code;
SELECT throws_ok($$SELECT coder.user_passcode('carol')$$, '55000', NULL, 'not of who signs in elsewhere');
SELECT throws_ok($$SELECT coder.user_passcode('nobody')$$, 'P0002', NULL, 'nor of nobody');
CREATE FUNCTION public.change(email text, code text, password text) RETURNS text LANGUAGE sql AS $$ SELECT go('POST', '/api/v2/users/otp/change-password',
	jsonb_build_object('email', email, 'one_time_passcode', code, 'password', password)) $$;
SELECT is(change(e, c, p), a, e || ' ' || a) FROM otp, LATERAL (VALUES
	('bob@example.com', 'wrong', 'OtherSecret1!', '400 Incorrect email or one-time passcode.'), ('nobody@example.com', code, 'OtherSecret1!', '400 Incorrect email or one-time passcode.'),
	('carol@example.com', code, 'OtherSecret1!', '400 Incorrect email or one-time passcode.'), ('bob@example.com', '', 'OtherSecret1!', '400 Validation failed.'),
	('bob@example.com', code, 'weak', '400 Invalid password.'), ('bob@example.com', code, 'SuperSecret1!', '400 New password cannot match old password.'),
	('bob@example.com', code, 'OtherSecret1!', '204'), ('bob@example.com', code, 'ThirdSecret1!', '400 Incorrect email or one-time passcode.')) v (e, c, p, a);
SELECT is((SELECT count(*)::int FROM coder.api_keys k JOIN coder.users u ON u.id = k.user_id WHERE u.username = 'bob'), 0, 'all keys go');
SELECT is(left(go('POST', '/api/v2/users/login', '{"email": "bob@example.com", "password": "OtherSecret1!"}'), 3), '201', 'the new password lets in');
SELECT coder.user_passcode('bob') AS code \gset
UPDATE coder.users SET one_time_passcode_expires_at = now() WHERE username = 'bob';
SELECT is(change('bob@example.com', :'code', 'ThirdSecret1!'), '400 Incorrect email or one-time passcode.', 'a passcode expires');
SELECT is((SELECT count(*)::int FROM coder.audit_logs WHERE action = 'request_password_reset'), 2, 'requests are audited');
SELECT coder.configure('{"disable_password_auth": "1"}');
SELECT is(go('POST', p, '{"email": "bob@example.com", "password": "OtherSecret1!", "one_time_passcode": "x"}'), '403 Password authentication is disabled.', p)
  FROM unnest(ARRAY['/api/v2/users/otp/request', '/api/v2/users/otp/change-password', '/api/v2/users/login']) p;
SELECT coder.configure('{"disable_password_auth": null}');

-- conversion of a login
UPDATE t SET bob = token_of('bob');
SELECT is(go('POST', '/api/v2/users/' || who || '/convert-login', b, tok('bob')), a, b::text) FROM (VALUES
	('me', '{}'::jsonb, '400 Validation failed.'), ('me', '{"to_type": "none", "password": "x"}', '400 Cannot convert to login type "none".'),
	('me', '{"to_type": "token", "password": "x"}', '400 Cannot convert to login type "token".'), ('me', '{"to_type": "fax", "password": "x"}', '400 Unknown login type "fax".'),
	('me', '{"to_type": "oidc", "password": "x"}', '401 Incorrect email or password.'),
	('carol', '{"to_type": "oidc", "password": "SuperSecret1!"}', '404 Resource not found or you do not have access to this resource')) v (who, b, a);
CREATE TEMP TABLE c AS SELECT a.status, a.body_ AS b, a.headers, substring(a.headers, 'coder_oauth_convert_jwt=([^;]+)') AS jwt
  FROM api('POST', '/api/v2/users/me/convert-login', '{"to_type": "oidc", "password": "OtherSecret1!"}', tok('bob')) a;
SELECT is(status || (b->>'to_type'), '201oidc', 'with the password') FROM c;
SELECT matches(b->>'state_string', '^convert-[0-9A-Za-z]{32}$', 'a state to sign in with') FROM c;
SELECT matches(headers, '^Set-Cookie: coder_oauth_convert_jwt=[^;]+; Path=/; Max-Age=300; HttpOnly; Secure; SameSite=Lax', 'and a cookie') FROM c;
SELECT is(coder.convert_verify(jwt, b->>'state_string', 'oidc')->>'user_id', (SELECT id::text FROM coder.users WHERE username = 'bob'), 'which names the user') FROM c;
SELECT throws_ok(format('SELECT coder.convert_verify(%L, %L, %L)', j, s, k), 'ZC' || e, NULL, n) FROM c, LATERAL (VALUES
	(NULL, b->>'state_string', 'oidc', '400', 'no cookie'), ('', b->>'state_string', 'oidc', '400', 'an empty one'), ('a.b.c', b->>'state_string', 'oidc', '403', 'nonsense'),
	(jwt || 'x', b->>'state_string', 'oidc', '403', 'another signature'), (jwt, 'convert-x', 'oidc', '403', 'another state'), (jwt, b->>'state_string', 'github', '403', 'another provider'),
	(coder.jwt_sign(coder.jwt_verify(jwt, coder.convert_key(), 'HS512'), '\x00', 'HS512'), b->>'state_string', 'oidc', '403', 'another key'),
	(coder.jwt_sign(coder.jwt_verify(jwt, coder.convert_key(), 'HS512'), coder.convert_key(), 'HS256'), b->>'state_string', 'oidc', '403', 'another algorithm'),
	(coder.jwt_sign(coder.jwt_verify(jwt, coder.convert_key(), 'HS512') || '{"iss": "x"}', coder.convert_key(), 'HS512'), b->>'state_string', 'oidc', '403', 'another deployment'),
	(coder.jwt_sign(coder.jwt_verify(jwt, coder.convert_key(), 'HS512') || '{"exp": 1}', coder.convert_key(), 'HS512'), b->>'state_string', 'oidc', '403', 'an expired one')) v (j, s, k, e, n);
SELECT is(coder.convert_finish(coder.convert_verify(jwt, b->>'state_string', 'oidc')), (SELECT id FROM coder.users WHERE username = 'bob'), 'the conversion') FROM c;
SELECT is((SELECT login_type || convert_from(hashed_password, 'UTF8') FROM coder.users WHERE username = 'bob'), 'oidc', 'leaves no password');
SELECT is((SELECT count(*)::int FROM coder.api_keys k JOIN coder.users u ON u.id = k.user_id WHERE u.username = 'bob'), 0, 'and no session');
SELECT throws_ok(format('SELECT coder.convert_finish(coder.convert_verify(%L, %L, %L))', jwt, b->>'state_string', 'oidc'), 'ZC403', NULL, 'it works once') FROM c;
SELECT is(left(go('POST', '/api/v2/users/login', '{"email": "bob@example.com", "password": "OtherSecret1!"}'), 3), '401', 'the password is gone');

-- quiet hours
UPDATE t SET bob = token_of('bob');
SELECT is(a.body_ - 'next', '{"raw_schedule": "CRON_TZ=UTC 0 0 * * *", "user_set": false, "user_can_set": true, "time": "00:00", "timezone": "UTC"}', 'the deployment''s')
  FROM api('GET', '/api/v2/users/me/quiet-hours', NULL, tok('bob')) a;
SELECT is(go('PUT', '/api/v2/users/me/quiet-hours', jsonb_build_object('schedule', s), tok('bob')), a, s) FROM (VALUES
	('', '400 Validation failed.'), ('0 0 * *', '400 Invalid quiet hours schedule.'), ('* 0 * * *', '400 Invalid quiet hours schedule.'), ('0 1,2 * * *', '400 Invalid quiet hours schedule.'),
	('0 0 * * 1-5', '400 Invalid quiet hours schedule.'), ('0 0 1 * *', '400 Invalid quiet hours schedule.'), ('CRON_TZ=Mars/Base 0 0 * * *', '400 Invalid quiet hours schedule.'),
	('61 0 * * *', '400 Invalid quiet hours schedule.'), ('CRON_TZ=Europe/Berlin 30 5 * * *', '200')) v (s, a);
SELECT is(a.body_ - 'next', '{"raw_schedule": "CRON_TZ=Europe/Berlin 30 5 * * *", "user_set": true, "user_can_set": true, "time": "05:30", "timezone": "Europe/Berlin"}', 'one''s own')
  FROM api('GET', '/api/v2/users/bob/quiet-hours', NULL, tok('admin')) a;
SELECT is(go('PUT', '/api/v2/users/bob/quiet-hours', '{"schedule": "0 0 * * *"}', tok('carol')), '404 Resource not found or you do not have access to this resource', 'nobody else''s');
SELECT coder.configure('{"allow_custom_quiet_hours": "false", "quiet_hours_default_schedule": "CRON_TZ=Asia/Tokyo 0 2 * * *"}');
SELECT is(go('PUT', '/api/v2/users/me/quiet-hours', '{"schedule": "0 0 * * *"}', tok('bob')), '403 Users cannot set custom quiet hours schedule due to deployment configuration.', 'where it is not allowed');
SELECT is(a.body_ - 'next', '{"raw_schedule": "CRON_TZ=Asia/Tokyo 0 2 * * *", "user_set": false, "user_can_set": false, "time": "02:00", "timezone": "Asia/Tokyo"}', 'the deployment''s counts')
  FROM api('GET', '/api/v2/users/me/quiet-hours', NULL, tok('bob')) a;

-- users whom nobody sees become dormant, and active by asking
UPDATE coder.users SET last_seen_at = now() - interval '89 days', created_at = now() - interval '1 year' WHERE username = 'admin';
UPDATE coder.users SET last_seen_at = now() - interval '91 days', created_at = now() - interval '1 year' WHERE username = 'bob';
UPDATE coder.users SET last_seen_at = '0001-01-01 00:00:00+00' WHERE username = 'carol';
SELECT is(coder.tick_users(now()), 1, 'one user was not seen for 90 days');
SELECT is((SELECT array_agg(username || ' ' || status ORDER BY username) FROM coder.users WHERE username IN ('admin', 'bob', 'carol')),
	ARRAY['admin active', 'bob dormant', 'carol active'], 'but not who was just made');
SELECT is(coder.tick_users(now()), 0, 'once');
SELECT is(left(go('GET', '/api/v2/users/me', NULL, tok('bob')), 3), '200', 'who asks');
SELECT is((SELECT status::text FROM coder.users WHERE username = 'bob'), 'active', 'is active again');

-- cookies by the settings
SELECT is(coder.cookie('c', 'v', 9), E'Set-Cookie: c=v; Path=/; Max-Age=9; HttpOnly; Secure; SameSite=Lax\r\n', 'of an https address');
SELECT coder.configure('{"secure_auth_cookie": "false", "samesite_auth_cookie": "none"}');
SELECT is(coder.cookie('c', 'v', 9), E'Set-Cookie: c=v; Path=/; Max-Age=9; HttpOnly; Secure; SameSite=None\r\n', 'SameSite=None needs Secure');
SELECT coder.configure('{"samesite_auth_cookie": "lax", "host_prefix_cookie": "true"}');
SELECT is(coder.cookie('c', '', 9), E'Set-Cookie: __Host-c=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Lax\r\n', '__Host- too');

SELECT * FROM finish();
ROLLBACK;
