"""llama.cpp's log, one per process: silenced, and shared by the engine and the quantiser."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable

LEVEL_ERROR = 4
"""ggml's GGML_LOG_LEVEL_ERROR, which the binding does not export."""
MAX_ERRORS = 20
"""Maximum error lines kept of one call."""


class Log:
    """llama.cpp's error lines since the last `begin` of the same thread."""

    def __init__(self) -> None:
        self._thread = threading.local()
        self._callback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(self._note)

    def attach(self, set_log: Callable[[object, object], object]) -> None:
        """Receive llama.cpp's log; `set_log` is its llama_log_set. May be called repeatedly."""
        set_log(self._callback, ctypes.c_void_p(0))

    def begin(self) -> None:
        """Drop this thread's error lines."""
        self._thread.errors = []

    @property
    def errors(self) -> list[str]:
        """This thread's error lines, in order."""
        lines: list[str] = getattr(self._thread, "errors", [])
        return lines

    @property
    def detail(self) -> str:
        """The first error line, as the end of a message."""
        return f" ({self.errors[0]})" if self.errors else ""

    def _note(self, level: int, text: bytes | None, _data: object) -> None:
        line = (text or b"").decode(errors="replace").strip()
        if level == LEVEL_ERROR and line and len(self.errors) < MAX_ERRORS:
            self._thread.errors = [*self.errors, line]


LOG = Log()
"""The log of this process."""
