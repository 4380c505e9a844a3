"""Headers of GGUF files: everything that no YuE model holds is refused by name, before llama.cpp sees it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from adapters import write_peft
from gguf import GGML_QUANT_SIZES
from gguf_fuzz import fuzz
from helpers import Capture, refused
from through_llama import as_llama_cpp_reads
from tiny_gguf import PIECES, Change, Metadata, Tensors, write_tiny
from yuegguf_convert.gguf_file import number, numbers, text, texts
from yuegguf_convert.lora import convert_lora
from yuegguf_convert.merge import merge_loras
from yuegguf_convert.quantize import quantize_gguf
from yuegguf_convert.trim import trim_gguf

from yuegguf.errors import DamagedFile, ModelNotFound
from yuegguf.lm import header
from yuegguf.lm.adapters import Lora
from yuegguf.lm.gguf_header import BLOCK_SIZES, MAX_HEADER, TensorType, Value, ValueType, read_gguf
from yuegguf.lm.gguf_model import read_model
from yuegguf.lm.llama import EngineOptions, LlamaEngine
from yuegguf.lm.protocol import SequenceInput
from yuegguf.models.resolve import nano_models

U32, I32, F32 = ValueType.UINT32, ValueType.INT32, ValueType.FLOAT32
OPTIONS = EngineOptions(16, 1, threads=1)


def setting(key: str, value: float, kind: ValueType = U32) -> Change:
    """Another value of the architecture's."""
    return lambda metadata, tensors: metadata.update({f"llama.{key}": number(kind, value)})


def given(key: str, value: Value) -> Change:
    """Another value under any key."""
    return lambda metadata, tensors: metadata.update({key: value})


def without(key: str) -> Change:
    """A key less."""
    return lambda metadata, tensors: metadata.pop(key)


def pieces(change: Callable[[list[str]], object]) -> Change:
    """Another vocabulary."""
    changed = list(PIECES)
    change(changed)
    return given("tokenizer.ggml.tokens", texts(changed))


def tensor(which: str, /, **facts: Any) -> Change:
    """Another type, shape or name of a tensor."""

    def change(_metadata: Metadata, tensors: Tensors) -> None:
        at = next(i for i, each in enumerate(tensors) if each.name == which)
        tensors[at] = replace(tensors[at], **facts)

    return change


def dropped(name: str) -> Change:
    """A tensor less."""

    def change(_metadata: Metadata, tensors: Tensors) -> None:
        tensors[:] = [each for each in tensors if each.name != name]

    return change


EPSILON, COUNT = "attention.layer_norm_rms_epsilon", len(PIECES)
SCORES, TYPES = "tokenizer.ggml.scores", "tokenizer.ggml.token_type"
BAD: dict[str, tuple[Change, str]] = {
    "epsilon NaN": (setting(EPSILON, float("nan"), F32), "its llama.attention.layer_norm_rms_epsilon is nan"),
    "epsilon -1": (setting(EPSILON, -1.0, F32), "its llama.attention.layer_norm_rms_epsilon is -1.000000"),
    "epsilon 0": (setting(EPSILON, 0.0, F32), "its llama.attention.layer_norm_rms_epsilon is 0.000000"),
    "epsilon inf": (setting(EPSILON, float("inf"), F32), "its llama.attention.layer_norm_rms_epsilon is inf"),
    "epsilon whole": (setting(EPSILON, 1), "its llama.attention.layer_norm_rms_epsilon is 1"),
    "no epsilon": (without(f"llama.{EPSILON}"), f"it lacks llama.{EPSILON}"),
    "no layer": (setting("block_count", 0), "its llama.block_count is 0"),
    "2^31 layers": (setting("block_count", 2**31 - 1), "its llama.block_count is 2147483647"),
    "a layer more": (setting("block_count", 3), "missing: blk.2.attn_norm.weight, blk.2."),
    "a layer less": (setting("block_count", 1), "unknown: blk.1."),
    "base 0": (setting("rope.freq_base", 0.0, F32), "its llama.rope.freq_base is 0.000000"),
    "heads 0": (setting("attention.head_count", 0), "its llama.attention.head_count is 0"),
    "3 KV heads": (setting("attention.head_count_kv", 3), "2 heads cannot share 3 KV heads"),
    "odd heads": (setting("attention.key_length", 15), "impossible sizes 15, 16 and 16"),
    "values apart": (setting("attention.value_length", 8), "impossible sizes 16, 8 and 16"),
    "rope apart": (setting("rope.dimension_count", 8), "impossible sizes 16, 16 and 8"),
    "heads by layer": (
        given("llama.attention.head_count", numbers(U32, [2, 2])),
        "its llama.attention.head_count is a list",
    ),
    "context 2^32": (setting("context_length", 2**32 - 1), "its llama.context_length is 4294967295"),
    "experts": (setting("expert_count", 8), "the setting llama.expert_count, which YuE does not have"),
    "unknown setting": (setting("attention.clamp", 1.0, F32), "the setting llama.attention.clamp, which YuE"),
    "vocab size": (setting("vocab_size", 5), f"of different lengths or too short ([5, {COUNT}])"),
    "a piece twice": (pieces(lambda p: p.__setitem__(261, p[260])), "a piece twice, or an empty one"),
    "an empty piece": (pieces(lambda p: p.__setitem__(261, "")), "a piece twice, or an empty one"),
    "a piece less": (pieces(lambda p: p.pop()), "token lists are of different lengths"),
    "a 0 in a piece": (
        pieces(lambda p: p.__setitem__(261, "a\0b")),
        "ggml.tokens holds a zero byte",
    ),
    "pieces no UTF-8": (
        given("tokenizer.ggml.tokens", Value(ValueType.STRING, [b"\xff"] * COUNT, array=True)),
        "the value of tokenizer.ggml.tokens is not UTF-8",
    ),
    "no pieces": (without("tokenizer.ggml.tokens"), "tokenizer.ggml.tokens is missing"),
    "numbers as pieces": (given("tokenizer.ggml.tokens", numbers(I32, [1] * COUNT)), "or of another type"),
    "scores of bytes": (given(SCORES, numbers(ValueType.INT8, [0] * COUNT)), f"{SCORES} is missing or of"),
    "a score NaN": (given(SCORES, numbers(F32, [float("nan")] * COUNT)), "an impossible score or type"),
    "an unknown type": (given(TYPES, numbers(I32, [7] * COUNT)), "an impossible score or type"),
    "a false byte": (given(TYPES, numbers(I32, [6] * COUNT)), "its vocabulary calls <unk>, <s>, </s>, "),
    "an id outside": (given("tokenizer.ggml.eos_token_id", number(U32, COUNT)), f"not one of {COUNT} ids"),
    "an id as text": (given("tokenizer.ggml.eos_token_id", text("2")), f"not one of {COUNT} ids"),
    "a flag as text": (given("tokenizer.ggml.add_bos_token", text("no")), "add_bos_token is no BOOL"),
    "no BOOL": (
        given("tokenizer.ggml.add_bos_token", number(ValueType.BOOL, 2)),
        "neither true nor false",
    ),
    "another tokenizer": (given("tokenizer.ggml.model", text("gpt2")), "its tokenizer.ggml.model is 'gpt2'"),
    "tokenizer ü": (
        given("yuegguf.tokenizer.model", text("ü")),
        "its yuegguf.tokenizer.model is not base64",
    ),
    "another role": (given("yuegguf.role", text("stage3")), "its yuegguf.role is 'stage3'"),
    "a number as name": (given("general.name", number(U32, 1)), "its general.name is no STRING"),
    "another kind": (given("general.architecture", text("qwen2")), "its general.architecture is 'qwen2'"),
    "an adapter": (given("general.type", text("adapter")), "its general.type is 'adapter'"),
    "a part": (given("split.count", number(ValueType.UINT16, 2)), "is one part of a split model"),
    "name no UTF-8": (
        given("general.name", Value(ValueType.STRING, b"\xff\xfe")),
        "the value of general.name is not UTF-8",
    ),
    "no embedding": (dropped("token_embd.weight"), "missing: token_embd.weight"),
    "another name": (tensor("output_norm.weight", name="norm.weight"), "unknown: norm.weight"),
    "another shape": (
        tensor("blk.0.attn_k.weight", shape=(32, 32)),
        "of another shape: blk.0.attn_k.weight (32, 32) instead of (16, 32)",
    ),
    "a norm in F16": (
        tensor("output_norm.weight", kind=TensorType.F16),
        "of another type: output_norm.weight F16",
    ),
    "a bias": (
        lambda metadata, tensors: tensors.append(replace(tensors[1], name="blk.0.attn_q.bias")),
        "unknown: blk.0.attn_q.bias",
    ),
}
"""A change of a good file → what is said of it."""


@pytest.mark.parametrize("name", BAD)
def test_what_no_model_holds_is_refused_by_name(name: str, tmp_path: Path) -> None:
    change, said = BAD[name]
    path = write_tiny(tmp_path / "bad.gguf", change)
    with pytest.raises(DamagedFile) as caught:
        read_model(path)
    assert "bad.gguf is " in caught.value.message
    assert said in caught.value.message
    assert caught.value.hint


GOOD: dict[str, Change] = {
    "as converted": lambda metadata, tensors: None,
    "tied": dropped("output.weight"),
    "aligned to 64": given("general.alignment", number(U32, 64)),
    "heads by default": lambda metadata, tensors: [
        metadata.pop(f"llama.{key}")
        for key in ("attention.key_length", "attention.value_length", "rope.dimension_count", "vocab_size")
    ],
    "a neutral setting": setting("expert_count", 0),
    "no scaling": given("llama.rope.scaling.type", text("none")),
    "keys of others": lambda metadata, tensors: metadata.update(
        {
            "tokenizer.chat_template": text("{{ ü }}"),
            "tokenizer.ggml.remove_extra_whitespaces": number(ValueType.BOOL, False),
            "tokenizer.ggml.padding_token_id": number(U32, 0),
            "general.tags": texts(["music", "ü"]),
            "custom.note": number(ValueType.FLOAT64, 0.5),
        }
    ),
    "in blocks": lambda metadata, tensors: [
        tensor(each.name, kind=TensorType.Q8_0)(metadata, tensors)
        for each in list(tensors)
        if each.shape[-1] == 32 and len(each.shape) == 2
    ],
}
"""Changes of a good file that other tools make."""


@pytest.mark.parametrize("name", GOOD)
def test_what_other_tools_write_is_read_as_llama_cpp_reads_it(name: str, tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "good.gguf", GOOD[name])
    model = read_model(path)
    assert (model.pieces, model.metadata) == as_llama_cpp_reads(path)
    with closing(LlamaEngine(path, OPTIONS)) as engine:
        assert engine.decode([SequenceInput(0, [1, 2])]).shape == (1, COUNT)


def raw(body: bytes = b"", version: int = 3, n_tensors: int = 0, n_values: int = 0) -> bytes:
    """A GGUF by hand."""
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_values) + body


def string(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


def scalar(key: bytes, kind: int, data: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + data


def info(name: bytes = b"a", dims: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0) -> bytes:
    return string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


ALIGNMENT = b"general.alignment"
BYTES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is an empty file"),
    "another format": (b"RIFF\1" * 99, "is not a GGUF file"),
    "the first": (raw(version=1), "its version is 1, not 3"),
    "big-endian": (raw(version=3 << 24), "its version is 50331648, not 3"),
    "many values": (raw(n_values=2**63), "it announces 9223372036854775808 values"),
    "many tensors": (raw(n_tensors=2**32), "it announces 4294967296 tensors"),
    "a long key": (raw(string(b"k" * 300) + bytes(99), n_values=1), "the name of a value has 300 bytes"),
    "an endless key": (raw(struct.pack("<Q", 2**40), n_values=1), "it ends inside its header"),
    "no key": (raw(bytes(99), n_values=1), "the name of a value has 0 bytes"),
    "key no UTF-8": (raw(scalar(b"k\xff", 0, b"1"), n_values=1), "the name of a value is not UTF-8"),
    "a surrogate": (raw(scalar(b"\xed\xa0\x80", 0, b"1"), n_values=1), "the name of a value is not UTF-8"),
    "key with 0": (raw(scalar(b"k\0", 0, b"1"), n_values=1), "the name of a value holds a zero byte"),
    "unknown type": (raw(scalar(b"k", 13, bytes(9)), n_values=1), "k has the unknown type 13"),
    "nested": (raw(scalar(b"k", 9, struct.pack("<IQ", 9, 1)), n_values=1), "k has the unknown type 9"),
    "many strings": (
        raw(scalar(b"k", 9, struct.pack("<IQ", 8, 2**40)), n_values=1),
        "it announces 1099511627776 strings in k",
    ),
    "many numbers": (
        raw(scalar(b"k", 9, struct.pack("<IQ", 12, 2**60)), n_values=1),
        "it ends inside its header",
    ),
    "a key twice": (raw(2 * scalar(b"k", 0, b"1"), n_values=2), "a name is given twice"),
    "alignment 3": (raw(scalar(ALIGNMENT, 4, struct.pack("<I", 3)), n_values=1), "is not a power of two"),
    "alignment 0": (raw(scalar(ALIGNMENT, 4, bytes(4)), n_values=1), "is not a power of two"),
    "alignment 2^31": (
        raw(scalar(ALIGNMENT, 4, struct.pack("<I", 2**31)), n_values=1),
        "is not a power of two up to 1 MiB",
    ),
    "5 dimensions": (raw(info(dims=(1,) * 5), n_tensors=1), "tensor a has 5 dimensions"),
    "whole numbers": (raw(info(kind=24), n_tensors=1), "tensor a has the type 24, which weights never have"),
    "broken blocks": (raw(info(kind=8, dims=(33,)), n_tensors=1), "the impossible shape (33,)"),
    "no columns": (raw(info(dims=(0, 4)), n_tensors=1), "the impossible shape (4, 0)"),
    "2^192 values": (raw(info(dims=(2**63, 2**63, 2**63)), n_tensors=1), "before the end of tensor a"),
    "a long name": (raw(info(name=b"a" * 64), n_tensors=1), "the name of a tensor has 64 bytes"),
    "a tensor twice": (raw(2 * info(), n_tensors=2), "a name is given twice"),
    "on each other": (
        raw(info(offset=0) + info(name=b"b", offset=0) + bytes(999), n_tensors=2),
        "tensor b has the impossible offset 0",
    ),
    "askew": (raw(info(offset=1) + bytes(999), n_tensors=1), "tensor a has the impossible offset 1"),
    "cut": (raw(info() + bytes(99), n_tensors=1), "it ends before the end of tensor a"),
}
"""Files → what is said of them."""


@pytest.mark.parametrize("name", BYTES)
def test_what_no_gguf_holds_is_refused_by_name(name: str, tmp_path: Path) -> None:
    content, said = BYTES[name]
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(DamagedFile) as caught:
        read_gguf(tmp_path / "bad.gguf")
    assert "bad.gguf is " in caught.value.message
    assert said in caught.value.message


def test_a_header_longer_than_any_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(raw(string(b"k") + struct.pack("<IQ", 8, MAX_HEADER), n_values=1))
    with path.open("ab") as file:
        file.truncate(2 * MAX_HEADER)
    with pytest.raises(DamagedFile, match="it has a header of over 128 MiB"):
        read_gguf(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="there is no file"):
        read_model(tmp_path / "none.gguf")


def test_the_types_and_their_blocks_are_ggmls() -> None:
    theirs = {kind.name: (int(kind), size) for kind, size in GGML_QUANT_SIZES.items()}
    assert {kind.name: (int(kind), BLOCK_SIZES[kind]) for kind in TensorType}.items() <= theirs.items()


PATHS: dict[str, Callable[[Path, Path], object]] = {
    "engine": lambda bad, out: LlamaEngine(bad, OPTIONS),
    "inspect": lambda bad, out: header.read_header(bad, "stage1"),
    "quantize": lambda bad, out: quantize_gguf(bad, out, "Q8_0"),
    "trim": lambda bad, out: trim_gguf(bad, out),
    "merge": lambda bad, out: merge_loras(bad, [Lora(bad)], out),
    "engine's adapter": lambda bad, out: LlamaEngine(
        nano_models().stage1, replace(OPTIONS, loras=(Lora(bad),))
    ),
}


@pytest.mark.parametrize("way", PATHS)
@pytest.mark.parametrize("name", ["epsilon NaN", "a piece twice", "no layer", "2^31 layers", "name no UTF-8"])
def test_every_way_to_a_model_checks_it(way: str, name: str, tmp_path: Path) -> None:
    bad = write_tiny(tmp_path / "bad.gguf", BAD[name][0])
    with pytest.raises(DamagedFile, match=r"^bad\.gguf is "):
        PATHS[way](bad, tmp_path / "out.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.gguf"]


def test_the_command_line_ends_in_7_with_one_line(tmp_path: Path, capsys: Capture) -> None:
    bad = write_tiny(tmp_path / "bad.gguf", setting("block_count", 2**31 - 1))
    for command in (
        ("models", "info", bad),
        ("quantize", bad, "Q4_0", "-o", tmp_path / "out.gguf"),
    ):
        said = refused(capsys, 7, *command)
        assert (
            said == "bad.gguf is damaged: its llama.block_count is 2147483647; download or convert it again"
        )


def test_mutated_headers_are_refused_or_open(tmp_path: Path) -> None:
    """The long form: python tests/reliability/gguf_fuzz.py --count 20000."""
    whole = write_tiny(tmp_path / "whole.gguf")
    refused_ones, fatal = fuzz(400, 0, whole)
    assert fatal == []
    assert 200 < refused_ones < 395


def test_mutated_adapters_are_refused_or_open(tmp_path: Path) -> None:
    base = write_tiny(tmp_path / "base.gguf")
    whole = convert_lora(write_peft(tmp_path / "peft", base), tmp_path / "whole.gguf", base=base)
    refused_ones, fatal = fuzz(200, 0, whole, base)
    assert fatal == []
    assert 100 < refused_ones < 198
