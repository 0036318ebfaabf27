// Who is signed in: asked of the server when a page begins.
//
// SPDX-License-Identifier: MIT
import { ApiError, api } from "./api";
import { CHECKS, type Session } from "./session";
import type { Organization, User } from "./types";

export type State = { kind: "loading" } | { kind: "setup" } | { kind: "out" } | { kind: "in"; session: Session } | { kind: "broken"; error: Error };

export async function loadState(signOut: () => void): Promise<State> {
  try {
    const user = await api.get<User>("/api/v2/users/me");
    const [organizations, can, experiments] = await Promise.all([
      api.get<Organization[]>("/api/v2/organizations"),
      api.post<Record<string, boolean>>("/api/v2/authcheck", { checks: CHECKS }),
      api.get<string[]>("/api/v2/experiments"),
    ]);
    return { kind: "in", session: { user, organizations, can, experiments, signOut } };
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 401) return { kind: "broken", error: error as Error };
  }
  try {
    await api.get("/api/v2/users/first");
    return { kind: "out" };
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return { kind: "setup" };
    return { kind: "broken", error: error as Error };
  }
}
