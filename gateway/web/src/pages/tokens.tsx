// The caller's own tokens for the command line and for programs.
//
// SPDX-License-Identifier: MIT
import { useState } from "preact/hooks";
import { api } from "../api";
import { useApi } from "../live";
import type { ApiKey } from "../types";
import { ActionButton, Ago, CopyText, Dialog, Empty, ErrorBox, Field, Form, Loading, useTitle } from "../ui";

const DAY_NS = 24 * 3600 * 1e9;

export function Tokens() {
  useTitle("Tokens");
  const tokens = useApi<ApiKey[] | null>("/api/v2/users/me/keys/tokens");
  const config = useApi<{ max_token_lifetime: number }>("/api/v2/users/me/keys/tokens/tokenconfig");
  const most = config.data ? Math.max(1, Math.floor(config.data.max_token_lifetime / DAY_NS)) : 30;
  const [adding, setAdding] = useState(false);
  const [name, setName] = useState("");
  const [days, setDays] = useState<string>();
  const [secret, setSecret] = useState<string>();
  const close = () => {
    setAdding(false);
    setSecret(undefined);
    setName("");
  };
  const create = async () => {
    const { key } = await api.post<{ key: string }>("/api/v2/users/me/keys/tokens", { token_name: name, lifetime: Number(days ?? Math.min(30, most)) * DAY_NS });
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
      <ErrorBox error={tokens.error} />
      {!loaded && !tokens.error && <Loading />}
      {loaded && own.length === 0 && <Empty>You have no tokens. A token lets a program act as you.</Empty>}
      {own.length > 0 && (
        <table>
          <thead>
            <tr>
              <th>Name</th>
              <th>Id</th>
              <th>Created</th>
              <th>Last used</th>
              <th>Expires</th>
              <th />
            </tr>
          </thead>
          <tbody>
            {own.map((t) => (
              <tr key={t.id}>
                <td>{t.token_name}</td>
                <td>
                  <code>{t.id}</code>
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
          </tbody>
        </table>
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
              </>
            )}
          </Form>
        )}
      </Dialog>
    </>
  );
}
