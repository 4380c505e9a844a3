"""Files that a person puts into the folder of models by `convert`, `convert-lora` and `export-codec`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import Capture, cli, refused

from yuegguf.models import inventory, lockfile
from yuegguf.models.lockfile import Installed


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
