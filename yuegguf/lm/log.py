"""llama.cpp's log, which a process has once: kept quiet, with one owner for the engine and the quantiser."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable

LEVEL_ERROR = 4
"""ggml's GGML_LOG_LEVEL_ERROR, which the binding does not export."""
MAX_COMPLAINTS = 20
"""Complaints that are kept of one call."""


class Log:
    """llama.cpp's complaints since the last `begin` of the same thread; they explain a failure."""

    def __init__(self) -> None:
        self._own = threading.local()
        self._callback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(self._note)

    def attach(self, set_log: Callable[[object, object], object]) -> None:
        """Take llama.cpp's log over; `set_log` is its llama_log_set. Any number of times."""
        set_log(self._callback, ctypes.c_void_p(0))

    def begin(self) -> None:
        """Forget this thread's complaints."""
        self._own.complaints = []

    @property
    def complaints(self) -> list[str]:
        """This thread's complaints, the first one first."""
        found: list[str] = getattr(self._own, "complaints", [])
        return found

    @property
    def detail(self) -> str:
        """The first complaint, as the end of a sentence."""
        return f" ({self.complaints[0]})" if self.complaints else ""

    def _note(self, level: int, text: bytes | None, _data: object) -> None:
        line = (text or b"").decode(errors="replace").strip()
        if level == LEVEL_ERROR and line and len(self.complaints) < MAX_COMPLAINTS:
            self._own.complaints = [*self.complaints, line]


LOG = Log()
"""The process's own."""
