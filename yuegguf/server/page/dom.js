// Elements, icons and dialogs. Text is never read as HTML.

import { t } from "./strings.js";

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  play: "M8 5v14l11-7z",
  pause: "M7 5h4v14H7zM13 5h4v14h-4z",
  stop: "M6 6h12v12H6z",
  up: "M12 6l7 8H5z",
  down: "M12 18l7-8H5z",
  copy: "M8 8h11v12H8zM5 4h11v2H7v10H5z",
  remove: "M6 5l6 6 6-6 1.5 1.5-6 6 6 6L18 20l-6-6-6 6-1.5-1.5 6-6-6-6z",
  add: "M11 5h2v6h6v2h-6v6h-2v-6H5v-2h6z",
  dice: "M5 5h14v14H5zM8 8v2.5h2.5V8zM13.5 13.5V16H16v-2.5zM13.5 8v2.5H16V8zM8 13.5V16h2.5v-2.5z",
  save: "M11 4h2v8l3-3 1.5 1.5L12 16l-5.5-5.5L8 9l3 3zM5 18h14v2H5z",
  drag: "M8 5h3v3H8zM13 5h3v3h-3zM8 10.5h3v3H8zM13 10.5h3v3h-3zM8 16h3v3H8zM13 16h3v3h-3z",
  check: "M9.5 17.5L4 12l1.5-1.5 4 4 9-9L20 7z",
  again: "M12 5a7 7 0 1 1-6.700 5h2.100A5 5 0 1 0 12 7v3L7.5 6 12 2z",
  first: "M6 5h2v14H6zM19 5v14l-10-7z",
};

/** An element with attributes and children; empty children are left out. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(2).filter((child) => child != null && child !== false));
  return element;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("icon");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  path.setAttribute("fill-rule", "evenodd");
  svg.append(path);
  return svg;
}

/** A button with words, and an icon if one is named. */
export function button(text, onclick, options = {}) {
  const { icon: name, kind = "", ...rest } = options;
  return make("button", { type: "button", class: `button ${kind}`, onclick, ...rest }, name && icon(name), make("span", {}, text));
}

/** A button that shows an icon alone; its words are for screen readers and the tooltip. */
export function iconButton(name, text, onclick, options = {}) {
  return make("button", { type: "button", class: "icon-button", "aria-label": text, title: text, onclick, ...options }, icon(name));
}

/** A labelled control; `hint` stands below it and describes it. */
export function field(id, text, control, hint = "") {
  control.id = id;
  if (hint) control.setAttribute("aria-describedby", `${id}-hint`);
  return make("div", { class: "field" }, make("label", { for: id }, text), control,
    hint && make("p", { class: "hint", id: `${id}-hint` }, hint));
}

/** A labelled checkbox. */
export function tick(id, text, input, hint = "") {
  input.id = id;
  input.type = "checkbox";
  if (hint) input.setAttribute("aria-describedby", `${id}-hint`);
  return make("div", { class: "tick" }, input, make("label", { for: id }, text),
    hint && make("p", { class: "hint", id: `${id}-hint` }, hint));
}

export function card(title, ...children) {
  const id = `card-${card.count = (card.count || 0) + 1}`;
  return make("section", { class: "card", "aria-labelledby": id }, make("h2", { id }, title), ...children);
}

/** Buttons of which one is pressed; `choose` gets the value of the one that was. */
export function choice(label, values, chosen, choose) {
  const group = make("div", { class: "choice", role: "group", "aria-label": label });
  const show = (value) => {
    for (const each of group.children) each.setAttribute("aria-pressed", String(each.dataset.value === String(value)));
  };
  for (const [value, text] of values) {
    group.append(make("button", { type: "button", "data-value": value, onclick: () => { show(value); choose(value); } }, text));
  }
  show(chosen);
  group.show = show;
  return group;
}

/** Go from one screen to another, if `from` is still shown: a late answer moves nobody who has gone on. */
export function go(from, to) {
  if (location.hash === from) location.hash = to;
}

export function announce(text) {
  const live = document.getElementById("live");
  if (live.textContent !== text) live.textContent = text;
}

/** Show a problem above the screen until it is closed; with nothing, hide it. */
export function say(problem) {
  const notice = document.getElementById("notice");
  if (problem) notice.replaceChildren(make("p", {}, problem), iconButton("remove", t("close"), () => say("")));
  else notice.replaceChildren();
  notice.hidden = !problem;
}

/** Let the browser scroll what has the focus clear of an element over an edge of the window, by its real height: the CSS length `--name`. */
export function keepClear(element, name) {
  new ResizeObserver(() => {
    document.documentElement.style.setProperty(`--${name}`, `${element.offsetHeight}px`);
    const focused = document.activeElement.closest("main *"), box = element.getBoundingClientRect(), own = focused?.getBoundingClientRect();
    if (own && !element.contains(focused) && own.bottom > box.top && own.top < box.bottom) focused.scrollIntoView({ block: "nearest" });
  }).observe(element);
}

/** A handler that shows what went wrong, and whose button takes no second click until it is done. */
export function doing(action) {
  return async (event) => {
    const pressed = event?.submitter || event?.currentTarget;
    const lock = pressed instanceof HTMLButtonElement;
    if (lock && pressed.getAttribute("aria-disabled") === "true") return;
    if (lock) pressed.setAttribute("aria-disabled", "true");
    say("");
    try {
      await action(event);
    } catch (error) {
      if (error.name !== "AbortError") say(error.message);
    } finally {
      if (lock) pressed.removeAttribute("aria-disabled");
    }
  };
}

let closeDialog = () => {};

/** Close the dialog that is open, as Cancel does: its screen was left. */
export function leaveDialog() {
  closeDialog(false);
}

/** A modal dialog; resolves to whether it was confirmed. `action` runs first, and keeps it open if it fails; it gets a signal that the dialog was closed, and `tell` for what it does. */
export function dialog(title, body, confirm, action = () => {}, kind = "primary") {
  return new Promise((resolve) => {
    const problem = make("p", { class: "problem", role: "alert", hidden: true }), status = make("p", { class: "hint", role: "status" });
    const ended = new AbortController(), submit = make("button", { class: `button ${kind}` }, confirm);
    const tell = (text) => { status.textContent = text; };
    const close = (answer) => {
      if (ended.signal.aborted) return;
      ended.abort();
      closeDialog = () => {};
      box.close();
      box.remove();
      resolve(answer);
    };
    const box = make("dialog", { "aria-labelledby": "dialog-title", oncancel: (event) => { event.preventDefault(); close(false); } },
      make("form", { method: "dialog", onsubmit: async (event) => {
        event.preventDefault();
        if (submit.getAttribute("aria-disabled")) return;
        submit.setAttribute("aria-disabled", "true");
        problem.hidden = true;
        try {
          await action({ signal: ended.signal, tell });
          close(true);
        } catch (error) {
          problem.textContent = error.message;
          problem.hidden = false;
        }
        submit.removeAttribute("aria-disabled");
        tell("");
      } },
      make("h2", { id: "dialog-title" }, title), body, problem, status,
      make("div", { class: "buttons end" },
        button(t("cancel"), () => close(false)), submit)));
    leaveDialog();
    closeDialog = close;
    document.body.append(box);
    box.showModal();
  });
}
