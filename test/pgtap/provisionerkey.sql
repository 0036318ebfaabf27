-- provisionerkey.sql -- keys of external daemons, and the settings of prebuilds: good and bad requests
BEGIN;
\i api.psql
SELECT no_plan();

CREATE FUNCTION public.go(method text, path text, body jsonb DEFAULT NULL, token text DEFAULT NULL) RETURNS text LANGUAGE sql AS
	$$ SELECT a.status || coalesce(' ' || (a.body_->>'message'), '') FROM api(method, path, body, token) a $$;
CREATE TEMP TABLE t AS SELECT token_of('admin') AS admin, token_of('bob') AS bob;
CREATE FUNCTION public.tok(n text DEFAULT 'admin') RETURNS text LANGUAGE sql AS $$ SELECT to_jsonb(t)->>n FROM t $$;
\set keys '/api/v2/organizations/coder/provisionerkeys'

CREATE TEMP TABLE k AS SELECT a.status, a.body_->>'key' AS key FROM api('POST', :'keys', '{"name": "east", "tags": {"zone": "east", "owner": "x"}}', tok()) a;
SELECT is(status || ' ' || length(key), '201 43', 'a key') FROM k;
SELECT is((SELECT hashed_secret = coder.sha256(key) FROM coder.provisioner_keys, k WHERE name = 'east'), true, 'of which the digest is stored');
SELECT is(a.body_->0->'tags', '{"zone": "east", "owner": "", "scope": "organization"}', 'its tags are the organization''s') FROM api('GET', :'keys', NULL, tok()) a;
SELECT is(jsonb_array_length(a.body_), 1, 'the reserved ones are not listed') FROM api('GET', :'keys', NULL, tok()) a;
SELECT is(go('POST', :'keys', b, tok()), a, b::text) FROM (VALUES ('{}'::jsonb, '400 Name is required'), ('{"name": ""}', '400 Name is required'),
	(jsonb_build_object('name', repeat('a', 65)), '400 Name must be at most 64 characters'), ('{"name": "PSK"}', '400 Name cannot be reserved name ''PSK'''),
	('{"name": "a/b"}', '400 Name must be letters and digits, with dashes, dots and underscores in between'), ('{"name": "x", "tags": []}', '400 Request body must be valid JSON.'),
	('{"name": "x", "tags": {"a": 1}}', '400 Request body must be valid JSON.'), ('{"name": "EAST"}', '409 Provisioner key with name ''EAST'' already exists in organization')) v (b, a);
SELECT is(go(m, p, b, tok('bob')), a, 'a member: ' || m || ' ' || p) FROM (VALUES ('POST', '/api/v2/organizations/coder/provisionerkeys', '{"name": "x"}'::jsonb, '403 Forbidden.'),
	('DELETE', '/api/v2/organizations/coder/provisionerkeys/east', NULL, '403 Forbidden.'), ('PUT', '/api/v2/prebuilds/settings', '{"reconciliation_paused": true}', '403 Forbidden.')) v (m, p, b, a);

-- who has the key
CREATE FUNCTION public.who(key text, path text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	r record;
	a bytea;
BEGIN
	SELECT * INTO r FROM route_of('GET', '/api/v2/provisionerkeys/' || path);
	a := coder.handle(r.id, 'GET', '/x', r.params, '', format(E'host: x\ncoder-provisioner-daemon-key: %s\n', key), NULL, NULL, '127.0.0.1', gen_random_uuid(), NULL);
	RETURN convert_from(substr(a, 9), 'UTF8')::jsonb->>'name';
EXCEPTION WHEN OTHERS THEN
	RETURN sqlstate;
END
$$;
SELECT is(who(key, key), 'east', 'learns which it is') FROM k;
SELECT is(who(x, p), s, coalesce(x, '') || ' for ' || p) FROM k, LATERAL (VALUES ('', 'east', 'ZC403'), (left(key, 42) || CASE right(key, 1) WHEN 'X' THEN 'Y' ELSE 'X' END, 'east', 'ZC403'), (key || 'x', 'east', 'ZC403'), (key, 'west', 'ZC404'), (key, 'east', 'east')) v (x, p, s);

-- its daemons, and its end
INSERT INTO coder.provisioner_daemons (name, provisioners, organization_id, key_id, last_seen_at)
SELECT 'd1', '{terraform}', organization_id, id, now() FROM coder.provisioner_keys WHERE name = 'east';
SELECT is((SELECT x->'daemons'->0->>'name' FROM jsonb_array_elements(a.body_) x WHERE x->'key'->>'name' = 'east'), 'd1', 'its daemons') FROM api('GET', :'keys' || '/daemons', NULL, tok()) a;
SELECT is(go('DELETE', :'keys' || '/' || n, NULL, tok()), a, n) FROM (VALUES ('psk', '400 Cannot delete reserved ''psk'' provisioner key'), ('west', '404 Resource not found or you do not have access to this resource'),
	('East', '204'), ('east', '404 Resource not found or you do not have access to this resource')) v (n, a)
	WHERE n <> 'psk' OR EXISTS (SELECT 1 FROM coder.provisioner_keys WHERE name = 'psk');
SELECT is((SELECT count(*)::int FROM coder.provisioner_daemons WHERE name = 'd1'), 0, 'they go with it');

SELECT is(go('PUT', '/api/v2/prebuilds/settings', b, tok()), a, b::text) FROM (VALUES ('{"reconciliation_paused": false}'::jsonb, '304'), ('{"reconciliation_paused": true}', '200'), ('{"reconciliation_paused": true}', '304'),
	('{"reconciliation_paused": "x"}', '400 Request body must be valid JSON.')) v (b, a);
SELECT is(a.body_, '{"reconciliation_paused": true}', 'is kept') FROM api('GET', '/api/v2/prebuilds/settings', NULL, tok('bob')) a;

SELECT * FROM finish();
ROLLBACK;
