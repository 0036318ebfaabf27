-- SPDX-License-Identifier: MIT
--
-- workspaceagent.sql
--   Agents of workspaces: the row, scripts, logs, metadata, stats.
--
-- Times of connection are the database's clock.  A status is never stored:
-- coder.agent_status(row, now, timeout) derives it, for the API, the search
-- filter and the metrics alike.

CREATE TYPE coder.workspace_agent_lifecycle_state AS ENUM
	('created', 'starting', 'start_timeout', 'start_error', 'ready', 'shutting_down',
	 'shutdown_timeout', 'shutdown_error', 'off');
CREATE TYPE coder.workspace_agent_subsystem AS ENUM ('envbuilder', 'envbox', 'none', 'exectrace');
CREATE TYPE coder.display_app AS ENUM
	('vscode', 'vscode_insiders', 'web_terminal', 'ssh_helper', 'port_forwarding_helper');
CREATE TYPE coder.agent_key_scope_enum AS ENUM ('all', 'no_user_data');
CREATE TYPE coder.workspace_agent_monitor_state AS ENUM ('OK', 'NOK');
CREATE TYPE coder.workspace_agent_script_timing_stage AS ENUM ('start', 'stop', 'cron');
CREATE TYPE coder.workspace_agent_script_timing_status AS ENUM
	('ok', 'exit_failure', 'timed_out', 'pipes_left_open');

CREATE TABLE coder.workspace_agents
(
	id					uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
	created_at			timestamptz NOT NULL DEFAULT now(),
	updated_at			timestamptz NOT NULL DEFAULT now(),
	name				varchar(64) NOT NULL,
	first_connected_at	timestamptz,
	last_connected_at	timestamptz,
	disconnected_at		timestamptz,
	resource_id			uuid NOT NULL REFERENCES coder.workspace_resources(id) ON DELETE CASCADE,
	auth_token			uuid NOT NULL DEFAULT gen_random_uuid(),
	auth_instance_id	varchar,
	architecture		varchar(64) NOT NULL,
	environment_variables	jsonb,
	operating_system	varchar(64) NOT NULL,
	instance_metadata	jsonb,
	resource_metadata	jsonb,
	directory			varchar(4096) NOT NULL DEFAULT '',
	version				text NOT NULL DEFAULT '',
	last_connected_replica_id	uuid,
	connection_timeout_seconds	integer NOT NULL DEFAULT 0,
	troubleshooting_url	text NOT NULL DEFAULT '',
	motd_file			text NOT NULL DEFAULT '',
	lifecycle_state		coder.workspace_agent_lifecycle_state NOT NULL DEFAULT 'created',
	expanded_directory	varchar(4096) NOT NULL DEFAULT '',
	logs_length			integer NOT NULL DEFAULT 0,
	logs_overflowed		boolean NOT NULL DEFAULT false,
	timeout_told		boolean NOT NULL DEFAULT false,
	started_at			timestamptz,
	ready_at			timestamptz,
	subsystems			coder.workspace_agent_subsystem[] DEFAULT '{}',
	display_apps		coder.display_app[] DEFAULT
		'{vscode,vscode_insiders,web_terminal,ssh_helper,port_forwarding_helper}',
	api_version			text NOT NULL DEFAULT '',
	display_order		integer NOT NULL DEFAULT 0,
	parent_id			uuid REFERENCES coder.workspace_agents(id) ON DELETE CASCADE,
	api_key_scope		coder.agent_key_scope_enum NOT NULL DEFAULT 'all',
	deleted				boolean NOT NULL DEFAULT false,
	start_result		coder.workspace_agent_lifecycle_state,
	CONSTRAINT max_logs_length CHECK (logs_length <= 1048576),
	CONSTRAINT subsystems_not_none CHECK (NOT ('none' = ANY (subsystems)))
) WITH (fillfactor = 70);		-- heartbeats change no index
CREATE INDEX workspace_agents_auth_token_idx ON coder.workspace_agents (auth_token);
CREATE INDEX workspace_agents_auth_instance_id_deleted_idx
	ON coder.workspace_agents (auth_instance_id, deleted);
CREATE INDEX workspace_agents_resource_id_idx ON coder.workspace_agents (resource_id);
CREATE INDEX workspace_agents_parent_id_idx ON coder.workspace_agents (parent_id) WHERE parent_id IS NOT NULL;
COMMENT ON COLUMN coder.workspace_agents.timeout_told IS
	'Watchers know that the agent took too long to connect.';
COMMENT ON COLUMN coder.workspace_agents.start_result IS
	'How its start ended: ready, start_timeout or start_error; stays when the lifecycle goes on.';
COMMENT ON TABLE coder.workspace_agents IS
	'Agents inside resources; sub-agents have a parent_id.';

-- The last node an agent published: its home relay and latencies.
CREATE UNLOGGED TABLE coder.workspace_agent_nodes
(
	agent_id			uuid NOT NULL PRIMARY KEY REFERENCES coder.workspace_agents(id) ON DELETE CASCADE,
	node				jsonb NOT NULL,
	latency				jsonb,
	updated_at			timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE coder.workspace_agent_nodes IS
	'The node that a connected agent last told the coordinator.';

CREATE FUNCTION coder.check_workspace_agent_name_unique() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_build uuid;
BEGIN
	SELECT b.id INTO v_build
	  FROM coder.workspace_resources r JOIN coder.workspace_builds b ON b.job_id = r.job_id
	 WHERE r.id = NEW.resource_id;
	IF v_build IS NULL OR NEW.deleted THEN
		RETURN NEW;
	END IF;
	-- Two insertions at once would not see one another.
	PERFORM coder.lock('workspace_agent_name:' || v_build);
	IF EXISTS (SELECT FROM coder.workspace_agents a
				 JOIN coder.workspace_resources r ON r.id = a.resource_id
				 JOIN coder.workspace_builds b ON b.job_id = r.job_id
				WHERE b.id = v_build AND a.name = NEW.name AND NOT a.deleted AND a.id <> NEW.id) THEN
		RAISE EXCEPTION USING ERRCODE = 'unique_violation',
			CONSTRAINT = 'workspace_agent_name_unique_trigger',
			MESSAGE = format('workspace agent name "%s" already exists in this workspace build', NEW.name);
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION coder.check_workspace_agent_name_unique() IS
	'Trigger: agent names are unique among the live agents of a build.';

CREATE TRIGGER workspace_agent_name_unique_trigger
	BEFORE INSERT OR UPDATE OF name, resource_id ON coder.workspace_agents
	FOR EACH ROW EXECUTE FUNCTION coder.check_workspace_agent_name_unique();

CREATE UNLOGGED TABLE coder.workspace_agent_metadata
(
	workspace_agent_id	uuid NOT NULL REFERENCES coder.workspace_agents(id) ON DELETE CASCADE,
	display_name		varchar(127) NOT NULL,
	key					varchar(127) NOT NULL,
	script				varchar(65535) NOT NULL,
	value				varchar(65535) NOT NULL DEFAULT '',
	error				varchar(65535) NOT NULL DEFAULT '',
	timeout				bigint NOT NULL,
	interval			bigint NOT NULL,
	collected_at		timestamptz NOT NULL DEFAULT '0001-01-01 00:00:00+00',
	display_order		integer NOT NULL DEFAULT 0,
	PRIMARY KEY (workspace_agent_id, key)
);
COMMENT ON TABLE coder.workspace_agent_metadata IS
	'Latest value of each metadata script; interval and timeout are seconds.';

-- What agents count themselves, as they told it last; it is gone when PostgreSQL crashes, and told again with the next report.
CREATE UNLOGGED TABLE coder.workspace_agent_metrics
(
	agent_id			uuid NOT NULL PRIMARY KEY REFERENCES coder.workspace_agents(id) ON DELETE CASCADE,
	updated_at			timestamptz NOT NULL,
	metrics				jsonb NOT NULL
);
COMMENT ON TABLE coder.workspace_agent_metrics IS
	'Metrics that an agent reported last, checked: [{name, type, labels, value}]; shown while younger than two minutes or four reports.';

CREATE UNLOGGED TABLE coder.workspace_agent_logs
(
	agent_id			uuid NOT NULL REFERENCES coder.workspace_agents(id) ON DELETE CASCADE,
	created_at			timestamptz NOT NULL,
	output				varchar(1024) NOT NULL,
	id					bigserial PRIMARY KEY,
	level				coder.log_level NOT NULL DEFAULT 'info',
	log_source_id		uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'
);
CREATE INDEX workspace_agent_logs_id_agent_id_asc_idx ON coder.workspace_agent_logs (agent_id, id);
COMMENT ON TABLE coder.workspace_agent_logs IS 'Lines of start and other scripts.';

CREATE TABLE coder.workspace_agent_log_sources
(
	workspace_agent_id	uuid NOT NULL REFERENCES coder.workspace_agents(id) ON DELETE CASCADE,
	id					uuid NOT NULL,
	created_at			timestamptz NOT NULL DEFAULT now(),
	display_name		varchar(127) NOT NULL,
	icon				text NOT NULL,
	PRIMARY KEY (workspace_agent_id, id)
);
COMMENT ON TABLE coder.workspace_agent_log_sources IS 'Where lines of an agent''s log come from.';

CREATE TABLE coder.workspace_agent_scripts
(
	workspace_agent_id	uuid NOT NULL REFERENCES coder.workspace_agents(id) ON DELETE CASCADE,
	log_source_id		uuid NOT NULL,
	log_path			text NOT NULL,
	created_at			timestamptz NOT NULL DEFAULT now(),
	script				text NOT NULL,
	cron				text NOT NULL,
	start_blocks_login	boolean NOT NULL,
	run_on_start		boolean NOT NULL,
	run_on_stop			boolean NOT NULL,
	timeout_seconds		integer NOT NULL,
	display_name		text NOT NULL,
	id					uuid NOT NULL DEFAULT gen_random_uuid(),
	ordinal				serial,
	CONSTRAINT workspace_agent_scripts_id_key UNIQUE (id)
);
CREATE INDEX workspace_agent_scripts_workspace_agent_id_idx
	ON coder.workspace_agent_scripts (workspace_agent_id);
COMMENT ON TABLE coder.workspace_agent_scripts IS
	'Scripts that an agent runs on start, on stop or by cron.';

CREATE TABLE coder.workspace_agent_script_timings
(
	script_id			uuid NOT NULL REFERENCES coder.workspace_agent_scripts(id) ON DELETE CASCADE,
	started_at			timestamptz NOT NULL,
	ended_at			timestamptz NOT NULL,
	exit_code			integer NOT NULL,
	stage				coder.workspace_agent_script_timing_stage NOT NULL,
	status				coder.workspace_agent_script_timing_status NOT NULL,
	CONSTRAINT workspace_agent_script_timings_script_id_started_at_key UNIQUE (script_id, started_at)
);
COMMENT ON TABLE coder.workspace_agent_script_timings IS 'Runs of those scripts.';

CREATE TABLE coder.workspace_agent_stats
(
	id					uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
	created_at			timestamptz NOT NULL,
	user_id				uuid NOT NULL,
	agent_id			uuid NOT NULL,
	workspace_id		uuid NOT NULL,
	template_id			uuid NOT NULL,
	connections_by_proto	jsonb NOT NULL DEFAULT '{}',
	connection_count	bigint NOT NULL DEFAULT 0,
	rx_packets			bigint NOT NULL DEFAULT 0,
	rx_bytes			bigint NOT NULL DEFAULT 0,
	tx_packets			bigint NOT NULL DEFAULT 0,
	tx_bytes			bigint NOT NULL DEFAULT 0,
	connection_median_latency_ms	double precision NOT NULL DEFAULT -1,
	session_count_vscode	bigint NOT NULL DEFAULT 0,
	session_count_jetbrains	bigint NOT NULL DEFAULT 0,
	session_count_reconnecting_pty	bigint NOT NULL DEFAULT 0,
	session_count_ssh	bigint NOT NULL DEFAULT 0,
	usage				boolean NOT NULL DEFAULT false
);
CREATE INDEX workspace_agent_stats_created_at_idx ON coder.workspace_agent_stats (created_at);
CREATE INDEX workspace_agent_stats_workspace_id_created_at_idx ON coder.workspace_agent_stats (workspace_id, created_at);
CREATE INDEX workspace_agent_stats_template_id_created_at_user_id_idx
	ON coder.workspace_agent_stats (template_id, created_at, user_id) WHERE connection_count > 0;
COMMENT ON TABLE coder.workspace_agent_stats IS 'Samples of connections and sessions from agents.';

CREATE TABLE coder.workspace_agent_devcontainers
(
	id					uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
	workspace_agent_id	uuid NOT NULL REFERENCES coder.workspace_agents(id) ON DELETE CASCADE,
	created_at			timestamptz NOT NULL DEFAULT now(),
	workspace_folder	text NOT NULL,
	config_path			text NOT NULL,
	name				text NOT NULL,
	subagent_id			uuid REFERENCES coder.workspace_agents(id) ON DELETE CASCADE
);
CREATE INDEX workspace_agent_devcontainers_workspace_agent_id_idx
	ON coder.workspace_agent_devcontainers (workspace_agent_id);
COMMENT ON TABLE coder.workspace_agent_devcontainers IS 'Dev containers declared for an agent.';

CREATE TABLE coder.workspace_agent_memory_resource_monitors
(
	agent_id			uuid NOT NULL PRIMARY KEY REFERENCES coder.workspace_agents(id) ON DELETE CASCADE,
	enabled				boolean NOT NULL,
	threshold			integer NOT NULL,
	created_at			timestamptz NOT NULL DEFAULT now(),
	updated_at			timestamptz NOT NULL DEFAULT now(),
	state				coder.workspace_agent_monitor_state NOT NULL DEFAULT 'OK',
	debounced_until		timestamptz NOT NULL DEFAULT '0001-01-01 00:00:00+00'
);
COMMENT ON TABLE coder.workspace_agent_memory_resource_monitors IS 'Memory alarm of an agent.';

CREATE TABLE coder.workspace_agent_volume_resource_monitors
(
	agent_id			uuid NOT NULL REFERENCES coder.workspace_agents(id) ON DELETE CASCADE,
	enabled				boolean NOT NULL,
	threshold			integer NOT NULL,
	path				text NOT NULL,
	created_at			timestamptz NOT NULL DEFAULT now(),
	updated_at			timestamptz NOT NULL DEFAULT now(),
	state				coder.workspace_agent_monitor_state NOT NULL DEFAULT 'OK',
	debounced_until		timestamptz NOT NULL DEFAULT '0001-01-01 00:00:00+00',
	PRIMARY KEY (agent_id, path)
);
COMMENT ON TABLE coder.workspace_agent_volume_resource_monitors IS 'Disk alarm of an agent, by path.';

-- The one rule of an agent's connection status (extension/workspaceagent.c).
CREATE FUNCTION coder.agent_status(created_at timestamptz, first_connected_at timestamptz,
								   last_connected_at timestamptz, disconnected_at timestamptz,
								   connection_timeout_seconds integer, at timestamptz,
								   inactive_seconds integer DEFAULT 30)
RETURNS text
AS 'MODULE_PATHNAME', 'coder_agent_status'
LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION coder.agent_status(timestamptz, timestamptz, timestamptz, timestamptz, integer, timestamptz, integer) IS
	'connecting, timeout, connected or disconnected: an agent''s connection at a time; an agent not heard of for inactive_seconds (2 at least) is disconnected.';

CREATE FUNCTION coder.agent_status(a coder.workspace_agents, at timestamptz DEFAULT now()) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT coder.agent_status((a).created_at, (a).first_connected_at, (a).last_connected_at,
							  (a).disconnected_at, (a).connection_timeout_seconds, at, 30);
END;
COMMENT ON FUNCTION coder.agent_status(coder.workspace_agents, timestamptz) IS
	'The same of a row.';

SELECT pg_catalog.pg_extension_config_dump('coder.workspace_agents', '');
SELECT pg_catalog.pg_extension_config_dump('coder.workspace_agent_nodes', '');
SELECT pg_catalog.pg_extension_config_dump('coder.workspace_agent_metadata', '');
SELECT pg_catalog.pg_extension_config_dump('coder.workspace_agent_metrics', '');
SELECT pg_catalog.pg_extension_config_dump('coder.workspace_agent_logs', '');
SELECT pg_catalog.pg_extension_config_dump('coder.workspace_agent_log_sources', '');
SELECT pg_catalog.pg_extension_config_dump('coder.workspace_agent_scripts', '');
SELECT pg_catalog.pg_extension_config_dump('coder.workspace_agent_script_timings', '');
SELECT pg_catalog.pg_extension_config_dump('coder.workspace_agent_stats', '');
SELECT pg_catalog.pg_extension_config_dump('coder.workspace_agent_devcontainers', '');
SELECT pg_catalog.pg_extension_config_dump('coder.workspace_agent_memory_resource_monitors', '');
SELECT pg_catalog.pg_extension_config_dump('coder.workspace_agent_volume_resource_monitors', '');
