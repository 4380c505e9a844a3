// The songs of the server as far as they are known here. However many there are, a look asks for the newest and for those of the
// queues, and for those that were seen in work by another program; older ones are asked for once.

import { isActive } from "./actions.js";
import { ask, songPath } from "./api.js";

const PAGE = 100, MOST = 1000; // songs of an answer, and the most that the server gives at once

export function songList(signal) {
  let first = [], older = [], status = "", hasMore = false;
  let working = new Map(); // songs in work and waiting, by their ids

  const page = (query) => ask("GET", `v1/songs?${query}`, undefined, {}, signal);

  /** The song of an id, or null once it is deleted. */
  async function one(id) {
    try {
      return await ask("GET", songPath(id), undefined, {}, signal);
    } catch (error) {
      if (error.status === 404) return null;
      throw error;
    }
  }

  /** Put an answer for the newest songs in the place of the last one; those that it pushed out are older ones now. */
  function setFirst({ data, has_more }) {
    const last = data.at(-1), at = first.findIndex((song) => song.id === last?.id);
    if (!has_more) older = [];
    else if (at >= 0) older = [...first.slice(at + 1), ...older];
    else if (first.length && !older.some((song) => song.id === last.id)) older = []; // none of them is known
    if (!older.length) hasMore = has_more;
    first = data;
  }

  /** The songs behind the last one that is known; null without any. One that was deleted meanwhile is left out. */
  async function behind() {
    for (;;) {
      const list = older.length ? older : first;
      if (!list.length) return null;
      try {
        return await page(`limit=${PAGE}&after=${encodeURIComponent(list.at(-1).id)}${status && `&status=${status}`}`);
      } catch (error) {
        if (error.status !== 404) throw error;
        list.pop();
      }
    }
  }

  async function update(id) {
    const song = await one(id);
    if (song && isActive(song)) working.set(id, song);
    else working.delete(id);
    older = older.flatMap((each) => (each.id === id ? (song && (!status || song.status === status) ? [song] : []) : [each]));
  }

  return {
    active: () => [...working.values()].sort((a, b) => (a.queue?.position ?? -1) - (b.queue?.position ?? -1)),
    ended: () => [...new Map([...first, ...older].map((song) => [song.id, song])).values()].filter((song) => !working.has(song.id) && !isActive(song)),
    hasMore: () => hasMore,
    filter(chosen) {
      status = chosen === "all" ? "" : chosen;
      first = older = [];
    },
    async look() {
      const wanted = status;
      const [active, newest] = [await page(`limit=${MOST}&status=active`), await page(`limit=${PAGE}${wanted && `&status=${wanted}`}`)];
      if (status !== wanted) return; // another look shows what was chosen since
      const before = working;
      setFirst(newest);
      const newer = new Map([...active.data, ...first].map((song) => [song.id, song])); // the second answer is the newer one
      working = new Map([...newer].filter(([, song]) => isActive(song)));
      const seen = new Set(first.map((song) => song.id));
      for (const id of before.keys()) if (!working.has(id) && !seen.has(id)) await update(id);
    },
    async more() {
      const wanted = status, next = await behind();
      if (status !== wanted || !next) return; // they are of another status than the one chosen since
      older = [...older, ...next.data];
      for (const song of next.data.filter(isActive)) working.set(song.id, song);
      hasMore = next.has_more;
    },
    changed: update,
    /** Find those in work that are older than a page; the server opens every song for that, so it is done once. */
    async findAll() {
      for (const song of (await page(`limit=${MOST}&status=processing`)).data) if (!working.has(song.id)) working.set(song.id, song);
    },
  };
}
