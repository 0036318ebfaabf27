// What is beside a chat: changes in git as the model works, what the workspace told it, a terminal; and plans.
//
// CODER_URL names a freshly started server; MODEL_URL what panel.test.pl started; CODER_SCREENSHOTS, where given, a folder for
// pictures of the pages.
//
// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { OWNER, base, browser } from "./browser.mjs";

const { page, picture, problems } = browser();
const CHATS = `${base}/api/experimental/chats`;

const button = (name) => page().getByRole("button", { name, exact: true });
const heading = (name) => page().getByRole("heading", { name, exact: true }).first().waitFor();
const message = () => page().getByLabel("Message");
const tab = (name) => page().getByRole("tab", { name, exact: true });
const panel = () => page().locator(".chat-panel");
const card = (tool) => page().locator(`details.tool[data-tool="${tool}"]`);
const file = (path) => panel().locator(`details.patch-file[data-path="${path}"]`);

async function call(method, path, body) {
  const cookie = (await page().context().cookies()).find((c) => c.name === "coder_session_token").value;
  const answer = await fetch(path.startsWith("http") ? path : `${base}/api/v2${path}`, { method, headers: { "Coder-Session-Token": cookie, "Content-Type": "application/json" }, body: body && JSON.stringify(body) });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
  return answer.json();
}

const sql = (statement) => execFileSync(process.env.CODER_PSQL, ["-qAtX", "-v", "ON_ERROR_STOP=1", "-c", statement, process.env.CODER_DATABASE], { encoding: "utf8" });

let home;
/** Has the model call a tool, and waits until it has answered. */
async function tool(name, args) {
  const before = await card(name).count();
  await message().fill(`tool:${name} ${JSON.stringify(args)}`);
  await page().getByRole("button", { name: /^(Send|Start)$/ }).click();
  await page().waitForURL(/\/agents\/[0-9a-f-]{36}$/);
  await card(name).nth(before).waitFor();
  await card(name).nth(before).and(page().locator('[data-state="done"]')).waitFor();
  await page().locator('.chat-head .status[data-status="waiting"]').waitFor();
}
const shell = (command) => tool("execute", { command, timeout: "20s" });

test("a workspace with instructions and a skill, and a chat in it", async () => {
  await fetch(`${base}/api/v2/users/first`, { method: "POST", body: JSON.stringify(OWNER) });
  await page().goto(`${base}/agents`);
  await page().getByLabel("Email").fill(OWNER.email);
  await page().getByLabel("Password").fill(OWNER.password);
  await button("Sign in").click();
  await heading("What is to be done?");
  page().setDefaultTimeout(20_000);
  await call("POST", `${CHATS}/providers`, { provider: "openai-compat", api_key: "k", base_url: process.env.MODEL_URL });
  await call("POST", `${CHATS}/model-configs`, { provider: "openai-compat", model: "m", context_limit: 1000000 });
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
  await shell(
    "mkdir -p ~/.coder/skills/deploy && printf 'Use tabs.\\n' > ~/.coder/AGENTS.md && printf -- '---\\nname: deploy\\ndescription: Puts it there\\n---\\nRun **go.sh**.\\n' > ~/.coder/skills/deploy/SKILL.md && " +
      "git init -q -b main ~/repo && cd ~/repo && git config user.email a@b && git config user.name a && printf 'one\\ntwo\\n' > a.txt && git add . && git commit -qm 1; echo $HOME",
  );
  await card("execute").locator("summary").click();
  home = (await card("execute").locator(".log").innerText()).trim();
  assert.match(home, /^\/\S+$/);
});

test("what the model changes in git is seen beside the chat, as it does so", async () => {
  await page().goto(`${base}/agents?workspace=${(await call("GET", `${CHATS}/${page().url().split("/").pop()}`)).workspace_id}`);
  await page().getByRole("combobox", { name: "Workspace", exact: true }).locator("option:checked", { hasText: "here" }).waitFor({ state: "attached" });
  await tool("read_skill", { name: "deploy" });
  await button("Panel").click();
  await panel().getByText("No repository has been worked in yet.").waitFor();
  await tool("edit_files", { files: [{ path: `${home}/repo/a.txt`, edits: [{ search: "two", replace: "2 <b>bold</b>" }] }] });
  await panel().getByRole("heading", { name: new RegExp(`${home}/repo main \\+1 −1`) }).waitFor();
  assert.match(await file("a.txt").locator(".diff-view .old").innerText(), /- two$/);
  assert.match(await file("a.txt").locator(".diff-view .new").innerText(), /\+ 2 <b>bold<\/b>$/);
  await tool("write_file", { path: `${home}/repo/ä b.txt`, content: "new\n--- not a header\n" });
  await file("ä b.txt").locator("summary").filter({ hasText: "added" }).filter({ hasText: "+2" }).waitFor();
  await file("ä b.txt").getByText("--- not a header").waitFor();
  await picture("chat-changes");
  await button("Split").click();
  const rowOf = async (kind) => (await file("a.txt").locator(`.diff-view.split .${kind}`).boundingBox()).y;
  assert.equal(await rowOf("old"), await rowOf("new"), "what is gone is beside what has come");
  await picture("chat-split");
  await button("Unified").click();

  // A comment on a line, with the keyboard: it waits for the next message, over a reload too.
  await file("a.txt").getByRole("button", { name: "Comment on line 1" }).focus();
  for (const key of ["ArrowDown", "Shift+ArrowDown"]) await page().keyboard.press(key);
  await page().getByLabel("Comment on a.txt:2").fill("Not <b>bold</b>, please");
  await picture("chat-line-comment");
  await page().keyboard.press("Control+Enter");
  await file("a.txt").locator(".line-comment").getByText("Not <b>bold</b>, please").waitFor();
  await page().reload();
  await page().getByRole("list", { name: "Attached" }).getByText("a.txt:2 Not <b>bold</b>, please").waitFor();
  await file("a.txt").locator(".line-comment").getByText("Not <b>bold</b>, please").waitFor();
  await message().fill("and quickly");
  await button("Send").click();
  await page().getByRole("article", { name: "Answer" }).filter({ hasText: "quickly and" }).waitFor();
  await page().getByRole("list", { name: "Attached" }).waitFor({ state: "detached" });
  const { messages } = await call("GET", `${CHATS}/${page().url().split("/").pop()}/messages`);
  const { content } = messages.find((m) => m.role === "user");
  assert.deepEqual(content.map((p) => p.type), ["file-reference", "text", "text"]);
  assert.deepEqual([content[0].file_name, content[0].start_line, content[0].end_line, content[0].content], [`${home}/repo/a.txt`, 2, 2, "-two\n+2 <b>bold</b>"]);
  assert.deepEqual([content[1].text, content[2].text], ["Not <b>bold</b>, please", "and quickly"]);
  await page().getByRole("article", { name: "You" }).last().getByText(`${home}/repo/a.txt:2`).waitFor();
  await button("Ask for a commit").click();
  assert.match(await message().inputValue(), /^Commit the changes in \S+\/repo\.$/);
  await message().fill("");
  await shell(`cd ${home}/repo && git add . && git commit -qm 2`);
  await panel().getByText("Nothing has changed.").waitFor();
});

test("tools tell what they do: templates, processes, a workspace as it is built", async () => {
  await tool("execute", { command: "sleep 321", run_in_background: true });
  await tool("process_list", {});
  await card("process_list").locator("summary").click();
  await card("process_list").getByRole("listitem").filter({ hasText: "sleep 321" }).filter({ hasText: "running" }).waitFor();
  await page().goto(`${base}/agents`);
  await tool("list_templates", {});
  await card("list_templates").locator("summary").click();
  await card("list_templates").getByText("box").waitFor();
  const [{ id }] = await call("GET", "/templates");
  await tool("create_workspace", { template_id: id, name: "made" });
  const made = card("create_workspace");
  await made.locator("summary").click();
  await made.getByRole("link", { name: "made" }).waitFor();
  await made.locator(".stage").first().waitFor();
  await picture("chat-made");
  await page().locator(".chat-head").getByRole("button", { name: "Workspace made: running" }).click();
  await page().getByRole("menuitem", { name: "Copy the SSH command" }).waitFor();
  await page().getByRole("menuitem", { name: "Terminal" }).waitFor();
  await picture("chat-workspace-menu");
  await page().keyboard.press("Escape");
  await button("More").click();
  await page().getByRole("menuitem", { name: "Archive and delete the workspace" }).click();
  await page().locator("dialog[open]").getByRole("button", { name: "Archive and delete" }).click();
  await page().getByText("This chat is archived.").waitFor();
  await page().locator("dialog[open]").waitFor({ state: "detached" });
  assert.equal(sql("SELECT b.transition FROM coder.workspace_builds b JOIN coder.workspaces w ON w.id = b.workspace_id WHERE w.name = 'made' ORDER BY b.build_number DESC LIMIT 1").trim(), "delete");
  await page().goto(`${base}/workspaces`);
  await page().getByRole("row").filter({ hasText: "/here" }).getByRole("link", { name: "chat" }).click();
  await page().locator(".chat-head").getByRole("button", { name: "Workspace here: running" }).waitFor();
});

test("what the workspace told the model is named in the transcript and the panel", async () => {
  await page().locator("details.from-workspace summary").filter({ hasText: "1 instruction file, 1 skill" }).waitFor();
  await page().getByRole("img", { name: /^Context: .*; with AGENTS\.md, skill deploy$/ }).waitFor();
  await tab("Context").click();
  await panel().getByText(`${home}/.coder/AGENTS.md`).waitFor();
  await panel().getByText("Puts it there").waitFor();
  await card("read_skill").locator("summary").click();
  await card("read_skill").locator("strong", { hasText: "go.sh" }).waitFor();
  await picture("chat-context");
});

test("a plan is read as what it is", async () => {
  await tool("write_file", { path: `${home}/plan-1.md`, content: "# The plan\n\n1. Look\n2. Leap\n" });
  await tool("propose_plan", { path: `${home}/plan-1.md` });
  await card("propose_plan").getByRole("heading", { name: "The plan" }).waitFor();
  assert.equal(await card("propose_plan").getByRole("listitem").count(), 2);
  await picture("chat-plan");
});

test("a terminal beside the transcript, which the panel brings back", async () => {
  await tab("Terminal").click();
  await panel().locator(".xterm-helper-textarea").focus();
  await page().waitForFunction(() => /\S/.test(document.querySelector(".xterm-rows")?.textContent ?? ""));
  await page().keyboard.type("marker=$((6*7)); echo answer-$marker\n");
  const shows = (text) => page().waitForFunction((t) => document.querySelector(".xterm-rows")?.textContent.includes(t), text);
  await shows("answer-42");
  await picture("chat-terminal");
  await page().reload();
  await panel().locator(".xterm-helper-textarea").focus();
  await page().keyboard.type("echo again-$marker\n");
  await shows("again-42");
  await button("Close the panel").click();
  await panel().waitFor({ state: "detached" });
});

test("the branch's pull request, as the git server has it", async () => {
  const chat = page().url().split("/").pop();
  sql(`INSERT INTO coder.external_auth_links (provider_id, user_id, oauth_access_token, oauth_refresh_token, oauth_expiry) SELECT 'hub', c.owner_id, 'good', '', '0001-01-01' FROM coder.chats c WHERE c.id = '${chat}';
    INSERT INTO coder.chat_diff_statuses (chat_id, git_branch, git_remote_origin) VALUES ('${chat}', 'feature', 'https://hub.example/maps/app.git'); SELECT coder.emit('chat:git')`);
  await page().locator(".chat-head").getByRole("link", { name: "#7" }).waitFor();
  await page().locator(".chat-link.current").getByText("+1 −0").waitFor();
  await button("Panel").click();
  await panel().getByRole("heading", { name: "#7 Add maps open" }).waitFor();
  await file("map.txt").locator(".new", { hasText: "+ there" }).waitFor();
  await picture("chat-pull-request");
  await button("Close the panel").click();
});

test("on a phone the panel takes the place of the transcript", async () => {
  await page().setViewportSize({ width: 390, height: 800 });
  await button("Panel").click();
  await panel().waitFor();
  assert.equal(await page().locator(".transcript").isVisible(), false);
  assert.ok(await page().evaluate(() => document.documentElement.scrollWidth <= innerWidth));
  await picture("chat-panel-phone");
  await button("Close the panel").click();
  await page().locator(".transcript").waitFor();
});

test("no page raised an error", () => assert.deepEqual(problems, []));
