"""Forecasts of `run`: what a song, or each song of a queue, will take here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yuegguf.cli._console import Console
from yuegguf.cli._queue import Entry, State, song_folders
from yuegguf.cli._text import minutes
from yuegguf.errors import YueError
from yuegguf.files.atomic import free_disk
from yuegguf.pipeline.song_job import SongJob
from yuegguf.request.prepared import PreparedSong
from yuegguf.song.state import where

if TYPE_CHECKING:
    from yuegguf.measure.forecast import Forecast


def show_forecast(output: Console, job: SongJob, whole: bool) -> None:
    """Show the time and memory of a job here; with `whole`, its sections and disk too. Raises YueError."""
    expected, facts, lines = _forecast_of(output, job, whole)
    if whole and expected.disk > facts["disk_free"]:
        output.warn("the disk is too full for this song")
    output.result(facts, lines)


def show_queue_forecast(output: Console, entries: Sequence[Entry], state: State, whole: bool) -> None:
    """Show the forecast of each song of a queue that is not done, and their sum.

    With `whole`, sections and disk too. Raises YueError that names the song.
    """
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    left: list[tuple[Entry, Forecast]] = []
    for entry in entries:
        row: dict[str, Any] = {"song": entry.number, "name": entry.job.name}
        folder = state.folder(entry)
        try:
            if folder is not None and all(where(song) == "done" for song in song_folders(folder)):
                lines.append(f"{entry.title} is done: {folder}")
                rows.append({**row, "folder": str(folder)})
                continue
            expected, facts, own = _forecast_of(output, entry.job, whole)
        except YueError as error:
            error.message = f"{entry.title}: {error.message}"
            raise
        left.append((entry, expected))
        lines += [entry.title, *(f"  {line}" for line in own)]
        rows.append({**row, **facts})
    sums, said = _sums(output, left, whole)
    output.result({"songs": rows, **sums}, [*lines, *said])


def _sums(
    output: Console, left: Sequence[tuple[Entry, Forecast]], whole: bool
) -> tuple[dict[str, Any], list[str]]:
    """The sums over the songs of a queue that are left, as facts and as lines."""
    found = [expected for _, expected in left]
    least, most = (sum(expected.total[n] for expected in found) for n in (0, 1))
    likely, longest = sum(e.likely_music for e in found), sum(e.music for e in found)
    sums: dict[str, Any] = {
        "left": len(found),
        "total": [round(least, 1), round(most, 1)],
        "music": longest,
        "likely_music": round(likely, 1),
    }
    songs = "1 song" if len(found) == 1 else f"{len(found)} songs"
    lines = [f"{songs} left, one after the other: {_in_all(least, most, likely, longest)}"]
    if whole:
        needed: dict[Path, int] = {}
        for entry, expected in left:
            needed[entry.job.parent] = needed.get(entry.job.parent, 0) + expected.disk
        sums["disk"] = sum(needed.values())
        for parent, size in needed.items():
            free = free_disk(parent)
            lines.append(f"disk: {_disk(size, free)} in {parent}")
            if size > free:
                output.warn(f"the disk is too full for the songs in {parent}")
    return sums, lines


def _forecast_of(output: Console, job: SongJob, whole: bool) -> tuple[Forecast, dict[str, Any], list[str]]:
    """The forecast of a job, its facts and its lines; its notices are shown. Raises YueError."""
    from yuegguf.measure.forecast import forecast

    if job.takes > 1:
        output.warn(f"the draft is of all {job.takes} takes, which share its steps; the rest is of one")
    expected = forecast(job)
    facts, lines = expected.to_json(), [*expected.reasons]
    free = free_disk(job.parent)
    if whole:
        sections, fits = _sections(job.song)
        lines = [*fits, *lines]
        facts |= {"sections": sections, "disk_free": free}
    lines.append(f"memory       {expected.plan.memory / 2**30:.1f} GiB")
    if expected.plan.gpu_memory:
        lines.append(f"GPU memory   {expected.plan.gpu_memory / 2**30:.1f} GiB")
    if whole:
        lines.append(f"disk         {_disk(expected.disk, free)}")
    lines += [f"{phase:<12} at most {minutes(value)}" for phase, value in expected.seconds.items()]
    lines.append(f"in all       {_in_all(*expected.total, expected.likely_music, expected.music)}")
    for notice in expected.load.notices:
        output.warn(notice)
    if expected.load.factor > 1:
        output.warn(f"the longer time is {expected.load.factor:.1f} times that of an idle machine")
    return expected, facts, lines


def _disk(size: int, free: int) -> str:
    return f"{size / 2**20:.0f} MiB of {free / 2**30:.1f} GiB free"


def _in_all(least: float, most: float, likely: float, longest: float) -> str:
    """The span of a time in seconds, and of the music that is made in it."""
    first, last = minutes(least), minutes(most)
    span = first if first == last else f"{first} to {last}"
    return f"about {span} for {likely:.0f} to {longest:.0f} s of music"


def _sections(song: PreparedSong) -> tuple[list[dict[str, Any]], list[str]]:
    """Each section to generate: whether its words fit, as facts and as lines."""
    from yuegguf.request.fit import section_fit

    facts, lines = [], []
    for number, section in enumerate(song.sections, 1):
        one = section_fit(section, song.request.segment_seconds, song.request.genre)
        fact = {
            "label": one.label,
            "seconds": one.seconds,
            "syllables": one.syllables,
            "verdict": one.verdict,
        }
        facts.append({**fact, "advice": one.advice})
        lines.append(f"section {number:<4} [{one.label}] at most {one.seconds:g} s, {one.verdict}")
        lines[-1] += f"; {one.advice}" if one.advice else ""
    return facts, lines
