// Recordings of a song: a style reference (one file, both tracks of one, or a saved voice) with a window of its
// seconds, or a track to which the other one is generated.

import { announce, button, choice, dialog, field, make, tick } from "./dom.js";
import { filePlace } from "./files.js";
import { Player, decode } from "./player.js";
import { saveFile } from "./store.js";
import { t } from "./strings.js";
import { taskSender } from "./tasks.js";
import { clock } from "./units.js";
import { drawPeaks, keepDrawn, peaksOf } from "./waveform.js";

const PARTS = { none: [], one: ["ref"], two: ["vocal_ref", "inst_ref"], voice: [], vocal_stem: ["vocal_stem"], inst_stem: ["inst_stem"] };
const STEMS = ["vocal_stem", "inst_stem"];
const POINTS = 600;

/** The editor of a reference. `value` has its kind, files, start and voice. */
export function referenceEditor(props, saved, files, signal, changed) {
  const state = { kind: saved.kind in PARTS ? saved.kind : "none", start: saved.start ?? props.defaults.ref_start, voice: saved.voice ?? "", files };
  const window_ = props.defaults.ref_end - props.defaults.ref_start;
  const kinds = (chosen) => choice(t("reference.title"), ["none", "one", "two", ...(props.voices.length || chosen === "voice" ? ["voice"] : []), ...STEMS].map((kind) => [kind, t(`reference.${kind}`)]), chosen, choose);
  const body = make("div", { class: "reference-body" });
  let shown = null; // ends the waveforms of the kind that is shown

  const edited = () => changed({ kind: state.kind, start: state.start, voice: state.voice });
  const choose = (kind) => {
    state.kind = kind;
    show();
    edited();
  };

  function show() {
    shown?.abort();
    shown = new AbortController();
    signal.addEventListener("abort", () => shown.abort(), { once: true });
    body.replaceChildren(...(state.kind === "voice" ? [voices()] : []),
      ...PARTS[state.kind].map((part) => filePlace(part, state.files[part], props.limits.upload_bytes, (file) => take(part, file))),
      ...(!STEMS.includes(state.kind) && PARTS[state.kind].some((part) => state.files[part]) ? [windowOf(PARTS[state.kind].find((part) => state.files[part]))] : []));
  }

  const isGone = () => state.kind === "voice" && !props.voices.includes(state.voice);

  /** The choice of a voice; the first one, unless another was chosen that is not there any more. */
  function voices() {
    const [first] = props.voices, gone = state.voice || !first;
    if (!gone) state.voice = first;
    const select = make("select", { onchange: () => { state.voice = select.value; show(); edited(); document.getElementById("voice").focus(); } },
      isGone() && make("option", { value: "", selected: true }, t("voice.choose")), props.voices.map((name) => make("option", { selected: name === state.voice }, name)));
    return make("div", {}, field("voice", t("reference.voice"), select), isGone() && make("p", { class: "warn" }, state.voice ? t("voice.gone", { name: state.voice }) : t("voice.none")));
  }

  async function take(part, file) {
    if (file) state.files[part] = file;
    else delete state.files[part];
    await saveFile(part, file);
    show();
    edited();
  }

  /** Keep the window as a voice, which is chosen then. */
  function saveVoice() {
    const name = make("input", { dir: "auto", required: true, maxlength: 64, autocomplete: "off" }), replace = make("input");
    const { body: window, files: sent } = box.value();
    const send = taskSender("v1/voices");
    return dialog(t("voice.title"), make("div", {}, make("p", {}, t("voice.about")), field("voice-name", t("voice.name"), name), tick("voice-replace", t("voice.replace"), replace)), t("voice.do"), async (running) => {
      const { voice } = await send({ name: name.value.trim(), replace: replace.checked, ...window }, sent, running);
      if (signal.aborted) return;
      props.voices = [...new Set([...props.voices, voice.name])].sort();
      state.voice = voice.name;
      picker.replaceWith(picker = kinds("voice"));
      choose("voice");
      announce(t("voice.saved", voice));
    });
  }

  /** The waveform of a recording with the window in it. */
  function windowOf(part) {
    const canvas = make("canvas", { class: "wave", "aria-hidden": "true" });
    const frame = make("div", { class: "window", "aria-hidden": "true" });
    const slider = make("input", { type: "range", min: 0, max: 0, step: 0.5, value: state.start, disabled: true });
    const words = make("p", { class: "hint" });
    const player = new Player(shown.signal);
    const listen = button(t("reference.play"), () => {
      if (player.state === "playing") return player.pause();
      player.seek(state.start);
      return player.play();
    }, { icon: "play", kind: "small", disabled: true });
    let seconds = 0, timer = 0;

    /** Stop where the window ends, counted from what is played now. */
    const stopAtEnd = () => {
      clearTimeout(timer);
      if (player.state === "playing") timer = setTimeout(() => player.pause(), 1000 * Math.max(0, state.start + window_ - player.time));
    };
    const move = (start) => {
      state.start = Math.max(0, Math.min(start, Math.max(0, seconds - window_)));
      slider.value = state.start;
      const end = Math.min(seconds, state.start + window_);
      frame.style.setProperty("left", `${100 * state.start / seconds}%`);
      frame.style.setProperty("width", `${100 * (end - state.start) / seconds}%`);
      words.textContent = t("reference.window", { start: clock(state.start), end: clock(end), all: clock(seconds) });
      slider.setAttribute("aria-valuetext", words.textContent);
      stopAtEnd();
    };
    slider.addEventListener("input", () => { move(Number(slider.value)); edited(); });
    const box = make("div", { class: "wave-box" }, canvas, frame);
    box.addEventListener("pointerdown", (event) => {
      if (!seconds) return;
      box.setPointerCapture(event.pointerId);
      const at = (each) => (each.clientX - box.getBoundingClientRect().left) / box.clientWidth * seconds;
      const follow = (each) => { move(at(each) - window_ / 2); edited(); };
      follow(event);
      box.onpointermove = follow;
      box.onpointerup = () => { box.onpointermove = null; };
    });
    player.addEventListener("change", stopAtEnd);
    const stop = shown.signal;
    state.files[part].arrayBuffer().then(decode).then((buffer) => {
      if (stop.aborted) return;
      seconds = buffer.duration;
      player.set(part, buffer);
      slider.max = Math.max(0, seconds - window_);
      slider.disabled = seconds <= window_;
      listen.disabled = false;
      const peaks = peaksOf(buffer, POINTS);
      keepDrawn(canvas, () => drawPeaks(canvas, peaks, "--accent"), stop);
      move(state.start);
    }, () => { words.textContent = t("reference.unreadable"); });
    const whole = PARTS[state.kind].every((each) => state.files[each]);
    return make("div", {}, box, field("window", t("reference.begins"), slider), words,
      make("div", { class: "buttons" }, listen, whole && button(t("voice.save"), saveVoice, { icon: "save", kind: "small" })));
  }

  show();
  let picker = kinds(state.kind);
  const box = make("div", {}, make("p", { class: "hint" }, t("reference.about")), picker, body);
  box.value = () => ({
    stem: STEMS.includes(state.kind),
    body: state.kind === "voice" ? { voice: state.voice }
      : STEMS.includes(state.kind) ? {} : PARTS[state.kind].length ? { ref_start: state.start, ref_end: state.start + window_ } : {},
    files: Object.fromEntries(PARTS[state.kind].filter((part) => state.files[part]).map((part) => [part, state.files[part]])),
    missing: isGone() ? ["voice"] : PARTS[state.kind].filter((part) => !state.files[part]),
  });
  return box;
}
