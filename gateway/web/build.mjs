// Bundles src/ into dist/: hashed names (cached for ever), a .gz beside each text file
// (sent as it is by the gateway), and index.html with the names filled in.
//
// SPDX-License-Identifier: MIT
import { build } from "esbuild";
import { gzipSync } from "node:zlib";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";

const out = "dist";
rmSync(out, { recursive: true, force: true });
mkdirSync(join(out, "assets"), { recursive: true });

const result = await build({
  entryPoints: ["src/main.tsx"],
  bundle: true,
  splitting: true,
  format: "esm",
  target: "es2022",
  minify: true,
  jsx: "automatic",
  jsxImportSource: "preact",
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  outdir: join(out, "assets"),
  metafile: true,
  legalComments: "none",
});

const outputs = Object.entries(result.metafile.outputs);
const entry = outputs.find(([, o]) => o.entryPoint === "src/main.tsx");
const html = readFileSync("src/index.html", "utf8")
  .replace("{{script}}", "/" + entry[0].slice(out.length + 1))
  .replace("{{style}}", "/" + entry[1].cssBundle.slice(out.length + 1));
writeFileSync(join(out, "index.html"), html);
for (const name of ["favicon.svg", "manifest.webmanifest", "push-worker.js"]) writeFileSync(join(out, name), readFileSync(join("src", name)));

// What the first page loads: the entry, what it imports at once, and the style.
const wanted = new Set([basename(entry[1].cssBundle)]);
const visit = (path) => {
  if (wanted.has(basename(path))) return;
  wanted.add(basename(path));
  for (const i of result.metafile.outputs[path].imports) if (i.kind === "import-statement") visit(i.path);
};
visit(entry[0]);

let first = 0;
for (const name of readdirSync(join(out, "assets"))) {
  const path = join(out, "assets", name);
  const packed = gzipSync(readFileSync(path), { level: 9 });
  writeFileSync(path + ".gz", packed);
  if (wanted.has(name)) first += packed.length;
}
console.log(`  WEB dist (${Math.ceil(first / 1024)} kB compressed to begin with)`);
