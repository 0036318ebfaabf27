// Accounts at other servers: a code to type there, linking one for workspaces, and the list of links.
//
// SPDX-License-Identifier: MIT
import { useCallback, useEffect, useState } from "preact/hooks";
import { Link, useParams, useSearch } from "wouter-preact";
import { ApiError, api, query } from "../api";
import { useApi } from "../live";
import type { DeviceOffer, ExternalAuth, ExternalAuthList } from "../types";
import { ActionButton, Ago, CopyText, ErrorBox, ListState, Loading, Status, Table, useTitle } from "../ui";

/** What the provider says while nobody has typed the code yet, and how much longer to wait then. */
const STILL: Record<string, number> = { authorization_pending: 0, slow_down: 5000 };
const OVER: Record<string, string> = { expired_token: "The code has expired.", access_denied: "The request was refused there." };

/** Shows a code to type at the provider, and asks done() whether it has been. */
function DeviceCode({ offer, done }: { offer: DeviceOffer; done: () => Promise<void> }) {
  const [error, setError] = useState<Error>();
  useEffect(() => {
    let wait = Math.max(offer.interval, 1) * 1000;
    let timer: ReturnType<typeof setTimeout>;
    const ask = async () => {
      try {
        await done();
      } catch (failure) {
        const detail = failure instanceof ApiError ? (failure.detail ?? "") : "";
        if (!(detail in STILL)) return setError(OVER[detail] ? new Error(OVER[detail]) : (failure as Error));
        wait += STILL[detail];
        timer = setTimeout(ask, wait);
      }
    };
    timer = setTimeout(ask, wait);
    return () => clearTimeout(timer);
  }, [offer, done]);
  if (error) return <ErrorBox error={error} />;
  return (
    <>
      <p>Copy this code, open the provider's page, and enter it there.</p>
      <CopyText text={offer.user_code} />
      <p>
        <a class="button primary" href={offer.verification_uri} target="_blank" rel="noreferrer">
          Open {new URL(offer.verification_uri, location.href).host}
        </a>
      </p>
      <p class="quiet" role="status">
        Waiting for the provider …
      </p>
    </>
  );
}

/** Signing in with GitHub by a code; the callback that led here keeps the state. */
export function DeviceLogin() {
  useTitle("Sign in");
  const state = new URLSearchParams(useSearch()).get("state") ?? "";
  const offer = useApi<DeviceOffer>("/api/v2/users/oauth2/github/device");
  const code = offer.data?.device_code ?? "";
  const done = useCallback(async () => {
    const { redirect_url } = await api.get<{ redirect_url: string }>(query("/api/v2/users/oauth2/github/callback", { code, state }));
    location.replace(redirect_url);
  }, [code, state]);
  return (
    <main class="narrow">
      <h1>Sign in with GitHub</h1>
      <ErrorBox error={offer.error} />
      {offer.data ? <DeviceCode offer={offer.data} done={done} /> : !offer.error && <Loading />}
      <p>
        <a href="/login">Another way to sign in</a>
      </p>
    </main>
  );
}

/** One provider: linked or not, with a way to link. */
export function ExternalAuthPage() {
  const { id } = useParams<{ id: string }>();
  const path = `/api/v2/external-auth/${encodeURIComponent(id)}`;
  const back = new URLSearchParams(useSearch()).has("redirected");
  const auth = useApi<ExternalAuth>(path);
  useTitle(auth.data?.display_name ?? "External authentication");
  if (auth.error) return <ErrorBox error={auth.error} />;
  if (!auth.data) return <Loading />;
  return (
    <div class="form-page">
      <h1>{auth.data.display_name}</h1>
      {auth.data.authenticated ? (
        <>
          <p role="status">
            {auth.data.user ? `You are linked as ${auth.data.user.login}.` : "Your account is linked."} {back && "You may close this page."}
          </p>
          {auth.data.app_installable && auth.data.app_install_url && (
            <p>
              <a href={auth.data.app_install_url}>{auth.data.installations.length > 0 ? "Install it for more accounts" : "Install it for your repositories"}</a>
            </p>
          )}
        </>
      ) : auth.data.device ? (
        <LinkByDevice path={path} onDone={auth.reload} />
      ) : (
        <>
          <p>Your workspaces ask for an account there.</p>
          <p>
            <a class="button primary" href={`/external-auth/${encodeURIComponent(id)}/callback`}>
              Link an account
            </a>
          </p>
        </>
      )}
      <p>
        <Link href="/settings/external-auth">All linked accounts</Link>
      </p>
    </div>
  );
}

function LinkByDevice({ path, onDone }: { path: string; onDone: () => Promise<void> }) {
  const offer = useApi<DeviceOffer>(`${path}/device`);
  const code = offer.data?.device_code;
  const done = useCallback(async () => {
    await api.post(`${path}/device`, { device_code: code });
    await onDone();
  }, [path, code, onDone]);
  if (offer.error) return <ErrorBox error={offer.error} />;
  return offer.data ? <DeviceCode offer={offer.data} done={done} /> : <Loading />;
}

/** Every provider of the deployment, with the account that is linked. */
export function ExternalAuthList() {
  useTitle("Linked accounts");
  const list = useApi<ExternalAuthList>("/api/v2/external-auth");
  const unlink = (id: string) => async () => {
    await api.delete(`/api/v2/external-auth/${encodeURIComponent(id)}`);
    await list.reload();
  };
  return (
    <>
      <h1>Linked accounts</h1>
      <p class="quiet">Accounts at other servers, such as git hosts, that your workspaces may use.</p>
      <ListState error={list.error} loaded={list.data !== undefined} empty={list.data?.providers.length === 0} text="This deployment has no such servers." />
      {list.data && list.data.providers.length > 0 && (
        <Table head={["Server", "Account", "Expires", ""]}>
          {list.data.providers.map((provider) => {
            const link = list.data?.links.find((l) => l.provider_id === provider.id);
            return (
              <tr key={provider.id}>
                <td>
                  <Link href={`/external-auth/${encodeURIComponent(provider.id)}`}>{provider.display_name}</Link>
                </td>
                <td>{link ? <Status value={link.authenticated ? "linked" : "expired"} title={link.validate_error} /> : ""}</td>
                <td>{link && !link.expires.startsWith("0001") && <Ago time={link.expires} />}</td>
                <td>{link && <ActionButton action={unlink(provider.id)}>Unlink</ActionButton>}</td>
              </tr>
            );
          })}
        </Table>
      )}
    </>
  );
}
