"""Command lines of the program, read as it reads them, without running them."""

from __future__ import annotations

import click

from yuegguf.cli import cli
from yuegguf.cli._console import Console
from yuegguf.models import registry


def parse(arguments: list[str]) -> None:
    """Read a command line as the program does, without running it. Raises ClickException, YueError."""
    group: click.Command = cli
    context = cli.make_context("yuegguf", list(arguments), obj=Console())
    while isinstance(group, click.Group):
        left = [*context._protected_args, *context.args]
        if not left and group.invoke_without_command:
            break
        name, command, rest = group.resolve_command(context, left)
        assert command is not None
        group, context = command, command.make_context(name, rest, parent=context)
    _check_names(context)


def _check_names(context: click.Context) -> None:
    """Model names, types and commands' own lists, which click does not know."""
    known = {"nano", *(entry.id for entry in registry.model_entries())}
    given = context.params.get("names", ()) if "pull" in context.command_path else ()
    for name in [*given, *filter(None, [context.params.get("stage1")])]:
        if not name.endswith(".gguf") and name.partition(":")[0] not in known:
            raise click.UsageError(f"there is no model {name}")
    if context.params.get("set_name", "") not in ("", None, *registry.model_sets()):
        raise click.UsageError(f"there is no set {context.params['set_name']}")
