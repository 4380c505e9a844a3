"""GGUFs of other tools: full padded vocabulary, no keys of ours, a tokenizer.model beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import Result, cli, ended, song_bytes
from yuegguf_convert.gguf_file import read_gguf, write_gguf
from yuegguf_convert.lm import convert_lm

from nano.lm_weights import LlamaSpec, write_llama
from nano.tokenizer import build_tokenizer
from yuegguf.models.resolve import nano_models

CONTEXT = {"stage1": 16384, "stage2": 8192}


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """stage1.gguf and stage2.gguf as another converter writes them."""
    root = tmp_path_factory.mktemp("foreign")
    for stage, context in CONTEXT.items():
        spec = LlamaSpec(hidden=64, layers=1, heads=4, kv_heads=2, ffn=96, vocab=9900, context=context)
        write_llama(root / "hf" / stage, spec, 3, build_tokenizer())
        ours = convert_lm(root / "hf" / stage, root / f"ours-{stage}.gguf", out_type="F16", trim=False)
        strip(ours, root / f"{stage}.gguf")
    return root


def strip(source: Path, target: Path) -> None:
    """Copy a GGUF without the metadata that only our converter writes."""
    model = read_gguf(source)
    metadata = {key: value for key, value in model.metadata.items() if not key.startswith("yuegguf.")}
    tensors = list(model.tensors.values())
    write_gguf(target, metadata, tensors, lambda tensor: iter([model.read(tensor, 0, tensor.rows)]))


def run(capsys: pytest.CaptureFixture[str], stage1: Path, stage2: Path, out: Path) -> Result:
    return cli(
        capsys,
        *("run", "-g", "pop", "--lyrics", "[verse]\nla la\n", "--segment-seconds", 1, "--seed", 5, "-t", 1),
        *("--stage1-model", stage1, "--stage2-model", stage2, "--kv-type", "f32"),
        *("--codec", nano_models().codec, "-o", out, "--json"),
    )


def test_without_a_tokenizer_it_is_refused_and_says_what_to_do(
    foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(capsys, foreign / "stage1.gguf", foreign / "stage2.gguf", tmp_path)
    assert result.code == 3
    assert result.error.startswith(
        "error: stage1.gguf carries no tokenizer; put YuE's tokenizer.model beside it"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.engine
def test_with_a_tokenizer_beside_it_runs_and_its_trimmed_copy_too(
    foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage1, stage2 = foreign / "stage1.gguf", foreign / "stage2.gguf"
    (foreign / "tokenizer.model").write_bytes(build_tokenizer())
    whole = run(capsys, stage1, stage2, tmp_path)
    ended(whole)
    for source in (stage1, stage2):
        target = foreign / f"trimmed-{source.name}"
        assert cli(capsys, "convert", source, "-o", target).code == 0
        assert target.stat().st_size < source.stat().st_size
    trimmed = run(capsys, stage1, foreign / "trimmed-stage2.gguf", tmp_path)
    first, second = (song_bytes(Path(made.json["folder"])) for made in (whole, ended(trimmed)))
    for name in ("tokens.log", "stage1.npz"):  # stage 2's last bits may follow the number of its pieces
        assert first[name] == second[name]
    assert len(first["mix.wav"]) == len(second["mix.wav"])
    ended(run(capsys, foreign / "trimmed-stage1.gguf", stage2, tmp_path))
