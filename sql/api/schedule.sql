-- SPDX-License-Identifier: MIT
--
-- schedule.sql
--   Cron schedules and times to live: parsed, checked, the next time.

CREATE OR REPLACE FUNCTION coder.cron_field(field text, low integer, high integer, names text[] DEFAULT NULL)
RETURNS integer[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_part text;
	v_m text[];
	v_from integer;
	v_to integer;
	v_step integer;
	v_all integer[] := '{}';
BEGIN
	FOREACH v_part IN ARRAY string_to_array(lower(field), ',') LOOP
		FOR i IN 1 .. coalesce(cardinality(names), 0) LOOP
			v_part := replace(v_part, names[i], (i - 1 + low)::text);
		END LOOP;
		v_m := regexp_match(v_part, '^(\*|\?|(\d{1,3})(?:-(\d{1,3}))?)(?:/(\d{1,3}))?$');
		IF v_m IS NULL THEN
			RETURN NULL;
		END IF;
		v_step := coalesce(v_m[4]::integer, 1);
		v_from := coalesce(v_m[2]::integer, low);
		v_to := coalesce(v_m[3]::integer,
						 CASE WHEN v_m[2] IS NULL OR v_m[4] IS NOT NULL THEN high ELSE v_from END);
		IF v_step = 0 OR v_from < low OR v_to > high OR v_from > v_to THEN
			RETURN NULL;
		END IF;
		v_all := v_all || ARRAY(SELECT generate_series(v_from, v_to, v_step));
	END LOOP;
	RETURN ARRAY(SELECT DISTINCT unnest(v_all) ORDER BY 1);
END
$$;
COMMENT ON FUNCTION coder.cron_field(text, integer, integer, text[]) IS
	'The values of one field of a cron schedule (lists, ranges, steps, names); NULL if it is not one.';

CREATE OR REPLACE FUNCTION coder.timezone_known(name text) RETURNS boolean
AS 'MODULE_PATHNAME', 'coder_timezone_known'
LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION coder.timezone_known(text) IS 'Is it a name of pg_timezone_names?';

CREATE OR REPLACE FUNCTION coder.schedule_parse(schedule text, OUT zone text, OUT minutes integer[],
									 OUT hours integer[], OUT days integer[], OUT error text)
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_fields text[];
	v_zone text[] := regexp_match(schedule, '^\s*(?:CRON_TZ|TZ)=(\S*)\s+');
BEGIN
	zone := coalesce(v_zone[1], 'UTC');
	IF length(schedule) > 1024 THEN
		error := 'parse schedule: a schedule has at most 1024 characters';
		RETURN;
	END IF;
	v_fields := regexp_split_to_array(
		btrim(regexp_replace(schedule, '^\s*(?:CRON_TZ|TZ)=\S*\s+', '')), '\s+');
	IF cardinality(v_fields) <> 5 THEN
		error := 'validate weekly schedule: expected schedule to consist of 5 fields with an optional CRON_TZ=<timezone> prefix';
		RETURN;
	END IF;
	IF v_fields[3] <> '*' OR v_fields[4] <> '*' THEN
		error := 'validate weekly schedule: expected day-of-month and month to be *';
		RETURN;
	END IF;
	IF zone = 'Local' OR zone = '' OR NOT coder.timezone_known(zone) THEN
		error := format('parse schedule: provided bad location %s', zone);
		RETURN;
	END IF;
	minutes := coder.cron_field(v_fields[1], 0, 59);
	hours := coder.cron_field(v_fields[2], 0, 23);
	days := coder.cron_field(v_fields[5], 0, 6, '{sun,mon,tue,wed,thu,fri,sat}');
	IF minutes IS NULL OR hours IS NULL OR days IS NULL THEN
		error := 'parse schedule: a field of the schedule is not valid';
	END IF;
END
$$;
COMMENT ON FUNCTION coder.schedule_parse(text) IS
	'The parts of a weekly schedule "[CRON_TZ=<zone> ]<minute> <hour> * * <days>"; error is NULL if it is one.';

CREATE OR REPLACE FUNCTION coder.schedule_next(schedule text, after timestamptz, blocked_days integer DEFAULT 0)
RETURNS timestamptz
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER	-- people may ask, but not call what it calls
SET search_path = pg_catalog, pg_temp SET row_security = on AS $$
DECLARE
	v record;
	v_next timestamptz;
BEGIN
	IF coalesce(schedule, '') = '' THEN
		RETURN NULL;
	END IF;
	SELECT * INTO v FROM coder.schedule_parse(schedule);
	IF v.error IS NOT NULL THEN
		RETURN NULL;
	END IF;
	-- Bit 0 of blocked_days is Monday.
	SELECT min(t.at) INTO v_next
	  FROM generate_series(0, 7) d,
		   LATERAL (SELECT (after AT TIME ZONE v.zone)::date + d AS day) l,
		   unnest(v.hours) h, unnest(v.minutes) m,
		   LATERAL (SELECT (l.day + make_time(h, m, 0)) AT TIME ZONE v.zone AS at) t
	 WHERE extract(dow FROM l.day)::integer = ANY (v.days)
	   AND blocked_days & (1 << (extract(isodow FROM l.day)::integer - 1)) = 0
	   AND t.at > after;
	RETURN v_next;
END
$$;
COMMENT ON FUNCTION coder.schedule_next(text, timestamptz, integer) IS
	'The first time of a weekly schedule after an instant, on a day that is not blocked; NULL if there is none within seven days.';

CREATE OR REPLACE FUNCTION coder.check_ttl(ttl_ms bigint) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN CASE
		WHEN ttl_ms / 60000 < 1 THEN 'time until shutdown must be at least one minute'
		WHEN ttl_ms / 60000 > 43200 THEN 'time until shutdown must be less than 30 days'
	END;
END
$$;
COMMENT ON FUNCTION coder.check_ttl(bigint) IS 'What is wrong with a time until shutdown; NULL if nothing is.';
