// Roles, built in and one's own, each with its grid of permissions.
//
// SPDX-License-Identifier: MIT
import { useState } from "preact/hooks";
import { Link, useLocation, useParams } from "wouter-preact";
import { api } from "../api";
import { useApi } from "../live";
import { useSession } from "../session";
import type { AssignableRole, Permission } from "../types";
import { ConfirmButton, ErrorBox, Field, Form, ListState, Loading, Select, Table, useTitle } from "../ui";

type Resources = Record<string, string[]>;
type Level = "site_permissions" | "organization_permissions" | "organization_member_permissions" | "user_permissions";

const LEVELS: [Level, string][] = [
  ["site_permissions", "On everything of this server"],
  ["organization_permissions", "On everything of the organization"],
  ["organization_member_permissions", "On one's own things in the organization"],
  ["user_permissions", "On one's own things"],
];

const rolesPath = (organization: string) => (organization ? `/api/v2/organizations/${organization}/members/roles` : "/api/v2/users/roles");

const count = (role: AssignableRole) => LEVELS.reduce((sum, [level]) => sum + role[level].filter((p) => !p.negate).length, 0);

export function Roles() {
  useTitle("Roles");
  const session = useSession();
  const [organization, setOrganization] = useState("");
  const roles = useApi<AssignableRole[]>(rolesPath(organization));
  const home = session.organizations.find((o) => o.id === organization);
  return (
    <>
      <div class="head">
        <h1>Roles</h1>
        {home && session.can.createRole && (
          <Link class="button primary" href={`/roles/${home.name}`}>
            New role
          </Link>
        )}
      </div>
      <Select
        label="Of"
        value={organization}
        choices={[["", "this server"], ...session.organizations.map((o): [string, string] => [o.id, o.display_name || o.name])]}
        onChange={setOrganization}
        help={organization ? undefined : "An organization can have roles of its own making."}
      />
      <ListState error={roles.error} loaded={!!roles.data} empty={roles.data?.length === 0} text="There are no roles." />
      {roles.data && (
        <Table head={["Role", "Name", "Permissions", ""]}>
          {roles.data.map((r) => (
            <tr key={r.name}>
              <td>
                <Link href={`/roles/${home?.name ?? "-"}/${r.name}`}>{r.display_name || r.name}</Link>
              </td>
              <td>
                <code>{r.name}</code>
              </td>
              <td>{count(r)}</td>
              <td>{r.built_in ? <span class="tag">built in</span> : ""}</td>
            </tr>
          ))}
        </Table>
      )}
    </>
  );
}

/** Does a list of permissions allow it?  A negation wins over any grant, as in the engine. */
function allows(list: Permission[], type: string, action: string): boolean {
  const about = list.filter((p) => (p.resource_type === type || p.resource_type === "*") && (p.action === action || p.action === "*"));
  return about.some((p) => !p.negate) && !about.some((p) => p.negate);
}

/** A row for each type of thing, with a box for each action. */
function Grid({ resources, list, onChange }: { resources: Resources; list: Permission[]; onChange?: (list: Permission[]) => void }) {
  const toggle = (resource_type: string, action: string, on: boolean) =>
    onChange?.(on ? [...list, { negate: false, resource_type, action }] : list.filter((p) => p.resource_type !== resource_type || p.action !== action));
  const rows = Object.entries(resources)
    .filter(([type, actions]) => onChange || actions.some((a) => allows(list, type, a)))
    .sort(([a], [b]) => a.localeCompare(b));
  if (rows.length === 0) return <p class="quiet">Nothing.</p>;
  return (
    <table class="grid">
      <tbody>
        {rows.map(([type, actions]) => (
          <tr key={type}>
            <th scope="row">{type.replace(/_/g, " ")}</th>
            <td>
              {actions.map((action) => (
                <label key={action}>
                  <input type="checkbox" aria-label={`${action} ${type}`} checked={allows(list, type, action)} disabled={!onChange} onChange={(e) => toggle(type, action, e.currentTarget.checked)} /> {action.replace(/_/g, " ")}
                </label>
              ))}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function BuiltInRole({ role, resources }: { role: AssignableRole; resources: Resources }) {
  return (
    <>
      <p class="quiet">A built-in role; it cannot be changed.</p>
      {LEVELS.filter(([level]) => role[level].length > 0).map(([level, text]) => (
        <section key={level}>
          <h2>{text}</h2>
          <Grid resources={resources} list={role[level]} />
        </section>
      ))}
    </>
  );
}

function RoleEditor({ organization, role, resources }: { organization: string; role?: AssignableRole; resources: Resources }) {
  const [, navigate] = useLocation();
  const [name, setName] = useState(role?.name ?? "");
  const [displayName, setDisplayName] = useState(role?.display_name ?? "");
  const [org, setOrg] = useState(role?.organization_permissions ?? []);
  const [member, setMember] = useState(role?.organization_member_permissions ?? []);
  const path = rolesPath(organization);
  const save = async () => {
    const body = { name, display_name: displayName, site_permissions: [], user_permissions: [], organization_permissions: org, organization_member_permissions: member };
    await (role ? api.put(path, body) : api.post(path, body));
    navigate("/roles");
  };
  const drop = async () => {
    await api.delete(`${path}/${name}`);
    navigate("/roles");
  };
  return (
    <Form
      action={save}
      submit={role ? "Save the role" : "Create role"}
      extra={
        role && (
          <ConfirmButton title={`Delete ${role.display_name || role.name}?`} text="Members who have it lose what it allows." yes="Delete the role" action={drop}>
            Delete
          </ConfirmButton>
        )
      }
    >
      {(error) => (
        <>
          {!role && <Field label="Name" autoFocus value={name} onInput={(e) => setName(e.currentTarget.value)} problem={error?.field("name")} help="It cannot be changed later." />}
          <Field label="Display name" value={displayName} onInput={(e) => setDisplayName(e.currentTarget.value)} problem={error?.field("display_name")} />
          <h2>On everything of the organization</h2>
          <Grid resources={resources} list={org} onChange={setOrg} />
          <h2>On one's own things in the organization</h2>
          <Grid resources={resources} list={member} onChange={setMember} />
        </>
      )}
    </Form>
  );
}

/** /roles/:organization (a new role) and /roles/:organization/:role; "-" is the server itself. */
export function RolePage() {
  const { organization: home, role: name } = useParams<{ organization: string; role?: string }>();
  const organization = home === "-" ? "" : home;
  useTitle(name ?? "New role");
  const session = useSession();
  const resources = useApi<Resources>("/api/v2/auth/resources");
  const roles = useApi<AssignableRole[]>(rolesPath(organization));
  const role = roles.data?.find((r) => r.name === name);
  const error = resources.error ?? roles.error;
  if (error) return <ErrorBox error={error} />;
  if (!resources.data || !roles.data) return <Loading />;
  if (name && !role) return <p>There is no such role.</p>;
  const fixed = role && (role.built_in || !organization || !session.can.createRole);
  return (
    <>
      <h1>{role ? role.display_name || role.name : "New role"}</h1>
      {fixed ? <BuiltInRole role={role} resources={resources.data} /> : <RoleEditor organization={organization} role={role} resources={resources.data} />}
    </>
  );
}
