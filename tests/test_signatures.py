"""Functions take at most five arguments by position, so that no call is a row of values without names."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("yuegguf", "convert", "onnx_codec", "integrations", "benchmarks", "nano")
MOST = 5
CALLED_BY_OTHERS = {"redirect_request"}
"""Methods whose signature is a base class's of another library."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def too_many(source: str) -> list[str]:
    """Names of functions with more arguments by position; decorated ones get theirs by name."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, Function) or node.decorator_list or node.name in CALLED_BY_OTHERS:
            continue
        arguments = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args)]
        if len(arguments) - (arguments[:1] in (["self"], ["cls"])) > MOST:
            found.append(node.name)
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_function_takes_more_than_five_arguments_by_position(folder: str) -> None:
    found = {str(path): too_many(path.read_text("utf-8")) for path in sorted((ROOT / folder).rglob("*.py"))}
    assert {path: names for path, names in found.items() if names} == {}


def test_the_count_leaves_out_self_and_keywords() -> None:
    within = "def f(a, b, c, d, e, *, g): ...\nclass C:\n def m(self, a, b, c, d, e): ...\n"
    assert too_many(within + "@command\ndef k(a, b, c, d, e, f): ...\n") == []
    assert too_many("def f(a, b, c, d, /, e, g=1): ...\nasync def h(self, a, b, c, d, e, f): ...") == [
        "f",
        "h",
    ]
