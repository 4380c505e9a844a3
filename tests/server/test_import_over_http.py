"""Songs of other tools over HTTP: the song that `import` makes, refusals, zips with limits, and kills."""

from __future__ import annotations

import io
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cheap_serve import Processes
from helpers import FAST, TEXT, Capture, Run, cli, song_bytes
from serving_client import Client, Idle, copied_song, multipart, served

from yuegguf.exchange import imported
from yuegguf.server import unpacking

MACHINE = ("--threads", 1, "-m", "nano", "--json")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with served(tmp_path / "songs") as found:
        yield found


@pytest.fixture
def exported(tmp_path: Path, sung: Run, capsys: Capture) -> Path:
    """The codes of a song in all forms: stage1/, stage2/, mine.json."""
    song = copied_song(sung(*TEXT, *FAST), tmp_path / "mine")
    for options in ((), ("--yue-ui",)):
        assert cli(capsys, "export", song, "-o", tmp_path / "exported", *options).code == 0
    return tmp_path / "exported"


def pair(folder: Path) -> dict[str, Path]:
    return {mark: next(folder.glob(f"*{mark}.npy")) for mark in ("vtrack", "itrack")}


def packed(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


def done(client: Client, answer: Any) -> Any:
    """The finished song of an import."""
    task = client.ended_task(answer)
    assert task["status"] == "succeeded", task
    return client.wait(task["result"]["song"], "succeeded", "failed")


def alone(capsys: Capture, tmp_path: Path, *args: object) -> Path:
    """The finished song that the commands make."""
    folder = cli(capsys, "import", *args, "-o", tmp_path / "alone", *MACHINE).folder
    assert cli(capsys, "resume", folder, "--threads", 1).code in (0, 6)
    return folder


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_a_pair_is_imported_as_by_the_command(
    client: Client, exported: Path, tmp_path: Path, capsys: Capture, stage: str
) -> None:
    files = pair(exported / stage)
    theirs = alone(capsys, tmp_path, *files.values(), "--at", 1, "--lyrics", TEXT[3])
    asked = b'{"at": [1], "lyrics": "[verse]\\nla la\\n[chorus]\\nlo lo"}'
    parts = {"request": asked, **{mark: path.read_bytes() for mark, path in files.items()}}
    names = {mark: f"C:\\out\\{path.name}" for mark, path in files.items()}
    body, kind = multipart(parts, "", **names)
    found = done(client, client("POST", "/v1/import", body, content_type=kind))
    assert (found["status"], found["title"], found["sections"]) == ("succeeded", "pop", 2)
    assert song_bytes(client.songs / found["id"]) == song_bytes(theirs)


def test_projects_and_zips_are_imported(client: Client, exported: Path) -> None:
    project = (exported / "mine.json").read_bytes()
    found = done(client, client.upload("/v1/import", {"name": "one"}, {"project": project}))
    zips = [
        packed({"a/b/mine.json": project, "readme.txt": b"no"}),
        packed({f"x/stage2/{path.name}": path.read_bytes() for path in pair(exported / "stage2").values()}),
    ]
    for content in zips:
        other = done(client, client.upload("/v1/import", {"lyrics": TEXT[3], "at": [1]}, {"zip": content}))
        ours, theirs = ((client.songs / song["id"] / "stage2.npz").read_bytes() for song in (other, found))
        assert ours == theirs
    assert found["title"] == "one"


def test_two_stems_are_imported_as_by_the_command(
    client: Client, recordings: Path, tmp_path: Path, capsys: Capture
) -> None:
    stem = recordings / "a.wav"
    theirs = alone(capsys, tmp_path, "--vocal", stem, "--inst", stem, "--take", 1, "-g", "folk")
    asked = {"genre": "folk", "take": 1, "formats": ["wav"]}
    answer = client.upload("/v1/import", asked, dict.fromkeys(("vocal_stem", "inst_stem"), stem.read_bytes()))
    found = done(client, answer)
    assert song_bytes(client.songs / found["id"]) == song_bytes(theirs)
    warnings = client.task(answer.json["id"])["warnings"]
    assert any("no lyrics are known" in warning for warning in warnings)
    assert set(warnings) <= set(client.song(found["id"])["warnings"])  # that the page shows


def test_an_imported_song_can_wait(client: Client, exported: Path) -> None:
    project = (exported / "mine.json").read_bytes()
    answer = client.upload("/v1/import", {"finish": False}, {"project": project})
    task = client.ended_task(answer)
    song = client.song(task["result"]["song"])
    assert (song["status"], song["phase"], song["resumable"]) == ("interrupted", "master", True)
    assert client("DELETE", f"/v1/tasks/{task['id']}").json["deleted"]
    assert client.song(song["id"])["status"] == "interrupted"


BAD: list[tuple[dict[str, Any], dict[str, bytes], int, str]] = [
    ({}, {}, 422, "not those of one song"),
    ({}, {"vtrack": b"x"}, 422, "not those of one song"),
    ({}, {"project": b"x", "zip": b"x"}, 422, "not those of one song"),
    ({}, {"vocal_stem": b"x"}, 422, "not those of one song"),
    ({"take": 3}, {"project": b"{}"}, 422, "take has no effect without stems"),
    ({"folder": "/etc"}, {"project": b"{}"}, 400, "folder"),
    ({}, {"project": b"{}"}, 409, "project"),
    ({}, {"vtrack": b"x", "itrack": b"y"}, 409, "vtrack"),
    ({"genre": "pop"}, {"vocal_stem": b"<svg/>", "inst_stem": b"<svg/>"}, 422, "vocal_stem"),
    ({}, {"zip": b"no zip"}, 409, "cannot be unpacked"),
    ({}, {"zip": packed({"readme.txt": b"x"})}, 422, "no .npy and no .json"),
    ({}, {"zip": packed({f"{n}.npy": b"x" for n in range(17)})}, 422, "too many files"),
    ({}, {"zip": packed({f"{'n' * 247}.npy": b"x"})}, 422, "too long a name"),
    ({}, {"zip": packed({"../../up.json": b"{}"})}, 409, "up.json"),
    ({"bits": 9}, {"project": b"{}"}, 422, "9 bits"),
    ({"model": "../model"}, {"project": b"{}"}, 409, "project"),
]


@pytest.mark.parametrize(("asked", "files", "status", "words"), BAD)
def test_bad_requests_make_nothing(
    client: Client, asked: Any, files: dict[str, bytes], status: int, words: str
) -> None:
    answer = client.upload("/v1/import", asked, files)
    assert (answer.status, words in answer.json["error"]["message"]) == (status, True), answer.body
    assert answer.json["error"]["code"]
    assert client("GET", "/v1/songs").json["data"] == client("GET", "/v1/tasks").json["data"] == []
    assert not list((client.songs / ".uploads").glob("*"))
    assert not list(client.songs.parent.rglob("up.json"))


def test_a_zip_that_unpacks_to_too_much_is_refused(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MOST_BYTES", 3 << 20)
    bomb = packed({"a.npy": bytes(2 << 20), "b.npy": bytes(2 << 20)})
    assert len(bomb) < 10_000
    answer = client.upload("/v1/import", {}, {"zip": bomb})
    assert (answer.status, "more than 3 MiB" in answer.json["error"]["message"]) == (422, True)
    assert not list((client.songs / ".uploads").glob("*"))


def test_an_import_is_made_once(tmp_path: Path, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = (exported / "mine.json").read_bytes()
    with served(tmp_path / "songs", Idle()) as client:
        answers = [
            client.upload("/v1/import", {}, {"project": project}, idempotency_key="one") for _ in range(2)
        ]
        assert answers[0].json["id"] == answers[1].json["id"]
    with served(tmp_path / "songs") as client:
        song = done(client, answers[0])["id"]
    (tmp_path / "songs" / song / "mark").write_text("made before")
    row = "UPDATE jobs SET state = 'processing' WHERE queue = 'audio'"
    _change(tmp_path / "songs", row)  # as if the worker was killed when the folder was there
    monkeypatch.setattr(imported, "create_folder", None)
    with served(tmp_path / "songs") as client:
        assert done(client, answers[0])["id"] == song
        assert len(client("GET", "/v1/songs").json["data"]) == 1
    assert (tmp_path / "songs" / song / "mark").read_text() == "made before"


def _change(songs: Path, statement: str) -> None:
    with sqlite3.connect(songs / "queue.sqlite") as database:
        assert database.execute(statement).rowcount == 1
    database.close()


def test_a_killed_worker_imports_again(tmp_path: Path, recordings: Path) -> None:
    processes, stem = Processes(), (recordings / "a.wav").read_bytes()
    with served(tmp_path / "songs", processes) as client:
        answer = client.upload("/v1/import", {"genre": "folk"}, {"vocal_stem": stem, "inst_stem": stem})
        while not processes.pids:
            client.task(answer.json["id"])
        processes.kill_first()
        assert done(client, answer)["status"] == "succeeded"
        assert len(client("GET", "/v1/songs").json["data"]) == 1
