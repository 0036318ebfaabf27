// One workspace, live: status, agents with their apps and metadata, the build's log, earlier builds.
//
// SPDX-License-Identifier: MIT
import { useState } from "preact/hooks";
import { Link, useLocation, useParams } from "wouter-preact";
import { api } from "../api";
import { useApi, useEvents } from "../live";
import { useSession } from "../session";
import { AgentLogs, JobLogs } from "../logs";
import type { AgentMetadata, Workspace, WorkspaceAgent, WorkspaceApp, WorkspaceBuild } from "../types";
import { ActionButton, Ago, CopyText, Dialog, ErrorBox, Field, Form, Loading, Status, useTitle } from "../ui";

const WORKING = ["pending", "running", "canceling"];

// wildcard: the host of apps, such as "*.apps.example.com:8443"; empty where there is none.
export function appHref(app: WorkspaceApp, workspace: Workspace, agent: WorkspaceAgent, wildcard: string): string {
  if (app.external && app.url) return app.url;
  if (app.subdomain && app.subdomain_name && wildcard && !app.command) return `${location.protocol}//${wildcard.replace("*", app.subdomain_name)}/`;
  const base = `/@${workspace.owner_name}/${workspace.name}.${agent.name}`;
  if (app.command) return `/@${workspace.owner_name}/${workspace.name}/terminal?agent=${agent.name}&command=${encodeURIComponent(app.command)}`;
  return `${base}/apps/${app.slug}/`;
}

/** What an agent's metadata scripts say now. */
export function Metadata({ agent }: { agent: WorkspaceAgent }) {
  const [items, setItems] = useState<AgentMetadata[]>([]);
  useEvents<AgentMetadata[]>(`/api/v2/workspaceagents/${agent.id}/watch-metadata`, setItems);
  if (items.length === 0) return null;
  return (
    <dl class="metadata">
      {items.map((item) => (
        <div key={item.description.key}>
          <dt>{item.description.display_name}</dt>
          <dd class={item.result.error ? "problem" : ""} title={item.result.error}>
            {item.result.error ? "error" : item.result.value || "…"}
          </dd>
        </div>
      ))}
    </dl>
  );
}

function Agent({ agent, workspace }: { agent: WorkspaceAgent; workspace: Workspace }) {
  const terminal = `/@${workspace.owner_name}/${workspace.name}/terminal?agent=${agent.name}`;
  const latency = Object.values(agent.latency ?? {}).find((l) => l.preferred);
  const apps = agent.apps.filter((app) => !app.hidden);
  const hosts = useApi<{ host: string }>(apps.some((app) => app.subdomain) ? "/api/v2/applications/host" : undefined);
  return (
    <section class="agent" data-agent={agent.name}>
      <div class="head">
        <h3>
          {agent.name} <Status value={agent.status} title={agent.health.reason} />{" "}
          {agent.status === "connected" && agent.lifecycle_state !== "ready" && <Status value={agent.lifecycle_state} />}
        </h3>
        <div class="actions">
          {agent.status === "connected" && (
            <a class="button primary" href={terminal} target="_blank" rel="noreferrer">
              Terminal
            </a>
          )}
          {agent.status === "connected" &&
            apps.map((app) => (
              <a key={app.id} class="button" href={appHref(app, workspace, agent, hosts.data?.host ?? "")} target="_blank" rel="noreferrer" title={app.health === "disabled" ? undefined : app.health}>
                {app.display_name || app.slug} {app.health === "unhealthy" && "⚠"}
              </a>
            ))}
        </div>
      </div>
      <p class="quiet">
        {agent.operating_system}/{agent.architecture}
        {agent.version && ` · agent ${agent.version}`}
        {agent.expanded_directory && ` · ${agent.expanded_directory}`}
        {latency && ` · ${latency.latency_ms.toFixed(1)} ms`}
      </p>
      {agent.health.reason && agent.status !== "connecting" && <p class="problem">{agent.health.reason}</p>}
      {agent.status === "connected" && <Metadata agent={agent} />}
      <AgentLogs agentId={agent.id} sources={agent.log_sources} />
    </section>
  );
}

function Builds({ workspace }: { workspace: Workspace }) {
  const builds = useApi<WorkspaceBuild[]>(`/api/v2/workspaces/${workspace.id}/builds?limit=10&latest=${workspace.latest_build.build_number}-${workspace.latest_build.job.status}`);
  return (
    <>
      <h2>Builds</h2>
      <ErrorBox error={builds.error} />
      <table>
        <tbody>
          {builds.data?.map((b) => (
            <tr key={b.id}>
              <td>
                <Link href={`/@${workspace.owner_name}/${workspace.name}/builds/${b.build_number}`}>
                  #{b.build_number} {b.transition}
                </Link>
              </td>
              <td>
                <Status value={b.job.status} title={b.job.error} />
              </td>
              <td>{b.template_version_name}</td>
              <td>{b.initiator_name}</td>
              <td>
                <Ago time={b.created_at} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}

function DeleteDialog({ workspace, open, onClose }: { workspace: Workspace; open: boolean; onClose: () => void }) {
  const [typed, setTyped] = useState("");
  const remove = async () => {
    await api.post(`/api/v2/workspaces/${workspace.id}/builds`, { transition: "delete" });
    onClose();
  };
  return (
    <Dialog title={`Delete ${workspace.name}?`} open={open} onClose={onClose}>
      <p>Its home folder goes with it. This cannot be undone.</p>
      <Form action={remove} submit="Delete the workspace" disabled={typed !== workspace.name}>
        {() => <Field label={`Type ${workspace.name} to confirm`} name="confirm" autoFocus autoComplete="off" value={typed} onInput={(e) => setTyped(e.currentTarget.value)} />}
      </Form>
    </Dialog>
  );
}

/** To the chat that works here, or to a new one. */
function ChatLink({ workspace: w }: { workspace: Workspace }) {
  const { experiments, can, user } = useSession();
  const on = experiments.includes("agents") && can.createChat;
  const chats = useApi<Record<string, string>>(on ? `/api/experimental/chats/by-workspace?workspace_ids=${w.id}` : undefined);
  const chat = chats.data?.[w.id];
  if (!chats.data || (!chat && w.owner_id !== user.id)) return null;
  return (
    <Link class="button" href={chat ? `/agents/${chat}` : `/agents?workspace=${w.id}`}>
      {chat ? "Chat" : "New chat"}
    </Link>
  );
}

export function WorkspacePage() {
  const params = useParams<{ owner: string; workspace: string }>();
  const [, navigate] = useLocation();
  const loaded = useApi<Workspace>(`/api/v2/users/${params.owner}/workspace/${params.workspace}`);
  const w = loaded.data;
  const [deleting, setDeleting] = useState(false);
  useTitle(params.workspace);
  const connected = useEvents<Workspace>(w && `/api/v2/workspaces/${w.id}/watch`, (next) => {
    loaded.set(next);
    if (next.latest_build.status === "deleted") navigate("/workspaces");
  });
  if (loaded.error) return <ErrorBox error={loaded.error} />;
  if (!w) return <Loading />;

  const build = w.latest_build;
  const working = WORKING.includes(build.job.status);
  const start = (transition: "start" | "stop", version?: string) => async () => {
    await api.post(`/api/v2/workspaces/${w.id}/builds`, { transition, ...(version ? { template_version_id: version } : {}) });
    await loaded.reload();
  };
  const cancel = async () => {
    await api.patch(`/api/v2/workspacebuilds/${build.id}/cancel`);
    await loaded.reload();
  };
  const agents = build.resources.flatMap((r) => r.agents ?? []);
  const facts = build.resources.filter((r) => !r.hide && r.metadata?.length);
  return (
    <>
      <div class="head">
        <h1>
          {w.owner_name}/{w.name} <Status value={build.status} />
        </h1>
        <div class="actions">
          <ChatLink workspace={w} />
          <Link class="button" href={`/@${w.owner_name}/${w.name}/metrics`}>
            Metrics
          </Link>
          {working && <ActionButton action={cancel}>Cancel the build</ActionButton>}
          {!working && build.status !== "running" && (
            <ActionButton kind="primary" action={start("start")}>
              Start
            </ActionButton>
          )}
          {!working && build.status === "running" && <ActionButton action={start("stop")}>Stop</ActionButton>}
          {!working && w.outdated && (
            <ActionButton action={start("start", w.template_active_version_id)} title="Builds with the template's active version">
              Update
            </ActionButton>
          )}
          <button type="button" class="danger" disabled={working} onClick={() => setDeleting(true)}>
            Delete
          </button>
        </div>
      </div>
      {!connected && <p class="problem">The connection to the server is lost; trying again …</p>}
      <p class="quiet">
        {w.template_display_name || w.template_name}, version {build.template_version_name} · last used <Ago time={w.last_used_at} />
        {build.deadline && !build.deadline.startsWith("0001") && (
          <>
            {" "}
            · stops <Ago time={build.deadline} />
          </>
        )}
      </p>
      {build.job.error && (
        <div class="error" role="alert">
          <strong>The build failed</strong>
          <div class="detail">{build.job.error}</div>
        </div>
      )}
      {(working || build.job.status === "failed") && <JobLogs key={build.id} path={`/api/v2/workspacebuilds/${build.id}/logs`} onEnd={() => void loaded.reload()} />}
      {!working && build.transition === "start" && agents.map((agent) => <Agent key={agent.id} agent={agent} workspace={w} />)}
      {!working && build.transition === "start" && agents.length > 0 && (
        <>
          <h2>From your own terminal</h2>
          <CopyText text={`coder ssh ${w.name}`} />
        </>
      )}
      {facts.map((r) => (
        <dl class="metadata" key={r.id}>
          {r.metadata?.map((m) => (
            <div key={m.key}>
              <dt>{m.key}</dt>
              <dd>{m.sensitive ? "••••" : m.value}</dd>
            </div>
          ))}
        </dl>
      ))}
      <Builds workspace={w} />
      <DeleteDialog workspace={w} open={deleting} onClose={() => setDeleting(false)} />
    </>
  );
}
