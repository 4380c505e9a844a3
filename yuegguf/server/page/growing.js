// A preview that is written on while it is played: only what is new is fetched.

import { bytesFrom } from "./api.js";
import { decode } from "./player.js";

const COMPARED = 4096; // bytes at the end that are fetched again, to see whether the song still begins so

export class GrowingFile {
  #path;
  #bytes = new Uint8Array(0);
  #running = false;

  constructor(path) {
    this.#path = path;
  }

  /** The whole file decoded, if it has grown or changed since the last look; else null. */
  async look(signal) {
    if (this.#running) return null;
    this.#running = true;
    try {
      const before = this.#bytes.length;
      const start = Math.max(0, before - COMPARED);
      const found = await bytesFrom(this.#path, start, signal);
      const whole = found && (found.whole || start === 0) ? found.bytes : null;
      if (whole) this.#bytes = whole;
      else if (found && this.#continues(found.bytes, start)) this.#append(found.bytes, start);
      else this.#bytes = (await bytesFrom(this.#path, 0, signal)).bytes;
      if (this.#bytes.length === before && !whole) return null;
      return await decode(withLengths(this.#bytes).buffer);
    } finally {
      this.#running = false;
    }
  }

  #continues(more, start) {
    const shared = Math.min(more.length, this.#bytes.length - start);
    if (shared < this.#bytes.length - start) return false; // it became shorter
    for (let i = 0; i < shared; i++) if (more[i] !== this.#bytes[start + i]) return false;
    return true;
  }

  #append(more, start) {
    const grown = new Uint8Array(start + more.length);
    grown.set(this.#bytes.subarray(0, start));
    grown.set(more, start);
    this.#bytes = grown;
  }
}

/** A copy of a WAV whose header says how much of it is there; the file's own may be older or newer. */
export function withLengths(bytes) {
  const copy = bytes.slice(), view = new DataView(copy.buffer);
  view.setUint32(4, copy.length - 8, true);
  for (let at = 12; at + 8 <= copy.length;) {
    const name = String.fromCharCode(...copy.subarray(at, at + 4));
    if (name === "data") {
      view.setUint32(at + 4, copy.length - at - 8, true);
      break;
    }
    at += 8 + view.getUint32(at + 4, true);
  }
  return copy;
}
