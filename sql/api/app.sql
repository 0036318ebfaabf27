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
	PERFORM coder.app_used(c.workspace, (c.agent).id, '', 'terminal');
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

CREATE OR REPLACE FUNCTION coder.app_allowed(w coder.workspaces, level text, by_path boolean) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_subject uuid := coder.subject_id();
BEGIN
	-- Pages below one path share one origin: another's app could act for whoever opens it.
	IF by_path AND NOT coder.app_flag('dangerous_allow_path_app_sharing') THEN
		level := 'owner';
	END IF;
	IF v_subject IS NULL THEN
		RETURN level = 'public';
	END IF;
	IF by_path AND level = 'owner' AND w.owner_id <> v_subject AND NOT coder.app_flag('dangerous_allow_path_app_site_owner_access') THEN
		RETURN false;
	END IF;
	RETURN level = 'public' OR coder.workspace_can('application_connect', w)
		-- A token that may not open one's own apps opens no others.
		OR (level = 'authenticated' OR level = 'organization' AND coder.has_organization_membership(w.organization_id))
			AND coder.can_any('application_connect', 'workspace', v_subject);
END
$$;
COMMENT ON FUNCTION coder.app_allowed(coder.workspaces, text, boolean) IS
	'May the subject, or anybody where there is none, open an app of this sharing level, by its path or on its own host?';

CREATE OR REPLACE FUNCTION coder.app_open(req coder.request, w coder.workspaces, t coder.app_target, host boolean) RETURNS coder.response
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
		'tls', lower(v_url[1]) = 'https', 'path', v_url[2], 'query', coalesce(v_url[3], ''), 'host', host, 'name', t.name,
		'remote', coalesce(req.remote, '')));
END
$$;
COMMENT ON FUNCTION coder.app_open(coder.request, coder.workspaces, coder.app_target, boolean) IS
	'What the gateway needs to reach an app, or a page that says why it cannot.';

CREATE OR REPLACE FUNCTION coder.app_open_noted(req coder.request, w coder.workspaces, t coder.app_target, slug text, host boolean) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_answer coder.response := coder.app_open(req, w, t, host);
BEGIN
	PERFORM coder.connection_web(w, t.agent_id, NULL, slug,
		coalesce((v_answer.body::jsonb ->> 'status')::integer, 200), req);
	IF v_answer.body::jsonb ? 'agent_id' THEN
		PERFORM coder.app_used(w, t.agent_id, slug, CASE WHEN host THEN 'subdomain' ELSE 'path' END);
		-- What is joined to the app is used as long as it is open: the gateway says so each minute.
		IF req.headers ? 'sec-websocket-version' AND coder.subject_id() IS NOT NULL THEN
			v_answer.body := (v_answer.body::jsonb || jsonb_build_object('used_ms', coder.setting_seconds('app_use_interval', 60) * 1000,
				'used', jsonb_build_object('user', coder.subject_id(), 'workspace', w.id, 'agent', t.agent_id, 'slug', slug,
					'method', CASE WHEN host THEN 'subdomain' ELSE 'path' END)))::text;
		END IF;
	END IF;
	RETURN v_answer;
END
$$;
COMMENT ON FUNCTION coder.app_open_noted(coder.request, coder.workspaces, coder.app_target, text, boolean) IS
	'The same, with a row of the connection log for each session, and counted as use.';

CREATE OR REPLACE FUNCTION coder.app_not_open(req coder.request, w coder.workspaces, t coder.app_target, slug text) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF w.id IS NOT NULL AND coder.workspace_can('application_connect', w)
	   AND (SELECT b.transition FROM coder.workspace_builds b WHERE b.id = w.latest_build_id) = 'stop' THEN
		RETURN coder.app_page(400, 'Workspace Offline', format('The workspace "%s" is stopped. Start it to open its apps.', w.name));
	END IF;
	IF t.agent_id IS NOT NULL THEN
		PERFORM coder.connection_web(w, t.agent_id, NULL, slug, 404, req);
	END IF;
	RETURN coder.app_page(404, 'Application Not Found',
		'There is no such application or workspace, or you do not have access to it.');
END
$$;
COMMENT ON FUNCTION coder.app_not_open(coder.request, coder.workspaces, coder.app_target, text) IS
	'The page in place of an app for who is signed in; w and t NULL: there is none.';

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
	IF t.level IS NOT NULL AND coder.app_allowed(w, t.level, true) THEN
		RETURN coder.app_open_noted(req, w, t, req.params ->> 'slug', false);
	END IF;
	-- Who is signed out does not learn what there is.
	IF coder.subject_id() IS NULL THEN
		RETURN coder.reply(101, jsonb_build_object('format', 'app', 'login',
			'You are signed out or your session has expired. Please sign in again to continue.'));
	END IF;
	RETURN coder.app_not_open(req, w, t, req.params ->> 'slug');
END
$$;
COMMENT ON FUNCTION coder.path_app(coder.request) IS
	'Apps of workspaces by their path: a plan for the gateway, a page, or the way to sign in.';

-- ---- apps on hosts of their own: app--agent--workspace--owner below the wildcard host ----
--
-- Such a host has its own session, a key of the scope application_connect.  Who has none is sent to the dashboard's
-- host (auth-redirect), and comes back with a token that is good for a minute, and for that host only; it is
-- exchanged for the cookie.  The cookie goes to all hosts of apps, but never to an app.

CREATE OR REPLACE FUNCTION coder.app_wildcard() RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coalesce((regexp_match(coalesce(coder.setting('wildcard_access_url'), ''), '^(?:https?://)?(\*[^:/?#]+)', 'i'))[1], '');
END
$$;
COMMENT ON FUNCTION coder.app_wildcard() IS 'The wildcard host without scheme and port, such as *.apps.example.com; empty: none.';

CREATE OR REPLACE FUNCTION coder.app_host_url(label text) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	u record;
BEGIN
	SELECT * INTO u FROM coder.access_url_parts();
	RETURN u.scheme || '://' || replace(coder.applications_host_name(), '*', label);
END
$$;
COMMENT ON FUNCTION coder.app_host_url(text) IS 'The URL, without a path, of an app''s host.';

CREATE OR REPLACE FUNCTION coder.app_host_label(url text) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_suffix text := lower(substr(coder.app_wildcard(), 2));
	v_host text := lower((regexp_match(url, '^https?://([A-Za-z0-9.-]+)(?::\d{1,5})?(?:[/?]|$)', 'i'))[1]);
	u record;
BEGIN
	SELECT * INTO u FROM coder.access_url_parts();
	RETURN CASE WHEN v_suffix <> '' AND v_host <> lower(u.host) AND right(v_host, length(v_suffix)) = v_suffix
				THEN (regexp_match(left(v_host, -length(v_suffix)), '^[a-z0-9-]{1,255}$'))[1] END;
END
$$;
COMMENT ON FUNCTION coder.app_host_label(text) IS 'What stands for the asterisk in a URL of an app''s host; NULL: of another host.';

CREATE OR REPLACE FUNCTION coder.app_host_cookie(value text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_wildcard text := coder.app_wildcard();
	v_line text := coder.cookie('coder_subdomain_app_session_token_' || left(encode(sha256(convert_to(v_wildcard, 'UTF8')), 'hex'), 32),
								value, 31536000);
BEGIN
	-- __Host- would forbid the domain.
	RETURN replace(replace(v_line, '__Host-', ''), '; Path=/', '; Domain=' || substr(v_wildcard, strpos(v_wildcard, '.')) || '; Path=/');
END
$$;
COMMENT ON FUNCTION coder.app_host_cookie(text) IS 'Set-Cookie line with the session of all hosts of apps; empty value: it goes.';

CREATE OR REPLACE FUNCTION coder.see_other(location text, headers text DEFAULT '') RETURNS coder.response
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN ROW(303, '', format(E'Location: %s\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n', location) || headers, NULL)::coder.response;
END
$$;
COMMENT ON FUNCTION coder.see_other(text, text) IS 'A redirect with status 303 that nobody keeps; headers: more lines.';

CREATE OR REPLACE FUNCTION coder.app_host_token(subject uuid, label text, at timestamptz DEFAULT now()) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coder.crypto_sign('workspace_apps_api_key', jsonb_build_object('iss', 'coderd', 'aud', label, 'sub', subject,
		'exp', extract(epoch FROM at)::bigint + 60), at);
END
$$;
COMMENT ON FUNCTION coder.app_host_token(uuid, text, timestamptz) IS 'Says for a minute, on the host of a label, who somebody is.';
REVOKE ALL ON FUNCTION coder.app_host_token(uuid, text, timestamptz) FROM PUBLIC;

CREATE OR REPLACE FUNCTION coder.app_host_token_user(token text, label text, at timestamptz DEFAULT now()) RETURNS coder.users
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	-- The leeway for clocks would double the token's life.
	v jsonb := coder.crypto_verify('workspace_apps_api_key', token, at + interval '1 minute');
	u coder.users;
BEGIN
	IF v ->> 'iss' = 'coderd' AND v ->> 'aud' = label THEN
		SELECT * INTO u FROM coder.users x
		 WHERE x.id = coder.try_uuid(v ->> 'sub') AND NOT x.deleted AND x.status <> 'suspended';
	END IF;
	RETURN u;
END
$$;
COMMENT ON FUNCTION coder.app_host_token_user(text, text, timestamptz) IS 'Who a token of coder.app_host_token() is of; NULL where it is not good.';

CREATE OR REPLACE FUNCTION coder.applications_auth_redirect(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_uri text := coalesce(req.query ->> 'redirect_uri', '');
	v_path text[] := regexp_match(v_uri, '^https?://[^/?#@\\[:cntrl:] ]+(/[^?#\\[:cntrl:] ]*)?(?:\?([^#[:cntrl:] ]*))?$', 'i');
	v_label text;
BEGIN
	IF coder.subject_id() IS NULL THEN
		RETURN coder.redirect_to_login(req, 'You are signed out or your session has expired. Please sign in again to continue.');
	END IF;
	PERFORM coder.require_read('create', 'api_key', NULL, coder.subject_id());
	IF v_uri = '' THEN
		PERFORM coder.raise(400, 'Missing redirect_uri query parameter.');
	ELSIF v_path IS NULL THEN
		PERFORM coder.raise(400, 'Invalid redirect_uri query parameter.', 'The redirect_uri must be an absolute URL.');
	END IF;
	v_label := coder.app_host_label(v_uri);
	IF v_label IS NULL THEN
		PERFORM coder.raise(400, 'Invalid redirect_uri.', 'The redirect_uri must be the URL of a workspace''s app.');
	END IF;
	RETURN coder.see_other(coder.app_host_url(v_label) || coalesce(v_path[1], '/') || '?' || coalesce(nullif(v_path[2], '') || '&', '')
		|| 'coder_application_connect_api_key_35e783=' || coder.app_host_token(coder.subject_id(), v_label));
END
$$;
COMMENT ON FUNCTION coder.applications_auth_redirect(coder.request) IS
	'GET /applications/auth-redirect: back to an app''s host with a token that says there who is signed in here; 303 to sign in, 400.';

CREATE OR REPLACE FUNCTION coder.host_url(req coder.request, label text) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coder.app_host_url(label) || req.path || coalesce('?' || (
		SELECT string_agg(coder.url_encode(q.key) || '=' || coder.url_encode(q.value), '&' ORDER BY q.key)
		  FROM jsonb_each_text(coalesce(req.query, '{}') - 'coder_application_connect_api_key_35e783') q
		 WHERE q.key NOT LIKE '%[]'), '');
END
$$;
COMMENT ON FUNCTION coder.host_url(coder.request, text) IS 'The URL of a request to an app''s host, without a token.';

CREATE OR REPLACE FUNCTION coder.host_app_exchange(req coder.request, label text, token text) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	u coder.users := coder.app_host_token_user(token, label);
BEGIN
	IF u.id IS NULL THEN
		RETURN coder.app_page(400, 'Bad Request', 'The sign-in of this app has expired or is not valid. Open the app again.');
	END IF;
	RETURN coder.see_other(coder.host_url(req, label), coder.app_host_cookie(coder.api_key_create(u.id, u.login_type, 86400,
		scopes => '{coder:application_connect}', remote => req.remote)));
END
$$;
COMMENT ON FUNCTION coder.host_app_exchange(coder.request, text, text) IS
	'The cookie of apps for a token of coder.app_host_token(), and the way on without the token.';

-- All apps are one site to a browser, which therefore sends the session along: the pages of one user's app may
-- ask another app of that user only.  Templates with cors_behavior passthru leave the answer to the app.
CREATE OR REPLACE FUNCTION coder.host_app_cors(req coder.request, w coder.workspaces, owner text, level text, OUT origin text, OUT answer coder.response)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_origin text := req.headers ->> 'origin';
	v_label text := coder.app_host_label(v_origin);
BEGIN
	IF v_label IS NULL THEN
		RETURN;
	ELSIF regexp_replace(v_label, '^.*--', '') <> owner THEN
		IF level IS DISTINCT FROM 'public' THEN
			answer := coder.app_page(403, 'Forbidden', 'The page that asked is of another user''s app.');
		END IF;
	ELSIF (SELECT t.cors_behavior::text FROM coder.templates t WHERE t.id = w.template_id) IS DISTINCT FROM 'passthru' THEN
		origin := v_origin;
		IF req.method = 'OPTIONS' AND req.headers ? 'access-control-request-method' THEN
			answer := ROW(204, '', format(E'Access-Control-Allow-Origin: %s\r\nAccess-Control-Allow-Credentials: true\r\nVary: Origin\r\n'
				|| E'Access-Control-Allow-Methods: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n', v_origin)
				|| coalesce(E'Access-Control-Allow-Headers: '
							|| substring(left(req.headers ->> 'access-control-request-headers', 1000) FROM '^[A-Za-z0-9, _-]+$') || E'\r\n', ''), NULL);
		END IF;
	END IF;
END
$$;
COMMENT ON FUNCTION coder.host_app_cors(coder.request, coder.workspaces, text, text) IS
	'What the origin of a request to an app means: the answer to it in the app''s place, or the origin that may read the app''s.';

CREATE OR REPLACE FUNCTION coder.host_app(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_label text := lower(req.params ->> 'label');
	v_token text := req.query ->> 'coder_application_connect_api_key_35e783';
	v_parts text[] := string_to_array(regexp_replace(v_label, '^.*---', ''), '--');
	v_n integer := cardinality(v_parts);
	w coder.workspaces;
	t coder.app_target;
	v_cors record;
	v_plan coder.response;
BEGIN
	IF v_label = 'coder-logout' THEN
		RETURN coder.see_other(coder.setting('access_url'), coder.app_host_cookie(''));
	ELSIF v_token IS NOT NULL THEN
		RETURN coder.host_app_exchange(req, v_label, v_token);
	ELSIF v_parts[1] ~ '^\d{1,5}s?$' AND rtrim(v_parts[1], 's')::integer < 9 THEN
		RETURN coder.app_page(400, 'Bad Request', format(
			'Application port %s is not permitted. Coder reserves ports less than 9 for internal use.', rtrim(v_parts[1], 's')));
	ELSIF v_n IN (3, 4) AND NOT EXISTS (SELECT FROM unnest(v_parts) p WHERE p !~ '^[a-z0-9](-?[a-z0-9])*$') THEN
		w := coder.app_workspace(v_parts[v_n], v_parts[v_n - 1]);
	END IF;
	IF w.id IS NOT NULL THEN
		t := coder.app_target(w, CASE v_n WHEN 4 THEN v_parts[2] ELSE '' END, v_parts[1]);
	END IF;
	SELECT * INTO v_cors FROM coder.host_app_cors(req, w, v_parts[v_n], t.level);
	IF (v_cors.answer).status IS NOT NULL THEN
		RETURN v_cors.answer;
	ELSIF t.level IS NOT NULL AND coder.app_allowed(w, t.level, false) THEN
		v_plan := coder.app_open_noted(req, w, t, v_parts[1], true);
		IF v_cors.origin IS NOT NULL THEN
			v_plan.body := v_plan.body::jsonb || jsonb_build_object('origin', v_cors.origin);
		END IF;
		RETURN v_plan;
	ELSIF coder.subject_id() IS NULL THEN
		RETURN coder.reply(101, jsonb_build_object('format', 'app', 'location', rtrim(coder.setting('access_url'), '/')
			|| '/api/v2/applications/auth-redirect?redirect_uri=' || coder.url_encode(coder.host_url(req, v_label))));
	END IF;
	RETURN coder.app_not_open(req, w, t, v_parts[1]);
END
$$;
COMMENT ON FUNCTION coder.host_app(coder.request) IS
	'Every request to a host below the wildcard host: a plan for the gateway, a page, or the way to sign in.';

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
	('app', '*', '/%40{user}/{workspace}/apps/{slug}/{path...}', 'path_app', 'optional', true, 0, 'none', true),
	-- Not a path of requests: the gateway looks here for what serves the hosts of apps.
	('app', '*', '/.app-host/{label}', 'host_app', 'optional', true, 0, 'none', false);
