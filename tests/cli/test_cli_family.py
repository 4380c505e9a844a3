"""From published checkpoints to a song: convert, export-codec, models and doctor."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers import FAST, OURS, Capture, Result, cli, ended, finish, song_bytes, start

pytestmark = pytest.mark.usefixtures("no_models")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Result]]:
    """A models folder made from checkpoints in the published layout by the three commands."""
    from nano.untrained import write_checkpoints

    root = tmp_path_factory.mktemp("published")
    write_checkpoints(root)
    stage1, stage2 = (
        root / "YuE-s1-7B-anneal-en-cot",
        root / "models--m-a-p--YuE-s2-1B-general" / "snapshots" / "1",
    )
    stage2.parent.mkdir(parents=True)
    shutil.move(root / "stage1", stage1)
    shutil.move(root / "stage2", stage2)
    models = root / "models"
    lines = [
        ("convert", stage1),
        ("convert", stage2),
        ("convert", stage1, "--type", "f16", "--name", "zh-cot", "--no-trim"),
        ("export-codec", root / "codec"),
    ]
    return models, [finish(start("--models-dir", models, *line, "--json")) for line in lines]


def test_converted_files_are_installed_under_their_ids(installed: tuple[Path, list[Result]]) -> None:
    models, results = installed
    assert [result.code for result in results] == [0] * 4, [result.err for result in results]
    names = ("en-cot-Q8_0.gguf", "s2-general-Q8_0.gguf", "zh-cot-F16.gguf")
    for name, result in zip(names, results, strict=False):
        assert result.json == {"file": str(models / name), "bytes": (models / name).stat().st_size}
    roles = ("encoder", "decoder", "vocal_upsampler", "instrumental_upsampler")
    assert results[3].json == {"files": [str(models / "xcodec" / f"{role}.onnx") for role in roles]}
    assert sorted(path.name for path in models.iterdir()) == sorted([*names, "xcodec"])


@pytest.fixture(scope="module")
def by_files(installed: tuple[Path, list[Result]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A song of the installed family with every file named."""
    models = installed[0]
    files = ("--model", models / "en-cot-Q8_0.gguf", "--stage2-model", models / "s2-general-Q8_0.gguf")
    line = ("run", *OURS, *FAST[:-2], *files, "--codec", models / "xcodec", "--json")
    result = finish(start(*line, "-o", tmp_path_factory.mktemp("by-files")))
    ended(result)
    return Path(result.json["folder"])


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("--model", "en-cot", "--stage2-model", "s2-general"),
        ("--stage1_model", "m-a-p/YuE-s1-7B-anneal-en-cot", "--stage2_model", "m-a-p/YuE-s2-1B-general"),
        ("--quant", "q8_0"),
        ("--model", "{models}/en-cot-Q8_0.gguf", "--codec", "{models}/xcodec"),
    ],
)
def test_an_installed_family_generates_by_name_what_its_files_generate(
    names: tuple[str, ...],
    capsys: Capture,
    installed: tuple[Path, list[Result]],
    by_files: Path,
    tmp_path: Path,
) -> None:
    """The same files, so the same song to the byte."""
    models = installed[0]
    args = [name.format(models=models) for name in names]
    line = ("--models-dir", models, "run", *OURS, *FAST[:-2], *args, "-o", tmp_path, "--json")
    result = cli(capsys, *line)
    ended(result)
    assert "note:" not in result.err
    assert song_bytes(Path(result.json["folder"])) == song_bytes(by_files)


def test_an_untrimmed_f16_model_runs_too(
    capsys: Capture, installed: tuple[Path, list[Result]], tmp_path: Path
) -> None:
    line = (
        "--models-dir",
        installed[0],
        "run",
        *OURS,
        *FAST[:-2],
        "--model",
        "zh-cot",
        "-o",
        tmp_path,
        "--json",
    )
    result = cli(capsys, *line)
    ended(result)
    assert result.json["seconds"] == 3.0
    again = tmp_path / "trimmed.gguf"
    made = cli(capsys, "convert", installed[0] / "zh-cot-F16.gguf", "-o", again, "--json")
    assert made.json == {"file": str(again), "bytes": again.stat().st_size}
    assert again.stat().st_size < (installed[0] / "zh-cot-F16.gguf").stat().st_size


def test_models_list_and_doctor_show_what_is_installed(
    capsys: Capture, installed: tuple[Path, list[Result]]
) -> None:
    models = installed[0]
    listed = cli(capsys, "--models-dir", models, "models", "list", "--json").json
    there = {row["id"]: row["installed"] for row in listed["models"] if row["installed"]}
    assert there == {
        "en-cot": [str(models / "en-cot-Q8_0.gguf")],
        "zh-cot": [str(models / "zh-cot-F16.gguf")],
        "s2-general": [str(models / "s2-general-Q8_0.gguf")],
        "xcodec": [str(models / "xcodec")],
    }
    assert listed["models_dir"] == str(models)
    lines = cli(capsys, "--models-dir", models, "models", "list").out.splitlines()
    assert len(lines) == 13
    assert lines[0] == (
        "en-cot       stage1    installed Apache-2.0  English; sings from tags and lyrics (en-cot-Q8_0.gguf)"
    )
    assert lines[2] == (
        "zh-cot       stage1    installed Apache-2.0  Mandarin and Cantonese; sings from tags and lyrics "
        "(zh-cot-F16.gguf)"
    )
    facts = cli(capsys, "--models-dir", models, "doctor", "--json").json
    assert facts["models"] == ["en-cot-Q8_0.gguf", "s2-general-Q8_0.gguf", "zh-cot-F16.gguf"]
    assert (facts["codec"], facts["models_dir"]) == (str(models / "xcodec"), str(models))


def test_doctor_on_a_bare_machine(capsys: Capture) -> None:
    result = cli(capsys, "doctor", "--json")
    facts = result.json
    assert result.code == (1 if facts["problems"] else 0)
    assert result.err == ""
    assert (facts["models"], facts["codec"]) == ([], "bundled nano")
    assert set(facts["fits"]) == {"Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16"}
    text = cli(capsys, "doctor").out
    assert "models       none installed; the bundled nano is used\n" in text
    assert text.count(" needs ") == 5


def test_a_codec_that_is_there_is_replaced_on_request_only(capsys: Capture, tmp_path: Path) -> None:
    from nano import codec_weights

    codec_weights.write(tmp_path / "checkpoints")
    out = tmp_path / "out"
    out.mkdir()
    (out / "decoder.onnx").write_bytes(b"mine")
    line = ("export-codec", tmp_path / "checkpoints", "-o", out)
    result = cli(capsys, *line)
    assert result.code == 5
    hint = "choose another place with -o, or replace it with --force"
    assert result.error == f"error: {out / 'decoder.onnx'} is already there; {hint}"
    assert [path.name for path in out.iterdir()] == ["decoder.onnx"]
    assert cli(capsys, *line, "--force").code == 0
    assert (out / "decoder.onnx").stat().st_size > 1000
    assert len(list(out.iterdir())) == 4


def test_quantize_and_trim_say_what_became_of_the_tensors(
    installed: tuple[Path, list[Result]], capsys: Capture, tmp_path: Path
) -> None:
    root, _ = installed
    source = root / "zh-cot-F16.gguf"
    made = cli(capsys, "quantize", source, "q8_0", "-o", tmp_path / "small.gguf", "--json")
    assert made.code == 0, made.err
    assert made.json["bytes"] == (tmp_path / "small.gguf").stat().st_size < source.stat().st_size
    assert set(made.json["tensors"]) == {"Q8_0", "F32"}
    again = cli(capsys, "quantize", tmp_path / "small.gguf", "Q4_0", "-o", tmp_path / "worse.gguf")
    assert again.code == 5
    assert "is quantised already" in again.err
    taken = cli(capsys, "quantize", source, "Q8_0", "-o", tmp_path / "small.gguf")
    assert taken.code != 0
    assert "--force" in taken.err
    trimmed = cli(capsys, "trim", source, "-o", tmp_path / "trimmed.gguf", "--json")
    assert trimmed.code == 0, trimmed.err
    assert trimmed.json["bytes"] < source.stat().st_size
    assert set(trimmed.json["tensors"]) == {"F16", "F32"}
