// One chat as it happens: its history, the answer that is being written, its queue and its state.
//
// SPDX-License-Identifier: MIT
import { useEffect, useReducer, useState } from "preact/hooks";
import { type ApiError, api, query } from "../api";
import { wsUrl } from "../live";
import { CHATS, type ChatMessage, type ChatStatus, type Messages, type Part, type QueuedMessage, type Retry, type StreamError, type StreamEvent, isContext } from "./types";

const PAGE = 50;
/** Pieces that arrive within this time are drawn together. */
const DRAW_MS = 40;
const RECONNECT_MS = 1000;

/** Adds a piece of an answer to those before it. */
export function addPiece(parts: Part[], piece: Part): Part[] {
  const last = parts[parts.length - 1];
  if (piece.type === "text" || piece.type === "reasoning") {
    if (last?.type !== piece.type) return [...parts, piece];
    return [...parts.slice(0, -1), { ...last, text: (last.text ?? "") + (piece.text ?? "") }];
  }
  const at = piece.tool_call_id ? parts.findIndex((p) => p.type === piece.type && p.tool_call_id === piece.tool_call_id) : -1;
  if (at < 0) return [...parts, piece];
  const old = parts[at];
  const joined: Part = { ...old, ...piece };
  if (piece.args_delta !== undefined) joined.args_delta = (old.args_delta ?? "") + piece.args_delta;
  if (piece.result_delta !== undefined) joined.result_delta = (old.result_delta ?? "") + piece.result_delta;
  return parts.map((p, i) => (i === at ? joined : p));
}

/** Of the pieces of a whole run, those that the messages stored so far do not have: a stream begins with the run's first piece. */
export function withoutStored(parts: Part[], messages: ChatMessage[]): Part[] {
  const run = messages.slice(messages.findLastIndex((m) => m.role === "user" && !isContext(m)) + 1);
  let rest = parts;
  for (const stored of run.flatMap((m) => m.content ?? [])) {
    if (stored.tool_call_id) rest = rest.filter((p) => p.type !== stored.type || p.tool_call_id !== stored.tool_call_id);
    else if (rest[0]?.type === stored.type && stored.text && rest[0].text?.startsWith(stored.text)) {
      const text = rest[0].text.slice(stored.text.length);
      rest = text ? [{ ...rest[0], text }, ...rest.slice(1)] : rest.slice(1);
    }
  }
  return rest;
}

export class ChatStream {
  messages: ChatMessage[] = [];
  queue: QueuedMessage[] = [];
  parts: Part[] = [];
  status?: ChatStatus;
  retry?: Retry;
  failure?: StreamError;
  loaded = false;
  hasMore = false;
  connected = true;
  error?: ApiError;
  private socket?: WebSocket;
  private timer?: ReturnType<typeof setTimeout>;
  private drawing?: ReturnType<typeof setTimeout>;
  private stopped = false;
  private posted = new Set<number>();

  constructor(
    readonly chat: string,
    private readonly draw: () => void,
  ) {}

  private changed() {
    this.drawing ??= setTimeout(() => {
      this.drawing = undefined;
      if (!this.stopped) this.draw();
    }, DRAW_MS);
  }

  async start() {
    try {
      await this.load();
    } catch (error) {
      this.error = error as ApiError;
      this.changed();
      return;
    }
    if (!this.stopped) this.open();
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
    clearTimeout(this.drawing);
    this.socket?.close();
  }

  /** The newest page of the history in place of what is here. */
  private async load() {
    const page = await api.get<Messages>(query(`${CHATS}/${this.chat}/messages`, { limit: PAGE }));
    const newest = page.messages.reverse();
    // What came by the stream in the meantime is newer than the page.
    const last = newest[newest.length - 1]?.id ?? 0;
    this.messages = newest.concat(this.loaded ? this.messages.filter((m) => m.id > last) : []);
    this.queue = page.queued_messages;
    this.hasMore = page.has_more;
    this.loaded = true;
    this.changed();
  }

  async older() {
    const first = this.messages[0]?.id;
    if (!first) return;
    const page = await api.get<Messages>(query(`${CHATS}/${this.chat}/messages`, { limit: PAGE, before_id: first }));
    if (this.messages[0]?.id !== first) return;
    this.messages = [...page.messages.reverse(), ...this.messages];
    this.hasMore = page.has_more;
    this.changed();
  }

  private open() {
    let first = true;
    const socket = (this.socket = new WebSocket(wsUrl(`${CHATS}/${this.chat}/stream?after_id=${this.messages[this.messages.length - 1]?.id ?? 0}`)));
    socket.onopen = () => {
      this.connected = true;
      this.parts = [];
      this.changed();
    };
    socket.onmessage = (event) => {
      const events = JSON.parse(event.data) as StreamEvent[];
      if (first) {
        // The run's pieces come before the messages that some of them have become.
        const pieces = events.filter((e) => e.type === "message_part");
        for (const e of events) if (e.type !== "message_part") this.take(e);
        for (const e of pieces) this.take(e);
        this.parts = withoutStored(this.parts, this.messages);
        first = false;
      } else {
        for (const e of events) this.take(e);
      }
      this.changed();
    };
    socket.onclose = () => {
      if (this.stopped) return;
      this.connected = false;
      this.changed();
      this.timer = setTimeout(() => this.open(), RECONNECT_MS);
    };
  }

  private take(event: StreamEvent) {
    switch (event.type) {
      case "status":
        this.status = event.status!.status;
        this.retry = undefined;
        if (this.status !== "error") this.failure = undefined;
        // After an interrupt the half answer stays in sight until it comes as a message.
        if (this.status === "pending" || this.status === "error") this.parts = [];
        break;
      case "message_part":
        if (this.status === "waiting" || this.status === "pending") break;
        this.retry = undefined;
        this.parts = addPiece(this.parts, event.message_part!.part);
        break;
      case "message":
        this.takeMessage(event.message!);
        break;
      case "queue_update":
        this.queue = event.queued_messages ?? [];
        break;
      case "retry":
        this.parts = [];
        this.retry = event.retry;
        break;
      case "error":
        this.retry = undefined;
        this.failure = event.error;
        break;
    }
  }

  private takeMessage(message: ChatMessage) {
    // Messages come in order; one that is not new begins the history anew (somebody edited it).
    this.messages = [...this.messages.filter((m) => m.id < message.id), message];
    if (message.role === "assistant") this.parts = [];
    else if (message.role === "tool") this.parts = withoutStored(this.parts, [message]);
    // A message of another window may be an edit of the first one, which leaves nothing to begin anew with.
    else if (message.role === "user" && !isContext(message)) {
      this.parts = [];
      if (!this.posted.delete(message.id)) void this.load().catch(() => undefined);
    }
  }

  /** A message that this page has sent, as the server stored it. */
  add(message: ChatMessage) {
    if (this.messages.some((m) => m.id === message.id)) return;
    this.posted.add(message.id);
    this.messages = [...this.messages.filter((m) => m.id < message.id), message];
    this.failure = undefined;
    this.changed();
  }

  /** The same in place of an older one and all that followed it. */
  replace(old: number, message: ChatMessage) {
    this.messages = this.messages.filter((m) => m.id < old || m.id >= message.id);
    this.queue = [];
    this.parts = [];
    this.add(message);
    this.changed();
  }
}

/** The chat of this id, drawn again whenever something happens in it. */
export function useChatStream(chat: string): ChatStream {
  const [, redraw] = useReducer((n: number) => n + 1, 0);
  const [stream, setStream] = useState(() => new ChatStream(chat, () => redraw(0)));
  useEffect(() => {
    const fresh = new ChatStream(chat, () => redraw(0));
    setStream(fresh);
    void fresh.start();
    return () => fresh.stop();
  }, [chat]);
  return stream.chat === chat ? stream : new ChatStream(chat, () => undefined);
}
