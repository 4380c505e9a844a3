"""Title, credits and the like above the lyrics."""

from __future__ import annotations

import re
from collections.abc import Sequence

_FIELD = re.compile(
    r"^\s*(?:(?:song\s*)?title|song|artists?|band|album|(?:written|composed|performed|produced|lyrics|words|music|"
    r"song)(?:\s+(?:and|&)\s+\w+)*\s+by|by|lyrics|words|music|writers?|composers?|lyricists?|producers?|genre|"
    r"style|mood|key|tempo|bpm|capo|tuning|time signature|year|released?|feat\.?|ft\.?|featuring|"
    r"作?词|作?詞|作?曲|编曲|編曲|演唱|歌手|原唱|制作人|监制|歌名|曲名|专辑|專輯|歌|唄|作词作曲|"
    r"작사|작곡|편곡|노래|가수|제목)\s*[:：]\s*\S.*$",
    re.IGNORECASE,
)
_BY = re.compile(
    r"^\s*(?:(?i:(?:written|composed|performed|produced|lyrics|words|music|song)(?:\s+(?:and|&)\s+\w+)*\s+by)\s+\S.*|"
    r"(?i:by)\s+[A-Z]\S*(?:\s+\S+){0,4}|(?i:feat\.?|ft\.?)\s+[A-Z].{0,60})$"
)
_TITLE = re.compile(
    r"^\s*(?:#{1,3}\s+\S.*|.{1,80}\sLyrics|\W.{1,60}\W\s+by\s+[A-Z].{0,60}|《.{1,60}》.*)\s*$"
)
_TITLE_ALONE = re.compile(
    r"^\s*(?:[\"“”«].{1,80}[\"“”»]|[A-Z]\S*(?:\s+\S+){0,5}\s[-–—]\s+[A-Z]\S*(?:\s+\S+){0,5})\s*$"
)
_SITE_TITLE = re.compile(r"^\s*.{1,80}\sLyrics\s*$")
MOST_LINES = 12
"""Lines above lyrics without labels among which titles and credits are looked for."""


def count_head_lines(lines: Sequence[str]) -> int:
    """Lines at the top that are titles and credits, blank ones between them included."""
    filled = [at for at, line in enumerate(lines) if line.strip()][:MOST_LINES]
    count = 0
    for place, at in enumerate(filled):
        following = filled[place + 1] if place + 1 < len(filled) else None
        below = lines[following] if following is not None else ""
        alone = following is None or following > at + 1
        again = place == 1 and _SITE_TITLE.match(lines[at])
        if again or _is_credit(lines[at]) or (place == 0 and _is_title(lines[at], below, alone)):
            count = at + 1
        else:
            break
    return count


def count_foot_lines(lines: Sequence[str]) -> int:
    """Lines at the end that are credits, with the blank line above them; 0 where no words are above."""
    end = len(lines)
    while end and (not lines[end - 1].strip() or _is_credit(lines[end - 1])):
        end -= 1
    foot = lines[end:]
    is_apart = bool(foot) and not foot[0].strip() and any(line.strip() for line in foot)
    return len(foot) if is_apart and end else 0


def _is_credit(line: str) -> bool:
    return bool(_FIELD.match(line) or _BY.match(line))


def _is_title(line: str, below: str, alone: bool) -> bool:
    """Whether the first line is a title: by its form, or by the credit below it."""
    by_itself = bool(_TITLE.match(line)) or (alone and bool(_TITLE_ALONE.match(line)))
    return by_itself or _is_credit(below) or bool(_SITE_TITLE.match(below))
