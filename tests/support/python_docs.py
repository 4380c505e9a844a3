"""The second half of docs/python.md: every public name with its signature, fields and docstrings.

PYTHONPATH=tests/support:. python tests/support/python_docs.py docs/python.md
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yuegguf

MARK = "<!-- Below this line: made by tests/support/python_docs.py -->"


def written(document: str) -> str:
    """The document with everything below MARK made anew."""
    return f"{document.partition(MARK)[0]}{MARK}\n\n{reference()}"


def reference() -> str:
    """A section for each name of `yuegguf.__all__`: functions first, then the values they take and return."""
    functions = [name for name in yuegguf.__all__ if inspect.isfunction(getattr(yuegguf, name))]
    types = [name for name in yuegguf.__all__ if inspect.isclass(getattr(yuegguf, name))]
    rest = sorted({*yuegguf.__all__} - {*functions, *types})
    parts = ["## Functions\n", *map(_function, functions), "## Types\n", *map(_type, types)]
    parts += ["## Constants\n", *(_constant(name) for name in rest)]
    return "\n".join(parts)


def _function(name: str) -> str:
    function = getattr(yuegguf, name)
    return f"### {name}\n\n{_signature(name, function)}\n\n{_prose(inspect.getdoc(function))}\n"


def _constant(name: str) -> str:
    value = getattr(yuegguf, name)
    kind = f"A `{type(value).__name__}`." if isinstance(value, str) else f"`{value!r}`"
    return f"### {name}\n\n{kind}\n"


def _type(name: str) -> str:
    kind = getattr(yuegguf, name)
    lines = [f"### {name}\n", f"{_prose(inspect.getdoc(kind))}\n"]
    if dataclasses.is_dataclass(kind):
        texts, names = _texts(kind), vars(sys.modules[kind.__module__])
        lines += ["| field | type | default | meaning |", "|---|---|---|---|"]
        for field in dataclasses.fields(kind):
            kind_of = _cell(_expanded(field.type, names))
            cells = (f"`{field.name}`", f"`{kind_of}`", _default(field), texts.get(field.name, ""))
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    elif "__init__" in vars(kind):
        lines += [_signature(name, kind.__init__), ""]
        lines += [f"- `{field}`: {text}" for field, text in _texts(kind).items()] + [""]
    return "\n".join([*lines, *_members(kind)])


def _members(kind: type) -> Iterator[str]:
    """Public methods and properties, each a line."""
    found = []
    for name, member in vars(kind).items():
        function = getattr(member, "__func__", getattr(member, "fget", member))
        if not name.startswith("_") and inspect.isfunction(function):
            called = name if isinstance(member, property) else f"{name}{_arguments(function)}"
            first = _prose(inspect.getdoc(function)).split("\n\n")[0]
            found.append(f"- `{called}`: {first}")
    if found:
        yield "\n".join(found) + "\n"


def _signature(name: str, function: Any) -> str:
    """Its parameters, each on a line where they are many."""
    parts, result = _parameters(function)
    line = f"{name}({', '.join(parts)}){result}"
    if len(line) > 100:
        line = "".join([f"{name}(\n", *(f"    {part},\n" for part in parts), f"){result}"])
    return f"```python\n{line}\n```"


def _arguments(function: Any) -> str:
    parts, result = _parameters(function)
    return f"({', '.join(parts)}){result}"


def _parameters(function: Any) -> tuple[list[str], str]:
    """Each parameter as written, with the star before those by name alone; the result."""
    signature, names = inspect.signature(function), function.__globals__
    parts: list[str] = []
    for each in signature.parameters.values():
        if each.name in ("self", "cls"):
            continue
        if each.kind is each.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        default = each.default
        shown = getattr(default, "__name__", repr(default)) if default is not each.empty else None
        text = f"{each.name}: {_expanded(each.annotation, names)}"
        parts.append(text if shown is None else f"{text} = {shown}")
    result = signature.return_annotation
    return parts, "" if result in ("None", signature.empty) else f" -> {_expanded(result, names)}"


def _expanded(annotation: Any, names: Mapping[str, Any]) -> str:
    """An annotation with its aliases for choices and callables written out."""

    def full(word: re.Match[str]) -> str:
        known = names.get(word[0])
        if get_origin(known) is Literal:
            return f"Literal[{', '.join(map(repr, get_args(known)))}]"
        return "Callable[[Event], None]" if word[0] == "Progress" else word[0]

    return re.sub(r"\b[A-Z]\w+\b", full, str(annotation))


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{field.default!r}`"
    factory = field.default_factory
    return "" if factory is dataclasses.MISSING else f"`{getattr(factory, '__name__', '…')}()`"


def _texts(kind: type) -> dict[str, str]:
    """Field or attribute → the string under it in the source."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for first, second in pairwise(body) if isinstance(body, list) else ():
            text = second.value if isinstance(second, ast.Expr) else None
            if isinstance(first, ast.AnnAssign | ast.Assign) and isinstance(text, ast.Constant):
                target = first.target if isinstance(first, ast.AnnAssign) else first.targets[0]
                name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
                found[name] = _cell(" ".join(str(text.value).split()))
    return found


def _prose(text: str | None) -> str:
    return (text or "").replace(":class:`~yuegguf.errors.Interrupted`", "`Interrupted`")


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|")


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(written(file.read_text("utf-8")), encoding="utf-8")
