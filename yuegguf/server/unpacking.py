"""Zips of clients, unpacked with limits: names and sizes that they state are not believed."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from yuegguf.errors import DamagedFile, RequestError
from yuegguf.files.atomic import storage_errors

SUFFIXES = (".npy", ".json")
STAGES = ("stage2", "stage1")
MOST_FILES = 16
MOST_BYTES = 64 << 20
"""Most bytes of all files together: codes of hours."""
MOST_NAME_BYTES = 250
"""Most bytes of a file's name, which systems limit to 255."""
BLOCK = 1 << 20
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)
"""Errors of a zip that is damaged, encrypted or of an unknown method."""


def unpack(archive: Path, folder: Path) -> Sequence[Path]:
    """Unpack the .npy and .json files of a zip into a new folder; the project in it, or the folder.

    Files keep their names but not their folders, except for stage1 and stage2. Raises RequestError,
    DamagedFile, StorageError.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            targets = _targets(opened, folder)
            left = MOST_BYTES
            for entry, target in targets:
                left -= _copy(opened, entry, target, left)
    except BROKEN as error:
        raise DamagedFile(
            f"{archive.name} cannot be unpacked ({str(error)[:100]})", "send a zip that opens elsewhere"
        ) from error
    paths = [target for _, target in targets]
    return paths if len(paths) == 1 and paths[0].suffix == ".json" else [folder]


def _targets(opened: zipfile.ZipFile, folder: Path) -> list[tuple[zipfile.ZipInfo, Path]]:
    """The entries to unpack, and their paths. Raises RequestError."""
    found: dict[Path, zipfile.ZipInfo] = {}
    for entry in opened.infolist():
        path = PurePosixPath(entry.filename.replace("\\", "/"))
        if entry.is_dir() or path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        stage = next((stage for stage in STAGES if stage in path.parts[:-1]), "")
        found[folder / stage / path.name] = entry
        if len(found) > MOST_FILES:
            raise RequestError("the zip holds too many files", "send one song's codes")
        if len(path.name.encode(errors="replace")) > MOST_NAME_BYTES:
            raise RequestError(
                f"a file in the zip has too long a name ({path.name[:40]!r})", "rename the file"
            )
    if not found:
        raise RequestError("the zip holds no .npy and no .json", "send a project or a pair of .npy files")
    return [(entry, target) for target, entry in found.items()]


def _copy(opened: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, most: int) -> int:
    """Unpack an entry of at most `most` bytes; returns their number. Raises RequestError, StorageError."""
    count = 0
    with storage_errors(target), opened.open(entry) as packed:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            while block := packed.read(BLOCK):
                count += len(block)
                if count > most:
                    raise RequestError(
                        f"the zip holds more than {MOST_BYTES >> 20} MiB", "send one song's codes alone"
                    )
                file.write(block)
    return count
