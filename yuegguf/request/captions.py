"""WebVTT (https://www.w3.org/TR/webvtt1/) → its cues as SubRip has them, whose times are left out later."""

from __future__ import annotations

import re

from yuegguf.request.changes import Change, Kind

_FILE = re.compile(r"\s*WEBVTT(?:[ \t]|\n|$)")
_BLANK = re.compile(r"\n[ \t]*(?=\n)")
_NO_CUE = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s|$)")
_ARROW = "-->"
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
