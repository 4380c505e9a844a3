"""Types of the fields of requests and options, which Python code and notebooks fill in."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields
from functools import cache
from numbers import Integral, Real
from pathlib import Path, PurePath
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from yuegguf.errors import RequestError


def take_types(request: Any, *paths: str) -> None:
    """Give the fields of a frozen dataclass their own types: NumPy's values become Python's, lists tuples.

    Texts of the names `paths` may be given as a Path; an empty text is no path. Raises RequestError for a
    value of another type.
    """
    kind: Any = type(request)
    for name, kinds in _field_kinds(kind).items():
        value = getattr(request, name)
        if type(value) not in kinds:
            object.__setattr__(request, name, _converted(name, value, kinds, name in paths))


def whole_number(name: str, value: object) -> int:
    """An integer of Python or of NumPy as Python's. Raises RequestError for another value."""
    return int(_converted(name, value, frozenset({int}), False))


@cache
def _field_kinds(kind: type) -> dict[str, frozenset[type]]:
    hints = _hints(kind)
    return {each.name: frozenset(_kinds(hints[each.name])) for each in fields(kind) if each.name in hints}


def _hints(kind: type) -> dict[str, Any]:
    """Type hints of a class, or of its nearest base class whose names are all known at run time."""
    for base in kind.__mro__:
        with suppress(NameError):
            return get_type_hints(base)
    return {}


def _kinds(hint: Any) -> set[type]:
    """Classes of the values that a type hint allows; an int is a float too."""
    origin = get_origin(hint)
    if origin is Literal:
        return {type(each) for each in get_args(hint)}
    if origin in (Union, UnionType):
        return set().union(*map(_kinds, get_args(hint)))
    return {float, int} if hint is float else {origin or hint}


def _converted(name: str, value: object, kinds: frozenset[type], is_path: bool) -> Any:
    truth = isinstance(value, bool)
    if int in kinds and isinstance(value, Integral) and not truth:
        return int(value)
    if float in kinds and isinstance(value, Real) and not truth:
        return float(value)
    if str in kinds and (isinstance(value, str) or (is_path and isinstance(value, PurePath))):
        return str(value) if is_path else str.__str__(value)
    if Path in kinds and isinstance(value, str | PurePath):
        return None if value == "" and NoneType in kinds else Path(value)
    if bool in kinds and str(getattr(value, "dtype", "")) == "bool" and getattr(value, "ndim", 1) == 0:
        return bool(value)
    if tuple in kinds and isinstance(value, list | set | frozenset):
        return tuple(value) if isinstance(value, list) else tuple(sorted(value))
    if isinstance(value, tuple(kinds)) and not truth:
        return value
    wanted = {"None" if kind is NoneType else kind.__name__ for kind in kinds}
    wanted -= {"int"} if "float" in wanted else set()
    needed = " or ".join(sorted(wanted, key=lambda word: (word == "None", word)))
    raise RequestError(f"{name} is of type {type(value).__name__}", f"pass {needed}")
