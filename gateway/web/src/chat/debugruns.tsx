// Debug runs of a chat: what models were asked and answered, step by step, with tokens, times and failed attempts.
//
// SPDX-License-Identifier: MIT
import { useEffect, useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { formatSpan } from "../charts";
import { useApi } from "../live";
import { Ago, Empty, ErrorBox, Loading } from "../ui";
import { Code, CopyButton, Scrolled } from "./code";
import { CHATS, type Chat, type Part, type Usage, count } from "./types";

type RunStatus = "in_progress" | "completed" | "error" | "interrupted";

interface Timed {
  status: RunStatus;
  started_at: string;
  finished_at?: string;
}

interface DebugRun extends Timed {
  id: string;
  kind: string;
  provider?: string;
  model?: string;
  summary: { steps?: number; failed_attempts?: number; input_tokens?: number; output_tokens?: number };
}

interface DebugMessage {
  id?: number;
  role: string;
  content?: Part[];
}

interface Attempt {
  number: number;
  kind?: string;
  message?: string;
  status_code?: number;
  delay_ms?: number;
  retryable?: boolean;
}

interface DebugStep extends Timed {
  id: string;
  step_number: number;
  operation: string;
  normalized_request: { messages?: DebugMessage[]; tools?: unknown[]; options?: unknown };
  normalized_response?: { content?: Part[]; finish_reason?: string };
  usage?: Usage & { reasoning_tokens?: number };
  attempts: Attempt[];
  error?: Attempt;
}

interface DebugConfig {
  debug_logging_enabled: boolean;
  user_toggle_allowed: boolean;
  forced_by_deployment: boolean;
}

const KINDS: Record<string, string> = { chat_turn: "Turn", title_generation: "Title", quickgen: "Short text", compaction: "Summary" };
const TONES: Record<RunStatus, string> = { in_progress: "busy", completed: "good", error: "bad", interrupted: "idle" };
const WORDS: Record<RunStatus, string> = { in_progress: "goes on", completed: "done", error: "failed", interrupted: "interrupted" };
const REFRESH_MS = 3000;

export const useDebugConfig = () => useApi<DebugConfig>(`${CHATS}/config/user-debug-logging`);

function tookMs({ started_at, finished_at }: Timed): number | undefined {
  return finished_at ? Math.max(0, new Date(finished_at).getTime() - new Date(started_at).getTime()) : undefined;
}

function Took({ of }: { of: Timed }) {
  const ms = tookMs(of);
  return <span class="quiet">{ms === undefined ? "" : ms < 10_000 ? `${(ms / 1000).toFixed(1)} s` : formatSpan(ms / 1000)}</span>;
}

function State({ status }: { status: RunStatus }) {
  return <span class={`status ${TONES[status]}`}>{WORDS[status]}</span>;
}

function PartOf({ part }: { part: Part }) {
  if (part.type === "text" || part.type === "reasoning")
    return (
      <>
        {part.type === "reasoning" && <div class="quiet">thought</div>}
        <Scrolled class="log" label={part.type === "reasoning" ? "What was thought" : "What was said"}>
          {part.text}
        </Scrolled>
      </>
    );
  return <Code text={JSON.stringify(part, null, 2)} language="json" />;
}

const beginning = (parts: Part[] = []) => {
  const said = parts.map((p) => p.text ?? (p.tool_name ? `${p.type} ${p.tool_name}` : p.type)).join(" · ");
  return said.length > 90 ? `${said.slice(0, 90)} …` : said;
};

function Message({ message, open = false }: { message: DebugMessage; open?: boolean }) {
  return (
    <details class="tool" open={open}>
      <summary>
        <span class="tag">{message.role}</span> <span class="tool-title">{beginning(message.content)}</span>
      </summary>
      {(message.content ?? []).map((part, i) => (
        <PartOf key={i} part={part} />
      ))}
    </details>
  );
}

/** What is long and seldom read is written when it is opened. */
function Folded({ title, value }: { title: string; value: unknown }) {
  const [open, setOpen] = useState(false);
  return (
    <details class="tool" onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary>
        <span class="tool-title">{title}</span>
      </summary>
      {open && <Code text={JSON.stringify(value, null, 2)} language="json" />}
    </details>
  );
}

function Attempts({ attempts }: { attempts: Attempt[] }) {
  if (attempts.length === 0) return null;
  return (
    <ul class="attempts">
      {attempts.map((a) => (
        <li key={a.number}>
          <span class="problem">
            Attempt {a.number}: {[a.kind?.replace(/_/g, " "), a.status_code && `status ${a.status_code}`].filter(Boolean).join(", ")}
          </span>
          {a.delay_ms !== undefined && <span class="quiet"> tried again after {(a.delay_ms / 1000).toFixed(1)} s</span>}
          {a.message && (
            <Scrolled class="log" label="What was answered">
              {a.message}
            </Scrolled>
          )}
        </li>
      ))}
    </ul>
  );
}

const USED: [key: keyof NonNullable<DebugStep["usage"]>, name: string][] = [
  ["input_tokens", "read"],
  ["cache_read_tokens", "from the cache"],
  ["cache_creation_tokens", "to the cache"],
  ["output_tokens", "written"],
  ["reasoning_tokens", "thought"],
];

function Step({ step, open }: { step: DebugStep; open: boolean }) {
  const { messages = [], tools = [], options } = step.normalized_request;
  const used = USED.filter(([key]) => step.usage?.[key]).map(([key, name]) => `${count(step.usage![key]!)} ${name}`);
  return (
    <details class="tool debug-step" open={open} data-step={step.step_number}>
      <summary>
        <span class="tool-title">Step {step.step_number}</span> <State status={step.status} /> <Took of={step} />
        {step.attempts.length > 0 && <span class="tag warn">{step.attempts.length} failed</span>}
      </summary>
      {used.length > 0 && <p class="help">Tokens: {used.join(", ")}.</p>}
      <Attempts attempts={step.attempts} />
      <h2>Asked</h2>
      {messages.length > 3 && <Earlier messages={messages.slice(0, -3)} />}
      {messages.slice(-3).map((m, i) => (
        <Message key={m.id ?? i} message={m} />
      ))}
      {tools.length > 0 && <Folded title={`${tools.length} tools`} value={tools} />}
      {options !== undefined && options !== null && <Folded title="Options" value={options} />}
      {step.normalized_response && (
        <>
          <h2>
            Answered {step.normalized_response.finish_reason && <span class="tag">{step.normalized_response.finish_reason.replace(/_/g, " ")}</span>}
          </h2>
          {(step.normalized_response.content ?? []).map((part, i) => (
            <PartOf key={i} part={part} />
          ))}
        </>
      )}
      <CopyButton text={JSON.stringify(step, null, 2)}>Copy the step</CopyButton>
    </details>
  );
}

function Earlier({ messages }: { messages: DebugMessage[] }) {
  const [open, setOpen] = useState(false);
  if (!open)
    return (
      <button type="button" class="plain small" onClick={() => setOpen(true)}>
        {messages.length} earlier messages
      </button>
    );
  return (
    <>
      {messages.map((m, i) => (
        <Message key={m.id ?? i} message={m} />
      ))}
    </>
  );
}

function Steps({ chat, run }: { chat: string; run: DebugRun }) {
  const { data, error, reload } = useApi<DebugRun & { steps: DebugStep[] }>(`${CHATS}/${chat}/debug/runs/${run.id}`, run.status === "in_progress" ? REFRESH_MS : 0);
  useEffect(() => void reload(), [reload, run.status]);
  if (error) return <ErrorBox error={error} />;
  if (!data) return <Loading />;
  if (data.steps.length === 0) return <p class="quiet">Nothing was asked.</p>;
  return (
    <>
      {data.steps.map((s) => (
        <Step key={s.id} step={s} open={data.steps.length === 1} />
      ))}
    </>
  );
}

function Run({ chat, run }: { chat: string; run: DebugRun }) {
  const [open, setOpen] = useState(false);
  const { steps = 0, failed_attempts = 0, input_tokens = 0, output_tokens = 0 } = run.summary;
  return (
    <details class="tool debug-run" data-kind={run.kind} onToggle={(e) => e.currentTarget === e.target && setOpen(e.currentTarget.open)}>
      <summary>
        <span class="tool-title">{KINDS[run.kind] ?? run.kind}</span> <State status={run.status} /> <span class="quiet">{run.model}</span> <Took of={run} />
        <div class="help">
          <Ago time={run.started_at} />
          {steps > 0 && ` · ${steps === 1 ? "a step" : `${steps} steps`} · ${count(input_tokens)} tokens read, ${count(output_tokens)} written`}
          {failed_attempts > 0 && <span class="problem"> · {failed_attempts} failed</span>}
        </div>
      </summary>
      {open && <Steps chat={chat} run={run} />}
    </details>
  );
}

function Off({ config }: { config?: DebugConfig }) {
  if (!config || config.debug_logging_enabled) return <Empty>Nothing was asked of a model since it is written down.</Empty>;
  return (
    <Empty>
      What models are asked is not written down.{" "}
      {config.user_toggle_allowed ? (
        <>
          <Link href="/agents/settings/behavior">Turn it on</Link> for your chats.
        </>
      ) : (
        "An administrator may allow it."
      )}
    </Empty>
  );
}

export function DebugRuns({ chat }: { chat: Chat }) {
  const config = useDebugConfig();
  const runs = useApi<DebugRun[]>(`${CHATS}/${chat.id}/debug/runs`, REFRESH_MS);
  const { reload } = runs;
  useEffect(() => void reload(), [reload, chat.status]);
  if (!runs.data) return runs.error ? <ErrorBox error={runs.error} /> : <Loading />;
  return (
    <>
      {runs.data.length === 0 && <Off config={config.data} />}
      {runs.data.map((run) => (
        <Run key={run.id} chat={chat.id} run={run} />
      ))}
      {runs.data.length > 0 && <p class="help">The latest hundred; keys of providers are blotted out.</p>}
    </>
  );
}
