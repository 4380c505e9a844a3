// The screen Machine: memory and disk, the worker, and the models.

import { ask, hasKey, storeKey } from "./api.js";
import { button, card, make } from "./dom.js";
import { modelsCard } from "./models.js";
import { t } from "./strings.js";
import { size } from "./units.js";

export async function machineScreen(main, props, signal) {
  const [models, health] = await Promise.all([modelsCard(props, signal), ask("GET", "health", undefined, {}, signal)]);
  if (signal.aborted) return;
  const { machine } = props;
  const gauge = (name, free, all) => make("div", { class: "gauge" }, make("span", { class: "label", id: `gauge-${name}` }, t(`machine.${name}`)),
    make("meter", { min: 0, max: all, value: all - free, "aria-labelledby": `gauge-${name}` }),
    make("span", {}, t("machine.free", { free: size(free), all: size(all) })));
  main.replaceChildren(make("div", { class: "machine" }, make("div", { class: "screen-head" }, make("h1", {}, t("machine.title"))),
    card(t("machine.this"),
      make("dl", { class: "facts" }, ...Object.entries({
        "machine.cpu": t("machine.cores", { cpu: machine.cpu, n: machine.cores }),
        "machine.worker": t(`worker.${health.worker}`, { n: health.queue }),
        "machine.version": props.version,
        "machine.parallel": String(props.limits.parallel),
      }).flatMap(([key, text]) => [make("dt", {}, t(key)), make("dd", {}, text)])),
      gauge("memory", machine.memory_free, machine.memory),
      make("p", { class: "hint" }, t("machine.disk.free", { free: size(machine.disk_free) })),
      hasKey() && button(t("key.forget"), () => { storeKey(""); location.reload(); }, { kind: "small" })),
    models));
}
