"""models.lock.json: installed files with their source and hashes. No network.

It lies in the folder of installed models and names every file with its size, its SHA-256, the exact
revision and the hashes of its source files. A file is installed when the lock names it and it exists;
`verify_file` also checks its hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from yuegguf.errors import DamagedFile, ModelNotFound, RequestError, StorageError
from yuegguf.files.atomic import ensured_folder, locked_folder, replacing, storage_errors
from yuegguf.files.hashing import each_block, sha256_of, size_of
from yuegguf.files.reading import is_closed, open_plain_file, unreadable
from yuegguf.files.typed_json import MAX_JSON_BYTES, as_typed, read_json
from yuegguf.models.registry import file_names
from yuegguf.progress import Progress, silent

LOCK_NAME = "models.lock.json"
PULL_LOCK = ".pull.lock"
"""Lock file of a process that changes a folder of models."""
LOCK_FORMAT = 1
MODEL_WORD = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
"""A model's id, or a type."""
SHA256 = re.compile("[0-9a-f]{64}")
DELETE_HINT = "delete it and pull again; model files are used without it"


@dataclass(frozen=True)
class Installed:
    """One installed file."""

    path: str
    """Below the folder of installed models: "en-cot-Q4_K_M.gguf", "xcodec/decoder.onnx"."""
    model: str
    """Id in models.toml."""
    quant: str
    """"Q4_K_M"; empty for the codec."""
    bytes: int
    sha256: str
    licence: str
    """Licence stated by the source; empty if it states none."""
    source: str
    """Repository."""
    revision: str
    """Full commit."""
    files: Mapping[str, str]
    """File of the source → "sha256:…" or, for small files, git's "blob:…"."""
    maker: str
    """Program that made the file, such as "yuegguf 0.1.0"."""

    def __post_init__(self) -> None:
        """Raise ValueError for an entry that `pull` never writes, above all a path of another model."""
        if not all(map(MODEL_WORD.fullmatch, (self.model, self.quant or self.model))):
            raise ValueError(f"the model {self.model[:80]!a} makes no sense")
        if self.path not in file_names(self.model, self.quant):
            raise ValueError(f"an entry for {self.path[:80]!a} makes no sense")
        if not 0 <= self.bytes < 2**50 or not SHA256.fullmatch(self.sha256):
            raise ValueError(f"the size or the hash of {self.path} makes no sense")
        texts = (self.licence, self.source, self.revision, self.maker, *self.files, *self.files.values())
        if not all(text.isprintable() and len(text) <= 500 for text in texts):
            raise ValueError(f"the source of {self.path} makes no sense")

    @property
    def name(self) -> str:
        """Name for `pull` and `rm`: "en-cot:Q4_K_M", "xcodec"."""
        return f"{self.model}:{self.quant}" if self.quant else self.model


@dataclass(frozen=True)
class _Format:
    format: int


@dataclass(frozen=True)
class _Lock(_Format):
    files: tuple[Installed, ...]

    def __post_init__(self) -> None:
        if len({entry.path for entry in self.files}) != len(self.files):
            raise ValueError("a file is named twice")


@contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Lock a folder of models against other processes; creates it if it is missing.

    A change of models.lock.json is read and written inside. Raises StorageError.
    """
    with (
        ensured_folder(root),
        locked_folder(root, PULL_LOCK, f"another yuegguf is changing the models in {root}"),
    ):
        yield


@contextmanager
def installing(root: Path, paths: Iterable[str]) -> Iterator[None]:
    """Replace files of these paths in a folder of models by other means than `pull`; drops their entries.

    Raises DamagedFile, StorageError.
    """
    with exclusive(root):
        read_lock(root)  # a damaged lock is refused before the work
        yield
        if known := set(paths) & set(read_lock(root)):
            update_lock(root, drop=known)


def read_lock(root: Path) -> dict[str, Installed]:
    """Path → entry of the lock in `root`; empty if there is no lock. Raises DamagedFile."""
    path = root / LOCK_NAME
    try:
        with open_plain_file(path) as file:
            data = file.read(MAX_JSON_BYTES + 1)
    except FileNotFoundError:
        return {}
    except PermissionError as error:
        if is_closed(root):
            return {}
        raise unreadable(path, error) from error
    except NotADirectoryError as error:
        raise DamagedFile(
            f"{root} is a file, not a folder of models",
            "pass a folder; YUEGGUF_MODELS_DIR and --models-dir name that of installed models",
        ) from error
    except OSError as error:
        raise DamagedFile(f"{path} cannot be read ({error.strerror})", DELETE_HINT) from error
    decoded = read_json(data, dict[str, Any], path, DELETE_HINT, others=True)
    found = as_typed(decoded, _Format, path, DELETE_HINT, others=True).format
    if found != LOCK_FORMAT:
        raise DamagedFile(f"{path} is of another version ({found})", "use the yuegguf that wrote it")
    return {entry.path: entry for entry in as_typed(decoded, _Lock, path, DELETE_HINT).files}


def update_lock(root: Path, add: Iterable[Installed] = (), drop: Iterable[str] = ()) -> None:
    """Add entries to the lock in `root` and take paths out. Raises DamagedFile, StorageError."""
    dropped = set(drop)
    entries = {path: entry for path, entry in read_lock(root).items() if path not in dropped}
    entries |= {entry.path: entry for entry in add}
    listed = [asdict(entries[path]) for path in sorted(entries)]
    text = json.dumps({"format": LOCK_FORMAT, "files": listed}, indent=1, ensure_ascii=False)
    with replacing(root / LOCK_NAME) as part:
        part.write_text(text + "\n", "utf-8")


def entries_named(root: Path, name: str) -> list[Installed]:
    """Entries of "en-cot:Q4_K_M", or of "en-cot" in every quantisation. Raises DamagedFile."""
    return [e for e in read_lock(root).values() if name.lower() in (e.name.lower(), e.model.lower())]


def entries_with_files(root: Path, entries: Iterable[Installed]) -> list[Installed]:
    """The entries whose files exist with the right size."""
    return [entry for entry in entries if size_of(root / entry.path) == entry.bytes]


def verify_file(root: Path, entry: Installed, progress: Progress = silent) -> None:
    """Compare an installed file's size and hash with its entry. Raises ModelNotFound, DamagedFile."""
    again = f"get it again with: yuegguf pull {entry.name} --force"
    path, size = root / entry.path, size_of(root / entry.path)
    if size is None:
        raise ModelNotFound(f"{path} is not there", again)
    if size != entry.bytes:
        raise DamagedFile(f"{path} is damaged: {size} bytes instead of {entry.bytes}", again)
    if sha256_of(path, progress) != entry.sha256:
        raise DamagedFile(f"{path} is damaged: its SHA-256 is not the one in {LOCK_NAME}", again)


def refuse_foreign(root: Path, paths: Iterable[str]) -> None:
    """Raise RequestError where a path below `root` is taken by a file that the lock does not name."""
    ours = read_lock(root)
    for path in paths:
        if path not in ours and os.path.lexists(root / path):
            raise RequestError(
                f"{root / path} is already there, and not from pull", "use it, or replace it with --force"
            )


def copy_verified(source: Path, target: Path, expected: str, progress: Progress = silent) -> None:
    """Copy a file whose SHA-256 must be `expected`; `target` appears whole or not at all.

    Raises DamagedFile, StorageError.
    """
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    found = hashlib.sha256()
    with replacing(target) as part, part.open("wb") as file:

        def hash_and_write(block: bytes) -> None:
            found.update(block)
            file.write(block)

        each_block(source, hash_and_write, progress, "copy")
        if found.hexdigest() != expected:
            raise DamagedFile(
                f"{source} is damaged: its SHA-256 is not the one in {LOCK_NAME}", "make the kit again"
            )


def is_safe_relative_path(path: str) -> bool:
    """Whether a relative path with slashes stays below its folder and is valid on every file system."""
    parts = PurePosixPath(path).parts
    return bool(parts) and path.isprintable() and len(path) <= 500 and all(map(_is_safe_name, parts))


def _is_safe_name(name: str) -> bool:
    return name[0] not in "./" and not set(name) & set("\\:") and len(name.encode()) <= 200


def install_path(root: Path, folder: str, name: str) -> Path:
    """Path at which a converter installs a file, in a folder below `root` or, for "", in `root` itself.

    Raises RequestError for an invalid file name, StorageError for a folder that leads out of `root`.
    """
    if not is_safe_relative_path(name) or len(PurePosixPath(name).parts) != 1:
        raise RequestError(f"{name!a} is no name for a file", "use letters, digits, - and _")
    path = f"{folder}/{name}".lstrip("/")
    check_inside(root, path)
    return root / path


def leads_out(root: Path, path: Path) -> bool:
    """Whether a path below `root` is, or lies behind, a link to somewhere else."""
    try:
        return not path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a link to itself
        return True


def check_inside(root: Path, path: str) -> None:
    """Refuse to write a file below `root` through a folder that is a link to elsewhere.

    A link in the file's own place is replaced, never followed. Raises StorageError.
    """
    folder = (root / path).parent
    if leads_out(root, folder):
        raise StorageError(
            f"{folder} leads out of {root} through a link, and nothing is written or removed there",
            "remove the link, or name the folder that it leads to with --models-dir",
        )
