// What the cards of tools show when they are open.
//
// SPDX-License-Identifier: MIT
import { useEffect, useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { api } from "../api";
import { Code, Scrolled } from "./code";
import { useList } from "./list";
import { Markdown } from "./markdown";
import { statusTone, statusWord } from "./status";
import { Look, Recording } from "./toolscreen";
import { type Values, argsOf, asObject, asText, isId } from "./toolvalues";
import { CHATS, type Part, count } from "./types";

export function Output({ text }: { text: string }) {
  return text ? (
    <Scrolled class="log" label="Output">
      {text}
    </Scrolled>
  ) : null;
}

/** A picture or a sound that a tool gave. */
export function Media({ result }: { result: Part }) {
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

export function Plain({ call, result }: { call: Part; result?: Part }) {
  const said = argsOf(call);
  const args = call.mcp_server_config_id && said.model_intent !== undefined ? asObject(said.properties) : said;
  return (
    <>
      {Object.keys(args).length > 0 ? <Code text={JSON.stringify(args, null, 2)} language="json" /> : call.args_delta && <Output text={call.args_delta} />}
      {result?.is_media ? <Media result={result} /> : result && <Code text={asText(result.result ?? result.result_delta)} language={typeof result.result === "string" ? "" : "json"} />}
    </>
  );
}

export function Executed({ call, result }: { call: Part; result?: Part }) {
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

export function Failure({ result }: { result?: Part }) {
  const out = asObject(result?.result);
  if (!result?.is_error && !out.error) return null;
  return <p class="problem">{asText(out.error ?? result?.result) || "The tool failed."}</p>;
}

/** A chat below this one: what it was told, where it is, what it reported. */
export function Subagent({ call, result }: { call: Part; result?: Part }) {
  const out = asObject(result?.result);
  const chat = asText(out.chat_id ?? argsOf(call).chat_id);
  const said = asText(argsOf(call).prompt ?? argsOf(call).message);
  // What it does now is in the list; what it did then was said by the tool.
  const now = useList().chats?.find((c) => c.id === chat);
  return (
    <>
      {said && <p class="as-is">{said}</p>}
      {isId(chat) && (
        <p>
          <Link href={`/agents/${chat}`}>{now?.title || asText(out.title) || "Open the subagent"}</Link>{" "}
          {now ? (
            <span class={`status ${statusTone(now.status)}`} data-status={now.status}>
              {statusWord(now.status)}
            </span>
          ) : (
            <span class="tag">{asText(out.status)}</span>
          )}
        </p>
      )}
      {call.tool_name === "spawn_computer_use_agent" && <Look chat={chat} />}
      {!!out.report && (
        <div class="report">
          <Markdown text={asText(out.report)} />
        </div>
      )}
      <Recording file={asText(out.recording_file_id)} poster={asText(out.thumbnail_file_id)} />
      <Failure result={result} />
    </>
  );
}

/** A plan, as it was when it was shown. */
export function Plan({ result }: { result?: Part }) {
  const file = asText(asObject(result?.result).file_id);
  const [plan, setPlan] = useState<string>();
  const [missing, setMissing] = useState(false);
  useEffect(() => {
    if (!isId(file)) return;
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

export function Skill({ result }: { result?: Part }) {
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

/** The processes that were begun in the workspace. */
export function Processes({ result }: { result?: Part }) {
  const { processes } = asObject(result?.result);
  const all: Values[] = Array.isArray(processes) ? processes.map(asObject) : [];
  return (
    <>
      {result && !result.is_error && all.length === 0 && <p class="quiet">There are none.</p>}
      <ul class="context-list">
        {all.map((p, i) => (
          <li key={i}>
            <code>{asText(p.command)}</code> <span class="tag">{p.running ? "running" : `exit code ${asText(p.exit_code)}`}</span>
          </li>
        ))}
      </ul>
      <Failure result={result} />
    </>
  );
}

/** A call of a tool that answers with words about how it went. */
export function Said({ result }: { result?: Part }) {
  const out = asObject(result?.result);
  return (
    <>
      {!!out.message && <p>{asText(out.message)}</p>}
      <Failure result={result} />
    </>
  );
}

const number = (n: unknown) => (typeof n === "number" ? count(n) : "");

/** Where the chat was summarized: what the model still knows of what was said before. */
export function Summary({ result }: { result?: Part }) {
  const out = asObject(result?.result);
  return (
    <>
      <p class="help">
        {typeof out.usage_percent === "number" && `${Math.round(out.usage_percent)} % of the context was full`}
        {!!number(out.context_tokens) && ` (${number(out.context_tokens)} of ${number(out.context_limit_tokens)} tokens)`}
        {typeof out.threshold_percent === "number" && `; it is summarized at ${out.threshold_percent} %`}. The model goes on from this:
      </p>
      <Markdown text={asText(out.summary)} />
    </>
  );
}
