-- SPDX-License-Identifier: MIT
--
-- file.sql
--   /api/v2/files: archives of templates.  Table: sql/schema/file.sql.

-- A stored file that the caller may read: the creator's, or one that a
-- version of a template the caller may update was made of.
CREATE OR REPLACE FUNCTION coder.file_readable(file uuid)
RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_creator uuid;
BEGIN
	SELECT f.created_by INTO v_creator FROM coder.files f WHERE f.id = file;
	RETURN v_creator IS NOT NULL
		AND (coder.can('read', 'file', NULL, v_creator, NULL, NULL, file)
			 OR EXISTS (SELECT FROM coder.provisioner_jobs j
						  JOIN coder.template_versions v ON v.job_id = j.id
						  JOIN coder.templates t ON t.id = v.template_id
						 WHERE j.file_id = file
						   AND coder.can('update', 'template', t.organization_id, NULL, t.user_acl, t.group_acl, t.id)));
END
$$;
COMMENT ON FUNCTION coder.file_readable(uuid) IS 'May the caller read the file?';

-- POST /api/v2/files: 201 with the id under "hash", 200 where the caller has
-- uploaded the same bytes before.
CREATE OR REPLACE FUNCTION coder.file_create(req coder.request)
RETURNS coder.response LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_type text := lower(split_part(coalesce(req.headers->>'content-type', ''), ';', 1));
	v_data bytea := coalesce(req.raw, '');
	v_hash text;
	v_id uuid;
BEGIN
	PERFORM coder.require('create', 'file', NULL, coder.subject_id());
	IF v_type IN ('application/zip', 'application/x-zip-compressed') THEN
		v_data := coder.archive_zip_to_tar(v_data);
		IF v_data IS NULL THEN
			PERFORM coder.raise(400, 'Incomplete .zip archive file.');
		END IF;
	ELSIF v_type <> 'application/x-tar' THEN
		PERFORM coder.raise(400, format('Unsupported content type header "%s".', req.headers->>'content-type'));
	END IF;
	v_hash := encode(sha256(v_data), 'hex');
	INSERT INTO coder.files (hash, created_by, mimetype, data)
	VALUES (v_hash, coder.subject_id(), 'application/x-tar', v_data)
	ON CONFLICT ON CONSTRAINT files_hash_created_by_key DO NOTHING
	RETURNING id INTO v_id;
	IF v_id IS NOT NULL THEN
		RETURN coder.reply(201, jsonb_build_object('hash', v_id));
	END IF;
	SELECT f.id INTO v_id FROM coder.files f WHERE f.hash = v_hash AND f.created_by = coder.subject_id();
	RETURN coder.reply(200, jsonb_build_object('hash', v_id));
END
$$;
COMMENT ON FUNCTION coder.file_create(coder.request) IS 'POST /api/v2/files';

-- GET /api/v2/files/{file}: the bytes, or the same files as a zip archive.
CREATE OR REPLACE FUNCTION coder.file_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_text text := req.params->>'file';
	v_format text := coalesce(req.query->>'format', '');
	v_file coder.files;
	v_answer coder.response;
BEGIN
	IF v_text !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
		PERFORM coder.raise(400, 'File id must be a valid UUID.');
	END IF;
	IF NOT coder.file_readable(v_text::uuid) THEN
		PERFORM coder.raise_not_found();
	END IF;
	SELECT * INTO v_file FROM coder.files f WHERE f.id = v_text::uuid;
	v_answer.status := 200;
	v_answer.raw := v_file.data;
	v_answer.headers := format(E'Content-Type: %s\r\n', v_file.mimetype);
	IF v_format = 'zip' THEN
		IF v_file.mimetype <> 'application/x-tar' THEN
			PERFORM coder.raise(400, 'Only .tar files can be converted to .zip format');
		END IF;
		v_answer.raw := coder.archive_tar_to_zip(v_file.data);
		IF v_answer.raw IS NULL THEN
			PERFORM coder.raise(500, 'Internal error converting .tar file to .zip format.');
		END IF;
		v_answer.headers := E'Content-Type: application/zip\r\n';
	ELSIF v_format <> '' THEN
		PERFORM coder.raise(400, 'Unsupported conversion format.');
	END IF;
	RETURN v_answer;
END
$$;
COMMENT ON FUNCTION coder.file_get(coder.request) IS 'GET /api/v2/files/{file}';

DELETE FROM coder.routes WHERE area = 'file';
INSERT INTO coder.routes (area, method, pattern, function, auth, raw_body, max_body, pool, rate, read_only) VALUES
	('file', 'POST', '/api/v2/files', 'file_create', 'session', true, 104857600, 'slow', 'files', false),
	('file', 'GET', '/api/v2/files/{file}', 'file_get', 'session', false, DEFAULT, 'slow', 'files', true);
