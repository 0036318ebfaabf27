// Messages that wait for the end of the turn.
//
// SPDX-License-Identifier: MIT
import { api } from "../api";
import { ActionButton } from "../ui";
import { textOf } from "./transcript";
import { CHATS, type QueuedMessage } from "./types";

export function Queue({ chat, queue, onEdit }: { chat: string; queue: QueuedMessage[]; onEdit: (text: string) => void }) {
  if (queue.length === 0) return null;
  const drop = (q: QueuedMessage) => api.delete<void>(`${CHATS}/${chat}/queue/${q.id}`);
  const takeBack = (q: QueuedMessage) => async () => {
    await drop(q);
    onEdit(textOf(q.content));
  };
  return (
    <ol class="queue" aria-label="Queue">
      {queue.map((q) => (
        <li key={q.id}>
          <span class="queue-text">{textOf(q.content) || "files"}</span>
          <ActionButton action={() => api.post(`${CHATS}/${chat}/queue/${q.id}/promote`)}>Send now</ActionButton>
          {q.content.every((p) => p.type === "text") && <ActionButton action={takeBack(q)}>Edit</ActionButton>}
          <ActionButton kind="danger" action={() => drop(q)}>
            Delete
          </ActionButton>
        </li>
      ))}
    </ol>
  );
}
