"""Bodies of requests, typed, and the song requests that they stand for. A body never names a path."""

from __future__ import annotations

import datetime
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from yuegguf.models.registry import NANO, model_entries
from yuegguf.models.resolve import ModelChoice
from yuegguf.pipeline.extend import ExtendRequest
from yuegguf.request.preview_options import DraftFiles, PreviewOptions
from yuegguf.request.sampling import Sampling
from yuegguf.request.song_request import (
    WORDLESS,
    Format,
    GuideTrack,
    MixMode,
    Output,
    Reference,
    SongRequest,
    StemMode,
)
from yuegguf.request.valid_text import is_valid_text
from yuegguf.server.problems import HttpProblem
from yuegguf.song.voices import VOICE_NAME

T = TypeVar("T")
QUANT = re.compile(r"[A-Za-z0-9_]{1,20}")
RECORDINGS = ("ref", "vocal_ref", "inst_ref")
"""Names of the parts of a multipart request that hold recordings."""
MOST_TAKES = 16
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]


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
    stem_mode: StemMode = "joined"
    loudness: float | None = -14.0
    fade: float = 10.0
    artist: str = "YuE"
    year: int | None = None
    """Year in the files' tags; None = this one."""
    draft: DraftFiles = ""
    """Stop after the draft: "mix", or "stems" for the mix and both tracks."""
    preview_seconds: float = 4.0
    """Seconds of new music after which the preview grows; 0 = none."""


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
            _seed(self.seed),
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


@dataclass(frozen=True)
class ParsedSong:
    """A request for a song, with all that decides how it is generated."""

    request: SongRequest
    choice: ModelChoice
    preview: PreviewOptions
    name: str | None
    takes: int


def read_body(data: bytes, kind: type[T]) -> T:
    """A JSON body, strictly typed. Raises HttpProblem 400."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise HttpProblem(
            400, "invalid_body", f"the body cannot be used ({reason})", "see /v1/openapi.json"
        ) from error


def parse_song(body: SongInput, choice: ModelChoice, recordings: Mapping[str, Path]) -> ParsedSong:
    """The song that a body asks for; `recordings` are files by RECORDINGS.

    Raises RequestError, HttpProblem.
    """
    if body.instrumental and body.a_cappella:
        raise HttpProblem(
            422, "bad_request", "instrumental and a_cappella leave no track", "choose one of them"
        )
    if body.name is not None and not is_valid_text(body.name):
        raise HttpProblem(422, "bad_request", "the name is not text", "pass UTF-8 text")
    track = GuideTrack("vocal") if body.instrumental else None
    track = GuideTrack("instrumental") if body.a_cappella else track
    request = SongRequest(
        body.genre,
        body.lyrics if body.lyrics.strip() or not body.instrumental else WORDLESS,
        body.sections,
        body.segment_seconds,
        _seed(body.seed),
        Sampling(*body.cfg, body.repetition_penalty, body.temperature, body.top_k, body.top_p),
        reference=_reference(body, recordings),
        track=track,
        retries=body.retries,
        output=_output(body),
        keep_repeats=body.keep_repeats,
    )
    preview = PreviewOptions(body.draft, body.preview_seconds)
    return ParsedSong(request, _choice(body, choice), preview, body.name, body.candidates)


def _output(body: SongInput) -> Output:
    return Output(
        body.formats,
        body.bits,
        body.mix,
        body.vocal_gain,
        body.inst_gain,
        stem_mode=body.stem_mode,
        loudness=body.loudness,
        fade=body.fade,
        artist=body.artist,
        year=body.year if body.year is not None else datetime.date.today().year,
    )


def _choice(body: SongInput, choice: ModelChoice) -> ModelChoice:
    """The server's choice of models, with the id and the type that the body names."""
    if body.model is not None:
        known = [NANO, *(entry.id for entry in model_entries())]
        if body.model not in known:
            raise HttpProblem(
                422, "unknown_model", f"there is no model {body.model!r:.80}", f"use {', '.join(known)}"
            )
        choice = replace(choice, stage1=body.model, quant=None)
        if body.model == NANO:
            choice = replace(choice, stage2=NANO, codec=None)
    if body.quant is not None:
        if not QUANT.fullmatch(body.quant):
            raise HttpProblem(422, "unknown_quant", f"there is no type {body.quant!r:.80}", "see /v1/models")
        choice = replace(choice, quant=body.quant)
    return choice


def _reference(body: SongInput, recordings: Mapping[str, Path]) -> Reference | None:
    if body.voice is not None and not VOICE_NAME.fullmatch(body.voice):
        raise HttpProblem(422, "unknown_voice", f"there is no voice {body.voice!r:.80}", "see /v1/props")
    if body.voice is None and not recordings:
        return None
    if body.voice is not None:
        if recordings:
            raise HttpProblem(
                422, "bad_request", "a voice is a reference already", "leave out the recordings"
            )
        return Reference(voice=body.voice)
    return uploaded_reference(recordings, body.ref_start, body.ref_end)


def uploaded_reference(recordings: Mapping[str, Path], start: float, end: float) -> Reference:
    """The window of uploaded recordings, by RECORDINGS, as a reference. Raises RequestError."""
    files = {name: str(path) for name, path in recordings.items()}
    return Reference(files.get("ref"), files.get("vocal_ref"), files.get("inst_ref"), start, end)


def _seed(seed: int | None) -> int:
    return secrets.randbelow(2**32) if seed is None else seed


def defaults() -> dict[str, Any]:
    """The defaults of a request for a song, by field."""
    built: dict[str, Any] = msgspec.to_builtins(SongInput(genre=""))
    return {name: value for name, value in built.items() if name != "genre"}
