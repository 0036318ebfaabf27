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
	answer jsonb;
BEGIN
	PERFORM coder.require('read', 'user');
	WITH days AS (
		SELECT (today - make_interval(days => n)) AT TIME ZONE zone AS d FROM generate_series(0, 60) n
	), latest AS (
		SELECT DISTINCT ON (days.d, c.user_id) days.d, c.user_id, c.new_status
		  FROM days JOIN coder.user_status_changes c ON c.changed_at <= days.d
		  JOIN coder.users u ON u.id = c.user_id AND NOT u.is_system
		 WHERE NOT EXISTS (SELECT 1 FROM coder.user_deleted x WHERE x.user_id = c.user_id AND x.deleted_at <= days.d)
		 ORDER BY days.d, c.user_id, c.changed_at DESC
	), counts AS (
		SELECT s.status, days.d, count(latest.user_id) AS n
		  FROM unnest(enum_range(NULL::coder.user_status)) s (status) CROSS JOIN days
		  LEFT JOIN latest ON latest.d = days.d AND latest.new_status = s.status
		 GROUP BY s.status, days.d
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
	WITH used AS (
		SELECT DISTINCT (t.start_time AT TIME ZONE zone)::date AS day, t.user_id
		  FROM coder.template_usage_stats t
		 WHERE t.start_time >= (today - 60)::timestamp AT TIME ZONE zone AND (template IS NULL OR t.template_id = template)
	), counted AS (
		SELECT u.day, count(*) AS n FROM used u GROUP BY u.day
	)
	SELECT jsonb_agg(jsonb_build_object('date', to_char(d.day, 'YYYY-MM-DD'), 'amount', coalesce(c.n, 0)) ORDER BY d.day) INTO entries
	  FROM (SELECT today - g AS day FROM generate_series(0, 60) g) d LEFT JOIN counted c ON c.day = d.day;
	RETURN jsonb_build_object('tz_hour_offset', (extract(epoch FROM shift) / 3600)::int4, 'entries', entries);
END
$$;

DELETE FROM coder.routes WHERE area = 'insight';
INSERT INTO coder.routes (area, method, pattern, function, pool, read_only) VALUES
	('insight', 'GET', '/api/v2/insights/user-status-counts', 'user_status_counts', 'slow', true);
