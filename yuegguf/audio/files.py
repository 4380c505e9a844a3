"""Songs as audio files, with their tags.

Everything goes through libsndfile (soundfile), except the ID3 tag of an mp3: libsndfile hands LAME UTF-8 as
Latin-1, which garbles every title outside ASCII, so the 30 lines at the end write that tag.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Self

import numpy as np
import soundfile
from numpy.typing import NDArray

from yuegguf import __version__
from yuegguf.audio.cues import CuePoint, add_cues
from yuegguf.codec.protocol import SONG_RATE
from yuegguf.errors import RequestError, StorageError
from yuegguf.files.atomic import replacing
from yuegguf.request.song_request import FORMATS, Format

CREDIT = "AI-generated with YuE by HKUST/M-A-P"
"""Provenance that YuE's licence requires, in every file and song folder."""
WRITE_SAMPLES = 1 << 18
"""Samples converted and written at a time."""


@dataclass(frozen=True)
class Tags:
    """Tags of an audio file; empty fields are not written."""

    title: str = ""
    artist: str = ""
    comment: str = f"{CREDIT} (yuegguf {__version__})"
    software: str = f"yuegguf {__version__}"
    """libsndfile appends its own name and version to it in wav and flac files."""
    date: str = ""
    """ISO date. Empty by default: the same song then gives the same bytes on any day."""


def write_audio(
    path: Path,
    wave: NDArray[np.float32],
    format: Format = "wav",
    *,
    bits: int = 16,
    tags: Tags | None = None,
    cues: Sequence[CuePoint] = (),
) -> None:
    """Write a mono wave [S] at 44.1 kHz, beside the target first and renamed when it is on disk.

    `bits` (16 or 24) applies to wav and flac; mp3 is written with LAME's best variable rate. Samples are
    rounded to the nearest step without dither, and clipped at full scale. The same arguments give the
    same bytes. `tags=None` writes no tags. `cues` are written into a WAV file only.

    Raises RequestError for a format or a bit depth that cannot be written, StorageError when the disk is
    full or the folder cannot be written.
    """
    subtype = check_format(format, bits)
    with replacing(path) as part:
        with FileIO(part, "w") as file, _ErrorKeepingFile(file) as kept:
            try:
                _encode(kept, wave, format, subtype, tags)
            # soundfile asserts that everything was written
            except (soundfile.SoundFileError, RuntimeError, AssertionError) as error:
                raise StorageError(f"{path} could not be written ({error})", "check the disk") from error
        if format == "wav" and cues:
            add_cues(part, cues)
        if format == "mp3" and tags is not None:
            part.write_bytes(_id3(tags) + part.read_bytes())


def check_format(format: str, bits: int) -> str:
    """libsndfile's subtype of a format and bit depth. Raises RequestError for what cannot be written."""
    if format not in FORMATS:
        raise RequestError(
            f"{format!r} is not an audio format that can be written", f"use {', '.join(FORMATS)}"
        )
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
    file: _ErrorKeepingFile, wave: NDArray[np.float32], format: Format, subtype: str, tags: Tags | None
) -> None:
    quality = {"compression_level": 0.0, "bitrate_mode": "VARIABLE"} if format == "mp3" else {}
    with soundfile.SoundFile(
        file, "w", SONG_RATE, channels=1, subtype=subtype, format=format.upper(), **quality
    ) as sound:
        if tags is not None and format != "mp3":
            for field, text in _texts(tags).items():
                setattr(sound, field, text)
        for start in range(0, len(wave), WRITE_SAMPLES):
            sound.write(_samples(wave[start : start + WRITE_SAMPLES], subtype))


def _samples(wave: NDArray[np.float32], subtype: str) -> NDArray[np.float32] | NDArray[np.int32]:
    """Round to PCM, left-aligned in 32 bits, because libsndfile would truncate floats."""
    if subtype == "MPEG_LAYER_III":
        return np.clip(wave, -1, 1)
    bits = int(subtype.removeprefix("PCM_"))
    full = 1 << (bits - 1)
    steps = np.clip(np.rint(wave.astype(np.float64) * full), -full, full - 1)
    return steps.astype(np.int32) << (32 - bits)


def _texts(tags: Tags) -> dict[str, str]:
    """Non-empty fields, without zero bytes and lone surrogates, which no tag can hold."""
    cleaned = {
        field: text.replace("\0", "").encode(errors="replace").decode()
        for field, text in asdict(tags).items()
    }
    return {field: text for field, text in cleaned.items() if text}


def _id3(tags: Tags) -> bytes:
    """ID3v2.4 tag in UTF-8 (id3.org, "ID3 tag version 2.4.0")."""
    names = {"title": b"TIT2", "artist": b"TPE1", "software": b"TSSE", "date": b"TDRC"}
    texts = _texts(tags)
    frames = [_frame(name, b"\3" + texts[field].encode()) for field, name in names.items() if field in texts]
    if "comment" in texts:
        frames.append(_frame(b"COMM", b"\3eng\0" + texts["comment"].encode()))
    body = b"".join(frames)
    return b"ID3\4\0\0" + _syncsafe(len(body)) + body if frames else b""


def _frame(name: bytes, content: bytes) -> bytes:
    return name + _syncsafe(len(content)) + b"\0\0" + content


def _syncsafe(number: int) -> bytes:
    """ID3 synchsafe integer: four bytes of seven bits each."""
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))
