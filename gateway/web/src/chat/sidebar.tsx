// The list of chats beside the open one: search, pinned ones, days, subagents below their parents.
//
// SPDX-License-Identifier: MIT
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { api } from "../api";
import { useApi } from "../live";
import { Menu } from "../menu";
import { Empty, ErrorBox, Loading } from "../ui";
import { useChatActions } from "./actions";
import { useList } from "./list";
import { usePreference } from "./prefs";
import { statusTone, statusWord } from "./status";
import { CHATS, type Chat, type ModelConfig, modelName } from "./types";

/** What a chat that is being drawn is called. */
const DRAGGED = "application/x-chat";
const DAY_MS = 24 * 3600 * 1000;

function dayOf(chat: Chat, now: Date): string {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate()).getTime();
  const at = new Date(chat.updated_at).getTime();
  if (at >= midnight) return "Today";
  if (at >= midnight - DAY_MS) return "Yesterday";
  if (at >= midnight - 6 * DAY_MS) return "This week";
  return "Older";
}

/** Chats under headings, in the list's order; those with a parent in the list are not among them. */
export function grouped(chats: Chat[], now = new Date()): [string, Chat[]][] {
  const ids = new Set(chats.map((c) => c.id));
  const groups = new Map<string, Chat[]>();
  for (const chat of chats) {
    if (chat.parent_chat_id && ids.has(chat.parent_chat_id)) continue;
    const name = chat.pin_order > 0 ? "Pinned" : dayOf(chat, now);
    groups.set(name, [...(groups.get(name) ?? []), chat]);
  }
  return [...groups];
}

/** What is below the title: who answers, or what went wrong; labels, changes. */
function More({ chat, model }: { chat: Chat; model?: string }) {
  const labels = Object.entries(chat.labels);
  return (
    <>
      {chat.status === "error" && chat.last_error ? (
        <span class="chat-note problem" title={chat.last_error}>
          {chat.last_error}
        </span>
      ) : (
        model && <span class="chat-note quiet">{model}</span>
      )}
      {(labels.length > 0 || !!chat.diff_status?.changed_files) && (
        <span class="chat-labels">
          {labels.map(([k, v]) => (
            <span key={k} class="tag">
              {k}: {v}
            </span>
          ))}
          {!!chat.diff_status?.changed_files && (
            <span class="tag">
              {chat.diff_status.pr_number && `#${chat.diff_status.pr_number} `}+{chat.diff_status.additions} −{chat.diff_status.deletions}
            </span>
          )}
        </span>
      )}
    </>
  );
}

interface RowProps {
  chat: Chat;
  open?: string;
  all: Chat[];
  models: Map<string, string>;
  depth?: number;
}

function Row({ chat, open, all, models, depth = 0 }: RowProps) {
  const list = useList();
  const { items, dialogs } = useChatActions(chat);
  const children = all.filter((c) => c.parent_chat_id === chat.id);
  const pinned = chat.pin_order > 0;
  // A pinned chat is drawn to another's place; the menu does the same.
  const drop = async (event: DragEvent) => {
    const moved = event.dataTransfer?.getData(DRAGGED);
    if (!pinned || !moved || moved === chat.id) return;
    event.preventDefault();
    await api.patch(`${CHATS}/${moved}`, { pin_order: chat.pin_order }).catch(() => undefined);
    await list.reload();
  };
  return (
    <li>
      <div
        class={`chat-row ${chat.id === open ? "current" : ""}`}
        draggable={pinned}
        onDragStart={(e) => e.dataTransfer?.setData(DRAGGED, chat.id)}
        onDragOver={(e) => pinned && e.dataTransfer?.types.includes(DRAGGED) && e.preventDefault()}
        onDrop={(e) => void drop(e)}
      >
        <Link href={`/agents/${chat.id}`} draggable={false} class={`chat-link ${chat.id === open ? "current" : ""}`} aria-current={chat.id === open ? "page" : undefined} style={depth ? `padding-left: ${0.6 + depth}rem` : undefined}>
          <span class={`status ${statusTone(chat.status)}`} role="img" aria-label={statusWord(chat.status)} title={chat.last_error ?? statusWord(chat.status)} data-status={chat.status} />
          <span class={`chat-title ${chat.has_unread ? "unread" : ""}`}>{chat.title}</span>
          {chat.has_unread && <span class="dot" role="img" aria-label="unread" title="unread" />}
          <More chat={chat} model={models.get(chat.last_model_config_id)} />
        </Link>
        <Menu label={`Menu of ${chat.title}`} kind="plain small" items={items}>
          ⋯
        </Menu>
      </div>
      {dialogs}
      {children.length > 0 && (
        <ul>
          {children.map((c) => (
            <Row key={c.id} chat={c} open={open} all={all} models={models} depth={depth + 1} />
          ))}
        </ul>
      )}
    </li>
  );
}

/** Asks for more when its end comes into sight. */
function MoreChats() {
  const list = useList();
  const button = useRef<HTMLButtonElement>(null);
  const { more, chats } = list;
  useEffect(() => {
    const observer = new IntersectionObserver((entries) => entries.some((e) => e.isIntersecting) && void more().catch(() => undefined));
    if (button.current) observer.observe(button.current);
    return () => observer.disconnect();
  }, [more, chats]);
  return (
    <button type="button" ref={button} onClick={() => void more().catch(() => undefined)}>
      More chats
    </button>
  );
}

export function Sidebar({ open }: { open?: string }) {
  const list = useList();
  const { chats } = list;
  const [folded, setFolded] = usePreference("folded");
  const configs = useApi<ModelConfig[]>(`${CHATS}/model-configs`);
  const models = useMemo(() => new Map((configs.data ?? []).map((m): [string, string] => [m.id, modelName(m)])), [configs.data]);
  const [search, setSearch] = useState("");
  const wanted = search.trim().toLowerCase();
  const isLabel = /^[^:\s]+:.+$/.test(wanted);
  // A label is the server's to find; words are looked for in the titles of all chats.
  useEffect(() => list.setLabel(isLabel ? search.trim() : ""), [search, isLabel]);
  useEffect(() => {
    if (wanted && !isLabel && list.hasMore) void list.more().catch(() => undefined);
  }, [wanted, isLabel, list.hasMore, chats]);
  const shown = isLabel || !wanted ? chats : chats?.filter((c) => c.title.toLowerCase().includes(wanted));
  if (folded)
    return (
      <aside class="sidebar folded" aria-label="Chats">
        <button type="button" class="plain" aria-label="Show the list of chats" title="Show the list of chats" onClick={() => setFolded(false)}>
          »
        </button>
        <Link href="/agents" class="button primary" aria-label="New chat" title="New chat">
          +
        </Link>
      </aside>
    );
  return (
    <aside class="sidebar" aria-label="Chats">
      <div class="sidebar-head">
        <Link href="/agents" class="button primary" title="n">
          New chat
        </Link>
        <Link href="/agents/settings/behavior" class="button">
          Settings
        </Link>
        <button type="button" class="plain fold" aria-label="Hide the list of chats" title="Hide the list of chats" onClick={() => setFolded(true)}>
          «
        </button>
      </div>
      <div class="sidebar-head">
        <input type="search" aria-label="Search chats" placeholder="Title, or key:value" value={search} onInput={(e) => setSearch(e.currentTarget.value)} />
        <select aria-label="Which chats" value={String(list.archived)} onChange={(e) => list.setArchived(e.currentTarget.value === "true")}>
          <option value="false">Active</option>
          <option value="true">Archived</option>
        </select>
      </div>
      <div class="sidebar-list">
        <ErrorBox error={list.error} />
        {!shown && !list.error && <Loading />}
        {shown?.length === 0 && <Empty>{wanted ? "Nothing matches." : list.archived ? "Nothing is archived." : "No chats yet."}</Empty>}
        {shown &&
          grouped(shown).map(([name, group]) => (
            <section key={name}>
              <h2>{name}</h2>
              <ul>
                {group.map((c) => (
                  <Row key={c.id} chat={c} open={open} all={shown} models={models} />
                ))}
              </ul>
            </section>
          ))}
        {list.hasMore && !wanted && <MoreChats />}
      </div>
    </aside>
  );
}
