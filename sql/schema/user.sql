-- sql/schema/user.sql -- users and what is theirs; members and groups of organizations

CREATE TYPE coder.user_status AS ENUM ('active', 'suspended', 'dormant');
CREATE TYPE coder.login_type AS ENUM ('password', 'github', 'oidc', 'token', 'none', 'oauth2_provider_app');

CREATE TABLE coder.users (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	email text NOT NULL,
	username text NOT NULL DEFAULT '' CONSTRAINT users_username_min_length CHECK (length(username) >= 1),
	hashed_password bytea NOT NULL DEFAULT '',
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	status coder.user_status NOT NULL DEFAULT 'dormant',
	rbac_roles text[] NOT NULL DEFAULT '{}',
	login_type coder.login_type NOT NULL DEFAULT 'password',
	avatar_url text NOT NULL DEFAULT '',
	deleted bool NOT NULL DEFAULT false,
	last_seen_at timestamptz NOT NULL DEFAULT '0001-01-01 00:00:00+00',
	quiet_hours_schedule text NOT NULL DEFAULT '',
	name text NOT NULL DEFAULT '',
	github_com_user_id bigint,
	hashed_one_time_passcode bytea,
	one_time_passcode_expires_at timestamptz,
	is_system bool NOT NULL DEFAULT false,
	is_service_account bool NOT NULL DEFAULT false,
	chat_spend_limit_micros bigint CONSTRAINT users_chat_spend_limit_micros_check CHECK (chat_spend_limit_micros > 0),
	CONSTRAINT one_time_passcode_set
		CHECK ((hashed_one_time_passcode IS NULL) = (one_time_passcode_expires_at IS NULL)),
	CONSTRAINT users_email_not_empty CHECK ((email = '') = is_service_account),
	CONSTRAINT users_service_account_login_type CHECK (NOT is_service_account OR login_type = 'none')
);
CREATE UNIQUE INDEX users_email_lower_idx ON coder.users (lower(email)) WHERE NOT deleted AND email <> '';
CREATE UNIQUE INDEX users_username_lower_idx ON coder.users (lower(username)) WHERE NOT deleted;

-- The runs of three bytes of a text, as numbers: a text that contains another has all of that one's.
CREATE FUNCTION coder.grams(value text) RETURNS int4[] LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 300
AS 'MODULE_PATHNAME', 'coder_grams';

-- Is the word (of small letters) in the text, in any case?  strpos(lower(value), word) > 0, but quick.
CREATE FUNCTION coder.has_word(value text, word text) RETURNS bool LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'coder_has_word';

-- What contains a word: coder.user_condition asks in these words.
CREATE INDEX users_grams_idx ON coder.users USING gin
	(coder.grams(lower(username) || E'\n' || lower(email) || E'\n' || lower(name))) WITH (gin_pending_list_limit = 256);
-- Users who are not in lists, few: those of an organization are its members without them.
CREATE INDEX users_unlisted_idx ON coder.users (id) WHERE deleted OR is_system;

-- Users of the list, so that its count needs no scan; in many rows, so that two who make users wait for one another seldom.
CREATE TABLE coder.user_totals (
	slot int4 PRIMARY KEY,
	live bigint NOT NULL
);
COMMENT ON TABLE coder.user_totals IS 'Derived: the sum of live is the number of users that are neither deleted nor the system''s.';

-- Adds to the number of users.
CREATE FUNCTION coder.user_totals_add(n bigint) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF n <> 0 THEN
		INSERT INTO coder.user_totals AS t VALUES (pg_backend_pid() % 64, n)
		ON CONFLICT (slot) DO UPDATE SET live = t.live + n;
	END IF;
END
$$;

-- Triggers: keep coder.user_totals.
CREATE FUNCTION coder.users_counted() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_OP = 'TRUNCATE' THEN
		DELETE FROM coder.user_totals;
	ELSIF TG_OP = 'UPDATE' THEN
		PERFORM coder.user_totals_add((NOT NEW.deleted AND NOT NEW.is_system)::int - (NOT OLD.deleted AND NOT OLD.is_system)::int);
	ELSE
		PERFORM coder.user_totals_add(CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END * (SELECT count(*) FROM changed c WHERE NOT c.deleted AND NOT c.is_system));
	END IF;
	RETURN NULL;
END
$$;
CREATE TRIGGER users_counted_insert AFTER INSERT ON coder.users REFERENCING NEW TABLE AS changed
	FOR EACH STATEMENT EXECUTE FUNCTION coder.users_counted();
CREATE TRIGGER users_counted_delete AFTER DELETE ON coder.users REFERENCING OLD TABLE AS changed
	FOR EACH STATEMENT EXECUTE FUNCTION coder.users_counted();
CREATE TRIGGER users_counted_truncate AFTER TRUNCATE ON coder.users
	FOR EACH STATEMENT EXECUTE FUNCTION coder.users_counted();
CREATE TRIGGER users_counted_update AFTER UPDATE OF deleted, is_system ON coder.users FOR EACH ROW
	WHEN (NEW.deleted <> OLD.deleted OR NEW.is_system <> OLD.is_system) EXECUTE FUNCTION coder.users_counted();

CREATE TABLE coder.user_configs (
	user_id uuid NOT NULL REFERENCES coder.users (id) ON DELETE CASCADE,
	key varchar(256) NOT NULL,
	value text NOT NULL,
	PRIMARY KEY (user_id, key)
);

CREATE INDEX user_configs_scim_user_name_idx ON coder.user_configs (lower(value)) WHERE key = 'scim_user_name';

CREATE TABLE coder.user_links (
	user_id uuid NOT NULL REFERENCES coder.users (id) ON DELETE CASCADE,
	login_type coder.login_type NOT NULL,
	linked_id text NOT NULL DEFAULT '',
	oauth_access_token text NOT NULL DEFAULT '',
	oauth_refresh_token text NOT NULL DEFAULT '',
	oauth_expiry timestamptz NOT NULL DEFAULT '0001-01-01 00:00:00+00',
	oauth_access_token_key_id text REFERENCES coder.dbcrypt_keys (active_key_digest),
	oauth_refresh_token_key_id text REFERENCES coder.dbcrypt_keys (active_key_digest),
	claims jsonb NOT NULL DEFAULT '{}',
	PRIMARY KEY (user_id, login_type)
);
CREATE TRIGGER user_links_seal BEFORE INSERT OR UPDATE ON coder.user_links
	FOR EACH ROW EXECUTE FUNCTION coder.seal_columns('oauth_access_token', 'oauth_refresh_token');
CREATE UNIQUE INDEX user_links_linked_id_login_type_idx ON coder.user_links (linked_id, login_type)
	WHERE linked_id <> '';

CREATE TABLE coder.user_status_changes (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	user_id uuid NOT NULL REFERENCES coder.users (id),
	new_status coder.user_status NOT NULL,
	changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX user_status_changes_changed_at_idx ON coder.user_status_changes (changed_at);

CREATE TABLE coder.user_deleted (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	user_id uuid NOT NULL REFERENCES coder.users (id),
	deleted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX user_deleted_deleted_at_idx ON coder.user_deleted (deleted_at);

CREATE TABLE coder.user_secrets (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	user_id uuid NOT NULL REFERENCES coder.users (id) ON DELETE CASCADE,
	name text NOT NULL,
	description text NOT NULL DEFAULT '',
	value text NOT NULL,
	env_name text NOT NULL DEFAULT '',
	file_path text NOT NULL DEFAULT '',
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	value_key_id text REFERENCES coder.dbcrypt_keys (active_key_digest)
);
CREATE TRIGGER user_secrets_seal BEFORE INSERT OR UPDATE ON coder.user_secrets
	FOR EACH ROW EXECUTE FUNCTION coder.seal_columns('value');
CREATE UNIQUE INDEX user_secrets_user_env_name_idx ON coder.user_secrets (user_id, env_name) WHERE env_name <> '';
CREATE UNIQUE INDEX user_secrets_user_file_path_idx ON coder.user_secrets (user_id, file_path) WHERE file_path <> '';
CREATE UNIQUE INDEX user_secrets_user_name_idx ON coder.user_secrets (user_id, name);

CREATE TABLE coder.gitsshkeys (
	user_id uuid PRIMARY KEY REFERENCES coder.users (id),
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	private_key text NOT NULL,
	public_key text NOT NULL,
	private_key_key_id text REFERENCES coder.dbcrypt_keys (active_key_digest)
);
CREATE TRIGGER gitsshkeys_seal BEFORE INSERT OR UPDATE ON coder.gitsshkeys
	FOR EACH ROW EXECUTE FUNCTION coder.seal_columns('private_key');

CREATE TABLE coder.organization_members (
	user_id uuid NOT NULL REFERENCES coder.users (id) ON DELETE CASCADE,
	organization_id uuid NOT NULL REFERENCES coder.organizations (id) ON DELETE CASCADE,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	roles text[] NOT NULL DEFAULT '{}',
	PRIMARY KEY (organization_id, user_id)
);
CREATE INDEX idx_organization_member_user_id_uuid ON coder.organization_members (user_id);

-- Members of each organization, so that the list's count needs no scan; in many rows, as coder.user_totals.
CREATE TABLE coder.member_totals (
	organization_id uuid NOT NULL,
	slot int4 NOT NULL,
	members bigint NOT NULL,
	PRIMARY KEY (organization_id, slot)
);
COMMENT ON TABLE coder.member_totals IS 'Derived: the sum of members is the number of rows of organization_members of the organization.';

-- Triggers: keep coder.member_totals.
CREATE FUNCTION coder.members_counted() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	step CONSTANT int := CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
BEGIN
	IF TG_OP = 'TRUNCATE' THEN
		DELETE FROM coder.member_totals;
	ELSIF TG_OP = 'UPDATE' THEN
		INSERT INTO coder.member_totals AS t VALUES (OLD.organization_id, pg_backend_pid() % 64, -1), (NEW.organization_id, pg_backend_pid() % 64, 1)
		ON CONFLICT (organization_id, slot) DO UPDATE SET members = t.members + excluded.members;
	ELSE
		INSERT INTO coder.member_totals AS t SELECT c.organization_id, pg_backend_pid() % 64, step * count(*) FROM changed c GROUP BY c.organization_id
		ON CONFLICT (organization_id, slot) DO UPDATE SET members = t.members + excluded.members;
	END IF;
	RETURN NULL;
END
$$;
CREATE TRIGGER members_counted_insert AFTER INSERT ON coder.organization_members REFERENCING NEW TABLE AS changed
	FOR EACH STATEMENT EXECUTE FUNCTION coder.members_counted();
CREATE TRIGGER members_counted_delete AFTER DELETE ON coder.organization_members REFERENCING OLD TABLE AS changed
	FOR EACH STATEMENT EXECUTE FUNCTION coder.members_counted();
CREATE TRIGGER members_counted_truncate AFTER TRUNCATE ON coder.organization_members
	FOR EACH STATEMENT EXECUTE FUNCTION coder.members_counted();
CREATE TRIGGER members_counted_update AFTER UPDATE OF organization_id ON coder.organization_members FOR EACH ROW
	WHEN (NEW.organization_id <> OLD.organization_id) EXECUTE FUNCTION coder.members_counted();

CREATE TABLE coder.groups (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	name text NOT NULL,
	organization_id uuid NOT NULL REFERENCES coder.organizations (id) ON DELETE CASCADE,
	avatar_url text NOT NULL DEFAULT '',
	quota_allowance int4 NOT NULL DEFAULT 0,
	display_name text NOT NULL DEFAULT '',
	source coder.group_source NOT NULL DEFAULT 'user',
	chat_spend_limit_micros bigint CONSTRAINT groups_chat_spend_limit_micros_check CHECK (chat_spend_limit_micros > 0),
	CONSTRAINT groups_name_organization_id_key UNIQUE (name, organization_id)
);

CREATE TABLE coder.group_members (
	user_id uuid NOT NULL REFERENCES coder.users (id) ON DELETE CASCADE,
	group_id uuid NOT NULL REFERENCES coder.groups (id) ON DELETE CASCADE,
	CONSTRAINT group_members_user_id_group_id_key UNIQUE (user_id, group_id)
);
CREATE INDEX group_members_group_id_idx ON coder.group_members (group_id);

COMMENT ON TABLE coder.users IS 'People, service accounts and system users; deleted ones keep their rows, passwords are argon2id.';
COMMENT ON TABLE coder.user_configs IS 'A user''s settings by key: appearance, preferences, dismissed hints.';
COMMENT ON TABLE coder.user_links IS 'Links of users to outside logins and their tokens.';
COMMENT ON TABLE coder.user_status_changes IS 'Each change of a user''s status, for the statistics over time.';
COMMENT ON TABLE coder.user_deleted IS 'When a user was deleted, for the statistics over time.';
COMMENT ON TABLE coder.user_secrets IS 'A user''s named secrets for workspaces.';
COMMENT ON TABLE coder.gitsshkeys IS 'A user''s SSH key for git; the private half is given to agents only, and sealed where there is a key.';
COMMENT ON TABLE coder.organization_members IS 'Who belongs to which organization, with the roles there.';
COMMENT ON TABLE coder.groups IS 'Groups of an organization''s members; the one whose id is the organization''s is "Everyone".';
COMMENT ON TABLE coder.group_members IS 'Who is in which group; every member of an organization is in "Everyone" without a row.';

SELECT pg_extension_config_dump('coder.users', '');
SELECT pg_extension_config_dump('coder.user_configs', '');
SELECT pg_extension_config_dump('coder.user_links', '');
SELECT pg_extension_config_dump('coder.user_status_changes', '');
SELECT pg_extension_config_dump('coder.user_deleted', '');
SELECT pg_extension_config_dump('coder.user_secrets', '');
SELECT pg_extension_config_dump('coder.gitsshkeys', '');
SELECT pg_extension_config_dump('coder.organization_members', '');
SELECT pg_extension_config_dump('coder.groups', '');
SELECT pg_extension_config_dump('coder.group_members', '');
