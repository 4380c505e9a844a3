"""A real browser for tests of the page, and a server in a process of its own that can be killed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from helpers import PROGRAMS

CHROMIUM = os.environ.get("YUEGGUF_CHROMIUM") or which("chromium") or which("chromium-browser")
DESKTOP, PHONE, SMALL = (
    {"width": 1280, "height": 860},
    {"width": 390, "height": 780},
    {"width": 320, "height": 640},
)
WAIT = 30_000
"""Most milliseconds that a test waits for something that is to come."""
LYRICS = "[verse]\nla la la\n\n[chorus]\nlo lo lo"
DRAFT = {"tags": ["pop", "piano"], "lyrics": LYRICS, "options": {"segment_seconds": 1, "seed": 5}}
"""What the page remembers of a song of two seconds that is being written."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


class Server:
    """`yuegguf serve` with `nano`, or with cheap engines, on one port for all of its lives."""

    def __init__(self, songs: Path, program: str = "cheap_serve") -> None:
        self.songs, self._program, self._port = songs, program, free_port()
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        path = os.pathsep.join((*PROGRAMS, os.environ.get("PYTHONPATH", "")))
        arguments = ("--port", self._port, "--threads", 1, "--model", "nano", "--songs", self.songs, "--json")
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._program, "serve", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert self._process.stdout is not None
        assert json.loads(self._process.stdout.readline())["url"] == self.url

    def kill(self) -> None:
        """End it without a word."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@contextmanager
def serving(songs: Path, program: str = "cheap_serve") -> Iterator[Server]:
    """A server that is killed at the end."""
    server = Server(songs, program)
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
    """Wait until the song that is shown has a state."""
    page.locator(".screen-head .pill", has_text=word).wait_for()
