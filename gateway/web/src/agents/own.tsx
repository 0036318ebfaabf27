// One's own settings of the chats: instructions, keys, when a chat is summarized.
//
// SPDX-License-Identifier: MIT
import { useEffect, useState } from "preact/hooks";
import { api } from "../api";
import { chime } from "../chat/chime";
import { useDebugConfig } from "../chat/debugruns";
import { usePreference } from "../chat/prefs";
import { CHATS, type ModelConfig, modelName } from "../chat/types";
import { useApi } from "../live";
import { ActionButton, Dialog, ErrorBox, Field, Form, ListState, Loading, Table, useTitle } from "../ui";
import { CONFIG, Check, SaveForm, TextArea, providerName } from "./shared";

function InThisBrowser() {
  const [sounds, setSounds] = usePreference("chime");
  const [wide, setWide] = usePreference("wide");
  const sound = (on: boolean) => {
    setSounds(on);
    if (on) chime();
  };
  return (
    <>
      <h2>In this browser</h2>
      <Check label="A sound when a chat has ended its turn and is not in sight" checked={sounds} onChange={sound} />
      <Check label="Chats as wide as the window" checked={wide} onChange={setWide} />
    </>
  );
}

function Debugging() {
  const config = useDebugConfig();
  const [error, setError] = useState<Error>();
  const c = config.data;
  if (!c || (!c.user_toggle_allowed && !c.forced_by_deployment)) return null;
  const turn = async (on: boolean) => {
    setError(undefined);
    await api.put(`${CONFIG}/user-debug-logging`, { debug_logging_enabled: on }).catch(setError);
    await config.reload();
  };
  return (
    <>
      <h2>Debugging</h2>
      <Check label="Write down what models are asked and answer in your chats" checked={c.debug_logging_enabled} disabled={c.forced_by_deployment} onChange={(on) => void turn(on)} />
      <p class="help">{c.forced_by_deployment ? "This server writes down all chats." : "It is read in the panel beside a chat, without keys of providers."}</p>
      <ErrorBox error={error} />
    </>
  );
}

export function Behavior() {
  useTitle("Your instructions");
  return (
    <>
      <OwnPrompt />
      <InThisBrowser />
      <Debugging />
    </>
  );
}

function OwnPrompt() {
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

export function OwnKeys() {
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

export function Compaction() {
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
