"""Tiny checkpoints in the published layout, and a hub that offers them under the published names."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hub import Hub
from huggingface_hub import constants

from nano import codec_weights, tokenizer
from nano.lm_weights import LlamaSpec, write_llama
from yuegguf.models import registry, transport

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
        entry = registry.find_entry(name)
        commit = entry.revision if len(entry.revision) == 40 else entry.revision.ljust(40, "0")
        hub.publish(entry.source, family / folders[entry.role], commit)
        hub.repos[entry.source].files["README.md"] = json.dumps({"about": entry.id}).encode()


def use(url: str, put: Callable[[object, str, object], None]) -> None:
    """Let this process take `url` for the hub, without waiting between attempts.

    `put(object, name, value)` sets an attribute.
    """
    known = without_known_hashes()
    put(registry, "catalogue", lambda: known)
    put(
        transport,
        "RETRY_LIMITS",
        transport.RetryLimits(fruitless_attempts=3, questions=2, sleep=lambda _seconds: None),
    )
    put(constants, "ENDPOINT", url)
    put(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    put(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)


def without_known_hashes() -> registry.Catalogue:
    """models.toml but for the hashes of the real files, which tiny ones cannot have."""
    found = registry.catalogue()
    return replace(
        found, model={name: replace(facts, expected_files={}) for name, facts in found.model.items()}
    )
