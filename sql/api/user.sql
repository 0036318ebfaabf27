-- sql/api/user.sql -- users: made, listed, changed, deleted
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

-- The SQL condition by which an index finds the users whose names or address contain a word, in lower case.  A word of
-- fewer than three bytes, or one that the planner expects in many of them, needs all of them looked at.
CREATE OR REPLACE FUNCTION coder.user_contains(word text)
RETURNS text LANGUAGE plpgsql VOLATILE	-- EXPLAIN is for such functions only
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	condition CONSTANT text := format($c$coder.grams(lower(u.username) || E'\n' || lower(u.email) || E'\n' || lower(u.name)) @> %L::int4[]$c$,
		coder.grams(word));
	plan json;
BEGIN
	IF coder.grams(word) = '{}' THEN
		RETURN 'true';
	END IF;
	EXECUTE 'EXPLAIN (FORMAT JSON) SELECT FROM coder.users u WHERE ' || condition INTO plan;
	RETURN CASE WHEN (plan->0->'Plan'->>'Plan Rows')::float8 > (SELECT c.reltuples / 20 FROM pg_class c WHERE c.oid = 'coder.users'::regclass)
		THEN 'true' ELSE condition END;
END
$$;

-- The SQL condition on coder.users u of a search that coder.user_search has checked.
CREATE OR REPLACE FUNCTION coder.user_condition(terms jsonb)
RETURNS text LANGUAGE plpgsql
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
			WHEN 'search' THEN format('(%2$s AND (coder.has_word(u.username, %1$L) OR coder.has_word(u.email, %1$L)))', lower(one), coder.user_contains(lower(one)))
			WHEN 'name' THEN format('(%2$s AND coder.has_word(u.name, %1$L))', lower(one), coder.user_contains(lower(one)))
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

DELETE FROM coder.routes WHERE area = 'user';
INSERT INTO coder.routes (area, method, pattern, function, auth, rate, pool, read_only) VALUES
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
	('user', 'GET', '/api/v2/users/{user}/login-type', 'user_login_type', 'session', 'api', 'fast', true);
