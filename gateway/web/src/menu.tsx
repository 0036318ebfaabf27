// A button with a list of things to do, shown above all else; arrows go through it, Escape leaves it.
//
// SPDX-License-Identifier: MIT
import type { ComponentChildren } from "preact";
import { useId, useRef, useState } from "preact/hooks";

export interface MenuItem {
  text: ComponentChildren;
  /** A link, or something to do. */
  href?: string;
  action?: () => void | Promise<void>;
  danger?: boolean;
  disabled?: boolean;
}

/** Below the button where there is room, else above it; never outside the window. */
function place(box: HTMLElement, button: HTMLElement) {
  const at = button.getBoundingClientRect();
  const below = at.bottom + box.offsetHeight + 8 <= innerHeight;
  box.style.left = `${Math.max(8, Math.min(at.right - box.offsetWidth, innerWidth - box.offsetWidth - 8))}px`;
  box.style.top = `${Math.max(8, below ? at.bottom + 4 : at.top - box.offsetHeight - 4)}px`;
}

export function Menu({ label, items, children, kind = "" }: { label: string; items: MenuItem[]; children: ComponentChildren; kind?: string }) {
  const id = useId();
  const button = useRef<HTMLButtonElement>(null);
  const box = useRef<HTMLDivElement>(null);
  const [open, setOpen] = useState(false);
  const [error, setError] = useState<Error>();
  const [busy, setBusy] = useState(false);
  const choices = () => [...(box.current?.querySelectorAll<HTMLElement>('[role="menuitem"]:not(:disabled)') ?? [])];
  const onToggle = (event: Event) => {
    const shown = (event as ToggleEvent).newState === "open";
    setOpen(shown);
    setError(undefined);
    if (!shown || !box.current || !button.current) return;
    place(box.current, button.current);
    choices()[0]?.focus();
  };
  const onKey = (event: KeyboardEvent) => {
    const all = choices();
    const at = all.indexOf(document.activeElement as HTMLElement);
    const to: Record<string, number> = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 };
    if (!(event.key in to) || all.length === 0) return;
    event.preventDefault();
    event.stopPropagation();
    all[(to[event.key] + all.length) % all.length].focus();
  };
  const run = async (item: MenuItem) => {
    setBusy(true);
    setError(undefined);
    try {
      await item.action?.();
      box.current?.hidePopover();
    } catch (problem) {
      setError(problem as Error);
    } finally {
      setBusy(false);
    }
  };
  const attributes = { popover: "auto", onToggle } as object;
  const opens = { popovertarget: id } as object;
  return (
    <>
      <button type="button" ref={button} class={kind} aria-label={label} title={label} aria-haspopup="menu" aria-expanded={open} onClick={(e) => e.stopPropagation()} {...opens}>
        {children}
      </button>
      <div id={id} ref={box} class="menu" role="menu" aria-label={label} onKeyDown={onKey} {...attributes}>
        {open &&
          items.map((item, i) =>
            item.href ? (
              <a key={i} role="menuitem" href={item.href} target={/^(\/(agents|@[^/]+\/[^/]+$)|vscode)/.test(item.href) ? undefined : "_blank"} rel="noopener noreferrer" onClick={() => box.current?.hidePopover()}>
                {item.text}
              </a>
            ) : (
              <button key={i} type="button" role="menuitem" class={item.danger ? "danger" : ""} disabled={busy || item.disabled} onClick={() => void run(item)}>
                {item.text}
              </button>
            ),
          )}
        {error && (
          <p class="problem" role="alert">
            {error.message}
          </p>
        )}
      </div>
    </>
  );
}
