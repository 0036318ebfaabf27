// Messages of the server to this browser: on, off, and a try.
//
// SPDX-License-Identifier: MIT
import { useCallback, useEffect, useState } from "preact/hooks";
import { api } from "../api";
import { useApi } from "../live";
import { ActionButton, ErrorBox, Loading, useTitle } from "../ui";

const SUBSCRIPTION = "/api/v2/users/me/webpush/subscription";
const WORKER = "/push-worker.js";

const supported = () => "serviceWorker" in navigator && "PushManager" in window;

function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  const plain = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(plain, (c) => c.charCodeAt(0));
}

async function current(): Promise<PushSubscription | null> {
  const registration = await navigator.serviceWorker.getRegistration(WORKER);
  return (await registration?.pushManager.getSubscription()) ?? null;
}

async function turnOn(key: string) {
  if ((await Notification.requestPermission()) !== "granted") throw new Error("This browser does not let the server show messages.");
  await navigator.serviceWorker.register(WORKER);
  const registration = await navigator.serviceWorker.ready;
  const subscription = await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: bytesOf(key) });
  const { endpoint, keys } = subscription.toJSON();
  try {
    await api.post(SUBSCRIPTION, { endpoint, auth_key: keys?.auth, p256dh_key: keys?.p256dh });
  } catch (error) {
    // The server knows nothing of it: neither does the browser.
    await subscription.unsubscribe();
    throw error;
  }
}

async function turnOff() {
  const subscription = await current();
  if (!subscription) return;
  await api.delete(SUBSCRIPTION, { endpoint: subscription.endpoint }).catch(() => {});
  await subscription.unsubscribe();
}

export function Pushes() {
  useTitle("Messages");
  const info = useApi<{ webpush_public_key?: string }>("/api/v2/buildinfo");
  const [on, setOn] = useState<boolean>();
  const [error, setError] = useState<Error>();
  const look = useCallback(async () => setOn(!!(await current())), []);
  useEffect(() => {
    if (supported()) look().catch(setError);
    else setOn(false);
  }, [look]);
  const key = info.data?.webpush_public_key;
  if (on === undefined || !info.data) return info.error ? <ErrorBox error={info.error} /> : <Loading />;
  const run = (action: () => Promise<void>) => async () => {
    await action();
    await look();
  };
  return (
    <>
      <h1>Messages</h1>
      <p>When a chat of yours has ended its turn, this browser can tell you, also while no page of it is open.</p>
      <ErrorBox error={error} />
      {!supported() || !key ? (
        <div class="notice" role="status">
          {key ? "This browser takes no messages from servers, or not from an address without TLS." : "This server sends none."}
        </div>
      ) : on ? (
        <div class="actions">
          <span class="status good">on</span>
          <ActionButton action={() => api.post("/api/v2/users/me/webpush/test")}>Send one to try</ActionButton>
          <ActionButton kind="danger" action={run(turnOff)}>
            Turn off
          </ActionButton>
        </div>
      ) : (
        <div class="actions">
          <ActionButton action={run(() => turnOn(key))}>Turn on in this browser</ActionButton>
        </div>
      )}
    </>
  );
}
