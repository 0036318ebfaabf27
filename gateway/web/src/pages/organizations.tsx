// Organizations and their members.
//
// SPDX-License-Identifier: MIT
import { useState } from "preact/hooks";
import { Link, useLocation, useParams } from "wouter-preact";
import { api, query } from "../api";
import { useApi } from "../live";
import { useSession } from "../session";
import type { AssignableRole, Member, Organization } from "../types";
import { Choices, ConfirmButton, Dialog, ErrorBox, Field, Form, ListState, Loading, Status, Table, useTitle } from "../ui";

const shown = (o: Organization) => o.display_name || o.name;

function OrganizationFields({ value, onChange, field }: { value: Partial<Organization>; onChange: (value: Partial<Organization>) => void; field: (name: string) => string | undefined }) {
  const input = (name: "name" | "display_name" | "description", label: string) => (
    <Field label={label} value={value[name] ?? ""} onInput={(e) => onChange({ ...value, [name]: e.currentTarget.value })} problem={field(name)} />
  );
  return (
    <>
      {input("name", "Name")}
      {input("display_name", "Display name")}
      {input("description", "Description")}
    </>
  );
}

function NewOrganization() {
  const [, navigate] = useLocation();
  const [value, setValue] = useState<Partial<Organization>>({});
  const create = async () => {
    const made = await api.post<Organization>("/api/v2/organizations", value);
    navigate(`/organizations/${made.name}`);
  };
  return (
    <Form action={create} submit="Create organization">
      {(error) => <OrganizationFields value={value} onChange={setValue} field={(name) => error?.field(name)} />}
    </Form>
  );
}

export function Organizations() {
  useTitle("Organizations");
  const session = useSession();
  const organizations = useApi<Organization[]>("/api/v2/organizations");
  const [adding, setAdding] = useState(false);
  return (
    <>
      <div class="head">
        <h1>Organizations</h1>
        {session.can.createOrganization && (
          <button type="button" class="primary" onClick={() => setAdding(true)}>
            New organization
          </button>
        )}
      </div>
      <ListState error={organizations.error} loaded={!!organizations.data} empty={organizations.data?.length === 0} text="You see no organization." />
      {organizations.data && (
        <Table head={["Organization", "Name", "Description"]}>
          {organizations.data.map((o) => (
            <tr key={o.id}>
              <td>
                <Link href={`/organizations/${o.name}`}>{shown(o)}</Link> {o.is_default && <span class="tag">default</span>}
              </td>
              <td>
                <code>{o.name}</code>
              </td>
              <td>{o.description}</td>
            </tr>
          ))}
        </Table>
      )}
      <Dialog title="New organization" open={adding} onClose={() => setAdding(false)}>
        <NewOrganization />
      </Dialog>
    </>
  );
}

function MemberRoles({ member, known, onDone }: { member: Member; known: AssignableRole[]; onDone: () => Promise<void> }) {
  const [chosen, setChosen] = useState(member.roles.map((r) => r.name));
  const save = async () => {
    await api.put(`/api/v2/organizations/${member.organization_id}/members/${member.user_id}/roles`, { roles: chosen });
    await onDone();
  };
  return (
    <Form action={save} submit="Save the roles">
      {() => <Choices legend="Roles in the organization" choices={known.map((r) => [r.name, r.display_name || r.name])} chosen={chosen} onChange={setChosen} />}
    </Form>
  );
}

function Members({ organization }: { organization: Organization }) {
  const session = useSession();
  const [q, setQ] = useState("");
  const base = `/api/v2/organizations/${organization.id}`;
  const members = useApi<{ members: Member[]; count: number }>(query(`${base}/paginated-members`, { q, limit: 100 }));
  const roles = useApi<AssignableRole[]>(`${base}/members/roles`);
  const [editing, setEditing] = useState<Member>();
  const [name, setName] = useState("");
  const remove = (m: Member) => async () => {
    await api.delete(`${base}/members/${m.user_id}`);
    await members.reload();
  };
  const add = async () => {
    await api.post(`${base}/members/${encodeURIComponent(name)}`);
    setName("");
    await members.reload();
  };
  return (
    <>
      <div class="field search">
        <label for="search">Search</label>
        <input id="search" type="search" value={q} onInput={(e) => setQ(e.currentTarget.value)} />
      </div>
      <ListState error={members.error} loaded={!!members.data} empty={members.data?.members.length === 0} text="No member matches." />
      {members.data && members.data.members.length > 0 && (
        <Table head={["Member", "Email", "Roles", "Status", ""]}>
          {members.data.members.map((m) => (
            <tr key={m.user_id}>
              <td>
                <Link href={`/users/${m.username}`}>{m.username}</Link>
              </td>
              <td>{m.email}</td>
              <td>{m.roles.map((r) => r.display_name || r.name).join(", ") || "Member"}</td>
              <td>
                <Status value={m.status} />
              </td>
              <td class="actions">
                {session.can.readMembers && m.user_id !== session.user.id && roles.data && (
                  <>
                    <button type="button" onClick={() => setEditing(m)}>
                      Roles
                    </button>
                    <ConfirmButton title={`Remove ${m.username}?`} text={`${m.username} leaves ${shown(organization)} and its groups.`} yes="Remove" action={remove(m)}>
                      Remove
                    </ConfirmButton>
                  </>
                )}
              </td>
            </tr>
          ))}
        </Table>
      )}
      {session.can.readMembers && (
        <div class="form-page">
          <Form action={add} submit="Add" disabled={name === ""}>
            {() => <Field label="Add a user" value={name} onInput={(e) => setName(e.currentTarget.value)} help="By username." />}
          </Form>
        </div>
      )}
      <Dialog title={`Roles of ${editing?.username}`} open={!!editing} onClose={() => setEditing(undefined)}>
        {editing && (
          <MemberRoles
            member={editing}
            known={roles.data ?? []}
            onDone={async () => {
              setEditing(undefined);
              await members.reload();
            }}
          />
        )}
      </Dialog>
    </>
  );
}

function OrganizationSettings({ organization }: { organization: Organization }) {
  const [, navigate] = useLocation();
  const [value, setValue] = useState<Partial<Organization>>(organization);
  const save = async () => {
    const { name, display_name, description } = value;
    const saved = await api.patch<Organization>(`/api/v2/organizations/${organization.id}`, { name, display_name, description });
    navigate(`/organizations/${saved.name}`);
  };
  const drop = async () => {
    await api.delete(`/api/v2/organizations/${organization.id}`);
    navigate("/organizations");
  };
  return (
    <div class="form-page">
      <h2>Settings</h2>
      <Form
        action={save}
        submit="Save"
        extra={
          !organization.is_default && (
            <ConfirmButton title={`Delete ${shown(organization)}?`} text="Its workspaces, templates, groups and other members must be gone." yes="Delete the organization" action={drop}>
              Delete
            </ConfirmButton>
          )
        }
      >
        {(error) => <OrganizationFields value={value} onChange={setValue} field={(name) => error?.field(name)} />}
      </Form>
    </div>
  );
}

export function OrganizationPage() {
  const { organization: name } = useParams<{ organization: string }>();
  const session = useSession();
  const organization = useApi<Organization>(`/api/v2/organizations/${encodeURIComponent(name)}`);
  const o = organization.data;
  useTitle(o ? shown(o) : "Organization");
  if (!o) return organization.error ? <ErrorBox error={organization.error} /> : <Loading />;
  return (
    <>
      <h1>{shown(o)}</h1>
      {o.description && <p>{o.description}</p>}
      <Members organization={o} />
      {session.can.createOrganization && <OrganizationSettings key={o.id} organization={o} />}
    </>
  );
}
