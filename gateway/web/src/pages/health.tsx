// What the server finds out about itself: six sections, what is wrong in each, and what is known and dismissed.
//
// SPDX-License-Identifier: MIT
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { api } from "../api";
import { useApi } from "../live";
import { useSession } from "../session";
import type { HealthReport, HealthSection, HealthSections, Severity } from "../types";
import { ActionButton, Ago, ErrorBox, Loading, Table, useTitle } from "../ui";

/** Key of the report, name in the settings, name for people, what it is about. */
export const SECTIONS: [key: keyof HealthSections, setting: string, name: string, about: string][] = [
  ["access_url", "AccessURL", "Access URL", "The server asks itself by the address that people use."],
  ["websocket", "Websocket", "WebSocket", "Terminals, logs and everything live come by WebSockets."],
  ["derp", "DERP", "Relays", "A message goes there and back through each relay; without one, workspaces behind a firewall cannot be reached."],
  ["database", "Database", "Database", "How long a small query takes."],
  ["workspace_proxy", "WorkspaceProxy", "Workspace proxies", "Terminals and apps nearer to people."],
  ["provisioner_daemons", "ProvisionerDaemons", "Provisioners", "They build workspaces; without one, builds wait."],
];

const WORDS: Record<Severity, string> = { ok: "well", warning: "warning", error: "failing" };
const TONES: Record<Severity, string> = { ok: "good", warning: "busy", error: "bad" };

export function SeverityMark({ severity, dismissed }: { severity: Severity; dismissed?: boolean }) {
  return (
    <span class={`status ${dismissed && severity !== "ok" ? "idle" : TONES[severity]}`} data-severity={severity}>
      {WORDS[severity]}
      {dismissed && severity !== "ok" && ", dismissed"}
    </span>
  );
}

/** "EDERP02: text" as code and text. */
function split(text: string): [string, string] {
  const found = /^(E[A-Z]+[0-9]+): (.*)$/s.exec(text);
  return found ? [found[1], found[2]] : ["EUNKNOWN", text];
}

function Findings({ section }: { section: HealthSection }) {
  const found: [string, string, string][] = [
    ...(section.error ? [["bad", ...split(section.error)] as [string, string, string]] : []),
    ...section.warnings.map((w): [string, string, string] => [section.severity === "error" ? "bad" : "busy", w.code, w.message]),
  ];
  if (found.length === 0) return null;
  return (
    <ul class="findings">
      {found.map(([tone, code, message]) => (
        <li key={code + message} class={tone}>
          <code>{code}</code> {message}
        </li>
      ))}
    </ul>
  );
}

const Facts = ({ facts }: { facts: [string, ComponentChildren][] }) => (
  <dl class="metadata">
    {facts.map(([name, value]) => (
      <div key={name}>
        <dt>{name}</dt>
        <dd>{value}</dd>
      </div>
    ))}
  </dl>
);

/** "1.472704ms" as "1.5 ms". */
const shortly = (span: string) => span.replace(/^([0-9.]+)(\D+)$/, (_, n: string, unit: string) => `${Number(n).toFixed(Number(n) < 10 ? 1 : 0)} ${unit}`);

function Relays({ derp }: { derp: HealthReport["derp"] }) {
  const nodes = Object.values(derp.regions ?? {}).flatMap((r) => (r ? r.node_reports.map((node) => ({ region: r.region, node })) : []));
  const home = derp.netcheck?.PreferredDERP;
  return (
    <>
      <div class="scroll">
        <Table head={["Region", "Node", "Address", "There and back", "STUN", "State"]}>
          {nodes.map(({ region, node }) => (
            <tr key={node.node.Name}>
              <td>
                {region.RegionName} {home === region.RegionID && <span class="tag">nearest</span>}
              </td>
              <td>{node.node.Name}</td>
              <td>
                {node.node.HostName}:{node.node.DERPPort || 443}
              </td>
              <td>
                {node.can_exchange_messages ? shortly(node.round_trip_ping) : "–"} {node.uses_websocket && <span class="tag warn">WebSocket</span>}
              </td>
              <td>{node.stun.Enabled ? (node.stun.CanSTUN ? "answers" : (node.stun.Error ?? "silent")) : "none"}</td>
              <td>
                <SeverityMark severity={node.severity} /> {node.error && <div class="problem">{node.error}</div>}
              </td>
            </tr>
          ))}
        </Table>
      </div>
      {derp.netcheck && (
        <Facts
          facts={[
            ["UDP", derp.netcheck.UDP ? "yes" : "no STUN server answered"],
            ["IPv4", derp.netcheck.IPv4 ? "yes" : "no"],
            ["IPv6", derp.netcheck.IPv6 ? "yes" : "no"],
            ...(derp.netcheck.GlobalV4 ? [["Address outside", derp.netcheck.GlobalV4] as [string, string]] : []),
          ]}
        />
      )}
    </>
  );
}

function Provisioners({ items }: { items: HealthReport["provisioner_daemons"]["items"] }) {
  if (items.length === 0) return null;
  return (
    <div class="scroll">
      <Table head={["Name", "Version", "Builds", "Tags", "Heard of", ""]}>
        {items.map(({ provisioner_daemon: d, warnings }) => (
          <tr key={d.id}>
            <td>{d.name}</td>
            <td>{d.version}</td>
            <td>{d.provisioners.join(", ")}</td>
            <td>
              {Object.entries(d.tags)
                .filter(([, value]) => value)
                .map(([name, value]) => (
                  <span key={name} class="tag">
                    {name}={value}
                  </span>
                ))}
            </td>
            <td>
              <Ago time={d.last_seen_at} />
            </td>
            <td>{warnings.map((w) => w.message).join("; ")}</td>
          </tr>
        ))}
      </Table>
    </div>
  );
}

function Details({ name, report }: { name: keyof HealthSections; report: HealthReport }) {
  switch (name) {
    case "access_url":
      return (
        <Facts
          facts={[
            ["Address", report.access_url.access_url || "not set"],
            ["Answers", report.access_url.reachable ? `yes, with status ${report.access_url.status_code}` : "no"],
            ["/healthz says", report.access_url.healthz_response || "nothing"],
          ]}
        />
      );
    case "websocket":
      return (
        <>
          <Facts facts={[["Answer to an upgrade", report.websocket.code || "none"]]} />
          {report.websocket.body && <div class="log">{report.websocket.body}</div>}
        </>
      );
    case "derp":
      return <Relays derp={report.derp} />;
    case "database":
      return (
        <Facts
          facts={[
            ["Median", shortly(report.database.latency)],
            ["Slow from", `${report.database.threshold_ms} ms`],
          ]}
        />
      );
    case "workspace_proxy":
      return <p class="quiet">{report.workspace_proxy.workspace_proxies.regions.length === 0 ? "There are none: this server serves all." : `${report.workspace_proxy.workspace_proxies.regions.length} regions`}</p>;
    case "provisioner_daemons":
      return <Provisioners items={report.provisioner_daemons.items} />;
  }
}

export default function Health() {
  useTitle("Health");
  const { can } = useSession();
  const [fresh, setFresh] = useState(0);
  const health = useApi<HealthReport>(fresh ? `/api/v2/debug/health?force=true&n=${fresh}` : "/api/v2/debug/health");
  const [last, setLast] = useState<HealthReport>();
  const report = health.data ?? last;
  if (health.data && health.data !== last) setLast(health.data);
  const checking = fresh > 0 && !health.data && !health.error;

  const dismiss = (setting: string, on: boolean) => async () => {
    const { dismissed_healthchecks: now } = await api.get<{ dismissed_healthchecks: string[] }>("/api/v2/debug/health/settings");
    await api.put("/api/v2/debug/health/settings", { dismissed_healthchecks: on ? [...new Set([...now, setting])] : now.filter((s) => s !== setting) });
    await health.reload();
  };

  return (
    <>
      <div class="head">
        <h1>
          Health {report && <SeverityMark severity={report.severity} />}
        </h1>
        <div class="actions">
          {report && (
            <span class="quiet" role="status">
              {checking ? "Checking …" : <>Checked <Ago time={report.time} /></>}
            </span>
          )}
          <button type="button" disabled={checking || !report} onClick={() => setFresh(fresh + 1)}>
            Check now
          </button>
        </div>
      </div>
      <ErrorBox error={health.error} />
      {!report && !health.error && <Loading />}
      {report && (
        <>
          {SECTIONS.map(([key, setting, name, about]) => {
            const section: HealthSection = report[key];
            return (
              <section key={key} id={key} class={`panel severity-${section.dismissed ? "ok" : section.severity}`} aria-label={name}>
                <div class="head">
                  <h2>
                    {name} <SeverityMark severity={section.severity} dismissed={section.dismissed} />
                  </h2>
                  {can.editDeployment && (section.severity !== "ok" || section.dismissed) && (
                    <ActionButton action={dismiss(setting, !section.dismissed)} title={section.dismissed ? "Tell of it again" : "It is known: do not tell of it"}>
                      {section.dismissed ? "Restore" : "Dismiss"}
                    </ActionButton>
                  )}
                </div>
                <p class="quiet">{about}</p>
                <Findings section={section} />
                <Details name={key} report={report} />
              </section>
            );
          })}
          <p class="quiet">
            {report.coder_version} · a report is kept for some minutes · <code>SELECT * FROM coder.health()</code> tells the same in SQL
          </p>
        </>
      )}
    </>
  );
}
