"""Promises of every command, whatever stops it: old or new files, one line of error, equal results."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from helpers import Result

from yuegguf.errors import YueError
from yuegguf.song import token_log
from yuegguf.song.folder import SongFolder

TEMPORARY = re.compile(r"^\.(new-)?yuegguf-.*|.*\.lock(\.held)?$|^\.staged$")
"""Names of what a killed process may leave, which the next one removes."""
QUEUE = re.compile(r"note: \d+ of \d+ songs failed; run the same command to try again$")
"""Last line of a queue that has named each song's failure."""
VOLATILE = {"seconds", "checksum", "saved", "created", "installed"}
"""Fields that differ between two runs of one command."""

Content = dict[str, Any]


class Broken(AssertionError):
    """A promise that was not kept."""


def content(folder: Path) -> Content:
    """All that is below a folder, by name; ids of songs and what two runs may differ in left out."""
    found: Content = {}
    for path in sorted(folder.rglob("*")):
        name = plain(str(path.relative_to(folder)))
        name += " again" * (name in found)  # two songs of one name
        found[name] = "folder" if path.is_dir() else comparable(path.name, path.read_bytes())
    return found


def plain(name: str) -> str:
    """A name without the id of a song."""
    return re.sub(r"-[0-9a-f]{6}(?=[/.]|$)", "-ID", name)


def comparable(name: str, data: bytes) -> Any:
    """Content of a file that two runs of one command must share."""
    if name.endswith(".json"):
        try:
            return json.dumps(_without(json.loads(data)), sort_keys=True)
        except ValueError:
            return data
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {plain(each): comparable(each, archive.read(each)) for each in archive.namelist()}
    if name.endswith(".npz") and b"facts.npy" in data:
        with np.load(io.BytesIO(data)) as arrays:
            return arrays["codes"].tobytes(), json.dumps(_without(json.loads(arrays["facts"].tobytes())))
    return data


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {plain(key): _without(each) for key, each in value.items() if key not in VOLATILE}
    if isinstance(value, list):
        return [_without(each) for each in value]
    return plain(value) if isinstance(value, str) else value


def check_promise(work: Path, before: Content, after: Content) -> None:
    """Every file that has its name is the old or the new one; logs are beginnings. Raises Broken."""
    for path in sorted(work.rglob("*")):
        parts = path.relative_to(work).parts
        if path.is_dir() or any(TEMPORARY.match(part) for part in parts) or "cache" in parts:
            continue
        name, data = plain("/".join(parts)), path.read_bytes()
        if path.name == "song.json" and path.parent.name != "export":
            _check(lambda folder=path.parent: SongFolder.open(folder), f"{name} cannot be read")
        elif path.name == "tokens.log":
            _, length = token_log.parse_log(data, name)
            whole = after.get(name, data)
            require(whole.startswith(data[:length]), f"{name} is not the beginning of the song's")
        elif path.name == "preview.wav":
            _check(lambda file=path: soundfile.read(file), f"{name} cannot be read")
        elif name.endswith(".state.json"):
            _check(lambda text=data: json.loads(text), f"{name} cannot be read")
        elif parts[-2:-1] == ("chunks",):
            _check(lambda file=path: np.load(file)["codes"], f"{name} cannot be read")
        else:
            known = [side[name] for side in (before, after) if name in side]
            passing = not known and path.name.startswith("draft")
            require(
                passing or comparable(path.name, data) in known, f"{name} is neither the old nor the new file"
            )
    there = {plain(str(path.relative_to(work))) for path in work.rglob("*")}
    gone = [name for name in before if name in after and name not in there]
    require(not gone, f"{gone} is gone")


def _check(read: Callable[[], object], reason: str) -> None:
    try:
        read()
    except (YueError, OSError, ValueError, RuntimeError) as error:
        raise Broken(f"{reason}: {error}") from error


def require(holds: bool, reason: str) -> None:
    """Raise Broken unless the promise holds."""
    if not holds:
        raise Broken(reason)


def check_sentence(result: Result) -> None:
    """A command that failed says so in one line. Raises Broken."""
    errors = [
        line
        for line in result.err.splitlines()
        if line.startswith(("error: ", "stopped")) or QUEUE.match(line)
    ]
    bad = "Traceback" in result.err or "unexpected" in result.err or "fault of yuegguf" in result.err
    require(
        result.code in (1, 3, 4, 5, 7, 75) and len(errors) == 1 and not bad, f"{result.code} {result.err}"
    )


def check_equal(now: Content, after: Content) -> None:
    """Compare a folder with that of the undisturbed run. Raises Broken."""
    require(not (more := sorted(now.keys() - after.keys())), f"left over: {more}")
    require(not (less := sorted(after.keys() - now.keys())), f"missing: {less}")
    different = [name for name in after if now[name] != after[name]]
    require(not different, f"not the same: {different}")
