"""Handlers of the signals that end a program, and its exit. Imported first, so it imports little."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None

SIGNAL_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""Signals that ask a program to end, where the system has them."""
EXIT_STOPPED = 130
"""Exit code of a command that was stopped at once."""
STOPPED_SENTENCE = "stopped at once"


def install_handler(handler: Handler) -> dict[int, Handler]:
    """Install a handler for every signal of SIGNAL_NAMES; returns the previous handlers.

    A signal that is ignored stays so: SIGHUP under nohup, SIGINT in the background of a script.
    """
    return {number: signal.signal(number, handler) for number in _handled_signals()}


def restore_handlers(handlers: Mapping[int, Handler]) -> None:
    """Install the previous handlers again."""
    for number, handler in handlers.items():
        signal.signal(number, handler)


def exit_now(code: int = EXIT_STOPPED, sentence: str = STOPPED_SENTENCE) -> NoReturn:
    """End this process now, with a line on stderr unless the sentence is empty."""
    try:
        if sentence:
            os.write(2, f"{sentence}\n".encode())
    except OSError:  # a closed stderr must not keep the process alive
        pass
    finally:
        os._exit(code)


def ignore_signal(number: int, frame: FrameType | None) -> None:
    """Handle a signal by doing nothing; unlike SIG_IGN, programs that are started do not inherit it."""


def _handled_signals() -> list[int]:
    numbers = [getattr(signal, name) for name in SIGNAL_NAMES if hasattr(signal, name)]
    return [n for n in numbers if signal.getsignal(n) not in (signal.SIG_IGN, None)]
