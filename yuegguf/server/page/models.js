// The models of the server: installed or not, pulled, verified and removed by holders of its key.

import { ask } from "./api.js";
import { button, card, dialog, doing, make } from "./dom.js";
import { known, t } from "./strings.js";
import { ACTIVE } from "./tasks.js";
import { duration, percent, size } from "./units.js";

const SHOWN = 3; // tasks that have ended and are still listed

/** The card of models: `load` shows them, `look` what is downloaded and checked. */
export function modelsCard(props, signal) {
  const tasks = make("ul", { class: "models tasks", "aria-label": t("tasks"), hidden: true }), list = make("ul", { class: "models" });
  const changing = props.key_needed;
  let key = "", before = 0;

  async function load() {
    const found = await ask("GET", "v1/models", undefined, {}, signal);
    list.replaceChildren(...found.data.map((model) => row(model)));
  }

  const post = (path) => doing(async () => {
    await ask("POST", path, {});
    await look();
  });

  function row(model) {
    const types = model.types.map((each) => t("model.type", { type: each.type, size: size(each.bytes) })).join(", ");
    const name = encodeURIComponent(model.id), own = model.role !== undefined;
    const remove = () => dialog(t("model.remove.title", { name: model.id }), make("p", {}, t("model.remove.about")), t("model.remove"), async () => {
      await ask("DELETE", `v1/models/${encodeURIComponent(model.id)}`);
      await load();
    }, "danger-fill");
    const label = (text) => ({ kind: "small", "aria-label": `${text}: ${model.id}` });
    return make("li", {}, make("div", { class: "song-words" }, make("strong", {}, model.id),
      make("p", { class: "meta" }, make("span", { class: `pill ${model.installed ? "done" : ""}` }, t(model.installed ? "model.installed" : "model.missing")),
        make("span", {}, [model.about, model.language, types].filter(Boolean).join(" · "))),
      (model.problems ?? []).map((problem) => make("p", { class: "warn" }, problem))),
    changing && own && make("div", { class: "buttons" },
      model.installed ? [button(t("model.verify"), post(`v1/models/${name}/verify`), label(t("model.verify"))), button(t("model.remove"), remove, { ...label(t("model.remove")), kind: "small quiet danger" })]
        : button(t("model.pull"), post(`v1/models/${name}/pull`), label(t("model.pull")))));
  }

  function taskRow(task) {
    const { progress } = task, active = ACTIVE.includes(task.status);
    const facts = progress && [percent(progress.done), progress.note, progress.eta_seconds == null ? "" : t("progress.left", { time: duration(progress.eta_seconds) })].filter(Boolean).join(" · ");
    return make("li", {}, make("div", { class: "song-words" }, make("strong", {}, t(`task.${task.task}`)),
      make("p", { class: "meta" }, make("span", { class: `pill ${active ? "active" : task.status === "succeeded" ? "done" : task.status}` }, known(`state.${task.status}`, task.status)), facts && make("span", {}, facts)),
      progress && make("progress", { max: 1, value: progress.done, "aria-label": t("progress.of", { name: t(`task.${task.task}`) }) }),
      task.error && make("p", { class: "problem" }, t("refused.hint", task.error))),
    active && make("div", { class: "buttons" }, button(t("song.stop"), post(`v1/pulls/${encodeURIComponent(task.id)}/cancel`), { icon: "stop", kind: "small" })));
  }

  async function look() {
    const { data } = await ask("GET", "v1/pulls", undefined, {}, signal);
    const active = data.filter((task) => ACTIVE.includes(task.status));
    const shown = [...active, ...data.filter((task) => !active.includes(task)).slice(0, SHOWN)];
    const now = JSON.stringify(shown);
    if (now !== key) tasks.replaceChildren(...shown.map(taskRow));
    key = now;
    tasks.hidden = !shown.length;
    if (active.length < before) await load();
    before = active.length;
  }

  return { load, look, element: card(t("models"), changing ? null : make("p", { class: "hint" }, t("models.key")), tasks, list) };
}
