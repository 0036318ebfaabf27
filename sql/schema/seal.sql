-- sql/schema/seal.sql -- sealed columns: a table's trigger coder.seal_columns('column', ...) seals what is written to them
--
-- In C: extension/seal.c.  Each sealed column has a partner <column>_key_id.  Read them with coder.unseal(column, column_key_id).

CREATE TABLE coder.dbcrypt_keys (
	number int4 PRIMARY KEY,
	active_key_digest text UNIQUE,
	revoked_key_digest text UNIQUE,
	created_at timestamptz DEFAULT now(),
	revoked_at timestamptz,
	test text NOT NULL
);
COMMENT ON TABLE coder.dbcrypt_keys IS 'Names of the keys that seal secret columns, with a value to try them by; the keys themselves are never here.';

-- Sealed with the first key of this session; NULL where it has none.
CREATE FUNCTION coder.seal(value text)
RETURNS text LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'coder_seal';

-- The plain text of a sealed column's value; the value itself where key_id is NULL.
CREATE FUNCTION coder.unseal(value text, key_id text)
RETURNS text LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'coder_unseal';

-- Names of this session's keys, the one that seals first.
CREATE FUNCTION coder.seal_key_ids()
RETURNS text[] LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'coder_seal_key_ids';

-- A secret of the deployment, which a gateway has and no table; NULL where this session has none.
CREATE FUNCTION coder.secret_setting(name text)
RETURNS text LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'coder_secret_setting';

-- Trigger: seals what is written to the columns of its arguments.
CREATE FUNCTION coder.seal_columns() RETURNS trigger LANGUAGE C
AS 'MODULE_PATHNAME', 'coder_seal_columns';

SELECT pg_extension_config_dump('coder.dbcrypt_keys', '');
