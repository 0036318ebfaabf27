// Shows what the server pushes to this browser, also while no page of it is open; a click leads to the page that it is about.
//
// SPDX-License-Identifier: MIT

/** A path of this server, whatever came. */
const pathOf = (value) => {
  const url = new URL(typeof value === "string" ? value : "/", self.location.origin);
  return url.origin === self.location.origin ? url.pathname : "/";
};

const pages = () => self.clients.matchAll({ type: "window", includeUncontrolled: true });

async function show(message) {
  const path = pathOf(message.data?.url);
  // Who looks at it needs no message.
  if ((await pages()).some((p) => p.focused && new URL(p.url).pathname === path)) return;
  await self.registration.showNotification(String(message.title ?? "Coder"), {
    body: String(message.body ?? ""),
    icon: "/favicon.svg",
    tag: message.tag ? String(message.tag) : undefined,
    data: { path },
  });
}

self.addEventListener("push", (event) => {
  let message = {};
  try {
    message = event.data?.json() ?? {};
  } catch {
    return;
  }
  event.waitUntil(show(message));
});

async function open(path) {
  const open = (await pages()).find((p) => new URL(p.url).pathname === path);
  if (open) await open.focus();
  else await self.clients.openWindow(path);
}

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(open(pathOf(event.notification.data?.path)));
});
