"""A process that llama.cpp may end: connect to an RPC server as it would, and exit with 0 if that succeeds.

Arguments: the library with the RPC client, the library of ggml's base, HOST:PORT. Run as a file, so that it
needs nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import os
import sys

FAILED = 3
"""Exit code where llama.cpp would have ended the process."""
ABORT_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_char_p)


def end(message: bytes | None) -> None:
    """End this process, without a core file, with llama.cpp's message on stderr."""
    os.write(2, message or b"")
    os._exit(FAILED)


def main(client: str, base: str, server: str) -> None:
    """Connect to a server."""
    callback = ABORT_CALLBACK(end)
    ctypes.CDLL(base).ggml_set_abort_callback(callback)
    ctypes.CDLL(client).ggml_backend_rpc_add_server(server.encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
