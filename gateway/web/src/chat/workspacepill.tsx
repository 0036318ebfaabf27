// The workspace of a chat: how it is, and ways into it.
//
// SPDX-License-Identifier: MIT
import { api } from "../api";
import { useApi } from "../live";
import { Menu, type MenuItem } from "../menu";
import { appHref } from "../pages/workspace";
import type { Workspace, WorkspaceAgent } from "../types";
import { Status } from "../ui";

/** An editor's own address; the token in it is for this machine's editor only. */
async function openEditor(scheme: string, workspace: Workspace, agent: WorkspaceAgent) {
  const { key } = await api.post<{ key: string }>("/api/v2/users/me/keys");
  const params = new URLSearchParams({ owner: workspace.owner_name, workspace: workspace.name, agent: agent.name, url: location.origin, token: key });
  if (agent.expanded_directory) params.set("folder", agent.expanded_directory);
  location.assign(`${scheme}://coder.coder-remote/open?${params}`);
}

function itemsOf(workspace: Workspace, agent: WorkspaceAgent | undefined, host: string): MenuItem[] {
  const path = `/@${workspace.owner_name}/${workspace.name}`;
  const items: MenuItem[] = [{ text: "View the workspace", href: path }];
  if (!agent || agent.status !== "connected") return items;
  const shows = (app: string) => agent.display_apps.includes(app);
  if (shows("vscode")) items.push({ text: "Open in VS Code", action: () => openEditor("vscode", workspace, agent) });
  if (shows("vscode_insiders")) items.push({ text: "Open in VS Code Insiders", action: () => openEditor("vscode-insiders", workspace, agent) });
  for (const app of agent.apps.filter((a) => !a.hidden)) items.push({ text: app.display_name || app.slug, href: appHref(app, workspace, agent, host) });
  if (shows("web_terminal")) items.push({ text: "Terminal", href: `${path}/terminal?agent=${agent.name}` });
  if (shows("ssh_helper")) items.push({ text: "Copy the SSH command", action: () => navigator.clipboard.writeText(`coder ssh ${workspace.owner_name}/${workspace.name}.${agent.name}`) });
  return items;
}

export function WorkspacePill({ id, agentId }: { id: string; agentId?: string }) {
  const { data: w } = useApi<Workspace>(`/api/v2/workspaces/${id}`, 15_000);
  const agents = w?.latest_build.resources.flatMap((r) => r.agents ?? []) ?? [];
  const agent = agents.find((a) => a.id === agentId) ?? agents[0];
  const hosts = useApi<{ host: string }>(agent?.apps.some((a) => a.subdomain) ? "/api/v2/applications/host" : undefined);
  if (!w) return null;
  return (
    <Menu label={`Workspace ${w.name}: ${w.latest_build.status}`} kind="pill" items={itemsOf(w, agent, hosts.data?.host ?? "")}>
      {w.name} <Status value={w.latest_build.status} /> ▾
    </Menu>
  );
}
