"""A section with a fault is generated again, up to its retries, and a resume never sees the dropped codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import MemoryJournal
from helpers import FAST, OURS, Capture, cli, ended
from tasks import LONG, PROMPT, VOCAB, OneSnapshot, Refrain

from yuegguf.pipeline import draft_phase
from yuegguf.progress import Event
from yuegguf.song.token_log import TokenLog
from yuegguf.stages import stage1
from yuegguf.stages.faults import Fault
from yuegguf.stages.stage1_task import END_OF_AUDIO, Checkpoint, Journal, KeptPrefix, Stage1Task

HUM = Fault("collapse", "it hums", 50)


class Faulty:
    """Reports a fault at the first `count` checks of a section."""

    def __init__(self, section: int, count: int, certain: bool = True) -> None:
        self.section, self.left, self.seen, self.certain = section, count, [], certain

    def __call__(self, section: int, codes: Sequence[int], ended: bool) -> Fault | None:
        self.seen.append((section, len(codes), ended))
        if section != self.section or not self.left:
            return None
        self.left -= 1
        return Fault("silent voice", "the voice is silent", len(codes) // 2, self.certain)


class Ending(Refrain):
    """A model that ends every section before its limit."""

    def _logits(self, ids: Sequence[int]) -> np.ndarray:
        logits = super()._logits(ids)
        logits[VOCAB.eoa] += 40 * (len(ids) % 5 == 0)
        return logits


def generate(
    task: Stage1Task,
    journal: Journal,
    events: list[Event] | None = None,
    engine: type[Refrain] = Refrain,
) -> list[list[int]]:
    notes = events if events is not None else []
    return [c.tolist() for c in stage1.generate_codes(task, engine(), VOCAB, journal, progress=notes.append)]


def with_faults(count: int, section: int = 1, retries: int = 2) -> Stage1Task:
    return replace(LONG, fault_check=Faulty(section, count), retries=retries)


def test_a_section_with_a_fault_is_generated_again_and_earlier_ones_stay() -> None:
    plain = generate(LONG, MemoryJournal())
    events: list[Event] = []
    sung = generate(with_faults(1), MemoryJournal(), events)
    assert sung[0] == plain[0]
    assert sung[1] != plain[1]
    assert [event.warning for event in events if event.warning] == [
        "section 2 is generated again: the voice is silent"
    ]


def test_another_attempt_has_other_random_numbers_and_always_the_same() -> None:
    once, again = generate(with_faults(1), MemoryJournal()), generate(with_faults(1), MemoryJournal())
    assert once == again
    assert generate(with_faults(2), MemoryJournal())[1] != once[1]


def test_after_the_retries_the_last_one_is_kept_with_a_warning() -> None:
    events: list[Event] = []
    journal = MemoryJournal()
    sung = generate(with_faults(99, retries=2), journal, events)
    assert journal.attempt(1) == 2
    assert len(sung) == 3
    warnings = [event.warning for event in events if event.warning]
    assert warnings == [
        "section 2 is generated again: the voice is silent",
        "section 2 is generated again: the voice is silent",
        "section 2 is kept, since it has no retries left: the voice is silent",
    ]


def test_a_doubtful_section_is_kept_at_once_and_its_user_is_told() -> None:
    events: list[Event] = []
    journal = MemoryJournal()
    doubtful = replace(LONG, fault_check=Faulty(1, 99, certain=False), retries=2)
    assert generate(doubtful, journal, events) == generate(LONG, MemoryJournal())
    assert journal.attempt(1) == 0
    assert {event.warning for event in events if event.warning} == {
        "section 2 is kept, but listen to it: the voice is silent"
    }
    sections = [np.array(journal.codes(n), np.int16) for n in range(3)]
    assert draft_phase.faults_of(doubtful, sections) == {}
    certain = replace(doubtful, fault_check=Faulty(1, 1))
    assert draft_phase.faults_of(certain, sections) == {"2": "the voice is silent"}


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_a_resume_at_any_draw_after_a_bad_attempt_is_the_same_song(count: int) -> None:
    whole = MemoryJournal()
    expected = generate(with_faults(count), whole)
    steps = Refrain()
    stage1.generate_codes(with_faults(count), steps, VOCAB, MemoryJournal())
    for cut in range(len(whole.codes(1)) + 1):
        partial = MemoryJournal([list(whole.codes(0)), list(whole.codes(1))[:cut]])
        partial.attempts = {1: count}
        engine = Refrain()
        task = replace(LONG, fault_check=Faulty(1, 0), retries=2)
        assert [c.tolist() for c in stage1.generate_codes(task, engine, VOCAB, partial)] == expected
        fed = [[(row.seq, row.ids) for row in call] for call in engine.calls]
        undisturbed = [[(row.seq, row.ids) for row in call] for call in steps.calls]
        begun = [i for i, call in enumerate(undisturbed) if call[0][1][-3:] == PROMPT.sections[1]]
        assert len(begun) == count + 1
        assert fed == undisturbed[: begun[0]] + undisturbed[begun[-1] :]  # but for the bad attempts


def test_a_fault_is_found_where_work_stopped_right_behind_the_end() -> None:
    plain = MemoryJournal()
    generate(LONG, plain, engine=Ending)
    for section in range(3):
        assert plain.codes(section)[-1] == END_OF_AUDIO
        partial = MemoryJournal([list(plain.codes(n)) for n in range(section + 1)])
        resumed = generate(with_faults(1, section), partial, engine=Ending)
        assert resumed == generate(with_faults(1, section), MemoryJournal(), engine=Ending)
        assert partial.attempt(section) == 1


def test_a_section_that_others_follow_stays() -> None:
    """An earlier version went on behind a fault that it had not looked for."""
    plain = MemoryJournal()
    expected = generate(LONG, plain)
    partial = MemoryJournal([list(plain.codes(0)), list(plain.codes(1)), list(plain.codes(2))[:3]])
    for section in (0, 1):
        assert generate(with_faults(1, section), partial) == expected
        assert partial.attempt(section) == 0


def test_a_restart_after_a_snapshot_reads_the_same_batches_as_an_undisturbed_one() -> None:
    plain, snapshot = MemoryJournal(), OneSnapshot(Checkpoint(1, 6, 0))
    stage1.generate_codes(LONG, Refrain(), VOCAB, plain, snapshots=snapshot)
    steps, resumed = Refrain(), Refrain()
    expected = stage1.generate_codes(with_faults(1), steps, VOCAB, MemoryJournal())
    partial = MemoryJournal([list(plain.codes(0)), list(plain.codes(1))[:8]])
    sections = stage1.generate_codes(with_faults(1), resumed, VOCAB, partial, snapshots=snapshot)
    assert [c.tolist() for c in sections] == [c.tolist() for c in expected]

    def after_restart(engine: Refrain) -> list[list[tuple[int, Sequence[int]]]]:
        calls = [[(row.seq, row.ids) for row in call] for call in engine.calls]
        return calls[max(i for i, call in enumerate(calls) if call[0][1][-3:] == PROMPT.sections[1]) :]

    assert after_restart(resumed) == after_restart(steps)


def test_given_codes_stay_when_their_section_is_drawn_anew() -> None:
    whole = MemoryJournal()
    generate(LONG, whole)
    journal = MemoryJournal([list(whole.codes(0)), list(whole.codes(1))[:6]])
    sung = generate(replace(with_faults(1), kept_prefix=KeptPrefix(1, 6)), journal)
    assert sung[1][:6] == whole.codes(1)[:6]
    assert journal.attempt(1) == 1


def test_faults_are_checked_every_hundred_codes_and_at_the_end() -> None:
    check = Faulty(0, 0)
    long = replace(
        LONG, caps=[160, 30, 30], sampling=replace(LONG.sampling, min_new_tokens=320), fault_check=check
    )
    generate(replace(long, retries=1), MemoryJournal())
    assert [call for call in check.seen if call[0] == 0] == [
        (0, 100, False),
        (0, 200, False),
        (0, 300, False),
        (0, 320, True),
    ]


def test_attempts_survive_on_disk(tmp_path: Path) -> None:
    log = TokenLog.open(tmp_path / "log")
    sung = generate(with_faults(1), log)
    log.close()
    again = TokenLog.open(tmp_path / "log")
    assert again.attempt(1) == 1
    assert [again.attempt(0), again.attempt(2)] == [0, 0]
    assert [c for c in again.codes(1) if c >= 0] == sung[1]
    assert b"again 0 " in (tmp_path / "log").read_bytes()


def test_a_song_with_a_section_that_stays_wrong_is_made_and_exits_6(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        draft_phase,
        "fault_check",
        lambda *_song: lambda section, codes, ended: HUM if section == 1 else None,
    )
    result = cli(capsys, "run", *OURS, *FAST, "-o", tmp_path, "--json")
    assert result.code == 6
    assert [section["fault"] for section in result.json["sections"]] == ["", "it hums", ""]
    folder = Path(result.json["folder"])
    assert (folder / "mix.wav").exists()
    again = f"generate it again with: yuegguf extend {folder} --retake 2 --keep-after"
    assert f"note: section 2: it hums; {again}" in result.err
    monkeypatch.undo()
    mended = cli(capsys, "extend", folder, "--retake", 2, "--keep-after", "--json", "--threads", 1)
    ended(mended)
    assert [section["fault"] for section in mended.json["sections"]] == ["", "", ""]


@pytest.mark.slow
def test_takes_exit_6_only_if_none_is_good(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("run", *OURS, *FAST, "-n", 2, "--retries", 1, "--name")
    monkeypatch.setattr(draft_phase, "fault_check", lambda *_song: lambda *_codes: HUM)
    result = cli(capsys, *asked, "both", "-o", tmp_path)
    assert result.code == 6
    assert result.err.count("3.00 s of music; section 1: it hums; section 2: it hums") == 2
    monkeypatch.setattr(
        draft_phase,
        "fault_check",
        lambda song, *_rest: lambda *_codes: HUM if song.request.take == 2 else None,
    )
    result = cli(capsys, *asked, "one", "-o", tmp_path)
    assert result.code == 0
    assert result.err.count("it hums; section 2") == 1
    group = next(tmp_path.glob("one-*"))
    assert cli(capsys, "takes", "keep", group, 2, "--threads", 1).code == 6
    assert cli(capsys, "takes", "keep", group, 1, "--threads", 1).code == 0
