"""The nodes for ComfyUI with a running `yuegguf serve`: equal songs, made once, cancelled and resumed."""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from comfy_stand_in import InterruptProcessingException, Pack, audio
from helpers import Run
from serving_client import Client, IdleWorker, served

from yuegguf.song.voices import Voice, save_voice

SONG = {"tags": "pop", "lyrics": "[verse]\nla la\n[chorus]\nlo lo", "segment_seconds": 1.0, "seed": 5}
SAME = ("-g", "pop", "--lyrics", SONG["lyrics"], "--segment-seconds", 1, "--seed", 5, "-m", "nano")
FILES = ("mix.wav", "vocals.wav", "instrumental.wav")
pytestmark = pytest.mark.usefixtures("no_models")


@pytest.fixture(autouse=True)
def quick_polls(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(f"{pack.module.__name__}.server_library")
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with served(tmp_path / "songs") as found:
        yield found


def node(client: Client, **others: object) -> dict[str, Any]:
    address = f"http://127.0.0.1:{client.port}/"
    return {**SONG, "model": "nano", "quant": "", "server": address, **others}


def same(outputs: Any, folder: Path) -> bool:
    """Whether the three outputs are the files of a song, to the last bit."""
    expected = [soundfile.read(folder / name, dtype="int16")[0] for name in FILES]
    given = [(out["waveform"].numpy()[0, 0] * 2**15).astype(np.int64) for out in outputs[:3]]
    return all(np.array_equal(*pair) for pair in zip(given, expected, strict=True))


def ids(client: Client) -> list[str]:
    return [song["id"] for song in client("GET", "/v1/songs").json["data"]]


@contextmanager
def answering(status: int, body: bytes = b"", **headers: str) -> Iterator[tuple[str, list[Any]]]:
    """The address of a server that gives one answer to everything, and the headers that it was sent."""
    seen: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


def test_a_song_is_that_of_run_and_made_once(pack: Pack, client: Client, sung: Run) -> None:
    outputs = pack.run("YueSong", **node(client))
    assert same(outputs, sung(*SAME))
    assert pack.run("YueSong", **node(client))[3] == outputs[3]
    assert ids(client) == [outputs[3]]
    assert not (pack.comfy.folder / "output").exists()


def test_the_servers_address_may_come_from_the_environment(
    pack: Pack, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUEGGUF_SERVER", f"http://127.0.0.1:{client.port}")
    song = pack.run("YueSong", **node(client, server=""))[3]
    assert ids(client) == [song]


def test_a_cancelled_song_goes_on_with_the_same_inputs(
    pack: Pack, client: Client, sung: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = pack.running.Link.report

    def report(link: Any, done: float) -> None:
        plain(link, done)
        if not link.stop.is_set():
            pack.comfy.interrupted = True
            assert link.stop.wait(15)

    with monkeypatch.context() as patch:
        patch.setattr(pack.running.Link, "report", report)
        with pytest.raises(InterruptProcessingException):
            pack.run("YueSong", **node(client))
    (song,) = ids(client)
    assert client.song(song)["status"] in ("canceled", "succeeded")
    outputs = pack.run("YueSong", **node(client))
    assert outputs[3] == song
    assert same(outputs, sung(*SAME))


def test_a_song_that_waits_is_cancelled(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = pack.running.Link.report

    def report(link: Any, done: float) -> None:
        plain(link, done)
        pack.comfy.interrupted = True

    monkeypatch.setattr(pack.running.Link, "report", report)
    with served(tmp_path / "songs", IdleWorker) as client:
        with pytest.raises(InterruptProcessingException):
            pack.run("YueSong", **node(client))
        (song,) = ids(client)
        assert client.song(song)["status"] == "canceled"


def test_a_draft_is_refined_and_extended_once(pack: Pack, client: Client, sung: Run) -> None:
    draft = pack.run("YueDraft", **node(client))
    assert client.song(draft[3])["draft"]
    server = node(client)["server"]
    outputs = pack.run("YueRefine", song=draft[3], server=server)
    assert same(outputs, sung(*SAME))
    assert same(pack.run("YueRefine", song=draft[3], server=server), sung(*SAME))
    longer = pack.run("YueExtend", song=draft[3], seed=8, retake=2, server=server)
    assert pack.run("YueExtend", song=draft[3], seed=8, retake=2, server=server)[3] == longer[3]
    assert sorted(ids(client)) == sorted([draft[3], longer[3]])


def test_a_recorded_stem_travels(pack: Pack, client: Client) -> None:
    given = {"tags": "folk", "lyrics": "", "seed": 3, "model": "nano", "offset": 0.5}
    stem = {"recording": audio(1.5), "recording_is": "vocal"}
    here = pack.run("YueStems", **stem, **given)
    there = pack.run("YueStems", **stem, **given, server=node(client)["server"])
    assert same(there, pack.comfy.folder / "output/yuegguf" / here[3])


@pytest.mark.parametrize("tracks", ["instrumental only", "vocals only"])
def test_single_tracks_are_the_same_on_both_ways(pack: Pack, client: Client, tracks: str) -> None:
    changed = {"tracks": tracks, "lyrics": "" if tracks == "instrumental only" else SONG["lyrics"]}
    here = pack.run("YueSong", **{**node(client, **changed), "server": ""})
    there = pack.run("YueSong", **node(client, **changed))
    assert same(there, pack.comfy.folder / "output/yuegguf" / here[3])


def test_a_saved_voice_is_known_at_the_server(
    pack: Pack, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUEGGUF_VOICES_DIR", str(tmp_path / "voices"))
    (anna,) = pack.run("YueVoice", name="anna")
    with pytest.raises(pack.http_client.ServerError, match="there is no such voice"):
        pack.run("YueSong", **node(client), voice=anna)
    songs = []
    for date in ("2026-01-02", "2026-01-02", "2026-01-03"):
        voice = Voice("anna", np.zeros(50, np.int16), False, ("a.wav",), 0, "c0dec", date)
        save_voice(voice, replace=True)
        songs.append(pack.run("YueSong", **node(client), voice=anna)[3])
    assert songs[0] == songs[1] != songs[2]


def test_recordings_travel(pack: Pack, client: Client) -> None:
    (voice,) = pack.run("YueVoice", recording=audio(2.0), start=0.5, end=1.5)
    here = pack.run("YueSong", **{**node(client), "server": ""}, voice=voice)
    there = pack.run("YueSong", **node(client), voice=voice)
    assert same(there, pack.comfy.folder / "output/yuegguf" / here[3])


def test_lyrics_are_checked_as_here(pack: Pack, client: Client) -> None:
    words = "[verse]\n" + "la " * 40 + "\n[chorus]\nla la\n"
    given = {"tags": "pop", "lyrics": words, "segment_seconds": 2.0}
    reports = [pack.run("YueLyricsCheck", **given, server=at)[1] for at in ("", node(client)["server"])]
    lines = [report.splitlines()[:2] for report in reports]
    assert lines[0] == lines[1]


def test_an_error_is_the_servers_sentence(pack: Pack, client: Client) -> None:
    with pytest.raises(pack.http_client.ServerError, match="the genre tags are empty"):
        pack.run("YueSong", **node(client, tags=" "))
    with pytest.raises(pack.http_client.ServerError, match="there is no such song"):
        pack.run("YueRefine", song="gone-1", server=node(client)["server"])
    assert ids(client) == []


def test_the_key_is_needed_and_read_from_the_link_or_the_environment(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path / "songs", key="secret" * 6) as client:
        check = {"tags": "pop", "lyrics": "[verse]\nla\n"}
        server = node(client)["server"]
        with pytest.raises(pack.http_client.ServerError):
            pack.run("YueLyricsCheck", **check, server=server)
        pack.run("YueLyricsCheck", **check, server=f"{server}#key={'secret' * 6}")
        monkeypatch.setenv("YUEGGUF_SERVER_KEY", "secret" * 6)
        pack.run("YueLyricsCheck", **check, server=server)


def test_the_key_follows_no_redirect(pack: Pack) -> None:
    with (
        answering(200, b"{}") as (elsewhere, seen),
        answering(307, location=f"{elsewhere}/v1/models") as (address, asked),
    ):
        with pytest.raises(pack.http_client.ServerError, match="answers 307"):
            pack.run("YueSong", **SONG, server=f"{address}/#key=secret")
        assert [headers["authorization"] for headers in asked] == ["Bearer secret"]
        assert seen == []


@pytest.mark.parametrize("body", [b"<html>", b"[]", json.dumps({"data": 3}).encode()])
def test_another_server_is_said(pack: Pack, body: bytes) -> None:
    with (
        answering(200, body) as (address, _),
        pytest.raises(pack.http_client.ServerError, match="is no yuegguf serve"),
    ):
        pack.run("YueSong", **SONG, server=address)


def test_a_server_that_does_not_answer_is_said(pack: Pack) -> None:
    with answering(200) as (address, _):
        pass
    with pytest.raises(pack.http_client.ServerError, match="does not answer"):
        pack.run("YueSong", **SONG, server=address)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8451", "ftp://a/", "http://", "http://a:x/", "http://u:p@a/", "http://a/?key=b"]
)
def test_an_address_that_is_none_is_refused(pack: Pack, address: str) -> None:
    with pytest.raises(pack.http_client.ServerError, match="address is not one"):
        pack.run("YueSong", **SONG, server=address)


@pytest.mark.parametrize(
    ("address", "key"),
    [
        (f"http://{'a' * 70}.b/", ""),
        ("http://127.0.0.1:1/", "k€y"),
        ("http://127.0.0.1:1/", "a\nb"),
        ("http://127.0.0.1:1/ä", ""),
    ],
)
def test_an_address_or_a_key_that_cannot_be_sent_is_refused(pack: Pack, address: str, key: str) -> None:
    with pytest.raises(pack.http_client.ServerError, match="address or its key cannot be sent"):
        pack.http_client.Server.at(address, key).get("v1/models")


def test_an_answer_that_is_nested_too_deep_is_refused(pack: Pack) -> None:
    for status, words in ((200, "the answer is no JSON"), (400, "so it is no yuegguf serve")):
        with (
            answering(status, b"[" * 100_000) as (address, _),
            pytest.raises(pack.http_client.ServerError, match=words),
        ):
            pack.http_client.Server.at(address).get("v1/models")


def test_a_lost_connection_is_tried_again(
    pack: Pack, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, error = pack.server_library.ServerLibrary, pack.http_client.ServerError
    plain, lost = library._get, [1, 1, 1]

    def get(self: Any, song: str) -> Any:
        if lost:
            lost.pop()
            raise error("does not answer")
        return plain(self, song)

    monkeypatch.setattr(library, "_get", get)
    song = pack.run("YueSong", **node(client))[3]
    assert lost == []
    assert client.song(song)["status"] == "succeeded"


def test_the_models_are_asked_for_once_before_a_node_is_executed(pack: Pack) -> None:
    found = []
    for size in (1, 1, 2):
        models = [{"id": "en-cot", "installed": True, "role": "stage1", "types": [{"bytes": size}]}]
        with answering(200, json.dumps({"data": models}).encode()) as (server, seen):
            found.append(pack.nodes.YueSong.fingerprint_inputs(server=server, model="", quant=""))
        assert len(seen) == 1
    assert found[0] == found[1] != found[2]
