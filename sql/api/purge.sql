-- SPDX-License-Identifier: MIT
--
-- purge.sql
--   Rows that are older than their retention.
--
-- A purge is many small batches: each kind of record loses at most
-- coder.purge_most() rows in one transaction, and while a batch was full the next
-- second does one more.  Rows that somebody has locked are passed over, so that a
-- purge waits for nobody; nobody waits for it but who wants to change a row that
-- it deletes.

CREATE OR REPLACE FUNCTION coder.purge_most() RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coalesce(nullif(coder.setting('purge_batch'), '')::integer, 10000);
EXCEPTION WHEN invalid_text_representation OR numeric_value_out_of_range THEN
	RETURN 10000;
END
$$;
COMMENT ON FUNCTION coder.purge_most() IS 'Rows of a kind that one batch of a purge deletes at most: the setting purge_batch, 10,000 without it.';

CREATE OR REPLACE FUNCTION coder.purge_rows(record_type text, of regclass, condition text, before timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_began CONSTANT timestamptz := clock_timestamp();
	v_rows integer;
BEGIN
	EXECUTE format('DELETE FROM %1$s d WHERE d.ctid = ANY (ARRAY(SELECT t.ctid FROM %1$s t WHERE %2$s LIMIT $2 FOR UPDATE SKIP LOCKED))', of, condition)
	  USING before, coder.purge_most();
	GET DIAGNOSTICS v_rows = ROW_COUNT;
	RETURN coder.stat_took('purge ' || record_type, v_began, v_rows);
END
$$;
COMMENT ON FUNCTION coder.purge_rows(text, regclass, text, timestamptz) IS
	'One batch: deletes rows t of a table that pass a condition with $1 = before and that nobody has locked; how many.';

CREATE OR REPLACE FUNCTION coder.purge_agent_logs(before timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_began CONSTANT timestamptz := clock_timestamp();
	v_most CONSTANT integer := coder.purge_most();
	v_agent uuid := '00000000-0000-0000-0000-000000000000';
	v_done integer := 0;
	v_rows integer;
BEGIN
	-- From one agent that has lines to the next, by the index.
	WHILE v_done < v_most LOOP
		SELECT l.agent_id INTO v_agent FROM coder.workspace_agent_logs l WHERE l.agent_id > v_agent ORDER BY l.agent_id LIMIT 1;
		EXIT WHEN NOT FOUND;
		CONTINUE WHEN NOT EXISTS (SELECT FROM coder.workspace_agents a JOIN coder.workspace_resources r ON r.id = a.resource_id
			JOIN coder.workspace_builds b ON b.job_id = r.job_id JOIN coder.workspaces w ON w.id = b.workspace_id
			WHERE a.id = v_agent AND w.latest_build_id IS DISTINCT FROM b.id AND coalesce(a.last_connected_at, a.created_at) < before);
		DELETE FROM coder.workspace_agent_logs d WHERE d.id = ANY (ARRAY(SELECT l.id FROM coder.workspace_agent_logs l
			WHERE l.agent_id = v_agent LIMIT v_most - v_done FOR UPDATE SKIP LOCKED));
		GET DIAGNOSTICS v_rows = ROW_COUNT;
		v_done := v_done + v_rows;
	END LOOP;
	RETURN coder.stat_took('purge workspace_agent_logs', v_began, v_done);
END
$$;
COMMENT ON FUNCTION coder.purge_agent_logs(timestamptz) IS
	'One batch of lines of agents that are of no latest build and were not heard of since then; how many.';

CREATE OR REPLACE FUNCTION coder.purge_stats_before(at timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	-- What the half hours have counted is not needed any more; what they have not is kept for half a year.
	RETURN greatest(at - interval '180 days', (SELECT max(s.start_time) - interval '1 day' FROM coder.template_usage_stats s));
END
$$;
COMMENT ON FUNCTION coder.purge_stats_before(timestamptz) IS
	'Samples of agents older than this may go: a day before the newest half hour that has been counted, or 180 days.';

CREATE OR REPLACE FUNCTION coder.tick_purge(at timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_logs bigint := coder.setting_seconds('workspace_agent_logs_retention', 604800);
	v_keys bigint := coder.setting_seconds('api_keys_retention', 604800);
	v_connections bigint := coder.setting_seconds('connection_logs_retention', 0);
	v_most CONSTANT integer := coder.purge_most();
	v_began timestamptz;
	v_rows bigint[] := '{}';
	v_done bigint;
BEGIN
	IF v_logs > 0 THEN
		v_rows := v_rows || coder.purge_agent_logs(at - v_logs * interval '1 second');
	END IF;
	v_rows := v_rows || coder.purge_rows('workspace_agent_stats', 'coder.workspace_agent_stats', 't.created_at < $1', coder.purge_stats_before(at));
	IF v_connections > 0 THEN
		v_rows := v_rows || coder.purge_rows('connection_logs', 'coder.connection_logs', 't.connect_time < $1', at - v_connections * interval '1 second');
	END IF;
	PERFORM coder.audit_as('purge', false);
	IF v_keys > 0 THEN
		v_rows := v_rows || coder.purge_rows('expired_api_keys', 'coder.api_keys', 't.expires_at < $1', at - v_keys * interval '1 second');
	END IF;
	PERFORM coder.audit_as(NULL);
	v_rows := v_rows || coder.purge_rows('workspace_app_audit_sessions', 'coder.workspace_app_audit_sessions', 't.started_at < $1', at - interval '1 day');
	v_rows := v_rows || coder.purge_rows('telemetry_locks', 'coder.telemetry_locks', 't.period_ending_at < $1', at - interval '1 day');
	v_rows := v_rows || coder.purge_rows('provisioner_daemons', 'coder.provisioner_daemons',
		'coalesce(t.last_seen_at, t.created_at) < $1', at - interval '7 days');
	v_began := clock_timestamp();
	v_rows := v_rows || coder.stat_took('purge audit_logs', v_began, coder.audit_purge(v_most));
	v_began := clock_timestamp();
	v_done := (SELECT sum(r) FROM unnest(v_rows) r);
	v_done := v_done + coder.stat_took('purge chats', v_began, coder.chat_purge(at));
	v_began := clock_timestamp();
	v_done := v_done + coder.stat_took('purge boundary_usage', v_began, coder.boundary_purge(at));
	-- There may be more: not in ten minutes, but with the next tick.
	IF v_most <= ANY (v_rows) THEN
		UPDATE coder.tick_state s SET last_at = at - interval '10 minutes' WHERE s.name = 'purge';
	END IF;
	RETURN v_done;
END
$$;
COMMENT ON FUNCTION coder.tick_purge(timestamptz) IS
	'Deletes a batch of rows of each kind that are older than their retention; how many. While a batch was full the next tick does one more.';
