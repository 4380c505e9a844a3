"""A finished song in a real browser: remixed, retaken, extended, rewound; and a preview that grows."""

from __future__ import annotations

from typing import Any

from browsing import COUNT_STARTS, DRAFT, Server, create, download, opened, remember, state, tone

SONG = {**DRAFT, "options": {**DRAFT["options"], "straight": True}}
LONGEST = {**DRAFT, "lyrics": "[verse]\nla la la\n\n" * 30, "options": {"segment_seconds": 150}}


def confirm(page: Any, name: str) -> None:
    page.get_by_role("dialog").get_by_role("button", name=name, exact=True).click()
    page.get_by_role("dialog").wait_for(state="detached")


def labels(page: Any) -> list[str]:
    """Labels of the song's sections, once its draft is done."""
    state(page, "Finished")
    page.locator(".block.done").first.wait_for()
    found: list[str] = page.locator(".block").all_inner_texts()
    return found


def test_a_song_is_remixed_retaken_extended_and_rewound(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        song = create(page, SONG)
        assert labels(page) == ["Verse", "Chorus"]
        page.get_by_label("Gain: Instrumental").fill("-6")
        page.get_by_role("button", name="Remix").click()
        assert page.get_by_label("Instrumental, dB").input_value() == "-6"
        page.get_by_role("dialog").get_by_label("flac").check()
        confirm(page, "Remix")
        page.get_by_role("link", name="flac").first.wait_for()
        state(page, "Finished")
        assert download(page, "flac", "Mix") == (server.songs / song / "mix.flac").read_bytes()

        page.get_by_role("button", name="Section 2, Chorus").click()
        page.get_by_text("lo lo lo").wait_for()
        page.get_by_role("button", name="Retake this section").click()
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url))
        page.get_by_role("dialog").get_by_role("button", name="Retake", exact=True).dblclick()
        page.wait_for_url(lambda url: song not in url)
        assert len([url for url in sent if url.endswith("/extend")]) == 1
        again = page.url.rpartition("/")[2]
        assert labels(page) == ["Verse", "Chorus"]

        page.get_by_role("button", name="Extend", exact=True).click()
        page.get_by_label("Lyrics to add").fill("[outro]\nbye bye")
        confirm(page, "Extend")
        page.wait_for_url(lambda url: again not in url)
        longer = page.url.rpartition("/")[2]
        assert labels(page) == ["Verse", "Chorus", "Outro"]

        # the range ends at the song's length once the lanes are there
        page.wait_for_function("() => Number(document.querySelector('.transport input[type=range]').max) > 2")
        page.get_by_label("Position").fill("1.5")
        page.get_by_role("button", name="Rewind to 0:01").click()
        confirm(page, "Rewind")
        page.wait_for_url(lambda url: longer not in url)
        assert labels(page) == ["Verse", "Chorus", "Outro"]
        assert len({song, again, longer, page.url.rpartition("/")[2]}) == 4


def test_the_mix_before_a_remix_is_called_so_and_not_played(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        song = create(page, {**SONG, "options": {**SONG["options"], "formats": ["flac"]}})
        state(page, "Finished")
        page.get_by_role("button", name="Remix").click()
        for name in ("flac", "wav"):
            page.get_by_role("dialog").get_by_label(name).click()
        played: list[str] = []
        page.on("request", lambda request: played.append(request.url))
        confirm(page, "Remix")
        older = page.locator(".files li", has=page.get_by_text("From the mix before", exact=True))
        older.wait_for()
        names = [text.split(" · ")[:2] for text in older.locator("a").all_inner_texts()]
        assert names == [["Mix", "flac"], ["Instrumental", "flac"], ["Vocals", "flac"]]
        assert download(page, "wav", "Mix") == (server.songs / song / "mix.wav").read_bytes()
        page.get_by_role("button", name="Play", exact=True).click()
        page.locator('.stage[data-state="playing"]').wait_for()
        files = {url.rpartition("/")[2] for url in played if "/audio/" in url and "download" not in url}
        assert files == {"vocals.wav", "instrumental.wav"}


def test_a_remix_of_as_many_bytes_is_played(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        create(page, SONG)
        state(page, "Finished")
        page.get_by_role("button", name="Play", exact=True).click()
        page.locator('.stage[data-state="playing"]').wait_for()
        page.locator('.stage[data-state="stopped"]').wait_for()
        page.get_by_role("button", name="Remix").click()
        page.get_by_label("Vocals, dB").fill("-12")
        with page.expect_request("**/peaks?*"):
            confirm(page, "Remix")
        state(page, "Finished")
        page.locator(".stage:not([data-state])").wait_for()
        with page.expect_request("**/audio/vocals.wav"):
            page.get_by_role("button", name="Play", exact=True).click()


def test_a_dialog_is_closed_with_its_screen(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        create(page, SONG)
        state(page, "Finished")
        page.get_by_role("button", name="Remix").click()
        page.get_by_role("dialog").wait_for()
        with page.expect_request("**/render") as sent:
            page.route("**/render", go_back_first)
            page.get_by_role("dialog").get_by_role("button", name="Remix", exact=True).click()
        page.get_by_role("heading", name="New song").wait_for()
        page.get_by_role("dialog").wait_for(state="detached")
        assert sent.value.response().ok
        assert page.locator("#notice").inner_text() == ""
        page.go_forward()
        state(page, "Finished")


def go_back_first(route: Any) -> None:
    """Answer a request only once its screen was left."""
    route.request.frame.page.go_back()
    route.request.frame.page.get_by_role("heading", name="New song").wait_for()
    route.continue_()


def test_lines_without_a_section_extend_a_song_as_a_verse(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        create(page, SONG)
        before = labels(page)
        for lines, more in (("bye bye", ["Verse"]), ("so long\n[outro]\nbye", ["Verse", "Outro"])):
            song = page.url
            page.get_by_role("button", name="Extend", exact=True).click()
            page.get_by_label("Lyrics to add").fill(lines)
            confirm(page, "Extend")
            page.wait_for_url(lambda url, song=song: url != song)
            assert labels(page) == (before := [*before, *more])


def test_seeking_past_the_end_stops_there(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        page.add_init_script(COUNT_STARTS)
        create(page, SONG)
        state(page, "Finished")
        page.locator(".stage").wait_for()
        page.get_by_role("button", name="Play", exact=True).click()
        page.locator('.stage[data-state="playing"]').wait_for()
        page.keyboard.press("ArrowRight")  # five seconds in a song of two
        page.locator('.stage[data-state="stopped"]').wait_for()
        page.get_by_text("0:02 / 0:02").wait_for()
        assert len(page.evaluate("window.starts.splice(0)")) == 2
        page.get_by_role("button", name="Play", exact=True).click()  # from the beginning
        page.locator('.stage[data-state="playing"]').wait_for()
        assert [start[1] for start in page.evaluate("window.starts")] == [0, 0]


def test_the_window_is_played_to_its_end_each_time(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        page.add_init_script(COUNT_STARTS)
        page.clock.install(time=0)
        remember(page)
        page.get_by_role("button", name="Style of one file").click()
        page.locator("#file-ref").set_input_files(tone("mine.wav", 40))
        play = page.get_by_role("button", name="Play the window")
        play.wait_for()
        page.clock.pause_at(3600)
        stops = "window.stops"
        page.evaluate(COUNT_STOPS)
        play.click()
        page.wait_for_function("() => window.starts.length === 1")
        page.clock.run_for(20_000)
        play.click()
        assert page.evaluate(stops) == 1
        play.click()
        page.wait_for_function("() => window.starts.length === 2")
        page.clock.run_for(20_000)  # the first time would have ended
        assert page.evaluate(stops) == 1
        page.clock.run_for(20_000)
        page.wait_for_function("() => window.stops === 2")


COUNT_STOPS = """() => {
  window.stops = 0;
  const stop = AudioBufferSourceNode.prototype.stop;
  AudioBufferSourceNode.prototype.stop = function (...when) {
    window.stops += 1;
    return stop.apply(this, when);
  };
}"""
"""A script that counts the sources of sound that are stopped."""


def test_a_preview_is_played_while_it_grows(browser: Any, server: Server) -> None:
    with opened(browser, server) as page, server.slowed(0.01):
        create(page, LONGEST)
        page.locator('[data-lane="mix"]').wait_for()
        page.get_by_role("button", name="Play", exact=True).click()
        page.locator('.stage[data-state="playing"]').wait_for()
        before = float(page.get_by_label("Position").get_attribute("max"))
        page.wait_for_function(
            "before => Number(document.querySelector('.transport input').max) > before", arg=before
        )
        assert page.locator(".stage").get_attribute("data-state") in ("playing", "waiting")
        assert float(page.get_by_label("Position").input_value()) > 0
        page.get_by_role("button", name="Stop").click()
        state(page, "Stopped")


def test_a_song_is_made_to_a_track_and_in_a_style(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        for kind, part, stored in (
            ("To my vocals", "vocal_stem", "track.npz"),
            ("Style of one file", "ref", "reference.npz"),
        ):
            remember(page)
            page.get_by_role("button", name=kind).click()
            page.locator(f"#file-{part}").set_input_files(tone("mine.wav", 2))
            page.get_by_text("mine.wav").wait_for()
            page.get_by_role("button", name="Draft it").click()
            page.wait_for_url("**/#/song/**")
            state(page, "Draft")
            assert (server.songs / page.url.rpartition("/")[2] / stored).is_file()
            page.go_back()
            page.get_by_role("button", name="Remove mine.wav").click()


def test_a_window_is_saved_as_a_voice(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        remember(page)
        assert page.get_by_role("button", name="Saved voice").count() == 0
        page.get_by_role("button", name="Style of one file").click()
        page.locator("#file-ref").set_input_files(tone("mine.wav", 40))
        page.get_by_label("Window begins at").fill("7")
        page.get_by_role("button", name="Save as a voice").click()
        page.get_by_label("Name of the voice").fill("no/name")
        page.get_by_role("dialog").get_by_role("button", name="Save").click()
        page.get_by_role("dialog").get_by_role("alert").wait_for()
        page.get_by_label("Name of the voice").fill("anna")
        confirm(page, "Save")
        assert page.get_by_role("button", name="Saved voice").get_attribute("aria-pressed") == "true"
        assert page.locator("#voice").input_value() == "anna"
        page.get_by_role("button", name="Draft it").click()
        page.wait_for_url("**/#/song/**")
        asked = page.request.get(f"v1/songs/{page.url.rpartition('/')[2]}").json()["input"]["reference"]
        assert (asked["start"], asked["end"]) == (7.0, 37.0)
        assert page.request.delete("v1/voices/anna").ok


def test_songs_are_imported(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        song = create(page, SONG)
        state(page, "Finished")
        codes = page.request.get(f"v1/songs/{song}/export.zip?format=yue-ui").body()
        page.goto("/#/songs")
        page.get_by_role("button", name="Import").click()
        confirmation = page.get_by_role("dialog").get_by_role("button", name="Import", exact=True)
        confirmation.click()
        page.get_by_role("dialog").get_by_text("Add the files first.").wait_for()
        page.get_by_role("button", name="Zip").click()
        page.locator("#file-zip").set_input_files(
            {"name": "mine.zip", "mimeType": "application/zip", "buffer": codes}
        )
        page.get_by_label("Title").fill("again")
        confirm(page, "Import")
        state(page, "Finished")
        again = page.url.rpartition("/")[2]
        assert (server.songs / again / "stage2.npz").read_bytes() == (
            server.songs / song / "stage2.npz"
        ).read_bytes()

        page.goto("/#/songs")
        page.get_by_role("button", name="Import").click()
        page.get_by_role("button", name="Two stems").click()
        for part in ("vocal_stem", "inst_stem"):
            page.locator(f"#file-{part}").set_input_files(tone(f"{part}.wav", 2))
            page.get_by_role("button", name=f"Remove {part}.wav").wait_for()
        confirmation.click()
        page.get_by_role("dialog").get_by_text("no genre tags are known").wait_for()
        page.get_by_label("Tags").fill("folk")
        page.get_by_label("Take it to its end").uncheck()
        confirm(page, "Import")
        state(page, "Interrupted")
        assert page.locator("h1").inner_text() == "folk"
        assert len({song, again, page.url.rpartition("/")[2]}) == 3
