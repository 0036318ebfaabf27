// Plots in SVG: lines, stacked bars, shares.  Each has its numbers as a table too, and can be read with the keyboard.
//
// SPDX-License-Identifier: MIT
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";

export interface Series {
  name: string;
  /** One of the palette: 1 to 6. */
  color: number;
  /** null: nothing is known at that point. */
  values: (number | null)[];
}

interface ChartProps {
  title: string;
  /** What a point is called, for people: "Mon, 3 March". */
  labels: string[];
  /** The same at the axis, short. */
  ticks?: string[];
  series: Series[];
  /** Areas and bars stand on one another. */
  kind?: "line" | "area" | "bars";
  format?: (value: number) => string;
  height?: number;
  /** Axis steps are whole numbers. */
  whole?: boolean;
  empty?: ComponentChildren;
}

const plain = (value: number) => value.toLocaleString(undefined, { maximumFractionDigits: 1 });

/** Round steps from zero to above the highest value. */
export function axisSteps(top: number, whole: boolean, wanted = 4): number[] {
  if (!(top > 0)) return [0, 1];
  const raw = top / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = Math.max(whole ? 1 : 0, [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw && (!whole || Number.isInteger(s))) ?? 10 * power);
  const steps = [];
  for (let n = 0; n * step < top + step * 0.999; n++) steps.push(n * step);
  return steps;
}

/** The width that the element has, as it changes. */
function useWidth() {
  const ref = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(640);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.max(220, entry.contentRect.width)));
    if (ref.current) observer.observe(ref.current);
    return () => observer.disconnect();
  }, []);
  return { ref, width };
}

const LEFT = 52;
const RIGHT = 12;
const TOP = 10;
const BOTTOM = 24;

/** Pieces of a line between gaps. */
function pieces(points: ([number, number] | null)[]): [number, number][][] {
  const all: [number, number][][] = [[]];
  for (const point of points) {
    if (point) all[all.length - 1].push(point);
    else if (all[all.length - 1].length > 0) all.push([]);
  }
  return all.filter((piece) => piece.length > 0);
}

const path = (points: [number, number][]) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join("");

function Legend({ series }: { series: Series[] }) {
  if (series.length < 2) return null;
  return (
    <ul class="legend">
      {series.map((s) => (
        <li key={s.name} class={`c${s.color}`}>
          {s.name}
        </li>
      ))}
    </ul>
  );
}

function NumbersTable({ labels, series, format, title }: { labels: string[]; series: Series[]; format: (value: number) => string; title: string }) {
  const [open, setOpen] = useState(false);
  return (
    <details class="numbers" onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary>{title} as a table</summary>
      {open && (
        <div class="scroll">
          <table>
            <thead>
              <tr>
                <th />
                {series.map((s) => (
                  <th key={s.name}>{s.name}</th>
                ))}
              </tr>
            </thead>
            <tbody>
              {labels.map((label, i) => (
                <tr key={label + i}>
                  <td>{label}</td>
                  {series.map((s) => (
                    <td key={s.name}>{s.values[i] === null ? "–" : format(s.values[i] as number)}</td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </details>
  );
}

export function Chart({ title, labels, ticks, series, kind = "line", format = plain, height = 200, whole = false, empty }: ChartProps) {
  const { ref, width } = useWidth();
  const [at, setAt] = useState<number>();
  const id = useId();
  const n = labels.length;
  const stacked = kind !== "line";
  const known = series.some((s) => s.values.some((v) => v !== null && v !== 0));
  const sums = labels.map((_, i) => series.reduce((sum, s) => (stacked ? sum + (s.values[i] ?? 0) : Math.max(sum, s.values[i] ?? 0)), 0));
  const steps = axisSteps(Math.max(0, ...sums), whole);
  const top = steps[steps.length - 1];
  const inner = width - LEFT - RIGHT;
  const slot = inner / Math.max(1, kind === "bars" ? n : n - 1);
  const x = (i: number) => LEFT + (kind === "bars" ? (i + 0.5) * slot : n === 1 ? inner / 2 : i * slot);
  const y = (value: number) => TOP + (height - TOP - BOTTOM) * (1 - value / top);
  const every = Math.max(1, Math.ceil(n / Math.max(1, Math.floor(inner / 72))));

  const point = (clientX: number, box: DOMRect) => {
    const i = Math.floor((clientX - box.left - LEFT) / slot + (kind === "bars" ? 0 : 0.5));
    setAt(Math.min(n - 1, Math.max(0, i)));
  };
  const onKey = (event: KeyboardEvent) => {
    const move: Record<string, number> = { ArrowLeft: (at ?? n) - 1, ArrowRight: (at ?? -1) + 1, Home: 0, End: n - 1 };
    if (event.key === "Escape") setAt(undefined);
    if (!(event.key in move)) return;
    event.preventDefault();
    setAt(Math.min(n - 1, Math.max(0, move[event.key])));
  };

  let under = labels.map(() => 0);
  const shapes = series.map((s) => {
    const base = under;
    if (stacked) under = base.map((b, i) => b + (s.values[i] ?? 0));
    if (kind === "bars")
      return (
        <g key={s.name} class={`c${s.color}`}>
          {s.values.map((v, i) =>
            v ? <rect key={i} x={x(i) - Math.min(slot * 0.38, 18)} width={Math.min(slot * 0.76, 36)} y={y(base[i] + v)} height={Math.max(1, y(base[i]) - y(base[i] + v))} rx={1.5} opacity={at === undefined || at === i ? 1 : 0.55} /> : null,
          )}
        </g>
      );
    // What is nothing all the time would hide what it stands on.
    if (stacked && !s.values.some((v) => v)) return null;
    const line = pieces(s.values.map((v, i) => (v === null ? null : [x(i), y(stacked ? base[i] + v : v)])));
    const floor = pieces(s.values.map((v, i) => (v === null ? null : [x(i), y(base[i])])));
    return (
      <g key={s.name} class={`c${s.color}`}>
        {stacked && line.map((piece, k) => <path key={`a${k}`} class="area" d={`${path(piece)}${path(floor[k].slice().reverse()).replace("M", "L")}Z`} />)}
        {line.map((piece, k) => (piece.length === 1 ? <circle key={k} cx={piece[0][0]} cy={piece[0][1]} r={2.5} /> : <path key={k} class="line" d={path(piece)} />))}
        {at !== undefined && s.values[at] !== null && <circle cx={x(at)} cy={y(stacked ? base[at] + (s.values[at] as number) : (s.values[at] as number))} r={4} />}
      </g>
    );
  });

  return (
    <figure class="chart" aria-labelledby={id}>
      <figcaption id={id}>
        <span>{title}</span>
        <Legend series={series} />
      </figcaption>
      <div ref={ref} class="plot">
        {!known ? (
          <div class="nothing" style={{ height: `${height}px` }}>
            {empty ?? "Nothing in this time."}
          </div>
        ) : (
          <>
            <svg
              width={width}
              height={height}
              tabIndex={0}
              role="img"
              aria-label={`${title}: ${n} points; arrow keys read them`}
              onPointerMove={(e) => point(e.clientX, e.currentTarget.getBoundingClientRect())}
              onPointerLeave={() => setAt(undefined)}
              onBlur={() => setAt(undefined)}
              onKeyDown={onKey}
            >
              {steps.map((step) => (
                <g key={step}>
                  <line class="rule" x1={LEFT} x2={width - RIGHT} y1={y(step)} y2={y(step)} />
                  <text x={LEFT - 8} y={y(step) + 4} text-anchor="end">
                    {format(step)}
                  </text>
                </g>
              ))}
              {labels.map((_, i) =>
                i % every === 0 ? (
                  <text key={i} x={Math.min(x(i), width - 26)} y={height - 6} text-anchor="middle">
                    {(ticks ?? labels)[i]}
                  </text>
                ) : null,
              )}
              {at !== undefined && kind !== "bars" && <line class="cursor" x1={x(at)} x2={x(at)} y1={TOP} y2={height - BOTTOM} />}
              {shapes}
            </svg>
            {at !== undefined && (
              <div class={x(at) > width / 2 ? "tip left" : "tip"} role="status" style={{ left: `${x(at)}px` }}>
                <strong>{labels[at]}</strong>
                {series.map((s) => (
                  <div key={s.name} class={`c${s.color}`}>
                    <i /> {series.length > 1 && `${s.name}: `}
                    {s.values[at] === null ? "not known" : format(s.values[at] as number)}
                  </div>
                ))}
              </div>
            )}
          </>
        )}
      </div>
      {known && <NumbersTable labels={labels} series={series} format={format} title={title} />}
    </figure>
  );
}

export interface Share {
  key: string;
  name: ComponentChildren;
  value: number;
  text: string;
  color?: number;
  more?: ComponentChildren;
}

/** Names with bars, the longest first as they come. */
export function Shares({ shares, empty, label }: { shares: Share[]; empty: ComponentChildren; label: string }) {
  const top = Math.max(0, ...shares.map((s) => s.value));
  if (top === 0) return <div class="nothing">{empty}</div>;
  return (
    <ul class="shares" aria-label={label}>
      {shares.map((s) => (
        <li key={s.key}>
          <span class="name">{s.name}</span>
          <span class={`bar c${s.color ?? 1}`}>
            <i style={{ width: `${(100 * s.value) / top}%` }} />
          </span>
          <span class="value">{s.text}</span>
          {s.more && <span class="more">{s.more}</span>}
        </li>
      ))}
    </ul>
  );
}

/** A few numbers that sum up: how much, of what. */
export function Tiles({ tiles }: { tiles: { name: string; value: ComponentChildren; note?: ComponentChildren; tone?: string }[] }) {
  return (
    <dl class="tiles">
      {tiles.map((t) => (
        <div key={t.name} class={t.tone}>
          <dt>{t.name}</dt>
          <dd>{t.value}</dd>
          {t.note && <dd class="note">{t.note}</dd>}
        </div>
      ))}
    </dl>
  );
}

export function formatBytes(bytes: number): string {
  let value = bytes;
  for (const unit of ["B", "KB", "MB", "GB", "TB"]) {
    if (value < 1000 || unit === "TB") return `${value < 10 && unit !== "B" ? value.toFixed(1) : Math.round(value)} ${unit}`;
    value /= 1000;
  }
  return "";
}

/** Seconds as people say them. */
export function formatSpan(seconds: number): string {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.round((seconds % 3600) / 60);
  return minutes && hours < 100 ? `${hours} h ${minutes} min` : `${hours.toLocaleString()} h`;
}

export const formatMs = (ms: number) => (ms < 10 && !Number.isInteger(ms) ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`);
