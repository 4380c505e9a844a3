"""Songs as audio files: wav, flac and mp3 by libsndfile, opus and m4a by an installed ffmpeg."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Self

import numpy as np
import soundfile
from numpy.typing import NDArray

from yuegguf.audio import ffmpeg
from yuegguf.audio.cues import CuePoint, add_cues
from yuegguf.audio.tags import Tags, write_tags
from yuegguf.codec.protocol import SONG_RATE
from yuegguf.errors import RequestError, StorageError
from yuegguf.files.atomic import replacing
from yuegguf.request.song_request import FORMATS, Format

WRITE_SAMPLES = 1 << 18
"""Samples converted and written at a time."""
INFO_TEXTS = ("title", "artist", "genre", "comment", "software", "date")
"""Tags of a WAV file."""


def write_audio(
    path: Path,
    wave: NDArray[np.float32],
    format: Format = "wav",
    *,
    bits: int = 16,
    tags: Tags | None = None,
    cues: Sequence[CuePoint] = (),
) -> None:
    """Write a wave [S] or [S, channels] at 44.1 kHz, beside the target first and renamed when it is on disk.

    `bits` (16 or 24) applies to wav and flac; mp3 is written with LAME's best variable rate. Samples are
    rounded to the nearest step without dither, and clipped at full scale. The same arguments give the
    same bytes. `tags=None` writes no tags. `cues` are written into a WAV file only.

    Raises RequestError for a format or a bit depth that cannot be written, StorageError when the disk is
    full or the folder cannot be written.
    """
    subtype = check_format(format, bits)
    with replacing(path) as part:
        if format in ffmpeg.ENCODERS:
            ffmpeg.encode(part, format, _blocks(wave), SONG_RATE, _channels(wave))
        else:
            _write_by_libsndfile(path, part, wave, format, subtype=subtype, tags=tags)
        if format == "wav" and cues:
            add_cues(part, cues)
        if format != "wav" and tags is not None:
            write_tags(part, format, tags)


def _write_by_libsndfile(
    path: Path, part: Path, wave: NDArray[np.float32], format: Format, *, subtype: str, tags: Tags | None
) -> None:
    """Write `part`, the file beside `path`. Raises StorageError, what its writes raise."""
    texts = tags.texts() if tags is not None and format == "wav" else {}
    with FileIO(part, "w") as file, _ErrorKeepingFile(file) as kept:
        try:
            _encode(kept, wave, format, subtype, texts)
        # soundfile asserts that everything was written
        except (soundfile.SoundFileError, RuntimeError, AssertionError) as error:
            raise StorageError(f"{path} could not be written ({error})", "check the disk") from error


def check_format(format: str, bits: int) -> str:
    """libsndfile's subtype of a format and bit depth. Raises RequestError for what cannot be written."""
    if format not in FORMATS:
        raise RequestError(
            f"{format!r} is not an audio format that can be written", f"use {', '.join(FORMATS)}"
        )
    if format in ffmpeg.ENCODERS:
        ffmpeg.check_encoder(format)
        return ""
    if format == "mp3":
        if "MP3" not in soundfile.available_formats():
            version = soundfile.__libsndfile_version__
            raise RequestError(
                f"libsndfile {version} cannot write mp3", "use flac, or libsndfile 1.1 or newer"
            )
        return "MPEG_LAYER_III"
    if bits not in (16, 24):
        raise RequestError(f"{bits} bits a sample cannot be written", "use 16 or 24")
    return f"PCM_{bits}"


class _ErrorKeepingFile:
    """File for libsndfile that keeps the first OSError or Ctrl-C of a write, which libsndfile swallows.

    As a context manager it raises that error at the end.
    """

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._error: OSError | KeyboardInterrupt | None = None
        self.seek, self.tell = file.seek, file.tell

    def write(self, data: bytes) -> int:
        """Write all bytes; returns how many were written, of which too few make libsndfile stop."""
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except (OSError, KeyboardInterrupt) as error:
            self._error = self._error or error
        return len(data) - len(left)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        if self._error is not None:
            raise self._error


def _encode(
    file: _ErrorKeepingFile, wave: NDArray[np.float32], format: Format, subtype: str, texts: Mapping[str, str]
) -> None:
    quality = {"compression_level": 0.0, "bitrate_mode": "VARIABLE"} if format == "mp3" else {}
    with soundfile.SoundFile(
        file, "w", SONG_RATE, channels=_channels(wave), subtype=subtype, format=format.upper(), **quality
    ) as sound:
        for field in INFO_TEXTS:
            if field in texts:
                setattr(sound, field, texts[field])
        for block in _blocks(wave):
            sound.write(_samples(block, subtype))


def _channels(wave: NDArray[np.float32]) -> int:
    return 1 if wave.ndim == 1 else wave.shape[1]


def _blocks(wave: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    return (wave[start : start + WRITE_SAMPLES] for start in range(0, len(wave), WRITE_SAMPLES))


def _samples(wave: NDArray[np.float32], subtype: str) -> NDArray[np.float32] | NDArray[np.int32]:
    """Round to PCM, left-aligned in 32 bits, because libsndfile would truncate floats."""
    if subtype == "MPEG_LAYER_III":
        return np.clip(wave, -1, 1)
    bits = int(subtype.removeprefix("PCM_"))
    full = 1 << (bits - 1)
    steps = np.clip(np.rint(wave.astype(np.float64) * full), -full, full - 1)
    return steps.astype(np.int32) << (32 - bits)
