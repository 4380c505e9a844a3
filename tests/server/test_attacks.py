"""More attacks on the server, each tried: slow clients, names in headers, secrets in logs, mixed events."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shutil
import socket
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import FAST, TEXT, Run
from serving_client import BODY, WAIT, Client, IdleWorker, served
from test_songs_over_http import multipart

from yuegguf.server import access, slow_clients
from yuegguf.server.access import same_text
from yuegguf.server.worker import WorkerFacts
from yuegguf.server.worker_process import Deliver

KEY = "a key of the test"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with served(tmp_path / "songs", IdleWorker, max_queue=100) as found:
        yield found


def connected(client: Client) -> socket.socket:
    return socket.create_connection(("127.0.0.1", client.port), timeout=WAIT)


@pytest.mark.parametrize("beginning", [b"", b"GET / HTTP/1.1\r\nhost: local", b"GET /health HTTP/1.1\r\n"])
def test_a_head_that_does_not_end_is_given_up(
    client: Client, monkeypatch: pytest.MonkeyPatch, beginning: bytes
) -> None:
    monkeypatch.setattr(slow_clients, "HEAD_SECONDS", 0.1)
    many = [connected(client) for _ in range(20)]
    for each in many:
        each.sendall(beginning)
    assert client("GET", "/health").status == 200  # they hold nobody up
    for each in many:
        with each:
            assert each.recv(1) == b""


def test_a_second_head_that_does_not_end_is_given_up(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_clients, "HEAD_SECONDS", 0.1)
    with connected(client) as connection:
        whole = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
        connection.sendall(whole + whole[:20])
        received = b""
        while part := connection.recv(65536):
            received += part
        assert received.count(b" 200 OK\r\n") == 1


def test_events_outlast_the_limit_of_a_head(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_clients, "HEAD_SECONDS", 0.05)
    song = client.create()
    events = client.events(song)
    assert next(events)["event"] == "status"
    with connected(client) as idle:
        assert idle.recv(1) == b""  # by now the limit is over
    client("POST", f"/v1/songs/{song}/cancel")
    assert any(each["event"] == "done" for each in until_done(events))


def until_done(events: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for each in events:
        yield each
        if each["event"] == "done":
            return


def test_a_body_that_trickles_is_given_up(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "BODY_SECONDS", 0.3)
    with connected(client) as connection:
        head = "POST /v1/songs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        connection.sendall(f"{head}content-length: 100000\r\n\r\n".encode())
        answered = threading.Event()

        def trickle() -> None:
            while not answered.wait(0.02):  # each part arrives in time
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

        thread = threading.Thread(target=trickle, daemon=True)
        thread.start()
        assert b" 408 " in connection.recv(65536).split(b"\r\n")[0]
        answered.set()
        thread.join(WAIT)


@pytest.mark.parametrize(
    "body",
    [
        b'{"genre": "pop", "seed": ' + b"9" * 5000 + b"}",
        b'{"genre": "pop", "segment_seconds": 1e400}',
        b'{"genre": "pop", "segment_seconds": NaN}',
        b'{"genre": ' + b'{"a": ' * 20_000 + b"1" + b"}" * 20_000 + b"}",
        b'{"genre": "pop", "cfg": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        b'{"genre": "pop", "genre": 7}',
        b'{"genre": "pop", "ref_start": "\\ud800"}',
    ],
)
def test_bombs_of_json_are_refused(client: Client, body: bytes) -> None:
    answer = client("POST", "/v1/songs", body)
    assert (answer.status, answer.code) == (400, "invalid_body")


def test_the_last_of_two_equal_keys_counts_everywhere(client: Client) -> None:
    body = json.dumps(BODY)[:-1] + ', "seed": 7}'
    song = client("POST", "/v1/songs", body.encode()).json
    assert (song["seed"], song["input"]["seed"], client.song(song["id"])["seed"]) == (7, 7, 7)


@pytest.mark.parametrize("name", ["x.svg", "x.html", "x.wav", "../../x.wav", 'x";y.wav'])
def test_pictures_and_pages_are_no_recordings(client: Client, name: str) -> None:
    page = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><script>alert(1)</script></svg>"
    body, kind = multipart({"request": json.dumps(BODY).encode(), "ref": page}, name)
    answer = client("POST", "/v1/songs", body, content_type=kind)
    assert answer.status in (400, 409, 422), answer.body
    assert answer.headers["content-type"] == "application/json"
    assert client("GET", "/v1/songs").json["data"] == []
    assert [path for path in client.songs.rglob("*") if path.is_file() and page in path.read_bytes()] == []
    assert not list(client.songs.parent.rglob("x.*"))


def zip_bomb() -> bytes:
    """Three kilobytes for each megabyte of zeros."""
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("codes.npy", "w") as file,
    ):
        for _ in range(64):
            file.write(bytes(1 << 20))
    return packed.getvalue()


def npy_bomb() -> bytes:
    """An array of a petabyte, as its header says."""
    header = "{'descr': '<i8', 'fortran_order': False, 'shape': (8, 15625000000000), }".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(64)


@pytest.mark.parametrize("bomb", [zip_bomb, npy_bomb])
def test_codes_that_unpack_to_a_great_size_are_refused(client: Client, bomb: Callable[[], bytes]) -> None:
    before = sum(path.stat().st_size for path in client.songs.rglob("*") if path.is_file())
    body, kind = multipart({"request": b"{}", "vtrack": bomb()}, "codes.npy")
    tracemalloc.start()
    answer = client("POST", "/v1/codec/decode", body, content_type=kind)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert answer.status in (400, 409, 422), answer.body
    assert str(client.songs) not in answer.body.decode()  # where the server's files are is nobody's business
    assert most < 16 << 20
    after = sum(path.stat().st_size for path in client.songs.rglob("*") if path.is_file())
    assert after - before < 1 << 20


def test_a_key_stands_in_no_log_and_no_answer(tmp_path: Path, capfd: Any, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    with served(tmp_path / "songs", IdleWorker, key=KEY, compat=("cog",)) as client:
        song = client.create()
        (client.songs / song / "preview.wav").write_bytes(b"RIFF")
        url = client.song(song)["files"][0]["url"]
        token = url.partition("token=")[2]
        paths = (f"/{url}", f"/v1/songs?key={KEY.replace(' ', '%20')}", "/v1/props", "/metrics", "/nothing")
        answers = [client("GET", path).body for path in paths]
        answers.append(client("POST", "/v1/songs", b"{", authorization=f"Bearer {KEY}").body)
        assert [body for body in answers if KEY.encode() in body] == []
    written = "".join(capfd.readouterr()) + caplog.text
    assert KEY not in written
    assert token not in written
    files = [path for path in (tmp_path / "songs").rglob("*") if path.is_file()]
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


def test_keys_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    plain = access.hmac.compare_digest

    def compare(first: bytes, second: bytes) -> bool:
        compared.append((first, second))
        return bool(plain(first, second))

    monkeypatch.setattr(access.hmac, "compare_digest", compare)
    given = ["", KEY[:-1], f"{KEY}x", "x" * 10_000, "\udcff", KEY]
    assert [same_text(each, KEY) for each in given] == [False] * 5 + [True]
    assert {(len(first), len(second)) for first, second in compared} == {(32, 32)}  # lengths tell nothing
    assert len(compared) == len(given)


def test_events_of_two_clients_do_not_mix(tmp_path: Path) -> None:
    workers: list[IdleWorker] = []

    def start(facts: WorkerFacts, deliver: Deliver) -> IdleWorker:
        workers.append(IdleWorker(facts, deliver))
        return workers[-1]

    with served(tmp_path / "songs", start, parallel=4) as client:
        songs = [client.create({**BODY, "seed": seed}) for seed in range(4)]
        for song in songs:
            client.wait(song, "processing")
        streams = [client.events(song) for song in songs]
        for stream in streams:
            assert next(stream)["event"] == "status"
        worker = next(each for each in workers if each.messages)
        for number in range(10):
            for song in songs:
                worker.say("warning", song=song, text=f"{number} of {song}")
        for song in songs:
            worker.say("ended", song=song, outcome="failed", error={"message": song})
        for song, stream in zip(songs, streams, strict=True):
            seen = [each["data"] for each in until_done(stream)]
            texts = [each["message"] for each in seen if "message" in each]
            assert texts == [f"{number} of {song}" for number in range(10)]
            assert seen[-1]["error"]["message"] == song


@pytest.mark.skipif(os.name == "nt", reason="such names are no names there")
@pytest.mark.parametrize(
    "name", ['a"; filename="evil.html', "a\r\nset-cookie: b=c", "ünïcode…", "a\\b", "a;b"]
)
def test_no_name_of_a_folder_adds_to_a_header(client: Client, sung: Run, name: str) -> None:
    shutil.copytree(sung(*TEXT, *FAST), client.songs / name)
    for found in client("GET", "/v1/songs").json["data"]:
        answer = client("GET", f"/{found['files'][0]['url']}?download=1")
        assert answer.status == 200
        header = answer.headers["content-disposition"]
        assert re.fullmatch(r"attachment; filename(?:=\"[\w. ;-]+\"|\*=utf-8''[\w.%~-]+)", header, re.ASCII)
        assert "set-cookie" not in answer.headers


def test_figures_and_documents_need_the_key_too(tmp_path: Path) -> None:
    with served(tmp_path / "songs", IdleWorker, key=KEY, compat=("cog",)) as client:
        for path in ("/metrics", "/v1/openapi.json", "/v1/props", "/predictions/x", "/nothing"):
            assert client("GET", path, authorization="").code == "key_needed"
        assert client("GET", "/%2e%2e/metrics", authorization="").status == 401
        assert client("GET", "/page/..%2f..%2fmetrics", authorization="").status == 404


def test_no_answer_allows_another_site(client: Client) -> None:
    for method, path in (("OPTIONS", "/v1/songs"), ("POST", "/v1/songs"), ("GET", "/metrics")):
        answer = client(method, path, origin="http://evil.example", sec_fetch_site="cross-site")
        assert answer.status == 403
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.skipif(os.name == "nt", reason="such names are no names there")
def test_a_song_with_a_colon_in_its_name_goes_on_after_a_restart(tmp_path: Path) -> None:
    songs = tmp_path / "songs"
    with served(songs, IdleWorker) as client:
        (songs / client.create()).rename(songs / "one:two")
        assert client("POST", "/v1/songs/one:two/resume").status == 202
    with served(songs, IdleWorker) as client:
        assert client.song("one:two")["status"] in ("queued", "processing")
        assert client("GET", "/v1/songs/one").status == 404


def test_sentences_do_not_say_where_the_songs_are(client: Client) -> None:
    song = client.create()
    (client.songs / song / "song.json").write_text("{")
    answers = [client("GET", f"/v1/songs/{song}"), client("GET", f"/v1/songs/{song}/project")]
    for answer in answers:
        assert f"{song}/song.json" in answer.json["error"]["message"]
        assert str(client.songs) not in answer.body.decode()
