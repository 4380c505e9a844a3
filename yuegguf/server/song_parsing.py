"""Bodies of requests → the requests for songs that they stand for."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from yuegguf.models.registry import NANO, model_entries
from yuegguf.models.resolve import ModelChoice
from yuegguf.request.output_effects import CHECKED, check_effects
from yuegguf.request.preview_options import PreviewOptions
from yuegguf.request.sampling import Sampling
from yuegguf.request.song_request import WORDLESS, GuideTrack, Output, Reference, SongRequest
from yuegguf.request.valid_text import is_valid_text
from yuegguf.server.problems import HttpProblem
from yuegguf.server.song_input import COVER, DEFAULTS, STEMS, SongInput, sure_seed
from yuegguf.song.recordings import stems_request
from yuegguf.song.voices import VOICE_NAME

QUANT = re.compile(r"[A-Za-z0-9_]{1,20}")
NOT_OF_STEMS = ("instrumental", "a_cappella", "voice", "sections", "segment_seconds", "ref_start", "ref_end")
"""Fields of a body that an uploaded stem decides."""


@dataclass(frozen=True)
class ParsedSong:
    """A request for a song, with all that decides how it is generated."""

    request: SongRequest
    choice: ModelChoice
    preview: PreviewOptions
    name: str | None
    takes: int


def parse_song(body: SongInput, choice: ModelChoice, recordings: Mapping[str, Path]) -> ParsedSong:
    """The song that a body asks for; `recordings` are uploaded files by FILES.

    Raises RequestError, HttpProblem.
    """
    if body.instrumental and body.a_cappella:
        raise HttpProblem(
            422, "bad_request", "instrumental and a_cappella leave no track", "choose one of them"
        )
    if body.take and body.candidates > 1:
        raise HttpProblem(
            422, "bad_request", "take is one take and candidates are several", "leave one of them out"
        )
    if body.name is not None and not is_valid_text(body.name):
        raise HttpProblem(422, "bad_request", "the name is not text", "pass UTF-8 text")
    preview = PreviewOptions(body.draft, body.preview_seconds)
    cover = recordings.get(COVER)
    if cover is not None and not body.tags:
        raise HttpProblem(422, "bad_request", "the cover has no effect without tags", "leave it out")
    others = {part: path for part, path in recordings.items() if part != COVER}
    request = replace(_song_request(body, others), take=body.take)
    if cover is not None:
        request = replace(request, output=replace(request.output, cover=str(cover)))
    return ParsedSong(
        request, chosen_models(body.model, body.quant, choice), preview, body.name, body.candidates
    )


def _song_request(body: SongInput, recordings: Mapping[str, Path]) -> SongRequest:
    """The request of a body. Raises RequestError, HttpProblem."""
    if stems := [part for part in STEMS if part in recordings]:
        return _stem_request(body, recordings, stems)
    for field in ("offset", "re_encode"):
        if getattr(body, field):
            raise HttpProblem(
                422, "bad_request", f"{field} has no effect without a stem", f"send {' or '.join(STEMS)}"
            )
    track = GuideTrack("vocal") if body.instrumental else None
    track = GuideTrack("instrumental") if body.a_cappella else track
    return SongRequest(
        body.genre,
        body.lyrics if body.lyrics.strip() or not body.instrumental else WORDLESS,
        body.sections,
        body.segment_seconds,
        sure_seed(body.seed),
        _sampling(body),
        reference=_reference(body, recordings),
        track=track,
        retries=body.retries,
        output=_output(body),
        keep_repeats=body.keep_repeats,
    )


def _stem_request(body: SongInput, recordings: Mapping[str, Path], stems: Sequence[str]) -> SongRequest:
    """The request for the missing track to an uploaded one. Raises RequestError, HttpProblem."""
    if len(stems) > 1:
        raise HttpProblem(422, "bad_request", "both tracks are there", f"send {' or '.join(STEMS)}")
    idle = [field for field in NOT_OF_STEMS if getattr(body, field) != DEFAULTS[field]]
    if idle := [*idle, *(part for part in recordings if part not in STEMS)]:
        raise HttpProblem(422, "bad_request", f"{idle[0]} has no effect with a stem", "leave it out")
    (part,) = stems
    track = GuideTrack(STEMS[part], str(recordings[part]), body.offset, re_encode=body.re_encode)
    request = stems_request(
        track, body.genre, body.lyrics if body.lyrics.strip() else None,
        seed=sure_seed(body.seed), sampling=_sampling(body), output=_output(body),
    )  # fmt: skip
    return replace(request, retries=body.retries, keep_repeats=body.keep_repeats)


def _sampling(body: SongInput) -> Sampling:
    return Sampling(*body.cfg, body.repetition_penalty, body.temperature, body.top_k, body.top_p)


def _output(body: SongInput) -> Output:
    """The output of a body. Raises RequestError."""
    output = Output(
        body.formats,
        body.bits,
        body.mix,
        body.vocal_gain,
        body.inst_gain,
        body.rescale,
        body.stems,
        body.tags,
        stem_mode=body.stem_mode,
        loudness=body.loudness,
        fade=body.fade,
        stereo=body.stereo,
        artist=body.artist,
        year=body.year if body.year is not None else datetime.date.today().year,
    )
    check_effects(output, [field for field in CHECKED if getattr(body, field, None) != DEFAULTS.get(field)])
    return output


def chosen_models(model: str | None, quant: str | None, choice: ModelChoice) -> ModelChoice:
    """The server's choice of models, with the id and the type that a body names. Raises HttpProblem."""
    if model is not None:
        known = [NANO, *(entry.id for entry in model_entries())]
        if model not in known:
            raise HttpProblem(
                422, "unknown_model", f"there is no model {model!r:.80}", f"use {', '.join(known)}"
            )
        choice = replace(choice, stage1=model, quant=None)
        if model == NANO:
            choice = replace(choice, stage2=NANO, codec=None)
    if quant is not None:
        if not QUANT.fullmatch(quant):
            raise HttpProblem(422, "unknown_quant", f"there is no type {quant!r:.80}", "see /v1/models")
        choice = replace(choice, quant=quant)
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
