"""A few of the kills of `reliability/crashing.py`, which runs for hours, and proof that they show a fault."""

from __future__ import annotations

import re

import pytest
from crashing import Driver, Found
from disk_steps import SIGNALS
from promises import Broken
from writers import WRITERS

BY_NAME = {writer.name: writer for writer in WRITERS}
FEW = {"render": 2, "import": 1, "resume: draft": 2, "takes keep": 1, "bundle": 1}
"""Commands killed here, and how often."""
INTERRUPTED = (
    *("run", "resume: draft", "resume: refine", "refine", "render", "extend", "stems", "takes keep"),
    *("decode", "encode", "convert", "quantize", "pull --from"),
)
"""Commands that get a signal here."""


@pytest.mark.parametrize("name", FEW)
def test_a_killed_command_goes_on_to_the_same_bytes(name: str, driver: Driver) -> None:
    writer, found = BY_NAME[name], Found()
    whole = driver.undisturbed(writer)
    for part in range(1, FEW[name] + 1):
        driver.kill(writer, part * len(whole.steps) // (FEW[name] + 1), whole, found)
    assert found.kills == FEW[name]


@pytest.mark.parametrize("name", INTERRUPTED)
def test_a_signal_in_the_middle_of_a_command_is_one_line_and_it_goes_on(name: str, driver: Driver) -> None:
    """A first signal is 75 or 130, by whether what is there is kept; the same files come of it in the end."""
    writer, found = BY_NAME[name], Found()
    whole, codes = driver.undisturbed(writer), set()
    for part, sent in enumerate(SIGNALS):
        codes.add(driver.interrupt(writer, 1 + part * len(whole.steps) // 3, sent, whole, found))
    assert codes & {75, 130}


def test_the_driver_notices_a_file_that_is_written_without_care(driver: Driver) -> None:
    writer = BY_NAME["render --force"]
    driver.careless = "write"
    try:
        whole, found = driver.undisturbed(writer), Found()
        at = whole.steps.index("write song/song.json") + 2  # half of it is written
        with pytest.raises(Broken, match=r"song/song\.json cannot be read"):
            driver.kill(writer, at, whole, found)
    finally:
        driver.careless = ""


def test_a_queue_that_is_killed_where_a_song_begins_does_not_begin_it_twice(driver: Driver) -> None:
    writer = BY_NAME["run --queue"]
    whole, found = driver.undisturbed(writer), Found()
    begun = next(n for n, step in enumerate(whole.steps, 1) if re.match(r"os\.rename songs/first-\w+$", step))
    driver.kill(writer, begun + 1, whole, found)
    assert found.kills == 1
