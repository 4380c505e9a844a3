"""What an importance matrix is, against transformers, and what a quantiser makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import dequantize
from helpers import FAST, OURS, Capture, cli, refused
from loras import SPEC, make_base, open_base
from yuegguf_convert.gguf_file import GgufFile, read_gguf
from yuegguf_convert.lm import convert_lm
from yuegguf_convert.quantize import quantize_gguf

from nano import untrained
from nano.lm_weights import write_llama
from nano.tokenizer import TEXT_PIECES, appended_pieces, build_tokenizer
from yuegguf.measure.importance import importance_matrix
from yuegguf.measure.quality import Passage

SONG = (*OURS, *FAST)
IDS = [np.random.default_rng(n).integers(0, SPEC.vocab, 150).tolist() for n in (1, 2)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_base(tmp_path_factory.mktemp("importance"))


@pytest.fixture(scope="module")
def found(base: tuple[Path, Path]) -> dict[str, np.ndarray]:
    return importance_matrix(base[1], [Passage(ids, []) for ids in IDS], 1)


def expected(checkpoint: Path) -> dict[str, np.ndarray]:
    """Mean squares of the inputs of every linear layer, by transformers."""
    model, seen = open_base(checkpoint), dict[str, list[np.ndarray]]()
    names = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output"}
    names |= {"gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            layer = name.split(".")[2:3]
            own = "output" if name == "lm_head" else f"blk.{layer[0]}.{names[name.split('.')[-1]]}"
            rows = seen.setdefault(f"{own}.weight", [])
            module.register_forward_pre_hook(lambda _m, given, rows=rows: rows.append(given[0][0].numpy()))
    with torch.no_grad():
        for ids in IDS:
            model(torch.tensor([ids]))
    return {name: np.square(np.concatenate(rows)).mean(axis=0) for name, rows in seen.items()}


def test_it_is_the_mean_square_of_what_each_matrix_is_multiplied_with(
    base: tuple[Path, Path], found: dict[str, np.ndarray]
) -> None:
    wanted = expected(base[0])
    assert found.keys() == wanted.keys()
    assert len(found) == 7 * SPEC.layers + 1
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=2e-3, atol=1e-6, err_msg=name)


def values(file: GgufFile, name: str) -> np.ndarray:
    tensor = file.tensors[name]
    return dequantize(file.read(tensor, 0, tensor.rows), tensor.kind)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_K_M", "Q3_K_M"])
def test_what_matters_is_rounded_with_more_care(kind: str, base: tuple[Path, Path], tmp_path: Path) -> None:
    model = read_gguf(base[1])
    chance = np.random.default_rng(3)
    names = [
        name for name, tensor in model.tensors.items() if name.startswith("blk.") and len(tensor.shape) == 2
    ]
    matters = {name: np.exp(3 * chance.standard_normal(model.tensors[name].shape[-1])) for name in names}

    def loss(path: Path) -> float:
        made, total = read_gguf(path), 0.0
        for name in names:
            exact, coded = values(model, name), values(made, name)
            total += float((matters[name] * (exact - coded) ** 2).sum() / (matters[name] * exact**2).sum())
        return total

    plain = quantize_gguf(base[1], tmp_path / "plain.gguf", kind)
    careful = quantize_gguf(base[1], tmp_path / "careful.gguf", kind, importance=matters)
    assert {n: t.kind for n, t in read_gguf(plain).tensors.items()} == {
        n: t.kind for n, t in read_gguf(careful).tensors.items()
    }
    assert loss(careful) < 0.9 * loss(plain)


def test_quantize_takes_it_from_songs(song: Path, capsys: Capture, tmp_path: Path) -> None:
    model = build_tokenizer()
    pieces = TEXT_PIECES + len(appended_pieces())
    write_llama(tmp_path / "stage2", untrained.spec(pieces, 8192), 2, model)
    exact = convert_lm(tmp_path / "stage2", tmp_path / "exact.gguf", out_type="F16")
    plain, careful = tmp_path / "plain.gguf", tmp_path / "careful.gguf"
    assert cli(capsys, "quantize", exact, "Q3_K_M", "-o", plain).code == 0
    result = cli(capsys, "quantize", exact, "Q3_K_M", "--song", song, "-o", careful)
    assert result.code == 0
    assert "reading 2706 ids of the songs" in result.err
    assert careful.stat().st_size == plain.stat().st_size
    assert careful.read_bytes() != plain.read_bytes()
    said = refused(capsys, 5, "quantize", exact, "Q8_0", "--song", song, "-o", tmp_path / "no.gguf")
    assert said == "Q8_0 rounds all columns alike; leave --song out"
    refused(capsys, 5, "quantize", exact, "Q4_0", "--song", tmp_path, "-o", tmp_path / "no.gguf")
    assert not (tmp_path / "no.gguf").exists()
