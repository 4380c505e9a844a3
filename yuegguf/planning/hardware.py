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
"""Where groups of processes have their limits: version 2 in this folder, version 1 in one per resource."""
GROUPS = Path("/proc/self/cgroup")
"""The groups that this process is in. A container is at the root of what it sees."""


def is_mac() -> bool:
    """Whether this is macOS, where the GPU shares the machine's memory."""
    return platform.system() == "Darwin"


def physical_cores() -> int:
    """Cores this process may use, hyper-threads counted once; at least 1."""
    if not hasattr(os, "sched_getaffinity"):
        return psutil.cpu_count(logical=False) or os.cpu_count() or 1
    cores = {_siblings(cpu) for cpu in os.sched_getaffinity(0)}
    return max(1, min(len(cores), _quota() or len(cores)))


def available_memory(cgroup: Path = CGROUP, groups: Path = GROUPS) -> int | None:
    """Bytes that can be taken without swapping, within the limits of cgroups; None if unknown."""
    found = [_memory("available"), *(_room(folder) for folder in _memory_groups(cgroup, groups))]
    return min((room for room in found if room is not None), default=None)


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


def _memory_groups(cgroup: Path, groups: Path) -> list[Path]:
    """Folders of the groups whose limits hold for this process's memory: its own, and those above."""
    found = {cgroup, cgroup / "memory"}
    for line in _text(groups).splitlines():
        _, kinds, path = (*line.split(":", 2), "", "")[:3]
        if kinds == "" or "memory" in kinds.split(","):
            root = cgroup / "memory" if kinds else cgroup
            own = root / path.lstrip("/")
            found |= {folder for folder in (own, *own.parents) if folder.is_relative_to(root)}
    return sorted(found)


def _room(group: Path) -> int | None:
    """Bytes that are left to a group of processes; None where it has no limit."""
    for limit, usage, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, used = _number(group / limit), _number(group / usage)
        if most and used is not None:
            # page cache counts as used, though the kernel drops it before anything else
            match = re.search(rf"^{cache} (\d+)$", _text(group / "memory.stat"), re.MULTILINE)
            return max(0, most - max(0, used - (int(match[1]) if match else 0)))
    return None


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
