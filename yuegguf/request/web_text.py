"""Text copied as the source of a web page, or as a quoted message."""

from __future__ import annotations

import html
import re

from yuegguf.request.changes import Change, Kind

_NAMES = "a|b|blockquote|br|center|div|em|font|h[1-6]|i|li|p|pre|small|span|strong|u|ul"
_TAG = re.compile(rf"</?(?:{_NAMES})(?:[\s/][^<>]*)?>|<!--[^<>]*-->", re.IGNORECASE)
_LINE_END = re.compile(r"<(?:br(?:[\s/][^<>]*)?|/(?:p|div|h[1-6]|li))>[ \t]*\n?", re.IGNORECASE)
_ENTITY = re.compile(
    r"&(?:amp|apos|gt|lt|nbsp|quot|[lr][sd]quo|[mn]dash|hellip|#\d{1,6}|#x[\da-f]{1,5});", re.I
)
_QUOTED = re.compile(r"^\s*>(?:\s*>)* ?")


def plain_web_text(text: str) -> tuple[str, list[Change]]:
    """Text without the tags and entities of HTML, and without the `>` of quoted lines."""
    found = [*_TAG.findall(text), *_ENTITY.findall(text)]
    if found:
        text = _TAG.sub("", _LINE_END.sub("\n", text))
        text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
    changes = [Change(Kind.MARKUP, tag) for tag in dict.fromkeys(found)]
    lines = text.split("\n")
    filled = sum(bool(line.strip()) for line in lines)
    quoted = sum(bool(_QUOTED.match(line)) for line in lines)
    if quoted > 1 and 2 * quoted > filled:
        text = "\n".join(_QUOTED.sub("", line) for line in lines)
        changes.append(Change(Kind.MARKUP, ">"))
    return text, changes
