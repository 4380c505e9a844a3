"""The command line: parse, call, print. A command is imported when it is asked for."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import click

from yuegguf import __version__, stopping
from yuegguf.cli._console import Console, replace_unencodable, settle, unwritten
from yuegguf.cli._signals import ImmediateInterrupt
from yuegguf.cli._way_back import store_arguments, with_command
from yuegguf.errors import Interrupted, YueError, explained, is_too_many_open, quoted
from yuegguf.lm import aborts
from yuegguf.request.valid_text import is_valid_text

COMPLETE_VARIABLE = "_YUEGGUF_COMPLETE"
"""Variable by which a shell asks for completions."""
HELP_NAMES = ["-h", "--help"]
PROGRESS = click.Choice(["auto", "json", "off"])
PROGRESS_HELP = "On stderr: a bar or lines now and then, one JSON object a line, or nothing [default: auto]."


def _dashes(name: str) -> str:
    """An option's name with dashes, as infer.py's are accepted."""
    return name.replace("_", "-")


JSON_HELP, QUIET_HELP = "One JSON object on stdout.", "Say nothing but results and problems."
SETTINGS = {
    "help_option_names": HELP_NAMES,
    "token_normalize_func": _dashes,
    "max_content_width": 100,
}


SECTIONS: dict[str, dict[str, str]] = {
    "Songs": {
        "run": "run",
        "resume": "run",
        **{name: name for name in ("refine", "extend", "stems", "takes", "songs", "render")},
        "bundle": "render",
        "serve": "serve",
        "cluster": "cluster",
    },
    "Words, voices, codes": {
        **{name: name for name in ("lyrics", "voice", "plot", "encode")},
        **{"decode": "encode", "import": "import_export", "export": "import_export"},
    },
    "Models": {
        **{name: name for name in ("pull", "models", "convert", "quantize")},
        **{"trim": "quantize", "export-codec": "convert", "convert-lora": "lora", "merge-lora": "lora"},
    },
    "This machine": {
        **{name: name for name in ("doctor", "bench")},
        **{"rpc-server": "rpc_server", "completion": "help", "help": "help"},
    },
}
"""Part of the help → its commands → their modules below `yuegguf.cli`."""
COMMANDS = {name: module for commands in SECTIONS.values() for name, module in commands.items()}


class Program(click.Group):
    """The program, whose commands are imported when they are asked for."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments name; warns of an option that is given twice."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and not isinstance(command, click.Group):
            for option in _given_twice(ctx, command, rest):
                ctx.obj.warn(f"{option} is given twice; the last counts")
        return name, command, rest

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

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by section."""
        width = max(map(len, COMMANDS))
        for title, names in SECTIONS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                rows = [(name.ljust(width), c.get_short_help_str(80)) for name, c in commands if c]
                formatter.write_dl(rows)

    def all_commands(self) -> dict[str, click.Command]:
        """Every command by its name, all of them imported."""
        context = click.Context(self)
        named = ((name, self.get_command(context, name)) for name in self.list_commands(context))
        return {name: command for name, command in named if command is not None}


def _given_twice(parent: click.Context, command: click.Command, arguments: Sequence[str]) -> list[str]:
    """Options with one value that stand twice in the arguments, under any of their names."""
    context = click.Context(command, parent, command.name)
    with suppress(click.UsageError):  # which the command itself reports
        _, _, order = command.make_parser(context).parse_args(args=list(arguments))
        counts = Counter(part for part in order if isinstance(part, click.Option) and not part.is_flag)
        return [part.opts[-1] for part, count in counts.items() if count > 1 and not part.multiple]
    return []


def _set_progress(context: click.Context, _option: click.Parameter, mode: str | None) -> None:
    if mode is not None:
        context.obj.progress_mode = mode


@click.group(cls=Program, context_settings=SETTINGS)
@click.option(
    "--models-dir", type=click.Path(path_type=Path, readable=False), help="Folder of installed models."
)
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@click.option("-q", "--quiet", is_flag=True, help=QUIET_HELP)
@click.option("--progress", type=PROGRESS, expose_value=False, callback=_set_progress, help=PROGRESS_HELP)
@click.pass_context
def cli(ctx: click.Context, models_dir: Path | None, as_json: bool, quiet: bool) -> None:
    """Songs from tags and lyrics with YuE, without PyTorch: mix, vocals and instrumental.

    Start with: yuegguf run --example
    """
    ctx.obj.as_json |= as_json
    ctx.obj.quiet |= quiet


def _show_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        context.obj.result({"version": __version__}, [f"yuegguf, version {__version__}"])
        context.exit()


def _show_help(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        context.obj.result({"help": context.get_help()}, [context.get_help()])
        context.exit()


def _set(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    setattr(context.obj, str(option.name), wanted or getattr(context.obj, str(option.name)))


_HELP, _VERSION = (
    click.Option(names, is_flag=True, is_eager=True, expose_value=False, callback=show, help=help)
    for names, show, help in (
        (HELP_NAMES, _show_help, "Show this message and exit."),
        (["--version"], _show_version, "Show the version and exit."),
    )
)
_AGAIN = [
    click.Option(["--json", "as_json"], is_flag=True, expose_value=False, callback=_set, help=JSON_HELP),
    click.Option(["-q", "--quiet"], is_flag=True, expose_value=False, callback=_set, help=QUIET_HELP),
    click.Option(
        ["--progress"], type=PROGRESS, expose_value=False, callback=_set_progress, help=PROGRESS_HELP
    ),
]
"""Options of the program that may stand behind any command too: `yuegguf run … --json`."""


cli.params += [_VERSION, _HELP]


def _add_flags(command: click.Command) -> None:
    command.params += [*_AGAIN, _HELP]
    for part in getattr(command, "commands", {}).values():
        _add_flags(part)


def complete_shell() -> None:
    """Answer a shell that asks for completions, and exit; see `yuegguf completion`."""
    if instruction := os.environ.get(COMPLETE_VARIABLE):
        from click.shell_completion import shell_complete

        sys.exit(shell_complete(cli, {"obj": Console(quiet=True)}, "yuegguf", COMPLETE_VARIABLE, instruction))


def main() -> NoReturn:
    """Run the command line of this process, and exit: 0, or the error's own code. Never shows a traceback."""
    replace_unencodable()
    complete_shell()
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
    aborts.set_handler(lambda error: _end(output, error))
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


def _end(output: Console, error: YueError) -> NoReturn:
    """End this process with the one line of an error, since llama.cpp would end it with more of them."""
    try:
        output.error(error)
    finally:
        stopping.exit_now(error.exit_code, sentence="")


def _command(arguments: Sequence[str], output: Console) -> int:
    """Run the command that the arguments name; its exit code. Raises what commands raise."""
    for argument in arguments:
        if not is_valid_text(argument):
            raise click.UsageError(f"the argument {argument!r} is not UTF-8 text; rename the file")
    if not {*HELP_NAMES, "--version"}.isdisjoint(arguments):  # which answer before --json is read
        output.as_json = "--json" in arguments
    try:
        with cli.make_context("yuegguf", list(arguments), obj=output) as context:
            store_arguments(context, arguments)
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
    if is_too_many_open(caught) or isinstance(caught, YueError):
        return _with_way_back(explained(caught))
    if isinstance(caught, click.ClickException):
        context = caught.ctx if isinstance(caught, click.UsageError) else None
        see = f"see: {context.command_path} --help" if context else ""
        return _with_code(UsageProblem(caught.format_message().rstrip("."), see), caught.exit_code)
    if isinstance(caught, KeyboardInterrupt | click.Abort):
        return _with_code(Interrupted(stopping.STOPPED_SENTENCE), stopping.EXIT_STOPPED)
    if isinstance(caught, OSError):
        frames = traceback.walk_tb(caught.__traceback__)
        is_stdout = any(frame.f_code is click.echo.__code__ for frame, _line in frames)  # a help text
        if is_stdout:
            return unwritten(caught)
    return explained(caught)


_BEFORE_ADVICE = re.compile(r"; |\. (?=\(?Did you mean)")


class UsageProblem(YueError):
    """A wrong use of the command line, whose line of text ends with the command that helps."""

    def __init__(self, text: str, see: str) -> None:
        text = YueError(text).message  # of bearable length
        message, *rest = _BEFORE_ADVICE.split(text, maxsplit=1)
        advice = "".join(rest)
        super().__init__(message, "; ".join(part for part in (advice, see) if part))
        self._line = f"{text} ({see})" if see else text

    def __str__(self) -> str:
        return self._line


def _with_code(error: YueError, code: int) -> YueError:
    error.exit_code = code
    return error


def _with_way_back(error: YueError) -> YueError:
    """Add the command that goes on with a song to an error in the middle of it."""
    if error.folder is None:
        return error
    return with_command(error, f"yuegguf resume {quoted(error.folder)}")
