// Settings of MCP servers: administrators set them up, users sign in to them.
//
// SPDX-License-Identifier: MIT
import { useState } from "preact/hooks";
import { api } from "../api";
import { ConnectButton, usableServers, useMcpServers } from "../chat/mcp";
import { MCP_SERVERS, type McpServer } from "../chat/types";
import { ActionButton, ConfirmButton, Dialog, Field, Form, ListState, Select, Table, useTitle } from "../ui";

const TRANSPORTS: [string, string][] = [
  ["streamable_http", "Streamable HTTP"],
  ["sse", "HTTP with server-sent events (older)"],
];
const AUTH: [string, string][] = [
  ["none", "None"],
  ["oauth2", "OAuth 2: each user signs in"],
  ["api_key", "An API key"],
  ["custom_headers", "Headers"],
];
const AVAILABILITY: [string, string][] = [
  ["default_off", "Off, users may turn it on"],
  ["default_on", "On, users may turn it off"],
  ["force_on", "Always on"],
];
const nameOf = (choices: [string, string][], value: string) => choices.find(([v]) => v === value)?.[1] ?? value;

const lines = (text: string) => text.split("\n").map((l) => l.trim()).filter(Boolean);
const slugOf = (name: string) => name.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "");

function Lines({ label, value, onInput, help }: { label: string; value: string; onInput: (value: string) => void; help: string }) {
  const id = `lines-${label.replace(/\W+/g, "-")}`;
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <textarea id={id} rows={3} value={value} onInput={(e) => onInput(e.currentTarget.value)} />
      <div class="help">{help}</div>
    </div>
  );
}

function Check({ label, checked, onChange }: { label: string; checked: boolean; onChange: (checked: boolean) => void }) {
  return (
    <div class="field">
      <label class="check">
        <input type="checkbox" checked={checked} onChange={(e) => onChange(e.currentTarget.checked)} /> {label}
      </label>
    </div>
  );
}

type Draft = Record<string, string>;

/** What is typed that only one way of signing in has; empty secrets stay as they are. */
function AuthFields({ server, auth, draft, set }: { server?: McpServer; auth: string; draft: Draft; set: (name: string) => (value: string) => void }) {
  const field = (name: string, label: string, help: string, type = "text") => (
    <Field key={name} label={label} type={type} autoComplete="off" value={draft[name] ?? ""} onInput={(e) => set(name)(e.currentTarget.value)} help={help} />
  );
  const kept = (has?: boolean) => (has ? "There is one; what is typed here takes its place." : "It is never shown again.");
  if (auth === "oauth2")
    return (
      <>
        <p class="help">{server ? "" : "Where client, authorization and token address are left empty, the server is asked for them, and this deployment registers there."}</p>
        {field("oauth2_client_id", "Client ID", "")}
        {field("oauth2_client_secret", "Client secret", kept(server?.has_oauth2_secret), "password")}
        {field("oauth2_auth_url", "Authorization URL", "", "url")}
        {field("oauth2_token_url", "Token URL", "", "url")}
        {field("oauth2_scopes", "Scopes", "Blanks between them.")}
      </>
    );
  if (auth === "api_key")
    return (
      <>
        {field("api_key_header", "Header", "")}
        {field("api_key_value", "Its value", kept(server?.has_api_key), "password")}
      </>
    );
  if (auth === "custom_headers") return <Lines label="Headers" value={draft.custom_headers ?? ""} onInput={set("custom_headers")} help={`One a line, as Name: value. ${kept(server?.has_custom_headers)}`} />;
  return null;
}

const KEPT = ["oauth2_client_id", "oauth2_auth_url", "oauth2_token_url", "oauth2_scopes", "api_key_header"] as const;
const OF_AUTH: Record<string, string[]> = {
  oauth2: ["oauth2_client_id", "oauth2_client_secret", "oauth2_auth_url", "oauth2_token_url", "oauth2_scopes"],
  api_key: ["api_key_header", "api_key_value"],
};

function ServerForm({ server, onDone }: { server?: McpServer; onDone: () => Promise<void> }) {
  const [name, setName] = useState(server?.display_name ?? "");
  const [slug, setSlug] = useState(server?.slug);
  const [description, setDescription] = useState(server?.description ?? "");
  const [url, setUrl] = useState(server?.url ?? "");
  const [transport, setTransport] = useState(server?.transport ?? "streamable_http");
  const [auth, setAuth] = useState(server?.auth_type ?? "none");
  const [availability, setAvailability] = useState(server?.availability ?? "default_off");
  const [allow, setAllow] = useState(server?.tool_allow_list.join("\n") ?? "");
  const [deny, setDeny] = useState(server?.tool_deny_list.join("\n") ?? "");
  const [intent, setIntent] = useState(server?.model_intent ?? false);
  const [enabled, setEnabled] = useState(server?.enabled ?? true);
  const [draft, setDraft] = useState<Draft>(() => Object.fromEntries(KEPT.map((k) => [k, server?.[k] ?? (k === "api_key_header" ? "Authorization" : "")])));
  const set = (field: string) => (value: string) => setDraft((old) => ({ ...old, [field]: value }));
  const save = async () => {
    const body: Record<string, unknown> = {
      display_name: name,
      slug: slug ?? slugOf(name),
      description,
      url,
      transport,
      auth_type: auth,
      availability,
      tool_allow_list: lines(allow),
      tool_deny_list: lines(deny),
      model_intent: intent,
      enabled,
    };
    for (const field of OF_AUTH[auth] ?? []) if (draft[field] !== undefined && (draft[field] !== "" || (server && server.auth_type === auth && !/secret|value/.test(field)))) body[field] = draft[field];
    const headers = lines(draft.custom_headers ?? "");
    if (auth === "custom_headers" && headers.length > 0) body.custom_headers = Object.fromEntries(headers.map((l) => [l.split(":")[0].trim(), l.split(":").slice(1).join(":").trim()]));
    if (server) await api.patch(`${MCP_SERVERS}/${server.id}`, body);
    else await api.post(MCP_SERVERS, body);
    await onDone();
  };
  return (
    <Form action={save} submit={server ? "Save" : "Add"} busy={server ? "Saving …" : "Asking the server …"} disabled={!name || !url}>
      {() => (
        <>
          <Field label="Name" value={name} autoFocus onInput={(e) => setName(e.currentTarget.value)} />
          <Field label="Slug" value={slug ?? slugOf(name)} onInput={(e) => setSlug(e.currentTarget.value)} help="Tools are called slug__tool." />
          <Field label="Description" value={description} onInput={(e) => setDescription(e.currentTarget.value)} />
          <Field label="URL" type="url" value={url} onInput={(e) => setUrl(e.currentTarget.value)} />
          <Select label="Transport" value={transport} choices={TRANSPORTS} onChange={setTransport} />
          <Select label="Signing in" value={auth} choices={AUTH} onChange={setAuth} />
          <AuthFields server={server?.auth_type === auth ? server : undefined} auth={auth} draft={draft} set={set} />
          <Select label="In new chats" value={availability} choices={AVAILABILITY} onChange={setAvailability} />
          <Lines label="Tools that are offered" value={allow} onInput={setAllow} help="One a line; empty: all but those below." />
          <Lines label="Tools that are not" value={deny} onInput={setDeny} help="One a line." />
          <Check label="The model says why it calls a tool, and users read that" checked={intent} onChange={setIntent} />
          <Check label="On" checked={enabled} onChange={setEnabled} />
        </>
      )}
    </Form>
  );
}

/** For administrators. */
export function McpServers() {
  useTitle("MCP servers");
  const servers = useMcpServers();
  const [open, setOpen] = useState<McpServer | "new">();
  const remove = (s: McpServer) => async () => {
    await api.delete(`${MCP_SERVERS}/${s.id}`);
    await servers.reload();
  };
  const turn = (s: McpServer) => async () => {
    await api.patch(`${MCP_SERVERS}/${s.id}`, { enabled: !s.enabled });
    await servers.reload();
  };
  return (
    <>
      <div class="head">
        <h1>MCP servers</h1>
        <button type="button" class="primary" onClick={() => setOpen("new")}>
          Add a server
        </button>
      </div>
      <p class="help">Servers of the Model Context Protocol: their tools are offered to models beside the workspace's.</p>
      <ListState error={servers.error} loaded={!!servers.data} empty={servers.data?.length === 0} text="There are no MCP servers." />
      {servers.data && servers.data.length > 0 && (
        <div class="scroll">
          <Table head={["Server", "URL", "Signing in", "In new chats", ""]}>
            {servers.data.map((s) => (
              <tr key={s.id}>
                <td>
                  {s.display_name} <span class="tag">{s.slug}</span> {!s.enabled && <span class="tag">off</span>}
                </td>
                <td>{s.url}</td>
                <td>{nameOf(AUTH, s.auth_type)}</td>
                <td>{nameOf(AVAILABILITY, s.availability)}</td>
                <td class="actions">
                  <ConnectButton server={s} reload={servers.reload} />
                  <button type="button" onClick={() => setOpen(s)}>
                    Change
                  </button>
                  <ActionButton action={turn(s)}>{s.enabled ? "Turn off" : "Turn on"}</ActionButton>
                  <ConfirmButton title={`Delete ${s.display_name}?`} text="Its tools are gone from all chats, and what users have signed in with is forgotten." yes="Delete" action={remove(s)}>
                    Delete
                  </ConfirmButton>
                </td>
              </tr>
            ))}
          </Table>
        </div>
      )}
      <Dialog title={open === "new" ? "A new MCP server" : "MCP server"} open={!!open} onClose={() => setOpen(undefined)}>
        {open && (
          <ServerForm
            server={open === "new" ? undefined : open}
            onDone={async () => {
              setOpen(undefined);
              await servers.reload();
            }}
          />
        )}
      </Dialog>
    </>
  );
}

/** For everybody: the servers that one signs in to. */
export function OwnMcpServers() {
  useTitle("Tools");
  const servers = useMcpServers();
  const usable = usableServers(servers.data);
  return (
    <>
      <h1>Tools</h1>
      <p class="help">Servers whose tools your chats may use. Which ones a chat uses is said where its messages are written.</p>
      <ListState error={servers.error} loaded={!!servers.data} empty={usable.length === 0} text="There are no servers with tools." />
      {usable.length > 0 && (
        <Table head={["Server", "What it does", "In new chats", ""]}>
          {usable.map((s) => (
            <tr key={s.id}>
              <td>{s.display_name}</td>
              <td>{s.description}</td>
              <td>{nameOf(AVAILABILITY, s.availability)}</td>
              <td class="actions">
                {s.auth_type === "oauth2" && <span class={`status ${s.auth_connected ? "good" : "idle"}`}>{s.auth_connected ? "connected" : "not connected"}</span>}
                <ConnectButton server={s} reload={servers.reload} />
              </td>
            </tr>
          ))}
        </Table>
      )}
    </>
  );
}
