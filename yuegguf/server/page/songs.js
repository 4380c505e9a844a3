// The screen Songs: the queue, and the songs on the server's disk, the newest first.

import { actionsOf, statePill } from "./actions.js";
import { ask, keepLooking, songPath } from "./api.js";
import { announce, button, doing, iconButton, make } from "./dom.js";
import { dragRows, handle } from "./drag.js";
import { importSong } from "./import.js";
import { songList } from "./listed.js";
import { t } from "./strings.js";
import { clock, moment, percent, duration } from "./units.js";

const AGAIN = 3000; // milliseconds between two looks

export async function songsScreen(main, props, signal) {
  const found = songList(signal);
  const queues = [["queue", false], ["queue.tasks", true]].map(([title, ofTasks]) => queueCard(title, ofTasks));
  const list = make("ul", { class: "song-list" });
  const empty = make("div", { class: "card empty", hidden: true }, make("p", {}, t("songs.empty")), make("a", { class: "button primary", href: "#/write" }, t("songs.write")));
  const more = make("button", { type: "button", class: "button", hidden: true, onclick: doing(async () => { await found.more(); show(); }) }, t("songs.more"));
  const choose = make("select", { id: "filter", "aria-label": t("songs.filter"), onchange: doing(() => { found.filter(choose.value); return load(); }) },
    ["all", "succeeded", "interrupted", "canceled", "failed"].map((name) => make("option", { value: name }, t(`filter.${name}`))));
  const rest = make("section", { class: "card", "aria-label": t("songs.title") }, list, more);

  async function load() {
    await found.look();
    show();
  }

  function show() {
    for (const queue of queues) queue.show(found.active());
    const ended = found.ended();
    keep(list, ended, row);
    rest.hidden = !ended.length;
    empty.hidden = ended.length > 0 || found.active().length > 0 || choose.value !== "all";
    more.hidden = !found.hasMore();
  }

  const changed = (song) => async () => { await found.changed(song.id); await load(); };

  function row(song) {
    const length = song.seconds == null ? "" : clock(song.seconds);
    const facts = [length, t("meta.seed", { seed: song.seed ?? "?" }), moment(song.created_at)].filter(Boolean).join(" · ");
    return [make("div", { class: "song-words" }, make("a", { class: "song-title", dir: "auto", href: `#/song/${encodeURIComponent(song.id)}` }, song.title || song.id),
      make("p", { class: "meta" }, statePill(song), make("span", {}, facts)), song.error && make("p", { class: "problem" }, song.error.message)),
    make("div", { class: "buttons" }, actionsOf(song, props, changed(song)))];
  }

  /** The songs that wait for each other: those that are generated, or those of tasks, which have a queue of their own. */
  function queueCard(title, ofTasks) {
    let places = []; // of the waiting songs, in their queue
    const rows = make("ul", { class: "song-list" });
    const element = make("section", { class: "card", "aria-labelledby": `${title}-title`, hidden: true }, make("h2", { id: `${title}-title` }, t(title)), rows);
    dragRows(rows, (row, over, below) => {
      const first = rows.querySelector(".handle").closest("li"); // those above it are in work
      rows.insertBefore(row, over.querySelector(".handle") ? (below ? over.nextSibling : over) : first);
    }, (row, dropped) => doing(async () => {
      const position = places[[...rows.querySelectorAll(".handle")].findIndex((each) => row.contains(each))];
      if (dropped) await ask("POST", songPath(row.dataset.song, "move"), { position });
      if (dropped) announce(t("progress.queued", { n: position + 1 }));
      await load();
    })());
    return {
      element,
      show(active) {
        const own = active.filter((song) => Boolean(song.task) === ofTasks);
        places = own.filter((song) => song.queue).map((song) => song.queue.position);
        if (!rows.querySelector(".dragged")) keep(rows, own, (song) => queueRow(song, places), places.length);
        for (const row of rows.children) showProgress(row, own.find((song) => song.id === row.dataset.song));
        element.hidden = !own.length;
      },
    };
  }

  function queueRow(song, places) {
    const move = (by) => doing(async () => {
      await ask("POST", songPath(song.id, "move"), { position: song.queue.position + by });
      await load();
    });
    const name = song.title || song.id, movable = song.queue && places.length > 1;
    return [movable && handle(), make("div", { class: "song-words" }, make("a", { class: "song-title", dir: "auto", href: `#/song/${encodeURIComponent(song.id)}` }, name),
      make("p", { class: "meta" }, statePill(song), make("span", { class: "course" })),
      song.progress && make("progress", { max: 1, "aria-label": t("progress.of", { name }) })),
    make("div", { class: "buttons" },
      movable ? [iconButton("up", t("queue.up", { name }), move(-1), { disabled: song.queue.position === 0 }),
        iconButton("down", t("queue.down", { name }), move(1), { disabled: song.queue.position === places.at(-1) })] : [],
      actionsOf(song, props, changed(song)).slice(0, 1))];
  }

  /** Show how far a song in the queue is; its buttons stay, so that no click on them is lost. */
  function showProgress(row, song) {
    if (!song) return; // a row that is being dragged
    const { progress } = song, bar = row.querySelector("progress");
    row.querySelector(".course").textContent = progress ? [percent(progress.done), progress.eta_seconds == null ? t("progress.estimating") : t("progress.left", { time: duration(progress.eta_seconds) })].join(" · ")
      : song.queue ? t("progress.queued", { n: song.queue.position + 1 }) : t("progress.starting");
    if (bar && progress) bar.value = progress.done;
  }

  main.replaceChildren(make("div", { class: "songs" }, make("div", { class: "screen-head" }, make("h1", {}, t("songs.title")), make("div", { class: "buttons" }, button(t("import"), () => importSong(props), { icon: "add" }), choose)),
    ...queues.map((queue) => queue.element), empty, rest));
  await load();
  found.findAll().then(show, () => {}); // the next look comes
  keepLooking(load, () => (document.visibilityState === "visible" ? AGAIN : null), signal);
}

/** Bring a list's rows up to date; a row that stays the same stays the same element, with its focus. */
function keep(list, songs, build, all = 0) {
  const rows = new Map([...list.children].map((row) => [row.dataset.song, row]));
  songs.forEach((song, n) => {
    const key = JSON.stringify([song, all], (name, value) => (name === "progress" ? Boolean(value) : name === "url" ? undefined : value));
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
