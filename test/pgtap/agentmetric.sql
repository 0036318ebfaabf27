-- Metrics of agents: what they report is checked, added up by the labels that are wanted, and gone when it is old.
BEGIN;
SELECT no_plan();
\i api.psql
\set n 6
\i workspaces.psql
SET LOCAL session_replication_role = origin;
UPDATE coder.workspace_agents SET last_connected_at = now(), disconnected_at = NULL;
CREATE FUNCTION pg_temp.lines(at timestamptz, prefix text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT l FROM coder.metrics_agent_stats(at) m, LATERAL regexp_split_to_table(m, E'\n') l WHERE starts_with(l, prefix)
$$;
CREATE FUNCTION pg_temp.line(prefix text) RETURNS text LANGUAGE sql AS $$ SELECT coalesce(string_agg(l, ' ' ORDER BY l COLLATE "C"), '') FROM pg_temp.lines(clock_timestamp(), prefix) l $$;
CREATE FUNCTION pg_temp.report(i int, metrics text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT coder.agent_rpc(pg_temp.id('agent', i), 'UpdateStats', jsonb_build_object('stats', jsonb_build_object('metrics', metrics::jsonb)))
$$;
CREATE FUNCTION pg_temp.refused(reason text) RETURNS bigint LANGUAGE sql AS $$ SELECT coalesce(sum(items), 0)::bigint FROM coder.stat_timers() WHERE name = 'refused ' || reason $$;
CREATE FUNCTION pg_temp.want(name text, value text) RETURNS void LANGUAGE sql AS $$
	INSERT INTO coder.settings (name, value) VALUES (name, value) ON CONFLICT (name) DO UPDATE SET value = excluded.value
$$;

SELECT pg_temp.report(0, '[{"name": "agent_x_total", "type": "COUNTER", "value": 1}]');
SELECT is((SELECT count(*) FROM coder.workspace_agent_metrics), 0::bigint, 'nobody wants them: they are not kept');
SELECT is((SELECT count(*) FROM coder.metrics_agent_stats()), 0::bigint, 'nor shown');
SELECT pg_temp.want('prometheus_collect_agent_stats', 'true');

-- M6: aggregated.
SELECT is(coder.agent_metrics_by(), '{agent_name,template_name,username,workspace_name}', 'without a setting all labels');
SELECT pg_temp.report(0, '[{"name": "agent_x_total", "type": "COUNTER", "value": 1, "labels": [{"name": "b", "value": "q\"\\\nx"}, {"name": "a", "value": ""}]}]');
SELECT pg_temp.report(1, '[{"name": "agent_x_total", "type": "COUNTER", "value": 7, "labels": [{"name": "b", "value": "q\"\\\nx"}]}, {"name": "agent_y", "type": "GAUGE", "value": 0.5}]');
SELECT is(pg_temp.line('agent_x_total'), E'agent_x_total{b="q\\"\\\\\\nx",username="member0",agent_name="main",template_name="template-0",workspace_name="workspace-0"} 1 '
	'agent_x_total{b="q\\"\\\\\\nx",username="member0",agent_name="main",template_name="template-1",workspace_name="workspace-1"} 7', 'by all labels, escaped, empty ones left out');
SELECT pg_temp.want('prometheus_aggregate_agent_stats_by', 'agent_name, nonsense');
SELECT is(pg_temp.line('agent_x_total'), E'agent_x_total{b="q\\"\\\\\\nx",agent_name="main"} 8', 'M6: by the name of the agent: one series of 8');
SELECT is(pg_temp.line('agent_y'), 'agent_y{agent_name="main"} 0.5', 'another family');
SELECT is(pg_temp.line('# TYPE agent_'), '# TYPE agent_x_total counter # TYPE agent_y gauge', 'each with its type');
SELECT pg_temp.want('prometheus_aggregate_agent_stats_by', 'template_name');
SELECT is(pg_temp.line('agent_y'), 'agent_y{template_name="template-1"} 0.5', 'by template');
SELECT is(pg_temp.line('coderd_prometheusmetrics_metrics_aggregator_store_size '), 'coderd_prometheusmetrics_metrics_aggregator_store_size 3', 'what is kept');

-- M7: a report replaces; what is old is gone.
SELECT pg_temp.report(1, '[]');
SELECT is(pg_temp.line('agent_y'), '', 'what is not reported again is gone');
SELECT is((SELECT count(*) FROM pg_temp.lines(clock_timestamp() + interval '110 s', 'agent_x_total')), 1::bigint, 'two minutes');
SELECT is((SELECT count(*) FROM pg_temp.lines(clock_timestamp() + interval '130 s', 'agent_x_total')), 0::bigint, 'M7: then it is gone');

-- Bad reports: refused, counted, never half.
SELECT pg_temp.refused('name') AS name, pg_temp.refused('type') AS type, pg_temp.refused('value') AS value, pg_temp.refused('label') AS label, pg_temp.refused('number') AS number \gset
SELECT pg_temp.report(2, '[{"name": "a b", "type": "GAUGE", "value": 1}, {"name": "9x", "type": "GAUGE", "value": 1}, {"type": "GAUGE"}, {"name": "coderd_agents_up", "type": "GAUGE", "value": 99},
	{"name": "coder_db_size_bytes", "type": "GAUGE", "value": 99}, {"name": "up", "type": "GAUGE", "value": 0}, {"name": "x\nup 0", "type": "GAUGE", "value": 1},
	{"name": "good", "type": "GAUGE", "value": 3}]');
SELECT is(pg_temp.refused('name') - :name, 7::bigint, 'names that are none, and ours');
SELECT is(pg_temp.line('good'), 'good{template_name="template-2"} 3', 'the good one of the report is kept');
SELECT pg_temp.report(2, '[{"name": "a", "type": "HISTOGRAM", "value": 1}, {"name": "a", "value": 1}, {"name": "b", "type": "GAUGE", "value": "1"}, {"name": "b", "type": "GAUGE", "value": {}}]');
SELECT is(pg_temp.refused('type') - :type, 2::bigint, 'types');
SELECT is(pg_temp.refused('value') - :value, 2::bigint, 'values');
SELECT pg_temp.report(2, '[{"name": "a", "type": "GAUGE", "labels": [{"name": "le", "value": "1"}]}, {"name": "a", "type": "GAUGE", "labels": [{"name": "username", "value": "root"}]},
	{"name": "a", "type": "GAUGE", "labels": [{"name": "x y", "value": "1"}]}, {"name": "a", "type": "GAUGE", "labels": [{"name": "x", "value": "1"}, {"name": "x", "value": "2"}]},
	{"name": "a", "type": "GAUGE", "labels": [{"name": "__name__", "value": "1"}]}, {"name": "a", "type": "GAUGE", "labels": [{"value": "1"}]}, "text", 5, null]');
SELECT is(pg_temp.refused('label') - :label, 6::bigint, 'labels');
SELECT is(coder.agent_metric_problem(jsonb_build_object('name', 'a', 'type', 'GAUGE', 'labels', jsonb_build_array(jsonb_build_object('name', 'x', 'value', repeat('x', 257))))), 'label', 'a long one');
SELECT lives_ok($$SELECT pg_temp.report(2, (SELECT jsonb_agg(jsonb_build_object('name', 'm' || i, 'type', 'GAUGE', 'value', i)) FROM generate_series(1, 10000) i)::text)$$, 'ten thousand series in a report');
SELECT is((SELECT jsonb_array_length(metrics) FROM coder.workspace_agent_metrics WHERE agent_id = pg_temp.id('agent', 2)), 200, 'two hundred are kept');
SELECT is(pg_temp.refused('number') - :number, 9800::bigint, 'the others are counted');
SELECT lives_ok(format('SELECT pg_temp.report(2, %L)', m), 'nonsense: ' || m) FROM (VALUES ('null'), ('5'), ('"text"'), ('{}')) v (m);
SELECT pg_temp.report(3, '[{"name": "agent_x_total", "type": "GAUGE", "value": 5}]');
SELECT is((SELECT count(*) FROM pg_temp.lines(clock_timestamp(), '# TYPE agent_x_total')), 1::bigint, 'two agents that disagree about a type: one family');
SELECT is((SELECT count(*) - count(DISTINCT substring(l FROM '^.* ')) FROM coder.metrics_agent_stats() m, regexp_split_to_table(m, E'\n') l WHERE l <> '' AND l !~ '^#'), 0::bigint, 'no series comes twice');

-- M5: samples.
SELECT pg_temp.want('prometheus_aggregate_agent_stats_by', '');
SET LOCAL session_replication_role = replica;
INSERT INTO coder.workspace_agent_stats (created_at, user_id, agent_id, workspace_id, template_id, tx_bytes, rx_bytes, connection_count, connection_median_latency_ms, session_count_ssh)
SELECT now() - (3 - i) * interval '10 s', pg_temp.id('user', 0), pg_temp.id('agent', a), pg_temp.id('workspace', a), pg_temp.id('template', a), 1 + i, 2 + i, 4 + i, 8000, i
  FROM generate_series(0, 2) a, generate_series(0, 2) i;
INSERT INTO coder.workspace_agent_stats (created_at, user_id, agent_id, workspace_id, template_id, tx_bytes)
SELECT now() - interval '90 s', pg_temp.id('user', 0), pg_temp.id('agent', 0), pg_temp.id('workspace', 0), pg_temp.id('template', 0), 1000;
SET LOCAL session_replication_role = origin;
SELECT is((SELECT count(*) FROM pg_temp.lines(now(), 'coderd_agentstats_tx_bytes{') l WHERE l ~ ' 6$'), 3::bigint, 'M5: bytes sent');
SELECT is((SELECT count(*) FROM pg_temp.lines(now(), 'coderd_agentstats_rx_bytes{') l WHERE l ~ ' 9$'), 3::bigint, 'M5: and received');
SELECT is((SELECT string_agg(l, '') FROM pg_temp.lines(now(), 'coderd_agentstats_connection_count{agent_name="main",username="member0",workspace_name="workspace-1"}') l),
	'coderd_agentstats_connection_count{agent_name="main",username="member0",workspace_name="workspace-1"} 6', 'M5: connections of the last report');
SELECT is((SELECT count(*) FROM pg_temp.lines(now(), 'coderd_agentstats_connection_median_latency_seconds{') l WHERE l ~ ' 8$'), 3::bigint, 'M5: latency');
SELECT is((SELECT count(*) FROM pg_temp.lines(now(), 'coderd_agentstats_session_count_ssh{') l WHERE l ~ ' 2$'), 3::bigint, 'M5: sessions of the last report');
SELECT pg_temp.want('prometheus_aggregate_agent_stats_by', 'template_name');
SELECT is((SELECT string_agg(l, '') FROM pg_temp.lines(now(), 'coderd_agentstats_tx_bytes') l), 'coderd_agentstats_tx_bytes 18', 'never by template: one series');
SELECT * FROM finish();
ROLLBACK;
