// One's own account: name, password, SSH key, and the applications that were let in.
//
// SPDX-License-Identifier: MIT
import { useState } from "preact/hooks";
import { api, query } from "../api";
import { useApi } from "../live";
import { useSession } from "../session";
import type { OAuth2App } from "../types";
import { Ago, ConfirmButton, CopyText, ErrorBox, Field, Form, ListState, Table, useTitle } from "../ui";

function Profile() {
  const { user } = useSession();
  const [username, setUsername] = useState(user.username);
  const [name, setName] = useState(user.name ?? "");
  const [done, setDone] = useState(false);
  const save = async () => {
    await api.put("/api/v2/users/me/profile", { username, name });
    setDone(true);
  };
  return (
    <Form action={save} submit="Save">
      {(error) => (
        <>
          <Field label="Username" value={username} onInput={(e) => setUsername(e.currentTarget.value)} problem={error?.field("username")} />
          <Field label="Name" value={name} onInput={(e) => setName(e.currentTarget.value)} problem={error?.field("name")} help={done ? "Saved." : undefined} />
        </>
      )}
    </Form>
  );
}

function Password() {
  const [old, setOld] = useState("");
  const [password, setPassword] = useState("");
  const [done, setDone] = useState(false);
  const save = async () => {
    await api.put("/api/v2/users/me/password", { old_password: old, password });
    setDone(true);
  };
  if (done) return <p>Your password is changed. Other sessions have ended.</p>;
  return (
    <Form action={save} submit="Change the password" disabled={password === ""}>
      {(error) => (
        <>
          <Field label="Old password" type="password" autoComplete="current-password" value={old} onInput={(e) => setOld(e.currentTarget.value)} problem={error?.field("old_password")} />
          <Field label="New password" type="password" autoComplete="new-password" value={password} onInput={(e) => setPassword(e.currentTarget.value)} problem={error?.field("password")} />
        </>
      )}
    </Form>
  );
}

export function Account() {
  useTitle("Account");
  const { user } = useSession();
  return (
    <div class="form-page">
      <h1>Account</h1>
      <p class="quiet">
        {user.email}, signs in with {user.login_type}.
      </p>
      <Profile />
      {user.login_type === "password" && (
        <>
          <h2>Password</h2>
          <Password />
        </>
      )}
    </div>
  );
}

export function SshKey() {
  useTitle("SSH key");
  const key = useApi<{ public_key: string; updated_at: string }>("/api/v2/users/me/gitsshkey");
  const renew = async () => key.set(await api.put("/api/v2/users/me/gitsshkey"));
  return (
    <>
      <h1>SSH key</h1>
      <p class="quiet">Your workspaces use this key for git. Give it to your git server.</p>
      <ErrorBox error={key.error} />
      {key.data && (
        <>
          <CopyText text={key.data.public_key.trim()} />
          <p class="quiet">
            Made <Ago time={key.data.updated_at} />.
          </p>
          <ConfirmButton title="Make a new key?" text="The old key works no longer. Give the new one to your git server." yes="Make a new key" action={renew}>
            New key
          </ConfirmButton>
        </>
      )}
    </>
  );
}

export function Applications() {
  useTitle("Applications");
  const { user } = useSession();
  const apps = useApi<OAuth2App[]>(query("/api/v2/oauth2-provider/apps", { user_id: user.id }));
  const revoke = (app: OAuth2App) => async () => {
    await api.delete(query("/oauth2/tokens", { client_id: app.id }));
    await apps.reload();
  };
  return (
    <>
      <h1>Applications</h1>
      <p class="quiet">Programs that you have let use your account.</p>
      <ListState error={apps.error} loaded={!!apps.data} empty={apps.data?.length === 0} text="You have let in none." />
      {apps.data && apps.data.length > 0 && (
        <Table head={["Name", "Called at", ""]}>
          {apps.data.map((app) => (
            <tr key={app.id}>
              <td>{app.name}</td>
              <td>
                <code>{app.callback_url}</code>
              </td>
              <td>
                <ConfirmButton title={`Shut ${app.name} out?`} text="Its tokens end at once." yes="Shut it out" action={revoke(app)}>
                  Revoke
                </ConfirmButton>
              </td>
            </tr>
          ))}
        </Table>
      )}
    </>
  );
}
