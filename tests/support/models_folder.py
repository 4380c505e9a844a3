"""A folder of installed models, a file outside it, and commands that change it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from helpers import Capture, Result, cli

from yuegguf.models import lockfile
from yuegguf.models.lockfile import Installed


def entry(data: bytes, model: str = "en-cot", quant: str = "Q8_0", path: str = "") -> Installed:
    name = path or (f"{model}-{quant}.gguf" if quant else f"{model}/decoder.onnx")
    digest = hashlib.sha256(data).hexdigest()
    return Installed(name, model, quant, len(data), digest, "apache-2.0", "m-a-p/x", "0" * 40, {}, "yuegguf")


def install(root: Path, *entries: tuple[Installed, bytes]) -> None:
    for found, data in entries:
        (root / found.path).parent.mkdir(parents=True, exist_ok=True)
        (root / found.path).write_bytes(data)
    lockfile.update_lock(root, [found for found, _ in entries])


def two_models(tmp_path: Path) -> Path:
    """A folder with two installed models, as `pull` notes them."""
    folder = tmp_path / "models"
    folder.mkdir()
    install(folder, (entry(b"one"), b"one"), (entry(b"codec", "xcodec", ""), b"codec"))
    return folder


def file_elsewhere(tmp_path: Path) -> Path:
    """A file of the user's outside the folder of models, where it could be taken for a model."""
    path = tmp_path / "elsewhere" / "decoder.onnx"
    path.parent.mkdir()
    path.write_bytes(b"mine")
    return path


def bytes_below(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != lockfile.PULL_LOCK)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def remove(capsys: Capture, root: Path, *names: str) -> Result:
    return cli(capsys, "--models-dir", root, "models", "rm", *names)


def linked(root: Path, name: str, target: Path) -> None:
    """Put a link to `target` in the place of a folder."""
    for old in sorted((root / name).rglob("*"), reverse=True):
        old.unlink()
    if (root / name).exists():
        (root / name).rmdir()
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).symlink_to(target, target_is_directory=True)
