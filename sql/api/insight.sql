-- sql/api/insight.sql -- figures of users over time; those of templates and workspaces are in sql/api/usage.sql

-- The zone of a request's days: timezone (IANA) or tz_offset (hours); UTC where neither is given.
CREATE OR REPLACE FUNCTION coder.query_zone(req coder.request)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	zone CONSTANT text := coder.query_text(req, 'timezone');
	hours CONSTANT text := coder.query_text(req, 'tz_offset');
BEGIN
	IF zone IS NOT NULL AND hours IS NOT NULL THEN
		PERFORM coder.raise(400, 'Provide either "timezone" or "tz_offset", not both.');
	ELSIF hours IS NOT NULL THEN
		IF hours !~ '^[+-]?[0-9]{1,2}$' OR abs(hours::int4) > 14 THEN
			PERFORM coder.raise_query('tz_offset', 'Query param "tz_offset" must be a valid integer of hours');
		END IF;
		-- POSIX counts hours west of Greenwich.
		RETURN format('<Z>%s', -hours::int4);
	ELSIF zone IS NOT NULL AND NOT coder.timezone_known(zone) THEN
		PERFORM coder.raise_query('timezone', format('Query param "timezone" must be a valid time zone: unknown time zone %s', zone));
	END IF;
	RETURN coalesce(zone, 'UTC');
END
$$;

-- GET /insights/user-status-counts: how many users had which status at each of the last 61 midnights
CREATE OR REPLACE FUNCTION coder.user_status_counts(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	zone CONSTANT text := coder.query_zone(req);
	today CONSTANT timestamp := date_trunc('day', now() AT TIME ZONE zone);
	days CONSTANT timestamptz[] := ARRAY(SELECT (today - make_interval(days => n)) AT TIME ZONE zone FROM generate_series(0, 60) n ORDER BY 1);
	answer jsonb;
BEGIN
	PERFORM coder.require('read', 'user');
	-- A change counts from the first midnight behind it to the first behind the next change, or behind the user's end.
	WITH change AS (
		SELECT c.new_status AS status, c.changed_at AS since,
			   least(lead(c.changed_at) OVER (PARTITION BY c.user_id ORDER BY c.changed_at, c.id), (SELECT min(x.deleted_at) FROM coder.user_deleted x WHERE x.user_id = c.user_id)) AS until
		  FROM coder.user_status_changes c JOIN coder.users u ON u.id = c.user_id AND NOT u.is_system
	), step AS (
		SELECT x.status, x.place, sum(x.by) AS by
		  FROM (SELECT c.status, width_bucket(c.since - interval '1 microsecond', days) AS place, 1 AS by FROM change c WHERE c.until IS NULL OR c.until > c.since
				 UNION ALL
				SELECT c.status, width_bucket(c.until - interval '1 microsecond', days), -1 FROM change c WHERE c.until > c.since) x
		 GROUP BY x.status, x.place
	), counts AS (
		SELECT s.status, d.d, coalesce(sum(p.by) OVER (PARTITION BY s.status ORDER BY d.place), 0) AS n
		  FROM unnest(enum_range(NULL::coder.user_status)) s (status) CROSS JOIN (SELECT x.d, x.n - 1 AS place FROM unnest(days) WITH ORDINALITY x (d, n)) d
		  LEFT JOIN step p USING (status, place)
	)
	SELECT jsonb_object_agg(p.status, p.list) INTO answer
	  FROM (SELECT c.status, jsonb_agg(jsonb_build_object('date', coder.ts(c.d), 'count', c.n) ORDER BY c.d) AS list
			  FROM counts c GROUP BY c.status) p;
	RETURN coder.reply(200, jsonb_build_object('status_counts', answer));
END
$$;

-- DAUsResponse: users with any minute of use on each of the last 61 days of a zone, in one template or (NULL) in any.
-- Days begin at the zone's own midnights: the ones when clocks change have 23 or 25 hours.  A half hour that lies over
-- midnight (in zones of odd quarters) is of the day that it begins in.
CREATE OR REPLACE FUNCTION coder.daily_users(zone text, template uuid)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	today CONSTANT date := (clock_timestamp() AT TIME ZONE zone)::date;
	shift CONSTANT interval := clock_timestamp() AT TIME ZONE zone - clock_timestamp() AT TIME ZONE 'UTC';
	entries jsonb;
BEGIN
	WITH day AS MATERIALIZED (
		SELECT today - 60 + g AS day, (today - 60 + g)::timestamp AT TIME ZONE zone AS since, (today - 59 + g)::timestamp AT TIME ZONE zone AS until, g + 1 AS n
		  FROM generate_series(0, 60) g
	), used AS (
		SELECT DISTINCT u.n, u.user_id
		  FROM coder.usage_in(ARRAY(SELECT d.since FROM day d ORDER BY d.n), ARRAY(SELECT d.until FROM day d ORDER BY d.n),
							  CASE WHEN template IS NOT NULL THEN ARRAY[template] END) u
	), counted AS (
		SELECT d.day, count(*) AS n FROM used u JOIN day d USING (n) GROUP BY d.day
	)
	SELECT jsonb_agg(jsonb_build_object('date', to_char(d.day, 'YYYY-MM-DD'), 'amount', coalesce(c.n, 0)) ORDER BY d.day) INTO entries
	  FROM (SELECT today - g AS day FROM generate_series(0, 60) g) d LEFT JOIN counted c ON c.day = d.day;
	RETURN jsonb_build_object('tz_hour_offset', (extract(epoch FROM shift) / 3600)::int4, 'entries', entries);
END
$$;

DELETE FROM coder.routes WHERE area = 'insight';
INSERT INTO coder.routes (area, method, pattern, function, pool, read_only) VALUES
	('insight', 'GET', '/api/v2/insights/user-status-counts', 'user_status_counts', 'slow', true);
