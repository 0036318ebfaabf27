// One build with its whole log.
//
// SPDX-License-Identifier: MIT
import { Link, useParams } from "wouter-preact";
import { useApi } from "../live";
import { JobLogs } from "../logs";
import type { WorkspaceBuild } from "../types";
import { Ago, ErrorBox, Loading, Status, useTitle } from "../ui";

export function Build() {
  const params = useParams<{ owner: string; workspace: string; number: string }>();
  const build = useApi<WorkspaceBuild>(`/api/v2/users/${params.owner}/workspace/${params.workspace}/builds/${params.number}`);
  useTitle(`${params.workspace} #${params.number}`);
  if (build.error) return <ErrorBox error={build.error} />;
  if (!build.data) return <Loading />;
  const b = build.data;
  return (
    <>
      <h1>
        <Link href={`/@${params.owner}/${params.workspace}`}>
          {params.owner}/{params.workspace}
        </Link>{" "}
        #{b.build_number} {b.transition} <Status value={b.job.status} />
      </h1>
      <p class="quiet">
        {b.initiator_name}, <Ago time={b.created_at} /> · {b.template_version_name}
      </p>
      {b.job.error && (
        <div class="error" role="alert">
          <div class="detail">{b.job.error}</div>
        </div>
      )}
      <JobLogs path={`/api/v2/workspacebuilds/${b.id}/logs`} onEnd={() => void build.reload()} />
    </>
  );
}
