"""Files that appear whole or not at all: written beside the target, then renamed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from yuegguf.errors import StorageError
from yuegguf.files.atomic import refuse_to_replace, replacing, storage_errors, workspace


@contextmanager
def partial_file(out: Path, overwrite: bool = False) -> Iterator[Path]:
    """A unique path beside `out`; it becomes `out` when the block ends well and vanishes otherwise.

    Raises RequestError when `out` exists and `overwrite` is false, StorageError when its folder is missing,
    and for every OSError of the block (disk full, no permission).
    """
    check_free(out, overwrite)
    with replacing(out) as partial:
        yield partial
        check_free(out, overwrite)  # a conversion takes minutes, in which another may have ended


@contextmanager
def scratch_file(out: Path) -> Iterator[Path]:
    """A path beside `out` whose file, if one is made, is removed at the end of the block, or by the next run.

    Raises StorageError.
    """
    with storage_errors(out), workspace(out.parent) as folder:
        yield folder / out.name


def check_free(out: Path, overwrite: bool) -> None:
    """Raise StorageError when `out` has no folder or is one, RequestError when it exists and has to stay."""
    if not out.parent.is_dir():
        raise StorageError(f"there is no folder {out.parent}", "create it first")
    if out.is_dir():
        raise StorageError(f"{out} is a folder", "name a file inside it")
    refuse_to_replace([out], overwrite)
