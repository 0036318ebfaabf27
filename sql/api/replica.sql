-- SPDX-License-Identifier: MIT
--
-- replica.sql
--   Gateways that share this database: who lives, and how they know one another.
--
-- A gateway dials another with a token that is signed with derp_mesh_key, names both and is good for a minute.

CREATE OR REPLACE FUNCTION coder.replica_token(sender uuid, receiver uuid, at timestamptz DEFAULT now()) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coder.jwt_sign(jsonb_build_object('sub', sender, 'aud', receiver, 'exp', extract(epoch FROM at)::bigint + 60),
		decode(coder.site_config('derp_mesh_key'), 'hex'), 'HS256');
END
$$;
COMMENT ON FUNCTION coder.replica_token(uuid, uuid, timestamptz) IS 'What a gateway says to another to be let in, for a minute.';
REVOKE ALL ON FUNCTION coder.replica_token(uuid, uuid, timestamptz) FROM PUBLIC;

CREATE OR REPLACE FUNCTION coder.replica_heartbeat(id uuid, hostname text, relay_address text, version text, latency integer,
	at timestamptz DEFAULT now())
RETURNS json
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT (pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean) THEN
		DELETE FROM coder.replicas r WHERE r.updated_at < at - interval '30 minutes';
		INSERT INTO coder.replicas AS r (id, hostname, relay_address, version, database_latency, created_at, started_at, updated_at)
		VALUES (replica_heartbeat.id, replica_heartbeat.hostname, replica_heartbeat.relay_address, replica_heartbeat.version,
			latency, at, at, at)
		ON CONFLICT ON CONSTRAINT replicas_pkey DO UPDATE SET updated_at = at, database_latency = latency;
	END IF;
	RETURN coalesce((
		SELECT json_agg(json_build_object('id', r.id, 'hostname', r.hostname, 'url', rtrim(r.relay_address, '/'),
				'token', coder.replica_token(replica_heartbeat.id, r.id, at)))
		  FROM coder.replicas r
		 WHERE replica_heartbeat.relay_address <> '' AND r.relay_address <> '' AND r.id <> replica_heartbeat.id
		   AND r.updated_at > at - interval '15 seconds' AND r.stopped_at IS NULL), '[]');
END
$$;
COMMENT ON FUNCTION coder.replica_heartbeat(uuid, text, text, text, integer, timestamptz) IS
	'The gateway: it lives (latency: milliseconds of the last time). Answers the others that share tunnels, [{id, hostname, url, token}]; none for one without a relay URL.';
REVOKE ALL ON FUNCTION coder.replica_heartbeat(uuid, text, text, text, integer, timestamptz) FROM PUBLIC;

CREATE OR REPLACE FUNCTION coder.replica_mesh(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_claims jsonb := coder.jwt_verify(req.headers ->> 'coder-replica-token', decode(coder.site_config('derp_mesh_key'), 'hex'), 'HS256', now() - interval '1 minute');
BEGIN
	IF v_claims IS NULL OR NOT v_claims ? 'exp' THEN
		PERFORM coder.raise(401, 'This is for gateways of the same deployment.', 'The token is malformed, has expired or was not signed by this deployment.');
	END IF;
	RETURN coder.reply(101, jsonb_build_object('format', 'mesh', 'from', v_claims ->> 'sub', 'to', v_claims ->> 'aud',
		'channels', '[]'::jsonb, 'frames', '[]'::jsonb, 'cursor', '1'));
END
$$;
COMMENT ON FUNCTION coder.replica_mesh(coder.request) IS 'GET /replicas/mesh (WebSocket): another gateway tells of its peers.';

CREATE OR REPLACE FUNCTION coder.replica_list(req coder.request) RETURNS coder.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM coder.require('read', 'replicas');
	RETURN coder.reply(200, coalesce((
		SELECT jsonb_agg(jsonb_build_object('id', r.id, 'hostname', r.hostname, 'created_at', coder.ts(r.created_at),
				'relay_address', r.relay_address, 'region_id', r.region_id, 'error', r.error, 'database_latency', r.database_latency)
			ORDER BY r.created_at)
		  FROM coder.replicas r WHERE r.updated_at > now() - interval '15 seconds' AND r.stopped_at IS NULL), '[]'));
END
$$;
COMMENT ON FUNCTION coder.replica_list(coder.request) IS 'GET /replicas: gateways that live. 403 for who may not read replicas.';

DELETE FROM coder.routes WHERE area = 'replica';
INSERT INTO coder.routes (area, method, pattern, function, auth, read_only) VALUES
	('replica', 'GET', '/api/v2/replicas', 'replica_list', 'session', true),
	('replica', 'GET', '/api/v2/replicas/mesh', 'replica_mesh', 'none', true);
