// Light, dark, or what the system says; remembered in this browser.
//
// SPDX-License-Identifier: MIT

const ORDER = ["auto", "light", "dark"];
const stored = () => localStorage.getItem("theme") ?? "auto";

export function applyTheme() {
  document.documentElement.dataset.theme = stored();
}

export function nextTheme() {
  localStorage.setItem("theme", ORDER[(ORDER.indexOf(stored()) + 1) % ORDER.length]);
  applyTheme();
}
