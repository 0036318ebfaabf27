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

  terminal.onData((data) => send({ data }));
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
