// The answers of the public API that the pages use; names are the API's.
//
// SPDX-License-Identifier: MIT

export interface Validation {
  field: string;
  detail: string;
}

export interface BuildInfo {
  version: string;
  external_url: string;
  dashboard_url: string;
  agent_api_version: string;
  provisioner_api_version: string;
  deployment_id: string;
}

export interface Role {
  name: string;
  display_name: string;
}

export interface User {
  id: string;
  username: string;
  name?: string;
  email: string;
  avatar_url?: string;
  created_at: string;
  last_seen_at: string;
  status: "active" | "suspended" | "dormant";
  login_type: string;
  organization_ids: string[];
  roles: Role[];
}

export interface Organization {
  id: string;
  name: string;
  display_name: string;
  description: string;
  is_default: boolean;
  created_at: string;
}

export interface Member {
  user_id: string;
  organization_id: string;
  username: string;
  name?: string;
  email: string;
  status: string;
  roles: Role[];
}

export interface Permission {
  negate: boolean;
  resource_type: string;
  action: string;
}

/** Why a user may do something, or may not. */
export interface Explanation {
  allowed: boolean;
  reason: string;
  levels: {
    level: string;
    applies: boolean;
    vote: string;
    decides: boolean;
    permissions: (Permission & { role: string; organization_id?: string })[];
  }[];
  acl: { user: boolean; groups: string[] };
  scope: { passes: boolean; scopes: string[] };
  allow_list: { passes: boolean; entries: string[] };
  would_grant: string[];
}

export interface AssignableRole extends Role {
  organization_id?: string;
  assignable: boolean;
  built_in: boolean;
  site_permissions: Permission[];
  user_permissions: Permission[];
  organization_permissions: Permission[];
  organization_member_permissions: Permission[];
}

export interface Group {
  id: string;
  name: string;
  display_name: string;
  organization_id: string;
  organization_name?: string;
  members: { id: string; username: string; email: string }[];
  total_member_count: number;
  quota_allowance: number;
  source: string;
}

export interface AuditLog {
  id: string;
  time: string;
  ip: string;
  user_agent: string;
  request_id: string;
  resource_type: string;
  resource_target: string;
  action: string;
  diff: Record<string, { old?: unknown; new?: unknown; secret: boolean }>;
  status_code: number;
  description: string;
  resource_link: string;
  is_deleted: boolean;
  organization?: { name: string; display_name: string };
  user?: { username: string };
}

export interface ConnectionLog {
  id: string;
  connect_time: string;
  workspace_owner_username: string;
  workspace_name: string;
  agent_name: string;
  ip?: string;
  type: string;
  web_info?: { user?: { username: string }; slug_or_port: string; status_code: number };
  ssh_info?: { disconnect_time?: string; disconnect_reason?: string; exit_code?: number };
}

export interface OAuth2App {
  id: string;
  name: string;
  callback_url: string;
  icon: string;
  endpoints: { authorization: string; token: string; token_revoke: string };
}

export interface AuthMethods {
  terms_of_service_url?: string;
  password: { enabled: boolean };
  github: { enabled: boolean };
  oidc: { enabled: boolean; signInText: string; iconUrl: string };
}

export interface DeviceOffer {
  device_code: string;
  user_code: string;
  verification_uri: string;
  expires_in: number;
  interval: number;
}

export interface ExternalAuth {
  authenticated: boolean;
  device: boolean;
  display_name: string;
  user: { login: string } | null;
  app_installable: boolean;
  app_install_url: string;
  installations: { id: number }[];
}

export interface ExternalAuthList {
  providers: { id: string; display_name: string }[];
  links: { provider_id: string; expires: string; authenticated: boolean; validate_error: string }[];
}

export type JobStatus = "pending" | "running" | "succeeded" | "failed" | "canceling" | "canceled" | "unknown";

export interface ProvisionerJob {
  id: string;
  created_at: string;
  started_at?: string;
  completed_at?: string;
  status: JobStatus;
  error?: string;
  error_code?: string;
  queue_position: number;
  queue_size: number;
}

export interface Template {
  id: string;
  created_at: string;
  updated_at: string;
  organization_id: string;
  organization_name: string;
  name: string;
  display_name: string;
  description: string;
  icon: string;
  active_version_id: string;
  active_user_count: number;
  created_by_name: string;
  deprecated: boolean;
  deprecation_message: string;
}

export interface TemplateExample {
  id: string;
  name: string;
  description: string;
  icon: string;
  tags: string[];
  markdown: string;
}

export interface TemplateVersion {
  id: string;
  template_id: string;
  organization_id: string;
  created_at: string;
  name: string;
  message: string;
  job: ProvisionerJob;
  readme: string;
  created_by: { id: string; username: string };
  archived: boolean;
}

export interface ParameterOption {
  name: string;
  description: string;
  value: string;
  icon: string;
}

export interface TemplateParameter {
  name: string;
  display_name?: string;
  description: string;
  description_plaintext: string;
  type: string;
  form_type: string;
  mutable: boolean;
  default_value: string;
  options: ParameterOption[];
  validation_error?: string;
  validation_regex?: string;
  validation_min?: number;
  validation_max?: number;
  required: boolean;
  ephemeral: boolean;
}

export interface WorkspaceApp {
  id: string;
  url?: string;
  external: boolean;
  slug: string;
  display_name?: string;
  command?: string;
  icon?: string;
  subdomain: boolean;
  subdomain_name?: string;
  health: "disabled" | "initializing" | "healthy" | "unhealthy";
  hidden: boolean;
}

export interface LogSource {
  id: string;
  display_name: string;
}

export interface WorkspaceAgent {
  id: string;
  name: string;
  status: "connecting" | "connected" | "disconnected" | "timeout";
  lifecycle_state: string;
  operating_system: string;
  architecture: string;
  version: string;
  directory?: string;
  expanded_directory?: string;
  apps: WorkspaceApp[];
  display_apps: string[];
  health: { healthy: boolean; reason?: string };
  latency?: Record<string, { preferred: boolean; latency_ms: number }>;
  log_sources: LogSource[];
}

export interface WorkspaceResource {
  id: string;
  type: string;
  name: string;
  hide: boolean;
  icon: string;
  agents?: WorkspaceAgent[];
  metadata?: { key: string; value: string; sensitive: boolean }[];
}

export type WorkspaceStatus =
  | "pending"
  | "starting"
  | "running"
  | "stopping"
  | "stopped"
  | "failed"
  | "canceling"
  | "canceled"
  | "deleting"
  | "deleted";

export interface WorkspaceBuild {
  id: string;
  created_at: string;
  build_number: number;
  transition: "start" | "stop" | "delete";
  status: WorkspaceStatus;
  reason: string;
  initiator_name: string;
  template_version_id: string;
  template_version_name: string;
  workspace_id: string;
  workspace_name: string;
  workspace_owner_name: string;
  job: ProvisionerJob;
  resources: WorkspaceResource[];
  deadline?: string;
}

export interface Workspace {
  id: string;
  created_at: string;
  owner_id: string;
  owner_name: string;
  organization_id: string;
  organization_name: string;
  template_id: string;
  template_name: string;
  template_display_name: string;
  template_active_version_id: string;
  latest_build: WorkspaceBuild;
  outdated: boolean;
  name: string;
  autostart_schedule?: string;
  ttl_ms?: number;
  last_used_at: string;
  health: { healthy: boolean; failing_agents: string[] };
  favorite: boolean;
}

export interface JobLog {
  id: number;
  created_at: string;
  log_source: string;
  log_level: string;
  stage: string;
  output: string;
}

export interface AgentLog {
  id: number;
  created_at: string;
  output: string;
  level: string;
  source_id: string;
}

export interface AgentMetadata {
  result: { collected_at: string; age: number; value: string; error: string };
  description: { display_name: string; key: string; interval: number };
}

export interface ApiKey {
  id: string;
  created_at: string;
  last_used: string;
  expires_at: string;
  token_name: string;
  login_type: string;
  scopes: string[];
  allow_list: string[];
  lifetime_seconds: number;
}

export interface SessionKey extends ApiKey {
  ip_address: string;
  current: boolean;
}

export interface DAUs {
  tz_hour_offset: number;
  entries: { date: string; amount: number }[];
}

export interface DeploymentStats {
  aggregated_from: string;
  collected_at: string;
  next_update_at: string;
  workspaces: {
    pending: number;
    building: number;
    running: number;
    failed: number;
    stopped: number;
    connection_latency_ms: { P50: number; P95: number };
    rx_bytes: number;
    tx_bytes: number;
  };
  session_count: { vscode: number; jetbrains: number; ssh: number; reconnecting_pty: number };
}

export interface StatusCounts {
  status_counts: Record<string, { date: string; count: number }[]>;
}

export interface AppUsage {
  template_ids: string[];
  type: "builtin" | "app";
  slug: string;
  display_name: string;
  seconds: number;
  times_used: number;
}

export interface ParameterUsage {
  template_ids: string[];
  name: string;
  display_name: string;
  description: string;
  options?: { name: string; value: string }[];
  values: { value: string; count: number }[];
}

export interface TemplateInsights {
  report?: { start_time: string; end_time: string; template_ids: string[]; active_users: number; apps_usage: AppUsage[]; parameters_usage: ParameterUsage[] };
  interval_reports?: { start_time: string; end_time: string; active_users: number }[];
}

export interface UserActivity {
  report: { users: { user_id: string; username: string; seconds: number }[] };
}

export interface UserLatency {
  report: { users: { user_id: string; username: string; latency_ms: { p50: number; p95: number } }[] };
}

/** With by, a row for each day, user, workspace, template or organization. */
export interface BoundaryReport {
  report: {
    by: string;
    total: { allowed: number; denied: number; users: number; workspaces: number; rows: number };
    rows: { key: string; name: string; allowed: number; denied: number; users: number; workspaces: number }[];
  };
}

export interface AgentStats {
  start_time: string;
  end_time: string;
  step_seconds: number;
  points: {
    time: string;
    rx_bytes: number;
    tx_bytes: number;
    connections: number;
    vscode: number;
    jetbrains: number;
    ssh: number;
    reconnecting_pty: number;
    latency_ms: { p50: number; p95: number } | null;
  }[];
}

export type Severity = "ok" | "warning" | "error";

export interface HealthMessage {
  code: string;
  message: string;
}

export interface HealthSection {
  severity: Severity;
  error?: string;
  warnings: HealthMessage[];
  dismissed: boolean;
}

export interface HealthSections {
  access_url: HealthSection & { access_url: string; reachable: boolean; status_code: number; healthz_response: string };
  websocket: HealthSection & { code: number; body: string };
  database: HealthSection & { latency: string; threshold_ms: number };
  workspace_proxy: HealthSection & { workspace_proxies: { regions: unknown[] } };
  provisioner_daemons: HealthSection & {
    items: {
      provisioner_daemon: { id: string; name: string; version: string; provisioners: string[]; tags: Record<string, string>; last_seen_at: string };
      warnings: HealthMessage[];
    }[];
  };
  derp: HealthSection & {
    regions: Record<
      string,
      {
        severity: Severity;
        region: { RegionID: number; RegionName: string };
        node_reports: {
          severity: Severity;
          error?: string;
          node: { Name: string; HostName: string; DERPPort: number };
          can_exchange_messages: boolean;
          round_trip_ping: string;
          uses_websocket: boolean;
          stun: { Enabled: boolean; CanSTUN: boolean; Error: string | null };
        }[];
      } | null
    >;
    netcheck?: { UDP: boolean; IPv4: boolean; IPv6: boolean; PreferredDERP: number; GlobalV4: string };
  };
}

export interface HealthReport extends HealthSections {
  time: string;
  healthy: boolean;
  severity: Severity;
  coder_version: string;
}
