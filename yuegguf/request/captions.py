"""Captions: WebVTT (https://www.w3.org/TR/webvtt1/) → cues of SubRip → timed lines of LRC."""

from __future__ import annotations

import re

from yuegguf.request.changes import Change, Kind
from yuegguf.request.site_junk import CUE

_FILE = re.compile(r"\s*WEBVTT(?:[ \t]|\n|$)")
_BLANK = re.compile(r"\n[ \t]*(?=\n)")
_NO_CUE = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s|$)")
_ARROW = "-->"
_CUE = re.compile(rf"\s*{CUE}\s*")
_NUMBER = re.compile(r"\s*\d{1,5}\s*")
_TAG = re.compile(
    r"</?(?:b|c|i|lang|rt|ruby|u|v)(?:[.\s][^<>]*)?>|<\d{1,3}:\d{2}(?::\d{2})?\.\d{3}>", re.IGNORECASE
)


def plain_captions(text: str) -> tuple[str, list[Change]]:
    """Cues of WebVTT without header, notes, styles, names of cues and tags; other text as it is."""
    if not _FILE.match(text):
        return text, []
    kept: list[str] = []
    changes: list[Change] = []
    for number, block in enumerate(_BLANK.split(text.strip())):
        lines = block.strip("\n").split("\n")
        times = next((at for at, line in enumerate(lines) if _ARROW in line), None)
        if times is None and (number == 0 or _NO_CUE.match(lines[0])):
            changes.append(Change(Kind.FILE_TAGS, lines[0].strip()))
            continue
        words = "\n".join(lines[times or 0 :])
        changes += [Change(Kind.MARKUP, tag) for tag in dict.fromkeys(_TAG.findall(words))]
        kept.append(_TAG.sub("", words))
    return "\n\n".join(kept), changes


def timed_lines(text: str) -> str:
    """A text that begins with a cue as an LRC, in which each line has its cue's time; other text as it is."""
    lines = text.split("\n")
    begin = [line for line in lines if line.strip()][:2]
    numbered = len(begin) == 2 and _NUMBER.fullmatch(begin[0])
    if not begin or not _CUE.fullmatch(begin[1] if numbered else begin[0]):
        return text
    written: list[str] = []
    start = end = ""
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if cue := _CUE.fullmatch(line):
            start, end = map(_stamp, cue.groups())
        elif line.strip() and not (_NUMBER.fullmatch(line) and _CUE.fullmatch(following)):
            written.append(start + line.strip())
    return "\n".join([*written, end])


def _stamp(time: str) -> str:
    *hours, minutes, seconds = time.replace(",", ".").split(":")
    return f"[{60 * int(*hours) + int(minutes):02d}:{float(seconds):05.2f}]"
