-- SPDX-License-Identifier: MIT
--
-- cryptokey.sql
--   Keys that the server signs with, one line of successors for each feature.

CREATE TYPE coder.crypto_key_feature AS ENUM ('workspace_apps_token', 'workspace_apps_api_key', 'oidc_convert', 'tailnet_resume');

CREATE TABLE coder.crypto_keys (
	feature coder.crypto_key_feature NOT NULL,
	sequence integer NOT NULL,
	secret text,
	secret_key_id text,
	starts_at timestamptz NOT NULL,
	deletes_at timestamptz,
	PRIMARY KEY (feature, sequence)
);
COMMENT ON TABLE coder.crypto_keys IS
	'keys that tokens of a feature are signed with; a row stays without its secret once nothing it signed is good any more';
COMMENT ON COLUMN coder.crypto_keys.sequence IS 'the "kid" of what it signed';
COMMENT ON COLUMN coder.crypto_keys.secret IS 'hexadecimal';
COMMENT ON COLUMN coder.crypto_keys.deletes_at IS 'until when it verifies; NULL while it has no successor';

SELECT pg_extension_config_dump('coder.crypto_keys', '');
