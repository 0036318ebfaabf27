// The desktop of a workspace beside a chat: seen, used, its clipboard, lost and found again; and what models do on it.
//
// CODER_URL names a freshly started server; MODEL_URL what desktop.test.pl started; CODER_SCREENSHOTS, where given, a folder for
// pictures of the pages.
//
// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { test } from "node:test";
import { OWNER, base, browser } from "./browser.mjs";

const { page, picture, problems } = browser();
const CHATS = `${base}/api/experimental/chats`;

const button = (name) => page().getByRole("button", { name, exact: true });
const message = () => page().getByLabel("Message");
const tab = (name) => page().getByRole("tab", { name, exact: true });
const panel = () => page().locator(".chat-panel");
const card = (tool) => page().locator(`details.tool[data-tool="${tool}"]`);
const desktop = (state) => panel().locator(`.desktop-view[data-state="${state}"]`);
const clipboard = () => panel().getByLabel("Clipboard of the desktop");

async function call(method, path, body) {
  const cookie = (await page().context().cookies()).find((c) => c.name === "coder_session_token").value;
  const answer = await fetch(path.startsWith("http") ? path : `${base}/api/v2${path}`, { method, headers: { "Coder-Session-Token": cookie, "Content-Type": "application/json" }, body: body && JSON.stringify(body) });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
  return answer.status === 204 ? undefined : answer.json();
}

/** Has the model call a tool, and waits until it has answered. */
async function tool(name, args) {
  const before = await card(name).count();
  await message().fill(`tool:${name} ${JSON.stringify(args)}`);
  await page().getByRole("button", { name: /^(Send|Start)$/ }).click();
  await page().waitForURL(/\/agents\/[0-9a-f-]{36}$/);
  await card(name).nth(before).waitFor();
  await card(name).nth(before).and(page().locator('[data-state="done"]')).waitFor();
  await page().locator('.chat-head .status[data-status="waiting"]').waitFor();
  const { messages } = await call("GET", `${CHATS}/${page().url().split("/").pop()}/messages`);
  return messages.find((m) => m.role === "tool").content[0].result;
}
const shell = (command, more = {}) => tool("execute", { command, timeout: "20s", ...more });
const soon = "for i in $(seq 100); do";

/** What the page's desktop shows at this place, as it is on the page. */
async function spot(x, y) {
  const box = await panel().locator("canvas").boundingBox();
  return { x: box.x + (x * box.width) / 1920, y: box.y + (y * box.height) / 1080 };
}

test("a workspace, and a chat in it", async () => {
  await fetch(`${base}/api/v2/users/first`, { method: "POST", body: JSON.stringify(OWNER) });
  await page().goto(`${base}/agents`);
  await page().getByLabel("Email").fill(OWNER.email);
  await page().getByLabel("Password").fill(OWNER.password);
  await button("Sign in").click();
  await page().getByRole("heading", { name: "What is to be done?", exact: true }).waitFor();
  await call("POST", `${CHATS}/providers`, { provider: "openai-compat", api_key: "k", base_url: process.env.MODEL_URL });
  await call("POST", `${CHATS}/providers`, { provider: "anthropic", api_key: "k", base_url: process.env.MODEL_URL });
  await call("POST", `${CHATS}/model-configs`, { provider: "openai-compat", model: "m", context_limit: 1000000 });
  await call("PUT", `${CHATS}/config/desktop-enabled`, { enable_desktop: true });
  const [{ id: org }] = await call("GET", "/organizations");
  let version = await call("POST", `/organizations/${org}/templateversions`, { storage_method: "file", provisioner: "terraform", tags: {}, example_id: "sandbox" });
  for (let i = 0; i < 600 && !["succeeded", "failed"].includes(version.job.status); i++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    version = await call("GET", `/templateversions/${version.id}`);
  }
  const template = await call("POST", `/organizations/${org}/templates`, { name: "box", template_version_id: version.id });
  const workspace = await call("POST", "/users/me/workspaces", { name: "here", template_id: template.id });
  await page().goto(`${base}/@${OWNER.username}/here`);
  await page().locator('.agent .status[data-status="connected"]').waitFor({ timeout: 60_000 });
  await page().goto(`${base}/agents?workspace=${workspace.id}`);
  await page().getByRole("combobox", { name: "Workspace", exact: true }).locator("option:checked", { hasText: "here" }).waitFor({ state: "attached" });
  await shell("true");
});

test("the desktop is seen beside the chat, and used", async () => {
  await button("Panel").click();
  await tab("Desktop").click();
  await desktop("connected").waitFor();
  await shell('exec xterm -u8 -fa Mono -geometry 150x40+0+0 -e sh -c "cat > typed.txt"', { run_in_background: true });
  await shell(`${soon} xdotool search --onlyvisible --class xterm && break; sleep 0.1; done`);
  const at = await spot(400, 300);
  await page().mouse.click(at.x, at.y);
  await page().keyboard.type("from the page");
  await page().keyboard.press("Enter");
  const { output } = await shell(`${soon} grep page typed.txt && break; sleep 0.1; done; xdotool getmouselocation`);
  assert.match(output, /^from the page$/m);
  const [, x, y] = output.match(/x:(\d+) y:(\d+)/);
  assert.ok(Math.abs(x - 400) < 7 && Math.abs(y - 300) < 7, `the pointer is where it is on the page: ${x}, ${y}`);
  await picture("chat-desktop");
});

test("its clipboard is the page's, both ways", async () => {
  await panel().getByText("Clipboard", { exact: true }).click();
  await clipboard().fill("carried there äöü");
  await panel().getByText("Clipboard", { exact: true }).click();
  const { output } = await shell(`${soon} xclip -o -selection clipboard | grep carried && break; sleep 0.1; done`);
  assert.match(output, /^carried there äöü$/m);
  await shell("printf 'carried here €' | xclip -i -selection clipboard >/dev/null 2>&1");
  await panel().getByText("Clipboard", { exact: true }).click();
  await page().waitForFunction(() => document.querySelector(".desktop-clipboard textarea").value === "carried here €");
  await panel().getByText("Clipboard", { exact: true }).click();
});

test("who only watches changes nothing", async () => {
  await panel().getByLabel("Only watch").check();
  const at = await spot(700, 500);
  await page().mouse.move(at.x, at.y);
  await page().mouse.click(at.x, at.y);
  const { output } = await shell("sleep 0.5; xdotool getmouselocation");
  assert.doesNotMatch(output, /x:(69\d|70\d) /);
  await panel().getByLabel("Only watch").uncheck();
});

test("a desktop that dies is joined again", async () => {
  await shell("pkill -9 Xtigervnc");
  await desktop("connecting").or(desktop("waiting")).first().waitFor();
  await desktop("connected").waitFor();
  assert.match((await shell("xdpyinfo | grep dimensions")).output, /1920x1080/);
});

test("what a model does on it is seen in the transcript, and as a film", async () => {
  const { chat_id: child } = await tool("spawn_computer_use_agent", {
    title: "Click",
    prompt: 'tool:computer {"action": "left_click", "coordinate": [100, 100]}\ntool:computer {"action": "wait", "duration": 3}',
  });
  await tool("wait_agent", { chat_id: child, timeout_seconds: 60 });
  await card("spawn_computer_use_agent").locator("summary").click();
  await card("spawn_computer_use_agent").getByRole("button", { name: "Show the desktop" }).click();
  await card("spawn_computer_use_agent").locator('.desktop-view[data-state="connected"] canvas').waitFor();
  await card("wait_agent").locator("summary").click();
  const video = card("wait_agent").locator("video");
  await video.waitFor();
  const film = await call("GET", `${base}${await video.getAttribute("src")}`).catch((error) => error);
  assert.ok(film instanceof SyntaxError, "the film is one of the chat's files, and no JSON");
  await picture("chat-film");
  await page().goto(`${base}/agents/${child}`);
  await card("computer").first().waitFor();
  assert.equal(await card("computer").first().locator("summary .tool-title").innerText(), "Desktop: left click at 100, 100");
  const shot = card("computer").first().locator("img.tool-media");
  await shot.waitFor();
  assert.deepEqual(await shot.evaluate((img) => img.decode().then(() => [img.naturalWidth, img.naturalHeight])), [1280, 720]);
  await picture("chat-computer");
});

test("a chat without a desktop says why", async () => {
  const { id } = await call("POST", CHATS, { organization_id: (await call("GET", "/organizations"))[0].id, content: [{ type: "text", text: "hello" }] });
  await page().goto(`${base}/agents/${id}`);
  await panel().getByText("This chat has no workspace.").waitFor();
  const [workspace] = (await call("GET", "/workspaces")).workspaces;
  await call("POST", `/workspaces/${workspace.id}/builds`, { transition: "stop" });
  await page().goBack();
  await page().reload();
  await panel().locator(".problem").filter({ hasText: /Agent state is|no agents/ }).waitFor();
  assert.equal(await desktop("connected").count(), 0);
});

test("nothing went wrong in the page", () => assert.deepEqual(problems, []));
