// A chat in an editor's frame: what the two windows say to one another, by the messages of the editor's extension.
//
// SPDX-License-Identifier: MIT
import { identity } from "./api";

export const EMBEDDED = /^\/agents\/([0-9a-f-]{36})\/embed\/?$/;
const CHAT = /^\/agents\/([0-9a-f-]{36})(?:\/embed)?\/?$/;

export const isFramed = () => window.parent !== window;

/** What is told is no secret: who frames the page has no name that could be asked for. */
const tell = (type: string, payload?: object) => window.parent.postMessage(payload ? { type, payload } : { type }, "*");

export const tellReady = (chat: string) => tell("coder:vscode-ready", { agentId: chat });
export const tellShown = () => tell("coder:chat-ready");

/** "light", "dark", or one of their variants; undefined for all else. */
export const themeOf = (name: unknown): string | undefined => /^(light|dark)(-[a-z]+)*$/.exec(typeof name === "string" ? name : "")?.[1];

export function applyEmbedTheme(name: unknown) {
  const theme = themeOf(name);
  if (theme) document.documentElement.dataset.theme = theme;
}

/** Listens to who frames the page, and to nobody else; answers how to stop that. */
export function listen(onToken: (token: string) => void): () => void {
  const onMessage = (event: MessageEvent) => {
    if (event.source !== window.parent || typeof event.data !== "object" || event.data === null) return;
    const { type, payload } = event.data as { type?: unknown; payload?: { token?: unknown; theme?: unknown } };
    if (type === "coder:set-theme") applyEmbedTheme(payload?.theme);
    const token = type === "coder:vscode-auth-bootstrap" && typeof payload?.token === "string" ? payload.token.trim() : "";
    if (token) onToken(token);
  };
  window.addEventListener("message", onMessage);
  return () => window.removeEventListener("message", onMessage);
}

/** Links to chats stay in the frame; all others are for the editor to open. */
export function keepLinks(navigate: (path: string) => void): () => void {
  const onClick = (event: MouseEvent) => {
    const link = (event.target as Element).closest?.("a[href]") as HTMLAnchorElement | null;
    if (!link || event.defaultPrevented) return;
    const url = new URL(link.href);
    const chat = url.origin === location.origin ? CHAT.exec(url.pathname)?.[1] : undefined;
    if (!chat && !identity.framed) return;
    event.preventDefault();
    event.stopPropagation();
    if (chat) navigate(`/agents/${chat}/embed`);
    else tell("coder:navigate", { url: url.origin === location.origin ? url.pathname + url.search + url.hash : url.href });
  };
  document.addEventListener("click", onClick, true);
  return () => document.removeEventListener("click", onClick, true);
}
