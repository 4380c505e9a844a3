"""Syllables of lyrics, counted by script."""

from __future__ import annotations

import re
import unicodedata

from yuegguf.request.scripts import EASTERN_SIGN, HAN, scripted_lines

KANJI_MORAE = 2
"""Morae of a Chinese character in Japanese: most are read with two."""

_SMALL = "ゃゅょャュョぁぃぅぇぉァィゥェォ"
_HAN_SIGN = re.compile(f"[{HAN}]")
_INDIC = re.compile("[\u0900-\u0dff]+")
_THAI = re.compile("[\u0e01-\u0e2e]")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_LATIN_VOWELS = re.compile(r"[aeiouyæøœı]+")
_GREEK_VOWELS = re.compile(r"[αεηιουω]+")
_CYRILLIC_VOWELS = re.compile(r"[аеиоуыэюяіє]")
_SILENT = [re.compile(r"[^aeiouy]e$"), re.compile(r"[^aeiouytd]ed$"), re.compile(r"[^aeiouysxzcgh]es$")]
"""Endings without a syllable in English: a silent e, and -es and -ed that are not spoken."""
_SPOKEN = re.compile(r"[^aeiouy]le$")
_PARTED = re.compile("([aeiouy])([aeiouy]\u0308)")
_VIRAMA = 9
"""Combining class of the sign that takes an Indic consonant's vowel away."""


def count_syllables(text: str) -> int:
    """Syllables of all words, in any script: those of Arabic, Hebrew, Thai and others are an estimate."""
    return sum(line_syllables(text))


def line_syllables(text: str) -> list[int]:
    """Syllables of each line, which depend on the scripts of the others; see `count_syllables`."""
    return [
        0 if script is None else _line_syllables(line, script == "Japanese")
        for line, script in scripted_lines(text)
    ]


def _line_syllables(line: str, japanese: bool) -> int:
    count = 0
    for sign in EASTERN_SIGN.findall(line):
        if _HAN_SIGN.match(sign):
            count += KANJI_MORAE if japanese else 1
        elif sign not in _SMALL:
            count += 1
    rest = EASTERN_SIGN.sub(" ", line)
    count += sum(_indic_syllables(run) for run in _INDIC.findall(rest))
    count += -(-len(_THAI.findall(rest)) // 2)
    rest = re.sub("[\u0900-\u0e7f]+", " ", rest)
    return count + sum(_word_syllables(word) for word in _WORD.findall(rest))


def _indic_syllables(run: str) -> int:
    """Consonants that keep their vowel, and vowels that stand alone."""
    letters = sum(unicodedata.category(sign) == "Lo" for sign in run)
    return max(0, letters - sum(unicodedata.combining(sign) == _VIRAMA for sign in run))


def _word_syllables(word: str) -> int:
    """Syllables of a word in an alphabet, at least 1."""
    lower = unicodedata.normalize("NFC", word.lower()).replace("’", "'")
    bare = _without_accents(lower)
    name = unicodedata.name(word[0], "")
    if name.startswith("CYRILLIC"):
        return max(1, len(_CYRILLIC_VOWELS.findall(bare)))
    if name.startswith("GREEK"):
        return max(1, len(_GREEK_VOWELS.findall(bare)))
    if name.startswith("LATIN"):
        silent = any(pattern.search(lower) for pattern in _SILENT) and not _SPOKEN.search(lower)
        return max(1, len(_LATIN_VOWELS.findall(bare)) - silent)
    return max(1, -(-len(bare) // 2))


def _without_accents(word: str) -> str:
    """Base letters; a hyphen stands before a vowel whose diaeresis parts it from another, as in naïve."""
    parted = _PARTED.sub(r"\1-\2", unicodedata.normalize("NFD", word))
    return "".join(sign for sign in parted if not unicodedata.combining(sign))
