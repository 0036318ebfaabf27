-- sql/api/account.sql -- ways into an account besides the password: one-time passcodes, another login type;
-- quiet hours; accounts that nobody uses
--
-- Tables: sql/schema/user.sql.

-- An e-mail address of a body's member, in its own form or E2.
CREATE OR REPLACE FUNCTION coder.body_email(body jsonb)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT coder.email_ok(body->>'email') THEN
		PERFORM coder.raise_validations(ARRAY[coder.validation_tag('email', 'email', body->>'email')]);
	END IF;
	RETURN body->>'email';
END
$$;

-- A new one-time passcode of a user, valid for 20 minutes; only its hash is stored.
CREATE OR REPLACE FUNCTION coder.passcode_make(uid uuid)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	passcode CONSTANT text := gen_random_uuid()::text;
BEGIN
	UPDATE coder.users u SET hashed_one_time_passcode = convert_to(coder.password_hash(passcode), 'UTF8'),
		one_time_passcode_expires_at = now() + interval '20 minutes', updated_at = now()
	 WHERE u.id = uid;
	RETURN passcode;
END
$$;

-- For an administrator at psql: a passcode to hand to somebody who cannot sign in any more.  They choose a new
-- password at POST /users/otp/change-password.  Errors: no_data_found, and object_not_in_prerequisite_state for a
-- user without a password of its own.
CREATE OR REPLACE FUNCTION coder.user_passcode(who text)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u coder.users;
BEGIN
	SELECT x.* INTO u FROM coder.users x
	 WHERE NOT x.deleted AND NOT x.is_system
	   AND (x.id = coder.try_uuid(who) OR lower(x.username) = lower(who) OR (who LIKE '%@%' AND lower(x.email) = lower(who)));
	IF u.id IS NULL THEN
		RAISE no_data_found USING MESSAGE = format('there is no user "%s"', who);
	ELSIF u.login_type <> 'password' THEN
		RAISE object_not_in_prerequisite_state USING MESSAGE = format('user "%s" signs in by %s', u.username, u.login_type);
	END IF;
	RETURN coder.passcode_make(u.id);
END
$$;

-- POST /users/otp/request: 204 for any address, after the same work, so that nobody learns which addresses are known.
-- Nothing here sends mail: those who administer users are told, once while a passcode lives, and get one to hand out
-- from coder.user_passcode().
CREATE OR REPLACE FUNCTION coder.passcode_request(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body CONSTANT jsonb := coder.body(req, 'email');
	u coder.users;
BEGIN
	PERFORM coder.body_email(body);
	IF coder.setting_bool('disable_password_auth') THEN
		PERFORM coder.raise(403, 'Password authentication is disabled.');
	END IF;
	SELECT x.* INTO u FROM coder.users x
	 WHERE lower(x.email) = lower(body->>'email') AND NOT x.deleted AND NOT x.is_system AND x.login_type = 'password';
	IF u.id IS NULL THEN
		PERFORM coder.password_hash(gen_random_uuid()::text);
		RETURN coder.reply(204);
	END IF;
	PERFORM coder.passcode_make(u.id);
	IF u.one_time_passcode_expires_at IS NULL OR u.one_time_passcode_expires_at < now() THEN
		PERFORM coder.notify_user_admins('62f86a30-2330-4b61-a26d-311ff3b608cf', format('%s asks for a one-time passcode', u.username),
			format(E'The password of **%s** is to be reset.\n\nIf it was really them, give them a passcode: `SELECT coder.user_passcode(''%s'');`',
				u.username, u.username), '/deployment/users?filter=' || u.username, 'View account', u.id);
	END IF;
	PERFORM coder.audit('request_password_reset', 'user', u.id, u.username, actor => u.id);
	RETURN coder.reply(204);
END
$$;

-- POST /users/otp/change-password: the passcode is good once; all keys of the user go.
CREATE OR REPLACE FUNCTION coder.passcode_change_password(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body CONSTANT jsonb := coder.body(req, 'email', 'password', 'one_time_passcode');
	u coder.users;
BEGIN
	PERFORM coder.body_email(body);
	IF coder.setting_bool('disable_password_auth') THEN
		PERFORM coder.raise(403, 'Password authentication is disabled.');
	END IF;
	PERFORM coder.require_password(body->>'password', 'Invalid password.');
	SELECT x.* INTO u FROM coder.users x
	 WHERE lower(x.email) = lower(body->>'email') AND NOT x.deleted AND NOT x.is_system AND x.login_type = 'password'
	   FOR NO KEY UPDATE;
	IF NOT coder.password_verify(coalesce(convert_from(u.hashed_one_time_passcode, 'UTF8'), ''), body->>'one_time_passcode')
		OR u.one_time_passcode_expires_at <= now() THEN
		PERFORM coder.raise(400, 'Incorrect email or one-time passcode.');
	ELSIF coder.password_verify(convert_from(u.hashed_password, 'UTF8'), body->>'password') THEN
		PERFORM coder.raise(400, 'New password cannot match old password.');
	END IF;
	UPDATE coder.users x SET hashed_password = convert_to(coder.password_hash(body->>'password'), 'UTF8'),
		hashed_one_time_passcode = NULL, one_time_passcode_expires_at = NULL, updated_at = now()
	 WHERE x.id = u.id;
	DELETE FROM coder.api_keys k WHERE k.user_id = u.id;
	PERFORM coder.audit('write', 'user', u.id, actor => u.id);
	RETURN coder.reply(204);
END
$$;

-- The key that signs conversions of a login; made when first needed.
CREATE OR REPLACE FUNCTION coder.convert_key()
RETURNS bytea LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO coder.site_configs (key, value) SELECT 'oidc_convert_key', encode(coder.random_bytes(64), 'hex')
	 WHERE coder.site_config('oidc_convert_key') IS NULL
	ON CONFLICT DO NOTHING;
	RETURN decode((SELECT c.value FROM coder.site_configs c WHERE c.key = 'oidc_convert_key'), 'hex');
END
$$;

-- POST /users/{user}/convert-login: with the user's password, a state for the sign-in at the other provider, and a
-- cookie that ties it to this user, this deployment and five minutes.
CREATE OR REPLACE FUNCTION coder.convert_login(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u coder.users := coder.param_user(req);
	body CONSTANT jsonb := coder.body(req, 'to_type', 'password');
	wanted CONSTANT text := body->>'to_type';
	state CONSTANT text := 'convert-' || coder.random_key(32);
	expires CONSTANT timestamptz := date_trunc('second', now()) + interval '5 minutes';
	claims jsonb;
	token text;
BEGIN
	IF wanted IN ('none', 'password', 'token') THEN
		PERFORM coder.raise(400, format('Cannot convert to login type "%s".', wanted));
	ELSIF wanted NOT IN ('github', 'oidc') THEN
		PERFORM coder.raise(400, format('Unknown login type "%s".', wanted));
	END IF;
	u := coder.login_check(u.email, body->>'password');
	claims := jsonb_build_object('iss', coder.site_config('deployment_id'), 'sub', state, 'aud', jsonb_build_array(u.id),
		'exp', extract(epoch FROM expires)::bigint, 'nbf', extract(epoch FROM now())::bigint - 1,
		'iat', extract(epoch FROM now())::bigint, 'jti', gen_random_uuid(), 'user_id', u.id, 'state', state,
		'from_login_type', u.login_type, 'to_login_type', wanted);
	token := coder.jwt_sign(claims, coder.convert_key(), 'HS512', '{"kid": "1"}');
	PERFORM coder.audit('create', 'convert_login', u.id, wanted, diff => coder.audit_diff(NULL, jsonb_build_object(
		'user_id', u.id, 'from_login_type', u.login_type, 'to_login_type', wanted, 'expires_at', coder.ts(expires))));
	RETURN ROW(201, coder.compact(jsonb_build_object('state_string', state, 'expires_at', coder.ts(expires), 'to_type', wanted,
			'user_id', u.id)),
		coder.cookie('coder_oauth_convert_jwt', token, 300, 'lax'), NULL)::coder.response;
END
$$;

-- The claims of a conversion: token is the cookie's, state what came back from the provider, kind the provider's login
-- type.  ZC400 without a token, ZC403 where it is not this deployment's, expired, or of another state or provider.
CREATE OR REPLACE FUNCTION coder.convert_verify(token text, state text, kind text)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	claims jsonb;
BEGIN
	IF coalesce(token, '') = '' THEN
		PERFORM coder.raise(400, 'Convert to oauth cookie not found. Missing signed jwt to authorize this action. Please try again.');
	END IF;
	claims := coder.jwt_verify(token, coder.convert_key(), 'HS512');
	IF claims IS NULL OR claims->>'iss' IS DISTINCT FROM coder.site_config('deployment_id')
		OR claims->>'state' IS DISTINCT FROM state OR claims->>'sub' IS DISTINCT FROM state
		OR claims->>'to_login_type' IS DISTINCT FROM kind OR coder.try_uuid(claims->>'user_id') IS NULL THEN
		PERFORM coder.raise(403, 'Request to convert login type failed.',
			'The conversion is not of this deployment, this provider or this sign-in, or it has expired. Please try again.');
	END IF;
	RETURN claims;
END
$$;

-- The user's login becomes claims' provider: no password any more, and nobody is signed in.  Called behind
-- coder.convert_verify() when the provider has said who it is; linking is the caller's.  ZC403 where the user's login
-- type has changed since.
CREATE OR REPLACE FUNCTION coder.convert_finish(claims jsonb)
RETURNS uuid LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	uid CONSTANT uuid := claims->>'user_id';
BEGIN
	UPDATE coder.users u SET login_type = (claims->>'to_login_type')::coder.login_type, hashed_password = '',
		hashed_one_time_passcode = NULL, one_time_passcode_expires_at = NULL, updated_at = now()
	 WHERE u.id = uid AND u.login_type = (claims->>'from_login_type')::coder.login_type AND NOT u.deleted;
	IF NOT FOUND THEN
		PERFORM coder.raise(403, 'Request to convert login type failed.', 'The login type has changed since.');
	END IF;
	DELETE FROM coder.api_keys k WHERE k.user_id = uid AND k.login_type = 'password';
	RETURN uid;
END
$$;

-- What a daily schedule breaks, NULL where it is one: one minute and one hour, every day.
CREATE OR REPLACE FUNCTION coder.quiet_hours_error(schedule text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	p record;
BEGIN
	SELECT * INTO p FROM coder.schedule_parse(schedule);
	IF p.error IS NOT NULL THEN
		RETURN replace(p.error, 'weekly', 'daily');
	ELSIF btrim(schedule) !~ '\s\*\s+\*\s+\*$' THEN
		RETURN 'validate daily schedule: expected day-of-month, month and day-of-week to be *';
	ELSIF cardinality(p.minutes) <> 1 OR cardinality(p.hours) <> 1 THEN
		RETURN format('daily schedule "%s" has more than one time', schedule);
	END IF;
	RETURN NULL;
END
$$;

-- The daily schedule by which a user's workspaces may be stopped: the user's own, if that is allowed, or the deployment's.
CREATE OR REPLACE FUNCTION coder.quiet_hours(own text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	def CONSTANT text := coalesce(nullif(coder.setting('quiet_hours_default_schedule'), ''), 'CRON_TZ=UTC 0 0 * * *');
BEGIN
	IF own <> '' AND coder.setting_bool('allow_custom_quiet_hours', true) THEN
		RETURN own;
	END IF;
	RETURN CASE WHEN coder.quiet_hours_error(def) IS NULL THEN def ELSE 'CRON_TZ=UTC 0 0 * * *' END;
END
$$;

-- UserQuietHoursScheduleResponse
CREATE OR REPLACE FUNCTION coder.quiet_hours_json(u coder.users)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	custom CONSTANT bool := coder.setting_bool('allow_custom_quiet_hours', true);
	schedule CONSTANT text := coder.quiet_hours(u.quiet_hours_schedule);
	p record;
BEGIN
	SELECT * INTO p FROM coder.schedule_parse(schedule);
	RETURN jsonb_build_object('raw_schedule', schedule, 'user_set', custom AND u.quiet_hours_schedule <> '', 'user_can_set', custom,
		'time', to_char(make_time(p.hours[1], p.minutes[1], 0), 'HH24:MI'), 'timezone', p.zone,
		'next', coder.ts(coder.schedule_next(schedule, now())));
END
$$;

-- GET and PUT /users/{user}/quiet-hours
CREATE OR REPLACE FUNCTION coder.user_quiet_hours(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u coder.users := coder.param_user(req);
	body jsonb;
	why text;
BEGIN
	IF req.method = 'PUT' THEN
		body := coder.body(req, 'schedule');
		PERFORM coder.body_type(body, 'schedule', 'string');
		PERFORM coder.require_read('update_personal', 'user', NULL, u.id, id => u.id);
		IF NOT coder.setting_bool('allow_custom_quiet_hours', true) THEN
			PERFORM coder.raise(403, 'Users cannot set custom quiet hours schedule due to deployment configuration.');
		END IF;
		why := coder.quiet_hours_error(body->>'schedule');
		IF why IS NOT NULL THEN
			PERFORM coder.raise(400, 'Invalid quiet hours schedule.', why, jsonb_build_array(coder.validation('schedule', why)));
		END IF;
		UPDATE coder.users x SET quiet_hours_schedule = body->>'schedule', updated_at = now() WHERE x.id = u.id;
		u.quiet_hours_schedule := body->>'schedule';
	END IF;
	RETURN coder.reply(200, coder.quiet_hours_json(u));
END
$$;

-- Puts to rest active users whom nobody has seen for as long as user_dormancy_threshold says (90 days; 0: never); how
-- many.  Any request of theirs, or a login, makes them active again.  Part of coder.tick().
CREATE OR REPLACE FUNCTION coder.tick_users(at timestamptz)
RETURNS int4 LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	life CONSTANT bigint := coder.setting_seconds('user_dormancy_threshold', 7776000);
	done int4;
BEGIN
	IF life <= 0 THEN
		RETURN 0;
	END IF;
	PERFORM coder.audit_as('dormancy');
	UPDATE coder.users x SET status = 'dormant', updated_at = at
	 WHERE x.id IN (SELECT y.id FROM coder.users y
					 WHERE y.status = 'active' AND NOT y.deleted AND NOT y.is_system
					   AND y.last_seen_at < at - make_interval(secs => life) AND y.created_at < at - make_interval(secs => life)
					   FOR NO KEY UPDATE SKIP LOCKED LIMIT 1000);
	GET DIAGNOSTICS done = ROW_COUNT;
	PERFORM coder.audit_as(NULL);
	RETURN done;
END
$$;

-- What a gateway has counted in a minute, and what others have: of each row (its number), the counts of the same user or
-- address on the same path from other gateways and by the user's other tokens, in this minute and the one before.  Keys are
-- "k<id of an API key>" and "a<address>".
CREATE OR REPLACE FUNCTION coder.rate_exchange(gateway text, minute bigint, keys text[], paths bigint[], counts int4[])
RETURNS TABLE (i bigint, others bigint, before bigint) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	DELETE FROM coder.rate_counts c WHERE c.minute < rate_exchange.minute - 1;
	RETURN QUERY WITH given AS (
		SELECT r.i, CASE WHEN r.key LIKE 'k%' THEN k.user_id::text ELSE r.key END AS who, r.path, r.count,
			gateway || ':' || CASE WHEN r.key LIKE 'k%' THEN r.key ELSE '' END AS source
		  FROM unnest(keys, paths, counts) WITH ORDINALITY r (key, path, count, i)
		  LEFT JOIN coder.api_keys k ON k.id = substr(r.key, 2)
	), told AS (
		INSERT INTO coder.rate_counts AS c (who, path, minute, source, count)
		SELECT g.who, g.path, rate_exchange.minute, g.source, g.count FROM given g WHERE g.who IS NOT NULL
		ON CONFLICT ON CONSTRAINT rate_counts_pkey DO UPDATE SET count = excluded.count
	)
	SELECT g.i, coalesce(sum(c.count) FILTER (WHERE c.minute = rate_exchange.minute), 0),
		coalesce(sum(c.count) FILTER (WHERE c.minute = rate_exchange.minute - 1), 0)
	  FROM given g JOIN coder.rate_counts c ON c.who = g.who AND c.path = g.path AND c.source <> g.source
	 GROUP BY g.i;
END
$$;

DELETE FROM coder.routes WHERE area = 'account';
INSERT INTO coder.routes (area, method, pattern, function, auth, rate, pool, read_only) VALUES
	('account', 'POST', '/api/v2/users/otp/request', 'passcode_request', 'none', 'login', 'slow', false),
	('account', 'POST', '/api/v2/users/otp/change-password', 'passcode_change_password', 'none', 'login', 'slow', false),
	('account', 'POST', '/api/v2/users/{user}/convert-login', 'convert_login', 'session', 'login', 'slow', false),
	('account', 'GET', '/api/v2/users/{user}/quiet-hours', 'user_quiet_hours', 'session', 'api', 'fast', true),
	('account', 'PUT', '/api/v2/users/{user}/quiet-hours', 'user_quiet_hours', 'session', 'api', 'fast', false);
