"""Folders and split models in the place of a GGUF: one model is found, or the choice is the user's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import QUICK as FAST
from helpers import TEXT, Capture, cli, refused, song_bytes
from split_gguf import split_model
from tiny_gguf import write_tiny
from yuegguf_convert.gguf_file import text

from yuegguf.errors import ModelNotFound, RequestError
from yuegguf.models.gguf_folder import find_in_folder
from yuegguf.models.registry import installed_quants
from yuegguf.models.resolve import ModelChoice, nano_models, resolve

Make = Callable[[Path], object]
SONG = (*TEXT, *FAST, "--model", "nano")


def tiny(path: Path, role: str = "stage1") -> Path:
    """A tiny model of a stage."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_tiny(path, lambda metadata, tensors: metadata.update({"yuegguf.role": text(role)}))


@pytest.mark.parametrize(
    ("names", "role", "quant", "found"),
    [
        (["any.gguf"], "stage1", None, "any.gguf"),
        (["any.gguf", "other.2.gguf"], "stage1", None, "any.gguf"),
        (["any.gguf", "other.2.gguf"], "stage2", None, "other.2.gguf"),
        (["a-Q4_K_M.gguf", "a-Q8_0.gguf", "a-F16.gguf"], "stage1", None, "a-Q8_0.gguf"),
        (["a-Q4_K_M.gguf", "a-Q8_0.gguf", "a-F16.gguf"], "stage1", "q4_k_m", "a-Q4_K_M.gguf"),
        (["a.Q4_K_M.gguf", "a.Q6_K.gguf"], "stage1", None, "a.Q6_K.gguf"),
    ],
)
def test_the_model_of_a_folder(
    names: list[str], role: str, quant: str | None, found: str, tmp_path: Path
) -> None:
    for name in names:
        tiny(tmp_path / name, "stage2" if ".2" in name else "stage1")
    assert find_in_folder(tmp_path, role, quant) == tmp_path / found  # type: ignore[arg-type]


def test_a_split_model_in_a_folder_is_one_model(tmp_path: Path) -> None:
    whole = tiny(tmp_path / "whole" / "a.gguf")
    parts = split_model(whole, tmp_path, "a-Q4_K_M", 3)
    assert find_in_folder(tmp_path, "stage1", None) == parts[0]
    shutil.copy(whole, tmp_path / "a-F16.gguf")
    assert find_in_folder(tmp_path, "stage1", None) == parts[0]
    assert find_in_folder(tmp_path, "stage1", "F16") == tmp_path / "a-F16.gguf"


def test_a_hub_cache_of_ggufs_is_a_folder(tmp_path: Path) -> None:
    top = tmp_path / "models--somebody--YuE-GGUF"
    (top / "refs").mkdir(parents=True)
    (top / "refs" / "main").write_text("abcdef0")
    model = tiny(top / "snapshots" / "abcdef0" / "a-Q8_0.gguf")
    assert find_in_folder(top, "stage1", None) == model


def no_files(folder: Path) -> None:
    folder.mkdir(exist_ok=True)


def a_checkpoint(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").touch()


def an_adapter(folder: Path) -> None:
    a_checkpoint(folder)
    (folder / "adapter_config.json").touch()


def two_models(folder: Path) -> None:
    tiny(folder / "en-Q8_0.gguf")
    tiny(folder / "zh-Q8_0.gguf")


def second_stages(folder: Path) -> None:
    tiny(folder / "a.gguf", "stage2")
    tiny(folder / "b.gguf", "stage2")


@pytest.mark.parametrize(
    ("make", "quant", "error", "sentence"),
    [
        (no_files, None, ModelNotFound, "there is no GGUF in {f}; pass a .gguf file or a folder with one"),
        (
            a_checkpoint,
            None,
            ModelNotFound,
            "there is no GGUF in {f}; convert its checkpoint first: yuegguf convert {f}",
        ),
        (
            an_adapter,
            None,
            ModelNotFound,
            "there is no GGUF in {f}; an adapter goes with --lora: yuegguf convert-lora {f}",
        ),
        (
            two_models,
            None,
            RequestError,
            "{f} holds several stage-1 models: en-Q8_0.gguf, zh-Q8_0.gguf; pass one of them: --stage1-model "
            "{f}/en-Q8_0.gguf",
        ),
        (
            two_models,
            "Q2_K",
            ModelNotFound,
            "no GGUF in {f} is Q2_K by its name: en-Q8_0.gguf, zh-Q8_0.gguf; leave --quant out",
        ),
        (
            second_stages,
            None,
            ModelNotFound,
            "none of the GGUFs in {f} is a stage-1 model: a.gguf, b.gguf; pass another folder",
        ),
    ],
)
def test_folders_without_one_model_are_refused(
    make: Make, quant: str | None, error: type[Exception], sentence: str, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    make(folder)
    with pytest.raises(error) as caught:
        find_in_folder(folder, "stage1", quant)
    assert str(caught.value) == sentence.format(f=folder)


def test_a_name_of_a_model_is_never_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny(tmp_path / "en-cot" / "a.gguf")
    tiny(tmp_path / "mine" / "a.gguf")
    choice = {"stage2": "nano", "codec": nano_models().codec, "models_dir": tmp_path / "none"}
    assert resolve(ModelChoice("mine", **choice)).stage1 == Path("mine/a.gguf")  # type: ignore[arg-type]
    with pytest.raises(ModelNotFound, match="en-cot is not installed"):
        resolve(ModelChoice("en-cot", **choice))  # type: ignore[arg-type]


def test_an_installed_split_model_has_its_type_and_goes_whole(capsys: Capture, tmp_path: Path) -> None:
    parts = split_model(nano_models().stage1, tmp_path, "en-cot-Q8_0", 2)
    assert installed_quants("en-cot", tmp_path) == {"Q8_0": parts[0]}
    facts = cli(capsys, "--models-dir", tmp_path, "models", "info", "en-cot", "--json").json["files"][0]
    assert (facts["file"], facts["parts"]) == (str(parts[0]), 2)
    assert facts["bytes"] == sum(part.stat().st_size for part in parts)
    assert cli(capsys, "--models-dir", tmp_path, "models", "verify", "en-cot").code == 0
    removed = cli(capsys, "--models-dir", tmp_path, "models", "rm", "en-cot:Q8_0", "--json").json["removed"]
    assert removed == [str(part) for part in parts]
    assert not list(tmp_path.glob("*.gguf"))


def test_a_song_of_a_folder_with_a_split_model(capsys: Capture, song: Path, tmp_path: Path) -> None:
    """The folder holds both stages, the first one in two parts; a song without its second part is refused."""
    nano, folder = nano_models(), tmp_path / "models"
    folder.mkdir()
    parts = split_model(nano.stage1, folder, "first", 2)
    shutil.copy(nano.stage2, folder / "second.gguf")
    line = ("--stage1-model", folder, "--stage2-model", folder, "--codec", nano.codec, *FAST)
    made = Path(cli(capsys, "run", *TEXT, *line, "-o", tmp_path / "out", "--json").json["folder"])
    assert song_bytes(made) == song_bytes(song)
    parts[1].unlink()
    said = refused(capsys, 3, "run", *TEXT, *line, "-o", tmp_path / "more")
    assert said == f"{folder} lacks {parts[1].name}; download what is missing into that folder"
