-- sql/api/chatinput.sql -- what a request says to a chat: its content, labels, model, servers and tools, checked and stored
--
-- Tables: sql/schema/chat.sql.  Events: see sql/api/chat.sql.

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
		RETURN jsonb_build_object('type', 'text', 'text', trim(E' \t\r\n' FROM part->>'text'));
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

-- The title of a chat by what was said first: its first six words, at most 80 characters.
CREATE OR REPLACE FUNCTION coder.chat_title_of(said text)
RETURNS text LANGUAGE C IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'coder_chat_title_of';

-- The title of a chat until a model has given it a better one.
CREATE OR REPLACE FUNCTION coder.chat_first_title(content jsonb)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.chat_title_of(coalesce((SELECT string_agg(CASE p->>'type' WHEN 'text' THEN p->>'text' WHEN 'file-reference' THEN
			format('[file-reference] %s:%s%s %s', p->>'file_name', p->>'start_line',
				CASE WHEN (p->>'end_line')::numeric > (p->>'start_line')::numeric THEN '-' || (p->>'end_line') ELSE '' END, p->>'content') END,
			' ' ORDER BY n) FROM jsonb_array_elements(content) WITH ORDINALITY e (p, n)), ''));
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
CREATE OR REPLACE FUNCTION coder.chat_system_messages(own text, has_workspace bool)
RETURNS text[] LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN array_remove(ARRAY[
		nullif(concat_ws(E'\n\n', CASE WHEN coder.chat_default_prompt_on() THEN coder.chat_default_prompt() END,
			nullif(coder.site_config('agents_chat_system_prompt', ''), '')), ''),
		nullif(coder.chat_clean_prompt(own), ''),
		CASE WHEN NOT has_workspace
			THEN 'No workspace belongs to this chat yet. Tools that read or change files or run commands need one: choose a template and create a workspace when the task calls for it, not before.'
			ELSE 'A workspace belongs to this chat. Its files and commands are where the work is done.' END], NULL);
END
$$;

-- The row of coder.chat_prompts for a new chat without a prompt of its own; made where nobody was told the same before.
CREATE OR REPLACE FUNCTION coder.chat_prompt_id(has_workspace bool)
RETURNS int4 LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	told CONSTANT text[] := coder.chat_system_messages(NULL, has_workspace);
	key CONSTANT bytea := sha256(convert_to(array_to_string(told, E'\x01'), 'UTF8'));
	answer int4;
BEGIN
	SELECT p.id INTO answer FROM coder.chat_prompts p WHERE p.digest = key;
	IF NOT FOUND THEN
		INSERT INTO coder.chat_prompts (digest, texts) VALUES (key, told) ON CONFLICT (digest) DO NOTHING;
		SELECT p.id INTO STRICT answer FROM coder.chat_prompts p WHERE p.digest = key;
	END IF;
	RETURN answer;
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
