"""Errors on their way to another process."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from yuegguf.cli import UsageProblem
from yuegguf.errors import NotInstalled, YueError
from yuegguf.server.problems import HttpProblem

OWN: dict[type[YueError], tuple[YueError, dict[str, object]]] = {
    NotInstalled: (NotInstalled("no model", "pull it", "en-cot:Q4_K_M"), {"name": "en-cot:Q4_K_M"}),
    HttpProblem: (
        HttpProblem(429, "busy", "no model", "pull it", {"Retry-After": "7"}),
        {"status": 429, "code": "busy", "headers": {"Retry-After": "7"}},
    ),
    UsageProblem: (UsageProblem("no model", "pull it"), {}),
}
"""Kind of error with attributes of its own → one of them, and these attributes."""
LINES = {UsageProblem: "no model (pull it)"}
"""Kind of error with a line of its own → this line."""


def kinds(kind: type[YueError]) -> Iterator[type[YueError]]:
    """A kind of error and all that are derived from it in the package."""
    yield kind
    for derived in kind.__subclasses__():
        if derived.__module__.startswith("yuegguf."):
            yield from kinds(derived)


KINDS = list(dict.fromkeys(kinds(YueError)))


def test_the_whole_tree_is_tested() -> None:
    assert {kind.__name__ for kind in KINDS} >= {"YueError", "NotInstalled", "HttpProblem", "FolderBusy"}
    own_arguments = {kind for kind in KINDS if "__init__" in vars(kind)}
    assert own_arguments == {YueError, *OWN}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_is_the_same_in_another_process(kind: type[YueError], protocol: int) -> None:
    error, facts = OWN[kind] if kind in OWN else (kind("no model", "pull it"), {})
    error = copy.copy(error)
    error.folder = Path("songs/mine")
    error.__cause__ = ValueError("which is left behind")
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is kind
    assert (again.message, again.hint, again.folder) == ("no model", "pull it", Path("songs/mine"))
    assert (again.args, again.exit_code) == (("no model",), kind.exit_code)
    assert str(again) == str(error) == LINES.get(kind, "no model; pull it")
    assert {name: getattr(again, name) for name in facts} == facts
    assert vars(again) == vars(error)
