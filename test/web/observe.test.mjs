// What administrators look at: overview, health, insights, boundaries, a workspace over time; with the data of observe.sql.
//
// CODER_URL names a freshly started server, CODER_PSQL and CODER_DATABASE its database; CODER_SCREENSHOTS, where given, a folder for pictures of the pages.
//
// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { OWNER, base, browser } from "./browser.mjs";

const { page, picture, problems } = browser();
const heading = (name) => page().getByRole("heading", { name }).first().waitFor();
const button = (name) => page().getByRole("button", { name, exact: true });
const tile = (name) => page().locator(".tiles > div").filter({ has: page().locator("dt", { hasText: new RegExp(`^${name}$`) }) }).locator("dd").first();
const chart = (name) => page().getByRole("figure", { name });
const sql = (text) => execFileSync(process.env.CODER_PSQL, ["-XAtq", "-v", "ON_ERROR_STOP=1", process.env.CODER_DATABASE, "-c", text], { encoding: "utf8" }).trim();
const phone = (on) => page().setViewportSize(on ? { width: 390, height: 844 } : { width: 1200, height: 800 });
const theme = (name) => page().evaluate((value) => (document.documentElement.dataset.theme = value), name);
const noSidewaysScroll = (what) =>
  page()
    .waitForFunction(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth, undefined, { timeout: 5000 })
    .catch(async () => {
      const wide = await page().evaluate(() => [...document.querySelectorAll("main *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1).map((e) => `${e.tagName}.${e.className}`));
      assert.fail(`${what} does not fit a phone: ${wide.slice(0, 5)}`);
    });

async function download(name) {
  const [file] = await Promise.all([page().waitForEvent("download"), button(name).click()]);
  return readFileSync(await file.path(), "utf8");
}

test("before there is anything, pages say so", async () => {
  await fetch(`${base}/api/v2/users/first`, { method: "POST", body: JSON.stringify(OWNER) });
  await page().goto(`${base}/deployment/overview`);
  await page().getByLabel("Email").fill(OWNER.email);
  await page().getByLabel("Password").fill(OWNER.password);
  await button("Sign in").click();
  await heading("Overview");
  await page().getByText("There are no workspaces yet.").waitFor();
  await page().getByText("Nobody has worked in a workspace in the last 60 days.").waitFor();
  await page().goto(`${base}/insights`);
  await page().getByText("No editor, terminal or app was used.").waitFor();
  await picture("insights-empty");
  await page().goto(`${base}/boundary-usage`);
  await page().getByText("No boundary reported a request.").waitFor();
  assert.equal(await button("CSV").isDisabled(), true, "there is nothing to save");
});

test("the overview shows the deployment as it is", async () => {
  execFileSync(process.env.CODER_PSQL, ["-Xq", "-f", "observe.sql", process.env.CODER_DATABASE]);
  await page().goto(`${base}/deployment/overview`);
  assert.equal(await tile("Workspaces running").textContent(), "48");
  assert.equal(await tile("Sessions now").textContent(), sql("SELECT sum(session_count_ssh + session_count_vscode) FROM (SELECT DISTINCT ON (agent_id) * FROM coder.workspace_agent_stats WHERE created_at > now() - interval '90 s' ORDER BY agent_id, created_at DESC) s"));
  await page().getByRole("list", { name: "Sessions by editor" }).getByText("VS Code").waitFor();
  await chart("Users who worked, by day").waitFor();
  await page().getByRole("listitem").filter({ hasText: "Relays" }).getByText("well").waitFor();
  await page().getByRole("list", { name: "Users by status" }).getByText("7").waitFor();
  await picture("overview");
  await theme("dark");
  await picture("overview-dark");
  await phone(true);
  await noSidewaysScroll("the overview");
  await picture("overview-phone");
  await phone(false);
  await theme("light");
});

test("health: what fails is told with its code, dismissed, and looked at anew", async () => {
  sql("UPDATE coder.provisioner_daemons SET version = 'v0.1.0'; UPDATE coder.kept_reports SET made_at = now() - interval '1 h'");
  await page().goto(`${base}/health`);
  const daemons = page().getByRole("region", { name: "Provisioners" });
  await daemons.getByText("EPD02").waitFor();
  const relays = page().getByRole("region", { name: "Relays" });
  await relays.getByRole("row").filter({ hasText: "Coder Embedded Relay" }).filter({ hasText: /[0-9] (µs|ms)/ }).waitFor();
  await picture("health");
  await daemons.getByRole("button", { name: "Dismiss" }).click();
  await daemons.getByText("warning, dismissed").waitFor();
  assert.equal(sql("SELECT value::jsonb -> 'dismissed_healthchecks' FROM coder.site_configs WHERE key = 'health_settings'"), '["ProvisionerDaemons"]');
  await daemons.getByRole("button", { name: "Restore" }).click();
  await daemons.getByText("warning", { exact: true }).waitFor();
  sql("DELETE FROM coder.provisioner_daemons");
  await button("Check now").click();
  await daemons.getByText("EPD01").waitFor();
  await page().getByRole("heading", { name: "Health failing" }).waitFor();
  await phone(true);
  await noSidewaysScroll("health");
  await picture("health-phone");
  await phone(false);
});

test("insights: ranges and templates are in the address, plots read with keys, files are saved", async () => {
  await page().goto(`${base}/insights`);
  await chart("Users who worked, by day").locator("svg").waitFor();
  const all = Number(await tile("Users who worked").textContent());
  assert.equal(all, 6);
  await page().getByRole("listitem").filter({ hasText: "Visual Studio Code" }).waitFor();
  await page().getByRole("list", { name: "region" }).getByText("Frankfurt").waitFor();
  await page().getByRole("row").filter({ hasText: "carol" }).getByText("ms").first().waitFor();
  await picture("insights");

  const plot = chart("Users who worked, by day").locator("svg");
  await plot.focus();
  await page().keyboard.press("End");
  const tip = chart("Users who worked, by day").getByRole("status");
  const today = new Date().toLocaleDateString("en-US", { day: "numeric" });
  await tip.filter({ hasText: today }).waitFor();
  await page().keyboard.press("ArrowLeft");
  await page().keyboard.press("Escape");
  await tip.waitFor({ state: "detached" });

  await page().getByLabel("Time", { exact: true }).selectOption("7d");
  await page().waitForURL(/range=7d/);
  await page().getByText("in 7 days").waitFor();
  const csv = await download("CSV");
  assert.equal(csv.trim().split("\r\n").length, 8, "a line for each of seven days, and a head");
  assert.match(csv, /^from,to,active_users\r\n\d{4}-\d\d-\d\dT00:00:00/);
  await page().getByLabel("Template").selectOption({ label: "GPU machines" });
  await page().waitForURL(/template=/);
  await page().getByText("Where the workspace is").waitFor({ state: "detached" });
  await page().getByText("No workspace was built with parameters.").waitFor();
  const json = JSON.parse(await download("JSON"));
  assert.ok(json.report.template_ids.length <= 1 && json.user_activity.users.length <= 6, "the file is of the template");
  await page().reload();
  assert.equal(await page().getByLabel("Template").locator("option:checked").textContent(), "GPU machines", "an address is a report");

  await page().goto(`${base}/insights?from=2026-03-28&to=2026-03-30`);
  await page().getByText("Nobody worked in a workspace.").first().waitFor();
  await page().goto(`${base}/insights?range=12w`);
  await chart("Users who worked, by week").waitFor();
  await theme("dark");
  await picture("insights-dark");
  await phone(true);
  await noSidewaysScroll("insights");
  await picture("insights-phone");
  await phone(false);
  await theme("light");
});

test("boundaries: sums agree with the database, by user and workspace", async () => {
  await page().goto(`${base}/boundary-usage`);
  await chart("Requests by day").locator("svg").waitFor();
  const [requests, denied] = sql("SELECT sum(allowed + denied) || ' ' || sum(denied) FROM coder.boundary_usage(date_trunc('day', now()) - interval '29 days', 'infinity')").split(" ");
  assert.equal((await tile("Requests").textContent()).replace(/\D/g, ""), requests);
  assert.equal((await tile("Refused").textContent()).replace(/\D/g, ""), denied);
  await page().getByRole("row").filter({ hasText: "grace" }).waitFor();
  await picture("boundaries");
  await page().getByLabel("By", { exact: true }).selectOption("workspace");
  await page().getByRole("link", { name: "bob/workspace-0" }).waitFor();
  const csv = await download("CSV");
  assert.match(csv, /bob\/workspace-0,/);
  await page().getByText("Requests by day as a table").click();
  await page().getByRole("columnheader", { name: "Refused" }).first().waitFor();
  await phone(true);
  await noSidewaysScroll("boundaries");
  await phone(false);
});

test("a workspace over time", async () => {
  await page().goto(`${base}/@carol/workspace-10`);
  await page().getByRole("link", { name: "Metrics" }).click();
  await chart("Sessions by editor").locator("svg").waitFor();
  await chart("Latency of connections").locator("svg").waitFor();
  await page().getByLabel("Time", { exact: true }).selectOption("1h");
  await page().waitForURL(/span=1h/);
  await chart("Bytes a second").locator("svg").waitFor();
  await page().getByText("a point is 30 s").waitFor();
  await picture("workspace-metrics");
  await theme("dark");
  await phone(true);
  await noSidewaysScroll("a workspace over time");
  await picture("workspace-metrics-phone");
  await phone(false);
  await theme("light");
  const csv = await download("CSV");
  assert.match(csv, /^time,connections,ssh,/);
  await page().goto(`${base}/@carol/workspace-13/metrics?span=1h`);
  await page().getByText("Nobody was connected.").waitFor();
});

test("an answer that fails is told", async () => {
  await page().route("**/api/v2/insights/**", (route) => route.fulfill({ status: 500, contentType: "application/json", body: '{"message": "The database is away."}' }));
  await page().goto(`${base}/insights`);
  await page().getByRole("alert").filter({ hasText: "The database is away." }).first().waitFor();
  await page().goto(`${base}/boundary-usage`);
  await page().getByRole("alert").filter({ hasText: "The database is away." }).first().waitFor();
  await page().unroute("**/api/v2/insights/**");
  await page().goto(`${base}/@carol/nothing/metrics`);
  await page().getByRole("alert").waitFor();
});

test("who may not see them is not led there", async () => {
  const token = sql("SELECT coder.api_key_create((SELECT id FROM coder.users WHERE username = 'bob'), 'password', 3600)");
  await page().context().clearCookies();
  await page().context().addCookies([{ name: "coder_session_token", value: token, url: base }]);
  await page().goto(`${base}/workspaces`);
  await page().getByRole("link", { name: "Workspaces" }).waitFor();
  await page().getByRole("link", { name: "Admin", exact: true }).click();
  await page().getByRole("navigation", { name: "Administration" }).getByRole("link", { name: "Roles" }).waitFor();
  for (const name of ["Overview", "Insights", "Boundaries", "Health"]) assert.equal(await page().getByRole("link", { name, exact: true }).count(), 0, name);
  await page().goto(`${base}/@bob/workspace-0/metrics`);
  await chart("Sessions by editor").waitFor();
});

test("no page had an error of its own", () => assert.deepEqual(problems, []));
