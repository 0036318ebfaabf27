// Where a message is written: text that outlives a reload, files, the model, send and stop.
//
// SPDX-License-Identifier: MIT
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { ApiError } from "../api";
import { useApi } from "../live";
import { local } from "../storage";
import { ErrorBox } from "../ui";
import { FileChip, isLong, useFiles } from "./attachments";
import { CommentChips, type Comments, linesOf, partsOf } from "./comments";
import { InvisibleNotice } from "./invisible";
import { VoiceButton } from "./voice";
import { CHATS, type Catalogue, type InputPart, type LimitStatus, type ModelConfig, type Part, type Usage, dollars, modelName } from "./types";

export interface Models {
  models: ModelConfig[];
  why: (model: ModelConfig) => string | undefined;
  loaded: boolean;
  error?: ApiError;
}

const REASONS: Record<string, string> = {
  missing_api_key: "its provider has no key",
  user_api_key_required: "needs your own key",
  fetch_failed: "its provider could not be asked",
};

/** The models that can be chosen, and why one cannot be used. */
export function useModels(): Models {
  const configs = useApi<ModelConfig[]>(`${CHATS}/model-configs`);
  const catalogue = useApi<Catalogue>(`${CHATS}/models`);
  const why = (model: ModelConfig) => {
    const provider = catalogue.data?.providers.find((p) => p.provider === model.provider);
    if (!catalogue.data || provider?.available) return undefined;
    return REASONS[provider?.unavailable_reason ?? ""] ?? "its provider is off";
  };
  return { models: configs.data?.filter((m) => m.enabled) ?? [], why, loaded: !!configs.data && !!catalogue.data, error: configs.error ?? catalogue.error };
}

export const defaultModel = ({ models, why }: Models) => models.find((m) => m.is_default && !why(m)) ?? models.find((m) => !why(m)) ?? models[0];

export function ModelPicker({ models, value, onChange }: { models: Models; value?: string; onChange: (id: string) => void }) {
  const id = useId();
  return (
    <span class="picker">
      <label class="hidden" for={id}>
        Model
      </label>
      <select id={id} value={value} onChange={(e) => onChange(e.currentTarget.value)}>
        {models.models.map((m) => (
          <option key={m.id} value={m.id} disabled={!!models.why(m)}>
            {modelName(m)}
            {models.why(m) ? ` (${models.why(m)})` : ""}
          </option>
        ))}
      </select>
    </span>
  );
}

/** How much of what the model can read is used. */
export function ContextRing({ usage, limit, threshold, told = [] }: { usage?: Usage; limit?: number; threshold?: number; told?: Part[] }) {
  const most = usage?.context_limit || limit || 0;
  const used = (usage?.input_tokens ?? 0) + (usage?.cache_read_tokens ?? 0) + (usage?.cache_creation_tokens ?? 0) + (usage?.output_tokens ?? 0);
  if (!most || !used) return null;
  const part = Math.min(1, used / most);
  const percent = Math.round(part * 100);
  const names = told.map((p) => (p.type === "skill" ? `skill ${p.skill_name}` : p.context_file_path?.split("/").pop())).filter(Boolean);
  const around = 2 * Math.PI * 8;
  const text = `${used.toLocaleString("en")} of ${most.toLocaleString("en")} tokens (${percent} %)${threshold && threshold < 100 ? `; summarized at ${threshold} %` : ""}${names.length > 0 ? `; with ${names.join(", ")}` : ""}`;
  return (
    <svg class={`ring ${percent >= 95 ? "bad" : percent >= 85 ? "busy" : ""}`} viewBox="0 0 20 20" role="img" aria-label={`Context: ${text}`}>
      <title>{text}</title>
      <circle cx="10" cy="10" r="8" class="track" />
      <circle cx="10" cy="10" r="8" class="used" stroke-dasharray={`${around * part} ${around}`} transform="rotate(-90 10 10)" />
    </svg>
  );
}

export const useLimit = () => useApi<LimitStatus>(`${CHATS}/usage-limits/status`, 60_000);

/** How much of one's allowance is spent; nothing where there is no limit. */
export function LimitNotice({ status }: { status?: LimitStatus }) {
  if (!status?.is_limited || !status.spend_limit_micros) return null;
  const over = status.current_spend >= status.spend_limit_micros;
  return (
    <div class={over ? "notice bad" : "limit quiet"} role={over ? "alert" : undefined}>
      <progress max={status.spend_limit_micros} value={status.current_spend} aria-label="Spent" /> {dollars(status.current_spend)} of {dollars(status.spend_limit_micros)} this {status.period}
      {!over && <span title={new Date(status.period_end).toLocaleString()}>, anew on {new Date(status.period_end).toLocaleDateString()}</span>}
      {over && `: the limit is reached until ${new Date(status.period_end).toLocaleString()}`}
    </div>
  );
}

/** An error of sending; a usage limit tells when it ends. */
export function SendError({ error }: { error?: Error }) {
  const body = error instanceof ApiError ? error.body : {};
  if (typeof body.limit_micros !== "number") return <ErrorBox error={error} />;
  return (
    <div class="notice bad" role="alert">
      You have used {dollars(Number(body.spent_micros))} of {dollars(body.limit_micros)}. More is possible from {new Date(String(body.resets_at)).toLocaleString()}.
    </div>
  );
}

export interface ComposerProps {
  /** Where the draft is kept in this browser. */
  draft: string;
  organization?: string;
  placeholder: string;
  submit: string;
  onSend: (content: InputPart[]) => Promise<void>;
  onStop?: () => Promise<void>;
  /** A message that is being edited: its text, and what to do to leave it as it is. */
  editing?: { text: string; files: { id: string; name: string }[]; references: InputPart[]; cancel: () => void };
  /** What was said about lines of changes goes with the message. */
  comments?: Comments;
  disabled?: boolean;
  children?: ComponentChildren;
}

/** Where this browser keeps what is being written. */
export const draftKey = (draft: string) => `chat-draft-${draft}`;

export function Composer(props: ComposerProps) {
  const storage = draftKey(props.draft);
  const [text, setText] = useState(() => props.editing?.text ?? local.getItem(storage) ?? "");
  const [busy, setBusy] = useState(false);
  const [dropping, setDropping] = useState(false);
  const [error, setError] = useState<Error>();
  const { files, add, drop, clear } = useFiles(props.draft, props.organization);
  const [kept, setKept] = useState(props.editing?.files ?? []);
  const [references, setReferences] = useState(props.editing?.references ?? []);
  const comments = props.comments?.all ?? [];
  const area = useRef<HTMLTextAreaElement>(null);
  const picker = useRef<HTMLInputElement>(null);

  useEffect(() => {
    const element = area.current;
    if (!element) return;
    element.style.height = "auto";
    element.style.height = `${Math.min(element.scrollHeight + 2, innerHeight * 0.4)}px`;
  }, [text]);
  useEffect(() => {
    if (matchMedia("(min-width: 48rem)").matches || props.editing) area.current?.focus();
  }, []);

  const write = (value: string) => {
    setText(value);
    if (props.editing) return;
    if (value) local.setItem(storage, value);
    else local.removeItem(storage);
  };
  const ready = files.every((f) => f.id) && (text.trim() !== "" || files.length + kept.length + references.length + comments.length > 0);
  const send = async () => {
    if (busy || props.disabled || !ready) return;
    setBusy(true);
    setError(undefined);
    try {
      const content: InputPart[] = [...kept, ...files].map((f) => ({ type: "file", file_id: f.id! }));
      if (text.trim()) content.unshift({ type: "text", text });
      await props.onSend([...references, ...partsOf(comments), ...content]);
      write("");
      props.comments?.clear();
      clear();
    } catch (problem) {
      setError(problem as Error);
    } finally {
      setBusy(false);
      area.current?.focus();
    }
  };
  const addAll = (list: Iterable<File> | null | undefined) => {
    for (const file of list ?? []) void add(file);
  };
  const onPaste = (event: ClipboardEvent) => {
    const pasted = event.clipboardData;
    const long = pasted?.getData("text/plain") ?? "";
    if (pasted?.files.length) {
      event.preventDefault();
      addAll(pasted.files);
    } else if (isLong(long)) {
      event.preventDefault();
      void add(new File([long], "pasted.txt", { type: "text/plain" }), long);
    }
  };
  return (
    <form
      class={dropping ? "composer dropping" : "composer"}
      onSubmit={(e) => {
        e.preventDefault();
        void send();
      }}
      onDragOver={(e) => {
        e.preventDefault();
        setDropping(true);
      }}
      onDragLeave={(e) => !e.currentTarget.contains(e.relatedTarget as Node) && setDropping(false)}
      onDrop={(e) => {
        e.preventDefault();
        setDropping(false);
        addAll(e.dataTransfer?.files);
      }}
    >
      {props.editing && (
        <div class="notice" role="status">
          What followed this message goes away when you send it.{" "}
          <button type="button" class="plain small" onClick={props.editing.cancel}>
            Leave it
          </button>
        </div>
      )}
      <SendError error={error} />
      <InvisibleNotice text={text} onClean={write} />
      {files.length + kept.length + references.length + comments.length > 0 && (
        <ul class="attachments" aria-label="Attached">
          {props.comments && <CommentChips comments={props.comments} />}
          {references.map((r) => (
            <li key={`${r.file_name} ${r.start_line}`}>
              <code>
                {r.file_name}
                {linesOf(r)}
              </code>
              <button type="button" class="plain small" aria-label={`Remove ${r.file_name}`} onClick={() => setReferences((old) => old.filter((o) => o !== r))}>
                ×
              </button>
            </li>
          ))}
          {kept.map((f) => (
            <li key={f.id}>
              {f.name || "file"}
              <button type="button" class="plain small" aria-label={`Remove ${f.name}`} onClick={() => setKept((old) => old.filter((k) => k !== f))}>
                ×
              </button>
            </li>
          ))}
          {files.map((f) => (
            <FileChip key={f.key} file={f} onDrop={() => drop(f.key)} onInline={(more) => write(text ? `${text}\n${more}` : more)} />
          ))}
        </ul>
      )}
      <textarea
        ref={area}
        rows={2}
        aria-label="Message"
        placeholder={props.placeholder}
        value={text}
        onInput={(e) => write(e.currentTarget.value)}
        onPaste={onPaste}
        onKeyDown={(e) => {
          if (e.key === "Enter" && !e.shiftKey && !e.isComposing) {
            e.preventDefault();
            void send();
          } else if (e.key === "Escape" && props.editing) props.editing.cancel();
        }}
      />
      <div class="composer-row">
        <button type="button" class="plain" title="Attach pictures or text files" aria-label="Attach files" onClick={() => picker.current?.click()}>
          <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
            <path d="M13 7.5 7.8 12.7a3 3 0 0 1-4.3-4.3l5.6-5.5a2 2 0 0 1 2.8 2.8L6.5 11a1 1 0 0 1-1.4-1.4L10 4.8" />
          </svg>
        </button>
        <input
          ref={picker}
          type="file"
          class="hidden"
          multiple
          tabIndex={-1}
          aria-label="Files"
          onChange={(e) => {
            addAll([...(e.currentTarget.files ?? [])]);
            e.currentTarget.value = "";
          }}
        />
        <VoiceButton text={text} onText={write} />
        {props.children}
        <span class="send">
          {props.onStop && (
            <button type="button" class="danger" onClick={() => void props.onStop!().catch(setError)}>
              Stop
            </button>
          )}
          <button type="submit" class="primary" disabled={busy || props.disabled || !ready}>
            {props.submit}
          </button>
        </span>
      </div>
    </form>
  );
}
