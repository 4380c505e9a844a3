"""`help` and `completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from yuegguf.cli._console import Console
from yuegguf.cli._options import pass_output


@click.command("help", short_help="the help of a command")
@click.argument("names", nargs=-1, metavar="[COMMAND]...")
@pass_output
def show_help(output: Console, /, names: tuple[str, ...]) -> None:
    """Show the help of COMMAND, as `yuegguf COMMAND --help` does.

    \b
    yuegguf help run
    yuegguf help takes keep
    """
    context = click.get_current_context().find_root()
    for name in names:
        group = context.command
        command = group.get_command(context, name) if isinstance(group, click.Group) else None
        if command is None:
            raise click.UsageError(f"there is no command {' '.join(names)}", context)
        context = click.Context(command, context, name)
    text = context.get_help()
    output.result({"help": text}, [text])


@click.command(short_help="completion of commands, options and names for a shell")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@pass_output
def completion(output: Console, /, shell: str) -> None:
    """Print the script that lets SHELL complete commands, options, models, voices and songs.

    Add it to ~/.bashrc, to ~/.zshrc, or write it to ~/.config/fish/completions/yuegguf.fish.

    \b
    yuegguf completion bash
    """
    from yuegguf.cli import COMPLETE_VARIABLE, cli

    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(cli, {}, "yuegguf", COMPLETE_VARIABLE).source()
    output.result({"script": script}, [script])
