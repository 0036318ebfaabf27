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
		  FROM (VALUES ('subject'), ('answer')) c (cache), coder.stat_counters() n GROUP BY 1) x;
COMMENT ON VIEW coder.stat_cache IS
	'What backends keep: subjects by token, and answers of lists of workspaces; how often it was there and was true.';
