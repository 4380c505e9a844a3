"""Random models of a shape: llama.cpp's own types, the size of a conversion, loadable, the same each time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import cli
from yuegguf_convert import synthetic
from yuegguf_convert.gguf_file import read_gguf
from yuegguf_convert.llama_tensors import LlamaConfig
from yuegguf_convert.quantize import quantize_gguf
from yuegguf_convert.synthetic import SHAPES, write_synthetic
from yuegguf_convert.trim import used_ids

from yuegguf.cli.bench import table
from yuegguf.errors import RequestError
from yuegguf.lm.llama import EngineOptions, LlamaEngine
from yuegguf.lm.protocol import SequenceInput
from yuegguf.lm.vocab import check_role, stage1_vocab, stage2_vocab

SMALL = LlamaConfig(256, 4, 4, 1, 64, 1408, 41000, 16384, 1e-5, 10000.0, False)
"""1,408 columns are no multiple of 256, like stage 2's 5,504."""


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_0", "Q4_K_M", "Q5_K_S", "Q2_K", "IQ4_XS"])
def test_types_are_those_of_a_real_quantisation(kind: str, tmp_path: Path) -> None:
    exact = tmp_path / "exact.gguf"
    synthetic._write_thin(exact, SMALL, 0)
    real = read_gguf(quantize_gguf(exact, tmp_path / "real.gguf", kind))
    found = read_gguf(write_synthetic(tmp_path / "made.gguf", "stage1", kind, config=SMALL, trim=False))
    assert {n: (t.kind, t.shape) for n, t in found.tensors.items()} == {
        n: (t.kind, t.shape) for n, t in real.tensors.items()
    }


@pytest.mark.parametrize(("role", "kept"), [("stage1", 33046), ("stage2", 8195)])
def test_a_trimmed_one_has_the_ids_of_a_trimmed_checkpoint(role: str, kept: int) -> None:
    vocab = synthetic._vocab(SHAPES[role].vocab)
    assert len(set(vocab.pieces)) == SHAPES[role].vocab
    assert len(used_ids(vocab.pieces, vocab.types, role, "")) == kept


def test_it_runs_and_knows_its_role(tmp_path: Path) -> None:
    for role, check in (("stage1", stage1_vocab), ("stage2", stage2_vocab)):
        config = replace(SMALL, context=SHAPES[role].context)
        path = write_synthetic(tmp_path / f"{role}.gguf", role, "Q4_K_M", config=config)
        engine = LlamaEngine(path, EngineOptions(64, 2, 1))
        check(engine.pieces)
        check_role(engine.metadata, role, path.name)
        logits = engine.decode([SequenceInput(0, [5, 6, 7]), SequenceInput(1, [8, 9])])
        assert logits.shape == (2, len(engine.pieces))
        assert np.isfinite(logits).all()
        assert logits.std() > 0.01
        engine.close()


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.gguf", "b.gguf", "c.gguf")]
    for path, seed in zip(paths, (0, 0, 1), strict=True):
        write_synthetic(path, "stage1", "Q8_0", config=SMALL, seed=seed)
    first, again, other = (path.read_bytes() for path in paths)
    assert first == again != other


def test_nothing_is_left_of_a_refusal(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="there is no type 'Q9'"):
        write_synthetic(tmp_path / "x.gguf", "stage1", "Q9", config=SMALL)
    (tmp_path / "there.gguf").touch()
    with pytest.raises(RequestError, match="is already there"):
        write_synthetic(tmp_path / "there.gguf", "stage1", "Q8_0", config=SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["there.gguf"]


def test_bench_reports_every_stage(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ("bench", "--shape", "nano", "--song-seconds", 6, "--seconds", 0.2, "--far", 64, "-t", 1)
    report = cli(capsys, *words, "--json").json
    assert report["song"] == 6.0
    assert [(s["stage"], s["rows"]) for s in report["stages"]] == [("stage1", 2), ("stage2", 2)]
    for stage in report["stages"]:
        assert min(stage["near_ms"], stage["far_ms"], stage["bandwidth_share"], stage["overhead"]) > 0
        assert stage["real_time"] == pytest.approx(stage["song_seconds"] / 6)
    assert report["render"]["song_seconds"] > 0
    assert "% of the memory's bandwidth, own overhead" in "\n".join(table(report))
    on_gpu = [{**stage, "bandwidth_share": None} for stage in report["stages"]]  # the GPU's memory is another
    lines = "\n".join(table({**report, "stages": on_gpu}))
    assert ("bandwidth" in lines, lines.count("on a GPU, own overhead")) == (False, 2)
    told = cli(capsys, *words, "--stages", "2").out
    assert "stage2  stage2.gguf" in told
    assert "stage1" not in told


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (("--stages", "3"), "'3' are not stages; use 1, 2, render"),
        (("--stages", ","), "',' are not stages"),
        (("--shape", "stage1", "--stages", "2"), "--shape stage1 leaves nothing of --stages 2"),
        (("--shape", "stage2", "--quant", "Q9"), "there is no type 'Q9'"),
    ],
)
def test_bench_refuses_in_a_sentence(
    capsys: pytest.CaptureFixture[str], extra: tuple[str, ...], words: str
) -> None:
    result = cli(capsys, "bench", *extra)
    assert result.code == 5
    assert words in result.err
    assert len([line for line in result.err.splitlines() if "Traceback" in line]) == 0
