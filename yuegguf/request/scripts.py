"""Scripts of lyrics, line by line, and the models of YuE that were trained on them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Literal

Script = Literal["Latin", "Chinese", "Japanese", "Korean", "Cyrillic", "Greek", "Arabic", "Hebrew", "other"]
KANA, HANGUL, HAN = "\u3041-\u3096\u30a1-\u30fa", "\uac00-\ud7a3", "\u3400-\u4dbf\u4e00-\u9fff"
"""Ranges of signs, for a regular expression."""
MODEL_OF: dict[Script, str] = {"Latin": "en", "Chinese": "zh", "Japanese": "jp-kr", "Korean": "jp-kr"}
"""Models that were trained on languages in a script; `en` on English alone."""
MOST_KANJI = 6
"""Signs that a line of a Japanese song may have without any kana."""

EASTERN_SIGN = re.compile(f"[{KANA}ー{HANGUL}{HAN}]")
"""A sign that is a syllable by itself."""


def line_scripts(text: str) -> list[Script]:
    """The script of each line that has letters."""
    return [script for _, script in scripted_lines(text) if script is not None]


def scripted_lines(text: str) -> list[tuple[str, Script | None]]:
    """Every line with its script; None where it has no letters.

    A short line of Chinese characters alone is Japanese among at least as many lines with kana.
    """
    lines = text.splitlines()
    plain = [_script_of(line) if any(sign.isalpha() for sign in line) else None for line in lines]
    some_japanese = plain.count("Japanese") >= plain.count("Chinese")
    return [
        (line, "Japanese")
        if script == "Chinese" and some_japanese and len(EASTERN_SIGN.findall(line)) <= MOST_KANJI
        else (line, script)
        for line, script in zip(lines, plain, strict=True)
    ]


def _script_of(line: str) -> Script:
    """The script that most of a line's signs are of; kana among Chinese characters are Japanese."""
    kana, hangul, han = (len(re.findall(f"[{signs}]", line)) for signs in (KANA, HANGUL, HAN))
    counts: Counter[Script] = Counter()
    for word in re.findall(r"[^\W\d_]+", EASTERN_SIGN.sub(" ", line)):
        counts[_alphabet(word[0])] += max(1, len(word) // 3)
    east: Script = "Korean" if hangul >= kana + han else "Japanese" if kana else "Chinese"
    counts[east] += kana + hangul + han
    return max(counts, key=lambda script: (counts[script], script == east))


def _alphabet(letter: str) -> Script:
    name = unicodedata.name(letter, "")
    for script in ("Latin", "Cyrillic", "Greek", "Arabic", "Hebrew"):
        if name.startswith(script.upper()) or name.startswith(f"FULLWIDTH {script.upper()}"):
            return script
    return "other"


def model_mismatch(scripts: Iterable[Script], model: str) -> str:
    """A sentence where the `model`, by its name, was not trained on lyrics of these scripts; else empty."""
    family = next((name for name in set(MODEL_OF.values()) if model.startswith(f"{name}-")), None)
    used = set(scripts)
    others = sorted(script for script in used - {"Latin"} if MODEL_OF.get(script) != family)
    if family is None or not used:
        return ""
    if others:
        return f"{model} was not trained on {' or '.join(others)} lyrics; {model_advice(used)}"
    if used == {"Latin"} and family != "en":
        return f"{model} was not trained on lyrics in Latin letters alone; {model_advice(used)}"
    return ""


def model_advice(scripts: Iterable[Script]) -> str:
    """Which model of YuE fits lyrics of these scripts, or that none does; empty where there are no words.

    Lines in Latin letters among those of another script are taken for the English words that its songs have.
    """
    used = sorted(set(scripts))
    foreign = [script for script in used if script not in MODEL_OF]
    models = sorted({MODEL_OF[script] for script in used if script in MODEL_OF and script != "Latin"})
    if not used:
        return ""
    if foreign:
        return f"no model of YuE was trained on {' or '.join(foreign)} script"
    if not models:
        return "the en models fit if this is English; YuE has none for other languages in Latin letters"
    if len(models) > 1:
        return f"no model of YuE was trained on all of these scripts: {', '.join(used)}"
    return f"the {models[0]} models fit"
