-- sql/schema/audit.sql -- who changed what

CREATE TYPE coder.audit_action AS ENUM ('create', 'write', 'delete', 'start', 'stop', 'login', 'logout',
	'register', 'request_password_reset', 'connect', 'disconnect', 'open', 'close');
CREATE TYPE coder.resource_type AS ENUM ('organization', 'template', 'template_version', 'user', 'workspace',
	'git_ssh_key', 'api_key', 'group', 'workspace_build', 'license', 'workspace_proxy', 'convert_login',
	'health_settings', 'oauth2_provider_app', 'oauth2_provider_app_secret', 'custom_role', 'organization_member',
	'notifications_settings', 'notification_template', 'idp_sync_settings_organization',
	'idp_sync_settings_group', 'idp_sync_settings_role', 'workspace_agent', 'workspace_app',
	'prebuilds_settings', 'task', 'ai_seat');

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
	resource_icon text NOT NULL DEFAULT ''
);
CREATE INDEX idx_audit_logs_time_desc ON coder.audit_logs ("time" DESC);
CREATE INDEX idx_audit_log_user_id ON coder.audit_logs (user_id);
CREATE INDEX idx_audit_log_organization_id ON coder.audit_logs (organization_id);
CREATE INDEX idx_audit_log_resource_id ON coder.audit_logs (resource_id);

COMMENT ON TABLE coder.audit_logs IS 'Who changed what, from where; diff holds the old and new values.';

SELECT pg_extension_config_dump('coder.audit_logs', '');
