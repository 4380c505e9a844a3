"""Processes of measurements, and the device memory that is in use meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from types import TracebackType
from typing import Any

from benchmarks.gpu.schedule import Job, Outcome
from benchmarks.gpu.setting import Setting
from yuegguf.planning import hardware

LOOK_SECONDS = 0.5
QUERY = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]


def run_job(job: Job, setting: Setting, seconds: float) -> Outcome:
    """Run a measurement in a process of its own, for at most so many seconds."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--work", job.work, "--model", setting.model]
    command += ["--device", setting.device, "--folder", str(setting.folder), "--type", setting.kind]
    begun, environment = time.monotonic(), {**os.environ, **job.environment}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as talk, DeviceMemory() as memory:
        child = subprocess.Popen(command, stdout=out, stderr=talk, env=environment, start_new_session=True)
        try:
            code = child.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)  # vLLM has processes of its own
            child.wait()
            passed = time.monotonic() - begun
            return Outcome(job.name, job.title, passed, left_out=f"ended after {passed:.0f} s")
        passed = time.monotonic() - begun
        lines = [_lines(file) for file in (out, talk)]
    if code or not lines[0]:
        reason = lines[1][-1] if lines[1] else f"exit code {code}"
        return Outcome(job.name, job.title, passed, left_out=reason)
    facts: dict[str, Any] = json.loads(lines[0][-1])
    return Outcome(job.name, job.title, passed, gpu_peak=memory.peak, **facts)


def child_work(name: str, setting: Setting) -> int:
    """Measure in this process; prints a JSON object as its last line."""
    from benchmarks.gpu.work import WORK

    try:
        table = WORK[name](setting)
    except ImportError as error:
        print(f"{error.name or error} is not installed", file=sys.stderr)
        return 1
    print(json.dumps({**asdict(table), "peak": hardware.peak_memory()}), flush=True)
    return 0


def _lines(file: Any) -> list[str]:
    file.seek(0)
    return [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]


class DeviceMemory:
    """The most device memory in use while it is open, beside what was in use before."""

    def __init__(self) -> None:
        self.peak: int | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> DeviceMemory:
        self._before = used_device_memory()
        if self._before is not None:
            self._thread.start()
        return self

    def _look(self) -> None:
        while not self._done.wait(LOOK_SECONDS):
            now = used_device_memory()
            if now is not None and self._before is not None:
                self.peak = max(self.peak or 0, now - self._before)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._before is not None:
            self._thread.join()


def used_device_memory() -> int | None:
    """Bytes in use on all NVIDIA GPUs; None where their tool is missing."""
    try:
        found = subprocess.run(QUERY, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return sum(int(line) for line in found.split() if line.isdigit()) * 2**20 or None
