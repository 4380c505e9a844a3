"""Lines that lyric sites, subtitles and players put among lyrics."""

from __future__ import annotations

import re

from yuegguf.request.changes import Change, Kind

_HEADER = re.compile(r"^\s*\d+\s*Contributors?.*?Lyrics(?=\s*$|\s*\[|[^a-z\s])")
_EMBED = re.compile(
    r"(?:(?<=\S)\d{1,6}(?:\.\d)?[KM]?|^\s*\d{0,6}|(?<=[^\s\w]))Embed(?:\s*Share\s*URL\s*Copy.*)?\s*$"
)
_GLUED = re.compile(r"(You might also like|See .{1,60}? LiveGet tickets as low as \$\d+)")
_WHOLE = (
    re.compile(r"(?:https?://|www\.)\S+"),
    re.compile(r"(?:Source|Via)\s*:\s*(?:https?://|www\.)?\S+\.\S+", re.IGNORECASE),
    re.compile(
        r"Submit Corrections|Advertisement|Read More|Translate to \w+|\d+ Translations?", re.IGNORECASE
    ),
    re.compile(r"Lyrics (?:licensed|provided|powered|courtesy|submitted).{0,80}", re.IGNORECASE),
    re.compile(r"Writer\(s\)\s*:.{0,200}|Songwriters?\s*:.{0,200}", re.IGNORECASE),
    re.compile(r"(?:©|\(c\)|Copyright)\W*\d{4}.{0,120}|.{0,80}All rights reserved\.?", re.IGNORECASE),
    re.compile(r"About the (?:song|artist)|Print this lyric|Add to (?:favorites|playlist)", re.IGNORECASE),
)
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2})?(?:[.,]\d{1,3})?"
CUE = rf"({_CLOCK})\s*-->\s*({_CLOCK})(?:[ \t]+\w+:\S+)*"
"""Times of WebVTT or SubRip, start and end, with where the words stand."""
_TIME_LINE = re.compile(rf"\s*(?:{CUE}|[(\[]?{_CLOCK}(?:\s*(?:-->|[-–—])\s*{_CLOCK})?[)\]]?)\s*")
_TIME_START = re.compile(rf"^\s*[(\[]?{_CLOCK}[)\]]?\s+(?=\S)")
_NUMBER = re.compile(r"\s*\d{1,4}\s*")


def without_site_junk(lines: list[str]) -> tuple[list[str], list[Change]]:
    """Lines without headers, footers and advertisements of lyric sites, and without times."""
    changes: list[Change] = []
    kept: list[str] = []
    last = max((at for at, line in enumerate(lines) if line.strip()), default=-1)
    timed = sum(bool(_TIME_START.match(line)) for line in lines) > 1
    for at, line in enumerate(lines):
        following = lines[at + 1] if at + 1 < len(lines) else ""
        if _TIME_LINE.fullmatch(line) or (_NUMBER.fullmatch(line) and "-->" in following):
            changes.append(Change(Kind.TIMES, line.strip()))
            continue
        left = _TIME_START.sub("", line) if timed else line
        if left != line:
            changes.append(Change(Kind.TIMES, line[: len(line) - len(left)].strip()))
        kept += _without_glued(left, at == last, changes)
    return kept, changes


def _without_glued(line: str, is_last: bool, changes: list[Change]) -> list[str]:
    """A line without what a site glues to it: one line, two around an advertisement, or none."""
    if any(pattern.fullmatch(line.strip()) for pattern in _WHOLE):
        changes.append(Change(Kind.SITE, line.strip()))
        return []
    for pattern in (_HEADER, _EMBED) if is_last else (_HEADER,):
        match = pattern.search(line)
        if match:
            changes.append(Change(Kind.SITE, match[0].strip()))
            line = line[: match.start()] + line[match.end() :]
            if not line.strip():
                return []
    parts = _GLUED.split(line)
    changes += [Change(Kind.SITE, advertisement) for advertisement in parts[1::2]]
    return [part for part in parts[::2] if part.strip()] if len(parts) > 1 else [line]
