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

CREATE OR REPLACE FUNCTION coder.raise_insights(name text, detail text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM coder.raise(400, 'Query parameter has invalid value.', NULL, jsonb_build_array(coder.validation(name, detail)));
END
$$;
COMMENT ON FUNCTION coder.raise_insights(text, text) IS 'The error of a report''s parameter: 400.';

CREATE OR REPLACE FUNCTION coder.insights_range(req coder.request, known text[] DEFAULT '{}') RETURNS TABLE (start_time timestamptz, end_time timestamptz, shift interval)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_name text;
	v_problems jsonb := '[]';
	v_value text;
	v_time timestamptz;
	v_clock text;
	v_today date;
BEGIN
	FOREACH v_name IN ARRAY '{start_time,end_time}'::text[] LOOP
		IF coalesce(req.query ->> v_name, '') = '' THEN
			v_problems := v_problems || coder.validation(v_name, format('Query param "%s" is required and cannot be empty', v_name));
		END IF;
	END LOOP;
	FOR v_name IN SELECT DISTINCT rtrim(k, '[]') FROM jsonb_object_keys(req.query) k ORDER BY 1 LOOP
		IF v_name <> ALL (known || '{start_time,end_time,template_ids}'::text[]) THEN
			v_problems := v_problems || coder.validation(v_name, format('"%s" is not a valid query param', v_name));
		END IF;
	END LOOP;
	IF v_problems <> '[]' THEN
		PERFORM coder.raise(400, 'Query parameters have invalid values.', NULL, v_problems);
	END IF;
	FOREACH v_name IN ARRAY '{start_time,end_time}'::text[] LOOP
		v_value := req.query ->> v_name;
		v_time := coder.query_time(req, v_name);
		IF v_time IS NULL THEN
			PERFORM coder.raise_insights(v_name, format('Query param "%s" must be a valid date format (2006-01-02T15:04:05Z07:00)', v_name));
		ELSIF v_time <= '0001-01-01 00:00:00+00' THEN
			PERFORM coder.raise_insights(v_name, format('Query param "%s" must not be zero', v_name));
		ELSIF v_time > clock_timestamp() + interval '1 hour' THEN
			PERFORM coder.raise_insights(v_name, format('Query param "%s" must not be in the future', v_name));
		END IF;
		-- Days are those of the time's own offset.  The day that is not over may be asked for up to an hour of it.
		v_clock := substr(v_value, 12, 8);
		shift := substr(v_value, 1, 10)::date + v_clock::interval - v_time AT TIME ZONE 'UTC';
		v_today := (clock_timestamp() AT TIME ZONE 'UTC' + shift)::date;
		IF v_name = 'end_time' AND substr(v_value, 1, 10)::date = v_today THEN
			IF substr(v_clock, 4) <> '00:00' THEN
				PERFORM coder.raise_insights(v_name, format('Query param "%s" must have the clock set to %s:00:00, got %s', v_name, left(v_clock, 2), v_value));
			END IF;
		ELSIF v_clock <> '00:00:00' THEN
			PERFORM coder.raise_insights(v_name, format('Query param "%s" must have the clock set to 00:00:00, got %s', v_name, v_value));
		END IF;
		IF v_name = 'start_time' THEN
			start_time := v_time;
		ELSE
			end_time := v_time;
		END IF;
	END LOOP;
	IF end_time < start_time THEN
		PERFORM coder.raise_insights('end_time', 'Query param "end_time" must be after than "start_time"');
	END IF;
	RETURN NEXT;
END
$$;
COMMENT ON FUNCTION coder.insights_range(coder.request, text[]) IS
	'start_time and end_time of a report and the offset of its days; known: what else may be asked; errors: 400.';

CREATE OR REPLACE FUNCTION coder.require_insights() RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT coder.usage_collected() THEN
		PERFORM coder.raise(404, 'Not Found.', 'Template insights are disabled.');
	END IF;
END
$$;
COMMENT ON FUNCTION coder.require_insights() IS '404 where no samples are stored.';

CREATE OR REPLACE FUNCTION coder.insights_daus(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_zone CONSTANT text := coder.query_zone(req);
BEGIN
	PERFORM coder.require_insights();
	PERFORM coder.require('read', 'deployment_config');
	RETURN coder.reply(200, coder.daily_users(v_zone, NULL));
END
$$;
COMMENT ON FUNCTION coder.insights_daus(coder.request) IS
	'GET /insights/daus?tz_offset=, or ?timezone=: users with any use, by day of that zone.';

CREATE OR REPLACE FUNCTION coder.insights_templates_of(req coder.request) RETURNS uuid[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_names text[] := coalesce(coder.query_list(req, 'template_ids'), '{}');
	v_ids uuid[];
BEGIN
	PERFORM coder.require_insights();
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

CREATE OR REPLACE FUNCTION coder.app_minute(who uuid, workspace uuid, agent uuid, slug text, method text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_minute CONSTANT timestamptz := date_trunc('minute', clock_timestamp());
	v_session CONSTANT uuid := md5(format('%s %s %s', method, slug, extract(epoch FROM v_minute)))::uuid;
BEGIN
	-- Nearly every request ends here, without a write.
	IF who IS NULL OR current_setting('transaction_read_only')::boolean OR EXISTS (SELECT 1 FROM coder.workspace_app_stats s
			WHERE s.user_id = who AND s.agent_id = agent AND s.session_id = v_session) THEN
		RETURN;
	END IF;
	IF coder.usage_collected() THEN
		INSERT INTO coder.workspace_app_stats (user_id, workspace_id, agent_id, access_method, slug_or_port, session_id,
			session_started_at, session_ended_at, requests)
		VALUES (who, workspace, agent, method, slug, v_session, v_minute, v_minute + interval '1 minute', 1)
		ON CONFLICT ON CONSTRAINT workspace_app_stats_user_id_agent_id_session_id_key DO NOTHING;
	END IF;
	UPDATE coder.workspaces SET last_used_at = clock_timestamp() WHERE id = workspace AND last_used_at < v_minute;
END
$$;
COMMENT ON FUNCTION coder.app_minute(uuid, uuid, uuid, text, text) IS
	'Somebody uses an app (method path or subdomain) or a terminal in this minute: a row for each such minute, and the workspace was used.';

CREATE OR REPLACE FUNCTION coder.app_used(w coder.workspaces, agent uuid, slug text, method text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM coder.app_minute(coder.subject_id(), w.id, agent, slug, method);
END
$$;
COMMENT ON FUNCTION coder.app_used(coder.workspaces, uuid, text, text) IS
	'The subject opens an app (method path or subdomain) or a terminal: a row for each minute in which that happens, and the workspace was used.';

CREATE OR REPLACE FUNCTION coder.app_used_on(used jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM set_config('synchronous_commit', 'off', true);
	PERFORM coder.app_minute((used ->> 'user')::uuid, (used ->> 'workspace')::uuid, (used ->> 'agent')::uuid, used ->> 'slug', used ->> 'method');
END
$$;
COMMENT ON FUNCTION coder.app_used_on(jsonb) IS
	'The gateway: an app is kept open (a WebSocket); used is what coder.app_open_noted gave it.';

CREATE OR REPLACE FUNCTION coder.rollup_usage(at timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_since timestamptz := (SELECT date_trunc('hour', max(s.start_time) - interval '1 hour') FROM coder.template_usage_stats s);
	v_rows integer;
BEGIN
	v_since := coalesce(v_since, least((SELECT min(s.created_at) FROM coder.workspace_agent_stats s),
		(SELECT min(s.session_started_at) FROM coder.workspace_app_stats s)));
	v_since := date_bin('30 minutes', v_since, '2000-01-01 00:00:00+00');
	WITH sample AS (
		SELECT date_bin('30 minutes', s.created_at, '2000-01-01 00:00:00+00') AS bucket, date_trunc('minute', s.created_at) AS minute,
			   s.template_id, s.user_id, s.connection_count > 0 AS connected, s.session_count_ssh > 0 AS ssh,
			   s.session_count_reconnecting_pty > 0 AS pty, s.session_count_vscode > 0 AS vscode, s.session_count_jetbrains > 0 AS jetbrains,
			   CASE WHEN s.connection_median_latency_ms > 0 THEN s.connection_median_latency_ms END AS latency
		  FROM coder.workspace_agent_stats s WHERE s.created_at >= v_since AND s.created_at < at
	), connected AS (
		SELECT DISTINCT s.bucket, s.template_id, s.user_id FROM sample s WHERE s.connected
	), used AS (
		SELECT s.bucket, s.template_id, s.user_id, s.minute, NULL::text AS app, s.ssh, s.pty, s.vscode, s.jetbrains, s.latency
		  FROM sample s JOIN connected USING (bucket, template_id, user_id)
		 WHERE s.ssh OR s.pty OR s.vscode OR s.jetbrains
		UNION ALL
		SELECT date_bin('30 minutes', m.minute, '2000-01-01 00:00:00+00'), w.template_id, a.user_id, m.minute,
			   CASE WHEN a.access_method = 'terminal' THEN '[terminal]' ELSE a.slug_or_port END, NULL, NULL, NULL, NULL, NULL
		  FROM coder.workspace_app_stats a
		  JOIN coder.workspaces w ON w.id = a.workspace_id,
			   generate_series(date_trunc('minute', greatest(a.session_started_at, v_since)),
				least(a.session_ended_at, at) - interval '1 microsecond', interval '1 minute') m (minute)
		 WHERE a.session_ended_at > v_since AND a.session_started_at < at
	), apps AS (
		SELECT x.bucket, x.template_id, x.user_id, jsonb_object_agg(x.app, x.mins) AS mins
		  FROM (SELECT u.bucket, u.template_id, u.user_id, u.app, count(DISTINCT u.minute) AS mins
				  FROM used u WHERE u.app IS NOT NULL GROUP BY 1, 2, 3, 4) x
		 GROUP BY 1, 2, 3
	), sums AS (
		SELECT u.bucket, u.template_id, u.user_id, percentile_cont(0.5) WITHIN GROUP (ORDER BY u.latency) AS latency,
			   count(DISTINCT u.minute) AS mins, count(DISTINCT u.minute) FILTER (WHERE u.ssh) AS ssh,
			   count(DISTINCT u.minute) FILTER (WHERE u.pty) AS pty, count(DISTINCT u.minute) FILTER (WHERE u.vscode) AS vscode,
			   count(DISTINCT u.minute) FILTER (WHERE u.jetbrains) AS jetbrains
		  FROM used u GROUP BY 1, 2, 3
	)
	INSERT INTO coder.template_usage_stats AS t (start_time, end_time, template_id, user_id, median_latency_ms, usage_mins, ssh_mins,
		sftp_mins, reconnecting_pty_mins, vscode_mins, jetbrains_mins, app_usage_mins)
	SELECT s.bucket, s.bucket + interval '30 minutes', s.template_id, s.user_id, s.latency, s.mins, s.ssh, 0, s.pty, s.vscode, s.jetbrains, a.mins
	  FROM sums s LEFT JOIN apps a USING (bucket, template_id, user_id)
	ON CONFLICT (start_time, template_id, user_id) DO UPDATE SET median_latency_ms = excluded.median_latency_ms,
		usage_mins = excluded.usage_mins, ssh_mins = excluded.ssh_mins, reconnecting_pty_mins = excluded.reconnecting_pty_mins,
		vscode_mins = excluded.vscode_mins, jetbrains_mins = excluded.jetbrains_mins, app_usage_mins = excluded.app_usage_mins
	 WHERE (t.median_latency_ms, t.usage_mins, t.ssh_mins, t.reconnecting_pty_mins, t.vscode_mins, t.jetbrains_mins, t.app_usage_mins)
		IS DISTINCT FROM (excluded.median_latency_ms, excluded.usage_mins, excluded.ssh_mins, excluded.reconnecting_pty_mins,
			excluded.vscode_mins, excluded.jetbrains_mins, excluded.app_usage_mins);
	GET DIAGNOSTICS v_rows = ROW_COUNT;
	RETURN v_rows;
END
$$;
COMMENT ON FUNCTION coder.rollup_usage(timestamptz) IS
	'Counts the minutes of use in each half hour, of each template and user, from the samples since the hour before the newest; how many rows changed. Part of coder.tick().';

CREATE OR REPLACE FUNCTION coder.insights_builtin(since timestamptz, until timestamptz, of uuid[]) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_apps jsonb;
BEGIN
	WITH sums AS (
		SELECT sum(u.vscode) AS vscode, sum(u.jetbrains) AS jetbrains, sum(u.pty) AS pty, sum(u.ssh) AS ssh, sum(u.sftp) AS sftp
		  FROM coder.usage_of_users(since, until, of) u
	), template AS (
		SELECT t.template_id AS id, t.vscode, t.jetbrains, t.pty, t.ssh, t.sftp FROM coder.usage_of_templates(since, until, of) t
	), seen AS (
		SELECT jsonb_agg(x.id ORDER BY x.id) FILTER (WHERE x.vscode > 0) AS vscode, jsonb_agg(x.id ORDER BY x.id) FILTER (WHERE x.jetbrains > 0) AS jetbrains,
			   jsonb_agg(x.id ORDER BY x.id) FILTER (WHERE x.pty > 0) AS pty, jsonb_agg(x.id ORDER BY x.id) FILTER (WHERE x.ssh > 0) AS ssh,
			   jsonb_agg(x.id ORDER BY x.id) FILTER (WHERE x.sftp > 0) AS sftp FROM template x
	)
	SELECT jsonb_agg(jsonb_build_object('template_ids', coalesce(b.ids, '[]'), 'type', 'builtin', 'display_name', b.name, 'slug', b.slug,
			'icon', b.icon, 'seconds', 60 * coalesce(b.mins, 0), 'times_used', 0) ORDER BY b.n) INTO v_apps
	  FROM sums, seen, LATERAL (VALUES (1, 'vscode', 'Visual Studio Code', '/icon/code.svg', sums.vscode, seen.vscode),
				(2, 'jetbrains', 'JetBrains', '/icon/intellij.svg', sums.jetbrains, seen.jetbrains),
				(3, 'reconnecting-pty', 'Web Terminal', '/icon/terminal.svg', sums.pty, seen.pty), (4, 'ssh', 'SSH', '/icon/terminal.svg', sums.ssh, seen.ssh),
				(5, 'sftp', 'SFTP', '/icon/terminal.svg', sums.sftp, seen.sftp)) b (n, slug, name, icon, mins, ids);
	RETURN v_apps;
END
$$;
COMMENT ON FUNCTION coder.insights_builtin(timestamptz, timestamptz, uuid[]) IS
	'TemplateAppUsage of what every template has; how often these were used is counted of no one.';

CREATE OR REPLACE FUNCTION coder.insights_apps(since timestamptz, until timestamptz, of uuid[]) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET work_mem = '32MB' SET jit = off SET plan_cache_mode = force_custom_plan AS $$
DECLARE
	v_apps jsonb;
BEGIN
	WITH use AS MATERIALIZED (
		SELECT u.* FROM coder.usage_of_apps(since, until, of) u
	), named AS MATERIALIZED (
		-- What a template calls its app now.
		SELECT DISTINCT ON (v.template_id, p.slug) v.template_id, p.slug, p.display_name, p.icon
		  FROM coder.workspace_apps p JOIN coder.workspace_agents a ON a.id = p.agent_id JOIN coder.workspace_resources r ON r.id = a.resource_id
		  JOIN coder.workspace_builds b ON b.job_id = r.job_id JOIN coder.template_versions v ON v.id = b.template_version_id
		 WHERE v.template_id IN (SELECT u.template_id FROM use u)
		 ORDER BY v.template_id, p.slug, p.created_at DESC
	), app AS MATERIALIZED (
		SELECT row_number() OVER () AS app, x.* FROM (SELECT DISTINCT n.slug, n.display_name, n.icon FROM named n) x
	), told AS MATERIALIZED (
		SELECT n.template_id, n.slug, a.app FROM named n JOIN app a USING (slug, display_name, icon)
	), day AS MATERIALIZED (
		SELECT u.day, u.user_id, t.app, sum(u.mins) AS mins, bit_or(u.halves) AS halves,
			   count(*) > 1 AND sum(bit_count(u.halves::bit(64))) > bit_count(bit_or(u.halves)::bit(64)) AS meet
		  FROM use u JOIN told t USING (template_id, slug)
		 GROUP BY u.day, u.user_id, t.app
	), met AS (
		-- The same app of two templates in one half hour: it has thirty minutes.
		SELECT h.day, h.user_id, h.app, sum(h.mins) AS mins
		  FROM (SELECT d.day, d.user_id, d.app, least(30, sum(k.value::integer)) AS mins
				  FROM day d JOIN coder.template_usage_stats s ON s.start_time >= greatest(since, d.day::timestamp AT TIME ZONE 'UTC')
				   AND s.start_time < least(until, (d.day + 1)::timestamp AT TIME ZONE 'UTC') AND s.user_id = d.user_id AND (of IS NULL OR s.template_id = ANY (of)),
					   jsonb_each_text(s.app_usage_mins) k JOIN told t ON t.slug = k.key
				 WHERE d.meet AND t.template_id = s.template_id AND t.app = d.app
				 GROUP BY d.day, d.user_id, d.app, s.start_time) h
		 GROUP BY h.day, h.user_id, h.app
	), run AS (
		-- Bits whose half hour before is none; the last of a day goes on in the first of the next.
		SELECT d.app, CASE WHEN d.meet THEN m.mins ELSE d.mins END AS mins,
			   bit_count((d.halves & ~((d.halves << 1) | CASE WHEN lag(d.day) OVER w = d.day - 1 THEN lag(d.halves) OVER w >> 47 & 1 ELSE 0 END))::bit(64)) AS times
		  FROM day d LEFT JOIN met m USING (day, user_id, app)
		WINDOW w AS (PARTITION BY d.user_id, d.app ORDER BY d.day)
	), sums AS (
		SELECT r.app, 60 * sum(r.mins) AS seconds, sum(r.times) AS times FROM run r GROUP BY r.app
	), of_app AS (
		SELECT t.app, jsonb_agg(t.template_id ORDER BY t.template_id) AS ids
		  FROM told t WHERE (t.template_id, t.slug) IN (SELECT u.template_id, u.slug FROM use u) GROUP BY t.app
	)
	SELECT jsonb_agg(jsonb_build_object('template_ids', o.ids, 'type', 'app', 'display_name', a.display_name, 'slug', a.slug, 'icon', a.icon,
			'seconds', s.seconds, 'times_used', s.times) ORDER BY a.slug COLLATE "C", a.display_name COLLATE "C", a.icon COLLATE "C") INTO v_apps
	  FROM sums s JOIN app a USING (app) JOIN of_app o USING (app);
	RETURN coalesce(v_apps, '[]');
END
$$;
COMMENT ON FUNCTION coder.insights_apps(timestamptz, timestamptz, uuid[]) IS
	'TemplateAppUsage of the templates'' own apps; a run of half hours one behind the other is used once.';

CREATE OR REPLACE FUNCTION coder.insights_parameters(since timestamptz, until timestamptz, of uuid[]) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_parameters jsonb;
BEGIN
	WITH latest AS (
		SELECT DISTINCT ON (b.workspace_id) b.id, b.template_version_id
		  FROM coder.workspace_builds b WHERE b.created_at >= since AND b.created_at < until
		 ORDER BY b.workspace_id, b.build_number DESC
	), value AS (
		SELECT v.template_id, p.name, p.display_name, p.type, p.description, p.options, x.value
		  FROM latest b JOIN coder.template_versions v ON v.id = b.template_version_id
		  JOIN coder.template_version_parameters p ON p.template_version_id = v.id
		  JOIN coder.workspace_build_parameters x ON x.workspace_build_id = b.id AND x.name = p.name
		 WHERE v.template_id IS NOT NULL AND (of IS NULL OR v.template_id = ANY (of))
	), counted AS (
		SELECT name, display_name, type, description, options, value, count(*) AS n, array_agg(DISTINCT template_id) AS templates
		  FROM value GROUP BY 1, 2, 3, 4, 5, 6
	)
	SELECT jsonb_agg(x.j ORDER BY x.name COLLATE "C", x.display_name COLLATE "C") INTO v_parameters
	  FROM (SELECT c.name, c.display_name, jsonb_build_object('template_ids', (SELECT jsonb_agg(DISTINCT t ORDER BY t) FROM counted d, unnest(d.templates) t
					WHERE (d.name, d.display_name, d.type, d.description, d.options) = (c.name, c.display_name, c.type, c.description, c.options)),
				'display_name', c.display_name, 'name', c.name, 'type', c.type, 'description', c.description,
				'values', jsonb_agg(jsonb_build_object('value', c.value, 'count', c.n) ORDER BY c.value COLLATE "C"))
				|| CASE WHEN c.options = '[]' THEN '{}' ELSE jsonb_build_object('options', c.options) END AS j
			  FROM counted c GROUP BY c.name, c.display_name, c.type, c.description, c.options) x;
	RETURN coalesce(v_parameters, '[]');
END
$$;
COMMENT ON FUNCTION coder.insights_parameters(timestamptz, timestamptz, uuid[]) IS
	'TemplateParameterUsage: the values in the latest build of each workspace that was built in that time.';

CREATE OR REPLACE FUNCTION coder.insights_intervals(since timestamptz, until timestamptz, of uuid[], name text, zone text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_step CONSTANT interval := CASE name WHEN 'week' THEN interval '7 days' ELSE interval '1 day' END;
	v_sinces timestamptz[];
	v_untils timestamptz[];
	v_reports jsonb;
BEGIN
	SELECT array_agg(i.since ORDER BY i.since), array_agg(i.until ORDER BY i.since) INTO v_sinces, v_untils
	  FROM (SELECT g AT TIME ZONE zone AS since, least((g + v_step) AT TIME ZONE zone, until) AS until
			  FROM generate_series(since AT TIME ZONE zone, until AT TIME ZONE zone - interval '1 microsecond', v_step) g) i;
	WITH used AS MATERIALIZED (
		SELECT u.* FROM coder.usage_in(v_sinces, v_untils, of) u
	), users AS (
		SELECT x.n, count(*) AS users FROM (SELECT DISTINCT u.n, u.user_id FROM used u) x GROUP BY x.n
	), templates AS (
		SELECT x.n, jsonb_agg(x.template_id ORDER BY x.template_id) AS templates FROM (SELECT DISTINCT u.n, u.template_id FROM used u) x GROUP BY x.n
	)
	SELECT jsonb_agg(jsonb_build_object('start_time', coder.ts_at(i.since, i.since AT TIME ZONE zone - i.since AT TIME ZONE 'UTC'),
			'end_time', coder.ts_at(i.until, i.until AT TIME ZONE zone - i.until AT TIME ZONE 'UTC'),
			'template_ids', coalesce(t.templates, '[]'), 'interval', name, 'active_users', coalesce(u.users, 0)) ORDER BY i.since) INTO v_reports
	  FROM ROWS FROM (unnest(v_sinces), unnest(v_untils)) WITH ORDINALITY i (since, until, n) LEFT JOIN users u USING (n) LEFT JOIN templates t USING (n);
	RETURN coalesce(v_reports, '[]');
END
$$;
COMMENT ON FUNCTION coder.insights_intervals(timestamptz, timestamptz, uuid[], text, text) IS
	'TemplateInsightsIntervalReport for each day or week of a zone, those when clocks change included; the last one may be shorter.';

CREATE OR REPLACE FUNCTION coder.ts_at(t timestamptz, shift interval) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF shift = interval '0' THEN
		RETURN coder.ts(t);
	END IF;
	RETURN to_char(t AT TIME ZONE 'UTC' + shift, 'YYYY-MM-DD"T"HH24:MI:SS')
		|| CASE WHEN shift < interval '0' THEN '-' ELSE '+' END || to_char(greatest(shift, -shift), 'HH24:MI');
END
$$;
COMMENT ON FUNCTION coder.ts_at(timestamptz, interval) IS 'A time of RFC 3339 with an offset from UTC.';

CREATE OR REPLACE FUNCTION coder.insights_templates(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	r record;
	v_of uuid[];
	v_interval CONSTANT text := coalesce(req.query ->> 'interval', '');
	v_zone text;
	v_sections text[] := coalesce(coder.query_list(req, 'sections'), '{}');
	v_answer jsonb := '{}';
	v_whole record;
BEGIN
	SELECT * INTO r FROM coder.insights_range(req, '{interval,sections,timezone}');
	-- Without a zone's name, all days are those of end_time's offset (POSIX counts west of Greenwich).
	v_zone := CASE WHEN coalesce(req.query ->> 'timezone', '') <> '' THEN coder.query_zone(req)
				   ELSE format('<Z>%s%s', CASE WHEN r.shift > interval '0' THEN '-' ELSE '+' END, to_char(greatest(r.shift, -r.shift), 'HH24:MI:SS')) END;
	IF v_interval NOT IN ('', 'day', 'week') THEN
		PERFORM coder.raise_insights('interval', 'must be one of [day week]');
	ELSIF NOT v_sections <@ '{interval_reports,report}'::text[] THEN
		PERFORM coder.raise_insights('sections', 'must be one of [interval_reports report]');
	ELSIF v_interval = 'week' AND ((r.end_time AT TIME ZONE v_zone)::date - (r.start_time AT TIME ZONE v_zone)::date) % 7 NOT IN (0, 6) THEN
		PERFORM coder.raise(400, 'Query parameter has invalid value.', 'Last report interval should have at least 6 days.');
	END IF;
	v_of := coder.insights_templates_of(req);
	IF v_sections = '{}' OR 'report' = ANY (v_sections) THEN
		WITH used AS MATERIALIZED (
			SELECT u.* FROM coder.usage_in(ARRAY[r.start_time], ARRAY[r.end_time], v_of) u
		)
		SELECT (SELECT count(*) FROM (SELECT DISTINCT u.user_id FROM used u) x) AS users,
			   coalesce((SELECT jsonb_agg(x.template_id ORDER BY x.template_id) FROM (SELECT DISTINCT u.template_id FROM used u) x), '[]') AS templates INTO v_whole;
		v_answer := jsonb_build_object('report', jsonb_build_object('start_time', coder.ts_at(r.start_time, r.shift),
			'end_time', coder.ts_at(r.end_time, r.shift), 'template_ids', v_whole.templates, 'active_users', v_whole.users,
			'apps_usage', coder.insights_builtin(r.start_time, r.end_time, v_of) || coder.insights_apps(r.start_time, r.end_time, v_of),
			'parameters_usage', coder.insights_parameters(r.start_time, r.end_time, v_of)));
	END IF;
	IF v_interval <> '' AND (v_sections = '{}' OR 'interval_reports' = ANY (v_sections)) THEN
		v_answer := v_answer || jsonb_build_object('interval_reports',
			coder.insights_intervals(r.start_time, r.end_time, v_of, v_interval, v_zone));
	END IF;
	RETURN coder.reply(200, v_answer);
END
$$;
COMMENT ON FUNCTION coder.insights_templates(coder.request) IS
	'GET /insights/templates?start_time=&end_time=&interval=&sections=&template_ids=&timezone=: who used which apps, and which parameters workspaces have.';

CREATE OR REPLACE FUNCTION coder.insights_activity(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	r record;
	v_users jsonb;
	v_of uuid[];
BEGIN
	SELECT * INTO r FROM coder.insights_range(req);
	v_of := coder.insights_templates_of(req);
	SELECT coalesce(jsonb_agg(jsonb_build_object('template_ids', x.templates, 'user_id', x.user_id, 'username', u.username,
			'avatar_url', u.avatar_url, 'seconds', s.seconds) ORDER BY u.username COLLATE "C"), '[]') INTO v_users
	  FROM (SELECT y.user_id, 60 * y.usage AS seconds FROM coder.usage_of_users(r.start_time, r.end_time, v_of) y) s
	  JOIN (SELECT d.user_id, jsonb_agg(d.template_id ORDER BY d.template_id) AS templates
			  FROM coder.usage_in(ARRAY[r.start_time], ARRAY[r.end_time], v_of) d
			 GROUP BY d.user_id) x USING (user_id)
	  JOIN coder.users u ON u.id = x.user_id;
	RETURN coder.reply(200, jsonb_build_object('report', jsonb_build_object('start_time', coder.ts_at(r.start_time, r.shift),
		'end_time', coder.ts_at(r.end_time, r.shift), 'template_ids', coalesce((SELECT jsonb_agg(DISTINCT t ORDER BY t)
			FROM jsonb_array_elements(v_users) e, jsonb_array_elements_text(e -> 'template_ids') t), '[]'), 'users', v_users)));
END
$$;
COMMENT ON FUNCTION coder.insights_activity(coder.request) IS
	'GET /insights/user-activity?start_time=&end_time=&template_ids=: how long each user worked.';

CREATE OR REPLACE FUNCTION coder.insights_latency(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	r record;
	v_of uuid[];
	v_users jsonb;
BEGIN
	SELECT * INTO r FROM coder.insights_range(req);
	v_of := coder.insights_templates_of(req);
	SELECT coalesce(jsonb_agg(jsonb_build_object('template_ids', x.templates, 'user_id', x.user_id,
			'username', u.username, 'avatar_url', u.avatar_url,
			'latency_ms', jsonb_build_object('p50', coalesce(x.p50, -1), 'p95', coalesce(x.p95, -1))) ORDER BY u.username COLLATE "C"), '[]') INTO v_users
	  FROM (SELECT t.user_id, jsonb_agg(DISTINCT t.template_id ORDER BY t.template_id) AS templates,
				   percentile_cont(0.5) WITHIN GROUP (ORDER BY t.median_latency_ms) AS p50,
				   percentile_cont(0.95) WITHIN GROUP (ORDER BY t.median_latency_ms) AS p95
			  FROM coder.template_usage_stats t
			 WHERE t.start_time >= r.start_time AND t.start_time < r.end_time AND (v_of IS NULL OR t.template_id = ANY (v_of))
			 GROUP BY t.user_id) x
	  JOIN coder.users u ON u.id = x.user_id;
	RETURN coder.reply(200, jsonb_build_object('report', jsonb_build_object('start_time', coder.ts_at(r.start_time, r.shift),
		'end_time', coder.ts_at(r.end_time, r.shift), 'template_ids', coalesce((SELECT jsonb_agg(DISTINCT t ORDER BY t)
			FROM jsonb_array_elements(v_users) e, jsonb_array_elements_text(e -> 'template_ids') t), '[]'), 'users', v_users)));
END
$$;
COMMENT ON FUNCTION coder.insights_latency(coder.request) IS
	'GET /insights/user-latency?start_time=&end_time=&template_ids=: latency of each user''s connections, of the medians of half hours; -1: not known.';

INSERT INTO coder.routes (area, method, pattern, function, pool, read_only) VALUES
	('usage', 'GET', '/api/v2/insights/daus', 'insights_daus', 'slow', true),
	('usage', 'GET', '/api/v2/insights/templates', 'insights_templates', 'slow', true),
	('usage', 'GET', '/api/v2/insights/user-activity', 'insights_activity', 'slow', true),
	('usage', 'GET', '/api/v2/insights/user-latency', 'insights_latency', 'slow', true);
