"""`bench --builds`: which build of llama.cpp is fastest here."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from yuegguf.cli._console import Console
from yuegguf.cli._groups import Group
from yuegguf.cli._options import models_root, was_given
from yuegguf.cli._text import minutes
from yuegguf.errors import RequestError

OWN = ("builds", "build_flags", "rounds", "stages", "synthetic")
"""Options of `bench` that are not handed on as they are."""


@dataclass(frozen=True)
class BuildOptions:
    """Options of a comparison of builds."""

    wanted: bool
    flags: tuple[str, ...]
    """More variants, as CMake's flags."""
    rounds: int


def _build_options(*, builds: bool, build_flags: tuple[str, ...], rounds: int) -> BuildOptions:
    if not builds and was_given("build_flags", "rounds"):
        raise click.UsageError("--build-flags and --rounds need --builds")
    return BuildOptions(builds, build_flags, rounds)


build_options = Group(
    "builds",
    _build_options,
    click.option(
        "--builds",
        is_flag=True,
        help="Build llama.cpp with other flags, kept in the cache, and find the fastest: minutes a build.",
    ),
    click.option(
        "--build-flags",
        multiple=True,
        metavar="FLAGS",
        help='One more variant for --builds, "-DX=Y"; repeatable.',
    ),
    click.option(
        "--rounds",
        type=click.IntRange(2, 100),
        default=2,
        show_default=True,
        help="Times that --builds measures each build, in turns.",
    ),
)


def compare_builds(
    output: Console, options: BuildOptions, stages: tuple[str, ...], random_models: Path | None
) -> None:
    """Build, time and report; `stages` are those of --stages. Raises YueError."""
    from yuegguf.lm.build import build_info
    from yuegguf.measure import builds
    from yuegguf.measure.build_runs import Comparison
    from yuegguf.planning.timing import cache_dir

    if not (numbers := [number for number in stages if number != "render"]):
        raise RequestError("no build of llama.cpp changes rendering", "name stage 1 or 2 with --stages")
    openblas, (lean, recipe) = builds.has_openblas(), builds.lean_flags(Path(__file__).resolve().parents[2])
    variants = builds.variants_to_build(lean, options.flags, openblas=openblas, machine=platform.machine())
    if not openblas:
        output.say("OpenBLAS is left out: its headers were not found (Debian: libopenblas-dev)")
    words = ["--json", "--models-dir", str(models_root()), "bench", *_handed_on()]
    words += ["--stages", ",".join(numbers), *(["--synthetic", str(random_models)] if random_models else [])]
    version, place = build_info()["llama-cpp-python"], cache_dir() / "builds"
    job = Comparison(version, place, tuple(words), output.say, recipe=recipe, rounds=options.rounds)
    report = job.run(variants)
    output.result(report, table(report))


def _handed_on() -> list[str]:
    """The options of `bench` that were given, but OWN, as words of a command line."""
    context = click.get_current_context()
    words: list[str] = []
    for option in context.command.params:
        name = option.name or ""
        if name in OWN or not was_given(name):
            continue
        value = context.params[name]
        if isinstance(value, bool):
            words.append((option.opts if value else option.secondary_opts)[0])
        elif value is not None:
            words += [max(option.opts, key=len), str(value)]
    return words


def table(report: dict[str, Any]) -> list[str]:
    """The report as lines for people."""
    lines = [f"{report['cpu']}, llama-cpp-python {report['version']}"]
    for row in report["variants"]:
        rounds = ", ".join(f"{ratio:.3f}" for ratio in row["ratios"])
        time = f"the song {minutes(row['song_seconds'])}, {row['ratio']:.3f} x the installed ({rounds})"
        lines.append(f"{row['name']:<16} {time}")
    lines += [f"{row['name']:<16} left out: {row['reason']}" for row in report["left_out"]]
    if report["recommended"] is None:
        return [*lines, "the installed build is as fast as any"]
    return [
        *lines,
        f"{report['recommended']} is faster; take CMAKE_ARGS={report['cmake_args']!r}:",
        report["command"],
    ]
