"""A picture of a song or its draft: sections, waveform, and the mel spectrograms of both tracks."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yuegguf.audio.recording import read_audio
from yuegguf.audio.spectra import hertz_to_mel, mel_filters
from yuegguf.errors import RequestError, YueError
from yuegguf.exchange.finished_song import TimedSong, open_finished
from yuegguf.exchange.peaks import write_peaks
from yuegguf.files.atomic import replacing
from yuegguf.request.song_request import Song

SIZE_INCHES, DOTS_PER_INCH = (11.0, 6.5), 100
"""Size of the picture and dots per inch."""
FFT_WINDOW, MAX_HZ = 2048, 16_000
"""Samples of a spectrum; highest frequency drawn."""
MEL_BANDS = 96
HZ_TICKS = (100, 500, 1000, 2000, 4000, 8000)
MIN_DB, MAX_DB = -100.0, -30.0
LYRIC_CHARS = 180
"""Letters of the lyrics that have room side by side."""
MAX_COLUMNS = 2200
"""Most columns of a spectrogram: two per dot."""


def plot_song(folder: Path, out: Path) -> Path:
    """Write `out`, a PNG (or PDF, SVG by its ending) of the song in `folder`; a .json gets its peaks.

    Raises RequestError when there is no finished song or draft, or no matplotlib,
    StorageError.
    """
    shown = open_finished(folder)
    if out.suffix.lower() == ".json":
        write_peaks(shown, out)
        return out
    figure = _figure()
    _check_extension(figure, out)
    _draw(figure, shown)
    with replacing(out) as beside, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # letters that its font has not become boxes
        try:
            figure.savefig(beside, dpi=DOTS_PER_INCH)
        except ValueError as error:
            hint = "check its fonts, and let a process open more files: ulimit -n 1024"
            raise YueError(f"matplotlib could not draw {out.name} ({error})", hint) from error
    return out


def _draw(figure: Any, shown: TimedSong) -> None:
    """Sections, lyrics, waveform of the mix, and a spectrogram of each stem (or of the mix alone)."""
    song = shown.song
    mix, rate = read_audio(shown.tracks["mix"])
    stems = [(name, *read_audio(file)) for name, file in shown.tracks.items() if name != "mix"]
    spectra: list[tuple[str, NDArray[np.float32], int]]
    spectra = [*stems] or [("draft" if song.draft else "mix", mix, rate)]
    heights = [0.25, 0.2, 1, *[1.6] * len(spectra)]
    rows = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    _draw_sections(rows[0], song)
    _draw_lyrics(rows[1], shown)
    _draw_wave(rows[2], mix, rate, song)
    for axes, (name, wave, stem_rate) in zip(rows[3:], spectra, strict=True):
        _draw_spectrum(axes, wave, stem_rate, name)
    rows[-1].set_xlabel("seconds")
    rows[0].set_title(shown.genre.strip().splitlines()[0][:110], fontsize=10)


def _draw_lyrics(axes: Any, shown: TimedSong) -> None:
    """Each line of the lyrics at its time, as much of it as there is room for."""
    ends = [*(start for start, _ in shown.lines), shown.song.seconds][1:]
    for (start, text), end in zip(shown.lines, ends, strict=True):
        room = max(1, int(LYRIC_CHARS * (end - start) / max(shown.song.seconds, 1e-9)))
        cut = text if len(text) <= room else f"{text[: room - 1]}…"
        axes.text(start, 0, cut, fontsize=6, va="center", clip_on=True, parse_math=False)
    axes.set_ylim(-0.5, 0.5)
    axes.set_yticks([])
    axes.set_ylabel("lyrics", rotation=0, ha="right", va="center")


def _check_extension(figure: Any, out: Path) -> None:
    """Refuse an ending that matplotlib does not know. Raises RequestError."""
    if out.suffix.lower().removeprefix(".") not in figure.canvas.get_supported_filetypes():
        raise RequestError(f"{out.name} is not a kind of picture that can be drawn", "use .png, .pdf or .svg")


def _figure() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RequestError("drawing needs matplotlib", "pip install 'yuegguf[plot]'") from error
    return Figure(figsize=SIZE_INCHES, layout="constrained")


def _draw_wave(axes: Any, wave: NDArray[np.float32], rate: int, song: Song) -> None:
    """The envelope of the mix, with a line where a section begins."""
    size = max(1, len(wave) // MAX_COLUMNS)
    blocks = wave[: len(wave) // size * size].reshape(-1, size)
    time = np.arange(len(blocks)) * size / rate
    axes.fill_between(time, blocks.min(axis=1), blocks.max(axis=1), linewidth=0, color="#3b6ea5")
    axes.set_ylim(-1, 1)
    axes.set_ylabel("draft" if song.draft else "mix")
    for section in song.sections:
        axes.axvline(section.start, color="#888888", linewidth=0.8)


def _draw_sections(axes: Any, song: Song) -> None:
    """A bar per section, one colour per label; marks sections that their limit cut."""
    labels = list(dict.fromkeys(section.label for section in song.sections))
    for section in song.sections:
        colour = f"C{labels.index(section.label) % 10}"
        axes.barh(0, section.seconds, left=section.start, height=1, color=colour)
        text = f" {section.label} {section.seconds:.1f} s{'' if section.complete else ', cut'}"
        axes.text(section.start, 0, text, fontsize=8, va="center", color="white", clip_on=True)
    axes.set_ylim(-0.5, 0.5)
    axes.set_yticks([])
    axes.set_ylabel("sections", rotation=0, ha="right", va="center")


def _draw_spectrum(axes: Any, wave: NDArray[np.float32], rate: int, name: str) -> None:
    """A mel spectrogram, with its scale in Hz."""
    extent = (0, len(wave) / rate, 0, MEL_BANDS)
    picture = {"origin": "lower", "aspect": "auto", "cmap": "magma", "interpolation": "nearest"}
    axes.imshow(mel_spectrum_db(wave, rate).T, extent=extent, vmin=MIN_DB, vmax=MAX_DB, **picture)
    axes.set_yticks([_hertz_to_band(hertz, rate) for hertz in HZ_TICKS], [f"{hertz:g}" for hertz in HZ_TICKS])
    axes.set_ylim(0, MEL_BANDS)
    axes.set_ylabel(f"{name}, Hz")


def mel_spectrum_db(wave: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Wave [S] → mean levels in dB [T, MEL_BANDS], at most MAX_COLUMNS of them; a full sine has -8."""
    hop = max(FFT_WINDOW // 4, -(-len(wave) // MAX_COLUMNS))
    padded = np.pad(wave, FFT_WINDOW // 2)
    window = np.hanning(FFT_WINDOW) / np.hanning(FFT_WINDOW).sum()
    bands = mel_bands(rate)
    parts = (padded[start : start + FFT_WINDOW] for start in range(0, len(wave), hop))
    powers = np.stack([bands @ np.abs(np.fft.rfft(part * window)) ** 2 for part in parts])
    levels: NDArray[np.float64] = 10 * np.log10(np.maximum(powers, 1e-12))
    return levels


def mel_bands(rate: int) -> NDArray[np.float64]:
    """Triangles over a spectrum's bins [MEL_BANDS, FFT_WINDOW // 2 + 1], even in mel, each of sum 1."""
    triangles = mel_filters(MEL_BANDS, rate, FFT_WINDOW, 0.0, _top_hz(rate))
    bands: NDArray[np.float64] = triangles / triangles.sum(axis=1, keepdims=True)
    return bands


def _top_hz(rate: int) -> float:
    return min(MAX_HZ, rate / 2)


def _hertz_to_band(hertz: float, rate: int) -> float:
    """Position of a frequency on the axis of bands."""
    return hertz_to_mel(hertz) / hertz_to_mel(_top_hz(rate)) * (MEL_BANDS + 1) - 0.5
