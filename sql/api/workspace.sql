-- SPDX-License-Identifier: MIT
--
-- workspace.sql
--   Workspaces: list, search, create, settings, dormancy, sharing, watching.

-- ---- schedules ----

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
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
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

-- ---- access and representation ----

CREATE OR REPLACE FUNCTION coder.workspace_can(action text, w coder.workspaces) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED AS $$
BEGIN
	-- A dormant workspace is an object of its own type, and is shared with nobody.
	IF (w).dormant_at IS NULL THEN
		RETURN coder.can(action, 'workspace', (w).organization_id, (w).owner_id,
						 (w).user_acl, (w).group_acl, (w).id);
	END IF;
	RETURN coder.can(action, 'workspace_dormant', (w).organization_id, (w).owner_id,
					 NULL::pg_catalog.jsonb, NULL::pg_catalog.jsonb, (w).id);
END
$$;
COMMENT ON FUNCTION coder.workspace_can(text, coder.workspaces) IS
	'May the subject do this to the workspace?';

CREATE OR REPLACE FUNCTION coder.workspaces_json(ids uuid[], viewer uuid DEFAULT NULL, fresh boolean DEFAULT false)
RETURNS text
AS 'MODULE_PATHNAME', 'coder_workspaces_json'
LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION coder.workspaces_json(uuid[], uuid, boolean) IS
	'JSON array of workspaces, in the order of ids, as viewer sees them (favorite); fresh: as in the answer to the request that made the build.';

CREATE OR REPLACE FUNCTION coder.workspace_json(id uuid, fresh boolean DEFAULT false) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_list text := coder.workspaces_json(ARRAY[id], coder.subject_id(), fresh);
BEGIN
	RETURN substr(v_list, 2, length(v_list) - 2);
END
$$;
COMMENT ON FUNCTION coder.workspace_json(uuid, boolean) IS 'JSON of one workspace.';

CREATE OR REPLACE FUNCTION coder.workspace_shared_with(user_acl jsonb, group_acl jsonb) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v json;
BEGIN
	SELECT json_agg(json_strip_nulls(json_build_object('id', s.id, 'actor_type', s.kind, 'name', s.name,
			'avatar_url', nullif(s.avatar, ''),
			'roles', json_build_array(coder.workspace_role(jsonb_build_object('permissions', s.permissions)))))
			ORDER BY s.kind DESC, s.name)
	  INTO v
	  FROM (SELECT u.id, 'user' AS kind, coalesce(nullif(u.name, ''), u.username) AS name,
				   u.avatar_url AS avatar, a.value -> 'permissions' AS permissions
			  FROM jsonb_each(user_acl) a JOIN coder.users u ON u.id = a.key::uuid
			UNION ALL
			SELECT g.id, 'group', coalesce(nullif(g.display_name, ''), g.name), g.avatar_url,
				   a.value -> 'permissions'
			  FROM jsonb_each(group_acl) a JOIN coder.groups g ON g.id = a.key::uuid) s;
	RETURN v::text;
END
$$;
COMMENT ON FUNCTION coder.workspace_shared_with(jsonb, jsonb) IS
	'JSON of those a workspace is shared with; NULL if with nobody.';

CREATE OR REPLACE FUNCTION coder.param_workspace(req coder.request, action text DEFAULT 'read')
RETURNS coder.workspaces
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_id uuid := coder.param_uuid(req, 'workspace');
	v coder.workspaces;
BEGIN
	SELECT * INTO v FROM coder.workspaces w WHERE w.id = v_id;
	IF NOT FOUND OR NOT coder.workspace_can('read', v)
		OR (action <> 'read' AND NOT coder.workspace_can(action, v)) THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN v;
END
$$;
COMMENT ON FUNCTION coder.param_workspace(coder.request, text) IS
	'The workspace of the path, that the subject may read and do action to; else 404.';

-- ---- search ----

CREATE OR REPLACE FUNCTION coder.search_tokens(q text) RETURNS TABLE (key text, value text)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_token text;
	v_free text := '';
	v_parts text[];
BEGIN
	FOR v_token IN
		SELECT m[1] FROM regexp_matches(lower(q), '((?:"[^"]*"|[^\s"])+)', 'g') m
	LOOP
		-- A colon inside quotes separates nothing.
		IF position(':' IN regexp_replace(v_token, '"[^"]*"', '', 'g')) = 0 THEN
			v_free := btrim(v_free || ' ' || replace(v_token, '"', ''));
			CONTINUE;
		END IF;
		IF left(v_token, 1) = ':' OR right(v_token, 1) = ':' THEN
			PERFORM coder.raise_validations(ARRAY[coder.validation('q',
				format('Query element "%s" cannot start or end with '':''', v_token))]);
		END IF;
		v_parts := regexp_match(v_token, '^([^:"]*):(.*)$');
		IF v_parts IS NULL OR position(':' IN regexp_replace(v_parts[2], '"[^"]*"', '', 'g')) > 0 THEN
			PERFORM coder.raise_validations(ARRAY[coder.validation('q',
				format('Query element "%s" can only contain 1 '':''', v_token))]);
		END IF;
		key := v_parts[1];
		FOREACH value IN ARRAY string_to_array(replace(v_parts[2], '"', ''), ',') LOOP
			RETURN NEXT;
		END LOOP;
	END LOOP;
	IF v_free <> '' THEN
		key := '';
		value := v_free;
		RETURN NEXT;
	END IF;
END
$$;
COMMENT ON FUNCTION coder.search_tokens(text) IS
	'The filters of a search: one row a value; free text has an empty key. Errors: 400.';

CREATE OR REPLACE FUNCTION coder.search_bool(field text, value text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF value NOT IN ('1', 't', 'true', '0', 'f', 'false') THEN
		PERFORM coder.raise(400, 'Invalid workspace search query.', NULL,
			jsonb_build_array(coder.validation(field, format('Query param "%s" must be a valid boolean: strconv.ParseBool: parsing %s: invalid syntax', field, to_json(value)))));
	END IF;
	RETURN value IN ('1', 't', 'true');
END
$$;
COMMENT ON FUNCTION coder.search_bool(text, text) IS 'A boolean of a search; errors: 400.';

CREATE OR REPLACE FUNCTION coder.workspace_search_owner(value text) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF value = 'me' THEN
		RETURN format('w.owner_id = %L', coder.subject_id());
	END IF;
	RETURN format('w.owner_sort = %L', value);
END
$$;
COMMENT ON FUNCTION coder.workspace_search_owner(text) IS 'SQL condition of owner:value.';

CREATE OR REPLACE FUNCTION coder.like_literal(value text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN format('%L', '%' || regexp_replace(value, '([\\%_])', '\\\1', 'g') || '%');
END
$$;
COMMENT ON FUNCTION coder.like_literal(text) IS 'A quoted LIKE pattern that finds value as it is.';

CREATE OR REPLACE FUNCTION coder.workspace_search_status(value text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF value NOT IN ('pending', 'starting', 'running', 'stopping', 'stopped', 'failed', 'canceling',
					 'canceled', 'deleting', 'deleted') THEN
		PERFORM coder.raise(400, 'Invalid workspace search query.', NULL,
			jsonb_build_array(coder.validation('status', format('Query param "status" has invalid value: "%s" is not a valid value', value))));
	END IF;
	RETURN format('EXISTS (SELECT FROM coder.workspace_builds b JOIN coder.provisioner_jobs j ON j.id = b.job_id'
		|| ' WHERE b.id = w.latest_build_id AND coder.workspace_status(j.job_status::text, b.transition::text) = %L)', value);
END
$$;
COMMENT ON FUNCTION coder.workspace_search_status(text) IS 'SQL condition of status:value; errors: 400.';

CREATE OR REPLACE FUNCTION coder.workspace_search_agent(statuses text[]) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_status text;
BEGIN
	FOREACH v_status IN ARRAY statuses LOOP
		IF v_status NOT IN ('connecting', 'connected', 'disconnected', 'timeout') THEN
			PERFORM coder.raise(400, 'Invalid workspace search query.', NULL,
				jsonb_build_array(coder.validation('has-agent', format('Query param "has-agent" has invalid value: "%s" is not a valid value', v_status))));
		END IF;
	END LOOP;
	RETURN format('EXISTS (SELECT FROM coder.workspace_builds b'
		|| ' JOIN coder.workspace_resources r ON r.job_id = b.job_id'
		|| ' JOIN coder.workspace_agents a ON a.resource_id = r.id AND NOT a.deleted'
		|| ' WHERE b.id = w.latest_build_id AND b.transition = ''start'''
		|| ' AND coder.agent_status(a.created_at, a.first_connected_at, a.last_connected_at, a.disconnected_at,'
		|| ' a.connection_timeout_seconds, now(), 30) = ANY (%L::text[]))', statuses);
END
$$;
COMMENT ON FUNCTION coder.workspace_search_agent(text[]) IS 'SQL condition of has-agent; errors: 400.';

CREATE OR REPLACE FUNCTION coder.workspace_search_free(value text) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_parts text[] := string_to_array(value, '/');
BEGIN
	IF cardinality(v_parts) > 2 THEN
		PERFORM coder.raise(400, 'Invalid workspace search query.', NULL,
			jsonb_build_array(coder.validation('q', format('Query element "%s" can only contain 1 ''/''', value))));
	END IF;
	IF cardinality(v_parts) = 2 THEN
		RETURN concat_ws(' AND ', coder.workspace_search_owner(v_parts[1]),
						 'lower(w.name) LIKE ' || coder.like_literal(v_parts[2]));
	END IF;
	RETURN 'lower(w.name) LIKE ' || coder.like_literal(value);
END
$$;
COMMENT ON FUNCTION coder.workspace_search_free(text) IS
	'SQL condition of free text: a part of the name, or owner/name.';

CREATE OR REPLACE FUNCTION coder.workspace_search_param(value text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_parts text[] := string_to_array(value, '=');
BEGIN
	IF cardinality(v_parts) > 2 OR v_parts[2] = '' THEN
		PERFORM coder.raise(400, 'Invalid workspace search query.', NULL,
			jsonb_build_array(coder.validation('param',
				format(CASE WHEN v_parts[2] = '' THEN 'query element "%s" has an empty value. omit the ''='' to match just on the parameter name'
					   ELSE 'query element "%s" can only contain 1 ''=''' END, value))));
	END IF;
	RETURN format('EXISTS (SELECT FROM coder.workspace_build_parameters p WHERE p.workspace_build_id = w.latest_build_id'
		|| ' AND lower(p.name) = %L%s)', v_parts[1],
		CASE WHEN cardinality(v_parts) = 2 THEN format(' AND lower(p.value) = %L', v_parts[2]) ELSE '' END);
END
$$;
COMMENT ON FUNCTION coder.workspace_search_param(text) IS 'SQL condition of param:name or param:name=value.';

CREATE OR REPLACE FUNCTION coder.workspace_search_uuids(field text, vals text[]) RETURNS uuid[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_value text;
BEGIN
	FOREACH v_value IN ARRAY vals LOOP
		IF v_value !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
			PERFORM coder.raise(400, 'Invalid workspace search query.', NULL,
				jsonb_build_array(coder.validation(field, format('Query param "%s" must be a valid uuid: invalid UUID length: %s', field, length(v_value)))));
		END IF;
	END LOOP;
	RETURN vals::uuid[];
END
$$;
COMMENT ON FUNCTION coder.workspace_search_uuids(text, text[]) IS 'UUIDs of a search; errors: 400.';

CREATE OR REPLACE FUNCTION coder.workspace_search(q text) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_where text := 'true';
	v record;
	v_one text;
BEGIN
	FOR v IN SELECT t.key, array_agg(t.value) AS vals FROM coder.search_tokens(q) t GROUP BY t.key LOOP
		v_one := CASE v.key
			WHEN '' THEN coder.workspace_search_free(v.vals[1])
			WHEN 'id' THEN format('w.id = ANY (%L::uuid[])', coder.workspace_search_uuids('id', v.vals))
			WHEN 'owner' THEN coder.workspace_search_owner(v.vals[1])
			WHEN 'name' THEN 'lower(w.name) LIKE ' || coder.like_literal(v.vals[1])
			WHEN 'template' THEN format('EXISTS (SELECT FROM coder.templates t WHERE t.id = w.template_id AND lower(t.name) = %L)', v.vals[1])
			WHEN 'status' THEN coder.workspace_search_status(v.vals[1])
			WHEN 'has-agent' THEN coder.workspace_search_agent(v.vals)
			WHEN 'healthy' THEN coder.workspace_search_agent(
				CASE WHEN coder.search_bool('healthy', v.vals[1]) THEN '{connected}'::text[] ELSE '{disconnected,timeout}' END)
			WHEN 'dormant' THEN CASE WHEN coder.search_bool('dormant', v.vals[1]) THEN 'w.dormant_at IS NOT NULL' ELSE 'true' END
			WHEN 'outdated' THEN format('EXISTS (SELECT FROM coder.workspace_builds b, coder.templates t'
				|| ' WHERE b.id = w.latest_build_id AND t.id = w.template_id AND (b.template_version_id <> t.active_version_id) = %L)',
				coder.search_bool('outdated', v.vals[1]))
			WHEN 'has-ai-task' THEN format('EXISTS (SELECT FROM coder.workspace_builds b WHERE b.id = w.latest_build_id AND coalesce(b.has_ai_task, false) = %L)',
				coder.search_bool('has-ai-task', v.vals[1]))
			WHEN 'has_external_agent' THEN format('EXISTS (SELECT FROM coder.workspace_builds b WHERE b.id = w.latest_build_id AND coalesce(b.has_external_agent, false) = %L)',
				coder.search_bool('has_external_agent', v.vals[1]))
			WHEN 'organization' THEN format('w.organization_id IN (SELECT o.id FROM coder.organizations o WHERE o.id::text = %1$L OR lower(o.name) = %1$L)', v.vals[1])
			WHEN 'shared' THEN format('((w.user_acl <> ''{}'' OR w.group_acl <> ''{}'') = %L)', coder.search_bool('shared', v.vals[1]))
			WHEN 'shared_with_user' THEN format('EXISTS (SELECT FROM coder.users u WHERE (u.id::text = %1$L OR lower(u.username) = %1$L) AND w.user_acl ? u.id::text)',
				CASE WHEN v.vals[1] = 'me' THEN coder.subject_id()::text ELSE v.vals[1] END)
			WHEN 'shared_with_group' THEN format('EXISTS (SELECT FROM coder.groups g JOIN coder.organizations o ON o.id = g.organization_id'
				|| ' WHERE (g.id::text = %1$L OR lower(g.name) = %1$L OR lower(o.name || ''/'' || g.name) = %1$L) AND w.group_acl ? g.id::text)', v.vals[1])
			WHEN 'param' THEN '(' || (SELECT string_agg(coder.workspace_search_param(p), ' OR ') FROM unnest(v.vals) p) || ')'
		END;
		IF v_one IS NULL THEN
			PERFORM coder.raise(400, 'Invalid workspace search query.', NULL,
				jsonb_build_array(coder.validation(v.key, format('"%s" is not a valid query param', v.key))));
		END IF;
		v_where := v_where || ' AND ' || v_one;
	END LOOP;
	RETURN v_where;
END
$$;
COMMENT ON FUNCTION coder.workspace_search(text) IS
	'SQL condition on coder.workspaces w of a search; errors: 400.';

-- ---- list ----

CREATE OR REPLACE FUNCTION coder.workspace_page_all(viewer uuid, lim integer, off integer) RETURNS uuid[]
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED AS $$
DECLARE
	v_favorites uuid[];
	v_n integer;
	v_rest integer := lim;
	v_page uuid[] := '{}';
	v_others uuid[];
BEGIN
	SELECT pg_catalog.array_agg(w.id ORDER BY NOT w.running, pg_catalog.lower(w.name), w.id) INTO v_favorites
	  FROM coder.workspaces w
	 WHERE w.owner_id = viewer AND w.favorite AND NOT w.deleted;
	v_n := coalesce(pg_catalog.cardinality(v_favorites), 0);
	IF v_n > off THEN
		v_page := v_favorites[off + 1 : CASE WHEN lim IS NULL THEN v_n ELSE off + lim END];
		v_rest := lim - pg_catalog.cardinality(v_page);
	END IF;
	IF v_rest IS NULL OR v_rest > 0 THEN
		SELECT pg_catalog.array_agg(s.id) INTO v_others
		  FROM (SELECT w.id FROM coder.workspaces w
				 WHERE NOT w.deleted AND NOT (w.favorite AND w.owner_id = viewer)
				 ORDER BY NOT w.running, w.owner_sort, pg_catalog.lower(w.name), w.id
				 LIMIT v_rest OFFSET greatest(0, off - v_n)) s;
		v_page := v_page || coalesce(v_others, '{}');
	END IF;
	RETURN v_page;
END
$$;
COMMENT ON FUNCTION coder.workspace_page_all(uuid, integer, integer) IS
	'One page of all live workspaces in the list''s order; viewer''s favorites come first. A NULL limit is none.';

CREATE OR REPLACE FUNCTION coder.workspace_reads_all() RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	-- No workspace's: an allow list must let pass any id, not only objects without one.
	v_any constant uuid := '00000000-0000-0000-0000-000000000000';
BEGIN
	RETURN coder.can('read', 'workspace', id => v_any) AND coder.can('read', 'workspace_dormant', id => v_any);
END
$$;
COMMENT ON FUNCTION coder.workspace_reads_all() IS 'May the subject read every workspace?';

CREATE OR REPLACE FUNCTION coder.workspace_page_where(viewer uuid, lim integer, off integer, condition text,
										   OUT ids uuid[], OUT total bigint)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	-- In lists a dormant workspace is a workspace like the others.
	condition := format('(%s) AND %s', condition, coder.filter_sql('read', 'workspace', 'w.organization_id', 'w.owner_id', 'w.id',
		'w.user_acl', 'w.group_acl'));
	EXECUTE format('SELECT array_agg(s.id) FILTER (WHERE s.n > %2$s AND s.n <= %3$s), count(*) FROM ('
		|| 'SELECT w.id, row_number() OVER (ORDER BY NOT (w.favorite AND w.owner_id = $1), NOT w.running,'
		|| ' w.owner_sort, lower(w.name), w.id) AS n FROM coder.workspaces w WHERE NOT w.deleted AND %1$s ORDER BY n) s',
		condition, off, coalesce(off + lim::bigint, 9223372036854775807))
	   INTO ids, total USING viewer;
END
$$;
COMMENT ON FUNCTION coder.workspace_page_where(uuid, integer, integer, text) IS
	'One page of the live workspaces that match and that the subject may read, and how many there are.';

CREATE OR REPLACE FUNCTION coder.workspace_list(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED AS $$
DECLARE
	v_limit integer := coder.query_int(req, 'limit', 0);
	v_offset integer := coder.query_int(req, 'offset', 0);
	v_q text := pg_catalog.btrim(coalesce((req).query ->> 'q', ''));
	v_viewer uuid := coder.subject_id();
	v_ids uuid[];
	v_total bigint;
BEGIN
	IF v_limit = 0 THEN
		v_limit := NULL;
	END IF;
	IF v_q = '' AND coder.workspace_reads_all() THEN
		v_ids := coder.workspace_page_all(v_viewer, v_limit, v_offset);
		SELECT coalesce(pg_catalog.sum(t.live), 0) INTO v_total FROM coder.workspace_totals t;
	ELSE
		SELECT p.ids, p.total INTO v_ids, v_total
		  FROM coder.workspace_page_where(v_viewer, v_limit, v_offset, coder.workspace_search(v_q)) p;
	END IF;
	RETURN coder.reply(200, '{"workspaces":' || coder.workspaces_json(v_ids, v_viewer)
							|| ',"count":' || v_total || '}');
END
$$;
COMMENT ON FUNCTION coder.workspace_list(coder.request) IS
	'GET /workspaces?q=&limit=&offset=: those the subject may read.';

-- ---- one workspace ----

CREATE OR REPLACE FUNCTION coder.workspace_get(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_deleted boolean := coder.query_bool(req, 'include_deleted', false);
	w coder.workspaces := coder.param_workspace(req);
BEGIN
	IF w.deleted AND NOT v_deleted THEN
		PERFORM coder.raise(410, format('Workspace "%s" was deleted, you can view this workspace by specifying ''?deleted=true'' and trying again.', w.id));
	END IF;
	RETURN coder.reply(200, coder.workspace_json(w.id));
END
$$;
COMMENT ON FUNCTION coder.workspace_get(coder.request) IS 'GET /workspaces/{workspace}; 410 if deleted.';

CREATE OR REPLACE FUNCTION coder.param_workspace_by_name(req coder.request, deleted_too boolean) RETURNS coder.workspaces
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_user coder.users := coder.param_user(req);
	v coder.workspaces;
BEGIN
	SELECT * INTO v FROM coder.workspaces w
	 WHERE w.owner_id = v_user.id AND lower(w.name) = lower(req.params ->> 'workspacename')
	   AND (NOT w.deleted OR deleted_too)
	 ORDER BY w.deleted, w.created_at DESC LIMIT 1;
	IF NOT FOUND OR NOT coder.workspace_can('read', v) THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN v;
END
$$;
COMMENT ON FUNCTION coder.param_workspace_by_name(coder.request, boolean) IS
	'The workspace of the path''s user and name, the newest deleted one if there is no live one and deleted_too; else 404.';

CREATE OR REPLACE FUNCTION coder.workspace_get_by_name(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_text text := coalesce(req.query ->> 'include_deleted', '');
	w coder.workspaces;
BEGIN
	IF v_text NOT IN ('', '1', 't', 'T', 'TRUE', 'true', 'True', '0', 'f', 'F', 'FALSE', 'false', 'False') THEN
		PERFORM coder.raise(400, format('Invalid boolean value "%s" for "include_deleted" query param.', v_text));
	END IF;
	w := coder.param_workspace_by_name(req, lower(v_text) IN ('1', 't', 'true'));
	RETURN coder.reply(200, coder.workspace_json(w.id));
END
$$;
COMMENT ON FUNCTION coder.workspace_get_by_name(coder.request) IS
	'GET /users/{user}/workspace/{workspacename}.';

CREATE OR REPLACE FUNCTION coder.workspace_patch(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
	w coder.workspaces := coder.param_workspace(req, 'update');
	v_name text := coalesce(v_body ->> 'name', '');
BEGIN
	IF v_name <> '' AND NOT coder.name_ok(v_name) THEN
		PERFORM coder.raise_validations(ARRAY[coder.validation('name',
			format('Validation failed for tag "username" with value: "%s"', v_name))]);
	END IF;
	IF w.deleted THEN
		PERFORM coder.raise(405, format('Workspace "%s" is deleted and cannot be updated.', w.name));
	END IF;
	IF v_name <> '' AND v_name <> w.name THEN
		PERFORM coder.raise(400, 'Workspace renames are not allowed.');
	END IF;
	RETURN coder.reply(204, NULL::text);
END
$$;
COMMENT ON FUNCTION coder.workspace_patch(coder.request) IS
	'PATCH /workspaces/{workspace}: the same name only, as renames are switched off.';

-- ---- settings of a workspace ----

CREATE OR REPLACE FUNCTION coder.workspace_autostart(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
	w coder.workspaces := coder.param_workspace(req, 'update');
	v_schedule text := nullif(v_body ->> 'schedule', '');
	v_template record;
	v_next timestamptz;
	v_error text;
BEGIN
	SELECT t.allow_user_autostart, t.autostart_block_days_of_week::integer AS blocked INTO v_template
	  FROM coder.templates t WHERE t.id = w.template_id;
	IF v_schedule IS NOT NULL THEN
		SELECT p.error INTO v_error FROM coder.schedule_parse(v_schedule) p;
		IF v_error IS NOT NULL THEN
			PERFORM coder.raise(400, 'Invalid autostart schedule.', NULL,
				jsonb_build_array(coder.validation('schedule', v_error)));
		END IF;
		IF NOT v_template.allow_user_autostart THEN
			PERFORM coder.raise(400, 'Autostart is not allowed for workspaces using this template.');
		END IF;
		v_next := coder.schedule_next(v_schedule, now(), v_template.blocked);
		IF v_next IS NULL THEN
			PERFORM coder.raise(500, 'Internal error calculating workspace autostart schedule.');
		END IF;
	END IF;
	UPDATE coder.workspaces SET autostart_schedule = v_schedule, next_start_at = v_next, updated_at = now()
	 WHERE id = w.id;
	PERFORM coder.workspace_event(w.id, w.owner_id, 'mtd_update');
	RETURN coder.reply(204, NULL::text);
END
$$;
COMMENT ON FUNCTION coder.workspace_autostart(coder.request) IS
	'PUT /workspaces/{workspace}/autostart: schedule, null or empty for none.';

CREATE OR REPLACE FUNCTION coder.workspace_ttl(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
	w coder.workspaces := coder.param_workspace(req, 'update');
	v_ms bigint := coder.json_int(v_body, 'ttl_ms');
	v_error text;
BEGIN
	IF NOT (SELECT t.allow_user_autostop FROM coder.templates t WHERE t.id = w.template_id) THEN
		v_error := 'Custom autostop TTL is not allowed for workspaces using this template.';
	ELSIF coalesce(v_ms, 0) <> 0 THEN
		v_error := coder.check_ttl(v_ms);
	END IF;
	IF v_error IS NOT NULL THEN
		PERFORM coder.raise(400, 'Error updating workspace time until shutdown.', NULL,
			jsonb_build_array(coder.validation('ttl_ms', v_error)));
	END IF;
	IF coalesce(v_ms, 0) = 0 THEN
		UPDATE coder.workspaces SET ttl = NULL, updated_at = now() WHERE id = w.id;
		-- The running build has no deadline of its own any more.
		UPDATE coder.workspace_builds SET deadline = max_deadline, updated_at = now()
		 WHERE id = w.latest_build_id AND transition = 'start';
	ELSE
		UPDATE coder.workspaces SET ttl = v_ms / 60000 * 60000000000, updated_at = now() WHERE id = w.id;
	END IF;
	PERFORM coder.workspace_event(w.id, w.owner_id, 'mtd_update');
	RETURN coder.reply(204, NULL::text);
END
$$;
COMMENT ON FUNCTION coder.workspace_ttl(coder.request) IS
	'PUT /workspaces/{workspace}/ttl: milliseconds in whole minutes, null or 0 for none.';

CREATE OR REPLACE FUNCTION coder.json_int(body jsonb, field text) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_type text := jsonb_typeof(body -> field);
BEGIN
	IF v_type IS NULL OR v_type = 'null' THEN
		RETURN NULL;
	END IF;
	IF v_type <> 'number' OR (body ->> field) !~ '^-?\d{1,18}$' THEN
		PERFORM coder.raise(400, 'Request body must be valid JSON.',
			format('%s: a whole number is expected', field));
	END IF;
	RETURN (body ->> field)::bigint;
END
$$;
COMMENT ON FUNCTION coder.json_int(jsonb, text) IS
	'A whole number of a body, NULL where absent or null; errors: 400.';

CREATE OR REPLACE FUNCTION coder.workspace_extend(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
	w coder.workspaces;
	v_deadline timestamptz;
	b record;
BEGIN
	IF coalesce(v_body ->> 'deadline', '') IN ('', '0001-01-01T00:00:00Z') THEN
		PERFORM coder.raise_validations(ARRAY[coder.validation('deadline',
			'Validation failed for tag "required" with value: "0001-01-01 00:00:00 +0000 UTC"')]);
	END IF;
	IF v_body ->> 'deadline' !~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$' THEN
		PERFORM coder.raise(400, 'Request body must be valid JSON.',
			format('parsing time %s: not a time of RFC 3339', v_body -> 'deadline'));
	END IF;
	v_deadline := (v_body ->> 'deadline')::timestamptz;
	w := coder.param_workspace(req, 'update');
	SELECT bb.id, bb.transition::text AS transition, bb.deadline, bb.max_deadline, j.completed_at INTO b
	  FROM coder.workspace_builds bb JOIN coder.provisioner_jobs j ON j.id = bb.job_id
	 WHERE bb.id = w.latest_build_id;
	PERFORM CASE
		WHEN b.transition IS DISTINCT FROM 'start' THEN
			coder.raise(409, format('Workspace must be started, current status: %s', b.transition))
		WHEN b.completed_at IS NULL THEN coder.raise(409, 'Workspace is still building!')
		WHEN b.deadline = '0001-01-01 00:00:00+00' THEN coder.raise(409, 'Workspace shutdown is manual.')
		WHEN v_deadline < now() + interval '29 minutes' THEN
			coder.raise(400, 'Cannot extend workspace: new deadline must be at least 30 minutes in the future')
		WHEN b.max_deadline <> '0001-01-01 00:00:00+00' AND v_deadline > b.max_deadline THEN
			coder.raise(400, 'Cannot extend workspace beyond max deadline.')
		WHEN v_deadline < b.completed_at THEN
			coder.raise(400, 'Cannot extend workspace: new deadline must be before workspace start time')
	END;
	UPDATE coder.workspace_builds SET deadline = v_deadline, updated_at = now() WHERE id = b.id;
	PERFORM coder.workspace_event(w.id, w.owner_id, 'mtd_update');
	RETURN coder.reply(200, jsonb_build_object('message', format('Deadline updated to %s.', coder.ts(v_deadline))));
END
$$;
COMMENT ON FUNCTION coder.workspace_extend(coder.request) IS
	'PUT /workspaces/{workspace}/extend: a new deadline of the running build.';

CREATE OR REPLACE FUNCTION coder.workspace_set_dormant(id uuid, at timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	UPDATE coder.workspaces w
	   SET dormant_at = at,
		   deleting_at = CASE WHEN t.time_til_dormant_autodelete > 0
							  THEN at + t.time_til_dormant_autodelete / 1000 * interval '1 microsecond' END,
		   last_used_at = CASE WHEN at IS NULL THEN now() ELSE w.last_used_at END,
		   updated_at = now()
	  FROM coder.templates t
	 WHERE w.id = workspace_set_dormant.id AND t.id = w.template_id;
	PERFORM coder.workspace_event(w.id, w.owner_id, 'mtd_update')
	   FROM coder.workspaces w WHERE w.id = workspace_set_dormant.id;
END
$$;
COMMENT ON FUNCTION coder.workspace_set_dormant(uuid, timestamptz) IS
	'Makes a workspace dormant since a time, or wakes it (NULL).';

CREATE OR REPLACE FUNCTION coder.workspace_dormant(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
	w coder.workspaces := coder.param_workspace(req, 'update');
	v_dormant boolean := coalesce(v_body -> 'dormant' = 'true'::jsonb, false);
BEGIN
	IF (w.dormant_at IS NOT NULL) = v_dormant THEN
		RETURN coder.reply(304, NULL::text);
	END IF;
	PERFORM coder.workspace_set_dormant(w.id, CASE WHEN v_dormant THEN now() END);
	RETURN coder.reply(200, coder.workspace_json(w.id));
END
$$;
COMMENT ON FUNCTION coder.workspace_dormant(coder.request) IS
	'PUT /workspaces/{workspace}/dormant; 304 if it is so already.';

CREATE OR REPLACE FUNCTION coder.workspace_favorite(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w coder.workspaces := coder.param_workspace(req);
	v_on boolean := req.method = 'PUT';
BEGIN
	IF w.owner_id IS DISTINCT FROM coder.subject_id() THEN
		PERFORM coder.raise(403, CASE WHEN v_on THEN 'You can only favorite workspaces that you own.'
									  ELSE 'You can only un-favorite workspaces that you own.' END);
	END IF;
	UPDATE coder.workspaces SET favorite = v_on WHERE id = w.id;
	RETURN coder.reply(204, NULL::text);
END
$$;
COMMENT ON FUNCTION coder.workspace_favorite(coder.request) IS
	'PUT and DELETE /workspaces/{workspace}/favorite.';

CREATE OR REPLACE FUNCTION coder.workspace_autoupdates(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
	w coder.workspaces;
	v_updates text := coalesce(v_body ->> 'automatic_updates', '');
BEGIN
	IF v_updates NOT IN ('always', 'never') THEN
		PERFORM coder.raise(400, 'Invalid request', NULL,
			jsonb_build_array(coder.validation('automatic_updates', 'must be always or never')));
	END IF;
	w := coder.param_workspace(req, 'update');
	UPDATE coder.workspaces SET automatic_updates = v_updates::coder.automatic_updates, updated_at = now()
	 WHERE id = w.id;
	RETURN coder.reply(204, NULL::text);
END
$$;
COMMENT ON FUNCTION coder.workspace_autoupdates(coder.request) IS
	'PUT /workspaces/{workspace}/autoupdates: always or never.';

CREATE OR REPLACE FUNCTION coder.workspace_usage(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w coder.workspaces := coder.param_workspace(req, 'update');
BEGIN
	UPDATE coder.workspaces SET last_used_at = now() WHERE id = w.id AND last_used_at < now();
	RETURN coder.reply(204, NULL::text);
END
$$;
COMMENT ON FUNCTION coder.workspace_usage(coder.request) IS
	'POST /workspaces/{workspace}/usage: somebody uses it now.';

CREATE OR REPLACE FUNCTION coder.workspace_resolve_autostart(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w coder.workspaces := coder.param_workspace(req);
	t coder.templates;
	b coder.workspace_builds;
	v_mismatch boolean := false;
BEGIN
	SELECT * INTO t FROM coder.templates WHERE id = w.template_id;
	SELECT * INTO b FROM coder.workspace_builds WHERE id = w.latest_build_id;
	IF (w.automatic_updates = 'always' OR t.require_active_version)
		AND t.active_version_id <> b.template_version_id THEN
		SELECT EXISTS (SELECT FROM coder.resolve_parameters(t.active_version_id, b.id, '[]'::jsonb, NULL) r
						WHERE r.problem IS NOT NULL) INTO v_mismatch;
	END IF;
	RETURN coder.reply(200, jsonb_build_object('parameter_mismatch', v_mismatch));
END
$$;
COMMENT ON FUNCTION coder.workspace_resolve_autostart(coder.request) IS
	'GET /workspaces/{workspace}/resolve-autostart: would an update at the next start lack parameters?';

-- ---- sharing ----

CREATE OR REPLACE FUNCTION coder.workspace_acl_get(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w coder.workspaces := coder.param_workspace(req);
	v_users jsonb;
	v_groups jsonb;
BEGIN
	SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('id', u.id, 'username', u.username,
				'name', nullif(u.name, ''), 'avatar_url', nullif(u.avatar_url, ''),
				'role', coder.workspace_role(a.value))) ORDER BY u.username), '[]')
	  INTO v_users FROM jsonb_each(w.user_acl) a JOIN coder.users u ON u.id = a.key::uuid;
	SELECT coalesce(jsonb_agg(jsonb_build_object('id', g.id, 'name', g.name, 'display_name', g.display_name,
				'organization_id', g.organization_id, 'avatar_url', g.avatar_url,
				'role', coder.workspace_role(a.value)) ORDER BY g.name), '[]')
	  INTO v_groups FROM jsonb_each(w.group_acl) a JOIN coder.groups g ON g.id = a.key::uuid;
	RETURN coder.reply(200, jsonb_build_object('users', v_users, 'group', v_groups));
END
$$;
COMMENT ON FUNCTION coder.workspace_acl_get(coder.request) IS 'GET /workspaces/{workspace}/acl.';

CREATE OR REPLACE FUNCTION coder.workspace_role(acl jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN CASE WHEN acl -> 'permissions' ? 'update' OR acl -> 'permissions' ? '*' THEN 'admin' ELSE 'use' END;
END
$$;
COMMENT ON FUNCTION coder.workspace_role(jsonb) IS 'The role (use, admin) of an ACL entry of a workspace.';

CREATE OR REPLACE FUNCTION coder.workspace_role_acl(role text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN CASE role
		WHEN 'use' THEN '{"permissions": ["application_connect", "read", "ssh", "start", "stop"]}'::jsonb
		WHEN 'admin' THEN '{"permissions": ["application_connect", "create", "create_agent", "delete_agent", "read", "share", "ssh", "start", "stop", "update", "update_agent"]}'::jsonb
	END;
END
$$;
COMMENT ON FUNCTION coder.workspace_role_acl(text) IS 'The ACL entry of a role; NULL for none.';

CREATE OR REPLACE FUNCTION coder.workspace_acl_merge(acl jsonb, roles jsonb, kind text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v record;
	v_problems jsonb := '[]';
BEGIN
	FOR v IN SELECT r.key AS id, r.value AS role FROM jsonb_each_text(coalesce(nullif(roles, 'null'), '{}')) r LOOP
		IF v.role NOT IN ('use', 'admin', '') THEN
			v_problems := v_problems || coder.validation(kind || '_roles', format('role "%s" is not a valid workspace role', v.role));
		ELSIF v.id !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
			v_problems := v_problems || coder.validation(kind || '_roles', format('%s is not a valid UUID.', v.id));
		ELSIF v.role <> '' AND NOT EXISTS (
			SELECT FROM coder.users u WHERE kind = 'user' AND u.id = v.id::uuid AND NOT u.deleted
			UNION ALL
			SELECT FROM coder.groups g WHERE kind = 'group' AND g.id = v.id::uuid) THEN
			v_problems := v_problems || coder.validation(kind || '_roles', format('%s with ID %s does not exist', kind, v.id));
		ELSIF v.role = '' THEN
			acl := acl - lower(v.id);
		ELSE
			acl := jsonb_set(acl, ARRAY[lower(v.id)], coder.workspace_role_acl(v.role));
		END IF;
	END LOOP;
	IF v_problems <> '[]' THEN
		PERFORM coder.raise(400, 'Invalid request to update workspace ACL', NULL, v_problems);
	END IF;
	RETURN acl;
END
$$;
COMMENT ON FUNCTION coder.workspace_acl_merge(jsonb, jsonb, text) IS
	'An ACL with a map of id to role applied; an empty role removes. Errors: 400.';

CREATE OR REPLACE FUNCTION coder.workspace_acl_patch(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
	w coder.workspaces := coder.param_workspace(req, 'share');
BEGIN
	IF v_body -> 'user_roles' ? coder.subject_id()::text THEN
		PERFORM coder.raise(400, 'You cannot change your own workspace sharing role.');
	END IF;
	UPDATE coder.workspaces
	   SET user_acl = coder.workspace_acl_merge(w.user_acl, v_body -> 'user_roles', 'user'),
		   group_acl = coder.workspace_acl_merge(w.group_acl, v_body -> 'group_roles', 'group'),
		   updated_at = now()
	 WHERE id = w.id;
	PERFORM coder.workspace_event(w.id, w.owner_id, 'mtd_update');
	RETURN coder.reply(204, NULL::text);
END
$$;
COMMENT ON FUNCTION coder.workspace_acl_patch(coder.request) IS
	'PATCH /workspaces/{workspace}/acl: user_roles, group_roles.';

CREATE OR REPLACE FUNCTION coder.workspace_acl_delete(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w coder.workspaces := coder.param_workspace(req, 'share');
BEGIN
	UPDATE coder.workspaces SET user_acl = '{}', group_acl = '{}', updated_at = now() WHERE id = w.id;
	PERFORM coder.workspace_event(w.id, w.owner_id, 'mtd_update');
	RETURN coder.reply(204, NULL::text);
END
$$;
COMMENT ON FUNCTION coder.workspace_acl_delete(coder.request) IS 'DELETE /workspaces/{workspace}/acl.';

-- ---- port shares ----

CREATE OR REPLACE FUNCTION coder.port_share_json(s coder.workspace_agent_port_share) RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN jsonb_build_object('workspace_id', s.workspace_id, 'agent_name', s.agent_name, 'port', s.port,
							  'share_level', s.share_level, 'protocol', s.protocol);
END
$$;
COMMENT ON FUNCTION coder.port_share_json(coder.workspace_agent_port_share) IS 'JSON of a port share.';

CREATE OR REPLACE FUNCTION coder.port_share_list(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w coder.workspaces := coder.param_workspace(req);
	v_shares jsonb;
BEGIN
	SELECT coalesce(jsonb_agg(coder.port_share_json(s) ORDER BY s.port), '[]') INTO v_shares
	  FROM coder.workspace_agent_port_share s WHERE s.workspace_id = w.id;
	RETURN coder.reply(200, jsonb_build_object('shares', v_shares));
END
$$;
COMMENT ON FUNCTION coder.port_share_list(coder.request) IS 'GET /workspaces/{workspace}/port-share.';

CREATE OR REPLACE FUNCTION coder.port_share_invalid(field text, message text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM coder.raise(400, message, NULL, jsonb_build_array(coder.validation(field, message)));
END
$$;
COMMENT ON FUNCTION coder.port_share_invalid(text, text) IS 'Raises 400 for a field of a port share.';

CREATE OR REPLACE FUNCTION coder.port_share_put(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
	w coder.workspaces := coder.param_workspace(req, 'update');
	v_port bigint := coalesce(coder.json_int(v_body, 'port'), 0);
	v_share coder.workspace_agent_port_share;
BEGIN
	IF coalesce(v_body ->> 'share_level', '') NOT IN ('authenticated', 'organization', 'public') THEN
		PERFORM coder.port_share_invalid('share_level', 'Port sharing level not allowed.');
	END IF;
	IF v_port NOT BETWEEN 9 AND 65535 THEN
		PERFORM coder.port_share_invalid('port', 'Port must be between 9 and 65535.');
	END IF;
	IF coalesce(v_body ->> 'protocol', '') NOT IN ('http', 'https') THEN
		PERFORM coder.port_share_invalid('protocol', 'Port protocol not allowed.');
	END IF;
	IF NOT EXISTS (SELECT FROM coder.workspace_builds b
					 JOIN coder.workspace_resources r ON r.job_id = b.job_id
					 JOIN coder.workspace_agents a ON a.resource_id = r.id AND NOT a.deleted
					WHERE b.id = w.latest_build_id AND a.name = v_body ->> 'agent_name') THEN
		PERFORM coder.raise(400, 'Agent not found.');
	END IF;
	INSERT INTO coder.workspace_agent_port_share AS s
	VALUES (w.id, v_body ->> 'agent_name', v_port, (v_body ->> 'share_level')::coder.app_sharing_level,
			(v_body ->> 'protocol')::coder.port_share_protocol)
	ON CONFLICT (workspace_id, agent_name, port)
	DO UPDATE SET share_level = excluded.share_level, protocol = excluded.protocol
	RETURNING s.* INTO v_share;
	RETURN coder.reply(200, coder.port_share_json(v_share));
END
$$;
COMMENT ON FUNCTION coder.port_share_put(coder.request) IS
	'POST /workspaces/{workspace}/port-share: adds or changes one.';

CREATE OR REPLACE FUNCTION coder.port_share_delete(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
	w coder.workspaces := coder.param_workspace(req, 'update');
BEGIN
	DELETE FROM coder.workspace_agent_port_share s
	 WHERE s.workspace_id = w.id AND s.agent_name = v_body ->> 'agent_name'
	   AND s.port = coder.json_int(v_body, 'port');
	IF NOT FOUND THEN
		PERFORM coder.raise(404, 'Port share not found.');
	END IF;
	RETURN coder.reply(200, NULL::text);
END
$$;
COMMENT ON FUNCTION coder.port_share_delete(coder.request) IS 'DELETE /workspaces/{workspace}/port-share.';

-- ---- creation ----

CREATE OR REPLACE FUNCTION coder.workspace_create_invalid(body jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_nil constant text := '00000000-0000-0000-0000-000000000000';
	v_template text := coalesce(nullif(body ->> 'template_id', ''), v_nil);
	v_version text := coalesce(nullif(body ->> 'template_version_id', ''), v_nil);
	v_problems jsonb[] := '{}';
	v_field text;
BEGIN
	FOREACH v_field IN ARRAY '{template_id,template_version_id}'::text[] LOOP
		IF coalesce(nullif(body ->> v_field, ''), v_nil) !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
			PERFORM coder.raise(400, 'Request body must be valid JSON.',
				format('%s: invalid UUID length: %s', v_field, length(body ->> v_field)));
		END IF;
	END LOOP;
	IF (v_template = v_nil) = (v_version = v_nil) THEN
		FOREACH v_field IN ARRAY '{template_id,template_version_id}'::text[] LOOP
			v_problems := v_problems || coder.validation(v_field,
				format('Validation failed for tag "%s" with value: "%s"',
					   CASE WHEN v_template = v_nil THEN 'required_without' ELSE 'excluded_with' END,
					   coalesce(nullif(body ->> v_field, ''), v_nil)));
		END LOOP;
	END IF;
	IF NOT coder.name_ok(coalesce(body ->> 'name', '')) THEN
		v_problems := v_problems || coder.validation('name',
			format('Validation failed for tag "workspace_name" with value: "%s"', coalesce(body ->> 'name', '')));
	END IF;
	IF cardinality(v_problems) > 0 THEN
		PERFORM coder.raise_validations(v_problems);
	END IF;
END
$$;
COMMENT ON FUNCTION coder.workspace_create_invalid(jsonb) IS
	'Raises 400 where a request to create a workspace is not well formed.';

CREATE OR REPLACE FUNCTION coder.workspace_create_version(body jsonb, OUT version coder.template_versions,
											   OUT template coder.templates)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_nil constant uuid := '00000000-0000-0000-0000-000000000000';
	v_version uuid := nullif(nullif(body ->> 'template_version_id', '')::uuid, v_nil);
	v_template uuid := nullif(nullif(body ->> 'template_id', '')::uuid, v_nil);
BEGIN
	IF v_version IS NOT NULL THEN
		SELECT * INTO version FROM coder.template_versions v WHERE v.id = v_version;
		IF NOT FOUND OR version.template_id IS NULL THEN
			PERFORM coder.raise(400, format('Template version "%s" doesn''t exist.', v_version), NULL,
				jsonb_build_array(coder.validation('template_version_id', 'template not found')));
		END IF;
		IF version.archived THEN
			PERFORM coder.raise(500, 'Archived template versions cannot be used to make a workspace.', NULL,
				jsonb_build_array(coder.validation('template_version_id', 'template version archived')));
		END IF;
		v_template := version.template_id;
	END IF;
	SELECT * INTO template FROM coder.templates t WHERE t.id = v_template;
	IF NOT FOUND OR NOT coder.can('read', 'template', template.organization_id, NULL,
								  template.user_acl, template.group_acl, template.id) THEN
		PERFORM coder.raise(400, format('Template "%s" doesn''t exist.', v_template), NULL,
			jsonb_build_array(coder.validation('template_id', 'template not found')));
	END IF;
	IF template.deleted THEN
		PERFORM coder.raise(404, format('Template "%s" has been deleted!', template.name));
	END IF;
	IF v_version IS NULL THEN
		SELECT * INTO version FROM coder.template_versions v WHERE v.id = template.active_version_id;
	END IF;
END
$$;
COMMENT ON FUNCTION coder.workspace_create_version(jsonb) IS
	'The template and the version of a new workspace; errors: 400, 404, 500 as the API has them.';

CREATE OR REPLACE FUNCTION coder.workspace_create_settings(body jsonb, t coder.templates, OUT ttl bigint,
												OUT schedule text, OUT updates text, OUT next_start timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_ms bigint := coalesce(coder.json_int(body, 'ttl_ms'), 0);
	v_error text;
BEGIN
	schedule := nullif(body ->> 'autostart_schedule', '');
	IF schedule IS NOT NULL THEN
		SELECT p.error INTO v_error FROM coder.schedule_parse(schedule) p;
		IF v_error IS NOT NULL THEN
			PERFORM coder.raise(400, 'Invalid Autostart Schedule.', NULL,
				jsonb_build_array(coder.validation('schedule', v_error)));
		END IF;
		next_start := coder.schedule_next(schedule, now(), t.autostart_block_days_of_week::integer);
	END IF;
	IF v_ms <> 0 THEN
		v_error := coder.check_ttl(v_ms);
		IF v_error IS NOT NULL THEN
			PERFORM coder.raise(400, 'Invalid Workspace Time to Shutdown.', NULL,
				jsonb_build_array(coder.validation('ttl_ms', v_error)));
		END IF;
		ttl := v_ms / 60000 * 60000000000;
	ELSE
		ttl := nullif(greatest(t.default_ttl, 0), 0);
	END IF;
	updates := coalesce(nullif(body ->> 'automatic_updates', ''), 'never');
	IF updates NOT IN ('always', 'never') THEN
		PERFORM coder.raise(400, 'Invalid Workspace Automatic Updates setting.', NULL,
			jsonb_build_array(coder.validation('automatic_updates', 'Automatic updates must be always or never')));
	END IF;
END
$$;
COMMENT ON FUNCTION coder.workspace_create_settings(jsonb, coder.templates) IS
	'Schedule, time until shutdown (nanoseconds) and updates of a new workspace; errors: 400.';

CREATE OR REPLACE FUNCTION coder.workspace_create(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
	v_owner coder.users := coder.param_user(req);
	c record;
	v_version coder.template_versions;
	t coder.templates;
	s record;
	v_id uuid := gen_random_uuid();
	v_name text := v_body ->> 'name';
BEGIN
	PERFORM coder.workspace_create_invalid(v_body);
	SELECT * INTO c FROM coder.workspace_create_version(v_body);
	v_version := c.version;
	t := c.template;
	IF NOT coder.can('create', 'workspace', t.organization_id, v_owner.id) THEN
		PERFORM coder.raise(403, 'Unauthorized to create workspace.');
	END IF;
	IF NOT coder.can('use', 'template', t.organization_id, NULL, t.user_acl, t.group_acl, t.id) THEN
		PERFORM coder.raise(403, format('Unauthorized access to use the template "%s".', t.name));
	END IF;
	IF t.deprecated <> '' THEN
		PERFORM coder.raise(400, format('Template "%s" has been deprecated, and cannot be used to create a new workspace.', t.name), t.deprecated);
	END IF;
	IF coder.links_stale(req, v_owner.id, coder.provider_ids(v_version.external_auth_providers)) THEN
		RETURN coder.links_check(req, 'workspace_create', v_owner.id, coder.provider_ids(v_version.external_auth_providers));
	END IF;
	SELECT * INTO s FROM coder.workspace_create_settings(v_body, t);
	IF EXISTS (SELECT FROM coder.workspaces w
				WHERE w.owner_id = v_owner.id AND lower(w.name) = lower(v_name) AND NOT w.deleted) THEN
		PERFORM coder.raise_name_taken(v_name);
	END IF;
	BEGIN
		INSERT INTO coder.workspaces (id, owner_id, organization_id, template_id, name, autostart_schedule, ttl,
									  last_used_at, automatic_updates, next_start_at)
		VALUES (v_id, v_owner.id, t.organization_id, t.id, v_name, s.schedule, s.ttl, now(),
				s.updates::coder.automatic_updates, s.next_start);
	EXCEPTION WHEN unique_violation THEN
		PERFORM coder.raise_name_taken(v_name);
	END;
	PERFORM coder.build_add(v_id, coder.subject_id(), 'start', v_version.id, 'initiator',
							coalesce(v_body -> 'rich_parameter_values', '[]'),
							coder.json_uuid(v_body, 'template_version_preset_id'));
	RETURN coder.reply(201, coder.workspace_json(v_id, true));
END
$$;
COMMENT ON FUNCTION coder.workspace_create(coder.request) IS
	'POST /users/{user}/workspaces: a workspace and its first build; errors in the order of the API.';

CREATE OR REPLACE FUNCTION coder.raise_name_taken(name text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM coder.raise(409, format('Workspace "%s" already exists.', name), NULL,
		jsonb_build_array(coder.validation('name', 'This value is already in use and should be unique.')));
END
$$;
COMMENT ON FUNCTION coder.raise_name_taken(text) IS 'Raises 409: the owner has a workspace of that name.';

CREATE OR REPLACE FUNCTION coder.json_uuid(body jsonb, field text) RETURNS uuid
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v text := coalesce(body ->> field, '');
BEGIN
	IF v IN ('', '00000000-0000-0000-0000-000000000000') THEN
		RETURN NULL;
	END IF;
	IF v !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
		PERFORM coder.raise(400, 'Request body must be valid JSON.',
			format('%s: invalid UUID length: %s', field, length(v)));
	END IF;
	RETURN v::uuid;
END
$$;
COMMENT ON FUNCTION coder.json_uuid(jsonb, text) IS
	'A UUID of a body, NULL where absent, empty or nil; errors: 400.';

CREATE OR REPLACE FUNCTION coder.workspace_available_users(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_org coder.organizations := coder.param_organization(req);
	v_limit integer := coder.query_int(req, 'limit', 0);
	v_offset integer := coder.query_int(req, 'offset', 0);
	v_like text := '%' || regexp_replace(lower(btrim(coalesce(req.query ->> 'q', ''))), '([\\%_])', '\\\1', 'g') || '%';
	v_users json;
BEGIN
	IF NOT coder.can('create', 'workspace', v_org.id) THEN
		PERFORM coder.raise_forbidden();
	END IF;
	SELECT json_agg(json_strip_nulls(json_build_object('id', u.id, 'username', u.username,
			'name', nullif(u.name, ''), 'avatar_url', nullif(u.avatar_url, ''))) ORDER BY lower(u.username)) INTO v_users
	  FROM (SELECT x.* FROM coder.users x JOIN coder.organization_members m ON m.user_id = x.id
			 WHERE m.organization_id = v_org.id AND NOT x.deleted AND NOT x.is_system
			   AND (lower(x.username) LIKE v_like OR lower(x.email) LIKE v_like OR lower(x.name) LIKE v_like)
			 ORDER BY lower(x.username) LIMIT nullif(v_limit, 0) OFFSET v_offset) u;
	RETURN coder.reply(200, coalesce(v_users, '[]'));
END
$$;
COMMENT ON FUNCTION coder.workspace_available_users(coder.request) IS
	'GET /organizations/{organization}/members/{user}/workspaces/available-users?q=: for whom a workspace may be created; 403 for those who create only their own.';

-- ---- watching ----

CREATE OR REPLACE FUNCTION coder.workspace_watch_plan(req coder.request, format text) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w coder.workspaces := coder.param_workspace(req);
BEGIN
	RETURN coder.reply(101, '{"format":"' || format || '","channels":["workspace:' || w.id || '"],"frames":['
		|| coder.workspace_json(w.id) || '],"cursor":"1"}');
END
$$;
COMMENT ON FUNCTION coder.workspace_watch_plan(coder.request, text) IS
	'Stream of a workspace: its JSON now and at each event.';

CREATE OR REPLACE FUNCTION coder.workspace_watch(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coder.workspace_watch_plan(req, 'sse');
END
$$;
COMMENT ON FUNCTION coder.workspace_watch(coder.request) IS 'GET /workspaces/{workspace}/watch (SSE).';

CREATE OR REPLACE FUNCTION coder.workspace_watch_ws(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coder.workspace_watch_plan(req, 'ws');
END
$$;
COMMENT ON FUNCTION coder.workspace_watch_ws(coder.request) IS 'GET /workspaces/{workspace}/watch-ws (WebSocket).';

INSERT INTO coder.routes (area, method, pattern, function) VALUES
	('workspace', 'POST', '/api/v2/users/{user}/workspaces', 'workspace_create'),
	('workspace', 'POST', '/api/v2/organizations/{organization}/members/{user}/workspaces', 'workspace_create'),
	('workspace', 'GET', '/api/v2/organizations/{organization}/members/{user}/workspaces/available-users', 'workspace_available_users'),
	('workspace', 'GET', '/api/v2/workspaces', 'workspace_list'),
	('workspace', 'GET', '/api/v2/workspaces/{workspace}', 'workspace_get'),
	('workspace', 'PATCH', '/api/v2/workspaces/{workspace}', 'workspace_patch'),
	('workspace', 'GET', '/api/v2/users/{user}/workspace/{workspacename}', 'workspace_get_by_name'),
	('workspace', 'PUT', '/api/v2/workspaces/{workspace}/autostart', 'workspace_autostart'),
	('workspace', 'PUT', '/api/v2/workspaces/{workspace}/ttl', 'workspace_ttl'),
	('workspace', 'PUT', '/api/v2/workspaces/{workspace}/extend', 'workspace_extend'),
	('workspace', 'PUT', '/api/v2/workspaces/{workspace}/dormant', 'workspace_dormant'),
	('workspace', 'PUT', '/api/v2/workspaces/{workspace}/favorite', 'workspace_favorite'),
	('workspace', 'DELETE', '/api/v2/workspaces/{workspace}/favorite', 'workspace_favorite'),
	('workspace', 'PUT', '/api/v2/workspaces/{workspace}/autoupdates', 'workspace_autoupdates'),
	('workspace', 'POST', '/api/v2/workspaces/{workspace}/usage', 'workspace_usage'),
	('workspace', 'GET', '/api/v2/workspaces/{workspace}/resolve-autostart', 'workspace_resolve_autostart'),
	('workspace', 'GET', '/api/v2/workspaces/{workspace}/acl', 'workspace_acl_get'),
	('workspace', 'PATCH', '/api/v2/workspaces/{workspace}/acl', 'workspace_acl_patch'),
	('workspace', 'DELETE', '/api/v2/workspaces/{workspace}/acl', 'workspace_acl_delete'),
	('workspace', 'GET', '/api/v2/workspaces/{workspace}/port-share', 'port_share_list'),
	('workspace', 'POST', '/api/v2/workspaces/{workspace}/port-share', 'port_share_put'),
	('workspace', 'DELETE', '/api/v2/workspaces/{workspace}/port-share', 'port_share_delete'),
	('workspace', 'GET', '/api/v2/workspaces/{workspace}/watch', 'workspace_watch'),
	('workspace', 'GET', '/api/v2/workspaces/{workspace}/watch-ws', 'workspace_watch_ws');
