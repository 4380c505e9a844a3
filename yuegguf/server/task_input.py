"""Bodies of requests for tasks. A body never names a path."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from msgspec import UNSET, Struct, UnsetType

from yuegguf.request.output_effects import check_effects
from yuegguf.request.song_request import Format, MixMode, Output, StemMode


class RenderInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Body of a request that writes a song's files anew; what is left out stays as the song has it."""

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
    force: bool = False
    """Remove its files of other formats, and replace foreign ones."""

    def output(self, old: Output) -> Output:
        """The song's output with what is given changed. Raises RequestError."""
        given = {
            name: value
            for name, value in msgspec.structs.asdict(self).items()
            if name != "force" and value is not UNSET
        }
        stems = {"stems": True} if "stem_mode" in given else {}
        output = replace(old, **{**stems, **given})
        check_effects(output, given)
        return output
