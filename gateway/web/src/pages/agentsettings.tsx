// Settings of the chats: one's own, and the deployment's.
//
// SPDX-License-Identifier: MIT
import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Link, useParams } from "wouter-preact";
import { api } from "../api";
import { CHATS, type CostSummary, type CostUsers, type LimitStatus, type Limits, type ModelConfig, type Provider, dollars, modelName } from "../chat/types";
import { LimitNotice } from "../chat/composer";
import { useApi } from "../live";
import { useSession } from "../session";
import type { Group, Template } from "../types";
import { McpServers, OwnMcpServers } from "./mcpservers";
import { Pushes } from "./pushes";
import { ActionButton, Choices, ConfirmButton, Dialog, Empty, ErrorBox, Field, Form, ListState, Loading, Select, Table, useTitle } from "../ui";

const CONFIG = `${CHATS}/config`;

const NAMES: Record<string, string> = {
  anthropic: "Anthropic",
  azure: "Azure OpenAI",
  bedrock: "AWS Bedrock",
  google: "Google",
  openai: "OpenAI",
  "openai-compat": "OpenAI compatible",
  openrouter: "OpenRouter",
  vercel: "Vercel",
};
const providerName = (p: { provider: string; display_name?: string }) => p.display_name || NAMES[p.provider] || p.provider;

function TextArea({ label, value, onInput, help, rows = 8, readOnly }: { label: string; value: string; onInput?: (value: string) => void; help?: string; rows?: number; readOnly?: boolean }) {
  const id = `area-${label.replace(/\W+/g, "-")}`;
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <textarea id={id} rows={rows} value={value} readOnly={readOnly} onInput={(e) => onInput?.(e.currentTarget.value)} />
      <div class="help">{help}</div>
    </div>
  );
}

function Check({ label, checked, onChange, disabled }: { label: string; checked: boolean; onChange: (checked: boolean) => void; disabled?: boolean }) {
  return (
    <div class="field">
      <label class="check">
        <input type="checkbox" checked={checked} disabled={disabled} onChange={(e) => onChange(e.currentTarget.checked)} /> {label}
      </label>
    </div>
  );
}

/** A form whose button says for a while that what it did was kept. */
function SaveForm({ action, children, disabled }: { action: () => Promise<void>; children: preact.ComponentChildren; disabled?: boolean }) {
  const [saved, setSaved] = useState(false);
  const run = async () => {
    setSaved(false);
    await action();
    setSaved(true);
  };
  return (
    <Form action={run} submit="Save" busy="Saving …" disabled={disabled} extra={saved && <span role="status">Saved.</span>}>
      {() => children}
    </Form>
  );
}

// ---- one's own

function OwnPrompt() {
  useTitle("Your instructions");
  const loaded = useApi<{ custom_prompt: string }>(`${CONFIG}/user-prompt`);
  const [text, setText] = useState<string>();
  if (!loaded.data) return loaded.error ? <ErrorBox error={loaded.error} /> : <Loading />;
  const save = async () => {
    const stored = await api.put<{ custom_prompt: string }>(`${CONFIG}/user-prompt`, { custom_prompt: text ?? loaded.data!.custom_prompt });
    setText(stored.custom_prompt);
  };
  return (
    <>
      <h1>Your instructions</h1>
      <SaveForm action={save}>
        <TextArea label="Instructions" rows={12} value={text ?? loaded.data.custom_prompt} onInput={setText} help="Models are told this in all of your chats." />
      </SaveForm>
    </>
  );
}

interface OwnKey {
  provider_id: string;
  provider: string;
  display_name: string;
  has_user_api_key: boolean;
  has_central_api_key_fallback: boolean;
}

function KeyForm({ of, onDone }: { of: OwnKey; onDone: () => Promise<void> }) {
  const [key, setKey] = useState("");
  const save = async () => {
    await api.put(`${CHATS}/user-provider-configs/${of.provider_id}`, { api_key: key });
    await onDone();
  };
  return (
    <Form action={save} submit="Keep the key" disabled={!key}>
      {() => <Field label={`Key of ${providerName(of)}`} type="password" autoComplete="off" autoFocus value={key} onInput={(e) => setKey(e.currentTarget.value)} help="It is never shown again." />}
    </Form>
  );
}

function OwnKeys() {
  useTitle("Your keys");
  const keys = useApi<OwnKey[]>(`${CHATS}/user-provider-configs`);
  const [open, setOpen] = useState<OwnKey>();
  const remove = (k: OwnKey) => async () => {
    await api.delete(`${CHATS}/user-provider-configs/${k.provider_id}`);
    await keys.reload();
  };
  return (
    <>
      <h1>Your keys</h1>
      <ListState error={keys.error} loaded={!!keys.data} empty={keys.data?.length === 0} text="No provider takes keys of users." />
      {keys.data && keys.data.length > 0 && (
        <Table head={["Provider", "Your key", ""]}>
          {keys.data.map((k) => (
            <tr key={k.provider_id}>
              <td>{providerName(k)}</td>
              <td>{k.has_user_api_key ? "kept" : k.has_central_api_key_fallback ? "none; the deployment's is used" : "none"}</td>
              <td class="actions">
                <button type="button" onClick={() => setOpen(k)}>
                  {k.has_user_api_key ? "Replace" : "Add"}
                </button>
                {k.has_user_api_key && (
                  <ActionButton kind="danger" action={remove(k)}>
                    Remove
                  </ActionButton>
                )}
              </td>
            </tr>
          ))}
        </Table>
      )}
      <Dialog title="Your key" open={!!open} onClose={() => setOpen(undefined)}>
        {open && (
          <KeyForm
            of={open}
            onDone={async () => {
              setOpen(undefined);
              await keys.reload();
            }}
          />
        )}
      </Dialog>
    </>
  );
}

function Threshold({ model, own, onDone }: { model: ModelConfig; own?: number; onDone: () => Promise<void> }) {
  const [value, setValue] = useState(String(own ?? model.compression_threshold));
  useEffect(() => setValue(String(own ?? model.compression_threshold)), [own, model.compression_threshold]);
  const path = `${CONFIG}/user-compaction-thresholds/${model.id}`;
  const save = async () => {
    await api.put(path, { threshold_percent: Number(value) });
    await onDone();
  };
  const reset = async () => {
    await api.delete(path);
    await onDone();
  };
  return (
    <tr>
      <td>{modelName(model)}</td>
      <td>{model.compression_threshold} %</td>
      <td>
        <input type="number" min={0} max={100} aria-label={`Percent of ${modelName(model)}`} value={value} onInput={(e) => setValue(e.currentTarget.value)} />
      </td>
      <td class="actions">
        <ActionButton action={save} disabled={value === "" || Number(value) === own}>
          Save
        </ActionButton>
        {own !== undefined && <ActionButton action={reset}>Reset</ActionButton>}
      </td>
    </tr>
  );
}

function Compaction() {
  useTitle("Compaction");
  const models = useApi<ModelConfig[]>(`${CHATS}/model-configs`);
  const own = useApi<{ thresholds: { model_config_id: string; threshold_percent: number }[] }>(`${CONFIG}/user-compaction-thresholds`);
  const enabled = models.data?.filter((m) => m.enabled);
  return (
    <>
      <h1>Compaction</h1>
      <p>When a chat fills this part of what its model can read, it is summarized. 100 turns that off.</p>
      <ListState error={models.error ?? own.error} loaded={!!enabled && !!own.data} empty={enabled?.length === 0} text="There are no models." />
      {enabled && own.data && enabled.length > 0 && (
        <Table head={["Model", "Default", "Yours, percent", ""]}>
          {enabled.map((m) => (
            <Threshold key={m.id} model={m} own={own.data!.thresholds.find((t) => t.model_config_id === m.id)?.threshold_percent} onDone={own.reload} />
          ))}
        </Table>
      )}
    </>
  );
}

const TIMES: [string, string][] = [
  ["7", "7 days"],
  ["30", "30 days"],
  ["90", "90 days"],
  ["365", "a year"],
];

function useSince(): [days: string, set: (days: string) => void, dates: string] {
  const [days, setDays] = useState("30");
  const [now] = useState(() => Date.now());
  const dates = new URLSearchParams({ start_date: new Date(now - Number(days) * 86_400_000).toISOString(), end_date: new Date(now + 86_400_000).toISOString() });
  return [days, setDays, dates.toString()];
}

const count = (n: number) => n.toLocaleString("en");

export function CostTables({ user }: { user: string }) {
  const [days, setDays, dates] = useSince();
  const summary = useApi<CostSummary>(`${CHATS}/cost/${user}/summary?${dates}`);
  const s = summary.data;
  return (
    <>
      <Select label="The last" value={days} choices={TIMES} onChange={setDays} />
      <ListState error={summary.error} loaded={!!s} empty={s?.by_model.length === 0} text="Nothing was asked of a model in this time." />
      {s && s.by_model.length > 0 && (
        <>
          <dl class="metadata">
            {[
              ["Cost", dollars(s.total_cost_micros)],
              ["Answers", count(s.priced_message_count + s.unpriced_message_count)],
              ["Without a price", count(s.unpriced_message_count)],
              ["Tokens read", count(s.total_input_tokens + s.total_cache_read_tokens + s.total_cache_creation_tokens)],
              ["Tokens written", count(s.total_output_tokens)],
              ["Time", `${Math.round(s.total_runtime_ms / 1000)} s`],
            ].map(([name, value]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{value}</dd>
              </div>
            ))}
          </dl>
          <h2>By model</h2>
          <div class="scroll">
            <Table head={["Model", "Provider", "Answers", "Read", "Written", "Cost"]}>
              {s.by_model.map((m) => (
                <tr key={m.model_config_id}>
                  <td>{m.display_name}</td>
                  <td>{providerName({ provider: m.provider })}</td>
                  <td>{count(m.message_count)}</td>
                  <td>{count(m.total_input_tokens)}</td>
                  <td>{count(m.total_output_tokens)}</td>
                  <td>{dollars(m.total_cost_micros)}</td>
                </tr>
              ))}
            </Table>
          </div>
          <h2>By chat</h2>
          <div class="scroll">
            <Table head={["Chat", "Answers", "Read", "Written", "Cost"]}>
              {s.by_chat.map((c) => (
                <tr key={c.root_chat_id}>
                  <td>
                    <Link href={`/agents/${c.root_chat_id}`}>{c.chat_title}</Link>
                  </td>
                  <td>{count(c.message_count)}</td>
                  <td>{count(c.total_input_tokens)}</td>
                  <td>{count(c.total_output_tokens)}</td>
                  <td>{dollars(c.total_cost_micros)}</td>
                </tr>
              ))}
            </Table>
          </div>
        </>
      )}
    </>
  );
}

function OwnCost() {
  useTitle("Your cost");
  const limit = useApi<LimitStatus>(`${CHATS}/usage-limits/status`);
  return (
    <>
      <h1>Your cost</h1>
      <LimitNotice status={limit.data} />
      <CostTables user="me" />
    </>
  );
}

// ---- the deployment's

function ProviderForm({ provider: p, onDone }: { provider: Provider; onDone: () => Promise<void> }) {
  const stored = p.source === "database";
  const [name, setName] = useState(p.display_name === NAMES[p.provider] ? "" : p.display_name);
  const [url, setUrl] = useState(p.base_url ?? "");
  const [key, setKey] = useState("");
  const [enabled, setEnabled] = useState(stored ? p.enabled : true);
  const [central, setCentral] = useState(stored ? p.central_api_key_enabled : true);
  const [own, setOwn] = useState(p.allow_user_api_key);
  const [fallback, setFallback] = useState(p.allow_central_api_key_fallback);
  const save = async () => {
    const body = {
      display_name: name,
      base_url: url,
      enabled,
      central_api_key_enabled: central,
      allow_user_api_key: own,
      allow_central_api_key_fallback: central && own && fallback,
      ...(key ? { api_key: key } : {}),
    };
    if (stored) await api.patch(`${CHATS}/providers/${p.id}`, body);
    else await api.post(`${CHATS}/providers`, { provider: p.provider, ...body });
    await onDone();
  };
  return (
    <Form action={save} submit={stored ? "Save" : "Set up"}>
      {() => (
        <>
          <Field label="Display name" value={name} onInput={(e) => setName(e.currentTarget.value)} help={`Empty: ${NAMES[p.provider] ?? p.provider}.`} />
          <Field label="Base URL" type="url" value={url} onInput={(e) => setUrl(e.currentTarget.value)} help="Empty: the provider's own." />
          <Check label="One key for everybody" checked={central} onChange={setCentral} />
          {central && <Field label="API key" type="password" autoComplete="off" value={key} onInput={(e) => setKey(e.currentTarget.value)} help={p.has_api_key ? "There is one; what is typed here takes its place." : "It is never shown again."} />}
          <Check label="Users may bring their own key" checked={own} onChange={setOwn} />
          {central && own && <Check label="Who has no key uses the common one" checked={fallback} onChange={setFallback} />}
          <Check label="On" checked={enabled} onChange={setEnabled} />
        </>
      )}
    </Form>
  );
}

function Providers() {
  useTitle("Providers");
  const providers = useApi<Provider[]>(`${CHATS}/providers`);
  const [open, setOpen] = useState<Provider>();
  const remove = (p: Provider) => async () => {
    await api.delete(`${CHATS}/providers/${p.id}`);
    await providers.reload();
  };
  return (
    <>
      <h1>Providers</h1>
      <ListState error={providers.error} loaded={!!providers.data} empty={false} text="" />
      {providers.data && (
        <Table head={["Provider", "State", "Key", ""]}>
          {providers.data.map((p) => {
            const stored = p.source === "database";
            return (
              <tr key={p.provider}>
                <td>
                  {providerName(p)}
                  {p.base_url && <div class="help">{p.base_url}</div>}
                </td>
                <td>{stored ? (p.enabled ? "on" : "off") : "not set up"}</td>
                <td>{[p.has_api_key && p.central_api_key_enabled && "common", p.allow_user_api_key && "users'"].filter(Boolean).join(", ")}</td>
                <td class="actions">
                  <button type="button" onClick={() => setOpen(p)}>
                    {stored ? "Change" : "Set up"}
                  </button>
                  {stored && (
                    <ConfirmButton title={`Remove ${providerName(p)}?`} text="Its key and its models go with it." yes="Remove the provider" action={remove(p)}>
                      Remove
                    </ConfirmButton>
                  )}
                </td>
              </tr>
            );
          })}
        </Table>
      )}
      <Dialog title={open ? providerName(open) : ""} open={!!open} onClose={() => setOpen(undefined)}>
        {open && (
          <ProviderForm
            provider={open}
            onDone={async () => {
              setOpen(undefined);
              await providers.reload();
            }}
          />
        )}
      </Dialog>
    </>
  );
}

const PRICES: [string, string][] = [
  ["input_price_per_million_tokens", "Read"],
  ["output_price_per_million_tokens", "Written"],
  ["cache_read_price_per_million_tokens", "Read from the cache"],
  ["cache_write_price_per_million_tokens", "Written to the cache"],
];

function ModelForm({ model: m, providers, onDone }: { model?: ModelConfig; providers: Provider[]; onDone: () => Promise<void> }) {
  const ready = providers.filter((p) => p.source === "database");
  const [provider, setProvider] = useState(m?.provider ?? ready[0]?.provider ?? "");
  const [name, setName] = useState(m?.model ?? "");
  const [shown, setShown] = useState(m?.display_name ?? "");
  const [limit, setLimit] = useState(String(m?.context_limit ?? 200000));
  const [threshold, setThreshold] = useState(String(m?.compression_threshold ?? 70));
  const [enabled, setEnabled] = useState(m?.enabled ?? true);
  const [isDefault, setDefault] = useState(m?.is_default ?? false);
  const [prices, setPrices] = useState<Record<string, string>>(m?.model_config?.cost ?? {});
  const [most, setMost] = useState(String(m?.model_config?.max_output_tokens ?? ""));
  const [more, setMore] = useState(() => {
    const { cost: _cost, max_output_tokens: _most, ...rest } = m?.model_config ?? {};
    return Object.keys(rest).length > 0 ? JSON.stringify(rest, null, 2) : "";
  });
  const save = async () => {
    let rest: object;
    try {
      rest = more.trim() ? JSON.parse(more) : {};
    } catch (error) {
      throw new Error(`The other options are no JSON: ${(error as Error).message}`);
    }
    const cost = Object.fromEntries(Object.entries(prices).filter(([, v]) => v !== ""));
    const body = {
      provider,
      model: name,
      display_name: shown,
      enabled,
      is_default: isDefault,
      context_limit: Number(limit),
      compression_threshold: Number(threshold),
      model_config: { ...rest, ...(Object.keys(cost).length > 0 ? { cost } : {}), ...(most ? { max_output_tokens: Number(most) } : {}) },
    };
    if (m) await api.patch(`${CHATS}/model-configs/${m.id}`, body);
    else await api.post(`${CHATS}/model-configs`, body);
    await onDone();
  };
  return (
    <Form action={save} submit={m ? "Save" : "Add the model"}>
      {() => (
        <>
          <Select label="Provider" value={provider} choices={ready.map((p) => [p.provider, providerName(p)])} onChange={setProvider} />
          <Field label="Model" value={name} onInput={(e) => setName(e.currentTarget.value)} help="As the provider names it." />
          <Field label="Display name" value={shown} onInput={(e) => setShown(e.currentTarget.value)} />
          <div class="filters">
            <Field label="Context, tokens" type="number" min={1} value={limit} onInput={(e) => setLimit(e.currentTarget.value)} />
            <Field label="Summarize at, percent" type="number" min={0} max={100} value={threshold} onInput={(e) => setThreshold(e.currentTarget.value)} />
            <Field label="Longest answer, tokens" type="number" min={1} value={most} onInput={(e) => setMost(e.currentTarget.value)} />
          </div>
          <fieldset class="choices">
            <legend>Dollars a million tokens</legend>
            {PRICES.map(([key, label]) => (
              <Field key={key} label={label} inputMode="decimal" value={prices[key] ?? ""} onInput={(e) => setPrices({ ...prices, [key]: e.currentTarget.value.trim() })} />
            ))}
          </fieldset>
          <details>
            <summary>Other options</summary>
            <TextArea label="Options as JSON" value={more} onInput={setMore} rows={6} help={'Such as {"temperature": 0.2, "provider_options": {"openai": {"reasoning_effort": "high"}}}.'} />
          </details>
          <Check label="On" checked={enabled} onChange={setEnabled} />
          <Check label="The default model" checked={isDefault} onChange={setDefault} />
        </>
      )}
    </Form>
  );
}

function ModelList() {
  useTitle("Models");
  const models = useApi<ModelConfig[]>(`${CHATS}/model-configs`);
  const providers = useApi<Provider[]>(`${CHATS}/providers`);
  const [open, setOpen] = useState<ModelConfig | "new">();
  const remove = (m: ModelConfig) => async () => {
    await api.delete(`${CHATS}/model-configs/${m.id}`);
    await models.reload();
  };
  const someProvider = providers.data?.some((p) => p.source === "database");
  const price = (m: ModelConfig, key: string) => m.model_config?.cost?.[key] ?? "–";
  return (
    <>
      <div class="head">
        <h1>Models</h1>
        <button type="button" class="primary" disabled={!someProvider} onClick={() => setOpen("new")}>
          New model
        </button>
      </div>
      {providers.data && !someProvider && (
        <p>
          First <Link href="/agents/settings/providers">set up a provider</Link>.
        </p>
      )}
      <ListState error={models.error ?? providers.error} loaded={!!models.data} empty={models.data?.length === 0} text="There are no models." />
      {models.data && models.data.length > 0 && (
        <div class="scroll">
          <Table head={["Model", "Provider", "Context", "Read $", "Written $", "", ""]}>
            {models.data.map((m) => (
              <tr key={m.id}>
                <td>{modelName(m)}</td>
                <td>{providerName(providers.data?.find((p) => p.provider === m.provider) ?? { provider: m.provider })}</td>
                <td>{count(m.context_limit)}</td>
                <td>{price(m, PRICES[0][0])}</td>
                <td>{price(m, PRICES[1][0])}</td>
                <td>
                  {m.is_default && <span class="tag">default</span>} {!m.enabled && <span class="tag">off</span>}
                </td>
                <td class="actions">
                  <button type="button" onClick={() => setOpen(m)}>
                    Change
                  </button>
                  <ConfirmButton title={`Remove ${modelName(m)}?`} text="Chats that used it go on with another." yes="Remove the model" action={remove(m)}>
                    Remove
                  </ConfirmButton>
                </td>
              </tr>
            ))}
          </Table>
        </div>
      )}
      <Dialog title={open === "new" ? "New model" : "Model"} open={!!open} onClose={() => setOpen(undefined)}>
        {open && (
          <ModelForm
            model={open === "new" ? undefined : open}
            providers={providers.data ?? []}
            onDone={async () => {
              setOpen(undefined);
              await models.reload();
            }}
          />
        )}
      </Dialog>
    </>
  );
}

interface SystemPromptConfig {
  system_prompt: string;
  include_default_system_prompt: boolean;
  default_system_prompt: string;
}

function SystemPrompt() {
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

function Defaults() {
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

const PERIODS: [string, string][] = [
  ["day", "day"],
  ["week", "week"],
  ["month", "month"],
];

const toMicros = (text: string) => Math.round(Number(text) * 1e6);

function LimitsPage() {
  useTitle("Limits");
  const loaded = useApi<Limits>(`${CHATS}/usage-limits`);
  const groups = useApi<Group[]>("/api/v2/groups");
  const [amount, setAmount] = useState<string>();
  const [period, setPeriod] = useState<string>();
  const now = loaded.data;
  if (!now) return loaded.error ? <ErrorBox error={loaded.error} /> : <Loading />;
  const shown = amount ?? (now.spend_limit_micros === null ? "" : String(now.spend_limit_micros / 1e6));
  const save = async () => {
    await api.put(`${CHATS}/usage-limits`, { spend_limit_micros: shown === "" ? null : toMicros(shown), period: period ?? now.period });
    await loaded.reload();
  };
  const remove = (path: string) => async () => {
    await api.delete(`${CHATS}/usage-limits/${path}`);
    await loaded.reload();
  };
  return (
    <>
      <h1>Limits</h1>
      {now.unpriced_model_count > 0 && (
        <div class="notice" role="status">
          Models without a price: {now.unpriced_model_count}. What they do counts as nothing.
        </div>
      )}
      <SaveForm action={save}>
        <div class="filters">
          <Field label="Dollars for each user" inputMode="decimal" value={shown} onInput={(e) => setAmount(e.currentTarget.value)} help="Empty: no limit." />
          <Select label="In a" value={period ?? now.period} choices={PERIODS} onChange={setPeriod} />
        </div>
      </SaveForm>
      <h2>Other limits</h2>
      <p class="help">A user's own counts first, then the smallest of the user's groups, then the one above.</p>
      {now.overrides.length + now.group_overrides.length > 0 && (
        <Table head={["Whose", "Dollars", ""]}>
          {now.group_overrides.map((g) => (
            <tr key={g.group_id}>
              <td>
                {g.group_display_name || g.group_name} <span class="tag">group of {g.member_count}</span>
              </td>
              <td>{g.spend_limit_micros === null ? "–" : dollars(g.spend_limit_micros)}</td>
              <td class="actions">
                <ActionButton kind="danger" action={remove(`group-overrides/${g.group_id}`)}>
                  Remove
                </ActionButton>
              </td>
            </tr>
          ))}
          {now.overrides.map((u) => (
            <tr key={u.user_id}>
              <td>{u.username}</td>
              <td>{u.spend_limit_micros === null ? "–" : dollars(u.spend_limit_micros)}</td>
              <td class="actions">
                <ActionButton kind="danger" action={remove(`overrides/${u.user_id}`)}>
                  Remove
                </ActionButton>
              </td>
            </tr>
          ))}
        </Table>
      )}
      <NewLimit groups={groups.data ?? []} onDone={loaded.reload} />
    </>
  );
}

function NewLimit({ groups, onDone }: { groups: Group[]; onDone: () => Promise<void> }) {
  const [who, setWho] = useState("");
  const [user, setUser] = useState("");
  const [amount, setAmount] = useState("");
  const save = async () => {
    const path = who ? `group-overrides/${who}` : `overrides/${(await api.get<{ id: string }>(`/api/v2/users/${encodeURIComponent(user)}`)).id}`;
    await api.put(`${CHATS}/usage-limits/${path}`, { spend_limit_micros: toMicros(amount) });
    setUser("");
    setAmount("");
    await onDone();
  };
  return (
    <Form action={save} submit="Add" disabled={!amount || (!who && !user)}>
      {() => (
        <div class="filters">
          <Select label="For" value={who} choices={[["", "a user"], ...groups.map((g): [string, string] => [g.id, `group ${g.display_name || g.name}`])]} onChange={setWho} />
          {!who && <Field label="Username" value={user} onInput={(e) => setUser(e.currentTarget.value)} />}
          <Field label="Dollars" inputMode="decimal" value={amount} onInput={(e) => setAmount(e.currentTarget.value)} />
        </div>
      )}
    </Form>
  );
}

function Spending() {
  useTitle("Spending");
  const [days, setDays, dates] = useSince();
  const [search, setSearch] = useState("");
  const [user, setUser] = useState<string>();
  const users = useApi<CostUsers>(`${CHATS}/cost/users?${dates}&limit=50&username=${encodeURIComponent(search)}`);
  if (user)
    return (
      <>
        <div class="head">
          <h1>Spending of {user}</h1>
          <button type="button" onClick={() => setUser(undefined)}>
            All users
          </button>
        </div>
        <CostTables user={user} />
      </>
    );
  return (
    <>
      <h1>Spending</h1>
      <div class="filters">
        <Field label="Username" type="search" value={search} onInput={(e) => setSearch(e.currentTarget.value)} />
        <Select label="The last" value={days} choices={TIMES} onChange={setDays} />
      </div>
      <ListState error={users.error} loaded={!!users.data} empty={users.data?.users.length === 0} text="Nobody asked a model in this time." />
      {users.data && users.data.users.length > 0 && (
        <Table head={["User", "Chats", "Answers", "Cost"]}>
          {users.data.users.map((u) => (
            <tr key={u.user_id}>
              <td>
                <button type="button" class="plain" onClick={() => setUser(u.username)}>
                  {u.username}
                </button>
              </td>
              <td>{count(u.chat_count)}</td>
              <td>{count(u.message_count)}</td>
              <td>{dollars(u.total_cost_micros)}</td>
            </tr>
          ))}
        </Table>
      )}
    </>
  );
}

const PAGES: [name: string, text: string, Page: ComponentType, needs?: string][] = [
  ["prompt", "Instructions", OwnPrompt],
  ["keys", "Keys", OwnKeys],
  ["tools", "Tools", OwnMcpServers],
  ["messages", "Messages", Pushes],
  ["compaction", "Compaction", Compaction],
  ["cost", "Cost", OwnCost],
  ["providers", "Providers", Providers, "manageChats"],
  ["models", "Models", ModelList, "manageChats"],
  ["mcp-servers", "MCP servers", McpServers, "manageChats"],
  ["system-prompt", "System prompt", SystemPrompt, "manageChats"],
  ["defaults", "Workspaces", Defaults, "manageChats"],
  ["limits", "Limits", LimitsPage, "manageChats"],
  ["spending", "Spending", Spending, "readAllChats"],
];

export function AgentSettings() {
  const { page } = useParams<{ page: string }>();
  const { can } = useSession();
  const pages = PAGES.filter(([, , , needs]) => !needs || can[needs]);
  const Page = pages.find(([name]) => name === page)?.[2];
  return (
    <div class="settings-page">
      <nav class="section" aria-label="Settings of the chats">
        <Link href="/agents" class="back" aria-label="All chats">
          ‹
        </Link>
        {pages.map(([name, text]) => (
          <Link key={name} href={`/agents/settings/${name}`} class={name === page ? "current" : ""} aria-current={name === page ? "page" : undefined}>
            {text}
          </Link>
        ))}
      </nav>
      {Page ? <Page /> : <Empty>There is no such page.</Empty>}
    </div>
  );
}
