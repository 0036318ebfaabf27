-- SPDX-License-Identifier: MIT
--
-- telemetry.sql
--   Telemetry is off and local: coder.telemetry_snapshot() shows what would be
--   sent.  It is sent only with CODER_TELEMETRY_ENABLE=true and a CODER_TELEMETRY_URL
--   that the administrator sets; turned off, nothing is sent at all.
--
-- A gateway asks coder.telemetry_next() now and then; one of them gets the request
-- to make, tells what came of it to coder.telemetry_taken(), and gets the next one.
-- No transaction is open meanwhile.  A summary of boundaries counts as told only
-- when the receiver has accepted it.
--
-- What is never in it: names of workspaces and users, addresses, tokens, parameters,
-- environment, descriptions, messages of errors.  Of a mail address the part before
-- the @ is hashed.

CREATE OR REPLACE FUNCTION coder.telemetry_url() RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_url text := rtrim(trim(coalesce(coder.setting('telemetry_url'), '')), '/');
BEGIN
	IF coalesce(lower(coder.setting('telemetry')) IN ('true', '1', 't'), false) AND v_url ~* '^https?://[^/\s]' THEN
		RETURN v_url;
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION coder.telemetry_url() IS 'Where telemetry goes: CODER_TELEMETRY_URL, where CODER_TELEMETRY_ENABLE is true; else NULL: nowhere.';

CREATE OR REPLACE FUNCTION coder.telemetry_mail(mail text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN encode(sha256(convert_to(substring(mail FROM '^(.*?)(?:@[^@]*)?$'), 'UTF8')), 'hex') || coalesce(substring(mail FROM '@[^@]*$'), '');
END
$$;
COMMENT ON FUNCTION coder.telemetry_mail(text) IS 'A mail address with its local part as SHA-256.';

CREATE OR REPLACE FUNCTION coder.telemetry_deployment(at timestamptz DEFAULT now()) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN jsonb_build_object('id', coder.site_config('deployment_id', ''), 'architecture', 'amd64', 'os_type', 'linux', 'os_family', 'linux',
		'tunnel', false,
		'install_source', left(coalesce(coder.setting('install_source'), ''), 64), 'version', coder.version(),
		'started_at', pg_postmaster_start_time(), 'shutdown_at', NULL);
END
$$;
COMMENT ON FUNCTION coder.telemetry_deployment(timestamptz) IS 'What telemetry says of the deployment itself.';

CREATE OR REPLACE FUNCTION coder.telemetry_rows(query text, at timestamptz) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_rows jsonb;
BEGIN
	EXECUTE format('SELECT coalesce(jsonb_agg(to_jsonb(r)), ''[]'') FROM (%s LIMIT 20000) r', query) INTO v_rows USING at;
	RETURN v_rows;
END
$$;
COMMENT ON FUNCTION coder.telemetry_rows(text, timestamptz) IS 'Rows of a query ($1: the time) as an array, 20,000 at most.';

CREATE OR REPLACE FUNCTION coder.telemetry_boundary() RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN (SELECT coder.boundary_usage_summary(u) || jsonb_build_object('period', u.period) FROM coder.boundary_usage_unsent(1) u);
END
$$;
COMMENT ON FUNCTION coder.telemetry_boundary() IS 'The oldest sealed period of boundary usage that was not accepted yet, with its number; NULL: there is none.';

CREATE OR REPLACE FUNCTION coder.telemetry_snapshot(at timestamptz DEFAULT now()) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_all jsonb;
BEGIN
	v_all := jsonb_build_object('deployment_id', coder.site_config('deployment_id', ''),
		'users', coder.telemetry_rows('SELECT u.id, u.created_at, coder.telemetry_mail(u.email) AS email_hashed, u.rbac_roles, u.status, u.login_type
			FROM coder.users u WHERE NOT u.deleted AND NOT u.is_system ORDER BY u.created_at', at),
		'organizations', coder.telemetry_rows('SELECT o.id, o.is_default, o.created_at FROM coder.organizations o ORDER BY o.created_at', at),
		'groups', coder.telemetry_rows('SELECT g.id, g.organization_id, g.quota_allowance, g.source FROM coder.groups g ORDER BY g.id', at),
		'group_members', coder.telemetry_rows('SELECT m.user_id, m.group_id FROM coder.group_members m ORDER BY 2, 1', at),
		'templates', coder.telemetry_rows('SELECT t.id, t.created_by, t.created_at, t.updated_at, t.organization_id, t.deleted, t.active_version_id, t.description <> '''' AS description,
			t.default_ttl / 1000000 AS default_ttl_ms, t.allow_user_cancel_workspace_jobs, t.allow_user_autostart, t.allow_user_autostop, t.failure_ttl / 1000000 AS failure_ttl_ms,
			t.time_til_dormant / 1000000 AS time_til_dormant_ms, t.time_til_dormant_autodelete / 1000000 AS time_til_dormant_auto_delete_ms, t.require_active_version
			FROM coder.templates t ORDER BY t.created_at', at),
		'workspaces', coder.telemetry_rows('SELECT w.id, w.organization_id, w.owner_id, w.template_id, w.created_at, w.deleted, w.autostart_schedule, w.automatic_updates
			FROM coder.workspaces w ORDER BY w.created_at DESC', at),
		'telemetry_items', coder.telemetry_rows('SELECT i.key, i.value, i.created_at, i.updated_at FROM coder.telemetry_items i ORDER BY 1', at),
		'chats', coder.telemetry_rows('SELECT c.id, c.owner_id, c.created_at, c.updated_at, c.status, c.parent_chat_id IS NOT NULL AS has_parent, c.archived, c.last_model_config_id
			FROM coder.chats c WHERE c.updated_at > $1 - interval ''1 hour'' ORDER BY c.created_at', at));
	-- Of the last hour.
	v_all := v_all || jsonb_build_object(
		'api_keys', coder.telemetry_rows('SELECT k.id, k.user_id, k.created_at, k.last_used, k.login_type FROM coder.api_keys k WHERE k.last_used > $1 - interval ''1 hour'' ORDER BY k.id', at),
		'provisioner_jobs', coder.telemetry_rows('SELECT j.id, j.organization_id, j.initiator_id, j.created_at, j.updated_at, j.started_at, j.canceled_at, j.completed_at,
			coalesce(j.error, '''') <> '''' AS error, j.type FROM coder.provisioner_jobs j WHERE j.created_at > $1 - interval ''1 hour'' ORDER BY j.created_at', at),
		'template_versions', coder.telemetry_rows('SELECT v.id, v.created_at, v.template_id, v.organization_id, v.job_id FROM coder.template_versions v
			WHERE v.created_at > $1 - interval ''1 hour'' ORDER BY v.created_at', at),
		'workspace_build', coder.telemetry_rows('SELECT b.id, b.created_at, b.workspace_id, b.template_version_id, b.job_id, b.build_number FROM coder.workspace_builds b
			WHERE b.created_at > $1 - interval ''1 hour'' ORDER BY b.created_at', at),
		'workspace_resources', coder.telemetry_rows('SELECT r.id, r.created_at, r.job_id, r.transition, r.type FROM coder.workspace_resources r
			WHERE r.created_at > $1 - interval ''1 hour'' ORDER BY r.created_at', at),
		'workspace_agents', coder.telemetry_rows('SELECT a.id, a.created_at, a.resource_id, a.auth_instance_id IS NOT NULL AS instance_auth, a.architecture, a.operating_system,
			a.environment_variables IS NOT NULL AS environment_variables, a.directory <> '''' AS directory, a.first_connected_at, a.last_connected_at, a.disconnected_at,
			a.connection_timeout_seconds, a.subsystems FROM coder.workspace_agents a WHERE a.created_at > $1 - interval ''1 hour'' ORDER BY a.created_at', at),
		'workspace_apps', coder.telemetry_rows('SELECT p.id, p.created_at, p.agent_id, p.subdomain FROM coder.workspace_apps p WHERE p.created_at > $1 - interval ''1 hour'' ORDER BY p.created_at', at),
		'workspace_agent_stats', coder.telemetry_rows('SELECT s.user_id, s.template_id, s.workspace_id, s.agent_id, min(s.created_at) AS aggregated_from, sum(s.rx_bytes) AS rx_bytes, sum(s.tx_bytes) AS tx_bytes,
			max(s.session_count_vscode) AS session_count_vscode, max(s.session_count_jetbrains) AS session_count_jetbrains,
			max(s.session_count_reconnecting_pty) AS session_count_reconnecting_pty, max(s.session_count_ssh) AS session_count_ssh
			FROM coder.workspace_agent_stats s WHERE s.created_at > $1 - interval ''1 hour'' GROUP BY 1, 2, 3, 4 ORDER BY 4', at));
	RETURN v_all || jsonb_build_object('boundary_usage_summary', coder.telemetry_boundary());
END
$$;
COMMENT ON FUNCTION coder.telemetry_snapshot(timestamptz) IS
	'What telemetry would tell now, whether it is on or not; a summary of boundaries has the period''s number, by which a receiver knows one that it was told twice.';

CREATE OR REPLACE FUNCTION coder.telemetry_request(path text, body jsonb, next text, state jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN jsonb_build_object('requests', jsonb_build_array(jsonb_build_object('method', 'POST', 'url', coder.telemetry_url() || path,
			'headers', jsonb_build_object('Content-Type', 'application/json', 'X-Coder-Version', coder.version()),
			'body', body::text, 'timeout_ms', 30000, 'max_size', 65536)), 'continue', next, 'state', state);
END
$$;
COMMENT ON FUNCTION coder.telemetry_request(text, jsonb, text, jsonb) IS 'A plan of one request to the receiver, as docs/ARCHITECTURE.md section 2.2 has it.';

CREATE OR REPLACE FUNCTION coder.telemetry_next() RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF coder.telemetry_url() IS NULL THEN
		RETURN NULL;
	END IF;
	INSERT INTO coder.telemetry_state DEFAULT VALUES ON CONFLICT DO NOTHING;
	UPDATE coder.telemetry_state s SET claimed_until = clock_timestamp() + interval '2 minutes'
	 WHERE s.one IN (SELECT x.one FROM coder.telemetry_state x WHERE x.next_at <= clock_timestamp() AND x.claimed_until <= clock_timestamp() FOR UPDATE SKIP LOCKED);
	IF NOT FOUND THEN
		RETURN NULL;
	END IF;
	RETURN coder.telemetry_request('/deployment', coder.telemetry_deployment(), 'deployment', '{}');
END
$$;
COMMENT ON FUNCTION coder.telemetry_next() IS
	'The request that is due now, for the one gateway that gets it; NULL: telemetry is off, nothing is due, or another gateway is at it.';

CREATE OR REPLACE FUNCTION coder.telemetry_failed(why text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	-- A minute, two, four, … half an hour.
	UPDATE coder.telemetry_state s SET claimed_until = '0001-01-01 00:00:00+00', attempts = s.attempts + 1, failed_at = clock_timestamp(), error = left(why, 200),
		   next_at = clock_timestamp() + least(interval '30 minutes', coder.setting_seconds('telemetry_retry', 60) * interval '1 second' * 2 ^ least(s.attempts, 10));
END
$$;
COMMENT ON FUNCTION coder.telemetry_failed(text) IS 'The receiver did not take it: again later, each time twice as late, up to half an hour.';

CREATE OR REPLACE FUNCTION coder.telemetry_taken(fetched text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_step text := substring(fetched FROM '^fetched:([a-z]+)\n');
	v jsonb := substring(fetched FROM '\n(.*)$');
	v_status integer := (v #>> '{results,0,status}')::integer;
	v_snapshot jsonb;
	v_boundary jsonb;
	v_period bigint;
BEGIN
	IF coalesce(v_status, 0) NOT BETWEEN 200 AND 299 THEN
		PERFORM coder.telemetry_failed(format('%s: %s', v_step, coalesce(nullif(v_status, 0)::text, v #>> '{results,0,error}', 'no answer')));
		RETURN NULL;
	ELSIF v_step = 'deployment' THEN
		-- Turned off meanwhile: nothing more goes out.
		IF coder.telemetry_url() IS NULL THEN
			PERFORM coder.telemetry_failed('turned off');
			RETURN NULL;
		END IF;
		v_snapshot := coder.telemetry_snapshot();
		RETURN coder.telemetry_request('/snapshot', v_snapshot, 'snapshot', jsonb_build_object('period', v_snapshot #> '{boundary_usage_summary,period}'));
	END IF;
	v_period := (v #>> '{state,period}')::bigint;
	IF v_period IS NOT NULL AND coder.boundary_usage_sent(v_period) THEN
		INSERT INTO coder.telemetry_locks (event_type, period_ending_at)
		SELECT 'boundary_usage_summary', p.closed_at FROM coder.boundary_usage_periods p WHERE p.period = v_period
		ON CONFLICT DO NOTHING;
		v_boundary := coder.telemetry_boundary();
	END IF;
	-- Periods that are left over from a time when the receiver took none follow at once, each alone.
	IF v_boundary IS NOT NULL AND coder.telemetry_url() IS NOT NULL THEN
		UPDATE coder.telemetry_state s SET claimed_until = clock_timestamp() + interval '2 minutes';
		RETURN coder.telemetry_request('/snapshot', jsonb_build_object('deployment_id', coder.site_config('deployment_id', ''), 'boundary_usage_summary', v_boundary),
									   'snapshot', jsonb_build_object('period', v_boundary -> 'period'));
	END IF;
	UPDATE coder.telemetry_state s SET claimed_until = '0001-01-01 00:00:00+00', attempts = 0, sent = s.sent + 1, sent_at = clock_timestamp(), error = NULL,
		   next_at = clock_timestamp() + coder.setting_seconds('telemetry_interval', 1800) * interval '1 second';
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION coder.telemetry_taken(text) IS
	'What came of the request of telemetry_next() or of this function, as the gateway''s cursor has it; the next request, or NULL: it is done, or failed and will be tried again.';
