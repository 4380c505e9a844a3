"""Which files make a song: the bundled family, installed models by name, or the user's own files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from yuegguf import registry
from yuegguf.errors import DamagedFile, ModelNotFound
from yuegguf.song import SongFolder
from yuegguf.vocab import Role

NANO = "nano"
DEFAULT_STAGE1, DEFAULT_STAGE2 = "en-cot", "s2-general"
DEFAULT_STAGE1_ICL = "en-icl"


@dataclass(frozen=True)
class Models:
    """The files that make a song."""

    name: str
    """What to call the family: "nano", "en-cot", or the stage-1 file's name."""
    stage1: Path
    stage2: Path
    codec: Path
    """Folder of the exported codec."""


@dataclass(frozen=True)
class ModelChoice:
    """What the user says about models; None = decide."""

    stage1: str | None = None
    """Model id or .gguf file; "nano" for the bundled family."""
    stage2: str | None = None
    codec: Path | None = None
    quant: str | None = None
    models_dir: Path | None = None

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

    With nothing asked and nothing installed this is the bundled `nano`. Raises ModelNotFound.
    """
    if choice.stage1 == NANO or _nothing_there(choice):
        nano = nano_models()
        stage2 = _find(choice.stage2 or NANO, "stage2", None, choice.root)
        return replace(nano, stage2=stage2, codec=Path(choice.codec or nano.codec))
    default = DEFAULT_STAGE1_ICL if with_reference else DEFAULT_STAGE1
    stage1 = _find(choice.stage1 or default, "stage1", choice.quant, choice.root)
    stage2 = _find(choice.stage2 or DEFAULT_STAGE2, "stage2", None, choice.root)
    codec = Path(choice.codec) if choice.codec else registry.installed_codec(choice.root)
    if codec is None:
        raise ModelNotFound(
            f"the codec is not installed in {choice.root}",
            "get it with: yuegguf pull xcodec",
        )
    return Models(stage1.stem, stage1, stage2, codec)


def resolve_codec(choice: ModelChoice) -> Path:
    """The codec's folder alone, for `encode` and `decode`."""
    found = choice.codec or registry.installed_codec(choice.root)
    return found or nano_models().codec


def of_song(folder: SongFolder, choice: ModelChoice | None = None) -> Models:
    """The models of a song: where song.json says they were, unless the caller names others.

    Raises DamagedFile, ModelNotFound.
    """
    noted = folder.fact("models") or {}
    try:
        stage1, stage2 = (Path(noted[role]["file"]) for role in ("stage1", "stage2"))
        codec = Path(noted["codec"]["file"]).parent
        family = str(folder.fact("family"))
    except (KeyError, TypeError) as error:
        raise DamagedFile(
            f"{folder.path} does not say which models it uses", "start the song again"
        ) from error
    if family == NANO:  # the package may have moved since
        nano = nano_models()
        stage1 = stage1 if stage1.exists() else nano.stage1
        stage2 = stage2 if stage2.exists() else nano.stage2
        codec = codec if codec.exists() else nano.codec
    if choice:
        stage1 = _find(choice.stage1, "stage1", choice.quant, choice.root) if choice.stage1 else stage1
        stage2 = _find(choice.stage2, "stage2", None, choice.root) if choice.stage2 else stage2
        codec = Path(choice.codec or codec)
    for path in (stage1, stage2, codec):
        if not path.exists():
            raise ModelNotFound(
                f"the song's model {path} is gone",
                "put it back, or name it with --stage1-model, --stage2-model, --codec",
            )
    return Models(family, stage1, stage2, codec)


def check_same(folder: SongFolder, models: Models) -> None:
    """Refuse to go on with other model files than the song was started with. Raises DamagedFile."""
    started = folder.fact("models") or {}
    for role, facts in describe(models).items():
        before = started.get(role, {})
        if before.get("fingerprint") != facts["fingerprint"]:
            raise DamagedFile(
                f"{facts['file']} is not the {role} model that this song was started with "
                f"({before.get('file')})",
                "put that file back, or start a new song",
            )


def describe(models: Models) -> dict[str, dict[str, Any]]:
    """What song.json says of the models: file, size, fingerprint."""
    roles = {"stage1": models.stage1, "stage2": models.stage2, "codec": models.codec / "decoder.onnx"}
    return {
        role: {"file": str(path.absolute()), "bytes": path.stat().st_size, "fingerprint": fingerprint(path)}
        for role, path in roles.items()
        if path.is_file()
    }


def fingerprint(path: Path) -> str:
    """SHA-256 over a file's size, first and last MiB: enough to tell models apart, and instant."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(2**20))
        file.seek(max(0, size - 2**20))
        digest.update(file.read(2**20))
    return digest.hexdigest()


def _find(name: str, role: Role, quant: str | None, root: Path) -> Path:
    """The language model that a name stands for, the bundled ones included. Raises ModelNotFound."""
    if name == NANO:
        return nano_models().stage1 if role == "stage1" else nano_models().stage2
    return registry.find_model(name, quant, root)


def _nothing_there(choice: ModelChoice) -> bool:
    """Whether no model was asked for and none is installed."""
    asked = choice.stage1 or choice.stage2 or choice.quant
    return not asked and not any(choice.root.glob("*.gguf"))
