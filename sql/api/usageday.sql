-- SPDX-License-Identifier: MIT
--
-- usageday.sql
--   Use of templates between two times: from days that are added up, and from
--   half hours where a day is not, or is cut by the time asked for.
--
-- A half hour of a user has thirty minutes, in however many templates.  Of one
-- template, and of all, the sums of a day have that already.  Of some templates
-- they add up where their half hours do not meet; where they do, the half hours
-- themselves are read.

CREATE OR REPLACE FUNCTION coder.usage_half(start_time timestamptz) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN 1::bigint << ((extract(epoch FROM start_time)::bigint % 86400) / 1800)::integer;
COMMENT ON FUNCTION coder.usage_half(timestamptz) IS 'The bit of a half hour in its day of UTC.';

CREATE OR REPLACE FUNCTION coder.usage_halves(day date, since timestamptz, until timestamptz) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN ((1::bigint << greatest(0, least(48, ceil(extract(epoch FROM until - day::timestamp AT TIME ZONE 'UTC') / 1800)))::integer) - 1)
	& ~((1::bigint << greatest(0, least(48, ceil(extract(epoch FROM since - day::timestamp AT TIME ZONE 'UTC') / 1800)))::integer) - 1);
COMMENT ON FUNCTION coder.usage_halves(date, timestamptz, timestamptz) IS 'The bits of those half hours of a day that begin between two times, the second excluded.';

CREATE OR REPLACE FUNCTION coder.make_usage_days(at timestamptz, most integer DEFAULT 8) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	nil CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
	v_day date;
	v_since timestamptz;
	v_until timestamptz;
	v_made integer := 0;
BEGIN
	IF NOT coder.try_lock('coder.usage_days') THEN
		RETURN 0;
	END IF;
	-- Half hours of the last two hours still change.
	FOR v_day IN
		SELECT g::date FROM generate_series((SELECT date_trunc('day', min(t.start_time) AT TIME ZONE 'UTC') FROM coder.template_usage_stats t),
				date_trunc('day', at AT TIME ZONE 'UTC' - interval '3 hours') - interval '1 day', interval '1 day') g
		 WHERE NOT EXISTS (SELECT FROM coder.template_usage_made m WHERE m.day = g::date)
		   AND EXISTS (SELECT FROM coder.template_usage_stats t WHERE t.start_time >= g AT TIME ZONE 'UTC' AND t.start_time < (g + interval '1 day') AT TIME ZONE 'UTC')
		 ORDER BY g DESC LIMIT most
	LOOP
		v_since := v_day::timestamp AT TIME ZONE 'UTC';
		v_until := (v_day + 1)::timestamp AT TIME ZONE 'UTC';
		-- What did not come of coder.rollup_usage and has no half hours stays as it is.
		CONTINUE WHEN EXISTS (SELECT FROM coder.template_usage_stats t WHERE t.start_time >= v_since AND t.start_time < v_until
								 AND extract(epoch FROM t.start_time) % 1800 <> 0);
		INSERT INTO coder.template_usage_days
		SELECT v_day, t.template_id, t.user_id, bit_or(coder.usage_half(t.start_time)), sum(least(30, t.usage_mins)), sum(least(30, t.ssh_mins)),
			   sum(least(30, t.sftp_mins)), sum(least(30, t.reconnecting_pty_mins)), sum(least(30, t.vscode_mins)), sum(least(30, t.jetbrains_mins))
		  FROM coder.template_usage_stats t WHERE t.start_time >= v_since AND t.start_time < v_until
		 GROUP BY t.template_id, t.user_id
		UNION ALL
		SELECT v_day, nil, x.user_id, bit_or(coder.usage_half(x.start_time)), sum(x.usage), sum(x.ssh), sum(x.sftp), sum(x.pty), sum(x.vscode), sum(x.jetbrains)
		  FROM (SELECT t.start_time, t.user_id, least(30, sum(t.usage_mins)) AS usage, least(30, sum(t.ssh_mins)) AS ssh, least(30, sum(t.sftp_mins)) AS sftp,
					   least(30, sum(t.reconnecting_pty_mins)) AS pty, least(30, sum(t.vscode_mins)) AS vscode, least(30, sum(t.jetbrains_mins)) AS jetbrains
				  FROM coder.template_usage_stats t WHERE t.start_time >= v_since AND t.start_time < v_until
				 GROUP BY t.start_time, t.user_id) x
		 GROUP BY x.user_id;
		INSERT INTO coder.template_usage_app_days
		SELECT v_day, t.template_id, t.user_id, k.key, bit_or(coder.usage_half(t.start_time)), sum(least(30, k.value::integer))
		  FROM coder.template_usage_stats t, jsonb_each_text(t.app_usage_mins) k WHERE t.start_time >= v_since AND t.start_time < v_until
		 GROUP BY t.template_id, t.user_id, k.key;
		INSERT INTO coder.template_usage_made VALUES (v_day);
		v_made := v_made + 1;
	END LOOP;
	RETURN v_made;
END
$$;
COMMENT ON FUNCTION coder.make_usage_days(timestamptz, integer) IS
	'Adds up days that are over and are not added up, the newest first, at most so many; how many. Part of coder.tick().';

CREATE OR REPLACE FUNCTION coder.usage_spans(since timestamptz, until timestamptz) RETURNS TABLE (day date, lo timestamptz, hi timestamptz, made boolean)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_first CONSTANT timestamptz := (SELECT min(t.start_time) FROM coder.template_usage_stats t);
	v_since CONSTANT timestamptz := greatest(since, v_first);
	v_until CONSTANT timestamptz := least(until, (SELECT max(t.start_time) FROM coder.template_usage_stats t) + interval '1 microsecond');
BEGIN
	IF v_first IS NULL THEN
		RETURN;
	END IF;
	RETURN QUERY
	SELECT x.day, greatest(v_since, x.day::timestamp AT TIME ZONE 'UTC'), least(v_until, (x.day + 1)::timestamp AT TIME ZONE 'UTC'),
		   m.day IS NOT NULL AND x.day::timestamp AT TIME ZONE 'UTC' >= since AND (x.day + 1)::timestamp AT TIME ZONE 'UTC' <= until
	  FROM (SELECT g::date AS day FROM generate_series(date_trunc('day', v_since AT TIME ZONE 'UTC'), v_until AT TIME ZONE 'UTC', interval '1 day') g) x
	  LEFT JOIN coder.template_usage_made m ON m.day = x.day;
END
$$;
COMMENT ON FUNCTION coder.usage_spans(timestamptz, timestamptz) IS
	'The days of UTC in which there may be use between two times, and which part of each; made: it is wanted as a whole, and is added up.';

CREATE OR REPLACE FUNCTION coder.usage_of_templates(since timestamptz, until timestamptz, of uuid[])
RETURNS TABLE (template_id uuid, usage bigint, ssh bigint, sftp bigint, pty bigint, vscode bigint, jetbrains bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET work_mem = '32MB' SET jit = off SET plan_cache_mode = force_custom_plan AS $$
DECLARE
	v_made CONSTANT date[] := ARRAY(SELECT s.day FROM coder.usage_spans(since, until) s WHERE s.made);
BEGIN
	RETURN QUERY
	SELECT u.template_id, sum(u.usage_mins), sum(u.ssh_mins), sum(u.sftp_mins), sum(u.reconnecting_pty_mins), sum(u.vscode_mins), sum(u.jetbrains_mins)
	  FROM (SELECT d.template_id, d.usage_mins, d.ssh_mins, d.sftp_mins, d.reconnecting_pty_mins, d.vscode_mins, d.jetbrains_mins
			  FROM coder.template_usage_days d
			 WHERE d.day = ANY (v_made) AND d.template_id <> '00000000-0000-0000-0000-000000000000' AND (of IS NULL OR d.template_id = ANY (of))
			UNION ALL
			SELECT t.template_id, least(30, t.usage_mins), least(30, t.ssh_mins), least(30, t.sftp_mins), least(30, t.reconnecting_pty_mins),
				   least(30, t.vscode_mins), least(30, t.jetbrains_mins)
			  FROM coder.usage_spans(since, until) s JOIN coder.template_usage_stats t ON t.start_time >= s.lo AND t.start_time < s.hi
			 WHERE NOT s.made AND (of IS NULL OR t.template_id = ANY (of))) u
	 GROUP BY u.template_id;
END
$$;
COMMENT ON FUNCTION coder.usage_of_templates(timestamptz, timestamptz, uuid[]) IS
	'Minutes of use between two times of each of these templates (NULL: all) by itself.';

CREATE OR REPLACE FUNCTION coder.usage_of_users(since timestamptz, until timestamptz, of uuid[])
RETURNS TABLE (user_id uuid, usage bigint, ssh bigint, sftp bigint, pty bigint, vscode bigint, jetbrains bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET work_mem = '32MB' SET jit = off SET plan_cache_mode = force_custom_plan AS $$
DECLARE
	v_made CONSTANT date[] := ARRAY(SELECT s.day FROM coder.usage_spans(since, until) s WHERE s.made);
	v_of CONSTANT uuid[] := coalesce(of, ARRAY['00000000-0000-0000-0000-000000000000'::uuid]);
	v_met date[];
BEGIN
	IF cardinality(v_of) > 1 THEN
		-- Days on which somebody's half hours in several of these templates meet.
		v_met := ARRAY(SELECT DISTINCT x.day FROM (SELECT d.day FROM coder.template_usage_days d WHERE d.day = ANY (v_made) AND d.template_id = ANY (v_of)
			GROUP BY d.day, d.user_id HAVING count(*) > 1 AND sum(bit_count(d.halves::bit(64))) > bit_count(bit_or(d.halves)::bit(64))) x);
	END IF;
	RETURN QUERY
	WITH met AS MATERIALIZED (
		SELECT d.day, d.user_id FROM coder.template_usage_days d WHERE d.day = ANY (v_met) AND d.template_id = ANY (v_of)
		 GROUP BY d.day, d.user_id HAVING count(*) > 1 AND sum(bit_count(d.halves::bit(64))) > bit_count(bit_or(d.halves)::bit(64))
	), half AS (
		SELECT t.user_id, least(30, sum(t.usage_mins))::integer AS usage, least(30, sum(t.ssh_mins))::integer AS ssh, least(30, sum(t.sftp_mins))::integer AS sftp,
			   least(30, sum(t.reconnecting_pty_mins))::integer AS pty, least(30, sum(t.vscode_mins))::integer AS vscode, least(30, sum(t.jetbrains_mins))::integer AS jetbrains
		  FROM coder.usage_spans(since, until) s JOIN coder.template_usage_stats t ON t.start_time >= s.lo AND t.start_time < s.hi
		 WHERE (of IS NULL OR t.template_id = ANY (of)) AND (NOT s.made OR s.day = ANY (v_met))
		   AND (NOT s.made OR (s.day, t.user_id) IN (SELECT m.day, m.user_id FROM met m))
		 GROUP BY t.start_time, t.user_id
	)
	SELECT u.user_id, sum(u.usage), sum(u.ssh), sum(u.sftp), sum(u.pty), sum(u.vscode), sum(u.jetbrains)
	  FROM (SELECT d.user_id, d.usage_mins AS usage, d.ssh_mins AS ssh, d.sftp_mins AS sftp, d.reconnecting_pty_mins AS pty, d.vscode_mins AS vscode, d.jetbrains_mins AS jetbrains
			  FROM coder.template_usage_days d
			 WHERE d.day = ANY (v_made) AND d.template_id = ANY (v_of) AND (v_met IS NULL OR (d.day, d.user_id) NOT IN (SELECT m.day, m.user_id FROM met m))
			UNION ALL SELECT h.* FROM half h) u
	 GROUP BY u.user_id;
END
$$;
COMMENT ON FUNCTION coder.usage_of_users(timestamptz, timestamptz, uuid[]) IS
	'Minutes of use between two times of these templates (NULL: all) together, by user.';

CREATE OR REPLACE FUNCTION coder.usage_of_apps(since timestamptz, until timestamptz, of uuid[]) RETURNS SETOF coder.template_usage_app_days
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET work_mem = '32MB' SET jit = off SET plan_cache_mode = force_custom_plan AS $$
DECLARE
	v_made CONSTANT date[] := ARRAY(SELECT s.day FROM coder.usage_spans(since, until) s WHERE s.made);
BEGIN
	RETURN QUERY SELECT d.* FROM coder.template_usage_app_days d WHERE d.day = ANY (v_made) AND (of IS NULL OR d.template_id = ANY (of));
	RETURN QUERY
	SELECT s.day, t.template_id, t.user_id, k.key, bit_or(coder.usage_half(t.start_time)), sum(least(30, k.value::integer))::integer
	  FROM coder.usage_spans(since, until) s JOIN coder.template_usage_stats t ON t.start_time >= s.lo AND t.start_time < s.hi,
		   jsonb_each_text(t.app_usage_mins) k
	 WHERE NOT s.made AND (of IS NULL OR t.template_id = ANY (of))
	 GROUP BY s.day, t.template_id, t.user_id, k.key;
END
$$;
COMMENT ON FUNCTION coder.usage_of_apps(timestamptz, timestamptz, uuid[]) IS
	'Use of apps between two times of these templates (NULL: all), each by itself, by day and user.';

CREATE OR REPLACE FUNCTION coder.usage_in(sinces timestamptz[], untils timestamptz[], of uuid[])
RETURNS TABLE (n bigint, user_id uuid, template_id uuid)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET work_mem = '32MB' SET jit = off SET plan_cache_mode = force_custom_plan AS $$
DECLARE
	v_since CONSTANT timestamptz := (SELECT min(s) FROM unnest(sinces) s);
	v_until CONSTANT timestamptz := (SELECT max(u) FROM unnest(untils) u);
BEGIN
	RETURN QUERY
	WITH span AS MATERIALIZED (
		SELECT s.* FROM coder.usage_spans(v_since, v_until) s
	), part AS (
		SELECT i.n, s.day, s.made, greatest(i.since, s.lo) AS lo, least(i.until, s.hi) AS hi, coder.usage_halves(s.day, i.since, i.until) AS halves
		  FROM ROWS FROM (unnest(sinces), unnest(untils)) WITH ORDINALITY i (since, until, n)
		  JOIN span s ON s.lo < i.until AND s.hi > i.since
	)
	SELECT p.n, d.user_id, d.template_id
	  FROM part p JOIN coder.template_usage_days d ON d.day = p.day
	 WHERE p.made AND d.halves & p.halves <> 0 AND d.template_id <> '00000000-0000-0000-0000-000000000000' AND (of IS NULL OR d.template_id = ANY (of))
	UNION
	SELECT p.n, t.user_id, t.template_id
	  FROM part p JOIN coder.template_usage_stats t ON t.start_time >= p.lo AND t.start_time < p.hi
	 WHERE NOT p.made AND (of IS NULL OR t.template_id = ANY (of));
END
$$;
COMMENT ON FUNCTION coder.usage_in(timestamptz[], timestamptz[], uuid[]) IS
	'Who used which of these templates (NULL: all) in each of some intervals, which are numbered from 1; their ends are excluded.';
