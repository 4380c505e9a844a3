"""The last message of llama.cpp, which ends the whole process where it has no way to report an error.

A lost RPC server is such an error. What calls the handler may be a thread of llama.cpp's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from yuegguf.errors import EngineError

RPC_WORD = "RPC"
"""Word of llama.cpp's messages about an RPC server."""
SOURCE_FOLDER = re.compile(r"^.*[/\\](?=[^/\\]+:\d+: )")
"""Folder of the source file, on the machine that built llama.cpp."""
_handler: Callable[[EngineError], object] | None = None


def set_handler(handler: Callable[[EngineError], object]) -> None:
    """Call `handler` with the error before llama.cpp ends this process; it may end it with its own exit code.

    Counts for a llama.cpp that is started later.
    """
    global _handler
    _handler = handler


def install(folder: Path) -> None:
    """Pass the last message of the libraries in `folder` on to the handler, if there is one."""
    if _handler is not None:
        from yuegguf.lm import ggml  # the program sets its handler before it loads numpy

        ggml.set_abort_handler(folder, _report)


def _report(message: str) -> None:
    if _handler is not None:
        _handler(error_of(message))


def error_of(message: str) -> EngineError:
    """The error that a last message of llama.cpp means, which begins with the path of a source file."""
    words = SOURCE_FOLDER.sub("", message.strip())
    if RPC_WORD in words:
        return EngineError(
            f"the RPC server is gone, or is none of this llama.cpp ({words})",
            "start it again: yuegguf rpc-server; then resume the song, which keeps what was computed",
        )
    return EngineError(f"llama.cpp gave up ({words})", "resume the song, which keeps what was computed")
