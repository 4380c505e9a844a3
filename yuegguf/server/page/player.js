// Sound of several tracks on one clock.
//
// Each track is a decoded buffer with a source node of its own, and all sources are started at one time of one
// AudioContext: they are locked to the sample. Media elements have a clock each, and drift apart.

export const RATE = 44100;
const AHEAD = 0.06; // seconds until sources begin, so that all of them are ready
const END = 0.01; // seconds before the end that count as the end

/** Decode a file to a buffer; needs no click of the user yet. */
export function decode(bytes) {
  return new OfflineAudioContext(1, 1, RATE).decodeAudioData(bytes);
}

export class Player extends EventTarget {
  #context = null;
  #tracks = new Map();
  #position = 0; // where it stands while it does not play
  #zero = 0; // time of the context at which the song's beginning lies, while it plays
  #timer = 0; // of the next look whether the end is reached
  #closed = false; // for good: what was asked for before and comes later has no effect
  state = "stopped"; // or playing, or waiting: for more of a song that grows
  growing = false;
  only = null; // the one track that is played, where they are alternatives

  constructor(signal) {
    super();
    signal.addEventListener("abort", () => this.close(), { once: true });
  }

  /** Seconds of the longest track, or of the one that is played. */
  get duration() {
    const played = this.#tracks.has(this.only) ? [this.#tracks.get(this.only)] : [...this.#tracks.values()];
    return Math.max(0, ...played.map((track) => track.buffer.duration));
  }

  get time() {
    if (this.state !== "playing") return this.#position;
    return Math.min(this.duration, Math.max(0, this.#context.currentTime - this.#zero));
  }

  /** Whether it stands at the end of all that there will be. */
  get ended() {
    return this.time >= this.duration - END && !this.growing;
  }

  track(id) {
    return this.#tracks.get(id);
  }

  /** Add a track, or give it a longer buffer while it plays: the new source begins where the old one ends. */
  set(id, buffer) {
    if (this.#closed) return;
    const track = this.#tracks.get(id) ?? { id, gain: 0, muted: false, solo: false, source: null, output: null, meter: null };
    track.buffer = buffer;
    this.#tracks.set(id, track);
    if (this.state === "playing") this.#start(track, this.#context.currentTime + AHEAD);
    this.#goOn();
    this.#changed();
  }

  async play() {
    if (this.#closed || !this.#tracks.size || this.state === "playing") return;
    this.#context ??= new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
    try {
      await this.#context.resume();
    } catch (error) {
      if (!this.#closed) throw error;
    }
    if (this.state === "playing" || this.#closed) return; // a second click, or the screen was left
    if (this.ended) this.#position = 0;
    const when = this.#context.currentTime + AHEAD;
    this.#zero = when - this.#position;
    this.state = "playing";
    for (const track of this.#tracks.values()) this.#start(track, when);
    this.#levels();
    this.#watch();
    this.#changed();
  }

  pause() {
    this.#halt("stopped", this.time);
  }

  /** Stand at a second before any track is there. */
  place(seconds) {
    this.#position = seconds;
  }

  /** Go to a second; what plays goes on from there, and stops at the end. */
  seek(seconds) {
    const again = this.state !== "stopped" && (this.growing || seconds < this.duration - END);
    this.#halt("stopped", Math.max(0, Math.min(seconds, this.duration)));
    if (again) this.play();
  }

  toggle() {
    if (this.state === "stopped") return this.play();
    return this.pause();
  }

  change(id, settings) {
    Object.assign(this.#tracks.get(id) ?? {}, settings);
    this.#levels();
    this.#changed();
  }

  choose(id) {
    this.only = id;
    this.#levels();
    this.#goOn();
    this.#changed();
  }

  isAudible(id) {
    const track = this.#tracks.get(id);
    if (!track) return false;
    if (this.only !== null) return this.only === id;
    const solo = [...this.#tracks.values()].some((each) => each.solo);
    return !track.muted && (!solo || track.solo);
  }

  /** Loudest sample of a track in what is played now, 0 to 1. */
  level(id) {
    const meter = this.#tracks.get(id)?.meter;
    if (this.state !== "playing" || !meter) return 0;
    const samples = new Float32Array(meter.fftSize);
    meter.getFloatTimeDomainData(samples);
    return Math.min(1, samples.reduce((loud, value) => Math.max(loud, Math.abs(value)), 0));
  }

  close() {
    this.#closed = true;
    this.#halt("stopped", 0);
    this.#context?.close();
    this.#context = null;
    this.#tracks.clear();
  }

  #start(track, when) {
    const context = this.#context, offset = when - this.#zero;
    track.source?.stop(when);
    if (!track.output) {
      track.output = context.createGain();
      track.meter = context.createAnalyser();
      track.output.connect(track.meter).connect(context.destination);
      track.output.gain.value = this.#gain(track);
    }
    track.source = null;
    if (offset >= track.buffer.duration) return;
    track.source = context.createBufferSource();
    track.source.buffer = track.buffer;
    track.source.connect(track.output);
    track.source.start(when, offset);
  }

  /** Play on where it waits for music that is there now. */
  #goOn() {
    if (this.state === "waiting" && this.duration > this.#position) this.play();
  }

  #levels() {
    for (const track of this.#tracks.values()) {
      track.output?.gain.setTargetAtTime(this.#gain(track), this.#context.currentTime, 0.01);
    }
  }

  #gain(track) {
    return this.isAudible(track.id) ? 10 ** (track.gain / 20) : 0;
  }

  #halt(state, position) {
    for (const track of this.#tracks.values()) {
      track.source?.stop();
      track.source = null;
    }
    this.#position = position;
    this.state = state;
    this.#changed();
  }

  #watch() {
    clearTimeout(this.#timer);
    if (this.state !== "playing") return;
    if (this.time >= this.duration) this.#halt(this.growing ? "waiting" : "stopped", this.duration);
    else this.#timer = setTimeout(() => this.#watch(), 50);
  }

  #changed() {
    if (!this.#closed) this.dispatchEvent(new Event("change"));
  }
}
