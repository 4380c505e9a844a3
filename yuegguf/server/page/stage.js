// The stage of a song: its sections on a time line, a lane for each track, and the transport. All of them share one time axis.

import { bytesFrom, songPath, ask } from "./api.js";
import { iconButton, make, say } from "./dom.js";
import { GrowingFile } from "./growing.js";
import { laneView } from "./lane.js";
import { Player, decode } from "./player.js";
import { known, t } from "./strings.js";
import { clock } from "./units.js";

const STEP = 5; // seconds of the arrow keys
const POINTS = 1200;

/**
 * A stage. `lanes` are {id, song, name, label, growing}, where `name` is the file of song `song`.
 * With `alternatives` one lane is played at a time; else all of them together. `active` says whether the song is in work.
 * `kept` is what the stage before this one had: place, choice and settings.
 */
export function makeStage(lanes, { sections, alternatives, actions, active, picked, chosen, kept }, signal) {
  const player = new Player(signal);
  const views = lanes.map((lane) => laneView(lane, player, alternatives, actions, settingsOf(lane, kept)));
  const growing = lanes.some((lane) => lane.growing);
  const files = new Map(lanes.filter((lane) => lane.growing).map((lane) => [lane.id, new GrowingFile(songPath(lane.song, `audio/${lane.name}`))]));
  let loaded = null, lengths = 0, wanted = false, starting = false, shown = "", frame = 0;
  player.growing = growing && active;
  if (kept) player.place(kept.time);
  if (alternatives) player.choose((lanes.find((lane) => lane.id === kept?.only) ?? lanes[0])?.id ?? null);
  for (const view of views) view.show();

  const blocks = make("ol", { class: "blocks", "aria-label": t("sections") });
  const toggle = iconButton("play", t("play"), () => start(), { class: "icon-button play", "aria-keyshortcuts": "Space" });
  const position = make("input", { type: "range", min: 0, max: 1, step: 0.1, value: 0, "aria-label": t("position") });
  const time = make("span", { class: "time" });
  const transport = make("div", { class: "transport" }, toggle, position, time);
  const element = make("section", { class: "card stage", "aria-label": t("stage") },
    make("div", { class: "lane sections-lane" }, make("div", { class: "lane-head" }, make("span", { class: "lane-name" }, t("sections"))), blocks),
    views.map((view) => view.element), transport);

  const axis = () => Math.max(lengths, sections.reduce((sum, each) => sum + (each.seconds ?? each.limit), 0), 0.1);

  async function load() {
    toggle.classList.add("busy");
    try {
      await Promise.all(lanes.map(async (lane) => {
        const file = files.get(lane.id);
        const buffer = file ? await file.look(signal) : await decode((await bytesFrom(songPath(lane.song, `audio/${lane.name}`), 0, signal)).bytes.buffer);
        if (buffer) player.set(lane.id, buffer);
      }));
    } finally {
      toggle.classList.remove("busy");
    }
  }

  /** Play or pause; with `again` no song begins anew that was heard to its end. */
  async function start(again = false) {
    wanted = true;
    if (player.state !== "stopped") return player.pause();
    starting = true;
    loaded ??= load();
    try {
      await loaded;
      if (!(again && player.ended)) await player.toggle();
    } catch (error) {
      loaded = null;
      if (error.name !== "AbortError") say(error.message);
    } finally {
      starting = false;
    }
    return undefined;
  }

  async function seek(seconds) {
    loaded ??= load();
    await loaded.catch(() => { loaded = null; });
    player.seek(seconds);
    tick();
  }

  function tick() {
    const now = player.time, all = axis();
    element.style.setProperty("--at", now / all);
    position.value = now;
    position.setAttribute("aria-valuetext", t("position.value", { now: clock(now), all: clock(lengths) }));
    time.textContent = `${clock(now)} / ${clock(lengths)}`;
    for (const view of views) view.meter();
    cancelAnimationFrame(frame); // a change calls this too, and each call would go on by itself
    if (player.state === "playing" && !signal.aborted) frame = requestAnimationFrame(tick);
  }

  player.addEventListener("change", () => {
    const playing = player.state !== "stopped";
    const text = t(player.state === "waiting" ? "waiting" : playing ? "pause" : "play");
    toggle.replaceChildren(iconButton(playing ? "pause" : "play", "", null).firstChild);
    toggle.setAttribute("aria-label", text);
    toggle.title = text;
    element.dataset.state = player.state;
    lengths = Math.max(lengths, player.duration);
    position.max = Math.max(0.1, lengths);
    for (const view of views) view.show();
    tick();
  });
  position.addEventListener("input", () => seek(Number(position.value)));

  function showSections(found) {
    sections = found;
    const key = JSON.stringify([picked, sections]), focused = [...blocks.children].findIndex((item) => item.contains(document.activeElement));
    if (key === shown) return;
    shown = key;
    blocks.replaceChildren(...sections.map((section, n) => {
      const label = known(`label.${section.label.toLowerCase()}`, section.label);
      const length = section.seconds ?? section.limit;
      const words = section.seconds == null ? t("block.planned", { n: n + 1, label, length: Math.round(length) })
        : t("block.done", { n: n + 1, label, start: clock(section.start), length: Math.round(length) });
      const item = make("li", {}, make("button", { type: "button", class: `block ${section.state}`, "aria-current": n === picked ? "true" : null, "aria-label": section.fault ? t("block.fault", { words }) : words, title: words, onclick: () => {
        if (section.start != null) seek(section.start);
        picked = n;
        showSections(sections);
        chosen(n);
      } }, make("span", {}, label)));
      item.style.setProperty("flex-grow", length);
      return item;
    }));
    blocks.children[focused]?.firstChild.focus();
    for (const view of views) view.scale(axis());
  }

  async function drawLanes() {
    await Promise.all(lanes.map(async (lane, n) => {
      try {
        const path = songPath(lane.song, `peaks?name=${encodeURIComponent(lane.name)}&points=${POINTS}`);
        const found = await ask("GET", path, undefined, {}, signal);
        lengths = Math.max(lengths, found.seconds);
        views[n].peaks(found);
      } catch (error) {
        if (error.name === "AbortError") return;
      }
    }));
    for (const view of views) view.scale(axis());
    position.max = Math.max(0.1, lengths);
    tick();
  }

  /** Look whether a preview has grown; it is fetched once somebody has begun to listen. */
  async function grow(still) {
    player.growing = growing && still;
    if (!growing) return;
    try {
      await drawLanes();
      if (!wanted || !loaded) return;
      await loaded.catch(() => {});
      for (const [id, file] of files) {
        const buffer = await file.look(signal);
        if (buffer) player.set(id, buffer);
      }
    } finally {
      if (!player.growing && player.state === "waiting") player.pause(); // no more will come
    }
  }

  const groups = () => new Map([["sections", blocks], ["transport", transport], ...views.map((view, n) => [lanes[n].id, view.element])]);
  const controls = (group) => [...(group?.querySelectorAll("button, input, a") ?? [])];

  /** The control with the focus, as the name of its group and its number in it; null if none has it. */
  function focused() {
    for (const [name, group] of groups()) {
      const n = controls(group).indexOf(document.activeElement);
      if (n >= 0) return [name, n];
    }
    return null;
  }

  element.addEventListener("seekto", (event) => seek(event.detail));
  for (const view of views) view.keepDrawn(signal);
  showSections(sections);
  drawLanes();
  if (kept?.playing) start(true);
  return {
    element, player, showSections, grow, seek,
    kept: () => ({
      time: player.time, playing: starting || player.state !== "stopped", only: player.only, focus: focused(),
      settings: new Map([...kept?.settings ?? [], ...views.map((view, n) => [lanes[n].id, { ...view.settings, mixed: lanes[n].mixed }])]),
    }),
    focus: ([name, n]) => (controls(groups().get(name))[n] ?? toggle).focus(),
    gains: () => Object.fromEntries(views.map((view, n) => [lanes[n].id, view.settings.gain])),
    key(event) {
      const lane = event.code.startsWith("Digit") ? lanes[Number(event.code.slice(5)) - 1] : null;
      if (event.key === " ") start();
      else if (event.key === "ArrowLeft") seek(player.time - STEP);
      else if (event.key === "ArrowRight") seek(player.time + STEP);
      else if (lane && alternatives) player.choose(lane.id);
      else if ((event.key === "m" || event.key === "s") && !alternatives && lanes.length > 1) {
        const view = views.find((each) => each.element.contains(document.activeElement)) ?? views[0];
        view.press(event.key);
      } else return false;
      return true;
    },
  };
}

/** The settings of a lane on the stage before, without a gain that a new mix now has in its files. */
function settingsOf(lane, kept) {
  const { mixed, ...settings } = kept?.settings.get(lane.id) ?? {};
  return mixed === lane.mixed ? settings : { ...settings, gain: 0 };
}
