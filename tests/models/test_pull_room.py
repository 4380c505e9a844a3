"""The disk that `pull` takes at most, told before the first byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from family import COMMIT
from helpers import Capture, Result, cli
from hub import Hub

from yuegguf.cli._console import Console
from yuegguf.models import hub_client, registry
from yuegguf.models.install import KEPT, WantedModel, original_job, room_needed
from yuegguf.progress import Event

EN = "m-a-p/YuE-s1-7B-anneal-en-cot"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


def pull(capsys: Capture, root: Path, *args: object) -> Result:
    return cli(capsys, "--models-dir", root, "pull", *args)


def files(root: Path) -> list[str]:
    """Everything in the folder of models but the lock of a running pull."""
    found = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return sorted(name for name in found if name != ".pull.lock")


def test_kept_sources_are_not_counted_as_room_to_come(tmp_path: Path) -> None:
    files = (hub_client.RemoteFile("model.safetensors", 10**9, "sha256:" + "0" * 64),)
    files += tuple(
        hub_client.RemoteFile(name, 10, "blob:" + "0" * 40) for name in ("config.json", "tokenizer.model")
    )
    snapshot, entry = hub_client.RepoSnapshot(EN, COMMIT, "", files), registry.find_entry("en-cot")
    jobs = [original_job(WantedModel(entry, kind), snapshot, tmp_path / kind) for kind in ("F16", "BF16")]
    freed = room_needed(jobs, False)
    (tmp_path / "F16").mkdir()
    (tmp_path / "F16" / KEPT).touch()
    assert room_needed(jobs, False) == room_needed(jobs, True) == freed + 10**9 + 20


def test_the_disk_never_holds_more_than_download_and_result(
    capsys: Capture, hub: Hub, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look(_output: Console, _event: Event) -> None:
        seen.append(sum(path.stat().st_size for path in root.rglob("*") if path.is_file()))

    monkeypatch.setattr(Console, "progress", look)
    assert pull(capsys, root, "en-cot:Q4_K_M").code == 0
    source = sum(len(data) for name, data in hub.repos[EN].files.items() if name != "README.md")
    result = (root / "en-cot-Q4_K_M.gguf").stat().st_size
    notes = 4096  # the lock and what the hub said
    assert source < max(seen) < source + result + notes


def test_seven_billion_weights_need_the_download_and_four_and_a_half_gigabytes(tmp_path: Path) -> None:
    sizes = (4_970_000_000, 4_970_000_000, 2_500_000_000)
    shards = [
        hub_client.RemoteFile(f"model-{i}.safetensors", size, "sha256:" + "0" * 64)
        for i, size in enumerate(sizes)
    ]
    small = [
        hub_client.RemoteFile(name, 1000, "blob:" + "0" * 40) for name in ("config.json", "tokenizer.model")
    ]
    wanted = WantedModel(registry.find_entry("en-cot"), "Q4_K_M")
    job = original_job(wanted, hub_client.RepoSnapshot(EN, COMMIT, "", (*shards, *small)), tmp_path)
    assert room_needed([job], False) < 12.44e9 + 4.5e9
    second = original_job(WantedModel(wanted.entry, "Q8_0"), job.parts[0][0], tmp_path / "other")
    assert room_needed([job, second], False) < room_needed([job, second], True)
