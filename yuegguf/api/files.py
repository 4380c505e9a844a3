"""Files without generation: models, codes, songs of other tools."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from yuegguf.models import install, registry
from yuegguf.models import pull as pulling
from yuegguf.models.pull import PulledFile, PullOptions
from yuegguf.pipeline.engines import stopping
from yuegguf.planning import hardware
from yuegguf.progress import Progress, silent


def pull(
    names: Sequence[str] = (),
    models_dir: Path | str | None = None,
    options: PullOptions | None = None,
    *,
    set_name: str | None = None,
    quant: str | None = None,
    kit: Path | str | None = None,
    progress: Progress = silent,
    stop: threading.Event | None = None,
) -> tuple[PulledFile, ...]:
    """Download models by name ("en-cot", "en-cot:Q4_K_M"), convert them and install them in `models_dir`.

    `set_name` adds the models of a set; `quant` is the type of a stage-1 model that is named without one,
    None = what fits this machine's memory. With `kit` they are put into that folder instead, an offline kit
    for `install_kit`. Killed or stopped at any moment, the same call goes on. Raises YueError.
    """
    root = Path(models_dir or registry.models_dir())
    wanted = install.wanted_models(names, set_name, quant, hardware.available_memory())
    report = stopping(progress, stop)
    return pulling.pull_models(Path(kit or root), wanted, options or PullOptions(), report, root)


def install_kit(
    kit: Path | str,
    names: Sequence[str] = (),
    models_dir: Path | str | None = None,
    *,
    set_name: str | None = None,
    progress: Progress = silent,
    stop: threading.Event | None = None,
) -> tuple[PulledFile, ...]:
    """Install models from an offline kit, without a network: those named and of the set, or all of it.

    Raises YueError.
    """
    root = Path(models_dir or registry.models_dir())
    return pulling.install_kit(root, Path(kit), names, set_name, stopping(progress, stop))
