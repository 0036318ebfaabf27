-- sql/api/externalauth.sql -- accounts at other servers (git hosts and others) that users link, for their workspaces
--
-- Providers are the settings CODER_EXTERNAL_AUTH_<n>_<FIELD>; what is not set follows from the type.  Tables:
-- sql/schema/externalauth.sql.  A link is looked at by coder.links_check: refreshed if it has expired, then validated.

-- What a type of provider has unless it is set; given: what is set.
CREATE OR REPLACE FUNCTION coder.external_auth_defaults(type text, given jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	auth text := coalesce(given->>'auth_url', CASE type WHEN 'gitea' THEN 'https://gitea.com/login/oauth/authorize'
		WHEN 'gitlab' THEN 'https://gitlab.com/oauth/authorize' END);
	site CONSTANT text := substring(auth FROM '^https?://[^/?#]+');
	own CONSTANT text := '^(https?://)?' || regexp_replace(regexp_replace(site, '^https?://', ''), '([.\\+*?\[^\]$(){}=!<>|])', '\\\1', 'g') || '(/.*)?$';
BEGIN
	RETURN CASE type
	WHEN 'github' THEN jsonb_build_object('auth_url', 'https://github.com/login/oauth/authorize', 'token_url', 'https://github.com/login/oauth/access_token',
		'validate_url', 'https://api.github.com/user', 'revoke_url', 'https://api.github.com/applications/' || (given->>'client_id') || '/grant',
		'display_name', 'GitHub', 'display_icon', '/icon/github.svg', 'regex', '^(https?://)?github\.com(/.*)?$', 'scopes', 'repo,workflow',
		'device_code_url', 'https://github.com/login/device/code', 'app_installations_url', 'https://api.github.com/user/installations',
		'pkce_methods', 'S256', 'api_base_url', 'https://api.github.com')
	WHEN 'gitlab' THEN jsonb_build_object('auth_url', auth, 'token_url', site || '/oauth/token', 'validate_url', site || '/oauth/token/info',
		'revoke_url', site || '/oauth/revoke', 'display_name', 'GitLab', 'display_icon', '/icon/gitlab.svg', 'regex', own,
		'scopes', 'write_repository,read_api', 'pkce_methods', 'S256', 'api_base_url', site || '/api/v4')
	WHEN 'gitea' THEN jsonb_build_object('auth_url', auth, 'token_url', site || '/login/oauth/access_token', 'validate_url', site || '/login/oauth/userinfo',
		'display_name', 'Gitea', 'display_icon', '/icon/gitea.svg', 'regex', own, 'scopes', 'read:repository,write:repository,read:user',
		'pkce_methods', 'S256', 'api_base_url', 'https://gitea.com/api/v1')
	WHEN 'bitbucket-cloud' THEN jsonb_build_object('auth_url', 'https://bitbucket.org/site/oauth2/authorize', 'token_url', 'https://bitbucket.org/site/oauth2/access_token',
		'validate_url', 'https://api.bitbucket.org/2.0/user', 'display_name', 'BitBucket', 'display_icon', '/icon/bitbucket.svg',
		'regex', '^(https?://)?bitbucket\.org(/.*)?$', 'scopes', 'account,repository:write', 'pkce_methods', 'none')
	WHEN 'bitbucket-server' THEN jsonb_build_object('token_url', site || '/rest/oauth2/latest/token',
		'validate_url', site || '/rest/api/latest/inbox/pull-requests/count', 'display_name', 'Bitbucket Server', 'display_icon', '/icon/bitbucket.svg',
		'regex', own, 'scopes', 'PUBLIC_REPOS,REPO_READ,REPO_WRITE', 'pkce_methods', 'none')
	WHEN 'jfrog' THEN jsonb_build_object('token_url', site || '/access/api/v1/integrations/' || (given->>'client_id') || '/token',
		'validate_url', site || '/access/api/v1/system/ping', 'display_name', 'JFrog Artifactory', 'display_icon', '/icon/jfrog.svg',
		'scopes', 'applied-permissions/user', 'pkce_methods', 'none')
	WHEN 'azure-devops' THEN jsonb_build_object('auth_url', 'https://app.vssps.visualstudio.com/oauth2/authorize',
		'token_url', 'https://app.vssps.visualstudio.com/oauth2/token', 'display_name', 'Azure DevOps', 'display_icon', '/icon/azure-devops.svg',
		'regex', '^(https?://)?dev\.azure\.com(/.*)?$', 'scopes', 'vso.code_write', 'pkce_methods', 'none')
	WHEN 'azure-devops-entra' THEN jsonb_build_object('token_url', site || '/' || substring(auth FROM '^https?://[^/]+/([^/]+)/oauth2/authorize') || '/oauth2/token',
		'display_name', 'Azure DevOps (Entra)', 'display_icon', '/icon/azure-devops.svg', 'regex', '^(https?://)?dev\.azure\.com(/.*)?$', 'pkce_methods', 'none')
	WHEN 'slack' THEN jsonb_build_object('auth_url', 'https://slack.com/oauth/v2/authorize', 'token_url', 'https://slack.com/api/oauth.v2.access',
		'revoke_url', 'https://slack.com/api/auth.revoke', 'display_name', 'Slack', 'display_icon', '/icon/slack.svg', 'extra_token_keys', 'authed_user',
		'pkce_methods', 'none')
	ELSE '{}' END;
END
$$;

-- The providers, in the order of their numbers: ExternalAuthConfig, and "n", "extra_token_keys" for ourselves.
CREATE OR REPLACE FUNCTION coder.external_auth_configs()
RETURNS SETOF jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	one record;
	type text;
	c jsonb;
BEGIN
	FOR one IN SELECT p.prefix, p.n, jsonb_object_agg(p.field, p.value) AS given FROM (
			SELECT m[1] AS prefix, m[2]::int4 AS n, m[3] AS field, s.value
			  FROM coder.settings s, regexp_match(s.name, '^(external_auth_|gitauth_)([0-9]{1,4})_([a-z_]+)$') m WHERE m IS NOT NULL AND s.value <> ''
			-- Where none is set up: GitHub by device, if there is a client of this deployment for that.
			UNION ALL
			SELECT 'external_auth_', 0, d.field, d.value FROM coder.settings s, LATERAL (VALUES ('type', 'github'), ('device_flow', 'true'), ('client_id', s.value)) d (field, value)
			 WHERE s.name = 'external_auth_github_default_client_id' AND s.value <> '' AND coder.setting_bool('external_auth_github_default_provider_enable', true)
			   AND NOT EXISTS (SELECT 1 FROM coder.settings o WHERE o.name ~ '^(external_auth_|gitauth_)[0-9]+_type$')) p
		 GROUP BY p.prefix, p.n ORDER BY p.prefix, p.n
	LOOP
		type := lower(coalesce(one.given->>'type', ''));
		type := CASE type WHEN 'bitbucket' THEN 'bitbucket-cloud' ELSE type END;
		c := jsonb_strip_nulls(coder.external_auth_defaults(type, one.given)) || one.given;
		RETURN NEXT jsonb_build_object('n', one.prefix || one.n, 'id', coalesce(c->>'id', type), 'type', type, 'client_id', coalesce(c->>'client_id', ''),
			'auth_url', coalesce(c->>'auth_url', ''), 'token_url', coalesce(c->>'token_url', ''), 'validate_url', coalesce(c->>'validate_url', ''),
			'revoke_url', coalesce(c->>'revoke_url', ''), 'app_install_url', coalesce(c->>'app_install_url', ''),
			'app_installations_url', coalesce(c->>'app_installations_url', ''), 'no_refresh', coalesce(c->>'no_refresh', '') IN ('1', 't', 'T', 'true', 'TRUE', 'True'),
			'scopes', to_jsonb(regexp_split_to_array(btrim(coalesce(c->>'scopes', '')), '[\s,]+')) - '', 'device_flow',
			coalesce(c->>'device_flow', '') IN ('1', 't', 'T', 'true', 'TRUE', 'True'), 'device_code_url', coalesce(c->>'device_code_url', ''),
			'mcp_url', coalesce(c->>'mcp_url', ''), 'mcp_tool_allow_regex', coalesce(c->>'mcp_tool_allow_regex', ''),
			'mcp_tool_deny_regex', coalesce(c->>'mcp_tool_deny_regex', ''), 'regex', coalesce(c->>'regex', ''), 'api_base_url', coalesce(c->>'api_base_url', ''),
			'display_name', coalesce(c->>'display_name', type), 'display_icon', coalesce(c->>'display_icon', '/emojis/1f511.png'),
			'code_challenge_methods_supported', CASE WHEN coalesce(c->>'pkce_methods', 'S256') = 'none' THEN '["none"]'
				ELSE to_jsonb(regexp_split_to_array(coalesce(c->>'pkce_methods', 'S256'), '[\s,]+')) END,
			'extra_token_keys', to_jsonb(regexp_split_to_array(coalesce(c->>'extra_token_keys', ''), '[\s,]+')) - '');
	END LOOP;
END
$$;

-- One provider by its id; NULL where there is none.
CREATE OR REPLACE FUNCTION coder.external_auth_config(id text)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT c FROM coder.external_auth_configs() c WHERE c->>'id' = external_auth_config.id LIMIT 1);
END
$$;

-- {externalauth}: E5 where there is none.
CREATE OR REPLACE FUNCTION coder.param_external_auth(req coder.request)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c CONSTANT jsonb := coder.external_auth_config(req.params->>'externalauth');
BEGIN
	IF c IS NULL THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN c;
END
$$;

-- Who this server is there, beside other members of a form.
CREATE OR REPLACE FUNCTION coder.external_auth_form(c jsonb, form jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN form || jsonb_build_object('client_id', c->>'client_id', 'client_secret', coder.secret_setting((c->>'n') || '_client_secret'));
END
$$;

-- A user's new tokens at a provider.
CREATE OR REPLACE FUNCTION coder.external_auth_store(uid uuid, c jsonb, token jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	extra CONSTANT jsonb := (SELECT jsonb_object_agg(k, token->k) FROM jsonb_array_elements_text(c->'extra_token_keys') k WHERE token ? k);
BEGIN
	INSERT INTO coder.external_auth_links AS l (provider_id, user_id, oauth_access_token, oauth_refresh_token, oauth_expiry, oauth_extra)
	VALUES (c->>'id', uid, token->>'access_token', coalesce(token->>'refresh_token', ''), coder.oauth_expiry(token), extra)
	ON CONFLICT ON CONSTRAINT git_auth_links_provider_id_user_id_key DO UPDATE SET oauth_access_token = excluded.oauth_access_token,
		oauth_refresh_token = excluded.oauth_refresh_token, oauth_expiry = excluded.oauth_expiry, oauth_extra = excluded.oauth_extra,
		oauth_refresh_failure_reason = '', updated_at = now();
END
$$;

-- ---- links, looked at ----

-- A user's links to these providers that have expired and may be refreshed, by provider: [[provider id, time of the link], ...].
CREATE OR REPLACE FUNCTION coder.links_expired(uid uuid, ids text[])
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce((SELECT jsonb_agg(jsonb_build_array(l.provider_id, l.updated_at) ORDER BY l.provider_id)
	  FROM (SELECT x.provider_id, x.updated_at, coder.external_auth_config(x.provider_id) AS c
			  FROM coder.external_auth_links x WHERE x.user_id = uid AND x.provider_id = ANY (ids) AND x.oauth_refresh_token <> ''
			   AND x.oauth_expiry > '0001-01-02' AND x.oauth_expiry <= now() ORDER BY x.provider_id LIMIT 16) l
	 WHERE NOT (l.c->>'no_refresh')::bool AND l.c->>'token_url' <> ''), '[]');
END
$$;

-- The requests that refresh them, in the same order.  Where the session has the keys.
CREATE OR REPLACE FUNCTION coder.links_requests(uid uuid, ids text[])
RETURNS jsonb[] LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN ARRAY(SELECT coder.fetch_counted(coder.fetch_form(o.c->>'token_url', coder.external_auth_form(o.c, jsonb_build_object('grant_type', 'refresh_token',
			'refresh_token', coder.unseal(l.oauth_refresh_token, l.oauth_refresh_token_key_id)))), o.c->>'id', 'TokenSource')
		FROM jsonb_array_elements(coder.links_expired(uid, ids)) WITH ORDINALITY e (v, n)
		JOIN coder.external_auth_links l ON l.user_id = uid AND l.provider_id = e.v->>0,
		LATERAL (SELECT coder.external_auth_config(l.provider_id)) o (c) ORDER BY e.n);
END
$$;

-- Looks at a user's links to these providers and then calls coder.<next>(req, checks) for the answer; checks: provider id ->
-- {"authenticated", "error", "user", "at"}, for those that are linked.  error: why it cannot be said; at: of the link.
CREATE OR REPLACE FUNCTION coder.links_check(req coder.request, next text, uid uuid, ids text[])
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	requests CONSTANT jsonb[] := coder.links_requests(uid, ids);
BEGIN
	IF requests = '{}' THEN
		RETURN coder.links_validate(req, next, uid, ids);
	END IF;
	RETURN coder.fetch('links_refreshed', jsonb_build_object('next', next, 'uid', uid, 'ids', ids, 'expired', coder.links_expired(uid, ids)),
		VARIADIC requests);
END
$$;

-- New tokens have come, or were refused: then the old refresh token is no good any more.  What somebody else has refreshed
-- meanwhile stays.  expired: of links_expired; results: of the requests, in their order.
CREATE OR REPLACE FUNCTION coder.links_store(uid uuid, expired jsonb, results jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	one record;
	token jsonb;
	id text;
BEGIN
	FOR one IN SELECT e.v AS link, r.v AS result FROM jsonb_array_elements(expired) WITH ORDINALITY e (v, n)
		JOIN jsonb_array_elements(results) WITH ORDINALITY r (v, n) USING (n)
	LOOP
		token := NULL;
		id := one.link->>0;
		PERFORM FROM coder.external_auth_links l WHERE l.provider_id = id AND l.user_id = uid
			AND l.updated_at = (one.link->>1)::timestamptz FOR UPDATE;
		CONTINUE WHEN NOT FOUND;
		token := coder.try_json(one.result->>'body');
		IF token IS NULL AND one.result->'headers'->>'content-type' ~ '^application/x-www-form-urlencoded' THEN
			token := coder.form_decode(left(one.result->>'body', 65536));
		END IF;
		IF (one.result->>'status')::int4 BETWEEN 200 AND 299 AND coalesce(token->>'access_token', '') <> '' THEN
			UPDATE coder.external_auth_links l SET oauth_access_token = token->>'access_token', oauth_expiry = coder.oauth_expiry(token),
				oauth_refresh_token = coalesce(nullif(token->>'refresh_token', ''), coder.unseal(l.oauth_refresh_token, l.oauth_refresh_token_key_id)),
				oauth_refresh_failure_reason = '', updated_at = now()
			 WHERE l.provider_id = id AND l.user_id = uid;
		ELSIF (one.result->>'status')::int4 BETWEEN 200 AND 499 AND (one.result->>'status')::int4 NOT IN (408, 429) THEN
			UPDATE coder.external_auth_links l SET oauth_refresh_token = '', updated_at = now(),
				oauth_refresh_failure_reason = left(coalesce(token->>'error', coder.fetched_error(one.result)), 200)
			 WHERE l.provider_id = id AND l.user_id = uid;
		END IF;
	END LOOP;
END
$$;

-- Goes on with links_check when the providers have answered.
CREATE OR REPLACE FUNCTION coder.links_refreshed(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	state CONSTANT jsonb := (coder.fetched(req)).state;
BEGIN
	PERFORM coder.links_store((state->>'uid')::uuid, state->'expired', (coder.fetched(req)).results);
	RETURN coder.links_validate(req, state->>'next', (state->>'uid')::uuid, ARRAY(SELECT jsonb_array_elements_text(state->'ids')));
END
$$;

-- Asks each provider whether it takes the token, where there is an address for that.
CREATE OR REPLACE FUNCTION coder.links_validate(req coder.request, next text, uid uuid, ids text[])
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	checks jsonb := '{}';
	asked text[] := '{}';
	requests jsonb[] := '{}';
	l coder.external_auth_links;
	c jsonb;
BEGIN
	FOR l IN SELECT x.* FROM coder.external_auth_links x WHERE x.user_id = uid AND x.provider_id = ANY (ids) ORDER BY x.provider_id LOOP
		c := coder.external_auth_config(l.provider_id);
		checks := checks || jsonb_build_object(l.provider_id, jsonb_build_object('at', l.updated_at));
		IF c IS NULL THEN
			checks := jsonb_set(checks, ARRAY[l.provider_id, 'authenticated'], 'false');
		ELSIF l.oauth_expiry > '0001-01-02' AND l.oauth_expiry <= now() THEN
			checks := checks || jsonb_build_object(l.provider_id, jsonb_build_object('at', l.updated_at, 'authenticated', false, 'expired',
				coalesce(nullif(l.oauth_refresh_failure_reason, ''), 'token expired, and it could not be refreshed')));
		ELSIF c->>'validate_url' = '' OR cardinality(asked) = 16 THEN
			checks := jsonb_set(checks, ARRAY[l.provider_id, 'authenticated'], 'true');
		ELSE
			asked := asked || l.provider_id;
			requests := requests || coder.fetch_counted(coder.fetch_get(c->>'validate_url',
				jsonb_build_object('Authorization', 'Bearer ' || coder.unseal(l.oauth_access_token, l.oauth_access_token_key_id))), c->>'id', 'ValidateToken');
		END IF;
	END LOOP;
	IF asked = '{}' THEN
		RETURN coder.links_finish(req, next, checks);
	END IF;
	RETURN coder.fetch('links_validated', jsonb_build_object('next', next, 'asked', asked, 'checks', checks), VARIADIC requests);
END
$$;

-- GitHub's user as ExternalAuthUser; NULL where it is none.
CREATE OR REPLACE FUNCTION coder.external_auth_user(u jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF jsonb_typeof(u->'id') IS DISTINCT FROM 'number' THEN
		RETURN NULL;
	END IF;
	RETURN jsonb_build_object('id', u->'id', 'login', coalesce(u->>'login', ''), 'avatar_url', coalesce(u->>'avatar_url', ''),
		'profile_url', coalesce(u->>'html_url', ''), 'name', coalesce(u->>'name', ''));
END
$$;

-- What the providers say of the tokens: 401 and 403 are a no, but for a rate limit, which says nothing.
CREATE OR REPLACE FUNCTION coder.links_validated(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	state CONSTANT jsonb := (coder.fetched(req)).state;
	checks jsonb := state->'checks';
	one record;
	status int4;
	verdict jsonb;
BEGIN
	FOR one IN SELECT a.v AS id, r.v AS result FROM jsonb_array_elements_text(state->'asked') WITH ORDINALITY a (v, n)
		JOIN jsonb_array_elements((coder.fetched(req)).results) WITH ORDINALITY r (v, n) USING (n)
	LOOP
		status := (one.result->>'status')::int4;
		IF status = 200 THEN
			verdict := jsonb_build_object('authenticated', true, 'user', CASE WHEN coder.external_auth_config(one.id)->>'type' = 'github'
				THEN coder.external_auth_user(coder.fetched_object(one.result)) END);
		ELSIF status = 429 OR (status = 403 AND (one.result->'headers'->>'x-ratelimit-remaining' = '0' OR one.result->'headers' ? 'retry-after')) THEN
			verdict := '{"authenticated": true}';
		ELSIF status IN (401, 403) THEN
			verdict := '{"authenticated": false}';
		ELSE
			verdict := jsonb_build_object('authenticated', false, 'error', coder.fetched_error(one.result));
		END IF;
		checks := checks || jsonb_build_object(one.id, checks->one.id || verdict);
	END LOOP;
	RETURN coder.links_finish(req, state->>'next', checks);
END
$$;

-- The answer of whoever asked for the checks.
CREATE OR REPLACE FUNCTION coder.links_finish(req coder.request, next text, checks jsonb)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	CASE next
		WHEN 'list' THEN RETURN coder.external_auth_listed(req, checks);
		WHEN 'get' THEN RETURN coder.external_auth_got(req, checks);
		WHEN 'version' THEN RETURN coder.version_external_auth_checked(req, checks);
		WHEN 'agent' THEN RETURN coder.agent_external_auth_checked(req, checks);
		WHEN 'workspace_create' THEN RETURN coder.workspace_create(req);
		WHEN 'build_create' THEN RETURN coder.build_create(req);
		WHEN 'chat_git' THEN RETURN coder.chat_git_linked(req, checks);
		WHEN 'chat_diff' THEN RETURN coder.chat_diff_linked(req, checks);
	END CASE;
END
$$;

-- ---- routes of users ----

-- GET /external-auth
CREATE OR REPLACE FUNCTION coder.external_auth_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.links_check(req, 'list', coder.subject_id(), ARRAY(SELECT c->>'id' FROM coder.external_auth_configs() c));
END
$$;

-- ListUserExternalAuthResponse
CREATE OR REPLACE FUNCTION coder.external_auth_listed(req coder.request, checks jsonb)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, jsonb_build_object(
		'providers', coalesce((SELECT jsonb_agg(jsonb_build_object('id', c->>'id', 'type', c->>'type', 'device', c->'device_flow',
				'display_name', c->>'display_name', 'display_icon', c->>'display_icon', 'allow_refresh', NOT (c->>'no_refresh')::bool,
				'allow_validate', c->>'validate_url' <> '', 'supports_revocation', c->>'revoke_url' <> '',
				'code_challenge_methods_supported', c->'code_challenge_methods_supported')) FROM coder.external_auth_configs() c), '[]'),
		'links', coalesce((SELECT jsonb_agg(jsonb_build_object('provider_id', l.provider_id, 'created_at', coder.ts(l.created_at),
				'updated_at', coder.ts(l.updated_at), 'has_refresh_token', l.oauth_refresh_token <> '', 'expires', coder.ts(l.oauth_expiry),
				'authenticated', coalesce((checks->l.provider_id->>'authenticated')::bool, false),
				'validate_error', coalesce(checks->l.provider_id->>'error', checks->l.provider_id->>'expired', '')) ORDER BY l.provider_id)
			FROM coder.external_auth_links l WHERE l.user_id = coder.subject_id()), '[]')));
END
$$;

-- GET /external-auth/{externalauth}
CREATE OR REPLACE FUNCTION coder.external_auth_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.links_check(req, 'get', coder.subject_id(), ARRAY[coder.param_external_auth(req)->>'id']);
END
$$;

-- ExternalAuth
CREATE OR REPLACE FUNCTION coder.external_auth_json(c jsonb, verdict jsonb, installable bool DEFAULT false, installations jsonb DEFAULT '[]')
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('authenticated', coalesce((verdict->>'authenticated')::bool, false), 'device', c->'device_flow',
		'display_name', c->>'display_name', 'supports_revocation', c->>'revoke_url' <> '', 'user', verdict->'user',
		'app_installable', installable, 'installations', installations, 'app_install_url', c->>'app_install_url');
END
$$;

-- The link has been looked at; GitHub is asked where its application is installed.
CREATE OR REPLACE FUNCTION coder.external_auth_got(req coder.request, checks jsonb)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c CONSTANT jsonb := coder.param_external_auth(req);
	verdict CONSTANT jsonb := checks->(c->>'id');
	token text;
BEGIN
	IF verdict->>'error' IS NOT NULL THEN
		PERFORM coder.raise(500, 'Failed to validate token.', verdict->>'error');
	ELSIF NOT coalesce((verdict->>'authenticated')::bool, false) OR c->>'app_installations_url' = '' THEN
		RETURN coder.reply(200, coder.external_auth_json(c, verdict));
	END IF;
	SELECT coder.unseal(l.oauth_access_token, l.oauth_access_token_key_id) INTO token FROM coder.external_auth_links l
	 WHERE l.user_id = coder.subject_id() AND l.provider_id = c->>'id';
	RETURN coder.fetch('external_auth_installed', verdict, coder.fetch_counted(coder.fetch_get(c->>'app_installations_url',
		jsonb_build_object('Authorization', 'Bearer ' || token)), c->>'id', 'AppInstallations'));
END
$$;

-- Where the application is installed; an account that cannot say so has none.
CREATE OR REPLACE FUNCTION coder.external_auth_installed(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body CONSTANT jsonb := coder.fetched_object((coder.fetched(req)).results->0);
BEGIN
	RETURN coder.reply(200, coder.external_auth_json(coder.param_external_auth(req), (coder.fetched(req)).state,
		jsonb_typeof(body->'installations') IS NOT DISTINCT FROM 'array',
		coalesce((SELECT jsonb_agg(jsonb_build_object('id', i.v->'id', 'account', coder.external_auth_user(i.v->'account'), 'configure_url', coalesce(i.v->>'html_url', '')))
			FROM jsonb_array_elements(CASE WHEN jsonb_typeof(body->'installations') = 'array' THEN body->'installations' ELSE '[]' END) i (v)
			WHERE jsonb_typeof(i.v->'account'->'id') = 'number'), '[]')));
END
$$;

-- DELETE /external-auth/{externalauth}: the link goes, and where the provider can be told so, the token.
CREATE OR REPLACE FUNCTION coder.external_auth_delete(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c CONSTANT jsonb := coder.param_external_auth(req);
	secret CONSTANT text := coalesce(coder.secret_setting((c->>'n') || '_client_secret'), '');
	token text;
BEGIN
	DELETE FROM coder.external_auth_links l WHERE l.user_id = coder.subject_id() AND l.provider_id = c->>'id'
	RETURNING coder.unseal(l.oauth_access_token, l.oauth_access_token_key_id) INTO token;
	IF NOT FOUND THEN
		PERFORM coder.raise_not_found();
	ELSIF c->>'revoke_url' = '' THEN
		RETURN coder.reply(200, '{"token_revoked": false}'::jsonb);
	ELSIF c->>'type' = 'github' THEN
		RETURN coder.fetch('external_auth_revoked', '204', coder.fetch_counted(jsonb_build_object('method', 'DELETE', 'url', c->>'revoke_url',
			'body', jsonb_build_object('access_token', token)::text, 'headers', jsonb_build_object('Accept', 'application/vnd.github+json',
			'X-GitHub-Api-Version', '2022-11-28', 'Content-Type', 'application/json',
			'Authorization', 'Basic ' || replace(encode(convert_to((c->>'client_id') || ':' || secret, 'UTF8'), 'base64'), E'\n', ''))), c->>'id', 'Revoke'));
	END IF;
	RETURN coder.fetch('external_auth_revoked', '200', coder.fetch_counted(coder.fetch_form(c->>'revoke_url', coder.external_auth_form(c,
		jsonb_build_object('token', token, 'token_type_hint', 'access_token')), jsonb_build_object('Authorization', 'Bearer ' || token)), c->>'id', 'Revoke'));
END
$$;

-- DeleteExternalAuthByIDResponse
CREATE OR REPLACE FUNCTION coder.external_auth_revoked(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	result CONSTANT jsonb := (coder.fetched(req)).results->0;
BEGIN
	IF result->'status' = (coder.fetched(req)).state THEN
		RETURN coder.reply(200, '{"token_revoked": true}'::jsonb);
	END IF;
	RETURN coder.reply(200, jsonb_build_object('token_revoked', false, 'token_revocation_error', coder.fetched_error(result)));
END
$$;

-- GET /external-auth/{externalauth}/device: a code for the user to type there; POST: has it been typed?
CREATE OR REPLACE FUNCTION coder.external_auth_device(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c CONSTANT jsonb := coder.param_external_auth(req);
	body jsonb;
BEGIN
	IF NOT (c->>'device_flow')::bool THEN
		PERFORM coder.raise(400, 'Git auth device flow not supported.');
	ELSIF req.method = 'GET' THEN
		RETURN coder.fetch('device_offered', 'null', coder.fetch_counted(coder.fetch_form(c->>'device_code_url', jsonb_build_object('client_id', c->>'client_id',
			'scope', array_to_string(ARRAY(SELECT jsonb_array_elements_text(c->'scopes')), ' '))), c->>'id', 'AuthorizeDevice'));
	END IF;
	body := coder.body(req);
	RETURN coder.fetch('external_auth_device_done', 'null', coder.fetch_counted(coder.fetch_form(c->>'token_url', jsonb_build_object('client_id', c->>'client_id',
		'device_code', coalesce(body->>'device_code', ''), 'grant_type', 'urn:ietf:params:oauth:grant-type:device_code')), c->>'id', 'Exchange'));
END
$$;

-- The provider's word on a device's code.
CREATE OR REPLACE FUNCTION coder.external_auth_device_done(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c CONSTANT jsonb := coder.param_external_auth(req);
	result CONSTANT jsonb := (coder.fetched(req)).results->0;
	token CONSTANT jsonb := coder.try_json(result->>'body');
BEGIN
	IF coalesce(token->>'access_token', '') = '' THEN
		PERFORM coder.raise(400, 'Failed to exchange device code.', left(coalesce(nullif(token->>'error', ''), coder.fetched_error(result)), 200));
	END IF;
	PERFORM coder.external_auth_store(coder.subject_id(), c, token);
	RETURN coder.reply(204);
END
$$;

-- GET /external-auth/{externalauth}/callback, outside of /api: to the provider, and back with a code.
CREATE OR REPLACE FUNCTION coder.external_auth_callback(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c CONSTANT jsonb := coder.param_external_auth(req);
	pkce CONSTANT bool := c->'code_challenge_methods_supported' ? 'S256';
	entra CONSTANT bool := c->>'type' = 'azure-devops';
	back CONSTANT text := rtrim(coder.setting('access_url'), '/') || format('/external-auth/%s/callback', c->>'id');
	scope CONSTANT text := array_to_string(ARRAY(SELECT jsonb_array_elements_text(c->'scopes')), ' ');
	verifier text;
BEGIN
	IF coder.subject_id() IS NULL THEN
		RETURN coder.redirect_to_login(req, 'Sign in to link an account.');
	ELSIF (c->>'device_flow')::bool OR c->>'auth_url' = '' THEN
		PERFORM coder.raise_not_found();
	END IF;
	PERFORM coder.oauth_check_error(req);
	IF coalesce(req.query->>'code', '') = '' THEN
		RETURN coder.oauth_begin(req, coder.url_with(c->>'auth_url', jsonb_build_object('response_type', CASE WHEN entra THEN 'Assertion' ELSE 'code' END,
			'client_id', c->>'client_id', 'redirect_uri', back, 'scope', nullif(scope, ''))), pkce, false);
	END IF;
	verifier := coder.oauth_check_state(req, pkce);
	RETURN coder.fetch('external_auth_exchanged', 'null', coder.fetch_counted(coder.fetch_form(c->>'token_url', CASE WHEN entra
		THEN jsonb_build_object('client_assertion_type', 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer', 'redirect_uri', back,
			'client_assertion', coder.secret_setting((c->>'n') || '_client_secret'), 'assertion', req.query->>'code',
			'grant_type', 'urn:ietf:params:oauth:grant-type:jwt-bearer')
		ELSE coder.external_auth_form(c, jsonb_build_object('grant_type', 'authorization_code', 'code', req.query->>'code', 'redirect_uri', back,
			'code_verifier', verifier)) END), c->>'id', 'Exchange'));
END
$$;

-- The token has come: kept; the browser goes on.
CREATE OR REPLACE FUNCTION coder.external_auth_exchanged(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c CONSTANT jsonb := coder.param_external_auth(req);
	kept CONSTANT text := coalesce(coder.request_cookie(req, 'oauth_redirect'), '');
BEGIN
	PERFORM coder.external_auth_store(coder.subject_id(), c, coder.oauth_token((coder.fetched(req)).results->0));
	RETURN coder.redirect(CASE WHEN kept <> '' THEN coder.local_path(kept) ELSE format('/external-auth/%s?redirected=true', coder.url_encode(c->>'id')) END,
		coder.oauth_cookies_clear());
END
$$;

-- ---- templates, builds ----

-- GET /templateversions/{templateversion}/external-auth
CREATE OR REPLACE FUNCTION coder.version_external_auth(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v coder.template_versions := coder.param_version(req);
	missing text;
BEGIN
	SELECT p->>'id' INTO missing FROM jsonb_array_elements(v.external_auth_providers) p WHERE coder.external_auth_config(p->>'id') IS NULL LIMIT 1;
	IF missing IS NOT NULL THEN
		PERFORM coder.raise(404, format('The template version references a Git auth provider "%s" that no longer exists.', missing));
	END IF;
	RETURN coder.links_check(req, 'version', coder.subject_id(), ARRAY(SELECT p->>'id' FROM jsonb_array_elements(v.external_auth_providers) p));
END
$$;

-- []TemplateVersionExternalAuth
CREATE OR REPLACE FUNCTION coder.version_external_auth_checked(req coder.request, checks jsonb)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v coder.template_versions := coder.param_version(req);
BEGIN
	RETURN coder.reply(200, coalesce((SELECT jsonb_agg(jsonb_build_object('id', c->>'id', 'type', c->>'type', 'display_name', c->>'display_name',
			'display_icon', c->>'display_icon', 'authenticate_url', rtrim(coder.setting('access_url'), '/') || '/external-auth/' || (c->>'id'),
			'authenticated', coalesce((checks->(c->>'id')->>'authenticated')::bool, false))
			|| CASE WHEN (p->>'optional')::bool THEN '{"optional": true}' ELSE '{}'::jsonb END)
		FROM jsonb_array_elements(v.external_auth_providers) p, LATERAL (SELECT coder.external_auth_config(p->>'id')) o (c)), '[]'));
END
$$;

-- The ids of a version's providers.
CREATE OR REPLACE FUNCTION coder.provider_ids(providers jsonb)
RETURNS text[] LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN ARRAY(SELECT p->>'id' FROM jsonb_array_elements(providers) p);
END
$$;

-- Before a build: are there links of the owner to its providers that have expired and may be refreshed?  Once a request, and only
-- in one of a gateway.
CREATE OR REPLACE FUNCTION coder.links_stale(req coder.request, uid uuid, ids text[])
RETURNS bool LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN req.cursor IS NULL AND req.remote IS NOT NULL AND EXISTS (SELECT FROM coder.external_auth_links l WHERE l.user_id = uid
		AND l.provider_id = ANY (ids) AND l.oauth_refresh_token <> '' AND l.oauth_expiry > '0001-01-02' AND l.oauth_expiry <= now());
END
$$;

-- ---- builds that nobody waits for: of schedules, of SQL, of chats ----

-- A new start whose owner's links have expired waits until a gateway has refreshed them, a quarter of a minute at most.
CREATE OR REPLACE FUNCTION coder.build_hold(job uuid, owner uuid, version uuid)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ids text[];
BEGIN
	SELECT coder.provider_ids(v.external_auth_providers) INTO ids FROM coder.template_versions v WHERE v.id = version;
	IF coalesce(cardinality(ids), 0) = 0 OR coder.links_expired(owner, ids) = '[]' THEN
		RETURN;
	END IF;
	INSERT INTO coder.build_holds (job_id, user_id, provider_ids, until) VALUES (job, owner, ids, clock_timestamp() + interval '15 seconds');
	PERFORM coder.emit('links:stale');
END
$$;

-- These jobs wait for nothing any more: daemons are told of them.
CREATE OR REPLACE FUNCTION coder.build_release(jobs uuid[])
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM coder.build_holds h WHERE h.job_id = ANY (jobs);
	PERFORM pg_notify('provisioner_job_posted', j.id::text) FROM coder.provisioner_jobs j WHERE j.id = ANY (jobs) AND j.started_at IS NULL;
END
$$;

-- The next plan of requests (docs/ARCHITECTURE.md section 2.2) for the one gateway that gets it: links of an owner whose builds
-- wait; NULL: none do, or others are at it.
CREATE OR REPLACE FUNCTION coder.links_next()
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	owner uuid;
	jobs uuid[];
	ids text[];
	requests jsonb[];
BEGIN
	DELETE FROM coder.build_holds h WHERE h.until < clock_timestamp() - interval '1 minute';
	LOOP
		SELECT h.user_id INTO owner FROM coder.build_holds h
		 WHERE h.claimed_until < clock_timestamp() AND h.until > clock_timestamp() ORDER BY h.until LIMIT 1 FOR UPDATE SKIP LOCKED;
		IF NOT FOUND THEN
			RETURN NULL;
		END IF;
		WITH mine AS (UPDATE coder.build_holds h SET claimed_until = clock_timestamp() + interval '20 seconds'
			 WHERE h.user_id = owner AND h.until > clock_timestamp() RETURNING h.job_id, h.provider_ids)
		SELECT array_agg(DISTINCT m.job_id), array_agg(DISTINCT p) INTO jobs, ids FROM mine m, unnest(m.provider_ids) p;
		requests := coder.links_requests(owner, ids);
		IF requests <> '{}' THEN
			RETURN jsonb_build_object('requests', requests, 'continue', 'links',
				'state', jsonb_build_object('uid', owner, 'jobs', jobs, 'expired', coder.links_expired(owner, ids)));
		END IF;
		PERFORM coder.build_release(jobs);
	END LOOP;
END
$$;

-- What came of them (as the gateway's cursor has it); the next plan, or NULL.
CREATE OR REPLACE FUNCTION coder.links_carried(fetched text)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v CONSTANT jsonb := substring(fetched FROM '\n(.*)$');
	state CONSTANT jsonb := v->'state';
BEGIN
	PERFORM coder.links_store((state->>'uid')::uuid, state->'expired', v->'results');
	PERFORM coder.build_release(ARRAY(SELECT j::uuid FROM jsonb_array_elements_text(state->'jobs') j));
	RETURN coder.links_next();
END
$$;

-- Tokens of a user for a build: of the version's providers that are linked, have not expired, and whose key this session has.
CREATE OR REPLACE FUNCTION coder.external_auth_tokens(uid uuid, providers jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce((SELECT jsonb_agg(jsonb_build_object('id', l.provider_id,
			'access_token', coder.unseal(l.oauth_access_token, l.oauth_access_token_key_id)))
		FROM jsonb_array_elements(providers) p
		JOIN coder.external_auth_links l ON l.provider_id = p->>'id' AND l.user_id = uid
	   WHERE (l.oauth_expiry <= '0001-01-02' OR l.oauth_expiry > now()) AND coder.external_auth_config(l.provider_id) IS NOT NULL
		 AND coalesce(l.oauth_access_token_key_id = ANY (coder.seal_key_ids()), true)), '[]');
END
$$;

-- ---- agents ----

-- Does the provider's regular expression match?  One that is malformed matches nothing.
CREATE OR REPLACE FUNCTION coder.external_auth_matches(c jsonb, url text)
RETURNS bool LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN c->>'regex' <> '' AND url ~ (c->>'regex');
EXCEPTION WHEN invalid_regular_expression THEN
	RETURN false;
END
$$;

-- The provider that an agent asks for, by id or by an address; ZC404 where none is meant.
CREATE OR REPLACE FUNCTION coder.agent_external_auth_config(req coder.request)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id CONSTANT text := nullif(req.query->>'id', '');
	url CONSTANT text := coalesce(nullif(req.query->>'match', ''), nullif(req.query->>'url', ''));
	c jsonb;
BEGIN
	IF (id IS NULL) = (url IS NULL) THEN
		PERFORM coder.raise(400, 'Exactly one of ''id'' and ''match'' must be given.');
	END IF;
	SELECT x.c INTO c FROM coder.external_auth_configs() WITH ORDINALITY x (c, n)
	 WHERE CASE WHEN id IS NOT NULL THEN x.c->>'id' = id ELSE coder.external_auth_matches(x.c, url) END ORDER BY x.n DESC LIMIT 1;
	IF c IS NULL THEN
		PERFORM coder.raise(404, CASE WHEN id IS NOT NULL THEN 'No matching external auth provider found in Coder for the id.'
			ELSE format('No matching external auth provider found in Coder for the url "%s".', url) END,
			'All providers: ' || coalesce((SELECT string_agg(format('%s="%s"', x->>'id', x->>'regex'), ', ') FROM coder.external_auth_configs() x), '(none)'));
	END IF;
	RETURN c;
END
$$;

-- GET /workspaceagents/me/external-auth and …/gitauth: the token of the workspace's owner, or where to get one.
CREATE OR REPLACE FUNCTION coder.agent_external_auth(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	a CONSTANT coder.agent_context := coder.agent_self();
BEGIN
	IF (a.agent).api_key_scope = 'no_user_data' THEN
		PERFORM coder.raise_forbidden();
	END IF;
	PERFORM coder.chat_git_mark(a, req.query->>'chat_id', req.query->>'git_branch', req.query->>'git_remote_origin');
	RETURN coder.links_check(req, 'agent', (a.workspace).owner_id, ARRAY[coder.agent_external_auth_config(req)->>'id']);
END
$$;

-- While an agent listens for a token, it is looked for each second, for a minute.
CREATE OR REPLACE FUNCTION coder.agent_external_auth_listen(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	a CONSTANT coder.agent_context := coder.agent_self();
	c CONSTANT jsonb := coder.agent_external_auth_config(req);
	state CONSTANT jsonb := (coder.fetched(req)).state;
	changed timestamptz;
BEGIN
	SELECT l.updated_at INTO changed FROM coder.external_auth_links l WHERE l.provider_id = c->>'id' AND l.user_id = (a.workspace).owner_id;
	IF changed > (state->>'seen')::timestamptz THEN
		RETURN coder.links_check(req, 'agent', (a.workspace).owner_id, ARRAY[c->>'id']);
	ELSIF clock_timestamp() > (state->>'until')::timestamptz THEN
		PERFORM coder.raise(408, 'Nobody has linked an account in this time.', 'Ask again.');
	END IF;
	RETURN coder.wait('agent_external_auth_listen', state, 1000);
END
$$;

-- The answer to an agent.
CREATE OR REPLACE FUNCTION coder.agent_external_auth_checked(req coder.request, checks jsonb)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	a CONSTANT coder.agent_context := coder.agent_self();
	c CONSTANT jsonb := coder.agent_external_auth_config(req);
	l coder.external_auth_links;
	token text;
BEGIN
	SELECT x.* INTO l FROM coder.external_auth_links x WHERE x.provider_id = c->>'id' AND x.user_id = (a.workspace).owner_id;
	IF NOT coalesce((checks->(c->>'id')->>'authenticated')::bool, false) OR l.user_id IS NULL THEN
		IF req.query ? 'listen' THEN
			RETURN coder.wait('agent_external_auth_listen', jsonb_build_object('seen', coalesce(checks->(c->>'id')->>'at', '-infinity'),
				'until', clock_timestamp() + interval '60 seconds'), 1000);
		END IF;
		RETURN coder.reply(200, jsonb_build_object('access_token', '', 'token_extra', NULL, 'type', '', 'username', '', 'password', '',
			'url', rtrim(coder.setting('access_url'), '/') || '/external-auth/' || (c->>'id')));
	END IF;
	token := coder.unseal(l.oauth_access_token, l.oauth_access_token_key_id);
	RETURN coder.reply(200, jsonb_build_object('access_token', token, 'token_extra', l.oauth_extra, 'url', '', 'type', c->>'type',
		'username', CASE WHEN c->>'type' = 'gitlab' THEN 'oauth2' WHEN c->>'type' LIKE 'bitbucket-%' THEN 'x-token-auth' ELSE token END,
		'password', CASE WHEN c->>'type' = 'gitlab' OR c->>'type' LIKE 'bitbucket-%' THEN token ELSE '' END));
END
$$;

DELETE FROM coder.routes WHERE area = 'externalauth';
INSERT INTO coder.routes (area, method, pattern, function, auth) VALUES
	('externalauth', 'GET', '/api/v2/external-auth', 'external_auth_list', 'session'),
	('externalauth', 'GET', '/api/v2/external-auth/{externalauth}', 'external_auth_get', 'session'),
	('externalauth', 'DELETE', '/api/v2/external-auth/{externalauth}', 'external_auth_delete', 'session'),
	('externalauth', 'GET', '/api/v2/external-auth/{externalauth}/device', 'external_auth_device', 'session'),
	('externalauth', 'POST', '/api/v2/external-auth/{externalauth}/device', 'external_auth_device', 'session'),
	('externalauth', 'GET', '/external-auth/{externalauth}/callback', 'external_auth_callback', 'optional'),
	('externalauth', 'GET', '/gitauth/{externalauth}/callback', 'external_auth_callback', 'optional'),
	('externalauth', 'GET', '/api/v2/templateversions/{templateversion}/external-auth', 'version_external_auth', 'session'),
	('externalauth', 'GET', '/api/v2/workspaceagents/me/external-auth', 'agent_external_auth', 'agent'),
	('externalauth', 'GET', '/api/v2/workspaceagents/me/gitauth', 'agent_external_auth', 'agent');
