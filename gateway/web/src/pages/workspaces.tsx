// The list of workspaces, searched with the API's own language.
//
// SPDX-License-Identifier: MIT
import { useEffect, useState } from "preact/hooks";
import { Link, useLocation, useSearch } from "wouter-preact";
import { query } from "../api";
import { useApi } from "../live";
import type { Workspace } from "../types";
import { useSession } from "../session";
import { Ago, Empty, ErrorBox, Loading, Status, useTitle } from "../ui";

const PAGE = 25;

export function Workspaces() {
  useTitle("Workspaces");
  const params = new URLSearchParams(useSearch());
  const q = params.get("q") ?? "owner:me";
  const offset = Number(params.get("offset") ?? 0) || 0;
  const [, navigate] = useLocation();
  const [text, setText] = useState(q);
  const list = useApi<{ workspaces: Workspace[]; count: number }>(query("/api/v2/workspaces", { q, limit: PAGE, offset }), 5000);

  const { experiments } = useSession();
  const ids = list.data?.workspaces.map((w) => w.id).join() ?? "";
  const chats = useApi<Record<string, string>>(ids && experiments.includes("agents") ? `/api/experimental/chats/by-workspace?workspace_ids=${ids}` : undefined).data ?? {};

  const go = (to: { q?: string; offset?: number }) => navigate(query("/workspaces", { q: to.q ?? q, offset: to.offset ?? 0 }));
  useEffect(() => {
    const timer = setTimeout(() => text !== q && go({ q: text }), 250);
    return () => clearTimeout(timer);
  });

  return (
    <>
      <div class="head">
        <h1>Workspaces</h1>
        <Link href="/templates" class="button primary">
          New workspace
        </Link>
      </div>
      <div class="field search">
        <label for="search">Search</label>
        <input id="search" type="search" value={text} onInput={(e) => setText(e.currentTarget.value)} placeholder="owner:me status:running name" />
        <div class="help">
          Words of the name, or <code>owner:</code> <code>template:</code> <code>status:</code>. Press <kbd>/</kbd> to come here.
        </div>
      </div>
      <ErrorBox error={list.error} />
      {!list.data && !list.error && <Loading />}
      {list.data?.workspaces.length === 0 && (
        <Empty>
          No workspace matches. <Link href="/templates">Create one from a template.</Link>
        </Empty>
      )}
      {!!list.data?.workspaces.length && (
        <table>
          <thead>
            <tr>
              <th>Name</th>
              <th>Status</th>
              <th>Template</th>
              <th>Last used</th>
            </tr>
          </thead>
          <tbody>
            {list.data.workspaces.map((w) => (
              <tr key={w.id}>
                <td>
                  <Link href={`/@${w.owner_name}/${w.name}`}>
                    {w.favorite && "★ "}
                    {w.owner_name}/{w.name}
                  </Link>{" "}
                  {chats[w.id] && (
                    <Link href={`/agents/${chats[w.id]}`} class="tag">
                      chat
                    </Link>
                  )}
                </td>
                <td>
                  <Status value={w.latest_build.status} /> {!w.health.healthy && <span class="tag warn">unhealthy</span>}
                </td>
                <td>
                  {w.template_display_name || w.template_name} {w.outdated && <span class="tag">outdated</span>}
                </td>
                <td>
                  <Ago time={w.last_used_at} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {list.data && list.data.count > PAGE && (
        <div class="actions">
          <button type="button" disabled={offset === 0} onClick={() => go({ offset: Math.max(0, offset - PAGE) })}>
            Newer
          </button>
          <span class="quiet">
            {offset + 1}–{Math.min(offset + PAGE, list.data.count)} of {list.data.count}
          </span>
          <button type="button" disabled={offset + PAGE >= list.data.count} onClick={() => go({ offset: offset + PAGE })}>
            Older
          </button>
        </div>
      )}
    </>
  );
}
