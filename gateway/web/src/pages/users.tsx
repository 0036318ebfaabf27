// The users of this server; who may, creates, suspends and activates them.
//
// SPDX-License-Identifier: MIT
import { useState } from "preact/hooks";
import { api, query } from "../api";
import { useApi } from "../live";
import { useSession } from "../session";
import type { User } from "../types";
import { ActionButton, Ago, Dialog, ErrorBox, Field, Form, Loading, Status, useTitle } from "../ui";

function NewUser({ onDone }: { onDone: () => Promise<void> }) {
  const session = useSession();
  const [username, setUsername] = useState("");
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const create = async () => {
    const home = session.organizations.find((o) => o.is_default) ?? session.organizations[0];
    await api.post("/api/v2/users", { username, email, password, login_type: "password", organization_ids: [home.id] });
    await onDone();
  };
  return (
    <Form action={create} submit="Create user" busy="Creating …">
      {(error) => (
        <>
          <Field label="Username" name="username" autoFocus required value={username} onInput={(e) => setUsername(e.currentTarget.value)} problem={error?.field("username")} />
          <Field label="Email" name="email" type="email" required value={email} onInput={(e) => setEmail(e.currentTarget.value)} problem={error?.field("email")} />
          <Field label="Password" name="password" type="password" autoComplete="new-password" required value={password} onInput={(e) => setPassword(e.currentTarget.value)} problem={error?.field("password")} />
        </>
      )}
    </Form>
  );
}

export function Users() {
  useTitle("Users");
  const session = useSession();
  const [q, setQ] = useState("");
  const [adding, setAdding] = useState(false);
  const users = useApi<{ users: User[]; count: number }>(query("/api/v2/users", { q, limit: 100 }));
  const setStatus = (user: User, status: "suspend" | "activate") => async () => {
    await api.put(`/api/v2/users/${user.id}/status/${status}`);
    await users.reload();
  };
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
        <input id="search" type="search" value={q} onInput={(e) => setQ(e.currentTarget.value)} placeholder="name, status:active, role:owner" />
      </div>
      <ErrorBox error={users.error} />
      {!users.data && !users.error && <Loading />}
      {users.data && (
        <table>
          <thead>
            <tr>
              <th>User</th>
              <th>Email</th>
              <th>Roles</th>
              <th>Status</th>
              <th>Last seen</th>
              <th />
            </tr>
          </thead>
          <tbody>
            {users.data.users.map((u) => (
              <tr key={u.id}>
                <td>
                  {u.username} {u.name && <span class="quiet">{u.name}</span>}
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
                  {session.can.createUser && u.id !== session.user.id && (
                    <ActionButton action={setStatus(u, u.status === "suspended" ? "activate" : "suspend")}>{u.status === "suspended" ? "Activate" : "Suspend"}</ActionButton>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
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
