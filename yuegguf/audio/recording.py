"""A user's recordings: length without decoding, and samples block by block.

A header's length is verified against the file, and memory follows the samples present, never the announced
number.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np
import soundfile

from yuegguf.audio.containers import sound_bytes
from yuegguf.audio.decoding import HINT, MAX_SECONDS
from yuegguf.audio.dsp import Wave, kernel_reach, resample
from yuegguf.codec.protocol import CODEC_HOP, CODEC_RATE, MIN_SAMPLES
from yuegguf.errors import RequestError
from yuegguf.files.reading import open_plain_file

LOWEST_RATE, HIGHEST_RATE = 1_000, 1_000_000
"""Accepted sample rates, Hz: beyond them a header is damaged and a resampling kernel huge."""
MAX_CHANNELS = 64
DECODE_VALUES = 1 << 20
"""Samples decoded at a time, of all channels together."""
INEXACT_SEEK = ("OGG",)
"""Formats in which libsndfile 1.2 seeks to a wrong sample near the end of a stream."""
UNKNOWN_SAMPLES = 2**63 - 1
"""Samples that libsndfile announces where the length is not known."""
RESAMPLE_SECONDS = 30
"""Seconds resampled at a time."""
HIGHEST_SAMPLE = 2.0**32
"""Highest sample that is accepted, where full scale is 1: above whole numbers of 32 bits stored as floats."""


class SoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """An open sound file, read block by block."""

    def seekable(self) -> bool:
        """Whether soundfile may seek behind each block; at the end of a FLAC of unknown length it fails."""
        return bool(super().seekable() and self.frames < UNKNOWN_SAMPLES)


@dataclass(frozen=True)
class Recording:
    """An audio file; its channels are averaged, as `load_audio_mono` (`infer.py`) does."""

    path: Path
    rate: int
    """Sample rate, Hz."""
    samples: int
    """Samples of each channel present in the file."""

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.samples / self.rate

    @property
    def codec_frames(self) -> int:
        """Frames of its codes; 0 where it is too short to be encoded."""
        samples = self.length_at(CODEC_RATE)
        return (samples + 240) // CODEC_HOP if samples >= MIN_SAMPLES else 0

    def length_at(self, rate: int) -> int:
        """Length in samples at another rate in Hz."""
        return -(-self.samples * rate // self.rate)

    def read(self, first: int = 0, last: int | None = None) -> Wave:
        """Samples first … last at the recording's rate, mono. Raises RequestError."""
        with _memory(self.path), closing(_Reader(self)) as reader:
            return reader.read(first, self.samples if last is None else last)

    def wave(self, rate: int, first: int = 0, last: int | None = None) -> Wave:
        """Samples first … last at `rate` Hz, mono; any part equals that part of the whole.

        Channels are averaged before resampling, as upstream does. Raises RequestError.
        """
        stop = self.length_at(rate) if last is None else min(last, self.length_at(rate))
        common = gcd(self.rate, rate)
        source, target = self.rate // common, rate // common
        margin = -(-kernel_reach(source, target) // source) + 1  # periods of context
        step = max(1, RESAMPLE_SECONDS * rate // target) * target
        with _memory(self.path), closing(_Reader(self)) as reader:
            out = np.empty(max(0, stop - first), np.float32)
            for begin in range(first // target * target, stop, step):
                end = min(begin + step, stop)
                period = max(0, begin // target - margin)
                samples = reader.read(period * source, (-(-end // target) + margin) * source)
                resampled, low = resample(samples, self.rate, rate), max(begin, first)
                out[low - first : end - first] = resampled[low - period * target : end - period * target]
        return out


class _Reader:
    """Reads a recording forwards in parts that may overlap the one before."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._opened = ExitStack()
        with _reading(recording.path):
            self._file = self._opened.enter_context(_open(recording.path))
        self._start, self._last = 0, np.empty(0, np.float32)
        """First sample of the part read last, and that part."""

    def read(self, first: int, last: int) -> Wave:
        """Mono samples first … last. Raises RequestError."""
        assert first >= self._start
        stop = min(last, self._recording.samples)
        path, position = self._recording.path, self._start + len(self._last)
        with _reading(path):
            wave = np.empty(max(0, stop - first), np.float32)
            overlap = self._last[first - self._start :][: len(wave)]
            wave[: len(overlap)] = overlap
            done = len(overlap)
            if done < len(wave):
                _go_to(self._file, position, first + done)
            for block in _blocks(self._file, len(wave) - done):
                wave[done : done + len(block)] = _mono(block, path)
                done += len(block)
        if done < len(wave):
            raise _short(path, self._recording.samples, first + done)
        self._start, self._last = first, wave
        return wave

    def close(self) -> None:
        self._opened.close()


def open_recording(path: Path) -> Recording:
    """Open an audio file; it is decoded only if its header is implausible.

    Raises RequestError: no such file, not audio, no samples, an absurd rate, channel count or length.
    """
    if not os.path.isfile(path):  # unlike Path.is_file, never raises
        if os.path.isdir(path):
            raise RequestError(f"{path} is a folder, not an audio file", "pass a file in it")
        raise RequestError(f"no audio file at {path}", "check the name")
    with _reading(path), _open(path) as file:
        rate, channels, announced = int(file.samplerate), int(file.channels), int(file.frames)
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise RequestError(f"{path} claims a sample rate of {rate} Hz", "convert it to 44100 Hz")
    if channels > MAX_CHANNELS:
        raise RequestError(f"{path} claims {channels} channels", f"at most {MAX_CHANNELS} are read")
    most = MAX_SECONDS * rate
    samples = announced if 0 < announced <= most and _holds(path, announced) else _count(path, most)
    if not samples:
        raise RequestError(f"{path} holds no samples", "use a recording that is not empty")
    if samples > most:
        raise RequestError(
            f"{path} is longer than {MAX_SECONDS // 3600} hours", "cut out the part that you need"
        )
    return Recording(path, rate, samples)


def read_audio(path: Path) -> tuple[Wave, int]:
    """Read a whole file → (mono wave [S] in -1 … 1, sample rate in Hz). Raises RequestError."""
    recording = open_recording(path)
    return recording.read(), recording.rate


@contextmanager
def _open(path: Path) -> Iterator[SoundFile]:
    """Open a recording, decoded by ffmpeg where that is needed. Raises RequestError."""
    with ExitStack() as stack:
        data = sound_bytes(path)
        if data is not None:
            stack.callback(data.close)
        yield stack.enter_context(SoundFile(data or path))


def _holds(path: Path, samples: int) -> bool:
    """Whether the last of `samples` can be read; in a truncated file it cannot."""
    try:
        with _memory(path), _open(path) as file:
            file.seek(samples - 1)
            return len(file.read(1, dtype="float32", always_2d=True)) == 1
    except (soundfile.SoundFileError, OSError, RuntimeError, ValueError):
        return False


def _count(path: Path, most: int) -> int:
    """Number of samples that can be decoded, at most one more than `most`. Raises RequestError."""
    with _reading(path), _open(path) as file:
        return sum(len(block) for block in _blocks(file, most + 1))


def _blocks(file: SoundFile, count: int) -> Iterator[Wave]:
    """Blocks of the next samples [S, channels], up to `count` in all."""
    size = DECODE_VALUES // file.channels
    while count > 0:
        block = file.read(min(size, count), dtype="float32", always_2d=True)
        if not len(block):
            return
        count -= len(block)
        yield block


def _go_to(file: SoundFile, position: int, sample: int) -> None:
    """Move from a position to a sample; by decoding where the format cannot seek exactly."""
    if file.seekable() and file.format not in INEXACT_SEEK:
        file.seek(sample)
    else:
        for _ in _blocks(file, sample - position):
            pass


def _mono(block: Wave, path: Path) -> Wave:
    with np.errstate(invalid="ignore", over="ignore"):  # such samples are refused below
        wave: Wave = block.mean(axis=1, dtype=np.float32)
    if not (np.abs(wave) <= HIGHEST_SAMPLE).all():  # false for NaN too
        raise RequestError(
            f"{path} holds samples that are not numbers, or far above full scale",
            "export the recording again",
        )
    return wave


def _short(path: Path, announced: int, present: int) -> RequestError:
    return RequestError(
        f"{path} announces {announced} samples and ends at {present}", "export the recording again"
    )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what libsndfile raises into a RequestError."""
    try:
        with _memory(path):
            yield
    # TypeError: soundfile takes a name ending in .raw for headerless samples
    except (soundfile.SoundFileError, OSError, RuntimeError, TypeError, ValueError) as error:
        cause = _open_error(path)
        # soundfile's own text begins with the name, or with a Python object
        reason = cause.strerror if cause else getattr(error, "error_string", error)
        raise RequestError(f"{path} could not be read as audio ({reason})", HINT) from cause or error


def _open_error(path: Path) -> OSError | None:
    """Error of opening a file, which libsndfile does not pass on; None where it opens."""
    try:
        open_plain_file(path).close()
    except OSError as error:
        return error
    return None


@contextmanager
def _memory(path: Path) -> Iterator[None]:
    """Turn a MemoryError into a RequestError."""
    try:
        yield
    except MemoryError as error:
        raise RequestError(f"{path} is too long for this machine's memory", "cut out a part") from error
