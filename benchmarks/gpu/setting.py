"""What is measured: the models, the device, and how long; and the models' files."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from yuegguf_convert.llama_tensors import LlamaConfig
from yuegguf_convert.synthetic import SHAPES
from yuegguf_onnx_codec.export import export_codec, find_checkpoints

from benchmarks.growth import random_models
from nano import codec_weights
from yuegguf.lm.header import ModelFacts
from yuegguf.lm.vocab import StageRole
from yuegguf.models.resolve import Models, nano_models
from yuegguf.pipeline import engines
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.planning.cost import ALL, LoadSpec
from yuegguf.planning.plan import GPU_BATCH

STAGES: tuple[StageRole, ...] = ("stage1", "stage2")
PUBLISHED_CODEC = codec_weights.CodecSpec(
    acoustic=256,
    encoder_base=64,
    decoder_base=1024,
    hubert=768,
    hubert_conv=512,
    hubert_ffn=3072,
    hubert_layers=12,
    hubert_groups=16,
    vocos=512,
    vocos_blocks=8,
)
"""Widths of the published X-Codec and its upsamplers."""
MINIATURE = {"hidden": 256, "layers": 2, "heads": 4, "kv_heads": 4, "head_dim": 64, "ffn": 512}
"""Shape of the other loops' models beside nano."""


@dataclass(frozen=True)
class Setting:
    """Settings of all measurements."""

    model: str
    """"real": random weights of the published shapes; "nano": the bundled family."""
    device: str
    """"cuda" or "cpu"."""
    folder: Path
    """Folder of the random models."""
    kind: str
    """Number type of the random language models."""

    @property
    def budget(self) -> float:
        """About the seconds of one timing of a model."""
        return 8.0 if self.model == "real" else 0.2

    @property
    def far(self) -> int:
        """Ids in the sequences at the later place where steps are timed."""
        return 2048

    @property
    def steps(self) -> int:
        """Timed steps at each place."""
        return 24 if self.model == "real" else 6

    @property
    def options(self) -> ComputeOptions:
        """Compute options that keep everything on that device."""
        return ComputeOptions(gpu_layers=0 if self.device == "cpu" else None)

    def models(self) -> Models:
        """The models, written where they are missing."""
        if self.model == "nano":
            return nano_models()
        codec = self.folder / "codec"
        if not codec.is_dir():
            with tempfile.TemporaryDirectory(dir=self.folder) as name:
                codec_weights.write(Path(name), PUBLISHED_CODEC)
                export_codec(*find_checkpoints(Path(name)), codec)
        return replace(random_models(self.folder, self.kind), codec=codec)

    def shape(self, role: StageRole) -> LlamaConfig:
        """Shape of the models of the other loops."""
        return replace(SHAPES[role], **(MINIATURE if self.model == "nano" else {}))

    def load(self, rows: int, ids: int, kv_type: str = "f16") -> LoadSpec:
        """Load options on that device."""
        if self.device == "cpu":
            return LoadSpec(rows, ids, kv_type, flash=kv_type != "f16")
        return LoadSpec(rows, ids, kv_type, flash=True, batch=GPU_BATCH, gpu_layers=ALL)

    def fits(self, load: LoadSpec, model: ModelFacts) -> bool:
        """Whether a model loaded so fits into nine tenths of the device's free memory."""
        devices = engines.find_devices(self.options)
        needed, free = load.own_bytes(model), devices.memory
        if self.device != "cpu":
            needed, free = load.gpu_bytes(model), devices.gpu_memory
        return free is None or needed <= free * 9 // 10
