-- sql/api/organization.sql -- organizations, their members and groups
--
-- Tables: sql/schema/organization.sql, sql/schema/user.sql.

-- Organization
CREATE OR REPLACE FUNCTION coder.organization_json(o coder.organizations)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('id', o.id, 'name', o.name, 'display_name', o.display_name, 'icon', o.icon,
		'description', o.description, 'created_at', coder.ts(o.created_at), 'updated_at', coder.ts(o.updated_at),
		'is_default', o.is_default);
END
$$;

-- GET /organizations
CREATE OR REPLACE FUNCTION coder.organizations_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, coalesce((SELECT jsonb_agg(coder.organization_json(o) ORDER BY lower(o.name))
		FROM coder.organizations o WHERE NOT o.deleted AND coder.can('read', 'organization', o.id, id => o.id)), '[]'));
END
$$;

-- GET /organizations/{organization}
CREATE OR REPLACE FUNCTION coder.organization_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, coder.organization_json(coder.param_organization(req)));
END
$$;

-- Broken rules of an organization's members.
CREATE OR REPLACE FUNCTION coder.organization_check(body jsonb)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	broken jsonb[] := '{}';
BEGIN
	IF coalesce(body->>'name', '') <> '' AND NOT coder.name_ok(body->>'name') THEN
		broken := broken || coder.validation_tag('name', 'organization_name', body->>'name');
	END IF;
	IF NOT coder.display_name_ok(coalesce(body->>'display_name', '')) THEN
		broken := broken || coder.validation_tag('display_name', 'organization_display_name', body->>'display_name');
	END IF;
	PERFORM coder.raise_validations(broken);
	IF body->>'name' = 'default' THEN
		PERFORM coder.raise(400, 'Organization name "default" is reserved.');
	END IF;
END
$$;

-- POST /organizations: the caller becomes its first member and administrator.
CREATE OR REPLACE FUNCTION coder.organization_create(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body CONSTANT jsonb := coder.body(req, 'name');
	o coder.organizations;
BEGIN
	PERFORM coder.organization_check(body);
	PERFORM coder.require('create', 'organization');
	INSERT INTO coder.organizations (name, display_name, description, icon)
	VALUES (body->>'name', coalesce(nullif(body->>'display_name', ''), body->>'name'), coalesce(body->>'description', ''),
		coalesce(body->>'icon', ''))
	RETURNING * INTO o;
	INSERT INTO coder.organization_members (user_id, organization_id, roles)
	VALUES (coder.subject_id(), o.id, '{organization-admin}');
	RETURN coder.reply(201, coder.organization_json(o));
EXCEPTION WHEN unique_violation THEN
	PERFORM coder.raise(409, 'Organization already exists with that name.');
END
$$;

-- PATCH /organizations/{organization}
CREATE OR REPLACE FUNCTION coder.organization_patch(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	o coder.organizations := coder.param_organization(req);
	body CONSTANT jsonb := coder.body(req);
BEGIN
	PERFORM coder.organization_check(body);
	IF NOT coder.can('update', 'organization', o.id, id => o.id) THEN
		PERFORM coder.raise_not_found();
	END IF;
	UPDATE coder.organizations x SET name = coalesce(nullif(body->>'name', ''), x.name),
		display_name = coalesce(nullif(body->>'display_name', ''), x.display_name),
		description = coalesce(body->>'description', x.description), icon = coalesce(body->>'icon', x.icon), updated_at = now()
	 WHERE x.id = o.id RETURNING * INTO o;
	RETURN coder.reply(200, coder.organization_json(o));
EXCEPTION WHEN unique_violation THEN
	PERFORM coder.raise(409, 'Organization already exists with that name.');
END
$$;

-- DELETE /organizations/{organization}; what it still holds refuses it (trigger).
CREATE OR REPLACE FUNCTION coder.organization_delete(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	o CONSTANT coder.organizations := coder.param_organization(req);
BEGIN
	PERFORM coder.require('delete', 'organization', o.id, id => o.id);
	IF o.is_default THEN
		PERFORM coder.raise(400, 'Default organization cannot be deleted.');
	END IF;
	UPDATE coder.organizations x SET deleted = true, updated_at = now() WHERE x.id = o.id;
	RETURN coder.reply_message(200, 'Organization has been deleted.');
EXCEPTION WHEN restrict_violation THEN
	PERFORM coder.raise(400, 'Organization cannot be deleted.', sqlerrm);
END
$$;

-- GET /users/{user}/organizations
CREATE OR REPLACE FUNCTION coder.user_organizations(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u CONSTANT coder.users := coder.param_user(req);
BEGIN
	RETURN coder.reply(200, coalesce((SELECT jsonb_agg(coder.organization_json(o) ORDER BY o.created_at, o.id)
		FROM coder.organizations o JOIN coder.organization_members m ON m.organization_id = o.id
		WHERE m.user_id = u.id AND NOT o.deleted AND coder.can('read', 'organization', o.id, id => o.id)), '[]'));
END
$$;

-- GET /users/{user}/organizations/{organizationname}
CREATE OR REPLACE FUNCTION coder.user_organization(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.param_user(req);
	RETURN coder.reply(200, coder.organization_json(coder.param_organization(req, 'organizationname')));
END
$$;

-- Organization roles as SlimRole[].
CREATE OR REPLACE FUNCTION coder.org_slim_roles(roles text[], org uuid)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce((SELECT jsonb_agg(jsonb_build_object('name', r.name, 'display_name', coalesce(coder.rbac_role(r.name, true),
			(SELECT c.display_name FROM coder.custom_roles c WHERE c.name = r.name AND c.organization_id = org), ''),
			'organization_id', org) ORDER BY r.n)
		FROM unnest(roles) WITH ORDINALITY r (name, n)), '[]');
END
$$;

-- OrganizationMember
CREATE OR REPLACE FUNCTION coder.member_json(m coder.organization_members)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('user_id', m.user_id, 'organization_id', m.organization_id, 'created_at', coder.ts(m.created_at),
		'updated_at', coder.ts(m.updated_at), 'roles', coder.org_slim_roles(m.roles, m.organization_id));
END
$$;

-- OrganizationMemberWithUserData
CREATE OR REPLACE FUNCTION coder.member_user_json(m coder.organization_members, u coder.users)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (coder.user_reduced_json(u) - '{id,created_at,updated_at}'::text[])
		|| jsonb_build_object('user_created_at', coder.ts(u.created_at), 'user_updated_at', coder.ts(u.updated_at),
			'global_roles', coder.site_roles_json(u.rbac_roles), 'has_ai_seat', false)
		|| coder.member_json(m);
END
$$;

-- GET /organizations/{organization}/members
CREATE OR REPLACE FUNCTION coder.members_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT coder.organizations := coder.param_organization(req);
	terms CONSTANT jsonb := coder.search_parse(coalesce(req.query->>'q', ''), 'Invalid organization member search query.', NULL,
		ARRAY['user_id', 'github_user_id', 'include_system']);
BEGIN
	RETURN coder.reply(200, coalesce((SELECT jsonb_agg(coder.member_user_json(m, u) ORDER BY lower(u.username))
		FROM coder.organization_members m JOIN coder.users u ON u.id = m.user_id
		WHERE m.organization_id = org.id AND NOT u.deleted
		  AND (NOT u.is_system OR terms->'include_system'->>0 = 'true')
		  AND (NOT terms ? 'user_id' OR m.user_id = coder.try_uuid(terms->'user_id'->>0))
		  AND (NOT terms ? 'github_user_id' OR u.github_com_user_id::text = terms->'github_user_id'->>0)
		  AND coder.can('read', 'organization_member', org.id, m.user_id, id => m.user_id)), '[]'));
END
$$;

-- How many members of an organization meet a condition on coder.organization_members m and coder.users u; 'true': all that
-- a list shows, from the totals.
CREATE OR REPLACE FUNCTION coder.members_count(org uuid, condition text)
RETURNS bigint LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	total bigint;
BEGIN
	IF condition <> 'true' THEN
		EXECUTE format('SELECT count(*) FROM coder.organization_members m JOIN coder.users u ON u.id = m.user_id
			WHERE m.organization_id = %L AND NOT u.deleted AND NOT u.is_system AND %s', org, condition) INTO total;
		RETURN total;
	END IF;
	RETURN (SELECT coalesce(sum(t.members), 0) FROM coder.member_totals t WHERE t.organization_id = org)
		- (SELECT count(*) FROM coder.organization_members m JOIN coder.users u ON u.id = m.user_id
			WHERE m.organization_id = org AND (u.deleted OR u.is_system));
END
$$;

-- GET /organizations/{organization}/paginated-members
CREATE OR REPLACE FUNCTION coder.members_page(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT coder.organizations := coder.param_organization(req);
	terms CONSTANT jsonb := coder.user_search(req, 'Invalid member search query.');
	lim CONSTANT int4 := coder.query_int(req, 'limit', 0);
	off CONSTANT int4 := coder.query_int(req, 'offset', 0);
	after_id CONSTANT uuid := coder.query_uuid(req, 'after_id');
	readable CONSTANT coder.row_filter := coder.filter('read', 'organization_member');
	after_name text;
	parts text[] := '{}';
	condition text;
	total bigint;
	members jsonb;
BEGIN
	SELECT lower(u.username) INTO after_name FROM coder.users u WHERE u.id = after_id;
	IF after_name IS NOT NULL THEN
		parts := parts || format('lower(u.username) > %L', after_name);
	END IF;
	IF NOT (readable.everything OR org.id = ANY (readable.orgs)) OR readable.ids IS NOT NULL THEN
		parts := parts || coder.filter_sql('read', 'organization_member', 'm.organization_id', 'm.user_id', 'm.user_id');
	END IF;
	IF terms <> '{}' THEN
		parts := parts || coder.user_condition(terms);
	END IF;
	condition := coalesce(nullif(array_to_string(parts, ' AND '), ''), 'true');
	total := coder.members_count(org.id, condition);
	IF total > off THEN
		EXECUTE format('SELECT jsonb_agg(coder.member_user_json(p.m, p.u) ORDER BY p.name)
			FROM (SELECT m, u, lower(u.username) AS name
				  FROM coder.organization_members m JOIN coder.users u ON u.id = m.user_id
				 WHERE m.organization_id = %L AND NOT u.deleted AND NOT u.is_system AND %s
				 ORDER BY lower(u.username) OFFSET %s LIMIT %s) p', org.id, condition, off, coalesce(nullif(lim, 0)::text, 'NULL')) INTO members;
	END IF;
	RETURN coder.reply(200, jsonb_build_object('members', coalesce(members, '[]'), 'count', CASE WHEN members IS NULL THEN 0 ELSE total END));
END
$$;

-- {user} as a member: found with the system's rights, shown only if the membership may be read.
CREATE OR REPLACE FUNCTION coder.param_member(req coder.request, org uuid)
RETURNS coder.organization_members LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	value CONSTANT text := req.params->>'user';
	m coder.organization_members;
BEGIN
	SELECT x.* INTO m FROM coder.organization_members x JOIN coder.users u ON u.id = x.user_id
	 WHERE x.organization_id = org AND NOT u.deleted
	   AND u.id = CASE WHEN value = 'me' THEN coder.subject_id() ELSE coalesce(coder.try_uuid(value),
			(SELECT y.id FROM coder.users y WHERE lower(y.username) = lower(value) AND NOT y.deleted)) END;
	IF m.user_id IS NULL OR NOT coder.can('read', 'organization_member', org, m.user_id, id => m.user_id) THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN m;
END
$$;

-- GET /organizations/{organization}/members/{user}
CREATE OR REPLACE FUNCTION coder.member_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT coder.organizations := coder.param_organization(req);
	m CONSTANT coder.organization_members := coder.param_member(req, org.id);
	u coder.users;
BEGIN
	SELECT x.* INTO u FROM coder.users x WHERE x.id = m.user_id;
	RETURN coder.reply(200, coder.member_user_json(m, u));
END
$$;

-- ZC400 where the user's organizations are those of the identity provider.
CREATE OR REPLACE FUNCTION coder.refuse_synced_member(u coder.users)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF u.login_type = 'oidc' AND coalesce(coder.idpsync_settings('organization')->>'field', '') <> '' THEN
		PERFORM coder.raise(400, 'Organization sync is enabled for OIDC users, meaning manual organization assignment is not allowed for this user. Have the user re-login to refresh their organizations.',
			format('User %s is an OIDC user and organization sync is enabled. Ask an administrator to resolve the membership in your external IDP.', u.username));
	END IF;
END
$$;

-- POST /organizations/{organization}/members/{user}
CREATE OR REPLACE FUNCTION coder.member_add(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT coder.organizations := coder.param_organization(req);
	u CONSTANT coder.users := coder.param_user(req);
	m coder.organization_members;
BEGIN
	PERFORM coder.require('create', 'organization_member', org.id);
	IF NOT coder.may_assign('organization-member', org.id) OR NOT coder.can('assign', 'assign_org_role', org.id) THEN
		PERFORM coder.raise_forbidden();
	END IF;
	PERFORM coder.refuse_synced_member(u);
	IF u.is_system THEN
		PERFORM coder.raise_forbidden();
	END IF;
	INSERT INTO coder.organization_members (user_id, organization_id) VALUES (u.id, org.id) RETURNING * INTO m;
	RETURN coder.reply(200, coder.member_json(m));
EXCEPTION WHEN unique_violation THEN
	PERFORM coder.raise(400, 'User is already an organization member', format('%s already exists in %s', u.username, org.name));
END
$$;

-- DELETE /organizations/{organization}/members/{user}
CREATE OR REPLACE FUNCTION coder.member_remove(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT coder.organizations := coder.param_organization(req);
	m CONSTANT coder.organization_members := coder.param_member(req, org.id);
BEGIN
	IF m.user_id = coder.subject_id() THEN
		PERFORM coder.raise(400, 'cannot remove self from an organization');
	END IF;
	PERFORM coder.require('delete', 'organization_member', org.id, m.user_id, id => m.user_id);
	DELETE FROM coder.organization_members x WHERE x.organization_id = org.id AND x.user_id = m.user_id;
	RETURN coder.reply(204);
END
$$;

-- PUT /organizations/{organization}/members/{user}/roles
CREATE OR REPLACE FUNCTION coder.member_roles_put(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT coder.organizations := coder.param_organization(req);
	m coder.organization_members := coder.param_member(req, org.id);
	body CONSTANT jsonb := coder.body(req);
	new text[];
BEGIN
	PERFORM coder.body_type(body, 'roles', 'array');
	IF m.user_id = coder.subject_id() THEN
		PERFORM coder.raise(400, 'You cannot change your own organization roles.');
	ELSIF coder.role_sync_on(org.id) AND (SELECT u.login_type FROM coder.users u WHERE u.id = m.user_id) = 'oidc' THEN
		PERFORM coder.raise(400, 'Cannot modify roles for OIDC users when role sync is enabled. This organization member''s roles are managed by the identity provider. Have the user re-login to refresh their roles.');
	END IF;
	SELECT coalesce(array_agg(r.v ORDER BY r.n), '{}') INTO new
	  FROM (SELECT e.v, min(e.n) AS n FROM jsonb_array_elements_text(coalesce(nullif(body->'roles', 'null'), '[]'))
			WITH ORDINALITY e (v, n) GROUP BY e.v) r;
	PERFORM coder.check_role_change(m.roles, new, 'organization-member', org.id);
	UPDATE coder.organization_members x SET roles = new, updated_at = now()
	 WHERE x.organization_id = org.id AND x.user_id = m.user_id RETURNING * INTO m;
	RETURN coder.reply(200, coder.member_json(m));
END
$$;

-- The members of a group that count: rows, or for Everyone all members of the organization.
CREATE OR REPLACE FUNCTION coder.group_users(g coder.groups)
RETURNS SETOF coder.users LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT u.* FROM coder.users u WHERE NOT u.deleted AND NOT u.is_system AND u.id IN (
		SELECT gm.user_id FROM coder.group_members gm WHERE gm.group_id = g.id AND g.id <> g.organization_id
		UNION ALL
		SELECT m.user_id FROM coder.organization_members m WHERE m.organization_id = g.organization_id AND g.id = g.organization_id)
	 ORDER BY lower(u.username);
END
$$;

-- Group
CREATE OR REPLACE FUNCTION coder.group_json(g coder.groups, with_members bool DEFAULT true)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	o coder.organizations;
	members jsonb := '[]';
	total int4;
BEGIN
	SELECT x.* INTO o FROM coder.organizations x WHERE x.id = g.organization_id;
	SELECT count(*), coalesce(jsonb_agg(coder.user_reduced_json(u)) FILTER (WHERE with_members
			AND coder.can('read', 'group_member', g.organization_id, u.id, id => u.id)), '[]')
	  INTO total, members FROM coder.group_users(g) u;
	RETURN jsonb_build_object('id', g.id, 'name', g.name, 'display_name', g.display_name, 'organization_id', g.organization_id,
		'members', members, 'total_member_count', total, 'avatar_url', g.avatar_url, 'quota_allowance', g.quota_allowance,
		'source', g.source, 'organization_name', o.name, 'organization_display_name', o.display_name);
END
$$;

-- May the subject do this to the group?  Its members may read it.
CREATE OR REPLACE FUNCTION coder.can_group(action text, g coder.groups)
RETURNS bool LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.can(action, 'group', g.organization_id, NULL, NULL, jsonb_build_object(g.id, '["read"]'::jsonb), g.id);
END
$$;

-- GET /groups and /organizations/{organization}/groups
CREATE OR REPLACE FUNCTION coder.groups_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org coder.organizations;
	member uuid;
	ids CONSTANT text[] := coder.query_list(req, 'group_ids');
	want CONSTANT text := req.query->>'has_member';
BEGIN
	IF req.params ? 'organization' THEN
		org := coder.param_organization(req);
	ELSIF coalesce(req.query->>'organization', '') <> '' THEN
		org := coder.find_organization(req.query->>'organization');
		IF org.id IS NULL THEN
			PERFORM coder.raise_query('organization', 'Query param "organization" must be an organization.');
		END IF;
	END IF;
	IF coalesce(want, '') <> '' THEN
		SELECT u.id INTO member FROM coder.users u
		 WHERE NOT u.deleted AND (u.id = coder.try_uuid(want) OR lower(u.username) = lower(want)
			OR (want = 'me' AND u.id = coder.subject_id()));
		IF member IS NULL THEN
			PERFORM coder.raise_query('has_member', 'Query param "has_member" must be a user.');
		END IF;
	END IF;
	RETURN coder.reply(200, coalesce((SELECT jsonb_agg(coder.group_json(g) ORDER BY lower(g.name), g.id)
		FROM coder.groups g
		WHERE (org.id IS NULL OR g.organization_id = org.id) AND coder.can_group('read', g)
		  AND (cardinality(ids) = 0 OR g.id::text = ANY (ids))
		  AND (member IS NULL OR EXISTS (SELECT 1 FROM coder.group_users(g) x WHERE x.id = member))), '[]'));
END
$$;

-- The group of the path, by id or by name in the organization, if it may be read.
CREATE OR REPLACE FUNCTION coder.param_group(req coder.request)
RETURNS coder.groups LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	g coder.groups;
	org coder.organizations;
BEGIN
	IF req.params ? 'groupName' THEN
		org := coder.param_organization(req);
		SELECT x.* INTO g FROM coder.groups x WHERE x.organization_id = org.id AND x.name = req.params->>'groupName';
	ELSE
		SELECT x.* INTO g FROM coder.groups x WHERE x.id = coder.try_uuid(req.params->>'group');
	END IF;
	IF g.id IS NULL OR NOT coder.can_group('read', g) THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN g;
END
$$;

-- GET /groups/{group} and /organizations/{organization}/groups/{groupName}
CREATE OR REPLACE FUNCTION coder.group_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, coder.group_json(coder.param_group(req), coder.query_bool(req, 'exclude_members') IS NOT TRUE));
END
$$;

-- GET …/members of a group
CREATE OR REPLACE FUNCTION coder.group_members_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	g CONSTANT coder.groups := coder.param_group(req);
	terms CONSTANT jsonb := coder.user_search(req, 'Invalid user search query.');
	lim CONSTANT int4 := coder.query_int(req, 'limit', 0);
	off CONSTANT int4 := coder.query_int(req, 'offset', 0);
	answer jsonb;
BEGIN
	EXECUTE format('SELECT jsonb_build_object(''users'', jsonb_agg(coder.user_reduced_json(p.u)), ''count'', coalesce(max(p.total), 0))
		FROM (SELECT u, count(*) OVER () AS total FROM coder.group_users($1) u
			   WHERE %s AND %s OFFSET %s LIMIT %s) p',
		coder.filter_sql('read', 'group_member', format('%L::uuid', g.organization_id), 'u.id', 'u.id'), coder.user_condition(terms),
		off, coalesce(nullif(lim, 0)::text, 'NULL')) INTO answer USING g;
	RETURN coder.reply(200, answer);
END
$$;

-- E1 where members of a group's body are of other types, or a number is none of its column's.
CREATE OR REPLACE FUNCTION coder.group_body(body jsonb)
RETURNS void LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.body_type(body, f.name, f.type) FROM (VALUES ('name', 'string'), ('display_name', 'string'), ('avatar_url', 'string'),
		('quota_allowance', 'number'), ('add_users', 'array'), ('remove_users', 'array')) f (name, type);
	IF (body->>'quota_allowance')::numeric NOT BETWEEN 0 AND 2147483647 OR (body->>'quota_allowance')::numeric % 1 <> 0 THEN
		PERFORM coder.raise(400, 'Request body must be valid JSON.', format('quota_allowance cannot be %s', body->>'quota_allowance'));
	END IF;
END
$$;

-- POST /organizations/{organization}/groups
CREATE OR REPLACE FUNCTION coder.group_create(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT coder.organizations := coder.param_organization(req);
	body CONSTANT jsonb := coder.body(req, 'name');
	g coder.groups;
BEGIN
	IF NOT coder.name_ok(body->>'name', 255) THEN
		PERFORM coder.raise_validations(ARRAY[coder.validation_tag('name', 'group_name', body->>'name')]);
	ELSIF NOT coder.display_name_ok(coalesce(body->>'display_name', '')) THEN
		PERFORM coder.raise_validations(ARRAY[coder.validation_tag('display_name', 'group_display_name', body->>'display_name')]);
	END IF;
	PERFORM coder.group_body(body);
	PERFORM coder.require('create', 'group', org.id);
	IF lower(body->>'name') = 'everyone' THEN
		PERFORM coder.raise(400, format('"%s" is a reserved group name.', body->>'name'));
	END IF;
	INSERT INTO coder.groups (name, display_name, organization_id, avatar_url, quota_allowance)
	VALUES (body->>'name', coalesce(body->>'display_name', ''), org.id, coalesce(body->>'avatar_url', ''),
		coalesce((body->>'quota_allowance')::int4, 0))
	RETURNING * INTO g;
	RETURN coder.reply(201, coder.group_json(g));
EXCEPTION WHEN unique_violation THEN
	PERFORM coder.raise(409, format('A group named "%s" already exists.', body->>'name'));
END
$$;

-- The users of a list of names or ids, who must all be members of the organization.
CREATE OR REPLACE FUNCTION coder.users_of_list(list jsonb, org uuid)
RETURNS uuid[] LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	item text;
	uid uuid;
	ids uuid[] := '{}';
BEGIN
	FOR item IN SELECT jsonb_array_elements_text(CASE WHEN jsonb_typeof(list) = 'array' THEN list ELSE '[]' END) LOOP
		SELECT u.id INTO uid FROM coder.users u JOIN coder.organization_members m ON m.user_id = u.id AND m.organization_id = org
		 WHERE NOT u.deleted AND (u.id = coder.try_uuid(item) OR lower(u.username) = lower(item));
		IF uid IS NULL THEN
			PERFORM coder.raise(400, format('User "%s" must be a member of organization', item));
		END IF;
		ids := ids || uid;
	END LOOP;
	RETURN ids;
END
$$;

-- PATCH /groups/{group}
CREATE OR REPLACE FUNCTION coder.group_patch(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	g coder.groups := coder.param_group(req);
	body CONSTANT jsonb := coder.body(req);
	adds uuid[];
	removes uuid[];
BEGIN
	PERFORM coder.group_body(body);
	IF NOT coder.can_group('update', g) THEN
		PERFORM coder.raise_not_found();
	ELSIF g.id = g.organization_id AND (coalesce(body->>'name', '') NOT IN ('', g.name)
			OR jsonb_array_length(coalesce(nullif(body->'add_users', 'null'), '[]')) + jsonb_array_length(coalesce(nullif(body->'remove_users', 'null'), '[]')) > 0) THEN
		PERFORM coder.raise(400, 'Cannot rename or change the members of the "Everyone" group.');
	ELSIF coalesce(body->>'name', '') <> '' AND g.id <> g.organization_id AND NOT coder.name_ok(body->>'name', 255) THEN
		PERFORM coder.raise_validations(ARRAY[coder.validation_tag('name', 'group_name', body->>'name')]);
	ELSIF lower(body->>'name') = 'everyone' AND g.id <> g.organization_id THEN
		PERFORM coder.raise(400, format('"%s" is a reserved group name.', body->>'name'));
	END IF;
	adds := coder.users_of_list(body->'add_users', g.organization_id);
	removes := coder.users_of_list(body->'remove_users', g.organization_id);
	UPDATE coder.groups x SET name = coalesce(nullif(body->>'name', ''), x.name),
		display_name = coalesce(body->>'display_name', x.display_name), avatar_url = coalesce(body->>'avatar_url', x.avatar_url),
		quota_allowance = coalesce((body->>'quota_allowance')::int4, x.quota_allowance)
	 WHERE x.id = g.id RETURNING * INTO g;
	INSERT INTO coder.group_members (user_id, group_id) SELECT DISTINCT a, g.id FROM unnest(adds) a ON CONFLICT DO NOTHING;
	DELETE FROM coder.group_members gm WHERE gm.group_id = g.id AND gm.user_id = ANY (removes);
	RETURN coder.reply(200, coder.group_json(g));
EXCEPTION WHEN unique_violation THEN
	PERFORM coder.raise(409, format('A group named "%s" already exists.', body->>'name'));
END
$$;

-- DELETE /groups/{group}
CREATE OR REPLACE FUNCTION coder.group_delete(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	g CONSTANT coder.groups := coder.param_group(req);
BEGIN
	IF g.id = g.organization_id THEN
		PERFORM coder.raise(400, '"Everyone" is a reserved group and cannot be deleted!');
	ELSIF NOT coder.can_group('delete', g) THEN
		PERFORM coder.raise_not_found();
	END IF;
	DELETE FROM coder.groups x WHERE x.id = g.id;
	RETURN coder.reply_message(200, 'Successfully deleted group!');
END
$$;

-- GET and PATCH /organizations/{organization}/settings/workspace-sharing
CREATE OR REPLACE FUNCTION coder.workspace_sharing(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	o coder.organizations := coder.param_organization(req);
	body jsonb;
	mode text;
BEGIN
	PERFORM coder.require(CASE WHEN req.method = 'PATCH' THEN 'update' ELSE 'read' END, 'organization', o.id, id => o.id);
	IF req.method = 'PATCH' THEN
		body := coder.body(req);
		mode := coalesce(nullif(body->>'shareable_workspace_owners', ''),
			CASE WHEN (body->>'sharing_disabled')::bool THEN 'none' ELSE 'everyone' END);
		IF mode NOT IN ('none', 'everyone', 'service_accounts') THEN
			PERFORM coder.raise_validations(ARRAY[coder.validation_tag('shareable_workspace_owners', 'oneof', mode)]);
		END IF;
		UPDATE coder.organizations x SET shareable_workspace_owners = mode::coder.shareable_workspace_owners, updated_at = now()
		 WHERE x.id = o.id RETURNING * INTO o;
	END IF;
	RETURN coder.reply(200, jsonb_build_object('sharing_globally_disabled', coalesce(coder.setting('disable_workspace_sharing') = 'true', false),
		'sharing_disabled', o.shareable_workspace_owners = 'none', 'shareable_workspace_owners', o.shareable_workspace_owners));
END
$$;

DELETE FROM coder.routes WHERE area = 'organization';
INSERT INTO coder.routes (area, method, pattern, function, pool, read_only) VALUES
	('organization', 'GET', '/api/v2/organizations', 'organizations_list', 'fast', true),
	('organization', 'POST', '/api/v2/organizations', 'organization_create', 'fast', false),
	('organization', 'GET', '/api/v2/organizations/{organization}', 'organization_get', 'fast', true),
	('organization', 'PATCH', '/api/v2/organizations/{organization}', 'organization_patch', 'fast', false),
	('organization', 'DELETE', '/api/v2/organizations/{organization}', 'organization_delete', 'fast', false),
	('organization', 'GET', '/api/v2/users/{user}/organizations', 'user_organizations', 'fast', true),
	('organization', 'GET', '/api/v2/users/{user}/organizations/{organizationname}', 'user_organization', 'fast', true),
	('organization', 'GET', '/api/v2/organizations/{organization}/members', 'members_list', 'slow', true),
	('organization', 'GET', '/api/v2/organizations/{organization}/paginated-members', 'members_page', 'slow', true),
	('organization', 'GET', '/api/v2/organizations/{organization}/members/{user}', 'member_get', 'fast', true),
	('organization', 'POST', '/api/v2/organizations/{organization}/members/{user}', 'member_add', 'fast', false),
	('organization', 'DELETE', '/api/v2/organizations/{organization}/members/{user}', 'member_remove', 'fast', false),
	('organization', 'PUT', '/api/v2/organizations/{organization}/members/{user}/roles', 'member_roles_put', 'fast', false),
	('organization', 'GET', '/api/v2/groups', 'groups_list', 'slow', true),
	('organization', 'GET', '/api/v2/organizations/{organization}/groups', 'groups_list', 'slow', true),
	('organization', 'POST', '/api/v2/organizations/{organization}/groups', 'group_create', 'fast', false),
	('organization', 'GET', '/api/v2/organizations/{organization}/groups/{groupName}', 'group_get', 'slow', true),
	('organization', 'GET', '/api/v2/organizations/{organization}/groups/{groupName}/members', 'group_members_get', 'slow', true),
	('organization', 'GET', '/api/v2/groups/{group}', 'group_get', 'slow', true),
	('organization', 'PATCH', '/api/v2/groups/{group}', 'group_patch', 'fast', false),
	('organization', 'DELETE', '/api/v2/groups/{group}', 'group_delete', 'fast', false),
	('organization', 'GET', '/api/v2/groups/{group}/members', 'group_members_get', 'slow', true),
	('organization', 'GET', '/api/v2/organizations/{organization}/settings/workspace-sharing', 'workspace_sharing', 'fast', true),
	('organization', 'PATCH', '/api/v2/organizations/{organization}/settings/workspace-sharing', 'workspace_sharing', 'fast', false);
