"""A small sentencepiece model in YuE's layout: text pieces, specials, eight codebooks.

Same kind as the real one (BPE with byte fallback, identity normaliser, dummy prefix, digits split,
spaces kept), trained on the words of the corpus cut into syllables, so that
nearly every piece of lyrics is one sung syllable. The specials and codec pieces are appended after training
as NORMAL pieces with score 0: they are reachable by id only, because no chain of merges leads to
them. The same sentencepiece version gives the same bytes.
"""

from __future__ import annotations

import io
import struct

import sentencepiece
from yuegguf_convert.tokenizer_pieces import APPENDED as SPECIALS

from nano.corpus.genres import GENRES, MOODS
from nano.corpus.lexicon import WORDS
from nano.corpus.spec import GENDERS, NEUTRAL
from nano.corpus.spelling import letters

TEXT_PIECES = 1600
"""Pieces before the specials: unknown, <s>, </s>, 256 bytes, then learned text."""
CODEBOOKS, CODES = 8, 1024
NORMAL = 1
"""ModelProto.SentencePiece.Type; leaving the field out would mean the same."""
MARKERS = """\
Generate music from the given lyrics segment by segment.
[Genre] major minor bpm
[start_of_segment]
[end_of_segment]
[start_of_reference]
[end_of_reference]
[verse]
[chorus]
[bridge]
[intro]
[outro]
[pre-chorus]
[instrumental]
"""
"""Fixed texts of prompts, besides tags and lyrics."""
WEIGHT = 8
"""Weight of a word without a capital, relative to one with a capital."""


def _lines() -> list[str]:
    """Training text: markers, tags, and every word cut into syllables by a digit, which no piece crosses."""
    tags = [*GENRES, *MOODS, *(mood.word for mood in MOODS.values()), *GENDERS, *NEUTRAL]
    # after a line break comes no space: the digit in front makes pieces without one
    cut = ["0".join(letters(word)) for word in WORDS]
    return [
        *(MARKERS.splitlines() * WEIGHT),
        *(tags * WEIGHT),
        *(cut * WEIGHT),
        *(f"0{word.capitalize()}" for word in cut for _ in range(WEIGHT // 2)),
    ]


def build_tokenizer() -> bytes:
    """The serialised sentencepiece model: TEXT_PIECES + 22 + 8·1024 pieces, codes in order."""
    target = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_lines()),
        model_writer=target,
        model_type="bpe",
        vocab_size=TEXT_PIECES,
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        split_digits=True,
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
    )
    return target.getvalue() + b"".join(_entry(piece) for piece in appended_pieces())


def appended_pieces() -> list[str]:
    """The pieces behind the text, in the order of their ids."""
    codes = (f"<xcodec/{k}/{c}>" for k in range(CODEBOOKS) for c in range(CODES))
    return [*SPECIALS, *codes]


def _entry(piece: str) -> bytes:
    """One more `pieces` field (number 1) of a ModelProto: its text (1), score (2) and type (3)."""
    name = piece.encode()
    message = (
        b"\x0a" + _varint(len(name)) + name + b"\x15" + struct.pack("<f", 0.0) + b"\x18" + _varint(NORMAL)
    )
    return b"\x0a" + _varint(len(message)) + message


def _varint(value: int) -> bytes:
    """A protobuf integer: seven bits a byte, low bits first."""
    low = bytes([value & 0x7F])
    return low if value < 0x80 else bytes([value & 0x7F | 0x80]) + _varint(value >> 7)
