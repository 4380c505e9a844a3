"""`rpc-server`: let songs of another process or machine have their layers here."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click

from yuegguf.cli._console import Console
from yuegguf.cli._options import pass_output, threads_option
from yuegguf.cli._signals import stop_on_signals
from yuegguf.errors import YueError
from yuegguf.planning import hardware
from yuegguf.planning.compute_options import MAX_PORT, check_rpc_server, check_threads, is_here

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 50052
CHECK_SECONDS = 0.2
"""Seconds between two checks whether the server has ended by itself."""


@click.command(name="rpc-server", short_help="layers of songs that another process or machine computes")
@click.option("--host", default=DEFAULT_HOST, show_default=True, help="IPv4 address to listen at.")
@click.option("--port", type=click.IntRange(1, MAX_PORT), default=DEFAULT_PORT, show_default=True)
@threads_option
@pass_output
def rpc_server(output: Console, /, host: str, port: int, threads: int | None) -> None:
    """Hold layers of songs that are computed elsewhere with --device rpc:HOST:PORT.

    Serves the GPUs of this machine, or else its CPU, to one program at a time, until Ctrl-C. Needs a
    llama.cpp built with RPC, of the same version at both ends. It has no key and no encryption, and who
    reaches it may crash it or worse: use it on loopback and in networks that you trust.

    \b
    yuegguf rpc-server
    yuegguf run --example --device rpc:127.0.0.1:50052
    """
    from yuegguf.lm.build import check_rpc_build

    endpoint = f"{host}:{port}"
    check_rpc_server(endpoint)
    check_threads(threads, hardware.physical_cores())
    check_rpc_build()
    if not is_here(endpoint):
        output.warn("whoever reaches this address can use this process; llama.cpp's RPC asks for no key")
    output.result({"device": f"rpc:{endpoint}"}, [f"rpc:{endpoint}"])
    with stop_on_signals(output) as stop:
        _serve(endpoint, threads or hardware.physical_cores(), stop)


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send what C writes to stdout, which is for results, to stderr: a line for each connection."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _serve(endpoint: str, threads: int, stop: threading.Event) -> None:
    """Serve until `stop`. Raises what serving raises."""
    from yuegguf.lm.build import serve_devices

    failures: list[YueError] = []

    def work() -> None:
        try:
            serve_devices(endpoint, threads)
        except YueError as error:
            failures.append(error)

    server = threading.Thread(target=work, daemon=True)
    with _stdout_to_stderr():
        server.start()
        while server.is_alive() and not stop.wait(CHECK_SECONDS):
            pass
    if failures:
        raise failures[0]
