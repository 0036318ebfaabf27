-- sql/api/chatrun.sql -- what a runner of chats calls (gateway/chat/): take a chat, say what goes on, store each step, let go
--
-- A runner is a worker with a UUID of its own.  A running chat belongs to the worker in worker_id as long as its heartbeat
-- is fresh; every function that writes for a worker locks the chat's row and does nothing where it is another's by now.

-- Is this event of a chat the newest thing that happened in it?
CREATE OR REPLACE FUNCTION coder.chat_retry_stands(e coder.chat_stream_events)
RETURNS bool LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN NOT EXISTS (SELECT FROM coder.chat_stream_events x WHERE x.chat_id = e.chat_id AND x.seq > e.seq)
		AND NOT EXISTS (SELECT FROM coder.chat_messages m WHERE m.chat_id = e.chat_id AND m.created_at > e.created_at);
END
$$;

-- Up to n chats that wait for a runner, oldest first, which become this worker's.  Each is an object: chat (the row) and
-- owner (id, username, name, email), compaction_threshold (the owner's own for the model, or null), debug (is it written down?), desktop (may
-- it have subagents that use one?), computer_model (of a chat that does).
CREATE OR REPLACE FUNCTION coder.chat_acquire(worker uuid, n int4)
RETURNS SETOF jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	forced CONSTANT bool := coder.chat_debug_forced();
	allowed CONSTANT bool := coder.chat_debug_allowed();
	desktops CONSTANT bool := coder.chat_desktop_enabled();
	c coder.chats;
BEGIN
	FOR c IN UPDATE coder.chats x SET status = 'running', worker_id = worker, started_at = clock_timestamp(), heartbeat_at = clock_timestamp(),
				updated_at = clock_timestamp(), last_error = NULL
			  WHERE x.id IN (SELECT y.id FROM coder.chats y WHERE y.status = 'pending' ORDER BY y.updated_at LIMIT n FOR UPDATE SKIP LOCKED)
			 RETURNING x.* LOOP
		-- Why it begins anew, the user may still have to hear.
		DELETE FROM coder.chat_stream_events e WHERE e.chat_id = c.id AND NOT (e.event->>'type' = 'retry'
			AND NOT e.event->'retry' ? 'provider' AND coder.chat_retry_stands(e));
		PERFORM coder.chat_tell_stream(c.id, 'running ' || (to_jsonb(c)->>'started_at'));
		RETURN NEXT jsonb_build_object('chat', to_jsonb(c), 'owner', (SELECT jsonb_build_object('id', u.id, 'username', u.username,
			'name', u.name, 'email', u.email) FROM coder.users u WHERE u.id = c.owner_id),
			'compaction_threshold', (SELECT x.value::int4 FROM coder.user_configs x WHERE x.user_id = c.owner_id
				AND x.key = 'chat_compaction_threshold_pct:' || c.last_model_config_id AND x.value ~ '^[0-9]{1,3}$'),
			'debug', forced OR allowed AND coder.chat_debug_wanted(c.owner_id),
			'desktop', CASE WHEN desktops AND c.parent_chat_id IS NULL THEN coder.chat_computer_key(c.owner_id) ELSE false END,
			'computer_model', CASE WHEN c.mode = 'computer_use' THEN coder.chat_computer_model() END);
	END LOOP;
END
$$;

-- The same, and what a runner's cache of configuration must know before it begins with them: {"chats": [...], "next":
-- where to go on, "changes": [{kind, entity_id, change}, ...]}.  since: next of the answer before; "" at the beginning,
-- when the cache is empty.  The changes are read behind the chats, by a younger snapshot: what was committed before a chat
-- was taken is among them.  Those of transactions that ran then may come twice.  And "took": the milliseconds that it took
-- here, without what the runner's other statements had to wait for.
CREATE OR REPLACE FUNCTION coder.chat_take(worker uuid, n int4, since text)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	chats CONSTANT jsonb := coalesce((SELECT jsonb_agg(a.v) FROM coder.chat_acquire(worker, n) a (v)), '[]');
BEGIN
	RETURN (SELECT jsonb_build_object('chats', chats, 'next', pg_snapshot_xmin(pg_current_snapshot())::text,
			'took', extract(epoch FROM clock_timestamp() - statement_timestamp()) * 1000, 'changes', coalesce(jsonb_agg(
			jsonb_build_object('kind', c.kind, 'entity_id', c.entity_id, 'change', c.id) ORDER BY c.id), '[]'))
		FROM coder.chat_config_changes c WHERE since <> '' AND c.xid >= nullif(since, '')::xid8);
END
$$;

-- A chat whose runner stopped is to be run again.  What it was about to say is void, and the user is told why.
CREATE OR REPLACE FUNCTION coder.chat_run_again(chat uuid)
RETURNS coder.chats LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO coder.chat_stream_events (chat_id, created_at, event) VALUES (chat, clock_timestamp(), jsonb_build_object('type', 'retry',
		'retry', jsonb_build_object('attempt', 1, 'delay_ms', 0, 'kind', 'generic', 'retrying_at', coder.ts(clock_timestamp()),
			'error', 'The server that was answering has stopped. The answer begins anew.')));
	RETURN coder.chat_set_status(chat, 'pending');
END
$$;

-- What a worker had when its connection broke is to be run again; how many.
CREATE OR REPLACE FUNCTION coder.chat_release(worker uuid)
RETURNS int8 LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT count(coder.chat_run_again(c.id)) FROM coder.chats c WHERE c.status = 'running' AND c.worker_id = worker);
END
$$;

-- Tells that a worker still has these chats; those that it has indeed.  What is missing in the answer it must stop.
CREATE OR REPLACE FUNCTION coder.chat_heartbeat(worker uuid, ids uuid[])
RETURNS uuid[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	alive uuid[];
BEGIN
	-- A crash ends the worker's lease as well, so it waits for no disk: other transactions' events would wait with it.
	PERFORM set_config('synchronous_commit', 'off', true);
	WITH mine AS (UPDATE coder.chats c SET heartbeat_at = clock_timestamp()
		WHERE c.id = ANY (ids) AND c.status = 'running' AND c.worker_id = worker RETURNING c.id, c.workspace_id)
	SELECT coalesce(array_agg(m.id), '{}') INTO alive FROM mine m;
	UPDATE coder.workspaces w SET last_used_at = clock_timestamp()
	 WHERE w.id IN (SELECT c.workspace_id FROM coder.chats c WHERE c.id = ANY (alive)) AND w.last_used_at < now() - interval '30 seconds';
	RETURN alive;
END
$$;

-- What a model is told of a chat, in order: id, role, content, compressed, provider_response_id, model_config_id.
-- What it was told first (coder.chat_prompts, as messages with the id 0), all system messages that were not compressed
-- away, the newest summary, and what followed it.
CREATE OR REPLACE FUNCTION coder.chat_history(chat uuid)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	summary CONSTANT bigint := (SELECT max(m.id) FROM coder.chat_messages m WHERE m.chat_id = chat AND m.compressed AND NOT m.deleted
		AND m.visibility = 'model');
	told CONSTANT jsonb := (SELECT jsonb_agg(jsonb_build_object('id', 0, 'role', 'system', 'content', jsonb_build_array(jsonb_build_object(
			'type', 'text', 'text', t.words)), 'compressed', false, 'provider_response_id', NULL, 'model_config_id', NULL) ORDER BY t.n)
		FROM coder.chats c JOIN coder.chat_prompts p ON p.id = c.prompt_id, unnest(p.texts) WITH ORDINALITY t (words, n) WHERE c.id = chat);
BEGIN
	RETURN coalesce(told, '[]') || coalesce((SELECT jsonb_agg(jsonb_build_object('id', m.id, 'role', m.role, 'content', coalesce(m.content, '[]'),
			'compressed', m.compressed, 'provider_response_id', m.provider_response_id, 'model_config_id', m.model_config_id) ORDER BY m.id)
		FROM coder.chat_messages m
		WHERE m.chat_id = chat AND NOT m.deleted AND m.visibility IN ('model', 'both')
		  AND NOT (m.role = 'user' AND coalesce(m.content @? '$[*] ? (@.type == "context-file" || @.type == "skill")', false))
		  AND (m.id = summary OR NOT m.compressed AND (m.role = 'system' OR summary IS NULL OR m.id > summary))), '[]');
END
$$;

-- The first 128 KiB of a file as text: UTF-8, cut before a character that is not whole; Latin-1 where it is no UTF-8.  U+0000 is
-- shown as U+FFFD.
CREATE OR REPLACE FUNCTION coder.chat_file_text(data bytea)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	most CONSTANT int4 := 131072;
	head bytea := substr(data, 1, most);
BEGIN
	IF position('\x00'::bytea IN head) > 0 THEN
		head := decode(replace(regexp_replace(encode(head, 'hex'), '(..)', '\1 ', 'g'), '00 ', 'efbfbd'), 'hex');
	END IF;
	FOR cut IN 0 .. CASE WHEN length(data) > most THEN 3 ELSE 0 END LOOP
		BEGIN
			RETURN convert_from(substr(head, 1, length(head) - cut), 'UTF8');
		EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
			NULL;
		END;
	END LOOP;
	RETURN convert_from(head, 'LATIN1');
END
$$;

-- The same, with what the workspace tells behind the system messages (sql/api/chatcontext.sql), and with the files of users' messages
-- as a model reads them: pictures as base64 in data, text in a part of type text.
CREATE OR REPLACE FUNCTION coder.chat_prompt(chat uuid)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	history jsonb := coder.chat_history(chat);
	c coder.chats;
	told text;
BEGIN
	SELECT x.* INTO c FROM coder.chats x WHERE x.id = chat;
	told := CASE WHEN c.last_injected_context IS NOT NULL OR c.workspace_home IS NOT NULL THEN coder.chat_context_prompt(c) END;
	IF told IS NOT NULL THEN
		history := jsonb_insert(history, ARRAY[(SELECT count(*) FROM jsonb_array_elements(history) m WHERE m->>'role' = 'system')::text],
			jsonb_build_object('id', 0, 'role', 'system', 'content', jsonb_build_array(jsonb_build_object('type', 'text', 'text', told)),
				'compressed', false, 'provider_response_id', NULL, 'model_config_id', NULL));
	END IF;
	IF NOT history @? '$[*].content[*].file_id ? (@ != null)' THEN
		RETURN history;
	END IF;
	RETURN (SELECT jsonb_agg(m.v || jsonb_build_object('content', (
			SELECT coalesce(jsonb_agg(CASE
				WHEN f.id IS NULL THEN p.v
				WHEN f.mimetype LIKE 'text/%' THEN jsonb_build_object('type', 'text', 'text', format(E'[file] %s\n%s', f.name, coder.chat_file_text(f.data)))
				ELSE p.v || jsonb_build_object('data', replace(encode(f.data, 'base64'), E'\n', ''), 'media_type', f.mimetype) END ORDER BY p.n), '[]')
			  FROM jsonb_array_elements(m.v->'content') WITH ORDINALITY p (v, n)
			  LEFT JOIN coder.chat_files f ON f.id = (p.v->>'file_id')::uuid)) ORDER BY m.n)
		FROM jsonb_array_elements(history) WITH ORDINALITY m (v, n));
END
$$;

-- Events of turns in progress, in order: [{"chat": uuid, "events": [ChatStreamEvent without chat_id, ...]}, ...], each chat once.
-- One statement for all chats of a runner, so that a token does not cost a transaction; it waits for no disk (extension/chatsay.c).
CREATE OR REPLACE FUNCTION coder.chat_say(said jsonb)
RETURNS void LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'coder_chat_say';

-- What a message cost, in millionths of a dollar, rounded up; NULL where the model has no price for what it used.
-- Prices are dollars a million tokens (options.cost, or in options itself as older clients stored them).
CREATE OR REPLACE FUNCTION coder.chat_message_cost(options jsonb, usage jsonb)
RETURNS bigint LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	prices CONSTANT jsonb := options || coalesce(nullif(options->'cost', 'null'), '{}');
	total CONSTANT numeric := (SELECT sum((usage->>k.tokens)::numeric * (prices->>k.price)::numeric) FROM (VALUES
		('input_tokens', 'input_price_per_million_tokens'), ('output_tokens', 'output_price_per_million_tokens'),
		('cache_read_tokens', 'cache_read_price_per_million_tokens'), ('cache_creation_tokens', 'cache_write_price_per_million_tokens')) AS k (tokens, price)
		WHERE (usage->>k.tokens)::numeric > 0 AND prices->>k.price IS NOT NULL);
BEGIN
	RETURN nullif(ceil(total), 0)::bigint;
END
$$;

-- One step of a turn: its messages, [{role, content, visibility?, compressed?, usage?, context_limit?, runtime_ms?,
-- provider_response_id?}], stored and told in one transaction; their ids.  NULL where the chat is not this worker's any
-- more: then nothing is stored.  A chat that was interrupted meanwhile still takes what its worker had.
CREATE OR REPLACE FUNCTION coder.chat_step(worker uuid, chat uuid, model_id uuid, messages jsonb, lease timestamptz DEFAULT NULL)
RETURNS bigint[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c coder.chats;
	m record;
	new_id bigint;
	ids bigint[] := '{}';
	prices CONSTANT jsonb := coalesce((SELECT x.options FROM coder.chat_model_configs x WHERE x.id = model_id), '{}');
BEGIN
	SELECT x.* INTO c FROM coder.chats x WHERE x.id = chat FOR UPDATE;
	IF NOT FOUND OR NOT (c.status = 'running' AND c.worker_id = worker OR c.status = 'waiting') OR coalesce(lease <> c.leased_at, false) THEN
		RETURN NULL;
	END IF;
	DELETE FROM coder.chat_tool_answers a WHERE a.chat_id = chat;
	FOR m IN SELECT e.v, e.v->'usage' AS usage FROM jsonb_array_elements(messages) WITH ORDINALITY e (v, n) ORDER BY e.n LOOP
		INSERT INTO coder.chat_messages (chat_id, model_config_id, role, content, visibility, compressed, input_tokens, output_tokens,
			total_tokens, reasoning_tokens, cache_creation_tokens, cache_read_tokens, context_limit, runtime_ms, provider_response_id,
			total_cost_micros)
		VALUES (chat, model_id, (m.v->>'role')::coder.chat_message_role, m.v->'content',
			coalesce(m.v->>'visibility', 'both')::coder.chat_message_visibility, coalesce((m.v->>'compressed')::bool, false),
			nullif((m.usage->>'input_tokens')::bigint, 0), nullif((m.usage->>'output_tokens')::bigint, 0),
			nullif((m.usage->>'total_tokens')::bigint, 0), nullif((m.usage->>'reasoning_tokens')::bigint, 0),
			nullif((m.usage->>'cache_creation_tokens')::bigint, 0), nullif((m.usage->>'cache_read_tokens')::bigint, 0),
			nullif((m.v->>'context_limit')::bigint, 0), nullif((m.v->>'runtime_ms')::bigint, 0), nullif(m.v->>'provider_response_id', ''),
			coder.chat_message_cost(prices, m.usage))
		RETURNING id INTO new_id;
		ids := ids || new_id;
		IF coalesce(m.v->>'visibility', 'both') <> 'model' THEN
			INSERT INTO coder.chat_stream_events (chat_id, event) VALUES (chat, jsonb_build_object('type', 'message', 'id', new_id));
		END IF;
	END LOOP;
	PERFORM coder.chat_tell_stream(chat);
	RETURN ids;
END
$$;

-- A turn is over: done (waiting), failed (error, with what the user is told), to be gone on with by another worker
-- (pending), or up to the client (requires_action).  A chat that then waits goes on with the first of its queue.  The
-- status that the chat has now; NULL where it is not this worker's.
CREATE OR REPLACE FUNCTION coder.chat_finish(worker uuid, chat uuid, new_status coder.chat_status, error text DEFAULT NULL, lease timestamptz DEFAULT NULL)
RETURNS coder.chat_status LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c coder.chats;
BEGIN
	SELECT x.* INTO c FROM coder.chats x WHERE x.id = chat FOR UPDATE;
	IF NOT FOUND OR NOT (c.status = 'running' AND c.worker_id = worker OR c.status = 'waiting') OR coalesce(lease <> c.leased_at, false) THEN
		RETURN NULL;
	END IF;
	IF c.status = 'running' AND new_status = 'pending' THEN
		c := coder.chat_run_again(chat);
	ELSIF c.status = 'running' AND new_status IN ('error', 'requires_action') THEN
		c := coder.chat_set_status(chat, new_status, error);
		IF new_status = 'requires_action' THEN
			PERFORM coder.chat_tell_owner(c, 'action_required', jsonb_build_object('tool_calls', (SELECT jsonb_agg(jsonb_build_object(
				'tool_call_id', o.call_id, 'tool_name', o.tool, 'args', o.args::text)) FROM coder.chat_open_calls(chat) o)));
		END IF;
	ELSIF NOT c.archived AND (coder.chat_promote(chat)).id IS NOT NULL THEN
		c := coder.chat_set_status(chat, 'pending');
	ELSIF c.status = 'running' THEN
		c := coder.chat_set_status(chat, 'waiting');
	END IF;
	RETURN c.status;
END
$$;

-- What the owner's browsers are told of a chat whose turn is over: a message for coder.webpush_request.
CREATE OR REPLACE FUNCTION coder.chat_push_message(c coder.chats)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	said text := c.last_error;
BEGIN
	IF c.status <> 'error' THEN
		SELECT coder.chat_words(m.content) INTO said FROM coder.chat_messages m
		 WHERE m.chat_id = c.id AND m.role = 'assistant' AND NOT m.deleted AND m.visibility <> 'model' ORDER BY m.id DESC LIMIT 1;
	END IF;
	-- The first words of it: a push holds few, and a screen shows fewer.
	said := regexp_replace(btrim(coalesce(said, ''), E' \t\r\n'), '\s+', ' ', 'g');
	said := CASE WHEN length(said) > 120 THEN left(said, 119) || '…' ELSE said END;
	RETURN jsonb_build_object('icon', '/icon/coder.svg', 'title', left(c.title, 120), 'body', coalesce(nullif(said, ''),
			CASE c.status WHEN 'error' THEN 'Agent encountered an error.' ELSE 'Agent has finished running.' END),
		'tag', c.id, 'actions', '[]'::jsonb, 'data', jsonb_build_object('url', '/agents/' || c.id));
END
$$;

-- The same as chat_finish, and what to push to the owner's browsers: {"ids": [subscription, ...], "requests": [...]}, NULL for nothing.
-- A chat that was interrupted, that goes on with its queue, or that is a subagent's tells nobody.
CREATE OR REPLACE FUNCTION coder.chat_end(worker uuid, chat uuid, new_status coder.chat_status, error text DEFAULT NULL, lease timestamptz DEFAULT NULL)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ran CONSTANT bool := EXISTS (SELECT FROM coder.chats x WHERE x.id = chat AND x.status = 'running' AND x.worker_id = worker);
	status CONSTANT coder.chat_status := coder.chat_finish(worker, chat, new_status, error, lease);
	c coder.chats;
	s coder.webpush_subscriptions;
	ids jsonb := '[]';
	requests jsonb := '[]';
BEGIN
	IF NOT ran OR coalesce(status NOT IN ('waiting', 'error'), true) THEN
		RETURN NULL;
	END IF;
	SELECT x.* INTO c FROM coder.chats x WHERE x.id = chat AND x.parent_chat_id IS NULL AND NOT x.archived
	   AND x.owner_id IN (SELECT w.user_id FROM coder.webpush_subscriptions w);
	IF NOT FOUND THEN
		RETURN NULL;
	END IF;
	FOR s IN SELECT w.* FROM coder.webpush_subscriptions w WHERE w.user_id = c.owner_id ORDER BY w.created_at DESC, w.id LIMIT 16 LOOP
		BEGIN
			requests := requests || coder.webpush_request(s, coder.chat_push_message(c));
			ids := ids || to_jsonb(s.id);
		EXCEPTION WHEN invalid_parameter_value THEN
			-- Keys that no browser has: nothing can be pushed there.
			DELETE FROM coder.webpush_subscriptions w WHERE w.id = s.id;
		END;
	END LOOP;
	RETURN nullif(jsonb_build_object('ids', ids, 'requests', requests), '{"ids": [], "requests": []}');
END
$$;

-- The push services have answered: browsers that are gone are forgotten; how many.
CREATE OR REPLACE FUNCTION coder.chat_pushed(ids jsonb, results jsonb)
RETURNS int4 LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n int4;
BEGIN
	DELETE FROM coder.webpush_subscriptions w
	 USING jsonb_array_elements_text(ids) WITH ORDINALITY i (id, n)
	 WHERE w.id = i.id::uuid AND results->(i.n - 1)::int4->>'status' IN ('404', '410');
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;

-- Chats whose worker fell silent, or whose connection (which holds a lock of its name) is gone, are to be run again; those that waited five minutes for their client's tools have failed;
-- those that were interrupted while their worker died go on with their queue.  How many of all.  Called by coder.tick().
CREATE OR REPLACE FUNCTION coder.chat_recover(at timestamptz)
RETURNS int4 LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	one record;
	n int4 := 0;
BEGIN
	FOR one IN SELECT c.id, c.status FROM coder.chats c
				WHERE c.status = 'running' AND (c.heartbeat_at < at - interval '5 minutes'
					OR c.heartbeat_at < at - interval '10 seconds'
						AND coder.try_lock('coder.chat_worker:' || c.worker_id))
				   OR c.status = 'requires_action' AND c.updated_at < at - interval '5 minutes' FOR UPDATE SKIP LOCKED LOOP
		IF one.status = 'running' THEN
			PERFORM coder.chat_run_again(one.id);
		ELSE
			PERFORM coder.chat_answer_open_calls(one.id, 'Dynamic tool execution timed out');
			PERFORM coder.chat_set_status(one.id, 'error', 'Dynamic tool execution timed out');
		END IF;
		n := n + 1;
	END LOOP;
	FOR one IN SELECT c.id FROM coder.chats c
				WHERE c.status = 'waiting' AND NOT c.archived AND c.updated_at < at - interval '1 minute'
				  AND c.id IN (SELECT q.chat_id FROM coder.chat_queued_messages q) FOR UPDATE SKIP LOCKED LOOP
		PERFORM coder.chat_promote(one.id), coder.chat_set_status(one.id, 'pending');
		n := n + 1;
	END LOOP;
	RETURN n;
END
$$;

-- Archived chats, and files that no chat uses, that are older than their retention; how many.  Called by coder.tick().
CREATE OR REPLACE FUNCTION coder.chat_purge(at timestamptz)
RETURNS int4 LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	days CONSTANT int4 := CASE WHEN coder.site_config('agents_chat_retention_days', '30') ~ '^[0-9]{1,6}$'
		THEN coder.site_config('agents_chat_retention_days', '30')::int4 ELSE 0 END;
	chats int4;
	files int4;
BEGIN
	DELETE FROM coder.chat_title_requests r WHERE r.created_at < at - interval '1 hour';
	DELETE FROM coder.chat_config_changes c WHERE c.at < clock_timestamp() - interval '1 hour';
	DELETE FROM coder.chat_agent_tickets t WHERE t.expires_at < at;
	PERFORM coder.chat_debug_purge(at);
	DELETE FROM coder.chat_git_jobs j WHERE j.expires_at < at;
	IF days = 0 THEN
		RETURN 0;
	END IF;
	DELETE FROM coder.chats c WHERE c.id IN (SELECT x.id FROM coder.chats x
		WHERE x.archived AND x.updated_at < at - make_interval(days => days) ORDER BY x.updated_at LIMIT 1000);
	GET DIAGNOSTICS chats = ROW_COUNT;
	DELETE FROM coder.chat_files f WHERE f.id IN (SELECT x.id FROM coder.chat_files x
		WHERE x.created_at < at - make_interval(days => days)
		  AND NOT EXISTS (SELECT FROM coder.chat_file_links l WHERE l.file_id = x.id) LIMIT 1000);
	GET DIAGNOSTICS files = ROW_COUNT;
	RETURN chats + files;
END
$$;

-- A title as it is stored: one line, no quotes around it, at most eight words and eighty characters; NULL where nothing is left.
CREATE OR REPLACE FUNCTION coder.chat_clean_title(title text)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN nullif(left(array_to_string((regexp_split_to_array(trim(E' \t\n"\'`.' FROM coder.chat_clean_prompt(title)), '\s+'))[:8], ' '), 80), '');
END
$$;

-- The words of a message's parts.
CREATE OR REPLACE FUNCTION coder.chat_words(content jsonb)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce((SELECT string_agg(p.v->>'text', ' ' ORDER BY p.n) FROM jsonb_array_elements(content) WITH ORDINALITY p (v, n)
		WHERE p.v->>'type' = 'text'), '');
END
$$;

-- What the first title of a chat is to be made of: {"old", "text", "debug"}; NULL where it does not want one: somebody has named it,
-- or more has been said than one message of the user.
CREATE OR REPLACE FUNCTION coder.chat_title_task(chat uuid)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	said CONSTANT jsonb[] := ARRAY(SELECT CASE m.role WHEN 'user' THEN m.content END FROM coder.chat_messages m
		WHERE m.chat_id = chat AND m.role <> 'system' AND NOT m.deleted AND m.visibility <> 'model' AND NOT coder.chat_is_context(m.content)
		ORDER BY m.id LIMIT 2);
	old text;
	owner uuid;
BEGIN
	SELECT c.title, c.owner_id INTO old, owner FROM coder.chats c WHERE c.id = chat;
	IF cardinality(said) <> 1 OR said[1] IS NULL OR old <> coder.chat_first_title(said[1]) OR coder.chat_words(said[1]) = '' THEN
		RETURN NULL;
	END IF;
	RETURN jsonb_build_object('old', old, 'text', left(coder.chat_words(said[1]), 6000), 'debug', coder.chat_debug_on(owner));
END
$$;

-- What a new title of a chat is to be made of: what the user first asked for, and the last three things that were said.
CREATE OR REPLACE FUNCTION coder.chat_title_text(chat uuid)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	first bigint;
	answer text;
BEGIN
	SELECT min(m.id) INTO first FROM coder.chat_messages m
	 WHERE m.chat_id = chat AND m.role = 'user' AND NOT m.deleted AND m.visibility <> 'model' AND NOT m.compressed
	   AND NOT coder.chat_is_context(m.content);
	SELECT string_agg(format('%s: %s', t.role, t.words), E'\n\n' ORDER BY t.id) INTO answer FROM (
		SELECT m.id, m.role, left(coder.chat_words(m.content), CASE m.role WHEN 'user' THEN 1000 ELSE 2000 END) AS words
		  FROM coder.chat_messages m
		 WHERE m.id = first
		    OR m.id IN (SELECT x.id FROM coder.chat_messages x WHERE x.chat_id = chat AND x.role IN ('user', 'assistant') AND NOT x.deleted
				AND x.visibility <> 'model' AND NOT x.compressed AND coder.chat_words(x.content) <> '' ORDER BY x.id DESC LIMIT 3)) t;
	RETURN left(coalesce(answer, ''), 6000);
END
$$;

-- A better title, unless the chat has got another meanwhile.
CREATE OR REPLACE FUNCTION coder.chat_retitle(chat uuid, old text, new_title text)
RETURNS bool LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c coder.chats;
BEGIN
	UPDATE coder.chats x SET title = coder.chat_clean_title(new_title)
	 WHERE x.id = chat AND x.title = old AND coder.chat_clean_title(new_title) IS NOT NULL RETURNING x.* INTO c;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	PERFORM coder.chat_tell_owner(c, 'title_change');
	RETURN true;
END
$$;

-- The worker that stands for a title that is being made, in chats.worker_id of a chat that does not run.
CREATE OR REPLACE FUNCTION coder.chat_title_worker()
RETURNS uuid LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN '00000000-0000-0000-0000-000000000001';
END
$$;

-- Titles that were asked for and that this worker makes now: {"request", "chat" (the row), "text"} each.
CREATE OR REPLACE FUNCTION coder.chat_title_claim(worker uuid)
RETURNS SETOF jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY WITH mine AS (UPDATE coder.chat_title_requests r SET worker_id = worker
			WHERE r.id IN (SELECT x.id FROM coder.chat_title_requests x WHERE x.worker_id IS NULL AND x.done_at IS NULL
				AND x.created_at > clock_timestamp() - interval '1 minute' ORDER BY x.created_at LIMIT 20 FOR UPDATE SKIP LOCKED)
			RETURNING r.id, r.chat_id)
		SELECT jsonb_build_object('request', m.id, 'chat', to_jsonb(c), 'text', coder.chat_title_text(c.id), 'debug', coder.chat_debug_on(c.owner_id))
		  FROM mine m JOIN coder.chats c ON c.id = m.chat_id;
END
$$;

-- What a title took is a message that nobody sees.  The prices are those of the model that was asked (provider and model),
-- where it is configured.
CREATE OR REPLACE FUNCTION coder.chat_book_title(c coder.chats, asked jsonb, usage jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	config coder.chat_model_configs;
BEGIN
	SELECT x.* INTO config FROM coder.chat_model_configs x
	 WHERE x.id = (asked->>'id')::uuid OR asked->>'id' IS NULL AND x.provider = asked->>'provider' AND x.model = asked->>'model' AND NOT x.deleted
	 ORDER BY x.created_at LIMIT 1;
	INSERT INTO coder.chat_messages (chat_id, model_config_id, role, content, visibility, deleted, input_tokens, output_tokens, total_tokens,
		reasoning_tokens, cache_creation_tokens, cache_read_tokens, total_cost_micros)
	VALUES (c.id, coalesce(config.id, c.last_model_config_id), 'assistant', '[]', 'model', true,
		nullif((usage->>'input_tokens')::bigint, 0), nullif((usage->>'output_tokens')::bigint, 0),
		nullif((usage->>'total_tokens')::bigint, 0), nullif((usage->>'reasoning_tokens')::bigint, 0),
		nullif((usage->>'cache_creation_tokens')::bigint, 0), nullif((usage->>'cache_read_tokens')::bigint, 0),
		coder.chat_message_cost(coalesce(config.options, '{}'), usage));
END
$$;

-- A title is made (new_title), or cannot be (error): one that was asked for (request), or the first one, which has to take the
-- place of old (coder.chat_retitle).  What it took is booked.
CREATE OR REPLACE FUNCTION coder.chat_title_done(chat uuid, request uuid, old text, model jsonb, new_title text, usage jsonb, error text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	clean CONSTANT text := coder.chat_clean_title(new_title);
	c coder.chats;
BEGIN
	SELECT x.* INTO c FROM coder.chats x WHERE x.id = chat FOR UPDATE;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	IF (usage->>'total_tokens')::bigint > 0 THEN
		PERFORM coder.chat_book_title(c, model, usage);
	END IF;
	IF request IS NULL THEN
		IF new_title IS NOT NULL THEN
			PERFORM coder.chat_retitle(chat, old, new_title);
		END IF;
		RETURN;
	END IF;
	UPDATE coder.chat_title_requests r SET done_at = clock_timestamp(), error = CASE WHEN clean IS NULL THEN coalesce($7, 'the model gave no title') END
	 WHERE r.id = request;
	IF clean IS NOT NULL AND clean <> c.title THEN
		UPDATE coder.chats x SET title = clean WHERE x.id = chat RETURNING x.* INTO c;
		PERFORM coder.chat_tell_owner(c, 'title_change');
	END IF;
	PERFORM coder.chat_title_unlock(chat);
END
$$;

-- Nobody makes a title of this chat any more.
CREATE OR REPLACE FUNCTION coder.chat_title_unlock(chat uuid)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE coder.chats c SET worker_id = NULL, started_at = NULL WHERE c.id = chat AND c.worker_id = coder.chat_title_worker() AND c.status <> 'running';
END
$$;

-- POST /chats/{chat}/title/regenerate: a runner makes it, the request waits for it.
CREATE OR REPLACE FUNCTION coder.chat_title_regenerate(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c CONSTANT coder.chats := coder.param_chat_locked(req, 'update');
	over coder.response;
	request uuid;
BEGIN
	IF c.status = 'pending' OR c.worker_id = coder.chat_title_worker() AND (c.status = 'running' OR c.started_at > clock_timestamp() - interval '1 minute') THEN
		PERFORM coder.raise(409, 'Title regeneration already in progress for this chat.');
	END IF;
	over := coder.chat_over_limit(c.owner_id, c.organization_id);
	IF over.status IS NOT NULL THEN
		RETURN over;
	END IF;
	IF c.status <> 'running' THEN
		UPDATE coder.chats x SET worker_id = coder.chat_title_worker(), started_at = clock_timestamp() WHERE x.id = c.id;
	END IF;
	INSERT INTO coder.chat_title_requests (chat_id) VALUES (c.id) RETURNING id INTO request;
	PERFORM coder.emit('chat:title');
	RETURN coder.wait('chat_title_wait', jsonb_build_object('request', request, 'round', 1), 200);
END
$$;

-- Goes on with chat_title_regenerate: is it made by now?
CREATE OR REPLACE FUNCTION coder.chat_title_wait(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	waits CONSTANT int4[] := '{200, 400, 900, 2000, 5000, 9000, 10000, 10000}';
	state CONSTANT jsonb := (coder.fetched(req)).state;
	n CONSTANT int4 := (state->>'round')::int4;
	c CONSTANT coder.chats := coder.param_chat(req, 'update');
	r coder.chat_title_requests;
BEGIN
	SELECT x.* INTO r FROM coder.chat_title_requests x WHERE x.id = (state->>'request')::uuid AND x.chat_id = c.id;
	IF r.done_at IS NOT NULL AND r.error IS NULL THEN
		RETURN coder.reply(200, coder.chat_json(c));
	ELSIF r.id IS NOT NULL AND r.done_at IS NULL AND n < cardinality(waits) THEN
		RETURN coder.wait('chat_title_wait', jsonb_build_object('request', r.id, 'round', n + 1), waits[n + 1]);
	END IF;
	PERFORM coder.chat_title_unlock(c.id);
	RETURN coder.reply(500, jsonb_build_object('message', 'Failed to regenerate chat title.', 'detail', coalesce(r.error, 'no chat runner made it in time')));
END
$$;

-- What turns are configured by, read by a runner's cache (gateway/chat/config.c) and nowhere else on the way of a turn.
-- A provider, with the central key in plain text where it may be used.
CREATE OR REPLACE FUNCTION coder.chat_run_provider(p coder.chat_providers)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('id', p.id, 'provider', p.provider, 'display_name', coder.chat_provider_json(p)->'display_name',
		'base_url', p.base_url, 'allow_user_api_key', p.allow_user_api_key, 'allow_central_api_key_fallback', p.allow_central_api_key_fallback,
		'api_key', CASE WHEN p.central_api_key_enabled THEN coder.unseal(p.api_key, p.api_key_key_id) ELSE '' END,
		'ambient', p.central_api_key_enabled AND coder.chat_provider_ambient(p.provider));
END
$$;

-- Providers that are on.
CREATE OR REPLACE FUNCTION coder.chat_run_providers()
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce((SELECT jsonb_agg(coder.chat_run_provider(p) ORDER BY p.provider) FROM coder.chat_providers p WHERE p.enabled), '[]');
END
$$;

-- A model by its id; NULL where it is deleted or unknown.
CREATE OR REPLACE FUNCTION coder.chat_run_model(model_id uuid)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT to_jsonb(m) FROM coder.chat_model_configs m WHERE m.id = model_id AND NOT m.deleted);
END
$$;

-- Both in one read: {"model": null where it is deleted or unknown, "providers"}.
CREATE OR REPLACE FUNCTION coder.chat_run_model_and_providers(model_id uuid)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('model', (SELECT to_jsonb(m) FROM coder.chat_model_configs m WHERE m.id = model_id AND NOT m.deleted),
		'providers', coalesce((SELECT jsonb_agg(coder.chat_run_provider(p) ORDER BY p.provider) FROM coder.chat_providers p WHERE p.enabled), '[]'));
END
$$;

-- The default model; NULL where there is none.
CREATE OR REPLACE FUNCTION coder.chat_run_default_model()
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT to_jsonb(m) FROM coder.chat_model_configs m WHERE m.is_default AND NOT m.deleted);
END
$$;

-- A user's own prompt, "" where there is none.
CREATE OR REPLACE FUNCTION coder.chat_run_prompt(uid uuid)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce((SELECT c.value FROM coder.user_configs c WHERE c.user_id = uid AND c.key = 'chat_custom_prompt'), '');
END
$$;

-- A user's own key of a provider in plain text, NULL where there is none.
CREATE OR REPLACE FUNCTION coder.chat_run_user_key(uid uuid, provider_id uuid)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT coder.unseal(k.api_key, k.api_key_key_id) FROM coder.user_chat_provider_keys k
		WHERE k.user_id = uid AND k.chat_provider_id = provider_id);
END
$$;
