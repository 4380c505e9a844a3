"""Check that a model fits into memory, with a message that names what would fit."""

from __future__ import annotations

from dataclasses import dataclass, replace

from yuegguf.errors import NotEnoughMemory
from yuegguf.lm.header import ModelFacts
from yuegguf.planning.cost import LoadSpec

GIB, MIB = 2**30, 2**20


@dataclass(frozen=True)
class MemoryNeed:
    """A stage's model, its load options, and the command-line option that reduces its memory."""

    name: str
    model: ModelFacts
    load: LoadSpec
    option: str
    smaller: dict[int, LoadSpec]
    """Smaller value of the option → load options with it."""

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
        """The option with its largest smaller value that fits, else the largest model file that would."""
        needs = {value: load.own_bytes(self.model, shared) for value, load in self.smaller.items()}
        fits = [value for value, needed in needs.items() if needed <= limit]
        if fits:
            return f"{self.option} {max(fits)}"
        least = min(needs.values(), default=self.load.own_bytes(self.model, shared))
        left = self.model.bytes - (least - limit)
        return f"a model file of at most {size(left)}" if left > 0 else ""

    def _fitting_layers(self, limit: int) -> str:
        counts = range(self.model.layers - 1, 0, -1)
        fits = (n for n in counts if replace(self.load, gpu_layers=n).gpu_bytes(self.model) <= limit)
        return f"--gpu-layers {next(fits, 0)}"


def size(number: int) -> str:
    """Bytes in words: "5.8 GiB", "40 MiB"."""
    return f"{number / GIB:.1f} GiB" if number >= GIB / 10 else f"{number / MIB:.0f} MiB"


def _too_much(sentence: str, instead: str) -> NotEnoughMemory:
    return NotEnoughMemory(sentence, f"{instead or 'a machine with more memory'} would fit")
