"""One reading of pasted lyrics: characters, lines, heads, marks and repeats → blocks, with every change."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from yuegguf.request.captions import plain_captions, timed_lines
from yuegguf.request.changes import Change, Kind
from yuegguf.request.characters import plain_characters
from yuegguf.request.chords import without_chords
from yuegguf.request.elements import Element, Head, Length, lengths_above
from yuegguf.request.head_lines import count_foot_lines, count_head_lines
from yuegguf.request.heads import read_elements
from yuegguf.request.labels import plain_word
from yuegguf.request.lrc import plain_lyrics
from yuegguf.request.markdown import is_markdown, without_emphasis, without_rules
from yuegguf.request.repeats import is_repeat, written_out
from yuegguf.request.site_junk import without_site_junk
from yuegguf.request.web_text import plain_web_text

CONTROL_MARKERS = ("[start_of_segment]", "[end_of_segment]", "[start_of_reference]", "[end_of_reference]")
_WORD_SIGN = re.compile(r"[^\W_]")


@dataclass
class Block:
    """A section while it is read."""

    head: Head | None
    """None for lines above the first label."""
    seconds: float | None = None
    lines: list[str] = field(default_factory=list)

    @property
    def body(self) -> str:
        """The lines without blank ones around them."""
        return "\n".join(self.lines).strip()


def read_blocks(text: str, keep_repeats: bool, most_chars: int) -> tuple[list[Block], list[Change]]:
    """The sections of lyrics as blocks that all have a head; empty where there are no words at all."""
    text, changes = plain_characters(text)
    for plain in (plain_captions, plain_web_text):
        text, more = plain(text)
        changes += more
    for marker in CONTROL_MARKERS:
        if marker in text:
            text = text.replace(marker, "")
            changes.append(Change(Kind.CONTROL, marker))
    text, more = plain_lyrics(timed_lines(text))
    changes += more
    lines = text.split("\n")
    singles = is_markdown(lines)
    for clean in (without_rules, without_site_junk, without_chords):
        lines, more = clean(lines)
        changes += more
    lines, more = _without_foot_lines(lines)
    changes += more
    elements, more = read_elements(lines, keep_repeats)
    changes += more
    for at, element in enumerate(elements):
        if isinstance(element, str):
            elements[at], more = without_emphasis(element, singles)
            changes += more
    elements, more = _without_head_lines(lengths_above(elements))
    changes += more
    if not any(isinstance(element, Head) for element in elements):
        elements, more = _stanzas_as_sections(elements)
        changes += more
    blocks, more = _blocks_of(elements)
    changes += more
    if not keep_repeats:
        blocks, more = _repeated(blocks, most_chars)
        changes += more
    return blocks, changes + _without_wordless(blocks)


def _without_foot_lines(lines: list[str]) -> tuple[list[str], list[Change]]:
    """Lines without credits at the end."""
    end = len(lines) - count_foot_lines(lines)
    return lines[:end], [Change(Kind.FOOT, line.strip()) for line in lines[end:] if line.strip()]


def _without_head_lines(elements: list[Element]) -> tuple[list[Element], list[Change]]:
    """Elements without title and credits at the top."""
    end = next((at for at, element in enumerate(elements) if not isinstance(element, str)), len(elements))
    top = [element for element in elements[:end] if isinstance(element, str)]
    count = count_head_lines(top)
    return elements[count:], [Change(Kind.HEAD, line.strip()) for line in top[:count] if line.strip()]


def _stanzas_as_sections(elements: Sequence[Element]) -> tuple[list[Element], list[Change]]:
    """Elements without any head, with one above each stanza: a chorus where stanzas are alike."""
    stanzas: list[list[Element]] = [[]]
    for element in elements:
        if isinstance(element, str) and is_repeat(element) and any(stanzas):
            stanzas = [stanza for stanza in stanzas if stanza]  # it repeats the lines above a blank line too
        elif isinstance(element, Length) or (isinstance(element, str) and not element.strip()):
            stanzas.append([])
        if not isinstance(element, str) or element.strip():
            stanzas[-1].append(element)
    stanzas = [stanza for stanza in stanzas if stanza]
    keys = [_stanza_key(stanza) for stanza in stanzas]
    counts = Counter(keys)
    written: list[Element] = []
    labels = []
    for stanza, key in zip(stanzas, keys, strict=True):
        if not key:  # a #length line by itself, or signs that are no words
            written += stanza
            continue
        labels.append("chorus" if counts[key] > 1 else "verse")
        lengths = [element for element in stanza if isinstance(element, Length)]
        words = [element for element in stanza if not isinstance(element, Length)]
        written += [*lengths, Head(labels[-1]), *words]
    counted = ", ".join(f"{count} [{label}]" for label, count in Counter(labels).items())
    return written, [Change(Kind.STANZAS, counted)]


def _stanza_key(stanza: Sequence[Element]) -> str:
    """A stanza's words in small letters, without spaces and punctuation."""
    words = "\n".join(element for element in stanza if isinstance(element, str))
    return "".join(_WORD_SIGN.findall(words.lower()))


def _blocks_of(elements: Sequence[Element]) -> tuple[list[Block], list[Change]]:
    """Blocks of elements; lines above the first head become a verse, if they have words."""
    blocks, changes = [Block(None)], []
    seconds: float | None = None
    for element in elements:
        if isinstance(element, Length):
            seconds = element.seconds
        elif isinstance(element, Head):
            blocks.append(Block(element, seconds))
            seconds = None
        else:
            blocks[-1].lines.append(element)
    if seconds is not None:
        changes.append(Change(Kind.NO_SECTION))
    first = blocks[0]
    if not _WORD_SIGN.search(first.body):
        return blocks[1:], [*changes, *([Change(Kind.WORDLESS, first.body)] if first.body else [])]
    first.head = Head("verse")
    return blocks, [*changes, Change(Kind.BEFORE, first.body.split("\n")[0])]


def _repeated(blocks: Sequence[Block], most_chars: int) -> tuple[list[Block], list[Change]]:
    """Blocks with the repeats of lines and sections written out, as long as they keep within `most_chars`."""
    changes: list[Change] = []
    out: list[Block] = []
    latest: dict[str, list[str]] = {}
    size = 0
    for block in blocks:
        head = block.head or Head("verse")
        lines, times, more = written_out(block.lines, max(0, most_chars - size))
        changes += more
        whole = Block(head, block.seconds, lines)
        key = plain_word(head.label)
        if (head.again or times * head.times > 1) and not whole.body:
            whole.lines = list(latest.get(key, []))
            if whole.lines and head.again:
                changes.append(Change(Kind.REPEAT, head.written))
        room = max(0, most_chars - size) // (len(whole.body) + len(head.label) + 3)
        times = max(1, min(times * head.times, room))  # too many sections are refused later, with a sentence
        if head.times > 1:
            changes.append(Change(Kind.REPEAT, head.written))
        if whole.body:
            latest[key] = whole.lines
        out += [Block(Head(head.label), whole.seconds, list(whole.lines)) for _ in range(times)]
        size += times * (len(whole.body) + len(head.label) + 3)
    return out, changes


def _without_wordless(blocks: Sequence[Block]) -> list[Change]:
    """Empties sections that hold punctuation or emoji only."""
    changes = []
    for block in blocks:
        if block.body and not _WORD_SIGN.search(block.body):
            changes.append(Change(Kind.WORDLESS, f"[{block.head.label}] {block.body}" if block.head else ""))
            block.lines = []
    return changes
