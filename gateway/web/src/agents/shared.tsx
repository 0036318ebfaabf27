// What the settings of the chats share: fields, forms, names.
//
// SPDX-License-Identifier: MIT
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { CHATS } from "../chat/types";
import { Form } from "../ui";

export const CONFIG = `${CHATS}/config`;

export const NAMES: Record<string, string> = {
  anthropic: "Anthropic",
  azure: "Azure OpenAI",
  bedrock: "AWS Bedrock",
  google: "Google",
  openai: "OpenAI",
  "openai-compat": "OpenAI compatible",
  openrouter: "OpenRouter",
  vercel: "Vercel",
};
export const providerName = (p: { provider: string; display_name?: string }) => p.display_name || NAMES[p.provider] || p.provider;

export function TextArea({ label, value, onInput, help, rows = 8, readOnly }: { label: string; value: string; onInput?: (value: string) => void; help?: string; rows?: number; readOnly?: boolean }) {
  const id = `area-${label.replace(/\W+/g, "-")}`;
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <textarea id={id} rows={rows} value={value} readOnly={readOnly} onInput={(e) => onInput?.(e.currentTarget.value)} />
      <div class="help">{help}</div>
    </div>
  );
}

export function Check({ label, checked, onChange, disabled }: { label: string; checked: boolean; onChange: (checked: boolean) => void; disabled?: boolean }) {
  return (
    <div class="field">
      <label class="check">
        <input type="checkbox" checked={checked} disabled={disabled} onChange={(e) => onChange(e.currentTarget.checked)} /> {label}
      </label>
    </div>
  );
}

/** A form whose button says for a while that what it did was kept. */
export function SaveForm({ action, children, disabled }: { action: () => Promise<void>; children: ComponentChildren; disabled?: boolean }) {
  const [saved, setSaved] = useState(false);
  const run = async () => {
    setSaved(false);
    await action();
    setSaved(true);
  };
  return (
    <Form action={run} submit="Save" busy="Saving …" disabled={disabled} extra={saved && <span role="status">Saved.</span>}>
      {() => children}
    </Form>
  );
}
