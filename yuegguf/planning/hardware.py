"""Facts of this machine: cores, memory, CPU features. Decisions are in `plan`."""

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
"""CPU features that llama.cpp's kernels use."""
BUILD_FEATURES = {
    "AVX": "avx",
    "AVX2": "avx2",
    "FMA": "fma",
    "F16C": "f16c",
    "AVX512": "avx512f",
    "AVX512_VNNI": "avx512_vnni",
    "AVX512_BF16": "avx512_bf16",
    "AMX_INT8": "amx_int8",
}
"""llama.cpp's name of a feature → the kernel's name of it (/proc/cpuinfo)."""
NICE = 10
"""Niceness of a process that gives way to others, 0 … 19."""
CGROUP = Path("/sys/fs/cgroup")
"""Folder of the cgroups' limits: version 2 in the folder itself, version 1 in a folder per resource."""
PROCESS_CGROUPS = Path("/proc/self/cgroup")
"""File with the cgroups of this process. A container sees its own cgroup as the root."""


def is_mac() -> bool:
    """Whether this is macOS, where the GPU shares the machine's memory."""
    return platform.system() == "Darwin"


def physical_cores(cgroup: Path = CGROUP, groups: Path = PROCESS_CGROUPS) -> int:
    """Cores this process may use, hyper-threads counted once, within the quotas of cgroups; at least 1."""
    if not hasattr(os, "sched_getaffinity"):
        return psutil.cpu_count(logical=False) or os.cpu_count() or 1
    cores = {_siblings(cpu) for cpu in os.sched_getaffinity(0)}
    quotas = [_quota(folder) for folder in _limiting_groups("cpu", cgroup, groups)]
    return min([len(cores), *(quota for quota in quotas if quota is not None)])


def available_memory(cgroup: Path = CGROUP, groups: Path = PROCESS_CGROUPS) -> int | None:
    """Bytes available without swapping, within the limits of cgroups; None = unknown."""
    rooms = [_memory("available"), *(_room(folder) for folder in _limiting_groups("memory", cgroup, groups))]
    return min((room for room in rooms if room is not None), default=None)


def total_memory() -> int | None:
    """Bytes of memory in this machine; None = unknown."""
    return _memory("total")


def on_battery() -> bool:
    """Whether the machine runs on battery; False if it has none or its state is unknown."""
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    return battery is not None and battery.power_plugged is False


def runnable_processes() -> float:
    """Processes that want a core, averaged over a minute; 0 where the system does not say."""
    with suppress(OSError, AttributeError):
        return float(psutil.getloadavg()[0])
    return 0.0


def give_way() -> None:
    """Lower the priority of this process, and so of the processes that it starts from now on."""
    process = psutil.Process()
    with suppress(psutil.Error, OSError):
        if sys.platform == "win32":
            process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        else:
            process.nice(max(NICE, process.nice()))


def peak_memory() -> int | None:
    """Peak resident bytes of this process since `forget_peak`, mapped files included; None = unknown."""
    match = re.search(r"^VmHWM:\s+(\d+) kB$", _text("/proc/self/status"), re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def resident_memory(process: int | None = None) -> int | None:
    """Resident bytes of a process by its id, or of this one; None where it is gone."""
    try:
        return int(psutil.Process(process).memory_info().rss)
    except psutil.Error:
        return None


def forget_peak() -> None:
    """Reset the peak of `peak_memory`, if the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def graphics() -> str | None:
    """Backend of llama.cpp for this machine's GPU: cuda, metal or vulkan; None without a GPU."""
    if is_mac():
        return "metal"
    if Path("/proc/driver/nvidia").is_dir() or shutil.which("nvidia-smi"):
        return "cuda"
    return "vulkan" if any(Path("/dev/dri").glob("renderD*")) else None


def cpu_name() -> str:
    """Name of the processor."""
    match = re.search(r"^model name\s*:\s*(.+)$", _text("/proc/cpuinfo"), re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()


def cpu_features() -> list[str]:
    """Features among FEATURES that this processor has."""
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _text("/proc/cpuinfo"), re.MULTILINE)
    present = set(match[1].split()) if match else set()
    return [name for name in FEATURES if name in present]


def missing_features(system: str) -> list[str]:
    """CPU features that a build of llama.cpp uses and this processor lacks, so that its kernels crash.

    `system` is llama.cpp's own list, such as "AVX2 = 1 | AVX512 = 1". Empty where the processor does not say
    what it has.
    """
    present = set(cpu_features())
    if not present:
        return []
    used = re.findall(r"\b([A-Z0-9_]+) = 1\b", system)
    return [name for name in used if BUILD_FEATURES.get(name, "") not in {"", *present}]


def _siblings(cpu: int) -> str:
    text = _text(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").strip()
    return text or str(cpu)


def _quota(group: Path) -> int | None:
    """Whole CPUs within a cgroup's quota, at least 1; None without one.

    A quota of 1.5 CPUs is 1: two threads would both be stopped for a quarter of the time.
    """
    fields = _text(group / "cpu.max").split() or [
        _text(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
    ]
    if len(fields) == 2 and all(field.isdigit() and int(field) for field in fields):
        return max(1, int(fields[0]) // int(fields[1]))
    return None


def _limiting_groups(resource: str, cgroup: Path, groups: Path) -> list[Path]:
    """Folders of the cgroups that limit a resource of this process: its own and their parents."""
    folders = {cgroup, cgroup / resource}
    for line in _text(groups).splitlines():
        _, kinds, path = (*line.split(":", 2), "", "")[:3]
        if kinds == "" or resource in kinds.split(","):
            root = cgroup / resource if kinds else cgroup
            own = root / path.lstrip("/")
            folders |= {folder for folder in (own, *own.parents) if folder.is_relative_to(root)}
    return sorted(folders)


def _room(group: Path) -> int | None:
    """Bytes left to a cgroup; None without a limit."""
    for limits, usage, cache in (
        (("memory.max", "memory.high"), "memory.current", "inactive_file"),
        (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
    ):
        # above memory.high the kernel slows the processes down until they hardly run
        most = min(filter(None, (_number(group / limit) for limit in limits)), default=None)
        used = _number(group / usage)
        if most and used is not None:
            # page cache counts as used, though the kernel drops it before anything else
            match = re.search(rf"^{cache} (\d+)$", _text(group / "memory.stat"), re.MULTILINE)
            return max(0, most - max(0, used - (int(match[1]) if match else 0)))
    return None


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _memory(quantity: str) -> int | None:
    try:
        return int(getattr(psutil.virtual_memory(), quantity)) or None
    except (psutil.Error, OSError, ValueError):  # a sandbox without /proc
        return None


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
