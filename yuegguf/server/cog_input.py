"""Bodies of Replicate's API with the seven inputs of cog-yue, and the songs that they stand for."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from yuegguf.models.registry import NANO, installed_quants, is_known
from yuegguf.models.resolve import DEFAULT_STAGE1, DEFAULT_STAGE2, ModelChoice
from yuegguf.server.song_input import Seed, SongInput

TOKENS_PER_SECOND = 100
"""Stage 1's tokens: 50 frames of two tracks."""
TYPES = {"bf16": ("BF16", "F16"), "int8": ("Q8_0",), "nf4": ("Q4_K_M", "Q4_K_S", "Q4_0")}
"""Number type of PyTorch → types of GGUF files that hold about as much, the best first."""
WebhookEvent = Literal["start", "output", "logs", "completed"]
DEFAULT_EVENTS: tuple[WebhookEvent, ...] = ("output", "completed")


class PredictionInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Inputs of a prediction."""

    genre_description: str
    """Tags: genre, instrument, mood, gender, timbre."""
    lyrics: str
    """Lyrics with [section] lines."""
    num_segments: Annotated[int, Meta(ge=1, le=10)] = 2
    """Sections to generate, from the first on."""
    max_new_tokens: Annotated[int, Meta(ge=500, le=3000)] = 1500
    """Longest that a section may be; 100 are a second."""
    seed: Seed | None = None
    """None = random."""
    quantization_stage1: Literal["bf16", "int8", "nf4"] | None = None
    """Type of stage 1, if it is installed; None = the server's."""
    quantization_stage2: Literal["bf16", "int8"] | None = None
    """Type of stage 2, likewise."""


class PredictionBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a request for a prediction."""

    input: PredictionInput
    version: Annotated[str, Meta(max_length=200)] = ""
    """Any text: there is one model here."""
    webhook: str | None = None
    """URL that is sent the prediction when something happens to it."""
    webhook_events_filter: tuple[WebhookEvent, ...] | None = None
    """Events of which the webhook is notified; None = output and completed."""
    webhook_completed: str | None = None
    """An older name of a webhook that is notified of the end alone."""
    stream: bool = False
    """Taken and without effect: there is no text to stream."""

    @property
    def notified(self) -> tuple[str, tuple[WebhookEvent, ...]]:
        """The webhook, empty for none, and its events."""
        if self.webhook is None:
            return self.webhook_completed or "", ("completed",)
        events = self.webhook_events_filter
        return self.webhook, DEFAULT_EVENTS if events is None else events


def song_input(given: PredictionInput) -> SongInput:
    """The song that a prediction asks for."""
    return SongInput(
        genre=given.genre_description,
        lyrics=given.lyrics,
        sections=str(given.num_segments),
        segment_seconds=given.max_new_tokens / TOKENS_PER_SECOND,
        seed=given.seed,
    )


def chosen_models(given: PredictionInput, choice: ModelChoice) -> tuple[ModelChoice, list[str]]:
    """The server's choice of models with the types that a prediction asks for, as far as they are installed.

    Returns a notice for each that is not: the server's own file is used then.
    """
    notices = []
    if given.quantization_stage1 is not None:
        name = choice.stage1 or DEFAULT_STAGE1
        if (found := _installed(name, given.quantization_stage1, choice)) is not None:
            choice = replace(choice, stage1=name, quant=found[0])
        else:
            notices.append(_notice("quantization_stage1", given.quantization_stage1))
    if given.quantization_stage2 is not None:
        found = _installed(choice.stage2 or DEFAULT_STAGE2, given.quantization_stage2, choice)
        if found is not None:
            choice = replace(choice, stage2=found[1])
        else:
            notices.append(_notice("quantization_stage2", given.quantization_stage2))
    return choice, notices


def _installed(name: str, number_type: str, choice: ModelChoice) -> tuple[str, str] | None:
    """Type and file of an installed model that is nearest to a number type of PyTorch, or None."""
    if not is_known(name) or choice.stage1 == NANO:
        return None
    there = installed_quants(name, choice.root)
    return next(((each, str(there[each])) for each in TYPES[number_type] if each in there), None)


def _notice(field: str, number_type: str) -> str:
    return (
        f"{field}={number_type}: no {' or '.join(TYPES[number_type])} is installed; the server's own is used"
    )


def version_json(version: str, created: str, cog_version: str) -> dict[str, Any]:
    """A version of the model, with the schema of its inputs and of its output."""
    (_,), schemas = msgspec.json.schema_components(
        (PredictionInput,), ref_template="#/components/schemas/{name}"
    )
    files = {"type": "array", "items": {"type": "string", "format": "uri"}, "title": "Output"}
    document = {
        "openapi": "3.0.2",
        "info": {"title": "yuegguf", "version": cog_version},
        "paths": {},
        "components": {"schemas": {"Input": schemas["PredictionInput"], "Output": files}},
    }
    return {"id": version, "created_at": created, "cog_version": cog_version, "openapi_schema": document}
