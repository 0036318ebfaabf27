// The first page of a new server: its first user, who becomes the owner.
//
// SPDX-License-Identifier: MIT
import { useState } from "preact/hooks";
import { api } from "../api";
import { useApi } from "../live";
import { importStarter } from "../templates";
import type { AuthMethods, Organization } from "../types";
import { Field, Form, useTitle } from "../ui";
import { Providers } from "./login";

export function Setup({ onDone }: { onDone: () => Promise<void> }) {
  useTitle("Set up");
  const methods = useApi<AuthMethods>("/api/v2/users/authmethods");
  const [username, setUsername] = useState("");
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");

  const create = async () => {
    await api.post("/api/v2/users/first", { username, email, password, name: "", trial: false });
    await api.post("/api/v2/users/login", { email, password });
    const organizations = await api.get<Organization[]>("/api/v2/organizations");
    const home = organizations.find((o) => o.is_default) ?? organizations[0];
    // Without the starter the templates page offers it again, so its failure does not hold up the owner.
    await importStarter(home.id).catch(() => undefined);
    history.replaceState(null, "", "/templates");
    await onDone();
  };

  return (
    <main class="narrow">
      <h1>Welcome to Coder</h1>
      <p>This server is new. Create its first user, who may do everything.</p>
      {methods.data && <Providers methods={methods.data} redirect="/templates" />}
      <Form action={create} submit="Create the first user" busy="Setting up …">
        {(error) => (
          <>
            <Field label="Username" name="username" autoComplete="username" autoFocus required value={username} onInput={(e) => setUsername(e.currentTarget.value)} problem={error?.field("username")} help="Letters, digits and single hyphens." />
            <Field label="Email" name="email" type="email" autoComplete="email" required value={email} onInput={(e) => setEmail(e.currentTarget.value)} problem={error?.field("email")} />
            <Field label="Password" name="password" type="password" autoComplete="new-password" required value={password} onInput={(e) => setPassword(e.currentTarget.value)} problem={error?.field("password")} help="Hard to guess; a few unrelated words are good." />
          </>
        )}
      </Form>
    </main>
  );
}
