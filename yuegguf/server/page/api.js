// Requests to the server, its key, and the events of a song.

import { say } from "./dom.js";
import { t } from "./strings.js";

const KEY = "yuegguf key";
const FIRST_WAIT = 1000, LONGEST_WAIT = 10000;
let askForKey = () => {};

export function onKeyNeeded(action) {
  askForKey = action;
}

export function storeKey(key) {
  if (key) localStorage.setItem(KEY, key);
  else localStorage.removeItem(KEY);
}

export function hasKey() {
  return Boolean(localStorage.getItem(KEY));
}

function headers(more = {}) {
  const key = localStorage.getItem(KEY);
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
  let error = null;
  try {
    ({ error } = await answer.json());
  } catch {
    return new Error(t("refused", { status: answer.status }));
  }
  return Object.assign(new Error(error.hint ? t("refused.hint", error) : error.message), { status: answer.status });
}

/** The JSON of an answer. Throws an Error with the server's sentence. */
export async function ask(method, path, body, more = {}, signal = undefined) {
  const options = { method, headers: headers(more), signal };
  if (body instanceof FormData) options.body = body;
  else if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  const answer = await request(path, options);
  if (!answer.ok) throw await refusal(answer);
  return answer.json();
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

/** Follow the events of a song until it is deleted; a lost connection is made again and goes on where it was. */
export async function follow(id, signal, handle, connected) {
  let last = "";
  for (let wait = FIRST_WAIT; !signal.aborted;) {
    try {
      const answer = await fetch(songPath(id, "events"), { headers: headers(last ? { "Last-Event-ID": last } : {}), signal, cache: "no-store" });
      if (answer.status === 404 || answer.status === 401) return;
      if (!answer.ok) throw new Error(answer.status);
      connected(true);
      wait = FIRST_WAIT;
      for await (const event of events(answer.body)) {
        last = event.id || last;
        handle(event.event, JSON.parse(event.data));
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof SyntaxError) throw error;
    }
    if (signal.aborted) return;
    connected(false);
    await waited(wait, signal);
    wait = Math.min(2 * wait, LONGEST_WAIT);
  }
}

/** Wait, but no longer than until the network is back. */
function waited(milliseconds, signal) {
  return new Promise((resolve) => {
    const end = () => { clearTimeout(timer); removeEventListener("online", end); resolve(); };
    const timer = setTimeout(end, milliseconds);
    addEventListener("online", end);
    signal.addEventListener("abort", end, { once: true });
  });
}

/** The fields of each server-sent event of a body. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const fields = Object.fromEntries(text.slice(0, end).split("\n").map((line) => line.split(/: (.*)/s).slice(0, 2)));
      if (fields.event) yield fields;
    }
  }
}

/** Show or take away that the server cannot be reached. */
export function showConnection(up) {
  const text = t("connection.lost");
  const notice = document.getElementById("notice");
  if (!up) say(text);
  else if (notice.textContent === text) say("");
}
