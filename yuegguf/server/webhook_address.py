"""Addresses that webhooks may go to: a client must not make the server send requests into its own network."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from yuegguf.request.valid_text import is_valid_text
from yuegguf.server.problems import HttpProblem

MOST_URL_CHARS = 2000
PORTS = {"http": 80, "https": 443}
PUBLIC_V6 = ipaddress.ip_network("2000::/3")
NOT_PUBLIC = (
    ipaddress.ip_network("2002::/16"),  # 6to4: an IPv4 address in IPv6
    ipaddress.ip_network("192.0.0.0/24"),  # metadata of some clouds
)


@dataclass(frozen=True)
class WebhookUrl:
    """A URL that is notified."""

    scheme: str
    host: str
    port: int
    target: str
    """Path and query."""

    @property
    def host_header(self) -> str:
        """Value of the Host header."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == PORTS[self.scheme] else f"{name}:{self.port}"


def parse_webhook(text: str, allowed: tuple[str, ...] = ()) -> WebhookUrl:
    """The parts of a URL. Raises HttpProblem 422 where a webhook may not go to it, as far as its text says.

    `allowed` are hosts that need not be public.
    """
    refused = HttpProblem(
        422,
        "bad_webhook",
        "the webhook is no http or https URL",
        "use a URL such as https://example.com/done",
    )
    if len(text) > MOST_URL_CHARS or not is_valid_text(text) or not text.isprintable() or " " in text:
        raise refused
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").encode("idna").decode("ascii").lower(), parts.port
    except ValueError as error:
        raise refused from error
    if parts.scheme not in PORTS or not host or parts.username is not None or port == 0 or "%" in host:
        raise refused
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not target.isascii():
        raise refused
    found = WebhookUrl(parts.scheme, host, port or PORTS[parts.scheme], target)
    if host.removesuffix(".") == "localhost" and host not in allowed:
        raise not_public(found)
    try:  # an address in any of the spellings that the system takes; a name is looked up when it is used
        addresses = socket.getaddrinfo(host, found.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except OSError:
        return found
    _check(found, addresses, allowed)
    return found


def host_of(text: str) -> str:
    """The host of a URL for people, allowed or not."""
    try:
        return urlsplit(text).hostname or "its host"
    except ValueError:
        return "its host"


def public_address(url: WebhookUrl, allowed: tuple[str, ...] = ()) -> str:
    """An address of a URL's host. Raises HttpProblem 422 where any is not public, OSError without any.

    The connection must be made to this address: a second look at the name might give another one.
    """
    addresses = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    _check(url, addresses, allowed)
    return str(addresses[0][4][0])


def _check(url: WebhookUrl, addresses: list[Any], allowed: tuple[str, ...]) -> None:
    if url.host in allowed:
        return
    if not all(is_public(str(each[4][0])) for each in addresses):
        raise not_public(url)


def is_public(text: str) -> bool:
    """Whether an IP address is one of the internet: not loopback, private, link-local or an IPv4 address in
    disguise.
    """
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in network for network in NOT_PUBLIC if network.version == address.version):
        return False
    if address.version == 6 and address not in PUBLIC_V6:
        return False
    return address.is_global and not address.is_multicast


def not_public(url: WebhookUrl) -> HttpProblem:
    """The error of a webhook that leads into a private network."""
    return HttpProblem(
        422,
        "bad_webhook",
        f"the webhook's host {url.host!r:.80} is not on the internet",
        "use a public address, or start the server with --allow-webhook HOST",
    )
