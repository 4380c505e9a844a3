"""Bodies of requests for songs, typed. A body never names a path."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from yuegguf.codec.protocol import Track
from yuegguf.pipeline.extend import ExtendRequest
from yuegguf.request.preview_options import DraftFiles
from yuegguf.request.ranges import MOST_TAKES
from yuegguf.request.song_request import (
    MAX_TAKES,
    Format,
    MixMode,
    SongRequest,
    StemMode,
)
from yuegguf.server.problems import HttpProblem

T = TypeVar("T")
RECORDINGS = ("ref", "vocal_ref", "inst_ref")
"""Names of the parts of a multipart request that hold recordings of a reference."""
STEMS: Mapping[str, Track] = {"vocal_stem": "vocal", "inst_stem": "instrumental"}
"""Name of the part with a recorded track, to which the other one is generated → the track."""
COVER = "cover"
"""Name of the part with a picture for the files' tags."""
FILES = (*RECORDINGS, *STEMS, COVER)
"""Names of all parts with files that a request for a song may have."""
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S")]
"""A title, which spaces alone are not."""


class SongInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a request for a song; everything but the tags has a default."""

    genre: str
    """Tags: genre, instrument, mood, gender, timbre."""
    lyrics: str = ""
    """Lyrics with [section] lines; may be empty for an instrumental."""
    name: Name | None = None
    """Title; None = from the tags."""
    model: str | None = None
    """Id of an installed stage-1 model; None = the server's."""
    quant: str | None = None
    sections: str = "all"
    segment_seconds: float = 30.0
    seed: Seed | None = None
    """None = random."""
    take: Annotated[int, Meta(ge=0, le=MAX_TAKES)] = 0
    """Number of the only take to make of those that the seed gives; 0 = a song by itself."""
    candidates: Annotated[int, Meta(ge=1, le=MOST_TAKES)] = 1
    """Takes; several are drafts of which `keep` finishes some."""
    cfg: tuple[float, float] = (1.5, 1.2)
    """Guidance scale of the first section, and of the others."""
    top_p: float = 0.93
    top_k: int = 50
    temperature: float = 1.0
    repetition_penalty: float = 1.1
    retries: int = 2
    keep_repeats: bool = False
    instrumental: bool = False
    a_cappella: bool = False
    offset: float = 0.0
    """Seconds into an uploaded stem where the song begins."""
    re_encode: bool = False
    """Mix in an uploaded stem as the codec decodes it, instead of as it is."""
    voice: str | None = None
    """Name of a saved voice."""
    ref_start: float = 0.0
    """Seconds into the uploaded recordings where the reference begins."""
    ref_end: float = 30.0
    formats: tuple[Format, ...] = ("wav",)
    bits: int = 16
    mix: MixMode = "hybrid"
    vocal_gain: float = 0.0
    inst_gain: float = 0.0
    rescale: bool = False
    stereo: bool = False
    stem_mode: StemMode = "joined"
    stems: bool = True
    tags: bool = True
    loudness: float | None = -14.0
    fade: float = 10.0
    artist: str = "YuE"
    year: int | None = None
    """Year in the files' tags; None = this one."""
    draft: DraftFiles = ""
    """Stop after the draft: "mix", or "stems" for the mix and both tracks."""
    preview_seconds: float = 4.0
    """Seconds of new music after which the preview grows; 0 = none."""


class StemsInput(SongInput, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a request for a song to one track of another one."""

    keep: Track
    """The track that is kept; the other one is generated to it."""
    genre: str | None = None  # type: ignore[assignment]
    """Tags; null = the song's."""
    lyrics: str | None = None  # type: ignore[assignment]
    """Lyrics; null = the song's where its instrumental is kept, else none."""

    def song(self, old: SongRequest) -> SongInput:
        """The body of the same song, where `old` says what is left out."""
        given = {name: getattr(self, name) for name in SongInput.__struct_fields__}
        words = old.lyrics if self.keep == "instrumental" else ""
        given["genre"] = old.genre if self.genre is None else self.genre
        given["lyrics"] = words if self.lyrics is None else self.lyrics
        return SongInput(**given)


class ExtendInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a request for a song that goes on from another one."""

    seed: Seed | None = None
    sections: str | None = None
    lyrics: str | None = None
    retake: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    """Number of a section to generate again."""
    keep_after: bool = False
    rewind: float = 0.0
    same_section: bool = False
    segment_seconds: float | None = None
    name: Name | None = None
    candidates: Annotated[int, Meta(ge=1, le=MOST_TAKES)] = 1

    def request(self) -> ExtendRequest:
        """The request, with a seed. Raises RequestError."""
        return ExtendRequest(
            sure_seed(self.seed),
            self.sections,
            self.lyrics,
            self.retake,
            self.keep_after,
            self.rewind,
            self.same_section,
            self.segment_seconds,
        )


class RetakeInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a request for a song that has one section of another one generated again."""

    section: Annotated[int, Meta(ge=1, le=10_000)]
    """Number of the section, from 1."""
    seed: Seed | None = None
    keep_after: bool = False
    """Keep what follows, joined hard; else it is left out."""
    lyrics: str | None = None
    name: Name | None = None
    candidates: Annotated[int, Meta(ge=1, le=MOST_TAKES)] = 1

    def extension(self) -> ExtendInput:
        """The body of an extension with the same meaning."""
        return ExtendInput(
            seed=self.seed,
            retake=self.section,
            keep_after=self.keep_after,
            lyrics=self.lyrics,
            name=self.name,
            candidates=self.candidates,
        )


class KeepInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a request that finishes takes."""

    takes: Annotated[tuple[int, ...], Meta(min_length=1, max_length=MOST_TAKES)]


class MoveInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a request that moves a waiting song."""

    position: Annotated[int, Meta(ge=0, le=1_000_000)]


def read_body(data: bytes, kind: type[T]) -> T:
    """A JSON body, strictly typed. Raises HttpProblem 400."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise HttpProblem(
            400, "invalid_body", f"the body cannot be used ({reason})", "see /v1/openapi.json"
        ) from error


def sure_seed(seed: int | None) -> int:
    """The seed, or a random one."""
    return secrets.randbelow(2**32) if seed is None else seed


DEFAULTS: dict[str, Any] = {
    field.name: field.default for field in msgspec.structs.fields(SongInput) if not field.required
}
"""Field of a request for a song → its default."""


def defaults() -> dict[str, Any]:
    """The defaults of a request for a song, by field."""
    built: dict[str, Any] = msgspec.to_builtins(SongInput(genre=""))
    return {name: value for name, value in built.items() if name != "genre"}
