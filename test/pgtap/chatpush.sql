-- chatpush.sql -- what a user's browsers are told when a turn of a chat ends, and which are forgotten
BEGIN;
\i api.psql
SELECT no_plan();
SELECT token_of('bob') \g /dev/null
SELECT id AS bob FROM coder.users WHERE username = 'bob' \gset
SELECT id AS org FROM coder.organizations LIMIT 1 \gset
SELECT '11111111-1111-4111-8111-111111111111'::uuid AS worker, '22222222-2222-4222-8222-222222222222'::uuid AS stranger \gset
INSERT INTO coder.chat_providers (provider, api_key) VALUES ('openai', 'k');
INSERT INTO coder.chat_model_configs (provider, model, context_limit) VALUES ('openai', 'm', 1000) RETURNING id AS model \gset

-- A chat that runs; its id.
CREATE FUNCTION public.running(said text, parent uuid DEFAULT NULL) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
	chat uuid;
BEGIN
	INSERT INTO coder.chats (owner_id, organization_id, title, status, worker_id, started_at, heartbeat_at, last_model_config_id, parent_chat_id)
	SELECT u.id, o.id, 'A chat', 'running', '11111111-1111-4111-8111-111111111111', now(), now(), m.id, parent
	  FROM coder.users u, coder.organizations o, coder.chat_model_configs m WHERE u.username = 'bob' LIMIT 1 RETURNING id INTO chat;
	INSERT INTO coder.chat_messages (chat_id, role, content) VALUES (chat, 'assistant', jsonb_build_array(jsonb_build_object('type', 'text', 'text', said)));
	RETURN chat;
END
$$;
CREATE FUNCTION public.ends(chat uuid, status coder.chat_status, error text DEFAULT NULL) RETURNS jsonb LANGUAGE sql AS
	$$ SELECT coder.chat_end('11111111-1111-4111-8111-111111111111', chat, status, error) $$;
CREATE FUNCTION public.body_of(chat uuid) RETURNS text LANGUAGE sql AS $$ SELECT coder.chat_push_message(c)->>'body' FROM coder.chats c WHERE c.id = chat $$;

SELECT running('done') AS chat \gset
SELECT is(ends(:'chat', 'waiting'), NULL, 'a user without browsers is told nothing');
SELECT is((SELECT status::text FROM coder.chats WHERE id = :'chat'), 'waiting', 'but the turn is over');

INSERT INTO coder.webpush_subscriptions (user_id, endpoint, endpoint_p256dh_key, endpoint_auth_key)
SELECT :'bob', e, 'BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4', 'BTBZMqHH6r4Tts7J_aSIgg'
  FROM unnest(ARRAY['https://a.example.com/1', 'https://b.example.com/2', 'https://c.example.com/3']) e;
INSERT INTO coder.webpush_subscriptions (user_id, endpoint, endpoint_p256dh_key, endpoint_auth_key) VALUES (:'bob', 'https://d.example.com/4', 'broken', 'keys');
SELECT running(E'  All  done,\n the tests pass.  ') AS chat \gset
CREATE TEMP TABLE p AS SELECT ends(:'chat', 'waiting') AS plan;
SELECT is((SELECT array_agg(r->>'url' ORDER BY r->>'url') FROM p, jsonb_array_elements(plan->'requests') r),
	ARRAY['https://a.example.com/1', 'https://b.example.com/2', 'https://c.example.com/3'], 'each browser gets a push');
SELECT ok((SELECT bool_and((r->>'public')::bool AND r->'headers'->>'Content-Encoding' = 'aes128gcm') FROM p, jsonb_array_elements(plan->'requests') r), 'sealed, and to the public network only');
SELECT is((SELECT count(*)::int FROM coder.webpush_subscriptions), 3, 'one whose keys are none is forgotten');
SELECT is(body_of(:'chat'), 'All done, the tests pass.', 'it says what was said last, on one line');
SELECT is((SELECT coder.chat_push_message(c) - 'body' FROM coder.chats c WHERE id = :'chat'), jsonb_build_object('icon', '/icon/coder.svg', 'title', 'A chat', 'tag', :'chat', 'actions', '[]'::jsonb,
	'data', jsonb_build_object('url', '/agents/' || :'chat')), 'and where');
SELECT is(coder.chat_pushed((SELECT plan->'ids' FROM p), '[{"status": 410}, {"status": 201}, {"status": 0, "error": "timeout"}]'), 1, 'a browser that is gone');
SELECT is(coder.chat_pushed((SELECT plan->'ids' FROM p), '[{"status": 201}, {"status": 404}, {"status": 429}]'), 1, 'another one');
SELECT is((SELECT count(*)::int FROM coder.webpush_subscriptions), 1, 'the third is kept');

SELECT running(repeat('word ', 100)) AS chat \gset
SELECT is(length(body_of(:'chat')), 120, 'a long word is cut');
SELECT isnt(ends(:'chat', 'error', 'The provider said no.'), NULL, 'a turn that failed');
SELECT is(body_of(:'chat'), 'The provider said no.', 'says why');
SELECT running('') AS chat \gset
SELECT isnt(ends(:'chat', 'waiting'), NULL, 'a turn without words');
SELECT is(body_of(:'chat'), 'Agent has finished running.', 'has some');
SELECT is(ends(running('x', :'chat'), 'waiting'), NULL, 'a subagent tells its parent only');
SELECT is(coder.chat_end(:'stranger', running('x'), 'waiting'), NULL, 'a stranger ends nothing');
SELECT running('x') AS chat \gset
SELECT coder.chat_set_status(:'chat', 'waiting') \g /dev/null
SELECT is(ends(:'chat', 'waiting'), NULL, 'who interrupts knows that it is over');
SELECT is(ends(running('x'), 'pending'), NULL, 'another runner goes on');
SELECT running('x') AS chat \gset
INSERT INTO coder.chat_queued_messages (chat_id, content) VALUES (:'chat', '[{"type": "text", "text": "more"}]');
SELECT is(ends(:'chat', 'waiting'), NULL, 'so does a queue');

SELECT * FROM finish();
ROLLBACK;
