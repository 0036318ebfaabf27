-- sql/api/chatgit.sql -- what chats change in git: the repositories of a workspace as they are, branches and pull requests as the git
-- server says
--
-- A chat's branch and its remote are told by the agent when git asks for a password (GET /workspaceagents/me/external-auth).
-- A runner of chats keeps the row of coder.chat_diff_statuses fresh: coder.chat_git_claim, coder.chat_git_next.

-- The agent of a chat's workspace for a stream; ZC400 in the words of the API.
CREATE OR REPLACE FUNCTION coder.chat_stream_agent(c coder.chats, missing text, gone text, state text)
RETURNS coder.workspace_agents LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	w CONSTANT coder.workspaces := coder.chat_workspace(c);
	a coder.workspace_agents;
BEGIN
	IF c.workspace_id IS NULL THEN
		PERFORM coder.raise(400, missing);
	ELSIF w.id IS NULL OR NOT coder.workspace_can('read', w) THEN
		PERFORM coder.raise(400, gone);
	END IF;
	a := coder.chat_agent(w.id);
	IF a.id IS NULL THEN
		PERFORM coder.raise(400, 'Chat workspace has no agents.');
	ELSIF coder.agent_status(a, clock_timestamp()) <> 'connected' THEN
		PERFORM coder.raise(400, format(state, coder.agent_status(a, clock_timestamp())));
	END IF;
	RETURN a;
END
$$;

-- The plan of a stream that is joined to the agent's own HTTP API.
CREATE OR REPLACE FUNCTION coder.chat_agent_plan(agent uuid, target text)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(101, jsonb_build_object('format', 'app', 'agent_id', agent, 'port', 4, 'tls', false, 'target', target, 'name', 'agent', 'remote', ''));
END
$$;

-- GET /chats/{chat}/stream/git: what has changed in the repositories that the chat works in; the agent's own watch.
CREATE OR REPLACE FUNCTION coder.chat_stream_git(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c CONSTANT coder.chats := coder.param_chat(req);
	a CONSTANT coder.workspace_agents := coder.chat_stream_agent(c, 'Chat has no workspace to watch.', 'Chat has no workspace to watch.',
		'Agent state is "%s", it must be in the "connected" state.');
BEGIN
	RETURN coder.chat_agent_plan(a.id, '/api/v0/git/watch?chat_id=' || c.id);
END
$$;

-- GET /chats/{chat}/stream/desktop: the workspace's screen, RFB as the agent speaks it; 403 for who may neither open its apps nor its shell.
CREATE OR REPLACE FUNCTION coder.chat_stream_desktop(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c CONSTANT coder.chats := coder.param_chat(req);
	w CONSTANT coder.workspaces := coder.chat_workspace(c);
	a coder.workspace_agents;
BEGIN
	IF w.id IS NOT NULL AND coder.workspace_can('read', w) AND NOT (coder.workspace_can('application_connect', w) OR coder.workspace_can('ssh', w)) THEN
		PERFORM coder.raise_forbidden();
	END IF;
	a := coder.chat_stream_agent(c, 'Chat has no workspace.', 'Chat workspace not found.', 'Agent state is "%s", must be connected.');
	RETURN coder.chat_agent_plan(a.id, '/api/v0/desktop/vnc');
END
$$;

DELETE FROM coder.routes WHERE area = 'chatgit';
INSERT INTO coder.routes (area, method, pattern, function, auth, raw_body, max_body, rate, read_only) VALUES
	('chatgit', 'GET', '/api/experimental/chats/{chat}/stream/git', 'chat_stream_git', 'session', true, 0, 'api', true),
	('chatgit', 'GET', '/api/experimental/chats/{chat}/stream/desktop', 'chat_stream_desktop', 'session', true, 0, 'api', true);
