"""The queue: full, cancelled, reordered, restarted, killed; nothing is lost and nothing is made twice."""

from __future__ import annotations

import errno
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from cheap import slowed
from cheap_serve import Processes
from helpers import FAST, TEXT, Run, song_bytes
from serving_client import BODY, WAIT, Client, Idle, copied_song, served

from yuegguf.errors import StorageError
from yuegguf.files.atomic import locked_folder
from yuegguf.server.jobs import JobStore, State
from yuegguf.server.settings import QUEUE_FILE
from yuegguf.server.worker import WorkerFacts
from yuegguf.server.worker_process import Deliver, WorkerLink

LONG = {**BODY, "segment_seconds": 20, "sections": "1"}
"""A song that takes a while."""


@pytest.fixture
def idle() -> Idle:
    return Idle()


def states(client: Client) -> dict[str, str]:
    return {each["id"]: each["status"] for each in client("GET", "/v1/songs").json["data"]}


def test_a_full_queue_says_when_to_come_again(tmp_path: Path, idle: Idle) -> None:
    with served(tmp_path / "songs", idle, max_queue=2) as client:
        first = client.create()
        client.wait(first, "processing")
        waiting = [client.create(), client.create()]
        full = client("POST", "/v1/songs", BODY)
        assert (full.status, full.code) == (429, "queue_full")
        assert int(full.headers["retry-after"]) > 0
        assert len(list((tmp_path / "songs").glob("*/song.json"))) == 3
        assert [client.song(song)["queue"] for song in waiting] == [{"position": 0}, {"position": 1}]
        client("POST", f"/v1/songs/{waiting[1]}/move", {"position": 0})
        assert [client.song(song)["queue"] for song in waiting] == [{"position": 1}, {"position": 0}]
        assert client("POST", f"/v1/songs/{first}/move", {"position": 0}).code == "not_waiting"
        cancelled = client("POST", f"/v1/songs/{waiting[0]}/cancel").json
        assert (cancelled["status"], cancelled["resumable"], cancelled["error"]) == ("canceled", True, None)
        assert client("POST", "/v1/songs", BODY).status == 202
        assert client("POST", f"/v1/songs/{first}/resume").code == "in_work"
        assert client("DELETE", f"/v1/songs/{first}").code == "in_work"


def test_the_same_key_is_the_same_song(tmp_path: Path, idle: Idle) -> None:
    with served(tmp_path / "songs", idle) as client:
        first = client.create(idempotency_key="one")
        answers: list[str] = []

        def create(key: str) -> None:
            answers.append(client.create(idempotency_key=key))

        keys = ("one", "two", "two", "two")
        threads = [threading.Thread(target=create, args=(key,)) for key in keys]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        other = client("POST", "/v1/songs", {**BODY, "seed": 6}, idempotency_key="one")
        assert (other.status, other.code) == (409, "idempotency_key_used")
    with served(tmp_path / "songs", idle) as client:
        assert client.create(idempotency_key="one") == first
        assert len(states(client)) == len({first, *answers}) == 2


def test_a_cancelled_song_goes_on_with_the_same_bytes(tmp_path: Path, sung: Run, pace: Path) -> None:
    with served(tmp_path / "songs") as client:
        with slowed(pace):
            song = client.create(LONG)
            events = client.events(song)
            next(each for each in events if each["event"] == "progress")
            client("POST", f"/v1/songs/{song}/cancel")
            done = next(each for each in events if each["event"] == "done")
        events.close()
        found = client.song(song)
        assert done["data"]["status"] == found["status"] == "canceled"
        assert client("POST", f"/v1/songs/{song}/resume").status == 202
        client.wait(song, "succeeded")
        alone = sung(*TEXT, *FAST[2:], "--segment-seconds", 20, "--sections", 1)
        assert song_bytes(tmp_path / "songs" / song) == song_bytes(alone)


def test_a_song_at_its_end_stays_as_it_is(tmp_path: Path, sung: Run) -> None:
    copied_song(sung(*TEXT, *FAST, "--draft"), tmp_path / "songs" / "draft")
    with served(tmp_path / "songs") as client:
        song = client.create()
        ended = client.wait(song, "succeeded")
        for route in ("resume", "refine"):
            assert client("POST", f"/v1/songs/{song}/{route}").json["started_at"] == ended["started_at"]
        deleted = tmp_path / "songs" / song / "lyrics.lrc"
        deleted.unlink()
        client("POST", f"/v1/songs/{song}/resume")
        client.wait(song, "succeeded")
        assert deleted.is_file()
        takes = client.create({**BODY, "candidates": 2})
        client.wait(takes, "succeeded")
        for drafted in ("draft", takes):
            assert client("POST", f"/v1/songs/{drafted}/resume").json["status"] == "succeeded"
        assert client("POST", "/v1/songs/draft/refine").json["status"] in ("queued", "processing")
        client.wait("draft", "succeeded")
        assert not client.song("draft")["draft"]
        client("POST", f"/v1/songs/{takes}/keep", {"takes": [2]})
        ended = client.wait(f"{takes}:take-2", "succeeded")
        (again,) = client("POST", f"/v1/songs/{takes}/keep", {"takes": [2]}).json["data"]
        assert again["completed_at"] == ended["completed_at"] is not None


def test_a_song_that_is_cancelled_while_it_waits_has_ended_then(tmp_path: Path, idle: Idle) -> None:
    with served(tmp_path / "songs", idle) as client:
        client.wait(client.create(), "processing")
        waiting = client.create()
        cancelled = client("POST", f"/v1/songs/{waiting}/cancel").json
        assert cancelled["status"] == "canceled"
        assert cancelled["completed_at"] is not None


def test_a_song_that_is_deleted_as_it_begins_holds_up_no_other(
    tmp_path: Path, idle: Idle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder goes after it was chosen, before the worker gets it."""
    real, gone = JobStore.take, list[str]()

    def deleted_first(store: JobStore, song: str, before: State, after: State, **changes: float) -> bool:
        if after == "processing" and not gone:
            gone.append(song)
            store.delete([song])
            shutil.rmtree(tmp_path / "songs" / song)
        return real(store, song, before, after, **changes)  # type: ignore[arg-type]

    monkeypatch.setattr(JobStore, "take", deleted_first)
    with served(tmp_path / "songs", idle) as client:
        client("POST", "/v1/songs", BODY)  # it may be gone before the answer
        client.wait(client.create(), "processing")
        assert len(gone) == 1


def test_songs_go_on_after_a_restart(tmp_path: Path, idle: Idle, sung: Run) -> None:
    with served(tmp_path / "songs", idle) as client:
        songs = [client.create() for _ in range(2)]
        client.wait(songs[0], "processing")
    with served(tmp_path / "songs", parallel=2) as client:
        for song in songs:
            client.wait(song, "succeeded")
            assert song_bytes(tmp_path / "songs" / song) == song_bytes(sung(*TEXT, *FAST))


def test_a_song_whose_folder_never_appeared_was_never_there(tmp_path: Path, idle: Idle) -> None:
    (tmp_path / "songs").mkdir()
    store = JobStore(tmp_path / "songs" / QUEUE_FILE)
    store.insert("gone-123456", idempotency="key")
    store.close()
    with served(tmp_path / "songs", idle) as client:
        assert states(client) == {}
        assert client.create(idempotency_key="key") != "gone-123456"


def test_a_second_server_of_the_folder_is_refused(tmp_path: Path, idle: Idle) -> None:
    with served(tmp_path / "songs", idle) as client:
        song = client.create()
        with pytest.raises(StorageError, match="served by another"), served(tmp_path / "songs", idle):
            pass
        assert client.song(song)["id"] == song


def test_a_song_that_another_command_works_on_waits(tmp_path: Path, idle: Idle) -> None:
    with served(tmp_path / "songs", idle) as client:
        first = client.create()
        client.wait(first, "processing")
        second = client.create()
        with locked_folder(tmp_path / "songs" / second):
            idle.started[-1].say("ended", song=first, outcome="failed", error={"message": "no"})
            failed = client.wait(first, "failed")
            assert failed["error"] == {"message": "no"}
            assert client.song(second)["status"] == "queued"
        client.wait(second, "processing")
        idle.started[-1].say("ended", song=second, outcome="busy", error={"message": "busy"})
        while [m["song"] for m in idle.started[-1].messages] != [first, second, second]:
            client.song(second)  # it is given to the worker again
        assert client.song(second)["error"] is None


def test_health_counts_songs_and_no_work_on_models(tmp_path: Path, idle: Idle) -> None:
    with served(tmp_path / "songs", idle, parallel=2, key="key") as client:
        check = client("POST", "/v1/models/verify").json["id"]
        while client.task(check)["status"] != "processing":
            pass
        health = client("GET", "/health").json
        assert (health["worker"], health["processing"], health["queue"]) == ("busy", 0, 0)
        songs = [client.create() for _ in range(3)]
        for song in songs[:2]:
            client.wait(song, "processing")
        health = client("GET", "/health").json
        assert (health["worker"], health["processing"], health["queue"]) == ("busy", 2, 1)


def test_a_worker_that_ends_twice_sets_its_song_aside(tmp_path: Path, idle: Idle) -> None:
    with served(tmp_path / "songs", idle, parallel=2) as client:
        songs = [client.create() for _ in range(3)]
        for song in songs[:2]:
            client.wait(song, "processing")
        idle.started[0].say("died", code=-9)
        for song, others in ((songs[0], songs[1:]), (songs[1], songs[2:])):
            while [m["song"] for m in idle.started[-1].messages[-1:]] != [song]:
                client.song(song)
            assert {client.song(other)["status"] for other in others} == {"queued"}  # suspects run alone
            assert "killed by signal 9" in client.song(song)["warnings"][0]
            idle.started[-1].say("died", code=-9)
            failed = client.wait(song, "failed")
            assert "killed by signal 9 while it worked on this song" in failed["error"]["message"]
            assert failed["resumable"]
        client.wait(songs[2], "processing")


def test_why_llama_cpp_gave_up_is_the_error_of_its_song(tmp_path: Path, idle: Idle) -> None:
    abort = {"message": "the RPC server is gone", "hint": "start it again"}
    with served(tmp_path / "songs", idle) as client:
        song = client.create()
        for _ in range(2):
            client.wait(song, "processing")
            while [m["song"] for m in idle.started[-1].messages[-1:]] != [song]:
                client.song(song)
            idle.started[-1].say("gave up", error=abort)
            idle.started[-1].say("died", code=7)
            while not client.song(song)["warnings"]:
                pass
        failed = client.wait(song, "failed")
        sentence = "the RPC server is gone; the song goes on in a new worker process"
        assert (failed["error"], failed["warnings"]) == (abort, [sentence])


def test_a_worker_that_is_killed_has_not_the_reason_of_the_one_before(tmp_path: Path, idle: Idle) -> None:
    with served(tmp_path / "songs", idle) as client:
        song = client.create()
        for aborts in (True, False):
            client.wait(song, "processing")
            while [m["song"] for m in idle.started[-1].messages[-1:]] != [song]:
                client.song(song)
            if aborts:
                idle.started[-1].say("gave up", error={"message": "no memory", "hint": "add some"})
            idle.started[-1].say("died", code=-9)
            while not client.song(song)["warnings"]:
                pass
        assert "no memory" not in client.wait(song, "failed")["error"]["message"]


def test_a_killed_worker_loses_nothing(tmp_path: Path, sung: Run, pace: Path) -> None:
    processes = Processes()
    with served(tmp_path / "songs", processes) as client:
        with slowed(pace):
            song = client.create(LONG)
            next(each for each in client.events(song) if each["event"] == "progress")
            processes.kill_first()
        found = client.wait(song, "succeeded", "failed")
        assert found["status"] == "succeeded"
        assert len(processes.pids) == 2
        assert "killed by signal 9" in found["warnings"][0]
        alone = sung(*TEXT, *FAST[2:], "--segment-seconds", 20, "--sections", 1)
        assert song_bytes(tmp_path / "songs" / song) == song_bytes(alone)


def test_a_worker_that_cannot_be_started_is_started_later(tmp_path: Path, idle: Idle) -> None:
    refused: list[str] = []

    def start(facts: WorkerFacts, deliver: Deliver) -> WorkerLink:
        if not refused:
            refused.append("once")
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return idle(facts, deliver)

    with served(tmp_path / "songs", start) as client:
        client.wait(client.create(), "processing")


def test_recordings_that_another_song_names_stay(tmp_path: Path, idle: Idle, sung: Run) -> None:
    songs = tmp_path / "songs"
    for name in ("one", "two"):
        shutil.copytree(sung(*TEXT, *FAST), songs / name)
    uploads = [songs / ".uploads" / name for name in ("ab12", "cd34")]
    store = JobStore(songs / QUEUE_FILE)
    for name, folder in zip(("one", "two"), uploads, strict=True):
        folder.mkdir(parents=True)
        store.insert(name, uploads=folder.name)
        store.change(name, "canceled")
    store.close()
    (songs / "two" / "song.json").write_text(f'{{"cover": "{uploads[0] / "cover.png"}"}}')
    with served(songs, idle) as client:
        assert client("DELETE", "/v1/songs/one").status == 200
        assert [folder.is_dir() for folder in uploads] == [True, True]


def test_takes_are_kept_all_or_none(tmp_path: Path, idle: Idle, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(tmp_path / "songs", idle, max_queue=3) as client:
        song = client.create({**BODY, "candidates": 3})
        client.wait(song, "processing")
        idle.started[-1].say("ended", song=song, outcome="succeeded", error=None)
        client.wait(song, "interrupted")

        def keep(*takes: int) -> str:
            """The code of a refusal."""
            return client("POST", f"/v1/songs/{song}/keep", {"takes": takes}).code

        def rows() -> dict[str, str]:
            states = {number: client.song(f"{song}:take-{number}")["status"] for number in (1, 2, 3)}
            return {number: state for number, state in states.items() if state in ("queued", "processing")}

        assert keep(1, 1) == keep(2, 1, 2) == "bad_request"
        assert rows() == {}
        with locked_folder(tmp_path / "songs" / song / "take-2"):
            assert keep(1, 2) == "in_work"
        assert rows() == {}
        other = client.create()
        client.wait(other, "processing")
        waiting = client.create()
        answer = client("POST", f"/v1/songs/{song}/keep", {"takes": [1, 2, 3]})
        assert (answer.status, answer.code) == (429, "queue_full")
        assert "the queue holds 1 of at most 3 songs and tasks" in answer.json["error"]["message"]
        assert rows() == {}
        queue = JobStore.queue
        with monkeypatch.context() as disk:

            def full(store: JobStore, name: str, **facts: Any) -> None:
                queue(store, name, **facts)
                if name.endswith("take-1"):
                    raise StorageError("the disk is full", "delete something")

            disk.setattr(JobStore, "queue", full)
            assert keep(3, 1) == "storage"
        assert rows() == {}
        assert client("POST", f"/v1/songs/{song}/keep", {"takes": [3, 1]}).status == 202
        assert rows() == {1: "queued", 3: "queued"}
        places = [client.song(each)["queue"]["position"] for each in (waiting, f"{song}:take-3")]
        assert places == [0, 1]
