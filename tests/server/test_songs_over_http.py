"""Songs over HTTP: created, followed, downloaded, deleted; they are those that the command line makes."""

from __future__ import annotations

import http.client
import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from helpers import FAST, TEXT, Run, song_bytes
from serving_client import BODY, Client, multipart, served


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with served(tmp_path / "songs") as found:
        yield found
    assert list((tmp_path / "songs").glob(".uploads/*")) == []


def test_a_song_has_the_bytes_that_run_makes(client: Client, sung: Run) -> None:
    alone = sung(*TEXT, *FAST)
    song = client.create()
    found = client.wait(song, "succeeded", "failed")
    assert (found["status"], found["seconds"], found["seed"]) == ("succeeded", 2.0, 5)
    ours, theirs = song_bytes(client.songs / song), song_bytes(alone)
    assert ours == theirs
    assert found["input"]["lyrics"] == BODY["lyrics"]
    assert client("GET", "/v1/songs").json["data"][0]["id"] == song
    names = [file["name"] for file in found["files"]]
    assert names == ["mix.wav", "instrumental.wav", "preview.wav", "vocals.wav"]
    assert [(each["label"], each["start"], each["seconds"], each["limit"]) for each in found["timeline"]] == [
        ("verse", 0.0, 1.0, 1.0),
        ("chorus", 1.0, 1.0, 1.0),
    ]
    assert [each["lines"] for each in found["timeline"]] == ["la la", "lo lo"]
    assert [each["name"] for each in found["downloads"]] == [
        "markers.txt",
        "lyrics.lrc",
        "project",
        "bundle.zip",
    ]
    for each in found["downloads"]:
        assert client("GET", f"/{each['url']}").status == 200

    whole = client("GET", f"/v1/songs/{song}/audio/mix.wav")
    assert whole.body == theirs["mix.wav"]
    assert whole.headers["content-type"] == "audio/wav"
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["content-disposition"] == f'inline; filename="{song}-mix.wav"'
    head = client("HEAD", f"/v1/songs/{song}/audio/mix.wav?download=1")
    assert head.body == b""
    assert head.headers["content-length"] == str(len(whole.body))
    assert head.headers["content-disposition"].startswith("attachment")
    part = client("GET", f"/v1/songs/{song}/audio/mix.wav", range="bytes=100-199")
    assert (part.status, part.body) == (206, whole.body[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(whole.body)}"
    beyond = client("GET", f"/v1/songs/{song}/audio/mix.wav", range=f"bytes={len(whole.body)}-")
    assert (beyond.status, beyond.code) == (416, "no_such_range")
    assert beyond.headers["content-range"] == f"bytes */{len(whole.body)}"
    wrong = client("GET", f"/v1/songs/{song}/audio/mix.wav", range="bytes=9-1")
    assert (wrong.status, wrong.code) == (400, "bad_range")
    other = client("GET", f"/v1/songs/{song}/audio/mix.wav", range="seconds=1-2")
    assert (other.status, other.body) == (200, whole.body)
    for name in ("GET", "HEAD"):
        known = client(
            name, f"/v1/songs/{song}/audio/mix.wav", if_none_match=f'"x", W/{whole.headers["etag"]}'
        )
        assert (known.status, known.body, known.headers["etag"]) == (304, b"", whole.headers["etag"])
    assert client("GET", f"/v1/songs/{song}/audio/mix.wav", if_none_match='"x"').body == whole.body
    stale = client("GET", f"/v1/songs/{song}/audio/mix.wav", range="bytes=0-9", if_range='"other"')
    assert (stale.status, len(stale.body)) == (200, len(whole.body))

    peaks = client("GET", f"/v1/songs/{song}/peaks?points=10").json
    assert (peaks["seconds"], len(peaks["peaks"])) == (2.0, 10)
    assert 0 < max(peaks["peaks"]) <= 1
    assert client("GET", f"/v1/songs/{song}/text/lyrics.lrc").body == (alone / "lyrics.lrc").read_bytes()
    project = client("GET", f"/v1/songs/{song}/project").json
    assert project["models"]["stage1"]["file"] == "stage1.gguf"
    assert client("GET", f"/v1/songs/{song}/bundle.zip", range="bytes=9-1").code == "bad_range"
    archive = zipfile.ZipFile(io.BytesIO(client("GET", f"/v1/songs/{song}/bundle.zip").body))
    assert archive.read(f"{song}/mix.wav") == theirs["mix.wav"]
    assert client("DELETE", f"/v1/songs/{song}").json["deleted"]
    assert not (client.songs / song).exists()
    assert client("GET", f"/v1/songs/{song}").code == "no_such_song"


def test_events_are_followed_and_gone_on_with(client: Client) -> None:
    song = client.create()
    seen = list(_until_done(client, song))
    assert seen[0]["event"] == "status"
    assert seen[0]["data"]["id"] == song
    assert seen[-1]["data"] == {"status": "succeeded", "error": None}
    shares = [each["data"]["done"] for each in seen if each["event"] == "progress"]
    assert shares == sorted(shares)
    phases = [each["data"]["phase"] for each in seen if each["event"] == "progress"]
    assert list(dict.fromkeys(phases)) == ["draft", "refine", "master"]
    sections = [each["data"] for each in seen if each["event"] == "section"]
    assert sections == [
        {"number": 1, "label": "verse", "seconds": 1.0},
        {"number": 2, "label": "chorus", "seconds": 1.0},
    ]
    preview = [each["data"] for each in seen if each["event"] == "preview"][-1]
    file = client.song(song)["files"][2]
    assert (preview["name"], preview["bytes"]) == (file["name"], file["bytes"])
    assert preview["seconds"] == 2.0
    follow = client.events(song, seen[1]["id"])
    kept = [each["id"] for each in seen[2:] if each["event"] != "progress"]
    assert [next(follow)["id"] for _ in kept] == kept
    follow.close()
    unknown = client.events(song, "00000000-1")
    assert next(unknown)["data"]["status"] == "succeeded"
    assert next(unknown)["data"] == {"status": "succeeded", "error": None}  # it has ended: nothing else comes
    unknown.close()


def test_proxies_are_asked_to_keep_no_events_back(client: Client) -> None:
    song = client.create()
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=client.seconds)
    with closing(connection):
        connection.request("GET", f"/v1/songs/{song}/events")
        assert connection.getresponse().headers["x-accel-buffering"] == "no"
    client.wait(song, "succeeded")


def _until_done(client: Client, song: str) -> Iterator[dict[str, object]]:
    events = client.events(song)
    for event in events:
        yield event
        if event["event"] == "done":
            events.close()
            return


def test_takes_are_drafted_and_kept(client: Client) -> None:
    song = client.create({**BODY, "candidates": 2})
    seen = list(_until_done(client, song))
    found = client.song(song)
    assert (found["status"], found["draft"]) == ("succeeded", True)
    ended = [each["data"] for each in seen if each["event"] == "take"]
    assert sorted(each["id"] for each in ended) == found["takes"]
    assert all(each["error"] is None for each in ended)
    sections = [each["data"] for each in seen if each["event"] == "section"]
    assert sorted((each["take"], each["number"]) for each in sections) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert found["takes"] == [f"{song}:take-1", f"{song}:take-2"]
    assert (found["title"], client.song(found["takes"][1])["title"]) == ("pop", "pop, take 2")
    take = client.song(found["takes"][1])
    assert [file["name"] for file in take["files"]] == ["draft.wav", "preview.wav"]
    assert client("POST", f"/v1/songs/{song}/keep", {"takes": [3]}).code == "bad_request"
    kept = client("POST", f"/v1/songs/{song}/keep", {"takes": [2]})
    assert kept.status == 202
    done = client.wait(found["takes"][1], "succeeded", "failed")
    assert (done["phase"], done["draft"]) == ("done", False)
    assert client.song(found["takes"][0])["draft"]


def test_a_draft_is_refined_and_extended(client: Client) -> None:
    song = client.create({**BODY, "draft": "mix"})
    assert client.wait(song, "succeeded", "failed")["draft"]
    assert client("POST", f"/v1/songs/{song}/refine").status == 202
    assert client.wait(song, "succeeded", "failed")["phase"] == "done"
    answer = client("POST", f"/v1/songs/{song}/extend", {"retake": 2, "seed": 9})
    assert answer.status == 202, answer.body
    again = client.wait(answer.json["id"], "succeeded", "failed")
    assert (again["status"], again["seed"], again["sections"]) == ("succeeded", 9, 2)


def test_a_recording_conditions_a_song(client: Client, recordings: Path) -> None:
    parts = {
        "request": json.dumps({**BODY, "ref_end": 1}).encode(),
        "ref": (recordings / "a.wav").read_bytes(),
    }
    body, kind = multipart(parts, "../../canary.wav")
    answer = client("POST", "/v1/songs", body, content_type=kind)
    assert answer.status == 202, answer.body
    song = answer.json["id"]
    planned = answer.json["timeline"]
    assert [(each["limit"], each["start"], each["seconds"]) for each in planned] == [(1.0, None, None)] * 2
    assert client.wait(song, "succeeded", "failed")["status"] == "succeeded"
    assert answer.json["input"]["reference"]["mix"] == "ref.wav"
    assert (client.songs / song / "reference.npz").is_file()
    assert not list(client.songs.parent.rglob("canary*"))
    client("DELETE", f"/v1/songs/{song}")
    assert list((client.songs / ".uploads").iterdir()) == []


def test_songs_of_run_appear(client: Client, sung: Run) -> None:
    alone = sung(*TEXT, *FAST)
    (client.songs / "mine").mkdir()
    for file in alone.iterdir():
        if file.is_file():
            (client.songs / "mine" / file.name).write_bytes(file.read_bytes())
    found = client.song("mine")
    assert (found["status"], found["seconds"], found["error"]) == ("succeeded", 2.0, None)
    (client.songs / "mine" / "song.json").write_text("{")
    damaged = client.song("mine")
    assert damaged["status"] == "failed"
    assert "damaged" in damaged["error"]["message"]


def test_a_song_is_checked_without_being_made(client: Client) -> None:
    checked = client("POST", "/v1/check", BODY).json
    assert [each["label"] for each in checked["sections"]] == ["verse", "chorus"]
    assert [each["pace"] for each in checked["sections"]] == [2.0, 2.0]
    assert [each["likely_seconds"] for each in checked["sections"]] == [1.0, 1.0]
    assert checked["model"] == "nano"
    assert checked["seconds"].keys() == {"draft", "refine", "master"}
    assert client("GET", "/v1/songs").json["data"] == []


def test_the_server_describes_itself(client: Client) -> None:
    props = client("GET", "/v1/props").json
    assert props["defaults"]["top_p"] == 0.93
    assert props["limits"]["queue"] == 8
    assert client("GET", "/v1/models").json["data"][0]["id"] == "nano"
    assert client("GET", "/health").json["worker"] == "idle"
    assert b"yuegguf_resident_bytes" in client("GET", "/metrics").body
    document = client("GET", "/v1/openapi.json").json
    assert "SongInput" in document["components"]["schemas"]
    named = {path for path in document["paths"] if path.startswith("/v1/songs")}
    assert "/v1/songs/{song}/events" in named


def test_a_file_that_goes_while_a_song_is_shown_is_left_out(
    client: Client, sung: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(sung(*TEXT, *FAST), client.songs / "other"))
    assert {file["name"] for file in client.song("other")["files"]} >= {"mix.wav"}
    real = Path.is_file
    monkeypatch.setattr(Path, "is_file", lambda path: path == folder / "preview.wav" or real(path))
    assert "preview.wav" not in {file["name"] for file in client.song("other")["files"]}
