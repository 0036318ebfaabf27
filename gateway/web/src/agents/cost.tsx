// What chats cost: one's own, everybody's, and what one user spent on which model and chat.
//
// SPDX-License-Identifier: MIT
import { useEffect, useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { query } from "../api";
import { Shares, Tiles, formatSpan } from "../charts";
import { LimitNotice } from "../chat/composer";
import { CHATS, type CostSummary, type CostUsers, type LimitStatus, count, dollars } from "../chat/types";
import { useApi } from "../live";
import { Export, type Range, RangePicker, rangeOf, useParamsOf } from "../ranges";
import { Field, ListState, Table, useTitle } from "../ui";
import { providerName } from "./shared";

const PAGE = 25;

export const datesOf = (range: Range) => ({ start_date: range.start, end_date: range.end });

const read = (s: CostSummary | CostUsers["users"][0]) => s.total_input_tokens + s.total_cache_read_tokens + s.total_cache_creation_tokens;

function Totals({ cost: s }: { cost: CostSummary }) {
  const answers = s.priced_message_count + s.unpriced_message_count;
  const all = read(s);
  return (
    <Tiles
      tiles={[
        { name: "Cost", value: dollars(s.total_cost_micros), note: answers > 0 ? `${dollars(Math.round(s.total_cost_micros / answers))} an answer` : undefined },
        { name: "Answers", value: count(answers), note: s.unpriced_message_count > 0 ? `${count(s.unpriced_message_count)} without a price` : undefined, tone: s.unpriced_message_count > 0 ? "warned" : undefined },
        { name: "Tokens read", value: count(all), note: all > 0 ? `${Math.round((100 * s.total_cache_read_tokens) / all)} % from the cache` : undefined },
        { name: "Tokens written", value: count(s.total_output_tokens) },
        { name: "Time of models", value: formatSpan(s.total_runtime_ms / 1000) },
      ]}
    />
  );
}

function ByModel({ cost: s }: { cost: CostSummary }) {
  return (
    <section>
      <h2>By model</h2>
      {s.total_cost_micros > 0 && (
        <Shares label="Cost by model" empty="" shares={s.by_model.map((m, i) => ({ key: m.model_config_id, name: m.display_name, value: m.total_cost_micros, text: dollars(m.total_cost_micros), color: (i % 6) + 1 }))} />
      )}
      <div class="scroll">
        <Table head={["Model", "Provider", "Answers", "Read", "Cached", "Written", "Cost"]} numbers={[2, 3, 4, 5, 6]}>
          {s.by_model.map((m) => (
            <tr key={m.model_config_id}>
              <td>{m.display_name}</td>
              <td>{providerName({ provider: m.provider })}</td>
              <td class="number">{count(m.message_count)}</td>
              <td class="number">{count(m.total_input_tokens)}</td>
              <td class="number">{count(m.total_cache_read_tokens)}</td>
              <td class="number">{count(m.total_output_tokens)}</td>
              <td class="number">{dollars(m.total_cost_micros)}</td>
            </tr>
          ))}
        </Table>
      </div>
    </section>
  );
}

function ByChat({ cost: s }: { cost: CostSummary }) {
  const [all, setAll] = useState(false);
  const chats = all ? s.by_chat : s.by_chat.slice(0, PAGE);
  return (
    <section>
      <h2>By chat</h2>
      <div class="scroll">
        <Table head={["Chat", "Answers", "Read", "Cached", "Written", "Cost"]} numbers={[1, 2, 3, 4, 5]}>
          {chats.map((c) => (
            <tr key={c.root_chat_id}>
              <td class="long">
                <Link href={`/agents/${c.root_chat_id}`}>{c.chat_title}</Link>
              </td>
              <td class="number">{count(c.message_count)}</td>
              <td class="number">{count(c.total_input_tokens)}</td>
              <td class="number">{count(c.total_cache_read_tokens)}</td>
              <td class="number">{count(c.total_output_tokens)}</td>
              <td class="number">{dollars(c.total_cost_micros)}</td>
            </tr>
          ))}
        </Table>
      </div>
      {s.by_chat.length > PAGE && (
        <button type="button" class="plain" onClick={() => setAll(!all)}>
          {all ? "Fewer" : `All ${s.by_chat.length}`}
        </button>
      )}
    </section>
  );
}

/** What a user spent in a time, by model and by chat. */
function Cost({ user, range }: { user: string; range: Range }) {
  const { data: s, error } = useApi<CostSummary>(query(`${CHATS}/cost/${encodeURIComponent(user)}/summary`, datesOf(range)));
  const rows = s && [["chat", "title", "answers", "input_tokens", "cache_read_tokens", "output_tokens", "cost_micros"], ...s.by_chat.map((c) => [c.root_chat_id, c.chat_title, c.message_count, c.total_input_tokens, c.total_cache_read_tokens, c.total_output_tokens, c.total_cost_micros])];
  return (
    <>
      <ListState error={error} loaded={!!s} empty={s?.by_model.length === 0} text="Nothing was asked of a model in this time." />
      {s && s.by_model.length > 0 && (
        <>
          <Totals cost={s} />
          <ByModel cost={s} />
          <ByChat cost={s} />
          <Export name={`chat-cost-${user}-${range.start.slice(0, 10)}`} rows={rows} data={s} />
        </>
      )}
    </>
  );
}

export function OwnCost() {
  useTitle("Your cost");
  const [search, set] = useParamsOf();
  const limit = useApi<LimitStatus>(`${CHATS}/usage-limits/status`);
  return (
    <>
      <h1>Your cost</h1>
      <LimitNotice status={limit.data} />
      <div class="filters">
        <RangePicker search={search} set={set} />
      </div>
      <Cost user="me" range={rangeOf(search)} />
    </>
  );
}

/** What is typed, when nobody has typed for a while. */
function useSettled(text: string): string {
  const [settled, setSettled] = useState(text);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(text), 250);
    return () => clearTimeout(timer);
  }, [text]);
  return settled;
}

function Users({ range, choose }: { range: Range; choose: (user: string) => void }) {
  const [search, setSearch] = useState("");
  const [offset, setOffset] = useState(0);
  const username = useSettled(search.trim());
  useEffect(() => setOffset(0), [username, range.start, range.end]);
  const { data, error } = useApi<CostUsers>(query(`${CHATS}/cost/users`, { ...datesOf(range), username, limit: PAGE, offset }));
  return (
    <>
      <Field label="Username" type="search" value={search} onInput={(e) => setSearch(e.currentTarget.value)} />
      <ListState error={error} loaded={!!data} empty={data?.users.length === 0} text="Nobody asked a model in this time." />
      {data && data.users.length > 0 && (
        <div class="scroll">
          <Table head={["User", "Chats", "Answers", "Read", "Written", "Cost"]} numbers={[1, 2, 3, 4, 5]}>
            {data.users.map((u) => (
              <tr key={u.user_id}>
                <td>
                  <button type="button" class="plain as-link" onClick={() => choose(u.username)}>
                    {u.username}
                  </button>
                </td>
                <td class="number">{count(u.chat_count)}</td>
                <td class="number">{count(u.message_count)}</td>
                <td class="number">{count(read(u))}</td>
                <td class="number">{count(u.total_output_tokens)}</td>
                <td class="number">{dollars(u.total_cost_micros)}</td>
              </tr>
            ))}
          </Table>
        </div>
      )}
      {data && data.count > PAGE && (
        <div class="actions">
          <button type="button" disabled={offset === 0} onClick={() => setOffset(offset - PAGE)}>
            Before
          </button>
          <span class="quiet">
            {offset + 1}–{Math.min(offset + PAGE, data.count)} of {data.count}
          </span>
          <button type="button" disabled={offset + PAGE >= data.count} onClick={() => setOffset(offset + PAGE)}>
            Next
          </button>
        </div>
      )}
    </>
  );
}

export function Spending() {
  useTitle("Spending");
  const [search, set] = useParamsOf();
  const range = rangeOf(search);
  const user = search.get("user");
  return (
    <>
      <div class="head">
        <h1>{user ? `Spending of ${user}` : "Spending"}</h1>
        {user && (
          <button type="button" onClick={() => set({ user: "" })}>
            All users
          </button>
        )}
      </div>
      <div class="filters">
        <RangePicker search={search} set={set} />
      </div>
      {user ? <Cost user={user} range={range} /> : <Users range={range} choose={(name) => set({ user: name })} />}
    </>
  );
}
