// The head of an open chat: its title and state, its workspace, its changes, and what can be done with it.
//
// SPDX-License-Identifier: MIT
import { Link } from "wouter-preact";
import { Menu } from "../menu";
import { useChatActions } from "./actions";
import type { usePanel } from "./panel";
import { Counts } from "./patchview";
import { statusTone, statusWord } from "./status";
import type { ChatStream } from "./stream";
import type { Chat, DiffStatus } from "./types";
import { WorkspacePill } from "./workspacepill";

function Changes({ diff }: { diff: DiffStatus }) {
  return (
    <>
      {diff.url && (
        <a href={/^https?:/.test(diff.url) ? diff.url : undefined} target="_blank" rel="noopener noreferrer" title={diff.pull_request_title}>
          {diff.pr_number ? `#${diff.pr_number}` : "Changes"}
        </a>
      )}
      {diff.changed_files > 0 && <Counts added={diff.additions} removed={diff.deletions} />}
    </>
  );
}

export function ChatHead({ chat, stream, own, reload, panel }: { chat: Chat; stream: ChatStream; own: boolean; reload: () => Promise<void>; panel: ReturnType<typeof usePanel> }) {
  const status = stream.status ?? chat.status;
  const { items, dialogs } = useChatActions({ ...chat, status }, reload);
  return (
    <div class="chat-head">
      <Link href="/agents" class="back" aria-label="All chats">
        ‹
      </Link>
      <h1 title={chat.title}>{chat.title}</h1>
      <span class={`status ${statusTone(status)}`} data-status={status}>
        {statusWord(status)}
      </span>
      {chat.parent_chat_id && <Link href={`/agents/${chat.parent_chat_id}`}>Parent</Link>}
      {chat.workspace_id && <WorkspacePill id={chat.workspace_id} agentId={chat.agent_id} />}
      {chat.diff_status && <Changes diff={chat.diff_status} />}
      <span class="push" />
      <div class="actions chat-actions">
        <button type="button" aria-pressed={!!panel.tab} onClick={() => panel.choose(panel.tab ? undefined : "changes")}>
          Panel
        </button>
        {own && (
          <Menu label="More" items={items}>
            ⋯
          </Menu>
        )}
      </div>
      {dialogs}
    </div>
  );
}
