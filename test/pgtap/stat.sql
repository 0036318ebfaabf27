-- What runs: counters and times in shared memory, their views, and purges in batches.
BEGIN;
SELECT no_plan();
\i api.psql
\set n 4
\i workspaces.psql
SET LOCAL session_replication_role = origin;

-- Times.
SELECT is(coder.stat_took('test step', clock_timestamp() - interval '1.5 s', 7), 7::bigint, 'what took time answers its items');
SELECT is(coder.stat_took('test step', clock_timestamp() + interval '1 h', 1), 1::bigint, 'a clock that went back measures 0');
SELECT results_eq('SELECT runs, failed, items, total_seconds BETWEEN 1.5 AND 3, longest_seconds BETWEEN 1.5 AND 3, last_seconds FROM coder.stat_tick WHERE step = ''test step''',
	'SELECT 2::bigint, 0::bigint, 8::bigint, true, true, 0::float8', 'coder.stat_tick');
SELECT is((SELECT sum(b) FROM coder.stat_timers() t, unnest(t.buckets) b WHERE t.name = 'test step'), 2::numeric, 'each is in one bucket');
SELECT is(coder.stat_rebucket('{1,2,3}', '{1,10,100,1000}', '{2}'), '{11,1100}'::bigint[], 'fewer borders: up to 2, and above');
SELECT is(coder.stat_rebucket('{1,2,3}', '{1,10,100,1000}', '{1,2,3}'), '{1,10,100,1000}'::bigint[], 'the same borders');
SELECT is(coder.stat_rebucket('{1,2}', '{1,10,100}', '{}'), '{111}'::bigint[], 'none');

-- Counters.
CREATE FUNCTION pg_temp.counted(what text) RETURNS bigint LANGUAGE sql AS $$ SELECT count FROM coder.stat_counters() WHERE name = what $$;
SELECT token_of('boss', '{owner}') AS token \gset
SELECT pg_temp.counted('subject_hit') AS hit, pg_temp.counted('allowed') AS allowed, pg_temp.counted('request') AS request \gset
SELECT status FROM api('GET', '/api/v2/users/me', NULL, :'token');
SELECT status FROM api('GET', '/api/v2/users', NULL, :'token');
SELECT ok(pg_temp.counted('request') >= :request + 2, 'requests are counted');
SELECT ok((SELECT hits IS NOT NULL AND misses IS NOT NULL FROM coder.stat_cache WHERE cache = 'subject'), 'coder.stat_cache');
SELECT coder.set_subject((SELECT id FROM coder.users WHERE username = 'boss'));
SELECT coder.can('read', 'workspace');
SELECT ok(pg_temp.counted('allowed') > :allowed, 'decisions too');

SET LOCAL ROLE coder_auditor;
SELECT ok((SELECT count(*) FROM coder.stat_tick) > 0, 'an auditor sees stat_tick');
SELECT ok((SELECT count(*) FROM coder.stat_cache) = 3, 'and stat_cache');
SELECT throws_ok('SELECT coder.stat_took(''x'', now())', '42501', NULL, 'and writes nothing');
SELECT throws_ok('SELECT coder.metrics()', '42501', NULL, 'metrics name everybody: not for them');
SET LOCAL ROLE coder_user;
SELECT throws_ok('SELECT * FROM coder.stat_tick', '42501', NULL, 'a user sees neither');
RESET ROLE;

-- Gateways, agents, chats.
SELECT coder.gateway_report('11111111-0000-0000-0000-000000000001', now() - interval '1 h', '{"hostname": "a", "pid": 7, "requests": 5, "cpu_seconds": 1.5}');
SELECT coder.gateway_report('11111111-0000-0000-0000-000000000001', now(), '{"hostname": "a", "pid": 7, "requests": 6}');
INSERT INTO coder.gateway_stats VALUES ('11111111-0000-0000-0000-000000000002', now(), now() - interval '40 s', '{"hostname": "b"}'), ('11111111-0000-0000-0000-000000000003', now(), now() - interval '25 h', '{}');
SELECT coder.gateway_report('11111111-0000-0000-0000-000000000004', now(), '{}');
SELECT results_eq('SELECT hostname, pid, requests, alive, started_at < now() FROM coder.stat_gateway ORDER BY id', $$VALUES ('a', 7, 6::bigint, true, true), ('b', NULL, NULL, false, false), (NULL, NULL, NULL, true, false)$$,
	'coder.stat_gateway: one row each, the last word counts, who is silent is not alive, who is for a day is gone');
INSERT INTO coder.replicas (id, hostname, version) VALUES ('11111111-0000-0000-0000-000000000001', 'a', 'v');
SELECT is(alive, true, 'one that beats, too, is alive') FROM coder.stat_gateway WHERE hostname = 'a';
SELECT coder.gateway_stop('11111111-0000-0000-0000-000000000001');
SELECT is(alive, false, 'who said that it stops is not') FROM coder.stat_gateway WHERE hostname = 'a';
SET LOCAL session_replication_role = replica;
UPDATE coder.workspace_agents SET last_connected_at = now(), first_connected_at = created_at + interval '45 s' WHERE id = pg_temp.id('agent', 0);
INSERT INTO coder.workspace_agent_stats (created_at, user_id, agent_id, workspace_id, template_id, connection_count, session_count_ssh)
SELECT now() - i * interval '30 s', pg_temp.id('user', 0), pg_temp.id('agent', 0), pg_temp.id('workspace', 0), pg_temp.id('template', 0), 10 - i, i FROM generate_series(1, 3) i;
SET LOCAL session_replication_role = origin;
SELECT results_eq('SELECT status, first_connection_seconds, connections, ssh, owner FROM coder.stat_agent WHERE workspace = ''workspace-0''', $$VALUES ('connected', 45::float8, 9::bigint, 1::bigint, 'member0')$$, 'coder.stat_agent: the last sample');
SELECT is((SELECT count(*) FROM coder.stat_agent), (SELECT count(*) FROM coder.metric_agents), 'as many as the metrics have');
DELETE FROM coder.workspace_agent_stats;
INSERT INTO coder.chat_providers (provider) VALUES ('anthropic') ON CONFLICT DO NOTHING;
INSERT INTO coder.chat_model_configs (id, provider, model, context_limit, compression_threshold) VALUES ('22222222-0000-0000-0000-000000000001', 'anthropic', 'm-1', 1000, 70);
INSERT INTO coder.chats (id, owner_id, organization_id, last_model_config_id) SELECT '22222222-0000-0000-0000-000000000002', u.id, (SELECT id FROM coder.organizations WHERE is_default), '22222222-0000-0000-0000-000000000001' FROM coder.users u WHERE username = 'boss';
INSERT INTO coder.chat_messages (chat_id, role, content, input_tokens, output_tokens, total_cost_micros) VALUES
	('22222222-0000-0000-0000-000000000002', 'user', '[]', NULL, NULL, NULL), ('22222222-0000-0000-0000-000000000002', 'assistant', '[]', 100, 20, 7), ('22222222-0000-0000-0000-000000000002', 'assistant', '[]', 10, 2, 1);
SELECT results_eq('SELECT owner, model, messages, turns, input_tokens, output_tokens, cost_micros, queued FROM coder.stat_chat', $$VALUES ('boss', 'm-1', 3::bigint, 2::bigint, 110::numeric, 22::numeric, 8::numeric, 0::bigint)$$, 'coder.stat_chat');

SET LOCAL ROLE coder_auditor;
SELECT is((SELECT count(*) FROM coder.stat_gateway), 3::bigint, 'an auditor sees gateways');
SELECT throws_ok('SELECT * FROM coder.stat_agent', '42501', NULL, 'but not agents');
SELECT throws_ok('SELECT * FROM coder.gateway_stats', '42501', NULL, 'nor the table');
SET LOCAL ROLE coder_admin;
SELECT ok((SELECT count(*) FROM coder.stat_agent) > 0, 'an administrator sees agents');
SELECT ok((SELECT count(*) FROM coder.stat_chat) > 0, 'and chats');
RESET ROLE;

-- Metrics of them.
CREATE TEMP TABLE page AS SELECT string_agg(m, '') AS t FROM coder.metrics_work() m;
SELECT ok(t ~ E'\ncoder_cache_lookups_total\\{cache="subject",result="hit"\\} [0-9]+\n', 'lookups') FROM page;
SELECT ok(t ~ E'\ncoder_authz_decisions_total\\{allowed="true"\\} [1-9]', 'decisions') FROM page;
SELECT throws_ok($$SELECT coder.metric('m', 'histogram', 'h', 'SELECT 1::float8, ''{1,2,3}''::bigint[]', now(), '{1}')$$, '2202E', NULL, 'counts that do not fit their borders are refused');
SELECT is(coder.metric('m', 'histogram', 'h', 'SELECT ''a'' AS l, 5::float8, ''{1,2}''::bigint[]', now(), '{1}'),
	E'# HELP m h\n# TYPE m histogram\nm_bucket{l="a",le="1"} 1\nm_bucket{l="a",le="+Inf"} 3\nm_sum{l="a"} 5\nm_count{l="a"} 3\n', 'counts become a histogram');

-- Purges: batches, what is locked is passed over, the next tick goes on.
SET LOCAL session_replication_role = replica;
INSERT INTO coder.workspace_agent_stats (created_at, user_id, agent_id, workspace_id, template_id)
SELECT now() - interval '200 days' + i * interval '1 s', pg_temp.id('user', 0), pg_temp.id('agent', 0), pg_temp.id('workspace', 0), pg_temp.id('template', 0) FROM generate_series(1, 25) i;
INSERT INTO coder.workspace_agent_stats (created_at, user_id, agent_id, workspace_id, template_id)
SELECT now() - interval '100 days', pg_temp.id('user', 0), pg_temp.id('agent', 0), pg_temp.id('workspace', 0), pg_temp.id('template', 0) FROM generate_series(1, 5) i;
SET LOCAL session_replication_role = origin;
INSERT INTO coder.settings (name, value) VALUES ('purge_batch', '10') ON CONFLICT (name) DO UPDATE SET value = excluded.value;
DELETE FROM coder.template_usage_stats;
SELECT is(coder.purge_stats_before(now()), now() - interval '180 days', 'without half hours that were counted: 180 days');
SELECT coder.tick_due('purge', '0', now());
SELECT coder.tick_purge(now());
SELECT is((SELECT count(*) FROM coder.workspace_agent_stats), 20::bigint, 'a batch of ten');
SELECT ok((SELECT last_at <= now() - interval '10 minutes' FROM coder.tick_state WHERE name = 'purge'), 'was full: the purge is due again');
SELECT coder.tick_purge(now()), coder.tick_due('purge', '0', now());
SELECT coder.tick_purge(now());
SELECT is((SELECT count(*) FROM coder.workspace_agent_stats), 5::bigint, 'and again');
SELECT ok((SELECT last_at = now() FROM coder.tick_state WHERE name = 'purge'), 'then there was less than a batch');
INSERT INTO coder.template_usage_stats (start_time, end_time, template_id, user_id, usage_mins, ssh_mins, sftp_mins, reconnecting_pty_mins, vscode_mins, jetbrains_mins)
VALUES (now() - interval '1 h', now() - interval '30 min', pg_temp.id('template', 0), pg_temp.id('user', 0), 1, 0, 0, 0, 0, 0);
SELECT is(coder.purge_stats_before(now()), now() - interval '25 h', 'counted half hours: a day before the newest');
SELECT coder.tick_purge(now());
SELECT is((SELECT count(*) FROM coder.workspace_agent_stats), 0::bigint, 'what was counted goes');
SELECT is((SELECT items FROM coder.stat_timers() WHERE name = 'purge workspace_agent_stats') >= 30, true, 'by kind of record');

-- Lines of agents: not of the latest build, not of an agent that was heard of.
SET LOCAL session_replication_role = replica;
INSERT INTO coder.workspace_agent_logs (agent_id, created_at, output)
SELECT pg_temp.id('agent', a), now() - interval '30 days', 'line' FROM generate_series(0, 2) a, generate_series(1, 6);
UPDATE coder.workspaces SET latest_build_id = gen_random_uuid() WHERE id IN (pg_temp.id('workspace', 0), pg_temp.id('workspace', 1), pg_temp.id('workspace', 3));
UPDATE coder.workspace_agents SET last_connected_at = now() - interval '1 day' WHERE id = pg_temp.id('agent', 1);
UPDATE coder.workspace_agents SET last_connected_at = now() - interval '8 days' WHERE id = pg_temp.id('agent', 0);
SET LOCAL session_replication_role = origin;
SELECT is(coder.purge_agent_logs(now() - interval '7 days'), 6, 'lines of the agent that is gone for long');
SELECT results_eq('SELECT agent_id FROM coder.workspace_agent_logs GROUP BY 1 ORDER BY 1', 'SELECT pg_temp.id(''agent'', a) FROM generate_series(1, 2) a ORDER BY 1', 'only those');
SELECT is(coder.stat_count('chat_hit', 5), 5::bigint, 'what another process counted');
SELECT cmp_ok((SELECT count FROM coder.stat_counters() WHERE name = 'chat_hit'), '>=', 5::bigint, 'is added');
SELECT throws_ok($$SELECT coder.stat_count('chat_hit', -1)$$, '22023', NULL, 'a counter does not fall');
SELECT throws_ok($$SELECT coder.stat_count('nothing', 1)$$, '42704', NULL, 'nor is there any other');
SELECT * FROM finish();
ROLLBACK;
