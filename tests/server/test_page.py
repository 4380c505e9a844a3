"""The page: small, nothing from elsewhere, under its policy, and every request of it is a route."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pytest
from serving_client import Client, IdleWorker, served

PAGE = Path(str(resources.files("yuegguf") / "server" / "page"))
FILES = {file.name: file.read_text("utf-8") for file in PAGE.iterdir()}
NAMESPACES = {"http://www.w3.org/2000/svg"}
REQUEST = re.compile(r'ask\(\s*"(GET|POST|DELETE)", [`"]([^`"]+)[`"]')
VERB = re.compile(r'act\(song, "(\w+)"')


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with served(tmp_path_factory.mktemp("served") / "songs", IdleWorker) as found:
        yield found


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_it_is_small_and_asks_nobody_else() -> None:
    assert sum(map(len, FILES.values())) < 200_000
    for name, text in FILES.items():
        assert {*re.findall(r"(?:https?:)?//[\w.-]+\.[\w/.-]+", text)} <= {
            address.removeprefix(prefix) for address in NAMESPACES for prefix in ("", "http:")
        }, name


def test_the_policy_allows_all_of_it(client: Client) -> None:
    elements = Elements(FILES["index.html"]).tags
    for tag, attributes in elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes), tag
        for name in ("href", "src"):
            target = attributes.get(name)
            if target and not target.startswith("#"):
                assert not target.startswith("/"), "a prefix would be lost"
                assert client("GET", f"/{target}").status == 200, target
    assert [tag for tag, attributes in elements if tag == "script" and "src" not in attributes] == []
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", ".style."):
        assert forbidden not in FILES["app.js"]


def test_its_files_have_their_types(client: Client) -> None:
    types = {name: client("GET", f"/page/{name}").headers["content-type"] for name in FILES}
    assert types["app.js"] == "text/javascript; charset=utf-8"
    assert types["style.css"] == "text/css; charset=utf-8"
    assert client("GET", "/").headers["content-type"] == "text/html; charset=utf-8"


def test_it_has_what_a_screen_reader_needs() -> None:
    elements = Elements(FILES["index.html"]).tags
    assert ("html", {"lang": "en"}) in elements
    roles = {attributes.get("role") for _, attributes in elements}
    assert {"status", "alert"} <= roles
    assert {"header", "nav", "main", "footer", "h1", "title"} <= {tag for tag, _ in elements}
    assert ("a", {"class": "skip", "href": "#main"}) in elements


def test_every_request_of_it_is_a_route(client: Client) -> None:
    paths = client("GET", "/v1/openapi.json").json["paths"]
    routes = {
        (method.upper(), re.sub(r"\{\w+\}", "X", path)) for path, one in paths.items() for method in one
    }
    asked = {
        (method, "/" + re.sub(r"\$\{.*?\)\}", "X", path).partition("?")[0])
        for method, path in REQUEST.findall(FILES["app.js"])
    }
    verbs = set(VERB.findall(FILES["app.js"]))
    assert {"cancel", "resume", "refine", "keep", "move"} <= verbs
    asked = {(m, p) for m, p in asked if "${verb}" not in p} | {("POST", f"/v1/songs/X/{v}") for v in verbs}
    assert len(asked) >= 10
    assert asked <= routes


def test_every_default_and_limit_of_it_is_served(client: Client) -> None:
    props = client("GET", "/v1/props").json
    for part, name in re.findall(r"props\.(defaults|limits|machine)\.(\w+)", FILES["app.js"]):
        assert name in props[part], name
    for name in re.findall(r"props\.(\w+)", FILES["app.js"]):
        assert name in props
