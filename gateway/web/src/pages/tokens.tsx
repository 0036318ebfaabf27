// The caller's own tokens for the command line and for programs.
//
// SPDX-License-Identifier: MIT
import { useState } from "preact/hooks";
import { api } from "../api";
import { useApi } from "../live";
import type { ApiKey } from "../types";
import { ActionButton, Ago, Choices, CopyText, Dialog, Field, Form, ListState, Table, useTitle } from "../ui";

const DAY_NS = 24 * 3600 * 1e9;

export function Tokens() {
  useTitle("Tokens");
  const tokens = useApi<ApiKey[] | null>("/api/v2/users/me/keys/tokens");
  const config = useApi<{ max_token_lifetime: number }>("/api/v2/users/me/keys/tokens/tokenconfig");
  const most = config.data ? Math.max(1, Math.floor(config.data.max_token_lifetime / DAY_NS)) : 30;
  const [adding, setAdding] = useState(false);
  const [name, setName] = useState("");
  const [days, setDays] = useState<string>();
  const [scopes, setScopes] = useState<string[]>([]);
  const [allowed, setAllowed] = useState("");
  const known = useApi<{ external: string[] }>("/api/v2/auth/scopes");
  const [secret, setSecret] = useState<string>();
  const close = () => {
    setAdding(false);
    setSecret(undefined);
    setName("");
    setScopes([]);
    setAllowed("");
  };
  const create = async () => {
    const { key } = await api.post<{ key: string }>("/api/v2/users/me/keys/tokens", {
      token_name: name,
      lifetime: Number(days ?? Math.min(30, most)) * DAY_NS,
      scopes: scopes.length > 0 ? scopes : undefined,
      allow_list: allowed.trim() ? allowed.trim().split(/[\s,]+/) : undefined,
    });
    setSecret(key);
    await tokens.reload();
  };
  const remove = (id: string) => async () => {
    await api.delete(`/api/v2/users/me/keys/${id}`);
    await tokens.reload();
  };
  const loaded = tokens.data !== undefined;
  // A running workspace holds a token of its own; it is no token of the person's.
  const own = tokens.data?.filter((t) => !t.token_name.endsWith("_session_token")) ?? [];
  return (
    <>
      <div class="head">
        <h1>Tokens</h1>
        <button type="button" class="primary" onClick={() => setAdding(true)}>
          New token
        </button>
      </div>
      <ListState error={tokens.error} loaded={loaded} empty={own.length === 0} text="You have no tokens. A token lets a program act as you." />
      {own.length > 0 && (
        <Table head={["Name", "Id", "May", "Created", "Last used", "Expires", ""]}>
          {own.map((t) => (
            <tr key={t.id}>
              <td>{t.token_name}</td>
              <td>
                <code>{t.id}</code>
              </td>
              <td>
                {t.scopes.join(", ").replace("coder:all", "everything")} {t.allow_list?.join() !== "*:*" && <span class="tag">{t.allow_list?.length} things only</span>}
              </td>
              <td>
                <Ago time={t.created_at} />
              </td>
              <td>
                <Ago time={t.last_used} />
              </td>
              <td>
                <Ago time={t.expires_at} />
              </td>
              <td>
                <ActionButton kind="danger" action={remove(t.id)}>
                  Delete
                </ActionButton>
              </td>
            </tr>
          ))}
        </Table>
      )}
      <Dialog title="New token" open={adding} onClose={close}>
        {secret ? (
          <>
            <p>This is the only time that the token is shown.</p>
            <CopyText text={secret} />
            <div class="actions">
              <button type="button" class="primary" onClick={close}>
                Done
              </button>
            </div>
          </>
        ) : (
          <Form action={create} submit="Create token">
            {(error) => (
              <>
                <Field label="Name" name="token_name" autoFocus value={name} onInput={(e) => setName(e.currentTarget.value)} problem={error?.field("token_name")} />
                <Field label="Days until it expires" name="lifetime" type="number" min={1} max={most} value={days ?? String(Math.min(30, most))} onInput={(e) => setDays(e.currentTarget.value)} problem={error?.field("lifetime")} help={`At most ${most}.`} />
                <details>
                  <summary>What it may do</summary>
                  <Choices legend="Scopes (none ticked: everything that you may do)" choices={(known.data?.external ?? []).filter((s) => s !== "coder:all").map((s) => [s, s])} chosen={scopes} onChange={setScopes} />
                  <Field label="Only these things" value={allowed} onInput={(e) => setAllowed(e.currentTarget.value)} problem={error?.field("allow_list")} help="type:id, separated by blanks, such as workspace:… or template:*." />
                </details>
              </>
            )}
          </Form>
        )}
      </Dialog>
    </>
  );
}
