// Sign in: by email and password, and by each provider that is configured.
//
// SPDX-License-Identifier: MIT
import { useState } from "preact/hooks";
import { useSearch } from "wouter-preact";
import { api, query } from "../api";
import { useApi } from "../live";
import type { AuthMethods } from "../types";
import { Field, Form, useTitle } from "../ui";

/** Links to the providers; they come back to where the person was going. */
export function Providers({ methods, redirect }: { methods: AuthMethods; redirect: string }) {
  const link = (path: string) => query(path, { redirect });
  if (!methods.github.enabled && !methods.oidc.enabled) return null;
  return (
    <div class="methods">
      {methods.oidc.enabled && (
        <a class="button" href={link("/api/v2/users/oidc/callback")}>
          {methods.oidc.iconUrl && <img src={methods.oidc.iconUrl} alt="" />} {methods.oidc.signInText || "OpenID Connect"}
        </a>
      )}
      {methods.github.enabled && (
        <a class="button" href={link("/api/v2/users/oauth2/github/callback")}>
          GitHub
        </a>
      )}
    </div>
  );
}

function PasswordForm({ onDone }: { onDone: () => Promise<void> }) {
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const signIn = async () => {
    await api.post("/api/v2/users/login", { email, password });
    await onDone();
  };
  return (
    <Form action={signIn} submit="Sign in" busy="Signing in …">
      {(error) => (
        <>
          <Field label="Email" name="email" type="email" autoComplete="username" autoFocus required value={email} onInput={(e) => setEmail(e.currentTarget.value)} problem={error?.field("email")} />
          <Field label="Password" name="password" type="password" autoComplete="current-password" required value={password} onInput={(e) => setPassword(e.currentTarget.value)} problem={error?.field("password")} />
        </>
      )}
    </Form>
  );
}

export function Login({ onDone }: { onDone: () => Promise<void> }) {
  useTitle("Sign in");
  const search = new URLSearchParams(useSearch());
  const methods = useApi<AuthMethods>("/api/v2/users/authmethods");
  const [byPassword, setByPassword] = useState(false);
  const message = search.get("message");
  return (
    <main class="narrow">
      <h1>Sign in to Coder</h1>
      {message && (
        <p class="problem" role="status">
          {message}
        </p>
      )}
      {methods.data && <Providers methods={methods.data} redirect={search.get("redirect") ?? "/workspaces"} />}
      {!methods.data || methods.data.password.enabled || byPassword ? (
        <PasswordForm onDone={onDone} />
      ) : (
        <button type="button" class="plain" onClick={() => setByPassword(true)}>
          An administrator may sign in with a password
        </button>
      )}
      {methods.data?.terms_of_service_url && (
        <p class="help">
          By signing in you agree to the <a href={methods.data.terms_of_service_url}>terms of service</a>.
        </p>
      )}
    </main>
  );
}
