-- sql/api/oidc.sql -- signing in with OpenID Connect: authorization code, PKCE, nonce
--
-- The way of GET /users/oidc/callback: oidc_callback -> (oidc_discovered) -> the browser goes to the provider and comes back ->
-- oidc_callback -> oidc_exchanged -> (oidc_keyed) -> (oidc_informed) -> coder.oauth_login.  In brackets: only when needed.
-- Settings are the reference's CODER_OIDC_*.  Tables: sql/schema/signin.sql.

-- Is there a provider?
CREATE OR REPLACE FUNCTION coder.oidc_configured()
RETURNS bool LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce(coder.setting('oidc_issuer_url'), '') <> '' AND coalesce(coder.setting('oidc_client_id'), '') <> '';
END
$$;

-- Where the provider sends the browser back to.
CREATE OR REPLACE FUNCTION coder.oidc_redirect_uri()
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN rtrim(coalesce(nullif(coder.setting('oidc_redirect_url'), ''), coder.setting('access_url')), '/') || '/api/v2/users/oidc/callback';
END
$$;

-- What the provider says of itself, not older than an hour; NULL where it must be asked.
CREATE OR REPLACE FUNCTION coder.oidc_discovery()
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT p.discovery FROM coder.oidc_providers p
		WHERE p.issuer = coder.setting('oidc_issuer_url') AND p.discovered_at > now() - interval '1 hour');
END
$$;

-- Does it understand PKCE with S256?
CREATE OR REPLACE FUNCTION coder.oidc_pkce(discovery jsonb)
RETURNS bool LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce(discovery->'code_challenge_methods_supported' ? 'S256', false);
END
$$;

-- GET /users/oidc/callback: without a code the way to the provider, with one the way back.
CREATE OR REPLACE FUNCTION coder.oidc_callback(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	discovery CONSTANT jsonb := coder.oidc_discovery();
BEGIN
	IF NOT coder.oidc_configured() THEN
		PERFORM coder.raise(400, 'The oauth2 method requested is not configured!');
	END IF;
	PERFORM coder.oauth_check_error(req);
	IF coalesce(req.query->>'code', '') <> '' THEN
		PERFORM coder.oauth_check_state(req, false);
	END IF;
	IF discovery IS NULL THEN
		RETURN coder.fetch('oidc_discovered', 'null',
			coder.fetch_get(rtrim(coder.setting('oidc_issuer_url'), '/') || '/.well-known/openid-configuration', max_size => 262144, timeout_ms => 5000));
	END IF;
	RETURN coder.oidc_go(req, discovery);
END
$$;

-- The discovery document has come: kept if it is the provider's own and complete; ZC500.
CREATE OR REPLACE FUNCTION coder.oidc_discovered(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	issuer CONSTANT text := coder.setting('oidc_issuer_url');
	result CONSTANT jsonb := (coder.fetched(req)).results->0;
	discovery CONSTANT jsonb := coder.fetched_object(result);
	endpoint text;
	message CONSTANT text := 'The OpenID Connect provider cannot be used.';
BEGIN
	IF discovery IS NULL THEN
		PERFORM coder.raise(500, message, 'Its discovery document could not be fetched: ' || coder.fetched_error(result));
	ELSIF discovery->>'issuer' IS DISTINCT FROM issuer AND NOT coder.setting_bool('dangerous_oidc_skip_issuer_checks') THEN
		PERFORM coder.raise(500, message, format('Its discovery document is of the issuer "%s", not of "%s".', left(discovery->>'issuer', 200), issuer));
	END IF;
	FOREACH endpoint IN ARRAY ARRAY['authorization_endpoint', 'token_endpoint', 'jwks_uri'] LOOP
		IF coalesce(discovery->>endpoint, '') !~ (CASE WHEN issuer LIKE 'https://%' THEN '^https://' ELSE '^https?://' END) THEN
			PERFORM coder.raise(500, message, format('Its discovery document has no usable "%s".', endpoint));
		END IF;
	END LOOP;
	INSERT INTO coder.oidc_providers AS p (issuer, discovery, discovered_at) VALUES (issuer, discovery, now())
	ON CONFLICT ON CONSTRAINT oidc_providers_pkey DO UPDATE SET discovery = excluded.discovery, discovered_at = now();
	RETURN coder.oidc_go(req, discovery);
END
$$;

-- To the provider, or with its code to its token endpoint.
CREATE OR REPLACE FUNCTION coder.oidc_go(req coder.request, discovery jsonb)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	scopes CONSTANT text := array_to_string(coder.setting_list('oidc_scopes'), ' ');
	params CONSTANT jsonb := coalesce(coder.try_json(nullif(coder.setting('oidc_auth_url_params'), '')), '{"access_type": "offline"}');
	pkce CONSTANT bool := coder.oidc_pkce(discovery);
	id CONSTANT text := coder.setting('oidc_client_id');
	form jsonb;
BEGIN
	IF coalesce(req.query->>'code', '') = '' THEN
		RETURN coder.oauth_begin(req, coder.url_with(discovery->>'authorization_endpoint', jsonb_build_object('response_type', 'code',
			'client_id', id, 'redirect_uri', coder.oidc_redirect_uri(), 'scope', coalesce(nullif(scopes, ''), 'openid profile email'))
			|| CASE WHEN jsonb_typeof(params) = 'object' THEN params ELSE '{}' END), pkce, true);
	END IF;
	form := jsonb_build_object('grant_type', 'authorization_code', 'code', req.query->>'code', 'redirect_uri', coder.oidc_redirect_uri(),
		'code_verifier', coder.oauth_check_state(req, pkce));
	RETURN coder.fetch('oidc_exchanged', 'null', coder.fetch_counted(coder.oidc_client_form(discovery, form), 'oidc-login', 'Exchange'));
END
$$;

-- A request to a token endpoint that says who asks: in the Authorization header, or in the form.
CREATE OR REPLACE FUNCTION coder.oauth_client_form(url text, form jsonb, client text, secret text, in_form bool)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF in_form OR secret = '' THEN
		RETURN coder.fetch_form(url, form || jsonb_build_object('client_id', client, 'client_secret', nullif(secret, '')));
	END IF;
	RETURN coder.fetch_form(url, form, jsonb_build_object('Authorization', 'Basic ' || replace(encode(convert_to(
		coder.url_encode(client) || ':' || coder.url_encode(secret), 'UTF8'), 'base64'), E'\n', '')));
END
$$;

-- A form for the OpenID Connect provider's token endpoint, with what proves that it comes from this server: a word signed
-- with the client's key, where there is one (private_key_jwt), or the client's secret.
CREATE OR REPLACE FUNCTION coder.oidc_client_form(discovery jsonb, form jsonb)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	client CONSTANT text := coder.setting('oidc_client_id');
	url CONSTANT text := discovery->>'token_endpoint';
	key CONSTANT text := coder.secret_setting('oidc_client_key');
	at CONSTANT bigint := floor(extract(epoch FROM clock_timestamp()));
BEGIN
	IF key IS NULL THEN
		RETURN coder.oauth_client_form(url, form, client, coalesce(coder.secret_setting('oidc_client_secret'), ''),
			NOT coalesce(discovery->'token_endpoint_auth_methods_supported', '["client_secret_basic"]') ? 'client_secret_basic');
	END IF;
	RETURN coder.fetch_form(url, form || jsonb_build_object('client_id', client,
		'client_assertion_type', 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
		'client_assertion', coder.jwt_sign(jsonb_build_object('iss', client, 'sub', client, 'aud', url, 'jti', gen_random_uuid(),
				'iat', at, 'nbf', at, 'exp', at + 300), convert_to(key, 'UTF8'), 'RS256',
			jsonb_build_object('x5t', coder.secret_setting('oidc_client_x5t')))));
END
$$;

-- Claims of an ID token that a key of the set has signed, for this client, this issuer, this sign-in, now; else what is wrong.
-- unknown: its key is not in the set.
CREATE OR REPLACE FUNCTION coder.oidc_verify(raw text, jwks jsonb, discovery jsonb, client text, nonce text, OUT claims jsonb, OUT error text, OUT unknown bool)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	header CONSTANT jsonb := coder.jwt_header(raw);
	alg CONSTANT text := header->>'alg';
	candidate jsonb;
	key bytea;
	seconds CONSTANT numeric := extract(epoch FROM now());
BEGIN
	unknown := false;
	IF header IS NULL THEN
		error := 'malformed token';
	ELSIF alg IS NULL OR alg NOT IN ('RS256', 'ES256', 'EdDSA')
		OR NOT coalesce(discovery->'id_token_signing_alg_values_supported', '["RS256", "ES256", "EdDSA"]') ? alg THEN
		error := format('signed with an algorithm that is not accepted: "%s"', left(alg, 20));
	END IF;
	IF error IS NOT NULL THEN
		RETURN;
	END IF;
	unknown := true;
	FOR candidate IN SELECT k.v FROM jsonb_array_elements(CASE WHEN jsonb_typeof(jwks->'keys') = 'array' THEN jwks->'keys' ELSE '[]' END) k (v)
		WHERE (NOT header ? 'kid' OR k.v->>'kid' = header->>'kid') AND coalesce(k.v->>'use', 'sig') = 'sig' AND coalesce(k.v->>'alg', alg) = alg LIMIT 20
	LOOP
		key := coder.jwk_key(candidate, alg);
		unknown := unknown AND (key IS NULL OR NOT header ? 'kid');
		claims := coder.jwt_open(raw, key, alg);
		EXIT WHEN claims IS NOT NULL;
	END LOOP;
	IF claims IS NULL THEN
		error := CASE WHEN unknown THEN 'signed with a key that the provider does not publish' ELSE 'the signature is wrong' END;
		RETURN;
	END IF;
	unknown := false;
	IF claims->>'iss' IS DISTINCT FROM coder.setting('oidc_issuer_url') AND NOT coder.setting_bool('dangerous_oidc_skip_issuer_checks') THEN
		error := format('issued by "%s"', left(claims->>'iss', 200));
	ELSIF NOT coalesce(CASE WHEN jsonb_typeof(claims->'aud') IN ('string', 'array') THEN claims->'aud' ? client END, false) THEN
		error := 'meant for another client';
	ELSIF claims ? 'azp' AND claims->>'azp' IS DISTINCT FROM client AND jsonb_typeof(claims->'aud') = 'array' AND jsonb_array_length(claims->'aud') > 1 THEN
		error := 'given to another client';
	ELSIF jsonb_typeof(claims->'exp') IS DISTINCT FROM 'number' OR (claims->>'exp')::numeric <= seconds THEN
		error := 'expired';
	ELSIF claims ? 'nbf' AND (jsonb_typeof(claims->'nbf') <> 'number' OR (claims->>'nbf')::numeric > seconds + 300) THEN
		error := 'not valid yet';
	ELSIF nonce IS NULL OR claims->>'nonce' IS DISTINCT FROM nonce THEN
		error := 'the nonce is not that of this sign-in';
	END IF;
	IF error IS NOT NULL THEN
		claims := NULL;
	END IF;
END
$$;

-- The token endpoint has answered: its ID token is verified, with new keys where it names one that is not known.
CREATE OR REPLACE FUNCTION coder.oidc_exchanged(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	token CONSTANT jsonb := coder.oauth_token((coder.fetched(req)).results->0);
	p coder.oidc_providers;
	verified record;
BEGIN
	IF jsonb_typeof(token->'id_token') IS DISTINCT FROM 'string' THEN
		PERFORM coder.raise(400, 'id_token not found in response payload. Ensure your OIDC callback is configured correctly!');
	END IF;
	SELECT x.* INTO p FROM coder.oidc_providers x WHERE x.issuer = coder.setting('oidc_issuer_url');
	SELECT v.* INTO verified FROM coder.oidc_verify(token->>'id_token', CASE WHEN p.jwks_at > now() - interval '1 hour' THEN p.jwks END,
		p.discovery, coder.setting('oidc_client_id'), coder.request_cookie(req, 'oauth_nonce')) v;
	IF verified.unknown THEN
		-- Whoever sends keys that nobody knows makes the provider be asked no more than every ten seconds.
		UPDATE coder.oidc_providers x SET jwks_tried_at = now() WHERE x.issuer = p.issuer AND (x.jwks_tried_at < now() - interval '10 seconds'
			OR x.jwks IS NULL);
		IF FOUND THEN
			RETURN coder.fetch('oidc_keyed', token, coder.fetch_get(p.discovery->>'jwks_uri', max_size => 524288));
		END IF;
	END IF;
	RETURN coder.oidc_verified(req, token, verified.claims, verified.error);
END
$$;

-- New keys have come.
CREATE OR REPLACE FUNCTION coder.oidc_keyed(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	token CONSTANT jsonb := (coder.fetched(req)).state;
	result CONSTANT jsonb := (coder.fetched(req)).results->0;
	fresh CONSTANT jsonb := coder.fetched_object(result);
	p coder.oidc_providers;
	verified record;
BEGIN
	IF jsonb_typeof(fresh->'keys') IS DISTINCT FROM 'array' OR jsonb_array_length(fresh->'keys') > 100 THEN
		PERFORM coder.raise(500, 'Failed to verify OIDC token.', 'The provider''s keys could not be fetched: '
			|| CASE WHEN fresh IS NULL THEN coder.fetched_error(result) ELSE 'no set of keys, or too many' END);
	END IF;
	UPDATE coder.oidc_providers x SET jwks = fresh, jwks_at = now() WHERE x.issuer = coder.setting('oidc_issuer_url') RETURNING x.* INTO p;
	SELECT v.* INTO verified FROM coder.oidc_verify(token->>'id_token', fresh, p.discovery, coder.setting('oidc_client_id'),
		coder.request_cookie(req, 'oauth_nonce')) v;
	RETURN coder.oidc_verified(req, token, verified.claims, verified.error);
END
$$;

-- The ID token is good, or the sign-in ends; the user's other claims come from the provider unless that is turned off.
CREATE OR REPLACE FUNCTION coder.oidc_verified(req coder.request, token jsonb, claims jsonb, error text)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	discovery CONSTANT jsonb := (SELECT p.discovery FROM coder.oidc_providers p WHERE p.issuer = coder.setting('oidc_issuer_url'));
	userinfo CONSTANT text := discovery->>'userinfo_endpoint';
	others jsonb;
BEGIN
	IF claims IS NULL THEN
		PERFORM coder.raise(400, 'Failed to verify OIDC token.', error);
	ELSIF jsonb_typeof(claims->'sub') IS DISTINCT FROM 'string' OR claims->>'sub' = '' THEN
		PERFORM coder.raise(400, 'OIDC token missing ''sub'' claim field or ''sub'' claim field is empty.');
	END IF;
	IF coder.setting_bool('oidc_access_token_claims') THEN
		others := coder.oidc_access_claims(token->>'access_token', discovery);
	ELSIF NOT coder.setting_bool('oidc_ignore_userinfo') AND userinfo ~ '^https?://' THEN
		RETURN coder.fetch('oidc_informed', jsonb_build_object('token', token, 'claims', claims),
			coder.fetch_get(userinfo, jsonb_build_object('Authorization', 'Bearer ' || (token->>'access_token'))));
	END IF;
	RETURN coder.oidc_finish(req, token, claims, others, coalesce(others, '{}') || claims);
END
$$;

-- The claims of an access token that is a JWT of the same provider: in force instead of its UserInfo.
CREATE OR REPLACE FUNCTION coder.oidc_access_claims(raw text, discovery jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	header CONSTANT jsonb := coder.jwt_header(raw);
	jwks CONSTANT jsonb := (SELECT p.jwks FROM coder.oidc_providers p WHERE p.issuer = coder.setting('oidc_issuer_url'));
	claims jsonb;
BEGIN
	IF header->>'alg' IN ('RS256', 'ES256', 'EdDSA') THEN
		SELECT c.claims INTO claims FROM jsonb_array_elements(jwks->'keys') k (v),
			LATERAL (SELECT coder.jwt_open(raw, coder.jwk_key(k.v, header->>'alg'), header->>'alg')) c (claims)
		 WHERE (NOT header ? 'kid' OR k.v->>'kid' = header->>'kid') AND c.claims IS NOT NULL LIMIT 1;
	END IF;
	IF claims IS NULL OR claims->>'iss' IS DISTINCT FROM coder.setting('oidc_issuer_url')
		OR NOT coalesce((claims->>'exp')::numeric > extract(epoch FROM now()), false) THEN
		PERFORM coder.raise(400, 'Failed to verify access token.', 'It is no JSON Web Token of the provider that is valid now.');
	END IF;
	RETURN claims;
EXCEPTION WHEN invalid_text_representation OR invalid_parameter_value THEN
	PERFORM coder.raise(400, 'Failed to verify access token.', 'It is malformed.');
END
$$;

-- UserInfo has come; it must be of the same user.  What it says wins.
CREATE OR REPLACE FUNCTION coder.oidc_informed(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	state CONSTANT jsonb := (coder.fetched(req)).state;
	result CONSTANT jsonb := (coder.fetched(req)).results->0;
	info CONSTANT jsonb := coder.fetched_object(result);
BEGIN
	IF info IS NULL THEN
		PERFORM coder.raise(500, 'Failed to obtain user information claims.', coder.fetched_error(result));
	ELSIF info ? 'sub' AND info->>'sub' IS DISTINCT FROM state->'claims'->>'sub' THEN
		PERFORM coder.raise(400, 'Failed to obtain user information claims.', 'They are another user''s.');
	END IF;
	RETURN coder.oidc_finish(req, state->'token', state->'claims', info, state->'claims' || info);
END
$$;

-- A claim that is text.
CREATE OR REPLACE FUNCTION coder.claim_text(claims jsonb, name text)
RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE WHEN jsonb_typeof(claims->name) = 'string' THEN nullif(claims->>name, '') END;
END
$$;

-- The user that the claims describe signs in: address and groups must be among those that may.
-- claims: of the ID token, others: of UserInfo or the access token, merged: of both.
CREATE OR REPLACE FUNCTION coder.oidc_finish(req coder.request, token jsonb, claims jsonb, others jsonb, merged jsonb)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	username text := coder.claim_text(merged, coalesce(nullif(coder.setting('oidc_username_field'), ''), 'preferred_username'));
	email text := coder.claim_text(merged, coalesce(nullif(coder.setting('oidc_email_field'), ''), 'email'));
	domains CONSTANT text[] := coder.setting_list('oidc_email_domain');
	allowed CONSTANT text[] := coder.setting_list('oidc_allowed_groups');
	groups CONSTANT text[] := coder.claim_list(merged, coalesce(nullif(coder.setting('oidc_group_field'), ''), 'groups'));
	avatar CONSTANT text := coder.claim_text(merged, 'picture');
BEGIN
	IF email IS NULL THEN
		IF username IS NULL OR NOT coder.email_ok(username) THEN
			PERFORM coder.raise(400, 'No email found in OIDC payload!');
		END IF;
		email := username;
	ELSIF NOT coder.email_ok(email) THEN
		PERFORM coder.raise(400, 'The email in the OIDC payload is malformed.');
	END IF;
	IF lower(merged->>'email_verified') IN ('false', '0') AND NOT coder.setting_bool('oidc_ignore_email_verified') THEN
		RETURN coder.signin_page(403, 'Email not verified', format('The provider has not verified the address "%s". Verify it there, then sign in again.', email));
	ELSIF cardinality(domains) > 0 AND NOT EXISTS (SELECT 1 FROM unnest(domains) d WHERE lower(ltrim(d, '@')) = lower(regexp_replace(email, '^.*@', ''))) THEN
		RETURN coder.signin_page(403, 'Unauthorized email', format('Addresses such as "%s" may not sign in here. Ask an administrator of this deployment.', email));
	ELSIF cardinality(allowed) > 0 AND NOT allowed && groups THEN
		RETURN coder.signin_page(403, 'Not a member of an allowed group', 'Ask an administrator to add you to one of the groups that may sign in.');
	END IF;
	RETURN coder.oauth_login(req, 'oidc', jsonb_build_object(
			'linked_id', (claims->>'iss') || '||' || (claims->>'sub'), 'email', email,
			'username', coder.username_from(CASE WHEN coder.name_ok(coalesce(username, '')) THEN username ELSE email END),
			'name', coder.claim_text(merged, coalesce(nullif(coder.setting('oidc_name_field'), ''), 'name')),
			'avatar_url', CASE WHEN avatar ~ '^https?://' THEN avatar END,
			'allow_signups', coder.setting_bool('oidc_allow_signups', true)),
		token, jsonb_build_object('id_token_claims', claims, 'user_info_claims', coalesce(others, '{}'), 'merged_claims', merged), merged);
END
$$;

-- A user's access token of the provider, for builds; "" where there is none, it has ended, or this session lacks its key.
CREATE OR REPLACE FUNCTION coder.oidc_access_token(uid uuid)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce((SELECT coder.unseal(l.oauth_access_token, l.oauth_access_token_key_id) FROM coder.user_links l
		WHERE l.user_id = uid AND l.login_type = 'oidc' AND (l.oauth_expiry <= '0001-01-02' OR l.oauth_expiry > now())
		  AND coalesce(l.oauth_access_token_key_id = ANY (coder.seal_key_ids()), true)), '');
END
$$;

-- GET /debug/{user}/debug-link: the claims that a user signed in with.
CREATE OR REPLACE FUNCTION coder.debug_link(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u CONSTANT coder.users := coder.param_user(req);
	claims CONSTANT jsonb := (SELECT l.claims FROM coder.user_links l WHERE l.user_id = u.id AND l.login_type = 'oidc');
BEGIN
	IF u.login_type <> 'oidc' OR claims IS NULL THEN
		PERFORM coder.raise(400, 'User is not an OIDC user.');
	END IF;
	RETURN coder.reply(200, jsonb_build_object('id_token_claims', claims->'id_token_claims', 'user_info_claims', claims->'user_info_claims',
		'merged_claims', claims->'merged_claims'));
END
$$;

DELETE FROM coder.routes WHERE area = 'oidc';
INSERT INTO coder.routes (area, method, pattern, function, access, read_only) VALUES
	('oidc', 'GET', '/api/v2/debug/{user}/debug-link', 'debug_link', 'debug_info:read', true);
