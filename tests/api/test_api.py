"""The functions of `yuegguf`: equal to the commands, stopped and gone on with, nothing replaced unasked."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import FAST, FRAMES, OURS, Capture, cli, ended

import yuegguf
from yuegguf.errors import Interrupted, ModelNotFound, RequestError
from yuegguf.models import lockfile
from yuegguf.models.lockfile import Installed
from yuegguf.request.prepared import prepare
from yuegguf.song.folder import SongFolder

SONG = (*OURS, *FAST)
NANO = yuegguf.ModelChoice("nano")
ONE_THREAD = yuegguf.ComputeOptions(threads=1)
REQUEST = yuegguf.SongRequest("pop", "[verse]\nla la\n[chorus]\nlo lo", segment_seconds=1, seed=5)
FACTS = yuegguf.ImportFacts("pop", "[verse]\nla\n")
pytestmark = pytest.mark.usefixtures("no_models")


def stopped() -> threading.Event:
    stop = threading.Event()
    stop.set()
    return stop


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def recording(path: Path, seconds: float) -> Path:
    soundfile.write(path, 0.1 * np.sin(np.arange(round(16000 * seconds)) / 9), 16000)
    return path


def test_an_extension_is_that_of_the_command(song: Path, capsys: Capture, tmp_path: Path) -> None:
    request = yuegguf.ExtendRequest(8, retake=2)
    ours = yuegguf.extend(song, request, NANO, tmp_path / "ours", compute=ONE_THREAD)
    arguments = ("extend", song, "--retake", 2, "--seed", 8, "--threads", 1, "-m", "nano")
    theirs = ended(cli(capsys, *arguments, "-o", tmp_path / "theirs", "--json")).folder
    first, second = SongFolder.open(ours.folder), SongFolder.open(theirs)
    assert np.array_equal(first.load_stage2(), second.load_stage2())
    assert first.request == second.request
    assert (first.title, first.record.origin) == (second.title, second.record.origin)
    assert [file.name for file in ours.files] == ["mix.wav", "vocals.wav", "instrumental.wav"]


def test_takes_are_drafted_stopped_gone_on_with_and_kept(tmp_path: Path) -> None:
    stop = threading.Event()

    def at_once(event: yuegguf.Event) -> None:
        if event.done:
            stop.set()

    with pytest.raises(Interrupted) as interrupted:
        yuegguf.draft_takes(REQUEST, 2, NANO, tmp_path, compute=ONE_THREAD, progress=at_once, stop=stop)
    folder = interrupted.value.folder
    assert folder is not None
    drafts = yuegguf.resume_takes(folder, compute=ONE_THREAD)
    assert [(take.folder.name, take.draft) for take in drafts] == [("take-1", True), ("take-2", True)]
    listed = [(take.folder, take.number, take.state, take.seconds) for take in yuegguf.list_takes(folder)]
    assert listed == [(take.folder, n, "draft", take.seconds) for n, take in enumerate(drafts, 1)]
    before = contents(folder)
    with pytest.raises(RequestError, match="there is no take 3"):
        yuegguf.keep_takes(folder, [2, 3], delete_others=True)
    for numbers, words in (([], "no take is chosen"), ([2, 2], r"a take is chosen twice \(2, 2\)")):
        with pytest.raises(RequestError, match=words):
            yuegguf.keep_takes(folder, numbers, delete_others=True, compute=ONE_THREAD)
    assert contents(folder) == before
    with pytest.raises(Interrupted):
        yuegguf.keep_takes(folder, [2], delete_others=True, compute=ONE_THREAD, stop=stopped())
    assert contents(folder / "take-1") == {
        name.removeprefix("take-1/"): data for name, data in before.items() if name.startswith("take-1/")
    }
    (kept,) = yuegguf.keep_takes(folder, [2], delete_others=True, compute=ONE_THREAD)
    assert (kept.folder.name, kept.draft) == ("take-2", False)
    assert [path.name for path in folder.glob("take-*")] == ["take-2"]
    assert [(take.number, take.state) for take in yuegguf.list_takes(folder)] == [(2, "done")]


@pytest.mark.parametrize("takes", [1, 0, 17])
def test_takes_are_two_to_sixteen(takes: int, song: Path, tmp_path: Path) -> None:
    parent = tmp_path / "songs"
    for draft in (
        lambda: yuegguf.draft_takes(REQUEST, takes, NANO, parent),
        lambda: yuegguf.draft_extensions(song, yuegguf.ExtendRequest(8, retake=2), takes, NANO, parent),
    ):
        with pytest.raises(RequestError, match=f"{takes} takes are"):
            draft()
    assert not parent.exists()


def test_a_request_for_the_missing_track_is_as_long_as_the_recording(tmp_path: Path) -> None:
    file = str(recording(tmp_path / "a.wav", 61.0))
    vocal = yuegguf.GuideTrack("vocal", file, offset=0.5)
    request = yuegguf.stems_request(vocal, "folk", seed=3, output=yuegguf.Output(("flac",)))
    assert request.track == replace(vocal, frames=3025)
    assert prepare(request).caps == (1008, 1008, 1009)
    assert (request.seed, request.output.formats) == (3, ("flac",))
    assert yuegguf.stems_request(vocal, "folk", "[verse]\nla\n").lyrics == "[verse]\nla\n"
    with pytest.raises(RequestError, match="needs words"):
        yuegguf.stems_request(yuegguf.GuideTrack("instrumental", file), "folk")
    with pytest.raises(RequestError, match="names no recording"):
        yuegguf.stems_request(yuegguf.GuideTrack("vocal"), "folk")


def test_without_models_the_bundled_ones_are_used_with_a_warning(tmp_path: Path) -> None:
    told: list[str] = []
    yuegguf.generate(
        REQUEST, output_dir=tmp_path, compute=ONE_THREAD, progress=lambda event: told.append(event.warning)
    )
    assert [text for text in told if "'nano' is used" in text]


def refuse_twice(write: Callable[[bool], object], folder: Path) -> None:
    """The second call is refused and changes nothing, and `force` replaces the files."""
    write(False)
    before = contents(folder)
    with pytest.raises(RequestError, match="already"):
        write(False)
    assert contents(folder) == before
    write(True)
    assert contents(folder) == before


def test_no_function_replaces_a_file_unasked(song: Path, tmp_path: Path) -> None:
    sound, out = recording(tmp_path / "a.wav", 1.0), tmp_path / "out"
    refuse_twice(lambda force: yuegguf.encode(sound, out, NANO, force=force), out)
    refuse_twice(lambda force: yuegguf.decode(song, out, force=force), out)
    refuse_twice(lambda force: yuegguf.export_song(song, out, force=force), out)
    refuse_twice(lambda force: yuegguf.export_song(song, out, yue_ui=True, force=force), out)
    refuse_twice(lambda force: yuegguf.bundle(song, out / "song.zip", force=force), out)


def test_codes_are_told_by_their_files_and_lengths(song: Path, tmp_path: Path) -> None:
    sounds = [recording(tmp_path / "a.wav", 2.0), recording(tmp_path / "b.wav", 1.0)]
    options = yuegguf.EncodeOptions(codebooks=3, start=0.5, end=1.5)
    codes = yuegguf.encode(sounds, tmp_path / "codes", NANO, options)
    assert [(each.file.name, each.codebooks, each.frames) for each in codes] == [
        ("a.npy", 3, 50),
        ("b.npy", 3, 25),
    ]
    assert [np.load(each.file).shape for each in codes] == [(3, 50), (3, 25)]
    audio = yuegguf.decode(str(song), tmp_path / "audio", output=yuegguf.Output(stems=False))
    assert (audio.files, audio.seconds) == ((tmp_path / "audio" / "mix.wav",), FRAMES / 50)


def test_a_stopped_encoding_leaves_whole_files_only(tmp_path: Path) -> None:
    sounds, out = [recording(tmp_path / name, 1.0) for name in ("a.wav", "b.wav")], tmp_path / "codes"
    stop = threading.Event()

    def at_the_second(event: yuegguf.Event) -> None:
        if (event.phase, event.done, event.total, event.note) == ("encode", 1, 2, "b.wav"):
            stop.set()

    with pytest.raises(Interrupted):
        yuegguf.encode(sounds, out, NANO, progress=at_the_second, stop=stop)
    assert [path.name for path in out.iterdir()] == ["a.npy"]
    with pytest.raises(Interrupted):
        yuegguf.import_song(yuegguf.StemFiles(*sounds), NANO, tmp_path / "songs", FACTS, stop=stopped())
    assert not (tmp_path / "songs").exists()
    assert yuegguf.import_song(yuegguf.StemFiles(*sounds), NANO, tmp_path / "songs", FACTS).frames == (50,)


def test_an_imported_song_is_that_of_the_command(song: Path, capsys: Capture, tmp_path: Path) -> None:
    yuegguf.export_song(song, tmp_path / "pair")
    told: list[str] = []
    imported = yuegguf.import_song(
        tmp_path / "pair" / "stage2",
        NANO,
        tmp_path / "ours",
        yuegguf.ImportFacts(lyrics="[verse]\nla\n", starts=()),
        compute=ONE_THREAD,
        progress=lambda event: told.append(event.warning),
    )
    arguments = ("import", tmp_path / "pair" / "stage2", "-l", "[verse]\nla\n", "-m", "nano", "--threads", 1)
    theirs = ended(cli(capsys, *arguments, "-o", tmp_path / "theirs", "--json"))
    assert theirs.json == {
        "folder": theirs.json["folder"],
        "state": imported.state,
        "seconds": imported.seconds,
        "frames": list(imported.frames),
    }
    assert (imported.state, imported.seconds, sum(imported.frames)) == ("master", FRAMES / 50, FRAMES)
    assert [f"note: {text}" for text in told if text] == theirs.err.splitlines()[: len([*filter(None, told)])]
    with pytest.raises(RequestError, match="is a song folder already"):
        yuegguf.import_song(song, NANO, tmp_path / "ours")


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """An offline kit of two models."""
    folder, data = tmp_path / "kit", {"en-cot": b"one", "zh-cot": b"two" * 9}
    folder.mkdir()
    for model, content in data.items():
        (folder / f"{model}-Q8_0.gguf").write_bytes(content)
    digests = {model: hashlib.sha256(content).hexdigest() for model, content in data.items()}
    entries = [
        Installed(
            f"{model}-Q8_0.gguf", model, "Q8_0", len(content), digests[model], "", "m-a-p/x", "0", {}, "y"
        )
        for model, content in data.items()
    ]
    lockfile.update_lock(folder, entries)
    return folder


def test_a_stopped_installation_goes_on(kit: Path, tmp_path: Path) -> None:
    root = tmp_path / "models"
    with pytest.raises(Interrupted):
        yuegguf.install_kit(kit, models_dir=root, stop=stopped())
    assert lockfile.read_lock(root) == {}
    files = yuegguf.install_kit(str(kit), models_dir=str(root))
    assert [(each.name, each.file, each.bytes) for each in files] == [
        ("en-cot:Q8_0", root / "en-cot-Q8_0.gguf", 3),
        ("zh-cot:Q8_0", root / "zh-cot-Q8_0.gguf", 27),
    ]
    assert contents(root)["zh-cot-Q8_0.gguf"] == b"two" * 9


def test_models_in_the_folder_are_put_into_a_kit_without_a_network(kit: Path, tmp_path: Path) -> None:
    files = yuegguf.pull(["zh-cot:Q8_0"], kit, yuegguf.PullOptions(offline=True), kit=tmp_path / "new")
    assert [(each.name, each.file) for each in files] == [
        ("zh-cot:Q8_0", tmp_path / "new" / "zh-cot-Q8_0.gguf")
    ]
    again = yuegguf.pull(["zh-cot"], tmp_path / "new", yuegguf.PullOptions(offline=True), quant="q8_0")
    assert [(each.name, each.new) for each in again] == [("zh-cot:Q8_0", False)]
    with pytest.raises(ModelNotFound, match="is not on this machine"):
        yuegguf.pull(["en-cot:Q8_0"], tmp_path / "new", yuegguf.PullOptions(offline=True))


def test_models_that_cannot_be_asked_for(tmp_path: Path) -> None:
    for names, chosen, message in (
        ((), None, "no model is named"),
        (("nano-x",), None, "nano-x"),
        ((), "none", "there is no set none"),
    ):
        with pytest.raises(RequestError, match=message):
            yuegguf.pull(names, tmp_path / "models", set_name=chosen)
    assert not (tmp_path / "models").exists()
