"""The screen Write in a real browser: nothing covers what is written, and no click loses it."""

from __future__ import annotations

from typing import Any

import pytest
from browsing import DRAFT, LYRICS, PHONE, Server, create, opened, remember, state

NOTES = ["a note of the server that is as long as many of its notes are, in a sentence or two of them"] * 4
TALL = {**DRAFT, "lyrics": "[verse]\n" + "la la la\n" * 40 + "\n[chorus]\nlo lo"}
WINDOWS = (PHONE, {"width": 640, "height": 430}, {"width": 390, "height": 420})
"""A phone, a window of 1280 x 860 at 200 %, and a phone with its keyboard."""
COVERED = """() => {
  const focused = document.activeElement.closest('main *');
  const dock = document.querySelector('.dock'), header = document.querySelector('header');
  if (!focused || dock.contains(focused)) return null;
  const own = focused.getBoundingClientRect(), above = dock.getBoundingClientRect().top;
  const below = header.getBoundingClientRect().bottom;
  const fits = own.height < Math.min(above, innerHeight) - below - 40;
  const covered = own.bottom > above && own.top < dock.getBoundingClientRect().bottom;
  return fits && (covered || own.top < below) ? focused.outerHTML.slice(0, 90) : null;
}"""
"""What has the focus, if the dock or the header covers a part of it although there is room."""
SEED = "9223372036854775807"
VOICE = {"tags": ["pop"], "lyrics": LYRICS, "reference": {"kind": "voice", "voice": "anna"}}


def add_notes(route: Any) -> None:
    """Answer a check with notes, which make the dock high."""
    answer = route.fetch()
    route.fulfill(response=answer, json={**answer.json(), "warnings": NOTES})


@pytest.mark.parametrize("window", WINDOWS)
def test_the_focus_and_the_caret_are_never_covered(
    browser: Any, server: Server, window: dict[str, int]
) -> None:
    with opened(browser, server, viewport=window) as page:
        page.route("**/v1/check", add_notes)
        remember(page, TALL)
        page.locator(".warnings li").first.wait_for()
        covered = []
        for _ in range(85):
            page.keyboard.press("Tab")
            covered.append(page.evaluate(COVERED))
        assert [each for each in covered if each] == []
        page.locator(".section-card textarea").first.focus()
        page.keyboard.press("Control+Home")
        page.keyboard.press("Control+End")
        page.keyboard.type("more")
        end, above = page.evaluate(
            "['.section-card textarea', '.dock'].map(each => document.querySelector(each)"
            ".getBoundingClientRect()).map((box, n) => n ? box.top : box.bottom)"
        )
        assert end - 10 <= min(above, window["height"])  # the last line ends above its box's edge


def test_a_dock_that_grows_covers_nothing_that_has_the_focus(browser: Any, server: Server) -> None:
    with opened(browser, server, viewport=PHONE) as page:
        remember(page, {**TALL, "lyrics": "[verse]\n\n" * 6})
        page.get_by_text("6 sections").wait_for()
        area = page.locator(".section-card textarea").nth(4)
        area.focus()
        room = "document.activeElement.getBoundingClientRect().bottom - document.querySelector('.dock')"
        page.evaluate(f"scrollBy(0, {room}.getBoundingClientRect().top + 5)")
        page.route("**/v1/check", add_notes)
        page.keyboard.type("la")
        page.locator(".warnings li").first.wait_for()
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert page.evaluate(COVERED) is None


def written(page: Any) -> list[Any]:
    """What stands in the screen: tags, lines, and some of the options."""
    return [
        page.get_by_role("list", name="Chosen tags").locator("li").all_inner_texts(),
        [area.input_value() for area in page.locator(".section-card textarea").all()],
        *(
            page.get_by_label(name, exact=True).input_value()
            for name in ("Title", "Seed", "Longest section, seconds")
        ),
        page.get_by_role("group", name="Takes").locator("[aria-pressed=true]").inner_text(),
        page.get_by_role("group", name="Recording").locator("[aria-pressed=true]").inner_text(),
    ]


MINE = {
    **DRAFT,
    "options": {"segment_seconds": 2, "seed": 7, "name": "Mine", "candidates": 2},
    "reference": {"kind": "one", "start": 0},
}
WRITTEN = [["pop", "piano"], ["la la la", "lo lo lo"], "Mine", "7", "2", "2", "Style of one file"]
NOTHING = [[], [], "", "", "", "1", "None"]


def test_starting_over_is_undone_until_something_changes(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        remember(page, MINE)
        undo = page.get_by_role("button", name="Undo")
        assert undo.count() == 0
        assert written(page) == WRITTEN
        for _ in range(2):  # the second time with nothing written
            page.get_by_role("button", name="Start over").click()
            undo.wait_for()
            assert written(page) == NOTHING
        page.reload()
        undo.click()
        undo.wait_for(state="hidden")
        assert written(page) == WRITTEN
        page.reload()
        page.get_by_role("heading", name="New song").wait_for()
        assert written(page) == WRITTEN
        page.get_by_role("button", name="Start over").click()
        undo.wait_for()
        page.get_by_role("group", name="Genre").get_by_role("button", name="rock", exact=True).click()
        undo.wait_for(state="hidden")


def test_a_song_like_another_takes_over_its_options_and_keeps_what_was_written(
    browser: Any, server: Server
) -> None:
    with opened(browser, server) as page:
        like = {"segment_seconds": 1, "seed": 5, "temperature": 0.8, "cfg_rest": 1.1, "name": "Theirs"}
        create(page, {**DRAFT, "options": {**like, "formats": ["flac"], "mix": "codec"}})
        state(page, "Draft")
        song = page.url.rpartition("/")[2]
        remember(page, MINE)
        page.goto(f"/#/song/{song}")
        page.get_by_role("button", name="Write another like it").click()
        page.get_by_role("heading", name="New song").wait_for()
        assert written(page) == [*WRITTEN[:2], "", "", "1", "1", "None"]
        page.get_by_text("Sampling and files").click()
        shown = [page.get_by_label(name, exact=True).input_value() for name in ("Temperature", "Mix")]
        assert [*shown, page.get_by_label("Guidance, other sections").input_value()] == [
            *("0.8", "codec", "1.1")
        ]
        assert [page.get_by_label(name).is_checked() for name in ("wav", "flac")] == [False, True]
        page.get_by_role("button", name="Undo").click()
        page.get_by_role("button", name="Undo").wait_for(state="hidden")
        assert written(page) == WRITTEN


def test_another_tab_shows_all_of_what_is_written(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        remember(page, DRAFT)
        other = page.context.new_page()
        other.goto("/")
        other.get_by_label("Seed", exact=True).fill("77")
        page.wait_for_function("() => document.getElementById('seed').value === '77'")


def test_a_voice_that_was_deleted_is_named_and_asked_for(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        remember(page, VOICE)
        page.get_by_text("The voice anna is not on this server any more.").wait_for()
        page.locator(".dock").get_by_text("Choose another voice, or none.").wait_for()
        page.get_by_role("button", name="Draft it").click()
        page.get_by_role("alert").get_by_text("Choose another voice, or none.").wait_for()
        assert page.url.endswith("#/write")
        page.get_by_role("group", name="Recording").get_by_role("button", name="None").click()
        page.locator(".dock").get_by_text("2 sections").wait_for()

        def with_voice(route: Any) -> None:
            answer = route.fetch()
            route.fulfill(response=answer, json={**answer.json(), "voices": ["bert"]})

        page.route("**/v1/props", with_voice)
        remember(page, VOICE)
        page.get_by_text("The voice anna is not on this server any more.").wait_for()
        page.locator("#voice").select_option("bert")
        page.locator(".dock").get_by_text("2 sections").wait_for()


def test_a_seed_of_nineteen_digits_is_sent_and_shown_as_it_is(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        remember(page, {**DRAFT, "lyrics": '[verse]\n"seed": "123", "seed":12345678901234567890'})
        page.get_by_label("Seed", exact=True).fill(SEED)
        page.reload()
        page.get_by_text("1 section", exact=True).wait_for()
        assert page.get_by_label("Seed", exact=True).input_value() == SEED
        page.get_by_role("button", name="Draft it").click()
        state(page, "Draft")
        song = page.url.rpartition("/")[2]
        assert page.locator(".lines").inner_text() == '"seed": "123", "seed":12345678901234567890'
        page.locator(".screen-head").get_by_text(f"seed {SEED}").wait_for()
        asked = page.request.get(f"v1/songs/{song}").text()
        assert f'"seed":{SEED}' in asked
