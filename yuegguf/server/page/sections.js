// Lyrics as cards of sections, each with its length and how its words fit; or as plain text.

import { announce, button, choice, iconButton, make } from "./dom.js";
import { dragRows, handle } from "./drag.js";
import { cardsOf, hasSections, textOf } from "./lyrics.js";
import { known, t } from "./strings.js";
import { decimal } from "./units.js";

const LABELS = ["intro", "verse", "pre-chorus", "chorus", "bridge", "solo", "outro"];
let count = 0;

/** The editor of lyrics; `changed` gets the whole text after each change. */
export function lyricsEditor(text, limit, changed) {
  let plain = false, cards = [];
  const list = make("ol", { class: "sections", "aria-label": t("sections") });
  const area = make("textarea", { id: "lyrics-text", dir: "auto", class: "plain", spellcheck: true, placeholder: t("lyrics.example"), "aria-label": t("lyrics.title"), hidden: true });
  const adding = make("div", { class: "adding", role: "group", "aria-label": t("section.add") },
    LABELS.map((label) => button(known(`label.${label}`, label), () => insert({ label, lines: "", seconds: null }), { icon: "add", kind: "small" })));
  const empty = make("div", { class: "empty" }, make("p", {}, t("lyrics.empty")),
    make("textarea", { class: "paste", dir: "auto", rows: 4, "aria-label": t("lyrics.paste"), placeholder: t("lyrics.example"), oninput: (event) => read(event.target.value), onpaste: (event) => {
      event.preventDefault();
      read(event.clipboardData.getData("text"));
    } }));

  const value = () => (plain ? area.value : textOf(cards.map((card) => card.value())));
  const edited = () => { renumber(); changed(value()); };

  function renumber() {
    cards.forEach((card, n) => card.number(n + 1, cards.length));
    empty.hidden = plain || cards.length > 0;
  }

  function build(facts) {
    const card = sectionCard(facts, limit, {
      edited, // the buttons are named by the label
      move: (by) => {
        const at = cards.indexOf(card), to = at + by;
        if (to < 0 || to >= cards.length) return;
        place(card, to);
        announce(t("section.moved", { n: to + 1, all: cards.length }));
      },
      copy: () => insert(card.value(), cards.indexOf(card) + 1),
      remove: () => {
        const at = cards.indexOf(card);
        cards.splice(at, 1);
        card.element.remove();
        edited();
        (cards[Math.min(at, cards.length - 1)]?.area ?? adding.querySelector("button")).focus();
      },
      split: (lines) => {
        const found = cardsOf(lines), at = cards.indexOf(card);
        if (card.area.value.trim()) return found.forEach((facts, n) => insert(facts, at + 1 + n));
        card.element.remove();
        cards.splice(at, 1);
        return found.forEach((facts, n) => insert(facts, at + n));
      },
    });
    return card;
  }

  const indexOf = (row) => cards.findIndex((card) => card.element === row);
  dragRows(list, (row, over) => place(cards[indexOf(row)], indexOf(over)));

  function place(card, to) {
    const focused = document.activeElement;
    cards.splice(cards.indexOf(card), 1);
    cards.splice(to, 0, card);
    list.insertBefore(card.element, cards[to + 1]?.element ?? null);
    if (card.element.contains(focused)) focused.focus();
    edited();
  }

  function insert(facts, at = cards.length) {
    const card = build(facts);
    cards.splice(at, 0, card);
    list.insertBefore(card.element, cards[at + 1]?.element ?? null);
    card.grow();
    edited();
    card.area.focus();
  }

  function read(lyrics) {
    if (!lyrics.trim()) return;
    set(lyrics);
    changed(value());
    cards.at(-1)?.area.focus();
  }

  function set(lyrics) {
    area.value = lyrics;
    empty.querySelector("textarea").value = "";
    cards = cardsOf(lyrics).map(build);
    list.replaceChildren(...cards.map((card) => card.element));
    for (const card of cards) card.grow();
    renumber();
  }

  const mode = choice(t("lyrics.as"), [["cards", t("lyrics.cards")], ["text", t("lyrics.text")]], "cards", (chosen) => {
    const lyrics = value();
    plain = chosen === "text";
    set(lyrics);
    list.hidden = adding.hidden = plain;
    area.hidden = !plain;
  });
  area.addEventListener("input", () => changed(area.value));
  set(text);
  const box = make("div", { class: "lyrics" }, mode, empty, list, area, adding);
  box.set = set;
  box.showFit = (fits) => {
    const whole = fits && fits.length === cards.length;
    cards.forEach((card, n) => card.fit(whole ? fits[n] : null));
  };
  box.grow = () => cards.forEach((card) => card.grow());
  return box;
}

function sectionCard(facts, limit, on) {
  const id = `section-${++count}`;
  const label = make("input", { id: `${id}-label`, dir: "auto", class: "label", list: "labels", value: facts.label, maxlength: 40, autocomplete: "off" });
  const area = make("textarea", { id: `${id}-lines`, dir: "auto", rows: 1, spellcheck: true, placeholder: t("section.placeholder") });
  const seconds = make("input", { id: `${id}-seconds`, type: "number", min: 1, max: limit, step: "any", value: facts.seconds, placeholder: t("section.auto") });
  const title = make("h3", { class: "unseen", id: `${id}-title` });
  const fill = make("span"), words = make("span", { class: "fit-text" }), advice = make("p", { class: "advice", hidden: true });
  const fit = make("div", { class: "fit", hidden: true }, make("div", { class: "fit-bar", "aria-hidden": "true" }, fill), words);
  area.value = facts.lines;
  const up = iconButton("up", "", () => on.move(-1)), down = iconButton("down", "", () => on.move(1));
  const copy = iconButton("copy", "", on.copy), remove = iconButton("remove", "", on.remove);
  const element = make("li", { class: "section-card", "aria-labelledby": `${id}-title` }, title,
    make("div", { class: "section-head" }, handle(),
      make("label", { class: "unseen", for: label.id }, t("section.label")), label,
      make("label", { class: "unseen", for: seconds.id }, t("section.seconds")), make("span", { class: "with-unit" }, seconds, make("span", { "aria-hidden": "true" }, t("seconds.unit"))),
      make("span", { class: "section-buttons" }, up, down, copy, remove)),
    make("label", { class: "unseen", for: area.id }, t("section.lines")), area, fit, advice);

  const labelOf = () => label.value.trim() || "verse";
  const grow = () => {
    area.style.setProperty("height", "auto");
    if (area.scrollHeight) area.style.setProperty("height", `${area.scrollHeight + 2}px`);
  };
  for (const input of [label, seconds]) input.addEventListener("input", on.edited);
  area.addEventListener("input", () => { grow(); on.edited(); });
  area.addEventListener("paste", (event) => {
    const pasted = event.clipboardData.getData("text");
    if (!hasSections(pasted)) return;
    event.preventDefault();
    on.split(pasted);
  });
  return {
    element, area, grow,
    value: () => ({ label: labelOf(), lines: area.value, seconds: Number(seconds.value) || null }),
    number(n, all) {
      const values = { n, all, label: labelOf() };
      title.textContent = t("section.title", values);
      for (const [each, key] of [[up, "section.up"], [down, "section.down"], [copy, "section.copy"], [remove, "section.remove"]]) {
        each.setAttribute("aria-label", t(key, values));
        each.title = t(key, values);
      }
      up.disabled = n === 1;
      down.disabled = n === all;
    },
    fit(found) {
      fit.hidden = !found;
      advice.hidden = !found?.advice;
      if (!found) return;
      const key = found.verdict.replace(" ", "-");
      element.dataset.fit = key;
      fill.style.setProperty("width", `${Math.min(100, 100 * found.likely_seconds / found.seconds)}%`);
      words.textContent = t(found.syllables ? "fit.words" : "fit.instrumental", {
        likely: Math.round(found.likely_seconds), seconds: Math.round(found.seconds), pace: decimal(found.pace), verdict: known(`fit.${key}`, found.verdict) });
      advice.textContent = found.advice;
    },
  };
}

/** The labels that every section may choose among. */
export function labelList() {
  return make("datalist", { id: "labels" }, LABELS.map((label) => make("option", { value: label })));
}
