// What surrounds chats: debug runs, insights, spending, sounds, hostile answers.
//
// CODER_URL names a freshly started server; MODEL_URL what agents.test.pl started; CODER_SCREENSHOTS, where given, a folder for
// pictures of the pages.
//
// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createServer } from "node:http";
import { test } from "node:test";
import { OWNER, base, browser } from "./browser.mjs";

const { page, context, picture, problems } = browser();
const CHATS = `${base}/api/experimental/chats`;

const button = (name) => page().getByRole("button", { name, exact: true });
const heading = (name) => page().getByRole("heading", { name, exact: true }).first().waitFor();
const row = (text) => page().getByRole("row").filter({ hasText: text });
const message = () => page().getByLabel("Message");
const answer = (text) => page().getByRole("article", { name: "Answer" }).filter({ hasText: text });
const tab = (name) => page().getByRole("tab", { name, exact: true });
const panel = () => page().locator(".chat-panel");

let token;
async function call(method, path, body, expected = true) {
  const reply = await fetch(path.startsWith("http") ? path : `${base}/api/v2${path}`, { method, headers: { "Coder-Session-Token": token, "Content-Type": "application/json" }, body: body && JSON.stringify(body) });
  assert.ok(!expected || reply.ok, `${method} ${path}: ${reply.status}`);
  return reply.status === 204 ? undefined : reply.json();
}

const sql = (statement) => execFileSync(process.env.CODER_PSQL, ["-qAtX", "-v", "ON_ERROR_STOP=1", "-c", statement, process.env.CODER_DATABASE], { encoding: "utf8" }).trim();

const chatId = () => page().url().split("/").pop().split("?")[0];
const idle = () => page().locator('.chat-head .status[data-status="waiting"]').waitFor();

async function start(text) {
  await page().goto(`${base}/agents`);
  await message().fill(text);
  await button("Start").click();
  await page().waitForURL(/\/agents\/[0-9a-f-]{36}$/);
  await idle();
  return chatId();
}

test("a model with prices, and leave to debug", async () => {
  await fetch(`${base}/api/v2/users/first`, { method: "POST", body: JSON.stringify(OWNER) });
  page().setDefaultTimeout(20_000);
  await page().goto(`${base}/agents`);
  await page().getByLabel("Email").fill(OWNER.email);
  await page().getByLabel("Password").fill(OWNER.password);
  await button("Sign in").click();
  await heading("What is to be done?");
  token = (await context().cookies()).find((c) => c.name === "coder_session_token").value;
  await call("POST", `${CHATS}/providers`, { provider: "openai-compat", api_key: "sk-very-secret", base_url: process.env.MODEL_URL });
  const cost = { input_price_per_million_tokens: "100000", output_price_per_million_tokens: "200000" };
  await call("POST", `${CHATS}/model-configs`, { provider: "openai-compat", model: "m", display_name: "Model M", context_limit: 100000, model_config: { cost } });

  await page().goto(`${base}/agents/settings/behavior`);
  await page().getByLabel("Chats as wide as the window").waitFor();
  assert.equal(await page().getByLabel("Write down what models are asked").count(), 0, "nobody may yet");
  await page().goto(`${base}/agents/settings/templates`);
  await page().getByLabel("Users may have written down").check();
  await page().getByLabel("Days that it is kept").fill("4000");
  await button("Save").nth(1).click();
  await page().getByRole("alert").filter({ hasText: "between 0 and 3650" }).waitFor();
  await page().getByLabel("Days that it is kept").fill("7");
  await button("Save").nth(1).click();
  await page().getByText("Saved.").waitFor();
  assert.deepEqual(await call("GET", `${CHATS}/config/debug-retention-days`), { debug_retention_days: 7 });
});

test("what models are asked is read beside the chat, once it is written down", async () => {
  await start("not this");
  await button("Panel").click();
  await tab("Debug").click();
  await panel().getByText("What models are asked is not written down.").waitFor();
  await panel().getByRole("link", { name: "Turn it on" }).click();
  await page().getByLabel("Write down what models are asked").check();
  await page().locator("input:checked").waitFor();
  await start("once:503 leak <b>this</b>");
  await answer("leak").waitFor();
  const run = panel().locator('.debug-run[data-kind="chat_turn"]');
  await run.locator("summary").filter({ hasText: "done" }).filter({ hasText: "a step · 10 tokens read, 5 written" }).filter({ hasText: "1 failed" }).waitFor();
  await run.locator("summary").first().click();
  const step = run.locator('.debug-step[data-step="1"]');
  await step.getByText(/^Attempt 1: \w+, status 503$/).waitFor();
  await step.getByText("Tokens: 10 read, 5 written.").waitFor();
  await step.locator("details").filter({ hasText: "once:503 leak" }).locator("summary").click();
  await step.locator("pre").filter({ hasText: "once:503 leak <b>this</b>" }).waitFor();
  await step.getByText(/^\d+ tools$/).click();
  await step.getByText('"read_file"').first().waitFor();
  const tall = step.getByRole("group", { name: "Code in json" }).first();
  assert.equal(await tall.getAttribute("tabindex"), "0", "what is tall is in the order of tabs");
  await tall.focus();
  await page().keyboard.press("End");
  await page().waitForFunction((pre) => pre.scrollTop > 0, await tall.elementHandle());
  assert.deepEqual(await panel().locator("pre").evaluateAll((all) => all.filter((e) => e.checkVisibility() && (e.scrollHeight > e.clientHeight) !== (e.tabIndex === 0)).map((e) => e.textContent.slice(0, 40))), [], "and nothing else");
  assert.doesNotMatch(await panel().innerText(), /sk-very-secret/, "the key is not told");
  assert.match(await panel().innerText(), /\*\*\*/, "but blotted out");
  await picture("chat-debug");
  await tab("Debug").press("Home");
  await tab("Changes").press("ArrowRight");
  assert.equal(await tab("Context").getAttribute("aria-selected"), "true", "keys go from tab to tab");
  assert.equal(await tab("Context").evaluate((e) => e === document.activeElement), true);
  await button("Close the panel").click();
});

test("spending leads to a user, a model and a chat", async () => {
  await page().goto(`${base}/agents/settings/usage`);
  await page().waitForURL(/settings\/spend$/);
  await row(OWNER.username).filter({ hasText: "$" }).waitFor();
  await page().getByLabel("Username").fill("nobody");
  await page().getByText("Nobody asked a model in this time.").waitFor();
  await page().getByLabel("Username").fill("");
  await picture("chat-spending");
  await button(OWNER.username).click();
  await heading(`Spending of ${OWNER.username}`);
  await row("Model M").filter({ hasText: "OpenAI compatible" }).waitFor();
  await row("this").getByRole("link").first().waitFor();
  await page().reload();
  await heading(`Spending of ${OWNER.username}`);
  await page().getByLabel("Time").selectOption({ label: "Last 7 days" });
  await page().waitForURL(/range=7d/);
  await picture("chat-spending-user");
  await button("All users").click();
  await row(OWNER.username).waitFor();
});

test("insights: pull requests by day, model and chat", async () => {
  await page().goto(`${base}/agents/settings/insights`);
  await page().getByText("No chat of this time has a pull request.").waitFor();
  sql(`INSERT INTO coder.chat_diff_statuses (chat_id, url, pull_request_state, pull_request_title, pr_number, additions, deletions, changed_files, base_branch, approved, author_login)
    SELECT c.id, 'https://hub.example/p/' || row_number() OVER (ORDER BY c.created_at), (ARRAY['merged', 'open'])[row_number() OVER (ORDER BY c.created_at)],
      'Mend <i>' || c.title || '</i> ' || repeat('and very much more ', 6), 40 + row_number() OVER (ORDER BY c.created_at), 1200, 30, 4, 'main', true, 'dora' FROM coder.chats c`);
  await page().reload();
  const tile = (name) => page().locator(".tiles > div").filter({ hasText: name });
  await tile("Pull requests").filter({ hasText: "2" }).waitFor();
  await tile("Merge rate").filter({ hasText: "50 %" }).waitFor();
  await tile("Lines").filter({ hasText: "+2,400 −60" }).waitFor();
  await row("Model M").filter({ hasText: "1 (50 %)" }).waitFor();
  await row("#41").filter({ hasText: "merged" }).filter({ hasText: "Mend <i>" }).waitFor();
  assert.equal(await row("#42").getByRole("link").first().getAttribute("href"), "https://hub.example/p/2");
  await page().getByRole("img", { name: /^Pull requests by the day/ }).waitFor();
  await picture("chat-insights");
  const small = await context().newPage();
  await small.setViewportSize({ width: 360, height: 760 });
  await small.goto(`${base}/agents/settings/insights`);
  await small.getByRole("row").filter({ hasText: "#41" }).waitFor();
  assert.ok(await small.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "nothing is wider than a phone");
  await picture("phone-insights", small);
  await small.close();
});

test("a sound tells once that a chat which nobody sees has ended its turn", async () => {
  // Counted for all windows together, where they can all reach it.
  await context().addInitScript(() => {
    const start = OscillatorNode.prototype.start;
    OscillatorNode.prototype.start = function (...at) {
      localStorage.setItem("sounds", String(Number(localStorage.getItem("sounds") ?? 0) + 1));
      return start.apply(this, at);
    };
  });
  const sounds = () => page().evaluate(() => Number(localStorage.getItem("sounds") ?? 0) / 2);
  const quiet = await start("no sound yet");
  await page().goto(`${base}/agents/settings/behavior`);
  assert.equal(await sounds(), 0, "it is off at first");
  await page().getByLabel("A sound when").check();
  assert.equal(await sounds(), 1, "it is heard when it is turned on");
  const other = await context().newPage();
  await other.goto(`${base}/agents/settings/behavior`);
  await other.getByLabel("A sound when").and(other.locator(":checked")).waitFor();
  await start("slow:150 this is seen by somebody who looks");
  await page().waitForFunction(() => JSON.parse(localStorage.getItem("chat-chimed") ?? "[]").length >= 1);
  assert.equal(await sounds(), 1, "who looks on hears nothing");
  await page().goto(`${base}/agents`);
  await page().locator(`a.chat-link[href="/agents/${quiet}"]`).waitFor();
  await call("POST", `${CHATS}/${quiet}/messages`, { content: [{ type: "text", text: "slow:250 and on and on" }] });
  await page().waitForFunction(() => Number(localStorage.getItem("sounds")) >= 4);
  await other.waitForFunction(() => JSON.parse(localStorage.getItem("chat-chimed")).length >= 2);
  assert.equal(await sounds(), 2, "two windows, one sound");
  await other.close();
  await page().goto(`${base}/agents/settings/behavior`);
  await page().getByLabel("A sound when").uncheck();
});

test("a subagent is led to and back; a summary leaves its mark", async () => {
  await start('tool:spawn_agent {"prompt":"look <b>there</b>","title":"Looker"}');
  const card = page().locator('.tool[data-tool="spawn_agent"]');
  await card.locator("summary").click();
  await card.getByText("look <b>there</b>").waitFor();
  await card.locator('.status[data-status="waiting"]').waitFor();
  await card.getByRole("link").click();
  await answer("<b>there</b> look").waitFor();
  await page().locator(".chat-head").getByRole("link", { name: "Parent" }).click();
  await card.waitFor();
  const small = await call("POST", `${CHATS}/model-configs`, { provider: "openai-compat", model: "small", context_limit: 12, compression_threshold: 80 });
  const [{ id: org }] = await call("GET", "/organizations");
  const chat = await call("POST", CHATS, { organization_id: org, content: [{ type: "text", text: "much to remember" }], model_config_id: small.id });
  await page().goto(`${base}/agents/${chat.id}`);
  const mark = page().locator('.tool[data-tool="chat_summarized"]').first();
  await mark.locator("summary").filter({ hasText: "The chat was summarized" }).click();
  await mark.getByText(/^83 % of the context was full \(10 of 12 tokens\); it is summarized at 80 %/).waitFor();
  await picture("chat-summary");
});

test("the list: pinned chats are moved, older ones come by themselves, it folds away", async () => {
  const ids = [await start("pin one"), await start("pin two"), await start("pin three")];
  for (const id of ids) await call("PATCH", `${CHATS}/${id}`, { pin_order: 1 });
  sql(`INSERT INTO coder.chats (owner_id, organization_id, last_model_config_id, title, updated_at)
    SELECT c.owner_id, c.organization_id, c.last_model_config_id, 'old ' || n, now() - n * interval '1 day' FROM coder.chats c, generate_series(1, 70) n WHERE c.id = '${ids[0]}'`);
  await page().reload();
  const list = page().getByRole("complementary", { name: "Chats" });
  const section = list.locator("section").filter({ has: page().getByRole("heading", { name: "Pinned" }) });
  const order = (wanted) => page().waitForFunction((ids) => JSON.stringify([...document.querySelectorAll(".sidebar section:first-child a.chat-link")].map((a) => a.href.split("/").pop())) === JSON.stringify(ids), wanted);
  const row = (id) => section.locator(".chat-row").filter({ has: page().locator(`a[href="/agents/${id}"]`) });
  const [one, two, three] = ids;
  await order([one, two, three]);
  await row(three).hover();
  await row(three).getByRole("button").click();
  await page().getByRole("menuitem", { name: "Move up" }).click();
  await order([one, three, two]);
  await row(two).dragTo(row(one));
  await order([two, one, three]);
  await list.getByRole("link", { name: /old 70/ }).waitFor({ state: "detached" });
  await list.getByRole("button", { name: "More chats" }).scrollIntoViewIfNeeded();
  await list.getByRole("link", { name: /old 70/ }).waitFor();
  await list.getByRole("heading", { name: "Older" }).waitFor();
  await button("Hide the list of chats").click();
  await list.getByRole("link", { name: /old 70/ }).waitFor({ state: "detached" });
  await page().reload();
  await button("Show the list of chats").click();
  await list.getByRole("heading", { name: "Pinned" }).waitFor();
});

test("a message is spoken, and the pages may be installed", async () => {
  const other = await context().newPage();
  await other.addInitScript(() => {
    // Hears two pieces, the second better than at first.
    window.SpeechRecognition = class {
      start() {
        setTimeout(() => {
          this.onresult({ resultIndex: 0, results: [Object.assign([{ transcript: "fix the" }], { isFinal: true }), Object.assign([{ transcript: " pest" }], { isFinal: false })] });
          this.onresult({ resultIndex: 1, results: [Object.assign([{ transcript: "fix the" }], { isFinal: true }), Object.assign([{ transcript: " test" }], { isFinal: true })] });
        });
      }
      stop() {
        this.onend();
      }
      abort() {}
    };
  });
  await other.goto(`${base}/agents`);
  await other.getByLabel("Message").fill("please");
  const speak = other.getByRole("button", { name: "Dictate" });
  await speak.click();
  await other.waitForFunction(() => document.querySelector("textarea").value === "please fix the test");
  assert.equal(await speak.getAttribute("aria-pressed"), "true");
  await speak.click();
  assert.equal(await speak.getAttribute("aria-pressed"), "false");
  await other.getByLabel("Message").fill("");
  await other.close();
  const manifest = await fetch(base + (await page().locator('link[rel="manifest"]').getAttribute("href")));
  assert.equal(manifest.headers.get("content-type"), "application/manifest+json");
  assert.equal((await manifest.json()).display, "standalone");
});

test("an editor frames a chat and signs it in", async () => {
  const id = await start("for an editor <b>this</b>");
  await call("POST", "/users", { username: "eve", email: "eve@example.com", password: OWNER.password, login_type: "password", organization_ids: [(await call("GET", "/organizations"))[0].id], user_status: "active" });
  const eve = (await call("POST", "/users/login", { email: "eve@example.com", password: OWNER.password })).session_token;
  // Another site than the server's, as an editor is.
  const html = `<iframe src="${base}/agents/${id}/embed?theme=dark" style="width: 360px; height: 600px"></iframe>
    <script>window.heard = []; window.addEventListener("message", (e) => window.heard.push(e.data));
    window.say = (type, payload) => document.querySelector("iframe").contentWindow.postMessage({ type, payload }, "*");</script>`;
  const editor = createServer((_, answer) => answer.setHeader("Content-Type", "text/html").end(html));
  await new Promise((ready) => editor.listen(0, "127.0.0.1", ready));
  const frame = await context().newPage();
  frame.setDefaultTimeout(20_000);
  try {
    await frame.goto(`http://localhost:${editor.address().port}/`);
    const inside = frame.frameLocator("iframe");
    const heard = (type, times = 1) => frame.waitForFunction(([t, n]) => window.heard.filter((m) => m.type === t).length >= n, [type, times]);
    const say = (type, payload) => frame.evaluate(([t, p]) => window.say(t, p), [type, payload]);
    await heard("coder:vscode-ready");
    assert.equal(await frame.evaluate(() => window.heard[0].payload.agentId), id);
    await inside.getByText("Waiting for the editor").waitFor();
    assert.equal(await inside.locator("html").getAttribute("data-theme"), "dark");
    await say("coder:vscode-auth-bootstrap", { token: "no-such-token" });
    await inside.getByText("Nobody is signed in.").or(inside.getByText("Waiting for the editor")).waitFor();
    await say("coder:vscode-auth-bootstrap", { token: eve });
    await inside.getByRole("alert").filter({ hasText: "not found" }).waitFor();
    await say("coder:vscode-auth-bootstrap", { token });
    await inside.getByRole("article", { name: "Answer" }).filter({ hasText: "editor an for" }).waitFor();
    await heard("coder:chat-ready");
    assert.equal(await inside.getByRole("complementary", { name: "Chats" }).count(), 0, "no list beside it");
    await inside.getByLabel("Message").fill("two words");
    await inside.getByRole("button", { name: "Send" }).click();
    await inside.getByRole("article", { name: "Answer" }).filter({ hasText: "words two" }).waitFor();
    await say("coder:set-theme", { theme: "light" });
    await inside.locator('html[data-theme="light"]').waitFor();
    await say("coder:set-theme", { theme: "x' onload='" });
    await inside.getByLabel("Message").fill("slow:100 one two three four five six seven eight");
    await inside.getByRole("button", { name: "Send" }).click();
    const stop = await inside.getByRole("button", { name: "Stop" }).boundingBox();
    const queue = await inside.getByRole("button", { name: "Queue" }).boundingBox();
    assert.ok(queue.y === stop.y && queue.x > stop.x, "what sends is beside what stops, at this width too");
    await picture("chat-embed", frame);
    await inside.getByRole("button", { name: "Panel" }).click();
    await inside.getByRole("tab", { name: "Debug" }).click();
    await inside.locator(".debug-run").first().waitFor();
    await say("coder:set-theme", { theme: "dark-tritan" });
    await inside.locator('html[data-theme="dark"]').waitFor();
    assert.ok(await inside.locator("html").evaluate((e) => e.scrollWidth <= innerWidth), "nothing is wider than the frame");
  } finally {
    await frame.close();
    editor.close();
  }
  await page().goto(`${base}/agents/${id}/embed`);
  await answer("editor an for").waitFor();
});

test("no page raised an error", () => assert.deepEqual(problems, []));
