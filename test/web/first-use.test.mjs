// From a new server to a shell, as a person does it: first user, starter template,
// workspace, terminal (typing, reload, resize), stop, start, delete.
//
// CODER_URL names a freshly started server; CODER_SCREENSHOTS, where given, a
// folder for pictures of the pages.
//
// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { test } from "node:test";
import { OWNER, base, browser } from "./browser.mjs";

const { page, context, picture, problems } = browser();
const status = (value) => page().locator(`h1 .status[data-status="${value}"]`).waitFor({ timeout: 60_000 });

/** What the terminal's page shows, as text: the rows that xterm.js draws. */
const screenText = (terminal) => terminal.locator(".xterm-rows").innerText();

async function waitForText(terminal, wanted, what) {
  const end = Date.now() + 20_000;
  let text = "";
  while (Date.now() < end) {
    text = (await screenText(terminal)).replace(/\u00a0/g, " ");
    if (wanted.test(text)) return text;
    await terminal.waitForTimeout(100);
  }
  assert.fail(`${what}: the terminal shows\n${text}`);
}

test("a bad first user is refused with the server's words", async () => {
  await page().goto(base);
  await page().getByLabel("Username").fill("not a name!");
  await page().getByLabel("Email").fill(OWNER.email);
  await page().getByLabel("Password").fill(OWNER.password);
  await page().getByRole("button", { name: "Create the first user" }).click();
  await page().getByRole("alert").first().waitFor();
});

test("the first user is created and sees the starter template", async () => {
  await page().getByLabel("Username").fill(OWNER.username);
  await picture("setup");
  await page().getByRole("button", { name: "Create the first user" }).click();
  await page().getByRole("heading", { name: "Templates" }).waitFor();
  await page().getByRole("link", { name: "sandbox", exact: true }).waitFor();
  await picture("templates");
});

test("a workspace is created and its agent connects", async () => {
  await page().getByRole("link", { name: "Create workspace" }).first().click();
  await page().getByLabel("Name", { exact: true }).fill("first");
  await picture("create");
  await page().getByRole("button", { name: "Create workspace" }).click();
  await status("running");
  await page().locator('.agent .status[data-status="connected"]').waitFor({ timeout: 60_000 });
  await picture("workspace");
});

test("the terminal runs what is typed, survives a reload and resizes", async () => {
  const [terminal] = await Promise.all([context().waitForEvent("page"), page().getByRole("link", { name: "Terminal" }).click()]);
  await terminal.locator(".xterm-rows").waitFor();
  await terminal.locator(".xterm-helper-textarea").focus();
  await waitForText(terminal, /\S/, "a prompt");
  await terminal.keyboard.type("marker=$((6*7)); echo answer-$marker\n");
  await waitForText(terminal, /answer-42/, "the answer");
  await picture("terminal", terminal);

  const address = terminal.url();
  await terminal.reload();
  assert.equal(terminal.url(), address, "the session is in the address");
  await terminal.locator(".xterm-helper-textarea").focus();
  await waitForText(terminal, /answer-42/, "the screen after a reload");
  await terminal.keyboard.type("echo again-$marker\n");
  await waitForText(terminal, /again-42/, "the same shell after a reload");

  await terminal.setViewportSize({ width: 700, height: 400 });
  await terminal.keyboard.type("clear; stty size\n");
  const small = await waitForText(terminal, /^\s*\d+ \d+\s*$/m, "the size");
  const [, rows, columns] = small.match(/^\s*(\d+) (\d+)\s*$/m).map(Number);
  assert.ok(rows < 30 && columns < 100, `the shell knows the new size, not ${rows}x${columns}`);

  await terminal.keyboard.type("echo kept > ~/kept\n");
  await terminal.keyboard.type("cat ~/kept\n");
  await waitForText(terminal, /^kept\s*$/m, "the file");
  await terminal.close();
});

test("the workspace stops, starts again with its home, and is found by search", async () => {
  await page().getByRole("button", { name: "Stop" }).click();
  await status("stopped");
  await page().getByRole("button", { name: "Start" }).click();
  await status("running");
  await page().locator('.agent .status[data-status="connected"]').waitFor({ timeout: 60_000 });
  const [terminal] = await Promise.all([context().waitForEvent("page"), page().getByRole("link", { name: "Terminal" }).click()]);
  await terminal.locator(".xterm-helper-textarea").focus();
  await waitForText(terminal, /\S/, "a prompt");
  await terminal.keyboard.type("cat ~/kept\n");
  await waitForText(terminal, /^kept\s*$/m, "the file from before the stop");
  await terminal.close();

  await page().getByRole("link", { name: "Workspaces" }).first().click();
  await page().getByLabel("Search").fill("owner:me status:running first");
  await page().getByRole("link", { name: "ada/first" }).waitFor();
  await picture("workspaces");
  await page().getByLabel("Search").fill("nothing-has-this-name");
  await page().getByText("No workspace matches.").waitFor();
});

const NATIVE = `
terraform {
  required_providers {
    coder = { source = "coder/coder" }
  }
}
data "coder_parameter" "size" {
  name    = "size"
  type    = "number"
  default = 3
}
resource "coder_agent" "main" {
  os   = "linux"
  arch = "amd64"
}
`;

const upload = (name, text) => ({ name, mimeType: "text/plain", buffer: Buffer.from(text) });

test("a template is uploaded; one that does not parse shows why", async () => {
  await page().getByRole("link", { name: "Templates", exact: true }).click();
  await page().getByRole("link", { name: "New template" }).click();
  await page().getByLabel("Name", { exact: true }).fill("uploaded");
  await page().getByLabel("Terraform files").setInputFiles([upload("main.tf", "resource {{{")]);
  await page().getByRole("button", { name: "Upload and import" }).click();
  await page().getByRole("alert").filter({ hasText: "main.tf" }).waitFor();
  await picture("failed-import");
  await page().getByLabel("Terraform files").setInputFiles([upload("main.tf", NATIVE), upload("README.md", "# By hand")]);
  await page().getByRole("button", { name: "Upload and import" }).click();
  await page().getByRole("heading", { name: "uploaded" }).waitFor({ timeout: 60_000 });
  await page().getByText("# By hand").waitFor();
  await picture("template");
});

test("users and tokens", async () => {
  await page().getByRole("link", { name: "Admin" }).click();
  await page().getByRole("navigation", { name: "Administration" }).getByRole("link", { name: "Users" }).click();
  await page().getByText(OWNER.email).waitFor();
  await page().getByRole("link", { name: "Settings" }).click();
  await page().getByRole("link", { name: "Tokens" }).click();
  await page().getByRole("button", { name: "New token" }).click();
  await page().getByLabel("Name").fill("laptop");
  await page().getByRole("button", { name: "Create token" }).click();
  const token = await page().locator("dialog code").innerText();
  const answer = await fetch(`${base}/api/v2/users/me`, { headers: { "Coder-Session-Token": token } });
  assert.equal(answer.status, 200, "the new token works");
  await page().getByRole("button", { name: "Done" }).click();
  await page().getByRole("link", { name: "About" }).click();
  await page().getByText("Deployment").waitFor();
});

test("the workspace is deleted", async () => {
  await page().goto(`${base}/@ada/first`);
  await page().getByRole("button", { name: "Delete" }).click();
  await page().getByLabel("Type first to confirm").fill("first");
  await page().getByRole("button", { name: "Delete the workspace" }).click();
  await page().getByRole("heading", { name: "Workspaces" }).waitFor({ timeout: 60_000 });
});

test("signing out and in again", async () => {
  await page().getByRole("button", { name: "Sign out" }).click();
  await page().getByLabel("Email").fill(OWNER.email);
  await page().getByLabel("Password").fill("wrong");
  await page().getByRole("button", { name: "Sign in" }).click();
  await page().getByRole("alert").waitFor();
  await page().getByLabel("Password").fill(OWNER.password);
  await page().getByRole("button", { name: "Sign in" }).click();
  await page().getByRole("heading", { name: "Workspaces" }).waitFor();
});

test("no page raised an error", () => assert.deepEqual(problems, []));
