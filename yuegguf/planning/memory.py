"""Check that a model fits into memory, with a message that names what would fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from yuegguf.errors import NotEnoughMemory
from yuegguf.lm.header import ModelFacts
from yuegguf.planning.cost import LoadSpec

GIB, MIB = 2**30, 2**20
Options = tuple[str, ...]
"""Command-line options with their values, each as one text: "--ctx 4096"."""


@dataclass(frozen=True)
class MemoryNeed:
    """A stage's model, its load options, and the command-line options that reduce its memory."""

    name: str
    model: ModelFacts
    load: LoadSpec
    smaller: Mapping[Options, LoadSpec] = field(default_factory=dict)
    """Command-line options → load options with them, those that cost the song least first."""

    def check(self, limit: int | None, gpu_limit: int | None, *, shared: bool, requested: bool) -> None:
        """Raise NotEnoughMemory, naming what would fit, above the limits in bytes; None = no limit.

        `requested`: the limit is the user's own.
        """
        needed = self.load.own_bytes(self.model, shared)
        if limit is not None and needed > limit:
            instead = self._fitting(limit, shared)
            if requested and not instead:
                instead = f"--max-memory {-(-needed // MIB)}M"
            may = f"--max-memory allows {size(limit)}" if requested else f"{size(limit)} may be used"
            raise _too_much(f"{self.name} needs about {size(needed)} and {may}", instead)
        needed = self.load.gpu_bytes(self.model)
        if gpu_limit is not None and needed > gpu_limit:
            what = f"{self.name} needs about {size(needed)} of the GPU's memory and"
            raise _too_much(f"{what} {size(gpu_limit)} may be used", self._fitting_layers(gpu_limit))

    def _fitting(self, limit: int, shared: bool) -> str:
        """The first options that fit, else the largest model file that would with one of them."""
        needs = {options: load.own_bytes(self.model, shared) for options, load in self.smaller.items()}
        if fits := next((options for options, needed in needs.items() if needed <= limit), ()):
            return " ".join(fits)
        single: dict[Options, int] = {
            options: needed for options, needed in needs.items() if len(options) == 1
        }
        single = single or {(): self.load.own_bytes(self.model, shared)}
        option = min(single, key=lambda options: single[options])
        left = self.model.bytes - (single[option] - limit)
        beside = f" with {option[0]}" if option else ""
        return f"a model file of at most {size(left)}{beside}" if left > 0 else ""

    def _fitting_layers(self, limit: int) -> str:
        counts = range(self.model.layers - 1, 0, -1)
        fits = (n for n in counts if replace(self.load, gpu_layers=n).gpu_bytes(self.model) <= limit)
        return f"--gpu-layers {next(fits, 0)}"


def smaller_loads(
    load: LoadSpec, fewer: Mapping[Options, LoadSpec], kv_types: Sequence[str]
) -> dict[Options, LoadSpec]:
    """Command-line options → load options: the load with caches of these types, then with fewer cells too.

    `fewer` are options that leave less in the caches, the most first. Without `kv_types` they stand alone.
    """
    if not kv_types:
        return dict(fewer)
    every = {(): load, **fewer}
    both = {
        (*options, f"--kv-type {kind}"): replace(each, kv_type=kind, flash=True)
        for kind in kv_types
        for options, each in every.items()
    }
    return dict(sorted(both.items(), key=lambda item: len(item[0])))


def size(number: int) -> str:
    """Bytes in words: "5.8 GiB", "40 MiB"."""
    return f"{number / GIB:.1f} GiB" if number >= GIB / 10 else f"{number / MIB:.0f} MiB"


def _too_much(sentence: str, instead: str) -> NotEnoughMemory:
    return NotEnoughMemory(sentence, f"{instead or 'a machine with more memory'} would fit")
