"""Check whether a section's words fit into its seconds, before hours of generation.

YuE's vocals have a natural pace, and lyrics left at the end of a section are lost. In three whole songs of
the published models (two that the authors' own run logged, and YuE-UI's example; English, no rap), the 13
sections with words that the model ended by itself had 16.5 to 29 s and 1.1 to 2.3 syllables a second, 1.8 in
all; 5 more ran to their limit of 30 s. The vocal was silent for up to 39 % of a section, 4 % in the median.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import ceil
from typing import Literal

from yuegguf.request.labels import plain_word
from yuegguf.request.lyrics import Section
from yuegguf.request.ranges import MAX_SECTION_SECONDS
from yuegguf.request.scripts import Script, line_scripts
from yuegguf.request.syllables import count_syllables, line_syllables

Language = Literal["en", "zh", "ja", "ko", "other"]
FitVerdict = Literal["instrumental", "few words", "fits", "tight", "too long"]
USUAL_PACE, COMFORTABLE_PACE, MAX_PACE = 1.6, 2.3, 3.5
"""Syllables a second that are usual, that fit easily, and above which words are lost.

At the usual pace and within their limits, the 18 sections have their length within 2 % in all; none was
faster than the second. The third is 1.5 times that: no real section shows how fast YuE can be.
"""
MIN_PACE = 0.8
"""Syllables a second below which a section has few words for its time: half the usual ones."""
MIN_ADVISED_SECONDS = 5
"""Fewest seconds that are advised for a section of few words."""
RAP_FACTOR = 1.8
"""Factor on all paces for a section labelled rap, or a song tagged so."""
LANGUAGES: dict[Script, Language] = {"Latin": "en", "Chinese": "zh", "Japanese": "ja", "Korean": "ko"}


@dataclass(frozen=True)
class SectionFit:
    """A section's words against its time."""

    label: str
    language: Language
    """Language by the script of most lines; `en` is any language in Latin letters."""
    syllables: int
    seconds: float
    """Length limit of the section."""
    rap: bool = False
    scripts: tuple[Script, ...] = ()
    """The script of each line that has words."""

    @property
    def pace(self) -> float:
        """Syllables a second."""
        return self.syllables / self.seconds

    @property
    def _factor(self) -> float:
        return RAP_FACTOR if self.rap else 1.0

    @property
    def verdict(self) -> FitVerdict:
        """Whether the words fit: by the pace, relative to MIN_PACE, COMFORTABLE_PACE and MAX_PACE."""
        if not self.syllables:
            return "instrumental"
        if self.pace < MIN_PACE * self._factor:
            return "few words"
        if self.pace <= COMFORTABLE_PACE * self._factor:
            return "fits"
        return "tight" if self.pace <= MAX_PACE * self._factor else "too long"

    @property
    def likely_seconds(self) -> float:
        """Seconds that the section is likely to have: at USUAL_PACE, and within its limit."""
        if not self.syllables:
            return self.seconds
        return min(self.seconds, self.syllables / (USUAL_PACE * self._factor))

    @property
    def excess(self) -> int:
        """Syllables for which the section has no time even at MAX_PACE."""
        return max(0, self.syllables - int(MAX_PACE * self._factor * self.seconds))

    @property
    def script_names(self) -> str:
        """The scripts of the lines, with their numbers where there are several: `Chinese 2, Latin 1`."""
        counts = Counter(self.scripts).most_common()
        return counts[0][0] if len(counts) == 1 else ", ".join(f"{name} {count}" for name, count in counts)

    @property
    def advice(self) -> str:
        """Suggested change; empty if none is needed."""
        if self.verdict in ("instrumental", "fits"):
            return ""
        if self.verdict == "few words":
            enough = max(MIN_ADVISED_SECONDS, ceil(self.syllables / (USUAL_PACE * self._factor)))
            return f"write more lines, give it {enough} s (#length {enough}), or merge it with its neighbour"
        pace = COMFORTABLE_PACE * self._factor
        needed = ceil(self.syllables / pace)
        longer = (
            f"give it {needed} s (#length {needed})" if needed <= MAX_SECTION_SECONDS else "split it in two"
        )
        return f"take out about {self.syllables - int(pace * self.seconds)} syllables, or {longer}"


def section_fit(section: Section, seconds: float, tags: str = "") -> SectionFit:
    """A section's words against its own length, or `seconds` if it has none."""
    limit = section.seconds if section.seconds is not None else seconds
    scripts = tuple(line_scripts(section.body))
    language = LANGUAGES.get(max(scripts, key=scripts.count), "other") if scripts else "en"
    syllables = count_syllables(section.body)
    return SectionFit(section.label, language, syllables, limit, is_rap(section, tags), scripts)


def is_rap(section: Section, tags: str) -> bool:
    """Whether a section is rapped, by its label or the song's tags."""
    return "rap" in section.label.lower() or bool(re.search(r"\brap\b", tags, re.IGNORECASE))


def lines_in_time(section: Section, seconds: float, tags: str) -> tuple[list[str], int]:
    """The first lines of a section whose syllables can be generated in `seconds`, and how many others it has.

    At MAX_PACE, which vocals do not exceed; blank lines are not counted.
    """
    most = MAX_PACE * (RAP_FACTOR if is_rap(section, tags) else 1.0) * seconds
    lines = section.body.splitlines()
    ends = accumulate(line_syllables(section.body))
    kept = [line for line, end in zip(lines, ends, strict=True) if end <= most]
    return kept, sum(bool(line.strip()) for line in lines[len(kept) :])


def merged_sections(sections: Sequence[Section], seconds: float, tags: str = "") -> list[Section]:
    """Sections with neighbours of one label made one, where their words fit easily into `seconds`.

    A section with a length or without words stays by itself.
    """
    merged: list[Section] = []
    for section in sections:
        if merged and _can_merge(merged[-1], section):
            joined = replace(merged[-1], body=f"{merged[-1].body}\n\n{section.body}")
            if section_fit(joined, seconds, tags).verdict in ("few words", "fits"):
                merged[-1] = joined
                continue
        merged.append(section)
    return merged


def _can_merge(a: Section, b: Section) -> bool:
    names = {plain_word(section.label) for section in (a, b)}
    plain = all(section.body and section.seconds is None for section in (a, b))
    return plain and len(names) == 1
