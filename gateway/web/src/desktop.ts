// noVNC over a chat's desktop: connects, comes back when the connection is lost, carries the clipboard.
//
// SPDX-License-Identifier: MIT
import RFB from "@novnc/novnc";
import { wsUrl } from "./live";

export const CONNECT_MS = 30_000;
export const MAX_TRIES = 10;
const MAX_WAIT_MS = 30_000;
/** So long it must have stood for the tries to be counted anew. */
const STEADY_MS = 5_000;

export type DesktopState = "connecting" | "connected" | "waiting" | "lost";

export interface DesktopOptions {
  path: string;
  onState: (state: DesktopState, tries: number) => void;
  /** Somebody has copied this there. */
  onClipboard: (text: string) => void;
}

export interface Desktop {
  watchOnly: (only: boolean) => void;
  paste: (text: string) => void;
  retry: () => void;
  close: () => void;
}

/** How long to wait before the nth try after the first. */
export const backoff = (n: number) => Math.min(1000 * 2 ** (n - 1), MAX_WAIT_MS);

/** Opens the desktop in place, and keeps it open until it is closed. */
export function openDesktop(place: HTMLElement, options: DesktopOptions): Desktop {
  let rfb: RFB | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let steady: ReturnType<typeof setTimeout> | undefined;
  let tries = 0;
  let closed = false;
  let watching = false;
  let there = ""; // what the desktop's clipboard holds, as far as we know
  const drop = () => {
    clearTimeout(timer);
    clearTimeout(steady);
    const old = rfb;
    rfb = undefined;
    try {
      old?.disconnect();
    } catch {
      // It was over already.
    }
  };
  const lost = () => {
    drop();
    if (closed) return;
    if (tries >= MAX_TRIES) return options.onState("lost", tries);
    tries += 1;
    options.onState("waiting", tries);
    timer = setTimeout(connect, backoff(tries));
  };
  const connect = () => {
    drop();
    options.onState("connecting", tries);
    const opened = new RFB(place, wsUrl(options.path), { shared: true });
    rfb = opened;
    timer = setTimeout(lost, CONNECT_MS);
    opened.scaleViewport = true;
    opened.focusOnClick = true;
    opened.viewOnly = watching;
    opened.background = "transparent";
    opened.addEventListener("connect", () => {
      if (opened !== rfb) return;
      clearTimeout(timer);
      options.onState("connected", tries);
      steady = setTimeout(() => (tries = 0), STEADY_MS);
    });
    opened.addEventListener("disconnect", () => opened === rfb && lost());
    opened.addEventListener("securityfailure", () => opened === rfb && lost());
    opened.addEventListener("clipboard", (event) => {
      there = (event as CustomEvent<{ text: string }>).detail.text;
      options.onClipboard(there);
      // Browsers allow it only to a page that is looked at.
      navigator.clipboard?.writeText(there).catch(() => undefined);
    });
  };
  const paste = (text: string) => {
    if (!rfb || text === there) return;
    there = text;
    rfb.clipboardPasteFrom(text);
  };
  /** Who comes to the desktop may paste there what they have copied elsewhere. */
  const bring = () => {
    if (!watching) navigator.clipboard?.readText?.().then((text) => text && paste(text), () => undefined);
  };
  place.addEventListener("focusin", bring);
  connect();
  return {
    watchOnly: (only) => {
      watching = only;
      if (rfb) rfb.viewOnly = only;
    },
    paste,
    retry: () => {
      tries = 0;
      connect();
    },
    close: () => {
      closed = true;
      place.removeEventListener("focusin", bring);
      drop();
    },
  };
}
