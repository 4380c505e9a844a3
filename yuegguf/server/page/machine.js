// The screen Machine: memory and disk, the worker, and the models.

import { ask, askHealth, hasKey, keepLooking, storeKey } from "./api.js";
import { button, card, make } from "./dom.js";
import { modelsCard } from "./models.js";
import { t } from "./strings.js";
import { size } from "./units.js";

const AGAIN = 2000; // milliseconds between two looks

export async function machineScreen(main, props, signal) {
  const models = modelsCard(props, signal);
  const facts = make("dl", { class: "facts" }), disk = make("p", { class: "hint" });
  const meter = make("meter", { min: 0, "aria-labelledby": "gauge-memory" }), memory = make("span");

  async function look() {
    const [{ machine, version, limits }, health] = await Promise.all([ask("GET", "v1/props", undefined, {}, signal), askHealth(signal)]);
    const state = health.status === "failing" ? "worker.failing" : health.processing ? "worker.busy" : "worker.idle";
    const texts = {
      "machine.cpu": t("machine.cores", { cpu: machine.cpu, n: machine.cores }),
      "machine.worker": t(state, { processing: health.processing, n: health.queue }),
      "machine.version": version,
      "machine.parallel": String(limits.parallel),
    };
    facts.replaceChildren(...Object.entries(texts).flatMap(([key, text]) => [make("dt", {}, t(key)), make("dd", {}, text)]));
    meter.max = machine.memory;
    meter.value = machine.memory - machine.memory_free;
    memory.textContent = t("machine.free", { free: size(machine.memory_free), all: size(machine.memory) });
    disk.textContent = t("machine.disk.free", { free: size(machine.disk_free) });
  }

  await Promise.all([look(), models.load(), models.look()]);
  if (signal.aborted) return;
  main.replaceChildren(make("div", { class: "machine" }, make("div", { class: "screen-head" }, make("h1", {}, t("machine.title"))),
    card(t("machine.this"), facts,
      make("div", { class: "gauge" }, make("span", { class: "label", id: "gauge-memory" }, t("machine.memory")), meter, memory),
      disk,
      hasKey() && button(t("key.forget"), () => { storeKey(""); location.reload(); }, { kind: "small" })),
    models.element));
  keepLooking(() => Promise.all([look(), models.look()]), () => (document.visibilityState === "visible" ? AGAIN : null), signal);
}
