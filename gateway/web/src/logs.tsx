// Followed logs: of a build or an import by stage, of an agent by source.
//
// SPDX-License-Identifier: MIT
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { useFollow } from "./live";
import type { AgentLog, JobLog, LogSource } from "./types";

/** Keeps the end in view until the reader scrolls up. */
function LogBox({ lines, children }: { lines: number; children: ComponentChildren }) {
  const ref = useRef<HTMLDivElement>(null);
  const pinned = useRef(true);
  useEffect(() => {
    const box = ref.current;
    if (box && pinned.current) box.scrollTop = box.scrollHeight;
  }, [lines]);
  const onScroll = () => {
    const box = ref.current;
    if (box) pinned.current = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
  };
  return (
    <div class="log" role="log" tabIndex={0} ref={ref} onScroll={onScroll}>
      {children}
    </div>
  );
}

// Escape sequences of terminal colours have no place in a page's text.
const plain = (text: string) => text.replace(/\x1b\[[0-9;]*[A-Za-z]/g, "");

export function JobLogs({ path, onEnd }: { path: string; onEnd?: () => void }) {
  const entries = useFollow<JobLog>(path, onEnd);
  let stage = "";
  return (
    <LogBox lines={entries.length}>
      {entries.length === 0 && <div class="quiet">Waiting for the first line …</div>}
      {entries.map((entry) => {
        const heading = entry.stage !== stage && entry.stage;
        stage = entry.stage;
        return (
          <div key={entry.id}>
            {heading && <div class="stage">{heading}</div>}
            {entry.output && <div class={`line ${entry.log_level}`}>{plain(entry.output)}</div>}
          </div>
        );
      })}
    </LogBox>
  );
}

export function AgentLogs({ agentId, sources }: { agentId: string; sources: LogSource[] }) {
  const entries = useFollow<AgentLog>(`/api/v2/workspaceagents/${agentId}/logs`);
  const name = new Map(sources.map((source) => [source.id, source.display_name]));
  if (entries.length === 0) return null;
  return (
    <LogBox lines={entries.length}>
      {entries.map((entry) => (
        <div key={entry.id} class={`line ${entry.level}`}>
          <span class="source">{name.get(entry.source_id) ?? ""}</span>
          {plain(entry.output)}
        </div>
      ))}
    </LogBox>
  );
}
