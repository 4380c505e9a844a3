"""`models`: what exists, what is installed, whether it is whole, and under which licence."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from yuegguf.cli._check import check
from yuegguf.cli._completion import MODEL
from yuegguf.cli._console import Console
from yuegguf.cli._model_facts import lines_of, model_facts
from yuegguf.cli._options import models_root, pass_output
from yuegguf.errors import DamagedFile, ModelNotFound, RequestError, YueError
from yuegguf.files.atomic import storage_errors
from yuegguf.files.reading import is_closed, paths_in
from yuegguf.lm import header
from yuegguf.lm.gguf_parts import part_paths
from yuegguf.models import lockfile, registry
from yuegguf.models.lockfile import Installed
from yuegguf.models.registry import ModelEntry
from yuegguf.models.resolve import lora_path, nano_models


@click.group(short_help="list, inspect, verify and remove models")
def models() -> None:
    """Published YuE models and the files on this machine."""


models.add_command(check)


@models.command("list", short_help="every known model, installed or not")
@pass_output
def list_models(output: Console, /) -> None:
    """List all models with their source, licence and installed files.

    \b
    yuegguf models list
    yuegguf models list --json
    """
    root = models_root()
    lock = lockfile.read_lock(root)
    rows = [_row(entry, root, lock) for entry in registry.model_entries()]
    nano = {"id": "nano", "role": "all", "about": "bundled miniature, used when nothing is installed"}
    lines = [_line(row) for row in rows]
    loras = [path.stem for path in paths_in(lora_path("*", root).parent, "*.gguf")]
    lines += [f"{'nano':<12} {'all':<9} bundled   {nano['about']}"]
    lines += [f"LoRA adapters for --lora: {', '.join(loras)}"] if loras else []
    lines += [f"installed models live in {root}", f"sets for pull --set: {', '.join(registry.model_sets())}"]
    facts = {"models": rows, "bundled": nano, "sets": registry.model_sets(), "loras": loras}
    if is_closed(root):
        output.warn(f"the folder of models {root} may not be read by this user; {registry.CLOSED_HINT}")
    output.result({**facts, "models_dir": str(root)}, lines)


def _row(entry: ModelEntry, root: Path, lock: dict[str, Installed]) -> dict[str, Any]:
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


def _line(row: dict[str, Any]) -> str:
    state = "damaged" if row["problems"] else "installed" if row["installed"] else "-"
    names = ", ".join(Path(file).name for file in row["installed"])
    words = f" ({names})" if names else f" · {row['source']}"
    words += f" · {'; '.join(row['problems'])}" if row["problems"] else ""
    others = [licence for licence in row["licences"] if not registry.is_free(licence)]
    words += f" · installed from a source whose licence is {', '.join(others)}" if others else ""
    return f"{row['id']:<12} {row['role']:<9} {state:<9} {row['licence']:<11} {row['about']}{words}"


@models.command(short_help="what a model or any GGUF or ONNX file says of itself")
@click.argument("name", type=MODEL)
@pass_output
def info(output: Console, /, name: str) -> None:
    """Show NAME's (or any .gguf or .onnx file's) size, types, vocabulary, role, source and licence.

    \b
    yuegguf models info en-cot:Q4_K_M
    yuegguf models info somebody.gguf --json
    """
    root = models_root()
    lock = lockfile.read_lock(root)
    found = []
    for path in _files(name, root):
        inside = path.absolute().is_relative_to(root.absolute())
        key = path.absolute().relative_to(root.absolute()).as_posix() if inside else ""
        found.append(model_facts(path, lock.get(key)))
    output.result({"files": found}, [line for facts in found for line in lines_of(facts)])


@models.command(short_help="hash installed models again")
@click.argument("names", type=MODEL, nargs=-1, metavar="[NAME[:TYPE]]...")
@pass_output
def verify(output: Console, /, names: tuple[str, ...]) -> None:
    """Compare installed files with what was installed, byte for byte; all of them without NAME.

    Files that pull did not install have no hash; their headers and roles are read. Exit code 7 when a file
    is damaged, missing or of the wrong role.

    \b
    yuegguf models verify
    yuegguf models verify en-cot:Q4_K_M --json
    """
    root = models_root()
    paths = [path for name in names for path in _files(name, root)] or _every(root)
    rows = [_verified(path, root, output) for path in dict.fromkeys(paths)]
    output.done()
    lines = [f"{row['file']}: {row['state']}" for row in rows]
    output.result(
        {"files": rows, "ok": all(row["ok"] for row in rows)}, lines or [f"nothing is installed in {root}"]
    )
    if not all(row["ok"] for row in rows):
        click.get_current_context().exit(DamagedFile.exit_code)


def _verified(path: Path, root: Path, output: Console) -> dict[str, Any]:
    key = path.relative_to(root).as_posix() if path.is_relative_to(root) else ""
    entry = lockfile.read_lock(root).get(key)
    try:
        if entry:
            lockfile.verify_file(root, entry, output.progress)
        _check_role(path)
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


@models.command("path", short_help="where a model's file lies")
@click.argument("name", type=MODEL)
@pass_output
def path_of(output: Console, /, name: str) -> None:
    """Print the file that NAME stands for, for use in other commands.

    \b
    yuegguf models path en-cot:Q4_K_M
    """
    paths = [str(path) for path in _files(name, models_root(), best=True)]
    output.result({"files": paths}, paths)


@models.command("rm", short_help="remove an installed model")
@click.argument("names", type=MODEL, nargs=-1, required=True, metavar="NAME[:TYPE]...")
@pass_output
def remove(output: Console, /, names: tuple[str, ...]) -> None:
    """Remove NAME in all types, or in one, with its place in the lock and its kept or unfinished download.

    \b
    yuegguf models rm en-icl en-cot:Q8_0
    """
    root, entries = models_root(), [(name, _entry_and_type(name)) for name in names]
    if not os.path.isdir(root):  # taking its lock would make it; unlike is_dir, never raises
        raise ModelNotFound(f"{names[0]} is not installed in {root}", "see: yuegguf models list")
    with lockfile.exclusive(root):
        gone = dict.fromkeys(path for name, wanted in entries for path in _removable(name, *wanted, root))
        lockfile.update_lock(root, drop=[path.relative_to(root).as_posix() for path in gone])
        for path in gone:
            with storage_errors(path):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    output.result({"removed": list(map(str, gone))}, list(map(str, gone)))


def _entry_and_type(name: str) -> tuple[ModelEntry, str]:
    given, _, quant = name.partition(":")
    return registry.find_entry(given), quant


def _removable(name: str, entry: ModelEntry, quant: str, root: Path) -> list[Path]:
    """The files and downloads of a name. Raises ModelNotFound, StorageError for what lies behind a link."""
    patterns = () if quant else (f"sources/{entry.id}", f"sources/{entry.id}-*-gguf")
    models = [part for path in _installed(entry, root, quant) for part in part_paths(path) if part.exists()]
    found = [*models, *(path for each in patterns for path in root.glob(each))]
    if not found:
        raise ModelNotFound(f"{name} is not installed in {root}", "see: yuegguf models list")
    for path in found:
        lockfile.check_inside(root, path.relative_to(root).as_posix())
    return found


@models.command(short_help="the licence of every model, as its source states it")
@pass_output
def licenses(output: Console, /) -> None:
    """Show which licence each published and each installed model is under, and who states it.

    \b
    yuegguf models licenses
    """
    published = [
        {"model": entry.id, "source": source, "licence": licence or "not known"}
        for entry in registry.model_entries()
        for source, licence in [(entry.source, entry.licence), *((g.source, g.licence) for g in entry.gguf)]
    ]
    held = {(e.name, e.source, e.licence or "not stated") for e in lockfile.read_lock(models_root()).values()}
    installed = [{"model": m, "source": s, "licence": licence} for m, s, licence in sorted(held)]
    lines = [*_licence_lines("published", published), *_licence_lines("installed", installed)]
    lines.append(
        f"YuE v1 is under {registry.FREE_LICENCE}; its authors ask for the attribution: YuE by HKUST/M-A-P"
    )
    output.result({"published": published, "installed": installed}, lines)


def _licence_lines(title: str, rows: Sequence[dict[str, str]]) -> list[str]:
    quiet = (registry.FREE_LICENCE.casefold(), "not known", "not stated")
    marks = ["" if row["licence"].casefold() in quiet else f"  (not {registry.FREE_LICENCE})" for row in rows]
    return [
        f"{title:<10} {row['model']:<16} {row['licence']:<12} {row['source']}{mark}"
        for row, mark in zip(rows, marks, strict=True)
    ]


def _files(name: str, root: Path, best: bool = False) -> list[Path]:
    """The files of a name, or the file itself. Raises ModelNotFound, RequestError."""
    given, _, quant = name.partition(":")
    if given.lower() == registry.NANO:
        if quant:
            raise RequestError(f"{registry.NANO} has no types", f"write: {registry.NANO}")
        return nano_files()
    if name.endswith((".gguf", ".onnx")) or ("/" in name and Path(name).exists()):
        path = Path(os.path.expanduser(name))  # unlike Path.expanduser, never raises
        return sorted(path.glob("*.onnx")) if path.is_dir() else [path]
    entry, quant = _entry_and_type(name)
    found = _installed(entry, root, quant)
    if not found:
        registry.check_open(root)
        raise ModelNotFound(f"{name} is not installed in {root}", f"get it with: yuegguf pull {name}")
    return [registry.find_gguf(entry.id, quant or None, root)] if best and entry.role != "codec" else found


def nano_files() -> list[Path]:
    """All files of the bundled family."""
    nano = nano_models()
    return [nano.stage1, nano.stage2, *(nano.codec / f"{role}.onnx" for role in registry.CODEC_FILES)]


def _installed(entry: ModelEntry, root: Path, quant: str) -> list[Path]:
    if entry.role == "codec":
        return paths_in(root / entry.id, "*.onnx")
    return [
        p
        for kind, p in registry.installed_quants(entry.id, root).items()
        if quant.lower() in ("", kind.lower())
    ]


def _every(root: Path) -> list[Path]:
    """All installed files, and those that the lock names and that are gone. Raises ModelNotFound."""
    registry.check_open(root)
    there = [path for entry in registry.model_entries() for path in _installed(entry, root, "")]
    return [*there, *(root / path for path in lockfile.read_lock(root) if root / path not in there)]
