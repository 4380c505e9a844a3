"""What an unfinished `pull` left, and the next one: nothing needed is lost, and nothing stays damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import Capture, cli
from hub import Fault, Hub
from pulling import files, pull

from yuegguf.models import lockfile
from yuegguf.models import pull as pulling
from yuegguf.models.install import InstallJob


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


def broken_off(capsys: Capture, hub: Hub, root: Path, *names: str) -> Path:
    """The folder of sources of a pull that broke off in the middle of a file."""
    hub.faults = [Fault("cdn", "truncate", 1, at=0.5), Fault("cdn", "503")]
    assert pull(capsys, root, *names).code == 75
    hub.faults = []
    (part,) = root.rglob(".model-00001*.part")
    assert part.stat().st_size > 0
    return part.parent


@pytest.mark.parametrize("again", [("en-cot:Q8_0",), ("en-cot:Q8_0", "s2-general")])
def test_half_a_download_outlives_a_pull_of_an_installed_type(
    capsys: Capture, hub: Hub, root: Path, again: tuple[str, ...]
) -> None:
    assert pull(capsys, root, "en-cot:Q8_0").code == 0
    left = files(broken_off(capsys, hub, root, "en-cot:Q4_K_M"))
    assert pull(capsys, root, *again).code == 0
    assert files(root / "sources/en-cot") == left
    hub.asked.clear()
    assert pull(capsys, root, "en-cot:Q4_K_M").code == 0
    assert any(span for _method, _path, span in hub.asked)
    assert not (root / "sources").exists()


def test_a_download_that_is_being_converted_outlives_it_too(
    capsys: Capture, hub: Hub, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_given: object) -> None:
        raise KeyboardInterrupt

    assert pull(capsys, root, "en-cot:Q8_0").code == 0
    with monkeypatch.context() as patch:
        patch.setattr(pulling, "install_model", stop)
        assert pull(capsys, root, "en-cot:Q4_K_M").code == 75
    assert pull(capsys, root, "en-cot:Q8_0").code == 0
    assert pull(capsys, root, "en-cot:Q4_K_M", "--offline").code == 0
    assert not (root / "sources").exists()


def test_half_a_download_goes_once_its_model_came_otherwise(capsys: Capture, hub: Hub, root: Path) -> None:
    kit = root.parent / "kit"
    assert pull(capsys, kit, "en-cot:Q4_K_M").code == 0
    broken_off(capsys, hub, root, "en-cot:Q4_K_M")
    assert cli(capsys, "--models-dir", root, "pull", "--from", kit).code == 0
    assert pull(capsys, root, "en-cot:Q4_K_M").code == 0
    assert files(root) == ["en-cot-Q4_K_M.gguf", "models.lock.json"]


def stopped(capsys: Capture, root: Path, monkeypatch: pytest.MonkeyPatch, where: object, name: str) -> None:
    """A forced pull that is stopped where it calls a function."""

    def stop(*_given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(where, name, stop)
        assert pull(capsys, root, "en-cot", "--force").code == 75
    assert (root / ".staged").is_dir()


def test_a_forced_pull_that_is_stopped_before_the_move_is_ended_by_the_next(
    capsys: Capture, hub: Hub, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The damaged file that it was to replace has the same size."""
    assert pull(capsys, root, "en-cot").code == 0
    model = root / "en-cot-Q8_0.gguf"
    whole = model.read_bytes()
    model.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    stopped(capsys, root, monkeypatch, pulling, "flush")
    hub.asked.clear()
    result = pull(capsys, root, "en-cot", "--json")
    assert (result.code, result.err, hub.asked) == (0, "", [])
    assert model.read_bytes() == whole
    assert files(root) == ["en-cot-Q8_0.gguf", "models.lock.json"]
    assert cli(capsys, "--models-dir", root, "models", "verify").code == 0


def test_what_a_stopped_pull_made_and_did_not_note_replaces_nothing(
    capsys: Capture, hub: Hub, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pull(capsys, root, "en-cot").code == 0
    whole = (root / "en-cot-Q8_0.gguf").read_bytes()
    before = lockfile.read_lock(root)

    def made_by_another_version(job: InstallJob, staging: Path, _progress: object) -> None:
        (staging / job.wanted.paths[0]).write_bytes(whole[::-1])

    with monkeypatch.context() as patch:
        patch.setattr(pulling, "install_model", made_by_another_version)
        stopped(capsys, root, patch, pulling, "lock_entry")
    assert "en-cot:Q8_0 is installed already" in pull(capsys, root, "en-cot").err
    assert ((root / "en-cot-Q8_0.gguf").read_bytes(), lockfile.read_lock(root)) == (whole, before)
    assert files(root) == ["en-cot-Q8_0.gguf", "models.lock.json"]
