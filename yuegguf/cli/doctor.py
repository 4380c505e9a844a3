"""`doctor`: check this machine and say what will work."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click

from yuegguf.cli._console import Console
from yuegguf.cli._options import models_root, pass_output
from yuegguf.errors import RequestError
from yuegguf.files.reading import is_closed, paths_in
from yuegguf.models import registry
from yuegguf.pipeline.engines import BROKEN_AMX, REBUILD_HINT, may_repack
from yuegguf.planning import hardware
from yuegguf.request.song_request import FORMATS, Format, Output

GIB = 2**30
FAMILY_BYTES = {"Q4_K_M": 0.61, "Q5_K_M": 0.69, "Q6_K": 0.82, "Q8_0": 1.07, "F16": 2.0}
"""Bytes per weight of each quantisation, block scales included (llama.cpp's own figures)."""
PUBLISHED = {"stage 1": (5.8e9, 2 * 32 * 4 * 128, 32), "stage 2": (1.65e9, 2 * 32 * 16 * 128, 16)}
"""Weights with trimmed vocabularies, cache elements per id, heads: from the published configs."""
ONE_MINUTE = 7168
"""Ids of context of a one-minute song."""
GPU_BUILD = "CMAKE_ARGS=-DGGML_{}=on pip install --force-reinstall --no-cache-dir llama-cpp-python"
"""Command that installs a llama.cpp for a GPU."""
BY_NUMPY = "numpy, which is slower; a C compiler and Python's headers were missing when yuegguf was installed"


@click.command(short_help="check this machine and say what will work")
@pass_output
def doctor(output: Console, /) -> None:
    """Show CPU, memory, disk, the llama.cpp and ONNX Runtime builds, audio formats, and what fits.

    \b
    yuegguf doctor
    yuegguf doctor --json
    """
    facts = gather(models_root())
    output.result(facts, report(facts))
    if facts["problems"]:
        click.get_current_context().exit(1)


def gather(root: Path) -> dict[str, Any]:
    """All facts as JSON; `root` is the folder of installed models."""
    from yuegguf.codec.onnx import build_info as ort_info
    from yuegguf.lm.build import build_info as llama_info
    from yuegguf.lm.build import devices
    from yuegguf.stages.step_sampler import compiled

    free = hardware.available_memory()
    facts: dict[str, Any] = {
        "cpu": hardware.cpu_name(),
        "physical_cores": hardware.physical_cores(),
        "cpu_features": hardware.cpu_features(),
        "memory_total": hardware.total_memory(),
        "memory_available": free,
        "disk_free": shutil.disk_usage(Path.cwd()).free,
        "llama_cpp": llama_info(),
        "devices": devices(),
        "graphics": hardware.graphics(),
        "gpu_build": _gpu_build() if llama_info()["gpu"] == "no" else None,
        "onnx_runtime": ort_info(),
        "compiled_sampler": compiled is not None,
        "audio_formats": {name: _is_written(name) for name in FORMATS},
        "models_dir": str(root),
        "models": [path.name for path in paths_in(root, "*.gguf")],
        "codec": str(registry.installed_codec(root) or "bundled nano"),
        "fits": {name: need <= free if free else None for name, need in needs().items()},
    }
    facts["problems"] = _problems(facts)
    return facts


def _gpu_build() -> str:
    return GPU_BUILD.format((hardware.graphics() or "cuda").upper())


def needs() -> dict[str, int]:
    """Memory of a one-minute song with the published 7B stage 1, per quantisation, in bytes.

    One model is loaded at a time, so it is the larger of the stages; stage 2 with one row.
    """
    from yuegguf.lm.header import ModelFacts
    from yuegguf.planning.cost import LoadSpec
    from yuegguf.stages.stage2 import CHUNK_IDS

    found = {}
    for name, size in FAMILY_BYTES.items():
        first, second = (ModelFacts(int(n * size), kv, heads, 0) for n, kv, heads in PUBLISHED.values())
        found[name] = max(LoadSpec(2, ONE_MINUTE).own_bytes(first), LoadSpec(1, CHUNK_IDS).own_bytes(second))
    return found


def report(facts: dict[str, Any]) -> list[str]:
    """The facts as lines for people."""
    missing = [name for name, there in facts["audio_formats"].items() if not there]
    present = [name for name in facts["audio_formats"] if name not in missing]
    llama = facts["llama_cpp"]
    lines = [
        f"CPU          {facts['cpu']}, {facts['physical_cores']} physical cores",
        f"features     {' '.join(facts['cpu_features']) or 'none that matter'}",
        f"memory       {_gib(facts['memory_available'])} free of {_gib(facts['memory_total'])}",
        f"disk         {_gib(facts['disk_free'])} free here",
        f"llama.cpp    llama-cpp-python {llama['llama-cpp-python']}, "
        f"GPU: {llama['gpu']}, RPC: {llama['rpc']}",
        f"             {llama['system']}",
        *_devices(facts),
        f"ONNX Runtime {facts['onnx_runtime']['version']}, {', '.join(facts['onnx_runtime']['providers'])}",
        f"sampler      {'compiled' if facts['compiled_sampler'] else BY_NUMPY}",
        f"audio        {', '.join(present)}{' (without ' + ', '.join(missing) + ')' if missing else ''}",
        f"models       {', '.join(facts['models']) or 'none installed; the bundled nano is used'}",
        f"             in {facts['models_dir']}",
        f"codec        {facts['codec']}",
        "what fits    a one-minute song with YuE 7B on the CPU:",
    ]
    for name, need in needs().items():
        fits = facts["fits"][name]
        word = "unknown" if fits is None else "fits" if fits else "does not fit"
        lines.append(f"             {name:<7} needs {_gib(need)}: {word}")
    return lines + [f"problem      {problem}" for problem in facts["problems"]]


def _devices(facts: dict[str, Any]) -> list[str]:
    """A line per device, and the way to a GPU where there is none."""
    lines = [
        f"{'device':<12} {device['name']}: {device['description']}, "
        f"{_gib(device['memory_free'])} free of {_gib(device['memory_total'])}"
        for device in facts["devices"]
    ]
    if facts["gpu_build"]:
        found = "this machine has one that the installed llama.cpp cannot use; rebuild with:"
        none = "none was found; with an NVIDIA card (others: -DGGML_VULKAN=on, -DGGML_METAL=on):"
        lines += [
            f"for a GPU    {found if facts['graphics'] else none}",
            f"             {facts['gpu_build']}",
        ]
    return lines


def _is_written(name: Format) -> bool:
    """Whether this machine writes an audio format."""
    from yuegguf.pipeline.preflight import check_output

    try:
        check_output(Output((name,)))
    except RequestError:
        return False
    return True


def _problems(facts: dict[str, Any]) -> list[str]:
    problems = []
    if "mp3" in [name for name, there in facts["audio_formats"].items() if not there]:
        problems.append(
            "mp3 cannot be written: the installed libsndfile is older than 1.1; wav and flac work"
        )
    if is_closed(Path(facts["models_dir"])):
        problems.append(f"this user may not read the folder of models; {registry.CLOSED_HINT}")
    if facts["disk_free"] < GIB:
        problems.append("less than 1 GiB of disk is free here")
    if missing := hardware.missing_features(facts["llama_cpp"]["system"]):
        problems.append(
            f"llama.cpp was built for a processor with {', '.join(missing)}, which this one lacks; "
            + REBUILD_HINT
        )
    elif not may_repack():
        problems.append(BROKEN_AMX)
    return problems


def _gib(size: int | None) -> str:
    return "unknown" if size is None else f"{size / GIB:.1f} GiB"
