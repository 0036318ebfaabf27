// One chat for an editor: without the list, signed in by the editor's token where the editor frames it.
//
// SPDX-License-Identifier: MIT
import { useCallback, useEffect, useState } from "preact/hooks";
import { useLocation, useSearch } from "wouter-preact";
import { identity } from "../api";
import { OpenChat } from "../chat/open";
import { ChatListContext, useChatList } from "../chat/list";
import { EMBEDDED, applyEmbedTheme, isFramed, keepLinks, listen, tellReady, tellShown } from "../embedded";
import { SessionContext } from "../session";
import { type State, loadState } from "../signedin";
import { applyTheme } from "../theme";
import { ErrorBox, Loading } from "../ui";

function Embedded({ chat }: { chat: string }) {
  const list = useChatList(chat);
  const [, navigate] = useLocation();
  useEffect(() => keepLinks(navigate), [navigate]);
  useEffect(tellShown, []);
  return (
    <ChatListContext.Provider value={list}>
      <main id="main" class="wide embedded">
        <div class="agents has-open">
          <div class="chat">
            <OpenChat key={chat} id={chat} />
          </div>
        </div>
      </main>
    </ChatListContext.Provider>
  );
}

/** Who asks: where the page is framed, whoever the editor says; else who is signed in in this browser. */
function useIdentity(chat: string) {
  const [state, setState] = useState<State>({ kind: "loading" });
  const [waiting, setWaiting] = useState(isFramed());
  const [turn, setTurn] = useState(0);
  const look = useCallback(async () => setState(await loadState(() => setState({ kind: "out" }))), []);
  useEffect(() => {
    if (!isFramed()) {
      void look();
      return;
    }
    identity.framed = true;
    const stop = listen((token) => {
      identity.token = token;
      setWaiting(false);
      // Somebody else may ask now: all is loaded anew.
      setTurn((n) => n + 1);
      void look();
    });
    const onSignedOut = () => {
      // The token has ended: the editor may give another.
      identity.token = undefined;
      setWaiting(true);
      tellReady(chat);
    };
    window.addEventListener("signed-out", onSignedOut);
    tellReady(chat);
    return () => {
      stop();
      window.removeEventListener("signed-out", onSignedOut);
    };
  }, []);
  return { state, waiting, turn, look };
}

export default function Embed() {
  const [location] = useLocation();
  const search = useSearch();
  const chat = EMBEDDED.exec(location)?.[1] ?? "";
  const { state, waiting, turn, look } = useIdentity(chat);
  useEffect(() => {
    applyTheme();
    applyEmbedTheme(new URLSearchParams(search).get("theme"));
  }, []);
  if (waiting)
    return (
      <div class="chat-empty" role="status">
        Waiting for the editor to sign in …
      </div>
    );
  switch (state.kind) {
    case "in":
      return (
        <SessionContext.Provider value={state.session}>
          <Embedded key={turn} chat={chat} />
        </SessionContext.Provider>
      );
    case "loading":
      return <Loading />;
    case "broken":
      return (
        <div class="chat-empty">
          <ErrorBox error={state.error} />
          <button type="button" onClick={() => void look()}>
            Try again
          </button>
        </div>
      );
    default:
      return (
        <div class="chat-empty" role="alert">
          Nobody is signed in. <a href={`/login?redirect=${encodeURIComponent(location)}`}>Sign in</a>
        </div>
      );
  }
}
