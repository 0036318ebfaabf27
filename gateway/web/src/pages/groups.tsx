// Groups of an organization's members.
//
// SPDX-License-Identifier: MIT
import { useState } from "preact/hooks";
import { Link, useLocation, useParams } from "wouter-preact";
import { api } from "../api";
import { useApi } from "../live";
import { useSession } from "../session";
import type { Group, Member } from "../types";
import { ActionButton, ConfirmButton, Dialog, ErrorBox, Field, Form, ListState, Loading, Select, Table, useTitle } from "../ui";

const shown = (g: Group) => g.display_name || g.name;

/** The group of everybody has the organization's id, and its members come and go with the organization's. */
const isEveryone = (g: Group) => g.id === g.organization_id;

function NewGroup() {
  const { organizations } = useSession();
  const [, navigate] = useLocation();
  const [organization, setOrganization] = useState(organizations[0].id);
  const [name, setName] = useState("");
  const [displayName, setDisplayName] = useState("");
  const create = async () => {
    const group = await api.post<Group>(`/api/v2/organizations/${organization}/groups`, { name, display_name: displayName, avatar_url: "", quota_allowance: 0 });
    navigate(`/groups/${group.id}`);
  };
  return (
    <Form action={create} submit="Create group">
      {(error) => (
        <>
          {organizations.length > 1 && <Select label="Organization" value={organization} choices={organizations.map((o) => [o.id, o.display_name || o.name])} onChange={setOrganization} />}
          <Field label="Name" autoFocus required value={name} onInput={(e) => setName(e.currentTarget.value)} problem={error?.field("name")} />
          <Field label="Display name" value={displayName} onInput={(e) => setDisplayName(e.currentTarget.value)} problem={error?.field("display_name")} />
        </>
      )}
    </Form>
  );
}

export function Groups() {
  useTitle("Groups");
  const session = useSession();
  const groups = useApi<Group[]>("/api/v2/groups");
  const [adding, setAdding] = useState(false);
  const home = (g: Group) => session.organizations.find((o) => o.id === g.organization_id);
  return (
    <>
      <div class="head">
        <h1>Groups</h1>
        {session.can.createGroup && (
          <button type="button" class="primary" onClick={() => setAdding(true)}>
            New group
          </button>
        )}
      </div>
      <ListState error={groups.error} loaded={!!groups.data} empty={groups.data?.length === 0} text="There are no groups." />
      {groups.data && groups.data.length > 0 && (
        <Table head={["Group", "Organization", "Members", "Quota", "From"]}>
          {groups.data.map((g) => (
            <tr key={g.id}>
              <td>
                <Link href={`/groups/${g.id}`}>{shown(g)}</Link>
              </td>
              <td>{home(g)?.display_name || home(g)?.name}</td>
              <td>{g.total_member_count}</td>
              <td>{g.quota_allowance}</td>
              <td>{g.source}</td>
            </tr>
          ))}
        </Table>
      )}
      <Dialog title="New group" open={adding} onClose={() => setAdding(false)}>
        <NewGroup />
      </Dialog>
    </>
  );
}

function AddMember({ group, reload }: { group: Group; reload: () => Promise<void> }) {
  const members = useApi<{ members: Member[] }>(`/api/v2/organizations/${group.organization_id}/paginated-members?limit=0`);
  const [user, setUser] = useState("");
  const inside = new Set(group.members.map((m) => m.id));
  const choices = (members.data?.members ?? []).filter((m) => !inside.has(m.user_id)).map((m): [string, string] => [m.user_id, m.username]);
  const add = async () => {
    await api.patch(`/api/v2/groups/${group.id}`, { name: "", add_users: [user || choices[0][0]], remove_users: [] });
    setUser("");
    await reload();
  };
  if (choices.length === 0) return null;
  return (
    <Form action={add} submit="Add">
      {() => <Select label="Add a member of the organization" value={user || choices[0][0]} choices={choices} onChange={setUser} />}
    </Form>
  );
}

function GroupSettings({ group, reload }: { group: Group; reload: () => Promise<void> }) {
  const [name, setName] = useState(group.name);
  const [displayName, setDisplayName] = useState(group.display_name);
  const [quota, setQuota] = useState(String(group.quota_allowance));
  const everyone = isEveryone(group);
  const save = async () => {
    const change = { quota_allowance: Number(quota), add_users: [], remove_users: [] };
    await api.patch(`/api/v2/groups/${group.id}`, everyone ? change : { ...change, name: name === group.name ? "" : name, display_name: displayName });
    await reload();
  };
  return (
    <Form action={save} submit="Save">
      {(error) => (
        <>
          {!everyone && <Field label="Name" value={name} onInput={(e) => setName(e.currentTarget.value)} problem={error?.field("name")} />}
          {!everyone && <Field label="Display name" value={displayName} onInput={(e) => setDisplayName(e.currentTarget.value)} problem={error?.field("display_name")} />}
          <Field label="Quota allowance" type="number" min={0} value={quota} onInput={(e) => setQuota(e.currentTarget.value)} problem={error?.field("quota_allowance")} help="Credits that each member may spend on workspaces." />
        </>
      )}
    </Form>
  );
}

export function GroupPage() {
  const { group: id } = useParams<{ group: string }>();
  const session = useSession();
  const [, navigate] = useLocation();
  const group = useApi<Group>(`/api/v2/groups/${id}`);
  const g = group.data;
  useTitle(g ? shown(g) : "Group");
  if (!g) return group.error ? <ErrorBox error={group.error} /> : <Loading />;
  const mayEdit = session.can.createGroup;
  const remove = (user: string) => async () => {
    await api.patch(`/api/v2/groups/${g.id}`, { name: "", add_users: [], remove_users: [user] });
    await group.reload();
  };
  const drop = async () => {
    await api.delete(`/api/v2/groups/${g.id}`);
    navigate("/groups");
  };
  return (
    <>
      <div class="head">
        <h1>{shown(g)}</h1>
        {mayEdit && !isEveryone(g) && (
          <ConfirmButton title={`Delete ${shown(g)}?`} text="Its members lose what the group gave them." yes="Delete the group" action={drop}>
            Delete
          </ConfirmButton>
        )}
      </div>
      {isEveryone(g) && <p class="quiet">Every member of the organization belongs to this group.</p>}
      <Table head={["Member", "Email", ""]}>
        {g.members.map((m) => (
          <tr key={m.id}>
            <td>
              <Link href={`/users/${m.username}`}>{m.username}</Link>
            </td>
            <td>{m.email}</td>
            <td>{mayEdit && !isEveryone(g) && <ActionButton action={remove(m.id)}>Remove</ActionButton>}</td>
          </tr>
        ))}
      </Table>
      {mayEdit && !isEveryone(g) && <AddMember group={g} reload={group.reload} />}
      {mayEdit && (
        <div class="form-page">
          <h2>Settings</h2>
          <GroupSettings key={g.id} group={g} reload={group.reload} />
        </div>
      )}
    </>
  );
}
