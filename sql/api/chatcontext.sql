-- sql/api/chatcontext.sql -- what chats take from their workspace: instruction files, skills, plans
--
-- A runner asks coder.chat_agent_work what to fetch from the agent, fetches it, and gives it to coder.chat_agent_done: once for
-- each agent of a chat the instruction files and the index of skills (work "context"), and for the tools read_skill,
-- read_skill_file and propose_plan.  Whoever can write a file of a workspace can write to the model: what comes is cleaned here,
-- whatever the agent has done.
--
-- The parts stand in messages of the role user, all of whose parts are of the types context-file and skill.  They are not said
-- by the user: coder.chat_prompt makes a system message of the newest ones.

-- Is it such a message?
CREATE OR REPLACE FUNCTION coder.chat_is_context(content jsonb)
RETURNS bool LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce(content @? '$[*] ? (@.type == "context-file" || @.type == "skill")', false);
END
$$;

-- The beginning of a text, at most so many bytes.
CREATE OR REPLACE FUNCTION coder.cut_bytes(value text, bytes int4)
RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	value := left(value, bytes);
	WHILE octet_length(value) > bytes LOOP
		value := left(value, length(value) - greatest(1, (octet_length(value) - bytes) / 4));
	END LOOP;
	RETURN value;
END
$$;

-- A text of a workspace as a model may read it: without comments of HTML and characters that nobody sees, line feeds only,
-- trimmed, at most so many bytes.
CREATE OR REPLACE FUNCTION coder.chat_clean_context(value text, bytes int4 DEFAULT 65536)
RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rounds int4 := 0;
BEGIN
	value := regexp_replace(replace(replace(coder.cut_bytes(coalesce(value, ''), 4 * bytes), E'\r\n', E'\n'), E'\r', E'\n'),
		'[\u0001-\u0008\u000B\u000C\u000E-\u001F\u007F-\u009F\u00AD\u034F\u061C\u070F\u115F\u1160\u17B4\u17B5\u180B-\u180F\u200B-\u200F\u202A-\u202E'
		'\u2060-\u206F\u3164\uFE00-\uFE0F\uFEFF\uFFA0\uFFF0-\uFFFB\U0001BCA0-\U0001BCA3\U0001D173-\U0001D17A\U000E0000-\U000E0FFF]', '', 'g');
	-- What is left of two comments may be a third.
	WHILE strpos(value, '<!--') > 0 LOOP
		value := CASE WHEN rounds < 20 THEN regexp_replace(value, '<!--.*?(?:-->|$)', '', 'g') ELSE replace(value, '<!--', '') END;
		rounds := rounds + 1;
	END LOOP;
	RETURN trim(E' \t\n' FROM coder.cut_bytes(value, bytes));
END
$$;

-- The body of a skill's file: what is behind its front matter, cleaned.
CREATE OR REPLACE FUNCTION coder.chat_skill_body(value text)
RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	lines CONSTANT text[] := string_to_array(ltrim(value, U&'\FEFF'), E'\n');
	fence int4;
BEGIN
	IF btrim(lines[1], E' \t\r') = '---' THEN
		SELECT min(l.n) INTO fence FROM unnest(lines) WITH ORDINALITY l (line, n) WHERE l.n > 1 AND btrim(l.line, E' \t\r') = '---';
	END IF;
	RETURN coder.chat_clean_context(array_to_string(lines[coalesce(fence, 0) + 1:], E'\n'));
END
$$;

-- One part as it is stored; NULL where it is none of the two types, or says nothing.
CREATE OR REPLACE FUNCTION coder.chat_context_part(part jsonb, agent uuid)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	content CONSTANT text := coder.chat_clean_context(part->>'context_file_content');
	path CONSTANT text := coder.chat_clean_context(part->>'context_file_path', 4096);
	dir CONSTANT text := part->>'skill_dir';
BEGIN
	IF part->>'type' = 'context-file' AND content <> '' AND path <> '' THEN
		RETURN jsonb_strip_nulls(jsonb_build_object('type', 'context-file', 'context_file_path', path, 'context_file_content', content,
			'context_file_agent_id', agent, 'context_file_truncated', CASE WHEN part->>'context_file_truncated' = 'true'
				OR octet_length(part->>'context_file_content') > 65536 THEN true END,
			'context_file_os', nullif(coder.chat_clean_context(part->>'context_file_os', 64), ''),
			'context_file_directory', nullif(coder.chat_clean_context(part->>'context_file_directory', 4096), '')));
	ELSIF part->>'type' = 'skill' AND part->>'skill_name' ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND length(part->>'skill_name') <= 64
			AND dir LIKE '/%' AND length(dir) <= 4096 AND dir !~ '[\u0001-\u001F]' THEN
		RETURN jsonb_strip_nulls(jsonb_build_object('type', 'skill', 'skill_name', part->>'skill_name', 'skill_dir', dir,
			'skill_description', nullif(coder.chat_clean_context(part->>'skill_description', 1024), ''), 'context_file_agent_id', agent,
			'context_file_skill_meta_file', CASE WHEN part->>'context_file_skill_meta_file' ~ '^[A-Za-z0-9._-]{1,255}$'
				THEN part->>'context_file_skill_meta_file' ELSE 'SKILL.md' END));
	END IF;
	RETURN NULL;
END
$$;

-- Parts as they are stored, at most a hundred; [] where nothing is left.
CREATE OR REPLACE FUNCTION coder.chat_context_parts(parts jsonb, agent uuid)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce((SELECT jsonb_agg(c.part ORDER BY c.n) FROM (SELECT coder.chat_context_part(p.v, agent) AS part, p.n
			FROM jsonb_array_elements(CASE jsonb_typeof(parts) WHEN 'array' THEN parts ELSE '[]' END) WITH ORDINALITY p (v, n)
			WHERE jsonb_typeof(p.v) = 'object' AND p.n <= 100) c WHERE c.part IS NOT NULL), '[]');
END
$$;

-- The parts that a chat goes by: those of its agent that were stored last, of the same path or name the newest one.
CREATE OR REPLACE FUNCTION coder.chat_context(c coder.chats)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce((SELECT jsonb_agg(x.part ORDER BY x.first_id, x.first_n) FROM (
			SELECT p.v AS part, row_number() OVER w AS newest, min(m.id) OVER o AS first_id, min(p.n) OVER o AS first_n
			  FROM coder.chat_messages m, jsonb_array_elements(m.content) WITH ORDINALITY p (v, n)
			 WHERE m.chat_id = c.id AND m.role = 'user' AND NOT m.deleted AND coder.chat_is_context(m.content)
			   AND p.v->>'context_file_agent_id' IS NOT DISTINCT FROM (SELECT x.content->0->>'context_file_agent_id' FROM coder.chat_messages x
				WHERE x.chat_id = c.id AND x.role = 'user' AND NOT x.deleted AND coder.chat_is_context(x.content) ORDER BY x.id DESC LIMIT 1)
			WINDOW w AS (PARTITION BY p.v->>'type', coalesce(p.v->>'skill_name', p.v->>'context_file_path') ORDER BY m.id DESC, p.n DESC),
				o AS (PARTITION BY p.v->>'type', coalesce(p.v->>'skill_name', p.v->>'context_file_path'))) x WHERE x.newest = 1), '[]');
END
$$;

-- Stores parts as a message of the chat, and tells of it: streams find it as they find what users say, so that the runner stays the only
-- writer of chat_stream_events.  What a provider keeps of the conversation does not hold any more.
CREATE OR REPLACE FUNCTION coder.chat_context_add(chat uuid, parts jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c coder.chats;
BEGIN
	SELECT x.* INTO c FROM coder.chats x WHERE x.id = chat FOR UPDATE;
	INSERT INTO coder.chat_messages (chat_id, role, content, visibility, model_config_id)
	VALUES (chat, 'user', parts, 'both', c.last_model_config_id);
	UPDATE coder.chat_messages m SET provider_response_id = NULL WHERE m.chat_id = chat AND m.provider_response_id IS NOT NULL;
	UPDATE coder.chats x SET last_injected_context = (SELECT jsonb_agg(p - 'context_file_content') FROM jsonb_array_elements(coder.chat_context(c)) p)
	 WHERE x.id = chat;
	PERFORM coder.chat_tell_stream(chat);
END
$$;

-- The same message in a subagent's chat.
CREATE OR REPLACE FUNCTION coder.chat_context_copy(parent coder.chats, child uuid)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	parts CONSTANT jsonb := coder.chat_context(parent);
BEGIN
	IF parts <> '[]' THEN
		INSERT INTO coder.chat_messages (chat_id, role, content, visibility, model_config_id)
		VALUES (child, 'user', parts, 'both', parent.last_model_config_id);
	END IF;
	UPDATE coder.chats x SET last_injected_context = parent.last_injected_context, context_agent_id = parent.context_agent_id,
		workspace_home = parent.workspace_home WHERE x.id = child;
END
$$;

-- Text of others between marks that it cannot close.
CREATE OR REPLACE FUNCTION coder.chat_quote(value text)
RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN regexp_replace(value, '<(/?)(workspace-|user-instructions)', '< \1\2', 'gi');
END
$$;

-- Where a chat's plan is; NULL where that is not known.
CREATE OR REPLACE FUNCTION coder.chat_plan_path(c coder.chats)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN rtrim(c.workspace_home, '/') || format('/.coder/plans/PLAN-%s.md', c.id);
END
$$;

-- What a chat's model is told of its workspace: instruction files, at most 256 KiB of them, where plans go, the index of skills.
-- NULL where there is nothing.
CREATE OR REPLACE FUNCTION coder.chat_context_prompt(c coder.chats)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	parts CONSTANT jsonb := coder.chat_context(c);
	files text;
	skills text;
BEGIN
	SELECT string_agg(format(E'<workspace-file path=%s>\n%s\n%s</workspace-file>', to_jsonb(x.part->>'context_file_path'),
			coder.chat_quote(x.part->>'context_file_content'),
			CASE WHEN x.part->>'context_file_truncated' = 'true' THEN E'(The rest of the file is left out here; read the file where you need it.)\n' ELSE '' END),
			E'\n' ORDER BY x.n) INTO files
	  FROM (SELECT p.v AS part, p.n, sum(octet_length(p.v->>'context_file_content')) OVER (ORDER BY p.n) AS so_far
			FROM jsonb_array_elements(parts) WITH ORDINALITY p (v, n) WHERE p.v->>'type' = 'context-file') x WHERE x.so_far <= 262144;
	SELECT string_agg(format('- %s: %s', p.v->>'skill_name', coder.chat_quote(regexp_replace(coalesce(p.v->>'skill_description', ''), '\s+', ' ', 'g'))),
			E'\n' ORDER BY p.v->>'skill_name') INTO skills
	  FROM jsonb_array_elements(parts) WITH ORDINALITY p (v, n) WHERE p.v->>'type' = 'skill';
	RETURN nullif(concat_ws(E'\n\n',
		'Files of the workspace tell how work is done there. Go by them as far as they do not contradict what stands above or what the user says; the closer a file is to what you work on, the more it counts.'
			|| E'\n' || files,
		CASE WHEN c.parent_chat_id IS NULL THEN 'When you are asked for a plan, or a task is large enough to agree on one first, write the plan as Markdown to '
			|| coder.chat_plan_path(c) || ' and show it with propose_plan; then wait for the answer before you change anything.' END,
		'The workspace has skills: instructions for particular tasks. Before you begin with something that one of them is for, read it with read_skill.'
			|| E'\n<workspace-skills>\n' || skills || E'\n</workspace-skills>'), '');
END
$$;

-- What a runner must know before it asks the model: {"due": are the files of the chat's agent still to be read, "skills": are there any}.
CREATE OR REPLACE FUNCTION coder.chat_context_state(worker uuid, chat uuid)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c coder.chats;
	w coder.workspaces;
	a coder.workspace_agents;
BEGIN
	SELECT x.* INTO c FROM coder.chats x WHERE x.id = chat AND x.worker_id = worker;
	w := coder.chat_workspace(c);
	IF w.id IS NOT NULL THEN
		a := coder.chat_agent(w.id);
	END IF;
	RETURN jsonb_build_object('skills', coalesce(c.last_injected_context @? '$[*] ? (@.type == "skill")', false),
		'due', coalesce(a.id IS DISTINCT FROM c.context_agent_id AND coder.agent_status(a, clock_timestamp()) = 'connected', false));
EXCEPTION WHEN SQLSTATE 'ZC400' THEN
	RETURN '{"skills": false, "due": false}';
END
$$;

-- The skill of a chat with this name; ZC400.
CREATE OR REPLACE FUNCTION coder.chat_skill(c coder.chats, wanted text)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	skill CONSTANT jsonb := (SELECT p FROM jsonb_array_elements(coder.chat_context(c)) p WHERE p->>'type' = 'skill' AND p->>'skill_name' = wanted);
BEGIN
	IF skill IS NULL THEN
		PERFORM coder.raise(400, format('There is no skill "%s".', left(wanted, 100)));
	END IF;
	RETURN skill;
END
$$;

-- A path below a folder; ZC400 where it would leave it.
CREATE OR REPLACE FUNCTION coder.chat_path_within(dir text, path text)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF coalesce(path, '') = '' OR path LIKE '/%' OR path ~ '(^|/)\.\.(/|$)' OR path ~ '[\u0001-\u001F\\]' OR length(path) > 1024 THEN
		PERFORM coder.raise(400, 'path is the path of a file below the folder of the skill.');
	END IF;
	RETURN rtrim(dir, '/') || '/' || path;
END
$$;

-- What to fetch from the agent for a piece of work, beside the way to it (coder.chat_agent_ticket): "requests", [{method, path}]
-- behind /api/v0, each answered within 5 s (files of skills and plans: 30 s).  {"error"} where it cannot be done.
CREATE OR REPLACE FUNCTION coder.chat_agent_work(worker uuid, chat uuid, work text, args jsonb)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	way CONSTANT jsonb := coder.chat_agent_ticket(worker, chat);
	read CONSTANT text := '/read-file?limit=%s&path=%s';
	c coder.chats;
	skill jsonb;
	requests jsonb;
BEGIN
	IF way IS NULL OR way ? 'error' THEN
		RETURN way;
	END IF;
	SELECT x.* INTO c FROM coder.chats x WHERE x.id = chat;
	IF work IN ('read_skill', 'read_skill_file') THEN
		skill := coder.chat_skill(c, args->>'name');
	END IF;
	requests := CASE work
		WHEN 'context' THEN '[{"method": "GET", "path": "/context-config"}, {"method": "POST", "path": "/list-directory", "body": {"path": [], "relativity": "home"}}]'
		WHEN 'read_skill' THEN jsonb_build_array(
			jsonb_build_object('method', 'GET', 'path', format(read, 65537, coder.url_encode(rtrim(skill->>'skill_dir', '/') || '/' || (skill->>'context_file_skill_meta_file')))),
			jsonb_build_object('method', 'POST', 'path', '/list-directory?path=' || coder.url_encode(skill->>'skill_dir'), 'body', '{}'::jsonb))
		WHEN 'read_skill_file' THEN jsonb_build_array(
			jsonb_build_object('method', 'GET', 'path', format(read, 524289, coder.url_encode(coder.chat_path_within(skill->>'skill_dir', args->>'path')))))
		WHEN 'propose_plan' THEN jsonb_build_array(
			jsonb_build_object('method', 'GET', 'path', format(read, 32769, coder.url_encode(coalesce(args->>'path', ''))))) END;
	RETURN way || jsonb_build_object('requests', requests, 'limit_ms', CASE work WHEN 'context' THEN 5000 ELSE 30000 END);
EXCEPTION WHEN SQLSTATE 'ZC400' THEN
	RETURN jsonb_build_object('error', sqlerrm);
END
$$;

-- The files and skills that an agent has told of: stored, unless they are what is stored already.
CREATE OR REPLACE FUNCTION coder.chat_context_came(c coder.chats, config jsonb, home jsonb)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	parts CONSTANT jsonb := coder.chat_context_parts(config->'parts', c.agent_id);
	path CONSTANT text := home->>'absolute_path_string';
BEGIN
	UPDATE coder.chats x SET context_agent_id = c.agent_id,
		workspace_home = CASE WHEN path LIKE '/%' AND length(path) <= 1024 AND path !~ '[\u0001-\u001F]' THEN path ELSE x.workspace_home END
	 WHERE x.id = c.id;
	IF parts <> '[]' THEN
		PERFORM coder.chat_context_add(c.id, parts);
	ELSE
		UPDATE coder.chats x SET last_injected_context = NULL WHERE x.id = c.id AND x.last_injected_context IS NOT NULL;
		-- Those of another agent hold no longer.
		UPDATE coder.chat_messages m SET deleted = true WHERE m.chat_id = c.id AND m.role = 'user' AND NOT m.deleted
			AND coder.chat_is_context(m.content) AND m.content->0->>'context_file_agent_id' IS DISTINCT FROM c.agent_id::text;
	END IF;
	RETURN jsonb_build_object('skills', parts @? '$[*] ? (@.type == "skill")');
END
$$;

-- A plan, kept as a file of the chat so that it can be read when the workspace is gone.
CREATE OR REPLACE FUNCTION coder.chat_plan_came(c coder.chats, path text, plan text)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	file uuid;
BEGIN
	IF octet_length(plan) > 32768 THEN
		PERFORM coder.raise(400, 'The plan is too long: at most 32768 bytes.');
	ELSIF trim(E' \t\r\n' FROM plan) = '' THEN
		PERFORM coder.raise(400, 'The plan is empty.');
	END IF;
	INSERT INTO coder.chat_files (owner_id, organization_id, name, mimetype, data)
	VALUES (c.owner_id, c.organization_id, coder.cut_bytes(regexp_replace(path, '^.*/', ''), 255), 'text/markdown', convert_to(plan, 'UTF8'))
	RETURNING id INTO file;
	IF cardinality(coder.chat_link_files(c.id, jsonb_build_array(jsonb_build_object('file_id', file)))) > 0 THEN
		PERFORM coder.raise(400, 'This chat has as many files as a chat can have.');
	END IF;
	RETURN jsonb_build_object('ok', true, 'path', path, 'kind', 'plan', 'file_id', file, 'media_type', 'text/markdown');
END
$$;

-- What came of coder.chat_agent_work: answers, [{status, text}] in the order of the requests.  {"result", "is_error"}; NULL: the chat
-- is another worker's.
CREATE OR REPLACE FUNCTION coder.chat_agent_done(worker uuid, chat uuid, work text, args jsonb, answers jsonb)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c coder.chats;
	came CONSTANT text := answers->0->>'text';
BEGIN
	SELECT x.* INTO c FROM coder.chats x WHERE x.id = chat FOR UPDATE;
	IF NOT FOUND OR c.status <> 'running' OR c.worker_id IS DISTINCT FROM worker THEN
		RETURN NULL;
	ELSIF (answers->0->>'status')::int4 <> 200 THEN
		RETURN coder.chat_tool_result(jsonb_build_object('error', coalesce(coder.chat_clean_context(coder.try_json(came)->>'message', 1024),
			'The workspace cannot be reached.')), true);
	END IF;
	RETURN coder.chat_tool_result(CASE work
		WHEN 'context' THEN coder.chat_context_came(c, coder.try_json(came), coder.try_json(answers->1->>'text'))
		WHEN 'read_skill' THEN jsonb_build_object('name', args->>'name', 'body', coder.chat_skill_body(came),
			'files', coalesce((SELECT jsonb_agg(coder.chat_clean_context(f->>'name', 255) || CASE WHEN f->>'is_dir' = 'true' THEN '/' ELSE '' END)
				FROM jsonb_array_elements(coder.try_json(answers->1->>'text')->'contents') WITH ORDINALITY l (f, n)
				WHERE l.n <= 1000 AND f->>'name' <> coder.chat_skill(c, args->>'name')->>'context_file_skill_meta_file'), '[]'))
		WHEN 'read_skill_file' THEN jsonb_build_object('content', coder.chat_clean_context(came, 524288))
		WHEN 'propose_plan' THEN coder.chat_plan_came(c, args->>'path', came) END);
EXCEPTION WHEN OTHERS THEN
	IF SQLSTATE NOT LIKE 'ZC%' AND SQLSTATE NOT LIKE '22%' THEN
		RAISE;
	END IF;
	RETURN coder.chat_tool_result(jsonb_build_object('error', sqlerrm), true);
END
$$;

-- The chat that an agent's request is about, locked: the one it names, else the only active one that works with it.  NULL: there
-- is none that is active, and none was named.  ZC404, ZC403, ZC409.
CREATE OR REPLACE FUNCTION coder.chat_context_chat(a coder.agent_context, named text)
RETURNS coder.chats LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c coder.chats;
	ids uuid[];
BEGIN
	IF coalesce(named, '') <> '' THEN
		SELECT x.* INTO c FROM coder.chats x WHERE x.id = coder.try_uuid(named) FOR UPDATE;
		IF c.id IS NULL THEN
			PERFORM coder.raise(404, 'Chat not found.');
		ELSIF NOT coalesce(c.agent_id = (a.agent).id, c.workspace_id = (a.workspace).id, false) THEN
			PERFORM coder.raise(403, 'Chat does not belong to this agent.');
		ELSIF c.archived OR c.status NOT IN ('waiting', 'pending', 'running', 'paused', 'requires_action') THEN
			PERFORM coder.raise(409, 'Cannot modify context: this chat is no longer active.');
		END IF;
		RETURN c;
	END IF;
	ids := ARRAY(SELECT x.id FROM coder.chats x WHERE (x.agent_id = (a.agent).id OR x.agent_id IS NULL AND x.workspace_id = (a.workspace).id)
		AND x.parent_chat_id IS NULL AND NOT x.archived AND x.status IN ('waiting', 'pending', 'running', 'paused', 'requires_action') LIMIT 2);
	IF cardinality(ids) > 1 THEN
		PERFORM coder.raise(409, 'Several chats are active for this agent: name one with chat_id.');
	END IF;
	SELECT x.* INTO c FROM coder.chats x WHERE x.id = ids[1] FOR UPDATE;
	RETURN c;
END
$$;

-- POST /workspaceagents/me/experimental/chat-context: more files and skills for a chat, from within its workspace.
CREATE OR REPLACE FUNCTION coder.agent_chat_context_add(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	a CONSTANT coder.agent_context := coder.agent_self();
	body CONSTANT jsonb := coder.body(req);
	n int4;
	parts jsonb;
	c coder.chats;
BEGIN
	PERFORM coder.chat_gate();
	PERFORM coder.body_type(body, 'parts', 'array'), coder.body_type(body, 'chat_id', 'string');
	n := jsonb_array_length(coalesce(nullif(body->'parts', 'null'), '[]'));
	IF n = 0 THEN
		PERFORM coder.raise(400, 'No context parts provided.');
	ELSIF n > 100 THEN
		PERFORM coder.raise(400, format('Too many context parts (%s). Maximum is 100.', n));
	END IF;
	parts := coder.chat_context_parts(body->'parts', (a.agent).id);
	IF parts = '[]' THEN
		PERFORM coder.raise(400, 'No context-file or skill parts provided.');
	END IF;
	c := coder.chat_context_chat(a, body->>'chat_id');
	IF c.id IS NULL THEN
		PERFORM coder.raise(404, 'No active chats found for this agent.');
	END IF;
	PERFORM coder.chat_context_add(c.id, parts);
	RETURN coder.reply(200, jsonb_build_object('chat_id', c.id, 'count', jsonb_array_length(parts)));
END
$$;

-- DELETE the same: the chat forgets its files and skills; those of the workspace itself are read anew when it goes on.
CREATE OR REPLACE FUNCTION coder.agent_chat_context_clear(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	a CONSTANT coder.agent_context := coder.agent_self();
	body CONSTANT jsonb := coalesce(nullif(req.body, 'null'), '{}');
	c coder.chats;
	n int4;
BEGIN
	PERFORM coder.chat_gate();
	PERFORM coder.body_type(body, 'chat_id', 'string');
	c := coder.chat_context_chat(a, body->>'chat_id');
	n := jsonb_array_length(coder.chat_context(c));
	IF n > 0 THEN
		UPDATE coder.chat_messages m SET deleted = true WHERE m.chat_id = c.id AND m.role = 'user' AND NOT m.deleted AND coder.chat_is_context(m.content);
		UPDATE coder.chat_messages m SET provider_response_id = NULL WHERE m.chat_id = c.id AND m.provider_response_id IS NOT NULL;
		UPDATE coder.chats x SET last_injected_context = NULL, context_agent_id = NULL, history_epoch = x.history_epoch + 1 WHERE x.id = c.id;
		PERFORM coder.chat_tell_stream(c.id);
	END IF;
	RETURN coder.reply(200, jsonb_build_object('chat_id', coalesce(c.id, '00000000-0000-0000-0000-000000000000'), 'count', coalesce(n, 0)));
END
$$;

DELETE FROM coder.routes WHERE area = 'chatcontext';
INSERT INTO coder.routes (area, method, pattern, function, auth, max_body) VALUES
	('chatcontext', 'POST', '/api/v2/workspaceagents/me/experimental/chat-context', 'agent_chat_context_add', 'agent', 10485760),
	('chatcontext', 'DELETE', '/api/v2/workspaceagents/me/experimental/chat-context', 'agent_chat_context_clear', 'agent', 65536);
