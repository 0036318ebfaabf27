-- sql/api/chat.sql -- chats: create, list, change; their messages, queue and streams; what they cost
--
-- Tables: sql/schema/chat.sql.  What a runner of turns calls: sql/api/chatrun.sql.  Events: "chat:owner:<user>" carries
-- the frames of /watch; "chat:stream:<chat>" wakes the streams of a chat, and tells its runner of a new status;
-- "chat:pending" wakes runners.

-- A part as clients see it: without what only a model is to see, with the members that are always there.
CREATE OR REPLACE FUNCTION coder.chat_part_json(part jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN '{"text": "", "mcp_server_config_id": null, "url": "", "media_type": "", "file_id": null, "file_name": "", "start_line": 0,
			"end_line": 0, "content": "", "context_file_path": "", "context_file_agent_id": null, "skill_name": ""}'::jsonb
		- CASE WHEN part->>'type' IN ('text', 'reasoning', 'file', 'file-reference', 'source', 'context-file', 'skill') THEN '' ELSE 'text' END
		|| (part - ARRAY['provider_metadata', 'context_file_content', 'context_file_os', 'context_file_directory', 'skill_dir',
			'context_file_skill_meta_file', CASE WHEN part->>'file_id' IS NOT NULL THEN 'data' ELSE '' END]);
END
$$;

CREATE OR REPLACE FUNCTION coder.chat_parts_json(content jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT jsonb_agg(coder.chat_part_json(p) ORDER BY n) FROM jsonb_array_elements(content) WITH ORDINALITY e (p, n));
END
$$;
COMMENT ON FUNCTION coder.chat_parts_json(jsonb) IS 'The parts of a message as clients see them; NULL where there are none.';

-- ChatMessage
CREATE OR REPLACE FUNCTION coder.chat_message_json(m coder.chat_messages)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	usage CONSTANT jsonb := jsonb_strip_nulls(jsonb_build_object('input_tokens', m.input_tokens, 'output_tokens', m.output_tokens,
		'total_tokens', m.total_tokens, 'reasoning_tokens', m.reasoning_tokens, 'cache_creation_tokens', m.cache_creation_tokens,
		'cache_read_tokens', m.cache_read_tokens, 'context_limit', m.context_limit));
BEGIN
	RETURN jsonb_strip_nulls(jsonb_build_object('id', m.id, 'chat_id', m.chat_id, 'created_by', m.created_by, 'model_config_id', m.model_config_id,
			'created_at', coder.ts(m.created_at), 'role', m.role))
		|| CASE WHEN jsonb_array_length(coalesce(m.content, '[]')) > 0 THEN jsonb_build_object('content', coder.chat_parts_json(m.content)) ELSE '{}' END
		|| CASE WHEN usage <> '{}' THEN jsonb_build_object('usage', usage) ELSE '{}' END;
END
$$;

-- ChatQueuedMessage
CREATE OR REPLACE FUNCTION coder.chat_queued_json(q coder.chat_queued_messages)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('id', q.id, 'chat_id', q.chat_id, 'content', coder.chat_parts_json(q.content), 'created_at', coder.ts(q.created_at));
END
$$;

-- The event of a stream that brings a message.
CREATE OR REPLACE FUNCTION coder.chat_message_event(m coder.chat_messages)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('type', 'message', 'chat_id', m.chat_id, 'message', coder.chat_message_json(m));
END
$$;

-- The queue of a chat: ChatQueuedMessage[]
CREATE OR REPLACE FUNCTION coder.chat_queue_json(chat uuid)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce((SELECT jsonb_agg(coder.chat_queued_json(q) ORDER BY q.id) FROM coder.chat_queued_messages q WHERE q.chat_id = chat), '[]');
END
$$;

-- ChatDiffStatus; of a chat without a row, its id and nothing.
CREATE OR REPLACE FUNCTION coder.chat_diff_status_json(chat uuid, d coder.chat_diff_statuses)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	repository CONSTANT text := substring(d.git_remote_origin FROM '^(?:https://|git@|ssh://git@)(github\.com[:/][^/]+/[^/]+?)(?:\.git)?/?$');
BEGIN
	RETURN jsonb_strip_nulls(jsonb_build_object('chat_id', chat,
		'url', coalesce(nullif(d.url, ''), CASE WHEN repository IS NOT NULL AND d.git_branch <> ''
			THEN format('https://%s/tree/%s', replace(repository, ':', '/'), d.git_branch) END),
		'pull_request_state', d.pull_request_state, 'pull_request_title', coalesce(d.pull_request_title, ''),
		'pull_request_draft', coalesce(d.pull_request_draft, false), 'changes_requested', coalesce(d.changes_requested, false),
		'additions', coalesce(d.additions, 0), 'deletions', coalesce(d.deletions, 0), 'changed_files', coalesce(d.changed_files, 0),
		'author_login', d.author_login, 'author_avatar_url', d.author_avatar_url, 'base_branch', d.base_branch, 'head_branch', d.head_branch,
		'pr_number', d.pr_number, 'commits', d.commits, 'approved', d.approved, 'reviewer_count', d.reviewer_count,
		'refreshed_at', coder.ts(d.refreshed_at), 'stale_at', coder.ts(d.stale_at)));
END
$$;

-- Chat, without files and diff status
CREATE OR REPLACE FUNCTION coder.chat_json(c coder.chats, unread bool DEFAULT false)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_strip_nulls(jsonb_build_object('id', c.id, 'organization_id', c.organization_id, 'owner_id', c.owner_id,
			'workspace_id', c.workspace_id, 'build_id', c.build_id, 'agent_id', c.agent_id, 'parent_chat_id', c.parent_chat_id,
			'root_chat_id', coalesce(c.root_chat_id, c.parent_chat_id, c.id), 'last_model_config_id', c.last_model_config_id,
			'created_at', coder.ts(c.created_at), 'updated_at', coder.ts(c.updated_at)))
		|| jsonb_build_object('title', c.title, 'status', c.status, 'last_error', c.last_error, 'archived', c.archived, 'pin_order', c.pin_order,
			'mcp_server_ids', to_jsonb(c.mcp_server_ids), 'labels', c.labels, 'has_unread', unread)
		|| CASE WHEN c.last_injected_context IS NOT NULL
			THEN jsonb_build_object('last_injected_context', coder.chat_parts_json(c.last_injected_context)) ELSE '{}' END;
END
$$;

-- Chat, with its files, and its diff status where there is one
CREATE OR REPLACE FUNCTION coder.chat_full_json(c coder.chats)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	files CONSTANT jsonb := (SELECT jsonb_agg(jsonb_build_object('id', f.id, 'owner_id', f.owner_id, 'organization_id', f.organization_id,
			'name', f.name, 'mime_type', f.mimetype, 'created_at', coder.ts(f.created_at)) ORDER BY f.created_at, f.id)
		FROM coder.chat_file_links l JOIN coder.chat_files f ON f.id = l.file_id WHERE l.chat_id = c.id);
	d coder.chat_diff_statuses;
BEGIN
	SELECT x.* INTO d FROM coder.chat_diff_statuses x WHERE x.chat_id = c.id;
	RETURN coder.chat_json(c) || CASE WHEN files IS NULL THEN '{}' ELSE jsonb_build_object('files', files) END
		|| CASE WHEN d.chat_id IS NULL THEN '{}' ELSE jsonb_build_object('diff_status', coder.chat_diff_status_json(c.id, d)) END;
END
$$;

-- Tells the owner's lists: ChatWatchEvent.
CREATE OR REPLACE FUNCTION coder.chat_tell_owner(c coder.chats, kind text, more jsonb DEFAULT '{}')
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.emit('chat:owner:' || c.owner_id, coder.compact(jsonb_build_object('kind', kind, 'chat', coder.chat_json(c)) || more));
END
$$;

-- Tells those who follow a chat that there is something new; its runner, where news is a status, that it has this one now.
CREATE OR REPLACE FUNCTION coder.chat_tell_stream(chat uuid, news text DEFAULT '')
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.emit('chat:stream:' || chat, news);
END
$$;

-- A chat's new status, told to all.  SQLSTATE 55000 where it cannot follow (trigger chat_transition).
CREATE OR REPLACE FUNCTION coder.chat_set_status(chat uuid, new_status coder.chat_status, error text DEFAULT NULL)
RETURNS coder.chats LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c coder.chats;
BEGIN
	UPDATE coder.chats x SET status = new_status, last_error = error, updated_at = clock_timestamp() WHERE x.id = chat RETURNING x.* INTO c;
	PERFORM coder.chat_tell_owner(c, 'status_change');
	PERFORM coder.chat_tell_stream(chat, new_status::text);
	IF new_status = 'pending' THEN
		PERFORM coder.emit('chat:pending');
	END IF;
	RETURN c;
END
$$;

-- {chat}, which the caller may act on so; ZC400, ZC404, ZC403.
CREATE OR REPLACE FUNCTION coder.param_chat(req coder.request, action text DEFAULT 'read')
RETURNS coder.chats LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wanted uuid;
	c coder.chats;
BEGIN
	PERFORM coder.chat_gate();
	wanted := coder.param_uuid(req, 'chat');
	SELECT x.* INTO c FROM coder.chats x WHERE x.id = wanted;
	IF c.id IS NULL OR NOT coder.can('read', 'chat', c.organization_id, c.owner_id, id => c.id) THEN
		PERFORM coder.raise_not_found();
	ELSIF action = 'create' THEN
		PERFORM coder.require('create', 'chat', c.organization_id, coder.subject_id());
	ELSIF action <> 'read' THEN
		PERFORM coder.require(action, 'chat', c.organization_id, c.owner_id, id => c.id);
	END IF;
	RETURN c;
END
$$;

-- The same, locked: what follows decides by its status.
CREATE OR REPLACE FUNCTION coder.param_chat_locked(req coder.request, action text)
RETURNS coder.chats LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c coder.chats := coder.param_chat(req, action);
BEGIN
	SELECT x.* INTO c FROM coder.chats x WHERE x.id = c.id FOR UPDATE;
	IF NOT FOUND THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN c;
END
$$;

-- ZC400 for part n of a request.
CREATE OR REPLACE FUNCTION coder.raise_input_part(n bigint, why text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.raise(400, 'Invalid input part.', format('content[%s].%s', n - 1, why));
END
$$;

-- One part of a request, ChatInputPart, as it is stored.  Errors: ZC400.
CREATE OR REPLACE FUNCTION coder.chat_input_part(part jsonb, n bigint)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	type CONSTANT text := lower(trim(coalesce(part->>'type', '')));
	file uuid;
	f record;
BEGIN
	IF type = 'text' THEN
		IF trim(E' \t\r\n' FROM coalesce(part->>'text', '')) = '' THEN
			PERFORM coder.raise_input_part(n, 'text cannot be empty.');
		END IF;
		RETURN coder.chat_part_json(jsonb_build_object('type', 'text', 'text', trim(E' \t\r\n' FROM part->>'text')));
	ELSIF type = 'file' THEN
		file := coder.try_uuid(part->>'file_id');
		IF file IS NULL OR file = '00000000-0000-0000-0000-000000000000' THEN
			PERFORM coder.raise_input_part(n, 'file_id is required for file parts.');
		END IF;
		SELECT x.name, x.mimetype, x.owner_id, x.organization_id INTO f FROM coder.chat_files x WHERE x.id = file;
		IF NOT FOUND OR NOT coder.can('read', 'chat', f.organization_id, f.owner_id, id => file) THEN
			PERFORM coder.raise_input_part(n, 'file_id references a file that does not exist.');
		END IF;
		RETURN coder.chat_part_json(jsonb_build_object('type', 'file', 'file_id', file, 'media_type', f.mimetype, 'file_name', f.name));
	ELSIF type = 'file-reference' THEN
		IF trim(coalesce(part->>'file_name', '')) = '' THEN
			PERFORM coder.raise_input_part(n, 'file_name cannot be empty for file-reference.');
		END IF;
		PERFORM coder.body_type(part, 'start_line', 'number'), coder.body_type(part, 'end_line', 'number'), coder.body_type(part, 'content', 'string');
		RETURN coder.chat_part_json(jsonb_build_object('type', 'file-reference', 'file_name', part->>'file_name',
			'start_line', coalesce(part->'start_line', '0'), 'end_line', coalesce(part->'end_line', '0'), 'content', coalesce(part->>'content', '')));
	END IF;
	PERFORM coder.raise_input_part(n, format('type "%s" is not supported.', coalesce(part->>'type', '')));
END
$$;

-- The content of a request as it is stored; ZC400 where it is none.
CREATE OR REPLACE FUNCTION coder.chat_input(body jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.body_type(body, 'content', 'array');
	IF coalesce(jsonb_typeof(body->'content'), 'null') = 'null' OR body->'content' = '[]' THEN
		PERFORM coder.raise(400, 'Content is required.', 'Content cannot be empty.');
	END IF;
	RETURN (SELECT jsonb_agg(coder.chat_input_part(p, n) ORDER BY n) FROM jsonb_array_elements(body->'content') WITH ORDINALITY e (p, n));
END
$$;

-- The title of a chat until a model has given it a better one: its first six words.
CREATE OR REPLACE FUNCTION coder.chat_first_title(content jsonb)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	words text[];
	title text;
BEGIN
	SELECT regexp_split_to_array(trim(string_agg(CASE p->>'type' WHEN 'text' THEN p->>'text' WHEN 'file-reference' THEN
			format('[file-reference] %s:%s%s %s', p->>'file_name', p->>'start_line',
				CASE WHEN (p->>'end_line')::numeric > (p->>'start_line')::numeric THEN '-' || (p->>'end_line') ELSE '' END, p->>'content') END,
			' ' ORDER BY n)), '\s+') INTO words
	  FROM jsonb_array_elements(content) WITH ORDINALITY e (p, n);
	title := left(array_to_string(words[:6], ' '), 80);
	IF coalesce(title, '') = '' THEN
		RETURN 'New Chat';
	END IF;
	RETURN CASE WHEN cardinality(words) > 6 THEN left(title, 79) || '…' ELSE title END;
END
$$;

-- ZC400 unless labels are at most 50 keys and values of the allowed letters.
CREATE OR REPLACE FUNCTION coder.chat_check_labels(labels jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	why text;
BEGIN
	IF coalesce(jsonb_typeof(labels), 'null') = 'null' THEN
		RETURN;
	ELSIF jsonb_typeof(labels) <> 'object' OR EXISTS (SELECT FROM jsonb_each(labels) l WHERE jsonb_typeof(l.value) <> 'string') THEN
		PERFORM coder.raise(400, 'Request body must be valid JSON.', 'labels must be an object of strings');
	END IF;
	SELECT string_agg(w.why, '; ') INTO why FROM (
		SELECT CASE
			WHEN octet_length(l.key) NOT BETWEEN 1 AND 64 THEN format('label key "%s" must be 1-64 bytes', l.key)
			WHEN l.key !~ '^[a-zA-Z0-9][a-zA-Z0-9._/-]*$'
				THEN format('label key "%s" contains invalid characters; must match ^[a-zA-Z0-9][a-zA-Z0-9._/-]*$', l.key)
			WHEN octet_length(l.value) NOT BETWEEN 1 AND 256 THEN format('label value of "%s" must be 1-256 bytes', l.key) END AS why
		  FROM jsonb_each_text(labels) l
		UNION ALL SELECT 'too many labels; at most 50' WHERE (SELECT count(*) FROM jsonb_object_keys(labels)) > 50) w;
	IF why IS NOT NULL THEN
		PERFORM coder.raise(400, 'Invalid labels.', NULL, jsonb_build_array(coder.validation('labels', why)));
	END IF;
END
$$;

-- The ids of MCP servers in a request; ZC400 where one is unknown.  NULL where the member is absent.
CREATE OR REPLACE FUNCTION coder.chat_input_servers(body jsonb)
RETURNS uuid[] LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ids uuid[];
	unknown text;
BEGIN
	PERFORM coder.body_type(body, 'mcp_server_ids', 'array');
	IF coalesce(jsonb_typeof(body->'mcp_server_ids'), 'null') = 'null' THEN
		RETURN NULL;
	END IF;
	SELECT array_agg(DISTINCT coder.try_uuid(v)), string_agg(v, ', ') FILTER (WHERE NOT EXISTS (
			SELECT FROM coder.mcp_server_configs m WHERE m.id = coder.try_uuid(v)))
	  INTO ids, unknown FROM jsonb_array_elements_text(body->'mcp_server_ids') v;
	IF unknown IS NOT NULL THEN
		PERFORM coder.raise(400, 'One or more MCP server IDs are invalid.', format('Invalid IDs: %s', unknown));
	END IF;
	RETURN coalesce(ids, '{}');
END
$$;

-- ZC400 unless the client's own tools are at most 250, each with a name of its own.
CREATE OR REPLACE FUNCTION coder.chat_check_tools(tools jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF coalesce(jsonb_typeof(tools), 'null') = 'null' THEN
		RETURN;
	ELSIF jsonb_typeof(tools) <> 'array' THEN
		PERFORM coder.raise(400, 'Request body must be valid JSON.', 'unsafe_dynamic_tools must be an array');
	ELSIF jsonb_array_length(tools) > 250 THEN
		PERFORM coder.raise(400, 'Too many dynamic tools.', 'At most 250 dynamic tools are allowed.');
	ELSIF EXISTS (SELECT FROM jsonb_array_elements(tools) t WHERE trim(coalesce(t->>'name', '')) = '') THEN
		PERFORM coder.raise(400, 'Dynamic tool name must not be empty.');
	ELSIF (SELECT count(*) <> count(DISTINCT t->>'name') FROM jsonb_array_elements(tools) t) THEN
		PERFORM coder.raise(400, 'Duplicate dynamic tool name.');
	END IF;
END
$$;

-- The model that a request names, or the default; ZC400 where there is none.
CREATE OR REPLACE FUNCTION coder.chat_input_model(body jsonb)
RETURNS uuid LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	model uuid;
BEGIN
	IF body->>'model_config_id' IS NOT NULL THEN
		model := coder.try_uuid(body->>'model_config_id');
		IF model IS NULL OR model = '00000000-0000-0000-0000-000000000000' THEN
			PERFORM coder.raise(400, 'Invalid model config ID.');
		END IF;
		RETURN model;
	END IF;
	SELECT m.id INTO model FROM coder.chat_model_configs m WHERE m.is_default AND NOT m.deleted;
	IF model IS NULL THEN
		PERFORM coder.raise(400, 'No default chat model config is configured.');
	END IF;
	RETURN model;
END
$$;

-- What a chat is told before the user speaks: the deployment's prompt, the chat's own, and whether it has a workspace.
CREATE OR REPLACE FUNCTION coder.chat_system_messages(own text, workspace uuid)
RETURNS text[] LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN array_remove(ARRAY[
		nullif(concat_ws(E'\n\n', CASE WHEN coder.chat_default_prompt_on() THEN coder.chat_default_prompt() END,
			nullif(coder.site_config('agents_chat_system_prompt', ''), '')), ''),
		nullif(coder.chat_clean_prompt(own), ''),
		CASE WHEN workspace IS NULL
			THEN 'No workspace belongs to this chat yet. Tools that read or change files or run commands need one: choose a template and create a workspace when the task calls for it, not before.'
			ELSE 'A workspace belongs to this chat. Its files and commands are where the work is done.' END], NULL);
END
$$;

-- Links the files of a content to a chat, at most 20; what could not be done, as warnings.
CREATE OR REPLACE FUNCTION coder.chat_link_files(chat uuid, content jsonb)
RETURNS text[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ids CONSTANT uuid[] := ARRAY(SELECT DISTINCT (p->>'file_id')::uuid FROM jsonb_array_elements(content) p WHERE p->>'file_id' IS NOT NULL);
BEGIN
	IF cardinality(ids) = 0 THEN
		RETURN '{}';
	ELSIF (SELECT count(*) FROM (SELECT l.file_id FROM coder.chat_file_links l WHERE l.chat_id = chat UNION SELECT unnest(ids)) x) > 20 THEN
		RETURN ARRAY[format('file linking skipped: batch of %s file(s) would exceed limit of 20', cardinality(ids))];
	END IF;
	INSERT INTO coder.chat_file_links (chat_id, file_id) SELECT chat, unnest(ids) ON CONFLICT DO NOTHING;
	RETURN '{}';
END
$$;

-- A user's message, which becomes the last word of the chat and sets its model.
CREATE OR REPLACE FUNCTION coder.chat_add_user_message(chat uuid, message_content jsonb, model uuid, author uuid)
RETURNS coder.chat_messages LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	m coder.chat_messages;
BEGIN
	INSERT INTO coder.chat_messages (chat_id, role, content, model_config_id, created_by)
	VALUES (chat, 'user', message_content, model, author) RETURNING * INTO m;
	UPDATE coder.chats c SET last_model_config_id = model WHERE c.id = chat AND c.last_model_config_id <> model;
	RETURN m;
END
$$;

-- POST /chats: checked in the order of the API.
CREATE OR REPLACE FUNCTION coder.chat_create(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	me CONSTANT uuid := coder.subject_id();
	body jsonb;
	org uuid;
	content jsonb;
	workspace coder.workspaces;
	model uuid;
	servers uuid[];
	over coder.response;
	c coder.chats;
	warnings text[];
BEGIN
	PERFORM coder.chat_gate();
	PERFORM coder.require('create', 'chat', NULL, me);
	body := coder.body(req);
	org := coder.try_uuid(body->>'organization_id');
	IF org IS NULL AND coalesce(body->>'organization_id', '') <> '' THEN
		PERFORM coder.raise(400, 'Request body must be valid JSON.', 'organization_id is no UUID');
	ELSIF org IS NULL OR org = '00000000-0000-0000-0000-000000000000' THEN
		PERFORM coder.raise(400, 'organization_id is required.');
	ELSIF NOT coder.has_organization_membership(org) THEN
		PERFORM coder.raise(403, 'You are not a member of the specified organization.');
	ELSIF octet_length(body->>'system_prompt') > 10000 THEN
		PERFORM coder.raise(400, 'System prompt exceeds maximum length.',
			format('System prompt must be at most 10000 characters, got %s.', octet_length(body->>'system_prompt')));
	END IF;
	content := coder.chat_input(body);
	IF body->>'workspace_id' IS NOT NULL THEN
		SELECT w.* INTO workspace FROM coder.workspaces w WHERE w.id = coder.try_uuid(body->>'workspace_id') AND NOT w.deleted;
		IF workspace.id IS NULL OR NOT coder.workspace_can('ssh', workspace) THEN
			PERFORM coder.raise(400, 'Workspace not found or you do not have access to this resource');
		ELSIF workspace.organization_id <> org THEN
			PERFORM coder.raise(400, 'Workspace does not belong to the specified organization.');
		END IF;
	END IF;
	model := coder.chat_input_model(body);
	servers := coder.chat_input_servers(body);
	PERFORM coder.chat_check_labels(body->'labels');
	PERFORM coder.chat_check_tools(body->'unsafe_dynamic_tools');
	over := coder.chat_over_limit(me, org);
	IF over.status IS NOT NULL THEN
		RETURN over;
	END IF;
	PERFORM coder.require('create', 'chat', org, me);
	INSERT INTO coder.chats (owner_id, organization_id, workspace_id, title, status, last_model_config_id, mcp_server_ids, labels, dynamic_tools)
	VALUES (me, org, workspace.id, coder.chat_first_title(content), 'pending', model, coalesce(servers, '{}'),
		coalesce(nullif(body->'labels', 'null'), '{}'), nullif(body->'unsafe_dynamic_tools', 'null'))
	RETURNING * INTO c;
	INSERT INTO coder.chat_messages (chat_id, role, content, visibility, model_config_id, created_by)
	SELECT c.id, 'system'::coder.chat_message_role, jsonb_build_array(jsonb_build_object('type', 'text', 'text', s.t)), 'model'::coder.chat_message_visibility, model, NULL
	  FROM unnest(coder.chat_system_messages(body->>'system_prompt', workspace.id)) WITH ORDINALITY s (t, n)
	UNION ALL SELECT c.id, 'user', content, 'both', model, me;
	warnings := coder.chat_link_files(c.id, content);
	PERFORM coder.chat_tell_owner(c, 'created');
	PERFORM coder.emit('chat:pending');
	RETURN coder.reply(201, CASE WHEN content @? '$[*].file_id ? (@ != null)' THEN coder.chat_full_json(c) ELSE coder.chat_json(c) END
		|| CASE WHEN cardinality(warnings) > 0 THEN jsonb_build_object('warnings', to_jsonb(warnings)) ELSE '{}' END);
EXCEPTION WHEN foreign_key_violation THEN
	PERFORM coder.raise(400, 'Invalid model config ID.', sqlerrm);
END
$$;

-- GET /chats: the caller's own, pinned ones first.
CREATE OR REPLACE FUNCTION coder.chats_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	q CONSTANT text := lower(trim(coalesce(req.query->>'q', '')));
	n int4;
	from_row int4;
	after uuid;
	wanted jsonb := '{}';
	pair text;
	archived_ones bool := false;
BEGIN
	PERFORM coder.chat_gate();
	n := coalesce(nullif(coder.query_int(req, 'limit', 50), 0), 50);
	from_row := coder.query_int(req, 'offset', 0);
	after := coder.query_uuid(req, 'after_id');
	IF q <> '' THEN
		IF q !~ '^archived:("?)(true|false)\1$' THEN
			PERFORM coder.raise(400, 'Invalid chat search query.', NULL,
				jsonb_build_array(coder.validation('q', format('unsupported search term: %s', to_jsonb(q)))));
		END IF;
		archived_ones := q LIKE '%true%';
	END IF;
	FOR pair IN SELECT jsonb_array_elements_text(coalesce(req.query->'label[]', jsonb_build_array(req.query->'label'))) WHERE req.query ? 'label' LOOP
		IF pair !~ '^[^:]+:.+$' THEN
			PERFORM coder.raise(400, format('Invalid label filter: "%s" (expected format key:value, both must be non-empty)', pair));
		END IF;
		wanted := wanted || jsonb_build_object(split_part(pair, ':', 1), substr(pair, strpos(pair, ':') + 1));
	END LOOP;
	RETURN coder.reply(200, coalesce((SELECT jsonb_agg(coder.chat_json(x.c, EXISTS (SELECT FROM coder.chat_messages m
				WHERE m.chat_id = (x.c).id AND m.role = 'assistant' AND NOT m.deleted AND m.id > coalesce((x.c).last_read_message_id, 0)))
			|| jsonb_build_object('diff_status', coder.chat_diff_status_json((x.c).id, x.d)) ORDER BY x.n)
		FROM (SELECT c, d, row_number() OVER (ORDER BY c.pin_order = 0, c.pin_order, c.updated_at DESC, c.id DESC) AS n
			FROM coder.chats c LEFT JOIN coder.chat_diff_statuses d ON d.chat_id = c.id
			WHERE c.owner_id = coder.subject_id() AND c.archived = archived_ones AND c.labels @> wanted
			  AND coder.can('read', 'chat', c.organization_id, c.owner_id, id => c.id)
			  AND (after IS NULL OR EXISTS (SELECT FROM coder.chats a WHERE a.id = after AND a.owner_id = coder.subject_id()
				AND (a.pin_order = 0, a.pin_order, c.updated_at, c.id) < (c.pin_order = 0, c.pin_order, a.updated_at, a.id)))
			ORDER BY n OFFSET from_row LIMIT n) x), '[]'));
END
$$;

-- GET /chats/{chat}
CREATE OR REPLACE FUNCTION coder.chat_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, coder.chat_full_json(coder.param_chat(req)));
END
$$;

-- Archives or brings back a chat and all that came of it.
CREATE OR REPLACE FUNCTION coder.chat_archive(c coder.chats, away bool)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	one coder.chats;
BEGIN
	IF c.archived = away THEN
		PERFORM coder.raise(400, CASE WHEN away THEN 'Chat is already archived.' ELSE 'Chat is already not archived.' END);
	ELSIF away AND c.status IN ('pending', 'running') THEN
		PERFORM coder.chat_set_status(c.id, 'waiting');
	END IF;
	FOR one IN UPDATE coder.chats x SET archived = away, pin_order = 0, updated_at = now()
				WHERE x.id = c.id OR x.root_chat_id = c.id RETURNING x.* LOOP
		PERFORM coder.chat_tell_owner(one, CASE WHEN away THEN 'deleted' ELSE 'created' END);
	END LOOP;
END
$$;

-- Moves a chat to a place among its owner's pinned ones; 0 takes it out.  All places are counted anew.
CREATE OR REPLACE FUNCTION coder.chat_pin(c coder.chats, place int4)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.lock('coder.chat_pin:' || c.owner_id);
	UPDATE coder.chats x SET pin_order = o.n
	  FROM (SELECT y.id, row_number() OVER (ORDER BY
				CASE WHEN y.id <> c.id THEN y.pin_order + 0.0 WHEN c.pin_order = 0 THEN 1e9
					WHEN place > c.pin_order THEN place + 0.5 ELSE place - 0.5 END, y.id) AS n
			  FROM coder.chats y
			 WHERE y.owner_id = c.owner_id AND NOT y.archived AND (y.id = c.id AND place > 0 OR y.id <> c.id AND y.pin_order > 0)) o
	 WHERE x.id = o.id AND x.pin_order <> o.n;
	IF place = 0 THEN
		UPDATE coder.chats x SET pin_order = 0 WHERE x.id = c.id;
	END IF;
END
$$;

-- PATCH /chats/{chat}: labels, archived, pin_order, in this order.
CREATE OR REPLACE FUNCTION coder.chat_patch(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c coder.chats := coder.param_chat_locked(req, 'update');
	body CONSTANT jsonb := coder.body(req);
	place numeric;
BEGIN
	PERFORM coder.body_type(body, 'archived', 'boolean'), coder.body_type(body, 'pin_order', 'number');
	IF coalesce(jsonb_typeof(body->'labels'), 'null') <> 'null' THEN
		PERFORM coder.chat_check_labels(body->'labels');
		UPDATE coder.chats x SET labels = body->'labels' WHERE x.id = c.id;
	END IF;
	IF body->>'archived' IS NOT NULL THEN
		PERFORM coder.chat_archive(c, (body->>'archived')::bool);
		SELECT x.* INTO c FROM coder.chats x WHERE x.id = c.id;
	END IF;
	IF body->>'pin_order' IS NOT NULL THEN
		place := (body->>'pin_order')::numeric;
		IF place < 0 OR place <> trunc(place) OR place > 1000000 THEN
			PERFORM coder.raise(400, 'Pin order must be non-negative.');
		ELSIF c.archived AND place > 0 THEN
			PERFORM coder.raise(400, 'Cannot pin an archived chat.');
		END IF;
		PERFORM coder.chat_pin(c, place::int4);
	END IF;
	RETURN coder.reply(204);
END
$$;

-- A number in a path or query that is an id of a row; ZC400 with this message where it is none.
CREATE OR REPLACE FUNCTION coder.chat_number(value text, message text)
RETURNS bigint LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF value !~ '^-?[0-9]{1,18}$' THEN
		PERFORM coder.raise(400, message, format('strconv.ParseInt: parsing %s: invalid syntax', to_jsonb(value)));
	END IF;
	RETURN value::bigint;
END
$$;

-- GET /chats/{chat}/messages: newest first, before before_id.
CREATE OR REPLACE FUNCTION coder.chat_messages_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c CONSTANT coder.chats := coder.param_chat(req);
	before CONSTANT int8 := coalesce(coder.query_int(req, 'before_id', 0), 0);
	n CONSTANT int4 := coder.query_int(req, 'limit', 50);
	rows jsonb;
BEGIN
	IF n NOT BETWEEN 1 AND 200 THEN
		PERFORM coder.raise(400, 'Invalid limit parameter (1-200).');
	END IF;
	SELECT jsonb_agg(coder.chat_message_json(m) ORDER BY m.id DESC) INTO rows
	  FROM (SELECT x.* FROM coder.chat_messages x WHERE x.chat_id = c.id AND NOT x.deleted AND x.visibility IN ('user', 'both')
			   AND (before = 0 OR x.id < before) ORDER BY x.id DESC LIMIT n + 1) m;
	RETURN coder.reply(200, jsonb_build_object('messages', coalesce(CASE WHEN jsonb_array_length(rows) > n THEN rows - n ELSE rows END, '[]'),
		'queued_messages', CASE WHEN before = 0 THEN coder.chat_queue_json(c.id) ELSE '[]' END,
		'has_more', coalesce(jsonb_array_length(rows) > n, false)));
END
$$;

-- POST /chats/{chat}/messages: said at once, or queued while the chat is busy.
CREATE OR REPLACE FUNCTION coder.chat_message_post(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c coder.chats := coder.param_chat_locked(req, 'create');
	body CONSTANT jsonb := coder.body(req);
	busy CONSTANT text := coalesce(nullif(body->>'busy_behavior', ''), 'queue');
	content jsonb;
	model uuid;
	servers uuid[];
	over coder.response;
	m coder.chat_messages;
	q coder.chat_queued_messages;
	warnings text[];
	more jsonb;
BEGIN
	IF busy NOT IN ('queue', 'interrupt') THEN
		PERFORM coder.raise(400, 'Invalid busy_behavior value.', 'Must be "queue" or "interrupt".');
	END IF;
	content := coder.chat_input(body);
	servers := coder.chat_input_servers(body);
	model := CASE WHEN body->>'model_config_id' IS NULL THEN c.last_model_config_id ELSE coder.chat_input_model(body) END;
	over := coder.chat_over_limit(c.owner_id, c.organization_id);
	IF over.status IS NOT NULL THEN
		RETURN over;
	END IF;
	IF servers IS NOT NULL THEN
		UPDATE coder.chats x SET mcp_server_ids = servers WHERE x.id = c.id;
	END IF;
	warnings := coder.chat_link_files(c.id, content);
	more := CASE WHEN cardinality(warnings) > 0 THEN jsonb_build_object('warnings', to_jsonb(warnings)) ELSE '{}' END;
	IF c.status IN ('running', 'pending', 'requires_action') OR EXISTS (SELECT FROM coder.chat_queued_messages x WHERE x.chat_id = c.id) THEN
		IF (SELECT count(*) FROM coder.chat_queued_messages x WHERE x.chat_id = c.id) >= 20 THEN
			PERFORM coder.raise(429, 'Message queue is full.', 'Maximum 20 messages can be queued.');
		END IF;
		INSERT INTO coder.chat_queued_messages (chat_id, content, model_config_id, created_by)
		VALUES (c.id, content, nullif(model, c.last_model_config_id), coder.subject_id()) RETURNING * INTO q;
		IF busy = 'interrupt' AND c.status <> 'pending' THEN
			PERFORM coder.chat_stop(c);
		END IF;
		PERFORM coder.chat_tell_stream(c.id);
		RETURN coder.reply(200, jsonb_build_object('queued', true, 'queued_message', coder.chat_queued_json(q)) || more);
	END IF;
	m := coder.chat_add_user_message(c.id, content, model, coder.subject_id());
	PERFORM coder.chat_set_status(c.id, 'pending');
	RETURN coder.reply(200, jsonb_build_object('message', coder.chat_message_json(m), 'queued', false) || more);
EXCEPTION WHEN foreign_key_violation THEN
	PERFORM coder.raise(500, 'Failed to create chat message.', sqlerrm);
END
$$;

-- PATCH /chats/{chat}/messages/{message}: the message and all after it make room for another.
CREATE OR REPLACE FUNCTION coder.chat_message_edit(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c CONSTANT coder.chats := coder.param_chat_locked(req, 'create');
	wanted CONSTANT bigint := coder.chat_number(req.params->>'message', 'Invalid chat message ID.');
	content CONSTANT jsonb := coder.chat_input(coder.body(req));
	old coder.chat_messages;
	m coder.chat_messages;
	over CONSTANT coder.response := coder.chat_over_limit(c.owner_id, c.organization_id);
BEGIN
	IF over.status IS NOT NULL THEN
		RETURN over;
	END IF;
	SELECT x.* INTO old FROM coder.chat_messages x WHERE x.id = wanted AND NOT x.deleted;
	IF old.id IS NULL OR old.chat_id <> c.id THEN
		PERFORM coder.raise(404, 'Chat message not found.', 'Message does not belong to this chat.');
	ELSIF old.role <> 'user' THEN
		PERFORM coder.raise(400, 'Only user messages can be edited.');
	END IF;
	UPDATE coder.chat_messages x SET deleted = true WHERE x.chat_id = c.id AND x.id >= wanted AND NOT x.deleted;
	DELETE FROM coder.chat_queued_messages q WHERE q.chat_id = c.id;
	INSERT INTO coder.chat_messages (chat_id, role, content, visibility, model_config_id, created_by)
	VALUES (c.id, 'user', content, old.visibility, old.model_config_id, coder.subject_id()) RETURNING * INTO m;
	UPDATE coder.chats x SET history_epoch = x.history_epoch + 1 WHERE x.id = c.id;
	PERFORM coder.chat_set_status(c.id, 'pending');
	RETURN coder.reply(200, jsonb_build_object('message', coder.chat_message_json(m)));
END
$$;

-- DELETE /chats/{chat}/queue/{queuedMessage}
CREATE OR REPLACE FUNCTION coder.chat_queue_delete(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c CONSTANT coder.chats := coder.param_chat_locked(req, 'update');
BEGIN
	DELETE FROM coder.chat_queued_messages q
	 WHERE q.chat_id = c.id AND q.id = coder.chat_number(req.params->>'queuedMessage', 'Invalid queued message ID.');
	IF FOUND THEN
		PERFORM coder.chat_tell_stream(c.id);
	END IF;
	RETURN coder.reply(204);
END
$$;

-- Takes a message out of the queue (the first, where none is named) and says it.  NULL where there is none.
CREATE OR REPLACE FUNCTION coder.chat_promote(chat uuid, wanted bigint DEFAULT NULL)
RETURNS coder.chat_messages LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	q coder.chat_queued_messages;
	model uuid;
BEGIN
	DELETE FROM coder.chat_queued_messages x WHERE x.id = (SELECT y.id FROM coder.chat_queued_messages y
		WHERE y.chat_id = chat AND (wanted IS NULL OR y.id = wanted) ORDER BY y.id LIMIT 1) RETURNING x.* INTO q;
	IF q.id IS NULL THEN
		RETURN NULL;
	END IF;
	SELECT coalesce((SELECT m.id FROM coder.chat_model_configs m WHERE m.id = q.model_config_id), c.last_model_config_id) INTO model
	  FROM coder.chats c WHERE c.id = chat;
	RETURN coder.chat_add_user_message(chat, q.content, model, q.created_by);
END
$$;

-- POST /chats/{chat}/queue/{queuedMessage}/promote
CREATE OR REPLACE FUNCTION coder.chat_queue_promote(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c CONSTANT coder.chats := coder.param_chat_locked(req, 'create');
	m CONSTANT coder.chat_messages := coder.chat_promote(c.id, coder.chat_number(req.params->>'queuedMessage', 'Invalid queued message ID.'));
BEGIN
	IF m.id IS NULL THEN
		PERFORM coder.raise(500, 'Failed to promote queued message.', 'The message is not in the queue.');
	END IF;
	IF c.status = 'requires_action' THEN
		PERFORM coder.chat_answer_open_calls(c.id, 'Tool execution interrupted by user');
	END IF;
	PERFORM coder.chat_set_status(c.id, 'pending');
	RETURN coder.reply(200, coder.chat_message_json(m));
END
$$;

-- The calls of the last assistant message that have no result yet and that the client is to answer.
CREATE OR REPLACE FUNCTION coder.chat_open_calls(chat uuid)
RETURNS TABLE (call_id text, tool text, args jsonb) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	last coder.chat_messages;
BEGIN
	SELECT m.* INTO last FROM coder.chat_messages m WHERE m.chat_id = chat AND m.role = 'assistant' AND NOT m.deleted AND NOT m.compressed
	 ORDER BY m.id DESC LIMIT 1;
	RETURN QUERY SELECT p->>'tool_call_id', p->>'tool_name', p->'args'
	  FROM jsonb_array_elements(coalesce(last.content, '[]')) WITH ORDINALITY e (p, n)
	 WHERE p->>'type' = 'tool-call' AND NOT coalesce((p->>'provider_executed')::bool, false)
	   AND NOT EXISTS (SELECT FROM coder.chat_messages r WHERE r.chat_id = chat AND r.id > last.id AND r.role = 'tool' AND NOT r.deleted
			AND r.content @> jsonb_build_array(jsonb_build_object('type', 'tool-result', 'tool_call_id', p->>'tool_call_id')))
	 ORDER BY e.n;
END
$$;

-- Stores a tool's result as a message.
CREATE OR REPLACE FUNCTION coder.chat_add_result(chat uuid, call_id text, tool text, result jsonb, is_error bool)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO coder.chat_messages (chat_id, role, content, model_config_id)
	SELECT chat, 'tool', jsonb_build_array(jsonb_build_object('type', 'tool-result', 'tool_call_id', call_id, 'tool_name', tool,
		'mcp_server_config_id', NULL, 'result', result, 'created_at', coder.ts(clock_timestamp()))
		|| CASE WHEN is_error THEN '{"is_error": true}' ELSE '{}' END::jsonb), c.last_model_config_id FROM coder.chats c WHERE c.id = chat;
END
$$;

-- Gives every open call an error for a result.
CREATE OR REPLACE FUNCTION coder.chat_answer_open_calls(chat uuid, why text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.chat_add_result(chat, o.call_id, o.tool, jsonb_build_object('error', why), true) FROM coder.chat_open_calls(chat) o;
END
$$;

-- Stops what a chat does; it waits, or goes on with what is queued.
CREATE OR REPLACE FUNCTION coder.chat_stop(c coder.chats)
RETURNS coder.chats LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF c.status = 'pending' THEN
		RETURN c;
	ELSIF c.status = 'requires_action' THEN
		PERFORM coder.chat_answer_open_calls(c.id, 'Tool execution interrupted by user');
	END IF;
	-- The runner of a running chat sees that it waits, stores what it has, and takes the queue's first.
	IF c.status <> 'running' AND NOT c.archived AND (coder.chat_promote(c.id)).id IS NOT NULL THEN
		RETURN coder.chat_set_status(c.id, 'pending');
	END IF;
	RETURN coder.chat_set_status(c.id, 'waiting');
END
$$;

-- POST /chats/{chat}/interrupt
CREATE OR REPLACE FUNCTION coder.chat_interrupt(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, coder.chat_json(coder.chat_stop(coder.param_chat_locked(req, 'update'))));
END
$$;

-- POST /chats/{chat}/tool-results: what the client's own tools answered.
CREATE OR REPLACE FUNCTION coder.chat_tool_results(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c CONSTANT coder.chats := coder.param_chat_locked(req, 'create');
	body CONSTANT jsonb := coder.body(req);
	results jsonb;
	given text[];
	open text[];
BEGIN
	PERFORM coder.body_type(body, 'results', 'array');
	results := coalesce(nullif(body->'results', 'null'), '[]');
	IF results = '[]' THEN
		PERFORM coder.raise(400, 'At least one tool result is required.');
	ELSIF c.status <> 'requires_action' THEN
		PERFORM coder.raise(409, 'Chat is not waiting for tool results.', format('Chat status is "%s", expected "requires_action".', c.status));
	END IF;
	SELECT array_agg(coalesce(r->>'tool_call_id', '')) INTO given FROM jsonb_array_elements(results) r;
	SELECT coalesce(array_agg(o.call_id), '{}') INTO open FROM coder.chat_open_calls(c.id) o;
	IF (SELECT count(*) <> count(DISTINCT g) FROM unnest(given) g) THEN
		PERFORM coder.raise(400, 'Duplicate tool_call_id in results.');
	ELSIF NOT open <@ given THEN
		PERFORM coder.raise(400, 'Missing tool result.', format('No result for %s.', (SELECT string_agg(o, ', ') FROM unnest(open) o WHERE NOT o = ANY (given))));
	ELSIF NOT given <@ open THEN
		PERFORM coder.raise(400, 'Unexpected tool result.', format('No call %s is open.', (SELECT string_agg(g, ', ') FROM unnest(given) g WHERE NOT g = ANY (open))));
	ELSIF EXISTS (SELECT FROM jsonb_array_elements(results) r WHERE NOT r ? 'output') THEN
		PERFORM coder.raise(400, 'Tool result output must be valid JSON.');
	END IF;
	PERFORM coder.chat_add_result(c.id, o.call_id, o.tool, r->'output', coalesce((r->>'is_error')::bool, false))
	   FROM jsonb_array_elements(results) r JOIN coder.chat_open_calls(c.id) o ON o.call_id = r->>'tool_call_id';
	PERFORM coder.chat_set_status(c.id, 'pending');
	RETURN coder.reply(204);
END
$$;

-- GET /chats/watch: the caller's chats, as they change.
CREATE OR REPLACE FUNCTION coder.chats_watch(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.chat_gate();
	RETURN coder.reply(101, jsonb_build_object('format', 'wsjson', 'channels', jsonb_build_array('chat:owner:' || coder.subject_id()),
		'forward', true, 'frames', '[]'::jsonb));
END
$$;

-- What a stream of a chat has sent: cursor, "message|status|queue|event|epoch".
CREATE TYPE coder.chat_cursor AS (message bigint, status text, queue text, event bigint, epoch int4);

-- GET /chats/{chat}/stream?after_id=: each frame is an array of events.
--
-- All that follows is read in one snapshot.  The runner writes events of a turn in order, a message together with its
-- mark, so that the parts of a step come before its message and the next step's after it.
CREATE OR REPLACE FUNCTION coder.chat_stream(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c CONSTANT coder.chats := coder.param_chat(req);
	seen coder.chat_cursor;
	events jsonb[] := '{}';
	queue CONSTANT text := coalesce((SELECT count(*) || '-' || max(q.id) FROM coder.chat_queued_messages q WHERE q.chat_id = c.id HAVING count(*) > 0), '0');
	status CONSTANT jsonb := jsonb_build_object('type', 'status', 'chat_id', c.id, 'status', jsonb_build_object('status', c.status));
	status_first bool;
	e record;
	m coder.chat_messages;
	last_assistant bigint;
BEGIN
	IF req.cursor IS NULL THEN
		seen.message := coder.chat_number(coalesce(nullif(req.query->>'after_id', ''), '0'), 'Invalid after_id parameter.');
		seen.queue := '0';
		seen.epoch := c.history_epoch;
		seen.event := 0;
	ELSE
		seen := ('(' || replace(req.cursor, '|', ',') || ')')::coder.chat_cursor;
	END IF;
	IF seen.epoch <> c.history_epoch THEN
		seen.message := 0;
	END IF;
	IF req.cursor IS NOT NULL THEN
		-- What the user said comes before what came of it.
		FOR m IN SELECT x.* FROM coder.chat_messages x WHERE x.chat_id = c.id AND x.id > seen.message AND NOT x.deleted AND x.role = 'user'
					AND x.visibility IN ('user', 'both') AND x.id < coalesce((SELECT min((v.event->>'id')::bigint) FROM coder.chat_stream_events v
						WHERE v.chat_id = c.id AND v.seq > seen.event AND v.event->>'type' = 'message'), 9223372036854775807)
				  ORDER BY x.id LOOP
			events := events || coder.chat_message_event(m);
			seen.message := m.id;
		END LOOP;
	END IF;
	status_first := c.status::text IS DISTINCT FROM seen.status AND (req.cursor IS NULL OR c.status IN ('running', 'pending'));
	IF status_first THEN
		events := events || status;
	END IF;
	FOR e IN SELECT x.seq, x.event FROM coder.chat_stream_events x
			  WHERE x.chat_id = c.id AND x.seq > seen.event
				AND (req.cursor IS NOT NULL OR c.status = 'running' OR x.created_at > now() - interval '5 seconds') ORDER BY x.seq LOOP
		seen.event := e.seq;
		IF e.event->>'type' <> 'message' THEN
			CONTINUE WHEN req.cursor IS NULL AND e.event->>'type' <> 'message_part';
			events := events || (e.event || jsonb_build_object('chat_id', c.id));
		ELSIF req.cursor IS NOT NULL AND (e.event->>'id')::bigint > seen.message THEN
			SELECT x.* INTO m FROM coder.chat_messages x WHERE x.id = (e.event->>'id')::bigint AND NOT x.deleted AND x.visibility IN ('user', 'both');
			IF FOUND THEN
				events := events || coder.chat_message_event(m);
				seen.message := m.id;
			END IF;
		END IF;
	END LOOP;
	FOR m IN SELECT x.* FROM coder.chat_messages x WHERE x.chat_id = c.id AND x.id > seen.message AND NOT x.deleted AND x.visibility IN ('user', 'both')
			  ORDER BY x.id LOOP
		events := events || coder.chat_message_event(m);
		seen.message := m.id;
	END LOOP;
	IF queue <> seen.queue THEN
		events := events || jsonb_build_object('type', 'queue_update', 'chat_id', c.id, 'queued_messages', coder.chat_queue_json(c.id));
	END IF;
	IF NOT status_first AND c.status::text IS DISTINCT FROM seen.status THEN
		events := events || status;
	END IF;
	SELECT max(x.id) INTO last_assistant FROM coder.chat_messages x WHERE x.chat_id = c.id AND x.role = 'assistant' AND NOT x.deleted;
	IF last_assistant > coalesce(c.last_read_message_id, 0) AND c.owner_id = coder.subject_id() THEN
		UPDATE coder.chats x SET last_read_message_id = last_assistant WHERE x.id = c.id;
	END IF;
	RETURN coder.reply(101, jsonb_build_object('format', 'wsjson', 'channels', jsonb_build_array('chat:stream:' || c.id),
		'frames', coalesce((SELECT jsonb_agg(f.part ORDER BY f.n) FROM (SELECT (i - 1) / 256 AS n, jsonb_agg(ev ORDER BY i) AS part
			FROM unnest(events) WITH ORDINALITY u (ev, i) GROUP BY 1) f), '[]'),
		'cursor', concat_ws('|', seen.message, c.status, queue, seen.event, c.history_epoch)));
END
$$;

-- GET /chats/by-workspace?workspace_ids=: the newest readable chat of each.
CREATE OR REPLACE FUNCTION coder.chats_by_workspace(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ids text[];
	bad text;
BEGIN
	PERFORM coder.chat_gate();
	ids := coder.query_list(req, 'workspace_ids');
	SELECT i INTO bad FROM unnest(ids) i WHERE coder.try_uuid(i) IS NULL LIMIT 1;
	IF bad IS NOT NULL THEN
		PERFORM coder.raise(400, format('Invalid workspace ID "%s": invalid UUID length: %s', bad, length(bad)));
	ELSIF cardinality(ids) > 25 THEN
		PERFORM coder.raise(400, 'Too many workspace IDs, maximum is 25.');
	END IF;
	RETURN coder.reply(200, coalesce((SELECT jsonb_object_agg(x.workspace_id, x.id) FROM (
		SELECT DISTINCT ON (c.workspace_id) c.workspace_id, c.id FROM coder.chats c
		 WHERE c.workspace_id = ANY (ids::uuid[]) AND NOT c.archived AND coder.can('read', 'chat', c.organization_id, c.owner_id, id => c.id)
		 ORDER BY c.workspace_id, c.updated_at DESC, c.id DESC) x), '{}'));
END
$$;

-- GET /chats/{chat}/diff: what is known of the chat's branch; the diff itself needs a git provider.
CREATE OR REPLACE FUNCTION coder.chat_diff(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c CONSTANT coder.chats := coder.param_chat(req);
	d coder.chat_diff_statuses;
BEGIN
	SELECT x.* INTO d FROM coder.chat_diff_statuses x WHERE x.chat_id = c.id;
	RETURN coder.reply(200, jsonb_strip_nulls(jsonb_build_object('chat_id', c.id, 'remote_origin', nullif(d.git_remote_origin, ''),
		'branch', nullif(d.git_branch, ''), 'pull_request_url', d.url)));
END
$$;

-- start_date and end_date of a request about cost, the last thirty days unless given; ZC400.
CREATE OR REPLACE FUNCTION coder.chat_dates(req coder.request, OUT begins timestamptz, OUT ends timestamptz, VARIADIC others text[] DEFAULT '{}')
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	broken jsonb[] := '{}';
	field text;
	at timestamptz;
BEGIN
	ends := clock_timestamp();
	begins := ends - interval '30 days';
	FOR field IN SELECT k FROM jsonb_object_keys(coalesce(req.query, '{}')) k LOOP
		IF field NOT IN ('start_date', 'end_date') AND NOT field = ANY (others) THEN
			broken := broken || coder.validation(field, format('Query param "%s" is not a valid query param', field));
		ELSIF field IN ('start_date', 'end_date') AND req.query->>field <> '' THEN
			BEGIN
				IF req.query->>field !~ '^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$' THEN
					RAISE invalid_datetime_format;
				END IF;
				at := (req.query->>field)::timestamptz;
				IF field = 'start_date' THEN
					begins := at;
				ELSE
					ends := at;
				END IF;
			EXCEPTION WHEN data_exception THEN
				broken := broken || coder.validation(field, format('Query param "%s" must be a valid date format (RFC3339)', field));
			END;
		END IF;
	END LOOP;
	IF cardinality(broken) > 0 THEN
		PERFORM coder.raise(400, 'Invalid query parameters.', NULL, to_jsonb(broken));
	END IF;
END
$$;

-- The sums that all reports of cost have.
CREATE TYPE coder.chat_cost AS (cost numeric, priced bigint, unpriced bigint, input numeric, output numeric, cache_read numeric, cache_creation numeric, runtime numeric);

CREATE OR REPLACE FUNCTION coder.chat_cost_json(s coder.chat_cost)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('total_cost_micros', coalesce(s.cost, 0), 'total_input_tokens', coalesce(s.input, 0),
		'total_output_tokens', coalesce(s.output, 0), 'total_cache_read_tokens', coalesce(s.cache_read, 0),
		'total_cache_creation_tokens', coalesce(s.cache_creation, 0), 'total_runtime_ms', coalesce(s.runtime, 0));
END
$$;
COMMENT ON FUNCTION coder.chat_cost_json(coder.chat_cost) IS 'Sums of cost, tokens and time as the API names them.';

-- The messages that cost something in a time, with who caused them.
CREATE OR REPLACE FUNCTION coder.chat_costs(begins timestamptz, ends timestamptz, owner uuid DEFAULT NULL)
RETURNS TABLE (owner_id uuid, root_chat_id uuid, model_config_id uuid, message coder.chat_messages) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT c.owner_id, coalesce(c.root_chat_id, c.id), m.model_config_id, m
	  FROM coder.chat_messages m JOIN coder.chats c ON c.id = m.chat_id
	 WHERE m.role = 'assistant' AND m.created_at >= begins AND m.created_at < ends
	   AND (m.total_cost_micros IS NOT NULL OR m.input_tokens IS NOT NULL OR m.output_tokens IS NOT NULL OR m.total_tokens IS NOT NULL)
	   AND (chat_costs.owner IS NULL OR c.owner_id = chat_costs.owner);
END
$$;

-- Sums of messages.
CREATE OR REPLACE FUNCTION coder.chat_cost_add(s coder.chat_cost, m coder.chat_messages)
RETURNS coder.chat_cost LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN ROW(coalesce(s.cost, 0) + coalesce(m.total_cost_micros, 0), coalesce(s.priced, 0) + (m.total_cost_micros IS NOT NULL)::int4,
		coalesce(s.unpriced, 0) + (m.total_cost_micros IS NULL)::int4, coalesce(s.input, 0) + coalesce(m.input_tokens, 0),
		coalesce(s.output, 0) + coalesce(m.output_tokens, 0), coalesce(s.cache_read, 0) + coalesce(m.cache_read_tokens, 0),
		coalesce(s.cache_creation, 0) + coalesce(m.cache_creation_tokens, 0), coalesce(s.runtime, 0) + coalesce(m.runtime_ms, 0))::coder.chat_cost;
END
$$;
CREATE OR REPLACE AGGREGATE coder.chat_cost_sum (coder.chat_messages) (SFUNC = coder.chat_cost_add, STYPE = coder.chat_cost);
COMMENT ON AGGREGATE coder.chat_cost_sum (coder.chat_messages) IS 'Cost, tokens and time of messages.';

-- GET /chats/cost/{user}/summary
CREATE OR REPLACE FUNCTION coder.chat_cost_summary(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u coder.users;
	t record;
	total coder.chat_cost;
	l coder.chat_limit;
	answer jsonb;
BEGIN
	PERFORM coder.chat_gate();
	u := coder.param_user(req);
	PERFORM coder.require_read('read', 'chat', NULL, u.id);
	SELECT * INTO t FROM coder.chat_dates(req);
	SELECT (coder.chat_cost_sum(x.message)).* INTO total FROM coder.chat_costs(t.begins, t.ends, u.id) x;
	answer := coder.chat_cost_json(total) || jsonb_build_object('start_date', coder.ts(t.begins), 'end_date', coder.ts(t.ends),
		'priced_message_count', coalesce(total.priced, 0), 'unpriced_message_count', coalesce(total.unpriced, 0),
		'by_model', coalesce((SELECT jsonb_agg(coder.chat_cost_json(g.s) || jsonb_build_object('model_config_id', m.id,
				'display_name', coalesce(nullif(m.display_name, ''), m.model), 'provider', m.provider, 'model', m.model,
				'message_count', (g.s).priced + (g.s).unpriced) ORDER BY (g.s).cost DESC, m.updated_at DESC, m.id)
			FROM (SELECT x.model_config_id, coder.chat_cost_sum(x.message) AS s FROM coder.chat_costs(t.begins, t.ends, u.id) x GROUP BY 1) g
			JOIN coder.chat_model_configs m ON m.id = g.model_config_id), '[]'),
		'by_chat', coalesce((SELECT jsonb_agg(coder.chat_cost_json(g.s) || jsonb_build_object('root_chat_id', c.id, 'chat_title', c.title,
				'message_count', (g.s).priced + (g.s).unpriced) ORDER BY (g.s).cost DESC, c.updated_at DESC, c.id)
			FROM (SELECT x.root_chat_id, coder.chat_cost_sum(x.message) AS s FROM coder.chat_costs(t.begins, t.ends, u.id) x GROUP BY 1) g
			JOIN coder.chats c ON c.id = g.root_chat_id), '[]'));
	l := coder.chat_limit_of(u.id);
	IF l.limit_micros IS NOT NULL THEN
		answer := answer || jsonb_build_object('usage_limit', jsonb_build_object('is_limited', true, 'period', l.period,
			'spend_limit_micros', l.limit_micros, 'current_spend', l.spent, 'period_start', coder.ts(l.begins), 'period_end', coder.ts(l.ends)));
	END IF;
	RETURN coder.reply(200, answer);
END
$$;

-- GET /chats/cost/users
CREATE OR REPLACE FUNCTION coder.chat_cost_users(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t record;
	n int4;
	from_row int4;
	wanted CONSTANT text := coalesce(req.query->>'username', '');
	answer jsonb;
BEGIN
	PERFORM coder.chat_gate();
	PERFORM coder.require('read', 'chat');
	SELECT * INTO t FROM coder.chat_dates(req, 'username', 'limit', 'offset');
	n := coalesce(nullif(coder.query_int(req, 'limit', 10), 0), 10);
	from_row := coder.query_int(req, 'offset', 0);
	SELECT jsonb_build_object('start_date', coder.ts(t.begins), 'end_date', coder.ts(t.ends), 'count', coalesce(max(x.total), 0),
		'users', coalesce(jsonb_agg(coder.chat_cost_json(x.s) || jsonb_build_object('user_id', x.id, 'username', x.username, 'name', x.name,
			'avatar_url', x.avatar_url, 'message_count', (x.s).priced + (x.s).unpriced, 'chat_count', x.chats)
			ORDER BY (x.s).cost DESC, lower(x.username)) FILTER (WHERE x.id IS NOT NULL), '[]')) INTO answer
	  FROM (SELECT u.id, u.username, u.name, u.avatar_url, g.s, g.chats, count(*) OVER () AS total
			  FROM (SELECT y.owner_id, coder.chat_cost_sum(y.message) AS s, count(DISTINCT y.root_chat_id) AS chats
					  FROM coder.chat_costs(t.begins, t.ends) y GROUP BY 1) g
			  JOIN coder.users u ON u.id = g.owner_id
			 WHERE wanted = '' OR strpos(lower(u.username), lower(wanted)) > 0
			 ORDER BY (g.s).cost DESC, lower(u.username) OFFSET from_row LIMIT n) x;
	RETURN coder.reply(200, answer);
END
$$;

-- GET /chats/insights/pull-requests: pull requests that chats made, each once (the newest chat has it).
CREATE OR REPLACE FUNCTION coder.chat_pr_insights(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t record;
	now_ jsonb;
	before jsonb;
BEGIN
	PERFORM coder.chat_admin('read');
	SELECT * INTO t FROM coder.chat_dates(req);
	now_ := coder.chat_pr_summary(t.begins, t.ends);
	before := coder.chat_pr_summary(t.begins - (t.ends - t.begins), t.begins);
	RETURN coder.reply(200, jsonb_build_object('summary', now_ || jsonb_build_object('approval_rate', 0,
			'prev_total_prs_created', before->'total_prs_created', 'prev_total_prs_merged', before->'total_prs_merged',
			'prev_merge_rate', before->'merge_rate', 'prev_cost_per_merged_pr_micros', before->'cost_per_merged_pr_micros'),
		'time_series', coalesce((SELECT jsonb_agg(jsonb_build_object('date', coder.ts(d.day), 'prs_created', d.created, 'prs_merged', d.merged,
				'prs_closed', d.closed) ORDER BY d.day)
			FROM (SELECT date_trunc('day', p.created_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS day, count(*) AS created,
					count(*) FILTER (WHERE p.state = 'merged') AS merged, count(*) FILTER (WHERE p.state = 'closed') AS closed
					FROM coder.chat_prs(t.begins, t.ends) p GROUP BY 1) d), '[]'),
		'by_model', coalesce((SELECT jsonb_agg(jsonb_build_object('model_config_id', m.id, 'display_name', coalesce(nullif(m.display_name, ''), m.model),
				'provider', m.provider, 'total_prs', g.n, 'merged_prs', g.merged, 'merge_rate', g.merged::float8 / g.n, 'total_additions', g.additions,
				'total_deletions', g.deletions, 'total_cost_micros', g.cost, 'cost_per_merged_pr_micros', CASE WHEN g.merged > 0
				THEN trunc(g.cost / g.merged) ELSE 0 END) ORDER BY g.n DESC, m.id)
			FROM (SELECT p.model_config_id, count(*) AS n, count(*) FILTER (WHERE p.state = 'merged') AS merged, sum(p.additions) AS additions,
					sum(p.deletions) AS deletions, sum(p.cost) AS cost FROM coder.chat_prs(t.begins, t.ends) p GROUP BY 1) g
			JOIN coder.chat_model_configs m ON m.id = g.model_config_id), '[]'),
		'recent_prs', coalesce((SELECT jsonb_agg(p.pr || jsonb_build_object('model_display_name', coalesce(nullif(m.display_name, ''), m.model, ''),
				'cost_micros', p.cost, 'created_at', coder.ts(p.created_at)) ORDER BY p.created_at DESC)
			FROM (SELECT * FROM coder.chat_prs(t.begins, t.ends) ORDER BY created_at DESC LIMIT 500) p
			LEFT JOIN coder.chat_model_configs m ON m.id = p.model_config_id), '[]')));
END
$$;

-- The pull requests of chats made in a time; what one cost is its chat's and that of direct children without their own.
CREATE OR REPLACE FUNCTION coder.chat_prs(begins timestamptz, ends timestamptz)
RETURNS TABLE (chat_id uuid, model_config_id uuid, state text, additions int4, deletions int4, cost numeric, created_at timestamptz, pr jsonb)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT DISTINCT ON (d.url) c.id, c.last_model_config_id, coalesce(d.pull_request_state, 'open'), d.additions, d.deletions,
		(SELECT coalesce(sum(m.total_cost_micros), 0) FROM coder.chats f JOIN coder.chat_messages m ON m.chat_id = f.id
		  WHERE f.id = c.id OR (f.parent_chat_id = c.id AND NOT EXISTS (SELECT FROM coder.chat_diff_statuses x
			WHERE x.chat_id = f.id AND x.url IS NOT NULL AND x.pull_request_state IS NOT NULL))),
		c.created_at,
		jsonb_strip_nulls(jsonb_build_object('chat_id', c.id, 'pr_title', d.pull_request_title, 'pr_url', d.url, 'pr_number', d.pr_number,
			'state', coalesce(d.pull_request_state, 'open'), 'draft', d.pull_request_draft, 'additions', d.additions, 'deletions', d.deletions,
			'changed_files', d.changed_files, 'commits', d.commits, 'approved', d.approved, 'changes_requested', d.changes_requested,
			'reviewer_count', d.reviewer_count, 'author_login', d.author_login, 'author_avatar_url', d.author_avatar_url,
			'base_branch', coalesce(d.base_branch, '')))
	  FROM coder.chat_diff_statuses d JOIN coder.chats c ON c.id = d.chat_id
	 WHERE d.url IS NOT NULL AND d.pull_request_state IS NOT NULL AND c.created_at >= begins AND c.created_at < ends
	 ORDER BY d.url, c.created_at DESC;
END
$$;

CREATE OR REPLACE FUNCTION coder.chat_pr_summary(begins timestamptz, ends timestamptz)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT jsonb_build_object('total_prs_created', count(*), 'total_prs_merged', count(*) FILTER (WHERE p.state = 'merged'),
			'merge_rate', CASE WHEN count(*) = 0 THEN 0 ELSE count(*) FILTER (WHERE p.state = 'merged')::float8 / count(*) END,
			'total_additions', coalesce(sum(p.additions), 0), 'total_deletions', coalesce(sum(p.deletions), 0),
			'total_cost_micros', coalesce(sum(p.cost), 0), 'cost_per_merged_pr_micros', CASE WHEN count(*) FILTER (WHERE p.state = 'merged') = 0 THEN 0
				ELSE trunc(coalesce(sum(p.cost) FILTER (WHERE p.state = 'merged'), 0) / count(*) FILTER (WHERE p.state = 'merged')) END)
		FROM coder.chat_prs(begins, ends) p);
END
$$;
COMMENT ON FUNCTION coder.chat_pr_summary(timestamptz, timestamptz) IS 'Counts, changes and cost of the pull requests of a time.';

DELETE FROM coder.routes WHERE area = 'chat';
INSERT INTO coder.routes (area, method, pattern, function, max_body, read_only)
SELECT 'chat', r.method, '/api/experimental/chats' || r.path, r.function, 262144, r.method = 'GET' AND r.function NOT IN ('chat_stream')
  FROM (VALUES
	('GET', '', 'chats_list'),
	('POST', '', 'chat_create'),
	('GET', '/by-workspace', 'chats_by_workspace'),
	('GET', '/watch', 'chats_watch'),
	('GET', '/cost/users', 'chat_cost_users'),
	('GET', '/cost/{user}/summary', 'chat_cost_summary'),
	('GET', '/insights/pull-requests', 'chat_pr_insights'),
	('GET', '/{chat}', 'chat_get'),
	('PATCH', '/{chat}', 'chat_patch'),
	('GET', '/{chat}/messages', 'chat_messages_list'),
	('POST', '/{chat}/messages', 'chat_message_post'),
	('PATCH', '/{chat}/messages/{message}', 'chat_message_edit'),
	('DELETE', '/{chat}/queue/{queuedMessage}', 'chat_queue_delete'),
	('POST', '/{chat}/queue/{queuedMessage}/promote', 'chat_queue_promote'),
	('POST', '/{chat}/interrupt', 'chat_interrupt'),
	('POST', '/{chat}/tool-results', 'chat_tool_results'),
	('POST', '/{chat}/title/regenerate', 'chat_title_regenerate'),
	('GET', '/{chat}/stream', 'chat_stream'),
	('GET', '/{chat}/diff', 'chat_diff')
  ) AS r (method, path, function);
