"""A process that works in a song folder by a lease, and pauses itself at an exact moment of a write.

    python -m paused FOLDER MOMENT

MOMENT: "workspace" (before it makes a workspace), "look" (before it looks at its lease), "rename" (after it
has looked), "append" (with the log open), "reopen" (before the log is opened again). It pauses by SIGSTOP;
once it goes on, it prints "written", or the message of the error.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from yuegguf.errors import YueError
from yuegguf.files import atomic
from yuegguf.song import token_log
from yuegguf.song.folder import SongFolder
from yuegguf.song.lease import leased

TITLE = "the paused one"


def pause() -> None:
    """Stop this process until it is sent SIGCONT."""
    os.kill(os.getpid(), signal.SIGSTOP)


def pausing(module: Any, name: str, after: bool = False) -> None:
    """Pause before (or after) the next call of a function of a module."""
    plain = getattr(module, name)

    def call(*args: Any) -> Any:
        setattr(module, name, plain)
        if not after:
            pause()
        result = plain(*args)
        if after:
            pause()
        return result

    setattr(module, name, call)


def write(folder: SongFolder, moment: str) -> None:
    """Write song.json, or the log, with a pause in between."""
    if moment == "append":
        with closing(folder.token_log()) as log:
            log.append(0, 7)
            pause()
            log.append(0, 8)
            folder.advance("draft", title=TITLE)  # the first write that looks
        return
    if moment == "reopen":
        pausing(token_log, "unshare", after=True)
        with closing(folder.token_log()) as log:
            log.append(0, 9)
        return
    if moment == "workspace":
        pausing(atomic, "check_steady", after=True)
    elif moment == "look":
        pausing(atomic, "flush")
    else:
        pausing(Path, "replace")
    folder.advance("draft", title=TITLE)


def main() -> None:
    """Work in the folder that the arguments name."""
    folder = SongFolder.open(Path(sys.argv[1]))
    try:
        with leased(folder.path, "unit 1", "here") as held, folder.claimed(by_lease=True):
            held.beat()
            write(folder, sys.argv[2])
        print("written")
    except YueError as error:
        print(error.message)


if __name__ == "__main__":
    main()
