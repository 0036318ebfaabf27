-- SPDX-License-Identifier: MIT
--
-- usersetting.sql
--   What belongs to a user: appearance, preferences, Git SSH key, values of parameters, secrets.

-- One of the user's settings, "" where it is not set.
CREATE OR REPLACE FUNCTION coder.user_config(uid uuid, key text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce((SELECT c.value FROM coder.user_configs c WHERE c.user_id = uid AND c.key = $2), '');
END
$$;

-- Sets one of a user's settings.
CREATE OR REPLACE FUNCTION coder.user_config_set(uid uuid, key text, value text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO coder.user_configs AS c (user_id, key, value) VALUES (uid, key, value)
	ON CONFLICT ON CONSTRAINT user_configs_pkey DO UPDATE SET value = excluded.value;
END
$$;

-- GET and PUT /users/{user}/appearance
CREATE OR REPLACE FUNCTION coder.user_appearance(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u CONSTANT coder.users := coder.param_user(req);
	body jsonb;
BEGIN
	IF req.method = 'PUT' THEN
		body := coder.body(req, 'theme_preference', 'terminal_font');
		PERFORM coder.require_read('update_personal', 'user', NULL, u.id, id => u.id);
		IF body->>'terminal_font' NOT IN ('geist-mono', 'ibm-plex-mono', 'fira-code', 'source-code-pro', 'jetbrains-mono') THEN
			PERFORM coder.raise(400, 'Unsupported font family.');
		END IF;
		PERFORM coder.user_config_set(u.id, 'theme_preference', body->>'theme_preference');
		PERFORM coder.user_config_set(u.id, 'terminal_font', body->>'terminal_font');
	ELSE
		PERFORM coder.require_read('read_personal', 'user', NULL, u.id, id => u.id);
	END IF;
	RETURN coder.reply(200, jsonb_build_object('theme_preference', coder.user_config(u.id, 'theme_preference'),
		'terminal_font', coder.user_config(u.id, 'terminal_font')));
END
$$;

-- GET and PUT /users/{user}/preferences
CREATE OR REPLACE FUNCTION coder.user_preferences(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u CONSTANT coder.users := coder.param_user(req);
	body jsonb;
BEGIN
	IF req.method = 'PUT' THEN
		body := coder.body(req);
		PERFORM coder.body_type(body, 'task_notification_alert_dismissed', 'boolean');
		PERFORM coder.require_read('update_personal', 'user', NULL, u.id, id => u.id);
		PERFORM coder.user_config_set(u.id, 'preference_task_notification_alert_dismissed',
			coalesce(body->>'task_notification_alert_dismissed', 'false'));
	ELSE
		PERFORM coder.require_read('read_personal', 'user', NULL, u.id, id => u.id);
	END IF;
	RETURN coder.reply(200, jsonb_build_object('task_notification_alert_dismissed',
		coder.user_config(u.id, 'preference_task_notification_alert_dismissed') = 'true'));
END
$$;

-- The user's SSH key for git, made when first asked for.
CREATE OR REPLACE FUNCTION coder.user_ssh_key(uid uuid, renew bool DEFAULT false)
RETURNS coder.gitsshkeys LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	k coder.gitsshkeys;
	pair text[];
BEGIN
	SELECT g.* INTO k FROM coder.gitsshkeys g WHERE g.user_id = uid;
	IF k.user_id IS NOT NULL AND NOT renew THEN
		RETURN k;
	END IF;
	pair := coder.ssh_keypair();
	INSERT INTO coder.gitsshkeys AS g (user_id, private_key, public_key) VALUES (uid, pair[1], pair[2])
	ON CONFLICT (user_id) DO UPDATE SET private_key = excluded.private_key, public_key = excluded.public_key, updated_at = now()
		WHERE renew
	RETURNING g.* INTO k;
	IF k.user_id IS NULL THEN
		SELECT g.* INTO k FROM coder.gitsshkeys g WHERE g.user_id = uid;
	END IF;
	RETURN k;
END
$$;

-- GET and PUT /users/{user}/gitsshkey: PUT makes a new one.
CREATE OR REPLACE FUNCTION coder.user_gitsshkey(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u CONSTANT coder.users := coder.param_user(req);
	k coder.gitsshkeys;
BEGIN
	PERFORM coder.require_read(CASE WHEN req.method = 'PUT' THEN 'update_personal' ELSE 'read_personal' END,
		'user', NULL, u.id, id => u.id);
	k := coder.user_ssh_key(u.id, req.method = 'PUT');
	IF req.method = 'PUT' THEN
	END IF;
	RETURN coder.reply(200, jsonb_build_object('user_id', k.user_id, 'created_at', coder.ts(k.created_at),
		'updated_at', coder.ts(k.updated_at), 'public_key', k.public_key));
END
$$;

-- GET /users/{user}/autofill-parameters: values of the user's earlier builds of the template's workspaces.
CREATE OR REPLACE FUNCTION coder.user_autofill(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u CONSTANT coder.users := coder.param_user(req);
	template uuid;
	answer jsonb;
BEGIN
	IF coalesce(req.query->>'template_id', '') = '' THEN
		PERFORM coder.raise(400, 'Invalid query parameters.', NULL, jsonb_build_array(coder.validation('template_id',
			'Query param "template_id" is required and cannot be empty')));
	END IF;
	template := coder.query_uuid(req, 'template_id');
	PERFORM coder.require_read('read_personal', 'user', NULL, u.id, id => u.id);
	IF to_regclass('coder.workspace_build_parameters') IS NOT NULL THEN
		EXECUTE $q$
			SELECT jsonb_agg(jsonb_build_object('name', p.name, 'value', p.value))
			  FROM (SELECT DISTINCT ON (bp.name) bp.name, bp.value
					  FROM coder.workspace_build_parameters bp
					  JOIN coder.workspace_builds b ON b.id = bp.workspace_build_id
					  JOIN coder.workspaces w ON w.id = b.workspace_id
					 WHERE w.owner_id = $1 AND b.transition = 'start' AND w.template_id = $2
					 ORDER BY bp.name, b.created_at DESC) p
			$q$ INTO answer USING u.id, template;
	END IF;
	RETURN coder.reply(200, coalesce(answer, '[]'));
END
$$;

-- UserSecret: never with its value.
CREATE OR REPLACE FUNCTION coder.user_secret_json(s coder.user_secrets)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('id', s.id, 'name', s.name, 'description', s.description, 'env_name', s.env_name,
		'file_path', s.file_path, 'created_at', coder.ts(s.created_at), 'updated_at', coder.ts(s.updated_at));
END
$$;

-- Refuses a secret's members that break a rule.
CREATE OR REPLACE FUNCTION coder.user_secret_check(s coder.user_secrets)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF octet_length(s.value) > 32768 THEN
		PERFORM coder.raise(400, 'Invalid secret value.', 'the value is longer than 32 KiB');
	ELSIF s.env_name <> '' AND (s.env_name !~ '^[A-Za-z_][A-Za-z0-9_]*$' OR upper(s.env_name) LIKE 'CODER\_%' OR upper(s.env_name) = 'CODER'
			OR upper(s.env_name) IN ('PATH', 'HOME', 'SHELL', 'USER', 'LOGNAME', 'PWD', 'OLDPWD', 'TERM', 'LD_PRELOAD', 'LD_LIBRARY_PATH',
				'LANG', 'IFS', 'TMPDIR', 'SSH_AUTH_SOCK', 'SSH_CLIENT', 'SSH_CONNECTION', 'SSH_TTY', 'GIT_SSH_COMMAND')) THEN
		PERFORM coder.raise(400, 'Invalid environment variable name.', 'a POSIX name that is not reserved is needed');
	ELSIF s.file_path <> '' AND (s.file_path !~ '^(~/|/)' OR length(s.file_path) > 4096) THEN
		PERFORM coder.raise(400, 'Invalid file path.', 'the path must start with ~/ or /');
	END IF;
END
$$;

-- GET and POST /users/{user}/secrets
CREATE OR REPLACE FUNCTION coder.user_secrets_all(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u CONSTANT coder.users := coder.param_user(req);
	body jsonb;
	s coder.user_secrets;
BEGIN
	PERFORM coder.require_read(CASE WHEN req.method = 'POST' THEN 'create' ELSE 'read' END, 'user_secret', NULL, u.id);
	IF req.method = 'GET' THEN
		RETURN coder.reply(200, coalesce((SELECT jsonb_agg(coder.user_secret_json(x) ORDER BY x.name)
			FROM coder.user_secrets x WHERE x.user_id = u.id), '[]'));
	END IF;
	body := coder.body(req);
	IF coalesce(body->>'name', '') = '' THEN
		PERFORM coder.raise(400, 'Name is required.');
	ELSIF coalesce(body->>'value', '') = '' THEN
		PERFORM coder.raise(400, 'Value is required.');
	END IF;
	s := ROW(gen_random_uuid(), u.id, body->>'name', coalesce(body->>'description', ''), body->>'value',
		coalesce(body->>'env_name', ''), coalesce(body->>'file_path', ''), now(), now(), NULL)::coder.user_secrets;
	PERFORM coder.user_secret_check(s);
	INSERT INTO coder.user_secrets SELECT (s).*;
	RETURN coder.reply(201, coder.user_secret_json(s));
EXCEPTION WHEN unique_violation THEN
	PERFORM coder.raise(409, 'A secret with that name, environment variable, or file path already exists.');
END
$$;

-- GET, PATCH and DELETE /users/{user}/secrets/{name}
CREATE OR REPLACE FUNCTION coder.user_secret_one(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u CONSTANT coder.users := coder.param_user(req);
	body jsonb;
	s coder.user_secrets;
BEGIN
	PERFORM coder.require_read(CASE req.method WHEN 'PATCH' THEN 'update' WHEN 'DELETE' THEN 'delete' ELSE 'read' END,
		'user_secret', NULL, u.id);
	SELECT x.* INTO s FROM coder.user_secrets x WHERE x.user_id = u.id AND x.name = req.params->>'name';
	IF s.id IS NULL THEN
		PERFORM coder.raise_not_found();
	ELSIF req.method = 'DELETE' THEN
		DELETE FROM coder.user_secrets x WHERE x.id = s.id;
		RETURN coder.reply(204);
	ELSIF req.method = 'PATCH' THEN
		body := coder.body(req);
		s.value := coalesce(body->>'value', coder.unseal(s.value, s.value_key_id));
		s.description := coalesce(body->>'description', s.description);
		s.env_name := coalesce(body->>'env_name', s.env_name);
		s.file_path := coalesce(body->>'file_path', s.file_path);
		s.updated_at := now();
		PERFORM coder.user_secret_check(s);
		UPDATE coder.user_secrets x SET value = s.value, description = s.description, env_name = s.env_name,
			file_path = s.file_path, updated_at = s.updated_at WHERE x.id = s.id;
	END IF;
	RETURN coder.reply(200, coder.user_secret_json(s));
EXCEPTION WHEN unique_violation THEN
	PERFORM coder.raise(409, 'A secret with that name, environment variable, or file path already exists.');
END
$$;

DELETE FROM coder.routes WHERE area = 'usersetting';
INSERT INTO coder.routes (area, method, pattern, function, auth, rate, pool, read_only) VALUES
	('usersetting', 'GET', '/api/v2/users/{user}/appearance', 'user_appearance', 'session', 'api', 'fast', true),
	('usersetting', 'PUT', '/api/v2/users/{user}/appearance', 'user_appearance', 'session', 'api', 'fast', false),
	('usersetting', 'GET', '/api/v2/users/{user}/preferences', 'user_preferences', 'session', 'api', 'fast', true),
	('usersetting', 'PUT', '/api/v2/users/{user}/preferences', 'user_preferences', 'session', 'api', 'fast', false),
	('usersetting', 'GET', '/api/v2/users/{user}/gitsshkey', 'user_gitsshkey', 'session', 'api', 'fast', false),
	('usersetting', 'PUT', '/api/v2/users/{user}/gitsshkey', 'user_gitsshkey', 'session', 'api', 'fast', false),
	('usersetting', 'GET', '/api/v2/users/{user}/autofill-parameters', 'user_autofill', 'session', 'api', 'fast', true),
	('usersetting', 'GET', '/api/v2/users/{user}/secrets', 'user_secrets_all', 'session', 'api', 'fast', true),
	('usersetting', 'POST', '/api/v2/users/{user}/secrets', 'user_secrets_all', 'session', 'api', 'fast', false),
	('usersetting', 'GET', '/api/v2/users/{user}/secrets/{name}', 'user_secret_one', 'session', 'api', 'fast', true),
	('usersetting', 'PATCH', '/api/v2/users/{user}/secrets/{name}', 'user_secret_one', 'session', 'api', 'fast', false),
	('usersetting', 'DELETE', '/api/v2/users/{user}/secrets/{name}', 'user_secret_one', 'session', 'api', 'fast', false);
