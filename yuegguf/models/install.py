"""Installation of a downloaded model: the job, its bytes on the disk, the conversion, the lock's entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from yuegguf import __version__
from yuegguf.errors import ModelNotFound, RequestError
from yuegguf.files import hashing
from yuegguf.files.atomic import read_limited
from yuegguf.lm import header
from yuegguf.lm.vocab import MAX_TOKENIZER_BYTES, ROLE_OF_CONTEXT
from yuegguf.models import lockfile, registry
from yuegguf.models.hub_client import RepoSnapshot, missing_bytes
from yuegguf.models.lockfile import Installed
from yuegguf.models.registry import ModelEntry
from yuegguf.progress import Progress

KEPT = ".kept"
"""Marks a folder of sources that the user asked to keep."""
FETCHED_FOR = ".for"
"""File with the name of the model that a folder of sources was last fetched for."""
MARGIN = 64 << 20
"""Bytes of disk for locks, logs and the small files that tell llama.cpp's types."""


@dataclass(frozen=True)
class WantedModel:
    """One model in one quantisation, as asked for."""

    entry: ModelEntry
    quant: str
    """Empty for the codec."""

    @property
    def name(self) -> str:
        """As it is asked for: "en-cot:Q4_K_M", "xcodec"."""
        return f"{self.entry.id}:{self.quant}" if self.quant else self.entry.id

    @property
    def paths(self) -> list[str]:
        """Installed files, relative to the folder of models."""
        return registry.file_names(self.entry.id, self.quant)


@dataclass(frozen=True)
class InstallJob:
    """Downloads that a model needs, and their folders."""

    wanted: WantedModel
    parts: tuple[tuple[RepoSnapshot, Path], ...]
    """Snapshots and their folders; the first is the model, a second one its tokenizer."""
    result: int
    """Most bytes that the result can have."""

    @property
    def is_gguf(self) -> bool:
        """Whether somebody else's GGUF is fetched."""
        return self.parts[0][0].files[0].name.endswith(".gguf")

    @property
    def folders(self) -> set[Path]:
        """Folders of its downloads."""
        return {folder for _, folder in self.parts}


def wanted_models(
    names: Sequence[str],
    set_name: str | None,
    quant: str | None,
    memory: int | None,
    from_gguf: bool = False,
) -> list[WantedModel]:
    """Names such as "en-cot:Q4_K_M" and those of a set as models and types, none twice.

    A name without a type means `quant` for a stage-1 model, else the best type for `memory` bytes. Raises
    RequestError, for a type too that is neither made nor, with `from_gguf`, known.
    """
    if quant:
        _check_type(quant, from_gguf)
    found: dict[str, WantedModel] = {}
    for name in [*names, *(names_of_set(set_name) if set_name else ())]:
        given, _, own = name.partition(":")
        entry = registry.find_entry(given)
        if entry.role == "upsampler":
            raise RequestError(f"{entry.id} has nothing to install", "its files are in: yuegguf pull xcodec")
        if entry.role == "codec" and own:
            raise RequestError(f"{entry.id} has no types", f"write: yuegguf pull {entry.id}")
        chosen = own or _default_type(entry, quant, memory)
        wanted = WantedModel(entry, "" if entry.role == "codec" else chosen.upper())
        if own:
            _check_type(wanted.quant, from_gguf, wanted)
        found[wanted.name] = wanted
    if not found:
        raise RequestError("no model is named", "for example: yuegguf pull --set minimal")
    return list(found.values())


def stage1_without_type(names: Sequence[str], set_name: str | None) -> list[str]:
    """Ids of the stage-1 models among names and a set that are named without a type. Raises RequestError."""
    plain = [name for name in [*names, *(names_of_set(set_name) if set_name else ())] if ":" not in name]
    return [entry.id for entry in map(registry.find_entry, plain) if entry.role == "stage1"]


def _check_type(quant: str, from_gguf: bool, wanted: WantedModel | None = None) -> None:
    """Refuse a type that cannot be made, or with `from_gguf` is none of llama.cpp's. Raises RequestError."""
    from yuegguf_convert.quantize import KNOWN_TYPES, check_known_type, check_type

    if from_gguf:
        check_known_type(quant)
        return
    try:
        check_type(quant)
    except RequestError as error:
        published = wanted is not None and wanted.entry.gguf and quant in KNOWN_TYPES
        hint = (
            f"or take a GGUF that has it: yuegguf pull {wanted.name} --from-gguf"
            if published and wanted
            else ""
        )
        raise RequestError(f"{error.message} to convert to", f"{error.hint}; {hint}".rstrip("; ")) from error


def names_of_set(name: str) -> tuple[str, ...]:
    """Names of the models in a set. Raises RequestError."""
    found = registry.model_sets()
    if name not in found:
        raise RequestError(f"there is no set {name}", f"sets: {', '.join(found)}")
    return found[name]


def _default_type(entry: ModelEntry, quant: str | None, memory: int | None) -> str:
    """The type of a model that is named without one."""
    if quant and entry.role == "stage1":
        return quant
    role: Literal["stage1", "stage2"] = "stage1" if entry.role == "stage1" else "stage2"
    return registry.default_quant(role, memory)


def room_needed(jobs: Sequence[InstallJob], keep_source: bool) -> int:
    """Bytes of disk that the jobs take at most, one after the other, beyond what is there now.

    A download goes when its last job is done, unless `keep_source`.
    """
    now = most = 0
    kept = {folder for job in jobs for folder in job.folders if (folder / KEPT).exists()}
    for i, job in enumerate(jobs):
        earlier = {folder for before in jobs[:i] for folder in before.folders}
        now += sum(missing_bytes(part, folder) for part, folder in job.parts if folder not in earlier)
        now += job.result
        most = max(most, now)
        later = {folder for after in jobs[i + 1 :] for folder in after.folders}
        spent = [] if keep_source else [part for part, folder in job.parts if folder not in later | kept]
        now -= sum(part.bytes for part in spent)
    return most + MARGIN if jobs else 0


def original_job(wanted: WantedModel, snapshot: RepoSnapshot, folder: Path) -> InstallJob:
    """A job that converts to a type of `wanted_models`. Raises ModelNotFound for gaps."""
    entry = wanted.entry
    for pattern in entry.files:
        if not pattern.endswith(".index.json") and not snapshot.only([pattern]).files:
            raise ModelNotFound(
                f"{entry.source} has no {pattern} at {snapshot.revision[:8]}",
                "report it: models.toml must change",
            )
    if not wanted.quant:
        return InstallJob(wanted, ((snapshot, folder),), snapshot.bytes)
    from yuegguf_convert.quantize import BITS_PER_WEIGHT

    weights = sum(file.bytes for file in snapshot.files if file.name.endswith(".safetensors"))
    return InstallJob(wanted, ((snapshot, folder),), round(weights * BITS_PER_WEIGHT[wanted.quant] / 16))


def install_model(job: InstallJob, staging: Path, progress: Progress) -> None:
    """Turn a download into the files of `wanted.paths`, in the folder `staging`.

    Raises DamagedFile for a checkpoint that is broken or of another stage, StorageError, EngineError.
    """
    entry, source = job.wanted.entry, job.parts[0][1]
    out = staging / Path(job.wanted.paths[0]).name
    if not job.wanted.quant:
        from yuegguf_onnx_codec.export import export_codec, find_checkpoints

        export_codec(*find_checkpoints(source), staging, overwrite=True, progress=progress)
    elif job.is_gguf:
        _trim(job, source / job.parts[0][0].files[0].name, out, progress)
    else:
        from yuegguf_convert.llama_tensors import read_config
        from yuegguf_convert.lm import convert_lm

        role = "auto" if read_config(source).context in ROLE_OF_CONTEXT else entry.role
        quant = job.wanted.quant
        convert_lm(source, out, out_type=quant, role=role, overwrite=True, progress=progress)
    if job.wanted.quant:
        header.read_header(out, entry.role)
    else:
        from yuegguf.codec.onnx import OrtCodec

        OrtCodec.open(staging).close()


def write_random_stage1(out: Path, quant: str, layers: int) -> Path:
    """Write a random stage-1 model of the published widths with a few layers, and return its path.

    Raises RequestError, StorageError.
    """
    from yuegguf_convert.synthetic import SHAPES, write_synthetic

    write_synthetic(out, "stage1", quant, config=replace(SHAPES["stage1"], layers=layers))
    return out


def _trim(job: InstallJob, gguf: Path, out: Path, progress: Progress) -> None:
    """Drop what the stage never uses; a file without such rows is taken as it is."""
    from yuegguf_convert.trim import is_trimmed, trim_gguf

    role = job.wanted.entry.role
    if is_trimmed(gguf):
        lockfile.copy_verified(gguf, out, hashing.sha256_of(gguf), progress)
        return
    model = None
    if len(job.parts) > 1:
        path = job.parts[1][1] / "tokenizer.model"
        model = read_limited(path, MAX_TOKENIZER_BYTES, "use --force to get it again")
    header.read_header(gguf, role)
    trim_gguf(gguf, out, role=role, overwrite=True, progress=progress, tokenizer=model)


def lock_entry(job: InstallJob, path: str, made: Path, progress: Progress) -> Installed:
    """The lock's entry for a file that was made."""
    snapshot = job.parts[0][0]
    stated = {job.wanted.entry.source: job.wanted.entry.licence}
    stated |= {gguf.source: gguf.licence for gguf in job.wanted.entry.gguf}
    return Installed(
        path,
        job.wanted.entry.id,
        job.wanted.quant,
        made.stat().st_size,
        hashing.sha256_of(made, progress),
        snapshot.licence or stated[snapshot.repo],
        snapshot.repo,
        snapshot.revision,
        {file.name: file.digest for part, _ in job.parts for file in part.files},
        f"yuegguf {__version__}",
    )


def fetched_gguf(snapshot: RepoSnapshot, quant: str) -> RepoSnapshot:
    """The part of a repository that is a GGUF of a type; without files where it has none."""
    token = f"*[!A-Z0-9]{quant}.GGUF"
    names = sorted(f.name for f in snapshot.files if fnmatchcase(f"/{f.name}".upper(), token))
    return snapshot.only(names[:1])
