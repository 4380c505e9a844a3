"""Headers of proxies about the client's request: they count from trusted ones alone, and open nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import Capture, cli
from serving_client import Client, IdleWorker, served

from yuegguf.server.forwarding import forwarded, is_trusted, parse_network

BODY = {"input": {"genre_description": "pop", "lyrics": "[verse]\nla", "seed": 5}}
NAME = "music.example"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with served(tmp_path_factory.mktemp("plain") / "songs", IdleWorker, **settings()) as found:
        yield found


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    songs = tmp_path_factory.mktemp("proxied") / "songs"
    with served(songs, IdleWorker, proxies=(parse_network("127.0.0.0/8"),), **settings()) as found:
        yield found


def settings() -> dict[str, Any]:
    return {"compat": ("cog",), "hosts": (NAME,), "prefix": "/yue", "max_queue": 100}


def root(client: Client, **headers: str) -> str:
    """URL before the path of a new prediction."""
    answer = client("POST", "/yue/predictions", BODY, **headers)
    assert answer.status == 201, answer.body
    path = f"/yue/v1/predictions/{answer.json['id']}"
    assert answer.json["urls"]["get"].endswith(path)
    return str(answer.json["urls"]["get"]).removesuffix(path)


def test_forwarded_headers_count_from_trusted_proxies_alone(plain: Client, proxied: Client) -> None:
    given = {"x_forwarded_proto": "https", "x_forwarded_host": NAME}
    assert root(plain, **given) == f"http://127.0.0.1:{plain.port}"
    assert root(proxied) == f"http://127.0.0.1:{proxied.port}"
    assert root(proxied, **given) == f"https://{NAME}"
    assert root(proxied, host=NAME, x_forwarded_proto="https") == f"https://{NAME}"
    assert root(proxied, **{**given, "x_forwarded_host": f"evil.example, {NAME}:8443"}) == (
        f"https://{NAME}:8443"
    )
    assert root(proxied, x_forwarded_proto="javascript") == f"http://127.0.0.1:{proxied.port}"


def test_a_page_behind_a_proxy_is_the_servers_own(plain: Client, proxied: Client) -> None:
    given = {"x_forwarded_host": NAME, "origin": f"https://{NAME}"}
    assert root(proxied, **given).endswith(NAME)
    assert plain("POST", "/yue/predictions", BODY, **given).code == "cross_site"
    foreign = proxied("POST", "/yue/predictions", BODY, **{**given, "origin": "https://evil.example"})
    assert foreign.code == "cross_site"


@pytest.mark.parametrize(
    "headers",
    [
        {"x_forwarded_host": "evil.example"},
        {"x_forwarded_host": f"{NAME}, evil.example"},
        {"x_forwarded_host": f"{NAME}:80/evil.example"},
        {"host": "evil.example", "x_forwarded_host": "localhost"},  # a page whose name leads to this machine
        {"host": "localhost:80/evil"},
    ],
)
def test_a_trusted_proxy_does_not_open_other_names(proxied: Client, headers: dict[str, str]) -> None:
    answer = proxied("POST", "/yue/predictions", BODY, **headers)
    assert (answer.status, answer.code) == (403, "wrong_host")


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        ("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("fd00::7", True), ("192.168.0.9", True),
        ("11.0.0.1", False), ("fd00::8", False), ("192.168.0.8", False), ("", False), ("proxy", False),
    ],
)  # fmt: skip
def test_proxies_are_known_by_their_addresses(peer: str, trusted: bool) -> None:
    proxies = tuple(parse_network(text) for text in ("10.0.0.5/8", "[fd00::7]", "192.168.0.9"))
    assert is_trusted(peer, proxies) is trusted
    assert not is_trusted(peer, ())


def test_the_nearest_proxy_is_believed() -> None:
    assert forwarded({}) == ("", "")
    assert forwarded({"x-forwarded-proto": "http, HTTPS ", "x-forwarded-host": "a, b:1"}) == ("https", "b:1")


def test_a_proxy_without_an_address_is_refused(capsys: Capture, tmp_path: Path) -> None:
    result = cli(capsys, "serve", "--songs", tmp_path / "songs", "--trust-proxy", "nginx")
    assert (result.code, result.out) == (2, "")
    assert "--trust-proxy 'nginx' is no address or network" in result.err
