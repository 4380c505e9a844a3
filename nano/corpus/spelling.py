"""Fixed spelling rules: any text → the syllables that are sung.

Six vowels: IY (see), EH (bed, day), AA (father, sky), OW (go), UW (moon), ER (bird). Thirteen consonants: P
T K (with b d g), F (v th ph), S (z), SH (ch j), H, M, N (ng), L, R, W, Y. A word is read from left to
right; the first rule of `RULES` that fits gives the phonemes of the letters it covers; letters that no rule
knows are skipped. A syllable is a vowel, the consonant right before it, and the first of several after it.
A word without vowels ("hm") is sung on ER. Accents are taken off first, so "café" is "cafe".
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from itertools import pairwise

VOWELS = ("IY", "EH", "AA", "OW", "UW", "ER")
CONSONANTS = ("P", "T", "K", "F", "S", "SH", "H", "M", "N", "L", "R", "W", "Y")

_RULES: tuple[tuple[str, str], ...] = (
    # endings: a last e is silent, and makes the vowel before it long
    (r"a(?=[b-df-hj-np-tv-xz]e$)", "EH"), (r"i(?=[b-df-hj-np-tv-xz]e$)", "AA"),
    (r"o(?=[b-df-hj-np-tv-xz]e$)", "OW"), (r"u(?=[b-df-hj-np-tv-xz]e$)", "UW"),
    (r"(?<=[b-df-hj-np-tv-xz])le$", "UW L"), (r"(?<=^th)e$", "EH"),
    (r"(?<=[aeiouy][b-df-hj-np-tv-xz])e$", ""), (r"(?<=[aeiouy][b-df-hj-np-tv-xz]{2})e$", ""),
    (r"(?<=^[b-df-hj-np-tv-xz])y$", "AA"), (r"(?<=^[b-df-hj-np-tv-xz]{2})y$", "AA"),
    (r"(?<=^[b-df-hj-np-tv-xz])e$", "IY"),
    # groups of vowels
    (r"eigh", "EH"), (r"igh", "AA"), (r"(?:er|ir|ur|yr)(?![aeiouy])", "ER"),
    (r"ee|ea|ie", "IY"), (r"ai|ay|ei|ey", "EH"), (r"aw|au", "AA"),
    (r"oa|oe|ow", "OW"), (r"oo|ou|ue|ew|eu|ui", "UW"), (r"oi|oy", "OW IY"),
    (r"y(?=[aeiou])", "Y"),
    (r"a", "AA"), (r"e", "EH"), (r"i|y", "IY"), (r"o", "OW"), (r"u", "UW"),
    # groups of consonants
    (r"^kn|gn$", "N"), (r"^wr", "R"), (r"wh", "W"), (r"ph|th", "F"), (r"tch|sh|ch|dg", "SH"),
    (r"ck|qu", "K"), (r"gh", ""), (r"ng", "N"), (r"c(?=[eiy])", "S"),
    (r"([b-df-hj-np-tv-xz])\1", "="),
    (r"b|p", "P"), (r"t|d", "T"), (r"k|g|c|q|x", "K"), (r"f|v", "F"), (r"s|z", "S"), (r"j", "SH"),
    (r"h(?=[aeiouy])", "H"), (r"h", ""), (r"m", "M"), (r"n", "N"), (r"l", "L"), (r"r", "R"), (r"w", "W"),
)  # fmt: skip
RULES = tuple((re.compile(pattern), phonemes) for pattern, phonemes in _RULES)
"""Pattern at the place in the word → phonemes; "=" reads a doubled letter as one."""

_WORD = re.compile(r"[^\W\d_]+")
_APOSTROPHES = re.compile(r"['’`]")


@dataclass(frozen=True)
class Syllable:
    """Phonemes of one note."""

    onset: str
    """A consonant, or empty."""
    vowel: str
    coda: str
    """A consonant, or empty."""

    @property
    def phonemes(self) -> tuple[str, ...]:
        """Its one to three phonemes in order."""
        return tuple(p for p in (self.onset, self.vowel, self.coda) if p)


def words(text: str) -> list[str]:
    """The words that are read: lower case, without accents, apostrophes, digits and signs."""
    plain = unicodedata.normalize("NFKD", _APOSTROPHES.sub("", text.lower()))
    return _WORD.findall("".join(c for c in plain if not unicodedata.combining(c)))


def phonemes(word: str) -> list[str]:
    """The phonemes of one lower-case word, by the first rule that fits at each place."""
    return [phoneme for phoneme, _ in _sounds(word)]


def _sounds(word: str) -> list[tuple[str, int]]:
    """Phonemes and the index of the letter where each begins."""
    out: list[tuple[str, int]] = []
    place = 0
    while place < len(word):
        rule = next(((m, p) for r, p in RULES if (m := r.match(word, place))), None)
        if rule is None or rule[1] == "=":
            place += 1
        else:
            out += [(phoneme, place) for phoneme in rule[1].split()]
            place = max(rule[0].end(), place + 1)
    return out


def letters(word: str) -> list[str]:
    """One lower-case word cut where its syllables begin: "remember" → re, mem, ber."""
    sounds = _sounds(word)
    vowels = [i for i, (sound, _) in enumerate(sounds) if sound in VOWELS]
    # a syllable begins with the consonant right before its vowel
    firsts = [i - 1 if i - 1 > before else i for before, i in pairwise(vowels)]
    cuts = [0, *(sounds[i][1] for i in firsts), len(word)]
    return [part for a, b in pairwise(cuts) if (part := word[a:b])]


def word_syllables(word: str) -> list[Syllable]:
    """The syllables of one word; none if no letter of it is known."""
    sounds = phonemes(word)
    vowels = [i for i, sound in enumerate(sounds) if sound in VOWELS]
    if not vowels:
        if not sounds:
            return []
        return [Syllable(sounds[0], "ER", sounds[1] if len(sounds) > 1 else "")]
    out = []
    for nth, i in enumerate(vowels):
        before = vowels[nth - 1] + 1 if nth else 0
        after = vowels[nth + 1] if nth + 1 < len(vowels) else len(sounds)
        # between two vowels, a lone consonant belongs to the second
        closes = after - i > (2 if nth + 1 < len(vowels) else 1)
        # a word begins with its first consonant ("stone" is SOWN), inside a word the last one counts
        first = (before if nth == 0 else i - 1) if i > before else None
        onset = sounds[first] if first is not None else ""
        out.append(Syllable(onset, sounds[i], sounds[i + 1] if closes else ""))
    return out


def syllables(text: str) -> list[Syllable]:
    """The syllables of a line in order."""
    return [syllable for word in words(text) for syllable in word_syllables(word)]


def lines(body: str) -> list[list[Syllable]]:
    """The syllables of each line that has any."""
    return [sung for line in body.splitlines() if (sung := syllables(line))]
