"""The user's recordings: a stem to generate to (guide track), and notices about a reference."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np

from yuegguf.audio.levels import level_faults
from yuegguf.audio.recording import open_recording
from yuegguf.codec.protocol import CODEC_RATE, FRAME_RATE, SONG_HOP, SONG_RATE, AudioCodec
from yuegguf.errors import RequestError
from yuegguf.progress import Progress, silent
from yuegguf.request.sampling import Sampling
from yuegguf.request.song_request import GuideTrack, Output, Reference, SongRequest
from yuegguf.song.encoding import Codes, EncodingMemory, Wave, audio_source, encode_source
from yuegguf.stages import render

SILENCE_SECONDS, EDGE_FRAMES = 4, 50
"""Seconds of silence to encode; frames to drop at each end (the encoder's receptive field)."""
WORDLESS_SECONDS = 30.0
"""Most seconds of a section of a recording without lyrics."""


def silence_codes(codec: AudioCodec) -> Codes:
    """Codes [8] of silence: the most frequent code of each codebook."""
    codes = codec.encode(np.zeros(SILENCE_SECONDS * CODEC_RATE, np.float32))[:, EDGE_FRAMES:-EDGE_FRAMES]
    return np.array([np.bincount(book).argmax() for book in codes], np.int16)


def stems_request(
    track: GuideTrack,
    genre: str,
    lyrics: str | None = None,
    *,
    seed: int = 0,
    sampling: Sampling | None = None,
    output: Output | None = None,
) -> SongRequest:
    """The request for the missing track to a recording of the other one, which sets the song's length.

    `track` names the recorded track and its file. A backing needs no lyrics; the song then has sections
    without words, evenly long. Raises RequestError.
    """
    if track.file is None:
        raise RequestError("the track names no recording", "pass GuideTrack(track, file)")
    frames = recorded_frames(track)
    if lyrics is None and track.track == "instrumental":
        raise RequestError("a vocal needs words", "pass its lyrics")
    words = wordless_lyrics(frames / FRAME_RATE, WORDLESS_SECONDS) if lyrics is None else lyrics
    recorded = replace(track, frames=frames)
    return SongRequest(
        genre,
        words,
        seed=seed,
        sampling=sampling or Sampling(),
        track=recorded,
        output=output or Output(),
    )


def reference_notices(reference: Reference) -> list[str]:
    """Notices about the length and the level of a reference's recordings; none for a saved voice.

    Raises RequestError.
    """
    if reference.voice is not None:
        return []
    notices = []
    for file in filter(None, (reference.mix, reference.vocal, reference.instrumental)):
        recording = open_recording(Path(file))
        if reference.start < recording.seconds < reference.end:
            used = recording.seconds - reference.start
            window = f"the window {reference.start:g}-{reference.end:g} s"
            notices.append(f"{file} ends before {window}, of which {used:.1f} s are used")
        first, last = (round(seconds * recording.rate) for seconds in (reference.start, reference.end))
        wave = recording.read(min(first, recording.samples), last)
        faults = level_faults(wave) if len(wave) else []
        notices += [f"the reference {file}: {fault}" for fault in faults]
    return notices


def recorded_frames(track: GuideTrack) -> int:
    """Whole frames of a guide track's recording after its offset. Raises RequestError."""
    assert track.file is not None
    recording = open_recording(Path(track.file))
    frames = FRAME_RATE * recording.samples // recording.rate - round(FRAME_RATE * track.offset)
    if frames < FRAME_RATE:
        raise RequestError(
            f"{track.file} is {recording.seconds:.2f} s long: too little is left of it for a song",
            "use a smaller --offset or a longer recording",
        )
    return frames


def encode_guide_track(
    track: GuideTrack, codec: AudioCodec, frames: int, memory: EncodingMemory, progress: Progress = silent
) -> tuple[Codes, Wave | None]:
    """Codes [8, `frames`] of a guide track, and its recording [882·frames] at 44.1 kHz, None if silent.

    The recording is encoded whole and then cut if memory allows, as a reference is. Raises
    RequestError, NotEnoughMemory.
    """
    if track.file is None:
        return np.repeat(silence_codes(codec)[:, None], frames, 1), None
    recording = open_recording(Path(track.file))
    first = round(FRAME_RATE * track.offset)
    codes = encode_source(audio_source(recording), codec, memory, slice(first, first + frames), progress)
    wave = recording.wave(SONG_RATE, SONG_HOP * first, SONG_HOP * (first + frames))
    # rounding at the recording's end may lose a frame or a few samples
    codes = np.pad(codes, ((0, 0), (0, max(0, frames - codes.shape[1]))), "edge")
    wave = np.pad(wave, (0, max(0, SONG_HOP * frames - len(wave))))
    return codes, wave


def wordless_lyrics(seconds: float, most: float) -> str:
    """Lyrics without words for a recording of `seconds`, in sections of at most `most` seconds."""
    return "[verse]\n\n" * ceil(seconds / most)


def track_index(track: GuideTrack) -> int:
    """Index of the track among codes [2, …] and stems."""
    return render.TRACKS.index(track.track)
