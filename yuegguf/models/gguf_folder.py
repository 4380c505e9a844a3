"""The GGUF that a folder stands for."""

from __future__ import annotations

import re
from pathlib import Path

from yuegguf.errors import DamagedFile, ModelNotFound, RequestError, quoted
from yuegguf.files.hub_cache import snapshot_folder
from yuegguf.lm.gguf_header import first_names, read_gguf
from yuegguf.lm.gguf_parts import first_part, model_stem
from yuegguf.lm.vocab import StageRole, role_of
from yuegguf.models import registry

TYPE = re.compile(r"[-._](F32|F16|BF16|I?Q\d\w*)$", re.IGNORECASE)
"""Type at the end of a model's name."""


def find_in_folder(folder: Path, role: StageRole, quant: str | None) -> Path:
    """The GGUF of a stage in a folder, or in the snapshot of a hub cache; the first part of a split model.

    Of several types of one model, `quant` or the preferred one. Raises ModelNotFound, RequestError where
    the folder holds several models of that stage.
    """
    folder = snapshot_folder(folder)
    files = sorted({first_part(path) for path in folder.glob("*.gguf")})
    if not files:
        raise ModelNotFound(f"there is no GGUF in {folder}", _advice(folder))
    fitting = [path for path in files if _role(path) in (role, None)] if len(files) > 1 else files
    words = {"stage1": "stage-1", "stage2": "stage-2"}[role]
    if not fitting:
        names = first_names([path.name for path in files])
        raise ModelNotFound(
            f"none of the GGUFs in {folder} is a {words} model: {names}", "pass another folder"
        )
    if quant is not None:
        fitting = _of_type(folder, fitting, quant)
    models = {TYPE.sub("", model_stem(path)) for path in fitting}
    if len(models) > 1:
        names = first_names([path.name for path in fitting])
        line = f"--{role}-model {quoted(fitting[0])}"
        raise RequestError(f"{folder} holds several {words} models: {names}", f"pass one of them: {line}")
    return min(fitting, key=lambda path: registry.type_rank(_type(path)))


def _advice(folder: Path) -> str:
    """Advice for a folder without a GGUF."""
    if (folder / "adapter_config.json").is_file():
        return f"an adapter goes with --lora: yuegguf convert-lora {quoted(folder)}"
    if {path.suffix for path in folder.glob("*")} & {".safetensors", ".bin", ".pth"}:
        return f"convert its checkpoint first: yuegguf convert {quoted(folder)}"
    return "pass a .gguf file or a folder with one"


def _of_type(folder: Path, files: list[Path], quant: str) -> list[Path]:
    found = [path for path in files if _type(path) == quant.upper()]
    if not found:
        names = first_names([path.name for path in files])
        raise ModelNotFound(f"no GGUF in {folder} is {quant} by its name: {names}", "leave --quant out")
    return found


def _type(path: Path) -> str:
    match = TYPE.search(model_stem(path))
    return match[1].upper() if match else ""


def _role(path: Path) -> str | None:
    """Stage of a GGUF by its header, "adapter" for an adapter; None where it is unknown or unreadable."""
    try:
        metadata = read_gguf(path).metadata
    except (DamagedFile, ModelNotFound):
        return None
    scalars = {key: value.shown for key, value in metadata.items() if not value.array}
    return "adapter" if scalars.get("general.type") == "adapter" else role_of(scalars)
