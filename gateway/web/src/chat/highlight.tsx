// Colours of code: comments, strings, numbers and words of the language; no grammar, so that it costs next to nothing.
//
// SPDX-License-Identifier: MIT
import type { ComponentChildren } from "preact";

const WORDS = new Set(
  ("abstract and as assert async await begin break case catch class const continue def default defer delete do elif else elsif end enum except export extends " +
    "extern false final finally fn for foreach from func function go if impl implements import in instanceof interface is lambda let local match mod module " +
    "my namespace new nil none not null of or our package pass private protected pub public raise return select self static struct sub super switch then this " +
    "throw trait true try type typedef typeof union unless until use var void when where while with yield create table insert into update set values join on " +
    "int long char bool float double string unsigned None True False SELECT FROM WHERE INSERT INTO UPDATE DELETE SET VALUES JOIN ON AND OR NOT NULL AS " +
    "CREATE TABLE ALTER DROP GROUP ORDER BY LIMIT").split(" "),
);

const HASH = new Set(["py", "python", "sh", "bash", "shell", "zsh", "rb", "ruby", "perl", "pl", "yaml", "yml", "toml", "make", "makefile", "dockerfile", "hcl", "tf", "terraform", "r", "conf", "ini"]);
const DASH = new Set(["sql", "psql", "plpgsql", "lua", "haskell", "hs", "ada"]);
const PLAIN = new Set(["", "text", "txt", "plain", "output", "log", "md", "markdown"]);

const STRINGS = /"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`/.source;

function pattern(language: string): RegExp {
  const comment = HASH.has(language) ? "#.*" : DASH.has(language) ? "--.*" : "//.*|/\\*[\\s\\S]*?\\*/";
  return new RegExp(`(?<comment>${comment})|(?<string>${STRINGS})|(?<number>\\b\\d[\\w.]*)|(?<word>[A-Za-z_]\\w*)`, "g");
}

/** The most that is coloured; longer code is shown as it is. */
const MOST = 40_000;

export function highlight(code: string, language: string): ComponentChildren {
  if (language === "diff" || language === "patch")
    return code.split("\n").map((line, i) => (
      <span key={i} class={line.startsWith("+") ? "new" : line.startsWith("-") ? "old" : line.startsWith("@@") ? "c-comment" : undefined}>
        {line}
        {"\n"}
      </span>
    ));
  if (PLAIN.has(language) || code.length > MOST) return code;
  const out: ComponentChildren[] = [];
  let end = 0;
  for (const found of code.matchAll(pattern(language))) {
    const groups = found.groups!;
    const kind = groups.comment !== undefined ? "comment" : groups.string !== undefined ? "string" : groups.number !== undefined ? "number" : WORDS.has(groups.word) ? "word" : undefined;
    if (!kind) continue;
    out.push(code.slice(end, found.index), <span class={`c-${kind}`}>{found[0]}</span>);
    end = found.index + found[0].length;
  }
  out.push(code.slice(end));
  return out;
}
