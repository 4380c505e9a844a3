"""`models`: what exists, what is installed, whether it is whole, and under which licence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from yuegguf.cli._check import check
from yuegguf.cli._completion import MODEL
from yuegguf.cli._console import Console
from yuegguf.cli._options import models_root, pass_output
from yuegguf.errors import DamagedFile
from yuegguf.files.reading import is_closed, paths_in
from yuegguf.models import inventory, lockfile, registry
from yuegguf.models.model_facts import lines_of, model_facts
from yuegguf.models.resolve import lora_path


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
    rows = [inventory.model_row(entry, root, lock) for entry in registry.model_entries()]
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
    for path in inventory.files_of_name(name, root):
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
    rows = inventory.verify(names, root, output.progress)
    output.done()
    lines = [f"{row['file']}: {row['state']}" for row in rows]
    output.result(
        {"files": rows, "ok": all(row["ok"] for row in rows)}, lines or [f"nothing is installed in {root}"]
    )
    if not all(row["ok"] for row in rows):
        click.get_current_context().exit(DamagedFile.exit_code)


@models.command("path", short_help="where a model's file lies")
@click.argument("name", type=MODEL)
@pass_output
def path_of(output: Console, /, name: str) -> None:
    """Print the file that NAME stands for, for use in other commands.

    \b
    yuegguf models path en-cot:Q4_K_M
    """
    paths = [str(path) for path in inventory.files_of_name(name, models_root(), best=True)]
    output.result({"files": paths}, paths)


@models.command("rm", short_help="remove an installed model")
@click.argument("names", type=MODEL, nargs=-1, required=True, metavar="NAME[:TYPE]...")
@pass_output
def remove(output: Console, /, names: tuple[str, ...]) -> None:
    """Remove NAME in all types, or in one, with its place in the lock and its kept or unfinished download.

    \b
    yuegguf models rm en-icl en-cot:Q8_0
    """
    gone = inventory.remove(names, models_root())
    output.result({"removed": list(map(str, gone))}, list(map(str, gone)))


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
