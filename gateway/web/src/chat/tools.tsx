// What a model did with its tools: a line for each call, which opens to arguments, output and diffs.
//
// SPDX-License-Identifier: MIT
import type { ComponentChildren } from "preact";
import { DiffView } from "./diff";
import { Executed, Failure, Media, Output, Plain, Plan, Processes, Said, Skill, Subagent, Summary } from "./toolbodies";
import { onScreen } from "./toolscreen";
import { type Values, argsOf, asObject, asText, editsOf, filesOf } from "./toolvalues";
import { Started, Template, TemplateList } from "./toolworkspace";
import type { Part } from "./types";

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
  computer: onScreen,
  wait_agent: () => "Wait for a subagent",
  message_agent: () => "Tell a subagent",
  close_agent: () => "Close a subagent",
  read_skill: (a) => `Skill ${asText(a.name)}`,
  read_skill_file: (a) => `Skill ${asText(a.name)}: ${asText(a.path)}`,
  chat_summarized: () => "The chat was summarized",
};

function body(call: Part, result: Part | undefined, running: boolean): ComponentChildren {
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
    case "create_workspace":
    case "start_workspace":
      return <Started result={result} running={running} />;
    case "list_templates":
      return <TemplateList result={result} />;
    case "read_template":
      return <Template result={result} />;
    case "process_list":
      return <Processes result={result} />;
    case "process_signal":
      return <Said result={result} />;
    case "chat_summarized":
      return <Summary result={result} />;
    case "propose_plan":
      return <Plan result={result} />;
    case "read_skill":
    case "read_skill_file":
      return <Skill result={result} />;
    case "computer":
      return result?.is_media ? <Media result={result} /> : <Plain call={call} result={result} />;
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

/** What is read as it is, without being opened. */
const OPEN = new Set(["edit_files", "write_file", "propose_plan", "computer"]);
/** What is open while it goes on. */
const OPEN_MEANWHILE = new Set(["execute", "process_output", "create_workspace", "start_workspace"]);

export function ToolCard({ call, result, running }: { call: Part; result?: Part; running: boolean }) {
  const args = argsOf(call);
  const name = call.tool_name ?? "tool";
  const state = result && result.result_delta === undefined ? (failed(result) ? "bad" : "good") : running ? "busy" : "idle";
  const label = { bad: "failed", good: "done", busy: "running", idle: "no result" }[state];
  return (
    <details class={name === "chat_summarized" ? "tool summary-mark" : "tool"} data-tool={name} data-state={label} open={OPEN.has(name) || (state === "busy" && OPEN_MEANWHILE.has(name))}>
      <summary>
        <span class={`status ${state}`} title={label} aria-label={label} />
        <span class="tool-title">{asText(args.model_intent) || TITLES[name]?.(args).trim() || name.replace("__", ": ")}</span>
      </summary>
      {body(call, result, running)}
    </details>
  );
}
