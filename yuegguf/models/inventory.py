"""Installed models: what a name stands for, whether files are as they were installed, and their removal."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yuegguf.errors import Interrupted, ModelNotFound, RequestError, YueError
from yuegguf.files.atomic import storage_errors
from yuegguf.files.kinds import explain_absence
from yuegguf.files.reading import paths_in
from yuegguf.lm import header
from yuegguf.lm.gguf_parts import part_paths
from yuegguf.models import lockfile, registry
from yuegguf.models.lockfile import Installed
from yuegguf.models.model_facts import model_facts
from yuegguf.models.registry import ModelEntry
from yuegguf.models.resolve import nano_models
from yuegguf.progress import Progress


def model_row(entry: ModelEntry, root: Path, lock: Mapping[str, Installed]) -> dict[str, Any]:
    """Facts of one model as JSON; `problems` are those that show without reading the files."""
    files = [str(path) for path in registry.installed_quants(entry.id, root).values()]
    codec = registry.installed_codec(root) if entry.role == "codec" else None
    ours = [found for found in lock.values() if found.model == entry.id]
    gone = [found.path for found in ours if found not in lockfile.entries_with_files(root, ours)]
    facts = ("id", "role", "source", "licence", "about", "language", "mode", "revision")
    return {
        **{name: getattr(entry, name) for name in facts},
        "gguf": [{"source": gguf.source, "licence": gguf.licence} for gguf in entry.gguf],
        "installed": files or ([str(codec)] if codec else []),
        "problems": [f"{path} is missing or has another size than when it was installed" for path in gone],
        "licences": sorted({found.licence or "not stated" for found in ours}),
    }


def files_of_name(name: str, root: Path, best: bool = False) -> list[Path]:
    """The files of a name, or the file itself. Raises ModelNotFound, RequestError."""
    given, _, quant = name.partition(":")
    if given.lower() == registry.NANO:
        if quant:
            raise RequestError(f"{registry.NANO} has no types", f"write: {registry.NANO}")
        return nano_files()
    path = Path(os.path.expanduser(name))  # unlike Path.expanduser, never raises
    if name.endswith((".gguf", ".onnx")) or ("/" in name and os.path.exists(path)):
        return _files_at(path)
    entry, quant = entry_and_type(name)
    found = _installed(entry, root, quant)
    if not found:
        registry.check_open(root)
        raise ModelNotFound(f"{name} is not installed in {root}", f"get it with: yuegguf pull {name}")
    return [registry.find_gguf(entry.id, quant or None, root)] if best and entry.role != "codec" else found


def _files_at(path: Path) -> list[Path]:
    """A model file, or the graphs of a codec's folder. Raises ModelNotFound."""
    if not os.path.exists(path):
        missing = ModelNotFound(f"there is no file {path}", "see: yuegguf models list")
        raise explain_absence(path, missing)
    if not path.is_dir():
        return [path]
    graphs = paths_in(path, "*.onnx")
    if not graphs:
        raise ModelNotFound(
            f"{path} holds no graphs of a codec (.onnx)", "name a model file or a codec's folder"
        )
    return graphs


def nano_files() -> list[Path]:
    """All files of the bundled family."""
    nano = nano_models()
    return [nano.stage1, nano.stage2, *(nano.codec / f"{role}.onnx" for role in registry.CODEC_FILES)]


def _installed(entry: ModelEntry, root: Path, quant: str) -> list[Path]:
    if entry.role == "codec":
        there = [] if quant else paths_in(root / entry.id, "*.onnx")  # a codec has no type
        return [path for path in there if path.stem in registry.CODEC_FILES]
    return [
        p
        for kind, p in registry.installed_quants(entry.id, root).items()
        if quant.lower() in ("", kind.lower())
    ]


def all_files(root: Path) -> list[Path]:
    """All installed files, and those that the lock names and that are gone. Raises ModelNotFound."""
    registry.check_open(root)
    there = [path for entry in registry.model_entries() for path in _installed(entry, root, "")]
    return [*there, *(root / path for path in lockfile.read_lock(root) if root / path not in there)]


def entry_and_type(name: str) -> tuple[ModelEntry, str]:
    """The entry and the type that a name means, such as "en-cot:Q4_K_M". Raises RequestError."""
    given, _, quant = name.partition(":")
    return registry.find_entry(given), quant


def _removable(name: str, entry: ModelEntry, quant: str, root: Path) -> list[Path]:
    """The files and downloads of a name, and what the lock alone names.

    Raises ModelNotFound, StorageError for what lies behind a link.
    """
    patterns = () if quant else (f"sources/{entry.id}", f"sources/{entry.id}-*-gguf")
    models = [part for path in _installed(entry, root, quant) for part in part_paths(path) if part.exists()]
    noted = [e for e in lockfile.read_lock(root).values() if e.model == entry.id]
    gone = [root / e.path for e in noted if quant.lower() in ("", e.quant.lower())]
    found = [*models, *gone, *(path for each in patterns for path in root.glob(each))]
    if not found:
        raise ModelNotFound(f"{name} is not installed in {root}", "see: yuegguf models list")
    for path in found:
        lockfile.check_inside(root, path.relative_to(root).as_posix())
    return found


def remove(names: Sequence[str], root: Path) -> list[Path]:
    """Remove installed models by name, in all types or in one, with their downloads; returns the paths.

    Nothing is removed where one is not installed. Raises RequestError, ModelNotFound, StorageError.
    """
    entries = [(name, entry_and_type(name)) for name in names]
    if not os.path.isdir(root):  # taking its lock would make it; unlike is_dir, never raises
        raise ModelNotFound(f"{names[0]} is not installed in {root}", "see: yuegguf models list")
    with lockfile.exclusive(root):
        gone = dict.fromkeys(path for name, wanted in entries for path in _removable(name, *wanted, root))
        lockfile.update_lock(root, drop=[path.relative_to(root).as_posix() for path in gone])
        for path in gone:
            with storage_errors(path):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
    return list(gone)


def verify(names: Sequence[str], root: Path, progress: Progress) -> list[dict[str, Any]]:
    """Compare installed files with what was installed, byte for byte; all of them without names.

    Returns a row for each with its path, state and whether it is right. Raises ModelNotFound, RequestError.
    """
    paths = [path for name in names for path in files_of_name(name, root)] if names else all_files(root)
    return [_verified(path, root, progress) for path in dict.fromkeys(paths)]


def _verified(path: Path, root: Path, progress: Progress) -> dict[str, Any]:
    key = path.relative_to(root).as_posix() if path.is_relative_to(root) else ""
    entry = lockfile.read_lock(root).get(key)
    try:
        if entry:
            lockfile.verify_file(root, entry, progress)
        _check_role(path)
    except Interrupted:
        raise
    except YueError as error:
        return {"file": str(path), "ok": False, "state": str(error)}
    foreign = "readable, and not from pull: there is no hash to compare with"
    state = "as installed" if entry else "readable, and bundled" if path in nano_files() else foreign
    return {"file": str(path), "ok": True, "state": state}


def _check_role(path: Path) -> None:
    """Refuse a language model whose stage is not the one of its name. Raises DamagedFile."""
    ids = [entry for entry in registry.model_entries() if path.name.startswith(f"{entry.id}-")]
    if path.suffix == ".gguf" and ids:
        header.read_header(path, ids[0].role)
    else:
        model_facts(path, None)
