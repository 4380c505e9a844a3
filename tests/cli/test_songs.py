"""`songs list`, `songs status` and `songs rm`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import Capture, cli, new_song, refused
from song_examples import SOUND, all_content, finished_song

from yuegguf.errors import argument, quoted
from yuegguf.files.atomic import locked_folder
from yuegguf.request.preview_options import PreviewOptions
from yuegguf.song.folder import SongFolder


def shown(capsys: Capture, *args: object) -> dict[str, object]:
    """The JSON of a command that ends well."""
    result = cli(capsys, *args, "--json")
    assert result.code == 0, result.err
    return dict(json.loads(result.out))


def draft(parent: Path) -> SongFolder:
    """A song whose draft is done."""
    folder = SongFolder.open(finished_song(parent, state="refine"))
    (folder.path / "draft.wav").write_bytes(SOUND)
    folder.advance("refine", draft_files=("draft.wav",), early=PreviewOptions("mix"))
    return folder


def test_the_state_of_a_song_says_what_comes_next(capsys: Capture, tmp_path: Path) -> None:
    begun, done = new_song(tmp_path), finished_song(tmp_path)
    state = shown(capsys, "songs", "status", begun.path)
    assert (state["state"], state["seconds"], state["next"]) == ("draft", None, ["resume", str(begun.path)])
    state = shown(capsys, "songs", "status", done)
    assert (state["state"], state["seconds"], state["seed"], state["next"]) == ("done", 2.0, 5, [])
    drafted = draft(tmp_path / "other")
    state = shown(capsys, "songs", "status", drafted.path)
    assert (state["state"], state["next"]) == ("draft done", ["refine", str(drafted.path)])
    result = cli(capsys, "songs", "status", drafted.path)
    assert result.out.splitlines() == [
        "title     pop",
        "state     draft done",
        "length    2.0 s, 2 sections",
        "seed      5",
        f"next      yuegguf refine {drafted.path}",
    ]


def test_a_fault_is_shown_with_the_command_that_mends_it(capsys: Capture, tmp_path: Path) -> None:
    song = SongFolder.open(finished_song(tmp_path))
    song.advance("done", faults={"2": "it hums"})
    lines = cli(capsys, "songs", "status", song.path).out.splitlines()
    assert lines[-2:] == [
        "fault     section 2: it hums",
        f"next      yuegguf extend {song.path} --retake 2 --keep-after",
    ]


def test_a_song_in_work_is_shown_as_that(capsys: Capture, tmp_path: Path) -> None:
    song = new_song(tmp_path)
    with song.claimed():
        state = shown(capsys, "songs", "status", song.path)
        assert (state["busy"], state["next"]) == (True, [])
        assert "draft, in work" in cli(capsys, "songs", "status", song.path).out
    assert shown(capsys, "songs", "status", song.path)["busy"] is False


def test_the_list_has_every_song_and_take_and_what_is_damaged(capsys: Capture, tmp_path: Path) -> None:
    new_song(tmp_path).path.rename(tmp_path / "a")
    finished_song(tmp_path).rename(tmp_path / "b")
    (tmp_path / "c").mkdir()
    new_song(tmp_path).path.rename(tmp_path / "c" / "take-1")
    new_song(tmp_path).path.rename(tmp_path / "d")
    (tmp_path / "d" / "song.json").write_text("{")
    lines = cli(capsys, "songs", "list", tmp_path).out.splitlines()
    assert [line.split()[0] for line in lines] == ["draft", "done", "draft", "damaged"]
    assert [Path(line.split()[-1]).name for line in lines] == ["a", "b", "take-1", "d"]
    assert "DamagedFile" not in refused(capsys, 7, "songs", "status", tmp_path / "d")


def test_an_empty_folder_has_no_songs_and_no_folder_is_an_error(capsys: Capture, tmp_path: Path) -> None:
    result = cli(capsys, "songs", "list", tmp_path)
    assert (result.code, result.out) == (0, "")
    assert "yuegguf run --example" in result.err
    assert "there is no folder" in refused(capsys, 5, "songs", "list", tmp_path / "nowhere")


@pytest.mark.parametrize("line", [("songs", "list"), ("resume",)])
def test_the_default_folder_before_the_first_song_is_no_error(
    line: tuple[str, ...], capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli(capsys, *line)
    assert result.code == 0
    assert "song in songs; " in result.out + result.err
    assert json.loads(cli(capsys, *line, "--json").out) in ({"songs": []}, {"song": None})


def test_songs_are_deleted_with_their_takes(capsys: Capture, tmp_path: Path) -> None:
    song = finished_song(tmp_path)
    group = tmp_path / "group"
    group.mkdir()
    for number in (1, 2):
        new_song(tmp_path).path.rename(group / f"take-{number}")
    assert len(cli(capsys, "songs", "rm", song, group).out.splitlines()) == 3
    assert not song.exists()
    assert not group.exists()


def test_nothing_is_deleted_where_one_song_is_busy_or_holds_another_file(
    capsys: Capture, tmp_path: Path
) -> None:
    first, second = finished_song(tmp_path / "a"), new_song(tmp_path / "b")
    with second.claimed():
        before = all_content(tmp_path / "a")
        assert "another yuegguf" in refused(capsys, 1, "songs", "rm", first, second.path)
        assert all_content(tmp_path / "a") == before
    (second.path / "my notes.txt").write_text("keep")
    assert "'my notes.txt', which yuegguf did not make" in refused(
        capsys, 5, "songs", "rm", first, second.path
    )
    assert first.is_dir()
    assert "named twice" in refused(capsys, 5, "songs", "rm", first, first)
    assert cli(capsys, "songs", "rm", first, second.path, "--force").code == 0
    assert not first.exists()
    assert not second.path.exists()


def test_a_damaged_song_is_deleted_by_force(capsys: Capture, tmp_path: Path) -> None:
    song, group = finished_song(tmp_path / "a"), tmp_path / "group"
    group.mkdir()
    new_song(tmp_path / "b").path.rename(group / "take-1")
    for folder in (song, group / "take-1"):
        (folder / "song.json").write_text("{")
        said = refused(capsys, 7, "songs", "rm", folder)
        assert said.rstrip().endswith("restore it from a copy, or delete it with: yuegguf songs rm --force")
        assert folder.is_dir()
    with locked_folder(song):
        assert "another yuegguf" in refused(capsys, 1, "songs", "rm", "--force", song, group)
    assert len(cli(capsys, "songs", "rm", "--force", song, group).out.splitlines()) == 2
    assert not song.exists()
    assert not group.exists()


@pytest.mark.parametrize("link", ["song", "file"])
@pytest.mark.parametrize("damaged", [False, True])
def test_a_link_is_never_followed_when_a_song_is_deleted(
    link: str, damaged: bool, capsys: Capture, tmp_path: Path
) -> None:
    canary = tmp_path / "elsewhere" / "canary"
    canary.parent.mkdir()
    canary.write_text("alive")
    song = finished_song(tmp_path)
    if link == "song":
        (song / "cache").symlink_to(canary.parent)
    else:
        (song / "mix.wav").unlink()
        (song / "mix.wav").symlink_to(canary)
    if damaged:
        (song / "song.json").write_text("{")
    refused(capsys, 7, "songs", "rm", song, "--force")
    assert canary.read_text() == "alive"
    assert song.is_dir()


@pytest.mark.parametrize(
    "command", ["refine", "songs status", "render", "bundle", "extend", "export", "plot"]
)
def test_a_folder_of_takes_is_named_as_that(capsys: Capture, tmp_path: Path, command: str) -> None:
    for number in (1, 2, 10):
        new_song(tmp_path).path.rename(_made(tmp_path / "group") / f"take-{number}")
    said = refused(capsys, 5, *command.split(), tmp_path / "group")
    assert said == (
        f"{tmp_path / 'group'} is not a song but holds takes of one: take-1, take-2, take-10; "
        f"pass one of them, or make whole songs of some with: yuegguf takes keep {tmp_path / 'group'} 1"
    )


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def test_hints_are_commands_that_run_whatever_a_folder_is_called(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parent = Path("-my songs")
    song = draft(parent)
    next_command = ["refine", f"./{song.path}"]
    assert shown(capsys, "songs", "status", f"./{song.path}")["next"] == next_command
    said = cli(capsys, "songs", "status", f"./{song.path}").out
    assert f"next      yuegguf refine './{song.path}'" in said
    begun = new_song(parent)
    said = refused(capsys, 5, "refine", f"./{begun.path}")
    assert said.endswith(f"; finish it with: yuegguf resume './{begun.path}'")
    said = refused(capsys, 5, "plot", f"./{begun.path}")
    assert said.endswith(f"; finish it: yuegguf resume './{begun.path}'")
    assert (argument("a b"), quoted("a b"), quoted("--x")) == ("a b", "'a b'", "./--x")
