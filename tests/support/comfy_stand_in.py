"""A small stand-in of the parts of ComfyUI that our nodes use, and the nodes loaded on it.

It has the names and keywords of `comfy_api.v0_0_2`, and refuses others.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import soundfile

PACK = Path(__file__).resolve().parents[2] / "integrations/comfyui"
BASIC = {"display_name", "optional", "tooltip", "lazy"}
WIDGET = {*BASIC, "default", "socketless", "force_input"}
NUMBER = {*WIDGET, "min", "max", "step", "display_mode"}
KEYWORDS = {
    "STRING": {*WIDGET, "multiline", "placeholder", "dynamic_prompts"},
    "INT": {*NUMBER, "control_after_generate"},
    "FLOAT": {*NUMBER, "round"},
    "BOOLEAN": {*WIDGET, "label_on", "label_off"},
    "COMBO": {*WIDGET, "options", "control_after_generate"},
}
"""Type of an input → the keywords that it takes; other types take BASIC."""


class InterruptProcessingException(Exception):
    """Raised in a node when the user cancels."""


class Port:
    """An input or an output of a node."""

    def __init__(self, io_type: str, name: str, **facts: Any) -> None:
        self.io_type, self.id, self.facts = io_type, name, facts


def kind(io_type: str) -> type:
    """The class of a type's inputs and outputs."""

    def given(name: str, **facts: Any) -> Port:
        assert facts.keys() <= KEYWORDS.get(io_type, BASIC), facts
        return Port(io_type, name, **facts)

    def made(name: str, *, display_name: str = "", tooltip: str = "") -> Port:
        return Port(io_type, name, display_name=display_name, tooltip=tooltip)

    return type(io_type, (), {"Input": staticmethod(given), "Output": staticmethod(made)})


@dataclass
class Schema:
    """Definition of a node."""

    node_id: str
    display_name: str = ""
    category: str = "sd"
    description: str = ""
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    is_output_node: bool = False

    def __post_init__(self) -> None:
        names = [port.id for port in (*self.inputs, *self.outputs)]
        assert len(set(names)) == len(names)

    def info(self) -> dict[str, Any]:
        """The node in an answer of /object_info."""
        parts: dict[str, dict[str, Any]] = {"required": {}, "optional": {}}
        for port in self.inputs:
            part = parts["optional" if port.facts.get("optional") else "required"]
            part[port.id] = (
                port.io_type,
                {**port.facts, "forceInput": port.facts.get("force_input", False)},
            )
        order = {name: list(part) for name, part in parts.items()}
        return {"input": parts, "input_order": order, "output": [port.io_type for port in self.outputs]}


class NodeOutput:
    """Outputs of a node."""

    def __init__(self, *args: Any, ui: dict[str, Any] | None = None) -> None:
        self.args, self.ui = args, ui


class Comfy:
    """The state of the program around the nodes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.interrupted = folder, False
        self.steps: list[tuple[int, int]] = []
        """Every step of a progress bar."""

    def check(self) -> None:
        """Raise once where the user has cancelled."""
        if self.interrupted:
            self.interrupted = False
            raise InterruptProcessingException


class ProgressBar:
    """The bar of the node that is executed."""

    comfy: Comfy

    def __init__(self, total: int) -> None:
        self.total = total

    def update_absolute(self, value: int, total: int | None = None) -> None:
        self.comfy.check()
        self.comfy.steps.append((value, total or self.total))


class AudioResampler:
    """PyAV's converter of frames, which are in the form that is asked for already."""

    def __init__(self, format: str) -> None:
        assert format == "fltp"

    def resample(self, frame: Any) -> list[Any]:
        return [] if frame is None else [SimpleNamespace(to_ndarray=lambda: frame)]


@contextmanager
def opened(file: io.BytesIO) -> Iterator[Any]:
    """PyAV's open file: its decoded frames are arrays [channels, samples]."""
    samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    streams = SimpleNamespace(audio=[SimpleNamespace(rate=rate)])
    yield SimpleNamespace(streams=streams, decode=lambda audio: [samples[:40].T, samples[40:].T])


def audio(seconds: float, rate: int = 16000, channels: int = 1) -> Any:
    """An AUDIO of two items, of which the second is silence."""
    torch = importlib.import_module("torch")
    wave = 0.2 * np.sin(np.arange(round(seconds * rate)) / 9)
    batch = np.stack([np.stack([wave] * channels), np.zeros((channels, len(wave)))])
    return {"waveform": torch.from_numpy(batch.astype(np.float32)), "sample_rate": rate}


@dataclass
class Pack:
    """The nodes, loaded."""

    module: Any
    comfy: Comfy

    def __getattr__(self, name: str) -> Any:
        """A module of the pack."""
        return sys.modules[f"{self.module.__name__}.{name}"]

    def run(self, node: str, **inputs: Any) -> Any:
        """Outputs of an execution, as ComfyUI would do it."""
        return getattr(self.nodes, node).execute(**inputs).args

    def info(self) -> dict[str, Any]:
        """The answer of /object_info, for our nodes."""
        schemas = [node.define_schema() for node in self.nodes.NODES]
        return {schema.node_id: schema.info() for schema in schemas}


def _modules(comfy: Comfy) -> dict[str, ModuleType]:
    names = ["comfy", "comfy.utils", "comfy.model_management", "folder_paths"]
    names += ["comfy_api", "comfy_api.v0_0_2", "av"]
    modules: dict[str, Any] = {name: ModuleType(name) for name in names}
    modules["comfy"].utils = modules["comfy.utils"]
    modules["comfy"].model_management = modules["comfy.model_management"]
    modules["comfy.utils"].ProgressBar = type("ProgressBar", (ProgressBar,), {"comfy": comfy})
    modules["comfy.model_management"].throw_exception_if_processing_interrupted = comfy.check
    modules["folder_paths"].get_output_directory = lambda: str(comfy.folder / "output")
    av = {"open": opened, "AudioResampler": AudioResampler, "FFmpegError": soundfile.SoundFileError}
    vars(modules["av"]).update(av)
    api, io = modules["comfy_api.v0_0_2"], ModuleType("io")
    api.ComfyExtension = type("ComfyExtension", (), {})
    api.io = io
    for name in ("Audio", "Boolean", "Combo", "Float", "Int", "String"):
        setattr(io, name, kind(name.upper()))
    facts = {
        "Custom": kind,
        "Schema": Schema,
        "NodeOutput": NodeOutput,
        "ComfyNode": type("ComfyNode", (), {}),
    }
    vars(io).update(facts)
    return modules


@contextmanager
def loaded_pack(folder: Path) -> Iterator[Pack]:
    """The nodes on the stand-in, loaded as ComfyUI loads them; its output folder lies in `folder`."""
    comfy, before = Comfy(folder), dict(sys.modules)
    sys.modules.update(_modules(comfy))
    name = "/custom_nodes/yuegguf-nodes"
    spec = importlib.util.spec_from_file_location(name, PACK / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        yield Pack(module, comfy)
    finally:
        ours = [key for key in sys.modules if key == "av" or key.startswith(("comfy", "folder_paths", name))]
        for key in ours:
            if key not in before:
                del sys.modules[key]
