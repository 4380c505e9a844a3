"""A models.lock.json with anything but what `pull` writes is refused, and nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from helpers import Capture, cli
from models_folder import bytes_below, remove

from yuegguf.errors import DamagedFile
from yuegguf.models import lockfile

HARMS: dict[str, Callable[[dict[str, object]], object]] = {
    "leads out": lambda e: e.update(path="../elsewhere/decoder.onnx"),
    "absolute": lambda e: e.update(path="/canary"),
    "the lock itself": lambda e: e.update(path=lockfile.LOCK_NAME),
    "another model's": lambda e: e.update(path="zh-cot-Q8_0.gguf"),
    "a folder deeper": lambda e: e.update(path="sub/en-cot-Q8_0.gguf"),
    "path is a number": lambda e: e.update(path=7),
    "path is a list": lambda e: e.update(path=["en-cot-Q8_0.gguf"]),
    "model leads out": lambda e: e.update(model="../x", quant="", path="../x/decoder.onnx"),
    "model is empty": lambda e: e.update(model="", path="-Q8_0.gguf"),
    "negative": lambda e: e.update(bytes=-1),
    "huge": lambda e: e.update(bytes=2**80),
    "truth": lambda e: e.update(bytes=True),
    "text": lambda e: e.update(bytes="3"),
    "fraction": lambda e: e.update(bytes=3.5),
    "null": lambda e: e.update(sha256=None),
    "short hash": lambda e: e.update(sha256="00"),
    "escapes": lambda e: e.update(licence="\x1b[2J"),
    "files are a list": lambda e: e.update(files=[]),
    "a file is a number": lambda e: e.update(files={"a": 1}),
    "one more key": lambda e: e.update(shell="true"),
    "one key less": lambda e: e.pop("maker"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_lock_that_says_anything_else_is_refused_and_nothing_touched(
    capsys: Capture, root: Path, canary: Path, harm: str
) -> None:
    lock = json.loads((root / lockfile.LOCK_NAME).read_bytes())
    HARMS[harm](lock["files"][0])
    (root / lockfile.LOCK_NAME).write_text(json.dumps(lock))
    refused(capsys, root, canary)


RUBBISH = {
    "deep": b"[" * 100_000,
    "empty": b"",
    "utf8": b'{"format": 1, "files": ["\xff"]}',
    "surrogate": b'{"format": 1, "files": ["\\ud800"]}',
    "list": b"[]",
    "files are text": b'{"format": 1, "files": "x"}',
    "format is text": b'{"format": "1", "files": []}',
    "digits": b'{"format": ' + b"1" * 100_000 + b', "files": []}',
}


@pytest.mark.parametrize("name", RUBBISH)
def test_a_lock_that_is_none(capsys: Capture, root: Path, canary: Path, name: str) -> None:
    (root / lockfile.LOCK_NAME).write_bytes(RUBBISH[name])
    refused(capsys, root, canary)


def test_a_path_that_is_named_twice(capsys: Capture, root: Path, canary: Path) -> None:
    lock = json.loads((root / lockfile.LOCK_NAME).read_bytes())
    lock["files"] += lock["files"]
    (root / lockfile.LOCK_NAME).write_text(json.dumps(lock))
    refused(capsys, root, canary)


def refused(capsys: Capture, root: Path, canary: Path) -> None:
    """As a kit, when verified, listed and removed from."""
    before, new = bytes_below(root.parent), root.parent / "new"
    for command in (
        ("--models-dir", new, "pull", "--from", root),
        ("--models-dir", root, "models", "verify"),
    ):
        result = cli(capsys, *command)
        assert result.code == DamagedFile.exit_code
        assert f"{root / lockfile.LOCK_NAME} is " in result.error
        assert result.error.isprintable()
    assert remove(capsys, root, "en-cot").code == DamagedFile.exit_code
    assert bytes_below(root.parent) == before
    assert not new.exists()
    assert canary.read_bytes() == b"mine"


def test_a_lock_is_decoded_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded, decode = list[bytes](), msgspec.json.decode
    monkeypatch.setattr(msgspec.json, "decode", lambda data: decoded.append(data) or decode(data))
    assert lockfile.read_lock(root)
    assert decoded == [(root / lockfile.LOCK_NAME).read_bytes()]
