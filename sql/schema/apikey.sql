-- sql/schema/apikey.sql -- sessions and tokens: "<id>-<secret>", of which only SHA-256(secret) is stored

CREATE TABLE coder.api_keys (
	id text PRIMARY KEY CHECK (length(id) = 10),
	hashed_secret bytea NOT NULL,
	user_id uuid NOT NULL REFERENCES coder.users (id) ON DELETE CASCADE,
	last_used timestamptz NOT NULL DEFAULT 'epoch',
	expires_at timestamptz NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	login_type coder.login_type NOT NULL,
	lifetime_seconds bigint NOT NULL DEFAULT 86400,
	ip_address inet NOT NULL DEFAULT '0.0.0.0',
	token_name text NOT NULL DEFAULT '',
	scopes text[] NOT NULL DEFAULT '{coder:all}',
	allow_list text[] NOT NULL DEFAULT '{*:*}'
		CONSTRAINT api_keys_allow_list_not_empty CHECK (cardinality(allow_list) > 0)
);
CREATE UNIQUE INDEX idx_api_key_name ON coder.api_keys (user_id, token_name) WHERE login_type = 'token';
CREATE INDEX idx_api_keys_user ON coder.api_keys (user_id);

COMMENT ON TABLE coder.api_keys IS 'Sessions and tokens: "<id>-<secret>", of which only the SHA-256 of the secret is stored.';

SELECT pg_extension_config_dump('coder.api_keys', '');
