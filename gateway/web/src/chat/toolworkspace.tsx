// Tools that look for templates, and make and start workspaces: the build as it goes on.
//
// SPDX-License-Identifier: MIT
import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { Link } from "wouter-preact";
import { useApi } from "../live";
import { JobLogs } from "../logs";
import { Failure, Output } from "./toolbodies";
import { asObject, asText, isId } from "./toolvalues";
import { CHATS, type Chat, type Part } from "./types";

/** The id of the chat that is shown. */
export const OpenChatId = createContext("");

/** The build that a tool waits for is the chat's. */
function useBuild(stored: string, running: boolean): string {
  const chat = useContext(OpenChatId);
  const { data } = useApi<Chat>(running && !stored && chat ? `${CHATS}/${chat}` : undefined, 2000);
  return stored || (running ? (data?.build_id ?? "") : "");
}

export function Started({ result, running }: { result?: Part; running: boolean }) {
  const out = asObject(result?.result);
  const build = useBuild(asText(out.build_id), running && !result);
  return (
    <>
      {!!out.workspace_name && (
        <p>
          <Link href={`/@me/${asText(out.workspace_name)}`}>{asText(out.workspace_name)}</Link> {!!out.status && <span class="tag">{asText(out.status)}</span>}{" "}
          {!!out.startup_scripts && <span class="tag">scripts: {asText(out.startup_scripts)}</span>}
        </p>
      )}
      {!!out.message && <p>{asText(out.message)}</p>}
      {isId(build) && <JobLogs path={`/api/v2/workspacebuilds/${build}/logs`} />}
      {!!out.agent_error && <p class="problem">{asText(out.agent_error)}</p>}
      <Failure result={result} />
    </>
  );
}

export function TemplateList({ result }: { result?: Part }) {
  const { templates, total_count } = asObject(result?.result);
  const all = Array.isArray(templates) ? templates.map(asObject) : [];
  return (
    <>
      <ul class="context-list">
        {all.map((t, i) => (
          <li key={i}>
            <strong>{asText(t.display_name) || asText(t.name)}</strong> {asText(t.description)}
          </li>
        ))}
      </ul>
      {typeof total_count === "number" && total_count > all.length && <p class="help">{total_count} in all.</p>}
      {result && all.length === 0 && <p class="quiet">None was found.</p>}
      <Failure result={result} />
    </>
  );
}

export function Template({ result }: { result?: Part }) {
  const out = asObject(result?.result);
  const template = asObject(out.template);
  const parameters = Array.isArray(out.parameters) ? out.parameters.map(asObject) : [];
  return (
    <>
      <p>
        <strong>{asText(template.display_name) || asText(template.name)}</strong> {asText(template.description)}
      </p>
      {!!template.readme && <Output text={asText(template.readme)} />}
      <ul class="context-list">
        {parameters.map((p, i) => (
          <li key={i}>
            <code>{asText(p.name)}</code> {asText(p.description)} {p.default_value !== undefined && <span class="tag">{asText(p.default_value) || "(empty)"}</span>}
          </li>
        ))}
      </ul>
      <Failure result={result} />
    </>
  );
}
