// What holds for the chats of a deployment: the system prompt, workspaces, templates, retention.
//
// SPDX-License-Identifier: MIT
import { useState } from "preact/hooks";
import { api } from "../api";
import { useApi } from "../live";
import type { Template } from "../types";
import { Choices, Empty, ErrorBox, Field, Loading, useTitle } from "../ui";
import { CONFIG, Check, SaveForm, TextArea } from "./shared";

interface SystemPromptConfig {
  system_prompt: string;
  include_default_system_prompt: boolean;
  default_system_prompt: string;
}

export function SystemPrompt() {
  useTitle("System prompt");
  const loaded = useApi<SystemPromptConfig>(`${CONFIG}/system-prompt`);
  const [text, setText] = useState<string>();
  const [include, setInclude] = useState<boolean>();
  const now = loaded.data;
  if (!now) return loaded.error ? <ErrorBox error={loaded.error} /> : <Loading />;
  const save = () => api.put<void>(`${CONFIG}/system-prompt`, { system_prompt: text ?? now.system_prompt, include_default_system_prompt: include ?? now.include_default_system_prompt });
  return (
    <>
      <h1>System prompt</h1>
      <SaveForm action={save}>
        <TextArea label="What models are told in every new chat" rows={12} value={text ?? now.system_prompt} onInput={setText} />
        <Check label="After the default" checked={include ?? now.include_default_system_prompt} onChange={setInclude} />
      </SaveForm>
      <details>
        <summary>The default</summary>
        <pre class="log">{now.default_system_prompt}</pre>
      </details>
    </>
  );
}

const HOUR_MS = 3_600_000;

/** Whether users may have their chats written down, and how long that is kept. */
function DebugLogging() {
  const site = useApi<{ allow_users: boolean; forced_by_deployment: boolean }>(`${CONFIG}/debug-logging`);
  const kept = useApi<{ debug_retention_days: number }>(`${CONFIG}/debug-retention-days`);
  const [allow, setAllow] = useState<boolean>();
  const [days, setDays] = useState<string>();
  if (!site.data || !kept.data) return <ErrorBox error={site.error ?? kept.error} />;
  const save = async () => {
    if (allow !== undefined && !site.data!.forced_by_deployment) await api.put(`${CONFIG}/debug-logging`, { allow_users: allow });
    if (days !== undefined) await api.put(`${CONFIG}/debug-retention-days`, { debug_retention_days: Number(days) });
  };
  return (
    <>
      <h2>Debugging</h2>
      <SaveForm action={save}>
        <Check label="Users may have written down what models are asked in their chats" checked={allow ?? site.data.allow_users} disabled={site.data.forced_by_deployment} onChange={setAllow} />
        {site.data.forced_by_deployment && <p class="help">This server writes down all chats (CODER_CHAT_DEBUG_LOGGING_ENABLED).</p>}
        <Field label="Days that it is kept" type="number" min={0} max={3650} value={days ?? String(kept.data.debug_retention_days)} onInput={(e) => setDays(e.currentTarget.value)} help="0: for ever." />
      </SaveForm>
    </>
  );
}

export function Defaults() {
  useTitle("Workspaces and retention");
  const ttl = useApi<{ workspace_ttl_ms: number }>(`${CONFIG}/workspace-ttl`);
  const retention = useApi<{ retention_days: number }>(`${CONFIG}/retention-days`);
  const desktop = useApi<{ enable_desktop: boolean }>(`${CONFIG}/desktop-enabled`);
  const [hours, setHours] = useState<string>();
  const [days, setDays] = useState<string>();
  const [enabled, setEnabled] = useState<boolean>();
  const error = ttl.error ?? retention.error ?? desktop.error;
  if (!ttl.data || !retention.data || !desktop.data) return error ? <ErrorBox error={error} /> : <Loading />;
  const save = async () => {
    if (hours !== undefined) await api.put(`${CONFIG}/workspace-ttl`, { workspace_ttl_ms: Math.round(Number(hours) * HOUR_MS) });
    if (days !== undefined) await api.put(`${CONFIG}/retention-days`, { retention_days: Number(days) });
    if (enabled !== undefined) await api.put(`${CONFIG}/desktop-enabled`, { enable_desktop: enabled });
  };
  return (
    <>
      <h1>Workspaces and retention</h1>
      <SaveForm action={save}>
        <Field label="Hours until a chat's workspace stops" type="number" min={0} step="any" value={hours ?? String(ttl.data.workspace_ttl_ms / HOUR_MS)} onInput={(e) => setHours(e.currentTarget.value)} help="0: as the template says." />
        <Field label="Days that archived chats are kept" type="number" min={0} max={3650} value={days ?? String(retention.data.retention_days)} onInput={(e) => setDays(e.currentTarget.value)} help="0: for ever." />
        <Check label="Chats may use a desktop" checked={enabled ?? desktop.data.enable_desktop} onChange={setEnabled} />
      </SaveForm>
      <DebugLogging />
      <AllowList />
    </>
  );
}

function AllowList() {
  const stored = useApi<{ template_ids: string[] }>(`${CONFIG}/template-allowlist`);
  const templates = useApi<Template[]>("/api/v2/templates");
  const [chosen, setChosen] = useState<string[]>();
  if (!stored.data || !templates.data) return <ErrorBox error={stored.error ?? templates.error} />;
  const usable = templates.data.filter((t) => !t.deprecated);
  const known = new Set(usable.map((t) => t.id));
  const save = () => api.put<void>(`${CONFIG}/template-allowlist`, { template_ids: (chosen ?? stored.data!.template_ids).filter((id) => known.has(id)) });
  return (
    <>
      <h2>Templates</h2>
      {usable.length === 0 ? (
        <Empty>There are no templates.</Empty>
      ) : (
        <SaveForm action={save}>
          <Choices legend="Chats may use (none ticked: all)" choices={usable.map((t) => [t.id, `${t.display_name || t.name} (${t.organization_name})`])} chosen={chosen ?? stored.data.template_ids} onChange={setChosen} />
        </SaveForm>
      )}
    </>
  );
}
