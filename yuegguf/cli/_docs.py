"""docs/cli.md: every command's help, as the program prints it.

python -m yuegguf.cli._docs > docs/cli.md
"""

from __future__ import annotations

from collections.abc import Iterator

import click

WIDTH = 100
"""Columns of the help texts, whatever the terminal."""


def document() -> str:
    """The whole file."""
    from yuegguf.cli import SETTINGS, cli

    parts = ["# Commands\n\nMade from the program's own help by `python -m yuegguf.cli._docs`.\n"]
    root = click.Context(cli, info_name="yuegguf", **{**SETTINGS, "terminal_width": WIDTH})  # type: ignore[arg-type]
    for depth, title, text in _pages(cli, root, 1):
        parts.append(f"{'#' * (depth + 1)} {title}\n\n```\n{text.rstrip()}\n```\n")
    return "\n".join(parts)


def _pages(command: click.Command, context: click.Context, depth: int) -> Iterator[tuple[int, str, str]]:
    yield depth, context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            part = command.get_command(context, name)
            if part is not None and not part.hidden:
                inside = click.Context(part, parent=context, info_name=name, terminal_width=WIDTH)
                yield from _pages(part, inside, depth + 1)


if __name__ == "__main__":
    click.echo(document(), nl=False)
