// What a reload, a second tab or a closed browser must not lose: the song that is being written.

const DRAFT = "yuegguf draft";
const DATABASE = "yuegguf", FILES = "files";

const memory = new Map(), recordings = {}; // of a browser that keeps nothing: until the page is left

/** A text that this browser keeps, or null. */
export function stored(name) {
  try {
    return localStorage.getItem(name) ?? memory.get(name) ?? null;
  } catch {
    return memory.get(name) ?? null;
  }
}

/** Keep a text; an empty one is forgotten. */
export function store(name, text) {
  memory.delete(name);
  try {
    if (text) localStorage.setItem(name, text);
    else localStorage.removeItem(name);
  } catch {
    memory.set(name, text); // storage is blocked or full
  }
}

export function loadDraft() {
  try {
    return JSON.parse(stored(DRAFT)) || {};
  } catch {
    return {};
  }
}

export function saveDraft(draft) {
  store(DRAFT, JSON.stringify(draft));
}

/** Begin another draft; what was written before is kept in it, as `before`, until something of it is changed. */
export function replaceDraft(draft) {
  const { before, ...old } = loadDraft();
  const written = old.tags?.length || old.lyrics?.trim() || Object.keys(old.options ?? {}).length || (old.reference?.kind ?? "none") !== "none";
  saveDraft({ ...draft, before: written ? old : before });
}

/** Call `changed` whenever another tab changed the draft. */
export function onOtherDraft(changed, signal) {
  addEventListener("storage", (event) => { if (event.key === DRAFT) changed(); }, { signal });
}

function withFiles(mode, action) {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open(DATABASE, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(FILES);
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
      const work = opening.result.transaction(FILES, mode);
      const asked = action(work.objectStore(FILES));
      work.oncomplete = () => { opening.result.close(); resolve(asked.result); };
      work.onerror = work.onabort = () => { opening.result.close(); reject(work.error); };
    };
  });
}

/** Recordings by the name of their part. */
export async function loadFiles() {
  try {
    const names = await withFiles("readonly", (files) => files.getAllKeys());
    const found = await withFiles("readonly", (files) => files.getAll());
    return Object.fromEntries(names.map((name, n) => [name, found[n]]));
  } catch {
    return { ...recordings };
  }
}

/** Keep a recording, or forget it; a browser that keeps none has it until the page is left. */
export async function saveFile(name, file) {
  try {
    await withFiles("readwrite", (files) => (file ? files.put(file, name) : files.delete(name)));
  } catch {
    if (file) recordings[name] = file;
    else delete recordings[name];
  }
}
