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
from song_examples import finished_song

from yuegguf.cli import _progress, _with_way_back
from yuegguf.cli._console import Console, replace_unencodable
from yuegguf.cli._options import size
from yuegguf.errors import DamagedFile, Interrupted, RequestError, StorageError, YueError
from yuegguf.progress import Event
from yuegguf.request.song_request import Song
from yuegguf.song.folder import SongFolder


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that a test moves."""

    now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr(_progress.time, "monotonic", lambda: moved.now)
    return moved


def use(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Write talk into a stream of 80 columns; no fixture, as pytest resets streams."""
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(_progress, "_width", lambda: 79)
    return stream


def test_the_progress_line(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, console = use(Terminal(), monkeypatch), Console()
    for done in (0, 50, 100):
        console.progress(Event("convert", done, 100, "shard 1 of 2"))
        clock.now += 60
    lines = stream.getvalue().split("\r\033[K")[1:]
    assert lines == [
        "Convert ░░░░░░░░░░░░░░░░░░░░░░░░   0% · 0 s · estimating · shard 1 of 2",
        "Convert ████████████░░░░░░░░░░░░  50% · 60 s · about 60 s left · shard 1 of 2",
        "Convert ████████████████████████ 100% · 2 min · about 0 s left · shard 1 of 2",
    ]
    console.done()
    console.done()
    assert stream.getvalue().endswith("shard 1 of 2\r\033[K")


def test_a_bar_is_drawn_five_times_a_second_at_most(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, console = use(Terminal(), monkeypatch), Console()
    for done in range(1, 101):
        console.progress(Event("convert", done, 100))
        clock.now += 0.01
    assert stream.getvalue().count("\r\033[K") == 6  # five, and the end


def test_talk_first_takes_the_line_away(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, console = use(Terminal(), monkeypatch), Console()
    console.progress(Event("draft", 1, 2))
    console.warn("listen")
    assert stream.getvalue().endswith("\r\033[Knote: listen\n")


def test_a_long_note_is_cut_to_the_terminal(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = use(Terminal(), monkeypatch)
    Console().progress(Event("draft", 1, 2, "x" * 200))
    assert len(stream.getvalue().removeprefix("\r\033[K")) == 79


def test_without_a_terminal_a_long_phase_has_a_line_and_one_every_minute(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_progress, "FIRST_LINE_SECONDS", 5.0)
    pipe, console = use(io.StringIO(), monkeypatch), Console()
    for second in range(201):
        console.progress(Event("convert", second, 200, "shard 1"))
        clock.now += 1
    console.progress(Event("verify", 1, 1))
    lines = pipe.getvalue().splitlines()
    assert [line.split(" · ")[1] for line in lines] == ["5 s", "65 s", "2 min", "3 min"]
    assert lines[1] == "Convert  32% · 65 s · about 2 min left · shard 1"


def test_no_progress_when_quiet_or_off_or_soon_over(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = use(Terminal(), monkeypatch)
    Console(quiet=True).progress(Event("draft", 1, 2))
    console = Console()
    console.display.mode = "off"
    console.progress(Event("draft", 1, 2))
    pipe = use(io.StringIO(), monkeypatch)
    Console().progress(Event("draft", 1, 2))
    assert stream.getvalue() == pipe.getvalue() == ""


def test_progress_as_json_is_an_object_a_line(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, console = use(io.StringIO(), monkeypatch), Console()
    console.display.mode = "json"
    for done in range(101):
        console.progress(Event("convert", done, 100, "shard 1"))
        clock.now += 0.5
    rows = [json.loads(line)["progress"] for line in stream.getvalue().splitlines()]
    assert [row["done"] for row in rows] == list(range(0, 101, 2))
    assert rows[50] == {
        "phase": "convert", "done": 100, "total": 100, "note": "shard 1",
        "share": 1.0, "elapsed": 50.0, "left": 0.0,
    }  # fmt: skip
    assert rows[0]["left"] is None


def test_the_course_of_a_song_is_remembered_for_the_next(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUEGGUF_CACHE_DIR", str(tmp_path / "cache"))
    folder = SongFolder.open(finished_song(tmp_path))
    use(io.StringIO(), monkeypatch)
    lefts = []
    for _song in range(2):
        console = Console()
        console.display.begin(folder)
        for phase, units in (("draft", 300), ("refine", 600), ("master", 300)):
            for done in range(0, units + 1, 30):
                console.progress(Event(phase, done, units))
                lefts.append(console.display._estimate.left)
                clock.now += 3
        console.done([Song(folder.path, 6.0, 1, (), ())])
    assert lefts[0] is None
    assert lefts[len(lefts) // 2] == pytest.approx(120, rel=0.1)


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
    stream = use(Terminal(), monkeypatch)
    Console().progress(Event("draft", 1, 2, name))
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


def test_a_note_comes_once_unless_it_is_news_again(capsys: Capture) -> None:
    console = Console()
    for _ in range(2):
        console.warn("one thing")
        console.progress(Event("draft", 0, 1, warning="one thing"))
    console.warn("another")
    for _ in range(2):
        console.warn("paused", again=True)
    assert capsys.readouterr().err == "note: one thing\nnote: another\nnote: paused\nnote: paused\n"
