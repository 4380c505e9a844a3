// What can be done with a song in its state; the same in the list and on its own screen.

import { ask, songPath } from "./api.js";
import { button, dialog, doing, make } from "./dom.js";
import { t } from "./strings.js";
import { writeLike } from "./write.js";

export const ENDED = ["succeeded", "failed", "canceled", "interrupted"];

export function isActive(song) {
  return !ENDED.includes(song.status);
}

/** The state of a song in a word, and its class: what colour it has. */
export function stateOf(song) {
  if (song.status === "succeeded") return song.draft ? ["state.draft", "draft"] : ["state.succeeded", "done"];
  if (song.status === "queued") return ["state.queued", "waiting"];
  return [`state.${song.status}`, isActive(song) ? "active" : song.status];
}

export function statePill(song) {
  const [key, kind] = stateOf(song);
  return make("span", { class: `pill ${kind}` }, t(key));
}

/** Buttons of a song: first what it needs next. `changed` is called after each of them. */
export function actionsOf(song, props, changed) {
  const post = (verb, body) => doing(async () => {
    await ask("POST", songPath(song.id, verb), body);
    await changed();
  });
  const found = [];
  if (song.resumable) found.push(button(t("song.resume"), post("resume"), { kind: "primary" }));
  if (song.draft && song.status === "succeeded" && !song.takes.length) found.push(button(t("song.refine"), post("refine"), { kind: "primary" }));
  if (isActive(song)) found.push(button(t("song.stop"), post("cancel"), { icon: "stop", title: t("song.stop.hint") }));
  if (song.queue?.position > 0) found.push(button(t("song.first"), post("move", { position: 0 }), { icon: "first" }));
  found.push(button(t("song.like"), doing(() => writeLike(song.id, props)), { kind: "quiet" }));
  if (ENDED.includes(song.status)) found.push(button(t("song.delete"), () => removeSong(song, changed), { kind: "quiet danger" }));
  return found;
}

async function removeSong(song, changed) {
  const name = song.title || song.id;
  const confirmed = await dialog(t("delete.title", { name }), make("p", {}, t("delete.about")), t("song.delete"),
    () => ask("DELETE", songPath(song.id)), "danger-fill");
  if (confirmed) await changed(true);
}
