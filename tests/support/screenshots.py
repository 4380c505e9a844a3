"""Pictures of the page for docs/: `python tests/support/screenshots.py docs`.

A song with the bundled models is written, drafted and finished in a real browser.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from browsing import PHONE, chromium, create, opened, remember, serving, state

VERSES = """[verse]
Staring at the sunset, colors paint the sky
Thoughts of you keep swirling, can't deny

[chorus]
Every road you take, I'll be one step behind
Every dream you chase, I'm reaching for the light

[verse]
Walking through the silence, counting every star

[outro]
"""
SONG = {
    "tags": ["pop", "piano", "uplifting", "female", "airy vocal"],
    "lyrics": VERSES,
    "options": {"segment_seconds": 7, "seed": 7, "name": "One step behind"},
}
LONG = 600_000
"""Most milliseconds that a picture waits for its song."""
WINDOW = {"width": 1200, "height": 880}


def written(page: Any, file: Path) -> None:
    """Show the song as it is written."""
    remember(page, SONG)
    page.get_by_text("4 sections").wait_for()
    page.screenshot(path=file)


def main(folder: Path) -> None:
    """Write page-write.png, page-song.png, page-dark.png and page-phone.png into a folder."""
    with (
        tempfile.TemporaryDirectory() as place,
        serving(Path(place) / "songs", "yuegguf") as server,
        chromium() as browser,
    ):
        with opened(browser, server, viewport=WINDOW) as page:
            page.set_default_timeout(LONG)
            written(page, folder / "page-write.png")
            song = create(page, SONG)
            state(page, "Draft")
            page.get_by_role("button", name="Finish it").click()
            state(page, "Finished")
            page.get_by_role("button", name="Section 2, Chorus").click()
            page.locator(".stage").get_by_label("Gain: Instrumental").fill("-3")
            page.mouse.move(0, 0)
            page.get_by_role("button", name="Rewind to").wait_for()  # its audio is loaded
            page.locator("#waiting").wait_for(state="hidden")  # of the songs in work
            page.screenshot(path=folder / "page-song.png")
            page.emulate_media(color_scheme="dark")
            page.screenshot(path=folder / "page-dark.png")
        with opened(browser, server, viewport=PHONE, device_scale_factor=2, is_mobile=True) as page:
            page.goto(f"/#/song/{song}")
            page.locator(".block").first.wait_for()
            page.locator(".lane .wave").nth(1).wait_for()
            page.screenshot(path=folder / "page-phone.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
