"""Published models, downloaded, verified and converted in place; offline kits.

State between two runs lies in the folder of models: `sources/ID/` holds what is being downloaded, `.staged/`
what was made of it. A result is hashed and written into the lock before it is moved to its name, so a kill
at any moment leaves either nothing new or something that the next run finishes without a download.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yuegguf.errors import DamagedFile, ModelNotFound
from yuegguf.files import hashing
from yuegguf.files.atomic import check_free_disk, flush, flush_folder, replacing, storage_errors, sweep
from yuegguf.files.reading import open_plain_file
from yuegguf.models import hub_client, lockfile, offline_kit, registry
from yuegguf.models.hub_client import RepoSnapshot
from yuegguf.models.install import (
    FETCHED_FOR,
    KEPT,
    InstallJob,
    WantedModel,
    fetched_gguf,
    install_model,
    lock_entry,
    names_of_set,
    original_job,
    room_needed,
)
from yuegguf.models.lockfile import Installed
from yuegguf.progress import Event, Progress

MAX_NAME_BYTES = 300
"""Maximum bytes of a model's name with its type."""


@dataclass(frozen=True)
class PullOptions:
    """Options of a download of models."""

    from_gguf: bool = False
    """Take another publisher's GGUF and trim it, instead of converting the original."""
    keep_source: bool = False
    """Keep the downloaded originals in `sources/`."""
    offline: bool = False
    """Never use the network: only go on with what was downloaded before."""
    force: bool = False
    """Install again, and replace files that `pull` did not install."""


@dataclass(frozen=True)
class PulledFile:
    """An installed file of a model."""

    name: str
    """The model's name with its type: "en-cot:Q4_K_M", "xcodec"."""
    file: Path
    bytes: int
    sha256: str
    new: bool = True
    """False where the model was installed before."""


def pull_models(
    root: Path, wanted: Sequence[WantedModel], options: PullOptions, progress: Progress, donor: Path
) -> tuple[PulledFile, ...]:
    """Download, convert and install models in the folder `root`; calling it again goes on.

    What is installed in the folder `donor` is copied from there. A licence that is not free comes as a
    warning through `progress`. Raises YueError.
    """
    with lockfile.exclusive(root):
        puller = _Puller(root, donor, options, progress)
        entries = puller.all(wanted)
    return tuple(_pulled(root, entry, entry.name not in puller.present) for entry in entries)


def install_kit(
    root: Path,
    kit: Path,
    names: Sequence[str],
    set_name: str | None,
    progress: Progress,
    *,
    force: bool = False,
) -> tuple[PulledFile, ...]:
    """Install models of an offline kit in the folder `root`; all of them without names or a set.

    `force` replaces files there that `pull` did not install. Raises RequestError, ModelNotFound, DamagedFile,
    StorageError.
    """
    entries = offline_kit.kit_entries(kit, [*names, *(names_of_set(set_name) if set_name else ())])
    with lockfile.exclusive(root):
        offline_kit.copy_models(kit, root, entries, progress, force=force)
    return tuple(_pulled(root, entry) for entry in entries)


def _pulled(root: Path, entry: Installed, new: bool = True) -> PulledFile:
    return PulledFile(entry.name, root / entry.path, entry.bytes, entry.sha256, new)


class _Puller:
    """One run of `pull` over a folder of models."""

    def __init__(self, root: Path, donor: Path, options: PullOptions, progress: Progress) -> None:
        self.root, self.donor, self.options, self.progress = root, donor, options, progress
        self.present: set[str] = set()
        """Names of the models that were installed before."""

    def all(self, wanted: Sequence[WantedModel]) -> list[Installed]:
        """Everything in turn; the disk is checked for all of it before the first byte."""
        sweep(self.root)
        self._check_folders(wanted)
        self._drop_unfinished()
        done = {model.name: self._ready(model) for model in wanted}
        missing = [model for model in wanted if not done[model.name]]
        jobs = [self._job(model) for model in missing]
        names = ", ".join(model.name for model in missing)
        check_free_disk(self.root, room_needed(jobs, self.options.keep_source), names, "--models-dir")
        for i, job in enumerate(jobs):
            done[job.wanted.name] = self._run(job)
            self._clean(job.folders - {folder for later in jobs[i + 1 :] for folder in later.folders})
        folders = {folder for model in wanted for folder in self._folders(model)}
        self._clean({folder for folder in folders if self._fetched_for(folder) in ("", *done)})
        return [entry for model in wanted for entry in done[model.name]]

    def _check_folders(self, wanted: Sequence[WantedModel]) -> None:
        """Refuse folders of ours that are links to elsewhere: nothing is written or removed there."""
        inside = [path for model in wanted for path in model.paths]
        for place in (".staged/x", "sources/x", *inside):
            lockfile.check_inside(self.root, place)
        for model in wanted:
            for folder in (*self._folders(model), self._staging(model)):
                lockfile.check_inside(self.root, (folder / "x").relative_to(self.root).as_posix())

    def _drop_unfinished(self) -> None:
        """Remove what a killed pull was making, of any model; what the lock names is only to be moved."""
        folder = self.root / ".staged"
        finished = {entry.name.replace(":", "-") for entry in lockfile.read_lock(self.root).values()}
        for left in folder.iterdir() if folder.is_dir() else ():
            if left.name not in finished:
                shutil.rmtree(left, ignore_errors=True)

    def _ready(self, model: WantedModel) -> list[Installed]:
        """Its entries when it is installed, was made and only has to be moved, or lies in the donor."""
        entries, given = self._entries(self.root, model), self._entries(self.donor, model)
        if self.options.force:
            return []
        made = [entry for entry in entries if self._is_made(model, entry)]
        self._place(model, made)  # before the sizes are compared: a damaged file may have the right one
        if entries and lockfile.entries_with_files(self.root, entries) == entries:
            if not made:
                self.present.add(model.name)
            return entries
        if self.root != self.donor and given and lockfile.entries_with_files(self.donor, given) == given:
            offline_kit.copy_models(self.donor, self.root, given, self.progress)
            return given
        return []

    def _entries(self, root: Path, model: WantedModel) -> list[Installed]:
        """The lock's entries, when they are as many as the model has files."""
        known = lockfile.read_lock(root)
        found = [known[path] for path in model.paths if path in known]
        return found if len(found) == len(model.paths) else []

    def _is_made(self, model: WantedModel, entry: Installed) -> bool:
        """Whether the file of an entry is staged, whole."""
        path = self._staging(model) / Path(entry.path).name
        return hashing.size_of(path) == entry.bytes and hashing.sha256_of(path, self.progress) == entry.sha256

    def _job(self, model: WantedModel) -> InstallJob:
        """Ask the hub what there is to fetch. Raises YueError."""
        if not self.options.force:
            lockfile.refuse_foreign(self.root, model.paths)
        folder, gguf_folder = self._folders(model)
        if self.options.from_gguf and model.quant:
            return self._gguf_job(model, gguf_folder)
        found = self._look_up(model.entry.source, model.entry.revision, folder).only(model.entry.files)
        hub_client.check_expected(found, model.entry.expected_files)
        return original_job(model, found, folder)

    def _gguf_job(self, model: WantedModel, folder: Path) -> InstallJob:
        """The first repository with a GGUF of that type, and the tokenizer that such files lack."""
        for repo in model.entry.gguf:
            found = fetched_gguf(self._look_up(repo.source, "", folder), model.quant)
            if not found.files:
                continue
            parts = [(found, folder)]
            if model.entry.role == "stage1":
                place = folder / "tokenizer"
                original = self._look_up(model.entry.source, model.entry.revision, place)
                parts.append((original.only(["tokenizer.model"]), place))
            return InstallJob(model, tuple(parts), found.bytes)
        tried = ", ".join(repo.source for repo in model.entry.gguf) or "any repository that models.toml knows"
        raise ModelNotFound(
            f"there is no {model.quant} GGUF of {model.entry.id} in {tried}", "leave --from-gguf out"
        )

    def _look_up(self, repo: str, revision: str, folder: Path) -> RepoSnapshot:
        """Snapshot of a repository from the hub, at the commit of a download that was begun."""
        begun = self._begun(folder)
        begun = begun if begun and begun.repo == repo and begun.revision.startswith(revision) else None
        if self.options.offline:
            if begun is None:
                raise ModelNotFound(
                    f"{repo} is not on this machine", "run the command without --offline, or use --from"
                )
            return begun
        found = hub_client.query_snapshot(repo, begun.revision if begun else revision)
        if not registry.is_free(found.licence):
            stated = found.licence or "not stated there"
            text = f"the licence of {repo} is {stated}; YuE v1 itself is under {registry.FREE_LICENCE}"
            self.progress(Event("download", 0, 1, warning=text))
        return found

    def _begun(self, folder: Path) -> RepoSnapshot | None:
        """The record of a download; a damaged one is written anew where the hub can be asked."""
        try:
            return hub_client.read_source_record(folder)
        except DamagedFile:
            if self.options.offline:
                raise
            return None

    def _run(self, job: InstallJob) -> list[Installed]:
        """Fetch, make, note, place."""
        model, staging = job.wanted, self._staging(job.wanted)
        for snapshot, folder in job.parts:
            hub_client.write_source_record(snapshot, folder)
            with replacing(folder / FETCHED_FOR) as note:
                note.write_text(model.name, "utf-8")
            if self.options.keep_source:
                with replacing(folder / KEPT) as mark:
                    mark.touch()
            hub_client.download_snapshot(snapshot, folder, self.progress, self.options.offline)
        with storage_errors(staging):
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
        install_model(job, staging, self.progress)
        entries = [lock_entry(job, path, staging / Path(path).name, self.progress) for path in model.paths]
        lockfile.update_lock(self.root, entries)
        self._place(model, entries)
        return entries

    def _place(self, model: WantedModel, entries: Sequence[Installed]) -> None:
        """Move what was made to its name, and remove what else is staged."""
        for entry in entries:
            made, final = self._staging(model) / Path(entry.path).name, self.root / entry.path
            with storage_errors(final):
                final.parent.mkdir(parents=True, exist_ok=True)
                if made.is_file():
                    flush(made)
                    made.replace(final)
                    flush_folder(final.parent)
        shutil.rmtree(self._staging(model), ignore_errors=True)

    def _clean(self, folders: set[Path]) -> None:
        """Remove sources that nobody asked to keep, and folders that are empty then."""
        for folder in folders:
            if not (folder / KEPT).exists():
                shutil.rmtree(folder, ignore_errors=True)
        for folder in (self.root / ".staged", self.root / "sources"):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def _fetched_for(self, folder: Path) -> str:
        """Name of the model that a folder of sources was last fetched for; empty where nothing says it."""
        try:
            with open_plain_file(folder / FETCHED_FOR) as note:
                return note.read(MAX_NAME_BYTES).decode("utf-8", "replace")
        except OSError:
            return ""

    def _folders(self, model: WantedModel) -> tuple[Path, Path]:
        """Folders of the original download, and of a GGUF's."""
        sources = self.root / "sources"
        return sources / model.entry.id, sources / f"{model.entry.id}-{model.quant}-gguf"

    def _staging(self, model: WantedModel) -> Path:
        return self.root / ".staged" / model.name.replace(":", "-")
