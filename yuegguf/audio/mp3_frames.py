"""Frames of an MP3 (MPEG-1, 2 and 2.5, layer III), counted where libmpg123 would only estimate their number.

libsndfile reads no more samples than libmpg123 announces: those of the frames that a tag (Xing or Info) in
the first frame counts, else an estimate from the first frames, which is wrong for a variable bit rate. So the
frames are counted, and a tag with a sufficient count is put in front.
"""

from __future__ import annotations

import os
import re
import struct
from typing import BinaryIO

from yuegguf.audio.decoding import MAX_SECONDS

JUNK_BYTES, RESYNC_BYTES = 1 << 16, 1 << 12
"""Bytes in which the first frame begins, and those that are searched at a time for a later one."""
RUN_FRAMES = 3
"""Frames in a row by which sound is told from other bytes."""
MAX_FRAMES = (MAX_SECONDS + 1) * 48_000 // 1152
"""Most frames that are counted: those of the longest recording at any sample rate."""
MAX_TAGS = 16
"""Most ID3v2 and APE tags in front of the sound."""
SIZE_TOLERANCE = 0.01
"""Share by which a tag's size may differ before libmpg123 writes a warning to stderr."""
INFO_BITRATE = 9
"""Index of the bit rate of a new tag's frame: 128 or 80 kbit/s, enough room at each sample rate."""

_RATES = (44_100, 48_000, 32_000)
_RATE_PARTS = {0xE2: 4, 0xF2: 2, 0xFA: 1}
"""Second byte of a header of MPEG-2.5, 2 and 1, without its lowest bit → by what _RATES are divided."""
_KBPS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBPS_LOW = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
"""Bit rates of MPEG-1, and of MPEG-2 and 2.5, by their index less 1; index 0 is a free one."""


def _frame_sizes() -> dict[bytes, int]:
    """First three bytes of a header → bytes of the frame; both values of the bits that do not count."""
    sizes = {}
    for second, part in _RATE_PARTS.items():
        for third in range(0x10, 0xF0):
            index, rate, padding = (third >> 4) - 1, third >> 2 & 3, third >> 1 & 1
            if rate < len(_RATES):
                bits = 144_000 * _KBPS[index] if part == 1 else 72_000 * _KBPS_LOW[index]
                for protection in (0, 1):
                    header = bytes((0xFF, second | protection, third))
                    sizes[header] = bits * part // _RATES[rate] + padding
    return sizes


_FRAME_SIZES = _frame_sizes()
_HEADER = re.compile(
    b"\xff[%b][%b]" % tuple(re.escape(bytes(sorted({key[at] for key in _FRAME_SIZES}))) for at in (1, 2)),
    re.DOTALL,
)


def after_tags(file: BinaryIO) -> int:
    """The byte at which the ID3v2 and APE tags in front of the sound end."""
    place = 0
    for _ in range(MAX_TAGS):
        file.seek(place)
        head = file.read(32)
        if head[:3] == b"ID3" and len(head) >= 10:
            a, b, c, d = (byte & 0x7F for byte in head[6:10])
            footer = 10 if head[5] & 0x10 else 0
            place += 10 + (a << 21 | b << 14 | c << 7 | d) + footer
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            place += 32 + int.from_bytes(head[12:16], "little")
        else:
            break
    return place


def first_frame(file: BinaryIO, start: int) -> int | None:
    """The byte of the first frame, at or soon behind `start`; None where the file is no MP3."""
    file.seek(start)
    data = file.read(JUNK_BYTES)
    for match in _HEADER.finditer(data):
        if _is_run(file, start + match.start()):
            return start + match.start()
    alone = _FRAME_SIZES.get(data[:3])
    return start if alone and alone <= len(data) else None


def counting_head(file: BinaryIO, first: int) -> tuple[bytes, int] | None:
    """A first frame whose tag counts the frames, and the byte up to which it replaces those of the file.

    None where the file's own tag does, or libmpg123's estimate from a constant bit rate is right; a tag would
    have it drop the decoder's delay. In a damaged file the count may be too large; it is never too small.
    Raises ValueError for a file that is not of one format.
    """
    length = file.seek(0, os.SEEK_END)
    size = _FRAME_SIZES[_header(file, first)]
    file.seek(first)
    frame = file.read(size)
    tag = 4 + _side_bytes(frame)
    is_tag = not any(frame[6:tag]) and frame[tag : tag + 4] in (b"Xing", b"Info")
    sound = first + size if is_tag or frame[36:40] == b"VBRI" else first
    frames, is_constant = _count_frames(file, sound, length)
    flags, announced, claimed = struct.unpack(">III", frame[tag + 4 : tag + 16].ljust(12, b"\0"))
    if not is_tag or not flags & 1 or size < tag + 16:
        return None if is_constant else (_info_frame(frame, frames), sound)
    new = bytearray(frame)
    if frames > announced:
        struct.pack_into(">I", new, tag + 8, frames)
        _forget_padding(new, tag, flags)
    if flags & 2 and abs(claimed - (length - first)) > SIZE_TOLERANCE * length:
        struct.pack_into(">I", new, tag + 12, min(length - first, 0xFFFFFFFF))
    return (bytes(new), sound) if new != frame else None


def _header(file: BinaryIO, place: int) -> bytes:
    """The bytes of a header by which _FRAME_SIZES has the frame."""
    file.seek(place)
    return file.read(3)


def _is_run(file: BinaryIO, place: int) -> bool:
    """Whether several frames of one format follow each other from a byte on."""
    first = _format(file, place)
    for _ in range(RUN_FRAMES):
        size = _FRAME_SIZES.get(_header(file, place))
        if size is None or _format(file, place) != first:
            return False
        place += size
    return True


def _side_bytes(frame: bytes) -> int:
    """Bytes of the side information, behind which a tag stands."""
    is_mono, is_low = frame[3] >> 6 == 3, frame[1] & 0xFE != 0xFA
    return (9 if is_mono else 17) if is_low else (17 if is_mono else 32)


def _count_frames(file: BinaryIO, place: int, length: int) -> tuple[int, bool]:
    """Number of whole frames from a byte on, and one more for each gap; at most MAX_FRAMES.

    Also whether all follow each other with one bit rate.

    Raises ValueError where the format changes: libmpg123 ends there.
    """
    frames, first, rates = 0, _format(file, place), set[int]()
    while place < length and frames < MAX_FRAMES:
        header = _header(file, place)
        size = _FRAME_SIZES.get(header)
        if size is not None and _format(file, place) != first:
            if _is_run(file, place):
                raise ValueError("its sample rate or number of channels changes")
            size = None
        if size is None:
            found = _next_frame(file, place + 1)
            if found is None:
                break
            place = found
            frames += 1
            rates.add(0)
        else:
            place += size
            frames += place <= length
            rates.add(header[2] >> 4)
    return frames, len(rates) == 1


def _format(file: BinaryIO, place: int) -> tuple[int, int, bool]:
    """Version, sample rate, and whether there is one channel: the same in all frames that belong together."""
    file.seek(place)
    head = file.read(4).ljust(4, b"\0")
    return head[1] & 0xFE, head[2] & 0x0C, head[3] >> 6 == 3


def _next_frame(file: BinaryIO, place: int) -> int | None:
    """The byte of the next header behind a gap; None where there is none."""
    while True:
        file.seek(place)
        data = file.read(RESYNC_BYTES)
        match = _HEADER.search(data)
        if match:
            return place + match.start()
        if len(data) < RESYNC_BYTES:
            return None
        place += len(data) - 2  # a header may begin in the last two bytes


def _info_frame(frame: bytes, frames: int) -> bytes:
    """A silent frame of the same format with a tag that counts `frames`."""
    header = bytes((0xFF, frame[1] | 1, INFO_BITRATE << 4 | frame[2] & 0x0C, frame[3]))
    tag = b"Info" + struct.pack(">II", 1, frames)
    return (header + bytes(_side_bytes(frame)) + tag).ljust(_FRAME_SIZES[header[:3]], b"\0")


def _forget_padding(frame: bytearray, tag: int, flags: int) -> None:
    """Set the padding to 0 that LAME's part of a tag announces: it is that of another last frame."""
    lame = tag + 8 + sum(size for bit, size in ((1, 4), (2, 4), (4, 100), (8, 4)) if flags & bit)
    if len(frame) >= lame + 24:
        frame[lame + 22] &= 0xF0
        frame[lame + 23] = 0
