"""A song's estimated beats for other programs: a MIDI tempo map and Audacity labels."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise

import mido
import numpy as np

from yuegguf.audio.tempo_and_key import BEATS_PER_BAR, MusicEstimate
from yuegguf.request.song_request import FinishedSection

TICKS_PER_BEAT = 480
MAX_TEMPO = (1 << 24) - 1
"""Most microseconds of a beat in a MIDI file."""


def beat_labels(estimate: MusicEstimate) -> str:
    """Audacity labels of the beats: time, time, "bar.beat"; beats before the first bar line are in bar 0."""
    lines = []
    for number, seconds in enumerate(estimate.beats):
        bar, beat = divmod(number - estimate.first_bar, BEATS_PER_BAR)
        lines.append(f"{seconds:.6f}\t{seconds:.6f}\t{bar + 1}.{beat + 1}\n")
    return "".join(lines)


def tempo_map(estimate: MusicEstimate, sections: Sequence[FinishedSection]) -> bytes:
    """A MIDI file without notes: a tempo for each beat, bars, and the sections as markers.

    Each beat lies where the estimate has it; what precedes the first is a beat of its own length.
    """
    lead = bool(estimate.beats and estimate.beats[0] > 0)
    times = [0.0, *estimate.beats] if lead else list(estimate.beats)
    track = mido.MidiTrack()
    events: list[tuple[int, mido.MetaMessage]] = []
    for number, (start, end) in enumerate(pairwise(times)):
        microseconds = min(MAX_TEMPO, round(1e6 * (end - start)))
        events.append((number * TICKS_PER_BEAT, mido.MetaMessage("set_tempo", tempo=microseconds)))
    upbeat = estimate.first_bar + lead
    if upbeat:
        events.append((0, mido.MetaMessage("time_signature", numerator=upbeat, denominator=4)))
    bar = mido.MetaMessage("time_signature", numerator=BEATS_PER_BAR, denominator=4)
    events.append((upbeat * TICKS_PER_BEAT, bar))
    ticks = TICKS_PER_BEAT * np.arange(len(times))
    for section in sections:
        tick = round(float(np.interp(section.start, times, ticks)))
        events.append((tick, mido.MetaMessage("marker", text=_latin(section.label))))
    now = 0
    for tick, message in sorted(events, key=lambda event: event[0]):
        track.append(message.copy(time=tick - now))
        now = tick
    file, out = mido.MidiFile(type=0, ticks_per_beat=TICKS_PER_BEAT), BytesIO()
    file.tracks.append(track)
    file.save(file=out)
    return out.getvalue()


def _latin(text: str) -> str:
    """A text in the letters of MIDI files, which are Latin-1."""
    return text.encode("latin-1", "replace").decode("latin-1")
