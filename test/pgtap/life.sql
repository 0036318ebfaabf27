-- Signs of life of agents, many in one statement: each has its own answer, the order counts, who has come to another gateway is not gone.
BEGIN;
SELECT no_plan();
\i api.psql
\set n 8
\i workspaces.psql
SET LOCAL session_replication_role = origin;
\set a '''00000000-0000-4000-9000-00000000000a'''
\set b '''00000000-0000-4000-9000-00000000000b'''
UPDATE coder.workspace_agents SET first_connected_at = NULL, last_connected_at = NULL, disconnected_at = NULL, last_connected_replica_id = NULL, connection_timeout_seconds = 0;

CREATE FUNCTION pg_temp.sign(agent uuid, is_now text, gateway text DEFAULT NULL) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('agent', agent, 'request', jsonb_build_object('is', is_now, 'gateway', gateway))
$$;
CREATE FUNCTION pg_temp.life(VARIADIC signs jsonb[]) RETURNS text LANGUAGE sql AS $$ SELECT coder.agents_life(to_jsonb(signs)) $$;
CREATE FUNCTION pg_temp.status(n int, at timestamptz DEFAULT clock_timestamp()) RETURNS text LANGUAGE sql AS $$
	SELECT coder.agent_status(a, at) FROM coder.workspace_agents a WHERE a.id = pg_temp.id('agent', n)
$$;
CREATE FUNCTION pg_temp.told(n int) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM coder.events e WHERE e.channel LIKE 'workspace:%' AND e.payload::jsonb ->> 'kind' = 'agt_connection_update' AND e.payload::jsonb ->> 'agent_id' = pg_temp.id('agent', n)::text
$$;

SELECT is(coder.agents_life('[]'), '[]', 'no signs');
SELECT is(pg_temp.status(0), 'connecting', 'an agent that was never here');
SELECT is(pg_temp.life(pg_temp.sign(pg_temp.id('agent', 0), 'here', :a), pg_temp.sign(gen_random_uuid(), 'beat', :a), pg_temp.sign(pg_temp.id('agent', 1), 'here', :a)),
	'[{},{"over":true},{}]', 'each has its answer, in their order; an agent that there is not is over');
SELECT is(pg_temp.status(0) || ' ' || pg_temp.status(1), 'connected connected', 'those that came are connected');
SELECT is((SELECT last_connected_replica_id FROM coder.workspace_agents WHERE id = pg_temp.id('agent', 0)), :a::uuid, 'to that gateway');
SELECT is((SELECT count(*) FROM coder.workspace_agents WHERE first_connected_at IS NOT NULL), 2::bigint, 'nobody else');
SELECT is(pg_temp.told(0), 1::bigint, 'watchers hear of it');
SELECT pg_temp.life(pg_temp.sign(pg_temp.id('agent', 0), 'beat', :a));
SELECT is(pg_temp.told(0), 1::bigint, 'not of a beat, which changes nothing');

-- A lost sign is made good.
SELECT is(pg_temp.life(pg_temp.sign(pg_temp.id('agent', 2), 'beat', :a)), '[{}]', 'an agent whose coming was lost');
SELECT is(pg_temp.status(2), 'connected', 'is connected by its next beat');
SELECT is(pg_temp.told(2), 1::bigint, 'and watchers hear of it');
UPDATE coder.workspace_agents SET last_connected_at = clock_timestamp() - interval '31 s' WHERE id = pg_temp.id('agent', 2);
SELECT is(pg_temp.status(2), 'disconnected', 'one that fell silent');
SELECT pg_temp.life(pg_temp.sign(pg_temp.id('agent', 2), 'beat', :a));
SELECT is(pg_temp.status(2) || ' ' || pg_temp.told(2), 'connected 2', 'is back with its next beat, and watchers hear of it');

-- Order.
SELECT is(pg_temp.life(pg_temp.sign(pg_temp.id('agent', 3), 'here', :a), pg_temp.sign(pg_temp.id('agent', 3), 'gone', :a)), '[{},{}]', 'one that came and went');
SELECT is(pg_temp.status(3), 'disconnected', 'is gone');
SELECT pg_temp.life(pg_temp.sign(pg_temp.id('agent', 3), 'gone', :a), pg_temp.sign(pg_temp.id('agent', 3), 'here', :a));
SELECT is(pg_temp.status(3), 'connected', 'one that went and came is here');
SELECT is((SELECT first_connected_at IS NOT NULL FROM coder.workspace_agents WHERE id = pg_temp.id('agent', 3)), true, 'and had been here');
SELECT is(pg_temp.life(pg_temp.sign(pg_temp.id('agent', 3), 'gone', :a)), '[{}]', 'a connection that ends');
SELECT is(pg_temp.status(3), 'disconnected', 'is gone at once');
SELECT is((SELECT disconnected_at >= last_connected_at FROM coder.workspace_agents WHERE id = pg_temp.id('agent', 3)), true, 'since then');

-- Two gateways.
INSERT INTO coder.workspace_agent_nodes (agent_id, node) VALUES (pg_temp.id('agent', 0), '{}') ON CONFLICT (agent_id) DO UPDATE SET node = '{}';
SELECT pg_temp.life(pg_temp.sign(pg_temp.id('agent', 0), 'here', :b));
SELECT is(pg_temp.life(pg_temp.sign(pg_temp.id('agent', 0), 'gone', :a)), '[{}]', 'an agent came to another gateway before the first had noticed that it left');
SELECT is(pg_temp.status(0), 'connected', 'it is not called gone for that');
SELECT is((SELECT count(*) FROM coder.workspace_agent_nodes WHERE agent_id = pg_temp.id('agent', 0)), 1::bigint, 'nor its node forgotten');
SELECT pg_temp.life(pg_temp.sign(pg_temp.id('agent', 0), 'gone', :b));
SELECT is(pg_temp.status(0), 'disconnected', 'but when it leaves that one');
SELECT is((SELECT count(*) FROM coder.workspace_agent_nodes WHERE agent_id = pg_temp.id('agent', 0)), 0::bigint, 'with its node');
UPDATE coder.workspace_agents SET last_connected_at = clock_timestamp() + interval '1 day', disconnected_at = NULL WHERE id = pg_temp.id('agent', 1);
SELECT pg_temp.life(pg_temp.sign(pg_temp.id('agent', 1), 'gone', :a));
SELECT is(pg_temp.status(1), 'disconnected', 'after the clock went back a day one that leaves is gone, too');

-- Builds that are over.
SET LOCAL session_replication_role = replica;
UPDATE coder.workspaces SET latest_build_id = gen_random_uuid() WHERE name = 'workspace-1';
UPDATE coder.workspaces SET deleted = true WHERE name = 'workspace-2';
UPDATE coder.workspace_agents SET deleted = true WHERE id = pg_temp.id('agent', 3);
SET LOCAL session_replication_role = origin;
CREATE TEMP TABLE before AS SELECT a.id, a.last_connected_at FROM coder.workspace_agents a;
SELECT is(pg_temp.life(pg_temp.sign(pg_temp.id('agent', 1), 'beat', :a), pg_temp.sign(pg_temp.id('agent', 2), 'beat', :a), pg_temp.sign(pg_temp.id('agent', 3), 'here', :a)),
	'[{"over":true},{"over":true},{"over":true}]', 'a newer build, a deleted workspace, a resource that lost its agent: over');
SELECT is((SELECT count(*) FROM coder.workspace_agents a JOIN before b USING (id) WHERE a.last_connected_at IS DISTINCT FROM b.last_connected_at), 0::bigint, 'and not noted');
SELECT is(pg_temp.life(pg_temp.sign(pg_temp.id('agent', 2), 'gone', :a)), '[{}]', 'their end is');
SELECT is(pg_temp.status(2), 'disconnected', 'as of any other');
SELECT is(coder.agent_life(pg_temp.id('agent', 1), 'beat'), false, 'one alone: over');
SELECT is(coder.agent_life(pg_temp.id('agent', 0), 'here'), true, 'one alone: noted');
SELECT throws_ok($$SELECT coder.agents_life('[{"agent": "no", "request": {}}]')$$, '22P02', NULL, 'what is no id is refused, with all that came along: the gateway sends them again, each alone');

-- Events, many at once.
SELECT is(coder.emit_all('{c1,c2,c1}', '{a,b,c}'), 3::bigint, 'events at once');
SELECT is((SELECT string_agg(channel || ' ' || payload, ', ' ORDER BY seq) FROM coder.events WHERE channel IN ('c1', 'c2')), 'c1 a, c2 b, c1 c', 'in their order');
SELECT is(coder.emit_all('{}', '{}'), 0::bigint, 'none');
SELECT throws_ok($$SELECT coder.emit_all('{c1}', '{a,b}')$$, '22023', NULL, 'each has a channel and a payload');
SELECT throws_ok($$SELECT coder.emit_all('{NULL}', '{a}')$$, '22004', NULL, 'that are something');
SELECT * FROM finish();
ROLLBACK;
