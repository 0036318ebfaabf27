-- SPDX-License-Identifier: MIT
--
-- buildlog.sql
--   Logs and timings of builds.

-- ---- logs ----

CREATE OR REPLACE FUNCTION coder.build_log_json(l coder.provisioner_job_logs) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN '{"id":' || l.id || ',"created_at":"' || coder.ts(l.created_at) || '","log_source":"' || l.source
		|| '","log_level":"' || l.level || '","stage":' || coder.compact(to_json(l.stage::text))
		|| ',"output":' || coder.compact(to_json(l.output::text)) || '}';
END
$$;
COMMENT ON FUNCTION coder.build_log_json(coder.provisioner_job_logs) IS 'JSON of a line of a job''s log.';

CREATE OR REPLACE FUNCTION coder.query_after(req coder.request) RETURNS bigint
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v text := coalesce(req.query ->> 'after', '');
BEGIN
	IF v = '' THEN
		RETURN 0;
	END IF;
	IF v !~ '^[+-]?\d{1,18}$' THEN
		PERFORM coder.raise(400, 'Query param "after" must be an integer.', NULL,
			jsonb_build_array(coder.validation('after', 'Must be an integer')));
	END IF;
	RETURN v::bigint;
END
$$;
COMMENT ON FUNCTION coder.query_after(coder.request) IS 'The query parameter after of a log; errors: 400.';

CREATE OR REPLACE FUNCTION coder.build_logs_follow(job uuid, after bigint, cursor text) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_after bigint := coalesce(cursor::bigint, after);
	v_batch constant integer := 1000;
	v_done boolean;
	v_rows integer;
	v_last bigint;
	v_frames text;
BEGIN
	-- The job first: lines are never added behind its end.
	SELECT p.completed_at IS NOT NULL INTO v_done FROM coder.provisioner_jobs p WHERE p.id = job;
	SELECT string_agg(coder.build_log_json(l), ',' ORDER BY l.id), max(l.id), count(*)
	  INTO v_frames, v_last, v_rows
	  FROM (SELECT x.* FROM coder.provisioner_job_logs x WHERE x.job_id = job AND x.id > v_after
			 ORDER BY x.id LIMIT v_batch) l;
	RETURN coder.reply(101, '{"format":"wsjson","channels":["build_logs:' || job || '"],"frames":['
		|| coalesce(v_frames, '') || '],"cursor":"' || coalesce(v_last, v_after) || '","close":'
		|| CASE WHEN v_done AND v_rows < v_batch THEN 'true' ELSE 'false' END
		|| CASE WHEN v_rows = v_batch THEN ',"retry_ms":1' ELSE '' END || '}');
END
$$;
COMMENT ON FUNCTION coder.build_logs_follow(uuid, bigint, text) IS
	'Stream of a job''s log: the lines behind after, then new ones; ends with the job.';

CREATE OR REPLACE FUNCTION coder.build_logs_reply(req coder.request, job uuid) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_after bigint := coder.query_after(req);
	v_format text := coalesce(nullif(req.query ->> 'format', ''), 'json');
	v_text text;
	v coder.response;
BEGIN
	IF v_format NOT IN ('json', 'text') THEN
		PERFORM coder.raise(400, 'Invalid format parameter.', 'Allowed values are "json" and "text".');
	END IF;
	IF req.query ? 'follow' THEN
		IF v_format = 'text' THEN
			PERFORM coder.raise(400, 'Text format is not supported with follow mode.');
		END IF;
		RETURN coder.build_logs_follow(job, v_after, req.cursor);
	END IF;
	IF v_format = 'text' THEN
		SELECT string_agg(coder.ts(l.created_at) || ' [' || l.level || '] [provisioner|' || l.stage || '] '
						  || l.output || E'\n', '' ORDER BY l.id) INTO v_text
		  FROM coder.provisioner_job_logs l WHERE l.job_id = job AND l.id > v_after;
		v.status := 200;
		v.headers := E'Content-Type: text/plain; charset=utf-8\r\n';
		v.raw := convert_to(coalesce(v_text, ''), 'UTF8');
		RETURN v;
	END IF;
	SELECT string_agg(coder.build_log_json(l), ',' ORDER BY l.id) INTO v_text
	  FROM coder.provisioner_job_logs l WHERE l.job_id = job AND l.id > v_after;
	RETURN coder.reply(200, '[' || coalesce(v_text, '') || ']');
END
$$;
COMMENT ON FUNCTION coder.build_logs_reply(coder.request, uuid) IS
	'The answer of every route that shows a job''s log: after, format, follow.';

CREATE OR REPLACE FUNCTION coder.build_logs(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	b coder.workspace_builds := coder.param_build(req);
BEGIN
	RETURN coder.build_logs_reply(req, b.job_id);
END
$$;
COMMENT ON FUNCTION coder.build_logs(coder.request) IS 'GET /workspacebuilds/{workspacebuild}/logs.';

-- ---- timings ----

CREATE OR REPLACE FUNCTION coder.build_timings_json(build uuid) RETURNS json
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_job uuid;
	v_provisioner json;
	v_scripts json;
	v_connections json;
BEGIN
	SELECT b.job_id INTO v_job FROM coder.workspace_builds b WHERE b.id = build;
	SELECT json_agg(json_build_object('job_id', t.job_id, 'started_at', coder.ts(t.started_at),
			'ended_at', coder.ts(t.ended_at), 'stage', t.stage, 'source', t.source, 'action', t.action,
			'resource', t.resource) ORDER BY t.started_at) INTO v_provisioner
	  FROM coder.provisioner_job_timings t WHERE t.job_id = v_job;
	SELECT json_agg(json_build_object('started_at', coder.ts(t.started_at), 'ended_at', coder.ts(t.ended_at),
			'exit_code', t.exit_code, 'stage', t.stage, 'status', t.status, 'display_name', s.display_name,
			'workspace_agent_id', a.id, 'workspace_agent_name', a.name) ORDER BY t.started_at) INTO v_scripts
	  FROM coder.workspace_resources r
	  JOIN coder.workspace_agents a ON a.resource_id = r.id
	  JOIN coder.workspace_agent_scripts s ON s.workspace_agent_id = a.id
	  JOIN coder.workspace_agent_script_timings t ON t.script_id = s.id
	 WHERE r.job_id = v_job;
	SELECT json_agg(json_build_object('started_at', coder.ts(a.created_at),
			'ended_at', coder.ts(a.first_connected_at), 'stage', 'connect',
			'workspace_agent_id', a.id, 'workspace_agent_name', a.name) ORDER BY a.created_at) INTO v_connections
	  FROM coder.workspace_resources r JOIN coder.workspace_agents a ON a.resource_id = r.id
	 WHERE r.job_id = v_job AND a.first_connected_at IS NOT NULL;
	RETURN json_build_object('provisioner_timings', coalesce(v_provisioner, '[]'),
		'agent_script_timings', coalesce(v_scripts, '[]'),
		'agent_connection_timings', coalesce(v_connections, '[]'));
END
$$;
COMMENT ON FUNCTION coder.build_timings_json(uuid) IS 'WorkspaceBuildTimings of a build.';

CREATE OR REPLACE FUNCTION coder.build_timings(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	b coder.workspace_builds := coder.param_build(req);
BEGIN
	RETURN coder.reply(200, coder.build_timings_json(b.id));
END
$$;
COMMENT ON FUNCTION coder.build_timings(coder.request) IS
	'GET /workspacebuilds/{workspacebuild}/timings.';

CREATE OR REPLACE FUNCTION coder.workspace_timings(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w coder.workspaces := coder.param_workspace(req);
BEGIN
	RETURN coder.reply(200, coder.build_timings_json(w.latest_build_id));
END
$$;
COMMENT ON FUNCTION coder.workspace_timings(coder.request) IS
	'GET /workspaces/{workspace}/timings: of the latest build.';

DELETE FROM coder.routes WHERE area = 'buildlog';
INSERT INTO coder.routes (area, method, pattern, function) VALUES
	('buildlog', 'GET', '/api/v2/workspaces/{workspace}/timings', 'workspace_timings'),
	('buildlog', 'GET', '/api/v2/workspacebuilds/{workspacebuild}/logs', 'build_logs'),
	('buildlog', 'GET', '/api/v2/workspacebuilds/{workspacebuild}/timings', 'build_timings');
