"""Try llama.cpp's kernels for AMX in a process of their own, which they may end, or miscompute in.

Some compilers lose stores before the instructions that load a tile: `cmake/gcc_amx.h`.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yuegguf.files.child import child_environment, module_command

ROWS, IDS = 4, 8
"""Sequences and ids of each in a trial's batch: more rows than the kernels for one row take."""
MOST_ERROR = 0.05
"""Most difference of the logits with and without AMX, as a share of their size."""
TRIAL_SECONDS = 60.0
FAILED = 3
"""Exit code for logits that differ; 1 is Python's own, for any error."""
CRASHES = tuple(getattr(signal, name, None) for name in ("SIGSEGV", "SIGILL", "SIGBUS", "SIGABRT", "SIGFPE"))
"""Signals by which wrong kernels end a process."""
MOST_EXIT_CODE = 255
"""Maximum exit code that a program gives itself; Windows has larger ones for processes that crashed."""


def uses_amx(system: str) -> bool:
    """Whether a build of llama.cpp, by its own list of features, computes with AMX."""
    return "AMX_INT8 = 1" in system


def amx_works(model: Path) -> bool | None:
    """Whether a model has nearly the same logits with and without AMX, and the process does not crash.

    None where the trial could not be finished, which says nothing of the kernels.
    """
    try:
        done = subprocess.run(
            module_command(__name__, str(model)),
            capture_output=True,
            env=child_environment(),
            timeout=TRIAL_SECONDS,
            check=False,
            start_new_session=True,  # a terminal sends Ctrl-C to all processes of its session
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return _meaning(done.returncode)


def _meaning(code: int) -> bool | None:
    """Whether the kernels work, by the exit code of a trial; None = unknown."""
    if code == 0:
        return True
    broken = code == FAILED or -code in CRASHES or code > MOST_EXIT_CODE
    return False if broken else None


def _logits(model: Path, repack: bool) -> NDArray[np.float32]:
    from yuegguf.lm.llama import EngineOptions, LlamaEngine
    from yuegguf.lm.protocol import SequenceInput

    options = EngineOptions(IDS, ROWS, threads=2, outputs=1, repack=repack)
    with closing(LlamaEngine(model, options)) as engine:
        inputs = [SequenceInput(row, [row * IDS + i + 1 for i in range(IDS)], 1) for row in range(ROWS)]
        return engine.decode(inputs).copy()


def main(model: Path) -> int:
    """Exit code: 0 where both ways agree."""
    with suppress(ImportError):  # Windows has no such module, and writes no core files
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    plain, fast = _logits(model, repack=False), _logits(model, repack=True)
    return 0 if float(np.abs(fast - plain).max()) <= MOST_ERROR * float(np.abs(plain).max()) else FAILED


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
