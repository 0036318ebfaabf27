-- chat.sql -- chats: configuration, creation in the order of its checks, messages, queue, streams, runs, cost and limits
BEGIN;
\i api.psql
SELECT no_plan();

CREATE TEMP TABLE v (k text PRIMARY KEY, j jsonb);
CREATE TEMP TABLE token (name text PRIMARY KEY, t text);
GRANT ALL ON v, token TO PUBLIC;
-- one request below /api/experimental/chats, of which the body is kept under a name; "status message"
CREATE FUNCTION public.go(name text, who text, method text, path text, body jsonb DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	a record;
BEGIN
	SELECT * INTO a FROM api(method, '/api/experimental/chats' || path, body, (SELECT t FROM token x WHERE x.name = who));
	INSERT INTO v VALUES (go.name, coalesce(a.body_, '{}')) ON CONFLICT (k) DO UPDATE SET j = excluded.j;
	RETURN a.status || CASE WHEN jsonb_typeof(a.body_->'message') = 'string' THEN ' ' || (a.body_->>'message') ELSE '' END;
END
$$;
CREATE FUNCTION public.v(name text, VARIADIC path text[] DEFAULT '{}') RETURNS text LANGUAGE sql AS
	$$ SELECT CASE WHEN cardinality(path) = 0 THEN j::text ELSE j #>> path END FROM v WHERE k = name $$;
CREATE FUNCTION public.said(text) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_array(jsonb_build_object('type', 'text', 'text', $1)) $$;

SELECT coder.seed();
INSERT INTO token VALUES ('ada', token_of('ada')), ('bob', token_of('bob')), ('eve', token_of('eve', '{agents-access}'));
SELECT id AS org FROM coder.organizations WHERE is_default \gset
INSERT INTO coder.organizations (name, display_name) VALUES ('other', 'Other') RETURNING id AS other \gset

SELECT is(go('x', 'ada', 'GET', ''), '403 Agents functionality requires enabling the ''agents'' experiment.', 'chats are an experiment');
INSERT INTO coder.settings VALUES ('experiments', 'agents') ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- creation: checks in the order of the API (chats.md 4.1), membership from the subject (19)
SELECT is(go('x', 'bob', 'POST', '', '{}'), '403 Forbidden.', 'without agents-access, before any other check');
SELECT is(go('x', 'eve', 'POST', '', '{"content": []}'), '400 organization_id is required.', 'an organization is needed');
SELECT is(go('x', 'eve', 'POST', '', '{"organization_id": "00000000-0000-0000-0000-000000000000"}'), '400 organization_id is required.', 'and not none');
SELECT is(go('x', 'eve', 'POST', '', jsonb_build_object('organization_id', :'other')), '403 You are not a member of the specified organization.', 'of which one is a member');
SELECT is(go('x', 'ada', 'POST', '', jsonb_build_object('organization_id', :'other')), '403 You are not a member of the specified organization.', 'also an owner');
SELECT is(go('x', 'eve', 'POST', '', jsonb_build_object('organization_id', gen_random_uuid())), '403 You are not a member of the specified organization.', 'an unknown one is no other');
SELECT is(go('x', 'eve', 'POST', '', jsonb_build_object('organization_id', :'org', 'system_prompt', repeat('x', 10001))), '400 System prompt exceeds maximum length.', 'a long prompt');
SELECT is(go('x', 'eve', 'POST', '', jsonb_build_object('organization_id', :'org')), '400 Content is required.', 'content is needed');
SELECT is(go('x', 'eve', 'POST', '', jsonb_build_object('organization_id', :'org', 'content', said(E' \n'))), '400 Invalid input part.', 'with text in it');
SELECT is(v('x', 'detail'), 'content[0].text cannot be empty.', 'as is told');
SELECT is(go('x', 'eve', 'POST', '', jsonb_build_object('organization_id', :'org', 'content', '[{"type": "text", "text": "a"}, {"type": "file"}]'::jsonb)), '400 Invalid input part.', 'a file has an id');
SELECT is(v('x', 'detail'), 'content[1].file_id is required for file parts.', 'as is told');
SELECT is(go('x', 'eve', 'POST', '', jsonb_build_object('organization_id', :'org', 'content', jsonb_build_array(jsonb_build_object('type', 'file', 'file_id', gen_random_uuid())))), '400 Invalid input part.', 'of a file');
SELECT is(go('x', 'eve', 'POST', '', jsonb_build_object('organization_id', :'org', 'content', '[{"type": "file-reference"}]'::jsonb)), '400 Invalid input part.', 'a reference names one');
SELECT is(go('x', 'eve', 'POST', '', jsonb_build_object('organization_id', :'org', 'content', '[{"type": "video"}]'::jsonb)), '400 Invalid input part.', 'nothing else');
SELECT is(go('x', 'eve', 'POST', '', jsonb_build_object('organization_id', :'org', 'content', said('a'), 'workspace_id', gen_random_uuid())),
	'400 Workspace not found or you do not have access to this resource', 'a workspace that is none');
INSERT INTO coder.templates (id, organization_id, name, provisioner, active_version_id, created_by)
SELECT '00000000-0000-4000-8000-0000000000d1', :'other', 't', 'terraform', '00000000-0000-4000-8000-0000000000d2', id FROM coder.users WHERE username = 'ada';
INSERT INTO coder.workspaces (id, owner_id, organization_id, template_id, name)
SELECT '00000000-0000-4000-8000-0000000000d3', id, :'other', '00000000-0000-4000-8000-0000000000d1', 'w' FROM coder.users WHERE username = 'ada';
SELECT is(go('x', 'eve', 'POST', '', jsonb_build_object('organization_id', :'org', 'content', said('a'), 'workspace_id', '00000000-0000-4000-8000-0000000000d3')),
	'400 Workspace not found or you do not have access to this resource', 'a workspace of somebody else');
SELECT is(go('x', 'ada', 'POST', '', jsonb_build_object('organization_id', :'org', 'content', said('a'), 'workspace_id', '00000000-0000-4000-8000-0000000000d3')),
	'400 Workspace does not belong to the specified organization.', 'a workspace of another organization');
UPDATE coder.users SET rbac_roles = rbac_roles || '{a-role-that-is-gone}' WHERE username = 'eve';
SELECT is(go('x', 'eve', 'POST', '', jsonb_build_object('organization_id', :'other', 'content', said('a'))), '403 You are not a member of the specified organization.', 'a role that is gone gives nothing');
SELECT is(go('x', 'eve', 'POST', '', jsonb_build_object('organization_id', :'org', 'content', '[]'::jsonb)), '400 Content is required.', 'and takes nothing');
UPDATE coder.users SET rbac_roles = array_remove(rbac_roles, 'a-role-that-is-gone') WHERE username = 'eve';
SELECT is(go('x', 'eve', 'POST', '', jsonb_build_object('organization_id', :'org', 'content', said('a'))), '400 No default chat model config is configured.', 'no model yet');
SELECT is(go('x', 'eve', 'POST', '', jsonb_build_object('organization_id', :'org', 'content', said('a'), 'model_config_id', '00000000-0000-0000-0000-000000000000')), '400 Invalid model config ID.', 'the nil model');

-- providers and models
SELECT is(go('p', 'eve', 'GET', '/providers'), '403 Forbidden.', 'providers are for administrators');
SELECT is(go('p', 'ada', 'POST', '/providers', '{"provider": "nope"}'), '400 Invalid provider.', 'of a known kind');
SELECT is(go('p', 'ada', 'POST', '/providers', '{"provider": "openai-compat"}'), '400 API key is required when central API key is enabled.', 'with a key');
SELECT is(go('p', 'ada', 'POST', '/providers', '{"provider": "bedrock", "enabled": false}'), '201', 'but for AWS, which gives machines theirs');
SELECT is(coder.chat_key_missing(p, NULL), NULL, 'there is a key then') FROM coder.chat_providers p WHERE p.provider = 'bedrock';
SELECT is(coder.chat_run_provider(p)->>'ambient', 'true', 'that runners look for') FROM coder.chat_providers p WHERE p.provider = 'bedrock';
UPDATE coder.chat_providers SET central_api_key_enabled = false, allow_user_api_key = true WHERE provider = 'bedrock';
SELECT is(coder.chat_key_missing(p, NULL), 'user_api_key_required', 'unless users bring theirs') FROM coder.chat_providers p WHERE p.provider = 'bedrock';
SELECT is(coder.chat_run_provider(p)->>'ambient', 'false', 'and runners look for none') FROM coder.chat_providers p WHERE p.provider = 'bedrock';
DELETE FROM coder.chat_providers WHERE provider = 'bedrock';
SELECT is(go('p', 'ada', 'POST', '/providers', '{"provider": "openai-compat", "api_key": "k", "base_url": "x"}'), '400 Invalid provider base URL.', 'at an address');
SELECT is(go('p', 'ada', 'POST', '/providers', '{"provider": "openai-compat", "api_key": "k", "allow_central_api_key_fallback": true}'), '400 Invalid credential policy.', 'a fallback needs both kinds of keys');
SELECT is(go('p', 'ada', 'POST', '/providers', jsonb_build_object('provider', 'openai-compat', 'api_key', repeat('k', 10241))), '400 API key too large.', 'a key has a limit');
SELECT is(go('p', 'ada', 'POST', '/providers', '{"provider": "openai-compat", "api_key": "secret-key", "base_url": "http://127.0.0.1:1/v1"}'), '201', 'a provider');
SELECT unalike(v('p'), '%secret-key%', 'whose key is not told');
SELECT is(go('x', 'ada', 'POST', '/providers', '{"provider": "openai-compat", "api_key": "k"}'), '409 Chat provider already exists.', 'once');
SELECT is(go('m', 'ada', 'POST', '/model-configs', '{"provider": "openai-compat", "model": "m1"}'), '400 Context limit is required.', 'a model has a limit');
SELECT is(go('m', 'ada', 'POST', '/model-configs', '{"provider": "openai-compat", "model": "m1", "context_limit": 100, "model_config": {"cost": {"input_price_per_million_tokens": "-1"}}}'), '400 Invalid model config.', 'no negative price');
SELECT is(go('m', 'ada', 'POST', '/model-configs', '{"provider": "openai", "model": "m1", "context_limit": 100}'), '400 Chat provider is not configured.', 'of a provider that there is');
SELECT is(go('m', 'ada', 'POST', '/model-configs', '{"provider": "openai-compat", "model": "m1", "context_limit": 100, "model_config": {"cost": {"input_price_per_million_tokens": "2", "output_price_per_million_tokens": "8.5"}}}'), '201', 'a model');
SELECT is(v('m', 'is_default'), 'true', 'the first is the default');
SELECT is(go('m2', 'ada', 'POST', '/model-configs', '{"provider": "openai-compat", "model": "m2", "context_limit": 100, "is_default": true}'), '201', 'another takes its place');
SELECT is((SELECT count(*) FROM coder.chat_model_configs WHERE is_default), 1::bigint, 'there is one default');
SELECT is(go('x', 'ada', 'PATCH', '/model-configs/' || v('m2', 'id'), '{"is_default": false}'), '200', 'which it may leave');
SELECT is((SELECT model FROM coder.chat_model_configs WHERE is_default), 'm1', 'to the first one');
SELECT is(go('x', 'ada', 'DELETE', '/model-configs/' || v('m2', 'id')), '204', 'a model is deleted');
SELECT is(go('x', 'eve', 'GET', '/model-configs'), '200', 'users see models');
SELECT is((SELECT jsonb_array_length(j) FROM v WHERE k = 'x'), 1, 'that are left');
SELECT is(go('x', 'eve', 'GET', '/models'), '200', 'and the catalogue');
SELECT is(v('x', 'providers', '0', 'available'), 'true', 'with what can be used');

-- files as models read them
SELECT is(coder.chat_file_text('one Ä € 😀'::bytea), 'one Ä € 😀', 'UTF-8');
SELECT is(coder.chat_file_text('\x61e462'), 'aäb', 'Latin-1');
SELECT is(coder.chat_file_text('\x61006200'), E'a\uFFFDb\uFFFD', 'without U+0000');
SELECT is(length(coder.chat_file_text(convert_to(repeat('x', 131070) || '€€', 'UTF8'))), 131070, 'whole characters only');
SELECT is(coder.chat_file_text(''), '', 'nothing');

-- creation
SELECT is(go('x', 'eve', 'POST', '', jsonb_build_object('organization_id', :'org', 'content', said('a'), 'model_config_id', gen_random_uuid())), '400 Invalid model config ID.', 'an unknown model');
SELECT is(go('x', 'eve', 'POST', '', jsonb_build_object('organization_id', :'org', 'content', said('a'), 'mcp_server_ids', jsonb_build_array(gen_random_uuid()))), '400 One or more MCP server IDs are invalid.', 'an unknown server');
SELECT is(go('x', 'eve', 'POST', '', jsonb_build_object('organization_id', :'org', 'content', said('a'), 'labels', '{"bad key!": "v"}'::jsonb)), '400 Invalid labels.', 'labels have letters');
SELECT is(go('x', 'eve', 'POST', '', jsonb_build_object('organization_id', :'org', 'content', said('a'), 'unsafe_dynamic_tools', '[{"name": "t"}, {"name": "t"}]'::jsonb)), '400 Duplicate dynamic tool name.', 'tools have names of their own');
SELECT is(go('c', 'eve', 'POST', '', jsonb_build_object('organization_id', :'org', 'content', said('one two three four five six seven'), 'labels', '{"k": "v"}'::jsonb)), '201', 'a chat');
SELECT is(v('c', 'title'), 'one two three four five six…', 'is called by its first words');
SELECT is(v('c', 'status'), 'pending', 'and waits for a runner');
SELECT is((SELECT array_agg(role || ':' || visibility ORDER BY id) FROM coder.chat_messages), '{user:both}', 'with what the user said');
SELECT is((SELECT array_agg(m->>'role') FROM jsonb_array_elements(coder.chat_history(v('c', 'id')::uuid)) m), '{system,system,user}', 'it is told things first, which users do not see');
SELECT is((SELECT count(*) FROM coder.chats), 1::bigint, 'what was refused left nothing');

-- The way in C and the function in SQL, which a blank prompt of one's own takes, write and answer the same.
SAVEPOINT two_ways;
CREATE TEMP TABLE written (way text, n int, row jsonb);
CREATE FUNCTION public.write_twice(n int, more jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	org CONSTANT uuid := (SELECT id FROM coder.organizations WHERE is_default);
	way text;
BEGIN
	FOREACH way IN ARRAY ARRAY['fast', 'slow'] LOOP
		DELETE FROM coder.events;
		IF go(way, 'ada', 'POST', '', more || jsonb_build_object('organization_id', org) || CASE way WHEN 'slow' THEN '{"system_prompt": " "}' ELSE '{}' END::jsonb) <> '201' THEN
			RETURN v(way);
		END IF;
		INSERT INTO written
		SELECT way, n, v(way)::jsonb - '{id,root_chat_id,created_at,updated_at}'::text[]
		UNION ALL SELECT way, n, to_jsonb(c) - '{id,created_at,updated_at}'::text[] FROM coder.chats c WHERE c.id = v(way, 'id')::uuid
		UNION ALL SELECT way, n, to_jsonb(m) - '{id,chat_id,created_at}'::text[] FROM coder.chat_messages m WHERE m.chat_id = v(way, 'id')::uuid
		UNION ALL SELECT way, n, jsonb_build_object('channel', e.channel, 'payload', coalesce(nullif(e.payload, '')::jsonb, '{}')
			#- '{chat,id}' #- '{chat,root_chat_id}' #- '{chat,created_at}' #- '{chat,updated_at}') FROM coder.events e;
	END LOOP;
	RETURN 'written';
END
$$;
SELECT is(write_twice(1, jsonb_build_object('content', said('hello'))), 'written', 'a word');
SELECT is(write_twice(2, jsonb_build_object('content', said(E' \n one two three\tfour  five six seven \u2028\r\n') || said('<b> "quoted" \ &'))), 'written', 'more, in two parts');
SELECT is(write_twice(3, jsonb_build_object('content', said(repeat('ä', 100)), 'labels', '{"k": "v", "a/b": "c d"}'::jsonb)), 'written', 'a long word, with labels');
SELECT is(write_twice(4, jsonb_build_object('content', said('a b c d e ' || repeat('é', 90) || ' g'), 'labels', '{}'::jsonb, 'mcp_server_ids', '[]'::jsonb, 'workspace_id', NULL)), 'written', 'words, with empty members');
SELECT is(write_twice(5, jsonb_build_object('content', said('m'), 'model_config_id', (SELECT id FROM coder.chat_model_configs ORDER BY is_default LIMIT 1))), 'written', 'a model by name');
SELECT is(count(*), 25::bigint, 'each way left the same') FROM (SELECT n, row FROM written WHERE way = 'fast' INTERSECT ALL SELECT n, row FROM written WHERE way = 'slow') x;
SELECT is((SELECT count(*) FROM written), 50::bigint, 'and nothing else');
SELECT is(go('x', 'ada', 'POST', '', jsonb_build_object('organization_id', :'org', 'content', said('a'), 'model_config_id', gen_random_uuid())), '400 Invalid model config ID.', 'an unknown model is refused');
UPDATE coder.settings SET value = '' WHERE name = 'experiments';
SELECT is(go('x', 'ada', 'POST', '', jsonb_build_object('organization_id', :'org', 'content', said('a'))), '403 Agents functionality requires enabling the ''agents'' experiment.', 'nothing goes around the experiment');
UPDATE coder.settings SET value = 'agents' WHERE name = 'experiments';

-- What chats are told is kept once, and each goes on with what it was told.
SELECT is((SELECT count(*) FROM coder.chat_prompts), 1::bigint, 'all were told the same');
INSERT INTO coder.site_configs (key, value) VALUES ('agents_chat_include_default_system_prompt', 'true'), ('agents_chat_system_prompt', 'Be brief.')
	ON CONFLICT (key) DO UPDATE SET value = excluded.value;
SELECT is(go('c3', 'ada', 'POST', '', jsonb_build_object('organization_id', :'org', 'content', said('a'))), '201', 'a chat behind a change of the prompt');
SELECT ok(coder.chat_history(v('c3', 'id')::uuid)->0->'content'->0->>'text' ~ 'Be brief\.$', 'is told the new one');
SELECT ok(coder.chat_history(v('fast', 'id')::uuid)->0->'content'->0->>'text' !~ 'Be brief', 'those before it stay with theirs');
SELECT is((SELECT count(*) FROM coder.chat_prompts), 2::bigint, 'there are two by now');
SELECT throws_ok($$UPDATE coder.chat_prompts SET texts = '{}'$$, '23001', NULL, 'what chats were told cannot be changed');
SELECT throws_ok('DELETE FROM coder.chat_prompts', '23001', NULL, 'or removed');
SELECT throws_ok(format('UPDATE coder.chats SET prompt_id = 999999 WHERE id = %L', v('c3', 'id')), '23503', NULL, 'a chat is told what is there');
ROLLBACK TO two_ways;
SELECT is(go('c3', 'ada', 'POST', '', jsonb_build_object('organization_id', :'org', 'content', said('a'))), '201', 'a chat behind prompts that were rolled back');
SELECT is(jsonb_array_length(coder.chat_history(v('c3', 'id')::uuid)), 3, 'is told its own');
DELETE FROM coder.chats WHERE id = v('c3', 'id')::uuid;
DELETE FROM coder.events;
DELETE FROM coder.organization_members WHERE user_id = (SELECT id FROM coder.users WHERE username = 'eve');
SELECT is(go('x', 'eve', 'POST', '', jsonb_build_object('organization_id', :'org', 'content', said('a'))), '403 You are not a member of the specified organization.', 'one who has left the organization creates no more');
INSERT INTO coder.organization_members (user_id, organization_id) SELECT id, :'org' FROM coder.users WHERE username = 'eve';

-- who sees it
SELECT is(go('x', 'bob', 'GET', '/' || v('c', 'id')), '404 Resource not found or you do not have access to this resource', 'others do not');
SELECT is(go('x', 'ada', 'GET', '/' || v('c', 'id')), '200', 'an owner does');
SELECT is(go('x', 'eve', 'GET', '?label=k:v&q=archived:false'), '200', 'it is found by its label');
SELECT is(v('x', '0', 'id'), v('c', 'id'), 'and shown');
SELECT is(go('x', 'eve', 'GET', '?label=k:w'), '200', 'not by another');
SELECT is(v('x'), '[]', 'as none is');
SELECT is(go('x', 'eve', 'GET', '?label=k'), '400 Invalid label filter: "k" (expected format key:value, both must be non-empty)', 'a label has a value');
SELECT is(go('x', 'eve', 'GET', '?q=bogus'), '400 Invalid chat search query.', 'one can search for archived ones only');

-- the state machine
SELECT v('c', 'id') AS chat \gset
SELECT throws_ok(format($$UPDATE coder.chats SET status = 'error' WHERE id = %L$$, :'chat'), '55000', 'a chat does not go from pending to error', 'what cannot follow does not');
SELECT throws_ok(format($$UPDATE coder.chats SET status = 'running' WHERE id = %L$$, :'chat'), '23514', 'a running chat has a worker', 'none runs without a worker');

-- a run: taken, said, stored, let go
SELECT '11111111-1111-4111-8111-111111111111'::uuid AS worker, '22222222-2222-4222-8222-222222222222'::uuid AS stranger \gset
SELECT is((SELECT array_agg(j->'chat'->>'id') FROM coder.chat_acquire(:'worker', 10) j), ARRAY[:'chat'], 'a worker takes it');
SELECT is((SELECT count(*) FROM coder.chat_acquire(:'stranger', 10)), 0::bigint, 'which none does twice');
SELECT is(coder.chat_heartbeat(:'worker', ARRAY[:'chat'::uuid]), ARRAY[:'chat'::uuid], 'it tells that it has it');
SELECT is(coder.chat_heartbeat(:'stranger', ARRAY[:'chat'::uuid]), '{}', 'a stranger has not');
SELECT is(jsonb_array_length(coder.chat_history(:'chat')), 3, 'what the model is told');
-- Says these texts in one call; what its event tells: "BEFORE LAST FRAME".
CREATE FUNCTION pg_temp.say(chat uuid, VARIADIC texts text[]) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM coder.chat_say(jsonb_build_array(jsonb_build_object('chat', chat, 'events', (SELECT jsonb_agg(jsonb_build_object('type', 'message_part',
		'message_part', jsonb_build_object('role', 'assistant', 'part', jsonb_build_object('type', 'text', 'text', t))) ORDER BY n) FROM unnest(texts) WITH ORDINALITY u (t, n)))));
	RETURN (SELECT substr(e.payload, 6) FROM coder.events e WHERE e.channel = 'chat:stream:' || chat ORDER BY e.seq DESC LIMIT 1);
END
$$;
CREATE FUNCTION pg_temp.last_row(chat uuid) RETURNS int8 LANGUAGE sql AS 'SELECT coalesce(max(seq), 0) FROM coder.chat_stream_events WHERE chat_id = $1';
SELECT is(split_part(pg_temp.say(:'chat', 'se'), ' ', 1), '0', 'parts are said: nothing was before them');
SELECT pg_temp.last_row(:'chat') AS before \gset
SELECT pg_temp.say(:'chat', 've', E'n <&> "\u00fc"\n') AS said \gset
SELECT is(split_part(:'said', ' ', 1), :'before', 'the next follow them');
SELECT is(split_part(:'said', ' ', 2), pg_temp.last_row(:'chat')::text, 'up to the last of them');
SELECT is(substr(:'said', length(split_part(:'said', ' ', 1) || split_part(:'said', ' ', 2)) + 3)::jsonb, jsonb_build_array(
	jsonb_build_object('type', 'message_part', 'chat_id', :'chat', 'message_part', '{"role": "assistant", "part": {"type": "text", "text": "ve"}}'::jsonb),
	jsonb_build_object('type', 'message_part', 'chat_id', :'chat', 'message_part', jsonb_build_object('role', 'assistant', 'part', jsonb_build_object('type', 'text', 'text', E'n <&> "\u00fc"\n')))),
	'as streams send them');
SELECT is(pg_temp.say(:'chat', repeat('x', 7000)), '', 'what is long is read from the table');
SELECT is(pg_temp.last_row(:'chat'), (SELECT max(seq) FROM coder.chat_stream_events), 'where it is');
DELETE FROM coder.chat_stream_events WHERE seq > :before;
SELECT throws_ok(format('SELECT coder.chat_say(%L)', v), 'XX000', NULL, 'no words: ' || v) FROM unnest(ARRAY['[1]', '[{}]', '[{"chat": 1, "events": []}]',
	'[{"chat": "11111111-1111-4111-8111-111111111111"}]', '[{"chat": "11111111-1111-4111-8111-111111111111", "events": [1]}]',
	'[{"chat": "11111111-1111-4111-8111-111111111111", "events": [{}]}]']) v;
SELECT lives_ok(format('SELECT coder.chat_say(%L)', v), 'nothing: ' || v) FROM unnest(ARRAY['[]', '{}', '[{"chat": "11111111-1111-4111-8111-111111111111", "events": []}]']) v;
SELECT is(coder.chat_step(:'stranger', :'chat', v('m', 'id')::uuid, '[{"role": "assistant", "content": []}]'), NULL, 'a stranger stores nothing');
SELECT is(cardinality(coder.chat_step(:'worker', :'chat', v('m', 'id')::uuid, jsonb_build_array(jsonb_build_object('role', 'assistant', 'content', said('seven six'),
	'usage', '{"input_tokens": 10, "output_tokens": 3, "total_tokens": 13}'::jsonb, 'context_limit', 100, 'runtime_ms', 5)))), 1, 'a step is stored');
SELECT is((SELECT total_cost_micros FROM coder.chat_messages ORDER BY id DESC LIMIT 1), 46::bigint, 'at 10 * 2 + 3 * 8.5, rounded up');

-- a stream that comes in the middle, and one that was there
SELECT is(go('s', 'eve', 'GET', '/' || :'chat' || '/stream?after_id=x'), '400 Invalid after_id parameter.', 'a stream begins behind a message');
SELECT is(go('s', 'eve', 'GET', '/' || :'chat' || '/stream'), '101', 'a stream');
SELECT is((SELECT string_agg(e->>'type', ' ' ORDER BY n) FROM v, jsonb_array_elements(j->'frames'->0) WITH ORDINALITY x (e, n) WHERE k = 's'),
	'status message_part message message', 'begins with status, parts in flight, messages');
SELECT is(coder.chat_finish(:'stranger', :'chat', 'waiting'), NULL, 'a stranger ends nothing');
SELECT is(coder.chat_finish(:'worker', :'chat', 'waiting')::text, 'waiting', 'the turn is over');
SELECT is((SELECT string_agg(e->>'type' || coalesce(':' || (e->'status'->>'status'), ''), ' ' ORDER BY n)
	FROM api('GET', '/api/experimental/chats/' || :'chat' || '/stream', NULL, (SELECT t FROM token WHERE name = 'eve'), cursor => v('s', 'cursor') || '|' || v('s', 'tail')) a,
		jsonb_array_elements(a.body_->'frames'->0) WITH ORDINALITY x (e, n)), 'status:waiting', 'a stream goes on where it was');
SELECT is(go('x', 'eve', 'GET', '/' || :'chat' || '/messages'), '200', 'the messages');
SELECT is(v('x', 'messages', '0', 'content', '0', 'text'), 'seven six', 'newest first');
SELECT is(v('x', 'messages', '0', 'usage', 'input_tokens'), '10', 'with what they used');
SELECT is(v('x', 'has_more'), 'false', 'all of them');
SELECT is(go('x', 'eve', 'GET', '/' || :'chat' || '/messages?limit=1'), '200', 'one of them');
SELECT is(v('x', 'has_more'), 'true', 'of more');
SELECT is(go('x', 'eve', 'GET', '/' || :'chat' || '/messages?limit=201'), '400 Invalid limit parameter (1-200).', 'not too many');

-- messages, the queue
SELECT is(go('x', 'eve', 'POST', '/' || :'chat' || '/messages', jsonb_build_object('content', said('a'), 'busy_behavior', 'nope')), '400 Invalid busy_behavior value.', 'busy_behavior is known');
SELECT is(go('x', 'bob', 'POST', '/' || :'chat' || '/messages', jsonb_build_object('content', said('a'))), '404 Resource not found or you do not have access to this resource', 'others say nothing');
SELECT is(go('x', 'eve', 'POST', '/' || :'chat' || '/messages', jsonb_build_object('content', said('again'))), '200', 'a message');
SELECT is(v('x', 'queued'), 'false', 'is said at once');
SELECT is(go('q1', 'eve', 'POST', '/' || :'chat' || '/messages', jsonb_build_object('content', said('later'))), '200', 'one while it is busy');
SELECT is(v('q1', 'queued'), 'true', 'is queued');
SELECT is(go('q2', 'eve', 'POST', '/' || :'chat' || '/messages', jsonb_build_object('content', said('much later'))), '200', 'another');
SELECT is((SELECT string_agg(go('x', 'eve', 'POST', '/' || :'chat' || '/messages', jsonb_build_object('content', said('n' || i))), ',') FROM generate_series(1, 18) i), rtrim(repeat('200,', 18), ','), 'up to twenty');
SELECT is(go('x', 'eve', 'POST', '/' || :'chat' || '/messages', jsonb_build_object('content', said('too many'))), '429 Message queue is full.', 'no more');
SELECT is(go('x', 'eve', 'DELETE', '/' || :'chat' || '/queue/zz'), '400 Invalid queued message ID.', 'an id is a number');
SELECT is(go('x', 'eve', 'DELETE', '/' || :'chat' || '/queue/999999'), '204', 'deleting what is not there is fine');
SELECT is(go('x', 'eve', 'POST', '/' || :'chat' || '/queue/999999/promote'), '500 Failed to promote queued message.', 'promoting it is not');
DELETE FROM coder.chat_queued_messages WHERE id NOT IN (v('q1', 'queued_message', 'id')::bigint, v('q2', 'queued_message', 'id')::bigint);
SELECT is((SELECT count(*) FROM coder.chat_acquire(:'worker', 10)), 1::bigint, 'it runs again');
SELECT is(coder.chat_finish(:'worker', :'chat', 'waiting')::text, 'pending', 'and goes on with the queue');
SELECT is((SELECT content->0->>'text' FROM coder.chat_messages ORDER BY id DESC LIMIT 1), 'later', 'from its head');
SELECT is(go('x', 'eve', 'POST', '/' || :'chat' || '/queue/' || v('q2', 'queued_message', 'id') || '/promote'), '200', 'one may be preferred');
SELECT is((SELECT count(*) FROM coder.chat_queued_messages), 0::bigint, 'the queue is empty');

-- interrupt
SELECT is(go('x', 'eve', 'POST', '/' || :'chat' || '/interrupt'), '200', 'a pending chat');
SELECT is(v('x', 'status'), 'pending', 'is left to run');
SELECT is((SELECT count(*) FROM coder.chat_acquire(:'worker', 10)), 1::bigint, 'it runs');
SELECT is(go('x', 'eve', 'POST', '/' || :'chat' || '/interrupt'), '200', 'a running one');
SELECT is(v('x', 'status'), 'waiting', 'stops');
SELECT is(coder.chat_heartbeat(:'worker', ARRAY[:'chat'::uuid]), '{}', 'its worker learns it');
SELECT is(cardinality(coder.chat_step(:'worker', :'chat', v('m', 'id')::uuid, jsonb_build_array(jsonb_build_object('role', 'assistant', 'content', said('half'))))), 1, 'and stores what it had');
SELECT is(coder.chat_finish(:'worker', :'chat', 'waiting')::text, 'waiting', 'then lets go');

-- a stream that was busy while a turn ended and the next began: in order, and nothing is passed over
SELECT is(go('x', 'eve', 'POST', '/' || :'chat' || '/messages', jsonb_build_object('content', said('one'))), '200', 'a message');
SELECT count(*) FROM coder.chat_acquire(:'worker', 10) \g /dev/null
SELECT go('s', 'eve', 'GET', '/' || :'chat' || '/stream') \g /dev/null
SELECT is(go('x', 'eve', 'POST', '/' || :'chat' || '/messages', jsonb_build_object('content', said('two'))), '200', 'one for the queue');
SELECT count(coder.chat_step(:'worker', :'chat', v('m', 'id')::uuid, jsonb_build_array(jsonb_build_object('role', 'assistant', 'content', said('one''s answer'))))) \g /dev/null
SELECT coder.chat_finish(:'worker', :'chat', 'waiting') \g /dev/null
SELECT count(*) FROM coder.chat_acquire(:'worker', 10) \g /dev/null
SELECT coder.chat_say(jsonb_build_array(jsonb_build_object('chat', :'chat', 'events', '[{"type": "message_part", "message_part": {"role": "assistant", "part": {"type": "text", "text": "two"}}}]'::jsonb))) \g /dev/null
SELECT is((SELECT string_agg(coalesce(e->'message'->'content'->0->>'text', e->>'type'), ', ' ORDER BY n) FROM api('GET', '/api/experimental/chats/' || :'chat' || '/stream', NULL, (SELECT t FROM token WHERE name = 'eve'), cursor => v('s', 'cursor') || '|' || v('s', 'tail')) a,
	jsonb_array_elements(a.body_->'frames'->0) WITH ORDINALITY x (e, n)), 'one''s answer, two, message_part', 'the answer whose mark is gone, the next question, its first words');
SELECT coder.chat_finish(:'worker', :'chat', 'waiting') \g /dev/null

-- a long history comes in frames that clients can read
SAVEPOINT frames;
INSERT INTO coder.chat_messages (chat_id, role, content) SELECT :'chat', 'assistant', said(repeat(chr(97 + i), 300000)) FROM generate_series(1, 20) i;
INSERT INTO coder.chat_messages (chat_id, role, content) SELECT :'chat', 'assistant', said('short ' || i) FROM generate_series(1, 600) i;
CREATE TEMP TABLE frame AS SELECT f.v, f.n FROM api('GET', '/api/experimental/chats/' || :'chat' || '/stream', NULL, (SELECT t FROM token WHERE name = 'eve')) a,
	jsonb_array_elements(a.body_->'frames') WITH ORDINALITY f (v, n);
SELECT ok(max(octet_length(v::text)) < 2000000 AND max(jsonb_array_length(v)) <= 256, 'none is too large') FROM frame;
SELECT ok(count(*) BETWEEN 6 AND 12, 'but they are few') FROM frame;
SELECT is((SELECT string_agg(e->'message'->>'id', ' ' ORDER BY f.n, x.n) FROM frame f, jsonb_array_elements(f.v) WITH ORDINALITY x (e, n) WHERE e->>'type' = 'message'),
	(SELECT string_agg(m.id::text, ' ' ORDER BY m.id) FROM coder.chat_messages m WHERE m.chat_id = :'chat' AND NOT m.deleted AND m.visibility IN ('user', 'both')), 'all messages are in them, in order');
ROLLBACK TO SAVEPOINT frames;

-- what no client could read is told by its beginning, and kept whole
SAVEPOINT frames;
INSERT INTO coder.chat_messages (chat_id, role, content) SELECT :'chat', 'assistant', x FROM (VALUES (said(repeat('word ', 1000000))), (said(repeat(U&'\0001', 800000))),
	(jsonb_build_array('{"type": "text", "text": "before"}'::jsonb, jsonb_build_object('type', 'tool-result', 'tool_call_id', 'c', 'tool_name', 'execute', 'result',
		jsonb_build_object('exit_code', 0, 'output', repeat('line\n', 1000000))))),
	(jsonb_build_array(jsonb_build_object('type', 'tool-result', 'tool_call_id', 'd', 'tool_name', 'x', 'result', (SELECT jsonb_agg(i) FROM generate_series(1, 700000) i)))),
	((SELECT jsonb_agg(said('part')->0) FROM generate_series(1, 90000)))) m (x);
SELECT max(id) AS last_large FROM coder.chat_messages \gset
CREATE TEMP TABLE large AS SELECT f.v, f.n FROM api('GET', '/api/experimental/chats/' || :'chat' || '/stream', NULL, (SELECT t FROM token WHERE name = 'eve')) a,
	jsonb_array_elements(a.body_->'frames') WITH ORDINALITY f (v, n);
CREATE TEMP TABLE large_message AS SELECT e->'message' AS m, row_number() OVER (ORDER BY (e->'message'->>'id')::int8 DESC) AS n FROM large f, jsonb_array_elements(f.v) e WHERE e->>'type' = 'message';
SELECT ok(max(octet_length(v::text)) < 4000000, 'no frame is larger than clients read') FROM large;
SELECT matches(m->'content'->0->>'text', '^(word )+\n\[… cut: these are 240000 of 5000000 characters; the messages of the chat have all of them\]$', 'a long answer is cut, and says so') FROM large_message WHERE n = 5;
SELECT matches(m->'content'->0->>'text', 'cut: these are 240000 of 800000', 'one that is long as JSON only, too') FROM large_message WHERE n = 4;
SELECT is(m->'content'->0->>'text' || ' ' || (m->'content'->1->>'tool_call_id') || ' ' || (m->'content'->1->'result'->>'exit_code'), 'before c 0', 'a tool''s result keeps its form') FROM large_message WHERE n = 3;
SELECT matches(m->'content'->1->'result'->>'output', 'cut: these are \d+ of \d+', 'and its output is cut') FROM large_message WHERE n = 3;
SELECT matches(m->'content'->0->>'result', '^\[1, 2, .* cut: these are', 'a list is told as the text that it is') FROM large_message WHERE n = 2;
SELECT is(jsonb_array_length(m->'content') || (m->'content'->0->>'text'), '1[… cut: 90000 parts; the messages of the chat have all of them]', 'too many parts are counted') FROM large_message WHERE n = 1;
SELECT is((SELECT sum(length(x->'content'->0->>'text')) FROM api('GET', '/api/experimental/chats/' || :'chat' || '/messages', NULL, (SELECT t FROM token WHERE name = 'eve')) a, jsonb_array_elements(a.body_->'messages') x
	WHERE (x->>'id')::int8 IN (:last_large - 4, :last_large - 3)), 5800000::bigint, 'the messages have all');
SELECT is(coder.chat_cut_event(jsonb_build_object('type', 'queue_update', 'queued_messages', jsonb_build_array(jsonb_build_object('id', 7, 'content', said(repeat('x', 4000000)))))) #>> '{queued_messages,0,id}', '7', 'a queue keeps its messages');
SELECT ok(octet_length(coder.chat_cut_event(jsonb_build_object('type', 'message_part', 'message_part', jsonb_build_object('role', 'tool', 'part', jsonb_build_object('type', 'tool-result', 'result', jsonb_build_object('data', repeat('A', 6000000))))))::text) < 600000, 'a part is cut, too');
ROLLBACK TO SAVEPOINT frames;

-- edit: what followed goes, streams send all again
SELECT go('s', 'eve', 'GET', '/' || :'chat' || '/stream') \g /dev/null
SELECT min(id) AS first_message FROM coder.chat_messages WHERE role = 'user' \gset
SELECT is(go('x', 'eve', 'PATCH', '/' || :'chat' || '/messages/zz', jsonb_build_object('content', said('a'))), '400 Invalid chat message ID.', 'an edited message has a number');
SELECT is(go('x', 'eve', 'PATCH', '/' || :'chat' || '/messages/999999', jsonb_build_object('content', said('a'))), '404 Chat message not found.', 'of this chat');
SELECT is(go('x', 'eve', 'PATCH', '/' || :'chat' || '/messages/' || (SELECT min(id) FROM coder.chat_messages WHERE role = 'assistant'), jsonb_build_object('content', said('a'))), '400 Only user messages can be edited.', 'and is the user''s');
SELECT is(go('x', 'eve', 'PATCH', '/' || :'chat' || '/messages/' || :first_message, jsonb_build_object('content', said('rather this'))), '200', 'an edit');
SELECT is((SELECT count(*) FROM coder.chat_messages WHERE NOT deleted AND visibility = 'both'), 1::bigint, 'makes all that followed go');
SELECT is((SELECT sum(total_cost_micros) FROM coder.chat_messages), 46::numeric, 'but what it cost');
SELECT is((SELECT string_agg(e->>'type', ' ' ORDER BY n) FROM api('GET', '/api/experimental/chats/' || :'chat' || '/stream', NULL, (SELECT t FROM token WHERE name = 'eve'), cursor => v('s', 'cursor') || '|' || v('s', 'tail')) a,
	jsonb_array_elements(a.body_->'frames'->0) WITH ORDINALITY x (e, n)), 'message status', 'a stream sends the new history');

-- tools of the client
SELECT count(*) FROM coder.chat_acquire(:'worker', 10) \g /dev/null
SELECT is(cardinality(coder.chat_step(:'worker', :'chat', v('m', 'id')::uuid, '[{"role": "assistant", "content": [{"type": "tool-call", "tool_call_id": "c1", "tool_name": "t", "args": {"a": 1}}, {"type": "tool-call", "tool_call_id": "c2", "tool_name": "t", "args": {}}]}]')), 1, 'the model calls tools');
SELECT is(go('x', 'eve', 'POST', '/' || :'chat' || '/tool-results', '{"results": []}'), '400 At least one tool result is required.', 'a result at least');
SELECT is(go('x', 'eve', 'POST', '/' || :'chat' || '/tool-results', '{"results": [{"tool_call_id": "c1", "output": 1}]}'), '409 Chat is not waiting for tool results.', 'where one is awaited');
SELECT is(coder.chat_finish(:'worker', :'chat', 'requires_action')::text, 'requires_action', 'which the client is to run');
SELECT is(go('x', 'eve', 'POST', '/' || :'chat' || '/tool-results', '{"results": [{"tool_call_id": "c1", "output": 1}, {"tool_call_id": "c1", "output": 1}]}'), '400 Duplicate tool_call_id in results.', 'each once');
SELECT is(go('x', 'eve', 'POST', '/' || :'chat' || '/tool-results', '{"results": [{"tool_call_id": "c1", "output": 1}]}'), '400 Missing tool result.', 'all of them');
SELECT is(go('x', 'eve', 'POST', '/' || :'chat' || '/tool-results', '{"results": [{"tool_call_id": "c1", "output": 1}, {"tool_call_id": "c2", "output": 1}, {"tool_call_id": "c3", "output": 1}]}'), '400 Unexpected tool result.', 'no others');
SELECT is(go('x', 'eve', 'POST', '/' || :'chat' || '/tool-results', '{"results": [{"tool_call_id": "c1", "output": 1}, {"tool_call_id": "c2"}]}'), '400 Tool result output must be valid JSON.', 'with an output');
SELECT is(go('x', 'eve', 'POST', '/' || :'chat' || '/tool-results', '{"results": [{"tool_call_id": "c1", "output": 1}, {"tool_call_id": "c2", "output": {"b": 2}, "is_error": true}]}'), '204', 'the results');
SELECT is((SELECT status::text FROM coder.chats WHERE id = :'chat'), 'pending', 'let it go on');
SELECT is((SELECT count(*) FROM coder.chat_open_calls(:'chat')), 0::bigint, 'no call is open');

-- a worker that fell silent; a client that did
SELECT count(*) FROM coder.chat_acquire(:'worker', 10) \g /dev/null
SELECT is(coder.chat_recover(clock_timestamp() + interval '5 seconds'), 0, 'a worker may be silent for a while');
SELECT is(coder.chat_recover(clock_timestamp() + interval '11 seconds'), 1, 'not for long, where no connection holds its lock');
SELECT is((SELECT status::text FROM coder.chats WHERE id = :'chat'), 'pending', 'then another takes the chat');
SELECT is(coder.chat_step(:'worker', :'chat', v('m', 'id')::uuid, '[{"role": "assistant", "content": []}]'), NULL, 'and the first stores nothing any more');
SELECT is((SELECT string_agg(e.event->'retry'->>'error', ' ') FROM coder.chat_stream_events e WHERE e.chat_id = :'chat'),
	'The server that was answering has stopped. The answer begins anew.', 'the user is told why it begins anew');
SELECT leased_at AS old_lease FROM coder.chats WHERE id = :'chat' \gset
-- What who connects now is told last.
CREATE FUNCTION public.newest(chat text) RETURNS text LANGUAGE sql AS $$
	SELECT x.e->>'type' FROM api('GET', '/api/experimental/chats/' || chat || '/stream', NULL, (SELECT t FROM token WHERE name = 'eve')) a, jsonb_array_elements(a.body_->'frames') WITH ORDINALITY f (v, n),
		jsonb_array_elements(f.v) WITH ORDINALITY x (e, n) ORDER BY f.n DESC, x.n DESC LIMIT 1 $$;
SELECT is(newest(:'chat'), 'retry', 'also who comes while it waits for another');
UPDATE coder.chat_messages SET created_at = created_at - interval '10 minutes' WHERE chat_id = :'chat';
UPDATE coder.chat_stream_events SET created_at = created_at - interval '5 minutes' WHERE chat_id = :'chat';
SELECT is(newest(:'chat'), 'retry', 'however long that takes');
SELECT count(*) FROM coder.chat_acquire(:'stranger', 10) \g /dev/null
SELECT is((SELECT string_agg(e.event->>'type', ' ') FROM coder.chat_stream_events e WHERE e.chat_id = :'chat'), 'retry', 'also who listens when it is taken again');
SELECT is(newest(:'chat'), 'retry', 'or comes then');
SAVEPOINT newer;
SELECT pg_temp.say(:'chat', 'anew') \g /dev/null
SELECT isnt(newest(:'chat'), 'retry', 'until something is said');
ROLLBACK TO SAVEPOINT newer;
INSERT INTO coder.chat_messages (chat_id, role, content) VALUES (:'chat', 'assistant', said('a step'));
SELECT isnt(newest(:'chat'), 'retry', 'or stored');
ROLLBACK TO SAVEPOINT newer;
SELECT is(coder.chat_step(:'stranger', :'chat', v('m', 'id')::uuid, '[{"role": "assistant", "content": []}]', :'old_lease'), NULL, 'not even the same runner stores for an older lease');
SELECT is(coder.chat_finish(:'stranger', :'chat', 'waiting', NULL, :'old_lease'), NULL, 'or ends the younger');

-- tools that change something, where their runner dies
CREATE FUNCTION public.spawn(chat uuid, worker uuid) RETURNS text LANGUAGE sql AS $$ SELECT coder.chat_tool(worker, chat, 'spawn_agent', '{"prompt": "look"}')->'result'->>'chat_id' $$;
SELECT spawn(:'chat', :'stranger') AS child \gset
SELECT isnt(spawn(:'chat', :'stranger'), :'child', 'who asks for two agents has two');
SELECT coder.chat_recover(clock_timestamp() + interval '11 seconds') \g /dev/null
SELECT count(*) FROM coder.chat_acquire(:'stranger', 10) \g /dev/null
SELECT is(spawn(:'chat', :'stranger'), :'child', 'after a crash it is the same agent');
SELECT isnt(spawn(:'chat', :'stranger'), :'child', 'then the other');
SELECT is((SELECT count(*) FROM coder.chats c WHERE c.parent_chat_id = :'chat'), 2::bigint, 'and no third');
SELECT count(coder.chat_step(:'stranger', :'chat', v('m', 'id')::uuid, '[{"role": "assistant", "content": []}]', c.leased_at)) FROM coder.chats c WHERE c.id = :'chat' \g /dev/null
SELECT isnt(spawn(:'chat', :'stranger'), :'child', 'behind a step that is stored it is another');
SELECT coder.chat_set_status(c.id, 'waiting') FROM coder.chats c WHERE c.parent_chat_id = :'chat' AND c.status IN ('pending', 'running') \g /dev/null
DELETE FROM coder.chats c WHERE c.parent_chat_id = :'chat';

-- a lease that is over, and whose chat waits by now
SELECT leased_at AS old_lease FROM coder.chats WHERE id = :'chat' \gset
SELECT coder.chat_finish(:'stranger', :'chat', 'waiting', NULL, :'old_lease') \g /dev/null
SELECT is(go('x', 'eve', 'POST', '/' || :'chat' || '/messages', jsonb_build_object('content', said('go on'))), '200', 'another message');
SELECT count(*) FROM coder.chat_acquire(:'worker', 10) \g /dev/null
SELECT coder.chat_finish(:'worker', :'chat', 'waiting') \g /dev/null
SELECT is(coder.chat_step(:'stranger', :'chat', v('m', 'id')::uuid, '[{"role": "assistant", "content": []}]', :'old_lease'), NULL, 'who comes a turn too late stores nothing');
SELECT is(go('x', 'eve', 'POST', '/' || :'chat' || '/messages', jsonb_build_object('content', said('and on'))), '200', 'one more');
SELECT count(*) FROM coder.chat_acquire(:'stranger', 10) \g /dev/null
SELECT is(coder.chat_finish(:'stranger', :'chat', 'error', 'It failed.')::text, 'error', 'a turn that failed');
SELECT is(go('x', 'eve', 'GET', '/' || :'chat'), '200', 'tells why');
SELECT is(v('x', 'last_error'), 'It failed.', 'in words');

-- pins, labels, archive
SELECT go('c2', 'eve', 'POST', '', jsonb_build_object('organization_id', :'org', 'content', said('second'))), go('c3', 'eve', 'POST', '', jsonb_build_object('organization_id', :'org', 'content', said('third'))) \g /dev/null
CREATE FUNCTION public.pins() RETURNS text LANGUAGE sql AS $$ SELECT string_agg(title, ' ' ORDER BY pin_order) FROM coder.chats WHERE pin_order > 0 $$;
SELECT is(go('x', 'eve', 'PATCH', '/' || :'chat', '{"pin_order": -1}'), '400 Pin order must be non-negative.', 'a place is a number');
SELECT string_agg(go('x', 'eve', 'PATCH', '/' || c, '{"pin_order": 9}'), '') FROM unnest(ARRAY[:'chat', v('c2', 'id'), v('c3', 'id')]) c \g /dev/null
SELECT is(pins(), 'one two three four five six… second third', 'pinned ones are appended');
SELECT is(go('x', 'eve', 'PATCH', '/' || v('c3', 'id'), '{"pin_order": 1}'), '204', 'one is moved');
SELECT is(pins(), 'third one two three four five six… second', 'to the front');
SELECT is(go('x', 'eve', 'PATCH', '/' || v('c3', 'id'), '{"pin_order": 2}'), '204', 'or down');
SELECT is(pins(), 'one two three four five six… third second', 'by one');
SELECT is(go('x', 'eve', 'PATCH', '/' || :'chat', '{"pin_order": 0}'), '204', 'one is taken out');
SELECT is((SELECT string_agg(title || pin_order, ' ' ORDER BY pin_order) FROM coder.chats WHERE pin_order > 0), 'third1 second2', 'and the others close up');
SELECT is(go('x', 'eve', 'PATCH', '/' || v('c3', 'id'), '{"archived": true}'), '204', 'a pending chat is archived');
SELECT is((SELECT status::text FROM coder.chats WHERE id = v('c3', 'id')::uuid), 'waiting', 'and not run');
SELECT is(go('x', 'eve', 'PATCH', '/' || v('c3', 'id'), '{"archived": true}'), '400 Chat is already archived.', 'once');
SELECT is(go('x', 'eve', 'PATCH', '/' || v('c3', 'id'), '{"pin_order": 1}'), '400 Cannot pin an archived chat.', 'and not pinned');
SELECT is(go('x', 'eve', 'PATCH', '/' || v('c3', 'id'), '{"archived": false}'), '204', 'it comes back');
SELECT is(go('x', 'eve', 'PATCH', '/' || v('c3', 'id'), '{"archived": false}'), '400 Chat is already not archived.', 'once');
UPDATE coder.chats SET archived = true, updated_at = now() - interval '31 days' WHERE id = v('c3', 'id')::uuid;
SELECT is(coder.chat_purge(now()), 1, 'an archived chat goes after thirty days');

-- limits and cost (what was moved to the past comes back: a day may have begun since)
UPDATE coder.chat_messages SET created_at = now() WHERE created_at < now();
SELECT is(go('x', 'eve', 'GET', '/usage-limits'), '403 Forbidden.', 'limits are for administrators');
SELECT is(go('x', 'ada', 'PUT', '/usage-limits', '{"spend_limit_micros": 0}'), '400 Invalid chat usage limit spend limit.', 'a limit is more than nothing');
SELECT is(go('x', 'ada', 'PUT', '/usage-limits', '{"spend_limit_micros": 1, "period": "year"}'), '400 Invalid chat usage limit period.', 'in a period that is known');
SELECT is(go('x', 'ada', 'PUT', '/usage-limits', '{"spend_limit_micros": 46, "period": "day"}'), '200', 'a limit');
SELECT is(go('x', 'eve', 'GET', '/usage-limits/status'), '200', 'a user sees');
SELECT is(v('x', 'current_spend'), '46', 'what was spent, deleted messages too');
SELECT is(go('x', 'eve', 'POST', '', jsonb_build_object('organization_id', :'org', 'content', said('a'))), '409 Chat usage limit exceeded.', 'no chat more');
SELECT is(go('x', 'eve', 'POST', '/' || :'chat' || '/messages', jsonb_build_object('content', said('a'))), '409 Chat usage limit exceeded.', 'no message more');
SELECT isnt(v('x', 'resets_at'), NULL, 'until then');
SELECT is(go('x', 'ada', 'PUT', '/usage-limits/overrides/' || (SELECT id FROM coder.users WHERE username = 'eve'), '{"spend_limit_micros": 1000}'), '200', 'a user may have more');
SELECT is(go('x', 'eve', 'POST', '/' || :'chat' || '/messages', jsonb_build_object('content', said('a'))), '200', 'and goes on');
SELECT is(go('x', 'ada', 'DELETE', '/usage-limits/overrides/' || (SELECT id FROM coder.users WHERE username = 'eve')), '204', 'no longer');
SELECT is(go('x', 'ada', 'DELETE', '/usage-limits/overrides/' || (SELECT id FROM coder.users WHERE username = 'eve')), '400 Chat usage limit override not found.', 'once');
SELECT is(go('x', 'ada', 'PUT', '/usage-limits/group-overrides/' || :'org', '{"spend_limit_micros": 500}'), '200', 'a group may');
SELECT is(go('x', 'eve', 'GET', '/usage-limits/status'), '200', 'which counts');
SELECT is(v('x', 'spend_limit_micros'), '500', 'for its members');
SELECT is(go('x', 'eve', 'GET', '/cost/me/summary'), '200', 'a user''s own cost');
SELECT is(v('x', 'total_cost_micros'), '46', 'is summed');
SELECT is(go('x', 'eve', 'GET', '/cost/users'), '403 Forbidden.', 'others'' is not shown');
SELECT is(go('x', 'ada', 'GET', '/cost/users?username=ev'), '200', 'but to administrators');
SELECT is(v('x', 'users', '0', 'username'), 'eve', 'by name');
SELECT is(go('x', 'eve', 'GET', '/cost/me/summary?start_date=yesterday'), '400 Invalid query parameters.', 'a date is a date');

-- a change of configuration is told in its transaction: each table has its trigger
SELECT set_eq($$SELECT tgrelid::regclass::text || ' ' || convert_from(tgargs, 'UTF8')::text FROM
	(SELECT tgrelid, substr(tgargs, 1, length(tgargs) - 1) AS tgargs FROM pg_trigger WHERE tgfoid = 'coder.chat_config_changed'::regproc) t$$,
	ARRAY['coder.chat_providers providers', 'coder.chat_model_configs model_config', 'coder.chat_model_configs providers', 'coder.user_configs user_prompt', 'coder.user_configs user_prompts',
		'coder.mcp_server_configs mcp_server', 'coder.mcp_server_configs mcp_servers'],
	'whatever turns are configured by tells of its changes');
-- and who takes chats afterwards hears of it with them
SELECT set_config('t.since', coder.chat_take('00000000-0000-4000-8000-00000000000a', 0, '')->>'next', true);
UPDATE coder.chat_model_configs SET context_limit = context_limit + 1 WHERE id = (SELECT id FROM coder.chat_model_configs LIMIT 1);
SELECT is(c->>'kind', 'model_config', 'a change comes with the chats')
  FROM jsonb_array_elements(coder.chat_take('00000000-0000-4000-8000-00000000000a', 0, current_setting('t.since'))->'changes') c
 ORDER BY (c->>'change')::int8 DESC LIMIT 1;
SELECT is(coder.chat_take('00000000-0000-4000-8000-00000000000a', 0, '')->'changes', '[]', 'who begins knows nothing that could be old');
SELECT is(coder.chat_take('00000000-0000-4000-8000-00000000000a', 0, '9000000000000000000')->'changes', '[]', 'nothing is told that was known');

-- A runner's way to an agent is opened by its ticket, and by nothing else.
INSERT INTO coder.chat_agent_tickets (hash, agent_id, expires_at)
SELECT sha256(convert_to(t, 'UTF8')), a, now() + i
  FROM (VALUES ('good', '00000000-0000-4000-8000-0000000000a1'::uuid, interval '1 minute'),
	('old', '00000000-0000-4000-8000-0000000000a1', interval '-1 minute'), ('other', '00000000-0000-4000-8000-0000000000a2', interval '1 minute')) v (t, a, i);
CREATE FUNCTION knock(ticket text, path text DEFAULT 'api/v0/list-directory') RETURNS int LANGUAGE sql AS $$
	SELECT status FROM public.api('POST', '/api/experimental/chat-agents/00000000-0000-4000-8000-0000000000a1/' || path, '{}',
		type => E'application/json' || coalesce(E'\ncoder-chat-ticket: ' || ticket, ''))
$$;
SELECT is(knock('good'), 101, 'a ticket opens the way to its agent');
SELECT is(knock(NULL), 404, 'without one there is nothing');
SELECT is(knock(''), 404, 'nor with an empty one');
SELECT is(knock('bad'), 404, 'nor with one that was not given');
SELECT is(knock('old'), 404, 'nor with one whose time is over');
SELECT is(knock('other'), 404, 'nor with another agent''s');
SELECT is(knock('good', 'debug/logs'), 404, 'and it opens no more than the agent''s API');

SELECT * FROM finish();
ROLLBACK;
