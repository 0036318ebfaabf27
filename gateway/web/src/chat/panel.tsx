// Beside the transcript: what has changed in git, what the workspace told the model, a terminal.
//
// SPDX-License-Identifier: MIT
import type { ComponentChildren } from "preact";
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useApi, wsUrl } from "../live";
import { Screen, newSessionId } from "../pages/terminal";
import type { Workspace } from "../types";
import { Empty, ErrorBox, Loading } from "../ui";
import { Counts, PatchView, parsePatch } from "./patch";
import { CHATS, type Chat, type DiffContents, type GitRepository } from "./types";

const TABS = { changes: "Changes", context: "Context", terminal: "Terminal" };
type Tab = keyof typeof TABS;

/** Which part of the panel is open, kept from chat to chat. */
export function usePanel() {
  const [tab, set] = useState<Tab | undefined>(() => {
    const kept = localStorage.getItem("chat-panel") ?? "";
    return kept in TABS ? (kept as Tab) : undefined;
  });
  const choose = useCallback((wanted?: Tab) => {
    if (wanted) localStorage.setItem("chat-panel", wanted);
    else localStorage.removeItem("chat-panel");
    set(wanted);
  }, []);
  return { tab, choose };
}

interface Git {
  repositories: GitRepository[];
  error?: string;
  connected: boolean;
  seen: boolean;
  refresh: () => void;
}

/** The repositories of the workspace that the chat has worked in, as they are now. */
function useGit(chat: string): Git {
  const [repositories, setRepositories] = useState<GitRepository[]>([]);
  const [error, setError] = useState<string>();
  const [connected, setConnected] = useState(true);
  const [seen, setSeen] = useState(false);
  const socket = useRef<WebSocket>();
  useEffect(() => {
    let stopped = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let wait = 1000;
    const open = () => {
      let first = true;
      const ws = (socket.current = new WebSocket(wsUrl(`${CHATS}/${chat}/stream/git`)));
      ws.onopen = () => {
        wait = 1000;
        setConnected(true);
      };
      ws.onmessage = (event) => {
        const message = JSON.parse(event.data) as { type: string; repositories?: GitRepository[]; message?: string };
        setError(message.type === "error" ? message.message : undefined);
        if (message.type !== "changes") return;
        const news = message.repositories ?? [];
        const begins = first;
        first = false;
        setSeen(true);
        // A connection begins with all there is, then come those that have changed.
        setRepositories((old) => [...(begins ? [] : old.filter((r) => !news.some((n) => n.repo_root === r.repo_root))), ...news.filter((n) => !n.removed)].sort((a, b) => (a.repo_root < b.repo_root ? -1 : 1)));
      };
      ws.onclose = () => {
        if (stopped) return;
        setConnected(false);
        timer = setTimeout(open, wait);
        wait = Math.min(2 * wait, 30_000);
      };
    };
    open();
    return () => {
      stopped = true;
      clearTimeout(timer);
      socket.current?.close();
    };
  }, [chat]);
  const refresh = useCallback(() => {
    if (socket.current?.readyState === WebSocket.OPEN) socket.current.send('{"type":"refresh"}');
  }, []);
  return { repositories, error, connected, seen, refresh };
}

function Repository({ repository, onAsk }: { repository: GitRepository; onAsk?: (text: string) => void }) {
  const diff = repository.unified_diff ?? "";
  const files = useMemo(() => parsePatch(diff), [diff]);
  const sum = (key: "added" | "removed") => files.reduce((n, f) => n + f[key], 0);
  return (
    <section class="repository" aria-label={repository.repo_root}>
      <h3>
        {repository.repo_root} <span class="tag">{repository.branch || "no branch"}</span> <Counts added={sum("added")} removed={sum("removed")} />
      </h3>
      {files.length === 0 ? <p class="quiet">Nothing has changed.</p> : <PatchView text={diff} />}
      {files.length > 0 && onAsk && (
        <button type="button" class="small" onClick={() => onAsk(`Commit the changes in ${repository.repo_root}.`)}>
          Ask for a commit
        </button>
      )}
    </section>
  );
}

function LocalChanges({ chat, onAsk }: { chat: string; onAsk?: (text: string) => void }) {
  const git = useGit(chat);
  return (
    <>
      <div class="panel-row">
        <h2>In the workspace</h2>
        <button type="button" class="small" onClick={git.refresh} disabled={!git.connected}>
          Refresh
        </button>
      </div>
      {!git.connected && <p class="quiet">The workspace is not connected.</p>}
      {git.error && <p class="problem">{git.error}</p>}
      {git.connected && !git.seen && <Loading />}
      {git.seen && git.repositories.length === 0 && <Empty>No repository has been worked in yet.</Empty>}
      {git.repositories.map((r) => (
        <Repository key={r.repo_root} repository={r} onAsk={onAsk} />
      ))}
    </>
  );
}

/** The branch or the pull request, as the git server has it. */
function RemoteChanges({ chat }: { chat: Chat }) {
  const { data, error, reload } = useApi<DiffContents>(`${CHATS}/${chat.id}/diff`);
  const known = chat.diff_status;
  useEffect(() => void reload(), [reload, known?.pr_number, known?.additions, known?.deletions, known?.commits]);
  if (error) return <ErrorBox error={error} />;
  if (!data?.branch && !data?.diff) return null;
  return (
    <section>
      <h2>
        {known?.pr_number ? `#${known.pr_number} ${known.pull_request_title}` : data.branch} {known?.pull_request_state && <span class="tag">{known.pull_request_state}</span>}
      </h2>
      <p class="quiet">{data.remote_origin}</p>
      {data.diff ? <PatchView text={data.diff} /> : <p class="quiet">There is no diff of it.</p>}
    </section>
  );
}

function Context({ chat }: { chat: Chat }) {
  const parts = chat.last_injected_context ?? [];
  const files = parts.filter((p) => p.type === "context-file");
  const skills = parts.filter((p) => p.type === "skill");
  if (parts.length === 0) return <Empty>The workspace has told the model nothing: there is no AGENTS.md and no skill.</Empty>;
  return (
    <>
      {files.length > 0 && <h2>Instruction files</h2>}
      <ul class="context-list">
        {files.map((p) => (
          <li key={p.context_file_path}>
            <code>{p.context_file_path}</code> {p.context_file_truncated && <span class="tag">shortened</span>}
          </li>
        ))}
      </ul>
      {skills.length > 0 && <h2>Skills</h2>}
      <ul class="context-list">
        {skills.map((p) => (
          <li key={p.skill_name}>
            <code>{p.skill_name}</code> {p.skill_description}
          </li>
        ))}
      </ul>
    </>
  );
}

function ChatTerminal({ chat }: { chat: Chat }) {
  const workspace = useApi<Workspace>(chat.workspace_id && `/api/v2/workspaces/${chat.workspace_id}`, 15_000);
  const [session] = useState(() => {
    const key = `terminal-${chat.id}`;
    const id = sessionStorage.getItem(key) ?? newSessionId();
    sessionStorage.setItem(key, id);
    return id;
  });
  if (workspace.error) return <ErrorBox error={workspace.error} />;
  if (!workspace.data) return <Loading />;
  const agents = workspace.data.latest_build.resources.flatMap((r) => r.agents ?? []);
  const agent = agents.find((a) => a.id === chat.agent_id) ?? agents[0];
  return agent ? <Screen agentId={agent.id} command="" reconnect={session} /> : <Empty>The workspace does not run.</Empty>;
}

function NoWorkspace({ chat, children }: { chat: Chat; children: ComponentChildren }) {
  return chat.workspace_id ? <>{children}</> : <Empty>This chat has no workspace.</Empty>;
}

export function Panel({ chat, tab, choose, onAsk }: { chat: Chat; tab: Tab; choose: (tab?: Tab) => void; onAsk?: (text: string) => void }) {
  return (
    <aside class="chat-panel" aria-label="Panel">
      <div class="panel-head" role="tablist">
        {(Object.keys(TABS) as Tab[]).map((t) => (
          <button key={t} type="button" role="tab" aria-selected={t === tab} class={t === tab ? "current" : ""} onClick={() => choose(t)}>
            {TABS[t]}
          </button>
        ))}
        <span class="push" />
        <button type="button" class="plain" aria-label="Close the panel" onClick={() => choose(undefined)}>
          ×
        </button>
      </div>
      <div class={`panel-body ${tab}`} role="tabpanel" tabIndex={0} aria-label={TABS[tab]}>
        {tab === "context" && <Context chat={chat} />}
        {tab === "terminal" && (
          <NoWorkspace chat={chat}>
            <ChatTerminal chat={chat} />
          </NoWorkspace>
        )}
        {tab === "changes" && (
          <>
            <RemoteChanges chat={chat} />
            <NoWorkspace chat={chat}>
              <LocalChanges chat={chat.id} onAsk={onAsk} />
            </NoWorkspace>
          </>
        )}
      </div>
    </aside>
  );
}
