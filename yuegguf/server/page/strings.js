// Every text of the page, by its key. Another language is another file beside strings.en.json.

let texts = {};
let plural = new Intl.PluralRules("en");
export let language = "en";

export async function loadStrings(name) {
  texts = await (await fetch(`page/strings.${name}.json`)).json();
  language = name;
  plural = new Intl.PluralRules(name);
  document.documentElement.lang = name;
}

/** The text of a key with its {values}. A count as `n` chooses between the forms one and other. */
export function t(key, values = {}) {
  const found = texts[key];
  const form = typeof found === "object" ? found[plural.select(values.n)] ?? found.other : found;
  return form.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** The text of a key, or the given one where there is none: names that only the server knows. */
export function known(key, otherwise) {
  return key in texts ? t(key) : otherwise;
}

/** Fill the texts of a document that were left to the language. */
export function fill(root) {
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = t(element.dataset.text);
  for (const element of root.querySelectorAll("[data-label]")) element.setAttribute("aria-label", t(element.dataset.label));
}
