// What can be done with a chat, in its head and in the list.
//
// SPDX-License-Identifier: MIT
import { useState } from "preact/hooks";
import { api } from "../api";
import type { MenuItem } from "../menu";
import { ActionButton, Dialog, Form } from "../ui";
import { useList } from "./list";
import { CHATS, type Chat, isBusy } from "./types";

type Asked = "labels" | "delete";

function LabelsForm({ chat, onDone }: { chat: Chat; onDone: () => Promise<void> }) {
  const [text, setText] = useState(Object.entries(chat.labels).map(([k, v]) => `${k}: ${v}`).join("\n"));
  const save = async () => {
    const pairs = text.split("\n").filter((l) => l.trim()).map((l) => [l.split(":")[0].trim(), l.split(":").slice(1).join(":").trim()]);
    await api.patch(`${CHATS}/${chat.id}`, { labels: Object.fromEntries(pairs) });
    await onDone();
  };
  return (
    <Form action={save} submit="Save the labels">
      {() => (
        <div class="field">
          <label for="labels">Labels</label>
          <textarea id="labels" rows={5} value={text} onInput={(e) => setText(e.currentTarget.value)} />
          <div class="help">One a line, as key: value.</div>
        </div>
      )}
    </Form>
  );
}

/** The actions of a chat, and the dialogs that some of them open; reload: of what else shows the chat. */
export function useChatActions(chat: Chat, reload: () => Promise<void> = async () => {}) {
  const list = useList();
  const [asked, setAsked] = useState<Asked>();
  const look = async () => void (await Promise.all([reload(), list.reload()]));
  const patch = async (body: object) => {
    await api.patch(`${CHATS}/${chat.id}`, body);
    await look();
  };
  const retitle = async () => {
    await api.post(`${CHATS}/${chat.id}/title/regenerate`);
    await look();
  };
  const deleteAll = async () => {
    await api.patch(`${CHATS}/${chat.id}`, { archived: true });
    await api.post(`/api/v2/workspaces/${chat.workspace_id}/builds`, { transition: "delete" });
    setAsked(undefined);
    await look();
  };
  const pinned = chat.pin_order > 0;
  const root = !chat.parent_chat_id;
  const items: MenuItem[] = chat.archived
    ? [{ text: "Bring back", action: () => patch({ archived: false }) }]
    : [
        ...(root ? [{ text: pinned ? "Unpin" : "Pin", action: () => patch({ pin_order: pinned ? 0 : 1 }) }] : []),
        ...(pinned
          ? [
              { text: "Move up", action: () => patch({ pin_order: Math.max(1, chat.pin_order - 1) }), disabled: chat.pin_order === 1 },
              { text: "Move down", action: () => patch({ pin_order: chat.pin_order + 1 }) },
            ]
          : []),
        { text: "Labels", action: () => setAsked("labels") },
        { text: "New title", action: retitle, disabled: isBusy(chat.status) },
        ...(root ? [{ text: "Archive", action: () => patch({ archived: true }) }] : []),
        ...(root && chat.workspace_id ? [{ text: "Archive and delete the workspace", action: () => setAsked("delete"), danger: true }] : []),
      ];
  const dialogs = (
    <>
      <Dialog title="Labels" open={asked === "labels"} onClose={() => setAsked(undefined)}>
        <LabelsForm
          chat={chat}
          onDone={async () => {
            setAsked(undefined);
            await look();
          }}
        />
      </Dialog>
      <Dialog title="Delete the workspace?" open={asked === "delete"} onClose={() => setAsked(undefined)}>
        <p>The chat “{chat.title}” is archived. Its workspace goes with all that is in it, also for other chats that use it.</p>
        <div class="actions">
          <ActionButton kind="danger" action={deleteAll}>
            Archive and delete
          </ActionButton>
          <button type="button" onClick={() => setAsked(undefined)}>
            Cancel
          </button>
        </div>
      </Dialog>
    </>
  );
  return { items, dialogs };
}
