"""What this machine is: cores, memory, CPU features. Facts only; decisions are in `plan`."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import psutil

FEATURES = (
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "neon",
    "asimd",
)
"""CPU features that llama.cpp's kernels make use of."""


NICE = 10
"""The niceness of a program that gives way to others, of 19."""
CGROUP = Path("/sys/fs/cgroup")
"""Where a container sees its own limits (cgroup v2)."""


def is_mac() -> bool:
    """Whether this is macOS, where the GPU shares the machine's memory."""
    return platform.system() == "Darwin"


def physical_cores() -> int:
    """Cores this process may use, hyper-threads counted once; at least 1."""
    if not hasattr(os, "sched_getaffinity"):
        return psutil.cpu_count(logical=False) or os.cpu_count() or 1
    cores = {_siblings(cpu) for cpu in os.sched_getaffinity(0)}
    return max(1, min(len(cores), _quota() or len(cores)))


def available_memory(cgroup: Path = CGROUP) -> int | None:
    """Bytes that can be taken without swapping, the container's limit included; None if unknown."""
    free = _memory("available")
    limit, used = _number(cgroup / "memory.max"), _number(cgroup / "memory.current")
    if limit and used is not None:
        room = max(0, limit - max(0, used - _inactive_file(cgroup)))
        return min(free, room) if free else room
    return free


def total_memory() -> int | None:
    """Bytes of memory in this machine; None if unknown."""
    return _memory("total")


def on_battery() -> bool:
    """Whether it runs on its battery now; False where it has none or does not say."""
    found = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    return found is not None and found.power_plugged is False


def give_way() -> None:
    """Let every other program have the cores first; what this process starts from here on gives way too."""
    process = psutil.Process()
    with suppress(psutil.Error, OSError):
        if sys.platform == "win32":
            process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        else:
            process.nice(max(NICE, process.nice()))


def peak_memory() -> int | None:
    """Most bytes that this process held since `forget_peak`, mapped files included; None if unknown."""
    match = re.search(r"^VmHWM:\s+(\d+) kB$", _text("/proc/self/status"), re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def forget_peak() -> None:
    """Begin a new peak; where the system cannot, the old one stays."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def graphics() -> str | None:
    """What llama.cpp has to be built for to use this machine's GPU: cuda, metal, vulkan; None without one."""
    if is_mac():
        return "metal"
    if Path("/proc/driver/nvidia").is_dir() or shutil.which("nvidia-smi"):
        return "cuda"
    return "vulkan" if any(Path("/dev/dri").glob("renderD*")) else None


def cpu_name() -> str:
    """The processor's name."""
    match = re.search(r"^model name\s*:\s*(.+)$", _text("/proc/cpuinfo"), re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()


def cpu_features() -> list[str]:
    """The features of FEATURES that this processor has."""
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _text("/proc/cpuinfo"), re.MULTILINE)
    present = set(match[1].split()) if match else set()
    return [name for name in FEATURES if name in present]


def _siblings(cpu: int) -> str:
    text = _text(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").strip()
    return text or str(cpu)


def _quota() -> int | None:
    """CPUs that the container's quota allows, rounded up."""
    fields = _text(CGROUP / "cpu.max").split()
    if len(fields) == 2 and fields[0].isdigit() and fields[1].isdigit():
        return max(1, -(-int(fields[0]) // int(fields[1])))
    return None


def _inactive_file(cgroup: Path) -> int:
    """Bytes of page cache that the kernel drops before anything else, though they count as used."""
    match = re.search(r"^inactive_file (\d+)$", _text(cgroup / "memory.stat"), re.MULTILINE)
    return int(match[1]) if match else 0


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _memory(what: str) -> int | None:
    try:
        return int(getattr(psutil.virtual_memory(), what)) or None
    except (psutil.Error, OSError, ValueError):  # a sandbox without /proc
        return None


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
