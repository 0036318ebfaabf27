-- SPDX-License-Identifier: MIT
--
-- change.sql
--   Every change of a row that the list of workspaces shows is noted, so that
--   backends can keep answers (extension/change.c, extension/keep.c).

CREATE FUNCTION coder.row_changed() RETURNS trigger LANGUAGE C
AS 'MODULE_PATHNAME', 'coder_row_changed';
COMMENT ON FUNCTION coder.row_changed() IS
	'Trigger: kept answers that were made of rows with the ids in these columns are not given any more once the transaction commits; without columns the pages of the list of workspaces; TRUNCATE: all.';

-- The columns by which extension/workspacetree.c reads each table (tables[] there: a table read by two
-- columns has both).  ALWAYS: also where session_replication_role keeps other triggers from firing.
DO $$
DECLARE
	v record;
BEGIN
	FOR v IN SELECT * FROM (VALUES
		('workspaces', '{id}'::text[]),
		('workspace_builds', '{id}'),
		('provisioner_jobs', '{id}'),
		('template_versions', '{id}'),
		('templates', '{id}'),
		('users', '{id}'),
		('groups', '{id}'),
		('organizations', '{id}'),
		('workspace_resources', '{job_id}'),
		('workspace_resource_metadata', '{workspace_resource_id}'),
		('workspace_agents', '{resource_id}'),
		('workspace_agent_nodes', '{agent_id}'),
		('workspace_apps', '{agent_id}'),
		('workspace_agent_scripts', '{workspace_agent_id}'),
		('workspace_agent_log_sources', '{workspace_agent_id}'),
		('workspace_app_statuses', '{app_id,workspace_id}')) t(name, columns)
	LOOP
		EXECUTE pg_catalog.format('CREATE TRIGGER row_changed AFTER INSERT OR DELETE ON coder.%I'
			' FOR EACH ROW EXECUTE FUNCTION coder.row_changed(%s)', v.name, pg_catalog.array_to_string(v.columns, ', '));
		EXECUTE pg_catalog.format('CREATE TRIGGER row_changed_update AFTER UPDATE ON coder.%I'
			' FOR EACH ROW %s EXECUTE FUNCTION coder.row_changed(%s)', v.name,
			-- last_seen_at of users changes all the time.  These are all the columns that anything here shows.
			CASE WHEN v.name = 'users' THEN 'WHEN ((OLD.id, OLD.username, OLD.name, OLD.avatar_url)'
				' IS DISTINCT FROM (NEW.id, NEW.username, NEW.name, NEW.avatar_url))' ELSE '' END,
			pg_catalog.array_to_string(v.columns, ', '));
		EXECUTE pg_catalog.format('CREATE TRIGGER row_changed_all AFTER TRUNCATE ON coder.%I'
			' FOR EACH STATEMENT EXECUTE FUNCTION coder.row_changed()', v.name);
		EXECUTE pg_catalog.format('ALTER TABLE coder.%1$I ENABLE ALWAYS TRIGGER row_changed,'
			' ENABLE ALWAYS TRIGGER row_changed_update, ENABLE ALWAYS TRIGGER row_changed_all', v.name);
	END LOOP;
END
$$;

-- What the order of the list, its count, and the right to read a workspace are made of: coder.workspace_page_all and
-- coder.workspace_page_where without other filters than owner:me.
CREATE TRIGGER list_changed AFTER INSERT OR DELETE ON coder.workspaces
	FOR EACH STATEMENT EXECUTE FUNCTION coder.row_changed();
CREATE TRIGGER list_changed_update AFTER UPDATE ON coder.workspaces FOR EACH ROW
	WHEN ((OLD.id, OLD.owner_id, OLD.deleted, OLD.name, OLD.favorite, OLD.running, OLD.owner_sort,
		   OLD.organization_id, OLD.user_acl, OLD.group_acl, OLD.dormant_at)
		  IS DISTINCT FROM (NEW.id, NEW.owner_id, NEW.deleted, NEW.name, NEW.favorite, NEW.running, NEW.owner_sort,
							NEW.organization_id, NEW.user_acl, NEW.group_acl, NEW.dormant_at))
	EXECUTE FUNCTION coder.row_changed();
CREATE TRIGGER list_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON coder.workspace_totals
	FOR EACH STATEMENT EXECUTE FUNCTION coder.row_changed();
ALTER TABLE coder.workspaces ENABLE ALWAYS TRIGGER list_changed, ENABLE ALWAYS TRIGGER list_changed_update;
ALTER TABLE coder.workspace_totals ENABLE ALWAYS TRIGGER list_changed;
