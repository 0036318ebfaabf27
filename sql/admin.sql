-- SPDX-License-Identifier: MIT
--
-- admin.sql
--   Views for administrators at a psql prompt, and the reference's views of
--   builds and workspaces.
--
-- The views rows_… give the rows that the one who asks may read, filtered by
-- row security (they run with the reader's rights), without secrets.  The
-- others run with their owner's rights, so that they can tell what belongs to
-- such a row, as the API does: the name of a workspace's owner, whom a reader
-- of the workspace may not read.  What they show is of a row of rows_… only.

CREATE OR REPLACE VIEW coder.rows_users WITH (security_invoker) AS
SELECT id, email, username, created_at, updated_at, status, rbac_roles, login_type, avatar_url, deleted, last_seen_at,
	   quiet_hours_schedule, name, is_system, is_service_account
  FROM coder.users;
COMMENT ON VIEW coder.rows_users IS 'The users that the reader may read, without secrets.';

CREATE OR REPLACE VIEW coder.rows_members WITH (security_invoker) AS
SELECT user_id, organization_id, created_at, updated_at, roles FROM coder.organization_members;
COMMENT ON VIEW coder.rows_members IS 'The members of organizations that the reader may read.';

CREATE OR REPLACE VIEW coder.rows_keys WITH (security_invoker) AS
SELECT id, user_id, last_used, expires_at, created_at, updated_at, login_type, lifetime_seconds, ip_address, token_name, scopes, allow_list
  FROM coder.api_keys;
COMMENT ON VIEW coder.rows_keys IS 'The keys that the reader may read, without secrets.';

CREATE OR REPLACE VIEW coder.rows_templates WITH (security_invoker) AS
SELECT t.* FROM coder.templates t;
COMMENT ON VIEW coder.rows_templates IS 'The templates that the reader may read.';

CREATE OR REPLACE VIEW coder.rows_versions WITH (security_invoker) AS
SELECT v.* FROM coder.template_versions v;
COMMENT ON VIEW coder.rows_versions IS 'The versions of templates that the reader may read.';

CREATE OR REPLACE VIEW coder.rows_workspaces WITH (security_invoker) AS
SELECT w.* FROM coder.workspaces w;
COMMENT ON VIEW coder.rows_workspaces IS 'The workspaces that the reader may read.';

CREATE OR REPLACE VIEW coder.rows_resources WITH (security_invoker) AS
SELECT r.* FROM coder.workspace_resources r;
COMMENT ON VIEW coder.rows_resources IS 'The resources that the reader may read.';

CREATE OR REPLACE VIEW coder.rows_jobs WITH (security_invoker) AS
SELECT id, created_at, updated_at, started_at, canceled_at, completed_at, error, organization_id, initiator_id, provisioner, type,
	   worker_id, file_id, tags, error_code, job_status, logs_length, logs_overflowed
  FROM coder.provisioner_jobs;
COMMENT ON VIEW coder.rows_jobs IS 'The jobs that the reader may read, without their input.';

CREATE OR REPLACE VIEW coder.rows_audit WITH (security_invoker) AS
SELECT l.* FROM coder.audit_logs l;
COMMENT ON VIEW coder.rows_audit IS 'The rows of the audit log that the reader may read.';

CREATE OR REPLACE VIEW coder.users_live WITH (security_barrier) AS
SELECT u.username,
	   u.name,
	   u.email,
	   u.status,
	   u.login_type,
	   u.rbac_roles AS roles,
	   ARRAY(SELECT o.name FROM coder.organization_members m JOIN coder.organizations o ON o.id = m.organization_id
			  WHERE m.user_id = u.id AND NOT o.deleted ORDER BY o.name) AS organizations,
	   ARRAY(SELECT g.name FROM coder.group_members m JOIN coder.groups g ON g.id = m.group_id WHERE m.user_id = u.id ORDER BY g.name) AS groups,
	   (SELECT coalesce(sum(t.live), 0)::int4 FROM coder.workspace_totals t WHERE t.owner_id = u.id) AS workspaces,
	   nullif(u.last_seen_at, '0001-01-01 00:00:00+00') AS last_seen_at,
	   u.created_at,
	   u.id
  FROM coder.rows_users u
 WHERE NOT u.deleted AND NOT u.is_system;
COMMENT ON VIEW coder.users_live IS 'Every user who is not deleted, as the page Users shows it.';

CREATE OR REPLACE VIEW coder.members_live WITH (security_barrier) AS
SELECT o.name AS organization,
	   u.username,
	   u.name,
	   u.email,
	   u.status,
	   m.roles,
	   m.created_at AS member_since,
	   m.organization_id,
	   m.user_id
  FROM coder.rows_members m
  JOIN coder.users u ON u.id = m.user_id
  JOIN coder.organizations o ON o.id = m.organization_id
 WHERE NOT u.deleted AND NOT o.deleted;
COMMENT ON VIEW coder.members_live IS 'Every member of an organization with the roles there, as the page Members shows it.';

CREATE OR REPLACE VIEW coder.sessions_live WITH (security_barrier) AS
SELECT u.username,
	   CASE WHEN k.login_type = 'token' THEN 'token' ELSE 'session' END AS kind,
	   k.token_name,
	   k.login_type,
	   k.scopes,
	   k.ip_address,
	   nullif(k.last_used, 'epoch') AS last_used,
	   k.created_at,
	   k.expires_at,
	   k.id
  FROM coder.rows_keys k JOIN coder.users u ON u.id = k.user_id
 WHERE k.expires_at > now();
COMMENT ON VIEW coder.sessions_live IS 'Every session and token that has not expired, and whose it is.';

CREATE OR REPLACE VIEW coder.templates_live WITH (security_barrier) AS
SELECT t.name::text AS name,
	   o.name AS organization,
	   v.name::text AS active_version,
	   v.created_at AS version_created_at,
	   u.username AS created_by,
	   (SELECT count(*)::int4 FROM coder.workspaces w WHERE w.template_id = t.id AND NOT w.deleted) AS workspaces,
	   (SELECT count(DISTINCT w.owner_id)::int4 FROM coder.workspaces w WHERE w.template_id = t.id AND NOT w.deleted) AS owners,
	   t.default_ttl / 1000 * interval '1 microsecond' AS default_ttl,
	   nullif(t.deprecated, '') AS deprecated,
	   t.updated_at,
	   t.id
  FROM coder.rows_templates t
  JOIN coder.organizations o ON o.id = t.organization_id
  JOIN coder.users u ON u.id = t.created_by
  LEFT JOIN coder.template_versions v ON v.id = t.active_version_id
 WHERE NOT t.deleted;
COMMENT ON VIEW coder.templates_live IS 'Every template that is not deleted with its active version and how much it is used.';

CREATE OR REPLACE VIEW coder.template_variables WITH (security_barrier) AS
SELECT t.name::text AS template,
	   v.name::text AS version,
	   x.name,
	   CASE WHEN x.sensitive THEN '*redacted*' ELSE x.value END AS value,
	   CASE WHEN x.sensitive THEN '*redacted*' ELSE x.default_value END AS default_value,
	   x.required,
	   x.sensitive,
	   v.id AS template_version_id
  FROM coder.rows_versions v
  JOIN coder.template_version_variables x ON x.template_version_id = v.id
  LEFT JOIN coder.templates t ON t.id = v.template_id;
COMMENT ON VIEW coder.template_variables IS 'Terraform variables of versions; values of sensitive ones are not shown.';

CREATE OR REPLACE VIEW coder.audit_live WITH (security_barrier) AS
SELECT l."time",
	   coalesce(u.username, l.database_role) AS who,
	   l.action,
	   l.resource_type AS type,
	   l.resource_target AS target,
	   l.diff,
	   o.name AS organization,
	   l.ip,
	   l.user_agent,
	   l.status_code,
	   l.additional_fields,
	   l.request_id,
	   l.resource_id,
	   l.id
  FROM coder.rows_audit l
  LEFT JOIN coder.users u ON u.id = l.user_id
  LEFT JOIN coder.organizations o ON o.id = l.organization_id;
COMMENT ON VIEW coder.audit_live IS 'The audit log with names: who changed what, from where.';

CREATE OR REPLACE VIEW coder.jobs_live WITH (security_barrier) AS
SELECT j.created_at,
	   j.type,
	   j.job_status AS status,
	   u.username AS initiator,
	   coalesce(w.name, t.name)::text AS what,
	   d.name::text AS daemon,
	   j.started_at,
	   j.completed_at,
	   coalesce(j.completed_at, now()) - coalesce(j.started_at, j.created_at) AS took,
	   j.error,
	   j.tags,
	   j.id
  FROM coder.rows_jobs j
  LEFT JOIN coder.users u ON u.id = j.initiator_id
  LEFT JOIN coder.provisioner_daemons d ON d.id = j.worker_id
  LEFT JOIN coder.workspace_builds b ON b.job_id = j.id
  LEFT JOIN coder.workspaces w ON w.id = b.workspace_id
  LEFT JOIN coder.template_versions v ON v.job_id = j.id
  LEFT JOIN coder.templates t ON t.id = v.template_id;
COMMENT ON VIEW coder.jobs_live IS 'Jobs of provisioners with what they are for: SELECT * FROM coder.jobs_live WHERE status IN (''pending'', ''running'');';

CREATE OR REPLACE VIEW coder.resources_live WITH (security_barrier) AS
SELECT w.name::text AS workspace,
	   u.username AS owner,
	   r.type,
	   r.name,
	   r.daily_cost,
	   (SELECT jsonb_object_agg(m.key, CASE WHEN NOT m.sensitive THEN m.value END) FROM coder.workspace_resource_metadata m
		 WHERE m.workspace_resource_id = r.id) AS facts,
	   w.id AS workspace_id,
	   r.id
  FROM coder.rows_resources r
  JOIN coder.workspace_builds b ON b.job_id = r.job_id
  JOIN coder.workspaces w ON w.latest_build_id = b.id
  JOIN coder.users u ON u.id = w.owner_id
 WHERE NOT w.deleted;
COMMENT ON VIEW coder.resources_live IS 'What the latest builds are made of, with its facts; sensitive ones without their values.';

CREATE OR REPLACE VIEW coder.workspaces_live WITH (security_barrier) AS
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
  FROM coder.rows_workspaces w
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

CREATE OR REPLACE VIEW coder.agents_live WITH (security_barrier) AS
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
  FROM coder.rows_workspaces w
  JOIN coder.users u ON u.id = w.owner_id
  JOIN coder.workspace_builds b ON b.id = w.latest_build_id
  JOIN coder.workspace_resources r ON r.job_id = b.job_id
  JOIN coder.workspace_agents a ON a.resource_id = r.id
 WHERE NOT w.deleted AND NOT a.deleted;
COMMENT ON VIEW coder.agents_live IS 'Every agent of the latest builds with its connection.';

CREATE OR REPLACE VIEW coder.builds_live WITH (security_barrier) AS
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
  JOIN coder.rows_workspaces w ON w.id = b.workspace_id
  JOIN coder.users u ON u.id = w.owner_id
  JOIN coder.provisioner_jobs j ON j.id = b.job_id;
COMMENT ON VIEW coder.builds_live IS
	'Every build with its job: SELECT * FROM coder.builds_live WHERE status = ''failed'' ORDER BY created_at DESC;';

-- Views of the reference, so that queries written for it keep working.  They run with the reader's rights: names of
-- what the reader may not read are NULL.

CREATE OR REPLACE VIEW coder.workspace_latest_builds WITH (security_invoker) AS
SELECT b.id, w.id AS workspace_id, b.template_version_id, b.job_id, b.template_version_preset_id,
	   b.transition, b.created_at, j.job_status
  FROM coder.workspaces w
  LEFT JOIN coder.workspace_builds b ON b.id = w.latest_build_id
  LEFT JOIN coder.provisioner_jobs j ON j.id = b.job_id
 WHERE NOT w.deleted;
COMMENT ON VIEW coder.workspace_latest_builds IS
	'The newest build of each live workspace with its job''s status.';

CREATE OR REPLACE VIEW coder.workspace_build_with_user WITH (security_invoker) AS
SELECT b.id, b.created_at, b.updated_at, b.workspace_id, b.template_version_id, b.build_number, b.transition,
	   b.initiator_id, b.job_id, b.deadline, b.reason, b.daily_cost, b.max_deadline,
	   b.template_version_preset_id, b.has_ai_task, b.has_external_agent,
	   coalesce(u.avatar_url, '') AS initiator_by_avatar_url,
	   coalesce(u.username, '') AS initiator_by_username,
	   coalesce(u.name, '') AS initiator_by_name
  FROM coder.workspace_builds b LEFT JOIN coder.users u ON u.id = b.initiator_id;
COMMENT ON VIEW coder.workspace_build_with_user IS 'Builds, without their state, with who made them.';

CREATE OR REPLACE VIEW coder.workspaces_expanded WITH (security_invoker) AS
SELECT w.id, w.created_at, w.updated_at, w.owner_id, w.organization_id, w.template_id, w.deleted, w.name,
	   w.autostart_schedule, w.ttl, w.last_used_at, w.dormant_at, w.deleting_at, w.automatic_updates,
	   w.favorite, w.next_start_at, w.group_acl, w.user_acl,
	   u.avatar_url AS owner_avatar_url, u.username AS owner_username, u.name AS owner_name,
	   o.name AS organization_name, o.display_name AS organization_display_name,
	   o.icon AS organization_icon, o.description AS organization_description,
	   t.name AS template_name, t.display_name AS template_display_name, t.icon AS template_icon,
	   t.description AS template_description
  FROM coder.workspaces w
  LEFT JOIN coder.users u ON u.id = w.owner_id
  LEFT JOIN coder.organizations o ON o.id = w.organization_id
  LEFT JOIN coder.templates t ON t.id = w.template_id;
COMMENT ON VIEW coder.workspaces_expanded IS
	'Workspaces with the names of owner, organization and template.';
