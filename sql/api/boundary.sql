-- SPDX-License-Identifier: MIT
--
-- boundary.sql
--   Boundary usage: reports of agents, the end of a period, what was used.
--
-- Only the database's clock counts.  A time never goes back behind the start of
-- its period, and a period ends behind the last report in it, whatever the clock does.

CREATE OR REPLACE FUNCTION coder.boundary_lock(alone boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	-- What was committed while this waited must be seen.
	IF current_setting('transaction_isolation') <> 'read committed' THEN
		RAISE EXCEPTION USING ERRCODE = 'active_sql_transaction',
			MESSAGE = 'boundary usage is counted in READ COMMITTED transactions only';
	ELSIF alone THEN
		PERFORM coder.lock('coder.boundary_period');
	ELSE
		PERFORM coder.lock_shared('coder.boundary_period');
	END IF;
END
$$;
COMMENT ON FUNCTION coder.boundary_lock(boolean) IS
	'Until the transaction ends the open period stays as it is; alone: nobody counts either. Errors: 25001 where a snapshot is older than the lock.';

CREATE OR REPLACE FUNCTION coder.boundary_period(alone boolean) RETURNS coder.boundary_usage_periods
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v coder.boundary_usage_periods;
BEGIN
	PERFORM coder.boundary_lock(alone);
	SELECT * INTO v FROM coder.boundary_usage_periods p WHERE p.closed_at IS NULL;
	IF NOT FOUND THEN
		INSERT INTO coder.boundary_usage_periods (period, opened_at)
		SELECT coalesce(max(p.period), 0) + 1, clock_timestamp() FROM coder.boundary_usage_periods p ON CONFLICT DO NOTHING;
		SELECT * INTO STRICT v FROM coder.boundary_usage_periods p WHERE p.closed_at IS NULL;
	END IF;
	RETURN v;
END
$$;
COMMENT ON FUNCTION coder.boundary_period(boolean) IS
	'The open period, which stays open until the transaction ends; the very first begins here. Errors: 25001.';

CREATE OR REPLACE FUNCTION coder.boundary_check(VARIADIC counts bigint[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF (0 <= ALL (counts) AND 1000000000000 >= ALL (counts)) IS NOT TRUE THEN
		RAISE EXCEPTION USING ERRCODE = 'ZC400', MESSAGE = 'counts of a boundary must be between 0 and 1000000000000';
	END IF;
END
$$;
COMMENT ON FUNCTION coder.boundary_check(bigint[]) IS
	'Errors: ZC400 for counts that nobody can have; as each is small, no sum of them ever is too large.';

CREATE OR REPLACE FUNCTION coder.rpc_report_boundary_logs(agent uuid, request jsonb) RETURNS jsonb
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'coder_boundary_report';
COMMENT ON FUNCTION coder.rpc_report_boundary_logs(uuid, jsonb) IS
	'Agent RPC ReportBoundaryLogs: counted once, in the transaction that acknowledges it. Who and where come of the agent, not of the message; they are the answer, for the gateway''s log, but for a batch that had been counted. Errors: ZC401 when the agent''s build is over, ZC400.';

CREATE OR REPLACE FUNCTION coder.boundary_reports(reports jsonb) RETURNS text
LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'coder_boundary_reports';
COMMENT ON FUNCTION coder.boundary_reports(jsonb) IS
	'Reports of several agents in one transaction: a list of at most 1000 {"agent": id, "request": ReportBoundaryLogsRequest}; a JSON list of the same length, each {"error": …} where that one was refused, else as rpc_report_boundary_logs answers. Errors: ZC400 for what is no such list.';

-- ---- the reference's statements ----

CREATE OR REPLACE FUNCTION coder.boundary_usage_upsert(replica uuid, delta_workspaces bigint, delta_users bigint,
	workspaces bigint, users bigint, allowed bigint, denied bigint)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_now timestamptz;
	v_new boolean;
BEGIN
	PERFORM coder.boundary_check(delta_workspaces, delta_users, workspaces, users, allowed, denied);
	v_now := greatest((coder.boundary_period(false)).opened_at, clock_timestamp());
	INSERT INTO coder.boundary_usage_stats AS s
		(replica_id, unique_workspaces_count, unique_users_count, allowed_requests, denied_requests, window_start, updated_at)
	VALUES (replica, delta_workspaces, delta_users, allowed, denied, v_now, v_now)
	ON CONFLICT (replica_id) DO UPDATE
	   SET unique_workspaces_count = boundary_usage_upsert.workspaces, unique_users_count = boundary_usage_upsert.users,
		   allowed_requests = s.allowed_requests + excluded.allowed_requests,
		   denied_requests = s.denied_requests + excluded.denied_requests,
		   updated_at = greatest(s.updated_at, excluded.updated_at)
	RETURNING s.xmax = 0 INTO v_new;
	RETURN v_new;
END
$$;
COMMENT ON FUNCTION coder.boundary_usage_upsert(uuid, bigint, bigint, bigint, bigint, bigint, bigint) IS
	'Numbers of a replica that counts for itself: the deltas where it has no row yet (true), else the totals instead of its old ones (false); requests are added. Errors: ZC400.';

CREATE OR REPLACE FUNCTION coder.boundary_usage_close() RETURNS coder.boundary_usage_periods
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v coder.boundary_usage_periods;
BEGIN
	PERFORM coder.boundary_period(true);
	WITH gone AS (
		DELETE FROM coder.boundary_usage_stats s RETURNING s.*
	), total AS (
		SELECT coalesce(sum(g.unique_workspaces_count), 0) AS workspaces, coalesce(sum(g.unique_users_count), 0) AS users,
			   coalesce(sum(g.allowed_requests), 0) AS allowed, coalesce(sum(g.denied_requests), 0) AS denied,
			   coalesce(sum(g.reports), 0) AS reports, coalesce(sum(g.dropped_requests), 0) AS dropped, max(g.updated_at) + interval '1 microsecond' AS last
		  FROM gone g
	)
	UPDATE coder.boundary_usage_periods p
	   SET closed_at = greatest(clock_timestamp(), t.last, p.opened_at + interval '1 microsecond'),
		   unique_workspaces = t.workspaces, unique_users = t.users, allowed_requests = t.allowed, denied_requests = t.denied,
		   reports = t.reports, dropped_requests = t.dropped
	  FROM total t
	 WHERE p.closed_at IS NULL
	RETURNING p.* INTO STRICT v;
	INSERT INTO coder.boundary_usage_periods (period, opened_at) VALUES (v.period + 1, v.closed_at);
	RETURN v;
END
$$;
COMMENT ON FUNCTION coder.boundary_usage_close() IS
	'Ends the open period at this instant and opens the next; the sealed sums of the one that ended. Reports that race it are in exactly one of the two.';

-- ---- what is told to others ----

CREATE OR REPLACE FUNCTION coder.boundary_usage_unsent(most bigint DEFAULT NULL) RETURNS SETOF coder.boundary_usage_periods
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY SELECT * FROM coder.boundary_usage_periods p
	 WHERE p.closed_at IS NOT NULL AND p.sent_at IS NULL
	   AND p.unique_users + p.unique_workspaces + p.allowed_requests + p.denied_requests > 0
	 ORDER BY p.period LIMIT most;
END
$$;
COMMENT ON FUNCTION coder.boundary_usage_unsent(bigint) IS
	'Sealed periods that nobody has taken yet (most: so many of them), oldest first; a period''s number tells whether it was sent before. Empty ones are not told.';

CREATE OR REPLACE FUNCTION coder.boundary_usage_sent(period bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	UPDATE coder.boundary_usage_periods p SET sent_at = greatest(clock_timestamp(), p.closed_at)
	 WHERE p.period = boundary_usage_sent.period AND p.closed_at IS NOT NULL AND p.sent_at IS NULL;
	RETURN FOUND;
END
$$;
COMMENT ON FUNCTION coder.boundary_usage_sent(bigint) IS 'A sealed period was accepted by its receiver; false if it was before.';

CREATE OR REPLACE FUNCTION coder.boundary_usage_summary(p coder.boundary_usage_periods) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN jsonb_build_object('unique_workspaces', p.unique_workspaces, 'unique_users', p.unique_users,
		'allowed_requests', p.allowed_requests, 'denied_requests', p.denied_requests, 'period_start', coder.ts(p.opened_at),
		'period_duration_ms', round(extract(epoch FROM p.closed_at - p.opened_at) * 1000)::bigint);
END
$$;
COMMENT ON FUNCTION coder.boundary_usage_summary(coder.boundary_usage_periods) IS
	'A sealed period as telemetry''s boundary_usage_summary; its window is the real one.';

-- ---- what was used ----

CREATE OR REPLACE FUNCTION coder.boundary_usage_check_window(border timestamptz) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF isfinite(border) AND EXISTS (SELECT FROM coder.boundary_usage_quarters q
									 WHERE q.quarter < border AND q.quarter > border - interval '15 minutes') THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('%s is inside a quarter of an hour that is kept as one', border),
			HINT = 'Older usage is kept by quarter of an hour: let the window begin and end with one.';
	END IF;
END
$$;
COMMENT ON FUNCTION coder.boundary_usage_check_window(timestamptz) IS
	'Errors: 22023 where a window with this border would cut a folded quarter of an hour, which nobody could answer exactly.';

CREATE OR REPLACE FUNCTION coder.boundary_usage("from" timestamptz, "to" timestamptz, zone text DEFAULT 'UTC')
RETURNS TABLE (day date, organization_id uuid, template_id uuid, workspace_id uuid, user_id uuid,
			   reports bigint, allowed bigint, denied bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	PERFORM coder.boundary_usage_check_window(boundary_usage."from"), coder.boundary_usage_check_window(boundary_usage."to");
	RETURN QUERY
	SELECT (u.at AT TIME ZONE boundary_usage.zone)::date, u.organization_id, u.template_id, u.workspace_id, u.user_id,
		   sum(u.reports)::bigint, sum(u.allowed)::bigint, sum(u.denied)::bigint
	  FROM (SELECT r.at, r.organization_id, r.template_id, r.workspace_id, r.user_id, 1::bigint AS reports, r.allowed, r.denied
			  FROM coder.boundary_reports r
			 WHERE r.at >= boundary_usage."from" AND r.at < boundary_usage."to"
			 UNION ALL
			SELECT q.quarter, q.organization_id, q.template_id, q.workspace_id, q.user_id, q.reports, q.allowed, q.denied
			  FROM coder.boundary_usage_quarters q
			 WHERE q.quarter >= boundary_usage."from" AND q.quarter < boundary_usage."to") u
	 GROUP BY 1, 2, 3, 4, 5
	 ORDER BY 1, 2, 3, 4, 5;
END
$$;
COMMENT ON FUNCTION coder.boundary_usage(timestamptz, timestamptz, text) IS
	'What boundaries reported from a time (inclusive) to another (exclusive), by day of a time zone, organization, template, workspace and owner: count(DISTINCT user_id) is the unique users. Of workspaces that the one who asks may read. Errors: 22023 (see boundary_usage_check_window).';

-- ---- by time ----

CREATE OR REPLACE FUNCTION coder.boundary_fold(before timestamptz, most integer DEFAULT 20000) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_rows integer;
BEGIN
	WITH gone AS (
		DELETE FROM coder.boundary_reports r
		 WHERE r.ctid = ANY (ARRAY(SELECT o.ctid FROM coder.boundary_reports o WHERE o.at < before ORDER BY o.at LIMIT most
									 FOR UPDATE SKIP LOCKED))
		RETURNING r.*
	), folded AS (
		INSERT INTO coder.boundary_usage_quarters AS q
		SELECT date_bin('15 minutes', g.at, '2000-01-01 00:00:00+00'), g.workspace_id, g.user_id, g.template_id, g.organization_id,
			   count(*), sum(g.allowed), sum(g.denied)
		  FROM gone g GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
		ON CONFLICT (quarter, workspace_id, user_id, template_id, organization_id) DO UPDATE
		   SET reports = q.reports + excluded.reports, allowed = q.allowed + excluded.allowed, denied = q.denied + excluded.denied
	)
	SELECT count(*) INTO v_rows FROM gone;
	RETURN v_rows;
END
$$;
COMMENT ON FUNCTION coder.boundary_fold(timestamptz, integer) IS
	'Folds reports before a time into quarters of an hour; how many. No report is ever in both or in none.';

CREATE OR REPLACE FUNCTION coder.boundary_purge(at timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_retention CONSTANT bigint := coder.setting_seconds('boundary_usage_retention', 180 * 86400);
	v_done integer := 0;
	v_rows integer;
BEGIN
	IF v_retention > 0 THEN
		DELETE FROM coder.boundary_usage_quarters q WHERE q.quarter < at - v_retention * interval '1 second';
		GET DIAGNOSTICS v_rows = ROW_COUNT;
		v_done := v_rows;
		DELETE FROM coder.boundary_usage_periods p WHERE p.closed_at < at - v_retention * interval '1 second';
		GET DIAGNOSTICS v_rows = ROW_COUNT;
		v_done := v_done + v_rows;
	END IF;
	RETURN v_done;
END
$$;
COMMENT ON FUNCTION coder.boundary_purge(timestamptz) IS
	'Deletes usage and sealed periods older than boundary_usage_retention (180 days; 0: never); how many.';

CREATE OR REPLACE FUNCTION coder.tick_boundary(at timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_open bigint := (SELECT p.period FROM coder.boundary_usage_periods p WHERE p.closed_at IS NULL);
	v_done integer := coder.boundary_fold(at - coder.setting_seconds('boundary_usage_detail', 3600) * interval '1 second');
BEGIN
	-- The sums of closed periods are sealed: their sets have served.
	DELETE FROM coder.boundary_usage_workspaces w
	 WHERE w.ctid = ANY (ARRAY(SELECT o.ctid FROM coder.boundary_usage_workspaces o WHERE o.period < v_open LIMIT 20000));
	DELETE FROM coder.boundary_usage_users u
	 WHERE u.ctid = ANY (ARRAY(SELECT o.ctid FROM coder.boundary_usage_users o WHERE o.period < v_open LIMIT 20000));
	DELETE FROM coder.boundary_batches b
	 WHERE b.ctid = ANY (ARRAY(SELECT o.ctid FROM coder.boundary_batches o WHERE o.at < tick_boundary.at - interval '1 day'
								ORDER BY o.at LIMIT 20000));
	RETURN v_done;
END
$$;
COMMENT ON FUNCTION coder.tick_boundary(timestamptz) IS
	'Folds reports older than boundary_usage_detail (an hour), drops the sets of closed periods and batch ids older than a day, some at a time; how many reports.';

CREATE OR REPLACE FUNCTION coder.tick_boundary_period(at timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_timeout CONSTANT text := current_setting('lock_timeout');
BEGIN
	IF coder.tick_due('boundary_usage', interval '30 minutes', at) THEN
		-- Reports wait while this waits: it does not wait long.
		PERFORM set_config('lock_timeout', '500ms', true);
		PERFORM coder.boundary_usage_close();
		PERFORM set_config('lock_timeout', v_timeout, true);
		RETURN 1;
	END IF;
	RETURN 0;
EXCEPTION WHEN lock_not_available THEN
	RETURN 0;
END
$$;
COMMENT ON FUNCTION coder.tick_boundary_period(timestamptz) IS
	'Ends the period every 30 minutes; 1 if it did. The last thing of a transaction, as reports wait for it.';
