-- SPDX-License-Identifier: MIT
--
-- file.sql
--   Uploaded archives, kept once per creator and content.

CREATE TABLE coder.files
(
	hash				varchar(64) NOT NULL,
	created_at			timestamptz NOT NULL DEFAULT now(),
	created_by			uuid NOT NULL,
	mimetype			varchar(64) NOT NULL,
	data				bytea NOT NULL,
	id					uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
	CONSTRAINT files_hash_created_by_key UNIQUE (hash, created_by),
	CONSTRAINT files_hash_is_of_data CHECK (hash = encode(sha256(data), 'hex')),
	CONSTRAINT files_size CHECK (octet_length(data) <= 104857600)
);
-- Archives are read whole and are often compressed already.
ALTER TABLE coder.files ALTER data SET STORAGE EXTERNAL;

COMMENT ON TABLE coder.files IS
	'Archives of templates and of Terraform modules (those with the nil creator); hash is the SHA-256 of data.';

-- In C: extension/archive.c.
CREATE FUNCTION coder.archive_zip_to_tar(data bytea) RETURNS bytea
AS 'MODULE_PATHNAME', 'coder_archive_zip_to_tar' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION coder.archive_zip_to_tar(bytea) IS
	'The files of a zip archive as a tar archive; NULL: broken, too large, or names outside of its root.';
CREATE FUNCTION coder.archive_tar_to_zip(data bytea) RETURNS bytea
AS 'MODULE_PATHNAME', 'coder_archive_tar_to_zip' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION coder.archive_tar_to_zip(bytea) IS
	'The files of a tar archive as a zip archive; NULL: broken, too large, or names outside of its root.';

SELECT pg_catalog.pg_extension_config_dump('coder.files', '');
