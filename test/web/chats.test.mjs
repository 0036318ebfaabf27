// Chats as people have them: a provider is set up, a model answers, messages wait, answers are stopped, edited, put away.
//
// CODER_URL names a freshly started server; CODER_SCREENSHOTS, where given, a folder for pictures of the pages.
//
// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { OWNER, base, browser } from "./browser.mjs";

const { page, context, picture, problems } = browser();
const CHATS = `${base}/api/experimental/chats`;

const heading = (name) => page().getByRole("heading", { name, exact: true }).first().waitFor();
const button = (name) => page().getByRole("button", { name, exact: true });
const link = (name) => page().getByRole("link", { name, exact: true }).first();
const row = (text) => page().getByRole("row").filter({ hasText: text });
const dialog = () => page().locator("dialog[open]");
const answer = (text) => page().getByRole("article", { name: "Answer" }).filter({ hasText: text });
const said = (text) => page().getByRole("article", { name: "You" }).filter({ hasText: text });
const message = () => page().getByLabel("Message");
const more = async (name) => {
  await button("More").click();
  await page().getByRole("menuitem", { name, exact: true }).click();
};
const headStatus = (status) => page().locator(`.chat-head .status[data-status="${status}"]`);

const LESSON = [
  "# A heading\n\nSome **bold** words, `code`, a [good link](https://example.com/a) and a [bad one](javascript:alert(1)).\n\n",
  "<img src=x onerror=\"window.broken = 1\"><script>window.broken = 2</script>\n\n",
  "![a picture](https://example.com/p.png)\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n",
  "```js\n// a comment\nconst answer = 42;\n```\n\n- one\n- two\n",
];

// What a model may be made to say; each window.broken is one that ran.
const HOSTILE = [
  "<svg onload=\"window.broken = 1\"><animate onbegin=\"window.broken = 2\" attributeName=x dur=1s /></svg>\n\n",
  "<iframe srcdoc=\"<script>parent.broken = 3</script>\"></iframe><base href=\"https://evil.example/\">\n\n<style>* { display: none }</style>\n\n",
  "<form action=\"https://evil.example/\"><button>Sign in</button></form><math><mtext><img src=x onerror=\"window.broken = 4\"></mtext></math>\n\n",
  "[a](JaVaScRiPt:window.broken=5) [b](java&#115;cript:window.broken=6) [c](data:text/html,<script>1</script>) [d](vbscript:x) [e][f] <javascript:window.broken=7>\n\n[f]: javascript:window.broken=8\n\n",
  "![g](javascript:window.broken=9) ![h](https://evil.example/pixel.png \"x\\\" onload=\\\"window.broken=10\")\n\n",
  "| <img src=x onerror=window.broken=11> |\n|---|\n| <script>window.broken=12</script> |\n\n",
  "```html\\\"><script>window.broken=13</script>\n<script>window.broken=14</script>\n```\n\n- [ ] <input autofocus onfocus=window.broken=15>\n\nThe end of it.",
];

// A model: chat completions.  What it does is in the words it is asked.
let model;
const asked = [];
const opened = new Map();
let failures = 0;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function converse(body, say) {
  const last = body.messages[body.messages.length - 1];
  const text = [last.content].flat().map((p) => p?.text ?? p ?? "").join(" ");
  if (last.role === "tool") return say({ content: "The tool has spoken." });
  if (text.includes("lesson")) {
    for (const word of ["I weigh ", "the words."]) say({ reasoning_content: word });
    for (const piece of LESSON) {
      await sleep(30);
      say({ content: piece });
    }
  } else if (text.includes("hostile")) {
    say({ reasoning_content: "<img src=x onerror=\"window.broken = 16\">" });
    for (const piece of HOSTILE) say({ content: piece });
  } else if (text.includes("poison")) {
    const args = { command: "<img src=x onerror=window.broken=17>", model_intent: "<script>window.broken=18</script>" };
    say({ tool_calls: [{ index: 0, id: "call_1", type: "function", function: { name: "execute", arguments: JSON.stringify(args) } }] });
    return "tool_calls";
  } else if (text.includes("edit the file")) {
    const edit = { files: [{ path: "/home/x/a.txt", edits: [{ search: "one\ntwo\nthree", replace: "one\n2\nthree" }] }] };
    say({ tool_calls: [{ index: 0, id: "call_1", type: "function", function: { name: "edit_files", arguments: "" } }] });
    for (const piece of JSON.stringify(edit).match(/.{1,20}/g)) say({ tool_calls: [{ index: 0, function: { arguments: piece } }] });
    return "tool_calls";
  } else if (text.includes("long")) {
    say({ content: "The beginning of " });
    // Until the test lets it go on, or the server hangs up.
    await new Promise((resolve) => opened.set(text, resolve));
    say({ content: "a long answer." });
  } else say({ content: `You said: ${text}` });
}

let names = 0;

/** The model is asked for a title, by a tool that it must call. */
function name(tool, say) {
  say({ tool_calls: [{ index: 0, id: "call_1", type: "function", function: { name: tool, arguments: JSON.stringify({ title: `The ${++names}. Name` }) } }] });
  return "tool_calls";
}

before(async () => {
  model = createServer((req, res) => {
    const chunks = [];
    req.on("data", (chunk) => chunks.push(chunk));
    req.on("end", async () => {
      const body = JSON.parse(Buffer.concat(chunks));
      const text = JSON.stringify(body.messages[body.messages.length - 1]);
      const title = body.tool_choice?.function?.name;
      if (title && !text.includes("christen")) {
        res.writeHead(400, { "Content-Type": "application/json" });
        return res.end(JSON.stringify({ error: { message: "no title" } }));
      }
      if (!title) asked.push({ key: req.headers.authorization, body });
      if (text.includes("refuse") || (text.includes("busy") && failures++ < 2)) {
        res.writeHead(text.includes("refuse") ? 401 : 503, { "Content-Type": "application/json" });
        return res.end(JSON.stringify({ error: { message: "no" } }));
      }
      res.writeHead(200, { "Content-Type": "text/event-stream" });
      const send = (data) => res.write(`data: ${JSON.stringify(data)}\n\n`);
      const say = (delta) => send({ choices: [{ index: 0, delta }] });
      const end = title ? name(title, say) : await converse(body, say);
      send({ choices: [{ index: 0, delta: {}, finish_reason: end ?? "stop" }] });
      send({ choices: [], usage: { prompt_tokens: 7000, completion_tokens: 500, total_tokens: 7500 } });
      res.end("data: [DONE]\n\n");
    });
  });
  await new Promise((ready) => model.listen(0, "127.0.0.1", ready));
});
after(() => {
  for (const go of opened.values()) go();
  model.closeAllConnections();
  model.close();
});

async function start(text) {
  await link("New chat").click();
  await message().fill(text);
  await button("Start").click();
  await page().waitForURL(/\/agents\/[0-9a-f-]{36}$/);
}

test("an administrator sets up a provider and a model", async () => {
  await fetch(`${base}/api/v2/users/first`, { method: "POST", body: JSON.stringify(OWNER) });
  page().setDefaultTimeout(20_000);
  await page().goto(`${base}/agents`);
  await page().getByLabel("Email").fill(OWNER.email);
  await page().getByLabel("Password").fill(OWNER.password);
  await button("Sign in").click();
  await heading("What is to be done?");
  await page().getByText("There is no model that you can use.").waitFor();
  await link("set up a provider").click();
  await row("OpenAI compatible").getByRole("button", { name: "Set up" }).click();
  await dialog().getByLabel("Base URL").fill(`http://127.0.0.1:${model.address().port}/v1`);
  await dialog().getByRole("button", { name: "Set up" }).click();
  await dialog().getByRole("alert").filter({ hasText: "API key is required" }).waitFor();
  await dialog().getByLabel("API key").fill("key-1");
  await dialog().getByLabel("Users may bring their own key").check();
  await dialog().getByLabel("Who has no key uses the common one").check();
  await dialog().getByRole("button", { name: "Set up" }).click();
  await row("OpenAI compatible").filter({ hasText: "common, users'" }).waitFor();
  await picture("chat-providers");

  await link("Models").click();
  await button("New model").click();
  await dialog().getByLabel("Model", { exact: true }).fill("m-1");
  await dialog().getByLabel("Display name").fill("Model One");
  await dialog().getByLabel("Context, tokens").fill("12000");
  await dialog().getByLabel("Read", { exact: true }).fill("2");
  await dialog().getByLabel("Written", { exact: true }).fill("-1");
  await dialog().getByRole("button", { name: "Add the model" }).click();
  await dialog().getByRole("alert").filter({ hasText: "decimal number" }).waitFor();
  await dialog().getByLabel("Written", { exact: true }).fill("10");
  await picture("chat-model");
  await dialog().getByRole("button", { name: "Add the model" }).click();
  await row("Model One").filter({ hasText: "default" }).waitFor();
  await button("New model").click();
  await dialog().getByLabel("Model", { exact: true }).fill("m-2");
  await dialog().getByLabel("Display name").fill("Model Two");
  await dialog().getByLabel("Reasoning effort").selectOption("high");
  await dialog().getByRole("button", { name: "Add the model" }).click();
  await row("Model Two").waitFor();
  await picture("chat-models");

  await link("System prompt").click();
  await page().getByLabel("What models are told in every new chat").fill("Speak in riddles.");
  await button("Save").click();
  await page().getByText("Saved.").waitFor();
});

test("a chat streams reasoning, markdown and code, and nothing of it is HTML", async () => {
  await link("Chats").click();
  await start("Give me a lesson");
  await answer("A heading").getByRole("table").waitFor();
  await headStatus("waiting").waitFor();
  const lesson = answer("A heading");
  assert.equal(await lesson.getByRole("heading", { name: "A heading" }).count(), 1);
  assert.equal(await lesson.locator("strong").innerText(), "bold");
  assert.equal(await lesson.getByRole("link", { name: "good link" }).getAttribute("rel"), "noopener noreferrer nofollow");
  assert.equal(await lesson.getByText("bad one").evaluate((e) => e.closest("a")), null, "no link runs a script");
  assert.equal(await lesson.locator("img, script").count(), 0, "no element of the model's");
  assert.equal(await lesson.getByText("onerror").count(), 1, "its HTML is text");
  assert.equal(await page().evaluate(() => window.broken), undefined);
  assert.equal(await lesson.locator(".c-word").first().innerText(), "const", "code has colours");
  await lesson.getByText("Thoughts").click();
  await lesson.getByText("I weigh the words.").waitFor();
  assert.equal(asked[0].key, "Bearer key-1");
  assert.match(JSON.stringify(asked[0].body.messages), /Speak in riddles/, "the model was told the system prompt");
  await page().getByRole("img", { name: /^Context: 7,500 of 12,000 tokens \(63 %\)/ }).waitFor();
  await picture("chat");
  await page().emulateMedia({ colorScheme: "dark" });
  await picture("chat-dark");
  await page().emulateMedia({ colorScheme: "light" });
});

test("what a model says to break out stays words", async () => {
  const asks = [];
  page().on("request", (request) => asks.push(request.url()));
  await start("be hostile <img src=x onerror=window.broken=19>");
  await answer("The end of it.").waitFor();
  await headStatus("waiting").waitFor();
  const said = answer("The end of it.");
  for (const tag of ["svg", "iframe", "form", "style", "base", "math", "script", "img", "input:not([type=checkbox])", "[onload]", "[onerror]", "[srcdoc]"])
    assert.equal(await said.locator(tag).count(), 0, `no ${tag} of the model's`);
  for (const href of await said.locator("a").evaluateAll((all) => all.map((a) => a.href))) assert.match(href, /^(https?|mailto):/);
  await page().reload();
  await answer("The end of it.").waitFor();
  await said.getByText("Thoughts").click();
  await start("take poison");
  await answer("The tool has spoken.").waitFor();
  await page().locator('.tool[data-tool="execute"] summary').click();
  await page().locator('.tool[data-tool="execute"]').getByText("onerror=window.broken=17").first().waitFor();
  assert.equal(await page().evaluate(() => window.broken), undefined, "nothing ran");
  assert.deepEqual(asks.filter((url) => !url.startsWith(base) && !url.startsWith(base.replace("http", "ws"))), [], "nothing was asked of others");
  assert.equal(await page().locator("main script, main iframe, main [onerror]").count(), 0);
});

test("what is said while an answer is written waits; the queue is sent, deleted and goes on", async () => {
  await start("a long story");
  await answer("The beginning of").waitFor();
  await headStatus("running").waitFor();
  for (const text of ["first in line", "second in line", "third in line"]) {
    await message().fill(text);
    await button("Queue").click();
    await page().getByRole("list", { name: "Queue" }).getByText(text).waitFor();
  }
  await picture("chat-queue");
  const waiting = (text) => page().getByRole("list", { name: "Queue" }).getByRole("listitem").filter({ hasText: text });
  await waiting("second").getByRole("button", { name: "Delete" }).click();
  await waiting("second").waitFor({ state: "detached" });
  await message().fill("fourth in lime");
  await button("Queue").click();
  await waiting("fourth").getByRole("button", { name: "Edit" }).click();
  await waiting("fourth").waitFor({ state: "detached" });
  assert.equal(await message().inputValue(), "fourth in lime", "it is taken back to be written anew");
  await message().fill("");
  await waiting("third").getByRole("button", { name: "Send now" }).click();
  await answer("You said: third in line").waitFor();
  await answer("You said: first in line").waitFor();
  await headStatus("waiting").waitFor();
  assert.equal(await page().getByRole("list", { name: "Queue" }).count(), 0, "the queue is empty");
  assert.equal(await said("second").count(), 0);
});

test("who comes later, or again, sees the whole answer", async () => {
  await start("a long wait");
  await answer("The beginning of").waitFor();
  await page().reload();
  await answer("The beginning of").waitFor();
  assert.equal(await answer("a long answer").count(), 0, "it is still being written");
  opened.get("a long wait")();
  await answer("The beginning of a long answer.").waitFor();
  await headStatus("waiting").waitFor();
  assert.equal(await page().getByRole("article", { name: "Answer" }).count(), 1, "once");
});

test("an answer is stopped, and what was said of it is kept", async () => {
  await start("another long story");
  await answer("The beginning of").waitFor();
  await button("Stop").click();
  await headStatus("waiting").waitFor();
  assert.equal(await answer("The beginning of").count(), 1, "half an answer");
  assert.equal(await answer("a long answer").count(), 0);
  await button("Stop").waitFor({ state: "detached" });
});

test("a message is edited with another model; what followed it is gone", async () => {
  await message().fill("and then?");
  await message().press("Enter");
  await answer("You said: and then?").waitFor();
  await headStatus("waiting").waitFor();
  await said("another long story").hover();
  await said("another long story").getByRole("button", { name: "Edit" }).click();
  assert.equal(await message().inputValue(), "another long story", "its text is there to be changed");
  await message().fill("a short one");
  await button("Send the edit").click();
  await answer("You said: a short one").waitFor();
  assert.equal(await page().getByRole("article").count(), 2, "one question, one answer");
  await page().reload();
  await answer("You said: a short one").waitFor();
  assert.equal(await page().getByRole("article").count(), 2, "and so it was stored");
  await page().getByLabel("Model").selectOption({ label: "Model Two" });
  await message().fill("who are you?");
  await button("Send").click();
  await answer("You said: who are you?").waitFor();
  assert.equal(asked[asked.length - 1].body.model, "m-2", "the chosen model was asked");
  assert.equal(asked[asked.length - 1].body.reasoning_effort, "high", "to think as it was set up");
});

test("a tool's call shows its arguments as a diff, and its result", async () => {
  await start("edit the file");
  await answer("The tool has spoken.").waitFor();
  const tool = page().locator('.tool[data-tool="edit_files"]');
  assert.equal(await tool.locator(".diff-view .old").innerText(), "- two");
  assert.equal(await tool.locator(".diff-view .new").innerText(), "+ 2");
  assert.equal(await tool.getAttribute("data-state"), "failed", "there is no workspace to edit in");
  await picture("chat-tool");
});

test("the model names a chat, and names it again", async () => {
  await start("christen this");
  await heading("The 1. Name");
  await page().getByRole("complementary", { name: "Chats" }).getByRole("link").filter({ hasText: "The 1. Name" }).waitFor();
  await headStatus("waiting").waitFor();
  await more("New title");
  await heading("The 2. Name");
  await page().getByRole("complementary", { name: "Chats" }).getByRole("link").filter({ hasText: "The 2. Name" }).waitFor();
});

test("a failure is told, and a retry is waited for", async () => {
  await start("refuse this");
  await page().getByRole("alert").filter({ hasText: "Authentication with OpenAI" }).waitFor();
  await headStatus("error").waitFor();
  await page().reload();
  await page().getByRole("alert").filter({ hasText: "Authentication with OpenAI" }).waitFor();
  await picture("chat-error");
  const times = () => asked.filter((a) => JSON.stringify(a.body.messages.at(-1)).includes("refuse")).length;
  const before = times();
  await button("Try again").click();
  while (times() === before) await sleep(50);
  await headStatus("error").waitFor();
  assert.equal(await said("refuse this").count(), 1, "the same message is said again");
  await start("you are busy");
  // The first time may be over before the page listens.
  await page().getByRole("status").filter({ hasText: /Attempt [23]/ }).waitFor();
  await answer("You said: you are busy").waitFor();
  assert.equal(await page().getByText(/Attempt [23]/).count(), 0, "the notice is gone");
});

test("a picture and a long paste are attached as files", async () => {
  await link("New chat").click();
  const png = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==", "base64");
  await page().getByLabel("Files", { exact: true }).setInputFiles({ name: "dot.png", mimeType: "image/png", buffer: png });
  await page().locator('.attachments li[data-ready="true"]').waitFor();
  await message().evaluate((area) => {
    const data = new DataTransfer();
    data.setData("text/plain", "line\n".repeat(30));
    area.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
  });
  await page().locator('.attachments li[data-ready="true"]').nth(1).waitFor();
  await message().fill("look at this");
  await page().reload();
  await page().locator('.attachments li[data-ready="true"]').nth(1).waitFor();
  await button("Start").click();
  await answer("You said:").waitFor();
  await link("New chat").click();
  await message().waitFor();
  assert.equal(await page().locator(".attachments li").count(), 0, "they went with the message");
  await page().getByRole("complementary", { name: "Chats" }).getByRole("link").filter({ hasText: "look at this" }).click();
  const shown = said("look at this").locator("img");
  await page().waitForFunction((img) => img.complete && img.naturalWidth === 1, await shown.elementHandle());
  await said("look at this").getByRole("link", { name: "pasted.txt" }).waitFor();
  await button("Show dot.png large").click();
  await dialog().getByRole("img", { name: "dot.png" }).waitFor();
  await page().keyboard.press("Escape");
  await dialog().waitFor({ state: "detached" });

  // A paste may go back into the message; what nobody sees is told of.
  await message().evaluate((area) => {
    const data = new DataTransfer();
    data.setData("text/plain", "row\n".repeat(12));
    area.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
  });
  await button("Into the message").click();
  assert.equal(await message().inputValue(), "row\n".repeat(12));
  await message().fill("a\u200bb \u{1F468}\u200d\u{1F469} c\u202ed");
  await page().getByRole("status").filter({ hasText: "2 characters that cannot be seen" }).getByRole("button", { name: "Remove" }).click();
  assert.equal(await message().inputValue(), "ab \u{1F468}\u200d\u{1F469} cd", "an emoji stays whole");
  await message().fill("");
  await message().evaluate((area) => {
    const data = new DataTransfer();
    data.items.add(new File(["words"], "dropped.txt", { type: "text/plain" }));
    area.closest("form").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
  });
  await page().locator('.attachments li[data-ready="true"]', { hasText: "dropped.txt" }).waitFor();
  await button("Remove dropped.txt").click();
  await message().evaluate((area) => {
    const data = new DataTransfer();
    for (let i = 1; i <= 21; i++) data.items.add(new File([`words ${i}`], `many-${i}.txt`, { type: "text/plain" }));
    area.closest("form").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
  });
  await page().locator(".attachments li.problem", { hasText: "many-21.txt no more than 20 files" }).waitFor();
  await page().waitForFunction(() => document.querySelectorAll('.attachments li[data-ready="true"]').length === 20);
  assert.equal(await button("Send").isDisabled(), true, "not before the last is removed");
  for (const remove of (await page().locator(".attachments button").all()).reverse()) await remove.click();
});

test("a chat is labelled, pinned, found, unread and archived", async () => {
  await start("remember the milk");
  await answer("You said: remember the milk").waitFor();
  const list = page().getByRole("complementary", { name: "Chats" });
  const entry = (text) => list.getByRole("link").filter({ hasText: text });
  await more("Labels");
  await dialog().getByLabel("Labels").fill("for: home");
  await dialog().getByRole("button", { name: "Save the labels" }).click();
  await entry("remember the milk").getByText("for: home").waitFor();
  await more("Pin");
  await list.getByRole("heading", { name: "Pinned" }).waitFor();
  await entry("remember the milk").locator("..").hover();
  await button("Menu of remember the milk").click();
  await page().getByRole("menuitem", { name: "Unpin", exact: true }).waitFor();
  await page().keyboard.press("Escape");
  await list.getByLabel("Search chats").fill("MILK");
  await entry("lesson").waitFor({ state: "detached" });
  await entry("remember the milk").waitFor();
  await list.getByLabel("Search chats").fill("");
  await entry("lesson").waitFor();
  await list.getByLabel("Search chats").fill("for:home");
  // A label finds its chats only; the list before it is asked for may be seen meanwhile.
  await entry("lesson").waitFor({ state: "detached" });
  await entry("remember the milk").waitFor();
  await list.getByLabel("Search chats").fill("");

  // Elsewhere it is answered, while another chat is open here.
  const id = page().url().split("/").pop();
  await entry("Give me a lesson").click();
  await heading("Give me a lesson");
  await page().evaluate(async ([url, token]) => {
    await fetch(url, { method: "POST", headers: { "X-CSRF-TOKEN": token, "Content-Type": "application/json" }, body: JSON.stringify({ content: [{ type: "text", text: "and bread" }] }) });
  }, [`${CHATS}/${id}/messages`, await page().locator('meta[property="csrf-token"]').getAttribute("content")]);
  await entry("remember the milk").getByLabel("unread").waitFor();
  await picture("chat-list");
  await entry("remember the milk").click();
  await answer("You said: and bread").waitFor();
  await entry("remember the milk").getByLabel("unread").waitFor({ state: "detached" });

  await more("Archive");
  await page().getByText("This chat is archived.").waitFor();
  await entry("remember the milk").waitFor({ state: "detached" });
  await list.getByLabel("Which chats").selectOption({ label: "Archived" });
  await entry("remember the milk").waitFor();
  await more("Bring back");
  await message().waitFor();
  await list.getByLabel("Which chats").selectOption({ label: "Active" });
  await entry("remember the milk").waitFor();
});

test("a chat begins in a workspace, and the workspace leads to it; templates are allowed", async () => {
  const token = await page().locator('meta[property="csrf-token"]').getAttribute("content");
  const call = (method, path, body) =>
    page().evaluate(
      async ([m, p, b, t]) => (await fetch(p, { method: m, headers: { "X-CSRF-TOKEN": t, "Content-Type": "application/json" }, body: b && JSON.stringify(b) })).json(),
      [method, `/api/v2${path}`, body, token],
    );
  const [{ id: org }] = await call("GET", "/organizations");
  let version = await call("POST", `/organizations/${org}/templateversions`, { storage_method: "file", provisioner: "terraform", tags: {}, example_id: "sandbox" });
  while (!["succeeded", "failed"].includes(version.job.status)) {
    await sleep(50);
    version = await call("GET", `/templateversions/${version.id}`);
  }
  const template = await call("POST", `/organizations/${org}/templates`, { name: "sandbox", template_version_id: version.id });
  const workspace = await call("POST", "/users/me/workspaces", { name: "here", template_id: template.id });
  await page().goto(`${base}/@${OWNER.username}/here`);
  await link("New chat").click();
  await page().getByRole("combobox", { name: "Workspace", exact: true }).locator("option:checked", { hasText: "here" }).waitFor({ state: "attached" });
  await message().fill("work here");
  await button("Start").click();
  await answer("You said: work here").waitFor();
  await page().locator(".chat-head").getByRole("button", { name: /^Workspace here: / }).click();
  await page().getByRole("menuitem", { name: "View the workspace" }).click();
  await link("Chat").click();
  await heading("work here");
  assert.equal((await (await page().request.get(`${CHATS}/${page().url().split("/").pop()}`)).json()).workspace_id, workspace.id);

  await page().goto(`${base}/agents/settings/templates`);
  await page().getByLabel("sandbox (").check();
  await button("Save").last().click();
  await page().getByText("Saved.").waitFor();
  await page().reload();
  await page().locator('input[type="checkbox"]:checked').waitFor();
  assert.equal(await page().getByLabel("sandbox (").isChecked(), true);
});

test("cost is summed up, limits are set and told", async () => {
  await page().goto(`${base}/agents/settings/cost`);
  await row("Model One").filter({ hasText: "$" }).waitFor();
  await row("Give me a lesson").filter({ hasText: "$0.019" }).waitFor();
  await picture("chat-cost");
  await link("Spending").click();
  await row(OWNER.username).waitFor();
  await link("Limits").click();
  await page().getByText("Models without a price: 1.").waitFor();
  await page().getByLabel("Dollars for each user").fill("0.001");
  await button("Save").click();
  await page().getByText("Saved.").waitFor();
  await link("New chat").click();
  await page().getByRole("alert").filter({ hasText: "the limit is reached" }).waitFor();
  await message().fill("one more");
  await button("Start").click();
  await page().getByRole("alert").filter({ hasText: "More is possible from" }).waitFor();
  await picture("chat-limit");
  await page().goto(`${base}/agents/settings/limits`);
  await page().getByLabel("Username").fill(OWNER.username);
  await page().getByLabel("Dollars", { exact: true }).fill("50");
  await button("Add").click();
  await row(OWNER.username).filter({ hasText: "$50.00" }).waitFor();
  await picture("chat-limits");
});

test("one's own settings are kept: instructions, a key, compaction", async () => {
  await page().goto(`${base}/agents/settings/behavior`);
  await page().getByLabel("Instructions", { exact: true }).fill("I like tea.");
  await button("Save").click();
  await page().getByText("Saved.").waitFor();
  await link("Keys").click();
  await row("OpenAI").getByRole("button", { name: "Add" }).click();
  await dialog().getByLabel("Key of").fill("my-key");
  await dialog().getByRole("button", { name: "Keep the key" }).click();
  await row("OpenAI").filter({ hasText: "kept" }).waitFor();
  await link("Compaction").click();
  await page().getByLabel("Percent of Model One").fill("55");
  await row("Model One").getByRole("button", { name: "Save" }).click();
  await row("Model One").getByRole("button", { name: "Reset" }).waitFor();
  await page().getByRole("navigation", { name: "Settings of the chats" }).getByRole("link", { name: "Workspaces" }).click();
  await page().getByLabel("Days that archived chats are kept").fill("9999");
  await button("Save").first().click();
  await page().getByRole("alert").filter({ hasText: "between 0 and 3650" }).waitFor();
  await page().getByLabel("Days that archived chats are kept").fill("90");
  await button("Save").first().click();
  await page().getByText("Saved.").waitFor();

  await start("tell me");
  await answer("You said: tell me").waitFor();
  const last = asked[asked.length - 1];
  assert.equal(last.key, "Bearer my-key", "one's own key is used");
  assert.match(JSON.stringify(last.body.messages), /I like tea/, "and one's own instructions");
});

test("it works on a phone", async () => {
  const phone = await context().newPage();
  await phone.setViewportSize({ width: 390, height: 844 });
  await phone.goto(`${base}/agents`);
  await phone.getByLabel("Message").fill("Give me a lesson");
  await picture("phone-new", phone);
  await phone.getByRole("button", { name: "Start" }).click();
  await phone.getByRole("article", { name: "Answer" }).getByRole("table").waitFor();
  await picture("phone-chat", phone);
  assert.ok(await phone.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "nothing is wider than the screen");
  assert.ok(await phone.getByLabel("Message").isVisible());
  await phone.getByRole("link", { name: "All chats" }).click();
  await phone.getByRole("link").filter({ hasText: "remember the milk" }).click();
  await phone.getByRole("heading", { name: "remember the milk" }).waitFor();
  await phone.goto(`${base}/agents/settings/models`);
  await phone.getByRole("row").filter({ hasText: "Model One" }).waitFor();
  await picture("phone-models", phone);
  assert.ok(await phone.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "settings neither");
  await phone.close();
});

test("no page raised an error", () => assert.deepEqual(problems, []));
