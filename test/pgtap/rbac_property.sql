-- rbac_property.sql -- the compiled access rules against slow ones in plain SQL
--
-- Random roles, memberships, groups, scopes, allow lists, objects and lists of users and groups; 100,000 decisions a
-- run.  Another run: CODER_TEST_SEED=0.123 (between -1 and 1).
BEGIN;
\i api.psql
\getenv seed CODER_TEST_SEED
\if :{?seed}
\else
SELECT round((random() * 2 - 1)::numeric, 9) AS seed \gset
\endif
\set subjects 250
\set decisions 400
SELECT plan(6);
SELECT diag('seed ' || :'seed');
SELECT setseed(:seed::float8);

-- ---- the world ----

-- One of the array; the second argument only makes each call one of its own.
CREATE FUNCTION public.pick(a text[], n int) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
	RETURN a[1 + floor(random() * cardinality(a))::int];
END
$$;
-- Each member of the array with this chance.
CREATE FUNCTION public.several(a text[], chance float8, n int) RETURNS text[] LANGUAGE plpgsql VOLATILE AS $$
DECLARE
	v text[] := '{}';
	x text;
BEGIN
	FOREACH x IN ARRAY a LOOP
		IF random() < chance THEN
			v := v || x;
		END IF;
	END LOOP;
	RETURN v;
END
$$;

CREATE TEMP TABLE pair AS
SELECT t.type, a.action FROM unnest(ARRAY['aibridge_interception', 'api_key', 'assign_org_role', 'assign_role', 'audit_log',
	'boundary_usage', 'chat', 'connection_log', 'crypto_key', 'debug_info', 'deployment_config', 'deployment_stats', 'file', 'group',
	'group_member', 'idpsync_settings', 'inbox_notification', 'license', 'notification_message', 'notification_preference',
	'notification_template', 'oauth2_app', 'oauth2_app_code_token', 'oauth2_app_secret', 'organization', 'organization_member',
	'prebuilt_workspace', 'provisioner_daemon', 'provisioner_jobs', 'replicas', 'system', 'tailnet_coordinator', 'task', 'template',
	'usage_event', 'user', 'user_secret', 'webpush_subscription', 'workspace', 'workspace_agent_devcontainers',
	'workspace_agent_resource_monitor', 'workspace_dormant', 'workspace_proxy']) t (type),
	unnest(ARRAY['application_connect', 'assign', 'create', 'create_agent', 'delete', 'delete_agent', 'read', 'read_personal', 'share',
	'ssh', 'start', 'stop', 'unassign', 'update', 'update_agent', 'update_personal', 'use', 'view_insights']) a (action)
 WHERE coder.rbac_action_known(t.type, a.action) ORDER BY 1, 2;
SELECT is(count(*)::int, 153, 'there are 153 pairs of a type and an action') FROM pair;

CREATE TEMP TABLE org (n int, id uuid);
INSERT INTO org SELECT n, ('00000000-0000-4000-8000-00000000a00' || n)::uuid FROM generate_series(1, 4) n;
INSERT INTO coder.organizations (id, name, display_name, shareable_workspace_owners)
SELECT id, 'property' || n, '', (ARRAY['everyone', 'service_accounts', 'none', 'everyone'])[n]::coder.shareable_workspace_owners FROM org;
CREATE TEMP TABLE grp (n int, id uuid, org uuid);
INSERT INTO grp SELECT n, ('00000000-0000-4000-8000-00000000b00' || n)::uuid, (SELECT id FROM org WHERE org.n = 1 + g.n % 3) FROM generate_series(1, 6) g (n);
INSERT INTO coder.groups (id, name, organization_id) SELECT id, 'property' || n, org FROM grp;

-- Four permissions of any kind; few negations, many wildcards, a few names that nobody knows.
CREATE FUNCTION public.permissions(n int) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
	v jsonb := '[]';
	p record;
BEGIN
	FOR i IN 1 .. floor(random() * 5)::int LOOP
		SELECT * INTO p FROM pair ORDER BY random() LIMIT 1;
		v := v || jsonb_build_object('negate', random() < 0.2,
			'resource_type', CASE WHEN random() < 0.15 THEN '*' ELSE pick(ARRAY[p.type, p.type, 'workspace', 'template', 'user', 'chat'], n) END,
			'action', CASE WHEN random() < 0.25 THEN '*' ELSE pick(ARRAY[p.action, 'read'], n) END);
	END LOOP;
	RETURN v;
END
$$;
INSERT INTO coder.custom_roles (name, display_name, organization_id, site_permissions, user_permissions, org_permissions, member_permissions)
SELECT 'custom' || r, '', NULL, permissions(r), permissions(r), '[]', '[]' FROM generate_series(1, 20) r;
INSERT INTO coder.custom_roles (name, display_name, organization_id, site_permissions, user_permissions, org_permissions, member_permissions)
SELECT 'custom' || r, '', o.id, CASE WHEN r % 4 = 0 THEN permissions(r) ELSE '[]' END, CASE WHEN r % 4 = 1 THEN permissions(r) ELSE '[]' END,
	permissions(r), permissions(r) FROM org o, generate_series(1, 10) r;

CREATE TEMP TABLE scope (name text, type text, action text);
INSERT INTO scope VALUES ('coder:all', '*', '*'), ('coder:application_connect', 'workspace', 'application_connect');
INSERT INTO scope SELECT DISTINCT 'no_user_data', type, '*' FROM pair WHERE type <> 'user';
INSERT INTO scope SELECT 'coder:workspaces.' || s.name, t.type, a FROM (VALUES ('create', 'template', '{read,use}'),
	('create', 'workspace', '{start,stop,create,update,read}'), ('create', 'organization_member', '{read}'), ('operate', 'template', '{read}'),
	('operate', 'workspace', '{start,stop,read,update}'), ('operate', 'organization_member', '{read}'), ('delete', 'template', '{read,use}'),
	('delete', 'workspace', '{read,delete}'), ('delete', 'organization_member', '{read}'), ('access', 'template', '{read}'),
	('access', 'workspace', '{read,ssh,application_connect}'), ('access', 'organization_member', '{read}')) s (name, type, actions),
	LATERAL (SELECT s.type) t, unnest(s.actions::text[]) a;
INSERT INTO scope VALUES ('coder:templates.build', 'template', 'read'), ('coder:templates.build', 'file', 'create'),
	('coder:templates.build', 'file', 'read'), ('coder:templates.build', 'provisioner_jobs', 'read'),
	('coder:templates.author', 'file', 'create'), ('coder:templates.author', 'file', 'read');
INSERT INTO scope SELECT 'coder:templates.author', 'template', unnest('{read,create,update,delete,view_insights}'::text[]);
INSERT INTO scope SELECT 'coder:apikeys.manage_self', 'api_key', unnest('{read,create,update,delete}'::text[]);
INSERT INTO scope SELECT type || ':' || action, type, action FROM pair;
INSERT INTO scope SELECT DISTINCT type || ':*', type, '*' FROM pair;

CREATE TEMP TABLE subject (s int, id uuid, service bool, roles text[], scopes text[], allow text[]);
INSERT INTO subject
SELECT s, ('00000000-0000-4000-8000-' || lpad(s::text, 12, '0'))::uuid, random() < 0.2,
	several('{owner,auditor,template-admin,user-admin,agents-access}', 0.15, s) || several(ARRAY(SELECT 'custom' || r FROM generate_series(1, 20) r), 0.05, s),
	CASE WHEN random() < 0.6 THEN '{coder:all}' ELSE ARRAY[(SELECT name FROM scope WHERE s > 0 ORDER BY random() LIMIT 1),
		(SELECT name FROM scope WHERE s > 0 AND name LIKE ANY (ARRAY['coder:%', '%:*', 'no_user_data']) ORDER BY random() LIMIT 1)] END,
	CASE WHEN random() < 0.7 THEN '{*:*}' ELSE several(ARRAY['workspace:*', 'template:*', 'user:*', 'workspace:', 'chat:*',
		'workspace:00000000-0000-4000-8000-00000000c001', 'template:00000000-0000-4000-8000-00000000c002',
		'*:00000000-0000-4000-8000-00000000c003', 'file:nonsense', 'nonsense:*'], 0.3, s) END
  FROM generate_series(1, :subjects) s;
INSERT INTO coder.users (id, username, email, status, rbac_roles, is_service_account, login_type)
SELECT id, 'property' || s, CASE WHEN service THEN '' ELSE 'property' || s || '@example.com' END, 'active', roles, service,
	CASE WHEN service THEN 'none' ELSE 'password' END::coder.login_type FROM subject;
CREATE TEMP TABLE member AS
SELECT s.s, s.id, o.id AS org, several('{organization-admin,organization-auditor,organization-user-admin,organization-template-admin,organization-workspace-creation-ban}', 0.12, s.s)
	|| several(ARRAY(SELECT 'custom' || r FROM generate_series(1, 10) r), 0.1, s.s) AS roles FROM subject s, org o WHERE random() < 0.4;
INSERT INTO coder.organization_members (user_id, organization_id, roles) SELECT id, org, roles FROM member;
CREATE TEMP TABLE grouped AS SELECT s.s, s.id, g.id AS grp FROM subject s, grp g WHERE random() < 0.25;
INSERT INTO coder.group_members (user_id, group_id) SELECT id, grp FROM grouped;

-- A list of users or groups, in either form; often none.
CREATE FUNCTION public.acl(keys text[], n int) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
	v jsonb := '{}';
	list jsonb;
BEGIN
	IF random() < 0.5 THEN
		RETURN NULL;
	END IF;
	FOR i IN 1 .. floor(random() * 4)::int LOOP
		list := to_jsonb(CASE WHEN random() < 0.2 THEN '{*}' ELSE ARRAY(SELECT action FROM pair WHERE type IN ('workspace', 'template') ORDER BY random() LIMIT 4) END);
		v := v || jsonb_build_object(pick(keys, n), CASE WHEN random() < 0.5 THEN list ELSE jsonb_build_object('permissions', list) END);
	END LOOP;
	RETURN v;
END
$$;

CREATE TEMP TABLE decision AS
SELECT s.s, s.id AS me, d.n, p.type, CASE WHEN random() < 0.05 THEN 'nonsense' WHEN random() < 0.3 THEN 'read' ELSE p.action END AS action,
	CASE WHEN random() < 0.7 THEN pick(ARRAY['00000000-0000-4000-8000-00000000c001', '00000000-0000-4000-8000-00000000c002',
		'00000000-0000-4000-8000-00000000c003', s.id::text], d.n)::uuid END AS id,
	CASE WHEN random() < 0.8 THEN pick(ARRAY[s.id::text, s.id::text, '00000000-0000-4000-8000-000000000001', '00000000-0000-0000-0000-000000000000'], d.n)::uuid END AS owner,
	CASE WHEN random() < 0.7 THEN pick(ARRAY(SELECT o.id::text FROM org o) || '{00000000-0000-0000-0000-000000000000}', d.n)::uuid END AS org,
	random() < 0.1 AS any_org, acl(ARRAY[s.id::text, '00000000-0000-4000-8000-000000000001'], d.n) AS user_acl,
	acl(ARRAY(SELECT o.id::text FROM org o) || ARRAY(SELECT g.id::text FROM grp g), d.n) AS group_acl
  FROM subject s, generate_series(1, :decisions) d (n),
	LATERAL (SELECT CASE WHEN random() < 0.03 THEN 'nonsense' ELSE q.type END AS type, q.action
		FROM (SELECT type, action FROM pair WHERE d.n > 0 OFFSET floor(random() * 153) LIMIT 1) q) p;
-- what can_any does not know: it has neither an id nor lists
UPDATE decision SET org = NULL, id = NULL, user_acl = NULL, group_acl = NULL WHERE any_org;

-- ---- the slow rules ----

-- Every permission of every subject: level, organization, negated, type, action.
CREATE TEMP TABLE had (s int, name text, org uuid, builtin text);
INSERT INTO had SELECT s, 'member', NULL::uuid, 'member' FROM subject
UNION ALL SELECT s, r, NULL::uuid, CASE WHEN r NOT LIKE 'custom%' THEN r END FROM subject, unnest(roles) r
UNION ALL SELECT m.s, r, m.org, CASE WHEN r NOT LIKE 'custom%' THEN r END FROM member m, unnest(m.roles) r
UNION ALL SELECT m.s, 'implied', m.org, CASE WHEN s.service THEN 'organization-service-account/' ELSE 'organization-member/' END || o.shareable_workspace_owners
	FROM member m JOIN subject s USING (s) JOIN coder.organizations o ON o.id = m.org;
CREATE TEMP TABLE perm AS
SELECT h.s, l.level, CASE WHEN l.level IN ('org', 'member') THEN h.org ELSE '00000000-0000-0000-0000-000000000000' END AS org, (p->>'negate')::bool AS negate, p->>'resource_type' AS type, p->>'action' AS action
  FROM had h LEFT JOIN coder.custom_roles c ON h.builtin IS NULL AND c.name = h.name AND c.organization_id IS NOT DISTINCT FROM h.org,
	unnest('{site,user,org,member}'::text[]) l (level),
	jsonb_array_elements(CASE WHEN h.builtin IS NOT NULL THEN coder.role_permissions(h.builtin, l.level)
		ELSE CASE l.level WHEN 'site' THEN c.site_permissions WHEN 'user' THEN c.user_permissions WHEN 'org' THEN c.org_permissions ELSE c.member_permissions END END) p;
CREATE INDEX ON perm (s, level, org, type, action) INCLUDE (negate);
CREATE INDEX ON member (s);
CREATE INDEX ON grouped (s);
CREATE INDEX ON scope (name);
ANALYZE perm, member, grouped, scope, subject, decision;

-- -1, 0 or 1 of these permissions.
CREATE FUNCTION public.vote(sub int, lev text, o uuid, t text, a text) RETURNS int LANGUAGE plpgsql STABLE AS $$
BEGIN
	RETURN (SELECT CASE WHEN bool_or(p.negate) THEN -1 WHEN count(*) > 0 THEN 1 ELSE 0 END
		FROM perm p WHERE p.s = sub AND p.level = lev AND p.org = coalesce(o, '00000000-0000-0000-0000-000000000000') AND p.type IN (t, '*') AND p.action IN (a, '*'));
END
$$;
-- Does one entry of a list of users or groups hold the action?
CREATE FUNCTION public.holds(list jsonb, key text, a text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	RETURN coalesce(CASE WHEN jsonb_typeof(list->key) = 'object' THEN list->key->'permissions' ELSE list->key END ?| ARRAY[a, '*'], false);
END
$$;

CREATE FUNCTION public.slow(d decision) RETURNS bool LANGUAGE plpgsql STABLE AS $$
DECLARE
	site int := vote(d.s, 'site', NULL, d.type, d.action);
	usr int := 0;
	org int := 0;
	mem int := 0;
	own bool := coalesce(d.owner = d.me, false);
	inside bool := EXISTS (SELECT FROM member m WHERE m.s = d.s AND (d.any_org OR m.org = d.org));
	granted bool;
BEGIN
	IF own AND d.org IS NULL AND NOT d.any_org THEN
		usr := vote(d.s, 'user', NULL, d.type, d.action);
	END IF;
	SELECT coalesce(max(vote(d.s, 'org', m.org, d.type, d.action)), 0), coalesce(max(vote(d.s, 'member', m.org, d.type, d.action)) FILTER (WHERE own), 0)
	  INTO org, mem FROM member m WHERE m.s = d.s AND (d.any_org OR m.org = d.org);
	granted := CASE WHEN site <> 0 THEN site > 0 WHEN usr > 0 THEN true WHEN org <> 0 THEN org > 0 ELSE mem > 0 END;
	granted := granted OR holds(d.user_acl, d.me::text, d.action)
		OR (inside AND holds(d.group_acl, d.org::text, d.action))
		OR (inside AND EXISTS (SELECT FROM grouped g WHERE g.s = d.s AND holds(d.group_acl, g.grp::text, d.action)));
	RETURN granted
		AND EXISTS (SELECT FROM subject s, unnest(s.scopes) x JOIN scope c ON c.name = x
			WHERE s.s = d.s AND c.type IN (d.type, '*') AND c.action IN (d.action, '*'))
		AND EXISTS (SELECT FROM subject s, unnest(s.allow) e WHERE s.s = d.s AND split_part(e, ':', 1) IN (d.type, '*')
			AND split_part(e, ':', 1) <> 'nonsense'	-- an entry of no known type allows nothing
			AND (split_part(e, ':', 2) = '*' OR split_part(e, ':', 2) = coalesce(d.id::text, '')));
END
$$;

-- ---- the same decisions by both ----

CREATE TEMP TABLE fast (s int, n int, allowed bool);
DO $$
DECLARE
	x record;
BEGIN
	FOR x IN SELECT * FROM subject LOOP
		PERFORM coder.set_subject(x.id, x.scopes, x.allow);
		INSERT INTO fast SELECT d.s, d.n, CASE WHEN d.any_org THEN coder.can_any(d.action, d.type, d.owner)
			ELSE coder.can(d.action, d.type, d.org, d.owner, d.user_acl, d.group_acl, d.id) END FROM decision d WHERE d.s = x.s;
	END LOOP;
	PERFORM coder.set_subject(NULL);
END
$$;
CREATE TEMP TABLE both_ways AS SELECT d.*, f.allowed, slow(d) AS slow FROM decision d JOIN fast f USING (s, n);
SELECT is(count(*)::int, :subjects * :decisions, format('%s decisions, %s of them yes', count(*), count(*) FILTER (WHERE allowed))) FROM both_ways;
SELECT is(count(*) FILTER (WHERE allowed <> slow)::int, 0, 'the compiled rules and the slow ones agree') FROM both_ways;
SELECT diag(to_jsonb(b)::text) FROM both_ways b WHERE b.allowed <> b.slow LIMIT 3;
SELECT ok(count(*) FILTER (WHERE allowed) BETWEEN count(*) / 20 AND count(*) * 19 / 20, 'neither answer is rare') FROM both_ways;

-- ---- lists: both forms of the filter against each row's decision ----

CREATE TEMP TABLE object AS
SELECT n, CASE WHEN random() < 0.9 THEN pick(ARRAY['00000000-0000-4000-8000-00000000c001', '00000000-0000-4000-8000-00000000c002', '00000000-0000-4000-8000-00000000c003'], n)
		ELSE gen_random_uuid()::text END::uuid AS id,
	CASE WHEN random() < 0.8 THEN ('00000000-0000-4000-8000-' || lpad((1 + n % 20)::text, 12, '0'))::uuid END AS owner,
	CASE WHEN random() < 0.9 THEN pick(ARRAY(SELECT o.id::text FROM org o), n)::uuid END AS org,
	coalesce(acl(ARRAY(SELECT s.id::text FROM subject s WHERE s.s <= 20), n), '{}') AS user_acl,
	coalesce(acl(ARRAY(SELECT o.id::text FROM org o) || ARRAY(SELECT g.id::text FROM grp g), n), '{}') AS group_acl
  FROM generate_series(1, 200) n;
CREATE TEMP TABLE listed (s int, type text, how text, rows int[]);
DO $$
DECLARE
	x record;
	t text;
	rows int[];
BEGIN
	FOR x IN SELECT * FROM subject WHERE s <= 60 LOOP
		PERFORM coder.set_subject(x.id, x.scopes, x.allow);
		FOREACH t IN ARRAY '{workspace,template,audit_log,chat,user,nonsense}'::text[] LOOP
			INSERT INTO listed SELECT x.s, t, 'row by row', array_agg(o.n ORDER BY o.n) FROM object o
			 WHERE coder.can('read', t, o.org, o.owner, o.user_acl, o.group_acl, o.id);
			INSERT INTO listed SELECT x.s, t, 'arrays', array_agg(o.n ORDER BY o.n) FROM coder.filter('read', t) f, object o
			 WHERE (f.everything OR o.org = ANY (f.orgs) OR (o.owner = f.subject AND o.org = ANY (f.owned))
				OR (f.own AND o.owner = f.subject AND o.org IS NULL)
				OR ((o.user_acl ? f.subject::text OR (o.org = ANY (f.members) AND o.group_acl ?| f.acl_keys))
					AND coder.acl_can('read', t, o.org, o.user_acl, o.group_acl, o.id)))
			   AND (f.ids IS NULL OR o.id = ANY (f.ids));
			EXECUTE 'SELECT array_agg(o.n ORDER BY o.n) FROM object o WHERE '
				|| coder.filter_sql('read', t, 'o.org', 'o.owner', 'o.id', 'o.user_acl', 'o.group_acl') INTO rows;
			INSERT INTO listed VALUES (x.s, t, 'text', rows);
		END LOOP;
	END LOOP;
	PERFORM coder.set_subject(NULL);
END
$$;
SELECT is(count(*)::int, 0, 'lists by arrays and by text are what row by row gives') FROM listed a JOIN listed b USING (s, type)
 WHERE a.how = 'row by row' AND b.rows IS DISTINCT FROM a.rows;
SELECT cmp_ok(count(DISTINCT rows)::int, '>', 30, 'and they differ') FROM listed;
SELECT * FROM finish();
ROLLBACK;
