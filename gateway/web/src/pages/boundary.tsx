// What boundaries around agents' processes let through and refused: by day, and by whom.
//
// SPDX-License-Identifier: MIT
import { Link } from "wouter-preact";
import { query } from "../api";
import { Chart, Tiles } from "../charts";
import { useApi } from "../live";
import { Export, RangePicker, TemplatePicker, ZONE, dayName, dayTick, rangeOf, useParamsOf } from "../ranges";
import { useSession } from "../session";
import type { BoundaryReport, Template } from "../types";
import { ErrorBox, Loading, Select, useTitle } from "../ui";

const BY: [string, string][] = [
  ["user", "User"],
  ["workspace", "Workspace"],
  ["template", "Template"],
  ["organization", "Organization"],
];

/** Every day from the first to the last: days without a request are zero, not absent. */
function days(start: string, end: string): string[] {
  const all: string[] = [];
  const last = new Date(new Date(end).getTime() - 1);
  for (const day = new Date(start); day <= last && all.length < 400; day.setDate(day.getDate() + 1))
    all.push(`${day.getFullYear()}-${String(day.getMonth() + 1).padStart(2, "0")}-${String(day.getDate()).padStart(2, "0")}`);
  return all;
}

function Name({ by, row }: { by: string; row: BoundaryReport["report"]["rows"][0] }) {
  if (!row.name) return <span class="quiet">{row.key}</span>;
  if (by === "user") return <Link href={`/users/${row.name}`}>{row.name}</Link>;
  if (by === "workspace") return <Link href={`/@${row.name}`}>{row.name}</Link>;
  return <>{row.name}</>;
}

const percent = (part: number, whole: number) => (whole === 0 ? "" : `${((100 * part) / whole).toFixed(part > 0 && part / whole < 0.01 ? 2 : 0)} %`);

export default function Boundary() {
  useTitle("Boundaries");
  const { can } = useSession();
  const [search, set] = useParamsOf();
  const range = rangeOf(search);
  const by = BY.some(([name]) => name === search.get("by")) ? search.get("by")! : "user";
  const templates = useApi<Template[]>("/api/v2/templates");
  const template = search.get("template") ?? (can.viewAllInsights ? "" : (templates.data?.[0]?.id ?? ""));
  const ready = can.viewAllInsights || template !== "";
  const params = { start_time: range.start, end_time: range.end, timezone: ZONE, ...(template ? { template_ids: template } : {}) };
  const daily = useApi<BoundaryReport>(ready ? query("/api/v2/insights/boundary-usage", { ...params, by: "day" }) : undefined);
  const grouped = useApi<BoundaryReport>(ready ? query("/api/v2/insights/boundary-usage", { ...params, by }) : undefined);
  const total = daily.data?.report.total;
  const named = days(range.start, range.end);
  const of = (field: "allowed" | "denied") => named.map((day) => daily.data?.report.rows.find((r) => r.key === day)?.[field] ?? 0);
  const rows = grouped.data?.report.rows;
  return (
    <>
      <div class="head">
        <h1>Boundaries</h1>
        <Export
          name={`boundaries-by-${by}-${range.start.slice(0, 10)}-${range.end.slice(0, 10)}`}
          rows={rows && [[by, "id", "allowed", "denied", "users", "workspaces"], ...rows.map((r) => [r.name, r.key, r.allowed, r.denied, r.users, r.workspaces])]}
          data={grouped.data && { ...grouped.data, days: daily.data?.report.rows }}
        />
      </div>
      <p class="quiet">Requests of programs that run behind a boundary (<code>coder boundary</code>): what their rules let through, and what they refused.</p>
      <div class="filters">
        <RangePicker search={search} set={set} />
        <TemplatePicker templates={templates.data} all={can.viewAllInsights} value={template} set={set} />
        <Select label="By" value={by} choices={BY} onChange={(value) => set({ by: value })} />
      </div>
      <ErrorBox error={daily.error ?? grouped.error} />
      {ready && !total && !daily.error && <Loading />}
      {total && (
        <>
          <Tiles
            tiles={[
              { name: "Requests", value: (total.allowed + total.denied).toLocaleString(), note: `in ${range.days} days` },
              { name: "Refused", value: total.denied.toLocaleString(), note: percent(total.denied, total.allowed + total.denied), tone: total.denied > 0 ? "warned" : undefined },
              { name: "Users", value: total.users.toLocaleString() },
              { name: "Workspaces", value: total.workspaces.toLocaleString() },
            ]}
          />
          <section class="panel">
            <h2>By day</h2>
            <Chart
              title="Requests by day"
              kind="bars"
              whole
              labels={named.map(dayName)}
              ticks={named.map(dayTick)}
              series={[
                { name: "Allowed", color: 1, values: of("allowed") },
                { name: "Refused", color: 5, values: of("denied") },
              ]}
              empty="No boundary reported a request."
            />
          </section>
          {rows && rows.length > 0 && (
            <section class="panel">
              <h2>By {by}</h2>
              <div class="scroll">
                <table>
                  <thead>
                    <tr>
                      <th>{BY.find(([n]) => n === by)?.[1]}</th>
                      <th class="number">Allowed</th>
                      <th class="number">Refused</th>
                      <th class="number">Refused of all</th>
                      {by !== "user" && <th class="number">Users</th>}
                      {by !== "workspace" && <th class="number">Workspaces</th>}
                    </tr>
                  </thead>
                  <tbody>
                    {rows.map((r) => (
                      <tr key={r.key}>
                        <td>
                          <Name by={by} row={r} />
                        </td>
                        <td class="number">{r.allowed.toLocaleString()}</td>
                        <td class="number">{r.denied.toLocaleString()}</td>
                        <td class="number">{percent(r.denied, r.allowed + r.denied)}</td>
                        {by !== "user" && <td class="number">{r.users.toLocaleString()}</td>}
                        {by !== "workspace" && <td class="number">{r.workspaces.toLocaleString()}</td>}
                      </tr>
                    ))}
                  </tbody>
                </table>
              </div>
              {grouped.data!.report.total.rows > rows.length && (
                <p class="quiet">
                  The busiest {rows.length} of {grouped.data!.report.total.rows}.
                </p>
              )}
            </section>
          )}
        </>
      )}
    </>
  );
}
