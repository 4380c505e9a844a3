"""Every option of every command with values that no number has: one sentence, never a fault of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from helpers import Capture, cli

from yuegguf.cli import cli as main_group
from yuegguf.cli._numbers import Number

VALUES = (
    "nan",
    "inf",
    "-1e308",
    "1e308",
    "1e-320",
    "99999999999999999999",
    "9" * 400,
    "9" * 5000,
    "-1",
    "0",
    "",
    " 5 ",
    "0x10",
    "１２",
    ":",
    "1e400G",
    "\u00b2",
)
"""The longest is more than Python reads; wide digits and a raised two are digits to it."""
SLOW = {"bench", "quality", "serve"}
"""Commands that measure before they refuse, or that do not end by themselves."""
TEXTS = {"cfg", "sections", "device", "loras", "genre"}
"""Options of `run` that are no numbers to click, and to whose text something is done."""
SONG = ("-g", "pop", "--lyrics", "[verse]\nla", "-m", "nano", "--plan")


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command and its parts, by their words."""
    for name, command in main_group.all_commands().items():
        yield name, command
        for part, inner in getattr(command, "commands", {}).items():
            yield f"{name} {part}", inner


def options() -> Iterator[tuple[str, click.Command, click.Option]]:
    """Every option that takes a value and names no path."""
    for path, inner in commands():
        if not isinstance(inner, click.Group) and not SLOW & set(path.split()):
            yield from (
                (path, inner, option)
                for option in inner.params
                if isinstance(option, click.Option)
                and not option.is_flag
                and not isinstance(option.type, click.Path | click.Choice)
                and (path not in ("run", "serve") or option.type is not click.STRING or option.name in TEXTS)
            )


def needed(command: click.Command) -> list[str]:
    """Arguments and options that a command cannot do without, all of them files that are not there."""
    found = []
    for part in command.params:
        if part.required:
            found += ["none"] if isinstance(part, click.Argument) else [part.opts[-1], "none"]
    return found


@pytest.mark.usefixtures("no_models")
@pytest.mark.parametrize(
    ("path", "command", "option"), [pytest.param(*one, id=f"{one[0]} {one[2].name}") for one in options()]
)
def test_nonsense_is_one_sentence(
    path: str,
    command: click.Command,
    option: click.Option,
    capsys: Capture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    phases = {"draft": 1.0, "refine": 1.0, "master": 1.0}
    monkeypatch.setattr("yuegguf.measure.forecast._phase_seconds", lambda *_args: phases)  # nothing is timed
    name = next(name for name in reversed(option.opts) if name.startswith("--"))
    song = SONG if path == "run" else ()
    for value in VALUES:
        result = cli(capsys, *path.split(), *song, *needed(command), f"{name}={value}")
        assert "fault of yuegguf" not in result.err, value
        assert result.code == 0 or result.error, value
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def real_options() -> Iterator[tuple[str, click.Command, click.Option]]:
    """Every option of every command whose value is a real number."""
    for path, command in commands():
        for option in command.params:
            if isinstance(option, click.Option) and isinstance(option.type, click.types.FloatParamType):
                yield path, command, option


@pytest.mark.usefixtures("no_models")
@pytest.mark.parametrize(
    ("path", "command", "option"),
    [pytest.param(*one, id=f"{one[0]} {one[2].name}") for one in real_options()],
)
def test_what_is_no_finite_number_is_refused(
    path: str, command: click.Command, option: click.Option, capsys: Capture, tmp_path: Path
) -> None:
    name = next(name for name in reversed(option.opts) if name.startswith("--"))
    ranged = isinstance(option.type, click.FloatRange)
    assert ranged == isinstance(option.type, Number)  # click's own takes NaN
    past_the_end = path == "encode" and option.name in ("start", "end")  # infinity is the end of a recording
    song = ("-g", "pop", "--lyrics", "[verse]\nla") if path == "run" else ()
    for value in ("nan", "inf", "-inf"):
        line = [*path.split(), *song, *needed(command), f"{name}={value}"]
        result = cli(capsys, "--models-dir", tmp_path, *line)
        usage = ranged and (value != "inf" or not past_the_end)
        assert result.code == 2 if usage else result.code in (2, 5), (value, result.err)
        assert "fault of yuegguf" not in result.err
