// The terminal's own page.  The id of the session is in the address, so a reload comes back to the same shell.
//
// SPDX-License-Identifier: MIT
import { useEffect, useRef, useState } from "preact/hooks";
import { useParams } from "wouter-preact";
import { useApi } from "../live";
import type { Workspace } from "../types";
import { ErrorBox, Loading, useTitle } from "../ui";

/** A new id; sub-paths of crypto need https, so it is made from random bytes. */
export function newSessionId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** The session's id, kept in the address. */
function sessionId(): string {
  const url = new URL(location.href);
  let id = url.searchParams.get("reconnect");
  if (!id || !/^[0-9a-f-]{36}$/.test(id)) {
    id = newSessionId();
    url.searchParams.set("reconnect", id);
    history.replaceState(null, "", url);
  }
  return id;
}

/** reconnect: the session; undefined: the one in the address. */
export function Screen({ agentId, command, reconnect }: { agentId: string; command: string; reconnect?: string }) {
  const place = useRef<HTMLDivElement>(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    let close = () => {};
    let gone = false;
    // The terminal is as large as all other pages together, so it is loaded only here.
    void import("../terminal").then(({ openTerminal }) => {
      if (!gone && place.current) close = openTerminal(place.current, { agentId, command, reconnect: reconnect ?? sessionId(), onState: setProblem });
    });
    return () => {
      gone = true;
      close();
    };
  }, [agentId, command, reconnect]);
  return (
    <div class="terminal-page">
      {problem && (
        <div class="terminal-state" role="status">
          {problem}
        </div>
      )}
      <div class="terminal" ref={place} />
    </div>
  );
}

export function TerminalPage() {
  const params = useParams<{ owner: string; workspace: string }>();
  const search = new URLSearchParams(location.search);
  const workspace = useApi<Workspace>(`/api/v2/users/${params.owner}/workspace/${params.workspace}`);
  useTitle(`${params.workspace} terminal`);
  if (workspace.error) return <ErrorBox error={workspace.error} />;
  if (!workspace.data) return <Loading />;
  const agents = workspace.data.latest_build.resources.flatMap((r) => r.agents ?? []);
  const agent = agents.find((a) => a.name === search.get("agent")) ?? agents[0];
  if (!agent) return <ErrorBox error={new Error("This workspace has no agent; start it first.")} />;
  return <Screen agentId={agent.id} command={search.get("command") ?? ""} />;
}
