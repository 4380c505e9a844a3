"""The program `yuegguf`, also as `python -m yuegguf`.

A signal ends it with one line from the first import on, which takes a second on a slow disk.
"""

from __future__ import annotations

import os
import sys

try:
    from yuegguf import stopping
except KeyboardInterrupt:
    os.write(2, b"stopped at once\n")
    os._exit(130)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run the command line of this process, and exit with its code."""
    stopping.install_handler(lambda _number, _frame: stopping.exit_now())
    sys.unraisablehook = _lost
    _open_streams()
    from yuegguf.cli import main as command

    command()


def _lost(fault: sys.UnraisableHookArgs) -> None:
    """End where KeyboardInterrupt was raised in a callback, from which it cannot rise to the command."""
    if fault.exc_type is KeyboardInterrupt:
        stopping.exit_now()
    sys.__unraisablehook__(fault)


def _open_streams() -> None:
    """Open the null device, the wrong way round, for each closed standard stream.

    No file of ours may take its number, since libraries in C write to it; writing fails as it should.
    """
    for number, way in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, way)  # the lowest free number, which is this one
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)


if __name__ == "__main__":
    main()
