// What somebody says about lines of a change: kept until the next message takes it along, as references to files.
//
// SPDX-License-Identifier: MIT
import { useCallback, useState } from "preact/hooks";
import { local } from "../storage";
import type { InputPart, Part } from "./types";

export interface Comment {
  key: string;
  file: string;
  start: number;
  end: number;
  /** The lines, each with its sign. */
  content: string;
  text: string;
}

export interface Comments {
  all: Comment[];
  add: (comment: Omit<Comment, "key">) => void;
  drop: (key: string) => void;
  clear: () => void;
}

const storage = (chat: string) => `chat-comments-${chat}`;

function stored(chat: string): Comment[] {
  try {
    return JSON.parse(local.getItem(storage(chat)) ?? "[]") as Comment[];
  } catch {
    return [];
  }
}

/** The comments of a chat that were not sent yet; they outlive a reload. */
export function useComments(chat: string): Comments {
  const [all, setAll] = useState(() => stored(chat));
  const change = useCallback(
    (to: (old: Comment[]) => Comment[]) =>
      setAll((old) => {
        const now = to(old);
        if (now.length > 0) local.setItem(storage(chat), JSON.stringify(now));
        else local.removeItem(storage(chat));
        return now;
      }),
    [chat],
  );
  const add = useCallback((comment: Omit<Comment, "key">) => change((old) => [...old, { ...comment, key: `${Date.now()}-${old.length}` }]), [change]);
  const drop = useCallback((key: string) => change((old) => old.filter((c) => c.key !== key)), [change]);
  const clear = useCallback(() => change(() => []), [change]);
  return { all, add, drop, clear };
}

export const linesOf = ({ start_line: start, end_line: end }: Pick<Part, "start_line" | "end_line">) => (start ? `:${start}${end && end > start ? `-${end}` : ""}` : "");

export const placeOf = (c: Comment) => `${c.file}${linesOf({ start_line: c.start, end_line: c.end })}`;

/** As parts of a message: what is meant, and then what is said about it. */
export const partsOf = (comments: Comment[]): InputPart[] =>
  comments.flatMap((c): InputPart[] => [
    { type: "file-reference", file_name: c.file, start_line: c.start, end_line: c.end, content: c.content },
    { type: "text", text: c.text },
  ]);

/** References beside the files that a message takes along. */
export function CommentChips({ comments }: { comments: Comments }) {
  return (
    <>
      {comments.all.map((c) => (
        <li key={c.key} class="comment-chip" title={`${placeOf(c)}\n${c.text}`}>
          <span>
            <code>{placeOf({ ...c, file: c.file.split("/").pop() ?? c.file })}</code> {c.text}
          </span>
          <button type="button" class="plain small" aria-label={`Remove the comment on ${placeOf(c)}`} onClick={() => comments.drop(c.key)}>
            ×
          </button>
        </li>
      ))}
    </>
  );
}
