-- sql/api/chatmessage.sql -- the messages of a chat: said, queued, edited, interrupted, answered
--
-- Tables: sql/schema/chat.sql.  Events: see sql/api/chat.sql.

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
	ELSIF old.role <> 'user' OR coder.chat_is_context(old.content) THEN
		PERFORM coder.raise(400, 'Only user messages can be edited.');
	END IF;
	-- What the workspace told was not said in answer to the message.
	UPDATE coder.chat_messages x SET deleted = true WHERE x.chat_id = c.id AND x.id >= wanted AND NOT x.deleted AND NOT coder.chat_is_context(x.content);
	DELETE FROM coder.chat_debug_runs d WHERE d.chat_id = c.id AND d.history_tip_message_id >= wanted;
	DELETE FROM coder.chat_queued_messages q WHERE q.chat_id = c.id;
	DELETE FROM coder.chat_tool_answers a WHERE a.chat_id = c.id;
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
