// The models that chats may use: limits, prices, options.
//
// SPDX-License-Identifier: MIT
import { useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { api } from "../api";
import { CHATS, type ModelConfig, type Provider, count, modelName } from "../chat/types";
import { useApi } from "../live";
import { ConfirmButton, Dialog, Field, Form, ListState, Select, Table, useTitle } from "../ui";
import { type ProviderOptions, Reasoning } from "./reasoning";
import { Check, TextArea, providerName } from "./shared";

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
  const [options, setOptions] = useState<ProviderOptions>(m?.model_config?.provider_options ?? {});
  const [more, setMore] = useState(() => {
    const { cost: _cost, max_output_tokens: _most, provider_options: _options, ...rest } = m?.model_config ?? {};
    return Object.keys(rest).length > 0 ? JSON.stringify(rest, null, 2) : "";
  });
  const save = async () => {
    let rest: { provider_options?: ProviderOptions };
    try {
      rest = more.trim() ? JSON.parse(more) : {};
    } catch (error) {
      throw new Error(`The other options are no JSON: ${(error as Error).message}`);
    }
    // What is written as JSON goes over what is chosen.
    const all: ProviderOptions = { ...options };
    for (const [name, given] of Object.entries(rest.provider_options ?? {})) all[name] = { ...all[name], ...given };
    const cost = Object.fromEntries(Object.entries(prices).filter(([, v]) => v !== ""));
    const body = {
      provider,
      model: name,
      display_name: shown,
      enabled,
      is_default: isDefault,
      context_limit: Number(limit),
      compression_threshold: Number(threshold),
      model_config: { ...rest, ...(Object.keys(all).length > 0 ? { provider_options: all } : {}), ...(Object.keys(cost).length > 0 ? { cost } : {}), ...(most ? { max_output_tokens: Number(most) } : {}) },
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
          <Reasoning provider={provider} value={options} onChange={setOptions} />
          <details>
            <summary>Other options</summary>
            <TextArea label="Options as JSON" value={more} onInput={setMore} rows={6} help={'Such as {"temperature": 0.2, "provider_options": {"openai": {"text_verbosity": "low"}}}.'} />
          </details>
          <Check label="On" checked={enabled} onChange={setEnabled} />
          <Check label="The default model" checked={isDefault} onChange={setDefault} />
        </>
      )}
    </Form>
  );
}

export function ModelList() {
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
                <td class="long">{modelName(m)}</td>
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
