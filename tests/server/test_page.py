"""The page: small, nothing from elsewhere, its texts in one file, and every request of it a route."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pytest
from serving_client import Client, IdleWorker, served

PAGE = Path(str(resources.files("yuegguf") / "server" / "page"))
FILES = {file.name: file.read_text("utf-8") for file in PAGE.iterdir()}
MODULES = {name: text for name, text in FILES.items() if name.endswith(".js")}
TEXTS = json.loads(FILES["strings.en.json"])
MOST_BYTES, MOST_LINES = 200_000, 350
NAMESPACES = {"http://www.w3.org/2000/svg"}
LITERAL = re.compile(r'"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`')
COMMENT = re.compile(r"^\s*(?://|/\*\*?|\*).*$|(?<=[;{},)]) // .*$", re.MULTILINE)
CLASSES = re.compile(r'class: (?:"[^"]*"|`[^`]*`)|kind: (?:"[^"]*"|`[^`]*`)')
KEY = re.compile(r'\bt\(\s*"([\w.-]+)"|\bt\([^"()]*?\?\s*"([\w.-]+)"\s*:\s*"([\w.-]+)"')
BUILT_KEY = re.compile(r"\b(?:t|known)\(`([\w.-]+)\$\{")
NOT_WORDS = {
    *("Authorization", "Idempotency-Key", "Content-Type", "Last-Event-ID", "Range", "Space", "Digit"),
    *("Enter", "Backspace", "ArrowLeft", "ArrowRight", "AbortError", "INPUT", "POST", "GET", "DELETE"),
    *("yuegguf key", "yuegguf draft", "Bearer"),
}
"""Names of headers, keys, methods and stored values, which no one reads."""


SELECTORS = ("(prefers-color-scheme", "[data-", "a, button", "button, a", "input, textarea")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with served(tmp_path_factory.mktemp("served") / "songs", IdleWorker) as found:
        yield found


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts[self.tags[-1][0]] = data.strip()


def literals(text: str) -> list[str]:
    """The strings of a module, in pieces where something is put into them, without names of classes."""
    found = LITERAL.findall(CLASSES.sub("", COMMENT.sub("", text)))
    return [part for plain, template in found for part in re.split(r"\$\{[^}]*\}", plain or template)]


def keys_of(text: str) -> set[str]:
    return {key for keys in KEY.findall(text) for key in keys if key}


def test_it_is_small_and_asks_nobody_else() -> None:
    assert sum(len(text.encode()) for text in FILES.values()) < MOST_BYTES
    for name, text in FILES.items():
        assert text.count("\n") <= MOST_LINES, name
        assert {*re.findall(r"(?:https?:)?//[\w.-]+\.[\w/.-]+", text)} <= {
            address.removeprefix(prefix) for address in NAMESPACES for prefix in ("", "http:")
        }, name
        assert not re.search(r"@import|\burl\(", text), name


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
    for forbidden in (
        *("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"),
        *('"style"', "cssText", "javascript:"),
    ):
        assert [name for name, text in MODULES.items() if forbidden in text] == []
    for name, text in MODULES.items():
        for target in re.findall(r'from "(.*?)"', text):
            assert target.removeprefix("./") in MODULES, name


def test_its_files_have_their_types(client: Client) -> None:
    types = {name: client("GET", f"/page/{name}").headers["content-type"] for name in FILES}
    kinds = {Path(name).suffix: kind for name, kind in types.items()}
    assert kinds == {
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".json": "application/json",
        ".svg": "image/svg+xml",
    }
    assert client("GET", "/").headers["content-type"] == "text/html; charset=utf-8"


def test_it_has_what_a_screen_reader_needs() -> None:
    elements = Elements(FILES["index.html"]).tags
    assert ("html", {"lang": "en"}) in elements
    roles = {attributes.get("role") for _, attributes in elements}
    assert {"status", "alert"} <= roles
    assert {"header", "nav", "main", "footer", "title"} <= {tag for tag, _ in elements}
    assert ("a", {"class": "skip", "href": "#main", "data-text": "skip"}) in elements


def words_in(module: str) -> set[str]:
    """Strings of a module that look like something to read: two words, or one with a capital."""
    return {
        text
        for text in literals(module)
        if re.search(r"[A-Za-z]{2,}[^\w/;=]+ ?[A-Za-z]{2,} |[A-Za-z]{2,} [A-Za-z]{2,}|^[A-Z][a-z]{2,}", text)
        and text.strip() not in NOT_WORDS
        and not text.startswith((*NAMESPACES, *SELECTORS))
    }


def test_no_words_stand_in_the_modules() -> None:
    assert words_in(
        'make("p", {}, "Some words"); button("Close"); t("close"); say(`no ${n} songs left`)'
    ) == {
        "Some words",
        "Close",
        " songs left",
    }
    assert {name: words for name, module in MODULES.items() if (words := words_in(module))} == {}
    assert Elements(FILES["index.html"]).texts.keys() <= {"title", "noscript", "span"}
    assert Elements(FILES["index.html"]).texts["span"] == "yuegguf"


def test_every_text_is_there_and_used() -> None:
    used = {key for text in MODULES.values() for key in keys_of(text)}
    used |= {
        attributes[name] or ""
        for _, attributes in Elements(FILES["index.html"]).tags
        for name in ("data-text", "data-label")
        if name in attributes
    }
    assert used - TEXTS.keys() == set()
    built = {prefix for text in MODULES.values() for prefix in BUILT_KEY.findall(text)}
    quoted = {text for module in MODULES.values() for text in literals(module)}
    unused = {
        key for key in TEXTS.keys() - used - quoted if not any(key.startswith(prefix) for prefix in built)
    }
    assert unused == set()
    for text in TEXTS.values():
        forms = text if isinstance(text, dict) else {"other": text}
        assert "other" in forms
        assert all(form.strip() for form in forms.values())


def requests() -> set[tuple[str, str]]:
    """Method and path of each request, with X for an id."""
    found: set[tuple[str, str]] = set()
    for text in MODULES.values():
        for method, path in re.findall(r'ask\("(GET|POST|DELETE)", [`"]([^`"]+)[`"]', text):
            found.add((method, "/" + re.sub(r"\$\{.*?\)\}", "X", path).partition("?")[0]))
        for method, rest in re.findall(r'ask\("(GET|POST|DELETE)", songPath\([\w.]+(?:, "(\w+)")?\)', text):
            found.add((method, f"/v1/songs/X/{rest}".rstrip("/")))
        for verb in re.findall(r'\bpost\("(\w+)"', text):
            found.add(("POST", f"/v1/songs/X/{verb}"))
        for path in re.findall(r'\btaskSender\("([^"]+)"', text):
            found.add(("POST", f"/{path}"))
        for path in re.findall(r"\bpost\(`([^`]+)`", text):
            found.add(("POST", "/" + re.sub(r"\$\{(?:\w+|.*?\))\}", "X", path)))
    return found


def test_every_request_of_it_is_a_route(client: Client) -> None:
    paths = client("GET", "/v1/openapi.json").json["paths"]
    routes = {
        (method.upper(), re.sub(r"\{\w+\}", "X", path)) for path, one in paths.items() for method in one
    }
    verbs = ("cancel", "resume", "refine", "keep", "move", "extend", "render")
    assert {("POST", f"/v1/songs/X/{verb}") for verb in verbs} <= requests()
    assert {("POST", f"/v1/models/X/{verb}") for verb in ("pull", "verify")} <= requests()
    assert {("POST", "/v1/import"), ("POST", "/v1/voices")} <= requests()
    assert len(requests()) >= 20
    assert requests() <= routes


def test_every_default_and_limit_of_it_is_served(client: Client) -> None:
    props = client("GET", "/v1/props").json
    for text in MODULES.values():
        for part, name in re.findall(r"props\.(defaults|limits|machine)\.(\w+)", text):
            assert name in props[part], name
        for name in re.findall(r"props\.(\w+)", text):
            assert name in props
    assert {"pop", "rock"} <= set(props["tags"]["genre"])
    assert list(props["tags"]) == ["genre", "instrument", "mood", "gender", "timbre"]


def test_the_length_of_lyrics_is_tested() -> None:
    """The length line that the page writes above a section is the one that lyrics have."""
    from yuegguf.request.lyrics import parse_lyrics

    assert "`#length ${seconds}\\n`" in FILES["lyrics.js"]
    assert parse_lyrics("#length 12.5\n[verse]\nla").sections[0].seconds == 12.5
