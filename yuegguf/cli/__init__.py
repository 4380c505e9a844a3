"""The command line: parse, call, print. Heavy imports wait until a command runs."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from pathlib import Path
from typing import NoReturn

import click

from yuegguf import __version__
from yuegguf.cli._output import Output
from yuegguf.cli.bench import bench
from yuegguf.cli.codes import decode, encode
from yuegguf.cli.convert import convert, export_codec
from yuegguf.cli.doctor import doctor
from yuegguf.cli.extend import extend
from yuegguf.cli.interchange import export, import_song
from yuegguf.cli.lora import convert_lora, merge_lora
from yuegguf.cli.lyrics import lyrics
from yuegguf.cli.models import models
from yuegguf.cli.plot import plot
from yuegguf.cli.pull import pull
from yuegguf.cli.quantize import quantize, trim
from yuegguf.cli.refine import refine
from yuegguf.cli.render import bundle, render
from yuegguf.cli.song import resume, run
from yuegguf.cli.stems import stems
from yuegguf.cli.takes import takes
from yuegguf.cli.voice import voice
from yuegguf.errors import Interrupted, YueError

SETTINGS = {
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": lambda name: name.replace("_", "-"),
    "max_content_width": 100,
}


@click.group(context_settings=SETTINGS)
@click.option(
    "--models-dir",
    type=click.Path(path_type=Path),
    envvar="YUEGGUF_MODELS_DIR",
    help="Folder of installed models.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but results and problems.")
@click.version_option(__version__, prog_name="yuegguf")
@click.pass_context
def cli(ctx: click.Context, models_dir: Path | None, as_json: bool, quiet: bool) -> None:
    """Songs from tags and lyrics with YuE, without PyTorch: mix, vocals and instrumental.

    Start with: yuegguf run --example
    """
    ctx.obj.as_json, ctx.obj.quiet = as_json, quiet


COMMANDS = (
    *(run, resume, refine, extend, stems, takes, render, bundle, import_song, export, voice),
    *(pull, models, encode, decode, convert, export_codec, quantize, trim, convert_lora, merge_lora),
    *(lyrics, plot, bench, doctor),
)
for _command in COMMANDS:
    cli.add_command(_command)


def main(args: list[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0, or the error's own code. Never shows a traceback."""
    sys.exit(_run(args))


def _run(args: list[str] | None) -> int:
    arguments = sys.argv[1:] if args is None else args
    output = Output("--json" in arguments)
    try:
        ordered = _global_flags_first(arguments)
        code = cli(ordered, prog_name="yuegguf", standalone_mode=False, obj=output)
        return code if isinstance(code, int) else 0
    except YueError as error:
        output.error(_with_way_back(error))
        _debug()
        return error.exit_code
    except click.UsageError as error:
        where = f" (see: {error.ctx.command_path} --help)" if error.ctx else ""
        output.error(YueError(f"{error.format_message().rstrip('.')}{where}"))
        return 2
    except click.ClickException as error:
        output.error(YueError(error.format_message()))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        output.error(YueError("stopped at once"))
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # a bug of ours: still one line, and a way to report it
        kind = f"{type(error).__name__}: {error}"
        output.error(YueError(f"unexpected {kind}", "set YUEGGUF_DEBUG=1 for details and report it"))
        _debug()
        return 1


def _global_flags_first(arguments: list[str]) -> list[str]:
    """Let --json and -q stand anywhere: `yuegguf run … --json` works like `yuegguf --json run …`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    flags = [a for a in arguments[:end] if a in ("--json", "-q", "--quiet")]
    rest = [a for i, a in enumerate(arguments) if i >= end or a not in ("--json", "-q", "--quiet")]
    return flags + rest


def _with_way_back(error: YueError) -> YueError:
    """An error in the middle of a song says how to go on with what is kept."""
    if error.folder is None:
        return error
    command = f"yuegguf resume {shlex.quote(str(error.folder))}"
    if isinstance(error, Interrupted):
        told = YueError(f"{error.message}, everything so far is kept", f"go on with: {command}")
    else:
        told = YueError(error.message, f"{error.hint}; then go on with: {command}" if error.hint else command)
    told.exit_code = error.exit_code
    return told


def _debug() -> None:
    if os.environ.get("YUEGGUF_DEBUG"):
        traceback.print_exc()
