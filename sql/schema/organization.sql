-- sql/schema/organization.sql -- organizations; their members and groups follow the users

CREATE TYPE coder.shareable_workspace_owners AS ENUM ('none', 'everyone', 'service_accounts');
CREATE TYPE coder.group_source AS ENUM ('user', 'oidc');

CREATE TABLE coder.organizations (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	name text NOT NULL,
	description text NOT NULL DEFAULT '',
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	is_default bool NOT NULL DEFAULT false,
	display_name text NOT NULL,
	icon text NOT NULL DEFAULT '',
	deleted bool NOT NULL DEFAULT false,
	shareable_workspace_owners coder.shareable_workspace_owners NOT NULL DEFAULT 'everyone'
);
CREATE UNIQUE INDEX idx_organization_name_lower ON coder.organizations (lower(name)) WHERE NOT deleted;
CREATE UNIQUE INDEX organizations_single_default_org ON coder.organizations (is_default) WHERE is_default;

COMMENT ON TABLE coder.organizations IS 'Organizations; exactly one is the default. Deleted ones keep their rows.';

SELECT pg_extension_config_dump('coder.organizations', '');
