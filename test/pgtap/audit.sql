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
CREATE FUNCTION pg_temp.mel() RETURNS text LANGUAGE sql AS 'SELECT mel FROM t';
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

-- Templates, workspaces and builds.
\set n 12
\i workspaces.psql
SET LOCAL session_replication_role = origin;
SELECT * FROM pg_temp.news() \g /dev/null
SELECT is((SELECT status FROM api('PATCH', '/api/v2/templates/' || (SELECT id FROM coder.templates WHERE name = 'template-0'), '{"display_name": "Zero", "default_ttl_ms": 3600000}', pg_temp.boss())), 200, 'a template');
SELECT is(pg_temp.told(), ARRAY['write template template-0 200 activity_bump,allow_user_cancel_workspace_jobs,default_ttl,display_name'], 'is told by its columns');
UPDATE coder.templates SET user_acl = jsonb_build_object(pg_temp.id('mel'), '["admin"]'::jsonb) WHERE name = 'template-0';
SELECT results_eq($$ SELECT n.resource_icon, n.organization_id, n.diff->'user_acl'->'new'->(pg_temp.id('mel')::text)->>0 FROM pg_temp.news() n $$,
	$$ SELECT '/icon/k8s.png', (SELECT o.id FROM coder.organizations o WHERE o.is_default), 'admin' $$, 'by SQL too, with icon and organization');
UPDATE coder.template_versions SET readme = 'read me' WHERE name = 'elegant_turing0';
SELECT is(pg_temp.told(), '{}', 'what the import of a version finds is no change');
UPDATE coder.template_versions SET message = 'fixed', readme = 'read me again' WHERE name = 'elegant_turing0';
SELECT is(pg_temp.told(), ARRAY['write template_version elegant_turing0 200 message,readme'], 'a version');
SELECT is((SELECT status FROM api('PUT', '/api/v2/workspaces/' || (SELECT id FROM coder.workspaces WHERE name = 'workspace-1') || '/ttl', '{"ttl_ms": 7200000}', pg_temp.boss())), 204, 'a workspace');
SELECT is(pg_temp.told(), ARRAY['write workspace workspace-1 204 ttl'], 'is told');
UPDATE coder.workspaces SET last_used_at = now(), updated_at = now(), next_start_at = now();
SELECT is(pg_temp.told(), '{}', 'use of workspaces is no change');
UPDATE coder.workspaces SET name = 'renamed', favorite = true WHERE name = 'workspace-1';
SELECT is(pg_temp.told(), ARRAY['write workspace renamed 200 favorite,name'], 'a name by SQL');
INSERT INTO coder.workspace_agent_port_share (workspace_id, agent_name, port, share_level) SELECT id, 'main', 8080, 'public' FROM coder.workspaces WHERE name = 'renamed';
SELECT is((SELECT (n.resource_target, n.diff->'port_shares'->'new'->0->>'share_level')::text FROM pg_temp.news() n), '(renamed,public)', 'a shared port is a change of its workspace');
UPDATE coder.workspace_agents SET last_connected_at = now(), updated_at = now(), lifecycle_state = 'off', logs_length = 3, version = 'v3';
SELECT is(pg_temp.told(), '{}', 'what agents report is no change');
UPDATE coder.workspace_apps SET sharing_level = 'public' WHERE sharing_level <> 'public';
SELECT ok('{}' <> pg_temp.told(), 'apps opened to all by hand');
-- A build is told when it ends.
CREATE TEMP TABLE b AS SELECT w.id AS workspace, a.* FROM coder.workspaces w,
	LATERAL api('POST', '/api/v2/workspaces/' || w.id || '/builds', '{"transition": "stop", "reason": "dashboard"}', pg_temp.boss()) a WHERE w.name = 'renamed';
SELECT is((SELECT status FROM b), 201, 'a build begins');
SELECT is(pg_temp.told(), '{}', 'and is not told yet');
UPDATE coder.provisioner_jobs SET started_at = now() WHERE id = (SELECT (body_->'job'->>'id')::uuid FROM b);
UPDATE coder.provisioner_jobs SET completed_at = now() WHERE id = (SELECT (body_->'job'->>'id')::uuid FROM b);
CREATE TEMP TABLE row AS SELECT * FROM pg_temp.news();
SELECT results_eq($$ SELECT action::text, resource_type::text, status_code, user_id, host(ip), token_id, additional_fields->>'workspace_name', additional_fields->>'build_number',
		additional_fields->>'build_reason', database_role FROM row $$,
	$$ SELECT 'stop', 'workspace_build', 200, pg_temp.id('boss'), '127.0.0.1', split_part(pg_temp.boss(), '-', 1), 'renamed', '2', 'dashboard', NULL::text $$,
	'when it ends it is told, with who began it from where');
SELECT is((SELECT (a.body_->'audit_logs'->0->>'description', a.body_->'audit_logs'->0->>'resource_link')::text FROM api('GET', '/api/v2/audit?limit=1', NULL, pg_temp.boss()) a),
	(SELECT format('("{user} stopped workspace {target}",/@%s/renamed/builds/2)', u.username) FROM coder.users u JOIN coder.workspaces w ON w.owner_id = u.id WHERE w.name = 'renamed'), 'as a client shows it');
SELECT coder.build_add((SELECT workspace FROM b), pg_temp.id('mel'), 'start', NULL, 'autostart');
UPDATE coder.provisioner_jobs j SET started_at = now(), completed_at = now(), error = 'no' FROM coder.workspace_builds x WHERE x.job_id = j.id AND x.build_number = 3;
SELECT results_eq('SELECT n.action::text, n.status_code, n.user_id, n.database_role, n.request_id = (SELECT job_id FROM coder.workspace_builds WHERE build_number = 3) FROM pg_temp.news() n',
	$$ SELECT 'start', 500, pg_temp.id('mel'), session_user::text COLLATE "default", true $$, 'one by SQL that fails');
UPDATE coder.workspaces SET deleted = true WHERE name = 'renamed';
SELECT ok((pg_temp.told())[1] LIKE 'delete workspace renamed 200 %', 'a workspace marked as deleted by hand');

-- The list.
CREATE FUNCTION pg_temp.found(q text, token text DEFAULT pg_temp.boss()) RETURNS text LANGUAGE sql AS $$
	SELECT a.status || ' ' || coalesce(a.body_->>'count', a.body_->'validations'->0->>'field') || ' ' || coalesce(jsonb_array_length(a.body_->'audit_logs')::text, '')
	  FROM api('GET', '/api/v2/audit?' || q, NULL, token) a $$;
CREATE FUNCTION pg_temp.n(condition text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE 'SELECT count(*) FROM coder.audit_logs l WHERE ' || condition INTO n;
	RETURN format('200 %s %s', n, least(n, 100));
END
$$;
SELECT is(pg_temp.found('q=' || q), pg_temp.n(c), 'search: ' || q) FROM (VALUES
	('', 'true'), ('template', 'resource_type = ''template'''), ('resource_type:workspace_build', 'resource_type = ''workspace_build'''),
	('action:start', 'action = ''start'''), ('username:me', 'user_id = pg_temp.id(''boss'')'), ('username:mel', 'user_id = pg_temp.id(''mel'')'),
	('email:mel@example.com', 'user_id = pg_temp.id(''mel'')'), ('username:nobody', 'false'), ('build_reason:autostart', 'additional_fields->>''build_reason'' = ''autostart'''),
	('resource_target:DEVS', 'resource_target = ''devs'''), ('date_from:2999-01-01', 'false'), ('date_to:2999-01-01', 'true'),
	('organization:coder', 'organization_id = (SELECT id FROM coder.organizations WHERE is_default)'), ('organization:none', 'false'),
	('action:create%20resource_type:group', 'action = ''create'' AND resource_type = ''group''')) v (q, c);
SELECT is(pg_temp.found('q=resource_id:' || (SELECT workspace FROM b)), pg_temp.n(format('resource_id = %L', (SELECT workspace FROM b))), 'by the id of a resource');
SELECT is(pg_temp.found('q=request_id:' || (SELECT request_id FROM row)), '200 1 1', 'by the id of a request');
SELECT is(pg_temp.found('limit=3&offset=2'), format('200 %s 3', (SELECT count(*) FROM coder.audit_logs)), 'a page');
SELECT is(pg_temp.found('q=' || q), '400 ' || f || ' ', 'no search: ' || q) FROM (VALUES ('action:bogus', 'action'), ('resource_type:bogus', 'resource_type'), ('resource_id:1', 'resource_id'),
	('date_from:2024-13-01', 'date_from'), ('date_from:2024-02-31', 'q'), ('build_reason:why', 'build_reason'), ('colour:red', 'colour')) v (q, f);
SELECT is((SELECT a.status FROM api('GET', '/api/v2/audit', NULL, pg_temp.mel()) a), 403, 'a member does not read it');
UPDATE coder.organization_members SET roles = '{organization-auditor}' WHERE user_id = pg_temp.id('mel') AND organization_id = (SELECT id FROM coder.organizations WHERE is_default);
SELECT is(pg_temp.found('', pg_temp.mel()), pg_temp.n('organization_id = (SELECT id FROM coder.organizations WHERE is_default)'), 'an auditor of an organization reads what is its own');
INSERT INTO coder.audit_logs (user_id, organization_id, resource_type, resource_id, resource_target, action)
SELECT pg_temp.id('boss'), '00000000-0000-0000-0000-000000000000', 'user', gen_random_uuid(), 'many', 'write' FROM generate_series(1, 2500);
SELECT is(pg_temp.found('limit=1'), '200 2001 1', 'the count stops at its cap');
SELECT is((SELECT a.status FROM api('POST', '/api/v2/audit/testgenerate', jsonb_build_object('action', 'stop', 'resource_type', 'workspace_build', 'resource_id', (SELECT workspace FROM b),
	'build_reason', 'autostop', 'time', '2024-01-02T03:04:05Z'), pg_temp.boss()) a), 204, 'a row for tests');
SELECT is(pg_temp.found('q=build_reason:autostop%20date_to:2024-01-02'), '200 1 1', 'is found by its day');

-- The export.
SELECT is((SELECT (a.status, array_length(regexp_split_to_array(convert_from(a.raw_, 'UTF8'), '\n'), 1) - 1, a.headers ~ 'X-Next-Cursor')::text
	FROM api('GET', '/api/v2/audit/export?limit=7', NULL, pg_temp.boss()) a), '(200,7,t)', 'NDJSON, a line a row');
SELECT is((SELECT count(*)::int FROM (SELECT regexp_split_to_table(convert_from(a.raw_, 'UTF8'), '\n') AS line FROM api('GET', '/api/v2/audit/export', NULL, pg_temp.boss()) a) x
	WHERE line <> '' AND line::jsonb ? 'resource_target'), (SELECT count(*)::int FROM coder.audit_logs), 'each of them JSON');
CREATE FUNCTION pg_temp.walk() RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	a record;
	lines int := 0;
	cursor text := '';
BEGIN
	LOOP
		SELECT * INTO a FROM api('GET', '/api/v2/audit/export?format=csv&limit=500&cursor=' || cursor, NULL, pg_temp.boss());
		lines := lines + (SELECT count(*) FROM regexp_matches(convert_from(a.raw_, 'UTF8'), '^(id|[0-9a-f-]{36}),', 'gn'));
		cursor := substring(a.headers FROM 'X-Next-Cursor: (\S+)');
		EXIT WHEN cursor IS NULL;
	END LOOP;
	RETURN lines;
END
$$;
SELECT is(pg_temp.walk(), (SELECT count(*)::int + 1 FROM coder.audit_logs), 'CSV by parts has every row once, and a header');
SELECT is(coder.csv_field('=cmd()'), '"''=cmd()"', 'nothing in it is a formula');
SELECT is(coder.csv_field('a "b", c'), '"a ""b"", c"', 'quotes are doubled');
SELECT is((SELECT a.status FROM api('GET', '/api/v2/audit/export?cursor=1_x', NULL, pg_temp.boss()) a), 400, 'a cursor that is none');
SELECT is((SELECT a.status FROM api('GET', '/api/v2/audit/export', NULL, token_of('nob')) a), 403, 'who may not read it may not export it');

-- What is refused: the gateway tells of it with the status and the request.
CREATE FUNCTION pg_temp.lv(b bytea) RETURNS bytea LANGUAGE sql AS 'SELECT CASE WHEN b IS NULL THEN ''\xffffffff'' ELSE int4send(length(b)) || b END';
CREATE FUNCTION pg_temp.refused(status int, method text, path text, token text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	SELECT * INTO r FROM route_of(method, path);
	PERFORM coder.audit_refused(int4send(status) || int4send(r.id) || pg_temp.lv(convert_to(method, 'UTF8')) || pg_temp.lv(convert_to(path, 'UTF8'))
		|| pg_temp.lv((SELECT coalesce(string_agg(pg_temp.lv(convert_to(p, 'UTF8')), '' ORDER BY n), '') FROM unnest(r.params) WITH ORDINALITY u (p, n)))
		|| pg_temp.lv('') || pg_temp.lv(convert_to(E'user-agent: curl\n', 'UTF8')) || pg_temp.lv(NULL) || pg_temp.lv(convert_to(token, 'UTF8'))
		|| pg_temp.lv(convert_to('10.1.2.3', 'UTF8')) || pg_temp.lv(uuid_send(gen_random_uuid())) || pg_temp.lv(NULL));
	RETURN (SELECT string_agg(format('%s %s %s %s %s %s %s', n.action, n.resource_type, n.resource_target, n.status_code, n.user_id = pg_temp.id('mel'), host(n.ip), n.user_agent), ';')
		FROM pg_temp.news() n);
END
$$;
UPDATE coder.organization_members SET roles = '{}' WHERE user_id = pg_temp.id('mel');
SELECT * FROM pg_temp.news() \g /dev/null
SELECT is(pg_temp.refused(v.status, v.method, v.path, v.token), v.told, v.method || ' ' || v.path) FROM (
	SELECT 403 AS status, 'PATCH' AS method, '/api/v2/templates/' || (SELECT id FROM coder.templates WHERE name = 'template-0') AS path, pg_temp.mel() AS token, 'write template template-0 403 t 10.1.2.3 curl' AS told
	UNION ALL SELECT 403, 'DELETE', '/api/v2/templates/' || (SELECT id FROM coder.templates WHERE name = 'template-0'), pg_temp.mel(), 'delete template template-0 403 t 10.1.2.3 curl'
	UNION ALL SELECT 400, 'PUT', '/api/v2/users/me/profile', pg_temp.mel(), 'write user mel 400 t 10.1.2.3 curl'
	UNION ALL SELECT 403, 'DELETE', '/api/v2/organizations/coder', pg_temp.mel(), 'delete organization coder 403 t 10.1.2.3 curl'
	UNION ALL SELECT 403, 'PUT', '/api/v2/debug/health/settings', pg_temp.mel(), 'write health_settings  403 t 10.1.2.3 curl'
	UNION ALL SELECT 403, 'PUT', '/api/v2/prebuilds/settings', pg_temp.mel(), 'write prebuilds_settings  403 t 10.1.2.3 curl'
	UNION ALL SELECT 403, 'PATCH', '/api/v2/organizations/coder/settings/idpsync/groups', pg_temp.mel(), 'write idp_sync_settings_group Organization Group Sync 403 t 10.1.2.3 curl'
	UNION ALL SELECT 404, 'PUT', '/api/v2/workspaces/' || (SELECT id FROM coder.workspaces WHERE name = 'workspace-2') || '/ttl', pg_temp.mel(), NULL
	UNION ALL SELECT 404, 'DELETE', '/api/v2/users/boss', pg_temp.mel(), NULL
	UNION ALL SELECT 400, 'POST', '/api/v2/users', pg_temp.mel(), NULL
	UNION ALL SELECT 400, 'GET', '/api/v2/users/me', pg_temp.mel(), NULL
	UNION ALL SELECT 400, 'PUT', '/api/v2/users/me/profile', 'nobody', NULL) v;
SELECT throws_ok($$ SELECT coder.audit_refused('\x00000194') $$, '22P03', NULL, 'no request');
SELECT throws_ok($$ SELECT coder.audit_refused('\x01') $$, '22P03', NULL, 'not even a status');

-- A person who comes by SQL, with rights on a few columns and none on the log.
UPDATE coder.workspaces SET owner_id = pg_temp.id('mel') WHERE name = 'workspace-3';
SELECT * FROM pg_temp.news() \g /dev/null
GRANT SELECT ON t TO coder_user;
SELECT pg_temp.mel() AS mel \gset
SET ROLE coder_user;
SELECT is(coder.login(:'mel'), 'mel', 'a member at an SQL prompt');
SELECT lives_ok($$ UPDATE coder.workspaces SET ttl = 7200000000000 WHERE name = 'workspace-3' $$, 'changes a workspace');
SELECT throws_ok($$ INSERT INTO coder.audit_logs (user_id, organization_id, resource_type, resource_id, resource_target, action)
	VALUES (gen_random_uuid(), gen_random_uuid(), 'user', gen_random_uuid(), '', 'login') $$, '42501', NULL, 'makes up no row');
SELECT throws_ok($$ DELETE FROM coder.audit_logs $$, '42501', NULL, 'takes none away');
SELECT throws_ok($$ SELECT coder.audit_as('me', false) $$, '42501', NULL, 'does nothing unseen');
SELECT throws_ok($$ SELECT coder.audit('login', 'user', gen_random_uuid()) $$, '42501', NULL, 'says nothing that is not so');
SELECT throws_ok($$ SELECT coder.audit_purge() $$, '42501', NULL, 'and forgets nothing');
SET LOCAL row_security = off;
SET LOCAL check_function_bodies = off;
SELECT throws_ok($$ UPDATE coder.workspaces SET ttl = 10800000000000 WHERE name = 'workspace-3' $$, '42501', NULL, 'nor by looking like a dump');
RESET row_security;
RESET check_function_bodies;
SELECT coder.logout();
RESET ROLE;
SELECT is((SELECT array_agg((n.action, n.resource_type, n.resource_target, n.user_id = pg_temp.id('mel'), n.database_role = session_user)::text) FROM pg_temp.news() n WHERE n.resource_type = 'workspace'),
	ARRAY['(write,workspace,workspace-3,t,t)'], 'is told, by the user and the role');

-- The server's own work.
UPDATE coder.users SET status = 'active', last_seen_at = now() - interval '1 year', created_at = now() - interval '1 year' WHERE username = 'member0';
SELECT * FROM pg_temp.news() \g /dev/null
SELECT coder.tick_users(now());
SELECT results_eq($$ SELECT n.resource_target, n.diff->'status'->>'new', n.additional_fields->>'automatic_actor', n.additional_fields->>'automatic_subsystem', n.database_role FROM pg_temp.news() n WHERE n.resource_target = 'member0' $$,
	$$ VALUES ('member0', 'dormant', 'coder', 'dormancy', NULL::text) $$, 'dormancy is by nobody''s hand');
SELECT coder.audit_as('a'); SELECT coder.audit_as('b', false);
UPDATE coder.users SET name = 'unseen' WHERE username = 'member0';
SELECT coder.audit_as(NULL);
UPDATE coder.users SET name = 'seen' WHERE username = 'member0';
SELECT coder.audit_as(NULL);
UPDATE coder.users SET name = 'by hand' WHERE username = 'member0';
SELECT is((SELECT array_agg((n.diff->'name'->>'new') || coalesce(n.additional_fields->>'automatic_subsystem', '') || coalesce(n.database_role, '')) FROM pg_temp.news() n),
	ARRAY['seena', 'by hand' || session_user], 'whose work it is holds until it is taken back');
SAVEPOINT s;
SELECT coder.audit_as('c', false);
ROLLBACK TO s;
UPDATE coder.users SET name = 'again' WHERE username = 'member0';
SELECT is(pg_temp.told(), ARRAY['write user member0 200 name'], 'and falls with its savepoint');
SELECT is((SELECT status FROM api('PATCH', '/api/v2/templates/' || (SELECT id FROM coder.templates WHERE name = 'template-0'), '{"allow_user_autostop": false, "default_ttl_ms": 7200000}', pg_temp.boss())), 200, 'a template that changes its workspaces');
SELECT is((SELECT array_agg(split_part(x, ' 200', 1)) FROM unnest(pg_temp.told()) x), ARRAY['write template template-0'], 'is one row');

-- Providers of models, and keys for them.
INSERT INTO coder.chat_providers (provider, api_key) VALUES ('openai', 'sk-1');
UPDATE coder.chat_providers SET api_key = 'sk-2', base_url = 'https://example.com' WHERE provider = 'openai';
SELECT is((SELECT array_agg(split_part(x, ' 200 ', 1) || CASE WHEN x LIKE '%api_key!%' THEN ' with a key' ELSE '' END) FROM unnest(pg_temp.told()) x),
	'{create ai_provider openai with a key,write ai_provider openai with a key}', 'a provider of models');
SELECT is((SELECT count(*)::int FROM coder.audit_logs WHERE diff::text LIKE '%sk-%'), 0, 'whose key is nowhere');

-- Nobody edits it.
SELECT throws_ok('UPDATE coder.audit_logs SET diff = ''{}''', 'ZC403', 'Rows of the audit log are neither changed nor deleted.', 'no UPDATE');
SELECT throws_ok('DELETE FROM coder.audit_logs', 'ZC403', NULL, 'no DELETE');
SELECT throws_ok('TRUNCATE coder.audit_logs', 'ZC403', NULL, 'no TRUNCATE');
SET LOCAL session_replication_role = replica;
SELECT throws_ok('DELETE FROM coder.audit_logs', 'ZC403', NULL, 'not as a replica either');
RESET session_replication_role;

-- Age.
INSERT INTO coder.audit_logs ("time", user_id, organization_id, resource_type, resource_id, resource_target, action)
SELECT now() - d * interval '1 day', pg_temp.id('boss'), '00000000-0000-0000-0000-000000000000', 'user', gen_random_uuid(), 'old', a
  FROM (VALUES (10, 'write'::coder.audit_action), (100, 'write'), (10, 'connect'), (100, 'connect')) v (d, a);
SELECT is(coder.audit_purge(), 1::bigint, 'old connections go, the rest is kept for ever');
INSERT INTO coder.settings VALUES ('audit_logs_retention', '30d');
SELECT is(coder.audit_purge(1), 1::bigint, 'what is older than the setting says goes in batches');
SELECT coder.audit_purge(5);
SELECT is((SELECT count(*)::int FROM coder.audit_logs WHERE "time" < now() - interval '30 days'), 0, 'until none is left');
SELECT throws_ok('DELETE FROM coder.audit_logs', 'ZC403', NULL, 'and guarded again');
SELECT * FROM finish();
ROLLBACK;
