-- token.sql -- what a token may be given: scopes, allow lists, lifetimes; and that none widens itself
BEGIN;
\i api.psql
SELECT no_plan();

CREATE FUNCTION public.go(method text, path text, body jsonb DEFAULT NULL, token text DEFAULT NULL) RETURNS text LANGUAGE sql AS
	$$ SELECT a.status || coalesce(' ' || (a.body_->>'message'), '') || coalesce(': ' || (a.body_->>'detail'), '') FROM api(method, path, body, token) a $$;
CREATE FUNCTION public.make(token text, body jsonb) RETURNS text LANGUAGE sql AS
	$$ SELECT a.body_->>'key' FROM api('POST', '/api/v2/users/me/keys/tokens', body, token) a $$;
CREATE FUNCTION public.made(token text, body jsonb, path text DEFAULT '/api/v2/users/me/keys/tokens') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	key text;
	k coder.api_keys;
BEGIN
	SELECT a.body_->>'key' INTO key FROM api('POST', path, body, token) a;
	SELECT x.* INTO k FROM coder.api_keys x WHERE x.id = left(key, 10);
	RETURN k.scopes || k.allow_list || k.lifetime_seconds::text;
END
$$;
CREATE TEMP TABLE t AS SELECT token_of('admin') AS admin, token_of('bob') AS bob;
CREATE FUNCTION public.tok(n text) RETURNS text LANGUAGE sql AS $$ SELECT to_jsonb(t)->>n FROM t $$;

-- all forms of scopes
SELECT is(made(tok('bob'), b), left(a, -1) || ',604800}', b::text) FROM (VALUES
	('{}'::jsonb, '{coder:all,*:*}'), ('{"scope": "all"}', '{coder:all,*:*}'), ('{"scope": "application_connect"}', '{coder:application_connect,*:*}'),
	('{"scope": "template:read"}', '{template:read,*:*}'), ('{"scopes": ["all"]}', '{coder:all,*:*}'), ('{"scopes": []}', '{coder:all,*:*}'),
	('{"scopes": null, "scope": "all"}', '{coder:all,*:*}'), ('{"scopes": ["workspace:*", "workspace:*", "coder:templates.build"]}', '{workspace:*,coder:templates.build,*:*}'),
	('{"scopes": ["workspace:read"], "scope": "all"}', '{workspace:read,*:*}'),
	('{"allow_list": ["workspace:00000000-0000-0000-0000-00000000000A", "template:*", "template:00000000-0000-0000-0000-00000000000a"]}',
		'{coder:all,template:*,workspace:00000000-0000-0000-0000-00000000000a}'),
	('{"allow_list": ["*:*", "workspace:*"]}', '{coder:all,*:*}'), ('{"allow_list": []}', '{coder:all,*:*}')) v (b, a);
SELECT is(go('POST', '/api/v2/users/me/keys/tokens', b, tok('bob')), a, b::text) FROM (VALUES
	('{"scopes": "all"}'::jsonb, '400 Request body must be valid JSON.: json: cannot unmarshal string into field "scopes" of type array'),
	('{"scopes": [null]}', '400 Failed to create API key.: invalid or unsupported API key scope: ""'),
	('{"scopes": ["*"]}', '400 Failed to create API key.: invalid or unsupported API key scope: "*"'),
	('{"scopes": ["*:*"]}', '400 Failed to create API key.: invalid or unsupported API key scope: "*:*"'),
	('{"scopes": ["workspace:READ"]}', '400 Failed to create API key.: invalid or unsupported API key scope: "workspace:READ"'),
	('{"scopes": ["coder:no_user_data"]}', '400 Failed to create API key.: invalid or unsupported API key scope: "coder:no_user_data"'),
	('{"scopes": ["user:update"]}', '400 Failed to create API key.: invalid or unsupported API key scope: "user:update"'),
	('{"scope": "system:*"}', '400 Failed to create API key.: invalid or unsupported API key scope: "system:*"'),
	('{"allow_list": [null]}', '400 Failed to create API key.: invalid allow_list entry ""'), ('{"allow_list": ["workspace"]}', '400 Failed to create API key.: invalid allow_list entry "workspace"'),
	('{"allow_list": ["workspace:1"]}', '400 Failed to create API key.: invalid allow_list entry "workspace:1"'),
	('{"lifetime": 1.5e30}', '400 Failed to validate create API key request.: lifetime must be less than 876600h0m0s')) v (b, a);
SELECT is(go('POST', '/api/v2/users/me/keys/tokens', jsonb_build_object('allow_list', (SELECT jsonb_agg('workspace:' || gen_random_uuid()) FROM generate_series(1, 129))), tok('bob')),
	'400 Failed to create API key.: allow_list has more than 128 entries', 'a list has an end');

-- no token gives more than it has
CREATE TEMP TABLE m AS SELECT make(tok('bob'), '{"scopes": ["api_key:*", "workspace:*", "template:read", "user:read"], "allow_list": ["*:*"]}') AS wide,
	make(tok('bob'), jsonb_build_object('scopes', '["coder:all"]'::jsonb, 'allow_list', jsonb_build_array('api_key:*', 'template:*', 'user:*', 'workspace:00000000-0000-0000-0000-00000000000a'))) AS listed;
SELECT is(go('POST', '/api/v2/users/me/keys/tokens', b, wide), a, 'from a narrow scope: ' || b::text) FROM m, LATERAL (VALUES
	('{}'::jsonb, '403 Forbidden.: A token without the scope "coder:all" cannot give it to another one.'),
	('{"scope": "all"}', '403 Forbidden.: A token without the scope "coder:all" cannot give it to another one.'),
	('{"scopes": ["template:read", "template:use"]}', '403 Forbidden.: A token without the scope "template:use" cannot give it to another one.'),
	('{"scopes": ["template:*"]}', '403 Forbidden.: A token without the scope "template:*" cannot give it to another one.'),
	('{"scopes": ["workspace:ssh", "template:read"]}', '201'), ('{"scopes": ["workspace:*"]}', '201')) v (b, a);
SELECT is(go('POST', '/api/v2/users/me/keys/tokens', b, listed), a, 'from a short list: ' || b::text) FROM m, LATERAL (VALUES
	('{}'::jsonb, '403 Forbidden.: A token without "*:*" in its allow list cannot give it to another one.'),
	('{"allow_list": ["workspace:*"]}', '403 Forbidden.: A token without "workspace:*" in its allow list cannot give it to another one.'),
	('{"allow_list": ["workspace:00000000-0000-0000-0000-00000000000b"]}', '403 Forbidden.: A token without "workspace:00000000-0000-0000-0000-00000000000b" in its allow list cannot give it to another one.'),
	('{"allow_list": ["workspace:00000000-0000-0000-0000-00000000000a", "template:*"]}', '201')) v (b, a);
SELECT is(made(wide, NULL, '/api/v2/users/me/keys'), '{api_key:*,workspace:*,template:read,user:read,*:*,604800}', 'a session made with a token has the token''s limits') FROM m;
SELECT is(left(go('POST', '/api/v2/users/me/keys/tokens', '{}', make(tok('bob'), '{"scopes": ["workspace:*"]}')), 3), '404', 'without a scope for keys none is made');
SELECT is(go('POST', '/api/v2/users/admin/keys/tokens', '{}', tok('bob')), '404 Resource not found or you do not have access to this resource', 'nobody makes another''s');
SELECT is(go('POST', '/api/v2/users/prebuilds/' || p, '{}', tok('admin')), '403 Forbidden.: You don''t have permission to view this content. If you believe this is a mistake, please contact your administrator or try signing in with different credentials.',
	'no key of a system user: ' || p) FROM unnest(ARRAY['keys', 'keys/tokens']) p;

-- how long a token lives
SELECT coder.configure('{"max_token_lifetime": "48h", "max_admin_token_lifetime": "2h", "default_token_lifetime": "72h"}');
SELECT is(made(tok(w), '{}'), '{coder:all,*:*,' || s || '}', w || ': the default is no longer than the longest') FROM (VALUES ('bob', 172800), ('admin', 7200)) v (w, s);
SELECT is(go('POST', '/api/v2/users/me/keys/tokens', jsonb_build_object('lifetime', l), tok(w)), a, w || ' ' || l) FROM (VALUES
	('bob', 172800000000000, '201'), ('bob', 172800000000001, '400 Failed to validate create API key request.: lifetime must be less than 48h0m0s'),
	('admin', 7200000000001, '400 Failed to validate create API key request.: lifetime must be less than 2h0m0s')) v (w, l, a);
SELECT is(a.body_->>'max_token_lifetime', n, w || ' is told so') FROM (VALUES ('bob', '172800000000000'), ('admin', '7200000000000')) v (w, n), api('GET', '/api/v2/users/me/keys/tokens/tokenconfig', NULL, tok(w)) a;

-- use is written once an hour, and begins the life anew
CREATE TEMP TABLE k AS SELECT make(tok('bob'), '{"token_name": "slides", "lifetime": 86400000000000}') AS key;
UPDATE coder.api_keys SET expires_at = now() + interval '23 hours 30 minutes' WHERE token_name = 'slides';
SELECT is(coder.api_key_used(left(key, 10), '10.1.2.3', true), now() + interval '23 hours 30 minutes', 'within its first hour a key keeps its end') FROM k;
UPDATE coder.api_keys SET expires_at = now() + interval '22 hours' WHERE token_name = 'slides';
SELECT is(coder.api_key_used(left(key, 10), '10.1.2.3', true), now() + interval '24 hours', 'later it begins anew') FROM k;
SELECT is((SELECT ip_address::text || (last_used = now()) FROM coder.api_keys WHERE token_name = 'slides'), '10.1.2.3/32true', 'when and from where is noted');
UPDATE coder.api_keys SET expires_at = now() + interval '22 hours' WHERE token_name = 'slides';
SELECT coder.configure('{"disable_session_expiry_refresh": "1"}');
SELECT is(coder.api_key_used(left(key, 10), 'x', true), now() + interval '22 hours', 'not where that is turned off') FROM k;

SELECT * FROM finish();
ROLLBACK;
