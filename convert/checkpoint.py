"""The weights in a checkpoint's folder: safetensors or files of `torch.save`, whole or in shards.

A sharded checkpoint has an index, which maps a tensor's name to its file. Where that is missing, numbers in
the names of the shards (`model-00002-of-00003.safetensors`) say whether all are there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from yuegguf.errors import DamagedFile, ModelNotFound, RequestError
from yuegguf.files.atomic import read_limited
from yuegguf.files.kinds import explain_absence, explain_damage, lost_link
from yuegguf.lm.gguf_header import first_names
from yuegguf.lm.gguf_parts import check_shards

from .json_object import MAX_JSON_BYTES, read_object, shorten
from .safetensors import DOWNLOAD_HINT, MAX_NAME, StoredTensor, open_file
from .torch_file import open_torch_file

MAX_FILE_NAME = 255
"""Maximum bytes of a file name."""
MAX_SHARDS = 10_000
"""Maximum shards of a checkpoint."""
OTHER_WEIGHTS = re.compile(
    r"(?:adapter_|optimizer|scheduler|scaler|rng_state|random_states|training_args|trainer_state).*"
)
"""Names of files of a trainer that hold no model."""


class Format(NamedTuple):
    """File names of a format of weights, and its reader."""

    whole: str
    """The only file of a checkpoint that is not sharded."""
    stem: str
    suffix: str
    read: Callable[[Path], dict[str, StoredTensor]]

    @property
    def index_name(self) -> str:
        """Index of a sharded checkpoint."""
        return f"{self.whole}.index.json"

    def shards(self, folder: Path) -> list[str]:
        """Names of all shards by the numbers of those that are there, lost links included."""
        pattern = re.compile(rf"{re.escape(self.stem)}-\d{{5}}-of-(\d{{5}}){re.escape(self.suffix)}")
        counts = {int(m[1]) for path in folder.iterdir() if (m := pattern.fullmatch(path.name))}
        count = max(counts, default=0)
        return [f"{self.stem}-{i + 1:05d}-of-{count:05d}{self.suffix}" for i in range(min(count, MAX_SHARDS))]


FORMATS = (
    Format("model.safetensors", "model", ".safetensors", open_file),
    Format("pytorch_model.bin", "pytorch_model", ".bin", open_torch_file),
)
READERS = {".safetensors": open_file, **dict.fromkeys((".bin", ".pth", ".pt"), open_torch_file)}
"""Suffix of a file of weights → its reader."""


def open_checkpoint(folder: Path) -> dict[str, StoredTensor]:
    """The tensors of a checkpoint's weights by name; safetensors are preferred.

    Raises ModelNotFound when the folder holds no weights or lacks a shard, DamagedFile naming file and
    tensor when something in them does not fit together, RequestError for several files without an index.
    """
    for form in FORMATS:
        whole, index = folder / form.whole, folder / form.index_name
        if _is_there(whole):
            return form.read(whole)
        if _is_there(index):
            return _open_indexed(index, form)
        if names := form.shards(folder):
            check_shards(folder, names)
            return _joined(folder, {name: form.read(folder / name) for name in names})
    others = other_weights(folder)
    if len(others) > 1:
        raise RequestError(
            f"{folder} holds several files of weights and no index: {first_names([p.name for p in others])}",
            "leave one of them in the folder",
        )
    if not others:
        raise ModelNotFound(
            f"there are no weights in {folder}: neither model.safetensors nor pytorch_model.bin nor shards",
            "pass the folder of a checkpoint",
        )
    return READERS[others[0].suffix](others[0])


def has_weights(folder: Path) -> bool:
    """Whether a folder holds weights of a model, complete or not."""
    names = [name for form in FORMATS for name in (form.whole, form.index_name)]
    known = any((folder / name).is_symlink() or (folder / name).exists() for name in names)
    return known or any(form.shards(folder) for form in FORMATS) or bool(other_weights(folder))


def other_weights(folder: Path) -> list[Path]:
    """Files of weights under names of their own."""
    files = (path for path in folder.iterdir() if path.suffix in READERS and path.is_file())
    return sorted(path for path in files if not OTHER_WEIGHTS.fullmatch(path.name))


def _is_there(path: Path) -> bool:
    """Whether a file is there. Raises ModelNotFound for a link that leads to nothing."""
    if lost_link(path):
        raise explain_absence(path, ModelNotFound(f"there is no {path}"))
    return path.is_file()


def _open_indexed(index: Path, form: Format) -> dict[str, StoredTensor]:
    where, total = _weight_map(index, form.suffix)
    names = sorted(set(where.values()))
    check_shards(index.parent, names, total)
    shards = {name: form.read(index.parent / name) for name in names}
    for name, tensors in shards.items():
        if stray := sorted(t for t in tensors if where.get(t) != name):
            raise DamagedFile(
                f"{name} holds tensors that the index does not place there: {first_names(stray, 8)}",
                DOWNLOAD_HINT,
            )
    if lost := sorted(ascii(t)[1:-1][:MAX_NAME] for t, name in where.items() if t not in shards[name]):
        raise DamagedFile(
            f"the shards lack tensors that {index.name} names: {first_names(lost, 8)}", DOWNLOAD_HINT
        )
    return {t: shards[name][t] for t, name in where.items()}


def _joined(folder: Path, shards: Mapping[str, dict[str, StoredTensor]]) -> dict[str, StoredTensor]:
    """The tensors of all shards. Raises DamagedFile where two hold the same."""
    joined: dict[str, StoredTensor] = {}
    for name, tensors in shards.items():
        if twice := sorted(joined.keys() & tensors.keys()):
            raise DamagedFile(
                f"{name} holds tensors that another shard in {folder} holds: {first_names(twice, 8)}",
                DOWNLOAD_HINT,
            )
        joined |= tensors
    return joined


def _weight_map(index: Path, suffix: str) -> tuple[dict[str, str], int]:
    """File of each tensor, and the bytes of all tensors, 0 where unknown. Raises DamagedFile."""
    content = _index(index)
    where, facts = content.get("weight_map"), content.get("metadata")
    if not isinstance(where, dict) or not where:
        raise DamagedFile(f"{index.name} has no weight_map", DOWNLOAD_HINT)
    for tensor, name in where.items():
        if not isinstance(name, str) or not _is_plain_name(name, suffix):
            place = f"places tensor {shorten(tensor)} in {shorten(name)}"
            raise DamagedFile(f"{index.name} {place}, which is no plain {suffix} file name", DOWNLOAD_HINT)
    total = facts.get("total_size") if isinstance(facts, dict) else 0
    return where, total if type(total) is int and 0 < total < 2**60 else 0


def _index(index: Path) -> dict[str, Any]:
    try:
        return read_object(read_limited(index, MAX_JSON_BYTES, DOWNLOAD_HINT))
    except ValueError as error:
        damaged = DamagedFile(f"{index.name} has a damaged header: {error}", DOWNLOAD_HINT)
        raise explain_damage(index, damaged, ("json",)) from error


def _is_plain_name(name: str, suffix: str) -> bool:
    """Whether a name from a file's content is a plain file name, never a path."""
    fits = name.endswith(suffix) and name.isprintable() and len(name.encode()) <= MAX_FILE_NAME
    return fits and not any(c in name for c in "/\\:\0") and not name.startswith(".")
