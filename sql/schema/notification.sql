-- sql/schema/notification.sql -- kinds of notifications, who wants them, the inbox

CREATE TYPE coder.notification_method AS ENUM ('smtp', 'webhook', 'inbox');
CREATE TYPE coder.notification_template_kind AS ENUM ('system', 'custom');

CREATE TABLE coder.notification_templates (
	id uuid PRIMARY KEY,
	name text NOT NULL UNIQUE,
	title_template text NOT NULL,
	body_template text NOT NULL,
	actions jsonb,
	"group" text,
	method coder.notification_method,
	kind coder.notification_template_kind NOT NULL DEFAULT 'system',
	enabled_by_default bool NOT NULL DEFAULT true
);
COMMENT ON COLUMN coder.notification_templates.method IS 'how it is sent; NULL: the deployment''s default';

CREATE TABLE coder.notification_preferences (
	user_id uuid NOT NULL REFERENCES coder.users (id) ON DELETE CASCADE,
	notification_template_id uuid NOT NULL REFERENCES coder.notification_templates (id) ON DELETE CASCADE,
	disabled bool NOT NULL DEFAULT false,
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (user_id, notification_template_id)
);

CREATE TABLE coder.inbox_notifications (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	user_id uuid NOT NULL REFERENCES coder.users (id) ON DELETE CASCADE,
	template_id uuid NOT NULL REFERENCES coder.notification_templates (id) ON DELETE CASCADE,
	targets uuid[],
	title text NOT NULL,
	content text NOT NULL,
	icon text NOT NULL DEFAULT '',
	actions jsonb NOT NULL DEFAULT '[]',
	read_at timestamptz,
	created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idx_inbox_notifications_user_id_read_at ON coder.inbox_notifications (user_id, read_at);
CREATE INDEX idx_inbox_notifications_user_id_created_at ON coder.inbox_notifications (user_id, created_at DESC);

CREATE TABLE coder.webpush_subscriptions (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	user_id uuid NOT NULL REFERENCES coder.users (id) ON DELETE CASCADE,
	created_at timestamptz NOT NULL DEFAULT now(),
	endpoint text NOT NULL,
	endpoint_p256dh_key text NOT NULL,
	endpoint_auth_key text NOT NULL
);
CREATE INDEX webpush_subscriptions_user_id_idx ON coder.webpush_subscriptions (user_id);

-- The ids are the reference's, so that preferences of an imported database keep their meaning.
INSERT INTO coder.notification_templates (id, name, title_template, body_template, actions, "group", kind, enabled_by_default) VALUES
	('39b1e189-c857-4b0c-877a-511144c18516', 'Custom Notification', '{{.Labels.custom_title}}', '{{.Labels.custom_message}}', '[]', 'Custom Events', 'custom', true),
	('c425f63e-716a-4bf4-ae24-78348f706c3f', 'Troubleshooting Notification', 'A test notification', 'Test message from the settings page.', '[]', 'Notification Events', 'system', true),
	('8c5a4d12-9f7e-4b3a-a1c8-6e4f2d9b5a7c', 'Task Completed', 'Task ''{{.Labels.workspace}}'' completed', 'Task app reported complete.', '[]', 'Task Events', 'system', false),
	('3b7e8f1a-4c2d-49a6-b5e9-7f3a1c8d6b4e', 'Task Failed', 'Task ''{{.Labels.workspace}}'' failed', 'Task app reported failure.', '[]', 'Task Events', 'system', false),
	('d4a6271c-cced-4ed0-84ad-afd02a9c7799', 'Task Idle', 'Task ''{{.Labels.workspace}}'' is idle', 'Task app waits for input.', '[]', 'Task Events', 'system', false),
	('2a74f3d3-ab09-4123-a4a5-ca238f4f65a1', 'Task Paused', 'Task ''{{.Labels.task}}'' is paused', 'Task workspace was stopped.', '[]', 'Task Events', 'system', true),
	('843ee9c3-a8fb-4846-afa9-977bec578649', 'Task Resumed', 'Task ''{{.Labels.task}}'' has resumed', 'Task workspace was started again.', '[]', 'Task Events', 'system', true),
	('bd4b7168-d05e-4e19-ad0f-3593b77aa90f', 'Task Working', 'Task ''{{.Labels.workspace}}'' is working', 'Task app started working.', '[]', 'Task Events', 'system', false),
	('414d9331-c1fc-4761-b40c-d1f4702279eb', 'Prebuild Failure Limit Reached', 'Prebuilds of template "{{.Labels.template}}" stopped after repeated failures', 'Preset stopped building after repeated failures.', '[]', 'Template Events', 'system', true),
	('89d9745a-816e-4695-a17f-3d0a229e2b8d', 'Prebuilt Workspace Resource Replaced', 'Claiming a prebuild of template "{{.Labels.template}}" replaced resources', 'Claiming a prebuild replaced resources.', '[]', 'Template Events', 'system', true),
	('34a20db2-e9cc-4a93-b0e4-8569699d7a00', 'Report: Workspace Builds Failed', 'Failed workspace builds report', 'Weekly failure report for template admins.', '[]', 'Template Events', 'system', true),
	('29a09665-2a4c-403f-9648-54301670e7be', 'Template Deleted', 'Template "{{.Labels.name}}" deleted', 'Template was deleted.', '[]', 'Template Events', 'system', true),
	('f40fae84-55a2-42cd-99fa-b41c1ca64894', 'Template Deprecated', 'Template "{{.Labels.template}}" is deprecated', 'Template was deprecated, to users with workspaces on it.', '[]', 'Template Events', 'system', true),
	('62f86a30-2330-4b61-a26d-311ff3b608cf', 'One-Time Passcode', 'Reset your password for Coder', 'Password reset code.', '[]', 'User Events', 'system', true),
	('9f5af851-8408-4e73-a7a1-c6502ba46689', 'User account activated', 'User account "{{.Labels.activated_account_name}}" activated', 'To admins: account activated.', '[]', 'User Events', 'system', true),
	('4e19c0ac-94e1-4532-9515-d1801aa283b2', 'User account created', 'User account "{{.Labels.created_account_name}}" created', 'To admins: account created.', '[]', 'User Events', 'system', true),
	('f44d9314-ad03-4bc8-95d0-5cad491da6b6', 'User account deleted', 'User account "{{.Labels.deleted_account_name}}" deleted', 'To admins: account deleted.', '[]', 'User Events', 'system', true),
	('b02ddd82-4733-4d02-a2d7-c36f3598997d', 'User account suspended', 'User account "{{.Labels.suspended_account_name}}" suspended', 'To admins: account suspended.', '[]', 'User Events', 'system', true),
	('1a6a6bea-ee0a-43e2-9e7c-eabdb53730e4', 'Your account has been activated', 'Your account "{{.Labels.activated_account_name}}" has been activated', 'To the user.', '[]', 'User Events', 'system', true),
	('6a2f0609-9b69-4d36-a989-9f5925b6cbff', 'Your account has been suspended', 'Your account "{{.Labels.suspended_account_name}}" has been suspended', 'To the user.', '[]', 'User Events', 'system', true),
	('381df2a9-c0c0-4749-420f-80a9280c66f9', 'Workspace Autobuild Failed', 'A scheduled build of workspace "{{.Labels.name}}" failed', 'Scheduled build failed.', '[]', 'Workspace Events', 'system', true),
	('281fdf73-c6d6-4cbb-8ff5-888baf8a2fff', 'Workspace Created', 'Workspace "{{.Labels.workspace}}" created', 'To template admins: workspace created.', '[]', 'Workspace Events', 'system', false),
	('f517da0b-cdc9-410f-ab89-a86107c420ed', 'Workspace Deleted', 'Workspace "{{.Labels.name}}" deleted', 'Workspace removed by someone else or automatically.', '[]', 'Workspace Events', 'system', true),
	('2faeee0f-26cb-4e96-821c-85ccb9f71513', 'Workspace Manual Build Failed', 'A build of workspace "{{.Labels.name}}" failed', 'To template admins: a user-started build failed.', '[]', 'Workspace Events', 'system', true),
	('d089fe7b-d5c5-4c0c-aaf5-689859f7d392', 'Workspace Manually Updated', 'Workspace "{{.Labels.workspace}}" moved to another version', 'To template admins: workspace moved to another version.', '[]', 'Workspace Events', 'system', false),
	('0ea69165-ec14-4314-91f1-69566ac3c5a0', 'Workspace Marked as Dormant', 'Workspace "{{.Labels.name}}" is dormant', 'Workspace became dormant.', '[]', 'Workspace Events', 'system', true),
	('51ce2fdf-c9ca-4be1-8d70-628674f9bc42', 'Workspace Marked for Deletion', 'Workspace "{{.Labels.name}}" will be deleted', 'Dormant workspace will be deleted.', '[]', 'Workspace Events', 'system', true),
	('f047f6a3-5713-40f7-85aa-0394cce9fa3a', 'Workspace Out Of Disk', 'Workspace "{{.Labels.workspace}}" runs out of disk space', 'Volume above threshold.', '[]', 'Workspace Events', 'system', true),
	('a9d027b4-ac49-4fb1-9f6d-45af15f64e7a', 'Workspace Out Of Memory', 'Workspace "{{.Labels.workspace}}" runs out of memory', 'Memory above threshold.', '[]', 'Workspace Events', 'system', true),
	('c34a0c09-0704-4cac-bd1c-0c0146811c2b', 'Workspace Updated Automatically', 'Workspace "{{.Labels.name}}" was updated', 'Autostart moved the workspace to the active version.', '[]', 'Workspace Events', 'system', true);

-- The templates above come with the extension; only the method that an administrator chose is theirs, and
-- it is kept as a setting of the site.
COMMENT ON TABLE coder.notification_templates IS 'Kinds of messages, and by which way they go.';
COMMENT ON TABLE coder.notification_preferences IS 'Whether a user wants a kind of message.';
COMMENT ON TABLE coder.inbox_notifications IS 'Messages to users, with what they are about; read_at is unset while unread.';
COMMENT ON TABLE coder.webpush_subscriptions IS 'Browsers that want a user''s messages pushed.';

SELECT pg_extension_config_dump('coder.notification_templates', 'WHERE false');
SELECT pg_extension_config_dump('coder.notification_preferences', '');
SELECT pg_extension_config_dump('coder.inbox_notifications', '');
SELECT pg_extension_config_dump('coder.webpush_subscriptions', '');
