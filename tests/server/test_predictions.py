"""Replicate's API: its own client and plain requests, with cog-yue's inputs and webhooks."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import song_bytes
from serving_client import BODY, Client, IdleWorker, served
from webhook_receiver import receiver

from yuegguf.models.resolve import ModelChoice
from yuegguf.server import cog_input, webhooks
from yuegguf.server.cog_input import PredictionInput, chosen_models, song_input
from yuegguf.server.waiting import preferred_seconds
from yuegguf.server.worker import WorkerFacts
from yuegguf.server.worker_process import Deliver

INPUT = {"genre_description": "pop", "lyrics": "[verse]\nla la\n[chorus]\nlo lo", "seed": 5}
SHORT = {**INPUT, "num_segments": 1, "max_new_tokens": 500}
KEY = "a key of the test"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with served(tmp_path / "songs", compat=("cog",), key=KEY, webhook_hosts=("127.0.0.1",)) as found:
        yield found


class Workers:
    """Idle workers, and the newest of those that generate songs."""

    def __init__(self) -> None:
        self.started: list[IdleWorker] = []

    def __call__(self, facts: WorkerFacts, deliver: Deliver) -> IdleWorker:
        self.started.append(IdleWorker(facts, deliver))
        return self.started[-1]

    def say(self, song: str, event: str, **facts: Any) -> None:
        """Let the worker that has a song say something about it."""
        worker = next(w for w in self.started if any(m.get("song") == song for m in w.messages))
        worker.say(event, song=song, **facts)


@contextmanager
def replicate_client(client: Client, token: str) -> Iterator[Any]:
    replicate = pytest.importorskip("replicate", reason="the client of Replicate is not installed")
    api = replicate.Client(api_token=token, base_url=f"http://127.0.0.1:{client.port}")
    api.poll_interval = 0.05
    with api._client:
        yield api


def test_the_client_of_replicate_works(client: Client) -> None:
    with replicate_client(client, KEY) as api:
        _use(client, api)


def _use(client: Client, api: Any) -> None:
    output = api.run("fofr/yue:0123", input=SHORT)
    names = ["mix.wav", "instrumental.wav", "vocals.wav"]
    assert [url.partition("?")[0].rpartition("/")[2] for url in output] == names
    song = output[0].split("/songs/")[1].partition("/")[0]
    with urllib.request.urlopen(output[0]) as answer:  # the link holds a token
        assert answer.read() == song_bytes(client.songs / song)["mix.wav"]
    again = api.predictions.get(song)
    assert (again.status, again.version, again.error) == ("succeeded", "0123", None)
    assert again.input == {
        **SHORT,
        "quantization_stage1": None,
        "quantization_stage2": None,
    }
    assert again.metrics["predict_time"] > 0
    by_name = api.run("fofr/yue", input=SHORT, wait=False)
    assert len(by_name) == 3
    with pytest.raises(Exception, match=r"detail: .*num_segments"):
        api.predictions.create(version="0123", input={**INPUT, "num_segments": 11})


def test_a_prediction_is_cancelled_by_the_client(tmp_path: Path) -> None:
    with (
        served(tmp_path / "songs", IdleWorker, compat=("cog",)) as client,
        replicate_client(client, "none is needed") as api,
    ):
        prediction = api.predictions.create(version="0123", input=INPUT)
        assert prediction.status in ("starting", "processing")
        assert prediction.urls["get"] == f"http://127.0.0.1:{client.port}/v1/predictions/{prediction.id}"
        client.wait(prediction.id, "processing")
        prediction.cancel()
        client.wait(prediction.id, "canceled")
        prediction.reload()
        assert (prediction.status, prediction.output) == ("canceled", None)


def test_inputs_are_those_of_the_song() -> None:
    text = {"genre_description": "pop", "lyrics": "[verse]\nla"}
    song = song_input(PredictionInput(**text, num_segments=3, max_new_tokens=2500))
    assert (song.genre, song.lyrics, song.sections, song.segment_seconds) == ("pop", "[verse]\nla", "3", 25.0)
    assert song_input(PredictionInput(**text)).segment_seconds == 15.0


def test_types_are_those_that_are_installed(tmp_path: Path) -> None:
    for name in ("en-cot-Q4_K_M", "en-cot-Q8_0", "s2-general-Q8_0"):
        (tmp_path / f"{name}.gguf").touch()
    own = ModelChoice(models_dir=tmp_path)
    given = PredictionInput(
        genre_description="a", lyrics="b", quantization_stage1="nf4", quantization_stage2="int8"
    )
    stage2 = str(tmp_path / "s2-general-Q8_0.gguf")
    assert chosen_models(given, own) == (replace(own, stage1="en-cot", quant="Q4_K_M", stage2=stage2), [])
    missing = PredictionInput(genre_description="a", lyrics="b", quantization_stage1="bf16")
    choice, notices = chosen_models(missing, own)
    assert choice == own
    assert notices == ["quantization_stage1=bf16: no BF16 or F16 is installed; the server's own is used"]
    assert chosen_models(given, ModelChoice(stage1="nano", models_dir=tmp_path))[0].quant is None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"input": {}}, 400),
        ({"input": {**INPUT, "max_new_tokens": 499}}, 400),
        ({"input": {**INPUT, "quantization_stage1": "fp4"}}, 400),
        ({"input": {**INPUT, "image": "/etc/passwd"}}, 400),
        ({"input": {**INPUT, "genre_description": ""}}, 422),
        ({"input": INPUT, "webhook_events_filter": ["all"]}, 400),
        ({"input": INPUT, "webhook": "ftp://example.com/"}, 422),
        ({"input": INPUT, "webhook": "http://10.0.0.1/"}, 422),
    ],
)
def test_wrong_predictions_are_refused_as_the_client_shows_them(
    client: Client, body: object, status: int
) -> None:
    answer = client("POST", "/predictions", body)
    assert (answer.status, answer.json["status"]) == (status, status)
    assert answer.json["detail"].startswith(answer.json["error"]["message"])
    assert client("GET", "/v1/songs").json["data"] == []


def test_a_prediction_is_followed_by_plain_requests(client: Client) -> None:
    made = client("POST", "/predictions", {"input": SHORT}, prefer="wait=30")
    assert made.status == 201
    found = client("GET", f"/predictions/{made.json['id']}").json
    assert found["status"] == "succeeded"
    assert client("GET", "/predictions/nothing").code == "no_such_prediction"
    song = client.create()
    assert client("GET", f"/predictions/{song}").code == "no_such_prediction"
    client("DELETE", f"/v1/songs/{made.json['id']}")
    assert client("GET", f"/predictions/{made.json['id']}").status == 404
    assert client("GET", "/predictions/x", authorization="").code == "key_needed"
    foreign = client("POST", "/predictions", {"input": SHORT}, origin="http://evil.example")
    assert foreign.code == "cross_site"


def test_a_prediction_is_made_once_for_a_key(tmp_path: Path) -> None:
    with served(tmp_path / "songs", IdleWorker, compat=("cog",)) as client:
        made = client("POST", "/v1/predictions", {"input": SHORT}, idempotency_key="one")
        for path in ("/predictions", "/v1/predictions"):
            again = client("POST", path, {"input": SHORT}, idempotency_key="one")
            assert (again.status, again.json["id"]) == (201, made.json["id"])
        for path, asked in (
            ("/predictions", {"input": INPUT}),
            ("/v1/models/fofr/yue/predictions", {"input": SHORT}),
            ("/v1/songs", BODY),
        ):
            refused = client("POST", path, asked, idempotency_key="one")
            assert (refused.status, refused.code) == (409, "idempotency_key_used")
        assert [song["id"] for song in client("GET", "/v1/songs").json["data"]] == [made.json["id"]]
        other = client("POST", "/v1/predictions", {"input": SHORT})
        assert other.json["id"] != made.json["id"]


def test_without_the_option_there_are_no_predictions(tmp_path: Path) -> None:
    with served(tmp_path / "songs", IdleWorker) as client:
        assert client("POST", "/predictions", {"input": SHORT}).status == 404
        assert client("POST", "/v1/predictions", {"input": SHORT}).status == 404
    assert not (tmp_path / "songs" / "predictions.sqlite").exists()


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, 0), ("", 0), ("respond-async", 0), ("wait", 60), ("wait=7", 7), ("wait=700", 60),
        ("Wait = 3", 3), ("respond-async, wait=2", 2), ("waiting", 0), ("wait=-1", 0), ("wait=x", 0),
    ],
)  # fmt: skip
def test_a_preference_to_wait_is_read(prefer: str | None, seconds: float) -> None:
    assert preferred_seconds(prefer) == seconds


def test_a_wait_that_ends_before_the_song_is_starting(tmp_path: Path) -> None:
    with served(tmp_path / "songs", IdleWorker, compat=("cog",)) as client:
        waited = client("POST", "/predictions", {"input": SHORT}, prefer="wait=1").json
        assert waited["status"] == "starting"  # else clients take "processing" for the end of it
        client.wait(waited["id"], "processing")
        assert client("GET", f"/predictions/{waited['id']}").json["status"] == "processing"


def test_a_webhook_is_told_of_every_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "RETRY_SECONDS", (0.0,))
    workers = Workers()
    with (
        receiver() as hook,
        served(tmp_path / "songs", workers, compat=("cog",), webhook_hosts=("127.0.0.1",)) as client,
    ):
        events = ["start", "logs", "completed"]
        body = {"input": INPUT, "webhook": f"{hook.url}/done?id=7", "webhook_events_filter": events}
        song = client("POST", "/v1/predictions", body).json["id"]
        started = hook.next()
        assert (started["id"], started["status"], started["input"]["seed"]) == (song, "processing", 5)
        facts = {"phase": "draft", "done": 0.31, "note": "section 1 of 2"}
        workers.say(song, "progress", facts=facts)
        assert hook.next()["logs"].endswith("31%|██████              | 31/100 section 1 of 2")
        hook.statuses = [503]  # it is tried again
        workers.say(song, "ended", outcome="failed", error={"message": "no memory", "hint": "wait"})
        tries = [hook.next(), hook.next()]
        assert [each["status"] for each in tries] == ["failed", "failed"]
        assert tries[0]["error"] == "no memory; wait"
        assert hook.headers[0]["host"] == hook.url.removeprefix("http://")


def test_an_end_that_was_not_delivered_is_told_by_the_next_server(tmp_path: Path) -> None:
    settings = {"compat": ("cog",), "webhook_hosts": ("127.0.0.1",)}
    workers = Workers()
    with receiver() as hook:
        with served(tmp_path / "songs", workers, **settings) as client:
            hook.statuses = [500]
            song = client("POST", "/v1/predictions", {"input": INPUT, "webhook": hook.url}).json["id"]
            client.wait(song, "processing")
            workers.say(song, "ended", outcome="failed", error={"message": "no"})
            assert hook.next()["status"] == "failed"
        with served(tmp_path / "songs", Workers(), **settings):
            assert hook.next()["id"] == song
        with served(tmp_path / "songs", Workers(), **settings) as client:
            pass
        assert hook.bodies.empty()


def test_a_webhook_that_is_refused_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "RETRY_SECONDS", (0.0, 0.0))
    workers = Workers()
    with (
        receiver() as hook,
        served(tmp_path / "songs", workers, compat=("cog",), webhook_hosts=("127.0.0.1",)) as client,
    ):
        for statuses, tries in (([404], 1), ([500, 500, 500, 200], 3)):
            hook.statuses = list(statuses)
            song = client("POST", "/v1/predictions", {"input": INPUT, "webhook": hook.url}).json["id"]
            client.wait(song, "processing")
            workers.say(song, "ended", outcome="failed", error={"message": "no"})
            for _ in range(tries):
                assert hook.next()["id"] == song
            sentence = f"the webhook to 127.0.0.1 was not delivered: answered with status {statuses[0]}"
            while client.song(song)["warnings"] != [sentence]:
                pass
            assert hook.bodies.empty()


def test_a_plain_song_tells_nobody(tmp_path: Path) -> None:
    assert cog_input.DEFAULT_EVENTS == ("output", "completed")
    with receiver() as hook, served(tmp_path / "songs", Workers(), compat=("cog",)) as client:
        assert client("POST", "/v1/songs", {**BODY, "webhook": hook.url}).status == 400
        assert hook.bodies.empty()
