"""Scheme and host as a client wrote them, where a proxy that is trusted says so.

Nobody is trusted by default, not even loopback: a page in this machine's browser could send the same headers.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, MutableMapping
from typing import Any

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?")
"""A host with or without a port."""


def parse_network(text: str) -> Network:
    """An address or a network such as 10.0.0.0/8. Raises ValueError."""
    return ipaddress.ip_network(text.strip("[]"), strict=False)


def is_trusted(peer: str, proxies: tuple[Network, ...]) -> bool:
    """Whether the address of a connection's other side is one of these proxies."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in proxies)


def forwarded(headers: Mapping[str, str]) -> tuple[str, str]:
    """Scheme and host that a trusted proxy names, each empty where it names none.

    Of several values the last counts, which the nearest proxy has written.
    """
    scheme, host = (
        headers.get(f"x-forwarded-{part}", "").rpartition(",")[2].strip() for part in ("proto", "host")
    )
    return scheme.lower() if scheme.lower() in ("http", "https") else "", host


def rewrite(scope: MutableMapping[str, Any], scheme: str, host: str) -> None:
    """Put a scheme and a host into a request, as if it had come here with them; empty ones change nothing."""
    if scheme:
        scope["scheme"] = scheme
    if host:
        others = [(name, value) for name, value in scope["headers"] if name.lower() != b"host"]
        scope["headers"] = [(b"host", host.encode("latin-1")), *others]
