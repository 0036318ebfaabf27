// xterm.js over the reconnecting PTY: JSON objects up (in binary messages), the terminal's bytes down.
//
// SPDX-License-Identifier: MIT
import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";
import { wsUrl } from "./live";

export interface TerminalOptions {
  agentId: string;
  command: string;
  reconnect: string;
  onState: (problem: string) => void;
}

const MOST_EARLY = 4096;

/** Opens the terminal in place; returns what closes it. */
export function openTerminal(place: HTMLElement, options: TerminalOptions): () => void {
  const terminal = new Terminal({ fontFamily: "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace", fontSize: 14, scrollback: 5000, cursorBlink: true });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  terminal.open(place);
  fit.fit();
  terminal.focus();

  const encoder = new TextEncoder();
  let socket: WebSocket;
  let closed = false;
  let wait = 250;
  let timer: ReturnType<typeof setTimeout> | undefined;
  // What is typed before the connection stands goes when it does.
  let early = "";
  const type = (data: string) => {
    if (socket.readyState === WebSocket.CONNECTING) early = (early + data).slice(0, MOST_EARLY);
    else send({ data });
  };
  const send = (message: object) => socket.readyState === WebSocket.OPEN && socket.send(encoder.encode(JSON.stringify(message)));

  const connect = () => {
    const params = new URLSearchParams({ reconnect: options.reconnect, width: String(terminal.cols), height: String(terminal.rows) });
    if (options.command) params.set("command", options.command);
    socket = new WebSocket(wsUrl(`/api/v2/workspaceagents/${options.agentId}/pty?${params}`));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      wait = 250;
      options.onState("");
      terminal.reset();
      send({ height: terminal.rows, width: terminal.cols });
      if (early) send({ data: early });
      early = "";
    };
    socket.onmessage = (event) => terminal.write(new Uint8Array(event.data));
    socket.onclose = (event) => {
      if (closed) return;
      if (event.code === 1000) {
        options.onState("The session has ended. Reload the page for a new one.");
        const url = new URL(location.href);
        url.searchParams.delete("reconnect");
        history.replaceState(null, "", url);
        return;
      }
      options.onState(event.reason ? `Connection lost: ${event.reason}; trying again …` : "Connection lost; trying again …");
      timer = setTimeout(connect, wait);
      wait = Math.min(wait * 2, 5000);
    };
  };
  connect();

  terminal.onData(type);
  terminal.onBinary((data) => send({ data }));
  terminal.onResize(({ cols, rows }) => send({ height: rows, width: cols }));
  const observer = new ResizeObserver(() => fit.fit());
  observer.observe(place);

  return () => {
    closed = true;
    clearTimeout(timer);
    observer.disconnect();
    socket.close();
    terminal.dispose();
  };
}
