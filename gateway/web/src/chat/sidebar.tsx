// The list of chats beside the open one: search, pinned ones, days, subagents below their parents.
//
// SPDX-License-Identifier: MIT
import { useEffect, useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { Empty, ErrorBox, Loading } from "../ui";
import { useList } from "./list";
import { type Chat, type ChatStatus, isBusy } from "./types";

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

const WORDS: Partial<Record<ChatStatus, string>> = { waiting: "idle", requires_action: "needs an answer" };
export const statusWord = (status: ChatStatus) => WORDS[status] ?? status;
export const statusTone = (status: ChatStatus) => (isBusy(status) || status === "requires_action" ? "busy" : status === "error" ? "bad" : "idle");

function Row({ chat, open, all, depth = 0 }: { chat: Chat; open?: string; all: Chat[]; depth?: number }) {
  const children = all.filter((c) => c.parent_chat_id === chat.id);
  const labels = Object.entries(chat.labels);
  return (
    <li>
      <Link href={`/agents/${chat.id}`} class={`chat-link ${chat.id === open ? "current" : ""}`} aria-current={chat.id === open ? "page" : undefined} style={depth ? `padding-left: ${0.6 + depth}rem` : undefined}>
        <span class={`status ${statusTone(chat.status)}`} title={chat.last_error ?? statusWord(chat.status)} data-status={chat.status} />
        <span class={`chat-title ${chat.has_unread ? "unread" : ""}`}>{chat.title}</span>
        {chat.has_unread && <span class="dot" role="img" aria-label="unread" title="unread" />}
        {(labels.length > 0 || !!chat.diff_status?.changed_files) && (
          <span class="chat-labels">
            {labels.map(([k, v]) => (
              <span key={k} class="tag">
                {k}: {v}
              </span>
            ))}
            {!!chat.diff_status?.changed_files && (
              <span class="tag">
                +{chat.diff_status.additions} −{chat.diff_status.deletions}
              </span>
            )}
          </span>
        )}
      </Link>
      {children.length > 0 && (
        <ul>
          {children.map((c) => (
            <Row key={c.id} chat={c} open={open} all={all} depth={depth + 1} />
          ))}
        </ul>
      )}
    </li>
  );
}

export function Sidebar({ open }: { open?: string }) {
  const list = useList();
  const { chats } = list;
  const [search, setSearch] = useState("");
  const wanted = search.trim().toLowerCase();
  const isLabel = /^[^:\s]+:.+$/.test(wanted);
  // A label is the server's to find; words are looked for in the titles of all chats.
  useEffect(() => list.setLabel(isLabel ? search.trim() : ""), [search, isLabel]);
  useEffect(() => {
    if (wanted && !isLabel && list.hasMore) void list.more().catch(() => undefined);
  }, [wanted, isLabel, list.hasMore, chats]);
  const shown = isLabel || !wanted ? chats : chats?.filter((c) => c.title.toLowerCase().includes(wanted));
  return (
    <aside class="sidebar" aria-label="Chats">
      <div class="sidebar-head">
        <Link href="/agents" class="button primary" title="n">
          New chat
        </Link>
        <Link href="/agents/settings/behavior" class="button">
          Settings
        </Link>
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
                  <Row key={c.id} chat={c} open={open} all={shown} />
                ))}
              </ul>
            </section>
          ))}
        {list.hasMore && !wanted && (
          <button type="button" onClick={() => void list.more().catch(() => undefined)}>
            More
          </button>
        )}
      </div>
    </aside>
  );
}
