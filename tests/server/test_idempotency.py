"""Keys of requests: what is hashed for one, how, and what is left of a request that fails."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

import pytest
from helpers import FAST, TEXT, Run
from serving_client import BODY, Idle, copied_song, served
from starlette.datastructures import UploadFile

from yuegguf.errors import StorageError
from yuegguf.pipeline import takes
from yuegguf.pipeline.song_job import SongJob
from yuegguf.server.idempotency import Idempotency
from yuegguf.server.jobs import JobStore
from yuegguf.server.requests import FormBody

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


def test_the_key_of_a_song_that_was_deleted_by_hand_makes_it_anew(tmp_path: Path) -> None:
    with served(tmp_path / "songs", Idle()) as client:
        client.wait(client.create(), "processing")
        song = client.create(idempotency_key="one")
        shutil.rmtree(client.songs / song)
        again = client.create(idempotency_key="one")
        assert again != song
        assert client.create(idempotency_key="one") == again
        assert [each["id"] for each in client("GET", "/v1/songs").json["data"]].count(again) == 1


@pytest.mark.parametrize(
    ("path", "body", "other"),
    [("extend", {"retake": 2}, {"retake": 1}), ("retake", {"section": 2}, {"section": 1})],
)
def test_a_new_song_of_an_old_one_is_made_once_for_a_key(
    tmp_path: Path, sung: Run, path: str, body: dict[str, int], other: dict[str, int]
) -> None:
    copied_song(sung(*TEXT, *FAST), tmp_path / "songs" / "old")
    copied_song(tmp_path / "songs" / "old", tmp_path / "songs" / "another")
    with served(tmp_path / "songs", Idle()) as client:
        made = client("POST", f"/v1/songs/old/{path}", body, idempotency_key="one")
        assert made.status == 202, made.body
        again = client("POST", f"/v1/songs/old/{path}", body, idempotency_key="one")
        assert (again.status, again.json["id"]) == (202, made.json["id"])
        for song, asked in (("old", other), ("another", body)):
            refused = client("POST", f"/v1/songs/{song}/{path}", asked, idempotency_key="one")
            assert (refused.status, refused.code) == (409, "idempotency_key_used")
        assert client("POST", f"/v1/songs/old/{path}", body).json["id"] != made.json["id"]
