"""The models of a song on a machine of the cluster, found by their hashes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from yuegguf.cluster.unit import ModelPlaces
from yuegguf.errors import DamagedFile, ModelNotFound
from yuegguf.lm.adapters import Lora
from yuegguf.lm.gguf_parts import model_fingerprint
from yuegguf.models import lockfile, offline_kit, registry
from yuegguf.models.resolve import LORA_FOLDER, NANO, ModelChoice, Models
from yuegguf.pipeline.song_models import models_of_song
from yuegguf.song.folder import SongFolder
from yuegguf.song.record import ModelFile


def models_on_node(folder: SongFolder, places: ModelPlaces) -> Models:
    """The models that a song was started with, on this machine: where song.json says, else in its folder of
    models, into which missing ones are copied from the kit.

    Raises ModelNotFound, DamagedFile for a file of the same name with another hash, StorageError.
    """
    record = folder.record
    if record.family == NANO and not record.loras:
        return models_of_song(folder)
    if not {"stage1", "stage2", "codec"} <= record.models.keys():
        raise DamagedFile(f"{folder.path} does not say which models it uses", "start the song again")
    root = Path(places.folder) if places.folder else registry.models_dir()
    search = _Search(root, Path(places.kit) if places.kit else None)
    stage1, stage2 = (search.find(record.models[role]) for role in ("stage1", "stage2"))
    codec = search.find(record.models["codec"], below=Path(record.models["codec"].file).parent.name).parent
    loras = tuple(Lora(search.find(lora, below=LORA_FOLDER), lora.scale) for lora in record.loras)
    return models_of_song(folder, ModelChoice(str(stage1), str(stage2), codec, models_dir=root, loras=loras))


class _Search:
    """A search for files by their hashes."""

    def __init__(self, root: Path, kit: Path | None) -> None:
        self._root, self._kit = root, kit

    def find(self, noted: ModelFile, below: str = "") -> Path:
        """The file, which is installed in the folder `below` of the folder of models."""
        relative = f"{below}/{Path(noted.file).name}".lstrip("/")
        others: list[Path] = []
        for path in self._candidates(noted, relative):
            if path.is_file():
                if model_fingerprint(path) == noted.fingerprint:
                    return path
                others.append(path)
        if others:
            raise DamagedFile(
                f"{others[0]} is not the model that the song was started with, by its hash",
                f"install that one on this machine: yuegguf pull --from KIT --models-dir {self._root}",
            )
        raise ModelNotFound(
            f"this machine has neither {noted.file} nor {self._root / relative}",
            "install it there: yuegguf pull --from KIT; or name the kit with --kit",
        )

    def _candidates(self, noted: ModelFile, relative: str) -> Iterator[Path]:
        yield Path(noted.file)
        yield self._root / relative
        if self._kit is not None and not (self._root / relative).is_file() and self._install(relative):
            yield self._root / relative

    def _install(self, relative: str) -> bool:
        """Copy a model from the kit into the folder of models; whether the kit has it."""
        assert self._kit is not None
        entries = offline_kit.kit_entries(self._kit)
        name = next((entry.name for entry in entries if entry.path == relative), None)
        if name is None:
            return False
        with lockfile.exclusive(self._root):
            offline_kit.copy_models(self._kit, self._root, [e for e in entries if e.name == name])
        return True
