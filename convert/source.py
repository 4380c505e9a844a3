"""The folder that a checkpoint is converted from, checked for what is missing before anything is read."""

from __future__ import annotations

import shlex
from math import prod
from pathlib import Path

from yuegguf.errors import DamagedFile, ModelNotFound, RequestError
from yuegguf.files.hub_cache import snapshot_folder
from yuegguf.files.kinds import explain_absence, repository_command
from yuegguf.files.sizes import size_text

from .checkpoint import FORMATS, has_weights
from .llama_tensors import expected_tensors, read_config

CONFIG, TOKENIZER, ADAPTER_CONFIG = "config.json", "tokenizer.model", "adapter_config.json"
TOKENIZER_SOURCE = "m-a-p/YuE-s1-7B-anneal-en-cot"
"""Repository that publishes the tokenizer of all models of YuE v1."""


def checkpoint_folder(source: Path) -> Path:
    """The folder of a checkpoint: `source`, or its snapshot where it is the top folder of a hub cache.

    Raises ModelNotFound that lists all that is missing, RequestError for a file, an adapter, or a cache of
    several snapshots.
    """
    folder = model_folder(source)
    weights = has_weights(folder)
    if not weights and (folder / ADAPTER_CONFIG).is_file():
        raise RequestError(
            f"{source} is a LoRA adapter, not a whole model",
            f"convert it with: {shlex.join(('yuegguf', 'convert-lora', str(source)))}",
        )
    if not weights and (ready := sorted(folder.glob("*.gguf"))):
        raise RequestError(
            f"{source} holds {ready[0].name}, which needs no conversion",
            f"use it with --stage1-model or --stage2-model {shlex.quote(str(source))}",
        )
    missing = [name for name in (CONFIG, TOKENIZER) if not (folder / name).is_file()]
    for name in missing:
        lost = ModelNotFound("")
        if (explained := explain_absence(folder / name, lost)) is not lost:
            raise explained
    if not weights:
        missing.insert(0, _weights(folder))
    if missing:
        raise ModelNotFound(f"{folder} lacks {', '.join(missing)}", _advice(folder, missing))
    return folder


def model_folder(source: Path) -> Path:
    """A folder, or its snapshot where it is the top folder of a hub cache.

    Raises ModelNotFound, RequestError for a file.
    """
    folder = snapshot_folder(source)
    if folder.is_dir():
        return folder
    if source.is_file():
        raise RequestError(
            f"{source} is a file", f"pass the folder that holds it: {source.absolute().parent}"
        )
    raise ModelNotFound(f"there is no folder {source}", "check the name")


def _weights(folder: Path) -> str:
    """Description of the missing weights, with their size if the config tells it."""
    try:
        shapes = [spec.shape for spec in expected_tensors(read_config(folder)).values()]
    except (ModelNotFound, DamagedFile):
        return f"the weights ({FORMATS[0].whole})"
    return f"the weights ({FORMATS[0].whole}, {size_text(2 * sum(map(prod, shapes)))} in 16 bits)"


def _advice(folder: Path, missing: list[str]) -> str:
    command = repository_command(folder)
    if command:
        return f"get what is missing with: {command}"
    if missing == [TOKENIZER]:
        line = ("hf", "download", TOKENIZER_SOURCE, TOKENIZER, "--local-dir", str(folder))
        return f"get YuE's own with: {shlex.join(line)}"
    return "pass the folder of a checkpoint, with config.json, tokenizer.model and the weights"
