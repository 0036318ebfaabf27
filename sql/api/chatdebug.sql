-- sql/api/chatdebug.sql -- debug runs of chats: what models were asked and said, written down where somebody has turned it on
--
-- Tables: sql/schema/chat.sql.  Runners write (gateway/chat/debug.c), who may read a chat reads.

-- Does the deployment write down all chats (CODER_CHAT_DEBUG_LOGGING_ENABLED)?
CREATE OR REPLACE FUNCTION coder.chat_debug_forced()
RETURNS bool LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.setting_bool('chat_debug_logging_enabled');
END
$$;

-- May users turn it on for their chats?
CREATE OR REPLACE FUNCTION coder.chat_debug_allowed()
RETURNS bool LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.site_config('agents_chat_debug_logging_allow_users', 'false') = 'true';
END
$$;

-- Has this user turned it on?
CREATE OR REPLACE FUNCTION coder.chat_debug_wanted(uid uuid)
RETURNS bool LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN EXISTS (SELECT FROM coder.user_configs c WHERE c.user_id = uid AND c.key = 'chat_debug_logging_enabled' AND c.value = 'true');
END
$$;

-- Are this user's chats written down?
CREATE OR REPLACE FUNCTION coder.chat_debug_on(uid uuid)
RETURNS bool LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.chat_debug_forced() OR coder.chat_debug_allowed() AND coder.chat_debug_wanted(uid);
END
$$;

-- Writes down how a run stands: {"id", "chat_id", "kind", "status", "provider", "model", "model_config_id"}, and with "step" its step
-- of that number: {"number", "operation", "status", "request", "response", "usage", "attempts", "error",
-- "assistant_message_id"}, of which what is missing stays as it was.
CREATE OR REPLACE FUNCTION coder.chat_debug_note(note jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	run CONSTANT uuid := note->>'id';
	chat CONSTANT uuid := note->>'chat_id';
	s CONSTANT jsonb := note->'step';
	over CONSTANT bool := note->>'status' <> 'in_progress';
	tip CONSTANT bigint := (SELECT max(m.id) FROM coder.chat_messages m WHERE m.chat_id = chat AND NOT m.deleted);
BEGIN
	INSERT INTO coder.chat_debug_runs AS r (id, chat_id, root_chat_id, parent_chat_id, model_config_id, trigger_message_id, history_tip_message_id,
		kind, status, provider, model)
	SELECT run, c.id, c.root_chat_id, c.parent_chat_id, (note->>'model_config_id')::uuid, (SELECT max(m.id) FROM coder.chat_messages m
			WHERE m.chat_id = c.id AND m.role = 'user' AND NOT m.deleted AND m.visibility <> 'model'), tip, note->>'kind', note->>'status', note->>'provider', note->>'model'
	  FROM coder.chats c WHERE c.id = chat
	ON CONFLICT (id) DO UPDATE SET status = excluded.status, updated_at = clock_timestamp(), finished_at = CASE WHEN over THEN clock_timestamp() END,
		summary = CASE WHEN over THEN (SELECT jsonb_build_object('steps', count(*), 'failed_attempts', coalesce(sum(jsonb_array_length(x.attempts)), 0),
			'input_tokens', coalesce(sum((x.usage->>'input_tokens')::bigint), 0), 'output_tokens', coalesce(sum((x.usage->>'output_tokens')::bigint), 0))
			FROM coder.chat_debug_steps x WHERE x.run_id = run) ELSE r.summary END;
	IF s IS NULL THEN
		RETURN;
	END IF;
	INSERT INTO coder.chat_debug_steps AS x (run_id, chat_id, step_number, operation, status, history_tip_message_id, normalized_request)
	SELECT r.id, r.chat_id, (s->>'number')::int4, coalesce(s->>'operation', 'stream'), coalesce(s->>'status', 'in_progress'), tip, coalesce(s->'request', '{}')
	  FROM coder.chat_debug_runs r WHERE r.id = run
	ON CONFLICT (run_id, step_number) DO UPDATE SET status = coalesce(s->>'status', x.status), updated_at = clock_timestamp(),
		finished_at = CASE WHEN coalesce(s->>'status', x.status) <> 'in_progress' THEN coalesce(x.finished_at, clock_timestamp()) END,
		normalized_response = coalesce(s->'response', x.normalized_response), usage = coalesce(s->'usage', x.usage),
		attempts = coalesce(s->'attempts', x.attempts), error = coalesce(s->'error', x.error),
		assistant_message_id = coalesce((s->>'assistant_message_id')::bigint, x.assistant_message_id);
END
$$;

-- Runs that nobody goes on with are interrupted, those that are older than their retention go.  Called by coder.chat_purge().
CREATE OR REPLACE FUNCTION coder.chat_debug_purge(at timestamptz)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	days CONSTANT int4 := CASE WHEN coder.site_config('agents_chat_debug_retention_days', '30') ~ '^[0-9]{1,6}$'
		THEN coder.site_config('agents_chat_debug_retention_days', '30')::int4 ELSE 0 END;
BEGIN
	UPDATE coder.chat_debug_steps s SET status = 'interrupted', finished_at = at, updated_at = at
	  FROM coder.chat_debug_runs r WHERE r.finished_at IS NULL AND r.updated_at < at - interval '1 hour' AND s.run_id = r.id AND s.finished_at IS NULL;
	UPDATE coder.chat_debug_runs r SET status = 'interrupted', finished_at = at, updated_at = at
	 WHERE r.finished_at IS NULL AND r.updated_at < at - interval '1 hour';
	IF days > 0 THEN
		DELETE FROM coder.chat_debug_runs r WHERE r.id IN (SELECT x.id FROM coder.chat_debug_runs x
			WHERE x.started_at < at - make_interval(days => days) LIMIT 1000);
	END IF;
END
$$;

-- ChatDebugRunSummary
CREATE OR REPLACE FUNCTION coder.chat_debug_summary_json(r coder.chat_debug_runs)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_strip_nulls(jsonb_build_object('id', r.id, 'chat_id', r.chat_id, 'kind', r.kind, 'status', r.status, 'provider', r.provider,
		'model', r.model, 'started_at', coder.ts(r.started_at), 'updated_at', coder.ts(r.updated_at), 'finished_at', coder.ts(r.finished_at)))
		|| jsonb_build_object('summary', r.summary);
END
$$;

-- ChatDebugStep
CREATE OR REPLACE FUNCTION coder.chat_debug_step_json(s coder.chat_debug_steps)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('id', s.id, 'run_id', s.run_id, 'chat_id', s.chat_id, 'step_number', s.step_number, 'operation', s.operation,
			'status', s.status, 'normalized_request', s.normalized_request, 'attempts', s.attempts, 'metadata', s.metadata,
			'started_at', coder.ts(s.started_at), 'updated_at', coder.ts(s.updated_at))
		|| coalesce((SELECT jsonb_object_agg(k.key, k.value) FROM jsonb_each(jsonb_build_object('history_tip_message_id', s.history_tip_message_id,
			'assistant_message_id', s.assistant_message_id, 'normalized_response', s.normalized_response, 'usage', s.usage, 'error', s.error,
			'finished_at', coder.ts(s.finished_at))) k WHERE k.value <> 'null'), '{}');
END
$$;

-- GET /chats/{chat}/debug/runs: the latest hundred, newest first
CREATE OR REPLACE FUNCTION coder.chat_debug_runs_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c CONSTANT coder.chats := coder.param_chat(req, 'read');
BEGIN
	RETURN coder.reply(200, coalesce((SELECT jsonb_agg(coder.chat_debug_summary_json(x) ORDER BY x.started_at DESC, x.id)
		FROM (SELECT r.* FROM coder.chat_debug_runs r WHERE r.chat_id = c.id ORDER BY r.started_at DESC LIMIT 100) x), '[]'));
END
$$;

-- GET /chats/{chat}/debug/runs/{debugRun}: with its steps
CREATE OR REPLACE FUNCTION coder.chat_debug_run_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c CONSTANT coder.chats := coder.param_chat(req, 'read');
	r coder.chat_debug_runs;
BEGIN
	SELECT x.* INTO r FROM coder.chat_debug_runs x WHERE x.chat_id = c.id AND x.id = coder.param_uuid(req, 'debugRun');
	IF NOT FOUND THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN coder.reply(200, coder.chat_debug_summary_json(r)
		|| jsonb_strip_nulls(jsonb_build_object('root_chat_id', r.root_chat_id, 'parent_chat_id', r.parent_chat_id, 'model_config_id', r.model_config_id,
			'trigger_message_id', r.trigger_message_id, 'history_tip_message_id', r.history_tip_message_id))
		|| jsonb_build_object('steps', coalesce((SELECT jsonb_agg(coder.chat_debug_step_json(s) ORDER BY s.step_number)
			FROM coder.chat_debug_steps s WHERE s.run_id = r.id), '[]')));
END
$$;

-- GET and PUT /chats/config/debug-logging: may users turn it on?
CREATE OR REPLACE FUNCTION coder.chat_debug_site(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body jsonb;
BEGIN
	PERFORM coder.chat_gate();
	PERFORM coder.require(CASE req.method WHEN 'GET' THEN 'read' ELSE 'update' END, 'deployment_config');
	IF req.method = 'GET' THEN
		RETURN coder.reply(200, jsonb_build_object('allow_users', coder.chat_debug_allowed(), 'forced_by_deployment', coder.chat_debug_forced()));
	END IF;
	body := coder.body(req);
	PERFORM coder.body_type(body, 'allow_users', 'boolean');
	IF coder.chat_debug_forced() THEN
		PERFORM coder.raise(409, 'Debug logging is already forced on by deployment configuration.');
	END IF;
	PERFORM coder.site_config_set('agents_chat_debug_logging_allow_users', coalesce((body->>'allow_users')::bool, false)::text);
	RETURN coder.reply(204);
END
$$;

-- GET and PUT /chats/config/user-debug-logging: the caller's own chats
CREATE OR REPLACE FUNCTION coder.chat_debug_own(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	forced CONSTANT bool := coder.chat_debug_forced();
	allowed CONSTANT bool := coder.chat_debug_allowed();
	body jsonb;
BEGIN
	PERFORM coder.chat_gate();
	IF req.method = 'GET' THEN
		RETURN coder.reply(200, jsonb_build_object('debug_logging_enabled', coder.chat_debug_on(coder.subject_id()),
			'user_toggle_allowed', allowed AND NOT forced, 'forced_by_deployment', forced));
	END IF;
	body := coder.body(req);
	PERFORM coder.body_type(body, 'debug_logging_enabled', 'boolean');
	IF forced THEN
		PERFORM coder.raise(409, 'Debug logging is already forced on by deployment configuration.');
	ELSIF NOT allowed THEN
		PERFORM coder.raise(403, 'An administrator has not enabled user-controlled debug logging.');
	END IF;
	INSERT INTO coder.user_configs (user_id, key, value)
	VALUES (coder.subject_id(), 'chat_debug_logging_enabled', coalesce((body->>'debug_logging_enabled')::bool, false)::text)
	ON CONFLICT (user_id, key) DO UPDATE SET value = excluded.value;
	RETURN coder.reply(204);
END
$$;

-- GET and PUT /chats/config/debug-retention-days; 0: for ever
CREATE OR REPLACE FUNCTION coder.chat_debug_retention(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body jsonb;
	n numeric;
BEGIN
	PERFORM coder.chat_gate();
	IF req.method = 'GET' THEN
		RETURN coder.reply(200, jsonb_build_object('debug_retention_days', coder.site_config('agents_chat_debug_retention_days', '30')::int4));
	END IF;
	PERFORM coder.require('update', 'deployment_config');
	body := coder.body(req);
	PERFORM coder.body_type(body, 'debug_retention_days', 'number');
	n := coalesce((body->>'debug_retention_days')::numeric, 0);
	IF n <> trunc(n) OR n < 0 OR n > 3650 THEN
		PERFORM coder.raise(400, 'Debug retention days must be between 0 and 3650.');
	END IF;
	PERFORM coder.site_config_set('agents_chat_debug_retention_days', n::int4::text);
	RETURN coder.reply(204);
END
$$;

DELETE FROM coder.routes WHERE area = 'chatdebug';
INSERT INTO coder.routes (area, method, pattern, function, auth, raw_body, max_body, rate, read_only) VALUES
	('chatdebug', 'GET', '/api/experimental/chats/{chat}/debug/runs', 'chat_debug_runs_list', 'session', false, 0, 'api', true),
	('chatdebug', 'GET', '/api/experimental/chats/{chat}/debug/runs/{debugRun}', 'chat_debug_run_get', 'session', false, 0, 'api', true),
	('chatdebug', 'GET', '/api/experimental/chats/config/debug-logging', 'chat_debug_site', 'session', false, 0, 'api', true),
	('chatdebug', 'PUT', '/api/experimental/chats/config/debug-logging', 'chat_debug_site', 'session', false, 4096, 'api', false),
	('chatdebug', 'GET', '/api/experimental/chats/config/user-debug-logging', 'chat_debug_own', 'session', false, 0, 'api', true),
	('chatdebug', 'PUT', '/api/experimental/chats/config/user-debug-logging', 'chat_debug_own', 'session', false, 4096, 'api', false),
	('chatdebug', 'GET', '/api/experimental/chats/config/debug-retention-days', 'chat_debug_retention', 'session', false, 0, 'api', true),
	('chatdebug', 'PUT', '/api/experimental/chats/config/debug-retention-days', 'chat_debug_retention', 'session', false, 4096, 'api', false);
