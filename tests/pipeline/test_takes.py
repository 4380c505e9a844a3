"""Takes: drafted side by side, each the same as alone; some are kept."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from helpers import Capture, cli, edit_song, ended, refused
from scheduled import note_engines

from yuegguf.api.songs import keep_takes, refine
from yuegguf.errors import Interrupted, StorageError, YueError
from yuegguf.models.resolve import nano_models
from yuegguf.pipeline import phases
from yuegguf.pipeline.preflight import read_models
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.progress import Event
from yuegguf.song.folder import SongFolder
from yuegguf.song.library import remove_songs

LYRICS = "[verse]\nla la la\n\n[chorus]\nlo lo\n"
REQUEST = ("-g", "pop female vocal", "--lyrics", LYRICS, "--segment-seconds", 3, "--seed", 6, "-m", "nano")
MACHINE = ("--threads", 1, "--stage2-batch", 2)


@pytest.fixture
def takes(tmp_path: Path, capsys: Capture) -> Path:
    found = cli(capsys, "run", *REQUEST, *MACHINE, "-n", 3, "-o", tmp_path, "--json").json["takes"]
    return Path(found[0]["folder"]).parent


def log_of(folder: Path) -> str:
    return (folder / "tokens.log").read_text()


def test_takes_differ_and_each_is_the_same_as_alone(takes: Path, tmp_path: Path, capsys: Capture) -> None:
    logs = [log_of(takes / f"take-{number}") for number in (1, 2, 3)]
    assert len(set(logs)) == 3
    for number, log in enumerate(logs, 1):
        options = ("run", *REQUEST, *MACHINE, "--take", number, "--draft", "-o", tmp_path / "alone", "--json")
        assert log_of(Path(cli(capsys, *options).json["folder"])) == log


def test_takes_are_listed_with_the_line_that_makes_them_again(takes: Path, capsys: Capture) -> None:
    lines = cli(capsys, "takes", "list", takes).out.splitlines()
    assert [line.split()[:2] for line in lines] == [[f"take-{n}", "draft"] for n in (1, 2, 3)]
    assert lines[1].endswith("--seed 6 --take 2")
    titles = [SongFolder.open(takes / f"take-{n}").title for n in (1, 2, 3)]
    assert [title.rpartition(", ")[2] for title in titles] == ["take 1", "take 2", "take 3"]
    found = cli(capsys, "takes", "list", takes, "--json").json["takes"]
    assert [take["seed"] for take in found] == [6, 6, 6]
    assert all((takes / take["take"] / "draft.wav").exists() for take in found)


def test_kept_takes_become_songs_and_the_others_stay_or_go(takes: Path, capsys: Capture) -> None:
    drafts = log_of(takes / "take-2")
    ended(cli(capsys, "takes", "keep", takes, 2, *MACHINE[:2]))
    assert (takes / "take-2" / "mix.wav").exists()
    assert log_of(takes / "take-2") == drafts
    assert not (takes / "take-1" / "mix.wav").exists()
    kept = ended(cli(capsys, "takes", "keep", takes, 3, "--json"))
    assert kept.json["removed"] == []
    before = (takes / "take-2" / "mix.wav").read_bytes()
    found = ended(cli(capsys, "takes", "keep", takes, 3, "--delete-others"))
    assert f"removed {takes / 'take-1'}\ntake-2 was kept earlier and stays\n" in found.err
    assert sorted(path.name for path in takes.iterdir()) == ["take-2", "take-3"]
    assert (takes / "take-2" / "mix.wav").read_bytes() == before


def test_a_take_that_is_half_kept_is_not_deleted(takes: Path, capsys: Capture) -> None:
    ended(cli(capsys, "takes", "keep", takes, 2, *MACHINE[:2]))
    edit_song(takes / "take-2", state="refine")
    (takes / "take-2" / "stage2.npz").unlink()
    found = ended(cli(capsys, "takes", "keep", takes, 1, "--delete-others", "--json"))
    assert found.json["removed"] == [str(takes / "take-3")]
    assert sorted(path.name for path in takes.iterdir()) == ["take-1", "take-2"]


def test_a_take_that_is_kept_meanwhile_is_not_deleted(takes: Path) -> None:
    begun: list[Event] = []

    def meanwhile(event: Event) -> None:
        begun.append(event)
        if len(begun) == 1:
            refine(takes / "take-2", compute=ComputeOptions(threads=1))

    keep_takes(takes, [1], delete_others=True, compute=ComputeOptions(threads=1), progress=meanwhile)
    assert sorted(path.name for path in takes.iterdir()) == ["take-1", "take-2"]


def test_a_take_that_others_finish_before_it_is_locked_stays(takes: Path) -> None:
    remove_songs([takes / "take-1", takes / "take-2"], wanted=lambda take: take.name == "take-1")
    assert sorted(path.name for path in takes.iterdir()) == ["take-2", "take-3"]


@pytest.mark.parametrize(
    "error", [Interrupted("stopped on request"), StorageError("the disk is full", "free some")]
)
def test_takes_whose_finishing_ends_early_go_on_with_the_same_command(
    takes: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, error: YueError
) -> None:
    """And without losing the take that comes after, or the wish to delete the others."""

    def fail(*_args: object) -> None:
        raise error

    arguments = ("takes", "keep", takes, 1, 2, "--delete-others", *MACHINE[:2], "--no-nice")
    with monkeypatch.context() as patched:
        patched.setattr(phases, "refining", fail)
        result = cli(capsys, *arguments)
    assert result.code == error.exit_code
    assert result.error.endswith(f"go on with: yuegguf {' '.join(map(str, arguments))}")
    ended(cli(capsys, *arguments))
    assert sorted(path.parent.name for path in takes.glob("*/mix.wav")) == ["take-1", "take-2"]
    assert not (takes / "take-3").exists()


def test_no_take_is_finished_where_one_to_keep_is_still_in_its_draft(takes: Path, capsys: Capture) -> None:
    edit_song(takes / "take-1", state="draft")
    said = refused(capsys, 5, "takes", "keep", takes, 2, 1, *MACHINE[:2])
    hint = f"finish it with: yuegguf resume {takes / 'take-1'}"
    assert said == f"{takes / 'take-1'} is still in its draft; {hint}"
    assert not (takes / "take-2" / "mix.wav").exists()


def test_interrupted_takes_go_on_together(takes: Path, capsys: Capture) -> None:
    logs = [log_of(takes / f"take-{number}") for number in (1, 2, 3)]
    for number, log in enumerate(logs, 1):
        folder = takes / f"take-{number}"
        edit_song(folder, state="draft")
        kept = log.splitlines(keepends=True)[: 40 * number]
        (folder / "tokens.log").write_text("".join(kept))
    ended(cli(capsys, "resume", takes, "--threads", 1))
    assert [log_of(takes / f"take-{number}") for number in (1, 2, 3)] == logs


@pytest.mark.parametrize("room", [1, 2, 3])
def test_interrupted_takes_that_do_not_fit_together_go_on_in_several_batches(
    room: int, takes: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [takes / f"take-{number}" for number in (1, 2, 3)]
    plan = SongFolder.open(folders[0]).record.plan
    assert plan is not None
    plan = replace(plan, n_ctx=4096)  # with a longer context each needs more in stage 1 than in stage 2
    logs = [log_of(folder) for folder in folders]
    for number, folder in enumerate(folders, 1):
        edit_song(folder, state="draft", plan=asdict(plan))
        begun = logs[number - 1].splitlines(keepends=True)[: 30 * number]
        (folder / "tokens.log").write_text("".join(begun))
    engines, held = note_engines(monkeypatch), replace(plan.stage1(), rows=room * plan.stage1_rows)
    needed = held.own_bytes(read_models(nano_models()).stage1.facts)
    ended(cli(capsys, "resume", takes, *MACHINE, "--max-memory", needed))
    assert [engine.options.n_rows for engine in engines] == {1: [2, 2, 2], 2: [4, 2], 3: [6]}[room]
    assert [log_of(folder) for folder in folders] == logs
    assert all((folder / "draft.wav").exists() for folder in folders)


def test_what_is_no_take_is_refused(takes: Path, tmp_path: Path, capsys: Capture) -> None:
    assert "there is no take 4" in refused(capsys, 5, "takes", "keep", takes, 4)
    (tmp_path / "empty").mkdir()
    assert "holds no takes" in refused(capsys, 5, "takes", "list", tmp_path / "empty")
    assert "is not in the range 1<=x<=16" in refused(capsys, 2, "run", *REQUEST, "-n", 17)


def test_a_song_goes_on_in_several_takes(tmp_path: Path, capsys: Capture) -> None:
    song = cli(
        capsys, "run", *REQUEST, *MACHINE, "--sections", "1-1", "-o", tmp_path, "--draft", "--json"
    ).json
    options = ("extend", song["folder"], "-n", 2, "--seed", 8, *MACHINE, "--json")
    found = [Path(take["folder"]) for take in cli(capsys, *options).json["takes"]]
    first = len(log_of(Path(song["folder"])).splitlines())
    begins = {"".join(log_of(folder).splitlines()[: first - 1]) for folder in found}
    assert len(begins) == 1
    assert len({log_of(folder) for folder in found}) == 2
    lines = cli(capsys, "takes", "list", found[0].parent).out.splitlines()
    assert [line.partition("--")[2] for line in lines] == ["seed 8", "seed 8"]  # --take of extend is seconds
