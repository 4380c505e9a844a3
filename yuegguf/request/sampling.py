"""Options of the stage-1 sampler."""

from __future__ import annotations

from dataclasses import dataclass

from yuegguf.files.field_types import take_types
from yuegguf.request.ranges import check_integer, check_number


@dataclass(frozen=True)
class Sampling:
    """Sampling options of stage 1; the defaults are infer.py's."""

    guidance_first: float = 1.5
    """Guidance scale of the first section; 1 switches guidance off, as in transformers."""
    guidance_rest: float = 1.2
    """Guidance scale of all later sections."""
    repetition_penalty: float = 1.1
    temperature: float = 1.0
    """0 = greedy."""
    top_k: int = 50
    """transformers' default, which upstream never overrides; 0 switches it off."""
    top_p: float = 0.93
    min_new_tokens: int = 100
    """Least ids of a section before end-of-audio."""

    def __post_init__(self) -> None:
        take_types(self)
        check_number("guidance", self.guidance_first, 0, 10)
        check_number("guidance", self.guidance_rest, 0, 10)
        check_number("repetition penalty", self.repetition_penalty, 0.1, 10)
        check_number("temperature", self.temperature, 0.01, 10, zero=True)  # scores are divided by it
        check_integer("top-k", self.top_k, 0, 1025)
        check_number("top-p", self.top_p, 0, 1)
        check_integer("min-new-tokens", self.min_new_tokens, 0, 1_000_000)

    def guidance(self, section: int) -> float:
        """Guidance scale of the n-th generated section, counted from 0."""
        return self.guidance_first if section == 0 else self.guidance_rest

    @property
    def guided(self) -> bool:
        """Whether any section needs the unconditional sequence."""
        return self.guidance_first != 1.0 or self.guidance_rest != 1.0
