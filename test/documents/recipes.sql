-- Rows that the recipes of docs/SQL.md find something in, beside those of sample.sql: somebody who is long gone, a
-- workspace that is idle, one that rests, one behind its template, one that is shared, a group, an old token and template.
INSERT INTO coder.users (id, username, email, login_type, status, created_at, last_seen_at) VALUES
	('00000000-0000-4000-8000-000000000003', 'gone', 'gone@example.com', 'password', 'active', now() - interval '2 years', now() - interval '1 year');
INSERT INTO coder.organization_members (user_id, organization_id, roles)
SELECT '00000000-0000-4000-8000-000000000003', o.id, '{organization-auditor}' FROM coder.organizations o WHERE o.is_default;
INSERT INTO coder.api_keys (id, hashed_secret, user_id, created_at, last_used, expires_at, login_type, token_name)
VALUES ('stalestale', coder.sha256('x'), '00000000-0000-4000-8000-000000000003', now() - interval '1 year', now() - interval '1 year',
	now() + interval '9 years', 'token', 'forgotten');
INSERT INTO coder.groups (id, name, organization_id)
SELECT '00000000-0000-4000-8000-0000000000d1', 'devs', o.id FROM coder.organizations o WHERE o.is_default;
UPDATE coder.workspaces SET last_used_at = now() - interval '8 days',
	user_acl = '{"00000000-0000-4000-8000-000000000003": {"permissions": ["read", "ssh"]}}' WHERE name = 'dev';
UPDATE coder.workspaces SET last_used_at = now() WHERE name <> 'dev';
INSERT INTO coder.workspace_build_parameters (workspace_build_id, name, value)
SELECT latest_build_id, 'region', 'eu' FROM coder.workspaces WHERE name = 'dev';
INSERT INTO coder.templates (id, organization_id, name, provisioner, active_version_id, created_by)
SELECT '00000000-0000-4000-8000-0000000000c2', o.id, 'old', 'terraform', '00000000-0000-4000-8000-0000000000b2', '00000000-0000-4000-8000-000000000001'
  FROM coder.organizations o WHERE o.is_default;
INSERT INTO coder.provisioner_jobs (id, organization_id, initiator_id, provisioner, type, input, file_id, tags, started_at, completed_at)
SELECT ('00000000-0000-4000-8000-0000000000a' || n)::uuid, o.id, '00000000-0000-4000-8000-000000000001', 'terraform', 'template_version_import',
	   '{}', '00000000-0000-4000-8000-0000000000f1', '{"scope": "organization", "owner": ""}', now(), now()
  FROM coder.organizations o, generate_series(2, 3) n WHERE o.is_default;
INSERT INTO coder.template_versions (id, template_id, organization_id, name, job_id, created_by)
SELECT v.id, v.template, o.id, v.name, v.job, '00000000-0000-4000-8000-000000000001'
  FROM coder.organizations o, (VALUES
	('00000000-0000-4000-8000-0000000000b2'::uuid, '00000000-0000-4000-8000-0000000000c2'::uuid, 'v1', '00000000-0000-4000-8000-0000000000a2'::uuid),
	('00000000-0000-4000-8000-0000000000b3', '00000000-0000-4000-8000-0000000000c1', 'v2', '00000000-0000-4000-8000-0000000000a3')) v (id, template, name, job)
 WHERE o.is_default;
INSERT INTO coder.workspaces (id, owner_id, organization_id, template_id, name, dormant_at)
SELECT x.id, '00000000-0000-4000-8000-000000000001', o.id, '00000000-0000-4000-8000-0000000000c1', x.name, x.dormant
  FROM coder.organizations o, (VALUES ('00000000-0000-4000-8000-0000000000e4'::uuid, 'resting', now() - interval '1 day'),
	('00000000-0000-4000-8000-0000000000e5', 'behind', NULL)) x (id, name, dormant) WHERE o.is_default;
-- A build of the first version that was stopped, then a second version; the last word is the queue's.
DO $$
DECLARE
	daemon uuid := coder.provisioner_register('builder', '{terraform}', '{"scope": "organization", "owner": ""}', 'v0');
	job uuid;
BEGIN
	PERFORM coder.job_cancel(j.id) FROM coder.provisioner_jobs j WHERE j.job_status = 'pending';
	PERFORM coder.build_add(id, owner_id, 'stop', '00000000-0000-4000-8000-0000000000b1', 'initiator') FROM coder.workspaces WHERE name = 'behind';
	job := (coder.provisioner_acquire(daemon) ->> 'job_id')::uuid;
	PERFORM coder.provisioner_complete(daemon, job, '{"workspace_build": {"state": "", "resources": []}}');
	UPDATE coder.templates SET active_version_id = '00000000-0000-4000-8000-0000000000b3' WHERE name = 'sandbox';
	PERFORM coder.build_add(id, owner_id, 'start', '00000000-0000-4000-8000-0000000000b3', 'initiator') FROM coder.workspaces WHERE name = 'waiting';
END
$$;

-- What a boundary of dev reported now, and what it had a day before.
INSERT INTO coder.boundary_reports SELECT now(), w.id, w.owner_id, w.template_id, w.organization_id, 4, 2 FROM coder.workspaces w WHERE w.name = 'dev';
INSERT INTO coder.boundary_usage_quarters SELECT date_trunc('hour', now()) - interval '1 day', w.id, w.owner_id, w.template_id, w.organization_id, 3, 10, 1
  FROM coder.workspaces w WHERE w.name = 'dev';
