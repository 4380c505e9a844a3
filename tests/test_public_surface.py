"""The names of `yuegguf`, typed, and what its packages let others use; tests/test_docs.py documents them."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any, get_args, get_type_hints

import pytest

import yuegguf

ROOT = Path(__file__).resolve().parents[1]
NAMES = [name for name in yuegguf.__all__ if name != "__version__"]
FUNCTIONS = [name for name in NAMES if isinstance(getattr(yuegguf, name), FunctionType)]
CLASSES = [name for name in NAMES if isinstance(getattr(yuegguf, name), type)]


def functions(name: str) -> Iterator[Callable[..., object]]:
    """The function of a public name, or the public methods and properties of its class."""
    value = getattr(yuegguf, name)
    if not isinstance(value, type):
        yield value
        return
    for each, member in vars(value).items():
        function = getattr(member, "__func__", getattr(member, "fget", member))
        if isinstance(function, FunctionType) and (not each.startswith("_") or each == "__init__"):
            yield function


def hints(name: str) -> Iterator[tuple[str, object]]:
    """What a caller of a public name sees → its type; a missing one is Any."""
    value = getattr(yuegguf, name)
    if dataclasses.is_dataclass(value):
        yield from get_type_hints(value).items()
    for function in functions(name):
        if dataclasses.is_dataclass(value) and function.__name__ == "__init__":
            continue
        known = get_type_hints(function)
        for parameter in inspect.signature(function).parameters:
            if parameter not in ("self", "cls"):
                yield f"{function.__name__}.{parameter}", known.get(parameter, Any)
        yield f"{function.__name__}.return", known.get("return", Any)


def parts(kind: object) -> Iterator[object]:
    """A type and all that it is made of."""
    yield kind
    for part in get_args(kind):
        yield from (each for one in part for each in parts(one)) if isinstance(part, list) else parts(part)


def test_every_name_is_a_function_or_a_class() -> None:
    assert sorted(FUNCTIONS + CLASSES) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_typed(name: str) -> None:
    assert [where for where, kind in hints(name) if Any in parts(kind)] == []


def test_a_missing_type_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(first, *, second: list[dict[str, Any]]) -> None:  # type: ignore[no-untyped-def]
        """Take a parameter without a type, and one that says nothing."""

    monkeypatch.setattr(yuegguf, "generate", broken)
    wrong = [where for where, kind in hints("generate") if Any in parts(kind)]
    assert wrong == ["broken.first", "broken.second"]


@pytest.mark.parametrize("name", NAMES)
def test_the_types_of_a_public_name_are_public(name: str) -> None:
    ours = [
        part
        for _, kind in hints(name)
        for part in parts(kind)
        if isinstance(part, type) and part.__module__.startswith("yuegguf")
    ]
    assert {part.__name__ for part in ours} <= set(CLASSES)
    assert all(getattr(yuegguf, part.__name__) is part for part in ours)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_take_at_most_five_values_by_their_place(name: str) -> None:
    parameters = inspect.signature(getattr(yuegguf, name)).parameters.values()
    assert sum(each.kind is not each.KEYWORD_ONLY for each in parameters) <= 5


@pytest.mark.parametrize("name", CLASSES)
def test_values_cannot_be_changed(name: str) -> None:
    kind = getattr(yuegguf, name)
    assert issubclass(kind, Exception) or kind.__dataclass_params__.frozen


def test_type_checkers_are_told_of_the_same_names_and_homes() -> None:
    tree = ast.parse((ROOT / "yuegguf/__init__.py").read_text("utf-8"))
    told = {
        alias.asname: str(node.module).removeprefix("yuegguf.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("yuegguf.")
        for alias in node.names
    }
    assert told == yuegguf._HOMES
    assert sorted(yuegguf._HOMES) == sorted(NAMES)


def fresh(code: str) -> list[str]:
    """What a new Python process prints, as words."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()


def test_nothing_else_is_public() -> None:
    assert fresh("import yuegguf; print(*(n for n in vars(yuegguf) if n[0] != '_'))") == ["TYPE_CHECKING"]
    assert dir(yuegguf) == sorted(yuegguf.__all__)
    assert not hasattr(yuegguf, "SongFolder")


def test_import_yuegguf_imports_no_other_module_of_it() -> None:
    code = "import sys, yuegguf; print(*(n for n in sys.modules if n.startswith('yuegguf')))"
    assert fresh(code) == ["yuegguf"]


SOURCES = sorted((ROOT / "yuegguf").rglob("*.py"))
PROGRAM = ROOT / "yuegguf/cli/__init__.py"


def private_imports(file: Path, source: str) -> list[str]:
    """Imports of a module or a name with an underscore from another package."""
    package = file.relative_to(ROOT).parent.parts
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("yuegguf"):
            path = (*str(node.module).split("."), *(alias.name for alias in node.names))
            if path[: len(package)] != package or len(package) == 1:
                found += [part for part in path if part.startswith("_") and part != "__version__"]
    return found


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_private_names_stay_in_their_package(file: Path) -> None:
    assert private_imports(file, file.read_text("utf-8")) == []


def test_a_private_name_of_another_package_is_caught() -> None:
    file = ROOT / "yuegguf/api/songs.py"
    assert private_imports(file, "from yuegguf.models.pull import _Puller, pull_models") == ["_Puller"]
    assert private_imports(file, "from yuegguf.cli._console import Console") == ["_console"]
    assert private_imports(file, "from yuegguf.api._shared import _job") == []


@pytest.mark.parametrize(
    "file", [f for f in SOURCES if f.name == "__init__.py" and f.parent.name != "yuegguf"]
)
def test_a_package_says_what_it_is_for_and_imports_nothing_of_ours(file: Path) -> None:
    tree = ast.parse(file.read_text("utf-8"))
    assert (ast.get_docstring(tree) or "").endswith(".")
    if file != PROGRAM:
        imported = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        assert [n.module for n in imported if (n.module or "").startswith("yuegguf")] == []
        assert not [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
