-- sql/api/chatgit.sql -- what chats change in git: the repositories of a workspace as they are, branches and pull requests as the git
-- server says
--
-- A chat's branch and its remote are told by the agent when git asks for a password (GET /workspaceagents/me/external-auth).
-- A runner of chats keeps the rows of coder.chat_diff_statuses fresh: it takes what is due (coder.chat_git_claim) and has a gateway
-- ask the git server for it, as the chat's owner (POST /chat-git, with a ticket).  What the servers are asked: githost.sql.

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

-- ---- git servers ----

-- The address of a remote without a password, at most 2048 characters; NULL where it is none.
CREATE OR REPLACE FUNCTION coder.git_clean_origin(origin text)
RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF length(origin) > 2048 OR origin ~ '[[:cntrl:][:space:]]' THEN
		RETURN NULL;
	END IF;
	RETURN nullif(regexp_replace(origin, '^(https?://)[^/?#]*@', '\1'), '');
END
$$;

-- Host and path of a remote: {"host", "path"}, of https://host/path.git, ssh://git@host/path and git@host:path; NULL where it is none.
CREATE OR REPLACE FUNCTION coder.git_repository(origin text)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	m CONSTANT text[] := regexp_match(regexp_replace(origin, '(\.git)?/*$', ''),
		'^(?:https?://(?:[^/@]*@)?|ssh://(?:[^/@]*@)?|[A-Za-z0-9._-]+@)([A-Za-z0-9.-]+(?::[0-9]+(?=/))?)[:/]/?((?:[A-Za-z0-9._~-]|%20)+(?:/(?:[A-Za-z0-9._~-]|%20)+)+)$');
BEGIN
	IF m IS NULL OR m[2] ~ '(^|/)\.\.?(/|$)' THEN
		RETURN NULL;
	END IF;
	RETURN jsonb_build_object('host', m[1], 'path', m[2]);
END
$$;

-- ---- keeping fresh ----

-- Git in a workspace works with this branch of this remote for a chat: what is known of another is forgotten, and it is asked about.
CREATE OR REPLACE FUNCTION coder.chat_git_mark(a coder.agent_context, chat text, branch text, origin text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	clean CONSTANT text := coder.git_clean_origin(origin);
	c coder.chats;
BEGIN
	IF coalesce(chat, '') = '' OR coalesce(branch, '') = '' OR branch = 'HEAD' OR length(branch) > 255 OR branch ~ '[[:cntrl:][:space:]]' OR clean IS NULL THEN
		RETURN;
	END IF;
	SELECT x.* INTO c FROM coder.chats x WHERE x.id = coder.try_uuid(chat) AND x.workspace_id = (a.workspace).id AND NOT x.archived;
	IF c.id IS NULL THEN
		RETURN;
	END IF;
	INSERT INTO coder.chat_diff_statuses AS d (chat_id, git_branch, git_remote_origin, marked_at) VALUES (c.id, branch, clean, clock_timestamp())
	ON CONFLICT (chat_id) DO UPDATE SET git_branch = excluded.git_branch, git_remote_origin = excluded.git_remote_origin,
		marked_at = excluded.marked_at, stale_at = least(d.stale_at, clock_timestamp()), updated_at = clock_timestamp();
	PERFORM coder.emit('chat:git');
END
$$;

-- Trigger: a row that is about another branch knows nothing of it yet.
CREATE OR REPLACE FUNCTION coder.chat_git_branch_changed() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	NEW.url := NULL;
	NEW.pull_request_state := NULL;
	NEW.pull_request_title := '';
	NEW.pull_request_draft := false;
	NEW.changes_requested := false;
	NEW.additions := 0;
	NEW.deletions := 0;
	NEW.changed_files := 0;
	NEW.author_login := NULL;
	NEW.author_avatar_url := NULL;
	NEW.base_branch := NULL;
	NEW.head_branch := NULL;
	NEW.pr_number := NULL;
	NEW.commits := NULL;
	NEW.approved := NULL;
	NEW.reviewer_count := NULL;
	NEW.refreshed_at := NULL;
	RETURN NEW;
END
$$;
CREATE OR REPLACE TRIGGER chat_git_branch_changed BEFORE UPDATE OF git_branch, git_remote_origin ON coder.chat_diff_statuses
	FOR EACH ROW WHEN ((NEW.git_branch, NEW.git_remote_origin) IS DISTINCT FROM (OLD.git_branch, OLD.git_remote_origin))
	EXECUTE FUNCTION coder.chat_git_branch_changed();

-- Takes up to fifty rows that are due: [{"url", "ticket"}], one for each owner, remote and branch; POST to url with the ticket has them
-- looked at.  Who has taken them and dies leaves them to others after five minutes.
CREATE OR REPLACE FUNCTION coder.chat_git_claim()
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	jobs jsonb := '[]';
	one record;
	ticket text;
BEGIN
	FOR one IN WITH due AS (SELECT d.chat_id FROM coder.chat_diff_statuses d JOIN coder.chats c ON c.id = d.chat_id
				WHERE d.stale_at <= clock_timestamp() AND d.git_branch <> '' AND d.git_remote_origin <> '' AND NOT c.archived
				ORDER BY d.stale_at LIMIT 50 FOR UPDATE OF d SKIP LOCKED),
			taken AS (UPDATE coder.chat_diff_statuses d SET stale_at = clock_timestamp() + interval '5 minutes' FROM due
				WHERE d.chat_id = due.chat_id RETURNING d.chat_id, d.git_remote_origin, d.git_branch)
		SELECT DISTINCT c.owner_id, t.git_remote_origin, t.git_branch FROM taken t JOIN coder.chats c ON c.id = t.chat_id LOOP
		ticket := translate(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
		INSERT INTO coder.chat_git_jobs (hash, owner_id, git_remote_origin, git_branch, expires_at)
		VALUES (sha256(convert_to(ticket, 'UTF8')), one.owner_id, one.git_remote_origin, one.git_branch, clock_timestamp() + interval '5 minutes');
		jobs := jobs || jsonb_build_object('url', rtrim(coder.setting('access_url'), '/') || '/api/experimental/chat-git', 'ticket', ticket);
	END LOOP;
	RETURN jobs;
END
$$;

-- The job of a request's ticket; ZC404.
CREATE OR REPLACE FUNCTION coder.chat_git_job(req coder.request)
RETURNS coder.chat_git_jobs LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	j coder.chat_git_jobs;
BEGIN
	SELECT x.* INTO j FROM coder.chat_git_jobs x
	 WHERE x.hash = sha256(convert_to(coalesce(req.headers->>'coder-chat-ticket', ''), 'UTF8')) AND x.expires_at > clock_timestamp();
	IF j.hash IS NULL THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN j;
END
$$;

-- Stores what came of a job, and says when it is to be asked about again.  details NULL: nothing is known.
CREATE OR REPLACE FUNCTION coder.chat_git_store(j coder.chat_git_jobs, details jsonb, again interval)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	d coder.chat_diff_statuses;
	old coder.chat_diff_statuses;
	c coder.chats;
BEGIN
	DELETE FROM coder.chat_git_jobs x WHERE x.hash = j.hash;
	FOR old IN SELECT x.* FROM coder.chat_diff_statuses x JOIN coder.chats y ON y.id = x.chat_id
				WHERE y.owner_id = j.owner_id AND x.git_remote_origin = j.git_remote_origin AND x.git_branch = j.git_branch FOR UPDATE OF x LOOP
		d := jsonb_populate_record(old, coalesce(details, '{}'));
		d.stale_at := clock_timestamp() + CASE WHEN details IS NOT NULL AND d.pr_number IS NULL AND d.marked_at > clock_timestamp() - interval '2 minutes'
			THEN interval '15 seconds' ELSE again END;
		d.refreshed_at := CASE WHEN details IS NULL THEN d.refreshed_at ELSE clock_timestamp() END;
		UPDATE coder.chat_diff_statuses x SET url = d.url, pull_request_state = d.pull_request_state, pull_request_title = d.pull_request_title,
			pull_request_draft = d.pull_request_draft, changes_requested = d.changes_requested, additions = d.additions, deletions = d.deletions,
			changed_files = d.changed_files, author_login = d.author_login, author_avatar_url = d.author_avatar_url, base_branch = d.base_branch,
			head_branch = d.head_branch, pr_number = d.pr_number, commits = d.commits, approved = d.approved, reviewer_count = d.reviewer_count,
			refreshed_at = d.refreshed_at, stale_at = d.stale_at, updated_at = clock_timestamp()
		 WHERE x.chat_id = old.chat_id;
		IF details IS NOT NULL AND (old.refreshed_at IS NULL
				OR to_jsonb(old) - '{refreshed_at,stale_at,updated_at}'::text[] <> to_jsonb(d) - '{refreshed_at,stale_at,updated_at}'::text[]) THEN
			SELECT x.* INTO c FROM coder.chats x WHERE x.id = old.chat_id;
			PERFORM coder.chat_tell_owner(c, 'diff_status_change', jsonb_build_object('chat', coder.chat_json(c)
				|| jsonb_build_object('diff_status', coder.chat_diff_status_json(c.id, d))));
		END IF;
	END LOOP;
	RETURN coder.reply(204);
END
$$;

-- POST /chat-git: asks the git server about a job's branch.  Not of the public API: without a ticket there is nothing here.
CREATE OR REPLACE FUNCTION coder.chat_git_work(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	j CONSTANT coder.chat_git_jobs := coder.chat_git_job(req);
	c CONSTANT jsonb := coder.git_provider(j.git_remote_origin);
BEGIN
	IF c IS NULL THEN
		RETURN coder.chat_git_store(j, NULL, interval '10 minutes');
	END IF;
	RETURN coder.links_check(req, 'chat_git', j.owner_id, ARRAY[c->>'id']);
END
$$;

-- The owner's token for a provider in plain text, where the check found it good; NULL.
CREATE OR REPLACE FUNCTION coder.git_token(c jsonb, uid uuid, checks jsonb)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT coder.unseal(l.oauth_access_token, l.oauth_access_token_key_id) FROM coder.external_auth_links l
		WHERE l.provider_id = c->>'id' AND l.user_id = uid AND (checks->(c->>'id')->>'authenticated')::bool);
END
$$;

-- The owner's link has been looked at.
CREATE OR REPLACE FUNCTION coder.chat_git_linked(req coder.request, checks jsonb)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	j CONSTANT coder.chat_git_jobs := coder.chat_git_job(req);
	c CONSTANT jsonb := coder.git_provider(j.git_remote_origin);
	token CONSTANT text := coder.git_token(c, j.owner_id, checks);
BEGIN
	IF token IS NULL THEN
		RETURN coder.chat_git_store(j, NULL, interval '10 minutes');
	END IF;
	RETURN coder.fetch('chat_git_listed', checks, coder.git_list_request(c, token, j.git_branch));
END
$$;

-- The list of pull requests has come.
CREATE OR REPLACE FUNCTION coder.chat_git_listed(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	j CONSTANT coder.chat_git_jobs := coder.chat_git_job(req);
	c CONSTANT jsonb := coder.git_provider(j.git_remote_origin);
	checks CONSTANT jsonb := (coder.fetched(req)).state;
	pull jsonb;
BEGIN
	pull := coder.git_listed(c, j.git_branch, (coder.fetched(req)).results->0);
	IF pull IS NULL THEN
		RETURN coder.chat_git_store(j, '{}', interval '2 minutes');
	END IF;
	RETURN coder.fetch('chat_git_detailed', 'null', VARIADIC coder.git_detail_requests(c, coder.git_token(c, j.owner_id, checks), pull));
EXCEPTION WHEN SQLSTATE 'ZC429' THEN
	RETURN coder.chat_git_store(j, NULL, interval '10 minutes');
WHEN SQLSTATE 'ZC500' THEN
	RETURN coder.chat_git_store(j, NULL, interval '2 minutes');
END
$$;

-- The pull request has come.
CREATE OR REPLACE FUNCTION coder.chat_git_detailed(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	j CONSTANT coder.chat_git_jobs := coder.chat_git_job(req);
BEGIN
	RETURN coder.chat_git_store(j, coder.git_details(coder.git_provider(j.git_remote_origin), (coder.fetched(req)).results), interval '2 minutes');
EXCEPTION WHEN SQLSTATE 'ZC429' THEN
	RETURN coder.chat_git_store(j, NULL, interval '10 minutes');
WHEN SQLSTATE 'ZC500' THEN
	RETURN coder.chat_git_store(j, NULL, interval '2 minutes');
END
$$;

-- ---- the diff of a branch ----

-- ChatDiffContents, with what more is known.
CREATE OR REPLACE FUNCTION coder.chat_diff_reply(c coder.chats, provider text DEFAULT NULL, url text DEFAULT NULL, diff text DEFAULT NULL)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	d coder.chat_diff_statuses;
BEGIN
	SELECT x.* INTO d FROM coder.chat_diff_statuses x WHERE x.chat_id = c.id;
	RETURN coder.reply(200, jsonb_strip_nulls(jsonb_build_object('chat_id', c.id, 'provider', provider, 'remote_origin', nullif(d.git_remote_origin, ''),
		'branch', nullif(d.git_branch, ''), 'pull_request_url', coalesce(url, nullif(d.url, '')), 'diff', nullif(diff, ''))));
END
$$;

-- The remote and the provider of a chat, NULL where they are not known.
CREATE OR REPLACE FUNCTION coder.chat_diff_provider(c coder.chats, OUT provider jsonb, OUT branch text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	d coder.chat_diff_statuses;
BEGIN
	SELECT x.* INTO d FROM coder.chat_diff_statuses x WHERE x.chat_id = c.id;
	provider := CASE WHEN d.git_branch <> '' THEN coder.git_provider(d.git_remote_origin) END;
	branch := d.git_branch;
END
$$;

-- GET /chats/{chat}/diff: of the branch's pull request, else of the branch, as the git server gives it to the chat's owner.
CREATE OR REPLACE FUNCTION coder.chat_diff(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c CONSTANT coder.chats := coder.param_chat(req);
	provider CONSTANT jsonb := (coder.chat_diff_provider(c)).provider;
BEGIN
	IF provider IS NULL THEN
		RETURN coder.chat_diff_reply(c);
	END IF;
	RETURN coder.links_check(req, 'chat_diff', c.owner_id, ARRAY[provider->>'id']);
END
$$;

-- The owner's link has been looked at.
CREATE OR REPLACE FUNCTION coder.chat_diff_linked(req coder.request, checks jsonb)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c CONSTANT coder.chats := coder.param_chat(req);
	d CONSTANT record := coder.chat_diff_provider(c);
	token CONSTANT text := coder.git_token(d.provider, c.owner_id, checks);
BEGIN
	IF token IS NULL THEN
		RETURN coder.chat_diff_reply(c, d.provider->>'type');
	END IF;
	RETURN coder.fetch('chat_diff_listed', checks, coder.git_list_request(d.provider, token, d.branch), coder.git_default_request(d.provider, token));
END
$$;

-- The pull requests of the branch, and the repository with its default branch, have come.
CREATE OR REPLACE FUNCTION coder.chat_diff_listed(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c CONSTANT coder.chats := coder.param_chat(req);
	d CONSTANT record := coder.chat_diff_provider(c);
	token CONSTANT text := coder.git_token(d.provider, c.owner_id, (coder.fetched(req)).state);
	results CONSTANT jsonb := (coder.fetched(req)).results;
	base CONSTANT text := coder.git_default_branch(coder.fetched_object(results->1));
	pull jsonb;
	request jsonb;
	url text;
BEGIN
	pull := coder.git_listed(d.provider, d.branch, results->0);
	IF pull->>'state' IS DISTINCT FROM 'open' THEN
		pull := NULL;
	END IF;
	url := coder.git_web_url(pull->>'url');
	IF pull IS NOT NULL OR base <> d.branch THEN
		request := coder.git_diff_request(d.provider, token, pull, d.branch, base);
	END IF;
	IF request IS NULL THEN
		RETURN coder.chat_diff_reply(c, d.provider->>'type', url);
	END IF;
	RETURN coder.fetch('chat_diff_came', jsonb_build_object('url', url, 'branch', pull IS NULL), request);
EXCEPTION WHEN SQLSTATE 'ZC500' OR SQLSTATE 'ZC429' THEN
	PERFORM coder.raise(500, 'Failed to get chat diff.', sqlerrm);
END
$$;

-- The diff has come; one that is too large for the server, or for us, is left out.
CREATE OR REPLACE FUNCTION coder.chat_diff_came(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c CONSTANT coder.chats := coder.param_chat(req);
	provider CONSTANT jsonb := (coder.chat_diff_provider(c)).provider;
	state CONSTANT jsonb := (coder.fetched(req)).state;
	result CONSTANT jsonb := (coder.fetched(req)).results->0;
	diff text := result->>'body';
BEGIN
	IF (result->>'status')::int4 IN (404, 406) OR result->>'error' = 'too_large' THEN
		RETURN coder.chat_diff_reply(c, provider->>'type', state->>'url');
	END IF;
	PERFORM coder.git_check(result);
	IF provider->>'type' = 'gitlab' AND (state->>'branch')::bool THEN
		diff := (SELECT string_agg(format(E'diff --git a/%s b/%s\n--- %s\n+++ %s\n%s', f->>'old_path', f->>'new_path',
				CASE WHEN f->>'new_file' = 'true' THEN '/dev/null' ELSE 'a/' || (f->>'old_path') END,
				CASE WHEN f->>'deleted_file' = 'true' THEN '/dev/null' ELSE 'b/' || (f->>'new_path') END, f->>'diff'), '' ORDER BY n)
			FROM jsonb_array_elements(coder.try_json(diff)->'diffs') WITH ORDINALITY e (f, n));
	END IF;
	RETURN coder.chat_diff_reply(c, provider->>'type', state->>'url', diff);
EXCEPTION WHEN SQLSTATE 'ZC500' OR SQLSTATE 'ZC429' THEN
	PERFORM coder.raise(500, 'Failed to get chat diff.', sqlerrm);
END
$$;

DELETE FROM coder.routes WHERE area = 'chatgit';
INSERT INTO coder.routes (area, method, pattern, function, auth, raw_body, max_body, rate, read_only) VALUES
	('chatgit', 'GET', '/api/experimental/chats/{chat}/stream/git', 'chat_stream_git', 'session', true, 0, 'api', true),
	('chatgit', 'GET', '/api/experimental/chats/{chat}/stream/desktop', 'chat_stream_desktop', 'session', true, 0, 'api', true),
	('chatgit', 'GET', '/api/experimental/chats/{chat}/diff', 'chat_diff', 'session', false, 262144, 'api', false),
	('chatgit', 'POST', '/api/experimental/chat-git', 'chat_git_work', 'none', true, 1024, 'none', false);
