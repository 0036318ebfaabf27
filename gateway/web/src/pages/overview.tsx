// The deployment at a glance: workspaces, sessions, traffic, people, health, as they are now.
//
// SPDX-License-Identifier: MIT
import { Link } from "wouter-preact";
import { query } from "../api";
import { Chart, Shares, Tiles, formatBytes, formatMs } from "../charts";
import { useApi } from "../live";
import { ZONE, dayName, dayTick } from "../ranges";
import { useSession } from "../session";
import type { BuildInfo, DAUs, DeploymentStats, HealthReport } from "../types";
import { Ago, ErrorBox, Loading, useTitle } from "../ui";
import { SECTIONS, SeverityMark } from "./health";

const STATES: [keyof DeploymentStats["workspaces"] & string, string, number][] = [
  ["running", "Running", 2],
  ["building", "Building", 3],
  ["pending", "Waiting", 4],
  ["stopped", "Stopped", 6],
  ["failed", "Failed", 5],
];
const EDITORS: [keyof DeploymentStats["session_count"], string][] = [
  ["vscode", "VS Code"],
  ["jetbrains", "JetBrains"],
  ["ssh", "SSH"],
  ["reconnecting_pty", "Web terminal"],
];

function Stats({ stats }: { stats: DeploymentStats }) {
  const w = stats.workspaces;
  const total = STATES.reduce((sum, [name]) => sum + (w[name] as number), 0);
  const sessions = EDITORS.reduce((sum, [name]) => sum + stats.session_count[name], 0);
  const { P50, P95 } = w.connection_latency_ms;
  return (
    <>
      <Tiles
        tiles={[
          { name: "Workspaces running", value: w.running, note: `of ${total}` },
          { name: "Sessions now", value: sessions, note: sessions === 1 ? "editor or terminal" : "editors and terminals" },
          { name: "Latency", value: P50 < 0 ? "–" : formatMs(P50), note: P50 < 0 ? "no connection measured" : `95 of 100 under ${formatMs(P95)}` },
          { name: "To workspaces", value: formatBytes(w.rx_bytes), note: "in 15 minutes" },
          { name: "From workspaces", value: formatBytes(w.tx_bytes), note: "in 15 minutes" },
        ]}
      />
      <div class="columns">
        <section class="panel">
          <h2>Workspaces</h2>
          <Shares
            label="Workspaces by state"
            empty="There are no workspaces yet."
            shares={STATES.map(([name, text, color]) => ({ key: name, name: <Link href={`/workspaces?q=${encodeURIComponent(`status:${name === "building" ? "starting" : name}`)}`}>{text}</Link>, value: w[name] as number, text: String(w[name]), color }))}
          />
        </section>
        <section class="panel">
          <h2>Sessions</h2>
          <Shares label="Sessions by editor" empty="Nobody is connected." shares={EDITORS.map(([name, text]) => ({ key: name, name: text, value: stats.session_count[name], text: String(stats.session_count[name]) }))} />
        </section>
      </div>
      <p class="quiet">
        Collected <Ago time={stats.collected_at} />; refreshed by itself.
      </p>
    </>
  );
}

function HealthPanel() {
  const health = useApi<HealthReport>("/api/v2/debug/health", 60_000);
  return (
    <section class="panel">
      <div class="head">
        <h2>Health</h2>
        <Link href="/health">All of it</Link>
      </div>
      <ErrorBox error={health.error} />
      {!health.data && !health.error && <Loading />}
      {health.data && (
        <ul class="checks">
          {SECTIONS.map(([key, , name]) => (
            <li key={key}>
              <SeverityMark severity={health.data![key].severity} dismissed={health.data![key].dismissed} /> <Link href={`/health#${key}`}>{name}</Link>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

const STATUSES: [string, string, number][] = [
  ["active", "Active", 2],
  ["dormant", "Dormant", 6],
  ["suspended", "Suspended", 5],
];

function People() {
  const counts = [
    useApi<{ count: number }>("/api/v2/users?limit=1&q=status:active"),
    useApi<{ count: number }>("/api/v2/users?limit=1&q=status:dormant"),
    useApi<{ count: number }>("/api/v2/users?limit=1&q=status:suspended"),
  ];
  const count = (i: number) => counts[i].data?.count ?? 0;
  return (
    <section class="panel">
      <div class="head">
        <h2>Users</h2>
        <Link href="/users">All users</Link>
      </div>
      <ErrorBox error={counts.find((c) => c.error)?.error} />
      {counts.some((c) => !c.data && !c.error) && <Loading />}
      {counts.every((c) => c.data) && (
        <Shares label="Users by status" empty="There are none." shares={STATUSES.map(([name, text, color], i) => ({ key: name, name: text, value: count(i), text: String(count(i)), color }))} />
      )}
    </section>
  );
}

export default function Overview() {
  useTitle("Overview");
  const { can } = useSession();
  const stats = useApi<DeploymentStats>(can.readStats ? "/api/v2/deployment/stats" : undefined, 30_000);
  const daus = useApi<DAUs>(can.readDeployment ? query("/api/v2/insights/daus", { timezone: ZONE }) : undefined);
  const info = useApi<BuildInfo>("/api/v2/buildinfo");
  const entries = daus.data?.entries ?? [];
  return (
    <>
      <div class="head">
        <h1>Overview</h1>
        {info.data && <span class="quiet">{info.data.version}</span>}
      </div>
      <ErrorBox error={stats.error} />
      {can.readStats && !stats.data && !stats.error && <Loading />}
      {stats.data && <Stats stats={stats.data} />}
      {can.readDeployment && (
        <section class="panel">
          <div class="head">
            <h2>People at work</h2>
            {can.viewInsights && <Link href="/insights">Insights</Link>}
          </div>
          <ErrorBox error={daus.error} />
          {!daus.data && !daus.error && <Loading />}
          {daus.data && (
            <Chart
              title="Users who worked, by day"
              kind="bars"
              whole
              height={180}
              labels={entries.map((e) => dayName(e.date))}
              ticks={entries.map((e) => dayTick(e.date))}
              series={[{ name: "Users", color: 1, values: entries.map((e) => e.amount) }]}
              empty="Nobody has worked in a workspace in the last 60 days."
            />
          )}
        </section>
      )}
      <div class="columns">
        {can.readHealth && <HealthPanel />}
        {can.readUsers && <People />}
      </div>
    </>
  );
}
