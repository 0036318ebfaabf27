// Settings of the chats: one's own, and the deployment's.  Names are the reference's where it has the page.
//
// SPDX-License-Identifier: MIT
import type { ComponentType } from "preact";
import { Link, Redirect, useParams } from "wouter-preact";
import { OwnCost, Spending } from "../agents/cost";
import { Defaults, SystemPrompt } from "../agents/deployment";
import { ChatInsights } from "../agents/insights";
import { LimitsPage } from "../agents/limits";
import { ModelList } from "../agents/models";
import { Behavior, Compaction, OwnKeys } from "../agents/own";
import { Providers } from "../agents/providers";
import { useSession } from "../session";
import { Empty, useCurrentInSight } from "../ui";
import { McpServers, OwnMcpServers } from "./mcpservers";
import { Pushes } from "./pushes";

const PAGES: [name: string, text: string, Page: ComponentType, needs?: string][] = [
  ["behavior", "Instructions", Behavior],
  ["api-keys", "Keys", OwnKeys],
  ["tools", "Tools", OwnMcpServers],
  ["messages", "Messages", Pushes],
  ["compaction", "Compaction", Compaction],
  ["cost", "Cost", OwnCost],
  ["providers", "Providers", Providers, "manageChats"],
  ["models", "Models", ModelList, "manageChats"],
  ["mcp-servers", "MCP servers", McpServers, "manageChats"],
  ["system-prompt", "System prompt", SystemPrompt, "manageChats"],
  ["templates", "Workspaces", Defaults, "manageChats"],
  ["limits", "Limits", LimitsPage, "manageChats"],
  ["spend", "Spending", Spending, "readAllChats"],
  ["insights", "Insights", ChatInsights, "readDeployment"],
];

/** Names that pages had, or that others give them. */
const OTHER_NAMES: Record<string, string> = { prompt: "behavior", keys: "api-keys", defaults: "templates", spending: "spend", usage: "spend" };

export function AgentSettings() {
  const { page } = useParams<{ page: string }>();
  const { can } = useSession();
  const nav = useCurrentInSight(page);
  const pages = PAGES.filter(([, , , needs]) => !needs || can[needs]);
  const Page = pages.find(([name]) => name === page)?.[2];
  if (OTHER_NAMES[page]) return <Redirect to={`/agents/settings/${OTHER_NAMES[page]}`} replace />;
  return (
    <div class="settings-page">
      <nav class="section" aria-label="Settings of the chats" ref={nav}>
        <Link href="/agents" class="back" aria-label="All chats">
          ‹
        </Link>
        {pages.map(([name, text]) => (
          <Link key={name} href={`/agents/settings/${name}`} class={name === page ? "current" : ""} aria-current={name === page ? "page" : undefined}>
            {text}
          </Link>
        ))}
      </nav>
      {Page ? <Page /> : <Empty>There is no such page.</Empty>}
    </div>
  );
}
