-- SPDX-License-Identifier: MIT
--
-- boundary.sql
--   What boundaries (firewalls of agents' processes) let through and refused:
--   counts, and who and where, in the transaction that acknowledges a report.
--
-- A report adds one row to boundary_reports, adds to a shard of
-- boundary_usage_stats (a row a backend: nobody waits), and becomes a row of the
-- sets of its period where it is the first of its workspace or user.  Reports
-- hold the lock coder.boundary_period (coder.lock) shared until they commit, who
-- closes a period holds it alone: a report is in exactly one period.

CREATE TABLE coder.boundary_usage_periods
(
	period				bigint NOT NULL PRIMARY KEY,
	opened_at			timestamptz NOT NULL,
	closed_at			timestamptz,
	sent_at				timestamptz,
	unique_workspaces	bigint NOT NULL DEFAULT 0,
	unique_users		bigint NOT NULL DEFAULT 0,
	allowed_requests	bigint NOT NULL DEFAULT 0,
	denied_requests		bigint NOT NULL DEFAULT 0,
	reports				bigint NOT NULL DEFAULT 0,
	dropped_requests	bigint NOT NULL DEFAULT 0,
	CONSTRAINT boundary_usage_periods_order CHECK (closed_at > opened_at AND sent_at >= closed_at)
);
CREATE UNIQUE INDEX boundary_usage_periods_open ON coder.boundary_usage_periods ((true)) WHERE closed_at IS NULL;
CREATE INDEX boundary_usage_periods_unsent_idx ON coder.boundary_usage_periods (period)
	WHERE closed_at IS NOT NULL AND sent_at IS NULL;
COMMENT ON TABLE coder.boundary_usage_periods IS
	'Windows [opened_at, closed_at) of boundary usage and their sealed sums; the one without closed_at is open, its sums are in boundary_usage_stats.';

CREATE TABLE coder.boundary_usage_stats
(
	replica_id			uuid NOT NULL PRIMARY KEY,
	unique_workspaces_count	bigint NOT NULL DEFAULT 0,
	unique_users_count	bigint NOT NULL DEFAULT 0,
	allowed_requests	bigint NOT NULL DEFAULT 0,
	denied_requests		bigint NOT NULL DEFAULT 0,
	window_start		timestamptz NOT NULL DEFAULT now(),
	updated_at			timestamptz NOT NULL DEFAULT now(),
	reports				bigint NOT NULL DEFAULT 0,
	repeated_reports	bigint NOT NULL DEFAULT 0,
	ignored_requests	bigint NOT NULL DEFAULT 0,
	skewed_requests		bigint NOT NULL DEFAULT 0,
	dropped_requests	bigint NOT NULL DEFAULT 0,
	-- One check for all: each is read anew whenever a row is written.
	CONSTRAINT boundary_usage_stats_counts CHECK (LEAST(unique_workspaces_count, unique_users_count, allowed_requests, denied_requests) >= 0)
) WITH (fillfactor = 50);
COMMENT ON TABLE coder.boundary_usage_stats IS
	'Sums of the open period by shard; their total is exact: a workspace or user is counted by the one shard that saw it first.';
COMMENT ON COLUMN coder.boundary_usage_stats.repeated_reports IS 'Reports with a batch id that had been counted: acknowledged, not counted again.';
COMMENT ON COLUMN coder.boundary_usage_stats.ignored_requests IS 'Entries of an unknown kind: not counted.';
COMMENT ON COLUMN coder.boundary_usage_stats.skewed_requests IS
	'Counted entries whose own time is more than an hour from the database''s; windows go by the database''s.';
COMMENT ON COLUMN coder.boundary_usage_stats.dropped_requests IS
	'Entries that were lost between boundary and server, as agents (ours) tell; not counted otherwise.';

CREATE TABLE coder.boundary_usage_workspaces
(
	period				bigint NOT NULL,
	workspace_id		uuid NOT NULL,
	PRIMARY KEY (period, workspace_id)
);
COMMENT ON TABLE coder.boundary_usage_workspaces IS 'Workspaces that reported in a period.';

CREATE TABLE coder.boundary_usage_users
(
	period				bigint NOT NULL,
	user_id				uuid NOT NULL,
	PRIMARY KEY (period, user_id)
);
COMMENT ON TABLE coder.boundary_usage_users IS 'Owners of workspaces that reported in a period.';

CREATE TABLE coder.boundary_batches
(
	agent_id			uuid NOT NULL,
	batch_id			uuid NOT NULL,
	at					timestamptz NOT NULL,
	PRIMARY KEY (agent_id, batch_id)
);
CREATE INDEX boundary_batches_at_idx ON coder.boundary_batches (at);
COMMENT ON TABLE coder.boundary_batches IS
	'Batch ids that agents gave with their reports; one that comes again is not counted again. Kept for a day.';

CREATE TABLE coder.boundary_reports
(
	at					timestamptz NOT NULL,
	workspace_id		uuid NOT NULL,
	user_id				uuid NOT NULL,
	template_id			uuid NOT NULL,
	organization_id		uuid NOT NULL,
	allowed				bigint NOT NULL,
	denied				bigint NOT NULL
);
CREATE INDEX boundary_reports_at_idx ON coder.boundary_reports (at);
COMMENT ON TABLE coder.boundary_reports IS
	'Reports of the last hour as they came; coder.tick() folds older ones into boundary_usage_quarters.';

CREATE TABLE coder.boundary_usage_quarters
(
	quarter				timestamptz NOT NULL,
	workspace_id		uuid NOT NULL,
	user_id				uuid NOT NULL,
	template_id			uuid NOT NULL,
	organization_id		uuid NOT NULL,
	reports				bigint NOT NULL,
	allowed				bigint NOT NULL,
	denied				bigint NOT NULL,
	PRIMARY KEY (quarter, workspace_id, user_id, template_id, organization_id)
);
COMMENT ON TABLE coder.boundary_usage_quarters IS
	'Boundary usage by quarter of an hour (days of every time zone are made of them) and workspace.';

SELECT pg_catalog.pg_extension_config_dump('coder.boundary_usage_periods', '');
SELECT pg_catalog.pg_extension_config_dump('coder.boundary_usage_stats', '');
SELECT pg_catalog.pg_extension_config_dump('coder.boundary_usage_workspaces', '');
SELECT pg_catalog.pg_extension_config_dump('coder.boundary_usage_users', '');
SELECT pg_catalog.pg_extension_config_dump('coder.boundary_batches', '');
SELECT pg_catalog.pg_extension_config_dump('coder.boundary_reports', '');
SELECT pg_catalog.pg_extension_config_dump('coder.boundary_usage_quarters', '');
