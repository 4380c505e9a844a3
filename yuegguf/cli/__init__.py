"""The command line: parse, call, print. A command is imported when it is asked for."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import click

from yuegguf import __version__, stopping
from yuegguf.cli._console import Console, replace_unencodable, settle, unwritten
from yuegguf.cli._progress import set_mode
from yuegguf.cli._signals import ImmediateInterrupt
from yuegguf.errors import (
    Interrupted,
    NotEnoughMemory,
    StorageError,
    YueError,
    is_too_many_open,
    too_many_open_files,
)
from yuegguf.request.valid_text import is_valid_text

PROGRESS = click.Choice(["auto", "json", "off"])
PROGRESS_HELP = "On stderr: a bar or lines now and then, one JSON object a line, or nothing [default: auto]."
SETTINGS = {
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": lambda name: name.replace("_", "-"),
    "max_content_width": 100,
}


COMMANDS = {
    **{name: name for name in ("run", "refine", "extend", "stems", "takes", "render", "voice")},
    **{name: name for name in ("pull", "models", "encode", "convert", "quantize")},
    **{name: name for name in ("lyrics", "plot", "bench", "doctor")},
    **{"resume": "run", "bundle": "render", "import": "import_export", "export": "import_export"},
    **{"decode": "encode", "export-codec": "convert", "trim": "quantize"},
    **{"convert-lora": "lora", "merge-lora": "lora"},
}
"""Command → its module below `yuegguf.cli`."""


class Program(click.Group):
    """The program, whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, in order."""
        return sorted({*COMMANDS, *self.commands})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by its name; None if there is none."""
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            module = import_module(f"yuegguf.cli.{COMMANDS[cmd_name]}")
            parts = (part for part in vars(module).values() if isinstance(part, click.Command))
            command = next(part for part in parts if part.name == cmd_name)
            _add_flags(command)
            self.add_command(command)
        return super().get_command(ctx, cmd_name)

    def all_commands(self) -> dict[str, click.Command]:
        """Every command by its name, all of them imported."""
        context = click.Context(self)
        named = ((name, self.get_command(context, name)) for name in self.list_commands(context))
        return {name: command for name, command in named if command is not None}


@click.group(cls=Program, context_settings=SETTINGS)
@click.option("--models-dir", type=click.Path(path_type=Path), help="Folder of installed models.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but results and problems.")
@click.option("--progress", type=PROGRESS, expose_value=False, callback=set_mode, help=PROGRESS_HELP)
@click.version_option(__version__, prog_name="yuegguf")
@click.pass_context
def cli(ctx: click.Context, models_dir: Path | None, as_json: bool, quiet: bool) -> None:
    """Songs from tags and lyrics with YuE, without PyTorch: mix, vocals and instrumental.

    Start with: yuegguf run --example
    """
    ctx.obj.as_json |= as_json
    ctx.obj.quiet |= quiet


def _set(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    setattr(context.obj, str(option.name), wanted or getattr(context.obj, str(option.name)))


_AGAIN = [
    click.Option(["--progress"], type=PROGRESS, hidden=True, expose_value=False, callback=set_mode),
    click.Option(["--json", "as_json"], is_flag=True, hidden=True, expose_value=False, callback=_set),
    click.Option(["-q", "--quiet"], is_flag=True, hidden=True, expose_value=False, callback=_set),
]
"""Flags of the program that may stand behind any command too: `yuegguf run … --json`."""


def _add_flags(command: click.Command) -> None:
    command.params += _AGAIN
    for part in getattr(command, "commands", {}).values():
        _add_flags(part)


def main() -> NoReturn:
    """Run the command line of this process, and exit: 0, or the error's own code. Never shows a traceback."""
    replace_unencodable()
    code = _exit_code_of(sys.argv[1:])
    settle()
    stopping.install_handler(lambda _number, _frame: stopping.exit_now(code, sentence=""))
    sys.exit(code)


def run_in_process(arguments: Sequence[str]) -> int:
    """Run the command line inside this process; its exit code."""
    before = stopping.install_handler(ImmediateInterrupt())
    try:
        return _exit_code_of(arguments)
    finally:
        stopping.restore_handlers(before)


def _exit_code_of(arguments: Sequence[str]) -> int:
    """The exit code of a command whose one line of error is written; signals are ignored from then on."""
    output = Console()
    try:
        stopping.install_handler(ImmediateInterrupt())
        try:
            code = _command(arguments, output)
            stopping.install_handler(stopping.ignore_signal)
            return code
        except Exception as error:
            return _report(arguments, output, error)
    except KeyboardInterrupt as stopped:
        return _report(arguments, output, stopped)


def _command(arguments: Sequence[str], output: Console) -> int:
    """Run the command that the arguments name; its exit code. Raises what commands raise."""
    for argument in arguments:
        if not is_valid_text(argument):
            raise click.UsageError(f"the argument {argument!r} is not UTF-8 text; rename the file")
    try:
        with cli.make_context("yuegguf", list(arguments), obj=output) as context:
            code = cli.invoke(context)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as bare:
        output.result({"help": bare.format_message()}, [bare.format_message()])
        return 0


def _report(arguments: Sequence[str], output: Console, caught: BaseException) -> int:
    """Write the one line of an error, undisturbed; the exit code."""
    stopping.install_handler(stopping.ignore_signal)
    if isinstance(caught, click.UsageError):  # which came before the flags were read
        output.as_json = output.as_json or "--json" in arguments
    error = _explained(caught)
    output.error(error)
    if os.environ.get("YUEGGUF_DEBUG"):
        with suppress(OSError):
            traceback.print_exception(caught)
    return error.exit_code


def _explained(caught: BaseException) -> YueError:
    """The sentence, with its exit code, of whatever a command raised."""
    if is_too_many_open(caught):
        error = too_many_open_files()
        error.folder = caught.folder if isinstance(caught, YueError) else None
        return _with_way_back(error)
    if isinstance(caught, YueError):
        return _with_way_back(caught)
    if isinstance(caught, click.ClickException):
        context = caught.ctx if isinstance(caught, click.UsageError) else None
        where = f" (see: {context.command_path} --help)" if context else ""
        return _with_code(YueError(f"{caught.format_message().rstrip('.')}{where}"), caught.exit_code)
    if isinstance(caught, KeyboardInterrupt | click.Abort):
        return _with_code(YueError(stopping.STOPPED_SENTENCE), stopping.EXIT_STOPPED)
    if isinstance(caught, OSError):
        frames = traceback.walk_tb(caught.__traceback__)
        is_stdout = any(frame.f_code is click.echo.__code__ for frame, _line in frames)  # a help text
        return unwritten(caught) if is_stdout else _refused(caught)
    if isinstance(caught, MemoryError):
        return NotEnoughMemory("the system gave no more memory", "end other programs, or lift the limit")
    kind = f"{type(caught).__name__}: {caught}"
    hint = "set YUEGGUF_DEBUG=1 for details and report it"
    return YueError(f"this is a fault of yuegguf itself ({kind})", hint)


def _refused(error: OSError) -> StorageError:
    what = "something" if error.filename is None else repr(os.fsdecode(error.filename)[:80])
    return StorageError(
        f"the system refused {what} ({error.strerror or error})", "check the names and the disk"
    )


def _with_code(error: YueError, code: int) -> YueError:
    error.exit_code = code
    return error


def _with_way_back(error: YueError) -> YueError:
    """Add the command that goes on with a song to an error in the middle of it."""
    if error.folder is None:
        return error
    command = f"yuegguf resume {shlex.quote(str(error.folder))}"
    if isinstance(error, Interrupted):
        explained = YueError(f"{error.message}, everything so far is kept", f"go on with: {command}")
    else:
        explained = YueError(
            error.message, f"{error.hint}; then go on with: {command}" if error.hint else command
        )
    return _with_code(explained, error.exit_code)
