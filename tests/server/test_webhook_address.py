"""Webhooks into the server's own network are refused, in every spelling, and nothing is sent there."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
from webhook_receiver import WAIT, Receiver, receiver

from yuegguf.server import webhook_address, webhooks
from yuegguf.server.problems import HttpProblem
from yuegguf.server.webhook_address import is_public, parse_webhook
from yuegguf.server.webhooks import Notice, Undelivered, Webhooks, post


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://127.9.9.9:8451/v1/songs", "http://[::1]/", "http://[::ffff:127.0.0.1]/",
        "http://localhost/", "http://LOCALHOST:80/", "http://localhost./", "http://0.0.0.0/", "http://[::]/",
        "http://2130706433/", "http://0x7f.1/", "http://127.1/", "http://0177.0.0.1/", "http://10.0.0.7/",
        "http://172.16.0.1/", "http://192.168.1.1/", "http://169.254.169.254/latest/meta-data/",
        "http://100.64.0.1/", "http://[fe80::1]/", "http://[fe80::1%25eth0]/", "http://[fd00::1]/",
        "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://[::127.0.0.1]/", "http://224.0.0.1/",
        "http://192.0.0.192/", "http://255.255.255.255/", "http://１２７.0.0.1/",
    ],
)  # fmt: skip
def test_private_addresses_are_refused_at_once(url: str) -> None:
    with pytest.raises(HttpProblem) as problem:
        parse_webhook(url)
    assert (problem.value.status, problem.value.code) == (422, "bad_webhook")


@pytest.mark.parametrize(
    "url",
    [
        "", "ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "javascript:alert(1)",
        "//example.com/", "http://", "http:///x", "http://user:secret@example.com/", "http://example.com:0/",
        "http://example.com:99999/", "http://example.com/a b", "http://example.com/\r\nhost: x", "http://[::1/",
        "http://example.com/" + "a" * 2000, "http://example.com/\0", "http://exa\udcffmple.com/", "http://é/é",
    ],
)  # fmt: skip
def test_what_is_no_url_of_a_webhook_is_refused(url: str) -> None:
    with pytest.raises(HttpProblem) as problem:
        parse_webhook(url)
    assert problem.value.status == 422


@pytest.mark.parametrize(
    ("address", "public"),
    [("8.8.8.8", True), ("2606:4700::1111", True), ("::ffff:8.8.8.8", True), ("x", False)],
)
def test_public_addresses_are_known(address: str, public: bool) -> None:
    assert is_public(address) == public


def test_a_url_is_taken_apart() -> None:
    url = parse_webhook("https://Example.com:8443/done?id=7#part")
    assert (url.host, url.port, url.target) == ("example.com", 8443, "/done?id=7")
    assert url.host_header == "example.com:8443"
    assert parse_webhook("http://[2606:4700::1111]").host_header == "[2606:4700::1111]"


def answers(*addresses: str) -> Any:
    """A `getaddrinfo` that gives these addresses for names, one call after the other."""
    left = list(addresses)

    def find(_host: str, port: int, type: int = 0, flags: int = 0) -> list[Any]:
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror("a name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (left.pop(0), port))]

    return find


def refused_reason(url: str, *allowed: str) -> str:
    with pytest.raises(Undelivered) as failure:
        post(url, b"{}", allowed)
    return str(failure.value)


def test_a_name_that_leads_into_the_network_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as hook:
        monkeypatch.setattr(webhook_address.socket, "getaddrinfo", answers("127.0.0.1"))
        port = hook.url.rpartition(":")[2]
        reason = refused_reason(f"http://inside.example:{port}/")
        assert reason == "the webhook's host 'inside.example' is not on the internet"
        assert hook.bodies.empty()


def test_the_address_that_was_checked_is_the_one_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that changes its address between the check and the connection leads nowhere else."""
    connected: list[Any] = []

    def connect(address: tuple[str, int], _timeout: float) -> socket.socket:
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(webhook_address.socket, "getaddrinfo", answers("8.8.8.8", "127.0.0.1"))
    monkeypatch.setattr(webhooks.socket, "create_connection", connect)
    assert refused_reason("http://rebinding.example/") == "no answer (ConnectionRefusedError)"
    assert connected == [("8.8.8.8", 80)]


def test_no_redirect_is_followed() -> None:
    with receiver() as hook, receiver() as inside:
        hook.statuses, hook.location = [307], f"{inside.url}/"
        assert refused_reason(hook.url, "127.0.0.1") == "answered with status 307"
        assert inside.bodies.empty()


def test_no_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as hook, receiver() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        post(hook.url, b'{"a": 1}', ("127.0.0.1",))
        assert hook.next() == {"a": 1}
        assert proxy.bodies.empty()


def test_an_answer_that_trickles_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "TOTAL_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        cut = threading.Event()

        def trickle() -> None:
            connection, _ = listening.accept()
            with connection:
                try:
                    while not cut.wait(0.02):
                        connection.sendall(b"x")
                except OSError:  # cut off
                    cut.set()

        thread = threading.Thread(target=trickle, daemon=True)
        thread.start()
        port = listening.getsockname()[1]
        assert refused_reason(f"http://127.0.0.1:{port}/", "127.0.0.1").startswith("no answer")
        assert cut.wait(WAIT)
        thread.join(WAIT)


def test_tries_are_bounded_and_the_last_notice_alone_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "RETRY_SECONDS", (0.0, 0.0))
    ended: list[tuple[bool, str]] = []
    done = threading.Event()

    def note(notice: Notice, reason: str) -> None:
        ended.append((notice.last, reason))
        if notice.last:
            done.set()

    with receiver() as hook:
        hooks = Webhooks(("127.0.0.1",), note)
        hook.statuses = [500] * 9
        for last in (False, True):
            hooks.send(Notice("song", hook.url, last), lambda: {"last": "yes"})
        assert done.wait(WAIT)
        hooks.stop()
        assert ended == [(False, "answered with status 500"), (True, "answered with status 500")]
        assert len(all_bodies(hook)) == 1 + 3


def test_a_song_that_is_gone_tells_nothing() -> None:
    ended: list[Notice] = []
    with receiver() as hook:
        hooks = Webhooks(("127.0.0.1",), lambda notice, _: ended.append(notice))
        hooks.send(Notice("gone", hook.url, True), lambda: None)
        hooks.send(Notice("song", hook.url, True), lambda: {"id": "song"})
        assert hook.next() == {"id": "song"}
        hooks.stop()
        assert hook.bodies.empty()


def all_bodies(hook: Receiver) -> list[Any]:
    found = []
    while not hook.bodies.empty():
        found.append(hook.bodies.get())
    return found
