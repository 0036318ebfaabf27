// Chats with models: the list, a new one, and the open one.  Loaded when first opened (main.tsx).
//
// SPDX-License-Identifier: MIT
import { useEffect } from "preact/hooks";
import { Redirect, Route, Switch, useLocation, useParams } from "wouter-preact";
import { NewChat } from "../agents/newchat";
import { useChime } from "../chat/chime";
import { ChatListContext, useChatList } from "../chat/list";
import { OpenChat } from "../chat/open";
import { usePreference } from "../chat/prefs";
import { Sidebar } from "../chat/sidebar";
import { useSession } from "../session";
import { AgentSettings } from "./agentsettings";

/** Keys of these pages: n, or Ctrl and n, for a new chat. */
function useChatKeys() {
  const [, navigate] = useLocation();
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.altKey || ((event.ctrlKey || event.metaKey) && event.key !== "n")) return;
      // With Ctrl it is the browser's own in most windows; where the pages are installed as a program it is ours.
      if (!event.ctrlKey && !event.metaKey && (event.target as HTMLElement).closest("input, textarea, select, dialog")) return;
      if (event.key === "n") {
        event.preventDefault();
        navigate("/agents");
      }
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, [navigate]);
}

function ChatPage() {
  const { chat } = useParams<{ chat: string }>();
  return <OpenChat key={chat} id={chat} />;
}

export default function Agents() {
  const { experiments } = useSession();
  const [location] = useLocation();
  const open = /^\/agents\/([0-9a-f-]{36})$/.exec(location)?.[1];
  if (!experiments.includes("agents"))
    return (
      <div class="chat-empty">
        <h1>Chats are off</h1>
        <p>An administrator turns them on with the experiment “agents”.</p>
      </div>
    );
  return <AgentsOn open={open} settings={location.startsWith("/agents/settings")} />;
}

function AgentsOn({ open, settings }: { open?: string; settings: boolean }) {
  const list = useChatList(open);
  const [wide] = usePreference("wide");
  useChatKeys();
  useChime(list, open);
  return (
    <ChatListContext.Provider value={list}>
      <div class={`agents ${open || settings ? "has-open" : ""} ${wide ? "wide-chats" : ""}`}>
        <Sidebar open={open} />
        <div class={settings ? "chat settings" : "chat"}>
          <Switch>
            <Route path="/agents/settings" component={() => <Redirect to="/agents/settings/behavior" replace />} />
            <Route path="/agents/analytics" component={() => <Redirect to="/agents/settings/cost" replace />} />
            <Route path="/agents/settings/:page" component={AgentSettings} />
            <Route path="/agents/:chat" component={ChatPage} />
            <Route path="/agents" component={NewChat} />
          </Switch>
        </div>
      </div>
    </ChatListContext.Provider>
  );
}
