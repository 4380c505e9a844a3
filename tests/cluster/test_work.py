"""A unit on one machine: phases by leases, models by their hashes, storage by its token."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fake_cluster import OPTIONS, abandoned, new_songs
from helpers import song_bytes

from yuegguf.cluster import control, work
from yuegguf.cluster.node_models import models_on_node
from yuegguf.cluster.unit import Control, ModelPlaces, Outcome, Unit, UnitPhase, UnitSong
from yuegguf.errors import DamagedFile, EngineError, ModelNotFound, YueError
from yuegguf.models import lockfile, resolve
from yuegguf.models.resolve import nano_models
from yuegguf.pipeline import phases
from yuegguf.pipeline.run import run_song
from yuegguf.pipeline.song_models import describe
from yuegguf.progress import silent
from yuegguf.song.folder import SongFolder
from yuegguf.song.lease import Lease, leased, read_lease


@pytest.fixture
def place(tmp_path: Path) -> Control:
    return control.open_control(tmp_path, "driver-1")


def unit_of(phase: UnitPhase, place: Control, *paths: Path, parallel: int = 1) -> Unit:
    songs = tuple(UnitSong(str(path), place) for path in paths)
    return Unit(f"driver-1/{phase}", phase, songs, OPTIONS, parallel)


def run_unit(unit: Unit) -> tuple[Outcome, ...]:
    report = work.run_unit(unit, "id", "machine")
    assert report.node == "id"
    return report.outcomes


def test_a_unit_leaves_why_llama_cpp_ends_its_process(
    tmp_path: Path, place: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers: list[Callable[[YueError], object]] = []
    monkeypatch.setattr(work, "report_aborts", handlers.append)
    (song,) = new_songs(tmp_path, 1)
    unit = unit_of("master", place, song.path)  # not the song's phase: nothing is computed
    run_unit(unit)
    assert control.abort_reason(place, unit.name) == ""
    handlers[0](EngineError("llama.cpp gave up (\N{SNOWMAN})" + "x" * 9999))
    reason = control.abort_reason(place, unit.name)
    assert reason.startswith("llama.cpp gave up (\N{SNOWMAN})xxx")
    assert len(reason.encode()) <= control.MOST_ABORT_BYTES
    assert control.abort_reason(place, "driver-1/another") == ""


@pytest.mark.parametrize("parallel", [1, 2])
def test_the_units_of_songs_give_what_one_command_gives(
    tmp_path: Path, place: Control, parallel: int
) -> None:
    alone = new_songs(tmp_path / "alone", 2)
    for song in alone:
        run_song(song, nano_models(), OPTIONS, silent, None)
    paths = [song.path for song in new_songs(tmp_path, 2)]
    following: list[tuple[UnitPhase, str]] = [("draft", "refine"), ("refine", "master"), ("master", "done")]
    for phase, then in following:
        outcomes = run_unit(unit_of(phase, place, *paths, parallel=parallel))
        assert [(each.kind, each.phase) for each in outcomes] == [("done", then)] * 2
        assert [read_lease(path) for path in paths] == [None, None]
    assert [song_bytes(path) for path in paths] == [song_bytes(song.path) for song in alone]
    assert sorted(p.name for p in paths[0].iterdir()) == sorted(p.name for p in alone[0].path.iterdir())


def test_a_unit_that_comes_too_late_changes_nothing(tmp_path: Path, place: Control) -> None:
    (song,) = new_songs(tmp_path, 1)
    run_unit(unit_of("draft", place, song.path))
    before = {file.name: file.read_bytes() for file in song.path.iterdir() if file.is_file()}
    (outcome,) = run_unit(unit_of("draft", place, song.path))
    assert (outcome.kind, outcome.phase) == ("done", "refine")
    assert {file.name: file.read_bytes() for file in song.path.iterdir() if file.is_file()} == before


def test_a_song_that_another_machine_holds_is_left_to_it(tmp_path: Path, place: Control) -> None:
    held, free = new_songs(tmp_path, 2)
    with leased(held.path, "other/1", "elsewhere"):
        outcomes = run_unit(unit_of("draft", place, held.path, free.path))
    assert [(each.folder, each.kind) for each in outcomes] == [
        (str(held.path), "busy"),
        (str(free.path), "done"),
    ]


def test_models_are_looked_for_before_a_lease_needs_signs_of_life(
    tmp_path: Path, place: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    songs = new_songs(tmp_path, 2)
    held: list[Lease | None] = []

    def pulled(folder: SongFolder, places: ModelPlaces) -> resolve.Models:
        held.extend(read_lease(song.path) for song in songs)
        if folder.path == songs[1].path:
            raise ModelNotFound("this machine has it not", "install it")
        return nano_models()

    monkeypatch.setattr(work, "models_on_node", pulled)
    outcomes = run_unit(unit_of("draft", place, *(song.path for song in songs)))
    assert held == [None] * 4
    assert sorted((each.folder, each.kind) for each in outcomes) == [
        (str(songs[0].path), "done"),
        (str(songs[1].path), "failed"),
    ]


def test_a_machine_with_another_storage_does_not_touch_a_song(tmp_path: Path, place: Control) -> None:
    (song,) = new_songs(tmp_path, 1)
    (tmp_path / ".cluster" / "driver-1" / "token").write_text("of another storage")
    (outcome,) = run_unit(unit_of("draft", place, song.path))
    assert outcome.kind == "unfit"
    assert outcome.error is not None
    assert "does not see the folder of songs" in outcome.error.message
    assert [file.name for file in song.path.iterdir()] == ["song.json"]


def test_a_song_that_is_taken_over_in_the_middle_ends_as_busy_and_without_a_trace(
    tmp_path: Path, place: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    (song,) = new_songs(tmp_path, 1)
    content: dict[str, bytes] = {}
    plain = phases.encode_inputs

    def taken_over(*args: object) -> float:
        abandoned(song.path, "other/1", read_lease(song.path))
        content["song.json"] = (song.path / "song.json").read_bytes()
        return plain(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(phases, "encode_inputs", taken_over)
    monkeypatch.setattr(work, "BEAT_SECONDS", 1e-3)
    (outcome,) = run_unit(unit_of("draft", place, song.path))
    assert outcome.kind == "busy"
    assert {"song.json": (song.path / "song.json").read_bytes()} == content
    assert {file.name for file in song.path.iterdir()} <= {"song.json", "lease", ".lock"}


@pytest.mark.parametrize("ask", [control.ask_to_stop, control.close_control])
def test_a_driver_that_stops_or_is_gone_stops_its_units(
    tmp_path: Path, place: Control, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Control], None]
) -> None:
    (song,) = new_songs(tmp_path, 1)
    plain, looks, passed_on = phases.encode_inputs, iter([False, False]), threading.Event()

    def look(asked: Control) -> bool:
        found = control.is_stopped(asked)
        if found and next(looks, True):  # what the looks before have found was passed on
            passed_on.set()
        return found

    def stopped(*args: object) -> float:
        ask(place)
        assert passed_on.wait(60)
        return plain(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(work, "BEAT_SECONDS", 1e-3)
    monkeypatch.setattr(work, "is_stopped", look)
    monkeypatch.setattr(phases, "encode_inputs", stopped)
    (outcome,) = run_unit(unit_of("draft", place, song.path))
    assert outcome.kind == "interrupted"
    assert read_lease(song.path) is None


def test_errors_of_a_song_travel_with_their_kind_and_hint(tmp_path: Path, place: Control) -> None:
    (song,) = new_songs(tmp_path, 1)
    song.advance("draft", models={})
    SongFolder.open(song.path).advance("draft", family="own")
    (outcome,) = run_unit(unit_of("draft", place, song.path))
    assert (outcome.kind, outcome.error and outcome.error.kind) == ("failed", "DamagedFile")
    assert outcome.error is not None
    error = outcome.error.error(song.path)
    assert (type(error), error.folder, bool(error.hint)) == (DamagedFile, song.path, True)


# models by their hashes


def own_models(tmp_path: Path) -> SongFolder:
    """A song whose models lie where this machine has none."""
    (song,) = new_songs(tmp_path, 1)
    models = describe(nano_models())
    away = {
        "stage1": "/mnt/driver/en-cot-Q4_0.gguf",
        "stage2": "/mnt/driver/s2-general-Q4_0.gguf",
        "codec": "/mnt/driver/xcodec/decoder.onnx",
    }
    moved = {role: type(file)(file=away[role], bytes=file.bytes, fingerprint=file.fingerprint)
             for role, file in models.items()}  # fmt: skip
    song.advance("draft", models=moved, family="en-cot-Q4_0")
    return song


def installed(root: Path) -> Path:
    """The bundled models under the names of published ones."""
    nano = nano_models()
    (root / "xcodec").mkdir(parents=True)
    shutil.copyfile(nano.stage1, root / "en-cot-Q4_0.gguf")
    shutil.copyfile(nano.stage2, root / "s2-general-Q4_0.gguf")
    for file in nano.codec.glob("*.onnx"):
        shutil.copyfile(file, root / "xcodec" / file.name)
    return root


def test_a_machine_finds_the_models_in_its_own_folder_by_their_hashes(tmp_path: Path) -> None:
    song, root = own_models(tmp_path), installed(tmp_path / "models")
    found = models_on_node(song, ModelPlaces(str(root)))
    assert (found.stage1, found.stage2) == (root / "en-cot-Q4_0.gguf", root / "s2-general-Q4_0.gguf")
    assert found.codec == root / "xcodec"
    with pytest.raises(ModelNotFound, match="this machine has neither"):
        models_on_node(song, ModelPlaces(str(tmp_path / "none")))


def test_a_model_with_another_hash_is_refused(tmp_path: Path) -> None:
    song, root = own_models(tmp_path), installed(tmp_path / "models")
    with (root / "s2-general-Q4_0.gguf").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DamagedFile, match=r"not the model that the song was started with"):
        models_on_node(song, ModelPlaces(str(root)))


def test_missing_models_are_installed_from_the_kit(tmp_path: Path) -> None:
    song, kit = own_models(tmp_path), installed(tmp_path / "kit")
    entries = []
    for path in sorted(kit.rglob("*.*")):
        name = path.relative_to(kit).as_posix()
        model, quant = ("xcodec", "") if "/" in name else (name.rsplit("-", 1)[0], "Q4_0")
        entries.append(lockfile.Installed(
            name, model, quant, path.stat().st_size, lockfile.sha256_of(path), "", "repo", "0", {}, "test"
        ))  # fmt: skip
    lockfile.update_lock(kit, entries)
    root = tmp_path / "models"
    found = models_on_node(song, ModelPlaces(str(root), str(kit)))
    assert found == resolve.Models(
        found.name, root / "en-cot-Q4_0.gguf", root / "s2-general-Q4_0.gguf", root / "xcodec"
    )
    assert {entry.path for entry in lockfile.read_lock(root).values()} == {entry.path for entry in entries}
    (kit / "en-cot-Q4_0.gguf").write_bytes(b"another file")
    (root / "en-cot-Q4_0.gguf").unlink()
    with pytest.raises(DamagedFile):
        models_on_node(song, ModelPlaces(str(root), str(kit)))
    (root / "en-cot-Q4_0.gguf").write_bytes(b"mine")
    with pytest.raises(DamagedFile, match=r"not the model that the song was started with"):
        models_on_node(song, ModelPlaces(str(root), str(kit)))
    assert (root / "en-cot-Q4_0.gguf").read_bytes() == b"mine"


def test_the_bundled_models_need_no_place(tmp_path: Path) -> None:
    (song,) = new_songs(tmp_path, 1)
    assert replace(models_on_node(song, ModelPlaces(str(tmp_path / "none"))), name="nano") == nano_models()
