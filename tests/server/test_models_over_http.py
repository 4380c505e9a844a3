"""Models over HTTP: pulled, verified and removed by holders of the key; restarts and lost workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import Capture
from hub import Fault, Hub
from pulling import files, pull
from serving_client import Answer, Client, Idle, served

from yuegguf.models.resolve import ModelChoice

MODEL = "s2-general:F16"
Serve = Callable[..., Any]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Serves with a key and a folder of models."""

    def start(*start: Any, key: str = "key") -> Any:
        choice = ModelChoice(stage1="nano", models_dir=tmp_path / "models")
        return served(tmp_path / "songs", *start, key=key, choice=choice)

    return start


@pytest.fixture
def client(serve: Serve) -> Iterator[Client]:
    with serve() as found:
        yield found


def ended(client: Client, answer: Answer) -> Any:
    """The task on models that an answer has made, once it has ended."""
    assert answer.status == 202, answer.body
    where = answer.headers["location"]
    assert where == f"/v1/pulls/{answer.json['id']}"
    for _ in client.events(answer.json["id"], kind="pulls"):
        found = client("GET", where).json
        if found["status"] in ("succeeded", "failed", "canceled"):
            return found
    raise AssertionError("the events ended")


def installed(client: Client, model: str) -> Any:
    return next(row for row in client("GET", "/v1/models").json["data"] if row["id"] == model)


def test_a_model_is_pulled_verified_and_removed(
    client: Client, hub: Hub, tmp_path: Path, capsys: Capture
) -> None:
    assert pull(capsys, tmp_path / "alone", MODEL).code == 0
    found = ended(client, client("POST", f"/v1/models/{MODEL}/pull", {}))
    assert (found["status"], found["task"], found["error"]) == ("succeeded", "pull", None)
    (file,) = found["result"]["files"]
    assert (file["name"], file["file"], file["new"]) == (MODEL, "s2-general-F16.gguf", True)
    for name in files(tmp_path / "alone"):
        assert (tmp_path / "models" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    row = installed(client, "s2-general")
    assert (row["installed"], row["types"]) == (True, [{"type": "F16", "bytes": file["bytes"]}])
    again = ended(client, client("POST", "/v1/pulls", {"names": [MODEL]}))
    assert not again["result"]["files"][0]["new"]

    verified = ended(client, client("POST", "/v1/models/s2-general/verify"))
    row = {"file": "s2-general-F16.gguf", "ok": True, "state": "as installed"}
    assert verified["result"] == {"ok": True, "files": [row]}
    path = tmp_path / "models" / "s2-general-F16.gguf"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    damaged = ended(client, client("POST", "/v1/models/verify"))
    assert (damaged["status"], damaged["result"]["ok"]) == ("succeeded", False)
    assert "SHA-256" in damaged["result"]["files"][0]["state"]

    assert client("DELETE", "/v1/models/s2-general:Q8_0").status == 503
    gone = client("DELETE", f"/v1/models/{MODEL}")
    assert gone.json == {
        "id": MODEL, "object": "model", "deleted": True, "files": ["s2-general-F16.gguf"],
    }  # fmt: skip
    assert not path.exists()
    assert not installed(client, "s2-general")["installed"]
    assert client("POST", f"/v1/models/{MODEL}/verify").code == "model_not_found"
    assert len(client("GET", "/v1/pulls").json["data"]) == 4


def test_without_a_key_models_are_not_changed(serve: Serve, hub: Hub, tmp_path: Path) -> None:
    with serve(key="") as client:
        for method, path, body in (
            ("POST", "/v1/pulls", {"names": [MODEL]}),
            ("POST", f"/v1/models/{MODEL}/pull", {}),
            ("POST", "/v1/models/verify", None),
            ("POST", f"/v1/models/{MODEL}/verify", None),
            ("DELETE", f"/v1/models/{MODEL}", None),
        ):
            refused = client(method, path, body)
            assert (refused.status, refused.code) == (403, "key_needed")
            assert refused.json["error"]["hint"] == "start the server with --key"
        assert client("GET", "/v1/pulls").json["data"] == []
        assert client("GET", "/v1/models").status == 200
    with serve(key="key") as client:
        assert client("POST", "/v1/models/verify", authorization="Bearer other").status == 401
    assert hub.asked == []
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/pulls", {}, 422, "no model is named"),
        ("/v1/pulls", {"names": ["no-such"]}, 422, "no model called no-such"),
        ("/v1/pulls", {"names": ["en-cot:Q9"]}, 422, "Q9"),
        ("/v1/pulls", {"names": ["xcodec:F16"]}, 422, "xcodec has no types"),
        ("/v1/pulls", {"set": "none"}, 422, "none"),
        ("/v1/pulls", {"names": ["en-cot"], "kit": "/tmp/kit"}, 400, "kit"),
        ("/v1/pulls", {"names": "en-cot"}, 400, "names"),
        ("/v1/models/nano/pull", {}, 422, "nano is bundled"),
        ("/v1/models/en-cot/pull", {"names": ["zh-cot"]}, 422, "the model is in the path"),
        ("/v1/models/..%2F..%2Fcanary.gguf/verify", None, 404, "nothing here"),
        ("/v1/models/canary.gguf/verify", None, 422, "no model called canary.gguf"),
        ("/v1/models/en-cot/verify", None, 503, "is not installed"),
    ],
)
def test_bad_requests_do_nothing(client: Client, path: str, body: Any, status: int, words: str) -> None:
    (client.songs.parent / "canary.gguf").write_bytes(b"canary")
    answer = client("POST", path, body)
    assert (answer.status, words in answer.json["error"]["message"]) == (status, True), answer.body
    assert client("GET", "/v1/pulls").json["data"] == []
    for name in ("canary.gguf", "..%2Fcanary.gguf"):
        assert client("DELETE", f"/v1/models/{name}").status in (404, 422)
    assert (client.songs.parent / "canary.gguf").read_bytes() == b"canary"


def test_a_pull_that_fails_goes_on_with_the_next(client: Client, hub: Hub, tmp_path: Path) -> None:
    hub.faults.append(Fault("cdn", "404", times=1))
    failed = ended(client, client("POST", f"/v1/models/{MODEL}/pull", {}))
    assert (failed["status"], failed["error"]["code"]) == ("failed", "model_not_found")
    done = ended(client, client("POST", f"/v1/models/{MODEL}/pull", {}))
    assert done["status"] == "succeeded"
    assert files(tmp_path / "models") == ["models.lock.json", "s2-general-F16.gguf"]


def test_a_pull_goes_on_after_a_restart_and_a_lost_worker(serve: Serve, hub: Hub) -> None:
    idle = Idle()
    with serve(idle) as client:
        first = client("POST", f"/v1/models/{MODEL}/pull", {}, idempotency_key="one")
        second = client("POST", "/v1/models/verify", idempotency_key="two")
        while not idle.started or not idle.started[0].messages:
            client("GET", "/v1/pulls")
        assert client("POST", f"/v1/pulls/{second.json['id']}/cancel").json["status"] == "canceled"
        idle.started[0].say("died", code=-9)
        while len(idle.started) < 2 or not idle.started[1].messages:
            client("GET", "/v1/pulls")
        assert idle.started[0].messages == idle.started[1].messages
        again = client("POST", f"/v1/models/{MODEL}/pull", {}, idempotency_key="one")
        assert again.json["id"] == first.json["id"]
        assert "killed by signal 9" in again.json["warnings"][0]
    with serve() as client:
        assert ended(client, first)["status"] == "succeeded"
        assert installed(client, "s2-general")["installed"]


def test_kinds_of_tasks_are_apart(client: Client) -> None:
    task = client.upload("/v1/codec/decode", {}, {"vtrack": b"x"})
    assert task.status == 409
    verified = ended(client, client("POST", "/v1/models/verify"))
    assert verified["result"] == {"ok": True, "files": []}
    assert client.task(verified["id"])["task"] == "verify"
    assert client("GET", "/v1/pulls/other").code == "no_such_task"
