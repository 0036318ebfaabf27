-- user.sql -- the first user, login, users, tokens, organizations, members, groups: good and bad requests
BEGIN;
\i api.psql
SELECT no_plan();

CREATE TEMP TABLE v (k text PRIMARY KEY, j jsonb);
-- one request, of which the body is kept under a name; "status message"
CREATE FUNCTION public.go(name text, method text, path text, body jsonb DEFAULT NULL, token text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	a record;
BEGIN
	SELECT * INTO a FROM api(method, path, body, token);
	INSERT INTO v VALUES (name, a.body_) ON CONFLICT (k) DO UPDATE SET j = excluded.j;
	RETURN a.status || coalesce(' ' || (a.body_->>'message'), '');
EXCEPTION WHEN invalid_text_representation THEN
	RETURN 'not JSON';
END
$$;
CREATE FUNCTION public.v(name text, VARIADIC path text[] DEFAULT '{}') RETURNS text LANGUAGE sql AS
	$$ SELECT CASE WHEN cardinality(path) = 0 THEN j::text ELSE j #>> path END FROM v WHERE k = name $$;

-- the first user
SELECT is(go('f', 'GET', '/api/v2/users/first'), '404 The initial user has not been created!', 'there is no user');
SELECT is(go('f', 'POST', '/api/v2/users/first', '{}'), '400 Validation failed.', 'members are needed');
SELECT is(v('f', 'validations', '0', 'detail'), 'Validation failed for tag "required" with value: ""', 'each is named');
SELECT is(go('f', 'POST', '/api/v2/users/first', '{"email": "a", "username": "Bad Name!", "password": "SuperSecret1!"}'), '400 Validation failed.', 'names have rules');
SELECT is(go('f', 'POST', '/api/v2/users/first', '{"email": "a@example.com", "username": "admin", "password": "x"}'), '400 Password is invalid', 'passwords, too');
SELECT is(go('f', 'POST', '/api/v2/users/first', '{"email": "a@example.com", "username": "admin", "name": "Ad", "password": "SuperSecret1!"}'), '201', 'the first user');
SELECT is(go('x', 'POST', '/api/v2/users/first', '{"email": "b@example.com", "username": "b", "password": "SuperSecret1!"}'),
	'409 The initial user has already been created.', 'is the only one');
SELECT is(go('x', 'GET', '/api/v2/users/first'), '200 The initial user has already been created!', 'and is there');
CREATE FUNCTION public.org() RETURNS text LANGUAGE sql AS $$ SELECT v('f', 'organization_id') $$;

-- login and logout
SELECT is(go('x', 'POST', '/api/v2/users/login', b), a, a || ' ' || b) FROM (VALUES
	('{"email": "a@example.com", "password": "wrong"}'::jsonb, '401 Incorrect email or password.'),
	('{"email": "nobody@example.com", "password": "wrong"}', '401 Incorrect email or password.'),
	('{"email": "prebuilds@system", "password": ""}', '400 Validation failed.'),
	('{"email": "prebuilds@system.org", "password": "x"}', '401 Incorrect email or password.'),
	('{"email": "a@example.com"}', '400 Validation failed.')) t (b, a);
SELECT is(go('login', 'POST', '/api/v2/users/login', '{"email": "A@Example.com", "password": "SuperSecret1!"}'), '201', 'the case of an address does not count');
SELECT ok(a.headers ~ '^Set-Cookie: coder_session_token=\w{10}-\w{22}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax', 'a cookie is set')
  FROM api('POST', '/api/v2/users/login', '{"email": "a@example.com", "password": "SuperSecret1!"}') a;
SELECT is(go('x', 'POST', '/api/v2/users/logout', NULL, v('login', 'session_token')), '200 Logged out!', 'logout');
SELECT is(go('x', 'GET', '/api/v2/users/me', NULL, v('login', 'session_token')), '401 You are signed out or your session has expired. Please sign in again to continue.', 'ends the session');
CREATE FUNCTION public.adm() RETURNS text LANGUAGE sql AS $$ SELECT v('adm', 'session_token') $$;
SELECT go('adm', 'POST', '/api/v2/users/login', '{"email": "a@example.com", "password": "SuperSecret1!"}');

-- me: the C handler and the SQL function agree
SELECT is(go('me', 'GET', '/api/v2/users/me', NULL, adm()), '200', 'the user itself');
SELECT is(go('admin', 'GET', '/api/v2/users/ADMIN', NULL, adm()), '200', 'by name, whatever its case');
SELECT is(v('me')::jsonb - 'last_seen_at', v('admin')::jsonb - 'last_seen_at', 'is the same by both ways');
SELECT is((SELECT array_agg(k ORDER BY k COLLATE "C") FROM jsonb_object_keys(v('me')::jsonb) k), '{created_at,email,has_ai_seat,id,last_seen_at,login_type,name,organization_ids,roles,status,updated_at,username}', 'and has these members');

-- making users
SELECT is(go('x', 'POST', '/api/v2/users', b || jsonb_build_object('organization_ids', jsonb_build_array(org())), adm()), a, a) FROM (VALUES
	('{"username": "x"}'::jsonb, '400 Validation failed.'),
	('{"email": "x@example.com", "username": "admin", "password": "SuperSecret1!"}', '409 User already exists.'),
	('{"email": "A@example.com", "username": "x", "password": "SuperSecret1!"}', '409 User already exists.'),
	('{"email": "x@example.com", "username": "x", "password": "weak"}', '400 Password is invalid'),
	('{"email": "x@example.com", "username": "x", "password": "SuperSecret1!", "login_type": "none"}', '400 Password cannot be set for non-password ("none") authentication.'),
	('{"email": "x@example.com", "username": "x", "login_type": "oidc"}', '400 You must configure OIDC before creating OIDC users.'),
	('{"email": "x@example.com", "username": "x", "login_type": "token"}', '400 Unsupported login type "token" for manually creating new users.')) t (b, a);
SELECT matches(go('x', 'POST', '/api/v2/users', '{"email": "x@example.com", "username": "x", "password": "SuperSecret1!"}', adm()), '^400 No organization specified', 'an organization is needed');
SELECT is(go('x', 'POST', '/api/v2/users', '{"email": "x@example.com", "username": "x", "password": "SuperSecret1!", "organization_ids": ["00000000-0000-0000-0000-0000000000ff"]}', adm()),
	'404 Organization does not exist with the provided id "00000000-0000-0000-0000-0000000000ff".', 'one that exists');
SELECT is(go(n, 'POST', '/api/v2/users', jsonb_build_object('email', n || '@example.com', 'username', n, 'password', 'SuperSecret1!',
	'organization_ids', jsonb_build_array(org())), adm()), '201', 'user ' || n) FROM unnest(ARRAY['bob', 'carol', 'dave']) n;
SELECT is(v('bob', 'status') || v('bob', 'last_seen_at'), 'dormant0001-01-01T00:00:00Z', 'a new user was never seen');
SELECT is(go('svc', 'POST', '/api/v2/users', jsonb_build_object('username', 'svc', 'service_account', true, 'organization_ids', jsonb_build_array(org())), adm()), '201', 'a service account');
SELECT is(v('svc', 'is_service_account') || v('svc', 'login_type'), 'truenone', 'cannot log in');
CREATE TEMP TABLE k AS SELECT token_of('bob') AS bob, token_of('carol') AS carol, token_of('dave') AS dave;
CREATE FUNCTION public.tok(n text) RETURNS text LANGUAGE sql AS $$ SELECT to_jsonb(k)->>n FROM k $$;
SELECT is(go('x', 'POST', '/api/v2/users', '{"email": "y@example.com", "username": "y", "password": "SuperSecret1!", "organization_ids": ["00000000-0000-0000-0000-000000000000"]}', tok('bob')),
	'403 You are not authorized to create users.', 'a member makes no users');

-- lists
CREATE FUNCTION public.names() RETURNS text LANGUAGE plpgsql AS
	$$ BEGIN RETURN (SELECT string_agg(u->>'username', ' ') FROM jsonb_array_elements(v('l')::jsonb->'users') u); END $$;
SELECT is(go('l', 'GET', '/api/v2/users?' || q, NULL, adm()) || ' ' || names() || ' of ' || v('l', 'count'), '200 ' || a, q) FROM (VALUES
	('q=', 'admin bob carol dave svc of 5'), ('limit=2', 'admin bob of 5'), ('limit=2&offset=3', 'dave svc of 5'), ('q=OB', 'bob of 1'),
	('q=role:owner', 'admin of 1'), ('q=status:active%20email', NULL), ('q=service_account:true', 'svc of 1'), ('q=login_type:none', 'svc of 1'),
	('q=name:ad', 'admin of 1')) t (q, a) WHERE a IS NOT NULL;
SELECT is(go('l', 'GET', '/api/v2/users?after_id=' || v('bob', 'id'), NULL, adm()) || v('l', 'count'), '2003', 'behind a cursor');
SELECT is(go('l', 'GET', '/api/v2/users', NULL, tok('bob')) || v('l', 'users', '0', 'username') || v('l', 'count'), '200bob1', 'a member sees itself');
SELECT is(go('l', 'GET', '/api/v2/users?' || q, NULL, adm()) || ' ' || v('l', 'validations', '0', 'detail'), a, q) FROM (VALUES
	('q=status:nope', '400 Invalid user search query. Query param "status" has invalid values: "nope" is not a valid value'),
	('q=color:red', '400 Invalid user search query. "color" is not a valid query param'),
	('q=created_after:yesterday', '400 Invalid user search query. Query param "created_after" must be a valid date format (2006-01-02T15:04:05Z07:00): "yesterday"'),
	('limit=-1', '400 Query parameters have invalid values. Query param "limit" must be a valid 32-bit positive integer: value is negative')) t (q, a);

-- changes by the wrong and the right ones
SELECT is(go('x', m, p, b, tok(who)), a, who || ' ' || m || ' ' || p) FROM (VALUES
	('bob', 'GET', '/api/v2/users/carol', NULL::jsonb, '404 Resource not found or you do not have access to this resource'),
	('bob', 'DELETE', '/api/v2/users/carol', NULL, '404 Resource not found or you do not have access to this resource'),
	('bob', 'PUT', '/api/v2/users/me/profile', '{"username": "bobby", "name": "B"}', '404 Resource not found or you do not have access to this resource'),
	('bob', 'PUT', '/api/v2/users/me/profile', '{"username": "bob", "name": "B"}', '200'),
	('bob', 'PUT', '/api/v2/users/me/roles', '{"roles": ["owner"]}', '400 You cannot change your own roles.'),
	('bob', 'PUT', '/api/v2/users/me/password', '{"password": "AnotherSecret2!"}', '400 Old password is required.'),
	('bob', 'PUT', '/api/v2/users/me/password', '{"password": "AnotherSecret2!", "old_password": "x"}', '400 Old password is incorrect.'),
	('bob', 'PUT', '/api/v2/users/me/password', '{"password": "SuperSecret1!", "old_password": "SuperSecret1!"}', '400 New password cannot match old password.'),
	('bob', 'PUT', '/api/v2/users/me/password', '{"password": "x", "old_password": "SuperSecret1!"}', '400 Invalid password.'),
	('bob', 'PUT', '/api/v2/users/me/password', '{"password": "AnotherSecret2!", "old_password": "SuperSecret1!"}', '204'),
	('bob', 'GET', '/api/v2/users/me', NULL, '401 You are signed out or your session has expired. Please sign in again to continue.'),
	('carol', 'GET', '/api/v2/users/me/roles', NULL, '200'),
	('carol', 'PUT', '/api/v2/users/me/appearance', '{"theme_preference": "dark", "terminal_font": "comic"}', '400 Unsupported font family.'),
	('carol', 'PUT', '/api/v2/users/me/appearance', '{"theme_preference": "dark", "terminal_font": "fira-code"}', '200'),
	('carol', 'PUT', '/api/v2/users/me/preferences', '{"task_notification_alert_dismissed": true}', '200'),
	('carol', 'GET', '/api/v2/users/me/gitsshkey', NULL, '200'),
	('carol', 'GET', '/api/v2/users/me/autofill-parameters', NULL, '400 Invalid query parameters.'),
	('carol', 'POST', '/api/v2/users/me/secrets', '{"name": "s", "value": "v", "env_name": "CODER_X"}', '400 Invalid environment variable name.'),
	('carol', 'POST', '/api/v2/users/me/secrets', '{"name": "s", "value": "v", "env_name": "X"}', '201'),
	('carol', 'POST', '/api/v2/users/me/secrets', '{"name": "t", "value": "v", "env_name": "X"}', '409 A secret with that name, environment variable, or file path already exists.'),
	('carol', 'PATCH', '/api/v2/users/me/secrets/s', '{"file_path": "x"}', '400 Invalid file path.'),
	('carol', 'DELETE', '/api/v2/users/me/secrets/s', NULL, '204'),
	('carol', 'GET', '/api/v2/users/me/secrets/s', NULL, '404 Resource not found or you do not have access to this resource')) t (who, m, p, b, a);
SELECT is(go('x', m, p, b, adm()), a, 'owner ' || m || ' ' || p) FROM (VALUES
	('PUT', '/api/v2/users/bob/profile', '{"username": "carol", "name": ""}'::jsonb, '409 A user with this username already exists.'),
	('PUT', '/api/v2/users/bob/roles', '{"roles": ["nope"]}', '400 "nope" is not a supported role'),
	('PUT', '/api/v2/users/bob/roles', '{"roles": "owner"}', '400 Request body must be valid JSON.'),
	('PUT', '/api/v2/users/bob/roles', '{"roles": ["auditor", "auditor"]}', '200'),
	('PUT', '/api/v2/users/me/status/suspend', NULL, '400 You cannot suspend yourself.'),
	('PUT', '/api/v2/users/dave/status/suspend', NULL, '200'),
	('POST', '/api/v2/users/login', '{"email": "dave@example.com", "password": "SuperSecret1!"}', '401 Your account is suspended. Contact an admin to reactivate your account.'),
	('PUT', '/api/v2/users/dave/status/activate', NULL, '200'),
	('PUT', '/api/v2/users/bob/password', '{"password": "SuperSecret1!"}', '204'),
	('GET', '/api/v2/users/bob/login-type', NULL, '403 You are not authorized to view this user''s login type.'),
	('GET', '/api/v2/users/carol/secrets', NULL, '404 Resource not found or you do not have access to this resource'),
	('DELETE', '/api/v2/users/me', NULL, '403 You cannot delete yourself!'),
	('DELETE', '/api/v2/users/dave', NULL, '200 User has been deleted!'),
	('GET', '/api/v2/users/dave', NULL, '404 Resource not found or you do not have access to this resource')) t (m, p, b, a);
SELECT is(go('x', 'GET', '/api/v2/users/bob/roles', NULL, adm()) || (v('x')::jsonb->'roles')::text, '200["auditor"]', 'a role is given once');
SELECT is((SELECT count(*)::int FROM coder.api_keys a JOIN coder.users u ON u.id = a.user_id WHERE u.username = 'dave'), 0, 'a deleted user has no keys');
SELECT throws_ok($$INSERT INTO coder.api_keys (id, hashed_secret, user_id, expires_at, login_type)
	SELECT 'abcdefghij', '', id, now(), 'token' FROM coder.users WHERE username = 'dave'$$, '23514', NULL, 'and gets none');
SELECT go('dave2', 'POST', '/api/v2/users', jsonb_build_object('email', 'dave@example.com', 'username', 'dave', 'password', 'SuperSecret1!', 'organization_ids', jsonb_build_array(org())), adm());
SELECT isnt(v('dave2', 'id'), v('dave', 'id'), 'its name is free again');
UPDATE k SET bob = token_of('bob');
-- an auditor may read users but not give roles; a user admin gives member only
SELECT is(go('x', 'PUT', '/api/v2/users/carol/roles', '{"roles": ["auditor"]}', tok('bob')), '403 Forbidden.', 'an auditor gives no roles');
UPDATE coder.users SET rbac_roles = '{user-admin}' WHERE username = 'bob';
SELECT is(go('x', 'PUT', '/api/v2/users/carol/roles', '{"roles": ["auditor"]}', tok('bob')), '400 not authorized to assign role "auditor"', 'a user admin not this one');
SELECT is(go('x', 'PUT', '/api/v2/users/admin/password', '{"password": "SuperSecret2!"}', tok('carol')), '404 Resource not found or you do not have access to this resource', 'another''s password');

-- tokens
SELECT is(go('t', 'POST', '/api/v2/users/me/keys/tokens', b, adm()) || coalesce(': ' || v('t', 'detail'), ''), a, b::text) FROM (VALUES
	('{"token_name": "t1", "lifetime": 86400000000000}'::jsonb, '201'), ('{"token_name": "t1"}', '409 A token with name "t1" already exists.'),
	('{"lifetime": 864000000000000000}', '400 Failed to validate create API key request.: lifetime must be less than 168h0m0s'),
	('{"lifetime": -1}', '400 Failed to validate create API key request.: lifetime must be positive number greater than 0'),
	('{"scopes": ["nope:nope"]}', '400 Failed to create API key.: invalid or unsupported API key scope: "nope:nope"'),
	('{"scopes": ["system:read"]}', '400 Failed to create API key.: invalid or unsupported API key scope: "system:read"'),
	('{"allow_list": ["nope:*"]}', '400 Failed to create API key.: invalid allow_list entry "nope:*"'),
	('{"token_name": "ro", "scopes": ["template:read"], "allow_list": ["template:*", "template:00000000-0000-0000-0000-00000000000A"]}', '201'),
	('{}', '201')) t (b, a);
SELECT is((SELECT allow_list FROM coder.api_keys WHERE token_name = 'ro'), '{template:*}', 'an allow list is normalized');
SELECT ok(bool_or(x->>'token_name' ~ '^[a-z]+_[a-z]+\d+$'), 'a token has a name') FROM api('GET', '/api/v2/users/me/keys/tokens', NULL, adm()) a, jsonb_array_elements(a.body_) x;
SELECT is(go('x', 'GET', '/api/v2/users/me/keys/tokens/t1', NULL, adm()) || v('x', 'scope') || v('x', 'lifetime_seconds'), '200all86400', 'a token by name');
SELECT is(go('x', 'PUT', '/api/v2/users/me/keys/' || v('x', 'id') || '/expire', NULL, adm()), '204', 'expires');
SELECT is(go('x', 'GET', '/api/v2/users/me/keys/tokens/tokenconfig', NULL, adm()) || v('x', 'max_token_lifetime'), '200604800000000000', 'how long an owner''s may live');
SELECT is(go('key', 'POST', '/api/v2/users/me/keys', NULL, tok('carol')), '201', 'a session for the command line');
SELECT is(go('x', 'GET', '/api/v2/users/me', NULL, v('key', 'key')) || v('x', 'username'), '200carol', 'is one');
SELECT is(go('x', 'GET', '/api/v2/users/me/keys/' || left(v('key', 'key'), 10), NULL, tok('bob')), '404 Resource not found or you do not have access to this resource', 'another user does not see it');
SELECT is(go('x', 'DELETE', '/api/v2/users/me/keys/' || left(v('key', 'key'), 10), NULL, tok('carol')), '204', 'it can be deleted');
SELECT is(go('x', 'GET', '/api/v2/users/me', NULL, v('key', 'key')), '401 You are signed out or your session has expired. Please sign in again to continue.', 'and is gone');
SELECT is(v('none'), NULL, 'no tokens') FROM go('none', 'GET', '/api/v2/users/me/keys/tokens', NULL, tok('carol')) WHERE v('none') IS DISTINCT FROM 'null';

-- organizations, members, roles
SELECT is(go('o2', 'POST', '/api/v2/organizations', b, adm()), a, b::text) FROM (VALUES
	('{}'::jsonb, '400 Validation failed.'), ('{"name": "a b"}', '400 Validation failed.'), ('{"name": "default"}', '400 Organization name "default" is reserved.'),
	('{"name": "CODER"}', '409 Organization already exists with that name.'), ('{"name": "second", "description": "d"}', '201')) t (b, a);
SELECT is((SELECT count(*)::int FROM coder.groups WHERE id = v('o2', 'id')::uuid AND name = 'Everyone'), 1, 'it has its group');
SELECT is((SELECT count(*)::int FROM coder.custom_roles WHERE organization_id = v('o2', 'id')::uuid AND is_system), 2, 'and its roles');
SELECT is(go('x', m, replace(p, '{o}', 'second'), b, adm()), a, m || ' ' || p) FROM (VALUES
	('GET', '/api/v2/organizations/SECOND', NULL::jsonb, '200'), ('GET', '/api/v2/organizations/nope', NULL, '404 Resource not found or you do not have access to this resource'),
	('POST', '/api/v2/organizations/{o}/members/carol', NULL, '200'), ('POST', '/api/v2/organizations/{o}/members/carol', NULL, '400 User is already an organization member'),
	('PUT', '/api/v2/organizations/{o}/members/carol/roles', '{"roles": ["organization-admin"]}', '200'),
	('PUT', '/api/v2/organizations/{o}/members/admin/roles', '{"roles": []}', '400 You cannot change your own organization roles.'),
	('GET', '/api/v2/organizations/{o}/members/bob', NULL, '404 Resource not found or you do not have access to this resource'),
	('GET', '/api/v2/organizations/{o}/members', NULL, '200'),
	('DELETE', '/api/v2/organizations/{o}/members/admin', NULL, '400 cannot remove self from an organization'),
	('POST', '/api/v2/organizations/{o}/members/roles', '{"name": "maker", "organization_permissions": [{"resource_type": "template", "action": "create"}]}', '200'),
	('POST', '/api/v2/organizations/{o}/members/roles', '{"name": "owner"}', '400 Reserved role name'),
	('POST', '/api/v2/organizations/{o}/members/roles', '{"name": "bad", "organization_permissions": [{"resource_type": "template", "action": "fly"}]}', '400 Invalid permission "template:fly"'),
	('POST', '/api/v2/organizations/{o}/members/roles', '{"name": "bad", "site_permissions": [{"resource_type": "template", "action": "read"}]}', '400 Invalid request, only organization permissions may be set on a custom role.'),
	('PUT', '/api/v2/organizations/{o}/members/carol/roles', '{"roles": ["maker"]}', '200'),
	('POST', '/api/v2/organizations/{o}/groups', '{"name": "g1"}', '201'), ('POST', '/api/v2/organizations/{o}/groups', '{"name": "g1"}', '409 A group named "g1" already exists.'),
	('POST', '/api/v2/organizations/{o}/groups', '{"name": "Everyone"}', '400 "Everyone" is a reserved group name.'),
	('GET', '/api/v2/organizations/{o}/groups/g1', NULL, '200'),
	('PATCH', '/api/v2/organizations/{o}', '{"display_name": "Second"}', '200'), ('DELETE', '/api/v2/organizations/default', NULL, '400 Default organization cannot be deleted.')) t (m, p, b, a);
SELECT is((SELECT roles FROM coder.organization_members m JOIN coder.users u ON u.id = m.user_id WHERE u.username = 'carol' AND organization_id = v('o2', 'id')::uuid), '{maker}', 'the custom role is held');
SELECT is(go('x', 'POST', '/api/v2/authcheck', jsonb_build_object('checks', jsonb_build_object('t', jsonb_build_object('action', 'create', 'object',
	jsonb_build_object('resource_type', 'template', 'organization_id', v('o2', 'id'))))), tok('carol')) || v('x', 't'), '200true', 'and counts');
SELECT is(go('x', 'DELETE', '/api/v2/organizations/second/members/roles/maker', NULL, adm()), '204', 'a custom role goes');
SELECT is((SELECT roles FROM coder.organization_members m JOIN coder.users u ON u.id = m.user_id WHERE u.username = 'carol' AND organization_id = v('o2', 'id')::uuid), '{}', 'from its members, too');
SELECT go('g', 'GET', '/api/v2/organizations/second/groups/g1', NULL, adm());
SELECT is(go('x', 'PATCH', '/api/v2/groups/' || v('g', 'id'), '{"add_users": ["bob"]}', adm()), '400 User "bob" must be a member of organization', 'a group''s member is one of the organization');
SELECT is(go('x', 'PATCH', '/api/v2/groups/' || v('g', 'id'), '{"add_users": ["carol"], "quota_allowance": 3}', adm()) || v('x', 'members', '0', 'username') || v('x', 'quota_allowance'), '200carol3', 'a member of a group');
SELECT is(go('x', 'GET', '/api/v2/groups/' || v('g', 'id'), NULL, tok('carol')), '200', 'reads it');
SELECT is(go('x', 'GET', '/api/v2/groups/' || v('g', 'id'), NULL, tok('bob')), '200', 'a user admin reads all');
SELECT is(go('x', 'DELETE', '/api/v2/organizations/second/members/carol', NULL, adm()), '204', 'who leaves an organization');
SELECT is((SELECT count(*)::int FROM coder.group_members), 0, 'leaves its groups');
SELECT is(go('x', 'DELETE', '/api/v2/groups/' || v('o2', 'id'), NULL, adm()), '400 "Everyone" is a reserved group and cannot be deleted!', 'Everyone stays');

-- checks by clients
SELECT is(go('x', 'POST', '/api/v2/authcheck', b, adm()), a, b::text) FROM (VALUES
	('{"checks": {"x": {"object": {}, "action": "read"}}}'::jsonb, '400 Object''s "resource_type" field must be defined for key "x".'),
	('{"checks": {"x": {"object": {"resource_type": "file", "resource_id": "00000000-0000-0000-0000-000000000000"}, "action": "read"}}}', '400 Object type "file" does not support "resource_id" field.'),
	('{"checks": {"x": {"object": {"resource_type": "user", "resource_id": "1"}, "action": "read"}}}', '400 Object x id 1 is not a valid uuid.'),
	('{}', '200')) t (b, a);

-- audit
SELECT is(go('a', 'GET', '/api/v2/audit?q=resource_type:user%20action:create', NULL, adm()), '200', 'the audit log');
SELECT is(v('a', 'audit_logs', '0', 'description'), '{user} created user {target}', 'says what was done');
SELECT is(v('a', 'audit_logs', '0', 'resource_target') || v('a', 'audit_logs', '0', 'user', 'username'), 'daveadmin', 'to whom and by whom');
SELECT is((v('a')::jsonb->'audit_logs'->0->'diff'->'hashed_password'->>'secret'), 'true', 'a secret is not shown');
SELECT ok(v('a') !~ 'argon2', 'nowhere');
SELECT is(go('x', 'GET', '/api/v2/audit', NULL, tok('carol')), '403 Forbidden.', 'a member does not read it');
SELECT is(go('x', 'GET', '/api/v2/audit?q=action:bogus', NULL, adm()), '400 Invalid audit search query.', 'an action that is none');
SELECT is(go('x', 'GET', '/api/v2/audit?q=username:me&limit=1', NULL, adm()) || jsonb_array_length(v('x')::jsonb->'audit_logs'), '2001', 'a page of it');

-- notifications
SELECT is(go('n', 'GET', '/api/v2/notifications/inbox', NULL, adm()) || v('n', 'notifications', '0', 'title'), '200User account "dave" created', 'the newest first');
SELECT is(go('x', 'PUT', '/api/v2/notifications/inbox/' || v('n', 'notifications', '0', 'id') || '/read-status', '{"is_read": true}', adm()) || (v('x', 'unread_count')::int - v('n', 'unread_count')::int), '200-1', 'is read');
SELECT is(go('x', 'PUT', '/api/v2/notifications/inbox/' || v('n', 'notifications', '0', 'id') || '/read-status', '{"is_read": true}', tok('carol')), '404 Resource not found or you do not have access to this resource', 'not by others');
SELECT is(go('x', 'PUT', '/api/v2/notifications/inbox/mark-all-as-read', NULL, adm()), '204', 'all are read');
SELECT is(go('w', 'GET', '/api/v2/notifications/inbox/watch', NULL, adm()) || v('w', 'channels', '0'), '101inbox:' || v('me', 'id'), 'the inbox is watched');
SELECT is(go('x', 'PUT', '/api/v2/users/me/notifications/preferences', '{"template_disabled_map": {"4e19c0ac-94e1-4532-9515-d1801aa283b2": true}}', adm()), '200', 'a kind is not wanted');
SELECT go('x', 'POST', '/api/v2/users', jsonb_build_object('email', 'e@example.com', 'username', 'e', 'password', 'SuperSecret1!', 'organization_ids', jsonb_build_array(org())), adm());
SELECT is(go('x', 'GET', '/api/v2/notifications/inbox?read_status=unread', NULL, adm()) || v('x', 'unread_count'), '2000', 'and does not come');
SELECT is(go('x', 'POST', '/api/v2/notifications/custom', '{"content": {"title": "t", "message": ""}}', adm()), '400 Invalid request body', 'a message has a text');
SELECT is(go('x', 'PUT', '/api/v2/notifications/settings', '{"notifier_paused": true}', tok('carol')), '403 Forbidden.', 'a member does not pause them');

-- the deployment
SELECT is(go('x', 'GET', p, NULL, tok('carol')), a, p) FROM (VALUES ('/api/v2/deployment/config', '403 Forbidden.'), ('/api/v2/deployment/stats', '403 Forbidden.'),
	('/api/v2/deployment/ssh', '200'), ('/api/v2/regions', '200'), ('/api/v2/buildinfo', '200'), ('/api/v2/entitlements', '200'), ('/api/v2/debug/health', '403 Forbidden.'),
	('/api/v2/users/roles', '200'), ('/api/v2/appearance', '200')) t (p, a);
SELECT is(go('x', 'PUT', '/api/v2/appearance', '{"announcement_banners": [{"background_color": "red"}]}', adm()), '400 Invalid color format: "red"', 'a colour that is none');
SELECT ok(go('x', 'GET', '/api/v2/deployment/config', NULL, adm()) = '200' AND v('x') !~* '"(client_secret|psk)": "[^"]', 'the settings hold no secrets');

-- how many there are is known without a scan, whatever is done to them
SELECT is((SELECT sum(live) FROM coder.user_totals), (SELECT count(*)::numeric FROM coder.users u WHERE NOT u.deleted AND NOT u.is_system), 'the total, after all of it');
INSERT INTO coder.users (email, username) SELECT 'bulk' || i || '@example.com', 'bulk' || i FROM generate_series(1, 50) i;
UPDATE coder.users SET deleted = true WHERE username LIKE 'bulk_';
UPDATE coder.users SET is_system = true WHERE username LIKE 'bulk1_';
UPDATE coder.users SET name = 'x' WHERE username LIKE 'bulk%';
SELECT is((SELECT sum(live) FROM coder.user_totals), (SELECT count(*)::numeric FROM coder.users u WHERE NOT u.deleted AND NOT u.is_system), 'after changes by SQL');
SELECT is(go('x', 'GET', '/api/v2/users?limit=1', NULL, adm()) || v('x', 'count'), '200' || (SELECT sum(live) FROM coder.user_totals), 'is what the list says');
SELECT is(go('x', 'GET', '/api/v2/users?limit=3&offset=1000', NULL, adm()) || v('x', 'count'), '2000', 'behind the end there is nothing');
SELECT is(go('x', 'GET', '/api/v2/users?q=' || q, NULL, adm()) || coalesce(v('x', 'count'), ''), a, q) FROM (VALUES ('%27%20OR%20true--', '2000'), ('name:%22%27%3B%20DROP%22', '2000'), ('%5C', '2000'), ('%25', '2000'),
	('role:%7B%27', '2000'), ('status:%27', '400 Invalid user search query.'), ('created_after:%222020-13-01T00:00:00Z%22', '400 Invalid user search query.'),
	('created_after:%222020-02-31T00:00:00Z%22', '400 Invalid user search query.'), ('github_com_user_id:99999999999999999999', '400 Invalid user search query.')) t (q, a);

-- members, too
SELECT is((SELECT array_agg(t.n ORDER BY t.id) FROM (SELECT organization_id AS id, sum(members) AS n FROM coder.member_totals GROUP BY 1 HAVING sum(members) <> 0) t),
	(SELECT array_agg(m.n ORDER BY m.id) FROM (SELECT organization_id AS id, count(*)::numeric AS n FROM coder.organization_members GROUP BY 1) m), 'the totals of members');
INSERT INTO coder.organization_members (user_id, organization_id) SELECT u.id, org()::uuid FROM coder.users u WHERE u.username LIKE 'bulk%' ON CONFLICT DO NOTHING;
DELETE FROM coder.organization_members m USING coder.users u WHERE u.id = m.user_id AND u.username LIKE 'bulk2_';
UPDATE coder.organization_members m SET organization_id = (SELECT o.id FROM coder.organizations o WHERE o.id <> org()::uuid LIMIT 1)
  FROM coder.users u WHERE u.id = m.user_id AND u.username LIKE 'bulk3_' AND m.organization_id = org()::uuid;
SELECT is((SELECT array_agg(t.n ORDER BY t.id) FROM (SELECT organization_id AS id, sum(members) AS n FROM coder.member_totals GROUP BY 1 HAVING sum(members) <> 0) t),
	(SELECT array_agg(m.n ORDER BY m.id) FROM (SELECT organization_id AS id, count(*)::numeric AS n FROM coder.organization_members GROUP BY 1) m), 'the totals of members after changes by SQL');
SELECT is(go('x', 'GET', '/api/v2/organizations/' || org() || '/paginated-members?limit=1', NULL, adm()) || v('x', 'count'),
	'200' || (SELECT count(*) FROM coder.organization_members m JOIN coder.users u ON u.id = m.user_id WHERE m.organization_id = org()::uuid AND NOT u.deleted AND NOT u.is_system),
	'count who is neither deleted nor the system''s');

-- nobody makes a query that takes for ever
SELECT is(go('x', 'GET', p || '?q=' || repeat('a:b%20', 2000), NULL, adm()), a, p) FROM (VALUES ('/api/v2/users', '400 Invalid user search query.'),
	('/api/v2/workspaces', '400 Invalid workspace search query.'), ('/api/v2/templates', '400 Invalid template search query.'), ('/api/v2/audit', '400 Invalid audit search query.')) t (p, a);
SELECT is((SELECT error FROM coder.schedule_parse('CRON_TZ=UTC ' || repeat('1,', 600) || '1 0 * * *')), 'parse schedule: a schedule has at most 1024 characters', 'nor a schedule');
SELECT is(go('x', 'POST', '/api/v2/authcheck', jsonb_build_object('checks', (SELECT jsonb_object_agg('k' || i, jsonb_build_object('object', jsonb_build_object('resource_type', 'user',
	'owner_id', 'me'), 'action', CASE i % 2 WHEN 0 THEN 'read' ELSE 'fly' END)) FROM generate_series(1, 200) i)), tok('carol')), '200', 'many checks');
SELECT is((SELECT count(*) FILTER (WHERE value::bool)::int FROM jsonb_each_text(v('x')::jsonb)), 100, 'are all answered');

-- a search finds what contains the word, whether an index knows it or not
UPDATE coder.users SET name = 'ærøskøbing ' || username WHERE username LIKE 'bulk4_';
ANALYZE coder.users;
SELECT is(go('x', 'GET', '/api/v2/users?q=' || q, NULL, adm()) || v('x', 'count'), '200' || (SELECT count(*) FROM coder.users u
		WHERE NOT u.deleted AND NOT u.is_system AND (u.username ILIKE '%' || w || '%' OR u.email ILIKE '%' || w || '%')), 'search ' || q)
  FROM (VALUES ('b', 'b'), ('bu', 'bu'), ('BULK4', 'bulk4'), ('ulk48', 'ulk48'), ('EXAMPLE.com', 'example.com'), ('k41@e', 'k41@e'), ('48%0Abulk', '48 bulk'), ('nobody', 'nobody'),
	('%C3%A6r%C3%B8', 'ærø')) t (q, w);
SELECT is(go('x', 'GET', '/api/v2/users?q=name:' || q, NULL, adm()) || v('x', 'count'), '200' || n, 'name ' || q)
  FROM (VALUES ('%C3%A6r%C3%B8sk', 10), ('%22g%20bulk48%22', 1), ('bulk48', 1), ('%C3%B8', 10), ('example', 0)) t (q, n);
SELECT matches(coder.user_contains('bulk48'), 'grams', 'a word that few have is found by an index');
SELECT is(coder.user_contains('example.com'), 'true', 'one that all have is not looked up');
SELECT is(coder.user_contains('bu'), 'true', 'nor is a short one');
SELECT is_empty($$SELECT v, w FROM (VALUES ('', ''), ('', 'a'), ('a', ''), ('aBc', 'b'), ('ABC', 'abcd'), ('aab', 'ab'), ('x' || repeat('Ab', 50), 'ababx'), ('ÆRØ', 'ærø'), ('xÆrØ A', ' a'),
		('Ærø', 'ae'), ('aæ', 'A'), ('@[`{', '@'), ('@[`{', '`'), ('[', '{'), ('K', 'k'), (U&'\212A', 'k'), (U&'\0130x', 'ix')) t (v, w)
	WHERE coder.has_word(v, w) IS DISTINCT FROM (strpos(lower(v), w) > 0)$$, 'a word in a text, in any case');
SELECT is(coder.has_word(NULL, 'a'), NULL, 'of nothing is nothing known');
SELECT is(coder.grams(g), a, 'pieces of ' || g) FROM (VALUES ('', '{}'::int4[]), ('ab', '{}'), ('abc', '{6382179}'), ('aaaa', '{6381921}'), ('abcd', '{6382179,6447972}')) t (g, a);

SELECT * FROM finish();
ROLLBACK;
