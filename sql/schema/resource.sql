-- SPDX-License-Identifier: MIT
--
-- resource.sql
--   What a job produced: resources, their metadata, modules.

CREATE TABLE coder.workspace_resources
(
	id					uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
	created_at			timestamptz NOT NULL DEFAULT now(),
	job_id				uuid NOT NULL REFERENCES coder.provisioner_jobs(id) ON DELETE CASCADE,
	transition			coder.workspace_transition NOT NULL,
	type				varchar(192) NOT NULL,
	name				varchar(64) NOT NULL,
	hide				boolean NOT NULL DEFAULT false,
	icon				varchar(256) NOT NULL DEFAULT '',
	instance_type		varchar(256),
	daily_cost			integer NOT NULL DEFAULT 0,
	module_path			text
);
CREATE INDEX workspace_resources_job_id_idx ON coder.workspace_resources (job_id);
COMMENT ON TABLE coder.workspace_resources IS 'Resources that a job produced.';

CREATE TABLE coder.workspace_resource_metadata
(
	workspace_resource_id	uuid NOT NULL REFERENCES coder.workspace_resources(id) ON DELETE CASCADE,
	key					varchar(1024) NOT NULL,
	value				varchar(65536),
	sensitive			boolean NOT NULL,
	id					bigserial PRIMARY KEY,
	CONSTRAINT workspace_resource_metadata_name UNIQUE (workspace_resource_id, key)
);
COMMENT ON TABLE coder.workspace_resource_metadata IS 'Facts about a resource, by key.';

CREATE TABLE coder.workspace_modules
(
	id					uuid NOT NULL DEFAULT gen_random_uuid(),
	job_id				uuid NOT NULL REFERENCES coder.provisioner_jobs(id) ON DELETE CASCADE,
	transition			coder.workspace_transition NOT NULL,
	source				text NOT NULL,
	version				text NOT NULL,
	key					text NOT NULL,
	created_at			timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX workspace_modules_created_at_idx ON coder.workspace_modules (created_at);
CREATE INDEX workspace_modules_job_id_idx ON coder.workspace_modules (job_id);
COMMENT ON TABLE coder.workspace_modules IS 'Terraform modules that a job used.';

SELECT pg_catalog.pg_extension_config_dump('coder.workspace_resources', '');
SELECT pg_catalog.pg_extension_config_dump('coder.workspace_resource_metadata', '');
SELECT pg_catalog.pg_extension_config_dump('coder.workspace_modules', '');
