-- audit.sql -- the audit log: each tracked table by the API and by SQL, secrets, who, and that nobody edits it
BEGIN;
\i api.psql
SELECT no_plan();

CREATE TEMP TABLE seen (id uuid PRIMARY KEY);

-- The rows since the last call.
CREATE FUNCTION pg_temp.news() RETURNS SETOF coder.audit_logs LANGUAGE plpgsql AS $$
DECLARE
	l coder.audit_logs;
BEGIN
	FOR l IN SELECT a.* FROM coder.audit_logs a WHERE NOT EXISTS (SELECT FROM seen s WHERE s.id = a.id) ORDER BY a."time" LOOP
		INSERT INTO seen VALUES (l.id);
		RETURN NEXT l;
	END LOOP;
END
$$;

-- The same in short: action type target status diff's members.
CREATE FUNCTION pg_temp.told() RETURNS text[] LANGUAGE plpgsql AS $$
BEGIN
	RETURN ARRAY(SELECT format('%s %s %s %s %s', n.action, n.resource_type, n.resource_target, n.status_code,
		(SELECT coalesce(string_agg(k || CASE WHEN (n.diff->k->>'secret')::bool THEN '!' ELSE '' END, ',' ORDER BY k), '-') FROM jsonb_object_keys(n.diff) k))
		FROM pg_temp.news() n);
END
$$;

CREATE TEMP TABLE t AS SELECT token_of('boss') AS boss, token_of('mel') AS mel;
CREATE FUNCTION pg_temp.boss() RETURNS text LANGUAGE sql AS 'SELECT boss FROM t';
CREATE FUNCTION pg_temp.id(who text) RETURNS uuid LANGUAGE sql AS 'SELECT id FROM coder.users WHERE username = who ORDER BY deleted LIMIT 1';
SELECT * FROM pg_temp.news() \g /dev/null

-- Every column of every tracked table has its place.
SELECT is_empty($$ SELECT t.table_name, a.attname FROM coder.audit_tables t JOIN pg_attribute a
	ON a.attrelid = ('coder.' || t.table_name)::regclass AND a.attnum > 0 AND NOT a.attisdropped
	WHERE NOT EXISTS (SELECT FROM coder.audit_columns c WHERE (c.table_name, c.column_name) = (t.table_name, a.attname)) $$, 'every column is listed');
SELECT is_empty($$ SELECT t.table_name FROM coder.audit_tables t
	WHERE NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = ('coder.' || t.table_name)::regclass AND g.tgname = 'audit') $$, 'every tracked table has the trigger');
SELECT is_empty($$ SELECT c.* FROM coder.audit_columns c WHERE c.wakes AND (c.table_name, c.column_name) IN
	(VALUES ('users', 'last_seen_at'), ('users', 'updated_at'), ('api_keys', 'last_used'), ('workspaces', 'last_used_at'),
		('workspaces', 'next_start_at'), ('workspaces', 'latest_build_id'), ('workspace_agents', 'last_connected_at'), ('workspace_agents', 'logs_length')) $$,
	'what beats and ticks wakes nothing');

-- Users, by the API.
SELECT is((SELECT status FROM api('POST', '/api/v2/users', jsonb_build_object('email', 'zoe@example.com', 'username', 'zoe', 'password', 'SomeSecurePassword!',
	'organization_ids', ARRAY(SELECT id FROM coder.organizations WHERE is_default)), pg_temp.boss())), 201, 'a user');
SELECT is(pg_temp.told(), ARRAY['create user zoe 201 email,hashed_password!,id,login_type,status,username'], 'is one row, its membership part of it');
SELECT is((SELECT l.diff->'hashed_password' FROM coder.audit_logs l WHERE l.resource_target = 'zoe'), '{"old": "", "new": "", "secret": true}', 'a secret is not told');
SELECT is((SELECT l.diff->'email' FROM coder.audit_logs l WHERE l.resource_target = 'zoe'), '{"old": "", "new": "zoe@example.com", "secret": false}', 'a value is');
SELECT results_eq($$ SELECT l.user_id, host(l.ip), l.token_id, l.database_role FROM coder.audit_logs l WHERE l.resource_target = 'zoe' $$,
	$$ SELECT pg_temp.id('boss'), '127.0.0.1', split_part(pg_temp.boss(), '-', 1), NULL::text $$, 'who: user, address, token');
SELECT is((SELECT status FROM api('PUT', '/api/v2/users/zoe/profile', '{"username": "zoe", "name": "Zoe"}', pg_temp.boss())), 200, 'a new name');
SELECT is(pg_temp.told(), ARRAY['write user zoe 200 name'], 'is a change of it');
SELECT is((SELECT status FROM api('PUT', '/api/v2/users/zoe/profile', '{"username": "zoe", "name": "Zoe"}', pg_temp.boss())), 200, 'the same name again');
SELECT is(pg_temp.told(), '{}', 'is none');
SELECT is((SELECT status FROM api('PUT', '/api/v2/users/zoe/roles', '{"roles": ["auditor"]}', pg_temp.boss())), 200, 'a role');
SELECT is((SELECT n.diff FROM pg_temp.news() n), '{"rbac_roles": {"old": [], "new": ["auditor"], "secret": false}}', 'with what it was before');
SELECT is((SELECT status FROM api('PUT', '/api/v2/users/zoe/password', '{"password": "AnotherSecure1!"}', pg_temp.boss())), 204, 'a password');
SELECT is(pg_temp.told(), ARRAY['write user zoe 204 hashed_password!'], 'has the status, and no value');
SELECT is((SELECT status FROM api('PUT', '/api/v2/users/zoe/status/suspend', NULL, pg_temp.boss())), 200, 'suspended');
SELECT is(pg_temp.told(), ARRAY['write user zoe 200 status'], 'by the status');
SELECT is((SELECT status FROM api('GET', '/api/v2/users/zoe', NULL, pg_temp.boss())), 200, 'to look');
SELECT is(pg_temp.told(), '{}', 'is no change');
SELECT is((SELECT status FROM api('DELETE', '/api/v2/users/zoe', NULL, pg_temp.boss())), 200, 'deleted');
SELECT is((SELECT array_agg(x) FROM unnest(pg_temp.told()) x WHERE x LIKE 'delete%'), ARRAY['delete user zoe 200 email,hashed_password!,id,login_type,name,rbac_roles,status,username'], 'is one row too');

-- Users, by SQL.
INSERT INTO coder.users (email, username, status) VALUES ('yan@example.com', 'yan', 'active');
SELECT is(pg_temp.told(), ARRAY['create user yan 200 email,id,login_type,status,username'], 'a user by SQL');
SELECT results_eq($$ SELECT l.user_id, l.database_role, l.request_id IS NOT NULL, l.token_id FROM coder.audit_logs l WHERE l.resource_target = 'yan' $$,
	$$ VALUES ('00000000-0000-0000-0000-000000000000'::uuid, session_user::text COLLATE "default", true, NULL::text) $$, 'who: the role of the database');
SELECT coder.set_subject(pg_temp.id('mel'));
UPDATE coder.users SET hashed_password = 'x' WHERE username = 'yan';
SELECT results_eq($$ SELECT n.user_id, n.database_role, n.diff FROM pg_temp.news() n $$,
	$$ VALUES (pg_temp.id('mel'), session_user::text COLLATE "default", '{"hashed_password": {"old": "", "new": "", "secret": true}}'::jsonb) $$, 'who: the user that the session became');
SELECT coder.set_subject(NULL);
UPDATE coder.users SET last_seen_at = now(), updated_at = now();
SELECT is(pg_temp.told(), '{}', 'to be seen is no change');
SAVEPOINT s;
UPDATE coder.users SET name = 'Y' WHERE username = 'yan';
ROLLBACK TO s;
SELECT is(pg_temp.told(), '{}', 'what is undone is not told');
UPDATE coder.users SET deleted = true WHERE username = 'yan';
SELECT is((pg_temp.told())[1], 'delete user yan 200 email,hashed_password!,id,login_type,status,username', 'marked as deleted');

-- Sessions.
UPDATE coder.users SET hashed_password = convert_to(coder.password_hash('SomeSecurePassword!'), 'UTF8'), login_type = 'password' WHERE username = 'mel';
SELECT * FROM pg_temp.news() \g /dev/null
CREATE TEMP TABLE session AS SELECT * FROM api('POST', '/api/v2/users/login', '{"email": "mel@example.com", "password": "SomeSecurePassword!"}');
SELECT is((SELECT status FROM session), 201, 'a login');
SELECT is(pg_temp.told(), ARRAY['login api_key  201 -'], 'is a login, not a key');
SELECT is((SELECT l.user_id FROM coder.audit_logs l WHERE l.action = 'login'), pg_temp.id('mel'), 'of that user');
SELECT is((SELECT status FROM api('POST', '/api/v2/users/logout', NULL, (SELECT body_->>'session_token' FROM session))), 200, 'a logout');
SELECT is(pg_temp.told(), ARRAY['logout api_key  200 -'], 'is a logout');

-- Keys.
SELECT is((SELECT status FROM api('POST', '/api/v2/users/me/keys/tokens', '{"token_name": "ci"}', pg_temp.boss())), 201, 'a token');
SELECT is(pg_temp.told(), ARRAY['create api_key ci 201 allow_list,created_at,expires_at,hashed_secret!,lifetime_seconds,login_type,scopes,token_name,user_id'], 'without its secret');
SELECT is((SELECT l.additional_fields->>'key_id' FROM coder.audit_logs l WHERE l.resource_target = 'ci'), (SELECT k.id FROM coder.api_keys k WHERE k.token_name = 'ci'), 'and with its id');
UPDATE coder.api_keys SET last_used = now() - interval '2 hours', lifetime_seconds = lifetime_seconds WHERE token_name = 'ci';
SELECT coder.api_key_used((SELECT id FROM coder.api_keys WHERE token_name = 'ci'), '::1', true);
SELECT is(pg_temp.told(), '{}', 'to use one is no change');
UPDATE coder.api_keys SET scopes = '{workspace:read}' WHERE token_name = 'ci';
SELECT is(pg_temp.told(), ARRAY['write api_key ci 200 scopes'], 'its scopes by SQL');
SELECT is((SELECT status FROM api('DELETE', '/api/v2/users/me/keys/' || (SELECT id FROM coder.api_keys WHERE token_name = 'ci'), NULL, pg_temp.boss())), 204, 'deleted');
SELECT is((SELECT array_agg(left(x, 22)) FROM unnest(pg_temp.told()) x), ARRAY['delete api_key ci 204 '], 'is told');

-- Groups and their members.
SELECT is((SELECT status FROM api('POST', '/api/v2/organizations/default/groups', '{"name": "devs", "quota_allowance": 3}', pg_temp.boss())), 201, 'a group');
SELECT is(pg_temp.told(), ARRAY['create group devs 201 id,name,quota_allowance'], 'is told');
INSERT INTO coder.organization_members (user_id, organization_id) SELECT pg_temp.id('mel'), o.id FROM coder.organizations o WHERE o.is_default ON CONFLICT DO NOTHING;
SELECT * FROM pg_temp.news() \g /dev/null
SELECT is((SELECT status FROM api('PATCH', '/api/v2/groups/' || (SELECT id FROM coder.groups WHERE name = 'devs'),
	jsonb_build_object('name', 'devs', 'display_name', 'Developers', 'add_users', ARRAY[pg_temp.id('mel')]), pg_temp.boss())), 200, 'a member and a name');
SELECT results_eq($$ SELECT n.action::text || n.resource_target, n.diff->'members'->'new'->>0, n.diff->'display_name'->>'new' FROM pg_temp.news() n $$,
	$$ SELECT 'writedevs', pg_temp.id('mel')::text, 'Developers' $$, 'are one row of the group');
DELETE FROM coder.group_members WHERE user_id = pg_temp.id('mel');
SELECT results_eq($$ SELECT n.resource_target, n.diff->'members', n.organization_id FROM pg_temp.news() n $$,
	$$ SELECT 'devs', jsonb_build_object('old', ARRAY[pg_temp.id('mel')], 'new', '{}'::text[], 'secret', false), (SELECT o.id FROM coder.organizations o WHERE o.is_default) $$,
	'a member who leaves by SQL, with the group''s name and organization');
INSERT INTO coder.group_members SELECT pg_temp.id('mel'), g.id FROM coder.groups g WHERE g.name = 'devs';
SELECT * FROM pg_temp.news() \g /dev/null
SELECT is((SELECT status FROM api('DELETE', '/api/v2/groups/' || (SELECT id FROM coder.groups WHERE name = 'devs'), NULL, pg_temp.boss())), 200, 'a group that goes');
SELECT is((SELECT array_agg(split_part(x, ' ', 1)) FROM unnest(pg_temp.told()) x), ARRAY['delete'], 'takes its members along in one row');
SELECT is((SELECT status FROM api('POST', '/api/v2/organizations/default/groups', '{"name": "ops"}', pg_temp.boss())), 201, 'another group');
INSERT INTO coder.group_members SELECT pg_temp.id('mel'), g.id FROM coder.groups g WHERE g.name = 'ops';
SELECT * FROM pg_temp.news() \g /dev/null
DELETE FROM coder.groups WHERE name = 'ops';
SELECT is((SELECT array_agg(split_part(x, ' ', 1)) FROM unnest(pg_temp.told()) x), ARRAY['delete'], 'by SQL too');

-- Organizations, members, roles.
SELECT is((SELECT status FROM api('POST', '/api/v2/organizations', '{"name": "acme"}', pg_temp.boss())), 201, 'an organization');
SELECT is((SELECT array_agg(split_part(x, ' 201 ', 1)) FROM unnest(pg_temp.told()) x), ARRAY['create organization acme'], 'is one row, its group, roles and first member part of it');
SELECT is((SELECT status FROM api('POST', '/api/v2/organizations/acme/members/mel', NULL, pg_temp.boss())) / 100, 2, 'a member');
SELECT is((SELECT array_agg(split_part(x, ' 20', 1)) FROM unnest(pg_temp.told()) x), ARRAY['create organization_member mel'], 'by name');
SELECT is((SELECT status FROM api('PUT', '/api/v2/organizations/acme/members/mel/roles', '{"roles": ["organization-auditor"]}', pg_temp.boss())), 200, 'a role there');
SELECT is(pg_temp.told(), ARRAY['write organization_member mel 200 roles'], 'is told');
SELECT is((SELECT status FROM api('POST', '/api/v2/organizations/acme/members/roles', '{"name": "stopper", "organization_permissions": [{"resource_type": "workspace", "action": "stop"}]}', pg_temp.boss())), 200, 'a custom role');
SELECT is(pg_temp.told(), ARRAY['create custom_role stopper 200 name,org_permissions'], 'with what it lets do');
UPDATE coder.custom_roles SET site_permissions = '[{"resource_type": "*", "action": "*", "negate": false}]' WHERE name = 'stopper';
SELECT is(pg_temp.told(), ARRAY['write custom_role stopper 200 site_permissions'], 'and what it comes to by SQL');
SELECT is((SELECT status FROM api('PATCH', '/api/v2/organizations/acme', '{"description": "of course"}', pg_temp.boss())), 200, 'described');
SELECT is(pg_temp.told(), ARRAY['write organization acme 200 description'], 'is a change');
SELECT is((SELECT status FROM api('DELETE', '/api/v2/organizations/acme/members/mel', NULL, pg_temp.boss())) / 100, 2, 'a member who leaves');
SELECT is((SELECT array_agg(split_part(x, ' 20', 1)) FROM unnest(pg_temp.told()) x), ARRAY['delete organization_member mel'], 'is told');

-- Keys for git, settings, notifications, OAuth2 applications.
SELECT is((SELECT status FROM api('PUT', '/api/v2/users/me/gitsshkey', NULL, pg_temp.boss())), 200, 'an SSH key');
SELECT is((SELECT array_agg(n.diff - 'public_key') FROM pg_temp.news() n),
	ARRAY[jsonb_build_object('private_key', '{"old": "", "new": "", "secret": true}'::jsonb, 'user_id', jsonb_build_object('old', '', 'new', pg_temp.id('boss'), 'secret', false))], 'its private half is not told');
SELECT is((SELECT status FROM api('PUT', '/api/v2/debug/health/settings', '{"dismissed_healthchecks": ["DERP"]}', pg_temp.boss())), 200, 'health settings');
SELECT is(pg_temp.told(), ARRAY['write health_settings  200 dismissed_healthchecks'], 'are told by their members');
INSERT INTO coder.site_configs VALUES ('notifications_settings', '{"notifier_paused": true}') ON CONFLICT (key) DO UPDATE SET value = excluded.value;
SELECT is(pg_temp.told(), ARRAY['write notifications_settings  200 notifier_paused'], 'by SQL too');
UPDATE coder.site_configs SET value = 'x' WHERE key = 'derp_mesh_key';
SELECT is(pg_temp.told(), '{}', 'keys of the server are not told');
UPDATE coder.notification_templates SET method = 'webhook' WHERE name = 'Task Failed';
SELECT is(pg_temp.told(), ARRAY['write notification_template Task Failed 200 method'], 'how a message is sent');
SELECT is((SELECT status FROM api('POST', '/api/v2/oauth2-provider/apps', '{"name": "wiki", "callback_url": "http://localhost:9"}', pg_temp.boss())), 201, 'an application');
SELECT is((SELECT array_agg(split_part(x, ' 201 ', 1)) FROM unnest(pg_temp.told()) x), ARRAY['create oauth2_provider_app wiki'], 'is told');
SELECT is((SELECT status FROM api('POST', '/api/v2/oauth2-provider/apps/' || (SELECT id FROM coder.oauth2_provider_apps WHERE name = 'wiki') || '/secrets', NULL, pg_temp.boss())) / 100, 2, 'a secret of it');
SELECT is((SELECT array_agg((n.resource_type, n.diff->'hashed_secret')::text) FROM pg_temp.news() n), ARRAY['(oauth2_provider_app_secret,"{""new"": """", ""old"": """", ""secret"": true}")'], 'is not told');
DELETE FROM coder.oauth2_provider_apps WHERE name = 'wiki';
SELECT ok('{delete}' = ALL (SELECT ARRAY[split_part(x, ' ', 1)] FROM unnest(pg_temp.told()) x), 'deleted by SQL');

-- Nobody edits it.
SELECT throws_ok('UPDATE coder.audit_logs SET diff = ''{}''', 'ZC403', 'Rows of the audit log are neither changed nor deleted.', 'no UPDATE');
SELECT throws_ok('DELETE FROM coder.audit_logs', 'ZC403', NULL, 'no DELETE');
SELECT throws_ok('TRUNCATE coder.audit_logs', 'ZC403', NULL, 'no TRUNCATE');
SET LOCAL session_replication_role = replica;
SELECT throws_ok('DELETE FROM coder.audit_logs', 'ZC403', NULL, 'not as a replica either');
RESET session_replication_role;
SELECT * FROM finish();
ROLLBACK;
