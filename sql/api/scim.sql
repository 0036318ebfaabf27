-- sql/api/scim.sql -- SCIM 2.0 (RFC 7643, RFC 7644): an identity provider makes, suspends and renames users
--
-- The provider shows the key of CODER_SCIM_AUTH_HEADER, of which the gateway tells only the SHA-256.  userName and
-- externalId as the provider gave them are in coder.user_configs; the Coder name is made of userName.

-- An answer of SCIM.
CREATE OR REPLACE FUNCTION coder.scim_reply(status int4, body jsonb)
RETURNS coder.response LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN ROW(status, coder.compact(body), E'Content-Type: application/scim+json; charset=utf-8\r\n', NULL)::coder.response;
END
$$;

-- An error of SCIM; type is RFC 7644's scimType or NULL.
CREATE OR REPLACE FUNCTION coder.scim_error(status int4, detail text, type text DEFAULT NULL)
RETURNS coder.response LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.scim_reply(status, jsonb_build_object('schemas', jsonb_build_array('urn:ietf:params:scim:api:messages:2.0:Error'),
		'status', status::text, 'detail', detail) || CASE WHEN type IS NULL THEN '{}' ELSE jsonb_build_object('scimType', type) END);
END
$$;

-- Why a request is not let in: NULL where it is.  404 where SCIM is off, 401 without the key; the digests are compared, so
-- that the time says nothing.
CREATE OR REPLACE FUNCTION coder.scim_refused(req coder.request, public bool DEFAULT false)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wanted CONSTANT text := coder.setting('scim_auth_hash');
	given CONSTANT text := regexp_replace(coalesce(req.headers->>'authorization', ''), '^bearer ', '', 'i');
BEGIN
	IF coalesce(wanted, '') = '' THEN
		RETURN coder.reply_message(404, 'SCIM is disabled, please contact your administrator if you believe this is an error');
	ELSIF NOT public AND encode(coder.sha256(given), 'hex') IS DISTINCT FROM wanted THEN
		RETURN coder.scim_error(401, 'invalid authorization', 'invalidAuthorization');
	END IF;
	RETURN NULL;
END
$$;

-- GET /scim/v2/ServiceProviderConfig: what is supported; needs no key
CREATE OR REPLACE FUNCTION coder.scim_config(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	refused CONSTANT coder.response := coder.scim_refused(req, true);
	no CONSTANT jsonb := '{"supported": false}';
	yes CONSTANT jsonb := '{"supported": true}';
BEGIN
	IF refused.status IS NOT NULL THEN
		RETURN refused;
	END IF;
	RETURN coder.scim_reply(200, jsonb_build_object('schemas', jsonb_build_array('urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig'),
		'documentationUri', 'https://coder.com/docs/admin/users/oidc-auth#scim',
		'patch', yes, 'bulk', no || '{"maxOperations": 0, "maxPayloadSize": 0}', 'filter', yes || '{"maxResults": 200}',
		'changePassword', no, 'sort', no, 'etag', no,
		'authenticationSchemes', jsonb_build_array(jsonb_build_object('type', 'oauthbearertoken', 'name', 'HTTP Header Authentication',
			'description', 'Authentication scheme using the Authorization header with the shared token',
			'documentationUri', 'https://coder.com/docs/admin/users/oidc-auth#scim', 'primary', true)),
		'meta', jsonb_build_object('resourceType', 'ServiceProviderConfig', 'location', coder.own_url('/scim/v2/ServiceProviderConfig'))));
END
$$;

-- User of RFC 7643
CREATE OR REPLACE FUNCTION coder.scim_user_json(u coder.users)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	external CONSTANT text := coder.user_config(u.id, 'scim_external_id');
BEGIN
	RETURN jsonb_build_object('schemas', jsonb_build_array('urn:ietf:params:scim:schemas:core:2.0:User'), 'id', u.id,
			'userName', coalesce(nullif(coder.user_config(u.id, 'scim_user_name'), ''), u.username),
			'name', jsonb_build_object('formatted', u.name, 'givenName', split_part(u.name, ' ', 1),
				'familyName', ltrim(substr(u.name, length(split_part(u.name, ' ', 1)) + 1))),
			'displayName', u.name, 'emails', jsonb_build_array(jsonb_build_object('primary', true, 'value', u.email, 'type', 'work')),
			'active', u.status <> 'suspended', 'groups', '[]'::jsonb,
			'meta', jsonb_build_object('resourceType', 'User', 'created', coder.ts(u.created_at), 'lastModified', coder.ts(u.updated_at),
				'location', coder.own_url('/scim/v2/Users/' || u.id)))
		|| CASE WHEN external = '' THEN '{}' ELSE jsonb_build_object('externalId', external) END;
END
$$;

-- The primary e-mail address of a SCIM user: the one marked so, else the first.
CREATE OR REPLACE FUNCTION coder.scim_email(body jsonb)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF coalesce(jsonb_typeof(body->'emails'), '') <> 'array' THEN
		RETURN NULL;
	END IF;
	RETURN (SELECT e.v->>'value' FROM jsonb_array_elements(body->'emails') WITH ORDINALITY e (v, n) WHERE jsonb_typeof(e.v) = 'object'
			 ORDER BY coalesce(e.v->>'primary', '') <> 'true', e.n LIMIT 1);
END
$$;

-- The full name of a SCIM user, NULL where it says none.
CREATE OR REPLACE FUNCTION coder.scim_name(body jsonb)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	name CONSTANT jsonb := CASE WHEN jsonb_typeof(body->'name') = 'object' THEN body->'name' ELSE '{}' END;
BEGIN
	RETURN left(btrim(coalesce(nullif(name->>'formatted', ''), nullif(concat_ws(' ', nullif(name->>'givenName', ''),
		nullif(name->>'familyName', '')), ''), body->>'displayName')), 128);
END
$$;

-- A Coder name of what a provider calls somebody: what stands before the @, letters, digits and single dashes; with a
-- number behind it where it is taken.
CREATE OR REPLACE FUNCTION coder.scim_username(given text)
RETURNS text LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	base text := btrim(left(btrim(regexp_replace(regexp_replace(regexp_replace(coalesce(given, ''), '@[^@]*$', ''), '[^A-Za-z0-9-]+', '-', 'g'),
		'-+', '-', 'g'), '-'), 32), '-');
	made text;
BEGIN
	IF NOT coder.username_ok(base) THEN
		base := 'user-' || lower(coder.random_key(8));
	END IF;
	made := base;
	FOR i IN 1 .. 20 LOOP
		IF NOT EXISTS (SELECT 1 FROM coder.users u WHERE lower(u.username) = lower(made) AND NOT u.deleted) THEN
			RETURN made;
		END IF;
		made := btrim(left(base, 25), '-') || '-' || lower(coder.random_key(6));
	END LOOP;
	RETURN made;
END
$$;

-- An "active" of a request: true, false, or in words; NULL for anything else.
CREATE OR REPLACE FUNCTION coder.scim_bool(value jsonb)
RETURNS bool LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE lower(value #>> '{}') WHEN 'true' THEN true WHEN 'false' THEN false END;
END
$$;

-- Suspends a user, or lets a suspended one in again, who is dormant until seen; renames.  NULL changes nothing.
CREATE OR REPLACE FUNCTION coder.scim_change(u coder.users, active bool, name text, external text DEFAULT NULL)
RETURNS coder.users LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	becomes CONSTANT coder.user_status := CASE WHEN active IS FALSE THEN 'suspended'
		WHEN active AND u.status = 'suspended' THEN 'dormant' ELSE u.status END;
BEGIN
	IF becomes <> u.status OR coalesce(name, u.name) <> u.name THEN
		UPDATE coder.users x SET status = becomes, name = coalesce(scim_change.name, x.name), updated_at = now()
		 WHERE x.id = u.id RETURNING x.* INTO u;
		PERFORM coder.audit('write', 'user', u.id, u.username, additional => '{"automatic_actor": "coder", "automatic_subsystem": "scim"}');
	END IF;
	IF coalesce(external, '') <> '' THEN
		PERFORM coder.user_config_set(u.id, 'scim_external_id', external);
	END IF;
	RETURN u;
END
$$;

-- POST /scim/v2/Users: 201 with the new user; 200 with one of this address that is there already.
CREATE OR REPLACE FUNCTION coder.scim_user_create(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	refused CONSTANT coder.response := coder.scim_refused(req);
	body CONSTANT jsonb := CASE WHEN jsonb_typeof(req.body) = 'object' THEN req.body ELSE '{}' END;
	address CONSTANT text := coder.scim_email(body);
	active CONSTANT bool := coder.scim_bool(coalesce(nullif(body->'active', 'null'), 'true'));
	u coder.users;
	org uuid;
BEGIN
	IF refused.status IS NOT NULL THEN
		RETURN refused;
	ELSIF coalesce(body->>'userName', '') = '' OR length(body->>'userName') > 254 THEN
		RETURN coder.scim_error(400, 'userName is required', 'invalidValue');
	ELSIF address IS NULL OR NOT coder.email_ok(address) THEN
		RETURN coder.scim_error(400, 'no primary email provided', 'invalidEmail');
	ELSIF active IS NULL THEN
		RETURN coder.scim_error(400, 'active must be true or false', 'invalidValue');
	END IF;
	SELECT x.* INTO u FROM coder.users x
	 WHERE lower(x.email) = lower(address) AND NOT x.deleted AND NOT x.is_system;
	IF u.id IS NOT NULL THEN
		PERFORM coder.user_config_set(u.id, 'scim_user_name', body->>'userName');
		u := coder.scim_change(u, active, NULL, body->>'externalId');
		RETURN coder.scim_reply(200, coder.scim_user_json(u));
	END IF;
	INSERT INTO coder.users (email, username, name, login_type, status)
	VALUES (address, coder.scim_username(body->>'userName'), coalesce(coder.scim_name(body), ''), 'oidc',
		CASE WHEN active THEN 'dormant' ELSE 'suspended' END::coder.user_status)
	RETURNING * INTO u;
	PERFORM coder.user_config_set(u.id, 'scim_user_name', body->>'userName');
	IF coalesce(body->>'externalId', '') <> '' THEN
		PERFORM coder.user_config_set(u.id, 'scim_external_id', body->>'externalId');
	END IF;
	-- Where the provider's claims say which organizations, they say so at the first sign-in.
	IF coalesce(coder.idpsync_settings('organization')->>'field', '') = ''
		OR (coder.idpsync_settings('organization')->>'organization_assign_default')::bool THEN
		INSERT INTO coder.organization_members (user_id, organization_id) SELECT u.id, o.id FROM coder.organizations o WHERE o.is_default;
	END IF;
	PERFORM coder.audit('create', 'user', u.id, u.username, additional => '{"automatic_actor": "coder", "automatic_subsystem": "scim"}');
	RETURN coder.scim_reply(201, coder.scim_user_json(u));
END
$$;

-- Does a user match a filter "attribute eq "value""?  attribute is in lower case.
CREATE OR REPLACE FUNCTION coder.scim_matches(u coder.users, attribute text, value text)
RETURNS bool LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE attribute
		WHEN 'id' THEN u.id::text = lower(value)
		WHEN 'username' THEN CASE coder.user_config(u.id, 'scim_user_name') WHEN '' THEN lower(value) IN (lower(u.username), lower(u.email))
			ELSE lower(value) = lower(coder.user_config(u.id, 'scim_user_name')) END
		WHEN 'externalid' THEN value <> '' AND coder.user_config(u.id, 'scim_external_id') = value
		WHEN 'active' THEN (u.status <> 'suspended')::text = lower(value)
		WHEN 'displayname' THEN lower(u.name) = lower(value)
		ELSE lower(u.email) = lower(value) END;
END
$$;

-- GET /scim/v2/Users?filter=&startIndex=&count=
CREATE OR REPLACE FUNCTION coder.scim_user_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	refused CONSTANT coder.response := coder.scim_refused(req);
	filter CONSTANT text := coalesce(req.query->>'filter', '');
	parts CONSTANT text[] := regexp_match(filter, '^\s*([A-Za-z.]+(?:\[type eq "work"\]\.value)?)\s+[eE][qQ]\s+(?:"((?:[^"\\]|\\.)*)"|(true|false))\s*$');
	attribute CONSTANT text := lower(parts[1]);
	wanted CONSTANT text := coalesce(regexp_replace(parts[2], '\\(.)', '\1', 'g'), parts[3]);
	first int4 := 1;
	lim int4 := 100;
	ids uuid[];
	answer jsonb;
BEGIN
	IF refused.status IS NOT NULL THEN
		RETURN refused;
	ELSIF filter <> '' AND (attribute IS NULL OR attribute NOT IN
			('id', 'username', 'externalid', 'active', 'displayname', 'emails', 'emails.value', 'emails[type eq "work"].value')) THEN
		RETURN coder.scim_error(400, 'the filter is not supported: attribute eq "value" is', 'invalidFilter');
	ELSIF coalesce(req.query->>'startIndex', '1') !~ '^-?[0-9]{1,9}$' OR coalesce(req.query->>'count', '100') !~ '^-?[0-9]{1,9}$' THEN
		RETURN coder.scim_error(400, 'startIndex and count are numbers', 'invalidValue');
	END IF;
	first := greatest(coalesce((req.query->>'startIndex')::int4, 1), 1);
	lim := least(greatest(coalesce((req.query->>'count')::int4, 100), 0), 200);
	-- A name or an address is found by the indexes; the rest looks at everyone.
	IF attribute IN ('id', 'username') OR attribute LIKE 'emails%' THEN
		ids := ARRAY(SELECT x.id FROM coder.users x WHERE lower(x.username) = lower(wanted) AND NOT x.deleted
			UNION SELECT x.id FROM coder.users x WHERE lower(x.email) = lower(wanted) AND NOT x.deleted AND x.email <> ''
			UNION SELECT c.user_id FROM coder.user_configs c WHERE c.key = 'scim_user_name' AND lower(c.value) = lower(wanted)
			UNION SELECT coder.try_uuid(wanted) WHERE coder.try_uuid(wanted) IS NOT NULL);
	END IF;
	WITH found AS MATERIALIZED (
		SELECT u FROM coder.users u WHERE NOT u.deleted AND NOT u.is_system AND NOT u.is_service_account AND u.id = ANY (ids)
		   AND coder.scim_matches(u, attribute, wanted)
		UNION ALL
		SELECT u FROM coder.users u WHERE NOT u.deleted AND NOT u.is_system AND NOT u.is_service_account AND ids IS NULL
		   AND (filter = '' OR coder.scim_matches(u, attribute, wanted))
	), page AS (
		SELECT f.u FROM found f ORDER BY (f.u).created_at, (f.u).id OFFSET first - 1 LIMIT lim
	)
	SELECT jsonb_build_object('schemas', jsonb_build_array('urn:ietf:params:scim:api:messages:2.0:ListResponse'),
			'totalResults', (SELECT count(*) FROM found), 'startIndex', first, 'itemsPerPage', (SELECT count(*) FROM page),
			'Resources', coalesce((SELECT jsonb_agg(coder.scim_user_json(p.u) ORDER BY (p.u).created_at, (p.u).id) FROM page p), '[]'))
	  INTO answer;
	RETURN coder.scim_reply(200, answer);
END
$$;

-- What PATCH makes of a user: {"active", "name", "external"}, of what the operations change; {"error": …} for those that
-- are malformed or change what cannot be changed.
CREATE OR REPLACE FUNCTION coder.scim_patched(u coder.users, body jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	now_is jsonb := coder.scim_user_json(u);
	changed jsonb := '{}';
	op jsonb;
	verb text;
	item record;
BEGIN
	IF coalesce(jsonb_typeof(body->'Operations'), '') <> 'array' OR jsonb_array_length(body->'Operations') NOT BETWEEN 1 AND 100 THEN
		RETURN jsonb_build_object('error', 'Operations must be a list');
	END IF;
	FOR op IN SELECT jsonb_array_elements(body->'Operations') LOOP
		verb := lower(op->>'op');
		IF verb IS NULL OR verb NOT IN ('add', 'replace') THEN
			RETURN jsonb_build_object('error', format('operation "%s" is not supported', op->>'op'));
		ELSIF coalesce(op->>'path', '') = '' AND jsonb_typeof(op->'value') IS DISTINCT FROM 'object' THEN
			RETURN jsonb_build_object('error', 'an operation without a path needs an object as its value');
		END IF;
		FOR item IN SELECT lower(e.key) AS path, e.value FROM jsonb_each(CASE WHEN coalesce(op->>'path', '') = '' THEN op->'value'
				ELSE jsonb_build_object(op->>'path', op->'value') END) e LOOP
			IF item.path = 'active' THEN
				IF coder.scim_bool(item.value) IS NULL THEN
					RETURN jsonb_build_object('error', 'active must be true or false');
				END IF;
				changed := changed || jsonb_build_object('active', coder.scim_bool(item.value));
			ELSIF item.path IN ('displayname', 'name.formatted') THEN
				changed := changed || jsonb_build_object('name', item.value #>> '{}');
			ELSIF item.path IN ('name.givenname', 'name.familyname') THEN
				now_is := jsonb_set(now_is, ARRAY['name', CASE item.path WHEN 'name.givenname' THEN 'givenName' ELSE 'familyName' END], item.value);
				changed := changed || jsonb_build_object('name', coder.scim_name(jsonb_build_object('name', (now_is->'name') - 'formatted')));
			ELSIF item.path = 'name' AND jsonb_typeof(item.value) = 'object' THEN
				changed := changed || jsonb_build_object('name', coder.scim_name(jsonb_build_object('name', item.value)));
			ELSIF item.path = 'externalid' THEN
				changed := changed || jsonb_build_object('external', item.value #>> '{}');
			ELSIF item.path = 'username' AND lower(item.value #>> '{}') <> lower(now_is->>'userName') THEN
				RETURN jsonb_build_object('error', 'userName cannot be changed', 'type', 'mutability');
			END IF;
		END LOOP;
	END LOOP;
	RETURN changed;
END
$$;

-- GET, PUT and PATCH /scim/v2/Users/{id}
CREATE OR REPLACE FUNCTION coder.scim_user_one(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	refused CONSTANT coder.response := coder.scim_refused(req);
	body CONSTANT jsonb := CASE WHEN jsonb_typeof(req.body) = 'object' THEN req.body ELSE '{}' END;
	u coder.users;
	changed jsonb;
BEGIN
	IF refused.status IS NOT NULL THEN
		RETURN refused;
	END IF;
	SELECT x.* INTO u FROM coder.users x WHERE x.id = coder.try_uuid(req.params->>'id') AND NOT x.deleted AND NOT x.is_system;
	IF u.id IS NULL THEN
		RETURN coder.scim_error(404, 'Resource not found.');
	ELSIF req.method = 'GET' THEN
		RETURN coder.scim_reply(200, coder.scim_user_json(u));
	ELSIF req.method = 'PUT' THEN
		changed := jsonb_build_object('active', coder.scim_bool(body->'active'), 'name', coder.scim_name(body), 'external', body->>'externalId');
		IF changed->'active' = 'null' THEN
			RETURN coder.scim_error(400, 'active field is required', 'invalidRequest');
		ELSIF NOT coder.scim_matches(u, 'username', coalesce(body->>'userName', '')) THEN
			RETURN coder.scim_error(400, 'userName cannot be changed', 'mutability');
		END IF;
	ELSE
		changed := coder.scim_patched(u, body);
		IF changed ? 'error' THEN
			RETURN coder.scim_error(400, changed->>'error', coalesce(changed->>'type', 'invalidSyntax'));
		END IF;
	END IF;
	IF (changed->>'active')::bool IS FALSE AND 'owner' = ANY (u.rbac_roles) AND u.status <> 'suspended' THEN
		RETURN coder.scim_error(400, 'You cannot suspend a user with the "owner" role. You must remove the role first.', 'mutability');
	ELSIF changed->>'name' IS NOT NULL AND NOT coder.display_name_ok(changed->>'name', 128) THEN
		RETURN coder.scim_error(400, 'the name is longer than 128 characters or has white space at its ends', 'invalidValue');
	END IF;
	u := coder.scim_change(u, (changed->>'active')::bool, changed->>'name', changed->>'external');
	RETURN coder.scim_reply(200, coder.scim_user_json(u));
END
$$;

DELETE FROM coder.routes WHERE area = 'scim';
INSERT INTO coder.routes (area, method, pattern, function, auth, pool, read_only) VALUES
	('scim', 'GET', '/scim/v2/ServiceProviderConfig', 'scim_config', 'none', 'fast', true),
	('scim', 'GET', '/scim/v2/Users', 'scim_user_list', 'none', 'slow', true),
	('scim', 'POST', '/scim/v2/Users', 'scim_user_create', 'none', 'fast', false),
	('scim', 'GET', '/scim/v2/Users/{id}', 'scim_user_one', 'none', 'fast', true),
	('scim', 'PUT', '/scim/v2/Users/{id}', 'scim_user_one', 'none', 'fast', false),
	('scim', 'PATCH', '/scim/v2/Users/{id}', 'scim_user_one', 'none', 'fast', false);
