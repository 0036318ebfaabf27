// One template: its readme, its versions, and a new version of it.
//
// SPDX-License-Identifier: MIT
import { useRef, useState } from "preact/hooks";
import { Link, useLocation, useParams } from "wouter-preact";
import { api } from "../api";
import { useApi } from "../live";
import { JobLogs } from "../logs";
import { archiveOf } from "../tar";
import { createVersion, finished } from "../templates";
import type { Template, TemplateVersion } from "../types";
import { ActionButton, Ago, Dialog, ErrorBox, Form, Loading, Status, useTitle } from "../ui";

function NewVersion({ template, onDone }: { template: Template; onDone: () => Promise<void> }) {
  const files = useRef<HTMLInputElement>(null);
  const [version, setVersion] = useState<string>();
  const upload = async () => {
    const picked = files.current?.files;
    if (!picked || picked.length === 0) throw new Error("Choose the template's files first.");
    const { hash } = await api.upload(await archiveOf(picked));
    const created = await createVersion(template.organization_id, { file_id: hash }, template.id);
    setVersion(created.id);
    await finished(created);
    await api.patch(`/api/v2/templates/${template.id}/versions`, { id: created.id });
    await onDone();
  };
  return (
    <>
      <Form action={upload} submit="Upload and make active" busy="Importing …">
        {() => (
          <div class="field">
            <label for="version-files">Terraform files</label>
            <input id="version-files" ref={files} type="file" multiple required />
          </div>
        )}
      </Form>
      {version && <JobLogs path={`/api/v2/templateversions/${version}/logs`} />}
    </>
  );
}

export function TemplatePage() {
  const params = useParams<{ organization: string; template: string }>();
  const [, navigate] = useLocation();
  const template = useApi<Template>(`/api/v2/organizations/${params.organization}/templates/${params.template}`);
  const t = template.data;
  const versions = useApi<TemplateVersion[]>(t && `/api/v2/templates/${t.id}/versions`);
  const [dialog, setDialog] = useState<"version" | "delete">();
  useTitle(params.template);

  if (template.error) return <ErrorBox error={template.error} />;
  if (!t) return <Loading />;
  const active = versions.data?.find((v) => v.id === t.active_version_id);
  const reload = async () => {
    setDialog(undefined);
    await Promise.all([template.reload(), versions.reload()]);
  };
  const promote = (id: string) => api.patch(`/api/v2/templates/${t.id}/versions`, { id }).then(reload);
  return (
    <>
      <div class="head">
        <h1>{t.display_name || t.name}</h1>
        <div class="actions">
          <Link href={`/templates/${t.organization_name}/${t.name}/workspace`} class="button primary">
            Create workspace
          </Link>
          <button type="button" onClick={() => setDialog("version")}>
            New version
          </button>
          <button type="button" class="danger" onClick={() => setDialog("delete")}>
            Delete
          </button>
        </div>
      </div>
      <p>{t.description}</p>
      {active?.readme && <pre class="readme">{active.readme}</pre>}
      <h2>Versions</h2>
      <ErrorBox error={versions.error} />
      <table>
        <thead>
          <tr>
            <th>Version</th>
            <th>Import</th>
            <th>Created</th>
            <th>By</th>
            <th />
          </tr>
        </thead>
        <tbody>
          {versions.data
            ?.slice()
            .reverse()
            .map((v) => (
              <tr key={v.id}>
                <td>
                  {v.name} {v.id === t.active_version_id && <span class="tag">active</span>}
                </td>
                <td>
                  <Status value={v.job.status} title={v.job.error} />
                </td>
                <td>
                  <Ago time={v.created_at} />
                </td>
                <td>{v.created_by.username}</td>
                <td>{v.id !== t.active_version_id && v.job.status === "succeeded" && <ActionButton action={() => promote(v.id)}>Make active</ActionButton>}</td>
              </tr>
            ))}
        </tbody>
      </table>
      <Dialog title="New version" open={dialog === "version"} onClose={() => setDialog(undefined)}>
        <NewVersion template={t} onDone={reload} />
      </Dialog>
      <Dialog title={`Delete ${t.name}?`} open={dialog === "delete"} onClose={() => setDialog(undefined)}>
        <p>Workspaces must be deleted first. This cannot be undone.</p>
        <Form
          action={async () => {
            await api.delete(`/api/v2/templates/${t.id}`);
            navigate("/templates");
          }}
          submit="Delete the template"
        >
          {() => null}
        </Form>
      </Dialog>
    </>
  );
}
