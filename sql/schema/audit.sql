-- sql/schema/audit.sql -- who changed what, and which tables are watched for it
--
-- In C: extension/audit.c, auditrow.c, audittable.c, auditdiff.c.  Which tables and columns count is in sql/schema/audited.sql.

CREATE TYPE coder.audit_action AS ENUM ('create', 'write', 'delete', 'start', 'stop', 'login', 'logout',
	'register', 'request_password_reset', 'connect', 'disconnect', 'open', 'close');
CREATE TYPE coder.resource_type AS ENUM ('organization', 'template', 'template_version', 'user', 'workspace',
	'git_ssh_key', 'api_key', 'group', 'workspace_build', 'license', 'workspace_proxy', 'convert_login',
	'health_settings', 'oauth2_provider_app', 'oauth2_provider_app_secret', 'custom_role', 'organization_member',
	'notifications_settings', 'notification_template', 'idp_sync_settings_organization',
	'idp_sync_settings_group', 'idp_sync_settings_role', 'workspace_agent', 'workspace_app',
	'prebuilds_settings', 'task', 'ai_seat', 'user_secret', 'ai_provider', 'ai_provider_key');

CREATE TABLE coder.audit_logs (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	"time" timestamptz NOT NULL DEFAULT clock_timestamp(),
	user_id uuid NOT NULL,
	organization_id uuid NOT NULL,
	ip inet,
	user_agent varchar(256),
	resource_type coder.resource_type NOT NULL,
	resource_id uuid NOT NULL,
	resource_target text NOT NULL,
	action coder.audit_action NOT NULL,
	diff jsonb NOT NULL DEFAULT '{}',
	status_code int4 NOT NULL DEFAULT 200,
	additional_fields jsonb NOT NULL DEFAULT '{}',
	request_id uuid NOT NULL DEFAULT gen_random_uuid(),
	resource_icon text NOT NULL DEFAULT '',
	token_id text,
	database_role text
);
CREATE INDEX idx_audit_logs_time_desc ON coder.audit_logs ("time" DESC);
CREATE INDEX idx_audit_log_user_id ON coder.audit_logs (user_id, "time" DESC);
CREATE INDEX idx_audit_log_organization_id ON coder.audit_logs (organization_id, "time" DESC);
CREATE INDEX idx_audit_log_resource_id ON coder.audit_logs (resource_id, "time" DESC);
CREATE INDEX audit_logs_connections_idx ON coder.audit_logs ("time")
	WHERE action IN ('connect', 'disconnect', 'open', 'close');

COMMENT ON TABLE coder.audit_logs IS 'Who changed what, from where; diff holds the old and new values. Rows are never changed, and deleted only by age.';
COMMENT ON COLUMN coder.audit_logs.user_id IS 'who asked; all zeros: nobody, then database_role or additional_fields tells more';
COMMENT ON COLUMN coder.audit_logs.token_id IS 'the API key that was used';
COMMENT ON COLUMN coder.audit_logs.database_role IS 'who was connected to the database, for a change that came by SQL';

SELECT pg_extension_config_dump('coder.audit_logs', '');

-- The tables whose rows are audited.
CREATE TABLE coder.audit_tables (
	table_name text PRIMARY KEY,
	resource_type coder.resource_type NOT NULL,
	actions text[] NOT NULL DEFAULT '{create,write,delete}'
		CONSTRAINT audit_tables_actions CHECK (actions <@ '{create,write,delete}'),
	id_column text NOT NULL DEFAULT 'id',
	key_column text,
	target_column text,
	target_user bool NOT NULL DEFAULT false,
	organization_column text,
	icon_column text,
	parent_types text[] NOT NULL DEFAULT '{}',
	parent_columns text[] NOT NULL DEFAULT '{}',
	field text,
	CONSTRAINT audit_tables_parents CHECK (cardinality(parent_types) = cardinality(parent_columns) AND cardinality(parent_types) <= 4)
);
COMMENT ON TABLE coder.audit_tables IS 'Tables of the schema whose changes are audited, and what of a row is the resource.';
COMMENT ON COLUMN coder.audit_tables.key_column IS 'tells rows of one resource id apart; goes to additional_fields as key_id';
COMMENT ON COLUMN coder.audit_tables.target_user IS 'the target is the name of the user whose id target_column is';
COMMENT ON COLUMN coder.audit_tables.parent_types IS 'a row that comes or goes in a request with its parent is part of the parent''s row';
COMMENT ON COLUMN coder.audit_tables.field IS 'not NULL: rows are elements of this field of the resource, whose own table has NULL here';

-- Every column of those tables.
CREATE TABLE coder.audit_columns (
	table_name text NOT NULL REFERENCES coder.audit_tables (table_name) ON DELETE CASCADE,
	column_name text NOT NULL,
	action text NOT NULL CHECK (action IN ('track', 'ignore', 'secret')),
	wakes bool NOT NULL,
	PRIMARY KEY (table_name, column_name)
);
COMMENT ON TABLE coder.audit_columns IS 'What an audit row shows of a column: its values (track), that it changed (secret), nothing (ignore).';
COMMENT ON COLUMN coder.audit_columns.wakes IS 'an UPDATE that sets it is looked at; of those that set only others the trigger costs nothing';

-- Trigger: backends read the two tables again.
CREATE FUNCTION coder.audit_config_changed() RETURNS trigger LANGUAGE C
AS 'MODULE_PATHNAME', 'coder_audit_config_changed';
CREATE TRIGGER audit_config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON coder.audit_tables
	FOR EACH STATEMENT EXECUTE FUNCTION coder.audit_config_changed();
CREATE TRIGGER audit_config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON coder.audit_columns
	FOR EACH STATEMENT EXECUTE FUNCTION coder.audit_config_changed();

-- Trigger of every tracked table: one audit row for a changed row, in a request one for a changed resource.
CREATE FUNCTION coder.audit_row() RETURNS trigger LANGUAGE C
AS 'MODULE_PATHNAME', 'coder_audit_row';

-- Trigger of coder.provisioner_jobs: one audit row for a build that has ended.
CREATE FUNCTION coder.audit_build() RETURNS trigger LANGUAGE C
AS 'MODULE_PATHNAME', 'coder_audit_build';

-- From where the current subject asks, for a job whose end will be audited: {audit_ip, audit_user_agent, audit_token_id},
-- or {audit_database_role} where nobody asks.
CREATE FUNCTION coder.audit_origin() RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	r record;
BEGIN
	SELECT * INTO r FROM coder.current_request();
	RETURN jsonb_strip_nulls(jsonb_build_object('audit_ip', CASE WHEN r.remote ~ '^[0-9a-fA-F.:]+$' THEN r.remote END,
		'audit_user_agent', left(r.user_agent, 256), 'audit_token_id', coder.subject_token_id(),
		'audit_database_role', CASE WHEN r.request_id IS NULL AND coder.audit_subsystem() IS NULL THEN session_user END));
END
$$;

-- Whose work is being done (coder.audit_as); NULL: somebody's.
CREATE FUNCTION coder.audit_subsystem() RETURNS text LANGUAGE C STABLE
AS 'MODULE_PATHNAME', 'coder_audit_subsystem';

-- Trigger: nobody changes or deletes a row of the log; errors: ZC403.
CREATE FUNCTION coder.audit_guard() RETURNS trigger LANGUAGE C
AS 'MODULE_PATHNAME', 'coder_audit_guard';
CREATE TRIGGER audit_guard BEFORE UPDATE OR DELETE ON coder.audit_logs
	FOR EACH ROW EXECUTE FUNCTION coder.audit_guard();
CREATE TRIGGER audit_guard_truncate BEFORE TRUNCATE ON coder.audit_logs
	FOR EACH STATEMENT EXECUTE FUNCTION coder.audit_guard();
-- Whatever session_replication_role is.
ALTER TABLE coder.audit_logs ENABLE ALWAYS TRIGGER audit_guard;
ALTER TABLE coder.audit_logs ENABLE ALWAYS TRIGGER audit_guard_truncate;

-- One row of the log for what no changed row tells; in a request it joins the change of the same resource.
-- diff, status, additional and icon: NULL for what the change and the answer say.  actor: NULL for the subject.
CREATE FUNCTION coder.audit(action text, type text, id uuid, target text DEFAULT '', org uuid DEFAULT NULL,
	diff jsonb DEFAULT NULL, status int4 DEFAULT NULL, actor uuid DEFAULT NULL, additional jsonb DEFAULT NULL, icon text DEFAULT NULL)
RETURNS void LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'coder_audit';

-- Tells of a request that was refused: its status as four bytes, and the request as coder.handle has it.  The gateway
-- calls it, since what the request's transaction wrote is undone.  22P03 where the bytes are malformed.
CREATE FUNCTION coder.audit_refused(request bytea)
RETURNS void LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'coder_audit_refused';

-- What follows in this transaction is the server's own work, of this subsystem, until the call with NULL that belongs to
-- it; rows say so, or there are none where another row tells it (told false).  Errors: XX000 beyond seven levels.
CREATE FUNCTION coder.audit_as(subsystem text, told bool DEFAULT true)
RETURNS void LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'coder_audit_as';

-- Deletes at most so many rows that are older than they are kept; how many.
CREATE FUNCTION coder.audit_purge(most bigint DEFAULT 10000)
RETURNS bigint LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'coder_audit_purge';

-- (Re)makes the trigger of a table of coder.audit_tables; errors: 22023 where a column has no row in coder.audit_columns.
CREATE FUNCTION coder.audit_track(name text) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t coder.audit_tables;
	missing text;
	waking text;
	events text[] := '{}';
BEGIN
	SELECT a.* INTO t FROM coder.audit_tables a WHERE a.table_name = name;
	IF t.table_name IS NULL THEN
		RAISE invalid_parameter_value USING MESSAGE = format('Table %s is not in coder.audit_tables.', name);
	END IF;
	SELECT string_agg(a.attname, ', ') INTO missing FROM pg_attribute a
	 WHERE a.attrelid = format('coder.%I', name)::regclass AND a.attnum > 0 AND NOT a.attisdropped
	   AND NOT EXISTS (SELECT 1 FROM coder.audit_columns c WHERE c.table_name = name AND c.column_name = a.attname);
	IF missing IS NOT NULL THEN
		RAISE invalid_parameter_value USING MESSAGE = format('Columns of %s are not in coder.audit_columns: %s.', name, missing);
	END IF;
	SELECT string_agg(quote_ident(c.column_name), ', ' ORDER BY c.column_name) INTO waking
	  FROM coder.audit_columns c WHERE c.table_name = name AND c.wakes;
	IF 'create' = ANY (t.actions) THEN
		events := events || 'INSERT'::text;
	END IF;
	IF 'delete' = ANY (t.actions) THEN
		events := events || 'DELETE'::text;
	END IF;
	IF 'write' = ANY (t.actions) AND waking IS NOT NULL THEN
		events := events || ('UPDATE OF ' || waking);
	END IF;
	EXECUTE format('DROP TRIGGER IF EXISTS audit ON coder.%I', name);
	EXECUTE format('CREATE TRIGGER audit AFTER %s ON coder.%I FOR EACH ROW EXECUTE FUNCTION coder.audit_row()',
		array_to_string(events, ' OR '), name);
END
$$;

-- Says what of a table's columns is shown, and makes its trigger: tracked; secret (that they changed, never how), as is
-- every column that is not named; quiet ones, tracked, but alone no change worth a row; ignored.  wake: ignored ones
-- that are looked at all the same (deleted).
CREATE FUNCTION coder.audit_track(name text, tracked text[], ignored text[], secret text[] DEFAULT '{}',
	quiet text[] DEFAULT '{}', wake text[] DEFAULT '{}')
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	unknown text;
BEGIN
	SELECT string_agg(c, ', ') INTO unknown FROM unnest(tracked || ignored || secret || quiet || wake) c
	 WHERE NOT EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = format('coder.%I', name)::regclass AND a.attname = c);
	IF unknown IS NOT NULL THEN
		RAISE invalid_parameter_value USING MESSAGE = format('Table %s has no columns: %s.', name, unknown);
	END IF;
	DELETE FROM coder.audit_columns c WHERE c.table_name = name;
	INSERT INTO coder.audit_columns (table_name, column_name, action, wakes)
	SELECT name, a.attname, CASE WHEN a.attname = ANY (tracked || quiet) THEN 'track' WHEN a.attname = ANY (ignored || wake) THEN 'ignore' ELSE 'secret' END,
		a.attname <> ALL (ignored || quiet)
	  FROM pg_attribute a
	 WHERE a.attrelid = format('coder.%I', name)::regclass AND a.attnum > 0 AND NOT a.attisdropped;
	PERFORM coder.audit_track(name);
END
$$;
