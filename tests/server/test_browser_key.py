"""A server with a key in a real browser: the key is asked for, kept, and never part of an address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from browsing import COUNT_STARTS, Server, create, download, listen, opened, serving, settle, state

KEY = "a-key-of-twenty-characters"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("served") / "songs", "cheap_serve", "--key", KEY) as found:
        yield found


def test_the_key_is_asked_for_and_a_wrong_one_is_refused(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        page.goto("/#/songs")
        for key in ("wrong", KEY):
            page.get_by_label("Key", exact=True).fill(key)
            page.get_by_role("button", name="Open").click()
            page.wait_for_load_state("networkidle")
        page.get_by_text("No songs yet.").wait_for()
        page.goto("/#/machine")
        page.get_by_role("button", name="Forget the key in this browser").click()
        page.get_by_label("Key", exact=True).wait_for()


def test_a_song_of_a_link_with_the_key(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        page.add_init_script(COUNT_STARTS)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"/#key={KEY}")
        page.get_by_role("heading", name="New song").wait_for()
        assert page.url == f"{server.url}#/write"
        song = create(page)
        state(page, "Draft")
        listen(page)
        mix = download(page, "wav", "Draft")
        assert mix == (server.songs / song / "draft.wav").read_bytes()
        assert not [url for url in asked if KEY in url]


def test_links_of_downloads_are_renewed(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        page.goto(f"/#key={KEY}")
        page.get_by_role("heading", name="New song").wait_for()
        song = create(page)
        state(page, "Draft")
        old = page.locator(".files a").first.get_attribute("href")

        def expired(route: Any) -> None:
            answer = route.fetch()
            route.fulfill(response=answer, body=re.sub(r"token=\d+", "token=1", answer.text()))

        page.route(f"**/v1/songs/{song}", expired, times=1)
        page.reload()
        link = page.locator(".files a[href*='token=1.']").first
        link.wait_for()
        page.locator(".files a[href*='token=1.']").first.wait_for(state="detached")
        assert page.locator(".files a").first.get_attribute("href") != old
        assert download(page, "wav", "Draft") == (server.songs / song / "draft.wav").read_bytes()


def test_a_link_with_the_key_in_a_window_that_is_open(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        page.goto("/#/songs")
        page.get_by_label("Key", exact=True).wait_for()
        page.evaluate(f"location.hash = '#key={KEY}'")
        page.get_by_role("heading", name="New song").wait_for()
        assert page.url == f"{server.url}#/write"
        page.go_back()
        page.get_by_text("Songs", exact=True).first.wait_for()
        page.wait_for_url("**/#/songs")  # and no address with the key between them


def test_the_key_that_is_typed_outlives_the_looks_of_a_screen(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        page.goto(f"/#key={KEY}")
        page.get_by_role("heading", name="New song").wait_for()
        page.goto("/#/songs")
        page.get_by_role("heading", name="Songs").wait_for()
        refusal = {"error": {"message": "the key is missing", "hint": ""}}
        asked: list[str] = []

        def refuse(route: Any) -> None:
            asked.append(route.request.url)
            route.fulfill(status=401, json=refusal)

        page.route("**/v1/songs?*", refuse)
        page.get_by_label("Key", exact=True).fill("half a ke")
        settle(page)  # of several requests one is refused first
        seen = len(asked)
        for _ in range(2):  # another round of looks has passed
            with page.expect_response("**/health"):
                pass
        assert page.get_by_label("Key", exact=True).input_value() == "half a ke"
        assert len(asked) == seen


def test_models_are_managed_with_the_key(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        page.goto(f"/#key={KEY}")
        page.get_by_role("heading", name="New song").wait_for()
        page.get_by_role("link", name="Machine").click()
        page.get_by_role("button", name="Download: en-cot", exact=True).wait_for()
        page.route("**/v1/models/en-cot/pull", lambda route: route.fulfill(status=202, json={}))
        pulls = {"data": [PULL]}
        page.route("**/v1/pulls", lambda route: route.fulfill(json=pulls))
        with page.expect_request("**/v1/models/en-cot/pull") as sent:
            page.get_by_role("button", name="Download: en-cot", exact=True).click()
        assert sent.value.method == "POST"
        row = page.get_by_role("list", name="Downloads and checks").locator("li")
        row.get_by_text("41 % · stage1.gguf · about 5 min left").wait_for()
        row.get_by_role("button", name="Stop").wait_for()


PULL = {
    "id": "1",
    "task": "pull",
    "status": "processing",
    "error": None,
    "progress": {"done": 0.417, "note": "stage1.gguf", "eta_seconds": 300.0},
}
"""A pull in work, as the server lists it."""
