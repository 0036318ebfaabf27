// Who works with what: people by day, time in editors and apps, chosen parameters, latency, of one template or of all.
//
// SPDX-License-Identifier: MIT
import { useMemo, useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { query } from "../api";
import { Chart, Shares, Tiles, formatMs, formatSpan } from "../charts";
import { useApi } from "../live";
import { Export, RangePicker, TemplatePicker, ZONE, dayName, dayTick, rangeOf, useParamsOf } from "../ranges";
import { useSession } from "../session";
import type { AppUsage, ParameterUsage, StatusCounts, Template, TemplateInsights, UserActivity, UserLatency } from "../types";
import { ErrorBox, ListState, Loading, useTitle } from "../ui";

const MANY = 10;

function Apps({ apps }: { apps: AppUsage[] }) {
  const used = apps.filter((a) => a.seconds > 0).sort((a, b) => b.seconds - a.seconds);
  return (
    <Shares
      label="Time in editors and apps"
      empty="No editor, terminal or app was used."
      shares={used.map((a) => ({
        key: `${a.type} ${a.slug} ${a.display_name}`,
        name: a.display_name || a.slug,
        value: a.seconds,
        text: formatSpan(a.seconds),
        color: a.type === "builtin" ? 1 : 4,
        more: a.times_used > 0 ? `opened ${a.times_used} ${a.times_used === 1 ? "time" : "times"}` : undefined,
      }))}
    />
  );
}

function Parameter({ parameter }: { parameter: ParameterUsage }) {
  const values = [...parameter.values].sort((a, b) => b.count - a.count);
  const name = (value: string) => parameter.options?.find((o) => o.value === value)?.name ?? (value === "" ? "(empty)" : value);
  return (
    <div>
      <h3>
        {parameter.display_name || parameter.name} {parameter.display_name && parameter.display_name !== parameter.name && <span class="quiet">{parameter.name}</span>}
      </h3>
      {parameter.description && <p class="quiet">{parameter.description}</p>}
      <Shares label={parameter.name} empty="" shares={values.slice(0, MANY).map((v) => ({ key: v.value, name: name(v.value), value: v.count, text: String(v.count), color: 3 }))} />
      {values.length > MANY && <p class="quiet">and {values.length - MANY} others</p>}
    </div>
  );
}

type Sort = "seconds" | "p50" | "username";

interface Person {
  id: string;
  username: string;
  seconds: number;
  p50: number;
  p95: number;
}

function People({ activity, latency }: { activity?: UserActivity; latency?: UserLatency }) {
  const [sort, setSort] = useState<Sort>("seconds");
  const [all, setAll] = useState(false);
  const people = useMemo(() => {
    const found = new Map<string, Person>();
    for (const u of activity?.report.users ?? []) found.set(u.user_id, { id: u.user_id, username: u.username, seconds: u.seconds, p50: -1, p95: -1 });
    for (const u of latency?.report.users ?? []) {
      const one = found.get(u.user_id) ?? { id: u.user_id, username: u.username, seconds: 0, p50: -1, p95: -1 };
      found.set(u.user_id, { ...one, ...u.latency_ms });
    }
    const list = [...found.values()];
    return list.sort((a, b) => (sort === "username" ? a.username.localeCompare(b.username) : b[sort] - a[sort] || a.username.localeCompare(b.username)));
  }, [activity, latency, sort]);
  const shown = all ? people : people.slice(0, MANY);
  const top = Math.max(1, ...people.map((p) => p.seconds));
  const column = (name: Sort, text: string) => (
    <th aria-sort={sort === name ? (name === "username" ? "ascending" : "descending") : "none"}>
      <button type="button" class="plain sort" onClick={() => setSort(name)}>
        {text}
        {sort === name && (name === "username" ? " ↑" : " ↓")}
      </button>
    </th>
  );
  if (people.length === 0) return <div class="nothing">Nobody worked in a workspace.</div>;
  return (
    <>
      <div class="scroll">
        <table class="people">
          <thead>
            <tr>
              {column("username", "User")}
              {column("seconds", "Time")}
              {column("p50", "Latency, median")}
              <th>95 of 100 under</th>
            </tr>
          </thead>
          <tbody>
            {shown.map((p) => (
              <tr key={p.id}>
                <td>
                  <Link href={`/users/${p.username}`}>{p.username}</Link>
                </td>
                <td class="with-bar">
                  <span class="bar c1">
                    <i style={{ width: `${(100 * p.seconds) / top}%` }} />
                  </span>
                  {formatSpan(p.seconds)}
                </td>
                <td>{p.p50 < 0 ? <span class="quiet">not measured</span> : formatMs(p.p50)}</td>
                <td>{p.p95 < 0 ? "" : formatMs(p.p95)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {people.length > MANY && (
        <button type="button" class="plain" onClick={() => setAll(!all)}>
          {all ? "Fewer" : `All ${people.length}`}
        </button>
      )}
    </>
  );
}

function Statuses() {
  const counts = useApi<StatusCounts>(query("/api/v2/insights/user-status-counts", { timezone: ZONE }));
  const days = Object.values(counts.data?.status_counts ?? {})[0]?.map((e) => e.date) ?? [];
  const local = days.map((d) => {
    const date = new Date(d);
    return `${date.getFullYear()}-${String(date.getMonth() + 1).padStart(2, "0")}-${String(date.getDate()).padStart(2, "0")}`;
  });
  return (
    <section class="panel">
      <h2>Accounts</h2>
      <ErrorBox error={counts.error} />
      {!counts.data && !counts.error && <Loading />}
      {counts.data && (
        <Chart
          title="Users by status at each midnight"
          kind="area"
          whole
          labels={local.map(dayName)}
          ticks={local.map(dayTick)}
          series={[
            { name: "Active", color: 2, values: counts.data.status_counts.active?.map((e) => e.count) ?? [] },
            { name: "Dormant", color: 6, values: counts.data.status_counts.dormant?.map((e) => e.count) ?? [] },
            { name: "Suspended", color: 5, values: counts.data.status_counts.suspended?.map((e) => e.count) ?? [] },
          ]}
        />
      )}
    </section>
  );
}

export default function Insights() {
  useTitle("Insights");
  const { can } = useSession();
  const [search, set] = useParamsOf();
  const range = rangeOf(search);
  const templates = useApi<Template[]>("/api/v2/templates");
  // Who may not see all sees those of a template.
  const template = search.get("template") ?? (can.viewAllInsights ? "" : (templates.data?.[0]?.id ?? ""));
  const ready = can.viewAllInsights || template !== "";
  const params = { start_time: range.start, end_time: range.end, ...(template ? { template_ids: template } : {}) };
  const usage = useApi<TemplateInsights>(ready ? query("/api/v2/insights/templates", { ...params, interval: range.interval, timezone: ZONE }) : undefined);
  const activity = useApi<UserActivity>(ready ? query("/api/v2/insights/user-activity", params) : undefined);
  const latency = useApi<UserLatency>(ready ? query("/api/v2/insights/user-latency", params) : undefined);
  const report = usage.data?.report;
  const intervals = usage.data?.interval_reports ?? [];
  const total = activity.data?.report.users.reduce((sum, u) => sum + u.seconds, 0) ?? 0;
  const busiest = intervals.reduce((best, i) => (i.active_users > (best?.active_users ?? 0) ? i : best), intervals[0]);
  const name = (id: string) => {
    const t = templates.data?.find((x) => x.id === id);
    return t ? t.display_name || t.name : id;
  };
  const name1 = (date: string) => (range.interval === "week" ? `Week from ${dayName(date)}` : dayName(date));
  const rows = usage.data && [["from", "to", "active_users"], ...intervals.map((i) => [i.start_time, i.end_time, i.active_users])];
  const data = usage.data && { ...usage.data, user_activity: activity.data?.report, user_latency: latency.data?.report };
  return (
    <>
      <div class="head">
        <h1>Insights</h1>
        <Export name={`insights-${range.start.slice(0, 10)}-${range.end.slice(0, 10)}`} rows={rows} data={data} />
      </div>
      <div class="filters">
        <RangePicker search={search} set={set} />
        <TemplatePicker templates={templates.data} all={can.viewAllInsights} value={template} set={set} />
      </div>
      <ErrorBox error={usage.error ?? activity.error ?? latency.error ?? templates.error} />
      <ListState loaded={!ready || !!usage.data || !!usage.error} empty={!ready && !!templates.data} text="There is no template whose insights you may see." />
      {usage.data && report && (
        <>
          <Tiles
            tiles={[
              { name: "Users who worked", value: report.active_users, note: `in ${range.days} days` },
              { name: "Time in workspaces", value: formatSpan(total), note: report.active_users > 0 ? `${formatSpan(total / report.active_users)} each` : undefined },
              { name: range.interval === "week" ? "Busiest week" : "Busiest day", value: busiest?.active_users ?? 0, note: busiest && busiest.active_users > 0 ? name1(busiest.start_time) : undefined },
              { name: "Templates used", value: report.template_ids.length, note: report.template_ids.slice(0, 2).map(name).join(", ") + (report.template_ids.length > 2 ? " …" : "") },
            ]}
          />
          <section class="panel">
            <h2>People at work</h2>
            <Chart
              title={range.interval === "week" ? "Users who worked, by week" : "Users who worked, by day"}
              kind="bars"
              whole
              labels={intervals.map((i) => name1(i.start_time))}
              ticks={intervals.map((i) => dayTick(i.start_time))}
              series={[{ name: "Users", color: 1, values: intervals.map((i) => i.active_users) }]}
              empty="Nobody worked in a workspace."
            />
            <p class="quiet">Days of {ZONE.replace(/_/g, " ")}.</p>
          </section>
          <div class="columns">
            <section class="panel">
              <h2>Editors and apps</h2>
              <Apps apps={report.apps_usage} />
            </section>
            <section class="panel">
              <h2>Parameters</h2>
              {report.parameters_usage.length === 0 && <div class="nothing">No workspace was built with parameters.</div>}
              {report.parameters_usage.map((p) => (
                <Parameter key={p.name + p.template_ids.join()} parameter={p} />
              ))}
            </section>
          </div>
          <section class="panel">
            <h2>Users</h2>
            <People activity={activity.data} latency={latency.data} />
          </section>
        </>
      )}
      {can.readUsers && <Statuses />}
    </>
  );
}
