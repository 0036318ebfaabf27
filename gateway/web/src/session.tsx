// Who is signed in, and what pages may need of it.
//
// SPDX-License-Identifier: MIT
import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { Organization, User } from "./types";

export interface Session {
  user: User;
  organizations: Organization[];
  can: Record<string, boolean>;
  signOut: () => void;
}

export const SessionContext = createContext<Session | undefined>(undefined);

export function useSession(): Session {
  const session = useContext(SessionContext);
  if (!session) throw new Error("no session");
  return session;
}

/** The questions asked of /authcheck once per session; the pages show what these allow. */
export const CHECKS = {
  createTemplate: { object: { resource_type: "template", any_org: true }, action: "create" },
  readUsers: { object: { resource_type: "user" }, action: "read" },
  createUser: { object: { resource_type: "user" }, action: "create" },
};
