"""Settings of a server, and the names of its files in the folder of songs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from yuegguf.models.resolve import ModelChoice
from yuegguf.planning.compute_options import ComputeOptions
from yuegguf.request.ranges import MAX_SECONDS, check_number
from yuegguf.server.forwarding import Network

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8451
DEFAULT_MAX_QUEUE, DEFAULT_UPLOAD_BYTES = 8, 64 << 20
DEFAULT_IDLE_SECONDS = 600.0
QUEUE_FILE = "queue.sqlite"
LOCK_FILE = ".server.lock"
PREDICTIONS_FILE = "predictions.sqlite"
KEY_FILE = ".server.key"
UPLOADS_FOLDER = ".uploads"
MAX_JSON_BODY = 1 << 20
"""Most bytes of a JSON body."""
MAX_FILES = 3
"""Most recordings of one request."""


@dataclass(frozen=True)
class Settings:
    """Settings of a server."""

    songs: Path
    """Folder of songs, absolute."""
    choice: ModelChoice = field(default_factory=ModelChoice)
    """Models of songs whose request names none."""
    compute: ComputeOptions = field(default_factory=ComputeOptions)
    parallel: int = 1
    """Songs that are generated together."""
    max_queue: int = DEFAULT_MAX_QUEUE
    """Songs that may wait."""
    upload_limit: int = DEFAULT_UPLOAD_BYTES
    """Most bytes of a request with recordings."""
    key: str = ""
    """Key that every request except /health and the page's files must carry; empty = none."""
    prefix: str = ""
    """Path before every route, such as "/yue", behind a proxy."""
    hosts: tuple[str, ...] = ()
    """Names under which the server may be addressed, besides loopback and its own addresses."""
    compat: tuple[str, ...] = ()
    """APIs of other programs that are answered too: "cog"."""
    webhook_hosts: tuple[str, ...] = ()
    """Hosts that webhooks may go to although they are not on the internet."""
    proxies: tuple[Network, ...] = ()
    """Addresses of proxies whose X-Forwarded-Proto and X-Forwarded-Host count."""
    idle_unload: float = DEFAULT_IDLE_SECONDS
    """Seconds without a song after which the worker process ends and its memory is free."""

    def __post_init__(self) -> None:
        check_number("idle-unload", self.idle_unload, 0, MAX_SECONDS)

    @property
    def uploads(self) -> Path:
        """Folder of the recordings that songs were requested with."""
        return self.songs / UPLOADS_FOLDER
