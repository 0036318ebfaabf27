// A diff on the page: files that open, lines one below the other or side by side, comments on lines.
//
// SPDX-License-Identifier: MIT
import { type ComponentChildren, Fragment } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { type Comment, type Comments, placeOf } from "./comments";
import { type PatchFile, type PatchLine, SIGN, parsePatch, splitRows } from "./patch";
import { usePreference } from "./prefs";

/** Above this many lines a file is closed, above the second its end is left out. */
const OPEN_LINES = 300;
const MOST_LINES = 3000;

export function Counts({ added, removed }: { added: number; removed: number }) {
  return (
    <span class="counts">
      <span class="new">+{added}</span> <span class="old">−{removed}</span>
    </span>
  );
}

export function ViewPicker() {
  const [split, setSplit] = usePreference("split");
  return (
    <span class="choice" role="group" aria-label="View of changes">
      <button type="button" class="small" aria-pressed={!split} onClick={() => setSplit(false)}>
        Unified
      </button>
      <button type="button" class="small" aria-pressed={split} onClick={() => setSplit(true)}>
        Split
      </button>
    </span>
  );
}

interface Selected {
  from: number;
  to: number;
}

const numberOf = (line: PatchLine) => line.after ?? line.before ?? 0;

/** What a comment is about: numbers of the new file, or of the old one where all of it is gone. */
function about(lines: PatchLine[], { from, to }: Selected): Pick<Comment, "start" | "end" | "content"> {
  const chosen = lines.slice(Math.min(from, to), Math.max(from, to) + 1).filter((l) => l.kind !== "hunk");
  const kept = chosen.filter((l) => l.after !== undefined);
  const numbers = (kept.length > 0 ? kept : chosen).map(numberOf);
  return { start: Math.min(...numbers), end: Math.max(...numbers), content: chosen.map((l) => `${SIGN[l.kind]}${l.text}`).join("\n") };
}

function CommentForm({ place, onAdd, onClose }: { place: string; onAdd: (text: string) => void; onClose: () => void }) {
  const [text, setText] = useState("");
  const area = useRef<HTMLTextAreaElement>(null);
  useEffect(() => area.current?.focus(), []);
  return (
    <form
      class="line-comment"
      onSubmit={(e) => {
        e.preventDefault();
        if (text.trim()) onAdd(text.trim());
      }}
    >
      <textarea
        ref={area}
        rows={2}
        aria-label={`Comment on ${place}`}
        placeholder="What about this?"
        value={text}
        onInput={(e) => setText(e.currentTarget.value)}
        onKeyDown={(e) => {
          if (e.key === "Escape") onClose();
          else if (e.key === "Enter" && (e.ctrlKey || e.metaKey) && text.trim()) {
            e.preventDefault();
            onAdd(text.trim());
          }
        }}
      />
      <div class="actions">
        <button type="submit" class="small primary" disabled={!text.trim()}>
          Add to the message
        </button>
        <button type="button" class="small" onClick={onClose}>
          Cancel
        </button>
        <span class="quiet">{place}</span>
      </div>
    </form>
  );
}

interface LinesProps {
  lines: PatchLine[];
  /** Draws a line's number, from which it can be chosen. */
  number: (at: number, side?: "left" | "right") => ComponentChildren;
  /** What stands below a line. */
  below: (at: number) => ComponentChildren;
  chosen: (at: number) => boolean;
}

function Unified({ lines, number, below, chosen }: LinesProps) {
  return (
    <>
      {lines.map((l, i) => (
        <Fragment key={i}>
          <div class={`${l.kind} ${chosen(i) ? "chosen" : ""}`}>
            {number(i)}
            {l.kind === "hunk" ? `⋯ ${l.text}` : `${SIGN[l.kind]} ${l.text}`}
          </div>
          {below(i)}
        </Fragment>
      ))}
    </>
  );
}

function Split({ lines, number, below, chosen }: LinesProps) {
  const rows = useMemo(() => splitRows(lines), [lines]);
  const cell = (at: number | undefined, side: "left" | "right") => {
    if (at === undefined) return <div class="nothing-here" />;
    const l = lines[at];
    return (
      <div class={`${l.kind} ${chosen(at) ? "chosen" : ""}`}>
        {number(at, side)}
        <span>
          {SIGN[l.kind]} {l.text}
        </span>
      </div>
    );
  };
  return (
    <>
      {rows.map((r, i) =>
        r.hunk !== undefined ? (
          <div key={i} class="hunk over-both">
            ⋯ {lines[r.hunk].text}
          </div>
        ) : (
          <Fragment key={i}>
            {cell(r.left, "left")}
            {cell(r.right, "right")}
            {r.left !== undefined && r.left !== r.right && below(r.left)}
            {r.right !== undefined && below(r.right)}
          </Fragment>
        ),
      )}
    </>
  );
}

interface FileProps {
  file: PatchFile;
  open: boolean;
  /** The folder that the paths are below. */
  root: string;
  comments?: Comments;
}

function File({ file, open, root, comments }: FileProps) {
  const [split] = usePreference("split");
  const [selected, setSelected] = useState<Selected>();
  const [cursor, setCursor] = useState(0);
  const box = useRef<HTMLPreElement>(null);
  const lines = useMemo(() => file.lines.slice(0, MOST_LINES), [file]);
  const name = root ? `${root.replace(/\/$/, "")}/${file.path}` : file.path;
  const said = comments?.all.filter((c) => c.file === name) ?? [];
  const first = lines.findIndex((l) => l.kind !== "hunk");
  const focusable = lines[cursor] && lines[cursor].kind !== "hunk" ? cursor : first;
  const inSelection = (i: number) => !!selected && i >= Math.min(selected.from, selected.to) && i <= Math.max(selected.from, selected.to);
  const choose = (at: number, extend: boolean) => {
    setCursor(at);
    setSelected(extend && selected ? { ...selected, to: at } : { from: at, to: at });
  };
  const close = () => {
    setSelected(undefined);
    box.current?.querySelector<HTMLElement>('button.line-number[tabindex="0"]')?.focus();
  };
  // Arrows go from line to line, with the shift key they choose more of them.
  const onKey = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !(event.target as HTMLElement).matches("button.line-number")) return;
    event.preventDefault();
    let to = focusable + step;
    while (lines[to]?.kind === "hunk") to += step;
    if (!lines[to]) return;
    setCursor(to);
    if (event.shiftKey) setSelected({ from: selected?.from ?? focusable, to });
    requestAnimationFrame(() => box.current?.querySelector<HTMLElement>(`button.line-number[data-at="${to}"]`)?.focus());
  };
  const number = (at: number, side?: "left" | "right") => {
    const l = lines[at];
    const shown = side === "left" ? l.before : side === "right" ? l.after : numberOf(l) || undefined;
    if (!comments || l.kind === "hunk" || (side === "left" && l.kind === "same")) return <span class="line-number">{shown ?? ""}</span>;
    return (
      <button type="button" class="line-number" data-at={at} tabIndex={at === focusable ? 0 : -1} aria-label={`Comment on ${l.kind === "old" ? "the old " : ""}line ${numberOf(l)}`} onClick={(e) => choose(at, e.shiftKey)}>
        {shown}
      </button>
    );
  };
  const endOf = (c: Comment) => lines.findLastIndex((l) => l.kind !== "hunk" && numberOf(l) === c.end && c.content.endsWith(`${SIGN[l.kind]}${l.text}`));
  const below = (at: number) => {
    const here = said.filter((c) => endOf(c) === at);
    const form = selected && Math.max(selected.from, selected.to) === at;
    if (here.length === 0 && !form) return null;
    const what = form ? about(lines, selected) : undefined;
    return (
      <div class="below-line">
        {here.map((c) => (
          <div key={c.key} class="line-comment">
            <span class="as-is">{c.text}</span>
            <button type="button" class="plain small" aria-label={`Remove the comment on ${placeOf(c)}`} onClick={() => comments!.drop(c.key)}>
              ×
            </button>
          </div>
        ))}
        {what && (
          <CommentForm
            key={`${what.start}-${what.end}`}
            place={`${file.path}:${what.start}${what.end > what.start ? `-${what.end}` : ""}`}
            onClose={close}
            onAdd={(text) => {
              comments!.add({ file: name, ...what, text });
              close();
            }}
          />
        )}
      </div>
    );
  };
  const Lines = split ? Split : Unified;
  return (
    <details class="tool patch-file" open={open && file.lines.length <= OPEN_LINES} data-path={file.path}>
      <summary>
        <span class="tool-title">
          {file.from && `${file.from} → `}
          {file.path}
        </span>{" "}
        {file.state !== "changed" && <span class="tag">{file.state}</span>} {file.binary ? <span class="quiet">binary</span> : <Counts added={file.added} removed={file.removed} />}
      </summary>
      {file.lines.length > 0 && (
        <pre class={`diff-view ${split ? "split" : ""}`} ref={box} onKeyDown={onKey}>
          <Lines lines={lines} number={number} below={below} chosen={inSelection} />
          {file.lines.length > MOST_LINES && <div class="hunk over-both">⋯ {file.lines.length - MOST_LINES} more lines</div>}
        </pre>
      )}
    </details>
  );
}

/** The files of a diff, each with its lines. */
export function PatchView({ text, root = "", comments }: { text: string; root?: string; comments?: Comments }) {
  const files = useMemo(() => parsePatch(text), [text]);
  const cut = /^# .*$/m.exec(text.slice(text.lastIndexOf("\n", text.length - 2) + 1))?.[0];
  return (
    <>
      {files.map((file) => (
        <File key={file.path} file={file} open={files.length <= 20} root={root} comments={comments} />
      ))}
      {cut && <p class="help">{cut.slice(2)}</p>}
    </>
  );
}
