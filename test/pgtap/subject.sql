-- subject.sql -- the cache of subjects: what changes one is seen by the next request
--
-- A transaction that has written caches nothing, so the parts are committed one by one; the last one cleans up.
CREATE SCHEMA IF NOT EXISTS keep;
CREATE TABLE keep.token (user_name text, token text);
INSERT INTO coder.users (username, email, status) VALUES ('cora', 'cora@example.com', 'active');
INSERT INTO coder.organization_members (user_id, organization_id)
SELECT u.id, o.id FROM coder.users u, coder.organizations o WHERE u.username = 'cora' AND o.is_default;
INSERT INTO keep.token SELECT 'cora', coder.api_key_create(u.id, 'password', 86400) FROM coder.users u WHERE u.username = 'cora';
CREATE FUNCTION keep.me() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN (SELECT get_byte(a, 0) * 256 + get_byte(a, 1) FROM keep.token t, coder.routes r,
		coder.handle(r.id, 'GET', '/api/v2/users/me', '{me}', '', '', NULL, t.token, '::1', NULL, NULL) a
		WHERE r.pattern = '/api/v2/users/{user}' AND r.method = 'GET');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END
$$;
CREATE FUNCTION keep.cached() RETURNS bool LANGUAGE sql AS 'SELECT coder.subject_cached(token) FROM keep.token';
CREATE FUNCTION keep.warm() RETURNS bool LANGUAGE sql AS 'SELECT keep.me(); SELECT keep.me(); SELECT keep.cached()';
SELECT keep.me();	-- writes the key's first use

SELECT no_plan();
SELECT is(keep.me(), '200', 'a request');
SELECT ok(keep.cached(), 'leaves its subject in the cache');

UPDATE coder.api_keys SET last_used = now(), expires_at = expires_at + interval '1 hour' WHERE user_id = (SELECT id FROM coder.users WHERE username = 'cora');
UPDATE coder.users SET last_seen_at = now(), name = 'Cora' WHERE username = 'cora';
SELECT ok(keep.cached(), 'the use of a key and a new name keep it');

BEGIN;
UPDATE coder.users SET rbac_roles = '{auditor}' WHERE username = 'cora';
SELECT ok(NOT keep.cached(), 'a change of roles drops it');
SELECT is(keep.me(), '200', 'it is made anew');
SELECT ok(NOT keep.cached(), 'but not kept by a transaction that writes');
ROLLBACK;

SELECT ok(keep.warm(), 'warm again');
INSERT INTO coder.organizations (name, display_name) VALUES ('cachetest', 'x');
INSERT INTO coder.organization_members (user_id, organization_id)
SELECT u.id, o.id FROM coder.users u, coder.organizations o WHERE u.username = 'cora' AND o.name = 'cachetest';
SELECT ok(NOT keep.cached(), 'a membership drops it');
SELECT ok(keep.warm(), 'warm again');
DELETE FROM coder.organization_members m USING coder.organizations o WHERE o.id = m.organization_id AND o.name = 'cachetest';
SELECT ok(NOT keep.cached(), 'the end of a membership, too');
SELECT ok(keep.warm(), 'warm again');
INSERT INTO coder.group_members SELECT u.id, g.id FROM coder.users u, coder.groups g WHERE u.username = 'cora' AND g.name = 'Everyone' LIMIT 1;
SELECT ok(NOT keep.cached(), 'and a group');
DELETE FROM coder.group_members gm USING coder.users u WHERE u.id = gm.user_id AND u.username = 'cora';
SELECT ok(keep.warm(), 'warm again');
UPDATE coder.users SET status = 'suspended' WHERE username = 'cora';
SELECT is(keep.me(), 'ZC401', 'a suspended user is refused at once');
UPDATE coder.users SET status = 'dormant' WHERE username = 'cora';
SELECT is(keep.me(), '200', 'a dormant one is let in');
SELECT is(status::text, 'active', 'and is active then') FROM coder.users WHERE username = 'cora';
SELECT is((SELECT count(*)::int FROM coder.user_status_changes c JOIN coder.users u ON u.id = c.user_id WHERE u.username = 'cora'), 4,
	'each change of status is kept');
SELECT ok(keep.warm(), 'warm again');
UPDATE coder.api_keys SET scopes = '{template:read}' WHERE user_id = (SELECT id FROM coder.users WHERE username = 'cora');
SELECT is(keep.me(), 'ZC404', 'a narrower scope counts at once');
UPDATE coder.api_keys SET scopes = '{coder:all}', allow_list = ARRAY['user:' || user_id] WHERE user_id = (SELECT id FROM coder.users WHERE username = 'cora');
SELECT is(keep.me(), '200', 'an allow list that names the user');
UPDATE coder.api_keys SET allow_list = '{workspace:*}' WHERE user_id = (SELECT id FROM coder.users WHERE username = 'cora');
SELECT is(keep.me(), 'ZC404', 'and one that does not');
UPDATE coder.api_keys SET allow_list = '{*:*}', expires_at = now() - interval '1 second' WHERE user_id = (SELECT id FROM coder.users WHERE username = 'cora');
SELECT is(keep.me(), 'ZC401', 'an expired key');
UPDATE coder.api_keys SET expires_at = now() + interval '1 minute', lifetime_seconds = 86400, last_used = now() - interval '2 hours'
 WHERE user_id = (SELECT id FROM coder.users WHERE username = 'cora');
SELECT is(keep.me(), '200', 'a key that is about to expire');
SELECT ok(expires_at > now() + interval '23 hours', 'begins its life anew when used') FROM coder.api_keys WHERE user_id = (SELECT id FROM coder.users WHERE username = 'cora');
SELECT is(host(ip_address), '::1', 'its use is written with the address') FROM coder.api_keys WHERE user_id = (SELECT id FROM coder.users WHERE username = 'cora');
SELECT ok(keep.warm(), 'warm again');
DELETE FROM coder.api_keys WHERE user_id = (SELECT id FROM coder.users WHERE username = 'cora');
SELECT is(keep.me(), 'ZC401', 'a deleted key');

DROP SCHEMA keep CASCADE;
DELETE FROM coder.organizations WHERE name = 'cachetest';
DELETE FROM coder.user_status_changes c USING coder.users u WHERE u.id = c.user_id AND u.username = 'cora';
DELETE FROM coder.users WHERE username = 'cora';
SELECT * FROM finish();
