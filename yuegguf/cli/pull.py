"""`pull`: published models, downloaded, verified and converted in place; offline kits.

State between two runs lies in the folder of models: `sources/ID/` holds what is being downloaded, `.staged/`
what was made of it. A result is hashed and written into the lock before it is moved to its name, so a kill
at any moment leaves either nothing new or something that the next run finishes without a download.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import click

from yuegguf.cli._console import Console
from yuegguf.cli._install import (
    KEPT,
    InstallJob,
    WantedModel,
    fetched_gguf,
    install_model,
    lock_entry,
    original_job,
    room_needed,
)
from yuegguf.cli._options import PATH, models_root, pass_output
from yuegguf.errors import DamagedFile, Interrupted, ModelNotFound, RequestError
from yuegguf.files import hashing
from yuegguf.files.atomic import check_free_disk, flush, flush_folder, replacing, storage_errors, sweep
from yuegguf.models import hub_client, lockfile, offline_kit, registry, transport
from yuegguf.models.hub_client import RepoSnapshot
from yuegguf.models.lockfile import Installed
from yuegguf.models.registry import ModelEntry
from yuegguf.planning import hardware
from yuegguf.progress import Progress


@click.command(short_help="download models, verified and resumable")
@click.argument("names", nargs=-1, metavar="[NAME[:TYPE]]...")
@click.option("--set", "set_name", metavar="SET", help="minimal, en, zh, jp-kr or all.")
@click.option(
    "--quant", metavar="TYPE", help="Type of stage 1 where NAME has none [default: what fits this memory]."
)
@click.option(
    "--from-gguf", is_flag=True, help="Take another publisher's GGUF and trim it, instead of converting."
)
@click.option("--keep-source", is_flag=True, help="Keep the downloaded originals in sources/.")
@click.option("--to", "target", type=PATH, help="Make an offline kit in this folder instead of installing.")
@click.option("--from", "source", type=PATH, help="Install from an offline kit; without NAME, all of it.")
@click.option("--offline", is_flag=True, help="Never use the network: only go on with what is here.")
@click.option("--force", is_flag=True, help="Get it again, and replace files that pull did not install.")
@pass_output
def pull(output: Console, /, names: tuple[str, ...], **options: Any) -> None:
    """Download models by NAME (see `models list`), convert them in place and install them.

    Killed at any moment, the same command goes on. HF_TOKEN, HF_ENDPOINT and HTTPS_PROXY work as usual.

    \b
    yuegguf pull --set minimal
    yuegguf pull en-cot:Q4_K_M
    yuegguf pull --set zh --quant Q5_K_M
    yuegguf pull --set en --to /media/usb     # here, with network
    yuegguf pull --from /media/usb            # there, without
    """
    chosen = models_root()
    root = options["target"] or chosen
    try:
        if options["source"]:
            done = _install_kit(root, names, output, options)
        else:
            wanted = _wanted(names, options["set_name"], options["quant"])
            with lockfile.exclusive(root):
                done = _Puller(root, chosen, output, options).all(wanted)
    except KeyboardInterrupt as error:
        raise Interrupted("stopped, what has arrived is kept", transport.RERUN_HINT) from error
    output.done()
    files = [str(root / entry.path) for entry in done]
    facts = [
        {"name": entry.name, "file": file, "bytes": entry.bytes, "sha256": entry.sha256}
        for entry, file in zip(done, files, strict=True)
    ]
    output.result({"models_dir": str(root), "files": facts}, files)


def _install_kit(
    root: Path, names: Sequence[str], output: Console, options: dict[str, Any]
) -> list[Installed]:
    """`--from`: copy from a kit. Raises ModelNotFound, DamagedFile, StorageError."""
    if options["set_name"]:
        names = [*names, *_set(options["set_name"])]
    entries = offline_kit.kit_entries(options["source"], names)
    with lockfile.exclusive(root):
        offline_kit.copy_models(options["source"], root, entries, output.progress)
    return entries


def _set(name: str) -> tuple[str, ...]:
    found = registry.model_sets()
    if name not in found:
        raise RequestError(f"there is no set {name}", f"sets: {', '.join(found)}")
    return found[name]


def _wanted(names: Sequence[str], set_name: str | None, quant: str | None) -> list[WantedModel]:
    """Names and a set as models and types, none twice. Raises RequestError."""
    found: dict[str, WantedModel] = {}
    for name in [*names, *(_set(set_name) if set_name else ())]:
        given, _, own = name.partition(":")
        entry = registry.find_entry(given)
        if entry.role == "upsampler":
            raise RequestError(f"{entry.id} has nothing to install", "its files are in: yuegguf pull xcodec")
        if entry.role == "codec" and own:
            raise RequestError(f"{entry.id} has no types", f"write: yuegguf pull {entry.id}")
        wanted = WantedModel(entry, "" if entry.role == "codec" else (own or _type(entry, quant)).upper())
        found[wanted.name] = wanted
    if not found:
        raise RequestError("no model is named", "for example: yuegguf pull --set minimal")
    return list(found.values())


def _type(entry: ModelEntry, quant: str | None) -> str:
    """The type of a model that is named without one."""
    if quant and entry.role == "stage1":
        return quant
    role: Literal["stage1", "stage2"] = "stage1" if entry.role == "stage1" else "stage2"
    return registry.default_quant(role, hardware.available_memory())


class _Puller:
    """One run of `pull` over a folder of models."""

    def __init__(self, root: Path, donor: Path, output: Console, options: dict[str, Any]) -> None:
        self.root, self.donor, self.output = root, donor, output
        self.progress: Progress = output.progress
        self.offline, self.force = options["offline"], options["force"]
        self.keep, self.from_gguf = options["keep_source"], options["from_gguf"]

    def all(self, wanted: Sequence[WantedModel]) -> list[Installed]:
        """Everything in turn; the disk is checked for all of it before the first byte."""
        sweep(self.root)
        self._check_folders(wanted)
        self._drop_unfinished()
        done = {one.name: self._ready(one) for one in wanted}
        missing = [one for one in wanted if not done[one.name]]
        jobs = [self._job(one) for one in missing]
        names = ", ".join(one.name for one in missing)
        check_free_disk(self.root, room_needed(jobs, self.keep), names, "--models-dir")
        for i, job in enumerate(jobs):
            done[job.wanted.name] = self._run(job)
            self._clean(job.folders - {folder for later in jobs[i + 1 :] for folder in later.folders})
        self._clean({folder for one in wanted for folder in self._folders(one)})
        return [entry for one in wanted for entry in done[one.name]]

    def _check_folders(self, wanted: Sequence[WantedModel]) -> None:
        """Refuse folders of ours that are links to elsewhere: nothing is written or removed there."""
        inside = [path for one in wanted for path in one.paths]
        for place in (".staged/x", "sources/x", *inside):
            lockfile.check_inside(self.root, place)
        for one in wanted:
            for folder in (*self._folders(one), self._staging(one)):
                lockfile.check_inside(self.root, (folder / "x").relative_to(self.root).as_posix())

    def _drop_unfinished(self) -> None:
        """Remove what a killed pull was making, of any model; what the lock names is only to be moved."""
        folder = self.root / ".staged"
        finished = {entry.name.replace(":", "-") for entry in lockfile.read_lock(self.root).values()}
        for left in folder.iterdir() if folder.is_dir() else ():
            if left.name not in finished:
                shutil.rmtree(left, ignore_errors=True)

    def _ready(self, one: WantedModel) -> list[Installed]:
        """Its entries when it is installed, was made and only has to be moved, or lies in the donor."""
        entries, given = self._entries(self.root, one), self._entries(self.donor, one)
        if self.force:
            return []
        if entries and lockfile.entries_with_files(self.root, entries) == entries:
            self.output.say(f"{one.name} is installed already")
            return entries
        if entries and all(self._made(one, entry) for entry in entries):
            self._place(one, entries)
            return entries
        if self.root != self.donor and given and lockfile.entries_with_files(self.donor, given) == given:
            offline_kit.copy_models(self.donor, self.root, given, self.progress)
            return given
        return []

    def _entries(self, root: Path, one: WantedModel) -> list[Installed]:
        """The lock's entries, when they are as many as the model has files."""
        known = lockfile.read_lock(root)
        found = [known[path] for path in one.paths if path in known]
        return found if len(found) == len(one.paths) else []

    def _made(self, one: WantedModel, entry: Installed) -> bool:
        """Whether the file of an entry is staged or in its place, whole."""
        paths = (self._staging(one) / Path(entry.path).name, self.root / entry.path)
        whole = (path for path in paths if path.is_file() and path.stat().st_size == entry.bytes)
        return any(hashing.sha256_of(path, self.progress) == entry.sha256 for path in whole)

    def _job(self, one: WantedModel) -> InstallJob:
        """Ask the hub what there is to fetch. Raises YueError."""
        ours = lockfile.read_lock(self.root)
        for path in one.paths:
            if (self.root / path).exists() and path not in ours and not self.force:
                hint = "use it, or replace it with --force"
                raise RequestError(f"{self.root / path} is already there, and not from pull", hint)
        folder, gguf_folder = self._folders(one)
        if self.from_gguf and one.quant:
            return self._gguf_job(one, gguf_folder)
        found = self._look_up(one.entry.source, one.entry.revision, folder).only(one.entry.files)
        hub_client.check_expected(found, one.entry.expected_files)
        return original_job(one, found, folder)

    def _gguf_job(self, one: WantedModel, folder: Path) -> InstallJob:
        """The first repository with a GGUF of that type, and the tokenizer that such files lack."""
        for repo in one.entry.gguf:
            found = fetched_gguf(self._look_up(repo.source, "", folder), one.quant)
            if not found.files:
                continue
            parts = [(found, folder)]
            if one.entry.role == "stage1":
                place = folder / "tokenizer"
                original = self._look_up(one.entry.source, one.entry.revision, place)
                parts.append((original.only(["tokenizer.model"]), place))
            return InstallJob(one, tuple(parts), found.bytes)
        tried = ", ".join(repo.source for repo in one.entry.gguf) or "any repository that models.toml knows"
        raise ModelNotFound(
            f"there is no {one.quant} GGUF of {one.entry.id} in {tried}", "leave --from-gguf out"
        )

    def _look_up(self, repo: str, revision: str, folder: Path) -> RepoSnapshot:
        """What the hub says, of the commit at which this download was begun if it was."""
        begun = self._begun(folder)
        begun = begun if begun and begun.repo == repo and begun.revision.startswith(revision) else None
        if self.offline:
            if begun is None:
                raise ModelNotFound(
                    f"{repo} is not on this machine", "run the command without --offline, or use --from"
                )
            return begun
        found = hub_client.query_snapshot(repo, begun.revision if begun else revision)
        if not registry.is_free(found.licence):
            stated = found.licence or "not stated there"
            self.output.warn(
                f"the licence of {repo} is {stated}; YuE v1 itself is under {registry.FREE_LICENCE}"
            )
        return found

    def _begun(self, folder: Path) -> RepoSnapshot | None:
        """The record of a download; a damaged one is written anew where the hub can be asked."""
        try:
            return hub_client.read_source_record(folder)
        except DamagedFile:
            if self.offline:
                raise
            return None

    def _run(self, job: InstallJob) -> list[Installed]:
        """Fetch, make, note, place."""
        one, staging = job.wanted, self._staging(job.wanted)
        for snapshot, folder in job.parts:
            hub_client.write_source_record(snapshot, folder)
            if self.keep:
                with replacing(folder / KEPT) as mark:
                    mark.touch()
            hub_client.download_snapshot(snapshot, folder, self.progress, self.offline)
        with storage_errors(staging):
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
        install_model(job, staging, self.progress)
        entries = [lock_entry(job, path, staging / Path(path).name, self.progress) for path in one.paths]
        lockfile.update_lock(self.root, entries)
        self._place(one, entries)
        return entries

    def _place(self, one: WantedModel, entries: Sequence[Installed]) -> None:
        """Move what was made to its name."""
        for entry in entries:
            made, final = self._staging(one) / Path(entry.path).name, self.root / entry.path
            with storage_errors(final):
                final.parent.mkdir(parents=True, exist_ok=True)
                if made.is_file():
                    flush(made)
                    made.replace(final)
                    flush_folder(final.parent)
        shutil.rmtree(self._staging(one), ignore_errors=True)

    def _clean(self, folders: set[Path]) -> None:
        """Remove sources that nobody asked to keep, and folders that are empty then."""
        for folder in folders:
            if not (folder / KEPT).exists():
                shutil.rmtree(folder, ignore_errors=True)
        for folder in (self.root / ".staged", self.root / "sources"):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def _folders(self, one: WantedModel) -> tuple[Path, Path]:
        """Where the originals lie, and where a GGUF does."""
        sources = self.root / "sources"
        return sources / one.entry.id, sources / f"{one.entry.id}-{one.quant}-gguf"

    def _staging(self, one: WantedModel) -> Path:
        return self.root / ".staged" / one.name.replace(":", "-")
