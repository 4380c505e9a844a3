// Rows of a list that are dragged by their handles. Whatever that does, buttons do too.

import { make } from "./dom.js";

/** By what a row is dragged with a mouse. */
export function handle() {
  const hold = (held) => (event) => { event.currentTarget.closest("li").draggable = held; };
  return make("span", { class: "handle", "aria-hidden": "true", onpointerdown: hold(true), onpointerup: hold(false) }, make("span", { class: "dots" }));
}

/** Drag rows: `move` gets the row, the one whose place it comes to, and whether that is below; `end` the row and whether it was dropped. */
export function dragRows(list, move, end = () => {}) {
  let row = null;
  list.addEventListener("dragstart", (event) => {
    if (event.target.parentElement !== list) return; // some text is dragged
    row = event.target;
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", "");
    row.classList.add("dragged");
  });
  list.addEventListener("dragover", (event) => {
    const over = event.target.closest("li");
    if (!row || !over) return;
    event.preventDefault();
    const box = over.getBoundingClientRect(), lower = event.clientY > box.top + box.height / 2;
    const below = Boolean(row.compareDocumentPosition(over) & Node.DOCUMENT_POSITION_FOLLOWING);
    if (over !== row && below === lower) move(row, over, below);
  });
  list.addEventListener("dragend", (event) => {
    if (!row) return;
    const moved = row;
    row = null;
    moved.classList.remove("dragged");
    moved.draggable = false;
    end(moved, event.dataTransfer.dropEffect !== "none");
  });
}
