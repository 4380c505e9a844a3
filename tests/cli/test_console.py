"""What the command line says: the progress line, words for time, one line for an error."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from pathlib import Path

import click
import pytest
from helpers import Capture

from yuegguf.cli import _console as output
from yuegguf.cli import _with_way_back
from yuegguf.cli._console import Console, Meter, replace_unencodable, time_left, whole_share
from yuegguf.cli._options import size
from yuegguf.errors import DamagedFile, Interrupted, RequestError, StorageError, YueError
from yuegguf.progress import Event

PHASES = ("draft", "refine", "master")


def test_the_share_of_the_whole_song_never_falls() -> None:
    shares = [whole_share(Event(phase, n, 37)) for phase in PHASES for n in range(38)]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    for last, first in ((37, 38), (75, 76)):
        assert shares[last] == shares[first]


def test_a_draft_alone_is_the_whole_work() -> None:
    assert whole_share(Event("draft", 1, 4), output.DRAFT_SHARES) == 0.25
    shown = Console()
    shown.draft_only()
    assert shown._meter._shares == output.DRAFT_SHARES


@pytest.mark.parametrize(
    ("event", "share"),
    [
        (Event("draft", 5, 0), 0.55),
        (Event("draft", 9, 5), 0.55),
        (Event("refine", 1, 2), 0.75),
        (Event("convert", 1, 4), 0.25),
        (Event("export", 4, 4), 1.0),
    ],
)
def test_the_share_of_odd_events(event: Event, share: float) -> None:
    assert whole_share(event) == pytest.approx(share)


@pytest.mark.parametrize(
    ("seconds", "share", "begun", "words"),
    [
        (1.9, 0.5, 0.0, "estimating"),
        (100, 0.004, 0.0, "estimating"),
        (60, 0.5, 0.0, "1 min 00 s left"),
        (10, 0.5, 0.0, "10 s left"),
        (90, 0.5, 0.0, "1 min 30 s left"),
        (3600, 0.5, 0.0, "1 h 00 min left"),
        (3600, 0.2, 0.0, "4 h 00 min left"),
        (10, 0.75, 0.5, "10 s left"),
        (100, 1.0, 0.0, "0 s left"),
    ],
)
def test_time_left_in_words(seconds: float, share: float, begun: float, words: str) -> None:
    assert time_left(seconds, share, begun) == words


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of 80 columns whose clock moves a second a look; no fixture, as pytest resets streams."""
    stream = Terminal()
    clock = iter(range(1000, 100_000))
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(output.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(output, "_width", lambda: 79)
    return stream


def test_the_progress_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, said = terminal(monkeypatch), Console()
    for done in (0, 50, 100):
        said.progress(Event("draft", done, 100, "section 1 of 2, verse"))
    lines = stream.getvalue().split("\r\033[K")[1:]
    assert lines == [
        "Draft ░░░░░░░░░░░░░░░░░░░░░░░░   0% · estimating · section 1 of 2, verse",
        "Draft ███████░░░░░░░░░░░░░░░░░  28% · estimating · section 1 of 2, verse",
        "Draft █████████████░░░░░░░░░░░  55% · 2 s left · section 1 of 2, verse",
    ]
    said.done()
    said.done()
    assert stream.getvalue().endswith("verse\r\033[K")


def test_talk_first_takes_the_line_away(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, said = terminal(monkeypatch), Console()
    said.progress(Event("draft", 1, 2))
    said.warn("listen")
    assert stream.getvalue().endswith("\r\033[Knote: listen\n")


def test_a_long_note_is_cut_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    Meter().draw(Event("draft", 1, 2, "x" * 200))
    assert len(stream.getvalue().removeprefix("\r\033[K")) == 79


def test_no_bar_off_a_terminal_nor_when_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    Console(quiet=True).progress(Event("draft", 1, 2))
    pipe = io.StringIO()
    monkeypatch.setattr("sys.stderr", pipe)
    Console().progress(Event("draft", 1, 2))
    assert stream.getvalue() == pipe.getvalue() == ""


def test_an_error_is_one_line_and_with_json_one_object(capsys: Capture) -> None:
    Console(as_json=True).error(DamagedFile("bad\nfile", "do\tthis"))
    out, err = capsys.readouterr()
    assert err == "error: bad file; do this\n"
    assert json.loads(out) == {"error": {"message": "bad\nfile", "hint": "do\tthis", "code": 7}}
    Console().error(YueError("bad"))
    assert capsys.readouterr() == ("", "error: bad\n")


def test_results_are_lines_or_one_object(capsys: Capture) -> None:
    Console(as_json=True).result({"title": "月"}, ["never"])
    Console().result({"never": 1}, ["a", "b"])
    assert capsys.readouterr().out == '{"title": "月"}\na\nb\n'


def test_quiet_keeps_notes_and_drops_talk(capsys: Capture) -> None:
    said = Console(quiet=True)
    said.say("hello")
    said.warn("careful")
    assert capsys.readouterr() == ("", "note: careful\n")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("6G", 6 * 2**30),
        ("800M", 800 * 2**20),
        ("7.5GiB", int(7.5 * 2**30)),
        ("1 kb", 1024),
        ("12", 12),
        ("2T", 2**41),
    ],
)
def test_sizes(text: str, number: int) -> None:
    assert size(text) == number


@pytest.mark.parametrize("text", ["", "G", "6X", "-1", "1..5G", "6 G B"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size such as 6G or 800M"):
        size(text)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (Interrupted("stopped"), "stopped, everything so far is kept; go on with: yuegguf resume a/b"),
        (RequestError("bad", "mend it"), "bad; mend it; then go on with: yuegguf resume a/b"),
        (YueError("bad"), "bad; yuegguf resume a/b"),
    ],
)
def test_an_error_in_a_song_says_how_to_go_on(error: YueError, sentence: str) -> None:
    assert str(_with_way_back(error)) == str(error)
    error.folder = Path("a/b")
    assert str(_with_way_back(error)) == sentence


class Broken(io.StringIO):
    """A stream that takes nothing, as a full disk or a terminal that went away."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def write(self, text: str) -> int:
        raise OSError(self._number, os.strerror(self._number))

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EPIPE, errno.EBADF])
def test_what_cannot_be_printed_stops_nothing(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (Broken(number), None):
        monkeypatch.setattr("sys.stderr", stream)
        out = io.StringIO()
        monkeypatch.setattr("sys.stdout", out)
        said = Console()
        said.progress(Event("draft", 1, 2))
        said.progress(Event("draft", 0, 0, warning="careful"))
        said.say("hello")
        said.done()
        assert out.getvalue() == ""
        said.error(DamagedFile("bad", "mend it"))
        assert out.getvalue() == "error: bad; mend it\n"


def test_a_result_that_stdout_does_not_take_is_a_storage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", Broken(errno.ENOSPC))
    for said in (Console(), Console(as_json=True)):
        with pytest.raises(StorageError, match="the result could not be written to stdout"):
            said.result({"a": 1}, ["a"])
    Console().result({}, [])  # nothing to write


def test_names_that_are_no_text_are_escaped(capsys: Capture) -> None:
    name = "caf\udce9.wav"
    Console().result({}, [name])
    Console(as_json=True).result({"file": name}, [])
    Console(as_json=True).error(DamagedFile(name, "look"))
    lines, facts, error = capsys.readouterr().out.splitlines()
    assert lines == "caf\\udce9.wav"
    assert json.loads(facts) == {"file": name}
    assert json.loads(error)["error"]["message"] == name


@pytest.mark.parametrize("name", ["\x1b[2J", "\a", "\x9b31m", "\x7f\b", "a\rb", "\u202egpj.exe", "a\u2028b"])
def test_no_name_can_steer_a_terminal(name: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    for said in (Console(), Console(as_json=True)):
        said.result({"file": name}, [name])
        said.say(name)
        said.warn(name)
        said.error(DamagedFile(name, "look"))
    out, err = capsys.readouterr()
    assert out.replace("\n", "").isprintable(), ascii(out)
    assert err.replace("\n", "").isprintable(), ascii(err)
    assert json.loads(next(line for line in out.splitlines() if line[0] == "{")) == {"file": name}
    stream = terminal(monkeypatch)
    Meter().draw(Event("draft", 1, 2, name))
    assert stream.getvalue().removeprefix("\r\033[K").isprintable()


def test_no_name_makes_a_line_of_its_own(capsys: Capture) -> None:
    said = Console()
    said.say("made x\nerror: y")
    said.warn("z\nnote: y")
    assert capsys.readouterr().err == "made x\\u000aerror: y\nnote: z\\u000anote: y\n"


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-8"])
def test_a_terminal_that_cannot_show_a_character_stops_nothing(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, talk = io.BytesIO(), io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, encoding, write_through=True))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(talk, encoding, write_through=True))
    replace_unencodable()
    Console(as_json=True).result({"name": "你好 →"}, [])
    Console().result({}, ["你好 →"])
    Console().warn("你好 →")
    click.echo("你好 →")  # as a help text is written
    lines = data.getvalue().decode(encoding).splitlines()
    assert json.loads(lines[0]) == {"name": "你好 →"}
    whole = encoding == "utf-8"
    assert lines[1:] == (["你好 →", "你好 →"] if whole else [r"\u4f60\u597d \u2192", "?? ?"])
    assert talk.getvalue().decode(encoding) == ("note: 你好 →\n" if whole else "note: ?? ?\n")
