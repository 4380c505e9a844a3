"""Folders and files that this user may not read: another user's home, a shared folder of models."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import Capture, cli
from yuegguf_convert import safetensors

from yuegguf.codec.header import read_graph_header
from yuegguf.errors import DamagedFile, ModelNotFound, StorageError, YueError
from yuegguf.files.atomic import ensured_folder, existing_parent, read_limited
from yuegguf.files.hashing import sha256_of
from yuegguf.files.pth import read_state_dict
from yuegguf.lm.gguf_header import read_gguf
from yuegguf.models import lockfile, registry
from yuegguf.models.resolve import NANO, ModelChoice, nano_notice, resolve, resolve_codec
from yuegguf.song import voices
from yuegguf.song.folder import SongFolder

NOBODY = 65534
CLOSED = f"may not be read by this user; {registry.CLOSED_HINT}"


@contextmanager
def as_a_user() -> Iterator[None]:
    """Have no rights of root for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(params=["models", "home/share/models"])
def closed_root(request: pytest.FixtureRequest, place: Path) -> Iterator[Path]:
    """A folder of models that is closed, or that lies in a closed home."""
    root = place / request.param
    (root / "xcodec").mkdir(parents=True)
    for name in ("en-cot-Q8_0.gguf", "xcodec/decoder.onnx", "voice.npz"):
        (root / name).write_bytes(b"x")
    closed = place / Path(request.param).parts[0]
    closed.chmod(0)
    yield root
    closed.chmod(0o700)


def test_a_closed_folder_of_models_holds_no_model_and_that_is_said(closed_root: Path) -> None:
    choice = ModelChoice(models_dir=closed_root)
    with as_a_user():
        assert registry.installed_quants("en-cot", closed_root) == {}
        assert registry.installed_codec(closed_root) is None
        assert lockfile.read_lock(closed_root) == {}
        assert voices.voice_names(closed_root) == []
        models = resolve(choice)
        assert models.name == NANO
        assert resolve_codec(choice) == models.codec
        assert nano_notice(choice, models) == (
            f"the folder of models {closed_root} may not be read by this user, so the bundled miniature "
            "'nano' is used; it is not YuE's quality"
        )
        with pytest.raises(ModelNotFound) as caught:
            resolve(ModelChoice(stage1="en-cot", models_dir=closed_root, codec=models.codec))
        assert f"the folder of models {closed_root} may not be read by this user" in caught.value.message
        with pytest.raises(ModelNotFound, match=CLOSED):
            registry.check_open(closed_root)


def test_commands_on_a_closed_folder_of_models(closed_root: Path, capsys: Capture) -> None:
    commands = (("list", 0, "note: "), ("info en-cot", 3, "error: "), ("verify", 3, "error: "))
    for line, *_ in commands:  # imports what it needs while it may
        cli(capsys, "models", *line.split())
    for line, code, kind in commands:
        with as_a_user():
            result = cli(capsys, "--models-dir", closed_root, "models", *line.split())
        assert (result.code, result.err) == (code, f"{kind}the folder of models {closed_root} {CLOSED}\n")


def test_nothing_is_written_into_a_closed_folder(place: Path) -> None:
    (place / "home").mkdir(mode=0o700)
    with as_a_user():
        assert existing_parent(place / "home" / "a" / "b") == place / "home"
        with pytest.raises(StorageError, match="is not writable"), ensured_folder(place / "home" / "a" / "b"):
            pass


READERS: dict[str, Callable[[Path], object]] = {
    "model.gguf": read_gguf,
    "decoder.onnx": lambda path: read_graph_header(path, "decoder"),
    "a.pth": read_state_dict,
    "a.safetensors": safetensors.open_file,
    "hash": sha256_of,
    "limited": lambda path: read_limited(path, 9, ""),
    lockfile.LOCK_NAME: lambda path: lockfile.read_lock(path.parent),
    "song.json": lambda path: SongFolder.open(path.parent),
}


@pytest.mark.parametrize("name", READERS)
def test_a_closed_file_is_called_that_and_not_damaged(name: str, place: Path) -> None:
    file = place / name
    file.write_bytes(b"content")
    file.chmod(0)
    with as_a_user(), pytest.raises(YueError) as caught:
        READERS[name](file)
    assert isinstance(caught.value, DamagedFile)
    assert str(caught.value) == f"{file} cannot be read (Permission denied); change its permissions"
