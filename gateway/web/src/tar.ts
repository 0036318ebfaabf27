// A tar archive (POSIX ustar) of the files that a person picked for a template.
//
// SPDX-License-Identifier: MIT

const BLOCK = 512;

function octal(value: number, width: number): string {
  return value.toString(8).padStart(width - 1, "0") + "\0";
}

function header(name: string, size: number): Uint8Array {
  const block = new Uint8Array(BLOCK);
  const put = (text: string, at: number) => block.set(new TextEncoder().encode(text), at);
  if (new TextEncoder().encode(name).length > 100) throw new Error(`The file name is too long: ${name}`);
  put(name, 0);
  put(octal(0o644, 8), 100);
  put(octal(0, 8), 108);
  put(octal(0, 8), 116);
  put(octal(size, 12), 124);
  put(octal(0, 12), 136);
  put("        ", 148);
  put("0", 156);
  put("ustar\0" + "00", 257);
  const sum = block.reduce((total, byte) => total + byte, 0);
  put(octal(sum, 7) + " ", 148);
  return block;
}

export function tar(files: { name: string; content: Uint8Array }[]): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  for (const file of files) {
    parts.push(header(file.name, file.content.length), file.content);
    parts.push(new Uint8Array((BLOCK - (file.content.length % BLOCK)) % BLOCK));
  }
  parts.push(new Uint8Array(2 * BLOCK));
  const archive = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
  let at = 0;
  for (const part of parts) {
    archive.set(part, at);
    at += part.length;
  }
  return archive;
}

/** What the file picker gave: one .tar as it is, or loose files and folders packed into one. */
export async function archiveOf(list: FileList): Promise<Uint8Array<ArrayBuffer>> {
  const files = [...list];
  if (files.length === 1 && files[0].name.endsWith(".tar")) return new Uint8Array(await files[0].arrayBuffer());
  const read = await Promise.all(
    files.map(async (file) => ({ path: file.webkitRelativePath || file.name, content: new Uint8Array(await file.arrayBuffer()) })),
  );
  const wanted = read.filter(({ path }) => !/(^|\/)(\.git|\.terraform)(\/|$)|\.tfstate/.test(path));
  if (!wanted.some(({ path }) => /\.tf(\.json)?$/.test(path))) throw new Error("A template needs at least one .tf file.");
  const inFolder = wanted.every(({ path }) => path.includes("/"));
  return tar(wanted.map(({ path, content }) => ({ name: inFolder ? path.slice(path.indexOf("/") + 1) : path, content })));
}
