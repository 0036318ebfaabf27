// Why a user may do something, or may not.
//
// SPDX-License-Identifier: MIT
import { useState } from "preact/hooks";
import { Link, useParams, useSearch } from "wouter-preact";
import { query } from "../api";
import { useApi } from "../live";
import { useSession } from "../session";
import type { Explanation, Organization } from "../types";
import { ErrorBox, Field, Select, Table, useTitle } from "../ui";

type Where = "one" | "own" | "organization" | "own-in-organization" | "any" | "all";

const WHERE: [Where, string][] = [
  ["one", "one of them, by its id"],
  ["own", "the user's own"],
  ["organization", "those of an organization"],
  ["own-in-organization", "the user's own in an organization"],
  ["any", "those of at least one organization"],
  ["all", "all of them"],
];
const LEVELS: Record<string, string> = {
  site: "this server",
  user: "one's own things",
  organization: "the organization",
  member: "one's own things in the organization",
};
const VOTES: Record<string, string> = { grant: "granted", deny: "denied", none: "says nothing" };
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

function Levels({ why, organizations }: { why: Explanation; organizations: Organization[] }) {
  const place = (id?: string) => (id ? ` in ${organizations.find((o) => o.id === id)?.name ?? id}` : "");
  return (
    <Table head={["By roles, on", "", "Permissions"]}>
      {why.levels.map((level) => (
        <tr key={level.level} class={level.decides ? "current" : ""}>
          <td>{LEVELS[level.level]}</td>
          <td>{level.applies ? VOTES[level.vote] + (level.decides ? ": this decides" : "") : "does not apply"}</td>
          <td>
            {level.permissions.map((p, i) => (
              <div key={i}>
                {p.role}
                {place(p.organization_id)}: {p.negate && "not "}
                <code>
                  {p.resource_type}:{p.action}
                </code>
              </div>
            ))}
          </td>
        </tr>
      ))}
    </Table>
  );
}

function Answer({ why, organizations }: { why: Explanation; organizations: Organization[] }) {
  return (
    <>
      <p role="status">
        <strong>{why.allowed ? "Yes" : "No"}</strong>: {why.reason}.
      </p>
      <Levels why={why} organizations={organizations} />
      {(why.acl.user || why.acl.groups.length > 0) && <p>It is shared with {why.acl.user ? "the user" : `${why.acl.groups.length} of the user's groups`}.</p>}
      {!why.scope.passes && <p>The token you ask with has the scopes {why.scope.scopes.join(", ")}.</p>}
      {!why.allow_list.passes && <p>The token you ask with is for {why.allow_list.entries.join(", ") || "nothing"} only.</p>}
      {why.would_grant.length > 0 && <p>Roles that would grant it: {why.would_grant.join(", ")}.</p>}
    </>
  );
}

export function AccessPage() {
  const { user } = useParams<{ user: string }>();
  useTitle(`What ${user} may do`);
  const given = new URLSearchParams(useSearch());
  const session = useSession();
  const resources = useApi<Record<string, string[]>>("/api/v2/auth/resources");
  const [type, setType] = useState(given.get("resource_type") ?? "workspace");
  const [action, setAction] = useState(given.get("action") ?? "read");
  const [where, setWhere] = useState<Where>(given.get("resource_id") ? "one" : "own-in-organization");
  const [id, setId] = useState(given.get("resource_id") ?? "");
  const [organization, setOrganization] = useState(session.organizations[0]?.id ?? "");
  const actions = resources.data?.[type] ?? [action];
  const asked = actions.includes(action) ? action : actions[0];
  const params: Record<string, string> = { resource_type: type, action: asked };
  const owner = useApi<{ id: string }>(`/api/v2/users/${encodeURIComponent(user)}`);
  if (where === "one") params.resource_id = id;
  if (where.startsWith("own") && owner.data) params.owner_id = owner.data.id;
  if (where.endsWith("organization")) params.organization_id = organization;
  if (where === "any") params.any_org = "true";
  const ready = where === "one" ? UUID.test(id) : !where.startsWith("own") || owner.data;
  const why = useApi<Explanation>(ready ? query(`/api/v2/users/${encodeURIComponent(user)}/access`, params) : undefined);
  return (
    <>
      <h1>
        What <Link href={`/users/${user}`}>{user}</Link> may do
      </h1>
      <Select label="May they" value={asked} choices={actions.map((a): [string, string] => [a, a.replaceAll("_", " ")])} onChange={setAction} />
      <Select
        label="What"
        value={type}
        choices={Object.keys(resources.data ?? { [type]: [] }).map((t): [string, string] => [t, t.replaceAll("_", " ")])}
        onChange={setType}
      />
      <Select label="Which" value={where} choices={WHERE} onChange={(w) => setWhere(w as Where)} />
      {where === "one" && <Field label="Id" value={id} onInput={(e) => setId(e.currentTarget.value.trim())} />}
      {where.endsWith("organization") && (
        <Select
          label="Organization"
          value={organization}
          choices={session.organizations.map((o): [string, string] => [o.id, o.display_name || o.name])}
          onChange={setOrganization}
        />
      )}
      <ErrorBox error={why.error} />
      {why.data && <Answer why={why.data} organizations={session.organizations} />}
    </>
  );
}
