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
		PERFORM coder.audit('write', 'user', uid, actor => uid);
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

-- A user's name: by the API's rule, and none that a path would take for somebody else's ("me", a UUID).
CREATE OR REPLACE FUNCTION coder.username_ok(name text)
RETURNS bool LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.name_ok(name) AND lower(name) NOT IN ('me', 'new', 'create') AND coder.try_uuid(name) IS NULL;
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
	ELSIF NOT coder.username_ok(username) THEN
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

-- The SQL condition on coder.users u of a search that coder.user_search has checked.
CREATE OR REPLACE FUNCTION coder.user_condition(terms jsonb)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item record;
	one text;
	words text[];
	parts text[] := '{true}';
BEGIN
	FOR item IN SELECT t.key, t.value FROM jsonb_each(terms) t LOOP
		words := ARRAY(SELECT jsonb_array_elements_text(item.value));
		one := words[1];
		parts := parts || CASE item.key
			WHEN 'search' THEN format('(strpos(lower(u.username), %1$L) > 0 OR strpos(lower(u.email), %1$L) > 0)', lower(one))
			WHEN 'name' THEN format('strpos(lower(u.name), %L) > 0', lower(one))
			WHEN 'status' THEN format('u.status = ANY (%L::coder.user_status[])', words)
			WHEN 'role' THEN CASE WHEN 'member' = ANY (words) THEN 'true' ELSE format('u.rbac_roles && %L::text[]', words) END
			WHEN 'login_type' THEN format('u.login_type::text = ANY (%L::text[])', words)
			WHEN 'service_account' THEN format('u.is_service_account = %L::bool', one)
			WHEN 'github_com_user_id' THEN format('u.github_com_user_id = %L::bigint', one)
			WHEN 'created_before' THEN format('u.created_at <= %L::timestamptz', one)
			WHEN 'created_after' THEN format('u.created_at >= %L::timestamptz', one)
			WHEN 'last_seen_before' THEN format('u.last_seen_at <= %L::timestamptz', one)
			WHEN 'last_seen_after' THEN format('u.last_seen_at >= %L::timestamptz', one)
			ELSE 'true' END;
	END LOOP;
	RETURN array_to_string(parts, ' AND ');
END
$$;

-- The users' search of a request, checked; message is the error's.
CREATE OR REPLACE FUNCTION coder.user_search(req coder.request, message text)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	terms CONSTANT jsonb := coder.search_parse(lower(coalesce(req.query->>'q', '')), message, 'search', ARRAY['search', 'name',
		'status', 'role', 'login_type', 'service_account', 'github_com_user_id', 'created_before', 'created_after',
		'last_seen_before', 'last_seen_after']);
BEGIN
	PERFORM coder.search_check_enum(terms, 'status', message, ARRAY['active', 'suspended', 'dormant']);
	PERFORM coder.search_check_enum(terms, 'login_type', message,
		ARRAY['', 'password', 'github', 'oidc', 'token', 'none']);
	PERFORM coder.search_check_time(terms, k, message)
	   FROM unnest(ARRAY['created_before', 'created_after', 'last_seen_before', 'last_seen_after']) k;
	PERFORM coder.search_check_bool(terms, 'service_account', message);
	IF terms->'github_com_user_id'->>0 !~ '^-?[0-9]{1,18}$' THEN
		PERFORM coder.raise(400, message, NULL, jsonb_build_array(coder.validation('github_com_user_id',
			format('Query param "github_com_user_id" must be a valid 64-bit integer: "%s"', terms->'github_com_user_id'->>0))));
	END IF;
	RETURN terms;
END
$$;

-- GET /users: those the subject may read, found by indexes.
CREATE OR REPLACE FUNCTION coder.users_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	terms CONSTANT jsonb := coder.user_search(req, 'Invalid user search query.');
	lim CONSTANT int4 := coder.query_int(req, 'limit', 0);
	off CONSTANT int4 := coder.query_int(req, 'offset', 0);
	after_id CONSTANT uuid := coder.query_uuid(req, 'after_id');
	after_name text;
	readable CONSTANT text := coder.filter_sql('read', 'user', NULL, 'u.id', 'u.id');
	condition text;
	total bigint;
	users jsonb;
BEGIN
	condition := 'NOT u.deleted AND NOT u.is_system AND ' || readable || ' AND ' || coder.user_condition(terms);
	IF after_id IS NOT NULL THEN
		SELECT lower(u.username) INTO after_name FROM coder.users u WHERE u.id = after_id;
		IF after_name IS NULL THEN
			RETURN coder.reply(200, '{"users":[],"count":0}'::text);
		END IF;
		condition := condition || format(' AND lower(u.username) > %L', after_name);
	END IF;
	IF readable = '(true)' AND terms = '{}' AND after_id IS NULL THEN
		SELECT coalesce(sum(t.live), 0) INTO total FROM coder.user_totals t;
	ELSE
		EXECUTE 'SELECT count(*) FROM coder.users u WHERE ' || condition INTO total;
	END IF;
	IF total > off THEN
		EXECUTE format('SELECT jsonb_agg(coder.user_json(p) ORDER BY lower(p.username)) FROM (SELECT u.* FROM coder.users u WHERE %s
			ORDER BY lower(u.username) OFFSET %s LIMIT %s) p', condition, off, coalesce(nullif(lim, 0)::text, 'NULL')) INTO users;
	END IF;
	RETURN coder.reply(200, jsonb_build_object('users', coalesce(users, '[]'), 'count', CASE WHEN users IS NULL THEN 0 ELSE total END));
END
$$;

-- May the subject give or take away this role?  Decided by the roles it has itself, without a query.
CREATE OR REPLACE FUNCTION coder.may_assign(role text, org uuid DEFAULT NULL)
RETURNS bool LANGUAGE C STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'coder_may_assign';

-- Notifies those who administer users, but not the one who did it.
CREATE OR REPLACE FUNCTION coder.notify_user_admins(template uuid, title text, content text, link text,
	label text, about uuid)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.notify(u.id, template, title, content,
		jsonb_build_array(jsonb_build_object('label', label, 'url', coalesce(coder.setting('access_url'), '') || link)),
		ARRAY[about])
	   FROM coder.users u
	  WHERE u.rbac_roles && '{owner,user-admin}' AND NOT u.deleted AND u.status <> 'suspended' AND u.id <> about;
END
$$;

-- POST /users: a new user, placed in organizations.
CREATE OR REPLACE FUNCTION coder.user_create(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body CONSTANT jsonb := coder.body(req);
	service bool;
	kind text;
	orgs uuid[];
	org uuid;
	u coder.users;
	by_name text;
BEGIN
	PERFORM coder.body_type(body, 'organization_ids', 'array');
	PERFORM coder.body_type(body, 'service_account', 'boolean');
	service := coalesce((body->>'service_account')::bool, false);
	kind := coalesce(nullif(body->>'login_type', ''), CASE WHEN service THEN 'none' ELSE 'password' END);
	PERFORM coder.raise_validations(coder.user_validations(body, CASE WHEN NOT service THEN 'required_unless' END));
	IF NOT coder.can('create', 'user') THEN
		PERFORM coder.raise(403, 'You are not authorized to create users.');
	END IF;
	SELECT coalesce(array_agg(coder.try_uuid(e.v)), '{}') INTO orgs
	  FROM jsonb_array_elements_text(CASE WHEN jsonb_typeof(body->'organization_ids') = 'array'
		THEN body->'organization_ids' ELSE '[]' END) e (v);
	IF coalesce(body->>'organization_id', '') <> '' THEN
		orgs := orgs || coder.try_uuid(body->>'organization_id');
	END IF;
	IF cardinality(orgs) = 0 THEN
		PERFORM coder.raise(400, 'No organization specified to place the user as a member of. It is required to specify at least one organization id to place the user in.',
			'required at least 1 value for the array ''organization_ids''',
			jsonb_build_array(coder.validation('organization_ids', 'Missing values, this cannot be empty')));
	END IF;
	IF EXISTS (SELECT 1 FROM coder.users x WHERE NOT x.deleted AND (lower(x.username) = lower(body->>'username')
			OR (coalesce(body->>'email', '') <> '' AND lower(x.email) = lower(body->>'email')))) THEN
		PERFORM coder.raise(409, 'User already exists.');
	END IF;
	IF kind NOT IN ('password', 'none', 'github', 'oidc') THEN
		PERFORM coder.raise(400, format('Unsupported login type "%s" for manually creating new users.', kind));
	ELSIF kind = 'oidc' AND NOT coder.oidc_configured() THEN
		PERFORM coder.raise(400, 'You must configure OIDC before creating OIDC users.');
	ELSIF kind <> 'password' AND coalesce(body->>'password', '') <> '' THEN
		PERFORM coder.raise(400, format('Password cannot be set for non-password ("%s") authentication.', kind));
	ELSIF kind = 'password' AND coder.setting_bool('disable_password_auth') THEN
		PERFORM coder.raise(403, 'Password based authentication is disabled! Unable to provision new users with password authentication.');
	ELSIF kind = 'password' THEN
		PERFORM coder.require_password(body->>'password');
	END IF;
	INSERT INTO coder.users (email, username, name, hashed_password, login_type, status, is_service_account)
	VALUES (CASE WHEN service THEN '' ELSE body->>'email' END, body->>'username', coalesce(body->>'name', ''),
		CASE WHEN kind = 'password' THEN convert_to(coder.password_hash(body->>'password'), 'UTF8') ELSE '' END,
		kind::coder.login_type,
		CASE WHEN body->>'user_status' IN ('active', 'suspended') THEN body->>'user_status' ELSE 'dormant' END::coder.user_status,
		service)
	RETURNING * INTO u;
	FOREACH org IN ARRAY orgs LOOP
		IF org = '00000000-0000-0000-0000-000000000000' THEN
			SELECT o.id INTO org FROM coder.organizations o WHERE o.is_default;
		END IF;
		IF NOT EXISTS (SELECT 1 FROM coder.organizations o WHERE o.id = org AND NOT o.deleted)
			OR NOT coder.can('read', 'organization', org, id => org) THEN
			PERFORM coder.raise(404, format('Organization does not exist with the provided id "%s".', org));
		END IF;
		IF NOT coder.can('create', 'organization_member', org) THEN
			PERFORM coder.raise(403, 'You are not authorized to create users.');
		END IF;
		INSERT INTO coder.organization_members (user_id, organization_id) VALUES (u.id, org) ON CONFLICT DO NOTHING;
	END LOOP;
	SELECT coalesce(nullif(a.name, ''), a.username) INTO by_name FROM coder.users a WHERE a.id = coder.subject_id();
	PERFORM coder.notify_user_admins('4e19c0ac-94e1-4532-9515-d1801aa283b2', format('User account "%s" created', u.username),
		format(E'New user account **%s** has been created.\n\nThis new user account was created%s by **%s**.', u.username,
			CASE WHEN u.name <> '' THEN format(' for **%s**', u.name) ELSE '' END, by_name),
		'/deployment/users?filter=status%3Aactive', 'View accounts', u.id);
	RETURN coder.reply(201, coder.user_json(u));
EXCEPTION WHEN unique_violation THEN
	PERFORM coder.raise(409, 'User already exists.');
END
$$;

-- ZC400 where the user is the system's, or an owner and who asks is none: what belongs to an owner is not for user
-- administrators.
CREATE OR REPLACE FUNCTION coder.require_owner_for(u coder.users, message text)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF u.is_system THEN
		PERFORM coder.raise(400, 'System users cannot be changed.');
	ELSIF 'owner' = ANY (u.rbac_roles) AND u.id IS DISTINCT FROM coder.subject_id() AND NOT EXISTS (
			SELECT 1 FROM coder.users x WHERE x.id = coder.subject_id() AND 'owner' = ANY (x.rbac_roles)) THEN
		PERFORM coder.raise(400, message);
	END IF;
END
$$;

-- DELETE /users/{user}: its rows stay for those who refer to them.
CREATE OR REPLACE FUNCTION coder.user_delete(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u CONSTANT coder.users := coder.param_user(req);
	owns bool := false;
BEGIN
	IF u.id = coder.subject_id() THEN
		PERFORM coder.raise(403, 'You cannot delete yourself!');
	END IF;
	PERFORM coder.require('delete', 'user', NULL, u.id, id => u.id);
	PERFORM coder.require_owner_for(u, 'Only owners can delete an owner.');
	IF to_regclass('coder.workspaces') IS NOT NULL THEN
		EXECUTE 'SELECT EXISTS (SELECT 1 FROM coder.workspaces w WHERE w.owner_id = $1 AND NOT w.deleted)' INTO owns USING u.id;
	END IF;
	IF owns THEN
		PERFORM coder.raise(417, 'You cannot delete a user that has workspaces. Delete their workspaces and try again!');
	END IF;
	UPDATE coder.users x SET deleted = true, updated_at = now() WHERE x.id = u.id;
	PERFORM coder.notify_user_admins('f44d9314-ad03-4bc8-95d0-5cad491da6b6', format('User account "%s" deleted', u.username),
		format(E'User account **%s** has been deleted.', u.username),
		'/deployment/users?filter=status%3Aactive', 'View accounts', u.id);
	RETURN coder.reply_message(200, 'User has been deleted!');
END
$$;

-- PUT /users/{user}/profile
CREATE OR REPLACE FUNCTION coder.user_profile_put(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u coder.users := coder.param_user(req);
	body CONSTANT jsonb := coder.body(req);
BEGIN
	PERFORM coder.raise_validations(coder.user_validations(body - 'email', NULL));
	IF u.is_system THEN
		PERFORM coder.raise(400, 'System users cannot be changed.');
	ELSIF NOT coder.can(CASE WHEN body->>'username' <> u.username THEN 'update' ELSE 'update_personal' END,
			'user', NULL, u.id, id => u.id)
		AND NOT (u.id = coder.subject_id() AND coder.can('update_personal', 'user', NULL, u.id, id => u.id)
			AND body->>'username' = u.username) THEN
		PERFORM coder.raise_not_found();
	END IF;
	PERFORM coder.require_owner_for(u, 'Only owners can change the profile of an owner.');
	IF EXISTS (SELECT 1 FROM coder.users x WHERE lower(x.username) = lower(body->>'username') AND NOT x.deleted AND x.id <> u.id) THEN
		PERFORM coder.raise(409, 'A user with this username already exists.', NULL,
			jsonb_build_array(coder.validation('username', 'This username is already in use.')));
	END IF;
	UPDATE coder.users x SET username = body->>'username', name = coalesce(body->>'name', ''), updated_at = now()
	 WHERE x.id = u.id RETURNING * INTO u;
	RETURN coder.reply(200, coder.user_json(u));
END
$$;

-- PUT /users/{user}/status/suspend and …/activate: the new status is the path's last part.
CREATE OR REPLACE FUNCTION coder.user_status_put(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u coder.users := coder.param_user(req);
	suspend CONSTANT bool := req.route LIKE '%/suspend';
	verb CONSTANT text := CASE WHEN suspend THEN 'suspended' ELSE 'activated' END;
	by_name text;
BEGIN
	IF suspend AND u.id = coder.subject_id() THEN
		PERFORM coder.raise(400, 'You cannot suspend yourself.');
	ELSIF suspend AND 'owner' = ANY (u.rbac_roles) THEN
		PERFORM coder.raise(400, 'You cannot suspend a user with the "owner" role. You must remove the role first.');
	ELSIF u.is_system THEN
		PERFORM coder.raise(400, 'System users cannot be changed.');
	END IF;
	IF NOT coder.can('update', 'user', NULL, u.id, id => u.id) THEN
		PERFORM coder.raise_not_found();
	END IF;
	UPDATE coder.users x SET status = CASE WHEN suspend THEN 'suspended' ELSE 'active' END::coder.user_status, updated_at = now()
	 WHERE x.id = u.id RETURNING * INTO u;
	SELECT coalesce(nullif(a.name, ''), a.username) INTO by_name FROM coder.users a WHERE a.id = coder.subject_id();
	PERFORM coder.notify_user_admins(
		CASE WHEN suspend THEN 'b02ddd82-4733-4d02-a2d7-c36f3598997d' ELSE '9f5af851-8408-4e73-a7a1-c6502ba46689' END::uuid,
		format('User account "%s" %s', u.username, verb),
		format(E'User account **%s** has been %s.\n\nThe account belongs to **%s** and it was %s by **%s**.', u.username, verb,
			coalesce(nullif(u.name, ''), u.username), verb, by_name),
		CASE WHEN suspend THEN '/deployment/users?filter=status%3Asuspended' ELSE '/deployment/users?filter=status%3Aactive' END,
		CASE WHEN suspend THEN 'View suspended accounts' ELSE 'View accounts' END, u.id);
	PERFORM coder.notify(u.id,
		CASE WHEN suspend THEN '6a2f0609-9b69-4d36-a989-9f5925b6cbff' ELSE '1a6a6bea-ee0a-43e2-9e7c-eabdb53730e4' END::uuid,
		format('Your account "%s" has been %s', u.username, verb),
		format('Your account **%s** has been %s by **%s**.', u.username, verb, by_name),
		CASE WHEN suspend THEN '[]' ELSE jsonb_build_array(jsonb_build_object('label', 'Open Coder', 'url', coalesce(coder.setting('access_url'), ''))) END,
		ARRAY[u.id]);
	RETURN coder.reply(200, coder.user_json(u));
END
$$;

-- Refuses a change from some roles to others: unknown names (400), no permission (403), not theirs to give (400).
-- implied is the role that every user has and no row holds.
CREATE OR REPLACE FUNCTION coder.check_role_change(old text[], new text[], implied text, org uuid DEFAULT NULL)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	type CONSTANT text := CASE WHEN org IS NULL THEN 'assign_role' ELSE 'assign_org_role' END;
	role text;
	removed CONSTANT bool := EXISTS (SELECT 1 FROM unnest(old) r WHERE r <> ALL (new));
BEGIN
	FOREACH role IN ARRAY new LOOP
		IF coder.rbac_role(role, org IS NOT NULL) IS NULL AND role <> implied AND NOT EXISTS (SELECT 1 FROM coder.custom_roles c
				WHERE c.name = role AND c.organization_id IS NOT DISTINCT FROM org AND NOT c.is_system) THEN
			PERFORM coder.raise(400, format('"%s" is not a supported role', role || coalesce(':' || org, '')));
		END IF;
	END LOOP;
	IF NOT coder.can('assign', type, org) OR (removed AND NOT coder.can('unassign', type, org)) THEN
		PERFORM coder.raise_forbidden();
	END IF;
	FOR role IN SELECT r FROM unnest(new || implied) r WHERE r <> ALL (old) UNION SELECT r FROM unnest(old) r WHERE r <> ALL (new) LOOP
		IF NOT coder.may_assign(role, org) THEN
			PERFORM coder.raise(400, format('not authorized to assign role "%s"', role || coalesce(':' || org, '')));
		END IF;
	END LOOP;
END
$$;

-- PUT /users/{user}/roles
CREATE OR REPLACE FUNCTION coder.user_roles_put(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u coder.users := coder.param_user(req);
	body CONSTANT jsonb := coder.body(req);
	roles text[];
BEGIN
	PERFORM coder.body_type(body, 'roles', 'array');
	IF u.id = coder.subject_id() THEN
		PERFORM coder.raise(400, 'You cannot change your own roles.');
	ELSIF u.is_system THEN
		PERFORM coder.raise(400, 'System users cannot be changed.');
	ELSIF u.login_type = 'oidc' AND coder.role_sync_on() THEN
		PERFORM coder.raise(400, 'Cannot modify roles for OIDC users when role sync is enabled.');
	END IF;
	SELECT coalesce(array_agg(r.v ORDER BY r.n), '{}') INTO roles
	  FROM (SELECT e.v, min(e.n) AS n FROM jsonb_array_elements_text(coalesce(nullif(body->'roles', 'null'), '[]'))
			WITH ORDINALITY e (v, n) GROUP BY e.v) r;
	PERFORM coder.check_role_change(u.rbac_roles, roles, 'member');
	UPDATE coder.users x SET rbac_roles = roles, updated_at = now() WHERE x.id = u.id RETURNING * INTO u;
	RETURN coder.reply(200, coder.user_json(u));
END
$$;

-- GET /users/{user}/roles
CREATE OR REPLACE FUNCTION coder.user_roles_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u CONSTANT coder.users := coder.param_user(req);
BEGIN
	PERFORM coder.require_read('read_personal', 'user', NULL, u.id, id => u.id);
	RETURN coder.reply(200, jsonb_build_object('roles', to_jsonb(u.rbac_roles), 'organization_roles',
		coalesce((SELECT jsonb_object_agg(m.organization_id, to_jsonb(m.roles)) FROM coder.organization_members m
			WHERE m.user_id = u.id AND coder.can('read', 'organization_member', m.organization_id, u.id, id => u.id)), '{}')));
END
$$;

-- PUT /users/{user}/password: all keys of the user go.
CREATE OR REPLACE FUNCTION coder.user_password_put(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u CONSTANT coder.users := coder.param_user(req);
	body CONSTANT jsonb := coder.body(req, 'password');
	stored CONSTANT text := convert_from(u.hashed_password, 'UTF8');
	old CONSTANT text := coalesce(body->>'old_password', '');
BEGIN
	IF NOT coder.can('update_personal', 'user', NULL, u.id, id => u.id) THEN
		PERFORM coder.raise_not_found();
	ELSIF u.login_type <> 'password' THEN
		PERFORM coder.raise(400, 'Users without password login type cannot change their password.');
	END IF;
	PERFORM coder.require_owner_for(u, 'Only owners can change the password of an owner.');
	PERFORM coder.require_password(body->>'password', 'Invalid password.');
	IF u.id = coder.subject_id() AND old = '' THEN
		PERFORM coder.raise(400, 'Old password is required.');
	ELSIF old <> '' AND NOT coder.password_verify(stored, old) THEN
		PERFORM coder.raise(400, 'Old password is incorrect.', NULL,
			jsonb_build_array(coder.validation('old_password', 'Old password is incorrect.')));
	ELSIF u.id = coder.subject_id() AND coder.password_verify(stored, body->>'password') THEN
		PERFORM coder.raise(400, 'New password cannot match old password.');
	END IF;
	UPDATE coder.users x SET hashed_password = convert_to(coder.password_hash(body->>'password'), 'UTF8'), updated_at = now()
	 WHERE x.id = u.id;
	DELETE FROM coder.api_keys k WHERE k.user_id = u.id;
	RETURN coder.reply(204);
END
$$;

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

-- GET /users/{user}/login-type
CREATE OR REPLACE FUNCTION coder.user_login_type(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u CONSTANT coder.users := coder.param_user(req);
BEGIN
	IF u.id <> coder.subject_id() THEN
		PERFORM coder.raise(403, 'You are not authorized to view this user''s login type.');
	END IF;
	RETURN coder.reply(200, jsonb_build_object('login_type', u.login_type));
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

-- GET /users/oidc-claims
CREATE OR REPLACE FUNCTION coder.oidc_claims(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	claims jsonb;
BEGIN
	SELECT l.claims->'merged_claims' INTO claims FROM coder.user_links l
	 WHERE l.user_id = coder.subject_id() AND l.login_type = 'oidc';
	IF claims IS NULL THEN
		PERFORM coder.raise(400, 'User is not an OIDC user.');
	END IF;
	RETURN coder.reply(200, jsonb_build_object('claims', claims));
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

DELETE FROM coder.routes WHERE area = 'user';
INSERT INTO coder.routes (area, method, pattern, function, auth, rate, pool, read_only) VALUES
	('user', 'GET', '/api/v2/users/first', 'first_user_get', 'none', 'api', 'fast', true),
	('user', 'POST', '/api/v2/users/first', 'first_user_create', 'none', 'api', 'slow', false),
	('user', 'POST', '/api/v2/users/login', 'login', 'none', 'login', 'slow', false),
	('user', 'POST', '/api/v2/users/logout', 'logout', 'session', 'api', 'fast', false),
	('user', 'POST', '/api/v2/users/validate-password', 'validate_password', 'none', 'login', 'fast', true),
	('user', 'GET', '/api/v2/users/oidc-claims', 'oidc_claims', 'session', 'api', 'fast', true),
	('user', 'GET', '/api/v2/users', 'users_list', 'session', 'api', 'slow', true),
	('user', 'POST', '/api/v2/users', 'user_create', 'session', 'api', 'slow', false),
	('user', 'GET', '/api/v2/users/{user}', 'user_get', 'session', 'api', 'fast', true),
	('user', 'DELETE', '/api/v2/users/{user}', 'user_delete', 'session', 'api', 'fast', false),
	('user', 'PUT', '/api/v2/users/{user}/profile', 'user_profile_put', 'session', 'api', 'fast', false),
	('user', 'PUT', '/api/v2/users/{user}/status/suspend', 'user_status_put', 'session', 'api', 'fast', false),
	('user', 'PUT', '/api/v2/users/{user}/status/activate', 'user_status_put', 'session', 'api', 'fast', false),
	('user', 'GET', '/api/v2/users/{user}/roles', 'user_roles_get', 'session', 'api', 'fast', true),
	('user', 'PUT', '/api/v2/users/{user}/roles', 'user_roles_put', 'session', 'api', 'fast', false),
	('user', 'PUT', '/api/v2/users/{user}/password', 'user_password_put', 'session', 'login', 'slow', false),
	('user', 'GET', '/api/v2/users/{user}/appearance', 'user_appearance', 'session', 'api', 'fast', true),
	('user', 'PUT', '/api/v2/users/{user}/appearance', 'user_appearance', 'session', 'api', 'fast', false),
	('user', 'GET', '/api/v2/users/{user}/preferences', 'user_preferences', 'session', 'api', 'fast', true),
	('user', 'PUT', '/api/v2/users/{user}/preferences', 'user_preferences', 'session', 'api', 'fast', false),
	('user', 'GET', '/api/v2/users/{user}/login-type', 'user_login_type', 'session', 'api', 'fast', true),
	('user', 'GET', '/api/v2/users/{user}/gitsshkey', 'user_gitsshkey', 'session', 'api', 'fast', false),
	('user', 'PUT', '/api/v2/users/{user}/gitsshkey', 'user_gitsshkey', 'session', 'api', 'fast', false),
	('user', 'GET', '/api/v2/users/{user}/autofill-parameters', 'user_autofill', 'session', 'api', 'fast', true),
	('user', 'GET', '/api/v2/users/{user}/secrets', 'user_secrets_all', 'session', 'api', 'fast', true),
	('user', 'POST', '/api/v2/users/{user}/secrets', 'user_secrets_all', 'session', 'api', 'fast', false),
	('user', 'GET', '/api/v2/users/{user}/secrets/{name}', 'user_secret_one', 'session', 'api', 'fast', true),
	('user', 'PATCH', '/api/v2/users/{user}/secrets/{name}', 'user_secret_one', 'session', 'api', 'fast', false),
	('user', 'DELETE', '/api/v2/users/{user}/secrets/{name}', 'user_secret_one', 'session', 'api', 'fast', false);
