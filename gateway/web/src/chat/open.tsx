// An open chat: its head, what was said, where the next message is written, and the panel beside it.
//
// SPDX-License-Identifier: MIT
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { api } from "../api";
import { useApi } from "../live";
import { useSession } from "../session";
import { local } from "../storage";
import { ActionButton, Empty, ErrorBox, Loading, useTitle } from "../ui";
import { useComments } from "./comments";
import { Composer, ContextRing, LimitNotice, ModelPicker, defaultModel, draftKey, useLimit, useModels } from "./composer";
import { ChatHead } from "./head";
import { useList } from "./list";
import { McpPicker, useMcpServers, withForced } from "./mcp";
import { Panel, usePanel } from "./panel";
import { Queue } from "./queue";
import { type ChatStream, useChatStream } from "./stream";
import { OpenChatId } from "./toolworkspace";
import { Transcript, textOf } from "./transcript";
import { CHATS, type Chat, type ChatMessage, type InputPart, type Part, isBusy, isContext, modelName } from "./types";

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

const SAID = new Set(["user", "assistant", "tool"]);

/** A part of a message as it is sent. */
const asInput = (p: Part): InputPart =>
  p.type === "file"
    ? { type: "file", file_id: p.file_id ?? undefined }
    : p.type === "file-reference"
      ? { type: "file-reference", file_name: p.file_name, start_line: p.start_line, end_line: p.end_line, content: p.content }
      : { type: "text", text: p.text };

interface PostAnswer {
  queued: boolean;
  message?: ChatMessage;
}

export function OpenChat({ id }: { id: string }) {
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
  // Where nothing was answered yet the last message is said again; else the model is asked to go on.
  const retry = async () => {
    const last = stream.messages.findLast((m) => SAID.has(m.role) && !isContext(m));
    const content = (last?.content ?? []).map(asInput);
    if (last?.role === "user") {
      const answer = await api.patch<{ message: ChatMessage }>(`${CHATS}/${id}/messages/${last.id}`, { content });
      stream.replace(last.id, answer.message);
    } else await send([{ type: "text", text: "Go on where you stopped." }]);
  };
  const stop = async () => {
    await api.post(`${CHATS}/${id}/interrupt`);
  };
  // A queued message goes back to where it was written, before what is being written there.
  const takeBack = (text: string) => {
    local.setItem(draftKey(id), [text, local.getItem(draftKey(id))].filter(Boolean).join("\n\n"));
    setRefills(refills + 1);
  };
  const busy = isBusy(status);
  return (
    <OpenChatId.Provider value={id}>
      <ChatHead chat={chat} stream={stream} own={own} reload={loaded.reload} panel={panel} />
      <div class={`chat-body ${panel.tab ? "with-panel" : ""}`}>
        <div class="chat-main">
          <div class="transcript" ref={ref} onScroll={onScroll} tabIndex={0} role="log" aria-live="off" aria-busy={busy} aria-label="Transcript">
            <div class="column" ref={inner}>
              {stream.hasMore && <ActionButton action={() => stream.older()}>Earlier messages</ActionButton>}
              <Transcript stream={stream} onEdit={own && !chat.archived ? edit : undefined} onRetry={own && !chat.archived ? retry : undefined} failed={status === "error"} lastError={chat.last_error} />
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
                  references: (editing.content ?? []).filter((p) => p.type === "file-reference").map(asInput),
                  cancel: () => setEditing(undefined),
                }}
              />
            ) : (
              <Composer key={`${id}-${refills}`} draft={id} organization={chat.organization_id} placeholder={busy ? "This will wait in the queue" : "Say something"} submit={busy ? "Queue" : "Send"} onSend={send} onStop={busy || status === "requires_action" ? stop : undefined} comments={comments}>
                {models.models.length > 0 && <ModelPicker models={models} value={model} onChange={setPicked} />}
                <McpPicker servers={servers} value={chosen} onChange={setTools} />
                <ContextRing usage={usage} limit={config?.context_limit} threshold={config?.compression_threshold} told={chat.last_injected_context} />
                {!config && <span class="quiet">{modelName(config)}</span>}
              </Composer>
            )}
          </div>
        </div>
        {panel.tab && <Panel key={id} chat={chat} tab={panel.tab} choose={panel.choose} onAsk={own && !chat.archived ? takeBack : undefined} comments={own && !chat.archived ? comments : undefined} />}
      </div>
    </OpenChatId.Provider>
  );
}
