-- sql/api/chat.sql -- chats: create, list, change; how a chat looks to clients, and who is told of it
--
-- Tables: sql/schema/chat.sql.  What a runner of turns calls: sql/api/chatrun.sql.  Events: "chat:owner:<user>" carries
-- the frames of /watch; "chat:stream:<chat>" wakes the streams of a chat, with what was said, and tells its runner of a new status;
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
	repository CONSTANT jsonb := coder.git_repository(d.git_remote_origin);
BEGIN
	RETURN jsonb_strip_nulls(jsonb_build_object('chat_id', chat,
		'url', coalesce(nullif(d.url, ''), CASE WHEN repository->>'host' = 'github.com' AND d.git_branch <> ''
			THEN format('https://github.com/%s/tree/%s', repository->>'path', d.git_branch) END),
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
RETURNS jsonb LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'coder_chat_json';

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

-- POST /chats: checked in the order of the API.  What nearly all requests ask for is done by coder_chat_create_fast
-- (extension/chat.c), which leaves to this function all that is rare and all that is refused.
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
	own text;
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
	own := nullif(coder.chat_clean_prompt(body->>'system_prompt'), '');
	INSERT INTO coder.chats (owner_id, organization_id, workspace_id, title, status, last_model_config_id, mcp_server_ids, labels, dynamic_tools,
		prompt_id)
	VALUES (me, org, workspace.id, coder.chat_first_title(content), 'pending', model, coalesce(servers, '{}'),
		coalesce(nullif(body->'labels', 'null'), '{}'), nullif(body->'unsafe_dynamic_tools', 'null'),
		CASE WHEN own IS NULL THEN coder.chat_prompt_id(workspace.id IS NOT NULL) END)
	RETURNING * INTO c;
	INSERT INTO coder.chat_messages (chat_id, role, content, visibility, model_config_id, created_by)
	SELECT c.id, 'system'::coder.chat_message_role, jsonb_build_array(jsonb_build_object('type', 'text', 'text', s.t)), 'model'::coder.chat_message_visibility, model, NULL
	  FROM unnest(coder.chat_system_messages(own, workspace.id IS NOT NULL)) WITH ORDINALITY s (t, n) WHERE own IS NOT NULL
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
			WHERE c.owner_id = coder.subject_id() AND c.archived = archived_ones AND (wanted = '{}' OR c.labels <> '{}' AND c.labels @> wanted)
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
	('GET', '/{chat}/stream', 'chat_stream')
  ) AS r (method, path, function);
