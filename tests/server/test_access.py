"""Attacks on the server, each tried: they are refused, and nothing outside the folder is read or changed."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving_client import BODY, Answer, Client, IdleWorker, served

from yuegguf.server import access
from yuegguf.server.access import is_loopback, stored_key
from yuegguf.server.settings import MAX_JSON_BODY

KEY = "a key of the test"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("served")
    (root / "canary").mkdir()
    (root / "canary" / "song.json").write_text("canary")
    (root / "canary" / "mix.wav").write_text("canary")
    with served(root / "songs", IdleWorker, upload_limit=2 << 20, max_queue=1000) as found:
        yield found
    assert (root / "canary" / "song.json").read_text() == "canary"


def ids(client: Client) -> set[str]:
    return {each["id"] for each in client("GET", "/v1/songs?limit=1000").json["data"]}


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Client]:
    with served(tmp_path / "songs", IdleWorker, key=KEY) as found:
        yield found


def refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.code) == (status, code), answer.body


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", ""]
)
def test_a_foreign_name_is_refused(client: Client, host: str) -> None:
    refused(client("GET", "/v1/songs", host=host), 403, "wrong_host")


@pytest.mark.parametrize(
    "host", ["localhost", "localhost.", "127.0.0.2", "[::1]:80", "[::ffff:127.0.0.1]", "LOCALHOST:99"]
)
def test_names_of_loopback_are_taken(client: Client, host: str) -> None:
    assert client("GET", "/v1/songs", host=host).status == 200


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("::1", True), ("::ffff:127.0.0.1", True), ("127.9.9.9", True), ("0.0.0.0", False), ("10.0.0.1", False)],
)
def test_loopback_is_known(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
def test_pages_of_other_sites_change_nothing(client: Client, headers: dict[str, str]) -> None:
    song = client.create()
    before = ids(client)
    refused(client("POST", "/v1/songs", BODY, **headers), 403, "cross_site")
    refused(client("DELETE", f"/v1/songs/{song}", **headers), 403, "cross_site")
    assert ids(client) == before
    own = client(
        "POST", "/v1/check", BODY, origin=f"http://127.0.0.1:{client.port}", sec_fetch_site="same-origin"
    )
    assert own.status == 200
    assert "access-control-allow-origin" not in own.headers


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "image/svg+xml", "text/html"]
)
def test_other_types_of_bodies_are_refused(client: Client, kind: str) -> None:
    refused(client("POST", "/v1/songs", json.dumps(BODY).encode(), content_type=kind), 415, "wrong_type")


@pytest.mark.parametrize(
    "song",
    [
        "..%2Fcanary",
        "%2e%2e%2fcanary",
        "..",
        "canary",
        "....%2F%2Fcanary",
        "%00",
        "..%5Ccanary",
        "a:take-1",
        "%2Fetc",
    ],
)
@pytest.mark.parametrize("rest", ["", "/audio/mix.wav", "/project", "/peaks", "/bundle.zip"])
def test_no_id_leaves_the_folder(client: Client, song: str, rest: str) -> None:
    answer = client("GET", f"/v1/songs/{song}{rest}")
    assert answer.status == 404
    assert b"canary" not in answer.body
    if not rest:
        assert client("DELETE", f"/v1/songs/{song}").status in (404, 405)


@pytest.mark.parametrize("name", ["..%2F..%2Fcanary%2Fmix.wav", "song.json", "tokens.log", ".lock", "%2e%2e"])
def test_no_name_of_a_file_leaves_the_song(client: Client, name: str) -> None:
    song = client.create()
    assert client("GET", f"/v1/songs/{song}/audio/{name}").status == 404
    assert client("GET", f"/v1/songs/{song}/text/{name}").status == 404
    assert client("GET", f"/page/{name}").status == 404


def test_links_out_of_the_folder_are_no_songs(client: Client) -> None:
    song, canary = client.create(), client.songs.parent / "canary"
    (client.songs / "link").symlink_to(canary, target_is_directory=True)
    (client.songs / song / "mix.wav").symlink_to(canary / "mix.wav")
    assert "link" not in ids(client)
    refused(client("GET", f"/v1/songs/{song}/audio/mix.wav"), 409, "damaged_file")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"model": "/etc/passwd"}, 422),
        ({"model": "../../stage1.gguf"}, 422),
        ({"quant": "../x"}, 422),
        ({"voice": "../../canary"}, 422),
        ({"ref": "/etc/passwd"}, 400),
        ({"reference": {"mix": "/etc/passwd"}}, 400),
        ({"cover": "/etc/passwd"}, 400),
        ({"output_dir": "/tmp"}, 400),
        ({"genre": ""}, 422),
        ({"genre": "a\0b"}, 422),
        ({"genre": 7}, 400),
        ({"lyrics": ""}, 422),
        ({"seed": -1}, 400),
        ({"seed": 2**64}, 400),
        ({"candidates": 17}, 400),
        ({"segment_seconds": 1e308}, 422),
        ({"name": "\ud800"}, 400),
        ({"name": "../../canary"}, 202),
    ],
)
def test_a_body_never_names_a_path_and_is_typed(
    client: Client, change: dict[str, object], status: int
) -> None:
    before = ids(client)
    answer = client("POST", "/v1/songs", {**BODY, **change})
    assert answer.status == status, answer.body
    if status != 202:
        assert answer.code
        assert ids(client) == before
    assert {path.name for path in client.songs.parent.iterdir()} == {"canary", "songs"}


@pytest.mark.parametrize("body", [b"[" * 500_000, b"{", b"\xff", b"null", b"[]", b'{"genre": 1e999}', b""])
def test_bombs_and_damaged_bodies_are_refused(client: Client, body: bytes) -> None:
    refused(client("POST", "/v1/songs", body), 400, "invalid_body")
    assert client("GET", "/health").status == 200


def test_large_bodies_are_refused_before_they_are_read(client: Client) -> None:
    assert client("POST", "/v1/check", json.dumps(BODY).ljust(MAX_JSON_BODY).encode()).status == 200
    for announced in (
        f"content-length: {MAX_JSON_BODY + 1}",
        f"content-length: {10**12}",
        "content-length: 99999999999999999999",
    ):
        answer = raw(client, f"content-type: application/json\r\n{announced}")
        assert b" 413 " in answer.split(b"\r\n")[0]
    limit = client("GET", "/v1/props").json["limits"]["upload_bytes"]
    answer = raw(client, f"content-type: multipart/form-data; boundary=x\r\ncontent-length: {limit + 1}")
    assert b" 413 " in answer.split(b"\r\n")[0]


def test_a_body_of_unknown_length_is_counted(client: Client) -> None:
    part = b"%x\r\n%b\r\n" % (1 << 18, b" " * (1 << 18))
    answer = raw(client, "content-type: application/json\r\ntransfer-encoding: chunked", part * 5)
    assert b" 413 " in answer.split(b"\r\n")[0]


def test_a_body_that_stalls_is_given_up(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "BODY_SECONDS", 0.05)
    answer = raw(client, "content-type: application/json\r\ncontent-length: 100", b"{")
    assert b" 408 " in answer.split(b"\r\n")[0]


def raw(client: Client, headers: str, body: bytes = b"") -> bytes:
    """The beginning of the answer to a POST whose body is not ended."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection:
        head = f"POST /v1/songs HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n\r\n"
        connection.sendall(head.encode() + body)
        return connection.recv(65536)


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer ", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}"]
)
def test_the_key_is_needed(locked: Client, given: str) -> None:
    for method, path in (
        ("GET", "/v1/songs"),
        ("POST", "/v1/songs"),
        ("GET", "/metrics"),
        ("GET", "/v1/props"),
    ):
        refused(locked(method, path, authorization=given), 401, "key_needed")
    assert locked("GET", "/health", authorization=given).status == 200
    assert locked("GET", "/", authorization=given).status == 200
    assert locked("GET", f"/v1/songs?key={KEY.replace(' ', '+')}", authorization=given).status == 401


def test_a_token_opens_one_file_for_a_while(locked: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    songs = [locked.create(), locked.create()]
    for song in songs:
        (locked.songs / song / "preview.wav").write_bytes(b"RIFF")
    url = locked.song(songs[0])["files"][0]["url"]
    assert KEY not in url
    assert locked("GET", f"/{url}", authorization="").body == b"RIFF"
    other = url.replace(songs[0], songs[1])
    refused(locked("GET", f"/{other}", authorization=""), 401, "key_needed")
    refused(locked("GET", f"/{url}0", authorization=""), 401, "key_needed")
    refused(locked("GET", f"/{url.replace('token=', 'token=9')}", authorization=""), 401, "key_needed")
    refused(
        locked("DELETE", f"/v1/songs/{songs[0]}?{url.partition('?')[2]}", authorization=""), 401, "key_needed"
    )
    monkeypatch.setattr(access, "TOKEN_SECONDS", -1)
    late = locked.song(songs[0])["files"][0]["url"]
    refused(locked("GET", f"/{late}", authorization=""), 401, "key_needed")


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    key = stored_key(tmp_path / "key")
    assert len(key) >= 32
    assert stored_key(tmp_path / "key") == key
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_answers_are_never_sniffed_or_framed(client: Client) -> None:
    song = client.create()
    (client.songs / song / "preview.wav").write_text("<svg onload=alert(1)>")
    answers = [client("GET", "/"), client("GET", "/v1/songs"), client("GET", "/nothing")]
    answers.append(client("GET", f"/v1/songs/{song}/audio/preview.wav"))
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    assert answers[-1].headers["content-type"] == "audio/wav"


def test_a_prefix_stands_before_every_route(tmp_path: Path) -> None:
    with served(tmp_path / "songs", IdleWorker, prefix="/yue") as client:
        assert client("GET", "/yue/v1/songs").status == 200
        answer = client("POST", "/yue/v1/songs", BODY)
        assert answer.headers["location"] == f"/yue/v1/songs/{answer.json['id']}"
        refused(client("GET", "/v1/songs"), 404, "not_found")
        refused(client("GET", "/yuev1/songs"), 404, "not_found")
        for method in ("GET", "HEAD"):  # without the slash the page would not find its files
            moved = client(method, "/yue?a=b%20c&d=/e")
            assert (moved.status, moved.headers["location"]) == (308, "/yue/?a=b%20c&d=/e")
        assert client("GET", "/yue").headers["location"] == "/yue/"
        assert b"<script" in client("GET", "/yue/").body
        assert client("GET", "/health").status == 200


@pytest.mark.parametrize(("method", "status"), [("PUT", 405), ("PATCH", 405), ("TRACE", 405)])
def test_other_methods_are_refused_as_json(client: Client, method: str, status: int) -> None:
    answer = client(method, "/v1/songs")
    refused(answer, status, "refused")
    assert answer.headers["allow"] == "GET, POST"
    assert client(method, "/v1/songs/one").headers["allow"] == "DELETE, GET"
    refused(client("GET", "/v1/nothing"), 404, "refused")
    refused(client("GET", "/v1/songs?limit=many"), 400, "refused")
