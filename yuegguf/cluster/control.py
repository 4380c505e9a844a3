"""The folder by which a driver and its units speak, beside the songs on the storage that they share.

.cluster/ID/token          proves that a machine sees the same storage
.cluster/ID/stop           asks every unit to stop at its next token
.cluster/ID/cancel-SONG    asks for the end of one song
.cluster/ID/aborted-UNIT   why llama.cpp ended the process of a unit
.cluster/ID/driver.json    the songs that wait or have failed, for `cluster status`
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from yuegguf.cluster.unit import Control
from yuegguf.errors import DamagedFile, StorageError
from yuegguf.files import typed_json
from yuegguf.files.atomic import replacing, storage_errors

CLUSTER_FOLDER = ".cluster"
TOKEN_FILE, STOP_FILE, DRIVER_FILE = "token", "stop", "driver.json"
CANCEL_PREFIX, ABORT_PREFIX = "cancel-", "aborted-"
MOST_ABORT_BYTES = 2000
OLD_SECONDS = 86400.0
"""Age at which the control folder of a driver that was killed is removed."""


@dataclass(frozen=True)
class DriverFacts:
    """Content of driver.json."""

    name: str
    host: str
    machines: int
    """Machines that can work on its songs."""
    unfit: dict[str, str]
    """Ids of those that cannot → why."""
    left: int
    """Songs that it has begun and that have not ended."""
    failed: dict[str, str]
    """Folders of songs that have failed → why."""
    age: float = 0.0
    """Seconds since it was written, by this machine's clock."""


def write_driver(control: Control, facts: DriverFacts) -> None:
    """Write driver.json; a full disk only makes it old."""
    with suppress(StorageError), replacing(Path(control.folder) / DRIVER_FILE) as beside:
        beside.write_bytes(typed_json.encode(facts))


def read_drivers(songs: Path) -> list[DriverFacts]:
    """Facts of the drivers that work on songs in a folder, by name; one that cannot be read is left out."""
    found = []
    for file in sorted((songs / CLUSTER_FOLDER).glob(f"*/{DRIVER_FILE}")):
        with suppress(OSError, DamagedFile):
            facts = typed_json.read_file(file, DriverFacts, "start the driver again")
            found.append(replace(facts, age=max(0.0, time.time() - file.stat().st_mtime)))
    return found


def open_control(songs: Path, driver: str) -> Control:
    """Make the control folder of a driver beside its songs; removes those of drivers long gone.

    Raises StorageError.
    """
    parent = songs / CLUSTER_FOLDER
    with storage_errors(parent):
        folder = parent / driver
        folder.mkdir(mode=0o700, parents=True)
        now = folder.stat().st_mtime  # by the storage's clock, from which this machine's may differ
        for left in parent.iterdir():
            with suppress(OSError):  # another driver has removed it meanwhile
                if now - left.stat().st_mtime > OLD_SECONDS and not left.is_symlink():
                    shutil.rmtree(left, ignore_errors=True)
    control = Control(str(folder.absolute()), secrets.token_hex(16))
    with replacing(folder / TOKEN_FILE) as beside:
        beside.write_text(control.token, "utf-8")
    return control


def close_control(control: Control) -> None:
    """Remove the control folder of a driver that has ended."""
    folder = Path(control.folder)
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # other drivers have theirs there
        folder.parent.rmdir()


def check_control(control: Control) -> None:
    """Raise StorageError on a machine that does not see the driver's storage."""
    file = Path(control.folder) / TOKEN_FILE
    text = ""
    with suppress(OSError, UnicodeDecodeError):
        text = file.read_text("utf-8")
    if text != control.token:
        raise StorageError(
            f"this machine does not see the folder of songs: {file} is not the driver's",
            "mount the same storage at the same path on every machine",
        )


def ask_to_stop(control: Control) -> None:
    """Ask every unit to stop at its next token."""
    with suppress(OSError):
        (Path(control.folder) / STOP_FILE).touch()


def ask_to_cancel(control: Control, song: Path, *, take_back: bool = False) -> None:
    """Ask the unit that works on a song to stop it at its next token, or take that back."""
    file = Path(control.folder) / f"{CANCEL_PREFIX}{_key(song)}"
    with suppress(OSError):
        if take_back:
            file.unlink(missing_ok=True)
        else:
            file.touch()


def is_stopped(control: Control) -> bool:
    """Whether the units of a driver are to stop; also once the driver has removed its folder."""
    folder = Path(control.folder)
    return os.path.exists(folder / STOP_FILE) or not os.path.exists(folder / TOKEN_FILE)


def is_cancelled(control: Control, song: Path) -> bool:
    """Whether a song is to be stopped."""
    return os.path.exists(Path(control.folder) / f"{CANCEL_PREFIX}{_key(song)}")


def note_abort(control: Control, unit: str, reason: str) -> None:
    """Keep why llama.cpp ends the process of a unit, which can tell its driver in no other way."""
    with suppress(OSError):
        text = reason.encode(errors="replace")[:MOST_ABORT_BYTES]
        _abort_file(control, unit).write_bytes(text)


def abort_reason(control: Control, unit: str) -> str:
    """Why llama.cpp ended the process of a unit; empty where something else did."""
    with suppress(OSError), _abort_file(control, unit).open("rb") as file:
        return file.read(MOST_ABORT_BYTES).decode(errors="replace")
    return ""


def _abort_file(control: Control, unit: str) -> Path:
    """The file of a unit, whose name ends with a slash and its number."""
    return Path(control.folder) / f"{ABORT_PREFIX}{unit.rpartition('/')[2]}"


def _key(song: Path) -> str:
    """The name of a song's folder; that of a take with its parent's."""
    return f"{song.parent.name}--{song.name}" if song.name.startswith("take-") else song.name
