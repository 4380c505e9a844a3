"""A PEFT LoRA adapter → the GGUF adapter that llama.cpp reads, without PyTorch.

The rows of B follow the rows of the weight it changes, so those of q and k are reordered as in the base
model (see `names`). Values become F32: llama.cpp rounds what it multiplies to the adapter's own type.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from gguf import GGML_QUANT_VERSION, GGMLQuantizationType, GGUFValueType, Keys, LlamaFileType

from yuegguf.errors import DamagedFile
from yuegguf.lora import HALVES, WANTED, AdapterHead, misfits
from yuegguf.progress import Progress, silent

from .gguf_file import GgufFile, Tensor, Value, number, read_gguf, text
from .names import LlamaConfig, Wanted, rotated_rows, wanted_tensors
from .parts import Part, write_parts
from .peft import PeftConfig, peft_name, read_peft
from .safetensors import StoredTensor
from .trim import VERSION_KEY

PUBLISHED = LlamaConfig(
    hidden=4096, layers=32, heads=32, kv_heads=4, head_dim=128, ffn=11008, vocab=83968, context=16384,
    eps=1e-5, theta=1e4, tied=False,
)  # fmt: skip
"""YuE's 7B stage 1, which its finetuning trains."""


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
    model = PUBLISHED if base is None else llama_of(read_gguf(base))
    wanted = changeable(model)
    halves = {
        peft_name(name, letter): want.name + half
        for name, want in wanted.items()
        for letter, half in zip("AB", HALVES, strict=True)
    }
    _check(stored, halves, wanted, config, base)
    parts = [
        _part(stored[theirs], ours, model, config) for theirs, ours in halves.items() if theirs in stored
    ]
    write_parts(out, _metadata(source.resolve().name, config), parts, overwrite, progress)
    return out


def changeable(model: LlamaConfig) -> dict[str, Wanted]:
    """Hugging Face name → the projections of a model's layers."""
    found = wanted_tensors(model)
    return {name: want for name, want in found.items() if name.startswith("model.layers.") and want.matrix}


def llama_of(model: GgufFile) -> LlamaConfig:
    """The shape of a LLaMA GGUF. Raises DamagedFile."""
    prefix = "llama."

    def count(key: str, default: int = 0) -> int:
        value = model.metadata.get(prefix + key)
        found = default if value is None or value.array else value.data
        if not isinstance(found, int) or found < 1:
            raise DamagedFile(f"{model.path.name} is not a LLaMA (no {prefix}{key})", "pass a YuE model")
        return found

    heads, hidden = count("attention.head_count"), count("embedding_length")
    return LlamaConfig(
        hidden=hidden,
        layers=count("block_count"),
        heads=heads,
        kv_heads=count("attention.head_count_kv", heads),
        head_dim=count("attention.key_length", hidden // heads),
        ffn=count("feed_forward_length"),
        vocab=1,
        context=count("context_length"),
        eps=1e-5,
        theta=1e4,
        tied=True,
    )


def head_of(file: GgufFile) -> AdapterHead:
    """What `yuegguf.lora` checks."""

    def plain(value: Value) -> str | float | None:
        if value.array:
            return None
        if value.kind == GGUFValueType.STRING:
            return value.text
        return float(value.data) if value.kind == GGUFValueType.FLOAT32 else None

    values = {key: plain(value) for key, value in file.metadata.items()}
    return AdapterHead(file.path.name, values, {name: t.shape for name, t in file.tensors.items()})


def _check(
    stored: dict[str, StoredTensor],
    halves: dict[str, str],
    wanted: dict[str, Wanted],
    config: PeftConfig,
    base: Path | None,
) -> None:
    shapes = {halves.get(name, name): tensor.shape for name, tensor in stored.items()}
    weights = {want.name: (want.shape[0], want.shape[1]) for want in wanted.values()}
    called = {ours: theirs for theirs, ours in halves.items()}
    if complaints := misfits(shapes, weights, config.rank, called):
        fits = "YuE's 7B stage 1" if base is None else base.name
        raise DamagedFile(
            f"the adapter of rank {config.rank} does not fit {fits}; {complaints}",
            "name the model that it was trained on with --base, or save the adapter again",
        )


def _part(stored: StoredTensor, name: str, model: LlamaConfig, config: PeftConfig) -> Part:
    target = Tensor(name, GGMLQuantizationType.F32, stored.shape)
    if name.endswith(("attn_q.weight.lora_b", "attn_k.weight.lora_b")):
        return Part(stored, target, rotated_rows(stored.shape[0], model.head_dim), model.head_dim)
    return Part(stored, target, None, 1)


def _metadata(name: str, config: PeftConfig) -> dict[str, Value]:
    return {
        **{key: text(value) for key, value in WANTED.items()},
        Keys.Adapter.LORA_ALPHA: number(GGUFValueType.FLOAT32, config.alpha),
        Keys.General.NAME: text(name),
        Keys.General.FILE_TYPE: number(GGUFValueType.UINT32, int(LlamaFileType.ALL_F32)),
        Keys.General.QUANTIZATION_VERSION: number(GGUFValueType.UINT32, GGML_QUANT_VERSION),
        VERSION_KEY: text(version("yuegguf")),
    }
