"""Corpus songs as the ids that stage 1 learns from, with what the training may know besides.

A row is laid out by `yuegguf.stages.prompt`, exactly as at run time: header, then per section its prompt,
codes V0 I0 V1 I1 …, <EOA>, end marker. Only codes and <EOA> are learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import sentencepiece
from numpy.typing import NDArray

from nano.corpus import CONSONANTS, VOWELS, SectionLabel, SongSpec
from nano.corpus.arrange import arrange
from nano.corpus.spelling import letters, word_syllables, words
from nano.corpus.states import CHORDS, states
from nano.corpus.theory import BEATS_PER_BAR
from nano.tokenizer import TEXT_PIECES, appended_pieces, build_tokenizer
from yuegguf.lyrics import Section, parse
from yuegguf.stages.prompt import Prompt, build
from yuegguf.tokenizer import Tokenizer
from yuegguf.vocab import Stage1Vocab, interleave, stage1_vocab

Ints = NDArray[np.int64]
UNKNOWN = -100
"""A target that is not asked for."""
MOST_PIECES = 3
"""Of a syllable's pieces, those that are looked at."""
TIMES = {"sixteenth": 9, "step": 16, "chord": len(CHORDS), "bars": 8, "sung": 40}
SOUNDS = {"onset": len(CONSONANTS) + 1, "vowel": len(VOWELS) + 1, "coda": len(CONSONANTS) + 1}
FACTS = TIMES | SOUNDS
"""What a frame is, and the number of its classes: frames since the sixteenth began, sixteenth of the bar,
chord, bars to the section's end, frames since the syllable began; and the parts of the syllable that is
sung or comes next, 0 for none."""


@dataclass(frozen=True)
class SongRow:
    """One sequence of ids [N] and, for each, what the next one is."""

    ids: Ints
    targets: Ints
    """[N] the next id where it is a code or <EOA>, else UNKNOWN."""
    facts: dict[str, Ints]
    """[N] classes of the next id's frame, or UNKNOWN."""
    words: Ints
    """[N, MOST_PIECES] places of the pieces that the next id's frame sings, or -1."""


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


def song_row(spec: SongSpec, sections: int | None = None) -> SongRow:
    """The whole song, or its first sections under the header of all."""
    tokenizer, vocab = _tools()
    lyrics = parse(spec.lyrics).sections
    prompt = build(tokenizer.encode, vocab, spec.tags, lyrics, lyrics[:sections])
    writer = _Writer(spec, prompt, vocab)
    for number in range(len(prompt.sections)):
        writer.section(number)
    return writer.row()


def free_row(spec: SongSpec, section: int) -> SongRow:
    """One section without any words before it: what the unconditional row of guidance sees."""
    _, vocab = _tools()
    writer = _Writer(spec, Prompt([], [[vocab.xcodec]] * len(spec.sections), []), vocab)
    writer.section(section)
    return writer.row()


class _Writer:
    """Collects ids and targets."""

    def __init__(self, spec: SongSpec, prompt: Prompt, vocab: Stage1Vocab) -> None:
        self.prompt, self.vocab, self.spec = prompt, vocab, spec
        self.states = states(spec)
        self.labels = arrange(spec)[1]
        self.ids: list[int] = list(prompt.header)
        self.learned: list[tuple[int, int]] = []
        """Spans of ids that are learned."""
        self.facts: list[tuple[int, dict[str, Ints]]] = []
        self.words: list[tuple[int, Ints]] = []

    def section(self, number: int) -> None:
        label = self.labels.sections[number]
        prompt = self.prompt.sections[number]
        start = len(self.ids)
        self.ids += prompt
        first = len(self.ids)
        frames = slice(label.start, label.start + label.frames)
        self.ids += [*self.vocab.ids(interleave(*self.states[:, frames])), self.vocab.eoa]
        self.learned.append((first, len(self.ids)))
        self.facts.append((first, _times(label, self.spec.beat_frames) | _sounds(label)))
        if len(prompt) > 1:
            sung = syllable_pieces(label.label, label.body if label.syllables else "")
            places = start + len(prompt) - 2 - _text_length(label) + sung
            places[sung < 0] = -1
            ends = np.full((1, MOST_PIECES), -1)
            ends[0, 0] = start + len(prompt) - 3  # the blank line after the text: nothing is left to sing
            self.words.append((first, np.concatenate([places, ends])[_now_sung(label)]))
        self.ids += self.prompt.end_of_segment

    def row(self) -> SongRow:
        count = len(self.ids)
        ids, targets = np.array(self.ids), np.full(count, UNKNOWN)
        for first, end in self.learned:
            targets[first - 1 : end - 1] = ids[first:end]
        facts = {name: np.full(count, UNKNOWN) for name in FACTS}
        for first, found in self.facts:
            for name, values in found.items():
                both = values.repeat(2)  # a frame is two ids
                facts[name][first - 1 : first - 1 + len(both)] = both
        words = np.full((count, MOST_PIECES), -1)
        for first, places in self.words:
            both = places.repeat(2, axis=0)
            words[first - 1 : first - 1 + len(both)] = both
        return SongRow(ids, targets, facts, words)


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
    parts = np.zeros((len(label.syllables) + 1, 3), np.int64)
    for row, syllable in zip(parts, label.syllables, strict=False):
        vowel = syllable.phonemes.index(syllable.vowel)
        before, after = syllable.phonemes[:vowel], syllable.phonemes[vowel + 1 :]
        row[0] = CONSONANTS.index(before[0]) + 1 if before else 0
        row[1] = VOWELS.index(syllable.vowel) + 1
        row[2] = CONSONANTS.index(after[0]) + 1 if after else 0
    return dict(zip(SOUNDS, parts[_now_sung(label)].T, strict=True))


def _now_sung(label: SectionLabel) -> Ints:
    """Per frame the number of the syllable that is sung or comes next; past the last, their count."""
    out = np.zeros(label.frames, np.int64)
    for syllable in label.syllables:
        out[syllable.vowel_end + 1 - label.start :] += 1
    return out


@lru_cache(maxsize=256)
def syllable_pieces(label: str, body: str) -> Ints:
    """Places [S, MOST_PIECES] of each syllable's pieces among those of the section's text; -1 = no more."""
    text = Section(label, body).text
    # the first piece begins with a space that is not in the text; a byte stands for one letter of plain text
    lengths = [
        1 if piece.startswith("<0x") else len(piece) for piece in _processor().encode(text, out_type=str)
    ]
    ends = np.cumsum(lengths) - 1
    begins = np.concatenate([[0], ends[:-1]])
    out: list[Ints] = []
    at = text.index("\n") + 1
    for word in words(text[at:]):
        at = text.lower().index(word, at)
        parts = letters(word) if len(word_syllables(word)) > 1 else [word]
        for part in parts if word_syllables(word) else []:
            touched = np.flatnonzero((ends > at) & (begins < at + len(part)))[:MOST_PIECES]
            out.append(np.pad(touched, (0, MOST_PIECES - len(touched)), constant_values=-1))
            at += len(part)
        at += 0 if word_syllables(word) else len(word)
    return np.array(out, np.int64).reshape(-1, MOST_PIECES)
