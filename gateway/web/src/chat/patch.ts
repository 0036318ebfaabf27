// A unified diff as git writes it: its files, and their lines; the lines side by side.
//
// SPDX-License-Identifier: MIT

export interface PatchLine {
  kind: "same" | "old" | "new" | "hunk";
  text: string;
  before?: number;
  after?: number;
}

export interface PatchFile {
  path: string;
  /** What it was called before, where that was otherwise. */
  from?: string;
  state: "changed" | "added" | "deleted" | "renamed";
  binary: boolean;
  added: number;
  removed: number;
  lines: PatchLine[];
}

/** "a/x", or "\"a/\\303\\244\"" as git quotes what is not plain. */
function unquote(name: string): string {
  if (!name.startsWith('"')) return name;
  const bytes: number[] = [];
  const inner = name.slice(1, name.lastIndexOf('"'));
  const named: Record<string, number> = { n: 10, t: 9, r: 13, '"': 34, "\\": 92 };
  for (const m of inner.matchAll(/\\([0-7]{3})|\\(.)|([\s\S])/gu)) {
    if (m[1]) bytes.push(parseInt(m[1], 8) & 255);
    else if (m[2]) bytes.push(named[m[2]] ?? m[2].charCodeAt(0));
    else bytes.push(...new TextEncoder().encode(m[3]));
  }
  return new TextDecoder().decode(new Uint8Array(bytes));
}

const path = (text: string) => unquote(text.replace(/\t.*$/, "")).replace(/^[ab]\//, "");

/** The new name in "diff --git a/x b/x", which is all there is of it where nothing but the mode has changed. */
function nameIn(line: string): string {
  const rest = line.slice("diff --git ".length);
  if (rest.startsWith('"')) return path(rest.slice(rest.lastIndexOf(' "') + 1));
  return path(rest.slice(Math.floor(rest.length / 2) + 1));
}

export function parsePatch(text: string): PatchFile[] {
  const files: PatchFile[] = [];
  let file: PatchFile | undefined;
  let before = 0;
  let after = 0;
  // Lines that the hunk still has: what looks like a header may be a line of the file.
  let oldLeft = 0;
  let newLeft = 0;
  for (const line of text.split("\n")) {
    if (file && (oldLeft > 0 || newLeft > 0)) {
      const rest = line.slice(1);
      if (line[0] === "+") {
        file.lines.push({ kind: "new", text: rest, after: after++ });
        file.added++;
        newLeft--;
      } else if (line[0] === "-") {
        file.lines.push({ kind: "old", text: rest, before: before++ });
        file.removed++;
        oldLeft--;
      } else if (line[0] !== "\\") {
        file.lines.push({ kind: "same", text: rest, before: before++, after: after++ });
        oldLeft--;
        newLeft--;
      }
      continue;
    }
    const hunk = /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@(.*)/.exec(line);
    if (line.startsWith("diff --git ")) {
      file = { path: nameIn(line), state: "changed", binary: false, added: 0, removed: 0, lines: [] };
      files.push(file);
    } else if (!file) continue;
    else if (hunk) {
      [before, after] = [Number(hunk[1]), Number(hunk[3])];
      [oldLeft, newLeft] = [Number(hunk[2] ?? 1), Number(hunk[4] ?? 1)];
      file.lines.push({ kind: "hunk", text: hunk[5].trim() });
    } else if (line.startsWith("new file mode")) file.state = "added";
    else if (line.startsWith("deleted file mode")) file.state = "deleted";
    else if (line.startsWith("rename from ")) {
      file.state = "renamed";
      file.from = unquote(line.slice(12));
    } else if (line.startsWith("rename to ")) file.path = unquote(line.slice(10));
    else if (line.startsWith("+++ ") && !line.startsWith("+++ /dev/null")) file.path = path(line.slice(4));
    else if (line.startsWith("--- ") && !line.startsWith("--- /dev/null") && file.state === "deleted") file.path = path(line.slice(4));
    else if (/^(Binary files |GIT binary patch)/.test(line)) file.binary = true;
  }
  return files;
}

/** A row of two columns: places in the file's lines; a hunk's head goes over both. */
export interface SplitRow {
  left?: number;
  right?: number;
  hunk?: number;
}

/** What is gone beside what has come in its place. */
export function splitRows(lines: PatchLine[]): SplitRow[] {
  const rows: SplitRow[] = [];
  let old: number[] = [];
  let fresh: number[] = [];
  const flush = () => {
    for (let i = 0; i < Math.max(old.length, fresh.length); i++) rows.push({ left: old[i], right: fresh[i] });
    old = [];
    fresh = [];
  };
  lines.forEach((line, i) => {
    if (line.kind === "old") {
      // Git writes what is gone first: after what has come another change begins.
      if (fresh.length > 0) flush();
      old.push(i);
    } else if (line.kind === "new") fresh.push(i);
    else {
      flush();
      rows.push(line.kind === "hunk" ? { hunk: i } : { left: i, right: i });
    }
  });
  flush();
  return rows;
}

export const SIGN = { same: " ", old: "-", new: "+", hunk: " " };
