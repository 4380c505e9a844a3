"""LoRA adapters on llama.cpp against transformers and PEFT, in float32 on seeded weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from adapters import ATTENTION
from loras import EVERYWHERE, llama_logits, make_adapter, make_base, open_base, torch_logits, with_peft
from safetensors.numpy import load_file, save_file
from yuegguf_convert.dtypes import round_bf16, widen
from yuegguf_convert.gguf_file import GgufFile, read_gguf
from yuegguf_convert.llama_tensors import rope_row_order
from yuegguf_convert.lm import convert_lm
from yuegguf_convert.lora import PUBLISHED_STAGE1, convert_lora
from yuegguf_convert.merge import merge_loras
from yuegguf_convert.peft import CONFIG, WEIGHTS, peft_name

from yuegguf.errors import RequestError
from yuegguf.lm.adapters import Lora

CLOSE = 1e-3
"""Largest error of a logit; adapters move some by more than ten."""


@dataclass(frozen=True)
class Made:
    checkpoint: Path
    base: Path
    folders: dict[str, Path]
    ggufs: dict[str, Path]
    plain: np.ndarray
    """Logits without an adapter."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("loras")
    checkpoint, base = make_base(root)
    folders = {
        "attention": make_adapter(checkpoint, root / "attention", 1),
        "everywhere": make_adapter(
            checkpoint, root / "everywhere", 2, r=4, target_modules=list(EVERYWHERE), use_rslora=True
        ),
    }
    ggufs = {name: convert_lora(f, root / f"{name}.gguf", base=base) for name, f in folders.items()}
    return Made(checkpoint, base, folders, ggufs, llama_logits(base))


def error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max())


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, -1.0])
@pytest.mark.parametrize("name", ["attention", "everywhere"])
def test_logits_equal_peft(made: Made, name: str, scale: float) -> None:
    expected = torch_logits(with_peft(made.checkpoint, [(made.folders[name], scale)]))
    found = llama_logits(made.base, Lora(made.ggufs[name], scale))
    assert error(found, expected) <= CLOSE
    assert (error(found, made.plain) > 1) == (scale != 0)


def test_two_adapters_add_up_as_in_peft(made: Made) -> None:
    scales = {"attention": 1.0, "everywhere": 0.5}
    expected = torch_logits(with_peft(made.checkpoint, [(made.folders[n], s) for n, s in scales.items()]))
    both = [Lora(made.ggufs[name], scale) for name, scale in scales.items()]
    found = llama_logits(made.base, *both)
    assert error(found, expected) <= CLOSE
    for one in both:
        assert error(found, llama_logits(made.base, one)) > 1


def test_scale_zero_is_no_adapter_to_the_bit(made: Made, tmp_path: Path) -> None:
    off = Lora(made.ggufs["attention"], 0.0)
    np.testing.assert_array_equal(llama_logits(made.base, off), made.plain)
    np.testing.assert_array_equal(llama_logits(made.base, Lora(tmp_path / "none.gguf", 0.0)), made.plain)
    on = Lora(made.ggufs["everywhere"])
    np.testing.assert_array_equal(llama_logits(made.base, off, on), llama_logits(made.base, on))


def test_without_the_reordering_of_q_and_k_it_would_be_another_adapter(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yuegguf_convert.lora.rope_row_order", lambda rows, _: np.arange(rows))
    wrong = convert_lora(made.folders["attention"], tmp_path / "wrong.gguf", base=made.base)
    assert error(llama_logits(made.base, Lora(wrong)), made.plain) > 1
    expected = torch_logits(with_peft(made.checkpoint, [(made.folders["attention"], 1.0)]))
    assert error(llama_logits(made.base, Lora(wrong)), expected) > 0.1


def test_the_rows_of_b_follow_the_rows_of_q_and_k(made: Made) -> None:
    stored, found = load_file(made.folders["attention"] / WEIGHTS), read_gguf(made.ggufs["attention"])
    assert len(stored) == len(found.tensors) == 2 * 2 * len(ATTENTION)
    for ours, theirs in (("q", "q"), ("k", "k"), ("v", "v"), ("output", "o")):
        name = f"model.layers.1.self_attn.{theirs}_proj.weight"
        a, b = (stored[peft_name(name, half)] for half in "AB")
        order = rope_row_order(len(b), 16) if ours in "qk" else np.arange(len(b))
        np.testing.assert_array_equal(values(found, f"blk.1.attn_{ours}.weight.lora_a"), a)
        np.testing.assert_array_equal(values(found, f"blk.1.attn_{ours}.weight.lora_b"), b[order])


def values(file: GgufFile, name: str) -> np.ndarray:
    tensor = file.tensors[name]
    raw = file.read(tensor, 0, tensor.rows)
    kinds = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
    return widen(raw.view(kinds[tensor.kind.name]), tensor.kind.name)


def test_the_metadata_that_llama_cpp_reads(made: Made) -> None:
    for name, alpha in (("attention", 12.0), ("everywhere", 12 * np.sqrt(4))):
        found = read_gguf(made.ggufs[name]).metadata
        texts = ("general.type", "general.architecture", "adapter.type", "general.name")
        assert [found[key].text for key in texts] == ["adapter", "llama", "lora", name]
        assert found["adapter.lora.alpha"].data == pytest.approx(alpha)


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_16_bit_adapters_lose_nothing(made: Made, tmp_path: Path, dtype: str) -> None:
    """PEFT saves what it trained in; the GGUF holds the same numbers in 32 bits."""
    import torch
    from safetensors.torch import save_file as save_torch

    kind = {"BF16": torch.bfloat16, "F16": torch.float16}[dtype]
    short = {k: torch.tensor(v).to(kind) for k, v in load_file(made.folders["attention"] / WEIGHTS).items()}
    folder = tmp_path / dtype
    folder.mkdir()
    (folder / CONFIG).write_bytes((made.folders["attention"] / CONFIG).read_bytes())
    save_torch(short, folder / WEIGHTS)
    found = read_gguf(convert_lora(folder, tmp_path / "short.gguf", base=made.base))
    theirs = short[peft_name("model.layers.0.self_attn.v_proj.weight", "B")].float().numpy()
    np.testing.assert_array_equal(values(found, "blk.0.attn_v.weight.lora_b"), theirs)


def test_without_a_base_it_is_yues_7b(tmp_path: Path) -> None:
    name = "model.layers.31.self_attn.k_proj.weight"
    chance = np.random.default_rng(0)
    halves = {"A": (64, 4096), "B": (512, 64)}
    tensors = {peft_name(name, h): chance.random(shape, np.float32) for h, shape in halves.items()}
    folder = tmp_path / "opera"
    folder.mkdir()
    save_file(tensors, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 64, "lora_alpha": 32}))
    found = read_gguf(convert_lora(folder, tmp_path / "opera.gguf"))
    order = rope_row_order(512, PUBLISHED_STAGE1.head_dim)
    np.testing.assert_array_equal(
        values(found, "blk.31.attn_k.weight.lora_b"), tensors[peft_name(name, "B")][order]
    )


def test_a_merged_model_is_the_model_with_its_adapters(made: Made, tmp_path: Path) -> None:
    loras = [Lora(made.ggufs["attention"], 1.0), Lora(made.ggufs["everywhere"], 0.5)]
    merged = merge_loras(made.base, loras, tmp_path / "merged.gguf")
    found = llama_logits(merged)
    assert error(found, llama_logits(made.base, *loras)) <= CLOSE
    peft = with_peft(made.checkpoint, [(made.folders["attention"], 1.0), (made.folders["everywhere"], 0.5)])
    theirs = peft.merge_and_unload(adapter_names=["0", "1"])
    assert error(found, torch_logits(theirs)) <= CLOSE
    weights = theirs.state_dict()["model.layers.1.mlp.down_proj.weight"].numpy()
    np.testing.assert_allclose(values(read_gguf(merged), "blk.1.ffn_down.weight"), weights, atol=1e-6)
    assert read_gguf(merged).metadata["yuegguf.loras"].texts == ["attention.gguf:1", "everywhere.gguf:0.5"]


def test_a_model_merged_in_two_steps_names_the_adapters_of_both(made: Made, tmp_path: Path) -> None:
    first, second = Lora(made.ggufs["attention"], 1.0), Lora(made.ggufs["everywhere"], 0.5)
    once = merge_loras(made.base, [first], tmp_path / "once.gguf")
    merged = merge_loras(once, [second], tmp_path / "twice.gguf")
    assert read_gguf(merged).metadata["yuegguf.loras"].texts == ["attention.gguf:1", "everywhere.gguf:0.5"]


@pytest.mark.parametrize("out_type", ["BF16", "F16"])
def test_merging_rounds_once_and_leaves_the_rest_alone(
    made: Made, tmp_path: Path, out_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yuegguf_convert.merge.BLOCK_VALUES", 7 * 96)  # a weight's rows come in many blocks
    short = convert_lm(made.checkpoint, tmp_path / "short.gguf", out_type=out_type, trim=False)
    before, adapter = read_gguf(short), read_gguf(made.ggufs["attention"])
    after = read_gguf(merge_loras(short, [Lora(adapter.path, 0.25)], tmp_path / "merged.gguf"))
    assert before.tensors == after.tensors
    for name, tensor in before.tensors.items():
        old, new = (file.read(tensor, 0, tensor.rows) for file in (before, after))
        if f"{name}.lora_a" not in adapter.tensors:
            np.testing.assert_array_equal(old, new)
            continue
        a, b = (values(adapter, f"{name}.lora_{half}") for half in "ab")
        wanted = values(before, name) + np.float32(0.25 * 12 / 8) * b @ a
        step = {"BF16": 2.0**-8, "F16": 2.0**-11}[out_type]
        np.testing.assert_allclose(values(after, name), wanted, rtol=1.01 * step, atol=1e-6)
        assert (old != new).any()
        if out_type == "BF16":
            exact = new.view(np.uint16) == round_bf16(wanted.astype(np.float32))
            assert exact.mean() > 0.999  # but for sums in another order


def test_unmerged_at_scale_zero(made: Made, tmp_path: Path) -> None:
    merged = merge_loras(made.base, [Lora(made.ggufs["attention"], 0.0)], tmp_path / "same.gguf")
    np.testing.assert_array_equal(llama_logits(merged), made.plain)


@pytest.mark.parametrize(
    ("text", "path", "scale"),
    [
        ("opera.gguf", "opera.gguf", 1.0),
        ("opera.gguf:0.8", "opera.gguf", 0.8),
        ("a/b:c/opera", "a/b:c/opera", 1.0),
        ("C:opera.gguf:-2e-1", "C:opera.gguf", -0.2),
        ("opera:0", "opera", 0.0),
        ("7", "7", 1.0),
    ],
)
def test_file_and_scale(text: str, path: str, scale: float) -> None:
    assert Lora.parse(text) == Lora(Path(path), scale)


@pytest.mark.parametrize("text", ["a.gguf:nan", "a.gguf:inf", "a.gguf:-Infinity"])
def test_a_scale_is_a_number(text: str) -> None:
    with pytest.raises(
        RequestError, match=r"is not a LoRA scale; write a number up to 100, as in opera.gguf:0.8"
    ):
        Lora.parse(text)


def test_open_base_is_what_the_gguf_holds(made: Made) -> None:
    assert error(made.plain, torch_logits(open_base(made.checkpoint))) < 1e-4
