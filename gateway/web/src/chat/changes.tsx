// What has changed in git: the branch or the pull request as the git server has it, and the workspace's repositories as they are now.
//
// SPDX-License-Identifier: MIT
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useApi, wsUrl } from "../live";
import { Empty, ErrorBox, Loading } from "../ui";
import type { Comments } from "./comments";
import type { PanelProps } from "./panel";
import { parsePatch } from "./patch";
import { Counts, PatchView, ViewPicker } from "./patchview";
import { CHATS, type Chat, type DiffContents, type GitRepository } from "./types";

interface Git {
  repositories: GitRepository[];
  error?: string;
  connected: boolean;
  seen: boolean;
  refresh: () => void;
}

/** The repositories of the workspace that the chat has worked in, as they are now. */
function useGit(chat: string): Git {
  const [repositories, setRepositories] = useState<GitRepository[]>([]);
  const [error, setError] = useState<string>();
  const [connected, setConnected] = useState(true);
  const [seen, setSeen] = useState(false);
  const socket = useRef<WebSocket>();
  useEffect(() => {
    let stopped = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let wait = 1000;
    const open = () => {
      let first = true;
      const ws = (socket.current = new WebSocket(wsUrl(`${CHATS}/${chat}/stream/git`)));
      ws.onopen = () => {
        wait = 1000;
        setConnected(true);
      };
      ws.onmessage = (event) => {
        const message = JSON.parse(event.data) as { type: string; repositories?: GitRepository[]; message?: string };
        setError(message.type === "error" ? message.message : undefined);
        if (message.type !== "changes") return;
        const news = message.repositories ?? [];
        const begins = first;
        first = false;
        setSeen(true);
        // A connection begins with all there is, then come those that have changed.
        setRepositories((old) => [...(begins ? [] : old.filter((r) => !news.some((n) => n.repo_root === r.repo_root))), ...news.filter((n) => !n.removed)].sort((a, b) => (a.repo_root < b.repo_root ? -1 : 1)));
      };
      ws.onclose = () => {
        if (stopped) return;
        setConnected(false);
        timer = setTimeout(open, wait);
        wait = Math.min(2 * wait, 30_000);
      };
    };
    open();
    return () => {
      stopped = true;
      clearTimeout(timer);
      socket.current?.close();
    };
  }, [chat]);
  const refresh = useCallback(() => {
    if (socket.current?.readyState === WebSocket.OPEN) socket.current.send('{"type":"refresh"}');
  }, []);
  return { repositories, error, connected, seen, refresh };
}

function Repository({ repository, onAsk, comments }: { repository: GitRepository } & Pick<PanelProps, "onAsk" | "comments">) {
  const diff = repository.unified_diff ?? "";
  const files = useMemo(() => parsePatch(diff), [diff]);
  const sum = (key: "added" | "removed") => files.reduce((n, f) => n + f[key], 0);
  return (
    <section class="repository" aria-label={repository.repo_root}>
      <h3>
        {repository.repo_root} <span class="tag">{repository.branch || "no branch"}</span> <Counts added={sum("added")} removed={sum("removed")} />
      </h3>
      {files.length === 0 ? <p class="quiet">Nothing has changed.</p> : <PatchView text={diff} root={repository.repo_root} comments={comments} />}
      {files.length > 0 && onAsk && (
        <button type="button" class="small" onClick={() => onAsk(`Commit the changes in ${repository.repo_root}.`)}>
          Ask for a commit
        </button>
      )}
    </section>
  );
}

function LocalChanges({ chat, ...more }: { chat: string } & Pick<PanelProps, "onAsk" | "comments">) {
  const git = useGit(chat);
  return (
    <>
      <div class="panel-row">
        <h2>In the workspace</h2>
        <button type="button" class="small" onClick={git.refresh} disabled={!git.connected}>
          Refresh
        </button>
      </div>
      {!git.connected && <p class="quiet">The workspace is not connected.</p>}
      {git.error && <p class="problem">{git.error}</p>}
      {git.connected && !git.seen && <Loading />}
      {git.seen && git.repositories.length === 0 && <Empty>No repository has been worked in yet.</Empty>}
      {git.repositories.map((r) => (
        <Repository key={r.repo_root} repository={r} {...more} />
      ))}
    </>
  );
}

/** The branch or the pull request, as the git server has it. */
function RemoteChanges({ chat, comments }: { chat: Chat; comments?: Comments }) {
  const { data, error, reload } = useApi<DiffContents>(`${CHATS}/${chat.id}/diff`);
  const known = chat.diff_status;
  useEffect(() => void reload(), [reload, known?.pr_number, known?.additions, known?.deletions, known?.commits]);
  if (error) return <ErrorBox error={error} />;
  if (!data?.branch && !data?.diff) return null;
  return (
    <section>
      <h2>
        {known?.pr_number ? `#${known.pr_number} ${known.pull_request_title}` : data.branch} {known?.pull_request_state && <span class="tag">{known.pull_request_state}</span>}
      </h2>
      <p class="quiet">{data.remote_origin}</p>
      {data.diff ? <PatchView text={data.diff} comments={comments} /> : <p class="quiet">There is no diff of it.</p>}
    </section>
  );
}

export function Changes({ chat, onAsk, comments }: PanelProps) {
  return (
    <>
      {(chat.workspace_id || chat.diff_status?.url) && <ViewPicker />}
      <RemoteChanges chat={chat} comments={comments} />
      {chat.workspace_id ? <LocalChanges chat={chat.id} onAsk={onAsk} comments={comments} /> : <Empty>This chat has no workspace.</Empty>}
    </>
  );
}
