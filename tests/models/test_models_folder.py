"""The folder of models: one process changes it at a time, and nothing outside is written or removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from helpers import Capture, Result, cli, finish, start
from hub import Hub
from models_folder import bytes_below, entry, install, linked, remove
from yuegguf_convert.target import partial_file, scratch_file

from yuegguf.errors import DamagedFile, RequestError, StorageError
from yuegguf.files.atomic import OWNER_LOCK, WORKSPACE_PREFIX, WORKSPACE_SUFFIX
from yuegguf.models import hub_client, lockfile
from yuegguf.models.pull import _Puller

BUSY = "another yuegguf is changing the models in {root}; wait for it to end"


def test_rm_waits_for_no_pull_and_changes_nothing(capsys: Capture, root: Path) -> None:
    before = bytes_below(root)
    with lockfile.exclusive(root):
        result = remove(capsys, root, "en-cot")
    assert (result.code, result.error) == (1, "error: " + BUSY.format(root=root))
    assert bytes_below(root) == before
    assert remove(capsys, root, "en-cot").code == 0
    assert set(lockfile.read_lock(root)) == {"xcodec/decoder.onnx"}


def test_rm_against_a_pull_at_work(
    capsys: Capture, hub: Hub, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a download, from another process: refused, and the pull ends as if alone."""
    seen: list[Result] = []

    def meanwhile(*given: object) -> None:
        if not seen:
            seen.append(finish(start("--models-dir", root, "models", "rm", "en-cot", "xcodec")))
        fetch(*given)  # type: ignore[arg-type]

    fetch = hub_client.download_snapshot
    monkeypatch.setattr(hub_client, "download_snapshot", meanwhile)
    assert cli(capsys, "--models-dir", root, "pull", "s2-general").code == 0
    assert (seen[0].code, seen[0].error) == (1, "error: " + BUSY.format(root=root))
    assert set(lockfile.read_lock(root)) == {
        "en-cot-Q8_0.gguf",
        "xcodec/decoder.onnx",
        "s2-general-Q8_0.gguf",
    }


def test_rm_reads_the_lock_inside_its_own(
    capsys: Capture, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another process installed until the moment of the claim stays in the lock."""
    real = lockfile.locked_folder

    def claimed(folder: Path, *given: str) -> object:
        install(folder, (entry(b"new", "zh-cot"), b"new"))
        return real(folder, *given)

    monkeypatch.setattr(lockfile, "locked_folder", claimed)
    assert remove(capsys, root, "en-cot").code == 0
    assert set(lockfile.read_lock(root)) == {"xcodec/decoder.onnx", "zh-cot-Q8_0.gguf"}


@pytest.mark.parametrize("names", [("en-cot", "zh-cot"), ("en-cot", "nothing")])
def test_rm_of_several_removes_all_or_none(capsys: Capture, root: Path, names: tuple[str, ...]) -> None:
    before = bytes_below(root)
    assert remove(capsys, root, *names).code in (3, 5)
    assert bytes_below(root) == before
    assert remove(capsys, root.parent / "none", "en-cot").code == 3
    assert not (root.parent / "none").exists()


def test_rm_leaves_what_is_no_graph_of_the_codec(capsys: Capture, root: Path) -> None:
    (root / "xcodec/encoder-of-mine.onnx").write_bytes(b"mine")
    assert remove(capsys, root, "xcodec:Q8_0").code == 3
    assert remove(capsys, root, "xcodec").out == f"{root / 'xcodec/decoder.onnx'}\n"
    assert (root / "xcodec/encoder-of-mine.onnx").read_bytes() == b"mine"


def test_rm_leaves_a_finetune_whose_name_begins_the_same(capsys: Capture, root: Path) -> None:
    (root / "en-cot-opera-F32.gguf").write_bytes(b"mine")
    assert remove(capsys, root, "en-cot").out == f"{root / 'en-cot-Q8_0.gguf'}\n"
    assert (root / "en-cot-opera-F32.gguf").read_bytes() == b"mine"
    assert cli(capsys, "--models-dir", root, "models", "path", "en-cot").code == 3


@pytest.mark.parametrize("name", ["en-cot", "en-cot:q8_0", "xcodec"])
def test_rm_of_a_model_whose_file_was_deleted_by_hand_clears_the_lock(
    capsys: Capture, root: Path, name: str
) -> None:
    path = root / ("xcodec/decoder.onnx" if name == "xcodec" else "en-cot-Q8_0.gguf")
    path.unlink()
    assert cli(capsys, "--models-dir", root, "models", "verify").code == DamagedFile.exit_code
    assert remove(capsys, root, "en-cot:Q4_0").code == 3
    result = remove(capsys, root, name)
    assert (result.code, result.out) == (0, f"{path}\n")
    assert path.relative_to(root).as_posix() not in lockfile.read_lock(root)
    assert len(lockfile.read_lock(root)) == 1
    assert remove(capsys, root, name).code == 3


def test_rm_deletes_nothing_behind_a_link(capsys: Capture, root: Path, canary: Path) -> None:
    linked(root, "xcodec", canary.parent)
    result = remove(capsys, root, "xcodec")
    assert result.code == 1
    assert f"{root / 'xcodec'} leads out of {root} through a link" in result.error
    linked(root, "sources", canary.parent)
    (canary.parent / "en-cot").mkdir()
    assert remove(capsys, root, "en-cot").code == 1
    assert (canary.read_bytes(), (canary.parent / "en-cot").is_dir()) == (b"mine", True)
    assert (root / "en-cot-Q8_0.gguf").read_bytes() == b"one"


def test_rm_removes_a_link_and_not_its_target(capsys: Capture, root: Path, canary: Path) -> None:
    (root / "en-cot-Q8_0.gguf").unlink()
    (root / "en-cot-Q8_0.gguf").symlink_to(canary)
    (root / "sources").mkdir()
    linked(root, "sources/en-cot", canary.parent)
    assert remove(capsys, root, "en-cot").code == 0
    assert not (root / "en-cot-Q8_0.gguf").is_symlink()
    assert not (root / "sources" / "en-cot").is_symlink()
    assert canary.read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["xcodec", "sources", ".staged", "sources/xcodec"])
def test_pull_writes_nothing_behind_a_link(
    capsys: Capture, hub: Hub, tmp_path: Path, canary: Path, name: str
) -> None:
    root, before = tmp_path / "new", bytes_below(canary.parent)
    root.mkdir()
    linked(root, name, canary.parent)
    result = cli(capsys, "--models-dir", root, "pull", "xcodec", "--force")
    assert (result.code, hub.asked) == (1, [])
    assert f"{root / name} leads out of {root} through a link, and nothing is written" in result.error
    assert bytes_below(canary.parent) == before


def test_a_models_folder_may_be_a_link_itself(capsys: Capture, hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "big disk").mkdir()
    root = tmp_path / "models"
    root.symlink_to(tmp_path / "big disk", target_is_directory=True)
    assert cli(capsys, "--models-dir", root, "pull", "xcodec").code == 0
    assert cli(capsys, "--models-dir", root, "models", "verify").code == 0
    assert (tmp_path / "big disk" / "xcodec" / "decoder.onnx").is_file()


def test_half_a_download_is_never_appended_to_a_links_target(
    capsys: Capture, hub: Hub, tmp_path: Path, canary: Path
) -> None:
    root = tmp_path / "new"
    snapshot = hub_client.query_snapshot(
        "m-a-p/YuE-s2-1B-general", "9dfa90b7013f6b5e7eb5eb2991620dca33058a0e"
    )
    for file in snapshot.files:
        (root / "sources" / "s2-general").mkdir(parents=True, exist_ok=True)
        (root / "sources" / "s2-general" / file.part).symlink_to(canary)
    (root / "sources" / "s2-general" / ".kept").symlink_to(canary.parent / "made")
    assert cli(capsys, "--models-dir", root, "pull", "s2-general", "--keep-source").code == 0
    assert bytes_below(canary.parent) == {"decoder.onnx": b"mine"}


@pytest.mark.parametrize("name", ["en-cot-Q8_0.gguf", "xcodec"])
def test_a_kit_with_a_link_out_of_it_installs_nothing(
    capsys: Capture, root: Path, canary: Path, name: str
) -> None:
    """Even where the bytes behind the link are those of the lock: they are not the kit's."""
    canary.write_bytes(b"codec" if name == "xcodec" else b"one")
    if name == "xcodec":
        linked(root, name, canary.parent)
    else:
        (root / name).unlink()
        (root / name).symlink_to(canary)
    new = root.parent / "new"
    result = cli(capsys, "--models-dir", new, "pull", "--from", root)
    assert result.code == DamagedFile.exit_code
    assert "is a link that leads out of the kit; make the kit again" in result.error
    assert not new.exists()


def test_a_kit_is_not_installed_through_a_link(capsys: Capture, root: Path, canary: Path) -> None:
    new = root.parent / "new"
    new.mkdir()
    linked(new, "xcodec", canary.parent)
    result = cli(capsys, "--models-dir", new, "pull", "--from", root)
    assert (result.code, "leads out of" in result.error) == (1, True)
    assert [path.name for path in new.glob("*.gguf")] == []
    assert bytes_below(canary.parent) == {"decoder.onnx": b"mine"}


def test_a_link_that_leads_to_itself_leads_out(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(StorageError, match="leads out of"):
        lockfile.check_inside(tmp_path, "loop/x")


def leftover(folder: Path) -> Path:
    """The workspace of a process that is dead: nobody holds its lock."""
    left = folder / f"{WORKSPACE_PREFIX}dead{WORKSPACE_SUFFIX}"
    left.mkdir(parents=True)
    (left / OWNER_LOCK).touch()
    (left / "model.gguf").write_bytes(bytes(1000))
    return left


def test_pull_removes_what_a_dead_one_was_making_of_any_model(
    capsys: Capture, hub: Hub, tmp_path: Path
) -> None:
    root = tmp_path / "models"
    left = [
        leftover(root),
        leftover(root / ".staged" / "zh-cot-Q4_K_M"),
        leftover(root / ".staged" / "xcodec"),
    ]
    assert cli(capsys, "--models-dir", root, "pull", "s2-general").code == 0
    assert not any(path.exists() for path in left)
    assert not (root / ".staged").exists()


def test_pull_keeps_what_is_made_and_only_to_be_moved(
    capsys: Capture, hub: Hub, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pull that ended between its note in the lock and the move, and then one of another model."""
    with monkeypatch.context() as patch:
        patch.setattr(_Puller, "_place", lambda *_given: None)
        assert cli(capsys, "--models-dir", root, "pull", "zh-cot").code == 0
    made = root / ".staged" / "zh-cot-Q8_0" / "zh-cot-Q8_0.gguf"
    assert made.is_file()
    assert cli(capsys, "--models-dir", root, "pull", "s2-general").code == 0
    assert made.is_file()
    hub.asked.clear()
    assert cli(capsys, "--models-dir", root, "pull", "zh-cot").code == 0
    assert (hub.asked, (root / "zh-cot-Q8_0.gguf").is_file()) == ([], True)


def test_the_lock_of_a_killed_process_is_free(root: Path) -> None:
    code = "from yuegguf.models import lockfile; import pathlib, time\n"
    code += f"with lockfile.exclusive(pathlib.Path({str(root)!r})):\n"
    code += "    print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(StorageError, match="another yuegguf is changing the models"),
            lockfile.exclusive(root),
        ):
            pass
        os.kill(process.pid, signal.SIGKILL)
    with lockfile.exclusive(root):
        pass


@pytest.mark.parametrize("name", ["../out", "/out", "a/b", "a\\b", "a\nb", ".", "n" * 300])
@pytest.mark.parametrize("command", ["convert", "convert-lora"])
def test_a_converter_installs_under_names_of_files_only(
    capsys: Capture, root: Path, name: str, command: str
) -> None:
    before = bytes_below(root.parent)
    result = cli(capsys, "--models-dir", root, command, root, "--name", name)
    assert result.code == RequestError.exit_code
    words = "is no name for a file" if command == "convert-lora" else f"no language model called {name!a}"
    assert words in result.error
    assert bytes_below(root.parent) == before


def test_converters_install_nothing_behind_a_link(capsys: Capture, root: Path, canary: Path) -> None:
    for folder, command in (("loras", "convert-lora"), ("xcodec", "export-codec")):
        linked(root, folder, canary.parent)
        result = cli(capsys, "--models-dir", root, command, root, "--force")
        assert (result.code, "leads out of" in result.error) == (1, True)
    assert bytes_below(canary.parent) == {"decoder.onnx": b"mine"}


@pytest.mark.parametrize("way", [partial_file, scratch_file])
def test_converters_remove_what_a_dead_one_left_and_nothing_of_a_living_one(
    tmp_path: Path, way: Callable[[Path], AbstractContextManager[Path]]
) -> None:
    """`convert`, `quantize`, `trim`, `merge-lora` and `convert-lora` write through these two."""
    code = "from yuegguf_convert.target import partial_file; import pathlib, sys, time\n"
    code += "with partial_file(pathlib.Path(sys.argv[1])) as part:\n"
    code += "    part.write_bytes(bytes(1000)); print('written', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, str(tmp_path / "model.gguf")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        (living,) = tmp_path.glob(f"{WORKSPACE_PREFIX}*{WORKSPACE_SUFFIX}")
        with way(tmp_path / "model.gguf") as path:
            path.write_bytes(b"x")
        assert (living / "model.gguf").stat().st_size == 1000
        os.kill(process.pid, signal.SIGKILL)
    with way(tmp_path / "other.gguf") as path:
        path.write_bytes(b"x")
        assert not living.exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == (
        ["model.gguf", "other.gguf"] if way is partial_file else []
    )
