-- cryptokey.sql -- which key signs and verifies when, and the tokens that clients of the tailnet resume with
BEGIN;
SELECT no_plan();
DELETE FROM coder.crypto_keys;

CREATE FUNCTION pg_temp.kid(token text) RETURNS text LANGUAGE sql AS $$SELECT coder.jwt_header(token) ->> 'kid'$$;
CREATE FUNCTION pg_temp.sign(at timestamptz) RETURNS text LANGUAGE sql AS
	$$SELECT coder.crypto_sign('tailnet_resume', jsonb_build_object('exp', extract(epoch FROM at)::bigint + 86400), at)$$;

SELECT is(pg_temp.kid(pg_temp.sign('2026-01-01')), '1', 'the first token makes the first key');
SELECT is(count(*)::int, 4, 'and one for each feature') FROM coder.crypto_keys;
SELECT is(length(secret), CASE feature WHEN 'workspace_apps_api_key' THEN 64 ELSE 128 END, 'size of ' || feature) FROM coder.crypto_keys;
SELECT is(coder.crypto_keys_rotate('2026-01-30 22:59'), 0, 'nothing is due for a month less an hour');
SELECT is(coder.crypto_keys_rotate('2026-01-30 23:30'), 4, 'then each has a successor');
SELECT is(coder.crypto_keys_rotate('2026-01-30 23:40'), 0, 'and only one');
SELECT is(starts_at || ' ' || sequence, '2026-01-31 00:00:00+00 2', 'which begins when the month is over') FROM coder.crypto_keys
 WHERE feature = 'tailnet_resume' ORDER BY sequence DESC LIMIT 1;
CREATE TEMP TABLE t AS SELECT pg_temp.sign('2026-01-30 23:59') AS old;
SELECT is(pg_temp.kid(old), '1', 'until then the old one signs') FROM t;
SELECT is(pg_temp.kid(pg_temp.sign('2026-01-31 00:01')), '2', 'then the new one');
SELECT isnt(coder.crypto_verify('tailnet_resume', old, '2026-01-31 23:00'), NULL, 'what the old one signed is good to its end') FROM t;
SELECT is(coder.crypto_verify('tailnet_resume', old, '2026-02-01 00:01'), NULL, 'and not longer') FROM t;
SELECT is(coder.crypto_verify('oidc_convert', old, '2026-01-31 23:00'), NULL, 'nor for another feature') FROM t;
SELECT is(coder.crypto_keys_rotate('2026-02-01 01:00'), 4, 'what has no use any more is forgotten');
SELECT is(secret, NULL, 'the secret, not the row') FROM coder.crypto_keys WHERE feature = 'tailnet_resume' AND sequence = 1;
SELECT is(coder.crypto_keys_rotate('2026-06-01'), 4, 'a server that slept for long has a successor soon');
SELECT is(max(starts_at), '2026-06-01 00:30'::timestamptz, 'in half an hour') FROM coder.crypto_keys;

-- Resume tokens.
DELETE FROM coder.crypto_keys;
SELECT is(r ->> 'expires_at', '2026-03-02T00:00:00Z', 'a day') FROM coder.tailnet_resume_token('0a0b0c0d-0e0f-4101-9213-141516171819', '2026-03-01') r;
SELECT is((r ->> 'refresh_in')::bigint, 43200000000000, 'asked for again after half of it') FROM coder.tailnet_resume_token(gen_random_uuid(), '2026-03-01') r;
CREATE FUNCTION pg_temp.peer(token text, at timestamptz) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
	req coder.request;
BEGIN
	req.query := jsonb_build_object('resume_token', token);
	RETURN coder.tailnet_peer_id(req, at);
END
$$;
TRUNCATE t;
INSERT INTO t SELECT r ->> 'token' FROM coder.tailnet_resume_token('0a0b0c0d-0e0f-4101-9213-141516171819', '2026-03-01') r;
SELECT is(pg_temp.peer(old, '2026-03-01 23:59'), '0a0b0c0d-0e0f-4101-9213-141516171819', 'gives the peer its id back') FROM t;
SELECT is(pg_temp.peer(old, '2026-03-02 00:00:30'), '0a0b0c0d-0e0f-4101-9213-141516171819', 'clocks may differ by a minute') FROM t;
SELECT throws_ok(format('SELECT pg_temp.peer(%L, %L)', old, '2026-03-02 00:01:01'), 'ZC401', 'Invalid resume token', 'not more') FROM t;
SELECT throws_ok(format('SELECT pg_temp.peer(%L, %L)', x, '2026-03-01'), 'ZC401', 'Invalid resume token', what) FROM t, LATERAL (VALUES
	('junk', 'no token at all'),
	(left(old, -1), 'a signature that is cut off'),
	(coder.jwt_sign('{"sub": "0a0b0c0d-0e0f-4101-9213-141516171819", "exp": 1900000000}', 'x', 'HS512', '{"kid": "1"}'), 'a key of somebody else'),
	(coder.jwt_sign('{"sub": "0a0b0c0d-0e0f-4101-9213-141516171819", "exp": 1900000000}', 'x', 'HS512', '{"kid": "7"}'), 'a number of no key'),
	(coder.jwt_sign('{"sub": "0a0b0c0d-0e0f-4101-9213-141516171819", "exp": 1900000000}', 'x', 'HS512', '{"kid": "99999999999"}'), 'a number too large'),
	(coder.jwt_sign('{"sub": "0a0b0c0d-0e0f-4101-9213-141516171819", "exp": 1900000000}', 'x', 'HS256'), 'another algorithm'),
	(coder.crypto_sign('tailnet_resume', '{"sub": "me", "exp": 1900000000}', '2026-03-01'), 'a peer that is no UUID'),
	(coder.crypto_sign('tailnet_resume', '{"sub": "0a0b0c0d-0e0f-4101-9213-141516171819"}', '2026-03-01'), 'no end'),
	(coder.crypto_sign('oidc_convert', '{"sub": "0a0b0c0d-0e0f-4101-9213-141516171819", "exp": 1900000000}', '2026-03-01'), 'another feature')) v (x, what);
SELECT isnt(pg_temp.peer(x, '2026-03-01'), NULL, 'a new id for: ' || x) FROM (VALUES (''),
	(coder.jwt_sign('{"sub": "x", "exp": 1900000000}', 'x', 'HS512'))) v (x);

-- Tokens that lead to an app's host.
SELECT coder.configure('{"access_url": "https://coder.example.com", "wildcard_access_url": "*.apps.example.com"}');
INSERT INTO coder.users (id, email, username, login_type, status) VALUES
	('0a0b0c0d-0e0f-4101-9213-141516171820', 'amy@example.com', 'amy', 'password', 'active'),
	('0a0b0c0d-0e0f-4101-9213-141516171821', 'sue@example.com', 'sue', 'password', 'suspended');
TRUNCATE t;
INSERT INTO t SELECT coder.app_host_token('0a0b0c0d-0e0f-4101-9213-141516171820', 'web--dev--amy', '2026-03-01');
SELECT is((coder.app_host_token_user(old, 'web--dev--amy', '2026-03-01 00:00:59')).username, 'amy', 'says who it is') FROM t;
SELECT is((coder.app_host_token_user(old, 'web--dev--amy', '2026-03-01 00:01:01')).username, NULL, 'for a minute') FROM t;
SELECT is((coder.app_host_token_user(old, 'web--dev--sue', '2026-03-01 00:00:59')).username, NULL, 'on one host') FROM t;
SELECT is((coder.app_host_token_user(coder.app_host_token('0a0b0c0d-0e0f-4101-9213-141516171821', 'x', '2026-03-01'), 'x', '2026-03-01')).username, NULL, 'not of who is suspended');
SELECT is((coder.app_host_token_user(coder.tailnet_resume_token('0a0b0c0d-0e0f-4101-9213-141516171820', '2026-03-01') ->> 'token', 'x', '2026-03-01')).username, NULL, 'and no other token does');
SELECT is(coder.app_host_label(url), label, url) FROM (VALUES
	('https://web--dev--amy.apps.example.com/x', 'web--dev--amy'),
	('http://WEB.apps.example.com:444', 'web'),
	('https://coder.example.com/', NULL),
	('https://apps.example.com/', NULL),
	('https://a.b.apps.example.com/', NULL),
	('https://web.apps.example.com.evil.com/', NULL),
	('https://web.apps.example.com@evil.com/', NULL),
	('javascript://web.apps.example.com/', NULL)) v (url, label);
SELECT matches(coder.app_host_cookie('v'), '^Set-Cookie: coder_subdomain_app_session_token_[0-9a-f]{32}=v; Domain=\.apps\.example\.com; Path=/; .*HttpOnly; Secure;', 'the cookie of apps');

SELECT * FROM finish();
ROLLBACK;
