"""Full disks and folders that cannot be written: nothing lost, nothing half written left."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import QUICK as FAST
from helpers import TEXT, Capture, cli, ended, refused, song_bytes

from yuegguf.errors import StorageError
from yuegguf.files import atomic
from yuegguf.pipeline import create
from yuegguf.song import token_log

SONG = (*TEXT, *FAST, "--model", "nano")
pytestmark = pytest.mark.usefixtures("no_models")


class FullDisk:
    """`os` for the token log, on a disk that has room for so many more bytes."""

    def __init__(self, room: int) -> None:
        self.room = room

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def write(self, handle: int, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = data[: self.room]
        self.room -= len(part)
        return os.write(handle, part)


FULL = "the disk is full: {file} could not be written; free some space and try again"


@pytest.mark.parametrize("room", [0, 300, 301, 302, 303])
def test_a_disk_that_fills_up_while_drawing_loses_no_token(
    room: int, song: Path, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(token_log, "os", FullDisk(room))
        result = cli(capsys, "run", *TEXT, *FAST, "--model", "nano", "-o", tmp_path)
    folder = next(tmp_path.glob("*/song.json")).parent
    assert result.code == 1
    sentence = FULL.format(file=folder / "tokens.log")
    assert result.error == f"error: {sentence}; then go on with: yuegguf resume {folder}"
    assert (folder / "tokens.log").read_bytes() == song_bytes(song)["tokens.log"][:room]
    ended(cli(capsys, "resume", folder, "--threads", 1))
    assert song_bytes(folder) == song_bytes(song)


@pytest.mark.parametrize(
    "name",
    ["stage1.npz", "0-000000.npz", "1-000000.npz", "stage2.npz", "mix.wav", "vocals.wav", "markers.txt"],
)
def test_a_disk_that_fills_up_at_a_file_keeps_all_before_it(
    name: str, song: Path, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flush(path: Path) -> None:
        if path.name == name:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "flush", flush)
        result = cli(capsys, "run", *TEXT, *FAST, "--model", "nano", "-o", tmp_path)
    folder = next(tmp_path.glob("*/song.json")).parent
    file = folder / "chunks" / name if name[0] in "01" else folder / name
    assert result.code == 1
    assert result.error == f"error: {FULL.format(file=file)}; then go on with: yuegguf resume {folder}"
    assert not [path for path in folder.rglob("*") if path.name.endswith(".part") or path.name == name]
    assert (folder / "tokens.log").read_bytes() == song_bytes(song)["tokens.log"]
    ended(cli(capsys, "resume", folder, "--threads", 1))
    assert song_bytes(folder) == song_bytes(song)


def test_a_disk_without_room_for_the_first_file_leaves_no_folder(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flush(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic, "flush", flush)
    said = refused(capsys, 1, "run", *TEXT, *FAST, "--model", "nano", "-o", tmp_path / "out")
    assert said.startswith("the disk is full: ")
    assert list((tmp_path / "out").iterdir()) == []


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A real file system of a few kilobytes; skips where mounting is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small disk needs rights that this user does not have")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_song_that_the_disk_cannot_take_is_refused(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 100 * (64 + 3 * 882 * 2)  # frames, each with its codes, and samples of three files
    asked = ("run", *TEXT, *SONG[len(TEXT) :], "-o", tmp_path / "out")
    free = type("usage", (), {"free": needed - 1})()
    monkeypatch.setattr("shutil.disk_usage", lambda _path: free)
    said = refused(capsys, 1, *asked)
    assert said == (
        f"this song needs 0.5 MB of disk, and 0.5 MB are free in {tmp_path}; free some space, or choose "
        "another folder with --output-dir"
    )
    free.free = 2 * needed - 1
    assert refused(capsys, 1, *asked, "-n", 2).startswith("this song needs 1.1 MB")
    assert not (tmp_path / "out").exists()
    free.free = needed
    assert cli(capsys, *asked).code == 0


@pytest.mark.parametrize("size", ["4k", "8k", "16k", "128k", "256k", "512k"])
def test_a_real_disk_that_others_fill_while_a_song_is_generated(
    size: str, song: Path, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(create, "check_free_disk", lambda *_asked: None)  # there was room when it was asked
    disk = tmp_path / "disk"
    with small_disk(disk, size):
        result = cli(capsys, "run", *TEXT, *FAST, "--model", "nano", "-o", disk)
        assert result.code == 1
        assert "the disk is full: " in result.error or "; check the free space" in result.error
        made = [path.parent for path in disk.glob("*/song.json")]
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        if made:
            assert result.error.endswith(f"go on with: yuegguf resume {made[0]}")
            ended(cli(capsys, "resume", made[0], "--threads", 1))
            assert song_bytes(made[0]) == song_bytes(song)
        else:
            assert list(disk.iterdir()) == []


def test_folders_that_cannot_be_written(capsys: Capture, song: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    said = refused(capsys, 1, "run", *TEXT, *FAST, "--model", "nano", "-o", file)
    assert said.startswith(f"{file}/pop-")
    assert said.endswith(" could not be written (File exists); check the path")
    said = refused(capsys, 1, "decode", song, "-o", file)
    assert said == f"{file} could not be written (File exists); check the path"
    recording = tmp_path / "a.wav"
    soundfile.write(recording, np.zeros(16000), 16000)
    refused(capsys, 1, "encode", recording, "-o", file, "--threads", 1)
    refused(capsys, 1, "--models-dir", file, "convert", tmp_path, "--name", "en-cot")
    assert file.read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(capsys: Capture, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    said = refused(capsys, 1, "run", *TEXT, *FAST, "--model", "nano", "-o", locked)
    assert said.endswith(" is not writable; choose another folder or change its permissions")


@pytest.mark.parametrize("command", ["convert", "export-codec"])
def test_a_models_folder_that_cannot_be_made(command: str, capsys: Capture, tmp_path: Path) -> None:
    from nano.untrained import write_checkpoints

    write_checkpoints(tmp_path)
    (tmp_path / "file").write_text("mine")
    line = ("convert", tmp_path / "stage1", "--name", "en-cot")
    line = line if command == "convert" else ("export-codec", tmp_path / "codec")
    for root in (tmp_path / "file" / "models", Path("/proc/nowhere/models")):
        result = cli(capsys, "--models-dir", root, *line)
        assert result.code == 1
        assert "unexpected" not in result.error
        assert result.error.startswith(f"error: {root}")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_disk_that_fills_up_at_the_last_file_keeps_the_old_codec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from yuegguf_onnx_codec import export

    from nano import codec_weights

    codec_weights.write(tmp_path / "checkpoints")
    out = tmp_path / "out"
    out.mkdir()
    for role in export.GRAPH_ROLES:
        (out / f"{role}.onnx").write_text("old")

    def flush(path: Path) -> None:
        assert path.parent != out
        if path.name == f"{export.GRAPH_ROLES[-1]}.onnx":
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export, "flush", flush)
    with pytest.raises(StorageError, match="the disk is full"):
        export.export_codec(*export.find_checkpoints(tmp_path / "checkpoints"), out, overwrite=True)
    assert [path.read_text() for path in out.iterdir()] == ["old"] * 4


CONVERTERS = (
    ("convert", "stage2"),
    ("convert", "stage2", "--type", "Q4_K_M"),
    ("quantize", "exact.gguf", "Q8_0"),
    ("trim", "exact.gguf"),
    ("export-codec", "codec"),
    ("convert-lora", "opera", "--base", "exact.gguf"),
    ("merge-lora", "exact.gguf", "opera.gguf"),
)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained checkpoints, a model that was converted from one, and an adapter of it in both formats."""
    from adapters import write_peft
    from yuegguf_convert.lm import convert_lm
    from yuegguf_convert.lora import convert_lora

    from nano.untrained import write_checkpoints

    folder = tmp_path_factory.mktemp("checkpoints")
    write_checkpoints(folder)
    base = convert_lm(folder / "stage2", folder / "exact.gguf", out_type="F16", trim=False)
    convert_lora(write_peft(folder / "opera", base), folder / "opera.gguf", base=base)
    return folder


@pytest.mark.parametrize("line", CONVERTERS, ids=" ".join)
def test_every_converter_calls_a_full_disk_by_its_name(
    line: tuple[str, ...], checkpoints: Path, capsys: Capture, tmp_path: Path
) -> None:
    word, *rest = (str(checkpoints / part) if (checkpoints / part).exists() else part for part in line)
    with small_disk(tmp_path / "disk", "4k" if word == "convert-lora" else "64k"):
        out = tmp_path / "disk" / ("codec" if word == "export-codec" else "m.gguf")
        said = refused(capsys, 1, word, *rest, "-o", out)
        assert said.startswith("the disk is full: ")
        assert said.rstrip().endswith("could not be written; free some space and try again")
        assert list((tmp_path / "disk").iterdir()) == []
