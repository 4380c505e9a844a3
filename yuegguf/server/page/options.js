// How a song is generated: few choices that everybody needs, and the others below a fold. All defaults are the server's.

import { choice, field, iconButton, make, tick } from "./dom.js";
import { known, t } from "./strings.js";

const EXPERT = ["cfg_first", "cfg_rest", "temperature", "top_p", "top_k", "repetition_penalty", "retries"];
const MOST_TAKES = 4;

export function optionsEditor(props, models, saved, changed) {
  const given = { ...saved };
  if (!hasModel(models, given.model)) delete given.model; // it was removed from the server
  const value = (name) => given[name] ?? defaultOf(props, name);
  const set = (name, chosen) => {
    if (chosen === defaultOf(props, name)) delete given[name];
    else given[name] = chosen;
    changed({ ...given });
  };
  const number = (name, attributes = {}, valueOf = Number) => {
    const input = make("input", { type: "number", step: "any", placeholder: defaultOf(props, name), value: given[name], ...attributes });
    input.addEventListener("input", () => set(name, input.value === "" ? defaultOf(props, name) : valueOf(input.value)));
    return input;
  };

  const seed = number("seed", { min: 0, step: 1, placeholder: t("option.random") }, exact);
  const dice = iconButton("dice", t("option.dice"), () => {
    seed.value = crypto.getRandomValues(new Uint32Array(1))[0];
    set("seed", Number(seed.value));
  });
  const takes = Array.from({ length: Math.min(MOST_TAKES, props.limits.candidates) }, (_, n) => [n + 1, String(n + 1)]);
  const straight = make("input", { checked: value("straight"), onchange: () => set("straight", straight.checked) });
  const model = select("model", models, value("model"), set);
  const track = choice(t("option.track"), ["both", "instrumental", "a_cappella"].map((name) => [name, t(`track.${name}`)]), value("track"), (chosen) => set("track", chosen));
  const formats = make("div", { class: "ticks", role: "group", "aria-label": t("option.formats") }, props.formats.map((name) => {
    const input = make("input", { checked: value("formats").includes(name), onchange: () => {
      const chosen = props.formats.filter((each) => (each === name ? input.checked : value("formats").includes(each)));
      if (chosen.length) set("formats", chosen);
      else input.checked = true;
    } });
    return tick(`format-${name}`, name, input);
  }));
  const title = make("input", { dir: "auto", maxlength: 200, value: given.name ?? "", placeholder: t("option.name.auto"), oninput: () => set("name", title.value.trim() || null) });

  const box = make("div", { class: "options" },
    field("name", t("option.name"), title),
    make("div", { class: "field" }, make("span", { class: "label" }, t("option.takes")), choice(t("option.takes"), takes, value("candidates"), (chosen) => set("candidates", Number(chosen))), make("p", { class: "hint" }, t("option.takes.hint"))),
    make("div", { class: "field" }, make("span", { class: "label" }, t("option.track")), track),
    models.length > 1 && field("model", t("option.model"), model),
    make("div", { class: "with-button" }, field("seed", t("option.seed"), seed, t("option.seed.hint")), dice),
    field("segment", t("option.segment"), number("segment_seconds", { min: 1, max: props.limits.section_seconds })),
    tick("straight", t("option.straight"), straight, t("option.straight.hint")),
    make("details", {}, make("summary", {}, t("option.expert")),
      make("div", { class: "grid" }, EXPERT.map((name) => field(`option-${name}`, t(`option.${name}`), number(name, { min: 0 })))),
      make("div", { class: "field" }, make("span", { class: "label" }, t("option.formats")), formats),
      field("mix", t("option.mix"), select("mix", props.mixes.map((name) => [name, known(`mix.${name}`, name)]), value("mix"), set))));
  box.value = () => bodyOf(props, given);
  return box;
}

/** Whether a model is among those that can be asked for. */
export function hasModel(models, model) {
  return models.some(([name]) => name === model);
}

/** A whole number; as a text where a number would lose digits. */
function exact(text) {
  return Number(text) <= Number.MAX_SAFE_INTEGER || !/^\d+$/.test(text) ? Number(text) : text;
}

function select(name, values, chosen, set) {
  const element = make("select", { onchange: () => set(name, element.value) },
    values.map(([value, text]) => make("option", { value, selected: value === (chosen ?? "") }, text)));
  return element;
}

/** Default of a field; those of the page itself stand for several fields of a request. */
function defaultOf(props, name) {
  const { cfg } = props.defaults;
  return { cfg_first: cfg[0], cfg_rest: cfg[1], straight: false, track: "both", model: "" }[name] ?? props.defaults[name] ?? null;
}

/** The fields of a request: what differs from the defaults. */
function bodyOf(props, given) {
  const { cfg_first, cfg_rest, straight, track, model, ...body } = given;
  if (cfg_first !== undefined || cfg_rest !== undefined) body.cfg = [cfg_first ?? props.defaults.cfg[0], cfg_rest ?? props.defaults.cfg[1]];
  if (track && track !== "both") body[track] = true;
  if (model) body.model = model;
  return { ...body, draft: straight ? props.defaults.draft : "stems" };
}

/** The options of another song's request, where they differ from the defaults. */
export function optionsLike(input, model, props) {
  const { sampling, output, track } = input;
  const silent = track && !track.file ? (track.track === "vocal" ? "instrumental" : "a_cappella") : "both";
  const all = {
    model, track: silent, segment_seconds: input.segment_seconds, retries: input.retries, formats: output.formats, mix: output.mix,
    cfg_first: sampling.guidance_first, cfg_rest: sampling.guidance_rest, temperature: sampling.temperature,
    top_p: sampling.top_p, top_k: sampling.top_k, repetition_penalty: sampling.repetition_penalty,
  };
  return Object.fromEntries(Object.entries(all).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(defaultOf(props, name))));
}
