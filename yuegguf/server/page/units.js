// Numbers for people.

import { language, t } from "./strings.js";

/** About how long something takes. */
export function duration(seconds) {
  if (seconds == null) return t("time.estimating");
  if (seconds < 90) return t("time.seconds", { n: Math.round(seconds) });
  if (seconds < 5400) return t("time.minutes", { n: Math.round(seconds / 60) });
  const minutes = Math.round(seconds / 60);
  return t("time.hours", { hours: Math.floor(minutes / 60), minutes: minutes % 60 });
}

/** A length of music: 2:07. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

export function size(bytes) {
  if (bytes == null) return t("unknown");
  const number = (value) => value.toLocaleString(language, { maximumFractionDigits: 1 });
  if (bytes < 2 ** 20) return t("size.kib", { n: Math.max(1, Math.round(bytes / 2 ** 10)) });
  return bytes < 2 ** 30 ? t("size.mib", { n: number(bytes / 2 ** 20) }) : t("size.gib", { n: number(bytes / 2 ** 30) });
}

export function decimal(value, digits = 1) {
  return value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function percent(share) {
  return t("percent", { n: Math.floor(100 * share) });
}

export function moment(iso) {
  return new Date(iso).toLocaleString(language, { dateStyle: "medium", timeStyle: "short" });
}

/** A, B, C … for the takes of a song. */
export function letter(index) {
  return String.fromCharCode(65 + index);
}
