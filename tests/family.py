"""Tiny checkpoints in the published layout, and a hub that offers them under the published names."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hub import STALL, Hub
from huggingface_hub import constants

from nano import codec_weights, tokenizer
from nano.lm_weights import LlamaSpec, write_llama
from yuegguf import registry, store

LM = LlamaSpec(hidden=32, layers=1, heads=2, kv_heads=1, ffn=64, vocab=9900, context=16384)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write_family(folder: Path) -> Path:
    """`stage1/` (two shards), `stage2/` and `codec/`."""
    model = tokenizer.build_tokenizer()
    write_llama(folder / "stage1", LM, 1, model, shards=2)
    write_llama(folder / "stage2", replace(LM, context=8192), 2, model)
    codec_weights.write(folder / "codec")
    return folder


def publish(hub: Hub, family: Path, *ids: str) -> None:
    """Offer the family's members under the ids' names and at their revisions."""
    folders = {"stage1": "stage1", "stage2": "stage2", "codec": "codec"}
    for name in ids:
        entry = registry.entry_of(name)
        commit = entry.revision if len(entry.revision) == 40 else entry.revision.ljust(40, "0")
        hub.publish(entry.source, family / folders[entry.role], commit)
        hub.repos[entry.source].files["README.md"] = json.dumps({"about": entry.id}).encode()


def use(url: str, put: Callable[[object, str, object], None], chunk: int = 16384) -> None:
    """Let this process take `url` for the hub, in small pieces and without waiting between tries.

    `put(object, name, value)` sets an attribute.
    """
    known = without_known_hashes()
    put(registry, "_read", lambda: json.loads(json.dumps(known)))
    put(store, "CHUNK", chunk)
    put(time, "sleep", _no_waiting)
    put(constants, "ENDPOINT", url)
    put(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    put(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)


def _no_waiting(seconds: float, real: Callable[[float], None] = time.sleep) -> None:
    """The server's own pauses are real, the client's between tries are not."""
    if seconds < 1 or seconds == STALL:
        real(seconds)


def without_known_hashes() -> dict[str, object]:
    """models.toml but for the hashes of the real files, which tiny ones cannot have."""
    found = registry._read()
    for facts in found["model"].values():
        facts.pop("known", None)
    return found
