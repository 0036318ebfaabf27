-- SPDX-License-Identifier: MIT
--
-- login.sql
--   The first user, login and logout with a password, and what a password must be.

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
	PERFORM coder.lock('coder.first_user');
	IF coder.users_exist() THEN
		PERFORM coder.raise(409, 'The initial user has already been created.');
	END IF;
	PERFORM coder.require_password(body->>'password');
	INSERT INTO coder.users (id, email, username, name, hashed_password, status, rbac_roles, login_type)
	VALUES (uid, body->>'email', body->>'username', coalesce(body->>'name', ''),
		convert_to(coder.password_hash(body->>'password'), 'UTF8'), 'active', '{owner}', 'password');
	SELECT o.id INTO org FROM coder.organizations o WHERE o.is_default;
	INSERT INTO coder.organization_members (user_id, organization_id) VALUES (uid, org);
	PERFORM coder.audit('create', 'user', uid, org => org, actor => uid);
	RETURN coder.reply(201, jsonb_build_object('user_id', uid, 'organization_id', org));
END
$$;

-- A Set-Cookie line: HttpOnly, Secure and with the __Host- prefix as the settings say.  Without a value the cookie goes.
CREATE OR REPLACE FUNCTION coder.cookie(name text, value text, max_age int4, same_site text DEFAULT NULL)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	secure CONSTANT bool := coder.setting_bool('secure_auth_cookie', coalesce(coder.setting('access_url') LIKE 'https://%', false));
	host CONSTANT bool := coder.setting_bool('host_prefix_cookie');
	site CONSTANT text := coalesce(same_site, coder.setting('samesite_auth_cookie'), 'lax');
BEGIN
	RETURN format(E'Set-Cookie: %s%s=%s; Path=/; Max-Age=%s; HttpOnly;%s SameSite=%s\r\n', CASE WHEN host THEN '__Host-' ELSE '' END,
		name, value, CASE WHEN value = '' THEN 0 ELSE max_age END,
		CASE WHEN secure OR host OR site = 'none' THEN ' Secure;' ELSE '' END, initcap(site));
END
$$;

-- The session cookie of an answer, for a year; the key behind it ends sooner.
CREATE OR REPLACE FUNCTION coder.session_cookie(value text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.cookie('coder_session_token', value, 31536000);
END
$$;

-- Why an e-mail address and a password do not let in; all NULL but u where they do.  An unknown address takes as long as
-- a wrong password, and says the same.
CREATE OR REPLACE FUNCTION coder.login_try(email text, password text, OUT u coder.users, OUT status int4, OUT message text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	SELECT x.* INTO u FROM coder.users x
	 WHERE lower(x.email) = lower(login_try.email) AND NOT x.deleted AND NOT x.is_system;
	IF NOT coder.password_verify(coalesce(convert_from(u.hashed_password, 'UTF8'), ''), password) THEN
		status := 401;
		message := 'Incorrect email or password.';
	ELSIF coder.setting_bool('disable_password_auth') AND NOT 'owner' = ANY (u.rbac_roles) THEN
		status := 403;
		message := 'Password authentication is disabled.';
	ELSIF u.login_type <> 'password' THEN
		status := 403;
		message := format('Incorrect login type, attempting to use "password" but user is of login type "%s"', u.login_type);
	ELSIF u.status = 'suspended' THEN
		status := 401;
		message := 'Your account is suspended. Contact an admin to reactivate your account.';
	END IF;
END
$$;

-- The user whom an e-mail address and a password let in; the login's errors where they do not.
CREATE OR REPLACE FUNCTION coder.login_check(email text, password text)
RETURNS coder.users LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	attempt record;
BEGIN
	SELECT * INTO attempt FROM coder.login_try(email, password);
	IF attempt.status IS NOT NULL THEN
		PERFORM coder.raise(attempt.status, attempt.message);
	END IF;
	RETURN attempt.u;
END
$$;

-- POST /users/login.  An attempt that fails is audited, so it answers instead of raising.
CREATE OR REPLACE FUNCTION coder.login(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body CONSTANT jsonb := coder.body(req, 'email', 'password');
	attempt record;
	u coder.users;
	token text;
BEGIN
	IF NOT coder.email_ok(body->>'email') THEN
		PERFORM coder.raise_validations(ARRAY[coder.validation_tag('email', 'email', body->>'email')]);
	END IF;
	SELECT * INTO attempt FROM coder.login_try(body->>'email', body->>'password');
	u := attempt.u;
	IF attempt.status IS NOT NULL THEN
		PERFORM coder.audit('login', 'api_key', u.id, actor => u.id);
		RETURN coder.reply_message(attempt.status, attempt.message);
	END IF;
	PERFORM coder.user_activated(u.id);
	token := coder.api_key_create(u.id, 'password', coder.setting_seconds('session_duration', 86400),
		remote => req.remote);
	-- A hash of an imported database becomes one of ours.
	UPDATE coder.users x SET last_seen_at = now(), hashed_password = CASE
			WHEN convert_from(x.hashed_password, 'UTF8') LIKE '$argon2id$%' THEN x.hashed_password
			ELSE convert_to(coder.password_hash(body->>'password'), 'UTF8') END
	 WHERE x.id = u.id;
	PERFORM coder.audit('login', 'api_key', u.id, actor => u.id,
		additional => jsonb_build_object('key_id', split_part(token, '-', 1)));
	RETURN ROW(201, coder.compact(jsonb_build_object('session_token', token)), coder.session_cookie(token), NULL)::coder.response;
END
$$;

-- POST /users/logout: the key goes, and the keys of workspace apps that came of it.
CREATE OR REPLACE FUNCTION coder.logout(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM coder.api_keys k WHERE k.id = coder.subject_token_id();
	DELETE FROM coder.api_keys k
	 WHERE k.user_id = coder.subject_id() AND k.scopes @> '{coder:application_connect}';
	PERFORM coder.audit('logout', 'api_key', coder.subject_id(),
		additional => jsonb_build_object('key_id', coder.subject_token_id()));
	RETURN ROW(200, '{"message":"Logged out!"}', coder.session_cookie(''), NULL)::coder.response;
END
$$;

-- POST /users/validate-password
CREATE OR REPLACE FUNCTION coder.validate_password(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	why CONSTANT text := coder.password_weakness(coder.body(req, 'password')->>'password');
BEGIN
	RETURN coder.reply(200, jsonb_build_object('valid', why = '', 'details', why));
END
$$;

DELETE FROM coder.routes WHERE area = 'login';
INSERT INTO coder.routes (area, method, pattern, function, auth, rate, pool, read_only) VALUES
	('login', 'GET', '/api/v2/users/first', 'first_user_get', 'none', 'api', 'fast', true),
	('login', 'POST', '/api/v2/users/first', 'first_user_create', 'none', 'api', 'slow', false),
	('login', 'POST', '/api/v2/users/login', 'login', 'none', 'login', 'slow', false),
	('login', 'POST', '/api/v2/users/logout', 'logout', 'session', 'api', 'fast', false),
	('login', 'POST', '/api/v2/users/validate-password', 'validate_password', 'none', 'login', 'fast', true);
