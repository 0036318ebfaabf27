-- sql/schema/chat.sql -- chats with language models, what they say, and what they are allowed to spend
--
-- The state machine is a trigger: no writer, whoever it is, takes a chat from one status to another that cannot follow.

CREATE TYPE coder.chat_status AS ENUM ('waiting', 'pending', 'running', 'paused', 'completed', 'error', 'requires_action');
CREATE TYPE coder.chat_message_role AS ENUM ('system', 'user', 'assistant', 'tool');
CREATE TYPE coder.chat_message_visibility AS ENUM ('user', 'model', 'both');
CREATE TYPE coder.chat_mode AS ENUM ('computer_use');

CREATE TABLE coder.chat_providers (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	provider text NOT NULL UNIQUE CONSTRAINT chat_providers_provider_check CHECK (provider IN
		('anthropic', 'azure', 'bedrock', 'google', 'openai', 'openai-compat', 'openrouter', 'vercel')),
	display_name text NOT NULL DEFAULT '',
	api_key text NOT NULL DEFAULT '',
	api_key_key_id text,
	created_by uuid REFERENCES coder.users (id),
	enabled bool NOT NULL DEFAULT true,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	base_url text NOT NULL DEFAULT '',
	central_api_key_enabled bool NOT NULL DEFAULT true,
	allow_user_api_key bool NOT NULL DEFAULT false,
	allow_central_api_key_fallback bool NOT NULL DEFAULT false,
	CONSTRAINT valid_credential_policy CHECK ((central_api_key_enabled OR allow_user_api_key)
		AND (NOT allow_central_api_key_fallback OR (central_api_key_enabled AND allow_user_api_key)))
);
COMMENT ON TABLE coder.chat_providers IS 'Providers of language models, with their keys and who may use which key.';

CREATE TABLE coder.chat_model_configs (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	provider text NOT NULL REFERENCES coder.chat_providers (provider) ON DELETE CASCADE,
	model text NOT NULL,
	display_name text NOT NULL DEFAULT '',
	created_by uuid REFERENCES coder.users (id),
	updated_by uuid REFERENCES coder.users (id),
	enabled bool NOT NULL DEFAULT true,
	is_default bool NOT NULL DEFAULT false,
	deleted bool NOT NULL DEFAULT false,
	deleted_at timestamptz,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	context_limit bigint NOT NULL CONSTRAINT chat_model_configs_context_limit_check CHECK (context_limit > 0),
	compression_threshold int4 NOT NULL DEFAULT 70
		CONSTRAINT chat_model_configs_compression_threshold_check CHECK (compression_threshold BETWEEN 0 AND 100),
	options jsonb NOT NULL DEFAULT '{}'
);
CREATE UNIQUE INDEX idx_chat_model_configs_single_default ON coder.chat_model_configs ((1)) WHERE is_default AND NOT deleted;
CREATE INDEX idx_chat_model_configs_provider_model ON coder.chat_model_configs (provider, model);
COMMENT ON TABLE coder.chat_model_configs IS 'Models that chats may use, one of them the default; prices and call settings in options.';

CREATE TABLE coder.user_chat_provider_keys (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	user_id uuid NOT NULL REFERENCES coder.users (id) ON DELETE CASCADE,
	chat_provider_id uuid NOT NULL REFERENCES coder.chat_providers (id) ON DELETE CASCADE,
	api_key text NOT NULL CHECK (api_key <> ''),
	api_key_key_id text,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	UNIQUE (user_id, chat_provider_id)
);
CREATE INDEX idx_user_chat_provider_keys_provider ON coder.user_chat_provider_keys (chat_provider_id);
COMMENT ON TABLE coder.user_chat_provider_keys IS 'Users'' own keys of providers that allow them.';

CREATE TABLE coder.chats (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	owner_id uuid NOT NULL REFERENCES coder.users (id) ON DELETE CASCADE,
	organization_id uuid NOT NULL REFERENCES coder.organizations (id) ON DELETE CASCADE,
	workspace_id uuid REFERENCES coder.workspaces (id) ON DELETE SET NULL,
	build_id uuid REFERENCES coder.workspace_builds (id) ON DELETE SET NULL,
	agent_id uuid REFERENCES coder.workspace_agents (id) ON DELETE SET NULL,
	title text NOT NULL DEFAULT 'New Chat',
	status coder.chat_status NOT NULL DEFAULT 'waiting',
	worker_id uuid,
	started_at timestamptz,
	heartbeat_at timestamptz,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	parent_chat_id uuid REFERENCES coder.chats (id) ON DELETE SET NULL,
	root_chat_id uuid REFERENCES coder.chats (id) ON DELETE SET NULL,
	last_model_config_id uuid NOT NULL REFERENCES coder.chat_model_configs (id),
	archived bool NOT NULL DEFAULT false,
	last_error text,
	mode coder.chat_mode,
	mcp_server_ids uuid[] NOT NULL DEFAULT '{}',
	labels jsonb NOT NULL DEFAULT '{}',
	pin_order int4 NOT NULL DEFAULT 0 CHECK (pin_order >= 0),
	last_read_message_id bigint,
	last_injected_context jsonb,
	context_agent_id uuid,	-- the agent whose instruction files and skills were read last
	workspace_home text,	-- the home folder there
	dynamic_tools jsonb,
	history_epoch int4 NOT NULL DEFAULT 0	-- counts edits: a stream of an older one sends the history again
);
CREATE INDEX idx_chats_owner ON coder.chats (owner_id, archived, updated_at DESC);
CREATE INDEX idx_chats_organization ON coder.chats (organization_id);
CREATE INDEX idx_chats_workspace ON coder.chats (workspace_id) WHERE workspace_id IS NOT NULL;
CREATE INDEX idx_chats_build ON coder.chats (build_id) WHERE build_id IS NOT NULL;
CREATE INDEX idx_chats_agent ON coder.chats (agent_id) WHERE agent_id IS NOT NULL;
CREATE INDEX idx_chats_parent ON coder.chats (parent_chat_id) WHERE parent_chat_id IS NOT NULL;
CREATE INDEX idx_chats_root ON coder.chats (root_chat_id) WHERE root_chat_id IS NOT NULL;
CREATE INDEX idx_chats_model ON coder.chats (last_model_config_id);
CREATE INDEX idx_chats_labels ON coder.chats USING gin (labels);
CREATE INDEX idx_chats_pending ON coder.chats (updated_at) WHERE status = 'pending';
CREATE INDEX idx_chats_leased ON coder.chats (heartbeat_at) WHERE status IN ('running', 'requires_action');
COMMENT ON TABLE coder.chats IS 'Conversations; worker_id, started_at and heartbeat_at are the lease of the runner that has it.';

CREATE TABLE coder.chat_messages (
	id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	chat_id uuid NOT NULL REFERENCES coder.chats (id) ON DELETE CASCADE,
	model_config_id uuid REFERENCES coder.chat_model_configs (id),
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	role coder.chat_message_role NOT NULL,
	content jsonb,
	visibility coder.chat_message_visibility NOT NULL DEFAULT 'both',
	input_tokens bigint,
	output_tokens bigint,
	total_tokens bigint,
	reasoning_tokens bigint,
	cache_creation_tokens bigint,
	cache_read_tokens bigint,
	context_limit bigint,
	compressed bool NOT NULL DEFAULT false,
	created_by uuid,
	content_version int2 NOT NULL DEFAULT 1,
	total_cost_micros bigint,
	runtime_ms bigint,
	deleted bool NOT NULL DEFAULT false,
	provider_response_id text
);
CREATE INDEX idx_chat_messages_chat ON coder.chat_messages (chat_id, id);
CREATE INDEX idx_chat_messages_model ON coder.chat_messages (model_config_id) WHERE model_config_id IS NOT NULL;
CREATE INDEX idx_chat_messages_spend ON coder.chat_messages (chat_id, created_at) WHERE total_cost_micros IS NOT NULL;
CREATE INDEX idx_chat_messages_created ON coder.chat_messages (created_at);
COMMENT ON TABLE coder.chat_messages IS 'What was said, in the order of id, with tokens and cost; an edit marks rows as deleted and never changes them.';

CREATE TABLE coder.chat_queued_messages (
	id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	chat_id uuid NOT NULL REFERENCES coder.chats (id) ON DELETE CASCADE,
	content jsonb NOT NULL,
	model_config_id uuid,
	created_by uuid,
	created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idx_chat_queued_messages_chat ON coder.chat_queued_messages (chat_id, id);
COMMENT ON TABLE coder.chat_queued_messages IS 'Users'' messages that wait while a chat runs; at most 20 a chat.';

CREATE UNLOGGED TABLE coder.chat_stream_events (
	chat_id uuid NOT NULL,
	seq bigint GENERATED ALWAYS AS IDENTITY,
	event jsonb NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (chat_id, seq)
);
COMMENT ON TABLE coder.chat_stream_events IS
	'What the runner of a chat says of the turn in progress, in order: every gateway streams it from here. One writer a chat, so that the order is that of commit. Without WAL: a crash ends the turn as well.';

CREATE UNLOGGED TABLE coder.chat_title_requests (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	chat_id uuid NOT NULL,
	worker_id uuid,		-- the runner that does it
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	done_at timestamptz,
	error text			-- NULL when done: the chat has a new title
);
COMMENT ON TABLE coder.chat_title_requests IS
	'Titles that were asked for: the request waits, without a transaction, until a runner has done it. Without WAL: who waits is told of a failure.';

CREATE UNLOGGED TABLE coder.chat_agent_tickets (
	hash bytea PRIMARY KEY,		-- SHA-256 of the ticket
	agent_id uuid NOT NULL,
	expires_at timestamptz NOT NULL
);
CREATE INDEX idx_chat_agent_tickets_expires ON coder.chat_agent_tickets (expires_at);
COMMENT ON TABLE coder.chat_agent_tickets IS
	'What opens a runner''s way to the agent of a chat''s workspace, for some minutes. Without WAL: a runner asks for another.';

CREATE TABLE coder.chat_usage_limit_config (
	id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	singleton bool NOT NULL DEFAULT true UNIQUE CHECK (singleton),
	enabled bool NOT NULL DEFAULT false,
	default_limit_micros bigint NOT NULL DEFAULT 0 CHECK (default_limit_micros >= 0),
	period text NOT NULL DEFAULT 'month' CHECK (period IN ('day', 'week', 'month')),
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE coder.chat_usage_limit_config IS 'The default limit of what a user''s chats may cost in a period; one row.';

CREATE TABLE coder.chat_files (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	owner_id uuid NOT NULL REFERENCES coder.users (id) ON DELETE CASCADE,
	organization_id uuid NOT NULL REFERENCES coder.organizations (id) ON DELETE CASCADE,
	created_at timestamptz NOT NULL DEFAULT now(),
	name text NOT NULL DEFAULT '',
	mimetype text NOT NULL,
	data bytea NOT NULL
);
CREATE INDEX idx_chat_files_owner ON coder.chat_files (owner_id);
CREATE INDEX idx_chat_files_organization ON coder.chat_files (organization_id);
COMMENT ON TABLE coder.chat_files IS 'Files that were given to chats.';

CREATE TABLE coder.chat_file_links (
	chat_id uuid NOT NULL REFERENCES coder.chats (id) ON DELETE CASCADE,
	file_id uuid NOT NULL REFERENCES coder.chat_files (id) ON DELETE CASCADE,
	UNIQUE (chat_id, file_id)
);
CREATE INDEX idx_chat_file_links_file ON coder.chat_file_links (file_id);
COMMENT ON TABLE coder.chat_file_links IS 'Which chat uses which file; at most 20 a chat.';

CREATE TABLE coder.chat_diff_statuses (
	chat_id uuid PRIMARY KEY REFERENCES coder.chats (id) ON DELETE CASCADE,
	url text,
	pull_request_state text,
	pull_request_title text NOT NULL DEFAULT '',
	pull_request_draft bool NOT NULL DEFAULT false,
	changes_requested bool NOT NULL DEFAULT false,
	additions int4 NOT NULL DEFAULT 0,
	deletions int4 NOT NULL DEFAULT 0,
	changed_files int4 NOT NULL DEFAULT 0,
	author_login text,
	author_avatar_url text,
	base_branch text,
	head_branch text,
	pr_number int4,
	commits int4,
	approved bool,
	reviewer_count int4,
	git_branch text NOT NULL DEFAULT '',
	git_remote_origin text NOT NULL DEFAULT '',
	refreshed_at timestamptz,
	stale_at timestamptz NOT NULL DEFAULT now(),
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idx_chat_diff_statuses_stale ON coder.chat_diff_statuses (stale_at);
COMMENT ON TABLE coder.chat_diff_statuses IS 'The branch or pull request that a chat works on, as the git provider last said.';

CREATE TABLE coder.chat_debug_runs (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	chat_id uuid NOT NULL REFERENCES coder.chats (id) ON DELETE CASCADE,
	root_chat_id uuid,
	parent_chat_id uuid,
	model_config_id uuid,
	trigger_message_id bigint,
	history_tip_message_id bigint,
	kind text NOT NULL CHECK (kind IN ('chat_turn', 'title_generation', 'quickgen', 'compaction')),
	status text NOT NULL CHECK (status IN ('in_progress', 'completed', 'error', 'interrupted')),
	provider text,
	model text,
	summary jsonb NOT NULL DEFAULT '{}',
	started_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	finished_at timestamptz,
	CONSTRAINT idx_chat_debug_runs_id_chat UNIQUE (id, chat_id)
);
CREATE INDEX idx_chat_debug_runs_chat ON coder.chat_debug_runs (chat_id, started_at DESC);
CREATE INDEX idx_chat_debug_runs_open ON coder.chat_debug_runs (updated_at) WHERE finished_at IS NULL;
COMMENT ON TABLE coder.chat_debug_runs IS 'What a run of a chat asked of its provider, where debug logging is on.';

CREATE TABLE coder.chat_debug_steps (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	run_id uuid NOT NULL,
	chat_id uuid NOT NULL REFERENCES coder.chats (id) ON DELETE CASCADE,
	step_number int4 NOT NULL,
	operation text NOT NULL CHECK (operation IN ('stream', 'generate')),
	status text NOT NULL CHECK (status IN ('in_progress', 'completed', 'error', 'interrupted')),
	history_tip_message_id bigint,
	assistant_message_id bigint,
	normalized_request jsonb NOT NULL,
	normalized_response jsonb,
	usage jsonb,
	attempts jsonb NOT NULL DEFAULT '[]',
	error jsonb,
	metadata jsonb NOT NULL DEFAULT '{}',
	started_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	finished_at timestamptz,
	CONSTRAINT idx_chat_debug_steps_run_step UNIQUE (run_id, step_number),
	FOREIGN KEY (run_id, chat_id) REFERENCES coder.chat_debug_runs (id, chat_id) ON DELETE CASCADE
);
CREATE INDEX idx_chat_debug_steps_message ON coder.chat_debug_steps (chat_id, assistant_message_id) WHERE assistant_message_id IS NOT NULL;
COMMENT ON TABLE coder.chat_debug_steps IS 'The steps of a debug run: request, response, usage, attempts.';

CREATE TABLE coder.mcp_server_configs (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	display_name text NOT NULL,
	slug text NOT NULL UNIQUE,
	description text NOT NULL DEFAULT '',
	icon_url text NOT NULL DEFAULT '',
	transport text NOT NULL DEFAULT 'streamable_http' CONSTRAINT mcp_server_configs_transport_check CHECK (transport IN ('streamable_http', 'sse')),
	url text NOT NULL,
	auth_type text NOT NULL DEFAULT 'none' CONSTRAINT mcp_server_configs_auth_type_check
		CHECK (auth_type IN ('none', 'oauth2', 'api_key', 'custom_headers')),
	oauth2_client_id text NOT NULL DEFAULT '',
	oauth2_client_secret text NOT NULL DEFAULT '',
	oauth2_client_secret_key_id text,
	oauth2_auth_url text NOT NULL DEFAULT '',
	oauth2_token_url text NOT NULL DEFAULT '',
	oauth2_scopes text NOT NULL DEFAULT '',
	api_key_header text NOT NULL DEFAULT 'Authorization',
	api_key_value text NOT NULL DEFAULT '',
	api_key_value_key_id text,
	custom_headers text NOT NULL DEFAULT '{}',
	custom_headers_key_id text,
	tool_allow_list text[] NOT NULL DEFAULT '{}',
	tool_deny_list text[] NOT NULL DEFAULT '{}',
	availability text NOT NULL DEFAULT 'default_off' CONSTRAINT mcp_server_configs_availability_check
		CHECK (availability IN ('force_on', 'default_on', 'default_off')),
	enabled bool NOT NULL DEFAULT false,
	created_by uuid REFERENCES coder.users (id) ON DELETE SET NULL,
	updated_by uuid REFERENCES coder.users (id) ON DELETE SET NULL,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	model_intent bool NOT NULL DEFAULT false,
	oauth2_discovered bool NOT NULL DEFAULT false,	-- the server's metadata named the addresses, not an administrator
	oauth2_revocation_url text NOT NULL DEFAULT '',
	oauth2_resource text NOT NULL DEFAULT '',		-- RFC 8707, where the metadata names it
	oauth2_basic bool NOT NULL DEFAULT false		-- the token endpoint wants the client's secret in a header
);
COMMENT ON TABLE coder.mcp_server_configs IS 'Servers of the Model Context Protocol whose tools chats may use.';

CREATE TABLE coder.mcp_server_user_tokens (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	mcp_server_config_id uuid NOT NULL REFERENCES coder.mcp_server_configs (id) ON DELETE CASCADE,
	user_id uuid NOT NULL REFERENCES coder.users (id) ON DELETE CASCADE,
	access_token text NOT NULL,
	access_token_key_id text,
	refresh_token text NOT NULL DEFAULT '',
	refresh_token_key_id text,
	token_type text NOT NULL DEFAULT 'Bearer',
	expiry timestamptz,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	refreshing_until timestamptz,	-- somebody refreshes it: others wait, up to then
	UNIQUE (mcp_server_config_id, user_id)
);
CREATE INDEX idx_mcp_server_user_tokens_user ON coder.mcp_server_user_tokens (user_id);
COMMENT ON TABLE coder.mcp_server_user_tokens IS 'Users'' OAuth2 tokens for MCP servers.';

-- Trigger: only transitions that can follow, and a lease only while one runs.
CREATE FUNCTION coder.chat_transition() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NEW.status IS DISTINCT FROM OLD.status AND NOT (CASE OLD.status
			WHEN 'pending' THEN NEW.status IN ('running', 'waiting')
			WHEN 'running' THEN NEW.status IN ('waiting', 'pending', 'error', 'requires_action')
			WHEN 'requires_action' THEN NEW.status IN ('pending', 'waiting', 'error')
			ELSE NEW.status IN ('pending', 'waiting') END) THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('a chat does not go from %s to %s', OLD.status, NEW.status),
			DETAIL = format('chat %s', OLD.id);
	END IF;
	IF NEW.status <> 'running' THEN
		NEW.worker_id := NULL;
		NEW.started_at := NULL;
		NEW.heartbeat_at := NULL;
	ELSIF NEW.worker_id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = 'a running chat has a worker', DETAIL = format('chat %s', OLD.id);
	END IF;
	RETURN NEW;
END
$$;
CREATE TRIGGER chat_transition BEFORE UPDATE OF status ON coder.chats FOR EACH ROW EXECUTE FUNCTION coder.chat_transition();

CREATE TABLE coder.chat_config_changes (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
	at timestamptz NOT NULL DEFAULT clock_timestamp(),
	kind text NOT NULL,
	entity_id uuid NOT NULL
);
COMMENT ON TABLE coder.chat_config_changes IS 'The last hour''s changes of what turns are configured by: runners read, with the chats that they take, those since the time before (coder.chat_take).';
CREATE INDEX chat_config_changes_xid ON coder.chat_config_changes (xid);

-- Tells the runners of a change of what turns are configured by: by a row, which who takes a chat after the commit reads,
-- and by NOTIFY.  Rows, not a counter: two changes never wait for one another.
CREATE FUNCTION coder.chat_tell_config_change(kind text, entity uuid) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	number bigint;
BEGIN
	INSERT INTO coder.chat_config_changes (kind, entity_id) VALUES (kind, entity) RETURNING id INTO number;
	PERFORM pg_notify('chat:config_change', json_build_object('kind', kind, 'entity_id', entity, 'change', number)::text);
END
$$;

-- Trigger: what turns are configured by has changed; kind is the trigger's argument.  In the transaction of the change,
-- so that no writer can forget it (coder.chat_providers, chat_model_configs, user_configs).
CREATE FUNCTION coder.chat_config_changed() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kind CONSTANT text := TG_ARGV[0];
	changed CONSTANT jsonb := CASE TG_OP WHEN 'DELETE' THEN to_jsonb(OLD) WHEN 'TRUNCATE' THEN '{}' ELSE to_jsonb(NEW) END;
	key CONSTANT text := CASE WHEN kind IN ('model_config', 'mcp_server') THEN 'id' WHEN kind = 'user_prompt' THEN 'user_id' END;
BEGIN
	PERFORM coder.chat_tell_config_change(kind, coalesce((changed->>key)::uuid, '00000000-0000-0000-0000-000000000000'));
	IF TG_OP = 'UPDATE' AND to_jsonb(OLD)->>key <> changed->>key THEN
		PERFORM coder.chat_tell_config_change(kind, (to_jsonb(OLD)->>key)::uuid);
	END IF;
	RETURN NULL;
END
$$;
CREATE TRIGGER chat_config_changed AFTER INSERT OR UPDATE OR DELETE ON coder.chat_providers
	FOR EACH ROW EXECUTE FUNCTION coder.chat_config_changed('providers');
CREATE TRIGGER chat_config_truncated AFTER TRUNCATE ON coder.chat_providers
	FOR EACH STATEMENT EXECUTE FUNCTION coder.chat_config_changed('providers');
CREATE TRIGGER chat_config_changed AFTER INSERT OR UPDATE OR DELETE ON coder.chat_model_configs
	FOR EACH ROW EXECUTE FUNCTION coder.chat_config_changed('model_config');
CREATE TRIGGER chat_config_truncated AFTER TRUNCATE ON coder.chat_model_configs
	FOR EACH STATEMENT EXECUTE FUNCTION coder.chat_config_changed('providers');
CREATE TRIGGER chat_config_changed AFTER INSERT OR UPDATE OR DELETE ON coder.mcp_server_configs
	FOR EACH ROW EXECUTE FUNCTION coder.chat_config_changed('mcp_server');
CREATE TRIGGER chat_config_truncated AFTER TRUNCATE ON coder.mcp_server_configs
	FOR EACH STATEMENT EXECUTE FUNCTION coder.chat_config_changed('mcp_servers');
CREATE TRIGGER chat_prompt_added AFTER INSERT ON coder.user_configs
	FOR EACH ROW WHEN (NEW.key = 'chat_custom_prompt') EXECUTE FUNCTION coder.chat_config_changed('user_prompt');
CREATE TRIGGER chat_prompt_changed AFTER UPDATE ON coder.user_configs
	FOR EACH ROW WHEN (NEW.key = 'chat_custom_prompt' OR OLD.key = 'chat_custom_prompt')
	EXECUTE FUNCTION coder.chat_config_changed('user_prompt');
CREATE TRIGGER chat_prompt_deleted AFTER DELETE ON coder.user_configs
	FOR EACH ROW WHEN (OLD.key = 'chat_custom_prompt') EXECUTE FUNCTION coder.chat_config_changed('user_prompt');
CREATE TRIGGER chat_prompts_truncated AFTER TRUNCATE ON coder.user_configs
	FOR EACH STATEMENT EXECUTE FUNCTION coder.chat_config_changed('user_prompts');

SELECT pg_extension_config_dump('coder.chat_providers', '');
SELECT pg_extension_config_dump('coder.chat_model_configs', '');
SELECT pg_extension_config_dump('coder.user_chat_provider_keys', '');
SELECT pg_extension_config_dump('coder.chats', '');
SELECT pg_extension_config_dump('coder.chat_messages', '');
SELECT pg_extension_config_dump('coder.chat_messages_id_seq', '');
SELECT pg_extension_config_dump('coder.chat_queued_messages', '');
SELECT pg_extension_config_dump('coder.chat_queued_messages_id_seq', '');
SELECT pg_extension_config_dump('coder.chat_usage_limit_config', '');
SELECT pg_extension_config_dump('coder.chat_files', '');
SELECT pg_extension_config_dump('coder.chat_file_links', '');
SELECT pg_extension_config_dump('coder.chat_diff_statuses', '');
SELECT pg_extension_config_dump('coder.chat_debug_runs', '');
SELECT pg_extension_config_dump('coder.chat_debug_steps', '');
SELECT pg_extension_config_dump('coder.mcp_server_configs', '');
SELECT pg_extension_config_dump('coder.mcp_server_user_tokens', '');

-- Keys of providers are sealed where the gateways have keys to seal by (sql/schema/seal.sql).
CREATE TRIGGER seal BEFORE INSERT OR UPDATE ON coder.chat_providers
	FOR EACH ROW EXECUTE FUNCTION coder.seal_columns('api_key');
CREATE TRIGGER seal BEFORE INSERT OR UPDATE ON coder.user_chat_provider_keys
	FOR EACH ROW EXECUTE FUNCTION coder.seal_columns('api_key');
CREATE TRIGGER seal BEFORE INSERT OR UPDATE ON coder.mcp_server_configs
	FOR EACH ROW EXECUTE FUNCTION coder.seal_columns('oauth2_client_secret', 'api_key_value', 'custom_headers');
CREATE TRIGGER seal BEFORE INSERT OR UPDATE ON coder.mcp_server_user_tokens
	FOR EACH ROW EXECUTE FUNCTION coder.seal_columns('access_token', 'refresh_token');
