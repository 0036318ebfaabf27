// A sound when a chat has ended its turn while nobody looks at it; once, however many windows are open.
//
// SPDX-License-Identifier: MIT
import { useEffect, useRef } from "preact/hooks";
import { local } from "../storage";
import type { ChatList } from "./list";
import { preference } from "./prefs";
import type { Chat, ChatStatus } from "./types";

/** Time for the window in which the chat is seen to say so. */
const SEEN_MS = 200;
const TOLD = "chat-chimed";

/** Does a turn end with this change? A run that waits for its turn again has ended one. */
export const endsTurn = (before: ChatStatus | undefined, now: ChatStatus) => (before === "running" && (now === "waiting" || now === "pending")) || (before === "pending" && now === "waiting");

/** Two soft tones. */
export function chime() {
  const audio = new AudioContext();
  const gain = audio.createGain();
  gain.connect(audio.destination);
  gain.gain.setValueAtTime(0.12, audio.currentTime);
  gain.gain.exponentialRampToValueAtTime(0.001, audio.currentTime + 0.7);
  for (const [tone, after] of [[659, 0], [880, 0.13]]) {
    const voice = audio.createOscillator();
    voice.frequency.value = tone;
    voice.connect(gain);
    voice.start(audio.currentTime + after);
    voice.stop(audio.currentTime + 0.7);
  }
  setTimeout(() => void audio.close(), 1000);
}

/** The first window that claims an end of a turn gets it. */
async function claim(what: string): Promise<boolean> {
  const take = () => {
    const told: string[] = JSON.parse(local.getItem(TOLD) ?? "[]");
    if (told.includes(what)) return false;
    local.setItem(TOLD, JSON.stringify([...told, what].slice(-20)));
    return true;
  };
  // Locks are of secure pages only; without them two windows that are equally quick may both sound.
  return navigator.locks ? navigator.locks.request(TOLD, take) : take();
}

export function useChime(list: ChatList, open: string | undefined) {
  const known = useRef(new Map<string, ChatStatus>());
  const now = useRef({ open, chats: list.chats });
  now.current = { open, chats: list.chats };
  const { follow } = list;
  useEffect(
    () =>
      follow(({ kind, chat }) => {
        if (kind !== "status_change") return;
        const before = known.current.get(chat.id) ?? now.current.chats?.find((c) => c.id === chat.id)?.status;
        known.current.set(chat.id, chat.status);
        if (!chat.parent_chat_id && endsTurn(before, chat.status) && preference("chime")) tell(chat, now.current.open);
      }),
    [follow],
  );
}

function tell(chat: Chat, open: string | undefined) {
  const what = `${chat.id} ${chat.updated_at}`;
  const seen = open === chat.id && document.visibilityState === "visible" && document.hasFocus();
  if (seen) void claim(what);
  else setTimeout(() => void claim(what).then((first) => first && chime()), SEEN_MS);
}
