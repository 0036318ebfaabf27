-- sql/api/idpsync.sql -- organizations, groups and roles from the claims of a sign-in
--
-- Settings are one JSON object each in coder.site_configs: "idpsync:organization", "idpsync:groups:<organization>",
-- "idpsync:roles:<organization>"; where nobody has stored any, those of the deployment's environment count.  A setting
-- without a field is off.  Sign-in calls coder.idp_sync(user, claims); the user's latest claims are in coder.user_links.

-- A setting of the environment that is a JSON object; {} where it is not set or none.
CREATE OR REPLACE FUNCTION coder.setting_object(name text)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	value jsonb;
BEGIN
	value := coder.setting(name)::jsonb;
	RETURN CASE WHEN jsonb_typeof(value) = 'object' THEN value ELSE '{}' END;
EXCEPTION WHEN invalid_text_representation THEN
	RETURN '{}';
END
$$;

-- The settings in force: kind is organization, groups or roles.
CREATE OR REPLACE FUNCTION coder.idpsync_settings(kind text, org uuid DEFAULT NULL)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	stored CONSTANT jsonb := coder.site_config('idpsync:' || kind || coalesce(':' || org, ''))::jsonb;
BEGIN
	IF stored IS NOT NULL THEN
		RETURN stored;
	ELSIF kind = 'organization' THEN
		RETURN jsonb_build_object('field', coalesce(coder.setting('oidc_organization_field'), ''),
			'mapping', coder.setting_object('oidc_organization_mapping'),
			'organization_assign_default', coder.setting_bool('oidc_organization_assign_default', true));
	ELSIF kind = 'roles' THEN
		RETURN '{"field": "", "mapping": {}}';
	ELSIF NOT EXISTS (SELECT 1 FROM coder.organizations o WHERE o.id = org AND o.is_default) THEN
		RETURN '{"field": "", "mapping": {}, "regex_filter": null, "auto_create_missing_groups": false}';
	END IF;
	RETURN jsonb_build_object('field', coalesce(coder.setting('oidc_group_field'), ''), 'mapping', '{}'::jsonb,
		'regex_filter', coalesce(nullif(coder.setting('oidc_group_regex_filter'), ''), '.*'),
		'auto_create_missing_groups', coder.setting_bool('oidc_group_auto_create'))
		|| CASE coder.setting_object('oidc_group_mapping') WHEN '{}' THEN '{}'
			ELSE jsonb_build_object('legacy_group_name_mapping', coder.setting_object('oidc_group_mapping')) END;
END
$$;

-- A claim as a list: a list of texts, or one text; what is neither counts as empty.
CREATE OR REPLACE FUNCTION coder.claim_list(claims jsonb, field text)
RETURNS text[] LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	claim CONSTANT jsonb := claims->field;
BEGIN
	IF jsonb_typeof(claim) = 'string' THEN
		RETURN CASE WHEN claim = '""' THEN '{}' ELSE ARRAY[claim #>> '{}'] END;
	ELSIF jsonb_typeof(claim) = 'array' THEN
		RETURN ARRAY(SELECT DISTINCT e #>> '{}' FROM jsonb_array_elements(claim) e WHERE jsonb_typeof(e) = 'string');
	END IF;
	RETURN '{}';
END
$$;

-- What a list of claims gives by a mapping of text to lists; claims that it does not name are left out.
CREATE OR REPLACE FUNCTION coder.claims_mapped(list text[], mapping jsonb)
RETURNS text[] LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN ARRAY(SELECT DISTINCT g.v FROM unnest(list) c (v), jsonb_array_elements_text(CASE jsonb_typeof(mapping->c.v)
		WHEN 'array' THEN mapping->c.v WHEN 'string' THEN jsonb_build_array(mapping->c.v) ELSE '[]' END) g (v));
END
$$;

-- The user's organizations become those that the claims give.
CREATE OR REPLACE FUNCTION coder.idp_sync_organizations(uid uuid, claims jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s CONSTANT jsonb := coder.idpsync_settings('organization');
	wanted uuid[];
BEGIN
	IF coalesce(s->>'field', '') = '' THEN
		RETURN;
	END IF;
	SELECT coalesce(array_agg(o.id), '{}') INTO wanted FROM coder.organizations o
	 WHERE NOT o.deleted AND (o.id::text = ANY (coder.claims_mapped(coder.claim_list(claims, s->>'field'), s->'mapping'))
		OR (o.is_default AND coalesce((s->>'organization_assign_default')::bool, false)));
	DELETE FROM coder.organization_members m WHERE m.user_id = uid AND m.organization_id <> ALL (wanted);
	INSERT INTO coder.organization_members (user_id, organization_id) SELECT uid, w FROM unnest(wanted) w
	 WHERE NOT EXISTS (SELECT 1 FROM coder.organization_members m WHERE m.user_id = uid AND m.organization_id = w);
END
$$;

-- Does a name match a filter of groups?  One that is no regular expression lets nothing through.
CREATE OR REPLACE FUNCTION coder.regex_matches(value text, regex text)
RETURNS bool LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN regex IS NULL OR value ~ regex;
EXCEPTION WHEN invalid_regular_expression THEN
	RETURN false;
END
$$;

-- The user's groups in an organization become those that the claims give, but for Everyone.
CREATE OR REPLACE FUNCTION coder.idp_sync_groups(uid uuid, org uuid, claims jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s CONSTANT jsonb := coder.idpsync_settings('groups', org);
	names text[];
	wanted uuid[];
	missing text;
BEGIN
	IF coalesce(s->>'field', '') = '' THEN
		RETURN;
	END IF;
	-- The older mapping is from name to name.
	names := ARRAY(SELECT DISTINCT coalesce(s->'legacy_group_name_mapping'->>c.v, c.v)
		FROM unnest(coder.claim_list(claims, s->>'field')) c (v));
	names := ARRAY(SELECT n FROM unnest(names) n WHERE coder.regex_matches(n, s->>'regex_filter'));
	IF coalesce((s->>'auto_create_missing_groups')::bool, false) THEN
		FOR missing IN SELECT n FROM unnest(names) n
			 WHERE NOT s->'mapping' ? n AND n <> '' AND length(n) <= 255 AND lower(n) <> 'everyone'
			   AND NOT EXISTS (SELECT 1 FROM coder.groups g WHERE g.organization_id = org AND g.name = n) ORDER BY n LOOP
			INSERT INTO coder.groups (name, organization_id, source) VALUES (missing, org, 'oidc') ON CONFLICT DO NOTHING;
		END LOOP;
	END IF;
	wanted := ARRAY(SELECT g.id FROM coder.groups g WHERE g.organization_id = org AND g.id <> org
		AND (g.id::text = ANY (coder.claims_mapped(names, s->'mapping'))
			OR (g.name = ANY (names) AND NOT s->'mapping' ? g.name)));
	DELETE FROM coder.group_members m USING coder.groups g
	 WHERE m.user_id = uid AND g.id = m.group_id AND g.organization_id = org AND g.id <> org AND g.id <> ALL (wanted);
	INSERT INTO coder.group_members (user_id, group_id) SELECT uid, w FROM unnest(wanted) w
	 WHERE NOT EXISTS (SELECT 1 FROM coder.group_members m WHERE m.user_id = uid AND m.group_id = w);
END
$$;

-- Roles of an organization (NULL: of the site) that the claims give: by the mapping, and by their names; unknown ones
-- are left out.
CREATE OR REPLACE FUNCTION coder.claimed_roles(list text[], mapping jsonb, org uuid)
RETURNS text[] LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN ARRAY(SELECT r.v FROM (SELECT unnest(coder.claims_mapped(list, mapping))
			UNION SELECT c FROM unnest(list) c WHERE NOT mapping ? c) r (v)
		WHERE r.v NOT IN ('member', 'organization-member', 'organization-service-account')
		  AND (coder.rbac_role(r.v, org IS NOT NULL) IS NOT NULL OR EXISTS (SELECT 1 FROM coder.custom_roles c
			WHERE c.name = r.v AND c.organization_id IS NOT DISTINCT FROM org AND NOT c.is_system))
		ORDER BY r.v);
END
$$;

-- The user's roles in an organization become those that the claims give.
CREATE OR REPLACE FUNCTION coder.idp_sync_roles(uid uuid, org uuid, claims jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s CONSTANT jsonb := coder.idpsync_settings('roles', org);
	wanted text[];
BEGIN
	IF coalesce(s->>'field', '') = '' THEN
		RETURN;
	END IF;
	wanted := coder.claimed_roles(coder.claim_list(claims, s->>'field'), s->'mapping', org);
	UPDATE coder.organization_members m SET roles = wanted, updated_at = now()
	 WHERE m.user_id = uid AND m.organization_id = org AND NOT (m.roles @> wanted AND m.roles <@ wanted);
END
$$;

-- Are the roles of the site (org NULL), or of an organization, given by claims?
CREATE OR REPLACE FUNCTION coder.role_sync_on(org uuid DEFAULT NULL)
RETURNS bool LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE WHEN org IS NULL THEN coalesce(coder.setting('oidc_user_role_field'), '') <> ''
		ELSE coalesce(coder.idpsync_settings('roles', org)->>'field', '') <> '' END;
END
$$;

-- At a sign-in: what the claims say of the user's organizations, and in each of these of groups and roles, comes to be;
-- then the roles of the site.  Each only where it is set up.
CREATE OR REPLACE FUNCTION coder.idp_sync(uid uuid, claims jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org uuid;
	wanted text[];
BEGIN
	PERFORM coder.idp_sync_organizations(uid, claims);
	FOR org IN SELECT m.organization_id FROM coder.organization_members m WHERE m.user_id = uid ORDER BY 1 LOOP
		PERFORM coder.idp_sync_groups(uid, org, claims);
		PERFORM coder.idp_sync_roles(uid, org, claims);
	END LOOP;
	IF coder.role_sync_on() THEN
		wanted := coder.claimed_roles(coder.claim_list(claims, coder.setting('oidc_user_role_field'))
				|| ARRAY(SELECT trim(d) FROM unnest(string_to_array(coalesce(coder.setting('oidc_user_role_default'), ''), ',')) d),
			coder.setting_object('oidc_user_role_mapping'), NULL);
		UPDATE coder.users u SET rbac_roles = wanted, updated_at = now()
		 WHERE u.id = uid AND NOT (u.rbac_roles @> wanted AND u.rbac_roles <@ wanted);
	END IF;
END
$$;

-- ZC400 unless a mapping is an object of lists of texts; where ids is set, of UUIDs.
CREATE OR REPLACE FUNCTION coder.idpsync_check_mapping(mapping jsonb, ids bool)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	m record;
	v jsonb;
BEGIN
	IF jsonb_typeof(mapping) <> 'object' THEN
		PERFORM coder.raise(400, 'Request body must be valid JSON.', 'the mapping must be an object');
	END IF;
	FOR m IN SELECT e.key, e.value FROM jsonb_each(mapping) e LOOP
		IF jsonb_typeof(m.value) <> 'array' THEN
			PERFORM coder.raise(400, 'Request body must be valid JSON.', format('the mapping of "%s" must be a list', m.key));
		END IF;
		FOR v IN SELECT jsonb_array_elements(m.value) LOOP
			IF jsonb_typeof(v) <> 'string' OR (ids AND coder.try_uuid(v #>> '{}') IS NULL) THEN
				PERFORM coder.raise(400, 'Request body must be valid JSON.', format('the mapping of "%s" holds %s', m.key, v));
			END IF;
		END LOOP;
	END LOOP;
END
$$;

-- A mapping with the additions and without the removals of a request, [{"Given", "Gets"}].
CREATE OR REPLACE FUNCTION coder.idpsync_patch_mapping(mapping jsonb, body jsonb, ids bool)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	part text;
	item jsonb;
	given text;
	gets text;
	list jsonb;
BEGIN
	FOREACH part IN ARRAY ARRAY['add', 'remove'] LOOP
		SELECT e.value INTO list FROM jsonb_each(body) e WHERE lower(e.key) = part;
		IF coalesce(jsonb_typeof(list), 'null') NOT IN ('null', 'array') THEN
			PERFORM coder.raise(400, 'Request body must be valid JSON.', format('"%s" must be a list', part));
		END IF;
		FOR item IN SELECT jsonb_array_elements(CASE WHEN jsonb_typeof(list) = 'array' THEN list ELSE '[]' END) LOOP
			SELECT max(e.value) FILTER (WHERE lower(e.key) = 'given'), max(e.value) FILTER (WHERE lower(e.key) = 'gets')
			  INTO given, gets FROM jsonb_each_text(CASE WHEN jsonb_typeof(item) = 'object' THEN item ELSE '{}' END) e;
			IF given IS NULL OR gets IS NULL OR (ids AND coder.try_uuid(gets) IS NULL) THEN
				PERFORM coder.raise(400, 'Request body must be valid JSON.', format('%s is no mapping', item));
			END IF;
			gets := CASE WHEN ids THEN coder.try_uuid(gets)::text ELSE gets END;
			mapping := jsonb_set(mapping, ARRAY[given], coalesce(mapping->given, '[]') - gets
				|| CASE part WHEN 'add' THEN jsonb_build_array(gets) ELSE '[]' END);
			IF mapping->given = '[]' THEN
				mapping := mapping - given;
			END IF;
		END LOOP;
	END LOOP;
	RETURN mapping;
END
$$;

-- Refuses a regular expression that is none (E1, as where it is decoded).
CREATE OR REPLACE FUNCTION coder.idpsync_check_regex(regex text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM '' ~ regex;
EXCEPTION WHEN invalid_regular_expression THEN
	PERFORM coder.raise(400, 'Request body must be valid JSON.', format('error parsing regexp: %s', sqlerrm));
END
$$;

-- What a request makes of settings: the whole, …/config all but the mappings, …/mapping a change of the mapping.
CREATE OR REPLACE FUNCTION coder.idpsync_changed(kind text, path text, old jsonb, body jsonb)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ids CONSTANT bool := kind <> 'roles';
	made jsonb;
BEGIN
	IF path LIKE '%/mapping' THEN
		RETURN old || jsonb_build_object('mapping', coder.idpsync_patch_mapping(coalesce(old->'mapping', '{}'), body, ids));
	END IF;
	PERFORM coder.body_type(body, 'field', 'string');
	made := jsonb_build_object('field', coalesce(body->>'field', ''));
	IF path LIKE '%/config' THEN
		made := made || jsonb_build_object('mapping', coalesce(old->'mapping', '{}'));
	ELSE
		PERFORM coder.idpsync_check_mapping(coalesce(nullif(body->'mapping', 'null'), '{}'), ids);
		made := made || jsonb_build_object('mapping', coalesce(nullif(body->'mapping', 'null'), '{}'));
	END IF;
	IF kind = 'organization' THEN
		PERFORM coder.body_type(body, k, 'boolean') FROM unnest(ARRAY['assign_default', 'organization_assign_default']) k;
		made := made || jsonb_build_object('organization_assign_default',
			coalesce((body->>CASE WHEN path LIKE '%/config' THEN 'assign_default' ELSE 'organization_assign_default' END)::bool, false));
	ELSIF kind = 'groups' THEN
		PERFORM coder.body_type(body, 'regex_filter', 'string');
		PERFORM coder.body_type(body, 'auto_create_missing_groups', 'boolean');
		PERFORM coder.body_type(body, 'legacy_group_name_mapping', 'object');
		PERFORM coder.idpsync_check_regex(body->>'regex_filter');
		made := made || jsonb_build_object('regex_filter', body->>'regex_filter',
			'auto_create_missing_groups', coalesce((body->>'auto_create_missing_groups')::bool, false));
		made := made || CASE WHEN path LIKE '%/config' AND old ? 'legacy_group_name_mapping'
				THEN jsonb_build_object('legacy_group_name_mapping', old->'legacy_group_name_mapping')
			WHEN path NOT LIKE '%/config' AND coalesce(body->'legacy_group_name_mapping', 'null') NOT IN ('null', '{}')
				THEN jsonb_build_object('legacy_group_name_mapping', body->'legacy_group_name_mapping') ELSE '{}' END;
	END IF;
	RETURN made;
END
$$;

-- GET and PATCH of all settings: /settings/idpsync/organization and /organizations/{organization}/settings/idpsync/
-- {groups, roles}, and their /config and /mapping.
CREATE OR REPLACE FUNCTION coder.idpsync(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kind CONSTANT text := substring(req.route FROM 'idpsync/([a-z]+)');
	org coder.organizations;
	old jsonb;
	new jsonb;
BEGIN
	IF kind <> 'organization' THEN
		org := coder.param_organization(req);
	END IF;
	PERFORM coder.require(CASE WHEN req.method = 'GET' THEN 'read' ELSE 'update' END, 'idpsync_settings', org.id);
	old := coder.idpsync_settings(kind, org.id);
	IF req.method = 'GET' THEN
		RETURN coder.reply(200, old);
	END IF;
	new := coder.idpsync_changed(kind, req.route, old, coder.body(req));
	PERFORM coder.site_config_set('idpsync:' || kind || coalesce(':' || org.id, ''), new::text);
	RETURN coder.reply(200, new);
END
$$;

-- GET …/settings/idpsync/available-fields: the members of the claims of those who signed in; and …/field-values: the values
-- of one, of lists each element.  Of one organization, its members' only.
CREATE OR REPLACE FUNCTION coder.idpsync_claims(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org coder.organizations;
	field CONSTANT text := req.query->>'claimField';
	answer jsonb;
BEGIN
	IF req.params ? 'organization' THEN
		org := coder.param_organization(req);
	END IF;
	PERFORM coder.require('read', 'idpsync_settings', org.id);
	IF req.route LIKE '%/field-values' AND coalesce(field, '') = '' THEN
		PERFORM coder.raise(400, 'claimField query parameter is required');
	END IF;
	WITH claims AS (
		SELECT l.claims->'merged_claims' AS c FROM coder.user_links l JOIN coder.users u ON u.id = l.user_id
		 WHERE l.login_type = 'oidc' AND NOT u.deleted AND jsonb_typeof(l.claims->'merged_claims') = 'object'
		   AND (org.id IS NULL OR EXISTS (SELECT 1 FROM coder.organization_members m WHERE m.user_id = u.id AND m.organization_id = org.id))
	), words AS (
		SELECT DISTINCT k FROM claims, jsonb_object_keys(c) k WHERE req.route LIKE '%/available-fields'
		UNION
		SELECT e #>> '{}' FROM claims, jsonb_array_elements(CASE jsonb_typeof(c->field) WHEN 'array' THEN c->field ELSE jsonb_build_array(c->field) END) e
		 WHERE req.route LIKE '%/field-values' AND c ? field AND jsonb_typeof(e) <> 'null'
	)
	SELECT jsonb_agg(w.k ORDER BY w.k COLLATE "C") INTO answer FROM words w;
	RETURN coder.reply(200, coalesce(answer, '[]'));
END
$$;

DELETE FROM coder.routes WHERE area = 'idpsync';
INSERT INTO coder.routes (area, method, pattern, function, read_only)
SELECT 'idpsync', m.method, p.base || m.tail, 'idpsync', m.method = 'GET'
  FROM (VALUES ('/api/v2/settings/idpsync/organization'), ('/api/v2/organizations/{organization}/settings/idpsync/groups'),
		('/api/v2/organizations/{organization}/settings/idpsync/roles')) p (base),
	   (VALUES ('GET', ''), ('PATCH', ''), ('PATCH', '/config'), ('PATCH', '/mapping')) m (method, tail);
INSERT INTO coder.routes (area, method, pattern, function, pool, read_only) VALUES
	('idpsync', 'GET', '/api/v2/settings/idpsync/available-fields', 'idpsync_claims', 'slow', true),
	('idpsync', 'GET', '/api/v2/settings/idpsync/field-values', 'idpsync_claims', 'slow', true),
	('idpsync', 'GET', '/api/v2/organizations/{organization}/settings/idpsync/available-fields', 'idpsync_claims', 'slow', true),
	('idpsync', 'GET', '/api/v2/organizations/{organization}/settings/idpsync/field-values', 'idpsync_claims', 'slow', true);
