-- rbac_decisions.sql -- the decision set of the access rules: 125 subjects and objects, 330 decisions
--
-- A row: roles ("name", or "name:organization"), groups, scopes, allow list; type, id, owner, organization, any
-- organization, list of users, list of groups; allowed actions, denied actions.  The subject is me; A and B are
-- organizations, G is a group, u2 somebody else, the others are ids.
BEGIN;
SELECT plan(332);

CREATE TEMP TABLE decision (n int, roles text[], groups text[], scopes text[], allow text[], type text, id text, owner text, org text,
	any_org bool, user_acl text, group_acl text, allowed text[], denied text[]);
INSERT INTO decision VALUES
	(1, '{member}', '{}', '{coder:all}', '{*:*}', 'workspace', NULL, 'me', 'A', false, NULL, NULL, '{}', '{read,create}'),
	(2, '{member}', '{}', '{coder:all}', '{*:*}', 'workspace', NULL, 'me', NULL, true, NULL, NULL, '{}', '{create}'),
	(3, '{member}', '{}', '{coder:all}', '{*:*}', 'workspace', NULL, 'me', NULL, false, NULL, NULL, '{}', '{read}'),
	(4, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'me', 'A', false, NULL, NULL, '{create,read,update,delete,start,stop,ssh,application_connect,create_agent,delete_agent,update_agent,share}', '{}'),
	(5, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'workspace', NULL, 'me', NULL, true, NULL, NULL, '{create,ssh}', '{}'),
	(6, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'u2', 'A', false, NULL, NULL, '{}', '{read,update,ssh}'),
	(7, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'me', 'B', false, NULL, NULL, '{}', '{read}'),
	(8, '{member,organization-member/none:A}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'me', 'A', false, NULL, NULL, '{read,update}', '{share}'),
	(9, '{member,organization-member/service_accounts:A}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'me', 'A', false, NULL, NULL, '{read}', '{share}'),
	(10, '{member,organization-service-account/service_accounts:A}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'me', 'A', false, NULL, NULL, '{share}', '{}'),
	(11, '{member,organization-admin:A,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'me', 'A', false, NULL, NULL, '{create,read,update,delete,start,stop,ssh,application_connect,create_agent,delete_agent,update_agent,share}', '{}'),
	(12, '{member,organization-admin:A,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'u2', 'A', false, NULL, NULL, '{create,read,update,delete,start,stop,create_agent,delete_agent,update_agent,share}', '{ssh,application_connect}'),
	(13, '{member,organization-admin:A,organization-member/none:A}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'u2', 'A', false, NULL, NULL, '{update}', '{share}'),
	(14, '{member,organization-admin:A}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'me', 'A', false, NULL, NULL, '{read}', '{ssh,application_connect}'),
	(15, '{member,organization-admin:A}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'u2', 'B', false, NULL, NULL, '{}', '{read}'),
	(16, '{member,organization-member/everyone:A,organization-workspace-creation-ban:A}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'me', 'A', false, NULL, NULL, '{update_agent,start,stop,read,update}', '{create,delete,create_agent,delete_agent}'),
	(17, '{member,organization-admin:A,organization-workspace-creation-ban:A}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'u2', 'A', false, NULL, NULL, '{read,update}', '{create,delete}'),
	(18, '{member,owner,organization-workspace-creation-ban:A}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'u2', 'A', false, NULL, NULL, '{create,delete}', '{}'),
	(19, '{member,owner}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'u2', 'A', false, NULL, NULL, '{create,read,update,delete,start,stop,ssh,application_connect,create_agent,delete_agent,update_agent,share}', '{}'),
	(20, '{member,owner/no_access}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'u2', 'A', false, NULL, NULL, '{read,share}', '{ssh,application_connect}'),
	(21, '{member,owner/no_access,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'me', 'A', false, NULL, NULL, '{ssh,application_connect}', '{}'),
	(22, '{member/no_sharing,owner}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'u2', 'A', false, NULL, NULL, '{read}', '{share}'),
	(23, '{member,template-admin}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'u2', 'A', false, NULL, NULL, '{read}', '{update,ssh}'),
	(24, '{member,auditor}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'u2', 'A', false, NULL, NULL, '{}', '{read}'),
	(25, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'workspace_dormant', 'W1', 'me', 'A', false, NULL, NULL, '{create,read,update,delete,stop,create_agent,delete_agent,update_agent}', '{start,ssh,application_connect,share}'),
	(26, '{member,owner}', '{}', '{coder:all}', '{*:*}', 'workspace_dormant', 'W1', 'u2', 'A', false, NULL, NULL, '{read,update,delete,stop}', '{start,ssh,application_connect,share}'),
	(27, '{member,template-admin}', '{}', '{coder:all}', '{*:*}', 'prebuilt_workspace', 'W1', 'prebuilds', 'A', false, NULL, NULL, '{update,delete}', '{}'),
	(28, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'prebuilt_workspace', 'W1', 'prebuilds', 'A', false, NULL, NULL, '{}', '{update,delete}'),
	(29, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'u2', 'A', false, '{"me": ["read", "ssh"]}', NULL, '{read,ssh}', '{update}'),
	(30, '{member}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'u2', 'A', false, '{"me": ["*"]}', NULL, '{read,delete,share}', '{}'),
	(31, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'u2', 'A', false, NULL, '{"G": ["read"]}', '{}', '{read}'),
	(32, '{member,organization-member/everyone:A}', '{G}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'u2', 'A', false, NULL, '{"G": ["read"]}', '{read}', '{start}'),
	(33, '{member,organization-member/everyone:B}', '{G}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'u2', 'A', false, NULL, '{"G": ["read"]}', '{}', '{read}'),
	(34, '{member,organization-member/everyone:A,organization-workspace-creation-ban:A}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'u2', 'A', false, '{"me": ["create", "delete"]}', NULL, '{create,delete}', '{}'),
	(35, '{deny-all}', '{}', '{coder:all}', '{*:*}', 'workspace', 'W1', 'me', 'A', false, '{"me": ["read"]}', NULL, '{read}', '{update}'),
	(36, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'template', 'T1', NULL, 'A', false, NULL, '{"A": ["read", "use"]}', '{read,use}', '{update}'),
	(37, '{member,owner}', '{}', '{coder:all}', '{*:*}', 'template', 'T1', NULL, 'A', false, NULL, NULL, '{create,use,read,update,delete,view_insights}', '{}'),
	(38, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'template', 'T1', NULL, 'A', false, NULL, NULL, '{}', '{read,use}'),
	(39, '{member,user-admin}', '{}', '{coder:all}', '{*:*}', 'template', 'T1', NULL, 'A', false, NULL, '{"A": ["read"]}', '{}', '{read}'),
	(40, '{member,organization-user-admin:A}', '{}', '{coder:all}', '{*:*}', 'template', 'T1', NULL, 'A', false, NULL, '{"A": ["read"]}', '{read}', '{use}'),
	(41, '{member,auditor}', '{}', '{coder:all}', '{*:*}', 'template', 'T1', NULL, 'A', false, NULL, NULL, '{read,view_insights}', '{use,update}'),
	(42, '{member,organization-auditor:A}', '{}', '{coder:all}', '{*:*}', 'template', 'T1', NULL, 'A', false, NULL, NULL, '{read,view_insights}', '{use}'),
	(43, '{member,organization-template-admin:A}', '{}', '{coder:all}', '{*:*}', 'template', NULL, NULL, NULL, true, NULL, NULL, '{create}', '{}'),
	(44, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'template', NULL, NULL, NULL, true, NULL, NULL, '{}', '{create,read}'),
	(45, '{t-use:A,member,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'template', 'T1', NULL, 'A', false, NULL, NULL, '{use}', '{read}'),
	(46, '{member}', '{}', '{coder:all}', '{*:*}', 'user', 'me', 'me', NULL, false, NULL, NULL, '{read,read_personal,update_personal}', '{update,delete}'),
	(47, '{member}', '{}', '{coder:all}', '{*:*}', 'user', 'u2', 'u2', NULL, false, NULL, NULL, '{}', '{read,read_personal}'),
	(48, '{member,organization-admin:A}', '{}', '{coder:all}', '{*:*}', 'user', 'u2', 'u2', NULL, false, NULL, NULL, '{read}', '{update,read_personal}'),
	(49, '{member,organization-template-admin:A}', '{}', '{coder:all}', '{*:*}', 'user', 'u2', 'u2', NULL, false, NULL, NULL, '{}', '{read}'),
	(50, '{member,user-admin}', '{}', '{coder:all}', '{*:*}', 'user', 'u2', 'u2', NULL, false, NULL, NULL, '{read,create,update,delete,read_personal,update_personal}', '{}'),
	(51, '{member}', '{}', '{coder:all}', '{*:*}', 'api_key', 'K', 'me', NULL, false, NULL, NULL, '{create,read,update,delete}', '{}'),
	(52, '{member,owner}', '{}', '{coder:all}', '{*:*}', 'user_secret', NULL, 'u2', NULL, false, NULL, NULL, '{}', '{read,create}'),
	(53, '{member}', '{}', '{coder:all}', '{*:*}', 'user_secret', NULL, 'me', NULL, false, NULL, NULL, '{read,create,update,delete}', '{}'),
	(54, '{member}', '{}', '{coder:all}', '{*:*}', 'organization', NULL, NULL, NULL, false, NULL, NULL, '{}', '{create,read}'),
	(55, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'organization', 'A', NULL, 'A', false, NULL, NULL, '{read}', '{update}'),
	(56, '{member,organization-admin:A}', '{}', '{coder:all}', '{*:*}', 'organization', 'A', NULL, 'A', false, NULL, NULL, '{read,update,delete,create}', '{}'),
	(57, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'organization_member', 'u2', 'u2', 'A', false, NULL, NULL, '{read}', '{update}'),
	(58, '{member,organization-member/none:A}', '{}', '{coder:all}', '{*:*}', 'organization_member', 'u2', 'u2', 'A', false, NULL, NULL, '{}', '{read}'),
	(59, '{member,organization-member/none:A}', '{}', '{coder:all}', '{*:*}', 'organization_member', 'me', 'me', 'A', false, NULL, NULL, '{read}', '{delete}'),
	(60, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'group', 'G', NULL, 'A', false, NULL, '{"G": ["read"]}', '{read}', '{update}'),
	(61, '{member,organization-member/service_accounts:A}', '{}', '{coder:all}', '{*:*}', 'group', 'G', NULL, 'A', false, NULL, '{"G": ["read"]}', '{}', '{read}'),
	(62, '{member,organization-member/service_accounts:A}', '{G}', '{coder:all}', '{*:*}', 'group', 'G', NULL, 'A', false, NULL, '{"G": ["read"]}', '{read}', '{}'),
	(63, '{member,organization-service-account/service_accounts:A}', '{}', '{coder:all}', '{*:*}', 'group', 'G', NULL, 'A', false, NULL, NULL, '{read}', '{}'),
	(64, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'group_member', 'u2', 'u2', 'A', false, NULL, NULL, '{}', '{read}'),
	(65, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'group_member', 'me', 'me', 'A', false, NULL, NULL, '{read}', '{}'),
	(66, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'provisioner_daemon', 'P', NULL, 'A', false, NULL, NULL, '{read}', '{create}'),
	(67, '{member}', '{}', '{coder:all}', '{*:*}', 'provisioner_daemon', NULL, 'me', NULL, false, NULL, NULL, '{create,read,update,delete}', '{}'),
	(68, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'provisioner_daemon', NULL, 'me', 'A', false, NULL, NULL, '{create,update,delete}', '{}'),
	(69, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'provisioner_jobs', NULL, NULL, 'A', false, NULL, NULL, '{}', '{read}'),
	(70, '{member,template-admin}', '{}', '{coder:all}', '{*:*}', 'provisioner_jobs', NULL, NULL, 'A', false, NULL, NULL, '{}', '{read}'),
	(71, '{member}', '{}', '{coder:all}', '{*:*}', 'file', 'F', 'me', NULL, false, NULL, NULL, '{create,read}', '{}'),
	(72, '{member}', '{}', '{coder:all}', '{*:*}', 'file', 'F', 'u2', NULL, false, NULL, NULL, '{}', '{read}'),
	(73, '{member}', '{}', '{coder:all}', '{*:*}', 'assign_role', NULL, NULL, NULL, false, NULL, NULL, '{read}', '{assign}'),
	(74, '{member,user-admin}', '{}', '{coder:all}', '{*:*}', 'assign_role', NULL, NULL, NULL, false, NULL, NULL, '{read,assign,unassign}', '{}'),
	(75, '{member,organization-user-admin:A}', '{}', '{coder:all}', '{*:*}', 'assign_org_role', NULL, NULL, 'A', false, NULL, NULL, '{assign,unassign,read}', '{create,update}'),
	(76, '{member,organization-admin:A}', '{}', '{coder:all}', '{*:*}', 'assign_org_role', NULL, NULL, 'A', false, NULL, NULL, '{create,update,delete,assign}', '{}'),
	(77, '{member}', '{}', '{coder:all}', '{*:*}', 'oauth2_app', NULL, NULL, NULL, false, NULL, NULL, '{read}', '{create}'),
	(78, '{member,auditor}', '{}', '{coder:all}', '{*:*}', 'audit_log', NULL, NULL, NULL, false, NULL, NULL, '{read}', '{create}'),
	(79, '{member,organization-auditor:A}', '{}', '{coder:all}', '{*:*}', 'audit_log', NULL, NULL, NULL, false, NULL, NULL, '{}', '{read}'),
	(80, '{member,organization-auditor:A}', '{}', '{coder:all}', '{*:*}', 'audit_log', NULL, NULL, NULL, true, NULL, NULL, '{read}', '{}'),
	(81, '{member,auditor}', '{}', '{coder:all}', '{*:*}', 'deployment_config', NULL, NULL, NULL, false, NULL, NULL, '{read}', '{update}'),
	(82, '{member,owner}', '{}', '{coder:all}', '{*:*}', 'usage_event', NULL, NULL, NULL, false, NULL, NULL, '{}', '{create,read}'),
	(83, '{member}', '{}', '{coder:all}', '{*:*}', 'aibridge_interception', NULL, 'me', NULL, false, NULL, NULL, '{create,update}', '{read}'),
	(84, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'chat', 'C', 'me', 'A', false, NULL, NULL, '{create,read,update,delete}', '{}'),
	(85, '{member,agents-access}', '{}', '{coder:all}', '{*:*}', 'chat', NULL, 'me', NULL, false, NULL, NULL, '{create,read}', '{}'),
	(86, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'chat', NULL, 'me', NULL, false, NULL, NULL, '{}', '{create}'),
	(87, '{member,agents-access}', '{}', '{coder:all}', '{*:*}', 'chat', 'C', 'me', 'A', false, NULL, NULL, '{}', '{create,read}'),
	(88, '{member,organization-admin:A}', '{}', '{coder:all}', '{*:*}', 'chat', 'C', 'u2', 'A', false, NULL, NULL, '{read,delete}', '{}'),
	(89, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'task', 'K1', 'me', 'A', false, NULL, NULL, '{create,read,update,delete}', '{}'),
	(90, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{*:*}', 'task', 'K1', 'u2', 'A', false, '{"me": ["read", "ssh"]}', NULL, '{read}', '{update}'),
	(91, '{member,owner}', '{}', '{coder:all}', '{*:*}', 'system', NULL, NULL, NULL, false, NULL, NULL, '{create,read,update,delete}', '{}'),
	(92, '{member,owner}', '{}', '{coder:all}', '{*:*}', 'no_such_type', NULL, NULL, NULL, false, NULL, NULL, '{}', '{read}'),
	(93, '{readonly:A}', '{}', '{coder:all}', '{*:*}', 'workspace', NULL, 'u2', 'A', false, NULL, NULL, '{read}', '{update}'),
	(94, '{readonly:A}', '{}', '{coder:all}', '{*:*}', 'workspace', NULL, 'me', NULL, false, NULL, NULL, '{read}', '{create}'),
	(95, '{readonly:A}', '{}', '{coder:all}', '{*:*}', 'workspace', NULL, NULL, NULL, false, NULL, NULL, '{}', '{read}'),
	(96, '{owner,deny-org:A,deny-user}', '{}', '{coder:all}', '{*:*}', 'workspace', NULL, 'u2', 'A', false, NULL, NULL, '{read,delete}', '{}'),
	(97, '{member,organization-member/everyone:A,deny-org:A}', '{}', '{coder:all}', '{*:*}', 'workspace', NULL, 'me', 'A', false, NULL, NULL, '{}', '{read}'),
	(98, '{deny-all,organization-admin:A}', '{}', '{coder:all}', '{*:*}', 'workspace', NULL, 'me', 'A', false, NULL, NULL, '{}', '{read}'),
	(99, '{member,owner}', '{}', '{coder:application_connect}', '{*:*}', 'workspace', 'W1', 'u2', 'A', false, NULL, NULL, '{application_connect}', '{read,ssh}'),
	(100, '{member,organization-member/everyone:A}', '{}', '{coder:application_connect}', '{*:*}', 'workspace', 'W1', 'me', 'A', false, NULL, NULL, '{application_connect}', '{read}'),
	(101, '{member,organization-member/everyone:A}', '{}', '{no_user_data}', '{*:*}', 'user', 'me', 'me', NULL, false, NULL, NULL, '{}', '{read,read_personal}'),
	(102, '{member,organization-member/everyone:A}', '{}', '{no_user_data}', '{*:*}', 'workspace', 'W1', 'me', 'A', false, NULL, NULL, '{read,create}', '{}'),
	(103, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{workspace:W1,template:T1,template:V1,user:me}', 'workspace', 'W1', 'me', 'A', false, NULL, NULL, '{read,update,ssh}', '{}'),
	(104, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{workspace:W1,template:T1,template:V1,user:me}', 'workspace', 'W2', 'me', 'A', false, NULL, NULL, '{}', '{read}'),
	(105, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{workspace:W1,template:T1,template:V1,user:me}', 'template', 'T1', NULL, 'A', false, NULL, '{"A": ["read", "use"]}', '{read}', '{}'),
	(106, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{workspace:W1,template:T1,template:V1,user:me}', 'user', 'me', 'me', NULL, false, NULL, NULL, '{read,read_personal}', '{}'),
	(107, '{member,organization-member/everyone:A}', '{}', '{no_user_data}', '{workspace:W1,template:T1,template:V1,user:me}', 'user', 'me', 'me', NULL, false, NULL, NULL, '{}', '{read,read_personal}'),
	(108, '{member,owner}', '{}', '{coder:all}', '{workspace:W1,template:T1,template:V1,user:me}', 'user', 'u2', 'u2', NULL, false, NULL, NULL, '{}', '{read}'),
	(109, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{workspace:W1,template:T1,template:V1,user:me}', 'task', 'K1', 'me', 'A', false, NULL, NULL, '{}', '{read}'),
	(110, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{workspace:W1,template:T1,template:V1,user:me,task:K1}', 'task', 'K1', 'me', 'A', false, NULL, NULL, '{read,update}', '{}'),
	(111, '{member,organization-member/everyone:A}', '{}', '{workspace:read}', '{*:*}', 'workspace', 'W1', 'me', 'A', false, NULL, NULL, '{read}', '{update}'),
	(112, '{member,owner}', '{}', '{workspace:*}', '{*:*}', 'workspace', 'W1', 'u2', 'A', false, NULL, NULL, '{read,ssh}', '{}'),
	(113, '{member,owner}', '{}', '{workspace:*}', '{*:*}', 'template', 'T1', NULL, 'A', false, NULL, NULL, '{}', '{read}'),
	(114, '{member}', '{}', '{user:read}', '{*:*}', 'user', 'me', 'me', NULL, false, NULL, NULL, '{read}', '{read_personal}'),
	(115, '{member,organization-member/everyone:A}', '{}', '{coder:workspaces.create}', '{*:*}', 'workspace', NULL, 'me', 'A', false, NULL, NULL, '{create,start,read}', '{delete,ssh}'),
	(116, '{member,organization-member/everyone:A}', '{}', '{coder:workspaces.access}', '{*:*}', 'workspace', 'W1', 'me', 'A', false, NULL, NULL, '{ssh,application_connect}', '{start}'),
	(117, '{member,organization-template-admin:A}', '{}', '{coder:templates.author}', '{*:*}', 'template', 'T1', NULL, 'A', false, NULL, NULL, '{create,update}', '{use}'),
	(118, '{member}', '{}', '{coder:apikeys.manage_self}', '{*:*}', 'api_key', 'K', 'me', NULL, false, NULL, NULL, '{create,delete}', '{}'),
	(119, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{workspace:W1}', 'workspace', 'W1', 'me', 'A', false, NULL, NULL, '{read,delete}', '{}'),
	(120, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{workspace:W1}', 'workspace', NULL, 'me', 'A', false, NULL, NULL, '{}', '{create}'),
	(121, '{member,organization-member/everyone:A}', '{}', '{coder:all}', '{workspace:}', 'workspace', NULL, 'me', 'A', false, NULL, NULL, '{create}', '{}'),
	(122, '{member,owner}', '{}', '{coder:all}', '{workspace:W1}', 'template', 'W1', NULL, 'A', false, NULL, NULL, '{}', '{read}'),
	(123, '{member,owner}', '{}', '{coder:all}', '{*:W1}', 'template', 'W1', NULL, 'A', false, NULL, NULL, '{read}', '{}'),
	(124, '{member,owner}', '{}', '{coder:all}', '{workspace:*}', 'workspace', NULL, NULL, NULL, false, NULL, NULL, '{read}', '{}'),
	(125, '{member,owner}', '{}', '{coder:all}', '{}', 'workspace', 'W1', 'me', 'A', false, NULL, NULL, '{}', '{read}');

SELECT is(count(*)::int, 125, 'there are 125 rows') FROM decision;
SELECT is(sum(cardinality(allowed) + cardinality(denied))::int, 330, 'and 330 decisions') FROM decision;

-- What the names stand for.
CREATE TEMP TABLE named AS SELECT x.name, gen_random_uuid() AS id
  FROM unnest('{me,u2,A,B,G,W1,W2,T1,V1,K1,K,P,F,C}'::text[]) x (name)
UNION ALL SELECT 'prebuilds', 'c42fdf75-3097-471c-8c33-fb52454d81c0';
CREATE FUNCTION public.id_of(name text) RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT n.id FROM named n WHERE n.name = $1 $$;
-- Names at the end of roles and allow lists, behind a colon.
CREATE FUNCTION public.with_ids(list text[]) RETURNS text[] LANGUAGE sql STABLE AS $$
	SELECT coalesce(array_agg(regexp_replace(x, ':[^:]*$', '') || coalesce(':' || coalesce(public.id_of(substring(x FROM ':([^:]*)$'))::text,
		substring(x FROM ':([^:]*)$')), '')), '{}') FROM unnest(list) x
$$;
CREATE FUNCTION public.acl_of(list text) RETURNS jsonb LANGUAGE sql STABLE AS $$
	SELECT jsonb_object_agg(public.id_of(e.key), e.value) FROM jsonb_each(list::jsonb) e
$$;

INSERT INTO coder.organizations (id, name, display_name) VALUES (public.id_of('A'), 'orga', ''), (public.id_of('B'), 'orgb', '');
INSERT INTO coder.custom_roles (name, display_name, organization_id, site_permissions, user_permissions, org_permissions)
SELECT x.name, '', public.id_of(x.org), x.site::jsonb, x.usr::jsonb, x.org_list::jsonb FROM (VALUES
	('t-use', 'A', '[]', '[]', '[{"negate": false, "resource_type": "template", "action": "use"}]'),
	('readonly', 'A', '[]', '[{"negate": false, "resource_type": "*", "action": "read"}]', '[{"negate": false, "resource_type": "*", "action": "read"}]'),
	('deny-org', 'A', '[]', '[]', '[{"negate": true, "resource_type": "*", "action": "*"}]'),
	('deny-all', NULL, '[{"negate": true, "resource_type": "*", "action": "*"}]', '[]', '[]'),
	('deny-user', NULL, '[]', '[{"negate": true, "resource_type": "*", "action": "*"}]', '[]')) x (name, org, site, usr, org_list);

CREATE FUNCTION public.decide(d decision) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	action text;
	got bool;
BEGIN
	PERFORM coder.set_subject_roles(public.id_of('me'), public.with_ids(d.roles), ARRAY(SELECT public.id_of(g) FROM unnest(d.groups) g), d.scopes,
		public.with_ids(d.allow));
	FOREACH action IN ARRAY d.allowed || d.denied LOOP
		got := CASE WHEN d.any_org THEN coder.can_any(action, d.type, public.id_of(d.owner))
			ELSE coder.can(action, d.type, public.id_of(d.org), public.id_of(d.owner), public.acl_of(d.user_acl), public.acl_of(d.group_acl), public.id_of(d.id)) END;
		RETURN NEXT is(got, action = ANY (d.allowed), format('row %s: %s on %s', d.n, action, d.type));
	END LOOP;
	PERFORM coder.set_subject(NULL);
END
$$;
SELECT public.decide(d) FROM decision d ORDER BY d.n;
SELECT * FROM finish();
ROLLBACK;
