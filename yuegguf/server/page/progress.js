// Progress of a song in work: phase, share of the whole song, and the time that is left.

import { announce, make } from "./dom.js";
import { known, t } from "./strings.js";
import { duration, percent } from "./units.js";

const PHASES = ["draft", "refine", "master"];
const ANNOUNCED = 0.25; // share after which progress is read out again

export function progressCard() {
  const bar = make("progress", { max: 1, "aria-label": t("progress.whole") });
  const share = make("strong", { class: "share" }), left = make("p", { class: "left" }), note = make("p", { class: "hint" });
  const steps = PHASES.map((phase) => make("li", { "data-phase": phase }, t(`phase.${phase}`)));
  const track = make("ol", { class: "steps" }, steps);
  const element = make("section", { class: "card progress", "aria-label": t("progress"), hidden: true },
    track,
    make("div", { class: "progress-row" }, share, left), bar, note);
  let said = "";

  function showSteps(phase) {
    const at = PHASES.indexOf(phase);
    steps.forEach((step, n) => {
      step.className = n < at ? "done" : n === at ? "now" : "";
      if (n === at) step.setAttribute("aria-current", "step");
      else step.removeAttribute("aria-current");
    });
  }

  function facts(found) {
    showSteps(found.phase);
    bar.value = found.done;
    share.textContent = percent(found.done);
    left.textContent = found.eta_seconds == null ? t("progress.estimating") : t("progress.left", { time: duration(found.eta_seconds) });
    const parts = [found.note, t("progress.elapsed", { time: duration(found.elapsed_seconds) })];
    if (found.tokens_per_second) parts.push(t("progress.speed", { n: Math.round(found.tokens_per_second) }));
    note.textContent = parts.filter(Boolean).join(" · ");
    const now = `${found.phase} ${Math.floor(found.done / ANNOUNCED)}`;
    if (now !== said) announce(t("progress.said", { phase: known(`phase.${found.phase}`, found.phase), share: percent(found.done) }));
    said = now;
    document.title = t("page.progress", { share: percent(found.done) });
  }

  return {
    element, facts,
    update(song, active) {
      element.hidden = !active;
      if (!active) return;
      track.hidden = Boolean(song.task); // a remix or an import has none of these steps
      if (song.progress) return facts(song.progress);
      showSteps(song.phase);
      bar.removeAttribute("value");
      share.textContent = "";
      note.textContent = "";
      left.textContent = song.queue ? t("progress.queued", { n: song.queue.position + 1 }) : t("progress.starting");
    },
  };
}
