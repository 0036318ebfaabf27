-- Rows that the recipes of docs/SQL.md find something in: two users, a workspace that runs, one whose build failed.
SET client_min_messages = warning;
INSERT INTO coder.users (id, username, email, login_type, status, rbac_roles) VALUES
	('00000000-0000-4000-8000-000000000001', 'ada', 'ada@example.com', 'password', 'active', '{owner}'),
	('00000000-0000-4000-8000-000000000002', 'bob', 'bob@example.com', 'password', 'active', '{}');
INSERT INTO coder.organization_members (user_id, organization_id)
SELECT u.id, o.id FROM coder.users u, coder.organizations o WHERE u.username IN ('ada', 'bob') AND o.is_default;
DO 'BEGIN PERFORM coder.api_key_create(id, ''password'', 86400) FROM coder.users WHERE username = ''bob''; END';
INSERT INTO coder.api_keys (id, hashed_secret, user_id, expires_at, login_type, token_name)
SELECT 'tokentoken', coder.sha256('x'), id, now() + interval '90 days', 'token', 'ci' FROM coder.users WHERE username = 'bob';
INSERT INTO coder.files (id, hash, created_by, mimetype, data)
VALUES ('00000000-0000-4000-8000-0000000000f1', encode(sha256(''), 'hex'), '00000000-0000-4000-8000-000000000001', 'application/x-tar', '');
INSERT INTO coder.provisioner_jobs (id, organization_id, initiator_id, provisioner, type, input, file_id, tags, started_at, completed_at)
SELECT '00000000-0000-4000-8000-0000000000a1', o.id, '00000000-0000-4000-8000-000000000001', 'terraform', 'template_version_import',
	   '{"template_version_id": "00000000-0000-4000-8000-0000000000b1"}', '00000000-0000-4000-8000-0000000000f1',
	   '{"scope": "organization", "owner": ""}', now(), now() FROM coder.organizations o WHERE o.is_default;
INSERT INTO coder.template_versions (id, organization_id, name, job_id, created_by)
SELECT '00000000-0000-4000-8000-0000000000b1', o.id, 'v1', '00000000-0000-4000-8000-0000000000a1',
	   '00000000-0000-4000-8000-000000000001' FROM coder.organizations o WHERE o.is_default;
INSERT INTO coder.templates (id, organization_id, name, provisioner, active_version_id, created_by, group_acl)
SELECT '00000000-0000-4000-8000-0000000000c1', o.id, 'sandbox', 'terraform', '00000000-0000-4000-8000-0000000000b1',
	   '00000000-0000-4000-8000-000000000001', jsonb_build_object(o.id, '["read", "use"]'::jsonb)
  FROM coder.organizations o WHERE o.is_default;
UPDATE coder.template_versions SET template_id = '00000000-0000-4000-8000-0000000000c1';
INSERT INTO coder.workspaces (id, owner_id, organization_id, template_id, name, ttl)
SELECT x.id, x.owner, o.id, '00000000-0000-4000-8000-0000000000c1', x.name, 3600000000000
  FROM coder.organizations o, (VALUES
	('00000000-0000-4000-8000-0000000000e1'::uuid, '00000000-0000-4000-8000-000000000002'::uuid, 'dev'),
	('00000000-0000-4000-8000-0000000000e2', '00000000-0000-4000-8000-000000000002', 'broken'),
	('00000000-0000-4000-8000-0000000000e3', '00000000-0000-4000-8000-000000000001', 'waiting')) x (id, owner, name)
 WHERE o.is_default;
DO $$
DECLARE
	daemon uuid := coder.provisioner_register('builder', '{terraform}', '{"scope": "organization", "owner": ""}', 'v0');
	job uuid;
BEGIN
	PERFORM coder.build_add(id, owner_id, 'start', '00000000-0000-4000-8000-0000000000b1', 'initiator')
	   FROM coder.workspaces WHERE name = 'dev';
	job := (coder.provisioner_acquire(daemon) ->> 'job_id')::uuid;
	PERFORM coder.provisioner_complete(daemon, job, '{"workspace_build": {"state": "", "resources": [{"name": "vm", "type": "x",
		"agents": [{"name": "main", "operating_system": "linux", "architecture": "amd64"}]}]}}');
	PERFORM coder.build_add(id, owner_id, 'start', '00000000-0000-4000-8000-0000000000b1', 'initiator')
	   FROM coder.workspaces WHERE name = 'broken';
	job := (coder.provisioner_acquire(daemon) ->> 'job_id')::uuid;
	PERFORM coder.provisioner_update(daemon, job, '{"logs": [{"source": "PROVISIONER", "level": "ERROR", "created_at": 1700000000000,
		"stage": "Planning", "output": "no such image"}]}');
	PERFORM coder.provisioner_fail(daemon, job, '{"error": "plan: no such image", "workspace_build": {}}');
	PERFORM coder.build_add(id, owner_id, 'start', '00000000-0000-4000-8000-0000000000b1', 'initiator')
	   FROM coder.workspaces WHERE name = 'waiting';
	PERFORM coder.audit('write', 'user', '00000000-0000-4000-8000-000000000002', 'bob');
END
$$;
INSERT INTO coder.connection_logs (connect_time, organization_id, workspace_owner_id, workspace_id, workspace_name, agent_name, type, ip, connection_id)
SELECT now(), organization_id, owner_id, id, name, 'main', 'ssh', '::1', gen_random_uuid() FROM coder.workspaces WHERE name = 'dev';
