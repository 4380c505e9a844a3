// What a reload, a second tab or a closed browser must not lose: the song that is being written.

const DRAFT = "yuegguf draft";
const DATABASE = "yuegguf", FILES = "files";

export function loadDraft() {
  try {
    return JSON.parse(localStorage.getItem(DRAFT)) || {};
  } catch {
    return {};
  }
}

export function saveDraft(draft) {
  localStorage.setItem(DRAFT, JSON.stringify(draft));
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

/** Recordings by the name of their part; where the browser keeps none, nothing. */
export async function loadFiles() {
  try {
    const names = await withFiles("readonly", (files) => files.getAllKeys());
    const found = await withFiles("readonly", (files) => files.getAll());
    return Object.fromEntries(names.map((name, n) => [name, found[n]]));
  } catch {
    return {};
  }
}

/** Keep a recording, or forget it; a browser that keeps none has it until the page is left. */
export async function saveFile(name, file) {
  try {
    await withFiles("readwrite", (files) => (file ? files.put(file, name) : files.delete(name)));
  } catch {
    // a private window: the recording is used all the same
  }
}
