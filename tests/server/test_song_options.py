"""Options of songs over HTTP that have a file or a condition: cover, take, and forced deletion."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from helpers import FAST, TEXT, Run
from mutagen.flac import FLAC
from serving_client import BODY, Idle, copied_song, served

from yuegguf.models.resolve import ModelChoice
from yuegguf.pipeline import create
from yuegguf.pipeline.song_job import SongJob
from yuegguf.request.song_request import SongRequest


def picture() -> bytes:
    """A PNG of one red point."""
    pixel = zlib.compress(b"\0\xff\0\0")
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)), (b"IDAT", pixel), (b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return content


def test_an_uploaded_picture_is_the_cover(tmp_path: Path) -> None:
    with served(tmp_path / "songs") as client:
        answer = client.upload("/v1/songs", {**BODY, "formats": ["flac"]}, {"cover": picture()})
        assert answer.status == 202, answer.body
        found = client.wait(answer.json["id"], "succeeded", "failed")
        assert (found["status"], found["input"]["output"]["cover"]) == ("succeeded", "cover")
        (cover,) = FLAC(client.songs / found["id"] / "mix.flac").pictures
        assert (cover.data, cover.mime) == (picture(), "image/png")


@pytest.mark.parametrize(
    ("asked", "content", "words"),
    [
        ({}, b"<svg onload='alert(1)'></svg>", "cover"),
        ({"tags": False}, picture(), "the cover has no effect without tags"),
        ({"take": 2, "candidates": 2}, picture(), "take is one take"),
    ],
)
def test_bad_options_make_nothing(
    tmp_path: Path, asked: dict[str, object], content: bytes, words: str
) -> None:
    with served(tmp_path / "songs", Idle()) as client:
        answer = client.upload("/v1/songs", {**BODY, **asked}, {"cover": content})
        assert (answer.status, words in answer.json["error"]["message"]) == (422, True), answer.body
        assert client("GET", "/v1/songs").json["data"] == []
        assert not list((client.songs / ".uploads").iterdir())


def test_one_take_of_a_seed_is_made(tmp_path: Path) -> None:
    with served(tmp_path / "songs", Idle()) as client:
        assert client.song(client.create({**BODY, "take": 3}))["input"]["take"] == 3


def test_a_folder_with_files_of_others_is_deleted_by_force_alone(tmp_path: Path, sung: Run) -> None:
    song = copied_song(sung(*TEXT, *FAST), tmp_path / "songs" / "mine")
    (song / "notes.txt").write_text("mine")
    (song / "mix.wav").unlink()  # so that something is left to do
    with served(tmp_path / "songs", Idle()) as client:
        first = client.create()
        client.wait(first, "processing")
        assert client("POST", "/v1/songs/mine/resume").json["status"] == "queued"
        refused = client("DELETE", "/v1/songs/mine")
        assert (refused.status, "'notes.txt'" in refused.json["error"]["message"]) == (422, True)
        assert client.song("mine")["status"] == "queued"  # nothing is changed
        assert (song / "notes.txt").read_text() == "mine"
        assert client("DELETE", "/v1/songs/mine?force=true").json["deleted"]
        assert not song.exists()


@pytest.mark.parametrize("name", ["", " ", " \t\n\u00a0\u3000"])
def test_spaces_alone_are_no_title(tmp_path: Path, sung: Run, name: str) -> None:
    copied_song(sung(*TEXT, *FAST), tmp_path / "songs" / "mine")
    stems = dict.fromkeys(("vocal_stem", "inst_stem"), picture())
    with served(tmp_path / "songs", Idle()) as client:
        answers = [
            client("POST", "/v1/songs", {**BODY, "name": name}),
            client("POST", "/v1/check", {**BODY, "name": name}),
            client("POST", "/v1/songs/mine/extend", {"retake": 1, "name": name}),
            client("POST", "/v1/songs/mine/retake", {"section": 1, "name": name}),
            client.upload("/v1/import", {"genre": "pop", "name": name}, stems),
        ]
        assert [(answer.status, answer.code) for answer in answers] == [(400, "invalid_body")] * 5
        assert all("name" in answer.json["error"]["message"] for answer in answers)
        assert client.song(client.create({**BODY, "name": " A song "}))["title"] == "A song"
    choice = ModelChoice(stage1="nano", models_dir=tmp_path / "no models")
    prepared = create.prepare_song(SongRequest("folk", "[verse]\nla"), choice, lambda event: None)
    job = SongJob(*prepared, tmp_path, name)
    assert create.new_record(job).title == "folk"
