// Options of models that differ from provider to provider: how much they think, whether they search the web.
//
// SPDX-License-Identifier: MIT
import { Field, Select } from "../ui";
import { Check } from "./shared";

export type ProviderOptions = Record<string, Record<string, unknown>>;

interface Option {
  /** Where it is below the provider's own options. */
  path: string[];
  label: string;
  /** Words to choose from, a number, or yes and no. */
  kind: string[] | "number" | "check";
  help?: string;
}

const EFFORT: Option = { path: ["reasoning_effort"], label: "Reasoning effort", kind: ["none", "minimal", "low", "medium", "high", "xhigh"] };
const SEARCH: Option = { path: ["web_search_enabled"], label: "Searches the web", kind: "check" };
const OPENAI: Option[] = [EFFORT, { path: ["reasoning_summary"], label: "Thoughts are told", kind: ["auto", "concise", "detailed"] }, { path: ["service_tier"], label: "Service tier", kind: ["auto", "default", "flex", "scale", "priority"] }, SEARCH];
const ANTHROPIC: Option[] = [
  { path: ["thinking", "budget_tokens"], label: "Tokens to think", kind: "number", help: "Empty: it does not think." },
  { path: ["effort"], label: "Effort", kind: ["low", "medium", "high", "max"] },
  { path: ["send_reasoning"], label: "Thoughts go back to it", kind: "check" },
  SEARCH,
];

/** The name under which a provider's options are, and what they are. */
const OPTIONS: Record<string, [name: string, options: Option[]]> = {
  openai: ["openai", OPENAI],
  azure: ["openai", OPENAI],
  anthropic: ["anthropic", ANTHROPIC],
  bedrock: ["anthropic", ANTHROPIC.slice(0, 3)],
  google: ["google", [{ path: ["thinking_config", "thinking_budget"], label: "Tokens to think", kind: "number" }, { path: ["thinking_config", "include_thoughts"], label: "Thoughts are told", kind: "check" }, SEARCH]],
  "openai-compat": ["openaicompat", [EFFORT]],
  openrouter: ["openrouter", [{ path: ["reasoning", "effort"], label: "Reasoning effort", kind: ["low", "medium", "high"] }, { path: ["reasoning", "max_tokens"], label: "Tokens to think", kind: "number" }]],
  vercel: ["vercel", [{ path: ["reasoning", "effort"], label: "Reasoning effort", kind: ["low", "medium", "high"] }, { path: ["reasoning", "max_tokens"], label: "Tokens to think", kind: "number" }]],
};

type Values = Record<string, unknown>;

const isObject = (value: unknown): value is Values => typeof value === "object" && value !== null && !Array.isArray(value);

export const valueAt = (values: unknown, path: string[]): unknown => path.reduce<unknown>((at, key) => (isObject(at) ? at[key] : undefined), values);

/** The same with another value; undefined takes it away, and what is empty then. */
export function withValue(values: Values, [key, ...rest]: string[], value: unknown): Values {
  const { [key]: old, ...others } = values;
  const now = rest.length === 0 ? value : withValue(isObject(old) ? old : {}, rest, value);
  return now === undefined || (isObject(now) && Object.keys(now).length === 0) ? others : { ...others, [key]: now };
}

export function Reasoning({ provider, value, onChange }: { provider: string; value: ProviderOptions; onChange: (value: ProviderOptions) => void }) {
  const found = OPTIONS[provider];
  if (!found) return null;
  const [name, options] = found;
  const set = (o: Option) => (to: unknown) => onChange(withValue(value, [name, ...o.path], to) as ProviderOptions);
  return (
    <fieldset class="choices">
      <legend>Reasoning and search</legend>
      {options.map((o) => {
        const at = valueAt(value[name], o.path);
        const change = set(o);
        if (o.kind === "check") return <Check key={o.label} label={o.label} checked={at === true} onChange={(on) => change(on || undefined)} />;
        if (o.kind === "number") return <Field key={o.label} label={o.label} type="number" min={0} value={at === undefined ? "" : String(at)} help={o.help} onInput={(e) => change(e.currentTarget.value === "" ? undefined : Number(e.currentTarget.value))} />;
        return <Select key={o.label} label={o.label} value={String(at ?? "")} choices={[["", "as the provider does"], ...o.kind.map((w): [string, string] => [w, w])]} onChange={(w) => change(w || undefined)} />;
      })}
    </fieldset>
  );
}
