"""Models that are split into several GGUF files, as llama.cpp's `llama-gguf-split` writes them.

The first part has the metadata, each part some of the tensors and its own number. llama.cpp loads all
parts when it is given the first one, by their names: `NAME-00001-of-00003.gguf`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from yuegguf.errors import DamagedFile, ModelNotFound
from yuegguf.files.hashing import fingerprint
from yuegguf.files.kinds import download_command, lost_link
from yuegguf.files.sizes import size_text
from yuegguf.lm.gguf_header import GgufFile, Tensor, ValueType, damaged_gguf, first_names, read_gguf

PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
"""Name of a part."""
NUMBER_KEY, COUNT_KEY, TENSORS_KEY = "split.no", "split.count", "split.tensors.count"
_KINDS = {NUMBER_KEY: ValueType.UINT16, COUNT_KEY: ValueType.UINT16, TENSORS_KEY: ValueType.INT32}
MAX_PARTS = 999
"""Maximum parts of a model."""


def part_paths(path: Path) -> list[Path]:
    """All parts of the model that a file is a part of by its name, if another one is there; else itself."""
    parts = _named_parts(path)
    return parts if any(part != path and part.is_file() for part in parts) else [path]


def _named_parts(path: Path) -> list[Path]:
    match = PART.fullmatch(path.name)
    count = int(match["count"]) if match else 1
    if match is None or not 1 < count <= MAX_PARTS:
        return [path]
    return [path.with_name(f"{match['stem']}-{i + 1:05d}-of-{count:05d}.gguf") for i in range(count)]


def first_part(path: Path) -> Path:
    """The first part of a model, which stands for all; any other file itself."""
    return part_paths(path)[0]


def model_stem(path: Path) -> str:
    """A model file's name without the number of a part and the suffix."""
    match = PART.fullmatch(path.name)
    return match["stem"] if match and len(_named_parts(path)) > 1 else path.stem


def model_bytes(path: Path) -> int:
    """Bytes of all parts of a model. OSErrors pass through."""
    return sum(part.stat().st_size for part in part_paths(path))


def model_fingerprint(path: Path) -> str:
    """`fingerprint` of a file; of a split model that of all its parts. OSErrors pass through."""
    prints = [fingerprint(part) for part in part_paths(path)]
    return prints[0] if len(prints) == 1 else hashlib.sha256(" ".join(prints).encode()).hexdigest()


def read_whole(path: Path) -> GgufFile:
    """The header of a GGUF; of a split model, given by any part, that of all parts as one.

    Raises ModelNotFound naming the missing parts, DamagedFile for parts that do not belong together.
    """
    given, paths = read_gguf(path), _named_parts(path)
    count = _number(given, COUNT_KEY) if COUNT_KEY in given.metadata else 1
    if count <= 1:
        return given
    if count != len(paths):
        raise DamagedFile(
            f"{path.name} is one part of a split model of {count}, and not named …-of-{count:05d}.gguf",
            "give all parts the names that they were published with",
        )
    check_shards(path.parent, [part.name for part in paths])
    parts = [given if part == path else read_gguf(part) for part in paths]
    for number, part in enumerate(parts):
        if (_number(part, NUMBER_KEY), _number(part, COUNT_KEY)) != (number, count):
            raise damaged_gguf(part.path.name, f"it is not part {number + 1} of {count} by its own numbers")
    return _joined(parts)


def _joined(parts: Sequence[GgufFile]) -> GgufFile:
    """All parts as one file without the keys of a split. Raises DamagedFile."""
    tensors: dict[str, Tensor] = {}
    for part in parts:
        if twice := [name for name in part.tensors if name in tensors]:
            raise damaged_gguf(part.path.name, f"another part holds {first_names(twice)} too")
        tensors |= part.tensors
    wanted = _number(parts[0], TENSORS_KEY)
    if wanted != len(tensors):
        raise damaged_gguf(parts[0].path.name, f"its parts hold {len(tensors)} tensors instead of {wanted}")
    metadata = {key: value for key, value in parts[0].metadata.items() if key not in _KINDS}
    return replace(parts[0], metadata=metadata, tensors=tensors, parts=tuple(parts))


def _number(part: GgufFile, key: str) -> int:
    value = part.metadata.get(key)
    if value is None or value.array or value.kind != _KINDS[key]:
        raise damaged_gguf(part.path.name, f"its {key} is missing or of another type")
    return int(value.data)


def check_shards(folder: Path, names: Sequence[str], total: int = 0) -> None:
    """Raise ModelNotFound that names the missing files of a model.

    `total` are the bytes of all files, 0 where unknown.
    """
    gone = [folder / name for name in names if not (folder / name).is_file()]
    if not gone:
        return
    sizes = sum((folder / name).stat().st_size for name in names if (folder / name).is_file())
    lost = f", about {size_text(total - sizes)} of {size_text(total)}" if total > sizes else ""
    links = [f" ({link})" if (link := lost_link(path)) else "" for path in gone]
    listed = first_names([f"{path.name}{link}" for path, link in zip(gone, links, strict=True)])
    command = download_command(*gone)
    words = "get them with" if len(gone) > 1 else "get it with"
    hint = f"{words}: {command}" if command else "download what is missing into that folder"
    raise ModelNotFound(f"{folder} lacks {listed}{lost}", hint)
