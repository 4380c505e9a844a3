"""A seeded LLaMA, adapters that PEFT makes of it, and logits from both sides."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from adapters import ATTENTION
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import LlamaForCausalLM
from yuegguf_convert.lm import convert_lm

from nano.lm_weights import LlamaSpec, write_llama
from nano.tokenizer import build_tokenizer
from yuegguf.lm.adapters import Lora
from yuegguf.lm.llama import EngineOptions, LlamaEngine
from yuegguf.lm.protocol import SequenceInput

SPEC = LlamaSpec(hidden=96, layers=2, heads=6, kv_heads=2, ffn=160, vocab=9900, context=16384)
EVERYWHERE = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
IDS = np.random.default_rng(2).integers(0, SPEC.vocab, 50).tolist()


def make_base(folder: Path) -> tuple[Path, Path]:
    """A checkpoint folder in float32 and its whole GGUF."""
    write_llama(folder / "base", SPEC, 11, build_tokenizer(), dtype="F32")
    return folder / "base", convert_lm(folder / "base", folder / "base.gguf", out_type="F32", trim=False)


def open_base(checkpoint: Path) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager")


def make_adapter(checkpoint: Path, folder: Path, seed: int, **config: Any) -> Path:
    """A PEFT folder with random matrices, as save_pretrained writes it."""
    torch.manual_seed(seed)
    plain = {"r": 8, "lora_alpha": 12, "target_modules": list(ATTENTION), "task_type": "CAUSAL_LM"}
    model = get_peft_model(
        open_base(checkpoint), LoraConfig(**{"init_lora_weights": False, **plain, **config})
    )
    model.save_pretrained(folder)
    return folder


def with_peft(checkpoint: Path, adapters: Iterable[tuple[Path, float]]) -> PeftModel:
    """The checkpoint with adapters at their scales, all at once."""
    model: Any = open_base(checkpoint)
    for i, (folder, scale) in enumerate(adapters):
        if i:
            model.load_adapter(folder, str(i))
        else:
            model = PeftModel.from_pretrained(model, folder, str(i))
        for module in model.modules():
            if isinstance(module, LoraLayer) and str(i) in module.scaling:
                module.set_scale(str(i), scale)
    model.base_model.set_adapter([str(i) for i, _ in enumerate(adapters)])
    return model.eval()


def torch_logits(model: Any) -> np.ndarray:
    """[ids, vocab] after each of IDS."""
    with torch.no_grad():
        found: np.ndarray = model(torch.tensor([IDS])).logits[0].numpy()
    return found


def llama_logits(model: Path, *loras: Lora) -> np.ndarray:
    """Logits of a model with an adapter on llama.cpp."""
    options = EngineOptions(256, 1, threads=1, kv_type="f32", outputs=len(IDS), loras=loras)
    with closing(LlamaEngine(model, options)) as engine:
        return engine.decode([SequenceInput(0, IDS, n_logits=len(IDS))]).copy()
