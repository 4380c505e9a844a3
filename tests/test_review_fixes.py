"""Nothing is overwritten unasked, nothing empty is written, nothing half written stays."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import cli

from yuegguf import audio, machine, song
from yuegguf.codes import track_of
from yuegguf.engine import llama
from yuegguf.errors import DamagedFile, RequestError, StorageError
from yuegguf.files import replacing, sweep
from yuegguf.lyrics import parse
from yuegguf.request import SongRequest
from yuegguf.song import SongFolder, newest_interrupted

Capture = pytest.CaptureFixture[str]
GIB = 2**30


@pytest.fixture(autouse=True)
def no_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the machine's owner has installed must not change a test."""
    monkeypatch.setenv("YUEGGUF_MODELS_DIR", str(tmp_path / "no models"))


def recording(path: Path, seconds: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.sin(np.arange(round(16000 * seconds)) / 9), 16000)
    return path


def make(parent: Path) -> SongFolder:
    return SongFolder.create(parent, "song", SongRequest("pop", "[verse]\nla"), {})


# encode and decode


def test_two_recordings_of_one_name_are_refused_before_any_work(capsys: Capture, tmp_path: Path) -> None:
    a, b = recording(tmp_path / "a" / "song.wav"), recording(tmp_path / "b" / "song.flac")
    out = tmp_path / "codes"
    result = cli(capsys, "encode", a, b, "-o", out, "--force", "--threads", 1)
    assert (result.code, out.exists()) == (5, False)
    assert result.error.startswith(f"error: {a} and {b} would both become {out / 'song.npy'}; ")
    twice = cli(capsys, "encode", a, a.parent / ".." / "a" / a.name, "--threads", 1)
    assert (twice.code, sorted(a.parent.iterdir())) == (5, [a])
    apart = cli(capsys, "encode", a, b, "--threads", 1)
    assert apart.out.split() == [str(a.with_suffix(".npy")), str(b.with_suffix(".npy"))]


def test_codes_that_are_there_are_replaced_on_request_only(capsys: Capture, tmp_path: Path) -> None:
    first, second = recording(tmp_path / "a.wav"), recording(tmp_path / "vocal.wav")
    kept = tmp_path / "vocal.npy"
    kept.write_bytes(b"mine")
    result = cli(capsys, "encode", first, second, "--threads", 1)
    assert (result.code, kept.read_bytes(), (tmp_path / "a.npy").exists()) == (5, b"mine", False)
    assert result.error == f"error: {kept} is already there; pass -o FOLDER, or --force to replace it"
    assert cli(capsys, "encode", first, second, "--threads", 1, "--force").code == 0
    assert np.load(kept).shape == (8, 50)


@pytest.mark.parametrize(
    ("window", "sentence"),
    [
        (("--start", "100"), "the window from 100 s holds nothing of {file}, which is 1 s long; "),
        (("--start", "1"), "the window from 1 s holds nothing of {file}, which is 1 s long; "),
        (("--start", "1e308"), "the window from 1e+308 s holds nothing of {file}, which is 1 s long; "),
        (("--start", "0.001", "--end", "0.002"), "the window from 0.001 s holds nothing of {file}"),
        (("--start", "nan"), "the window nan-inf s is empty; pass --start < --end"),
        (("--start", "inf"), "the window inf-inf s is empty; pass --start < --end"),
        (("--end", "nan"), "the window 0-nan s is empty; pass --start < --end"),
        (("--start", "2", "--end", "1"), "the window 2-1 s is empty; pass --start < --end"),
    ],
)
def test_windows_without_a_frame_are_refused(
    window: tuple[str, ...], sentence: str, capsys: Capture, tmp_path: Path
) -> None:
    file = recording(tmp_path / "a.wav")
    result = cli(capsys, "encode", file, *window, "--threads", 1)
    assert (result.code, list(tmp_path.iterdir())) == (5, [file])
    assert result.error.startswith("error: " + sentence.format(file=file))


@pytest.mark.parametrize("end", ["inf", "1e308", "1000"])
def test_an_end_past_the_file_is_its_end(end: str, capsys: Capture, tmp_path: Path) -> None:
    file = recording(tmp_path / "a.wav")
    result = cli(capsys, "encode", file, "--start", 0.5, "--end", end, "--threads", 1, "--json")
    assert result.json["files"][0]["frames"] == 25


def test_codes_of_no_frames_become_no_audio(capsys: Capture, tmp_path: Path) -> None:
    for name in ("a_vtrack.npy", "a_itrack.npy"):
        np.save(tmp_path / name, np.zeros((8, 0), np.int16))
    before = sorted(tmp_path.iterdir())
    for given in (tmp_path / "a_vtrack.npy", tmp_path):
        result = cli(capsys, "decode", given, "--threads", 1)
        assert (result.code, sorted(tmp_path.iterdir())) == (5, before)
        assert result.error.startswith(f"error: {given} holds no frames of music; ")


@pytest.mark.parametrize(
    ("name", "track"),
    [
        ("instrumental-rock_tp0@93_T1@0_rp1@2_maxtk3000_vtrack", "vocal"),
        ("instrumental-rock_tp0@93_T1@0_rp1@2_maxtk3000_itrack", "instrumental"),
        ("vocal-jazz_itrack", "instrumental"),
        ("Instrumental", "instrumental"),
        ("song", "vocal"),
    ],
)
def test_yues_own_mark_outweighs_the_genre_in_a_name(name: str, track: str) -> None:
    assert track_of(Path(f"{name}.npy")) == track


# The song folder


def test_what_a_killed_process_left_goes_when_the_folder_is_claimed(tmp_path: Path) -> None:
    folder = make(tmp_path)
    folder.save_chunk(0, 0, np.zeros((8, 3), np.int16))
    kept = sorted(folder.path.rglob("*"))
    for name in (".mix.wav.4711.part", "chunks/.0-000000.npy.12.part", "cache/1/.row0.bin.9.part"):
        (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.path / name).write_bytes(b"half")
    (folder.path / ".my.part").write_text("not one of ours")
    SongFolder.open(folder.path)
    assert (folder.path / ".mix.wav.4711.part").exists()  # somebody may be writing it
    folder.lock()
    left = {path for path in folder.path.rglob("*") if path.is_file()}
    assert left == {*(path for path in kept if path.is_file()), folder.path / ".my.part"}


def test_a_writer_that_is_killed_leaves_a_file_that_sweep_knows(tmp_path: Path) -> None:
    code = (
        "import time; from pathlib import Path; from yuegguf.files import replacing\n"
        f"with replacing(Path({str(tmp_path / 'mix.wav')!r})) as part:\n"
        "    part.write_bytes(b'half'); time.sleep(60)"
    )
    process = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", code])
    deadline = time.monotonic() + 30
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    assert [path.name for path in tmp_path.iterdir()] == [f".mix.wav.{process}.part"]
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_process_that_is_at_work_loses_nothing(tmp_path: Path) -> None:
    folder = make(tmp_path)
    folder.lock()
    with replacing(folder.path / "mix.wav") as part:
        part.write_bytes(b"sound")
        with pytest.raises(StorageError, match="being worked on by another yuegguf"):
            SongFolder.open(folder.path).lock()
    assert (folder.path / "mix.wav").read_bytes() == b"sound"


def test_the_state_is_read_again_under_the_lock(tmp_path: Path) -> None:
    waiting = make(tmp_path)
    other = SongFolder.open(waiting.path)
    other.lock()
    other.advance("done", files=["mix.wav"])
    other.unlock()
    waiting.lock()
    assert (waiting.state, waiting.fact("files")) == ("done", ["mix.wav"])
    waiting.unlock()
    (waiting.path / "song.json").write_text("{")
    with pytest.raises(DamagedFile):
        waiting.lock()
    other.unlock()
    (waiting.path / "song.json").write_text(json.dumps(waiting._data))
    other.lock()  # the failed claim let go


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF])
def test_a_file_system_without_locks_can_hold_songs(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def flock(_handle: int, _how: int) -> None:
        raise OSError(number, os.strerror(number))

    folder = make(tmp_path)
    monkeypatch.setattr(fcntl, "flock", flock)
    part = folder.path / ".mix.wav.1.part"
    part.touch()
    folder.lock()
    assert part.exists()  # without a lock nobody knows whose it is
    folder.unlock()


def aged(folder: SongFolder, name: str, seconds: float) -> None:
    file = folder.path / name
    file.parent.mkdir(exist_ok=True)
    file.touch()
    os.utime(file, (seconds, seconds))


@pytest.mark.parametrize("name", ["tokens.log", "chunks/0-000000.npy"])
def test_the_newest_song_is_the_one_worked_on_last(name: str, tmp_path: Path) -> None:
    older, newer = make(tmp_path), make(tmp_path)
    aged(older, "song.json", 1000)
    aged(newer, "song.json", 2000)
    assert newest_interrupted(tmp_path) == newer.path
    aged(older, name, 3000)
    assert newest_interrupted(tmp_path) == older.path


@pytest.mark.parametrize("content", ["{", '{"format": 99}'])
def test_a_folder_that_cannot_be_opened_does_not_block_the_others(content: str, tmp_path: Path) -> None:
    good, bad = make(tmp_path), make(tmp_path)
    (bad.path / "song.json").write_text(content)
    aged(good, "song.json", 1000)
    assert newest_interrupted(tmp_path) == good.path
    good.advance("done")
    with pytest.raises(DamagedFile, match=r"damaged|newer"):
        newest_interrupted(tmp_path)


def test_the_credit_is_the_same_in_folders_and_files(tmp_path: Path) -> None:
    assert make(tmp_path).fact("credit") == audio.CREDIT == song.CREDIT
    assert audio.Tags().comment.startswith(audio.CREDIT)


# The machine


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cgroup of 8 GiB of which 7 are used, 5 of those by page cache, on a machine with 20 free."""
    monkeypatch.setattr(machine, "_meminfo", lambda _name: 20 * GIB)
    (tmp_path / "memory.max").write_text(f"{8 * GIB}\n")
    (tmp_path / "memory.current").write_text(f"{7 * GIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon {2 * GIB}\nfile {5 * GIB}\ninactive_file {4 * GIB}\n")
    return tmp_path


def test_page_cache_is_free_memory_in_a_container(container: Path) -> None:
    assert machine.available_memory(container) == 5 * GIB
    (container / "memory.stat").unlink()
    assert machine.available_memory(container) == 1 * GIB


def test_a_container_has_no_more_than_its_limit_and_its_machine(container: Path) -> None:
    (container / "memory.stat").write_text(f"inactive_file {9 * GIB}\n")  # a moment later than the rest
    assert machine.available_memory(container) == 8 * GIB
    (container / "memory.max").write_text("max\n")
    assert machine.available_memory(container) == 20 * GIB
    assert machine.available_memory(container / "nowhere") == 20 * GIB


def test_ggml_names_the_processor_and_its_memory() -> None:
    found = llama.devices()
    assert "CPU" in [device["name"] for device in found]
    for device in found:
        assert set(device) == {"name", "description", "kind", "memory_free", "memory_total"}
        assert device["kind"] == "cpu" or device["name"] != "CPU"
        assert 0 < int(device["memory_free"]) <= int(device["memory_total"])


def test_a_binding_without_ggmls_library_has_no_devices(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(llama.lib, "__file__", str(tmp_path / "__init__.py"))
    assert llama.devices() == []


def test_doctor_shows_devices_and_the_way_to_a_gpu(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = {"memory_free": 7 * GIB, "memory_total": 8 * GIB}
    card = {"name": "CUDA0", "description": "Some card", "kind": "gpu", **memory}
    info = llama.build_info()
    monkeypatch.setattr(llama, "devices", lambda: [card])
    for gpu in ("yes", "no"):
        monkeypatch.setattr(llama, "build_info", lambda gpu=gpu: {**info, "gpu": gpu})
        facts, text = cli(capsys, "doctor", "--json").json, cli(capsys, "doctor").out
        assert facts["devices"] == [card]
        assert "device       CUDA0: Some card, 7.0 GiB free of 8.0 GiB\n" in text
        assert ("CMAKE_ARGS" in text) == ("CMAKE_ARGS" in (facts["gpu_build"] or "")) == (gpu == "no")


# convert and export-codec


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


def test_a_codec_that_is_there_is_replaced_on_request_only(capsys: Capture, tmp_path: Path) -> None:
    from nano import codec_weights

    codec_weights.write(tmp_path / "checkpoints")
    out = tmp_path / "out"
    out.mkdir()
    (out / "decoder.onnx").write_bytes(b"mine")
    line = ("export-codec", tmp_path / "checkpoints", "-o", out)
    result = cli(capsys, *line)
    assert result.code == 1
    assert result.error == (
        f"error: the codec in {out} exists already; choose another folder, or ask to overwrite it (--force)"
    )
    assert [path.name for path in out.iterdir()] == ["decoder.onnx"]
    assert cli(capsys, *line, "--force").code == 0
    assert (out / "decoder.onnx").stat().st_size > 1000
    assert len(list(out.iterdir())) == 4


def test_a_disk_that_fills_up_at_the_last_file_keeps_the_old_codec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from yuegguf_onnx_codec import export

    from nano import codec_weights

    codec_weights.write(tmp_path / "checkpoints")
    out = tmp_path / "out"
    out.mkdir()
    for role in export.ROLES:
        (out / f"{role}.onnx").write_text("old")

    def flush(path: Path) -> None:
        assert path.name.startswith(".")
        if path.name.startswith(f".{export.ROLES[-1]}."):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export, "flush", flush)
    with pytest.raises(StorageError, match="the disk is full"):
        export.export_codec(*export.find_checkpoints(tmp_path / "checkpoints"), out, overwrite=True)
    assert [path.read_text() for path in out.iterdir()] == ["old"] * 4


# Lyrics


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ("[副歌 1]", "副歌"),
        ("[코러스 2]", "코러스"),
        ("[サビ x2]", "サビ"),
        ("[サビ 2x]", "サビ"),
        ("[サビ ×2]", "サビ"),
        ("[副歌：2]", "副歌"),
        ("[Припев 3]", "Припев"),
        ("[副歌]", "副歌"),
    ],
)
def test_labels_of_other_scripts_may_have_a_number(written: str, label: str) -> None:
    parsed = parse(f"[verse]\nla\n{written}\nlo")
    assert [section.label for section in parsed.sections] == ["verse", label]
    said = [] if written == f"[{label}]" else [f"line 3: {written} is sung as [{label}]"]
    assert list(parsed.notices) == said


@pytest.mark.parametrize(
    "line", ["[softly 2]", "[doucement é 2]", "[月亮 代表 2]", "[副歌 2] 啦", "[x2]", "[×2]"]
)
def test_what_is_not_a_word_and_a_number_stays_lyrics(line: str) -> None:
    parsed = parse(f"[verse]\nla\n{line}\nlo")
    assert [section.body for section in parsed.sections] == [f"la\n{line}\nlo"]
    assert len(parsed.notices) == 1


def test_the_window_of_a_request_is_refused_as_one() -> None:
    from yuegguf.cli.codes import _window

    assert _window(0.5, None) == slice(25, sys.maxsize)
    assert _window(0.3, 1.1) == slice(15, 55)
    with pytest.raises(RequestError, match="is empty"):
        _window(1.0, 1.0)
