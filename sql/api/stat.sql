-- SPDX-License-Identifier: MIT
--
-- stat.sql
--   What runs, in views as PostgreSQL's own pg_stat_*: counted in shared memory,
--   or written down by gateways now and then.

CREATE OR REPLACE FUNCTION coder.stat_took(name text, began timestamptz, items bigint DEFAULT 0) RETURNS bigint
AS 'MODULE_PATHNAME', 'coder_stat_took'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION coder.stat_took(text, timestamptz, bigint) IS
	'Notes that something periodic, which began then, is done, with so many items; answers these. See coder.stat_tick.';

CREATE OR REPLACE FUNCTION coder.stat_count(name text, n bigint) RETURNS bigint
AS 'MODULE_PATHNAME', 'coder_stat_count'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION coder.stat_count(text, bigint) IS
	'Adds what another process has counted to one of coder.stat_counters(); answers n. 22023 where n is negative, 42704 where there is no such counter.';

CREATE OR REPLACE FUNCTION coder.stat_counters() RETURNS TABLE (name text, count bigint, since timestamptz)
AS 'MODULE_PATHNAME', 'coder_stat_counters'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION coder.stat_counters() IS
	'What backends have counted since the server started: hits and misses of their caches, invalidations, decisions, requests. What other backends counted within the last tenth of a second may be missing.';

CREATE OR REPLACE FUNCTION coder.stat_timers()
RETURNS TABLE (name text, runs bigint, failed bigint, items bigint, seconds float8, longest float8, last float8, last_at timestamptz,
	bounds float8[], buckets bigint[])
AS 'MODULE_PATHNAME', 'coder_stat_timers'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION coder.stat_timers() IS
	'How often periodic work was done since the server started, how long it took (buckets: up to each of bounds, and longer than the last), with how many items.';

CREATE OR REPLACE FUNCTION coder.stat_rebucket(bounds float8[], buckets bigint[], wanted float8[]) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_counts bigint[] := array_fill(0::bigint, ARRAY[cardinality(wanted) + 1]);
	v_place integer := 1;
BEGIN
	FOR i IN 1 .. cardinality(buckets) LOOP
		-- A bucket belongs to the first border that is not below its own.
		WHILE v_place <= cardinality(wanted) AND (i > cardinality(bounds) OR bounds[i] > wanted[v_place]) LOOP
			v_place := v_place + 1;
		END LOOP;
		v_counts[v_place] := v_counts[v_place] + buckets[i];
	END LOOP;
	RETURN v_counts;
END
$$;
COMMENT ON FUNCTION coder.stat_rebucket(float8[], bigint[], float8[]) IS
	'Counts by some borders as counts by fewer of them; the wanted ones must be among the borders.';

CREATE OR REPLACE VIEW coder.stat_tick AS
SELECT t.name AS step, t.runs, t.failed, t.items, t.seconds AS total_seconds, t.seconds / nullif(t.runs, 0) AS mean_seconds,
	   t.longest AS longest_seconds, t.last AS last_seconds, t.last_at
  FROM coder.stat_timers() t;
COMMENT ON VIEW coder.stat_tick IS
	'Periodic work since the server started: rounds of the background worker and their steps, what purges deleted by kind of record, decisions about rights (one of 128 is timed), and metrics of agents that were refused.';

CREATE OR REPLACE VIEW coder.stat_cache AS
SELECT x.cache, x.hits, x.misses, x.hits::float8 / nullif(x.hits + x.misses, 0) AS hit_ratio, x.since
  FROM (SELECT c.cache, max(n.count) FILTER (WHERE n.name = c.cache || '_hit') AS hits, max(n.count) FILTER (WHERE n.name = c.cache || '_miss') AS misses,
			   min(n.since) AS since
		  FROM (VALUES ('subject'), ('answer'), ('chat')) c (cache), coder.stat_counters() n GROUP BY 1) x;
COMMENT ON VIEW coder.stat_cache IS
	'What backends keep: subjects by token, and answers of lists of workspaces; what runners of chats keep: configuration; how often it was there and was true.';

CREATE OR REPLACE FUNCTION coder.gateway_report(id uuid, started_at timestamptz, stats jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	-- Those that have not been heard of for a day are gone.
	DELETE FROM coder.gateway_stats g WHERE g.updated_at < clock_timestamp() - interval '1 day';
	INSERT INTO coder.gateway_stats AS g (id, started_at, updated_at, stats)
	VALUES (gateway_report.id, gateway_report.started_at, clock_timestamp(), gateway_report.stats)
	ON CONFLICT ON CONSTRAINT gateway_stats_pkey DO UPDATE SET updated_at = excluded.updated_at, stats = excluded.stats;
END
$$;
COMMENT ON FUNCTION coder.gateway_report(uuid, timestamptz, jsonb) IS 'A gateway tells of itself; id: as in coder.replicas, made anew with each start.';

CREATE OR REPLACE FUNCTION coder.gateway_beat(id uuid, hostname text, relay_address text, version text, latency integer, started_at timestamptz, stats jsonb) RETURNS json
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF stats IS NOT NULL AND NOT current_setting('transaction_read_only')::boolean THEN
		PERFORM coder.gateway_report(id, started_at, stats);
	END IF;
	RETURN coder.replica_heartbeat(id, hostname, relay_address, version, latency);
END
$$;
COMMENT ON FUNCTION coder.gateway_beat(uuid, text, text, text, integer, timestamptz, jsonb) IS
	'The gateway, every five seconds: it lives, as coder.replica_heartbeat, and, where stats is not NULL, what it does, as coder.gateway_report. Answers its neighbours.';

CREATE OR REPLACE FUNCTION coder.gateway_stop(id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT current_setting('transaction_read_only')::boolean THEN
		UPDATE coder.replicas r SET stopped_at = clock_timestamp() WHERE r.id = gateway_stop.id AND r.stopped_at IS NULL;
	END IF;
END
$$;
COMMENT ON FUNCTION coder.gateway_stop(uuid) IS
	'The gateway, once: it stops in order, and does not count as alive from now on. An id is of one start, so it never comes back.';
REVOKE ALL ON FUNCTION coder.gateway_stop(uuid) FROM PUBLIC;

CREATE OR REPLACE VIEW coder.stat_gateway AS
SELECT g.id, g.stats ->> 'hostname' AS hostname, (g.stats ->> 'pid')::integer AS pid, g.stats ->> 'version' AS version,
	   g.started_at, g.updated_at, g.updated_at > clock_timestamp() - interval '30 seconds' AND r.stopped_at IS NULL AS alive,
	   (g.stats ->> 'connections')::bigint AS connections, (g.stats ->> 'requests')::bigint AS requests, (g.stats ->> 'errors')::bigint AS errors,
	   (g.stats ->> 'websockets')::bigint AS websockets, (g.stats ->> 'subscribers')::bigint AS subscribers,
	   (g.stats ->> 'statements')::bigint AS statements, (g.stats ->> 'statements_failed')::bigint AS statements_failed,
	   (g.stats ->> 'statements_lost')::bigint AS statements_lost, (g.stats ->> 'statements_waiting')::bigint AS statements_waiting,
	   (g.stats ->> 'database_connections')::bigint AS database_connections, (g.stats ->> 'events')::bigint AS events,
	   (g.stats ->> 'relay_clients')::bigint AS relay_clients, (g.stats ->> 'relay_packets')::bigint AS relay_packets,
	   (g.stats ->> 'relay_dropped')::bigint AS relay_dropped, (g.stats ->> 'tunnels')::bigint AS tunnels,
	   (g.stats ->> 'resident_bytes')::bigint AS resident_bytes, (g.stats ->> 'cpu_seconds')::float8 AS cpu_seconds
  FROM coder.gateway_stats g LEFT JOIN coder.replicas r USING (id);
COMMENT ON VIEW coder.stat_gateway IS
	'Each process coder-server as it told of itself at updated_at, every ten seconds: counters since started_at; alive: heard of within 30 seconds, and it did not say that it stops.';

CREATE OR REPLACE VIEW coder.stat_agent AS
SELECT a.id AS agent_id, a.name::text AS agent, w.id AS workspace_id, w.name::text AS workspace, u.username AS owner,
	   coder.agent_status(a.created_at, a.first_connected_at, a.last_connected_at, a.disconnected_at, a.connection_timeout_seconds, now(), 30) AS status,
	   a.lifecycle_state::text AS lifecycle_state, a.version, extract(epoch FROM a.first_connected_at - a.created_at)::float8 AS first_connection_seconds,
	   a.last_connected_at, s.created_at AS sampled_at, s.connection_count AS connections, nullif(s.connection_median_latency_ms, -1) AS median_latency_ms,
	   s.rx_bytes, s.tx_bytes, s.session_count_vscode AS vscode, s.session_count_jetbrains AS jetbrains,
	   s.session_count_reconnecting_pty AS terminals, s.session_count_ssh AS ssh,
	   f.negative + f.excessive + f.skewed AS impossible_figures, m.updated_at AS metrics_at, jsonb_array_length(m.metrics) AS metrics
  FROM coder.workspaces w
  JOIN coder.users u ON u.id = w.owner_id
  JOIN coder.workspace_builds b ON b.id = w.latest_build_id
  JOIN coder.workspace_resources r ON r.job_id = b.job_id
  JOIN coder.workspace_agents a ON a.resource_id = r.id
  LEFT JOIN (SELECT DISTINCT ON (x.agent_id) x.* FROM coder.workspace_agent_stats x
			  WHERE x.created_at > now() - interval '5 minutes' AND NOT x.usage ORDER BY x.agent_id, x.created_at DESC) s ON s.agent_id = a.id
  LEFT JOIN coder.workspace_agent_sample_faults f ON f.agent_id = a.id
  LEFT JOIN coder.workspace_agent_metrics m ON m.agent_id = a.id
 WHERE NOT w.deleted AND NOT a.deleted;
COMMENT ON VIEW coder.stat_agent IS
	'Each agent of the latest builds: its connection as the API and the metrics say it, its last sample of the last five minutes, figures that were not taken at their word, series that it reported.';

CREATE OR REPLACE VIEW coder.stat_chat AS
SELECT c.id AS chat_id, u.username AS owner, p.provider, p.model, c.status::text AS status, c.archived, c.created_at, c.updated_at,
	   c.started_at, c.heartbeat_at, c.last_error IS NOT NULL AS failed, m.messages, m.turns, m.input_tokens, m.output_tokens, m.reasoning_tokens,
	   m.cache_read_tokens, m.cost_micros, m.runtime_ms, q.queued
  FROM coder.chats c
  JOIN coder.users u ON u.id = c.owner_id
  LEFT JOIN coder.chat_model_configs p ON p.id = c.last_model_config_id
  LEFT JOIN LATERAL (SELECT count(*) AS messages, count(*) FILTER (WHERE x.role = 'assistant') AS turns, sum(x.input_tokens) AS input_tokens,
			sum(x.output_tokens) AS output_tokens, sum(x.reasoning_tokens) AS reasoning_tokens, sum(x.cache_read_tokens) AS cache_read_tokens,
			sum(x.total_cost_micros) AS cost_micros, sum(x.runtime_ms) AS runtime_ms
	   FROM coder.chat_messages x WHERE x.chat_id = c.id AND NOT x.deleted) m ON true
  LEFT JOIN LATERAL (SELECT count(*) AS queued FROM coder.chat_queued_messages x WHERE x.chat_id = c.id) q ON true;
COMMENT ON VIEW coder.stat_chat IS
	'Each chat: who, with which model, what it does, and its messages, turns, tokens, cost and time so far; not what is in it.';
