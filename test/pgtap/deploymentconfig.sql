-- deploymentconfig.sql -- GET /deployment/config: what is set, what is not, and that no secret is told
BEGIN;
\i api.psql
SELECT no_plan();

SELECT coder.configure('{"access_url": "https://coder.example.com", "api_rate_limit": "100", "session_duration": "36h", "disable_password_auth": "1", "oidc_client_id": "abc", "oidc_client_secret": "hush",
	"oidc_email_domain": "a.example, b.example", "oidc_group_mapping": "{\"x\": \"y\"}", "samesite_auth_cookie": "none", "max_token_lifetime": "nonsense", "notifications_email_auth_password": "hush",
	"scim_auth_hash": "hush", "experiments": "agents"}');
CREATE TEMP TABLE a AS SELECT x.* FROM token_of('admin') t, api('GET', '/api/v2/deployment/config', NULL, t) x;
CREATE FUNCTION public.opt(flag text) RETURNS jsonb LANGUAGE sql AS $$ SELECT o FROM a, jsonb_array_elements(a.body_->'options') o WHERE o->>'flag' = opt.flag $$;
SELECT is(status, 200, 'the configuration') FROM a;
SELECT is(body_->'config' #>> string_to_array(p, '.'), v, p) FROM a, (VALUES ('access_url', 'https://coder.example.com'), ('rate_limit.api', '100'), ('session_lifetime.default_duration', '129600000000000'),
	('session_lifetime.max_token_lifetime', '3155760000000000000'), ('disable_password_auth', 'true'), ('oidc.client_id', 'abc'), ('oidc.client_secret', ''), ('oidc.email_domain', '["a.example", "b.example"]'),
	('oidc.group_mapping', '{"x": "y"}'), ('http_cookies.same_site', 'none'), ('telemetry.enable', 'false'), ('experiments', '["agents"]'), ('verbose', NULL), ('user_quiet_hours_schedule.allow_user_custom', 'true')) t (p, v);
SELECT ok(body_::text !~ 'hush', 'holds no secret') FROM a;
SELECT is(opt(f) - '{description,group,name,yaml}'::text[], v::jsonb, f) FROM (VALUES
	('session-duration', '{"flag": "session-duration", "env": "CODER_SESSION_DURATION", "default": "24h0m0s", "value": 129600000000000, "value_source": "env", "annotations": {"format_duration": "true"}}'),
	('oidc-client-secret', '{"flag": "oidc-client-secret", "env": "CODER_OIDC_CLIENT_SECRET", "annotations": {"secret": "true"}}'),
	('samesite-auth-cookie', '{"flag": "samesite-auth-cookie", "env": "CODER_SAMESITE_AUTH_COOKIE", "default": "lax", "value": {"Choices": ["lax", "none"], "Value": "none"}, "value_source": "env", "annotations": {"external_workspace_proxies": "true"}}'),
	('max-token-lifetime', '{"flag": "max-token-lifetime", "env": "CODER_MAX_TOKEN_LIFETIME", "default": "876600h0m0s", "value": 3155760000000000000, "value_source": "default", "annotations": {"format_duration": "true"}}')) t (f, v);
SELECT is(opt('notifications-email-auth-username') #>> '{group,parent,parent,name}', 'Notifications', 'a group is in others');
SELECT is(opt('verbose') #>> '{use_instead,0,flag}', 'log-filter', 'another takes its place');
SELECT is((SELECT count(*)::int FROM a, jsonb_array_elements(a.body_->'options') o WHERE NOT o ?& '{name,flag}'), 0, 'each has a name and a flag');
SELECT is(x.status, 403, 'a member does not see it') FROM token_of('bob') t, api('GET', '/api/v2/deployment/config', NULL, t) x;
SELECT is(coder.duration_ns(v)::bigint, n, v) FROM (VALUES ('1h30m', 5400000000000), ('100ms', 100000000), ('7d', 604800000000000), ('90', 90000000000), ('1.5s', 1500000000), ('-1s', NULL), ('1', 1000000000), ('h', NULL), ('', NULL)) t (v, n);

SELECT * FROM finish();
ROLLBACK;
