-- SPDX-License-Identifier: MIT
--
-- workspace.sql
--   Workspaces: the row, what is derived from its builds, and the numbers
--   that the list needs.
--
-- A workspace is the sum of its builds (build.sql).  Four columns of the row
-- are derived: latest_build_id, latest_build_number, running and owner_sort.
-- They exist so that one index gives the order of the list; a trigger
-- computes them on every change, whatever an UPDATE says.

CREATE TYPE coder.automatic_updates AS ENUM ('always', 'never');

CREATE TABLE coder.workspaces
(
	id					uuid NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
	created_at			timestamptz NOT NULL DEFAULT now(),
	updated_at			timestamptz NOT NULL DEFAULT now(),
	owner_id			uuid NOT NULL REFERENCES coder.users(id) ON DELETE RESTRICT,
	organization_id		uuid NOT NULL REFERENCES coder.organizations(id) ON DELETE RESTRICT,
	template_id			uuid NOT NULL REFERENCES coder.templates(id) ON DELETE RESTRICT,
	deleted				boolean NOT NULL DEFAULT false,
	name				varchar(64) NOT NULL,
	autostart_schedule	text,
	ttl					bigint,
	last_used_at		timestamptz NOT NULL DEFAULT '0001-01-01 00:00:00+00',
	dormant_at			timestamptz,
	deleting_at			timestamptz,
	automatic_updates	coder.automatic_updates NOT NULL DEFAULT 'never',
	favorite			boolean NOT NULL DEFAULT false,
	next_start_at		timestamptz,
	group_acl			jsonb NOT NULL DEFAULT '{}',
	user_acl			jsonb NOT NULL DEFAULT '{}',
	-- derived
	latest_build_id		uuid,
	latest_build_number	integer NOT NULL DEFAULT 0,
	running				boolean NOT NULL DEFAULT false,
	owner_sort			text NOT NULL DEFAULT '',
	CONSTRAINT group_acl_is_object CHECK (jsonb_typeof(group_acl) = 'object'),
	CONSTRAINT user_acl_is_object CHECK (jsonb_typeof(user_acl) = 'object')
);

-- A deleted workspace's name blocks nothing.
CREATE UNIQUE INDEX workspaces_owner_id_lower_idx
	ON coder.workspaces (owner_id, lower(name)) WHERE NOT deleted;
CREATE INDEX workspaces_owner_id_deleted_idx ON coder.workspaces (owner_id) WHERE deleted;
CREATE INDEX workspaces_next_start_at_idx
	ON coder.workspaces (next_start_at) WHERE NOT deleted;
CREATE INDEX workspaces_template_id_idx
	ON coder.workspaces (template_id) WHERE NOT deleted;
-- The order of the list.
CREATE INDEX workspaces_list_idx
	ON coder.workspaces ((NOT running), owner_sort, lower(name), id) WHERE NOT deleted;
CREATE INDEX workspaces_shared_idx
	ON coder.workspaces (id) WHERE NOT deleted AND (user_acl <> '{}' OR group_acl <> '{}');
-- What coder.filter finds rows by.
CREATE INDEX workspaces_organization_id_idx
	ON coder.workspaces (organization_id) WHERE NOT deleted;
CREATE INDEX workspaces_user_acl_idx
	ON coder.workspaces USING gin (user_acl) WHERE NOT deleted AND user_acl <> '{}';
CREATE INDEX workspaces_group_acl_idx
	ON coder.workspaces USING gin (group_acl) WHERE NOT deleted AND group_acl <> '{}';
CREATE INDEX workspaces_latest_build_id_idx ON coder.workspaces (latest_build_id);

COMMENT ON TABLE coder.workspaces IS
	'Workspaces; deleted is set by a completed delete build. ttl is in nanoseconds.';
COMMENT ON COLUMN coder.workspaces.latest_build_id IS
	'Derived: the build with the highest number.';
COMMENT ON COLUMN coder.workspaces.running IS
	'Derived: the latest build is a start and its job succeeded.';
COMMENT ON COLUMN coder.workspaces.owner_sort IS
	'Derived: the owner''s username in lower case.';

-- A workspace is made of a template that lives; a template is deleted when no
-- workspace is left (coder.templates_guard).  Who comes second waits.
CREATE FUNCTION coder.workspaces_template_check() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM FROM coder.templates t WHERE t.id = NEW.template_id AND NOT t.deleted FOR KEY SHARE;
	IF NOT FOUND AND NOT NEW.deleted THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC409', MESSAGE = 'The template of the workspace is deleted.';
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION coder.workspaces_template_check() IS
	'Trigger: a new workspace''s template is not deleted; errors: ZC409.';

CREATE TRIGGER workspaces_template_check BEFORE INSERT OR UPDATE OF template_id ON coder.workspaces
	FOR EACH ROW EXECUTE FUNCTION coder.workspaces_template_check();

-- Live workspaces by organization and owner, so that a list's count needs no
-- scan of the workspaces.
CREATE TABLE coder.workspace_totals
(
	organization_id		uuid NOT NULL,
	owner_id			uuid NOT NULL,
	live				integer NOT NULL,
	PRIMARY KEY (organization_id, owner_id)
);
COMMENT ON TABLE coder.workspace_totals IS
	'Derived: number of live workspaces by organization and owner.';

CREATE FUNCTION coder.workspace_totals_count() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP <> 'INSERT' AND NOT OLD.deleted THEN
		UPDATE coder.workspace_totals SET live = live - 1
		 WHERE organization_id = OLD.organization_id AND owner_id = OLD.owner_id;
	END IF;
	IF TG_OP <> 'DELETE' AND NOT NEW.deleted THEN
		INSERT INTO coder.workspace_totals AS t VALUES (NEW.organization_id, NEW.owner_id, 1)
		ON CONFLICT (organization_id, owner_id) DO UPDATE SET live = t.live + 1;
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION coder.workspace_totals_count() IS
	'Trigger: keeps coder.workspace_totals.';

CREATE TRIGGER workspace_totals_insert AFTER INSERT OR DELETE ON coder.workspaces
	FOR EACH ROW EXECUTE FUNCTION coder.workspace_totals_count();
CREATE TRIGGER workspace_totals_update
	AFTER UPDATE OF deleted, owner_id, organization_id ON coder.workspaces
	FOR EACH ROW
	WHEN (OLD.deleted IS DISTINCT FROM NEW.deleted OR OLD.owner_id IS DISTINCT FROM NEW.owner_id
		  OR OLD.organization_id IS DISTINCT FROM NEW.organization_id)
	EXECUTE FUNCTION coder.workspace_totals_count();

-- Port shares of a workspace's agents.
CREATE TYPE coder.port_share_protocol AS ENUM ('http', 'https');

CREATE TABLE coder.workspace_agent_port_share
(
	workspace_id		uuid NOT NULL REFERENCES coder.workspaces(id) ON DELETE CASCADE,
	agent_name			text NOT NULL,
	port				integer NOT NULL,
	share_level			coder.app_sharing_level NOT NULL,
	protocol			coder.port_share_protocol NOT NULL DEFAULT 'http',
	PRIMARY KEY (workspace_id, agent_name, port)
);
COMMENT ON TABLE coder.workspace_agent_port_share IS 'Shared ports and their level.';

CREATE FUNCTION coder.workspace_event(workspace uuid, owner uuid, kind text, agent uuid DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_payload text := '{"kind":"' || kind || '","workspace_id":"' || workspace || '"'
		|| coalesce(',"agent_id":"' || agent || '"', '') || '}';
BEGIN
	PERFORM coder.emit('workspace:' || workspace, v_payload);
	PERFORM coder.emit('workspace_owner:' || owner, v_payload);
END
$$;
COMMENT ON FUNCTION coder.workspace_event(uuid, uuid, text, uuid) IS
	'Tells the watchers of a workspace and of its owner''s workspaces that something they show changed; kind as in the API (state_change, stats_update, mtd_update, …).';

-- When periodic work of coder.tick was done last.
CREATE TABLE coder.tick_state
(
	name				text NOT NULL PRIMARY KEY,
	last_at				timestamptz NOT NULL,
	seconds				double precision
);
COMMENT ON COLUMN coder.tick_state.seconds IS 'How long it took then, where that is noted.';
COMMENT ON TABLE coder.tick_state IS 'When periodic work of coder.tick() was done last.';

SELECT pg_catalog.pg_extension_config_dump('coder.workspaces', '');
SELECT pg_catalog.pg_extension_config_dump('coder.workspace_totals', '');
SELECT pg_catalog.pg_extension_config_dump('coder.workspace_agent_port_share', '');
SELECT pg_catalog.pg_extension_config_dump('coder.tick_state', '');
