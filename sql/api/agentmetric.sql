-- SPDX-License-Identifier: MIT
--
-- agentmetric.sql
--   Metrics that agents count themselves and report with their samples, and
--   metrics made of the samples.  Both only where the administrator wants them
--   (CODER_PROMETHEUS_COLLECT_AGENT_STATS), added up over the labels of
--   CODER_PROMETHEUS_AGGREGATE_AGENT_STATS_BY.
--
-- A report is what a program in a workspace says: names and labels that are none,
-- that are ours, or that would be too many are refused, each counted.

CREATE OR REPLACE FUNCTION coder.agent_metrics_wanted() RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coalesce(lower(coder.setting('prometheus_collect_agent_stats')) IN ('true', '1', 't'), false);
END
$$;
COMMENT ON FUNCTION coder.agent_metrics_wanted() IS 'Are metrics of agents collected? CODER_PROMETHEUS_COLLECT_AGENT_STATS.';

CREATE OR REPLACE FUNCTION coder.agent_metrics_by() RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_wanted text[] := regexp_split_to_array(coalesce(nullif(trim(coder.setting('prometheus_aggregate_agent_stats_by')), ''),
		'agent_name,template_name,username,workspace_name'), '\s*,\s*');
BEGIN
	RETURN ARRAY(SELECT l FROM unnest('{agent_name,template_name,username,workspace_name}'::text[]) l WHERE l = ANY (v_wanted));
END
$$;
COMMENT ON FUNCTION coder.agent_metrics_by() IS
	'Labels by which metrics of agents are kept apart: those of CODER_PROMETHEUS_AGGREGATE_AGENT_STATS_BY, without it all four.';

CREATE OR REPLACE FUNCTION coder.agent_metric_problem(m jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_name text := m ->> 'name';
	v_labels jsonb := CASE WHEN jsonb_typeof(m -> 'labels') = 'array' THEN m -> 'labels' ELSE '[]' END;
BEGIN
	-- Names of the reference's agents, and no others of ours: they would be in two families.
	IF v_name IS NULL OR v_name !~ '^[a-zA-Z_:][a-zA-Z0-9_:]{0,127}$' OR (v_name ~ '^(coderd?|process|promhttp|go|scrape)_|^up$'
			AND v_name NOT IN ('coderd_agentstats_currently_reachable_peers', 'coderd_agentstats_startup_script_seconds')) THEN
		RETURN 'name';
	ELSIF coalesce(upper(m ->> 'type'), '') NOT IN ('COUNTER', 'GAUGE') THEN
		RETURN 'type';
	ELSIF coalesce(jsonb_typeof(m -> 'value'), 'number') <> 'number' THEN
		RETURN 'value';
	ELSIF jsonb_array_length(v_labels) > 16 OR EXISTS (SELECT FROM jsonb_array_elements(v_labels) l
			WHERE coalesce(l ->> 'name', '') !~ '^[a-zA-Z_][a-zA-Z0-9_]{0,63}$' OR starts_with(l ->> 'name', '__')
			   OR l ->> 'name' IN ('le', 'quantile', 'agent_name', 'template_name', 'username', 'workspace_name', 'job', 'instance')
			   OR length(l ->> 'value') > 256)
		OR (SELECT count(*) <> count(DISTINCT l ->> 'name') FROM jsonb_array_elements(v_labels) l) THEN
		RETURN 'label';
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION coder.agent_metric_problem(jsonb) IS
	'Why a metric of an agent (Stats.Metric of its RPC) is refused: name, type, value or label; NULL: it is not.';

CREATE OR REPLACE FUNCTION coder.agent_metrics_store(agent uuid, reported jsonb, at timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	most CONSTANT integer := 200;
	v_kept jsonb;
	v_too_many integer;
	v_problems jsonb;
BEGIN
	IF jsonb_typeof(reported) IS DISTINCT FROM 'array' OR NOT coder.agent_metrics_wanted() THEN
		RETURN;
	END IF;
	WITH checked AS (
		SELECT m.value AS m, m.ordinality AS n, CASE WHEN m.ordinality > 4 * most THEN 'number' ELSE coder.agent_metric_problem(m.value) END AS problem
		  FROM jsonb_array_elements(reported) WITH ORDINALITY m
	), good AS (
		-- The last of those that are told twice.
		SELECT DISTINCT ON (g.name, g.labels) g.* FROM (SELECT c.n, c.m ->> 'name' AS name, lower(c.m ->> 'type') AS type,
				coalesce((c.m ->> 'value')::float8, 0) AS value,
				(SELECT coalesce(jsonb_object_agg(l ->> 'name', l ->> 'value'), '{}')
				   FROM jsonb_array_elements(CASE WHEN jsonb_typeof(c.m -> 'labels') = 'array' THEN c.m -> 'labels' ELSE '[]' END) l
				  WHERE coalesce(l ->> 'value', '') <> '') AS labels
			FROM checked c WHERE c.problem IS NULL) g
		 ORDER BY g.name, g.labels, g.n DESC
	), numbered AS (
		SELECT g.*, row_number() OVER (ORDER BY g.n) AS place FROM good g
	)
	SELECT (SELECT coalesce(jsonb_agg(jsonb_build_object('name', g.name, 'type', g.type, 'labels', g.labels, 'value', g.value)), '[]') FROM numbered g WHERE g.place <= most),
		   (SELECT count(*) FROM numbered g WHERE g.place > most),
		   (SELECT jsonb_object_agg(p.problem, p.n) FROM (SELECT c.problem, count(*) AS n FROM checked c WHERE c.problem IS NOT NULL GROUP BY 1) p)
	  INTO v_kept, v_too_many, v_problems;
	IF v_too_many > 0 THEN
		PERFORM coder.stat_took('refused number', clock_timestamp(), v_too_many);
	END IF;
	IF v_problems IS NOT NULL THEN
		PERFORM coder.stat_took('refused ' || p.key, clock_timestamp(), p.value::bigint) FROM jsonb_each_text(v_problems) p;
	END IF;
	INSERT INTO coder.workspace_agent_metrics AS x (agent_id, updated_at, metrics) VALUES (agent, at, v_kept)
	ON CONFLICT (agent_id) DO UPDATE SET updated_at = excluded.updated_at, metrics = excluded.metrics;
END
$$;
COMMENT ON FUNCTION coder.agent_metrics_store(uuid, jsonb, timestamptz) IS
	'Keeps what an agent counts itself, at most 200 series, instead of what it told before; what is refused is counted (coder_agent_metrics_refused_total).';

CREATE OR REPLACE FUNCTION coder.metric_series(query text, help text, at timestamptz) RETURNS text
AS 'MODULE_PATHNAME', 'coder_metric_series'
LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION coder.metric_series(text, text, timestamptz) IS
	'Families of metrics of a query, whose $1 is the time: name, type, labels (an object of texts) and value (float8), in the order of names.';

CREATE OR REPLACE FUNCTION coder.metrics_agent_stats(at timestamptz DEFAULT statement_timestamp()) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_by CONSTANT text[] := coder.agent_metrics_by();
	-- Samples never tell templates apart.
	v_labels text := (SELECT string_agg('m.' || l || ', ', '') FROM unnest(v_by) l WHERE l <> 'template_name');
	v_groups text := (SELECT 'GROUP BY ' || string_agg(n::text, ', ') FROM generate_series(1, cardinality(array_remove(v_by, 'template_name'))) n);
	v_kept text := (SELECT string_agg(format('%L, m.%I', l, l), ', ') FROM unnest(v_by) l);
	v_name text;
	v record;
BEGIN
	IF NOT coder.agent_metrics_wanted() THEN
		RETURN;
	END IF;
	v_labels := coalesce(v_labels, '');
	v_groups := coalesce(v_groups, '');
	FOREACH v_name IN ARRAY '{tx_bytes,rx_bytes}'::text[] LOOP
		RETURN NEXT coder.metric('coderd_agentstats_' || v_name, 'gauge', format('Bytes %s by workspaces within the last minute.', CASE v_name WHEN 'tx_bytes' THEN 'sent' ELSE 'received' END),
			format('SELECT %s sum(s.%I)::float8 FROM coder.workspace_agent_stats s JOIN coder.metric_agents m ON m.id = s.agent_id
				WHERE s.created_at > $1 - interval ''1 minute'' AND s.created_at <= $1 AND NOT s.usage %s %s', v_labels, v_name, v_groups,
				CASE v_groups WHEN '' THEN 'HAVING count(*) > 0' ELSE '' END), at);
	END LOOP;
	FOR v IN SELECT * FROM (VALUES ('connection_count', 'sum(s.connection_count)', 'Connections to agents, as they told last.'),
			('connection_median_latency_seconds', 'avg(s.connection_median_latency_ms) FILTER (WHERE s.connection_median_latency_ms >= 0) / 1000', 'Median latency of connections, as agents told last.'),
			('session_count_vscode', 'sum(s.session_count_vscode)', 'Sessions of VS Code, as agents told last.'),
			('session_count_jetbrains', 'sum(s.session_count_jetbrains)', 'Sessions of JetBrains'' editors, as agents told last.'),
			('session_count_reconnecting_pty', 'sum(s.session_count_reconnecting_pty)', 'Terminals in browsers, as agents told last.'),
			('session_count_ssh', 'sum(s.session_count_ssh)', 'Sessions of SSH, as agents told last.')) x (name, value, help) LOOP
		RETURN NEXT coder.metric('coderd_agentstats_' || v.name, 'gauge', v.help,
			format('SELECT %s (%s)::float8 FROM (SELECT DISTINCT ON (x.agent_id) x.* FROM coder.workspace_agent_stats x
				WHERE x.created_at > $1 - interval ''2 minutes'' AND x.created_at <= $1 AND NOT x.usage ORDER BY x.agent_id, x.created_at DESC) s
				JOIN coder.metric_agents m ON m.id = s.agent_id %s %s', v_labels, v.value, v_groups, CASE v_groups WHEN '' THEN 'HAVING count(*) > 0' ELSE '' END), at);
	END LOOP;
	RETURN NEXT coder.metric_series(format('SELECT r.name, min(r.type), r.labels || jsonb_build_object(%s) AS l, sum(r.value)
		  FROM coder.workspace_agent_metrics x JOIN coder.metric_agents m ON m.id = x.agent_id,
			   jsonb_to_recordset(x.metrics) AS r (name text, type text, labels jsonb, value float8)
		 WHERE x.updated_at > $1 - greatest(interval ''2 minutes'', 4 * interval ''1 second'' * coder.setting_seconds(''agent_stats_refresh_interval'', 30))
		   AND x.updated_at <= $1
		 GROUP BY r.name, l ORDER BY r.name COLLATE "C", l', coalesce(v_kept, '')), 'Reported by agents.', at);
	RETURN NEXT coder.metric('coderd_prometheusmetrics_metrics_aggregator_store_size', 'gauge', 'Series that agents have reported and that are kept.',
		'SELECT coalesce(sum(jsonb_array_length(x.metrics)), 0)::float8 FROM coder.workspace_agent_metrics x', at);
	RETURN NEXT coder.metric('coder_agent_metrics_refused_total', 'counter', 'Series that agents reported and that were refused: for their name, type, value, labels or number.',
		'SELECT substr(t.name, 9) AS reason, t.items FROM coder.stat_timers() t WHERE starts_with(t.name, ''refused '')', at);
END
$$;
COMMENT ON FUNCTION coder.metrics_agent_stats(timestamptz) IS
	'Families of metrics of the agents'' samples and of what they count themselves; none without CODER_PROMETHEUS_COLLECT_AGENT_STATS.';
