// The list of one's chats, kept true by the server's events.
//
// SPDX-License-Identifier: MIT
import { createContext } from "preact";
import { useCallback, useContext, useEffect, useRef, useState } from "preact/hooks";
import { type ApiError, api } from "../api";
import { wsUrl } from "../live";
import { CHATS, type Chat, type WatchEvent } from "./types";

const PAGE = 50;

export interface ChatList {
  chats?: Chat[];
  error?: ApiError;
  archived: boolean;
  label: string;
  hasMore: boolean;
  setArchived: (archived: boolean) => void;
  setLabel: (label: string) => void;
  more: () => Promise<void>;
  reload: () => Promise<void>;
  /** The open chat was seen. */
  seen: (id: string) => void;
  /** Calls back for every event of a chat; answers how to stop that. */
  follow: (listener: (event: WatchEvent) => void) => () => void;
}

const listPath = (archived: boolean, label: string, offset: number) => {
  const params = new URLSearchParams({ q: `archived:${archived}`, limit: String(PAGE), offset: String(offset) });
  if (/^[^:]+:.+$/.test(label)) params.append("label", label);
  return `${CHATS}?${params}`;
};

/** What a list has after an event, without asking the server again; undefined: ask. */
export function applyEvent(chats: Chat[], { kind, chat }: WatchEvent, archived: boolean, open: string | undefined): Chat[] | undefined {
  const known = chats.find((c) => c.id === chat.id);
  if (kind === "created" || (kind === "deleted" && archived)) return undefined;
  if (kind === "deleted") return chats.filter((c) => c.id !== chat.id && c.root_chat_id !== chat.id);
  if (!known) return undefined;
  const merged: Chat = { ...known };
  if (kind === "title_change") merged.title = chat.title;
  else if (kind === "diff_status_change") merged.diff_status = chat.diff_status;
  else {
    merged.status = chat.status;
    merged.last_error = chat.last_error;
    if (kind === "status_change" && chat.id !== open && chat.status === "waiting") merged.has_unread = true;
  }
  return chats.map((c) => (c.id === chat.id ? merged : c));
}

export function useChatList(open: string | undefined): ChatList {
  const [archived, setArchived] = useState(false);
  const [label, setLabel] = useState("");
  const [state, setState] = useState<{ key?: string; chats?: Chat[]; error?: ApiError; hasMore: boolean }>({ hasMore: false });
  const key = `${archived} ${label}`;
  const now = useRef({ key, archived, open, chats: state.chats });
  now.current = { key, archived, open, chats: state.chats };
  const listeners = useRef(new Set<(event: WatchEvent) => void>());

  const loading = useRef(0);
  const reload = useCallback(async () => {
    loading.current++;
    try {
      const length = Math.max(PAGE, Math.ceil((now.current.chats?.length ?? 0) / PAGE) * PAGE);
      const chats: Chat[] = [];
      let last = PAGE;
      while (chats.length < length && last === PAGE) {
        const page = await api.get<Chat[]>(listPath(archived, label, chats.length));
        chats.push(...page);
        last = page.length;
      }
      if (now.current.key === key) setState({ key, chats, hasMore: last === PAGE });
    } catch (error) {
      if (now.current.key === key) setState((old) => ({ ...old, key, error: error as ApiError }));
    } finally {
      loading.current--;
    }
  }, [archived, label, key]);

  const more = useCallback(async () => {
    const had = now.current.chats?.length ?? 0;
    const page = await api.get<Chat[]>(listPath(archived, label, had));
    setState((old) => {
      if (old.key !== key || old.chats?.length !== had) return old;
      return { ...old, chats: [...old.chats, ...page.filter((c) => !old.chats!.some((o) => o.id === c.id))], hasMore: page.length === PAGE };
    });
  }, [archived, label, key]);

  useEffect(() => {
    now.current.chats = undefined;
    void reload();
  }, [reload]);

  const reloadNow = useRef(reload);
  reloadNow.current = reload;
  useEffect(() => {
    let stopped = false;
    let again = false;
    let socket: WebSocket;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let soon: ReturnType<typeof setTimeout> | undefined;
    const connect = () => {
      socket = new WebSocket(wsUrl(`${CHATS}/watch`));
      socket.onopen = () => {
        // Events were missed while there was no connection.
        if (again) void reloadNow.current();
        again = true;
      };
      socket.onmessage = (message) => {
        const event = JSON.parse(message.data) as WatchEvent;
        for (const listener of listeners.current) listener(event);
        setState((old) => {
          const chats = old.chats && applyEvent(old.chats, event, now.current.archived, now.current.open);
          // What is being loaded may be older than the event.
          if (!chats || loading.current > 0) {
            clearTimeout(soon);
            soon = setTimeout(() => void reloadNow.current(), 100);
          }
          return chats ? { ...old, chats } : old;
        });
      };
      socket.onclose = () => {
        if (!stopped) timer = setTimeout(connect, 2000);
      };
    };
    connect();
    return () => {
      stopped = true;
      clearTimeout(timer);
      clearTimeout(soon);
      socket.close();
    };
  }, []);

  const seen = useCallback((id: string) => setState((old) => ({ ...old, chats: old.chats?.map((c) => (c.id === id && c.has_unread ? { ...c, has_unread: false } : c)) })), []);
  const follow = useCallback((listener: (event: WatchEvent) => void) => {
    listeners.current.add(listener);
    return () => void listeners.current.delete(listener);
  }, []);
  return { chats: state.key === key ? state.chats : undefined, error: state.error, hasMore: state.hasMore, archived, label, setArchived, setLabel, more, reload, seen, follow };
}

export const ChatListContext = createContext<ChatList | undefined>(undefined);

export function useList(): ChatList {
  const list = useContext(ChatListContext);
  if (!list) throw new Error("no list of chats");
  return list;
}
