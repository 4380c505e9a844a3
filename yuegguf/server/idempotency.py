"""Keys of requests: one that is sent twice makes one song, or one task."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import IO, Self


@dataclass(frozen=True)
class Idempotency:
    """Key of a request, and a hash of its body: the same key with another body is refused."""

    key: str | None = None
    digest: str = ""

    @classmethod
    def of(cls, key: str | None, *parts: bytes | IO[bytes]) -> Self:
        """The key with the hash of these parts of the request; without a key nothing is read."""
        return cls(key, digest_of(*parts)) if key else cls()


def digest_of(*parts: bytes | IO[bytes]) -> str:
    """A hash of the parts of a request; files are read piece by piece from where they are."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, bytes):
            total.update(hashlib.sha256(part).digest())
        else:  # typeshed's IO lacks readinto, which every binary file has
            total.update(hashlib.file_digest(part, "sha256").digest())  # type: ignore[arg-type]
    return total.hexdigest()
