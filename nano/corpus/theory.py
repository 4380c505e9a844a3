"""Keys, modes, chords and the tempo grid. Pitches are MIDI numbers, times frames of 20 ms."""

from __future__ import annotations

from dataclasses import dataclass

FRAME_RATE = 50
"""Frames per second: the codec's, and the grid on which everything starts."""
BEATS_PER_BAR = 4
BEAT_FRAMES = (20, 24, 28, 32, 36)
"""Frames of a beat, each divisible by 4: 150, 125, 107.14, 93.75 and 83.33 bpm, no two an octave apart."""
KEYS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
MODES = ("major", "minor")
PENTATONIC = {"major": (0, 2, 4, 7, 9), "minor": (0, 3, 5, 7, 10)}
"""Semitones above the tonic that melodies use."""

_MAJOR, _MINOR = (0, 4, 7), (0, 3, 7)
CHORDS: dict[str, tuple[int, tuple[int, ...]]] = {
    "I": (0, _MAJOR), "ii": (2, _MINOR), "iii": (4, _MINOR), "IV": (5, _MAJOR), "V": (7, _MAJOR),
    "vi": (9, _MINOR), "i": (0, _MINOR), "III": (3, _MAJOR), "iv": (5, _MINOR), "v": (7, _MINOR),
    "VI": (8, _MAJOR), "VII": (10, _MAJOR),
}  # fmt: skip
"""Roman numeral → (root in semitones above the tonic, triad). VI, VII and III are those of the minor mode."""


@dataclass(frozen=True)
class Chord:
    """A triad in a key."""

    numeral: str
    root: int
    """Pitch class 0 … 11."""
    tones: tuple[int, ...]
    """Pitch classes: root, third, fifth."""

    @property
    def name(self) -> str:
        """Such as "Am" or "F#"."""
        minor = (self.tones[1] - self.root) % 12 == 3
        return KEYS[self.root] + ("m" if minor else "")


def chord(numeral: str, key: str) -> Chord:
    """The chord of a roman numeral in a key."""
    above, triad = CHORDS[numeral]
    root = (KEYS.index(key) + above) % 12
    return Chord(numeral, root, tuple((root + step) % 12 for step in triad))


def bpm(beat_frames: int) -> float:
    """Beats per minute of a beat of that many frames."""
    return 60 * FRAME_RATE / beat_frames


def beat_frames_of(tempo: float) -> int:
    """The beat of the grid nearest to a tempo in bpm."""
    return min(BEAT_FRAMES, key=lambda frames: abs(bpm(frames) - tempo))


def hertz(pitch: int) -> float:
    """Equal temperament."""
    return 440.0 * 2.0 ** ((pitch - 69) / 12)


def in_window(pitch_class: int, low: int) -> int:
    """The pitch of that class in the octave low … low + 11."""
    return low + (pitch_class - low) % 12
