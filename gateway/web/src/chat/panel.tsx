// Beside the transcript: what has changed in git, what the workspace told the model, a terminal, the desktop, what models were asked.
//
// SPDX-License-Identifier: MIT
import type { ComponentType } from "preact";
import { useCallback, useRef, useState } from "preact/hooks";
import { useApi } from "../live";
import { Screen, newSessionId } from "../pages/terminal";
import { local, perTab } from "../storage";
import type { Workspace } from "../types";
import { Empty, ErrorBox, Loading } from "../ui";
import { Changes } from "./changes";
import type { Comments } from "./comments";
import { DebugRuns } from "./debugruns";
import { DesktopView } from "./desktop";
import type { Chat } from "./types";

export interface PanelProps {
  chat: Chat;
  /** Puts words where the next message is written; not for who may not write one. */
  onAsk?: (text: string) => void;
  /** Comments on lines, which the next message takes along. */
  comments?: Comments;
}

function Context({ chat }: PanelProps) {
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

function ChatTerminal({ chat }: PanelProps) {
  const workspace = useApi<Workspace>(chat.workspace_id && `/api/v2/workspaces/${chat.workspace_id}`, 15_000);
  const [session] = useState(() => {
    const key = `terminal-${chat.id}`;
    const id = perTab.getItem(key) ?? newSessionId();
    perTab.setItem(key, id);
    return id;
  });
  if (workspace.error) return <ErrorBox error={workspace.error} />;
  if (!workspace.data) return <Loading />;
  const agents = workspace.data.latest_build.resources.flatMap((r) => r.agents ?? []);
  const agent = agents.find((a) => a.id === chat.agent_id) ?? agents[0];
  return agent ? <Screen agentId={agent.id} command="" reconnect={session} /> : <Empty>The workspace does not run.</Empty>;
}

interface Tab {
  id: string;
  label: string;
  View: ComponentType<PanelProps>;
  /** There is nothing to see without a workspace. */
  needsWorkspace?: boolean;
}

const TABS: Tab[] = [
  { id: "changes", label: "Changes", View: Changes },
  { id: "context", label: "Context", View: Context },
  { id: "terminal", label: "Terminal", View: ChatTerminal, needsWorkspace: true },
  { id: "desktop", label: "Desktop", View: ({ chat }) => <DesktopView key={chat.id} chatId={chat.id} />, needsWorkspace: true },
  { id: "debug", label: "Debug", View: DebugRuns },
];

/** Is there room for the transcript and the panel? */
const isWide = () => matchMedia("(min-width: 64.01rem)").matches;

/** Which part of the panel is open, kept from chat to chat; where it would hide the transcript it begins closed. */
export function usePanel() {
  const [tab, set] = useState<Tab | undefined>(() => (isWide() ? TABS.find((t) => t.id === local.getItem("chat-panel")) : undefined));
  const choose = useCallback((wanted?: string) => {
    if (wanted) local.setItem("chat-panel", wanted);
    else local.removeItem("chat-panel");
    set(TABS.find((t) => t.id === wanted));
  }, []);
  return { tab, choose };
}

/** The tabs: one stop of the tab key, arrows go from one to the next. */
function Tabs({ tab, choose }: { tab: Tab; choose: (id: string) => void }) {
  const list = useRef<HTMLDivElement>(null);
  const onKey = (event: KeyboardEvent) => {
    const at = TABS.indexOf(tab);
    const to: Record<string, number> = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: TABS.length - 1 };
    if (!(event.key in to)) return;
    event.preventDefault();
    const next = TABS[(to[event.key] + TABS.length) % TABS.length];
    choose(next.id);
    list.current?.querySelector<HTMLElement>(`#tab-${next.id}`)?.focus();
  };
  return (
    <div role="tablist" aria-label="Panel" ref={list} onKeyDown={onKey}>
      {TABS.map((t) => (
        <button key={t.id} id={`tab-${t.id}`} type="button" role="tab" aria-selected={t === tab} aria-controls="panel-body" tabIndex={t === tab ? 0 : -1} class={t === tab ? "current" : ""} onClick={() => choose(t.id)}>
          {t.label}
        </button>
      ))}
    </div>
  );
}

export function Panel({ tab, choose, ...props }: PanelProps & { tab: Tab; choose: (tab?: string) => void }) {
  return (
    <aside class="chat-panel" aria-label="Panel">
      <div class="panel-head">
        <Tabs tab={tab} choose={choose} />
        <button type="button" class="plain" aria-label="Close the panel" onClick={() => choose(undefined)}>
          ×
        </button>
      </div>
      <div id="panel-body" class={`panel-body ${tab.id}`} role="tabpanel" tabIndex={0} aria-labelledby={`tab-${tab.id}`}>
        {tab.needsWorkspace && !props.chat.workspace_id ? <Empty>This chat has no workspace.</Empty> : <tab.View {...props} />}
      </div>
    </aside>
  );
}
