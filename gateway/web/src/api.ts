// Calls of the public API.  Every failure is an ApiError with the server's own words.
//
// SPDX-License-Identifier: MIT
import type { Validation } from "./types";

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly detail?: string,
    readonly validations: Validation[] = [],
    /** The whole answer, for those that say more. */
    readonly body: Record<string, unknown> = {},
  ) {
    super(message);
  }

  /** What the server says about one field of a form, if anything. */
  field(name: string): string | undefined {
    return this.validations.find((v) => v.field === name)?.detail;
  }
}

/** In an editor's frame a token of the editor is who asks, never a cookie of the browser's. */
export const identity: { framed: boolean; token?: string } = { framed: false };

const csrfToken = document.querySelector<HTMLMetaElement>('meta[property="csrf-token"]')?.content ?? "";

async function failure(response: Response): Promise<ApiError> {
  const text = await response.text();
  try {
    const body = JSON.parse(text);
    return new ApiError(response.status, body.message ?? response.statusText, body.detail, body.validations ?? [], body);
  } catch {
    return new ApiError(response.status, text || response.statusText || `The server answered ${response.status}.`);
  }
}

async function ask(method: string, path: string, body?: BodyInit, type?: string, more?: Record<string, string>): Promise<Response> {
  const headers: Record<string, string> = { "X-CSRF-TOKEN": csrfToken, ...more };
  if (identity.token) headers["Coder-Session-Token"] = identity.token;
  if (type) headers["Content-Type"] = type;
  let response: Response;
  try {
    response = await fetch(path, { method, headers, body, credentials: identity.framed ? "omit" : "same-origin" });
  } catch {
    throw new ApiError(0, "The server cannot be reached.");
  }
  if (!response.ok) {
    const error = await failure(response);
    if (error.status === 401 && !path.endsWith("/login")) window.dispatchEvent(new Event("signed-out"));
    throw error;
  }
  return response;
}

async function request<T>(method: string, path: string, body?: BodyInit, type?: string, more?: Record<string, string>): Promise<T> {
  const response = await ask(method, path, body, type, more);
  if (response.status === 204) return undefined as T;
  const text = await response.text();
  return (text ? JSON.parse(text) : undefined) as T;
}

const json = (body: unknown): [string, string] => [JSON.stringify(body), "application/json"];

/** A name as a header may carry it. */
const asciiName = (name: string) => name.replace(/[^\x20-\x7e]|["\\]/g, "_");

export const api = {
  /** A file as it is. */
  blob: async (path: string) => (await ask("GET", path)).blob(),
  get: <T>(path: string) => request<T>("GET", path),
  post: <T>(path: string, body: unknown = {}) => request<T>("POST", path, ...json(body)),
  put: <T>(path: string, body: unknown = {}) => request<T>("PUT", path, ...json(body)),
  patch: <T>(path: string, body: unknown = {}) => request<T>("PATCH", path, ...json(body)),
  delete: <T>(path: string, body?: unknown) => (body === undefined ? request<T>("DELETE", path) : request<T>("DELETE", path, ...json(body))),
  uploadFile: <T>(path: string, file: File) => request<T>("POST", path, file, file.type, { "Content-Disposition": `attachment; filename="${asciiName(file.name)}"` }),
  upload: (archive: Uint8Array<ArrayBuffer>) =>
    request<{ hash: string }>("POST", "/api/v2/files", new Blob([archive]), "application/x-tar"),
};

export const query = (path: string, params: Record<string, string | number>) =>
  `${path}?${new URLSearchParams(Object.entries(params).map(([k, v]) => [k, String(v)]))}`;
