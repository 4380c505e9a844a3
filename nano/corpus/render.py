"""Events → stems at both rates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nano.corpus.arrange import Event, arrange
from nano.corpus.instruments import drum, note
from nano.corpus.labels import Labels
from nano.corpus.spec import SongSpec, sample_spec
from nano.corpus.synth import Pair
from nano.corpus.voice import consonant, vowel
from yuegguf.codec.protocol import CODEC_HOP, SONG_HOP

Wave = NDArray[np.float32]
SOUNDS = {"drum": drum, "note": note, "consonant": consonant, "vowel": vowel}


@dataclass(frozen=True)
class CorpusSong:
    """Mono stems of F frames: [882·F] at 44.1 kHz, [320·F] at 16 kHz, float32 in -1 … 1."""

    spec: SongSpec
    labels: Labels
    vocal: Wave
    instrumental: Wave
    vocal16: Wave
    instrumental16: Wave

    @property
    def mix(self) -> Wave:
        """Both stems at 44.1 kHz [882·F]."""
        return self.vocal + self.instrumental

    @property
    def mix16(self) -> Wave:
        """Both stems at 16 kHz [320·F]."""
        return self.vocal16 + self.instrumental16

    @property
    def tags(self) -> str:
        """The line of tags."""
        return self.spec.tags

    @property
    def lyrics(self) -> str:
        """The sections under their labels."""
        return self.spec.lyrics


def make_song(source: int | SongSpec) -> CorpusSong:
    """The song of a seed or of a spec."""
    spec = source if isinstance(source, SongSpec) else sample_spec(source)
    events, labels = arrange(spec)
    stems = {
        track: _add_up([e for e in events if e.track == track], labels.frames)
        for track in ("vocal", "instrumental")
    }
    return CorpusSong(
        spec, labels, stems["vocal"][0], stems["instrumental"][0], *(s[1] for s in stems.values())
    )


def _add_up(events: list[Event], frames: int) -> Pair:
    high, low = np.zeros(frames * SONG_HOP, np.float32), np.zeros(frames * CODEC_HOP, np.float32)
    for event in events:
        name, *arguments = event.sound
        for out, wave, hop in zip(
            (high, low), SOUNDS[str(name)](*arguments), (SONG_HOP, CODEC_HOP), strict=True
        ):
            out[event.frame * hop :][: len(wave)] += wave
    return high, low
