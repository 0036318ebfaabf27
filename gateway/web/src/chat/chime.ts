// A sound when a chat has ended its turn while nobody looks at it; once, however many windows are open.
//
// SPDX-License-Identifier: MIT
import { useEffect, useRef } from "preact/hooks";
import { local } from "../storage";
import type { ChatList } from "./list";
import { preference } from "./prefs";
import type { Chat, ChatStatus } from "./types";

const TOLD = "chat-chimed";
const IN_SIGHT = "chat-in-sight";
/** How often a window says which chat is seen in it; after three times as long it is believed to be gone. */
const SIGHT_MS = 2000;

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

const inSight = (id: string) => {
  const [seen, at] = (local.getItem(IN_SIGHT) ?? "").split(" ");
  return seen === id && Date.now() - Number(at) < 3 * SIGHT_MS;
};

/** Says to all windows which chat is seen in this one. */
function useSight(open: string | undefined) {
  useEffect(() => {
    if (!open) return;
    const say = () => {
      if (document.visibilityState === "visible" && document.hasFocus()) local.setItem(IN_SIGHT, `${open} ${Date.now()}`);
      else unsay();
    };
    const unsay = () => {
      if (inSight(open)) local.removeItem(IN_SIGHT);
    };
    say();
    const timer = setInterval(say, SIGHT_MS);
    window.addEventListener("focus", say);
    window.addEventListener("blur", unsay);
    window.addEventListener("pagehide", unsay);
    document.addEventListener("visibilitychange", say);
    return () => {
      clearInterval(timer);
      window.removeEventListener("focus", say);
      window.removeEventListener("blur", unsay);
      window.removeEventListener("pagehide", unsay);
      document.removeEventListener("visibilitychange", say);
      unsay();
    };
  }, [open]);
}

export function useChime(list: ChatList, open: string | undefined) {
  useSight(open);
  const known = useRef(new Map<string, ChatStatus>());
  const now = useRef(list.chats);
  now.current = list.chats;
  const { follow } = list;
  useEffect(
    () =>
      follow(({ kind, chat }) => {
        if (kind !== "status_change") return;
        const before = known.current.get(chat.id) ?? now.current?.find((c) => c.id === chat.id)?.status;
        known.current.set(chat.id, chat.status);
        if (!chat.parent_chat_id && endsTurn(before, chat.status) && preference("chime")) void tell(chat);
      }),
    [follow],
  );
}

async function tell(chat: Chat) {
  const seen = inSight(chat.id);
  if ((await claim(`${chat.id} ${chat.updated_at}`)) && !seen) chime();
}
