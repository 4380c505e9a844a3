"""Files that somebody else put there: a FIFO never blocks a reader, and no size fills the memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from yuegguf_convert.safetensors import open_file

from yuegguf.cli import _queue_file
from yuegguf.cli._texts import read_text
from yuegguf.codec import header
from yuegguf.errors import DamagedFile, RequestError, YueError
from yuegguf.exchange import convert
from yuegguf.exchange.imported import ImportFacts
from yuegguf.files import hashing, typed_json
from yuegguf.files.arrays import load_array, load_arrays
from yuegguf.files.atomic import read_limited
from yuegguf.files.pth import read_state_dict
from yuegguf.files.reading import open_plain_file, open_plain_file_or_pipe
from yuegguf.models import hub_client, lockfile
from yuegguf.models.model_facts import model_facts
from yuegguf.song import token_log
from yuegguf.song.token_log import TokenLog

READERS: dict[str, Callable[[Path], object]] = {
    "JSON": lambda path: typed_json.read_file(path, dict, "hint"),
    "small file": lambda path: read_limited(path, 100, "hint"),
    "npy": load_array,
    "npz": lambda path: load_arrays(path, ("codes",)),
    "codec": lambda path: header.read_graph_header(path, "decoder"),
    "onnx": header.read_metadata,
    "encoder": header.read_encoder,
    "safetensors": open_file,
    "pth": read_state_dict,
    "queue": _queue_file.read,
    "text": lambda path: read_text(str(path), "lyrics") or _refuse(),
    "lock": lambda path: lockfile.read_lock(_called(path, lockfile.LOCK_NAME)),
    "download": lambda path: hub_client.read_source_record(_called(path, hub_client.SOURCE_RECORD)),
    "digest": hashing.sha256_of,
}


def _refuse() -> None:
    raise RequestError("empty")


def _called(path: Path, name: str) -> Path:
    """The folder of the file, once the file has this name."""
    return path.rename(path.parent / name).parent


def outcome(read: Callable[[], object]) -> BaseException | None:
    """What a reader raises; fails where it waits."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            read()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "it waits for somebody to write"
    return raised[0] if raised else None


def link_to_zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs on this system")
@pytest.mark.parametrize("make", [os.mkfifo, link_to_zeros, Path.mkdir])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused_at_once(name: str, make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "file"
    make(path)
    error = outcome(lambda: READERS[name](path))
    assert isinstance(error, YueError | OSError), error


def test_a_pipe_that_is_written_is_waited_for(tmp_path: Path) -> None:
    """As bash's <(command) is: its writer is there from the beginning, and late."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)
    with open_plain_file_or_pipe(path) as file:
        begun = threading.Event()

        def write() -> None:
            begun.wait(20)
            os.write(writer, b"late")
            os.close(writer)

        thread = threading.Thread(target=write)
        thread.start()
        begun.set()
        assert file.read() == b"late"
        thread.join(20)


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    for way in (open_plain_file, open_plain_file_or_pipe):
        with way(tmp_path / "file") as file:
            assert file.read() == b"content"
    with pytest.raises(FileNotFoundError):
        open_plain_file(tmp_path / "none")


def test_no_more_is_read_than_such_a_file_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(typed_json.MAX_JSON_BYTES + 1)
    with pytest.raises(DamagedFile, match="larger than 64 MiB"):
        convert.from_project(path, ImportFacts())
    for read, name in (
        (lockfile.read_lock, lockfile.LOCK_NAME),
        (hub_client.read_source_record, hub_client.SOURCE_RECORD),
    ):
        with pytest.raises(DamagedFile, match="larger than 64 MiB"):
            read(_called(path, name))
        path = tmp_path / name
    monkeypatch.setattr(token_log, "MAX_LOG_BYTES", 1 << 20)
    with pytest.raises(DamagedFile, match="larger than 1 MiB"):
        TokenLog.open(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bytes(1000), "is a file of zeros"),
        (b"\1" + bytes(1000), "is not an ONNX model"),
        (b"\x08\x01" * 200, "it has too many parts"),
        (b"\x72\xe8\x07\x0a\x01a\x12\xe2\x07" + b"x" * 994, "it has a text of 994 bytes"),
    ],
)
def test_no_onnx_file_keeps_its_reader_busy(
    content: bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(header, "MAX_FIELDS", 100)
    monkeypatch.setattr(header, "MAX_TEXT_BYTES", 100)
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match=words):
        header.read_metadata(path)


def protobuf(number: int, content: bytes) -> bytes:
    """A field of bytes of a protobuf message."""
    length, head = len(content), [number << 3 | 2]
    while length > 127:
        head.append(length & 127 | 128)
        length >>= 7
    return bytes([*head, length]) + content


def test_a_header_that_is_nested_too_deep_is_damaged(tmp_path: Path) -> None:
    text = protobuf(1, header.METADATA_KEY.encode()) + protobuf(2, b"[" * 200_000)
    path = tmp_path / "decoder.onnx"
    path.write_bytes(protobuf(14, text))
    with pytest.raises(DamagedFile, match="its header is nested too deep; export the codec again"):
        header.read_graph_header(path, "decoder")
    assert model_facts(path, None)["codec"] == {}
