-- SPDX-License-Identifier: MIT
--
-- buildtotal.sql
--   What a job adds to metrics, and the adding up of jobs that have ended.

-- coder.job_counts(jobs): a row for each observation and count.  Families:
--   1 queue wait (labels: provisioner, type, transition, reason)
--   2 job timings (provisioner, outcome)
--   3 builds enqueued (provisioner, reason, transition)
--   4 template builds (a: template; transition, status, prebuild)
--   5 creations (a: organization, b: template, c: preset; type)
--   6 builds that ended (a: workspace, b: version; transition, outcome)
--   7 build timings (a: template, b: version; transition, outcome)
--   8 first connections (a: template; name of the agent)
--   9 the first start of a workspace that succeeded (a: workspace, c: preset; prebuild, number of the build)
CREATE OR REPLACE FUNCTION coder.job_counts(jobs uuid[])
RETURNS TABLE (job_id uuid, family smallint, a uuid, b uuid, c uuid, labels text[], micros bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	nil CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
	prebuilds CONSTANT uuid := 'c42fdf75-3097-471c-8c33-fb52454d81c0';
BEGIN
	RETURN QUERY
	WITH j AS MATERIALIZED (
		SELECT p.id, p.created_at, p.started_at, p.completed_at, p.provisioner::text AS provisioner, p.type::text AS type,
			   p.job_status = 'succeeded' AS succeeded, CASE p.job_status WHEN 'succeeded' THEN 'success' ELSE 'failed' END AS outcome,
			   x.id AS build, x.created_at AS asked_at, x.build_number, x.transition::text AS transition, x.reason::text AS reason,
			   x.template_version_id AS version, coalesce(x.template_version_preset_id, nil) AS preset, (x.initiator_id = prebuilds)::text AS prebuild,
			   w.id AS workspace, w.template_id AS template, w.organization_id AS organization
		  FROM coder.provisioner_jobs p
		  LEFT JOIN (coder.workspace_builds x JOIN coder.workspaces w ON w.id = x.workspace_id) ON x.job_id = p.id
		 WHERE p.id = ANY (jobs)
	), g AS MATERIALIZED (
		SELECT j.id, n.*, j.template FROM j JOIN coder.workspace_resources r ON r.job_id = j.id JOIN coder.workspace_agents s ON s.resource_id = r.id,
			   LATERAL (SELECT s.name, s.created_at, s.first_connected_at, s.ready_at, s.parent_id, coalesce(s.start_result, s.lifecycle_state)::text AS result) n
		 WHERE j.build IS NOT NULL
	), o AS (
		SELECT j.id, 1 AS family, nil AS a, nil AS b, nil AS c, ARRAY[j.provisioner, j.type, coalesce(j.transition, ''), coalesce(j.reason, '')] AS labels,
			   j.created_at AS since, j.started_at AS until FROM j WHERE j.started_at IS NOT NULL
		UNION ALL
		SELECT j.id, 2, nil, nil, nil, ARRAY[j.provisioner, j.outcome], j.started_at, j.completed_at FROM j WHERE j.started_at IS NOT NULL AND j.completed_at IS NOT NULL
		UNION ALL
		SELECT j.id, 3, nil, nil, nil, ARRAY[j.provisioner, j.reason, j.transition], NULL, NULL FROM j WHERE j.build IS NOT NULL
		UNION ALL
		SELECT j.id, 4, j.template, nil, nil, ARRAY[j.transition, q.status, j.prebuild], j.asked_at, q.ready_at
		  FROM j JOIN (SELECT g.id, max(g.ready_at) AS ready_at, CASE WHEN bool_or(g.result = 'start_error') THEN 'error'
							WHEN bool_or(g.result = 'start_timeout') THEN 'timeout' ELSE 'success' END AS status
						 FROM g WHERE g.parent_id IS NULL GROUP BY g.id HAVING count(*) = count(g.ready_at)) q ON q.id = j.id
		 WHERE j.succeeded
		UNION ALL
		SELECT j.id, 5, j.organization, j.template, j.preset, ARRAY[CASE j.prebuild WHEN 'true' THEN 'prebuild' ELSE 'regular' END], j.created_at, j.completed_at
		  FROM j WHERE j.build_number = 1 AND j.transition = 'start' AND j.succeeded
		UNION ALL
		SELECT j.id, 6, j.workspace, j.version, nil, ARRAY[j.transition, j.outcome], NULL, NULL FROM j WHERE j.build IS NOT NULL AND j.completed_at IS NOT NULL
		UNION ALL
		SELECT j.id, 7, j.template, j.version, nil, ARRAY[j.transition, j.outcome], j.started_at, j.completed_at
		  FROM j WHERE j.build IS NOT NULL AND j.started_at IS NOT NULL AND j.completed_at IS NOT NULL
		UNION ALL
		SELECT g.id, 8, g.template, nil, nil, ARRAY[g.name::text], g.created_at, g.first_connected_at FROM g WHERE g.first_connected_at IS NOT NULL
		UNION ALL
		SELECT j.id, 9, j.workspace, nil, j.preset, ARRAY[j.prebuild, j.build_number::text], NULL, NULL
		  FROM j WHERE j.transition = 'start' AND j.succeeded
		   AND NOT EXISTS (SELECT FROM coder.workspace_builds e JOIN coder.provisioner_jobs f ON f.id = e.job_id
							WHERE e.workspace_id = j.workspace AND e.build_number < j.build_number AND e.transition = 'start' AND f.job_status = 'succeeded')
	)
	SELECT o.id, o.family::smallint, o.a, o.b, o.c, o.labels,
		   coalesce((extract(epoch FROM o.until - o.since) * 1000000)::bigint, 0)
	  FROM o WHERE o.until IS NULL OR o.until >= o.since;	-- a clock that went back has measured nothing
END
$$;
COMMENT ON FUNCTION coder.job_counts(uuid[]) IS 'What jobs add to metrics of the past: series, and microseconds where it is an observation.';

CREATE OR REPLACE FUNCTION coder.count_jobs(at timestamptz, most integer DEFAULT 2000) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_jobs uuid[];
	v_before timestamptz;
BEGIN
	IF current_setting('transaction_isolation') <> 'read committed' THEN
		RAISE EXCEPTION USING ERRCODE = 'active_sql_transaction', MESSAGE = 'jobs are added up in READ COMMITTED transactions only';
	END IF;
	IF NOT coder.try_lock('coder.build_totals') THEN
		RETURN 0;
	END IF;
	-- See coder.uncount_jobs.
	v_before := least(at, (SELECT min(a.xact_start) FROM pg_stat_activity a WHERE a.datname = current_database() AND a.backend_xid IS NOT NULL
								AND a.pid <> pg_backend_pid()),
		(SELECT min(p.prepared) FROM pg_prepared_xacts p WHERE p.database = current_database())) - interval '10 minutes';
	-- Who changes something of a job has its row, or waits for it; what was committed before is seen by the next statement.
	v_jobs := ARRAY(SELECT j.id FROM coder.provisioner_jobs j
		 WHERE j.counted IS NULL AND j.completed_at < v_before
		   AND NOT EXISTS (SELECT FROM coder.workspace_builds b JOIN coder.workspaces w ON w.latest_build_id = b.id
							WHERE b.job_id = j.id AND NOT w.deleted)
		 ORDER BY j.created_at LIMIT most FOR NO KEY UPDATE OF j SKIP LOCKED);
	-- A build may have become the latest meanwhile.
	v_jobs := ARRAY(SELECT j.id FROM coder.provisioner_jobs j WHERE j.id = ANY (v_jobs) AND j.counted IS NULL AND j.completed_at < v_before
		   AND NOT EXISTS (SELECT FROM coder.workspace_builds b JOIN coder.workspaces w ON w.latest_build_id = b.id
							WHERE b.job_id = j.id AND NOT w.deleted));
	WITH c AS MATERIALIZED (
		SELECT * FROM coder.job_counts(v_jobs)
	), k AS MATERIALIZED (
		SELECT DISTINCT c.family, c.a, c.b, c.c, c.labels FROM c
	), known AS MATERIALIZED (
		SELECT t.* FROM k JOIN coder.build_total_keys t USING (family, a, b, c, labels)
	), made AS (
		INSERT INTO coder.build_total_keys (family, a, b, c, labels)
		SELECT k.* FROM k WHERE NOT EXISTS (SELECT FROM known t WHERE (t.family, t.a, t.b, t.c, t.labels) = (k.family, k.a, k.b, k.c, k.labels)) RETURNING *
	), m AS MATERIALIZED (
		SELECT c.job_id, c.family, c.micros, t.id FROM c JOIN (SELECT * FROM known UNION ALL SELECT * FROM made) t USING (family, a, b, c, labels)
	), marked AS (
		UPDATE coder.provisioner_jobs j SET counted = x.keys, counted_micros = x.micros
		  FROM (SELECT v.id, coalesce(array_agg(m.id) FILTER (WHERE m.id IS NOT NULL), '{}') AS keys,
					   coalesce(array_agg(m.micros) FILTER (WHERE m.id IS NOT NULL), '{}') AS micros
				  FROM unnest(v_jobs) v (id) LEFT JOIN m ON m.job_id = v.id GROUP BY v.id) x
		 WHERE j.id = x.id
	), gone AS (
		DELETE FROM coder.build_totals t
		 WHERE t.key IN (SELECT m.id FROM m UNION SELECT d.key FROM coder.build_totals d WHERE NOT d.merged) RETURNING t.*
	)
	INSERT INTO coder.build_totals (key, bucket, n, micros, merged)
	SELECT s.key, s.bucket, sum(s.n)::bigint, sum(s.micros)::bigint, true
	  FROM (SELECT g.key, g.bucket, g.n, g.micros FROM gone g
			UNION ALL SELECT m.id, coder.metric_bucket(m.family, m.micros), 1, m.micros FROM m) s
	 GROUP BY s.key, s.bucket HAVING sum(s.n) <> 0;
	RETURN cardinality(v_jobs);
END
$$;
COMMENT ON FUNCTION coder.count_jobs(timestamptz, integer) IS
	'Adds jobs that have ended, but for those of latest builds of workspaces that there are, to build_totals, at most so many; how many. Errors: 25001 where a snapshot is older than the locks. Part of coder.tick().';
