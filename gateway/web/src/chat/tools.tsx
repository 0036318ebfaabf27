// What a model did with its tools: a line for each call, which opens to arguments, output and diffs.
//
// SPDX-License-Identifier: MIT
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { api } from "../api";
import { Code } from "./code";
import { DiffView } from "./diff";
import { Markdown } from "./markdown";
import { CHATS, type Part } from "./types";

type Values = Record<string, unknown>;

const asObject = (value: unknown): Values => (value && typeof value === "object" && !Array.isArray(value) ? (value as Values) : {});
const asText = (value: unknown): string => (typeof value === "string" ? value : value === undefined || value === null ? "" : JSON.stringify(value, null, 2));

/** Arguments that are still being written are no JSON yet. */
function argsOf(call: Part): Values {
  if (call.args !== undefined && call.args !== null) return asObject(call.args);
  try {
    return asObject(JSON.parse(call.args_delta ?? "{}"));
  } catch {
    return {};
  }
}

const TITLES: Record<string, (args: Values) => string> = {
  execute: (a) => asText(a.command),
  process_output: () => "Output of a process",
  process_list: () => "Processes",
  process_signal: (a) => `${asText(a.signal) || "Signal"} a process`,
  read_file: (a) => `Read ${asText(a.path)}`,
  write_file: (a) => `Write ${asText(a.path)}`,
  edit_files: (a) => `Edit ${filesOf(a).map((f) => asText(f.path)).join(", ")}`,
  list_templates: () => "List the templates",
  read_template: () => "Read a template",
  create_workspace: (a) => `Create a workspace ${asText(a.name)}`,
  start_workspace: () => "Start the workspace",
  propose_plan: (a) => `Plan ${asText(a.path)}`,
  spawn_agent: (a) => `Subagent: ${asText(a.title) || asText(a.prompt).slice(0, 60)}`,
  spawn_computer_use_agent: (a) => `Subagent with a desktop: ${asText(a.title)}`,
  wait_agent: () => "Wait for a subagent",
  message_agent: () => "Tell a subagent",
  close_agent: () => "Close a subagent",
  read_skill: (a) => `Skill ${asText(a.name)}`,
  read_skill_file: (a) => `Skill ${asText(a.name)}: ${asText(a.path)}`,
  chat_summarized: () => "The chat was summarized",
};

const filesOf = (args: Values): Values[] => (Array.isArray(args.files) ? args.files.map(asObject) : []);

function editsOf(args: Values): { path: string; before: string; after: string }[] {
  return filesOf(args).flatMap((f) => (Array.isArray(f.edits) ? f.edits.map(asObject) : []).map((e) => ({ path: asText(f.path), before: asText(e.search), after: asText(e.replace) })));
}

function Output({ text }: { text: string }) {
  return text ? <pre class="log">{text}</pre> : null;
}

/** A picture or a sound that a tool gave. */
function Media({ result }: { result: Part }) {
  const out = asObject(result.result);
  const type = asText(out.mime_type);
  const source = `data:${type};base64,${asText(out.data)}`;
  return (
    <>
      {!!out.text && <Output text={asText(out.text)} />}
      {/^image\/(png|jpeg|gif|webp)$/.test(type) ? <img class="tool-media" src={source} alt="What the tool gave" /> : /^audio\//.test(type) ? <audio controls src={source} /> : <p class="help">{type}</p>}
    </>
  );
}

function Plain({ call, result }: { call: Part; result?: Part }) {
  const said = argsOf(call);
  const args = call.mcp_server_config_id && said.model_intent !== undefined ? asObject(said.properties) : said;
  return (
    <>
      {Object.keys(args).length > 0 ? <Code text={JSON.stringify(args, null, 2)} language="json" /> : call.args_delta && <Output text={call.args_delta} />}
      {result?.is_media ? <Media result={result} /> : result && <Code text={asText(result.result ?? result.result_delta)} language={typeof result.result === "string" ? "" : "json"} />}
    </>
  );
}

function Executed({ call, result }: { call: Part; result?: Part }) {
  const out = asObject(result?.result);
  return (
    <>
      <Code text={asText(argsOf(call).command)} language="sh" />
      <Output text={result?.result === undefined ? (result?.result_delta ?? "") : asText(out.output)} />
      {!!out.error && <p class="problem">{asText(out.error)}</p>}
      <p class="help">
        {out.exit_code !== undefined && `exit code ${asText(out.exit_code)}`}
        {typeof out.wall_duration_ms === "number" && ` · ${(out.wall_duration_ms / 1000).toFixed(1)} s`}
        {!!out.background_process_id && ` · goes on in the background as ${asText(out.background_process_id)}`}
        {!!out.truncated && " · shortened"}
        {!!out.note && ` · ${asText(out.note)}`}
      </p>
    </>
  );
}

function Failure({ result }: { result?: Part }) {
  const out = asObject(result?.result);
  if (!result?.is_error && !out.error) return null;
  return <p class="problem">{asText(out.error ?? result?.result) || "The tool failed."}</p>;
}

function Subagent({ call, result }: { call: Part; result?: Part }) {
  const out = asObject(result?.result);
  const chat = asText(out.chat_id ?? argsOf(call).chat_id);
  const said = asText(argsOf(call).prompt ?? argsOf(call).message);
  return (
    <>
      {said && <p class="as-is">{said}</p>}
      {chat && (
        <p>
          <Link href={`/agents/${chat}`}>{asText(out.title) || "Open the subagent"}</Link> {asText(out.status)}
        </p>
      )}
      {!!out.report && <Output text={asText(out.report)} />}
      <Failure result={result} />
    </>
  );
}

/** A plan, as it was when it was shown. */
function Plan({ result }: { result?: Part }) {
  const file = asText(asObject(result?.result).file_id);
  const [plan, setPlan] = useState<string>();
  const [missing, setMissing] = useState(false);
  useEffect(() => {
    if (!/^[0-9a-f-]{36}$/.test(file)) return;
    let gone = false;
    api
      .blob(`${CHATS}/files/${file}`)
      .then((blob) => blob.text())
      .then((text) => !gone && setPlan(text))
      .catch(() => !gone && setMissing(true));
    return () => {
      gone = true;
    };
  }, [file]);
  return (
    <>
      {plan !== undefined && <Markdown text={plan} />}
      {missing && <p class="quiet">The plan is kept no longer.</p>}
      <Failure result={result} />
    </>
  );
}

function Skill({ result }: { result?: Part }) {
  const out = asObject(result?.result);
  const files = Array.isArray(out.files) ? out.files.map(asText) : [];
  return (
    <>
      {out.body !== undefined && <Markdown text={asText(out.body)} />}
      {out.content !== undefined && <Output text={asText(out.content)} />}
      {files.length > 0 && <p class="help">{files.join(", ")}</p>}
      <Failure result={result} />
    </>
  );
}

function body(call: Part, result?: Part): ComponentChildren {
  const args = argsOf(call);
  switch (call.tool_name) {
    case "execute":
    case "process_output":
      return <Executed call={call} result={result} />;
    case "read_file":
      return (
        <>
          <Output text={asText(asObject(result?.result).content)} />
          <Failure result={result} />
        </>
      );
    case "write_file":
      return (
        <>
          <DiffView before="" after={asText(args.content)} />
          <Failure result={result} />
        </>
      );
    case "edit_files":
      return (
        <>
          {editsOf(args).map((e, i) => (
            <div key={i}>
              <div class="quiet">{e.path}</div>
              <DiffView before={e.before} after={e.after} />
            </div>
          ))}
          <Failure result={result} />
        </>
      );
    case "propose_plan":
      return <Plan result={result} />;
    case "read_skill":
    case "read_skill_file":
      return <Skill result={result} />;
    case "spawn_agent":
    case "spawn_computer_use_agent":
    case "wait_agent":
    case "message_agent":
    case "close_agent":
      return <Subagent call={call} result={result} />;
    default:
      return <Plain call={call} result={result} />;
  }
}

function failed(result?: Part): boolean {
  const out = asObject(result?.result);
  return !!result?.is_error || out.success === false || (typeof out.exit_code === "number" && out.exit_code !== 0);
}

export function ToolCard({ call, result, running }: { call: Part; result?: Part; running: boolean }) {
  const args = argsOf(call);
  const name = call.tool_name ?? "tool";
  const state = result && result.result_delta === undefined ? (failed(result) ? "bad" : "good") : running ? "busy" : "idle";
  const label = { bad: "failed", good: "done", busy: "running", idle: "no result" }[state];
  return (
    <details class="tool" data-tool={name} data-state={label} open={name === "edit_files" || name === "write_file" || name === "propose_plan"}>
      <summary>
        <span class={`status ${state}`} title={label} aria-label={label} />
        <span class="tool-title">{asText(args.model_intent) || TITLES[name]?.(args).trim() || name.replace("__", ": ")}</span>
      </summary>
      {body(call, result)}
    </details>
  );
}
