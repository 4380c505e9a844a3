"""Numbers on the command line."""

from __future__ import annotations

import math
from typing import Any

import click


class Number(click.FloatRange):
    """A real number within a range; click's own takes NaN into every range."""

    def __init__(self, low: float, high: float | None = None, *, infinite: bool = False) -> None:
        """`infinite` takes infinity too, as a place past every end."""
        super().__init__(low, high)
        self._infinite = infinite

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number of a text. Raises BadParameter."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number) or (math.isinf(number) and not self._infinite):
            self.fail(f"{number} is not a finite number.", param, ctx)
        return number
