"""PEFT folders of random matrices for any LLaMA GGUF, written without PyTorch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from yuegguf_convert.lora import config_of_shape, lora_targets
from yuegguf_convert.peft import CONFIG, WEIGHTS, peft_name

from yuegguf.lm.gguf_model import read_model

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
"""Projections that YuE's finetuning trains."""
Tensors = dict[str, np.ndarray]


def write_peft(folder: Path, base: Path, seed: int = 0, rank: int = 4, spread: float = 0.2) -> Path:
    """An adapter of every layer's attention, in the layout of YuE's finetuning."""
    chance, tensors = np.random.default_rng(seed), {}
    for name, want in lora_targets(config_of_shape(read_model(base).shape)).items():
        if name.split(".")[-2] in ATTENTION:
            rows, columns = want.shape
            for half, shape in (("A", (rank, columns)), ("B", (rows, rank))):
                values = spread * chance.standard_normal(shape)
                tensors[peft_name(name, half)] = values.astype(np.float32)
    folder.mkdir()
    save_file(tensors, folder / WEIGHTS)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "bias": "none"}
    (folder / CONFIG).write_text(json.dumps({**config, "target_modules": list(ATTENTION)}))
    return folder


def configure(folder: Path, **values: Any) -> None:
    """Change adapter_config.json."""
    path = folder / CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def rewrite(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    """Change the tensors."""
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS)
