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
	UPDATE coder.api_keys k SET last_used = now(), updated_at = now(), ip_address = addr,
		expires_at = CASE
			WHEN refresh AND k.expires_at - now() <= make_interval(secs => k.lifetime_seconds) - interval '1 hour'
				AND coalesce(coder.setting('disable_session_expiry_refresh'), 'false') <> 'true'
			THEN now() + make_interval(secs => k.lifetime_seconds)
			ELSE k.expires_at END
	 WHERE k.id = key_id AND k.expires_at > now()
	RETURNING k.expires_at, k.user_id INTO expires, uid;
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
