"""Corpus songs as the ids that stage 1 learns from, with what the training may know besides.

A row is laid out by `yuegguf.stages.prompt`, exactly as at run time: header, then per section its prompt,
codes V0 I0 V1 I1 …, <EOA>, end marker. Only codes and <EOA> are learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import sentencepiece
from numpy.typing import NDArray

from nano.corpus import CONSONANTS, VOWELS, SectionLabel, SongSpec, theory
from nano.corpus.arrange import arrange
from nano.corpus.genres import GENRES, MOODS
from nano.corpus.spec import GENDERS, parse_tags
from nano.corpus.spelling import letters, word_syllables, words
from nano.corpus.states import CHORDS, states
from nano.corpus.theory import BEATS_PER_BAR
from nano.tokenizer import TEXT_PIECES, appended_pieces, build_tokenizer
from nano.train.references import Reference
from yuegguf.lm.tokenizer import Tokenizer
from yuegguf.lm.vocab import Stage1Vocab, interleave, stage1_vocab
from yuegguf.request.lyrics import Section, parse_lyrics
from yuegguf.stages.prompt import Prompt, build

Ints = NDArray[np.int64]
UNKNOWN = -100
"""A target that is not asked for."""
TIMES = {"sixteenth": 9, "step": 16, "chord": len(CHORDS), "bars": 8, "sung": 40}
SOUNDS = {"onset": len(CONSONANTS) + 1, "vowel": len(VOWELS) + 1, "coda": len(CONSONANTS) + 1}
TAGS: dict[str, Sequence[object]] = {
    "genre": tuple(GENRES), "mood": tuple(MOODS), "gender": GENDERS,
    "beat": theory.BEAT_FRAMES, "key": theory.KEYS, "mode": theory.MODES,
}  # fmt: skip
"""Tag → its values."""
HARMONY = {f"chord{i}": len(CHORDS) for i in range(4)}
"""A section's first four chords: the whole progression, which follows from tags and label."""
LINES = {"first": 3, "last": 3}
"""Whether a syllable is the first, the last of its line: classes 0 = no syllable, 1 = no, 2 = yes."""
SAID = SOUNDS | {name: len(values) for name, values in TAGS.items()} | HARMONY | {"first": LINES["first"]}
"""Facts that a place in the text determines: SOUNDS, and whether it opens its line, at the last piece of a
syllable; TAGS at the end of the header and of each section's prompt; HARMONY at the latter."""
LOOKS = ("syllable", "next", "harmony")
"""Places that a frame must attend to: the last piece of the syllable that is sung or comes next; of the one
after it; the end of its section's prompt."""
FACTS = TIMES | SOUNDS | LINES
"""Facts of a frame → number of their classes: frames since the sixteenth began, sixteenth of the bar,
chord, bars to the section's end, frames since the syllable began; and the parts of the syllable that is
sung or comes next, 0 for none, and its place in its line."""


@dataclass(frozen=True)
class SongRow:
    """One sequence of ids [N] and, for each, what the next one is."""

    ids: Ints
    targets: Ints
    """[N] the next id where it is a code or <EOA>, else UNKNOWN."""
    facts: dict[str, Ints]
    """[N] classes of the next id's frame, or UNKNOWN."""
    looks: dict[str, Ints]
    """[N] by LOOKS, the place that tells of the next id's frame, or -1."""
    said: dict[str, Ints]
    """[N] classes of SAID at the places where the text says them, else UNKNOWN."""


@lru_cache(maxsize=1)
def tokenizer_bytes() -> bytes:
    """The nano family's sentencepiece model."""
    return build_tokenizer()


@lru_cache(maxsize=1)
def pieces() -> tuple[str, ...]:
    """All pieces in the order of their ids."""
    processor = _processor()
    return tuple(processor.id_to_piece(i) for i in range(processor.get_piece_size()))


@lru_cache(maxsize=1)
def _processor() -> sentencepiece.SentencePieceProcessor:
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(tokenizer_bytes())
    assert processor.get_piece_size() == TEXT_PIECES + len(appended_pieces())
    return processor


@lru_cache(maxsize=1)
def _tools() -> tuple[Tokenizer, Stage1Vocab]:
    return Tokenizer(tokenizer_bytes(), pieces()), stage1_vocab(pieces())


def song_row(spec: SongSpec, sections: int | None = None, reference: Reference | None = None) -> SongRow:
    """The whole song, or its first sections under the header of all, after a reference if there is one."""
    tokenizer, vocab = _tools()
    lyrics = parse_lyrics(spec.lyrics).sections
    codes = reference.codes.astype(np.int16) if reference else None
    prompt = build(tokenizer.encode, vocab, spec.tags, lyrics, lyrics[:sections], reference=codes)
    writer = _Writer(spec, prompt, vocab, reference.tells if reference else {})
    for number in range(len(prompt.sections)):
        writer.section(number)
    return writer.row()


def free_row(spec: SongSpec, section: int) -> SongRow:
    """One section without any words before it: what the unconditional row of guidance sees."""
    _, vocab = _tools()
    writer = _Writer(spec, Prompt([], [[vocab.xcodec]] * len(spec.sections), []), vocab)
    writer.section(section)
    return writer.row()


def text_row(spec: SongSpec) -> SongRow:
    """The prompts of all sections without codes: what reading alone is learned from."""
    tokenizer, vocab = _tools()
    lyrics = parse_lyrics(spec.lyrics).sections
    writer = _Writer(spec, build(tokenizer.encode, vocab, spec.tags, lyrics, lyrics), vocab)
    for number in range(len(lyrics)):
        writer.text(number)
    return writer.row()


class _Writer:
    """Collects ids and targets."""

    def __init__(
        self, spec: SongSpec, prompt: Prompt, vocab: Stage1Vocab, tells: Mapping[str, str] | None = None
    ) -> None:
        self.prompt, self.vocab, self.spec = prompt, vocab, spec
        self.told = tag_classes(spec.tags) | {
            name: TAGS[name].index(value) for name, value in (tells or {}).items()
        }
        """Values that tags and reference determine."""
        self.labels = arrange(spec)[1]
        self.ids: list[int] = list(prompt.header)
        self.learned: list[tuple[int, int]] = []
        """Spans of ids that are learned."""
        self.facts: list[tuple[int, dict[str, Ints]]] = []
        self.words: list[tuple[int, dict[str, Ints]]] = []
        """Places of the syllables that each frame must look at."""
        self.sounds: list[tuple[Ints, SectionLabel]] = []
        self.ends: list[tuple[int, SectionLabel]] = []
        """Last id of each section's prompt."""

    def text(self, number: int) -> Ints:
        """Write a section's prompt; returns the place of each syllable and of what follows the last."""
        label, prompt = self.labels.sections[number], self.prompt.sections[number]
        self.ids += prompt
        if len(prompt) == 1:  # the separator alone
            return np.full(len(label.syllables) + 1, -1)
        self.ends.append((len(self.ids) - 1, label))
        end = len(self.ids) - 2  # before <SOA> and the separator
        places = last_pieces(label.label, label.body if label.syllables else "")
        places = places + end - _text_length(label)
        self.sounds.append((places, label))
        return np.append(places, end - 1)  # the blank line: nothing is left to sing

    def section(self, number: int) -> None:
        """Write a section's prompt, codes and end."""
        places = self.text(number)
        label = self.labels.sections[number]
        first = len(self.ids)
        frames = slice(label.start, label.start + label.frames)
        self.ids += [*self.vocab.ids(interleave(*self.states[:, frames])), self.vocab.eoa]
        self.learned.append((first, len(self.ids)))
        self.facts.append((first, _times(label, self.spec.beat_frames) | _sounds(label)))
        now = _now_sung(label)
        after = np.minimum(now + 1, len(places) - 1)
        self.words.append((first, {"syllable": places[now], "next": places[after]}))
        self.ids += self.prompt.end_of_segment

    @cached_property
    def states(self) -> Ints:
        """States of the whole song [2, F]."""
        return states(self.spec)

    def row(self) -> SongRow:
        """The row of everything written so far."""
        count = len(self.ids)
        ids, targets = np.array(self.ids), np.full(count, UNKNOWN)
        for first, end in self.learned:
            targets[first - 1 : end - 1] = ids[first:end]
        facts = {name: np.full(count, UNKNOWN) for name in FACTS}
        for first, found in self.facts:
            for name, values in found.items():
                both = values.repeat(2)  # a frame is two ids
                facts[name][first - 1 : first - 1 + len(both)] = both
        looks = {name: np.full(count, -1) for name in LOOKS}
        for first, named in self.words:
            for name, places in named.items():
                looks[name][first - 1 : first - 1 + 2 * len(places)] = places.repeat(2)
        for end, _ in self.ends:
            looks["harmony"][end:] = end
        looks["harmony"][targets == UNKNOWN] = -1
        return SongRow(ids, targets, facts, looks, self._said(count))

    def _said(self, count: int) -> dict[str, Ints]:
        said = {name: np.full(count, UNKNOWN) for name in SAID}
        for places, label in self.sounds:
            for name, values in zip(SOUNDS, _parts(label).T, strict=True):
                said[name][places] = values
            said["first"][places] = _lines(label)["first"]
        if self.prompt.header:
            ends = [end for end, _ in self.ends]
            for name, value in self.told.items():
                said[name][[len(self.prompt.header) - 1, *ends]] = value
        for end, label in self.ends:
            for name, chord in zip(HARMONY, label.chords, strict=False):
                said[name][end] = CHORDS.index(chord.name)
        return said


def tag_classes(text: str) -> dict[str, int]:
    """Values of a tags line, as places among TAGS."""
    said = dict(vars(parse_tags(text)))
    beat = said.pop("bpm")
    said["beat"] = theory.beat_frames_of(beat) if beat else None
    return {name: TAGS[name].index(value) for name, value in said.items() if value}


def _text_length(label: SectionLabel) -> int:
    tokenizer, _ = _tools()
    return len(tokenizer.encode(Section(label.label, label.body).text))


def _times(label: SectionLabel, beat_frames: int) -> dict[str, Ints]:
    """Per frame of the section, the classes of TIMES; one more for <EOA>."""
    frame, step = np.arange(label.frames + 1), beat_frames // 4
    bar = BEATS_PER_BAR * beat_frames
    chord = np.zeros(label.frames + 1, np.int64)
    sung = np.full(label.frames + 1, TIMES["sung"] - 1)
    for one in label.chords:
        chord[one.frame - label.start :] = CHORDS.index(one.name)
    for syllable in label.syllables:
        onset = syllable.onset - label.start
        sung[onset:] = np.minimum(np.arange(len(sung) - onset), TIMES["sung"] - 1)
    return {
        "sixteenth": frame % step,
        "step": frame // step % 16,
        "chord": chord,
        "bars": np.minimum(label.bars - frame // bar, TIMES["bars"] - 1),
        "sung": sung,
    }


def _sounds(label: SectionLabel) -> dict[str, Ints]:
    """Per frame of the section the parts of the syllable that is sung or comes next; 0 after the last."""
    parts, now = np.pad(_parts(label), ((0, 1), (0, 0))), _now_sung(label)
    lines = {name: np.append(values, 0)[now] for name, values in _lines(label).items()}
    return dict(zip(SOUNDS, parts[now].T, strict=True)) | lines


def _lines(label: SectionLabel) -> dict[str, Ints]:
    """[S] by LINES, the class of each syllable."""
    counts = [sum(len(word_syllables(word)) for word in words(line)) for line in label.body.splitlines()]
    first = np.ones(len(label.syllables) + 1, np.int64)
    if label.syllables:
        first[np.cumsum([0, *(count for count in counts if count)])] = 2
    return {"first": first[:-1], "last": first[1:]}


def _parts(label: SectionLabel) -> Ints:
    """[S, 3] the classes of SOUNDS of each syllable."""
    parts = np.zeros((len(label.syllables), len(SOUNDS)), np.int64)
    for row, syllable in zip(parts, label.syllables, strict=True):
        vowel = syllable.phonemes.index(syllable.vowel)
        before, after = syllable.phonemes[:vowel], syllable.phonemes[vowel + 1 :]
        row[0] = CONSONANTS.index(before[0]) + 1 if before else 0
        row[1] = VOWELS.index(syllable.vowel) + 1
        row[2] = CONSONANTS.index(after[0]) + 1 if after else 0
    return parts


def _now_sung(label: SectionLabel) -> Ints:
    """Per frame the number of the syllable that is sung or comes next; past the last, their count."""
    out = np.zeros(label.frames, np.int64)
    for syllable in label.syllables:
        out[syllable.vowel_end + 1 - label.start :] += 1
    return out


@lru_cache(maxsize=256)
def last_pieces(label: str, body: str) -> Ints:
    """Places [S] of each syllable's last piece among those of the section's text."""
    text = Section(label, body).text
    # the first piece begins with a space that is not in the text; a byte stands for one letter of plain text
    lengths = [
        1 if piece.startswith("<0x") else len(piece) for piece in _processor().encode(text, out_type=str)
    ]
    ends = np.cumsum(lengths) - 1
    out: list[int] = []
    at = text.index("\n") + 1
    for word in words(text[at:]):
        at = text.lower().index(word, at)
        parts = letters(word) if len(word_syllables(word)) > 1 else [word]
        for part in parts if word_syllables(word) else []:
            at += len(part)
            out.append(int(np.searchsorted(ends, at)))
        at += 0 if word_syllables(word) else len(word)
    return np.array(out, np.int64)
