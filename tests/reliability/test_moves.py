"""A few of the tries of `reliability/moves.py` and `pairs.py`, and proof that they show a fault."""

from __future__ import annotations

import os
from collections.abc import Iterator

import moves
import pytest
from crashing import Driver
from moves import Begun
from pairs import Pairs, pairing
from promises import Broken

CHANGES = {
    "copied": "half of the chunks",
    "renamed": "rendering",
    "behind a link": "half of the log",
}
"""Change of a song → the phase in which it happens."""
LOST = {"base.npz": "refused", "tokens.log": "refused"}
"""Files of songs, and what a resume makes of their loss."""
TRIES = (
    ("drafts", "refine", "takes keep", 40, "one waited"),
    ("drafts", "refine", "takes keep --delete-others", 40, "both ended well"),
    ("one finished", "bundle", "render", 12, "both ended well"),
)
"""Commands of which the first is held at a step."""


@pytest.fixture(scope="module")
def run(driver: Driver) -> Begun:
    return moves.begun(driver, "run")


@pytest.fixture(scope="module")
def extended(driver: Driver) -> Begun:
    return moves.begun(driver, "extend")


@pytest.fixture(scope="module")
def pairs(driver: Driver) -> Iterator[Pairs]:
    with pairing(driver) as found:
        yield found


def middle(kind: Begun, phase: str) -> int:
    """The step in the middle of a phase."""
    steps = kind.moments()[phase]
    return steps[len(steps) // 2]


@pytest.mark.parametrize("name", CHANGES)
def test_what_happens_to_a_half_made_song_does_not_matter(name: str, driver: Driver, run: Begun) -> None:
    moves.change(driver, run, middle(run, CHANGES[name]), name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_half_made_song_that_is_read_only_is_left_alone(driver: Driver, run: Begun) -> None:
    moves.read_only(driver, run, middle(run, "half of the log"))


def lose(driver: Driver, kind: Begun, name: str) -> str:
    """Delete a file of a half-drawn song and resume it; how that ended."""
    moves.interrupt(driver, kind, middle(kind, "half of the log"))
    return moves.lose(driver, kind, moves.keep(driver, kind), name)


@pytest.mark.parametrize("name", LOST)
def test_a_song_without_one_of_its_files_never_becomes_another(
    name: str, driver: Driver, extended: Begun
) -> None:
    assert lose(driver, extended, name) == LOST[name]


def test_the_driver_notices_a_song_that_became_another(driver: Driver, extended: Begun) -> None:
    driver.careless = "forget"
    try:
        with pytest.raises(Broken, match="not the same"):
            lose(driver, extended, "base.npz")
    finally:
        driver.careless = ""


@pytest.mark.parametrize(("start", "first", "second", "at", "end"), TRIES)
def test_two_commands_on_one_folder_end_as_one_after_the_other(
    start: str, first: str, second: str, at: int, end: str, pairs: Pairs
) -> None:
    assert pairs.attempt(start, first, second, at) == end


def test_the_driver_notices_commands_that_do_not_wait(pairs: Pairs) -> None:
    at = pairs.steps("one half rendered", "resume") // 2
    for order in (("resume", "render"), ("render", "resume")):
        pairs.order("one half rendered", *order)
    pairs.driver.careless = "unlocked"
    try:
        with pytest.raises(Broken, match=r"no order gives this: .*song\.json.*: .*song\.json"):
            pairs.attempt("one half rendered", "resume", "render", at)
    finally:
        pairs.driver.careless = ""
