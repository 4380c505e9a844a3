"""Characters that only look like lyrics: line ends, invisible signs, brackets and spaces of other scripts."""

from __future__ import annotations

import re
import unicodedata

from yuegguf.request.changes import Change, Kind

_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]"
)
_JOINER = re.compile("[\u200c\u200d]")
_GAP = re.compile(r"[^\S\n]{33,}")
"""Blanks that separate columns of a page; left in, they would make the search for heads slow."""
_ODD_SPACE = re.compile("[\u00a0\u2007\u202f]")
_BRACKETS = str.maketrans("［］【】〔〕", "[][][]")
_SIGN = "[\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff]"
_SPACED = re.compile(rf"\s*{_SIGN}[^\w\s]?(?:[ \u3000]+(?:{_SIGN}[^\w\s]?|[^\w\s])){{2,}}\s*")


def plain_characters(text: str) -> tuple[str, list[Change]]:
    """Text with "\\n" as its only line end, in NFC, without invisible characters or full-width brackets."""
    changes = []
    text = _LINE_ENDS.sub("\n", text.removeprefix("\ufeff"))
    visible = _ODD_SPACE.sub(" ", _JOINER.sub(_needed_joiner, _INVISIBLE.sub("", text)))
    if visible != text:
        changes.append(Change(Kind.INVISIBLE))
    composed = unicodedata.normalize("NFC", visible)
    if composed != visible:
        changes.append(Change(Kind.COMPOSED))
    bracketed = composed.translate(_BRACKETS)
    if bracketed != composed:
        changes.append(Change(Kind.BRACKETS))
    lines = []
    for line in _GAP.sub(" ", bracketed).split("\n"):
        lines.append(_joined(line) if _SPACED.fullmatch(line) else line)
        if lines[-1] != line:
            changes.append(Change(Kind.SPACES, line))
    return "\n".join(lines), changes


def _needed_joiner(match: re.Match[str]) -> str:
    """A joiner between two signs that it joins, as in emoji and in Persian; else nothing."""
    text, start, end = match.string, match.start(), match.end()
    before, after = text[max(0, start - 1) : start], text[end : end + 1]
    return match[0] if _joins(before) and _joins(after) else ""


def _joins(sign: str) -> bool:
    """Whether a joiner beside this sign has a meaning."""
    if not sign or sign.isspace() or sign in "\u200c\u200d":
        return False
    return ord(sign) > 0x590 and not ("\u3000" <= sign <= "\uffee" and sign != "\ufe0f")


def _joined(line: str) -> str:
    """A line of single signs without the spaces between them; wider gaps stay one space."""
    phrases = re.split(" {2,}|\u3000+", line.strip())
    return " ".join(phrase.replace(" ", "") for phrase in phrases)
