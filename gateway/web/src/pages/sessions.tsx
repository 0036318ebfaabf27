// Where a person is signed in, and the tokens that act for them.
//
// SPDX-License-Identifier: MIT
import { api } from "../api";
import { useApi } from "../live";
import type { SessionKey } from "../types";
import { ActionButton, Ago, ListState, Table, useTitle } from "../ui";

const KINDS: Record<string, string> = {
  password: "Password",
  github: "GitHub",
  oidc: "OpenID Connect",
  oauth2_provider_app: "Application",
  token: "Token",
};

/** Sessions or tokens of a user, each with a button that ends it. */
export function KeyTable({ user, kind }: { user: string; kind: "sessions" | "tokens" }) {
  const keys = useApi<SessionKey[] | null>(`/api/v2/users/${user}/keys${kind === "tokens" ? "/tokens" : ""}`);
  const end = (id: string) => async () => {
    await api.delete(`/api/v2/users/${user}/keys/${id}`);
    await keys.reload();
  };
  return (
    <>
      <ListState error={keys.error} loaded={keys.data !== undefined} empty={(keys.data ?? []).length === 0} text="None." />
      {keys.data && keys.data.length > 0 && (
        <Table head={["Id", kind === "tokens" ? "Name" : "Signed in with", "Scopes", "Address", "Last used", "Expires", ""]}>
          {keys.data.map((key) => (
            <tr key={key.id}>
              <td>
                <code>{key.id}</code>
              </td>
              <td>{kind === "tokens" ? key.token_name : (KINDS[key.login_type] ?? key.login_type)}</td>
              <td>{key.scopes.join(", ").replace("coder:all", "everything")}</td>
              <td>{key.ip_address ?? ""}</td>
              <td>
                <Ago time={key.last_used} />
              </td>
              <td>
                <Ago time={key.expires_at} />
              </td>
              <td>{key.current ? <span class="tag">this one</span> : <ActionButton action={end(key.id)}>End</ActionButton>}</td>
            </tr>
          ))}
        </Table>
      )}
    </>
  );
}

export function Sessions() {
  useTitle("Sessions");
  return (
    <>
      <h1>Sessions</h1>
      <p class="quiet">Where you are signed in. A session that you do not know: end it, and change your password.</p>
      <KeyTable user="me" kind="sessions" />
    </>
  );
}
