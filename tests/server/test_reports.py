"""Reports of progress: the first and last event of a phase, and few between them."""

from __future__ import annotations

from yuegguf.progress import Event, ProgressSum
from yuegguf.server.reports import REPORT_SECONDS, Reports
from yuegguf.server.task_work import TaskProgress


def test_a_phase_is_reported_at_its_ends_and_now_and_then() -> None:
    reports = Reports()
    events = [
        ("draft", 0, 0.0, True),
        ("draft", 1, 0.9 * REPORT_SECONDS, False),
        ("draft", 2, REPORT_SECONDS, True),
        ("draft", 3, 1.9 * REPORT_SECONDS, False),
        ("refine", 0, 1.9 * REPORT_SECONDS, True),
        ("refine", 1, 2.0 * REPORT_SECONDS, False),
        ("refine", 9, 2.1 * REPORT_SECONDS, True),
    ]
    found = [reports.are_due(Event(phase, done, 9), now) for phase, done, now, _ in events]
    assert found == [due for *_, due in events]


def test_a_task_sends_the_reports_that_are_due() -> None:
    sent: list[dict[str, object]] = []
    progress = TaskProgress(sent.append, lambda: None)
    for done in (*range(1000), 1000):
        progress(Event("encode", done, 1000))
    assert len(sent) < 500
    assert [sent[0]["facts"]["done"], sent[-1]["facts"]["done"]] == [0.0, 1.0]  # type: ignore[index]


def test_the_sum_of_takes_says_which_section_is_drafted() -> None:
    found: list[Event] = []
    parts = ProgressSum(found.append, 2, "takes")
    parts.part(1, "take 1")(Event("draft", 3, 10, "section 1 of 4", section=1))
    parts.part(2, "take 2")(Event("draft", 4, 10, "section 2 of 4", section=2))
    assert found[1:] == [Event("draft", 7, 20, "2 takes, section 2 of 4", section=2)]
