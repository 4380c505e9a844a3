// The page: the address holds the screen, the server everything else.

import { ask, askHealth, hasKey, onKeyNeeded, storeKey } from "./api.js";
import { card, field, keepClear, leaveDialog, make, say } from "./dom.js";
import { machineScreen } from "./machine.js";
import { songScreen } from "./song.js";
import { songsScreen } from "./songs.js";
import { fill, loadStrings, t } from "./strings.js";
import { writeScreen } from "./write.js";

const LANGUAGE = "en";
const PULSE = 5000; // milliseconds between two looks at the queue
const RETRY = 3000;
const main = document.getElementById("main");
let screen = null; // AbortController of the screen that is shown

/** End the screen that is shown, with its dialog; the signal of the next one. */
function nextScreen() {
  screen?.abort();
  leaveDialog();
  screen = new AbortController();
  return screen.signal;
}

async function show() {
  const signal = nextScreen();
  const [, name = "write", id = ""] = location.hash.split("/");
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#/${name}` || (name === "song" && link.hash === "#/songs")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  say("");
  try {
    const props = await ask("GET", "v1/props", undefined, {}, signal);
    if (name !== "song") document.title = t("page.title", { title: t(name === "songs" ? "songs.title" : name === "machine" ? "machine.title" : "write.title") });
    if (name === "song") await songScreen(main, decoded(id), props, signal);
    else if (name === "songs") await songsScreen(main, props, signal);
    else if (name === "machine") await machineScreen(main, props, signal);
    else await writeScreen(main, props, signal);
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted || error.status === 401) return;
    failed(error, signal);
  }
}

/** A screen that could not be shown says why, and is tried again by itself while the server is away. */
function failed(error, signal) {
  document.title = t("page.title", { title: t("failed") });
  main.replaceChildren(make("div", { class: "card empty" }, make("h1", {}, t("failed")), make("p", { class: "problem" }, error.message),
    make("div", { class: "buttons" }, make("button", { type: "button", class: "button primary", onclick: show }, t("again")), make("a", { class: "button", href: "#/songs" }, t("songs.title")))));
  if (error.status) return;
  const timer = setTimeout(show, RETRY);
  signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
}

/** Part of an address as it was before it was escaped; as it stands where it never was. */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Keep the key of a link that the server printed, and take it out of the address. */
function takeKey() {
  if (!location.hash.startsWith("#key=")) return;
  storeKey(decoded(location.hash.slice(5)));
  history.replaceState(null, "", "#/write");
}

/** Ask for the key; where one was given, say that it is wrong. */
function askForKey() {
  const shown = main.querySelector(".key .problem"); // several requests were refused
  if (shown) {
    shown.hidden = !hasKey();
    return;
  }
  nextScreen();
  document.title = t("page.title", { title: t("key.title") });
  const input = make("input", { type: "password", autocomplete: "off", required: true });
  const problem = make("p", { class: "problem", role: "alert", hidden: !hasKey() }, t("key.wrong"));
  main.replaceChildren(make("form", { class: "key", onsubmit: (event) => {
    event.preventDefault();
    storeKey(input.value.trim());
    input.value = "";
    input.focus();
    problem.hidden = true; // a second wrong key is said again
    show();
  } }, make("h1", { class: "unseen" }, t("key.title")), card(t("key.title"), make("p", {}, t("key.about")), field("key", t("key.label"), input), problem, make("button", { class: "button primary" }, t("key.use")))));
  input.focus();
}

/** The number of songs in work and waiting, beside the link to them. */
async function pulse() {
  if (document.visibilityState !== "visible") return;
  const badge = document.getElementById("waiting");
  try {
    const health = await askHealth();
    const count = health.queue + health.processing;
    badge.hidden = !count;
    badge.textContent = count;
    badge.setAttribute("title", t("queue.count", { n: count }));
  } catch {
    badge.hidden = true;
  }
}

async function begin() {
  try {
    await loadStrings(LANGUAGE);
  } catch {
    setTimeout(begin, RETRY);
    return;
  }
  fill(document);
  onKeyNeeded(askForKey);
  keepClear(document.getElementById("notice"), "notice");
  takeKey();
  document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
  addEventListener("hashchange", async () => {
    takeKey();
    await show();
    if (main.querySelector(":focus")) return; // who has begun to use the screen, or is asked for the key, stays there
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  });
  setInterval(pulse, PULSE);
  pulse();
  await show();
}

begin();
