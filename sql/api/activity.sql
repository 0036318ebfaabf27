-- SPDX-License-Identifier: MIT
--
-- activity.sql
--   Samples of what goes on in workspaces: from agents, from clients that say
--   they use one; what a workspace gains by it; the deployment's sums.

CREATE OR REPLACE FUNCTION coder.usage_collected() RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coalesce(coder.setting('stats_collection_usage_stats_enable'), 'true') <> 'false';
END
$$;
COMMENT ON FUNCTION coder.usage_collected() IS
	'Are samples stored and reports made of them? False: by CODER_STATS_COLLECTION_USAGE_STATS_ENABLE.';

CREATE OR REPLACE FUNCTION coder.report_kept(wanted text, age interval) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	k coder.kept_reports;
BEGIN
	SELECT * INTO k FROM coder.kept_reports r WHERE r.name = wanted;
	-- A clock that was set back must not keep a report for longer.
	IF k.made_at > clock_timestamp() - age AND k.made_at <= clock_timestamp() THEN
		RETURN k.report;
	END IF;
	-- Who comes while another makes a new one takes what there is.
	IF k.made_at <= clock_timestamp() AND k.made_at > clock_timestamp() - 3 * age
		AND NOT coder.try_lock('coder.report:' || wanted) THEN
		RETURN k.report;
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION coder.report_kept(text, interval) IS
	'A report that is young enough; NULL: the caller makes one and gives it to coder.report_keep.';

CREATE OR REPLACE FUNCTION coder.report_keep(wanted text, made jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT current_setting('transaction_read_only')::boolean THEN
		INSERT INTO coder.kept_reports AS k (name, made_at, report) VALUES (wanted, clock_timestamp(), made)
		ON CONFLICT (name) DO UPDATE SET made_at = excluded.made_at, report = excluded.report;
	END IF;
END
$$;
COMMENT ON FUNCTION coder.report_keep(text, jsonb) IS 'Keeps a report for coder.report_kept; not on a standby.';

CREATE OR REPLACE FUNCTION coder.sample_fault(agent uuid, negative integer, excessive integer, skewed integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO coder.workspace_agent_sample_faults AS f (agent_id, negative, excessive, skewed, last_at)
	VALUES (agent, sample_fault.negative, sample_fault.excessive, sample_fault.skewed, clock_timestamp())
	ON CONFLICT (agent_id) DO UPDATE SET negative = f.negative + excluded.negative, excessive = f.excessive + excluded.excessive,
		skewed = f.skewed + excluded.skewed, last_at = excluded.last_at;
END
$$;
COMMENT ON FUNCTION coder.sample_fault(uuid, integer, integer, integer) IS 'Counts figures of an agent that were not taken at their word.';

-- Each table is read by its keys, so one plan is right for all; to plan takes longer than to run it.
CREATE OR REPLACE FUNCTION coder.bump_workspaces(used uuid[], at timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
	-- In the order of keys, and past rows that another changes just now: no sample of many waits for one workspace.
	UPDATE coder.workspaces w SET last_used_at = at
	  FROM (SELECT x.id FROM coder.workspaces x WHERE x.id = ANY (used) AND x.last_used_at < at - interval '1 minute'
			 ORDER BY x.id FOR NO KEY UPDATE SKIP LOCKED) u
	 WHERE w.id = u.id AND w.last_used_at < at;
	UPDATE coder.workspace_builds b
	   SET deadline = CASE WHEN d.max_deadline > '0001-01-01 00:00:00+00' THEN least(greatest(d.deadline, d.until), d.max_deadline)
						   ELSE greatest(d.deadline, d.until) END,
		   updated_at = at
	  FROM (SELECT l.id, l.deadline, l.max_deadline, CASE WHEN n.next < at + l.bump THEN n.next + l.ttl ELSE at + l.bump END AS until
			  FROM (SELECT x.id, x.deadline, x.max_deadline, w.autostart_schedule, t.allow_user_autostart, t.autostart_block_days_of_week::integer AS blocked,
						   t.activity_bump / 1000 * interval '1 microsecond' AS bump,
						   coalesce(CASE WHEN t.allow_user_autostop THEN w.ttl ELSE t.default_ttl END, 0) / 1000 * interval '1 microsecond' AS ttl
					  FROM coder.workspaces w
					  JOIN coder.workspace_builds x ON x.id = w.latest_build_id
					  JOIN coder.templates t ON t.id = w.template_id
					  JOIN coder.provisioner_jobs j ON j.id = x.job_id
					 WHERE w.id = ANY (used) AND x.transition = 'start' AND j.completed_at IS NOT NULL AND x.deadline > '0001-01-01 00:00:00+00'
					   AND t.activity_bump / 1000 > 0 AND x.deadline - t.activity_bump / 1000 * interval '1 microsecond' * 0.95 < at
					 ORDER BY x.id FOR NO KEY UPDATE OF x SKIP LOCKED) l,
				   LATERAL (SELECT CASE WHEN l.allow_user_autostart THEN coder.schedule_next(l.autostart_schedule, at, l.blocked) END AS next) n) d
	 WHERE b.id = d.id;
END
$$;
COMMENT ON FUNCTION coder.bump_workspaces(uuid[], timestamptz) IS
	'Somebody works in these workspaces: last_used_at, where it is a minute old, and, near it, the deadline move on. A row that is being changed is left to the next sample.';

-- Each table is read by its keys, so one plan is right for all; to plan takes longer than to run it.
CREATE OR REPLACE FUNCTION coder.samples_add(samples jsonb, by_usage boolean, at timestamptz) RETURNS boolean[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
	most CONSTANT bigint := 1000000;				-- connections, sessions
	most_packets CONSTANT bigint := 1000000000000;
	most_bytes CONSTANT bigint := 1000000000000000;
	most_latency CONSTANT double precision := 3600000;
	by_client CONSTANT boolean := coder.experiment('workspace-usage');
	-- Where clients tell of their sessions, those of agents would count twice.
	v_sessions CONSTANT bigint := CASE WHEN by_client AND NOT by_usage THEN 0 ELSE most END;
	v_collected CONSTANT boolean := coder.usage_collected();
	v_known boolean[];
	v_used uuid[];
	v_owners uuid[];
	v_events text[];
BEGIN
	WITH told AS MATERIALIZED (
		SELECT t.n, t.agent, t.stats, w.workspace, w.owner, w.template
		  FROM (SELECT x.ordinality AS n, (x.value ->> 'agent')::uuid AS agent, x.value #> '{request,stats}' AS stats
				  FROM jsonb_array_elements(samples) WITH ORDINALITY x) t
		  LEFT JOIN LATERAL (SELECT w.id AS workspace, w.owner_id AS owner, w.template_id AS template
							   FROM coder.workspace_agents a
							   JOIN coder.workspace_resources r ON r.id = a.resource_id
							   JOIN coder.workspace_builds b ON b.job_id = r.job_id
							   JOIN coder.workspaces w ON w.id = b.workspace_id
							  WHERE a.id = t.agent
								AND (by_usage OR NOT a.deleted AND NOT w.deleted AND (w.latest_build_id = b.id OR coder.agent_build_current(b)))
							  LIMIT 1) w ON true
	), figures AS MATERIALIZED (
		SELECT t.agent, t.workspace, t.owner, t.template, coalesce(nullif(x.connections_by_proto, 'null'), '{}') AS protos,
			   coalesce(x.connection_count, 0) AS connections, coalesce(x.rx_packets, 0) AS rx_packets, coalesce(x.rx_bytes, 0) AS rx_bytes,
			   coalesce(x.tx_packets, 0) AS tx_packets, coalesce(x.tx_bytes, 0) AS tx_bytes, coalesce(x.connection_median_latency_ms, -1) AS latency,
			   coalesce(x.session_count_vscode, 0) AS vscode, coalesce(x.session_count_jetbrains, 0) AS jetbrains,
			   coalesce(x.session_count_reconnecting_pty, 0) AS pty, coalesce(x.session_count_ssh, 0) AS ssh
		  FROM told t, LATERAL jsonb_to_record(t.stats) AS x (connections_by_proto jsonb, connection_count bigint, rx_packets bigint, rx_bytes bigint,
				tx_packets bigint, tx_bytes bigint, connection_median_latency_ms double precision, session_count_vscode bigint, session_count_jetbrains bigint,
				session_count_reconnecting_pty bigint, session_count_ssh bigint)
		 WHERE t.workspace IS NOT NULL AND jsonb_typeof(t.stats) = 'object'
	), judged AS MATERIALIZED (
		SELECT f.*, p.bad AS bad_protos,
			   (f.connections < 0)::integer + (f.rx_packets < 0)::integer + (f.rx_bytes < 0)::integer + (f.tx_packets < 0)::integer
			   + (f.tx_bytes < 0)::integer + (f.vscode < 0)::integer + (f.jetbrains < 0)::integer + (f.pty < 0)::integer + (f.ssh < 0)::integer AS negative,
			   -- Infinity and NaN are above every number.
			   (greatest(f.connections, f.vscode, f.jetbrains, f.pty, f.ssh) > most)::integer
			   + (greatest(f.rx_packets, f.tx_packets) > most_packets)::integer + (greatest(f.rx_bytes, f.tx_bytes) > most_bytes)::integer
			   + (f.latency > most_latency)::integer + p.bad::integer AS excessive,
			   CASE WHEN by_client THEN least(greatest(f.vscode, f.jetbrains, f.pty, f.ssh), v_sessions) > 0 ELSE f.connections > 0 END AS active
		  FROM figures f, LATERAL (SELECT jsonb_typeof(f.protos) <> 'object' OR octet_length(f.protos::text) > 4096 AS bad OFFSET 0) p
	), stored AS (
		INSERT INTO coder.workspace_agent_stats
			(created_at, user_id, agent_id, workspace_id, template_id, connections_by_proto, connection_count,
			 rx_packets, rx_bytes, tx_packets, tx_bytes, connection_median_latency_ms, session_count_vscode,
			 session_count_jetbrains, session_count_reconnecting_pty, session_count_ssh, usage)
		SELECT at, j.owner, j.agent, j.workspace, j.template, CASE WHEN j.bad_protos THEN '{}' ELSE j.protos END, least(greatest(j.connections, 0), most),
			   least(greatest(j.rx_packets, 0), most_packets), least(greatest(j.rx_bytes, 0), most_bytes),
			   least(greatest(j.tx_packets, 0), most_packets), least(greatest(j.tx_bytes, 0), most_bytes),
			   CASE WHEN j.latency > most_latency OR j.latency < 0 THEN -1 ELSE j.latency END,
			   least(greatest(j.vscode, 0), v_sessions), least(greatest(j.jetbrains, 0), v_sessions), least(greatest(j.pty, 0), v_sessions),
			   least(greatest(j.ssh, 0), v_sessions), by_usage
		  FROM judged j WHERE v_collected
	), faulty AS (
		INSERT INTO coder.workspace_agent_sample_faults AS f (agent_id, negative, excessive, skewed, last_at)
		SELECT j.agent, sum(j.negative), sum(j.excessive), 0, at FROM judged j WHERE j.negative + j.excessive > 0 GROUP BY j.agent ORDER BY j.agent
		ON CONFLICT (agent_id) DO UPDATE SET negative = f.negative + excluded.negative, excessive = f.excessive + excluded.excessive, last_at = excluded.last_at
	)
	SELECT (SELECT array_agg(t.workspace IS NOT NULL ORDER BY t.n) FROM told t), u.used, u.owners, u.events INTO v_known, v_used, v_owners, v_events
	  FROM (SELECT array_agg(x.workspace) AS used, array_agg(x.owner) AS owners,
				   array_agg('{"kind":"stats_update","workspace_id":"' || x.workspace || '","agent_id":"' || x.agent || '"}') AS events
			  FROM judged x WHERE x.active) u;
	IF v_used IS NOT NULL THEN
		PERFORM coder.emit_all(ARRAY(SELECT 'workspace:' || w FROM unnest(v_used) w) || ARRAY(SELECT 'workspace_owner:' || o FROM unnest(v_owners) o), v_events || v_events);
		PERFORM coder.bump_workspaces(v_used, at);
	END IF;
	RETURN v_known;
END
$$;
COMMENT ON FUNCTION coder.samples_add(jsonb, boolean, timestamptz) IS
	'Stores samples, a list of {"agent": id, "request": {"stats": Stats of the agent''s RPC}}, of agents or, by_usage, of clients; impossible figures become the nearest possible and are counted; where somebody works, watchers hear so and the deadline moves with it. False for each agent that is unknown or, but by_usage, whose build is over.';

CREATE OR REPLACE FUNCTION coder.workspace_usage(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w coder.workspaces := coder.param_workspace(req, 'update', 403);
	fields CONSTANT jsonb := '{"vscode": "session_count_vscode", "jetbrains": "session_count_jetbrains",
		"reconnecting-pty": "session_count_reconnecting_pty", "ssh": "session_count_ssh"}';
	body jsonb;
	v_agent uuid;
	v_app text;
BEGIN
	UPDATE coder.workspaces SET last_used_at = now() WHERE id = w.id AND last_used_at < now();
	IF NOT coder.experiment('workspace-usage') OR req.body IS NULL THEN
		RETURN coder.reply(204, NULL::text);
	END IF;
	body := coder.body(req);
	IF coalesce(body ->> 'agent_id', '') <> '' AND coder.try_uuid(body ->> 'agent_id') IS NULL THEN
		PERFORM coder.raise(400, 'Request body must be valid JSON.', format('"%s" is no UUID.', body ->> 'agent_id'));
	END IF;
	v_agent := nullif(coder.try_uuid(body ->> 'agent_id'), '00000000-0000-0000-0000-000000000000');
	v_app := coalesce(body ->> 'app_name', '');
	IF v_agent IS NULL AND v_app = '' THEN
		RETURN coder.reply(204, NULL::text);
	ELSIF v_agent IS NULL THEN
		PERFORM coder.raise(400, 'Invalid request', NULL, jsonb_build_array(coder.validation('agent_id', 'must be set when app_name is set')));
	ELSIF v_app = '' THEN
		PERFORM coder.raise(400, 'Invalid request', NULL, jsonb_build_array(coder.validation('app_name', 'must be set when agent_id is set')));
	ELSIF NOT fields ? v_app THEN
		PERFORM coder.raise(400, 'Invalid request', NULL,
			jsonb_build_array(coder.validation('app_name', 'must be one of [vscode jetbrains reconnecting-pty ssh]')));
	ELSIF NOT EXISTS (SELECT FROM coder.workspace_agents a JOIN coder.workspace_resources r ON r.id = a.resource_id
			JOIN coder.workspace_builds b ON b.job_id = r.job_id WHERE a.id = v_agent AND b.workspace_id = w.id) THEN
		PERFORM coder.raise_not_found();
	END IF;
	PERFORM coder.samples_add(jsonb_build_array(jsonb_build_object('agent', v_agent, 'request', jsonb_build_object('stats',
		jsonb_build_object('connection_count', 1, fields ->> v_app, 1)))), true, clock_timestamp());
	RETURN coder.reply(204, NULL::text);
END
$$;
COMMENT ON FUNCTION coder.workspace_usage(coder.request) IS
	'POST /workspaces/{workspace}/usage: somebody uses it now; with the experiment workspace-usage and agent_id, app_name: by which app. Errors: 400, 403, 404 (also an agent of another workspace).';

CREATE OR REPLACE FUNCTION coder.deployment_sessions(since timestamptz, OUT rx_bytes bigint, OUT tx_bytes bigint, OUT p50 double precision,
	OUT p95 double precision, OUT vscode bigint, OUT ssh bigint, OUT jetbrains bigint, OUT reconnecting_pty bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	-- A session is there while its agent tells of it; one whose agent fell silent is over.
	v_fresh CONSTANT timestamptz := clock_timestamp()
		- greatest(interval '90 seconds', 3 * coder.setting_seconds('agent_stats_refresh_interval', 30) * interval '1 second');
	v_usage CONSTANT boolean := coder.experiment('workspace-usage');
BEGIN
	SELECT coalesce(sum(s.rx_bytes), 0), coalesce(sum(s.tx_bytes), 0),
		   coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY s.connection_median_latency_ms) FILTER (WHERE s.connection_median_latency_ms > 0), -1),
		   coalesce(percentile_cont(0.95) WITHIN GROUP (ORDER BY s.connection_median_latency_ms) FILTER (WHERE s.connection_median_latency_ms > 0), -1)
	  INTO rx_bytes, tx_bytes, p50, p95
	  FROM coder.workspace_agent_stats s WHERE s.created_at > since;
	IF v_usage THEN
		-- A client tells of one session, once a minute.
		SELECT count(DISTINCT s.agent_id) FILTER (WHERE s.session_count_vscode > 0), count(DISTINCT s.agent_id) FILTER (WHERE s.session_count_ssh > 0),
			   count(DISTINCT s.agent_id) FILTER (WHERE s.session_count_jetbrains > 0), count(DISTINCT s.agent_id) FILTER (WHERE s.session_count_reconnecting_pty > 0)
		  INTO vscode, ssh, jetbrains, reconnecting_pty
		  FROM coder.workspace_agent_stats s WHERE s.created_at > v_fresh AND s.usage;
	ELSE
		SELECT coalesce(sum(n.session_count_vscode), 0), coalesce(sum(n.session_count_ssh), 0),
			   coalesce(sum(n.session_count_jetbrains), 0), coalesce(sum(n.session_count_reconnecting_pty), 0)
		  INTO vscode, ssh, jetbrains, reconnecting_pty
		  FROM (SELECT DISTINCT ON (s.agent_id) s.* FROM coder.workspace_agent_stats s
				 WHERE s.created_at > v_fresh AND NOT s.usage ORDER BY s.agent_id, s.created_at DESC) n;
	END IF;
END
$$;
COMMENT ON FUNCTION coder.deployment_sessions(timestamptz) IS
	'Bytes and latency of all workspaces since a time, and the sessions that there are now, by editor.';

CREATE OR REPLACE FUNCTION coder.deployment_report() RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_now CONSTANT timestamptz := clock_timestamp();
	v_since CONSTANT timestamptz := v_now - interval '15 minutes';
	v_next CONSTANT interval := coder.setting_seconds('agent_stats_refresh_interval', 30) * interval '1 second';
	v_counts jsonb;
	x record;
BEGIN
	SELECT jsonb_object_agg(s.state, s.n) INTO v_counts
	  FROM (SELECT CASE WHEN j.job_status = 'pending' THEN 'pending' WHEN j.job_status IN ('running', 'canceling') THEN 'building'
						WHEN j.job_status IN ('failed', 'canceled', 'unknown') THEN 'failed' WHEN b.transition = 'start' THEN 'running' ELSE 'stopped' END AS state,
				   count(*) AS n
			  FROM coder.workspaces w
			  JOIN coder.workspace_builds b ON b.id = w.latest_build_id
			  JOIN coder.provisioner_jobs j ON j.id = b.job_id
			 WHERE NOT w.deleted GROUP BY 1) s;
	x := coder.deployment_sessions(v_since);
	RETURN jsonb_build_object('aggregated_from', coder.ts(v_since), 'collected_at', coder.ts(v_now), 'next_update_at', coder.ts(v_now + v_next),
		'workspaces', '{"pending": 0, "building": 0, "running": 0, "failed": 0, "stopped": 0}' || coalesce(v_counts, '{}')
			|| jsonb_build_object('connection_latency_ms', jsonb_build_object('P50', x.p50, 'P95', x.p95), 'rx_bytes', x.rx_bytes, 'tx_bytes', x.tx_bytes),
		'session_count', jsonb_build_object('vscode', x.vscode, 'ssh', x.ssh, 'jetbrains', x.jetbrains, 'reconnecting_pty', x.reconnecting_pty));
END
$$;
COMMENT ON FUNCTION coder.deployment_report() IS 'DeploymentStats, made now.';

CREATE OR REPLACE FUNCTION coder.deployment_stats(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_report jsonb;
BEGIN
	PERFORM coder.require('read', 'deployment_stats');
	v_report := coder.report_kept('deployment_stats', coder.setting_seconds('agent_stats_refresh_interval', 30) * interval '1 second');
	IF v_report IS NULL THEN
		v_report := coder.deployment_report();
		PERFORM coder.report_keep('deployment_stats', v_report);
	END IF;
	RETURN coder.reply(200, v_report);
END
$$;
COMMENT ON FUNCTION coder.deployment_stats(coder.request) IS
	'GET /deployment/stats: the state of the deployment, made anew at most once an interval of the agents'' statistics.';

CREATE OR REPLACE FUNCTION coder.query_window(req coder.request, longest interval, OUT since timestamptz, OUT until timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_name text;
BEGIN
	FOREACH v_name IN ARRAY '{start_time,end_time}'::text[] LOOP
		IF coalesce(req.query ->> v_name, '') <> '' AND coder.query_time(req, v_name) IS NULL THEN
			PERFORM coder.raise_query(v_name, format('Query param "%s" must be a valid date format (2006-01-02T15:04:05Z07:00)', v_name));
		END IF;
	END LOOP;
	until := coalesce(coder.query_time(req, 'end_time'), clock_timestamp());
	since := coalesce(coder.query_time(req, 'start_time'), until - interval '1 day');
	IF since >= until OR until - since > longest THEN
		PERFORM coder.raise_query('end_time', format('Query param "end_time" must be after "start_time", by no more than %s', longest));
	END IF;
END
$$;
COMMENT ON FUNCTION coder.query_window(coder.request, interval) IS
	'start_time (a day before the end) and end_time (now) of a report; errors: 400.';

CREATE OR REPLACE FUNCTION coder.workspace_samples(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w CONSTANT coder.workspaces := coder.param_workspace(req);
	v_agent CONSTANT uuid := coder.query_uuid(req, 'agent_id');
	most CONSTANT integer := 200;
	r record;
	v_step interval;
	v_points jsonb;
BEGIN
	r := coder.query_window(req, interval '190 days');
	SELECT min(s) INTO v_step FROM unnest('{30 s,1 min,2 min,5 min,15 min,30 min,1 h,3 h,6 h,12 h,1 day}'::interval[]) s
	 WHERE extract(epoch FROM r.until - r.since) <= most * extract(epoch FROM s);
	WITH bin AS (
		SELECT date_bin(v_step, s.created_at, '2000-01-01 00:00:00+00') AS at, s.agent_id, sum(s.rx_bytes) AS rx, sum(s.tx_bytes) AS tx,
			   max(s.connection_count) FILTER (WHERE NOT s.usage) AS connections, max(s.session_count_vscode) AS vscode, max(s.session_count_jetbrains) AS jetbrains,
			   max(s.session_count_ssh) AS ssh, max(s.session_count_reconnecting_pty) AS pty
		  FROM coder.workspace_agent_stats s
		 WHERE s.workspace_id = w.id AND s.created_at >= r.since AND s.created_at < r.until AND (v_agent IS NULL OR s.agent_id = v_agent)
		 GROUP BY 1, 2
	), latency AS (
		SELECT date_bin(v_step, s.created_at, '2000-01-01 00:00:00+00') AS at,
			   percentile_cont(0.5) WITHIN GROUP (ORDER BY s.connection_median_latency_ms) AS p50,
			   percentile_cont(0.95) WITHIN GROUP (ORDER BY s.connection_median_latency_ms) AS p95
		  FROM coder.workspace_agent_stats s
		 WHERE s.workspace_id = w.id AND s.created_at >= r.since AND s.created_at < r.until AND (v_agent IS NULL OR s.agent_id = v_agent)
		   AND s.connection_median_latency_ms > 0
		 GROUP BY 1
	)
	SELECT jsonb_agg(jsonb_build_object('time', coder.ts(b.at), 'rx_bytes', b.rx, 'tx_bytes', b.tx, 'connections', coalesce(b.connections, 0), 'vscode', b.vscode,
			'jetbrains', b.jetbrains, 'ssh', b.ssh, 'reconnecting_pty', b.pty,
			'latency_ms', CASE WHEN l.p50 IS NULL THEN NULL ELSE jsonb_build_object('p50', l.p50, 'p95', l.p95) END) ORDER BY b.at) INTO v_points
	  FROM (SELECT x.at, sum(x.rx) AS rx, sum(x.tx) AS tx, sum(x.connections) AS connections, sum(x.vscode) AS vscode, sum(x.jetbrains) AS jetbrains,
				   sum(x.ssh) AS ssh, sum(x.pty) AS pty FROM bin x GROUP BY x.at) b
	  LEFT JOIN latency l USING (at);
	RETURN coder.reply(200, jsonb_build_object('start_time', coder.ts(r.since), 'end_time', coder.ts(r.until),
		'step_seconds', extract(epoch FROM v_step)::integer, 'points', coalesce(v_points, '[]')));
END
$$;
COMMENT ON FUNCTION coder.workspace_samples(coder.request) IS
	'GET /workspaces/{workspace}/agent-stats?start_time=&end_time=&agent_id=: bytes, latency and sessions over time in up to 200 steps; where agents told nothing there is no point.';

CREATE OR REPLACE FUNCTION coder.boundary_report(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_by CONSTANT text := coalesce(nullif(req.query ->> 'by', ''), 'day');
	v_zone CONSTANT text := coder.query_zone(req);
	v_of uuid[];
	r record;
	v_rows jsonb;
	v_total jsonb;
BEGIN
	IF v_by NOT IN ('day', 'user', 'workspace', 'template', 'organization') THEN
		PERFORM coder.raise_query('by', 'must be one of [day user workspace template organization]');
	END IF;
	v_of := coder.insights_templates_of(req);
	r := coder.query_window(req, interval '190 days');
	-- A start that nobody asked for does not cut what is kept by quarter of an hour.
	IF coalesce(req.query ->> 'start_time', '') = '' THEN
		r.since := date_bin('15 minutes', r.since, '2000-01-01 00:00:00+00');
	END IF;
	WITH u AS MATERIALIZED (
		SELECT x.* FROM coder.boundary_usage(r.since, r.until, v_zone) x WHERE v_of IS NULL OR x.template_id = ANY (v_of)
	), grouped AS (
		SELECT CASE v_by WHEN 'day' THEN u.day::text WHEN 'user' THEN u.user_id::text WHEN 'workspace' THEN u.workspace_id::text
				WHEN 'template' THEN u.template_id::text ELSE u.organization_id::text END AS key,
			   sum(u.allowed) AS allowed, sum(u.denied) AS denied, sum(u.reports) AS reports, count(DISTINCT u.user_id) AS users, count(DISTINCT u.workspace_id) AS workspaces
		  FROM u GROUP BY 1
	), shown AS (
		SELECT g.* FROM grouped g ORDER BY CASE WHEN v_by = 'day' THEN g.key END, g.allowed + g.denied DESC, g.key LIMIT 500
	)
	SELECT (SELECT jsonb_agg(jsonb_build_object('key', s.key, 'name', coalesce(CASE v_by WHEN 'day' THEN s.key
					WHEN 'user' THEN (SELECT x.username FROM coder.users x WHERE x.id = s.key::uuid)
					WHEN 'workspace' THEN (SELECT o.username || '/' || x.name FROM coder.workspaces x JOIN coder.users o ON o.id = x.owner_id WHERE x.id = s.key::uuid)
					WHEN 'template' THEN (SELECT x.name FROM coder.templates x WHERE x.id = s.key::uuid)
					ELSE (SELECT x.name FROM coder.organizations x WHERE x.id = s.key::uuid) END, ''),
				'allowed', s.allowed, 'denied', s.denied, 'reports', s.reports, 'users', s.users, 'workspaces', s.workspaces)
				ORDER BY CASE WHEN v_by = 'day' THEN s.key END, s.allowed + s.denied DESC, s.key) FROM shown s),
		   jsonb_build_object('allowed', coalesce(sum(u.allowed), 0), 'denied', coalesce(sum(u.denied), 0), 'reports', coalesce(sum(u.reports), 0),
				'users', count(DISTINCT u.user_id), 'workspaces', count(DISTINCT u.workspace_id), 'rows', (SELECT count(*) FROM grouped))
	  INTO v_rows, v_total FROM u;
	RETURN coder.reply(200, jsonb_build_object('report', jsonb_build_object('start_time', coder.ts(r.since), 'end_time', coder.ts(r.until), 'by', v_by,
		'total', v_total, 'rows', coalesce(v_rows, '[]'))));
EXCEPTION WHEN invalid_parameter_value THEN
	PERFORM coder.raise(400, 'Query parameters have invalid values.', SQLERRM);
END
$$;
COMMENT ON FUNCTION coder.boundary_report(coder.request) IS
	'GET /insights/boundary-usage?start_time=&end_time=&by=&timezone=&template_ids=: requests that boundaries allowed and denied, by day, user, workspace, template or organization; the first 500 rows.';

DELETE FROM coder.routes WHERE area = 'activity';
INSERT INTO coder.routes (area, method, pattern, function, read_only) VALUES
	('activity', 'POST', '/api/v2/workspaces/{workspace}/usage', 'workspace_usage', false),
	('activity', 'GET', '/api/v2/deployment/stats', 'deployment_stats', false);
INSERT INTO coder.routes (area, method, pattern, function, pool, read_only) VALUES
	('activity', 'GET', '/api/v2/workspaces/{workspace}/agent-stats', 'workspace_samples', 'slow', true),
	('activity', 'GET', '/api/v2/insights/boundary-usage', 'boundary_report', 'slow', true);
