"""A request whose lyrics are parsed: made once, then passed on instead of the request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from yuegguf.codec.protocol import FRAME_RATE
from yuegguf.errors import RequestError
from yuegguf.request.changes import listed
from yuegguf.request.fit import section_fit
from yuegguf.request.labels import VOCAL_PARTS, plain_word
from yuegguf.request.lyrics import COUNT, Section, choose_sections, parse_lyrics
from yuegguf.request.ranges import MAX_SECTION_SECONDS, MIN_SECTION_SECONDS
from yuegguf.request.song_request import SongRequest
from yuegguf.request.tags import tag_notices


@dataclass(frozen=True)
class PreparedSong:
    """A song to generate: the request, its sections, and how long they may be."""

    request: SongRequest
    all_sections: tuple[Section, ...]
    """Every section of the lyrics, generated or not: the model reads them all."""
    sections: tuple[Section, ...]
    """The sections to generate."""
    caps: tuple[int, ...]
    """Most frames of each section to generate; with a recording as guide, its frames in all."""
    notices: tuple[str, ...]
    """Notices about interpreted lyrics, a sentence each."""

    @property
    def frames(self) -> int:
        """Most frames of the song."""
        return sum(self.caps)


def prepare(request: SongRequest) -> PreparedSong:
    """Parse a request's lyrics. Raises RequestError where no song can be generated from them."""
    lyrics = parse_lyrics(request.lyrics, request.keep_repeats)
    sections = choose_sections(lyrics.sections, request.sections)
    for section in sections:
        if section.seconds is not None and not MIN_SECTION_SECONDS <= section.seconds <= MAX_SECTION_SECONDS:
            raise RequestError(
                f"#length {section.seconds:g} above [{section.label}] is out of range",
                f"use {MIN_SECTION_SECONDS} to {MAX_SECTION_SECONDS}",
            )
    seconds = [section.seconds for section in sections]
    if request.track is not None and request.track.frames is not None:
        caps = shared_frames(seconds, request.track.frames)
    else:
        caps = [round(FRAME_RATE * (request.segment_seconds if s is None else s)) for s in seconds]
    voiced = request.track is None or request.track.track != "vocal"
    words = voiced and any(section.body for section in sections)
    notices = (
        *lyrics.notices,
        *_missing_sections(request.sections, len(lyrics.sections)),
        *(_excess_notices(request, sections, caps) if voiced else ()),
        *(_wordless_notices(sections) if words else ()),
        *tag_notices(request.genre, words),
    )
    return PreparedSong(request, lyrics.sections, sections, tuple(caps), notices)


def _excess_notices(
    request: SongRequest, sections: Sequence[Section], caps: Sequence[int]
) -> tuple[str, ...]:
    """A notice of the sections whose words have no time."""
    places = []
    for number, (section, cap) in enumerate(zip(sections, caps, strict=True), 1):
        fit = section_fit(replace(section, seconds=cap / FRAME_RATE), request.segment_seconds, request.genre)
        if fit.verdict == "too long":
            places.append(f"section {number} [{section.label}]: {fit.excess} of {fit.syllables} syllables")
    if not places:
        return ()
    lost = f"words at the end of sections will be lost for want of time ({listed(places)})"
    return (f"{lost}; see: yuegguf lyrics check",)


def _missing_sections(spec: str, count: int) -> tuple[str, ...]:
    """A notice where more sections are requested than there are."""
    more = COUNT.fullmatch(spec.strip()) is not None and int(spec) > count
    have = "1 section, which is" if count == 1 else f"{count} sections, which are all"
    return (f"--sections {spec.strip()}: the lyrics have {have} generated",) if more else ()


def _wordless_notices(sections: Sequence[Section]) -> tuple[str, ...]:
    """A notice of verses, choruses and the like that have no words."""
    places = [
        f"section {number} [{section.label}]"
        for number, section in enumerate(sections, 1)
        if not section.body and plain_word(section.label) in VOCAL_PARTS
    ]
    hint = "write [Repeat Chorus] to repeat an earlier one"
    return (f"sections without words are instrumental: {listed(places)}; {hint}",) if places else ()


def shared_frames(seconds: Sequence[float | None], frames: int) -> list[int]:
    """Frames of each section, `frames` in all: its seconds where it has some, the rest in equal parts.

    Raises RequestError where they do not add up.
    """
    fixed = [None if s is None else round(FRAME_RATE * s) for s in seconds]
    open_count, rest = fixed.count(None), frames - sum(count or 0 for count in fixed)
    if rest < open_count or (rest and not open_count):
        raise RequestError(
            f"the #length lines do not fit the recording's {frames / FRAME_RATE:g} s",
            "leave a section without one: it takes what is left",
        )
    ends = [rest * n // open_count for n in range(open_count + 1)] if open_count else []
    parts = iter(end - start for start, end in pairwise(ends))
    return [next(parts) if count is None else count for count in fixed]
