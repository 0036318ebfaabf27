-- Providers of external authentication: what follows from a type, what is set, which one an address means.
BEGIN;
SELECT plan(29);
CREATE FUNCTION pg_temp.set(name text, value text) RETURNS void LANGUAGE sql AS $$
	SELECT coder.configure(jsonb_build_object('external_auth_' || name, value)) $$;
CREATE FUNCTION pg_temp.get(n int4, field text) RETURNS text LANGUAGE sql AS $$
	SELECT c->>field FROM coder.external_auth_configs() c WHERE c->>'n' = 'external_auth_' || n $$;

SELECT is((SELECT count(*) FROM coder.external_auth_configs()), 0::bigint, 'none at first');
SELECT pg_temp.set('0_type', 'GitHub'), pg_temp.set('0_client_id', 'c0');
SELECT is(pg_temp.get(0, 'id'), 'github', 'the type is the id unless there is another');
SELECT is(pg_temp.get(0, 'revoke_url'), 'https://api.github.com/applications/c0/grant', 'GitHub''s address to revoke has the client in it');
SELECT is(pg_temp.get(0, 'scopes'), '["repo", "workflow"]', 'its scopes');
SELECT pg_temp.set('1_type', 'gitlab');
SELECT is(pg_temp.get(1, 'token_url'), 'https://gitlab.com/oauth/token', 'GitLab in the cloud');
SELECT is(pg_temp.get(1, 'regex'), '^(https?://)?gitlab\.com(/.*)?$', 'and what it matches');
SELECT pg_temp.set('1_auth_url', 'https://git.example.com:8443/oauth/authorize');
SELECT is(pg_temp.get(1, 'token_url'), 'https://git.example.com:8443/oauth/token', 'one of your own follows from its address');
SELECT is(pg_temp.get(1, 'regex'), '^(https?://)?git\.example\.com:8443(/.*)?$', 'as does what it matches');
SELECT is(pg_temp.get(1, 'api_base_url'), 'https://git.example.com:8443/api/v4', 'and its API');
SELECT pg_temp.set('2_type', 'bitbucket-server'), pg_temp.set('2_id', 'bb'), pg_temp.set('2_auth_url', 'https://bb.example/rest/oauth2/latest/authorize'), pg_temp.set('2_scopes', 'A B,C');
SELECT is(pg_temp.get(2, 'validate_url'), 'https://bb.example/rest/api/latest/inbox/pull-requests/count', 'Bitbucket Server');
SELECT is(pg_temp.get(2, 'scopes'), '["A", "B", "C"]', 'what is set wins');
SELECT is(pg_temp.get(2, 'code_challenge_methods_supported'), '["none"]', 'no PKCE there');
SELECT pg_temp.set('3_type', 'azure-devops-entra'), pg_temp.set('3_auth_url', 'https://login.example/tenant-1/oauth2/authorize');
SELECT is(pg_temp.get(3, 'token_url'), 'https://login.example/tenant-1/oauth2/token', 'the tenant is in both addresses');
SELECT pg_temp.set('4_type', 'jfrog'), pg_temp.set('4_client_id', 'j'), pg_temp.set('4_auth_url', 'https://jf.example/ui/authorization');
SELECT is(pg_temp.get(4, 'token_url'), 'https://jf.example/access/api/v1/integrations/j/token', 'JFrog');
SELECT pg_temp.set('5_type', 'bitbucket'), pg_temp.set('6_type', 'slack'), pg_temp.set('7_id', 'plain'), pg_temp.set('7_no_refresh', 'true');
SELECT is(pg_temp.get(5, 'type'), 'bitbucket-cloud', 'an old name');
SELECT is(pg_temp.get(6, 'extra_token_keys'), '["authed_user"]', 'what is kept beside the token');
SELECT is(pg_temp.get(7, 'display_icon'), '/emojis/1f511.png', 'one of no type has an icon');
SELECT is(pg_temp.get(7, 'auth_url'), '', 'and no address');
SELECT is(pg_temp.get(7, 'no_refresh'), 'true', 'a switch');
SELECT is((SELECT array_agg(c->>'n') FROM coder.external_auth_configs() c), ARRAY(SELECT 'external_auth_' || n FROM generate_series(0, 7) n), 'in the order of their numbers');
SELECT pg_temp.set('10_type', 'gitea');
SELECT is((SELECT c->>'n' FROM coder.external_auth_configs() WITH ORDINALITY x (c, o) ORDER BY o DESC LIMIT 1), 'external_auth_10', 'as numbers');

-- Which one an address means.
SELECT is(coder.external_auth_matches(c, u), w, u || ' by ' || (c->>'regex')) FROM (VALUES
	('{"regex": "^(https?://)?github\\.com(/.*)?$"}'::jsonb, 'https://github.com/a/b', true),
	('{"regex": "^(https?://)?github\\.com(/.*)?$"}', 'github.com', true),
	('{"regex": "^(https?://)?github\\.com(/.*)?$"}', 'https://github.com.evil.example/a', false),
	('{"regex": ""}', 'https://github.com', false),
	('{"regex": "("}', 'https://github.com', false)) v (c, u, w);

-- A default client for deployments that have set up none.
SELECT coder.configure((SELECT jsonb_object_agg(s.name, NULL) FROM coder.settings s WHERE s.name LIKE 'external\_auth\_%'));
SELECT coder.configure('{"external_auth_github_default_client_id": "d1"}');
SELECT is((SELECT jsonb_agg(jsonb_build_array(c->'id', c->'device_flow', c->'client_id')) FROM coder.external_auth_configs() c), '[["github", true, "d1"]]', 'GitHub by device');
SELECT pg_temp.set('3_type', 'gitea');
SELECT is((SELECT array_agg(c->>'id') FROM coder.external_auth_configs() c), '{gitea}', 'not beside another');
SELECT pg_temp.set('3_type', NULL), pg_temp.set('github_default_provider_enable', 'false');
SELECT is((SELECT count(*) FROM coder.external_auth_configs()), 0::bigint, 'nor where that is turned off');
SELECT * FROM finish();
ROLLBACK;
