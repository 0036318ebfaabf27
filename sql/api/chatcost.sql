-- sql/api/chatcost.sql -- what chats cost, and the pull requests that came of them
--
-- Tables: sql/schema/chat.sql.

-- start_date and end_date of a request about cost, the last thirty days unless given; ZC400.
CREATE OR REPLACE FUNCTION coder.chat_dates(req coder.request, OUT begins timestamptz, OUT ends timestamptz, VARIADIC others text[] DEFAULT '{}')
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	broken jsonb[] := '{}';
	field text;
	at timestamptz;
BEGIN
	ends := clock_timestamp();
	begins := ends - interval '30 days';
	FOR field IN SELECT k FROM jsonb_object_keys(coalesce(req.query, '{}')) k LOOP
		IF field NOT IN ('start_date', 'end_date') AND NOT field = ANY (others) THEN
			broken := broken || coder.validation(field, format('Query param "%s" is not a valid query param', field));
		ELSIF field IN ('start_date', 'end_date') AND req.query->>field <> '' THEN
			BEGIN
				IF req.query->>field !~ '^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$' THEN
					RAISE invalid_datetime_format;
				END IF;
				at := (req.query->>field)::timestamptz;
				IF field = 'start_date' THEN
					begins := at;
				ELSE
					ends := at;
				END IF;
			EXCEPTION WHEN data_exception THEN
				broken := broken || coder.validation(field, format('Query param "%s" must be a valid date format (RFC3339)', field));
			END;
		END IF;
	END LOOP;
	IF cardinality(broken) > 0 THEN
		PERFORM coder.raise(400, 'Invalid query parameters.', NULL, to_jsonb(broken));
	END IF;
END
$$;

-- The sums that all reports of cost have.
CREATE TYPE coder.chat_cost AS (cost numeric, priced bigint, unpriced bigint, input numeric, output numeric, cache_read numeric, cache_creation numeric, runtime numeric);

CREATE OR REPLACE FUNCTION coder.chat_cost_json(s coder.chat_cost)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('total_cost_micros', coalesce(s.cost, 0), 'total_input_tokens', coalesce(s.input, 0),
		'total_output_tokens', coalesce(s.output, 0), 'total_cache_read_tokens', coalesce(s.cache_read, 0),
		'total_cache_creation_tokens', coalesce(s.cache_creation, 0), 'total_runtime_ms', coalesce(s.runtime, 0));
END
$$;
COMMENT ON FUNCTION coder.chat_cost_json(coder.chat_cost) IS 'Sums of cost, tokens and time as the API names them.';

-- The messages that cost something in a time, with who caused them.
CREATE OR REPLACE FUNCTION coder.chat_costs(begins timestamptz, ends timestamptz, owner uuid DEFAULT NULL)
RETURNS TABLE (owner_id uuid, root_chat_id uuid, model_config_id uuid, message coder.chat_messages) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT c.owner_id, coalesce(c.root_chat_id, c.id), m.model_config_id, m
	  FROM coder.chat_messages m JOIN coder.chats c ON c.id = m.chat_id
	 WHERE m.role = 'assistant' AND m.created_at >= begins AND m.created_at < ends
	   AND (m.total_cost_micros IS NOT NULL OR m.input_tokens IS NOT NULL OR m.output_tokens IS NOT NULL OR m.total_tokens IS NOT NULL)
	   AND (chat_costs.owner IS NULL OR c.owner_id = chat_costs.owner);
END
$$;

-- Sums of messages.
CREATE OR REPLACE FUNCTION coder.chat_cost_add(s coder.chat_cost, m coder.chat_messages)
RETURNS coder.chat_cost LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN ROW(coalesce(s.cost, 0) + coalesce(m.total_cost_micros, 0), coalesce(s.priced, 0) + (m.total_cost_micros IS NOT NULL)::int4,
		coalesce(s.unpriced, 0) + (m.total_cost_micros IS NULL)::int4, coalesce(s.input, 0) + coalesce(m.input_tokens, 0),
		coalesce(s.output, 0) + coalesce(m.output_tokens, 0), coalesce(s.cache_read, 0) + coalesce(m.cache_read_tokens, 0),
		coalesce(s.cache_creation, 0) + coalesce(m.cache_creation_tokens, 0), coalesce(s.runtime, 0) + coalesce(m.runtime_ms, 0))::coder.chat_cost;
END
$$;
CREATE OR REPLACE AGGREGATE coder.chat_cost_sum (coder.chat_messages) (SFUNC = coder.chat_cost_add, STYPE = coder.chat_cost);
COMMENT ON AGGREGATE coder.chat_cost_sum (coder.chat_messages) IS 'Cost, tokens and time of messages.';

-- GET /chats/cost/{user}/summary
CREATE OR REPLACE FUNCTION coder.chat_cost_summary(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u coder.users;
	t record;
	total coder.chat_cost;
	l coder.chat_limit;
	answer jsonb;
BEGIN
	PERFORM coder.chat_gate();
	u := coder.param_user(req);
	PERFORM coder.require_read('read', 'chat', NULL, u.id);
	SELECT * INTO t FROM coder.chat_dates(req);
	SELECT (coder.chat_cost_sum(x.message)).* INTO total FROM coder.chat_costs(t.begins, t.ends, u.id) x;
	answer := coder.chat_cost_json(total) || jsonb_build_object('start_date', coder.ts(t.begins), 'end_date', coder.ts(t.ends),
		'priced_message_count', coalesce(total.priced, 0), 'unpriced_message_count', coalesce(total.unpriced, 0),
		'by_model', coalesce((SELECT jsonb_agg(coder.chat_cost_json(g.s) || jsonb_build_object('model_config_id', m.id,
				'display_name', coalesce(nullif(m.display_name, ''), m.model), 'provider', m.provider, 'model', m.model,
				'message_count', (g.s).priced + (g.s).unpriced) ORDER BY (g.s).cost DESC, m.updated_at DESC, m.id)
			FROM (SELECT x.model_config_id, coder.chat_cost_sum(x.message) AS s FROM coder.chat_costs(t.begins, t.ends, u.id) x GROUP BY 1) g
			JOIN coder.chat_model_configs m ON m.id = g.model_config_id), '[]'),
		'by_chat', coalesce((SELECT jsonb_agg(coder.chat_cost_json(g.s) || jsonb_build_object('root_chat_id', c.id, 'chat_title', c.title,
				'message_count', (g.s).priced + (g.s).unpriced) ORDER BY (g.s).cost DESC, c.updated_at DESC, c.id)
			FROM (SELECT x.root_chat_id, coder.chat_cost_sum(x.message) AS s FROM coder.chat_costs(t.begins, t.ends, u.id) x GROUP BY 1) g
			JOIN coder.chats c ON c.id = g.root_chat_id), '[]'));
	l := coder.chat_limit_of(u.id);
	IF l.limit_micros IS NOT NULL THEN
		answer := answer || jsonb_build_object('usage_limit', jsonb_build_object('is_limited', true, 'period', l.period,
			'spend_limit_micros', l.limit_micros, 'current_spend', l.spent, 'period_start', coder.ts(l.begins), 'period_end', coder.ts(l.ends)));
	END IF;
	RETURN coder.reply(200, answer);
END
$$;

-- GET /chats/cost/users
CREATE OR REPLACE FUNCTION coder.chat_cost_users(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t record;
	n int4;
	from_row int4;
	wanted CONSTANT text := coalesce(req.query->>'username', '');
	answer jsonb;
BEGIN
	PERFORM coder.chat_gate();
	PERFORM coder.require('read', 'chat');
	SELECT * INTO t FROM coder.chat_dates(req, 'username', 'limit', 'offset');
	n := coalesce(nullif(coder.query_int(req, 'limit', 10), 0), 10);
	from_row := coder.query_int(req, 'offset', 0);
	SELECT jsonb_build_object('start_date', coder.ts(t.begins), 'end_date', coder.ts(t.ends), 'count', coalesce(max(x.total), 0),
		'users', coalesce(jsonb_agg(coder.chat_cost_json(x.s) || jsonb_build_object('user_id', x.id, 'username', x.username, 'name', x.name,
			'avatar_url', x.avatar_url, 'message_count', (x.s).priced + (x.s).unpriced, 'chat_count', x.chats)
			ORDER BY (x.s).cost DESC, lower(x.username)) FILTER (WHERE x.id IS NOT NULL), '[]')) INTO answer
	  FROM (SELECT u.id, u.username, u.name, u.avatar_url, g.s, g.chats, count(*) OVER () AS total
			  FROM (SELECT y.owner_id, coder.chat_cost_sum(y.message) AS s, count(DISTINCT y.root_chat_id) AS chats
					  FROM coder.chat_costs(t.begins, t.ends) y GROUP BY 1) g
			  JOIN coder.users u ON u.id = g.owner_id
			 WHERE wanted = '' OR strpos(lower(u.username), lower(wanted)) > 0
			 ORDER BY (g.s).cost DESC, lower(u.username) OFFSET from_row LIMIT n) x;
	RETURN coder.reply(200, answer);
END
$$;

-- GET /chats/insights/pull-requests: pull requests that chats made, each once (the newest chat has it).
CREATE OR REPLACE FUNCTION coder.chat_pr_insights(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t record;
	now_ jsonb;
	before jsonb;
BEGIN
	PERFORM coder.chat_admin('read');
	SELECT * INTO t FROM coder.chat_dates(req);
	now_ := coder.chat_pr_summary(t.begins, t.ends);
	before := coder.chat_pr_summary(t.begins - (t.ends - t.begins), t.begins);
	RETURN coder.reply(200, jsonb_build_object('summary', now_ || jsonb_build_object('approval_rate', 0,
			'prev_total_prs_created', before->'total_prs_created', 'prev_total_prs_merged', before->'total_prs_merged',
			'prev_merge_rate', before->'merge_rate', 'prev_cost_per_merged_pr_micros', before->'cost_per_merged_pr_micros'),
		'time_series', coalesce((SELECT jsonb_agg(jsonb_build_object('date', coder.ts(d.day), 'prs_created', d.created, 'prs_merged', d.merged,
				'prs_closed', d.closed) ORDER BY d.day)
			FROM (SELECT date_trunc('day', p.created_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS day, count(*) AS created,
					count(*) FILTER (WHERE p.state = 'merged') AS merged, count(*) FILTER (WHERE p.state = 'closed') AS closed
					FROM coder.chat_prs(t.begins, t.ends) p GROUP BY 1) d), '[]'),
		'by_model', coalesce((SELECT jsonb_agg(jsonb_build_object('model_config_id', m.id, 'display_name', coalesce(nullif(m.display_name, ''), m.model),
				'provider', m.provider, 'total_prs', g.n, 'merged_prs', g.merged, 'merge_rate', g.merged::float8 / g.n, 'total_additions', g.additions,
				'total_deletions', g.deletions, 'total_cost_micros', g.cost, 'cost_per_merged_pr_micros', CASE WHEN g.merged > 0
				THEN trunc(g.cost / g.merged) ELSE 0 END) ORDER BY g.n DESC, m.id)
			FROM (SELECT p.model_config_id, count(*) AS n, count(*) FILTER (WHERE p.state = 'merged') AS merged, sum(p.additions) AS additions,
					sum(p.deletions) AS deletions, sum(p.cost) AS cost FROM coder.chat_prs(t.begins, t.ends) p GROUP BY 1) g
			JOIN coder.chat_model_configs m ON m.id = g.model_config_id), '[]'),
		'recent_prs', coalesce((SELECT jsonb_agg(p.pr || jsonb_build_object('model_display_name', coalesce(nullif(m.display_name, ''), m.model, ''),
				'cost_micros', p.cost, 'created_at', coder.ts(p.created_at)) ORDER BY p.created_at DESC)
			FROM (SELECT * FROM coder.chat_prs(t.begins, t.ends) ORDER BY created_at DESC LIMIT 500) p
			LEFT JOIN coder.chat_model_configs m ON m.id = p.model_config_id), '[]')));
END
$$;

-- The pull requests of chats made in a time; what one cost is its chat's and that of direct children without their own.
CREATE OR REPLACE FUNCTION coder.chat_prs(begins timestamptz, ends timestamptz)
RETURNS TABLE (chat_id uuid, model_config_id uuid, state text, additions int4, deletions int4, cost numeric, created_at timestamptz, pr jsonb)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY SELECT DISTINCT ON (d.url) c.id, c.last_model_config_id, coalesce(d.pull_request_state, 'open'), d.additions, d.deletions,
		(SELECT coalesce(sum(m.total_cost_micros), 0) FROM coder.chats f JOIN coder.chat_messages m ON m.chat_id = f.id
		  WHERE f.id = c.id OR (f.parent_chat_id = c.id AND NOT EXISTS (SELECT FROM coder.chat_diff_statuses x
			WHERE x.chat_id = f.id AND x.url IS NOT NULL AND x.pull_request_state IS NOT NULL))),
		c.created_at,
		jsonb_strip_nulls(jsonb_build_object('chat_id', c.id, 'pr_title', d.pull_request_title, 'pr_url', d.url, 'pr_number', d.pr_number,
			'state', coalesce(d.pull_request_state, 'open'), 'draft', d.pull_request_draft, 'additions', d.additions, 'deletions', d.deletions,
			'changed_files', d.changed_files, 'commits', d.commits, 'approved', d.approved, 'changes_requested', d.changes_requested,
			'reviewer_count', d.reviewer_count, 'author_login', d.author_login, 'author_avatar_url', d.author_avatar_url,
			'base_branch', coalesce(d.base_branch, '')))
	  FROM coder.chat_diff_statuses d JOIN coder.chats c ON c.id = d.chat_id
	 WHERE d.url IS NOT NULL AND d.pull_request_state IS NOT NULL AND c.created_at >= begins AND c.created_at < ends
	 ORDER BY d.url, c.created_at DESC;
END
$$;

CREATE OR REPLACE FUNCTION coder.chat_pr_summary(begins timestamptz, ends timestamptz)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT jsonb_build_object('total_prs_created', count(*), 'total_prs_merged', count(*) FILTER (WHERE p.state = 'merged'),
			'merge_rate', CASE WHEN count(*) = 0 THEN 0 ELSE count(*) FILTER (WHERE p.state = 'merged')::float8 / count(*) END,
			'total_additions', coalesce(sum(p.additions), 0), 'total_deletions', coalesce(sum(p.deletions), 0),
			'total_cost_micros', coalesce(sum(p.cost), 0), 'cost_per_merged_pr_micros', CASE WHEN count(*) FILTER (WHERE p.state = 'merged') = 0 THEN 0
				ELSE trunc(coalesce(sum(p.cost) FILTER (WHERE p.state = 'merged'), 0) / count(*) FILTER (WHERE p.state = 'merged')) END)
		FROM coder.chat_prs(begins, ends) p);
END
$$;
COMMENT ON FUNCTION coder.chat_pr_summary(timestamptz, timestamptz) IS 'Counts, changes and cost of the pull requests of a time.';
