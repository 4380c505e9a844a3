"""Facts of a GGUF or an ONNX file."""

from __future__ import annotations

from collections import Counter
from math import isfinite
from pathlib import Path
from typing import Any

from yuegguf.errors import ModelNotFound, RequestError
from yuegguf.lm.gguf_header import Value
from yuegguf.lm.gguf_model import check_model
from yuegguf.lm.gguf_parts import model_bytes, read_whole
from yuegguf.lm.vocab import TOKENIZER_KEY, role_of
from yuegguf.models import lockfile, registry
from yuegguf.models.lockfile import Installed
from yuegguf.models.resolve import nano_models

SHOWN = 16
"""Values of an array that are shown at most."""


def model_facts(path: Path, entry: Installed | None) -> dict[str, Any]:
    """The facts of a file as JSON; `entry` is its place in the lock, if it has one.

    Raises ModelNotFound, DamagedFile for a file that is cut off or of neither kind, RequestError for
    another suffix.
    """
    if not path.is_file():
        raise ModelNotFound(f"there is no file {path}", "see: yuegguf models list")
    readers = {".gguf": _gguf, ".onnx": _onnx}
    if path.suffix not in readers:
        raise RequestError(f"{path} is neither .gguf nor .onnx", "name a model file")
    facts = {"file": str(path), "bytes": model_bytes(path), **readers[path.suffix](path)}
    if entry:
        facts["installed"] = {
            "model": entry.name, "source": entry.source, "revision": entry.revision, "licence": entry.licence,
            "sha256": entry.sha256, "maker": entry.maker, "files": dict(entry.files),
        }  # fmt: skip
    licence = entry.licence if entry else facts.get("licence", "")
    facts["notes"] = [*facts.get("notes", []), *_notes(path, entry, licence)]
    return facts


def lines_of(facts: dict[str, Any]) -> list[str]:
    """The facts as lines for people; whole metadata is for --json."""
    lines = [facts["file"]]
    for key, value in facts.items():
        if key in ("file", "metadata", "notes"):
            continue
        pairs = value.items() if isinstance(value, dict) else [("", value)]
        lines += [f"  {(key + ' ' + name).strip():<20} {_short(item)}" for name, item in pairs]
    return lines + [f"  note: {note}" for note in facts["notes"]]


def _gguf(path: Path) -> dict[str, Any]:
    model = read_whole(path)
    values = {key: _plain(value) for key, value in model.metadata.items()}
    if values.get("general.type") != "adapter":
        check_model(model)
    role = role_of({key: str(value) for key, value in values.items()})
    pieces = model.metadata.get("tokenizer.ggml.tokens")
    types = Counter(tensor.kind.name for tensor in model.tensors.values())
    notes = [] if role else ["its stage is unknown: neither its role nor its context length is YuE's"]
    if TOKENIZER_KEY not in values and role == "stage1":
        notes.append("it carries no tokenizer: YuE's tokenizer.model has to lie beside it")
    return {
        "kind": "GGUF",
        "role": role or "unknown",
        "name": values.get("general.name", ""),
        "architecture": values.get("general.architecture", ""),
        "licence": str(values.get("general.license", "")),
        "weights": sum(tensor.rows * tensor.shape[-1] for tensor in model.tensors.values()),
        "tensor types": dict(types.most_common()),
        "pieces": len(pieces.data) if pieces and pieces.array else 0,
        "trimmed": bool(values.get("yuegguf.trimmed", False)),
        "context": values.get("llama.context_length"),
        "parts": max(1, len(model.parts)),
        "metadata": {key: value for key, value in values.items() if key != TOKENIZER_KEY},
        "notes": notes,
    }


def _onnx(path: Path) -> dict[str, Any]:
    import json

    from yuegguf.codec.header import METADATA_KEY, read_metadata

    metadata = read_metadata(path)
    try:
        header = json.loads(metadata.get(METADATA_KEY, "{}"))
    except (ValueError, RecursionError):
        header = {}
    notes = [] if header else ["it was not made by yuegguf, so it is no part of a codec"]
    return {"kind": "ONNX", "codec": header, "metadata": metadata, "notes": notes}


def _notes(path: Path, entry: Installed | None, licence: str) -> list[str]:
    """Warnings about a file's state, licence and origin."""
    notes = []
    if entry and path.stat().st_size != entry.bytes:
        notes.append(f"it is damaged: {entry.bytes} bytes were installed; pull it again with --force")
    if licence and not registry.is_free(licence):
        notes.append(
            f"its source states the licence {licence}; YuE v1 itself is under {registry.FREE_LICENCE}"
        )
    if path.is_relative_to(nano_models().codec):
        notes.append("it is bundled with yuegguf: there is nothing to get or remove")
    elif entry is None:
        notes.append(f"it is not in {lockfile.LOCK_NAME}: nothing says where it came from")
    return notes


def _plain(value: Value) -> Any:
    """A GGUF value as JSON; a long array's length."""
    if not value.array:
        if isinstance(value.data, float) and not isfinite(value.data):
            return value.shown
        return value.text if isinstance(value.data, bytes) else value.data
    if len(value.data) > SHOWN:
        return f"{len(value.data)} values"
    return value.texts if isinstance(value.data, list) else value.data.tolist()


def _short(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
