"""The safetensors reader: exact values, and every damage named."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, dequantize
from safetensors.torch import save_file
from yuegguf_convert.checkpoint import FORMATS, open_checkpoint
from yuegguf_convert.dtypes import encode, round_bf16, widen
from yuegguf_convert.json_object import MAX_JSON_BYTES
from yuegguf_convert.llama_tensors import check_tensors, read_config
from yuegguf_convert.safetensors import open_file

from yuegguf.errors import DamagedFile, ModelNotFound, RequestError, is_too_many_open


def pack(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: str, shape: list[int], start: int, stop: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    tensors = {
        "a": torch.randn(5, 3),
        "b": torch.randn(4, 6).bfloat16(),
        "c": torch.randn(7).half(),
        "empty": torch.zeros(0, 3),
    }
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path


def test_values_equal_the_reference_implementations(saved: Path) -> None:
    torch.manual_seed(0)
    found = open_checkpoint(saved)
    assert set(found) == {"a", "b", "c", "empty"}
    np.testing.assert_array_equal(found["a"].rows(1, 4), torch.randn(5, 3).numpy()[1:4])
    np.testing.assert_array_equal(
        widen(found["b"].rows(0, 4), "BF16"), torch.randn(4, 6).bfloat16().float().numpy()
    )
    np.testing.assert_array_equal(found["c"].rows(0, 1)[0], torch.randn(7).half().numpy())


def test_every_truncation_is_found(saved: Path) -> None:
    whole = (saved / "model.safetensors").read_bytes()
    for size in range(len(whole)):
        (saved / "model.safetensors").write_bytes(whole[:size])
        with pytest.raises(DamagedFile, match=r"model\.safetensors"):
            open_checkpoint(saved)
    (saved / "model.safetensors").write_bytes(whole + b"\0")
    with pytest.raises(DamagedFile, match="1 bytes too many"):
        open_checkpoint(saved)


def test_a_file_that_shrinks_later(saved: Path) -> None:
    tensor = open_checkpoint(saved)["a"]
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[: tensor.start + 8])
    with pytest.raises(DamagedFile, match="inside a"):
        tensor.rows(0, 5)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is an empty file"),
        ((2**63).to_bytes(8, "little") + b"{}", "truncated"),
        (pack(b"\xff\xfe{}"), "damaged header"),
        (pack(b"{"), "damaged header"),
        (pack(b"[" * 100_000), "damaged header"),
        (pack([1]), "no JSON object"),
        (pack(b'{"w":{},"w":{}}'), "given twice"),
        (pack({"w": 3}), "tensor w has no description"),
        (pack({"w": entry("F8_E4M3", [4], 0, 4)}, bytes(4)), "tensor w has dtype 'F8_E4M3'"),
        (pack({"w": entry(["F32"], [1], 0, 4)}, bytes(4)), r"tensor w has dtype \['F32'\]"),  # type: ignore[arg-type]
        (pack({"w": entry({}, [1], 0, 4)}, bytes(4)), r"tensor w has dtype \{\}"),  # type: ignore[arg-type]
        (pack({"w": entry(None, [1], 0, 4)}, bytes(4)), "tensor w has dtype None"),  # type: ignore[arg-type]
        (pack({"w": entry("F32", [1] * 9, 0, 4)}, bytes(4)), "tensor w has no usable shape"),
        (pack({"\ud800": entry("F32", [1], 0, 4)}, bytes(4)), "a tensor's name makes no sense"),
        (pack({"\x1b[2J": entry("F32", [1], 0, 4)}, bytes(4)), "a tensor's name makes no sense"),
        (pack({"w" * 201: entry("F32", [1], 0, 4)}, bytes(4)), "a tensor's name makes no sense"),
        (pack({"": entry("F32", [1], 0, 4)}, bytes(4)), "a tensor's name makes no sense"),
        (pack({"w": entry("F32", [-1], 0, 4)}, bytes(4)), "tensor w has no usable shape"),
        (pack({"w": entry("F32", [True], 0, 4)}, bytes(4)), "tensor w has no usable shape"),
        (pack({"w": entry("F32", [], 0, 4)}, bytes(4)), "tensor w has no usable shape"),
        (pack({"w": entry("F32", [2**63, 2**63], 0, 4)}, bytes(4)), "tensor w has no usable shape"),
        (pack({"w": entry("F32", [1], 4, 0)}, bytes(4)), "tensor w has no usable byte range"),
        (pack({"w": entry("F32", [2], 0, 4)}, bytes(4)), "tensor w has 4 bytes"),
        (pack({"w": entry("F32", [2], 0, 8)}, bytes(4)), "tensor w ends 4 bytes behind"),
        (pack({"w": entry("F32", [1], 4, 8)}, bytes(8)), "tensor w leaves a hole"),
        (
            pack({"v": entry("F32", [2], 0, 8), "w": entry("F32", [2], 4, 12)}, bytes(12)),
            "tensor w overlaps v",
        ),
    ],
)
def test_damaged_headers(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match=words) as caught:
        open_file(path)
    assert "model.safetensors" in str(caught.value)


def shard(folder: Path, name: str, *tensors: str) -> None:
    header = {t: entry("F32", [1], 4 * i, 4 * i + 4) for i, t in enumerate(tensors)}
    (folder / name).write_bytes(pack(header, bytes(4 * len(tensors))))


@pytest.mark.parametrize(
    "name",
    [
        "../b.safetensors",
        "/etc/b.safetensors",
        "sub/b.safetensors",
        "sub\\b.safetensors",
        "b.bin",
        "",
        7,
        ".safetensors",
        "y" * 5000 + ".safetensors",
        "é" * 200 + ".safetensors",
        "y\0.safetensors",
        "y\n.safetensors",
        "\ud800.safetensors",
        ["b.safetensors"],
    ],
)
def test_an_index_cannot_name_other_folders(tmp_path: Path, name: object) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    shard(tmp_path, "b.safetensors", "v")
    (folder / FORMATS[0].index_name).write_text(json.dumps({"weight_map": {"v": name}}))
    with pytest.raises(DamagedFile, match=r"tensor 'v' .* no plain"):
        open_checkpoint(folder)


def test_index_and_shards_must_agree(tmp_path: Path) -> None:
    shard(tmp_path, "a.safetensors", "v", "w")
    index = tmp_path / FORMATS[0].index_name
    for weights, words in (
        ({"v": "a.safetensors"}, "does not place there: w"),
        ({"v": "a.safetensors", "w": "a.safetensors", "x": "a.safetensors"}, "lack tensors .*: x"),
        ({}, "no weight_map"),
        (["v"], "no weight_map"),
    ):
        index.write_text(json.dumps({"weight_map": weights}))
        with pytest.raises(DamagedFile, match=words):
            open_checkpoint(tmp_path)
    index.write_text(json.dumps({"weight_map": {"v": "a.safetensors", "w": "b.safetensors"}}))
    with pytest.raises(ModelNotFound, match=r"lacks b\.safetensors"):
        open_checkpoint(tmp_path)
    index.write_bytes(b"{]")
    with pytest.raises(DamagedFile, match="damaged"):
        open_checkpoint(tmp_path)
    index.unlink()
    (tmp_path / "a.safetensors").unlink()
    with pytest.raises(ModelNotFound, match="there are no weights in"):
        open_checkpoint(tmp_path)


def test_configs_and_indexes_without_an_end_are_not_read(tmp_path: Path) -> None:
    for name in (FORMATS[0].index_name, "config.json"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(MAX_JSON_BYTES + 1)
    with pytest.raises(DamagedFile, match=r"index\.json is larger than 16 MiB"):
        open_checkpoint(tmp_path)
    with pytest.raises(DamagedFile, match=r"config\.json is larger than 16 MiB"):
        read_config(tmp_path)


def test_a_message_names_a_few_of_many_tensors(tmp_path: Path) -> None:
    shapes = {f"extra.{i}": (1,) for i in range(10_000)}
    with pytest.raises(DamagedFile, match=r"extra: extra\.0, .* and 9960 more") as caught:
        check_tensors(shapes, {})
    assert len(str(caught.value)) < 2000


def test_bf16_equals_torch() -> None:
    every = np.arange(2**16, dtype=np.uint16)
    finite = every[(every & 0x7F80) != 0x7F80]
    expected = torch.from_numpy(finite.view(np.int16)).view(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(widen(finite, "BF16").view(np.uint32), expected.view(np.uint32))
    bits = np.random.default_rng(1).integers(0, 0x7F7F0000, 200_000, np.uint32)
    edges = (bits & 0xFFFF0000) | np.uint32(0x8000)  # halfway between neighbours: ties go to even
    values = np.concatenate([bits, edges, edges + 1, edges - 1, bits | 0x80000000]).view(np.float32)
    torch_bits = torch.from_numpy(values).bfloat16().view(torch.int16).numpy()
    np.testing.assert_array_equal(round_bf16(values).view(np.int16), torch_bits)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0"])
def test_no_file_gets_a_nan(dtype: str, value: float, kind: str) -> None:
    row = np.ones((2, 32), np.float32)
    row[1, 30] = value
    raw = {"F32": row, "F16": row.astype(np.float16), "BF16": (row.view(np.uint32) >> 16).astype(np.uint16)}
    with pytest.raises(DamagedFile, match=r"tensor some\.weight holds NaN or Inf"):
        encode(raw[dtype], dtype, GGMLQuantizationType[kind], "some.weight")


@pytest.mark.parametrize(("kind", "value"), [("F16", 65520.0), ("BF16", 3.4e38), ("Q8_0", 1e7)])
def test_values_out_of_range(kind: str, value: float) -> None:
    row = np.full((1, 32), value, np.float32)
    with pytest.raises(RequestError, match=f"tensor some.weight holds .* outside the range of {kind}"):
        encode(row, "F32", GGMLQuantizationType[kind], "some.weight")


def test_tiny_blocks_become_zero() -> None:
    row = np.full((1, 32), 1e-38, np.float32)
    coded = encode(row, "F32", GGMLQuantizationType.Q8_0, "w")
    assert not dequantize(coded, GGMLQuantizationType.Q8_0).any()


def test_a_damaged_header_is_one_error_line_and_ends(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 9) + b"{bad json" + bytes(40))
    with pytest.raises(DamagedFile, match="has a damaged header") as caught:
        open_file(path)
    assert not is_too_many_open(caught.value)  # whose cause is itself
