"""models.toml → the published models, and the paths of their files on this machine. No network."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

import platformdirs

from yuegguf.errors import ModelNotFound, NotInstalled, RequestError
from yuegguf.files.hub_cache import cached_file
from yuegguf.files.kinds import explain_absence
from yuegguf.files.reading import is_closed, paths_in
from yuegguf.files.typed_json import as_typed
from yuegguf.lm.gguf_parts import first_part, model_stem

Role = Literal["stage1", "stage2", "codec", "upsampler"]
PREFERENCE = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "BF16", "F16", "F32")
"""Quantisations by preference when several are installed: the largest that is still small."""
TYPE = re.compile(r"(B?F|[A-Z]{0,2}FP|[IT]?Q)\d+(_[A-Z\d]{1,3}){0,3}", re.ASCII | re.IGNORECASE)
"""Name of a quantisation, of llama.cpp or of others: "IQ2_XXS", "MXFP4_MOE", "Q4_K_XL"."""
ASSUMED_MEMORY = 5 * 2**30
"""Bytes of free memory that a default type is chosen for where they are unknown."""
NANO = "nano"
"""Name of the bundled family, which is not in models.toml."""
CODEC_FILES = ("encoder", "vocal_upsampler", "instrumental_upsampler", "decoder")
"""Graphs of a codec's folder; the decoder comes last, since it marks the codec as installed."""
FREE_LICENCE = "Apache-2.0"
"""Licence of YuE v1 as its authors publish it; any other is reported."""


CLOSED_HINT = "change its permissions, or name another with --models-dir or YUEGGUF_MODELS_DIR"
"""Advice for a folder of models that this user may not look into."""


@dataclass(frozen=True)
class GgufSource:
    """A repository of somebody else with a model as GGUF."""

    source: str
    licence: str
    """Licence on its card; empty if unknown."""


@dataclass(frozen=True)
class KnownFile:
    """Known facts of a published file; None = unknown."""

    sha256: str | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class ModelTable:
    """A table [model.ID] of models.toml."""

    role: Role
    source: str
    """Repository that publishes it."""
    licence: str
    about: str
    language: str = ""
    mode: str = ""
    """"cot" (tags and lyrics) or "icl" (with a reference)."""
    revision: str = ""
    """Commit of the source, possibly abbreviated; empty where unknown."""
    expected_files: Mapping[str, KnownFile] = field(default_factory=dict)
    """File → its facts at that revision."""
    gguf: tuple[GgufSource, ...] = ()
    """Other people's GGUFs of it, by preference."""


@dataclass(frozen=True, kw_only=True)
class ModelEntry(ModelTable):
    """One published model."""

    id: str
    files: tuple[str, ...]
    """Patterns of the needed files in the source."""


@dataclass(frozen=True)
class DefaultQuants:
    """Default quantisations for a machine with so much memory."""

    memory: float
    """GiB of free memory."""
    stage1: str
    stage2: str
    kl: Mapping[str, tuple[float, float]]
    """Model → mean Kullback-Leibler divergence from F16 in nats per sampled id, of stage 1 and stage 2."""


@dataclass(frozen=True)
class Catalogue:
    """models.toml."""

    sets: Mapping[str, tuple[str, ...]]
    """Name of a set → ids of its models."""
    files: Mapping[Role, tuple[str, ...]]
    """Patterns of a repository's files to download."""
    default: tuple[DefaultQuants, ...]
    """Defaults by memory, the largest first."""
    model: Mapping[str, ModelTable]


@cache
def catalogue() -> Catalogue:
    """Read models.toml, once. Raises DamagedFile."""
    packaged = resources.files("yuegguf") / "models.toml"
    found = tomllib.loads((packaged if packaged.is_file() else _checkout_file()).read_text("utf-8"))
    return as_typed(found, Catalogue, "models.toml", "install yuegguf again")


def default_quant(role: Literal["stage1", "stage2"], free: int | None) -> str:
    """Default quantisation of a language model by the bytes of free memory; None = ASSUMED_MEMORY."""
    room = ASSUMED_MEMORY if free is None else free
    row = next(row for row in catalogue().default if room >= row.memory * 2**30)
    return row.stage1 if role == "stage1" else row.stage2


def model_entries() -> tuple[ModelEntry, ...]:
    """All entries of models.toml, in its order."""
    found = catalogue()
    return tuple(
        ModelEntry(id=name, files=found.files[facts.role], **vars(facts))
        for name, facts in found.model.items()
    )


def model_sets() -> dict[str, tuple[str, ...]]:
    """Name of a set → ids of its models."""
    return dict(catalogue().sets)


def find_entry(name: str) -> ModelEntry:
    """The entry with an id or a repository's name. Raises RequestError."""
    entries = model_entries()
    if name.lower() == NANO:
        what = f"{NANO} is bundled: there is nothing to get or remove"
        raise RequestError(what, f"use it with: yuegguf run -m {NANO}")
    for entry in entries:
        if name.lower() in (entry.id, entry.source.lower()):
            return entry
    raise RequestError(f"there is no model called {name}", _known_names(entry.id for entry in entries))


def is_known(name: str) -> bool:
    """Whether a name is an id or a repository's name."""
    return any(name.lower() in (entry.id, entry.source.lower()) for entry in model_entries())


def is_free(licence: str) -> bool:
    """Whether a licence is the one of YuE v1."""
    return licence.casefold() == FREE_LICENCE.casefold()


def models_dir() -> Path:
    """Folder of installed models: $YUEGGUF_MODELS_DIR, else in the user's data folder."""
    return user_folder("YUEGGUF_MODELS_DIR", lambda: _data_folder() / "models")


def voices_dir() -> Path:
    """Folder of saved voices: $YUEGGUF_VOICES_DIR, else in the user's data folder."""
    return user_folder("YUEGGUF_VOICES_DIR", lambda: _data_folder() / "voices")


def user_folder(variable: str, usual: Callable[[], Path]) -> Path:
    """Folder that an environment variable names, else the usual one. Raises RequestError without a home."""
    try:
        named = os.environ.get(variable)
        return Path(named).expanduser() if named else usual()
    except RuntimeError as error:
        raise RequestError("there is no such home folder for yuegguf's files", f"set {variable}") from error


def _data_folder() -> Path:
    return platformdirs.user_data_path("yuegguf", appauthor=False)


def gguf_name(model_id: str, out_type: str) -> str:
    """The file name of an installed language model: `en-cot-Q4_K_M.gguf`."""
    return f"{model_id}-{out_type}.gguf"


def file_names(model_id: str, out_type: str) -> list[str]:
    """The files of an installed model, below the folder of models; a codec has no type."""
    if out_type:
        return [gguf_name(model_id, out_type)]
    return [f"{model_id}/{role}.onnx" for role in CODEC_FILES]


def installed_quants(model_id: str, root: Path) -> dict[str, Path]:
    """Quantisation → file of one language model in `root`, the first part of a split one.

    Files with more in their names than a type, such as a finetune's, are other models.
    """
    prefix = f"{model_id}-"
    files = sorted({first_part(path) for path in paths_in(root, f"{prefix}*.gguf")})
    named = {model_stem(path).removeprefix(prefix): path for path in files}
    return {quant: path for quant, path in named.items() if TYPE.fullmatch(quant)}


def installed_codec(root: Path) -> Path | None:
    """The folder with the exported codec in `root`, or None."""
    folder = root / "xcodec"
    return folder if os.path.isfile(folder / "decoder.onnx") else None  # unlike is_file, never raises


def find_gguf(name: str, quant: str | None, root: Path) -> Path:
    """A .gguf path, or the installed file of a model id or of a published repository's name.

    Raises ModelNotFound saying how to get it, RequestError for a name of no model.
    """
    try:
        name = find_entry(name).id
    except RequestError:
        if not (name.endswith(".gguf") or os.sep in name):
            raise
        path = Path(os.path.expanduser(name))  # unlike Path.expanduser, never raises
        if not path.is_file():
            missing = ModelNotFound(f"there is no model file {path}", "see: yuegguf models list")
            raise explain_absence(path, missing) from None
        refuse_type(path.name, quant)
        return first_part(path)
    files = installed_quants(name, root)
    if not files:
        check_open(root)
        wanted = f"{name}:{quant}" if quant else name
        hint = f"get it with: yuegguf pull {wanted}"
        raise NotInstalled(f"{name} is not installed in {root}", hint, wanted)
    if quant is None:
        return min(files.items(), key=lambda item: type_rank(item[0]))[1]
    match = {found.lower(): path for found, path in files.items()}.get(quant.lower())
    if match is None:
        raise NotInstalled(
            f"{name} is not installed as {quant}, only as {', '.join(files)}",
            f"get it with: yuegguf pull {name}:{quant}",
            f"{name}:{quant}",
        )
    return match


def refuse_type(name: str, quant: str | None) -> None:
    """Raise RequestError where a type is asked of what has only one: a file, or the bundled family."""
    if quant is not None:
        raise RequestError(
            f"--quant {quant} chooses between files of one model, and {name} is one file", "leave --quant out"
        )


def check_open(folder: Path) -> None:
    """Raise ModelNotFound where this user may not look into a folder of models."""
    if is_closed(folder):
        raise ModelNotFound(f"the folder of models {folder} may not be read by this user", CLOSED_HINT)


def id_from_path(folder: Path) -> str | None:
    """Model id of a checkpoint folder with its repository's name, or of that one's place in a hub cache.

    None for any other folder: one below such a folder is another checkpoint, such as a finetune's.
    """
    path = folder.resolve()
    cached = cached_file(path / "x")  # whose name is "x" in the top folder and in a snapshot
    for entry in model_entries():
        source = entry.source.lower()
        if path.name.lower() == source.partition("/")[2]:
            return entry.id
        if cached and cached.repository.lower() == source and cached.name in ("", "x"):
            return entry.id
    return None


def type_rank(quant: str) -> int:
    """Place of a quantisation in PREFERENCE, the preferred one first."""
    return PREFERENCE.index(quant) if quant in PREFERENCE else len(PREFERENCE)


def _known_names(ids: Iterable[str]) -> str:
    return f"known: {NANO}, {', '.join(ids)}"


def _checkout_file() -> Path:
    """models.toml of a source checkout, which has no copy in the package."""
    return Path(__file__).resolve().parents[2] / "models.toml"
