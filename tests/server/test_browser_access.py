"""The page for everybody: a phone, the keyboard alone, a screen reader, small windows, light and dark."""

from __future__ import annotations

from typing import Any

import pytest
from browsing import (
    COUNT_STARTS,
    DRAFT,
    LYRICS,
    PHONE,
    SMALL,
    Server,
    create,
    download,
    draft,
    listen,
    opened,
    remember,
    state,
    tone,
    write,
)

BAD = ("serious", "critical")


def test_a_song_on_a_phone(browser: Any, server: Server) -> None:
    with opened(browser, server, viewport=PHONE, has_touch=True, is_mobile=True) as page:
        page.add_init_script(COUNT_STARTS)
        write(page)
        song = draft(page)
        listen(page)
        page.get_by_role("button", name="Finish it").tap()
        state(page, "Finished")
        assert download(page, "wav", "Mix") == (server.songs / song / "mix.wav").read_bytes()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_takes_are_compared_and_one_is_kept(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        page.add_init_script(COUNT_STARTS)
        remember(page, {**DRAFT, "options": {**DRAFT["options"], "candidates": 2}})
        song = draft(page)
        assert page.locator(".lane[data-lane]").count() == 2
        listen(page)
        page.keyboard.press("2")
        assert page.get_by_role("button", name="Take B", exact=True).get_attribute("aria-pressed") == "true"
        assert "off" in page.get_by_role("group", name="Take A").get_attribute("class")
        page.get_by_role("button", name="Keep Take B").click()
        page.wait_for_url(f"**/#/song/{song}%3Atake-2")
        state(page, "Finished")
        assert (server.songs / song / "take-2" / "mix.wav").is_file()
        assert not (server.songs / song / "take-1" / "mix.wav").exists()


def focus(page: Any, name: str, backwards: bool = False) -> None:
    """Press Tab until the control of this name has the focus."""
    for _ in range(120):
        page.keyboard.press("Shift+Tab" if backwards else "Tab")
        found = page.evaluate(
            "(focused => (focused.getAttribute('aria-label') || focused.labels?.[0]?.textContent"
            " || focused.textContent).trim())(document.activeElement)"
        )
        if found == name:
            return
    raise AssertionError(f"Tab never comes to {name}")


def test_a_song_by_the_keyboard_alone(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        page.goto("/")
        page.get_by_role("heading", name="New song").wait_for()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        focus(page, "Tags: what should it sound like?")
        page.keyboard.type("pop,piano,")
        focus(page, "Paste lyrics")
        page.keyboard.insert_text(LYRICS)
        page.locator(".section-card").nth(1).wait_for()
        focus(page, "Move section 2, chorus, up", backwards=True)
        page.keyboard.press("Enter")
        assert page.evaluate(
            "[...document.querySelectorAll('.section-card .label')].map(input => input.value)"
        ) == ["chorus", "verse"]
        focus(page, "Longest section, seconds")
        page.keyboard.type("1")
        focus(page, "Draft it")
        page.keyboard.press("Enter")
        state(page, "Draft")
        page.keyboard.press("Space")
        page.locator('.stage[data-state="playing"]').wait_for()
        page.keyboard.press("m")
        assert page.get_by_role("button", name="Mute: Vocals").get_attribute("aria-pressed") == "true"
        page.keyboard.press("Space")
        page.locator('.stage[data-state="stopped"]').wait_for()
        page.keyboard.press("ArrowLeft")
        page.get_by_text("0:00 / 0:02").wait_for()
        focus(page, "Finish it")
        page.keyboard.press("Enter")
        state(page, "Finished")
        focus(page, "Retake this section")
        page.keyboard.press("Enter")
        page.get_by_role("dialog").wait_for()
        page.keyboard.press("Escape")
        page.get_by_role("dialog").wait_for(state="detached")
        assert page.evaluate("document.activeElement.textContent") == "Retake this section"


def faults(page: Any) -> dict[str, list[str]]:
    """Serious faults that axe finds, with the elements that have them."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    found = axe.Axe().run(page).response["violations"]
    return {
        each["id"]: [node["html"][:150] for node in each["nodes"]] for each in found if each["impact"] in BAD
    }


def test_axe_finds_no_serious_fault_on_any_screen(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        create(page)
        state(page, "Draft")
        song = page.url.rpartition("/")[2]
        takes = create(page, {**DRAFT, "options": {**DRAFT["options"], "candidates": 2}})
        state(page, "Draft")
        remember(page)
        page.get_by_text("2 sections").wait_for()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            for address, ready in (
                ("write", ".section-card"),
                (f"song/{song}", ".block"),
                (f"song/{takes}", ".pick"),
                ("songs", ".song-title"),
                ("machine", ".models li"),
                ("song/none", ".problem"),
            ):
                page.goto(f"/#/{address}")
                page.locator(ready).first.wait_for()
                assert faults(page) == {}, (scheme, address)
            page.goto(f"/#/song/{song}")
            page.get_by_role("button", name="Extend").click()
            page.get_by_role("dialog").wait_for()
            assert faults(page) == {}, (scheme, "dialog")
            page.keyboard.press("Escape")
        page.evaluate("document.body.append(new Image())")
        assert list(faults(page)) == ["image-alt"]


def test_nothing_is_cut_off_in_a_window_of_320_pixels(browser: Any, server: Server) -> None:
    with opened(browser, server, viewport=SMALL) as page:
        song = create(page)
        state(page, "Draft")
        remember(page)
        for address, ready in (
            ("write", ".section-card"),
            (f"song/{song}", ".block"),
            ("songs", ".song-title"),
            ("machine", ".models li"),
        ):
            page.goto(f"/#/{address}")
            page.locator(ready).first.wait_for()
            wide = page.evaluate(
                "[...document.querySelectorAll('main *')].filter(each => each.offsetParent && !each.closest("
                "'.chips, .unseen, .blocks') && each.getBoundingClientRect().right > innerWidth + 1)"
                ".map(each => each.outerHTML.slice(0, 100))"
            )
            assert wide == [], address
            assert page.evaluate("document.documentElement.scrollWidth") == SMALL["width"], address
            assert faults(page) == {}, address
        page.goto("/#/songs")
        page.get_by_role("button", name="Import").click()
        page.get_by_role("button", name="Two stems").click()
        page.locator("#file-vocal_stem").set_input_files(tone("mine.wav", 2))
        page.get_by_role("button", name="Remove mine.wav").wait_for()
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Remove mine.wav"
        assert page.evaluate("(box => box.scrollWidth <= box.clientWidth)(document.querySelector('dialog'))")
        assert faults(page) == {}
        page.keyboard.press("Escape")
        page.locator("dialog").wait_for(state="detached")
        assert page.evaluate("document.activeElement.textContent") == "Import"
