// The pages' frame: who is signed in, the header, and which page a path shows.
//
// SPDX-License-Identifier: MIT
import { type ComponentType, render } from "preact";
import { useCallback, useEffect, useState } from "preact/hooks";
import { Link, Redirect, Route, Switch, useLocation, useSearch } from "wouter-preact";
import { api } from "./api";
import { EMBEDDED } from "./embedded";
import { type Session, SessionContext } from "./session";
import { type State, loadState } from "./signedin";
import { applyTheme, nextTheme } from "./theme";
import { ErrorBox, Loading, useCurrentInSight } from "./ui";
import { Admin, Settings, adminHome, isAdminPath } from "./sections";
import { About } from "./pages/about";
import { AccessPage } from "./pages/access";
import { Account, Applications, SshKey } from "./pages/account";
import { Audit, Connections } from "./pages/audit";
import { Build } from "./pages/build";
import { CliAuth } from "./pages/cliauth";
import { CreateWorkspace } from "./pages/create";
import { DeviceLogin, ExternalAuthList, ExternalAuthPage } from "./pages/external";
import { GroupPage, Groups } from "./pages/groups";
import { Login } from "./pages/login";
import { OAuth2AppPage, OAuth2Apps } from "./pages/oauth2";
import { OrganizationPage, Organizations } from "./pages/organizations";
import { RolePage, Roles } from "./pages/roles";
import { Sessions } from "./pages/sessions";
import { Setup } from "./pages/setup";
import { TemplatePage } from "./pages/template";
import { NewTemplate, Templates } from "./pages/templates";
import { TerminalPage } from "./pages/terminal";
import { Tokens } from "./pages/tokens";
import { UserPage } from "./pages/user";
import { Users } from "./pages/users";
import { WorkspacePage } from "./pages/workspace";
import { Workspaces } from "./pages/workspaces";
import "@xterm/xterm/css/xterm.css";
import "./style.css";
import "./chat/chat.css";

function Header({ session }: { session: Session }) {
  const [location] = useLocation();
  const tab = (path: string, text: string, here = location.startsWith(path)) => (
    <Link href={path} class={here ? "current" : ""} aria-current={here ? "page" : undefined}>
      {text}
    </Link>
  );
  const admin = adminHome(session);
  const nav = useCurrentInSight(location);
  return (
    <header>
      <nav aria-label="Main" ref={nav}>
        <Link href="/workspaces" class="brand">
          Coder
        </Link>
        {tab("/workspaces", "Workspaces")}
        {tab("/templates", "Templates")}
        {session.experiments.includes("agents") && tab("/agents", "Chats")}
        {admin && tab(admin, "Admin", isAdminPath(location))}
        {tab("/settings/account", "Settings", location.startsWith("/settings"))}
        {tab("/about", "About")}
      </nav>
      <div class="who">
        <button type="button" class="plain" onClick={nextTheme} title="Light, dark, or as the system" aria-label="Change the colour theme">
          ◐
        </button>
        <span title={session.user.email}>{session.user.username}</span>
        <button type="button" class="plain" onClick={session.signOut}>
          Sign out
        </button>
      </div>
    </header>
  );
}

/** "/@owner/workspace" and what follows: a parameter behind "@" needs a regular expression. */
const workspacePath = (rest: string) => new RegExp(`^/@(?<owner>[^/]+)/(?<workspace>[^/]+)${rest}/?$`);
const TERMINAL = workspacePath("/terminal");
const WORKSPACE = workspacePath("");
const METRICS = workspacePath("/metrics");
const BUILD = workspacePath("/builds/(?<number>[0-9]+)");

const AGENTS = /^\/agents(?:\/.*)?$/;

/** The chats are a bundle of their own: who does not open them does not load them. */
const loadAgents = () => import("./pages/agents");
const loadEmbed = () => import("./pages/embed");

/** So are the pages with plots. */
const lazily = (load: () => Promise<{ default: ComponentType }>) => () => <Lazy load={load} />;
const Overview = lazily(() => import("./pages/overview"));
const Insights = lazily(() => import("./pages/insights"));
const Boundary = lazily(() => import("./pages/boundary"));
const Health = lazily(() => import("./pages/health"));
const WorkspaceMetrics = lazily(() => import("./pages/workspacemetrics"));

/** A page that is loaded when it is first shown; load: always the same function. */
function Lazy({ load }: { load: () => Promise<{ default: ComponentType }> }) {
  const [state, setState] = useState<{ Page?: ComponentType; error?: Error }>({});
  useEffect(() => {
    load().then(
      (module) => setState({ Page: module.default }),
      (error: Error) => setState({ error }),
    );
  }, [load]);
  if (state.error) return <ErrorBox error={state.error} />;
  return state.Page ? <state.Page /> : <Loading />;
}

const ADMIN_PAGES: [string, ComponentType][] = [
  ["/deployment/overview", Overview],
  ["/insights", Insights],
  ["/boundary-usage", Boundary],
  ["/health", Health],
  ["/users", Users],
  ["/users/:user", UserPage],
  ["/users/:user/access", AccessPage],
  ["/groups", Groups],
  ["/groups/:group", GroupPage],
  ["/organizations", Organizations],
  ["/organizations/:organization", OrganizationPage],
  ["/roles", Roles],
  ["/roles/:organization/:role?", RolePage],
  ["/audit", Audit],
  ["/connections", Connections],
  ["/deployment/oauth2-provider/apps", OAuth2Apps],
  ["/deployment/oauth2-provider/apps/:app", OAuth2AppPage],
];

const SETTINGS_PAGES: [string, ComponentType][] = [
  ["/settings/account", Account],
  ["/settings/sessions", Sessions],
  ["/settings/tokens", Tokens],
  ["/settings/ssh-key", SshKey],
  ["/settings/applications", Applications],
  ["/settings/external-auth", ExternalAuthList],
];

/** Keys that work everywhere: / goes to the page's search, g w and g t to the two lists. */
function useKeys() {
  const [, navigate] = useLocation();
  useEffect(() => {
    let prefix = false;
    const onKey = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, textarea, select, dialog, .xterm")) return;
      if (event.key === "/") {
        const search = document.querySelector<HTMLInputElement>('input[type="search"]');
        if (search) {
          event.preventDefault();
          search.focus();
        }
      }
      if (prefix && event.key === "w") navigate("/workspaces");
      if (prefix && event.key === "t") navigate("/templates");
      prefix = event.key === "g";
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, [navigate]);
}

function SignedIn({ session }: { session: Session }) {
  useKeys();
  const [location] = useLocation();
  const chats = AGENTS.test(location);
  return (
    <SessionContext.Provider value={session}>
      <Switch>
        <Route path={TERMINAL} component={TerminalPage} />
        <Route>
          <a class="skip" href="#main">
            Skip to the content
          </a>
          <Header session={session} />
          <main id="main" class={chats ? "wide" : ""}>
            <Switch>
              <Route path={AGENTS}>
                <Lazy load={loadAgents} />
              </Route>
              <Route path="/workspaces" component={Workspaces} />
              <Route path="/templates" component={Templates} />
              <Route path="/templates/new" component={NewTemplate} />
              <Route path="/templates/:organization/:template" component={TemplatePage} />
              <Route path="/templates/:organization/:template/workspace" component={CreateWorkspace} />
              <Route path={WORKSPACE} component={WorkspacePage} />
              <Route path={BUILD} component={Build} />
              <Route path={METRICS} component={WorkspaceMetrics} />
              {ADMIN_PAGES.map(([path, Page]) => (
                <Route key={path} path={path}>
                  <Admin>
                    <Page />
                  </Admin>
                </Route>
              ))}
              {SETTINGS_PAGES.map(([path, Page]) => (
                <Route key={path} path={path}>
                  <Settings>
                    <Page />
                  </Settings>
                </Route>
              ))}
              <Route path="/about" component={About} />
              <Route path="/cli-auth" component={CliAuth} />
              <Route path="/external-auth/:id" component={ExternalAuthPage} />
              <Route path="/" component={() => <Redirect to="/workspaces" replace />} />
              <Route path="/login" component={AfterLogin} />
              <Route path="/login/device" component={DeviceLogin} />
              <Route path="/setup" component={() => <Redirect to="/templates" replace />} />
              <Route>
                <h1>There is no such page</h1>
                <p>
                  <Link href="/workspaces">To the workspaces</Link>
                </p>
              </Route>
            </Switch>
          </main>
        </Route>
      </Switch>
    </SessionContext.Provider>
  );
}

/** Where to go after signing in: only a path of this site, never elsewhere. */
function AfterLogin() {
  const wanted = new URLSearchParams(useSearch()).get("redirect") ?? "";
  // An app of a workspace, the consent of an OAuth2 client and the way to another server are no pages of this program.
  const app = /^\/((@|%40)[^/\\]+\/[^/\\]+\/apps\/|oauth2\/authorize\?|(external-auth|gitauth)\/[^/\\]+\/callback)/.test(wanted);
  useEffect(() => {
    if (app) window.location.replace(wanted);
  }, [app, wanted]);
  if (app) return null;
  return <Redirect to={/^\/[^/\\]/.test(wanted) ? wanted : "/workspaces"} replace />;
}

function ToLogin() {
  const [location] = useLocation();
  const search = useSearch();
  if (location === "/login") return null;
  const from = location === "/" ? "" : `?redirect=${encodeURIComponent(location + (search ? `?${search}` : ""))}`;
  return <Redirect to={`/login${from}`} replace />;
}

function App() {
  const [location] = useLocation();
  const [state, setState] = useState<State>({ kind: "loading" });
  const signOut = useCallback(() => {
    void api
      .post("/api/v2/users/logout")
      .catch(() => undefined)
      .then(() => setState({ kind: "out" }));
  }, []);
  const reload = useCallback(async () => setState(await loadState(signOut)), [signOut]);
  useEffect(() => {
    applyTheme();
    void reload();
    const onSignedOut = () => setState((old) => (old.kind === "in" ? { kind: "out" } : old));
    window.addEventListener("signed-out", onSignedOut);
    return () => window.removeEventListener("signed-out", onSignedOut);
  }, [reload]);

  switch (state.kind) {
    case "loading":
      return <Loading />;
    case "setup":
      if (location === "/login/device") return <DeviceLogin />;
      return <Setup onDone={reload} />;
    case "out":
      if (location === "/login/device") return <DeviceLogin />;
      return (
        <>
          <ToLogin />
          <Login onDone={reload} />
        </>
      );
    case "broken":
      return (
        <main class="narrow">
          <h1>This page cannot be shown</h1>
          <ErrorBox error={state.error} />
          <button type="button" class="primary" onClick={() => void reload()}>
            Try again
          </button>
        </main>
      );
    case "in":
      return <SignedIn session={state.session} />;
  }
}

render(EMBEDDED.test(location.pathname) ? <Lazy load={loadEmbed} /> : <App />, document.getElementById("app")!);
