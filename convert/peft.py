"""A LoRA adapter as PEFT saves it: adapter_config.json and adapter_model.safetensors, or .bin.

YuE's finetuning trains r 64, alpha 32 on q_proj, k_proj, v_proj and o_proj of stage 1. What PEFT can do
besides (DoRA, biases, whole modules, weights that were changed before training) does not fit into the
two matrices that llama.cpp adds, and is refused by name.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from yuegguf.errors import DamagedFile, ModelNotFound, RequestError
from yuegguf.files.atomic import read_limited
from yuegguf.files.kinds import explain_absence, explain_damage

from .checkpoint import has_weights
from .json_object import MAX_JSON_BYTES, MAX_NUMBER, read_object, shorten
from .safetensors import StoredTensor, open_file
from .source import ADAPTER_CONFIG, model_folder
from .torch_file import open_torch_file

CONFIG = ADAPTER_CONFIG
WEIGHTS, TORCH_WEIGHTS = "adapter_model.safetensors", "adapter_model.bin"
UNSUPPORTED_KEYS: Mapping[str, str] = {
    "use_dora": "DoRA, whose magnitudes come on top of the two matrices",
    "modules_to_save": "whole modules of its own",
    "lora_bias": "biases",
    "rank_pattern": "other ranks for some modules",
    "alpha_pattern": "other scales for some modules",
    "trainable_token_indices": "embeddings of its own",
    "target_parameters": "parameters that are no linear layer",
    "layer_replication": "layers of its own",
    "alora_invocation_tokens": "aLoRA, which waits for certain ids",
    "use_qalora": "QALoRA, which pools its input",
    "use_bdlora": "block-diagonal matrices",
    "arrow_config": "routing between adapters",
    "monteclora_config": "sampled weights",
    "kasa_config": "KaSA, which scales by singular values and changes the base",
}
"""Keys that must not be set → their effect."""
SUPPORTED_INITS = ("gaussian", "eva", "orthogonal")
"""Values of init_lora_weights that do not change the base model; true, false and null do not either."""
MERGE_HINT = "merge it with PEFT's merge_and_unload, then: yuegguf convert FOLDER"


@dataclass(frozen=True)
class PeftConfig:
    """Contents of the adapter_config.json of a plain LoRA."""

    rank: int
    alpha: float
    """Alpha in llama.cpp's sense: B·A is multiplied by alpha / rank."""


def read_peft(folder: Path) -> tuple[PeftConfig, dict[str, StoredTensor]]:
    """Read the configuration and the tensors of an adapter; values stay on disk.

    Raises ModelNotFound, DamagedFile for anything but a plain LoRA, RequestError for a whole model.
    """
    folder = model_folder(folder)
    if not (folder / CONFIG).is_file():
        if has_weights(folder):
            command = shlex.join(("yuegguf", "convert", str(folder)))
            raise RequestError(
                f"{folder} is a whole model, not a LoRA adapter", f"convert it with: {command}"
            )
        missing = ModelNotFound(f"there is no {CONFIG} in {folder}", "pass the folder that PEFT saved")
        raise explain_absence(folder / CONFIG, missing)
    config = _config(_object(folder / CONFIG))
    for name, read in ((WEIGHTS, open_file), (TORCH_WEIGHTS, open_torch_file)):
        if (folder / name).is_file():
            return config, read(folder / name)
    missing = ModelNotFound(
        f"there is no {WEIGHTS} in {folder}", "save the adapter with save_pretrained (safetensors)"
    )
    raise explain_absence(folder / WEIGHTS, missing)


def peft_name(name: str, half: str) -> str:
    """PEFT's name of half "A" or "B" of a weight such as model.layers.0.self_attn.q_proj.weight."""
    return f"base_model.model.{name.removesuffix('.weight')}.lora_{half}.weight"


def _config(values: Mapping[str, Any]) -> PeftConfig:
    if values.get("peft_type") != "LORA":
        raise _damaged(f"describes {shorten(values.get('peft_type'))}, not a LoRA", "pass a LoRA adapter")
    for key, reason in UNSUPPORTED_KEYS.items():
        if values.get(key):
            raise _damaged(f"asks for {key}: {reason}", MERGE_HINT)
    if values.get("bias", "none") != "none":
        raise _damaged(
            f"asks for bias {shorten(values['bias'])}: biases, which YuE does not have", MERGE_HINT
        )
    start = values.get("init_lora_weights")
    if isinstance(start, str) and start.lower() not in SUPPORTED_INITS:
        raise _damaged(
            f"asks for init_lora_weights {shorten(start)}, which changes the base model", MERGE_HINT
        )
    rank, alpha = values.get("r"), values.get("lora_alpha")
    if type(rank) is not int or not 0 < rank < 2**16:
        raise _damaged(f"has no usable r ({shorten(rank)})", "save the adapter again")
    if not isinstance(alpha, (int, float)) or isinstance(alpha, bool) or not 0 < alpha < MAX_NUMBER:
        raise _damaged(f"has no usable lora_alpha ({shorten(alpha)})", "save the adapter again")
    return PeftConfig(rank, alpha * sqrt(rank) if values.get("use_rslora") else float(alpha))


def _object(path: Path) -> dict[str, Any]:
    try:
        return read_object(read_limited(path, MAX_JSON_BYTES, "save the adapter again"))
    except ValueError as error:
        damaged = _damaged(f"is damaged: {error}", "save the adapter again")
        raise explain_damage(path, damaged, ("json",)) from error


def _damaged(reason: str, hint: str) -> DamagedFile:
    return DamagedFile(f"{CONFIG} {reason}", hint)
