-- sql/api/provisionerkey.sql -- keys of external provisioner daemons: made once, shown once, kept as their SHA-256
--
-- Tables: sql/schema/job.sql.

-- ProvisionerKey
CREATE OR REPLACE FUNCTION coder.provisionerkey_json(k coder.provisioner_keys)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('id', k.id, 'created_at', coder.ts(k.created_at), 'organization', k.organization_id, 'name', k.name, 'tags', k.tags);
END
$$;

-- Names of the keys that stand for something else than a key.
CREATE OR REPLACE FUNCTION coder.provisionerkey_reserved(name text)
RETURNS bool LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN lower(name) IN ('built-in', 'user-auth', 'psk');
END
$$;

-- GET /organizations/{organization}/provisionerkeys: those that people made
CREATE OR REPLACE FUNCTION coder.provisionerkey_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT coder.organizations := coder.param_organization(req);
BEGIN
	PERFORM coder.require_read('read', 'provisioner_daemon', org.id);
	RETURN coder.reply(200, coalesce((SELECT jsonb_agg(coder.provisionerkey_json(k) ORDER BY lower(k.name))
		FROM coder.provisioner_keys k WHERE k.organization_id = org.id AND NOT coder.provisionerkey_reserved(k.name)), '[]'));
END
$$;

-- POST /organizations/{organization}/provisionerkeys: the key itself is told here only
CREATE OR REPLACE FUNCTION coder.provisionerkey_create(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT coder.organizations := coder.param_organization(req);
	body CONSTANT jsonb := coder.body(req);
	name CONSTANT text := coalesce(body->>'name', '');
	tags CONSTANT jsonb := coalesce(nullif(body->'tags', 'null'), '{}');
	key CONSTANT text := coder.random_key(43);
	why text;
BEGIN
	PERFORM coder.body_type(body, 'tags', 'object');
	PERFORM coder.body_type(tags, t.key, 'string') FROM jsonb_each(tags) t;
	PERFORM coder.require('create', 'provisioner_daemon', org.id);
	why := CASE WHEN name = '' THEN 'Name is required' WHEN length(name) > 64 THEN 'Name must be at most 64 characters'
		WHEN coder.provisionerkey_reserved(name) THEN format('Name cannot be reserved name ''%s''', name)
		WHEN name !~ '^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$' THEN 'Name must be letters and digits, with dashes, dots and underscores in between' END;
	IF why IS NOT NULL THEN
		PERFORM coder.raise(400, why, NULL, jsonb_build_array(coder.validation('name', why)));
	END IF;
	INSERT INTO coder.provisioner_keys (organization_id, name, hashed_secret, tags)
	VALUES (org.id, name, coder.sha256(key), '{"scope": "organization", "owner": ""}'::jsonb
		|| (tags - '{scope,owner}'::text[]));
	RETURN coder.reply(201, jsonb_build_object('key', key));
EXCEPTION WHEN unique_violation THEN
	PERFORM coder.raise(409, format('Provisioner key with name ''%s'' already exists in organization', name));
END
$$;

-- GET /organizations/{organization}/provisionerkeys/daemons: the daemons of each key
CREATE OR REPLACE FUNCTION coder.provisionerkey_daemons(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT coder.organizations := coder.param_organization(req);
	daemons jsonb;
BEGIN
	PERFORM coder.require_read('read', 'provisioner_daemon', org.id);
	daemons := (coder.provisionerdaemon_list(req)).body;
	RETURN coder.reply(200, coalesce((SELECT jsonb_agg(jsonb_build_object('key', coder.provisionerkey_json(k), 'daemons',
			coalesce((SELECT jsonb_agg(d) FROM jsonb_array_elements(daemons) d WHERE d->>'key_id' = k.id::text), '[]')) ORDER BY lower(k.name))
		FROM coder.provisioner_keys k WHERE k.organization_id = org.id
			OR EXISTS (SELECT 1 FROM jsonb_array_elements(daemons) d WHERE d->>'key_id' = k.id::text)), '[]'));
END
$$;

-- DELETE /organizations/{organization}/provisionerkeys/{provisionerkey}: its daemons go, too
CREATE OR REPLACE FUNCTION coder.provisionerkey_delete(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT coder.organizations := coder.param_organization(req);
	k coder.provisioner_keys;
BEGIN
	SELECT x.* INTO k FROM coder.provisioner_keys x
	 WHERE lower(x.name) = lower(req.params->>'provisionerkey') AND (x.organization_id = org.id OR coder.provisionerkey_reserved(x.name));
	IF k.id IS NULL OR NOT coder.can('read', 'provisioner_daemon', org.id) THEN
		PERFORM coder.raise_not_found();
	END IF;
	PERFORM coder.require('delete', 'provisioner_daemon', org.id);
	IF coder.provisionerkey_reserved(k.name) THEN
		PERFORM coder.raise(400, format('Cannot delete reserved ''%s'' provisioner key', k.name));
	END IF;
	DELETE FROM coder.provisioner_keys x WHERE x.id = k.id;
	RETURN coder.reply(204);
END
$$;

-- GET /provisionerkeys/{provisionerkey}: whoever has the key learns which it is
CREATE OR REPLACE FUNCTION coder.provisionerkey_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	secret CONSTANT text := coalesce(req.headers->>'coder-provisioner-daemon-key', '');
	k coder.provisioner_keys;
BEGIN
	SELECT x.* INTO k FROM coder.provisioner_keys x WHERE x.hashed_secret = coder.sha256(secret) AND length(secret) = 43;
	IF k.id IS NULL THEN
		PERFORM coder.raise(403, 'unable to auth: please provide the Coder-Provisioner-Daemon-Key header');
	ELSIF secret <> req.params->>'provisionerkey' AND lower(k.name) <> lower(req.params->>'provisionerkey') THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN coder.reply(200, coder.provisionerkey_json(k));
END
$$;

-- GET and PUT /prebuilds/settings
CREATE OR REPLACE FUNCTION coder.prebuilds_settings(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	paused bool := coalesce((coder.site_config('prebuilds_settings')::jsonb->>'reconciliation_paused')::bool, false);
	body jsonb;
BEGIN
	IF req.method = 'PUT' THEN
		PERFORM coder.require('update', 'deployment_config');
		body := coder.body(req);
		PERFORM coder.body_type(body, 'reconciliation_paused', 'boolean');
		IF coalesce((body->>'reconciliation_paused')::bool, false) = paused THEN
			RETURN coder.reply(304);
		END IF;
		paused := NOT paused;
		PERFORM coder.site_config_set('prebuilds_settings', jsonb_build_object('reconciliation_paused', paused)::text);
	END IF;
	RETURN coder.reply(200, jsonb_build_object('reconciliation_paused', paused));
END
$$;

DELETE FROM coder.routes WHERE area = 'provisionerkey';
INSERT INTO coder.routes (area, method, pattern, function, auth, read_only) VALUES
	('provisionerkey', 'GET', '/api/v2/organizations/{organization}/provisionerkeys', 'provisionerkey_list', 'session', true),
	('provisionerkey', 'POST', '/api/v2/organizations/{organization}/provisionerkeys', 'provisionerkey_create', 'session', false),
	('provisionerkey', 'GET', '/api/v2/organizations/{organization}/provisionerkeys/daemons', 'provisionerkey_daemons', 'session', true),
	('provisionerkey', 'DELETE', '/api/v2/organizations/{organization}/provisionerkeys/{provisionerkey}', 'provisionerkey_delete', 'session', false),
	('provisionerkey', 'GET', '/api/v2/provisionerkeys/{provisionerkey}', 'provisionerkey_get', 'none', true),
	('provisionerkey', 'GET', '/api/v2/prebuilds/settings', 'prebuilds_settings', 'session', true),
	('provisionerkey', 'PUT', '/api/v2/prebuilds/settings', 'prebuilds_settings', 'session', false);
