-- sql/api/apikey.sql -- API keys and tokens; extension/subject.c reads them on every request
--
-- Tables: sql/schema/apikey.sql.

-- A key was used: at most once an hour its use is written, and its life begins anew.  Answers the new
-- expiry.  Called by extension/subject.c.
CREATE OR REPLACE FUNCTION coder.api_key_used(key_id text, remote text, refresh bool)
RETURNS timestamptz LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	expires timestamptz;
	uid uuid;
	addr inet := '0.0.0.0';
BEGIN
	IF remote ~ '^[0-9a-fA-F.:]+$' THEN
		addr := remote::inet;
	END IF;
	PERFORM coder.audit_as('session', false);
	UPDATE coder.api_keys k SET last_used = now(), updated_at = now(), ip_address = addr,
		expires_at = CASE
			WHEN refresh AND k.expires_at - now() <= make_interval(secs => k.lifetime_seconds) - interval '1 hour'
				AND NOT coder.setting_bool('disable_session_expiry_refresh')
			THEN now() + make_interval(secs => k.lifetime_seconds)
			ELSE k.expires_at END
	 WHERE k.id = key_id AND k.expires_at > now()
	RETURNING k.expires_at, k.user_id INTO expires, uid;
	PERFORM coder.audit_as(NULL);
	UPDATE coder.users u SET last_seen_at = now() WHERE u.id = uid;
	RETURN expires;
END
$$;

-- A new key of a user; "<id>-<secret>", which is stored nowhere.
CREATE OR REPLACE FUNCTION coder.api_key_create(uid uuid, kind coder.login_type, lifetime_seconds bigint,
	token_name text DEFAULT '', scopes text[] DEFAULT '{coder:all}', allow_list text[] DEFAULT '{*:*}',
	remote text DEFAULT NULL)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id CONSTANT text := coder.random_key(10);
	secret CONSTANT text := coder.random_key(22);
	life CONSTANT bigint := coalesce(nullif(lifetime_seconds, 0), 86400);
BEGIN
	INSERT INTO coder.api_keys (id, hashed_secret, user_id, last_used, expires_at, login_type, lifetime_seconds,
		ip_address, token_name, scopes, allow_list)
	VALUES (id, coder.sha256(secret), uid, 'epoch', now() + make_interval(secs => life), kind, life,
		CASE WHEN remote ~ '^[0-9a-fA-F.:]+$' THEN remote::inet ELSE '0.0.0.0' END, token_name, scopes, allow_list);
	RETURN id || '-' || secret;
END
$$;

-- APIKey
CREATE OR REPLACE FUNCTION coder.api_key_json(k coder.api_keys)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('id', k.id, 'user_id', k.user_id, 'last_used', coder.ts(k.last_used),
		'expires_at', coder.ts(k.expires_at), 'created_at', coder.ts(k.created_at), 'updated_at', coder.ts(k.updated_at),
		'login_type', k.login_type,
		'scope', CASE WHEN 'coder:application_connect' = ANY (k.scopes) THEN 'application_connect'
			WHEN 'coder:all' = ANY (k.scopes) THEN 'all' ELSE '' END,
		'scopes', to_jsonb(k.scopes), 'token_name', k.token_name, 'lifetime_seconds', k.lifetime_seconds,
		'allow_list', to_jsonb(k.allow_list));
END
$$;

-- Scopes that a user may ask for.
CREATE OR REPLACE FUNCTION coder.external_scopes()
RETURNS text[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN ARRAY['api_key:*', 'api_key:create', 'api_key:delete', 'api_key:read', 'api_key:update', 'coder:all',
		'coder:apikeys.manage_self', 'coder:application_connect', 'coder:templates.author', 'coder:templates.build',
		'coder:workspaces.access', 'coder:workspaces.create', 'coder:workspaces.delete', 'coder:workspaces.operate',
		'file:*', 'file:create', 'file:read', 'organization:*', 'organization:delete', 'organization:read',
		'organization:update', 'task:*', 'task:create', 'task:delete', 'task:read', 'task:update', 'template:*',
		'template:create', 'template:delete', 'template:read', 'template:update', 'template:use', 'user:read',
		'user:read_personal', 'user:update_personal', 'user_secret:*', 'user_secret:create', 'user_secret:delete',
		'user_secret:read', 'user_secret:update', 'workspace:*', 'workspace:application_connect', 'workspace:create',
		'workspace:delete', 'workspace:read', 'workspace:ssh', 'workspace:start', 'workspace:stop', 'workspace:update'];
END
$$;

-- Seconds as Go prints a duration: 168h0m0s.
CREATE OR REPLACE FUNCTION coder.go_duration(seconds bigint)
RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE WHEN seconds >= 3600 THEN seconds / 3600 || 'h' ELSE '' END
		|| CASE WHEN seconds >= 60 THEN seconds / 60 % 60 || 'm' ELSE '' END || seconds % 60 || 's';
END
$$;

-- The longest life, in seconds, of a token of this user.
CREATE OR REPLACE FUNCTION coder.max_token_lifetime(u coder.users)
RETURNS bigint LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF 'owner' = ANY (u.rbac_roles) THEN
		RETURN coder.setting_seconds('max_admin_token_lifetime', 604800);
	END IF;
	RETURN coder.setting_seconds('max_token_lifetime', 3155760000);
END
$$;

-- What the key in use is limited to; everything where there is none (SQL by hand).
CREATE OR REPLACE FUNCTION coder.subject_limits(OUT scopes text[], OUT allow_list text[])
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	SELECT k.scopes, k.allow_list INTO scopes, allow_list FROM coder.api_keys k WHERE k.id = coder.subject_token_id();
	scopes := coalesce(scopes, '{coder:all}');
	allow_list := coalesce(allow_list, '{*:*}');
END
$$;

-- ZC403 unless the key in use may do all that a key with these limits may: nobody widens a token with a token.
CREATE OR REPLACE FUNCTION coder.require_limits(scopes text[], allow_list text[])
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	mine record;
	item text;
BEGIN
	SELECT * INTO mine FROM coder.subject_limits();
	FOREACH item IN ARRAY scopes LOOP
		IF NOT mine.scopes && ARRAY['coder:all', item, split_part(item, ':', 1) || ':*'] THEN
			PERFORM coder.raise(403, 'Forbidden.', format('A token without the scope "%s" cannot give it to another one.', item));
		END IF;
	END LOOP;
	FOREACH item IN ARRAY allow_list LOOP
		IF NOT mine.allow_list && ARRAY['*:*', item, split_part(item, ':', 1) || ':*', '*:' || split_part(item, ':', 2)] THEN
			PERFORM coder.raise(403, 'Forbidden.', format('A token without "%s" in its allow list cannot give it to another one.', item));
		END IF;
	END LOOP;
END
$$;

-- POST /users/{user}/keys: a session for a command line, with the limits of the key that asks for it.
CREATE OR REPLACE FUNCTION coder.key_create(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u CONSTANT coder.users := coder.param_user(req);
	mine record;
	key text;
BEGIN
	IF u.is_system THEN
		PERFORM coder.raise_forbidden();
	END IF;
	PERFORM coder.require_read('create', 'api_key', NULL, u.id);
	SELECT * INTO mine FROM coder.subject_limits();
	key := coder.api_key_create(u.id, 'password', coder.setting_seconds('default_token_lifetime', 604800),
		scopes => mine.scopes, allow_list => mine.allow_list, remote => req.remote);
	RETURN coder.reply(201, jsonb_build_object('key', key));
END
$$;

-- The allow list of a request, normalized: any "*:*" is all of it, "type:*" takes in its ids.
CREATE OR REPLACE FUNCTION coder.normalize_allow_list(list jsonb)
RETURNS text[] LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	items text[];
	item text;
BEGIN
	IF list IS NULL OR jsonb_typeof(list) <> 'array' OR jsonb_array_length(list) = 0 THEN
		RETURN '{*:*}';
	END IF;
	SELECT array_agg(DISTINCT lower(trim(coalesce(e.v, '')))) INTO items FROM jsonb_array_elements_text(list) e (v);
	IF cardinality(items) > 128 THEN
		PERFORM coder.raise(400, 'Failed to create API key.', 'allow_list has more than 128 entries');
	END IF;
	FOREACH item IN ARRAY items LOOP
		IF item !~ '^[a-z0-9_*]+:.+$' OR NOT (split_part(item, ':', 1) = '*' OR coder.rbac_type_known(split_part(item, ':', 1)))
			OR NOT (split_part(item, ':', 2) = '*' OR coder.try_uuid(split_part(item, ':', 2)) IS NOT NULL) THEN
			PERFORM coder.raise(400, 'Failed to create API key.', format('invalid allow_list entry "%s"', item));
		END IF;
	END LOOP;
	IF '*:*' = ANY (items) THEN
		RETURN '{*:*}';
	END IF;
	RETURN ARRAY(SELECT i FROM unnest(items) i
		WHERE split_part(i, ':', 2) = '*' OR NOT split_part(i, ':', 1) || ':*' = ANY (items) ORDER BY i COLLATE "C");
END
$$;

-- A name for a token that was given none: adjective_noun00.
CREATE OR REPLACE FUNCTION coder.random_token_name()
RETURNS text LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	adjectives CONSTANT text[] := ARRAY['amber', 'brave', 'calm', 'clever', 'eager', 'gentle', 'happy', 'keen', 'lively', 'lucky',
		'mellow', 'nimble', 'proud', 'quick', 'quiet', 'sharp', 'steady', 'sunny', 'swift', 'wise'];
	nouns CONSTANT text[] := ARRAY['badger', 'beaver', 'crane', 'falcon', 'fox', 'hare', 'heron', 'lark', 'lynx', 'marten', 'otter',
		'owl', 'raven', 'robin', 'seal', 'stork', 'swan', 'tern', 'wolf', 'wren'];
BEGIN
	RETURN format('%s_%s%s', adjectives[1 + floor(random() * 20)::int4], nouns[1 + floor(random() * 20)::int4], floor(random() * 100)::int4);
END
$$;

-- POST /users/{user}/keys/tokens
CREATE OR REPLACE FUNCTION coder.token_create(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u CONSTANT coder.users := coder.param_user(req);
	body CONSTANT jsonb := coder.body(req);
	max_life CONSTANT bigint := coder.max_token_lifetime(u);
	life bigint := least(coder.setting_seconds('default_token_lifetime', 604800), max_life);
	wanted numeric;
	name text := coalesce(nullif(body->>'token_name', ''), coder.random_token_name());
	scopes text[];
	scope text;
	allow_list CONSTANT text[] := coder.normalize_allow_list(body->'allow_list');
	key text;
BEGIN
	PERFORM coder.body_type(body, 'lifetime', 'number');
	PERFORM coder.body_type(body, 'scopes', 'array');
	PERFORM coder.body_type(body, 'allow_list', 'array');
	PERFORM coder.body_type(body, 'scope', 'string');
	PERFORM coder.body_type(body, 'token_name', 'string');
	IF u.is_system THEN
		PERFORM coder.raise_forbidden();
	END IF;
	PERFORM coder.require_read('create', 'api_key', NULL, u.id);
	wanted := coalesce((body->>'lifetime')::numeric, 0);
	IF wanted < 0 THEN
		PERFORM coder.raise(400, 'Failed to validate create API key request.', 'lifetime must be positive number greater than 0');
	ELSIF wanted > max_life * 1000000000::numeric THEN
		PERFORM coder.raise(400, 'Failed to validate create API key request.', format('lifetime must be less than %s', coder.go_duration(max_life)));
	ELSIF wanted > 0 THEN
		life := greatest(floor(wanted / 1000000000)::bigint, 1);
	END IF;
	scopes := CASE WHEN coalesce(nullif(body->'scopes', 'null'), '[]') <> '[]' THEN ARRAY(SELECT jsonb_array_elements_text(body->'scopes'))
		ELSE ARRAY[coalesce(nullif(body->>'scope', ''), 'coder:all')] END;
	scopes := ARRAY(SELECT CASE e.v WHEN 'all' THEN 'coder:all' WHEN 'application_connect' THEN 'coder:application_connect' ELSE e.v END
		FROM unnest(scopes) WITH ORDINALITY e (v, n) GROUP BY 1 ORDER BY min(e.n));
	FOREACH scope IN ARRAY scopes LOOP
		IF scope IS NULL OR NOT scope = ANY (coder.external_scopes()) THEN
			PERFORM coder.raise(400, 'Failed to create API key.', format('invalid or unsupported API key scope: "%s"', scope));
		END IF;
	END LOOP;
	PERFORM coder.require_limits(scopes, allow_list);
	IF EXISTS (SELECT 1 FROM coder.api_keys k WHERE k.user_id = u.id AND k.token_name = name AND k.login_type = 'token') THEN
		RAISE unique_violation;
	END IF;
	key := coder.api_key_create(u.id, 'token', life, name, scopes, allow_list, req.remote);
	RETURN coder.reply(201, jsonb_build_object('key', key));
EXCEPTION WHEN unique_violation THEN
	PERFORM coder.raise(409, format('A token with name "%s" already exists.', name), NULL,
		jsonb_build_array(coder.validation('name', 'This value is already in use and should be unique.')));
END
$$;

-- GET /users/{user}/keys/tokens: null where there are none, as the reference does.
CREATE OR REPLACE FUNCTION coder.tokens_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u CONSTANT coder.users := coder.param_user(req);
	all_users CONSTANT bool := coalesce(req.query->>'include_all', '') IN ('1', 't', 'T', 'true', 'TRUE', 'True');
	expired CONSTANT bool := coalesce(req.query->>'include_expired', '') IN ('1', 't', 'T', 'true', 'TRUE', 'True');
	answer jsonb;
BEGIN
	SELECT jsonb_agg(coder.api_key_json(k) || jsonb_build_object('username', o.username) ORDER BY k.created_at DESC, k.id)
	  INTO answer
	  FROM coder.api_keys k JOIN coder.users o ON o.id = k.user_id
	 WHERE k.login_type = 'token' AND (all_users OR k.user_id = u.id) AND (expired OR k.expires_at > now())
	   AND coder.can('read', 'api_key', NULL, k.user_id);
	RETURN coder.reply(200, coalesce(answer, 'null'));
END
$$;

-- GET /users/{user}/keys: the user's sessions, that is, keys that are no tokens of their own making.  Ours.
CREATE OR REPLACE FUNCTION coder.sessions_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u CONSTANT coder.users := coder.param_user(req);
BEGIN
	PERFORM coder.require_read('read', 'api_key', NULL, u.id);
	RETURN coder.reply(200, coalesce((SELECT jsonb_agg(coder.api_key_json(k)
			|| jsonb_build_object('ip_address', host(k.ip_address), 'current', k.id IS NOT DISTINCT FROM coder.subject_token_id())
			ORDER BY greatest(k.last_used, k.created_at) DESC, k.id)
		FROM coder.api_keys k WHERE k.user_id = u.id AND k.login_type <> 'token' AND k.expires_at > now()), '[]'));
END
$$;

-- GET /users/{user}/keys/tokens/tokenconfig
CREATE OR REPLACE FUNCTION coder.token_config(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, jsonb_build_object('max_token_lifetime', coder.max_token_lifetime(coder.param_user(req)) * 1000000000::numeric));
END
$$;

-- The key of {keyname} or {keyid}, if the subject may do this to it.
CREATE OR REPLACE FUNCTION coder.param_key(req coder.request, action text)
RETURNS coder.api_keys LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u CONSTANT coder.users := coder.param_user(req);
	k coder.api_keys;
BEGIN
	IF req.params ? 'keyname' THEN
		SELECT x.* INTO k FROM coder.api_keys x
		 WHERE x.user_id = u.id AND x.token_name = req.params->>'keyname' AND x.login_type = 'token';
	ELSE
		SELECT x.* INTO k FROM coder.api_keys x WHERE x.id = req.params->>'keyid';
	END IF;
	IF k.id IS NULL THEN
		PERFORM coder.raise_not_found();
	END IF;
	PERFORM coder.require_read(action, 'api_key', NULL, k.user_id);
	RETURN k;
END
$$;

-- GET …/keys/{keyid} and …/keys/tokens/{keyname}
CREATE OR REPLACE FUNCTION coder.key_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, coder.api_key_json(coder.param_key(req, 'read')));
END
$$;

-- DELETE /users/{user}/keys/{keyid}
CREATE OR REPLACE FUNCTION coder.key_delete(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	k CONSTANT coder.api_keys := coder.param_key(req, 'delete');
BEGIN
	DELETE FROM coder.api_keys x WHERE x.id = k.id;
	RETURN coder.reply(204);
END
$$;

-- PUT /users/{user}/keys/{keyid}/expire
CREATE OR REPLACE FUNCTION coder.key_expire(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	k CONSTANT coder.api_keys := coder.param_key(req, 'update');
BEGIN
	UPDATE coder.api_keys x SET expires_at = now(), updated_at = now() WHERE x.id = k.id AND x.expires_at > now();
	RETURN coder.reply(204);
END
$$;

-- GET /auth/scopes
CREATE OR REPLACE FUNCTION coder.auth_scopes(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, jsonb_build_object('external', to_jsonb(coder.external_scopes())));
END
$$;

DELETE FROM coder.routes WHERE area = 'apikey';
INSERT INTO coder.routes (area, method, pattern, function, auth, read_only) VALUES
	('apikey', 'GET', '/api/v2/auth/scopes', 'auth_scopes', 'none', true),
	('apikey', 'GET', '/api/v2/users/{user}/keys', 'sessions_list', 'session', true),
	('apikey', 'POST', '/api/v2/users/{user}/keys', 'key_create', 'session', false),
	('apikey', 'GET', '/api/v2/users/{user}/keys/tokens', 'tokens_list', 'session', true),
	('apikey', 'POST', '/api/v2/users/{user}/keys/tokens', 'token_create', 'session', false),
	('apikey', 'GET', '/api/v2/users/{user}/keys/tokens/tokenconfig', 'token_config', 'session', true),
	('apikey', 'GET', '/api/v2/users/{user}/keys/tokens/{keyname}', 'key_get', 'session', true),
	('apikey', 'GET', '/api/v2/users/{user}/keys/{keyid}', 'key_get', 'session', true),
	('apikey', 'DELETE', '/api/v2/users/{user}/keys/{keyid}', 'key_delete', 'session', false),
	('apikey', 'PUT', '/api/v2/users/{user}/keys/{keyid}/expire', 'key_expire', 'session', false);
