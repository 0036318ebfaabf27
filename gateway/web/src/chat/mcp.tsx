// MCP servers whose tools chats use: which of them, and signing in where that is needed.
//
// SPDX-License-Identifier: MIT
import { useCallback, useEffect, useRef } from "preact/hooks";
import { api } from "../api";
import { type Loaded, useApi } from "../live";
import { ActionButton } from "../ui";
import { MCP_SERVERS, type McpServer } from "./types";

/** The servers that the user may see; they are looked at again when somebody has signed in. */
export function useMcpServers(): Loaded<McpServer[]> {
  const servers = useApi<McpServer[]>(MCP_SERVERS);
  const { reload } = servers;
  useEffect(() => {
    const onMessage = (event: MessageEvent) => {
      if (event.origin === location.origin && event.data?.type === "mcp-oauth2-complete") void reload();
    };
    window.addEventListener("message", onMessage);
    return () => window.removeEventListener("message", onMessage);
  }, [reload]);
  return servers;
}

export const usableServers = (servers?: McpServer[]) => (servers ?? []).filter((s) => s.enabled);

/** Those that a new chat begins with. */
export const defaultServers = (servers?: McpServer[]) => usableServers(servers).filter((s) => s.availability !== "default_off").map((s) => s.id);

/** Some are always used, also in chats that began without them. */
export function withForced(servers: McpServer[] | undefined, ids: string[]): string[] {
  return [...ids, ...usableServers(servers).filter((s) => s.availability === "force_on" && !ids.includes(s.id)).map((s) => s.id)];
}

/** Opens a window to sign in; it closes by itself when that is done. */
function useConnect(reload: () => Promise<void>) {
  const timer = useRef<ReturnType<typeof setInterval>>();
  useEffect(() => () => clearInterval(timer.current), []);
  return useCallback(
    (server: McpServer) => {
      const opened = window.open(`${MCP_SERVERS}/${server.id}/oauth2/connect`, "mcp-connect", "popup,width=600,height=700");
      clearInterval(timer.current);
      // What it says does not come where this page has another address than the server has.
      timer.current = setInterval(() => {
        if (opened && !opened.closed) return;
        clearInterval(timer.current);
        void reload();
      }, 500);
    },
    [reload],
  );
}

export function ConnectButton({ server, reload }: { server: McpServer; reload: () => Promise<void> }) {
  const connect = useConnect(reload);
  const disconnect = async () => {
    await api.delete(`${MCP_SERVERS}/${server.id}/oauth2/disconnect`);
    await reload();
  };
  if (server.auth_type !== "oauth2" || !server.enabled) return null;
  return server.auth_connected ? (
    <ActionButton action={disconnect}>Disconnect</ActionButton>
  ) : (
    <button type="button" onClick={() => connect(server)}>
      Connect
    </button>
  );
}

/** Which servers a chat uses. */
export function McpPicker({ servers, value, onChange }: { servers: Loaded<McpServer[]>; value: string[]; onChange: (ids: string[]) => void }) {
  const box = useRef<HTMLDetailsElement>(null);
  useEffect(() => {
    const onClick = (event: MouseEvent) => {
      if (box.current?.open && !box.current.contains(event.target as Node)) box.current.open = false;
    };
    document.addEventListener("click", onClick);
    return () => document.removeEventListener("click", onClick);
  }, []);
  const all = usableServers(servers.data);
  if (all.length === 0) return null;
  const chosen = all.filter((s) => value.includes(s.id));
  const waiting = chosen.some((s) => !s.auth_connected);
  const toggle = (id: string, on: boolean) => onChange(on ? [...value, id] : value.filter((v) => v !== id));
  return (
    <details
      class="mcp-picker"
      ref={box}
      onKeyDown={(e) => {
        if (e.key !== "Escape" || !box.current?.open) return;
        e.stopPropagation();
        box.current.open = false;
        box.current.querySelector("summary")?.focus();
      }}
    >
      <summary>
        Tools: {chosen.length}
        {waiting && <span class="status busy" title="One wants you to sign in" aria-label="One wants you to sign in" />}
      </summary>
      <fieldset>
        <legend>Servers with tools</legend>
        {all.map((s) => (
          <div class="mcp-choice" key={s.id}>
            <label class="check" title={s.description}>
              <input
                type="checkbox"
                checked={value.includes(s.id)}
                disabled={s.availability === "force_on"}
                onChange={(e) => toggle(s.id, e.currentTarget.checked)}
              />{" "}
              {s.display_name}
            </label>
            <ConnectButton server={s} reload={servers.reload} />
          </div>
        ))}
      </fieldset>
    </details>
  );
}
