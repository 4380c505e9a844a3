"""Songs with LoRA adapters, from `convert-lora` to `resume`, on the bundled models."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from adapters import write_peft
from helpers import FAST, TEXT, Capture, cli, edit_song, ended, refused, song_bytes

import yuegguf
from yuegguf.errors import RequestError
from yuegguf.files.hashing import fingerprint
from yuegguf.lm.adapters import Lora
from yuegguf.models.resolve import ModelChoice, find_lora, nano_models, resolve
from yuegguf.pipeline import engines, preflight
from yuegguf.pipeline.song_models import describe_loras
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.song.folder import SongFolder

NANO = nano_models()
SONG = (*TEXT, *FAST)
pytestmark = pytest.mark.usefixtures("no_models")


@pytest.fixture
def root(tmp_path: Path, capsys: Capture) -> Path:
    """A models folder with an adapter "opera" for the bundled stage 1."""
    folder = write_peft(tmp_path / "opera", NANO.stage1, seed=3, spread=0.1)
    line = ("--models-dir", tmp_path / "models", "convert-lora", folder, "--base", NANO.stage1, "--json")
    made = cli(capsys, *line)
    assert made.code == 0, made.err
    file = tmp_path / "models" / "loras" / "opera.gguf"
    assert made.json == {"file": str(file), "bytes": file.stat().st_size}
    return tmp_path / "models"


def sing(capsys: Capture, root: Path, out: Path, *loras: str) -> Path:
    flags = [part for lora in loras for part in ("--lora", lora)]
    made = cli(capsys, "--models-dir", root, "run", *SONG, *flags, "-o", out, "--json")
    assert made.code == 0, made.err
    return Path(made.json["folder"])


def facts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "song.json").read_text())
    return found


def interrupted(whole: Path, folder: Path) -> Path:
    """The same song, stopped in the middle of stage 1."""
    folder.mkdir()
    shutil.copy(whole / "song.json", folder)
    edit_song(folder, state="draft")
    log = (whole / "tokens.log").read_bytes()
    (folder / "tokens.log").write_bytes(log[: len(log) // 3])
    return folder


def test_an_adapter_changes_the_song_and_is_recorded(
    capsys: Capture, root: Path, song: Path, tmp_path: Path
) -> None:
    folder = sing(capsys, root, tmp_path / "songs", "opera:0.5")
    assert song_bytes(folder)["tokens.log"] != song_bytes(song)["tokens.log"]
    file = root / "loras" / "opera.gguf"
    size = file.stat().st_size
    noted = {"file": str(file), "bytes": size, "fingerprint": fingerprint(file), "scale": 0.5}
    assert facts(folder)["loras"] == [noted]
    assert facts(song)["loras"] == []
    again = sing(capsys, root, tmp_path / "songs", f"{file}:0.5")
    assert song_bytes(again) == song_bytes(folder)
    stronger = sing(capsys, root, tmp_path / "songs", "opera")
    assert song_bytes(stronger)["tokens.log"] != song_bytes(folder)["tokens.log"]


def test_scale_zero_is_the_song_without_it(capsys: Capture, root: Path, song: Path, tmp_path: Path) -> None:
    folder = sing(capsys, root, tmp_path / "songs", "opera:0")
    assert song_bytes(folder) == song_bytes(song)
    assert facts(folder)["loras"][0]["scale"] == 0


def test_resume_goes_on_with_the_recorded_adapters(capsys: Capture, root: Path, tmp_path: Path) -> None:
    whole = sing(capsys, root, tmp_path / "songs", "opera:0.5", "opera:-0.2")
    cut = interrupted(whole, tmp_path / "cut")
    done = cli(capsys, "resume", cut, "--threads", 1, "--json")
    ended(done)
    assert song_bytes(cut) == song_bytes(whole)


def test_resume_without_the_adapter_or_with_another(capsys: Capture, root: Path, tmp_path: Path) -> None:
    whole, file = sing(capsys, root, tmp_path / "songs", "opera:0.5"), root / "loras" / "opera.gguf"
    cut = interrupted(whole, tmp_path / "cut")
    before = {path.name: path.read_bytes() for path in cut.iterdir()}
    kept = file.rename(tmp_path / "kept.gguf")
    said = refused(capsys, 3, "resume", cut)
    assert said == f"the song's LoRA adapter {file} is gone; put it back, or start a new song"
    other = write_peft(tmp_path / "other", NANO.stage1, seed=4)
    assert cli(capsys, "convert-lora", other, "--base", NANO.stage1, "-o", file).code == 0
    said = refused(capsys, 7, "resume", cut)
    assert said.startswith(
        f"the LoRA adapters are not those that this song was started with ({file} at 0.5); "
        "put those files back, or start a new song"
    )
    assert {path.name: path.read_bytes() for path in cut.iterdir()} == before
    shutil.move(kept, file)
    done = cli(capsys, "resume", cut, "--threads", 1)
    ended(done)
    assert song_bytes(cut) == song_bytes(whole)


def test_from_python(root: Path, capsys: Capture, tmp_path: Path) -> None:
    """A moved adapter can be named anew; another scale is another song."""
    choice = ModelChoice("nano", models_dir=root, loras=(yuegguf.Lora(Path("opera"), 0.5),))
    output = yuegguf.Output(year=date.today().year)  # the command's default
    request = yuegguf.SongRequest("pop", TEXT[3], segment_seconds=1, seed=5, output=output)
    machine = ComputeOptions(threads=1)
    made = yuegguf.generate(request, choice, tmp_path / "songs", compute=machine)
    assert song_bytes(made.folder) == song_bytes(sing(capsys, root, tmp_path / "songs", "opera:0.5"))
    cut = interrupted(made.folder, tmp_path / "cut")
    moved = (root / "loras" / "opera.gguf").rename(tmp_path / "moved.gguf")
    with pytest.raises(yuegguf.YueError, match="are not those that this song was started with"):
        yuegguf.resume(cut, ModelChoice(loras=(Lora(moved, 0.4),)), compute=machine)
    done = yuegguf.resume(cut, ModelChoice(loras=(Lora(moved, 0.5),)), compute=machine)
    assert song_bytes(done.folder) == song_bytes(made.folder)


def test_a_damaged_note_of_an_adapter(root: Path, capsys: Capture, tmp_path: Path) -> None:
    whole = sing(capsys, root, tmp_path / "songs", "opera")
    for note in ("opera", [{"scale": 1}], [{"file": "a.gguf", "scale": "loud"}], 7):
        cut = interrupted(whole, tmp_path / f"cut {note}"[:12].strip("[{"))
        edit_song(cut, state="draft", loras=note)
        assert "song.json is damaged (" in refused(capsys, 7, "resume", cut)
        shutil.rmtree(cut)


def test_caches_plans_and_measurements_know_the_adapters(root: Path, song: Path) -> None:
    plain = resolve(ModelChoice("nano", models_dir=root))
    lora = Lora(root / "loras" / "opera.gguf", 0.5)
    made = SongFolder.open(song).record.plan

    def key(*loras: Lora) -> str:
        models = replace(plain, loras=loras)
        return engines.engine_factory(models, made, ComputeOptions(), threading.Event()).cache_key

    keys = {key(), key(lora), key(replace(lora, scale=0.6)), key(lora, lora)}
    assert len(keys) == 4
    assert key(replace(lora, scale=0.0)) == key()
    used = resolve(ModelChoice("nano", models_dir=root, loras=(Lora(Path("opera"), 0.5),)))
    assert used.loras == (lora,)
    assert used.stage1_key != plain.stage1_key == fingerprint(plain.stage1)
    more = preflight.read_models(used).facts.stage1.bytes - preflight.read_models(plain).facts.stage1.bytes
    assert more == lora.path.stat().st_size == describe_loras(used)[0].bytes


def test_a_name_is_the_installed_adapter_even_beside_the_folder_it_was_made_of(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Path("opera").is_dir()
    installed = root / "loras" / "opera.gguf"
    assert find_lora(Lora(Path("opera"), 0.5), root) == Lora(installed, 0.5)
    with pytest.raises(RequestError, match="opera is a folder, not a GGUF adapter; convert it first"):
        find_lora(Lora(Path("opera")), tmp_path / "empty")
    shutil.copy(installed, tmp_path / "mine.gguf")
    assert find_lora(Lora(Path("mine.gguf")), root).path == tmp_path / "mine.gguf"


def test_models_list_names_the_adapters(root: Path, capsys: Capture) -> None:
    listed = cli(capsys, "--models-dir", root, "models", "list", "--json")
    assert listed.json["loras"] == ["opera"]
    assert "LoRA adapters for --lora: opera\n" in cli(capsys, "--models-dir", root, "models", "list").out
    assert "--lora" not in cli(capsys, "models", "list").out
