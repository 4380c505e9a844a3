// The screen Write: tags, lyrics, reference, options, and one button.

import { ask, newKey, songPath } from "./api.js";
import { announce, button, card, doing, go, keepClear, make, say } from "./dom.js";
import { hasModel, optionsEditor, optionsLike } from "./options.js";
import { referenceEditor } from "./reference.js";
import { labelList, lyricsEditor } from "./sections.js";
import { loadDraft, loadFiles, onOtherDraft, replaceDraft, saveDraft } from "./store.js";
import { t } from "./strings.js";
import { splitTags, tagPicker } from "./tags.js";
import { formOf } from "./tasks.js";
import { duration, size } from "./units.js";

const PAUSE = 500; // milliseconds without a change after which the song is checked
const RETRY = 3000;
/** Whether a check may succeed later: the server has too much to do, or it was not the server that answered. */
const isPassing = (error) => error.status === 429 || !error.body?.error;

export async function writeScreen(main, props, signal) {
  const here = location.hash;
  const [models, files] = await Promise.all([modelNames(), loadFiles()]);
  if (signal.aborted) return;
  let draft = loadDraft(), timer = 0, told = "", editing = new AbortController(); // of the recordings that are shown
  let checking = false, changed = false, skipped = false; // a check is under way; its song has changed since; one was due while the window was hidden
  if (draft.options?.model && !hasModel(models, draft.options.model)) {
    draft = { ...draft, options: { ...draft.options, model: undefined }, key: null }; // it was removed from the server
    saveDraft(draft);
  }

  const edit = (change) => {
    draft = { ...draft, ...change, key: null, before: undefined };
    saveDraft(draft);
    undo.hidden = true;
    checkIn(PAUSE);
  };
  const tags = tagPicker(props.tags, draft.tags ?? [], props.limits.genre_chars, (chosen) => edit({ tags: chosen }));
  const lyrics = lyricsEditor(draft.lyrics ?? "", props.limits.section_seconds, (text) => edit({ lyrics: text }));
  const referenceOf = (recordings) => {
    editing.abort();
    editing = new AbortController();
    return referenceEditor(props, draft.reference ?? {}, recordings, AbortSignal.any([signal, editing.signal]), (chosen) => edit({ reference: chosen }));
  };
  const optionsOf = () => optionsEditor(props, models, draft.options ?? {}, (chosen) => edit({ options: chosen }));
  let reference = referenceOf(files), options = optionsOf();
  const summary = make("div", { class: "dock-text", role: "status" });
  const warnings = make("ul", { class: "warnings", "aria-label": t("warnings"), hidden: true });
  const submit = make("button", { class: "button primary big" });
  const dock = make("div", { class: "dock" }, make("div", { class: "dock-words" }, summary, warnings), submit);

  function body() {
    const { segment_seconds, instrumental, a_cappella, ...facts } = options.value();
    const lengths = reference.value().stem ? {} : { segment_seconds, instrumental, a_cappella }; // a track decides these
    return { genre: (draft.tags ?? []).join(" "), lyrics: draft.lyrics ?? "", ...facts, ...lengths, ...reference.value().body };
  }

  function ready() {
    if (!draft.tags?.length) return t("write.need.tags");
    if (!draft.lyrics?.trim() && draft.options?.track !== "instrumental" && !reference.value().stem) return t("write.need.lyrics");
    const { missing } = reference.value();
    return missing.length ? t(missing.includes("voice") ? "write.need.voice" : "write.need.reference") : "";
  }

  function checkIn(milliseconds) {
    clearTimeout(timer);
    timer = setTimeout(check, milliseconds);
  }

  /** Check the song that is written now; the server goes on with a check that is aborted, so only one is under way. */
  async function check() {
    clearTimeout(timer);
    submit.textContent = t(draft.options?.straight ? "write.generate" : "write.draft");
    changed = checking;
    const missing = ready();
    if (missing) return tell(missing);
    if (!draft.lyrics?.trim() && reference.value().stem) return tell(t("write.stem"));
    if (!summary.firstChild) tell(t("write.checking"));
    skipped = document.visibilityState !== "visible";
    if (checking || skipped) return;
    checking = true;
    const { voice, ref_start, ref_end, ...facts } = body(); // the recordings are sent with the song alone
    try {
      const found = await ask("POST", "v1/check", facts, {}, signal);
      if (!changed) showCheck(found);
    } catch (error) {
      if (signal.aborted) return;
      if (!changed) tell(error.message);
      if (isPassing(error)) return checkIn(RETRY);
    } finally {
      checking = false;
    }
    if (changed) check();
  }

  function showCheck(found) {
    lyrics.showFit(found.sections);
    const [, most] = found.total;
    const texts = [t("write.sections", { n: found.sections.length }), t("write.music", { time: duration(found.likely_music) }),
      t("write.time", { time: duration(most) }), memory(found)];
    tell(texts, found.warnings);
  }

  const memory = (found) => t("write.memory", {
    needed: size(Math.max(...Object.values(found.memory))), free: size(props.machine.memory_free) });

  function tell(texts, notes = []) {
    if (!Array.isArray(texts)) lyrics.showFit(null);
    const key = JSON.stringify([texts, notes]);
    if (key === told) return; // else a screen reader says it again
    told = key;
    const parts = [texts].flat().map((text) => make("span", {}, text));
    summary.replaceChildren(...parts);
    warnings.replaceChildren(...notes.map((text) => make("li", {}, text)));
    warnings.hidden = !notes.length;
  }

  async function create() {
    tags.finish();
    const missing = ready();
    if (missing) return say(missing);
    draft.key ??= newKey(); // kept, so that a lost answer and a second click never make a second song
    saveDraft(draft);
    const { files: recordings } = reference.value();
    const sent = Object.keys(recordings).length ? formOf(body(), recordings) : body();
    const song = await ask("POST", "v1/songs", sent, { "Idempotency-Key": draft.key });
    draft.key = null;
    saveDraft(draft);
    announce(t("write.created"));
    go(here, `#/song/${encodeURIComponent(song.id)}`);
  }

  /** Show the stored draft, which was changed elsewhere than in the editors. */
  async function show() {
    const recordings = await loadFiles(), before = JSON.stringify([draft.reference, draft.options]);
    draft = loadDraft();
    tags.set(draft.tags ?? []);
    lyrics.set(draft.lyrics ?? "");
    if (JSON.stringify([draft.reference, draft.options]) !== before) { // else they keep the focus and what is unfolded
      reference.replaceWith(reference = referenceOf(recordings));
      options.replaceWith(options = optionsOf());
    }
    undo.hidden = !draft.before;
  }

  const focusTags = () => tags.querySelector("input").focus();
  const clear = button(t("write.clear"), async () => {
    replaceDraft({ tags: [], lyrics: "" });
    await show();
    check();
    if (draft.before) announce(t("write.before"));
    focusTags();
  }, { kind: "quiet" });
  const undo = make("div", { class: "note undo", hidden: !draft.before }, make("span", {}, t("write.before")), button(t("write.undo"), async () => {
    saveDraft(draft.before);
    await show();
    check();
    focusTags();
  }, { kind: "small" }));
  const noSubmit = (event) => { if (event.key === "Enter" && event.target.tagName === "INPUT") event.preventDefault(); };
  main.replaceChildren(make("form", { class: "write", novalidate: true, onkeydown: noSubmit, onsubmit: (event) => { event.preventDefault(); doing(create)(event); } },
    labelList(),
    make("div", { class: "screen-head" }, make("h1", {}, t("write.head")), clear), undo,
    make("div", { class: "columns" },
      make("div", { class: "wide" }, card(t("tags.title"), tags), card(t("lyrics.title"), lyrics)),
      make("div", { class: "narrow" }, card(t("reference.title"), reference), card(t("option.title"), options))),
    dock));
  keepClear(dock, "dock");
  lyrics.grow();
  onOtherDraft(async () => { await show(); checkIn(PAUSE); }, signal);
  document.addEventListener("visibilitychange", () => { if (skipped) check(); }, { signal });
  signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
  check(); // its answer is not waited for: the screen is shown
}

/** Models that can be asked for: those of stage 1 that are installed, and the server's own choice. */
async function modelNames() {
  const { data } = await ask("GET", "v1/models");
  const names = data.filter((model) => model.installed && (!model.role || model.role === "stage1")).map((model) => [model.id, model.id]);
  return [["", t("option.model.auto")], ...names];
}

/** Put the request of a song into the screen Write, but for its title, its seed and recordings, which are not sent back. */
export async function writeLike(id, props) {
  const here = location.hash, { input, takes } = await ask("GET", songPath(id));
  const folder = takes[0] ?? id;
  const [project, models] = await Promise.all([ask("GET", songPath(folder, "project")), modelNames()]);
  const model = hasModel(models, project.family) ? project.family : "", voice = input.reference?.voice;
  replaceDraft({ tags: splitTags(input.genre, props.tags), lyrics: input.lyrics, options: optionsLike(input, model, props),
    reference: voice ? { kind: "voice", voice } : {} });
  go(here, "#/write");
}
