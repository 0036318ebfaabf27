// Applications that sign users in with this server (OAuth2).
//
// SPDX-License-Identifier: MIT
import { useState } from "preact/hooks";
import { Link, useLocation, useParams } from "wouter-preact";
import { api } from "../api";
import { useApi } from "../live";
import type { OAuth2App } from "../types";
import { ActionButton, Ago, ConfirmButton, CopyText, Dialog, ErrorBox, Field, Form, ListState, Loading, Table, useTitle } from "../ui";

const LIST = "/deployment/oauth2-provider/apps";
const BASE = "/api/v2/oauth2-provider/apps";

function AppForm({ app, onSave, submit }: { app?: OAuth2App; onSave: (body: { name: string; callback_url: string; icon: string }) => Promise<void>; submit: string }) {
  const [name, setName] = useState(app?.name ?? "");
  const [callback, setCallback] = useState(app?.callback_url ?? "");
  const [icon, setIcon] = useState(app?.icon ?? "");
  return (
    <Form action={() => onSave({ name, callback_url: callback, icon })} submit={submit}>
      {(error) => (
        <>
          <Field label="Name" autoFocus value={name} onInput={(e) => setName(e.currentTarget.value)} problem={error?.field("name")} />
          <Field label="Callback URL" type="url" value={callback} onInput={(e) => setCallback(e.currentTarget.value)} problem={error?.field("callback_url")} />
          <Field label="Icon" value={icon} onInput={(e) => setIcon(e.currentTarget.value)} problem={error?.field("icon")} help="An address of a picture; optional." />
        </>
      )}
    </Form>
  );
}

export function OAuth2Apps() {
  useTitle("OAuth2 apps");
  const [, navigate] = useLocation();
  const apps = useApi<OAuth2App[]>(BASE);
  const [adding, setAdding] = useState(false);
  const create = async (body: object) => navigate(`${LIST}/${(await api.post<OAuth2App>(BASE, body)).id}`);
  return (
    <>
      <div class="head">
        <h1>OAuth2 apps</h1>
        <button type="button" class="primary" onClick={() => setAdding(true)}>
          New application
        </button>
      </div>
      <ListState error={apps.error} loaded={!!apps.data} empty={apps.data?.length === 0} text="No application signs users in with this server." />
      {apps.data && apps.data.length > 0 && (
        <Table head={["Name", "Callback URL"]}>
          {apps.data.map((app) => (
            <tr key={app.id}>
              <td>
                <Link href={`${LIST}/${app.id}`}>{app.name}</Link>
              </td>
              <td>
                <code>{app.callback_url}</code>
              </td>
            </tr>
          ))}
        </Table>
      )}
      <Dialog title="New application" open={adding} onClose={() => setAdding(false)}>
        <AppForm onSave={create} submit="Create application" />
      </Dialog>
    </>
  );
}

function Secrets({ app }: { app: OAuth2App }) {
  const path = `${BASE}/${app.id}/secrets`;
  const secrets = useApi<{ id: string; last_used_at: string | null; client_secret_truncated: string }[]>(path);
  const [fresh, setFresh] = useState<string>();
  const create = async () => {
    setFresh((await api.post<{ client_secret_full: string }>(path)).client_secret_full);
    await secrets.reload();
  };
  const remove = (id: string) => async () => {
    await api.delete(`${path}/${id}`);
    await secrets.reload();
  };
  return (
    <>
      <div class="head">
        <h2>Client secrets</h2>
        <ActionButton action={create}>New secret</ActionButton>
      </div>
      {fresh && (
        <>
          <p>This is the only time that the secret is shown.</p>
          <CopyText text={fresh} />
        </>
      )}
      <ListState error={secrets.error} loaded={!!secrets.data} empty={secrets.data?.length === 0} text="There is no secret yet." />
      {secrets.data && secrets.data.length > 0 && (
        <Table head={["Secret", "Last used", ""]}>
          {secrets.data.map((s) => (
            <tr key={s.id}>
              <td>
                <code>…{s.client_secret_truncated}</code>
              </td>
              <td>
                <Ago time={s.last_used_at ?? undefined} />
              </td>
              <td>
                <ConfirmButton title="Delete the secret?" text="Tokens that it gave end at once." yes="Delete the secret" action={remove(s.id)}>
                  Delete
                </ConfirmButton>
              </td>
            </tr>
          ))}
        </Table>
      )}
    </>
  );
}

export function OAuth2AppPage() {
  const { app: id } = useParams<{ app: string }>();
  const [, navigate] = useLocation();
  const loaded = useApi<OAuth2App>(`${BASE}/${id}`);
  const app = loaded.data;
  useTitle(app?.name ?? "OAuth2 app");
  if (!app) return loaded.error ? <ErrorBox error={loaded.error} /> : <Loading />;
  const save = async (body: object) => loaded.set(await api.put<OAuth2App>(`${BASE}/${id}`, body));
  const drop = async () => {
    await api.delete(`${BASE}/${id}`);
    navigate(LIST);
  };
  return (
    <>
      <div class="head">
        <h1>{app.name}</h1>
        <ConfirmButton title={`Delete ${app.name}?`} text="Its secrets and the tokens of all users end at once." yes="Delete the application" action={drop}>
          Delete
        </ConfirmButton>
      </div>
      <dl class="facts">
        <dt>Client id</dt>
        <dd>
          <CopyText text={app.id} />
        </dd>
        <dt>Authorization endpoint</dt>
        <dd>
          <CopyText text={app.endpoints.authorization} />
        </dd>
        <dt>Token endpoint</dt>
        <dd>
          <CopyText text={app.endpoints.token} />
        </dd>
      </dl>
      <Secrets app={app} />
      <div class="form-page">
        <h2>Settings</h2>
        <AppForm key={app.id} app={app} onSave={save} submit="Save" />
      </div>
    </>
  );
}
