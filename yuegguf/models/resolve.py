"""Model choice → files: the bundled family, installed models by name, or the user's own files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from yuegguf.errors import ModelNotFound, NotInstalled, RequestError, quoted
from yuegguf.files.field_types import take_types
from yuegguf.files.hashing import fingerprint
from yuegguf.files.kinds import explain_absence
from yuegguf.files.reading import is_closed, paths_in
from yuegguf.lm.adapters import MAX_ADAPTERS, Lora
from yuegguf.lm.gguf_parts import model_fingerprint, model_stem
from yuegguf.lm.vocab import StageRole
from yuegguf.models import registry
from yuegguf.models.gguf_folder import find_in_folder

NANO = registry.NANO
CODEC_IDENTITY_FILE = "decoder.onnx"
"""File of a codec's folder whose fingerprint identifies the codec."""
DEFAULT_STAGE1, DEFAULT_STAGE2, CODEC = "en-cot", "s2-general", "xcodec"

LORA_FOLDER = "loras"
"""Folder of installed adapters, below that of models."""


@dataclass(frozen=True)
class Models:
    """Model files of a song."""

    name: str
    """Name of the family: "nano", or the stem of the stage-1 file, such as "en-cot-Q4_K_M"."""
    stage1: Path
    stage2: Path
    codec: Path
    """Folder of the exported codec."""
    loras: tuple[Lora, ...] = ()
    """Adapters of stage 1."""

    @property
    def stage1_key(self) -> str:
        """Identity of stage 1's results: fingerprints of its file and of the adapters in use."""
        used = [f"{fingerprint(lora.path)}*{lora.scale!r}" for lora in self.loras if lora.scale]
        return " ".join([model_fingerprint(self.stage1), *used])


@dataclass(frozen=True)
class ModelChoice:
    """The user's choice of models; None = automatic."""

    stage1: str | None = None
    """Model id, .gguf file or a folder with one; "nano" for the bundled family."""
    stage2: str | None = None
    codec: Path | None = None
    quant: str | None = None
    models_dir: Path | None = None
    loras: tuple[Lora, ...] = ()
    """Adapters of stage 1, at most two; a bare name means an installed one."""

    def __post_init__(self) -> None:
        take_types(self, "stage1", "stage2")

    @property
    def root(self) -> Path:
        """The folder of installed models."""
        return Path(self.models_dir or registry.models_dir())


def nano_models() -> Models:
    """The bundled family. Raises ModelNotFound when the package was built without it."""
    folder = Path(str(resources.files("yuegguf") / "data" / "nano"))
    models = Models(NANO, folder / "stage1.gguf", folder / "stage2.gguf", folder)
    for file in (models.stage1, models.stage2, folder / "decoder.onnx"):
        if not file.is_file():
            raise ModelNotFound("this yuegguf has no bundled models", "install it again, or pass --model")
    return models


def resolve(choice: ModelChoice, with_reference: bool = False) -> Models:
    """Find the model files.

    Without a choice and without installed models, the bundled `nano`. Raises ModelNotFound, RequestError.
    """
    return replace(_resolve_family(choice, with_reference), loras=find_loras(choice))


def _resolve_family(choice: ModelChoice, with_reference: bool) -> Models:
    if choice.stage1 == NANO or _nothing_installed(choice):
        nano = nano_models()
        registry.refuse_type(NANO, choice.quant)
        stage2 = find_language_model(choice.stage2 or NANO, "stage2", None, choice.root)
        return replace(nano, stage2=stage2, codec=Path(choice.codec or nano.codec))
    name = _icl_model_for(choice) if with_reference else choice.stage1 or DEFAULT_STAGE1
    stage1, stage2, codec = _all_found(
        choice.root,
        lambda: find_language_model(name, "stage1", choice.quant, choice.root),
        lambda: find_language_model(choice.stage2 or DEFAULT_STAGE2, "stage2", None, choice.root),
        lambda: _find_codec(choice),
    )
    return Models(model_stem(stage1), stage1, stage2, codec)


def _find_codec(choice: ModelChoice) -> Path:
    codec = Path(choice.codec) if choice.codec else registry.installed_codec(choice.root)
    if codec is None:
        registry.check_open(choice.root / CODEC)
        hint = f"get it with: yuegguf pull {CODEC}"
        raise NotInstalled(f"the codec is not installed in {choice.root}", hint, CODEC)
    return codec


def _all_found(root: Path, *searches: Callable[[], Path]) -> list[Path]:
    """The results of all searches. Raises ModelNotFound that names all that is missing, with one command."""
    found: list[Path] = []
    missing: list[ModelNotFound] = []
    for search in searches:
        try:
            found.append(search())
        except ModelNotFound as error:
            missing.append(error)
    if len(missing) > 1:
        raise _missing(root, missing)
    if missing:
        raise missing[0]
    return found


def _missing(root: Path, errors: Sequence[ModelNotFound]) -> ModelNotFound:
    """One error for several."""
    names = [error.name for error in errors if isinstance(error, NotInstalled)]
    others = [error for error in errors if not isinstance(error, NotInstalled)]
    listed = (
        ", ".join(names[:-1]) + f" and {names[-1]} are" if names[1:] else f"{names[0]} is" if names else ""
    )
    texts = [error.message for error in others] + ([f"{listed} not installed in {root}"] if names else [])
    pull = [f"get {'them' if names[1:] else 'it'} with: yuegguf pull {' '.join(names)}"] if names else []
    return ModelNotFound(", and ".join(texts), "; ".join([*(error.hint for error in others), *pull]))


def _icl_model_for(choice: ModelChoice) -> str:
    """The stage-1 model for a song with a reference: the -icl one of the language, if it is installed.

    Without a chosen model, any installed -icl one, English first. Raises ModelNotFound.
    """
    entries = [entry for entry in registry.model_entries() if entry.mode == "icl"]
    if choice.stage1 is None:
        found = next(
            (entry.id for entry in entries if registry.installed_quants(entry.id, choice.root)), None
        )
        if found is None:
            raise ModelNotFound(
                f"a reference needs an -icl model, and none is installed in {choice.root}",
                f"get one with: yuegguf pull {entries[0].id}",
            )
        return found
    partner = _icl_id(choice.stage1)
    there = [quant.lower() for quant in registry.installed_quants(partner, choice.root)] if partner else []
    fits = choice.quant.lower() in there if choice.quant else bool(there)
    return partner if partner and fits else choice.stage1


def _icl_id(name: str) -> str | None:
    """The -icl model of a -cot model's name or repository; None for every other name and for files."""
    with suppress(RequestError):
        entry = registry.find_entry(name)
        if entry.id.endswith("-cot"):
            return entry.id.removesuffix("cot") + "icl"
    return None


def reference_notice(choice: ModelChoice, found: Models) -> str:
    """Notice about the model chosen for a song with a reference; empty if there is none."""
    entry = next((e for e in registry.model_entries() if found.name.startswith(f"{e.id}-")), None)
    if entry is None:
        return ""
    if entry.mode == "cot":
        icl = _icl_id(entry.id) or "en-icl"
        there = bool(registry.installed_quants(icl, choice.root))
        advice = f"pass --model {icl}" if there else f"get {icl} with: yuegguf pull {icl}"
        return f"{found.name} was not trained to take up a reference; {advice}"
    if choice.stage1 and _icl_id(choice.stage1) == entry.id:
        return (
            f"{found.name} is used instead of {choice.stage1}, which was not trained to take up a reference"
        )
    return ""


def resolve_codec(choice: ModelChoice) -> Path:
    """The codec's folder, for `encode` and `decode`."""
    found = choice.codec or registry.installed_codec(choice.root)
    return found or nano_models().codec


def lora_path(name: str, root: Path) -> Path:
    """Path at which `convert-lora` installs an adapter."""
    return root / LORA_FOLDER / f"{name}.gguf"


def nano_notice(choice: ModelChoice, used: Models) -> str:
    """Notice that the bundled family is used since no model is installed, or none can be seen; else empty."""
    if used.name != NANO or choice.stage1 is not None:
        return ""
    return _miniature_notice("model", choice.root)


def codec_notice(choice: ModelChoice, used: Path) -> str:
    """Notice that the bundled codec is used since none is installed, or none can be seen; else empty."""
    if used != nano_models().codec or choice.codec is not None:
        return ""
    return _miniature_notice("codec", choice.root)


def _miniature_notice(kind: str, root: Path) -> str:
    reason = f"no {kind} is installed"
    if is_closed(root):
        reason = f"the folder of models {root} may not be read by this user"
    return f"{reason}, so the bundled miniature 'nano' is used; it is not YuE's quality"


def find_lora(lora: Lora, root: Path) -> Lora:
    """The adapter with the path of its file. Raises ModelNotFound, RequestError."""
    path = Path(os.path.expanduser(lora.path))  # unlike Path.expanduser, never raises
    if path.name == str(path) and path.suffix != ".gguf" and not path.is_file():
        installed = lora_path(path.name, root)
        path = path if path.is_dir() and not installed.is_file() else installed
    if path.is_dir():
        raise RequestError(
            f"{path} is a folder, not a GGUF adapter",
            f"convert it first: yuegguf convert-lora {quoted(path)}",
        )
    if not path.is_file():
        missing = ModelNotFound(
            f"there is no LoRA adapter {path}", "make it with: yuegguf convert-lora FOLDER"
        )
        raise explain_absence(path, missing)
    return replace(lora, path=path.absolute())


def find_loras(choice: ModelChoice) -> tuple[Lora, ...]:
    """The adapters with their paths. Raises ModelNotFound, RequestError when there are too many."""
    found = tuple(find_lora(lora, choice.root) for lora in choice.loras)
    if sum(lora.scale != 0 for lora in found) > MAX_ADAPTERS:
        raise RequestError(
            f"llama.cpp adds more than {MAX_ADAPTERS} LoRAs in an order that may change from run to run",
            "put the others into the model first: yuegguf merge-lora",
        )
    return found


def find_language_model(name: str, role: StageRole, quant: str | None, root: Path) -> Path:
    """File of a language model by name, file or folder, bundled ones included.

    Raises ModelNotFound, RequestError for a folder of several models.
    """
    if name == NANO:
        registry.refuse_type(name, quant)
        return nano_models().stage1 if role == "stage1" else nano_models().stage2
    folder = Path(os.path.expanduser(name))  # unlike Path.expanduser, never raises
    if not registry.is_known(name) and folder.is_dir():
        return find_in_folder(folder, role, quant)
    return registry.find_gguf(name, quant, root)


def _nothing_installed(choice: ModelChoice) -> bool:
    """Whether no model is chosen and none is installed."""
    asked = choice.stage1 or choice.stage2 or choice.quant
    return not asked and not paths_in(choice.root, "*.gguf")
