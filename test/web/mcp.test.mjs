// MCP servers as people have them: one is added, its users sign in, chats use its tools or do not.
//
// CODER_URL names a freshly started server; MCP_URL and MODEL_URL what mcp.test.pl started; CODER_SCREENSHOTS, where given, a
// folder for pictures of the pages.
//
// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { test } from "node:test";
import { OWNER, base, browser } from "./browser.mjs";

const { page, picture, problems } = browser();
const CHATS = `${base}/api/experimental/chats`;
const mcp = process.env.MCP_URL;

const heading = (name) => page().getByRole("heading", { name, exact: true }).first().waitFor();
const button = (name) => page().getByRole("button", { name, exact: true });
const link = (name) => page().getByRole("link", { name, exact: true }).first();
const row = (text) => page().getByRole("row").filter({ hasText: text });
const dialog = () => page().locator("dialog[open]");
const message = () => page().getByLabel("Message");
const picker = () => page().locator(".mcp-picker");
const card = (tool) => page().locator(`details.tool[data-tool="${tool}"]`);
const status = (name) => page().locator(`.chat-head .status[data-status="${name}"]`);

async function send(path, body) {
  const cookie = (await page().context().cookies()).find((c) => c.name === "coder_session_token").value;
  const answer = await fetch(path, { method: "POST", headers: { "Coder-Session-Token": cookie, "Content-Type": "application/json" }, body: JSON.stringify(body) });
  assert.equal(answer.status, 201);
}

test("an administrator adds a server, which says itself how one signs in", async () => {
  await fetch(`${base}/api/v2/users/first`, { method: "POST", body: JSON.stringify(OWNER) });
  page().setDefaultTimeout(10_000);
  await page().goto(`${base}/agents/settings/mcp-servers`);
  await page().getByLabel("Email").fill(OWNER.email);
  await page().getByLabel("Password").fill(OWNER.password);
  await button("Sign in").click();
  await heading("MCP servers");
  await send(`${CHATS}/providers`, { provider: "openai-compat", api_key: "k", base_url: process.env.MODEL_URL });
  await send(`${CHATS}/model-configs`, { provider: "openai-compat", model: "m", context_limit: 100000 });
  await page().getByText("There are no MCP servers.").waitFor();
  await button("Add a server").click();
  await dialog().getByLabel("Name", { exact: true }).fill("Our Tracker");
  await dialog().getByLabel("URL", { exact: true }).fill(`${mcp}/nothing`);
  await dialog().getByLabel("Signing in").selectOption("oauth2");
  await dialog().getByLabel("In new chats").selectOption("default_on");
  await dialog().getByLabel("Client ID").fill("x");
  await dialog().getByRole("button", { name: "Add", exact: true }).click();
  await dialog().getByRole("alert").filter({ hasText: "either all of" }).waitFor();
  await dialog().getByLabel("Client ID").fill("");
  await dialog().getByLabel("URL", { exact: true }).fill(`${mcp}/mcp`);
  await dialog().getByLabel("Slug").fill("tracker");
  await picture("mcp-server");
  await dialog().getByRole("button", { name: "Add", exact: true }).click();
  await row("Our Tracker").filter({ hasText: "OAuth 2" }).waitFor();
  await button("Add a server").click();
  await dialog().getByLabel("Name", { exact: true }).fill("Keyed");
  await dialog().getByLabel("URL", { exact: true }).fill(`${mcp}/mcp`);
  await dialog().getByLabel("Signing in").selectOption("api_key");
  await dialog().getByLabel("Its value").fill("secret");
  await dialog().getByRole("button", { name: "Add", exact: true }).click();
  await row("Keyed").filter({ hasText: "An API key" }).waitFor();
  await row("Keyed").getByRole("button", { name: "Change" }).click();
  await dialog().getByText("There is one; what is typed here takes its place.").waitFor();
  await dialog().getByLabel("Tools that are not").fill("large\nslow");
  await dialog().getByRole("button", { name: "Save" }).click();
  await dialog().waitFor({ state: "detached" });
  await picture("mcp-servers");
});

test("a user signs in, in a window that closes by itself", async () => {
  await link("Tools").click();
  await row("Our Tracker").filter({ hasText: "not connected" }).waitFor();
  const [popup] = await Promise.all([page().waitForEvent("popup"), row("Our Tracker").getByRole("button", { name: "Connect" }).click()]);
  if (!popup.isClosed()) await popup.waitForEvent("close");
  await row("Our Tracker").getByRole("button", { name: "Disconnect" }).waitFor();
  await picture("mcp-connected");
});

test("a new chat uses the servers that are on by default, and shows what their tools give", async () => {
  await page().goto(`${base}/agents`);
  await picker().getByText("Tools: 1").click();
  assert.equal(await picker().getByLabel("Our Tracker").isChecked(), true);
  assert.equal(await picker().getByLabel("Keyed").isChecked(), false);
  await picture("mcp-picker");
  await page().keyboard.press("Escape");
  await message().fill('tool:tracker__echo {"text":"it was said"}');
  await button("Start").click();
  await card("tracker__echo").waitFor();
  await status("waiting").waitFor();
  assert.equal(await card("tracker__echo").getAttribute("data-state"), "done");
  await card("tracker__echo").locator("summary").click();
  await card("tracker__echo").getByText("it was said").first().waitFor();
  await message().fill("tool:tracker__picture {}");
  await button("Send").click();
  await card("tracker__picture").waitFor();
  await status("waiting").waitFor();
  await card("tracker__picture").locator("summary").click();
  await card("tracker__picture").getByRole("img", { name: "What the tool gave" }).waitFor({ state: "attached" });
  await picture("mcp-chat");
});

test("what is turned off in a chat is not used from the next message on", async () => {
  await picker().getByText("Tools: 1").click();
  await picker().getByLabel("Our Tracker").uncheck();
  await page().keyboard.press("Escape");
  await picker().getByText("Tools: 0").waitFor();
  await message().fill('tool:tracker__echo {"text":"again"}');
  await button("Send").click();
  await page().locator('details.tool[data-tool="tracker__echo"][data-state="failed"]').last().waitFor();
  await page().reload();
  await picker().getByText("Tools: 0").waitFor();
});

test("who disconnects is asked to sign in again; a server that is deleted is gone", async () => {
  await page().goto(`${base}/agents/settings/tools`);
  await row("Our Tracker").getByRole("button", { name: "Disconnect" }).click();
  await row("Our Tracker").filter({ hasText: "not connected" }).waitFor();
  await link("MCP servers").click();
  await row("Our Tracker").getByRole("button", { name: "Delete" }).click();
  await dialog().getByRole("button", { name: "Delete", exact: true }).click();
  await row("Our Tracker").waitFor({ state: "detached" });
  assert.deepEqual(problems, []);
});

test("a browser is told when a turn is over, and says so where it cannot be", async () => {
  await page().context().grantPermissions(["notifications"], { origin: base });
  // The push service of a browser without a display: there is none, so the page's is replaced.
  await page().addInitScript(() => {
    const keys = { auth: "BTBZMqHH6r4Tts7J_aSIgg", p256dh: "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4" };
    PushManager.prototype.getSubscription = async () => null;
    PushManager.prototype.subscribe = async function (options) {
      window.subscribedWith = options.applicationServerKey.length;
      const endpoint = "https://127.0.0.1/push";
      return { endpoint, toJSON: () => ({ endpoint, keys }), unsubscribe: async () => (window.unsubscribed = true) };
    };
  });
  await page().goto(`${base}/agents/settings/messages`);
  await button("Turn on in this browser").click();
  await page().getByRole("alert").filter({ hasText: "Invalid webpush endpoint" }).waitFor();
  assert.equal(await page().evaluate(() => window.subscribedWith), 65, "with the server's key");
  assert.equal(await page().evaluate(() => window.unsubscribed), true, "what the server did not take is undone");
  // The worker shows what comes, as the server sends it.
  const devtools = await page().context().newCDPSession(page());
  const registered = new Promise((resolve) => devtools.on("ServiceWorker.workerRegistrationUpdated", (e) => e.registrations[0] && resolve(e.registrations[0].registrationId)));
  await devtools.send("ServiceWorker.enable");
  const data = JSON.stringify({ title: "A chat", body: "All done.", tag: "t1", data: { url: "https://evil.example/agents/1" } });
  await devtools.send("ServiceWorker.deliverPushMessage", { origin: base, registrationId: await registered, data });
  const shown = () =>
    page().evaluate(async () => (await (await navigator.serviceWorker.ready).getNotifications()).map((n) => ({ title: n.title, body: n.body, path: n.data.path })));
  for (let i = 0; i < 50 && (await shown()).length === 0; i++) await new Promise((resolve) => setTimeout(resolve, 100));
  assert.deepEqual(await shown(), [{ title: "A chat", body: "All done.", path: "/" }], "and leads nowhere else");
  assert.deepEqual(problems, []);
});
