"""Option groups: a command receives values, never a dictionary of options."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass

import click
import pytest
from click.testing import CliRunner

from yuegguf.cli import cli
from yuegguf.cli._groups import Group


@dataclass(frozen=True)
class Size:
    width: int
    height: int


@dataclass(frozen=True)
class Box:
    size: Size
    colour: str


SIZE = Group("size", Size, click.option("--width", type=int), click.option("--height", type=int, default=2))
BOX = Group("box", Box, SIZE, click.option("--colour", default="red"))


@click.command()
@BOX
@click.option("--count", default=1)
def pack(box: Box, count: int) -> None:
    """Pack boxes."""
    click.echo(f"{count} {box}")


def test_a_group_in_a_group_becomes_one_value() -> None:
    result = CliRunner().invoke(pack, ["--width", "3", "--count", "4"])
    assert result.output == "4 Box(size=Size(width=3, height=2), colour='red')\n"


def test_the_help_lists_the_options_in_the_order_of_the_parts() -> None:
    names = [parameter.name for parameter in pack.params]
    assert names == ["width", "height", "colour", "count"]


def test_a_group_takes_its_options_out_of_parsed_values() -> None:
    values = pack.make_context("pack", ["--width", "5", "--colour", "blue"]).params
    assert BOX.take(values) == Box(Size(5, 2), "blue")
    assert values == {"count": 1}


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command, and the parts of those that have some."""
    for name, command in cli.all_commands().items():
        yield name, command
        for part, inner in getattr(command, "commands", {}).items():
            yield f"{name} {part}", inner


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=[name for name, _ in commands()])
def test_no_command_takes_options_that_it_does_not_name(name: str, command: click.Command) -> None:
    assert command.callback is not None
    kinds = [parameter.kind for parameter in inspect.signature(command.callback).parameters.values()]
    assert inspect.Parameter.VAR_KEYWORD not in kinds, name
