// The workspace's desktop, as models see and use it; people may, too.
//
// SPDX-License-Identifier: MIT
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, api } from "../api";
import type { Desktop, DesktopState } from "../desktop";
import { CHATS } from "./types";

/** Why it cannot be joined, in the server's words; "" where it could. */
async function reasonOf(path: string): Promise<string> {
  try {
    await api.get(path);
  } catch (error) {
    const { status, message, detail } = error as ApiError;
    // Asked like this the agent would want a WebSocket: all else is in order.
    return status === 400 && /WebSocket/.test(message) ? "" : [message, detail].filter(Boolean).join(" ");
  }
  return "";
}

function said(state: DesktopState, tries: number): string {
  if (state === "connecting") return "Connecting to the desktop …";
  if (state === "waiting") return `The desktop cannot be reached; trying again (${tries}) …`;
  return state === "lost" ? "The desktop cannot be reached." : "";
}

/** preview: small, only to look at. */
export function DesktopView({ chatId, preview }: { chatId: string; preview?: boolean }) {
  const frame = useRef<HTMLDivElement>(null);
  const place = useRef<HTMLDivElement>(null);
  const desktop = useRef<Desktop>();
  const [state, setState] = useState<{ is: DesktopState; tries: number }>({ is: "connecting", tries: 0 });
  const [reason, setReason] = useState("");
  const [watching, setWatching] = useState(!!preview);
  const [clipboard, setClipboard] = useState("");
  const path = `${CHATS}/${chatId}/stream/desktop`;
  useEffect(() => {
    let gone = false;
    // noVNC is loaded only where a desktop is looked at.
    void import("../desktop").then(({ openDesktop }) => {
      if (gone || !place.current) return;
      desktop.current = openDesktop(place.current, {
        path,
        onClipboard: setClipboard,
        onState: (is, tries) => {
          if (gone) return;
          setState({ is, tries });
          if (is === "connected") setReason("");
          if (is === "lost" || (is === "waiting" && tries === 1)) void reasonOf(path).then((why) => !gone && setReason(why));
        },
      });
      desktop.current.watchOnly(!!preview);
    });
    return () => {
      gone = true;
      desktop.current?.close();
      desktop.current = undefined;
    };
  }, [path, preview]);
  const watch = (only: boolean) => {
    setWatching(only);
    desktop.current?.watchOnly(only);
  };
  const copy = (text: string) => {
    setClipboard(text);
    desktop.current?.paste(text);
  };
  return (
    <div class={preview ? "desktop-view preview" : "desktop-view"} data-state={state.is} ref={frame}>
      {!preview && (
        <div class="desktop-tools">
          <label>
            <input type="checkbox" checked={watching} onChange={(e) => watch(e.currentTarget.checked)} /> Only watch
          </label>
          <details class="desktop-clipboard">
            <summary>Clipboard</summary>
            <textarea aria-label="Clipboard of the desktop" rows={4} value={clipboard} onInput={(e) => copy(e.currentTarget.value)} />
          </details>
          <button type="button" class="plain" onClick={() => void frame.current?.requestFullscreen?.()}>
            Full screen
          </button>
        </div>
      )}
      {state.is !== "connected" && (
        <div class="desktop-state" role="status">
          <p>{said(state.is, state.tries)}</p>
          {reason && <p class="problem">{reason}</p>}
          {state.is === "lost" && (
            <button type="button" onClick={() => desktop.current?.retry()}>
              Try again
            </button>
          )}
        </div>
      )}
      <div class="desktop-screen" ref={place} aria-label="Desktop" role="application" />
    </div>
  );
}
