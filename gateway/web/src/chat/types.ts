// The answers of the chats' API; names are the API's.
//
// SPDX-License-Identifier: MIT

export const CHATS = "/api/experimental/chats";
export const MCP_SERVERS = "/api/experimental/mcp/servers";

export type ChatStatus = "waiting" | "pending" | "running" | "paused" | "completed" | "error" | "requires_action";

export interface ChatFile {
  id: string;
  name: string;
  mime_type: string;
}

export interface DiffStatus {
  url?: string;
  pull_request_title: string;
  pull_request_state?: string;
  pr_number?: number;
  commits?: number;
  additions: number;
  deletions: number;
  changed_files: number;
}

export interface Chat {
  id: string;
  organization_id: string;
  owner_id: string;
  last_model_config_id: string;
  workspace_id?: string;
  build_id?: string;
  agent_id?: string;
  parent_chat_id?: string;
  root_chat_id?: string;
  title: string;
  status: ChatStatus;
  last_error: string | null;
  diff_status?: DiffStatus;
  created_at: string;
  updated_at: string;
  archived: boolean;
  pin_order: number;
  labels: Record<string, string>;
  mcp_server_ids: string[];
  files?: ChatFile[];
  has_unread: boolean;
  last_injected_context?: Part[];
  warnings?: string[];
}

export interface Part {
  type: string;
  text?: string;
  tool_call_id?: string;
  tool_name?: string;
  args?: unknown;
  args_delta?: string;
  result?: unknown;
  result_delta?: string;
  is_error?: boolean;
  is_media?: boolean;
  mcp_server_config_id?: string | null;
  url?: string;
  title?: string;
  file_id?: string | null;
  media_type?: string;
  data?: string;
  file_name?: string;
  start_line?: number;
  end_line?: number;
  content?: string;
  context_file_path?: string;
  context_file_truncated?: boolean;
  skill_name?: string;
  skill_description?: string;
}

/** A repository of a workspace; removed: it is there no longer. */
export interface GitRepository {
  repo_root: string;
  branch: string;
  remote_origin?: string;
  unified_diff?: string;
  removed?: boolean;
}

export interface DiffContents {
  branch?: string;
  remote_origin?: string;
  pull_request_url?: string;
  diff?: string;
}

export interface Usage {
  input_tokens?: number;
  output_tokens?: number;
  cache_creation_tokens?: number;
  cache_read_tokens?: number;
  context_limit?: number;
}

export interface ChatMessage {
  id: number;
  chat_id: string;
  model_config_id?: string;
  created_at: string;
  role: "system" | "user" | "assistant" | "tool";
  content?: Part[];
  usage?: Usage;
}

export interface QueuedMessage {
  id: number;
  content: Part[];
  created_at: string;
}

export interface Messages {
  messages: ChatMessage[];
  queued_messages: QueuedMessage[];
  has_more: boolean;
}

export interface StreamError {
  message: string;
  kind?: string;
  provider?: string;
  retryable: boolean;
  status_code?: number;
}

export interface Retry {
  attempt: number;
  error: string;
  retrying_at: string;
}

export interface StreamEvent {
  type: string;
  message_part?: { role?: string; part: Part };
  message?: ChatMessage;
  status?: { status: ChatStatus };
  error?: StreamError;
  queued_messages?: QueuedMessage[];
  retry?: Retry;
}

export interface WatchEvent {
  kind: string;
  chat: Chat;
}

export interface InputPart {
  type: "text" | "file" | "file-reference";
  text?: string;
  file_id?: string;
  file_name?: string;
  start_line?: number;
  end_line?: number;
  content?: string;
}

export interface ModelConfig {
  id: string;
  provider: string;
  model: string;
  display_name: string;
  enabled: boolean;
  is_default: boolean;
  context_limit: number;
  compression_threshold: number;
  model_config?: ModelOptions;
}

export interface ModelOptions {
  max_output_tokens?: number;
  temperature?: number;
  cost?: Record<string, string>;
  provider_options?: Record<string, Record<string, unknown>>;
}

export interface Catalogue {
  providers: { provider: string; available: boolean; unavailable_reason?: string }[];
}

export interface Provider {
  id: string;
  provider: string;
  display_name: string;
  enabled: boolean;
  has_api_key: boolean;
  central_api_key_enabled: boolean;
  allow_user_api_key: boolean;
  allow_central_api_key_fallback: boolean;
  base_url?: string;
  source: string;
}

/** What is about its address and its clients is for administrators only. */
export interface McpServer {
  id: string;
  display_name: string;
  slug: string;
  description: string;
  transport: string;
  url: string;
  auth_type: string;
  oauth2_client_id?: string;
  has_oauth2_secret: boolean;
  oauth2_auth_url?: string;
  oauth2_token_url?: string;
  oauth2_scopes?: string;
  api_key_header?: string;
  has_api_key: boolean;
  has_custom_headers: boolean;
  tool_allow_list: string[];
  tool_deny_list: string[];
  availability: string;
  enabled: boolean;
  model_intent: boolean;
  auth_connected: boolean;
}

export interface LimitStatus {
  is_limited: boolean;
  period?: string;
  spend_limit_micros?: number;
  current_spend: number;
  period_end: string;
}

interface Sums {
  total_cost_micros: number;
  total_input_tokens: number;
  total_output_tokens: number;
  total_cache_read_tokens: number;
  total_cache_creation_tokens: number;
  total_runtime_ms: number;
}

export interface CostSummary extends Sums {
  priced_message_count: number;
  unpriced_message_count: number;
  by_model: (Sums & { model_config_id: string; display_name: string; provider: string; model: string; message_count: number })[];
  by_chat: (Sums & { root_chat_id: string; chat_title: string; message_count: number })[];
}

export interface CostUsers {
  count: number;
  users: (Sums & { user_id: string; username: string; message_count: number; chat_count: number })[];
}

interface PrSums {
  merge_rate: number;
  total_additions: number;
  total_deletions: number;
  total_cost_micros: number;
  cost_per_merged_pr_micros: number;
}

export interface PrInsights {
  summary: PrSums & { total_prs_created: number; total_prs_merged: number; prev_total_prs_created: number; prev_total_prs_merged: number; prev_merge_rate: number; prev_cost_per_merged_pr_micros: number };
  time_series: { date: string; prs_created: number; prs_merged: number; prs_closed: number }[];
  by_model: (PrSums & { model_config_id: string; display_name: string; provider: string; total_prs: number; merged_prs: number })[];
  recent_prs: {
    chat_id: string;
    pr_title: string;
    pr_url?: string;
    pr_number?: number;
    state: string;
    draft: boolean;
    additions: number;
    deletions: number;
    approved?: boolean;
    changes_requested: boolean;
    reviewer_count?: number;
    author_login?: string;
    model_display_name: string;
    cost_micros: number;
    created_at: string;
  }[];
}

export interface Limits {
  spend_limit_micros: number | null;
  period: string;
  unpriced_model_count: number;
  overrides: { user_id: string; username: string; spend_limit_micros: number | null }[];
  group_overrides: { group_id: string; group_name: string; group_display_name: string; member_count: number; spend_limit_micros: number | null }[];
}

/** Is it what the workspace told, rather than what somebody said? */
export const isContext = (m: ChatMessage) => m.role === "user" && (m.content ?? []).some((p) => p.type === "context-file" || p.type === "skill");

export const isBusy = (status: ChatStatus) => status === "running" || status === "pending";

export const count = (n: number) => n.toLocaleString("en");

/** Millionths of a dollar as people read them. */
export const dollars = (micros: number) =>
  new Intl.NumberFormat("en", { style: "currency", currency: "USD", maximumFractionDigits: micros !== 0 && Math.abs(micros) < 1e6 ? 4 : 2 }).format(micros / 1e6);

export const modelName = (m?: ModelConfig) => m?.display_name || m?.model || "";
