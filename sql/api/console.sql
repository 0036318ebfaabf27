-- sql/api/console.sql -- what people at an SQL prompt may do: requests of the API, functions for the common ones, and
-- what a change by hand must keep
--
-- Who asks: sql/api/session.sql.  Who may call and change what: sql/access.sql.  Everything here runs with the owner's
-- rights and asks the engine for the one who asks.

-- Fails as the API's error would, in PostgreSQL's words: 42501 for 403 and 404, 28000 for 401, 55000 for 409, 0A000 for
-- 501, 22023 for other requests that cannot be.  state is ZC and the status.
CREATE OR REPLACE FUNCTION coder.raise_sql(state text, message text, detail text DEFAULT NULL, hint text DEFAULT NULL)
RETURNS void LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'coder_raise_sql';

-- The route of a request, and the values of its pattern's names; 22023 where there is none.
CREATE OR REPLACE FUNCTION coder.find_route(method text, path text, OUT id int4, OUT params text[])
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	r record;
BEGIN
	-- The pattern with the fewest names wins, as in the gateway.
	FOR r IN SELECT t.id, t.pattern, '^' || regexp_replace(regexp_replace(regexp_replace(t.pattern, '([.+*?()|\[\]])', '\\\1', 'g'),
				'\{[A-Za-z_]+\\\.\\\.\\\.\}$', '(.*)'), '\{[A-Za-z_]+\}', '([^/]+)', 'g') || '$' AS re
			   FROM coder.routes t WHERE t.method = upper(find_route.method)
			  ORDER BY length(regexp_replace(t.pattern, '[^{]', '', 'g')), t.id LOOP
		IF path ~ r.re THEN
			id := r.id;
			params := CASE WHEN r.pattern ~ '\{' THEN regexp_match(path, r.re) ELSE '{}' END;
			RETURN;
		END IF;
	END LOOP;
	RAISE invalid_parameter_value USING MESSAGE = format('there is no route %s %s', method, path), HINT = 'See docs/API.md, or the table coder.routes.';
END
$$;

-- A request of the API as the one who asks, with its rules, answer and audit; the body of the answer.  Errors as raise_sql.
-- SELECT coder.api('PUT', '/api/v2/users/bob/roles', '{"roles": ["auditor"]}')
CREATE OR REPLACE FUNCTION coder.api(method text, path text, body jsonb DEFAULT NULL)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
DECLARE
	v_path CONSTANT text := split_part(path, '?', 1);
	r record;
	answer bytea;
	size int4;
	headers text;
	state text;
	message text;
	detail text;
	hint text;
BEGIN
	IF coder.subject_id() IS NULL THEN
		RAISE invalid_authorization_specification USING MESSAGE = 'a request of the API is made by a user',
			HINT = 'Sign in with coder.login(), or become a user with coder.become().';
	END IF;
	SELECT * INTO r FROM coder.find_route(method, v_path);
	-- What gateways count, so that nobody tries passwords by the thousand, is not to be had where nobody counts.
	IF (SELECT t.rate = 'login' FROM coder.routes t WHERE t.id = r.id) THEN
		RAISE feature_not_supported USING MESSAGE = format('%s %s takes a password or a code, and is not for SQL', upper(method), v_path),
			HINT = 'Use the pages, or the API.';
	END IF;
	BEGIN
		answer := coder.handle_session(r.id, upper(method), v_path, r.params, substr(path, length(v_path) + 2),
			E'content-type: application/json\nuser-agent: ' || regexp_replace('SQL ' || current_setting('application_name'), '[^ -~]', '', 'g') || E'\n',
			convert_to(body::text, 'UTF8'), NULL, host(coalesce(inet_client_addr(), '127.0.0.1')), gen_random_uuid(), NULL);
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
		IF state !~ '^ZC' THEN
			RAISE;
		END IF;
		-- The validations of the API are JSON in the hint.
		PERFORM coder.raise_sql(state, message, concat_ws(E'\n', nullif(detail, ''), CASE WHEN hint LIKE '[%' THEN hint END));
	END;
	size := ((get_byte(answer, 4) * 256 + get_byte(answer, 5)) * 256 + get_byte(answer, 6)) * 256 + get_byte(answer, 7);
	headers := convert_from(substr(answer, 9, size), 'UTF8');
	-- The plan would have the server's words for others: secrets of its clients, tokens.
	IF get_byte(answer, 0) * 256 + get_byte(answer, 1) = 102 THEN
		RAISE feature_not_supported USING MESSAGE = format('%s %s asks other servers', upper(method), v_path), HINT = 'Use the pages, or the API.';
	END IF;
	IF get_byte(answer, 0) * 256 + get_byte(answer, 1) = 101 OR headers ~* 'content-type' THEN
		RAISE feature_not_supported USING MESSAGE = format('%s %s answers a stream or a file', method, path);
	END IF;
	RETURN nullif(trim(convert_from(substr(answer, 9 + size), 'UTF8')), '')::jsonb;
END
$$;

-- A workspace by id, by owner/name, or by the name of one's own; 42501 where there is none that may be read.
CREATE OR REPLACE FUNCTION coder.find_workspace(workspace text)
RETURNS coder.workspaces LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	w coder.workspaces;
	v_id CONSTANT uuid := coder.try_uuid(workspace);
	v_name CONSTANT text := split_part(workspace, '/', CASE WHEN workspace LIKE '%/%' THEN 2 ELSE 1 END);
	v_owner CONSTANT text := CASE WHEN workspace LIKE '%/%' THEN split_part(workspace, '/', 1) END;
BEGIN
	IF v_id IS NOT NULL THEN
		SELECT x.* INTO w FROM coder.workspaces x WHERE x.id = v_id;
	ELSE
		SELECT x.* INTO w FROM coder.workspaces x JOIN coder.users u ON u.id = x.owner_id
		 WHERE lower(x.name) = lower(v_name) AND NOT x.deleted AND NOT u.deleted
		   AND CASE WHEN v_owner IS NULL THEN u.id = coder.subject_id() ELSE lower(u.username) = lower(v_owner) END;
	END IF;
	IF w.id IS NULL OR NOT coder.workspace_can('read', w) THEN
		PERFORM coder.raise_sql('ZC404', format('workspace "%s" does not exist, or you may not read it', workspace), NULL,
			'Name it by its id, or as owner/name.');
	END IF;
	RETURN w;
END
$$;

-- A build of a workspace, by the request of the API; for a role of the database without a login, which is no user, in
-- the name of the workspace's owner.  The build's id.
CREATE OR REPLACE FUNCTION coder.build_by_sql(workspace text, transition text, version uuid DEFAULT NULL)
RETURNS uuid LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	w CONSTANT coder.workspaces := coder.find_workspace(workspace);
	body CONSTANT jsonb := jsonb_strip_nulls(jsonb_build_object('transition', transition, 'template_version_id', version));
	state text;
	message text;
	detail text;
BEGIN
	IF coder.subject_id() IS NOT NULL THEN
		RETURN coder.api('POST', format('/api/v2/workspaces/%s/builds', w.id), body)->>'id';
	END IF;
	PERFORM coder.build_create_allowed(w, body);
	IF transition = 'start' AND w.dormant_at IS NOT NULL THEN
		PERFORM coder.workspace_set_dormant(w.id, NULL);
	END IF;
	RETURN coder.build_add(w.id, w.owner_id, transition, version, 'initiator');
EXCEPTION WHEN SQLSTATE 'ZC400' OR SQLSTATE 'ZC403' OR SQLSTATE 'ZC404' OR SQLSTATE 'ZC406' OR SQLSTATE 'ZC409' THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
	PERFORM coder.raise_sql(state, message, nullif(detail, message));
END
$$;

-- Starts a workspace (by id, owner/name, or the name of one's own), with the last build's version or another; the build's id.
CREATE OR REPLACE FUNCTION coder.start_workspace(workspace text, version uuid DEFAULT NULL)
RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
BEGIN
	RETURN coder.build_by_sql(workspace, 'start', version);
END
$$;

-- Stops a workspace; the build's id.
CREATE OR REPLACE FUNCTION coder.stop_workspace(workspace text)
RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
BEGIN
	RETURN coder.build_by_sql(workspace, 'stop');
END
$$;

-- The same by id, for a column of a query.
CREATE OR REPLACE FUNCTION coder.stop_workspace(workspace uuid)
RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
BEGIN
	RETURN coder.build_by_sql(workspace::text, 'stop');
END
$$;

-- Starts by id.
CREATE OR REPLACE FUNCTION coder.start_workspace(workspace uuid, version uuid DEFAULT NULL)
RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
BEGIN
	RETURN coder.build_by_sql(workspace::text, 'start', version);
END
$$;

-- Deletes a workspace and what it is made of; the build's id.
CREATE OR REPLACE FUNCTION coder.delete_workspace(workspace text)
RETURNS uuid LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
BEGIN
	RETURN coder.build_by_sql(workspace, 'delete');
END
$$;

-- Asks for the end of a job that may be changed; true where it was still to end.  42501 otherwise.
CREATE OR REPLACE FUNCTION coder.cancel_job(job uuid)
RETURNS bool LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
DECLARE
	j coder.provisioner_jobs;
	w coder.workspaces;
BEGIN
	SELECT x.* INTO j FROM coder.provisioner_jobs x WHERE x.id = job;
	SELECT x.* INTO w FROM coder.workspaces x JOIN coder.workspace_builds b ON b.workspace_id = x.id WHERE b.job_id = job;
	IF j.id IS NULL OR NOT (coder.can('update', 'provisioner_jobs', j.organization_id)
			OR (w.id IS NOT NULL AND coder.workspace_can('update', w)
				AND (SELECT t.allow_user_cancel_workspace_jobs FROM coder.templates t WHERE t.id = w.template_id))) THEN
		RAISE insufficient_privilege USING MESSAGE = 'the job does not exist, or you may not cancel it';
	END IF;
	PERFORM coder.job_cancel(job);
	RETURN j.completed_at IS NULL AND j.canceled_at IS NULL;
END
$$;

-- Puts a workspace to rest, or wakes it; 42501 where that is not allowed.
CREATE OR REPLACE FUNCTION coder.set_dormant(workspace text, dormant bool DEFAULT true)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
DECLARE
	w CONSTANT coder.workspaces := coder.find_workspace(workspace);
BEGIN
	IF NOT coder.workspace_can('update', w) THEN
		PERFORM coder.raise_sql('ZC403', format('permission denied: update of workspace "%s"', w.name));
	ELSIF (w.dormant_at IS NOT NULL) IS DISTINCT FROM dormant THEN
		PERFORM coder.workspace_set_dormant(w.id, CASE WHEN dormant THEN now() END);
	END IF;
END
$$;

-- A new password for a user; all of the user's sessions end.  22023 where the password is too weak.
CREATE OR REPLACE FUNCTION coder.set_password(who text, password text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
DECLARE
	u coder.users;
	why text;
BEGIN
	SELECT x.* INTO u FROM coder.users x WHERE (x.id = coder.try_uuid(who) OR lower(x.username) = lower(who)) AND NOT x.deleted;
	IF u.id IS NULL OR NOT coder.can('update_personal', 'user', NULL, u.id, id => u.id)
		OR ('owner' = ANY (u.rbac_roles) AND NOT coder.may_assign('owner')) THEN
		PERFORM coder.raise_sql('ZC403', format('user "%s" does not exist, or you may not change it', who));
	ELSIF u.id = coder.subject_id() THEN
		PERFORM coder.raise_sql('ZC400', 'your own password is changed with the old one', NULL, 'Use the page Account.');
	ELSIF u.login_type <> 'password' THEN
		PERFORM coder.raise_sql('ZC400', format('user "%s" signs in without a password', u.username));
	END IF;
	why := coder.password_weakness(password);
	IF why <> '' THEN
		PERFORM coder.raise_sql('ZC400', why);
	END IF;
	UPDATE coder.users x SET hashed_password = convert_to(coder.password_hash(password), 'UTF8'), updated_at = now() WHERE x.id = u.id;
	DELETE FROM coder.api_keys k WHERE k.user_id = u.id;
END
$$;

-- Who may do an action (read, ssh, update, share, …) to a workspace, and which rule lets them.  Of the users that may be read.
CREATE OR REPLACE FUNCTION coder.who_can(action text, workspace text)
RETURNS TABLE (username text, user_id uuid, why text) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
DECLARE
	w coder.workspaces := coder.find_workspace(workspace);
	type CONSTANT text := CASE WHEN w.dormant_at IS NULL THEN 'workspace' ELSE 'workspace_dormant' END;
	u record;
BEGIN
	IF w.dormant_at IS NOT NULL THEN	-- it is shared with nobody
		w.user_acl := NULL;
		w.group_acl := NULL;
	END IF;
	IF NOT coder.rbac_action_known('workspace', action) THEN
		PERFORM coder.raise_sql('ZC400', format('workspaces have no action "%s"', action));
	END IF;
	FOR u IN SELECT x.id, x.username FROM coder.users x
			  WHERE NOT x.deleted AND x.status <> 'suspended' AND coder.can('read', 'user', NULL, x.id, id => x.id)
				AND coder.user_can(x.id, action, type, w.organization_id, w.owner_id, w.user_acl, w.group_acl, w.id)
			  ORDER BY lower(x.username) LOOP
		username := u.username;
		user_id := u.id;
		why := coder.explain_json(u.id, action, type, w.organization_id, w.owner_id, w.user_acl, w.group_acl, w.id)->>'reason';
		RETURN NEXT;
	END LOOP;
END
$$;

-- ---- changes by hand ----

-- 42501 unless the one who asks may.
CREATE OR REPLACE FUNCTION coder.by_sql_require(what text, action text, type text, org uuid DEFAULT NULL, owner uuid DEFAULT NULL,
	user_acl jsonb DEFAULT NULL, group_acl jsonb DEFAULT NULL, id uuid DEFAULT NULL)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT coder.can(action, type, org, owner, user_acl, group_acl, id) THEN
		PERFORM coder.raise_sql('ZC403', format('permission denied: %s of %s', action, what), coder.explain(action, type, org, owner, user_acl, group_acl, id));
	END IF;
END
$$;

-- Trigger: what a person may change of a workspace, by the rules of the API.
CREATE OR REPLACE FUNCTION coder.workspaces_by_sql() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
DECLARE
	t coder.templates;
	why text;
BEGIN
	IF OLD.dormant_at IS NULL THEN
		PERFORM coder.by_sql_require(format('workspace "%s"', OLD.name), 'update', 'workspace', OLD.organization_id, OLD.owner_id, OLD.user_acl, OLD.group_acl, OLD.id);
	ELSE
		PERFORM coder.by_sql_require(format('dormant workspace "%s"', OLD.name), 'update', 'workspace_dormant', OLD.organization_id, OLD.owner_id, id => OLD.id);
	END IF;
	SELECT x.* INTO t FROM coder.templates x WHERE x.id = OLD.template_id;
	IF OLD.deleted THEN
		why := format('workspace "%s" is deleted', OLD.name);
	ELSIF NEW.name IS DISTINCT FROM OLD.name AND NOT coder.name_ok(NEW.name) THEN
		why := format('"%s" is not a name', NEW.name);
	ELSIF NEW.favorite <> OLD.favorite AND OLD.owner_id IS DISTINCT FROM coder.subject_id() THEN
		PERFORM coder.raise_sql('ZC403', 'only its owner makes a workspace a favorite');
	ELSIF NEW.autostart_schedule IS DISTINCT FROM OLD.autostart_schedule AND NEW.autostart_schedule IS NOT NULL THEN
		why := CASE WHEN NOT t.allow_user_autostart THEN 'the template does not allow autostart'
					ELSE (SELECT p.error FROM coder.schedule_parse(NEW.autostart_schedule) p) END;
		IF why IS NULL THEN
			NEW.next_start_at := coder.schedule_next(NEW.autostart_schedule, now(), t.autostart_block_days_of_week::int4);
		END IF;
	END IF;
	IF why IS NULL AND NEW.ttl IS DISTINCT FROM OLD.ttl THEN
		why := CASE WHEN NOT t.allow_user_autostop THEN 'the template does not allow a time until shutdown of one''s own'
					WHEN NEW.ttl IS NOT NULL THEN coder.check_ttl(NEW.ttl / 1000000) END;
		NEW.ttl := NEW.ttl / 60000000000 * 60000000000;
		IF why IS NULL AND NEW.ttl IS NULL THEN
			UPDATE coder.workspace_builds b SET deadline = b.max_deadline, updated_at = now() WHERE b.id = OLD.latest_build_id AND b.transition = 'start';
		END IF;
	END IF;
	IF why IS NOT NULL THEN
		PERFORM coder.raise_sql('ZC400', why);
	END IF;
	NEW.updated_at := now();
	PERFORM coder.workspace_event(OLD.id, OLD.owner_id, 'mtd_update');
	RETURN NEW;
END
$$;

-- Trigger: what a person may change of a user.
CREATE OR REPLACE FUNCTION coder.users_by_sql() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
DECLARE
	self CONSTANT bool := OLD.id IS NOT DISTINCT FROM coder.subject_id();
	broken jsonb[];
	state text;
	message text;
BEGIN
	PERFORM coder.by_sql_require(format('user "%s"', OLD.username),
		CASE WHEN NEW.status <> OLD.status OR NEW.username <> OLD.username THEN 'update'
			 WHEN NEW.rbac_roles <> OLD.rbac_roles THEN 'read' ELSE 'update_personal' END, 'user', owner => OLD.id, id => OLD.id);
	IF OLD.deleted OR OLD.is_system THEN
		PERFORM coder.raise_sql('ZC409', format('user "%s" is %s', OLD.username, CASE WHEN OLD.deleted THEN 'deleted' ELSE 'a part of the system' END));
	ELSIF NEW.status <> OLD.status AND NEW.status = 'dormant' THEN
		PERFORM coder.raise_sql('ZC400', 'users become dormant by themselves');
	ELSIF NEW.status = 'suspended' AND OLD.status <> 'suspended' AND (self OR 'owner' = ANY (OLD.rbac_roles)) THEN
		PERFORM coder.raise_sql('ZC400', CASE WHEN self THEN 'you cannot suspend yourself' ELSE 'you cannot suspend an owner: remove the role first' END);
	ELSIF 'owner' = ANY (OLD.rbac_roles) AND NOT self AND NOT coder.may_assign('owner') THEN
		PERFORM coder.raise_sql('ZC403', 'only owners may change an owner');
	END IF;
	IF NEW.username <> OLD.username OR NEW.name <> OLD.name THEN
		broken := coder.user_validations(jsonb_build_object('username', NEW.username, 'name', NEW.name), NULL);
		IF cardinality(broken) > 0 THEN
			PERFORM coder.raise_sql('ZC400', broken[1]->>'detail');
		END IF;
	END IF;
	IF NEW.rbac_roles <> OLD.rbac_roles THEN
		IF self THEN
			PERFORM coder.raise_sql('ZC403', 'you cannot change your own roles');
		END IF;
		PERFORM coder.check_role_change(OLD.rbac_roles, NEW.rbac_roles, 'member');
	END IF;
	NEW.updated_at := now();
	RETURN NEW;
EXCEPTION WHEN SQLSTATE 'ZC400' OR SQLSTATE 'ZC403' THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
	PERFORM coder.raise_sql(CASE WHEN message LIKE '%not authorized%' THEN 'ZC403' ELSE state END, message);
END
$$;

-- Trigger: what a person may change of a template.
CREATE OR REPLACE FUNCTION coder.templates_by_sql() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
BEGIN
	PERFORM coder.by_sql_require(format('template "%s"', OLD.name), 'update', 'template', OLD.organization_id, NULL, OLD.user_acl, OLD.group_acl, OLD.id);
	IF OLD.deleted THEN
		PERFORM coder.raise_sql('ZC409', format('template "%s" is deleted', OLD.name));
	ELSIF NEW.name <> OLD.name AND NOT coder.name_ok(NEW.name) THEN
		PERFORM coder.raise_sql('ZC400', format('"%s" is not a name', NEW.name));
	END IF;
	NEW.updated_at := now();
	RETURN NEW;
END
$$;

-- Trigger: what a person may change of an organization.
CREATE OR REPLACE FUNCTION coder.organizations_by_sql() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
BEGIN
	PERFORM coder.by_sql_require(format('organization "%s"', OLD.name), 'update', 'organization', OLD.id, id => OLD.id);
	IF NOT coder.name_ok(NEW.name) OR NEW.name = 'default' OR NOT coder.display_name_ok(NEW.display_name) THEN
		PERFORM coder.raise_sql('ZC400', format('"%s" is not a name for an organization', NEW.name));
	END IF;
	NEW.updated_at := now();
	RETURN NEW;
END
$$;

-- Trigger: what a person may change of a group.
CREATE OR REPLACE FUNCTION coder.groups_by_sql() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
BEGIN
	IF NOT coder.can_group('update', OLD) THEN
		PERFORM coder.raise_sql('ZC403', format('permission denied: update of group "%s"', OLD.name));
	ELSIF NEW.name <> OLD.name AND (OLD.id = OLD.organization_id OR lower(NEW.name) = 'everyone' OR NOT coder.name_ok(NEW.name, 255)) THEN
		PERFORM coder.raise_sql('ZC400', format('group "%s" cannot be renamed to "%s"', OLD.name, NEW.name));
	ELSIF NEW.quota_allowance < 0 THEN
		PERFORM coder.raise_sql('ZC400', 'an allowance is not negative');
	END IF;
	RETURN NEW;
END
$$;

-- Trigger: who may put whom into a group, or out of it.  The messages do not tell which groups and users exist.
CREATE OR REPLACE FUNCTION coder.group_members_by_sql() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
DECLARE
	g coder.groups;
	uid CONSTANT uuid := CASE TG_OP WHEN 'DELETE' THEN OLD.user_id ELSE NEW.user_id END;
	gid CONSTANT uuid := CASE TG_OP WHEN 'DELETE' THEN OLD.group_id ELSE NEW.group_id END;
BEGIN
	SELECT x.* INTO g FROM coder.groups x WHERE x.id = gid;
	IF g.id IS NULL OR NOT coder.can_group('update', g) OR g.id = g.organization_id THEN
		PERFORM coder.raise_sql('ZC403', format('there is no group %s whose members you may change', gid));
	ELSIF TG_OP = 'INSERT' AND NOT EXISTS (SELECT FROM coder.organization_members m WHERE m.organization_id = g.organization_id AND m.user_id = uid) THEN
		PERFORM coder.raise_sql('ZC403', format('there is no user %s in the group''s organization', uid));
	END IF;
	RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END
$$;

-- Trigger: what a person may change of a member of an organization: the roles.
CREATE OR REPLACE FUNCTION coder.organization_members_by_sql() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
DECLARE
	state text;
	message text;
BEGIN
	IF OLD.user_id IS NOT DISTINCT FROM coder.subject_id() THEN
		PERFORM coder.raise_sql('ZC403', 'you cannot change your own roles');
	END IF;
	PERFORM coder.check_role_change(OLD.roles, NEW.roles, 'organization-member', OLD.organization_id);
	NEW.updated_at := now();
	RETURN NEW;
EXCEPTION WHEN SQLSTATE 'ZC400' OR SQLSTATE 'ZC403' THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT;
	PERFORM coder.raise_sql(CASE WHEN message LIKE '%not authorized%' THEN 'ZC403' ELSE state END, message);
END
$$;

-- Trigger: whose keys a person may delete.
CREATE OR REPLACE FUNCTION coder.api_keys_by_sql() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
BEGIN
	PERFORM coder.by_sql_require(format('key %s', OLD.id), 'delete', 'api_key', owner => OLD.user_id);
	RETURN OLD;
END
$$;

-- Trigger: which messages a person may mark as read.
CREATE OR REPLACE FUNCTION coder.inbox_notifications_by_sql() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
BEGIN
	PERFORM coder.by_sql_require('a message', 'update', 'inbox_notification', owner => OLD.user_id, id => OLD.id);
	RETURN NEW;
END
$$;

-- Trigger: when a person may let a running workspace stop: as PUT /workspaces/{workspace}/extend.
CREATE OR REPLACE FUNCTION coder.workspace_builds_by_sql() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = on
AS $$
DECLARE
	w coder.workspaces;
	why text;
BEGIN
	SELECT x.* INTO w FROM coder.workspaces x WHERE x.id = OLD.workspace_id;
	IF NOT coder.workspace_can('update', w) THEN
		PERFORM coder.raise_sql('ZC403', format('permission denied: update of workspace "%s"', w.name));
	END IF;
	why := CASE WHEN w.latest_build_id <> OLD.id OR OLD.transition <> 'start' OR OLD.active THEN 'only a build that runs has a deadline'
		WHEN OLD.deadline = '0001-01-01 00:00:00+00' THEN 'the workspace is stopped by hand'
		WHEN NEW.deadline IS NULL OR NEW.deadline < now() + interval '29 minutes' THEN 'a new deadline is at least 30 minutes from now'
		WHEN OLD.max_deadline <> '0001-01-01 00:00:00+00' AND NEW.deadline > OLD.max_deadline THEN 'a deadline is not behind max_deadline' END;
	IF why IS NOT NULL THEN
		PERFORM coder.raise_sql('ZC400', why);
	END IF;
	NEW.updated_at := now();
	PERFORM coder.workspace_event(w.id, w.owner_id, 'mtd_update');
	RETURN NEW;
END
$$;

-- For who comes by SQL only: row security is not active for the owner.
CREATE OR REPLACE TRIGGER by_sql BEFORE UPDATE OF name, autostart_schedule, ttl, automatic_updates, favorite ON coder.workspaces FOR EACH ROW
	WHEN (row_security_active('coder.workspaces'::regclass)) EXECUTE FUNCTION coder.workspaces_by_sql();
CREATE OR REPLACE TRIGGER by_sql BEFORE UPDATE OF deadline ON coder.workspace_builds FOR EACH ROW
	WHEN (row_security_active('coder.workspace_builds'::regclass)) EXECUTE FUNCTION coder.workspace_builds_by_sql();
CREATE OR REPLACE TRIGGER by_sql BEFORE UPDATE OF username, name, status, rbac_roles ON coder.users FOR EACH ROW
	WHEN (row_security_active('coder.users'::regclass)) EXECUTE FUNCTION coder.users_by_sql();
CREATE OR REPLACE TRIGGER by_sql BEFORE UPDATE ON coder.templates FOR EACH ROW
	WHEN (row_security_active('coder.templates'::regclass)) EXECUTE FUNCTION coder.templates_by_sql();
CREATE OR REPLACE TRIGGER by_sql BEFORE UPDATE ON coder.organizations FOR EACH ROW
	WHEN (row_security_active('coder.organizations'::regclass)) EXECUTE FUNCTION coder.organizations_by_sql();
CREATE OR REPLACE TRIGGER by_sql BEFORE UPDATE ON coder.groups FOR EACH ROW
	WHEN (row_security_active('coder.groups'::regclass)) EXECUTE FUNCTION coder.groups_by_sql();
CREATE OR REPLACE TRIGGER by_sql BEFORE INSERT OR DELETE ON coder.group_members FOR EACH ROW
	WHEN (row_security_active('coder.group_members'::regclass)) EXECUTE FUNCTION coder.group_members_by_sql();
CREATE OR REPLACE TRIGGER by_sql BEFORE UPDATE OF roles ON coder.organization_members FOR EACH ROW
	WHEN (row_security_active('coder.organization_members'::regclass)) EXECUTE FUNCTION coder.organization_members_by_sql();
CREATE OR REPLACE TRIGGER by_sql BEFORE DELETE ON coder.api_keys FOR EACH ROW
	WHEN (row_security_active('coder.api_keys'::regclass)) EXECUTE FUNCTION coder.api_keys_by_sql();
CREATE OR REPLACE TRIGGER by_sql BEFORE UPDATE ON coder.inbox_notifications FOR EACH ROW
	WHEN (row_security_active('coder.inbox_notifications'::regclass)) EXECUTE FUNCTION coder.inbox_notifications_by_sql();
