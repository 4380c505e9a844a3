"""A few tries of `reliability/scarcity.py`: commands that lack room, rights, files or memory."""

from __future__ import annotations

import os
from typing import Any

import pytest
from crashing import Driver
from helpers import Result
from promises import Broken, check_sentence
from scarcity import Ends, as_nobody, lacking
from writers import WRITERS

BY_NAME = {writer.name: writer for writer in WRITERS}


LACKS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("bundle", {"at": 20, "fault": "EDQUOT"}, "the disk is full"),
    ("bundle", {"limits": {"RLIMIT_FSIZE": 5000}}, "could not be written"),
    ("bundle", {"limits": {"RLIMIT_AS": 1 << 20}}, "memory"),
    ("render", {"at": 60, "fault": "EROFS"}, "is not writable"),
)


@pytest.mark.parametrize(("name", "lack", "said"), LACKS)
def test_a_command_that_lacks_something_says_so_and_goes_on_with_it(
    name: str, lack: dict[str, Any], said: str, driver: Driver
) -> None:
    ends = Ends()
    lacking(driver, BY_NAME[name], driver.undisturbed(BY_NAME[name]), ends, **lack)
    assert dict(ends.sentences) == {said: 1}


@pytest.mark.parametrize("name", ["bundle", "voice save"])  # the second meets it in libsndfile
def test_a_command_that_lacks_one_open_file_says_so_and_goes_on(name: str, driver: Driver) -> None:
    # how many files a process has open when it begins differs between machines, so the limit is searched
    whole, ends = driver.undisturbed(BY_NAME[name]), Ends()
    for limit in range(32, 4, -1):
        lacking(driver, BY_NAME[name], whole, ends, limits={"RLIMIT_NOFILE": limit})
        if ends.refused:
            break
    assert ends.fine > 0
    assert dict(ends.sentences) == {"too many files are open": 1}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_another_user_changes_nothing(driver: Driver) -> None:
    ends = Ends()
    as_nobody(driver, BY_NAME["bundle"], driver.undisturbed(BY_NAME["bundle"]), ends)
    assert ends.refused == 1


@pytest.mark.parametrize(
    ("code", "err"),
    [
        (1, "Traceback (most recent call last):\nerror: x\n"),
        (1, "error: this is a fault of yuegguf itself (KeyError: 1)\n"),
        (1, "note: nothing\n"),
        (-11, "error: x\n"),
        (4, "error: x\nerror: y\n"),
    ],
)
def test_the_driver_notices_any_other_end(code: int, err: str) -> None:
    with pytest.raises(Broken):
        check_sentence(Result(code, "", err))
