// The second row of links: the pages of the administration, and those of one's own settings.
//
// SPDX-License-Identifier: MIT
import type { ComponentChildren } from "preact";
import { Link, useLocation } from "wouter-preact";
import { type Session, useSession } from "./session";
import { useCurrentInSight } from "./ui";

type Page = [path: string, text: string, needs?: string];

const ADMIN: Page[] = [
  ["/deployment/overview", "Overview", "readDeployment"],
  ["/users", "Users", "readUsers"],
  ["/groups", "Groups", "readGroups"],
  ["/organizations", "Organizations", "readMembers"],
  ["/roles", "Roles", "readRoles"],
  ["/insights", "Insights", "viewInsights"],
  ["/boundary-usage", "Boundaries", "viewInsights"],
  ["/health", "Health", "readHealth"],
  ["/audit", "Audit log", "readAudit"],
  ["/connections", "Connections", "readConnections"],
  ["/deployment/oauth2-provider/apps", "OAuth2 apps", "createApp"],
];

const SETTINGS: Page[] = [
  ["/settings/account", "Account"],
  ["/settings/sessions", "Sessions"],
  ["/settings/tokens", "Tokens"],
  ["/settings/ssh-key", "SSH key"],
  ["/settings/applications", "Applications"],
  ["/settings/external-auth", "Linked accounts"],
];

const allowed = (session: Session, pages: Page[]) => pages.filter(([, , needs]) => !needs || session.can[needs]);

/** The first page of the administration that this session may open, if any. */
export const adminHome = (session: Session): string | undefined => allowed(session, ADMIN)[0]?.[0];

export const isAdminPath = (location: string) => ADMIN.some(([path]) => location.startsWith(path));

function Section({ label, pages, children }: { label: string; pages: Page[]; children: ComponentChildren }) {
  const [location] = useLocation();
  const nav = useCurrentInSight(location);
  return (
    <>
      <nav class="section" aria-label={label} ref={nav}>
        {allowed(useSession(), pages).map(([path, text]) => (
          <Link key={path} href={path} class={location.startsWith(path) ? "current" : ""} aria-current={location.startsWith(path) ? "page" : undefined}>
            {text}
          </Link>
        ))}
      </nav>
      {children}
    </>
  );
}

export const Admin = ({ children }: { children: ComponentChildren }) => (
  <Section label="Administration" pages={ADMIN}>
    {children}
  </Section>
);

export const Settings = ({ children }: { children: ComponentChildren }) => (
  <Section label="Settings" pages={SETTINGS}>
    {children}
  </Section>
);
