// Waveforms, drawn from peaks: 0 to 1, from left to right.

export function drawPeaks(canvas, peaks, colour) {
  const ratio = devicePixelRatio || 1;
  const width = Math.max(1, Math.round(canvas.clientWidth * ratio)), height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  canvas.width = width;
  canvas.height = height;
  if (!peaks?.length) return;
  const context = canvas.getContext("2d");
  context.fillStyle = getComputedStyle(canvas).getPropertyValue(colour);
  const step = Math.max(2, Math.round(3 * ratio)), bar = Math.max(1, step - Math.round(ratio));
  for (let x = 0; x < width; x += step) {
    const first = Math.floor(x / width * peaks.length), last = Math.max(first + 1, Math.floor((x + step) / width * peaks.length));
    const tall = Math.max(ratio, Math.max(...peaks.slice(first, last)) * height * 0.94);
    context.fillRect(x, (height - tall) / 2, bar, tall);
  }
}

/** The loudest sample of each of so many parts of a decoded recording. */
export function peaksOf(buffer, points) {
  const samples = buffer.getChannelData(0), found = [];
  for (let n = 0; n < points; n++) {
    let loud = 0;
    const end = Math.floor((n + 1) * samples.length / points);
    for (let i = Math.floor(n * samples.length / points); i < end; i++) loud = Math.max(loud, Math.abs(samples[i]));
    found.push(Math.min(1, loud));
  }
  return found;
}

/** Draw again whenever the canvas has another size or the colours change, until the signal ends it. */
export function keepDrawn(canvas, draw, signal) {
  const seen = new ResizeObserver(draw);
  seen.observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw, { signal });
  signal.addEventListener("abort", () => seen.disconnect(), { once: true });
}
