-- sql/api/chatlimit.sql -- what the chats of a user may cost
--
-- Routes: sql/api/chatconfig.sql.

-- Begin and end of the period that holds a time, in UTC: the day, the ISO week, the month.
CREATE OR REPLACE FUNCTION coder.chat_period(period text, at timestamptz, OUT begins timestamptz, OUT ends timestamptz)
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	begins := date_trunc(period, at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
	ends := (date_trunc(period, at AT TIME ZONE 'UTC') + ('1 ' || period)::interval) AT TIME ZONE 'UTC';
END
$$;

CREATE TYPE coder.chat_limit AS (limit_micros bigint, period text, begins timestamptz, ends timestamptz, spent bigint);

-- What a user's chats may cost and have cost in this period; NULL where nothing limits it.  The user's own limit wins,
-- then the least of the user's groups (in the organization, where one is given), then the default.
CREATE OR REPLACE FUNCTION coder.chat_limit_of(uid uuid, org uuid DEFAULT NULL)
RETURNS coder.chat_limit LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	answer coder.chat_limit;
	cfg coder.chat_usage_limit_config;
	scope uuid;
BEGIN
	SELECT c.* INTO cfg FROM coder.chat_usage_limit_config c;
	IF NOT FOUND OR NOT cfg.enabled THEN
		RETURN NULL;
	END IF;
	SELECT u.chat_spend_limit_micros INTO answer.limit_micros FROM coder.users u WHERE u.id = uid;
	IF answer.limit_micros IS NULL THEN
		SELECT min(g.chat_spend_limit_micros) INTO answer.limit_micros FROM coder.groups g
		 WHERE (org IS NULL OR g.organization_id = org) AND g.chat_spend_limit_micros IS NOT NULL
		   AND (EXISTS (SELECT FROM coder.group_members m WHERE m.group_id = g.id AND m.user_id = uid)
				OR EXISTS (SELECT FROM coder.organization_members m WHERE m.organization_id = g.id AND m.user_id = uid));
		scope := CASE WHEN answer.limit_micros IS NOT NULL THEN org END;
	END IF;
	answer.limit_micros := coalesce(answer.limit_micros, cfg.default_limit_micros);
	answer.period := cfg.period;
	SELECT p.begins, p.ends INTO answer.begins, answer.ends FROM coder.chat_period(cfg.period, now()) p;
	SELECT coalesce(sum(m.total_cost_micros), 0) INTO answer.spent
	  FROM coder.chats c JOIN coder.chat_messages m ON m.chat_id = c.id
	 WHERE c.owner_id = uid AND (scope IS NULL OR c.organization_id = scope) AND m.total_cost_micros IS NOT NULL
	   AND m.created_at >= answer.begins AND m.created_at < answer.ends;
	RETURN answer;
END
$$;

-- 409 where the user has spent what a period allows, else NULL.
CREATE OR REPLACE FUNCTION coder.chat_over_limit(uid uuid, org uuid)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	l CONSTANT coder.chat_limit := coder.chat_limit_of(uid, org);
BEGIN
	IF l.spent >= l.limit_micros THEN
		RETURN coder.reply(409, jsonb_build_object('message', 'Chat usage limit exceeded.', 'spent_micros', l.spent, 'limit_micros', l.limit_micros,
			'resets_at', coder.ts(l.ends)));
	END IF;
	RETURN NULL;
END
$$;

-- ChatUsageLimitConfig
CREATE OR REPLACE FUNCTION coder.chat_limit_config_json()
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	cfg coder.chat_usage_limit_config;
BEGIN
	SELECT c.* INTO cfg FROM coder.chat_usage_limit_config c;
	RETURN jsonb_build_object('spend_limit_micros', CASE WHEN cfg.enabled THEN cfg.default_limit_micros END,
		'period', coalesce(cfg.period, 'month'), 'updated_at', coder.ts0(cfg.updated_at));
END
$$;

-- GET /chats/usage-limits
CREATE OR REPLACE FUNCTION coder.chat_limits_get(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM coder.chat_admin('read');
	RETURN coder.reply(200, coder.chat_limit_config_json() || jsonb_build_object(
		'unpriced_model_count', (SELECT count(*) FROM coder.chat_model_configs m WHERE m.enabled AND NOT m.deleted
			AND NOT EXISTS (SELECT FROM jsonb_object_keys(m.options || coalesce(nullif(m.options->'cost', 'null'), '{}')) k
				WHERE k LIKE '%\_price\_per\_million\_tokens')),
		'overrides', coalesce((SELECT jsonb_agg(jsonb_build_object('user_id', u.id, 'username', u.username, 'name', u.name,
				'avatar_url', u.avatar_url, 'spend_limit_micros', u.chat_spend_limit_micros) ORDER BY lower(u.username))
			FROM coder.users u WHERE u.chat_spend_limit_micros IS NOT NULL AND NOT u.deleted), '[]'),
		'group_overrides', coalesce((SELECT jsonb_agg(jsonb_build_object('group_id', g.id, 'group_name', g.name,
				'group_display_name', g.display_name, 'group_avatar_url', g.avatar_url, 'member_count',
				(SELECT count(*) FROM coder.users u WHERE NOT u.deleted AND NOT u.is_system
					AND (EXISTS (SELECT FROM coder.group_members m WHERE m.group_id = g.id AND m.user_id = u.id)
						OR EXISTS (SELECT FROM coder.organization_members m WHERE m.organization_id = g.id AND m.user_id = u.id))),
				'spend_limit_micros', g.chat_spend_limit_micros) ORDER BY lower(g.name), g.id)
			FROM coder.groups g WHERE g.chat_spend_limit_micros IS NOT NULL), '[]')));
END
$$;

-- PUT /chats/usage-limits
CREATE OR REPLACE FUNCTION coder.chat_limits_put(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	body jsonb;
	wanted numeric;
	every text;
BEGIN
	PERFORM coder.chat_admin('update');
	body := coder.body(req);
	PERFORM coder.body_type(body, 'spend_limit_micros', 'number'), coder.body_type(body, 'period', 'string');
	wanted := (body->>'spend_limit_micros')::numeric;
	every := coalesce(nullif(body->>'period', ''), 'month');
	IF wanted <= 0 OR wanted <> trunc(wanted) OR wanted > 9000000000000000000 THEN
		PERFORM coder.raise(400, 'Invalid chat usage limit spend limit.', 'Spend limit must be greater than 0.');
	ELSIF every NOT IN ('day', 'week', 'month') THEN
		PERFORM coder.raise(400, 'Invalid chat usage limit period.', 'Period must be one of: day, week, month.');
	END IF;
	INSERT INTO coder.chat_usage_limit_config AS c (enabled, default_limit_micros, period)
	VALUES (wanted IS NOT NULL, coalesce(wanted, 0), every)
	ON CONFLICT (singleton) DO UPDATE SET enabled = excluded.enabled, default_limit_micros = excluded.default_limit_micros,
		period = excluded.period, updated_at = now();
	RETURN coder.reply(200, coder.chat_limit_config_json());
END
$$;

-- GET /chats/usage-limits/status: the caller's
CREATE OR REPLACE FUNCTION coder.chat_limits_status(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	l coder.chat_limit;
BEGIN
	PERFORM coder.chat_gate();
	l := coder.chat_limit_of(coder.subject_id());
	IF l.limit_micros IS NULL THEN
		RETURN coder.reply(200, jsonb_build_object('is_limited', false, 'current_spend', 0, 'period_start', coder.ts0(NULL), 'period_end', coder.ts0(NULL)));
	END IF;
	RETURN coder.reply(200, jsonb_build_object('is_limited', true, 'period', l.period, 'spend_limit_micros', l.limit_micros,
		'current_spend', l.spent, 'period_start', coder.ts(l.begins), 'period_end', coder.ts(l.ends)));
END
$$;

-- PUT and DELETE /chats/usage-limits/overrides/{user} and …/group-overrides/{group}
CREATE OR REPLACE FUNCTION coder.chat_limit_override(req coder.request)
RETURNS coder.response LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	of_group CONSTANT bool := req.params ? 'group';
	missing CONSTANT text := CASE WHEN of_group THEN 'Group not found.' ELSE 'User not found.' END;
	wanted CONSTANT uuid := coder.try_uuid(coalesce(req.params->>'group', req.params->>'user'));
	amount numeric;
	before bigint;
BEGIN
	PERFORM coder.chat_admin('update');
	IF of_group THEN
		SELECT g.chat_spend_limit_micros INTO before FROM coder.groups g WHERE g.id = wanted FOR UPDATE;
	ELSE
		SELECT u.chat_spend_limit_micros INTO before FROM coder.users u WHERE u.id = wanted AND NOT u.deleted FOR UPDATE;
	END IF;
	IF NOT FOUND THEN
		PERFORM coder.raise(CASE req.method WHEN 'PUT' THEN 404 ELSE 400 END, missing);
	ELSIF req.method = 'DELETE' AND before IS NULL THEN
		PERFORM coder.raise(400, CASE WHEN of_group THEN 'Chat usage limit group override not found.' ELSE 'Chat usage limit override not found.' END);
	ELSIF req.method = 'PUT' THEN
		PERFORM coder.body_type(coder.body(req), 'spend_limit_micros', 'number');
		amount := coalesce((req.body->>'spend_limit_micros')::numeric, 0);
		IF amount <= 0 OR amount <> trunc(amount) OR amount > 9000000000000000000 THEN
			PERFORM coder.raise(400, 'Invalid chat usage limit spend limit.', 'Spend limit must be greater than 0.');
		END IF;
	END IF;
	IF of_group THEN
		UPDATE coder.groups g SET chat_spend_limit_micros = amount WHERE g.id = wanted;
	ELSE
		UPDATE coder.users u SET chat_spend_limit_micros = amount WHERE u.id = wanted;
	END IF;
	IF req.method = 'DELETE' THEN
		RETURN coder.reply(204);
	ELSIF of_group THEN
		RETURN coder.reply(200, (SELECT jsonb_build_object('group_id', g.id, 'group_name', g.name, 'group_display_name', g.display_name,
			'group_avatar_url', g.avatar_url, 'member_count', (SELECT count(*) FROM coder.group_members m WHERE m.group_id = g.id),
			'spend_limit_micros', g.chat_spend_limit_micros) FROM coder.groups g WHERE g.id = wanted));
	END IF;
	RETURN coder.reply(200, (SELECT jsonb_build_object('user_id', u.id, 'username', u.username, 'name', u.name, 'avatar_url', u.avatar_url,
		'spend_limit_micros', u.chat_spend_limit_micros) FROM coder.users u WHERE u.id = wanted));
END
$$;
