"""Builds of llama.cpp to compare: flags, keys, and the decision. Nothing here starts a process."""

from __future__ import annotations

import hashlib
import re
import shlex
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from yuegguf.errors import DownloadError, RequestError, YueError

INSTALLED = "installed"
NATIVE = "-DGGML_NATIVE=ON"
NO_OPENMP = "-DGGML_OPENMP=OFF"
OPENBLAS = "-DGGML_BLAS=ON -DGGML_BLAS_VENDOR=OpenBLAS"
KLEIDIAI = "-DGGML_CPU_KLEIDIAI=ON"
ARM = ("aarch64", "arm64")
"""Names of 64-bit Arm among those of `platform.machine`, in small letters."""
HEADER_FOLDERS = (
    Path("/usr/include"),
    Path("/usr/local/include"),
    Path("/opt/homebrew/opt/openblas/include"),
)
MIN_GAIN = 0.05
"""Least share of a song's time that a recommended build saves in every round."""
NO_INDEX = re.compile(r"No matching distribution found|Could not find a version that satisfies")
NO_COMPILER = re.compile(
    r"No CMAKE_C(XX)?_COMPILER could be found|CMAKE_C(XX)?_COMPILER:|CMAKE_C(XX)?_COMPILER not set"
    r"|not able to compile a simple test program|unable to find a build program|Could not find CMake"
)
FAULT = re.compile(r"\berror:|^CMake Error")
"""Line of a log that names a fault; pip's own, in capitals, only say that there was one."""


@dataclass(frozen=True)
class Variant:
    """A build of llama.cpp."""

    name: str
    flags: str = ""
    """Value of CMAKE_ARGS; empty for the installed build, which is taken as it is."""

    def key(self, version: str, cpu: str, recipe: str) -> str:
        """Name of its folder in the cache; `recipe` is the text of the files that its flags include."""
        return hashlib.sha256(repr((version, self.flags, cpu, recipe)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class LeftOut:
    """A variant that could not be built or timed."""

    variant: Variant
    reason: str
    log: Path | None = None


def lean_flags(checkout: Path) -> tuple[str, str]:
    """Flags of the Makefile that leave out what is never loaded, and the text of the files that they include.

    Both are empty outside of a checkout.
    """
    file = checkout / "cmake" / "llama.cmake"
    if not file.is_file():
        return "", ""
    texts = [part.read_text("utf-8") for part in sorted(file.parent.iterdir()) if part.is_file()]
    return f"-DLLAVA_BUILD=OFF -DCMAKE_PROJECT_llama.cpp_INCLUDE={file}", "".join(texts)


def has_openblas(folders: Iterable[Path] = HEADER_FOLDERS) -> bool:
    """Whether OpenBLAS's headers lie in a folder, or at most two below it."""
    patterns = ("openblas_config*.h", "*/openblas_config*.h", "*/*/openblas_config*.h")
    return any(next(folder.glob(pattern), None) for folder in folders for pattern in patterns)


def variants_to_build(
    lean: str, more: Sequence[str], *, openblas: bool = False, machine: str = ""
) -> tuple[Variant, ...]:
    """The variants beside the installed one; `more` has flags of the user. Raises RequestError.

    `machine` is that of `platform.machine`: llama.cpp takes KleidiAI on 64-bit Arm alone.
    """
    own = [("plain", ""), ("without OpenMP", NO_OPENMP)]
    own += [("OpenBLAS", OPENBLAS)] * openblas
    own += [("KleidiAI", KLEIDIAI)] * (machine.lower() in ARM)
    own += [(flags, flags) for flags in dict.fromkeys(map(_checked_flags, more))]
    return tuple(Variant(name, " ".join(filter(None, (lean, NATIVE, flags)))) for name, flags in own)


def _checked_flags(text: str) -> str:
    try:
        words = shlex.split(text)
    except ValueError:
        words = []
    if not words or not all(re.match(r"-D\w", word) for word in words):
        raise RequestError(f"{text[:80]!r} are no flags of CMake", 'write: --build-flags "-DGGML_LTO=ON"')
    return " ".join(text.split())


def ratios(times: Sequence[float], installed: Sequence[float]) -> list[float]:
    """Time of a variant over that of the installed build, round by round."""
    return [time / other for time, other in zip(times, installed, strict=True)]


def recommended(times: Mapping[str, Sequence[float]]) -> str | None:
    """The variant with the shortest median of those that save MIN_GAIN in every round; None = the installed.

    `times` has the song's seconds of each variant, round by round.
    """
    base = times[INSTALLED]
    faster = [
        name for name, own in times.items() if name != INSTALLED and max(ratios(own, base)) <= 1 - MIN_GAIN
    ]
    return min(faster, key=lambda name: statistics.median(times[name]), default=None)


def log_reason(log: str) -> str:
    """The last line of a build's log that names a fault, else its last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    faults = [line for line in lines if FAULT.search(line)]
    return (faults or lines or ["no output"])[-1][:200]


def fatal_fault(log: str, path: Path) -> YueError | None:
    """The error of a build that no other flags would prevent, or None."""
    if NO_COMPILER.search(log):
        return YueError(
            f"llama.cpp cannot be built without a C++ compiler and CMake (log: {path})",
            "install them, for example: apt install build-essential cmake",
        )
    if NO_INDEX.search(log):
        return DownloadError(
            f"pip did not get llama-cpp-python or what builds it from its package index (log: {path})",
            "check the network or pip's settings, and run the command again",
        )
    return None


def installing(flags: str, version: str) -> str:
    """The command that installs a build in place of the installed one."""
    return (
        f"CMAKE_ARGS={shlex.quote(flags)} pip install --force-reinstall --no-deps --no-cache-dir "
        f"--no-binary llama-cpp-python llama-cpp-python=={version}"
    )
