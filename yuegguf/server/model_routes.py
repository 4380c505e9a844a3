"""Routes about the server itself: health, defaults and limits, models, metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from yuegguf import __version__
from yuegguf.files.atomic import free_disk
from yuegguf.models.inventory import model_row
from yuegguf.models.lockfile import read_lock
from yuegguf.models.registry import NANO, installed_codec, installed_quants, model_entries
from yuegguf.planning import hardware
from yuegguf.request.ranges import MAX_SECONDS, MAX_SECTION_SECONDS, MOST_TAKES
from yuegguf.request.song_request import FORMATS, MAX_GENRE_CHARS, MIX_MODES
from yuegguf.request.tags import tags_by_kind
from yuegguf.server.requests import TheService
from yuegguf.server.service import Service
from yuegguf.server.settings import MAX_FILES, MAX_JSON_BODY
from yuegguf.server.song_input import RECORDINGS, defaults
from yuegguf.song.voices import voice_names

router = APIRouter()
MODEL_FACTS = ("id", "role", "language", "mode", "source", "licence", "about", "licences", "problems")
"""Facts of a model that clients see."""


@router.get("/health")
def health(service: TheService, response: Response) -> dict[str, Any]:
    """Say whether the server works, without a key: 503 where one of its queues stands still."""
    works = service.queues.work
    response.status_code = 200 if works else 503
    worker = "busy" if service.queues.busy else "idle"
    counts = service.counts()
    return {
        "status": "ok" if works else "failing",
        "version": __version__,
        "worker": worker,
        "processing": counts.get("processing", 0),
        "queue": counts.get("queued", 0),
    }


@router.get("/v1/props")
def props(service: TheService) -> dict[str, Any]:
    """Give defaults and limits: the page's only source of them."""
    settings = service.settings
    return {
        "version": __version__,
        "defaults": defaults(),
        "limits": {
            "upload_bytes": settings.upload_limit,
            "json_bytes": MAX_JSON_BODY,
            "files": MAX_FILES,
            "queue": settings.max_queue,
            "parallel": settings.parallel,
            "candidates": MOST_TAKES,
            "genre_chars": MAX_GENRE_CHARS,
            "reference_seconds": MAX_SECONDS,
            "section_seconds": MAX_SECTION_SECONDS,
        },
        "formats": list(FORMATS),
        "mixes": list(MIX_MODES),
        "recordings": list(RECORDINGS),
        "tags": tags_by_kind(),
        "voices": voice_names(),
        "key_needed": bool(settings.key),
        "machine": {
            "cores": hardware.physical_cores(),
            "cpu": hardware.cpu_name(),
            "memory_free": hardware.available_memory(),
            "memory": hardware.total_memory(),
            "disk_free": free_disk(settings.songs),
        },
    }


@router.get("/v1/models")
def models(service: TheService) -> dict[str, Any]:
    """List the models that are installed, and those that can be."""
    root = service.settings.choice.root
    lock = read_lock(root)
    found: list[dict[str, Any]] = [{"id": NANO, "object": "model", "installed": True, "types": []}]
    for entry in model_entries():
        types = installed_quants(entry.id, root)
        there = bool(types) or (entry.role == "codec" and installed_codec(root) is not None)
        row = model_row(entry, root, lock)
        facts = {"object": "model", **{name: row[name] for name in MODEL_FACTS}}
        sizes = [{"type": name, "bytes": path.stat().st_size} for name, path in types.items()]
        found.append({**facts, "installed": there, "types": sizes})
    return {"object": "list", "data": found}


@router.get("/metrics")
def metrics(service: TheService) -> PlainTextResponse:
    """Give figures in the format of Prometheus."""
    lines = ["# TYPE yuegguf_songs gauge"]
    lines += [
        f'yuegguf_songs{{state="{state}"}} {count}' for state, count in sorted(service.counts().items())
    ]
    lines += ["# TYPE yuegguf_resident_bytes gauge"]
    lines += [f'yuegguf_resident_bytes{{process="{name}"}} {size}' for name, size in _memory(service)]
    return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")


def _memory(service: Service) -> list[tuple[str, int]]:
    sizes = {"server": hardware.resident_memory()}
    for queue, pid in service.queues.worker_pids.items():
        name = "worker" if queue == "songs" else f"worker of {queue}"
        sizes[name] = None if pid is None else hardware.resident_memory(pid)
    return [(name, size) for name, size in sizes.items() if size is not None]
