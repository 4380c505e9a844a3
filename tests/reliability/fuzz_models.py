"""Readers of models, checkpoints and adapters, with small valid ones."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import fakes
import numpy as np
from adapters import write_peft
from fuzz_driver import Target
from fuzz_others import TONE
from fuzz_songs import content_of, each
from mutators import Content
from split_gguf import split_model
from tiny_gguf import CONFIG, write_tiny
from torch_files import Stored, write_torch
from yuegguf_convert.checkpoint import FORMATS, open_checkpoint
from yuegguf_convert.llama_tensors import expected_tensors, read_config
from yuegguf_convert.lora import convert_lora
from yuegguf_convert.peft import read_peft
from yuegguf_convert.tokenizer_pieces import APPENDED, read_vocab
from yuegguf_onnx_codec.weights import Weights

from yuegguf.codec.header import METADATA_KEY, read_encoder, read_graph_header, read_metadata
from yuegguf.files.pth import read_state_dict
from yuegguf.lm.adapters import read_adapter
from yuegguf.lm.gguf_model import read_model
from yuegguf.lm.tokenizer import Tokenizer
from yuegguf.models.gguf_folder import find_in_folder
from yuegguf.models.model_facts import lines_of, model_facts
from yuegguf.models.resolve import nano_models


def gguf_seeds(folder: Path) -> list[Content]:
    """A whole model."""
    return [{"m.gguf": write_tiny(folder / "m.gguf").read_bytes()}]


def read_gguf_model(folder: Path) -> None:
    """A model's header, its tensors, and what `models info` says of it."""
    model = read_model(folder / "m.gguf")
    for tensor in model.file.tensors.values():
        model.file.read(tensor, 0, tensor.rows)
    lines_of(model_facts(folder / "m.gguf", None))


def adapter_seeds(folder: Path) -> list[Content]:
    """An adapter and its model."""
    base = write_tiny(folder / "base.gguf")
    convert_lora(write_peft(folder / "peft", base), folder / "a.lora.gguf", base=base)
    return [{name: data for name, data in content_of(folder).items() if name.endswith(".gguf")}]


def read_lora(folder: Path) -> None:
    """An adapter beside its model."""
    weights = read_model(folder / "base.gguf").shape.projections()
    read_adapter(folder / "a.lora.gguf", weights, "base.gguf")


def checkpoint_seeds(folder: Path) -> list[Content]:
    """A checkpoint of one file, and one of two shards."""
    from safetensors.numpy import save

    one, two = {"a": TONE[:60].reshape(5, 12), "e": np.zeros((0, 3), np.float16)}, {"b": TONE[:7]}
    names = {name: f"model-0000{n}-of-00002.safetensors" for n, part in ((1, one), (2, two)) for name in part}
    shards = {names["a"]: save(one), names["b"]: save(two)}
    index = json.dumps({"metadata": {"total_size": 268}, "weight_map": names}).encode()
    return [{"model.safetensors": save({**one, **two})}, {**shards, FORMATS[0].index_name: index}]


def torch_seeds(folder: Path) -> list[Content]:
    """The same as files of PyTorch."""
    one = {"a": Stored("FloatStorage", (5, 12), TONE[:60].tobytes())}
    two = {"b": Stored("HalfStorage", (7,), TONE[:7].astype(np.float16).tobytes())}
    names = {name: f"pytorch_model-0000{n}-of-00002.bin" for n, name in ((1, "a"), (2, "b"))}
    index = json.dumps({"metadata": {"total_size": 254}, "weight_map": names}).encode()
    whole = write_torch(folder / "whole.bin", {**one, **two}, "state_dict").read_bytes()
    shards = {
        names[name]: write_torch(folder / "part.bin", part).read_bytes()
        for name, part in (("a", one), ("b", two))
    }
    return [{"pytorch_model.bin": whole}, {**shards, "pytorch_model.bin.index.json": index}, shards]


def split_seeds(folder: Path) -> list[Content]:
    """A model in two parts."""
    parts = split_model(write_tiny(folder / "whole.gguf"), folder, "m")
    return [{part.name: part.read_bytes() for part in parts}]


def read_split_model(folder: Path) -> None:
    """The header of all parts and their tensors, after the search for a model in the folder."""
    model = read_model(find_in_folder(folder, "stage1", None))
    for tensor in model.file.tensors.values():
        model.file.read(tensor, 0, tensor.rows)


def read_checkpoint(folder: Path) -> None:
    """Every tensor's values."""
    for tensor in open_checkpoint(folder).values():
        tensor.check()
        tensor.rows(0, tensor.shape[0] if len(tensor.shape) > 1 else 1)


def config_seeds(folder: Path) -> list[Content]:
    """The config of a small LLaMA."""
    found = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 64,
        "vocab_size": CONFIG.vocab, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 1e4,
        "tie_word_embeddings": False, "rope_scaling": None, "torch_dtype": "bfloat16",
    }  # fmt: skip
    return [{"config.json": json.dumps(found).encode()}]


def peft_seeds(folder: Path) -> list[Content]:
    """An adapter as PEFT saves it."""
    return [content_of(write_peft(folder / "peft", write_tiny(folder / "base.gguf")))]


def read_peft_folder(folder: Path) -> None:
    """An adapter's config and values."""
    for tensor in read_peft(folder)[1].values():
        tensor.rows(0, tensor.shape[0] if len(tensor.shape) > 1 else 1)


def _sentencepiece(pieces: list[str]) -> bytes:
    """A ModelProto of pieces alone: text (1), score (2), type (3)."""
    kinds = {"<unk>": 2, "<s>": 3, "</s>": 3}
    out = b""
    for number, piece in enumerate(pieces):
        text, kind = piece.encode(), kinds.get(piece, 6 if piece.startswith("<0x") else 1)
        message = b"\x0a%c%b\x15%b\x18%c" % (len(text), text, struct.pack("<f", -number), kind)
        out += b"\x0a%c%b" % (len(message), message)
    trainer, normaliser = b"\x18\x02\x98\x02\x01", b"\x0a\x08identity"  # BPE with bytes as fallback
    return out + b"\x12%c%b" % (len(trainer), trainer) + b"\x1a%c%b" % (len(normaliser), normaliser)


def tokenizer_seeds(folder: Path) -> list[Content]:
    """A tokenizer of bytes and two pieces."""
    return [{"tokenizer.model": _sentencepiece(list(fakes.TEXT))}]


def read_tokenizer(folder: Path) -> None:
    """The ids of a text."""
    Tokenizer((folder / "tokenizer.model").read_bytes(), fakes.PIECES).encode("[verse] la é\n")


def vocab_seeds(folder: Path) -> list[Content]:
    """A whole vocabulary."""
    codes = [f"<xcodec/{k}/{c}>" for k in range(8) for c in range(1024)]
    return [{"tokenizer.model": _sentencepiece([*fakes.TEXT, *APPENDED, *codes])}]


def _state(older: bytes = b"") -> bytes:
    """A pickle of {"codec_model": {"x": a [5, 8] tensor}} in storage 0, by hand: no PyTorch is needed.

    `older` goes at the end of the storage's facts.
    """

    def name(text: str) -> bytes:
        return b"X" + struct.pack("<I", len(text)) + text.encode()

    kind, place = b"ctorch\nFloatStorage\n", name("0") + name("cpu") + b"K\x28"
    storage = b"(" + name("storage") + kind + place + older + b"tQ"
    shape, steps, hooks = b"(K\x05K\x08t", b"(K\x08K\x01t", b"\x89ccollections\nOrderedDict\n)R"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + shape + steps + hooks + b"tR"
    return b"\x80\x02}" + name("codec_model") + b"}" + name("x") + tensor + b"ss."


def pth_seeds(folder: Path) -> list[Content]:
    """A checkpoint as a zip, and as the older stream."""
    values = TONE[:40].astype("<f4").tobytes()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", _state())
        archive.writestr("archive/data/0", values)
        archive.writestr("archive/version", "3\n")
    legacy = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}]
    stream = b"".join(pickle.dumps(part, 2) for part in legacy)
    stream += _state(b"N") + pickle.dumps(["0"], 2) + struct.pack("<q", 40) + values
    return [{"a.pth": out.getvalue()}, {"a.pth": stream}]


def read_pth(folder: Path) -> None:
    """Every tensor, checked as the exporter does."""
    state = read_state_dict(folder / "a.pth", "codec_model")
    weights = Weights(state, "a.pth")
    for name in state:
        weights.array(name, *(None for _ in state[name].shape))


def onnx_seeds(folder: Path) -> list[Content]:
    """The head of an exported decoder, written by hand: ir_version, producer, a graph and two properties."""
    facts = {"format": 1, "role": "decoder", "fingerprint": "c0dec", "codebooks": 8, "bins": 1024}
    facts |= {"width": 16, "hop": 320}

    def text(number: int, data: bytes) -> bytes:
        return _varint(number << 3 | 2) + _varint(len(data)) + data

    def prop(key: str, value: str) -> bytes:
        return text(14, text(1, key.encode()) + text(2, value.encode()))

    head = b"\x08\x09" + text(2, b"yuegguf") + text(7, bytes(500))
    return [{"decoder.onnx": head + prop("other", "x") + prop(METADATA_KEY, json.dumps(facts))}]


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def read_onnx(folder: Path) -> None:
    """An exported graph's header, and what `models info` says of it."""
    path = folder / "decoder.onnx"
    each(
        lambda: read_metadata(path),
        lambda: read_graph_header(path, "decoder"),
        lambda: lines_of(model_facts(path, None)),
    )


def encoder_seeds(folder: Path) -> list[Content]:
    """The bundled encoder."""
    return [{"encoder.onnx": (nano_models().codec / "encoder.onnx").read_bytes()}]


MODELS = (
    Target("gguf", gguf_seeds, read_gguf_model),
    Target("adapter", adapter_seeds, read_lora, only=".lora.gguf"),
    Target("safetensors", checkpoint_seeds, read_checkpoint, folder=True),
    Target("checkpoint of PyTorch", torch_seeds, read_checkpoint, folder=True),
    Target("split gguf", split_seeds, read_split_model, folder=True),
    Target("config.json", config_seeds, lambda folder: expected_tensors(read_config(folder))),
    Target("PEFT folder", peft_seeds, read_peft_folder, folder=True),
    Target("tokenizer", tokenizer_seeds, read_tokenizer),
    Target("vocabulary", vocab_seeds, lambda folder: read_vocab(folder / "tokenizer.model", 9000)),
    Target("pth", pth_seeds, read_pth),
    Target("onnx", onnx_seeds, read_onnx),
    Target("onnx encoder", encoder_seeds, lambda folder: read_encoder(folder / "encoder.onnx")),
)
"""Readers of models and of what they are converted from."""
