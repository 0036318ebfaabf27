// Sign in with email and password.
//
// SPDX-License-Identifier: MIT
import { useState } from "preact/hooks";
import { api } from "../api";
import { Field, Form, useTitle } from "../ui";

export function Login({ onDone }: { onDone: () => Promise<void> }) {
  useTitle("Sign in");
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const signIn = async () => {
    await api.post("/api/v2/users/login", { email, password });
    await onDone();
  };
  return (
    <main class="narrow">
      <h1>Sign in to Coder</h1>
      <Form action={signIn} submit="Sign in" busy="Signing in …">
        {(error) => (
          <>
            <Field label="Email" name="email" type="email" autoComplete="username" autoFocus required value={email} onInput={(e) => setEmail(e.currentTarget.value)} problem={error?.field("email")} />
            <Field label="Password" name="password" type="password" autoComplete="current-password" required value={password} onInput={(e) => setPassword(e.currentTarget.value)} problem={error?.field("password")} />
          </>
        )}
      </Form>
    </main>
  );
}
