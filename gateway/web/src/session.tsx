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
  experiments: string[];
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
  updateUser: { object: { resource_type: "user" }, action: "update" },
  deleteUser: { object: { resource_type: "user" }, action: "delete" },
  assignRole: { object: { resource_type: "assign_role" }, action: "assign" },
  readGroups: { object: { resource_type: "group", any_org: true }, action: "read" },
  createGroup: { object: { resource_type: "group", any_org: true }, action: "create" },
  readRoles: { object: { resource_type: "assign_org_role", any_org: true }, action: "read" },
  createRole: { object: { resource_type: "assign_org_role", any_org: true }, action: "create" },
  readMembers: { object: { resource_type: "organization_member", any_org: true }, action: "update" },
  createOrganization: { object: { resource_type: "organization" }, action: "create" },
  readAudit: { object: { resource_type: "audit_log", any_org: true }, action: "read" },
  readConnections: { object: { resource_type: "connection_log", any_org: true }, action: "read" },
  createChat: { object: { resource_type: "chat", owner_id: "me" }, action: "create" },
  readAllChats: { object: { resource_type: "chat" }, action: "read" },
  manageChats: { object: { resource_type: "deployment_config" }, action: "update" },
  readStats: { object: { resource_type: "deployment_stats" }, action: "read" },
  readDeployment: { object: { resource_type: "deployment_config" }, action: "read" },
  editDeployment: { object: { resource_type: "deployment_config" }, action: "update" },
  readHealth: { object: { resource_type: "debug_info" }, action: "read" },
  viewInsights: { object: { resource_type: "template", any_org: true }, action: "view_insights" },
  viewAllInsights: { object: { resource_type: "template" }, action: "view_insights" },
  createApp: { object: { resource_type: "oauth2_app" }, action: "create" },
};
