-- escalation.sql -- attempts to get more rights than one has: roles, custom roles, owners, names in other cases, what is hidden
BEGIN;
\i api.psql
SELECT no_plan();

CREATE FUNCTION public.go(method text, path text, body jsonb DEFAULT NULL, token text DEFAULT NULL) RETURNS text LANGUAGE sql AS
	$$ SELECT a.status || coalesce(' ' || (a.body_->>'message'), '') FROM api(method, path, body, token) a $$;
CREATE TEMP TABLE t AS SELECT token_of('admin') AS owner, token_of('uma', '{user-admin}') AS "user-admin", token_of('tom', '{template-admin}') AS "template-admin",
	token_of('aud', '{auditor}') AS auditor, token_of('oa') AS "org-admin", token_of('ou') AS "org-user-admin", token_of('mem') AS member, token_of('target') AS target,
	token_of('boss', '{owner}') AS boss;
CREATE FUNCTION public.tok(n text) RETURNS text LANGUAGE sql AS $$ SELECT to_jsonb(t)->>n FROM t $$;
UPDATE coder.organization_members SET roles = '{organization-admin}' WHERE user_id = (SELECT id FROM coder.users WHERE username = 'oa');
UPDATE coder.organization_members SET roles = '{organization-user-admin}' WHERE user_id = (SELECT id FROM coder.users WHERE username = 'ou');
UPDATE coder.users SET hashed_password = convert_to(coder.password_hash('SuperSecret1!'), 'UTF8') WHERE username IN ('boss', 'target');
SELECT is(go('POST', '/api/v2/organizations', '{"name": "other"}', tok('owner')), '201', 'an organization of others');

-- who may give which role of the site: the right to give at all, then the table of roles
SELECT is(go('PUT', '/api/v2/users/target/roles', jsonb_build_object('roles', jsonb_build_array(role)), tok(who)), a, who || ' gives ' || role) FROM (VALUES
	('user-admin', 'owner', '400 not authorized to assign role "owner"'), ('user-admin', 'user-admin', '400 not authorized to assign role "user-admin"'),
	('user-admin', 'auditor', '400 not authorized to assign role "auditor"'), ('user-admin', 'template-admin', '400 not authorized to assign role "template-admin"'),
	('user-admin', 'agents-access', '200'), ('template-admin', 'template-admin', '403 Forbidden.'), ('auditor', 'auditor', '403 Forbidden.'),
	('org-admin', 'user-admin', '403 Forbidden.'), ('org-user-admin', 'owner', '403 Forbidden.'), ('member', 'owner', '404 Resource not found or you do not have access to this resource'),
	('owner', 'organization-admin', '400 "organization-admin" is not a supported role'), ('owner', 'nope', '400 "nope" is not a supported role'),
	('owner', 'OWNER', '400 "OWNER" is not a supported role'), ('owner', ' owner', '400 " owner" is not a supported role'), ('owner', '*', '400 "*" is not a supported role'),
	('owner', '', '400 "" is not a supported role'), ('owner', 'owner:00000000-0000-0000-0000-000000000000', '400 "owner:00000000-0000-0000-0000-000000000000" is not a supported role')) v (who, role, a);
SELECT is(go('PUT', '/api/v2/users/boss/roles', '{"roles": []}', tok('user-admin')), '400 not authorized to assign role "owner"', 'nor takes it away');
SELECT is(go('PUT', p, '{"roles": ["owner"]}', tok(who)), a, who || ' ' || p) FROM (VALUES
	('user-admin', '/api/v2/users/me/roles', '400 You cannot change your own roles.'), ('user-admin', '/api/v2/users/UMA/roles', '400 You cannot change your own roles.'),
	('member', '/api/v2/users/me/roles', '400 You cannot change your own roles.')) v (who, p, a);
SELECT is((SELECT rbac_roles FROM coder.users WHERE username = 'target'), '{agents-access}', 'nothing else was given');
SELECT is((SELECT rbac_roles FROM coder.users WHERE username = 'boss'), '{owner}', 'nor taken');

-- … and of an organization
SELECT is(go('PUT', '/api/v2/organizations/' || o || '/members/target/roles', jsonb_build_object('roles', jsonb_build_array(role)), tok(who)),
	replace(a, '{org}', (SELECT id::text FROM coder.organizations WHERE name = o)), who || ' gives ' || role || ' in ' || o) FROM (VALUES
	('org-user-admin', 'coder', 'organization-admin', '400 not authorized to assign role "organization-admin:{org}"'),
	('org-user-admin', 'coder', 'organization-user-admin', '400 not authorized to assign role "organization-user-admin:{org}"'),
	('user-admin', 'coder', 'organization-admin', '400 not authorized to assign role "organization-admin:{org}"'),
	('org-admin', 'coder', 'owner', '400 "owner:{org}" is not a supported role'), ('org-admin', 'coder', 'organization-service-account', '400 "organization-service-account:{org}" is not a supported role'),
	('org-admin', 'coder', 'Organization-Admin', '400 "Organization-Admin:{org}" is not a supported role'),
	('member', 'coder', 'organization-admin', '403 Forbidden.'),
	('org-admin', 'other', 'organization-admin', '404 Resource not found or you do not have access to this resource'),
	('template-admin', 'coder', 'organization-template-admin', '403 Forbidden.'), ('org-admin', 'coder', 'organization-auditor', '200')) v (who, o, role, a);
SELECT is(go('PUT', '/api/v2/organizations/coder/members/' || n || '/roles', '{"roles": ["organization-admin"]}', tok('org-user-admin')), '400 You cannot change your own organization roles.', n)
  FROM unnest(ARRAY['me', 'ou', 'OU', (SELECT id::text FROM coder.users WHERE username = 'ou'), '{' || (SELECT upper(id::text) FROM coder.users WHERE username = 'ou') || '}']) n;

-- custom roles: no more than their maker has, no unknown or negated permissions, no wildcards, no built-in names
CREATE FUNCTION public.role(who text, body jsonb, method text DEFAULT 'POST') RETURNS text LANGUAGE sql AS
	$$ SELECT go(method, '/api/v2/organizations/coder/members/roles', '{"name": "helper"}' || body, tok(who)) $$;
CREATE FUNCTION public.perm(type text, action text) RETURNS jsonb LANGUAGE sql AS
	$$ SELECT jsonb_build_object('organization_permissions', jsonb_build_array(jsonb_build_object('resource_type', type, 'action', action))) $$;
SELECT is(role('org-user-admin', perm('template', 'read')), '403 Forbidden.', 'a user administrator makes no role');
SELECT is(role('member', '{}'), '403 Forbidden.', 'nor does a member');
SELECT is(role('org-admin', perm(type, action)), a, type || ':' || action) FROM (VALUES
	('user_secret', 'read', '403 Forbidden.'), ('assign_role', 'assign', '403 Forbidden.'),
	('*', '*', '400 Invalid permission "*:*"'), ('template', '*', '400 Invalid permission "template:*"'), ('*', 'read', '400 Invalid permission "*:read"'),
	('template', 'fly', '400 Invalid permission "template:fly"'), ('nope', 'read', '400 Invalid permission "nope:read"'), ('Template', 'read', '400 Invalid permission "Template:read"'),
	('template', 'READ', '400 Invalid permission "template:READ"'), ('template ', 'read', '400 Invalid permission "template :read"'), ('', '', '400 Invalid permission ":"')) v (type, action, a);
SELECT is(role('org-admin', b), a, b::text) FROM (VALUES
	('{"organization_permissions": [null]}'::jsonb, '400 Invalid permission ":"'), ('{"organization_permissions": ["template:read"]}', '400 Invalid permission ":"'),
	('{"organization_permissions": [{}]}', '400 Invalid permission ":"'), ('{"organization_permissions": [{"resource_type": "template"}]}', '400 Invalid permission "template:"'),
	('{"organization_permissions": {"resource_type": "template"}}', '400 Request body must be valid JSON.'),
	('{"organization_permissions": [{"resource_type": "template", "action": "read", "negate": true}]}', '400 Invalid permission "template:read"'),
	('{"organization_permissions": [{"resource_type": "template", "action": "read", "negate": "x"}]}', '400 Invalid permission "template:read"'),
	('{"site_permissions": [{"resource_type": "template", "action": "read"}]}', '400 Invalid request, only organization permissions may be set on a custom role.'),
	('{"user_permissions": [{"resource_type": "template", "action": "read"}]}', '400 Invalid request, only organization permissions may be set on a custom role.'),
	('{"organization_member_permissions": [{"resource_type": "template", "action": "read"}]}', '400 Invalid request, only organization permissions may be set on a custom role.'),
	('{"name": "owner"}', '400 Reserved role name'), ('{"name": "OWNER"}', '400 Reserved role name'), ('{"name": "organization-admin"}', '400 Reserved role name'),
	('{"name": "Organization-Member"}', '400 Reserved role name'), ('{"name": "member"}', '400 Reserved role name'), ('{"name": "organization-service-account"}', '400 Reserved role name'),
	('{"name": "a b"}', '400 Invalid role name'), ('{"name": "new"}', '400 Invalid role name'), ('{"name": "../x"}', '400 Invalid role name'), ('{"name": ""}', '400 Validation failed.'),
	(perm('template', 'create') || '{"name": "helper"}', '200'), (perm('template', 'create') || '{"name": "HELPER"}', '400 A role named "HELPER" already exists.')) v (b, a);
SELECT is((SELECT org_permissions FROM coder.custom_roles WHERE name = 'helper'), '[{"action": "create", "negate": false, "resource_type": "template"}]', 'only what was asked is stored');
SELECT is(role('org-admin', perm('user_secret', 'read'), 'PUT'), '403 Forbidden.', 'a change gives no more either');
SELECT is(role('org-admin', perm('template', 'read') || '{"name": "nobody"}', 'PUT'), '404 No custom role with the name nobody found', 'of a role that is not there');
SELECT is(role('org-admin', perm('template', 'read') || '{"name": "organization-member"}', 'PUT'), '400 Reserved role name', 'nor a system''s role');
SELECT is(go(m, p, b, tok('org-admin')), '404 Resource not found or you do not have access to this resource', m || ' in another organization') FROM (VALUES
	('POST', '/api/v2/organizations/other/members/roles', '{"name": "x"}'::jsonb), ('DELETE', '/api/v2/organizations/other/members/roles/x', NULL)) v (m, p, b);
SELECT is(go('DELETE', '/api/v2/organizations/coder/members/roles/' || n, NULL, tok('org-admin')), '404 No custom role with the name ' || n || ' found', n || ' stays')
  FROM unnest(ARRAY['organization-member', 'organization-service-account', 'organization-admin']) n;

-- of an organization's role, what belongs to the site gives nothing
SELECT is(role('org-admin', '{"name": "hollow", "organization_permissions": [{"resource_type": "deployment_config", "action": "read"}, {"resource_type": "user", "action": "update"},
	{"resource_type": "user", "action": "delete"}, {"resource_type": "system", "action": "read"}, {"resource_type": "audit_log", "action": "read"}]}'), '200', 'rights in an organization');
SELECT is(go('PUT', '/api/v2/organizations/coder/members/mem/roles', '{"roles": ["hollow"]}', tok('org-admin')), '200', 'given to a member');
SELECT is(go(m, p, NULL, tok('member')), a, 'open nothing outside it: ' || m || ' ' || p) FROM (VALUES ('GET', '/api/v2/deployment/config', '403 Forbidden.'),
	('DELETE', '/api/v2/users/target', '404 Resource not found or you do not have access to this resource'),
	('PUT', '/api/v2/users/target/status/suspend', '404 Resource not found or you do not have access to this resource')) v (m, p, a);
SELECT is(go('PUT', '/api/v2/organizations/coder/members/mem/roles', '{"roles": []}', tok('org-admin')), '200', 'taken away');

-- what is an owner's is not for user administrators
SELECT is(go(m, p, b, tok('user-admin')), a, m || ' ' || p) FROM (VALUES
	('PUT', '/api/v2/users/boss/password', '{"password": "NewSecret123!"}'::jsonb, '400 Only owners can change the password of an owner.'),
	('PUT', '/api/v2/users/boss/profile', '{"username": "puppet", "name": ""}', '400 Only owners can change the profile of an owner.'),
	('PUT', '/api/v2/users/boss/status/suspend', NULL, '400 You cannot suspend a user with the "owner" role. You must remove the role first.'),
	('DELETE', '/api/v2/users/boss', NULL, '400 Only owners can delete an owner.'),
	('POST', '/api/v2/users/boss/keys', NULL, '404 Resource not found or you do not have access to this resource'),
	('POST', '/api/v2/users/boss/keys/tokens', '{}', '404 Resource not found or you do not have access to this resource'),
	('POST', '/api/v2/users/boss/convert-login', '{"to_type": "oidc", "password": "guess"}', '401 Incorrect email or password.'),
	('PUT', '/api/v2/users/target/password', '{"password": "NewSecret123!"}', '204')) v (m, p, b, a);
SELECT is(go('PUT', '/api/v2/users/boss/password', '{"password": "NewSecret123!"}', tok('owner')), '204', 'another owner may');
SELECT is(go(m, '/api/v2/users/prebuilds' || p, b, tok('owner')), a, 'a system user: ' || m || ' ' || p) FROM (VALUES
	('PUT', '/password', '{"password": "NewSecret123!"}'::jsonb, '400 Users without password login type cannot change their password.'),
	('DELETE', '', NULL, '400 System users cannot be changed.'), ('PUT', '/status/suspend', NULL, '400 System users cannot be changed.'),
	('PUT', '/roles', '{"roles": ["owner"]}', '400 System users cannot be changed.'), ('PUT', '/profile', '{"username": "x", "name": ""}', '400 System users cannot be changed.')) v (m, p, b, a);

-- what may not be seen is not there, whatever its name's case and form
SELECT is(go(m, p, b, tok('member')), '404 Resource not found or you do not have access to this resource', m || ' ' || p) FROM (VALUES
	('GET', '/api/v2/users/target', NULL::jsonb), ('GET', '/api/v2/users/TARGET', NULL), ('GET', '/api/v2/users/' || (SELECT id FROM coder.users WHERE username = 'target'), NULL),
	('GET', '/api/v2/users/{' || (SELECT upper(id::text) FROM coder.users WHERE username = 'target') || '}', NULL), ('GET', '/api/v2/users/nobody', NULL),
	('GET', '/api/v2/users/target/roles', NULL), ('GET', '/api/v2/users/target/quiet-hours', NULL), ('PUT', '/api/v2/users/target/profile', '{"username": "x", "name": ""}'),
	('PUT', '/api/v2/users/target/password', '{"password": "NewSecret123!"}'), ('DELETE', '/api/v2/users/target', NULL), ('PUT', '/api/v2/users/target/status/suspend', NULL),
	('GET', '/api/v2/organizations/other', NULL), ('GET', '/api/v2/organizations/OTHER', NULL), ('GET', '/api/v2/organizations/other/members', NULL), ('GET', '/api/v2/organizations/other/groups', NULL),
	('POST', '/api/v2/organizations/other/members/mem', NULL), ('PATCH', '/api/v2/organizations/other', '{"name": "mine"}'), ('GET', '/api/v2/organizations/other/members/roles', NULL),
	('GET', '/api/v2/groups/' || (SELECT id FROM coder.organizations WHERE name = 'other'), NULL), ('GET', '/api/v2/organizations/coder/members/target/workspace-quota', NULL)) v (m, p, b);
SELECT is(go('POST', '/api/v2/users', jsonb_build_object('email', n || '@example.org', 'username', n, 'password', 'SuperSecret1!', 'organization_ids', '["00000000-0000-0000-0000-000000000000"]'::jsonb), tok('owner')), a, 'a user called ' || n) FROM (VALUES
	('TARGET', '409 User already exists.'), ('tar get', '400 Validation failed.'), ('target%00', '400 Validation failed.'), ('..', '400 Validation failed.'), ('a/b', '400 Validation failed.'),
	('-a', '400 Validation failed.'), ('a--b', '400 Validation failed.'), ('new', '400 Validation failed.'), ('tаrget', '400 Validation failed.'), (repeat('a', 33), '400 Validation failed.'),
	(E'a\n', '400 Validation failed.'), ('me', '400 Validation failed.'), ('00000000-0000-0000-0000-000000000001', '400 Validation failed.'), ('0000000000000000000000000000abcd', '400 Validation failed.')) v (n, a);

SELECT * FROM finish();
ROLLBACK;
