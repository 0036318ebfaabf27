-- replica.sql -- gateways that share this database: who lives, who is told of whom, who is let in
BEGIN;
SELECT no_plan();
DELETE FROM coder.replicas;

CREATE FUNCTION pg_temp.beat(n int, url text, at timestamptz) RETURNS json LANGUAGE sql AS
	$$SELECT coder.replica_heartbeat(format('00000000-0000-4000-8000-%s', lpad(n::text, 12, '0'))::uuid, 'host' || n, url, 'v', n, at)$$;
CREATE FUNCTION pg_temp.named(list json) RETURNS text LANGUAGE sql AS
	$$SELECT string_agg(r ->> 'hostname' || ' ' || (r ->> 'url'), ', ' ORDER BY r ->> 'hostname') FROM json_array_elements(list) r$$;

SELECT is(pg_temp.beat(1, 'http://one/', '2026-01-01 00:00:00')::text, '[]', 'the first is alone');
SELECT is(pg_temp.named(pg_temp.beat(2, 'http://two', '2026-01-01 00:00:01')), 'host1 http://one', 'the second is told of the first, without the slash');
SELECT is(pg_temp.named(pg_temp.beat(1, 'http://one/', '2026-01-01 00:00:05')), 'host2 http://two', 'and the first of it');
SELECT is(pg_temp.beat(3, '', '2026-01-01 00:00:06')::text, '[]', 'one without a relay URL is told of none');
SELECT is(pg_temp.named(pg_temp.beat(2, 'http://two', '2026-01-01 00:00:06')), 'host1 http://one', 'and none of it');
SELECT is(pg_temp.beat(2, 'http://two', '2026-01-01 00:00:20')::text, '[]', 'who was silent for fifteen seconds is gone');
SELECT is(count(*)::int, 3, 'its row stays') FROM coder.replicas;
SELECT is(pg_temp.beat(4, '', '2026-01-01 01:00')::text, '[]', 'for half an hour');
SELECT is(string_agg(hostname, ' '), 'host4', 'then it goes') FROM coder.replicas;

-- A stop in order.
SELECT is(pg_temp.beat(5, 'http://five', now())::text, '[]', 'one more');
SELECT is(pg_temp.named(pg_temp.beat(6, 'http://six', now())), 'host5 http://five', 'and one that is told of it');
SELECT coder.gateway_stop('00000000-0000-4000-8000-000000000005');
SELECT is(pg_temp.beat(6, 'http://six', now())::text, '[]', 'who says that it stops is gone at once');
SELECT ok(stopped_at IS NOT NULL, 'and its row says when') FROM coder.replicas WHERE hostname = 'host5';
SELECT is(pg_temp.named(pg_temp.beat(5, 'http://five', now())), 'host6 http://six', 'a heartbeat that was late');
SELECT is(pg_temp.beat(6, 'http://six', now())::text, '[]', 'does not bring it back');
SELECT coder.gateway_stop(gen_random_uuid());
SELECT is(count(*)::int, 1, 'who never lived does not stop') FROM coder.replicas WHERE stopped_at IS NOT NULL;
SELECT throws_ok($$SELECT pg_temp.beat(-1, '', now())$$, NULL, NULL, 'a latency below nothing is none');

-- The pass.
CREATE FUNCTION pg_temp.enter(token text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	req coder.request;
	said coder.response;
BEGIN
	req.headers := jsonb_build_object('coder-replica-token', token);
	said := coder.replica_mesh(req);
	RETURN said.status || ' ' || coalesce(said.body::jsonb ->> 'from', '') || ' ' || coalesce(said.body::jsonb ->> 'to', '');
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END
$$;
SELECT is(pg_temp.enter(coder.replica_token('00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-000000000002')),
	'101 00000000-0000-4000-8000-000000000001 00000000-0000-4000-8000-000000000002', 'a token lets in');
SELECT is(pg_temp.enter(coder.replica_token(gen_random_uuid(), gen_random_uuid(), now() - interval '3 minutes')), 'ZC401', 'for a minute, and one for clocks');
SELECT is(pg_temp.enter(NULL), 'ZC401', 'none does not');
SELECT is(pg_temp.enter('eyJhbGciOiJub25lIn0.e30.'), 'ZC401', 'nor one that is not signed');
SELECT is(pg_temp.enter(coder.jwt_sign('{"sub": "a", "aud": "b"}', decode(coder.site_config('derp_mesh_key'), 'hex'))), 'ZC401', 'nor one for ever');
SELECT is(pg_temp.enter(coder.jwt_sign('{"sub": "a", "aud": "b", "exp": 4000000000}', '\x00')), 'ZC401', 'nor one of another key');
SELECT is(has_function_privilege('coder_user', 'coder.replica_token(uuid, uuid, timestamptz)', 'EXECUTE'), false, 'people make none');
SELECT finish();
ROLLBACK;
