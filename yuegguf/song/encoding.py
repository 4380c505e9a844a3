"""Recordings → codes, within the memory that there is.

Upstream encodes a file whole and cuts then, and so does this wherever it fits. Where it does not, parts are
encoded with CONTEXT on both sides, which is cut off again, and somebody is notified: HuBERT normalises over
all that it is given and attends to it, so that some codes differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yuegguf.audio.recording import Recording, open_recording
from yuegguf.codec.protocol import CODEBOOKS, CODEC_HOP, CODEC_RATE, FRAME_RATE, AudioCodec
from yuegguf.errors import NotEnoughMemory
from yuegguf.progress import Event, Progress, silent
from yuegguf.request.song_request import GuideTrack, Reference
from yuegguf.stages import prompt

Codes = NDArray[np.int16]
Wave = NDArray[np.float32]

CONTEXT_FRAMES = 10 * FRAME_RATE
"""Frames that are encoded beside a part on each side, where the recording has them."""
PART_FRAMES = 40 * FRAME_RATE
"""Frames of a part where a recording takes several."""
WORKSPACE_BYTES = 150 * 2**20
"""Bytes for Python, libraries, and the blocks in which a recording is read and resampled."""
GIB = 2**30


@dataclass(frozen=True)
class EncodingMemory:
    """What encoding takes and may take, in bytes; see `codec.header.EncoderShape`."""

    limit: int | None = None
    """None = unknown: everything is encoded whole."""
    fixed: int = 0
    second: int = 0

    def bytes(self, samples: int) -> int:
        """What encoding a wave takes."""
        return WORKSPACE_BYTES + self.fixed + self.second * samples // CODEC_RATE

    def holds(self, samples: int) -> bool:
        """Whether it fits."""
        return self.limit is None or self.bytes(samples) <= self.limit


@dataclass(frozen=True)
class AudioSource:
    """A mono wave at 16 kHz that need not be in memory."""

    name: str
    samples: int
    read: Callable[[int, int], Wave]
    """First and last sample → those between."""

    @property
    def frames(self) -> int:
        """Frames that the codec makes of it."""
        return (self.samples + 240) // CODEC_HOP

    def with_context(self, window: slice) -> tuple[int, int]:
        """First and last sample of frames and their context.

        The codec shifts its acoustic half by half a frame where the samples left over by whole frames are of
        a certain number, so a part has as many left over as the whole.
        """
        last = window.stop + CONTEXT_FRAMES
        stop = self.samples if last >= self.frames else CODEC_HOP * last + self.samples % CODEC_HOP
        return CODEC_HOP * max(0, window.start - CONTEXT_FRAMES), stop


def audio_source(recording: Recording) -> AudioSource:
    """A recording as the codec takes it."""

    def read(first: int, last: int) -> Wave:
        return recording.wave(CODEC_RATE, first, last)

    return AudioSource(recording.path.name, recording.length_at(CODEC_RATE), read)


def sum_sources(name: str, first: AudioSource, second: AudioSource) -> AudioSource:
    """Two recordings that sound together, as long as the shorter."""
    samples = min(first.samples, second.samples)
    return AudioSource(name, samples, lambda a, b: first.read(a, b) + second.read(a, b))


def split_window(source: AudioSource, window: slice, room: EncodingMemory) -> list[slice]:
    """Windows of frames to encode one after the other; none where the whole fits.

    Raises NotEnoughMemory where not even a part fits.
    """
    if room.holds(source.samples) or not source.frames:
        return []
    parts = [window]
    if not room.holds(_samples_with_context(source, window)):
        starts = range(window.start, window.stop, PART_FRAMES)
        parts = [slice(start, min(start + PART_FRAMES, window.stop)) for start in starts]
    longest = max(_samples_with_context(source, part) for part in parts)
    if not room.holds(longest):
        assert room.limit is not None
        raise NotEnoughMemory(
            f"encoding {source.name} needs about {room.bytes(longest) / GIB:.1f} GiB for "
            f"{longest / CODEC_RATE:.0f} s at a time, and {room.limit / GIB:.1f} GiB may be used",
            "close other programs, pass a larger --max-memory, or use another machine",
        )
    return parts


def _samples_with_context(source: AudioSource, window: slice) -> int:
    first, stop = source.with_context(window)
    return stop - first


def encode_source(
    source: AudioSource,
    codec: AudioCodec,
    room: EncodingMemory,
    window: slice | None = None,
    progress: Progress = silent,
) -> Codes:
    """Codes [8, N] of the frames in a window, or of all.

    What does not fit into the memory whole is encoded in parts, with a warning. Raises RequestError,
    NotEnoughMemory, CodecError.
    """
    first, last, _ = (window or slice(None)).indices(source.frames)
    if first >= last and source.frames:
        return np.zeros((CODEBOOKS, 0), np.int16)
    parts = split_window(source, slice(first, last), room)
    if not parts:
        return codec.encode(source.read(0, source.samples))[:, first:last]
    progress(Event("draft", 0, 1, warning=_parts_notice(source, parts, room)))
    found = []
    for number, part in enumerate(parts, 1):
        progress(Event("draft", 0, 1, f"encoding {source.name}, part {number} of {len(parts)}"))
        begin, stop = source.with_context(part)
        skipped = part.start - begin // CODEC_HOP
        codes = codec.encode(source.read(begin, stop))
        found.append(codes[:, skipped : skipped + part.stop - part.start])
    return np.concatenate(found, axis=1)


def _parts_notice(source: AudioSource, parts: list[slice], room: EncodingMemory) -> str:
    """How a recording is encoded that does not fit whole."""
    how = f"the window is encoded with {CONTEXT_FRAMES // FRAME_RATE} s on each side"
    if len(parts) > 1:
        how = f"it is encoded in {len(parts)} parts that overlap by {2 * CONTEXT_FRAMES // FRAME_RATE} s"
    needed = f"{room.bytes(source.samples) / GIB:.1f} GiB"
    return f"{source.name} is too long to be encoded whole ({needed}): {how}; some codes will differ"


def encode_file(
    path: Path,
    codec: AudioCodec,
    room: EncodingMemory,
    window: slice | None = None,
    progress: Progress = silent,
) -> Codes:
    """An audio file of any rate and channel count → codes [8, T] of a window of frames, or of all.

    Raises YueError.
    """
    return encode_source(audio_source(open_recording(path)), codec, room, window, progress)


def encode_stems(
    files: tuple[Path, Path],
    codec: AudioCodec,
    room: EncodingMemory,
    window: slice,
    progress: Progress = silent,
) -> Codes:
    """A window of the two recordings of one song → codes [2, 8, T]; vocal first.

    The longer recording is cut to the shorter, with a warning. Raises YueError.
    """
    sources = [audio_source(open_recording(path)) for path in files]
    if sources[0].frames != sources[1].frames:
        lengths = " and ".join(f"{source.name} is {source.frames / FRAME_RATE:g} s" for source in sources)
        text = f"{lengths} long: the longer track is cut to the shorter"
        progress(Event("draft", 0, 1, warning=text))
    window = slice(*window.indices(min(source.frames for source in sources)))
    for source in sources:  # both are refused before the first is encoded
        split_window(source, window, room)
    return np.stack([encode_source(source, codec, room, window, progress) for source in sources])


def reference_codes(
    wanted: Reference, codec: AudioCodec, room: EncodingMemory, progress: Progress = silent
) -> Codes:
    """The codes [N] of a reference's window, as stage 1 takes them. Raises YueError."""
    sources = reference_sources(wanted)
    window = prompt.reference_window(wanted.start, wanted.end, min(source.frames for source in sources))
    seconds = (window.stop - window.start) / FRAME_RATE
    if wanted.mix is not None:
        codes = encode_source(sources[0], codec, room, window, progress)
        return prompt.single_reference(codes, 0, seconds)
    assert wanted.vocal
    assert wanted.instrumental
    stems = (Path(wanted.vocal), Path(wanted.instrumental))
    vocal, instrumental = encode_stems(stems, codec, room, window, progress)
    return prompt.dual_reference(vocal, instrumental, 0, seconds)


def reference_sources(wanted: Reference) -> list[AudioSource]:
    """The recordings of a reference, vocal first. Raises RequestError."""
    files = (wanted.mix, wanted.vocal, wanted.instrumental)
    return [audio_source(open_recording(Path(file))) for file in files if file is not None]


def check_encoding_memory(
    reference: Reference | None, track: GuideTrack | None, room: EncodingMemory
) -> None:
    """Refuse recordings that cannot be encoded even in parts. Raises RequestError, NotEnoughMemory."""
    if reference is not None and reference.voice is None:
        for source in reference_sources(reference):
            first, last = round(FRAME_RATE * reference.start), round(FRAME_RATE * reference.end)
            split_window(source, slice(first, min(last, source.frames)), room)
    if track is not None and track.file is not None:
        source = audio_source(open_recording(Path(track.file)))
        split_window(source, slice(round(FRAME_RATE * track.offset), source.frames), room)
