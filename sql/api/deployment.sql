-- sql/api/deployment.sql -- the server itself: version, settings, experiments, regions, appearance

-- A value of the site, NULL where it is not set.
CREATE OR REPLACE FUNCTION coder.site_config(key text, def text DEFAULT NULL)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce((SELECT c.value FROM coder.site_configs c WHERE c.key = $1), def);
END
$$;

-- Sets a value of the site.
CREATE OR REPLACE FUNCTION coder.site_config_set(key text, value text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO coder.site_configs AS c (key, value) VALUES ($1, $2)
	ON CONFLICT ON CONSTRAINT site_configs_pkey DO UPDATE SET value = excluded.value;
END
$$;

-- GET /api/v2/
CREATE OR REPLACE FUNCTION coder.api_root(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply_message(200, U&'\+01F44B');
END
$$;

-- GET /buildinfo
CREATE OR REPLACE FUNCTION coder.buildinfo(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	webpush CONSTANT text := coder.site_config('webpush_vapid_public_key');
BEGIN
	RETURN coder.reply(200, jsonb_build_object('external_url', coalesce(coder.setting('external_url'), 'https://github.com/coder/coder'),
			'version', coder.version(), 'dashboard_url', coalesce(coder.setting('access_url'), ''), 'telemetry', coder.telemetry_url() IS NOT NULL,
			'workspace_proxy', false, 'agent_api_version', '1.0', 'provisioner_api_version', '1.16',
			'upgrade_message', coalesce(coder.setting('cli_upgrade_message'), ''),
			'deployment_id', coalesce(coder.site_config('deployment_id'), ''))
		|| CASE WHEN webpush IS NULL THEN '{}' ELSE jsonb_build_object('webpush_public_key', webpush) END);
END
$$;

-- GET /updatecheck: nothing is asked of the outside
CREATE OR REPLACE FUNCTION coder.updatecheck(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, jsonb_build_object('current', true, 'version', coder.version(),
		'url', coalesce(coder.setting('external_url'), 'https://github.com/coder/coder')));
END
$$;

-- POST /csp/reports
CREATE OR REPLACE FUNCTION coder.csp_report(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF req.body IS NULL THEN
		PERFORM coder.raise(400, 'Failed to read body, invalid json.');
	END IF;
	RETURN coder.reply(200, '"ok"'::text);
END
$$;

-- What an option is set to, as text; NULL where nobody has set it.
CREATE OR REPLACE FUNCTION coder.option_text(o coder.deployment_options)
RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce(coder.setting(replace(o.flag, '-', '_')), coder.setting(lower(substr(o.env, 7))));
END
$$;

-- A duration in Go's words as nanoseconds, NULL where it is none; a number without a unit is in seconds.
CREATE OR REPLACE FUNCTION coder.duration_ns(value text)
RETURNS numeric LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF value ~ '^[0-9]{1,12}$' THEN
		RETURN value::numeric * 1000000000;
	ELSIF coalesce(value, '') !~ '^([0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h|d))+$' THEN
		RETURN NULL;
	END IF;
	RETURN (SELECT trunc(sum(p[1]::numeric * CASE p[2] WHEN 'ms' THEN 1000000 WHEN 's' THEN 1000000000 WHEN 'm' THEN 60000000000
			WHEN 'h' THEN 3600000000000 ELSE 86400000000000 END))
		  FROM regexp_matches(value, '([0-9.]+)(ms|s|m|h|d)', 'g') p);
END
$$;

-- What an option is, as JSON of its type: its default where it is set to nothing, or to nothing of its type.
CREATE OR REPLACE FUNCTION coder.option_value(o coder.deployment_options)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	given CONSTANT text := coder.option_text(o);
BEGIN
	IF o.flag = 'api-rate-limit' AND coder.setting_bool('dangerous_disable_rate_limits') THEN
		RETURN '-1';
	ELSIF o.flag = 'external-auth-providers' THEN
		RETURN coalesce((SELECT jsonb_agg(c - '{n,extra_token_keys}'::text[]) FROM coder.external_auth_configs() c), '[]');
	ELSIF given IS NULL OR strpos(coalesce(o.notes, ''), 'secret') > 0 THEN
		RETURN o.value;
	END IF;
	RETURN coalesce(CASE o.type
		WHEN 'bool' THEN CASE WHEN given IN ('1', 't', 'T', 'true', 'TRUE', 'True') THEN 'true'::jsonb
			WHEN given IN ('0', 'f', 'F', 'false', 'FALSE', 'False') THEN 'false' END
		WHEN 'int' THEN CASE WHEN given ~ '^-?[0-9]{1,18}$' THEN to_jsonb(given::bigint) END
		WHEN 'duration' THEN to_jsonb(coder.duration_ns(given))
		WHEN 'list' THEN CASE WHEN trim(given) = '' THEN o.value ELSE to_jsonb(regexp_split_to_array(trim(given), '\s*,\s*')) END
		WHEN 'object' THEN coder.try_object(given)
		WHEN 'json' THEN o.value
		ELSE to_jsonb(given) END, o.value);
END
$$;

-- A group of options with those that it is in.
CREATE OR REPLACE FUNCTION coder.option_group_json(wanted text)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	g coder.deployment_option_groups;
BEGIN
	SELECT x.* INTO g FROM coder.deployment_option_groups x WHERE x.key = wanted;
	RETURN jsonb_strip_nulls(jsonb_build_object('parent', CASE WHEN g.parent IS NOT NULL THEN coder.option_group_json(g.parent) END,
		'name', g.name, 'yaml', g.yaml, 'description', g.description));
END
$$;

-- One of options[]: a secret without its value.
CREATE OR REPLACE FUNCTION coder.option_json(o coder.deployment_options)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	value CONSTANT jsonb := coder.option_value(o);
	secret CONSTANT bool := strpos(coalesce(o.notes, ''), 'secret') > 0;
BEGIN
	RETURN jsonb_strip_nulls(jsonb_build_object('name', o.name, 'description', o.description, 'flag', o.flag,
			'flag_shorthand', o.shorthand, 'env', o.env, 'yaml', o.yaml, 'default', o.def, 'hidden', nullif(o.hidden, false),
			'group', CASE WHEN o.grp IS NOT NULL THEN coder.option_group_json(o.grp) END,
			'annotations', (SELECT jsonb_object_agg(n, 'true') FROM unnest(string_to_array(o.notes, ',')) n),
			'use_instead', (SELECT jsonb_agg(coder.option_json(x) ORDER BY strpos(o.instead, x.flag)) FROM coder.deployment_options x
				WHERE x.flag = ANY (string_to_array(o.instead, ','))),
			'value_source', CASE WHEN secret THEN NULL WHEN coder.option_text(o) IS NOT NULL AND value <> o.value THEN 'env'
				WHEN o.def IS NOT NULL THEN 'default' END))
		|| CASE WHEN secret THEN '{}' WHEN o.type LIKE 'choice:%' THEN jsonb_build_object('value', jsonb_build_object(
				'Choices', to_jsonb(string_to_array(substr(o.type, 8), ',')), 'Value', value))
			ELSE jsonb_build_object('value', value) END;
END
$$;

-- A document with a value at a path of names, whose objects are made where they are not there.
CREATE OR REPLACE FUNCTION coder.jsonb_put(doc jsonb, path text[], value jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF cardinality(path) = 1 THEN
		RETURN doc || jsonb_build_object(path[1], value);
	END IF;
	RETURN doc || jsonb_build_object(path[1], coder.jsonb_put(coalesce(doc->path[1], '{}'), path[2:], value));
END
$$;

-- GET /deployment/config: the settings in force, as a document and one by one.  Secrets are empty.
CREATE OR REPLACE FUNCTION coder.deployment_config(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	config jsonb := '{"telemetry": {"trace": false}}';
	o record;
BEGIN
	PERFORM coder.require('read', 'deployment_config');
	FOR o IN SELECT x.path, x.always, coder.option_value(x) AS value FROM coder.deployment_options x WHERE x.path IS NOT NULL ORDER BY x.n LOOP
		IF o.always OR o.value NOT IN ('""', '0', 'false', 'null', '[]') THEN
			config := coder.jsonb_put(config, string_to_array(o.path, '.'), o.value);
		END IF;
	END LOOP;
	RETURN coder.reply(200, jsonb_build_object('config', config, 'options',
		(SELECT jsonb_agg(coder.option_json(x) ORDER BY x.n) FROM coder.deployment_options x)));
END
$$;

-- The experiments that are on, as a JSON array.
CREATE OR REPLACE FUNCTION coder.experiments_json()
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce((SELECT jsonb_agg(e.v ORDER BY e.n)
		FROM regexp_split_to_table(trim(coalesce(coder.setting('experiments'), '')), '\s*,\s*') WITH ORDINALITY e (v, n)
		WHERE e.v NOT IN ('', '*')), '[]');
END
$$;

-- GET /deployment/ssh
CREATE OR REPLACE FUNCTION coder.deployment_ssh(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, jsonb_build_object('hostname_prefix', coalesce(coder.setting('ssh_hostname_prefix'), 'coder.'),
		'hostname_suffix', coalesce(coder.setting('ssh_hostname_suffix'), 'coder'),
		'ssh_config_options', coalesce(coder.setting('ssh_config_options')::jsonb, '{}')));
END
$$;

-- GET /experiments
CREATE OR REPLACE FUNCTION coder.experiments_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, coder.experiments_json());
END
$$;

-- GET /experiments/available: none is safe to turn on by "*"
CREATE OR REPLACE FUNCTION coder.experiments_available(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, '{"safe":[]}'::text);
END
$$;

-- GET /regions: this deployment is the only one
CREATE OR REPLACE FUNCTION coder.regions(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, jsonb_build_object('regions', jsonb_build_array(jsonb_build_object(
		'id', coder.site_config('deployment_id'), 'name', 'primary',
		'display_name', coalesce(coder.site_config('default_proxy_display_name'), 'Default'),
		'icon_url', coalesce(coder.site_config('default_proxy_icon_url'), '/emojis/1f3e1.png'), 'healthy', true,
		'path_app_url', coalesce(coder.setting('access_url'), ''), 'wildcard_hostname', coalesce(coder.setting('wildcard_access_url'), '')))));
END
$$;

-- GET /entitlements: everything that is built is there, without a licence.  What is not built is "not_entitled".
CREATE OR REPLACE FUNCTION coder.entitlements(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	built CONSTANT text[] := ARRAY['audit_log', 'template_rbac', 'user_role_management', 'appearance', 'access_control',
		'custom_roles', 'multiple_organizations', 'service_accounts', 'workspace_batch_actions', 'task_batch_actions', 'scim', 'connection_log',
		'multiple_external_auth', 'external_token_encryption', 'advanced_template_scheduling', 'high_availability', 'boundary'];
	features jsonb;
BEGIN
	SELECT jsonb_object_agg(f, jsonb_build_object('entitlement', CASE WHEN f = ANY (built) THEN 'entitled' ELSE 'not_entitled' END,
			'enabled', f = ANY (built))) INTO features
	  FROM unnest(ARRAY['user_limit', 'audit_log', 'connection_log', 'browser_only', 'scim', 'template_rbac', 'user_role_management',
		'high_availability', 'multiple_external_auth', 'external_provisioner_daemons', 'appearance', 'advanced_template_scheduling',
		'workspace_proxy', 'external_token_encryption', 'workspace_batch_actions', 'task_batch_actions', 'access_control',
		'control_shared_ports', 'custom_roles', 'multiple_organizations', 'workspace_prebuilds', 'managed_agent_limit',
		'workspace_external_agent', 'aibridge', 'boundary', 'service_accounts', 'ai_governance_user_limit']) f;
	RETURN coder.reply(200, jsonb_build_object('features', features, 'warnings', '[]'::jsonb, 'errors', '[]'::jsonb, 'has_license', false,
		'trial', false, 'require_telemetry', false, 'refreshed_at', coder.ts(now())));
END
$$;

-- GET /licenses: none is needed
CREATE OR REPLACE FUNCTION coder.licenses_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, '[]'::text);
END
$$;

-- GET /appearance
CREATE OR REPLACE FUNCTION coder.appearance_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	banners CONSTANT jsonb := coalesce(coder.site_config('announcement_banners')::jsonb, '[]');
BEGIN
	RETURN coder.reply(200, jsonb_build_object('application_name', coalesce(coder.site_config('application_name'), ''),
		'logo_url', coalesce(coder.site_config('logo_url'), ''), 'docs_url', coalesce(coder.setting('docs_url'), 'https://coder.com/docs'),
		'service_banner', coalesce(banners->0, '{"enabled": false}'), 'announcement_banners', banners));
END
$$;

-- PUT /appearance
CREATE OR REPLACE FUNCTION coder.appearance_put(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body jsonb;
	banner jsonb;
BEGIN
	PERFORM coder.require('update', 'deployment_config');
	body := coder.body(req);
	PERFORM coder.body_type(body, 'announcement_banners', 'array');
	FOR banner IN SELECT jsonb_array_elements(coalesce(nullif(body->'announcement_banners', 'null'), '[]')) LOOP
		IF coalesce(banner->>'background_color', '') !~ '^(#[0-9a-fA-F]{6})?$' THEN
			PERFORM coder.raise(400, format('Invalid color format: "%s"', banner->>'background_color'));
		END IF;
	END LOOP;
	PERFORM coder.site_config_set('application_name', coalesce(body->>'application_name', ''));
	PERFORM coder.site_config_set('logo_url', coalesce(body->>'logo_url', ''));
	PERFORM coder.site_config_set('announcement_banners', coalesce(nullif(body->'announcement_banners', 'null'), '[]')::text);
	RETURN coder.reply(200, body);
END
$$;

-- GET /swagger: the API's description is not part of this server
CREATE OR REPLACE FUNCTION coder.swagger(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF coder.app_flag('swagger_enable') THEN
		RETURN coder.not_built(req);
	END IF;
	RETURN coder.reply_message(404, 'Swagger documentation is disabled.');
END
$$;

-- GET /tasks: none, since nothing makes them yet
CREATE OR REPLACE FUNCTION coder.task_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coder.reply(200, '{"tasks": [], "count": 0}'::jsonb);
END
$$;

-- GET /tasks/{user}/{task} and below it: there is no such task, whoever's it would be
CREATE OR REPLACE FUNCTION coder.task_none(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.param_user(req);
	PERFORM coder.raise_not_found();
END
$$;

DELETE FROM coder.routes WHERE area = 'deployment';
INSERT INTO coder.routes (area, method, pattern, function, auth, read_only) VALUES
	('deployment', 'GET', '/api/v2', 'api_root', 'none', true),
	('deployment', 'GET', '/api/v2/buildinfo', 'buildinfo', 'none', true),
	('deployment', 'GET', '/api/v2/updatecheck', 'updatecheck', 'none', true),
	('deployment', 'POST', '/api/v2/csp/reports', 'csp_report', 'none', true),
	('deployment', 'GET', '/api/v2/deployment/config', 'deployment_config', 'session', true),
	('deployment', 'GET', '/api/v2/deployment/ssh', 'deployment_ssh', 'session', true),
	('deployment', 'GET', '/api/v2/experiments', 'experiments_list', 'session', true),
	('deployment', 'GET', '/api/v2/experiments/available', 'experiments_available', 'session', true),
	('deployment', 'GET', '/api/v2/regions', 'regions', 'session', true),
	('deployment', 'GET', '/api/v2/entitlements', 'entitlements', 'none', true),
	('deployment', 'GET', '/api/v2/licenses', 'licenses_list', 'session', true),
	('deployment', 'GET', '/api/v2/appearance', 'appearance_get', 'session_or_agent', true),
	('deployment', 'PUT', '/api/v2/appearance', 'appearance_put', 'session', false),
	('deployment', 'GET', '/swagger', 'swagger', 'none', true),
	('deployment', 'GET', '/swagger/{rest...}', 'swagger', 'none', true),
	('deployment', 'GET', '/api/v2/tasks', 'task_list', 'session', true),
	('deployment', 'GET', '/api/v2/tasks/{user}/{task}', 'task_none', 'session', true),
	('deployment', 'GET', '/api/v2/tasks/{user}/{task}/logs', 'task_none', 'session', true),
	('deployment', 'GET', '/api/experimental/tasks', 'task_list', 'session', true),
	('deployment', 'GET', '/api/experimental/tasks/{user}/{task}', 'task_none', 'session', true),
	('deployment', 'GET', '/api/experimental/tasks/{user}/{task}/logs', 'task_none', 'session', true);
