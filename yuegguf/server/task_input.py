"""Bodies of requests for tasks. A body never names a path."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from yuegguf.exchange.encode_files import EncodeOptions
from yuegguf.models.pull import PullOptions
from yuegguf.request.output_effects import check_effects
from yuegguf.request.song_request import Format, MixMode, Output, StemMode
from yuegguf.server.song_input import Name
from yuegguf.server.tasks import PullTask


class OutputInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Formats and mix of audio files; what is left out stays as it was."""

    formats: tuple[Format, ...] | UnsetType = UNSET
    bits: int | UnsetType = UNSET
    mix: MixMode | UnsetType = UNSET
    vocal_gain: float | UnsetType = UNSET
    inst_gain: float | UnsetType = UNSET
    rescale: bool | UnsetType = UNSET
    loudness: float | UnsetType | None = UNSET
    """LUFS; null = as it is."""
    fade: float | UnsetType = UNSET
    stereo: bool | UnsetType = UNSET
    stem_mode: StemMode | UnsetType = UNSET
    stems: bool | UnsetType = UNSET
    tags: bool | UnsetType = UNSET
    artist: str | UnsetType = UNSET
    year: int | UnsetType = UNSET

    def output(self, old: Output | None = None) -> Output:
        """The old output, or the default one, with what is given changed. Raises RequestError."""
        if old is None:
            old = Output(year=datetime.date.today().year)
        values = ((name, getattr(self, name)) for name in OutputInput.__struct_fields__)
        given = {name: value for name, value in values if value is not UNSET}
        stems = {"stems": True} if "stem_mode" in given else {}
        output = replace(old, **{**stems, **given})
        check_effects(output, given)
        return output


class RenderInput(OutputInput, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a request that writes a song's files anew; what is left out stays as the song has it."""

    force: bool = False
    """Remove its files of other formats, and replace foreign ones."""


class DecodeInput(OutputInput, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a request for the audio of codes."""


class EncodeInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a request for the codes of a recording."""

    codebooks: int = 8
    start: float = 0.0
    """Seconds into the recording."""
    end: float | None = None
    """Seconds into the recording; null = its end."""

    def options(self) -> EncodeOptions:
        """The options of the encoder. Raises RequestError."""
        return EncodeOptions(self.codebooks, self.start, self.end)


class VoiceInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a request that keeps a recording's window as a voice."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    ref_start: float = 0.0
    """Seconds into the recording where the window begins."""
    ref_end: float = 30.0
    replace: bool = False
    """Whether a voice of that name is replaced."""


class ImportInput(OutputInput, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a request for a song folder of another tool's files, or of two stems."""

    genre: str | None = None
    """Tags, if the source has none."""
    lyrics: str | None = None
    at: tuple[float, ...] = ()
    """Seconds at which the second and later sections begin."""
    start: float = 0.0
    """Seconds into the stems where the song begins."""
    take: float | None = None
    """Seconds of the stems to take; null = the rest."""
    name: Name | None = None
    """Title; null = from the tags."""
    model: str | None = None
    quant: str | None = None
    finish: bool = True
    """Whether the song is then taken to its end."""


class PullInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a request that installs models."""

    names: Annotated[tuple[str, ...], Meta(max_length=100)] = ()
    """Names such as "en-cot:Q4_K_M"."""
    set: str | None = None
    """Name of a set: minimal, en, zh, jp-kr, all."""
    quant: str | None = None
    """Type of stage 1 where a name has none; null = what fits this memory."""
    from_gguf: bool = False
    """Take another publisher's GGUF and trim it, instead of converting."""
    keep_source: bool = False
    force: bool = False
    """Get it again, and replace files that were not installed by a pull."""

    def named(self, name: str) -> PullInput:
        """The body for one model."""
        return msgspec.structs.replace(self, names=(name,))

    def task(self) -> PullTask:
        """The task."""
        options = PullOptions(self.from_gguf, self.keep_source, force=self.force)
        return PullTask(names=self.names, set=self.set, quant=self.quant, options=options)


INPUTS: tuple[type[msgspec.Struct], ...] = (
    RenderInput,
    DecodeInput,
    EncodeInput,
    VoiceInput,
    ImportInput,
    PullInput,
)
"""Bodies of this module, for the OpenAPI document."""
