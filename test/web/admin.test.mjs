// The administration as a person does it: users, groups, organizations, roles, audit, OAuth2 applications, tokens, sessions.
//
// CODER_URL names a freshly started server; CODER_SCREENSHOTS, where given, a folder for pictures of the pages.
//
// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { test } from "node:test";
import { OWNER, base, browser } from "./browser.mjs";

const { page, picture, problems } = browser();
const BOB = { username: "bob", email: "bob@example.com", password: "another horse 8 battery" };

const heading = (name) => page().getByRole("heading", { name, exact: true }).first().waitFor();
const button = (name) => page().getByRole("button", { name, exact: true });
const link = (name) => page().getByRole("link", { name, exact: true }).first();
const row = (text) => page().getByRole("row").filter({ hasText: text });
const dialog = () => page().locator("dialog[open]");

async function call(method, path, token, body) {
  const answer = await fetch(base + path, { method, headers: { "Coder-Session-Token": token, "Content-Type": "application/json" }, body: body && JSON.stringify(body) });
  return { status: answer.status, body: answer.status === 204 ? undefined : await answer.json() };
}

const signIn = async ({ email, password }) => (await call("POST", "/api/v2/users/login", "", { email, password })).body.session_token;

test("the first user signs in", async () => {
  await fetch(`${base}/api/v2/users/first`, { method: "POST", body: JSON.stringify(OWNER) });
  await page().goto(`${base}/users`);
  await page().getByLabel("Email").fill(OWNER.email);
  await page().getByLabel("Password").fill(OWNER.password);
  await button("Sign in").click();
  await heading("Users");
});

test("chats are not shown where they are off", async () => {
  assert.equal(await page().getByRole("link", { name: "Chats", exact: true }).count(), 0);
  await page().goto(`${base}/agents`);
  await heading("Chats are off");
  await link("Admin").click();
  await heading("Overview");
  await link("Users").click();
  await heading("Users");
});

test("a user is created, gets a role, and is suspended", async () => {
  await button("New user").click();
  await dialog().getByLabel("Username").fill(BOB.username);
  await dialog().getByLabel("Email").fill(BOB.email);
  await dialog().getByLabel("Password").fill("weak");
  await dialog().getByRole("button", { name: "Create user" }).click();
  await dialog().getByRole("alert").waitFor();
  await dialog().getByLabel("Password").fill(BOB.password);
  await dialog().getByRole("button", { name: "Create user" }).click();
  await link("bob").click();
  await heading(/^bob/);
  await page().getByLabel("Auditor", { exact: true }).check();
  await button("Save the roles").click();
  await page().locator('button:has-text("Save the roles"):disabled').waitFor();
  const token = await signIn(BOB);
  assert.equal((await call("GET", "/api/v2/audit?limit=1", token)).status, 200, "an auditor reads the audit log");
  await page().reload();
  await heading("Sessions");
  await row("Password").first().waitFor();
  await picture("user");
  await button("Suspend").click();
  await page().locator('h1 .status[data-status="suspended"]').waitFor();
  assert.equal((await call("GET", "/api/v2/users/me", token)).status, 401, "a suspended user's session has ended");
  await button("Activate").click();
  await page().locator('h1 .status[data-status="active"]').waitFor();
});

test("a page tells why a user may do something", async () => {
  await page().goto(`${base}/users/bob`);
  await link("What bob may do, and why").click();
  const status = page().getByRole("status");
  await status.filter({ hasText: "Yes: the role organization-member grants workspace:read at the level member" }).waitFor();
  await page().getByLabel("Which").selectOption("all");
  await status.filter({ hasText: "No: no role grants workspace:read on this object" }).waitFor();
  await page().getByText("Roles that would grant it: owner, template-admin.").waitFor();
  await page().getByLabel("What", { exact: true }).selectOption("audit_log");
  await status.filter({ hasText: "Yes: the role auditor grants audit_log:read at the level site" }).waitFor();
  await page().getByRole("row").filter({ hasText: "this decides" }).getByText("audit_log:read").waitFor();
  await picture("access");
});

test("an organization is made, with a role of its own for a member", async () => {
  await link("Organizations").click();
  await button("New organization").click();
  await dialog().getByLabel("Name", { exact: true }).fill("research");
  await dialog().getByLabel("Display name").fill("Research");
  await dialog().getByRole("button", { name: "Create organization" }).click();
  await heading("Research");
  await page().getByLabel("Add a user").fill("nobody");
  await button("Add").click();
  await page().getByRole("alert").waitFor();
  await page().getByLabel("Add a user").fill("bob");
  await button("Add").click();
  await row("bob").waitFor();

  await page().goto(`${base}/roles/research`);
  await heading("New role");
  await page().getByLabel("Name", { exact: true }).fill("librarian");
  await page().getByLabel("Display name").fill("Librarian");
  await page().getByLabel("create template", { exact: true }).first().check();
  await page().getByLabel("read template", { exact: true }).first().check();
  await picture("role");
  await button("Create role").click();
  await heading("Roles");
  await page().getByLabel("Of").selectOption({ label: "Research" });
  await link("Librarian").click();
  assert.equal(await page().getByLabel("create template", { exact: true }).first().isChecked(), true, "the role kept its permission");
  assert.equal(await page().getByLabel("delete template", { exact: true }).first().isChecked(), false, "and no other");

  await link("Organizations").click();
  await link("Research").click();
  await row("bob").getByRole("button", { name: "Roles" }).click();
  await dialog().getByLabel("Librarian").check();
  await dialog().getByRole("button", { name: "Save the roles" }).click();
  await row("bob").filter({ hasText: "Librarian" }).waitFor();
  await picture("organization");
  const { body: org } = await call("GET", "/api/v2/organizations/research", await signIn(OWNER));
  const check = { checks: { a: { object: { resource_type: "template", organization_id: org.id }, action: "create" }, b: { object: { resource_type: "template", organization_id: org.id }, action: "delete" } } };
  assert.deepEqual((await call("POST", "/api/v2/authcheck", await signIn(BOB), check)).body, { a: true, b: false }, "the role is in force");
});

test("a built-in role shows what it allows", async () => {
  await link("Roles").click();
  await link("Template Admin").click();
  assert.equal(await page().getByLabel("create template", { exact: true }).first().isChecked(), true);
  assert.equal(await page().getByLabel("create template", { exact: true }).first().isDisabled(), true);
});

test("a group gets a member", async () => {
  await link("Groups").click();
  await button("New group").click();
  await dialog().getByLabel("Organization").selectOption({ label: "Research" });
  await dialog().getByLabel("Name", { exact: true }).fill("readers");
  await dialog().getByRole("button", { name: "Create group" }).click();
  await heading("readers");
  await page().getByLabel("Add a member of the organization").selectOption({ label: "bob" });
  await button("Add").click();
  await row("bob").waitFor();
  await picture("group");
  await row("bob").getByRole("button", { name: "Remove" }).click();
  await row("bob").waitFor({ state: "detached" });
});

test("the audit log shows what was done, and filters", async () => {
  await link("Audit log").click();
  await row("readers").first().waitFor();
  await page().getByLabel("Kind of thing").selectOption("custom_role");
  await row("librarian").first().waitFor();
  assert.equal(await row("readers").count(), 0, "only roles are left");
  assert.match(page().url(), /resource_type%3Acustom_role/, "the filter is in the address");
  await page().getByLabel("Kind of thing").selectOption("user");
  await row("bob").first().getByRole("button").click();
  await page().getByText(/status 20[01] · request/).waitFor();
  await picture("audit");
  await link("Connections").click();
  await heading("Connections");
});

test("an OAuth2 application is let in, and shut out again", async () => {
  const received = [];
  const app = createServer((req, res) => {
    received.push(new URL(req.url, "http://localhost"));
    res.end("signed in");
  });
  await new Promise((ready) => app.listen(0, "127.0.0.1", ready));
  const callback = `http://127.0.0.1:${app.address().port}/cb`;
  try {
    await link("OAuth2 apps").click();
    await button("New application").click();
    await dialog().getByLabel("Name").fill("wiki");
    await dialog().getByLabel("Callback URL").fill(callback);
    await dialog().getByRole("button", { name: "Create application" }).click();
    await heading("wiki");
    const clientId = page().url().split("/").pop();
    await button("New secret").click();
    const secret = await page().locator("code", { hasText: /^coder_/ }).innerText();
    await picture("oauth2-app");

    const verifier = randomBytes(32).toString("base64url");
    const ask = new URLSearchParams({ response_type: "code", client_id: clientId, state: "s1", code_challenge: createHash("sha256").update(verifier).digest("base64url"), code_challenge_method: "S256" });
    await page().goto(`${base}/oauth2/authorize?${ask}`);
    await heading("Let wiki use your account?");
    await picture("consent");
    await button("Allow").click();
    await page().getByText("signed in").waitFor();
    assert.equal(received[0].searchParams.get("state"), "s1", "the state comes back");
    const answer = await fetch(`${base}/oauth2/tokens`, {
      method: "POST",
      body: new URLSearchParams({ grant_type: "authorization_code", client_id: clientId, client_secret: secret, code: received[0].searchParams.get("code"), code_verifier: verifier }),
    });
    const { access_token: token } = await answer.json();
    assert.equal((await call("GET", "/api/v2/users/me", token)).body.username, OWNER.username, "the application acts as the user");

    await page().goto(`${base}/settings/applications`);
    await row("wiki").getByRole("button", { name: "Revoke" }).click();
    await dialog().getByRole("button", { name: "Shut it out" }).click();
    await page().getByText("You have let in none.").waitFor();
    assert.equal((await call("GET", "/api/v2/users/me", token)).status, 401, "and no longer");
  } finally {
    app.close();
  }
});

test("a token of narrow scope; a session is ended", async () => {
  await page().goto(`${base}/settings/tokens`);
  await button("New token").click();
  await dialog().getByLabel("Name").fill("reader");
  await dialog().getByText("What it may do").click();
  await dialog().getByLabel("workspace:read", { exact: true }).check();
  await dialog().getByRole("button", { name: "Create token" }).click();
  const token = await dialog().locator("code").innerText();
  await dialog().getByRole("button", { name: "Done" }).click();
  await row("workspace:read").waitFor();
  await picture("tokens");
  assert.equal((await call("GET", "/api/v2/workspaces", token)).status, 200, "it reads workspaces");
  assert.equal((await call("POST", "/api/v2/users/me/keys", token)).status, 404, "and makes no key");

  const other = await signIn(OWNER);
  await link("Sessions").click();
  const id = other.split("-")[0];
  await row(id).getByRole("button", { name: "End" }).click();
  await row(id).waitFor({ state: "detached" });
  assert.equal((await call("GET", "/api/v2/users/me", other)).status, 401, "the other session has ended");
  await picture("sessions");
});

test("no page raised an error", () => assert.deepEqual(problems, []));
