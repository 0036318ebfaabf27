-- sql/api/base.sql -- helpers of all areas: answers, bodies, parameters, settings, audit

-- A JSON answer.
CREATE OR REPLACE FUNCTION coder.reply(status int4, body jsonb)
RETURNS coder.response LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN ROW(status, coder.compact(body), NULL, NULL)::coder.response;
END
$$;

-- The same of json, whose order of members stays.
CREATE OR REPLACE FUNCTION coder.reply(status int4, body json)
RETURNS coder.response LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN ROW(status, coder.compact(body), NULL, NULL)::coder.response;
END
$$;

-- body is JSON text already in the API's form; NULL: no body.
CREATE OR REPLACE FUNCTION coder.reply(status int4, body text DEFAULT NULL)
RETURNS coder.response LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN ROW(status, body, NULL, NULL)::coder.response;
END
$$;

-- {"message": …}: what many writes answer.
CREATE OR REPLACE FUNCTION coder.reply_message(status int4, message text)
RETURNS coder.response LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN ROW(status, coder.compact(jsonb_build_object('message', message)), NULL, NULL)::coder.response;
END
$$;

-- Text for a query string or a form: every byte but letters, digits and "-._~" as %XX (RFC 3986).
CREATE OR REPLACE FUNCTION coder.url_encode(value text)
RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	bytes CONSTANT bytea := convert_to(value, 'UTF8');
BEGIN
	RETURN coalesce((SELECT string_agg(CASE WHEN get_byte(bytes, i) < 128 AND chr(get_byte(bytes, i)) ~ '^[A-Za-z0-9._~-]$'
			THEN chr(get_byte(bytes, i)) ELSE '%' || upper(lpad(to_hex(get_byte(bytes, i)), 2, '0')) END, '' ORDER BY i)
		FROM generate_series(0, length(bytes) - 1) i), '');
END
$$;

-- Text inside an HTML page, also in a quoted attribute.
CREATE OR REPLACE FUNCTION coder.html_escape(value text)
RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN replace(replace(replace(replace(replace(value, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;'), '''', '&#39;');
END
$$;

-- One element of validations.
CREATE OR REPLACE FUNCTION coder.validation(field text, detail text)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('field', field, 'detail', detail);
END
$$;

-- The element of validations of a broken rule of a body's field (E2).
CREATE OR REPLACE FUNCTION coder.validation_tag(field text, tag text, value text)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('field', field, 'detail',
		format('Validation failed for tag "%s" with value: "%s"', tag, value));
END
$$;

-- ZC400 "Validation failed." unless the array is empty or NULL.
CREATE OR REPLACE FUNCTION coder.raise_validations(validations jsonb[])
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF cardinality(validations) > 0 THEN
		PERFORM coder.raise(400, 'Validation failed.', NULL, to_jsonb(validations));
	END IF;
END
$$;

-- The body, which must be a JSON object (E1), with the required members present and not empty (E2).
-- JSON null counts as an object without members, as the reference does.
CREATE OR REPLACE FUNCTION coder.body(req coder.request, VARIADIC required text[] DEFAULT '{}')
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	field text;
	broken jsonb[] := '{}';
BEGIN
	IF req.body IS NULL THEN
		PERFORM coder.raise(400, 'Request body must be valid JSON.',
			CASE WHEN coalesce(length(req.raw), 0) = 0 THEN 'EOF' ELSE 'the body is not valid JSON' END);
	END IF;
	IF jsonb_typeof(req.body) = 'null' THEN
		req.body := '{}';
	ELSIF jsonb_typeof(req.body) <> 'object' THEN
		PERFORM coder.raise(400, 'Request body must be valid JSON.',
			format('json: cannot unmarshal %s into an object', jsonb_typeof(req.body)));
	END IF;
	FOREACH field IN ARRAY required LOOP
		IF coalesce(req.body->>field, '') = '' THEN
			broken := broken || coder.validation_tag(field, 'required', '');
		END IF;
	END LOOP;
	PERFORM coder.raise_validations(broken);
	RETURN req.body;
END
$$;

-- A member that must be a string, a number, a boolean or an array where present and not null (E1).
CREATE OR REPLACE FUNCTION coder.body_type(body jsonb, field text, type text)
RETURNS void LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF coalesce(jsonb_typeof(body->field), 'null') NOT IN ('null', type) THEN
		PERFORM coder.raise(400, 'Request body must be valid JSON.',
			format('json: cannot unmarshal %s into field "%s" of type %s', jsonb_typeof(body->field), field, type));
	END IF;
END
$$;

-- Text as a uuid, NULL where it is none.
CREATE OR REPLACE FUNCTION coder.try_uuid(value text)
RETURNS uuid LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	value := regexp_replace(value, '^urn:uuid:', '', 'i');
	IF value ~* '^\{?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\}?$' OR value ~* '^[0-9a-f]{32}$' THEN
		RETURN value::uuid;
	END IF;
	RETURN NULL;
END
$$;

-- A path parameter that is a uuid (E9).
CREATE OR REPLACE FUNCTION coder.param_uuid(req coder.request, name text)
RETURNS uuid LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id uuid := coder.try_uuid(req.params->>name);
BEGIN
	IF coalesce(req.params->>name, '') = '' THEN
		PERFORM coder.raise(400, 'Missing UUID in URL.');
	ELSIF id IS NULL THEN
		PERFORM coder.raise(400, format('Invalid UUID "%s".', req.params->>name),
			format('invalid UUID length: %s', length(req.params->>name)));
	END IF;
	RETURN id;
END
$$;

-- {user}: "me", a uuid, or a name; E5 where there is none or it may not be read.
CREATE OR REPLACE FUNCTION coder.param_user(req coder.request, name text DEFAULT 'user')
RETURNS coder.users LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	value text := req.params->>name;
	uid uuid;
	found_user coder.users;
BEGIN
	IF value = 'me' THEN
		uid := coder.subject_id();
		IF uid IS NULL THEN
			PERFORM coder.raise(400, 'Cannot use "me" without a valid session.');
		END IF;
	ELSE
		uid := coder.try_uuid(value);
	END IF;
	IF uid IS NOT NULL THEN
		SELECT u.* INTO found_user FROM coder.users u WHERE u.id = uid;
	ELSE
		SELECT u.* INTO found_user FROM coder.users u WHERE lower(u.username) = lower(value) AND NOT u.deleted;
	END IF;
	IF found_user.id IS NULL OR NOT coder.can('read', 'user', NULL, found_user.id, id => found_user.id) THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN found_user;
END
$$;

-- An organization by id, name, or "default"; NULL where there is none.
CREATE OR REPLACE FUNCTION coder.find_organization(value text)
RETURNS coder.organizations LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org coder.organizations;
	oid uuid := coder.try_uuid(value);
BEGIN
	IF value = 'default' OR oid = '00000000-0000-0000-0000-000000000000' THEN
		SELECT o.* INTO org FROM coder.organizations o WHERE o.is_default;
	ELSIF oid IS NOT NULL THEN
		SELECT o.* INTO org FROM coder.organizations o WHERE o.id = oid AND NOT o.deleted;
	ELSE
		SELECT o.* INTO org FROM coder.organizations o WHERE lower(o.name) = lower(value) AND NOT o.deleted;
	END IF;
	RETURN org;
END
$$;

-- {organization}: a uuid, a name, "default" or the nil uuid; E5.
CREATE OR REPLACE FUNCTION coder.param_organization(req coder.request, name text DEFAULT 'organization')
RETURNS coder.organizations LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org coder.organizations := coder.find_organization(req.params->>name);
BEGIN
	IF org.id IS NULL OR NOT coder.can('read', 'organization', org.id, id => org.id) THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN org;
END
$$;

-- ZC400 for one bad query parameter (E3).
CREATE OR REPLACE FUNCTION coder.raise_query(field text, detail text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.raise(400, 'Query parameters have invalid values.', NULL,
		jsonb_build_array(coder.validation(field, detail)));
END
$$;

-- A query parameter given once; def where it is absent or empty.
CREATE OR REPLACE FUNCTION coder.query_text(req coder.request, name text, def text DEFAULT NULL)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF req.query ? (name || '[]') THEN
		PERFORM coder.raise_query(name, format(
			'Query param "%s" provided more than once, found %s times. Only provide 1 instance of this query param.',
			name, jsonb_array_length(req.query->(name || '[]'))));
	END IF;
	RETURN coalesce(nullif(req.query->>name, ''), def);
END
$$;

-- A number of 0 … 2147483647.
CREATE OR REPLACE FUNCTION coder.query_int(req coder.request, name text, def int4 DEFAULT NULL)
RETURNS int4 LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	value text := coder.query_text(req, name);
	why text;
BEGIN
	IF value IS NULL THEN
		RETURN def;
	END IF;
	IF value !~ '^[+-]?[0-9]{1,18}$' THEN
		why := format('strconv.ParseInt: parsing %s: invalid syntax', to_jsonb(value));
	ELSIF value::bigint < 0 THEN
		why := 'value is negative';
	ELSIF value::bigint > 2147483647 THEN
		why := format('strconv.ParseInt: parsing %s: value out of range', to_jsonb(value));
	ELSE
		RETURN value::int4;
	END IF;
	PERFORM coder.raise_query(name, format('Query param "%s" must be a valid 32-bit positive integer: %s', name, why));
END
$$;

-- A boolean in Go's words.
CREATE OR REPLACE FUNCTION coder.query_bool(req coder.request, name text, def bool DEFAULT false)
RETURNS bool LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	value text := coder.query_text(req, name);
BEGIN
	IF value IS NULL THEN
		RETURN def;
	ELSIF value IN ('1', 't', 'T', 'true', 'TRUE', 'True') THEN
		RETURN true;
	ELSIF value IN ('0', 'f', 'F', 'false', 'FALSE', 'False') THEN
		RETURN false;
	END IF;
	PERFORM coder.raise_query(name, format('Query param "%s" must be a valid boolean: "%s" is not one', name, value));
END
$$;

-- A query parameter that is a UUID, def where it is not given; errors: 400.
CREATE OR REPLACE FUNCTION coder.query_uuid(req coder.request, name text, def uuid DEFAULT NULL)
RETURNS uuid LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	value text := coder.query_text(req, name);
	id uuid := coder.try_uuid(value);
BEGIN
	IF value IS NULL THEN
		RETURN def;
	ELSIF id IS NULL THEN
		PERFORM coder.raise_query(name, format('Query param "%s" must be a valid uuid: invalid UUID length: %s', name, length(value)));
	END IF;
	RETURN id;
END
$$;

-- Comma-separated and repeated values; an empty array where there are none.
CREATE OR REPLACE FUNCTION coder.query_list(req coder.request, name text)
RETURNS text[] LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF req.query ? (name || '[]') THEN
		RETURN (SELECT coalesce(array_agg(s.v), '{}') FROM jsonb_array_elements_text(req.query->(name || '[]')) e (v),
			unnest(string_to_array(e.v, ',')) s (v) WHERE s.v <> '');
	END IF;
	RETURN coalesce((SELECT array_agg(s.v) FROM unnest(string_to_array(req.query->>name, ',')) s (v) WHERE s.v <> ''), '{}');
END
$$;

-- A deployment setting, NULL where the gateway passed none.
CREATE OR REPLACE FUNCTION coder.setting(name text)
RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT s.value FROM coder.settings s WHERE s.name = $1);
END
$$;

-- A setting in words of a Go bool; def where it is not set or none of them.
CREATE OR REPLACE FUNCTION coder.setting_bool(name text, def bool DEFAULT false)
RETURNS bool LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE WHEN coder.setting(name) IN ('1', 't', 'T', 'true', 'TRUE', 'True') THEN true
		WHEN coder.setting(name) IN ('0', 'f', 'F', 'false', 'FALSE', 'False') THEN false ELSE def END;
END
$$;

-- Is an experiment on?  "*" in the setting turns on those that are safe, of which there are none.
CREATE OR REPLACE FUNCTION coder.experiment(name text)
RETURNS bool LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce(name = ANY (regexp_split_to_array(trim(coder.setting('experiments')), '\s*,\s*')), false);
END
$$;

-- The product's version, as in X-Coder-Build-Version.
CREATE OR REPLACE FUNCTION coder.version()
RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce(coder.setting('version'), 'v2.32.0');
END
$$;

-- Settings: an object of name -> text or any JSON, which is kept as text; null: it goes.  Those not named stay; but where
-- whole is true, as a gateway says at its start, those that were given to a gateway before and are not given any more
-- go, so that their defaults hold again.  What an administrator has set by SQL stays until a gateway is given another.
-- Also makes what a deployment needs once.
CREATE OR REPLACE FUNCTION coder.configure(settings jsonb, whole bool DEFAULT false)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	changed bool;
	gone bool;
BEGIN
	IF jsonb_typeof(settings) IS DISTINCT FROM 'object' THEN
		RAISE invalid_parameter_value USING MESSAGE = 'settings must be an object';
	END IF;
	PERFORM coder.seed();
	INSERT INTO coder.settings AS s (name, value, given)
	SELECT e.key, e.value, whole FROM jsonb_each_text(settings) e WHERE e.value IS NOT NULL
	ON CONFLICT (name) DO UPDATE SET value = excluded.value, given = s.given OR excluded.given
	 WHERE s.value <> excluded.value OR excluded.given AND NOT s.given;
	changed := FOUND;
	DELETE FROM coder.settings s
	 WHERE CASE WHEN settings ? s.name THEN jsonb_typeof(settings->s.name) = 'null' ELSE whole AND s.given END;
	gone := FOUND;
	IF changed OR gone THEN
		PERFORM pg_notify('settings', '');
	END IF;
END
$$;

-- Rows that every deployment has: made once, at the first start, and not by CREATE EXTENSION, since
-- pg_dump saves them.
CREATE OR REPLACE FUNCTION coder.seed()
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org uuid;
	prebuilds CONSTANT uuid := 'c42fdf75-3097-471c-8c33-fb52454d81c0';
BEGIN
	IF EXISTS (SELECT 1 FROM coder.site_configs c WHERE c.key = 'deployment_id') THEN
		RETURN;
	END IF;
	PERFORM coder.lock('coder.seed');
	INSERT INTO coder.site_configs (key, value) VALUES ('deployment_id', gen_random_uuid()::text)
	ON CONFLICT DO NOTHING;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	INSERT INTO coder.site_configs (key, value)
	SELECT 'oauth2_github_default_eligible', (NOT coder.users_exist())::text ON CONFLICT DO NOTHING;
	INSERT INTO coder.site_configs (key, value)
	SELECT 'derp_mesh_key', encode(coder.random_bytes(32), 'hex') ON CONFLICT DO NOTHING;
	PERFORM coder.audit_as('seed', false);
	INSERT INTO coder.organizations (name, display_name, description, is_default)
	SELECT 'coder', 'Coder', 'Builtin default organization.', true
	 WHERE NOT EXISTS (SELECT 1 FROM coder.organizations o WHERE o.is_default)
	RETURNING id INTO org;
	INSERT INTO coder.users (id, username, email, name, login_type, status, is_system)
	VALUES (prebuilds, 'prebuilds', 'prebuilds@system', 'Prebuilds Owner', 'none', 'active', true)
	ON CONFLICT DO NOTHING;
	INSERT INTO coder.organization_members (user_id, organization_id)
	SELECT prebuilds, o.id FROM coder.organizations o WHERE o.is_default ON CONFLICT DO NOTHING;
	PERFORM coder.webpush_keys();
	PERFORM coder.audit_as(NULL);
END
$$;

-- Old events go; the background worker calls it.
CREATE OR REPLACE FUNCTION coder.events_purge()
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	DELETE FROM coder.events e WHERE (e.xid, e.seq) IN (
		SELECT o.xid, o.seq FROM coder.events o WHERE o.created_at < now() - interval '10 minutes' ORDER BY o.xid, o.seq LIMIT 10000);
END
$$;

-- What a route answers that is not built yet.
CREATE OR REPLACE FUNCTION coder.not_built(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.raise(501, format('"%s %s" is not built yet.', req.method, req.route));
END
$$;

-- What a route answers that the reference has behind its licence only and that is not built: what a client of the
-- reference without a licence is answered, whoever asks.
CREATE OR REPLACE FUNCTION coder.licensed_not_built(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.raise(404, 'Route not found.');
END
$$;

-- A setting that is a duration, in seconds: "86400", or as in "24h", "1h30m", "7d"; def where it is not set, or no duration.
CREATE OR REPLACE FUNCTION coder.setting_seconds(name text, def bigint)
RETURNS bigint LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	value CONSTANT text := coder.setting(name);
BEGIN
	IF value ~ '^[0-9]{1,12}$' THEN
		RETURN value::bigint;
	ELSIF coalesce(value, '') !~ '^([0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h|d))+$' THEN
		RETURN def;
	END IF;
	RETURN (SELECT floor(sum(p[1]::numeric * CASE p[2] WHEN 'ms' THEN 0.001 WHEN 's' THEN 1 WHEN 'm' THEN 60
												WHEN 'h' THEN 3600 ELSE 86400 END))
			  FROM regexp_matches(value, '([0-9.]+)(ms|s|m|h|d)', 'g') p);
END
$$;
