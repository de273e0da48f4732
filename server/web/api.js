// The server's HTTP API, as any client uses it: nothing here is reserved for this page.
import { signal } from "@preact/signals";
import { save } from "./saving.js";

const KEPT = "manyhats.key";

/** The API key; kept for this tab only. */
export const key = signal(read());
/** What the server says of itself and of the caller: `{version, base, role, name, ...}`; null until it is known. */
export const session = signal(null);
/** Whether the server asks for a key that it did not get, or refuses the one it got: the error, or null. */
export const locked = signal(null);

/** An answer that is not a success, in OpenAI's words. */
export class ApiError extends Error {
  constructor(status, body, headers) {
    const error = body?.error ?? {};
    super(error.message ?? `HTTP ${status}`);
    this.status = status;
    this.code = error.code ?? null;
    this.param = error.param ?? null;
    this.requestId = headers?.get("x-request-id") ?? null;
  }
}

export function takeKey(secret) {
  key.value = secret;
  locked.value = null;
  try {
    if (secret) sessionStorage.setItem(KEPT, secret);
    else sessionStorage.removeItem(KEPT);
  } catch {
    // asked again in the next tab
  }
}

export async function openSession() {
  session.value = await get("/console/session");
  return session.value;
}

export const isAdmin = () => session.value?.role === "admin";

/** GET; `query` is an object whose empty values are left out. */
export function get(path, query = {}, options = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const search = new URLSearchParams(given).toString();
  return call("GET", search ? `${path}?${search}` : path, undefined, options);
}

export const post = (path, body, options = {}) => call("POST", path, body, options);
export const remove = (path, options = {}) => call("DELETE", path, undefined, options);

/** Every item of a paged list, oldest pages last; `limit` is how many at most. */
export async function all(path, query = {}, { limit = 1000, signal: stop } = {}) {
  const items = [];
  let after;
  do {
    const page = await get(path, { limit: 100, ...query, after }, { signal: stop });
    items.push(...page.data);
    after = page.has_more ? page.last_id : undefined;
  } while (after && items.length < limit);
  return items;
}

/** Answer of any method as JSON; a FormData body is sent as a form. Throws ApiError. */
export async function call(method, path, body, { signal: stop } = {}) {
  return (await send(method, path, body, stop)).json();
}

/** The same as text, for what is not JSON. */
export async function text(path, { signal: stop } = {}) {
  return (await send("GET", path, undefined, stop)).text();
}

/** Saves what an address gives under a name; a plain link could not send the key. */
export async function download(path, name, { signal: stop } = {}) {
  save(await (await send("GET", path, undefined, stop)).blob(), name);
}

/**
 * The events of a stream, parsed: `for await (const event of stream("/v1/chat/completions", body, {signal}))`.
 * Throws ApiError, also for an error that comes inside the stream.
 */
export async function* stream(path, body, { signal: stop } = {}) {
  const answer = await send("POST", path, { ...body, stream: true }, stop);
  for await (const data of eventData(answer.body)) {
    if (data === "[DONE]") return;
    const event = JSON.parse(data);
    if (event.error) throw new ApiError(event.error.status ?? 500, event, answer.headers);
    yield event;
  }
}

/** The `data` of server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), as they come. */
export async function* eventData(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let kept = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      kept += value;
      const parts = kept.split(/\r?\n\r?\n/);
      kept = parts.pop();
      for (const part of parts) {
        const data = part
          .split(/\r?\n/)
          .filter((line) => line.startsWith("data:"))
          .map((line) => line.slice(5).trimStart());
        if (data.length) yield data.join("\n");
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/** Upload a form with progress from 0 to 1, which fetch cannot tell. Throws ApiError. */
export function upload(path, form, { onProgress = () => {}, signal: stop } = {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onerror = () => reject(new TypeError("network error"));
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    request.onload = () => {
      const body = parsed(request.responseText);
      if (request.status < 300) resolve(body);
      else reject(refused(request.status, body, { get: (name) => request.getResponseHeader(name) }));
    };
    stop?.addEventListener("abort", () => request.abort(), { once: true });
    request.send(form);
  });
}

async function send(method, path, body, stop) {
  const isForm = body instanceof FormData;
  const headers = authorization();
  if (body !== undefined && !isForm) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, {
    method,
    headers,
    signal: stop,
    body: body === undefined || isForm ? body : JSON.stringify(body),
  });
  if (!answer.ok) throw refused(answer.status, parsed(await answer.text()), answer.headers);
  return answer;
}

function refused(status, body, headers) {
  const error = new ApiError(status, body, headers);
  if (status === 401) locked.value = error;
  return error;
}

function authorization() {
  return key.value ? { Authorization: `Bearer ${key.value}` } : {};
}

function parsed(answer) {
  try {
    return JSON.parse(answer);
  } catch {
    return null;
  }
}

function read() {
  try {
    return sessionStorage.getItem(KEPT) ?? "";
  } catch {
    return "";
  }
}
