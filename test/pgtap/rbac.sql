-- rbac.sql -- who may do what: the decision set of the access rules, and what explains and lists them
--
-- A row: site roles, roles in organization A, member of A, of B, of group G, sharing mode, service account, scopes,
-- allow list, type, id, owner, organization, any organization, user list, group list, allowed actions, denied actions.
-- "me", A, B and G stand for the ids of the subject and its surroundings.
BEGIN;
\i api.psql
SELECT no_plan();

CREATE TEMP TABLE decision (n int, site text[], org text[], in_a bool, in_b bool, in_g bool, mode text, service bool, scopes text[],
	allow text[], type text, id text, owner text, org_id text, any_org bool, user_acl text, group_acl text, allowed text[], denied text[]);
INSERT INTO decision VALUES
	(1, '{}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', NULL, 'me', 'A', false, NULL, NULL, '{}', '{"read","create"}'),
	(2, '{}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', NULL, 'me', NULL, true, NULL, NULL, '{}', '{"create"}'),
	(3, '{}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', NULL, 'me', NULL, false, NULL, NULL, '{}', '{"read"}'),
	(4, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', 'me', 'A', false, NULL, NULL, '{"create","read","update","delete","start","stop","ssh","application_connect","create_agent","delete_agent","update_agent","share"}', '{}'),
	(5, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', NULL, 'me', NULL, true, NULL, NULL, '{"create","ssh"}', '{}'),
	(6, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-0000000000f2', 'A', false, NULL, NULL, '{}', '{"read","update","ssh"}'),
	(7, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', 'me', 'B', false, NULL, NULL, '{}', '{"read"}'),
	(8, '{}', '{}', true, false, false, 'none', false, '{"coder:all"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', 'me', 'A', false, NULL, NULL, '{"read","update"}', '{"share"}'),
	(9, '{}', '{}', true, false, false, 'service_accounts', false, '{"coder:all"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', 'me', 'A', false, NULL, NULL, '{"read"}', '{"share"}'),
	(10, '{}', '{}', true, false, false, 'service_accounts', true, '{"coder:all"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', 'me', 'A', false, NULL, NULL, '{"share"}', '{}'),
	(11, '{}', '{"organization-admin"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', 'me', 'A', false, NULL, NULL, '{"create","read","update","delete","start","stop","ssh","application_connect","create_agent","delete_agent","update_agent","share"}', '{}'),
	(12, '{}', '{"organization-admin"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-0000000000f2', 'A', false, NULL, NULL, '{"create","read","update","delete","start","stop","create_agent","delete_agent","update_agent","share"}', '{"ssh","application_connect"}'),
	(13, '{}', '{"organization-admin"}', true, false, false, 'none', false, '{"coder:all"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-0000000000f2', 'A', false, NULL, NULL, '{"update"}', '{"share"}'),
	(15, '{}', '{"organization-admin"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-0000000000f2', 'B', false, NULL, NULL, '{}', '{"read"}'),
	(16, '{}', '{"organization-workspace-creation-ban"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', 'me', 'A', false, NULL, NULL, '{"update_agent","start","stop","read","update"}', '{"create","delete","create_agent","delete_agent"}'),
	(17, '{}', '{"organization-admin","organization-workspace-creation-ban"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-0000000000f2', 'A', false, NULL, NULL, '{"read","update"}', '{"create","delete"}'),
	(18, '{"owner"}', '{"organization-workspace-creation-ban"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-0000000000f2', 'A', false, NULL, NULL, '{"create","delete"}', '{}'),
	(19, '{"owner"}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-0000000000f2', 'A', false, NULL, NULL, '{"create","read","update","delete","start","stop","ssh","application_connect","create_agent","delete_agent","update_agent","share"}', '{}'),
	(23, '{"template-admin"}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-0000000000f2', 'A', false, NULL, NULL, '{"read"}', '{"update","ssh"}'),
	(24, '{"auditor"}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-0000000000f2', 'A', false, NULL, NULL, '{}', '{"read"}'),
	(25, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace_dormant', '00000000-0000-0000-0000-000000000001', 'me', 'A', false, NULL, NULL, '{"create","read","update","delete","stop","create_agent","delete_agent","update_agent"}', '{"start","ssh","application_connect","share"}'),
	(26, '{"owner"}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace_dormant', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-0000000000f2', 'A', false, NULL, NULL, '{"read","update","delete","stop"}', '{"start","ssh","application_connect","share"}'),
	(27, '{"template-admin"}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'prebuilt_workspace', '00000000-0000-0000-0000-000000000001', 'c42fdf75-3097-471c-8c33-fb52454d81c0', 'A', false, NULL, NULL, '{"update","delete"}', '{}'),
	(28, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'prebuilt_workspace', '00000000-0000-0000-0000-000000000001', 'c42fdf75-3097-471c-8c33-fb52454d81c0', 'A', false, NULL, NULL, '{}', '{"update","delete"}'),
	(29, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-0000000000f2', 'A', false, '{"me": ["read", "ssh"]}', NULL, '{"read","ssh"}', '{"update"}'),
	(30, '{}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-0000000000f2', 'A', false, '{"me": ["*"]}', NULL, '{"read","delete","share"}', '{}'),
	(31, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-0000000000f2', 'A', false, NULL, '{"G": ["read"]}', '{}', '{"read"}'),
	(32, '{}', '{}', true, false, true, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-0000000000f2', 'A', false, NULL, '{"G": ["read"]}', '{"read"}', '{"start"}'),
	(33, '{}', '{}', false, true, true, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-0000000000f2', 'A', false, NULL, '{"G": ["read"]}', '{}', '{"read"}'),
	(34, '{}', '{"organization-workspace-creation-ban"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-0000000000f2', 'A', false, '{"me": ["create", "delete"]}', NULL, '{"create","delete"}', '{}'),
	(35, '{"deny-site"}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', 'me', 'A', false, '{"me": ["read"]}', NULL, '{"read"}', '{"update"}'),
	(36, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'template', '00000000-0000-0000-0000-000000000003', NULL, 'A', false, NULL, '{"A": ["read", "use"]}', '{"read","use"}', '{"update"}'),
	(37, '{"owner"}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'template', '00000000-0000-0000-0000-000000000003', NULL, 'A', false, NULL, NULL, '{"create","use","read","update","delete","view_insights"}', '{}'),
	(38, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'template', '00000000-0000-0000-0000-000000000003', NULL, 'A', false, NULL, NULL, '{}', '{"read","use"}'),
	(39, '{"user-admin"}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'template', '00000000-0000-0000-0000-000000000003', NULL, 'A', false, NULL, '{"A": ["read"]}', '{}', '{"read"}'),
	(40, '{}', '{"organization-user-admin"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'template', '00000000-0000-0000-0000-000000000003', NULL, 'A', false, NULL, '{"A": ["read"]}', '{"read"}', '{"use"}'),
	(41, '{"auditor"}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'template', '00000000-0000-0000-0000-000000000003', NULL, 'A', false, NULL, NULL, '{"read","view_insights"}', '{"use","update"}'),
	(42, '{}', '{"organization-auditor"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'template', '00000000-0000-0000-0000-000000000003', NULL, 'A', false, NULL, NULL, '{"read","view_insights"}', '{"use"}'),
	(43, '{}', '{"organization-template-admin"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'template', NULL, NULL, NULL, true, NULL, NULL, '{"create"}', '{}'),
	(44, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'template', NULL, NULL, NULL, true, NULL, NULL, '{}', '{"create","read"}'),
	(45, '{}', '{"t-use"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'template', '00000000-0000-0000-0000-000000000003', NULL, 'A', false, NULL, NULL, '{"use"}', '{"read"}'),
	(46, '{}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'user', 'me', 'me', NULL, false, NULL, NULL, '{"read","read_personal","update_personal"}', '{"update","delete"}'),
	(47, '{}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'user', '00000000-0000-0000-0000-0000000000f2', '00000000-0000-0000-0000-0000000000f2', NULL, false, NULL, NULL, '{}', '{"read","read_personal"}'),
	(48, '{}', '{"organization-admin"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'user', '00000000-0000-0000-0000-0000000000f2', '00000000-0000-0000-0000-0000000000f2', NULL, false, NULL, NULL, '{"read"}', '{"update","read_personal"}'),
	(49, '{}', '{"organization-template-admin"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'user', '00000000-0000-0000-0000-0000000000f2', '00000000-0000-0000-0000-0000000000f2', NULL, false, NULL, NULL, '{}', '{"read"}'),
	(50, '{"user-admin"}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'user', '00000000-0000-0000-0000-0000000000f2', '00000000-0000-0000-0000-0000000000f2', NULL, false, NULL, NULL, '{"read","create","update","delete","read_personal","update_personal"}', '{}'),
	(51, '{}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'api_key', '00000000-0000-0000-0000-000000000006', 'me', NULL, false, NULL, NULL, '{"create","read","update","delete"}', '{}'),
	(52, '{"owner"}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'user_secret', NULL, '00000000-0000-0000-0000-0000000000f2', NULL, false, NULL, NULL, '{}', '{"read","create"}'),
	(53, '{}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'user_secret', NULL, 'me', NULL, false, NULL, NULL, '{"read","create","update","delete"}', '{}'),
	(54, '{}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'organization', NULL, NULL, NULL, false, NULL, NULL, '{}', '{"create","read"}'),
	(55, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'organization', 'A', NULL, 'A', false, NULL, NULL, '{"read"}', '{"update"}'),
	(56, '{}', '{"organization-admin"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'organization', 'A', NULL, 'A', false, NULL, NULL, '{"read","update","delete","create"}', '{}'),
	(57, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'organization_member', '00000000-0000-0000-0000-0000000000f2', '00000000-0000-0000-0000-0000000000f2', 'A', false, NULL, NULL, '{"read"}', '{"update"}'),
	(58, '{}', '{}', true, false, false, 'none', false, '{"coder:all"}', '{"*:*"}', 'organization_member', '00000000-0000-0000-0000-0000000000f2', '00000000-0000-0000-0000-0000000000f2', 'A', false, NULL, NULL, '{}', '{"read"}'),
	(59, '{}', '{}', true, false, false, 'none', false, '{"coder:all"}', '{"*:*"}', 'organization_member', 'me', 'me', 'A', false, NULL, NULL, '{"read"}', '{"delete"}'),
	(60, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'group', 'G', NULL, 'A', false, NULL, '{"G": ["read"]}', '{"read"}', '{"update"}'),
	(61, '{}', '{}', true, false, false, 'service_accounts', false, '{"coder:all"}', '{"*:*"}', 'group', 'G', NULL, 'A', false, NULL, '{"G": ["read"]}', '{}', '{"read"}'),
	(62, '{}', '{}', true, false, true, 'service_accounts', false, '{"coder:all"}', '{"*:*"}', 'group', 'G', NULL, 'A', false, NULL, '{"G": ["read"]}', '{"read"}', '{}'),
	(63, '{}', '{}', true, false, false, 'service_accounts', true, '{"coder:all"}', '{"*:*"}', 'group', 'G', NULL, 'A', false, NULL, NULL, '{"read"}', '{}'),
	(64, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'group_member', '00000000-0000-0000-0000-0000000000f2', '00000000-0000-0000-0000-0000000000f2', 'A', false, NULL, NULL, '{}', '{"read"}'),
	(65, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'group_member', 'me', 'me', 'A', false, NULL, NULL, '{"read"}', '{}'),
	(66, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'provisioner_daemon', '00000000-0000-0000-0000-000000000007', NULL, 'A', false, NULL, NULL, '{"read"}', '{"create"}'),
	(67, '{}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'provisioner_daemon', NULL, 'me', NULL, false, NULL, NULL, '{"create","read","update","delete"}', '{}'),
	(68, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'provisioner_daemon', NULL, 'me', 'A', false, NULL, NULL, '{"create","update","delete"}', '{}'),
	(69, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'provisioner_jobs', NULL, NULL, 'A', false, NULL, NULL, '{}', '{"read"}'),
	(70, '{"template-admin"}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'provisioner_jobs', NULL, NULL, 'A', false, NULL, NULL, '{}', '{"read"}'),
	(71, '{}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'file', '00000000-0000-0000-0000-000000000008', 'me', NULL, false, NULL, NULL, '{"create","read"}', '{}'),
	(72, '{}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'file', '00000000-0000-0000-0000-000000000008', '00000000-0000-0000-0000-0000000000f2', NULL, false, NULL, NULL, '{}', '{"read"}'),
	(73, '{}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'assign_role', NULL, NULL, NULL, false, NULL, NULL, '{"read"}', '{"assign"}'),
	(74, '{"user-admin"}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'assign_role', NULL, NULL, NULL, false, NULL, NULL, '{"read","assign","unassign"}', '{}'),
	(75, '{}', '{"organization-user-admin"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'assign_org_role', NULL, NULL, 'A', false, NULL, NULL, '{"assign","unassign","read"}', '{"create","update"}'),
	(76, '{}', '{"organization-admin"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'assign_org_role', NULL, NULL, 'A', false, NULL, NULL, '{"create","update","delete","assign"}', '{}'),
	(77, '{}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'oauth2_app', NULL, NULL, NULL, false, NULL, NULL, '{"read"}', '{"create"}'),
	(78, '{"auditor"}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'audit_log', NULL, NULL, NULL, false, NULL, NULL, '{"read"}', '{"create"}'),
	(79, '{}', '{"organization-auditor"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'audit_log', NULL, NULL, NULL, false, NULL, NULL, '{}', '{"read"}'),
	(80, '{}', '{"organization-auditor"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'audit_log', NULL, NULL, NULL, true, NULL, NULL, '{"read"}', '{}'),
	(81, '{"auditor"}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'deployment_config', NULL, NULL, NULL, false, NULL, NULL, '{"read"}', '{"update"}'),
	(82, '{"owner"}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'usage_event', NULL, NULL, NULL, false, NULL, NULL, '{}', '{"create","read"}'),
	(83, '{}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'aibridge_interception', NULL, 'me', NULL, false, NULL, NULL, '{"create","update"}', '{"read"}'),
	(84, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'chat', '00000000-0000-0000-0000-000000000009', 'me', 'A', false, NULL, NULL, '{"create","read","update","delete"}', '{}'),
	(85, '{"agents-access"}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'chat', NULL, 'me', NULL, false, NULL, NULL, '{"create","read"}', '{}'),
	(86, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'chat', NULL, 'me', NULL, false, NULL, NULL, '{}', '{"create"}'),
	(87, '{"agents-access"}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'chat', '00000000-0000-0000-0000-000000000009', 'me', 'A', false, NULL, NULL, '{}', '{"create","read"}'),
	(88, '{}', '{"organization-admin"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'chat', '00000000-0000-0000-0000-000000000009', '00000000-0000-0000-0000-0000000000f2', 'A', false, NULL, NULL, '{"read","delete"}', '{}'),
	(89, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'task', '00000000-0000-0000-0000-000000000005', 'me', 'A', false, NULL, NULL, '{"create","read","update","delete"}', '{}'),
	(90, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'task', '00000000-0000-0000-0000-000000000005', '00000000-0000-0000-0000-0000000000f2', 'A', false, '{"me": ["read", "ssh"]}', NULL, '{"read"}', '{"update"}'),
	(91, '{"owner"}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'system', NULL, NULL, NULL, false, NULL, NULL, '{"create","read","update","delete"}', '{}'),
	(92, '{"owner"}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'no_such_type', NULL, NULL, NULL, false, NULL, NULL, '{}', '{"read"}'),
	(93, '{}', '{"readonly"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', NULL, '00000000-0000-0000-0000-0000000000f2', 'A', false, NULL, NULL, '{"read"}', '{"update"}'),
	(94, '{}', '{"readonly"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', NULL, 'me', NULL, false, NULL, NULL, '{"read"}', '{"create"}'),
	(95, '{}', '{"readonly"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', NULL, NULL, NULL, false, NULL, NULL, '{}', '{"read"}'),
	(96, '{"owner","deny-user"}', '{"deny-org"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', NULL, '00000000-0000-0000-0000-0000000000f2', 'A', false, NULL, NULL, '{"read","delete"}', '{}'),
	(97, '{}', '{"deny-org"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', NULL, 'me', 'A', false, NULL, NULL, '{}', '{"read"}'),
	(98, '{"deny-site"}', '{"organization-admin"}', true, false, false, 'everyone', false, '{"coder:all"}', '{"*:*"}', 'workspace', NULL, 'me', 'A', false, NULL, NULL, '{}', '{"read"}'),
	(99, '{"owner"}', '{}', false, false, false, 'everyone', false, '{"coder:application_connect"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-0000000000f2', 'A', false, NULL, NULL, '{"application_connect"}', '{"read","ssh"}'),
	(100, '{}', '{}', true, false, false, 'everyone', false, '{"coder:application_connect"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', 'me', 'A', false, NULL, NULL, '{"application_connect"}', '{"read"}'),
	(101, '{}', '{}', true, false, false, 'everyone', false, '{"no_user_data"}', '{"*:*"}', 'user', 'me', 'me', NULL, false, NULL, NULL, '{}', '{"read","read_personal"}'),
	(102, '{}', '{}', true, false, false, 'everyone', false, '{"no_user_data"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', 'me', 'A', false, NULL, NULL, '{"read","create"}', '{}'),
	(103, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"workspace:00000000-0000-0000-0000-000000000001","template:00000000-0000-0000-0000-000000000003","template:00000000-0000-0000-0000-000000000004","user:me"}', 'workspace', '00000000-0000-0000-0000-000000000001', 'me', 'A', false, NULL, NULL, '{"read","update","ssh"}', '{}'),
	(104, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"workspace:00000000-0000-0000-0000-000000000001","template:00000000-0000-0000-0000-000000000003","template:00000000-0000-0000-0000-000000000004","user:me"}', 'workspace', '00000000-0000-0000-0000-000000000002', 'me', 'A', false, NULL, NULL, '{}', '{"read"}'),
	(105, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"workspace:00000000-0000-0000-0000-000000000001","template:00000000-0000-0000-0000-000000000003","template:00000000-0000-0000-0000-000000000004","user:me"}', 'template', '00000000-0000-0000-0000-000000000003', NULL, 'A', false, NULL, '{"A": ["read", "use"]}', '{"read"}', '{}'),
	(106, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"workspace:00000000-0000-0000-0000-000000000001","template:00000000-0000-0000-0000-000000000003","template:00000000-0000-0000-0000-000000000004","user:me"}', 'user', 'me', 'me', NULL, false, NULL, NULL, '{"read","read_personal"}', '{}'),
	(107, '{}', '{}', true, false, false, 'everyone', false, '{"no_user_data"}', '{"workspace:00000000-0000-0000-0000-000000000001","template:00000000-0000-0000-0000-000000000003","template:00000000-0000-0000-0000-000000000004","user:me"}', 'user', 'me', 'me', NULL, false, NULL, NULL, '{}', '{"read","read_personal"}'),
	(108, '{"owner"}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"workspace:00000000-0000-0000-0000-000000000001","template:00000000-0000-0000-0000-000000000003","template:00000000-0000-0000-0000-000000000004","user:me"}', 'user', '00000000-0000-0000-0000-0000000000f2', '00000000-0000-0000-0000-0000000000f2', NULL, false, NULL, NULL, '{}', '{"read"}'),
	(109, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"workspace:00000000-0000-0000-0000-000000000001","template:00000000-0000-0000-0000-000000000003","template:00000000-0000-0000-0000-000000000004","user:me"}', 'task', '00000000-0000-0000-0000-000000000005', 'me', 'A', false, NULL, NULL, '{}', '{"read"}'),
	(110, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"workspace:00000000-0000-0000-0000-000000000001","template:00000000-0000-0000-0000-000000000003","template:00000000-0000-0000-0000-000000000004","user:me","task:00000000-0000-0000-0000-000000000005"}', 'task', '00000000-0000-0000-0000-000000000005', 'me', 'A', false, NULL, NULL, '{"read","update"}', '{}'),
	(111, '{}', '{}', true, false, false, 'everyone', false, '{"workspace:read"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', 'me', 'A', false, NULL, NULL, '{"read"}', '{"update"}'),
	(112, '{"owner"}', '{}', false, false, false, 'everyone', false, '{"workspace:*"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-0000000000f2', 'A', false, NULL, NULL, '{"read","ssh"}', '{}'),
	(113, '{"owner"}', '{}', false, false, false, 'everyone', false, '{"workspace:*"}', '{"*:*"}', 'template', '00000000-0000-0000-0000-000000000003', NULL, 'A', false, NULL, NULL, '{}', '{"read"}'),
	(114, '{}', '{}', false, false, false, 'everyone', false, '{"user:read"}', '{"*:*"}', 'user', 'me', 'me', NULL, false, NULL, NULL, '{"read"}', '{"read_personal"}'),
	(115, '{}', '{}', true, false, false, 'everyone', false, '{"coder:workspaces.create"}', '{"*:*"}', 'workspace', NULL, 'me', 'A', false, NULL, NULL, '{"create","start","read"}', '{"delete","ssh"}'),
	(116, '{}', '{}', true, false, false, 'everyone', false, '{"coder:workspaces.access"}', '{"*:*"}', 'workspace', '00000000-0000-0000-0000-000000000001', 'me', 'A', false, NULL, NULL, '{"ssh","application_connect"}', '{"start"}'),
	(117, '{}', '{"organization-template-admin"}', true, false, false, 'everyone', false, '{"coder:templates.author"}', '{"*:*"}', 'template', '00000000-0000-0000-0000-000000000003', NULL, 'A', false, NULL, NULL, '{"create","update"}', '{"use"}'),
	(118, '{}', '{}', false, false, false, 'everyone', false, '{"coder:apikeys.manage_self"}', '{"*:*"}', 'api_key', '00000000-0000-0000-0000-000000000006', 'me', NULL, false, NULL, NULL, '{"create","delete"}', '{}'),
	(119, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"workspace:00000000-0000-0000-0000-000000000001"}', 'workspace', '00000000-0000-0000-0000-000000000001', 'me', 'A', false, NULL, NULL, '{"read","delete"}', '{}'),
	(120, '{}', '{}', true, false, false, 'everyone', false, '{"coder:all"}', '{"workspace:00000000-0000-0000-0000-000000000001"}', 'workspace', NULL, 'me', 'A', false, NULL, NULL, '{}', '{"create"}'),
	(122, '{"owner"}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"workspace:00000000-0000-0000-0000-000000000001"}', 'template', '00000000-0000-0000-0000-000000000001', NULL, 'A', false, NULL, NULL, '{}', '{"read"}'),
	(123, '{"owner"}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"*:00000000-0000-0000-0000-000000000001"}', 'template', '00000000-0000-0000-0000-000000000001', NULL, 'A', false, NULL, NULL, '{"read"}', '{}'),
	(124, '{"owner"}', '{}', false, false, false, 'everyone', false, '{"coder:all"}', '{"workspace:*"}', 'workspace', NULL, NULL, NULL, false, NULL, NULL, '{"read"}', '{}');

CREATE TEMP TABLE place AS SELECT gen_random_uuid() AS a, gen_random_uuid() AS b, gen_random_uuid() AS g;
INSERT INTO coder.organizations (id, name, display_name) SELECT a, 'orga', 'A' FROM place UNION ALL SELECT b, 'orgb', 'B' FROM place;
INSERT INTO coder.groups (id, name, organization_id) SELECT g, 'g1', a FROM place;
INSERT INTO coder.custom_roles (name, display_name, organization_id, site_permissions, user_permissions, org_permissions)
SELECT x.name, '', CASE WHEN x.in_org THEN a END, x.site::jsonb, x.usr::jsonb, x.org::jsonb FROM place, (VALUES
	('t-use', true, '[]', '[]', '[{"negate": false, "resource_type": "template", "action": "use"}]'),
	('readonly', true, '[]', '[{"negate": false, "resource_type": "*", "action": "read"}]', '[{"negate": false, "resource_type": "*", "action": "read"}]'),
	('deny-org', true, '[]', '[]', '[{"negate": true, "resource_type": "*", "action": "*"}]'),
	('deny-site', false, '[{"negate": true, "resource_type": "*", "action": "*"}]', '[]', '[]'),
	('deny-user', false, '[]', '[{"negate": true, "resource_type": "*", "action": "*"}]', '[]')) x (name, in_org, site, usr, org);

-- names of this test's things as ids
CREATE FUNCTION public.resolve(v text, me uuid) RETURNS text LANGUAGE sql AS $$
	SELECT replace(replace(replace(replace(v, '"me"', '"' || me || '"'), '"A"', '"' || a || '"'), '"G"', '"' || g || '"'),
		':me', ':' || me) FROM place
$$;
CREATE FUNCTION public.id_of(v text, me uuid) RETURNS uuid LANGUAGE sql AS $$
	SELECT CASE v WHEN 'me' THEN me WHEN 'A' THEN a WHEN 'B' THEN b WHEN 'G' THEN g ELSE v::uuid END FROM place
$$;

CREATE FUNCTION public.decide(d decision) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	me CONSTANT uuid := gen_random_uuid();
	action text;
	got bool;
BEGIN
	INSERT INTO coder.users (id, username, email, status, rbac_roles, is_service_account, login_type)
	VALUES (me, 'd' || d.n, CASE WHEN d.service THEN '' ELSE 'd' || d.n || '@example.com' END, 'active', d.site, d.service,
		CASE WHEN d.service THEN 'none' ELSE 'password' END::coder.login_type);
	INSERT INTO coder.organization_members (user_id, organization_id, roles)
	SELECT me, a, d.org FROM place WHERE d.in_a UNION ALL SELECT me, b, '{}' FROM place WHERE d.in_b;
	INSERT INTO coder.group_members (user_id, group_id) SELECT me, g FROM place WHERE d.in_g;
	UPDATE coder.organizations o SET shareable_workspace_owners = d.mode::coder.shareable_workspace_owners FROM place WHERE o.id = a;
	PERFORM coder.set_subject(me, d.scopes, ARRAY(SELECT resolve(x, me) FROM unnest(d.allow) x));
	FOREACH action IN ARRAY d.allowed || d.denied LOOP
		got := CASE WHEN d.any_org THEN coder.can_any(action, d.type, id_of(d.owner, me))
			ELSE coder.can(action, d.type, id_of(d.org_id, me), id_of(d.owner, me), resolve(d.user_acl, me)::jsonb,
				resolve(d.group_acl, me)::jsonb, id_of(d.id, me)) END;
		RETURN NEXT is(got, action = ANY (d.allowed), format('decision %s: %s %s', d.n, action, d.type));
	END LOOP;
	PERFORM coder.set_subject(NULL);
END
$$;
SELECT decide(d) FROM decision d ORDER BY d.n;

-- nobody may do anything
SELECT ok(NOT coder.can('read', 'workspace') AND NOT coder.can_any('read', 'workspace'), 'nobody may read workspaces');
SELECT throws_ok($$SELECT coder.require('read', 'user')$$, 'ZC403', 'Forbidden.', 'require raises 403');
SELECT throws_ok($$SELECT coder.require_read('read', 'user')$$, 'ZC404', 'Resource not found or you do not have access to this resource', 'require_read raises 404');
SELECT throws_ok($$SELECT coder.set_subject((SELECT id FROM coder.users LIMIT 1), '{nope}')$$, '22023', 'unknown scope "nope"', 'a scope must exist');

-- explanations
SELECT token_of('admin', '{owner}'), token_of('bob');
SELECT t FROM coder.explain_access('admin', 'read', 'workspace') e, LATERAL (VALUES (is(e->>'allowed', 'true', 'the owner reads all workspaces')),
	(is(e->>'reason', 'the role owner grants workspace:read at the level site', 'by its role')),
	(is(e#>'{levels,0,permissions,0}', '{"role": "owner", "implied": false, "negate": false, "resource_type": "workspace", "action": "read"}', 'with this permission'))) v (t);
SELECT t FROM coder.explain_access('bob', 'read', 'workspace') e, LATERAL (VALUES (is(e->>'allowed', 'false', 'a member does not')),
	(is(e->>'reason', 'no role grants workspace:read on this object', 'for want of a role')),
	(is(e->'would_grant', '["owner", "template-admin"]', 'which would be one of these'))) v (t);
SELECT is(e->>'reason', 'the role member grants user:read_personal at the level user', 'oneself')
  FROM coder.explain_access_to('bob', 'read_personal', 'user', (SELECT id::text FROM coder.users WHERE username = 'bob')) e;
SELECT throws_ok($$SELECT coder.explain_access('nobody', 'read', 'workspace')$$, 'P0002', 'user "nobody" does not exist', 'of nobody there is nothing to explain');
SELECT throws_ok($$SELECT coder.explain_access_to('bob', 'read', 'workspace', 'x')$$, 'P0002', 'workspace "x" does not exist', 'nor of nothing');
SELECT is(coder.subject_id(), NULL, 'explaining leaves the subject as it was');
SELECT set_eq($$SELECT d.n FROM decision d, coder.users u, unnest(d.allowed || d.denied) a,
		coder.explain_json(u.id, a, d.type, id_of(d.org_id, u.id), id_of(d.owner, u.id), resolve(d.user_acl, u.id)::jsonb,
			resolve(d.group_acl, u.id)::jsonb, id_of(d.id, u.id), d.any_org) e
	WHERE u.username = 'd' || d.n AND d.mode = 'everyone' AND d.scopes = '{coder:all}' AND d.allow = '{*:*}'
		AND ((e->>'allowed')::bool <> (a = ANY (d.allowed))
			OR (e->>'allowed')::bool <> ((e->>'reason') ~ 'grants' AND (e->>'reason') !~ '^no role'))$$,
	ARRAY[]::int[], 'explanations say what the decisions are');

-- who may give which role
CREATE FUNCTION public.gives(roles text[], org uuid DEFAULT NULL) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
	answer text[];
BEGIN
	PERFORM coder.set_subject_roles('00000000-0000-4000-8000-000000000001', roles);
	answer := ARRAY(SELECT r FROM unnest('{owner,auditor,member,template-admin,user-admin,agents-access,organization-admin,organization-member,organization-auditor,organization-user-admin,organization-template-admin,organization-workspace-creation-ban,organization-service-account,own}'::text[]) r
		WHERE coder.may_assign(r, org));
	PERFORM coder.set_subject(NULL);
	RETURN answer;
END
$$;
SELECT is(cardinality(gives('{member,owner}')), 13, 'an owner gives every role but that of service accounts');
SELECT is(gives('{member,user-admin}'), '{member,agents-access,organization-member}', 'a user administrator the plain ones');
SELECT is(gives('{member,auditor,template-admin}'), '{}', 'auditors and template administrators none');
SELECT is(gives(ARRAY['organization-admin:' || a], a), '{organization-admin,organization-member,organization-auditor,organization-user-admin,organization-template-admin,organization-workspace-creation-ban,own}',
	'an administrator of an organization its roles') FROM place;
SELECT is(gives(ARRAY['organization-admin:' || a], b), '{}', 'and none of another') FROM place;
SELECT is(gives(ARRAY['organization-admin:' || a]), '{}', 'nor of the site') FROM place;
SELECT is(gives(ARRAY['organization-user-admin:' || a], a), '{organization-member}', 'a user administrator of an organization membership') FROM place;

-- the server's own subjects
SELECT lives_ok($$SELECT coder.set_system_subject(s) FROM unnest('{provisionerd,autostart,job_reaper,crypto_key_rotator,crypto_key_reader,connection_logger,notifier,resource_monitor,sub_agent_api,system_restricted,system_oauth,system_read_provisioner_daemons,prebuilds_orchestrator,file_reader,usage_publisher,aibridged,dbpurge,boundary_usage_tracker,workspace_builder,chatd}'::text[]) s$$, 'there are twenty');
SELECT throws_ok($$SELECT coder.set_system_subject('nobody')$$, '22023', 'there is no system subject "nobody"', 'and no other');
CREATE FUNCTION public.system_can(name text, action text, type text, org uuid DEFAULT NULL, owner uuid DEFAULT NULL, of_owner uuid DEFAULT NULL, of_org uuid DEFAULT NULL)
RETURNS bool LANGUAGE plpgsql AS $$
DECLARE
	answer bool;
BEGIN
	PERFORM coder.set_system_subject(name, of_owner, of_org);
	answer := coder.can(action, type, org, owner);
	PERFORM coder.set_subject(NULL);
	RETURN answer;
END
$$;
SELECT ok(system_can('system_restricted', 'read', 'user_secret') AND system_can('system_restricted', 'read', 'usage_event')
	AND NOT system_can('system_restricted', 'share', 'workspace') AND system_can('system_restricted', 'ssh', 'workspace'), 'system_restricted reads everything');
SELECT ok(system_can('dbpurge', 'delete', 'aibridge_interception') AND NOT system_can('dbpurge', 'read', 'system'), 'dbpurge deletes');
SELECT ok(system_can('sub_agent_api', 'create_agent', 'workspace', a, b, b, a) AND NOT system_can('sub_agent_api', 'create_agent', 'workspace', a, a, b, a)
	AND NOT system_can('sub_agent_api', 'create_agent', 'workspace', b, b, b, a), 'sub_agent_api acts on workspaces of its owner in its organization only') FROM place;
SELECT ok(NOT system_can('file_reader', 'create', 'file') AND system_can('file_reader', 'read', 'file'), 'file_reader reads files');

-- the deployment's switches
SELECT coder.set_subject(u.id) FROM coder.users u WHERE u.username = 'admin';
SELECT ok(coder.can('ssh', 'workspace') AND coder.can('share', 'workspace'), 'owners reach workspaces');
INSERT INTO coder.settings VALUES ('disable_owner_workspace_access', 'true');
SELECT ok(NOT coder.can('ssh', 'workspace') AND NOT coder.can('application_connect', 'workspace') AND coder.can('share', 'workspace'),
	'not where the deployment forbids it, at once');
SELECT ok(NOT coder.assignable_role_json('owner')->'site_permissions' @> '[{"resource_type": "workspace", "action": "ssh"}]', 'and the role says so');
UPDATE coder.settings SET value = 'false' WHERE name = 'disable_owner_workspace_access';
SELECT ok(coder.assignable_role_json('owner')->'site_permissions' @> '[{"resource_type": "workspace", "action": "ssh"}]', 'or does not');
INSERT INTO coder.settings VALUES ('disable_workspace_sharing', 'true');
SELECT ok(coder.can('ssh', 'workspace') AND NOT coder.can('share', 'workspace'), 'nobody shares where it forbids that');
SELECT coder.set_subject(u.id) FROM coder.users u WHERE u.username = 'bob';
SELECT ok(NOT coder.can('read', 'workspace', a, a, jsonb_build_object(coder.subject_id(), '["read"]'::jsonb))
	AND coder.can('read', 'template', a, NULL, jsonb_build_object(coder.subject_id(), '["read"]'::jsonb)), 'lists of workspaces count no more then') FROM place;
DELETE FROM coder.settings WHERE name LIKE 'disable_%';
SELECT ok(coder.can('read', 'workspace', a, a, jsonb_build_object(coder.subject_id(), '["read"]'::jsonb)), 'and do again') FROM place;
UPDATE coder.users SET status = 'suspended' WHERE username = 'bob';
SELECT ok(NOT coder.can('read', 'assign_role'), 'a subject set by hand is nobody when its user is suspended');
UPDATE coder.users SET status = 'active' WHERE username = 'bob';
SELECT coder.set_subject(NULL);
SELECT ok(coder.user_can(u.id, 'read', 'user', NULL, u.id) AND NOT coder.user_can(u.id, 'delete', 'user', NULL, u.id), 'user_can asks for others')
  FROM coder.users u WHERE u.username = 'bob';
SELECT ok(NOT coder.user_can(gen_random_uuid(), 'read', 'assign_role'), 'nobody may nothing');

-- memberships
SELECT coder.set_subject_roles('00000000-0000-4000-8000-000000000001', ARRAY['owner', 'organization-auditor:' || a]) FROM place;
SELECT ok(coder.has_organization_membership(a) AND NOT coder.has_organization_membership(b), 'membership is what the roles say, and owners are no members') FROM place;
SELECT coder.set_subject(NULL);

-- the API
SELECT is((api('GET', '/api/v2/users/bob/access?action=read&resource_type=workspace', NULL, token_of('bob'))).body_->>'reason',
	'no role grants workspace:read on this object', 'GET access of oneself');
SELECT is((api('GET', '/api/v2/users/bob/access?action=update&resource_type=user&resource_id=' || u.id, NULL, token_of('admin'))).body_->>'allowed', 'false',
	'GET access of another, to a row') FROM coder.users u WHERE u.username = 'bob';
SELECT is((api('GET', '/api/v2/users/bob/access?action=read&resource_type=user&owner_id=me', NULL, token_of('admin'))).body_->>'allowed', 'true',
	'"me" is the user who is asked about');
SELECT is((api('GET', '/api/v2/users/admin/access?action=read&resource_type=user', NULL, token_of('bob'))).status, 404, 'not of those one may not see');
SELECT is((api('GET', '/api/v2/users/bob/access?action=read&resource_type=nope', NULL, token_of('bob'))).status, 400, 'a type must exist');
SELECT is((api('GET', '/api/v2/users/bob/access?action=read&resource_type=user&resource_id=' || u.id, NULL, token_of('bob'))).status, 404,
	'nor of rows one may not read') FROM coder.users u WHERE u.username = 'admin';
SELECT is((api('GET', '/api/v2/debug/pprof', NULL, token_of('bob'))).status, 403, 'what is not built refuses those who may not ask');
SELECT is((api('GET', '/api/v2/debug/pprof', NULL, token_of('admin'))).status, 501, 'and tells the others');
SELECT is((api('POST', '/api/v2/authcheck', jsonb_build_object('checks', jsonb_build_object(
		'me', '{"object": {"resource_type": "user", "owner_id": "me"}, "action": "read"}'::jsonb,
		'any', '{"object": {"resource_type": "template", "any_org": true}, "action": "create"}'::jsonb,
		'both', '{"object": {"resource_type": "assign_role", "any_org": true, "organization_id": "00000000-0000-4000-8000-000000000001"}, "action": "read"}'::jsonb,
		'zero', '{"object": {"resource_type": "assign_role", "any_org": true, "organization_id": "00000000-0000-0000-0000-000000000000"}, "action": "read"}'::jsonb,
		'bad', '{"object": {"resource_type": "user_secret", "owner_id": "me", "organization_id": "nonsense"}, "action": "read"}'::jsonb,
		'type', '{"object": {"resource_type": "nope"}, "action": "read"}'::jsonb,
		'row', jsonb_build_object('object', jsonb_build_object('resource_type', 'user', 'resource_id', u.id), 'action', 'read'))), token_of('bob'))).body_,
	'{"me": true, "any": false, "both": false, "zero": true, "bad": false, "type": false, "row": false}', 'POST authcheck')
  FROM coder.users u WHERE u.username = 'admin';

SELECT is((api('GET', '/api/v2/insights/templates', NULL, token_of('bob'))).status, 400, 'a report refuses bad parameters');
SELECT is((api('GET', '/api/v2/insights/user-activity?start_time=2026-01-01T00:00:00Z&end_time=2026-01-02T00:00:00Z', NULL, token_of('bob'))).status, 404, 'and who may not see it');
SELECT is((api('GET', '/api/v2/insights/user-activity?start_time=2026-01-01T00:00:00Z&end_time=2026-01-02T00:00:00Z', NULL, token_of('admin'))).status, 200, 'others may');
SELECT is((api('GET', '/api/v2/insights/user-latency?start_time=2026-01-01T00:00:00Z&end_time=2026-01-02T00:00:00Z&template_ids=00000000-0000-4000-8000-000000000001',
	NULL, token_of('bob'))).status, 404, 'of a template that one may not see neither');
SELECT is(a.status || ' ' || substring(a.headers FROM 'Location: (\S+)'), '303 /login?message=You%20are%20signed%20out%20or%20your%20session%20has%20expired.%20Please%20sign%20in%20again%20to%20continue.&redirect=%2Fapi%2Fv2%2Fapplications%2Fauth-redirect',
	'who is signed out is asked to sign in') FROM api('GET', '/api/v2/applications/auth-redirect') a;
SELECT is((api('GET', '/oauth2/authorize')).status, 400, 'an authorization needs an application, even before one signs in');
SELECT is((api('GET', '/oauth2/authorize?client_id=00000000-0000-4000-8000-000000000001')).status, 303, 'and a person');
SELECT is((api('GET', '/api/v2/applications/auth-redirect', NULL, token_of('bob'))).body_->>'message', 'Missing redirect_uri query parameter.', 'a redirect needs its URI');
SELECT is((api('GET', '/api/v2/applications/auth-redirect?redirect_uri=https://evil.example', NULL, token_of('bob'))).body_->>'message', 'Invalid redirect_uri.', 'of an app');

-- lists of permissions
SELECT is(jsonb_array_length(coder.role_permissions('auditor', 'site')), 13, 'an auditor has 13 permissions');
SELECT is(coder.role_permissions('organization-workspace-creation-ban', 'org')->0->>'negate', 'true', 'the ban denies');
SELECT is(coder.role_permissions('nope', 'site'), NULL, 'no such role');
SELECT is_empty($$SELECT p FROM unnest(ARRAY['owner', 'member', 'auditor', 'template-admin', 'user-admin', 'agents-access', 'organization-admin',
		'organization-auditor', 'organization-user-admin', 'organization-template-admin', 'organization-workspace-creation-ban']) r,
		unnest(ARRAY['site', 'user', 'org', 'member']) l, jsonb_array_elements(coder.role_permissions(r, l)) p
	WHERE NOT coder.rbac_type_known(p->>'resource_type')
	   OR (p->>'action' <> '*' AND NOT coder.rbac_action_known(p->>'resource_type', p->>'action'))$$,
	'every built-in permission is a type with one of its actions');

SELECT * FROM finish();
ROLLBACK;
