-- Workspaces and builds: from the request to a running agent and back, and
-- what an UPDATE by hand may not do.
BEGIN;
SELECT no_plan();
SELECT coder.seed();
SELECT coder.configure('{"access_url": "http://127.0.0.1:7080", "experiments": "workspace-build-updates"}');

-- ---- fixture: two users, a template with two parameters ----

INSERT INTO coder.users (id, username, email, login_type, status, rbac_roles) VALUES
	('00000000-0000-4000-8000-000000000001', 'admin', 'admin@example.com', 'password', 'active', '{owner}'),
	('00000000-0000-4000-8000-000000000002', 'bob', 'bob@example.com', 'password', 'active', '{}');
INSERT INTO coder.organization_members (user_id, organization_id)
SELECT u.id, o.id FROM coder.users u, coder.organizations o
 WHERE u.username IN ('admin', 'bob') AND o.is_default;
INSERT INTO coder.api_keys (id, hashed_secret, user_id, expires_at, login_type)
SELECT left(u.username || 'xxxxxxxxxx', 10), coder.sha256('secretsecretsecretsecr'), u.id, now() + interval '1 day', 'password'
  FROM coder.users u WHERE u.username IN ('admin', 'bob');
INSERT INTO coder.files (id, hash, created_by, mimetype, data)
VALUES ('00000000-0000-4000-8000-0000000000f1', encode(sha256(''), 'hex'), '00000000-0000-4000-8000-000000000001', 'application/x-tar', '');
INSERT INTO coder.provisioner_jobs (id, organization_id, initiator_id, provisioner, storage_method, type, input,
									file_id, tags, started_at, completed_at)
SELECT '00000000-0000-4000-8000-0000000000a1', o.id, '00000000-0000-4000-8000-000000000001', 'terraform', 'file',
	   'template_version_import', '{"template_version_id": "00000000-0000-4000-8000-0000000000b1"}',
	   '00000000-0000-4000-8000-0000000000f1', '{"scope": "organization", "owner": ""}', now(), now()
  FROM coder.organizations o WHERE o.is_default;
INSERT INTO coder.template_versions (id, organization_id, name, job_id, created_by)
SELECT '00000000-0000-4000-8000-0000000000b1', o.id, 'v1', '00000000-0000-4000-8000-0000000000a1',
	   '00000000-0000-4000-8000-000000000001' FROM coder.organizations o WHERE o.is_default;
INSERT INTO coder.templates (id, organization_id, name, provisioner, active_version_id, created_by, group_acl)
SELECT '00000000-0000-4000-8000-0000000000c1', o.id, 'dev', 'terraform', '00000000-0000-4000-8000-0000000000b1',
	   '00000000-0000-4000-8000-000000000001', jsonb_build_object(o.id, '["read", "use"]'::jsonb)
  FROM coder.organizations o WHERE o.is_default;
UPDATE coder.template_versions SET template_id = '00000000-0000-4000-8000-0000000000c1'
 WHERE id = '00000000-0000-4000-8000-0000000000b1';
INSERT INTO coder.template_version_parameters
	(template_version_id, name, description, type, mutable, default_value, icon, options, validation_regex,
	 validation_min, validation_max, required)
VALUES ('00000000-0000-4000-8000-0000000000b1', 'size', '', 'number', true, '2', '', '[]', '', 1, 10, false),
	('00000000-0000-4000-8000-0000000000b1', 'region', '', 'string', false, 'eu', '',
	 '[{"name": "Europe", "value": "eu"}, {"name": "US", "value": "us"}]', '', NULL, NULL, false);
CREATE TEMP TABLE daemon AS
	SELECT coder.provisioner_register('d', '{terraform}', '{"scope": "organization", "owner": ""}', 'v0') AS id;

-- A request through coder.handle: status and body.
CREATE FUNCTION pg_temp.http(who text, verb text, url text, body jsonb DEFAULT NULL,
							 OUT status integer, OUT js jsonb, OUT txt text)
LANGUAGE plpgsql AS $$
DECLARE
	r record;
	v_path text := split_part(url, '?', 1);
	v_names text[];
	v bytea;
	v_head integer;
	v_message text;
	v_hint text;
BEGIN
	SELECT rt.id, regexp_match(v_path, '^' || regexp_replace(rt.pattern, '\{[a-z_]+\}', '([^/]+)', 'g') || '$') AS params
	  INTO r
	  FROM coder.routes rt
	 WHERE rt.method = verb AND v_path ~ ('^' || regexp_replace(rt.pattern, '\{[a-z_]+\}', '[^/]+', 'g') || '$')
	 ORDER BY length(regexp_replace(rt.pattern, '\{[a-z_]+\}', '', 'g')) DESC LIMIT 1;
	BEGIN
		v := coder.handle(r.id, verb, v_path, CASE WHEN position('{' IN (SELECT pattern FROM coder.routes WHERE id = r.id)) > 0 THEN r.params ELSE '{}' END,
						  CASE WHEN position('?' IN url) > 0 THEN substr(url, position('?' IN url) + 1) ELSE '' END, '',
						  convert_to(coalesce(body::text, ''), 'UTF8'),
						  CASE WHEN who ~ '^[0-9a-f-]{36}$' THEN who ELSE left(who || 'xxxxxxxxxx', 10) || '-secretsecretsecretsecr' END, '127.0.0.1', gen_random_uuid(), NULL);
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS v_message = MESSAGE_TEXT, v_hint = PG_EXCEPTION_HINT;
		IF SQLSTATE NOT LIKE 'ZC%' THEN
			RAISE;
		END IF;
		status := substr(SQLSTATE, 3)::integer;
		js := jsonb_build_object('message', v_message)
			|| CASE WHEN left(v_hint, 1) = '[' THEN jsonb_build_object('validations', v_hint::jsonb) ELSE '{}' END;
		RETURN;
	END;
	status := get_byte(v, 0) * 256 + get_byte(v, 1);
	v_head := get_byte(v, 4) * 16777216 + get_byte(v, 5) * 65536 + get_byte(v, 6) * 256 + get_byte(v, 7);
	txt := convert_from(substr(v, 9 + v_head), 'UTF8');
	IF txt LIKE '{%' OR txt LIKE '[%' THEN
		js := txt::jsonb;
	END IF;
END
$$;

-- What a provisioner brings back for a running workspace.
CREATE FUNCTION pg_temp.completed(token uuid) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('workspace_build', jsonb_build_object('state', '7b7d', 'resources', jsonb_build_array(
		jsonb_build_object('name', 'vm', 'type', 'terraform_data', 'hide', false, 'icon', '', 'daily_cost', 0,
			'metadata', '[{"key": "disk", "value": "10G", "sensitive": false}, {"key": "gone", "is_null": true}]'::jsonb,
			'agents', jsonb_build_array(jsonb_build_object('id', 'x', 'name', 'main', 'env', '{"FOO": "bar"}'::jsonb,
				'operating_system', 'linux', 'architecture', 'amd64', 'directory', '/', 'token', token::text,
				'connection_timeout_seconds', 120,
				'metadata', '[{"key": "uptime", "display_name": "Uptime", "script": "uptime", "interval": 5, "timeout": 1}]'::jsonb,
				'scripts', '[{"display_name": "Hello", "script": "echo hello", "run_on_start": true}]'::jsonb,
				'apps', '[{"slug": "web", "display_name": "Web", "url": "http://localhost:8765", "healthcheck": {"url": "http://localhost:8765/", "interval": 5, "threshold": 3}, "sharing_level": "OWNER", "open_in": "SLIM_WINDOW"}]'::jsonb))))))
$$;

-- The oldest pending job, done by the daemon.
CREATE FUNCTION pg_temp.work(completed jsonb) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
	v_job uuid := (coder.provisioner_acquire((SELECT id FROM daemon)) ->> 'job_id')::uuid;
BEGIN
	PERFORM coder.provisioner_complete((SELECT id FROM daemon), v_job, completed);
	RETURN v_job;
END
$$;

-- ---- create ----

SELECT is((SELECT status FROM pg_temp.http('admin', 'POST', '/api/v2/users/me/workspaces', '{}')), 400, 'an empty request is refused');
SELECT is((SELECT js -> 'validations' -> 2 ->> 'detail' FROM pg_temp.http('admin', 'POST', '/api/v2/users/me/workspaces', '{}')),
	'Validation failed for tag "workspace_name" with value: ""', 'and says what is missing');
SELECT is((SELECT js -> 'validations' -> 0 ->> 'detail' FROM pg_temp.http('admin', 'POST', '/api/v2/users/me/workspaces',
	'{"template_id": "00000000-0000-4000-8000-0000000000c1", "name": "ws1", "rich_parameter_values": [{"name": "size", "value": "99"}]}')),
	'Invalid parameter value according to ''validation'' block; value 99 is more than the maximum 10', 'a number above its maximum');
SELECT is((SELECT js -> 'validations' -> 0 ->> 'detail' FROM pg_temp.http('admin', 'POST', '/api/v2/users/me/workspaces',
	'{"template_id": "00000000-0000-4000-8000-0000000000c1", "name": "ws1", "rich_parameter_values": [{"name": "region", "value": "moon"}]}')),
	'Value must be a valid option; the value "moon" must be defined as one of options', 'a value that is no option');
SELECT is((SELECT js ->> 'message' FROM pg_temp.http('admin', 'POST', '/api/v2/users/me/workspaces',
	'{"template_id": "00000000-0000-4000-8000-0000000000c1", "name": "ws1", "autostart_schedule": "not cron"}')),
	'Invalid Autostart Schedule.', 'a schedule that is none');
SELECT is((SELECT js ->> 'message' FROM pg_temp.http('admin', 'POST', '/api/v2/users/me/workspaces',
	'{"template_id": "00000000-0000-4000-8000-0000000000c1", "name": "ws1", "ttl_ms": 1000}')),
	'Invalid Workspace Time to Shutdown.', 'a time until shutdown that is too short');
SELECT is_empty('SELECT * FROM coder.workspaces', 'nothing of these is left');

CREATE TEMP TABLE made AS SELECT * FROM pg_temp.http('admin', 'POST', '/api/v2/users/me/workspaces',
	'{"template_id": "00000000-0000-4000-8000-0000000000c1", "name": "ws1", "ttl_ms": 3600000,
	  "autostart_schedule": "CRON_TZ=UTC 30 9 * * 1-5", "automatic_updates": "never",
	  "rich_parameter_values": [{"name": "size", "value": "3"}, {"name": "region", "value": "us"}]}');
SELECT is((SELECT status FROM made), 201, 'a workspace is created');
SELECT is((SELECT js #>> '{latest_build,status}' FROM made), 'pending', 'and its build waits');
SELECT is((SELECT js #>> '{latest_build,template_version_name}' FROM made), '', 'without the version''s name yet');
SELECT is((SELECT js #>> '{latest_build,matched_provisioners,count}' FROM made), '1', 'a daemon fits');
SELECT is((SELECT status FROM pg_temp.http('admin', 'POST', '/api/v2/users/me/workspaces',
	'{"template_id": "00000000-0000-4000-8000-0000000000c1", "name": "WS1"}')), 409, 'its name is taken, whatever the case');
SELECT is((SELECT js ->> 'message' FROM pg_temp.http('admin', 'POST', '/api/v2/workspaces/' || (SELECT js ->> 'id' FROM made) || '/builds', '{"transition": "stop"}')),
	'A workspace build is already active.', 'no second build while one is active');
SELECT is((SELECT status FROM pg_temp.http('bob', 'GET', '/api/v2/workspaces/' || (SELECT js ->> 'id' FROM made))), 404, 'another user does not see it');

-- ---- by hand ----

CREATE FUNCTION pg_temp.second_build(number integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	b coder.workspace_builds;
	v_job uuid;
BEGIN
	SELECT * INTO b FROM coder.workspace_builds LIMIT 1;
	INSERT INTO coder.provisioner_jobs (organization_id, initiator_id, provisioner, storage_method, type, input, file_id, tags)
	SELECT j.organization_id, j.initiator_id, j.provisioner, j.storage_method, j.type, j.input, j.file_id, j.tags
	  FROM coder.provisioner_jobs j WHERE j.id = b.job_id RETURNING id INTO v_job;
	INSERT INTO coder.workspace_builds (workspace_id, template_version_id, build_number, transition, initiator_id, job_id)
	VALUES (b.workspace_id, b.template_version_id, number, 'stop', b.initiator_id, v_job);
END
$$;
SELECT throws_ok('SELECT pg_temp.second_build(2)', 'ZC409', 'A workspace build is already active.', 'two active builds: not by SQL either');
SELECT throws_ok($$UPDATE coder.workspace_builds SET build_number = 7$$, 'ZC409', NULL, 'a build keeps its number');
SELECT lives_ok($$UPDATE coder.workspace_builds SET active = false$$, 'active cannot be');
SELECT ok((SELECT active FROM coder.workspace_builds), 'switched off by hand');
SELECT lives_ok($$UPDATE coder.workspaces SET running = true, owner_sort = 'zzz'$$, 'derived columns cannot be');
SELECT results_eq('SELECT running, owner_sort FROM coder.workspaces', $$VALUES (false, 'admin')$$, 'set by hand');

-- ---- the build runs and completes ----

CREATE TEMP TABLE seen AS SELECT coalesce(max(seq), 0) AS seq FROM coder.events;
CREATE TEMP TABLE done AS SELECT pg_temp.work(pg_temp.completed('00000000-0000-4000-8000-00000000aaaa')) AS job;
SELECT is((SELECT job FROM done), (SELECT job_id FROM coder.workspace_builds), 'the daemon took the build''s job');
CREATE TEMP TABLE got AS SELECT * FROM pg_temp.http('admin', 'GET', '/api/v2/workspaces/' || (SELECT js ->> 'id' FROM made));
SELECT is((SELECT js #>> '{latest_build,status}' FROM got), 'running', 'the workspace runs');
SELECT is((SELECT js #>> '{latest_build,template_version_name}' FROM got), 'v1', 'with the version''s name');
SELECT is((SELECT js #>> '{latest_build,resources,0,agents,0,environment_variables,FOO}' FROM got), 'bar', 'its agent has its environment');
SELECT is((SELECT js #>> '{latest_build,resources,0,agents,0,status}' FROM got), 'connecting', 'and has not connected');
SELECT is((SELECT js #> '{health}' FROM got) ->> 'healthy', 'false', 'so the workspace is not healthy');
SELECT is((SELECT js #>> '{latest_build,resources,0,agents,0,apps,0,health}' FROM got), 'initializing', 'an app with a check starts so');
SELECT is((SELECT js #>> '{latest_build,resources,0,metadata,0,value}' FROM got), '10G', 'metadata of the resource');
SELECT is((SELECT jsonb_array_length(js #> '{latest_build,resources,0,metadata}') FROM got), 1, 'without what is null');
SELECT is((SELECT js #>> '{latest_build,deadline}' FROM got) IS NOT NULL, true, 'a deadline after the time until shutdown');
SELECT is((SELECT txt FROM pg_temp.http('admin', 'GET', '/api/v2/workspacebuilds/' || (SELECT js #>> '{latest_build,id}' FROM made) || '/state')), '{}', 'the state is kept');
SELECT results_eq($$SELECT payload::jsonb ->> 'job_status' FROM coder.events, seen WHERE events.seq > seen.seq AND channel = 'workspace_updates:all'$$,
	ARRAY['succeeded'], 'one event says that the build ended');
SELECT ok((SELECT count(*) >= 2 FROM coder.events, seen WHERE events.seq > seen.seq AND channel = 'workspace:' || (SELECT js ->> 'id' FROM made)), 'the workspace''s watchers are told of start and end');
SELECT throws_ok($$UPDATE coder.provisioner_jobs SET completed_at = now() + interval '1 s' WHERE type = 'workspace_build'$$, 'ZC409', 'Job has already completed!', 'a job ends once');
SELECT throws_ok($$UPDATE coder.provisioner_jobs SET completed_at = NULL WHERE type = 'workspace_build'$$, 'ZC409', NULL, 'and does not come back');
SELECT throws_ok($$UPDATE coder.provisioner_jobs SET canceled_at = now() WHERE type = 'workspace_build'$$, 'ZC409', NULL, 'nor is it canceled then');
SELECT throws_ok('SELECT pg_temp.second_build(3)', 'ZC409', 'insert workspace build', 'no gap in the numbers');

-- ---- list and search ----

SELECT is((SELECT js ->> 'count' FROM pg_temp.http('admin', 'GET', '/api/v2/workspaces')), '1', 'listed');
SELECT is((SELECT js ->> 'count' FROM pg_temp.http('bob', 'GET', '/api/v2/workspaces')), '0', 'not for another user');
SELECT is((SELECT js #>> '{workspaces,0,name}' FROM pg_temp.http('admin', 'GET', '/api/v2/workspaces?q=' || q)), 'ws1', 'found by ' || q)
  FROM unnest('{owner:me,name:ws,status:running,template:dev%20owner:admin,admin/ws,ws,has-agent:connecting,dormant:false,param:size=3,outdated:false,organization:coder,id:}'::text[]) q
 WHERE q <> 'id:';
SELECT is((SELECT js ->> 'count' FROM pg_temp.http('admin', 'GET', '/api/v2/workspaces?q=' || q)), '0', 'not found by ' || q)
  FROM unnest('{outdated:true,dormant:true,owner:bob,name:zz,status:stopped,shared:true,has-agent:connected}'::text[]) q;
SELECT is((SELECT js #>> '{validations,0,detail}' FROM pg_temp.http('admin', 'GET', '/api/v2/workspaces?q=status:bogus')),
	'Query param "status" has invalid value: "bogus" is not a valid value', 'an unknown status');
SELECT is((SELECT js #>> '{validations,0,detail}' FROM pg_temp.http('admin', 'GET', '/api/v2/workspaces?q=foo:bar')), '"foo" is not a valid query param', 'an unknown key');
SELECT is((SELECT js::text FROM pg_temp.http('admin', 'GET', '/api/v2/workspaces?limit=1&offset=5')), '{"count": 1, "workspaces": []}', 'a page behind the end');
SELECT is((SELECT status FROM pg_temp.http('admin', 'GET', '/api/v2/workspaces?q=name:%27%29%3Bdrop')), 200, 'quotes are only text');
SELECT is((SELECT sum(live) FROM coder.workspace_totals)::integer, 1, 'the total is kept');

SELECT is((SELECT js #>> '{0,username}' FROM pg_temp.http('admin', 'GET', '/api/v2/organizations/default/members/me/workspaces/available-users?q=BO')), 'bob', 'for whom one may be created');
SELECT is((SELECT js::text FROM pg_temp.http('admin', 'GET', '/api/v2/organizations/default/members/me/workspaces/available-users?q=%25')), '[]', 'a percent sign is only text');
SELECT is((SELECT status FROM pg_temp.http('bob', 'GET', '/api/v2/organizations/default/members/me/workspaces/available-users')), 403, 'who creates only their own is not told');

-- ---- settings ----

CREATE FUNCTION pg_temp.ws(suffix text) RETURNS text LANGUAGE sql AS $$ SELECT '/api/v2/workspaces/' || (js ->> 'id') || suffix FROM made $$;
SELECT is((SELECT status FROM pg_temp.http('admin', 'PUT', pg_temp.ws('/autostart'), '{"schedule": "CRON_TZ=Europe/Berlin 0 8 * * 1-5"}')), 204, 'a schedule');
SELECT isnt((SELECT next_start_at FROM coder.workspaces), NULL, 'gives the next start');
SELECT is((SELECT status FROM pg_temp.http('admin', 'PUT', pg_temp.ws('/autostart'), '{"schedule": "garbage"}')), 400, 'no schedule');
SELECT is((SELECT status FROM pg_temp.http('admin', 'PUT', pg_temp.ws('/autostart'), '{"schedule": null}')), 204, 'cleared');
SELECT is((SELECT next_start_at FROM coder.workspaces), NULL, 'and with it the next start');
SELECT is((SELECT status FROM pg_temp.http('admin', 'PUT', pg_temp.ws('/ttl'), '{"ttl_ms": 10}')), 400, 'too short a time');
SELECT is((SELECT js ->> 'message' FROM pg_temp.http('admin', 'PUT', pg_temp.ws('/extend'), '{"deadline": "2020-01-01T00:00:00Z"}')),
	'Cannot extend workspace: new deadline must be at least 30 minutes in the future', 'a deadline in the past');
SELECT is((SELECT status FROM pg_temp.http('admin', 'PUT', pg_temp.ws('/extend'), jsonb_build_object('deadline', coder.ts(now() + interval '2 h')))), 200, 'a later deadline');
SELECT is((SELECT status FROM pg_temp.http('admin', 'PUT', pg_temp.ws('/ttl'), '{"ttl_ms": null}')), 204, 'no time until shutdown');
SELECT is((SELECT js ->> 'message' FROM pg_temp.http('admin', 'PUT', pg_temp.ws('/extend'), '{"deadline": "2020-01-01T00:00:00Z"}')), 'Workspace shutdown is manual.', 'then there is no deadline');
SELECT is((SELECT status FROM pg_temp.http('admin', 'PUT', pg_temp.ws('/favorite'))), 204, 'a favorite');
SELECT is((SELECT js #>> '{workspaces,0,favorite}' FROM pg_temp.http('admin', 'GET', '/api/v2/workspaces')), 'true', 'is listed as one');
SELECT is((SELECT status FROM pg_temp.http('admin', 'PUT', pg_temp.ws('/dormant'), '{"dormant": true}')), 200, 'dormant');
SELECT is((SELECT status FROM pg_temp.http('admin', 'PUT', pg_temp.ws('/dormant'), '{"dormant": true}')), 304, 'it is so already');
SELECT is((SELECT status FROM pg_temp.http('admin', 'PUT', pg_temp.ws('/dormant'), '{"dormant": false}')), 200, 'awake');
SELECT is((SELECT status FROM pg_temp.http('admin', 'POST', pg_temp.ws('/port-share'), '{"agent_name": "main", "port": 8080, "share_level": "authenticated", "protocol": "http"}')), 200, 'a port is shared');
SELECT is((SELECT js #>> '{shares,0,port}' FROM pg_temp.http('admin', 'GET', pg_temp.ws('/port-share'))), '8080', 'and listed');
SELECT is((SELECT status FROM pg_temp.http('admin', 'DELETE', pg_temp.ws('/port-share'), '{"agent_name": "main", "port": 8080}')), 200, 'and not shared any more');
SELECT is((SELECT status FROM pg_temp.http('admin', 'PATCH', pg_temp.ws('/acl'), '{"user_roles": {"00000000-0000-4000-8000-000000000002": "use"}}')), 204, 'shared with a user');
SELECT is((SELECT status FROM pg_temp.http('bob', 'GET', pg_temp.ws(''))), 200, 'who sees it now');
SELECT is((SELECT js ->> 'count' FROM pg_temp.http('bob', 'GET', '/api/v2/workspaces')), '1', 'in the list too');
SELECT is((SELECT status FROM pg_temp.http('admin', 'PATCH', pg_temp.ws('/acl'), '{"user_roles": {"00000000-0000-4000-8000-000000000002": ""}}')), 204, 'no longer');
SELECT is((SELECT status FROM pg_temp.http('bob', 'GET', pg_temp.ws(''))), 404, 'gone for them');
SELECT is((SELECT js #>> '{frames,0,name}' FROM pg_temp.http('admin', 'GET', pg_temp.ws('/watch-ws'))), 'ws1', 'a watcher gets the workspace');
SELECT is((SELECT js #>> '{channels,0}' FROM pg_temp.http('admin', 'GET', pg_temp.ws('/watch'))), 'workspace:' || (SELECT js ->> 'id' FROM made), 'and its channel');
SELECT is((SELECT js ->> 'forward' FROM pg_temp.http('admin', 'GET', '/api/experimental/watch-all-workspacebuilds')), 'true', 'who reads all gets every build''s event');
SELECT is((SELECT js ->> 'forward' FROM pg_temp.http('bob', 'GET', '/api/experimental/watch-all-workspacebuilds')), NULL, 'others only what they may read');
SELECT coder.configure('{"experiments": ""}');
SELECT is((SELECT status FROM pg_temp.http('admin', 'GET', '/api/experimental/watch-all-workspacebuilds')), 403, 'not without the experiment');

-- ---- the agent ----

CREATE FUNCTION pg_temp.agent() RETURNS uuid LANGUAGE sql AS $$ SELECT id FROM coder.workspace_agents WHERE parent_id IS NULL $$;
SELECT is((SELECT agent_id FROM coder.agent_subject('00000000-0000-4000-8000-00000000aaaa')), pg_temp.agent(), 'its token is known');
SELECT is((SELECT js ->> 'service' FROM pg_temp.http('00000000-0000-4000-8000-00000000aaaa', 'GET', '/api/v2/workspaceagents/me/rpc?version=2.8')), 'agent', 'it may connect');
SELECT is((SELECT status FROM pg_temp.http('00000000-0000-4000-8000-00000000aaaa', 'GET', '/api/v2/workspaceagents/me/rpc?version=3.0')), 400, 'but not with a version of the future');
SELECT coder.agent_life(pg_temp.agent(), 'here');
SELECT is((SELECT js ->> 'status' FROM pg_temp.http('admin', 'GET', '/api/v2/workspaceagents/' || pg_temp.agent())), 'connected', 'connected');
CREATE TEMP TABLE manifest AS SELECT coder.agent_rpc(pg_temp.agent(), 'GetManifest', '{}') AS m;
SELECT is((SELECT m ->> 'agent_name' FROM manifest), 'main', 'manifest: name');
SELECT is((SELECT m #>> '{derp_map,regions,999,nodes,0,derp_port}' FROM manifest), '7080', 'manifest: the relay is this server');
SELECT is((SELECT m #>> '{apps,0,sharing_level}' FROM manifest), 'OWNER', 'manifest: app');
SELECT is((SELECT m #>> '{metadata,0,interval}' FROM manifest), '5', 'manifest: seconds stand as nanoseconds');
SELECT is(coder.agent_rpc(pg_temp.agent(), 'UpdateLifecycle', '{"lifecycle": {"state": "READY", "changed_at": "2026-04-16T00:00:00Z"}}') #>> '{lifecycle,state}', NULL, 'lifecycle is echoed');
SELECT is((SELECT js #>> '{health,healthy}' FROM pg_temp.http('admin', 'GET', pg_temp.ws(''))), 'true', 'and the workspace is healthy');
SELECT throws_ok($$SELECT coder.agent_rpc(pg_temp.agent(), 'UpdateLifecycle', '{"lifecycle": {"state": "NOPE"}}')$$, 'ZC400', NULL, 'an unknown state');
SELECT is((SELECT start_result::text FROM coder.workspace_agents WHERE id = pg_temp.agent()), 'ready', 'how its start ended');
SELECT coder.agent_rpc(pg_temp.agent(), 'UpdateLifecycle', '{"lifecycle": {"state": "SHUTTING_DOWN"}}');
SELECT is((SELECT lifecycle_state || ' ' || start_result FROM coder.workspace_agents WHERE id = pg_temp.agent()), 'shutting_down ready', 'stays when it goes on');
SELECT coder.agent_rpc(pg_temp.agent(), 'UpdateLifecycle', '{"lifecycle": {"state": "READY", "changed_at": "2026-04-16T00:00:00Z"}}');
SELECT throws_ok($$SELECT coder.agent_rpc(pg_temp.agent(), 'UpdateLifecycle', '{}')$$, 'ZC400', NULL, 'no state');
SELECT lives_ok($$SELECT coder.agent_rpc(pg_temp.agent(), 'UpdateStartup', '{"startup": {"version": "v2.31.0", "expanded_directory": "/", "subsystems": []}}')$$, 'startup');
SELECT throws_ok($$SELECT coder.agent_rpc(pg_temp.agent(), 'UpdateStartup', '{"startup": {"version": "2.31"}}')$$, 'ZC400', NULL, 'a version without v');
SELECT is(coder.agent_rpc(pg_temp.agent(), 'UpdateStats', '{}') ->> 'report_interval', '30000000000', 'stats: the interval');
SELECT lives_ok($$SELECT coder.agent_rpc(pg_temp.agent(), 'UpdateStats', '{"stats": {"connection_count": 1, "session_count_ssh": 1, "rx_bytes": 5, "connections_by_proto": {"TCP": 1}}}')$$, 'stats: a sample');
SELECT is((SELECT rx_bytes FROM coder.workspace_agent_stats)::integer, 5, 'is stored');
SELECT is(coder.rollup_usage(clock_timestamp()), 1, 'and counted by the half hour');
SELECT is((SELECT js #>> '{entries,60,amount}' FROM pg_temp.http('admin', 'GET', '/api/v2/insights/daus?tz_offset=0')), '1', 'its user was active today');
SELECT is((SELECT js #>> '{validations,1,field}' FROM pg_temp.http('admin', 'GET', '/api/v2/insights/user-latency')), 'end_time', 'a report needs its times');
SELECT is((SELECT status FROM pg_temp.http('admin', 'GET', '/api/v2/insights/user-latency?start_time=2020-99-01T00:00:00Z&end_time=2020-01-01T00:00:00Z')), 400, 'a time that is none');
SELECT is((SELECT status FROM pg_temp.http('bob', 'GET', '/api/v2/insights/daus')), 403, 'not for everybody');
SELECT is(coder.agent_rpc(pg_temp.agent(), 'BatchCreateLogs', jsonb_build_object('log_source_id', (SELECT replace(id::text, '-', '') FROM coder.workspace_agent_log_sources LIMIT 1),
	'logs', '[{"output": "hello", "level": "INFO"}, {"output": "done", "level": "ERROR"}]'::jsonb)) ->> 'log_limit_exceeded', 'false', 'logs');
SELECT is((SELECT js #>> '{0,output}' FROM pg_temp.http('admin', 'GET', '/api/v2/workspaceagents/' || pg_temp.agent() || '/logs')), 'hello', 'are shown');
SELECT is((SELECT jsonb_array_length(js #> '{frames,0}') FROM pg_temp.http('admin', 'GET', '/api/v2/workspaceagents/' || pg_temp.agent() || '/logs?follow')), 2, 'and followed');
SELECT is(coder.agent_rpc(pg_temp.agent(), 'BatchCreateLogs', jsonb_build_object('log_source_id', repeat('0', 32), 'logs', jsonb_build_array(jsonb_build_object('output', repeat('x', 1048576))))) ->> 'log_limit_exceeded', 'true', 'logs end at one MiB');
SELECT lives_ok($$SELECT coder.agent_rpc(pg_temp.agent(), 'BatchUpdateMetadata', '{"metadata": [{"key": "uptime", "result": {"value": " 1 day ", "error": ""}}]}')$$, 'metadata');
SELECT is((SELECT js #>> '{frames,0,0,result,value}' FROM pg_temp.http('admin', 'GET', '/api/v2/workspaceagents/' || pg_temp.agent() || '/watch-metadata')), '1 day', 'is shown without blanks');
SELECT lives_ok($$SELECT coder.agent_rpc(pg_temp.agent(), 'BatchUpdateAppHealths', jsonb_build_object('updates', jsonb_build_array(jsonb_build_object('id', (SELECT id FROM coder.workspace_apps), 'health', 'HEALTHY'))))$$, 'app health');
SELECT is((SELECT health::text FROM coder.workspace_apps), 'healthy', 'is stored');
SELECT lives_ok($$SELECT coder.agent_rpc(pg_temp.agent(), 'ReportConnection', '{"connection": {"id": "00000000000040008000000000000c0c", "action": "CONNECT", "type": "SSH", "ip": "localhost", "timestamp": "2026-04-16T00:00:00Z"}}')$$, 'a connection');
SELECT is((SELECT host(ip) FROM coder.connection_logs), '127.0.0.1', 'is logged');
SELECT is(coder.agent_rpc(pg_temp.agent(), 'CreateSubAgent', '{"name": "sub", "directory": "/w", "apps": [{"slug": "Bad Slug"}, {"slug": "ok"}], "display_apps": ["VSCODE"]}') #>> '{app_creation_errors,0,index}', '0', 'a sub-agent; a bad app is told');
SELECT throws_like($$SELECT coder.agent_rpc(pg_temp.agent(), 'CreateSubAgent', '{"name": "sub"}')$$, '%workspace agent name%', 'a name that is taken');
SELECT is(jsonb_array_length(coder.agent_rpc(pg_temp.agent(), 'ListSubAgents', '{}') -> 'agents'), 1, 'sub-agents are listed');
SELECT throws_ok($$SELECT coder.agent_rpc(pg_temp.agent(), 'Nope', '{}')$$, 'ZC501', NULL, 'an unknown method');
SELECT ok(coder.tunnel_allowed('00000000-0000-4000-8000-000000000001', pg_temp.agent()), 'the owner may tunnel');
SELECT ok(NOT coder.tunnel_allowed('00000000-0000-4000-8000-000000000002', pg_temp.agent()), 'another user may not');
SELECT coder.agent_node(pg_temp.agent(), '{"preferred_derp": 999, "derp_latency": {"999-v4": 0.0065}}');
SELECT is((SELECT js #>> '{latency,Coder Embedded Relay,preferred}' FROM pg_temp.http('admin', 'GET', '/api/v2/workspaceagents/' || pg_temp.agent())), 'true', 'the latency of its node');
SELECT is((SELECT js ->> 'agent_id' FROM pg_temp.http('admin', 'GET', '/api/v2/workspaceagents/' || pg_temp.agent() || '/coordinate?version=2.0')), pg_temp.agent()::text, 'coordination of that agent');
SELECT is((SELECT status FROM pg_temp.http('admin', 'GET', '/api/v2/workspaceagents/' || pg_temp.agent() || '/pty')), 400, 'a terminal needs an id');
SELECT is((SELECT js ->> 'width' FROM pg_temp.http('admin', 'GET', '/api/v2/workspaceagents/' || pg_temp.agent() || '/pty?reconnect=00000000-0000-4000-8000-000000000011')), '80', 'a terminal');
SELECT is((SELECT status FROM pg_temp.http('bob', 'GET', '/api/v2/workspaceagents/' || pg_temp.agent() || '/pty?reconnect=00000000-0000-4000-8000-000000000011')), 404, 'not for another user');
SELECT is(jsonb_array_length(coder.workspace_updates('00000000-0000-4000-8000-000000000001', NULL) #> '{update,upserted_agents}'), 2, 'updates: agents');
SELECT coder.agent_life(pg_temp.agent(), 'gone');
SELECT is((SELECT js ->> 'status' FROM pg_temp.http('admin', 'GET', '/api/v2/workspaceagents/' || pg_temp.agent())), 'disconnected', 'disconnected');

-- ---- agent status is one rule ----

SELECT is(coder.agent_status('2026-01-01', f, l, d, t, at), want, want || ' at ' || at)
  FROM (VALUES
	(NULL::timestamptz, NULL::timestamptz, NULL::timestamptz, 0, '2026-01-02'::timestamptz, 'connecting'),
	(NULL, NULL, NULL, 60, '2026-01-01 00:01:00', 'connecting'),
	(NULL, NULL, NULL, 60, '2026-01-01 00:01:01', 'timeout'),
	('2026-01-01', '2026-01-01 00:00:10', NULL, 60, '2026-01-01 00:00:40', 'connected'),
	('2026-01-01', '2026-01-01 00:00:10', NULL, 60, '2026-01-01 00:00:40.000001', 'disconnected'),
	('2026-01-01', '2026-01-01 00:00:10', '2026-01-01 00:00:10', 60, '2026-01-01 00:00:11', 'disconnected'),
	('2026-01-01', '2026-01-01 00:00:10', '2026-01-01 00:00:09', 60, '2026-01-01 00:00:11', 'connected')) v(f, l, d, t, at, want);

-- ---- stop: the token ends with the build ----

SELECT is((SELECT status FROM pg_temp.http('admin', 'POST', pg_temp.ws('/builds'), '{"transition": "fly"}')), 400, 'an unknown transition');
SELECT is((SELECT status FROM pg_temp.http('bob', 'POST', pg_temp.ws('/builds'), '{"transition": "stop"}')), 404, 'not by another user');
SELECT is((SELECT status FROM pg_temp.http('admin', 'POST', pg_temp.ws('/builds'), '{"transition": "stop", "reason": "dashboard"}')), 201, 'stop');
SELECT isnt_empty($$SELECT * FROM coder.agent_subject('00000000-0000-4000-8000-00000000aaaa')$$, 'while it stops the agent still speaks');
SELECT is((SELECT status FROM pg_temp.http('admin', 'PATCH', '/api/v2/workspacebuilds/' || b.id || '/cancel?expect_status=running')), 412, 'not the expected status') FROM coder.workspace_builds b WHERE build_number = 2;
SELECT is((SELECT status FROM pg_temp.http('admin', 'PATCH', '/api/v2/workspacebuilds/' || b.id || '/cancel?expect_status=pending')), 200, 'a pending build is canceled') FROM coder.workspace_builds b WHERE build_number = 2;
SELECT is((SELECT js #>> '{latest_build,status}' FROM pg_temp.http('admin', 'GET', pg_temp.ws(''))), 'canceled', 'at once');
SELECT is((SELECT status FROM pg_temp.http('admin', 'PATCH', '/api/v2/workspacebuilds/' || b.id || '/cancel')), 400, 'once') FROM coder.workspace_builds b WHERE build_number = 2;
SELECT is((SELECT status FROM pg_temp.http('admin', 'POST', pg_temp.ws('/builds'), '{"transition": "stop"}')), 201, 'stop again');
SELECT pg_temp.work('{"workspace_build": {"state": "7b7d", "resources": []}}');
SELECT is((SELECT js #>> '{latest_build,status}' FROM pg_temp.http('admin', 'GET', pg_temp.ws(''))), 'stopped', 'stopped');
SELECT is_empty($$SELECT * FROM coder.agent_subject('00000000-0000-4000-8000-00000000aaaa')$$, 'the token of a stopped workspace is nobody''s');
SELECT is((SELECT status FROM pg_temp.http('00000000-0000-4000-8000-00000000aaaa', 'GET', '/api/v2/workspaceagents/me/gitsshkey')), 401, 'and is refused');
SELECT throws_ok($$SELECT coder.agent_rpc((SELECT id FROM coder.workspace_agents WHERE parent_id IS NULL), 'GetManifest', '{}')$$, 'ZC401', NULL, 'in a call too');
SELECT is((SELECT js #>> '{0,build_number}' FROM pg_temp.http('admin', 'GET', pg_temp.ws('/builds'))), '3', 'builds, newest first');
SELECT is((SELECT js ->> 'build_number' FROM pg_temp.http('admin', 'GET', '/api/v2/users/me/workspace/WS1/builds/1')), '1', 'a build by its number');
SELECT is((SELECT js ->> 'message' FROM pg_temp.http('admin', 'GET', '/api/v2/users/me/workspace/ws1/builds/99')), 'Workspace "ws1" Build 99 does not exist.', 'no such build');
SELECT is((SELECT js::text FROM pg_temp.http('admin', 'GET', '/api/v2/workspacebuilds/' || b.id || '/parameters')), '[{"name": "size", "value": "3"}, {"name": "region", "value": "us"}]', 'parameters in the order given') FROM coder.workspace_builds b WHERE build_number = 1;
SELECT is((SELECT js #>> '{validations,0,field}' FROM pg_temp.http('admin', 'POST', pg_temp.ws('/builds'), '{"transition": "start", "rich_parameter_values": [{"name": "region", "value": "eu"}]}')), 'region', 'an immutable parameter stays');

-- ---- delete ----

SELECT is((SELECT status FROM pg_temp.http('admin', 'POST', pg_temp.ws('/builds'), '{"transition": "delete"}')), 201, 'delete');
SELECT pg_temp.work('{"workspace_build": {"state": "", "resources": []}}');
SELECT is((SELECT status FROM pg_temp.http('admin', 'GET', pg_temp.ws(''))), 410, 'it is gone');
SELECT is((SELECT js #>> '{latest_build,status}' FROM pg_temp.http('admin', 'GET', pg_temp.ws('?include_deleted=true'))), 'deleted', 'but can be seen');
SELECT is((SELECT status FROM pg_temp.http('admin', 'POST', pg_temp.ws('/builds'), '{"transition": "start"}')), 409, 'not started any more');
SELECT throws_ok($$UPDATE coder.workspaces SET deleted = false$$, 'ZC409', NULL, 'nor undeleted by hand');
SELECT is((SELECT js ->> 'count' FROM pg_temp.http('admin', 'GET', '/api/v2/workspaces')), '0', 'not listed');
SELECT is((SELECT status FROM pg_temp.http('admin', 'POST', '/api/v2/users/me/workspaces', '{"template_id": "00000000-0000-4000-8000-0000000000c1", "name": "ws1"}')), 201, 'and its name is free');

SELECT * FROM finish();
ROLLBACK;
