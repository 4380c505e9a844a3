// The tags of a song: chosen chips, words of one's own, and the tags that the model knows, by kind.

import { iconButton, make } from "./dom.js";
import { known, t } from "./strings.js";

const FEW = 5;

/** Tags in a text of them, the longest known ones first; other words stay single. */
export function splitTags(text, kinds) {
  const all = new Set(Object.values(kinds).flat());
  const words = text.split(/[\s,;]+/).filter(Boolean), found = [];
  for (let at = 0; at < words.length;) {
    let many = Math.min(4, words.length - at);
    while (many > 1 && !all.has(words.slice(at, at + many).join(" ").toLowerCase())) many--;
    found.push(words.slice(at, at + many).join(" "));
    at += many;
  }
  return [...new Set(found)];
}

export function tagPicker(kinds, chosen, limit, changed) {
  let tags = [...chosen];
  const list = make("ul", { class: "chosen", "aria-label": t("tags.chosen") });
  const input = make("input", { id: "tag", dir: "auto", list: "known-tags", autocomplete: "off", autocapitalize: "off", maxlength: limit, placeholder: t("tags.placeholder") });
  const rows = Object.entries(kinds).map(([kind, all]) => kindRow(kind, all, toggle));

  function toggle(tag) {
    const has = tags.includes(tag);
    if (!has && [...tags, tag].join(" ").length > limit) return;
    tags = has ? tags.filter((each) => each !== tag) : [...tags, tag];
    show();
    changed(tags);
  }

  function add() {
    for (const tag of splitTags(input.value, kinds)) if (!tags.includes(tag)) toggle(tag);
    input.value = "";
  }

  function show() {
    list.replaceChildren(...tags.map((tag) => make("li", { class: "chip on", dir: "auto" }, tag,
      iconButton("remove", t("tags.remove", { tag }), () => { toggle(tag); input.focus(); }))));
    list.hidden = !tags.length;
    for (const row of rows) row.show(tags);
    covered.textContent = t("tags.covered", { n: rows.filter((row) => row.covered(tags)).length, all: rows.length });
  }

  input.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "Enter" || event.key === ",") {
      event.preventDefault();
      add();
    } else if (event.key === "Backspace" && !input.value && tags.length) toggle(tags.at(-1));
  });
  input.addEventListener("blur", add);
  const covered = make("p", { class: "hint", id: "tags-covered" });
  const box = make("div", { class: "tags" },
    make("label", { for: "tag" }, t("tags.label")),
    make("div", { class: "tag-box", onclick: (event) => { if (event.target === event.currentTarget) input.focus(); } }, list, input),
    make("datalist", { id: "known-tags" }, Object.values(kinds).flat().map((tag) => make("option", { value: tag }))),
    covered, ...rows.map((row) => row.element));
  input.setAttribute("aria-describedby", "tags-covered");
  box.set = (others) => { tags = [...others]; show(); };
  box.finish = add;
  show();
  return box;
}

/** A row of the commonest tags of a kind, and a button for the others. */
function kindRow(kind, all, toggle) {
  const name = known(`kind.${kind}`, kind);
  const chips = make("div", { class: "chips" });
  const mark = make("span", { class: "kind-mark" });
  let open = false, current = [];
  const chip = (tag) => make("button", { type: "button", class: "chip", "aria-pressed": String(current.includes(tag)), "data-tag": tag, onclick: () => toggle(tag) }, tag);
  const more = make("button", { type: "button", class: "chip more", "aria-expanded": "false", onclick: () => { open = !open; fill(); more.focus(); } });

  function fill() {
    const shown = open ? all : all.slice(0, FEW);
    more.textContent = open ? t("tags.fewer") : t("tags.more", { n: all.length - FEW });
    more.setAttribute("aria-expanded", String(open));
    more.setAttribute("aria-label", open ? t("tags.fewer.kind", { kind: name }) : t("tags.more.kind", { n: all.length - FEW, kind: name }));
    chips.replaceChildren(...shown.map(chip), ...(all.length > FEW ? [more] : []));
  }

  const covered = (tags) => tags.some((tag) => all.includes(tag.toLowerCase()));
  fill();
  return {
    element: make("div", { class: "kind", role: "group", "aria-label": name }, make("span", { class: "kind-name" }, mark, name), chips),
    covered,
    show(tags) {
      current = tags;
      mark.classList.toggle("on", covered(tags));
      for (const each of chips.querySelectorAll("[data-tag]")) each.setAttribute("aria-pressed", String(tags.includes(each.dataset.tag)));
    },
  };
}
