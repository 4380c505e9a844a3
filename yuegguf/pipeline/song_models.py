"""The models that a song was started with, and whether those at hand are the same."""

from __future__ import annotations

from pathlib import Path

from yuegguf.errors import DamagedFile, ModelNotFound, RequestError
from yuegguf.files.hashing import fingerprint
from yuegguf.lm.adapters import Lora
from yuegguf.lm.gguf_parts import model_bytes, model_fingerprint, part_paths
from yuegguf.models.resolve import (
    CODEC_IDENTITY_FILE,
    NANO,
    ModelChoice,
    Models,
    find_language_model,
    find_loras,
    nano_models,
)
from yuegguf.song.folder import SongFolder
from yuegguf.song.record import FileRole, LoraFile, ModelFile


def models_of_song(folder: SongFolder, choice: ModelChoice | None = None) -> Models:
    """The models of a song: where song.json says they were, unless the caller names others.

    Raises DamagedFile, ModelNotFound.
    """
    noted, family = folder.record.models, folder.record.family
    try:
        stage1, stage2 = Path(noted["stage1"].file), Path(noted["stage2"].file)
        codec = Path(noted["codec"].file).parent
        loras = tuple(Lora(Path(n.file), n.scale) for n in folder.record.loras)
    except (KeyError, RequestError) as error:
        raise DamagedFile(
            f"{folder.path} does not say which models it uses", "start the song again"
        ) from error
    if family == NANO:  # the package may have moved since
        nano = nano_models()
        stage1 = stage1 if stage1.exists() else nano.stage1
        stage2 = stage2 if stage2.exists() else nano.stage2
        codec = codec if codec.exists() else nano.codec
    if choice:
        stage1 = (
            find_language_model(choice.stage1, "stage1", choice.quant, choice.root)
            if choice.stage1
            else stage1
        )
        stage2 = find_language_model(choice.stage2, "stage2", None, choice.root) if choice.stage2 else stage2
        codec = Path(choice.codec or codec)
        loras = find_loras(choice) or loras
    for path in (*part_paths(stage1), *part_paths(stage2), codec):
        if not path.exists():
            raise ModelNotFound(
                f"the song's model {path} is gone",
                "put it back, or name it with --stage1-model, --stage2-model, --codec",
            )
    for lora in loras:
        if not lora.path.is_file():
            raise ModelNotFound(
                f"the song's LoRA adapter {lora.path} is gone", "put it back, or start a new song"
            )
    return Models(family, stage1, stage2, codec, loras)


def check_same(folder: SongFolder, models: Models) -> None:
    """Refuse to go on with other model files than the song was started with. Raises DamagedFile."""
    for role, now in describe(models).items():
        started = folder.record.models.get(role)
        if started is None or started.fingerprint != now.fingerprint:
            raise DamagedFile(
                f"{now.file} is not the {role} model that this song was started with "
                f"({started.file if started else 'none'})",
                "put that file back, or start a new song",
            )
    before, loras = folder.record.loras, describe_loras(models)
    if [_identity(lora) for lora in before] != [_identity(lora) for lora in loras]:
        names = ", ".join(f"{lora.file} at {lora.scale:g}" for lora in before)
        raise DamagedFile(
            f"the LoRA adapters are not those that this song was started with ({names or 'none'})",
            "put those files back, or start a new song",
        )


def _identity(lora: LoraFile) -> tuple[str, float]:
    """The part of an adapter's facts that changes a song."""
    return lora.fingerprint, lora.scale


def describe(models: Models) -> dict[FileRole, ModelFile]:
    """Facts of the models for song.json: file, size, fingerprint."""
    roles: dict[FileRole, Path]
    roles = {"stage1": models.stage1, "stage2": models.stage2, "codec": models.codec / CODEC_IDENTITY_FILE}
    return {role: describe_file(path) for role, path in roles.items() if path.is_file()}


def describe_loras(models: Models) -> tuple[LoraFile, ...]:
    """Facts of the adapters for song.json: file, size, fingerprint, scale."""
    found = ((describe_file(lora.path), lora.scale) for lora in models.loras)
    return tuple(
        LoraFile(file=one.file, bytes=one.bytes, fingerprint=one.fingerprint, scale=scale)
        for one, scale in found
    )


def describe_file(path: Path) -> ModelFile:
    """Facts of a model's file for song.json."""
    return ModelFile(file=str(path.absolute()), bytes=model_bytes(path), fingerprint=model_fingerprint(path))


def codec_of_song(folder: SongFolder, chosen: Path | None = None) -> Path:
    """The folder of the codec alone that a song was started with, or another that is chosen.

    Raises ModelNotFound; DamagedFile for another codec at the place that song.json names.
    """
    if chosen is not None:
        if not (chosen / CODEC_IDENTITY_FILE).is_file():
            raise ModelNotFound(f"there is no codec in {chosen}", "pass the folder of its *.onnx files")
        return chosen
    hint = "put it back, or name one with --codec"
    noted = folder.record.models.get("codec")
    if noted is None:
        raise DamagedFile(f"{folder.path} does not say which codec it uses", "name it with --codec")
    found = Path(noted.file)
    if not found.is_file() and folder.record.family == NANO:  # the package may have moved since
        found = nano_models().codec / CODEC_IDENTITY_FILE
    if not found.is_file():
        raise ModelNotFound(f"the song's codec {found} is gone", hint)
    if fingerprint(found) != noted.fingerprint:
        raise DamagedFile(f"{found} is not the codec that this song was started with", hint)
    return found.parent
