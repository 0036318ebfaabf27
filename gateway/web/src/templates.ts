// Importing a template: a version from files or an example, its job, then the template.
//
// SPDX-License-Identifier: MIT
import { api } from "./api";
import type { Template, TemplateVersion } from "./types";

export type Source = { example_id: string } | { file_id: string };

export function createVersion(organization: string, source: Source, template?: string): Promise<TemplateVersion> {
  return api.post<TemplateVersion>(`/api/v2/organizations/${organization}/templateversions`, {
    storage_method: "file",
    provisioner: "terraform",
    tags: {},
    ...source,
    ...(template ? { template_id: template } : {}),
  });
}

export const isOver = (version: TemplateVersion) => ["succeeded", "failed", "canceled"].includes(version.job.status);

/** Waits until the version's job has ended; rejects with the job's error. */
export async function finished(version: TemplateVersion): Promise<TemplateVersion> {
  let wait = 50;
  while (!isOver(version)) {
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(wait * 1.5, 1000);
    version = await api.get<TemplateVersion>(`/api/v2/templateversions/${version.id}`);
  }
  if (version.job.status !== "succeeded") throw new Error(version.job.error || `The import was ${version.job.status}.`);
  return version;
}

export function createTemplate(organization: string, name: string, version: string, description = ""): Promise<Template> {
  return api.post<Template>(`/api/v2/organizations/${organization}/templates`, {
    name,
    description,
    template_version_id: version,
  });
}

/** The starter that needs nothing but this server; its example id is its name. */
export const STARTER = "sandbox";

export async function importStarter(organization: string): Promise<Template> {
  const version = await finished(await createVersion(organization, { example_id: STARTER }));
  return createTemplate(organization, STARTER, version.id, "A sandboxed process on the server's own machine");
}
