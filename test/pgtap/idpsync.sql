-- idpsync.sql -- organizations, groups and roles from claims: settings, what they make of claims, and bad ones
BEGIN;
\i api.psql
SELECT no_plan();

CREATE FUNCTION public.go(method text, path text, body jsonb DEFAULT NULL, token text DEFAULT NULL) RETURNS text LANGUAGE sql AS
	$$ SELECT a.status || coalesce(' ' || CASE WHEN a.status < 300 THEN a.body_::text ELSE a.body_->>'message' END, '') FROM api(method, path, body, token) a $$;
CREATE TEMP TABLE t AS SELECT token_of('admin') AS admin, token_of('bob') AS bob;
CREATE FUNCTION public.tok(n text DEFAULT 'admin') RETURNS text LANGUAGE sql AS $$ SELECT to_jsonb(t)->>n FROM t $$;
CREATE FUNCTION public.bob() RETURNS uuid LANGUAGE sql AS $$ SELECT id FROM coder.users WHERE username = 'bob' $$;
UPDATE coder.users SET login_type = 'oidc' WHERE username = 'bob';
SELECT id AS org FROM coder.organizations WHERE is_default \gset
SELECT (api('POST', '/api/v2/organizations', '{"name": "second"}', tok())).body_->>'id' AS second \gset
SELECT (api('POST', '/api/v2/organizations', '{"name": "third"}', tok())).body_->>'id' AS third \gset
SELECT (api('POST', '/api/v2/organizations/coder/groups', '{"name": "devs"}', tok())).body_->>'id' AS devs \gset
SELECT (api('POST', '/api/v2/organizations/coder/groups', '{"name": "ops"}', tok())).body_->>'id' AS ops \gset
SELECT (api('POST', '/api/v2/organizations/second/groups', '{"name": "devs"}', tok())).body_->>'id' AS devs2 \gset
SELECT is(left(go('POST', '/api/v2/organizations/coder/members/roles', '{"name": "maker"}', tok()), 3), '200', 'a custom role');

-- settings
SELECT is(go('GET', '/api/v2/settings/idpsync/organization', NULL, tok()), '200 {"field": "", "mapping": {}, "organization_assign_default": true}', 'nothing is set');
SELECT is(go('GET', '/api/v2/organizations/second/settings/idpsync/' || k, NULL, tok()), '200 ' || a, k) FROM (VALUES
	('groups', '{"field": "", "mapping": {}, "regex_filter": null, "auto_create_missing_groups": false}'), ('roles', '{"field": "", "mapping": {}}')) v (k, a);
SELECT coder.configure('{"oidc_group_field": "grp", "oidc_group_mapping": "{\"a\": \"b\"}", "oidc_group_auto_create": "true"}');
SELECT is(go('GET', '/api/v2/organizations/coder/settings/idpsync/groups', NULL, tok()),
	'200 {"field": "grp", "mapping": {}, "regex_filter": ".*", "legacy_group_name_mapping": {"a": "b"}, "auto_create_missing_groups": true}', 'the environment''s count for the default organization');
SELECT coder.configure('{"oidc_group_field": null, "oidc_group_mapping": null, "oidc_group_auto_create": null}');
SELECT is(go(m, p, b, tok()), a, m || ' ' || p || ' ' || b) FROM (VALUES
	('PATCH', '/api/v2/settings/idpsync/organization', '{"field": "orgs", "mapping": {"x": ["nope"]}}'::jsonb, '400 Request body must be valid JSON.'),
	('PATCH', '/api/v2/settings/idpsync/organization', '{"field": "orgs", "mapping": {"x": "nope"}}', '400 Request body must be valid JSON.'),
	('PATCH', '/api/v2/settings/idpsync/organization', '{"field": "orgs", "mapping": []}', '400 Request body must be valid JSON.'),
	('PATCH', '/api/v2/settings/idpsync/organization', '{"field": 1}', '400 Request body must be valid JSON.'),
	('PATCH', '/api/v2/settings/idpsync/organization/config', '{"field": "orgs", "assign_default": "yes"}', '400 Request body must be valid JSON.'),
	('PATCH', '/api/v2/settings/idpsync/organization/config', '{"field": "orgs", "assign_default": true}', '200 {"field": "orgs", "mapping": {}, "organization_assign_default": true}'),
	('PATCH', '/api/v2/settings/idpsync/organization/mapping', '{"Add": [{"Given": "x", "Gets": "nope"}]}', '400 Request body must be valid JSON.'),
	('PATCH', '/api/v2/settings/idpsync/organization/mapping', '{"Add": ["x"]}', '400 Request body must be valid JSON.'),
	('PATCH', '/api/v2/organizations/coder/settings/idpsync/groups', '{"field": "g", "regex_filter": "("}', '400 Request body must be valid JSON.'),
	('PATCH', '/api/v2/organizations/coder/settings/idpsync/groups/config', '{"field": "g", "regex_filter": "^(devs|ops|new|old)$", "auto_create_missing_groups": true}',
		'200 {"field": "g", "mapping": {}, "regex_filter": "^(devs|ops|new|old)$", "auto_create_missing_groups": true}'),
	('PATCH', '/api/v2/organizations/coder/settings/idpsync/roles', '{"field": "r", "mapping": {"boss": ["organization-admin", "maker"], "spy": ["organization-auditor"]}}',
		'200 {"field": "r", "mapping": {"spy": ["organization-auditor"], "boss": ["organization-admin", "maker"]}}'),
	('PATCH', '/api/v2/organizations/coder/settings/idpsync/roles/mapping', '{"Add": [{"Given": "ghost", "Gets": "no-such-role"}], "Remove": [{"Given": "spy", "Gets": "organization-auditor"}]}',
		'200 {"field": "r", "mapping": {"boss": ["organization-admin", "maker"], "ghost": ["no-such-role"]}}')) v (m, p, b, a);
SELECT is(left(go('PATCH', '/api/v2/settings/idpsync/organization/mapping', jsonb_build_object('Add', jsonb_build_array(
	jsonb_build_object('Given', 'two', 'Gets', :'second'), jsonb_build_object('Given', 'three', 'Gets', :'third'), jsonb_build_object('Given', 'gone', 'Gets', gen_random_uuid()))), tok()), 3), '200', 'organizations by claims');
SELECT is(left(go('PATCH', '/api/v2/organizations/coder/settings/idpsync/groups/mapping', jsonb_build_object('Add', jsonb_build_array(
	jsonb_build_object('Given', 'old', 'Gets', :'ops'), jsonb_build_object('Given', 'old', 'Gets', :'ops'), jsonb_build_object('Given', 'ops', 'Gets', :'devs2'))), tok()), 3), '200', 'groups by claims');
SELECT is(go(m, p, '{"field": "x"}', tok('bob')), '403 Forbidden.', 'a member does not: ' || m || ' ' || p) FROM (VALUES
	('GET', '/api/v2/settings/idpsync/organization'), ('PATCH', '/api/v2/settings/idpsync/organization'), ('PATCH', '/api/v2/organizations/coder/settings/idpsync/roles/mapping'),
	('GET', '/api/v2/organizations/coder/settings/idpsync/groups'), ('GET', '/api/v2/settings/idpsync/available-fields')) v (m, p);
SELECT is(left(go('GET', '/api/v2/organizations/third/settings/idpsync/roles', NULL, tok('bob')), 3), '404', 'nor sees another organization');

-- what a sign-in makes of claims
CREATE FUNCTION public.state() RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' | ', (SELECT string_agg(o.name || array_to_string(m.roles, '+'), ' ' ORDER BY o.name) FROM coder.organization_members m
				JOIN coder.organizations o ON o.id = m.organization_id WHERE m.user_id = bob()),
		(SELECT string_agg(g.name || '@' || o.name, ' ' ORDER BY g.name, o.name) FROM coder.group_members gm JOIN coder.groups g ON g.id = gm.group_id
			JOIN coder.organizations o ON o.id = g.organization_id WHERE gm.user_id = bob()),
		(SELECT nullif(array_to_string(u.rbac_roles, '+'), '') FROM coder.users u WHERE u.id = bob())) $$;
CREATE FUNCTION public.after(claims jsonb) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM coder.idp_sync(bob(), claims); RETURN state(); END $$;
SELECT is(after(c), a, c::text) FROM (VALUES
	('{}'::jsonb, 'coder'), ('{"orgs": ["two", "three"]}', 'coder second third'), ('{"orgs": "two"}', 'coder second'), ('{"orgs": [1, null, {"a": 1}, ["two"]]}', 'coder'),
	('{"orgs": ["gone", "unknown"]}', 'coder'), ('{"g": ["devs", "everyone", "Everyone", "secret"]}', 'coder | devs@coder'), ('{"g": "new"}', 'coder | new@coder'),
	('{"g": ["old", "ops"]}', 'coder | ops@coder'), ('{"g": ""}', 'coder'), ('{"r": ["boss"]}', 'codermaker+organization-admin'),
	('{"r": ["ghost", "organization-member", "owner", "maker"]}', 'codermaker'), ('{"r": "spy"}', 'coder')) v (c, a);
SELECT is((SELECT source::text FROM coder.groups WHERE name = 'new'), 'oidc', 'a group that a claim made');
SELECT is((SELECT count(*)::int FROM coder.groups WHERE name IN ('secret', 'everyone')), 0, 'what the filter leaves out makes none');
SELECT coder.configure('{"oidc_user_role_field": "site", "oidc_user_role_mapping": "{\"chief\": [\"user-admin\", \"auditor\"]}", "oidc_user_role_default": "template-admin"}');
SELECT is(after(c), a, c::text) FROM (VALUES ('{"site": ["chief", "nobody"]}'::jsonb, 'coder | auditor+template-admin+user-admin'), ('{"site": ["owner"]}', 'coder | owner+template-admin'),
	('{}', 'coder | template-admin')) v (c, a);
SELECT coder.configure('{"oidc_user_role_mapping": "no json"}');
SELECT is(after('{"site": ["chief"]}'), 'coder | template-admin', 'a mapping that is none gives nothing');

-- what the provider says is not changed by hand
SELECT is(go(m, p, b, tok()), a, p) FROM (VALUES
	('PUT', '/api/v2/users/bob/roles', '{"roles": []}'::jsonb, '400 Cannot modify roles for OIDC users when role sync is enabled.'),
	('PUT', '/api/v2/organizations/coder/members/bob/roles', '{"roles": []}', '400 Cannot modify roles for OIDC users when role sync is enabled. This organization member''s roles are managed by the identity provider. Have the user re-login to refresh their roles.'),
	('POST', '/api/v2/organizations/second/members/bob', NULL, '400 Organization sync is enabled for OIDC users, meaning manual organization assignment is not allowed for this user. Have the user re-login to refresh their organizations.')) v (m, p, b, a);

-- which claims there are
INSERT INTO coder.user_links (user_id, login_type, linked_id, claims) VALUES
	(bob(), 'oidc', 'x', '{"merged_claims": {"sub": "1", "groups": ["b", "a", 3], "nothing": null}, "id_token_claims": {"hidden": 1}}');
SELECT is(go('GET', '/api/v2/' || p, NULL, tok()), a, p) FROM (VALUES
	('settings/idpsync/available-fields', '200 ["groups", "nothing", "sub"]'), ('organizations/coder/settings/idpsync/available-fields', '200 ["groups", "nothing", "sub"]'),
	('organizations/third/settings/idpsync/available-fields', '200 []'), ('settings/idpsync/field-values?claimField=groups', '200 ["3", "a", "b"]'),
	('settings/idpsync/field-values?claimField=nothing', '200 []'), ('settings/idpsync/field-values?claimField=absent', '200 []'),
	('organizations/coder/settings/idpsync/field-values?claimField=sub', '200 ["1"]'), ('settings/idpsync/field-values', '400 claimField query parameter is required')) v (p, a);

SELECT * FROM finish();
ROLLBACK;
