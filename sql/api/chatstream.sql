-- sql/api/chatstream.sql -- what happens in a chat, as it happens
--
-- Tables: sql/schema/chat.sql.  Events: see sql/api/chat.sql.

-- What a stream of a chat has sent: cursor, "message|status|queue|epoch" and the plan's tail, event.
CREATE TYPE coder.chat_cursor AS (message bigint, status text, queue text, epoch int4, event bigint);

-- The beginning of a text of which a stream has no room for all, and a mark that says so.
CREATE OR REPLACE FUNCTION coder.chat_cut_text(t text, room int4)
RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE WHEN length(t) <= room THEN t ELSE left(t, room)
		|| format(E'\n[… cut: these are %s of %s characters; the messages of the chat have all of them]', room, length(t)) END;
END
$$;

-- The same of a value; of an object, its members' beginnings: a tool's result keeps its form.  room: of all, in characters.
CREATE OR REPLACE FUNCTION coder.chat_cut_value(v jsonb, room int4, depth int4 DEFAULT 3)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n int8;
BEGIN
	IF octet_length(v::text) <= room THEN
		RETURN v;
	ELSIF jsonb_typeof(v) = 'string' THEN
		RETURN to_jsonb(coder.chat_cut_text(v #>> '{}', room));
	ELSIF jsonb_typeof(v) = 'object' AND depth > 0 THEN
		n := (SELECT count(*) FROM jsonb_object_keys(v));
		IF n BETWEEN 1 AND 32 THEN
			RETURN (SELECT jsonb_object_agg(m.key, coder.chat_cut_value(m.value, (room / n)::int4, depth - 1)) FROM jsonb_each(v) m);
		END IF;
	END IF;
	RETURN to_jsonb(coder.chat_cut_text(v::text, room));
END
$$;

-- A part of a message: its texts, and what a tool was given and gave.
CREATE OR REPLACE FUNCTION coder.chat_cut_part(part jsonb, room int4)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF octet_length(part::text) <= room THEN
		RETURN part;
	END IF;
	RETURN (SELECT jsonb_object_agg(m.key, CASE WHEN jsonb_typeof(m.value) = 'string' OR m.key IN ('args', 'result') THEN coder.chat_cut_value(m.value, greatest(room / 2, 200))
		ELSE m.value END) FROM jsonb_each(part) m);
END
$$;

-- Of so many that little is left for each, or whose marks alone are too long: how many they are.
CREATE OR REPLACE FUNCTION coder.chat_cut_parts(parts jsonb, room int4)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n CONSTANT int4 := jsonb_array_length(parts);
	cut jsonb;
BEGIN
	IF n <= 2000 THEN
		cut := (SELECT jsonb_agg(coder.chat_cut_part(p.v, room / n) ORDER BY p.i) FROM jsonb_array_elements(parts) WITH ORDINALITY p (v, i));
	END IF;
	RETURN CASE WHEN n = 0 OR octet_length(cut::text) <= 6 * room THEN coalesce(cut, parts)
		ELSE jsonb_build_array(jsonb_build_object('type', 'text', 'text', format('[… cut: %s parts; the messages of the chat have all of them]', n))) END;
END
$$;

-- An event of a stream that is larger than clients can read: the beginnings of its texts, with marks; below three megabytes.
CREATE OR REPLACE FUNCTION coder.chat_cut_event(event jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- Characters: JSON may need six bytes for one.
	room CONSTANT int4 := 480000;
BEGIN
	CASE event->>'type'
		WHEN 'message' THEN
			RETURN jsonb_set(event, '{message,content}', coder.chat_cut_parts(event#>'{message,content}', room));
		WHEN 'message_part' THEN
			RETURN jsonb_set(event, '{message_part,part}', coder.chat_cut_parts(jsonb_build_array(event#>'{message_part,part}'), room)->0);
		WHEN 'queue_update' THEN
			RETURN jsonb_set(event, '{queued_messages}', (SELECT jsonb_agg(q.v || jsonb_build_object('content',
					coder.chat_cut_parts(q.v->'content', room / jsonb_array_length(event->'queued_messages'))) ORDER BY q.n)
				FROM jsonb_array_elements(event->'queued_messages') WITH ORDINALITY q (v, n)));
		ELSE
			RETURN event;
	END CASE;
END
$$;

-- GET /chats/{chat}/stream?after_id=: each frame is an array of events, at most 256, and of less than four megabytes, which
-- is what clients read.
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
	e coder.chat_stream_events;
	m coder.chat_messages;
	retry jsonb;
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
		IF parts.n BETWEEN 1 AND 256 AND octet_length(parts.told::text) < 3145728 AND NOT parts.mark AND NOT EXISTS (SELECT FROM coder.chat_messages x WHERE x.chat_id = c.id AND x.id > seen.message
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
	FOR e IN SELECT x.* FROM coder.chat_stream_events x
			  WHERE x.chat_id = c.id AND x.seq > seen.event
				AND (req.cursor IS NOT NULL OR c.status = 'running' OR x.created_at > now() - interval '5 seconds'
					OR c.status = 'pending' AND x.event->>'type' = 'retry') ORDER BY x.seq LOOP
		seen.event := e.seq;
		IF e.event->>'type' <> 'message' THEN
			-- Why nothing is said yet, who comes now is told last.
			IF req.cursor IS NULL AND e.event->>'type' = 'retry' AND c.status IN ('running', 'pending') AND coder.chat_retry_stands(e) THEN
				retry := e.event || jsonb_build_object('chat_id', c.id);
			END IF;
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
	IF retry IS NOT NULL THEN
		events := events || retry;
	END IF;
	SELECT max(x.id) INTO last_assistant FROM coder.chat_messages x WHERE x.chat_id = c.id AND x.role = 'assistant' AND NOT x.deleted;
	IF last_assistant > coalesce(c.last_read_message_id, 0) AND c.owner_id = coder.subject_id() THEN
		UPDATE coder.chats x SET last_read_message_id = last_assistant WHERE x.id = c.id;
	END IF;
	RETURN coder.reply(101, jsonb_build_object('format', 'wsjson', 'channels', jsonb_build_array('chat:stream:' || c.id),
		'frames', coalesce((SELECT jsonb_agg(f.part ORDER BY f.n) FROM (SELECT w.n, jsonb_agg(w.ev ORDER BY w.i) AS part
			FROM (SELECT CASE WHEN u.size > 3145728 THEN coder.chat_cut_event(u.ev) ELSE u.ev END AS ev, u.i,
					(u.i - 1) / 256 + sum(least(u.size, 3145728)) OVER (ORDER BY u.i) / 786432 AS n
				FROM (SELECT x.ev, x.i, octet_length(x.ev::text) AS size FROM unnest(events) WITH ORDINALITY x (ev, i) OFFSET 0) u) w GROUP BY 1) f), '[]'),
		'cursor', concat_ws('|', seen.message, c.status, queue, c.history_epoch), 'tail', seen.event));
END
$$;
