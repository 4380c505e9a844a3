"""Recordings → codes, within a memory limit.

Like upstream, a recording that fits into memory is encoded whole and cut afterwards. A longer one is encoded
in parts with CONTEXT_FRAMES on both sides, which are dropped again, and a warning: HuBERT normalises and
attends over its whole input, so some codes differ.
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
from yuegguf.progress import Event, Progress, part_of, silent
from yuegguf.request.song_request import GuideTrack, Reference
from yuegguf.stages import prompt

Codes = NDArray[np.int16]
Wave = NDArray[np.float32]

CONTEXT_FRAMES = 10 * FRAME_RATE
"""Frames of context encoded on each side of a part, as far as the recording has them."""
PART_FRAMES = 40 * FRAME_RATE
"""Frames of one part of a recording that is encoded in several."""
WORKSPACE_BYTES = 150 * 2**20
"""Bytes for Python, its libraries and the blocks in which a recording is read and resampled."""
GIB = 2**30


@dataclass(frozen=True)
class EncodingMemory:
    """Memory that encoding needs and its limit, in bytes; see `codec.header.EncoderShape`."""

    limit: int | None = None
    """None = unknown: every recording is encoded whole."""
    fixed: int = 0
    """Bytes that any recording needs."""
    per_second: int = 0
    """Bytes for each second of the recording."""

    def bytes_for(self, samples: int) -> int:
        """Bytes that encoding so many samples needs."""
        return WORKSPACE_BYTES + self.fixed + self.per_second * samples // CODEC_RATE

    def fits(self, samples: int) -> bool:
        """Whether so many samples can be encoded at once."""
        return self.limit is None or self.bytes_for(samples) <= self.limit


@dataclass(frozen=True)
class AudioSource:
    """A mono wave at 16 kHz, read in parts rather than held in memory."""

    name: str
    samples: int
    read: Callable[[int, int], Wave]
    """First sample and the one after the last → wave [S]."""

    @property
    def frames(self) -> int:
        """Frames that the codec encodes it to."""
        return (self.samples + 240) // CODEC_HOP

    def with_context(self, window: slice) -> tuple[int, int]:
        """First sample of the frames with their context, and the one after the last.

        The codec shifts its acoustic half by half a frame for some remainders of samples by whole frames, so
        a part keeps the remainder of the whole.
        """
        last = window.stop + CONTEXT_FRAMES
        stop = self.samples if last >= self.frames else CODEC_HOP * last + self.samples % CODEC_HOP
        return CODEC_HOP * max(0, window.start - CONTEXT_FRAMES), stop


def audio_source(recording: Recording) -> AudioSource:
    """A recording as the codec's input."""

    def read(first: int, last: int) -> Wave:
        return recording.wave(CODEC_RATE, first, last)

    return AudioSource(recording.path.name, recording.length_at(CODEC_RATE), read)


def sum_sources(name: str, first: AudioSource, second: AudioSource) -> AudioSource:
    """The sum of two recordings, as long as the shorter."""
    samples = min(first.samples, second.samples)
    return AudioSource(name, samples, lambda a, b: first.read(a, b) + second.read(a, b))


def split_window(source: AudioSource, window: slice, memory: EncodingMemory) -> list[slice]:
    """Windows of frames to encode one after the other; empty when the whole recording fits into memory.

    Raises NotEnoughMemory when not even one part fits.
    """
    if memory.fits(source.samples) or not source.frames:
        return []
    parts = [window]
    if not memory.fits(_samples_with_context(source, window)):
        starts = range(window.start, window.stop, PART_FRAMES)
        parts = [slice(start, min(start + PART_FRAMES, window.stop)) for start in starts]
    longest = max(_samples_with_context(source, part) for part in parts)
    if not memory.fits(longest):
        assert memory.limit is not None
        raise NotEnoughMemory(
            f"encoding {source.name} needs about {memory.bytes_for(longest) / GIB:.1f} GiB for "
            f"{longest / CODEC_RATE:.0f} s at a time, and {memory.limit / GIB:.1f} GiB may be used",
            "close other programs, pass a larger --max-memory, or use another machine",
        )
    return parts


def part_count(source: AudioSource, window: slice, memory: EncodingMemory) -> int:
    """Number of parts in which a window of frames is encoded. Raises NotEnoughMemory."""
    first, last, _ = window.indices(source.frames)
    return max(1, len(split_window(source, slice(first, last), memory)))


def _samples_with_context(source: AudioSource, window: slice) -> int:
    first, stop = source.with_context(window)
    return stop - first


def encode_source(
    source: AudioSource,
    codec: AudioCodec,
    memory: EncodingMemory,
    window: slice | None = None,
    progress: Progress = silent,
) -> Codes:
    """Codes [8, N] of a window of frames, by default of all.

    A recording that does not fit into memory is encoded in parts, with a warning; `progress` counts them in
    the phase "encode". Raises RequestError, NotEnoughMemory, CodecError.
    """
    first, last, _ = (window or slice(None)).indices(source.frames)
    if first >= last and source.frames:
        return np.zeros((CODEBOOKS, 0), np.int16)
    parts = split_window(source, slice(first, last), memory)
    if not parts:
        return codec.encode(source.read(0, source.samples))[:, first:last]
    progress(Event("encode", 0, 1, warning=_parts_notice(source, parts, memory)))
    encoded = []
    for number, part in enumerate(parts, 1):
        note = f"encoding {source.name}, part {number} of {len(parts)}"
        progress(Event("encode", number - 1, len(parts), note))
        sample, stop = source.with_context(part)
        skipped = part.start - sample // CODEC_HOP
        codes = codec.encode(source.read(sample, stop))
        encoded.append(codes[:, skipped : skipped + part.stop - part.start])
    return np.concatenate(encoded, axis=1)


def _parts_notice(source: AudioSource, parts: list[slice], memory: EncodingMemory) -> str:
    """Warning for a recording that does not fit into memory whole."""
    how = f"the window is encoded with {CONTEXT_FRAMES // FRAME_RATE} s on each side"
    if len(parts) > 1:
        how = f"it is encoded in {len(parts)} parts that overlap by {2 * CONTEXT_FRAMES // FRAME_RATE} s"
    needed = f"{memory.bytes_for(source.samples) / GIB:.1f} GiB"
    return f"{source.name} is too long to be encoded whole ({needed}): {how}; some codes will differ"


def encode_stems(
    files: tuple[Path, Path],
    codec: AudioCodec,
    memory: EncodingMemory,
    window: slice,
    progress: Progress = silent,
) -> Codes:
    """Codes [2, 8, T] of a window of a song's two stems, vocal first.

    The longer stem is cut to the shorter, with a warning. Raises YueError.
    """
    sources = [audio_source(open_recording(path)) for path in files]
    if sources[0].frames != sources[1].frames:
        lengths = " and ".join(f"{source.name} is {source.frames / FRAME_RATE:g} s" for source in sources)
        text = f"{lengths} long: the longer track is cut to the shorter"
        progress(Event("encode", 0, 1, warning=text))
    window = slice(*window.indices(min(source.frames for source in sources)))
    counts = [part_count(source, window, memory) for source in sources]  # refuses either before the first
    first, second = (part_of(progress, before, sum(counts)) for before in (0, counts[0]))
    vocal = encode_source(sources[0], codec, memory, window, first)
    second(Event("encode", 0, 1, f"encoding {sources[1].name}"))
    return np.stack([vocal, encode_source(sources[1], codec, memory, window, second)])


def reference_codes(
    reference: Reference, codec: AudioCodec, memory: EncodingMemory, progress: Progress = silent
) -> Codes:
    """Codes [N] of a reference's window, in stage 1's order. Raises YueError."""
    sources = reference_sources(reference)
    window = prompt.reference_window(reference.start, reference.end, min(source.frames for source in sources))
    seconds = (window.stop - window.start) / FRAME_RATE
    if reference.mix is not None:
        codes = encode_source(sources[0], codec, memory, window, progress)
        return prompt.single_reference(codes, 0, seconds)
    assert reference.vocal
    assert reference.instrumental
    stems = (Path(reference.vocal), Path(reference.instrumental))
    vocal, instrumental = encode_stems(stems, codec, memory, window, progress)
    return prompt.dual_reference(vocal, instrumental, 0, seconds)


def reference_sources(reference: Reference) -> list[AudioSource]:
    """The recordings of a reference, vocal first. Raises RequestError."""
    files = (reference.mix, reference.vocal, reference.instrumental)
    return [audio_source(open_recording(Path(file))) for file in files if file is not None]


def fit_whole(
    reference: Reference | None, track: GuideTrack | None, memory: Callable[[], EncodingMemory]
) -> bool:
    """Whether all recordings can be encoded whole; `memory` is asked where there is one.

    Raises RequestError, and what `memory` raises.
    """
    sources = reference_sources(reference) if reference is not None and reference.voice is None else []
    if track is not None and track.file is not None:
        sources.append(audio_source(open_recording(Path(track.file))))
    if not sources:
        return True
    room = memory()
    return all(room.fits(source.samples) for source in sources)


def check_encoding_memory(
    reference: Reference | None, track: GuideTrack | None, memory: EncodingMemory
) -> None:
    """Refuse recordings that memory cannot hold even in parts. Raises RequestError, NotEnoughMemory."""
    if reference is not None and reference.voice is None:
        for source in reference_sources(reference):
            first, last = round(FRAME_RATE * reference.start), round(FRAME_RATE * reference.end)
            split_window(source, slice(first, min(last, source.frames)), memory)
    if track is not None and track.file is not None:
        source = audio_source(open_recording(Path(track.file)))
        split_window(source, slice(round(FRAME_RATE * track.offset), source.frames), memory)
