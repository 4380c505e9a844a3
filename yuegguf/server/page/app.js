// The page: three screens and that of a song. The address holds the state, the server everything else.

const main = document.getElementById("main");
const live = document.getElementById("live");
const notice = document.getElementById("notice");
const KEY = "yuegguf key";
const ENDED = ["succeeded", "failed", "canceled", "interrupted"];
let follow = null; // AbortController of the screen that is shown
let props = null;

/** An element with attributes and children; text is never read as HTML. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** Show a screen; empty parts are left out. */
function screen(...parts) {
  main.replaceChildren(...parts.filter((part) => part != null));
}

function say(problem) {
  notice.textContent = problem;
  notice.hidden = !problem;
}

function headers(more = {}) {
  const key = localStorage.getItem(KEY);
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

/** The JSON of an answer. Throws an Error with the server's sentence. */
async function ask(method, path, body, more = {}) {
  const options = { method, headers: headers(more), signal: more.signal };
  if (body instanceof FormData) options.body = body;
  else if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer; every song on its disk is safe.");
  }
  const found = await answer.json();
  if (answer.status === 401) askForKey();
  if (!answer.ok) throw new Error(`${found.error.message}; ${found.error.hint}`);
  return found;
}

function askForKey() {
  const input = make("input", { id: "key", type: "password", autocomplete: "off" });
  main.replaceChildren(
    make("form", {
      onsubmit: (event) => {
        event.preventDefault();
        localStorage.setItem(KEY, input.value.trim());
        show();
      },
    }, make("label", { for: "key" }, "Key of this server"), input, make("button", { class: "main" }, "Use it")),
  );
  input.focus();
}

/** Call an action of a button, and show what went wrong. */
function doing(action) {
  return async () => {
    say("");
    try {
      await action();
    } catch (error) {
      if (error.name !== "AbortError") say(error.message);
    }
  };
}

function minutes(seconds) {
  if (seconds == null) return "estimating";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function size(bytes) {
  return bytes == null ? "unknown" : `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

// Write

function field(id, title, input) {
  input.id = id;
  return make("div", {}, make("label", { for: id }, title), input);
}

function writeScreen() {
  const saved = JSON.parse(sessionStorage.getItem("draft") || "{}");
  const genre = make("input", { maxlength: props.limits.genre_chars, required: true });
  const lyrics = make("textarea", { spellcheck: true, placeholder: "[verse]\n…\n\n[chorus]\n…" });
  genre.value = saved.genre || "";
  lyrics.value = saved.lyrics || "";
  const remember = () =>
    sessionStorage.setItem("draft", JSON.stringify({ genre: genre.value, lyrics: lyrics.value }));
  genre.addEventListener("input", remember);
  lyrics.addEventListener("input", remember);
  const seconds = make("input", { type: "number", min: 1, max: 150, value: props.defaults.segment_seconds });
  const takes = make("input", { type: "number", min: 1, max: props.limits.candidates, value: props.defaults.candidates });
  const seed = make("input", { type: "number", min: 0, placeholder: "random" });
  const format = make("select", {}, ...props.formats.map((name) => make("option", {}, name)));
  const reference = make("input", { type: "file", accept: "audio/*" });
  const start = make("input", { type: "number", min: 0, value: props.defaults.ref_start });
  const draft = make("input", { type: "checkbox" });
  const result = make("div", { role: "status" });

  const body = () => ({
    genre: genre.value,
    lyrics: lyrics.value,
    segment_seconds: Number(seconds.value),
    candidates: Number(takes.value),
    seed: seed.value === "" ? null : Number(seed.value),
    formats: [format.value],
    draft: draft.checked ? "mix" : "",
    ref_start: Number(start.value),
    ref_end: Number(start.value) + 30,
  });
  const sent = () => {
    const [file] = reference.files;
    if (!file) return body();
    if (file.size > props.limits.upload_bytes) throw new Error(`The recording has more than ${size(props.limits.upload_bytes)}.`);
    const form = new FormData();
    form.append("request", JSON.stringify(body()));
    form.append("ref", file);
    return form;
  };
  let key = crypto.randomUUID ? crypto.randomUUID() : String(Math.random()).slice(2);
  const create = doing(async () => {
    const song = await ask("POST", "v1/songs", sent(), { "Idempotency-Key": key });
    sessionStorage.removeItem("draft");
    location.hash = `#/song/${encodeURIComponent(song.id)}`;
  });
  const check = doing(async () => {
    key = crypto.randomUUID ? crypto.randomUUID() : String(Math.random()).slice(2);
    const found = await ask("POST", "v1/check", sent());
    const total = Object.values(found.seconds).reduce((a, b) => a + b, 0);
    result.replaceChildren(
      make("p", {}, `${found.sections.length} sections · at most ${minutes(found.music)} of music · ready in at most ${minutes(total)}`),
      make("ul", {}, ...found.sections.map((each) =>
        make("li", { class: each.advice ? "warn" : "" }, `[${each.label}] ${each.seconds} s, ${each.verdict}${each.advice ? `; ${each.advice}` : ""}`))),
      ...found.warnings.map((text) => make("p", { class: "warn" }, text)),
    );
  });
  const words = () => genre.value.split(/[\s,]+/).filter(Boolean);
  const chips = props.tags.map((tag) => {
    const chip = make("button", { type: "button", "aria-pressed": String(words().includes(tag)) }, tag);
    chip.addEventListener("click", () => {
      const has = words().includes(tag);
      genre.value = has ? words().filter((word) => word !== tag).join(" ") : [...words(), tag].join(" ");
      chip.setAttribute("aria-pressed", String(!has));
      remember();
    });
    return chip;
  });
  main.replaceChildren(make("form", { onsubmit: (event) => { event.preventDefault(); create(); } },
    make("h2", {}, "Write"),
    field("genre", "Tags: genre, instrument, mood, gender, timbre", genre),
    make("details", {}, make("summary", {}, "Tags that the model knows"), make("div", { class: "chips" }, ...chips)),
    field("lyrics", "Lyrics, with [section] lines", lyrics),
    make("div", { class: "row" },
      field("seconds", "Longest section, s", seconds), field("takes", "Takes", takes),
      field("seed", "Seed", seed), field("format", "Format", format)),
    make("div", { class: "row" },
      field("reference", "Style reference", reference), field("start", "begins at, s", start)),
    make("label", {}, "Draft only: listen before the long part"), draft,
    make("div", {}, make("button", { class: "main" }, "Make it"),
      make("button", { type: "button", onclick: check }, "Check it")),
    result));
  draft.setAttribute("aria-label", "Draft only");
}

// Songs

function act(song, verb, title, body) {
  return make("button", { onclick: doing(async () => {
    await ask("POST", `v1/songs/${encodeURIComponent(song.id)}/${verb}`, body);
    await show();
  }) }, title);
}

function buttons(song) {
  const found = [];
  if (["queued", "processing", "starting"].includes(song.status)) found.push(act(song, "cancel", "Stop (keeps everything)"));
  if (song.queue && song.queue.position > 0) found.push(act(song, "move", "First in the queue", { position: 0 }));
  if (song.resumable) found.push(act(song, "resume", "Go on"));
  if (song.draft && !song.takes.length) found.push(act(song, "refine", "Refine now"));
  if (ENDED.includes(song.status)) {
    found.push(make("button", { onclick: doing(async () => {
      if (!confirm(`Delete ${song.title || song.id} with all its files?`)) return;
      await ask("DELETE", `v1/songs/${encodeURIComponent(song.id)}`);
      location.hash = "#/songs";
      await show();
    }) }, "Delete"));
  }
  return found;
}

function summary(song) {
  const place = song.queue ? `, ${song.queue.position + 1}. in the queue` : "";
  const length = song.seconds == null ? "" : ` · ${song.seconds.toFixed(1)} s`;
  return `${song.status}${place}${song.draft ? " (draft)" : ""}${length} · seed ${song.seed ?? "?"}`;
}

async function songsScreen() {
  const found = await ask("GET", "v1/songs?limit=200");
  screen(make("h2", {}, "Songs"),
    found.data.length ? make("ul", { class: "songs" }, ...found.data.map((song) => make("li", {},
      make("a", { href: `#/song/${encodeURIComponent(song.id)}` }, song.title || song.id),
      make("div", { class: "small" }, `${summary(song)} · ${new Date(song.created_at).toLocaleString()}`),
      make("div", {}, ...buttons(song))))) : make("p", {}, "There is no song yet."));
}

// Song

function drawPeaks(canvas, peaks) {
  const context = canvas.getContext("2d");
  canvas.width = peaks.length;
  canvas.height = 64;
  context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
  peaks.forEach((peak, x) => context.fillRect(x, 32 - 31 * peak, 1, 1 + 62 * peak));
}

function player(song, file, signal) {
  const canvas = make("canvas", { "aria-hidden": "true" });
  const audio = make("audio", { controls: true, preload: "none", src: file.url, "aria-label": file.name });
  const save = `${file.url}${file.url.includes("?") ? "&" : "?"}download=1`;
  ask("GET", `v1/songs/${encodeURIComponent(song.id)}/peaks?name=${encodeURIComponent(file.name)}`, undefined, { signal })
    .then((found) => drawPeaks(canvas, found.peaks), () => canvas.remove());
  return make("section", {}, make("h3", {}, file.name), canvas, audio,
    make("a", { href: save, download: true }, `Download ${file.name} (${Math.ceil(file.bytes / 1024)} KiB)`));
}

async function songScreen(id, signal) {
  const song = await ask("GET", `v1/songs/${encodeURIComponent(id)}`, undefined, { signal });
  const bar = make("progress", { max: 1, "aria-label": "Progress of the whole song" });
  const words = make("p", {});
  const box = make("section", { "aria-label": "Progress" }, bar, words);
  const showProgress = (facts) => {
    bar.value = facts.done;
    words.textContent = `${facts.phase} (${facts.phase_index} of ${facts.phases}), ${Math.floor(100 * facts.done)} % · ${facts.note} · ${minutes(facts.elapsed_seconds)} so far, ${facts.eta_seconds == null ? "estimating" : `about ${minutes(facts.eta_seconds)} left`}`;
  };
  if (song.progress) showProgress(song.progress);
  const working = !ENDED.includes(song.status);
  const retakes = song.status === "succeeded" && song.sections && !song.takes.length
    ? [make("h3", {}, "Generate a section again"), ...Array.from({ length: song.sections }, (_, n) =>
      make("button", { onclick: doing(async () => {
        const made = await ask("POST", `v1/songs/${encodeURIComponent(id)}/extend`, { retake: n + 1, keep_after: n + 1 < song.sections });
        location.hash = `#/song/${encodeURIComponent(made.id)}`;
      }) }, `Retake ${n + 1}`))] : [];
  screen(make("h2", {}, song.title || song.id), make("p", { class: "small" }, summary(song)),
    working ? box : null,
    song.error ? make("p", { class: "warn" }, `${song.error.message}; ${song.error.hint || ""}`) : null,
    ...song.warnings.map((text) => make("p", { class: "warn" }, text)),
    ...Object.entries(song.faults).map(([n, fault]) => make("p", { class: "warn" }, `section ${n}: ${fault}`)),
    make("div", {}, ...buttons(song)),
    ...song.takes.map((take, n) => make("p", {}, make("a", { href: `#/song/${encodeURIComponent(take)}` }, `Take ${n + 1}`), " ",
      act(song, "keep", `Keep take ${n + 1}`, { takes: [Number(take.split("-").pop())] }))),
    ...song.files.map((file) => player(song, file, signal)), ...retakes,
    song.input ? make("details", {}, make("summary", {}, "Request"), make("pre", {}, JSON.stringify(song.input, null, 1))) : null);
  followSong(id, signal, showProgress);
}

/** Follow the events of a song; a lost connection is made again and goes on where it was. */
async function followSong(id, signal, showProgress) {
  let last = "", first = true;
  while (!signal.aborted) {
    try {
      const options = { headers: headers(last ? { "Last-Event-ID": last } : {}), signal };
      const answer = await fetch(`v1/songs/${encodeURIComponent(id)}/events`, options);
      if (!answer.ok) return;
      say("");
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let text = ""; ;) {
        const { value, done } = await reader.read();
        if (done) break;
        text += value;
        for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
          const fields = Object.fromEntries(text.slice(0, end).split("\n").map((line) => line.split(/: (.*)/s).slice(0, 2)));
          if (!fields.event) continue;
          last = fields.id;
          const data = JSON.parse(fields.data);
          if (fields.event === "progress") showProgress(data);
          else if (fields.event === "status" && first) first = false;
          else {
            live.textContent = `${fields.event}: ${data.status || data.message}`;
            return show();
          }
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      say("The connection is lost; the song goes on. Trying again …");
    }
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}

// Machine

async function machineScreen() {
  const [found, health] = await Promise.all([ask("GET", "v1/models"), ask("GET", "health")]);
  const machine = props.machine;
  screen(make("h2", {}, "Machine"),
    make("p", {}, `yuegguf ${props.version} · ${machine.cpu}, ${machine.cores} cores · memory ${size(machine.memory_free)} free of ${size(machine.memory)} · disk ${size(machine.disk_free)} free · worker ${health.worker}, ${health.queue} waiting`),
    make("table", {}, make("thead", {}, make("tr", {}, ...["Model", "Language", "Installed"].map((name) => make("th", { scope: "col" }, name)))),
      make("tbody", {}, ...found.data.map((model) => make("tr", {}, make("td", {}, model.id), make("td", {}, model.language || ""),
        make("td", {}, model.types.map((each) => `${each.type} (${size(each.bytes)})`).join(", ") || (model.installed ? "yes" : `no: yuegguf pull ${model.id}`)))))));
}

async function show() {
  if (follow) follow.abort();
  follow = new AbortController();
  const [, name = "write", id = ""] = location.hash.split("/");
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  await doing(async () => {
    props = await ask("GET", "v1/props");
    if (name === "song") await songScreen(decodeURIComponent(id), follow.signal);
    else if (name === "songs") await songsScreen();
    else if (name === "machine") await machineScreen();
    else writeScreen();
  })();
}

if (location.hash.startsWith("#key=")) {
  localStorage.setItem(KEY, decodeURIComponent(location.hash.slice(5)));
  history.replaceState(null, "", "#/write");
}
addEventListener("hashchange", show);
show();
