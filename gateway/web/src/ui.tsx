// The few building blocks that all pages share.
//
// SPDX-License-Identifier: MIT
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { ApiError } from "./api";

export function ErrorBox({ error }: { error?: Error }) {
  if (!error) return null;
  const detail = error instanceof ApiError ? error.detail : undefined;
  const loose = error instanceof ApiError ? error.validations : [];
  return (
    <div class="error" role="alert">
      <strong>{error.message}</strong>
      {loose.map((v) => (
        <div key={v.field}>
          {v.field}: {v.detail}
        </div>
      ))}
      {detail && <div class="detail">{detail}</div>}
    </div>
  );
}

interface FieldProps extends JSX.InputHTMLAttributes<HTMLInputElement> {
  label: string;
  help?: ComponentChildren;
  problem?: string;
}

export function Field({ label, help, problem, ...input }: FieldProps) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input id={id} aria-invalid={!!problem} aria-describedby={`${id}-help`} {...input} />
      <div id={`${id}-help`} class={problem ? "help problem" : "help"}>
        {problem ?? help}
      </div>
    </div>
  );
}

/** A form that runs one asynchronous action: its button is busy meanwhile, its error is shown. */
export function Form(props: {
  action: () => Promise<void>;
  submit: string;
  busy?: string;
  disabled?: boolean;
  children: (error?: ApiError) => ComponentChildren;
  extra?: ComponentChildren;
}) {
  const [error, setError] = useState<Error>();
  const [busy, setBusy] = useState(false);
  const run = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      await props.action();
    } catch (problem) {
      setError(problem as Error);
    } finally {
      setBusy(false);
    }
  };
  return (
    <form onSubmit={run} noValidate>
      {props.children(error instanceof ApiError ? error : undefined)}
      <ErrorBox error={error} />
      <div class="actions">
        <button class="primary" type="submit" disabled={busy || props.disabled}>
          {busy ? (props.busy ?? "Working …") : props.submit}
        </button>
        {props.extra}
      </div>
    </form>
  );
}

/** A button for one asynchronous action; it tells of a failure beside itself. */
export function ActionButton(props: {
  action: () => Promise<void>;
  children: ComponentChildren;
  kind?: "primary" | "danger";
  disabled?: boolean;
  title?: string;
}) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Error>();
  const run = async () => {
    setBusy(true);
    setError(undefined);
    try {
      await props.action();
    } catch (problem) {
      setError(problem as Error);
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <button type="button" class={props.kind} onClick={run} disabled={busy || props.disabled} title={props.title}>
        {props.children}
      </button>
      {error && (
        <span class="problem" role="alert">
          {error.message}
        </span>
      )}
    </>
  );
}

export function Dialog(props: { title: string; open: boolean; onClose: () => void; children: ComponentChildren }) {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (props.open && !ref.current?.open) ref.current?.showModal();
    if (!props.open && ref.current?.open) ref.current.close();
  }, [props.open]);
  return (
    <dialog ref={ref} onClose={props.onClose}>
      <h2>{props.title}</h2>
      {props.open && props.children}
    </dialog>
  );
}

/** A button that asks before it acts. */
export function ConfirmButton(props: { title: string; text: ComponentChildren; yes: string; action: () => Promise<void>; children: ComponentChildren; disabled?: boolean }) {
  const [open, setOpen] = useState(false);
  const act = async () => {
    await props.action();
    setOpen(false);
  };
  return (
    <>
      <button type="button" class="danger" onClick={() => setOpen(true)} disabled={props.disabled}>
        {props.children}
      </button>
      <Dialog title={props.title} open={open} onClose={() => setOpen(false)}>
        <p>{props.text}</p>
        <div class="actions">
          <ActionButton kind="danger" action={act}>
            {props.yes}
          </ActionButton>
          <button type="button" onClick={() => setOpen(false)}>
            Cancel
          </button>
        </div>
      </Dialog>
    </>
  );
}

/** numbers: the columns, from 0, whose numbers stand below one another. */
export function Table({ head, numbers = [], children }: { head: string[]; numbers?: number[]; children: ComponentChildren }) {
  return (
    <table>
      <thead>
        <tr>
          {head.map((text, i) =>
            text ? (
              <th key={i} class={numbers.includes(i) ? "number" : undefined}>
                {text}
              </th>
            ) : (
              <td key={i} />
            ),
          )}
        </tr>
      </thead>
      <tbody>{children}</tbody>
    </table>
  );
}

/** Boxes to tick, one for each choice: name and what is shown. */
export function Choices(props: { legend: string; choices: [string, string][]; chosen: string[]; onChange: (chosen: string[]) => void; disabled?: boolean }) {
  const toggle = (name: string) => props.onChange(props.chosen.includes(name) ? props.chosen.filter((c) => c !== name) : [...props.chosen, name]);
  return (
    <fieldset class="choices">
      <legend>{props.legend}</legend>
      {props.choices.map(([name, text]) => (
        <label key={name}>
          <input type="checkbox" checked={props.chosen.includes(name)} disabled={props.disabled} onChange={() => toggle(name)} /> {text}
        </label>
      ))}
    </fieldset>
  );
}

export function Select(props: { label: string; value: string; choices: [string, string][]; onChange: (value: string) => void; help?: ComponentChildren }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{props.label}</label>
      <select id={id} value={props.value} onChange={(e) => props.onChange(e.currentTarget.value)}>
        {props.choices.map(([name, text]) => (
          <option key={name} value={name}>
            {text}
          </option>
        ))}
      </select>
      {props.help && <div class="help">{props.help}</div>}
    </div>
  );
}

/** What a list shows before, instead of and above its rows. */
export function ListState({ error, loaded, empty, text }: { error?: Error; loaded: boolean; empty: boolean; text: ComponentChildren }) {
  return (
    <>
      <ErrorBox error={error} />
      {!loaded && !error && <Loading />}
      {loaded && empty && <Empty>{text}</Empty>}
    </>
  );
}

const TONES: Record<string, string> = {
  running: "good",
  succeeded: "good",
  connected: "good",
  healthy: "good",
  ready: "good",
  active: "good",
  pending: "busy",
  starting: "busy",
  stopping: "busy",
  deleting: "busy",
  canceling: "busy",
  connecting: "busy",
  created: "busy",
  initializing: "busy",
  failed: "bad",
  disconnected: "bad",
  timeout: "bad",
  unhealthy: "bad",
  start_error: "bad",
  start_timeout: "bad",
  suspended: "bad",
};

export function Status({ value, title }: { value: string; title?: string }) {
  return (
    <span class={`status ${TONES[value] ?? "idle"}`} title={title} data-status={value}>
      {value.replace(/_/g, " ")}
    </span>
  );
}

const UNITS: [number, Intl.RelativeTimeFormatUnit][] = [
  [60, "second"],
  [60, "minute"],
  [24, "hour"],
  [7, "day"],
  [4.35, "week"],
  [12, "month"],
  [Infinity, "year"],
];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

export function Ago({ time }: { time?: string }) {
  if (!time || time.startsWith("0001") || time.startsWith("1970")) return <span>never</span>;
  let value = (new Date(time).getTime() - Date.now()) / 1000;
  for (const [size, unit] of UNITS) {
    if (Math.abs(value) < size) return <time dateTime={time} title={new Date(time).toLocaleString()}>{relative.format(Math.round(value), unit)}</time>;
    value /= size;
  }
  return null;
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <div class="empty">{children}</div>;
}

export function Loading() {
  return (
    <div class="loading" role="status">
      Loading …
    </div>
  );
}

export function useTitle(title: string) {
  useEffect(() => {
    document.title = `${title} – Coder`;
  }, [title]);
}

/** On a narrow screen links are in a row that scrolls: the one where one is should be in sight. */
export function useCurrentInSight(location: string) {
  const ref = useRef<HTMLElement>(null);
  useEffect(() => {
    const row = ref.current;
    const here = row?.querySelector<HTMLElement>(".current");
    if (row && here) row.scrollLeft = here.offsetLeft - row.offsetLeft - row.clientWidth / 2 + here.offsetWidth / 2;
  }, [location]);
  return ref;
}

export function CopyText({ text }: { text: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard?.writeText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return (
    <div class="copy">
      <code>{text}</code>
      <button type="button" onClick={copy}>
        {copied ? "Copied" : "Copy"}
      </button>
    </div>
  );
}
