"""Spec of a song → events and labels: instrument or voice, sound, first frame, number of frames."""

from __future__ import annotations

from dataclasses import dataclass

from nano.corpus import voice
from nano.corpus.draws import Draws
from nano.corpus.genres import GENRES, MOODS, STEP_COUNT, drums, progression
from nano.corpus.instruments import DRUMS
from nano.corpus.labels import ChordLabel, Labels, SectionLabel, SyllableLabel
from nano.corpus.spec import SectionSpec, SongSpec
from nano.corpus.theory import BEATS_PER_BAR, PENTATONIC, Chord, bpm, chord, in_window
from nano.corpus.timing import section_slots

BASS, CHORDS, LEAD = 33, 57, 69
"""Lowest MIDI pitch of the octave of each part."""
LEAD_PATTERN = (0, 4, 8, 10, 12)
"""Sixteenths on which the lead of an instrumental section plays."""


@dataclass(frozen=True)
class Event:
    """One sound in time: `sound` names a function of the sound modules and its arguments."""

    frame: int
    frames: int
    track: str
    """"vocal" or "instrumental"."""
    sound: tuple[str | int | bool, ...]


def arrange(spec: SongSpec) -> tuple[list[Event], Labels]:
    """All events and labels of a song."""
    events: list[Event] = []
    sections: list[SectionLabel] = []
    start = 0
    for section in spec.sections:
        writer = _Section(spec, section, start)
        writer.write()
        events += writer.events
        sections.append(writer.label())
        start += writer.frames
    labels = Labels(
        genre=spec.genre,
        mood=spec.mood,
        gender=spec.gender,
        tags=spec.tags,
        bpm=bpm(spec.beat_frames),
        key=spec.key,
        mode=spec.mode,
        frames=start,
        beats=tuple(range(0, start, spec.beat_frames)),
        sections=tuple(sections),
    )
    return events, labels


class _Section:
    """Writes one section; frames count from the start of the song."""

    def __init__(self, spec: SongSpec, section: SectionSpec, start: int) -> None:
        self.spec, self.section, self.start = spec, section, start
        self.slots, self.bars = section_slots(
            section.body if spec.gender else "", spec.genre, spec.beat_frames
        )
        self.bar = BEATS_PER_BAR * spec.beat_frames
        self.frames = self.bars * self.bar
        self.step = spec.beat_frames // 4
        self.dense = MOODS[spec.mood].dense
        self.kind = section.label.lower()
        numerals = progression(spec.genre, spec.mode, self.kind)
        self.chords = [chord(n, spec.key) for n in numerals]
        # a label's melody comes back with the label
        self.draws = Draws(spec.seed, 3, *self.kind.encode())
        self.events: list[Event] = []
        self.syllables: list[SyllableLabel] = []

    def write(self) -> None:
        """Fill `events` and `syllables`."""
        for bar in range(self.bars):
            self._drums(bar)
            self._bass(bar)
            self._chords(bar)
        if self.slots:
            self._sing()
        else:
            self._lead()

    def label(self) -> SectionLabel:
        """Label of the section after `write`."""
        half = self.bar // 2
        chords = [
            ChordLabel(self.start + i * half, self._chord_at(i * half).name) for i in range(2 * self.bars)
        ]
        return SectionLabel(
            self.section.label,
            self.section.body,
            self.start,
            self.frames,
            self.bars,
            tuple(self.syllables),
            tuple(chords),
        )

    def _chord_at(self, frame: int) -> Chord:
        """The chord at a frame of the section: each lasts half a bar."""
        return self.chords[frame // (self.bar // 2) % len(self.chords)]

    def _add(self, frame: int, frames: int, *sound: str | int | bool, track: str = "instrumental") -> None:
        self.events.append(Event(self.start + frame, frames, track, sound))

    def _drums(self, bar: int) -> None:
        for name, pattern in drums(self.spec.genre, self.kind, self.dense).items():
            for step in _hits(pattern):
                frame = bar * self.bar + step * self.step
                frames = min(DRUMS[name].frames, self.frames - frame)
                self._add(frame, frames, "drum", name, frames)

    def _bass(self, bar: int) -> None:
        pattern = GENRES[self.spec.genre].bass
        for step, until in _held(pattern):
            frame, frames = bar * self.bar + step * self.step, (until - step) * self.step
            tones = self._chord_at(frame).tones
            pitch = in_window(tones["rtf".index(pattern[step])], BASS)
            self._add(frame, frames, "note", GENRES[self.spec.genre].sounds[0], pitch, frames, False)

    def _chords(self, bar: int) -> None:
        pattern = GENRES[self.spec.genre].chords[self.dense]
        for step, until in _held(pattern):
            frame, frames = bar * self.bar + step * self.step, (until - step) * self.step
            tones = self._chord_at(frame).tones
            played = tones if pattern[step] == "x" else (tones[int(pattern[step])],)
            for tone in played:
                sound = GENRES[self.spec.genre].sounds[1]
                self._add(frame, frames, "note", sound, in_window(tone, CHORDS), frames, not self.dense)

    def _lead(self) -> None:
        """A melody for a section that nobody sings."""
        for bar in range(self.bars):
            ends = (*LEAD_PATTERN[1:], STEP_COUNT)
            places = [bar * self.bar + step * self.step for step in LEAD_PATTERN]
            pitches = self._melody(places, LEAD, 11)
            for frame, step, until, pitch in zip(places, LEAD_PATTERN, ends, pitches, strict=True):
                frames = (until - step) * self.step
                sound = GENRES[self.spec.genre].sounds[2]
                self._add(frame, frames, "note", sound, pitch, frames, not self.dense)

    def _sing(self) -> None:
        low = voice.LOWEST[self.spec.gender]
        pitches = self._melody([slot.frame for slot in self.slots], low, voice.SPAN)
        for slot, pitch in zip(self.slots, pitches, strict=True):
            sung, gender, size = slot.syllable, self.spec.gender, voice.CONSONANT_FRAMES
            begin = slot.frame + (size if sung.onset else 0)
            close = slot.frame + slot.frames - voice.GAP_FRAMES - size
            end = close + (voice.OVERLAP_FRAMES if sung.coda else size)
            if sung.onset:
                self._add(slot.frame, size, "consonant", sung.onset, gender, pitch, track="vocal")
            self._add(begin, end - begin, "vowel", sung.vowel, gender, pitch, end - begin, track="vocal")
            if sung.coda:
                self._add(close, size, "consonant", sung.coda, gender, pitch, track="vocal")
            frames = (self.start + slot.frame, self.start + begin, self.start + end)
            self.syllables.append(SyllableLabel(*frames, sung.phonemes, sung.vowel, pitch))

    def _melody(self, frames: list[int], low: int, span: int) -> list[int]:
        """A pitch for each frame: steps along the pentatonic scale, chord tones where a chord begins."""
        scale = _pool([self._pitch_class(s) for s in PENTATONIC[self.spec.mode]], low, span)
        here = scale[len(scale) // 3 + self.draws.below(2)]
        out = []
        for frame in frames:
            tones = _pool(self._chord_at(frame).tones, low, span)
            here = _near(scale, here, self.draws.choice((-1, -1, 0, 1, 1)))
            if frame % (self.bar // 2) == 0:
                here = min(tones, key=lambda tone: abs(tone - here))
            out.append(here)
        return out

    def _pitch_class(self, above: int) -> int:
        return (chord("I", self.spec.key).root + above) % 12


def _pool(classes: list[int] | tuple[int, ...], low: int, span: int) -> list[int]:
    """Pitches of these classes from `low` to `low + span`, rising."""
    return sorted(p for c in classes if (p := in_window(c, low)) <= low + span)


def _near(scale: list[int], pitch: int, steps: int) -> int:
    """The pitch that many steps along the scale from the one nearest to `pitch`; turns back at its ends."""
    place = min(range(len(scale)), key=lambda i: abs(scale[i] - pitch)) + steps
    last = len(scale) - 1
    return scale[abs(place) if place <= last else 2 * last - place]


def _hits(pattern: str) -> list[int]:
    return [step for step, sign in enumerate(pattern) if sign != "."]


def _held(pattern: str) -> list[tuple[int, int]]:
    """Each stroke and the step at which it ends: the next stroke or the half bar, where chords change."""
    hits = _hits(pattern)
    ends = [*hits[1:], STEP_COUNT]
    half = STEP_COUNT // 2
    return [(a, half if a < half < b else b) for a, b in zip(hits, ends, strict=True)]
