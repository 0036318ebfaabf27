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

CREATE OR REPLACE FUNCTION coder.metrics_agents(at timestamptz DEFAULT statement_timestamp()) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN NEXT coder.metric('coderd_agents_up', 'gauge', 'The number of agents of a workspace.',
		'SELECT username, workspace_name, template_name, template_version, count(*) FROM coder.metric_agents GROUP BY 1, 2, 3, 4', at);
	RETURN NEXT coder.metric('coderd_agents_connections', 'gauge', 'Agents by the state of their connection and lifecycle.',
		'SELECT m.agent_name, m.username, m.workspace_name, coder.agent_status(m.created_at, m.first_connected_at, m.last_connected_at,
				m.disconnected_at, m.connection_timeout_seconds, $1) AS status, m.lifecycle_state,
				coalesce(n.node ->> ''id'', ''unknown'') AS tailnet_node, 1
		   FROM coder.metric_agents m LEFT JOIN coder.workspace_agent_nodes n ON n.agent_id = m.id', at);
	RETURN NEXT coder.metric('coderd_agents_connection_latencies_seconds', 'gauge', 'Latency of agents to relays, as they measured it last.',
		'SELECT m.agent_name, m.username, m.workspace_name, l.key AS derp_region, coalesce(l.value ->> ''preferred'', ''false'') AS preferred,
				(l.value ->> ''latency_ms'')::float8 / 1000
		   FROM coder.metric_agents m JOIN coder.workspace_agent_nodes n ON n.agent_id = m.id, jsonb_each(n.latency) l
		  WHERE jsonb_typeof(n.latency) = ''object'' AND jsonb_typeof(l.value -> ''latency_ms'') = ''number''', at);
	RETURN NEXT coder.metric('coderd_agents_apps', 'gauge', 'Apps of agents by their health.',
		'SELECT m.agent_name, m.username, m.workspace_name, p.display_name AS app_name, p.health, count(*)
		   FROM coder.metric_agents m JOIN coder.workspace_apps p ON p.agent_id = m.id GROUP BY 1, 2, 3, 4, 5', at);
	RETURN NEXT coder.metric('coderd_agents_first_connection_seconds', 'histogram', 'From the making of agents to their first connection.',
		'SELECT template_name, agent_name, array_agg(extract(epoch FROM first_connected_at - created_at)::float8)
		   FROM coder.metric_agents WHERE first_connected_at IS NOT NULL GROUP BY 1, 2', at,
		'{1,10,30,60,120,300,600,1800,3600}');
END
$$;
COMMENT ON FUNCTION coder.metrics_agents(timestamptz) IS
	'Families of metrics of agents as they were at a time; a collector that renders them later says nothing else.';

CREATE OR REPLACE FUNCTION coder.metrics_workspaces(at timestamptz DEFAULT statement_timestamp()) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_build CONSTANT float8[] := '{1,10,30,60,300,600,1800,3600}';
BEGIN
	RETURN NEXT coder.metric('coderd_api_active_users_duration_hour', 'gauge', 'Users whose tokens were used within the last hour.',
		'SELECT count(DISTINCT k.user_id) FROM coder.api_keys k WHERE k.last_used > $1 - interval ''1 hour''', at);
	RETURN NEXT coder.metric('coderd_api_total_user_count', 'gauge', 'Users by status.',
		'SELECT u.status, count(*) FROM coder.users u WHERE NOT u.deleted AND NOT u.is_system GROUP BY 1', at);
	RETURN NEXT coder.metric('coderd_api_workspace_latest_build', 'gauge', 'Workspaces by the status of their latest build.',
		'SELECT job_status AS status, count(*) FROM coder.metric_builds WHERE latest AND NOT deleted GROUP BY 1', at);
	RETURN NEXT coder.metric('coderd_workspace_latest_build_status', 'gauge', 'Workspaces by the status of their latest build, template and owner.',
		'SELECT job_status AS status, template_name, template_version, workspace_owner, transition AS workspace_transition, count(*)
		   FROM coder.metric_builds WHERE latest AND NOT deleted GROUP BY 1, 2, 3, 4, 5', at);
	RETURN NEXT coder.metric('coderd_workspace_creation_total', 'counter', 'Workspaces that came up.',
		'SELECT f.organization_name, f.template_name, f.preset_name, count(*)
		   FROM (SELECT DISTINCT ON (workspace_id) organization_name, template_name, preset_name FROM coder.metric_builds
				  WHERE transition = ''start'' AND job_status = ''succeeded'' ORDER BY workspace_id, build_number) f GROUP BY 1, 2, 3', at);
	RETURN NEXT coder.metric('coderd_workspace_creation_duration_seconds', 'histogram', 'First builds of workspaces, from the request to the end.',
		'SELECT organization_name, template_name, preset_name, ''regular'' AS type, array_agg(extract(epoch FROM completed_at - created_at)::float8)
		   FROM coder.metric_builds WHERE build_number = 1 AND transition = ''start'' AND job_status = ''succeeded'' GROUP BY 1, 2, 3', at, v_build);
	RETURN NEXT coder.metric('coderd_workspace_builds_enqueued_total', 'counter', 'Builds that were asked for.',
		'SELECT provisioner AS provisioner_type, reason AS build_reason, transition, ''success'' AS status, count(*) FROM coder.metric_builds GROUP BY 1, 2, 3', at);
	RETURN NEXT coder.metric('coderd_workspace_builds_total', 'counter', 'Builds that ended, of workspaces that there are.',
		'SELECT workspace_owner, workspace_name, template_name, template_version, transition AS workspace_transition,
				CASE job_status WHEN ''succeeded'' THEN ''success'' ELSE ''failed'' END AS status, count(*)
		   FROM coder.metric_builds WHERE completed_at IS NOT NULL AND NOT deleted GROUP BY 1, 2, 3, 4, 5, 6', at);
	RETURN NEXT coder.metric('coderd_provisioner_job_queue_wait_seconds', 'histogram', 'From the making of jobs to a provisioner that took them.',
		'SELECT j.provisioner AS provisioner_type, j.type AS job_type, coalesce(b.transition::text, '''') AS transition, coalesce(b.reason::text, '''') AS build_reason,
				array_agg(extract(epoch FROM j.started_at - j.created_at)::float8)
		   FROM coder.provisioner_jobs j LEFT JOIN coder.workspace_builds b ON b.job_id = j.id WHERE j.started_at IS NOT NULL GROUP BY 1, 2, 3, 4', at,
		'{0.1,0.5,1,5,10,30,60,120,300,600,900,1800}');
	RETURN NEXT coder.metric('coderd_provisionerd_job_timings_seconds', 'histogram', 'Jobs, from their start to their end.',
		'SELECT j.provisioner, CASE j.job_status WHEN ''succeeded'' THEN ''success'' ELSE ''failed'' END AS status,
				array_agg(extract(epoch FROM j.completed_at - j.started_at)::float8)
		   FROM coder.provisioner_jobs j WHERE j.completed_at IS NOT NULL AND j.started_at IS NOT NULL GROUP BY 1, 2', at, v_build);
	RETURN NEXT coder.metric('coderd_provisionerd_workspace_build_timings_seconds', 'histogram', 'Builds, from their start to their end.',
		'SELECT template_name, template_version, transition AS workspace_transition, CASE job_status WHEN ''succeeded'' THEN ''success'' ELSE ''failed'' END AS status,
				array_agg(extract(epoch FROM completed_at - started_at)::float8)
		   FROM coder.metric_builds WHERE completed_at IS NOT NULL AND started_at IS NOT NULL GROUP BY 1, 2, 3, 4', at, v_build);
	RETURN NEXT coder.metric('coderd_provisionerd_jobs_current', 'gauge', 'Jobs that run.',
		'SELECT p.provisioner, count(j.id) FROM unnest(enum_range(NULL::coder.provisioner_type)) p(provisioner)
		   LEFT JOIN coder.provisioner_jobs j ON j.provisioner = p.provisioner AND j.job_status IN (''running'', ''canceling'') GROUP BY 1', at);
	RETURN NEXT coder.metric('coderd_provisionerd_num_daemons', 'gauge', 'Provisioners that were heard of within the last 90 seconds.',
		'SELECT count(*) FROM coder.provisioner_daemons d WHERE d.last_seen_at > $1 - interval ''90 seconds''', at);
END
$$;
COMMENT ON FUNCTION coder.metrics_workspaces(timestamptz) IS 'Families of metrics of users, workspaces, builds and provisioners at a time.';

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
	RETURN NEXT coder.metric('coder_events_backlog', 'gauge', 'Events that are kept for watchers, as PostgreSQL estimates.',
		'SELECT s.n_live_tup FROM pg_stat_all_tables s WHERE s.relid = ''coder.events''::regclass', at);
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

CREATE OR REPLACE FUNCTION coder.metrics(at timestamptz DEFAULT statement_timestamp()) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_began CONSTANT timestamptz := clock_timestamp();
	v_agents float8;
BEGIN
	RETURN QUERY SELECT coder.metrics_agents(at);
	v_agents := extract(epoch FROM clock_timestamp() - v_began);
	RETURN NEXT coder.metric('coder_metrics_agents_seconds', 'gauge', 'How long the metrics of agents took to collect.',
		format('SELECT %L::float8', v_agents), at);
	RETURN QUERY SELECT coder.metrics_workspaces(at);
	RETURN QUERY SELECT coder.metrics_database(at);
	RETURN NEXT coder.metric('coderd_build_info', 'gauge', 'The version that runs.', 'SELECT coder.version() AS version, '''' AS revision, 1', at);
END
$$;
COMMENT ON FUNCTION coder.metrics(timestamptz) IS
	'What the database knows at a time in Prometheus'' text format, a family a row, all of one snapshot. Read it in a statement of its own.';
