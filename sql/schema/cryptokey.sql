-- SPDX-License-Identifier: MIT
--
-- cryptokey.sql
--   Keys that the server signs with, one line of successors for each feature.

CREATE TYPE coder.crypto_key_feature AS ENUM ('workspace_apps_token', 'workspace_apps_api_key', 'oidc_convert', 'tailnet_resume');

CREATE TABLE coder.crypto_keys (
	feature coder.crypto_key_feature NOT NULL,
	sequence integer NOT NULL,
	secret text,
	secret_key_id text REFERENCES coder.dbcrypt_keys (active_key_digest),
	starts_at timestamptz NOT NULL,
	deletes_at timestamptz,
	PRIMARY KEY (feature, sequence)
);
CREATE TRIGGER crypto_keys_seal BEFORE INSERT OR UPDATE ON coder.crypto_keys
	FOR EACH ROW EXECUTE FUNCTION coder.seal_columns('secret');
COMMENT ON TABLE coder.crypto_keys IS
	'keys that tokens of a feature are signed with; a row stays without its secret once nothing it signed is good any more';
COMMENT ON COLUMN coder.crypto_keys.sequence IS 'the "kid" of what it signed';
COMMENT ON COLUMN coder.crypto_keys.secret IS 'hexadecimal; sealed where there is a key';
COMMENT ON COLUMN coder.crypto_keys.deletes_at IS 'until when it verifies; NULL while it has no successor';

SELECT pg_extension_config_dump('coder.crypto_keys', '');
