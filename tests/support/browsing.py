"""A real browser for tests of the page, and a server in a process of its own that can be killed."""

from __future__ import annotations

import io
import json
import math
import os
import socket
import subprocess
import sys
import wave
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from shutil import which
from time import monotonic
from typing import Any
from urllib.parse import unquote

import pytest
from cheap import PACE, slowed
from helpers import PROGRAMS

CHROMIUM = os.environ.get("YUEGGUF_CHROMIUM") or which("chromium") or which("chromium-browser")
DESKTOP, PHONE, SMALL = (
    {"width": 1280, "height": 860},
    {"width": 390, "height": 780},
    {"width": 320, "height": 640},
)
WAIT = 90_000
"""Most milliseconds that a test waits for something that is to come."""
LYRICS = "[verse]\nla la la\n\n[chorus]\nlo lo lo"
DRAFT = {"tags": ["pop", "piano"], "lyrics": LYRICS, "options": {"segment_seconds": 1, "seed": 5}}
"""What the page remembers of a song of two seconds that is being written."""

COUNT_STARTS = """
  window.starts = [];
  const start = AudioBufferSourceNode.prototype.start;
  AudioBufferSourceNode.prototype.start = function (when, offset) {
    window.starts.push([when, offset, this.buffer.duration]);
    return start.call(this, when, offset);
  };
"""
"""A script that writes down when the sources of sound begin, at which second of theirs, and their lengths."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


class Server:
    """`yuegguf serve` with `nano`, or with cheap engines, on one port for all of its lives."""

    def __init__(self, songs: Path, program: str = "cheap_serve", *options: str) -> None:
        self.songs, self._program, self._options, self._port = songs, program, options, free_port()
        self._process: subprocess.Popen[str] | None = None
        self._pace = songs.parent / "pace"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        path = os.pathsep.join((*PROGRAMS, os.environ.get("PYTHONPATH", "")))
        arguments = ("--port", self._port, "--threads", 1, "--model", "nano", "--songs", self.songs, "--json")
        more = {"PYTHONPATH": path, "YUEGGUF_VOICES_DIR": str(self.songs.parent / "voices")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._program, "serve", *map(str, arguments), *self._options],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **more, PACE: str(self._pace)},
        )
        assert self._process.stdout is not None
        assert json.loads(self._process.stdout.readline())["url"] == self.url

    def slowed(self, seconds: float = 0.1) -> AbstractContextManager[None]:
        """Have each step of cheap engines take so long: a song of some seconds does not end meanwhile."""
        return slowed(self._pace, seconds)

    def kill(self) -> None:
        """End it without a word."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def tone(name: str, seconds: int) -> dict[str, Any]:
    """A recording of 220 Hz to be chosen in the page."""
    found, rate = io.BytesIO(), 8000
    with wave.open(found, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        period = [round(9000 * math.sin(2 * math.pi * 220 * n / rate)) for n in range(rate)]
        file.writeframes(b"".join(value.to_bytes(2, "little", signed=True) for value in period) * seconds)
    return {"name": name, "mimeType": "audio/wav", "buffer": found.getvalue()}


@contextmanager
def serving(songs: Path, program: str = "cheap_serve", *options: str) -> Iterator[Server]:
    """A server that is killed at the end."""
    server = Server(songs, program, *options)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def chromium() -> Iterator[Any]:
    """Debian's Chromium; skips where it or Playwright is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine (apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Any, server: Server, **options: Any) -> Iterator[Any]:
    """A page of a new window, in which no script fails; options are those of a Playwright context."""
    options.setdefault("viewport", DESKTOP)
    context = browser.new_context(base_url=server.url, accept_downloads=True, **options)
    context.set_default_timeout(WAIT)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    try:
        yield page
    finally:
        for each in context.pages:  # else a request that is still being answered fails the next test
            each.unroute_all(behavior="ignoreErrors")
        context.close()
    assert errors == []


def remember(page: Any, draft: dict[str, Any] = DRAFT) -> None:
    """Open the page with a song that is being written."""
    page.goto("/")
    page.evaluate("draft => localStorage.setItem('yuegguf draft', JSON.stringify(draft))", draft)
    page.goto("/#/write")
    page.reload()
    page.get_by_role("heading", name="New song").wait_for()


def create(page: Any, draft: dict[str, Any] = DRAFT) -> str:
    """Create a song from the screen Write; its id."""
    remember(page, draft)
    page.get_by_role("button", name="Draft it").or_(page.get_by_role("button", name="Generate it")).click()
    page.wait_for_url("**/#/song/**")
    return str(page.url.rpartition("/")[2])


def state(page: Any, word: str) -> None:
    """Wait until the song of the address has a state."""
    page.wait_for_url("**/#/song/**")
    song = unquote(page.url.rpartition("/")[2])
    page.locator(f'.song[data-song="{song}"] .screen-head .pill', has_text=word).wait_for()


def one_song(page: Any) -> dict[str, Any]:
    """A song of the server, as it is listed."""
    create(page)
    state(page, "Draft")
    found: dict[str, Any] = page.request.get("v1/songs?limit=1").json()["data"][0]
    return found


def listed(song: dict[str, Any], number: int, **facts: Any) -> dict[str, Any]:
    """A song as another one is listed, with an id of its own."""
    return {**song, "id": f"song-{number}", "title": f"Song {number}", **facts}


def stop_the_clock(page: Any, selector: str, text: str) -> None:
    """Show the page anew until a text is there; from then on only `run_for` lets time pass in it.

    A request that the page has sent before may still have no answer.
    """
    page.clock.install(time=0)
    page.reload()
    page.locator(selector, has_text=text).first.wait_for()
    page.clock.pause_at(3600)


def settle(page: Any) -> None:
    """Wait until every request that the page sent before is known here."""
    page.evaluate("fetch('v1/props?settle').then(answer => answer.text())")


def run_until(page: Any, found: Callable[[], bool]) -> None:
    """Let time pass in a page whose clock is stopped until something is there.

    How long that is in the page depends on the machine: when the answers come that it waits for already.
    """
    end = monotonic() + WAIT / 1000
    while not found():
        assert monotonic() < end, "it has not come, however much time has passed in the page"
        page.clock.run_for(1000)
        settle(page)


def lose_answer(page: Any, requests: str) -> list[str]:
    """Lose the server's next answer to such a request; the id of the song that it named."""
    sent: list[str] = []

    def lose(route: Any) -> None:
        sent.append(route.fetch().json()["id"])
        route.abort()

    page.route(requests, lose, times=1)
    return sent


def write(page: Any) -> None:
    """Write a song of two seconds by clicks."""
    page.goto("/")
    page.get_by_role("heading", name="New song").wait_for()
    assert page.get_by_text("Choose some tags to begin").is_visible()
    page.get_by_role("group", name="Genre").get_by_role("button", name="pop", exact=True).click()
    page.get_by_label("Tags: what should it sound like?").fill("piano, airy vocal")
    page.get_by_label("Tags: what should it sound like?").press("Enter")
    assert page.get_by_role("list", name="Chosen tags").locator("li").all_inner_texts() == [
        "pop",
        "piano",
        "airy vocal",
    ]
    page.get_by_label("Paste lyrics").fill(LYRICS)
    assert page.locator(".section-card").count() == 2
    page.get_by_label("Longest section, seconds").fill("1")
    page.get_by_label("Seed", exact=True).fill("5")
    page.get_by_text("2 sections").wait_for()
    assert page.locator(".section-card .fit-text").first.inner_text().startswith("1 s of 1")


def draft(page: Any) -> str:
    page.get_by_role("button", name="Draft it").click()
    page.wait_for_url("**/#/song/**")
    state(page, "Draft")
    return str(page.url.rpartition("/")[2])


def listen(page: Any) -> None:
    """Play, and see that all lanes begin at one time of one clock."""
    page.get_by_role("button", name="Play", exact=True).click()
    page.locator('.stage[data-state="playing"]').wait_for()
    first, second = page.evaluate("window.starts.splice(0)")
    assert first == second
    assert first[1:] == [0.0, 2.0]


def download(page: Any, name: str, row: str) -> bytes:
    link = page.locator(".files li", has=page.get_by_text(row, exact=True)).get_by_role("link", name=name)
    with page.expect_download() as found:
        link.click()
    return Path(found.value.path()).read_bytes()
