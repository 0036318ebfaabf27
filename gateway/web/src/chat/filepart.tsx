// Files in messages: pictures, which open large, and texts.
//
// SPDX-License-Identifier: MIT
import { useEffect, useRef, useState } from "preact/hooks";
import { api, identity } from "../api";
import { CHATS, type Part } from "./types";

const addressOf = (file: string) => `${CHATS}/files/${file}`;

const asDataUrl = (blob: Blob) =>
  new Promise<string>((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });

/** Where a picture comes from; in an editor's frame no cookie goes with it, so it is asked for. */
function useSource(file: string): string | undefined {
  const [source, setSource] = useState(identity.framed ? undefined : addressOf(file));
  useEffect(() => {
    if (!identity.framed) return setSource(addressOf(file));
    let gone = false;
    api
      .blob(addressOf(file))
      .then(asDataUrl)
      .then((url) => !gone && setSource(url))
      .catch(() => undefined);
    return () => {
      gone = true;
    };
  }, [file]);
  return source;
}

/** A picture that opens as large as the window. */
export function Picture({ file, name, small }: { file: string; name: string; small?: boolean }) {
  const source = useSource(file);
  const large = useRef<HTMLDialogElement>(null);
  const [open, setOpen] = useState(false);
  useEffect(() => {
    if (open) large.current?.showModal();
  }, [open]);
  if (!source) return <span class="tag">{name}</span>;
  return (
    <>
      <button type="button" class="picture" aria-label={`Show ${name} large`} onClick={() => setOpen(true)}>
        <img class={small ? "" : "attached"} src={source} alt={name} loading="lazy" />
      </button>
      {open && (
        <dialog ref={large} class="lightbox" aria-label={name} onClose={() => setOpen(false)} onClick={() => large.current?.close()}>
          <img src={source} alt={name} />
          <button type="button" autoFocus>
            Close
          </button>
        </dialog>
      )}
    </>
  );
}

export function FilePart({ part }: { part: Part }) {
  if (part.file_id && part.media_type?.startsWith("image/")) return <Picture file={part.file_id} name={part.file_name || "Attached picture"} />;
  const name = part.file_name || part.media_type || "file";
  return part.file_id ? (
    <a class="tag" href={addressOf(part.file_id)} target="_blank" rel="noopener">
      {name}
    </a>
  ) : (
    <span class="tag">{name}</span>
  );
}
