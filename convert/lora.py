"""A PEFT LoRA adapter → the GGUF adapter that llama.cpp reads, without PyTorch.

The rows of B follow the rows of the weight it changes, so those of q and k are reordered as in the base
model (see `llama_tensors`). Values become F32: llama.cpp rounds what it multiplies to the adapter's own type.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from gguf import GGML_QUANT_VERSION, Keys, LlamaFileType

from yuegguf.errors import DamagedFile
from yuegguf.lm.adapters import ALPHA_KEY, HALF_SUFFIXES, REQUIRED_METADATA, shape_misfits
from yuegguf.lm.gguf_model import LlamaShape, read_model
from yuegguf.progress import Progress, silent

from .gguf_file import Tensor, TensorType, Value, ValueType, number, text
from .llama_tensors import LlamaConfig, TensorSpec, expected_tensors, rope_row_order
from .peft import PeftConfig, peft_name, read_peft
from .safetensors import StoredTensor
from .stream import TensorCopy, write_tensors
from .trim import VERSION_KEY

PUBLISHED_STAGE1 = LlamaConfig(
    hidden=4096, layers=32, heads=32, kv_heads=4, head_dim=128, ffn=11008, vocab=83968, context=16384,
    eps=1e-5, theta=1e4, tied=False,
)  # fmt: skip
"""Config of YuE's 7B stage 1, which its finetuning trains."""


def convert_lora(
    source: Path,
    out: Path,
    *,
    base: Path | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Path:
    """Convert the PEFT folder `source` to the GGUF adapter `out`, and return `out`.

    `base` is a GGUF of the model that it was trained on, of any type; None = YuE's published 7B stage 1.
    Raises ModelNotFound, DamagedFile (all misfits are listed before a byte is written; NaN and Inf as
    they are met), StorageError; `out` appears whole or not at all.
    """
    config, stored = read_peft(source)
    model = PUBLISHED_STAGE1 if base is None else config_of_shape(read_model(base).shape)
    targets = lora_targets(model)
    halves = {
        peft_name(name, letter): spec.name + half
        for name, spec in targets.items()
        for letter, half in zip("AB", HALF_SUFFIXES, strict=True)
    }
    _check(stored, halves, targets, config, base)
    copies = [
        _tensor_copy(stored[theirs], ours, model, config)
        for theirs, ours in halves.items()
        if theirs in stored
    ]
    write_tensors(
        out, _metadata(source.resolve().name, config), copies, overwrite=overwrite, progress=progress
    )
    return out


def lora_targets(model: LlamaConfig) -> dict[str, TensorSpec]:
    """Projections of a model's layers, by Hugging Face name."""
    specs = expected_tensors(model)
    return {name: spec for name, spec in specs.items() if name.startswith("model.layers.") and spec.matrix}


def config_of_shape(shape: LlamaShape) -> LlamaConfig:
    """Config with the sizes of a checked model, as `lora_targets` needs it."""
    return LlamaConfig(
        hidden=shape.hidden,
        layers=shape.layers,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        ffn=shape.ffn,
        vocab=1,
        context=shape.context,
        eps=1e-5,
        theta=1e4,
        tied=True,
    )


def _check(
    stored: dict[str, StoredTensor],
    halves: dict[str, str],
    targets: dict[str, TensorSpec],
    config: PeftConfig,
    base: Path | None,
) -> None:
    shapes = {halves.get(name, name): tensor.shape for name, tensor in stored.items()}
    weights = {spec.name: (spec.shape[0], spec.shape[1]) for spec in targets.values()}
    names = {ours: theirs for theirs, ours in halves.items()}
    if complaints := shape_misfits(shapes, weights, config.rank, names):
        model = "YuE's 7B stage 1" if base is None else base.name
        raise DamagedFile(
            f"the adapter of rank {config.rank} does not fit {model}; {complaints}",
            "name the model that it was trained on with --base, or save the adapter again",
        )


def _tensor_copy(stored: StoredTensor, name: str, model: LlamaConfig, config: PeftConfig) -> TensorCopy:
    target = Tensor(name, TensorType.F32, stored.shape)
    if name.endswith(("attn_q.weight.lora_b", "attn_k.weight.lora_b")):
        return TensorCopy(stored, target, rope_row_order(stored.shape[0], model.head_dim), model.head_dim)
    return TensorCopy(stored, target, None, 1)


def _metadata(name: str, config: PeftConfig) -> dict[str, Value]:
    return {
        **{key: text(value) for key, value in REQUIRED_METADATA.items()},
        ALPHA_KEY: number(ValueType.FLOAT32, config.alpha),
        Keys.General.NAME: text(name),
        Keys.General.FILE_TYPE: number(ValueType.UINT32, int(LlamaFileType.ALL_F32)),
        Keys.General.QUANTIZATION_VERSION: number(ValueType.UINT32, GGML_QUANT_VERSION),
        VERSION_KEY: text(version("yuegguf")),
    }
