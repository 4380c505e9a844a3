"""The queue and the list of songs in the browser: clicks that count, songs of others, pages, lost answers."""

from __future__ import annotations

from typing import Any

from browsing import (
    DRAFT,
    Server,
    create,
    listed,
    lose_answer,
    one_song,
    opened,
    run_until,
    settle,
    state,
    stop_the_clock,
)

from yuegguf.files.atomic import locked_folder

LONG = {**DRAFT, "options": {**DRAFT["options"], "segment_seconds": 10}}
PAGE = 100
"""Songs of one page of the list."""


def test_a_retake_whose_answer_is_lost_is_one_song(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        create(page)
        state(page, "Draft")
        before = {path.name for path in server.songs.iterdir()}
        sent = lose_answer(page, "**/extend")
        page.get_by_role("button", name="Retake this section").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name="Retake").click()
        dialog.get_by_text("The server does not answer").wait_for()
        dialog.get_by_role("button", name="Retake").click()
        dialog.wait_for(state="detached")
        state(page, "Draft")
        assert [page.url.rpartition("/")[2]] == sent
        made = {path.name for path in server.songs.iterdir()} - before
        assert {name for name in made if not name.startswith(".")} == set(sent)


def test_a_click_that_a_look_meets_counts(browser: Any, server: Server) -> None:
    with opened(browser, server) as page, server.slowed():
        song = create(page, LONG)
        page.goto("/#/songs")
        row = page.locator(f'[data-song="{song}"]')
        row.locator(".course", has_text="%").wait_for()
        box = row.get_by_role("button", name="Stop").bounding_box()
        page.mouse.move(box["x"] + 5, box["y"] + 5)
        page.mouse.down()
        row.locator("progress").evaluate("bar => { window.before = bar.value; }")
        page.wait_for_function(
            "song => document.querySelector(`[data-song='${song}'] progress`).value > window.before",
            arg=song,
        )
        page.mouse.up()
        page.get_by_role("region", name="Songs", exact=True).locator(f'[data-song="{song}"]').wait_for()
        page.goto(f"/#/song/{song}")
        state(page, "Stopped")


def test_a_kept_take_waits_in_the_list_and_is_stopped_with_its_song(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        takes = create(page, {**DRAFT, "options": {**DRAFT["options"], "candidates": 2}})
        state(page, "Draft")
        with server.slowed():
            first = create(page, LONG)
            page.locator(".screen-head .pill", has_text="In work").wait_for()
            page.goto(f"/#/song/{takes}")
            page.get_by_role("button", name="Keep Take B").click()
            page.wait_for_url(f"**/#/song/{takes}%3Atake-2")
            page.goto("/#/songs")
            queue = page.get_by_role("region", name="In work and waiting").locator("li")
            page.locator(f'[data-song="{takes}:take-2"]').get_by_text("Number 1 in the queue").wait_for()
            assert queue.count() == 2
            asked = page.request.post(f"v1/songs/{takes}/cancel")
            assert asked.ok
            queue.nth(1).wait_for(state="detached")
            queue.get_by_role("button", name="Stop").click()
        page.goto(f"/#/song/{first}")
        state(page, "Stopped")
        with locked_folder(server.songs / first):
            page.get_by_text("In work").wait_for()
            page.get_by_role("button", name="Stop").click()
            page.get_by_text("another yuegguf works on the song").wait_for()


def test_songs_in_work_are_shown_whatever_is_listed(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        page.goto("/#/songs")
        page.locator("#filter").select_option("failed")
        page.get_by_role("heading", name="Songs").wait_for()
        with server.slowed():
            page.route("**/v1/songs?*", lambda route: route.abort())  # no look meets it while it waits
            other = page.context.new_page()
            song = create(other, LONG)
            other.locator(".screen-head .pill", has_text="In work").wait_for()
            page.unroute("**/v1/songs?*")
            row = page.get_by_role("region", name="In work and waiting").locator(f'[data-song="{song}"]')
            row.wait_for()
            row.get_by_role("button", name="Stop").click()
            row.wait_for(state="detached")


def test_the_next_page_goes_on_behind_what_is_there(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        song = one_song(page)
        songs = [listed(song, number) for number in range(2 * PAGE)]
        gone: set[str] = {f"song-{PAGE - 1}", f"song-{PAGE - 2}"}
        held: list[Any] = []

        def answer(route: Any) -> Any:
            asked = dict(each.split("=") for each in route.request.url.partition("?")[2].split("&"))
            wanted = [each for each in songs if asked.get("status") in (None, each["status"])]
            if after := asked.get("after"):
                if after in gone:
                    return route.fulfill(status=404, json={"error": {"message": "gone", "hint": ""}})
                wanted = [each for each in wanted if int(each["id"][5:]) > int(after[5:])]
            found = {"object": "list", "data": wanted[:PAGE], "has_more": len(wanted) > PAGE}
            if after and held:
                held.append((route, found))
                return None
            return route.fulfill(json=found)

        page.route("**/v1/songs?*", answer)
        page.goto("/#/songs")
        rows = page.get_by_role("region", name="Songs", exact=True).locator("li")
        rows.nth(PAGE - 1).wait_for()
        page.get_by_role("button", name="Show more").click()
        page.get_by_text(f"Song {PAGE}", exact=True).wait_for()
        assert page.get_by_text("gone").count() == 0

        page.reload()
        rows.nth(PAGE - 1).wait_for()
        held.append(None)
        page.get_by_role("button", name="Show more").click()
        page.wait_for_function("document.querySelector('button[aria-disabled]') !== null")
        page.locator("#filter").select_option("failed")
        rows.first.wait_for(state="hidden")
        while len(held) == 1:
            settle(page)
        route, found = held[1]
        route.fulfill(json=found)
        page.locator("button[aria-disabled]").wait_for(state="detached")
        assert rows.count() == 0


def test_a_server_that_never_answers_is_said_to_be_lost(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        song = create(page)
        state(page, "Draft")
        stop_the_clock(page, ".pill", "Draft")
        page.route(f"**/v1/songs/{song}", lambda route: None)
        run_until(page, page.get_by_text("The connection to the server is lost.").is_visible)


def test_a_queue_that_stands_still_is_named_on_the_machine(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        health = page.request.get("health").json()
        refusal = {**health, "status": "failing"}
        page.route("**/health", lambda route: route.fulfill(status=503, json=refusal))
        page.goto("/#/machine")
        page.get_by_text("a queue stands still").wait_for()
        page.route("**/health", lambda route: route.fulfill(status=502, body="<h1>Bad Gateway</h1>"))
        page.goto("/#/songs")
        page.get_by_role("heading", name="Songs").wait_for()
        page.goto("/#/machine")
        page.get_by_text("The server refused this (status 502).").wait_for()
