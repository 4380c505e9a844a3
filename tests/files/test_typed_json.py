"""JSON that we read: typed, without unknown keys, whole, and a sentence for everything else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from yuegguf.errors import DamagedFile, RequestError
from yuegguf.files import typed_json


@dataclass(frozen=True)
class Part:
    name: str
    share: float = 0.5


@dataclass(frozen=True)
class Thing:
    count: int
    kind: Literal["a", "b"] = "a"
    parts: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        if self.count < 0:
            raise RequestError("a count is negative", "count from 0")


def read(data: bytes, kind: Any = Thing) -> Any:
    return typed_json.read_json(data, kind, "thing.json", "copy it again")


def test_what_fits_is_read() -> None:
    assert read(b'{"count": 1, "parts": [{"name": "x", "share": 1}]}') == Thing(1, "a", (Part("x", 1.0),))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "truncated"),
        (b"\xff", r"malformed \(byte 0\)"),
        (b"[" * 100_000, "recursion"),
        (b'{"count":' * 100_000, "recursion"),
        (b'{"count": true}', "got `bool`"),
        (b'{"count": "1"}', "got `str`"),
        (b'{"count": 1.5}', "got `float`"),
        (b"{}", "missing required"),
        (b'{"count": -1}', "a count is negative"),
        (b'{"count": 1, "kind": "c"}', "Invalid enum value"),
        (b'{"count": 1, "more": 2}', "more is not known"),
        (b'{"count": 1, "parts": [{"name": "x", "y": 1}]}', r"parts\[0\].y is not known"),
        (b'{"count": 1, "parts": [{"name": "x", "share": 1e999}]}', "out of range"),
        (b'{"count": 1, "parts": [{"name": "x", "share": NaN}]}', "malformed"),
        (b'{"count": 1, "kind": "\\ud800"}', "truncated|surrogate|malformed"),
        (b'{"count": 1, "kind": "\xed\xa0\x80"}', "it is not UTF-8 text"),
        (b"[1]", "Expected `object`"),
    ],
)
def test_nonsense_is_one_sentence(data: bytes, says: str) -> None:
    with pytest.raises(DamagedFile, match=says) as caught:
        read(data)
    assert caught.value.message.startswith("thing.json is damaged (")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_file_larger_than_any_of_ours_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typed_json, "MAX_JSON_BYTES", 100)
    path = tmp_path / "thing.json"
    path.write_bytes(b'{"count": 1}' + b" " * 1000)
    with pytest.raises(DamagedFile, match="larger than"):
        typed_json.read_file(path, Thing, "")


def test_a_sealed_object_is_read_back_and_any_other_digit_is_damage() -> None:
    thing = Thing(12, "b", (Part("é"),))
    sealed = typed_json.encode_with_checksum(thing)
    assert read(sealed) == thing
    assert read(b" ".join(sealed.split())) == thing, "spaces do not count"
    for old, new in ((b"12", b"13"), (b'"b"', b'"a"'), ("é".encode(), b"e"), (b"0.5", b"0.6")):
        assert old in sealed
        with pytest.raises(DamagedFile, match="does not match its checksum"):
            read(sealed.replace(old, new))


def test_text_that_no_file_can_hold_is_refused_in_words() -> None:
    with pytest.raises(RequestError, match="is not UTF-8 text"):
        typed_json.encode_with_checksum(Part("\udcff"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "is a git-lfs pointer"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"\x1f\x8b\x08", "is a gzip archive"),
        (b"Entry not found", "is damaged"),
        (bytes(600), "is damaged"),
    ],
)
def test_another_kind_of_file_is_called_what_it_is(content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DamagedFile, match=f"a.json {sentence}"):
        typed_json.read_file(tmp_path / "a.json", dict, "restore it")
