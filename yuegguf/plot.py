"""A picture of a finished song: waveform, both stems' spectrograms, and where its sections lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yuegguf import pipeline
from yuegguf.audio import read_audio
from yuegguf.errors import ModelNotFound, RequestError
from yuegguf.files import storage_errors
from yuegguf.request import Song
from yuegguf.song import SongFolder

INCHES, DOTS = (11.0, 6.5), 100
"""Size of the picture and dots per inch."""
WINDOW, HIGHEST_HZ = 2048, 16_000
"""Samples of a spectrum, and the top of the drawn range."""
QUIETEST_DB, LOUDEST_DB = -100.0, -30.0
COLUMNS = 2200
"""Columns of a picture: two a dot."""


def plot_song(folder: Path, out: Path) -> Path:
    """Write `out`, a PNG (or PDF, SVG by its ending) of the song in `folder`.

    Raises RequestError when there is no finished song, ModelNotFound without matplotlib, StorageError.
    """
    opened = SongFolder.open(folder)
    if pipeline.next_phase(opened) != "done":
        raise RequestError(f"{folder} holds no finished song", f"finish it: yuegguf resume {folder}")
    song = pipeline.finished(opened)
    files = {file.stem: file for file in song.files}
    figure = _figure()
    names: list[str] = [name for name in ("vocals", "instrumental") if name in files] or ["mix"]
    rows = figure.subplots(1 + len(names), 1, sharex=True, height_ratios=[1, *[1.6] * len(names)])
    _draw_wave(rows[0], *_mono(files["mix"]), song)
    for axes, name in zip(rows[1:], names, strict=True):
        _draw_spectrum(axes, *_mono(files[name]), name)
    rows[-1].set_xlabel("seconds")
    rows[0].set_title(opened.request.genre.strip().splitlines()[0][:110], fontsize=10)
    with storage_errors(out):
        try:
            figure.savefig(out, dpi=DOTS)
        except ValueError as error:  # an ending that matplotlib does not know
            raise RequestError(f"{out.name} is not a kind of picture ({error})", "use .png") from error
    return out


def _figure() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ModelNotFound("drawing needs matplotlib", "pip install 'yuegguf[plot]'") from error
    return Figure(figsize=INCHES, layout="constrained")


def _mono(file: Path) -> tuple[NDArray[np.float32], int]:
    wave, rate = read_audio(file)
    return wave.mean(axis=1), rate


def _draw_wave(axes: Any, wave: NDArray[np.float32], rate: int, song: Song) -> None:
    """The envelope of the mix under the names of the sections."""
    size = max(1, len(wave) // COLUMNS)
    blocks = wave[: len(wave) // size * size].reshape(-1, size)
    time = np.arange(len(blocks)) * size / rate
    axes.fill_between(time, blocks.min(axis=1), blocks.max(axis=1), linewidth=0, color="#3b6ea5")
    axes.set_ylim(-1, 1)
    axes.set_ylabel("mix")
    for section in song.sections:
        axes.axvline(section.start, color="#888888", linewidth=0.8)
        axes.text(section.start + 0.05, 0.95, section.label, fontsize=8, va="top")


def _draw_spectrum(axes: Any, wave: NDArray[np.float32], rate: int, name: str) -> None:
    extent = (0, len(wave) / rate, 0, rate / 2)
    picture = {"origin": "lower", "aspect": "auto", "cmap": "magma", "interpolation": "nearest"}
    axes.imshow(_spectrum_db(wave).T, extent=extent, vmin=QUIETEST_DB, vmax=LOUDEST_DB, **picture)
    axes.set_ylim(0, min(HIGHEST_HZ, rate / 2))
    axes.set_ylabel(f"{name}, Hz")


def _spectrum_db(wave: NDArray[np.float32]) -> NDArray[np.float64]:
    """Wave [S] → levels in dB [T, WINDOW // 2 + 1] at most COLUMNS times; a full-scale sine has -6."""
    hop = max(WINDOW // 4, len(wave) // COLUMNS)
    starts = np.arange(0, len(wave), hop)
    padded = np.pad(wave, WINDOW // 2)
    window = np.hanning(WINDOW) / np.hanning(WINDOW).sum()
    spectra = [np.abs(np.fft.rfft(padded[start : start + WINDOW] * window)) for start in starts]
    return 20 * np.log10(np.maximum(spectra, 1e-6))
