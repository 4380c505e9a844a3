"""The screen Write while its song is checked, the key that is asked for, and what the server works on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from browsing import DRAFT, Server, opened, remember, run_until, serving, settle, stop_the_clock

CHECK = "**/v1/check"
PAUSE, RETRY = 500, 3000
"""Milliseconds without a change after which a song is checked, and until it is checked again."""
CHECKED = "2 sections"
HIDDEN = "Object.defineProperty(document, 'visibilityState', { get: () => window.visibility ?? 'visible' })"
"""A script that lets a test say whether a window is hidden."""
TOO_LONG = {"error": {"message": "the check took too long", "hint": "", "code": "check_took_too_long"}}
REFUSED = {"error": {"message": "4 songs are being checked already", "hint": "try again in some seconds"}}
LONG = {"genre": "pop", "lyrics": DRAFT["lyrics"], "segment_seconds": 10, "draft": "stems"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("served") / "songs", "cheap_serve", "--parallel", "3") as found:
        yield found


def hold(page: Any, path: str) -> Callable[[], None]:
    """Hold requests back until the function that is returned is called; it waits for one."""
    held: list[Any] = []
    released: list[bool] = []
    page.route(path, lambda route: route.continue_() if released else held.append(route))

    def release() -> None:
        while not held:
            settle(page)
        released.append(True)
        for route in held:
            route.continue_()

    return release


def focused(page: Any) -> str:
    return str(page.evaluate("document.activeElement.tagName"))


def test_the_focus_stays_where_it_was_put_while_an_answer_is_slow(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        remember(page)
        release = hold(page, "**/v1/songs?*")
        page.get_by_role("link", name="Songs").click()
        page.locator("#filter").focus()
        release()
        page.get_by_text("No songs yet.").wait_for()
        settle(page)
        assert focused(page) == "SELECT"

        release = hold(page, CHECK)
        page.get_by_role("link", name="Write", exact=True).click()
        page.locator("main:focus").wait_for()  # before the check has its answer
        area = page.locator(".section-card textarea").first
        area.press_sequentially("more ")
        release()
        page.locator(".dock").get_by_text(CHECKED).wait_for()
        settle(page)
        page.keyboard.type("words")
        assert area.input_value() == "la la lamore words"


def test_one_check_is_under_way_and_is_repeated_until_it_has_an_answer(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        remember(page)
        stop_the_clock(page, ".dock", CHECKED)
        held: list[Any] = []
        answers: list[Callable[[Any], object]] = [held.append] * 2
        page.route(CHECK, lambda route: answers.pop(0)(route) if answers else route.continue_())
        area, dock = page.locator(".section-card textarea").first, page.locator(".dock")
        for letter in "abc":
            area.press_sequentially(letter)
            page.clock.run_for(PAUSE)
            settle(page)
        while not held:
            settle(page)
        assert len(held) == 1
        with page.expect_request(CHECK) as newest:
            held.pop().continue_()
        assert "la la laabc" in newest.value.post_data_json["lyrics"]
        while not held:
            settle(page)
        answers.append(lambda route: route.abort())
        held.pop().fulfill(status=429, json=REFUSED)
        dock.get_by_text("4 songs are being checked already").wait_for()
        page.clock.run_for(RETRY)
        dock.get_by_text("The server does not answer").wait_for()
        page.clock.run_for(RETRY)
        dock.get_by_text(CHECKED).wait_for()

        answers.append(lambda route: route.fulfill(status=503, json=TOO_LONG))
        area.press_sequentially("d")
        page.clock.run_for(PAUSE)
        dock.get_by_text("the check took too long").wait_for()
        again: list[str] = []
        page.on("request", lambda request: again.append(request.url))
        page.clock.run_for(RETRY)  # the same check would take as long
        settle(page)
        assert not [url for url in again if url.endswith("/v1/check")]


def test_another_tab_checks_the_song_only_while_it_is_seen(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        remember(page)
        other = page.context.new_page()
        other.add_init_script(HIDDEN)
        other.goto("/")
        stop_the_clock(other, ".dock", CHECKED)
        checks: list[Any] = []

        def note(route: Any) -> None:
            checks.append(route)
            answer = route.fetch()
            route.fulfill(response=answer, json={**answer.json(), "warnings": [f"note {len(checks)}"]})

        other.route(CHECK, note)

        def type_and_see(text: str) -> int:
            """Write one letter after the other, until the other tab shows each; how often it has checked."""
            area, there = (each.locator(".section-card textarea").first for each in (page, other))
            for letter in text:
                area.press_sequentially(letter)
                while there.input_value() != area.input_value():
                    pass
            settle(other)
            return len(checks)

        assert type_and_see("abc") == 0
        run_until(other, other.get_by_text("note 1").is_visible)
        assert len(checks) == 1
        other.evaluate("window.visibility = 'hidden'")
        type_and_see("d")
        other.clock.run_for(PAUSE)
        settle(other)
        assert len(checks) == 1
        with other.expect_request(CHECK) as sent:
            other.evaluate("delete window.visibility; document.dispatchEvent(new Event('visibilitychange'))")
        assert "abcd" in sent.value.post_data_json["lyrics"]


def test_a_model_that_was_removed_is_asked_for_no_more(browser: Any, server: Server) -> None:
    gone = {**DRAFT, "options": {**DRAFT["options"], "model": "gone"}}
    with opened(browser, server) as page:
        for draft in (gone, {"before": gone}):
            remember(page, draft)
            if undo := draft.get("before"):
                page.get_by_role("button", name="Undo").click()
            page.locator(".dock").get_by_text(CHECKED).wait_for()
            kept = json.loads(page.evaluate("localStorage.getItem('yuegguf draft')"))
            assert undo or kept["options"] == DRAFT["options"]


def test_a_section_is_named_by_the_label_that_is_written(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        remember(page)
        first = page.locator(".section-card").first
        for label, name in (("intro", "intro"), ("", "verse")):
            first.locator("input.label").fill(label)
            for button in first.locator(".section-buttons button").all():
                assert f"1, {name}" in button.get_attribute("aria-label")
                assert button.get_attribute("title") == button.get_attribute("aria-label")
            assert name in first.locator("h3").text_content()


def test_a_wrong_key_is_called_wrong(browser: Any, server: Server) -> None:
    def guard(route: Any) -> None:
        if route.request.headers.get("authorization") == "Bearer right":
            route.continue_()
        else:
            route.fulfill(status=401, json={"error": {"message": "the key is missing or wrong", "hint": ""}})

    with opened(browser, server) as page:
        page.route("**/v1/**", guard)
        page.goto("/")
        page.get_by_label("Key", exact=True).wait_for()
        wrong = page.get_by_role("alert").get_by_text("This key is wrong.")
        assert wrong.count() == 0
        for key in ("wrong", "wrong", "right"):
            page.get_by_label("Key", exact=True).fill(key)
            page.get_by_role("button", name="Open").click()
            if key == "wrong":
                wrong.wait_for()
                assert focused(page) == "INPUT"
        page.get_by_role("heading", name="New song").wait_for()


def test_the_songs_in_work_are_counted_and_the_machine_is_looked_at_again(
    browser: Any, server: Server
) -> None:
    with opened(browser, server) as page:
        page.clock.install(time=0)
        page.goto("/#/machine")
        page.get_by_text("idle, 0 waiting").wait_for()
        page.clock.pause_at(3600)
        health = {"status": "ok", "worker": "busy", "processing": 0, "queue": 0}
        page.route("**/health", lambda route: route.fulfill(json=health))
        badge = page.locator("#waiting")
        badge.evaluate("badge => { badge.textContent = 'old'; }")
        run_until(page, lambda: badge.text_content() == "0")
        assert badge.is_hidden()  # models are downloaded
        page.unroute("**/health")
        with server.slowed():
            songs = [page.request.post("v1/songs", data=LONG).json()["id"] for _ in range(3)]
            while page.request.get("health").json()["processing"] < len(songs):
                pass
            run_until(page, page.get_by_title("3 songs in work or waiting").is_visible)
            run_until(page, page.get_by_text("3 in work, 0 waiting").is_visible)
            for song in songs:
                page.request.post(f"v1/songs/{song}/cancel")
