-- chatcreate.sql -- creating a chat: each check of the API by its number, their order, and membership from the subject
BEGIN;
\i api.psql
SELECT no_plan();

CREATE TEMP TABLE token (name text PRIMARY KEY, t text);
GRANT ALL ON token TO PUBLIC;
-- POST /chats: "status message", then what is told besides
CREATE FUNCTION public.make(who text, body jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	a record;
BEGIN
	SELECT * INTO a FROM api('POST', '/api/experimental/chats', body, (SELECT t FROM token x WHERE x.name = who));
	RETURN concat_ws(' | ', a.status, a.body_->>'message', a.body_->>'detail', a.body_->'validations'->0->>'field', a.body_->'validations'->0->>'detail');
END
$$;
CREATE FUNCTION public.said(text) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_array(jsonb_build_object('type', 'text', 'text', $1)) $$;
-- a list of content with a part of these members behind a text
CREATE FUNCTION public.part(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('content', jsonb_build_array('{"type": "text", "text": "a"}'::jsonb, $1)) $$;

SELECT coder.seed();
INSERT INTO coder.settings VALUES ('experiments', 'agents') ON CONFLICT (name) DO UPDATE SET value = excluded.value;
INSERT INTO token VALUES ('ada', token_of('ada')), ('bob', token_of('bob')), ('eve', token_of('eve', '{agents-access}'));
SELECT id AS org FROM coder.organizations WHERE is_default \gset
INSERT INTO coder.organizations (name, display_name) VALUES ('other', 'Other') RETURNING id AS other \gset
INSERT INTO coder.templates (id, organization_id, name, provisioner, active_version_id, created_by)
SELECT '00000000-0000-4000-8000-0000000000d1', :'other', 't', 'terraform', '00000000-0000-4000-8000-0000000000d2', id FROM coder.users WHERE username = 'ada';
INSERT INTO coder.workspaces (id, owner_id, organization_id, template_id, name)
SELECT '00000000-0000-4000-8000-0000000000d3', id, :'other', '00000000-0000-4000-8000-0000000000d1', 'w' FROM coder.users WHERE username = 'ada';
SELECT jsonb_build_object('organization_id', :'org', 'content', said('a')) AS good \gset

-- the order: a request that is wrong in all ways is told of the first; with that mended of the next
SELECT is(left(make('eve', b.body), length(b.answer)), b.answer, format('order %s: %s', b.n, b.what)) FROM (
	SELECT x.n, x.what, x.answer, (SELECT jsonb_object_agg(f.key, f.value) FROM (
		SELECT DISTINCT ON (key) key, value FROM (SELECT 0 AS at, w.key, w.value FROM jsonb_each('{"system_prompt": 0, "content": 0, "workspace_id": 0}'::jsonb) w
			UNION ALL SELECT y.at, y.key, y.value FROM (VALUES
				(1, 'organization_id', '"00000000-0000-0000-0000-000000000000"'::jsonb), (2, 'organization_id', to_jsonb(:'other'::text)), (3, 'organization_id', to_jsonb(:'org'::text)),
				(1, 'system_prompt', to_jsonb(repeat('x', 10001))), (4, 'system_prompt', '"x"'),
				(1, 'content', '[]'), (5, 'content', '[{"type": "text", "text": " "}]'), (6, 'content', said('a')),
				(1, 'workspace_id', '"00000000-0000-4000-8000-0000000000d3"'), (7, 'workspace_id', 'null'),
				(1, 'model_config_id', '"00000000-0000-0000-0000-000000000000"'), (8, 'model_config_id', to_jsonb(gen_random_uuid())),
				(1, 'mcp_server_ids', '["00000000-0000-4000-8000-0000000000ff"]'), (9, 'mcp_server_ids', '[]'),
				(1, 'labels', '{"-": "v"}'), (10, 'labels', '{}'),
				(1, 'unsafe_dynamic_tools', '[{"name": " "}]'), (11, 'unsafe_dynamic_tools', '[]')) y (at, key, value) WHERE y.at <= x.n) z
		 ORDER BY key, at DESC) f) AS body
	  FROM (VALUES
		(1, 'organization', '400 | organization_id is required.'),
		(2, 'membership', '403 | You are not a member of the specified organization.'),
		(3, 'system prompt', '400 | System prompt exceeds maximum length. | System prompt must be at most 10000 characters, got 10001.'),
		(4, 'content', '400 | Content is required. | Content cannot be empty.'),
		(5, 'parts', '400 | Invalid input part. | content[0].text cannot be empty.'),
		(6, 'workspace', '400 | Workspace not found or you do not have access to this resource'),
		(7, 'model', '400 | Invalid model config ID.'),
		(8, 'MCP servers', '400 | One or more MCP server IDs are invalid. | Invalid IDs: 00000000-0000-4000-8000-0000000000ff'),
		(9, 'labels', '400 | Invalid labels. | labels | label key "-" contains invalid characters; must match ^[a-zA-Z0-9][a-zA-Z0-9._/-]*$'),
		(10, 'tools', '400 | Dynamic tool name must not be empty.'),
		(11, 'the model''s row', '400 | Invalid model config ID.')) x (n, what, answer)) b ORDER BY b.n;

-- each check by its number
SELECT is(make('bob', '{}'), '403 | Forbidden. | You don''t have permission to view this content. If you believe this is a mistake, please contact your administrator or try signing in with different credentials.', '1: who may not, before any other check');
SELECT is(make('eve', :'good'::jsonb - 'organization_id'), '400 | organization_id is required.', '3: no organization');
SELECT is(make('ada', :'good'::jsonb || jsonb_build_object('organization_id', :'other')), '403 | You are not a member of the specified organization.', '4: an owner is no member');
SELECT is(make('eve', :'good'::jsonb || jsonb_build_object('organization_id', gen_random_uuid())), '403 | You are not a member of the specified organization.', '4: nor of what there is not');
SELECT is(make('eve', :'good'::jsonb || jsonb_build_object('system_prompt', repeat('ä', 5001))), '400 | System prompt exceeds maximum length. | System prompt must be at most 10000 characters, got 10002.', '5: bytes are counted');
SELECT is(make('eve', :'good'::jsonb || p.content), '400 | Invalid input part. | ' || p.why, '7: ' || p.why) FROM (VALUES
	(part('{"type": "text", "text": "\t\n "}'), 'content[1].text cannot be empty.'),
	(part('{"type": "file"}'), 'content[1].file_id is required for file parts.'),
	(part('{"type": "file", "file_id": "00000000-0000-4000-8000-0000000000ff"}'), 'content[1].file_id references a file that does not exist.'),
	(part('{"type": "file-reference", "file_name": " "}'), 'content[1].file_name cannot be empty for file-reference.'),
	(part('{"type": "video"}'), 'content[1].type "video" is not supported.'),
	(part('{"type": ""}'), 'content[1].type "" is not supported.')) p (content, why);
SELECT is(make('eve', :'good'::jsonb || jsonb_build_object('workspace_id', gen_random_uuid())), '400 | Workspace not found or you do not have access to this resource', '8: no such workspace');
SELECT is(make('eve', :'good'::jsonb || '{"workspace_id": "00000000-0000-4000-8000-0000000000d3"}'), '400 | Workspace not found or you do not have access to this resource', '8: nor somebody else''s');
SELECT is(make('ada', :'good'::jsonb || '{"workspace_id": "00000000-0000-4000-8000-0000000000d3"}'), '400 | Workspace does not belong to the specified organization.', '9: of another organization');
SELECT is(make('eve', :'good'), '400 | No default chat model config is configured.', '10: no model at all');
SELECT is(make('eve', :'good'::jsonb || '{"model_config_id": "00000000-0000-0000-0000-000000000000"}'), '400 | Invalid model config ID.', '10: the nil model');

INSERT INTO coder.chat_providers (provider, display_name, api_key, base_url, enabled) VALUES ('openai-compat', 'P', 'k', 'http://127.0.0.1:1/v1', true);
INSERT INTO coder.chat_model_configs (provider, model, display_name, is_default, context_limit) VALUES ('openai-compat', 'm', 'M', true, 1000);
SELECT is(make('eve', :'good'), '201', 'all is well');
SELECT is(make('eve', :'good'::jsonb || part('{"type": " TEXT ", "text": " b "}')), '201', '7: a kind in other letters');
SELECT is(make('eve', :'good'::jsonb || jsonb_build_object('mcp_server_ids', '["00000000-0000-4000-8000-0000000000fe", "00000000-0000-4000-8000-0000000000ff"]'::jsonb)),
	'400 | One or more MCP server IDs are invalid. | Invalid IDs: 00000000-0000-4000-8000-0000000000fe, 00000000-0000-4000-8000-0000000000ff', '11: all that are unknown');
SELECT is(make('eve', :'good'::jsonb || jsonb_build_object('labels', l.labels)), l.answer, '12: ' || l.what) FROM (VALUES
	((SELECT jsonb_object_agg('k' || i, 'v') FROM generate_series(1, 50) i), '201', 'fifty labels'),
	((SELECT jsonb_object_agg('k' || i, 'v') FROM generate_series(1, 51) i), '400 | Invalid labels. | labels | too many labels; at most 50', 'one too many'),
	(jsonb_build_object(repeat('k', 64), repeat('v', 256)), '201', 'long ones'),
	(jsonb_build_object(repeat('k', 65), 'v'), '400 | Invalid labels. | labels | label key "' || repeat('k', 65) || '" must be 1-64 bytes', 'a key that is too long'),
	('{"": "v"}', '400 | Invalid labels. | labels | label key "" must be 1-64 bytes', 'no key'),
	(jsonb_build_object('k', repeat('v', 257)), '400 | Invalid labels. | labels | label value of "k" must be 1-256 bytes', 'a value that is too long'),
	('{"k": ""}', '400 | Invalid labels. | labels | label value of "k" must be 1-256 bytes', 'no value'),
	('{"a.b_c/d-e": "v"}', '201', 'all letters that are allowed')) l (labels, answer, what);
SELECT is(make('eve', :'good'::jsonb || jsonb_build_object('unsafe_dynamic_tools', t.tools)), t.answer, '13: ' || t.what) FROM (VALUES
	((SELECT jsonb_agg(jsonb_build_object('name', 't' || i)) FROM generate_series(1, 250) i), '201', 'as many tools as may be'),
	((SELECT jsonb_agg(jsonb_build_object('name', 't' || i)) FROM generate_series(1, 251) i), '400 | Too many dynamic tools. | At most 250 dynamic tools are allowed.', 'one more'),
	('[{"name": ""}]', '400 | Dynamic tool name must not be empty.', 'no name'),
	('[{"name": "t"}, {"name": "t"}]', '400 | Duplicate dynamic tool name.', 'a name twice')) t (tools, answer, what);
INSERT INTO coder.chat_usage_limit_config (enabled, default_limit_micros, period) VALUES (true, 0, 'month');
SELECT is(make('eve', :'good'::jsonb || '{"unsafe_dynamic_tools": [{"name": ""}]}'), '400 | Dynamic tool name must not be empty.', '14: tools are looked at before money');
SELECT is(make('eve', :'good'), '409 | Chat usage limit exceeded.', '14: nothing may be spent');
DELETE FROM coder.chat_usage_limit_config;
SELECT matches(make('eve', :'good'::jsonb || jsonb_build_object('model_config_id', gen_random_uuid())), '^400 \| Invalid model config ID\.', '15: a model that there is not');

-- membership, from the subject (section 19): 1, 2, 3, 4, 5, 7 and 8 are above
SELECT is(make('eve', :'good'), '201', '19.1: a member');
UPDATE coder.users SET rbac_roles = rbac_roles || '{a-role-that-is-gone}' WHERE username = 'eve';
SELECT is(make('eve', :'good'), '201', '19.9: a role that is gone takes nothing');
SELECT is(make('eve', :'good'::jsonb || jsonb_build_object('organization_id', :'other')), '403 | You are not a member of the specified organization.', '19.9: and gives nothing');
UPDATE coder.users SET rbac_roles = '{}' WHERE username = 'eve';
SELECT matches(make('eve', '{}'), '^403 \| Forbidden', '19.6: a member without agents-access, before any other check');
UPDATE coder.users SET rbac_roles = '{agents-access}' WHERE username = 'eve';
SELECT is(make('eve', :'good'), '201', 'with it again');
DELETE FROM coder.organization_members WHERE user_id = (SELECT id FROM coder.users WHERE username = 'eve');
SELECT is(make('eve', :'good'), '403 | You are not a member of the specified organization.', '19.10: who is a member no more, in the same session');
INSERT INTO coder.organization_members (user_id, organization_id) SELECT id, :'other' FROM coder.users WHERE username = 'eve';
SELECT is(make('eve', :'good'::jsonb || jsonb_build_object('organization_id', :'other')), '201', 'and who becomes one elsewhere');

SELECT finish();
ROLLBACK;
