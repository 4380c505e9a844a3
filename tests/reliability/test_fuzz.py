"""Every reader of outside files, with mutated ones; `reliability/fuzzing.py` tries more of them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fuzz_driver
import numpy as np
import pytest
import soundfile
from fuzz_driver import GROWTH, Place, Report, Target, attempt, in_children, in_process, mutated
from fuzz_targets import TARGETS
from fuzzing import load, run, save
from mutators import Content, Link

from yuegguf.errors import DamagedFile

COUNT = 16
"""Inputs of each reader here."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    found = Place(tmp_path_factory.mktemp("fuzz"))
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in found.environment.items():
            patch.setenv(name, folder)
        yield found


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_whole_files_are_read(target: Target, place: Place) -> None:
    for content in place.seeds(target):
        assert attempt(target, content, place).kind == "read"


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_mutated_files_are_read_or_refused_in_words(target: Target, place: Place) -> None:
    report = in_process(target, place, 1, COUNT)
    assert report.counts.total() == COUNT
    assert report.findings == []
    assert report.counts["refused"] or target.name in ALL_READ


ALL_READ = {"preview"}
"""Readers that begin anew where a file is not theirs."""


LONG = b'"' + b"y" * 100_000 + b'"'
MENDED = (
    ("song.json", '"pop"', b'"\xd0'),
    ("song.json", '"pop"', b'"\\ud800'),
    ("config.json", "10000.0", b"1" + b"0" * 400),
    ("config.json", "10000.0", LONG),
    ("config.json", '["LlamaForCausalLM"]', LONG),
    ("config.json", '"silu"', LONG),
    ("config.json", '"llama"', b'"\xd0'),
    ("PEFT folder", '"lora_alpha": 8', b'"lora_alpha": 1' + b"0" * 400),
    ("PEFT folder", '"LORA"', LONG),
    ("PEFT folder", '"r": 4', b'"r": ' + LONG),
    ("tokenizer", "<0x41>", b"<0x4\xff>"),
    ("vocabulary", "<stage_1>", b"<stage_\xff>"),
    ("pth", "codec_model", b"codec_mode\xf0"),
    ("safetensors", '"model-00002-of-00002.safetensors"', LONG[:5000] + b'.safetensors"'),
    ("queue", "'[verse] la'", b"'[verse]"),
    ("queue", "pop", b"\xd0"),
)
"""Reader, what its valid file holds, and what an earlier version answered with a traceback or a page."""


@pytest.mark.parametrize(("name", "old", "new"), MENDED)
def test_what_was_a_fault_once_is_refused_in_words(name: str, old: str, new: bytes, place: Place) -> None:
    target = next(target for target in TARGETS if target.name == name)
    changed = 0
    for content in place.seeds(target):
        for file, data in content.items():
            if isinstance(data, bytes) and old.encode() in data:
                outcome = attempt(target, {**content, file: data.replace(old.encode(), new)}, place)
                assert (outcome.kind, outcome.what) == ("refused", "")
                changed += 1
    assert changed


def test_samples_that_add_up_to_no_number_are_refused_without_a_warning(place: Place, tmp_path: Path) -> None:
    target = next(target for target in TARGETS if target.name == "audio")
    wave = np.full((4000, 2), np.inf, np.float32) * [1, -1]
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")
    outcome = attempt(target, {"a.wav": (tmp_path / "a.wav").read_bytes()}, place)
    assert (outcome.kind, outcome.what) == ("refused", "")


# The driver itself


def reader(read: Callable[[Path], object]) -> Target:
    """A reader of one small file."""
    return Target("faulty", lambda _: [{"a.bin": bytes(64)}], read)


def refuse(folder: Path) -> None:
    """Refuse what is not whole, as a reader should."""
    if not (folder / "a.bin").is_file() or (folder / "a.bin").read_bytes() != bytes(64):
        raise DamagedFile("a.bin is damaged", "copy it again")


def spoil(folder: Path) -> None:
    (folder.parent / "mine" / "canary").write_text("yours")


def leave(folder: Path) -> None:
    (folder.parent / "more").touch()


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "an exception": (lambda folder: 1 // 0, "ZeroDivisionError"),
    "leaving": (lambda folder: exit(0), "SystemExit"),
    "no memory": (lambda folder: bytearray(1 << 60), "MemoryError"),
    "an answer without an end": (lambda folder: time.sleep(9), "took more than 0.05 s"),
    "a changed file elsewhere": (spoil, "changed outside the input: ['canary']"),
    "a new file elsewhere": (leave, "changed outside the input"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_kind_of_fault_is_a_finding(fault: str, tmp_path: Path) -> None:
    read, words = FAULTS[fault]
    place = Place(tmp_path)
    outcome = attempt(
        reader(read), {"a.bin": b"x"}, place, 0.05 if fault == "an answer without an end" else 5
    )
    assert outcome.kind == "finding"
    assert words in outcome.what


def test_much_memory_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter((5, 6 + GROWTH))
    monkeypatch.setattr(fuzz_driver, "_peak", lambda: next(peaks))
    outcome = attempt(reader(refuse), {"a.bin": bytes(64)}, Place(tmp_path))
    assert (outcome.kind, outcome.what) == ("finding", "took more than 256 MiB")


def end(folder: Path) -> None:
    os.kill(os.getpid(), signal.SIGABRT)


def hold(folder: Path) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(60)


@pytest.mark.parametrize(
    ("read", "seconds", "words"), [(end, 30, "ended the process (-6)"), (hold, 0.2, "never returned")]
)
def test_what_ends_or_holds_a_process_is_a_finding(
    read: Callable[[Path], object],
    seconds: float,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Code in C can do both, and no exception of ours reaches it."""
    monkeypatch.setattr(fuzz_driver, "SECONDS", seconds)
    report = Report()
    in_children(reader(read), Place(tmp_path), 0, 0.01, report)
    assert words in report.findings[0][1].what


def test_a_refusal_is_none_and_its_word_counts(tmp_path: Path) -> None:
    place, report = Place(tmp_path), Report()
    in_children(reader(refuse), place, 0, 0.2, report)
    assert report.findings == []
    assert report.counts["refused"] > report.counts["read"]
    for words in ("unexpected end of data", "x" * 3000):

        def speak(folder: Path, words: str = words) -> None:
            error = DamagedFile("")
            error.message = words  # which a constructor would shorten
            raise error

        assert attempt(reader(speak), {"a.bin": b"x"}, place).kind == "finding"


def test_inputs_come_again_and_findings_are_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, place = reader(FAULTS["an exception"][0]), Place(tmp_path / "place")
    seeds = place.seeds(target)
    inputs = [mutated(target, seeds, 3, number) for number in range(50)]
    assert inputs == [mutated(target, seeds, 3, number) for number in range(50)]
    assert len({content["a.bin"] for content in inputs}) > 40
    assert run([target], place, 3, 0.01, tmp_path / "kept") == 1
    assert "| faulty | 1 | 0 | 0 | 1 |" in capsys.readouterr().out
    (kept,) = (tmp_path / "kept").iterdir()
    assert load(kept) == ("faulty", inputs[0])


def test_links_and_folders_are_kept_with_a_finding(tmp_path: Path) -> None:
    content: Content = {"a": b"\0", "b": Link("canary"), "c": None}
    assert load(save(tmp_path, reader(refuse), 0, 0, "x", content)) == ("faulty", content)
