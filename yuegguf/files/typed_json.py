"""Strict JSON reader into typed values; a mismatch is a DamagedFile."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from yuegguf.errors import DamagedFile, RequestError
from yuegguf.files.kinds import explain_damage
from yuegguf.files.reading import open_plain_file

T = TypeVar("T")
CHECKSUM = "checksum"
"""Key of an object's checksum in files of `encode_with_checksum`."""
MAX_JSON_BYTES = 64 << 20
"""Most bytes of a JSON file; the largest that yuegguf writes has a few MiB."""


def read_file(path: Path, kind: type[T], hint: str) -> T:
    """Read a JSON file as a value of `kind`. Raises DamagedFile; OSErrors pass through."""
    with open_plain_file(path) as file:
        data = file.read(MAX_JSON_BYTES + 1)
    try:
        return read_json(data, kind, path, hint)
    except DamagedFile as error:
        raise explain_damage(path, error, ("text", "json", "zeros")) from error


def read_json(data: bytes, kind: type[T], file: Path | str, hint: str, *, others: bool = False) -> T:
    """Decode JSON as a value of `kind`, strictly: no other types, no unknown keys, no missing ones.

    An object with a checksum must match it. `others` allows keys that `kind` does not name, for files of
    other programs. Raises DamagedFile naming `file`, with `hint`.
    """
    with _damaged_json(file, hint):
        if len(data) > MAX_JSON_BYTES:
            raise ValueError(f"it is larger than {MAX_JSON_BYTES >> 20} MiB")
        decoded = msgspec.json.decode(data)
        ours = isinstance(decoded, dict) and not others
        if ours and CHECKSUM in decoded and decoded.pop(CHECKSUM) != checksum(decoded):
            raise ValueError("it does not match its checksum")
    return as_typed(decoded, kind, file, hint, others=others)


def as_typed(decoded: Any, kind: type[T], file: Path | str, hint: str, *, others: bool = False) -> T:
    """Convert decoded JSON or TOML to a value of `kind`, as strictly as `read_json`.

    `others` allows keys that `kind` does not name, for files of other programs. Raises DamagedFile.
    """
    with _damaged_json(file, hint):
        value = msgspec.convert(decoded, kind)
        if others:
            return value
        if unknown := _unknown_key(decoded, msgspec.to_builtins(value)):
            raise ValueError(f"{unknown} is not known")
    return value


@contextmanager
def _damaged_json(file: Path | str, hint: str) -> Iterator[None]:
    """Turn the errors of reading invalid JSON into a DamagedFile."""
    try:
        yield
    except RequestError as error:
        raise DamagedFile(f"{file} is damaged ({error.message})", hint) from error
    except (ValueError, RecursionError, OverflowError, MemoryError) as error:
        raise DamagedFile(f"{file} is damaged ({_short_reason(error)})", hint) from error


def encode_with_checksum(value: Any) -> bytes:
    """Encode a typed value as an indented JSON object that carries its own checksum.

    Raises RequestError for text that no file can hold, such as a path that is not UTF-8.
    """
    decoded = msgspec.to_builtins(value)
    try:
        text = msgspec.json.encode({**decoded, CHECKSUM: checksum(decoded)})
    except UnicodeEncodeError as error:
        raise RequestError(f"{error.object[:80]!r} is not UTF-8 text", "rename the file or folder") from error
    return msgspec.json.format(text, indent=2) + b"\n"


def encode(value: Any) -> bytes:
    """A typed value as one line of JSON."""
    return msgspec.json.encode(value) + b"\n"


def to_builtins(value: Any) -> Any:
    """A typed value as dictionaries, lists, strings and numbers."""
    return msgspec.to_builtins(value)


def checksum(decoded: dict[str, Any]) -> str:
    """SHA-256 in hex of a JSON object without spaces and with sorted keys."""
    return hashlib.sha256(msgspec.json.encode(decoded, order="sorted")).hexdigest()


def _unknown_key(decoded: Any, typed: Any, where: str = "") -> str:
    """Path of the first key of the JSON that its typed value lacks; empty if there is none."""
    if isinstance(decoded, dict) and isinstance(typed, dict):
        for key, value in decoded.items():
            place = f"{where}.{key}".lstrip(".")
            if key not in typed:
                return place[:80]
            if path := _unknown_key(value, typed[key], place):
                return path
    if isinstance(decoded, list) and isinstance(typed, list | tuple):
        for number, (value, other) in enumerate(zip(decoded, typed, strict=False)):
            if path := _unknown_key(value, other, f"{where}[{number}]"):
                return path
    return ""


def _short_reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, UnicodeDecodeError) or "Invalid UTF-8" in text:  # the latter from msgspec 0.23 on
        return "it is not UTF-8 text"
    if text.startswith("JSON is malformed"):  # the parser's description of bytes helps nobody
        text = re.sub(r": .* (?=\(byte)", " ", text)
    return text[:200] if text else type(error).__name__
