"""Songs to a recorded track over HTTP, uploaded or of another song; exports; as by the commands."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import FAST, TEXT, Capture, Run, cli, song_bytes
from serving_client import BODY, Client, Idle, copied_song, served

ARGS = ("--seed", 5, "--threads", 1, "--model", "nano")


@pytest.fixture
def client(tmp_path: Path, sung: Run) -> Iterator[Client]:
    """A server with the song "mine", which `run` made."""
    copied_song(sung(*TEXT, *FAST), tmp_path / "songs" / "mine")
    with served(tmp_path / "songs") as found:
        yield found
    assert not list((tmp_path / "songs" / ".uploads").glob("export-*"))


def alone(capsys: Capture, *args: object) -> Path:
    result = cli(capsys, "stems", *args, *ARGS, "--json")
    assert result.code in (0, 6), result.err
    return result.folder


@pytest.mark.parametrize(
    ("part", "option", "lyrics"),
    [("vocal_stem", "--vocal", ""), ("inst_stem", "--inst", "[verse]\nla la")],
)
def test_a_song_is_made_to_an_uploaded_track(
    client: Client, recordings: Path, tmp_path: Path, capsys: Capture, part: str, option: str, lyrics: str
) -> None:
    recording, words = recordings / "a.wav", ("--lyrics-txt", tmp_path / "lyrics.txt") if lyrics else ()
    (tmp_path / "lyrics.txt").write_text(lyrics)
    args = (option, recording, "--offset", 0.5, "-g", "pop", *words, "-o", tmp_path / "alone")
    theirs = alone(capsys, *args)
    asked = {"genre": "pop", "lyrics": lyrics, "seed": 5, "offset": 0.5, "preview_seconds": 0}
    answer = client.upload("/v1/songs", asked, {part: recording.read_bytes()})
    assert answer.status == 202, answer.body
    found = client.wait(answer.json["id"], "succeeded", "failed")
    assert (found["status"], found["input"]["track"]["file"]) == ("succeeded", part)
    assert song_bytes(client.songs / found["id"]) == song_bytes(theirs)
    checked = client.upload("/v1/check", asked, {part: recording.read_bytes()})
    assert (checked.status, len(list((client.songs / ".uploads").iterdir()))) == (200, 1)


@pytest.mark.parametrize(
    ("asked", "parts", "status", "words"),
    [
        ({}, ("vocal_stem", "inst_stem"), 422, "both tracks are there"),
        ({}, ("inst_stem",), 422, "a vocal needs words"),
        ({}, ("vocal_stem", "ref"), 422, "ref has no effect with a stem"),
        ({"voice": "anna"}, ("vocal_stem",), 422, "voice has no effect with a stem"),
        ({"instrumental": True}, ("vocal_stem",), 422, "instrumental has no effect with a stem"),
        ({"sections": "1"}, ("vocal_stem",), 422, "sections has no effect with a stem"),
        ({"offset": 900}, ("vocal_stem",), 422, "too little is left"),
        ({"offset": -1}, ("vocal_stem",), 422, "the offset"),
        ({"offset": 1}, (), 422, "offset has no effect without a stem"),
        ({"re_encode": True}, (), 422, "re_encode has no effect without a stem"),
        ({"mix": "upstream", "stereo": True}, (), 422, "--stereo has no effect"),
        ({"stems": False, "stem_mode": "raw"}, (), 422, "--stems has no effect"),
    ],
)
def test_bad_requests_make_nothing(
    client: Client, recordings: Path, asked: Any, parts: tuple[str, ...], status: int, words: str
) -> None:
    files = dict.fromkeys(parts, (recordings / "a.wav").read_bytes())
    answer = client.upload("/v1/songs", {"genre": "pop", **asked}, files)
    assert (answer.status, words in answer.json["error"]["message"]) == (status, True), answer.body
    assert answer.code
    assert [each["id"] for each in client("GET", "/v1/songs").json["data"]] == ["mine"]
    assert not list((client.songs / ".uploads").glob("*"))


def test_a_song_is_made_to_a_track_of_another(client: Client, tmp_path: Path, capsys: Capture) -> None:
    theirs = alone(
        capsys, "--vocal", client.songs / "mine" / "vocals.wav", "-g", "folk", "-o", tmp_path / "a"
    )
    asked = {"keep": "vocal", "genre": "folk", "seed": 5, "preview_seconds": 0}
    answer = client("POST", "/v1/songs/mine/stems", asked, idempotency_key="one")
    assert answer.status == 202, answer.body
    again = client("POST", "/v1/songs/mine/stems", asked, idempotency_key="one")
    assert again.json["id"] == answer.json["id"]
    client("DELETE", "/v1/songs/mine")  # the new song has a copy
    found = client.wait(answer.json["id"], "succeeded", "failed")
    assert (found["status"], found["error"]) == ("succeeded", None)
    assert song_bytes(client.songs / found["id"]) == song_bytes(theirs)


def test_what_a_song_leaves_out_is_that_of_the_other(tmp_path: Path, sung: Run) -> None:
    copied_song(sung(*TEXT, *FAST), tmp_path / "songs" / "mine")
    with served(tmp_path / "songs", Idle()) as client:
        made = client("POST", "/v1/songs/mine/stems", {"keep": "instrumental"}).json
        assert (made["input"]["genre"], made["input"]["lyrics"]) == ("pop", BODY["lyrics"])
        assert made["input"]["track"]["track"] == "instrumental"
        for asked, status in (({}, 400), ({"keep": "mix"}, 400), ({"keep": "vocal", "sections": "1"}, 422)):
            assert client("POST", "/v1/songs/mine/stems", asked).status == status
        for file in (client.songs / "mine").glob("vocals.*"):
            file.unlink()
        record = json.loads((client.songs / "mine" / "song.json").read_text())
        record["files"] = ["mix.wav"]
        record.pop("checksum")
        (client.songs / "mine" / "song.json").write_text(json.dumps(record))
        refused = client("POST", "/v1/songs/mine/stems", {"keep": "vocal"})
        assert (refused.status, refused.code) == (422, "no_such_file")
        assert len(list((client.songs / ".uploads").iterdir())) == 1


@pytest.mark.parametrize(("kind", "options"), [("npy", ()), ("yue-ui", ("--yue-ui",))])
def test_codes_are_exported_as_by_the_command(
    client: Client, tmp_path: Path, capsys: Capture, kind: str, options: tuple[str, ...]
) -> None:
    assert cli(capsys, "export", client.songs / "mine", "-o", tmp_path / "alone", *options).code == 0
    answer = client("GET", f"/v1/songs/mine/export.zip?format={kind}")
    assert answer.headers["content-type"] == "application/zip"
    assert f'filename="mine-{kind}.zip"' in answer.headers["content-disposition"]
    archive = zipfile.ZipFile(io.BytesIO(answer.body))
    theirs = {path.relative_to(tmp_path / "alone").as_posix() for path in (tmp_path / "alone").rglob("*.*")}
    assert set(archive.namelist()) == theirs
    for name in theirs:
        assert archive.read(name) == (tmp_path / "alone" / name).read_bytes()


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    with served(tmp_path / "songs", Idle()) as client:
        song = client.create()
        refused = client("GET", f"/v1/songs/{song}/export.zip")
        assert (refused.status, "is not drafted yet" in refused.json["error"]["message"]) == (422, True)
        assert client("GET", f"/v1/songs/{song}/export.zip?format=exe").status == 400
        assert client("GET", "/v1/songs/other/export.zip").code == "no_such_song"
        assert not list((client.songs / ".uploads").iterdir())
