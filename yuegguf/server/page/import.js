// Songs of other tools, and recordings of both tracks, as songs of this server.

import { choice, dialog, field, go, make, tick } from "./dom.js";
import { filePlace } from "./files.js";
import { t } from "./strings.js";
import { taskSender } from "./tasks.js";

const PARTS = { project: ["project"], zip: ["zip"], pair: ["vtrack", "itrack"], stems: ["vocal_stem", "inst_stem"] };
const TYPES = { project: ".json", zip: ".zip", pair: ".npy", stems: "audio/*" };

export function importSong(props) {
  const here = location.hash, send = taskSender("v1/import"), files = {}, places = make("div", { class: "reference-body" });
  let kind = "project";
  const show = (chosen) => {
    kind = chosen;
    places.replaceChildren(...PARTS[kind].map((part) => filePlace(part, files[part], props.limits.upload_bytes, (file) => {
      files[part] = file;
      show(kind);
    }, TYPES[kind])));
  };
  const line = (attributes) => make("input", { dir: "auto", autocomplete: "off", ...attributes });
  const title = line({ maxlength: 200 }), genre = line({ maxlength: props.limits.genre_chars }), at = line({ inputmode: "decimal" });
  const lyrics = make("textarea", { dir: "auto", rows: 4, placeholder: t("lyrics.example") }), finish = make("input", { checked: true });
  const request = () => ({
    finish: finish.checked, at: (at.value.match(/[\d.]+/g) ?? []).map(Number), name: title.value.trim() || null,
    genre: genre.value.trim() || null, lyrics: lyrics.value.trim() || null,
  });
  show(kind);
  return dialog(t("import.title"), make("div", {}, make("p", {}, t("import.about")),
    choice(t("import.title"), Object.keys(PARTS).map((name) => [name, t(`import.${name}`)]), kind, show), places,
    field("import-name", t("option.name"), title), field("import-genre", t("import.genre"), genre, t("import.genre.hint")),
    field("import-lyrics", t("import.lyrics"), lyrics), field("import-at", t("import.at"), at), tick("import-finish", t("import.finish"), finish, t("import.finish.hint"))),
  t("import"), async (running) => {
    const sent = Object.fromEntries(PARTS[kind].map((part) => [part, files[part]]));
    if (!Object.values(sent).every(Boolean)) throw new Error(t("import.need"));
    const { song } = await send(request(), sent, running);
    go(here, `#/song/${encodeURIComponent(song)}`);
  });
}
