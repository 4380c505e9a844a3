// Tasks of the server: what it does besides generating songs.

import { ask, newKey, textOf } from "./api.js";
import { known, t } from "./strings.js";
import { percent } from "./units.js";

export const ACTIVE = ["queued", "starting", "processing"];
const AGAIN = 700;

/** A function that gives the result of the task which a request with files makes; sent again after a lost answer, it is the same task. */
export function taskSender(path) {
  let key = "", before = "";
  return async (request, files, { signal, tell }) => {
    const facts = JSON.stringify([request, Object.entries(files).map(([part, file]) => [part, file.name, file.size, file.lastModified])]);
    if (facts !== before) key = newKey();
    before = facts;
    try {
      tell(t("task.sending"));
      return await resultOf(await ask("POST", path, formOf(request, files), { "Idempotency-Key": key }, signal), signal, tell);
    } catch (error) {
      if (error.status) before = ""; // it was answered: the next try is another request
      throw error;
    }
  };
}

async function resultOf(made, signal, tell) {
  let task = made;
  while (ACTIVE.includes(task.status)) {
    tell(t("progress.said", { phase: known(`state.${task.status}`, task.status), share: percent(task.progress?.done ?? 0) }));
    await new Promise((resolve) => setTimeout(resolve, AGAIN));
    task = await ask("GET", `v1/tasks/${encodeURIComponent(task.id)}`, undefined, {}, signal);
  }
  if (task.status === "succeeded") return task.result;
  throw Object.assign(new Error(task.error ? t("refused.hint", task.error) : t("state.canceled")), { status: task.status });
}

/** The body of a request with files by their parts. */
export function formOf(request, files) {
  const form = new FormData();
  form.append("request", textOf(request));
  for (const [part, file] of Object.entries(files)) form.append(part, file);
  return form;
}
