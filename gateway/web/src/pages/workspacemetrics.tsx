// One workspace over time: sessions, latency, traffic, as its agents report; and their metadata as it is now.
//
// SPDX-License-Identifier: MIT
import { Link, useParams } from "wouter-preact";
import { query } from "../api";
import { Chart, Tiles, formatBytes, formatMs } from "../charts";
import { useApi } from "../live";
import { Export, rfc3339, useParamsOf } from "../ranges";
import type { AgentStats, Workspace } from "../types";
import { Ago, ErrorBox, Loading, Select, Status, useTitle } from "../ui";
import { Metadata } from "./workspace";

const SPANS: [string, string, number][] = [
  ["1h", "Last hour", 3600],
  ["6h", "Last 6 hours", 6 * 3600],
  ["24h", "Last 24 hours", 24 * 3600],
  ["7d", "Last 7 days", 7 * 86400],
  ["30d", "Last 30 days", 30 * 86400],
];

/** A whole minute, so that the same question is not asked anew with each drawing. */
const minuteNow = () => new Date(Math.ceil(Date.now() / 60_000) * 60_000);

const SESSIONS: [keyof AgentStats["points"][0], string, number][] = [
  ["ssh", "SSH", 1],
  ["vscode", "VS Code", 2],
  ["jetbrains", "JetBrains", 3],
  ["reconnecting_pty", "Web terminal", 4],
];

function Plots({ stats, span }: { stats: AgentStats; span: number }) {
  // Every step has a place: where the agents told nothing there is a gap.
  const step = stats.step_seconds * 1000;
  const first = Math.floor(new Date(stats.start_time).getTime() / step) * step;
  const known = new Map(stats.points.map((p) => [new Date(p.time).getTime(), p]));
  const times: number[] = [];
  for (let at = first; at < new Date(stats.end_time).getTime(); at += step) times.push(at);
  const clock = (at: number) => new Date(at).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
  const day = (at: number) => new Date(at).toLocaleDateString(undefined, { day: "numeric", month: "short" });
  const labels = times.map((at) => new Date(at).toLocaleString(undefined, { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: step < 60_000 ? "2-digit" : undefined }));
  const ticks = times.map((at) => (span > 2 * 86400 ? day(at) : clock(at)));
  const of = (field: keyof AgentStats["points"][0]) => times.map((at) => (known.get(at)?.[field] as number | undefined) ?? null);
  const latency = (which: "p50" | "p95") => times.map((at) => known.get(at)?.latency_ms?.[which] ?? null);
  const rate = (field: "rx_bytes" | "tx_bytes") => of(field).map((v) => (v === null ? null : v / stats.step_seconds));
  const common = { labels, ticks };
  return (
    <>
      <section class="panel">
        <h2>Sessions</h2>
        <Chart title="Sessions by editor" kind="area" whole {...common} series={SESSIONS.map(([field, name, color]) => ({ name, color, values: of(field) }))} empty="Nobody was connected." />
      </section>
      <section class="panel">
        <h2>Latency</h2>
        <Chart
          title="Latency of connections"
          format={formatMs}
          {...common}
          series={[
            { name: "Median", color: 1, values: latency("p50") },
            { name: "95 of 100 under", color: 3, values: latency("p95") },
          ]}
          empty="No connection was measured."
        />
      </section>
      <section class="panel">
        <h2>Traffic</h2>
        <Chart
          title="Bytes a second"
          format={(v) => `${formatBytes(v)}/s`}
          {...common}
          series={[
            { name: "To the workspace", color: 1, values: rate("rx_bytes") },
            { name: "From the workspace", color: 2, values: rate("tx_bytes") },
          ]}
          empty="Nothing went there or came from there."
        />
      </section>
    </>
  );
}

export default function WorkspaceMetrics() {
  const params = useParams<{ owner: string; workspace: string }>();
  useTitle(`${params.workspace}: metrics`);
  const [search, set] = useParamsOf();
  const [span, , seconds] = SPANS.find(([name]) => name === search.get("span")) ?? SPANS[2];
  const workspace = useApi<Workspace>(`/api/v2/users/${params.owner}/workspace/${params.workspace}`);
  const w = workspace.data;
  const agents = w?.latest_build.resources.flatMap((r) => r.agents ?? []) ?? [];
  const agent = agents.find((a) => a.name === search.get("agent"));
  const end = minuteNow();
  const start = new Date(end.getTime() - seconds * 1000);
  const stats = useApi<AgentStats>(w && query(`/api/v2/workspaces/${w.id}/agent-stats`, { start_time: rfc3339(start), end_time: rfc3339(end), ...(agent ? { agent_id: agent.id } : {}) }), 60_000);
  const points = stats.data?.points;
  const sum = (field: "rx_bytes" | "tx_bytes") => points?.reduce((total, p) => total + p[field], 0) ?? 0;
  const last = points?.at(-1);
  const rows = points && [
    ["time", "connections", "ssh", "vscode", "jetbrains", "reconnecting_pty", "rx_bytes", "tx_bytes", "latency_p50_ms", "latency_p95_ms"],
    ...points.map((p) => [p.time, p.connections, p.ssh, p.vscode, p.jetbrains, p.reconnecting_pty, p.rx_bytes, p.tx_bytes, p.latency_ms?.p50, p.latency_ms?.p95]),
  ];
  return (
    <>
      <div class="head">
        <h1>
          <Link href={`/@${params.owner}/${params.workspace}`}>
            {params.owner}/{params.workspace}
          </Link>{" "}
          {w && <Status value={w.latest_build.status} />}
        </h1>
        <Export name={`${params.owner}-${params.workspace}-${span}`} rows={rows} data={stats.data} />
      </div>
      <div class="filters">
        <Select label="Time" value={span} choices={SPANS.map(([name, text]) => [name, text])} onChange={(value) => set({ span: value })} />
        {agents.length > 1 && <Select label="Agent" value={agent?.name ?? ""} choices={[["", "All agents"], ...agents.map((a): [string, string] => [a.name, a.name])]} onChange={(value) => set({ agent: value })} />}
      </div>
      <ErrorBox error={workspace.error ?? stats.error} />
      {!stats.data && !stats.error && !workspace.error && <Loading />}
      {stats.data && (
        <>
          <Tiles
            tiles={[
              { name: "Last report", value: last ? <Ago time={last.time} /> : "none", note: last ? `a point is ${stats.data.step_seconds} s` : "in this time" },
              { name: "To the workspace", value: formatBytes(sum("rx_bytes")) },
              { name: "From the workspace", value: formatBytes(sum("tx_bytes")) },
              { name: "Most sessions", value: Math.max(0, ...(points ?? []).map((p) => p.ssh + p.vscode + p.jetbrains + p.reconnecting_pty)) },
            ]}
          />
          <Plots stats={stats.data} span={seconds} />
        </>
      )}
      {agents
        .filter((a) => a.status === "connected" && (!agent || a.id === agent.id))
        .map((a) => (
          <section key={a.id} class="panel">
            <h2>{a.name} now</h2>
            <p class="quiet">
              {a.operating_system}/{a.architecture}
              {a.version && ` · agent ${a.version}`}
            </p>
            <Metadata agent={a} />
          </section>
        ))}
    </>
  );
}
