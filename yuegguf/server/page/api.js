// Requests to the server, and its key.

import { say } from "./dom.js";
import { store, stored } from "./store.js";
import { t } from "./strings.js";

const KEY = "yuegguf key";
const LIMIT = 20000; // milliseconds after which a server that does not answer a question is taken for one that cannot be reached
const LARGE_SEED = /("seed":\s*)(\d{16,})/g, SEED_TEXT = /("seed":)"(\d+)"/g; // in texts of users every quote has a backslash
let askForKey = () => {};

export function onKeyNeeded(action) {
  askForKey = action;
}

export function storeKey(key) {
  store(KEY, key);
}

export function hasKey() {
  return Boolean(stored(KEY));
}

function headers(more = {}) {
  const key = stored(KEY);
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

export function songPath(id, rest = "") {
  return `v1/songs/${encodeURIComponent(id)}${rest && `/${rest}`}`;
}

async function request(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(t("offline"));
  }
}

async function refusal(answer) {
  if (answer.status === 401) askForKey();
  const body = await answer.json().catch(() => null), error = body?.error; // a proxy's answer has neither
  const text = error ? (error.hint ? t("refused.hint", error) : error.message) : t("refused", { status: answer.status });
  return Object.assign(new Error(text), { status: answer.status, body });
}

/** The JSON of an answer. Throws an Error with the server's sentence. */
export async function ask(method, path, body, more = {}, signal = undefined) {
  const late = new AbortController(), timer = method === "GET" ? setTimeout(() => late.abort(new Error(t("offline"))), LIMIT) : 0;
  const options = { method, headers: headers(more), signal: signal ? AbortSignal.any([signal, late.signal]) : late.signal };
  if (body instanceof FormData) options.body = body;
  else if (body !== undefined) {
    options.body = textOf(body);
    options.headers["Content-Type"] = "application/json";
  }
  try {
    const answer = await request(path, options);
    if (!answer.ok) throw await refusal(answer);
    return JSON.parse((await answer.text()).replace(LARGE_SEED, '$1"$2"'));
  } finally {
    clearTimeout(timer);
  }
}

/** What the server says of its health, also where one of its queues stands still. */
export function askHealth(signal) {
  return ask("GET", "health", undefined, {}, signal).catch((error) => {
    if (error.body?.status === "failing") return error.body;
    throw error;
  });
}

/** JSON of a body. A seed that a number of JavaScript cannot hold is a text in the page, and a number in JSON. */
export function textOf(body) {
  return JSON.stringify(body).replace(SEED_TEXT, "$1$2");
}

/** A key of a request: sent twice with it, it is done once. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Bytes of a file from `start` on; null where there are none. */
export async function bytesFrom(path, start, signal) {
  const answer = await request(path, { headers: headers(start ? { Range: `bytes=${start}-` } : {}), signal, cache: "no-store" });
  if (answer.status === 416) return null;
  if (!answer.ok) throw await refusal(answer);
  return { whole: answer.status === 200, bytes: new Uint8Array(await answer.arrayBuffer()) };
}

/**
 * Call `look` once more whenever `pause()` milliseconds have passed since it ended, and at once where the window is shown again
 * or the network is back; null is until then. No stream is held open: a browser has six connections to a server, for all tabs.
 * Returns a function that ends the pause of now.
 */
export function keepLooking(look, pause, signal) {
  const hurry = new EventTarget();
  (async () => {
    for (;;) {
      await waited(pause(), signal, hurry);
      if (signal.aborted) return;
      try {
        await look();
        showConnection(true);
      } catch (error) {
        if (signal.aborted || error.status === 401) return;
        if (!error.status) showConnection(false);
      }
    }
  })();
  return () => hurry.dispatchEvent(new Event("now"));
}

function waited(milliseconds, signal, hurry) {
  return new Promise((resolve) => {
    const ended = new AbortController();
    const timer = milliseconds === null ? 0 : setTimeout(() => ended.abort(), milliseconds);
    const end = { signal: ended.signal };
    ended.signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
    addEventListener("online", () => ended.abort(), end);
    document.addEventListener("visibilitychange", () => { if (document.visibilityState === "visible") ended.abort(); }, end);
    hurry.addEventListener("now", () => ended.abort(), end);
    signal.addEventListener("abort", () => ended.abort(), end);
  });
}

/** Show or take away that the server cannot be reached. */
export function showConnection(up) {
  const text = t("connection.lost");
  const notice = document.getElementById("notice");
  if (!up) say(text);
  else if (notice.textContent === text) say("");
}
