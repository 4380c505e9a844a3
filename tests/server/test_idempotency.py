"""Keys of requests: what is hashed for one, how, and what is left of a request that fails."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

import pytest
from serving_client import BODY, Idle, served
from starlette.datastructures import UploadFile

from yuegguf.errors import StorageError
from yuegguf.pipeline import takes
from yuegguf.pipeline.song_job import SongJob
from yuegguf.server.jobs import JobStore
from yuegguf.server.requests import FormBody
from yuegguf.server.service import Idempotency

CONTENT = bytes(range(256)) * 8192
MOST_AT_ONCE = 1 << 20


class CountedFile(SpooledTemporaryFile[bytes]):
    """A file that knows how many bytes were asked for at once."""

    sizes: list[int]

    def read(self, *args: Any) -> bytes:
        self.sizes.append(args[0] if args and args[0] and args[0] > 0 else len(CONTENT))
        return super().read(*args)

    def readinto(self, buffer: Any) -> int:
        self.sizes.append(len(buffer))
        return super().readinto(buffer)


def form(file: CountedFile) -> FormBody:
    file.sizes = []
    file.write(CONTENT)
    return FormBody(b"{}", {"ref": UploadFile(file, filename="a.wav")})


@pytest.mark.parametrize("most_in_memory", [10 * len(CONTENT), 1])
def test_uploads_are_hashed_in_pieces_and_for_a_key_alone(most_in_memory: int) -> None:
    with CountedFile(most_in_memory) as file:
        body = form(file)
        assert body.idempotency(None, "encode") == body.idempotency("", "encode") == Idempotency(None, "")
        assert file.sizes == []
        parts = (b"encode", b"{}", b"ref", CONTENT)
        whole = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
        for _ in range(2):  # wherever in the file the last reader stopped
            assert body.idempotency("key", "encode") == Idempotency("key", whole)
        assert 0 < max(file.sizes) < MOST_AT_ONCE


def test_an_empty_key_is_none(tmp_path: Path) -> None:
    with served(tmp_path / "songs", Idle()) as client:
        assert client.create(idempotency_key="") != client.create(idempotency_key="")


def test_a_song_that_cannot_be_made_leaves_no_row_and_takes_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores: list[JobStore] = []
    insert = JobStore.insert

    def note(store: JobStore, song: str, **facts: Any) -> None:
        stores.append(store)
        insert(store, song, **facts)

    def start(job: SongJob, named: Callable[[Path], None]) -> Any:
        named(tmp_path / "songs" / "mine-123456")
        insert(stores[0], "another-123456")
        raise StorageError("the disk is full", "delete something")

    monkeypatch.setattr(JobStore, "insert", note)
    monkeypatch.setattr(takes, "start", start)
    with served(tmp_path / "songs", Idle()) as client:
        assert client("POST", "/v1/songs", BODY).code == "storage"
        assert [row.song for row in stores[0].all()] == ["another-123456"]
