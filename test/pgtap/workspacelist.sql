-- The list of workspaces against the tables: every level of the answer has the
-- rows that it must have, in order, and the C handler answers what the SQL
-- function does.
BEGIN;
\i api.psql
\set n 200
\i workspaces.psql
SELECT no_plan();

-- More kinds of rows than the data set has.
SET LOCAL session_replication_role = replica;
CREATE FUNCTION pg_temp.dice(id uuid, sides int) RETURNS int LANGUAGE sql IMMUTABLE AS
	$$ SELECT ('x' || substr(md5(id::text), 1, 4))::bit(16)::int % sides $$;
UPDATE coder.workspace_agents SET display_order = pg_temp.dice(id, 3),
	lifecycle_state = CASE pg_temp.dice(id, 5) WHEN 0 THEN 'start_error' ELSE 'ready' END::coder.workspace_agent_lifecycle_state,
	environment_variables = CASE WHEN pg_temp.dice(id, 7) > 0 THEN environment_variables END,
	display_apps = CASE WHEN pg_temp.dice(id, 4) > 0 THEN '{ssh_helper,vscode}'::coder.display_app[] ELSE display_apps END;
INSERT INTO coder.workspace_agents (id, name, resource_id, architecture, operating_system, display_order, parent_id, deleted)
SELECT md5('second' || a.id)::uuid, CASE pg_temp.dice(a.id, 2) WHEN 0 THEN 'aux' ELSE 'zed' END, a.resource_id, 'arm64', 'linux', 1,
	   CASE pg_temp.dice(a.id, 3) WHEN 0 THEN a.id END, pg_temp.dice(a.id, 5) = 0
  FROM coder.workspace_agents a;
UPDATE coder.workspace_apps SET display_order = 1, display_name = 'same' WHERE pg_temp.dice(id, 2) = 0;
UPDATE coder.workspace_resource_metadata SET id = id + 1000000 WHERE pg_temp.dice(workspace_resource_id, 2) = 0 AND key = 'fact 1';
UPDATE coder.provisioner_jobs SET started_at = NULL, completed_at = NULL, error = NULL WHERE type = 'workspace_build' AND pg_temp.dice(id, 9) = 0;
UPDATE coder.workspace_builds SET initiator_id = md5('nobody')::uuid WHERE pg_temp.dice(id, 6) = 0;
UPDATE coder.workspaces SET latest_build_id = NULL, latest_build_number = 0, running = false WHERE pg_temp.dice(id, 20) = 0;
UPDATE coder.workspace_agent_scripts SET script = repeat(E'long "script" <b>\n', 9000) WHERE pg_temp.dice(id, 6) = 0;
INSERT INTO coder.workspace_app_statuses (id, created_at, agent_id, app_id, workspace_id, state, message)
SELECT md5(id::text)::uuid, created_at + interval '1 min', agent_id, app_id, workspace_id, 'complete', 'done' FROM coder.workspace_app_statuses;
SET LOCAL session_replication_role = origin;

SELECT token_of('boss', '{owner}') AS boss \gset
SELECT token_of('member3') AS member \gset
CREATE TEMP TABLE list AS
	SELECT t.w, t.w ->> 'id' AS id, t.n
	  FROM api('GET', '/api/v2/workspaces', NULL, :'boss') r, jsonb_array_elements(r.body_ -> 'workspaces') WITH ORDINALITY t(w, n);
CREATE TEMP TABLE resource AS
	SELECT l.id AS workspace, t.r, t.n FROM list l, jsonb_array_elements(l.w #> '{latest_build,resources}') WITH ORDINALITY t(r, n)
	 WHERE l.w -> 'latest_build' <> 'null';
CREATE TEMP TABLE agent AS
	SELECT t.a, t.n FROM resource, jsonb_array_elements(r -> 'agents') WITH ORDINALITY t(a, n);
CREATE TEMP TABLE app AS SELECT t.p, t.n FROM agent, jsonb_array_elements(a -> 'apps') WITH ORDINALITY t(p, n);

SELECT is((SELECT count(*) FROM list), 200::bigint, 'all are listed');
SELECT results_eq('SELECT id::uuid FROM list ORDER BY n',
	'SELECT id FROM coder.workspaces ORDER BY NOT running, owner_sort, lower(name), id', 'the running ones first, then by owner and name');
SELECT results_eq($$SELECT w ->> 'name', w ->> 'owner_name', w ->> 'template_name', w ->> 'organization_name', (w ->> 'outdated')::boolean,
					   w -> 'shared_with' IS NOT NULL FROM list ORDER BY 1$$,
	$$SELECT w.name::text, u.username, t.name::text, o.name, coalesce(b.template_version_id <> t.active_version_id, false), w.user_acl <> '{}'
		FROM coder.workspaces w JOIN coder.users u ON u.id = w.owner_id JOIN coder.templates t ON t.id = w.template_id
		JOIN coder.organizations o ON o.id = w.organization_id LEFT JOIN coder.workspace_builds b ON b.id = w.latest_build_id ORDER BY 1$$,
	'each has its owner, template and organization');
SELECT results_eq($$SELECT w #>> '{latest_build,id}', w #>> '{latest_build,job,id}', w #>> '{latest_build,job,status}', w #>> '{latest_build,transition}',
					   w #>> '{latest_build,template_version_name}', w #>> '{latest_build,initiator_name}', w #>> '{latest_build,workspace_owner_name}'
				  FROM list WHERE w -> 'latest_build' <> 'null' ORDER BY 1$$,
	$$SELECT b.id::text, j.id::text, j.job_status::text, b.transition::text, v.name::text, coalesce(i.username, ''), u.username
		FROM coder.workspaces w JOIN coder.users u ON u.id = w.owner_id JOIN coder.workspace_builds b ON b.id = w.latest_build_id
		JOIN coder.provisioner_jobs j ON j.id = b.job_id JOIN coder.template_versions v ON v.id = b.template_version_id
		LEFT JOIN coder.users i ON i.id = b.initiator_id ORDER BY 1$$,
	'and its latest build with its job, version and people');
SELECT results_eq($$SELECT workspace, r ->> 'id' FROM resource ORDER BY workspace, n$$,
	$$SELECT w.id::text, r.id::text FROM coder.workspaces w JOIN coder.workspace_builds b ON b.id = w.latest_build_id
		JOIN coder.workspace_resources r ON r.job_id = b.job_id
	   ORDER BY w.id::text, (SELECT coalesce(min(a.display_order), 2147483647) FROM coder.workspace_agents a
							   WHERE a.resource_id = r.id AND NOT a.deleted), r.name$$,
	'resources stand by their agents'' order, then by name');
SELECT results_eq($$SELECT r ->> 'id', m ->> 'key', m ->> 'value' FROM resource, jsonb_array_elements(r -> 'metadata') WITH ORDINALITY t(m, k)
					 ORDER BY r ->> 'id', k$$,
	$$SELECT workspace_resource_id::text, key::text, coalesce(value, '')::text FROM coder.workspace_resource_metadata
	   WHERE workspace_resource_id::text IN (SELECT r ->> 'id' FROM resource) ORDER BY 1, id$$, 'facts in their order');
SELECT results_eq($$SELECT a ->> 'resource_id', a ->> 'id', a ->> 'lifecycle_state', a -> 'environment_variables', a -> 'display_apps', a -> 'latency'
					  FROM agent ORDER BY a ->> 'resource_id', n$$,
	$$SELECT a.resource_id::text, a.id::text, a.lifecycle_state::text, coalesce(a.environment_variables, 'null'), to_jsonb(a.display_apps), n.latency
		FROM coder.workspace_agents a LEFT JOIN coder.workspace_agent_nodes n ON n.agent_id = a.id
	   WHERE NOT a.deleted AND a.resource_id::text IN (SELECT r ->> 'id' FROM resource) ORDER BY a.resource_id::text, a.display_order, a.name$$,
	'agents that are not deleted, in their order');
SELECT results_eq($$SELECT a ->> 'id', p ->> 'id', p ->> 'sharing_level', p ->> 'open_in' FROM agent, jsonb_array_elements(a -> 'apps') WITH ORDINALITY t(p, k)
					 ORDER BY a ->> 'id', k$$,
	$$SELECT agent_id::text, id::text, sharing_level::text, open_in::text FROM coder.workspace_apps
	   WHERE agent_id::text IN (SELECT a ->> 'id' FROM agent) ORDER BY 1, display_order, display_name, slug$$, 'apps in theirs');
SELECT results_eq($$SELECT p ->> 'id', s ->> 'id', s ->> 'state', s ->> 'uri' FROM app, jsonb_array_elements(p -> 'statuses') WITH ORDINALITY t(s, k)
					 ORDER BY p ->> 'id', k$$,
	$$SELECT app_id::text, id::text, state::text, coalesce(uri, '') FROM coder.workspace_app_statuses
	   WHERE app_id::text IN (SELECT p ->> 'id' FROM app) ORDER BY 1, created_at DESC$$, 'statuses of apps, the newest first');
SELECT results_eq($$SELECT id, w #>> '{latest_app_status,id}' FROM list WHERE w -> 'latest_app_status' <> 'null' ORDER BY 1$$,
	$$SELECT * FROM (SELECT DISTINCT ON (workspace_id) workspace_id::text, id::text FROM coder.workspace_app_statuses ORDER BY workspace_id, created_at DESC) s ORDER BY 1$$,
	'the newest of a workspace');
SELECT results_eq($$SELECT a ->> 'id', s ->> 'id', s ->> 'script' FROM agent, jsonb_array_elements(a -> 'scripts') WITH ORDINALITY t(s, k)
					 ORDER BY a ->> 'id', k$$,
	$$SELECT workspace_agent_id::text, id::text, script FROM coder.workspace_agent_scripts
	   WHERE workspace_agent_id::text IN (SELECT a ->> 'id' FROM agent) ORDER BY 1, ordinal$$, 'scripts, the long ones too');
SELECT results_eq($$SELECT a ->> 'id', s ->> 'id' FROM agent, jsonb_array_elements(a -> 'log_sources') WITH ORDINALITY t(s, k) ORDER BY a ->> 'id', k$$,
	$$SELECT workspace_agent_id::text, id::text FROM coder.workspace_agent_log_sources
	   WHERE workspace_agent_id::text IN (SELECT a ->> 'id' FROM agent) ORDER BY 1, created_at, id$$, 'and sources of logs');

-- A parameter that the C handler does not know makes the SQL function answer.
SELECT is(ROW(r.status, md5(r.raw_)), ROW(s.status, md5(s.raw_)), format('both answer %s of %s alike', q, who))
  FROM unnest(ARRAY['limit=7', 'limit=7&offset=3', 'offset=195', 'limit=1&offset=900', 'limit=0', 'q=', 'q=%20&limit=2', 'q=owner:me',
					'q=owner%3Ame&limit=2&offset=1', 'q=name:workspace-1+status:running', 'limit=2&limit=3', 'q=status:failed&limit=5',
					'limit=2&q=owner:member3']) q,
	   (VALUES ('an owner', :'boss'), ('a member', :'member')) v(who, token),
	   api('GET', '/api/v2/workspaces?' || q, NULL, token) r, api('GET', '/api/v2/workspaces?other=1&' || q, NULL, token) s;
SELECT is(r.status, 400, q || ' is refused') FROM unnest(ARRAY['limit=x', 'offset=1.5', 'limit=99999999999', 'q=foo:bar', 'q=a:b:c']) q,
	   api('GET', '/api/v2/workspaces?' || q, NULL, :'boss') r;
SELECT is((SELECT body_ ->> 'count' FROM api('GET', '/api/v2/workspaces?limit=1', NULL, :'member')), '10', 'a member''s count is of his own');
SELECT is((SELECT body_ ->> 'count' FROM api('GET', '/api/v2/workspaces?limit=1', NULL, :'boss')), '200', 'an owner''s of all');

SELECT results_eq(format($$SELECT w ->> 'name' FROM api('GET', '/api/v2/workspaces?limit=100', NULL, %L), jsonb_array_elements(body_ -> 'workspaces') w WHERE (w ->> 'favorite')::bool ORDER BY 1$$, token),
	format($$SELECT w.name::text FROM coder.workspaces w JOIN coder.users u ON u.id = w.owner_id WHERE w.favorite AND u.username = %L ORDER BY 1$$, name), 'the favorites of ' || name || ' are its own')
  FROM (VALUES ('boss', :'boss'), ('member3', :'member')) v(name, token);
SELECT is((SELECT body_ #>> '{workspaces,0,favorite}' FROM api('GET', '/api/v2/workspaces', NULL, :'member')), 'true', 'and come first');

-- A token whose allow list has only workspaces that are to be made reads none.
UPDATE coder.api_keys SET allow_list = '{workspace:,user:*}' WHERE id = split_part(:'boss', '-', 1);
SELECT is((SELECT body_ ->> 'count' FROM api('GET', '/api/v2/workspaces?' || q, NULL, :'boss')), '0', 'an allow list of nothing that is, ' || q)
  FROM unnest(ARRAY['limit=1', 'limit=1&other=1', 'q=name:workspace']) q;
UPDATE coder.api_keys SET allow_list = '{*:*}' WHERE id = split_part(:'boss', '-', 1);

-- What kept answers are made of is watched, whoever changes it (extension/change.c; what comes of it is in test/t/069_kept_answers.pl).
SELECT results_eq($$
	SELECT c.relname::text COLLATE "default", count(*), max(btrim(replace(encode(t.tgargs, 'escape'), '\000', ' '))), bool_and(t.tgenabled = 'A'),
		   bool_or(t.tgtype & 4 > 0) AND bool_or(t.tgtype & 8 > 0) AND bool_or(t.tgtype & 16 > 0) AND bool_or(t.tgtype & 32 > 0)
	  FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
	 WHERE t.tgfoid = 'coder.row_changed()'::regprocedure AND t.tgname LIKE 'row_changed%' GROUP BY 1 ORDER BY 1$$,
	$$SELECT name, 3::bigint, args, true, true FROM (VALUES ('groups', 'id'), ('organizations', 'id'), ('provisioner_jobs', 'id'), ('template_versions', 'id'),
	  ('templates', 'id'), ('users', 'id'), ('workspace_agent_log_sources', 'workspace_agent_id'), ('workspace_agent_nodes', 'agent_id'),
	  ('workspace_agent_scripts', 'workspace_agent_id'), ('workspace_agents', 'resource_id'), ('workspace_app_statuses', 'app_id workspace_id'),
	  ('workspace_apps', 'agent_id'), ('workspace_builds', 'id'), ('workspace_resource_metadata', 'workspace_resource_id'),
	  ('workspace_resources', 'job_id'), ('workspaces', 'id')) v(name, args) ORDER BY 1$$, 'every table of the list, by the columns it is read by');

-- A change of the catalogs is noticed.
ALTER TABLE coder.workspaces ADD COLUMN extra int;
ALTER TABLE coder.template_versions RENAME COLUMN message TO message_of;
ALTER TYPE coder.automatic_updates RENAME VALUE 'never' TO 'seldom';
SELECT is((SELECT body_ #>> '{workspaces,0,automatic_updates}' FROM api('GET', '/api/v2/workspaces?limit=1', NULL, :'boss')), 'seldom', 'a label''s new name');

SELECT * FROM finish();
ROLLBACK;
