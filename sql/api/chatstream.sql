-- sql/api/chatstream.sql -- what happens in a chat, as it happens
--
-- Tables: sql/schema/chat.sql.  Events: see sql/api/chat.sql.

-- What a stream of a chat has sent: cursor, "message|status|queue|epoch" and the plan's tail, event.
CREATE TYPE coder.chat_cursor AS (message bigint, status text, queue text, epoch int4, event bigint);

-- GET /chats/{chat}/stream?after_id=: each frame is an array of events, at most 256, and of at most a megabyte where it has
-- more than one: clients read no frame of four.
--
-- All that follows is read in one snapshot.  The runner writes events of a turn in order, a message together with its
-- mark, so that the parts of a step come before its message and the next step's after it.  Parts that follow what a stream
-- has had come by their event (coder.chat_say), without a call.
CREATE OR REPLACE FUNCTION coder.chat_stream(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
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
	parts record;
BEGIN
	IF req.cursor IS NULL THEN
		seen.message := coder.chat_number(coalesce(nullif(req.query->>'after_id', ''), '0'), 'Invalid after_id parameter.');
		seen.queue := '0';
		seen.epoch := c.history_epoch;
		seen.event := 0;
	ELSE
		seen := ('(' || replace(req.cursor, '|', ',') || ')')::coder.chat_cursor;
	END IF;
	-- Most calls of a stream find some words more, and nothing else.
	IF req.cursor IS NOT NULL AND seen.epoch = c.history_epoch AND c.status::text = seen.status AND queue = seen.queue THEN
		SELECT max(x.seq) AS seq, count(*) AS n, jsonb_agg(x.event || jsonb_build_object('chat_id', c.id) ORDER BY x.seq) AS told,
			bool_or(x.event->>'type' = 'message') AS mark INTO parts
		  FROM coder.chat_stream_events x WHERE x.chat_id = c.id AND x.seq > seen.event;
		IF parts.n BETWEEN 1 AND 256 AND NOT parts.mark AND NOT EXISTS (SELECT FROM coder.chat_messages x WHERE x.chat_id = c.id AND x.id > seen.message
				AND NOT x.deleted AND x.visibility IN ('user', 'both')) THEN
			RETURN coder.reply(101, jsonb_build_object('format', 'wsjson', 'channels', jsonb_build_array('chat:stream:' || c.id),
				'frames', jsonb_build_array(parts.told), 'cursor', concat_ws('|', seen.message, c.status, queue, c.history_epoch), 'tail', parts.seq));
		END IF;
	END IF;
	IF seen.epoch <> c.history_epoch THEN
		seen.message := 0;
	END IF;
	IF req.cursor IS NOT NULL THEN
		-- What the user said comes before what came of it, and behind what was answered in turns that are over: their marks are gone.
		FOR m IN SELECT x.* FROM coder.chat_messages x WHERE x.chat_id = c.id AND x.id > seen.message AND NOT x.deleted
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
			FOR m IN SELECT x.* FROM coder.chat_messages x WHERE x.chat_id = c.id AND x.id > seen.message AND x.id <= (e.event->>'id')::bigint
						AND NOT x.deleted AND x.visibility IN ('user', 'both') ORDER BY x.id LOOP
				events := events || coder.chat_message_event(m);
				seen.message := m.id;
			END LOOP;
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
		'frames', coalesce((SELECT jsonb_agg(f.part ORDER BY f.n) FROM (SELECT w.n, jsonb_agg(w.ev ORDER BY w.i) AS part
			FROM (SELECT u.ev, u.i, (u.i - 1) / 256 + sum(pg_column_size(u.ev)) OVER (ORDER BY u.i) / 1048576 AS n
				FROM unnest(events) WITH ORDINALITY u (ev, i)) w GROUP BY 1) f), '[]'),
		'cursor', concat_ws('|', seen.message, c.status, queue, c.history_epoch), 'tail', seen.event));
END
$$;
