"""Option groups: several options that a command receives as one value."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Group(Generic[T]):
    """A decorator that adds options to a command, which receives what `build` makes of them as `name`.

    `build` takes the options' values by their names. A part may be a group too: `build` then takes its value.
    """

    def __init__(self, name: str, build: Callable[..., T], *parts: Decorator | Group[Any]) -> None:
        self.name, self._build, self._parts = name, build, parts
        self._inputs = tuple(inspect.signature(build).parameters)

    def __call__(self, command: Callable[..., R]) -> Callable[..., R]:
        """Add the options to a command's function."""

        @functools.wraps(command)
        def grouped(*arguments: Any, **values: Any) -> R:
            value = self.take(values)
            return command(*arguments, **{self.name: value}, **values)

        for option in reversed(tuple(self._options())):
            option(grouped)
        return grouped

    def take(self, values: dict[str, Any]) -> T:
        """Take the options out of a command's values. Raises what `build` raises."""
        for part in self._parts:
            if isinstance(part, Group):
                values[part.name] = part.take(values)
        return self._build(**{name: values.pop(name) for name in self._inputs})

    def _options(self) -> Iterator[Decorator]:
        for part in self._parts:
            if isinstance(part, Group):
                yield from part._options()
            else:
                yield part
