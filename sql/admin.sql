-- SPDX-License-Identifier: MIT
--
-- admin.sql
--   Views for administrators at a psql prompt, and the reference's views of
--   builds and workspaces.

CREATE OR REPLACE VIEW coder.workspaces_live AS
SELECT w.name::text AS name,
	   u.username AS owner,
	   coder.workspace_status(j.job_status::text, b.transition::text) AS status,
	   t.name::text AS template,
	   v.name::text AS version,
	   b.template_version_id <> t.active_version_id AS outdated,
	   b.build_number AS last_build,
	   b.transition,
	   b.reason,
	   j.error AS build_error,
	   (SELECT string_agg(a.name || ' ' || coder.agent_status(a.created_at, a.first_connected_at,
				a.last_connected_at, a.disconnected_at, a.connection_timeout_seconds, now(), 30)
				|| '/' || a.lifecycle_state, ', ' ORDER BY a.display_order, a.name)
		  FROM coder.workspace_resources r JOIN coder.workspace_agents a ON a.resource_id = r.id
		 WHERE r.job_id = b.job_id AND NOT a.deleted) AS agents,
	   nullif(b.deadline, '0001-01-01 00:00:00+00') AS deadline,
	   w.next_start_at,
	   w.dormant_at,
	   w.last_used_at,
	   o.name::text AS organization,
	   w.id
  FROM coder.workspaces w
  JOIN coder.users u ON u.id = w.owner_id
  JOIN coder.organizations o ON o.id = w.organization_id
  JOIN coder.templates t ON t.id = w.template_id
  LEFT JOIN coder.workspace_builds b ON b.id = w.latest_build_id
  LEFT JOIN coder.provisioner_jobs j ON j.id = b.job_id
  LEFT JOIN coder.template_versions v ON v.id = b.template_version_id
 WHERE NOT w.deleted
 ORDER BY NOT w.running, w.owner_sort, lower(w.name);
COMMENT ON VIEW coder.workspaces_live IS
	'Every workspace that is not deleted, as "coder list" shows it: SELECT name, owner, status FROM coder.workspaces_live;';
COMMENT ON COLUMN coder.workspaces_live.agents IS 'Agents of the latest build with connection and lifecycle.';
COMMENT ON COLUMN coder.workspaces_live.deadline IS 'When the running build is stopped; NULL: by hand only.';

CREATE OR REPLACE VIEW coder.agents_live AS
SELECT a.name::text AS agent,
	   w.name::text AS workspace,
	   u.username AS owner,
	   coder.agent_status(a.created_at, a.first_connected_at, a.last_connected_at, a.disconnected_at,
						  a.connection_timeout_seconds, now(), 30) AS status,
	   a.lifecycle_state,
	   a.version,
	   a.operating_system || '/' || a.architecture AS platform,
	   a.first_connected_at,
	   a.last_connected_at,
	   a.logs_length,
	   a.id
  FROM coder.workspaces w
  JOIN coder.users u ON u.id = w.owner_id
  JOIN coder.workspace_builds b ON b.id = w.latest_build_id
  JOIN coder.workspace_resources r ON r.job_id = b.job_id
  JOIN coder.workspace_agents a ON a.resource_id = r.id
 WHERE NOT w.deleted AND NOT a.deleted;
COMMENT ON VIEW coder.agents_live IS 'Every agent of the latest builds with its connection.';

CREATE OR REPLACE VIEW coder.builds_live AS
SELECT w.name::text AS workspace,
	   u.username AS owner,
	   b.build_number AS build,
	   b.transition,
	   b.reason,
	   j.job_status AS status,
	   j.created_at,
	   j.started_at,
	   j.completed_at,
	   j.completed_at - j.started_at AS took,
	   j.error,
	   b.id,
	   b.job_id
  FROM coder.workspace_builds b
  JOIN coder.workspaces w ON w.id = b.workspace_id
  JOIN coder.users u ON u.id = w.owner_id
  JOIN coder.provisioner_jobs j ON j.id = b.job_id;
COMMENT ON VIEW coder.builds_live IS
	'Every build with its job: SELECT * FROM coder.builds_live WHERE status = ''failed'' ORDER BY created_at DESC;';

-- Views of the reference, so that queries written for it keep working.

CREATE OR REPLACE VIEW coder.workspace_latest_builds AS
SELECT b.id, w.id AS workspace_id, b.template_version_id, b.job_id, b.template_version_preset_id,
	   b.transition, b.created_at, j.job_status
  FROM coder.workspaces w
  LEFT JOIN coder.workspace_builds b ON b.id = w.latest_build_id
  LEFT JOIN coder.provisioner_jobs j ON j.id = b.job_id
 WHERE NOT w.deleted;
COMMENT ON VIEW coder.workspace_latest_builds IS
	'The newest build of each live workspace with its job''s status.';

CREATE OR REPLACE VIEW coder.workspace_build_with_user AS
SELECT b.id, b.created_at, b.updated_at, b.workspace_id, b.template_version_id, b.build_number, b.transition,
	   b.initiator_id, b.job_id, b.deadline, b.reason, b.daily_cost, b.max_deadline,
	   b.template_version_preset_id, b.has_ai_task, b.has_external_agent,
	   coalesce(u.avatar_url, '') AS initiator_by_avatar_url,
	   coalesce(u.username, '') AS initiator_by_username,
	   coalesce(u.name, '') AS initiator_by_name
  FROM coder.workspace_builds b LEFT JOIN coder.users u ON u.id = b.initiator_id;
COMMENT ON VIEW coder.workspace_build_with_user IS 'Builds, without their state, with who made them.';

CREATE OR REPLACE VIEW coder.workspaces_expanded AS
SELECT w.id, w.created_at, w.updated_at, w.owner_id, w.organization_id, w.template_id, w.deleted, w.name,
	   w.autostart_schedule, w.ttl, w.last_used_at, w.dormant_at, w.deleting_at, w.automatic_updates,
	   w.favorite, w.next_start_at, w.group_acl, w.user_acl,
	   u.avatar_url AS owner_avatar_url, u.username AS owner_username, u.name AS owner_name,
	   o.name AS organization_name, o.display_name AS organization_display_name,
	   o.icon AS organization_icon, o.description AS organization_description,
	   t.name AS template_name, t.display_name AS template_display_name, t.icon AS template_icon,
	   t.description AS template_description
  FROM coder.workspaces w
  JOIN coder.users u ON u.id = w.owner_id
  JOIN coder.organizations o ON o.id = w.organization_id
  JOIN coder.templates t ON t.id = w.template_id;
COMMENT ON VIEW coder.workspaces_expanded IS
	'Workspaces with the names of owner, organization and template.';
