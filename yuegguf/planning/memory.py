"""Whether a model fits into memory as it is to be held, and what to say where it does not."""

from __future__ import annotations

from dataclasses import dataclass, replace

from yuegguf.errors import NotEnoughMemory
from yuegguf.lm.header import ModelFacts
from yuegguf.planning.cost import LoadSpec

GIB = 2**30


@dataclass(frozen=True)
class MemoryNeed:
    """A stage's model, how it is held, and the option that makes it smaller."""

    name: str
    model: ModelFacts
    held: LoadSpec
    option: str
    smaller: dict[int, LoadSpec]
    """Smaller values of the option, and how the model is held with them."""

    def check(self, limit: int | None, gpu_limit: int | None, shared: bool) -> None:
        """Raise NotEnoughMemory with what would fit."""
        needed = self.held.own_bytes(self.model, shared)
        if limit is not None and needed > limit:
            instead = self._fitting(limit, shared)
            raise _too_much(f"{self.name} needs about {needed / GIB:.1f} GiB and", limit, instead)
        needed = self.held.gpu_bytes(self.model)
        if gpu_limit is not None and needed > gpu_limit:
            what = f"{self.name} needs about {needed / GIB:.1f} GiB of the GPU's memory and"
            raise _too_much(what, gpu_limit, self._fitting_layers(gpu_limit))

    def _fitting(self, limit: int, shared: bool) -> str:
        """The largest of the option's smaller values that fits, else a model file of some size."""
        needs = {value: held.own_bytes(self.model, shared) for value, held in self.smaller.items()}
        fits = [value for value, needed in needs.items() if needed <= limit]
        if fits:
            return f"{self.option} {max(fits)}"
        least = min(needs.values(), default=self.held.own_bytes(self.model, shared))
        left = self.model.bytes - (least - limit)
        return f"a model file of at most {left / GIB:.1f} GiB" if left > 0 else "a machine with more memory"

    def _fitting_layers(self, limit: int) -> str:
        counts = range(self.model.layers - 1, 0, -1)
        fits = (n for n in counts if replace(self.held, gpu_layers=n).gpu_bytes(self.model) <= limit)
        return f"--gpu-layers {next(fits, 0)}"


def _too_much(needed: str, limit: int, instead: str) -> NotEnoughMemory:
    return NotEnoughMemory(f"{needed} {limit / GIB:.1f} GiB may be used", f"{instead} would fit")
