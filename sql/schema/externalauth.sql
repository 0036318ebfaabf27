-- sql/schema/externalauth.sql -- users' tokens at other servers, such as git hosts

CREATE TABLE coder.external_auth_links (
	provider_id text NOT NULL,
	user_id uuid NOT NULL REFERENCES coder.users (id) ON DELETE CASCADE,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	oauth_access_token text NOT NULL,
	oauth_refresh_token text NOT NULL,
	oauth_expiry timestamptz NOT NULL,
	oauth_access_token_key_id text REFERENCES coder.dbcrypt_keys (active_key_digest),
	oauth_refresh_token_key_id text REFERENCES coder.dbcrypt_keys (active_key_digest),
	oauth_extra jsonb,
	oauth_refresh_failure_reason text NOT NULL DEFAULT '',
	CONSTRAINT git_auth_links_provider_id_user_id_key UNIQUE (provider_id, user_id)
);
CREATE TRIGGER external_auth_links_seal BEFORE INSERT OR UPDATE ON coder.external_auth_links
	FOR EACH ROW EXECUTE FUNCTION coder.seal_columns('oauth_access_token', 'oauth_refresh_token');

COMMENT ON TABLE coder.external_auth_links IS 'Users'' tokens at other servers, such as git hosts; sealed where there is a key.';

SELECT pg_extension_config_dump('coder.external_auth_links', '');
