-- SPDX-License-Identifier: MIT
--
-- app.sql
--   Apps that agents offer, what they report, and who connected.

CREATE TYPE coder.workspace_app_health AS ENUM ('disabled', 'initializing', 'healthy', 'unhealthy');
CREATE TYPE coder.workspace_app_open_in AS ENUM ('tab', 'window', 'slim-window');
CREATE TYPE coder.workspace_app_status_state AS ENUM ('working', 'complete', 'failure', 'idle');
CREATE TYPE coder.connection_type AS ENUM
	('ssh', 'vscode', 'jetbrains', 'reconnecting_pty', 'workspace_app', 'port_forwarding');
CREATE TYPE coder.connection_status AS ENUM ('connected', 'disconnected');

CREATE TABLE coder.workspace_apps
(
	id					uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
	created_at			timestamptz NOT NULL DEFAULT now(),
	agent_id			uuid NOT NULL REFERENCES coder.workspace_agents(id) ON DELETE CASCADE,
	display_name		varchar(64) NOT NULL,
	icon				varchar(256) NOT NULL,
	command				varchar(65534),
	url					varchar(65534),
	healthcheck_url		text NOT NULL DEFAULT '',
	healthcheck_interval	integer NOT NULL DEFAULT 0,
	healthcheck_threshold	integer NOT NULL DEFAULT 0,
	health				coder.workspace_app_health NOT NULL DEFAULT 'disabled',
	subdomain			boolean NOT NULL DEFAULT false,
	sharing_level		coder.app_sharing_level NOT NULL DEFAULT 'owner',
	slug				text NOT NULL,
	external			boolean NOT NULL DEFAULT false,
	display_order		integer NOT NULL DEFAULT 0,
	hidden				boolean NOT NULL DEFAULT false,
	open_in				coder.workspace_app_open_in NOT NULL DEFAULT 'slim-window',
	display_group		text,
	tooltip				varchar(2048) NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX workspace_apps_agent_id_slug_idx ON coder.workspace_apps (agent_id, slug);
COMMENT ON TABLE coder.workspace_apps IS 'Apps that an agent offers.';

CREATE TABLE coder.workspace_app_statuses
(
	id					uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
	created_at			timestamptz NOT NULL DEFAULT now(),
	agent_id			uuid NOT NULL REFERENCES coder.workspace_agents(id),
	app_id				uuid NOT NULL REFERENCES coder.workspace_apps(id),
	workspace_id		uuid NOT NULL REFERENCES coder.workspaces(id),
	state				coder.workspace_app_status_state NOT NULL,
	message				text NOT NULL,
	uri					text
);
CREATE INDEX idx_workspace_app_statuses_workspace_id_created_at
	ON coder.workspace_app_statuses (workspace_id, created_at DESC);
CREATE INDEX idx_workspace_app_statuses_app_id
	ON coder.workspace_app_statuses (app_id, created_at DESC);
COMMENT ON TABLE coder.workspace_app_statuses IS 'What apps report of their work.';

CREATE TABLE coder.workspace_app_stats
(
	id					bigserial PRIMARY KEY,
	user_id				uuid NOT NULL REFERENCES coder.users(id),
	workspace_id		uuid NOT NULL REFERENCES coder.workspaces(id),
	agent_id			uuid NOT NULL REFERENCES coder.workspace_agents(id),
	access_method		text NOT NULL,
	slug_or_port		text NOT NULL,
	session_id			uuid NOT NULL,
	session_started_at	timestamptz NOT NULL,
	session_ended_at	timestamptz NOT NULL,
	requests			integer NOT NULL,
	CONSTRAINT workspace_app_stats_user_id_agent_id_session_id_key UNIQUE (user_id, agent_id, session_id)
);
CREATE INDEX workspace_app_stats_workspace_id_idx ON coder.workspace_app_stats (workspace_id);
COMMENT ON TABLE coder.workspace_app_stats IS 'Sessions with apps and their requests.';

CREATE TABLE coder.connection_logs
(
	id					uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
	connect_time		timestamptz NOT NULL,
	organization_id		uuid NOT NULL REFERENCES coder.organizations(id) ON DELETE CASCADE,
	workspace_owner_id	uuid NOT NULL REFERENCES coder.users(id) ON DELETE CASCADE,
	workspace_id		uuid NOT NULL REFERENCES coder.workspaces(id) ON DELETE CASCADE,
	workspace_name		text NOT NULL,
	agent_name			text NOT NULL,
	type				coder.connection_type NOT NULL,
	ip					inet,
	code				integer,
	user_agent			text,
	user_id				uuid,
	slug_or_port		text,
	connection_id		uuid,
	disconnect_time		timestamptz,
	disconnect_reason	text
);
CREATE UNIQUE INDEX idx_connection_logs_connection_id_workspace_id_agent_name
	ON coder.connection_logs (connection_id, workspace_id, agent_name);
CREATE INDEX idx_connection_logs_connect_time_desc ON coder.connection_logs (connect_time DESC);
CREATE INDEX idx_connection_logs_organization_id ON coder.connection_logs (organization_id);
CREATE INDEX idx_connection_logs_workspace_id ON coder.connection_logs (workspace_id);
CREATE INDEX idx_connection_logs_workspace_owner_id ON coder.connection_logs (workspace_owner_id);
COMMENT ON TABLE coder.connection_logs IS 'Connections by SSH, editors, terminals, apps and ports.';

-- Which requests for apps are of one session of an hour; lost with a crash, then each is noted once more.
CREATE UNLOGGED TABLE coder.workspace_app_audit_sessions
(
	agent_id			uuid NOT NULL REFERENCES coder.workspace_agents(id) ON DELETE CASCADE,
	app_id				uuid NOT NULL,
	user_id				uuid NOT NULL,
	ip					text NOT NULL,
	user_agent			text NOT NULL,
	slug_or_port		text NOT NULL,
	status_code			integer NOT NULL,
	started_at			timestamptz NOT NULL,
	updated_at			timestamptz NOT NULL,
	PRIMARY KEY (agent_id, app_id, user_id, ip, user_agent, slug_or_port, status_code)
);
CREATE INDEX workspace_app_audit_sessions_started_at_idx ON coder.workspace_app_audit_sessions (started_at);
COMMENT ON TABLE coder.workspace_app_audit_sessions IS
	'Sessions with apps that are in the connection log: one row of it an hour for each.';

SELECT pg_catalog.pg_extension_config_dump('coder.workspace_apps', '');
SELECT pg_catalog.pg_extension_config_dump('coder.workspace_app_statuses', '');
SELECT pg_catalog.pg_extension_config_dump('coder.workspace_app_stats', '');
SELECT pg_catalog.pg_extension_config_dump('coder.connection_logs', '');
SELECT pg_catalog.pg_extension_config_dump('coder.workspace_resource_metadata_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('coder.workspace_agent_logs_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('coder.workspace_agent_scripts_ordinal_seq', '');
SELECT pg_catalog.pg_extension_config_dump('coder.workspace_app_stats_id_seq', '');
