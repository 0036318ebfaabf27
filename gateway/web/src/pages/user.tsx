// One user: status, roles, organizations, sessions and tokens.
//
// SPDX-License-Identifier: MIT
import { useEffect, useState } from "preact/hooks";
import { Link, useLocation, useParams } from "wouter-preact";
import { api } from "../api";
import { useApi } from "../live";
import { useSession } from "../session";
import type { AssignableRole, Organization, User } from "../types";
import { ActionButton, Ago, Choices, ConfirmButton, ErrorBox, Field, Form, Loading, Status, useTitle } from "../ui";
import { KeyTable } from "./sessions";

function Roles({ user, reload }: { user: User; reload: () => Promise<void> }) {
  const session = useSession();
  const known = useApi<AssignableRole[]>("/api/v2/users/roles");
  const current = user.roles.map((r) => r.name);
  const [chosen, setChosen] = useState(current);
  useEffect(() => setChosen(current), [current.join()]);
  const save = async () => {
    await api.put(`/api/v2/users/${user.id}/roles`, { roles: chosen });
    await reload();
  };
  if (!known.data) return <ErrorBox error={known.error} />;
  const fixed = !session.can.assignRole || user.id === session.user.id;
  return (
    <>
      <Choices legend="Roles on this server" choices={known.data.map((r) => [r.name, r.display_name || r.name])} chosen={chosen} onChange={setChosen} disabled={fixed} />
      {!fixed && (
        <ActionButton action={save} disabled={chosen.slice().sort().join() === current.slice().sort().join()}>
          Save the roles
        </ActionButton>
      )}
      {user.id === session.user.id && <p class="help">Nobody changes their own roles.</p>}
    </>
  );
}

function SetPassword({ user }: { user: User }) {
  const [password, setPassword] = useState("");
  const [done, setDone] = useState(false);
  const save = async () => {
    await api.put(`/api/v2/users/${user.id}/password`, { password });
    setPassword("");
    setDone(true);
  };
  return (
    <Form action={save} submit="Set the password" disabled={password === ""}>
      {(error) => (
        <Field
          label="New password"
          type="password"
          autoComplete="new-password"
          value={password}
          onInput={(e) => setPassword(e.currentTarget.value)}
          problem={error?.field("password")}
          help={done ? "The password is set; all sessions of the user have ended." : "Ends all sessions of the user."}
        />
      )}
    </Form>
  );
}

export function UserPage() {
  const { user: name } = useParams<{ user: string }>();
  useTitle(name);
  const session = useSession();
  const [, navigate] = useLocation();
  const user = useApi<User>(`/api/v2/users/${encodeURIComponent(name)}`);
  const organizations = useApi<Organization[]>(user.data && `/api/v2/users/${user.data.id}/organizations`);
  const u = user.data;
  if (!u) return user.error ? <ErrorBox error={user.error} /> : <Loading />;
  const other = u.id !== session.user.id;
  const set = (status: "suspend" | "activate") => async () => {
    await api.put(`/api/v2/users/${u.id}/status/${status}`);
    await user.reload();
  };
  const remove = async () => {
    await api.delete(`/api/v2/users/${u.id}`);
    navigate("/users");
  };
  return (
    <>
      <div class="head">
        <h1>
          {u.username} <Status value={u.status} />
        </h1>
        {other && (
          <div class="actions">
            {session.can.updateUser && <ActionButton action={set(u.status === "suspended" ? "activate" : "suspend")}>{u.status === "suspended" ? "Activate" : "Suspend"}</ActionButton>}
            {session.can.deleteUser && (
              <ConfirmButton title={`Delete ${u.username}?`} text="The user's name becomes free. Workspaces must have been deleted before." yes="Delete the user" action={remove}>
                Delete
              </ConfirmButton>
            )}
          </div>
        )}
      </div>
      <dl class="metadata">
        <div>
          <dt>Name</dt>
          <dd>{u.name || "–"}</dd>
        </div>
        <div>
          <dt>Email</dt>
          <dd>{u.email}</dd>
        </div>
        <div>
          <dt>Signs in with</dt>
          <dd>{u.login_type}</dd>
        </div>
        <div>
          <dt>Created</dt>
          <dd>
            <Ago time={u.created_at} />
          </dd>
        </div>
        <div>
          <dt>Last seen</dt>
          <dd>
            <Ago time={u.last_seen_at} />
          </dd>
        </div>
        <div>
          <dt>Organizations</dt>
          <dd>
            {organizations.data?.map((o, i) => (
              <span key={o.id}>
                {i > 0 && ", "}
                <Link href={`/organizations/${o.name}`}>{o.display_name || o.name}</Link>
              </span>
            ))}
          </dd>
        </div>
      </dl>
      <Roles user={u} reload={user.reload} />
      <p>
        <Link href={`/users/${u.username}/access`}>What {u.username} may do, and why</Link>
      </p>
      {session.can.readAudit && (
        <p>
          <Link href={`/audit?q=${encodeURIComponent(`username:${u.username}`)}`}>What {u.username} did</Link>
        </p>
      )}
      {other && session.can.updateUser && u.login_type === "password" && (
        <>
          <h2>Password</h2>
          <SetPassword user={u} />
        </>
      )}
      <h2>Sessions</h2>
      <KeyTable user={u.id} kind="sessions" />
      <h2>Tokens</h2>
      <KeyTable user={u.id} kind="tokens" />
    </>
  );
}
