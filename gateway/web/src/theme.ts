// Light, dark, or what the system says; remembered in this browser.
//
// SPDX-License-Identifier: MIT
import { local } from "./storage";

const ORDER = ["auto", "light", "dark"];
const stored = () => local.getItem("theme") ?? "auto";

export function applyTheme() {
  document.documentElement.dataset.theme = stored();
}

export function nextTheme() {
  local.setItem("theme", ORDER[(ORDER.indexOf(stored()) + 1) % ORDER.length]);
  applyTheme();
}
