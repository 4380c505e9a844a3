"""The stage of a song in a real browser while the song changes: what is heard, shown and chosen goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from browsing import COUNT_STARTS, DRAFT, Server, create, opened, state

TAKES = {**DRAFT, "options": {**DRAFT["options"], "candidates": 2}}
LOOK, SLOW = 4_000, 10_000
"""Milliseconds between two looks of the page at a growing preview, and at a song that has ended."""
HOLD = """
  window.contexts = 0;
  window.decoded = 0;
  window.held = null;
  window.AudioContext = class extends AudioContext {
    constructor(...options) {
      super(...options);
      window.contexts += 1;
    }
  };
  const decode = OfflineAudioContext.prototype.decodeAudioData;
  OfflineAudioContext.prototype.decodeAudioData = async function (bytes) {
    const buffer = await decode.call(this, bytes);
    window.decoded += 1;
    await window.held;
    return buffer;
  };
"""
"""A script that counts players that begin, and keeps decoded files back while `held` is a promise."""
KEEP_BACK = "() => { window.held = new Promise((resolve) => { window.release = resolve; }); }"
PLAYERS_AFTER_RELEASE = """() => {
  window.release();
  return new Promise((resolve) => setTimeout(() => resolve(window.contexts), 0));
}"""
COUNT_CALLS = """
  window.frames = new Set();
  window.timers = new Set();
  const { requestAnimationFrame, cancelAnimationFrame, setTimeout, clearTimeout } = window;
  window.requestAnimationFrame = (action) => {
    const id = requestAnimationFrame((now) => { window.frames.delete(id); action(now); });
    window.frames.add(id);
    return id;
  };
  window.cancelAnimationFrame = (id) => { window.frames.delete(id); cancelAnimationFrame(id); };
  window.setTimeout = (action, milliseconds) => {
    const id = setTimeout(() => { window.timers.delete(id); action(); }, milliseconds);
    if (milliseconds === 50) window.timers.add(id);
    return id;
  };
  window.clearTimeout = (id) => { window.timers.delete(id); clearTimeout(id); };
"""
"""A script that keeps the frames, and the player's looks at its end, that are asked for and have not come."""


def answer_half(route: Any, url: str | None = None) -> None:
    """Answer with the first half of a wav file."""
    wave = route.fetch(url=url).body()
    route.fulfill(body=wave[: 44 + (len(wave) - 44) // 2], content_type="audio/wav")


class Answers:
    """The server's answers about a song and its takes, changed by a function.

    A preview in them is the first second of the draft.
    """

    def __init__(self, page: Any, *songs: str) -> None:
        self.change: Callable[[dict[str, Any]], object] = lambda body: None
        for song in map(quote, songs):
            page.route(f"**/v1/songs/{song}", self._song)
            page.route(f"**/v1/songs/{song}/audio/preview.wav", self._preview)
            page.route(f"**/v1/songs/{song}/peaks?name=preview.wav*", self._peaks)

    def _song(self, route: Any) -> None:
        answer = route.fetch()
        body = answer.json()
        self.change(body)
        route.fulfill(response=answer, json=body)

    def _preview(self, route: Any) -> None:
        answer_half(route, route.request.url.replace("preview.wav", "draft.wav"))

    def _peaks(self, route: Any) -> None:
        route.fulfill(json={"seconds": 1.0, "peaks": [0.5] * 100})


def active(body: dict[str, Any], section: int, files: int = 1, size: int = 90_000) -> None:
    """A song in work with a preview."""
    preview = {"name": "preview.wav", "bytes": size, "url": f"v1/songs/{body['id']}/audio/preview.wav"}
    progress = {"phase": "draft", "done": 0.5, "note": "2 takes, section 2 of 2", "section": section}
    body |= {"status": "processing", "files": [preview] * files, "downloads": []}
    body |= {"progress": {**progress, "elapsed_seconds": 1, "eta_seconds": 1}, "resumable": False}
    body["timeline"] = [{**each, "start": None, "seconds": None} for each in body["timeline"]]


def stopped(body: dict[str, Any], files: int = 1) -> None:
    active(body, 1, files)
    body |= {"status": "canceled", "progress": None}


def ended(page: Any, song: str) -> None:
    """Wait until a song has ended; the page does not look at it meanwhile."""
    look = f"fetch('v1/songs/{song}?ended').then((answer) => answer.json())"
    while (found := page.evaluate(look))["status"] != "succeeded" or found["draft"]:
        pass


def heard(page: Any, starts: int, word: str) -> None:
    """Wait until so many sources have begun, and the stage has a state."""
    page.wait_for_function(
        """([n, word]) => window.starts.length === n
          && document.querySelector('.stage').dataset.state === word""",
        arg=[starts, word],
    )


def test_no_music_begins_where_nothing_can_stop_it(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        page.add_init_script(HOLD + COUNT_STARTS)
        song = create(page)
        state(page, "Draft")
        play = page.get_by_role("button", name="Play", exact=True)
        page.evaluate(KEEP_BACK)
        play.click()
        page.wait_for_function("() => window.decoded === 2")
        page.get_by_role("link", name="Machine").click()
        page.locator(".models li").first.wait_for()
        assert page.evaluate(PLAYERS_AFTER_RELEASE) == 0

        page.goto(f"/#/song/{song}")
        page.evaluate(KEEP_BACK)
        play.click()
        page.wait_for_function("() => window.decoded === 4")
        page.get_by_role("button", name="Finish it").click()
        state(page, "Finished")  # the new files are played
        page.evaluate("window.release()")
        page.get_by_role("button", name="Pause", exact=True).wait_for()
        assert page.evaluate("[window.contexts, window.starts.length]") == [1, 2]


def test_a_song_that_was_changed_elsewhere_is_shown_as_it_is(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        song = create(page)
        state(page, "Draft")
        answers = Answers(page, song)
        answers.change = lambda body: body.update(seconds=None)
        page.clock.install(time=0)
        page.reload()
        meta = page.locator(".screen-head .meta")
        meta.get_by_text("Seed 5").wait_for()
        assert "0:02" not in meta.inner_text()
        answers.change = lambda body: None
        page.clock.run_for(SLOW)
        meta.get_by_text("0:02").wait_for()

        page.wait_for_function("() => Number(document.querySelector('.transport input').max) > 1.9")
        page.get_by_label("Gain: Vocals").fill("-3")
        page.get_by_role("button", name="Mute: Instrumental").click()
        page.get_by_label("Position").fill("1")
        page.get_by_text("0:01 / 0:02").wait_for()
        assert page.get_by_text("This is the draft.").is_visible()
        assert page.request.post(f"v1/songs/{song}/refine").ok
        ended(page, song)
        page.clock.run_for(SLOW)
        remix = page.get_by_role("button", name="Remix")
        remix.wait_for()
        assert page.get_by_text("This is the draft.").count() == 0
        page.get_by_text("0:01 / 0:02").wait_for()
        assert page.get_by_label("Gain: Vocals").input_value() == "-3"
        muted = page.get_by_role("button", name="Mute: Instrumental")
        assert muted.get_attribute("aria-pressed") == "true"

        assert page.request.post(f"v1/songs/{song}/render", data={"vocal_gain": -6}).ok
        ended(page, song)
        page.clock.run_for(SLOW)
        # the new files have the gain
        page.wait_for_function("() => document.querySelector('[data-lane=vocals] input').value === '0'")
        remix.click()
        assert page.get_by_label("Vocals, dB").input_value() == "-6"
        assert muted.get_attribute("aria-pressed") == "true"


def test_a_stopped_song_waits_for_no_more_music(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        page.add_init_script(COUNT_STARTS)
        song = create(page)
        state(page, "Draft")
        answers = Answers(page, song)
        answers.change = stopped
        page.clock.install(time=0)
        page.reload()
        play = page.get_by_role("button", name="Play", exact=True)
        page.get_by_text("/ 0:01").wait_for()
        for starts in (1, 2):
            play.click()
            heard(page, starts, "stopped")
        assert [start[1] for start in page.evaluate("window.starts")] == [0, 0]

        answers.change = lambda body: active(body, 1)
        page.reload()
        state(page, "In work")
        assert page.locator(".block.now").all_inner_texts() == ["Verse"]  # the note has other numbers
        play.click()
        heard(page, 1, "waiting")

        link = page.locator(".files").get_by_role("link", name="wav")
        before = link.inner_text()
        link.focus()
        answers.change = lambda body: active(body, 2, size=190_000)
        page.clock.run_for(LOOK)
        page.wait_for_function(
            "before => document.querySelector('.files a').textContent !== before", arg=before
        )
        assert page.evaluate("document.activeElement.dataset.file") == "preview.wav"
        assert page.locator(".block.now").all_inner_texts() == ["Chorus"]

        page.route("**/cancel", lambda route: route.fulfill(json={}))
        answers.change = stopped
        page.get_by_role("button", name="Stop").click()
        state(page, "Stopped")
        page.clock.run_for(LOOK)
        heard(page, 1, "stopped")
        play.wait_for()

        answers.change = lambda body: active(body, 1, files=0)
        page.reload()
        page.get_by_text("Music appears here as soon as").wait_for()
        answers.change = lambda body: stopped(body, files=0)
        page.get_by_role("button", name="Stop").click()
        page.get_by_text("There is no music yet.").wait_for()


def test_listening_goes_on_when_the_drafts_of_takes_end(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        page.add_init_script(COUNT_STARTS)
        song = create(page, TAKES)
        state(page, "Draft")
        takes = page.request.get(f"v1/songs/{song}").json()["takes"]
        answers = Answers(page, song, *takes)
        over = [False, False]  # to be said from the next answer about the song on, and said

        def drafts_end(body: dict[str, Any]) -> None:
            if body["takes"]:
                over[1] = over[0]
            if not over[1]:
                active(body, 1, files=0 if body["takes"] else 1)

        answers.change = drafts_end
        page.clock.install(time=0)
        page.reload()
        state(page, "In work")
        page.get_by_role("button", name="Play", exact=True).click()
        take = page.get_by_role("button", name="Take B", exact=True)
        take.click()
        heard(page, 2, "waiting")
        over[0] = True
        page.clock.run_for(LOOK)
        state(page, "Draft")
        page.wait_for_function("() => window.starts.length === 4")
        assert [start[1] for start in page.evaluate("window.starts")[2:]] == pytest.approx([1, 1], abs=0.01)
        assert take.get_attribute("aria-pressed") == "true"
        assert page.evaluate("document.activeElement.textContent") == "Take B"


def test_a_shorter_take_stops_at_its_own_end(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        page.add_init_script(COUNT_STARTS)
        song = create(page, TAKES)
        state(page, "Draft")
        short = quote(page.request.get(f"v1/songs/{song}").json()["takes"][1])
        page.route(f"**/v1/songs/{short}/audio/draft.wav", lambda route: answer_half(route))
        page.reload()
        for take, begin, end in (("B", 0, 1), ("A", 1, 2)):
            page.get_by_role("button", name=f"Take {take}", exact=True).click()
            page.get_by_role("button", name="Play", exact=True).click()
            page.wait_for_function("() => window.starts.length > 0")
            page.locator('.stage[data-state="stopped"]').wait_for()
            assert page.evaluate("window.starts.splice(0)")[0][1] == pytest.approx(begin, abs=0.01)
            assert float(page.get_by_label("Position").input_value()) == pytest.approx(end, abs=0.1)


def test_changes_while_it_plays_add_no_calls(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        page.add_init_script(COUNT_CALLS)
        create(page)
        state(page, "Draft")
        page.get_by_role("button", name="Play", exact=True).click()
        page.locator('.stage[data-state="playing"]').wait_for()
        frames, timers = page.evaluate(
            """async () => {
              const stage = document.querySelector(".stage");
              const gain = stage.querySelector("[data-lane] input");
              const position = stage.querySelector(".transport input");
              for (let n = 0; n < 20; n++) {
                gain.value = -n / 2;
                gain.dispatchEvent(new Event("input"));
                position.value = 0;
                position.dispatchEvent(new Event("input"));
                await new Promise(requestAnimationFrame); // it stops, and plays again from there
                while (stage.dataset.state !== "playing") await new Promise(requestAnimationFrame);
              }
              return [window.frames.size, window.timers.size];
            }"""
        )
        assert (frames, timers) == (1, 1)
