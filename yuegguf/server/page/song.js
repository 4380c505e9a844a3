// The screen of a song: progress, stage, takes, sections, downloads. Its parts stay while what they show changes.

import { actionsOf, isActive, statePill, stateOf } from "./actions.js";
import { ask, keepLooking, songPath } from "./api.js";
import { announce, button, card, doing, go, make } from "./dom.js";
import { editButtons, retake } from "./edits.js";
import { progressCard } from "./progress.js";
import { makeStage } from "./stage.js";
import { known, t } from "./strings.js";
import { clock, letter, moment, size } from "./units.js";

const LOOK = 4000; // milliseconds between two looks at a growing preview
const QUICK = 1000, SLOW = 10000; // the same of a song that somebody sees in work, and of any other
const STEMS = ["mix", "vocals", "instrumental", "draft", "draft-vocals", "draft-instrumental", "preview"];
const RENDERED = ["mix", "vocals", "instrumental"]; // what a remix makes
const ORDER = ["flac", "wav", "mp3", "opus", "m4a"]; // for playing: what is small and exact first

export async function songScreen(main, id, props, signal) {
  const here = location.hash;
  let song = await ask("GET", songPath(id), undefined, {}, signal), takes = await takesOf(song, signal);
  if (signal.aborted) return;
  let stage = null, stageKey = "", kept = null, chosen = 0;
  const head = make("div", { class: "screen-head" }), alerts = make("div", { class: "alerts" }), progress = progressCard();
  const place = make("div", { class: "stage-place" }), sectionBox = make("div"), side = make("div", { class: "downloads-place" });

  function update() {
    const title = song.title || song.id;
    document.title = t("page.title", { title });
    replace(head, JSON.stringify([title, song.status, song.draft, song.queue?.position, song.resumable, song.takes.length, metaOf(song)]), () => [
      make("div", {}, make("h1", { dir: "auto" }, title), make("p", { class: "meta" }, statePill(song), make("span", {}, metaOf(song)))),
      make("div", { class: "buttons" }, actionsOf(song, props, async (gone) => { if (gone) go(here, "#/songs"); else await reload(); }))]);
    replace(alerts, JSON.stringify([song.error, song.warnings, song.status, song.draft, song.takes.length]), () => alertsOf(song));
    progress.update(song, isActive(song));
    showStage();
    showSections();
    replace(side, JSON.stringify([song.files.map((file) => file.name), song.downloads?.length, song.input?.output]), () => song.files.length ? [downloads(song)] : []);
    refreshLinks(side, song);
  }

  function showStage() {
    const lanes = lanesOf(song, takes), key = JSON.stringify([lanes, !lanes.length && isActive(song)]);
    if (key === stageKey) return stage?.showSections(sectionsNow());
    kept = stage ? stage.kept() : kept && { ...kept, focus: null };
    stageKey = key;
    stage?.player.close();
    stage = lanes.length ? makeStage(lanes, {
      sections: sectionsNow(), alternatives: song.takes.length > 0,
      actions: (lane) => [button(t("take.keep"), doing(async () => {
        await ask("POST", songPath(id, "keep"), { takes: [Number(lane.song.split("-").pop())] });
        go(here, `#/song/${encodeURIComponent(lane.song)}`);
      }), { icon: "check", kind: "small", "aria-label": t("take.keep.one", { take: lane.label }) }),
      make("a", { class: "button small quiet", href: `#/song/${encodeURIComponent(lane.song)}`, "aria-label": t("take.open.one", { take: lane.label }) }, t("take.open"))],
      active: isActive(song), picked: chosen, kept,
      chosen: (n) => { chosen = n; showSections(true); },
    }, signal) : null;
    stage?.player.addEventListener("change", () => showSections());
    place.replaceChildren(...(stage ? [stage.element, make("p", { class: "keys" }, t(song.takes.length ? "keys.takes" : "keys"))] : [emptyStage(song)]));
    if (stage && kept?.focus) stage.focus(kept.focus);
    return undefined;
  }

  /** Sections with the state of each: done, now, todo, or fault. */
  function sectionsNow() {
    const now = (song.progress?.section ?? 0) - 1;
    return (song.timeline ?? []).map((each, n) => ({ ...each,
      state: each.fault ? "fault" : each.start != null || n < now ? "done" : n === now && isActive(song) ? "now" : "todo" }));
  }

  function showSections() {
    const list = song.timeline ?? [], section = list[Math.min(chosen, list.length - 1)];
    const drafted = section?.start != null && ["succeeded", "canceled", "interrupted", "failed"].includes(song.status) && !song.takes.length;
    const at = stage?.player.state === "stopped" ? Math.round(stage.player.time) : -1;
    replace(sectionBox, JSON.stringify([section, chosen, at >= 0 ? at : 0, drafted && [song.status, song.draft, song.seconds, song.input, list]]), () => (section ? [card(t("section.chosen", { n: Math.min(chosen, list.length - 1) + 1, all: list.length, label: known(`label.${section.label.toLowerCase()}`, section.label) }),
      make("p", { class: "lines", dir: "auto" }, section.lines || t("section.wordless")),
      section.fault && make("p", { class: "warn" }, section.fault),
      section.lost_lines > 0 && make("p", { class: "warn" }, t("section.lost", { n: section.lost_lines })),
      drafted && make("div", { class: "buttons" }, button(t("retake"), () => retake(song, Math.min(chosen, list.length - 1), props), { icon: "again" }),
        ...editButtons(song, props, () => stage?.player.time ?? 0, gains, reload)))] : []));
  }

  const gains = () => ({ vocals: 0, instrumental: 0, ...stage?.gains() });

  let running = null, again = false, lookSooner = () => {};

  /** Get the song anew; calls while one runs become one more. */
  async function reload() {
    if (running) {
      again = true;
      return running;
    }
    running = (async () => {
      do {
        again = false;
        const before = isActive(song);
        song = await ask("GET", songPath(id), undefined, {}, signal);
        takes = await takesOf(song, signal);
        if (before && !isActive(song)) announce(t("song.ended", { state: t(stateOf(song)[0]) }));
        update();
        if (before) look(); // also once more at its end
        else if (isActive(song)) lookSooner();
      } while (again && !signal.aborted);
    })().finally(() => { running = null; });
    return running;
  }

  /** Show what a preview has gained. */
  const look = atMostEvery(LOOK, signal, async () => stage?.grow(isActive(song)));

  main.replaceChildren(make("div", { class: "song", "data-song": id }, head, alerts, progress.element, place, sectionBox, side));
  update();
  if (isActive(song)) look();
  lookSooner = keepLooking(async () => {
    try {
      await reload();
    } catch (error) {
      if (error.status === 404) go(here, "#/songs"); // it was deleted
      throw error;
    }
  }, () => (isActive(song) && document.visibilityState === "visible" ? QUICK : SLOW), signal);
  addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, dialog, summary") || (event.target.closest("button, a") && event.key === " ");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !stage) return;
    if (stage.key(event)) event.preventDefault();
  }, { signal });
}

/** A function that runs `action` at most once in so many milliseconds, and never twice at a time; the last call counts. */
function atMostEvery(milliseconds, signal, action) {
  let asked = false, running = false;
  return async function ask() {
    asked = true;
    if (running) return;
    running = true;
    while (asked && !signal.aborted) {
      asked = false;
      await action().catch(() => {}); // the next look comes
      await new Promise((resolve) => setTimeout(resolve, milliseconds));
    }
    running = false;
  };
}

/** Fill an element anew where what it shows has changed; the focus stays on the same button. */
function replace(element, key, build) {
  if (element.dataset.key === key) return;
  element.dataset.key = key;
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  element.replaceChildren(...build());
  if (focused) {
    const name = (each) => each.dataset.file ?? each.textContent; // the text of a link to a file has its size
    const same = [...element.querySelectorAll("button, a")].find((each) => name(each) === name(focused));
    (same ?? element.querySelector("button") ?? document.getElementById("main")).focus();
  }
}

function metaOf(song) {
  const parts = [song.seconds != null && clock(song.seconds), t("meta.seed", { seed: song.seed ?? "?" }), moment(song.created_at)];
  return parts.filter(Boolean).join(" · ");
}

function alertsOf(song) {
  const found = [];
  if (song.error) found.push(make("p", { class: "problem" }, song.error.hint ? t("refused.hint", song.error) : song.error.message));
  if (song.status === "canceled" || song.status === "interrupted") found.push(make("p", { class: "note" }, t("song.kept")));
  if (song.status === "succeeded" && song.draft) found.push(make("p", { class: "note" }, t(song.takes.length ? "song.takes.about" : "song.draft.about")));
  if (song.warnings.length) {
    found.push(make("details", { class: "notes" }, make("summary", {}, t("song.warnings", { n: song.warnings.length })),
      make("ul", {}, song.warnings.map((text) => make("li", {}, text)))));
  }
  return found;
}

function emptyStage(song) {
  return make("div", { class: "card empty" }, make("p", {}, t(isActive(song) ? "stage.soon" : "stage.none")));
}

async function takesOf(song, signal) {
  return Promise.all(song.takes.map((take) => ask("GET", songPath(take), undefined, {}, signal)));
}

const stemOf = (name) => name.replace(/\.\w+$/, "");

/** Whether a file is of a mix before the newest one, which had other formats. */
function isOlder(song, name) {
  const output = song.input?.output, stem = stemOf(name);
  return Boolean(output) && RENDERED.includes(stem) && !(output.formats.includes(name.split(".").pop()) && (stem === "mix" || output.stems));
}

/** The tracks of a song to play: stems if it has both, else the mix, else the preview. */
function lanesOf(song, takes) {
  const named = (from, stem) => {
    const there = ORDER.map((kind) => `${stem}.${kind}`).filter((name) => from.files.some((file) => file.name === name));
    return there.find((name) => !isOlder(from, name)) ?? there[0];
  };
  const output = song.input?.output;
  const facts = (from, name) => ({ song: from.id, name, bytes: name === "preview.wav" ? 0 : from.files.find((file) => file.name === name).bytes,
    made: RENDERED.includes(stemOf(name)) ? from.completed_at : "" }); // another mix may have as many bytes
  const mixOf = (from) => named(from, "mix") ?? named(from, "draft") ?? named(from, "preview");
  if (takes.length) {
    return takes.flatMap((take, n) => (mixOf(take) ? [{ id: take.id, ...facts(take, mixOf(take)), label: t("take", { letter: letter(n) }), growing: mixOf(take) === "preview.wav" }] : []));
  }
  for (const prefix of ["", "draft-"]) {
    const vocals = named(song, `${prefix}vocals`), instrumental = named(song, `${prefix}instrumental`);
    if (!vocals || !instrumental || (prefix && named(song, "mix"))) continue;
    return [{ id: "vocals", ...facts(song, vocals), label: t("track.vocals"), colour: "vocals", mixed: output?.vocal_gain },
      { id: "instrumental", ...facts(song, instrumental), label: t("track.backing"), colour: "backing", mixed: output?.inst_gain }];
  }
  const name = mixOf(song);
  if (!name) return [];
  const growing = name === "preview.wav";
  return [{ id: "mix", ...facts(song, name), label: t(growing ? "track.preview" : "track.mix"), growing, alone: true }];
}

function downloads(song) {
  const link = (file, text) => make("a", { class: "button small", "data-file": file.name, download: "" }, text);
  const audio = (file) => link(file, formatOf(song, file));
  const whole = song.files.some((file) => file.name.startsWith("mix."));
  const older = song.files.filter((file) => isOlder(song, file.name)), newest = song.files.filter((file) => !older.includes(file));
  const names = new Set(newest.map((file) => stemOf(file.name)));
  const stems = STEMS.filter((stem) => names.has(stem) && !(whole && stem === "preview"));
  const rows = stems.map((stem) => make("li", {}, make("span", {}, known(`file.${stem}`, stem)), make("span", { class: "buttons" },
    newest.filter((file) => stemOf(file.name) === stem).map(audio))));
  if (older.length) rows.push(make("li", {}, make("span", {}, t("file.older")), make("span", { class: "buttons" }, older.map(audio))));
  const others = song.downloads ?? [];
  return card(t("downloads"), make("ul", { class: "files" }, rows,
    others.length > 0 && make("li", {}, make("span", {}, t("file.more")), make("span", { class: "buttons" }, others.map((file) => link(file, known(`file.${file.name}`, file.name)))))),
  make("p", { class: "credit" }, make("span", {}, t("credit")), button(t("credit.copy"), () => navigator.clipboard?.writeText(t("credit")).then(() => announce(t("credit.copied"))), { icon: "copy", kind: "small quiet" })));
}

/** The text of the link to an audio file. */
function formatOf(song, file) {
  const facts = { name: known(`file.${stemOf(file.name)}`, file.name), kind: file.name.split(".").pop(), size: size(file.bytes) };
  return t(isOlder(song, file.name) ? "file.older.format" : "file.format", facts);
}

/** Give the links of downloads the newest sizes and addresses: on a server with a key an address holds for an hour. */
function refreshLinks(side, song) {
  const texts = new Map(song.files.map((file) => [file.name, formatOf(song, file)]));
  const urls = new Map([...song.files, ...(song.downloads ?? [])].map((file) => [file.name, file.url]));
  for (const link of side.querySelectorAll("[data-file]")) {
    const url = urls.get(link.dataset.file), text = texts.get(link.dataset.file);
    if (text && link.textContent !== text) link.textContent = text;
    if (url) link.href = `${url}${url.includes("?") ? "&" : "?"}download=1`;
  }
}
