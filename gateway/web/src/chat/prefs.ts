// What somebody likes in this browser: kept in its storage, the same in all of its windows.
//
// SPDX-License-Identifier: MIT
import { useCallback, useEffect, useState } from "preact/hooks";
import { local } from "../storage";

const CHANGED = "preference-changed";
const key = (name: string) => `chat-${name}`;

export const preference = (name: string) => local.getItem(key(name)) === "on";

/** Something that is on or off, off to begin with. */
export function usePreference(name: string): [on: boolean, set: (on: boolean) => void] {
  const [on, setOn] = useState(() => preference(name));
  useEffect(() => {
    const look = () => setOn(preference(name));
    window.addEventListener("storage", look);
    window.addEventListener(CHANGED, look);
    return () => {
      window.removeEventListener("storage", look);
      window.removeEventListener(CHANGED, look);
    };
  }, [name]);
  const set = useCallback(
    (wanted: boolean) => {
      if (wanted) local.setItem(key(name), "on");
      else local.removeItem(key(name));
      window.dispatchEvent(new Event(CHANGED));
    },
    [name],
  );
  return [on, set];
}
