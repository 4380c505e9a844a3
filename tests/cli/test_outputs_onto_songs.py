"""Outputs onto the files that a song goes on from: refused by every command, with --force too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import FAST, TEXT, Capture, cli, refused
from song_examples import RENDERED, SOUND, all_content, finished_song
from yuegguf_convert.target import partial_file

from yuegguf.errors import RequestError
from yuegguf.files.atomic import refuse_to_replace
from yuegguf.files.song_work import WORK
from yuegguf.models.resolve import nano_models
from yuegguf.request.song_request import FORMATS
from yuegguf.song.guard import FILE_NAMES, FOLDER_NAMES

pytestmark = pytest.mark.usefixtures("no_models")

NANO = nano_models()
FILES_OF_WORK = (
    *("song.json", "tokens.log", ".lock", "stage1.npz", "stage2.npz", "reference.npz"),
    *("chunks/0-000000.npz", "cache/1-2/row0.bin", "cache", "SONG.JSON"),
)
INTO_A_FILE = (
    ("bundle", "{song}"),
    ("plot", "{song}"),
    ("encode", "{parent}/songs", "--jsonl"),
)
INTO_A_FOLDER = (
    ("export", "{song}", "--force"),
    ("export", "{song}", "--yue-ui", "--force"),
    ("decode", "{song}", "--codec", NANO.codec, "--force"),
    ("encode", "{parent}/a.wav", "--force"),
    ("run", *TEXT, *FAST),
    (
        "extend",
        "{song}",
        "--retake",
        2,
        "--model",
        "nano",
        "--stage2-model",
        NANO.stage2,
        "--codec",
        NANO.codec,
    ),
    ("stems", "--vocal", "{parent}/a.wav", "-g", "pop", "--model", "nano"),
    ("import", "{parent}/x_vtrack.npy", "{parent}/x_itrack.npy", *TEXT, "--model", "nano"),
)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A finished song, and beside it what commands need."""
    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    for name in ("x_vtrack", "x_itrack"):
        np.save(tmp_path / f"{name}.npy", np.zeros((8, 50), np.int16))
    (tmp_path / "link").symlink_to(finished_song(tmp_path))
    return (tmp_path / "link").resolve()


@pytest.fixture
def dataset(tmp_path: Path) -> None:
    """Recordings for finetuning, beside the song."""
    folder = tmp_path / "songs" / "one"
    folder.mkdir(parents=True)
    for name in ("vocals", "instrumental"):
        soundfile.write(folder / f"{name}.wav", np.zeros(16000), 16000)
    (folder / "lyrics.lrc").write_text("[00:00.00][verse]\n[00:00.00]la la\n")
    (folder / "tags.txt").write_text("pop")


def filled(line: tuple[object, ...], song: Path) -> list[str]:
    return [str(part).format(song=song, parent=song.parent) for part in line]


def test_every_name_that_a_song_goes_on_from_is_kept() -> None:
    made_again = {name for name in FILE_NAMES if not WORK.fullmatch(name)}
    audio = {f".{kind}" for kind in FORMATS}
    assert {Path(name).suffix for name in made_again} == audio | {".txt", ".lrc", ".png"}
    assert {name for name in FOLDER_NAMES if not WORK.fullmatch(name)} == {"export"}


@pytest.mark.usefixtures("dataset")
@pytest.mark.parametrize("line", INTO_A_FILE, ids=lambda line: line[0])
def test_no_file_is_written_over_the_work_of_a_song(
    line: tuple[object, ...], finished: Path, capsys: Capture
) -> None:
    option = [] if line[0] == "encode" else ["-o"]
    before = all_content(finished.parent)
    for folder in (finished, finished.parent / "link"):
        for name in FILES_OF_WORK:
            said = refused(capsys, 5, *filled(line, finished), *option, folder / name, "--force")
            assert said.startswith(f"{folder / name} is a place of the song"), name
            assert all_content(finished.parent) == before


@pytest.mark.parametrize("line", INTO_A_FOLDER, ids=lambda line: line[0])
def test_no_folder_of_work_takes_anything_else(
    line: tuple[object, ...], finished: Path, capsys: Capture
) -> None:
    before = all_content(finished.parent)
    for name in ("chunks", "cache/1-2", "tokens.log"):
        said = refused(capsys, 5, *filled(line, finished), "-o", finished / name)
        assert "is a place of the song" in said, name
        assert all_content(finished.parent) == before


def test_no_converter_writes_there(finished: Path) -> None:
    before = all_content(finished)
    for name in FILES_OF_WORK[:6]:
        with pytest.raises(RequestError, match="is a place of the song"), partial_file(finished / name, True):
            raise AssertionError
    assert all_content(finished) == before


def test_a_voice_is_none_of_a_songs_arrays(
    finished: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUEGGUF_VOICES_DIR", str(finished))
    before = all_content(finished)
    line = ("voice", "save", "reference", "--ref", finished.parent / "a.wav", "--codec", NANO.codec)
    assert "is a place of the song" in refused(capsys, 5, *line, "--force")
    assert all_content(finished) == before


def test_other_files_may_lie_in_a_song_folder(finished: Path, capsys: Capture) -> None:
    for name in ("mine.zip", "export/mine.zip", *RENDERED, "chunks.zip", "song.json.zip"):
        (finished / "export").mkdir(exist_ok=True)
        assert cli(capsys, "bundle", finished, "-o", finished / name, "--force").code == 0
        if name in RENDERED:  # of a song with a damaged file there is no bundle
            (finished / name).write_bytes(SOUND)
    line = ("encode", finished.parent / "a.wav", "-o", finished, "--codec", NANO.codec)
    assert cli(capsys, *line).code == 0


def test_only_a_song_of_ours_keeps_its_names(tmp_path: Path) -> None:
    """YuE-UI's project of a song that is called `song` may be written again."""
    (tmp_path / "song.json").write_text('{"version": 1}')
    (tmp_path / "x.npz").write_bytes(b"")
    (tmp_path / "cache").mkdir()
    refuse_to_replace([tmp_path / "song.json", tmp_path / "x.npz", tmp_path / "cache" / "x"], force=True)
    (tmp_path / "song.json").write_text('{"request": 1}')
    for name in ("song.json", "x.npz", "cache/x", "chunks/deep/er"):
        with pytest.raises(RequestError):
            refuse_to_replace([tmp_path / name], force=True)


def test_nothing_about_odd_paths_is_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    refuse_to_replace([tmp_path / "circle" / "song.json", Path("x" * 5000) / "song.json"], force=True)
    (tmp_path / "song.json").mkdir()
    refuse_to_replace([tmp_path / "tokens.log"], force=True)
