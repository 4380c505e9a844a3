"""Continuation of a song from another one: the kept part, and the sections to generate.

Pure functions of what the other song is; `takes.start_extension` makes the folder, and the other song stays
as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from yuegguf.codec.protocol import FRAME_RATE
from yuegguf.errors import RequestError
from yuegguf.files.field_types import take_types
from yuegguf.lm.vocab import interleave
from yuegguf.request.changes import listed
from yuegguf.request.labels import plain_word
from yuegguf.request.lyrics import COUNT, Section, format_lyrics, parse_lyrics, section_numbers
from yuegguf.request.prepared import prepare
from yuegguf.request.song_request import SongRequest
from yuegguf.song.kept_part import KeptPart
from yuegguf.stages.stage1_task import END_OF_AUDIO, KeptPrefix


@dataclass(frozen=True)
class ExtendRequest:
    """Request for more sections, or for a part of the song to be generated again."""

    seed: int
    """A new one: the same would draw the same again."""
    sections: str | None = None
    """Sections to add: how many, or which; None = the next one."""
    lyrics: str | None = None
    """The lyrics with what is to be added; None = the song's own."""
    retake: int | None = None
    """Generate this section again, counted from 1 among those of the song."""
    keep_after: bool = False
    """Keep what follows a retaken section, joined hard; else it goes."""
    rewind: float = 0.0
    """Seconds to cut off the end first."""
    same_section: bool = False
    """Go on inside the last section that is left."""
    segment_seconds: float | None = None
    """Longest a section may be from now on; None = as before."""

    def __post_init__(self) -> None:
        take_types(self)
        more = self.sections is not None or self.rewind or self.same_section
        alone = self.retake is not None and more
        if alone:
            raise RequestError(
                "a retake adds nothing", "leave --sections, --rewind and --same-section out, or --retake"
            )
        if self.keep_after and self.retake is None:
            raise RequestError("--keep-after belongs to --retake", "say which section: --retake N")
        if not 0 <= self.rewind < 10_000:
            raise RequestError(f"cannot rewind by {self.rewind:g} s", "use --rewind 0 or more")


@dataclass(frozen=True)
class DraftedSong:
    """A song whose draft is done."""

    request: SongRequest
    frames: Sequence[int]
    """Frames of each section."""
    codes: NDArray[np.int16]
    """[2, 8, T], or [2, 1, T] where stage 2 has not been yet."""
    complete: Sequence[bool] = ()
    """Whether the model ended each section; empty = unknown."""

    def part(self, first: int, last: int) -> NDArray[np.int16]:
        """Codes of the frames from `first` to `last`."""
        return self.codes[:, :, first:last]


@dataclass(frozen=True)
class Continuation:
    """A new song's request, what it begins with and what its log holds already."""

    request: SongRequest
    base: KeptPart
    draws: list[list[int]]
    """Codes of each section, with END_OF_AUDIO after a complete one."""
    notices: tuple[str, ...] = ()
    """Sentences about sections that the lyrics lack, and kept ones that have other words in new lyrics."""


def extend(song: DraftedSong, wanted: ExtendRequest) -> Continuation:
    """Decide what stays and what is generated. Raises RequestError."""
    old = song.request
    request = replace(
        old,
        seed=wanted.seed,
        take=0,
        lyrics=old.lyrics if wanted.lyrics is None else wanted.lyrics,
        segment_seconds=old.segment_seconds if wanted.segment_seconds is None else wanted.segment_seconds,
    )
    generated = section_numbers(len(prepare(song.request).all_sections), song.request.sections)[
        : len(song.frames)
    ]
    made = _extended(song, request, wanted, generated)
    after = len(made.base.after_frames)
    kept = [*generated[: made.base.prefix.sections], *generated[len(generated) - after :]]
    return _with_kept_words(made, old, kept)


def _with_kept_words(made: Continuation, old: SongRequest, kept: Sequence[int]) -> Continuation:
    """The continuation with the `old` labels and words of its `kept` sections, which it does not generate."""
    new = parse_lyrics(made.request.lyrics, made.request.keep_repeats)
    before = parse_lyrics(old.lyrics, old.keep_repeats).sections
    other = [n for n in kept if n <= len(new.sections) and _key(new.sections[n - 1]) != _key(before[n - 1])]
    if not other:
        return made
    sections = [before[n - 1] if n in other else section for n, section in enumerate(new.sections, 1)]
    places = listed([f"section {n} [{before[n - 1].label}]" for n in other])
    sentence = f"sections that are kept keep their words, although the new lyrics have others: {places}"
    request = replace(made.request, lyrics=format_lyrics(sections))
    return replace(made, request=request, notices=(*made.notices, *new.notices, sentence))


def _key(section: Section) -> tuple[str, str]:
    """A section's kind and its letters, by which the words of two are the same."""
    return plain_word(section.label), "".join(sign for sign in section.body.lower() if sign.isalnum())


def _extended(
    song: DraftedSong, request: SongRequest, wanted: ExtendRequest, generated: list[int]
) -> Continuation:
    """The continuation with the words of the request alone. Raises RequestError."""
    if wanted.retake is not None:
        return _retake(song, request, generated, wanted.retake, wanted.keep_after)
    kept = sum(song.frames) - round(FRAME_RATE * wanted.rewind)
    if kept <= 0:
        raise RequestError(
            f"the song is {sum(song.frames) / FRAME_RATE:g} s long, so nothing is left",
            "use a smaller --rewind",
        )
    frames = _cut(song.frames, kept)
    left = generated[: len(frames)]
    if wanted.same_section:
        given = KeptPrefix(len(frames) - 1, 2 * frames[-1])
        added = [] if wanted.sections is None else numbers_to_add(request, left, wanted.sections)
        _check_room(request, left, frames[-1])
    else:
        given, added = KeptPrefix(len(frames)), numbers_to_add(request, left, wanted.sections)
    made = _continuation(song, replace(request, sections=_spec([*left, *added])), frames, given)
    return replace(made, notices=_missing_sections(wanted.sections, len(added)))


def _missing_sections(spec: str | None, added: int) -> tuple[str, ...]:
    """A notice where more sections are wanted than the lyrics have left."""
    if spec is None or COUNT.fullmatch(spec.strip()) is None or int(spec) <= added:
        return ()
    have = "1 section more, which is" if added == 1 else f"{added} sections more, which are all"
    return (f"--sections {spec.strip()}: the lyrics have {have} generated",)


def numbers_to_add(request: SongRequest, generated: Sequence[int], spec: str | None) -> list[int]:
    """The sections to add after those `generated`. Raises RequestError where the lyrics have none left."""
    count, last = len(parse_lyrics(request.lyrics, request.keep_repeats).sections), max(generated)
    chosen = [] if spec is None else section_numbers(count, spec)
    if spec is None or COUNT.fullmatch(spec.strip()):
        more = 1 if spec is None else int(spec)
        added = list(range(last + 1, min(last + more, count) + 1))
    elif spec.strip().lower() == "all":
        added = list(range(last + 1, count + 1))
    else:
        added = chosen
    if not added:
        every = (
            "the one section of the lyrics is" if count == 1 else f"all {count} sections of the lyrics are"
        )
        raise RequestError(
            f"{every} generated",
            "pass lyrics with more of them (-l), or use --same-section or --retake N",
        )
    return added


def _retake(
    song: DraftedSong, request: SongRequest, generated: list[int], number: int, keep_after: bool
) -> Continuation:
    if not 1 <= number <= len(generated):
        raise RequestError(f"there is no section {number} to retake", f"use 1 to {len(generated)}")
    spec = _spec(generated if keep_after else generated[:number])
    frames = list(song.frames[: number - 1])
    after = list(song.frames[number:]) if keep_after else []
    return _continuation(song, replace(request, sections=spec), frames, KeptPrefix(len(frames)), after)


def _continuation(
    song: DraftedSong,
    request: SongRequest,
    frames: Sequence[int],
    given: KeptPrefix,
    after: Sequence[int] = (),
) -> Continuation:
    kept, total = sum(frames), song.codes.shape[2]
    ends = np.cumsum(frames).tolist()
    draws = []
    for section, (end, count) in enumerate(zip(ends, frames, strict=True)):
        codes = song.part(end - count, end)[:, 0]
        drawn = interleave(codes[0], codes[1]).tolist()
        draws.append([*drawn, END_OF_AUDIO] if section < given.sections else drawn)
    later = song.part(total - sum(after), total)
    whole = zip(frames, song.frames, song.complete, strict=False)
    complete = [ended and left == count for left, count, ended in whole]  # none that is cut
    complete += song.complete[len(song.complete) - len(after) :]
    base = KeptPart(
        given,
        tuple(frames),
        song.part(0, kept),
        tuple(after),
        later,
        tuple(complete) if song.complete else None,
    )
    return Continuation(request, base, draws)


def _cut(frames: Sequence[int], kept: int) -> list[int]:
    """Frames of each section of the first `kept` frames."""
    left: list[int] = []
    for count in frames:
        if kept > 0:
            left.append(min(count, kept))
            kept -= count
    return left


def _check_room(request: SongRequest, generated: Sequence[int], frames: int) -> None:
    section = prepare(request).all_sections[generated[-1] - 1]
    most = section.seconds if section.seconds is not None else request.segment_seconds
    if frames >= round(FRAME_RATE * most):
        raise RequestError(
            f"section {len(generated)} has {frames / FRAME_RATE:g} s of at most {most:g} s already",
            "use a larger --segment-seconds, or --rewind",
        )


def _spec(chosen: Sequence[int]) -> str:
    """Numbers as `section_numbers` reads them; a single one as a range, since alone it would be a count."""
    return ",".join(map(str, chosen)) if len(chosen) > 1 else f"{chosen[0]}-{chosen[0]}"
