"""The layers, the walls around the engines, and file sizes, read from the source text."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import structure

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"yuegguf": ROOT / "yuegguf", "yuegguf_convert": ROOT / "convert"}
PACKAGES["yuegguf_onnx_codec"] = ROOT / "onnx_codec"

ROWS = """
errors progress stopping
files
codec
lm
request
audio
models
stages
planning
song
pipeline
exchange
api
measure
server
cluster
cli
__main__
"""
"""Every package and module below `yuegguf`: one imports from the rows above its own, never from its own."""
ROW = {name: row for row, line in enumerate(ROWS.split("\n")) for name in line.split()}
NEVER = {"torch", "transformers", "torchaudio", "scipy"}
WALLS = {
    "llama_cpp": {"yuegguf.lm.build", "yuegguf.lm.llama", "yuegguf.lm.loading", "yuegguf_convert.quantize"},
    "onnxruntime": {"yuegguf.codec.onnx"},
    "matplotlib": {"yuegguf.exchange.plot"},
    "click": {"yuegguf.cli"},
    "spox": {"yuegguf_onnx_codec"},
    "onnx": {"yuegguf_onnx_codec"},
    "gguf": {"yuegguf_convert"},
    "sentencepiece": {"yuegguf.lm.tokenizer", "yuegguf_convert.tokenizer_pieces"},
    "soundfile": {"yuegguf.audio.files", "yuegguf.audio.recording"},
    "mido": {"yuegguf.exchange.tempo_map"},
    "mutagen": {"yuegguf.audio.tags"},
    "huggingface_hub": {"yuegguf.models.transport"},
    "httpx2": {"yuegguf.models.transport"},
    "psutil": {"yuegguf.planning.hardware"},
    "filelock": {"yuegguf.files.atomic"},
    "platformdirs": {"yuegguf.models.registry", "yuegguf.planning.timing"},
    "charset_normalizer": {"yuegguf.request.text_decoding"},
    "msgspec": {"yuegguf.files.typed_json", "yuegguf.song.record", "yuegguf.server"},
    "fastapi": {"yuegguf.server"},
    "starlette": {"yuegguf.server"},
    "uvicorn": {"yuegguf.server"},
    "sqlite3": {"yuegguf.server"},
    "ray": {"yuegguf.cluster.ray_backend"},
    "yuegguf_convert": {"yuegguf_convert", "yuegguf.models.install", "yuegguf.cli"},
    "yuegguf_onnx_codec": {"yuegguf_onnx_codec", "yuegguf.models.install", "yuegguf.cli"},
}
"""Who may import what; a package's name stands for all its modules."""
BASE = {"errors", "progress", "files", "codec", "lm"}
"""The rows of the package that the two converters may import."""


def modules() -> dict[str, str]:
    """Dotted name → source of every module that is shipped; packages end in `.__init__`."""
    return {
        ".".join((package, *path.relative_to(folder).with_suffix("").parts)): path.read_text("utf-8")
        for package, folder in PACKAGES.items()
        for path in sorted(folder.rglob("*.py"))
    }


SOURCES = modules()


@cache
def nodes(source: str) -> tuple[ast.AST, ...]:
    """Every node of a source's syntax tree."""
    return tuple(ast.walk(ast.parse(source)))


@cache
def imports(name: str, source: str) -> tuple[str, ...]:
    """Every module that a source imports, anywhere in it, importlib's strings included."""
    return tuple(_imports(name, source))


def _imports(name: str, source: str) -> Iterator[str]:
    for node in nodes(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".")[: -node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            yield from (_longest(base, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__") and node.args:
            target = node.args[0]
            if isinstance(target, ast.Constant):
                yield str(target.value)
            elif isinstance(target, ast.JoinedStr):  # f"yuegguf.{…}": the fixed part is what counts
                yield "".join(v.value if isinstance(v, ast.Constant) else "*" for v in target.values)


def _longest(base: str, name: str) -> str:
    """`from a import b` names the module a.b where there is one, else a."""
    longer = f"{base}.{name}"
    return longer if {longer, f"{longer}.__init__"} & SOURCES.keys() else base


def _called(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def top(module: str) -> str:
    return module.partition(".")[0]


def broken_walls(name: str, source: str) -> list[str]:
    """Imports that a module may not have."""
    found = []
    for module in imports(name, source):
        allowed = WALLS.get(top(module))
        own = {name, top(name), ".".join(name.split(".")[:2])}
        if top(module) in NEVER or (allowed is not None and not own & allowed):
            found.append(module)
    return found


def room(module: str) -> str:
    """The package or module directly below `yuegguf` that a module belongs to."""
    return module.split(".")[1]


def upward(name: str, source: str) -> list[str]:
    """Imports of a module of `yuegguf` from a row that is not above its own."""
    own = room(name)
    targets = [m for m in imports(name, source) if m.startswith("yuegguf.") and "*" not in m]
    return [m for m in targets if room(m) not in (own, "__init__") and ROW[room(m)] >= ROW[own]]


def circle(below: dict[str, set[str]]) -> list[str]:
    """Modules that import each other, in a circle; empty if none do."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        found = next((c for n in sorted(below.get(name, ())) if (c := visit(n, [*path, name]))), [])
        done.add(name)
        return found

    return next((c for name in sorted(below) if (c := visit(name, []))), [])


INSIDE = [n for n in SOURCES if top(n) == "yuegguf" and n != "yuegguf.__init__"]


def test_every_package_has_its_row() -> None:
    assert {room(name) for name in INSIDE} == set(ROW)


@pytest.mark.parametrize("name", INSIDE)
def test_imports_go_up_the_table_only(name: str) -> None:
    assert upward(name, SOURCES[name]) == []


@pytest.mark.parametrize("own", sorted(ROW))
def test_no_modules_of_a_package_import_each_other(own: str) -> None:
    members = [name for name in INSIDE if room(name) == own]
    below = {name: {m for m in imports(name, SOURCES[name]) if m in members} for name in members}
    assert circle(below) == []


def test_the_package_is_small_enough_to_be_drawn() -> None:
    pairs = structure.arrows()
    assert len(ROW) <= 20  # 18, and `server` and `cluster`, which stand side by side on all but `cli`
    assert len(pairs) <= 127  # 100, and those of `server` and `cluster`: a dozen each
    assert structure.levels(pairs) <= len(ROW)


def test_a_circle_is_caught() -> None:
    assert circle({"a": {"b", "c"}, "b": set(), "c": {"d"}, "d": {"c"}}) == ["c", "d"]


@pytest.mark.parametrize("name", SOURCES)
def test_each_engine_is_behind_its_wall_and_torch_nowhere(name: str) -> None:
    assert broken_walls(name, SOURCES[name]) == []


@pytest.mark.parametrize("name", [n for n in SOURCES if top(n) != "yuegguf"])
def test_converters_use_the_base_of_the_package_only(name: str) -> None:
    used = {room(m) for m in imports(name, SOURCES[name]) if top(m) == "yuegguf"}
    assert used <= BASE


@pytest.mark.slow
def test_only_pull_uses_the_network() -> None:
    network = {"yuegguf.models.hub_client", "yuegguf.models.transport"}
    users = {name for name, source in SOURCES.items() if network & set(imports(name, source))}
    assert users == {
        "yuegguf.models.hub_client",
        "yuegguf.models.pull",
        "yuegguf.models.install",
        "yuegguf.cli.pull",
    }


def test_stages_do_not_know_each_other_or_files() -> None:
    """But stage 1 has its own parts, and is handed the prompt that it sings."""
    own = {
        f"yuegguf.stages.{name}"
        for name in ("prompt", "sampler", "next_code", "stage1_task", "batching", "lookahead")
    }
    for name in ("prompt", "render", "stage1", "stage2"):
        source = SOURCES[f"yuegguf.stages.{name}"]
        used = set(imports(f"yuegguf.stages.{name}", source))
        others = {m for m in used if m.startswith("yuegguf.stages.")}
        assert others <= (own if name == "stage1" else set())
        assert not {m for m in used if top(m) in ("os", "pathlib", "json", "shutil")}
        assert not {"yuegguf.song.folder", "yuegguf.audio.files", "yuegguf.files.atomic"} & used


def test_no_test_imports_a_conftest_since_several_have_that_name() -> None:
    sources = {path: path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py")}
    taking = re.compile(r"^(?:from|import) conftest\b", re.MULTILINE)
    assert [path.name for path, source in sources.items() if taking.search(source)] == []


def test_no_two_test_files_share_a_name() -> None:
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_no_file_is_longer_than_350_lines() -> None:
    parts = (*PACKAGES.values(), *(ROOT / name for name in ("nano", "benchmarks", "tests", "integrations")))
    sources = [path for part in parts for path in part.rglob("*.py")]
    assert len(sources) > 300
    assert {p.name: n for p in sources if (n := len(p.read_text("utf-8").splitlines())) > 350} == {}


def prints(source: str) -> list[int]:
    """Lines that call print or write to a standard stream."""
    calls = [node for node in nodes(source) if isinstance(node, ast.Call)]
    return [c.lineno for c in calls if _called(c) == "print" or _stream(c.func)]


def _stream(function: ast.expr) -> bool:
    text = ast.unparse(function)
    return text in ("sys.stdout.write", "sys.stderr.write")


@pytest.mark.parametrize("name", SOURCES)
def test_libraries_never_print(name: str) -> None:
    assert prints(SOURCES[name]) == []


@pytest.mark.parametrize(
    ("source", "culprit"),
    [
        ("import torch", "torch"),
        ("def f():\n    from torch.nn import functional", "torch.nn"),
        ("import importlib\nimportlib.import_module('transformers.models')", "transformers.models"),
        ("__import__('scipy')", "scipy"),
        ("if TYPE_CHECKING:\n    import llama_cpp", "llama_cpp"),
        ("try:\n    import onnxruntime as ort\nexcept ImportError:\n    pass", "onnxruntime"),
        ("from yuegguf_convert import lm", "yuegguf_convert.lm"),
    ],
)
def test_a_breach_is_caught(source: str, culprit: str) -> None:
    assert broken_walls("yuegguf.song.folder", source) == [culprit]
    assert prints(source) == []


@pytest.mark.parametrize(
    ("source", "culprit"),
    [
        ("from yuegguf.pipeline import phases", "yuegguf.pipeline.phases"),
        ("from yuegguf.song import cache_snapshots", "yuegguf.song.cache_snapshots"),
        ("from ..pipeline import create", "yuegguf.pipeline.create"),
        ("def f():\n    import yuegguf.cli", "yuegguf.cli"),
        ("if TYPE_CHECKING:\n    from ..song.folder import SongFolder", "yuegguf.song.folder"),
    ],
)
def test_an_import_down_the_table_is_caught(source: str, culprit: str) -> None:
    assert upward("yuegguf.stages.stage2", source) == [culprit]


def test_a_print_is_caught() -> None:
    assert prints("def f():\n    print(1)\n    sys.stdout.write('x')\n    text = 'print(1)'") == [2, 3]


ENTRIES = {
    "yuegguf.lm.build",
    "yuegguf.lm.llama",
    "yuegguf.lm.loading",
    "yuegguf.codec.onnx",
    "yuegguf.__main__",
}
"""Modules that open the engines, and the program itself."""
LIGHT = [name.removesuffix(".__init__") for name in SOURCES if top(name) == "yuegguf" and name not in ENTRIES]


def loaded_after(code: str) -> list[str]:
    """The heavy packages that a fresh process holds after some code."""
    watch = ("llama_cpp", "onnxruntime", "torch", "transformers", "gguf", "onnx", "spox", "scipy")
    watch += ("huggingface_hub", "httpx2", "ray", "requests")
    report = f"\nimport sys\nprint(*[name for name in {watch} if name in sys.modules])"
    command = [sys.executable, "-c", code + report]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.slow
def test_importing_all_but_the_two_engines_loads_no_engine() -> None:
    assert loaded_after("\n".join(f"import {name}" for name in LIGHT)) == []
    assert loaded_after("import llama_cpp") == ["llama_cpp"]


def test_import_yuegguf_alone_loads_not_even_numpy() -> None:
    code = "import sys, yuegguf\nassert 'numpy' not in sys.modules\nassert 'click' not in sys.modules"
    assert loaded_after(code) == []
