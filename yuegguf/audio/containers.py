"""Kinds of files given as audio, known by their first bytes, and the bytes of each that libsndfile reads.

libsndfile reads wav, aiff, flac, ogg, opus, mp3, au and caf; an installed ffmpeg decodes the kinds below
(`decoding`), and no other is read.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from yuegguf.audio import mp3_frames
from yuegguf.audio.decoding import HINT, decoded_by_ffmpeg
from yuegguf.errors import RequestError
from yuegguf.files.kinds import HEAD_BYTES, FileKind, kind_of
from yuegguf.files.reading import open_plain_file

WAV_HEAD_BYTES = 1 << 16
"""Bytes of a WAV in which its samples must begin."""
STREAMED_WAV = 0xFFFFFFFF
"""Size that a WAV announces whose length was unknown when it was begun."""

_CHUNK_NAME = re.compile(rb"[ -~]{4}")
_READ = re.compile(
    rb"(?:RIFF|RIFX|RF64)....WAVE|FORM....AIF[FC]|fLaC|OggS|\.snd|dns\.|caff|riff\x2e\x91\xcf\x11", re.DOTALL
)
"""First bytes of wav, aiff, flac, ogg and opus, au, caf and w64; no other reader of libsndfile is used."""
_OGG_FIRST, _OGG_LATER = (re.compile(rb"OggS\0[" + flags + rb"]") for flags in (rb"\2\3\6\7", rb"\0\1\4\5"))
"""Begin of an Ogg page (RFC 3533), the first of its stream or a later one."""
CHUNK_BYTES = 1 << 20
"""Bytes that are searched at a time."""
_ONE_STREAM = "join them in an audio editor, and pass that file"
_MPEG = re.compile(rb"\xff[\xe2-\xff]")
"""First bytes of MPEG audio that is no common MP3: layers I and II, or a free bit rate."""


@dataclass(frozen=True)
class Container:
    """A kind of file that libsndfile does not read."""

    name: str
    """Name for messages, with its article."""
    demuxer: str = ""
    """ffmpeg's name of it; empty where it holds no audio."""
    hint: str = HINT
    """Next step for the user, for a file without audio."""


MP4 = Container("an MP4 or m4a file", "mov")
MATROSKA = Container("a WebM or Matroska file", "matroska")
_MAGIC: tuple[tuple[int, bytes, Container], ...] = (
    (4, b"ftyp", MP4),
    (0, b"\x1a\x45\xdf\xa3", MATROSKA),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Container("a WMA file", "asf")),
    *((0, bytes((0xFF, second)), Container("an AAC file", "aac")) for second in (0xF0, 0xF1, 0xF8, 0xF9)),
    (0, b"\x0b\x77", Container("an AC-3 file", "ac3")),
    (0, b"MAC ", Container("a Monkey's Audio file", "ape")),
    (0, b"wvpk", Container("a WavPack file", "wv")),
    (0, b"#!AMR", Container("an AMR file", "amr")),
    (0, b"DSD ", Container("a DSD file", "dsf")),
    (0, b"FLV\x01", Container("a Flash video", "flv")),
    (0, b"MThd", Container("a MIDI file, which holds notes and no sound")),
    (0, b"#EXTM3U", Container("a playlist")),
)


def container_of(path: Path) -> Container | None:
    """The kind of a file that libsndfile does not read; None for any other. Raises OSError."""
    with open_plain_file(path) as file:
        head = file.read(HEAD_BYTES)
    for place, magic, container in _MAGIC:
        if head[place:].startswith(magic):
            return container
    kind = kind_of(head)
    return None if kind is None else Container(kind.name, hint=_hint(kind, path))


def _hint(kind: FileKind, path: Path) -> str:
    """Advice for a file that holds no audio: the command for a pointer or an archive, if it is one."""
    advice = kind.advice(path) if kind.advice and kind.form in ("pointer", "archive", "zip") else ""
    return advice or HINT


def zero_sized_wav(path: Path) -> bytes:
    """The corrected first bytes of a WAV whose announced sizes are 0, as pipes leave them; else nothing."""
    with open_plain_file(path) as file:
        head = bytearray(file.read(WAV_HEAD_BYTES))
        length = file.seek(0, os.SEEK_END)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return b""
    place = 12
    while place + 8 <= len(head):
        name, size = bytes(head[place : place + 4]), struct.unpack_from("<I", head, place + 4)[0]
        if name == b"data":
            rest = length - place - 8
            if size or not rest or _are_chunks(head, place + 8, length):
                return b""
            struct.pack_into("<I", head, place + 4, min(rest, 0xFFFFFFFE))
            struct.pack_into("<I", head, 4, min(length - 8, 0xFFFFFFFE))
            return bytes(head[: place + 8])
        place += 8 + size + size % 2
    return b""


def _are_chunks(head: bytes | bytearray, place: int, length: int) -> bool:
    """Whether chunks with names fill a WAV from a byte to its end: then no samples stand there."""
    while place + 8 <= len(head) and _CHUNK_NAME.match(head, place):
        size = struct.unpack_from("<I", head, place + 4)[0]
        place += 8 + size + size % 2
    return place == length


def _is_chained(file: BinaryIO) -> bool:
    """Whether in an Ogg file a stream begins behind pages of another: libsndfile reads none but the first."""
    file.seek(0)
    data, wanted = b"", _OGG_LATER
    while chunk := file.read(CHUNK_BYTES):
        data = data[-5:] + chunk  # a page may begin at the end of the chunk before
        match = wanted.search(data)
        if match and wanted is _OGG_LATER:
            wanted = _OGG_FIRST
            match = wanted.search(data, match.end())
        if match:
            return True
    return False


def is_cut_short(path: Path) -> bool:
    """Whether an audio file is missing, empty, or a WAV that ends before its header says."""
    try:
        with open_plain_file(path) as file:
            head, length = file.read(8), file.seek(0, os.SEEK_END)
    except OSError:
        return True
    announced = struct.unpack("<I", head[4:])[0] if len(head) == 8 and head[:4] == b"RIFF" else 0
    return not length or (length < 8 + announced and announced != STREAMED_WAV)


class SoundBytes:
    """A file as libsndfile reads it, with a position of its own; `head` may replace its first bytes."""

    def __init__(self, file: BinaryIO | FileIO, head: bytes = b"", replaced: int = 0) -> None:
        self._file, self._head, self._place = file, head, 0
        self._shift = replaced - len(head)
        """Byte of the file less the place of the same byte here, behind the head."""
        self._length = file.seek(0, os.SEEK_END) - self._shift

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a byte; returns it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._length}[whence]
        self._place = max(0, base + offset)
        return self._place

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def tell(self) -> int:
        """The byte that is read next."""
        return self._place

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self._head[self._place :]
        data = data if size < 0 else data[:size]
        if size < 0 or len(data) < size:
            self._file.seek(self._place + len(data) + self._shift)
            data += self._file.read(size if size < 0 else size - len(data))
        self._place += len(data)
        return data


def sound_bytes(path: Path) -> SoundBytes | None:
    """The bytes that libsndfile reads instead of the file; None where it reads the file itself.

    Raises RequestError, with the kind of a file that cannot be read; OSError.
    """
    container = container_of(path)
    if container is None:
        head, replaced = _replaced_head(path)
        # soundfile takes a name that ends in .raw for samples without a header
        changed = head or replaced or path.suffix.lower() == ".raw"
        return SoundBytes(open_plain_file(path), head, replaced) if changed else None
    if not container.demuxer:
        raise RequestError(f"{path} is {container.name}", container.hint)
    return SoundBytes(decoded_by_ffmpeg(path, container.name, container.demuxer))


def _replaced_head(path: Path) -> tuple[bytes, int]:
    """The first bytes as libsndfile has to see them, and how many of the file's they replace.

    Raises RequestError for a kind that is not read, OSError.
    """
    with open_plain_file(path) as file:
        start = mp3_frames.after_tags(file)
        file.seek(start)
        first = file.read(HEAD_BYTES)
        if first[:4] == b"OggS" and _is_chained(file):
            raise RequestError(f"{path} holds several streams one after the other", _ONE_STREAM)
        if _READ.match(first):
            head = zero_sized_wav(path)
            return head, len(head)
        place = mp3_frames.first_frame(file, start)
        if place is not None:
            return mp3_frames.counting_head(file, place) or (b"", place)
    if _MPEG.match(first):
        return b"", 0
    raise RequestError(f"{path} could not be read as audio (its kind is not known)", HINT)
