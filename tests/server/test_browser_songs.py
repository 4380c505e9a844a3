"""The screen Songs in a real browser: thousands of songs, and two queues."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

from browsing import Server, listed, one_song, opened, remember

MANY, MOST = 1_150, 1_000
"""Songs of a server that has more of them than it lists at once."""


def statuses(song: dict[str, Any]) -> tuple[str, ...]:
    """The words by which the server lists a song."""
    return (song["status"], *(["active"] if song["status"] in ("queued", "processing") else []))


def answer(route: Any, songs: list[dict[str, Any]]) -> None:
    """Answer a request for the list as the server does."""
    asked = {name: value for name, [value] in parse_qs(urlsplit(route.request.url).query).items()}
    limit = int(asked.get("limit", 100))
    if limit > MOST:
        return route.fulfill(status=400, json={"error": {"message": "too many", "hint": ""}})
    found = [song for song in songs if asked.get("status", song["status"]) in statuses(song)]
    begin = [song["id"] for song in found].index(asked["after"]) + 1 if "after" in asked else 0
    data = found[begin : begin + limit]
    return route.fulfill(json={"object": "list", "data": data, "has_more": len(found) > begin + limit})


def answer_with(facts: dict[str, Any]) -> Any:
    """A handler of requests that gives these facts."""
    return lambda route: route.fulfill(json=facts)


def test_every_song_of_more_than_a_thousand_is_reached(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        song = one_song(page)
        songs = [listed(song, number) for number in range(MANY)]
        songs[MANY - 2] = listed(song, MANY - 2, status="processing", draft=False)
        page.route("**/v1/songs?*", lambda route: answer(route, songs))
        working = f"**/v1/songs/song-{MANY - 2}"
        page.route(working, answer_with(songs[MANY - 2]))
        page.goto("/#/songs")
        rows = page.get_by_role("region", name="Songs").locator("li")
        queue = page.get_by_role("region", name="In work and waiting", exact=True).locator("li")
        queue.get_by_text(f"Song {MANY - 2}").wait_for()
        assert rows.count() == 100
        more = page.get_by_role("button", name="Show more")
        for shown in range(200, MANY, 100):
            more.click()
            rows.nth(shown - 1).wait_for()
        more.click()
        rows.get_by_text(f"Song {MANY - 1}").wait_for()
        more.wait_for(state="hidden")
        assert rows.count() == MANY - 1  # one is in work
        songs.insert(0, listed(song, MANY))  # a new one pushes none out
        songs[MANY - 1] = listed(song, MANY - 2, status="canceled", draft=False)
        page.unroute(working)
        page.route(working, answer_with(songs[MANY - 1]))
        rows.get_by_text(f"Song {MANY}", exact=True).wait_for()
        rows.get_by_text(f"Song {MANY - 2}").wait_for()
        assert rows.count() == MANY + 1
        assert page.get_by_text("The connection to the server is lost.").count() == 0


def test_a_refused_list_is_no_lost_connection(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        one_song(page)
        page.goto("/#/songs")
        page.locator(".song-title").first.wait_for()
        refusal = {"error": {"message": "later", "hint": ""}}
        page.route("**/v1/songs?*", lambda route: route.fulfill(status=503, json=refusal))
        for _ in range(2):
            with page.expect_response("**/v1/songs?*"):
                pass
        assert page.locator("#notice").inner_text() == ""
        page.unroute_all(behavior="wait")
        page.route("**/v1/songs?*", lambda route: route.abort())
        page.get_by_text("The connection to the server is lost.").wait_for()


def test_remixes_have_a_queue_of_their_own(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        song = one_song(page)

        def waiting(number: int, position: int, task: str | None = None) -> dict[str, Any]:
            return listed(song, number, status="queued", task=task, queue={"position": position})

        songs = [waiting(1, 0), waiting(2, 0, "render"), waiting(3, 1), waiting(4, 1, "render")]
        page.route("**/v1/songs?*", lambda route: answer(route, songs))
        page.goto("/#/songs")
        for name, own in (("In work", (1, 3)), ("Remixes and imports in work", (2, 4))):
            rows = page.get_by_role("region", name=f"{name} and waiting", exact=True).locator("li")
            rows.nth(1).wait_for()
            for row, number, place in zip(rows.all(), own, (1, 2), strict=True):
                assert row.locator(".song-title").inner_text() == f"Song {number}"
                assert f"Number {place} in the queue" in row.inner_text()
                assert row.get_by_role("button", name="Earlier").is_disabled() == (place == 1)
                assert row.get_by_role("button", name="Later").is_disabled() == (place == 2)

        whole = page.request.get(f"v1/songs/{song['id']}").json()
        for task, steps in ((None, 3), ("render", 0)):
            shown = {**whole, "status": "queued", "task": task, "queue": {"position": 0}}
            page.unroute_all(behavior="wait")
            page.route(f"**/v1/songs/{song['id']}", answer_with(shown))
            page.goto(f"/#/song/{song['id']}")
            page.locator(".progress").get_by_text("Number 1 in the queue").wait_for()
            assert page.locator(".steps li:visible").count() == steps
            remember(page)
