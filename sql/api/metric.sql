-- SPDX-License-Identifier: MIT
--
-- metric.sql
--   What the database knows, in Prometheus' text format.
--
-- All of one scrape is of one snapshot and one time: statuses are derived by
-- coder.agent_status, the function of the API and of list filters, so that no
-- agent is called disconnected because a collector was slow.  Names, labels and
-- types are the reference's where it has them.  Series hang from what there is
-- (workspaces, agents, apps, templates), never from what somebody may send.

CREATE OR REPLACE FUNCTION coder.metric(name text, type text, help text, query text, at timestamptz, buckets float8[] DEFAULT NULL)
RETURNS text
AS 'MODULE_PATHNAME', 'coder_metric'
LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION coder.metric(text, text, text, text, timestamptz, float8[]) IS
	'A family of metrics of a query, whose $1 is the time: the last column is the value (float8[] of a histogram: what was observed), the others are labels by their names; values are escaped.';

CREATE OR REPLACE VIEW coder.metric_agents AS
SELECT a.id, a.name AS agent_name, u.username, w.name AS workspace_name, t.name AS template_name,
	   coalesce(nullif(v.name, ''), 'unknown') AS template_version,
	   a.created_at, a.first_connected_at, a.last_connected_at, a.disconnected_at, a.connection_timeout_seconds, a.lifecycle_state
  FROM coder.workspaces w
  JOIN coder.workspace_builds b ON b.id = w.latest_build_id
  JOIN coder.workspace_resources r ON r.job_id = b.job_id
  JOIN coder.workspace_agents a ON a.resource_id = r.id
  JOIN coder.users u ON u.id = w.owner_id
  JOIN coder.templates t ON t.id = w.template_id
  LEFT JOIN coder.template_versions v ON v.id = b.template_version_id
 WHERE NOT w.deleted AND NOT a.deleted;
COMMENT ON VIEW coder.metric_agents IS 'Agents of the latest builds of workspaces, with the names that are labels.';

CREATE OR REPLACE VIEW coder.metric_builds AS
SELECT w.name AS workspace_name, u.username AS workspace_owner, w.deleted, w.latest_build_id = b.id AS latest, b.transition, b.reason, b.build_number,
	   t.name AS template_name, coalesce(nullif(v.name, ''), 'unknown') AS template_version, o.name AS organization_name,
	   coalesce(p.name, '') AS preset_name, j.provisioner, j.job_status, j.created_at, j.started_at, j.completed_at, w.id AS workspace_id
  FROM coder.workspace_builds b
  JOIN coder.provisioner_jobs j ON j.id = b.job_id
  JOIN coder.workspaces w ON w.id = b.workspace_id
  JOIN coder.users u ON u.id = w.owner_id
  JOIN coder.templates t ON t.id = w.template_id
  JOIN coder.organizations o ON o.id = w.organization_id
  LEFT JOIN coder.template_versions v ON v.id = b.template_version_id
  LEFT JOIN coder.template_version_presets p ON p.id = b.template_version_preset_id;
COMMENT ON VIEW coder.metric_builds IS 'Builds with their jobs, and the names that are labels.';

CREATE OR REPLACE FUNCTION coder.metrics_people(at timestamptz DEFAULT statement_timestamp()) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN NEXT coder.metric('coderd_api_active_users_duration_hour', 'gauge', 'Users whose tokens were used within the last hour.',
		'SELECT count(DISTINCT k.user_id) FROM coder.api_keys k WHERE k.last_used > $1 - interval ''1 hour''', at);
	RETURN NEXT coder.metric('coderd_api_total_user_count', 'gauge', 'Users by status.',
		'SELECT u.status, count(*) FROM coder.users u WHERE NOT u.deleted AND NOT u.is_system GROUP BY 1', at);
	RETURN NEXT coder.metric('coderd_provisionerd_num_daemons', 'gauge', 'Provisioners that were heard of within the last 90 seconds.',
		'SELECT count(*) FROM coder.provisioner_daemons d WHERE d.last_seen_at > $1 - interval ''90 seconds''', at);
	RETURN NEXT coder.metric('coderd_build_info', 'gauge', 'The version that runs.', 'SELECT coder.version() AS version, '''' AS revision, 1', at);
END
$$;
COMMENT ON FUNCTION coder.metrics_people(timestamptz) IS 'Families of metrics of users and provisioners at a time.';

CREATE OR REPLACE FUNCTION coder.metrics_database(at timestamptz DEFAULT statement_timestamp()) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN NEXT coder.metric('coder_db_backends', 'gauge', 'Connections to the database by what they do.',
		'SELECT coalesce(a.state, ''background'') AS state, count(*) FROM pg_stat_activity a WHERE a.datname = current_database() GROUP BY 1', at);
	RETURN NEXT coder.metric('coder_db_oldest_transaction_seconds', 'gauge', 'Age of the oldest transaction that is open.',
		'SELECT coalesce(max(extract(epoch FROM clock_timestamp() - a.xact_start)), 0)::float8 FROM pg_stat_activity a WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()', at);
	RETURN NEXT coder.metric('coder_db_transactions_total', 'counter', 'Transactions by how they ended.',
		'SELECT x.outcome, x.n FROM pg_stat_database d, LATERAL (VALUES (''commit'', d.xact_commit), (''rollback'', d.xact_rollback)) x(outcome, n) WHERE d.datname = current_database()', at);
	RETURN NEXT coder.metric('coder_db_blocks_total', 'counter', 'Blocks by where they were found.',
		'SELECT x.source, x.n FROM pg_stat_database d, LATERAL (VALUES (''cache'', d.blks_hit), (''read'', d.blks_read)) x(source, n) WHERE d.datname = current_database()', at);
	RETURN NEXT coder.metric('coder_db_deadlocks_total', 'counter', 'Deadlocks that were resolved.',
		'SELECT d.deadlocks FROM pg_stat_database d WHERE d.datname = current_database()', at);
	RETURN NEXT coder.metric('coder_db_size_bytes', 'gauge', 'Size of the database.', 'SELECT pg_database_size(current_database())', at);
	RETURN NEXT coder.metric('coder_events_backlog', 'gauge', 'Events that are kept for watchers, for ten minutes; above 50,000 as PostgreSQL estimates.',
		'SELECT CASE WHEN e.n > 50000 THEN greatest(e.n, s.n_live_tup) ELSE e.n END FROM (SELECT count(*) AS n FROM (SELECT FROM coder.events LIMIT 50001) x) e, pg_stat_all_tables s
		  WHERE s.relid = ''coder.events''::regclass', at);
	RETURN NEXT coder.metric('coder_notify_queue_usage_ratio', 'gauge', 'How full the queue of NOTIFY is.', 'SELECT pg_notification_queue_usage()', at);
	RETURN NEXT coder.metric('coder_tick_seconds', 'gauge', 'How long the last sampled coder.tick() took.',
		'SELECT s.seconds FROM coder.tick_state s WHERE s.name = ''tick''', at);
	RETURN NEXT coder.metric('coder_tick_age_seconds', 'gauge', 'Since when coder.tick() was not sampled; it is every 15 seconds.',
		'SELECT extract(epoch FROM $1 - s.last_at)::float8 FROM coder.tick_state s WHERE s.name = ''tick''', at);
	RETURN NEXT coder.metric('coder_boundary_period', 'gauge', 'Boundary usage of the open period.',
		'SELECT x.what, x.n FROM (SELECT coalesce(sum(s.allowed_requests), 0) AS a, coalesce(sum(s.denied_requests), 0) AS d, coalesce(sum(s.reports), 0) AS r,
				coalesce(sum(s.repeated_reports), 0) AS p, coalesce(sum(s.ignored_requests), 0) AS i, coalesce(sum(s.skewed_requests), 0) AS k, coalesce(sum(s.dropped_requests), 0) AS o,
				coalesce(sum(s.unique_users_count), 0) AS u, coalesce(sum(s.unique_workspaces_count), 0) AS w FROM coder.boundary_usage_stats s) t,
			LATERAL (VALUES (''allowed'', a), (''denied'', d), (''reports'', r), (''repeated'', p), (''ignored'', i), (''skewed'', k), (''dropped'', o), (''users'', u), (''workspaces'', w)) x(what, n)', at);
END
$$;
COMMENT ON FUNCTION coder.metrics_database(timestamptz) IS 'Families of metrics of PostgreSQL and of what runs in it.';

CREATE OR REPLACE FUNCTION coder.metrics_work(at timestamptz DEFAULT statement_timestamp()) RETURNS SETOF text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_usual CONSTANT float8[] := '{0.005,0.01,0.025,0.05,0.1,0.25,0.5,1,2.5,5,10}';
	v_purge CONSTANT float8[] := '{1,5,10,30,60,300,600}';
	v_decision CONSTANT float8[] := '{0.0005,0.001,0.002,0.003,0.005,0.01,0.02,0.035,0.05,0.075,0.1,0.25,0.75,1}';
BEGIN
	RETURN NEXT coder.metric('coderd_lifecycle_autobuild_execution_duration_seconds', 'histogram', 'How long it took to start and stop what was due, each second.',
		format('SELECT t.seconds, coder.stat_rebucket(t.bounds, t.buckets, %L) FROM coder.stat_timers() t WHERE t.name = ''autobuild''', v_usual), at, v_usual);
	RETURN NEXT coder.metric('coderd_dbpurge_iteration_duration_seconds', 'histogram', 'How long batches of the purge took.',
		format('SELECT ''true'' AS success, t.seconds, coder.stat_rebucket(t.bounds, t.buckets, %L) FROM coder.stat_timers() t WHERE t.name = ''purge''', v_purge), at, v_purge);
	RETURN NEXT coder.metric('coderd_dbpurge_records_purged_total', 'counter', 'Rows that were deleted for their age.',
		'SELECT substr(t.name, 7) AS record_type, t.items FROM coder.stat_timers() t WHERE starts_with(t.name, ''purge '')', at);
	RETURN NEXT coder.metric('coderd_authz_authorize_duration_seconds', 'histogram', 'Decisions about rights; one of 128 is timed and counted here.',
		format('SELECT CASE t.name WHEN ''authorize allowed'' THEN ''true'' ELSE ''false'' END AS allowed, t.seconds, coder.stat_rebucket(t.bounds, t.buckets, %L)
			FROM coder.stat_timers() t WHERE t.name IN (''authorize allowed'', ''authorize denied'')', v_decision), at, v_decision);
	RETURN NEXT coder.metric('coderd_authz_prepare_authorize_duration_seconds', 'histogram', 'Rules of lists that were made; one of 16 is timed and counted here.',
		format('SELECT t.seconds, coder.stat_rebucket(t.bounds, t.buckets, %L) FROM coder.stat_timers() t WHERE t.name = ''authorize prepare''', v_decision), at, v_decision);
	RETURN NEXT coder.metric('coder_authz_decisions_total', 'counter', 'Decisions about rights.',
		'SELECT CASE c.name WHEN ''allowed'' THEN ''true'' ELSE ''false'' END AS allowed, c.count FROM coder.stat_counters() c WHERE c.name IN (''allowed'', ''denied'')', at);
	RETURN NEXT coder.metric('coder_cache_lookups_total', 'counter', 'Lookups in what is kept: subjects by token and answers of lists in backends, configuration in runners of chats.',
		'SELECT split_part(c.name, ''_'', 1) AS cache, split_part(c.name, ''_'', 2) AS result, c.count FROM coder.stat_counters() c WHERE c.name ~ ''_(hit|miss)$''', at);
	RETURN NEXT coder.metric('coder_cache_invalidations_total', 'counter', 'Messages that what is kept has changed.',
		'SELECT CASE c.name WHEN ''invalidation'' THEN ''subject'' ELSE ''chat'' END AS cache, c.count FROM coder.stat_counters() c WHERE c.name IN (''invalidation'', ''chat_invalidation'')', at);
	RETURN NEXT coder.metric('coder_cache_emptied_total', 'counter', 'How often all was dropped, as changes may have been missed: at the beginning, and when a listener was lost.',
		'SELECT ''chat'' AS cache, c.count FROM coder.stat_counters() c WHERE c.name = ''chat_emptied''', at);
	RETURN NEXT coder.metric('coder_pubsub_publishes_total', 'counter', 'Events that were sent; those of transactions that failed are among them.',
		'SELECT ''true'' AS success, c.count FROM coder.stat_counters() c WHERE c.name = ''event''', at);
	RETURN NEXT coder.metric('coder_pubsub_published_bytes_total', 'counter', 'Bytes of events that were sent.',
		'SELECT c.count FROM coder.stat_counters() c WHERE c.name = ''event_bytes''', at);
	RETURN NEXT coder.metric('coder_boundary_reports_faulty_total', 'counter', 'Reports of boundaries that were refused, and that had a figure made the nearest possible.',
		'SELECT substr(c.name, 10) AS fault, c.count FROM coder.stat_counters() c WHERE c.name IN (''boundary_refused'', ''boundary_clamped'')', at);
	RETURN NEXT coder.metric('coder_requests_handled_total', 'counter', 'Requests that backends answered.',
		'SELECT c.count FROM coder.stat_counters() c WHERE c.name = ''request''', at);
	RETURN NEXT coder.metric('coder_tick_steps_total', 'counter', 'Rounds of the background worker and their steps, by how they ended.',
		'SELECT t.name AS step, x.result, x.n FROM coder.stat_timers() t, LATERAL (VALUES (''done'', t.runs - t.failed), (''failed'', t.failed)) x(result, n)
		  WHERE t.name !~ ''^(authorize|purge|refused) ''', at);
	RETURN NEXT coder.metric('coder_tick_step_seconds_total', 'counter', 'Time that they took.',
		'SELECT t.name AS step, t.seconds FROM coder.stat_timers() t WHERE t.name !~ ''^(authorize|purge|refused) ''', at);
	RETURN NEXT coder.metric('coder_tick_round_seconds', 'gauge', 'How long the last round of the background worker took.',
		'SELECT t.last FROM coder.stat_timers() t WHERE t.name = ''round''', at);
END
$$;
COMMENT ON FUNCTION coder.metrics_work(timestamptz) IS 'Families of metrics of what backends and the background worker count since the server started.';

CREATE OR REPLACE FUNCTION coder.metrics_parts(at timestamptz) RETURNS SETOF text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY SELECT coder.metrics_people(at);
	RETURN QUERY SELECT coder.metrics_agent_stats(at);
	RETURN QUERY SELECT coder.metrics_insights(at);
	RETURN QUERY SELECT coder.metrics_work(at);
	RETURN QUERY SELECT coder.metrics_database(at);
END
$$;
COMMENT ON FUNCTION coder.metrics_parts(timestamptz) IS 'The families of coder.metrics() that are not of workspaces, builds and agents.';

CREATE OR REPLACE FUNCTION coder.metrics(at timestamptz DEFAULT statement_timestamp()) RETURNS SETOF text
AS 'MODULE_PATHNAME', 'coder_metrics'
LANGUAGE C STABLE PARALLEL UNSAFE ROWS 100;
COMMENT ON FUNCTION coder.metrics(timestamptz) IS
	'What the database knows at a time in Prometheus'' text format, a piece of the text a row, all of one snapshot: however slowly it is fetched, it says the same. Each table is read once.';

CREATE OR REPLACE FUNCTION coder.debug_metrics(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v coder.response;
BEGIN
	PERFORM coder.require('read', 'debug_info');
	v := coder.reply(200, (SELECT string_agg(m, '') FROM (SELECT coder.metrics()) x (m)));
	v.headers := E'Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n';
	RETURN v;
END
$$;
COMMENT ON FUNCTION coder.debug_metrics(coder.request) IS
	'GET /debug/metrics: what the database knows, as Prometheus would get it; what the gateway counts itself is at the Prometheus address and /metrics.';

DELETE FROM coder.routes WHERE area = 'metric';
INSERT INTO coder.routes (area, method, pattern, function, pool, read_only) VALUES
	('metric', 'GET', '/api/v2/debug/metrics', 'debug_metrics', 'slow', false);
