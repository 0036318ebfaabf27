// Chats with models: the list, a new one, and the open one.  Loaded when first opened (main.tsx).
//
// SPDX-License-Identifier: MIT
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Link, Redirect, Route, Switch, useLocation, useParams, useSearch } from "wouter-preact";
import { api, query } from "../api";
import { useChime } from "../chat/chime";
import { useComments } from "../chat/comments";
import { Composer, ContextRing, LimitNotice, ModelPicker, type Models, defaultModel, draftKey, useModels } from "../chat/composer";
import { ChatListContext, useChatList, useList } from "../chat/list";
import { Panel, usePanel } from "../chat/panel";
import { McpPicker, defaultServers, useMcpServers, withForced } from "../chat/mcp";
import { usePreference } from "../chat/prefs";
import { Sidebar, statusTone, statusWord } from "../chat/sidebar";
import { type ChatStream, useChatStream } from "../chat/stream";
import { Transcript, textOf } from "../chat/transcript";
import { CHATS, type Chat, type ChatMessage, type InputPart, type LimitStatus, type QueuedMessage, isBusy, isContext, modelName } from "../chat/types";
import { useApi } from "../live";
import { useSession } from "../session";
import type { Workspace } from "../types";
import { ActionButton, Dialog, Empty, ErrorBox, Field, Form, Loading, Select, useTitle } from "../ui";
import { AgentSettings } from "./agentsettings";

const useLimit = () => useApi<LimitStatus>(`${CHATS}/usage-limits/status`, 60_000);

/** Keys of these pages: n for a new chat. */
function useChatKeys() {
  const [, navigate] = useLocation();
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || (event.target as HTMLElement).closest("input, textarea, select, dialog")) return;
      if (event.key === "n") {
        event.preventDefault();
        navigate("/agents");
      }
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, [navigate]);
}

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

function NewChat() {
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

/** A chat's own facts, kept true by the owner's events. */
function useChat(id: string) {
  const loaded = useApi<Chat>(`${CHATS}/${id}`);
  const { follow } = useList();
  const { data, set, reload } = loaded;
  const now = useRef(data);
  now.current = data;
  useEffect(
    () =>
      follow(({ kind, chat }) => {
        const old = now.current;
        if (chat.id !== id) return;
        // What is being loaded may be older than the event.
        if (!old || kind === "created" || kind === "deleted") void reload();
        else set({ ...old, title: chat.title, status: chat.status, last_error: chat.last_error, workspace_id: chat.workspace_id, agent_id: chat.agent_id, diff_status: chat.diff_status ?? old.diff_status, last_injected_context: chat.last_injected_context, last_model_config_id: chat.last_model_config_id });
      }),
    [follow, id, reload, set],
  );
  return loaded;
}

function LabelsForm({ chat, onDone }: { chat: Chat; onDone: () => Promise<void> }) {
  const [text, setText] = useState(Object.entries(chat.labels).map(([k, v]) => `${k}: ${v}`).join("\n"));
  const save = async () => {
    const pairs = text.split("\n").filter((l) => l.trim()).map((l) => [l.split(":")[0].trim(), l.split(":").slice(1).join(":").trim()]);
    await api.patch(`${CHATS}/${chat.id}`, { labels: Object.fromEntries(pairs) });
    await onDone();
  };
  return (
    <Form action={save} submit="Save the labels">
      {() => (
        <div class="field">
          <label for="labels">Labels</label>
          <textarea id="labels" rows={5} value={text} onInput={(e) => setText(e.currentTarget.value)} />
          <div class="help">One a line, as key: value.</div>
        </div>
      )}
    </Form>
  );
}

function ChatHead({ chat, stream, reload, panel }: { chat: Chat; stream: ChatStream; reload: () => Promise<void>; panel: ReturnType<typeof usePanel> }) {
  const list = useList();
  const [labels, setLabels] = useState(false);
  const patch = (body: object) => async () => {
    await api.patch(`${CHATS}/${chat.id}`, body);
    await Promise.all([reload(), list.reload()]);
  };
  const retitle = async () => {
    await api.post(`${CHATS}/${chat.id}/title/regenerate`);
    await reload();
  };
  const status = stream.status ?? chat.status;
  return (
    <div class="chat-head">
      <Link href="/agents" class="back" aria-label="All chats">
        ‹
      </Link>
      <h1 title={chat.title}>{chat.title}</h1>
      <span class={`status ${statusTone(status)}`} data-status={status}>
        {statusWord(status)}
      </span>
      {chat.parent_chat_id && <Link href={`/agents/${chat.parent_chat_id}`}>Parent</Link>}
      {chat.workspace_id && <WorkspaceLink id={chat.workspace_id} />}
      {chat.diff_status?.url && (
        <a href={/^https?:/.test(chat.diff_status.url) ? chat.diff_status.url : undefined} target="_blank" rel="noopener noreferrer">
          {chat.diff_status.pr_number ? `#${chat.diff_status.pr_number}` : "Changes"}
        </a>
      )}
      <span class="push" />
      <div class="actions chat-actions">
        <button type="button" aria-pressed={!!panel.tab} onClick={() => panel.choose(panel.tab ? undefined : "changes")}>
          Panel
        </button>
        {!chat.archived && <ActionButton action={patch({ pin_order: chat.pin_order > 0 ? 0 : 1 })}>{chat.pin_order > 0 ? "Unpin" : "Pin"}</ActionButton>}
        <button type="button" onClick={() => setLabels(true)}>
          Labels
        </button>
        <ActionButton action={retitle} disabled={isBusy(status)}>
          New title
        </ActionButton>
        <ActionButton action={patch({ archived: !chat.archived })}>{chat.archived ? "Bring back" : "Archive"}</ActionButton>
      </div>
      <Dialog title="Labels" open={labels} onClose={() => setLabels(false)}>
        <LabelsForm
          chat={chat}
          onDone={async () => {
            setLabels(false);
            await Promise.all([reload(), list.reload()]);
          }}
        />
      </Dialog>
    </div>
  );
}

function WorkspaceLink({ id }: { id: string }) {
  const { data } = useApi<Workspace>(`/api/v2/workspaces/${id}`, 15_000);
  if (!data) return null;
  return (
    <Link href={`/@${data.owner_name}/${data.name}`} class="tag">
      {data.name}: {data.latest_build.status}
    </Link>
  );
}

function Queue({ chat, queue, onEdit }: { chat: string; queue: QueuedMessage[]; onEdit: (text: string) => void }) {
  if (queue.length === 0) return null;
  const drop = (q: QueuedMessage) => api.delete<void>(`${CHATS}/${chat}/queue/${q.id}`);
  const takeBack = (q: QueuedMessage) => async () => {
    await drop(q);
    onEdit(textOf(q.content));
  };
  return (
    <ol class="queue" aria-label="Queue">
      {queue.map((q) => (
        <li key={q.id}>
          <span class="queue-text">{textOf(q.content) || "files"}</span>
          <ActionButton action={() => api.post(`${CHATS}/${chat}/queue/${q.id}/promote`)}>Send now</ActionButton>
          {q.content.every((p) => p.type === "text") && <ActionButton action={takeBack(q)}>Edit</ActionButton>}
          <ActionButton kind="danger" action={() => drop(q)}>
            Delete
          </ActionButton>
        </li>
      ))}
    </ol>
  );
}

/** Keeps the end in sight while it grows, unless the reader has scrolled up. */
function useEndInSight(stream: ChatStream) {
  const ref = useRef<HTMLDivElement>(null);
  const [atEnd, setAtEnd] = useState(true);
  const follow = useRef(true);
  const onScroll = useCallback(() => {
    const e = ref.current!;
    follow.current = e.scrollHeight - e.scrollTop - e.clientHeight < 60;
    setAtEnd(follow.current);
  }, []);
  const toEnd = useCallback(() => {
    follow.current = true;
    setAtEnd(true);
    ref.current?.scrollTo({ top: ref.current.scrollHeight });
  }, []);
  useLayoutEffect(() => {
    if (follow.current) ref.current?.scrollTo({ top: ref.current.scrollHeight });
  });
  // What is drawn late (markdown, pictures) moves the end as well.
  const inner = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!inner.current) return;
    const observer = new ResizeObserver(() => {
      if (follow.current) ref.current?.scrollTo({ top: ref.current.scrollHeight });
    });
    observer.observe(inner.current);
    return () => observer.disconnect();
  }, [stream.loaded]);
  return { ref, inner, atEnd, onScroll, toEnd };
}

interface PostAnswer {
  queued: boolean;
  message?: ChatMessage;
}

function OpenChat({ id }: { id: string }) {
  const { user } = useSession();
  const loaded = useChat(id);
  const stream = useChatStream(id);
  const models = useModels();
  const limit = useLimit();
  const list = useList();
  const [picked, setPicked] = useState<string>();
  const servers = useMcpServers();
  const [tools, setTools] = useState<string[]>();
  const [editing, setEditing] = useState<ChatMessage>();
  const [refills, setRefills] = useState(0);
  const { ref, inner, atEnd, onScroll, toEnd } = useEndInSight(stream);
  const chat = loaded.data;
  useTitle(chat?.title ?? "Chat");
  const { seen } = list;
  useEffect(() => seen(id), [id, seen, stream.messages]);
  const edit = useCallback((message: ChatMessage) => setEditing(message), []);
  const panel = usePanel();
  const comments = useComments(id);
  // What the workspace told is the chat's, not its messages': they have names only.
  const { reload } = loaded;
  const told = stream.messages.filter(isContext).length;
  useEffect(() => {
    if (told > 0) void reload();
  }, [told, reload]);

  const error = loaded.error ?? stream.error;
  if (!chat || !stream.loaded) return error ? <ErrorBox error={error} /> : <Loading />;
  const status = stream.status ?? chat.status;
  const own = chat.owner_id === user.id;
  const model = picked ?? (models.models.some((m) => m.id === chat.last_model_config_id) ? chat.last_model_config_id : defaultModel(models)?.id);
  const chosen = withForced(servers.data, tools ?? chat.mcp_server_ids);
  const config = models.models.find((m) => m.id === model);
  const usage = stream.messages.findLast((m) => m.role === "assistant" && m.usage)?.usage;

  const send = async (content: InputPart[]) => {
    const answer = await api.post<PostAnswer>(`${CHATS}/${id}/messages`, { content, model_config_id: model === chat.last_model_config_id ? undefined : model, mcp_server_ids: chosen.join() === chat.mcp_server_ids.join() ? undefined : chosen });
    if (answer.message) stream.add(answer.message);
    toEnd();
    void limit.reload();
  };
  const replace = async (content: InputPart[]) => {
    const answer = await api.patch<{ message: ChatMessage }>(`${CHATS}/${id}/messages/${editing!.id}`, { content });
    stream.replace(editing!.id, answer.message);
    setEditing(undefined);
    toEnd();
  };
  const stop = async () => {
    await api.post(`${CHATS}/${id}/interrupt`);
  };
  // A queued message goes back to where it was written, before what is being written there.
  const takeBack = (text: string) => {
    localStorage.setItem(draftKey(id), [text, localStorage.getItem(draftKey(id))].filter(Boolean).join("\n\n"));
    setRefills(refills + 1);
  };
  const busy = isBusy(status);
  return (
    <>
      <ChatHead chat={chat} stream={stream} reload={loaded.reload} panel={panel} />
      <div class={`chat-body ${panel.tab ? "with-panel" : ""}`}>
        <div class="chat-main">
          <div class="transcript" ref={ref} onScroll={onScroll} tabIndex={0} aria-label="Transcript">
            <div class="column" ref={inner}>
              {stream.hasMore && <ActionButton action={() => stream.older()}>Earlier messages</ActionButton>}
              <Transcript stream={stream} onEdit={own && !chat.archived ? edit : undefined} lastError={chat.last_error} />
            </div>
          </div>
          <div class="column chat-foot">
            {!atEnd && (
              <button type="button" class="to-end" onClick={toEnd}>
                To the newest
              </button>
            )}
            {!stream.connected && (
              <div class="notice" role="status">
                The connection is lost; it is made again …
              </div>
            )}
            <Queue chat={id} queue={stream.queue} onEdit={takeBack} />
            <LimitNotice status={limit.data} />
            {chat.archived ? (
              <Empty>This chat is archived.</Empty>
            ) : !own ? (
              <Empty>This is somebody else's chat.</Empty>
            ) : editing ? (
              <Composer
                key={`edit-${editing.id}`}
                draft={`edit-${editing.id}`}
                organization={chat.organization_id}
                placeholder="Say it otherwise"
                submit="Send the edit"
                onSend={replace}
                editing={{
                  text: textOf(editing.content),
                  files: (editing.content ?? []).filter((p) => p.type === "file" && p.file_id).map((p) => ({ id: p.file_id!, name: p.file_name ?? "" })),
                  references: (editing.content ?? []).filter((p) => p.type === "file-reference").map((p) => ({ type: "file-reference", file_name: p.file_name, start_line: p.start_line, end_line: p.end_line, content: p.content })),
                  cancel: () => setEditing(undefined),
                }}
              />
            ) : (
              <Composer key={`${id}-${refills}`} draft={id} organization={chat.organization_id} placeholder={busy ? "This will wait in the queue" : "Say something"} submit={busy ? "Queue" : "Send"} onSend={send} onStop={busy || status === "requires_action" ? stop : undefined} comments={comments}>
                {models.models.length > 0 && <ModelPicker models={models} value={model} onChange={setPicked} />}
                <McpPicker servers={servers} value={chosen} onChange={setTools} />
                <ContextRing usage={usage} limit={config?.context_limit} threshold={config?.compression_threshold} />
                {!config && <span class="quiet">{modelName(config)}</span>}
              </Composer>
            )}
          </div>
        </div>
        {panel.tab && <Panel key={id} chat={chat} tab={panel.tab} choose={panel.choose} onAsk={own && !chat.archived ? takeBack : undefined} comments={own && !chat.archived ? comments : undefined} />}
      </div>
    </>
  );
}

function ChatPage() {
  const { chat } = useParams<{ chat: string }>();
  return <OpenChat key={chat} id={chat} />;
}

export default function Agents() {
  const { experiments } = useSession();
  const [location] = useLocation();
  const open = /^\/agents\/([0-9a-f-]{36})$/.exec(location)?.[1];
  if (!experiments.includes("agents"))
    return (
      <div class="chat-empty">
        <h1>Chats are off</h1>
        <p>An administrator turns them on with the experiment “agents”.</p>
      </div>
    );
  return <AgentsOn open={open} settings={location.startsWith("/agents/settings")} />;
}

function AgentsOn({ open, settings }: { open?: string; settings: boolean }) {
  const list = useChatList(open);
  const [wide] = usePreference("wide");
  useChatKeys();
  useChime(list, open);
  return (
    <ChatListContext.Provider value={list}>
      <div class={`agents ${open || settings ? "has-open" : ""} ${wide ? "wide-chats" : ""}`}>
        <Sidebar open={open} />
        <div class={settings ? "chat settings" : "chat"}>
          <Switch>
            <Route path="/agents/settings" component={() => <Redirect to="/agents/settings/behavior" replace />} />
            <Route path="/agents/analytics" component={() => <Redirect to="/agents/settings/cost" replace />} />
            <Route path="/agents/settings/:page" component={AgentSettings} />
            <Route path="/agents/:chat" component={ChatPage} />
            <Route path="/agents" component={NewChat} />
          </Switch>
        </div>
      </div>
    </ChatListContext.Provider>
  );
}
