// A block of code with a button that copies it.
//
// SPDX-License-Identifier: MIT
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
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

/**
 * Text that scrolls where it is too tall or too wide for its place: then it is in the order of tabs, so that keys scroll it
 * too, and has a name.  What fits is passed over.  A group, not a region: a chat has many, and landmarks are to be few.
 */
export function Scrolled({ label, class: name, children }: { label: string; class?: string; children: ComponentChildren }) {
  const box = useRef<HTMLPreElement>(null);
  const [scrolls, setScrolls] = useState(false);
  const look = () => {
    const { scrollHeight, clientHeight, scrollWidth, clientWidth } = box.current!;
    setScrolls(scrollHeight > clientHeight || scrollWidth > clientWidth);
  };
  useEffect(look, [children]);
  useEffect(() => {
    const sizes = new ResizeObserver(look);
    sizes.observe(box.current!);
    return () => sizes.disconnect();
  }, []);
  return (
    <pre ref={box} class={name} {...(scrolls ? { tabIndex: 0, role: "group", "aria-label": label } : {})}>
      {children}
    </pre>
  );
}

export function Code({ text, language = "" }: { text: string; language?: string }) {
  return (
    <div class="code">
      <div class="code-head">
        <span class="quiet">{language}</span>
        <CopyButton text={text} />
      </div>
      <Scrolled label={language ? `Code in ${language}` : "Code"}>
        <code>{highlight(text, language)}</code>
      </Scrolled>
    </div>
  );
}
