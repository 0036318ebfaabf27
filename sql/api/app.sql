-- SPDX-License-Identifier: MIT
--
-- app.sql
--   Apps of workspaces: the wildcard host, terminals, the agent's init script.

CREATE OR REPLACE FUNCTION coder.applications_host_name() RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_wildcard text := coalesce(coder.setting('wildcard_access_url'), '');
	u record;
BEGIN
	v_wildcard := regexp_replace(v_wildcard, '^https?://', '');
	IF v_wildcard = '' OR v_wildcard ~ ':\d+$' THEN
		RETURN v_wildcard;
	END IF;
	SELECT * INTO u FROM coder.access_url_parts();
	RETURN v_wildcard || CASE WHEN u.port = CASE u.scheme WHEN 'https' THEN 443 ELSE 80 END THEN ''
							  ELSE ':' || u.port END;
END
$$;
COMMENT ON FUNCTION coder.applications_host_name() IS
	'The wildcard host of apps with its port; empty if there is none.';

CREATE OR REPLACE FUNCTION coder.applications_host(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coder.reply(200, jsonb_build_object('host', coder.applications_host_name()));
END
$$;
COMMENT ON FUNCTION coder.applications_host(coder.request) IS 'GET /applications/host.';

CREATE OR REPLACE FUNCTION coder.query_size(req coder.request, name text) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v text := coalesce(nullif(req.query ->> name, ''), '80');
BEGIN
	IF v !~ '^\d{1,5}$' OR v::integer > 65535 THEN
		PERFORM coder.raise(400, 'Invalid query parameters.', NULL,
			jsonb_build_array(coder.validation(name, format('Query param "%s" must be a valid integer between 0 and 65535', name))));
	END IF;
	RETURN v::integer;
END
$$;
COMMENT ON FUNCTION coder.query_size(coder.request, text) IS
	'Width or height of a terminal, 80 where it is not given; errors: 400.';

CREATE OR REPLACE FUNCTION coder.workspaceagent_pty(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	c coder.agent_context := coder.param_agent(req, 'ssh');
	v_reconnect uuid := coder.try_uuid(coalesce(req.query ->> 'reconnect', ''));
BEGIN
	IF v_reconnect IS NULL THEN
		PERFORM coder.raise(400, 'Invalid query parameters.', NULL,
			jsonb_build_array(coder.validation('reconnect', 'Query param "reconnect" is required and must be a valid uuid')));
	END IF;
	PERFORM coder.connection_web(c.workspace, (c.agent).id, NULL, 'terminal', 200, req);
	RETURN coder.reply(101, jsonb_build_object('format', 'pty', 'agent_id', (c.agent).id,
		'reconnect', v_reconnect, 'width', coder.query_size(req, 'width'), 'height', coder.query_size(req, 'height'),
		'command', coalesce(req.query ->> 'command', ''), 'container', coalesce(req.query ->> 'container', ''),
		'container_user', coalesce(req.query ->> 'container_user', ''),
		'backend_type', coalesce(req.query ->> 'backend_type', ''),
		'channels', '[]'::jsonb, 'frames', '[]'::jsonb, 'cursor', '1'));
END
$$;
COMMENT ON FUNCTION coder.workspaceagent_pty(coder.request) IS
	'GET /workspaceagents/{workspaceagent}/pty: a terminal; 404 without ssh on the workspace.';

-- ---- apps below a path: /@user/workspace[.agent]/apps/slug/... ----

CREATE OR REPLACE FUNCTION coder.app_page(status integer, title text, text text) RETURNS coder.response
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coder.reply(101, jsonb_build_object('format', 'app', 'status', status, 'title', title, 'text', text));
END
$$;
COMMENT ON FUNCTION coder.app_page(integer, text, text) IS 'A page in place of an app.';

CREATE OR REPLACE FUNCTION coder.app_flag(name text) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN lower(coalesce(coder.setting(name), '')) IN ('true', 't', '1');
END
$$;
COMMENT ON FUNCTION coder.app_flag(text) IS 'Is a switch of the deployment on?';

CREATE OR REPLACE FUNCTION coder.app_workspace(user_name text, workspace_name text) RETURNS coder.workspaces
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w coder.workspaces;
BEGIN
	SELECT ws.* INTO w FROM coder.workspaces ws JOIN coder.users u ON u.id = ws.owner_id
	 WHERE NOT ws.deleted AND NOT u.deleted
	   AND (lower(u.username) = lower(user_name) OR u.id = coder.try_uuid(user_name))
	   AND (lower(ws.name) = lower(workspace_name) OR ws.id = coder.try_uuid(workspace_name));
	RETURN w;
END
$$;
COMMENT ON FUNCTION coder.app_workspace(text, text) IS
	'A workspace by names or ids of its owner and itself, whoever asks; NULL where there is none.';

CREATE TYPE coder.app_target AS (agent_id uuid, url text, level text, name text);

CREATE OR REPLACE FUNCTION coder.app_target(w coder.workspaces, agent_name text, slug text) RETURNS coder.app_target
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	t coder.app_target;
	v_agents integer;
	v_agent text;
BEGIN
	SELECT count(*) OVER (), a.id, ap.url, ap.sharing_level, coalesce(nullif(ap.display_name, ''), app_target.slug), a.name
	  INTO v_agents, t.agent_id, t.url, t.level, t.name, v_agent
	  FROM coder.workspace_builds b
	  JOIN coder.workspace_resources r ON r.job_id = b.job_id
	  JOIN coder.workspace_agents a ON a.resource_id = r.id AND NOT a.deleted
	  LEFT JOIN coder.workspace_apps ap ON ap.agent_id = a.id AND ap.slug = app_target.slug
									   AND NOT ap.external AND ap.command IS NULL
	 WHERE b.id = w.latest_build_id
	   AND (app_target.agent_name = '' OR lower(a.name) = lower(app_target.agent_name) OR a.id = coder.try_uuid(app_target.agent_name))
	 ORDER BY ap.id IS NULL, a.name LIMIT 1;
	IF t.agent_id IS NULL OR t.level IS NOT NULL THEN
		RETURN t;
	END IF;
	-- No app of that name, but perhaps a port of the only agent it can be.
	IF v_agents > 1 OR slug !~ '^\d{1,5}s?$' OR rtrim(slug, 's')::integer NOT BETWEEN 9 AND 65535 THEN
		RETURN NULL;
	END IF;
	t.url := CASE WHEN slug LIKE '%s' THEN 'https' ELSE 'http' END || '://localhost:' || rtrim(slug, 's');
	t.name := slug;
	SELECT s.share_level INTO t.level FROM coder.workspace_agent_port_share s
	 WHERE s.workspace_id = w.id AND s.agent_name = v_agent AND s.port = rtrim(app_target.slug, 's')::integer;
	t.level := coalesce(t.level, 'owner');
	RETURN t;
END
$$;
COMMENT ON FUNCTION coder.app_target(coder.workspaces, text, text) IS
	'The app, or port, of a workspace and who may see it, whoever asks; agent_name empty: any agent. NULL where there is none.';

CREATE OR REPLACE FUNCTION coder.app_allowed(w coder.workspaces, level text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_subject uuid := coder.subject_id();
BEGIN
	-- Pages below one path share one origin: another's app could act for whoever opens it.
	IF NOT coder.app_flag('dangerous_allow_path_app_sharing') THEN
		level := 'owner';
	END IF;
	IF v_subject IS NULL THEN
		RETURN level = 'public';
	END IF;
	IF level = 'owner' AND w.owner_id <> v_subject AND NOT coder.app_flag('dangerous_allow_path_app_site_owner_access') THEN
		RETURN false;
	END IF;
	RETURN level = 'public' OR coder.workspace_can('application_connect', w)
		-- A token that may not open one's own apps opens no others.
		OR (level = 'authenticated' OR level = 'organization' AND coder.has_organization_membership(w.organization_id))
			AND coder.can_any('application_connect', 'workspace', v_subject);
END
$$;
COMMENT ON FUNCTION coder.app_allowed(coder.workspaces, text) IS
	'May the subject, or anybody where there is none, open an app of this sharing level by its path?';

CREATE OR REPLACE FUNCTION coder.app_open(req coder.request, w coder.workspaces, t coder.app_target) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	a coder.workspace_agents;
	v_url text[] := regexp_match(coalesce(t.url, ''), '^(https?)://[^/?#]+([^?#]*)(?:\?([^#]*))?', 'i');
	v_status text;
BEGIN
	IF coder.url_port(t.url) IS NULL OR v_url IS NULL THEN
		RETURN coder.app_page(400, 'Invalid Application URL', format('The URL of the app "%s" is not one that this server can open.', t.name));
	END IF;
	SELECT * INTO a FROM coder.workspace_agents WHERE id = t.agent_id;
	v_status := coder.agent_status(a, clock_timestamp());
	IF v_status <> 'connected' THEN
		RETURN coder.app_page(404, 'Application Unavailable',
			format('The agent "%s" of the workspace "%s" is %s. The app opens when the agent is connected.', a.name, w.name, v_status));
	END IF;
	RETURN coder.reply(101, jsonb_build_object('format', 'app', 'agent_id', a.id, 'port', coder.url_port(t.url),
		'tls', lower(v_url[1]) = 'https', 'path', v_url[2], 'query', coalesce(v_url[3], ''), 'name', t.name,
		'remote', coalesce(req.remote, '')));
END
$$;
COMMENT ON FUNCTION coder.app_open(coder.request, coder.workspaces, coder.app_target) IS
	'What the gateway needs to reach an app, or a page that says why it cannot.';

CREATE OR REPLACE FUNCTION coder.app_open_noted(req coder.request, w coder.workspaces, t coder.app_target) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_answer coder.response := coder.app_open(req, w, t);
BEGIN
	PERFORM coder.connection_web(w, t.agent_id, NULL, req.params ->> 'slug',
		coalesce((v_answer.body::jsonb ->> 'status')::integer, 200), req);
	RETURN v_answer;
END
$$;
COMMENT ON FUNCTION coder.app_open_noted(coder.request, coder.workspaces, coder.app_target) IS
	'The same, with a row of the connection log for each session.';

CREATE OR REPLACE FUNCTION coder.path_app(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_workspace text := split_part(req.params ->> 'workspace', '.', 1);
	w coder.workspaces := coder.app_workspace(req.params ->> 'user', v_workspace);
	t coder.app_target;
BEGIN
	IF coder.app_flag('disable_path_apps') THEN
		RETURN coder.app_page(403, 'Forbidden', 'Path-based applications are disabled on this server by its administrator.');
	END IF;
	IF w.id IS NOT NULL THEN
		t := coder.app_target(w, substr(req.params ->> 'workspace', length(v_workspace) + 2), req.params ->> 'slug');
	END IF;
	IF t.level IS NOT NULL AND coder.app_allowed(w, t.level) THEN
		RETURN coder.app_open_noted(req, w, t);
	END IF;
	-- Who is signed out does not learn what there is.
	IF coder.subject_id() IS NULL THEN
		RETURN coder.reply(101, jsonb_build_object('format', 'app', 'login',
			'You are signed out or your session has expired. Please sign in again to continue.'));
	END IF;
	IF w.id IS NOT NULL AND coder.workspace_can('application_connect', w)
	   AND (SELECT b.transition FROM coder.workspace_builds b WHERE b.id = w.latest_build_id) = 'stop' THEN
		RETURN coder.app_page(400, 'Workspace Offline', format('The workspace "%s" is stopped. Start it to open its apps.', w.name));
	END IF;
	IF t.agent_id IS NOT NULL THEN
		PERFORM coder.connection_web(w, t.agent_id, NULL, req.params ->> 'slug', 404, req);
	END IF;
	RETURN coder.app_page(404, 'Application Not Found',
		'There is no such application or workspace, or you do not have access to it.');
END
$$;
COMMENT ON FUNCTION coder.path_app(coder.request) IS
	'Apps of workspaces by their path: a plan for the gateway, a page, or the way to sign in.';

-- ---- the script that starts an agent in a workspace ----

CREATE OR REPLACE FUNCTION coder.init_script(os text, arch text, url text, auth text DEFAULT 'token') RETURNS text
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'coder_init_script';
COMMENT ON FUNCTION coder.init_script(text, text, text, text) IS
	'The script that downloads and starts an agent (gateway/provisioner/initscript.c); NULL for an unknown target.';

CREATE OR REPLACE FUNCTION coder.init_script_get(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_url text := rtrim(coalesce(coder.setting('access_url'), ''), '/') || '/';
	v_script text := coder.init_script(req.params ->> 'os', req.params ->> 'arch', v_url);
	v coder.response;
BEGIN
	IF v_script IS NULL THEN
		PERFORM coder.raise(400, format('Unknown os/arch: %s/%s', req.params ->> 'os', req.params ->> 'arch'));
	END IF;
	v.status := 200;
	v.raw := convert_to(v_script, 'UTF8');
	v.headers := E'Content-Type: text/plain; charset=utf-8\r\nContent-Digest: sha256:'
		|| encode(convert_to(encode(sha256(v.raw), 'base64'), 'UTF8'), 'hex') || E'\r\n';
	RETURN v;
END
$$;
COMMENT ON FUNCTION coder.init_script_get(coder.request) IS
	'GET /init-script/{os}/{arch}; 400 for an unknown system.';

CREATE OR REPLACE FUNCTION coder.applications_auth_redirect(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_uri text := coalesce(req.query ->> 'redirect_uri', '');
	v_host text := lower(substring(v_uri FROM '^https?://([^/?#:@]+)(?::[0-9]+)?(?:[/?#]|$)'));
	v_wildcard text := lower(regexp_replace(coalesce(coder.setting('wildcard_access_url'), ''), '^https?://|:[0-9]+$', '', 'g'));
BEGIN
	IF coder.subject_id() IS NULL THEN
		RETURN coder.redirect_to_login(req, 'You are signed out or your session has expired. Please sign in again to continue.');
	END IF;
	PERFORM coder.require_read('create', 'api_key', NULL, coder.subject_id());
	IF v_uri = '' THEN
		PERFORM coder.raise(400, 'Missing redirect_uri query parameter.');
	ELSIF v_host IS NULL OR v_wildcard NOT LIKE '*%' OR right(v_host, length(v_wildcard) - 1) <> substr(v_wildcard, 2) THEN
		PERFORM coder.raise(400, 'Invalid redirect_uri.');
	END IF;
	RETURN coder.not_built(req);
END
$$;
COMMENT ON FUNCTION coder.applications_auth_redirect(coder.request) IS
	'GET /applications/auth-redirect: refuses what is no app''s host; apps by wildcard host are not built.';

INSERT INTO coder.routes (area, method, pattern, function, auth) VALUES
	('app', 'GET', '/api/v2/applications/host', 'applications_host', 'session'),
	('app', 'GET', '/api/v2/applications/auth-redirect', 'applications_auth_redirect', 'optional'),
	('app', 'POST', '/api/v2/applications/reconnecting-pty-signed-token', 'not_built', 'session'),
	('app', 'GET', '/api/v2/workspaceagents/{workspaceagent}/pty', 'workspaceagent_pty', 'session'),
	('app', 'GET', '/api/v2/init-script/{os}/{arch}', 'init_script_get', 'none');

-- The body goes to the app, and not through the database.
INSERT INTO coder.routes (area, method, pattern, function, auth, raw_body, max_body, rate, read_only) VALUES
	('app', '*', '/@{user}/{workspace}/apps/{slug}', 'path_app', 'optional', true, 0, 'none', true),
	('app', '*', '/@{user}/{workspace}/apps/{slug}/{path...}', 'path_app', 'optional', true, 0, 'none', true),
	('app', '*', '/%40{user}/{workspace}/apps/{slug}', 'path_app', 'optional', true, 0, 'none', true),
	('app', '*', '/%40{user}/{workspace}/apps/{slug}/{path...}', 'path_app', 'optional', true, 0, 'none', true);
