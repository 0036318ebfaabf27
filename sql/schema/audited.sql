-- sql/schema/audited.sql -- the tables whose changes are audited, and what of their columns is shown
--
-- A new table: one row of coder.audit_tables and one call of coder.audit_track, here, behind its CREATE TABLE.
-- A column that is not named here is secret.

INSERT INTO coder.audit_tables (table_name, resource_type, id_column, key_column, target_column, target_user,
	organization_column, icon_column, parent_types, parent_columns, field, actions) VALUES
	('templates', 'template', 'id', NULL, 'name', false, 'organization_id', 'icon', '{}', '{}', NULL, '{create,write,delete}'),
	('template_versions', 'template_version', 'id', NULL, 'name', false, 'organization_id', NULL, '{}', '{}', NULL, '{create,write,delete}'),
	('users', 'user', 'id', NULL, 'username', false, NULL, 'avatar_url', '{}', '{}', NULL, '{create,write,delete}'),
	('gitsshkeys', 'git_ssh_key', 'user_id', NULL, 'public_key', false, NULL, NULL, '{user}', '{user_id}', NULL, '{create,write,delete}'),
	('api_keys', 'api_key', 'user_id', 'id', 'token_name', false, NULL, NULL, '{user}', '{user_id}', NULL, '{create,write,delete}'),
	('organizations', 'organization', 'id', NULL, 'name', false, 'id', 'icon', '{}', '{}', NULL, '{create,write,delete}'),
	('organization_members', 'organization_member', 'user_id', NULL, 'user_id', true, 'organization_id', NULL,
		'{user,organization}', '{user_id,organization_id}', NULL, '{create,write,delete}'),
	('groups', 'group', 'id', NULL, 'name', false, 'organization_id', 'avatar_url', '{organization}', '{organization_id}', NULL, '{create,write,delete}'),
	('group_members', 'group', 'group_id', NULL, NULL, false, NULL, NULL, '{}', '{}', 'members', '{create,delete}'),
	('custom_roles', 'custom_role', 'id', NULL, 'name', false, 'organization_id', NULL, '{organization}', '{organization_id}', NULL, '{create,write,delete}'),
	('workspaces', 'workspace', 'id', NULL, 'name', false, 'organization_id', NULL, '{}', '{}', NULL, '{create,write,delete}'),
	('workspace_agent_port_share', 'workspace', 'workspace_id', NULL, NULL, false, NULL, NULL, '{}', '{}', 'port_shares', '{create,write,delete}'),
	-- Agents and apps come with a build; what is audited is a hand that changes them.
	('workspace_agents', 'workspace_agent', 'id', NULL, 'name', false, NULL, NULL, '{}', '{}', NULL, '{write}'),
	('workspace_apps', 'workspace_app', 'id', NULL, 'slug', false, NULL, 'icon', '{}', '{}', NULL, '{write}'),
	('oauth2_provider_apps', 'oauth2_provider_app', 'id', NULL, 'name', false, NULL, 'icon', '{}', '{}', NULL, '{create,write,delete}'),
	('oauth2_provider_app_secrets', 'oauth2_provider_app_secret', 'id', NULL, 'display_secret', false, NULL, NULL,
		'{oauth2_provider_app}', '{app_id}', NULL, '{create,write,delete}'),
	('user_secrets', 'user_secret', 'id', NULL, 'name', false, NULL, NULL, '{user}', '{user_id}', NULL, '{create,write,delete}'),
	('chat_providers', 'ai_provider', 'id', NULL, 'provider', false, NULL, NULL, '{}', '{}', NULL, '{create,write,delete}'),
	('user_chat_provider_keys', 'ai_provider_key', 'id', NULL, 'user_id', true, NULL, NULL, '{user,ai_provider}', '{user_id,chat_provider_id}', NULL, '{create,write,delete}'),
	('notification_templates', 'notification_template', 'id', NULL, 'name', false, NULL, NULL, '{}', '{}', NULL, '{create,write,delete}');

SELECT coder.audit_track('templates', ARRAY['active_version_id', 'activity_bump', 'allow_user_autostart', 'allow_user_autostop',
	'allow_user_cancel_workspace_jobs', 'autostart_block_days_of_week', 'autostop_requirement_days_of_week',
	'autostop_requirement_weeks', 'cors_behavior', 'created_by', 'default_ttl', 'deprecated', 'description',
	'disable_module_cache', 'display_name', 'failure_ttl', 'group_acl', 'icon', 'id', 'max_port_sharing_level', 'name',
	'provisioner', 'require_active_version', 'time_til_dormant', 'time_til_dormant_autodelete',
	'use_classic_parameter_flow', 'user_acl'],
	ARRAY['created_at', 'updated_at', 'organization_id'], wake => '{deleted}');
-- The import of a version fills in what its archive says.
SELECT coder.audit_track('template_versions', ARRAY['archived', 'created_by', 'id', 'name', 'template_id', 'message'],
	ARRAY['created_at', 'updated_at', 'organization_id', 'job_id', 'external_auth_providers', 'source_example_id',
		'has_ai_task', 'has_external_agent'], quiet => '{readme}');
SELECT coder.audit_track('users', ARRAY['chat_spend_limit_micros', 'deleted', 'email', 'id', 'is_service_account', 'is_system',
	'login_type', 'name', 'one_time_passcode_expires_at', 'quiet_hours_schedule', 'rbac_roles', 'status', 'username'],
	ARRAY['avatar_url', 'created_at', 'updated_at', 'last_seen_at', 'github_com_user_id', 'hashed_one_time_passcode'],
	secret => '{hashed_password}');
SELECT coder.audit_track('gitsshkeys', '{public_key,user_id}', '{created_at,updated_at}', secret => '{private_key}');
-- A session's use moves its expiry (coder.api_key_used).
SELECT coder.audit_track('api_keys', '{user_id,scopes,allow_list,login_type,token_name,lifetime_seconds,expires_at,created_at}',
	'{id,last_used,updated_at,ip_address}', secret => '{hashed_secret}');
SELECT coder.audit_track('organizations', '{name,display_name,description,icon,is_default,deleted,shareable_workspace_owners}',
	'{id,created_at,updated_at}');
SELECT coder.audit_track('organization_members', '{user_id,roles}', '{organization_id,created_at,updated_at}');
SELECT coder.audit_track('groups', '{id,name,display_name,avatar_url,quota_allowance,chat_spend_limit_micros}', '{organization_id,source}');
SELECT coder.audit_track('group_members', '{user_id}', '{group_id}');
SELECT coder.audit_track('custom_roles', '{name,display_name,site_permissions,org_permissions,user_permissions,member_permissions}',
	'{id,created_at,updated_at,organization_id,is_system}');
SELECT coder.audit_track('workspaces', ARRAY['automatic_updates', 'autostart_schedule', 'deleting_at', 'dormant_at', 'favorite',
	'group_acl', 'user_acl', 'id', 'name', 'owner_id', 'template_id', 'ttl'],
	ARRAY['created_at', 'updated_at', 'last_used_at', 'organization_id', 'latest_build_id', 'latest_build_number', 'running', 'owner_sort'],
	quiet => '{next_start_at}', wake => '{deleted}');
SELECT coder.audit_track('workspace_agent_port_share', '{agent_name,port,share_level,protocol}', '{workspace_id}');
SELECT coder.audit_track('workspace_agents', '{api_key_scope,name,resource_id,parent_id,auth_instance_id,troubleshooting_url}',
	ARRAY['id', 'created_at', 'updated_at', 'first_connected_at', 'last_connected_at', 'disconnected_at', 'architecture',
		'instance_metadata', 'resource_metadata', 'operating_system', 'directory', 'version', 'last_connected_replica_id',
		'connection_timeout_seconds', 'motd_file', 'lifecycle_state', 'expanded_directory', 'logs_length', 'logs_overflowed',
		'timeout_told', 'started_at', 'ready_at', 'subsystems', 'display_apps', 'api_version', 'display_order', 'deleted'],
	secret => '{auth_token,environment_variables}');
SELECT coder.audit_track('workspace_apps', '{slug,url,command,subdomain,sharing_level,external,display_name,open_in}',
	ARRAY['id', 'created_at', 'agent_id', 'icon', 'healthcheck_url', 'healthcheck_interval', 'healthcheck_threshold', 'health',
		'display_order', 'hidden', 'display_group', 'tooltip']);
SELECT coder.audit_track('oauth2_provider_apps', ARRAY['name', 'icon', 'callback_url', 'redirect_uris', 'client_type',
	'dynamically_registered', 'client_secret_expires_at', 'grant_types', 'response_types', 'token_endpoint_auth_method', 'scope',
	'contacts', 'client_uri', 'logo_uri', 'tos_uri', 'policy_uri', 'jwks_uri', 'software_id', 'software_version', 'registration_client_uri'],
	'{id,created_at,updated_at,client_id_issued_at}', secret => '{jwks,registration_access_token}');
SELECT coder.audit_track('oauth2_provider_app_secrets', '{app_id,display_secret}', '{id,created_at,last_used_at,secret_prefix}',
	secret => '{hashed_secret}');
SELECT coder.audit_track('user_secrets', '{id,user_id,name,description,env_name,file_path}', '{created_at,updated_at}', secret => '{value}');
SELECT coder.audit_track('chat_providers', '{id,provider,display_name,enabled,base_url,central_api_key_enabled,allow_user_api_key,allow_central_api_key_fallback}',
	'{api_key_key_id,created_by,created_at,updated_at}', secret => '{api_key}');
SELECT coder.audit_track('user_chat_provider_keys', '{id,user_id,chat_provider_id}', '{api_key_key_id,created_at,updated_at}', secret => '{api_key}');
SELECT coder.audit_track('notification_templates', '{name,title_template,body_template,actions,group,method,kind,enabled_by_default}', '{id}');

-- Without WHEN, which is compiled anew for each statement: the function looks.
CREATE TRIGGER audit AFTER UPDATE OF completed_at ON coder.provisioner_jobs
	FOR EACH ROW EXECUTE FUNCTION coder.audit_build();

-- Settings of the site and of organizations are values by key: the members of the JSON value are the columns.
CREATE TABLE coder.audit_settings (
	pattern text PRIMARY KEY,
	resource_type coder.resource_type NOT NULL,
	target text NOT NULL DEFAULT ''
);
COMMENT ON TABLE coder.audit_settings IS 'Keys (LIKE) of coder.site_configs whose changes are audited; a key with an organization''s id is that organization''s.';
INSERT INTO coder.audit_settings VALUES
	('health_settings', 'health_settings', ''),
	('notifications_settings', 'notifications_settings', ''),
	('prebuilds_settings', 'prebuilds_settings', ''),
	('idpsync:organization', 'idp_sync_settings_organization', 'Organization Sync'),
	('idpsync:groups:%', 'idp_sync_settings_group', 'Organization Group Sync'),
	('idpsync:roles:%', 'idp_sync_settings_role', 'Organization Role Sync');

-- Trigger: one audit row for a changed setting.
CREATE FUNCTION coder.audit_setting() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	k CONSTANT text := coalesce(NEW.key, OLD.key);
	s coder.audit_settings;
BEGIN
	SELECT x.* INTO s FROM coder.audit_settings x WHERE k LIKE x.pattern;
	IF s.pattern IS NULL OR coder.restoring() OR NEW.value IS NOT DISTINCT FROM OLD.value THEN
		RETURN NULL;
	END IF;
	PERFORM coder.audit('write', s.resource_type::text, '00000000-0000-0000-0000-000000000000', s.target,
		substring(k FROM '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}')::uuid,
		coder.audit_diff(coder.try_object(OLD.value), coder.try_object(NEW.value)));
	RETURN NULL;
END
$$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON coder.site_configs
	FOR EACH ROW EXECUTE FUNCTION coder.audit_setting();

-- A JSON object of text, {} where it is none.
CREATE FUNCTION coder.try_object(value text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE WHEN jsonb_typeof(value::jsonb) = 'object' THEN value::jsonb ELSE '{}' END;
EXCEPTION WHEN invalid_text_representation THEN
	RETURN '{}';
END
$$;

-- The members of two JSON objects that differ, as a diff.
CREATE FUNCTION coder.audit_diff(before jsonb, after jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN coalesce((SELECT jsonb_object_agg(coalesce(b.key, a.key),
			jsonb_build_object('old', b.value, 'new', a.value, 'secret', false))
		FROM jsonb_each(before) b FULL JOIN jsonb_each(after) a ON a.key = b.key
		WHERE a.value IS DISTINCT FROM b.value), '{}');
END
$$;
