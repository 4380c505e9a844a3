"""The time at which a queue stops."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator

import pytest

from yuegguf.cli._queue_run import clock, seconds_until
from yuegguf.errors import RequestError


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The local time of a place whose clocks change in March and October."""
    if not hasattr(time, "tzset"):
        pytest.skip("this system sets no time zone for a process")
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


def test_the_next_time_that_a_clock_shows() -> None:
    now = datetime.datetime(2026, 1, 31, 22, 30)
    assert clock("23:00", now) == datetime.datetime(2026, 1, 31, 23, 0)
    assert clock("07:15", now) == datetime.datetime(2026, 2, 1, 7, 15)
    assert clock("22:30", now) == datetime.datetime(2026, 2, 1, 22, 30)
    with pytest.raises(RequestError, match="is no time; write it as 07:30"):
        clock("25:00", now)


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(("month", "day", "hours"), [(3, 28, 7), (10, 24, 9), (6, 1, 8)])
def test_a_queue_stops_at_its_time_where_clocks_change_in_the_night(month: int, day: int, hours: int) -> None:
    evening = datetime.datetime(2026, month, day, 23, 30)
    assert seconds_until(clock("07:30", evening), evening) == 3600 * hours


def test_a_time_that_has_passed_is_in_no_seconds() -> None:
    now = datetime.datetime(2026, 6, 1, 12)
    assert seconds_until(now - datetime.timedelta(seconds=1), now) == 0
