"""The layers, the walls around the engines, and file sizes, read from the source text."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"yuegguf": ROOT / "yuegguf", "yuegguf_convert": ROOT / "convert"}
PACKAGES["yuegguf_onnx_codec"] = ROOT / "onnx_codec"

LAYERS = """
__init__ errors progress machine dsp stopping npy reading
ranges typed
early files lyrics sampling vocab codec.__init__ codec.base engine.__init__ engine.log gguf_header
codec.header
stages.__init__ stages.guess stages.guard lora gguf_model registry
fit growing request engine.base engine.ggml tokenlog tokenizer arrays lockfile transport
marks store kit engine.batch
audio recording
stages.prompt stages.render stages.stage2
encoding
stages.draft stages.choir cost dataset given parts voices yueui
stages.stage1 base fitting
plan extend
song_record
song_guard
song
song_lookup material snapshots preview codes models engine.llama codec.ort speed
drafting output engines
song_content
pipeline checks interchange
rendering plot quality
runtime
takes bundle importance
forecast bench
cli._output cli._texts
cli._options cli._early cli._signals
cli._request cli._finish
cli._job cli._queue_file
cli._queue
cli.quality cli._making cli._describe
cli.song cli.codes cli.lyrics cli.convert cli.pull cli.models cli.lora
cli.quantize cli.doctor cli.plot cli.bench cli.voice cli.refine cli.interchange
cli.extend cli.stems cli.takes cli.render
cli.__init__
cli._docs
__main__
"""
"""Every module of the package, lowest row first: one imports from rows above its own, never its own row."""
ROWS = {name: row for row, line in enumerate(LAYERS.strip().splitlines()) for name in line.split()}

LAZY_NAMES = {"early", "errors", "lora", "models", "plan", "progress", "request", "runtime", "sampling"}
"""What `yuegguf.__getattr__` imports when asked; a name in a table, not an import."""
NEVER = {"torch", "transformers", "torchaudio", "scipy"}
WALLS = {
    "llama_cpp": {"yuegguf.engine.llama", "yuegguf_convert.quantize"},
    "onnxruntime": {"yuegguf.codec.ort"},
    "matplotlib": {"yuegguf.plot"},
    "click": {f"yuegguf.{name}" for name in ROWS if name.startswith("cli.")},
    "spox": {"yuegguf_onnx_codec"},
    "onnx": {"yuegguf_onnx_codec"},
    "gguf": {"yuegguf_convert"},
    "sentencepiece": {"yuegguf.tokenizer", "yuegguf_convert.vocab"},
    "soundfile": {"yuegguf.audio", "yuegguf.recording", "yuegguf.cli.doctor"},
    "huggingface_hub": {"yuegguf.transport"},
    "httpx2": {"yuegguf.transport"},
    "psutil": {"yuegguf.machine"},
    "filelock": {"yuegguf.files"},
    "platformdirs": {"yuegguf.registry", "yuegguf.speed"},
    "msgspec": {"yuegguf.typed", "yuegguf.song_record"},
    "yuegguf_convert": {
        "yuegguf_convert",
        *(f"yuegguf.cli.{name}" for name in ("convert", "bench", "lora", "quantize", "_making", "_describe")),
    },
    "yuegguf_onnx_codec": {"yuegguf_onnx_codec", "yuegguf.cli.convert", "yuegguf.cli._making"},
}
"""Who may import what; a package's name stands for all its modules."""
BASE = {"errors", "progress", "files", "codec.base", "lora", "vocab"}
BASE |= {"reading", "gguf_header", "gguf_model", "engine.ggml", "engine.log"}
"""All of the package that the two converters may import."""


def modules() -> dict[str, str]:
    """Dotted name → source of every module that is shipped; packages end in `.__init__`."""
    return {
        ".".join((package, *path.relative_to(folder).with_suffix("").parts)): path.read_text("utf-8")
        for package, folder in PACKAGES.items()
        for path in sorted(folder.rglob("*.py"))
    }


SOURCES = modules()


def imports(name: str, source: str) -> Iterator[str]:
    """Every module that a source imports, anywhere in it, importlib's strings included."""
    for node in ast.walk(ast.parse(source)):
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
        if top(module) in NEVER or (allowed is not None and not {name, top(name)} & allowed):
            found.append(module)
    return found


def upward(name: str, source: str) -> list[str]:
    """Imports of a module of `yuegguf` from its own row or a later one."""
    own = ROWS[name.removeprefix("yuegguf.")]
    targets = [m for m in imports(name, source) if top(m) == "yuegguf" and "*" not in m]
    return [m for m in targets if ROWS[_row_name(m)] >= own]


def _row_name(module: str) -> str:
    short = module.partition(".")[2]
    return short if short in ROWS else f"{short}.__init__".lstrip(".")


def test_every_module_is_in_the_table_once() -> None:
    listed = LAYERS.split()
    assert len(listed) == len(set(listed))
    assert {f"yuegguf.{name}" for name in listed} == {n for n in SOURCES if top(n) == "yuegguf"}


@pytest.mark.parametrize("name", [n for n in SOURCES if top(n) == "yuegguf" and n != "yuegguf.__init__"])
def test_imports_go_up_the_table_only(name: str) -> None:
    assert upward(name, SOURCES[name]) == []


@pytest.mark.parametrize("name", SOURCES)
def test_each_engine_is_behind_its_wall_and_torch_nowhere(name: str) -> None:
    assert broken_walls(name, SOURCES[name]) == []


@pytest.mark.parametrize("name", [n for n in SOURCES if top(n) != "yuegguf"])
def test_converters_use_the_base_of_the_package_only(name: str) -> None:
    used = {m.partition(".")[2] for m in imports(name, SOURCES[name]) if top(m) == "yuegguf"}
    assert used <= BASE


@pytest.mark.slow
def test_only_pull_knows_the_network() -> None:
    network = {"yuegguf.store", "yuegguf.transport"}
    users = {name for name, source in SOURCES.items() if network & set(imports(name, source))}
    assert users == {"yuegguf.store", "yuegguf.cli.pull", "yuegguf.cli._making"}


def test_the_lazy_names_are_their_homes() -> None:
    from yuegguf import _HOMES

    assert set(_HOMES.values()) == LAZY_NAMES
    asked = set(imports("yuegguf.__init__", SOURCES["yuegguf.__init__"]))
    assert {name for name in asked if "*" not in name} == {
        "__future__", "importlib", *(f"yuegguf.{home}" for home in LAZY_NAMES)
    }  # fmt: skip


def test_stages_do_not_know_each_other_or_files() -> None:
    """But stage 1 has its own parts, and is handed the prompt that it sings."""
    own = {f"yuegguf.stages.{name}" for name in ("prompt", "guess", "draft", "choir")}
    for name in ("prompt", "render", "stage1", "stage2"):
        source = SOURCES[f"yuegguf.stages.{name}"]
        used = set(imports(f"yuegguf.stages.{name}", source))
        others = {m for m in used if m.startswith("yuegguf.stages.")}
        assert others <= (own if name == "stage1" else set())
        assert not {m for m in used if top(m) in ("os", "pathlib", "json", "shutil")}
        assert not {"yuegguf.song", "yuegguf.audio", "yuegguf.files"} & used


def test_no_file_is_longer_than_350_lines() -> None:
    sources = [path for part in (*PACKAGES.values(), ROOT / "nano") for path in part.rglob("*.py")]
    assert len(sources) > 40
    assert {p.name: n for p in sources if (n := len(p.read_text("utf-8").splitlines())) > 350} == {}


def prints(source: str) -> list[int]:
    """Lines that call print or write to a standard stream."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
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
    assert broken_walls("yuegguf.song", source) == [culprit]
    assert prints(source) == []


@pytest.mark.parametrize(
    ("source", "culprit"),
    [
        ("from yuegguf import pipeline", "yuegguf.pipeline"),
        ("from yuegguf import snapshots", "yuegguf.snapshots"),
        ("from .. import runtime", "yuegguf.runtime"),
        ("def f():\n    import yuegguf.cli", "yuegguf.cli"),
        ("if TYPE_CHECKING:\n    from .stage1 import Mark", "yuegguf.stages.stage1"),
    ],
)
def test_an_import_down_the_table_is_caught(source: str, culprit: str) -> None:
    assert upward("yuegguf.stages.stage2", source) == [culprit]


def test_a_print_is_caught() -> None:
    assert prints("def f():\n    print(1)\n    sys.stdout.write('x')\n    text = 'print(1)'") == [2, 3]


LIGHT = [
    name.removesuffix(".__init__")
    for name in SOURCES
    if top(name) == "yuegguf"
    and name not in ("yuegguf.engine.llama", "yuegguf.codec.ort", "yuegguf.__main__")
]


def loaded_after(code: str) -> list[str]:
    """The heavy packages that a fresh process holds after some code."""
    watch = ("llama_cpp", "onnxruntime", "torch", "transformers", "gguf", "onnx", "spox", "scipy")
    watch += ("huggingface_hub", "httpx2", "requests")
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
