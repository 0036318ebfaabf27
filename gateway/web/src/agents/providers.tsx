// Providers of models: their addresses and keys.
//
// SPDX-License-Identifier: MIT
import { useState } from "preact/hooks";
import { api } from "../api";
import { CHATS, type Provider } from "../chat/types";
import { useApi } from "../live";
import { ConfirmButton, Dialog, Field, Form, ListState, Table, useTitle } from "../ui";
import { Check, NAMES, providerName } from "./shared";

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
          {central && <Field label="API key" type="password" autoComplete="off" value={key} onInput={(e) => setKey(e.currentTarget.value)} help={p.has_api_key ? "There is one; what is typed here takes its place." : p.provider === "bedrock" ? "It is never shown again. Empty: the keys of AWS that the server's machine has." : "It is never shown again."} />}
          <Check label="Users may bring their own key" checked={own} onChange={setOwn} />
          {central && own && <Check label="Who has no key uses the common one" checked={fallback} onChange={setFallback} />}
          <Check label="On" checked={enabled} onChange={setEnabled} />
        </>
      )}
    </Form>
  );
}

export function Providers() {
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
