-- SPDX-License-Identifier: MIT
--
-- workspacesharing.sql
--   Workspaces shared with users and groups, and their shared ports.

-- ---- sharing ----

CREATE OR REPLACE FUNCTION coder.workspace_acl_get(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w coder.workspaces := coder.param_workspace(req);
	v_users jsonb;
	v_groups jsonb;
BEGIN
	SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object('id', u.id, 'username', u.username,
				'name', nullif(u.name, ''), 'avatar_url', nullif(u.avatar_url, ''),
				'role', coder.workspace_role(a.value))) ORDER BY u.username), '[]')
	  INTO v_users FROM jsonb_each(w.user_acl) a JOIN coder.users u ON u.id = a.key::uuid;
	SELECT coalesce(jsonb_agg(jsonb_build_object('id', g.id, 'name', g.name, 'display_name', g.display_name,
				'organization_id', g.organization_id, 'avatar_url', g.avatar_url,
				'role', coder.workspace_role(a.value)) ORDER BY g.name), '[]')
	  INTO v_groups FROM jsonb_each(w.group_acl) a JOIN coder.groups g ON g.id = a.key::uuid;
	RETURN coder.reply(200, jsonb_build_object('users', v_users, 'group', v_groups));
END
$$;
COMMENT ON FUNCTION coder.workspace_acl_get(coder.request) IS 'GET /workspaces/{workspace}/acl.';

CREATE OR REPLACE FUNCTION coder.workspace_role(acl jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN CASE WHEN acl -> 'permissions' ? 'update' OR acl -> 'permissions' ? '*' THEN 'admin' ELSE 'use' END;
END
$$;
COMMENT ON FUNCTION coder.workspace_role(jsonb) IS 'The role (use, admin) of an ACL entry of a workspace.';

CREATE OR REPLACE FUNCTION coder.workspace_role_acl(role text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN CASE role
		WHEN 'use' THEN '{"permissions": ["application_connect", "read", "ssh", "start", "stop"]}'::jsonb
		WHEN 'admin' THEN '{"permissions": ["application_connect", "create", "create_agent", "delete_agent", "read", "share", "ssh", "start", "stop", "update", "update_agent"]}'::jsonb
	END;
END
$$;
COMMENT ON FUNCTION coder.workspace_role_acl(text) IS 'The ACL entry of a role; NULL for none.';

CREATE OR REPLACE FUNCTION coder.workspace_acl_merge(acl jsonb, roles jsonb, kind text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v record;
	v_problems jsonb := '[]';
BEGIN
	FOR v IN SELECT r.key AS id, r.value AS role FROM jsonb_each_text(coalesce(nullif(roles, 'null'), '{}')) r LOOP
		IF v.role NOT IN ('use', 'admin', '') THEN
			v_problems := v_problems || coder.validation(kind || '_roles', format('role "%s" is not a valid workspace role', v.role));
		ELSIF v.id !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
			v_problems := v_problems || coder.validation(kind || '_roles', format('%s is not a valid UUID.', v.id));
		ELSIF v.role <> '' AND NOT EXISTS (
			SELECT FROM coder.users u WHERE kind = 'user' AND u.id = v.id::uuid AND NOT u.deleted
			UNION ALL
			SELECT FROM coder.groups g WHERE kind = 'group' AND g.id = v.id::uuid) THEN
			v_problems := v_problems || coder.validation(kind || '_roles', format('%s with ID %s does not exist', kind, v.id));
		ELSIF v.role = '' THEN
			acl := acl - lower(v.id);
		ELSE
			acl := jsonb_set(acl, ARRAY[lower(v.id)], coder.workspace_role_acl(v.role));
		END IF;
	END LOOP;
	IF v_problems <> '[]' THEN
		PERFORM coder.raise(400, 'Invalid request to update workspace ACL', NULL, v_problems);
	END IF;
	RETURN acl;
END
$$;
COMMENT ON FUNCTION coder.workspace_acl_merge(jsonb, jsonb, text) IS
	'An ACL with a map of id to role applied; an empty role removes. Errors: 400.';

CREATE OR REPLACE FUNCTION coder.param_workspace_shared(req coder.request) RETURNS coder.workspaces
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w coder.workspaces := coder.param_workspace(req);
BEGIN
	IF (SELECT o.shareable_workspace_owners = 'none' FROM coder.organizations o WHERE o.id = w.organization_id) THEN
		PERFORM coder.raise(403, 'Workspace sharing is disabled for this organization.');
	END IF;
	RETURN w;
END
$$;
COMMENT ON FUNCTION coder.param_workspace_shared(coder.request) IS
	'The workspace of the path, whose organization lets workspaces be shared; else 404, 403.';

CREATE OR REPLACE FUNCTION coder.workspace_acl_patch(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
	w coder.workspaces := coder.param_workspace_shared(req);
BEGIN
	IF v_body -> 'user_roles' ? coder.subject_id()::text THEN
		PERFORM coder.raise(400, 'You cannot change your own workspace sharing role.');
	END IF;
	w := coder.param_workspace(req, 'share', 403);
	UPDATE coder.workspaces
	   SET user_acl = coder.workspace_acl_merge(w.user_acl, v_body -> 'user_roles', 'user'),
		   group_acl = coder.workspace_acl_merge(w.group_acl, v_body -> 'group_roles', 'group'),
		   updated_at = now()
	 WHERE id = w.id;
	PERFORM coder.workspace_event(w.id, w.owner_id, 'mtd_update');
	RETURN coder.reply(204, NULL::text);
END
$$;
COMMENT ON FUNCTION coder.workspace_acl_patch(coder.request) IS
	'PATCH /workspaces/{workspace}/acl: user_roles, group_roles.';

CREATE OR REPLACE FUNCTION coder.workspace_acl_delete(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w coder.workspaces := coder.param_workspace_shared(req);
BEGIN
	w := coder.param_workspace(req, 'share', 403);
	UPDATE coder.workspaces SET user_acl = '{}', group_acl = '{}', updated_at = now() WHERE id = w.id;
	PERFORM coder.workspace_event(w.id, w.owner_id, 'mtd_update');
	RETURN coder.reply(204, NULL::text);
END
$$;
COMMENT ON FUNCTION coder.workspace_acl_delete(coder.request) IS 'DELETE /workspaces/{workspace}/acl.';

-- ---- port shares ----

CREATE OR REPLACE FUNCTION coder.port_share_json(s coder.workspace_agent_port_share) RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN jsonb_build_object('workspace_id', s.workspace_id, 'agent_name', s.agent_name, 'port', s.port,
							  'share_level', s.share_level, 'protocol', s.protocol);
END
$$;
COMMENT ON FUNCTION coder.port_share_json(coder.workspace_agent_port_share) IS 'JSON of a port share.';

CREATE OR REPLACE FUNCTION coder.port_share_list(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w coder.workspaces := coder.param_workspace(req);
	v_shares jsonb;
BEGIN
	SELECT coalesce(jsonb_agg(coder.port_share_json(s) ORDER BY s.port), '[]') INTO v_shares
	  FROM coder.workspace_agent_port_share s WHERE s.workspace_id = w.id;
	RETURN coder.reply(200, jsonb_build_object('shares', v_shares));
END
$$;
COMMENT ON FUNCTION coder.port_share_list(coder.request) IS 'GET /workspaces/{workspace}/port-share.';

CREATE OR REPLACE FUNCTION coder.port_share_invalid(field text, message text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM coder.raise(400, message, NULL, jsonb_build_array(coder.validation(field, message)));
END
$$;
COMMENT ON FUNCTION coder.port_share_invalid(text, text) IS 'Raises 400 for a field of a port share.';

CREATE OR REPLACE FUNCTION coder.port_share_put(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
	w coder.workspaces := coder.param_workspace(req, 'update');
	v_port bigint := coalesce(coder.json_int(v_body, 'port'), 0);
	v_share coder.workspace_agent_port_share;
BEGIN
	IF coalesce(v_body ->> 'share_level', '') NOT IN ('authenticated', 'organization', 'public') THEN
		PERFORM coder.port_share_invalid('share_level', 'Port sharing level not allowed.');
	END IF;
	IF v_port NOT BETWEEN 9 AND 65535 THEN
		PERFORM coder.port_share_invalid('port', 'Port must be between 9 and 65535.');
	END IF;
	IF coalesce(v_body ->> 'protocol', '') NOT IN ('http', 'https') THEN
		PERFORM coder.port_share_invalid('protocol', 'Port protocol not allowed.');
	END IF;
	IF NOT EXISTS (SELECT FROM coder.workspace_builds b
					 JOIN coder.workspace_resources r ON r.job_id = b.job_id
					 JOIN coder.workspace_agents a ON a.resource_id = r.id AND NOT a.deleted
					WHERE b.id = w.latest_build_id AND a.name = v_body ->> 'agent_name') THEN
		PERFORM coder.raise(400, 'Agent not found.');
	END IF;
	INSERT INTO coder.workspace_agent_port_share AS s
	VALUES (w.id, v_body ->> 'agent_name', v_port, (v_body ->> 'share_level')::coder.app_sharing_level,
			(v_body ->> 'protocol')::coder.port_share_protocol)
	ON CONFLICT (workspace_id, agent_name, port)
	DO UPDATE SET share_level = excluded.share_level, protocol = excluded.protocol
	RETURNING s.* INTO v_share;
	RETURN coder.reply(200, coder.port_share_json(v_share));
END
$$;
COMMENT ON FUNCTION coder.port_share_put(coder.request) IS
	'POST /workspaces/{workspace}/port-share: adds or changes one.';

CREATE OR REPLACE FUNCTION coder.port_share_delete(req coder.request) RETURNS coder.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_body jsonb := coder.body(req);
	w coder.workspaces := coder.param_workspace(req, 'update');
BEGIN
	DELETE FROM coder.workspace_agent_port_share s
	 WHERE s.workspace_id = w.id AND s.agent_name = v_body ->> 'agent_name'
	   AND s.port = coder.json_int(v_body, 'port');
	IF NOT FOUND THEN
		PERFORM coder.raise(404, 'Port share not found.');
	END IF;
	RETURN coder.reply(200, NULL::text);
END
$$;
COMMENT ON FUNCTION coder.port_share_delete(coder.request) IS 'DELETE /workspaces/{workspace}/port-share.';

DELETE FROM coder.routes WHERE area = 'workspacesharing';
INSERT INTO coder.routes (area, method, pattern, function) VALUES
	('workspacesharing', 'GET', '/api/v2/workspaces/{workspace}/acl', 'workspace_acl_get'),
	('workspacesharing', 'PATCH', '/api/v2/workspaces/{workspace}/acl', 'workspace_acl_patch'),
	('workspacesharing', 'DELETE', '/api/v2/workspaces/{workspace}/acl', 'workspace_acl_delete'),
	('workspacesharing', 'GET', '/api/v2/workspaces/{workspace}/port-share', 'port_share_list'),
	('workspacesharing', 'POST', '/api/v2/workspaces/{workspace}/port-share', 'port_share_put'),
	('workspacesharing', 'DELETE', '/api/v2/workspaces/{workspace}/port-share', 'port_share_delete');
