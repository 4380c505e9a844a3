// Places for files that are sent with a request.

import { iconButton, make } from "./dom.js";
import { t } from "./strings.js";
import { size } from "./units.js";

/** A place for the file of a part: one is chosen or dropped there, or removed. `take` gets it, or null, and shows the place anew. */
export function filePlace(part, file, limit, take, accept = "audio/*") {
  const id = `file-${part}`, problem = make("p", { class: "problem", role: "alert", hidden: true }, t("reference.large", { size: size(limit) }));
  const put = async (chosen) => {
    problem.hidden = !chosen || chosen.size <= limit;
    if (!problem.hidden) return;
    await take(chosen);
    document.getElementById(id)?.focus(); // what had the focus was replaced
  };
  if (file) {
    return make("div", { class: "file" }, make("span", { class: "file-name", dir: "auto" }, t(`part.${part}`), make("small", {}, t("reference.file", { name: file.name, size: size(file.size) }))),
      iconButton("remove", t("reference.remove", { name: file.name }), () => put(null), { id }));
  }
  const input = make("input", { id, type: "file", accept, class: "unseen", onchange: () => input.files[0] && put(input.files[0]) });
  const zone = make("label", { class: "drop", for: id }, make("strong", {}, t(`part.${part}`)), make("span", {}, t("reference.drop")));
  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    if (event.dataTransfer.files[0]) put(event.dataTransfer.files[0]);
  });
  return make("div", { class: "drop-box" }, input, zone, problem);
}
