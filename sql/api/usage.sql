-- SPDX-License-Identifier: MIT
--
-- usage.sql
--   Who used workspaces, and how: counted from the agents' samples.

CREATE OR REPLACE FUNCTION coder.query_time(req coder.request, name text) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v text := coalesce(req.query ->> name, '');
BEGIN
	IF v !~ '^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$' THEN
		RETURN NULL;
	END IF;
	RETURN v::timestamptz;
EXCEPTION WHEN datetime_field_overflow OR invalid_datetime_format THEN
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION coder.query_time(coder.request, text) IS
	'A query parameter that is a time of RFC 3339; NULL if it is not.';

CREATE OR REPLACE FUNCTION coder.insights_range(req coder.request, OUT start_time timestamptz, OUT end_time timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_name text;
	v_problems jsonb := '[]';
BEGIN
	start_time := coder.query_time(req, 'start_time');
	end_time := coder.query_time(req, 'end_time');
	FOREACH v_name IN ARRAY '{start_time,end_time}'::text[] LOOP
		IF coalesce(req.query ->> v_name, '') = '' THEN
			v_problems := v_problems || coder.validation(v_name, format('Query param "%s" is required and cannot be empty', v_name));
		ELSIF coder.query_time(req, v_name) IS NULL THEN
			v_problems := v_problems || coder.validation(v_name, format('Query param "%s" must be a valid date format (2006-01-02T15:04:05Z07:00)', v_name));
		END IF;
	END LOOP;
	IF v_problems <> '[]' THEN
		PERFORM coder.raise(400, 'Query parameters have invalid values.', NULL, v_problems);
	END IF;
	IF end_time <= start_time THEN
		PERFORM coder.raise(400, 'Query parameter has invalid value.', NULL,
			jsonb_build_array(coder.validation('end_time', 'Query param "end_time" must be after "start_time"')));
	END IF;
END
$$;
COMMENT ON FUNCTION coder.insights_range(coder.request) IS
	'start_time and end_time of a report; errors: 400.';

CREATE OR REPLACE FUNCTION coder.insights_daus(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_offset text := coalesce(nullif(req.query ->> 'tz_offset', ''), '0');
	v_hours integer;
	v_entries json;
BEGIN
	IF v_offset !~ '^-?\d{1,2}$' OR v_offset::integer NOT BETWEEN -12 AND 14 THEN
		PERFORM coder.raise(400, 'Query parameters have invalid values.', NULL,
			jsonb_build_array(coder.validation('tz_offset', 'Query param "tz_offset" must be a number of hours between -12 and 14')));
	END IF;
	PERFORM coder.require('read', 'deployment_config');
	v_hours := v_offset::integer;
	-- Days of the asker's zone, sixty of them and today.
	SELECT json_agg(json_build_object('date', to_char(d.day, 'YYYY-MM-DD'), 'amount', coalesce(s.users, 0)) ORDER BY d.day)
	  INTO v_entries
	  FROM (SELECT (clock_timestamp() AT TIME ZONE 'UTC' + v_hours * interval '1 hour')::date - g AS day
			  FROM generate_series(0, 60) g) d
	  LEFT JOIN (SELECT (x.created_at AT TIME ZONE 'UTC' + v_hours * interval '1 hour')::date AS day,
						count(DISTINCT x.user_id) AS users
				   FROM coder.workspace_agent_stats x
				  WHERE x.connection_count > 0 AND x.created_at > now() - interval '63 days'
				  GROUP BY 1) s ON s.day = d.day;
	RETURN coder.reply(200, json_build_object('tz_hour_offset', v_hours, 'entries', v_entries));
END
$$;
COMMENT ON FUNCTION coder.insights_daus(coder.request) IS
	'GET /insights/daus?tz_offset=: users with connections, by day.';

CREATE OR REPLACE FUNCTION coder.insights_templates_of(req coder.request) RETURNS uuid[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_names text[] := coalesce(coder.query_list(req, 'template_ids'), '{}');
	v_ids uuid[];
BEGIN
	IF EXISTS (SELECT FROM unnest(v_names) n WHERE coder.try_uuid(n) IS NULL) THEN
		PERFORM coder.raise(400, 'Query parameters have invalid values.', NULL, jsonb_build_array(
			coder.validation('template_ids', 'Query param "template_ids" has invalid values')));
	END IF;
	v_ids := v_names::uuid[];
	-- Who may see the insights of all templates may; others name those that they may see.
	IF NOT coder.can('view_insights', 'template') AND (v_ids = '{}' OR EXISTS (
			SELECT FROM unnest(v_ids) i LEFT JOIN coder.templates t ON t.id = i
			 WHERE t.id IS NULL OR NOT coder.template_can('view_insights', t))) THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN nullif(v_ids, '{}');
END
$$;
COMMENT ON FUNCTION coder.insights_templates_of(coder.request) IS
	'The templates that a report is of, NULL for all; errors: 400, and 404 where the subject may not see the insights of one.';

CREATE OR REPLACE FUNCTION coder.insights_unbuilt(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM coder.insights_range(req);
	PERFORM coder.insights_templates_of(req);
	RETURN coder.not_built(req);
END
$$;
COMMENT ON FUNCTION coder.insights_unbuilt(coder.request) IS
	'GET /insights/templates, /insights/user-activity: refuses what they refuse; the reports are not built.';

CREATE OR REPLACE FUNCTION coder.insights_latency(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	r record;
	v_of uuid[];
	v_templates jsonb;
	v_users jsonb;
BEGIN
	SELECT * INTO r FROM coder.insights_range(req);
	v_of := coder.insights_templates_of(req);
	SELECT coalesce(jsonb_agg(DISTINCT s.template_id), '[]') INTO v_templates
	  FROM coder.workspace_agent_stats s
	 WHERE s.created_at >= r.start_time AND s.created_at < r.end_time AND s.connection_count > 0
	   AND (v_of IS NULL OR s.template_id = ANY (v_of));
	SELECT coalesce(jsonb_agg(jsonb_build_object('template_ids', x.templates, 'user_id', x.user_id,
			'username', u.username, 'avatar_url', u.avatar_url,
			'latency_ms', jsonb_build_object('p50', x.p50, 'p95', x.p95)) ORDER BY u.username), '[]') INTO v_users
	  FROM (SELECT s.user_id, jsonb_agg(DISTINCT s.template_id) AS templates,
				   percentile_cont(0.5) WITHIN GROUP (ORDER BY s.connection_median_latency_ms) AS p50,
				   percentile_cont(0.95) WITHIN GROUP (ORDER BY s.connection_median_latency_ms) AS p95
			  FROM coder.workspace_agent_stats s
			 WHERE s.created_at >= r.start_time AND s.created_at < r.end_time
			   AND s.connection_count > 0 AND s.connection_median_latency_ms > 0
			   AND (v_of IS NULL OR s.template_id = ANY (v_of))
			 GROUP BY s.user_id) x
	  JOIN coder.users u ON u.id = x.user_id;
	RETURN coder.reply(200, jsonb_build_object('report', jsonb_build_object('start_time', coder.ts(r.start_time),
		'end_time', coder.ts(r.end_time), 'template_ids', v_templates, 'users', v_users)));
END
$$;
COMMENT ON FUNCTION coder.insights_latency(coder.request) IS
	'GET /insights/user-latency?start_time=&end_time=: median latency of each user''s connections.';

INSERT INTO coder.routes (area, method, pattern, function) VALUES
	('usage', 'GET', '/api/v2/insights/daus', 'insights_daus'),
	('usage', 'GET', '/api/v2/insights/templates', 'insights_unbuilt'),
	('usage', 'GET', '/api/v2/insights/user-activity', 'insights_unbuilt'),
	('usage', 'GET', '/api/v2/insights/user-latency', 'insights_latency');
