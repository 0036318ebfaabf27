-- sql/api/mcphttp.sql -- this deployment as an MCP server: /api/experimental/mcp/http, streamable HTTP without sessions
--
-- Each POST is a message of JSON-RPC 2.0 and its answer; nothing is kept between them, and nothing is said unasked, so there is no
-- stream to GET.  A tool does what functions of the API do, as whoever's token comes with the request.

-- What is offered: the names and arguments are the reference's.
CREATE OR REPLACE FUNCTION coder.mcp_http_tools()
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN '[
	{"name": "coder_get_authenticated_user", "description": "Tells who you are here: id, username, email and roles.",
	 "inputSchema": {"type": "object", "properties": {}}, "annotations": {"readOnlyHint": true}},
	{"name": "coder_list_templates", "description": "Lists the templates that workspaces can be made of, with the id of each one''s active version.",
	 "inputSchema": {"type": "object", "properties": {}}, "annotations": {"readOnlyHint": true}},
	{"name": "coder_template_version_parameters", "description": "Lists the parameters of a template''s version, with types, defaults and options.",
	 "inputSchema": {"type": "object", "properties": {"template_version_id": {"type": "string"}}, "required": ["template_version_id"]}, "annotations": {"readOnlyHint": true}},
	{"name": "coder_list_workspaces", "description": "Lists workspaces with their status.",
	 "inputSchema": {"type": "object", "properties": {"owner": {"type": "string", "description": "A username; me where it is left out."}}}, "annotations": {"readOnlyHint": true}},
	{"name": "coder_get_workspace", "description": "Tells all of one workspace: its last build, resources and agents.",
	 "inputSchema": {"type": "object", "properties": {"workspace_id": {"type": "string", "description": "An id, a name of yours, or owner/name."}},
	 "required": ["workspace_id"]}, "annotations": {"readOnlyHint": true}},
	{"name": "coder_create_workspace", "description": "Makes a workspace and starts it. This takes a while: ask coder_get_workspace how far it is.",
	 "inputSchema": {"type": "object", "properties": {"user": {"type": "string", "description": "Whose it is to be; me where it is left out."},
	 "name": {"type": "string", "description": "Letters, digits and hyphens."}, "template_id": {"type": "string"},
	 "template_version_id": {"type": "string", "description": "Instead of template_id: this version."},
	 "rich_parameters": {"type": "object", "additionalProperties": {"type": "string"}, "description": "Values by name."}}, "required": ["name"]}},
	{"name": "coder_create_workspace_build", "description": "Starts, stops or deletes a workspace.",
	 "inputSchema": {"type": "object", "properties": {"workspace_id": {"type": "string", "description": "An id, a name of yours, or owner/name."},
	 "transition": {"type": "string", "enum": ["start", "stop", "delete"]}, "template_version_id": {"type": "string"},
	 "rich_parameters": {"type": "object", "additionalProperties": {"type": "string"}}}, "required": ["workspace_id", "transition"]},
	 "annotations": {"destructiveHint": true}},
	{"name": "coder_workspace_bash", "description": "Runs a command of the shell in a running workspace, and gives its output and exit code. What takes longer than timeout_ms runs on.",
	 "inputSchema": {"type": "object", "properties": {"workspace": {"type": "string", "description": "A name of yours, owner/name, or an id."},
	 "command": {"type": "string"}, "timeout_ms": {"type": "integer", "description": "Up to 50000, which is what it is where it is left out."}, "background": {"type": "boolean"}},
	 "required": ["workspace", "command"]}, "annotations": {"destructiveHint": true}}]';
END
$$;

-- The answer of a function of the API in done, or what it asks others first in plan (coder.chat_tool_carry).  ZC400 with what it says where it fails.
CREATE OR REPLACE FUNCTION coder.mcp_http_api(req coder.request, method text, path text, params jsonb, body jsonb, state jsonb, OUT done jsonb, OUT plan jsonb)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	r CONSTANT coder.routes := (SELECT x FROM coder.routes x WHERE x.method = mcp_http_api.method AND x.pattern = path);
	sub coder.request := coder.chat_tool_request(method, path, params, body);
	got record;
BEGIN
	IF r.access IS NOT NULL OR r.auth <> 'session' THEN
		RAISE EXCEPTION 'the route % has conditions of its own', path;
	END IF;
	sub.query := coalesce(params->'query', '{}');
	sub.request_id := req.request_id;
	got := coder.chat_tool_carry(sub, r.function, state);
	done := got.done;
	plan := got.plan;
END
$$;

-- A workspace by its id, the name of an own one, or owner/name; ZC400.
CREATE OR REPLACE FUNCTION coder.mcp_http_workspace(named text)
RETURNS coder.workspaces LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	owner CONSTANT text := CASE WHEN strpos(named, '/') > 0 THEN split_part(named, '/', 1) ELSE 'me' END;
	w coder.workspaces;
BEGIN
	SELECT x.* INTO w FROM coder.workspaces x LEFT JOIN coder.users u ON u.id = x.owner_id WHERE NOT x.deleted AND (x.id = coder.try_uuid(named)
		OR lower(x.name) = lower(split_part(named, '/', CASE WHEN strpos(named, '/') > 0 THEN 2 ELSE 1 END))
		   AND CASE owner WHEN 'me' THEN u.id = coder.subject_id() ELSE lower(u.username) = lower(owner) END) ORDER BY x.id = coder.try_uuid(named) DESC LIMIT 1;
	IF w.id IS NULL OR NOT coder.workspace_can('read', w) THEN
		PERFORM coder.raise(400, 'There is no such workspace.');
	END IF;
	RETURN w;
END
$$;

-- {"name": value} as the API takes parameters.
CREATE OR REPLACE FUNCTION coder.mcp_http_parameters(given jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce((SELECT jsonb_agg(jsonb_build_object('name', p.key, 'value', p.value))
		FROM jsonb_each_text(CASE jsonb_typeof(given) WHEN 'object' THEN given ELSE '{}' END) p), '[]');
END
$$;

-- coder_workspace_bash: a command in a workspace, by its agent's API (coder.chat_agent_proxy).  state: {"phase", "url", "ticket", "process", "results"}.
CREATE OR REPLACE FUNCTION coder.mcp_http_bash(args jsonb, state jsonb, OUT done jsonb, OUT plan jsonb)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wait CONSTANT int4 := greatest(1, least(coalesce(CASE jsonb_typeof(args->'timeout_ms') WHEN 'number' THEN (args->>'timeout_ms')::numeric END, 50000), 50000))::int4;
	background CONSTANT bool := coalesce(args->>'background', 'false') = 'true';
	result CONSTANT jsonb := state->'results'->0;
	answer CONSTANT jsonb := coder.try_json(result->>'body');
	base jsonb := jsonb_build_object('timeout_ms', 10000, 'max_size', 4194304);
	w coder.workspaces;
	a coder.workspace_agents;
	ticket text;
BEGIN
	IF state IS NULL THEN
		w := coder.mcp_http_workspace(args->>'workspace');
		IF NOT coder.workspace_can('ssh', w) THEN
			PERFORM coder.raise(400, 'You may not use this workspace.');
		END IF;
		a := coder.chat_agent(w.id);
		IF a.id IS NULL OR (coder.chat_last_build(w.id)).transition <> 'start' OR coder.agent_status(a, clock_timestamp()) <> 'connected' THEN
			PERFORM coder.raise(400, 'The workspace does not run, or its agent is not connected.');
		ELSIF coalesce(args->>'command', '') = '' THEN
			PERFORM coder.raise(400, 'command is required.');
		END IF;
		ticket := translate(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
		INSERT INTO coder.chat_agent_tickets (hash, agent_id, expires_at) VALUES (sha256(convert_to(ticket, 'UTF8')), a.id, clock_timestamp() + interval '2 minutes');
		state := jsonb_build_object('phase', 'start', 'ticket', ticket,
			'url', format('%s/api/experimental/chat-agents/%s/api/v0/processes', rtrim(coder.setting('access_url'), '/'), a.id));
		plan := jsonb_build_object('method', 'POST', 'url', (state->>'url') || '/start',
			'body', jsonb_build_object('command', args->'command', 'background', background)::text);
	ELSIF (result->>'status')::int4 <> 200 AND NOT (state->>'phase' = 'wait' AND result->>'error' = 'timeout') THEN
		PERFORM coder.raise(400, coalesce(answer->>'message', 'The workspace cannot be reached.'));
	ELSIF state->>'phase' = 'start' THEN
		state := state || jsonb_build_object('phase', CASE WHEN background THEN 'look' ELSE 'wait' END, 'process', answer->'id');
		plan := jsonb_build_object('method', 'GET', 'url', format('%s/%s/output%s', state->>'url', answer->>'id', CASE WHEN background THEN '' ELSE '?wait=true' END));
		base := CASE WHEN background THEN base ELSE base || jsonb_build_object('timeout_ms', wait) END;
	ELSIF state->>'phase' = 'wait' AND result->>'error' = 'timeout' THEN
		state := state || '{"phase": "look"}';
		plan := jsonb_build_object('method', 'GET', 'url', format('%s/%s/output', state->>'url', state->>'process'));
	ELSE
		done := jsonb_build_object('output', coalesce(answer->>'output', ''), 'exit_code', coalesce(answer->'exit_code', '124'))
			|| CASE WHEN coalesce(answer->>'running', 'false') = 'true' THEN jsonb_build_object('note', 'the command runs on in the background') ELSE '{}' END;
	END IF;
	IF plan IS NOT NULL THEN
		plan := jsonb_build_object('state', state - 'results', 'fetch', jsonb_build_array(base || plan || jsonb_build_object('headers',
			jsonb_build_object('Coder-Chat-Ticket', state->>'ticket', 'Content-Type', 'application/json'))));
	END IF;
END
$$;

-- Calls a tool: its result, or a plan and the state to go on with.  ZC4xx where it cannot be done.
CREATE OR REPLACE FUNCTION coder.mcp_http_call(req coder.request, tool text, args jsonb, state jsonb, OUT done jsonb, OUT plan jsonb)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	got record;
BEGIN
	IF tool = 'coder_workspace_bash' THEN
		got := coder.mcp_http_bash(args, state);
	ELSIF tool = 'coder_get_authenticated_user' THEN
		got := coder.mcp_http_api(req, 'GET', '/api/v2/users/{user}', '{"user": "me"}', NULL, state);
	ELSIF tool = 'coder_list_templates' THEN
		got := coder.mcp_http_api(req, 'GET', '/api/v2/templates', '{}', NULL, state);
		got.done := coalesce((SELECT jsonb_agg(jsonb_build_object('id', t->'id', 'name', t->'name', 'display_name', t->'display_name', 'description', t->'description',
			'organization_name', t->'organization_name', 'active_version_id', t->'active_version_id', 'active_user_count', t->'active_user_count'))
			FROM jsonb_array_elements(got.done) t WHERE NOT coalesce((t->>'deprecated')::bool, false)), '[]');
	ELSIF tool = 'coder_template_version_parameters' THEN
		got := coder.mcp_http_api(req, 'GET', '/api/v2/templateversions/{templateversion}/rich-parameters',
			jsonb_build_object('templateversion', coalesce(args->>'template_version_id', '')), NULL, state);
	ELSIF tool = 'coder_list_workspaces' THEN
		got := coder.mcp_http_api(req, 'GET', '/api/v2/workspaces', jsonb_build_object('query', jsonb_build_object('limit', '200', 'q',
			'owner:' || regexp_replace(coalesce(nullif(args->>'owner', ''), 'me'), '[^A-Za-z0-9_-]', '', 'g'))), NULL, state);
		got.done := coalesce((SELECT jsonb_agg(jsonb_build_object('id', w->'id', 'name', w->'name', 'owner_name', w->'owner_name', 'template_name', w->'template_name',
			'template_display_name', w->'template_display_name', 'outdated', w->'outdated', 'status', w->'latest_build'->'status', 'last_used_at', w->'last_used_at'))
			FROM jsonb_array_elements(got.done->'workspaces') w), '[]');
	ELSIF tool = 'coder_get_workspace' THEN
		got := coder.mcp_http_api(req, 'GET', '/api/v2/workspaces/{workspace}',
			jsonb_build_object('workspace', (coder.mcp_http_workspace(args->>'workspace_id')).id), NULL, state);
	ELSIF tool = 'coder_create_workspace' THEN
		got := coder.mcp_http_api(req, 'POST', '/api/v2/users/{user}/workspaces', jsonb_build_object('user', coalesce(nullif(args->>'user', ''), 'me')),
			jsonb_strip_nulls(jsonb_build_object('name', args->'name', 'template_version_id', nullif(args->>'template_version_id', ''),
				'template_id', CASE WHEN coalesce(args->>'template_version_id', '') = '' THEN args->'template_id' END,
				'rich_parameter_values', coder.mcp_http_parameters(args->'rich_parameters'))), state);
	ELSIF tool = 'coder_create_workspace_build' THEN
		got := coder.mcp_http_api(req, 'POST', '/api/v2/workspaces/{workspace}/builds',
			jsonb_build_object('workspace', (coder.mcp_http_workspace(args->>'workspace_id')).id),
			jsonb_strip_nulls(jsonb_build_object('transition', args->'transition', 'template_version_id', nullif(args->>'template_version_id', ''),
				'rich_parameter_values', coder.mcp_http_parameters(args->'rich_parameters'))), state);
	ELSE
		PERFORM coder.raise(404, 'Unknown tool: ' || left(tool, 100));
	END IF;
	done := got.done;
	plan := got.plan;
END
$$;

-- A message of JSON-RPC as the answer of a POST.
CREATE OR REPLACE FUNCTION coder.mcp_http_reply(id jsonb, member text, value jsonb, status int4 DEFAULT 200)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(status, jsonb_build_object('jsonrpc', '2.0', 'id', id, member, value));
END
$$;

-- tools/call, or what follows it when others have been asked: state is NULL, or of the tool.
CREATE OR REPLACE FUNCTION coder.mcp_http_tool(req coder.request, id jsonb, params jsonb, state jsonb)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	args CONSTANT jsonb := CASE jsonb_typeof(params->'arguments') WHEN 'object' THEN params->'arguments' ELSE '{}' END;
	got record;
BEGIN
	IF params->>'name' IS NULL OR NOT coder.mcp_http_tools() @> jsonb_build_array(jsonb_build_object('name', params->'name')) THEN
		RETURN coder.mcp_http_reply(id, 'error', jsonb_build_object('code', -32602, 'message', 'Unknown tool: ' || left(coalesce(params->>'name', ''), 100)));
	END IF;
	BEGIN
		got := coder.mcp_http_call(req, params->>'name', args, state);
	EXCEPTION WHEN OTHERS THEN
		IF SQLSTATE NOT LIKE 'ZC%' AND SQLSTATE NOT LIKE '22%' THEN
			RAISE;
		END IF;
		RETURN coder.mcp_http_reply(id, 'result', jsonb_build_object('isError', true, 'content', jsonb_build_array(jsonb_build_object('type', 'text', 'text', sqlerrm))));
	END;
	IF got.plan IS NOT NULL THEN
		RETURN coder.fetch('mcp_http_go_on', jsonb_build_object('id', id, 'params', params, 'state', got.plan->'state'),
			VARIADIC ARRAY(SELECT jsonb_array_elements(got.plan->'fetch')));
	END IF;
	RETURN coder.mcp_http_reply(id, 'result', jsonb_build_object('isError', false,
		'content', jsonb_build_array(jsonb_build_object('type', 'text', 'text', coalesce(got.done, 'null')::text)))
		|| CASE WHEN jsonb_typeof(got.done) = 'object' THEN jsonb_build_object('structuredContent', got.done) ELSE '{}' END);
END
$$;

-- Goes on with mcp_http_tool: others have answered.
CREATE OR REPLACE FUNCTION coder.mcp_http_go_on(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	state CONSTANT jsonb := (coder.fetched(req)).state;
BEGIN
	RETURN coder.mcp_http_tool(req, state->'id', state->'params', (state->'state') || jsonb_build_object('results', (coder.fetched(req)).results));
END
$$;

-- /mcp/http: ZC401 with the way to a token, ZC403 where the experiments are off, ZC405.
CREATE OR REPLACE FUNCTION coder.mcp_http(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	known CONSTANT text[] := '{2025-06-18,2025-03-26,2024-11-05}';
	version CONSTANT text := req.headers->>'mcp-protocol-version';
	message jsonb;
	answer coder.response;
	wanted text;
BEGIN
	IF coder.subject_id() IS NULL THEN
		answer := coder.reply(401, '{"message": "You are signed out or your session has expired. Please sign in again to continue."}'::jsonb);
		answer.headers := format(E'WWW-Authenticate: Bearer realm="coder", resource_metadata="%s"\r\n', coder.own_url('/.well-known/oauth-protected-resource'));
		RETURN answer;
	ELSIF NOT coder.experiment('oauth2') OR NOT coder.experiment('mcp-server-http') THEN
		PERFORM coder.raise(403, 'This functionality requires enabling the following experiments: oauth2, mcp-server-http');
	ELSIF req.method <> 'POST' THEN
		answer := coder.reply(405, '{"message": "Method not allowed.", "detail": "Messages are posted here; there is no stream and no session."}'::jsonb);
		answer.headers := E'Allow: POST\r\n';
		RETURN answer;
	ELSIF version <> ALL (known) THEN
		PERFORM coder.raise(400, 'Unsupported MCP-Protocol-Version.', 'Known are ' || array_to_string(known, ', '));
	END IF;
	BEGIN
		message := coder.try_json(convert_from(req.raw, 'UTF8'));
	EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
		message := NULL;
	END;
	IF message IS NULL THEN
		RETURN coder.mcp_http_reply('null', 'error', '{"code": -32700, "message": "Parse error"}', 400);
	ELSIF jsonb_typeof(message) <> 'object' OR message->>'jsonrpc' IS DISTINCT FROM '2.0' OR jsonb_typeof(message->'id') NOT IN ('string', 'number') THEN
		RETURN coder.mcp_http_reply('null', 'error', '{"code": -32600, "message": "Invalid Request"}', 400);
	ELSIF NOT message ? 'id' OR NOT message ? 'method' THEN
		RETURN ROW(202, '', NULL, NULL)::coder.response;	-- a notification, or an answer that nobody waits for
	END IF;
	CASE coalesce(message->>'method', '')
	WHEN 'initialize' THEN
		wanted := message->'params'->>'protocolVersion';
		RETURN coder.mcp_http_reply(message->'id', 'result', jsonb_build_object('protocolVersion', CASE WHEN wanted = ANY (known) THEN wanted ELSE known[1] END,
			'capabilities', '{"tools": {}}'::jsonb, 'serverInfo', jsonb_build_object('name', 'Coder', 'version', '0.1'),
			'instructions', 'Workspaces of this Coder deployment: find a template, make a workspace of it, run commands in it.'));
	WHEN 'ping' THEN
		RETURN coder.mcp_http_reply(message->'id', 'result', '{}');
	WHEN 'tools/list' THEN
		RETURN coder.mcp_http_reply(message->'id', 'result', jsonb_build_object('tools', coder.mcp_http_tools()));
	WHEN 'tools/call' THEN
		RETURN coder.mcp_http_tool(req, message->'id', CASE jsonb_typeof(message->'params') WHEN 'object' THEN message->'params' ELSE '{}' END, NULL);
	ELSE
		RETURN coder.mcp_http_reply(message->'id', 'error', '{"code": -32601, "message": "Method not found"}');
	END CASE;
END
$$;

DELETE FROM coder.routes WHERE area = 'mcphttp';
INSERT INTO coder.routes (area, method, pattern, function, auth, raw_body, max_body, pool) VALUES
	('mcphttp', '*', '/api/experimental/mcp/http', 'mcp_http', 'optional', true, 1048576, 'slow'),
	('mcphttp', '*', '/api/experimental/mcp/http/{rest...}', 'mcp_http', 'optional', true, 1048576, 'slow');
