"""The readiness line for systemd: a datagram to the socket that it names, as sd_notify(3) describes."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify_service_manager(line: str) -> None:
    """Send a line such as READY=1 to the service manager, if there is one that waits for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
        return
    if address.startswith("@"):  # an abstract name
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.sendto(line.encode(), address)
