-- matrix.sql -- who may do what, by method and route: changes above all, and askers whose rights come of a role in an
-- organization, a list, a group, a token's scope or list, or who are suspended, dormant or strangers
--
-- What is right is worked out here, from the tables below: what a role grants (the expanded matrix of built-in roles), what
-- a scope grants, what a list of a template or workspace grants, and what each request needs, in the order in which it is
-- asked, with the answer where it is refused.  Nothing of it comes from the extension; each decision is made by a request
-- that is taken back afterwards.
BEGIN;
\i api.psql
SELECT * FROM no_plan();
SELECT token_of('boss');
\set n 50
\i workspaces.psql

-- ---- what is there ----
CREATE TEMP TABLE place AS SELECT id AS a, gen_random_uuid() AS b, gen_random_uuid() AS g FROM coder.organizations WHERE is_default;
INSERT INTO coder.organizations (id, name, display_name) SELECT b, 'second', 'Second' FROM place;
INSERT INTO coder.groups (id, name, organization_id) SELECT g, 'devs', a FROM place;

CREATE TEMP TABLE askers (name text PRIMARY KEY, username text, site text[] NOT NULL DEFAULT '{}', in_a bool, role_a text, in_b bool DEFAULT false, role_b text,
	status text DEFAULT 'active', scopes text[] DEFAULT '{coder:all}', list text[] DEFAULT '{*:*}', in_g bool DEFAULT false, token text,
	agent text);	-- all or no_user_data: a token of an agent; gone: it was one
INSERT INTO askers (name, username, site, in_a, role_a, in_b, role_b, status, in_g) VALUES
	('owner', 'boss', '{owner}', true, NULL, false, NULL, 'active', false),
	('owner of no organization', 'chief', '{owner}', false, NULL, false, NULL, 'active', false),
	('auditor', 'aud', '{auditor}', true, NULL, false, NULL, 'active', false),
	('template-admin', 'tadm', '{template-admin}', true, NULL, false, NULL, 'active', false),
	('user-admin', 'uadm', '{user-admin}', true, NULL, false, NULL, 'active', false),
	('organization-admin', 'oadm', '{}', true, 'organization-admin', false, NULL, 'active', false),
	('organization-template-admin', 'otadm', '{}', true, 'organization-template-admin', false, NULL, 'active', false),
	('organization-user-admin', 'ouadm', '{}', true, 'organization-user-admin', false, NULL, 'active', false),
	('organization-auditor', 'oaud', '{}', true, 'organization-auditor', false, NULL, 'active', false),
	('organization-admin elsewhere', 'badm', '{}', false, NULL, true, 'organization-admin', 'active', false),
	('member', 'mem', '{}', true, NULL, false, NULL, 'active', false),
	('member who owns it', 'member1', '{}', true, NULL, false, NULL, 'active', false),
	('member of the group', 'gm', '{}', true, NULL, false, NULL, 'active', true),
	('stranger with a list', 'tf', '{}', false, NULL, true, NULL, 'active', false),
	('stranger in the group', 'sg', '{}', false, NULL, true, NULL, 'active', true),
	('member of another organization', 'elsewhere', '{}', false, NULL, true, NULL, 'active', false),
	('member of none', 'nobody', '{}', false, NULL, false, NULL, 'active', false),
	('dormant user-admin', 'dorm', '{user-admin}', true, NULL, false, NULL, 'dormant', false),
	('suspended owner', 'susp', '{owner}', true, NULL, false, NULL, 'suspended', false);
INSERT INTO askers (name, username, site, in_a, scopes, list) VALUES
	('owner, token to read workspaces', 'boss', '{owner}', true, '{workspace:read,template:read,organization:read}', '{*:*}'),
	('owner, token for one workspace and one template', 'boss', '{owner}', true, '{coder:all}', '{workspace:W1,template:T1,user:victim}'),
	('owner, token for apps', 'boss', '{owner}', true, '{coder:application_connect}', '{*:*}'),
	('owner, token to read users', 'boss', '{owner}', true, '{user:read,user:read_personal,organization:read}', '{*:*}'),
	('its owner, token to operate workspaces', 'member1', '{}', true, '{coder:workspaces.operate}', '{*:*}'),
	('its owner, token for keys', 'member1', '{}', true, '{coder:apikeys.manage_self,user:read}', '{*:*}'),
	('template-admin, token to author', 'tadm', '{template-admin}', true, '{coder:templates.author}', '{*:*}');

INSERT INTO coder.users (email, username, status, rbac_roles)
SELECT DISTINCT s.username || '@example.com', s.username, s.status::coder.user_status, s.site FROM askers s
 WHERE NOT EXISTS (SELECT FROM coder.users u WHERE u.username = s.username);
INSERT INTO coder.users (email, username, status) SELECT n || '@example.com', n, 'active' FROM unnest('{newcomer,leaver}'::text[]) n;
INSERT INTO coder.organization_members (user_id, organization_id, roles)
SELECT DISTINCT u.id, p.a, CASE WHEN s.role_a IS NULL THEN '{}' ELSE ARRAY[s.role_a] END FROM askers s JOIN coder.users u USING (username), place p WHERE s.in_a ON CONFLICT DO NOTHING;
INSERT INTO coder.organization_members (user_id, organization_id, roles)
SELECT DISTINCT u.id, p.b, CASE WHEN s.role_b IS NULL THEN '{}' ELSE ARRAY[s.role_b] END FROM askers s JOIN coder.users u USING (username), place p WHERE s.in_b;
INSERT INTO coder.organization_members (user_id, organization_id) SELECT u.id, p.a FROM coder.users u, place p WHERE u.username = 'leaver';
INSERT INTO coder.group_members (user_id, group_id) SELECT DISTINCT u.id, p.g FROM askers s JOIN coder.users u USING (username), place p WHERE s.in_g;

CREATE FUNCTION pg_temp.uid(text) RETURNS uuid LANGUAGE sql STABLE AS 'SELECT id FROM coder.users WHERE username = $1';
CREATE TEMP TABLE names AS
	SELECT 'A' AS key, a::text AS value FROM place UNION ALL SELECT 'G', g::text FROM place
	UNION ALL SELECT 'victim', pg_temp.uid('member1')::text UNION ALL SELECT 'newcomer', pg_temp.uid('newcomer')::text UNION ALL SELECT 'leaver', pg_temp.uid('leaver')::text
	UNION ALL SELECT 'W1', id::text FROM coder.workspaces WHERE name = 'workspace-15' UNION ALL SELECT 'W2', id::text FROM coder.workspaces WHERE name = 'workspace-12'
	UNION ALL SELECT 'T1', id::text FROM coder.templates WHERE name = 'template-0' UNION ALL SELECT 'T2', id::text FROM coder.templates WHERE name = 'template-2'
	UNION ALL SELECT 'V1', active_version_id::text FROM coder.templates WHERE name = 'template-0';
CREATE FUNCTION pg_temp.named(t text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
	n record;
BEGIN
	FOR n IN SELECT * FROM names LOOP
		t := replace(t, '{' || n.key || '}', n.value);
	END LOOP;
	RETURN t;
END
$$;
-- T2 and W2 are shared with a stranger and with a group; T2 with nobody else.
UPDATE coder.templates SET user_acl = jsonb_build_object(pg_temp.uid('tf'), '["read", "use"]'::jsonb),
	group_acl = (SELECT jsonb_build_object(g, '["*"]'::jsonb) FROM place) WHERE name = 'template-2';
UPDATE coder.workspaces SET user_acl = jsonb_build_object(pg_temp.uid('tf'),
		'{"permissions": ["create", "read", "update", "ssh", "application_connect", "start", "stop", "share", "create_agent", "delete_agent", "update_agent"]}'::jsonb),
	group_acl = (SELECT jsonb_build_object(g, '{"permissions": ["application_connect", "read", "ssh", "start", "stop"]}'::jsonb) FROM place) WHERE name = 'workspace-12';
UPDATE askers s SET list = ARRAY(SELECT split_part(e, ':', 1) || ':' || coalesce((SELECT value FROM names WHERE key = split_part(e, ':', 2)), split_part(e, ':', 2)) FROM unnest(s.list) e),
	token = CASE WHEN s.status = 'suspended' THEN coder.api_key_create(pg_temp.uid(s.username), 'password', 86400) END;
UPDATE askers s SET token = coder.api_key_create(pg_temp.uid(s.username), 'password', 86400, scopes => s.scopes, allow_list => s.list) WHERE token IS NULL;
INSERT INTO names SELECT 'key', k.id FROM (SELECT split_part(coder.api_key_create(pg_temp.uid('member1'), 'token', 86400, 'tok'), '-', 1) AS id) k;
-- Agents of three workspaces: as it should be, one that sees nothing of its owner, of a build that is not the latest, of a
-- workspace that is deleted, and of an owner who is suspended since (agents go on then).
CREATE FUNCTION pg_temp.agent(workspace text) RETURNS text LANGUAGE sql AS $$
	SELECT a.auth_token::text FROM coder.workspaces w JOIN coder.workspace_builds b ON b.workspace_id = w.id AND b.build_number = 1
	  JOIN coder.workspace_resources r ON r.job_id = b.job_id JOIN coder.workspace_agents a ON a.resource_id = r.id WHERE w.name = workspace
$$;
UPDATE coder.workspace_agents SET api_key_scope = 'no_user_data' WHERE auth_token = pg_temp.agent('workspace-11')::uuid;
UPDATE coder.workspaces SET deleted = true WHERE name = 'workspace-17';
INSERT INTO coder.provisioner_jobs (id, organization_id, initiator_id, provisioner, storage_method, type, input, file_id, tags, started_at, completed_at)
SELECT '00000000-0000-4000-8000-00000000f016', j.organization_id, j.initiator_id, j.provisioner, j.storage_method, j.type, j.input, j.file_id, j.tags, now(), now()
  FROM coder.provisioner_jobs j JOIN coder.workspace_builds b ON b.job_id = j.id JOIN coder.workspaces w ON w.id = b.workspace_id WHERE w.name = 'workspace-16';
INSERT INTO coder.workspace_builds (workspace_id, template_version_id, build_number, transition, initiator_id, job_id, reason)
SELECT b.workspace_id, b.template_version_id, 2, 'start', b.initiator_id, '00000000-0000-4000-8000-00000000f016', 'initiator'
  FROM coder.workspace_builds b JOIN coder.workspaces w ON w.id = b.workspace_id WHERE w.name = 'workspace-16';
UPDATE coder.users SET status = 'suspended' WHERE username = 'member2';
INSERT INTO askers (name, token, agent) VALUES ('agent', pg_temp.agent('workspace-15'), 'all'), ('agent without its owner''s data', pg_temp.agent('workspace-11'), 'no_user_data'),
	('agent of a build before the last', pg_temp.agent('workspace-16'), 'gone'), ('agent of a deleted workspace', pg_temp.agent('workspace-17'), 'gone'),
	('agent of a suspended owner', pg_temp.agent('workspace-20'), 'all'), ('agent nobody has', gen_random_uuid()::text, 'gone');
-- Who has no session at all.
INSERT INTO askers (name, token) VALUES ('anonymous', NULL),
	('malformed token', 'no-token'), ('wrong secret', (SELECT left(token, 11) || repeat('x', 22) FROM askers WHERE name = 'owner'));

-- ---- what a role grants: C R U D, RP/UP read/update_personal, asg/una assign/unassign, ins view_insights ----
CREATE TEMP TABLE grants (type text PRIMARY KEY, owner text, auditor text, "template-admin" text, "user-admin" text, member text,
	"organization-admin" text, "organization-template-admin" text, "organization-user-admin" text, "organization-auditor" text, everyone text, own text);
INSERT INTO grants VALUES
	('api_key', '*', '', '', '', '*', '*', '', '', '', '', '*'),
	('assign_org_role', '*', 'R', 'R', 'R asg una', '*', '*', '', 'R asg una', '', 'R', '*'),
	('assign_role', '*', '', '', 'R asg una', '*', '', '', '', '', '', '*'),
	('audit_log', '*', 'R', '', '', '*', '*', '', '', 'R', '', '*'),
	('connection_log', '*', 'R', '', '', '*', '*', '', '', 'R', '', '*'),
	('debug_info', '*', '', '', '', '*', '*', '', '', '', '', '*'),
	('deployment_config', '*', 'R', '', '', '*', '*', '', '', '', '', '*'),
	('deployment_stats', '*', 'R', '', '', '*', '*', '', '', '', '', '*'),
	('group', '*', 'R', 'R', 'CRUD', '*', '*', 'R', 'CRUD', 'R', 'R', '*'),
	('idpsync_settings', '*', '', '', 'RU', '*', '*', '', 'RU', '', '', '*'),
	('notification_preference', '*', '', '', '', '*', '*', '', '', '', '', '*'),
	('oauth2_app', '*', '', '', '', '*', '*', '', '', '', '', '*'),
	('organization', '*', 'R', 'R', 'R', '*', '*', 'R', 'R', 'R', 'R', '*'),
	('organization_member', '*', 'R', 'R', 'CRUD', '', '*', 'R', 'CRUD', 'R', 'R', 'R'),
	('provisioner_daemon', '*', '', 'CRUD', '', '*', '*', 'CRUD', '', '', 'R', '*'),
	('provisioner_jobs', '*', '', '', '', '*', '*', 'CRU', '', '', '', '*'),
	('template', '*', 'R ins', '*', '', '*', '*', '*', '', 'R ins', '', '*'),
	('user', '*', 'R', 'R', '*', 'R RP UP', '*', '', '', '', '', ''),
	('user_secret', '', '', '', '', '*', '', '', '', '', '', '*'),
	('workspace', '*', '', 'R', '', '', 'CRUD start stop share', 'R', '', '', '', '*');
-- Besides, of the whole site.
CREATE TEMP TABLE site_extra (role text, type text, action text);
INSERT INTO site_extra VALUES ('member', 'assign_role', 'read'), ('member', 'oauth2_app', 'read'), ('organization-admin', 'user', 'read'), ('organization-user-admin', 'user', 'read');
-- What a scope that is no type:action grants.
CREATE TEMP TABLE scope_grants (scope text, type text, actions text[]);
INSERT INTO scope_grants VALUES ('coder:application_connect', 'workspace', '{application_connect}'),
	('coder:workspaces.operate', 'template', '{read}'), ('coder:workspaces.operate', 'workspace', '{start,stop,read,update}'), ('coder:workspaces.operate', 'organization_member', '{read}'),
	('coder:templates.author', 'template', '{read,create,update,delete,view_insights}'), ('coder:templates.author', 'file', '{create,read}'),
	('coder:apikeys.manage_self', 'api_key', '{read,create,update,delete}');

CREATE FUNCTION pg_temp.has(cell text, action text) RETURNS bool LANGUAGE sql IMMUTABLE AS $$
	SELECT cell = '*' OR EXISTS (SELECT FROM regexp_split_to_table(cell, ' ') w WHERE w = CASE action WHEN 'read_personal' THEN 'RP' WHEN 'update_personal' THEN 'UP'
			WHEN 'assign' THEN 'asg' WHEN 'unassign' THEN 'una' WHEN 'view_insights' THEN 'ins' ELSE action END
		OR w ~ '^C?R?U?D?$' AND action IN ('create', 'read', 'update', 'delete') AND strpos(w, upper(left(action, 1))) > 0)
$$;
CREATE FUNCTION pg_temp.cell(role text, type text) RETURNS text LANGUAGE sql STABLE AS
	$$ SELECT coalesce((SELECT to_jsonb(g)->>role FROM grants g WHERE g.type = cell.type), '') $$;

-- ---- what a request is about ----
CREATE TEMP TABLE objects (name text PRIMARY KEY, org text, owner uuid, id text, users jsonb NOT NULL DEFAULT '{}', groups jsonb NOT NULL DEFAULT '{}', any_org bool DEFAULT false);
INSERT INTO objects (name, org, owner, id) SELECT v.name, pg_temp.named(v.org), pg_temp.named(v.owner)::uuid, pg_temp.named(v.id) FROM (VALUES
	('site', NULL, NULL, NULL), ('of A', '{A}', NULL, NULL), ('A', '{A}', NULL, '{A}'), ('victim', NULL, '{victim}', '{victim}'), ('leaver', NULL, '{leaver}', '{leaver}'),
	('newcomer', NULL, '{newcomer}', '{newcomer}'), ('of victim', NULL, '{victim}', NULL), ('membership of victim', '{A}', '{victim}', '{victim}'),
	('membership of leaver', '{A}', '{leaver}', '{leaver}'), ('membership of newcomer', '{A}', '{newcomer}', '{newcomer}'), ('G', '{A}', NULL, '{G}'),
	('key', NULL, '{victim}', '{key}'), ('new workspace of victim', '{A}', '{victim}', NULL)) v (name, org, owner, id);
INSERT INTO objects SELECT k, pg_temp.named('{A}'), NULL, t.id::text, t.user_acl, t.group_acl FROM coder.templates t JOIN names n ON n.value = t.id::text, LATERAL (SELECT n.key) x (k);
INSERT INTO objects SELECT n.key, pg_temp.named('{A}'), w.owner_id, w.id::text, w.user_acl, w.group_acl FROM coder.workspaces w JOIN names n ON n.value = w.id::text;
INSERT INTO objects (name, any_org) VALUES ('any organization', true);
UPDATE objects SET groups = jsonb_build_object(id, '["read"]'::jsonb) WHERE name = 'G';

CREATE FUNCTION pg_temp.listed(entry jsonb, action text) RETURNS bool LANGUAGE sql IMMUTABLE AS
	$$ SELECT coalesce(CASE jsonb_typeof(entry) WHEN 'object' THEN entry->'permissions' ELSE entry END ?| ARRAY[action, '*'], false) $$;

CREATE FUNCTION pg_temp.allowed(s askers, action text, type text, o objects) RETURNS bool LANGUAGE plpgsql STABLE AS $$
DECLARE
	me CONSTANT uuid := pg_temp.uid(s.username);
	roles CONSTANT text[] := s.site || 'member'::text;
	orgs CONSTANT text[] := ARRAY(SELECT a::text FROM place WHERE s.in_a UNION ALL SELECT b::text FROM place WHERE s.in_b);
	org_role CONSTANT text := CASE o.org WHEN (SELECT a::text FROM place) THEN s.role_a WHEN (SELECT b::text FROM place) THEN s.role_b END;
	granted bool;
BEGIN
	granted := EXISTS (SELECT FROM unnest(s.site) r WHERE pg_temp.has(pg_temp.cell(r, type), action))
		OR EXISTS (SELECT FROM site_extra e WHERE e.role = ANY (roles || s.role_a || s.role_b) AND e.type = allowed.type AND e.action = allowed.action)
		OR (o.org IS NULL AND NOT o.any_org AND o.owner = me AND pg_temp.has(pg_temp.cell('member', type), action))
		OR (o.org = ANY (orgs) AND (pg_temp.has(pg_temp.cell('everyone', type), action) OR pg_temp.has(pg_temp.cell(org_role, type), action)
			OR (o.owner = me AND pg_temp.has(pg_temp.cell('own', type), action))))
		OR (o.any_org AND EXISTS (SELECT FROM unnest(ARRAY[s.role_a, s.role_b, CASE WHEN cardinality(orgs) > 0 THEN 'everyone' END]) r WHERE pg_temp.has(pg_temp.cell(r, type), action)))
		OR pg_temp.listed(o.users->me::text, action)
		OR (o.org = ANY (orgs) AND (pg_temp.listed(o.groups->o.org, action) OR (s.in_g AND pg_temp.listed(o.groups->(SELECT g::text FROM place), action))));
	RETURN coalesce(granted, false) AND EXISTS (SELECT FROM unnest(s.scopes) c WHERE c IN ('coder:all', type || ':' || action)
			OR EXISTS (SELECT FROM scope_grants x WHERE x.scope = c AND x.type = allowed.type AND action = ANY (x.actions)))
		AND EXISTS (SELECT FROM unnest(s.list) e WHERE e IN ('*:*', type || ':*') OR e = type || ':' || o.id);
END
$$;

-- ---- requests: what each needs, in order, as "answer where it is refused, action, type, object"; and its answer where it is not ----
CREATE TEMP TABLE requests (n int GENERATED ALWAYS AS IDENTITY, method text, path text, body text, needs text[], done int,
	agents text NOT NULL DEFAULT 'none');	-- none, too, only, owner (only those that see their owner's data)
INSERT INTO requests (method, path, body, needs, done) VALUES
	-- users
	('GET', '/users/{victim}', NULL, '{404 read user victim}', 200),
	('GET', '/users/{victim}/roles', NULL, '{404 read user victim,404 read_personal user victim}', 200),
	('GET', '/users/{victim}/gitsshkey', NULL, '{404 read user victim,404 read_personal user victim}', 200),
	('PUT', '/users/{victim}/gitsshkey', NULL, '{404 read user victim,404 update_personal user victim}', 200),
	('PUT', '/users/{victim}/profile', '{"username": "member1", "name": "x"}', '{404 read user victim,404 update_personal user victim}', 200),
	('PUT', '/users/{victim}/profile', '{"username": "renamed", "name": ""}', '{404 read user victim,404 update user victim}', 200),
	('PUT', '/users/{leaver}/status/suspend', NULL, '{404 read user leaver,404 update user leaver}', 200),
	('PUT', '/users/{leaver}/status/activate', NULL, '{404 read user leaver,404 update user leaver}', 200),
	('PUT', '/users/{leaver}/roles', '{"roles": []}', '{404 read user leaver,403 assign assign_role site,403 unassign assign_role site}', 200),
	('PUT', '/users/{leaver}/password', '{"password": "SuperSecret1!"}', '{404 read user leaver,404 update_personal user leaver}', 204),
	('DELETE', '/users/{leaver}', NULL, '{404 read user leaver,403 delete user leaver}', 200),
	('POST', '/users', '{"email": "n@example.com", "username": "n", "password": "SuperSecret1!", "organization_ids": ["{A}"]}', '{403 create user site}', 201),
	('PUT', '/users/{victim}/notifications/preferences', '{"template_disabled_map": {}}', '{404 read user victim,404 update notification_preference of_victim}', 200),
	('POST', '/users/{victim}/keys/tokens', '{"token_name": "t", "scopes": ["user:read"]}', '{404 read user victim,40x create api_key of_victim}', 201),
	('GET', '/users/{victim}/keys/{key}', NULL, '{404 read user victim,404 read api_key key}', 200),
	('DELETE', '/users/{victim}/keys/{key}', NULL, '{404 read user victim,404 read api_key key,404 delete api_key key}', 204),
	('PUT', '/users/{victim}/keys/{key}/expire', NULL, '{404 read user victim,404 read api_key key,404 update api_key key}', 204),
	-- organizations
	('GET', '/organizations/{A}', NULL, '{404 read organization A}', 200),
	('PATCH', '/organizations/{A}', '{"description": "x"}', '{404 read organization A,404 update organization A}', 200),
	('POST', '/organizations', '{"name": "third"}', '{40x create organization site}', 201),
	('PATCH', '/organizations/{A}/settings/workspace-sharing', '{"sharing_disabled": true}', '{404 read organization A,403 update organization A}', 200),
	('GET', '/organizations/{A}/members/roles', NULL, '{404 read organization A,404 read assign_org_role of_A}', 200),
	('POST', '/organizations/{A}/members/roles', '{"name": "fresh"}', '{404 read organization A,40x create assign_org_role of_A}', 200),
	('GET', '/organizations/{A}/members/{victim}', NULL, '{404 read organization A,404 read organization_member membership_of_victim}', 200),
	('POST', '/organizations/{A}/members/{newcomer}', NULL, '{404 read organization A,404 read user newcomer,40x create organization_member membership_of_newcomer}', 200),
	('DELETE', '/organizations/{A}/members/{leaver}', NULL, '{404 read organization A,404 read organization_member membership_of_leaver,40x delete organization_member membership_of_leaver}', 204),
	('PUT', '/organizations/{A}/members/{leaver}/roles', '{"roles": []}',
		'{404 read organization A,404 read organization_member membership_of_leaver,403 assign assign_org_role of_A,403 unassign assign_org_role of_A}', 200),
	('GET', '/organizations/{A}/settings/idpsync/roles', NULL, '{404 read organization A,403 read idpsync_settings of_A}', 200),
	('PATCH', '/organizations/{A}/settings/idpsync/roles', '{"field": "r", "mapping": {}}', '{404 read organization A,403 update idpsync_settings of_A}', 200),
	('PATCH', '/settings/idpsync/organization', '{"field": "o", "mapping": {}, "organization_assign_default": true}', '{403 update idpsync_settings site}', 200),
	('GET', '/organizations/{A}/provisionerjobs', NULL, '{404 read organization A,404 read provisioner_jobs of_A}', 200),
	('POST', '/organizations/{A}/provisionerkeys', '{"name": "k"}', '{404 read organization A,40x create provisioner_daemon of_A}', 201),
	-- groups
	('GET', '/groups/{G}', NULL, '{404 read group G}', 200),
	('POST', '/organizations/{A}/groups', '{"name": "ops"}', '{404 read organization A,40x create group of_A}', 201),
	('PATCH', '/groups/{G}', '{"display_name": "Developers"}', '{404 read group G,40x update group G}', 200),
	('DELETE', '/groups/{G}', NULL, '{404 read group G,40x delete group G}', 200),
	-- templates
	('GET', '/templates/{T1}', NULL, '{404 read template T1}', 200),
	('GET', '/templates/{T2}', NULL, '{404 read template T2}', 200),
	('PATCH', '/templates/{T1}', '{"description": "x"}', '{404 read template T1,404 update template T1}', 200),
	('PATCH', '/templates/{T2}', '{"description": "x"}', '{404 read template T2,404 update template T2}', 200),
	('PATCH', '/templates/{T2}/acl', '{"user_perms": {"{victim}": "use"}}', '{404 read template T2,40x create template T2}', 200),
	('GET', '/templates/{T2}/acl/available', NULL, '{404 read template T2,404 update template T2}', 200),
	('PATCH', '/templateversions/{V1}', '{"name": "fresh", "message": ""}', '{404 read template T1,40x update template T1}', 200),
	-- workspaces
	('GET', '/workspaces/{W1}', NULL, '{404 read workspace W1}', 200),
	('GET', '/workspaces/{W2}', NULL, '{404 read workspace W2}', 200),
	('PATCH', '/workspaces/{W1}', '{"name": "workspace-15"}', '{404 read workspace W1,404 update workspace W1}', 204),
	('PATCH', '/workspaces/{W2}', '{"name": "workspace-12"}', '{404 read workspace W2,404 update workspace W2}', 204),
	('PUT', '/workspaces/{W1}/ttl', '{"ttl_ms": 3600000}', '{404 read workspace W1,404 update workspace W1}', 204),
	('PUT', '/workspaces/{W2}/ttl', '{"ttl_ms": 3600000}', '{404 read workspace W2,404 update workspace W2}', 204),
	('PUT', '/workspaces/{W1}/autostart', '{"schedule": "CRON_TZ=UTC 30 9 * * 1-5"}', '{404 read workspace W1,404 update workspace W1}', 204),
	('PUT', '/workspaces/{W1}/dormant', '{"dormant": true}', '{404 read workspace W1,404 update workspace W1}', 200),
	('PUT', '/workspaces/{W1}/autoupdates', '{"automatic_updates": "always"}', '{404 read workspace W1,404 update workspace W1}', 204),
	('DELETE', '/workspaces/{W2}/acl', NULL, '{404 read workspace W2,403 share workspace W2}', 204),
	('POST', '/workspaces/{W1}/usage', '{}', '{404 read workspace W1,403 update workspace W1}', 204),
	('POST', '/workspaces/{W1}/builds', '{"transition": "stop"}', '{404 read workspace W1,403 stop workspace W1}', 201),
	('POST', '/workspaces/{W2}/builds', '{"transition": "stop"}', '{404 read workspace W2,403 stop workspace W2}', 201),
	('POST', '/workspaces/{W1}/builds', '{"transition": "delete"}', '{404 read workspace W1,403 delete workspace W1}', 201),
	('POST', '/workspaces/{W2}/builds', '{"transition": "delete"}', '{404 read workspace W2,403 delete workspace W2}', 201),
	('GET', '/workspaces/{W2}/acl', NULL, '{404 read workspace W2}', 200),
	('PATCH', '/workspaces/{W1}/acl', '{"user_roles": {"{newcomer}": "use"}}', '{404 read workspace W1,403 share workspace W1}', 204),
	('PATCH', '/workspaces/{W2}/acl', '{"user_roles": {"{newcomer}": "use"}}', '{404 read workspace W2,403 share workspace W2}', 204),
	('GET', '/organizations/{A}/members/me/workspaces/available-users', NULL, '{404 read organization A,403 create workspace of_A}', 200),
	-- the deployment
	('GET', '/deployment/config', NULL, '{403 read deployment_config site}', 200),
	('GET', '/insights/daus?tz_offset=0', NULL, '{403 read deployment_config site}', 200),
	('PUT', '/notifications/settings', '{"notifier_paused": true}', '{403 update deployment_config site}', 200),
	('POST', '/notifications/test', NULL, '{403 update deployment_config site}', 204),
	('PUT', '/appearance', '{"application_name": "x", "logo_url": "", "announcement_banners": []}', '{403 update deployment_config site}', 200),
	('GET', '/debug/health/settings', NULL, '{403 read debug_info site}', 200),
	('PUT', '/debug/health/settings', '{"dismissed_healthchecks": ["DERP"]}', '{403 read debug_info site,403 update deployment_config site}', 200),
	('GET', '/audit', NULL, '{403 read audit_log any_organization}', 200),
	('GET', '/users/roles', NULL, '{403 read assign_role site}', 200),
	('POST', '/oauth2-provider/apps', '{"name": "app", "callback_url": "https://app.example.com/cb"}', '{40x create oauth2_app site}', 201);

INSERT INTO requests (method, path, body, needs, done, agents) VALUES
	('GET', '/appearance', NULL, '{}', 200, 'too'),
	('GET', '/workspaceagents/me/gitsshkey', NULL, NULL, 200, 'owner'),
	('POST', '/workspaceagents/me/log-source', '{"id": "00000000-0000-4000-8000-0000000000f1", "display_name": "x", "icon": ""}', NULL, 201, 'only');

CREATE FUNCTION pg_temp.want(s askers, r requests) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
	need text;
	word text[];
	o objects;
BEGIN
	IF s.agent IN ('all', 'no_user_data') THEN
		RETURN CASE WHEN r.agents = 'none' THEN '401' WHEN r.agents = 'owner' AND s.agent = 'no_user_data' THEN '40x' ELSE r.done::text END;
	ELSIF s.username IS NULL OR s.status = 'suspended' OR r.agents IN ('only', 'owner') THEN
		RETURN '401';
	ELSIF r.needs = '{}' THEN
		RETURN r.done::text;
	END IF;
	FOREACH need IN ARRAY r.needs LOOP
		word := string_to_array(need, ' ');
		SELECT * INTO STRICT o FROM objects x WHERE x.name = replace(word[4], '_', ' ');
		IF NOT pg_temp.allowed(s, word[2], word[3], o) THEN
			RETURN word[1];
		END IF;
	END LOOP;
	RETURN r.done::text;
END
$$;

-- The answer to a request, whose doings are taken back.  Its route is looked for once.
ALTER TABLE requests ADD route int, ADD params text[];
UPDATE requests r SET (route, params) = (SELECT f.id, f.params FROM route_of(r.method, '/api/v2' || split_part(pg_temp.named(r.path), '?', 1)) f),
	body = pg_temp.named(r.body);
CREATE FUNCTION pg_temp.answer(s askers, r requests) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	a bytea;
BEGIN
	a := coder.handle(r.route, r.method, '/api/v2' || split_part(r.path, '?', 1), r.params, split_part(r.path, '?', 2), E'content-type: application/json\n',
		convert_to(r.body, 'UTF8'), s.token, '127.0.0.1', gen_random_uuid(), NULL);
	RAISE SQLSTATE 'TBACK' USING MESSAGE = get_byte(a, 0) * 256 + get_byte(a, 1);
EXCEPTION WHEN OTHERS THEN
	IF SQLSTATE = 'TBACK' THEN
		RETURN SQLERRM;
	ELSIF SQLSTATE ~ '^ZC' THEN
		RETURN substr(SQLSTATE, 3) || ' ' || SQLERRM;
	END IF;
	RAISE;
END
$$;

CREATE TEMP TABLE decisions AS
	SELECT s.name, r.n, r.method, r.path, r.body, pg_temp.want(s, r) AS want, pg_temp.answer(s, r) AS have FROM askers s, requests r ORDER BY r.n, s.name;
SELECT ok(count(*) > 1500 AND count(*) FILTER (WHERE want ~ '^2') > 300 AND count(*) FILTER (WHERE want ~ '^40[34x]') > 600, 'many decisions, of both kinds: '
	|| count(*) || ', ' || count(*) FILTER (WHERE want ~ '^2') || ' of them allow') FROM decisions;
SELECT is(CASE WHEN want = '40x' AND have ~ '^40[34]' THEN want ELSE split_part(have, ' ', 1) END, want,
	name || ': ' || method || ' ' || path || CASE WHEN split_part(have, ' ', 1) <> want THEN ' (' || have || ')' ELSE '' END) FROM decisions;

SELECT * FROM finish();
ROLLBACK;
