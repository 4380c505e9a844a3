"""Check whether a section's words fit into its seconds, before hours of generation.

YuE's vocals have a natural pace, and lyrics left at the end of a section are lost. In the official example,
complete sections ran at 1.6 to 2.3 syllables a second. Syllables are vowel groups in Latin script, characters
in Chinese, blocks in Korean, morae in Japanese.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import ceil
from typing import Literal

from yuegguf.request.lyrics import Section

Language = Literal["en", "zh", "ja", "ko"]
FitVerdict = Literal["instrumental", "fits", "tight", "too long"]
COMFORTABLE_PACE, MAX_PACE = 2.5, 3.5
"""Syllables a second that fit easily, and above which words are lost."""
MAX_SECTION_SECONDS = 150
"""Most seconds of a section."""
RAP_FACTOR = 1.8
"""Factor on both paces for a section labelled rap, or a song tagged so."""
LANGUAGE_NAMES: dict[Language, str] = {
    "en": "Latin script",
    "zh": "Chinese",
    "ja": "Japanese",
    "ko": "Korean",
}

_KANA = "\u3041-\u3096\u30a1-\u30fa"
_SMALL = "ゃゅょャュョぁぃぅぇぉァィゥェォ"
_HANGUL = "\uac00-\ud7a3"
_HAN = "\u3400-\u4dbf\u4e00-\u9fff"
_SIGN = re.compile(f"[{_KANA}ー{_HANGUL}{_HAN}]")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_VOWELS = re.compile(r"[aeiouyàáâãäåæèéêëìíîïòóôõöøœùúûüýÿ]+", re.IGNORECASE)
_SILENT = [re.compile(r"[^aeiouy]e$"), re.compile(r"[^aeiouytd]ed$"), re.compile(r"[^aeiouysxzcgh]es$")]
_SPOKEN = re.compile(r"[^aeiouy]le$")
KANJI_MORAE = 2
"""Morae of a Chinese character among kana: most are read with two."""


@dataclass(frozen=True)
class SectionFit:
    """A section's words against its time."""

    label: str
    language: Language
    syllables: int
    seconds: float
    """Length limit of the section."""
    rap: bool = False

    @property
    def pace(self) -> float:
        """Syllables a second."""
        return self.syllables / self.seconds

    @property
    def verdict(self) -> FitVerdict:
        """Whether the words fit: by the pace, relative to COMFORTABLE_PACE and MAX_PACE."""
        if not self.syllables:
            return "instrumental"
        factor = RAP_FACTOR if self.rap else 1.0
        if self.pace <= COMFORTABLE_PACE * factor:
            return "fits"
        return "tight" if self.pace <= MAX_PACE * factor else "too long"

    @property
    def advice(self) -> str:
        """Suggested change; empty if none is needed."""
        if self.verdict in ("instrumental", "fits"):
            return ""
        pace = COMFORTABLE_PACE * (RAP_FACTOR if self.rap else 1.0)
        needed = ceil(self.syllables / pace)
        longer = (
            f"give it {needed} s (#length {needed})" if needed <= MAX_SECTION_SECONDS else "split it in two"
        )
        return f"take out about {self.syllables - int(pace * self.seconds)} syllables, or {longer}"


def section_fit(section: Section, seconds: float, tags: str = "") -> SectionFit:
    """A section's words against its own length, or `seconds` if it has none."""
    rap = "rap" in section.label.lower() or bool(re.search(r"\brap\b", tags, re.IGNORECASE))
    limit = section.seconds if section.seconds is not None else seconds
    return SectionFit(section.label, detect_language(section.body), count_syllables(section.body), limit, rap)


def detect_language(text: str) -> Language:
    """Language by the most frequent script; kana among Chinese characters mean Japanese."""
    kana, hangul, han = (len(re.findall(f"[{signs}]", text)) for signs in (_KANA, _HANGUL, _HAN))
    latin = len(_VOWELS.findall(_SIGN.sub(" ", text)))
    if max(kana, hangul, han, latin) == 0 or latin > max(hangul, kana + han):
        return "en"
    if hangul >= kana + han:
        return "ko"
    return "ja" if kana else "zh"


def count_syllables(text: str) -> int:
    """Syllables of all words, in any script."""
    kanji = KANJI_MORAE if detect_language(text) == "ja" else 1
    count = 0
    for sign in _SIGN.findall(text):
        if re.match(f"[{_HAN}]", sign):
            count += kanji
        elif sign not in _SMALL:
            count += 1
    return count + sum(_latin_syllables(word) for word in _WORD.findall(_SIGN.sub(" ", text)))


def _latin_syllables(word: str) -> int:
    """Vowel groups; a final silent e, and -es and -ed that are not spoken, do not count (English)."""
    lower = word.lower().replace("’", "'")
    groups = len(_VOWELS.findall(lower))
    silent = any(pattern.search(lower) for pattern in _SILENT)
    if silent and not _SPOKEN.search(lower):
        groups -= 1
    return max(1, groups)
