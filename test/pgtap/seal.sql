-- Sealed columns: what is written is sealed, opened by its key only, sealed anew by rotation, plain again at the end.
BEGIN;
SELECT plan(40);

-- Keys of the letters a, b, c; the session's secrets as a gateway hands them over.
CREATE FUNCTION pg_temp.key(letter text) RETURNS text LANGUAGE sql AS $$ SELECT encode(convert_to(repeat(letter, 32), 'UTF8'), 'base64') $$;
CREATE FUNCTION pg_temp.hand_over(letters text[], secrets jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
	SELECT set_config('coder.secrets', rtrim(translate(replace(encode(convert_to(jsonb_build_object('keys',
		(SELECT coalesce(jsonb_agg(pg_temp.key(l)), '[]') FROM unnest(letters) l), 'secrets', secrets)::text, 'UTF8'), 'base64'), E'\n', ''), '+/', '-_'), '='), true) $$;

SELECT is(coder.seal_key_ids(), '{}', 'no keys at first');
SELECT is(coder.seal('x'), NULL, 'nothing is sealed without one');
SELECT is(coder.unseal('x', NULL), 'x', 'plain text is itself');
SELECT is(coder.secret_setting('a'), NULL, 'no secrets either');
INSERT INTO coder.users (id, email, username, login_type) VALUES ('11111111-1111-1111-1111-111111111111', 'a@example.com', 'a', 'oidc');
INSERT INTO coder.user_links (user_id, login_type, linked_id, oauth_access_token, oauth_refresh_token)
VALUES ('11111111-1111-1111-1111-111111111111', 'oidc', 'x', 'plain-access', '');
SELECT results_eq('SELECT oauth_access_token, oauth_access_token_key_id FROM coder.user_links', $$VALUES ('plain-access', NULL::text)$$, 'without a key plain text is kept');

SELECT is(pg_temp.hand_over('{a}', '{"oidc_client_secret": "hush"}'), '', 'nobody sees what was handed over');
SELECT is(current_setting('coder.secrets'), '', 'not later either');
SELECT is((SELECT count(*) FROM pg_settings WHERE name = 'coder.secrets'), 0::bigint, 'and not in pg_settings');
SELECT is(coder.secret_setting('oidc_client_secret'), 'hush', 'a secret is there for functions');
SELECT is(coder.secret_setting('other'), NULL, 'no other');
SELECT is(cardinality(coder.seal_key_ids()), 1, 'one key');
SELECT lives_ok('SELECT coder.keys_start()', 'a gateway starts with it');
SELECT is((SELECT array_agg(active_key_digest) FROM coder.dbcrypt_keys), coder.seal_key_ids(), 'its name is noted');
SELECT lives_ok('SELECT coder.keys_start()', 'and again');
UPDATE coder.user_links SET oauth_refresh_token = 'refresh';
SELECT results_eq('SELECT oauth_access_token_key_id IS NULL, oauth_refresh_token_key_id FROM coder.user_links', $$SELECT true, (coder.seal_key_ids())[1]$$,
	'what is written is sealed, what is not stays');
SELECT isnt(oauth_refresh_token, 'refresh', 'the table has no plain text') FROM coder.user_links;
SELECT is(coder.unseal(oauth_refresh_token, oauth_refresh_token_key_id), 'refresh', 'its key opens it') FROM coder.user_links;
CREATE TEMP TABLE before AS SELECT oauth_refresh_token AS t FROM coder.user_links;
UPDATE coder.user_links SET claims = '{"x": 1}';
SELECT is((SELECT oauth_refresh_token FROM coder.user_links), (SELECT t FROM before), 'a change of other columns seals nothing twice');
UPDATE coder.user_links SET oauth_refresh_token = 'refresh-2';
SELECT is(coder.unseal(oauth_refresh_token, oauth_refresh_token_key_id), 'refresh-2', 'new text is sealed anew') FROM coder.user_links;
UPDATE coder.user_links SET oauth_refresh_token = '';
SELECT is(oauth_refresh_token_key_id, NULL, 'nothing needs no key') FROM coder.user_links;
UPDATE coder.user_links SET oauth_refresh_token = 'refresh-3';
SELECT isnt(coder.seal('same'), coder.seal('same'), 'the same text is sealed differently each time');
SELECT throws_ok(format('SELECT coder.unseal(%L, %L)', overlay(coder.seal('text') PLACING 'AAAA' FROM 5), (coder.seal_key_ids())[1]), 'XX001', 'a sealed value is damaged', 'a changed value does not open');
SELECT throws_ok(format('SELECT coder.unseal(%L, %L)', 'short', (coder.seal_key_ids())[1]), 'XX001', 'a sealed value is damaged', 'nor does what is none');
INSERT INTO coder.user_links AS l (user_id, login_type, linked_id, oauth_access_token, oauth_refresh_token)
VALUES ('11111111-1111-1111-1111-111111111111', 'oidc', 'x', 'plain-access', 'refresh-4')
ON CONFLICT (user_id, login_type) DO UPDATE SET oauth_refresh_token = coalesce(nullif(excluded.oauth_refresh_token, ''), l.oauth_refresh_token);
SELECT is(coder.unseal(oauth_refresh_token, oauth_refresh_token_key_id), 'refresh-4', 'what replaces a row in conflict is sealed once') FROM coder.user_links;
INSERT INTO coder.user_links AS l (user_id, login_type, linked_id, oauth_access_token, oauth_refresh_token)
VALUES ('11111111-1111-1111-1111-111111111111', 'oidc', 'x', 'plain-access', '')
ON CONFLICT (user_id, login_type) DO UPDATE SET oauth_refresh_token = coalesce(nullif(excluded.oauth_refresh_token, ''), l.oauth_refresh_token);
SELECT is(coder.unseal(oauth_refresh_token, oauth_refresh_token_key_id), 'refresh-4', 'and kept where there is nothing new') FROM coder.user_links;
UPDATE coder.user_links SET oauth_refresh_token = 'refresh-3';
INSERT INTO coder.user_secrets (user_id, name, value) VALUES ('11111111-1111-1111-1111-111111111111', 's', E'käse\n');
SELECT is(coder.unseal(value, value_key_id), E'käse\n', 'users'' secrets are sealed too') FROM coder.user_secrets WHERE value_key_id IS NOT NULL;

-- Rotation.
SELECT pg_temp.hand_over('{b}');
SELECT throws_like('SELECT coder.keys_start()', 'values in the database are sealed with the key %, which is not among %', 'a start without a key that is needed is refused');
SELECT throws_like($$SELECT coder.unseal(oauth_refresh_token, oauth_refresh_token_key_id) FROM coder.user_links$$, '%which this session does not have', 'nothing opens without it');
SELECT pg_temp.hand_over('{b,a}');
SELECT lives_ok('SELECT coder.keys_start()', 'with both it is');
SELECT is(coder.unseal(oauth_refresh_token, oauth_refresh_token_key_id), 'refresh-3', 'the old key opens still') FROM coder.user_links;
SELECT is(coder.keys_rotate(), 3::bigint, 'three values are written anew, one was plain');
SELECT is((SELECT array_agg(DISTINCT v.key_id) FROM coder.sealed_values() v), (coder.seal_key_ids())[1:1], 'all with the new key');
SELECT is((SELECT count(*) FROM coder.dbcrypt_keys WHERE revoked_key_digest IS NOT NULL AND active_key_digest IS NULL AND revoked_at IS NOT NULL), 1::bigint, 'the old one is revoked');
SELECT pg_temp.hand_over('{b}');
SELECT lives_ok('SELECT coder.keys_start()', 'the new one alone is enough');
SELECT is(coder.unseal(oauth_access_token, oauth_access_token_key_id), 'plain-access', 'nothing is lost') FROM coder.user_links;
SELECT pg_temp.hand_over('{a,b}');
SELECT throws_like('SELECT coder.keys_start()', 'the key % has been revoked', 'a revoked key does not come back');
SELECT pg_temp.hand_over('{b}');
SELECT is(coder.keys_decrypt(), 3::bigint, 'sealing is given up');
SELECT results_eq('SELECT oauth_access_token, oauth_refresh_token, oauth_refresh_token_key_id FROM coder.user_links', $$VALUES ('plain-access', 'refresh-3', NULL::text)$$, 'in plain text again');
SELECT set_config('coder.secrets', '', true);
SELECT lives_ok('SELECT coder.keys_start()', 'no key is needed now');
SELECT throws_like('SELECT coder.keys_rotate()', 'there is no key%', 'nothing rotates without one');
SELECT * FROM finish();
ROLLBACK;
