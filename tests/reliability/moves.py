"""Half-made songs that are moved, copied, renamed, linked, dated otherwise, read-only, or lose a file.

    PYTHONPATH=tests/support:. python tests/reliability/moves.py --seconds 120 --seed 1
    PYTHONPATH=tests/support:. python tests/reliability/moves.py --seconds 60 --seed 1 --only extend

A command that makes a song is killed at a step of each of its phases. What then happens to the folder must
not matter: `resume FOLDER` ends in the undisturbed song, byte for byte. A folder without one of its files,
half made or finished, becomes that song too, or is refused in one sentence and stays as it is; it never
becomes another.
Another user needs root; without that the read-only folders are left out, and said to be.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crashing import Driver, age, driver_of_a_run
from helpers import Result
from long_runs import Tried, arguments, report
from promises import TEMPORARY, Broken, Content, check_equal, check_sentence, content
from surroundings import NOBODY
from writers import WRITERS, Writer

SONGS = ("run", "run --ref", "run --draft", "extend", "stems")
"""Writers that make one song in `songs`."""
YEARS = 10 * 365 * 86400.0
FINISHED = "finished"
BEGINS = {
    "half of the log": "/tokens.log",
    "snapshot": "/cache/",
    "half of the chunks": "/chunks/",
    "rendering": "/stage2.npz",
}
"""Phase → what the first step of it changes; it ends where the next one begins."""
SPENT = {"tokens.log", "preview.wav", "reference.npz", "base.npz", "draft.wav"}
SPENT |= {"draft-vocals.wav", "draft-instrumental.wav", "track.npz"}
"""Files that a song can be without once the phases that need them are over."""

Places = Callable[[Path], Sequence[Path]]


def moved(song: Path) -> Sequence[Path]:
    """The folder lies elsewhere."""
    target = song.parent.parent / "elsewhere" / "deeper" / song.name
    target.parent.mkdir(parents=True)
    return [song.rename(target)]


def copied(song: Path) -> Sequence[Path]:
    """There are two of it."""
    return [song, Path(shutil.copytree(song, song.with_name("a copy"), symlinks=True))]


def renamed(song: Path) -> Sequence[Path]:
    """It has another name."""
    return [song.rename(song.with_name("--töne (2), 'x'"))]


def linked(song: Path) -> Sequence[Path]:
    """It lies behind a link."""
    song.rename(song.with_name("real"))
    song.symlink_to("real")
    return [song]


def dated(seconds: float) -> Places:
    """Everything in it was changed then."""

    def change(song: Path) -> Sequence[Path]:
        for path in (*song.rglob("*"), song):
            os.utime(path, (seconds, seconds))
        return [song]

    return change


def left(song: Path) -> Sequence[Path]:
    """It stays as it is."""
    return [song]


@dataclass(frozen=True)
class Change:
    """Change of a folder, and the clock with which its song continues."""

    places: Places
    clock: float = 0.0


CHANGES = {
    "moved": Change(moved),
    "copied": Change(copied),
    "renamed": Change(renamed),
    "behind a link": Change(linked),
    "dated in the future": Change(dated(time.time() + YEARS)),
    "dated 1970": Change(dated(0.0)),
    "clock set back": Change(left, -YEARS),
    "clock set on": Change(left, YEARS),
}


@dataclass(frozen=True)
class Begun:
    """A kind of song, and how its undisturbed run went."""

    writer: Writer
    song: Content
    """Its folder at the end."""
    steps: list[str]

    def moments(self) -> dict[str, range]:
        """Phase → its steps."""
        first = {
            phase: number
            for phase, file in BEGINS.items()
            if (number := next((n for n, step in enumerate(self.steps, 1) if _changes(step, file)), 0))
        }
        ends = [*list(first.values())[1:], len(self.steps) + 1]
        return {phase: range(at + 1, end) for (phase, at), end in zip(first.items(), ends, strict=True)}


def _changes(step: str, file: str) -> bool:
    """Whether a step changes a file of a song that has its place."""
    return re.match(rf"\S+ songs/[^./][^/]*{re.escape(file)}", step) is not None


def begun(driver: Driver, name: str) -> Begun:
    """The undisturbed song of a writer. Raises Broken."""
    writer = next(writer for writer in WRITERS if writer.name == name)
    whole = driver.undisturbed(writer)
    return Begun(writer, content(song_of(driver.work)), whole.steps)


def song_of(work: Path) -> Path:
    """The one song that a command made. Raises Broken where it was killed before that."""
    found = [file.parent for file in (work / "songs").glob("*/song.json")]
    if len(found) != 1:
        raise Broken(f"there are {len(found)} songs")
    return found[0]


def interrupt(driver: Driver, kind: Begun, at: int) -> Path:
    """A song whose command was killed at a step; 0 = finished. Raises Broken."""
    driver.begin(kind.writer)
    result = driver.run(kind.writer, kind.writer.line(driver.work), at)
    if result.code not in ((-signal.SIGKILL,) if at else (0, 6)):
        raise Broken(f"it ended with {result.code}: {result.err}")
    return song_of(driver.work)


def resume(driver: Driver, kind: Begun, song: Path, **around: Any) -> Result:
    """`resume SONG`, whatever the song's name begins with: the path is whole."""
    return driver.run(kind.writer, ("resume", song, "--threads", 1), **around)


def change(driver: Driver, kind: Begun, at: int, name: str) -> None:
    """Let something happen to a song that was killed at a step, and resume it. Raises Broken."""
    song, wanted = interrupt(driver, kind, at), CHANGES[name]
    if name != "dated in the future":
        age(song)
    for place in wanted.places(song):
        result = resume(driver, kind, place, clock=wanted.clock)
        if result.code not in (0, 6):
            raise Broken(f"it does not go on ({result.code}): {result.err}")
        check_equal(content(place), kind.song)


def read_only(driver: Driver, kind: Begun, at: int) -> None:
    """A folder of another user, who may not change it for a while. Raises Broken."""
    song = interrupt(driver, kind, at)
    age(song)
    for path in (*song.rglob("*"), song):
        os.chown(path, NOBODY, NOBODY)
    set_modes(song, 0o555)
    before = content(song)
    result = resume(driver, kind, song, user=NOBODY)
    check_sentence(result)
    if "is not writable" not in result.err or content(song) != before:
        raise Broken(f"a folder that is read-only: {result.err}")
    set_modes(song, 0o755)
    result = resume(driver, kind, song, user=NOBODY)
    if result.code not in (0, 6):
        raise Broken(f"it does not go on ({result.code}): {result.err}")
    check_equal(content(song), kind.song)


def set_modes(song: Path, mode: int) -> None:
    """Give a folder, and those in it, these rights."""
    for path in (song, *(path for path in song.rglob("*") if path.is_dir())):
        path.chmod(mode)


def files_of(song: Path) -> list[str]:
    """The files of a song that are no leftovers."""
    found = [path.relative_to(song) for path in sorted(song.rglob("*")) if path.is_file()]
    return [str(path) for path in found if not any(TEMPORARY.match(part) for part in path.parts)]


def lose(driver: Driver, kind: Begun, kept: Path, name: str) -> str:
    """Delete one file of a kept song and resume it; how that ended. Raises Broken."""
    shutil.rmtree(driver.work)
    shutil.copytree(kept, driver.work, symlinks=True)
    song = song_of(driver.work)
    age(song)
    (song / name).unlink()
    before = content(song)
    result = resume(driver, kind, song)
    now = content(song)
    if result.code not in (0, 6):
        check_sentence(result)
        changed = {each for each in before.keys() | now.keys() if before.get(each) != now.get(each)}
        if any(not TEMPORARY.match(part) for each in changed for part in each.split("/")[-1:]):
            raise Broken(f"refused, but changed {changed}: {result.err}")
        return "refused"
    if name not in now and name in SPENT:
        check_equal(now, {each: value for each, value in kind.song.items() if each != name})
        return "made, without that file"
    check_equal(now, kind.song)
    return "made whole"


def keep(driver: Driver, kind: Begun) -> Path:
    """A copy of the folder that the driver works in, until the next of this kind."""
    kept = driver.root / f"kept {kind.writer.name}"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(driver.work, kept, symlinks=True)
    return kept


def round_of(driver: Driver, kind: Begun, chance: random.Random, found: dict[str, Tried]) -> Iterator[None]:
    """Every change and every loss at one step of each phase; yields after each try."""
    for phase, steps in kind.moments().items():
        at = chance.choice(steps)
        for name in chance.sample(sorted(CHANGES), len(CHANGES)):
            attempt(found, name, f"{kind.writer.name}, {phase}, step {at}", change, driver, kind, at, name)
            yield
        if os.geteuid() == 0:
            attempt(found, "read-only", f"{kind.writer.name}, step {at}", read_only, driver, kind, at)
            yield
        yield from losses(driver, kind, phase, at, found)
    yield from losses(driver, kind, FINISHED, 0, found)


def losses(driver: Driver, kind: Begun, phase: str, at: int, found: dict[str, Tried]) -> Iterator[None]:
    """Every file of a song that was killed at a step, or is finished, deleted once."""
    names = files_of(interrupt(driver, kind, at))
    kept = keep(driver, kind)
    for name in names:
        where = f"{kind.writer.name}, {phase}, step {at}, without {name}"
        attempt(found, "one file deleted", where, lose, driver, kind, kept, name)
        yield


def attempt(
    found: dict[str, Tried], what: str, where: str, act: Callable[..., str | None], *given: Any
) -> None:
    """One try; a broken promise is noted."""
    tried = found.setdefault(what, Tried())
    try:
        tried.ends[act(*given) or "made whole"] += 1
    except Broken as error:
        tried.broken.append(f"{where}: {error}")
        print(f"{what}, {where}: {error}", file=sys.stderr)


def long_run(driver: Driver, seconds: float, seed: int, only: str) -> dict[str, Tried]:
    """Rounds of each kind of song in turn, each at other steps, until the time is over."""
    chance, found = random.Random(seed), dict[str, Tried]()
    kinds = [begun(driver, name) for name in SONGS if only in name]
    end = time.monotonic() + seconds
    rounds = [round_of(driver, kind, chance, found) for kind in kinds]
    while time.monotonic() < end:
        for number, kind in enumerate(kinds):
            if time.monotonic() > end:
                break
            if next(rounds[number], end) is end:
                rounds[number] = round_of(driver, kind, chance, found)
    return found


def main() -> int:
    """Run from the command line; exit code 1 where a promise was broken."""
    asked = arguments(__doc__)
    with driver_of_a_run() as driver:
        found = long_run(driver, asked.seconds, asked.seed, asked.only)
    if os.geteuid():
        print("read-only folders need root, and were left out")
    return report(found)


if __name__ == "__main__":
    sys.exit(main())
