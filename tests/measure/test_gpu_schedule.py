"""A run of limited time on a GPU: which measurements it makes, and what it says of the others."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.gpu.schedule import Job, Outcome, markdown, run_in_order

JOBS = tuple(
    Job(name, name.title(), name, {"real": seconds, "nano": 1.0})
    for name, seconds in (("songs", 60.0), ("steps", 100.0), ("kv", 30.0), ("vllm", 20.0))
)


class Clock:
    """Seconds that are left, less what each measurement takes."""

    def __init__(self, seconds: float, taken: dict[str, float]) -> None:
        self.seconds, self.taken = seconds, taken
        self.limits: dict[str, float] = {}

    def left(self) -> float:
        return self.seconds

    def run(self, job: Job, limit: float) -> Outcome:
        self.limits[job.name] = limit
        self.seconds -= self.taken[job.name]
        return Outcome(job.name, job.title, self.taken[job.name], ["a"], [[1]])


def test_what_does_not_fit_is_left_out_with_the_reason_and_cheaper_ones_still_run() -> None:
    clock = Clock(120.0, {"songs": 50.0, "kv": 45.0, "vllm": 20.0})
    outcomes = run_in_order(JOBS, "real", clock.left, clock.run)
    assert [(each.job, each.left_out) for each in outcomes] == [
        ("songs", ""),
        ("steps", "needs about 100 s, and 70 s were left"),
        ("kv", ""),
        ("vllm", ""),
    ]


def test_a_measurement_may_take_three_times_as_long_as_expected_but_no_more_than_there_is() -> None:
    clock = Clock(200.0, {"songs": 80.0, "steps": 10.0, "kv": 100.0, "vllm": 0.0})
    outcomes = run_in_order(JOBS, "real", clock.left, clock.run)
    assert clock.limits == {"songs": 180.0, "steps": 120.0, "kv": 90.0}
    assert outcomes[-1].left_out == "needs about 20 s, and 10 s were left"


def test_each_family_has_its_own_expected_seconds() -> None:
    clock = Clock(5.0, {job.name: 1.0 for job in JOBS})
    outcomes = run_in_order(JOBS, "nano", clock.left, clock.run)
    assert [each.left_out for each in outcomes] == [""] * 4
    assert set(clock.limits.values()) == {2.0, 3.0}


def test_the_report_has_a_table_for_each_measurement_and_names_what_is_missing() -> None:
    rows = [[60, 0.63051, 1234.5, "f16"]]
    measured = Outcome("songs", "Whole songs", 41.6, ["s", "RTF", "draft", "caches"], rows, peak=3 * 2**29)
    missing = Outcome("vllm", "vLLM", 0.0, left_out="vllm is not installed")
    held = replace(measured, title="On a GPU", gpu_peak=2**30, notes=["64 rows do not fit"])
    assert markdown("A card", [measured, missing, held]) == [
        "# A card",
        "",
        "## Whole songs",
        "",
        "Measured in 42 s, 1.50 GiB of main memory.",
        "",
        "| s | RTF | draft | caches |",
        "|---|---|---|---|",
        "| 60 | 0.631 | 1234 | f16 |",
        "",
        "## On a GPU",
        "",
        "Measured in 42 s, 1.00 GiB of the device, 1.50 GiB of main memory.",
        "",
        "| s | RTF | draft | caches |",
        "|---|---|---|---|",
        "| 60 | 0.631 | 1234 | f16 |",
        "",
        "- 64 rows do not fit",
        "",
        "## Left out",
        "",
        "- vLLM: vllm is not installed",
    ]
