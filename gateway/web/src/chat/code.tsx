// A block of code with a button that copies it.
//
// SPDX-License-Identifier: MIT
import { useState } from "preact/hooks";
import { highlight } from "./highlight";

export function CopyButton({ text, children = "Copy" }: { text: string; children?: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard?.writeText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return (
    <button type="button" class="plain small" onClick={() => void copy()}>
      {copied ? "Copied" : children}
    </button>
  );
}

export function Code({ text, language = "" }: { text: string; language?: string }) {
  return (
    <div class="code">
      <div class="code-head">
        <span class="quiet">{language}</span>
        <CopyButton text={text} />
      </div>
      <pre>
        <code>{highlight(text, language)}</code>
      </pre>
    </div>
  );
}
