-- SPDX-License-Identifier: MIT
--
-- activity.sql
--   What samples of agents are not taken at their word for, and reports that
--   are made once for everybody who asks.

CREATE TABLE coder.workspace_agent_sample_faults
(
	agent_id			uuid NOT NULL PRIMARY KEY REFERENCES coder.workspace_agents(id) ON DELETE CASCADE,
	negative			bigint NOT NULL DEFAULT 0,
	excessive			bigint NOT NULL DEFAULT 0,
	skewed				bigint NOT NULL DEFAULT 0,
	last_at				timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE coder.workspace_agent_sample_faults IS
	'How many figures of an agent''s reports were not possible, and stored as the nearest that is.';
COMMENT ON COLUMN coder.workspace_agent_sample_faults.negative IS 'Counts below zero: stored as 0.';
COMMENT ON COLUMN coder.workspace_agent_sample_faults.excessive IS
	'Counts above what an interval can hold: stored as that; latencies that are no number or above an hour: stored as not known.';
COMMENT ON COLUMN coder.workspace_agent_sample_faults.skewed IS
	'Times of connections more than an hour ahead of the database''s, stored as the database''s, or 23 behind, stored as they are: what an agent could not send sooner is late.';

CREATE UNLOGGED TABLE coder.kept_reports
(
	name				text NOT NULL PRIMARY KEY,
	made_at				timestamptz NOT NULL,
	report				jsonb NOT NULL
);
COMMENT ON TABLE coder.kept_reports IS
	'Reports that are made once for all who ask within their interval: deployment statistics, health.';

SELECT pg_catalog.pg_extension_config_dump('coder.workspace_agent_sample_faults', '');
