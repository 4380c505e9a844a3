"""Signals at any moment, and streams that are closed or full: one line and a code, never a traceback.

The moment is that of an import: a finder that looks for a module sends the signal instead.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import OURS, Result

SENTENCE = "stopped at once\n"
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and descriptors of POSIX")
pytestmark = [posix, pytest.mark.usefixtures("no_models")]

PRESS = """
import os, signal, sys

def press(times=1):
    for _ in range(times):
        os.kill(os.getpid(), int(os.environ["PRESS"]))

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ.get("AT"):
            press()

sys.meta_path.insert(0, Finder())
"""
PROGRAM = "from yuegguf.__main__ import main\n"
MAIN = "main()\n"


def python(
    code: str,
    *args: object,
    press: int = signal.SIGINT,
    at: str = "",
    before: Callable[[], object] | None = None,
    **more: object,
) -> Result:
    """One process that runs some code between PRESS and nothing, with arguments of the command line."""
    env = {**os.environ, "PRESS": str(int(press)), "AT": at}
    command = [sys.executable, "-c", PRESS + code, *map(str, args)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    done = subprocess.run(command, text=True, env=env, timeout=120, check=False, preexec_fn=before, **streams)  # type: ignore[call-overload]
    return Result(done.returncode, done.stdout or "", done.stderr or "")


@pytest.mark.parametrize("module", ["yuegguf.stopping", "yuegguf.cli", "click", "yuegguf.errors"])
def test_ctrl_c_while_starting_up_is_one_line(module: str) -> None:
    result = python(PROGRAM + MAIN, "--version", at=module)
    assert (result.code, result.out, result.err) == (130, "", SENTENCE)


@pytest.mark.parametrize("module", ["yuegguf.cli.voice", "yuegguf.planning.hardware", "numpy"])
def test_ctrl_c_while_a_command_is_imported_is_one_line(module: str) -> None:
    result = python(PROGRAM + MAIN, "voice", "list", at=module)
    assert (result.code, result.out, result.err) == (130, "", SENTENCE)


@pytest.mark.parametrize("press", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_while_starting_up_too(press: int) -> None:
    result = python(PROGRAM + MAIN, "--version", at="click", press=press)
    assert (result.code, result.err) == (130, SENTENCE)


@pytest.mark.parametrize("press", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("module", ["yuegguf.measure.forecast", "llama_cpp"])
def test_a_signal_while_a_command_imports_what_it_needs(module: str, press: int) -> None:
    result = python(PROGRAM + MAIN, "run", *OURS, "--model", "nano", "--plan", at=module, press=press)
    assert (result.code, result.out) == (130, "")
    assert result.err.lstrip("\n") == SENTENCE


def test_signals_that_are_ignored_stay_so() -> None:
    for press in (signal.SIGHUP, signal.SIGINT):

        def nohup(number: int = press) -> None:
            signal.signal(number, signal.SIG_IGN)

        result = python(PROGRAM + MAIN, "--version", at="click", press=press, before=nohup)
        assert (result.code, result.err) == (0, "")


COMMAND = """
import click
from yuegguf import cli as program

@program.cli.command()
def wait():
    try:
        {first}
    finally:
        {cleanup}

"""


@pytest.mark.parametrize(
    ("first", "cleanup"),
    [
        ("press()", "pass"),
        ("press()", "press()"),  # a second one while cleaning up
        ("press(3)", "press(3)"),
        ("type('Lost', (), {'__del__': lambda self: press()})()", "pass"),  # where nothing can be raised
        ("raise click.Abort", "pass"),
    ],
)
def test_ctrl_c_in_a_command_and_again_while_it_cleans_up(first: str, cleanup: str) -> None:
    result = python(PROGRAM + COMMAND.format(first=first, cleanup=cleanup) + MAIN, "wait")
    assert (result.code, result.out, result.err) == (130, "", SENTENCE)


AROUND = """
def around(place, name):
    real = getattr(place, name)
    def pressed(*args):
        press(2)
        result = real(*args)
        press(2)
        return result
    setattr(place, name, pressed)

"""


@pytest.mark.parametrize(("place", "name"), [("program", "_report"), ("program.Console", "error")])
def test_ctrl_c_again_around_the_line_of_an_error(place: str, name: str) -> None:
    wait = COMMAND.format(first="press()", cleanup="pass") + AROUND + f"around({place}, {name!r})\n"
    result = python(PROGRAM + wait + MAIN, "wait")
    assert (result.code, result.out, result.err) == (130, "", SENTENCE)


def test_ctrl_c_around_the_line_of_another_error_adds_none() -> None:
    wait = COMMAND.format(first="raise program.YueError('bad')", cleanup="pass")
    result = python(PROGRAM + wait + AROUND + "around(program.Console, 'error')\n" + MAIN, "wait")
    assert (result.code, result.out, result.err) == (1, "", "error: bad\n")


STOPPED = """
from yuegguf.cli._console import Console
from yuegguf.cli._signals import stop_on_signals
from yuegguf.errors import Interrupted

@program.cli.command()
def work():
    with stop_on_signals(Console()) as stop:
        press({times})
        if stop.is_set():
            raise Interrupted("stopped on request")
"""


@pytest.mark.parametrize("press", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_work_that_is_kept_ends_with_75_and_at_once_with_130(press: int) -> None:
    code = PROGRAM + "from yuegguf import cli as program\n" + STOPPED
    once = python(code.format(times=1) + MAIN, "work", press=press)
    assert (once.code, once.err) == (75, "stopped on request\n")
    for times in (2, 3):
        at_once = python(code.format(times=times) + MAIN, "work", press=press)
        assert (at_once.code, at_once.err) == (130, SENTENCE)


def test_ctrl_c_while_python_ends_changes_nothing() -> None:
    late = PROGRAM + "import atexit\natexit.register(press)\n" + MAIN
    assert python(late, "--version").err == ""
    assert python(late, "--version").code == 0
    refused = python(late, "songs", "list", "nowhere")
    assert (refused.code, refused.err.count("\n")) == (5, 1)


# Streams


def closed(number: int) -> Callable[[], None]:
    return lambda: os.close(number)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("args", [("models", "list"), ("models", "list", "--json"), ("--help",), ("takes",)])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_stdout_is_one_sentence(
    args: tuple[str, ...], unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with open("/dev/full", "w") as full:
        result = python(PROGRAM + MAIN, *args, stdout=full)
    assert result.code == 1
    assert result.error.startswith(
        "error: the result could not be written to stdout (No space left on device)"
    )
    assert result.err.count("\n") == 1


def test_a_pipe_that_nobody_reads_is_one_sentence() -> None:
    read, write = os.pipe()
    os.close(read)
    result = python(PROGRAM + MAIN, "models", "list", stdout=write)
    os.close(write)
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "could not be written to stdout (Broken pipe)" in result.error


def test_a_closed_stdout_is_one_sentence_on_stderr() -> None:
    result = python(PROGRAM + MAIN, "models", "list", before=closed(1))
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "the result could not be written to stdout" in result.error


def test_a_closed_stderr_leaves_results_and_errors_on_stdout() -> None:
    listed = python(PROGRAM + MAIN, "models", "list", before=closed(2))
    assert (listed.code, listed.out[:7]) == (0, "en-cot ")
    refused = python(PROGRAM + MAIN, "songs", "list", "nowhere", before=closed(2))
    assert (refused.code, refused.out.count("\n")) == (5, 1)
    assert refused.out.startswith("error: ")
    as_json = python(PROGRAM + MAIN, "songs", "list", "nowhere", "--json", before=closed(2))
    assert json.loads(as_json.out)["error"]["code"] == 5


def test_all_streams_may_be_closed() -> None:
    def nothing() -> None:
        os.closerange(0, 3)

    assert python(PROGRAM + MAIN, "models", "list", before=nothing).code == 1
    assert python(PROGRAM + MAIN, "run", "-g", "pop", "-l", "-", before=nothing).code == 5


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """Libraries in C write to number 2: what is opened there would be spoilt."""
    code = COMMAND.format(first=f"print(open({str(tmp_path / 'new')!r}, 'w').fileno())", cleanup="pass")
    result = python(PROGRAM + code + MAIN, "wait", before=closed(2))
    assert int(result.out) > 2


# Arguments


@pytest.mark.parametrize(
    "args", [("run", "-g", b"caf\xe9"), ("--json", "decode", b"\xff.npy"), ("run", "--name", b"\xe9")]
)
def test_an_argument_that_is_not_utf_8_is_one_sentence(args: tuple[str | bytes, ...]) -> None:
    result = python(PROGRAM + MAIN, *(os.fsdecode(arg) for arg in args))
    assert result.code == 2
    assert result.error.endswith("is not UTF-8 text; rename the file")
    if "--json" in args:
        assert json.loads(result.out)["error"]["code"] == 2


@pytest.mark.skipif(sys.platform == "darwin", reason="file names are UTF-8 there")
def test_a_folder_whose_name_is_not_utf_8_is_no_fault(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    for args in (("doctor", "--json"), ("models", "list"), ("resume",), ("run", "-g", "pop", "-l", "no.txt")):
        result = python(PROGRAM + MAIN, *args, cwd=folder)
        assert "fault" not in result.err
        assert "Traceback" not in result.err
