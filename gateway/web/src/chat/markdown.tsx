// Markdown, whose renderer is loaded when the first answer is shown; until then the text as it is.
//
// SPDX-License-Identifier: MIT
import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";

let Renderer: ComponentType<{ text: string }> | undefined;
let loading: Promise<void> | undefined;

function load(): Promise<void> {
  loading ??= import("./rendermarkdown").then(
    (module) => {
      Renderer = module.default;
    },
    () => {
      loading = undefined;
    },
  );
  return loading;
}

export function Markdown({ text }: { text: string }) {
  const [, setReady] = useState(!!Renderer);
  useEffect(() => {
    if (!Renderer) void load().then(() => setReady(true));
  }, []);
  return <div class="markdown">{Renderer ? <Renderer text={text} /> : <p class="as-is">{text}</p>}</div>;
}
