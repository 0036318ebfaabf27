// The templates, the starter where it is missing, and the upload of a new one.
//
// SPDX-License-Identifier: MIT
import { useRef, useState } from "preact/hooks";
import { Link, useLocation } from "wouter-preact";
import { api } from "../api";
import { useApi } from "../live";
import { JobLogs } from "../logs";
import { useSession } from "../session";
import { archiveOf } from "../tar";
import { STARTER, createTemplate, createVersion, finished, importStarter } from "../templates";
import type { Template } from "../types";
import { ActionButton, Ago, Empty, ErrorBox, Field, Form, Loading, useTitle } from "../ui";

export const templatePath = (t: Template) => `/templates/${t.organization_name}/${t.name}`;

export function Templates() {
  useTitle("Templates");
  const session = useSession();
  const templates = useApi<Template[]>("/api/v2/templates");
  const home = session.organizations.find((o) => o.is_default) ?? session.organizations[0];
  const addStarter = async () => {
    await importStarter(home.id);
    await templates.reload();
  };
  if (templates.error) return <ErrorBox error={templates.error} />;
  if (!templates.data) return <Loading />;
  const hasStarter = templates.data.some((t) => t.name === STARTER);
  return (
    <>
      <div class="head">
        <h1>Templates</h1>
        {session.can.createTemplate && (
          <div class="actions">
            {!hasStarter && home && <ActionButton action={addStarter}>Add the starter template</ActionButton>}
            <Link href="/templates/new" class="button">
              New template
            </Link>
          </div>
        )}
      </div>
      {templates.data.length === 0 && <Empty>There is no template yet. A template says what a workspace is made of.</Empty>}
      <ul class="cards">
        {templates.data.map((t) => (
          <li key={t.id}>
            <div>
              <h2>
                <Link href={templatePath(t)}>{t.display_name || t.name}</Link>
              </h2>
              <p>{t.description}</p>
              <p class="quiet">
                {t.active_user_count === 1 ? "1 developer" : `${t.active_user_count} developers`} · updated <Ago time={t.updated_at} /> by {t.created_by_name}
              </p>
            </div>
            <Link href={`${templatePath(t)}/workspace`} class="button primary">
              Create workspace
            </Link>
          </li>
        ))}
      </ul>
    </>
  );
}

export function NewTemplate() {
  useTitle("New template");
  const session = useSession();
  const [, navigate] = useLocation();
  const files = useRef<HTMLInputElement>(null);
  const [name, setName] = useState("");
  const [description, setDescription] = useState("");
  const [organization, setOrganization] = useState((session.organizations.find((o) => o.is_default) ?? session.organizations[0])?.id);
  const [version, setVersion] = useState<string>();

  const upload = async () => {
    const picked = files.current?.files;
    if (!picked || picked.length === 0) throw new Error("Choose the template's files first.");
    const { hash } = await api.upload(await archiveOf(picked));
    const created = await createVersion(organization, { file_id: hash });
    setVersion(created.id);
    await finished(created);
    const template = await createTemplate(organization, name, created.id, description);
    navigate(templatePath(template));
  };

  return (
    <div class="form-page">
      <h1>New template</h1>
      <Form action={upload} submit="Upload and import" busy="Importing …" extra={<Link href="/templates">Cancel</Link>}>
        {(error) => (
          <>
            <div class="field">
              <label for="files">Terraform files</label>
              <input id="files" ref={files} type="file" multiple accept=".tar,.tf,.json,.md,.sh,.tftpl,.tpl,.yaml,.yml,.hcl" required />
              <div class="help">The .tf files and what they need, or one .tar archive of them.</div>
            </div>
            <Field label="Name" name="name" required value={name} onInput={(e) => setName(e.currentTarget.value)} problem={error?.field("name")} help="Letters, digits and single hyphens." />
            <Field label="Description" name="description" value={description} onInput={(e) => setDescription(e.currentTarget.value)} problem={error?.field("description")} />
            {session.organizations.length > 1 && (
              <div class="field">
                <label for="organization">Organization</label>
                <select id="organization" value={organization} onChange={(e) => setOrganization(e.currentTarget.value)}>
                  {session.organizations.map((o) => (
                    <option key={o.id} value={o.id}>
                      {o.display_name || o.name}
                    </option>
                  ))}
                </select>
              </div>
            )}
          </>
        )}
      </Form>
      {version && <JobLogs path={`/api/v2/templateversions/${version}/logs`} />}
    </div>
  );
}
