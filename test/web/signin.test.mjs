// Signing in with an OpenID Connect provider as a person does, and linking accounts at other servers.
//
// With dex, where it is installed, the provider's own form is filled in (signin.test.pl).
//
// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { test } from "node:test";
import { base, browser } from "./browser.mjs";

const { page, picture, problems } = browser();

/** The form of dex; the double asks for nothing. */
async function atProvider() {
  const login = page().locator("#login");
  await Promise.race([login.waitFor().catch(() => undefined), page().getByRole("navigation", { name: "Main" }).waitFor().catch(() => undefined)]);
  if (!(await login.isVisible())) return;
  await login.fill("dora@example.com");
  await page().locator("#password").fill("correct horse");
  await picture("dex");
  await page().locator("#submit-login").click();
}

test("the first person of a new server comes by the provider", async () => {
  await page().goto(base);
  await page().getByRole("link", { name: "The provider" }).waitFor();
  await picture("setup-methods");
  await page().getByRole("link", { name: "The provider" }).click();
  await atProvider();
  await page().getByRole("heading", { name: "Templates" }).waitFor();
  await page().getByTitle("dora@example.com").waitFor();
});

test("signed out, the login page offers the provider and leads back to where one was going", async () => {
  await page().getByRole("button", { name: "Sign out" }).click();
  await page().goto(`${base}/settings/external-auth`);
  await page().getByRole("heading", { name: "Sign in to Coder" }).waitFor();
  await picture("login-methods");
  await page().getByRole("link", { name: "The provider" }).click();
  await atProvider();
  await page().getByRole("heading", { name: "Linked accounts" }).waitFor();
});

test("an account is linked by the provider's page", async () => {
  await page().getByRole("link", { name: "Host" }).click();
  await page().getByRole("link", { name: "Link an account" }).click();
  await page().getByText("Your account is linked.").waitFor();
  await picture("external-auth");
});

test("another by a code", async () => {
  await page().goto(`${base}/external-auth/typed`);
  await page().getByText("WXYZ-1234").waitFor();
  await picture("device");
  await page().getByText("Your account is linked.").waitFor();
});

test("both are listed, and may be unlinked", async () => {
  await page().getByRole("link", { name: "All linked accounts" }).click();
  await page().locator('.status[data-status="linked"]').nth(1).waitFor();
  await picture("linked");
  await page().getByRole("row", { name: "Host" }).getByRole("button", { name: "Unlink" }).click();
  await page().waitForFunction(() => document.querySelectorAll('.status[data-status="linked"]').length === 1);
});

test("no page had an error", () => assert.deepEqual(problems, []));
