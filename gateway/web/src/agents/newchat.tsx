// A new chat: what is to be done, by which model, in which workspace.
//
// SPDX-License-Identifier: MIT
import { useEffect, useState } from "preact/hooks";
import { Link, useLocation, useSearch } from "wouter-preact";
import { api, query } from "../api";
import { Composer, LimitNotice, ModelPicker, type Models, defaultModel, useLimit, useModels } from "../chat/composer";
import { useList } from "../chat/list";
import { McpPicker, defaultServers, useMcpServers } from "../chat/mcp";
import { CHATS, type Chat, type InputPart } from "../chat/types";
import { useApi } from "../live";
import { useSession } from "../session";
import type { Workspace } from "../types";
import { ErrorBox, Field, Select, useTitle } from "../ui";

function NoModels() {
  const { can } = useSession();
  return (
    <div class="notice" role="status">
      There is no model that you can use.{" "}
      {can.manageChats ? (
        <>
          First <Link href="/agents/settings/providers">set up a provider</Link>, then <Link href="/agents/settings/models">a model</Link>.
        </>
      ) : (
        <>
          An administrator sets them up; or a provider wants <Link href="/agents/settings/api-keys">your own key</Link>.
        </>
      )}
    </div>
  );
}

const usable = ({ models, why }: Models) => models.some((m) => !why(m));

/** The workspaces of an organization that a chat may work in. */
function WorkspacePicker({ organization, given, value, onChange }: { organization: string; given?: Workspace; value: string; onChange: (id: string) => void }) {
  const [search, setSearch] = useState("");
  const found = useApi<{ workspaces: Workspace[] }>(query("/api/v2/workspaces", { q: `owner:me ${search.trim()}`.trim(), limit: 25 }));
  const others = (found.data?.workspaces ?? []).filter((w) => w.id !== given?.id);
  const all = (given ? [given, ...others] : others).filter((w) => w.organization_id === organization);
  const choices: [string, string][] = [["", "No workspace"], ...all.map((w): [string, string] => [w.id, `${w.name} (${w.latest_build.status})`])];
  return (
    <div class="filters">
      <Field label="Find a workspace" value={search} onInput={(e) => setSearch(e.currentTarget.value)} />
      <Select label="Workspace" value={value} choices={choices} onChange={onChange} />
    </div>
  );
}

export function NewChat() {
  useTitle("New chat");
  const { organizations, can } = useSession();
  const [, navigate] = useLocation();
  const list = useList();
  const models = useModels();
  const limit = useLimit();
  const [model, setModel] = useState<string>();
  const [organization, setOrganization] = useState((organizations.find((o) => o.is_default) ?? organizations[0])?.id);
  const wanted = new URLSearchParams(useSearch()).get("workspace") ?? "";
  const [workspace, setWorkspace] = useState(wanted);
  const servers = useMcpServers();
  const [tools, setTools] = useState<string[]>();
  const given = useApi<Workspace>(wanted ? `/api/v2/workspaces/${encodeURIComponent(wanted)}` : undefined).data;
  // The page of a workspace leads here: it says which one, and so in which organization.
  useEffect(() => {
    if (given) setOrganization(given.organization_id);
  }, [given]);
  const chosen = model ?? defaultModel(models)?.id;
  if (!can.createChat)
    return (
      <div class="chat-empty">
        <h1>Permission required</h1>
        <p>You may not start chats. An administrator gives the role “Coder Agents User”.</p>
      </div>
    );
  const send = async (content: InputPart[]) => {
    const chat = await api.post<Chat>(CHATS, { organization_id: organization, content, model_config_id: chosen, workspace_id: workspace || undefined, mcp_server_ids: tools ?? defaultServers(servers.data) });
    void list.reload();
    navigate(`/agents/${chat.id}`);
  };
  return (
    <div class="chat-empty">
      <h1>What is to be done?</h1>
      <ErrorBox error={models.error} />
      {models.loaded && !usable(models) && <NoModels />}
      <LimitNotice status={limit.data} />
      <Composer draft="new" organization={organization} placeholder="Describe a task" submit="Start" onSend={send} disabled={!models.loaded || !usable(models)}>
        {models.models.length > 0 && <ModelPicker models={models} value={chosen} onChange={setModel} />}
        <McpPicker servers={servers} value={tools ?? defaultServers(servers.data)} onChange={setTools} />
      </Composer>
      <details class="more-options" open={!!wanted}>
        <summary>{workspace ? "In a workspace" : "Workspace and organization"}</summary>
        {organizations.length > 1 && (
          <Select
            label="Organization"
            value={organization}
            choices={organizations.map((o) => [o.id, o.display_name || o.name])}
            onChange={(id) => {
              setOrganization(id);
              setWorkspace("");
            }}
          />
        )}
        <WorkspacePicker organization={organization} given={given} value={workspace} onChange={setWorkspace} />
      </details>
    </div>
  );
}
