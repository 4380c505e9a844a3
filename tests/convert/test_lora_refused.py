"""LoRA adapters that cannot be used: each refused with its sentence, and nothing left behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapters import Tensors, configure, rewrite, write_peft
from helpers import FAST, TEXT, Capture, cli, refused, run_refused
from yuegguf_convert.gguf_file import GgufFile, Value, number, read_gguf, text, write_gguf
from yuegguf_convert.lm import convert_lm
from yuegguf_convert.lora import convert_lora
from yuegguf_convert.peft import CONFIG, WEIGHTS

from nano.lm_weights import LlamaSpec, write_llama
from nano.tokenizer import build_tokenizer
from yuegguf.models.resolve import nano_models

NANO = nano_models()
BASE = NANO.stage1
pytestmark = pytest.mark.usefixtures("no_models")
MERGE = "merge it with PEFT's merge_and_unload, then: yuegguf convert FOLDER"
OTHER = "name the model that it was trained on with --base, or save the adapter again"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good PEFT folder for the bundled stage 1, to be spoilt."""
    return write_peft(tmp_path / "opera", BASE)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good GGUF adapter of the bundled stage 1."""
    root = tmp_path_factory.mktemp("adapter")
    return convert_lora(write_peft(root / "opera", BASE), root / "opera.gguf", base=BASE)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF of another width."""
    root = tmp_path_factory.mktemp("narrow")
    spec = LlamaSpec(hidden=32, layers=1, heads=2, kv_heads=2, ffn=64, vocab=9900, context=16384)
    write_llama(root, spec, 4, build_tokenizer())
    return convert_lm(root, root / "narrow.gguf", out_type="F32")


def not_converted(capsys: Capture, code: int, folder: Path, *options: object) -> str:
    """What `convert-lora` says of a folder that it must refuse without writing a thing."""
    before = sorted(folder.parent.rglob("*"))
    options = options or ("--base", BASE)
    said = refused(capsys, code, "convert-lora", folder, *options, "-o", folder.parent / "out.gguf")
    assert sorted(folder.parent.rglob("*")) == before
    return said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"use_dora": True}, "asks for use_dora: DoRA, whose magnitudes come on top of the two matrices"),
        ({"modules_to_save": ["lm_head"]}, "asks for modules_to_save: whole modules of its own"),
        ({"lora_bias": True}, "asks for lora_bias: biases"),
        ({"bias": "all"}, "asks for bias 'all': biases, which YuE does not have"),
        ({"bias": "lora_only"}, "asks for bias 'lora_only': biases, which YuE does not have"),
        ({"rank_pattern": {"q_proj": 8}}, "asks for rank_pattern: other ranks for some modules"),
        ({"alpha_pattern": {"q_proj": 8}}, "asks for alpha_pattern: other scales for some modules"),
        (
            {"init_lora_weights": "pissa_niter_4"},
            "asks for init_lora_weights 'pissa_niter_4', which changes the base model",
        ),
        ({"alora_invocation_tokens": [1, 2]}, "asks for alora_invocation_tokens: aLoRA, which waits"),
    ],
)
def test_more_than_two_matrices(change: dict[str, Any], said: str, folder: Path, capsys: Capture) -> None:
    configure(folder, **change)
    found = not_converted(capsys, 7, folder)
    assert found.startswith(f"{CONFIG} {said}")
    assert found.endswith(f"; {MERGE}")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "IA3"}, "describes 'IA3', not a LoRA; pass a LoRA adapter"),
        ({"r": 0}, "has no usable r (0); save the adapter again"),
        ({"r": "8"}, "has no usable r ('8'); save the adapter again"),
        ({"lora_alpha": 0}, "has no usable lora_alpha (0); save the adapter again"),
        ({"lora_alpha": True}, "has no usable lora_alpha (True); save the adapter again"),
    ],
)
def test_a_config_that_says_nothing_usable(
    change: dict[str, Any], said: str, folder: Path, capsys: Capture
) -> None:
    configure(folder, **change)
    assert not_converted(capsys, 7, folder) == f"{CONFIG} {said}"


def test_harmless_settings_are_not_refused(folder: Path, tmp_path: Path) -> None:
    configure(folder, use_dora=False, rank_pattern={}, modules_to_save=None, init_lora_weights="gaussian")
    assert convert_lora(folder, tmp_path / "out.gguf", base=BASE).is_file()


def test_files_that_are_missing_or_damaged(folder: Path, capsys: Capture) -> None:
    config, weights = (folder / CONFIG).read_bytes(), (folder / WEIGHTS).read_bytes()
    (folder / CONFIG).write_bytes(config[:-9])
    assert not_converted(capsys, 7, folder).startswith(f"{CONFIG} is damaged: ")
    (folder / CONFIG).unlink()
    said = not_converted(capsys, 3, folder)
    assert said == f"there is no {CONFIG} in {folder}; pass the folder that PEFT saved"
    (folder / CONFIG).write_bytes(config)
    (folder / WEIGHTS).write_bytes(weights[:-100])
    assert not_converted(capsys, 7, folder).startswith(f"{WEIGHTS} is truncated: tensor ")
    wrong = (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    said = not_converted(capsys, 7, folder)
    assert said == f"{wrong} is a safetensors file; rename it: mv {wrong} {folder / WEIGHTS}"
    wrong.unlink()
    said = not_converted(capsys, 3, folder)
    assert said.endswith(f"{folder}; save the adapter with save_pretrained (safetensors)")


def first_q(half: str) -> str:
    return f"base_model.model.model.layers.0.self_attn.q_proj.lora_{half}.weight"


def without_b(tensors: Tensors) -> Tensors:
    del tensors[first_q("B")]
    return tensors


def with_a_bias(tensors: Tensors) -> Tensors:
    return {**tensors, "base_model.model.model.layers.0.self_attn.q_proj.bias": np.zeros(3, np.float32)}


def too_short(tensors: Tensors) -> Tensors:
    return {**tensors, first_q("B"): np.ascontiguousarray(tensors[first_q("B")][:-1])}


def with_nan(tensors: Tensors) -> Tensors:
    return {**tensors, first_q("B"): np.full_like(tensors[first_q("B")], np.nan)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_b, f"missing: {first_q('B')}"),
        (with_a_bias, "unknown: base_model.model.model.layers.0.self_attn.q_proj.bias"),
        (too_short, f"of another shape: {first_q('B')} ("),
        (lambda tensors: {}, "it holds no tensors"),
    ],
)
def test_tensors_that_do_not_fit(
    change: Callable[[Tensors], Tensors], said: str, folder: Path, capsys: Capture
) -> None:
    rewrite(folder, change)
    found = not_converted(capsys, 7, folder)
    assert found.startswith(f"the adapter of rank 4 does not fit {BASE.name}; {said}")
    assert found.endswith(f"; {OTHER}")


def test_nan_is_refused_with_the_tensors_name(folder: Path, capsys: Capture) -> None:
    rewrite(folder, with_nan)
    assert not_converted(capsys, 7, folder).startswith(f"tensor {first_q('B')} holds NaN or Inf; ")


def test_another_rank_than_the_config_says(folder: Path, capsys: Capture) -> None:
    configure(folder, r=8)
    said = not_converted(capsys, 7, folder)
    width = read_gguf(BASE).metadata["llama.embedding_length"].data
    assert f"of another shape: {first_q('A')} (4, {width}) instead of (8, {width})" in said
    assert "more" in said  # every half is wrong, and the sentence stays short
    assert len(said) < 1200


def test_another_base(folder: Path, narrow: Path, capsys: Capture) -> None:
    said = not_converted(capsys, 7, folder, "--base", narrow)
    assert said.startswith("the adapter of rank 4 does not fit narrow.gguf; unknown: base_model")
    assert " of another shape: " in said
    said = not_converted(capsys, 7, folder, "--name", "opera")  # no base named
    assert said.startswith("the adapter of rank 4 does not fit YuE's 7B stage 1; of another shape: ")
    assert said.endswith(OTHER)
    assert not_converted(capsys, 3, folder, "--base", "none.gguf").startswith("there is no file none.gguf; ")


# GGUF adapters at `run --lora`


def sung(capsys: Capture, code: int, tmp_path: Path, *loras: object) -> str:
    """What `run` says of adapters that it must refuse before a folder is made."""
    flags = [part for lora in loras for part in ("--lora", lora)]
    return run_refused(capsys, code, tmp_path / "out", *TEXT, *FAST, *flags)


def rewritten(file: GgufFile, out: Path, skip: tuple[str, ...] = (), **metadata: Value) -> Path:
    """A GGUF without some tensors and with other metadata; _ stands for the dots of its keys."""
    changed = {key.replace("_", "."): value for key, value in metadata.items()}
    tensors = [tensor for name, tensor in file.tensors.items() if name not in skip]
    write_gguf(
        out,
        {**file.metadata, **changed},
        tensors,
        lambda t: iter([file.read(file.tensors[t.name], 0, t.rows)]),
    )
    return out


MAKE = "make one with: yuegguf convert-lora FOLDER"


def test_what_is_no_adapter(adapter: Path, tmp_path: Path, capsys: Capture) -> None:
    bad, whole = tmp_path / "bad.gguf", adapter.read_bytes()
    said = sung(capsys, 7, tmp_path, BASE)
    assert said == f"{BASE.name} is not a LoRA adapter of a LLaMA: its general.type is 'model'; {MAKE}"
    for content in (b"RIFF\1" * 99, whole[:20], whole[:300], b"GGUF" + bytes(200)):
        bad.write_bytes(content)
        said = sung(capsys, 7, tmp_path, bad)
        assert said.startswith(("bad.gguf is not a GGUF file; ", "bad.gguf is damaged: it"))
    bad.write_bytes(whole[:-40])
    assert sung(capsys, 7, tmp_path, bad).startswith(
        "bad.gguf is damaged: it ends before the end of tensor blk."
    )
    for key, value, what in (
        ("general_architecture", text("qwen2"), "general.architecture is 'qwen2'"),
        ("adapter_type", text("control_vector"), "adapter.type is 'control_vector'"),
        ("adapter_type", number(read_gguf(adapter).metadata["general.file_type"].kind, 3), "type is None"),
    ):
        rewritten(read_gguf(adapter), bad, **{key: value})
        assert f"{what}; {MAKE}" in sung(capsys, 7, tmp_path, bad)


def test_an_alpha_that_would_end_llama_cpp(adapter: Path, tmp_path: Path, capsys: Capture) -> None:
    file = read_gguf(adapter)
    alpha = replace(file.metadata["adapter.lora.alpha"], kind=file.metadata["general.file_type"].kind, data=8)
    bad = rewritten(file, tmp_path / "bad.gguf", adapter_lora_alpha=alpha)
    said = sung(capsys, 7, tmp_path, bad)
    assert said == f"bad.gguf is damaged: its adapter.lora.alpha is no 32-bit number; {MAKE}"


def test_an_adapter_that_does_not_fit_the_model(
    adapter: Path, narrow: Path, tmp_path: Path, capsys: Capture
) -> None:
    half = rewritten(read_gguf(adapter), tmp_path / "half.gguf", skip=("blk.0.attn_q.weight.lora_a",))
    said = sung(capsys, 7, tmp_path, half)
    assert said == (
        f"half.gguf does not fit {BASE.name}: missing: blk.0.attn_q.weight.lora_a; "
        "use the model that it was trained on"
    )
    folder = write_peft(tmp_path / "peft", narrow)
    other = convert_lora(folder, tmp_path / "other.gguf", base=narrow)
    said = sung(capsys, 7, tmp_path, other)
    assert said.startswith(
        f"other.gguf does not fit {BASE.name}: of another shape: blk.0.attn_q.weight.lora_a"
    )


def test_files_that_are_not_there(adapter: Path, tmp_path: Path, capsys: Capture) -> None:
    made = "make it with: yuegguf convert-lora FOLDER"
    said = sung(capsys, 3, tmp_path, tmp_path / "none.gguf")
    assert said == f"there is no LoRA adapter {tmp_path / 'none.gguf'}; {made}"
    said = sung(capsys, 3, tmp_path, "opera:0.8")
    assert said == f"there is no LoRA adapter {tmp_path / 'no models' / 'loras' / 'opera.gguf'}; {made}"
    folder = adapter.parent / "opera"
    hint = f"convert it first: yuegguf convert-lora {folder}"
    assert sung(capsys, 5, tmp_path, folder) == f"{folder} is a folder, not a GGUF adapter; {hint}"
    assert "is not a LoRA scale" in sung(capsys, 5, tmp_path, f"{adapter}:nan")


def test_three_at_once(adapter: Path, tmp_path: Path, capsys: Capture) -> None:
    said = sung(capsys, 5, tmp_path, adapter, adapter, f"{adapter}:0.1")
    assert said == (
        "llama.cpp adds more than 2 LoRAs in an order that may change from run to run; "
        "put the others into the model first: yuegguf merge-lora"
    )
    off = (*TEXT, *FAST, "--lora", adapter, "--lora", f"{adapter}:0", "--lora", adapter)
    assert cli(capsys, "run", *off, "--plan", "--json").code == 0


# merge-lora


def test_a_quantised_base_is_not_merged_into(adapter: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "merged.gguf"
    said = refused(capsys, 5, "merge-lora", BASE, adapter, "-o", out)
    assert said.startswith(f"{BASE.name} is quantised (")
    hint = "merge into the F32, F16 or BF16 file, then: yuegguf quantize"
    assert said.endswith(f"), which nothing can be added to; {hint}")
    assert not out.exists()


def test_a_merge_that_does_not_fit(adapter: Path, narrow: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "merged.gguf"
    said = refused(capsys, 7, "merge-lora", narrow, adapter, "-o", out)
    assert said.startswith("opera.gguf does not fit narrow.gguf: unknown: blk.")
    said = refused(capsys, 7, "merge-lora", narrow, narrow, "-o", out)
    assert said.startswith("narrow.gguf is not a LoRA adapter")
    shutil.copy(narrow, out)
    good = convert_lora(write_peft(tmp_path / "peft", narrow), tmp_path / "good.gguf", base=narrow)
    said = refused(capsys, 5, "merge-lora", narrow, good, "-o", out)
    assert "is already there" in said
    assert cli(capsys, "merge-lora", narrow, f"{good}:0.5", "-o", out, "--force").code == 0
    assert read_gguf(out).metadata["yuegguf.loras"].texts == ["good.gguf:0.5"]
