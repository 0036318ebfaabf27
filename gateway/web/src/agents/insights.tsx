// Pull requests of the chats: how many, what becomes of them, what they cost.
//
// SPDX-License-Identifier: MIT
import { Link } from "wouter-preact";
import { query } from "../api";
import { Chart, Tiles } from "../charts";
import { CHATS, type PrInsights, count, dollars } from "../chat/types";
import { useApi } from "../live";
import { Export, type Range, RangePicker, dayName, dayTick, rangeOf, useParamsOf } from "../ranges";
import { Ago, ListState, Table, useTitle } from "../ui";
import { datesOf } from "./cost";
import { providerName } from "./shared";

const percent = (part: number) => `${Math.round(100 * part)} %`;

/** How a number stands to that of the time before; nothing where there was none. */
export function against(now: number, before: number, format: (n: number) => string): string | undefined {
  if (before === 0 && now === 0) return undefined;
  return `${now > before ? "↑" : now < before ? "↓" : "="} ${format(before)} before`;
}

/** The days of a time in UTC, as the server counts them. */
export function utcDays(range: { start: string; end: string }): string[] {
  const days: string[] = [];
  const end = new Date(range.end).getTime();
  for (let at = new Date(new Date(range.start).toISOString().slice(0, 10)).getTime(); at < end; at += 86_400_000) days.push(new Date(at).toISOString().slice(0, 10));
  return days;
}

function Days({ insights, range }: { insights: PrInsights; range: Range }) {
  const days = utcDays(range);
  const values = (key: "prs_created" | "prs_merged" | "prs_closed") => days.map((d) => insights.time_series.find((t) => t.date.startsWith(d))?.[key] ?? 0);
  const merged = values("prs_merged");
  const closed = values("prs_closed");
  return (
    <section class="panel">
      <Chart
        title="Pull requests by the day of their chat"
        kind="bars"
        whole
        labels={days.map(dayName)}
        ticks={days.map(dayTick)}
        series={[
          { name: "Merged", color: 2, values: merged },
          { name: "Closed", color: 5, values: closed },
          { name: "Open", color: 1, values: values("prs_created").map((n, i) => n - merged[i] - closed[i]) },
        ]}
      />
      <p class="quiet">Days of UTC.</p>
    </section>
  );
}

const STATES: Record<string, string> = { merged: "good", closed: "bad", open: "busy" };

function Requests({ insights }: { insights: PrInsights }) {
  return (
    <section>
      <h2>Pull requests</h2>
      <div class="scroll">
        <Table head={["Pull request", "State", "Changes", "Reviews", "Model", "Cost", "Chat"]} numbers={[2, 5]}>
          {insights.recent_prs.map((p) => (
            <tr key={p.chat_id}>
              <td class="long">
                <a href={/^https?:/.test(p.pr_url ?? "") ? p.pr_url : undefined} target="_blank" rel="noopener noreferrer">
                  {p.pr_number !== undefined && `#${p.pr_number} `}
                  {p.pr_title || "without a title"}
                </a>
                {p.author_login && <div class="help">{p.author_login}</div>}
              </td>
              <td>
                <span class={`status ${STATES[p.state] ?? "idle"}`}>{p.draft && p.state === "open" ? "draft" : p.state}</span>
              </td>
              <td class="number">
                +{count(p.additions)} −{count(p.deletions)}
              </td>
              <td>{p.approved ? "approved" : p.changes_requested ? "changes wanted" : p.reviewer_count ? count(p.reviewer_count) : "–"}</td>
              <td>{p.model_display_name}</td>
              <td class="number">{dollars(p.cost_micros)}</td>
              <td>
                <Link href={`/agents/${p.chat_id}`}>
                  <Ago time={p.created_at} />
                </Link>
              </td>
            </tr>
          ))}
        </Table>
      </div>
    </section>
  );
}

export function ChatInsights() {
  useTitle("Insights of chats");
  const [search, set] = useParamsOf();
  const range = rangeOf(search);
  const { data, error } = useApi<PrInsights>(query(`${CHATS}/insights/pull-requests`, datesOf(range)));
  const s = data?.summary;
  const rows = data && [
    ["chat", "url", "number", "title", "state", "additions", "deletions", "model", "cost_micros", "created_at"],
    ...data.recent_prs.map((p) => [p.chat_id, p.pr_url, p.pr_number, p.pr_title, p.state, p.additions, p.deletions, p.model_display_name, p.cost_micros, p.created_at]),
  ];
  return (
    <>
      <div class="head">
        <h1>Insights</h1>
        <Export name={`chat-insights-${range.start.slice(0, 10)}`} rows={rows} data={data} />
      </div>
      <div class="filters">
        <RangePicker search={search} set={set} />
      </div>
      <ListState error={error} loaded={!!data} empty={s?.total_prs_created === 0} text="No chat of this time has a pull request." />
      {data && s && s.total_prs_created > 0 && (
        <>
          <Tiles
            tiles={[
              { name: "Pull requests", value: count(s.total_prs_created), note: against(s.total_prs_created, s.prev_total_prs_created, count) },
              { name: "Merged", value: count(s.total_prs_merged), note: against(s.total_prs_merged, s.prev_total_prs_merged, count) },
              { name: "Merge rate", value: percent(s.merge_rate), note: against(s.merge_rate, s.prev_merge_rate, percent) },
              { name: "Lines", value: `+${count(s.total_additions)} −${count(s.total_deletions)}` },
              { name: "Cost", value: dollars(s.total_cost_micros) },
              { name: "Cost per merge", value: s.total_prs_merged > 0 ? dollars(s.cost_per_merged_pr_micros) : "–", note: against(s.cost_per_merged_pr_micros, s.prev_cost_per_merged_pr_micros, dollars) },
            ]}
          />
          <Days insights={data} range={range} />
          <section>
            <h2>By model</h2>
            <div class="scroll">
              <Table head={["Model", "Provider", "Requests", "Merged", "Lines", "Cost", "Each merged"]} numbers={[2, 3, 4, 5, 6]}>
                {data.by_model.map((m) => (
                  <tr key={m.model_config_id}>
                    <td>{m.display_name}</td>
                    <td>{providerName({ provider: m.provider })}</td>
                    <td class="number">{count(m.total_prs)}</td>
                    <td class="number">
                      {count(m.merged_prs)} ({percent(m.merge_rate)})
                    </td>
                    <td class="number">
                      +{count(m.total_additions)} −{count(m.total_deletions)}
                    </td>
                    <td class="number">{dollars(m.total_cost_micros)}</td>
                    <td class="number">{m.merged_prs > 0 ? dollars(m.cost_per_merged_pr_micros) : "–"}</td>
                  </tr>
                ))}
              </Table>
            </div>
          </section>
          <Requests insights={data} />
        </>
      )}
    </>
  );
}
