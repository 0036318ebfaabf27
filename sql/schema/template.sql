-- SPDX-License-Identifier: MIT
--
-- template.sql
--   Templates, their versions, and what an import found in a version.
--
-- Durations are in nanoseconds.  ACLs map an id (user or group; a group whose
-- id is the organization's is everyone in it) to an array of actions.

CREATE TYPE coder.app_sharing_level AS ENUM ('owner', 'authenticated', 'organization', 'public');
CREATE TYPE coder.cors_behavior AS ENUM ('simple', 'passthru');
CREATE TYPE coder.prebuild_status AS ENUM ('healthy', 'hard_limited', 'validation_failed');
CREATE TYPE coder.parameter_form_type AS ENUM
	('', 'error', 'radio', 'dropdown', 'input', 'textarea', 'slider', 'checkbox', 'switch',
	 'tag-select', 'multi-select');

CREATE TABLE coder.templates
(
	id					uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
	created_at			timestamptz NOT NULL DEFAULT now(),
	updated_at			timestamptz NOT NULL DEFAULT now(),
	organization_id		uuid NOT NULL REFERENCES coder.organizations(id) ON DELETE CASCADE,
	deleted				boolean NOT NULL DEFAULT false,
	name				varchar(64) NOT NULL,
	provisioner			coder.provisioner_type NOT NULL,
	active_version_id	uuid NOT NULL,
	description			varchar(128) NOT NULL DEFAULT '',
	default_ttl			bigint NOT NULL DEFAULT 604800000000000,
	created_by			uuid NOT NULL REFERENCES coder.users(id) ON DELETE RESTRICT,
	icon				varchar(256) NOT NULL DEFAULT '',
	user_acl			jsonb NOT NULL DEFAULT '{}',
	group_acl			jsonb NOT NULL DEFAULT '{}',
	display_name		varchar(64) NOT NULL DEFAULT '',
	allow_user_cancel_workspace_jobs	boolean NOT NULL DEFAULT true,
	allow_user_autostart	boolean NOT NULL DEFAULT true,
	allow_user_autostop	boolean NOT NULL DEFAULT true,
	failure_ttl			bigint NOT NULL DEFAULT 0,
	time_til_dormant	bigint NOT NULL DEFAULT 0,
	time_til_dormant_autodelete	bigint NOT NULL DEFAULT 0,
	autostop_requirement_days_of_week	smallint NOT NULL DEFAULT 0,
	autostop_requirement_weeks	bigint NOT NULL DEFAULT 0,
	autostart_block_days_of_week	smallint NOT NULL DEFAULT 0,
	require_active_version	boolean NOT NULL DEFAULT false,
	deprecated			text NOT NULL DEFAULT '',
	activity_bump		bigint NOT NULL DEFAULT 3600000000000,
	max_port_sharing_level	coder.app_sharing_level NOT NULL DEFAULT 'owner',
	use_classic_parameter_flow	boolean NOT NULL DEFAULT false,
	cors_behavior		coder.cors_behavior NOT NULL DEFAULT 'simple',
	disable_module_cache	boolean NOT NULL DEFAULT false,
	CONSTRAINT templates_acl_is_object CHECK
		(jsonb_typeof(user_acl) = 'object' AND jsonb_typeof(group_acl) = 'object'),
	CONSTRAINT templates_durations_not_negative CHECK
		(least(default_ttl, failure_ttl, time_til_dormant, time_til_dormant_autodelete, activity_bump) >= 0),
	CONSTRAINT templates_days_of_week CHECK
		(autostop_requirement_days_of_week BETWEEN 0 AND 127 AND autostart_block_days_of_week BETWEEN 0 AND 127),
	CONSTRAINT templates_weeks CHECK (autostop_requirement_weeks BETWEEN 0 AND 16)
);
-- A deleted template's name blocks nothing.
CREATE UNIQUE INDEX templates_organization_id_name_idx
	ON coder.templates (organization_id, lower(name)) WHERE NOT deleted;
COMMENT ON TABLE coder.templates IS 'Templates of workspaces; deleted ones keep their versions and jobs.';

CREATE TABLE coder.template_versions
(
	id					uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
	template_id			uuid REFERENCES coder.templates(id) ON DELETE CASCADE,
	organization_id		uuid NOT NULL REFERENCES coder.organizations(id) ON DELETE CASCADE,
	created_at			timestamptz NOT NULL DEFAULT now(),
	updated_at			timestamptz NOT NULL DEFAULT now(),
	name				varchar(64) NOT NULL,
	readme				varchar(1048576) NOT NULL DEFAULT '',
	job_id				uuid NOT NULL REFERENCES coder.provisioner_jobs(id),
	created_by			uuid NOT NULL REFERENCES coder.users(id) ON DELETE RESTRICT,
	external_auth_providers	jsonb NOT NULL DEFAULT '[]',
	message				varchar(1048576) NOT NULL DEFAULT '',
	archived			boolean NOT NULL DEFAULT false,
	source_example_id	text,
	has_ai_task			boolean,
	has_external_agent	boolean,
	CONSTRAINT template_versions_job_id_key UNIQUE (job_id),
	CONSTRAINT template_versions_template_id_name_key UNIQUE (template_id, name),
	CONSTRAINT template_versions_auth_is_array CHECK (jsonb_typeof(external_auth_providers) = 'array')
);
CREATE INDEX template_versions_template_id_created_at_idx
	ON coder.template_versions (template_id, created_at, id);
COMMENT ON TABLE coder.template_versions IS 'Versions of templates; template_id is unset until a version is bound to one.';

CREATE TABLE coder.template_version_parameters
(
	template_version_id	uuid NOT NULL REFERENCES coder.template_versions(id) ON DELETE CASCADE,
	name				text NOT NULL,
	description			text NOT NULL,
	type				text NOT NULL,
	mutable				boolean NOT NULL,
	default_value		text NOT NULL,
	icon				text NOT NULL,
	options				jsonb NOT NULL DEFAULT '[]',
	validation_regex	text NOT NULL,
	validation_min		integer,
	validation_max		integer,
	validation_error	text NOT NULL DEFAULT '',
	validation_monotonic	text NOT NULL DEFAULT '',
	required			boolean NOT NULL DEFAULT true,
	display_name		text NOT NULL DEFAULT '',
	display_order		integer NOT NULL DEFAULT 0,
	ephemeral			boolean NOT NULL DEFAULT false,
	form_type			coder.parameter_form_type NOT NULL DEFAULT '',
	CONSTRAINT template_version_parameters_template_version_id_name_key UNIQUE (template_version_id, name),
	CONSTRAINT validation_monotonic_order CHECK (validation_monotonic IN ('increasing', 'decreasing', ''))
);
COMMENT ON TABLE coder.template_version_parameters IS 'Parameters that a version asks for.';

CREATE TABLE coder.template_version_variables
(
	template_version_id	uuid NOT NULL REFERENCES coder.template_versions(id) ON DELETE CASCADE,
	name				text NOT NULL,
	description			text NOT NULL,
	type				text NOT NULL,
	value				text NOT NULL,
	default_value		text NOT NULL,
	required			boolean NOT NULL,
	sensitive			boolean NOT NULL,
	CONSTRAINT template_version_variables_template_version_id_name_key UNIQUE (template_version_id, name)
);
COMMENT ON TABLE coder.template_version_variables IS 'Terraform variables of a version, with the values it was imported with.';

CREATE TABLE coder.template_version_workspace_tags
(
	template_version_id	uuid NOT NULL REFERENCES coder.template_versions(id) ON DELETE CASCADE,
	key					text NOT NULL,
	value				text NOT NULL,
	CONSTRAINT template_version_workspace_tags_template_version_id_key_key UNIQUE (template_version_id, key)
);
COMMENT ON TABLE coder.template_version_workspace_tags IS
	'Tag expressions of a version: they choose the daemon of its workspaces'' builds.';

CREATE TABLE coder.template_version_terraform_values
(
	template_version_id	uuid NOT NULL REFERENCES coder.template_versions(id) ON DELETE CASCADE,
	updated_at			timestamptz NOT NULL DEFAULT now(),
	cached_plan			jsonb NOT NULL,
	cached_module_files	uuid REFERENCES coder.files(id),
	provisionerd_version	text NOT NULL DEFAULT '',
	CONSTRAINT template_version_terraform_values_template_version_id_key UNIQUE (template_version_id)
);
COMMENT ON TABLE coder.template_version_terraform_values IS 'Plan and module archive of a version''s import.';

CREATE TABLE coder.template_version_presets
(
	id					uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
	template_version_id	uuid NOT NULL REFERENCES coder.template_versions(id) ON DELETE CASCADE,
	name				text NOT NULL,
	created_at			timestamptz NOT NULL DEFAULT now(),
	desired_instances	integer,
	invalidate_after_secs	integer DEFAULT 0,
	prebuild_status		coder.prebuild_status NOT NULL DEFAULT 'healthy',
	scheduling_timezone	text NOT NULL DEFAULT '',
	is_default			boolean NOT NULL DEFAULT false,
	description			varchar(128) NOT NULL DEFAULT '',
	icon				varchar(256) NOT NULL DEFAULT '',
	last_invalidated_at	timestamptz,
	CONSTRAINT idx_unique_preset_name UNIQUE (name, template_version_id)
);
CREATE UNIQUE INDEX idx_template_version_presets_default
	ON coder.template_version_presets (template_version_id) WHERE is_default;
CREATE INDEX template_version_presets_template_version_id_idx
	ON coder.template_version_presets (template_version_id);
COMMENT ON TABLE coder.template_version_presets IS 'Named sets of parameter values; also how many workspaces to build ahead.';

CREATE TABLE coder.template_version_preset_parameters
(
	id					uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
	template_version_preset_id	uuid NOT NULL REFERENCES coder.template_version_presets(id) ON DELETE CASCADE,
	name				text NOT NULL,
	value				text NOT NULL,
	CONSTRAINT template_version_preset_parameters_unique UNIQUE (template_version_preset_id, name)
);
COMMENT ON TABLE coder.template_version_preset_parameters IS 'Values of a preset.';

CREATE TABLE coder.template_version_preset_prebuild_schedules
(
	id					uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
	preset_id			uuid NOT NULL REFERENCES coder.template_version_presets(id) ON DELETE CASCADE,
	cron_expression		text NOT NULL,
	desired_instances	integer NOT NULL
);
COMMENT ON TABLE coder.template_version_preset_prebuild_schedules IS 'Times at which a preset wants another number of workspaces.';

CREATE TABLE coder.template_usage_stats
(
	start_time			timestamptz NOT NULL,
	end_time			timestamptz NOT NULL,
	template_id			uuid NOT NULL,
	user_id				uuid NOT NULL,
	median_latency_ms	real,
	usage_mins			smallint NOT NULL,
	ssh_mins			smallint NOT NULL,
	sftp_mins			smallint NOT NULL,
	reconnecting_pty_mins	smallint NOT NULL,
	vscode_mins			smallint NOT NULL,
	jetbrains_mins		smallint NOT NULL,
	app_usage_mins		jsonb,
	PRIMARY KEY (start_time, template_id, user_id)
);
CREATE INDEX template_usage_stats_start_time_idx ON coder.template_usage_stats (start_time DESC);
COMMENT ON TABLE coder.template_usage_stats IS 'Use of templates by user in buckets of half an hour.';

-- What builds of a template take; coder.refresh_template_build_times fills it.
CREATE TABLE coder.template_build_times
(
	template_id			uuid NOT NULL REFERENCES coder.templates(id) ON DELETE CASCADE,
	transition			text NOT NULL,
	p50_ms				bigint NOT NULL,
	p95_ms				bigint NOT NULL,
	updated_at			timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (template_id, transition)
);
COMMENT ON TABLE coder.template_build_times IS
	'Derived: median and 95th percentile of the last 100 successful builds, by transition.';

-- Templates that come with the server (sql/examples.sql, made at build time).
CREATE TABLE coder.template_examples
(
	id					text NOT NULL PRIMARY KEY,
	url					text NOT NULL DEFAULT '',
	name				text NOT NULL,
	description			text NOT NULL,
	icon				text NOT NULL,
	tags				text[] NOT NULL DEFAULT '{}',
	markdown			text NOT NULL,
	archive				bytea NOT NULL
);
COMMENT ON TABLE coder.template_examples IS 'Templates that come with the server; archive is a tar file.';

CREATE VIEW coder.template_with_names WITH (security_invoker) AS
	SELECT t.*, coalesce(u.avatar_url, '') AS created_by_avatar_url,
		   coalesce(u.username, '') AS created_by_username, coalesce(u.name, '') AS created_by_name,
		   coalesce(o.name, '') AS organization_name,
		   coalesce(o.display_name, '') AS organization_display_name,
		   coalesce(o.icon, '') AS organization_icon
	  FROM coder.templates t
	  LEFT JOIN coder.users u ON u.id = t.created_by
	  LEFT JOIN coder.organizations o ON o.id = t.organization_id;
COMMENT ON VIEW coder.template_with_names IS 'Templates with the names of their creator and organization.';

CREATE VIEW coder.template_version_with_user WITH (security_invoker) AS
	SELECT v.*, coalesce(u.avatar_url, '') AS created_by_avatar_url,
		   coalesce(u.username, '') AS created_by_username, coalesce(u.name, '') AS created_by_name
	  FROM coder.template_versions v
	  LEFT JOIN coder.users u ON u.id = v.created_by;
COMMENT ON VIEW coder.template_version_with_user IS 'Versions with the names of their creators.';

-- A template's active version is one of its own and not archived.  Checked at
-- commit, as a template and its first version are bound to one another.
CREATE FUNCTION coder.templates_active_version_check() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_template uuid;
BEGIN
	IF TG_TABLE_NAME = 'templates' THEN
		v_template := NEW.id;
	ELSE
		v_template := OLD.template_id;	-- unset: the version was just bound, and active nowhere
	END IF;
	IF EXISTS (SELECT FROM coder.templates t
				WHERE t.id = v_template AND NOT t.deleted
				  AND NOT EXISTS (SELECT FROM coder.template_versions v
								   WHERE v.id = t.active_version_id AND v.template_id = t.id
									 AND NOT v.archived)) THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC409',
			MESSAGE = 'The active version of a template must be one of its own and not archived.';
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION coder.templates_active_version_check() IS
	'Trigger: the active version belongs to the template and is not archived; errors: ZC409.';

CREATE CONSTRAINT TRIGGER templates_active_version_check
	AFTER INSERT OR UPDATE OF active_version_id ON coder.templates
	DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION coder.templates_active_version_check();
CREATE CONSTRAINT TRIGGER template_versions_active_check
	AFTER UPDATE OF archived, template_id OR DELETE ON coder.template_versions
	DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION coder.templates_active_version_check();

-- A template keeps its organization and stays deleted; a version stays with
-- the template it was bound to and keeps its job.
CREATE FUNCTION coder.templates_guard() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF TG_TABLE_NAME = 'templates' THEN
		IF OLD.deleted AND NOT NEW.deleted THEN
			RAISE EXCEPTION USING ERRCODE = 'ZC409', MESSAGE = 'A deleted template stays deleted.';
		ELSIF NEW.organization_id <> OLD.organization_id THEN
			RAISE EXCEPTION USING ERRCODE = 'ZC409', MESSAGE = 'A template keeps its organization.';
		ELSIF NEW.deleted AND NOT OLD.deleted THEN
			-- Who makes a workspace holds a key share lock on its template (coder.workspaces_template_check).
			PERFORM FROM coder.templates t WHERE t.id = OLD.id FOR UPDATE;
			IF EXISTS (SELECT FROM coder.workspaces w WHERE w.template_id = OLD.id AND NOT w.deleted
						  AND w.owner_id <> 'c42fdf75-3097-471c-8c33-fb52454d81c0') THEN
				RAISE EXCEPTION USING ERRCODE = 'ZC400',
					MESSAGE = 'All workspaces must be deleted before a template can be removed.';
			END IF;
		END IF;
	ELSIF OLD.template_id IS DISTINCT FROM NEW.template_id AND OLD.template_id IS NOT NULL
		  OR OLD.job_id <> NEW.job_id THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC409',
			MESSAGE = 'A template version keeps its template and its job.';
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION coder.templates_guard() IS
	'Trigger: what an UPDATE of a template or of a version must keep; errors: ZC400 (workspaces are left), ZC409.';

CREATE TRIGGER templates_guard BEFORE UPDATE OF deleted, organization_id ON coder.templates
	FOR EACH ROW EXECUTE FUNCTION coder.templates_guard();
CREATE TRIGGER template_versions_guard BEFORE UPDATE OF template_id, job_id ON coder.template_versions
	FOR EACH ROW EXECUTE FUNCTION coder.templates_guard();

-- A new active version: workspaces of the template may be outdated now.
CREATE FUNCTION coder.templates_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM coder.emit('template:' || NEW.id, '');
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION coder.templates_changed() IS 'Trigger: an event of a new active version.';

CREATE TRIGGER templates_changed AFTER UPDATE OF active_version_id ON coder.templates
	FOR EACH ROW WHEN (OLD.active_version_id <> NEW.active_version_id)
	EXECUTE FUNCTION coder.templates_changed();

SELECT pg_catalog.pg_extension_config_dump('coder.templates', '');
SELECT pg_catalog.pg_extension_config_dump('coder.template_versions', '');
SELECT pg_catalog.pg_extension_config_dump('coder.template_version_parameters', '');
SELECT pg_catalog.pg_extension_config_dump('coder.template_version_variables', '');
SELECT pg_catalog.pg_extension_config_dump('coder.template_version_workspace_tags', '');
SELECT pg_catalog.pg_extension_config_dump('coder.template_version_terraform_values', '');
SELECT pg_catalog.pg_extension_config_dump('coder.template_version_presets', '');
SELECT pg_catalog.pg_extension_config_dump('coder.template_version_preset_parameters', '');
SELECT pg_catalog.pg_extension_config_dump('coder.template_version_preset_prebuild_schedules', '');
SELECT pg_catalog.pg_extension_config_dump('coder.template_usage_stats', '');
SELECT pg_catalog.pg_extension_config_dump('coder.template_build_times', '');
