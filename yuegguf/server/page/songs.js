// The screen Songs: the queue, and the songs on the server's disk, the newest first.

import { actionsOf, isActive, statePill } from "./actions.js";
import { ask, showConnection, songPath } from "./api.js";
import { announce, button, doing, iconButton, make } from "./dom.js";
import { dragRows, handle } from "./drag.js";
import { importSong } from "./import.js";
import { t } from "./strings.js";
import { clock, moment, percent, duration } from "./units.js";

const AGAIN = 3000, PAGE = 100;

export async function songsScreen(main, props, signal) {
  let limit = PAGE, filter = "all", places = []; // of the waiting songs that are listed, in the queue
  const queue = make("ul", { class: "song-list" }), list = make("ul", { class: "song-list" });
  const waiting = make("section", { class: "card", "aria-labelledby": "queue-title", hidden: true }, make("h2", { id: "queue-title" }, t("queue")), queue);
  const empty = make("div", { class: "card empty", hidden: true }, make("p", {}, t("songs.empty")), make("a", { class: "button primary", href: "#/write" }, t("songs.write")));
  const more = make("button", { type: "button", class: "button", hidden: true, onclick: doing(async () => { limit += PAGE; await load(); }) }, t("songs.more"));
  const choose = make("select", { id: "filter", "aria-label": t("songs.filter"), onchange: () => { filter = choose.value; load().catch(() => {}); } },
    ["all", "succeeded", "interrupted", "canceled", "failed"].map((name) => make("option", { value: name }, t(`filter.${name}`))));
  const rest = make("section", { class: "card", "aria-label": t("songs.title") }, list, more);

  async function load() {
    const wanted = filter === "all" ? "" : `&status=${filter}`;
    const found = await ask("GET", `v1/songs?limit=${limit}${wanted}`, undefined, {}, signal);
    showConnection(true);
    const active = found.data.filter(isActive).sort((a, b) => (a.queue?.position ?? -1) - (b.queue?.position ?? -1));
    const ended = found.data.filter((song) => !isActive(song));
    places = active.filter((song) => song.queue).map((song) => song.queue.position);
    keep(queue, active, (song) => queueRow(song, places.length));
    keep(list, ended, (song) => row(song));
    waiting.hidden = !active.length;
    rest.hidden = !ended.length;
    empty.hidden = found.data.length > 0 || filter !== "all";
    more.hidden = !found.has_more;
  }

  const changed = () => load();

  dragRows(queue, (row, over, below) => {
    const first = queue.querySelector(".handle").closest("li"); // those above it are in work
    queue.insertBefore(row, over.querySelector(".handle") ? (below ? over.nextSibling : over) : first);
  }, (row, dropped) => doing(async () => {
    const position = places[[...queue.querySelectorAll(".handle")].findIndex((each) => row.contains(each))];
    if (dropped) await ask("POST", songPath(row.dataset.song, "move"), { position });
    if (dropped) announce(t("progress.queued", { n: position + 1 }));
    await load();
  })());

  function row(song) {
    const length = song.seconds == null ? "" : clock(song.seconds);
    const facts = [length, t("meta.seed", { seed: song.seed ?? "?" }), moment(song.created_at)].filter(Boolean).join(" · ");
    return [make("div", { class: "song-words" }, make("a", { class: "song-title", href: `#/song/${encodeURIComponent(song.id)}` }, song.title || song.id),
      make("p", { class: "meta" }, statePill(song), make("span", {}, facts)), song.error && make("p", { class: "problem" }, song.error.message)),
    make("div", { class: "buttons" }, actionsOf(song, props, changed))];
  }

  function queueRow(song, queued) {
    const move = (by) => doing(async () => {
      await ask("POST", songPath(song.id, "move"), { position: song.queue.position + by });
      await load();
    });
    const name = song.title || song.id;
    const facts = song.progress ? [percent(song.progress.done), song.progress.eta_seconds == null ? t("progress.estimating") : t("progress.left", { time: duration(song.progress.eta_seconds) })].join(" · ")
      : song.queue ? t("progress.queued", { n: song.queue.position + 1 }) : t("progress.starting");
    return [song.queue && queued > 1 && handle(), make("div", { class: "song-words" }, make("a", { class: "song-title", href: `#/song/${encodeURIComponent(song.id)}` }, name),
      make("p", { class: "meta" }, statePill(song), make("span", {}, facts)),
      song.progress && make("progress", { max: 1, value: song.progress.done, "aria-label": t("progress.of", { name }) })),
    make("div", { class: "buttons" },
      song.queue && queued > 1 ? [iconButton("up", t("queue.up", { name }), move(-1), { disabled: song.queue.position === 0 }),
        iconButton("down", t("queue.down", { name }), move(1), { disabled: song.queue.position === queued - 1 })] : [],
      actionsOf(song, props, changed).slice(0, 1))];
  }

  main.replaceChildren(make("div", { class: "songs" }, make("div", { class: "screen-head" }, make("h1", {}, t("songs.title")), make("div", { class: "buttons" }, button(t("import"), () => importSong(props), { icon: "add" }), choose)), waiting, empty, rest));
  await load();
  const timer = setInterval(() => {
    if (document.visibilityState === "visible" && !queue.querySelector(".dragged")) load().catch((error) => { if (error.name !== "AbortError") showConnection(false); });
  }, AGAIN);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
}

/** Bring a list's rows up to date; a row that stays the same stays the same element, with its focus. */
function keep(list, songs, build) {
  const rows = new Map([...list.children].map((row) => [row.dataset.song, row]));
  songs.forEach((song, n) => {
    const key = JSON.stringify([song, songs.length, song.progress && Math.floor(100 * song.progress.done)], (name, value) => (name === "url" || name === "elapsed_seconds" || name === "note" ? undefined : value));
    const row = rows.get(song.id) ?? make("li", { "data-song": song.id });
    rows.delete(song.id);
    if (row.dataset.key !== key) {
      const focused = row.contains(document.activeElement) ? document.activeElement.textContent || document.activeElement.getAttribute("aria-label") : null;
      row.dataset.key = key;
      row.replaceChildren(...build(song).filter(Boolean));
      const same = focused !== null && [...row.querySelectorAll("a, button")].find((each) => (each.textContent || each.getAttribute("aria-label")) === focused);
      if (same) same.focus();
    }
    if (list.children[n] !== row) list.insertBefore(row, list.children[n] ?? null);
  });
  for (const row of rows.values()) row.remove();
}
