"""Check first, lock, then write: a refused command changes nothing, and rendering takes the codec alone."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeCodec
from helpers import Capture, cli, edit_song, new_song, refused
from song_examples import RENDERED, all_content, codes_of, fake_models, finished_song

from yuegguf.api import songs as api
from yuegguf.errors import CodecError, DamagedFile, Interrupted, StorageError
from yuegguf.files.hashing import fingerprint
from yuegguf.pipeline import engines, phases
from yuegguf.progress import Event
from yuegguf.request.preview_options import PreviewOptions
from yuegguf.song.folder import SongFolder
from yuegguf.song.lookup import newest_interrupted
from yuegguf.song.state import where
from yuegguf.stages import stage2


@pytest.fixture(autouse=True)
def codec(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A codec in place of ONNX Runtime's; returns the folders that were asked for."""
    opened: list[Path] = []

    def open_codec(folder: Path, threads: int | None = None) -> FakeCodec:
        opened.append(folder)
        return FakeCodec()

    for module in (api, engines):
        monkeypatch.setattr(module, "open_codec", open_codec)
    return opened


LINES = (
    ("resume", "{song}", "--threads", 7),
    ("resume", "{song}", "--preview"),
    ("refine", "{song}"),
    ("render", "{song}", "--mix", "vocos"),
    ("takes", "keep", "{song}/..", 1),
    ("takes", "keep", "{song}/..", 2, "--delete-others"),
)


@pytest.mark.parametrize("line", LINES)
def test_a_song_in_work_by_another_process_is_left_alone(
    line: tuple[object, ...], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = tmp_path / "group"
    for number in (1, 2):
        finished_song(tmp_path).rename(_made(group) / f"take-{number}")
    song = group / "take-1"
    edit_song(song, state="refine", files=[], draft_files=["draft.wav"], faults={"1": "it is silent"})
    (song / "draft.wav").write_bytes(b"draft")
    edit_song(song, early={"draft": "mix" if line[0] in ("refine", "takes") else "", "preview_seconds": 0.0})
    with SongFolder.open(song).claimed():
        before = all_content(group)
        said = refused(capsys, 1, *(str(part).format(song=song) for part in line))
        assert "is being worked on by another yuegguf; wait for it to end" in said
        assert all_content(group) == before


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def test_a_plan_that_does_not_fit_is_not_noted(tmp_path: Path, capsys: Capture) -> None:
    """The models of this song cannot be read, so nothing of the command may reach song.json."""
    song = finished_song(tmp_path, state="refine")
    edit_song(song, files=[])
    before = all_content(song)
    refused(capsys, 7, "resume", song, "--threads", 1, "--preview")
    assert all_content(song) == before


def test_rendering_takes_the_codec_alone(tmp_path: Path, capsys: Capture, codec: list[Path]) -> None:
    song = finished_song(tmp_path)
    models = fake_models(tmp_path / "models")
    for role in ("stage1", "stage2"):
        models[role].unlink()
    result = cli(capsys, "render", song, "--mix", "vocos", "--json")
    assert (result.code, codec) == (0, [tmp_path / "models"])
    assert sorted(Path(file).name for file in result.json["files"]) == sorted(RENDERED)
    assert SongFolder.open(song).request.output.mix == "vocos"
    assert SongFolder.open(song).state == "done"


def test_decoding_a_song_takes_the_codec_alone(tmp_path: Path, capsys: Capture, codec: list[Path]) -> None:
    song = finished_song(tmp_path)
    for role in ("stage1", "stage2"):
        fake_models(tmp_path / "models")[role].unlink()
    assert cli(capsys, "decode", song, "-o", tmp_path / "out").code == 0
    assert codec == [tmp_path / "models"]


@pytest.mark.parametrize(("code", "spoil"), [(3, "gone"), (7, "other"), (7, "codes"), (7, "mixed")])
def test_a_rendering_that_is_refused_changes_nothing(
    code: int, spoil: str, tmp_path: Path, capsys: Capture, codec: list[Path]
) -> None:
    song, decoder = finished_song(tmp_path), fake_models(tmp_path / "models")["codec"]
    if spoil == "gone":
        decoder.unlink()
    if spoil == "other":
        decoder.write_bytes(b"another codec")
    if spoil == "codes":
        (song / "stage2.npz").write_bytes((song / "stage2.npz").read_bytes()[:-40])
    if spoil == "mixed":  # codes of another song
        np.savez(song / "stage2.npz", codes=(codes_of() + 1) % 1024)
    before = all_content(song)
    refused(capsys, code, "render", song, "--mix", "vocos", "--format", "wav,flac")
    assert all_content(song) == before


def test_another_codec_renders_when_it_is_named(tmp_path: Path, capsys: Capture, codec: list[Path]) -> None:
    song, other = finished_song(tmp_path), tmp_path / "other"
    fake_models(tmp_path / "models")["codec"].unlink()
    fake_models(other)["codec"].write_bytes(b"another codec")
    assert cli(capsys, "render", song, "--codec", other).code == 0
    assert codec == [other]
    noted = SongFolder.open(song).record.models["codec"]
    assert (noted.file, noted.fingerprint) == (
        str(other / "decoder.onnx"),
        fingerprint(other / "decoder.onnx"),
    )
    assert cli(capsys, "render", song).code == 0, "it is the song's codec from then on"


def test_a_rendering_that_fails_in_the_middle_changes_nothing(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = finished_song(tmp_path)
    before, written = all_content(song), []
    real = phases.write_song.__globals__["write_wave"]

    def fail_at_the_second(path: Path, *rest: object) -> object:
        written.append(path.name)
        if len(written) == 2:
            raise CodecError("the codec failed")
        return real(path, *rest)

    monkeypatch.setitem(phases.write_song.__globals__, "write_wave", fail_at_the_second)
    result = cli(capsys, "render", song, "--format", "wav,flac", "--mix", "vocos")
    assert (result.code, len(written)) == (1, 2)
    assert all_content(song) == before


def test_a_rendering_that_is_killed_while_files_get_their_names_is_finished_by_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = finished_song(tmp_path)
    real = Path.replace

    def killed(path: Path, target: Path) -> Path:
        if target.parent == song and target.name == "vocals.wav":
            raise KeyboardInterrupt
        return real(path, target)

    opened = SongFolder.open(song)
    output = opened.request.output.__class__(mix="vocos")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            api.render(song, output)
    begun = SongFolder.open(song)
    assert (begun.state, begun.request.output) == ("master", output)
    assert where(begun) == "master"
    api.render(song, output)  # no file of ours is taken for somebody else's
    assert SongFolder.open(song).state == "done"


def test_files_of_another_format_stay_until_they_are_given_up(tmp_path: Path, capsys: Capture) -> None:
    song = finished_song(tmp_path, ("flac", "mp3"))
    result = cli(capsys, "render", song, "--format", "wav")
    assert result.code == 0
    assert "mix.flac, mix.mp3" in result.err
    assert "stay from an earlier rendering; --force removes them" in result.err
    assert {path.suffix for path in song.glob("mix.*")} == {".flac", ".mp3", ".wav"}
    assert SongFolder.open(song).record.files == RENDERED
    assert cli(capsys, "render", song, "--format", "flac").code == 0, "they are still known as the song's"
    assert cli(capsys, "render", song, "--format", "wav", "--no-stems", "--force").code == 0
    assert sorted(path.name for path in song.glob("*.*") if path.suffix in (".wav", ".flac", ".mp3")) == [
        "mix.wav"
    ]


def test_a_file_that_the_song_did_not_write_is_not_replaced(tmp_path: Path, capsys: Capture) -> None:
    song = finished_song(tmp_path)
    (song / "mix.mp3").write_bytes(b"mine")
    before = all_content(song)
    said = refused(capsys, 5, "render", song, "--format", "mp3")
    assert "was not written for this song; move it away, or pass --force" in said
    assert all_content(song) == before
    assert cli(capsys, "render", song, "--format", "mp3", "--force").code == 0
    assert (song / "mix.mp3").read_bytes() != b"mine"


def test_resume_without_a_song_finds_takes(tmp_path: Path) -> None:
    group = _made(tmp_path / "group")
    finished_song(tmp_path).rename(group / "take-1")
    new_song(tmp_path).path.rename(group / "take-2")
    assert newest_interrupted(tmp_path) == group
    edit_song(group / "take-2", state="refine", draft_files=["draft.wav"], early={"draft": "mix"})
    assert newest_interrupted(tmp_path) is None


def test_a_damaged_chunk_is_refined_again_and_reported(tmp_path: Path) -> None:
    """Every flipped bit is found, in codes as in headers; the other chunks are not made again."""
    folder, codes = new_song(tmp_path), codes_of(700)
    chunks = list(stage2.chunk_grid(700, stage2.BOTH_TRACKS))
    for chunk in chunks:
        folder.save_chunk(
            chunk.track, chunk.start, codes[chunk.track, :, chunk.start : chunk.start + chunk.frames]
        )
    path = folder.path / "chunks" / "0-000000.npz"
    whole, warnings = path.read_bytes(), list[str]()

    def note(event: Event) -> None:
        warnings.append(event.warning)

    for place in np.random.default_rng(1).integers(30, len(whole) - 60, 60):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 8]) + whole[place + 1 :])
        done = phases._whole_chunks(folder, codes[:, 0], stage2.BOTH_TRACKS, note)
        for chunk, kept in done.items():  # what is taken is what was written
            assert (kept == codes[chunk.track, :, chunk.start : chunk.start + chunk.frames]).all()
        assert len(done) >= len(chunks) - 1
    assert len(warnings) > 40
    assert all(warning.endswith("; it is refined again") for warning in warnings)


def test_a_chunk_of_other_codes_is_refined_again(tmp_path: Path) -> None:
    folder, codes = new_song(tmp_path), codes_of(300)
    folder.save_chunk(0, 0, (codes[0] + 1) % 1024)
    warnings: list[str] = []
    done = phases._whole_chunks(folder, codes[:, 0], (0,), lambda event: warnings.append(event.warning))
    assert (done, len(warnings)) == ({}, 1)


def test_seconds_of_an_interrupted_phase_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = new_song(tmp_path)
    clock = iter([100.0, 107.5, 200.0, 201.0])
    monkeypatch.setattr(phases.time, "monotonic", lambda: next(clock))
    for error in (Interrupted("stopped"), StorageError("the disk is full")):
        with pytest.raises(type(error)), phases._timed(folder, "draft"):
            raise error
    assert SongFolder.open(folder.path).record.seconds == {"draft": 8.5}
    assert SongFolder.open(folder.path).state == "draft"


def test_a_folder_that_is_refused_is_not_written_to(tmp_path: Path) -> None:
    folder = new_song(tmp_path)
    before = all_content(folder.path)
    with pytest.raises(DamagedFile), phases._timed(folder, "draft"):
        raise DamagedFile("tokens.log is damaged")
    assert all_content(folder.path) == before


def test_what_another_process_did_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    """A refinement that ended between reading and claiming stays as it is."""
    song = finished_song(tmp_path, state="refine")
    edit_song(song, files=[], draft_files=["draft.wav"], early={"draft": "mix"})
    (song / "draft.wav").write_bytes(b"draft")
    stale = SongFolder.open(song)
    edit_song(song, state="done", files=list(RENDERED), early={"draft": ""})
    with stale.claimed():
        assert (stale.state, stale.early) == ("done", PreviewOptions())


def test_two_threads_never_hold_one_song(tmp_path: Path) -> None:
    song, gate = new_song(tmp_path).path, threading.Barrier(8)
    inside: list[int] = []
    refusals: list[str] = []

    def work() -> None:
        gate.wait(30)
        try:
            with SongFolder.open(song).claimed():
                inside.append(1)
                assert len(inside) == 1
                gate.wait(30)  # the others try while this one holds it
                inside.pop()
        except StorageError as error:
            refusals.append(error.message)
            gate.wait(30)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refusals) == 7
    assert json.loads((song / "song.json").read_text())["state"] == "draft"
