-- sql/api/rbac.sql -- roles to give, checks by clients, explanations for administrators
--
-- The rules: extension/rbac.c.

-- The permissions of a built-in role at a level (site, user, org, member), as Permission[].
CREATE OR REPLACE FUNCTION coder.role_permissions(role text, level text)
RETURNS jsonb LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'coder_role_permissions';

-- Is there such a resource type?
CREATE OR REPLACE FUNCTION coder.rbac_type_known(type text)
RETURNS bool LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'coder_rbac_type_known';

-- AssignableRoles of a built-in role.
CREATE OR REPLACE FUNCTION coder.assignable_role_json(role text, org uuid DEFAULT NULL)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- The deployment may keep owners out of workspaces.
	site CONSTANT text := CASE WHEN role = 'owner' AND coder.setting('disable_owner_workspace_access') IN ('1', 't', 'T', 'true', 'TRUE', 'True')
		THEN 'owner/no_access' ELSE role END;
BEGIN
	RETURN jsonb_build_object('name', role, 'display_name', coder.rbac_role(role, org IS NOT NULL),
			'site_permissions', coder.role_permissions(site, 'site'), 'user_permissions', coder.role_permissions(role, 'user'),
			'organization_permissions', coder.role_permissions(role, 'org'),
			'organization_member_permissions', coder.role_permissions(role, 'member'),
			'assignable', coder.may_assign(role, org), 'built_in', true)
		|| CASE WHEN org IS NULL THEN '{}' ELSE jsonb_build_object('organization_id', org) END;
END
$$;

-- Role of a custom role.
CREATE OR REPLACE FUNCTION coder.custom_role_json(r coder.custom_roles)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('name', r.name, 'display_name', r.display_name,
			'site_permissions', r.site_permissions, 'user_permissions', r.user_permissions,
			'organization_permissions', r.org_permissions, 'organization_member_permissions', r.member_permissions)
		|| CASE WHEN r.organization_id IS NULL THEN '{}' ELSE jsonb_build_object('organization_id', r.organization_id) END;
END
$$;

-- GET /users/roles
CREATE OR REPLACE FUNCTION coder.site_roles_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.require('read', 'assign_role');
	RETURN coder.reply(200, (SELECT jsonb_agg(coder.assignable_role_json(r.name) ORDER BY r.n)
		FROM unnest(ARRAY['owner', 'template-admin', 'auditor', 'user-admin']
			|| CASE WHEN coder.experiment('agents') THEN ARRAY['agents-access'] ELSE '{}' END) WITH ORDINALITY r (name, n))
		|| coalesce((SELECT jsonb_agg(coder.custom_role_json(c) || jsonb_build_object('assignable', coder.may_assign(c.name), 'built_in', false))
			FROM coder.custom_roles c WHERE c.organization_id IS NULL AND NOT c.is_system), '[]'));
END
$$;

-- GET /organizations/{organization}/members/roles
CREATE OR REPLACE FUNCTION coder.org_roles_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT coder.organizations := coder.param_organization(req);
BEGIN
	PERFORM coder.require_read('read', 'assign_org_role', org.id);
	RETURN coder.reply(200, (SELECT jsonb_agg(coder.assignable_role_json(r.name, org.id) ORDER BY r.n)
		FROM unnest(ARRAY['organization-auditor', 'organization-user-admin', 'organization-template-admin',
			'organization-workspace-creation-ban', 'organization-admin']) WITH ORDINALITY r (name, n))
		|| coalesce((SELECT jsonb_agg(coder.custom_role_json(c) || jsonb_build_object('assignable', coder.may_assign(c.name, org.id), 'built_in', false))
			FROM coder.custom_roles c WHERE c.organization_id = org.id AND NOT c.is_system), '[]'));
END
$$;

-- The permissions of a custom role as they are stored: ZC400 for what no custom role may hold (another level than the
-- organization's, negations, wildcards, types and actions that do not exist, names of built-in roles in any case), ZC403 for
-- what its maker may not do in the organization.
CREATE OR REPLACE FUNCTION coder.check_custom_role(body jsonb, org uuid)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	name CONSTANT text := body->>'name';
	kept jsonb := '[]';
	field text;
	p jsonb;
BEGIN
	FOREACH field IN ARRAY ARRAY['site_permissions', 'user_permissions', 'organization_permissions', 'organization_member_permissions'] LOOP
		PERFORM coder.body_type(body, field, 'array');
		IF field <> 'organization_permissions' AND coalesce(nullif(body->field, 'null'), '[]') <> '[]' THEN
			PERFORM coder.raise(400, 'Invalid request, only organization permissions may be set on a custom role.');
		END IF;
	END LOOP;
	IF NOT coder.name_ok(name) THEN
		PERFORM coder.raise(400, 'Invalid role name');
	ELSIF coder.rbac_role(lower(name), true) IS NOT NULL OR coder.rbac_role(lower(name), false) IS NOT NULL
		OR lower(name) IN ('member', 'organization-member', 'organization-service-account') THEN
		PERFORM coder.raise(400, 'Reserved role name', format('"%s" is the name of a built-in role', name));
	ELSIF NOT coder.display_name_ok(coalesce(body->>'display_name', '')) THEN
		PERFORM coder.raise_validations(ARRAY[coder.validation_tag('display_name', 'organization_display_name', body->>'display_name')]);
	ELSIF jsonb_array_length(coalesce(nullif(body->'organization_permissions', 'null'), '[]')) > 1000 THEN
		PERFORM coder.raise(400, 'Invalid request, a custom role has at most 1000 permissions.');
	END IF;
	FOR p IN SELECT jsonb_array_elements(coalesce(nullif(body->'organization_permissions', 'null'), '[]')) LOOP
		IF jsonb_typeof(p) <> 'object' OR coalesce(p->'negate', 'false') NOT IN ('false', 'null')
			OR '*' IN (p->>'resource_type', p->>'action') OR coder.rbac_action_known(p->>'resource_type', p->>'action') IS NOT TRUE THEN
			PERFORM coder.raise(400, format('Invalid permission "%s:%s"', p->>'resource_type', p->>'action'),
				'a permission names a resource type and one of its actions, without wildcards, and is not negated');
		ELSIF NOT coder.can(p->>'action', p->>'resource_type', org) THEN
			PERFORM coder.raise(403, 'Forbidden.', format('You cannot give "%s:%s", which you do not have.', p->>'resource_type', p->>'action'));
		END IF;
		kept := kept || jsonb_build_object('negate', false, 'resource_type', p->>'resource_type', 'action', p->>'action');
	END LOOP;
	RETURN kept;
END
$$;

-- Is the action one of the type's?
CREATE OR REPLACE FUNCTION coder.rbac_action_known(type text, action text)
RETURNS bool LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'coder_rbac_action_known';

-- Every resource type with its actions: {"type": ["action", …], …}.
CREATE OR REPLACE FUNCTION coder.rbac_resources()
RETURNS jsonb LANGUAGE C IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'coder_rbac_resources';

-- GET /auth/resources: what permissions are made of, for those who edit roles.  Ours; the reference has it in its client.
CREATE OR REPLACE FUNCTION coder.auth_resources(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, coder.rbac_resources());
END
$$;

-- POST and PUT /organizations/{organization}/members/roles: a custom role.
CREATE OR REPLACE FUNCTION coder.custom_role_put(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT coder.organizations := coder.param_organization(req);
	body CONSTANT jsonb := coder.body(req, 'name');
	permissions jsonb;
	r coder.custom_roles;
BEGIN
	PERFORM coder.require(CASE WHEN req.method = 'POST' THEN 'create' ELSE 'update' END, 'assign_org_role', org.id);
	permissions := coder.check_custom_role(body, org.id);
	IF req.method = 'POST' THEN
		INSERT INTO coder.custom_roles (name, display_name, org_permissions, organization_id)
		VALUES (body->>'name', coalesce(body->>'display_name', ''), permissions, org.id) RETURNING * INTO r;
	ELSE
		UPDATE coder.custom_roles c SET display_name = coalesce(body->>'display_name', ''), org_permissions = permissions, updated_at = now()
		 WHERE c.organization_id = org.id AND lower(c.name) = lower(body->>'name') AND NOT c.is_system RETURNING * INTO r;
		IF r.id IS NULL THEN
			PERFORM coder.raise(404, format('No custom role with the name %s found', body->>'name'));
		END IF;
	END IF;
	RETURN coder.reply(200, coder.custom_role_json(r));
EXCEPTION WHEN unique_violation THEN
	PERFORM coder.raise(400, format('A role named "%s" already exists.', body->>'name'));
END
$$;

-- DELETE /organizations/{organization}/members/roles/{roleName}
CREATE OR REPLACE FUNCTION coder.custom_role_delete(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT coder.organizations := coder.param_organization(req);
	gone uuid;
BEGIN
	PERFORM coder.require('delete', 'assign_org_role', org.id);
	DELETE FROM coder.custom_roles c WHERE c.organization_id = org.id AND lower(c.name) = lower(req.params->>'roleName') AND NOT c.is_system
	RETURNING c.id INTO gone;
	IF gone IS NULL THEN
		PERFORM coder.raise(404, format('No custom role with the name %s found', req.params->>'roleName'));
	END IF;
	RETURN coder.reply(204);
END
$$;

-- One check of POST /authcheck: with resource_id the row's own owner, organization and lists count.
CREATE OR REPLACE FUNCTION coder.authcheck_one(object jsonb, action text)
RETURNS bool LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	type CONSTANT text := object->>'resource_type';
	owner CONSTANT uuid := CASE WHEN object->>'owner_id' = 'me' THEN coder.subject_id() ELSE coder.try_uuid(object->>'owner_id') END;
	nowhere CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
	org uuid;
	o coder.access_object;
BEGIN
	IF coalesce(object->>'resource_id', '') = '' THEN
		-- What is no id is an organization that nobody is in.
		IF coalesce(object->>'organization_id', '') <> '' THEN
			org := coalesce(coder.try_uuid(object->>'organization_id'), nowhere);
		END IF;
		IF coalesce((object->>'any_org')::bool, false) THEN
			RETURN coalesce(org, nowhere) = nowhere AND coder.can_any(action, type, owner);
		END IF;
		RETURN coder.can(action, type, org, owner);
	END IF;
	o := coder.access_object(type, object->>'resource_id');
	RETURN o.type IS NOT NULL AND coder.can('read', o.type, o.org, o.owner, o.user_acl, o.group_acl, o.id)
		AND coder.can(action, o.type, o.org, o.owner, o.user_acl, o.group_acl, o.id);
END
$$;

-- POST /authcheck
CREATE OR REPLACE FUNCTION coder.authcheck(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	checks CONSTANT jsonb := coalesce(nullif(coder.body(req)->'checks', 'null'), '{}');
	c record;
	object jsonb;
	rows int4 := 0;
BEGIN
	PERFORM coder.body_type(req.body, 'checks', 'object');
	FOR c IN SELECT e.key, e.value FROM jsonb_each(checks) e LOOP
		object := coalesce(nullif(c.value->'object', 'null'), '{}');
		IF coalesce(object->>'resource_type', '') = '' THEN
			PERFORM coder.raise(400, format('Object''s "resource_type" field must be defined for key "%s".', c.key));
		ELSIF coalesce(object->>'resource_id', '') <> '' THEN
			rows := rows + 1;
			IF object->>'resource_type' NOT IN ('workspace', 'template', 'user', 'group') THEN
				PERFORM coder.raise(400, format('Object type "%s" does not support "resource_id" field.', object->>'resource_type'));
			ELSIF coder.try_uuid(object->>'resource_id') IS NULL THEN
				PERFORM coder.raise(400, format('Object %s id %s is not a valid uuid.', c.key, object->>'resource_id'));
			ELSIF rows > 10 THEN
				PERFORM coder.raise(400, 'Endpoint only supports using "resource_id" field up to 10 times.');
			END IF;
		END IF;
	END LOOP;
	RETURN coder.reply(200, (SELECT coalesce(jsonb_object_agg(e.key,
			coder.authcheck_one(coalesce(nullif(e.value->'object', 'null'), '{}'), coalesce(e.value->>'action', ''))), '{}')
		FROM jsonb_each(checks) e));
END
$$;

-- Why a user, by name or id, may or may not: see coder.explain_json.  Errors: P0002 for no such user.
CREATE OR REPLACE FUNCTION coder.explain_access(who text, action text, type text, org uuid DEFAULT NULL, owner uuid DEFAULT NULL,
	user_acl jsonb DEFAULT NULL, group_acl jsonb DEFAULT NULL, id uuid DEFAULT NULL, any_org bool DEFAULT false)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	uid uuid;
BEGIN
	SELECT u.id INTO uid FROM coder.users u
	 WHERE (u.id = coder.try_uuid(who) OR lower(u.username) = lower(who)) AND NOT u.deleted;
	IF uid IS NULL THEN
		RAISE no_data_found USING MESSAGE = format('user "%s" does not exist', who);
	END IF;
	RETURN coder.explain_json(uid, action, type, org, owner, user_acl, group_acl, explain_access.id, any_org);
END
$$;

-- Why a user may or may not act on a row: explain_access of the object that the row is.  Errors: P0002 for no such user
-- or row, 0A000 for a type whose rows coder.access_object does not know.
CREATE OR REPLACE FUNCTION coder.explain_access_to(who text, action text, type text, id text)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	o CONSTANT coder.access_object := coder.access_object(type, explain_access_to.id);
BEGIN
	IF o.type IS NULL THEN
		RAISE no_data_found USING MESSAGE = format('%s "%s" does not exist', type, explain_access_to.id);
	END IF;
	RETURN coder.explain_access(who, action, o.type, o.org, o.owner, o.user_acl, o.group_acl, o.id);
END
$$;

-- The object that a row is to the rules; of NULLs where there is no such row.  A dormant workspace is of the type
-- workspace_dormant.  Errors: 0A000 for a type whose rows have no object here.
CREATE OR REPLACE FUNCTION coder.access_object(type text, id text)
RETURNS coder.access_object LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	o coder.access_object;
	row_id CONSTANT uuid := coder.try_uuid(access_object.id);
BEGIN
	CASE access_object.type
	WHEN 'workspace', 'workspace_dormant' THEN
		SELECT CASE WHEN w.dormant_at IS NULL THEN 'workspace' ELSE 'workspace_dormant' END, w.id, w.organization_id, w.owner_id,
			CASE WHEN w.dormant_at IS NULL THEN w.user_acl END, CASE WHEN w.dormant_at IS NULL THEN w.group_acl END
		  INTO o FROM coder.workspaces w WHERE w.id = row_id;
	WHEN 'template' THEN
		SELECT 'template', t.id, t.organization_id, NULL, t.user_acl, t.group_acl INTO o FROM coder.templates t WHERE t.id = row_id;
	WHEN 'user' THEN
		SELECT 'user', u.id, NULL, u.id, NULL, NULL INTO o FROM coder.users u WHERE u.id = row_id;
	WHEN 'organization' THEN
		SELECT 'organization', g.id, g.id, NULL, NULL, NULL INTO o FROM coder.organizations g WHERE g.id = row_id;
	WHEN 'group' THEN
		SELECT 'group', g.id, g.organization_id, NULL, NULL, jsonb_build_object(g.id, '["read"]'::jsonb)
		  INTO o FROM coder.groups g WHERE g.id = row_id;
	WHEN 'file' THEN
		SELECT 'file', f.id, NULL, f.created_by, NULL, NULL INTO o FROM coder.files f WHERE f.id = row_id;
	WHEN 'api_key' THEN
		SELECT 'api_key', NULL, NULL, k.user_id, NULL, NULL INTO o FROM coder.api_keys k WHERE k.id = access_object.id;
	WHEN 'audit_log' THEN
		SELECT 'audit_log', l.id, nullif(l.organization_id, '00000000-0000-0000-0000-000000000000'), NULL, NULL, NULL
		  INTO o FROM coder.audit_logs l WHERE l.id = row_id;
	WHEN 'provisioner_daemon' THEN
		SELECT 'provisioner_daemon', d.id, d.organization_id, NULL, NULL, NULL INTO o FROM coder.provisioner_daemons d WHERE d.id = row_id;
	ELSE
		RAISE feature_not_supported USING MESSAGE = format('rows of the type "%s" cannot be named by an id', access_object.type);
	END CASE;
	RETURN o;
END
$$;

-- GET /users/{user}/access: why the user may or may not do something.  What is asked about is a row, resource_id, which the
-- asker must be able to read, or an object of organization_id, owner_id and any_org.  Of oneself the answer is by the
-- token that asks; of others, whose roles one must be able to read, by all of their rights.
CREATE OR REPLACE FUNCTION coder.user_access(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u CONSTANT coder.users := coder.param_user(req);
	action CONSTANT text := coalesce(req.query->>'action', '');
	type CONSTANT text := coalesce(req.query->>'resource_type', '');
	rid CONSTANT text := coalesce(req.query->>'resource_id', '');
	any_org CONSTANT bool := coder.query_bool(req, 'any_org', false);
	org uuid := coder.query_uuid(req, 'organization_id');
	owner uuid := CASE WHEN req.query->>'owner_id' = 'me' THEN u.id ELSE coder.query_uuid(req, 'owner_id') END;
	who CONSTANT uuid := CASE WHEN u.id <> coder.subject_id() THEN u.id END;
	o coder.access_object;
BEGIN
	PERFORM coder.require_read('read_personal', 'user', NULL, u.id, id => u.id);
	IF action = '' OR NOT coder.rbac_type_known(type) THEN
		PERFORM coder.raise(400, 'The parameters "action" and "resource_type" must name an action and a type of resource.');
	ELSIF rid = '' THEN
		RETURN coder.reply(200, coder.explain_json(who, action, type, org, owner, any_org => any_org));
	ELSIF type NOT IN ('workspace', 'workspace_dormant', 'template', 'user', 'organization', 'group', 'file', 'api_key', 'audit_log',
		'provisioner_daemon') THEN
		PERFORM coder.raise(400, format('Object type "%s" does not support "resource_id" field.', type));
	END IF;
	o := coder.access_object(type, rid);
	IF o.type IS NULL OR NOT coder.can('read', o.type, o.org, o.owner, o.user_acl, o.group_acl, o.id) THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN coder.reply(200, coder.explain_json(who, action, o.type, o.org, o.owner, o.user_acl, o.group_acl, o.id));
END
$$;

DELETE FROM coder.routes WHERE area = 'rbac';
INSERT INTO coder.routes (area, method, pattern, function, read_only) VALUES
	('rbac', 'GET', '/api/v2/auth/resources', 'auth_resources', true),
	('rbac', 'GET', '/api/v2/users/roles', 'site_roles_list', true),
	('rbac', 'GET', '/api/v2/organizations/{organization}/members/roles', 'org_roles_list', true),
	('rbac', 'POST', '/api/v2/organizations/{organization}/members/roles', 'custom_role_put', false),
	('rbac', 'PUT', '/api/v2/organizations/{organization}/members/roles', 'custom_role_put', false),
	('rbac', 'DELETE', '/api/v2/organizations/{organization}/members/roles/{roleName}', 'custom_role_delete', false),
	('rbac', 'GET', '/api/v2/users/{user}/access', 'user_access', true),
	('rbac', 'POST', '/api/v2/authcheck', 'authcheck', true);
