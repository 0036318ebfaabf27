-- SPDX-License-Identifier: MIT
--
-- workspacelist.sql
--   The list of workspaces: its search, its pages.

-- ---- search ----

CREATE OR REPLACE FUNCTION coder.search_tokens(q text) RETURNS TABLE (key text, value text)
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_token text;
	v_free text := '';
	v_parts text[];
BEGIN
	PERFORM coder.search_check_length(q, 'Invalid workspace search query.');
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

DELETE FROM coder.routes WHERE area = 'workspacelist';
INSERT INTO coder.routes (area, method, pattern, function) VALUES
	('workspacelist', 'GET', '/api/v2/workspaces', 'workspace_list');
