-- rbac_lists.sql -- lists ask the access rules once: what they show, and that indexes find it
BEGIN;
\i api.psql
\set n 3000
\i workspaces.psql
SET LOCAL session_replication_role = origin;
SELECT no_plan();
SELECT token_of('boss', '{owner}') AS boss \gset
SELECT token_of('reader', '{template-admin}') AS reader \gset
SELECT token_of('member3') AS member \gset
SELECT id AS org FROM coder.organizations WHERE is_default \gset
SELECT id AS me FROM coder.users WHERE username = 'member3' \gset

-- two workspaces shared with the user, three with a group of it, one with a group of another organization
INSERT INTO coder.organizations (name, display_name) VALUES ('elsewhere', '');
INSERT INTO coder.groups (name, organization_id) VALUES ('friends', :'org');
INSERT INTO coder.groups (name, organization_id) SELECT 'strangers', id FROM coder.organizations WHERE name = 'elsewhere';
INSERT INTO coder.group_members (user_id, group_id) SELECT :'me', id FROM coder.groups WHERE name IN ('friends', 'strangers');
UPDATE coder.workspaces SET user_acl = jsonb_build_object(:'me', '{"permissions": ["read"]}'::jsonb) WHERE id IN (pg_temp.id('workspace', 1000), pg_temp.id('workspace', 1001));
UPDATE coder.workspaces SET user_acl = jsonb_build_object(:'me', '{"permissions": ["ssh"]}'::jsonb) WHERE id = pg_temp.id('workspace', 1002);
UPDATE coder.workspaces SET group_acl = jsonb_build_object(g.id, '{"permissions": ["read"]}'::jsonb) FROM coder.groups g
 WHERE g.name = 'friends' AND workspaces.id IN (pg_temp.id('workspace', 1100), pg_temp.id('workspace', 1101), pg_temp.id('workspace', 1102));
UPDATE coder.workspaces SET organization_id = o.id, group_acl = jsonb_build_object(g.id, '{"permissions": ["read"]}'::jsonb) FROM coder.groups g, coder.organizations o
 WHERE g.name = 'strangers' AND o.name = 'elsewhere' AND workspaces.id = pg_temp.id('workspace', 1200);
UPDATE coder.workspaces SET dormant_at = now() WHERE id = pg_temp.id('workspace', 31);
ANALYZE coder.workspaces, coder.users;

CREATE FUNCTION public.plan_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
	plan text := '';
BEGIN
	FOR line IN EXECUTE 'EXPLAIN ' || statement LOOP
		plan := plan || line || E'\n';
	END LOOP;
	RETURN plan;
END
$$;

-- workspaces
SELECT is((api('GET', '/api/v2/workspaces?limit=1', NULL, :'member')).body_->>'count', '15', 'a member has its ten workspaces and five that are shared');
SELECT set_eq($$SELECT (w->>'id')::uuid FROM jsonb_array_elements((api('GET', '/api/v2/workspaces', NULL, '$$ || :'member' || $$')).body_->'workspaces') w$$,
	$$SELECT pg_temp.id('workspace', i) FROM unnest(ARRAY[1000, 1001, 1100, 1101, 1102] || ARRAY(SELECT generate_series(30, 39))) i$$, 'these');
SELECT is((api('GET', '/api/v2/workspaces?limit=1', NULL, :'boss')).body_->>'count', '3000', 'an owner has all');
SELECT is((api('GET', '/api/v2/workspaces?limit=1', NULL, :'reader')).body_->>'count', '3000', 'a template administrator, too, dormant ones as well');
SELECT coder.set_subject(:'me');
SELECT plan_of('SELECT w.id FROM coder.workspaces w WHERE NOT w.deleted AND '
	|| coder.filter_sql('read', 'workspace', 'w.organization_id', 'w.owner_id', 'w.id', 'w.user_acl', 'w.group_acl')) AS plan \gset
SELECT unalike(:'plan'::text, '%Seq Scan%', 'a member''s are not looked for row by row');
SELECT alike(:'plan'::text, '%workspaces_owner_id_lower_idx%', 'but by owner');
SELECT alike(:'plan'::text, '%workspaces_user_acl_idx%', 'by the lists of users');
SELECT alike(:'plan'::text, '%workspaces_group_acl_idx%', 'and of groups');
SELECT coder.set_subject(:'me', '{coder:all}', ARRAY['workspace:' || pg_temp.id('workspace', 30)]);
SELECT alike(plan_of('SELECT w.id FROM coder.workspaces w WHERE NOT w.deleted AND '
	|| coder.filter_sql('read', 'workspace', 'w.organization_id', 'w.owner_id', 'w.id', 'w.user_acl', 'w.group_acl')), '%workspaces_pkey%', 'those of an allow list by their ids');
SELECT coder.set_subject(NULL);
SELECT is(coder.filter_sql('read', 'workspace', 'w.organization_id', 'w.owner_id', 'w.id'), '(false)', 'nobody has none');

-- users
SELECT is(answer->>'count', '302', 'an owner sees all users') FROM (SELECT (api('GET', '/api/v2/users?limit=25', NULL, :'boss')).body_ AS answer) a;
SELECT is((SELECT sum(live)::int FROM coder.user_totals), (SELECT count(*)::int FROM coder.users WHERE NOT deleted AND NOT is_system), 'the count is kept');
UPDATE coder.users SET deleted = true WHERE username IN ('member7', 'member8');
DELETE FROM coder.users WHERE username = 'nobody';
SELECT is((api('GET', '/api/v2/users?limit=1', NULL, :'boss')).body_->>'count', '300', 'deleted ones do not count');
SELECT is((api('GET', '/api/v2/users?limit=3&offset=299', NULL, :'boss')).body_->'users'->1, NULL, 'the last page ends');
SELECT is((api('GET', '/api/v2/users?q=member29', NULL, :'boss')).body_->>'count', '11', 'a search counts what it finds');
SELECT is((api('GET', '/api/v2/users?q=status:suspended', NULL, :'boss')).body_, '{"users": [], "count": 0}', 'or nothing');
SELECT is((api('GET', '/api/v2/users', NULL, :'member')).body_->>'count', '1', 'a member sees itself');
SELECT is((api('GET', '/api/v2/organizations/' || :'org' || '/paginated-members?limit=5', NULL, :'member')).body_->>'count', '300', 'and the members of its organization');
UPDATE coder.organizations SET shareable_workspace_owners = 'none' WHERE id = :'org';
SELECT is((api('GET', '/api/v2/organizations/' || :'org' || '/paginated-members?limit=5', NULL, :'member')).body_->>'count', '1', 'but itself where nobody shares');
SELECT coder.set_subject(:'me');
SELECT alike(plan_of('SELECT FROM coder.users u WHERE NOT u.deleted AND ' || coder.filter_sql('read', 'user', NULL, 'u.id', 'u.id')), '%users_pkey%', 'by an index');
SELECT coder.set_subject(NULL);

-- templates
SELECT is(jsonb_array_length((api('GET', '/api/v2/templates', NULL, :'member')).body_), 5, 'templates that everyone in the organization may use');
UPDATE coder.templates SET group_acl = '{}' WHERE id = pg_temp.id('template', 0);
UPDATE coder.templates SET group_acl = '{}', user_acl = jsonb_build_object(:'me', '["read"]'::jsonb) WHERE id = pg_temp.id('template', 1);
SELECT is(jsonb_array_length((api('GET', '/api/v2/templates', NULL, :'member')).body_), 4, 'or the user');
SELECT is(jsonb_array_length((api('GET', '/api/v2/templates', NULL, :'boss')).body_), 5, 'an owner sees all');

-- who opens whose apps: a token that may not open one's own opens no others
INSERT INTO coder.settings VALUES ('dangerous_allow_path_app_sharing', 'true');
CREATE FUNCTION public.opens(scopes text[], level text, n int) RETURNS bool LANGUAGE plpgsql AS $$
DECLARE
	answer bool;
BEGIN
	PERFORM coder.set_subject(u.id, scopes) FROM coder.users u WHERE u.username = 'member3';
	answer := (SELECT coder.app_allowed(w, level, true) FROM coder.workspaces w WHERE w.id = pg_temp.id('workspace', n));
	PERFORM coder.set_subject(NULL);
	RETURN answer;
END
$$;
SELECT ok(opens('{coder:all}', 'authenticated', 1) AND opens('{coder:application_connect}', 'authenticated', 1) AND NOT opens('{user:read}', 'authenticated', 1)
	AND opens('{user:read}', 'public', 1) AND NOT opens('{coder:all}', 'owner', 1), 'apps for whoever is signed in');
SELECT ok(opens('{coder:all}', 'organization', 1) AND NOT opens('{user:read}', 'organization', 1) AND NOT opens('{coder:all}', 'organization', 1200),
	'apps for members of the workspace''s organization');

-- an agent's token: its workspace, template, version and owner, by the owner's rights, whatever the owner's status
INSERT INTO coder.routes (area, method, pattern, function, auth) VALUES ('test', 'GET', '/agent-rights', 'agent_rights', 'agent');
CREATE FUNCTION coder.agent_rights(req coder.request) RETURNS coder.response LANGUAGE plpgsql AS $$
DECLARE
	w coder.workspaces;
	o coder.workspaces;
	t coder.templates;
BEGIN
	SELECT x.* INTO w FROM coder.workspaces x JOIN coder.workspace_builds b ON b.workspace_id = x.id
		JOIN coder.workspace_resources r ON r.job_id = b.job_id JOIN coder.workspace_agents a ON a.resource_id = r.id WHERE a.id = coder.agent_id() LIMIT 1;
	SELECT x.* INTO o FROM coder.workspaces x WHERE x.owner_id = w.owner_id AND x.id <> w.id LIMIT 1;
	SELECT x.* INTO t FROM coder.templates x WHERE x.id = w.template_id;
	RETURN coder.reply(200, jsonb_build_object('own', coder.workspace_can('read', w) AND coder.workspace_can('ssh', w), 'other', coder.workspace_can('read', o),
		'owner', coder.can('read_personal', 'user', NULL, w.owner_id, id => w.owner_id), 'template', coder.can('read', 'template', t.organization_id, NULL, t.user_acl, t.group_acl, t.id),
		'create', coder.can('create', 'workspace', w.organization_id, w.owner_id), 'all', coder.can('read', 'assign_role')));
END
$$;
SELECT a.auth_token AS agent, w.owner_id AS owner FROM coder.workspaces w JOIN coder.workspace_builds b ON b.id = w.latest_build_id
  JOIN coder.workspace_resources r ON r.job_id = b.job_id JOIN coder.workspace_agents a ON a.resource_id = r.id
 WHERE w.id = pg_temp.id('workspace', 53) LIMIT 1 \gset
SELECT is((api('GET', '/agent-rights', NULL, :'agent')).body_,
	'{"own": true, "other": false, "owner": true, "template": true, "create": false, "all": false}', 'an agent''s token is for its own');
UPDATE coder.workspace_agents SET api_key_scope = 'no_user_data' WHERE auth_token = :'agent';
SELECT is((api('GET', '/agent-rights', NULL, :'agent')).body_->>'owner', 'false', 'and not for its owner''s data where the template says so');
UPDATE coder.users SET status = 'suspended' WHERE id = :'owner';
SELECT is((api('GET', '/agent-rights', NULL, :'agent')).body_->>'own', 'true', 'agents of suspended owners keep working');
UPDATE coder.workspaces SET dormant_at = now() WHERE id = pg_temp.id('workspace', 53);
SELECT is((api('GET', '/agent-rights', NULL, :'agent')).body_->>'own', 'false', 'those of dormant workspaces do not');

SELECT * FROM finish();
ROLLBACK;
