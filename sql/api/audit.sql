-- sql/api/audit.sql -- the audit log as the API shows it
--
-- Table: sql/schema/audit.sql; rows are written by extension/audit.c, auditrow.c.

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

-- A type of resource as descriptions name it.
CREATE OR REPLACE FUNCTION coder.audit_noun(type coder.resource_type)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE type WHEN 'workspace_build' THEN 'workspace' WHEN 'api_key' THEN 'token' WHEN 'convert_login' THEN 'login type conversion'
		WHEN 'health_settings' THEN 'health_settings' WHEN 'notifications_settings' THEN 'notifications_settings'
		WHEN 'prebuilds_settings' THEN 'prebuilds_settings' WHEN 'oauth2_provider_app' THEN 'oauth2 app'
		WHEN 'oauth2_provider_app_secret' THEN 'oauth2 app secret' WHEN 'idp_sync_settings_organization' THEN 'settings'
		WHEN 'idp_sync_settings_group' THEN 'settings' WHEN 'idp_sync_settings_role' THEN 'settings'
		ELSE replace(type::text, '_', ' ') END;
END
$$;

-- "{user} updated workspace {target}"
CREATE OR REPLACE FUNCTION coder.audit_description(l coder.audit_logs)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	asked CONSTANT bool := l.action = 'request_password_reset';
	who CONSTANT text := CASE WHEN asked THEN '' ELSE '{user} ' END;
	verb CONSTANT text := CASE WHEN l.status_code = 303 THEN 'was redirected attempting to ' || l.action
		WHEN l.status_code >= 400 THEN 'unsuccessfully attempted to ' || l.action ELSE coder.audit_verb(l.action::text) END;
BEGIN
	IF l.resource_type = 'api_key' AND l.action IN ('login', 'logout', 'register') THEN
		RETURN who || verb;
	ELSIF l.resource_type = 'git_ssh_key' THEN
		RETURN who || verb || ' the git ssh key';
	END IF;
	RETURN who || verb || CASE WHEN asked THEN ' for' ELSE ' ' || coder.audit_noun(l.resource_type) END
		|| CASE WHEN l.resource_type = 'convert_login' THEN ' to' ELSE '' END || ' {target}';
END
$$;

-- The workspace that a row is about; NULL where it is about none, or the row is gone.
CREATE OR REPLACE FUNCTION coder.audit_workspace(l coder.audit_logs)
RETURNS coder.workspaces LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wid uuid;
	w coder.workspaces;
BEGIN
	IF l.resource_type = 'workspace' THEN
		wid := l.resource_id;
	ELSIF l.resource_type = 'workspace_build' THEN
		SELECT b.workspace_id INTO wid FROM coder.workspace_builds b WHERE b.id = l.resource_id;
	ELSE
		SELECT b.workspace_id INTO wid
		  FROM coder.workspace_agents a
		  JOIN coder.workspace_resources r ON r.id = a.resource_id
		  JOIN coder.workspace_builds b ON b.job_id = r.job_id
		 WHERE a.id = CASE l.resource_type WHEN 'workspace_agent' THEN l.resource_id
			ELSE (SELECT p.agent_id FROM coder.workspace_apps p WHERE p.id = l.resource_id) END;
	END IF;
	SELECT x.* INTO w FROM coder.workspaces x WHERE x.id = wid;
	RETURN w;
END
$$;

-- Is the thing of a row gone, and where can it be seen ("" if it is gone or has no page)?
CREATE OR REPLACE FUNCTION coder.audit_link(l coder.audit_logs, OUT gone bool, OUT link text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	w coder.workspaces;
	owner text;
BEGIN
	gone := false;
	link := '';
	IF l.resource_type = 'template' THEN
		gone := NOT EXISTS (SELECT 1 FROM coder.templates t WHERE t.id = l.resource_id AND NOT t.deleted);
		link := '/templates/' || l.resource_target;
	ELSIF l.resource_type = 'user' THEN
		gone := NOT EXISTS (SELECT 1 FROM coder.users t WHERE t.id = l.resource_id AND NOT t.deleted);
		link := '/users?filter=' || l.resource_target;
	ELSIF l.resource_type = 'organization' THEN
		gone := NOT EXISTS (SELECT 1 FROM coder.organizations t WHERE t.id = l.resource_id AND NOT t.deleted);
	ELSIF l.resource_type IN ('workspace', 'workspace_build', 'workspace_agent', 'workspace_app') THEN
		w := coder.audit_workspace(l);
		gone := w.id IS NULL OR w.deleted;
		SELECT '/@' || u.username || '/' INTO owner FROM coder.users u WHERE u.id = w.owner_id;
		link := coalesce(owner || CASE l.resource_type WHEN 'workspace' THEN l.resource_target
			WHEN 'workspace_build' THEN (l.additional_fields->>'workspace_name') || '/builds/' || (l.additional_fields->>'build_number')
			ELSE w.name END, '');
	ELSIF l.resource_type = 'oauth2_provider_app' THEN
		gone := NOT EXISTS (SELECT 1 FROM coder.oauth2_provider_apps t WHERE t.id = l.resource_id);
		link := '/deployment/oauth2-provider/apps/' || l.resource_id;
	ELSIF l.resource_type = 'oauth2_provider_app_secret' THEN
		SELECT '/deployment/oauth2-provider/apps/' || t.app_id INTO link FROM coder.oauth2_provider_app_secrets t WHERE t.id = l.resource_id;
		gone := link IS NULL;
	END IF;
	link := CASE WHEN gone THEN '' ELSE link END;
END
$$;

-- AuditLog.  database_role is with the additional fields: the API has no place of its own for it.
CREATE OR REPLACE FUNCTION coder.audit_json(l coder.audit_logs)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u coder.users;
	o coder.organizations;
	seen record;
BEGIN
	SELECT x.* INTO u FROM coder.users x WHERE x.id = l.user_id;
	SELECT x.* INTO o FROM coder.organizations x WHERE x.id = l.organization_id;
	SELECT x.* INTO seen FROM coder.audit_link(l) x;
	RETURN jsonb_build_object('id', l.id, 'request_id', l.request_id, 'time', coder.ts(l."time"), 'ip', coalesce(host(l.ip), ''),
			'user_agent', coalesce(l.user_agent, ''), 'resource_type', l.resource_type, 'resource_id', l.resource_id,
			'resource_target', l.resource_target, 'resource_icon', l.resource_icon, 'action', l.action, 'diff', l.diff,
			'status_code', l.status_code, 'description', coder.audit_description(l),
			'additional_fields', CASE WHEN l.database_role IS NULL THEN l.additional_fields
				ELSE l.additional_fields || jsonb_build_object('database_role', l.database_role) END,
			'resource_link', seen.link, 'is_deleted', seen.gone, 'organization_id', l.organization_id,
			'user', CASE WHEN u.id IS NULL THEN NULL ELSE coder.user_json(u) END)
		|| CASE WHEN o.id IS NULL THEN '{}' ELSE jsonb_build_object('organization', jsonb_build_object('id', o.id, 'name', o.name,
			'display_name', o.display_name, 'icon', o.icon)) END;
END
$$;

-- ZC400 unless the values of these keys are UUIDs.
CREATE OR REPLACE FUNCTION coder.search_check_uuid(terms jsonb, keys text[], message text)
RETURNS void LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	key text;
BEGIN
	FOREACH key IN ARRAY keys LOOP
		IF terms ? key AND coder.try_uuid(terms->key->>0) IS NULL THEN
			PERFORM coder.raise(400, message, NULL, jsonb_build_array(coder.validation(key,
				format('Query param "%s" must be a valid uuid: invalid UUID length: %s', key, length(terms->key->>0)))));
		END IF;
	END LOOP;
END
$$;

-- The id of the organization that a search names; where there is none, an id that no organization has.
CREATE OR REPLACE FUNCTION coder.search_organization(value text)
RETURNS uuid LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce((coder.find_organization(value)).id, '00000000-0000-0000-0000-000000000001');
END
$$;

-- The id of the user whom a search names: "me", a name, or an e-mail address; where there is none, an id that nobody
-- has.  A living user comes before a deleted one, who is still named in old rows.
CREATE OR REPLACE FUNCTION coder.search_user(value text, by_email bool DEFAULT false)
RETURNS uuid LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	found_id uuid;
BEGIN
	IF value = 'me' AND NOT by_email THEN
		RETURN coder.subject_id();
	ELSIF by_email THEN
		SELECT u.id INTO found_id FROM coder.users u WHERE lower(u.email) = lower(value) AND NOT u.deleted AND u.email <> '';
	ELSE
		SELECT u.id INTO found_id FROM coder.users u WHERE lower(u.username) = lower(value) AND NOT u.deleted;
	END IF;
	IF found_id IS NULL THEN
		SELECT u.id INTO found_id FROM coder.users u
		 WHERE u.deleted AND lower(CASE WHEN by_email THEN u.email ELSE u.username END) = lower(value) ORDER BY u.updated_at DESC LIMIT 1;
	END IF;
	RETURN coalesce(found_id, '00000000-0000-0000-0000-000000000001');
END
$$;

-- The search of the audit log as an SQL condition on l, which leaves out what the subject, if there is one, may not
-- see; errors: ZC400.
CREATE OR REPLACE FUNCTION coder.audit_condition(q text)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	message CONSTANT text := 'Invalid audit search query.';
	terms CONSTANT jsonb := coder.search_parse(lower(coalesce(q, '')), message, 'resource_type', ARRAY['request_id',
		'resource_id', 'resource_target', 'username', 'email', 'date_from', 'date_to', 'organization', 'resource_type', 'action',
		'build_reason']);
	parts text[] := '{}';
	key text;
	value text;
BEGIN
	PERFORM coder.search_check_enum(terms, 'action', message, enum_range(NULL::coder.audit_action)::text[], true);
	PERFORM coder.search_check_enum(terms, 'resource_type', message, enum_range(NULL::coder.resource_type)::text[], true);
	PERFORM coder.search_check_enum(terms, 'build_reason', message, enum_range(NULL::coder.build_reason)::text[], true);
	PERFORM coder.search_check_uuid(terms, '{request_id,resource_id}', message);
	FOREACH key IN ARRAY ARRAY['date_from', 'date_to'] LOOP
		IF terms->key->>0 !~ '^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$' THEN
			PERFORM coder.raise(400, message, NULL, jsonb_build_array(coder.validation(key,
				format('Query param "%s" must be a valid date format (2006-01-02): "%s"', key, terms->key->>0))));
		END IF;
	END LOOP;
	FOR key, value IN SELECT t.key, t.value->>0 FROM jsonb_each(terms) t LOOP
		parts := parts || CASE key
			WHEN 'request_id' THEN format('l.request_id = %L', value::uuid)
			WHEN 'resource_id' THEN format('l.resource_id = %L', value::uuid)
			WHEN 'resource_target' THEN format('lower(l.resource_target) = %L', value)
			WHEN 'resource_type' THEN format('l.resource_type = %L', value)
			WHEN 'action' THEN format('l.action = %L', value)
			WHEN 'build_reason' THEN format('l.additional_fields->>''build_reason'' = %L', value)
			WHEN 'organization' THEN format('l.organization_id = %L', coder.search_organization(value))
			WHEN 'username' THEN format('l.user_id = %L', coder.search_user(value))
			WHEN 'email' THEN format('l.user_id = %L', coder.search_user(value, true))
			WHEN 'date_from' THEN format('l."time" >= %L', value::timestamp AT TIME ZONE 'UTC')
			WHEN 'date_to' THEN format('l."time" < %L', (value::timestamp + interval '1 day') AT TIME ZONE 'UTC') END;
	END LOOP;
	-- Nobody is the owner at an SQL prompt; a request for the log has a subject.
	RETURN array_to_string(parts || CASE WHEN coder.subject_id() IS NULL THEN 'true'
		ELSE coder.filter_sql('read', 'audit_log', 'l.organization_id', NULL, 'l.id') END, ' AND ');
EXCEPTION WHEN datetime_field_overflow THEN
	PERFORM coder.raise(400, message, NULL, jsonb_build_array(coder.validation('q', SQLERRM)));
END
$$;

-- ZC403 unless the subject may do it at the site or in some organization.
CREATE OR REPLACE FUNCTION coder.require_some(action text, type text)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT coder.can(action, type) AND NOT coder.can_any(action, type) THEN
		PERFORM coder.raise_forbidden();
	END IF;
END
$$;

-- A page of the rows of coder.<kind>_logs that <kind>_condition() and the subject's rights leave, newest (by column at) first,
-- each by <kind>_json().  Rows are counted up to one more than the cap.  Errors: 400, 403.
CREATE OR REPLACE FUNCTION coder.log_list(req coder.request, kind text, at text)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	lim CONSTANT int4 := coder.query_int(req, 'limit', 0);
	off CONSTANT int4 := coder.query_int(req, 'offset', 0);
	condition text;
	total bigint;
	logs jsonb;
BEGIN
	PERFORM coder.require_some('read', kind || '_log');
	EXECUTE format('SELECT coder.%I($1)', kind || '_condition') INTO condition USING req.query->>'q';
	EXECUTE format('SELECT count(*) FROM (SELECT FROM coder.%I l WHERE %s LIMIT 2001) c', kind || '_logs', condition) INTO total;
	IF total > 0 THEN
		EXECUTE format('SELECT jsonb_agg(coder.%1$I(p) ORDER BY p.%2$I DESC, p.id)
			FROM (SELECT l.* FROM coder.%3$I l WHERE %4$s ORDER BY l.%2$I DESC LIMIT %5$s OFFSET %6$s) p',
			kind || '_json', at, kind || '_logs', condition, coalesce(nullif(lim, 0), 100), off) INTO logs;
	END IF;
	RETURN coder.reply(200, jsonb_build_object('count', total, 'count_cap', 2000, kind || '_logs', coalesce(logs, '[]')));
END
$$;

-- GET /audit
CREATE OR REPLACE FUNCTION coder.audit_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.log_list(req, 'audit', 'time');
END
$$;

-- A text as a field of a CSV file (RFC 4180); what a spreadsheet would take for a formula is kept from being one.
CREATE OR REPLACE FUNCTION coder.csv_field(value text)
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	formula CONSTANT bool := value ~ '^[=+@\t\r-]';
BEGIN
	RETURN CASE WHEN value IS NULL THEN '' WHEN formula OR value ~ '[",\r\n]'
		THEN '"' || CASE WHEN formula THEN '''' ELSE '' END || replace(value, '"', '""') || '"' ELSE value END;
END
$$;

-- The audit log for a file, oldest first: at most so many rows behind a row (NULL: from the first), each with its JSON
-- and its line of CSV in the order of coder.audit_csv_header().
CREATE OR REPLACE FUNCTION coder.audit_export(q text DEFAULT '', after_time timestamptz DEFAULT NULL, after_id uuid DEFAULT NULL, most int4 DEFAULT 1000)
RETURNS TABLE (at timestamptz, id uuid, ndjson text, csv text) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY EXECUTE format($q$
		SELECT p."time", p.id, coder.compact(jsonb_build_object('id', p.id, 'time', coder.ts(p."time"), 'user_id', p.user_id,
				'username', u.username, 'email', u.email, 'token_id', p.token_id, 'database_role', p.database_role, 'ip', host(p.ip),
				'user_agent', p.user_agent, 'organization_id', p.organization_id, 'resource_type', p.resource_type,
				'resource_id', p.resource_id, 'resource_target', p.resource_target, 'action', p.action, 'status_code', p.status_code,
				'request_id', p.request_id, 'diff', p.diff, 'additional_fields', p.additional_fields)),
			concat_ws(',', p.id, coder.ts(p."time"), p.user_id, coder.csv_field(u.username), coder.csv_field(u.email),
				coder.csv_field(p.token_id), coder.csv_field(p.database_role), coalesce(host(p.ip), ''), coder.csv_field(p.user_agent),
				p.organization_id, p.resource_type, p.resource_id, coder.csv_field(p.resource_target), p.action, p.status_code,
				p.request_id, coder.csv_field(p.diff::text), coder.csv_field(p.additional_fields::text))
		  FROM (SELECT l.* FROM coder.audit_logs l WHERE %s%s ORDER BY l."time", l.id LIMIT %s) p
		  LEFT JOIN coder.users u ON u.id = p.user_id
		 ORDER BY p."time", p.id $q$,
		coder.audit_condition(q),
		CASE WHEN after_time IS NULL THEN '' ELSE format(' AND l."time" >= %1$L AND (l."time", l.id) > (%1$L, %2$L)', after_time, after_id) END, most);
END
$$;

-- The first line of an export as CSV.
CREATE OR REPLACE FUNCTION coder.audit_csv_header()
RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN 'id,time,user_id,username,email,token_id,database_role,ip,user_agent,organization_id,resource_type,resource_id,'
		'resource_target,action,status_code,request_id,diff,additional_fields';
END
$$;

-- GET /audit/export: a part of the log as a file, oldest first, format csv or ndjson.  The header X-Next-Cursor is the
-- cursor of the next part; without it this is the last.
CREATE OR REPLACE FUNCTION coder.audit_export_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	form CONSTANT text := coalesce(nullif(req.query->>'format', ''), 'ndjson');
	from_where CONSTANT text := coalesce(req.query->>'cursor', '');
	most CONSTANT int4 := least(coalesce(nullif(coder.query_int(req, 'limit', 0), 0), 10000), 10000);
	place text[];
	lines text;
	next text;
	n int4;
BEGIN
	PERFORM coder.require_some('read', 'audit_log');
	IF form NOT IN ('csv', 'ndjson') THEN
		PERFORM coder.raise_query('format', 'Query param "format" must be csv or ndjson');
	END IF;
	place := regexp_match(from_where, '^(\d{1,16})_([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$');
	IF from_where <> '' AND place IS NULL THEN
		PERFORM coder.raise_query('cursor', 'Query param "cursor" is not one that an export gave');
	END IF;
	SELECT string_agg(CASE form WHEN 'csv' THEN e.csv ELSE e.ndjson END, E'\n' ORDER BY e.at, e.id) || E'\n', count(*),
		(array_agg((extract(epoch FROM e.at) * 1000000)::bigint || '_' || e.id ORDER BY e.at DESC, e.id DESC))[1]
	  INTO lines, n, next
	  FROM coder.audit_export(req.query->>'q', timestamptz 'epoch' + place[1]::bigint * interval '1 microsecond', place[2]::uuid, most) e;
	RETURN ROW(200, NULL,
		CASE form WHEN 'csv' THEN E'Content-Type: text/csv; charset=utf-8\r\n' ELSE E'Content-Type: application/x-ndjson\r\n' END
		|| format(E'Content-Disposition: attachment; filename="audit.%s"\r\n', form)
		|| CASE WHEN n = most THEN format(E'X-Next-Cursor: %s\r\n', next) ELSE '' END,
		convert_to(CASE WHEN form = 'csv' AND from_where = '' THEN coder.audit_csv_header() || E'\n' ELSE '' END || coalesce(lines, ''),
			'UTF8'))::coder.response;
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
	extra jsonb := coalesce(nullif(body->'additional_fields', 'null'), '{}');
	at text := upper(coalesce(body->>'time', ''));
	u coder.users;
BEGIN
	PERFORM coder.require('create', 'audit_log');
	IF NOT action = ANY (enum_range(NULL::coder.audit_action)::text[]) OR NOT type = ANY (enum_range(NULL::coder.resource_type)::text[]) THEN
		PERFORM coder.raise(400, 'Invalid audit action or resource type.');
	ELSIF at !~ '^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d))?$' THEN
		PERFORM coder.raise(400, 'Request body must be valid JSON.', format('parsing time "%s"', at));
	END IF;
	extra := CASE WHEN jsonb_typeof(extra) = 'object' THEN extra ELSE '{}' END
		|| CASE WHEN coalesce(body->>'build_reason', '') = '' THEN '{}' ELSE jsonb_build_object('build_reason', body->>'build_reason') END;
	SELECT x.* INTO u FROM coder.users x WHERE x.id = coder.subject_id();
	INSERT INTO coder.audit_logs ("time", user_id, organization_id, ip, user_agent, resource_type, resource_id, resource_target,
		action, diff, status_code, additional_fields, request_id, token_id)
	SELECT CASE WHEN at IN ('', '0001-01-01T00:00:00Z') THEN clock_timestamp() ELSE at::timestamptz END,
		u.id, coalesce(coder.try_uuid(body->>'organization_id'), '00000000-0000-0000-0000-000000000000'),
		CASE WHEN r.remote ~ '^[0-9a-fA-F.:]+$' THEN r.remote::inet END, left(r.user_agent, 256), type::coder.resource_type,
		coalesce(coder.try_uuid(body->>'resource_id'), u.id), u.username, action::coder.audit_action,
		'{"foo": {"old": "bar", "new": "baz", "secret": false}, "password": {"old": "", "new": "", "secret": true}}', 200, extra,
		coalesce(coder.try_uuid(body->>'request_id'), r.request_id, gen_random_uuid()), coder.subject_token_id()
	  FROM coder.current_request() r;
	RETURN coder.reply(204);
END
$$;

-- The resource that a request would have changed, if the subject may know that it exists: type, id, target, organization,
-- and what would have been done.  NULL where the request names none that exists.
CREATE OR REPLACE FUNCTION coder.audit_aim(req coder.request, OUT type text, OUT id uuid, OUT target text, OUT org uuid, OUT action text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	last CONSTANT text := substring(req.route FROM '.*\{([A-Za-z_]+)\}');
	r jsonb; -- the row
BEGIN
	action := CASE WHEN req.method = 'DELETE' AND req.route LIKE '%}' THEN 'delete' ELSE 'write' END;
	IF req.method = 'POST' AND NOT (req.route ~ '/members/\{user\}$' OR req.route ~ '/versions/archive$|/(un)?archive$') THEN
		RETURN; -- what would have been made has no id
	ELSIF req.route ~ '/organizations/\{organization\}/members/\{user\}' THEN
		r := to_jsonb(coder.param_user(req));
		org := (coder.param_organization(req)).id;
		type := 'organization_member';
		action := CASE req.method WHEN 'POST' THEN 'create' ELSE action END;
	ELSIF req.route ~ '/members/roles/\{roleName\}' THEN
		org := (coder.param_organization(req)).id;
		SELECT to_jsonb(c) INTO r FROM coder.custom_roles c WHERE c.organization_id = org AND lower(c.name) = lower(req.params->>'roleName');
		type := 'custom_role';
	ELSIF req.route ~ '/keys/' THEN
		SELECT jsonb_build_object('id', k.user_id, 'name', k.token_name) INTO r FROM coder.param_key(req, 'read') k;
		type := 'api_key';
	ELSIF req.route ~ '/gitsshkey' THEN
		SELECT jsonb_build_object('id', g.user_id, 'name', g.public_key) INTO r FROM coder.gitsshkeys g WHERE g.user_id = (coder.param_user(req)).id;
		type := 'git_ssh_key';
	ELSIF req.route ~ '/settings/idpsync/' THEN
		SELECT jsonb_build_object('id', '00000000-0000-0000-0000-000000000000', 'name', s.target) INTO r FROM coder.audit_settings s
		 WHERE s.pattern LIKE 'idpsync:' || substring(req.route FROM 'idpsync/([a-z]+)') || '%';
		org := CASE WHEN req.params ? 'organization' THEN (coder.param_organization(req)).id END;
		type := CASE substring(req.route FROM 'idpsync/([a-z]+)') WHEN 'organization' THEN 'idp_sync_settings_organization'
			WHEN 'groups' THEN 'idp_sync_settings_group' ELSE 'idp_sync_settings_role' END;
	ELSIF req.route ~ '/(health|notifications|prebuilds)/settings$' THEN
		type := substring(req.route FROM '/(health|notifications|prebuilds)/settings$') || '_settings';
		id := '00000000-0000-0000-0000-000000000000';
		RETURN;
	ELSIF last = 'template' THEN
		r := to_jsonb(coder.param_template(req));
		type := 'template';
	ELSIF last = 'templateversion' THEN
		r := to_jsonb(coder.param_version(req));
		type := 'template_version';
	ELSIF last = 'workspace' THEN
		r := to_jsonb(coder.param_workspace(req));
		type := 'workspace';
	ELSIF last = 'group' THEN
		r := to_jsonb(coder.param_group(req));
		type := 'group';
	ELSIF last = 'organization' THEN
		r := to_jsonb(coder.param_organization(req));
		type := 'organization';
	ELSIF last = 'app' THEN
		r := to_jsonb(coder.param_oauth2_app(req));
		type := 'oauth2_provider_app';
	ELSIF last = 'secretID' THEN
		SELECT jsonb_build_object('id', x.id, 'name', x.display_secret) INTO r FROM coder.oauth2_provider_app_secrets x
		 WHERE x.id = coder.param_uuid(req, 'secretID') AND x.app_id = (coder.param_oauth2_app(req)).id;
		type := 'oauth2_provider_app_secret';
	ELSIF last = 'notification_template' THEN
		SELECT to_jsonb(t) INTO r FROM coder.notification_templates t WHERE t.id = coder.param_uuid(req, 'notification_template');
		type := 'notification_template';
	ELSIF last = 'user' AND req.route ~ '\{user\}(/(profile|roles|password|quiet-hours|status/[a-z]+))?$' THEN
		r := to_jsonb(coder.param_user(req));
		type := 'user';
	ELSE
		RETURN;
	END IF;
	id := r->>'id';
	target := CASE WHEN type IN ('user', 'organization_member') THEN r->>'username' ELSE r->>'name' END;
	org := coalesce(org, CASE type WHEN 'organization' THEN id ELSE (r->>'organization_id')::uuid END);
END
$$;

-- One row for a request that was refused with a status, where it was aimed at a resource that the subject may know of.
-- Nobody's are not told: the reference has no row for them either.  Called by coder.audit_refused().
CREATE OR REPLACE FUNCTION coder.audit_refusal(req coder.request, status int4)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	aim record;
BEGIN
	IF coder.subject_id() IS NULL OR req.method NOT IN ('POST', 'PUT', 'PATCH', 'DELETE') THEN
		RETURN;
	END IF;
	BEGIN
		SELECT * INTO aim FROM coder.audit_aim(req);
	EXCEPTION WHEN SQLSTATE 'ZC400' OR SQLSTATE 'ZC403' OR SQLSTATE 'ZC404' THEN
		RETURN; -- it does not exist, or not for this subject
	END;
	IF aim.id IS NOT NULL THEN
		PERFORM coder.audit(aim.action, aim.type, aim.id, aim.target, aim.org, '{}', status);
	END IF;
END
$$;

DELETE FROM coder.routes WHERE area = 'audit';
INSERT INTO coder.routes (area, method, pattern, function, pool, read_only) VALUES
	('audit', 'GET', '/api/v2/audit', 'audit_list', 'slow', true),
	('audit', 'GET', '/api/v2/audit/export', 'audit_export_get', 'slow', true),
	('audit', 'POST', '/api/v2/audit/testgenerate', 'audit_test', 'fast', false);
