"""Offline kits: folders of installed models with their lock, which install without a network.

Files are copied, and their hashes compared with the lock meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yuegguf.errors import DamagedFile, ModelNotFound
from yuegguf.files import hashing
from yuegguf.files.atomic import check_free_disk, storage_errors, sweep
from yuegguf.models import lockfile
from yuegguf.models.lockfile import Installed
from yuegguf.progress import Progress, silent


def kit_entries(folder: Path, names: Sequence[str] = ()) -> list[Installed]:
    """Entries of a kit by names such as "en-cot" or "en-cot:Q4_K_M"; all of them without names.

    Raises ModelNotFound when the kit lacks one or has no lock; DamagedFile for a damaged lock.
    """
    every = list(lockfile.read_lock(folder).values())
    if not every:
        raise ModelNotFound(
            f"{folder} is no kit: it has no {lockfile.LOCK_NAME} that names a file",
            "make one with: yuegguf pull --to FOLDER NAME",
        )
    found: dict[str, Installed] = {entry.path: entry for entry in ([] if names else every)}
    for name in names:
        entries = lockfile.entries_named(folder, name)
        if not entries:
            there = sorted({entry.name for entry in every})
            raise ModelNotFound(f"{folder} has no {name}", f"it has: {', '.join(there)}")
        found |= {entry.path: entry for entry in entries}
    for path in found:
        if lockfile.leads_out(folder, folder / path):
            raise DamagedFile(f"{folder / path} is a link that leads out of the kit", "make the kit again")
    return list(found.values())


def copy_models(
    source: Path,
    target: Path,
    entries: Sequence[Installed],
    progress: Progress = silent,
    *,
    force: bool = False,
) -> list[Installed]:
    """Copy installed files from one folder of models to another; returns the entries copied.

    Existing files with the right hash stay. Each file is verified and appears whole, so the copy can be
    killed and called again. Raises ModelNotFound, DamagedFile, StorageError, and without `force`
    RequestError where another file is in the way that the lock of `target` does not name.
    """
    for entry in entries:
        lockfile.check_inside(target, entry.path)
    there = lockfile.entries_with_files(target, entries)
    right = [e for e in there if hashing.sha256_of(target / e.path, progress) == e.sha256]
    copied = [entry for entry in entries if entry not in right]
    if not force:
        lockfile.refuse_foreign(target, [entry.path for entry in copied])
    with storage_errors(target):
        target.mkdir(parents=True, exist_ok=True)
    for folder in {(target / entry.path).parent for entry in entries}:
        sweep(folder)
    check_free_disk(target, sum(entry.bytes for entry in copied), "the copy", "--to or --models-dir")
    for entry in copied:
        lockfile.copy_verified(source / entry.path, target / entry.path, entry.sha256, progress)
    lockfile.update_lock(target, entries)
    return copied
