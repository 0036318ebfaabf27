-- sql/api/connectionlog.sql -- who connected to which workspace, by which way
--
-- Table: sql/schema/app.sql.  Agents report sessions (coder.rpc_report_connection, sql/api/agentrpc.sql); the web's
-- ways to an agent are noted here.

-- A request for an app, a port or the terminal of an agent, answered with a status: one row an hour for each user,
-- address, program, app and status.  Nothing where nothing may be written.
CREATE OR REPLACE FUNCTION coder.connection_web(w coder.workspaces, agent uuid, app uuid, slug text, status int4, req coder.request)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	who CONSTANT uuid := coalesce(coder.subject_id(), '00000000-0000-0000-0000-000000000000');
	from_ip CONSTANT text := coalesce(host(coder.try_inet(req.remote)), '');
	program CONSTANT text := left(coalesce(req.headers->>'user-agent', ''), 256);
	the_app CONSTANT uuid := coalesce(app, '00000000-0000-0000-0000-000000000000');
BEGIN
	-- Nearly every request ends here, without a write.
	IF current_setting('transaction_read_only')::bool OR EXISTS (SELECT 1 FROM coder.workspace_app_audit_sessions s
			WHERE s.agent_id = agent AND s.app_id = the_app AND s.user_id = who AND s.ip = from_ip AND s.user_agent = program
			  AND s.slug_or_port = slug AND s.status_code = status AND s.started_at > now() - interval '1 hour') THEN
		RETURN;
	END IF;
	INSERT INTO coder.workspace_app_audit_sessions AS s (agent_id, app_id, user_id, ip, user_agent, slug_or_port, status_code, started_at, updated_at)
	VALUES (agent, the_app, who, from_ip, program, slug, status, now(), now())
	ON CONFLICT ON CONSTRAINT workspace_app_audit_sessions_pkey
	DO UPDATE SET started_at = now(), updated_at = now() WHERE s.started_at <= now() - interval '1 hour';
	IF NOT FOUND THEN
		RETURN; -- another request of the session was first
	END IF;
	INSERT INTO coder.connection_logs (connect_time, organization_id, workspace_owner_id, workspace_id, workspace_name, agent_name, type,
		ip, code, user_agent, user_id, slug_or_port)
	SELECT clock_timestamp(), w.organization_id, w.owner_id, w.id, w.name, a.name,
		CASE WHEN slug ~ '^\d{1,5}s?$' THEN 'port_forwarding' ELSE 'workspace_app' END::coder.connection_type,
		coder.try_inet(from_ip), status, program, coder.subject_id(), slug
	  FROM coder.workspace_agents a WHERE a.id = agent;
END
$$;

-- ConnectionLog
CREATE OR REPLACE FUNCTION coder.connection_json(l coder.connection_logs)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	web CONSTANT bool := l.type IN ('workspace_app', 'port_forwarding');
	u coder.users;
	o coder.organizations;
BEGIN
	SELECT x.* INTO u FROM coder.users x WHERE web AND x.id = l.user_id;
	SELECT x.* INTO o FROM coder.organizations x WHERE x.id = l.organization_id;
	RETURN jsonb_build_object('id', l.id, 'connect_time', coder.ts(l.connect_time),
			'organization', jsonb_build_object('id', o.id, 'name', o.name, 'display_name', o.display_name, 'icon', o.icon),
			'workspace_owner_id', l.workspace_owner_id,
			'workspace_owner_username', coalesce((SELECT x.username FROM coder.users x WHERE x.id = l.workspace_owner_id), ''),
			'workspace_id', l.workspace_id, 'workspace_name', l.workspace_name, 'agent_name', l.agent_name, 'type', l.type)
		|| CASE WHEN l.ip IS NULL THEN '{}' ELSE jsonb_build_object('ip', host(l.ip)) END
		|| CASE WHEN web THEN jsonb_build_object('web_info', jsonb_build_object('user_agent', coalesce(l.user_agent, ''),
				'user', CASE WHEN u.id IS NULL THEN NULL ELSE coder.user_json(u) END,
				'slug_or_port', coalesce(l.slug_or_port, ''), 'status_code', coalesce(l.code, 0)))
			ELSE jsonb_build_object('ssh_info', jsonb_build_object('connection_id', l.connection_id)
				|| CASE WHEN l.disconnect_time IS NULL THEN '{}' ELSE jsonb_build_object('disconnect_time', coder.ts(l.disconnect_time)) END
				|| CASE WHEN coalesce(l.disconnect_reason, '') = '' THEN '{}' ELSE jsonb_build_object('disconnect_reason', l.disconnect_reason) END
				|| CASE WHEN l.code IS NULL THEN '{}' ELSE jsonb_build_object('exit_code', l.code) END) END;
END
$$;

-- The search of the connection log as an SQL condition on l, which leaves out what the subject may not see; errors: ZC400.
CREATE OR REPLACE FUNCTION coder.connection_condition(q text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	message CONSTANT text := 'Invalid connection search query.';
	terms CONSTANT jsonb := coder.search_parse(lower(coalesce(q, '')), message, 'search', ARRAY['organization', 'workspace_owner',
		'workspace_owner_email', 'type', 'username', 'user_email', 'connected_after', 'connected_before', 'workspace_id',
		'connection_id', 'status']);
	parts text[] := '{}';
	key text;
	value text;
BEGIN
	IF terms ? 'search' THEN
		PERFORM coder.raise(400, message, NULL, jsonb_build_array(coder.validation('search', '"search" is not a valid query param')));
	END IF;
	PERFORM coder.search_check_enum(terms, 'type', message, enum_range(NULL::coder.connection_type)::text[], true);
	PERFORM coder.search_check_enum(terms, 'status', message, '{ongoing,completed}', true);
	PERFORM coder.search_check_uuid(terms, '{workspace_id,connection_id}', message);
	PERFORM coder.search_check_time(terms, 'connected_after', message);
	PERFORM coder.search_check_time(terms, 'connected_before', message);
	FOR key, value IN SELECT t.key, t.value->>0 FROM jsonb_each(terms) t LOOP
		parts := parts || CASE key
			WHEN 'organization' THEN format('l.organization_id = %L', coder.search_organization(value))
			WHEN 'workspace_owner' THEN format('l.workspace_owner_id = %L', coder.search_user(value))
			WHEN 'workspace_owner_email' THEN format('l.workspace_owner_id = %L', coder.search_user(value, true))
			WHEN 'type' THEN format('l.type = %L', value)
			WHEN 'username' THEN format('l.user_id = %L', coder.search_user(value))
			WHEN 'user_email' THEN format('l.user_id = %L', coder.search_user(value, true))
			WHEN 'connected_after' THEN format('l.connect_time >= %L', upper(value)::timestamptz)
			WHEN 'connected_before' THEN format('l.connect_time <= %L', upper(value)::timestamptz)
			WHEN 'workspace_id' THEN format('l.workspace_id = %L', value::uuid)
			WHEN 'connection_id' THEN format('l.connection_id = %L', value::uuid)
			-- The opening of an app is neither.
			ELSE format('l.type NOT IN (''workspace_app'', ''port_forwarding'') AND (l.disconnect_time IS NULL) = %L', value = 'ongoing') END;
	END LOOP;
	RETURN array_to_string(parts || coder.filter_sql('read', 'connection_log', 'l.organization_id', NULL, 'l.id'), ' AND ');
EXCEPTION WHEN datetime_field_overflow THEN
	PERFORM coder.raise(400, message, NULL, jsonb_build_array(coder.validation('q', SQLERRM)));
END
$$;

-- GET /connectionlog
CREATE OR REPLACE FUNCTION coder.connection_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.log_list(req, 'connection', 'connect_time');
END
$$;

DELETE FROM coder.routes WHERE area = 'connectionlog';
INSERT INTO coder.routes (area, method, pattern, function, pool, read_only) VALUES
	('connectionlog', 'GET', '/api/v2/connectionlog', 'connection_list', 'slow', true);
