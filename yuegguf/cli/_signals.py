"""Signals and the battery: Ctrl-C stops the work at the next token, --pause-on-battery pauses it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType

import click

from yuegguf import stopping
from yuegguf.cli._console import Console

CHECK_SECONDS = 10.0
"""Seconds between two checks of the battery during the work."""
PAUSE_CHECK_SECONDS = 1.0
"""Seconds between two checks of the battery during a pause."""
PAUSED = "paused, since the machine runs on its battery; Ctrl-C stops"
META_KEY = "yuegguf.{}"
"""Key of an option of `laptop_options` in the context of a command."""


class ImmediateInterrupt:
    """Raise KeyboardInterrupt at the first signal, so that what is open is closed; end at the next."""

    def __init__(self) -> None:
        self._raised = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self._raised:
            stopping.exit_now()
        self._raised = True
        raise KeyboardInterrupt


class BatteryAwareEvent(threading.Event):
    """An event whose `is_set` waits as long as the machine runs on its battery."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """`say` is called with a sentence when a pause begins."""
        super().__init__()
        self._say, self._next = say, 0.0
        self._unsaid = [PAUSED]
        """Sentences about this pause; of several threads that wait, one takes it out without a lock."""

    def is_set(self) -> bool:
        """Whether the work must stop; on battery, returns once the machine charges or the work must stop."""
        if not super().is_set() and time.monotonic() >= self._next:
            self._wait()
            self._next = time.monotonic() + CHECK_SECONDS
        return super().is_set()

    def _wait(self) -> None:
        from yuegguf.planning import hardware

        while hardware.on_battery() and not super().is_set():
            with suppress(IndexError):
                self._say(self._unsaid.pop())
            time.sleep(PAUSE_CHECK_SECONDS)  # holding no lock that a signal's handler may want
        self._unsaid = [PAUSED]


def _store(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    context.meta[META_KEY.format(option.name)] = wanted


def _wanted(name: str) -> bool:
    return bool(click.get_current_context().meta.get(META_KEY.format(name)))


_BATTERY = click.option(
    "--pause-on-battery",
    is_flag=True,
    expose_value=False,
    callback=_store,
    help="Wait while the machine runs on its battery.",
)
_NICE = click.option(
    "--nice/--no-nice",
    default=True,
    show_default=True,
    expose_value=False,
    callback=_store,
    help="Let other programs have the cores first.",
)


def laptop_options(command: Callable[..., object]) -> Callable[..., object]:
    """Options of commands that work for hours on a machine that other programs need too."""
    return _BATTERY(_NICE(command))


@contextmanager
def stop_on_signals(output: Console) -> Iterator[threading.Event]:
    """Yield an event that the first signal of `stopping` sets; a second one raises KeyboardInterrupt.

    With --pause-on-battery, asking the event waits until the machine charges. With --nice, the work gives way
    to other programs.
    """
    from yuegguf.planning import hardware

    stop = (
        BatteryAwareEvent(partial(output.warn, again=True))
        if _wanted("pause_on_battery")
        else threading.Event()
    )
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
