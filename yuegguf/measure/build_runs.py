"""Build variants of llama.cpp into folders of the cache, and time them in turns in other processes."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path
from typing import IO, Any

from yuegguf.errors import EngineError, YueError
from yuegguf.files.atomic import storage_errors, workspace
from yuegguf.files.child import child_environment
from yuegguf.measure import builds
from yuegguf.measure.builds import INSTALLED, LeftOut, Variant
from yuegguf.planning import hardware

PACKAGE = "llama-cpp-python"
ROUNDS = 2


class _Failed(Exception):
    """A variant that cannot be built or timed."""

    def __init__(self, reason: str, log: Path | None = None) -> None:
        super().__init__(reason)
        self.reason, self.log = reason, log


@dataclass(frozen=True)
class Comparison:
    """A comparison of builds by the song's time of `yuegguf bench`."""

    version: str
    """Version of llama-cpp-python, the same for all."""
    folder: Path
    """Folder of the builds that are kept."""
    words: tuple[str, ...]
    """Command line of the benchmark, from "bench" on or from the options of the program before it."""
    say: Callable[[str], object]
    recipe: str = ""
    """Text of the files that the flags include."""
    rounds: int = ROUNDS
    python: str = field(default_factory=lambda: sys.executable)

    def run(self, variants: Sequence[Variant]) -> dict[str, Any]:
        """Build what is missing and time all in turns → a JSON object. Raises YueError.

        A variant that fails is left out; without the installed build there is nothing to compare with.
        """
        left_out: list[LeftOut] = []
        places: dict[Variant, Path | None] = {Variant(INSTALLED): None}
        for i, variant in enumerate(variants, 1):
            try:
                places[variant] = self._built(variant, f"{i} of {len(variants)}")
            except _Failed as failure:
                left_out.append(self._leave_out(variant, failure))
        times = self._times(places, left_out)
        return self._report(times, places, left_out)

    def _leave_out(self, variant: Variant, failure: _Failed) -> LeftOut:
        log = f" (log: {failure.log})" if failure.log else ""
        self.say(f"{variant.name} is left out: {failure.reason}{log}")
        return LeftOut(variant, failure.reason, failure.log)

    def _built(self, variant: Variant, place: str) -> Path:
        """Folder of a whole build, made now unless it is there. Raises _Failed, YueError."""
        cpu = f"{hardware.cpu_name()} {hardware.cpu_features()}"
        key = variant.key(self.version, cpu, self.recipe)
        final, log = self.folder / key, self.folder / f"{key}.log"
        if final.is_dir():
            self.say(f"{variant.name} was built before: {final}")
            return final
        if util.find_spec("pip") is None:
            raise YueError("this Python has no pip to build with", "get it with: python -m ensurepip")
        self.say(f"building {variant.name}, {place}, which takes some minutes ({variant.flags})")
        with storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with workspace(self.folder) as scratch:
                made = scratch / "build"
                self._install(variant, made, log)
                if not final.is_dir():  # another process may have built the same meanwhile
                    made.rename(final)
        return final

    def _install(self, variant: Variant, target: Path, log: Path) -> None:
        command = [self.python, "-P", "-m", "pip", "install", "--no-deps", "--no-cache-dir"]
        command += ["--no-binary", PACKAGE, "--target", str(target), f"{PACKAGE}=={self.version}"]
        with log.open("wb") as file:
            code = _run(command, {**os.environ, "CMAKE_ARGS": variant.flags}, file, file)
        if code or not (target / "llama_cpp").is_dir():
            text = log.read_text("utf-8", errors="replace")
            if fault := builds.fatal_fault(text, log):
                raise fault
            raise _Failed(f"the build failed: {builds.log_reason(text)}", log)

    def _times(
        self, places: Mapping[Variant, Path | None], left_out: list[LeftOut]
    ) -> dict[Variant, list[float]]:
        """Song's seconds of each variant, round by round, without those that fail."""
        times: dict[Variant, list[float]] = {variant: [] for variant in places}
        fixed: list[str] = []  # free memory may change between two runs, and would decide on the rows
        for i in range(self.rounds):
            for variant in list(times):
                self.say(f"measuring {variant.name}, round {i + 1} of {self.rounds}")
                try:
                    report = self._timed(places[variant], fixed)
                    times[variant].append(sum(float(stage["song_seconds"]) for stage in report["stages"]))
                    fixed = fixed or ["--stage2-batch", str(report["plan"]["stage2_rows"])]
                except _Failed as failure:
                    if variant.name == INSTALLED:
                        hint = "see: yuegguf doctor"
                        raise EngineError(f"the installed build fails: {failure.reason}", hint) from failure
                    del times[variant]
                    left_out.append(self._leave_out(variant, failure))
        return times

    def _timed(self, place: Path | None, fixed: Sequence[str]) -> dict[str, Any]:
        """Report of the benchmark with a build; `fixed` are more options. Raises _Failed, YueError."""
        environment = child_environment(*([place] if place else []))
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            code = _run([self.python, "-P", "-m", "yuegguf", *self.words, *fixed], environment, out, err)
            out.seek(0)
            err.seek(0)
            report, said = _object(out.read()), err.read().decode(errors="replace")
        if code and "error" in report and place is None:
            error = YueError(str(report["error"]["message"]), str(report["error"]["hint"]))
            error.exit_code = code
            raise error
        if code or "stages" not in report:
            reason = f"signal {-code} ended it" if code < 0 else builds.log_reason(said)
            raise _Failed(f"the benchmark failed: {reason}")
        if place and not Path(report["llama_cpp"]["folder"]).resolve().is_relative_to(place.resolve()):
            raise _Failed(f"another llama.cpp than {place} was loaded")
        return report

    def _report(
        self,
        times: Mapping[Variant, Sequence[float]],
        places: Mapping[Variant, Path | None],
        left_out: Sequence[LeftOut],
    ) -> dict[str, Any]:
        base = times[Variant(INSTALLED)]
        best = builds.recommended({variant.name: own for variant, own in times.items()})
        flags = next((variant.flags for variant in times if variant.name == best), "")
        return {
            "version": self.version,
            "cpu": hardware.cpu_name(),
            "load": hardware.runnable_processes(),
            "variants": [
                {
                    "name": variant.name,
                    "flags": variant.flags,
                    "folder": str(places[variant] or ""),
                    "rounds": [round(seconds, 2) for seconds in own],
                    "song_seconds": statistics.median(own),
                    "ratios": [round(ratio, 4) for ratio in builds.ratios(own, base)],
                    "ratio": statistics.median(builds.ratios(own, base)),
                }
                for variant, own in times.items()
            ],
            "left_out": [
                {"name": out.variant.name, "reason": out.reason, "log": str(out.log or "")}
                for out in left_out
            ],
            "recommended": best,
            "cmake_args": flags,
            "command": builds.installing(flags, self.version) if best else "",
        }


def _run(command: Sequence[str], environment: Mapping[str, str], out: IO[bytes], err: IO[bytes]) -> int:
    """Run a command to its end; whatever ends this one ends the compilers that it started, too."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, start_new_session=True
    )
    try:
        return process.wait()
    except BaseException:
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
