// The users of this server; who may, creates them.
//
// SPDX-License-Identifier: MIT
import { useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { api, query } from "../api";
import { useApi } from "../live";
import { useSession } from "../session";
import type { User } from "../types";
import { ActionButton, Ago, Dialog, Field, Form, ListState, Select, Status, Table, useTitle } from "../ui";

const PAGE = 50;
const LOGIN_TYPES: [string, string][] = [
  ["password", "A password"],
  ["oidc", "OpenID Connect"],
  ["github", "GitHub"],
  ["none", "Nothing: tokens only"],
];

function NewUser({ onDone }: { onDone: () => Promise<void> }) {
  const session = useSession();
  const home = session.organizations.find((o) => o.is_default) ?? session.organizations[0];
  const [username, setUsername] = useState("");
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const [loginType, setLoginType] = useState("password");
  const [organization, setOrganization] = useState(home.id);
  const create = async () => {
    await api.post("/api/v2/users", { username, email, password: loginType === "password" ? password : "", login_type: loginType, organization_ids: [organization] });
    await onDone();
  };
  return (
    <Form action={create} submit="Create user" busy="Creating …">
      {(error) => (
        <>
          <Field label="Username" name="username" autoFocus required value={username} onInput={(e) => setUsername(e.currentTarget.value)} problem={error?.field("username")} />
          <Field label="Email" name="email" type="email" required value={email} onInput={(e) => setEmail(e.currentTarget.value)} problem={error?.field("email")} />
          {session.organizations.length > 1 && <Select label="Organization" value={organization} choices={session.organizations.map((o) => [o.id, o.display_name || o.name])} onChange={setOrganization} />}
          <Select label="Signs in with" value={loginType} choices={LOGIN_TYPES} onChange={setLoginType} />
          {loginType === "password" && (
            <Field label="Password" name="password" type="password" autoComplete="new-password" required value={password} onInput={(e) => setPassword(e.currentTarget.value)} problem={error?.field("password")} />
          )}
        </>
      )}
    </Form>
  );
}

export function Users() {
  useTitle("Users");
  const session = useSession();
  const [q, setQ] = useState("");
  const [page, setPage] = useState(0);
  const [adding, setAdding] = useState(false);
  const users = useApi<{ users: User[]; count: number }>(query("/api/v2/users", { q, limit: PAGE, offset: page * PAGE }));
  const setStatus = (user: User, status: "suspend" | "activate") => async () => {
    await api.put(`/api/v2/users/${user.id}/status/${status}`);
    await users.reload();
  };
  const search = (text: string) => {
    setQ(text);
    setPage(0);
  };
  const count = users.data?.count ?? 0;
  return (
    <>
      <div class="head">
        <h1>Users</h1>
        {session.can.createUser && (
          <button type="button" class="primary" onClick={() => setAdding(true)}>
            New user
          </button>
        )}
      </div>
      <div class="field search">
        <label for="search">Search</label>
        <input id="search" type="search" value={q} onInput={(e) => search(e.currentTarget.value)} placeholder="name, status:active, role:owner, login_type:oidc" />
      </div>
      <ListState error={users.error} loaded={!!users.data} empty={users.data?.users.length === 0} text="No user matches." />
      {users.data && users.data.users.length > 0 && (
        <Table head={["User", "Email", "Roles", "Status", "Last seen", ""]}>
          {users.data.users.map((u) => (
            <tr key={u.id}>
              <td>
                <Link href={`/users/${u.username}`}>{u.username}</Link> {u.name && <span class="quiet">{u.name}</span>}
              </td>
              <td>{u.email}</td>
              <td>{u.roles.map((r) => r.display_name || r.name).join(", ") || "Member"}</td>
              <td>
                <Status value={u.status} />
              </td>
              <td>
                <Ago time={u.last_seen_at} />
              </td>
              <td>
                {session.can.updateUser && u.id !== session.user.id && (
                  <ActionButton action={setStatus(u, u.status === "suspended" ? "activate" : "suspend")}>{u.status === "suspended" ? "Activate" : "Suspend"}</ActionButton>
                )}
              </td>
            </tr>
          ))}
        </Table>
      )}
      {count > PAGE && (
        <div class="actions">
          <button type="button" disabled={page === 0} onClick={() => setPage(page - 1)}>
            Previous
          </button>
          <span class="quiet">
            {page * PAGE + 1}–{Math.min(count, (page + 1) * PAGE)} of {count}
          </span>
          <button type="button" disabled={(page + 1) * PAGE >= count} onClick={() => setPage(page + 1)}>
            Next
          </button>
        </div>
      )}
      <Dialog title="New user" open={adding} onClose={() => setAdding(false)}>
        <NewUser
          onDone={async () => {
            setAdding(false);
            await users.reload();
          }}
        />
      </Dialog>
    </>
  );
}
