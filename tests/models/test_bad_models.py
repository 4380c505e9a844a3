"""Wrong model and codec files: refused with one sentence before a token is drawn, and no work lost."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers import QUICK as FAST
from helpers import TEXT, Capture, Result, cli, ended, finish, run_refused, song_bytes, start

from yuegguf.codec.header import METADATA_KEY
from yuegguf.models.resolve import nano_models

NANO = nano_models()
SONG = (*TEXT, *FAST, "--model", "nano")
pytestmark = pytest.mark.usefixtures("no_models")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """stage1 and stage2 with the whole vocabulary, and all four again without our own metadata."""
    from yuegguf_convert.lm import convert_lm

    from nano.untrained import write_checkpoints

    root = tmp_path_factory.mktemp("models")
    write_checkpoints(root)
    for stage in ("stage1", "stage2"):
        convert_lm(root / stage, root / f"{stage}-full.gguf", out_type="Q8_0", trim=False)
        shutil.copy(getattr(NANO, stage), root / f"{stage}.gguf")
        for name in (stage, f"{stage}-full"):
            without_our_keys(root / f"{name}.gguf", root / f"{name}-foreign.gguf")
    return root


def without_our_keys(source: Path, out: Path) -> None:
    """The same model as another tool would have written it."""
    from yuegguf_convert.gguf_file import read_gguf, write_gguf

    model = read_gguf(source)
    plain = {key: value for key, value in model.metadata.items() if not key.startswith("yuegguf.")}
    tensors = list(model.tensors.values())
    write_gguf(out, plain, tensors, lambda t: iter([np.ascontiguousarray(model.read(t, 0, t.rows))]))


SWAP = "swap the files, or check --stage1-model and --stage2-model"


@pytest.mark.parametrize("kind", ["", "-full", "-foreign", "-full-foreign"])
def test_each_stage_given_as_the_other(kind: str, models: Path, capsys: Capture, tmp_path: Path) -> None:
    first, second = models / f"stage1{kind}.gguf", models / f"stage2{kind}.gguf"
    codec = ("--codec", NANO.codec, *FAST)
    said = run_refused(
        capsys, 7, tmp_path / "out", *TEXT, "--model", second, "--stage2-model", second, *codec
    )
    assert said == f"{second.name} is a stage-2 model, but it was given as stage-1; {SWAP}"
    said = run_refused(capsys, 7, tmp_path / "out", *TEXT, "--model", "nano", "--stage2-model", first, *codec)
    assert said == f"{first.name} is a stage-1 model, but it was given as stage-2; {SWAP}"


def test_a_foreign_stage1_needs_its_tokenizer_beside_it(
    models: Path, capsys: Capture, song: Path, tmp_path: Path
) -> None:
    model = tmp_path / "other tool.gguf"
    shutil.copy(models / "stage1-foreign.gguf", model)
    line = (*TEXT, *FAST, "--model", model, "--stage2-model", "nano", "--codec", NANO.codec)
    said = run_refused(capsys, 3, tmp_path / "out", *line)
    beside = tmp_path / "tokenizer.model"
    assert said == f"other tool.gguf carries no tokenizer; put YuE's tokenizer.model beside it, as {beside}"
    beside.write_bytes(b"rubbish")
    said = run_refused(capsys, 7, tmp_path / "out", *line)
    assert said == f"{beside} is a text (rubbish); use YuE's own tokenizer.model"
    beside.write_bytes(b"rubbish\1")
    said = run_refused(capsys, 7, tmp_path / "out", *line)
    assert said == "the tokenizer is damaged; use YuE's own tokenizer.model"
    shutil.copy(models / "stage1" / "tokenizer.model", beside)
    result = cli(capsys, "run", *line, "-o", tmp_path / "out", "--json")
    assert song_bytes(Path(result.json["folder"])) == song_bytes(song)


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_a_cut_or_foreign_gguf_is_refused_before_a_token_is_drawn(
    stage: str, capsys: Capture, tmp_path: Path
) -> None:
    whole, bad = getattr(NANO, stage).read_bytes(), tmp_path / "bad.gguf"
    flags = {"stage1": ("--model", bad), "stage2": ("--model", "nano", "--stage2-model", bad)}[stage]
    if stage == "stage1":
        flags += ("--stage2-model", "nano", "--codec", NANO.codec)
    contents = [whole[: len(whole) * i // 8] for i in range(1, 8)]
    contents += [whole[:-40], b"GGUF" + bytes(200), b"RIFF\1" * 99]
    contents.append(os.urandom(4096))
    for content in contents:
        bad.write_bytes(content)
        said = run_refused(capsys, 7, tmp_path / "out", *TEXT, *FAST, *flags)
        assert said.startswith(("bad.gguf is not a GGUF file; ", "bad.gguf is damaged: "))


def codec_copy(parent: Path) -> Path:
    folder = parent / "codec"
    folder.mkdir()
    for path in NANO.codec.glob("*.onnx"):
        shutil.copy(path, folder)
    return folder


@pytest.mark.parametrize("role", ["encoder", "decoder", "vocal_upsampler", "instrumental_upsampler"])
def test_a_bad_codec_is_refused_before_a_token_is_drawn(role: str, capsys: Capture, tmp_path: Path) -> None:
    folder = codec_copy(tmp_path)
    file = folder / f"{role}.onnx"
    whole = file.read_bytes()
    line = (tmp_path / "out", *TEXT, *FAST, "--model", "nano", "--codec", folder)
    for content in (
        b"",
        b"Entry not found",
        whole[:50],
        whole[: len(whole) // 2],
        whole[:-10],
        b"rubbish" * 99,
        os.urandom(4096),
    ):
        file.write_bytes(content)
        said = run_refused(capsys, 7, *line)
        assert said.startswith(str(file))
        assert said.endswith("; export the codec again")
    file.write_bytes(with_header(whole, fingerprint="0" * 64))
    assert run_refused(capsys, 7, *line).endswith(
        "are of different codecs: their codebooks differ; export them again"
    )
    file.write_bytes(with_header(whole, width=7))
    assert "are of different codecs: 1024 codes" in run_refused(capsys, 7, *line)
    file.write_bytes(with_header(whole, format=99))
    assert run_refused(capsys, 7, *line) == f"{file} was written by a newer yuegguf; update yuegguf"
    file.unlink()
    assert run_refused(capsys, 3, *line) == f"{file} is not there; make it with: yuegguf export-codec"


def with_header(content: bytes, **facts: object) -> bytes:
    model = onnx.load_from_string(content)
    header = json.loads({entry.key: entry.value for entry in model.metadata_props}[METADATA_KEY])
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps({**header, **facts})})
    return bytes(model.SerializeToString())


@pytest.mark.engine
def test_a_codec_whose_graph_is_damaged_loses_no_work(capsys: Capture, tmp_path: Path) -> None:
    """A header can be whole where weights are not: found when the graph is loaded, and mended by a resume."""
    folder = codec_copy(tmp_path)
    file = folder / "vocal_upsampler.onnx"
    model = onnx.load(file)
    model.graph.node[0].op_type = "NoSuchOperator"
    model.graph.node[0].domain = "nowhere"
    file.write_bytes(model.SerializeToString())
    result = cli(capsys, "run", *TEXT, *FAST, "--model", "nano", "--codec", folder, "-o", tmp_path / "out")
    assert result.code == 7
    made = next((tmp_path / "out").iterdir())
    assert f"{file} cannot be loaded" in result.error
    assert result.error.endswith(f"; export it again; then go on with: yuegguf resume {made}")
    assert np.load(made / "stage2.npz")["codes"].shape == (2, 8, 100)
    shutil.copy(NANO.codec / file.name, file)
    ended(cli(capsys, "resume", made, "--threads", 1))
    whole = ended(cli(capsys, "run", *SONG, "-o", tmp_path / "whole", "--json")).folder
    assert song_bytes(made) == song_bytes(whole)


# In another process: nothing but the line reaches the terminal


def test_no_library_talks_over_the_error(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(NANO.stage1.read_bytes()[:5000])
    result: Result = finish(
        start("run", *TEXT, "--model", bad, "--stage2-model", "nano", "--codec", NANO.codec)
    )
    assert (result.code, result.err.count("\n"), result.out) == (7, 1, "")
    assert sys.version_info >= (3, 11)
