// Markdown as elements.  The text is a model's: no HTML of it reaches the page, links are of known schemes, pictures are links.
//
// SPDX-License-Identifier: MIT
import type { ComponentChildren, VNode } from "preact";
import { useMemo } from "preact/hooks";
import { type Token, type Tokens, lexer } from "marked";
import { Code } from "./code";

/** An address that a link may have; undefined for all others (javascript:, data:, ...). */
export function safeUrl(href: string): string | undefined {
  try {
    const url = new URL(href, location.href);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : undefined;
  } catch {
    return undefined;
  }
}

const ENTITIES: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'", nbsp: "\u00a0" };
const plain = (text: string) => text.replace(/&(amp|lt|gt|quot|#39|nbsp);/g, (_, name: string) => ENTITIES[name]);

function Anchor({ href, children }: { href: string; children: ComponentChildren }) {
  const url = safeUrl(href);
  if (!url) return <span>{children}</span>;
  return (
    <a href={url} target="_blank" rel="noopener noreferrer nofollow" title={url}>
      {children}
    </a>
  );
}

function Item({ item }: { item: Tokens.ListItem }) {
  return (
    <li>
      {item.task && <input type="checkbox" checked={item.checked} disabled />} {blocks(item.tokens)}
    </li>
  );
}

function TableOf({ table }: { table: Tokens.Table }) {
  return (
    <div class="scroll">
      <table>
        <thead>
          <tr>
            {table.header.map((cell, i) => (
              <th key={i}>{inline(cell.tokens)}</th>
            ))}
          </tr>
        </thead>
        <tbody>
          {table.rows.map((row, n) => (
            <tr key={n}>
              {row.map((cell, i) => (
                <td key={i} style={table.align[i] ? `text-align: ${table.align[i]}` : undefined}>
                  {inline(cell.tokens)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function one(token: Token): ComponentChildren {
  switch (token.type) {
    case "space":
    case "def":
      return null;
    case "heading": {
      // Under the heading of the page: h3 and smaller.
      const Tag = `h${Math.min(6, token.depth + 2)}` as "h3";
      return <Tag>{inline(token.tokens)}</Tag>;
    }
    case "paragraph":
      return <p>{inline(token.tokens)}</p>;
    case "text":
      return token.tokens ? inline(token.tokens) : plain(token.text);
    case "code":
      return <Code text={token.text} language={/^\S*/.exec(token.lang ?? "")![0].toLowerCase()} />;
    case "blockquote":
      return <blockquote>{blocks(token.tokens)}</blockquote>;
    case "list": {
      const items = (token as Tokens.List).items.map((item, i) => <Item key={i} item={item} />);
      return token.ordered ? <ol start={Number(token.start) || 1}>{items}</ol> : <ul>{items}</ul>;
    }
    case "table":
      return <TableOf table={token as Tokens.Table} />;
    case "hr":
      return <hr />;
    case "strong":
      return <strong>{inline(token.tokens)}</strong>;
    case "em":
      return <em>{inline(token.tokens)}</em>;
    case "del":
      return <del>{inline(token.tokens)}</del>;
    case "codespan":
      return <code>{plain(token.text)}</code>;
    case "br":
      return <br />;
    case "link":
      return <Anchor href={token.href}>{inline(token.tokens)}</Anchor>;
    case "image":
      return <Anchor href={token.href}>{token.text || token.href}</Anchor>;
    case "escape":
      return token.text;
    default:
      // HTML too: shown as it was written.
      return token.raw;
  }
}

const each = (tokens: Token[] | undefined): ComponentChildren => tokens?.map(one);
const inline = each;
const blocks = each;

export default function Markdown({ text }: { text: string }): VNode {
  const tokens = useMemo(() => lexer(text, { gfm: true }), [text]);
  return <>{blocks(tokens)}</>;
}
