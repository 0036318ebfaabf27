// How much users may spend.
//
// SPDX-License-Identifier: MIT
import { useState } from "preact/hooks";
import { api } from "../api";
import { CHATS, type Limits, dollars } from "../chat/types";
import { useApi } from "../live";
import type { Group } from "../types";
import { ActionButton, ErrorBox, Field, Form, Loading, Select, Table, useTitle } from "../ui";
import { SaveForm } from "./shared";

const PERIODS: [string, string][] = [
  ["day", "day"],
  ["week", "week"],
  ["month", "month"],
];

const toMicros = (text: string) => Math.round(Number(text) * 1e6);

export function LimitsPage() {
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
