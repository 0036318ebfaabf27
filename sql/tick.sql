-- SPDX-License-Identifier: MIT
--
-- tick.sql
--   Everything that is due by time: autostart, autostop, dormancy, deletion,
--   agents that fell silent, jobs that hang, rows that are old, keys that are old.
--
-- coder.tick() may be called at any time and by several at once: one does the
-- work, the others return at once.  Each due thing is found by its state, and
-- doing it ends that state in the same transaction, so it is done once.  What
-- fails for one workspace is logged and leaves the others alone.

CREATE OR REPLACE FUNCTION coder.due_stop(at timestamptz) RETURNS TABLE (id uuid, reason text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY
	SELECT w.id, 'autostop'
	  FROM coder.workspace_builds b
	  JOIN coder.workspaces w ON w.latest_build_id = b.id
	  JOIN coder.provisioner_jobs j ON j.id = b.job_id
	  JOIN coder.users u ON u.id = w.owner_id
	 WHERE b.transition = 'start' AND NOT b.active AND j.job_status <> 'failed'
	   AND NOT w.deleted AND w.dormant_at IS NULL
	   AND ((b.deadline > '0001-01-01 00:00:00+00' AND b.deadline <= at) OR u.status = 'suspended')
	UNION ALL
	-- A start that failed, where the template wants it cleaned up.
	SELECT w.id, 'autostop'
	  FROM coder.workspace_builds b
	  JOIN coder.workspaces w ON w.latest_build_id = b.id
	  JOIN coder.provisioner_jobs j ON j.id = b.job_id
	  JOIN coder.templates t ON t.id = w.template_id
	 WHERE b.transition = 'start' AND j.job_status = 'failed' AND NOT w.deleted AND t.failure_ttl > 0
	   AND j.completed_at + t.failure_ttl / 1000 * interval '1 microsecond' < at;
END
$$;
COMMENT ON FUNCTION coder.due_stop(timestamptz) IS 'Workspaces that are to stop now, and why.';

CREATE OR REPLACE FUNCTION coder.due_start(at timestamptz) RETURNS TABLE (id uuid, version uuid)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY
	SELECT w.id, CASE WHEN w.automatic_updates = 'always' OR t.require_active_version
					  THEN t.active_version_id ELSE b.template_version_id END
	  FROM coder.workspaces w
	  JOIN coder.workspace_builds b ON b.id = w.latest_build_id
	  JOIN coder.provisioner_jobs j ON j.id = b.job_id
	  JOIN coder.templates t ON t.id = w.template_id
	  JOIN coder.users u ON u.id = w.owner_id
	 WHERE NOT w.deleted AND w.dormant_at IS NULL AND w.next_start_at <= at
	   AND w.autostart_schedule IS NOT NULL AND t.allow_user_autostart AND u.status = 'active'
	   AND b.transition = 'stop' AND NOT b.active AND j.job_status <> 'failed';
END
$$;
COMMENT ON FUNCTION coder.due_start(timestamptz) IS
	'Workspaces that are to start now, and with which version.';

CREATE OR REPLACE FUNCTION coder.due_dormant(at timestamptz) RETURNS TABLE (id uuid, running boolean)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY
	SELECT w.id, b.transition = 'start'
	  FROM coder.workspaces w
	  JOIN coder.workspace_builds b ON b.id = w.latest_build_id
	  JOIN coder.templates t ON t.id = w.template_id
	 WHERE NOT w.deleted AND w.dormant_at IS NULL AND NOT b.active AND t.time_til_dormant > 0
	   AND w.last_used_at + t.time_til_dormant / 1000 * interval '1 microsecond' < at;
END
$$;
COMMENT ON FUNCTION coder.due_dormant(timestamptz) IS
	'Workspaces that nobody used for as long as their template allows.';

CREATE OR REPLACE FUNCTION coder.due_delete(at timestamptz) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY
	SELECT w.id
	  FROM coder.workspaces w
	  JOIN coder.workspace_builds b ON b.id = w.latest_build_id
	  JOIN coder.provisioner_jobs j ON j.id = b.job_id
	  JOIN coder.templates t ON t.id = w.template_id
	 WHERE NOT w.deleted AND w.dormant_at IS NOT NULL AND w.deleting_at < at AND NOT b.active
	   AND t.time_til_dormant_autodelete > 0
	   AND NOT (b.transition = 'delete' AND j.job_status = 'failed'
				AND j.completed_at > at - interval '24 hours');
END
$$;
COMMENT ON FUNCTION coder.due_delete(timestamptz) IS
	'Dormant workspaces whose time is over; one whose deletion failed waits a day.';

CREATE OR REPLACE FUNCTION coder.tick_build(workspace uuid, transition text, reason text, version uuid DEFAULT NULL)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_owner uuid;
BEGIN
	SELECT w.owner_id INTO v_owner FROM coder.workspaces w WHERE w.id = workspace FOR NO KEY UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	PERFORM coder.build_add(workspace, v_owner, transition, version, reason);
	RETURN true;
EXCEPTION
	-- The owner cannot be asked: the next tick tries again.
	WHEN SQLSTATE 'ZC400' OR SQLSTATE 'ZC406' OR SQLSTATE 'ZC409' THEN
		RAISE LOG 'coder.tick: % of workspace % was refused: %', transition, workspace, SQLERRM;
		RETURN false;
END
$$;
COMMENT ON FUNCTION coder.tick_build(uuid, text, text, uuid) IS
	'A build that is due, in the owner''s name; false if it could not be made.';

CREATE OR REPLACE FUNCTION coder.tick_workspaces(at timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v record;
	v_done integer := 0;
BEGIN
	FOR v IN SELECT * FROM coder.due_stop(at) LOOP
		v_done := v_done + coder.tick_build(v.id, 'stop', v.reason)::integer;
	END LOOP;
	FOR v IN SELECT * FROM coder.due_start(at) LOOP
		v_done := v_done + coder.tick_build(v.id, 'start', 'autostart', v.version)::integer;
	END LOOP;
	FOR v IN SELECT * FROM coder.due_dormant(at) LOOP
		IF v.running THEN
			PERFORM coder.tick_build(v.id, 'stop', 'dormancy');
		END IF;
		PERFORM coder.audit_as('dormancy');
		PERFORM coder.workspace_set_dormant(v.id, at);
		PERFORM coder.audit_as(NULL);
		v_done := v_done + 1;
	END LOOP;
	FOR v IN SELECT d AS id FROM coder.due_delete(at) d LOOP
		v_done := v_done + coder.tick_build(v.id, 'delete', 'autodelete')::integer;
	END LOOP;
	-- A schedule without a next start: set by SQL, or cleared by a template.
	UPDATE coder.workspaces w
	   SET next_start_at = coder.schedule_next(w.autostart_schedule, at, t.autostart_block_days_of_week::integer)
	  FROM coder.templates t
	 WHERE t.id = w.template_id AND NOT w.deleted AND w.next_start_at IS NULL AND w.dormant_at IS NULL
	   AND w.autostart_schedule IS NOT NULL AND t.allow_user_autostart;
	RETURN v_done;
END
$$;
COMMENT ON FUNCTION coder.tick_workspaces(timestamptz) IS
	'Starts, stops, puts to rest and deletes what is due; how many.';

CREATE OR REPLACE FUNCTION coder.tick_agents(at timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_id uuid;
	v_done integer := 0;
BEGIN
	-- Gone without a word: what the status says is written down, and told once.
	FOR v_id IN
		UPDATE coder.workspace_agents a SET disconnected_at = a.last_connected_at
		 WHERE a.id IN (SELECT x.id FROM coder.workspace_agents x
						 WHERE x.last_connected_at < at - interval '30 seconds'
						   AND (x.disconnected_at IS NULL OR x.disconnected_at < x.last_connected_at)
						   FOR NO KEY UPDATE SKIP LOCKED)
		RETURNING a.id
	LOOP
		PERFORM coder.agent_event(c, 'agt_connection_update') FROM coder.agent_context(v_id) c
		 WHERE (c.workspace).id IS NOT NULL;
		v_done := v_done + 1;
	END LOOP;
	FOR v_id IN
		UPDATE coder.workspace_agents a SET timeout_told = true
		 WHERE a.id IN (SELECT x.id FROM coder.workspace_agents x
						 WHERE x.first_connected_at IS NULL AND NOT x.timeout_told AND x.connection_timeout_seconds > 0
						   AND x.created_at + x.connection_timeout_seconds * interval '1 second' < at
						   FOR NO KEY UPDATE SKIP LOCKED)
		RETURNING a.id
	LOOP
		PERFORM coder.agent_event(c, 'agt_timeout') FROM coder.agent_context(v_id) c
		 WHERE (c.workspace).id IS NOT NULL;
		v_done := v_done + 1;
	END LOOP;
	RETURN v_done;
END
$$;
COMMENT ON FUNCTION coder.tick_agents(timestamptz) IS
	'Tells the watchers of agents that fell silent or took too long to connect; how many.';

CREATE OR REPLACE FUNCTION coder.tick_due(what text, period interval, at timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO coder.tick_state AS s (name, last_at) VALUES (what, at)
	ON CONFLICT (name) DO UPDATE SET last_at = excluded.last_at WHERE s.last_at + period <= excluded.last_at;
	RETURN FOUND;
END
$$;
COMMENT ON FUNCTION coder.tick_due(text, interval, timestamptz) IS
	'Has a period passed since this was done last? If so, it is done now.';

CREATE OR REPLACE FUNCTION coder.end_long_transactions() RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_limit CONSTANT interval := coder.setting_seconds('sql_transaction_limit', 60) * interval '1 second';
	v record;
	v_done integer := 0;
BEGIN
	IF v_limit = interval '0' THEN
		RETURN 0;
	END IF;
	-- Only who has written has a transaction's number; who owns the tables is the server.
	FOR v IN SELECT a.pid, a.usename, a.xact_start FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
			  WHERE a.datname = current_database() AND a.backend_type = 'client backend' AND a.backend_xid IS NOT NULL
				AND a.xact_start < clock_timestamp() - v_limit AND NOT r.rolsuper
				AND (pg_has_role(r.oid, 'coder_user', 'MEMBER') OR a.state LIKE 'idle in transaction%')
				AND NOT pg_has_role(r.oid, (SELECT c.relowner FROM pg_class c WHERE c.oid = 'coder.users'::regclass), 'USAGE') LOOP
		IF pg_terminate_backend(v.pid) THEN
			RAISE LOG 'a transaction of role "%" was ended: it had changed something, and was open since %', v.usename, v.xact_start;
			v_done := v_done + 1;
		END IF;
	END LOOP;
	RETURN v_done;
END
$$;
COMMENT ON FUNCTION coder.end_long_transactions() IS
	'Ends sessions of people (coder_user), and of others in this database who do nothing, whose transaction has written and is older than the setting sql_transaction_limit (60 s; 0: never): what they lock, and the order of events, make others wait. How many.';

CREATE OR REPLACE FUNCTION coder.tick(at timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
	v_began CONSTANT timestamptz := clock_timestamp();
	v_step timestamptz;
	v_done integer := 0;
BEGIN
	-- One at a time; who comes second has nothing to do.
	IF NOT coder.try_lock('coder.tick') THEN
		RETURN 0;
	END IF;
	v_step := clock_timestamp();
	v_done := v_done + coder.stat_took('autobuild', v_step, coder.tick_workspaces(at));
	v_step := clock_timestamp();
	v_done := v_done + coder.stat_took('agents', v_step, coder.tick_agents(at));
	v_step := clock_timestamp();
	v_done := v_done + coder.stat_took('put_back_jobs', v_step, coder.put_back_jobs(at));
	v_step := clock_timestamp();
	v_done := v_done + coder.stat_took('reap_jobs', v_step, coder.reap_jobs(at));
	v_step := clock_timestamp();
	v_done := v_done + coder.stat_took('chats', v_step, coder.chat_recover(at));
	v_step := clock_timestamp();
	v_done := v_done + coder.stat_took('boundary', v_step, coder.tick_boundary(at));
	IF coder.tick_due('purge', interval '10 minutes', at) THEN
		v_step := clock_timestamp();
		v_done := v_done + coder.stat_took('purge', v_step, coder.tick_purge(at));
	END IF;
	IF coder.tick_due('users', interval '15 minutes', at) THEN
		v_step := clock_timestamp();
		v_done := v_done + coder.stat_took('users', v_step, coder.tick_users(at));
	END IF;
	IF coder.tick_due('crypto_keys', interval '10 minutes', at) THEN
		v_step := clock_timestamp();
		v_done := v_done + coder.stat_took('crypto_keys', v_step, coder.crypto_keys_rotate(at));
	END IF;
	IF coder.tick_due('usage', interval '5 minutes', at) THEN
		v_step := clock_timestamp();
		v_done := v_done + coder.stat_took('usage', v_step, coder.rollup_usage(at));
		v_step := clock_timestamp();
		v_done := v_done + coder.stat_took('usage_days', v_step, coder.make_usage_days(at));
	END IF;
	IF coder.tick_due('build_totals', interval '1 minute', at) THEN
		v_step := clock_timestamp();
		v_done := v_done + coder.stat_took('build_totals', v_step, coder.count_jobs(at));
	END IF;
	IF coder.tick_due('template_build_times', interval '1 hour', at) THEN
		v_step := clock_timestamp();
		PERFORM coder.refresh_template_build_times();
		PERFORM coder.stat_took('template_build_times', v_step);
	END IF;
	IF coder.tick_due('tick', interval '15 seconds', at) THEN
		UPDATE coder.tick_state s SET seconds = extract(epoch FROM clock_timestamp() - v_began) WHERE s.name = 'tick';
	END IF;
	RETURN v_done + coder.tick_boundary_period(at);
END
$$;
COMMENT ON FUNCTION coder.tick(timestamptz) IS
	'Does what is due at a time; how many things. Safe to call twice and by several at once.';

CREATE OR REPLACE FUNCTION coder.tick() RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coder.tick(clock_timestamp());
END
$$;
COMMENT ON FUNCTION coder.tick() IS 'Does what is due now.';
