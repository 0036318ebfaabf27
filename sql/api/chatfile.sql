-- sql/api/chatfile.sql -- the files of chats
--
-- Table: sql/schema/chat.sql.  Routes: sql/api/chatconfig.sql.

-- POST /chats/files?organization=
CREATE OR REPLACE FUNCTION coder.chat_file_create(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	type CONSTANT text := lower(trim(split_part(coalesce(req.headers->>'content-type', ''), ';', 1)));
	data CONSTANT bytea := coalesce(req.raw, '');
	org uuid;
	sniffed text;
	file uuid;
BEGIN
	PERFORM coder.chat_gate();
	IF coalesce(req.query->>'organization', '') = '' THEN
		PERFORM coder.raise(400, 'Missing organization query parameter.');
	END IF;
	org := coder.try_uuid(req.query->>'organization');
	IF org IS NULL THEN
		PERFORM coder.raise(400, 'Invalid organization ID.');
	END IF;
	PERFORM coder.require('create', 'chat', org, coder.subject_id());
	IF type NOT IN ('image/gif', 'image/jpeg', 'image/png', 'image/webp', 'text/plain') THEN
		PERFORM coder.raise(400, 'Unsupported file type.', 'Allowed types: image/gif, image/jpeg, image/png, image/webp, text/plain.');
	ELSIF length(data) > 10485760 THEN
		PERFORM coder.raise(413, 'File too large.', 'Maximum file size is 10485760 bytes.');
	END IF;
	sniffed := coder.chat_sniff(substr(data, 1, 512));
	IF sniffed <> type THEN
		PERFORM coder.raise(400, 'File content type does not match Content-Type header.', format('The content looks like %s.', sniffed));
	END IF;
	INSERT INTO coder.chat_files (owner_id, organization_id, name, mimetype, data)
	VALUES (coder.subject_id(), org, coder.disposition_name(req.headers->>'content-disposition'), type, data)
	RETURNING id INTO file;
	RETURN coder.reply(201, jsonb_build_object('id', file));
END
$$;

-- The type of a file by its first bytes, as browsers guess it (WHATWG MIME Sniffing): a picture, text, or neither.
CREATE OR REPLACE FUNCTION coder.chat_sniff(head bytea)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE
		WHEN substr(head, 1, 8) = '\x89504e470d0a1a0a' THEN 'image/png'
		WHEN substr(head, 1, 3) = '\xffd8ff' THEN 'image/jpeg'
		WHEN substr(head, 1, 6) IN ('GIF87a'::bytea, 'GIF89a'::bytea) THEN 'image/gif'
		WHEN substr(head, 1, 4) = 'RIFF'::bytea AND substr(head, 9, 6) = 'WEBPVP'::bytea THEN 'image/webp'
		WHEN encode(head, 'escape') ~* '^\s*<(!doctype html|html|head|script|iframe|body|svg|\?xml)' THEN 'text/html'
		-- Bytes that no text has, as encode(…, 'escape') writes them: controls but tab, line feed, form feed, CR, escape.
		WHEN EXISTS (SELECT FROM generate_series(0, length(head) - 1) i
			WHERE get_byte(head, i) < 32 AND get_byte(head, i) NOT IN (9, 10, 12, 13, 27)) THEN 'application/octet-stream'
		ELSE 'text/plain' END;
END
$$;

-- The file name of a Content-Disposition header, at most 255 bytes; "" where there is none.
CREATE OR REPLACE FUNCTION coder.disposition_name(header text)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	name text := coalesce(substring(header FROM '(?i)filename="([^"]*)"'), substring(header FROM '(?i)filename=([^;[:space:]]+)'), '');
BEGIN
	name := regexp_replace(name, '^.*[/\\]', '');
	WHILE octet_length(name) > 255 LOOP
		name := left(name, -1);
	END LOOP;
	RETURN name;
END
$$;

-- GET /chats/files/{file}
CREATE OR REPLACE FUNCTION coder.chat_file_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wanted CONSTANT uuid := coder.try_uuid(req.params->>'file');
	f coder.chat_files;
BEGIN
	PERFORM coder.chat_gate();
	IF wanted IS NULL THEN
		PERFORM coder.raise(400, 'Invalid file ID.');
	END IF;
	SELECT x.* INTO f FROM coder.chat_files x WHERE x.id = wanted;
	IF f.id IS NULL OR NOT coder.can('read', 'chat', f.organization_id, f.owner_id, id => f.id) THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN ROW(200, NULL, format(E'Content-Type: %s\r\nContent-Disposition: inline; filename="%s"\r\n', f.mimetype,
			regexp_replace(f.name, '["\\[:cntrl:]]', '_', 'g'))
		|| E'Cache-Control: private, max-age=31536000, immutable\r\nX-Content-Type-Options: nosniff\r\n', f.data)::coder.response;
END
$$;
