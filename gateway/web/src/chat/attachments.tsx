// Files of a message that is being written: pictures and texts, sent to the server at once, kept over a reload.
//
// SPDX-License-Identifier: MIT
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { api } from "../api";
import { local } from "../storage";
import { Picture } from "./filepart";
import { CHATS } from "./types";

const TYPES = ["image/gif", "image/jpeg", "image/png", "image/webp", "text/plain"];
const MOST_BYTES = 10 << 20;
/** A chat has no more files than these. */
const MOST_FILES = 20;
/** A pasted text of this size becomes a file. */
const LONG_LINES = 10;
const LONG_CHARACTERS = 1000;

export const isLong = (text: string) => text.length >= LONG_CHARACTERS || text.split("\n").length >= LONG_LINES;

export interface Attachment {
  key: number;
  name: string;
  type: string;
  id?: string;
  error?: string;
  /** What was pasted, which may go back into the message. */
  text?: string;
}

let nextKey = 1;

const storage = (draft: string, organization: string) => `chat-files-${draft}-${organization}`;

/** What was uploaded for this draft before. */
function stored(key: string): Attachment[] {
  try {
    const files = JSON.parse(local.getItem(key) ?? "[]") as { id: string; name: string; type: string }[];
    return files.map(({ id, name, type }) => ({ key: nextKey++, id, name, type }));
  } catch {
    return [];
  }
}

const typeOf = (file: File) => (TYPES.includes(file.type) ? file.type : file.type.startsWith("text/") || file.type === "" || file.type === "application/json" ? "text/plain" : file.type);

export function useFiles(draft: string, organization: string | undefined) {
  const place = storage(draft, organization ?? "");
  const [files, setFiles] = useState<Attachment[]>(() => stored(place));
  const now = useRef(place);
  // Files belong to an organization: another one has its own.
  useEffect(() => {
    if (now.current === place) return;
    now.current = place;
    setFiles(stored(place));
  }, [place]);
  useEffect(() => {
    const kept = files.filter((f) => f.id).map(({ id, name, type }) => ({ id, name, type }));
    if (kept.length > 0) local.setItem(now.current, JSON.stringify(kept));
    else local.removeItem(now.current);
  }, [files]);
  // Many may be dropped at once: they are counted before any of them is drawn.
  const count = useRef(files.length);
  count.current = Math.max(count.current, files.length);
  useEffect(() => {
    count.current = files.length;
  }, [files]);
  const set = (key: number, change: Partial<Attachment>) => setFiles((old) => old.map((f) => (f.key === key ? { ...f, ...change } : f)));
  const add = async (file: File, text?: string) => {
    const type = typeOf(file);
    const key = nextKey++;
    const room = count.current++ < MOST_FILES;
    setFiles((old) => [...old, { key, name: file.name, type, text }]);
    if (!room) return set(key, { error: `no more than ${MOST_FILES} files` });
    if (!TYPES.includes(type)) return set(key, { error: "pictures and text only" });
    if (file.size > MOST_BYTES) return set(key, { error: "larger than 10 MB" });
    try {
      const { id } = await api.uploadFile<{ id: string }>(`${CHATS}/files?organization=${organization}`, new File([file], file.name, { type }));
      set(key, { id });
    } catch (error) {
      set(key, { error: (error as Error).message });
    }
  };
  const drop = useCallback((key: number) => setFiles((old) => old.filter((f) => f.key !== key)), []);
  // The page may be gone when a message is sent: what is kept goes at once.
  const clear = useCallback(() => {
    local.removeItem(now.current);
    setFiles([]);
  }, []);
  return { files, add, drop, clear };
}

export function FileChip({ file: f, onDrop, onInline }: { file: Attachment; onDrop: () => void; onInline: (text: string) => void }) {
  return (
    <li class={f.error ? "problem" : ""} data-ready={!!f.id}>
      {f.id && f.type.startsWith("image/") && <Picture file={f.id} name={f.name} small />} {f.name} {f.error ?? (f.id ? "" : "…")}
      {f.text !== undefined && (
        <button
          type="button"
          class="plain small"
          onClick={() => {
            onInline(f.text!);
            onDrop();
          }}
        >
          Into the message
        </button>
      )}
      <button type="button" class="plain small" aria-label={`Remove ${f.name}`} onClick={onDrop}>
        ×
      </button>
    </li>
  );
}
