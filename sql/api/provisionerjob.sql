-- SPDX-License-Identifier: MIT
--
-- provisionerjob.sql
--   Jobs and provisioner daemons as the API shows them.

-- Place of a pending job among those that one of its live daemons could run:
-- the best place and the longest such queue; zeros where there is none.
CREATE OR REPLACE FUNCTION coder.provisioner_job_queue(j coder.provisioner_jobs, OUT "position" bigint, OUT size bigint)
LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	c_prebuilds CONSTANT uuid := 'c42fdf75-3097-471c-8c33-fb52454d81c0';
BEGIN
	"position" := 0;
	size := 0;
	IF j.job_status <> 'pending' THEN
		RETURN;
	END IF;
	SELECT coalesce(min(r.rank), 0), coalesce(max(r.total), 0) INTO "position", size
	  FROM (SELECT DISTINCT d.tags, d.provisioners,
				   CASE WHEN d.key_id <> '00000000-0000-0000-0000-000000000001' THEN d.organization_id END AS org
			  FROM coder.provisioner_daemons d
			 WHERE d.last_seen_at > clock_timestamp() - interval '90 seconds'
			   AND coder.provisioner_fits(d, j)) s
	 CROSS JOIN LATERAL
		   (SELECT count(*) AS total,
				   count(*) FILTER (WHERE (q.initiator_id = c_prebuilds, q.created_at, q.id)
										  <= (j.initiator_id = c_prebuilds, j.created_at, j.id)) AS rank
			  FROM coder.provisioner_jobs q
			 WHERE q.started_at IS NULL AND q.completed_at IS NULL AND q.canceled_at IS NULL
			   AND (s.org IS NULL OR q.organization_id = s.org) AND q.provisioner = ANY (s.provisioners)
			   AND coder.provisioner_tagset_contains(s.tags, q.tags)) r;
END
$$;
COMMENT ON FUNCTION coder.provisioner_job_queue(coder.provisioner_jobs) IS
	'Queue position and size of a job as the API counts them; zeros unless pending.';

-- A job as the API's ProvisionerJob; metadata is empty outside of the lists
-- of an organization.  fresh: just made, so that nothing need be looked up.
CREATE OR REPLACE FUNCTION coder.provisioner_job_json(j coder.provisioner_jobs, fresh boolean DEFAULT false)
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_position bigint := 0;
	v_size bigint := 0;
BEGIN
	IF j.job_status = 'pending' AND NOT fresh THEN
		SELECT q."position", q.size INTO v_position, v_size FROM coder.provisioner_job_queue(j) q;
	END IF;
	RETURN jsonb_strip_nulls(jsonb_build_object(
			'id', j.id, 'created_at', coder.ts(j.created_at), 'started_at', coder.ts(j.started_at),
			'completed_at', coder.ts(j.completed_at), 'canceled_at', coder.ts(j.canceled_at),
			'error', nullif(j.error, ''), 'error_code', nullif(j.error_code, ''), 'status', j.job_status,
			'worker_id', j.worker_id, 'file_id', j.file_id, 'tags', j.tags,
			'queue_position', v_position, 'queue_size', v_size, 'organization_id', j.organization_id,
			'initiator_id', j.initiator_id, 'type', j.type, 'logs_overflowed', j.logs_overflowed,
			'input', jsonb_build_object('template_version_id', j.input->'template_version_id',
										'workspace_build_id', j.input->'workspace_build_id')))
		|| '{"metadata": {"template_version_name": "", "template_id": "00000000-0000-0000-0000-000000000000",
						  "template_name": "", "template_display_name": "", "template_icon": ""}}';
END
$$;
COMMENT ON FUNCTION coder.provisioner_job_json(coder.provisioner_jobs, boolean) IS
	'A job as the API''s ProvisionerJob.';

-- How many daemons could run the job, and how many of them live.
CREATE OR REPLACE FUNCTION coder.matched_provisioners(j coder.provisioner_jobs)
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT jsonb_build_object('count', count(*),
				'available', count(*) FILTER (WHERE d.last_seen_at > clock_timestamp() - interval '90 seconds'),
				'most_recently_seen', coder.ts(max(d.last_seen_at)))
			  FROM coder.provisioner_daemons d WHERE coder.provisioner_fits(d, j));
END
$$;
COMMENT ON FUNCTION coder.matched_provisioners(coder.provisioner_jobs) IS
	'The API''s MatchedProvisioners of a job.';

-- Log lines of a job after an id, as the API's array.
CREATE OR REPLACE FUNCTION coder.job_logs_json(job uuid, after bigint)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT coalesce(jsonb_agg(jsonb_build_object('id', l.id, 'created_at', coder.ts(l.created_at),
				'log_source', l.source, 'log_level', l.level, 'stage', l.stage, 'output', l.output)
				ORDER BY l.id), '[]')
			  FROM coder.provisioner_job_logs l WHERE l.job_id = job AND l.id > after);
END
$$;
COMMENT ON FUNCTION coder.job_logs_json(uuid, bigint) IS 'Log lines of a job after an id.';

-- coder.job_logs_reply(req, job): the log of a job, for every route that has
-- one: an array, text, or with ?follow a stream that ends with the job.
CREATE OR REPLACE FUNCTION coder.job_logs_reply(req coder.request, job uuid)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_format text := coalesce(req.query->>'format', '');
	v_follow boolean := req.query ? 'follow';
	v_after bigint := 0;
	v_frames jsonb;
	v_ended boolean;
	v_answer coder.response;
BEGIN
	IF v_format NOT IN ('', 'json', 'text') THEN
		PERFORM coder.raise(400, 'Invalid format parameter.', 'Allowed values are "json" and "text".');
	ELSIF v_format = 'text' AND v_follow THEN
		PERFORM coder.raise(400, 'Text format is not supported with follow mode.');
	ELSIF coalesce(req.query->>'after', '') !~ '^(-?[0-9]{1,18})?$' THEN
		PERFORM coder.raise(400, 'Query param "after" must be an integer.', NULL, jsonb_build_array(
			coder.validation('after', 'Must be an integer')));
	END IF;
	v_after := coalesce(nullif(req.cursor, ''), nullif(req.query->>'after', ''), '0')::bigint;
	IF v_format = 'text' THEN
		SELECT coalesce(string_agg(format(E'%s [%s] [provisioner|%s] %s\n', coder.ts(l.created_at), l.level,
										  l.stage, l.output), '' ORDER BY l.id), '')
		  INTO v_answer.body
		  FROM coder.provisioner_job_logs l WHERE l.job_id = job AND l.id > v_after;
		v_answer.status := 200;
		v_answer.headers := E'Content-Type: text/plain; charset=utf-8\r\n';
		RETURN v_answer;
	END IF;
	v_frames := coder.job_logs_json(job, v_after);
	IF NOT v_follow THEN
		RETURN coder.reply(200, v_frames);
	END IF;
	SELECT j.completed_at IS NOT NULL INTO v_ended FROM coder.provisioner_jobs j WHERE j.id = job;
	RETURN coder.reply(101, jsonb_build_object('format', 'wsjson',
		'channels', jsonb_build_array('build_logs:' || job), 'frames', v_frames,
		'cursor', coalesce(v_frames->-1->>'id', v_after::text), 'close', coalesce(v_ended, true)));
END
$$;
COMMENT ON FUNCTION coder.job_logs_reply(coder.request, uuid) IS
	'Answers a log route: JSON, text, or a stream that ends with the job.';

-- Cancels a job.  One that nobody took ends at once.  The caller has checked
-- that it may be canceled.
CREATE OR REPLACE FUNCTION coder.job_cancel(job uuid)
RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE coder.provisioner_jobs j
	   SET canceled_at = clock_timestamp(), updated_at = clock_timestamp(),
		   completed_at = CASE WHEN j.worker_id IS NULL THEN clock_timestamp() END
	 WHERE j.id = job AND j.completed_at IS NULL AND j.canceled_at IS NULL;
END
$$;
COMMENT ON FUNCTION coder.job_cancel(uuid) IS 'Asks for a job''s end; a pending one ends at once.';

-- Jobs with what the lists of an organization add: worker, template, workspace.
CREATE OR REPLACE FUNCTION coder.provisioner_jobs_json(ids uuid[])
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (
		WITH pending AS
		(
			SELECT p.id, row_number() OVER (ORDER BY p.initiator_id = 'c42fdf75-3097-471c-8c33-fb52454d81c0',
													 p.created_at, p.id) AS rank,
				   count(*) OVER () AS total
			  FROM coder.provisioner_jobs p WHERE p.started_at IS NULL AND p.completed_at IS NULL
		)
		SELECT coalesce(jsonb_agg(
				coder.provisioner_job_json(j, true)
				|| jsonb_build_object('queue_position', coalesce(q.rank, 0), 'queue_size', coalesce(q.total, 0))
				|| CASE WHEN d.name IS NULL THEN '{}' ELSE jsonb_build_object('worker_name', d.name) END
				|| CASE WHEN j.job_status <> 'pending' THEN '{}' ELSE jsonb_build_object('available_workers',
						(SELECT jsonb_agg(a.id) FROM coder.provisioner_daemons a
						  WHERE a.last_seen_at > clock_timestamp() - interval '90 seconds'
							AND coder.provisioner_fits(a, j))) END
				|| jsonb_build_object('metadata', jsonb_strip_nulls(jsonb_build_object(
						'template_version_name', coalesce(v.name, ''),
						'template_id', coalesce(t.id, '00000000-0000-0000-0000-000000000000'),
						'template_name', coalesce(t.name, ''), 'template_display_name', coalesce(t.display_name, ''),
						'template_icon', coalesce(t.icon, ''), 'workspace_id', w.id, 'workspace_name', w.name,
						'workspace_build_transition', b.transition)))
				ORDER BY j.created_at DESC, j.id), '[]')
		  FROM coder.provisioner_jobs j
		  LEFT JOIN pending q ON q.id = j.id
		  LEFT JOIN coder.provisioner_daemons d ON d.id = j.worker_id
		  LEFT JOIN coder.workspace_builds b ON b.job_id = j.id
		  LEFT JOIN coder.workspaces w ON w.id = b.workspace_id
		  LEFT JOIN coder.template_versions v
			ON v.id = coalesce(b.template_version_id, (j.input->>'template_version_id')::uuid)
		  LEFT JOIN coder.templates t ON t.id = v.template_id
		 WHERE j.id = ANY (ids));
END
$$;
COMMENT ON FUNCTION coder.provisioner_jobs_json(uuid[]) IS
	'Jobs as the lists of an organization show them, newest first.';

-- A JSON object from the query, such as ?tags={"a":"b"}; ZC400 where it is none.
CREATE OR REPLACE FUNCTION coder.query_tags(req coder.request)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_tags jsonb;
BEGIN
	IF coalesce(req.query->>'tags', '') = '' THEN
		RETURN '{}';
	END IF;
	v_tags := (req.query->>'tags')::jsonb;
	IF jsonb_typeof(v_tags) <> 'object' THEN
		RAISE data_exception;
	END IF;
	RETURN v_tags;
EXCEPTION WHEN data_exception THEN
	PERFORM coder.raise(400, 'Invalid query parameters.', NULL, jsonb_build_array(coder.validation('tags',
		format('Query param "tags" must be a valid JSON object: %s', req.query->>'tags'))));
END
$$;
COMMENT ON FUNCTION coder.query_tags(coder.request) IS 'Query parameter "tags"; errors: ZC400.';

-- A comma list of words from the query, each one of the allowed; NULL: not given.
CREATE OR REPLACE FUNCTION coder.query_words(req coder.request, name text, allowed text[])
RETURNS text[] LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_list text[] := string_to_array(nullif(req.query->>name, ''), ',');
	v_bad text;
BEGIN
	SELECT w INTO v_bad FROM unnest(v_list) w WHERE w <> ALL (allowed) LIMIT 1;
	IF FOUND THEN
		PERFORM coder.raise(400, 'Invalid query parameters.', NULL, jsonb_build_array(coder.validation(name,
			format('Query param "%s" has invalid value: "%s" is not a valid value', name, v_bad))));
	END IF;
	RETURN v_list;
END
$$;
COMMENT ON FUNCTION coder.query_words(coder.request, text, text[]) IS 'Query parameter with a list of known words; errors: ZC400.';

-- A comma list of ids from the query; NULL: not given.
CREATE OR REPLACE FUNCTION coder.query_uuids(req coder.request, name text)
RETURNS uuid[] LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN string_to_array(nullif(req.query->>name, ''), ',')::uuid[];
EXCEPTION WHEN data_exception THEN
	PERFORM coder.raise(400, 'Invalid query parameters.', NULL, jsonb_build_array(coder.validation(name,
		format('Query param "%s" must be a valid uuid: %s', name, req.query->>name))));
END
$$;
COMMENT ON FUNCTION coder.query_uuids(coder.request, text) IS 'Query parameter with a list of ids; errors: ZC400.';

-- GET /api/v2/organizations/{organization}/provisionerjobs
CREATE OR REPLACE FUNCTION coder.provisionerjob_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_org coder.organizations := coder.param_organization(req);
	v_status text[] := coder.query_words(req, 'status',
		'{pending,running,succeeded,canceling,canceled,failed,unknown}');
	v_ids uuid[] := coder.query_uuids(req, 'ids');
	v_initiator uuid[] := coder.query_uuids(req, 'initiator');
	v_tags jsonb := coder.query_tags(req);
	v_limit integer := coder.query_int(req, 'limit', 50);
BEGIN
	PERFORM coder.require_read('read', 'provisioner_jobs', v_org.id);
	RETURN coder.reply(200, coder.provisioner_jobs_json(ARRAY(
		SELECT j.id FROM coder.provisioner_jobs j
		 WHERE j.organization_id = v_org.id
		   AND (v_status IS NULL OR j.job_status::text = ANY (v_status))
		   AND (v_ids IS NULL OR j.id = ANY (v_ids))
		   AND (v_initiator IS NULL OR j.initiator_id = ANY (v_initiator))
		   AND j.tags @> v_tags
		 ORDER BY j.created_at DESC LIMIT CASE WHEN v_limit > 0 THEN v_limit ELSE 50 END)));
END
$$;
COMMENT ON FUNCTION coder.provisionerjob_list(coder.request) IS 'GET /api/v2/organizations/{organization}/provisionerjobs';

-- GET /api/v2/organizations/{organization}/provisionerjobs/{job}
CREATE OR REPLACE FUNCTION coder.provisionerjob_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_org coder.organizations := coder.param_organization(req);
	v_id uuid := coder.param_uuid(req, 'job');
BEGIN
	PERFORM coder.require_read('read', 'provisioner_jobs', v_org.id);
	IF NOT EXISTS (SELECT FROM coder.provisioner_jobs j WHERE j.id = v_id AND j.organization_id = v_org.id) THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN coder.reply(200, coder.provisioner_jobs_json(ARRAY[v_id])->0);
END
$$;
COMMENT ON FUNCTION coder.provisionerjob_get(coder.request) IS 'GET /api/v2/organizations/{organization}/provisionerjobs/{job}';

-- The short form of a daemon's job.
CREATE OR REPLACE FUNCTION coder.daemon_job_json(j coder.provisioner_jobs)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_answer jsonb;
BEGIN
	IF j.id IS NULL THEN
		RETURN NULL;
	END IF;
	SELECT jsonb_build_object('id', j.id, 'status', j.job_status, 'template_name', coalesce(t.name, ''),
			'template_icon', coalesce(t.icon, ''), 'template_display_name', coalesce(t.display_name, ''))
	  INTO v_answer
	  FROM (SELECT) one
	  LEFT JOIN coder.workspace_builds b ON b.job_id = j.id
	  LEFT JOIN coder.template_versions v
		ON v.id = coalesce(b.template_version_id, (j.input->>'template_version_id')::uuid)
	  LEFT JOIN coder.templates t ON t.id = v.template_id;
	RETURN v_answer;
END
$$;
COMMENT ON FUNCTION coder.daemon_job_json(coder.provisioner_jobs) IS 'A job as a daemon''s current_job.';

-- GET /api/v2/organizations/{organization}/provisionerdaemons
CREATE OR REPLACE FUNCTION coder.provisionerdaemon_list(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	v_org coder.organizations := coder.param_organization(req);
	v_status text[] := coder.query_words(req, 'status', '{offline,idle,busy}');
	v_ids uuid[] := coder.query_uuids(req, 'ids');
	v_tags jsonb := coder.query_tags(req);
	v_limit integer := coder.query_int(req, 'limit', 50);
	v_offline boolean := coder.query_bool(req, 'offline', false);
BEGIN
	PERFORM coder.require_read('read', 'provisioner_jobs', v_org.id);
	RETURN coder.reply(200, (
		SELECT coalesce(jsonb_agg(jsonb_build_object('id', x.id, 'organization_id', x.organization_id,
				'key_id', x.key_id, 'created_at', coder.ts(x.created_at), 'last_seen_at', coder.ts(x.last_seen_at),
				'name', x.name, 'version', x.version, 'api_version', x.api_version,
				'provisioners', x.provisioners, 'tags', x.tags, 'key_name', x.key_name, 'status', x.status,
				'current_job', coder.daemon_job_json(x.current), 'previous_job', coder.daemon_job_json(x.previous))
				ORDER BY x.created_at DESC, x.id), '[]')
		  FROM (SELECT d.*, k.name AS key_name, cur.j AS current, prev.j AS previous, s.status
				  FROM coder.provisioner_daemons d
				  JOIN coder.provisioner_keys k ON k.id = d.key_id
				  LEFT JOIN LATERAL (SELECT j FROM coder.provisioner_jobs j
									  WHERE j.worker_id = d.id AND j.completed_at IS NULL
									  LIMIT 1) cur ON true
				  LEFT JOIN LATERAL (SELECT j FROM coder.provisioner_jobs j
									  WHERE j.worker_id = d.id AND j.completed_at IS NOT NULL
									  ORDER BY j.completed_at DESC LIMIT 1) prev ON true
				 CROSS JOIN LATERAL (SELECT CASE
						WHEN d.last_seen_at IS NULL OR d.last_seen_at < clock_timestamp() - interval '90 seconds'
							THEN 'offline'
						WHEN (cur.j).id IS NULL THEN 'idle' ELSE 'busy' END AS status) s
				 WHERE d.organization_id = v_org.id AND d.tags @> v_tags
				   AND (v_ids IS NULL OR d.id = ANY (v_ids))
				   AND (s.status <> 'offline' OR v_offline OR 'offline' = ANY (v_status))
				   AND (v_status IS NULL OR s.status = ANY (v_status))
				 ORDER BY d.created_at DESC LIMIT CASE WHEN v_limit > 0 THEN v_limit ELSE 50 END) x));
END
$$;
COMMENT ON FUNCTION coder.provisionerdaemon_list(coder.request) IS 'GET /api/v2/organizations/{organization}/provisionerdaemons';

DELETE FROM coder.routes WHERE area = 'provisionerjob';
INSERT INTO coder.routes (area, method, pattern, function, read_only) VALUES
	('provisionerjob', 'GET', '/api/v2/organizations/{organization}/provisionerjobs', 'provisionerjob_list', true),
	('provisionerjob', 'GET', '/api/v2/organizations/{organization}/provisionerjobs/{job}', 'provisionerjob_get', true),
	('provisionerjob', 'GET', '/api/v2/organizations/{organization}/provisionerdaemons', 'provisionerdaemon_list', true);
