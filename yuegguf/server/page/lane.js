// One lane of a stage: the waveform of a track, and what is heard of it.

import { button, make } from "./dom.js";
import { t } from "./strings.js";
import { decimal } from "./units.js";
import { drawPeaks, keepDrawn } from "./waveform.js";

const LEAST_GAIN = -24, MOST_GAIN = 12; // decibels

/** A lane: name, mute, solo, gain and level of a track; or the choice of an alternative. `kept` are settings to begin with. */
export function laneView(lane, player, alternatives, actions, kept = {}) {
  const canvas = make("canvas", { class: "wave", "aria-hidden": "true" });
  const meter = make("span", { class: "meter", "aria-hidden": "true" }, make("span"));
  const wave = make("div", { class: "wave-box" }, canvas, make("span", { class: "playhead" }));
  const set = (change) => player.change(lane.id, change);
  const settings = { muted: false, solo: false, gain: 0, ...kept };
  const press = (name) => {
    settings[name] = !settings[name];
    sync();
  };
  const mute = make("button", { type: "button", class: "letter", "aria-pressed": "false", "aria-label": t("mute.lane", { lane: lane.label }), title: t("mute"), onclick: () => press("muted") }, t("mute.letter"));
  const solo = make("button", { type: "button", class: "letter", "aria-pressed": "false", "aria-label": t("solo.lane", { lane: lane.label }), title: t("solo"), onclick: () => press("solo") }, t("solo.letter"));
  const gain = make("input", { type: "range", min: LEAST_GAIN, max: MOST_GAIN, step: 0.5, value: settings.gain, "aria-label": t("gain.lane", { lane: lane.label }) });
  const db = make("span", { class: "db" });
  const pick = button(lane.label, () => player.choose(lane.id), { kind: "small pick", "aria-pressed": "false" });
  const sync = () => set(settings);
  gain.addEventListener("input", () => { settings.gain = Number(gain.value); sync(); });
  gain.addEventListener("dblclick", () => { gain.value = 0; settings.gain = 0; sync(); });
  const single = !alternatives && lane.alone;
  const head = alternatives ? [pick, ...actions(lane)] : [make("span", { class: "lane-name" }, lane.label),
    ...(single ? [] : [make("span", { class: "letters" }, mute, solo)]), make("span", { class: "gain" }, gain, db)];
  const element = make("div", { class: `lane ${lane.colour ?? ""}`, role: "group", "aria-label": lane.label, "data-lane": lane.id },
    make("div", { class: "lane-head" }, ...head, meter), wave);
  let found = null, all = 1;

  const draw = () => drawPeaks(canvas, found?.peaks, "--lane");
  const view = {
    element,
    settings,
    press: (key) => press(key === "m" ? "muted" : "solo"),
    peaks: (peaks) => { found = peaks; },
    scale(axis) {
      all = axis;
      canvas.style.setProperty("width", `${Math.min(100, 100 * (found?.seconds ?? 0) / all)}%`);
      draw();
    },
    keepDrawn: (signal) => keepDrawn(canvas, draw, signal),
    meter: () => meter.firstChild.style.setProperty("transform", `scaleX(${player.level(lane.id)})`),
    show() {
      const track = player.track(lane.id);
      if (track && (track.muted !== settings.muted || track.solo !== settings.solo || track.gain !== settings.gain)) return sync();
      mute.setAttribute("aria-pressed", String(settings.muted));
      solo.setAttribute("aria-pressed", String(settings.solo));
      pick.setAttribute("aria-pressed", String(player.only === lane.id));
      db.textContent = t("decibels", { n: `${settings.gain > 0 ? "+" : ""}${decimal(settings.gain)}` });
      element.classList.toggle("off", Boolean(track) && !player.isAudible(lane.id));
      return undefined;
    },
  };
  wave.addEventListener("click", (event) => {
    const share = (event.clientX - wave.getBoundingClientRect().left) / wave.clientWidth;
    wave.dispatchEvent(new CustomEvent("seekto", { bubbles: true, detail: share * all }));
  });
  view.show();
  return view;
}
