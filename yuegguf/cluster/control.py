"""The folder by which a driver and its units speak, beside the songs on the storage that they share.

.cluster/ID/token          proves that a machine sees the same storage
.cluster/ID/stop           asks every unit to stop at its next token
.cluster/ID/cancel-SONG    asks for the end of one song
.cluster/ID/driver.json    the songs that wait or have failed, for `cluster status`
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path

from yuegguf.cluster.unit import Control
from yuegguf.errors import StorageError
from yuegguf.files.atomic import replacing, storage_errors

CLUSTER_FOLDER = ".cluster"
TOKEN_FILE, STOP_FILE, CANCEL_PREFIX, DRIVER_FILE = "token", "stop", "cancel-", "driver.json"
OLD_SECONDS = 86400.0
"""Age at which the control folder of a driver that was killed is removed."""


def open_control(songs: Path, driver: str) -> Control:
    """Make the control folder of a driver beside its songs; removes those of drivers long gone.

    Raises StorageError.
    """
    parent = songs / CLUSTER_FOLDER
    with storage_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.iterdir():
            if time.time() - left.stat().st_mtime > OLD_SECONDS and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
        folder = parent / driver
        folder.mkdir(mode=0o700)
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


def _key(song: Path) -> str:
    """The name of a song's folder; that of a take with its parent's."""
    return f"{song.parent.name}--{song.name}" if song.name.startswith("take-") else song.name
