-- SPDX-License-Identifier: MIT
--
-- telemetry.sql
--   What was told to the receiver of telemetry; nothing, unless an administrator names one.

CREATE TABLE coder.telemetry_items
(
	key					text NOT NULL PRIMARY KEY,
	value				text NOT NULL,
	created_at			timestamptz NOT NULL DEFAULT now(),
	updated_at			timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE coder.telemetry_items IS 'Small facts for telemetry.';

CREATE TABLE coder.telemetry_locks
(
	event_type			text NOT NULL,
	period_ending_at	timestamptz NOT NULL,
	PRIMARY KEY (event_type, period_ending_at),
	CONSTRAINT telemetry_lock_event_type_constraint CHECK
		(event_type IN ('aibridge_interceptions_summary', 'boundary_usage_summary'))
);
CREATE INDEX idx_telemetry_locks_period_ending_at ON coder.telemetry_locks (period_ending_at);
COMMENT ON TABLE coder.telemetry_locks IS 'Periods whose summary was accepted by the receiver; kept for a day.';

CREATE TABLE coder.telemetry_state
(
	one				boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (one),
	next_at				timestamptz NOT NULL DEFAULT '0001-01-01 00:00:00+00',
	claimed_until		timestamptz NOT NULL DEFAULT '0001-01-01 00:00:00+00',
	attempts			integer NOT NULL DEFAULT 0,
	sent				bigint NOT NULL DEFAULT 0,
	sent_at				timestamptz,
	failed_at			timestamptz,
	error				text
);
COMMENT ON TABLE coder.telemetry_state IS
	'One row, once it is on: when telemetry is sent next, how often it failed since it was last sent, and why; no gateway sends while another''s claim holds.';

SELECT pg_catalog.pg_extension_config_dump('coder.telemetry_items', '');
SELECT pg_catalog.pg_extension_config_dump('coder.telemetry_locks', '');
SELECT pg_catalog.pg_extension_config_dump('coder.telemetry_state', '');
