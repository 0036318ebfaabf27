// Where "coder login" sends the browser: a fresh key to paste into the command line.
//
// SPDX-License-Identifier: MIT
import { useEffect, useState } from "preact/hooks";
import { api } from "../api";
import { CopyText, ErrorBox, Loading, useTitle } from "../ui";

export function CliAuth() {
  useTitle("Sign in the command line");
  const [key, setKey] = useState<string>();
  const [error, setError] = useState<Error>();
  useEffect(() => {
    api.post<{ key: string }>("/api/v2/users/me/keys").then(({ key }) => setKey(key), setError);
  }, []);
  if (error) return <ErrorBox error={error} />;
  if (!key) return <Loading />;
  return (
    <div class="form-page">
      <h1>Sign in the command line</h1>
      <p>Copy this key and paste it where the command line asks for it. It is as good as your password.</p>
      <CopyText text={key} />
    </div>
  );
}
