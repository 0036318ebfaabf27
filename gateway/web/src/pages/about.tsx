// What runs here, and how the command line reaches it.
//
// SPDX-License-Identifier: MIT
import { useApi } from "../live";
import type { BuildInfo } from "../types";
import { CopyText, ErrorBox, Loading, useTitle } from "../ui";

export function About() {
  useTitle("About");
  const info = useApi<BuildInfo>("/api/v2/buildinfo");
  if (info.error) return <ErrorBox error={info.error} />;
  if (!info.data) return <Loading />;
  return (
    <div class="form-page">
      <h1>About this server</h1>
      <dl class="facts">
        <dt>Version</dt>
        <dd>{info.data.version}</dd>
        <dt>Address</dt>
        <dd>{info.data.dashboard_url || location.origin}</dd>
        <dt>Deployment</dt>
        <dd>
          <code>{info.data.deployment_id}</code>
        </dd>
        <dt>Agent API</dt>
        <dd>{info.data.agent_api_version}</dd>
        <dt>Provisioner API</dt>
        <dd>{info.data.provisioner_api_version}</dd>
      </dl>
      <h2>The command line</h2>
      <p>Coder's own command line works against this server, and so does the one that comes with it:</p>
      <CopyText text={`curl -fsSL ${location.origin}/bin/coder-linux-amd64 -o coder && chmod +x coder`} />
      <CopyText text={`coder login ${location.origin}`} />
    </div>
  );
}
