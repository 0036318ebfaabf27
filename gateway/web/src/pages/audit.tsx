// The audit log and the connection log.
//
// SPDX-License-Identifier: MIT
import { useState } from "preact/hooks";
import { Link, useLocation, useSearch } from "wouter-preact";
import { query } from "../api";
import { useApi } from "../live";
import type { AuditLog, ConnectionLog } from "../types";
import { Ago, ListState, Select, Status, Table, useTitle } from "../ui";

const PAGE = 25;
const ACTIONS = ["create", "write", "delete", "start", "stop", "login", "logout", "register", "request_password_reset", "connect", "disconnect", "open", "close"];
const TYPES = [
  "api_key", "convert_login", "custom_role", "git_ssh_key", "group", "health_settings", "idp_sync_settings_group", "idp_sync_settings_organization", "idp_sync_settings_role", "license",
  "notification_template", "notifications_settings", "oauth2_provider_app", "oauth2_provider_app_secret", "organization", "organization_member", "prebuilds_settings", "task", "template",
  "template_version", "user", "workspace", "workspace_agent", "workspace_app", "workspace_build", "workspace_proxy",
];
const CONNECTIONS = ["ssh", "vscode", "jetbrains", "reconnecting_pty", "workspace_app", "port_forwarding"];

const anyOf = (names: string[]): [string, string][] => [["", "any"], ...names.map((n): [string, string] => [n, n.replace(/_/g, " ")])];

/** The value of one key of a search text, and the text with another value of it. */
const valueOf = (q: string, key: string) => new RegExp(`(?:^|\\s)${key}:(\\S+)`).exec(q)?.[1] ?? "";
const withValue = (q: string, key: string, value: string) =>
  [q.replace(new RegExp(`(^|\\s)${key}:\\S+`), "").trim(), value && `${key}:${value}`].filter(Boolean).join(" ");

/** The search text lives in the address, so that a filtered log can be sent to others. */
function useFilter(): [q: string, page: number, set: (q: string, page?: number) => void] {
  const search = new URLSearchParams(useSearch());
  const [location, navigate] = useLocation();
  const set = (q: string, page = 0) => navigate(query(location, page ? { q, page } : { q }), { replace: true });
  return [search.get("q") ?? "", Number(search.get("page") ?? 0) || 0, set];
}

function Pager({ page, count, cap, onPage }: { page: number; count: number; cap: number; onPage: (page: number) => void }) {
  const most = count > cap ? `${cap}+` : String(count);
  return (
    <div class="actions">
      <button type="button" disabled={page === 0} onClick={() => onPage(page - 1)}>
        Newer
      </button>
      <span class="quiet">
        {page * PAGE + 1}–{Math.min(count, (page + 1) * PAGE)} of {most}
      </span>
      <button type="button" disabled={(page + 1) * PAGE >= count} onClick={() => onPage(page + 1)}>
        Older
      </button>
    </div>
  );
}

function SearchField({ q, set, placeholder }: { q: string; set: (q: string) => void; placeholder: string }) {
  return (
    <div class="field search">
      <label for="search">Search</label>
      <input id="search" type="search" value={q} onInput={(e) => set(e.currentTarget.value)} placeholder={placeholder} />
    </div>
  );
}

const text = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value));

function Diff({ diff }: { diff: AuditLog["diff"] }) {
  return (
    <div class="diff">
      {Object.entries(diff).map(([column, change]) => (
        <div key={column}>
          {column}: {change.secret ? <em>secret</em> : (
            <>
              <span class="old">{text(change.old)}</span> → <span class="new">{text(change.new)}</span>
            </>
          )}
        </div>
      ))}
    </div>
  );
}

function AuditRow({ log }: { log: AuditLog }) {
  const [open, setOpen] = useState(false);
  const [before, after = ""] = log.description.replace("{user}", log.user?.username ?? "Somebody").split("{target}");
  const changed = Object.keys(log.diff ?? {}).length;
  return (
    <>
      <tr>
        <td>
          <Ago time={log.time} />
        </td>
        <td>
          {before}
          {log.description.includes("{target}") && (log.resource_link ? <Link href={log.resource_link}>{log.resource_target}</Link> : <strong>{log.resource_target}</strong>)}
          {after} {log.is_deleted && <span class="tag">deleted</span>}
        </td>
        <td>{log.organization?.display_name || log.organization?.name}</td>
        <td>{log.ip}</td>
        <td>
          <Status value={log.status_code < 400 ? "succeeded" : "failed"} title={String(log.status_code)} />
        </td>
        <td>
          <button type="button" class="plain" aria-expanded={open} onClick={() => setOpen(!open)}>
            {open ? "Less" : changed > 0 ? `${changed} changed` : "More"}
          </button>
        </td>
      </tr>
      {open && (
        <tr>
          <td colSpan={6}>
            <Diff diff={log.diff ?? {}} />
            <div class="help">
              {new Date(log.time).toLocaleString()} · status {log.status_code} · request {log.request_id} · {log.user_agent}
            </div>
          </td>
        </tr>
      )}
    </>
  );
}

export function Audit() {
  useTitle("Audit log");
  const [q, page, set] = useFilter();
  const logs = useApi<{ audit_logs: AuditLog[]; count: number; count_cap: number }>(query("/api/v2/audit", { q, limit: PAGE, offset: page * PAGE }));
  return (
    <>
      <h1>Audit log</h1>
      <SearchField q={q} set={set} placeholder="username:ada action:delete resource_type:workspace date_from:2026-01-01" />
      <div class="filters">
        <Select label="Action" value={valueOf(q, "action")} choices={anyOf(ACTIONS)} onChange={(value) => set(withValue(q, "action", value))} />
        <Select label="Kind of thing" value={valueOf(q, "resource_type")} choices={anyOf(TYPES)} onChange={(value) => set(withValue(q, "resource_type", value))} />
      </div>
      <ListState error={logs.error} loaded={!!logs.data} empty={logs.data?.audit_logs.length === 0} text="Nothing matches." />
      {logs.data && logs.data.audit_logs.length > 0 && (
        <>
          <div class="scroll">
            <Table head={["When", "What", "Organization", "From", "Result", ""]}>
              {logs.data.audit_logs.map((log) => (
                <AuditRow key={log.id} log={log} />
              ))}
            </Table>
          </div>
          <Pager page={page} count={logs.data.count} cap={logs.data.count_cap} onPage={(n) => set(q, n)} />
        </>
      )}
    </>
  );
}

export function Connections() {
  useTitle("Connections");
  const [q, page, set] = useFilter();
  const logs = useApi<{ connection_logs: ConnectionLog[]; count: number; count_cap: number }>(query("/api/v2/connectionlog", { q, limit: PAGE, offset: page * PAGE }));
  return (
    <>
      <h1>Connections</h1>
      <SearchField q={q} set={set} placeholder="username:ada workspace_owner:bob status:ongoing" />
      <div class="filters">
        <Select label="Kind" value={valueOf(q, "type")} choices={anyOf(CONNECTIONS)} onChange={(value) => set(withValue(q, "type", value))} />
      </div>
      <ListState error={logs.error} loaded={!!logs.data} empty={logs.data?.connection_logs.length === 0} text="Nothing matches." />
      {logs.data && logs.data.connection_logs.length > 0 && (
        <>
          <div class="scroll">
            <Table head={["Since", "Kind", "Workspace", "Who or what", "From", "Ended"]}>
              {logs.data.connection_logs.map((log) => (
                <tr key={log.id}>
                  <td>
                    <Ago time={log.connect_time} />
                  </td>
                  <td>{log.type.replace(/_/g, " ")}</td>
                  <td>
                    <Link href={`/@${log.workspace_owner_username}/${log.workspace_name}`}>
                      {log.workspace_owner_username}/{log.workspace_name}
                    </Link>{" "}
                    <span class="quiet">{log.agent_name}</span>
                  </td>
                  <td>{log.web_info && `${log.web_info.user?.username ?? "anybody"}: ${log.web_info.slug_or_port}, ${log.web_info.status_code}`}</td>
                  <td>{log.ip}</td>
                  <td>
                    {log.ssh_info && (log.ssh_info.disconnect_time ? <Ago time={log.ssh_info.disconnect_time} /> : <Status value="active" />)} {log.ssh_info?.disconnect_reason}
                  </td>
                </tr>
              ))}
            </Table>
          </div>
          <Pager page={page} count={logs.data.count} cap={logs.data.count_cap} onPage={(n) => set(q, n)} />
        </>
      )}
    </>
  );
}
