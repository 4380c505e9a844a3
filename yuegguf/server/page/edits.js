// What makes a new song, or new files, of a song: retake, extend, rewind, remix.

import { ask, newKey, songPath } from "./api.js";
import { button, choice, dialog, field, go, make, tick } from "./dom.js";
import { withLabel } from "./lyrics.js";
import { known, t } from "./strings.js";
import { clock } from "./units.js";

const MOST_TAKES = 4;

/** A function that opens a new song from the screen that is shown now. */
function opener() {
  const here = location.hash;
  return (song) => go(here, `#/song/${encodeURIComponent(song.id)}`);
}

/** A function that makes a song which goes on from this one; asked again after a lost answer, it is the same song. */
function extender(song) {
  let key = "", before = "";
  return (body) => {
    const facts = JSON.stringify(body);
    if (facts !== before) key = newKey();
    before = facts;
    return ask("POST", songPath(song.id, "extend"), body, { "Idempotency-Key": key });
  };
}

function takesChoice(props, set) {
  const values = Array.from({ length: Math.min(MOST_TAKES, props.limits.candidates) }, (_, n) => [n + 1, String(n + 1)]);
  return make("div", { class: "field" }, make("span", { class: "label" }, t("option.takes")), choice(t("option.takes"), values, 1, (value) => set(Number(value))));
}

/** Generate section `n`, from 0, again, as a new song. */
export function retake(song, n, props) {
  const open = opener(), sent = extender(song);
  let candidates = 1;
  const last = n === song.timeline.length - 1;
  const keep = make("input", { checked: !last });
  const values = { n: n + 1, label: song.timeline[n].label };
  return dialog(t("retake.title", values), make("div", {}, make("p", {}, t("retake.about")), takesChoice(props, (value) => { candidates = value; }),
    !last && tick("keep-after", t("retake.keep"), keep, t("retake.keep.hint"))), t("retake.do"),
  async () => open(await sent({ retake: n + 1, keep_after: !last && keep.checked, candidates })));
}

/** Add sections at the end, as a new song. */
export function extend(song, props) {
  const open = opener(), sent = extender(song);
  let candidates = 1;
  const lyrics = make("textarea", { rows: 8, dir: "auto", required: true, placeholder: t("lyrics.example") });
  return dialog(t("extend.title"), make("div", {}, make("p", {}, t("extend.about")), field("more-lyrics", t("extend.lyrics"), lyrics), takesChoice(props, (value) => { candidates = value; })), t("extend.do"),
    async () => {
      const whole = `${song.input.lyrics.trim()}\n\n${withLabel(lyrics.value.trim())}\n`;
      open(await sent({ lyrics: whole, sections: "all", candidates }));
    });
}

/** Cut the song at `time` and generate what follows again, as a new song. */
export function rewind(song, time, props) {
  const open = opener(), sent = extender(song);
  let candidates = 1;
  const inside = song.timeline.findIndex((each) => time < each.start + each.seconds);
  const more = inside < song.timeline.length - 1;
  const body = { rewind: Math.round(100 * (song.seconds - time)) / 100, same_section: true, ...(more ? { sections: "all" } : {}) };
  return dialog(t("rewind.title", { time: clock(time) }), make("div", {}, make("p", {}, t("rewind.about", { time: clock(time), end: clock(song.seconds) })),
    takesChoice(props, (value) => { candidates = value; })), t("rewind.do"),
  async () => open(await sent({ ...body, candidates })));
}

/** New files of the song from its codes, in seconds: another mix, other gains and formats. */
export function remix(song, props, gains, changed) {
  const output = song.input.output;
  const mix = make("select", {}, props.mixes.map((name) => make("option", { value: name, selected: name === output.mix }, known(`mix.${name}`, name))));
  const number = (value, attributes) => make("input", { type: "number", step: 0.5, value, ...attributes });
  const vocal = number(output.vocal_gain + gains.vocals), inst = number(output.inst_gain + gains.instrumental);
  const loudness = number(output.loudness, { placeholder: t("remix.loudness.off"), max: 0 });
  const ticks = props.formats.map((name) => [name, make("input", { checked: output.formats.includes(name) })]);
  const body = () => ({
    mix: mix.value, vocal_gain: Number(vocal.value), inst_gain: Number(inst.value),
    loudness: loudness.value === "" ? null : Number(loudness.value),
    formats: ticks.filter(([, input]) => input.checked).map(([name]) => name),
  });
  return dialog(t("remix.title"), make("div", {}, make("p", {}, t("remix.about")), field("remix-mix", t("option.mix"), mix),
    make("div", { class: "grid" }, field("remix-vocal", t("remix.vocal"), vocal), field("remix-inst", t("remix.inst"), inst), field("remix-loudness", t("remix.loudness"), loudness)),
    make("div", { class: "field" }, make("span", { class: "label" }, t("option.formats")), make("div", { class: "ticks", role: "group", "aria-label": t("option.formats") }, ticks.map(([name, input]) => tick(`remix-${name}`, name, input))))),
  t("remix.do"), async () => {
    await ask("POST", songPath(song.id, "render"), body());
    await changed();
  });
}

export function editButtons(song, props, time, gains, changed) {
  const found = [button(t("extend"), () => extend(song, props), { icon: "add" })];
  const at = time();
  if (song.seconds && at > 1 && at < song.seconds - 0.5) found.push(button(t("rewind", { time: clock(at) }), () => rewind(song, at, props), { icon: "again" }));
  if (!song.draft && song.status === "succeeded") found.push(button(t("remix"), () => remix(song, props, gains(), changed)));
  return found;
}
