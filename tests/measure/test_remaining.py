"""The time left: from remembered songs, and corrected by the song's own speed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import new_song

from yuegguf.measure.remaining import (
    PHASES,
    TENTHS,
    Course,
    RemainingTime,
    remember_course,
    remembered_course,
    song_facts,
)
from yuegguf.progress import Event
from yuegguf.request.song_request import SongRequest
from yuegguf.song.kept_part import KeptPart, write_kept_part
from yuegguf.song.record import ContinuedFrom
from yuegguf.stages.stage1_task import KeptPrefix

Rate = Callable[[float], float]
CAPS = (1500, 1500, 1500, 1500)


def song(
    lengths: tuple[int, ...],
    rates: dict[str, Rate],
    slower: Rate = lambda _now: 1.0,
    kept: tuple[int, int] = (0, 0),
) -> Iterator[tuple[Event, float]]:
    """Events and times of a song: seconds a frame by the share of a phase, and a machine that varies.

    So many sections before and after the new part are `kept` of an earlier song.
    """
    before, after = kept
    new, whole = lengths[before : len(lengths) - after], sum(lengths)
    lengths = lengths[: len(lengths) - after]
    now, frames = 0.0, sum(lengths)
    done = sum(lengths[:before])
    for number, length in enumerate(new, before):
        for _ in range(length // 10):
            done += 10
            now += 10 * rates["draft"](done / frames) * slower(now)
            rest = sum(CAPS[number : len(lengths)]) - (done - sum(lengths[:number]))
            yield Event("draft", done, done + rest), now
    for phase, count, units in (("refine", sum(new), 2 * sum(new)), ("master", whole, whole)):
        for n in range(1, 201):
            now += count / 200 * rates[phase](n / 200) * slower(now)
            yield Event(phase, units * n // 200, units), now


RATES: dict[str, Rate] = {
    "draft": lambda share: 0.2 + 0.1 * share,
    "refine": lambda share: 0.1 + 0.06 * share,
    "master": lambda _share: 0.01,
}
TYPICAL = (1400, 1500, 1200, 1350)


def remembered() -> Course:
    """The course of a song of typical length on an idle machine."""
    estimate = RemainingTime()
    for event, now in song(TYPICAL, RATES):
        estimate.update(event, now)
    return estimate.course(sum(TYPICAL))


def worst(
    course: Course | None,
    events: list[tuple[Event, float]],
    after: float = 0.1,
    kept: tuple[int, int] = (0, 0),
) -> float:
    """The largest error of the time left by the whole time, once a share of the time has passed."""
    estimate, errors, end = RemainingTime(course, kept=kept), [0.0], events[-1][1]
    for event, now in events:
        estimate.update(event, now)
        if now > after * end:
            assert estimate.left is not None
            errors.append(abs(now + estimate.left - end) / end)
    return max(errors)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("lengths", [TYPICAL, (1500, 1500, 1500, 1500), (900, 1500, 1300, 1100)])
def test_after_a_tenth_of_a_song_the_estimate_holds(lengths: tuple[int, ...], factor: float) -> None:
    events = list(song(lengths, RATES, lambda _now: factor))
    assert worst(remembered(), events) < 0.25
    assert worst(remembered(), events, after=0.8) < 0.1


@pytest.mark.parametrize("sections", [(3, 0), (2, 1), (0, 3)])
def test_what_is_kept_of_an_earlier_song_is_not_refined_again(sections: tuple[int, int]) -> None:
    before, after = sections
    kept = sum(TYPICAL[:before]), sum(TYPICAL[len(TYPICAL) - after :])
    events = list(song(TYPICAL, RATES, kept=sections))
    begun, end = next(now for event, now in events if event.phase == "refine"), events[-1][1]
    estimate = RemainingTime(remembered(), kept=kept)
    estimate.update(*events[0])
    assert estimate.left == pytest.approx(end, rel=0.08)
    assert worst(remembered(), events, after=(begun + 20) / end, kept=kept) < 0.03


def test_the_course_of_an_extension_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUEGGUF_CACHE_DIR", str(tmp_path / "cache"))
    codes, none = np.zeros((2, 8, 30), np.int16), np.zeros((2, 8, 0), np.int16)
    extension = new_song(tmp_path, origin=ContinuedFrom(folder="old", seed=1))
    write_kept_part(extension.path, KeptPart(KeptPrefix(1), (30,), codes, (), none))
    facts = song_facts(extension)
    assert facts.kept == (30, 0)
    remember_course(Course({"draft": (0.0, 1.0)}), facts)
    assert remembered_course(facts) is None
    draft = KeptPart(KeptPrefix(1), (30,), codes[:, :1], (), none[:, :1])
    write_kept_part(extension.path, draft)
    assert song_facts(extension).kept == (0, 0)  # that is refined


def test_load_that_begins_in_the_middle_is_followed() -> None:
    events = list(song(TYPICAL, RATES, lambda now: 2.0 if now > 600 else 1.0))
    end = events[-1][1]
    assert worst(remembered(), events, after=1000 / end) < 0.25


def test_the_first_song_on_a_machine_corrects_itself_from_phase_to_phase() -> None:
    events = list(song(TYPICAL, RATES))
    assert worst(None, events) < 0.35
    begun = next(now for event, now in events if event.phase == "refine")
    assert worst(None, events, after=(begun + 60) / events[-1][1]) < 0.15


def test_a_course_that_the_song_contradicts_is_forgotten() -> None:
    course = remembered()
    wrong = {phase: tuple(seconds / 400 for seconds in curve) for phase, curve in course.phases.items()}
    wrong["refine"] = tuple(seconds * 100 for seconds in wrong["refine"])
    events = list(song(TYPICAL, RATES))
    assert worst(Course(wrong, course.fill), events) < 0.35
    assert worst(Course(wrong, course.fill), events, after=0.8) < 0.15


def test_a_remembered_song_gives_an_estimate_from_the_first_event() -> None:
    estimate = RemainingTime(remembered())
    events = list(song(TYPICAL, RATES))
    estimate.update(*events[0])
    assert estimate.left == pytest.approx(events[-1][1], rel=0.1)
    fresh = RemainingTime()
    fresh.update(*events[0])
    assert fresh.left is None


def test_the_share_never_falls_and_ends_at_one() -> None:
    estimate = RemainingTime()
    shares = []
    for event, now in song(TYPICAL, RATES):
        estimate.update(event, now)
        shares.append(estimate.share)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    assert estimate.left == pytest.approx(0.0)


def test_a_section_that_is_generated_again_never_lowers_the_share() -> None:
    estimate = RemainingTime()
    for done, now in ((300, 60.0), (600, 120.0), (300, 121.0), (330, 127.0)):
        estimate.update(Event("draft", done, 6000), now)
        assert estimate.left is None or estimate.left > 0
    assert estimate.share >= 0.05


def test_a_phase_that_was_begun_elsewhere_is_not_remembered() -> None:
    estimate = RemainingTime()
    for event, now in song(TYPICAL, RATES):
        if event.phase != "draft" or event.done > 3000:
            estimate.update(event, now)
    assert set(estimate.course(sum(TYPICAL)).phases) == {"refine", "master"}


@pytest.mark.parametrize("known", [("draft",), ("draft", "refine"), ("refine", "master")])
def test_phases_that_were_never_measured_are_in_proportion_to_the_others(known: tuple[str, ...]) -> None:
    """As after drafts alone."""
    whole = remembered()
    course = Course({phase: whole.phases[phase] for phase in known}, whole.fill)
    events = list(song(TYPICAL, RATES))
    assert worst(course, events) < 0.35
    estimate = RemainingTime(course)
    for event, now in events:
        estimate.update(event, now)
        assert abs(estimate.share - now / events[-1][1]) < 0.35


def test_a_phase_of_one_event_is_remembered_as_a_whole() -> None:
    estimate = RemainingTime()
    for done in range(0, 101, 10):
        estimate.update(Event("draft", done, 100), 0.5 * done)
    estimate.update(Event("refine", 150, 200), 80.0)
    estimate.update(Event("refine", 200, 200), 90.0)
    estimate.update(Event("master", 100, 100), 95.0)
    phases = estimate.course(100).phases
    assert phases["refine"] == pytest.approx([*(0.04 * n for n in range(8)), 0.32, 0.36, 0.4])
    assert phases["master"] == pytest.approx([0.005 * n for n in range(TENTHS + 1)])


def test_takes_that_report_one_after_the_other_fill_no_more_than_there_is() -> None:
    estimate = RemainingTime(phases=("draft",))
    for done, total in ((1, 1600), (2, 3200), (3, 4800), (2000, 4000), (3000, 3000)):
        estimate.update(Event("draft", done, total), float(done))
    assert estimate.course(3000).fill == 3000 / 4800


def test_short_songs_do_not_replace_the_course_of_long_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUEGGUF_CACHE_DIR", str(tmp_path / "cache"))
    facts = [
        song_facts(new_song(tmp_path, SongRequest("pop", "[verse]\nla", segment_seconds=seconds)))
        for seconds in (2.0, 30.0, 20.0)
    ]
    short, long, _ = facts
    assert remembered_course(long) is None
    remember_course(Course({"draft": (0.0, 1.0)}), short)
    assert remembered_course(long) == Course({"draft": (0.0, 1.0)})  # better than none
    remember_course(Course({"draft": (0.0, 2.0)}), long)
    assert [remembered_course(each) for each in facts] == [
        Course({"draft": (0.0, seconds)}) for seconds in (1.0, 2.0, 2.0)
    ]


def test_the_course_of_a_song_is_its_own() -> None:
    course = remembered()
    assert set(course.phases) == set(PHASES)
    assert all(len(curve) == TENTHS + 1 for curve in course.phases.values())
    assert course.phases["draft"][-1] == pytest.approx(0.25, rel=0.01)
    assert course.phases["refine"][5] == pytest.approx(0.1 * 0.5 + 0.03 * 0.25, rel=0.05)
    assert course.fill == pytest.approx(sum(TYPICAL) / sum(CAPS))


def test_work_of_one_phase_alone() -> None:
    estimate = RemainingTime(phases=("convert",))
    for n in range(11):
        estimate.update(Event("convert", n * 10, 100), 3.0 * n)
    assert (estimate.share, estimate.elapsed, estimate.left) == (1.0, 30.0, 0.0)
    estimate = RemainingTime(phases=("export",))
    estimate.update(Event("export", 0, 0), 5.0)
    assert estimate.share == 1.0
