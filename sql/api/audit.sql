-- sql/api/audit.sql -- the audit log as the API shows it
--
-- Table: sql/schema/audit.sql; rows are written by extension/audit.c.

-- Rows of the audit log from this time on are kept; NULL: all are.
CREATE OR REPLACE FUNCTION coder.audit_kept_from()
RETURNS timestamptz LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	age CONSTANT bigint := coder.setting_seconds('audit_logs_retention', 0);
BEGIN
	RETURN CASE WHEN age > 0 THEN now() - age * interval '1 second' END;
END
$$;

-- An action in the past tense, as in "{user} created workspace {target}".
CREATE OR REPLACE FUNCTION coder.audit_verb(action text)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE action WHEN 'create' THEN 'created' WHEN 'write' THEN 'updated' WHEN 'delete' THEN 'deleted' WHEN 'start' THEN 'started'
		WHEN 'stop' THEN 'stopped' WHEN 'login' THEN 'logged in' WHEN 'logout' THEN 'logged out' WHEN 'register' THEN 'registered'
		WHEN 'request_password_reset' THEN 'password reset requested' WHEN 'connect' THEN 'connected' WHEN 'disconnect' THEN 'disconnected'
		WHEN 'open' THEN 'opened' WHEN 'close' THEN 'closed' ELSE action END;
END
$$;

-- "{user} updated workspace {target}"
CREATE OR REPLACE FUNCTION coder.audit_description(l coder.audit_logs)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	verb CONSTANT text := CASE WHEN l.status_code = 303 THEN 'was redirected attempting to ' || l.action
		WHEN l.status_code >= 400 THEN 'unsuccessfully attempted to ' || l.action ELSE coder.audit_verb(l.action::text) END;
BEGIN
	IF l.action IN ('login', 'logout', 'register') THEN
		RETURN '{user} ' || verb;
	END IF;
	RETURN '{user} ' || verb || ' ' || replace(l.resource_type::text, '_', ' ')
		|| CASE WHEN l.resource_target <> '' THEN ' {target}' ELSE '' END;
END
$$;

-- Where the thing can be seen, "" if it is gone or has no page.
CREATE OR REPLACE FUNCTION coder.audit_link(l coder.audit_logs, gone bool)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF gone THEN
		RETURN '';
	END IF;
	RETURN CASE l.resource_type
		WHEN 'template' THEN '/templates/' || l.resource_target
		WHEN 'user' THEN '/users?filter=' || l.resource_target
		WHEN 'workspace' THEN coalesce('/@' || (l.additional_fields->>'workspace_owner') || '/' || l.resource_target, '')
		WHEN 'workspace_build' THEN coalesce('/@' || (l.additional_fields->>'workspace_owner') || '/' || (l.additional_fields->>'workspace_name')
			|| '/builds/' || (l.additional_fields->>'build_number'), '')
		WHEN 'oauth2_provider_app' THEN '/deployment/oauth2-provider/apps/' || l.resource_id
		ELSE '' END;
END
$$;

-- Is the thing of a row gone?
CREATE OR REPLACE FUNCTION coder.audit_gone(l coder.audit_logs)
RETURNS bool LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	alive bool;
	tab CONSTANT text := CASE l.resource_type WHEN 'user' THEN 'users' WHEN 'organization' THEN 'organizations'
		WHEN 'template' THEN 'templates' WHEN 'workspace' THEN 'workspaces' END;
BEGIN
	IF tab IS NULL OR to_regclass('coder.' || tab) IS NULL THEN
		RETURN false;
	END IF;
	EXECUTE format('SELECT EXISTS (SELECT 1 FROM coder.%I t WHERE t.id = $1 AND NOT t.deleted)', tab) INTO alive USING l.resource_id;
	RETURN NOT alive;
END
$$;

-- AuditLog
CREATE OR REPLACE FUNCTION coder.audit_json(l coder.audit_logs)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u coder.users;
	o coder.organizations;
	gone CONSTANT bool := coder.audit_gone(l);
BEGIN
	SELECT x.* INTO u FROM coder.users x WHERE x.id = l.user_id;
	SELECT x.* INTO o FROM coder.organizations x WHERE x.id = l.organization_id;
	RETURN jsonb_build_object('id', l.id, 'request_id', l.request_id, 'time', coder.ts(l."time"), 'ip', coalesce(host(l.ip), ''),
			'user_agent', coalesce(l.user_agent, ''), 'resource_type', l.resource_type, 'resource_id', l.resource_id,
			'resource_target', l.resource_target, 'resource_icon', l.resource_icon, 'action', l.action, 'diff', l.diff,
			'status_code', l.status_code, 'additional_fields', l.additional_fields, 'description', coder.audit_description(l),
			'resource_link', coder.audit_link(l, gone), 'is_deleted', gone, 'organization_id', l.organization_id,
			'user', CASE WHEN u.id IS NULL THEN NULL ELSE coder.user_json(u) END)
		|| CASE WHEN o.id IS NULL THEN '{}' ELSE jsonb_build_object('organization', jsonb_build_object('id', o.id, 'name', o.name,
			'display_name', o.display_name, 'icon', o.icon)) END;
END
$$;

-- The search of the audit log, checked.
CREATE OR REPLACE FUNCTION coder.audit_search(req coder.request)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	message CONSTANT text := 'Invalid audit search query.';
	terms CONSTANT jsonb := coder.search_parse(lower(coalesce(req.query->>'q', '')), message, 'resource_type', ARRAY['request_id',
		'resource_id', 'resource_target', 'username', 'email', 'date_from', 'date_to', 'organization', 'resource_type', 'action',
		'build_reason']);
	key text;
BEGIN
	PERFORM coder.search_check_enum(terms, 'action', message, enum_range(NULL::coder.audit_action)::text[], true);
	PERFORM coder.search_check_enum(terms, 'resource_type', message, enum_range(NULL::coder.resource_type)::text[], true);
	FOREACH key IN ARRAY ARRAY['request_id', 'resource_id'] LOOP
		IF terms ? key AND coder.try_uuid(terms->key->>0) IS NULL THEN
			PERFORM coder.raise(400, message, NULL, jsonb_build_array(coder.validation(key,
				format('Query param "%s" must be a valid uuid: invalid UUID length: %s', key, length(terms->key->>0)))));
		END IF;
	END LOOP;
	FOREACH key IN ARRAY ARRAY['date_from', 'date_to'] LOOP
		IF terms->key->>0 !~ '^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$' THEN
			PERFORM coder.raise(400, message, NULL, jsonb_build_array(coder.validation(key,
				format('Query param "%s" must be a valid date format (2006-01-02): "%s"', key, terms->key->>0))));
		END IF;
	END LOOP;
	RETURN terms;
END
$$;

-- GET /audit
CREATE OR REPLACE FUNCTION coder.audit_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	lim CONSTANT int4 := coder.query_int(req, 'limit', 0);
	off CONSTANT int4 := coder.query_int(req, 'offset', 0);
	terms jsonb;
	org uuid;
	who text;
	everything CONSTANT bool := coder.can('read', 'audit_log');
	ids uuid[];
	total bigint;
BEGIN
	IF NOT everything AND NOT coder.can_any('read', 'audit_log') THEN
		PERFORM coder.raise_forbidden();
	END IF;
	terms := coder.audit_search(req);
	who := terms->'username'->>0;
	IF terms ? 'organization' THEN
		org := coalesce((coder.find_organization(terms->'organization'->>0)).id, '00000000-0000-0000-0000-000000000001');
	END IF;
	SELECT array_agg(c.id ORDER BY c."time" DESC), count(*) INTO ids, total
	  FROM (SELECT l.id, l."time"
			  FROM coder.audit_logs l
			 WHERE (everything OR coder.can('read', 'audit_log', nullif(l.organization_id, '00000000-0000-0000-0000-000000000000'), id => l.id))
			   AND (NOT terms ? 'request_id' OR l.request_id = (terms->'request_id'->>0)::uuid)
			   AND (NOT terms ? 'resource_id' OR l.resource_id = (terms->'resource_id'->>0)::uuid)
			   AND (NOT terms ? 'resource_target' OR lower(l.resource_target) = terms->'resource_target'->>0)
			   AND (NOT terms ? 'resource_type' OR l.resource_type::text = terms->'resource_type'->>0)
			   AND (NOT terms ? 'action' OR l.action::text = terms->'action'->>0)
			   AND (NOT terms ? 'build_reason' OR l.additional_fields->>'build_reason' = terms->'build_reason'->>0)
			   AND (org IS NULL OR l.organization_id = org)
			   AND (NOT terms ? 'date_from' OR l."time" >= (terms->'date_from'->>0)::timestamp AT TIME ZONE 'UTC')
			   AND (NOT terms ? 'date_to' OR l."time" < ((terms->'date_to'->>0)::timestamp + interval '1 day') AT TIME ZONE 'UTC')
			   AND (who IS NULL OR l.user_id = CASE WHEN who = 'me' THEN coder.subject_id() ELSE
					(SELECT u.id FROM coder.users u WHERE lower(u.username) = who AND NOT u.deleted) END)
			   AND (NOT terms ? 'email' OR l.user_id = (SELECT u.id FROM coder.users u WHERE lower(u.email) = terms->'email'->>0 AND NOT u.deleted))
			 ORDER BY l."time" DESC LIMIT greatest(2001, off::bigint + coalesce(nullif(lim, 0), 100))) c;
	RETURN coder.reply(200, jsonb_build_object('count', least(total, 2001), 'count_cap', 2000, 'audit_logs',
		coalesce((SELECT jsonb_agg(coder.audit_json(l) ORDER BY l."time" DESC) FROM coder.audit_logs l
			WHERE l.id = ANY (ids[off + 1 : off + coalesce(nullif(lim, 0), 100)])), '[]')));
END
$$;

-- POST /audit/testgenerate: a row for tests
CREATE OR REPLACE FUNCTION coder.audit_test(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body CONSTANT jsonb := coder.body(req);
	action CONSTANT text := coalesce(nullif(body->>'action', ''), 'write');
	type CONSTANT text := coalesce(nullif(body->>'resource_type', ''), 'user');
BEGIN
	PERFORM coder.require('create', 'audit_log');
	IF NOT action = ANY (enum_range(NULL::coder.audit_action)::text[]) OR NOT type = ANY (enum_range(NULL::coder.resource_type)::text[]) THEN
		PERFORM coder.raise(400, 'Invalid audit action or resource type.');
	END IF;
	PERFORM coder.audit(action, type, coalesce(coder.try_uuid(body->>'resource_id'), gen_random_uuid()), '',
		org => coder.try_uuid(body->>'organization_id'), additional => coalesce(nullif(body->'additional_fields', 'null'), '{}'));
	RETURN coder.reply(204);
END
$$;

DELETE FROM coder.routes WHERE area = 'audit';
INSERT INTO coder.routes (area, method, pattern, function, pool, read_only) VALUES
	('audit', 'GET', '/api/v2/audit', 'audit_list', 'slow', true),
	('audit', 'POST', '/api/v2/audit/testgenerate', 'audit_test', 'fast', false);
