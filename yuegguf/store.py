"""The hub: what a repository holds, and its files, resumed and verified. The only place with a network.

huggingface_hub does the talking (HF_TOKEN, HF_ENDPOINT, proxies, retries, ranges); here every file is
checked against the hub's own record before it gets its name, and every failure becomes a sentence. Half a
file lies under a name that says which bytes it is to become, so a later run goes on with it and never mixes
two versions.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from yuegguf import __version__, lockfile
from yuegguf.errors import DamagedFile, DownloadError, ModelNotFound, StorageError, YueError
from yuegguf.files import flush, replacing, storage_error, storage_errors
from yuegguf.progress import Event, Progress, silent

RECORD = ".source.json"
"""What the hub said of a download, beside it."""
CHUNK = 1 << 20
"""Bytes taken from the network at once: the most that a kill or a slow line's Ctrl-C has to do with."""
AGAIN = "run the same command again, it goes on where this one stopped"


@dataclass(frozen=True)
class RemoteFile:
    """A file as the hub records it."""

    name: str
    """Its path in the repository, with slashes."""
    bytes: int
    digest: str
    """"sha256:…" for large files, git's "blob:…" for small ones."""

    @property
    def part(self) -> str:
        """The name under which it grows."""
        path = Path(self.name)
        return (path.parent / f".{path.name}.{self.digest.partition(':')[2][:16]}.part").as_posix()


@dataclass(frozen=True)
class Snapshot:
    """The wanted files of a repository at one commit."""

    repo: str
    revision: str
    """Full commit."""
    licence: str
    """As the card states it; empty where it does not."""
    files: tuple[RemoteFile, ...]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files)

    def only(self, patterns: Sequence[str]) -> Snapshot:
        """The same with the files that match one of the patterns."""
        kept = tuple(f for f in self.files if any(fnmatchcase(f.name, pattern) for pattern in patterns))
        return Snapshot(self.repo, self.revision, self.licence, kept)


def look_up(repo: str, revision: str = "") -> Snapshot:
    """What the hub holds of a repository at a commit (possibly abbreviated), or now.

    Raises ModelNotFound, DownloadError.
    """
    hub, api = _hub(), _api()
    try:
        with _in_words(repo):
            full, wait = _full_revision(api, repo, revision), hub.constants.HF_HUB_DOWNLOAD_TIMEOUT
            info = api.model_info(repo, revision=full, files_metadata=True, timeout=wait)
        files = [_remote_file(sibling) for sibling in info.siblings]
        licence = str((info.card_data or {}).get("license") or "")
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # no JSON, or not that of a hub
        raise DownloadError(
            f"the answer about {repo} makes no sense ({type(error).__name__})", "check HF_ENDPOINT"
        ) from error
    honest = sorted((file for file in files if file is not None), key=lambda file: file.name)
    return Snapshot(repo, str(info.sha), licence, tuple(honest))


def check_known(snapshot: Snapshot, known: Mapping[str, Mapping[str, Any]]) -> None:
    """Compare the hub's record with what models.toml knows of this revision. Raises DamagedFile."""
    for file in snapshot.files:
        facts = known.get(file.name, {})
        expected = {"sha256": file.digest.removeprefix("sha256:"), "bytes": file.bytes}
        for fact, value in facts.items():
            if value != expected[fact]:
                raise DamagedFile(
                    f"the hub's {fact} of {file.name} in {snapshot.repo} is {expected[fact]}, "
                    f"but models.toml knows {value}",
                    "this is not the published model: ask its authors, or report it to us",
                )


def remember(snapshot: Snapshot, folder: Path) -> None:
    """Write beside a download what it is to become. Raises StorageError."""
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / RECORD) as part:
        part.write_text(json.dumps(asdict(snapshot), indent=1), "utf-8")


def recall(folder: Path) -> Snapshot | None:
    """The snapshot that a folder's download belongs to; None where it does not say."""
    try:
        found = json.loads((folder / RECORD).read_bytes())
        files = tuple(RemoteFile(**file) for file in found.pop("files"))
        return Snapshot(files=files, **found) if all(lockfile.plain(f.name) for f in files) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def missing_bytes(snapshot: Snapshot, folder: Path) -> int:
    """How many bytes of a snapshot are not in `folder` yet."""

    def there(file: RemoteFile) -> int:
        paths = (folder / file.name, folder / file.part)
        return min(file.bytes, max((path.stat().st_size for path in paths if path.is_file()), default=0))

    return sum(file.bytes - there(file) for file in snapshot.files)


def fetch(snapshot: Snapshot, folder: Path, progress: Progress = silent, offline: bool = False) -> None:
    """Bring all files of a snapshot into `folder`, each verified whether it is new or was there.

    Killed at any byte and called again, it goes on. Raises ModelNotFound (also for a file that is not
    there and `offline`), DownloadError, DamagedFile (what arrived is not what the hub records; it is
    removed), StorageError.
    """
    done, total = 0, snapshot.bytes
    for file in snapshot.files:
        path = folder / file.name
        if not (path.is_file() and matches(path, file, progress)):
            if offline:
                raise ModelNotFound(f"{path} is not there or damaged", "run the command without --offline")
            _download(
                snapshot, file, folder, lambda n, d=done: progress(Event("download", d + n, total)), progress
            )
        done += file.bytes


def matches(path: Path, file: RemoteFile, progress: Progress = silent) -> bool:
    """Whether a file on this machine is the one that the hub records."""
    if path.stat().st_size != file.bytes:
        return False
    kind, _, expected = file.digest.partition(":")
    return expected == (lockfile.digest(path, progress) if kind == "sha256" else lockfile.blob_digest(path))


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Keep a second pull out of `root`; a killed one leaves nothing behind. Raises StorageError."""
    with ExitStack() as stack:
        with storage_errors(root):
            root.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(_hub().utils.WeakFileLock(root / ".pull.lock", timeout=0.5))
            except TimeoutError as error:
                raise StorageError(f"another pull is at work in {root}", "wait until it has ended") from error
        yield


def _download(snapshot: Snapshot, file: RemoteFile, folder: Path, moved: Any, progress: Progress) -> None:
    """Fetch one file, from where its part ends, and give it its name once it is right."""
    hub, part = _hub(), folder / file.part
    with storage_errors(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        if part.is_file() and part.stat().st_size > file.bytes:
            part.unlink()
    with _in_words(snapshot.repo, file.name, part):
        url = hub.hf_hub_url(snapshot.repo, file.name, revision=snapshot.revision)
        _append(url, part, file.bytes, _bar(moved))
    if not matches(part, file, progress):
        part.unlink()
        raise DamagedFile(
            f"{file.name} of {snapshot.repo} arrived damaged: its hash is not the one that the hub records",
            "it was removed; run the same command again",
        )
    with storage_errors(folder / file.name):
        flush(part)
        part.replace(folder / file.name)


def _append(url: str, part: Path, size: int, bar: type) -> None:
    """Bring a part to its whole size; an attempt that brings nothing is the last."""
    import httpx2
    from huggingface_hub.file_download import http_get

    headers = _hub().utils.build_hf_headers(library_name="yuegguf", library_version=__version__)
    before = -1
    while True:
        with part.open("ab") as target:
            start = target.tell()
            try:
                return http_get(
                    url, target, resume_size=start, headers=headers, expected_size=size, tqdm_class=bar
                )
            except httpx2.NetworkError:  # all other failures huggingface_hub itself has tried again
                if start == before:
                    raise
                before = start


def _full_revision(api: Any, repo: str, revision: str) -> str | None:
    """The full commit that an abbreviated one stands for; the hub knows full ones only."""
    if not revision or len(revision) == 40:
        return revision or None
    for commit in api.list_repo_commits(repo):
        if commit.commit_id.startswith(revision):
            return str(commit.commit_id)
    raise ModelNotFound(f"{repo} has no commit {revision}", "report it: models.toml has to change")


def _remote_file(sibling: Any) -> RemoteFile | None:
    """A file of the hub's listing; None for names that no honest repository has."""
    name = str(sibling.rfilename)
    if not lockfile.plain(name):
        return None
    digest = f"sha256:{sibling.lfs.sha256}" if sibling.lfs else f"blob:{sibling.blob_id}"
    size = sibling.lfs.size if sibling.lfs else sibling.size
    return RemoteFile(name, int(size or 0), digest)


def _hub() -> Any:
    """huggingface_hub, quiet and in small pieces; it is slow to import and only needed here."""
    import huggingface_hub
    import huggingface_hub.constants
    import huggingface_hub.utils

    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)  # its warnings are told as errors below
    huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = CHUNK
    return huggingface_hub


def _api() -> Any:
    return _hub().HfApi(library_name="yuegguf", library_version=__version__)


def _bar(moved: Any) -> type:
    """What huggingface_hub takes for a progress bar."""

    class Bar:
        def __init__(self, initial: int = 0, **_options: Any) -> None:
            self.done = initial

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_error: object) -> None:
            pass

        def update(self, count: float | None = 1) -> None:
            self.done += int(count or 0)
            moved(self.done)

    return Bar


@contextmanager
def _in_words(repo: str, file: str = "", target: Path | None = None) -> Iterator[None]:
    """Turn whatever a transfer can raise into a sentence with the way on; `target` is written."""
    import httpx2
    from huggingface_hub import errors

    what = f"{file} of {repo}" if file else repo
    try:
        yield
    except YueError:
        raise
    except errors.OfflineModeIsEnabled as error:
        raise ModelNotFound(
            f"{what} is not here, and HF_HUB_OFFLINE forbids the network", "unset it"
        ) from error
    except errors.HfHubHTTPError as error:
        raise _refused(what, error.response.status_code) from error
    except (httpx2.TimeoutException, TimeoutError) as error:
        raise DownloadError(f"the hub stopped answering while {what} was fetched", AGAIN) from error
    except httpx2.HTTPError as error:
        raise DownloadError(
            f"the connection to the hub failed while {what} was fetched ({error})", AGAIN
        ) from error
    except OSError as error:
        if error.errno is None:  # huggingface_hub's own: the length was not the announced one
            raise DownloadError(f"{what} arrived with a wrong length", AGAIN) from error
        raise storage_error(target or Path(), error) from error


def _refused(what: str, status: int) -> YueError:
    """The sentence for a status that is an error."""
    if status in (401, 403):
        return ModelNotFound(
            f"the hub does not give out {what} (status {status})",
            "log in with a token that may read it: HF_TOKEN=… yuegguf pull …",
        )
    if status in (404, 410):
        return ModelNotFound(f"the hub has no {what} (status {status})", "check the name, and HF_ENDPOINT")
    if status == 416:
        return DownloadError(f"the hub has less of {what} than it announced", AGAIN)
    if status == 429:
        return DownloadError(
            f"the hub asks to wait before more of {what}", "wait some minutes, then " + AGAIN
        )
    return DownloadError(f"the hub failed with status {status} on {what}", AGAIN)
