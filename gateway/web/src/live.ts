// Things that change on their own: server-sent events, followed logs, loaded data.
//
// SPDX-License-Identifier: MIT
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { ApiError, api, identity } from "./api";

export const wsUrl = (path: string) => {
  const url = new URL(path, location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  if (identity.token) url.searchParams.set("coder_session_token", identity.token);
  return url.href;
};

export interface Loaded<T> {
  data?: T;
  error?: ApiError;
  reload: () => Promise<void>;
  set: (data: T) => void;
}

/** Loads path and keeps it; path undefined loads nothing yet; every: milliseconds between reloads while the page is seen. */
export function useApi<T>(path: string | undefined, every = 0): Loaded<T> {
  const [state, setState] = useState<{ path?: string; data?: T; error?: ApiError }>({});
  const current = useRef(path);
  current.current = path;
  const reload = useCallback(async () => {
    if (path === undefined) return;
    try {
      const data = await api.get<T>(path);
      if (current.current === path) setState({ path, data });
    } catch (error) {
      if (current.current === path) setState((old) => ({ path, data: old.path === path ? old.data : undefined, error: error as ApiError }));
    }
  }, [path]);
  useEffect(() => {
    void reload();
    if (!every) return;
    const timer = setInterval(() => document.visibilityState === "visible" && void reload(), every);
    return () => clearInterval(timer);
  }, [reload, every]);
  const set = useCallback((data: T) => setState({ path: current.current, data }), []);
  const fresh = state.path === path;
  return { data: fresh ? state.data : undefined, error: fresh ? state.error : undefined, reload, set };
}

/** Server-sent events of path; the browser reconnects by itself, and so do we when it gives up. */
export function useEvents<T>(path: string | undefined, onData: (data: T) => void) {
  const handler = useRef(onData);
  handler.current = onData;
  const [connected, setConnected] = useState(true);
  useEffect(() => {
    if (!path) return;
    let source: EventSource;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const open = () => {
      source = new EventSource(path);
      source.onopen = () => setConnected(true);
      source.addEventListener("data", (event) => handler.current(JSON.parse((event as MessageEvent).data)));
      source.onerror = () => {
        setConnected(false);
        if (source.readyState === EventSource.CLOSED) timer = setTimeout(open, 2000);
      };
    };
    open();
    return () => {
      clearTimeout(timer);
      source.close();
    };
  }, [path]);
  return connected;
}

/**
 * A followed log: each message is one entry or an array of entries with ascending ids.
 * A connection that breaks is made again after the last entry seen; a clean end calls onEnd.
 */
export function useFollow<T extends { id: number }>(path: string | undefined, onEnd?: () => void): T[] {
  const [entries, setEntries] = useState<T[]>([]);
  const end = useRef(onEnd);
  end.current = onEnd;
  useEffect(() => {
    setEntries([]);
    if (!path) return;
    let last = 0;
    let stopped = false;
    let socket: WebSocket;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const open = () => {
      socket = new WebSocket(wsUrl(`${path}?follow&after=${last}`));
      socket.onmessage = (event) => {
        const message = JSON.parse(event.data) as T | T[];
        const fresh = (Array.isArray(message) ? message : [message]).filter((entry) => entry.id > last);
        if (fresh.length === 0) return;
        last = fresh[fresh.length - 1].id;
        setEntries((old) => old.concat(fresh));
      };
      socket.onclose = (event) => {
        if (stopped) return;
        if (event.code === 1000) end.current?.();
        else timer = setTimeout(open, 1000);
      };
    };
    open();
    return () => {
      stopped = true;
      clearTimeout(timer);
      socket.close();
    };
  }, [path]);
  return entries;
}
