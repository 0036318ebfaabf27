-- sql/schema/oauth2provider.sql -- other programs that sign users in with this server (OAuth 2.0 provider)
--
-- Secrets, codes and refresh tokens are "coder_<10>_<40>": found by the first part, proven by SHA-256 of the second.

CREATE TABLE coder.oauth2_provider_apps (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	name varchar(64) NOT NULL,
	icon varchar(256) NOT NULL DEFAULT '',
	callback_url text NOT NULL,
	redirect_uris text[] NOT NULL DEFAULT '{}',
	client_type text NOT NULL DEFAULT 'confidential' CHECK (client_type IN ('confidential', 'public')),
	dynamically_registered bool NOT NULL DEFAULT false,
	client_id_issued_at timestamptz NOT NULL DEFAULT now(),
	client_secret_expires_at timestamptz,
	grant_types text[] NOT NULL DEFAULT '{authorization_code,refresh_token}',
	response_types text[] NOT NULL DEFAULT '{code}',
	token_endpoint_auth_method text NOT NULL DEFAULT 'client_secret_basic'
		CHECK (token_endpoint_auth_method IN ('client_secret_basic', 'client_secret_post', 'none')),
	scope text NOT NULL DEFAULT '',
	contacts text[] NOT NULL DEFAULT '{}',
	client_uri text,
	logo_uri text,
	tos_uri text,
	policy_uri text,
	jwks_uri text,
	jwks jsonb,
	software_id text,
	software_version text,
	registration_access_token bytea,
	registration_client_uri text
);
-- Names of registered programs are theirs to choose; those that an administrator gives are unique.
CREATE UNIQUE INDEX oauth2_provider_apps_name_key ON coder.oauth2_provider_apps (name) WHERE NOT dynamically_registered;
COMMENT ON TABLE coder.oauth2_provider_apps IS 'Client applications that sign users in with this server.';

CREATE TABLE coder.oauth2_provider_app_secrets (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	created_at timestamptz NOT NULL DEFAULT now(),
	last_used_at timestamptz,
	hashed_secret bytea NOT NULL,
	display_secret text NOT NULL,
	app_id uuid NOT NULL REFERENCES coder.oauth2_provider_apps (id) ON DELETE CASCADE,
	secret_prefix bytea NOT NULL UNIQUE
);
CREATE INDEX oauth2_provider_app_secrets_app ON coder.oauth2_provider_app_secrets (app_id);
COMMENT ON TABLE coder.oauth2_provider_app_secrets IS 'Secrets of client applications: a prefix to find them, and a hash.';

CREATE TABLE coder.oauth2_provider_app_codes (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	created_at timestamptz NOT NULL DEFAULT now(),
	expires_at timestamptz NOT NULL,
	secret_prefix bytea NOT NULL UNIQUE,
	hashed_secret bytea NOT NULL,
	user_id uuid NOT NULL REFERENCES coder.users (id) ON DELETE CASCADE,
	app_id uuid NOT NULL REFERENCES coder.oauth2_provider_apps (id) ON DELETE CASCADE,
	resource_uri text,
	code_challenge text NOT NULL,
	code_challenge_method text NOT NULL DEFAULT 'S256' CHECK (code_challenge_method = 'S256'),
	state_hash text,
	redirect_uri text,
	UNIQUE (app_id, user_id)
);
CREATE INDEX oauth2_provider_app_codes_user ON coder.oauth2_provider_app_codes (user_id);
COMMENT ON TABLE coder.oauth2_provider_app_codes IS 'Authorization codes, one for each application and user, good once and for ten minutes.';

CREATE TABLE coder.oauth2_provider_app_tokens (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	created_at timestamptz NOT NULL DEFAULT now(),
	expires_at timestamptz NOT NULL,
	hash_prefix bytea NOT NULL UNIQUE,
	refresh_hash bytea NOT NULL,
	app_secret_id uuid NOT NULL REFERENCES coder.oauth2_provider_app_secrets (id) ON DELETE CASCADE,
	api_key_id text NOT NULL REFERENCES coder.api_keys (id) ON DELETE CASCADE,
	audience text,
	user_id uuid NOT NULL REFERENCES coder.users (id) ON DELETE CASCADE
);
CREATE INDEX oauth2_provider_app_tokens_secret ON coder.oauth2_provider_app_tokens (app_secret_id);
CREATE INDEX oauth2_provider_app_tokens_key ON coder.oauth2_provider_app_tokens (api_key_id);
CREATE INDEX oauth2_provider_app_tokens_user ON coder.oauth2_provider_app_tokens (user_id);
COMMENT ON TABLE coder.oauth2_provider_app_tokens IS 'Refresh tokens of client applications, each bound to the API key that is the access token.';

-- Trigger: an access token does not outlive its refresh token, nor the secret and application behind it.
CREATE FUNCTION coder.delete_deleted_oauth2_provider_app_token_api_key() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM coder.api_keys k WHERE k.id = OLD.api_key_id;
	RETURN OLD;
END
$$;

CREATE TRIGGER trigger_delete_oauth2_provider_app_token AFTER DELETE ON coder.oauth2_provider_app_tokens
	FOR EACH ROW EXECUTE FUNCTION coder.delete_deleted_oauth2_provider_app_token_api_key();

SELECT pg_extension_config_dump('coder.oauth2_provider_apps', '');
SELECT pg_extension_config_dump('coder.oauth2_provider_app_secrets', '');
SELECT pg_extension_config_dump('coder.oauth2_provider_app_codes', '');
SELECT pg_extension_config_dump('coder.oauth2_provider_app_tokens', '');
