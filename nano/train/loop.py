"""The loop that all four models are trained by: rate schedule, log, state on disk, resume."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

KEEP_SECONDS = 120
"""Between two states on disk."""
LOG_STEPS = 50
WARM_STEPS = 100
LAST_RATE = 0.02
"""Share of the rate that is left at the last step."""

Terms = Callable[[int], dict[str, Tensor]]
"""Step → the weighted terms of its loss."""


@dataclass(frozen=True)
class Plan:
    """Steps, learning rate, device and files of a training."""

    folder: Path
    name: str
    """Name of the state and the log: FOLDER/NAME.pt and FOLDER/NAME.jsonl."""
    steps: int
    rate: float
    device: str
    betas: tuple[float, float] = (0.9, 0.98)
    decay: float = 0.01


class Trainer:
    """A model, its optimiser and the step they have reached, on disk as one file."""

    def __init__(self, plan: Plan, model: nn.Module) -> None:
        self.plan, self.model = plan, model
        self.path = plan.folder / f"{plan.name}.pt"
        plan.folder.mkdir(parents=True, exist_ok=True)
        self.optimiser = torch.optim.AdamW(
            model.parameters(), lr=plan.rate, betas=plan.betas, weight_decay=plan.decay
        )
        self.step, self.seconds = 0, 0.0
        if self.path.exists():
            state = torch.load(self.path, map_location=plan.device, weights_only=True)
            model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.seconds = state["step"], state["seconds"]

    def run(self, terms: Terms) -> None:
        """Train to the last step, over as many calls as it takes."""
        kept = time.monotonic()
        sums: dict[str, float] = {}
        summed = 0
        self.model.train()
        while self.step < self.plan.steps:
            begun = time.monotonic()
            for name, value in self._learn(terms).items():
                sums[name] = sums.get(name, 0.0) + value
            summed += 1
            self.seconds += time.monotonic() - begun
            if self.step % LOG_STEPS == 0:
                self._log({name: value / summed for name, value in sums.items()})
                sums, summed = {}, 0
            if time.monotonic() - kept > KEEP_SECONDS:
                self.save()
                kept = time.monotonic()
        self.save()

    def save(self) -> None:
        """Write beside and rename."""
        beside = self.path.with_suffix(".part")
        state = {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
        torch.save({**state, "step": self.step, "seconds": self.seconds}, beside)
        beside.replace(self.path)

    def _learn(self, terms: Terms) -> dict[str, float]:
        rate = self.plan.rate * schedule(self.step, self.plan.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        found = terms(self.step)
        self.optimiser.zero_grad()
        torch.stack(list(found.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        return {name: value.item() for name, value in found.items()}

    def _log(self, means: dict[str, float]) -> None:
        rounded = {name: round(value, 4) for name, value in means.items()}
        line = json.dumps({"step": self.step, "seconds": round(self.seconds), **rounded})
        print(self.plan.name, line, flush=True)
        with (self.plan.folder / f"{self.plan.name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def schedule(step: int, steps: int) -> float:
    """Share of the rate at a step: rises over WARM_STEPS, then falls along a cosine to LAST_RATE."""
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
    return min(1.0, (step + 1) / WARM_STEPS) * (LAST_RATE + (1 - LAST_RATE) * fall)
