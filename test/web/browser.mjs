// One browser for the tests of a file, with a profile of its own.
//
// CODER_URL names a freshly started server; CODER_SCREENSHOTS, where given, a folder for pictures of the pages.
//
// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { chromium } from "playwright-core";

export const base = process.env.CODER_URL;
assert.ok(base, "CODER_URL is not set");
export const OWNER = { username: "ada", email: "ada@example.com", password: "correct horse 7 battery" };

const pictures = process.env.CODER_SCREENSHOTS;
if (pictures) mkdirSync(pictures, { recursive: true });

/** Opens the browser before the file's tests and closes it behind them; page() and context() from the first test on. */
export function browser() {
  let profile, context, page;
  const problems = [];
  before(async () => {
    profile = mkdtempSync(join(tmpdir(), "coder-web-"));
    context = await chromium.launchPersistentContext(profile, {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      headless: true,
      viewport: { width: 1200, height: 800 },
      args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
    });
    page = await context.newPage();
    page.setDefaultTimeout(30_000);
    context.on("page", (opened) => opened.on("pageerror", (error) => problems.push(String(error))));
    page.on("pageerror", (error) => problems.push(String(error)));
  });
  after(async () => {
    await context?.close();
    rmSync(profile, { recursive: true, force: true });
  });
  const picture = (name, of = page) => (pictures ? of.screenshot({ path: join(pictures, `${name}.png`), fullPage: !!process.env.CODER_WHOLE_PAGES }) : undefined);
  return { page: () => page, context: () => context, picture, problems };
}
