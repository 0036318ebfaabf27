// What was said in a chat: messages, the answer that is being written, and what went wrong.
//
// SPDX-License-Identifier: MIT
import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { ActionButton } from "../ui";
import { CopyButton, Scrolled } from "./code";
import { linesOf } from "./comments";
import { FilePart } from "./filepart";
import { Markdown } from "./markdown";
import type { ChatStream } from "./stream";
import { ToolCard } from "./tools";
import { type ChatMessage, type Part, type Retry, type StreamError, isBusy, isContext } from "./types";

export const textOf = (parts: Part[] = []) => parts.filter((p) => p.type === "text").map((p) => p.text ?? "").join("\n");

function PartView({ part, results, running, live }: { part: Part; results: Map<string, Part>; running: boolean; live: boolean }) {
  switch (part.type) {
    case "text":
      return <Markdown text={part.text ?? ""} />;
    case "reasoning":
      return part.text ? (
        <details class="reasoning" open={live}>
          <summary>{live ? "Thinking …" : "Thoughts"}</summary>
          <Markdown text={part.text} />
        </details>
      ) : null;
    case "tool-call":
      return <ToolCard call={part} result={results.get(part.tool_call_id ?? "")} running={running} />;
    case "source":
      return (
        <a class="tag" href={/^https?:/.test(part.url ?? "") ? part.url : undefined} target="_blank" rel="noopener noreferrer nofollow">
          {part.title || part.url}
        </a>
      );
    case "file":
      return <FilePart part={part} />;
    case "file-reference":
      return (
        <details class="tool">
          <summary>
            {part.file_name}
            {linesOf(part)}
          </summary>
          <Scrolled class="log" label={part.file_name ?? "Lines of a file"}>
            {part.content}
          </Scrolled>
        </details>
      );
    case "context-file":
      return <span class="tag">{part.context_file_path}</span>;
    case "skill":
      return <span class="tag">skill {part.skill_name}</span>;
    default:
      return null;
  }
}

function UserMessage({ message, onEdit }: { message: ChatMessage; onEdit?: (message: ChatMessage) => void }) {
  return (
    <article class="said user" aria-label="You">
      {(message.content ?? []).map((part, i) => (part.type === "text" ? <p key={i} class="as-is">{part.text}</p> : <PartView key={i} part={part} results={NONE} running={false} live={false} />))}
      <div class="said-actions">
        <CopyButton text={textOf(message.content)} />
        {onEdit && (
          <button type="button" class="plain small" onClick={() => onEdit(message)}>
            Edit
          </button>
        )}
      </div>
    </article>
  );
}

/** What the workspace told the model: people see its names. */
function ContextMessage({ message }: { message: ChatMessage }) {
  const parts = message.content ?? [];
  const files = parts.filter((p) => p.type === "context-file").length;
  const skills = parts.length - files;
  return (
    <details class="tool from-workspace">
      <summary>
        <span class="tool-title">From the workspace: {[files && `${files} instruction file${files > 1 ? "s" : ""}`, skills && `${skills} skill${skills > 1 ? "s" : ""}`].filter(Boolean).join(", ")}</span>
      </summary>
      {parts.map((part, i) => (
        <PartView key={i} part={part} results={NONE} running={false} live={false} />
      ))}
    </details>
  );
}

const NONE = new Map<string, Part>();

function AssistantMessage({ parts, results, running, live }: { parts: Part[]; results: Map<string, Part>; running: boolean; live: boolean }) {
  const text = textOf(parts);
  return (
    <article class="said assistant" aria-label="Answer" data-live={live}>
      {parts.map((part, i) => (
        <PartView key={i} part={part} results={results} running={running} live={live && i === parts.length - 1} />
      ))}
      {text && !live && (
        <div class="said-actions">
          <CopyButton text={text} />
        </div>
      )}
    </article>
  );
}

/** Drawn again only when one of the values has changed: a long history costs nothing while an answer streams. */
function Kept({ values, children }: { values: unknown[]; children: () => ComponentChildren }) {
  return <>{useMemo(children, values)}</>;
}

export function RetryNotice({ retry }: { retry: Retry }) {
  const left = () => Math.max(0, Math.ceil((new Date(retry.retrying_at).getTime() - Date.now()) / 1000));
  const [seconds, setSeconds] = useState(left);
  useEffect(() => {
    setSeconds(left());
    const timer = setInterval(() => setSeconds(left()), 250);
    return () => clearInterval(timer);
  }, [retry]);
  return (
    <div class="notice" role="status">
      {retry.error}{" "}
      <span aria-hidden="true">
        Attempt {retry.attempt + 1} {seconds > 0 ? `in ${seconds} s.` : "now …"}
      </span>
    </div>
  );
}

const HINTS: Record<string, string> = {
  auth: "The provider did not accept the key.",
  rate_limit: "The provider asks for fewer requests.",
  overloaded: "The provider is overloaded.",
  timeout: "The provider did not answer in time.",
  config: "The model's configuration is wrong.",
};

export function Failure({ failure, last, onRetry }: { failure?: StreamError; last?: string | null; onRetry?: () => Promise<void> }) {
  const message = failure?.message ?? last;
  if (!message) return null;
  const more = [failure?.kind && HINTS[failure.kind], failure?.provider, failure?.status_code && `status ${failure.status_code}`].filter(Boolean).join(" · ");
  return (
    <div class="error" role="alert">
      <strong>{message}</strong>
      {more && <div class="quiet">{more}</div>}
      {onRetry && (
        <div class="actions">
          <ActionButton action={onRetry}>Try again</ActionButton>
        </div>
      )}
    </div>
  );
}

const SHOWN = new Set(["user", "assistant"]);

interface TranscriptProps {
  stream: ChatStream;
  onEdit?: (message: ChatMessage) => void;
  onRetry?: () => Promise<void>;
  failed: boolean;
  lastError?: string | null;
}

/** Told to those who do not see it: that an answer is being written, and what it says in the end. */
function Announcement({ stream, busy }: { stream: ChatStream; busy: boolean }) {
  const [before, setBefore] = useState(busy);
  const [text, setText] = useState("");
  useEffect(() => {
    if (busy === before) return;
    setBefore(busy);
    const last = stream.messages.findLast((m) => m.role === "assistant");
    setText(busy ? "The model answers." : `The answer is complete. ${textOf(last?.content).slice(0, 500)}`);
  }, [busy, before, stream.messages]);
  return (
    <div class="hidden" role="status">
      {text}
    </div>
  );
}

export function Transcript({ stream, onEdit, onRetry, failed, lastError }: TranscriptProps) {
  const { messages, parts } = stream;
  // A result is that of the calls right before it: not every model gives each of its calls a name of its own.
  const stored = useMemo(() => {
    const all = new Map<number, Map<string, Part>>();
    let calls = new Map<string, Part>();
    for (const m of messages) {
      if (m.role === "assistant") all.set(m.id, (calls = new Map()));
      for (const p of m.content ?? []) if (p.type === "tool-result" && p.tool_call_id) calls.set(p.tool_call_id, p);
    }
    return all;
  }, [messages]);
  const fresh = parts.filter((p) => p.type === "tool-result").map((p): [string, Part] => [p.tool_call_id ?? "", p]);
  const last = messages.findLastIndex((m) => m.role === "assistant");
  const resultsOf = (m: ChatMessage, i: number) => (i === last && fresh.length > 0 ? new Map([...(stored.get(m.id) ?? NONE), ...fresh]) : (stored.get(m.id) ?? NONE));
  const open = messages.findLastIndex((m) => m.role === "user" && !isContext(m));
  const busy = stream.status !== undefined && isBusy(stream.status);
  const live = parts.filter((p) => p.type !== "tool-result");
  return (
    <>
      {messages.map((m, i) => {
        if (!SHOWN.has(m.role)) return null;
        // Only what belongs to the turn in progress may still get results.
        const inTurn = busy && i > open;
        return (
          <Kept key={m.id} values={[m, inTurn ? stream.parts : null, inTurn, stored, onEdit]}>
            {() => (isContext(m) ? <ContextMessage message={m} /> : m.role === "user" ? <UserMessage message={m} onEdit={onEdit} /> : <AssistantMessage parts={m.content ?? []} results={resultsOf(m, i)} running={inTurn} live={false} />)}
          </Kept>
        );
      })}
      {live.length > 0 && <AssistantMessage parts={live} results={new Map(fresh)} running={busy} live={busy} />}
      {busy && live.length === 0 && !stream.retry && (
        <div class="said working quiet" role="status">
          {stream.status === "pending" ? "Waiting for its turn …" : "Working …"}
        </div>
      )}
      <Announcement stream={stream} busy={busy} />
      {stream.retry && <RetryNotice retry={stream.retry} />}
      {(stream.failure || failed) && <Failure failure={stream.failure} last={lastError} onRetry={onRetry} />}
    </>
  );
}
