"""Nothing is lost in the browser: reloads, other tabs, no network, a killed server."""

from __future__ import annotations

from typing import Any

from browsing import (
    DRAFT,
    LYRICS,
    Server,
    create,
    lose_answer,
    opened,
    remember,
    run_until,
    state,
    stop_the_clock,
    tone,
)

LONG = {**DRAFT, "options": {**DRAFT["options"], "segment_seconds": 10}}
CONNECTIONS = 6
"""Connections that a browser has to one server, for all of its tabs."""
SLOW = 10_000
"""Milliseconds between two looks of the page at a song that has ended."""
LOST = "The connection to the server is lost."


def test_what_is_written_survives_a_reload_and_shows_in_another_tab(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        remember(page, {})
        page.get_by_label("Tags: what should it sound like?").fill("jazz")
        page.get_by_label("Tags: what should it sound like?").press("Enter")
        page.get_by_label("Paste lyrics").fill(LYRICS)
        cards = page.locator(".section-card")
        cards.nth(1).locator(".handle").drag_to(cards.first, target_position={"x": 200, "y": 1})
        page.get_by_role("button", name="Style of one file").click()
        page.locator("#file-ref").set_input_files(tone("mine.wav", 40))
        page.get_by_text("Uses 0:00 to 0:30 of 0:40").wait_for()
        page.get_by_label("Window begins at").fill("7")
        page.reload()
        page.get_by_text("Uses 0:07 to 0:37 of 0:40").wait_for()
        other = page.context.new_page()
        other.goto("/")
        other.get_by_text("mine.wav").wait_for()
        words = [area.input_value() for area in other.locator(".section-card textarea").all()]
        assert words == ["lo lo lo", "la la la"]
        other.locator(".section-card textarea").first.fill("new words")
        page.locator(".section-card textarea").first.wait_for()
        page.wait_for_function("document.querySelector('.section-card textarea').value === 'new words'")


def test_a_song_goes_on_without_the_network(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        with server.slowed():
            song = create(page, LONG)
            page.get_by_role("button", name="Stop").wait_for()
            page.context.set_offline(True)
            page.get_by_role("link", name="Machine").click()
            page.get_by_text("The server does not answer").wait_for()
            page.context.set_offline(False)
            page.locator(".models li").first.wait_for()  # it tries again by itself
        page.goto(f"/#/song/{song}")
        state(page, "Draft")


def test_one_request_is_one_song_although_its_answer_is_lost(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        remember(page)
        before = {path.name for path in server.songs.iterdir()}
        sent = lose_answer(page, "**/v1/songs")
        page.get_by_role("button", name="Draft it").click()
        page.get_by_text("The server does not answer").wait_for()
        page.get_by_role("button", name="Draft it").click()
        page.wait_for_url("**/#/song/**")
        assert [page.url.rpartition("/")[2]] == sent
        made = {path.name for path in server.songs.iterdir()} - before
        assert {name for name in made if not name.startswith(".")} == set(sent)


def test_a_killed_server_is_waited_for_and_the_song_ends_as_ever(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        with server.slowed():
            song = create(page, LONG)
            page.locator(".progress .share", has_text="%").wait_for()
            server.kill()
        page.get_by_text(LOST).wait_for()
        server.start()
        page.get_by_text(LOST).wait_for(state="hidden")
        state(page, "Draft")
        assert page.locator(".block.done").count() == 2
        again = create(page, LONG)
        state(page, "Draft")
        for name in ("stage1.npz", "draft.wav", "draft-vocals.wav", "draft-instrumental.wav"):
            ours, theirs = (server.songs / each / name for each in (song, again))
            assert ours.read_bytes() == theirs.read_bytes(), name


def test_the_queue_is_ordered(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        with server.slowed():
            first, second, third = create(page, LONG), create(page), create(page)
            page.goto("/#/songs")
            queue = page.get_by_role("region", name="In work and waiting")
            queue.locator("li").nth(2).wait_for()
            order = "rows => rows.map(row => row.dataset.song)"
            assert queue.locator("li").evaluate_all(order) == [first, second, third]
            queue.locator("li").nth(2).get_by_role("button", name="Earlier").click()
            queue.locator(f'li:nth-child(2)[data-song="{third}"]').wait_for()
            assert queue.locator("li").evaluate_all(order) == [first, third, second]
            assert queue.locator("li").first.locator(".handle").count() == 0  # it is in work
            rows, up, down = queue.locator("li"), [second, third], [third, second]
            for source, target, expected in ((2, 1, up), (1, 2, down), (2, 0, up)):
                edge = 1 if target < source else rows.nth(target).bounding_box()["height"] - 1
                with page.expect_response("**/move"):
                    rows.nth(source).locator(".handle").drag_to(
                        rows.nth(target), target_position={"x": 200, "y": edge}
                    )
                page.reload()
                rows.nth(2).wait_for()
                assert rows.evaluate_all(order) == [first, *expected]

            def behind_others(route: Any) -> None:
                answer = route.fetch()
                listed = answer.json()
                for song in listed["data"]:
                    if song["queue"]:
                        song["queue"]["position"] += 5
                route.fulfill(response=answer, json=listed)

            page.route("**/v1/songs?*", behind_others)
            page.route("**/move", lambda route: route.fulfill(json={}))
            page.get_by_text("Number 6 in the queue").wait_for()
            with page.expect_request("**/move") as asked:
                rows.nth(2).locator(".handle").drag_to(rows.nth(1), target_position={"x": 200, "y": 1})
            assert asked.value.post_data_json == {"position": 5}
            page.unroute_all(behavior="wait")
        for song in (first, second, third):
            page.goto(f"/#/song/{song}")
            state(page, "Draft")


def test_stopped_songs_go_on(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        with server.slowed():
            first, second = create(page, LONG), create(page)
            page.goto(f"/#/song/{second}")
            page.locator(".song").get_by_role("button", name="Stop").click()
            state(page, "Stopped")
            page.get_by_text("Everything so far is kept.").wait_for()
            page.get_by_role("button", name="Go on").click()
            state(page, "Waiting")

            page.goto(f"/#/song/{first}")
            page.locator(".screen-head .pill", has_text="In work").wait_for()
            page.get_by_role("button", name="Stop").click()
            state(page, "Stopped")
            page.get_by_role("button", name="Delete").click()
            page.get_by_role("dialog").get_by_role("button", name="Delete").click()
            page.wait_for_url("**/#/songs")
            assert not (server.songs / first).exists()
        page.goto(f"/#/song/{second}")
        state(page, "Draft")


def test_an_end_that_could_not_be_fetched_is_asked_for_again(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        refused: list[str] = []

        def refuse_at_the_end(route: Any) -> None:
            answer = route.fetch()
            if answer.json()["status"] == "succeeded" and len(refused) < 3:
                refused.append(page.locator("#live").inner_text())
                route.fulfill(status=503, json={"error": {"message": "later", "hint": ""}})
            else:
                route.fulfill(response=answer)

        with server.slowed():
            song = create(page, LONG)
            page.locator(".song .screen-head .pill", has_text="In work").wait_for()
            page.route(f"**/v1/songs/{song}", refuse_at_the_end)
        state(page, "Draft")
        page.locator("#live", has_text="The song has a new state: Draft").wait_for(state="attached")
        assert len(refused) == 3
        assert not [text for text in refused if "new state" in text]


def test_tabs_of_songs_leave_connections_to_others(browser: Any, server: Server) -> None:
    with opened(browser, server) as page, server.slowed():
        song = create(page, LONG)
        for _ in range(CONNECTIONS):
            other = page.context.new_page()
            other.goto(f"/#/song/{song}")
            other.locator(".song .screen-head").wait_for()
        last = page.context.new_page()
        last.goto("/#/songs")
        last.get_by_role("region", name="In work and waiting").locator("li").first.wait_for()
        page.get_by_role("button", name="Stop").click()
        for each in page.context.pages[1:-1]:
            state(each, "Stopped")


def test_a_late_answer_moves_nobody_who_has_gone_on(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        song = create(page)
        state(page, "Draft")

        def late_deletion(route: Any) -> object:
            if route.request.method != "DELETE":
                return route.continue_()
            answer = route.fetch()
            page.evaluate("location.hash = '#/machine'")
            page.locator(".models li").first.wait_for()
            return route.fulfill(response=answer)

        page.route(f"**/v1/songs/{song}", late_deletion)
        page.get_by_role("button", name="Delete").click()
        with page.expect_response(lambda answer: answer.request.method == "DELETE") as deleted:
            page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        assert deleted.value.ok
        page.locator("dialog").wait_for(state="detached")
        assert page.evaluate("location.hash") == "#/machine"


def test_an_address_of_no_song_is_called_that(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        for address in ("%", "none"):
            page.goto(f"/#/song/{address}")
            page.get_by_text("there is no such song").wait_for()
            assert page.title() == "This could not be shown · yuegguf"


NO_STORAGE = """
  for (const name of ["localStorage", "sessionStorage", "indexedDB"]) {
    Object.defineProperty(window, name, { get() { throw new DOMException("denied", "SecurityError"); } });
  }
"""


def test_the_page_works_where_the_browser_keeps_nothing(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        page.add_init_script(NO_STORAGE)
        page.goto("/")
        page.get_by_label("Tags: what should it sound like?").fill("jazz")
        page.get_by_label("Tags: what should it sound like?").press("Enter")
        page.get_by_label("Paste lyrics").fill("[verse]\nla")
        page.get_by_role("button", name="Style of one file").click()
        page.locator("#file-ref").set_input_files(tone("mine.wav", 2))
        page.get_by_text("mine.wav").wait_for()
        page.get_by_role("link", name="Songs").click()
        page.get_by_role("heading", name="Songs").wait_for()
        page.get_by_role("link", name="Write").click()
        page.get_by_text("mine.wav").wait_for()
        assert page.locator(".section-card textarea").input_value() == "la"


def test_words_of_other_scripts_run_their_way(browser: Any, server: Server) -> None:
    words = "\u05e9\u05dc\u05d5\u05dd"
    with opened(browser, server) as page:
        options = {**DRAFT["options"], "name": words}
        create(page, {**DRAFT, "tags": ["pop", words], "lyrics": f"[verse]\n{words}", "options": options})
        state(page, "Draft")
        direction = "each => getComputedStyle(each).direction"
        for place in ("h1", ".lines"):
            assert page.locator(place).evaluate(direction) == "rtl", place
        page.goto("/#/write")
        for place in (".section-card textarea", ".chip.on:nth-child(2)", "#name"):
            assert page.locator(place).evaluate(direction) == "rtl", place
        page.goto("/#/songs")
        assert page.locator(".song-title", has_text=words).evaluate(direction) == "rtl"


def test_a_song_that_goes_on_is_followed_at_once(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        song = create(page)
        state(page, "Draft")
        stop_the_clock(page, ".pill", "Draft")
        looks: list[str] = []
        with server.slowed():
            page.get_by_role("button", name="Finish it").click()
            state(page, "In work")
            page.on("request", lambda request: looks.append(request.url))
            begin = page.evaluate("Date.now()")
            run_until(page, lambda: f"{server.url}v1/songs/{song}" in looks)
            assert page.evaluate("Date.now()") - begin < SLOW
        page.clock.resume()
        state(page, "Finished")
