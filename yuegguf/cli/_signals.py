"""What stops the work: Ctrl-C at the next token, and on request the battery, until it charges."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import click

from yuegguf import stopping
from yuegguf.cli._console import Console
from yuegguf.planning import hardware

LOOK_SECONDS = 10.0
"""Between two looks at the battery, while the work goes on."""
NAP_SECONDS = 1.0
"""The same while it is paused."""
WANTED = "yuegguf.{}"
"""Where a command's context notes an option of `laptop_options`."""


class AtOnce:
    """Raise KeyboardInterrupt at the first signal, so that what is open is closed; end at the next."""

    def __init__(self) -> None:
        self._raised = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self._raised:
            stopping.exit_now()
        self._raised = True
        raise KeyboardInterrupt


class Patient(threading.Event):
    """An event that, asked whether it is set, waits as long as the machine runs on its battery."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """`say` is called with a sentence when a pause begins."""
        super().__init__()
        self._say, self._next = say, 0.0

    def is_set(self) -> bool:
        """Whether the work must stop; on battery, the answer comes when it charges or must stop."""
        if not super().is_set() and time.monotonic() >= self._next:
            self._wait()
            self._next = time.monotonic() + LOOK_SECONDS
        return super().is_set()

    def _wait(self) -> None:
        announced = False
        while hardware.on_battery() and not super().is_set():
            if not announced:
                self._say("paused, since the machine runs on its battery; Ctrl-C stops")
                announced = True
            time.sleep(NAP_SECONDS)  # holding no lock that a signal's handler may want


def _note(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    context.meta[WANTED.format(option.name)] = wanted


def _wanted(name: str) -> bool:
    return bool(click.get_current_context().meta.get(WANTED.format(name)))


_BATTERY = click.option(
    "--pause-on-battery",
    is_flag=True,
    expose_value=False,
    callback=_note,
    help="Wait while the machine runs on its battery.",
)
_NICE = click.option(
    "--nice/--no-nice",
    default=True,
    show_default=True,
    expose_value=False,
    callback=_note,
    help="Let other programs have the cores first.",
)


def laptop_options(command: Callable[..., object]) -> Callable[..., object]:
    """Options of every command that works for hours on a machine that others need too."""
    return _BATTERY(_NICE(command))


@contextmanager
def stop_on_signals(output: Console) -> Iterator[threading.Event]:
    """Yield an event that the first signal of `stopping` sets; a second one raises KeyboardInterrupt.

    With --pause-on-battery, asking the event waits until the machine charges. With --nice, the work gives way
    to other programs.
    """
    stop = Patient(output.warn) if _wanted("pause_on_battery") else threading.Event()
    if _wanted("nice"):
        hardware.give_way()
    before: dict[int, stopping.Handler] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        if not threading.Event.is_set(stop):
            stop.set()
            return
        outer = before.get(number)
        if callable(outer):
            outer(number, frame)
        else:
            raise KeyboardInterrupt

    before |= stopping.install_handler(handle)
    try:
        yield stop
    finally:
        stopping.restore_handlers(before)
