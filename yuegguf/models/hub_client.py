"""Client of the Hugging Face hub: a repository's file list, and downloads that resume and are verified.

Every file is checked against the hub's record before it gets its name. A partial file's name contains the
expected hash, so a later run resumes it and never mixes two versions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TypeVar

from yuegguf.errors import DamagedFile, DownloadError, ModelNotFound
from yuegguf.files import hashing
from yuegguf.files.atomic import flush, replacing, storage_errors
from yuegguf.files.reading import unreadable
from yuegguf.files.typed_json import read_file, read_json
from yuegguf.models import lockfile, transport
from yuegguf.models.registry import KnownFile
from yuegguf.progress import Event, Progress, silent

T = TypeVar("T")
OnBytes = Callable[[int], None]
SOURCE_RECORD = ".source.json"
"""File with the hub's record of a download, in its folder."""
MAX_DAMAGED_DOWNLOADS = 2
"""Attempts at a file whose bytes differ from the hub's record."""
MAX_FILE_BYTES = 2**50
"""Largest size that a record may name."""
DIGEST = re.compile("sha256:[0-9a-f]{64}|blob:[0-9a-f]{40}")
COMMIT = re.compile("[0-9a-f]{40}")
REPO = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)


@dataclass(frozen=True)
class RemoteFile:
    """The hub's record of a file."""

    name: str
    """Its path in the repository, with slashes."""
    bytes: int
    digest: str
    """"sha256:…" for large files, git's "blob:…" for small ones."""

    def __post_init__(self) -> None:
        """Raise ValueError for a record with impossible values."""
        if not lockfile.is_safe_relative_path(self.name):
            raise ValueError(f"the file name {self.name[:80]!a} makes no sense")
        if not 0 <= self.bytes <= MAX_FILE_BYTES or not DIGEST.fullmatch(self.digest):
            raise ValueError(f"the size or the hash of {self.name} makes no sense")

    @property
    def part(self) -> str:
        """Name of the partial download."""
        path = Path(self.name)
        return (path.parent / f".{path.name}.{self.digest.partition(':')[2][:16]}.part").as_posix()


@dataclass(frozen=True)
class RepoSnapshot:
    """Records of a repository's files at one commit."""

    repo: str
    revision: str
    """Full commit."""
    licence: str
    """Licence on the model card; empty if it has none."""
    files: tuple[RemoteFile, ...]

    def __post_init__(self) -> None:
        """Raise ValueError for a record with impossible values."""
        if not REPO.fullmatch(self.repo) or not COMMIT.fullmatch(self.revision):
            raise ValueError("the repository or its commit makes no sense")
        if not self.licence.isprintable() or len(self.licence) > 200:
            raise ValueError("the licence makes no sense")
        if len({file.name for file in self.files}) != len(self.files):
            raise ValueError("a file is named twice")

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files)

    def only(self, patterns: Sequence[str]) -> RepoSnapshot:
        """A copy with the files that match one of the patterns."""
        matching = tuple(f for f in self.files if any(fnmatchcase(f.name, pattern) for pattern in patterns))
        return RepoSnapshot(self.repo, self.revision, self.licence, matching)


@dataclass(frozen=True)
class _Lfs:
    sha256: str
    size: int


@dataclass(frozen=True)
class _Sibling:
    """A file in the hub's answer, under the hub's own names."""

    rfilename: str
    size: int | None = None
    blobId: str = ""
    lfs: _Lfs | None = None


@dataclass(frozen=True)
class _RepoInfo:
    """The hub's answer about a repository."""

    sha: str
    siblings: list[_Sibling]
    cardData: dict[str, object] | None = None


@dataclass(frozen=True)
class _Commit:
    id: str


def query_snapshot(repo: str, revision: str = "") -> RepoSnapshot:
    """Query the hub for a repository's files at a commit (possibly abbreviated), by default the latest.

    Raises ModelNotFound, DownloadError.
    """
    full = _full_revision(repo, revision) if revision and len(revision) < 40 else revision
    place = f"/api/models/{repo}" + (f"/revision/{transport.quoted(full)}" if full else "")
    info = _typed(transport.query(f"{place}?blobs=True", repo), _RepoInfo, repo)
    licence = (info.cardData or {}).get("license") or ""
    try:
        files = [file for sibling in info.siblings if (file := _remote_file(sibling))]
        files.sort(key=lambda file: file.name)
        found = RepoSnapshot(repo, info.sha, licence if isinstance(licence, str) else "", tuple(files))
    except ValueError as error:
        raise DownloadError(
            f"the answer about {repo} makes no sense: {error}", transport.PROXY_HINT
        ) from error
    if full and found.revision != full:
        raise DownloadError(
            f"the hub answered about another commit of {repo} than {full}", transport.PROXY_HINT
        )
    return found


def check_expected(snapshot: RepoSnapshot, expected: Mapping[str, KnownFile]) -> None:
    """Compare the hub's record with the facts in models.toml of this revision. Raises DamagedFile."""
    for file in snapshot.files:
        ours = expected.get(file.name, KnownFile())
        pairs = (
            ("sha256", ours.sha256, file.digest.removeprefix("sha256:")),
            ("bytes", ours.bytes, file.bytes),
        )
        for fact, known, theirs in pairs:
            if known is not None and known != theirs:
                raise DamagedFile(
                    f"the hub's {fact} of {file.name} in {snapshot.repo} is {theirs}, "
                    f"but models.toml knows {known}",
                    "this is not the published model: ask its authors, or report it to us",
                )


def write_source_record(snapshot: RepoSnapshot, folder: Path) -> None:
    """Write the hub's record into the folder of a download. Raises StorageError."""
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / SOURCE_RECORD) as part:
        part.write_text(json.dumps(asdict(snapshot), indent=1), "utf-8")


def read_source_record(folder: Path) -> RepoSnapshot | None:
    """The hub's record in the folder of a download; None if there is none. Raises DamagedFile."""
    path = folder / SOURCE_RECORD
    try:
        return read_file(path, RepoSnapshot, "run the command without --offline")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise unreadable(path, error) from error


def missing_bytes(snapshot: RepoSnapshot, folder: Path) -> int:
    """Bytes of a snapshot that are not in `folder` yet."""

    def present_bytes(file: RemoteFile) -> int:
        paths = (folder / file.name, folder / file.part)
        return min(file.bytes, max((path.stat().st_size for path in paths if path.is_file()), default=0))

    return sum(file.bytes - present_bytes(file) for file in snapshot.files)


def download_snapshot(
    snapshot: RepoSnapshot, folder: Path, progress: Progress = silent, offline: bool = False
) -> None:
    """Download all files of a snapshot into `folder`; verifies new and existing ones.

    Resumes when it is called again after being killed. Raises ModelNotFound (also for a missing file if
    `offline`), DownloadError, DamagedFile (the download differs from the hub's record; it is removed),
    StorageError.
    """
    done, total = 0, snapshot.bytes
    for file in snapshot.files:
        path = folder / file.name
        if not (path.is_file() and matches_record(path, file, progress)):
            if offline:
                raise ModelNotFound(f"{path} is not there or damaged", "run the command without --offline")
            _download(snapshot, file, folder, partial(_report_bytes, progress, done, total), progress)
        done += file.bytes


def _report_bytes(progress: Progress, before: int, total: int, count: int) -> None:
    progress(Event("download", before + count, total))


def matches_record(path: Path, file: RemoteFile, progress: Progress = silent) -> bool:
    """Whether a local file has the size and hash of the hub's record."""
    if path.stat().st_size != file.bytes:
        return False
    kind, _, expected = file.digest.partition(":")
    return expected == (
        hashing.sha256_of(path, progress) if kind == "sha256" else hashing.git_blob_sha1(path)
    )


def _download(
    snapshot: RepoSnapshot, file: RemoteFile, folder: Path, moved: OnBytes, progress: Progress
) -> None:
    """Download one file, resuming a partial one, and rename it once its hash is right.

    A wrong hash may come from damage on the disk or the network, so the file is downloaded once more, whole.
    """
    part, what = folder / file.part, f"{file.name} of {snapshot.repo}"
    lockfile.check_inside(folder, file.part)
    with storage_errors(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        if part.is_symlink() or (part.is_file() and part.stat().st_size > file.bytes):
            part.unlink()
    url = transport.file_url(snapshot.repo, snapshot.revision, file.name)
    for _ in range(MAX_DAMAGED_DOWNLOADS):
        transport.download(url, part, file.bytes, what, moved)
        if matches_record(part, file, progress):
            with storage_errors(folder / file.name):
                flush(part)
                part.replace(folder / file.name)
            return
        with storage_errors(part):
            part.unlink()
    raise DamagedFile(
        f"{what} arrived damaged {MAX_DAMAGED_DOWNLOADS} times: its hash is not the one that the hub records",
        "something on the way changes bytes: check the proxy, HF_ENDPOINT, the disk and the memory",
    )


def _full_revision(repo: str, revision: str) -> str:
    """The full commit that an abbreviated one stands for; the hub knows full ones only."""
    for page in transport.query_pages(f"/api/models/{repo}/commits/main", repo):
        for commit in _typed(page, list[_Commit], repo):
            if commit.id.startswith(revision):
                return commit.id
    raise ModelNotFound(f"{repo} has no commit {revision}", "report it: models.toml has to change")


def _typed(answer: bytes, kind: type[T], repo: str) -> T:
    """An answer of the hub as a value of `kind`. Raises DownloadError."""
    try:
        return read_json(answer, kind, f"the answer about {repo}", transport.PROXY_HINT, others=True)
    except DamagedFile as error:
        raise DownloadError(error.message.replace("is damaged", "makes no sense", 1), error.hint) from error


def _remote_file(sibling: _Sibling) -> RemoteFile | None:
    """Record of a listed file; None for unsafe names.

    Raises ValueError for a record without a size or a hash.
    """
    if not lockfile.is_safe_relative_path(sibling.rfilename):
        return None
    if sibling.lfs:
        return RemoteFile(sibling.rfilename, sibling.lfs.size, f"sha256:{sibling.lfs.sha256}")
    return RemoteFile(
        sibling.rfilename, -1 if sibling.size is None else sibling.size, f"blob:{sibling.blobId}"
    )
