"""Files that a person puts into the folder of models by `convert`, `convert-lora` and `export-codec`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import Capture, cli, refused
from yuegguf_convert.quantize import KNOWN_TYPES

from yuegguf.errors import ModelNotFound
from yuegguf.models import inventory, lockfile
from yuegguf.models.lockfile import Installed
from yuegguf.models.registry import find_gguf, installed_quants


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models that is not there yet."""
    folder = tmp_path / "data" / "models"
    monkeypatch.setenv("YUEGGUF_MODELS_DIR", str(folder))
    return folder


def pulled(root: Path, model: str, quant: str, path: str) -> None:
    """Put a file there, with the entry that `pull` would write."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(b"pulled")
    facts = (6, "0" * 64, "apache-2.0", "m-a-p/x", "0" * 40, {"model.safetensors": f"sha256:{'0' * 64}"})
    lockfile.update_lock(root, [Installed(path, model, quant, *facts, "yuegguf 0")])


CASES = [
    (("convert", "{family}/stage1", "--name", "en-cot", "--type", "F16"), "en-cot", "F16", "en-cot-F16.gguf"),
    (("export-codec", "{family}/codec"), "xcodec", "", "xcodec/decoder.onnx"),
]


@pytest.mark.parametrize(("line", "model", "quant", "path"), CASES)
def test_the_lock_forgets_a_file_that_is_replaced_by_hand(
    line: tuple[str, ...], model: str, quant: str, path: str, family: Path, root: Path, capsys: Capture
) -> None:
    """Else `models verify` calls it damaged, and `pull` offers to get it again."""
    pulled(root, model, quant, path)
    pulled(root, "s2-general", "Q8_0", "s2-general-Q8_0.gguf")
    command = [part.format(family=family) for part in line]
    assert cli(capsys, *command).code != 0, "not without --force"
    assert set(lockfile.read_lock(root)) == {path, "s2-general-Q8_0.gguf"}
    assert cli(capsys, *command, "--force").code == 0
    assert set(lockfile.read_lock(root)) == {"s2-general-Q8_0.gguf"}
    report = json.loads(cli(capsys, "models", "verify", "--json").out)
    assert {Path(row["file"]).name: row["ok"] for row in report["files"]}[Path(path).name]


@pytest.mark.parametrize(("line", "model", "quant", "path"), CASES)
def test_a_damaged_lock_is_refused_before_the_work(
    line: tuple[str, ...], model: str, quant: str, path: str, family: Path, root: Path, capsys: Capture
) -> None:
    root.mkdir(parents=True)
    (root / lockfile.LOCK_NAME).write_text("{")
    refused(capsys, 7, *(part.format(family=family) for part in line))
    assert [file.name for file in root.iterdir()] == [lockfile.LOCK_NAME]


@pytest.mark.parametrize(
    "line",
    [
        ("convert", "{tmp}/nothing", "--name", "en-cot"),
        ("convert-lora", "{tmp}/nothing"),
        ("export-codec", "{tmp}/nothing"),
        ("convert", "{tmp}/nothing", "-o", "{tmp}/new/folder/a.gguf"),
        ("models", "rm", "en-cot"),
    ],
)
def test_a_command_that_is_refused_makes_no_folder(
    line: tuple[str, ...], root: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert cli(capsys, *(part.format(tmp=tmp_path) for part in line)).code in (3, 5, 7)
    assert list(tmp_path.iterdir()) == []


def test_verify_of_a_folder_without_models_is_no_verify_of_all(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, empty, codec = tmp_path / "models", tmp_path / "empty", tmp_path / "home" / "codec"
    for folder in (root, empty, codec):
        folder.mkdir(parents=True)
    said = refused(capsys, 3, "--models-dir", root, "models", "verify", empty)
    assert said.startswith(f"{empty} holds no graphs of a codec (.onnx)")
    monkeypatch.setenv("HOME", str(codec.parent))
    (codec / "decoder.onnx").write_bytes(b"x")
    assert inventory.files_of_name("~/codec", root) == [codec / "decoder.onnx"]


@pytest.mark.parametrize(
    "quant", [*sorted(KNOWN_TYPES - {"GUESSED"}), "q4_k_m", "Q4_K_XL", "Q4_0_4_4", "FP8"]
)
def test_every_type_is_one(quant: str, tmp_path: Path) -> None:
    (tmp_path / f"en-cot-{quant}.gguf").touch()
    assert list(installed_quants("en-cot", tmp_path)) == [quant]


@pytest.mark.parametrize(
    "name",
    [
        "opera-F32",
        "opera",
        "v2",
        "Q8_0-opera",
        "Q8_0_opera",
        "F16 (1)",
        "",
        "-Q8_0",
        "Q\N{ARABIC-INDIC DIGIT FIVE}",
    ],
)
def test_a_model_whose_name_begins_the_same_is_another(name: str, tmp_path: Path) -> None:
    (tmp_path / f"en-cot-{name}.gguf").touch()
    assert installed_quants("en-cot", tmp_path) == {}
    with pytest.raises(ModelNotFound, match="en-cot is not installed in"):
        find_gguf("en-cot", None, tmp_path)


@pytest.mark.parametrize("name", ["foo", "nano", "en", "a b", "en-cot-x", "xcodec", "upsampler"])
def test_a_name_that_no_command_would_find_is_refused(
    name: str, family: Path, root: Path, capsys: Capture
) -> None:
    said = refused(capsys, 5, "convert", family / "stage1", "--name", name)
    assert said.startswith(f"there is no language model called {name!a}; pass -o FILE, or one of en-cot, ")
    assert "xcodec" not in said.partition("one of")[2]
    assert not root.exists()


def test_a_name_is_taken_as_every_command_takes_it(family: Path, root: Path, capsys: Capture) -> None:
    for name, made in (("EN-COT", "en-cot"), ("m-a-p/YuE-s1-7B-anneal-zh-cot", "zh-cot")):
        line = ("convert", family / "stage1", "--name", name, "--type", "f16", "--json")
        assert cli(capsys, *line).json["file"] == str(root / f"{made}-F16.gguf")


@pytest.mark.parametrize("more", [(), ("--role", "stage2")])
def test_a_checkpoint_of_another_stage_is_not_installed(
    more: tuple[str, ...], family: Path, root: Path, tmp_path: Path, capsys: Capture
) -> None:
    source = family / ("stage1" if more else "stage2")
    said = refused(capsys, 5, "convert", source, "--name", "en-cot", *more)
    hint = "name another model with --name, or pass -o FILE"
    assert said == f"{source} is a stage-2 model, and en-cot is of stage 1; {hint}"
    assert not root.exists()
    assert cli(capsys, "convert", source, "--type", "F16", "-o", tmp_path / "my own.gguf", *more).code == 0
