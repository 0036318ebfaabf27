-- sql/api/quota.sql -- what workspaces cost a day, and how much a user's may cost
--
-- A group allows each of its members so many credits a day; what counts is the sum over the user's groups in the
-- organization.  An organization none of whose groups allows anything has no quota.
-- Tables: sql/schema/user.sql (groups.quota_allowance), sql/schema/build.sql (workspace_builds.daily_cost).

-- Credits a day that a user has in an organization; -1: no quota.
CREATE OR REPLACE FUNCTION coder.quota_budget(uid uuid, org uuid)
RETURNS bigint LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (SELECT 1 FROM coder.groups g WHERE g.organization_id = org AND g.quota_allowance > 0) THEN
		RETURN -1;
	END IF;
	RETURN (SELECT coalesce(sum(g.quota_allowance), 0) FROM coder.groups g
			 WHERE g.organization_id = org
			   AND (EXISTS (SELECT 1 FROM coder.group_members m WHERE m.group_id = g.id AND m.user_id = uid)
				OR (g.id = org AND EXISTS (SELECT 1 FROM coder.organization_members m WHERE m.organization_id = org AND m.user_id = uid))));
END
$$;

-- Credits a day of the latest builds of a user's workspaces in an organization, but for one workspace.
CREATE OR REPLACE FUNCTION coder.quota_consumed(uid uuid, org uuid, but uuid DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT coalesce(sum(b.daily_cost), 0) FROM coder.workspaces w JOIN coder.workspace_builds b ON b.id = w.latest_build_id
			 WHERE w.owner_id = uid AND w.organization_id = org AND NOT w.deleted
			   AND w.id IS DISTINCT FROM but);
END
$$;

-- WorkspaceQuota
CREATE OR REPLACE FUNCTION coder.quota_json(uid uuid, org uuid)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN jsonb_build_object('credits_consumed', coder.quota_consumed(uid, org), 'budget', coder.quota_budget(uid, org));
END
$$;

-- May the build of a job cost so much a day?  If so, it is noted on the build.  {"ok", "consumed", "budget"}, of which
-- consumed is without this build.  A build that costs less than the one before it is never refused.  A cost of NULL only asks.
-- Two builds of one owner wait for one another.
CREATE OR REPLACE FUNCTION coder.build_quota(job uuid, cost bigint)
RETURNS jsonb LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	b record;
	before int4;
	budget bigint;
	consumed bigint;
	ok bool;
BEGIN
	SELECT x.id, x.workspace_id, x.build_number, w.owner_id, w.organization_id INTO b
	  FROM coder.workspace_builds x JOIN coder.workspaces w ON w.id = x.workspace_id WHERE x.job_id = job;
	IF b.id IS NULL THEN
		RETURN NULL;
	END IF;
	budget := coder.quota_budget(b.owner_id, b.organization_id);
	IF cost IS NULL THEN
		RETURN jsonb_build_object('ok', true, 'budget', budget);
	END IF;
	IF budget >= 0 THEN
		PERFORM coder.lock(format('coder.quota:%s:%s', b.owner_id, b.organization_id));
	END IF;
	cost := least(greatest(cost, 0), 2147483647);
	consumed := coder.quota_consumed(b.owner_id, b.organization_id, b.workspace_id);
	SELECT x.daily_cost INTO before FROM coder.workspace_builds x
	 WHERE x.workspace_id = b.workspace_id AND x.build_number < b.build_number ORDER BY x.build_number DESC LIMIT 1;
	ok := budget < 0 OR consumed + cost <= budget OR cost < coalesce(before, 0);
	IF ok THEN
		UPDATE coder.workspace_builds x SET daily_cost = cost WHERE x.id = b.id;
	END IF;
	RETURN jsonb_build_object('ok', ok, 'consumed', consumed, 'budget', budget);
END
$$;

-- GET /organizations/{organization}/members/{user}/workspace-quota
CREATE OR REPLACE FUNCTION coder.member_quota(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	org CONSTANT coder.organizations := coder.param_organization(req);
	m CONSTANT coder.organization_members := coder.param_member(req, org.id);
BEGIN
	IF NOT coder.can('read', 'user', NULL, m.user_id, id => m.user_id) THEN
		PERFORM coder.raise_not_found();
	END IF;
	RETURN coder.reply(200, coder.quota_json(m.user_id, org.id));
END
$$;

-- GET /workspace-quota/{user}: of the default organization
CREATE OR REPLACE FUNCTION coder.user_quota(req coder.request)
RETURNS coder.response LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	u CONSTANT coder.users := coder.param_user(req);
BEGIN
	RETURN coder.reply(200, coder.quota_json(u.id, (SELECT o.id FROM coder.organizations o WHERE o.is_default)));
END
$$;

DELETE FROM coder.routes WHERE area = 'quota';
INSERT INTO coder.routes (area, method, pattern, function, read_only) VALUES
	('quota', 'GET', '/api/v2/organizations/{organization}/members/{user}/workspace-quota', 'member_quota', true),
	('quota', 'GET', '/api/v2/workspace-quota/{user}', 'user_quota', true);
