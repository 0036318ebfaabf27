-- sql/api/user.sql -- the first user, login, users and what is theirs
--
-- Tables: sql/schema/user.sql.  Hot path: extension/user.c (GET /users/me).

-- A name by the API's rule: 1 to 32 letters and digits with single dashes in between, not "new" or "create".
CREATE OR REPLACE FUNCTION coder.name_ok(name text, max_length int4 DEFAULT 32)
RETURNS bool LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN name ~ '^[a-zA-Z0-9]+(-[a-zA-Z0-9]+)*$' AND length(name) <= max_length
		AND name NOT IN ('new', 'create');
END
$$;

-- A display name: empty, or up to max_length characters without white space at its ends.
CREATE OR REPLACE FUNCTION coder.display_name_ok(name text, max_length int4 DEFAULT 64)
RETURNS bool LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN length(name) <= max_length AND name !~ '^\s|\s$';
END
$$;

-- Has the text the form of an e-mail address?
CREATE OR REPLACE FUNCTION coder.email_ok(email text)
RETURNS bool LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN email ~ '^[^@\s<>()\[\],;:\\"]+@[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$'
		AND length(email) <= 254;
END
$$;

-- Site roles as SlimRole[].
CREATE OR REPLACE FUNCTION coder.site_roles_json(roles text[])
RETURNS json LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce((SELECT json_agg(json_build_object('name', r.name, 'display_name',
			coalesce(coder.rbac_role(r.name, false), '')) ORDER BY r.n)
		FROM unnest(roles) WITH ORDINALITY r (name, n)), '[]');
END
$$;

-- ReducedUser's members, in an object.
CREATE OR REPLACE FUNCTION coder.user_reduced_json(u coder.users)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('id', u.id, 'username', u.username, 'email', u.email,
			'created_at', coder.ts(u.created_at), 'updated_at', coder.ts(u.updated_at),
			'last_seen_at', coder.ts(u.last_seen_at), 'status', u.status, 'login_type', u.login_type)
		|| CASE WHEN u.name <> '' THEN jsonb_build_object('name', u.name) ELSE '{}' END
		|| CASE WHEN u.avatar_url <> '' THEN jsonb_build_object('avatar_url', u.avatar_url) ELSE '{}' END
		|| CASE WHEN u.is_service_account THEN jsonb_build_object('is_service_account', true) ELSE '{}' END;
END
$$;

-- User
CREATE OR REPLACE FUNCTION coder.user_json(u coder.users)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.user_reduced_json(u) || jsonb_build_object(
		'organization_ids', coalesce((SELECT jsonb_agg(m.organization_id ORDER BY o.created_at, o.id)
			FROM coder.organization_members m JOIN coder.organizations o ON o.id = m.organization_id
			WHERE m.user_id = u.id AND NOT o.deleted), '[]'),
		'roles', coder.site_roles_json(u.rbac_roles), 'has_ai_seat', false);
END
$$;

-- Asking makes a dormant user active.  Called by extension/subject.c and login.
CREATE OR REPLACE FUNCTION coder.user_activated(uid uuid)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE coder.users u SET status = 'active', last_seen_at = now(), updated_at = now()
	 WHERE u.id = uid AND u.status = 'dormant';
	IF FOUND THEN
		PERFORM coder.audit('write', 'user', uid, (SELECT u.username FROM coder.users u WHERE u.id = uid),
			diff => '{"status": {"old": "dormant", "new": "active", "secret": false}}', actor => uid);
	END IF;
END
$$;

-- The same as GET /users/{user} for "me", for the C handler to fall back on, and other users.
CREATE OR REPLACE FUNCTION coder.user_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, coder.user_json(coder.param_user(req)));
END
$$;

-- What keeps a password from being strong enough, "" where nothing does.
CREATE OR REPLACE FUNCTION coder.password_weakness(password text)
RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	runs CONSTANT text[] := ARRAY['0123456789', 'qwertyuiop', 'asdfghjkl', 'zxcvbnm', 'abcdefghijklmnopqrstuvwxyz'];
	base int4 := 0;
	kept text := '';
	ch text;
	hints text[] := '{}';
	specials int4;
	run text;
	n int4;
BEGIN
	specials := (password ~ '[!@$&*]')::int4 + (password ~ '[_., -]')::int4
		+ (password ~ '["#%''()+/:;<=>?\[\]\\^{|}~]')::int4;
	base := CASE WHEN password ~ '[!@$&*]' THEN 5 ELSE 0 END + CASE WHEN password ~ '[_., -]' THEN 5 ELSE 0 END
		+ CASE WHEN password ~ '["#%''()+/:;<=>?\[\]\\^{|}~]' THEN 22 ELSE 0 END
		+ CASE WHEN password ~ '[a-z]' THEN 26 ELSE 0 END + CASE WHEN password ~ '[A-Z]' THEN 26 ELSE 0 END
		+ CASE WHEN password ~ '[0-9]' THEN 10 ELSE 0 END
		+ (SELECT count(DISTINCT c) FROM regexp_split_to_table(password, '') c WHERE c !~ '^[\x20-\x7e]?$');
	-- Runs of one character, and along a row of keys or the alphabet, count as two.
	FOREACH ch IN ARRAY regexp_split_to_array(password, '') LOOP
		n := length(kept);
		IF n >= 2 AND substr(kept, n) = ch AND substr(kept, n - 1, 1) = ch THEN
			CONTINUE;
		END IF;
		kept := kept || ch;
	END LOOP;
	FOREACH run IN ARRAY runs LOOP
		kept := coder.cut_runs(coder.cut_runs(kept, run), reverse(run));
	END LOOP;
	IF base > 0 AND octet_length(kept) * log(2::numeric, base::numeric) >= 52 THEN
		IF octet_length(password) > 64 THEN
			RETURN 'password must be no more than 64 characters';
		END IF;
		RETURN '';
	END IF;
	IF specials < 3 THEN
		hints := hints || text 'including more special characters';
	END IF;
	IF password !~ '[a-z]' THEN
		hints := hints || text 'using lowercase letters';
	END IF;
	IF password !~ '[A-Z]' THEN
		hints := hints || text 'using uppercase letters';
	END IF;
	IF password !~ '[0-9]' THEN
		hints := hints || text 'using numbers';
	END IF;
	RETURN 'insecure password, try ' || CASE WHEN cardinality(hints) > 0
		THEN array_to_string(hints, ', ') || ' or ' ELSE '' END || 'using a longer password';
END
$$;

-- Of each stretch of the password that runs along a row of keys, the first two characters stay.
CREATE OR REPLACE FUNCTION coder.cut_runs(password text, run text)
RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kept text := '';
	length_of_run int4 := 0;
	previous text := '';
	ch text;
BEGIN
	FOREACH ch IN ARRAY regexp_split_to_array(password, '') LOOP
		IF previous <> '' AND strpos(run, previous || ch) > 0 THEN
			length_of_run := length_of_run + 1;
		ELSE
			length_of_run := 0;
		END IF;
		IF length_of_run < 2 THEN
			kept := kept || ch;
		END IF;
		previous := ch;
	END LOOP;
	RETURN kept;
END
$$;

-- ZC400 unless the password is strong enough.
CREATE OR REPLACE FUNCTION coder.require_password(password text, message text DEFAULT 'Password is invalid')
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	why CONSTANT text := coder.password_weakness(coalesce(password, ''));
BEGIN
	IF why <> '' THEN
		PERFORM coder.raise(400, message, NULL, jsonb_build_array(coder.validation('password', why)));
	END IF;
END
$$;

-- Are there users that are people?
CREATE OR REPLACE FUNCTION coder.users_exist()
RETURNS bool LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN EXISTS (SELECT 1 FROM coder.users u WHERE NOT u.is_system);
END
$$;

-- GET /users/first
CREATE OR REPLACE FUNCTION coder.first_user_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT coder.users_exist() THEN
		PERFORM coder.raise(404, 'The initial user has not been created!');
	END IF;
	RETURN coder.reply_message(200, 'The initial user has already been created!');
END
$$;

-- Broken rules of a new user's members.
CREATE OR REPLACE FUNCTION coder.user_validations(body jsonb, email_tag text)
RETURNS jsonb[] LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	broken jsonb[] := '{}';
	email CONSTANT text := coalesce(body->>'email', '');
	username CONSTANT text := coalesce(body->>'username', '');
BEGIN
	IF email = '' AND email_tag IS NOT NULL THEN
		broken := broken || coder.validation_tag('email', email_tag, '');
	ELSIF email <> '' AND NOT coder.email_ok(email) THEN
		broken := broken || coder.validation_tag('email', 'email', email);
	END IF;
	IF username = '' THEN
		broken := broken || coder.validation_tag('username', 'required', '');
	ELSIF NOT coder.name_ok(username) THEN
		broken := broken || coder.validation_tag('username', 'username', username);
	END IF;
	IF NOT coder.display_name_ok(coalesce(body->>'name', ''), 128) THEN
		broken := broken || coder.validation_tag('name', 'user_real_name', body->>'name');
	END IF;
	RETURN broken;
END
$$;

-- POST /users/first: the owner, member of the default organization.
CREATE OR REPLACE FUNCTION coder.first_user_create(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body CONSTANT jsonb := coder.body(req);
	broken jsonb[] := coder.user_validations(body, 'required');
	uid CONSTANT uuid := gen_random_uuid();
	org uuid;
BEGIN
	IF coalesce(body->>'password', '') = '' THEN
		broken := broken || coder.validation_tag('password', 'required', '');
	END IF;
	PERFORM coder.raise_validations(broken);
	PERFORM coder.seed();
	PERFORM pg_advisory_xact_lock(hashtextextended('coder.first_user', 0));
	IF coder.users_exist() THEN
		PERFORM coder.raise(409, 'The initial user has already been created.');
	END IF;
	PERFORM coder.require_password(body->>'password');
	INSERT INTO coder.users (id, email, username, name, hashed_password, status, rbac_roles, login_type)
	VALUES (uid, body->>'email', body->>'username', coalesce(body->>'name', ''),
		convert_to(coder.password_hash(body->>'password'), 'UTF8'), 'active', '{owner}', 'password');
	SELECT o.id INTO org FROM coder.organizations o WHERE o.is_default;
	INSERT INTO coder.organization_members (user_id, organization_id) VALUES (uid, org);
	PERFORM coder.audit('create', 'user', uid, body->>'username', org => org, actor => uid, status => 201);
	RETURN coder.reply(201, jsonb_build_object('user_id', uid, 'organization_id', org));
END
$$;

-- The session cookie of an answer.
CREATE OR REPLACE FUNCTION coder.session_cookie(value text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN format(E'Set-Cookie: coder_session_token=%s; Path=/; Max-Age=%s; HttpOnly;%s SameSite=Lax\r\n',
		value, CASE WHEN value = '' THEN 0 ELSE 31536000 END,
		CASE WHEN coalesce(coder.setting('secure_auth_cookie'),
			(coder.setting('access_url') LIKE 'https://%')::text) = 'true' THEN ' Secure;' ELSE '' END);
END
$$;

-- POST /users/login
CREATE OR REPLACE FUNCTION coder.login(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body CONSTANT jsonb := coder.body(req, 'email', 'password');
	u coder.users;
	token text;
BEGIN
	IF NOT coder.email_ok(body->>'email') THEN
		PERFORM coder.raise_validations(ARRAY[coder.validation_tag('email', 'email', body->>'email')]);
	END IF;
	SELECT x.* INTO u FROM coder.users x
	 WHERE lower(x.email) = lower(body->>'email') AND NOT x.deleted AND NOT x.is_system;
	IF NOT coder.password_verify(coalesce(convert_from(u.hashed_password, 'UTF8'), ''), body->>'password') THEN
		PERFORM coder.raise(401, 'Incorrect email or password.');
	ELSIF coder.setting('disable_password_auth') = 'true' AND NOT 'owner' = ANY (u.rbac_roles) THEN
		PERFORM coder.raise(403, 'Password authentication is disabled.');
	ELSIF u.login_type <> 'password' THEN
		PERFORM coder.raise(403, format('Incorrect login type, attempting to use "password" but user is of login type "%s"',
			u.login_type));
	ELSIF u.status = 'suspended' THEN
		PERFORM coder.raise(401, 'Your account is suspended. Contact an admin to reactivate your account.');
	END IF;
	PERFORM coder.user_activated(u.id);
	token := coder.api_key_create(u.id, 'password', coder.setting_seconds('session_duration', 86400),
		remote => req.remote);
	UPDATE coder.users x SET last_seen_at = now() WHERE x.id = u.id;
	PERFORM coder.audit('login', 'api_key', gen_random_uuid(), '', actor => u.id, status => 201,
		additional => jsonb_build_object('key_id', split_part(token, '-', 1)));
	RETURN ROW(201, coder.compact(jsonb_build_object('session_token', token)), coder.session_cookie(token), NULL)::coder.response;
END
$$;

DELETE FROM coder.routes WHERE area = 'user';
INSERT INTO coder.routes (area, method, pattern, function, auth, rate, pool, read_only) VALUES
	('user', 'GET', '/api/v2/users/first', 'first_user_get', 'none', 'api', 'fast', true),
	('user', 'POST', '/api/v2/users/first', 'first_user_create', 'none', 'api', 'slow', false),
	('user', 'POST', '/api/v2/users/login', 'login', 'none', 'login', 'slow', false),
	('user', 'GET', '/api/v2/users/{user}', 'user_get', 'session', 'api', 'fast', true);
