"""Downloads from a hub that misbehaves: attempts, pauses and answers end, and in one sentence."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import Capture, Result, cli
from hub import Fault, Hub, Repo

from yuegguf.errors import DamagedFile, DownloadError, ModelNotFound, RequestError
from yuegguf.models import hub_client, lockfile, registry, transport
from yuegguf.models.hub_client import RemoteFile, RepoSnapshot

REPO = registry.find_entry("en-cot").source
DATA = bytes(range(256)) * 400
NAME = "model.safetensors"


@pytest.fixture
def pauses(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that would have passed between attempts, with the patience of the program itself."""
    found: list[float] = []
    monkeypatch.setattr(transport, "RETRY_LIMITS", transport.RetryLimits(sleep=found.append))
    hub.repos[REPO] = Repo({NAME: DATA}, hub.repos[REPO].commit)
    return found


def looked_up(hub: Hub) -> RepoSnapshot:
    faults, hub.faults = hub.faults, []
    try:
        return hub_client.query_snapshot(REPO, hub.repos[REPO].commit)
    finally:
        hub.faults, hub.asked = faults, []


def fetched(hub: Hub, folder: Path) -> bytes:
    hub_client.download_snapshot(looked_up(hub), folder)
    return (folder / NAME).read_bytes()


def ranges(hub: Hub) -> list[str]:
    return [span for _, path, span in hub.asked if path.startswith("/cdn/")]


def test_a_server_that_announces_too_much_and_ignores_ranges(
    hub: Hub, pauses: list[float], tmp_path: Path
) -> None:
    hub.faults = [Fault("cdn", "overstated")]
    assert fetched(hub, tmp_path) == DATA
    assert (pauses, ranges(hub)) == ([], [""])


def test_attempts_that_bring_nothing_new_pause_longer_and_end(
    hub: Hub, pauses: list[float], tmp_path: Path
) -> None:
    hub.faults = [Fault("cdn", "truncate", 1), Fault("cdn", "truncate", at=0.0)]
    with pytest.raises(DownloadError, match=f"the connection to the hub failed while {NAME}"):
        fetched(hub, tmp_path)
    assert pauses == [1, 1, 2, 4, 8]
    assert len(ranges(hub)) == 6
    assert transport.RetryLimits().pause(5000) == 30


def test_a_server_that_sends_the_same_half_again_is_given_up(
    hub: Hub, pauses: list[float], tmp_path: Path
) -> None:
    """Without ranges every answer begins anew: what is there stays, and does not count as new."""
    hub.faults = [Fault("cdn", "truncate", 1), Fault("cdn", "whole half")]
    hub.answers["whole half"] = DATA[: len(DATA) // 3]
    with pytest.raises(DownloadError, match="arrived with a wrong length"):
        fetched(hub, tmp_path)
    assert len(pauses) == 5
    (part,) = tmp_path.glob(".*.part")
    assert part.read_bytes() == DATA[: part.stat().st_size]
    hub.faults = [Fault("cdn", "whole")]
    assert fetched(hub, tmp_path) == DATA


def test_single_bytes_end_too(
    hub: Hub, pauses: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "RETRY_LIMITS", replace(transport.RETRY_LIMITS, attempts=7))
    counts: list[int] = []

    def once(url: str, part: Path, *_rest: object) -> None:
        with part.open("ab") as file:
            file.write(b"x")
        counts.append(part.stat().st_size)
        raise transport._TransientError(DownloadError("the line is bad"))

    monkeypatch.setattr(transport, "_download_once", once)
    with pytest.raises(DownloadError, match="the line is bad"):
        transport.download("", tmp_path / "part", 10**9, "a file", lambda _count: None)
    assert counts == [1, 2, 3, 4, 5, 6, 7]
    assert pauses == [1.0] * 6


@pytest.mark.parametrize(
    ("kind", "words", "attempts"),
    [
        ("loop", "the connection to the hub failed while .*redirect", None),
        ("away", r"the connection to the hub failed while .*(gopher|protocol)", 1),
        ("patience", "the hub asks to wait before more of", 1),
        ("gzip", f"{NAME} of {REPO} came compressed, which was not asked for; check HF_ENDPOINT", 1),
        ("503", "the hub failed with status 503", 5),
        ("418", "the hub failed with status 418", 1),
    ],
)
def test_what_no_attempt_can_mend(
    hub: Hub, pauses: list[float], tmp_path: Path, kind: str, words: str, attempts: int | None
) -> None:
    hub.faults = [Fault("cdn", kind)]
    with pytest.raises(DownloadError, match=words):
        fetched(hub, tmp_path)
    assert attempts is None or len(ranges(hub)) == attempts
    assert len(pauses) == (attempts or 1) - 1


def test_another_part_than_was_asked_for(hub: Hub, pauses: list[float], tmp_path: Path) -> None:
    hub.faults = [Fault("cdn", "truncate", 1), Fault("cdn", "other part")]
    with pytest.raises(DownloadError, match="the hub sent another part of"):
        fetched(hub, tmp_path)


def test_a_stop_during_a_pause_is_one_line(
    capsys: Capture, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(transport, "RETRY_LIMITS", transport.RetryLimits(sleep=stop))
    hub.faults = [Fault("cdn", "truncate")]
    result = cli(capsys, "--models-dir", tmp_path / "models", "pull", "en-cot")
    assert result.code == 75
    assert "run the same command again, it goes on where this one stopped" in result.error


def test_bytes_that_differ_twice_are_the_fault_of_the_way(
    hub: Hub, pauses: list[float], tmp_path: Path
) -> None:
    hub.faults = [Fault("cdn", "corrupt")]
    with pytest.raises(DamagedFile) as caught:
        fetched(hub, tmp_path)
    assert caught.value.hint == (
        "something on the way changes bytes: check the proxy, HF_ENDPOINT, the disk and the memory"
    )
    assert ranges(hub) == ["", ""]
    assert list(tmp_path.iterdir()) == []
    hub.faults = [Fault("cdn", "corrupt", 1)]
    assert fetched(hub, tmp_path) == DATA


def test_a_damaged_part_of_an_earlier_run_is_fetched_again(
    hub: Hub, pauses: list[float], tmp_path: Path
) -> None:
    (file,) = looked_up(hub).files
    (tmp_path / file.part).write_bytes(b"\0" * 1000)
    assert fetched(hub, tmp_path) == DATA
    assert ranges(hub) == ["bytes=1000-", ""]


def info(**facts: Any) -> dict[str, Any]:
    return {"sha": "0" * 40, "siblings": [], **facts}


def listed(**facts: Any) -> dict[str, Any]:
    return info(siblings=[{"rfilename": NAME, "size": 5, "blobId": "0" * 40, **facts}])


ANSWERS: dict[str, object] = {
    "deep": b"[" * 100_000,
    "empty": b"",
    "utf8": b'{"sha": "\xff"}',
    "surrogate": b'{"sha": "\\ud800", "siblings": []}',
    "list": [],
    "null": None,
    "no files": {"sha": "0" * 40},
    "no commit": info(sha=None),
    "short commit": info(sha="abc"),
    "files are text": info(siblings="model"),
    "a file is a number": info(siblings=[7]),
    "name is a number": listed(rfilename=7),
    "size is text": listed(size="5"),
    "size is negative": listed(size=-5),
    "size is huge": listed(size=2**63),
    "size is endless": b'{"sha": "' + b"0" * 40 + b'", "siblings": [{"rfilename": "a", "size": 1e999}]}',
    "no size": listed(size=None),
    "hash is text": listed(blobId="../../x"),
    "no hash": listed(blobId=""),
    "lfs is text": listed(lfs="yes"),
    "lfs size is a fraction": listed(lfs={"sha256": "0" * 64, "size": 1.5}),
    "lfs hash is short": listed(lfs={"sha256": "00", "size": 5}),
    "twice": info(siblings=[*listed()["siblings"], *listed()["siblings"]]),
    "licence of escapes": listed() | {"cardData": {"license": "\x1b[2J"}},
    "card is a list": listed() | {"cardData": []},
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_that_make_no_sense(capsys: Capture, hub: Hub, tmp_path: Path, name: str) -> None:
    answer = ANSWERS[name]
    hub.answers["odd"] = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    hub.faults = [Fault("api", "odd")]
    result = cli(capsys, "--models-dir", tmp_path / "models", "pull", "en-cot")
    assert (result.code, hub.fetched()) == (75, [])
    assert result.error.isprintable()
    assert f"the answer about {REPO} makes no sense" in result.error


def test_an_answer_about_another_commit(capsys: Capture, hub: Hub, tmp_path: Path) -> None:
    hub.answers["odd"] = json.dumps(listed()).encode()
    hub.faults = [Fault("api", "odd")]
    result = cli(capsys, "--models-dir", tmp_path / "models", "pull", "en-cot")
    assert (result.code, "the hub answered about another commit" in result.error) == (75, True)


def test_an_answer_without_an_end_is_not_read(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", 1 << 20)
    hub.answers["odd"] = b" " * (3 << 20)
    hub.faults = [Fault("api", "odd")]
    with pytest.raises(DownloadError, match="is larger than 1 MiB"):
        hub_client.query_snapshot(REPO)


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/x",
        "a/../x",
        ".source.json",
        "a\\b",
        "c:x",
        "a\0b",
        "a\nb",
        "a\ud800",
        "n" * 201,
        "",
        ".",
        "a/.b",
    ],
)
def test_names_that_no_honest_repository_has_are_passed_over(name: str) -> None:
    assert not lockfile.is_safe_relative_path(name)
    with pytest.raises(ValueError, match="file name"):
        RemoteFile(name, 1, "blob:" + "0" * 40)


def test_commits_in_pages_without_an_end(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(url: str, what: str) -> tuple[bytes, str]:
        asked.append(url)
        return b"[]", hub.url + f"/api/next/{len(asked)}"

    monkeypatch.setattr(transport, "_query_once", answer)
    with pytest.raises(DownloadError, match="has more than 100 pages"):
        hub_client.query_snapshot(REPO, "abc")
    assert len(asked) == transport.MAX_PAGES
    monkeypatch.setattr(transport, "_query_once", lambda _url, _what: (b"[]", "http://elsewhere.example/x"))
    with pytest.raises(DownloadError, match="goes on at another host"):
        hub_client.query_snapshot(REPO, "abc")
    monkeypatch.setattr(transport, "_query_once", lambda _url, _what: (b"[]", ""))
    with pytest.raises(ModelNotFound, match="has no commit abc"):
        hub_client.query_snapshot(REPO, "abc")


@pytest.mark.parametrize(
    ("variable", "value"), [("HF_TOKEN", "hf_\u2603"), ("HTTPS_PROXY", "nonsense://x"), ("HTTP_PROXY", "//")]
)
def test_an_environment_that_makes_no_request_possible(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    from huggingface_hub.utils import close_session

    monkeypatch.setenv(variable, value)
    close_session()
    try:
        with pytest.raises(DownloadError, match=r"HF_TOKEN|the connection to the hub failed"):
            hub_client.query_snapshot(REPO)
    finally:
        monkeypatch.undo()
        close_session()


def test_a_socks_proxy_without_its_package_is_a_sentence(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.utils import close_session

    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    close_session()
    try:
        with pytest.raises(
            RequestError, match="a SOCKS proxy is set, for which a package is missing"
        ) as error:
            hub_client.query_snapshot(REPO)
        assert error.value.hint == "pip install 'yuegguf[socks]'"
    finally:
        monkeypatch.undo()
        close_session()


DAMAGED = {
    "deep": b"[" * 100_000,
    "cut": b'{"repo": "m-a-p/x", "revi',
    "types": b'{"repo": 1, "revision": 2, "licence": 3, "files": 4}',
    "leads out": json.dumps(
        {
            "repo": REPO,
            "revision": "0" * 40,
            "licence": "",
            "files": [{"name": "../canary", "bytes": 3, "digest": "blob:" + "0" * 40}],
        }
    ).encode(),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_record_of_a_download_is_queried_again(
    capsys: Capture, hub: Hub, tmp_path: Path, name: str
) -> None:
    (canary := tmp_path / "sources" / "canary").parent.mkdir()
    canary.write_text("mine")
    record = tmp_path / "sources" / "en-cot" / hub_client.SOURCE_RECORD
    record.parent.mkdir()
    record.write_bytes(DAMAGED[name])

    def pull(*options: str) -> Result:
        return cli(capsys, "--models-dir", tmp_path, "pull", "en-cot", *options)

    offline = pull("--offline")
    assert (offline.code, hub.asked, record.read_bytes()) == (7, [], DAMAGED[name])
    assert offline.error.endswith("; run the command without --offline")
    assert pull().code == 0
    assert canary.read_text() == "mine"
