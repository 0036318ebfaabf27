-- scim.sql -- SCIM 2.0: what an identity provider does with users, and bad requests
BEGIN;
\i api.psql
SELECT no_plan();

-- a request of the provider; api() itself has no headers but its type
CREATE FUNCTION public.scim(method text, path text, body jsonb DEFAULT NULL, auth text DEFAULT 'Bearer s3cret', OUT status int4, OUT b jsonb)
LANGUAGE plpgsql AS $$
DECLARE
	r record;
	q text := substr(path, length(split_part(path, '?', 1)) + 2);
	a bytea;
	n int4;
BEGIN
	SELECT * INTO r FROM route_of(method, '/scim/v2' || split_part(path, '?', 1));
	a := coder.handle(r.id, method, split_part(path, '?', 1), r.params, q, format(E'content-type: application/scim+json\nauthorization: %s\n', auth),
		convert_to(body::text, 'UTF8'), NULL, '127.0.0.1', gen_random_uuid(), NULL);
	n := ('x' || encode(substr(a, 5, 4), 'hex'))::bit(32)::int4;
	status := ('x' || encode(substr(a, 1, 2), 'hex'))::bit(16)::int4;
	b := convert_from(substr(a, 9 + n), 'UTF8');
END
$$;
SELECT token_of('admin');

SELECT is(s.status || (s.b->>'message'), '404SCIM is disabled, please contact your administrator if you believe this is an error', 'off: ' || m || ' ' || p)
  FROM (VALUES ('GET', '/ServiceProviderConfig'), ('GET', '/Users'), ('POST', '/Users'), ('GET', '/Users/1'), ('PUT', '/Users/1'), ('PATCH', '/Users/1')) v (m, p), scim(m, p, '{}') s;
SELECT coder.configure(jsonb_build_object('scim_auth_hash', encode(coder.sha256('s3cret'), 'hex')));
SELECT is(s.status || (s.b->>'detail'), '401invalid authorization', 'another key: ' || a) FROM unnest(ARRAY['', 'Bearer', 'Bearer ', 'Bearer s3cre', 'Basic s3cret', 's3crets',
	'Bearer ' || encode(coder.sha256('s3cret'), 'hex')]) a, scim('GET', '/Users', NULL, a) s;
SELECT is(s.status, 200, 'the key, ' || a) FROM unnest(ARRAY['Bearer s3cret', 'bearer s3cret', 's3cret']) a, scim('GET', '/Users', NULL, a) s;
SELECT is(s.status || (s.b->'patch'->>'supported'), '200true', 'what is supported is public') FROM scim('GET', '/ServiceProviderConfig', NULL, '') s;

-- a new user
CREATE TEMP TABLE u AS SELECT s.* FROM scim('POST', '/Users', '{"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "Ann.Lee@example.com", "externalId": "ext-1",
	"name": {"givenName": "Ann", "familyName": "Lee Brown"}, "emails": [{"value": "other@example.com"}, {"primary": true, "value": "ann@example.com"}], "active": true}') s;
SELECT is(status, 201, 'is made') FROM u;
SELECT is(b - 'id' - 'meta' - 'schemas', '{"userName": "Ann.Lee@example.com", "externalId": "ext-1", "displayName": "Ann Lee Brown", "active": true, "groups": [],
	"name": {"formatted": "Ann Lee Brown", "givenName": "Ann", "familyName": "Lee Brown"}, "emails": [{"primary": true, "value": "ann@example.com", "type": "work"}]}', 'as the provider said') FROM u;
SELECT is((SELECT username || ' ' || login_type || ' ' || status || ' ' || rbac_roles::text FROM coder.users WHERE email = 'ann@example.com'), 'Ann-Lee oidc dormant {}', 'with a Coder name and no roles');
SELECT is((SELECT count(*)::int FROM coder.organization_members m JOIN coder.users x ON x.id = m.user_id WHERE x.email = 'ann@example.com'), 1, 'in the default organization');
SELECT is(s.status || (s.b->>'id'), '200' || (u.b->>'id'), 'the same address is the same user') FROM u, scim('POST', '/Users', '{"userName": "again", "emails": [{"value": "ANN@example.com"}]}') s;
SELECT is(s.status, 201, 'a name that is taken') FROM scim('POST', '/Users', '{"userName": "ann-lee", "emails": [{"value": "ann2@example.com"}], "active": false}') s;
SELECT matches((SELECT username || ' ' || status FROM coder.users WHERE email = 'ann2@example.com'), '^ann-lee-\w{6} suspended$', 'gets something behind it');
SELECT is(s.status || coalesce(s.b->>'scimType', ''), a, v.b::text) FROM (VALUES ('{}'::jsonb, '400invalidValue'), ('[]', '400invalidValue'), ('{"userName": "x"}', '400invalidEmail'),
	('{"userName": "x", "emails": []}', '400invalidEmail'), ('{"userName": "x", "emails": "x@example.com"}', '400invalidEmail'), ('{"userName": "x", "emails": [null, 1]}', '400invalidEmail'),
	('{"userName": "x", "emails": [{"value": "no address"}]}', '400invalidEmail'), ('{"userName": "x", "emails": [{"value": "x@example.com"}], "active": "maybe"}', '400invalidValue')) v (b, a),
	scim('POST', '/Users', v.b) s;
CREATE FUNCTION public.named(n text, e text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM scim('POST', '/Users', jsonb_build_object('userName', n, 'emails', jsonb_build_array(jsonb_build_object('value', e))));
	RETURN (SELECT x.username FROM coder.users x WHERE x.email = e);
END
$$;
SELECT matches(named(n, e), a, n) FROM (VALUES ('???', 'q1@example.com', '^user-\w{8}$'), ('me', 'q2@example.com', '^user-'), ('日本', 'q3@example.com', '^user-'), ('..a..b..', 'q4@example.com', '^a-b$'),
	(repeat('x', 60), 'q5@example.com', '^x{32}$'), ('DOMAIN\joe', 'q6@example.com', '^DOMAIN-joe$')) v (n, e, a);

-- finding
UPDATE coder.users SET created_at = now() - interval '2 days' WHERE username = 'admin';
UPDATE coder.users SET created_at = now() - interval '1 day' WHERE username = 'Ann-Lee';
SELECT is(s.status || (s.b->>'totalResults') || (s.b->>'itemsPerPage') || coalesce(s.b->'Resources'->0->'emails'->0->>'value', ''), a, q) FROM (VALUES
	('filter=userName%20eq%20%22Ann.Lee@example.com%22', '20000'), ('filter=userName%20eq%20%22again%22', '20011ann@example.com'), ('filter=userName%20EQ%20%22ANN-LEE%22', '20011ann2@example.com'), ('filter=userName%20eq%20%22ADMIN%22', '20011admin@example.com'),
	('filter=emails.value%20eq%20%22ANN@example.com%22', '20011ann@example.com'), ('filter=emails%5Btype%20eq%20%22work%22%5D.value%20eq%20%22ann@example.com%22', '20011ann@example.com'),
	('filter=externalId%20eq%20%22ext-1%22', '20011ann@example.com'), ('filter=active%20eq%20false', '20011ann2@example.com'), ('filter=userName%20eq%20%22prebuilds%22', '20000'),
	('filter=userName%20eq%20%22%22', '20000'), ('count=1', '20091admin@example.com'), ('startIndex=2&count=1', '20091ann@example.com'), ('count=0', '20090'), ('startIndex=99', '20090'),
	('startIndex=-1&count=-1', '20090')) v (q, a), scim('GET', '/Users?' || q) s;
SELECT is(s.status || coalesce(s.b->>'scimType', ''), a, q) FROM (VALUES ('filter=userName%20sw%20%22a%22', '400invalidFilter'), ('filter=userName%20eq%20%22a%22%20or%20true', '400invalidFilter'),
	('filter=password%20eq%20%22a%22', '400invalidFilter'), ('filter=hashed_password%20eq%20%22a%22', '400invalidFilter'), ('filter=userName', '400invalidFilter'), ('count=x', '400invalidValue'),
	('filter=userName%20eq%20%22a%22%20and%20%28%28', '400invalidFilter')) v (q, a), scim('GET', '/Users?' || q) s;
SELECT is(s.status, a, p) FROM u, LATERAL (VALUES ('/Users/' || (u.b->>'id'), 200), ('/Users/x', 404), ('/Users/00000000-0000-0000-0000-000000000000', 404),
	('/Users/' || (SELECT id FROM coder.users WHERE username = 'prebuilds'), 404)) v (p, a), scim('GET', v.p) s;

-- changing
CREATE FUNCTION public.change(method text, body jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	s record;
BEGIN
	SELECT * INTO s FROM scim(method, '/Users/' || (SELECT b->>'id' FROM u), body);
	RETURN s.status || ' ' || coalesce(s.b->>'scimType', (s.b->>'active') || ' ' || (s.b->>'displayName')) || ' ' || (SELECT status FROM coder.users WHERE email = 'ann@example.com');
END
$$;
CREATE TEMP TABLE k AS SELECT token_of('Ann-Lee') AS token;
SELECT is(change(m, b), a, m || ' ' || b) FROM (VALUES
	('PATCH', '{"Operations": [{"op": "replace", "value": {"active": false}}]}'::jsonb, '200 false Ann Lee Brown suspended'),
	('PATCH', '{"Operations": [{"op": "Replace", "path": "active", "value": "True"}]}', '200 true Ann Lee Brown dormant'),
	('PATCH', '{"Operations": [{"op": "replace", "path": "active", "value": "False"}]}', '200 false Ann Lee Brown suspended'),
	('PATCH', '{"Operations": [{"op": "add", "path": "active", "value": true}, {"op": "replace", "path": "name.familyName", "value": "Smith"}]}', '200 true Ann Smith dormant'),
	('PATCH', '{"Operations": [{"op": "replace", "value": {"displayName": "A. S.", "nickName": "x"}}]}', '200 true A. S. dormant'),
	('PATCH', '{"Operations": [{"op": "replace", "path": "userName", "value": "AGAIN"}]}', '200 true A. S. dormant'),
	('PATCH', '{"Operations": [{"op": "replace", "path": "userName", "value": "other"}]}', '400 mutability dormant'),
	('PATCH', '{"Operations": [{"op": "remove", "path": "active"}]}', '400 invalidSyntax dormant'), ('PATCH', '{"Operations": [{"op": "replace", "path": "active", "value": "x"}]}', '400 invalidSyntax dormant'),
	('PATCH', '{"Operations": [{"op": "replace", "value": false}]}', '400 invalidSyntax dormant'), ('PATCH', '{"Operations": []}', '400 invalidSyntax dormant'), ('PATCH', '{"Operations": [1]}', '400 invalidSyntax dormant'),
	('PATCH', '{}', '400 invalidSyntax dormant'), ('PATCH', 'null', '400 invalidSyntax dormant'),
	('PUT', '{"userName": "again", "active": false, "name": {"formatted": "Ann"}}', '200 false Ann suspended'), ('PUT', '{"userName": "again", "active": true}', '200 true Ann dormant'),
	('PUT', '{"userName": "again"}', '400 invalidRequest dormant'), ('PUT', '{"userName": "other", "active": false}', '400 mutability dormant'), ('PUT', '{"active": false}', '400 mutability dormant')) v (m, b, a);
SELECT is(a.status, 200, 'who is active again asks') FROM k, api('GET', '/api/v2/users/me', NULL, k.token) a;
SELECT is(change('PUT', '{"userName": "again", "active": false}'), '200 false Ann suspended', 'suspended');
SELECT is(a.status, 401, 'a session ends at once') FROM k, api('GET', '/api/v2/users/me', NULL, k.token) a;
SELECT is(s.status || (s.b->>'scimType'), '400mutability', 'an owner is not suspended so') FROM scim('PATCH', '/Users/' || (SELECT id FROM coder.users WHERE username = 'admin'), '{"Operations": [{"op": "replace", "value": {"active": false}}]}') s;
SELECT is((SELECT string_agg(DISTINCT action || ' ' || (additional_fields->>'automatic_subsystem'), ', ' ORDER BY action || ' ' || (additional_fields->>'automatic_subsystem')) FROM coder.audit_logs
	WHERE resource_type = 'user' AND resource_target = 'Ann-Lee'), 'create scim, write scim', 'all of it is audited');

SELECT * FROM finish();
ROLLBACK;
