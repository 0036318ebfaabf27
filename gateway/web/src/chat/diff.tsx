// What an edit changes, line by line.
//
// SPDX-License-Identifier: MIT
import { Scrolled } from "./code";

export interface Line {
  kind: "same" | "old" | "new";
  text: string;
}

const MOST_CELLS = 400_000;

/** The lines of two texts: what both have, what is gone, what has come (longest common subsequence; above a size, all old then all new). */
export function diffLines(before: string, after: string): Line[] {
  const a = before === "" ? [] : before.replace(/\n$/, "").split("\n");
  const b = after === "" ? [] : after.replace(/\n$/, "").split("\n");
  const line = (kind: Line["kind"]) => (text: string): Line => ({ kind, text });
  if (a.length * b.length > MOST_CELLS) return [...a.map(line("old")), ...b.map(line("new"))];
  const width = b.length + 1;
  const common = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      common[i * width + j] = a[i] === b[j] ? common[(i + 1) * width + j + 1] + 1 : Math.max(common[(i + 1) * width + j], common[i * width + j + 1]);
  const out: Line[] = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      out.push({ kind: "same", text: a[i++] });
      j++;
    } else if (i < a.length && (j >= b.length || common[(i + 1) * width + j] >= common[i * width + j + 1])) out.push({ kind: "old", text: a[i++] });
    else out.push({ kind: "new", text: b[j++] });
  }
  return out;
}

const SIGN = { same: " ", old: "-", new: "+" };

export function DiffView({ before, after }: { before: string; after: string }) {
  return (
    <Scrolled class="diff-view" label="Changes">
      {diffLines(before, after).map((l, i) => (
        <div key={i} class={l.kind}>
          {SIGN[l.kind]} {l.text}
        </div>
      ))}
    </Scrolled>
  );
}
