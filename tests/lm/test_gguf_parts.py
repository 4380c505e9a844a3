"""Models in several files: read, hashed, loaded, trimmed and quantised as one."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from split_gguf import Change, split_model
from tiny_gguf import write_tiny
from yuegguf_convert.gguf_file import ValueType, number
from yuegguf_convert.quantize import quantize_gguf
from yuegguf_convert.trim import trim_gguf

from yuegguf.errors import DamagedFile, ModelNotFound
from yuegguf.files.hashing import fingerprint
from yuegguf.lm.gguf_header import read_gguf
from yuegguf.lm.gguf_model import read_model
from yuegguf.lm.gguf_parts import first_part, model_bytes, model_fingerprint, model_stem, part_paths
from yuegguf.lm.header import read_header
from yuegguf.lm.llama import EngineOptions, LlamaEngine
from yuegguf.lm.protocol import SequenceInput
from yuegguf.models.resolve import nano_models


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    (tmp_path / "whole").mkdir()
    return write_tiny(tmp_path / "whole" / "tiny.gguf")


@pytest.mark.parametrize("count", [2, 3, 7])
def test_all_parts_are_one_model(count: int, tiny: Path, tmp_path: Path) -> None:
    parts = split_model(tiny, tmp_path, "tiny", count)
    whole = read_model(tiny)
    for part in parts:
        found = read_model(part)
        assert found.file.path == parts[0]
        assert (found.pieces, found.shape, found.metadata) == (whole.pieces, whole.shape, whole.metadata)
        for name, tensor in found.file.tensors.items():
            same = whole.file.tensors[name]
            rows = found.file.read(tensor, 0, tensor.rows)
            assert np.array_equal(rows, whole.file.read(same, 0, same.rows))
    assert model_bytes(parts[1]) == sum(part.stat().st_size for part in parts)


def test_names_of_parts(tmp_path: Path) -> None:
    parts = [tmp_path / f"a-Q8_0-0000{i}-of-00002.gguf" for i in (1, 2)]
    parts[0].touch()
    assert part_paths(parts[0]) == [parts[0]]  # without others it may be a whole model
    parts[1].touch()
    assert part_paths(parts[1]) == parts
    assert first_part(parts[1]) == parts[0]
    assert model_stem(parts[1]) == "a-Q8_0"
    for name in ("a.gguf", "a-00001-of-00001.gguf", "a-00001-of-00000.gguf", "a-1-of-2.gguf"):
        assert part_paths(tmp_path / name) == [tmp_path / name]
        assert model_stem(tmp_path / name) == name.removesuffix(".gguf")


def test_a_hash_of_a_split_model_is_of_all_parts(tiny: Path, tmp_path: Path) -> None:
    first, second = split_model(tiny, tmp_path, "tiny")
    before = model_fingerprint(first)
    assert before == model_fingerprint(second) != fingerprint(first)
    assert model_fingerprint(tiny) == fingerprint(tiny)
    data = bytearray(second.read_bytes())
    data[-1] ^= 1
    second.write_bytes(data)
    assert model_fingerprint(first) != before


def test_missing_parts_are_named(tiny: Path, tmp_path: Path) -> None:
    first, second, third = split_model(tiny, tmp_path, "tiny", 3)
    second.unlink()
    third.unlink()
    with pytest.raises(ModelNotFound) as caught:
        read_model(first)
    hint = "download what is missing into that folder"
    assert str(caught.value) == f"{tmp_path} lacks {second.name}, {third.name}; {hint}"


def number_2(metadata: list, tensors: list) -> None:
    metadata[1]["split.no"] = number(ValueType.UINT16, 5)


def of_three(metadata: list, tensors: list) -> None:
    metadata[0]["split.count"] = number(ValueType.UINT16, 3)


def wide_count(metadata: list, tensors: list) -> None:
    metadata[0]["split.count"] = number(ValueType.UINT32, 2)


def a_tensor_less(metadata: list, tensors: list) -> None:
    tensors[1].pop()


def a_tensor_twice(metadata: list, tensors: list) -> None:
    tensors[1].append(tensors[0][0])


def without_numbers(metadata: list, tensors: list) -> None:
    metadata[1].clear()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (number_2, r"-00002-of-00002\.gguf is damaged: it is not part 2 of 2 by its own numbers"),
        (of_three, r"is one part of a split model of 3, and not named …-of-00003\.gguf"),
        (wide_count, "its split.count is missing or of another type"),
        (a_tensor_less, r"-00001-of-00002\.gguf is damaged: its parts hold 20 tensors instead of 21"),
        (a_tensor_twice, r"-00002-of-00002\.gguf is damaged: another part holds token_embd\.weight too"),
        (without_numbers, r"-00002-of-00002\.gguf is damaged: its split.no is missing or of another type"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(
    change: Change, words: str, tiny: Path, tmp_path: Path
) -> None:
    first, _ = split_model(tiny, tmp_path, "tiny", change=change)
    with pytest.raises(DamagedFile, match=words):
        read_model(first)


def test_a_part_under_another_name_is_refused(tiny: Path, tmp_path: Path) -> None:
    first, _ = split_model(tiny, tmp_path, "tiny")
    with pytest.raises(DamagedFile, match=r"renamed\.gguf is one part of a split model of 2, and not named"):
        read_model(first.rename(tmp_path / "renamed.gguf"))


def test_a_part_that_is_no_gguf_is_named(tiny: Path, tmp_path: Path) -> None:
    first, second = split_model(tiny, tmp_path, "tiny")
    second.write_bytes(b"Entry not found")
    with pytest.raises(DamagedFile) as caught:
        read_model(first)
    assert caught.value.message == f"{second} is a text (Entry not found)"


def test_a_split_model_is_trimmed_and_quantised_to_one_file(tmp_path: Path) -> None:
    from yuegguf_convert.lm import convert_lm

    from nano.lm_weights import LlamaSpec, write_llama
    from nano.tokenizer import build_tokenizer

    write_llama(tmp_path / "stage2", LlamaSpec(32, 1, 2, 1, 64, 9900, 8192), 1, build_tokenizer())
    whole = convert_lm(tmp_path / "stage2", tmp_path / "stage2.gguf", out_type="F16", trim=False)
    _, second = split_model(whole, tmp_path, "parts")
    one, other = (trim_gguf(path, tmp_path / f"trimmed-{path.name}") for path in (whole, second))
    assert one.read_bytes() == other.read_bytes()
    assert read_model(other).file.path == other  # a whole model, in spite of its name
    quantised = [quantize_gguf(path, tmp_path / f"q-{path.name}", "Q8_0") for path in (whole, second)]
    models = [read_gguf(path) for path in quantised]
    assert models[0].tensors.keys() == models[1].tensors.keys()
    assert not [key for key in models[1].metadata if key.startswith("split.")]
    for name, tensor in models[0].tensors.items():
        same = models[1].tensors[name]
        assert np.array_equal(models[0].read(tensor, 0, tensor.rows), models[1].read(same, 0, same.rows))


@pytest.mark.engine
def test_a_split_model_gives_the_same_logits(tmp_path: Path) -> None:
    whole = nano_models().stage1
    parts = split_model(whole, tmp_path, "nano", 3)
    options = EngineOptions(n_ctx=64, n_rows=1, threads=1)
    logits = []
    for path in (whole, parts[1]):
        with closing(LlamaEngine(path, options)) as engine:
            logits.append(np.array(engine.decode([SequenceInput(0, list(range(300, 340)), 1)])))
    assert np.array_equal(*logits)
    assert read_header(parts[0], "stage1").facts.bytes == sum(part.stat().st_size for part in parts)
