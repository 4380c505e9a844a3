"""The files of the nodes for ComfyUI: what they import, and what ComfyUI's registry asks of them."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import yuegguf

PACK = Path(__file__).resolve().parents[2] / "integrations/comfyui"
SOURCES = {path.name: path.read_text("utf-8") for path in sorted(PACK.glob("*.py"))}
HOME = {
    "torch": {"audio.py"},
    "numpy": {"audio.py"},
    "av": {"audio.py"},
    "yuegguf": {"local_library.py"},
    "comfy": {"running.py"},
    "comfy_api": {"__init__.py", "node_inputs.py", "other_nodes.py", "song_nodes.py"},
    "folder_paths": {"library_choice.py"},
}
"""Packages of others → the files that may import them; the standard library is free."""
FORBIDDEN = {"subprocess", "ctypes", "pip", "importlib", "pickle"}


def imports(source: str) -> Iterator[str]:
    """Modules of others that a source imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module)


def strangers(name: str, source: str) -> list[str]:
    """Imports that a file of the pack may not have."""
    found = []
    for module in imports(source):
        top = module.partition(".")[0]
        if top in FORBIDDEN or name not in HOME.get(top, {name}) or module.startswith("yuegguf."):
            found.append(module)
    return found


def calls(source: str) -> set[str]:
    """Names of the functions that a source calls."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return {getattr(node.func, "id", getattr(node.func, "attr", "")) for node in nodes}


def project() -> dict[str, Any]:
    return tomllib.loads((PACK / "pyproject.toml").read_text("utf-8"))


@pytest.mark.parametrize("name", SOURCES)
def test_each_file_imports_only_what_is_its_own(name: str) -> None:
    assert strangers(name, SOURCES[name]) == []
    assert not {"eval", "exec", "__import__", "system", "print"} & calls(SOURCES[name])


def test_a_stranger_is_caught() -> None:
    source = "import torch\nfrom yuegguf.song import voices\nimport subprocess\nfrom . import audio"
    assert strangers("nodes.py", source) == ["torch", "yuegguf.song", "subprocess"]


def test_every_name_of_the_program_that_is_used_is_public() -> None:
    used = {
        node.attr
        for node in ast.walk(ast.parse(SOURCES["local_library.py"]))
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "yuegguf"
    }
    assert used
    assert used <= {*yuegguf.__all__}


def test_the_project_is_what_the_registry_asks_for() -> None:
    facts, comfy = project()["project"], project()["tool"]["comfy"]
    assert "comfyui" not in facts["name"].lower()
    assert facts["version"] == yuegguf.__version__
    assert facts["dependencies"] == []
    assert comfy["PublisherId"]
    assert comfy["DisplayName"]
    assert (PACK / facts["readme"]).is_file()
    assert sorted(path.name for path in PACK.iterdir() if path.is_file()) == sorted(
        [*SOURCES, "README.md", "pyproject.toml"]
    )
