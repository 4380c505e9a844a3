"""The cache of huggingface_hub: `models--OWNER--NAME/` with `refs/`, `snapshots/COMMIT/` and `blobs/`.

A snapshot's files are links to blobs named by their hash; a download that was broken off, or a copy without
`blobs/`, leaves links that lead nowhere.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from yuegguf.errors import ModelNotFound, RequestError
from yuegguf.files.reading import open_plain_file

_TOP = re.compile(r"models--([\w.-]+?)--([\w.-]+)")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
MAX_REF_BYTES = 200
"""Maximum bytes of a file in `refs/`."""


class CachedFile(NamedTuple):
    """Place of a file in a hub cache."""

    repository: str
    """OWNER/NAME."""
    name: str
    """Name in the repository."""
    cache: Path
    """Folder of the whole cache."""


def cached_file(path: Path) -> CachedFile | None:
    """The repository that a path in a hub cache belongs to; None for any other path."""
    path = path.absolute()
    for folder in path.parents:
        match = _TOP.fullmatch(folder.name)
        if match:
            parts = path.relative_to(folder).parts
            name = "/".join(parts[2:] if parts[0] == "snapshots" else parts)
            return CachedFile(f"{match[1]}/{match[2]}", name, folder.parent)
    return None


def snapshot_folder(folder: Path) -> Path:
    """The snapshot that the top folder of a hub cache's repository stands for; any other folder itself.

    It is the one of `refs/main`, else the only one. Raises ModelNotFound where there is none, RequestError
    where there are several.
    """
    top = folder.parent if folder.name == "snapshots" else folder
    if not (top / "snapshots").is_dir() or not ((top / "blobs").is_dir() or (top / "refs").is_dir()):
        return folder
    main = top / "snapshots" / _commit(top / "refs" / "main")
    if main != top / "snapshots" and main.is_dir():
        return main
    there = sorted(path for path in (top / "snapshots").iterdir() if path.is_dir())
    if len(there) == 1:
        return there[0]
    if there:
        raise RequestError(
            f"{top} holds {len(there)} snapshots, and refs/main names none of them",
            f"pass one of them: {', '.join(map(str, there[:6]))}",
        )
    cached = cached_file(top / "x")
    again = f"download it again: hf download {cached.repository}" if cached else "download it again"
    raise ModelNotFound(f"{top} is a hub cache without a snapshot", again)


def _commit(ref: Path) -> str:
    """The commit that a file in `refs/` names; empty where it names none."""
    try:
        with open_plain_file(ref) as file:
            text = file.read(MAX_REF_BYTES).decode("ascii", "replace").strip()
    except OSError:
        return ""
    return text if _COMMIT.fullmatch(text) else ""


def lost_target(path: Path) -> Path | None:
    """The target of a link that leads to nothing; None for any other path."""
    try:
        if not path.is_symlink() or path.exists():
            return None
        return Path(os.path.normpath(path.absolute().parent / os.readlink(path)))
    except OSError:
        return None
