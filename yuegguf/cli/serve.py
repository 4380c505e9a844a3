"""`serve`: songs over HTTP, with a page and a queue."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from yuegguf.cli._cluster_options import ClusterChoice, cluster_options
from yuegguf.cli._compute import compute_options
from yuegguf.cli._console import Console
from yuegguf.cli._numbers import Number
from yuegguf.cli._options import PATH, model_options, pass_output, size
from yuegguf.cli._signals import stop_on_signals
from yuegguf.errors import RequestError
from yuegguf.files.atomic import storage_errors
from yuegguf.planning.compute_options import MAX_PARALLEL, ComputeOptions
from yuegguf.server.forwarding import Network, parse_network
from yuegguf.server.readiness import notify_service_manager
from yuegguf.server.settings import (
    DEFAULT_HOST,
    DEFAULT_IDLE_SECONDS,
    DEFAULT_MAX_QUEUE,
    DEFAULT_PORT,
    KEY_FILE,
    Settings,
)

if TYPE_CHECKING:
    from yuegguf.models.resolve import ModelChoice


@click.command(short_help="an HTTP API and a page, with a queue of songs")
@click.option(
    "--host", default=DEFAULT_HOST, show_default=True, help="Address; others than loopback have a key."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0 = any free one."
)
@click.option(
    "--key",
    envvar="YUEGGUF_KEY",
    help="Key that requests must carry [default: YUEGGUF_KEY, or none on loopback, else one that is made].",
)
@click.option("--prefix", default="", metavar="PATH", help="Path before every route, behind a proxy: /yue.")
@click.option(
    "--allow-host", multiple=True, metavar="NAME", help="Name under which the server may be addressed."
)
@click.option(
    "--trust-proxy", multiple=True, metavar="ADDRESS",
    help="Address or network of a proxy whose X-Forwarded-Proto and -Host headers count.",
)  # fmt: skip
@click.option("--songs", type=PATH, default=Path("songs"), show_default=True, help="Folder of songs.")
@click.option(
    "--parallel", type=click.IntRange(1, MAX_PARALLEL), default=1, show_default=True, metavar="N",
    help="Generate so many songs together, as far as they fit into memory.",
)  # fmt: skip
@click.option(
    "--max-queue",
    type=click.IntRange(1, 1000),
    default=DEFAULT_MAX_QUEUE,
    show_default=True,
    help="Songs that may wait.",
)
@click.option(
    "--upload-limit", type=size, default="64M", show_default=True, help="Largest request with recordings."
)
@click.option(
    "--idle-unload", type=Number(0, 86400), default=DEFAULT_IDLE_SECONDS, show_default=True,
    metavar="SEC",
    help="Free the models' memory after so many seconds without a song.",
)  # fmt: skip
@click.option(
    "--compat", multiple=True, type=click.Choice(["cog"]), help="Answer programs written for Replicate too."
)
@click.option(
    "--allow-webhook",
    multiple=True,
    metavar="HOST",
    help="Host of a private network that webhooks may go to.",
)
@cluster_options
@model_options
@compute_options
@pass_output
def serve(
    output: Console,
    /,
    host: str,
    port: int,
    key: str | None,
    prefix: str,
    allow_host: tuple[str, ...],
    trust_proxy: tuple[str, ...],
    songs: Path,
    parallel: int,
    max_queue: int,
    upload_limit: int,
    idle_unload: float,
    compat: tuple[str, ...],
    allow_webhook: tuple[str, ...],
    cluster: ClusterChoice | None,
    choice: ModelChoice,
    compute: ComputeOptions,
) -> None:
    """Serve songs over HTTP: a page in the browser, and the API below /v1.

    Songs wait in a queue in the folder of songs, which survives every restart; songs that `run` makes there
    appear too. An address other than loopback needs a key: one is made and stored in the folder, and the
    link that is shown holds it.

    \b
    yuegguf serve
    yuegguf serve --host 0.0.0.0 --songs /srv/songs --parallel 4
    """
    try:
        from yuegguf.models.resolve import resolve
        from yuegguf.server import access, serving
    except ModuleNotFoundError as error:
        raise RequestError(
            f"serving needs {error.name}, which is not installed",
            "install it with: pip install 'yuegguf[serve]'",
        ) from error
    resolve(choice)  # a name without a model is said now, not with the first song
    prefix, key = checked_prefix(prefix), checked_key(key)
    folder = songs.absolute()
    settings = Settings(
        folder,
        choice,
        compute,
        parallel=parallel,
        max_queue=max_queue,
        upload_limit=upload_limit,
        key=key or "",
        prefix=prefix,
        hosts=tuple(name.lower() for name in allow_host),
        compat=compat,
        webhook_hosts=tuple(name.strip("[]").lower() for name in allow_webhook),
        proxies=checked_proxies(trust_proxy),
        idle_unload=idle_unload,
    )
    with closing(serving.listening_socket(host, port)) as listening, stop_on_signals(output) as stop:
        if key is None and not access.is_loopback(host):
            with storage_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
            key = access.stored_key(folder / KEY_FILE)
            settings = replace(settings, key=key)
        address = f"http://{shown_host(host)}:{listening.getsockname()[1]}{prefix}/"
        secret = f"#key={key}" if key else ""

        def ready() -> None:
            output.result({"url": address, "songs": str(folder)}, [f"{address}{secret}"])
            output.say(f"songs in {folder}; Ctrl-C stops, and every song goes on at the next start")
            notify_service_manager("READY=1")

        if cluster is None:
            serving.serve(settings, listening, stop, ready)
            return
        from yuegguf.cli._cluster import cluster_worker

        start = cluster_worker(output, cluster, parallel, folder)
        serving.serve(replace(settings, parallel=MAX_PARALLEL), listening, stop, ready, start)


def checked_prefix(prefix: str) -> str:
    """The prefix with a slash before it and none behind it. Raises UsageError."""
    parts = [part for part in prefix.split("/") if part]
    if not all(part.replace("-", "").replace("_", "").isalnum() and part.isascii() for part in parts):
        raise click.UsageError(f"--prefix {prefix!r:.80} is no path such as /yue")
    return "".join(f"/{part}" for part in parts)


def checked_proxies(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Addresses of proxies. Raises UsageError."""
    found = []
    for text in texts:
        try:
            found.append(parse_network(text))
        except ValueError as error:
            raise click.UsageError(
                f"--trust-proxy {text!r:.80} is no address or network such as 10.0.0.0/8"
            ) from error
    return tuple(found)


def checked_key(key: str | None) -> str | None:
    """The key, if it can stand in a header and a link; an empty one would open the server to all.

    Raises UsageError.
    """
    if key is not None and not re.fullmatch(r"[A-Za-z0-9._~+/=-]{8,200}", key):
        raise click.UsageError("--key is 8 to 200 letters, digits and . _ ~ + / = -")
    return key


def shown_host(host: str) -> str:
    """The host of a link: IPv6 addresses in brackets, and this machine's name for all addresses."""
    if host in ("0.0.0.0", "::"):
        host = DEFAULT_HOST if host == "0.0.0.0" else "::1"
    return f"[{host}]" if ":" in host else host
