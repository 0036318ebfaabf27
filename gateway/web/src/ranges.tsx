// Times of reports: whole days of the browser's zone, in the address so that a report can be sent to others; files of reports.
//
// SPDX-License-Identifier: MIT
import { useLocation, useSearch } from "wouter-preact";
import { query } from "./api";
import type { Template } from "./types";
import { Select } from "./ui";

export const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

const pad = (n: number) => String(Math.abs(n)).padStart(2, "0");

/** A local time as RFC 3339 with its offset, to the second. */
export function rfc3339(date: Date): string {
  const offset = -date.getTimezoneOffset();
  return (
    `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}T${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}` +
    `${offset < 0 ? "-" : "+"}${pad(Math.trunc(offset / 60))}:${pad(offset % 60)}`
  );
}

/** Midnight of the day n days before today. */
const midnight = (n: number) => {
  const now = new Date();
  return new Date(now.getFullYear(), now.getMonth(), now.getDate() - n);
};

/** The end of a report that ends now: this hour's end, or midnight where the day ends with it. */
const thisHour = () => {
  const now = new Date();
  return new Date(now.getFullYear(), now.getMonth(), now.getDate(), now.getHours() + 1);
};

export interface Range {
  start: string;
  end: string;
  days: number;
  interval: "day" | "week";
}

const RANGES: [string, string, number][] = [
  ["7d", "Last 7 days", 7],
  ["30d", "Last 30 days", 30],
  ["90d", "Last 90 days", 90],
  ["12w", "Last 26 weeks", 182],
];

const isDate = (text: string | null): text is string => !!text && /^\d{4}-\d\d-\d\d$/.test(text) && !Number.isNaN(new Date(`${text}T00:00:00`).getTime());

/** What the address asks for: a number of days that ends now, or two dates (both included). */
export function rangeOf(search: URLSearchParams): Range {
  const from = search.get("from");
  const to = search.get("to");
  if (isDate(from) && isDate(to) && from <= to) {
    const start = new Date(`${from}T00:00:00`);
    const last = new Date(`${to}T00:00:00`);
    const end = last >= midnight(0) ? thisHour() : new Date(last.getFullYear(), last.getMonth(), last.getDate() + 1);
    const days = Math.round((end.getTime() - start.getTime()) / 86_400_000) || 1;
    return { start: rfc3339(start > end ? midnight(0) : start), end: rfc3339(end), days, interval: days > 120 && days % 7 >= 6 ? "week" : "day" };
  }
  const days = RANGES.find(([name]) => name === search.get("range"))?.[2] ?? 30;
  return { start: rfc3339(midnight(days - 1)), end: rfc3339(thisHour()), days, interval: days > 120 ? "week" : "day" };
}

/** The search part of the address, and a way to change some of it. */
export function useParamsOf(): [URLSearchParams, (change: Record<string, string>) => void] {
  const search = new URLSearchParams(useSearch());
  const [location, navigate] = useLocation();
  const set = (change: Record<string, string>) => {
    for (const [name, value] of Object.entries(change)) {
      if (value) search.set(name, value);
      else search.delete(name);
    }
    navigate(query(location, Object.fromEntries(search)).replace(/\?$/, ""), { replace: true });
  };
  return [search, set];
}

const today = () => rfc3339(midnight(0)).slice(0, 10);

export function RangePicker({ search, set }: { search: URLSearchParams; set: (change: Record<string, string>) => void }) {
  const custom = search.has("from");
  const range = rangeOf(search);
  const choose = (value: string) =>
    value === "custom" ? set({ range: "", from: range.start.slice(0, 10), to: search.get("to") ?? today() }) : set({ range: value, from: "", to: "" });
  return (
    <>
      <Select label="Time" value={custom ? "custom" : (search.get("range") ?? "30d")} choices={[...RANGES.map(([name, text]): [string, string] => [name, text]), ["custom", "From – to"]]} onChange={choose} />
      {custom && (
        <>
          <div class="field">
            <label for="from">From</label>
            <input id="from" type="date" max={search.get("to") ?? today()} value={search.get("from") ?? ""} onChange={(e) => set({ from: e.currentTarget.value })} />
          </div>
          <div class="field">
            <label for="to">To</label>
            <input id="to" type="date" min={search.get("from") ?? ""} max={today()} value={search.get("to") ?? ""} onChange={(e) => set({ to: e.currentTarget.value })} />
          </div>
        </>
      )}
    </>
  );
}

/** One template, or all of them for who may see that. */
export function TemplatePicker({ templates, all, value, set }: { templates?: Template[]; all: boolean; value: string; set: (change: Record<string, string>) => void }) {
  const every: [string, string][] = all ? [["", "All templates"]] : [];
  return <Select label="Template" value={value} choices={[...every, ...(templates ?? []).map((t): [string, string] => [t.id, t.display_name || t.name])]} onChange={(template) => set({ template })} />;
}

/** "2026-03-03…" as a day for people, and short for an axis. */
export const dayName = (date: string) => new Date(`${date.slice(0, 10)}T12:00:00`).toLocaleDateString(undefined, { weekday: "short", day: "numeric", month: "long" });
export const dayTick = (date: string) => new Date(`${date.slice(0, 10)}T12:00:00`).toLocaleDateString(undefined, { day: "numeric", month: "short" });

/** A field of a CSV file; what a spreadsheet would take for a formula is none. */
const csvField = (value: unknown) => {
  const text = String(value ?? "");
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
};

export const toCsv = (rows: unknown[][]) => rows.map((row) => row.map(csvField).join(",")).join("\r\n") + "\r\n";

function save(name: string, type: string, text: string) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** Two buttons that save what is shown. */
export function Export({ name, rows, data }: { name: string; rows?: unknown[][]; data?: unknown }) {
  return (
    <div class="actions">
      <button type="button" disabled={!rows || rows.length < 2} onClick={() => rows && save(`${name}.csv`, "text/csv;charset=utf-8", toCsv(rows))}>
        CSV
      </button>
      <button type="button" disabled={!data} onClick={() => save(`${name}.json`, "application/json", JSON.stringify(data, null, 2))}>
        JSON
      </button>
    </div>
  );
}
