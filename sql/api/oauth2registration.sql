-- SPDX-License-Identifier: MIT
--
-- oauth2registration.sql
--   Dynamic registration of OAuth 2.0 clients and its management (RFC 7591, 7592).

-- A list of texts in a registration; def where it is absent.
CREATE OR REPLACE FUNCTION coder.oauth2_text_list(body jsonb, field text, def text[])
RETURNS text[] LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF coalesce(jsonb_typeof(body->field), 'null') = 'null' OR body->field = '[]' THEN
		RETURN def;
	ELSIF jsonb_typeof(body->field) <> 'array' OR jsonb_array_length(body->field) > 64
		OR EXISTS (SELECT FROM jsonb_array_elements(body->field) e WHERE jsonb_typeof(e) <> 'string' OR length(e::text) > 2050) THEN
		PERFORM coder.oauth2_raise(400, 'invalid_client_metadata', format('%s must be a list of at most 64 short strings', field));
	END IF;
	RETURN ARRAY(SELECT jsonb_array_elements_text(body->field));
END
$$;

-- ZO400 unless a redirect URI may be registered: https, or http to this machine, or an application's own scheme.
CREATE OR REPLACE FUNCTION coder.oauth2_check_redirect(uri text, at int4, public_client bool)
RETURNS void LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	scheme CONSTANT text := lower(substring(uri FROM '^([A-Za-z][A-Za-z0-9+.-]*):'));
	host CONSTANT text := lower(substring(uri FROM '^[A-Za-z]+://(?:[^@/?#]*@)?(\[[^]]*\]|[^/:?#]*)'));
	loopback CONSTANT bool := coalesce(host IN ('localhost', '127.0.0.1', '[::1]'), false);
	why text;
BEGIN
	why := CASE
		WHEN uri = '' THEN 'cannot be empty'
		WHEN scheme IS NULL THEN 'must have a scheme'
		WHEN scheme = 'urn' AND uri <> 'urn:ietf:wg:oauth:2.0:oob' THEN 'uses unsupported URN scheme'
		WHEN coder.oauth2_scheme_dangerous(uri) THEN format('uses dangerous scheme %s which is not allowed', scheme)
		WHEN strpos(uri, '#') > 0 THEN 'must not contain a fragment component'
		WHEN uri ~ '[[:space:][:cntrl:]]' THEN 'is not a valid URL'
		WHEN scheme IN ('http', 'https') AND coalesce(host, '') = '' THEN 'must have a host'
		WHEN scheme = 'http' AND NOT loopback AND public_client
			THEN 'public clients may only use http with loopback addresses (127.0.0.1, ::1, localhost)'
		WHEN scheme = 'http' AND NOT loopback THEN 'must use https scheme for non-localhost URLs'
		WHEN scheme NOT IN ('http', 'https', 'urn') AND public_client AND strpos(scheme, '.') = 0
			THEN format('custom scheme %s should use reverse domain notation (e.g. com.example.app)', scheme)
		END;
	IF why IS NOT NULL THEN
		PERFORM coder.oauth2_raise(400, 'invalid_client_metadata', format('invalid redirect_uris: redirect_uri at index %s %s', at, why));
	END IF;
END
$$;

-- What a registration asks for, checked (RFC 7591 section 2), as a row that is not yet stored.  Raises ZO400.
CREATE OR REPLACE FUNCTION coder.oauth2_registration(req coder.request)
RETURNS coder.oauth2_provider_apps LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body CONSTANT jsonb := CASE WHEN jsonb_typeof(req.body) = 'object' THEN req.body END;
	a coder.oauth2_provider_apps;
	field text;
BEGIN
	IF body IS NULL THEN
		PERFORM coder.oauth2_raise(400, 'invalid_client_metadata', 'The request must be a JSON object');
	END IF;
	FOREACH field IN ARRAY '{client_name,client_uri,logo_uri,tos_uri,policy_uri,jwks_uri,software_id,software_version,scope,token_endpoint_auth_method}'::text[] LOOP
		IF coalesce(jsonb_typeof(body->field), 'null') NOT IN ('null', 'string') OR length(body->>field) > 2048 THEN
			PERFORM coder.oauth2_raise(400, 'invalid_client_metadata', format('%s must be a string of at most 2048 characters', field));
		ELSIF field LIKE '%\_uri' AND coalesce(body->>field, '') <> '' AND body->>field !~* '^https?://[^/?#[:space:]]+[^[:space:]]*$' THEN
			PERFORM coder.oauth2_raise(400, 'invalid_client_metadata', format('%s must be an absolute URL with http or https scheme', field));
		END IF;
	END LOOP;
	a.token_endpoint_auth_method := coalesce(nullif(body->>'token_endpoint_auth_method', ''), 'client_secret_basic');
	IF a.token_endpoint_auth_method NOT IN ('client_secret_basic', 'client_secret_post', 'none') THEN
		PERFORM coder.oauth2_raise(400, 'invalid_client_metadata', format('unsupported token endpoint auth method: %s', a.token_endpoint_auth_method));
	END IF;
	a.client_type := CASE a.token_endpoint_auth_method WHEN 'none' THEN 'public' ELSE 'confidential' END;
	a.redirect_uris := coder.oauth2_text_list(body, 'redirect_uris', '{}');
	IF cardinality(a.redirect_uris) = 0 THEN
		PERFORM coder.oauth2_raise(400, 'invalid_client_metadata', 'redirect_uris is required for authorization code flow');
	END IF;
	FOR i IN 1 .. cardinality(a.redirect_uris) LOOP
		PERFORM coder.oauth2_check_redirect(a.redirect_uris[i], i - 1, a.client_type = 'public');
	END LOOP;
	a.callback_url := a.redirect_uris[1];
	a.grant_types := coder.oauth2_text_list(body, 'grant_types', '{authorization_code,refresh_token}');
	IF NOT a.grant_types <@ '{authorization_code,refresh_token}' OR NOT 'authorization_code' = ANY (a.grant_types) THEN
		PERFORM coder.oauth2_raise(400, 'invalid_client_metadata', 'invalid grant_types: authorization_code is needed, and refresh_token is the only other supported');
	END IF;
	a.response_types := coder.oauth2_text_list(body, 'response_types', '{code}');
	IF a.response_types <> '{code}' THEN
		PERFORM coder.oauth2_raise(400, 'invalid_client_metadata', 'invalid response_types: only code is supported');
	END IF;
	a.name := left(coalesce(nullif(trim(body->>'client_name'), ''), 'Dynamically Registered Client'), 64);
	a.scope := coalesce(body->>'scope', '');
	a.contacts := coder.oauth2_text_list(body, 'contacts', '{}');
	a.client_uri := nullif(body->>'client_uri', '');
	a.logo_uri := nullif(body->>'logo_uri', '');
	a.icon := CASE WHEN length(a.logo_uri) <= 256 THEN a.logo_uri ELSE '' END;
	a.tos_uri := nullif(body->>'tos_uri', '');
	a.policy_uri := nullif(body->>'policy_uri', '');
	a.jwks_uri := nullif(body->>'jwks_uri', '');
	a.jwks := nullif(body->'jwks', 'null');
	a.software_id := nullif(body->>'software_id', '');
	a.software_version := nullif(body->>'software_version', '');
	RETURN a;
END
$$;

-- OAuth2ClientConfiguration
CREATE OR REPLACE FUNCTION coder.oauth2_client_json(a coder.oauth2_provider_apps)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_strip_nulls(jsonb_build_object('client_id', a.id, 'client_id_issued_at', floor(extract(epoch FROM a.client_id_issued_at))::bigint,
		'client_secret_expires_at', coalesce(floor(extract(epoch FROM a.client_secret_expires_at))::bigint, 0),
		'redirect_uris', to_jsonb(a.redirect_uris), 'client_name', a.name, 'client_uri', a.client_uri, 'logo_uri', a.logo_uri,
		'tos_uri', a.tos_uri, 'policy_uri', a.policy_uri, 'jwks_uri', a.jwks_uri, 'jwks', a.jwks, 'software_id', a.software_id,
		'software_version', a.software_version, 'grant_types', to_jsonb(a.grant_types), 'response_types', to_jsonb(a.response_types),
		'token_endpoint_auth_method', a.token_endpoint_auth_method, 'scope', nullif(a.scope, ''),
		'contacts', nullif(to_jsonb(a.contacts), '[]'), 'registration_client_uri', a.registration_client_uri));
END
$$;

-- POST /oauth2/register: RFC 7591, open to all; what is registered can do nothing until a user agrees.
CREATE OR REPLACE FUNCTION coder.oauth2_register(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	token CONSTANT text := coder.random_key(40);
	a coder.oauth2_provider_apps;
	n record;
	why text;
BEGIN
	a := coder.oauth2_registration(req);
	INSERT INTO coder.oauth2_provider_apps (name, icon, callback_url, redirect_uris, client_type, dynamically_registered, grant_types,
		response_types, token_endpoint_auth_method, scope, contacts, client_uri, logo_uri, tos_uri, policy_uri, jwks_uri, jwks,
		software_id, software_version, registration_access_token)
	VALUES (a.name, coalesce(a.icon, ''), a.callback_url, a.redirect_uris, a.client_type, true, a.grant_types, a.response_types,
		a.token_endpoint_auth_method, a.scope, a.contacts, a.client_uri, a.logo_uri, a.tos_uri, a.policy_uri, a.jwks_uri, a.jwks,
		a.software_id, a.software_version, coder.sha256(token))
	RETURNING * INTO a;
	UPDATE coder.oauth2_provider_apps x SET registration_client_uri = coder.own_url('/oauth2/clients/' || x.id)
	 WHERE x.id = a.id RETURNING x.* INTO a;
	SELECT * INTO n FROM coder.oauth2_secret_add(a.id);
	RETURN coder.reply(201, coder.oauth2_client_json(a) || jsonb_build_object('client_secret', n.secret, 'registration_access_token', token));
EXCEPTION WHEN SQLSTATE 'ZO400' THEN
	GET STACKED DIAGNOSTICS why = PG_EXCEPTION_DETAIL;
	RETURN coder.oauth2_error(400, sqlerrm, why);
END
$$;

-- The registered client of a management request, proven by its registration access token.  Raises ZO401, ZO403.
CREATE OR REPLACE FUNCTION coder.oauth2_param_client(req coder.request)
RETURNS coder.oauth2_provider_apps LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	token CONSTANT text := substring(req.headers->>'authorization' FROM '(?i)^bearer +(.+)$');
	a coder.oauth2_provider_apps;
BEGIN
	SELECT x.* INTO a FROM coder.oauth2_provider_apps x WHERE x.id = coder.try_uuid(req.params->>'client_id');
	IF token IS NULL OR a.id IS NULL THEN
		PERFORM coder.oauth2_raise(401, 'invalid_token', 'The registration access token is missing or invalid');
	ELSIF NOT a.dynamically_registered THEN
		PERFORM coder.oauth2_raise(403, 'invalid_token', 'The client was not dynamically registered');
	ELSIF a.registration_access_token IS DISTINCT FROM coder.sha256(token) THEN
		PERFORM coder.oauth2_raise(401, 'invalid_token', 'The registration access token is missing or invalid');
	END IF;
	RETURN a;
END
$$;

-- GET, PUT and DELETE /oauth2/clients/{client_id}: RFC 7592
CREATE OR REPLACE FUNCTION coder.oauth2_client_manage(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	a coder.oauth2_provider_apps;
	n coder.oauth2_provider_apps;
	why text;
BEGIN
	a := coder.oauth2_param_client(req);
	IF req.method = 'DELETE' THEN
		DELETE FROM coder.oauth2_provider_apps x WHERE x.id = a.id;
		RETURN coder.reply(204);
	ELSIF req.method = 'PUT' THEN
		n := coder.oauth2_registration(req);
		UPDATE coder.oauth2_provider_apps x SET name = n.name, icon = coalesce(n.icon, ''), callback_url = n.callback_url,
			redirect_uris = n.redirect_uris, client_type = n.client_type, grant_types = n.grant_types, response_types = n.response_types,
			token_endpoint_auth_method = n.token_endpoint_auth_method, scope = n.scope, contacts = n.contacts, client_uri = n.client_uri,
			logo_uri = n.logo_uri, tos_uri = n.tos_uri, policy_uri = n.policy_uri, jwks_uri = n.jwks_uri, jwks = n.jwks,
			software_id = n.software_id, software_version = n.software_version, updated_at = now()
		 WHERE x.id = a.id RETURNING x.* INTO a;
	END IF;
	RETURN coder.reply(200, coder.oauth2_client_json(a));
EXCEPTION WHEN SQLSTATE 'ZO400' OR SQLSTATE 'ZO401' OR SQLSTATE 'ZO403' THEN
	GET STACKED DIAGNOSTICS why = PG_EXCEPTION_DETAIL;
	RETURN coder.oauth2_error(right(sqlstate, 3)::int4, sqlerrm, why);
END
$$;

DELETE FROM coder.routes WHERE area = 'oauth2registration';
INSERT INTO coder.routes (area, method, pattern, function, auth, raw_body, read_only) VALUES
	('oauth2registration', 'POST', '/oauth2/register', 'oauth2_register', 'none', false, false),
	('oauth2registration', 'GET', '/oauth2/clients/{client_id}', 'oauth2_client_manage', 'none', false, false),
	('oauth2registration', 'PUT', '/oauth2/clients/{client_id}', 'oauth2_client_manage', 'none', false, false),
	('oauth2registration', 'DELETE', '/oauth2/clients/{client_id}', 'oauth2_client_manage', 'none', false, false);
