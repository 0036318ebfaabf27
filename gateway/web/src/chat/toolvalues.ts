// Arguments and results of tools, whatever a model or a tool made of them.
//
// SPDX-License-Identifier: MIT
import type { Part } from "./types";

export type Values = Record<string, unknown>;

export const asObject = (value: unknown): Values => (value && typeof value === "object" && !Array.isArray(value) ? (value as Values) : {});
export const asText = (value: unknown): string => (typeof value === "string" ? value : value === undefined || value === null ? "" : JSON.stringify(value, null, 2));

/** Arguments that are still being written are no JSON yet. */
export function argsOf(call: Part): Values {
  if (call.args !== undefined && call.args !== null) return asObject(call.args);
  try {
    return asObject(JSON.parse(call.args_delta ?? "{}"));
  } catch {
    return {};
  }
}

export const filesOf = (args: Values): Values[] => (Array.isArray(args.files) ? args.files.map(asObject) : []);

export function editsOf(args: Values): { path: string; before: string; after: string }[] {
  return filesOf(args).flatMap((f) => (Array.isArray(f.edits) ? f.edits.map(asObject) : []).map((e) => ({ path: asText(f.path), before: asText(e.search), after: asText(e.replace) })));
}

export const isId = (text: string) => /^[0-9a-f-]{36}$/.test(text);
