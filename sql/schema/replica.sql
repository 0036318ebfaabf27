-- SPDX-License-Identifier: MIT
--
-- replica.sql
--   The gateways of this database.

CREATE TABLE coder.replicas (
	id					uuid PRIMARY KEY,
	created_at			timestamptz NOT NULL DEFAULT now(),
	started_at			timestamptz NOT NULL DEFAULT now(),
	stopped_at			timestamptz,
	updated_at			timestamptz NOT NULL DEFAULT now(),
	hostname			text NOT NULL,
	region_id			int4 NOT NULL DEFAULT 999,
	relay_address		text NOT NULL DEFAULT '',
	database_latency	int4 NOT NULL DEFAULT 0 CHECK (database_latency >= 0),
	version				text NOT NULL,
	error				text NOT NULL DEFAULT '',
	"primary"			boolean NOT NULL DEFAULT true
) WITH (fillfactor = 50);
COMMENT ON TABLE coder.replicas IS 'Gateways: each tells every five seconds that it lives; one that has not for fifteen is gone.';
COMMENT ON COLUMN coder.replicas.relay_address IS 'URL at which other gateways reach it; empty: it shares no tunnels';
COMMENT ON COLUMN coder.replicas.database_latency IS 'milliseconds of its last heartbeat';
