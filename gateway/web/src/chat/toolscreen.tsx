// What the cards of tools show of the workspace's desktop: pictures, films, the screen itself.
//
// SPDX-License-Identifier: MIT
import { useState } from "preact/hooks";
import { identity } from "../api";
import { DesktopView } from "./desktop";
import { type Values, asText, isId } from "./toolvalues";
import { CHATS } from "./types";

const place = (value: unknown): string => (Array.isArray(value) ? ` at ${value.map(asText).join(", ")}` : "");

/** What is done on the desktop, in a line. */
export function onScreen(args: Values): string {
  const action = asText(args.action).replace(/_/g, " ");
  if (args.action === "type" || args.action === "key" || args.action === "hold_key") return `Desktop: ${action} ${asText(args.text)}`;
  if (args.action === "scroll") return `Desktop: scroll ${asText(args.scroll_direction)}${place(args.coordinate)}`;
  return `Desktop: ${action}${place(args.start_coordinate)}${args.start_coordinate ? " to" : ""}${place(args.coordinate)}`;
}

/** The screen of a subagent with a desktop, as it was filmed. */
export function Recording({ file, poster }: { file: string; poster: string }) {
  if (!isId(file)) return null;
  // A frame's requests carry no cookie, and a film no header.
  if (identity.framed) return <p class="help">There is a film of it, on the chat's own page.</p>;
  return <video class="tool-media" controls preload="none" src={`${CHATS}/files/${file}`} poster={isId(poster) ? `${CHATS}/files/${poster}` : undefined} aria-label="What was done on the desktop" />;
}

/** The desktop that a subagent uses, for who wants to see it. */
export function Look({ chat }: { chat: string }) {
  const [open, setOpen] = useState(false);
  if (!isId(chat)) return null;
  return (
    <>
      <button type="button" class="small" aria-expanded={open} onClick={() => setOpen(!open)}>
        {open ? "Hide the desktop" : "Show the desktop"}
      </button>
      {open && <DesktopView chatId={chat} preview />}
    </>
  );
}
