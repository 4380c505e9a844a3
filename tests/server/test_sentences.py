"""Sentences that clients get: they do not say where the songs and the voices are."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from serving_client import BODY, Idle, served

from yuegguf.errors import RequestError
from yuegguf.models import registry
from yuegguf.server.problems import without_folder


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("/srv/songs/a/song.json is damaged", "a/song.json is damaged"),
        ("/srv/songs/.uploads/0a1b/x.npy is a zip", "x.npy is a zip"),
        ("unzip it: -d /srv/songs/.uploads/0a1b", "unzip it: -d the folder"),
        ("/srv/songs is full", "the folder is full"),
        ("/srv/songs2/a, /srv", "/srv/songs2/a, /srv"),
        ("there is no voice anna in /srv/voices", "there is no voice anna in the folder of voices"),
        ("the voice /srv/voices/anna.npz is damaged", "the voice anna.npz is damaged"),
    ],
)
def test_a_folder_is_left_out_of_a_sentence(
    given: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUEGGUF_VOICES_DIR", "/srv/voices")
    assert without_folder({"message": given, "hint": ""}, Path("/srv/songs")) == {
        "message": shown,
        "hint": "",
    }
    about = {"warnings": [given], "error": {"message": "no", "hint": given}, "problem": given, "id": given}
    assert without_folder(about, Path("/srv/songs")) == {
        **about,
        "warnings": [shown],
        "error": {"message": "no", "hint": shown},
        "problem": shown,
    }
    monkeypatch.setattr(registry, "voices_dir", lambda: (_ for _ in ()).throw(RequestError("no home")))
    assert without_folder({"message": "/srv/songs/a"}, Path("/srv/songs")) == {"message": "a"}
    (tmp_path / "link").symlink_to(tmp_path)
    real = {"message": f"{tmp_path}/a is a link"}  # as checks of links name it
    assert without_folder(real, tmp_path / "link") == {"message": "a is a link"}


def test_warnings_and_events_do_not_say_where_the_songs_and_voices_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUEGGUF_VOICES_DIR", str(tmp_path / "voices"))
    (tmp_path / "voices").mkdir()
    (tmp_path / "voices" / "bad.npz").write_text("bad")
    idle, silence = Idle(), io.BytesIO()
    soundfile.write(silence, np.zeros(44100 * 2, np.float32), 44100, format="WAV")
    files = {"ref": silence.getvalue()}
    with served(tmp_path / "songs", idle) as client:
        checked = client.upload("/v1/check", {**BODY, "ref_end": 1}, files)
        assert any(words.startswith("the reference ref") for words in checked.json["warnings"]), checked.body
        answers = [
            checked,
            client("POST", "/v1/songs", {**BODY, "voice": "anna"}),
            client("GET", "/v1/voices"),
        ]
        assert "called anna in the folder of voices" in answers[1].json["error"]["message"]
        assert "the voice bad.npz is damaged" in answers[2].json["data"][0]["problem"]
        made = client.upload("/v1/codec/encode", {}, {"recording": silence.getvalue()}).json["id"]
        song = client.create()
        for kind, name in (("songs", song), ("tasks", made)):
            events = client.events(name, kind=kind)
            assert next(events)["event"] == "status"  # it is followed from now on
            while client("GET", f"/v1/{kind}/{name}").json["status"] != "processing":
                next(events)
            row = name if kind == "songs" else f".task-{name}"
            worker = next(
                each for each in idle.started for message in each.messages if message["song"] == row
            )
            sentence = f"{client.songs / song}/preview.wav could not be written"
            error = {"message": sentence, "hint": f"see {client.songs}", "code": "storage"}
            worker.say("warning", song=row, text=sentence)
            worker.say("ended", song=row, outcome="failed", error=error)
            seen = {}
            while "done" not in seen:
                event = next(events)
                seen[event["event"]] = event["data"]
            shown = f"{song}/preview.wav could not be written"
            assert seen["warning"] == {"message": shown}
            assert seen["done"]["error"] == {**error, "message": shown, "hint": "see the folder"}
            answers.append(client("GET", f"/v1/{kind}/{name}"))
            assert answers[-1].json["warnings"] == [shown]
            assert answers[-1].json["error"] == seen["done"]["error"]
        for answer in answers:
            assert str(tmp_path) not in answer.body.decode()
