"""Hashes of files: SHA-256, git's blob hash, and a quick fingerprint."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from yuegguf.errors import ModelNotFound
from yuegguf.files.reading import open_plain_file, unreadable
from yuegguf.progress import Event, Progress, silent

HASH_BLOCK = 1 << 20
"""Bytes hashed or copied at once."""


def fingerprint(path: Path) -> str:
    """SHA-256 over a file's size, first and last MiB: enough to tell models apart, and instant."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(2**20))
        file.seek(max(0, size - 2**20))
        digest.update(file.read(2**20))
    return digest.hexdigest()


def sha256_of(path: Path, progress: Progress = silent) -> str:
    """SHA-256 of a file as hex. Raises DamagedFile when it cannot be read."""
    hasher = hashlib.sha256()
    each_block(path, hasher.update, progress, "verify")
    return hasher.hexdigest()


def git_blob_sha1(path: Path) -> str:
    """git's blob hash of a file, SHA-1 over a header and the bytes. Raises DamagedFile."""
    hasher = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    each_block(path, hasher.update, silent, "verify")
    return hasher.hexdigest()


def each_block(path: Path, use_block: Any, progress: Progress, phase: str) -> None:
    """Call `use_block` with a file's blocks. Raises DamagedFile when it cannot be read, ModelNotFound."""
    done, total = 0, size_of(path) or 0
    try:
        with open_plain_file(path) as file:
            blocks = iter(lambda: file.read(HASH_BLOCK), b"")
            while block := _next_block(blocks, path):
                use_block(block)
                done += len(block)
                progress(Event(phase, done, max(total, done), path.name))
    except FileNotFoundError as error:
        raise ModelNotFound(f"there is no file {path}") from error
    except OSError as error:  # a folder in its place, too
        raise unreadable(path, error) from error


def _next_block(blocks: Any, path: Path) -> bytes:
    try:
        return next(blocks, b"")
    except OSError as error:
        raise unreadable(path, error) from error


def size_of(path: Path) -> int | None:
    """Bytes of a file; None if there is none."""
    return path.stat().st_size if path.is_file() else None
